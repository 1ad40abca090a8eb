use super::*;
use proptest::prelude::*;

fn entry(text: &str) -> Entry {
    let until = Timestamp::from_ms(1_800_000_000_000).unwrap();
    Entry { value: Observable::recognise(text).unwrap(), below: false, until, watched: false }
}

fn sheet() -> Sheet<'static> {
    Sheet { name: "desk-one", serial: 1_790_000_000, now: Timestamp::from_ms(1_799_999_000_000).unwrap(), blocks: true, sid: 9_000_000 }
}

/// The file with this ending, without the lines that begin it.
fn check(tool: Tool, entries: &[Entry], ending: &str, expected: &str) {
    let written = tool.write(entries, &sheet());
    written.reads_back(tool).unwrap();
    let file = written.files.iter().find(|file| file.ending == ending).unwrap_or_else(|| panic!("{:?}", written.files));
    let text: Vec<&str> = file.text.lines().filter(|line| !line.starts_with(['#', ';', '$', '@'])).collect();
    assert_eq!(text.join("\n"), expected, "{tool:?}");
}

#[test]
fn each_tool_is_written_to_in_its_own_words() {
    let name = Entry { below: true, ..entry("c2.example") };
    let entries = [
        entry("192.0.2.7"),
        entry("2001:db8::7"),
        entry("198.51.100.0/24"),
        name,
        entry("192.0.2.7:443"),
        entry("http://drop.example/x"),
        entry("d41d8cd98f00b204e9800998ecf8427e"),
        Entry { watched: true, ..entry("seen.example") },
    ];
    check(
        Tool::Rpz,
        &entries,
        ".zone",
        "32.7.2.0.192.rpz-ip CNAME .\n128.7.zz.db8.2001.rpz-ip CNAME .\n24.0.100.51.198.rpz-ip CNAME .\nc2.example CNAME .\n*.c2.example CNAME .",
    );
    check(Tool::Rpz, &entries, "-watch.zone", "seen.example CNAME rpz-passthru.");
    check(Tool::Hosts, &entries, ".hosts", "0.0.0.0 c2.example");
    check(Tool::Suricata, &entries, "-domain.lst", "YzIuZXhhbXBsZQ==");
    check(Tool::Suricata, &entries, "-md5.lst", "d41d8cd98f00b204e9800998ecf8427e");
    check(Tool::Zeek, &entries[5..6], ".intel", "drop.example/x\tIntel::URL\thuecry:desk-one\tuntil 2027-01-15T08:00:00Z");
    let nft = Tool::Nftables.write(&entries, &sheet());
    nft.reads_back(Tool::Nftables).unwrap();
    assert!(
        nft.files[0].text.contains("add element inet huecry desk_one_port4 {\n    192.0.2.7 . 443 timeout 1000s,\n}"),
        "{}",
        nft.files[0].text
    );
    let rules = Tool::Suricata.write(&entries, &sheet());
    let rules = &rules.files.iter().find(|file| file.ending == ".rules").unwrap().text;
    assert!(rules.contains("drop dns any any -> any any (msg:\"huecry desk-one: a domain in dns is known\"; dns.query;"), "{rules}");
    assert!(rules.contains("alert dns") && rules.contains("desk-one-watch-domain.lst"), "what is watched is never dropped: {rules}");
}

#[test]
fn the_zones_names_for_ipv6_addresses_are_read_back_whatever_their_zeros() {
    for text in
        ["2001:db8::1", "::1:0:0:0:1", "2001:db8:0:1:1:1:1:1", "1::", "2001:db8:1:2:3:4:5:6", "1:0:0:2:0:0:0:3", "2001:db8:5::/48", "::2"]
    {
        let Ok(value) = Observable::recognise(text) else { continue };
        let written = Tool::Rpz.write(&[Entry { value, ..entry("a.example") }], &sheet());
        written.reads_back(Tool::Rpz).unwrap_or_else(|error| panic!("{text}: {error}\n{}", written.files[0].text));
    }
}

#[test]
fn a_name_that_is_an_address_to_resolvers_alone_stops_nothing() {
    let disguised = entry("32.1.2.0.192.rpz-ip");
    assert_eq!(disguised.value.kind(), ObservableType::Domain);
    let written = Tool::Rpz.write(&[disguised, entry("rpz-ip.example")], &sheet());
    assert_eq!((written.left.len(), &written.files[0].meant), (1, &vec![("rpz-ip.example".to_owned(), false)]));
}

#[test]
fn networks_inside_others_are_left_out_and_come_when_the_wider_one_goes() {
    let (wide, narrow, other) = (entry("198.51.100.0/24"), entry("198.51.100.128/25"), entry("192.0.2.7"));
    let written = Tool::Nftables.write(&[wide.clone(), narrow.clone()], &sheet());
    assert!(written.left.len() == 1 && written.files[0].meant.len() == 1);
    written.reads_back(Tool::Nftables).unwrap();
    let delta = nftables_delta(&[wide, narrow.clone()], &[narrow, other], &sheet());
    let expected = "add element inet huecry desk_one_addr4 {\n    192.0.2.7 timeout 1000s,\n}\nflush set inet huecry desk_one_net4\nadd element inet huecry desk_one_net4 {\n    198.51.100.128/25 timeout 1000s,\n}\n";
    assert!(delta.ends_with(expected), "{delta}");
}

#[test]
fn a_reader_of_a_tool_takes_nothing_else_for_a_value() {
    for (tool, name, text) in [
        (Tool::Rpz, ".zone", "a.example CNAME .\n$INCLUDE /etc/passwd\n"),
        (Tool::Rpz, ".zone", "a.example CNAME evil.example.\n"),
        (Tool::Rpz, ".zone", "*.a.example CNAME .\n"),
        (Tool::Nftables, ".nft", "flush ruleset\n"),
        (Tool::Nftables, ".nft", "add element inet huecry a {\n    192.0.2.7 timeout 5s,\n"),
        (Tool::Suricata, ".rules", "alert ip any any -> any any (msg:\"x\"; sid:1; rev:1;)\n"),
        (Tool::Suricata, "-md5.lst", "x\n"),
        (Tool::Zeek, ".intel", "a.example\tIntel::DOMAIN\n"),
        (Tool::Hosts, ".hosts", "127.0.0.1 a b\n"),
    ] {
        assert!(tool.read(name, text).is_err(), "{tool:?} {text}");
    }
}

/// A row about `text` that quotes `title`.
fn row(text: &str, title: &str) -> Row {
    let Entry { value, until, .. } = entry(text);
    let word = |word: &str| word.to_owned();
    Row {
        value,
        scope: None,
        role: word("attacker"),
        usage: word("block"),
        confidence: 80,
        valid_from: None,
        until,
        tlp: word("TLP:GREEN"),
        origin: word("vendor-one"),
        record: word("vendor-one/c2#1.1"),
        title: word(title),
        tags: vec![word("=cmd|' /C calc'!A0")],
        standing: word("accepted"),
    }
}

#[test]
fn x_03_a_cell_that_a_spreadsheet_would_compute_is_a_text() {
    for title in ["=1+1", "+1", "-1", "@SUM(1)", "\t=1", "\r=1", "a,\"=1", "'=1", "plain", "'s"] {
        let text = row("a.example", title).csv();
        let mut rows = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
        let cells = rows.records().next().unwrap().unwrap();
        assert!(cells.iter().all(|cell| !cell.starts_with(['=', '+', '-', '@', '\t', '\r'])), "{text}");
        let flat: String = title.chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
        assert_eq!(from_cell(&cells[11]), flat);
        assert_eq!(text.lines().count(), 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn x_04_x_05_x_06_g_25_whatever_stands_in_a_value_one_record_is_one_line_everywhere(
        parts in proptest::collection::vec(prop_oneof![
            Just("evil.example"), Just("192.0.2.7"), Just("2001:db8::7"), Just("http://"), Just("/"), Just("\n"), Just("\r"), Just("\u{85}"),
            Just("\u{2028}"), Just("\""), Just("; sid:1; ) alert ip any any"), Just("$INCLUDE /etc/passwd"), Just(" } ; flush ruleset #"),
            Just("$(id)"), Just("../../x"), Just("*."), Just("'"), Just("`"), Just("\\"), Just("\t"), Just(" "), Just("%0a"), Just(":443"), Just("@"),
            Just("\u{202e}"), Just("xn--"), Just("#"), Just("?a=b&c"), Just(".rpz-ip"), Just("="), Just("|"), Just("\0"), Just("ü"),
        ], 1..6),
        below in any::<bool>(), watched in any::<bool>(),
    ) {
        let text = parts.concat();
        let read = [Observable::recognise(&text), Observable::other_from_text("text", &text)];
        let mut entries: Vec<Entry> = read.into_iter().flatten().map(|value| {
            let below = below && value.kind() == ObservableType::Domain;
            Entry { value, below, watched, ..entry("a.example") }
        }).collect();
        entries.push(entry("last.example"));
        entries.sort();
        for tool in Tool::ALL {
            let written = tool.write(&entries, &sheet());
            prop_assert_eq!(written.reads_back(tool), Ok(()), "{:?}: {:?}", tool, text);
        }
        for entry in &entries {
            let row = Row { value: entry.value.clone(), title: text.clone(), ..row("a.example", "") };
            for line in [row.csv(), row.json(), row.ecs()] {
                let ends = line.matches(['\n', '\r', '\u{b}', '\u{c}', '\u{85}', '\u{2028}', '\u{2029}']).count();
                prop_assert!(ends == 1 && line.ends_with('\n'), "{:?}", line);
            }
        }
    }
}
