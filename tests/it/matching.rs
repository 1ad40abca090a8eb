//! `huecry match`: logs as real tools write them, against what a node knows.

use crate::support::{Three, code, founded, huecry, run, stderr, stdout, until};
use std::{
    io::{Read as _, Write as _},
    path::Path,
    process::{Command, Output, Stdio},
};

const VALUES: [&str; 7] = [
    "bad.example",
    "198.51.100.0/24",
    "2001:db8::bad",
    "http://evil.example/drop?id=1",
    "d41d8cd98f00b204e9800998ecf8427e",
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "phish@mail.example",
];

/// A log, and which of its lines name something that is known, from 1.
const LOGS: [(&str, &str, &[u64]); 11] = [
    (
        "zeek dns.log",
        "#separator \\x09\n#fields\tts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\ttrans_id\trtt\tquery\n\
         1764150000.000001\tCxT9dR1\t192.0.2.1\t5353\t192.0.2.53\t53\tudp\t7\t0.001\tgood.example\n\
         1764150001.000001\tCxT9dR2\t192.0.2.1\t5353\t192.0.2.53\t53\tudp\t8\t0.001\tbad.example\n",
        &[4],
    ),
    (
        "zeek conn.log, JSON",
        "{\"ts\":1764150000.1,\"uid\":\"C1\",\"id.orig_h\":\"192.0.2.1\",\"id.orig_p\":1,\"id.resp_h\":\"198.51.100.9\",\"id.resp_p\":443}\n\
         {\"ts\":1764150000.2,\"uid\":\"C2\",\"id.orig_h\":\"192.0.2.1\",\"id.orig_p\":1,\"id.resp_h\":\"198.51.101.9\",\"id.resp_p\":443}\n\
         {\"ts\":1764150000.3,\"uid\":\"C3\",\"id.orig_h\":\"2001:db8::1\",\"id.orig_p\":1,\"id.resp_h\":\"2001:db8:0::bad\",\"id.resp_p\":443}\n",
        &[1, 3],
    ),
    (
        "zeek files.log",
        "1764150000.1\tFq1\t192.0.2.1\tHTTP\tapplication/x-dosexec\td41d8cd98f00b204e9800998ecf8427e\tda39a3ee5e6b4b0d3255bfef95601890afd80709\n",
        &[1],
    ),
    ("zeek http.log", "1764150000.1\tC1\t192.0.2.1\t1\t192.0.2.80\t80\t1\tGET\tbad.example\t/index.html\t-\t1.1\tcurl/8.0\n", &[1]),
    (
        "suricata eve.json",
        "{\"timestamp\":\"2026-11-26T10:00:00.000000+0000\",\"event_type\":\"dns\",\"src_ip\":\"192.0.2.1\",\"dns\":{\"rrname\":\"BAD.example\"}}\n\
         {\"timestamp\":\"2026-11-26T10:00:01.000000+0000\",\"event_type\":\"http\",\"http\":{\"hostname\":\"x.example\",\"url\":\"http:\\/\\/evil.example\\/drop?id=1\"}}\n\
         {\"timestamp\":\"2026-11-26T10:00:02.000000+0000\",\"event_type\":\"fileinfo\",\"fileinfo\":{\"sha256\":\"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"}}\n",
        &[1, 2, 3],
    ),
    (
        "bind query log",
        "26-Nov-2026 10:00:00.000 queries: info: client @0x7f1 192.0.2.1#40000 (bad.example): query: bad.example IN A +E(0)K (192.0.2.53)\n\
         26-Nov-2026 10:00:01.000 queries: info: client @0x7f1 192.0.2.1#40000 (notbad.example): query: notbad.example IN A + (192.0.2.53)\n",
        &[1],
    ),
    (
        "dnsmasq log",
        "Nov 26 10:00:00 dnsmasq[7]: query[AAAA] bad.example from 192.0.2.1\nNov 26 10:00:00 dnsmasq[7]: reply x.example is 198.51.100.1\n",
        &[1, 2],
    ),
    (
        "nginx combined",
        "198.51.100.20 - - [26/Nov/2026:10:00:00 +0000] \"GET /a HTTP/1.1\" 200 5 \"-\" \"curl/8\"\n\
         192.0.2.9 - - [26/Nov/2026:10:00:00 +0000] \"GET /a HTTP/1.1\" 200 5 \"http://evil.example/drop?id=1\" \"curl/8\"\n",
        &[1, 2],
    ),
    (
        "squid access.log",
        "1764150000.123    200 192.0.2.1 TCP_MISS/200 512 GET http://evil.example/drop?id=1 - HIER_DIRECT/192.0.2.80 text/html\n",
        &[1],
    ),
    (
        "postfix, by syslog",
        "Nov 26 10:00:00 mx postfix/smtpd[1]: NOQUEUE: reject: RCPT from unknown[192.0.2.25]; from=<phish@MAIL.example> to=<a@b.example>\n",
        &[1],
    ),
    (
        "netfilter, by syslog",
        "Nov 26 10:00:00 fw kernel: IN=eth0 OUT= SRC=192.0.2.4 DST=198.51.100.44 LEN=60 PROTO=TCP SPT=4444 DPT=443\n",
        &[1],
    ),
];

fn publish(data: &Path, values: &[&str]) {
    let mut words = vec!["publish", "--tlp", "green", "--title", "seen in the wild", "--confidence", "80"];
    values.iter().for_each(|value| words.extend(["--value", value]));
    run(data, &words);
}

/// Runs `match` over `log` on its standard input.
fn matched(data: &Path, words: &[&str], log: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_huecry"))
        .args(["--json", "--data"])
        .arg(data)
        .arg("match")
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(log).unwrap();
    child.wait_with_output().unwrap()
}

fn values_of(output: &Output) -> Vec<serde_json::Value> {
    stdout(output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The numbers of the lines that hit, and the summary.
fn lines_of(output: &Output) -> (Vec<u64>, serde_json::Value) {
    let mut values = values_of(output);
    let summary = values.pop().unwrap();
    (values.iter().map(|one| one["line"].as_u64().unwrap()).collect(), summary)
}

#[test]
fn logs_of_real_tools_are_looked_through_in_every_field() {
    let data = founded();
    publish(data.path(), &VALUES);
    for (name, log, expected) in LOGS {
        let output = matched(data.path(), &[], log.as_bytes());
        let (lines, summary) = lines_of(&output);
        assert_eq!(lines, expected, "{name}: {}", stdout(&output));
        assert_eq!(summary["lines"], log.lines().count() as u64, "{name}");
        // The same from a file, packed.
        let path = data.path().join("log.gz");
        let mut packed = flate2::write::GzEncoder::new(std::fs::File::create(&path).unwrap(), flate2::Compression::fast());
        packed.write_all(log.as_bytes()).unwrap();
        packed.finish().unwrap();
        let output = matched(data.path(), &[&path.display().to_string()], b"");
        assert_eq!(lines_of(&output).0, expected, "{name}, packed");
    }
}

#[test]
fn a_hit_says_which_indicator_who_why_and_how_sure() {
    let data = founded();
    publish(data.path(), &VALUES);
    let output = matched(data.path(), &[], b"first\nto 198.51.100.7 and bad.example\n");
    let values = values_of(&output);
    let hits = values[0]["hits"].as_array().unwrap();
    let of = |indicator: &str| hits.iter().find(|hit| hit["indicator"] == indicator).unwrap_or_else(|| panic!("{hits:?}"));
    assert_eq!(of("198.51.100.0/24")["seen"], "198.51.100.7");
    assert_eq!((&of("bad.example")["title"], &of("bad.example")["confidence"]), (&"seen in the wild".into(), &80.into()));
    assert_eq!(of("bad.example")["origins"][0], "xx-agency");
    let plain = huecry(data.path(), &["match", &data.path().join("nothing").display().to_string()]);
    assert_eq!(code(&plain), 2, "{}", stderr(&plain));
    let none = matched(data.path(), &[], b"nothing at all\n");
    assert_eq!(code(&none), 1, "as grep does");
}

#[test]
fn what_lies_below_a_domain_hits_only_where_its_author_says_so() {
    let data = founded();
    run(data.path(), &["publish", "--tlp", "green", "--value", "wide.example", "--subdomains"]);
    publish(data.path(), &["narrow.example"]);
    let (lines, _) = lines_of(&matched(data.path(), &[], b"a.b.wide.example\nwide.example\na.narrow.example\nnarrow.example\n"));
    assert_eq!(lines, [1, 2, 4]);
}

#[test]
fn what_was_taken_back_or_is_over_hits_no_more() {
    let data = founded();
    publish(data.path(), &["bad.example", "worse.example"]);
    run(data.path(), &["withdraw", "bad.example", "--reason", "wrong"]);
    let (lines, _) = lines_of(&matched(data.path(), &[], b"bad.example\nworse.example\n"));
    assert_eq!(lines, [2]);
}

#[test]
fn old_logs_are_matched_against_what_is_new_since_a_cursor() {
    let data = founded();
    publish(data.path(), &["old.example"]);
    let log = b"old.example\nnew.example\n";
    let (lines, summary) = lines_of(&matched(data.path(), &[], log));
    assert_eq!(lines, [1]);
    let cursor = summary["cursor"].to_string();
    assert_eq!(code(&matched(data.path(), &["--new-since", &cursor], log)), 1);
    publish(data.path(), &["new.example"]);
    let (lines, _) = lines_of(&matched(data.path(), &["--new-since", &cursor], log));
    assert_eq!(lines, [2]);
}

#[test]
fn a_log_that_is_being_written_is_followed() {
    let data = founded();
    publish(data.path(), &["bad.example"]);
    let _node = crate::support::start(data.path());
    let mut child = Command::new(env!("CARGO_BIN_EXE_huecry"))
        .args(["--data"])
        .arg(data.path())
        .arg("match")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut log, mut out) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    log.write_all(b"a line\nquery: bad.example\nthe next").unwrap();
    log.flush().unwrap();
    // It is said while the log goes on.
    let mut said = [0; 64];
    let length = out.read(&mut said).unwrap();
    assert!(String::from_utf8_lossy(&said[..length]).contains("stdin:2: query: bad.example"));
    drop(log);
    assert!(child.wait().unwrap().success());
}

#[test]
fn what_was_seen_is_said_to_its_author_after_asking() {
    let three = Three::new();
    let (_agency, _police) = (three.start("agency"), three.start("police"));
    three.publish("agency", &["bad.example"], &[]);
    until("the police to have it", || three.finds("police", "bad.example"));
    let police = three.of("police");
    let log = b"bad.example\nbad.example\n";
    // Nobody is at the keyboard, so nothing is published.
    let refused = matched(&police, &["--sighting"], log);
    assert_eq!(code(&refused), 2, "{}", stderr(&refused));
    let said = matched(&police, &["--sighting", "--yes"], log);
    assert_eq!(code(&said), 0, "{}", stderr(&said));
    let agency = three.of("agency");
    until("the author to know", || stdout(&huecry(&agency, &["explain", "bad.example"])).contains("sighting    seen 2x by xa-police"));
}

#[test]
fn a_line_without_an_end_or_of_rubbish_is_looked_through_in_peace() {
    let data = founded();
    publish(data.path(), &["bad.example"]);
    let mut log = vec![b'x'; 3 << 20];
    log.extend(b" bad.example ");
    log.extend([0, 0xff, 0xfe, 0x80]);
    let (lines, summary) = lines_of(&matched(data.path(), &[], &log));
    assert_eq!((lines, &summary["lines"]), (vec![1], &1.into()));
}
