//! Cases after public bug reports, by their number in `tests/cases`: what a file means, and nothing that its author did not write.

use crate::support::{founded, huecry, json_of, run, stderr, stdout};
use huecry::{
    exchange::{About, Complaint, Format, Given, Layout, Reach, Reader, Said, TextReader, detect},
    record::{Indicator, Observable, ObservableType, Scope, Tlp, Use},
};
use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Spellings of hosts, each with the host that it means.
fn spellings() -> Vec<(String, String)> {
    let mut all = Vec::new();
    let names = ["agency.example", "a_b.mail.agency.example", "xn--bcher-kva.example", "localhost", "192.0.2.10", "[2001:db8::10]"];
    for name in names {
        let plain = !name.starts_with('[');
        let mut written = vec![name.to_owned(), name.to_uppercase()];
        if plain {
            written.extend([format!("{name}."), name.replace('e', "%65"), name.replace('.', "%2e"), name.replace('.', "。")]);
            let wide = |char: char| if char.is_ascii_lowercase() { char::from_u32(u32::from(char) + 0xfee0).unwrap() } else { char };
            written.push(if name.starts_with("xn--") { "bücher.example".to_owned() } else { name.chars().map(wide).collect() });
        }
        if name == "192.0.2.10" {
            written.extend(
                ["3221225994", "0xC000020A", "0300.0.2.10", "192.0.522", "[::ffff:192.0.2.10]", "[64:ff9b::c000:20a]"].map(str::to_owned),
            );
        }
        all.extend(written.into_iter().map(|spelt| (spelt, name.to_owned())));
    }
    all
}

fn host_of(url: &str) -> Option<String> {
    Observable::from_text(ObservableType::Url, url).ok().map(|found| found.host().unwrap().into_owned())
}

#[test]
fn a_host_is_the_same_however_it_is_spelt_and_under_any_scheme() {
    for (spelt, host) in spellings() {
        for scheme in ["http", "https", "ftp", "ws", "tcp", "dns", "ssh"] {
            for (before, behind) in [("", ""), ("", ":8080/x"), ("user:pass@", "/x?y=http://other.example./#z")] {
                let url = format!("{scheme}://{before}{spelt}{behind}");
                assert_eq!(host_of(&url).as_deref(), Some(host.as_str()), "{url}");
            }
        }
    }
}

#[test]
fn what_ada_and_inet_aton_take_for_a_host_is_that_host_or_is_refused() {
    let Some(python) = interop() else { return };
    let odd = [
        "agency..example",
        "agency.example..",
        "-agency.example",
        "a!b.example",
        "*.agency.example",
        "agency.example.1",
        "agency.0x1",
        "1.2.3",
        "0xzz.example",
        "xn--a.example",
        "xn--.example",
        "ag%00ency.example",
        "ag%20ency.example",
        "a,b.example",
        "256.1.1.1",
        "1.1.1.1.1",
        "[::1%25eth0]",
        "[::ffff:1.2.3.4.5]",
        "a'b.example",
        "..",
        ".",
        "é.example.",
        "ag\u{ad}ency.example",
        "ag\u{200d}ency.example",
    ];
    let mut urls: Vec<String> =
        spellings().into_iter().map(|(spelt, _)| spelt).chain(odd.map(str::to_owned)).map(|host| format!("http://{host}/x")).collect();
    // Every byte of ASCII in the middle of a name, plain and percent-encoded.
    let bytes = (0x21_u8..0x7f).filter(|byte| !b"/?#@:[]\\".contains(byte));
    urls.extend(bytes.flat_map(|byte| [format!("http://a{}b.example/", char::from(byte)), format!("http://a%{byte:02x}b.example/")]));
    let mut running = Command::new(python)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/hosts.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    running.stdin.take().unwrap().write_all(urls.join("\n").as_bytes()).unwrap();
    let output = running.wait_with_output().unwrap();
    let theirs: Vec<String> = stdout(&output).lines().map(str::to_owned).collect();
    assert_eq!(theirs.len(), urls.len());
    let mut same = 0;
    for (url, theirs) in urls.iter().zip(theirs) {
        if let Some(ours) = host_of(url) {
            assert_eq!(ours, theirs, "{url}");
            same += 1;
        }
    }
    assert!(same > 60, "{same} of {}", urls.len());
}

/// The Python that `scripts/test` sets up.
fn interop() -> Option<PathBuf> {
    if std::env::var_os("HUECRY_INTEROP").is_none() {
        println!("skipped: scripts/test sets up the other implementations");
        return None;
    }
    Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("target/interop/venv/bin/python"))
}

/// What a case's file says, each as `type value`, with `*.` for a name and all below it and `?` for what is never acted on.
fn said(name: &str) -> Vec<String> {
    said_as(name, None, None)
}

fn said_as(name: &str, kind: Option<&str>, columns: Option<&str>) -> Vec<String> {
    let (said, _) = read(name, kind, columns);
    let mut said: Vec<String> = said
        .iter()
        .filter_map(|said| match said {
            Said::Indicator { indicator, .. } => {
                let name = indicator.value.other().unwrap_or_else(|| indicator.value.kind().name()).to_owned();
                let below = if indicator.scope == Some(Scope::Subdomains) { "*." } else { "" };
                let context = if indicator.usage == Some(Use::Context) { " ?" } else { "" };
                Some(format!("{name} {below}{}{context}", indicator.value))
            }
            _ => None,
        })
        .collect();
    said.sort();
    said
}

/// Reads a case's file as `import` does.
fn read(name: &str, kind: Option<&str>, columns: Option<&str>) -> (Vec<Said>, Vec<Complaint>) {
    let bytes = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases").join(name)).unwrap();
    let format = detect(&bytes, name).unwrap();
    let layout = if let Format::Text(layout) = format { layout } else { Layout::Plain };
    let mut text = TextReader::new(layout, kind.map(|kind| kind.parse().unwrap()));
    if let Some(columns) = columns {
        text = text.with_columns(columns).unwrap();
    }
    let mut reader = Reader::new(&About { format, title: "case".to_owned(), text, subdomains: false }, &bytes);
    let mut given = Given::default();
    loop {
        reader.feed(&bytes).unwrap();
        let again = reader.end_pass().unwrap();
        let Given { said, complaints } = reader.take();
        if !again {
            given.said.extend(said);
        }
        given.complaints.extend(complaints);
        if !again {
            return (given.said, given.complaints);
        }
    }
}

fn check(name: &str, expected: &[&str]) {
    assert_eq!(said(name), expected, "{name}");
}

#[test]
fn case_01_a_quoted_comment_over_several_lines_is_one_cell_and_no_source_of_values() {
    check("01-misp-comment-newlines.csv", &["domain c2.multi.example", "domain last.multi.example", "ipv4 192.0.2.61"]);
    check("01b-no-header-newlines.csv", &["ipv4 192.0.2.62", "ipv4 198.51.100.96"]);
}

#[test]
fn case_02_what_is_not_for_detection_is_context_in_a_table_too() {
    check(
        "02-misp-to-ids.csv",
        &["domain acts.toids.example", "domain shop-that-was-hacked.toids.example ?", "link https://blog.toids.example/our-report ?"],
    );
}

#[test]
fn case_03_composite_types_mean_the_same_in_a_table_as_in_json() {
    check(
        "03-misp-composite.csv",
        &[
            "domain pair.comp.example",
            "endpoint 192.0.2.32:8443",
            "endpoint [2001:db8::33]:443",
            "endpoint h.comp.example:4444",
            "filename a.bin ?",
            "filename b.bin ?",
            "ipv4 192.0.2.31",
            "md5 000000000000000000000000000003b1",
            "regkey|value HKLM\\Software\\X|run ?",
            "sha256 00000000000000000000000000000000000000000000000000000000000003a1",
        ],
    );
}

#[test]
fn case_04_tables_are_separated_by_semicolons_and_tabs_too() {
    check("04-semicolon.csv", &["domain semi.example", "ipv4 192.0.2.41", "url http://semi.example/a"]);
    check("04b-tab.tsv", &["domain tabbed.example", "ipv4 192.0.2.42"]);
    check("04c-tab.csv", &["domain tabbed.example", "ipv4 192.0.2.42"]);
    check("04d-excel-sep.csv", &["domain semi2.example"]);
}

#[test]
fn cases_05_06_07_exports_of_abuse_ch_and_otx_are_read_by_their_headers() {
    check(
        "05-threatfox.csv",
        &["domain arv.tfox.example", "endpoint 192.0.2.51:4433", "sha256 0000000000000000000000000000000000000000000000000000000000000051"],
    );
    let confidence = |name: &str| -> Vec<Option<u8>> {
        let (said, _) = read(name, None, None);
        said.iter().map(|said| if let Said::Indicator { indicator, .. } = said { indicator.confidence } else { None }).collect()
    };
    assert_eq!(confidence("05-threatfox.csv"), [Some(100), Some(75), Some(50)]);
    check("06-urlhaus.csv", &["url http://192.0.2.66:8080/bin.sh", "url http://dl.uhaus.example/a.exe"]);
    let (rows, _) = read("06-urlhaus.csv", None, None);
    let Said::Indicator { indicator, .. } = &rows[0] else { panic!("{rows:?}") };
    assert!(
        ["32-bit", "elf", "mips", "malware_download"].iter().all(|tag| indicator.tags.contains(&(*tag).to_owned())),
        "{:?}",
        indicator.tags
    );
    check(
        "07-malwarebazaar.csv",
        &[
            "md5 00000000000000000000000000000071",
            "md5 00000000000000000000000000000072",
            "sha1 0000000000000000000000000000000000000071",
            "sha1 0000000000000000000000000000000000000072",
            "sha256 0000000000000000000000000000000000000000000000000000000000000071",
            "sha256 0000000000000000000000000000000000000000000000000000000000000072",
        ],
    );
    check("07b-hash-table.csv", &["sha256 0000000000000000000000000000000000000000000000000000000000000073"]);
    check(
        "07c-otx.csv",
        &[
            "cidr 192.0.2.128/25",
            "domain h.otx.example",
            "filename C:\\Temp\\x.exe ?",
            "ipv4 192.0.2.74",
            "ja3 00000000000000000000000000000075",
            "mutex Global\\otxmutex ?",
            "sha256 0000000000000000000000000000000000000000000000000000000000000074",
            "uri /gate.php ?",
            "vulnerability CVE-2026-0001 ?",
            "wallet 1AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "x509-fingerprint-sha1 00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:00:75 ?",
        ],
    );
}

#[test]
fn case_08_a_hash_of_another_kind_is_no_hash_of_a_file() {
    check("08-imphash.md", &["md5 00000000000000000000000000000081"]);
}

#[test]
fn cases_09_to_14_and_45_46_lists_are_read_by_their_grammars() {
    let names = |letters: &str| letters.chars().map(|letter| format!("domain {letter}.hosts.example")).collect::<Vec<_>>();
    assert_eq!(said("09-hosts-several.txt"), names("abcdefgh"));
    check("10-stevenblack-head.txt", &["domain bad.sb.example"]);
    check("11-drop.txt", &["cidr 192.0.2.0/28", "cidr 198.51.100.0/24", "cidr 2001:db8:d0d0::/48"]);
    check("11c-asndrop.txt", &["asn AS64500", "asn AS64501"]);
    check("12-adguard.txt", &["domain *.blocked.adg.example"]);
    check(
        "13-networks.txt",
        &[
            "cidr 192.0.2.0/25",
            "cidr 198.51.100.0/24",
            "cidr 198.51.100.0/24",
            "cidr 2001:db8::/32",
            "cidr 203.0.113.0/24",
            "cidr 203.0.113.64/26",
        ],
    );
    check("45-dshield.txt", &["cidr 192.0.2.0/24"]);
    check("45b-p2p.txt", &["cidr 192.0.2.12/30"]);
    check("46-list-mixed.txt", &["domain *.if.mix.example", "url http://192.0.2.50/24"]);
    check(
        "28c-dnsmasq.txt",
        &[
            "domain *.dnsm1.conf.example",
            "domain *.dnsm2.conf.example",
            "domain *.rpz.conf.example",
            "domain *.unb.conf.example",
            "domain rpz.conf.example",
        ],
    );
    check("28b-leading-dots.txt", &["domain *.lead.dots.example", "domain *.lead2.dots.example", "domain *.star.dots.example"]);
}

#[test]
fn case_14_what_word_and_pdf_put_around_a_name_is_no_part_of_it() {
    check(
        "14-quotes.txt",
        &[
            "domain bullet.quote.example",
            "domain cloudsafety.quote.example",
            "domain dash.quote.example",
            "domain deutsch.quote.example",
            "domain dots.quote.example",
            "domain guillemet.quote.example",
            "domain ideographic.quote.example",
            "domain nbsp.quote.example",
            "domain single.quote.example",
            "domain zerowidth.quote.example",
        ],
    );
    check("14b-quotes.md", &["domain cloudsafety.example", "domain drive-global.example", "url https://evil-quote.example/x"]);
}

#[test]
fn cases_15_to_18_lines_and_cells_with_more_than_a_value() {
    check(
        "15b-hash-and-name.txt",
        &[
            "md5 00000000000000000000000000000153",
            "md5 00000000000000000000000000000154",
            "sha256 0000000000000000000000000000000000000000000000000000000000000155",
        ],
    );
    check("15c-two-names-cell.csv", &["domain ns1.cells.example", "domain ns2.cells.example", "domain single.cells.example"]);
    check("15d-keyvalue.txt", &[]);
    check(
        "39-url-first.txt",
        &[
            "url http://csvurl5.example/x",
            "url http://csvurl6.example/x",
            "url http://csvurl7.example/x",
            "url http://csvurl8.example/a,b.html",
        ],
    );
}

#[test]
fn case_19_names_of_files_and_products_are_no_domains() {
    check("16-names.md", &["domain c2.names.example", "ipv4 192.0.2.18"]);
    let listed = said("16b-names.txt");
    for file in ["invoice.pdf.zip", "update.msi", "photo.jpg", "archive.7z", "virus.exe"] {
        assert!(!listed.iter().any(|one| one.contains(file)), "{file}: {listed:?}");
    }
}

#[test]
fn case_20_urls_in_prose_are_whole_or_left() {
    check(
        "17-urls.md",
        &[
            "url http://amp.url.example/?a=1&b=2",
            "url http://angle.url.example/z",
            "url http://apos.url.example/o'brien",
            "url http://bold.url.example/b",
            "url http://brack.url.example/?f[0]=1&g=2",
            "url http://comma.url.example/abc,1,2.html",
            "url http://dot.url.example/a.php",
            "url http://inparen.url.example/c",
            "url http://md.url.example/gate.php",
            "url http://md2.url.example/a",
            "url http://md2.url.example/b",
            "url http://paren.url.example/a_(b)",
            "url http://pipe.url.example/a|b",
            "url http://quote.url.example/q",
            "url http://semi.url.example/login;jsessionid=77?x=1",
            "url http://tick.url.example/t",
            "url http://trk.url.example/L0/http:%2F%2Fwww.target.example%2Fx%23y/1",
            "url http://under.url.example/a_",
        ],
    );
}

#[test]
fn cases_36_37_44_columns_hold_what_their_author_meant() {
    check(
        "36-typed.csv",
        &[
            "cidr 192.0.2.0/30",
            "domain *.wild.typed.example",
            "domain ok.typed.example",
            "endpoint 192.0.2.36:8080",
            "ipv4 192.0.2.37",
            "ipv4 192.0.2.38",
            "ipv6 2001:db8::361",
            "url http://bare.typed.example/x",
            "url http://bare2.typed.example/",
            "url http://inurl.typed.example/x",
            "url http://ok.typed.example/x",
        ],
    );
    check(
        "36b-misp-typed.csv",
        &[
            "cidr 192.0.2.4/30",
            "cidr 2001:db8:36::/48",
            "email x@mail.typed.example",
            "ipv4 192.0.2.39",
            "ipv6 2001:db8::362",
            "ipv6 2001:db8::363",
            "ipv6 2001:db8::364",
            "sha256 0000000000000000000000000000000000000000000000000000000000000361",
            "url http://bare3.typed.example/x",
            "url http://inurl2.typed.example/x",
        ],
    );
    assert_eq!(said_as("36c-ips.txt", Some("ip"), None), ["cidr 192.0.2.8/30", "ipv4 192.0.2.40", "ipv6 2001:db8::365"]);
    check("37-describing.csv", &["ipv4 192.0.2.45", "ipv4 192.0.2.46"]);
    check("28-crowdsec.csv", &["asn AS64502", "cidr 198.51.100.128/25", "ipv4 192.0.2.91", "ipv6 2001:db8::91"]);
}

#[test]
fn case_46_confidence_in_words_is_read_or_its_row_is_named() {
    let (said, complaints) = read("38-confidence.csv", None, None);
    let told: Vec<String> = said
        .iter()
        .filter_map(|said| if let Said::Indicator { indicator, .. } = said { Some(indicator) } else { None })
        .map(|one| format!("{} {:?}", one.value, one.confidence))
        .collect();
    assert_eq!(
        told,
        [
            "low.conf.example Some(15)",
            "percent.conf.example Some(30)",
            "fraction.conf.example Some(30)",
            "scale.conf.example Some(30)",
            "number.conf.example Some(30)",
            "blank.conf.example None"
        ]
    );
    assert_eq!(complaints.iter().map(|one| one.line).collect::<Vec<_>>(), [6]);
}

#[test]
fn cases_22_23_an_end_in_a_table_is_never_later_than_it_says() {
    let (said, complaints) = read("20-until.csv", None, None);
    let told: Vec<String> = said
        .iter()
        .filter_map(|said| if let Said::Indicator { indicator, .. } = said { Some(indicator) } else { None })
        .map(|one| format!("{} {}", one.value, one.valid_until.map(|until| until.to_string()).unwrap_or_default()))
        .collect();
    assert_eq!(
        told,
        [
            "forever.csv.example 9999-12-30T22:00:00Z",
            "forever2.csv.example 9999-12-30T22:00:00Z",
            "never.csv.example 9999-12-30T22:00:00Z",
            "empty.csv.example ",
            "day.csv.example 2027-12-31T00:00:00Z",
            "space.csv.example 2027-12-31T23:59:59Z",
            "utc.csv.example 2027-12-31T23:59:59Z",
            "epoch.csv.example 2027-12-31T23:59:59Z",
            "fine.csv.example 2027-12-31T00:00:00Z"
        ]
    );
    assert!(complaints.is_empty(), "{complaints:?}");
}

#[test]
fn cases_40_48_paths_and_patterns_are_no_urls() {
    let told = said("47-misp-url-field.json");
    let urls: Vec<&str> = told.iter().filter_map(|one| one.strip_prefix("url ")).collect();
    assert_eq!(
        urls,
        [
            "http://192.0.2.61/x",
            "http://example/test.php",
            "http://urlf.example/x",
            "http://urlf.example:8080/x",
            "http://user@urlf.example/x"
        ]
    );
    check("48-stix-wildcards.json", &["url https://wc.example/a?b=*"]);
}

#[test]
fn cases_22_23_an_end_in_stix_is_never_later_than_it_says() {
    let (said, complaints) = read("19-times.json", None, None);
    let until = |one: &Indicator| one.valid_until.map(|until| until.to_string()).unwrap_or_default();
    let told: Vec<String> = indicators(&said).map(|one| format!("{} {}", one.value, until(one))).collect();
    assert_eq!(
        told,
        [
            "same.time.example 2026-01-01T00:00:00Z",
            "before.time.example 2026-05-01T00:00:00Z",
            "forever.time.example 9999-12-30T22:00:00Z",
            "leap.time.example 2027-12-31T23:59:59Z",
            "before1970.time.example 2027-01-01T00:00:00Z",
            "nano.time.example 2027-01-01T00:00:00Z",
            "nozone.time.example 2027-01-01T00:00:00Z",
            "space.time.example 2027-01-01T00:00:00Z",
            "dotnetnull.time.example 1970-01-01T00:00:00Z",
            "epoch.time.example 2027-01-01T00:00:00Z",
            "almostforever.time.example 9999-12-30T22:00:00Z"
        ]
    );
    assert!(complaints.is_empty(), "{complaints:?}");
}

fn indicators(said: &[Said]) -> impl Iterator<Item = &Indicator> {
    said.iter().filter_map(|said| if let Said::Indicator { indicator, .. } = said { Some(&**indicator) } else { None })
}

/// Imports case files one after another, and answers which values are accepted then.
fn imported(steps: &[(&str, &[&str])]) -> Vec<String> {
    let data = founded();
    for (name, words) in steps {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases").join(name);
        let file = ["import", path.to_str().unwrap(), "--tlp", "green", "--confidence", "60", "--valid-days", "30"];
        run(data.path(), &[&file[..], words].concat());
    }
    let found = json_of(&huecry(data.path(), &["--json", "query", "--record", "indicator", "--limit", "1000"]));
    let mut values: Vec<String> = found["values"].as_array().unwrap().iter().map(|one| one["value"].as_str().unwrap().to_owned()).collect();
    values.sort();
    values
}

#[test]
fn case_21_the_newest_version_of_an_id_stands_whatever_the_order_file_and_way() {
    assert_eq!(imported(&[("18-versions.json", &[])]), ["right-new.ver.example", "right-new2.ver.example"]);
    for way in [&[][..], &["--refresh"]] {
        assert_eq!(imported(&[("18d-new.json", way), ("18e-old.json", way)]), ["new.upd.example"], "{way:?}");
        assert_eq!(imported(&[("18e-old.json", way), ("18d-new.json", way)]), ["new.upd.example"], "{way:?}");
        let revoked = imported(&[("18b-v1.json", way), ("18c-v2-revoked.json", way), ("18b-v1.json", way)]);
        assert!(revoked.is_empty(), "{way:?}: {revoked:?}");
        assert!(imported(&[("18c-v2-revoked.json", way), ("18b-v1.json", way)]).is_empty(), "{way:?}");
    }
    // An old file that is mirrored takes nothing back either.
    assert_eq!(imported(&[("18d-new.json", &["--mirror"]), ("18e-old.json", &["--mirror"])]), ["new.upd.example"]);
}

/// Writes a bundle with one indicator and reads it after another one.
fn bundle(data: &Path, name: &str, author: &str, modified: &str, value: &str) -> String {
    let id = "indicator--0c0c0c0c-0000-4000-8000-000000009901";
    let identity = format!("identity--0c0c0c0c-0000-4000-8000-00000000{author}");
    let objects = serde_json::json!([
        { "type": "identity", "spec_version": "2.1", "id": identity, "created": "2026-01-01T00:00:00.000Z",
          "modified": "2026-01-01T00:00:00.000Z", "name": format!("Lab {author}"), "identity_class": "organization" },
        { "type": "indicator", "spec_version": "2.1", "id": id, "created": "2026-01-01T00:00:00.000Z", "modified": modified,
          "created_by_ref": identity, "valid_from": "2026-01-01T00:00:00Z", "pattern_type": "stix",
          "pattern": format!("[domain-name:value = '{value}']") }
    ]);
    let bundle = serde_json::json!({ "type": "bundle", "id": "bundle--0c0c0c0c-0000-4000-8000-000000009900", "objects": objects });
    let path = data.join(name);
    std::fs::write(&path, bundle.to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn case_21_nobody_replaces_the_id_of_another_and_a_version_of_the_future_does_not_count() {
    let data = founded();
    let data = data.path();
    let import = |path: &str| huecry(data, &["import", path, "--tlp", "green", "--confidence", "60", "--valid-days", "30", "--refresh"]);
    import(&bundle(data, "one.json", "0001", "2026-02-01T00:00:00.000Z", "one.author.example"));
    import(&bundle(data, "other.json", "0002", "2026-03-01T00:00:00.000Z", "other.author.example"));
    let future = import(&bundle(data, "future.json", "0001", "2099-01-01T00:00:00.000Z", "future.author.example"));
    assert!(stderr(&future).contains("in the future"), "{}", stderr(&future));
    import(&bundle(data, "newer.json", "0001", "2026-04-01T00:00:00.000Z", "newer.author.example"));
    let found = json_of(&huecry(data, &["--json", "query", "--record", "indicator", "--limit", "1000"]));
    let values: std::collections::BTreeSet<&str> =
        found["values"].as_array().unwrap().iter().map(|one| one["value"].as_str().unwrap()).collect();
    assert_eq!(values, ["newer.author.example", "other.author.example"].into());
}

#[test]
fn case_43_the_newest_timestamp_of_an_attribute_or_event_stands() {
    let data = founded();
    let data = data.path();
    let event = |name: &str, timestamp: u64, attributes: serde_json::Value| {
        let event = serde_json::json!({ "Event": { "uuid": "0d0d0d0d-0000-4000-8000-000000009300", "info": "versions", "date": "2026-01-01",
            "timestamp": timestamp.to_string(), "Orgc": { "name": "Lab" }, "Tag": [{ "name": "tlp:green" }], "Attribute": attributes } });
        let path = data.join(name);
        std::fs::write(&path, event.to_string()).unwrap();
        run(data, &["import", path.to_str().unwrap(), "--confidence", "60", "--valid-days", "30"]);
    };
    let attribute = |value: &str, timestamp: u64, deleted: bool| {
        serde_json::json!({ "uuid": "0d0d0d0d-0000-4000-8000-000000009301", "type": "domain", "value": value, "to_ids": true,
            "timestamp": timestamp.to_string(), "deleted": deleted })
    };
    let values = || {
        let found = json_of(&huecry(data, &["--json", "query", "--record", "indicator", "--limit", "1000"]));
        found["values"].as_array().unwrap().iter().map(|one| one["value"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    event("1.json", 1_767_000_000, serde_json::json!([attribute("first.misp.example", 1_767_000_000, false)]));
    event("2.json", 1_767_000_100, serde_json::json!([attribute("second.misp.example", 1_767_000_100, false)]));
    assert_eq!(values(), ["second.misp.example"]);
    event("1.json", 1_767_000_000, serde_json::json!([attribute("first.misp.example", 1_767_000_000, false)]));
    assert_eq!(values(), ["second.misp.example"], "an older file changes nothing");
    event("3.json", 1_767_000_200, serde_json::json!([attribute("second.misp.example", 1_767_000_200, true)]));
    assert_eq!(values(), Vec::<String>::new());
    event("2.json", 1_767_000_100, serde_json::json!([attribute("second.misp.example", 1_767_000_100, false)]));
    assert_eq!(values(), Vec::<String>::new());
    // MISP's deletion is not final.
    event("4.json", 1_767_000_300, serde_json::json!([attribute("third.misp.example", 1_767_000_300, false)]));
    assert_eq!(values(), ["third.misp.example"]);
}

/// Values with their markings as a file says them, and what was refused.
fn marked(name: &str) -> (Vec<String>, Vec<String>) {
    let (said, complaints) = read(name, None, None);
    let shown = |said: &Said| match said {
        Said::Indicator { indicator, tlp, reach, .. } => {
            let tlp = tlp.map_or("unmarked".to_owned(), |tlp| tlp.name().to_owned());
            let reach = if *reach == Reach::AsMarked { String::new() } else { format!(" {reach:?}") };
            Some(format!("{} {tlp}{reach}", indicator.value))
        }
        _ => None,
    };
    (said.iter().filter_map(shown).collect(), complaints.into_iter().map(|one| one.why).collect())
}

#[test]
fn cases_42_what_claims_to_be_a_marking_is_read_as_one_or_keeps_its_record_out() {
    let (values, complaints) = marked("41-markings.json");
    assert_eq!(
        values,
        [
            "octi-named.mark.example amber+strict",
            "twice-red-clear.mark.example red",
            "twice-clear-red.mark.example red",
            "undefined.mark.example red",
            "lower-strict.mark.example amber+strict",
            "upper-key.mark.example red",
            "name-space.mark.example amber",
            "no-definition.mark.example amber",
            "copyright.mark.example unmarked",
            "iep.mark.example red",
            "white-as-clear.mark.example clear"
        ]
    );
    assert!(complaints.is_empty(), "{complaints:?}");
    // Of MISP the event is marked, and its attributes with it.
    let (values, complaints) = marked("49-misp-tlp-words.json");
    let values: Vec<&str> = values.iter().map(|one| one.split(' ').next().unwrap()).collect();
    assert_eq!(
        values,
        ["t01.tag.example", "t02.tag.example", "t06.tag.example", "t09.tag.example", "t10.tag.example", "event-org-only.tag.example"]
    );
    assert_eq!(complaints.len(), 2);
    assert!(complaints.iter().all(|why| why.contains("claims to be a TLP marking")), "{complaints:?}");
    for (text, tlp) in [
        ("TLP: RED", Tlp::Red),
        ("tlp=red", Tlp::Red),
        ("\"tlp:red\"", Tlp::Red),
        ("misp-tlp:red", Tlp::Red),
        ("TLP\u{ff1a}RED", Tlp::Red),
        ("TLP AMBER STRICT", Tlp::AmberStrict),
        ("tlp_amber+strict", Tlp::AmberStrict),
        ("[TLP:WHITE]", Tlp::Clear),
    ] {
        assert_eq!(Tlp::claimed(text).map(Result::ok), Some(Some(tlp)), "{text}");
    }
    for text in ["tlp:unclear", "tlp:ex:chr", "TLP", "tlp:red amber", "tlp:gren"] {
        assert!(matches!(Tlp::claimed(text), Some(Err(_))), "{text}");
    }
    assert!(Tlp::claimed("tlprat").is_none() && Tlp::claimed("the tlp of it").is_none());
}

#[test]
fn case_41_a_distribution_keeps_an_attribute_where_its_author_left_it() {
    let (values, _) = marked("42-misp-distribution.json");
    assert_eq!(
        values,
        [
            "inherit.dist.example unmarked",
            "org-only.dist.example unmarked Here",
            "group.dist.example unmarked Here",
            "all.dist.example unmarked"
        ]
    );
    let data = founded();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/42-misp-distribution.json");
    let file = [path.to_str().unwrap(), "--confidence", "60", "--valid-days", "30"];
    let published = huecry(data.path(), &[&["--json", "publish"], &file[..]].concat());
    let reply = json_of(&published);
    assert_eq!((reply["records"].as_u64(), reply["complaints"].as_u64()), (Some(2), Some(2)), "{reply}");
    let imported = json_of(&run(data.path(), &[&["--json", "import"], &file[..]].concat()));
    assert_eq!((imported["records"].as_u64(), imported["complaints"].as_u64()), (Some(4), Some(0)), "{imported}");
}

#[test]
fn case_32_a_log_is_read_in_any_spelling_and_encoding_or_refused() {
    let data = founded();
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let known = cases.join("26-known.txt");
    run(data.path(), &["import", known.to_str().unwrap(), "--tlp", "green", "--confidence", "60", "--valid-days", "30"]);
    let hits = |path: &Path| {
        let output = huecry(data.path(), &["--json", "match", path.to_str().unwrap()]);
        let lines: Vec<u64> = stdout(&output)
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .filter_map(|value| value["line"].as_u64())
            .collect();
        (crate::support::code(&output), lines)
    };
    let plain = cases.join("26-logs.txt");
    let lines = std::fs::read_to_string(&plain).unwrap().lines().count() as u64;
    // A name below a known one is none of it.
    let expected = (1..=lines).filter(|line| *line != 13).collect();
    assert_eq!(hits(&plain), (0, expected), "every line of it names something known");
    let (code, found) = hits(&cases.join("26b-logs-utf16.txt"));
    assert!(code == 0 && found.len() as u64 >= lines - 1, "{code} {found:?}");
    let packed = data.path().join("log.xz");
    std::fs::write(&packed, b"\xfd7zXZ\0\0").unwrap();
    let output = huecry(data.path(), &["match", packed.to_str().unwrap()]);
    assert!(crate::support::code(&output) == 2 && stderr(&output).contains("xz -dc"), "{}", stderr(&output));
}

#[test]
fn case_43_a_withdrawal_reaches_whoever_reads_our_misp_feed() {
    let data = founded();
    let data = data.path();
    let list = data.join("list.txt");
    std::fs::write(&list, "m1.feedout.example\nm2.feedout.example\nm3.feedout.example\n").unwrap();
    run(data, &["publish", list.to_str().unwrap(), "--tlp", "green", "--confidence", "60", "--valid-days", "30", "--title", "feed"]);
    let feed = data.join("feed");
    let export = || {
        run(data, &["export", "misp", "--output", feed.to_str().unwrap()]);
        let manifest: serde_json::Value = serde_json::from_slice(&std::fs::read(feed.join("manifest.json")).unwrap()).unwrap();
        let (uuid, listed) = manifest.as_object().unwrap().iter().next().unwrap();
        let event: serde_json::Value = serde_json::from_slice(&std::fs::read(feed.join(format!("{uuid}.json"))).unwrap()).unwrap();
        let number = |value: &serde_json::Value| value["timestamp"].as_str().unwrap().parse::<u64>().unwrap();
        let deleted = event["Event"]["Attribute"].as_array().unwrap().iter().filter(|one| one["deleted"] == true).count();
        (number(listed), number(&event["Event"]), deleted, event["Event"]["Attribute"].as_array().unwrap().len())
    };
    let before = export();
    assert_eq!((before.2, before.3), (0, 3));
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    run(data, &["withdraw", "m2.feedout.example", "--reason", "wrong"]);
    let after = export();
    assert_eq!((after.2, after.3), (1, 3));
    assert!(after.0 > before.0 && after.1 > before.1, "{before:?} {after:?}");
    // Another node that had read the feed lets go of it.
    let reader = founded();
    let read = |name: &str| {
        for entry in std::fs::read_dir(&feed).unwrap().flatten().filter(|entry| entry.file_name().len() == 41) {
            run(reader.path(), &["import", entry.path().to_str().unwrap(), "--confidence", "60", "--valid-days", "30", "--title", name]);
        }
    };
    read("again");
    let found = json_of(&huecry(reader.path(), &["--json", "query", "--record", "indicator", "--limit", "10"]));
    assert_eq!(found["values"].as_array().unwrap().len(), 2, "{found}");
}

#[test]
fn json_of_other_tools_and_our_own_is_read_by_the_names_of_its_fields() {
    check("11b-drop.json", &["cidr 192.0.2.16/28", "cidr 203.0.113.0/24"]);
    check("35-otx-pulse.json", &["domain pulse.otx.example", "md5 00000000000000000000000000003501"]);
    let (values, _) = marked("35-otx-pulse.json");
    assert!(values.iter().all(|value| value.ends_with(" green")), "{values:?}");
    check("35b-feodo.json", &["ipv4 192.0.2.212"]);
    check("35c-urlhaus.json", &["url http://uh.json.example/x"]);
    // What we write for others is read back, and means the same.
    let data = founded();
    let list = data.path().join("list.csv");
    let rows = "value,confidence,tlp,valid_until,tags\nown.json.example,70,amber,2027-06-01,c2\n192.0.2.0/28,40,green,2027-06-02,\n";
    std::fs::write(&list, rows).unwrap();
    run(data.path(), &["import", list.to_str().unwrap()]);
    for format in ["json", "ecs"] {
        let path = data.path().join(format!("out.{format}"));
        run(data.path(), &["export", format, "--output", path.to_str().unwrap()]);
        let again = founded();
        run(again.path(), &["import", path.to_str().unwrap(), "--confidence", "10", "--valid-days", "30"]);
        let found = json_of(&run(again.path(), &["--json", "query", "--record", "indicator", "--limit", "10"]));
        let mut told: Vec<String> = found["values"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| {
                format!(
                    "{} {} {}",
                    one["value"].as_str().unwrap(),
                    one["tlp"].as_str().unwrap(),
                    one["assertions"][0]["ends"].as_str().unwrap()
                )
            })
            .collect();
        told.sort();
        assert_eq!(told, ["192.0.2.0/28 TLP:GREEN 2027-06-02T00:00:00Z", "own.json.example TLP:AMBER 2027-06-01T00:00:00Z"], "{format}");
    }
}
