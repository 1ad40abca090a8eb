//! The command line, as people and scripts meet it: what goes wrong is said in a sentence with a code that means something.

use crate::support::{code, founded, huecry, run, start, stderr, stdout};
use std::{os::unix::fs::PermissionsExt, path::Path};

/// Runs a command that must fail with `expected`, in words that contain `words`, and without a trace of Rust.
fn fails(data: &Path, command: &[&str], expected: i32, words: &str) {
    let output = huecry(data, command);
    let said = stderr(&output);
    assert_eq!(code(&output), expected, "{command:?}: {said}");
    assert!(said.contains(words), "{command:?}: {said}");
    assert!(!said.contains("panicked") && !said.contains("Error {") && !said.contains("RUST_BACKTRACE"), "{said}");
}

#[test]
fn a_newcomer_founds_imports_asks_and_takes_back() {
    let data = founded();
    let list = data.path().join("list.txt");
    std::fs::write(&list, "evil[.]example\n192.0.2.66\nhxxp://drop.evil[.]example/x\nnot an indicator\n").unwrap();
    let list = list.to_str().unwrap();
    let imported = huecry(data.path(), &["import", list, "--tlp", "red", "--confidence", "70", "--valid-days", "90"]);
    assert_eq!(code(&imported), 0, "{}", stderr(&imported));
    assert!(stdout(&imported).contains("3 indicators") && stderr(&imported).contains(":4: "), "{}{}", stdout(&imported), stderr(&imported));
    let asked = huecry(data.path(), &["query", "EVIL.example."]);
    assert!(stdout(&asked).contains("evil[.]example  domain  TLP:RED  confidence 70  asserted by xx-agency"), "{}", stdout(&asked));
    let under = huecry(data.path(), &["--json", "query", "*.evil.example"]);
    let under: serde_json::Value = serde_json::from_slice(&under.stdout).unwrap();
    assert_eq!(under["values"].as_array().unwrap().len(), 2);
    let explained = huecry(data.path(), &["explain", "192.0.2.66"]);
    assert!(stdout(&explained).starts_with("xx-agency/imported#1.2  indicator  192.0.2[.]66"), "{}", stdout(&explained));
    assert!(stdout(&explained).contains("policy `members-in-good-standing`"), "{}", stdout(&explained));
    assert_eq!(code(&huecry(data.path(), &["withdraw", "evil.example", "--reason", "wrong"])), 0);
    let gone = huecry(data.path(), &["query", "evil.example"]);
    // The URL on a host below it is another value and stays.
    assert!(!stdout(&gone).contains("evil[.]example  domain") && stdout(&gone).contains("withdrawn by xx-agency"), "{}", stdout(&gone));
    fails(data.path(), &["query", "never.example"], 1, "nothing is known");
}

#[test]
fn a_dry_run_signs_nothing_and_says_whom_it_would_reach() {
    let data = founded();
    let run = huecry(data.path(), &["publish", "--dry-run", "--value", "10.1.2.3", "--value", "evil.example"]);
    assert!(
        stdout(&run).contains("on list `private-and-reserved`: 1 values") && stdout(&run).contains("reaches 0 of 0"),
        "{}",
        stdout(&run)
    );
    fails(data.path(), &["query", "evil.example"], 1, "nothing is known");
}

#[test]
fn bad_input_is_named_and_nothing_is_half_done() {
    let data = founded();
    let place = data.path();
    let file = |name: &str, bytes: &[u8]| {
        let path = place.join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    fails(place, &["import", &file("binary", b"MZ\x90\0\x03"), "--as-is"], 2, "zero bytes");
    fails(place, &["import", &file("packed", b"\xfd7zXZ\0"), "--as-is"], 2, "xz -dc");
    fails(place, &["import", &file("empty", b""), "--as-is"], 2, "the file is empty");
    fails(place, &["import", &file("prose.txt", b"nothing here\nnor here\n"), "--as-is"], 2, "line 1");
    fails(place, &["import", place.to_str().unwrap(), "--as-is"], 2, "is a directory");
    fails(place, &["import", "/nowhere/list", "--as-is"], 2, "there is no such file");
    fails(place, &["import", &file("typed", b"a.example\n"), "--as-is", "--type", "domian"], 2, "did you mean `domain`?");
    fails(place, &["publish", "--value", "a.example", "--tlp", "yellow"], 2, "`yellow` is no TLP marking");
    fails(place, &["publish", "--value", "a.example", "--tlp", "amber"], 2, "may not travel");
    fails(place, &["publish", "--value", "a.example", "--channel", "indicatros"], 2, "did you mean `indicators`?");
    fails(place, &["publish", "--value", "a.example", "--valid-until", "soon"], 2, "`soon` is no time");
    fails(place, &["withdraw", "xx-agency/indicators#9.9"], 1, "there is no record");
    fails(place, &["withdraw", "other/c2#1.1"], 1, "another member's");
    fails(place, &["query", "???"], 2, "ask for a value in any spelling");
    fails(place, &["frobnicate"], 2, "unrecognized subcommand");
    fails(place, &["init", "--member", "XX", "--found", "x"], 2, "is not a member id");
    fails(place, &["init", "--member", "xx-agency", "--found", "again"], 2, "belongs to a federation already");
    // ISO-8859-1, CRLF and a byte order mark are read, and said.
    let odd = huecry(place, &["import", &file("latin1", b"\xef\xbb\xbfa.example\r\n# caf\xe9\r\nb.example\r\n"), "--as-is"]);
    assert!(code(&odd) == 0 && stdout(&odd).contains("2 indicators") && stderr(&odd).contains("ISO-8859-1"), "{}", stderr(&odd));
    assert_eq!(huecry(place, &["query", "a.example"]).status.code(), Some(0), "only what was good is there");
}

#[test]
fn a_line_of_many_mebibytes_costs_little_and_is_named() {
    let data = founded();
    let path = data.path().join("long.txt");
    let mut text = vec![b'a'; 64 << 20];
    text.extend_from_slice(b"\nafter.example\n");
    std::fs::write(&path, text).unwrap();
    let output = huecry(data.path(), &["import", path.to_str().unwrap(), "--as-is"]);
    assert!(stderr(&output).contains("long.txt:1: the line has") && stdout(&output).contains("1 indicators"), "{}", stderr(&output));
}

#[test]
fn k_01_s_06_keys_that_others_can_read_or_that_do_not_match_stop_the_node() {
    let data = founded();
    let key = data.path().join("keys/node.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    fails(data.path(), &["run"], 3, "chmod 600");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let text = std::fs::read_to_string(&key).unwrap();
    std::fs::write(&key, text.replace("public: ", "public: 00")).unwrap();
    fails(data.path(), &["run"], 3, "does not belong to the seed");
}

#[test]
fn p_06_a_policy_or_configuration_with_a_typo_stops_the_start() {
    let data = founded();
    let policy = data.path().join("policy.cedar");
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("node-config/bad/policy.cedar"), &policy).unwrap();
    fails(data.path(), &["status"], 2, "did you mean `confidence`?");
    std::fs::write(&policy, "").unwrap();
    fails(data.path(), &["status"], 2, "it holds no policy");
    std::fs::remove_file(&policy).unwrap();
    fails(data.path(), &["status"], 3, "policy.cedar");
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("node-config/bad/node.toml"), data.path().join("node.toml")).unwrap();
    fails(data.path(), &["status"], 2, "did you mean `listen`?");
}

#[test]
fn files_from_elsewhere_are_refused_in_words() {
    let (ours, theirs) = (founded(), founded());
    let new = tempfile::tempdir().unwrap();
    let id = |data: &Path| {
        let status: serde_json::Value = serde_json::from_slice(&huecry(data, &["--json", "status"]).stdout).unwrap();
        status["federation"].as_str().unwrap().to_owned()
    };
    let federation = id(theirs.path());
    let init = ["init", "--member", "xb-police", "--kind", "country", "--country", "XB", "--federation", &federation];
    assert_eq!(code(&huecry(new.path(), &init)), 0);
    let request = new.path().join("request.huecry");
    fails(ours.path(), &["admit", request.to_str().unwrap()], 2, "the request of `xb-police` is for federation");
    fails(ours.path(), &["admit", ours.path().join("node.toml").to_str().unwrap()], 2, "not a request of huecry");
    fails(new.path(), &["join", request.to_str().unwrap()], 2, "not a invitation of huecry");
    fails(new.path(), &["status"], 2, "belongs to no federation yet");
    fails(&new.path().join("none"), &["status"], 2, "make one with `huecry init`");
    assert_eq!(code(&huecry(theirs.path(), &["admit", request.to_str().unwrap()])), 0);
    let invitation = theirs.path().join("invitation.huecry");
    assert_eq!(code(&huecry(new.path(), &["join", invitation.to_str().unwrap()])), 0);
    fails(new.path(), &["join", invitation.to_str().unwrap()], 2, "belongs to a federation already");
    fails(theirs.path(), &["admit", request.to_str().unwrap()], 2, "is a member already");
    // An invitation that does not name this node's key: the directory was set up anew.
    let again = tempfile::tempdir().unwrap();
    assert_eq!(code(&huecry(again.path(), &init)), 0);
    fails(again.path(), &["join", invitation.to_str().unwrap()], 2, "does not name this node's key");
}

#[test]
fn x_01_hostile_text_reaches_no_terminal_as_itself() {
    let data = founded();
    let path = data.path().join("x\u{1b}]52;c;x\u{7}.txt");
    std::fs::write(&path, "evil.example\n\u{1b}[31mred \u{202e}drawkcab\n").unwrap();
    let title = "a \u{1b}[2J title \u{202e}";
    let import = huecry(data.path(), &["import", path.to_str().unwrap(), "--as-is", "--title", title]);
    let query = huecry(data.path(), &["query", "evil.example"]);
    let json = huecry(data.path(), &["--json", "query", "evil.example"]);
    assert_eq!((code(&import), code(&query)), (0, 0), "{}", stderr(&import));
    for output in [&import, &query, &json] {
        for text in [stdout(output), stderr(output)] {
            let hostile =
                |char: char| (char.is_control() && char != '\n') || matches!(char, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            assert!(!text.chars().any(hostile), "{text:?}");
        }
    }
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let data = founded();
    if nix_is_root() {
        // Root writes anywhere; a file where a directory is wanted stops root too.
        std::fs::write(data.path().join("file"), "").unwrap();
        fails(&data.path().join("file/below"), &["init", "--member", "xx-agency", "--found", "x"], 3, "file/below");
        return;
    }
    std::fs::set_permissions(data.path(), std::fs::Permissions::from_mode(0o500)).unwrap();
    fails(&data.path().join("below"), &["init", "--member", "xx-agency", "--found", "x"], 3, "below");
}

fn nix_is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|metadata| std::os::unix::fs::MetadataExt::uid(&metadata) == 0)
}

#[test]
fn r_02_a_full_disk_acknowledges_nothing_and_loses_nothing() {
    // /dev/full answers every write with ENOSPC, as a full disk does: the newest segment is put there.
    let data = founded();
    assert_eq!(code(&huecry(data.path(), &["publish", "--value", "before.example"])), 0);
    let segment = data.path().join("ledger/journal/0000000001.seg");
    let aside = data.path().join("aside");
    // A file system of a few pages would need a mount; a limit on file size is what every user can set.
    std::fs::copy(&segment, &aside).unwrap();
    let length = std::fs::metadata(&segment).unwrap().len();
    let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" --data \"$1\" publish --value after.example", length / 1024 + 1);
    let list: String = (0..20_000).map(|number| format!("host-{number}.example\n")).collect();
    std::fs::write(data.path().join("list"), list).unwrap();
    let output = std::process::Command::new("bash")
        .args(["-c", &script.replace("--value after.example", "\"$2\""), env!("CARGO_BIN_EXE_huecry")])
        .arg(data.path())
        .arg(data.path().join("list"))
        .output()
        .unwrap();
    assert_eq!(code(&output), 3, "{}{}", stdout(&output), stderr(&output));
    assert_eq!(code(&huecry(data.path(), &["query", "before.example"])), 0, "what was acknowledged is there");
    assert_eq!(code(&huecry(data.path(), &["publish", "--value", "later.example"])), 0, "and with room it goes on");
}

#[test]
fn k_03_no_secret_can_be_given_as_an_argument() {
    let place = tempfile::tempdir().unwrap();
    for words in [&["key", "new", "root", "--out", "k", "--passphrase", "x"][..], &["run", "--passphrase", "x"], &["init", "--seed", "00"]]
    {
        fails(place.path(), words, 2, "unexpected argument");
    }
}

#[test]
fn n_12_nothing_speaks_quic_and_a_node_that_is_told_to_says_so() {
    let data = founded();
    let path = data.path().join("node.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    let listen = config.lines().find(|line| line.starts_with("listen")).unwrap();
    std::fs::write(&path, config.replace(listen, "listen = [\"/ip4/127.0.0.1/udp/0/quic-v1\"]")).unwrap();
    fails(data.path(), &["run"], 3, "nodes speak TCP only");
}

#[test]
fn top_shows_the_node_on_one_screen_without_a_value_also_where_there_is_no_terminal() {
    let data = founded();
    let _node = start(data.path());
    run(data.path(), &["publish", "--value", "evil-name.example", "--title", "Teapot"]);
    let said = stdout(&run(data.path(), &["top", "--once"]));
    for words in
        ["xx-agency (Test)", "charter 1, current", "Needs somebody", "Protecting", "Federation: 0 of 0 others connected", "this node"]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(said.lines().count() >= 20 && !said.contains("evil-name") && !said.contains("Teapot"), "{said}");
    let accepted = said.lines().find(|line| line.contains("accepted")).unwrap();
    assert_eq!(accepted.trim(), "2 accepted");
}

/// A huge page is resident from its first byte. With an allocator that asked for them 250 nodes of a simulation took 1.4 GB more, and the
/// slowest hundredth of all arrivals two seconds in place of half a second.
#[test]
fn a_node_takes_no_huge_pages() {
    let data = founded();
    let node = start(data.path());
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.0.id())).unwrap();
    let huge = status.lines().find_map(|line| line.strip_prefix("THP_enabled:")).map(str::trim);
    assert_eq!(huge, Some("0"));
}
