//! Pulling from servers: OASIS's own TAXII server, a MISP feed, and servers that should not be asked.

use crate::{
    importing::file,
    support::{code, founded, huecry, json_of, port, start, stderr, until},
};
use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

/// A server of a test, ended with it.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn python(words: &[&str]) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(root.join("target/interop/venv/bin/python"));
    command.args(words).current_dir(root.join("tests/interop")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn indicator(number: u32, more: &str) -> String {
    format!(
        r#"{{"type":"indicator","spec_version":"2.1","id":"indicator--0d0d0d0d-0000-4000-8000-{number:012}","created":"2026-01-01T00:00:00.000Z",
        "modified":"2026-01-0{}T00:00:00.000Z","pattern":"[domain-name:value = 'n{number}.example']","pattern_type":"stix",
        "valid_from":"2026-01-01T00:00:00Z"{more}}}"#,
        if more.is_empty() { 1 } else { 2 }
    )
}

fn bundle(objects: &[String]) -> String {
    format!(r#"{{"type":"bundle","id":"bundle--0d0d0d0d-0000-4000-8000-000000000000","objects":[{}]}}"#, objects.join(","))
}

/// A node with this at the end of its configuration.
fn configured(more: &str) -> tempfile::TempDir {
    let data = founded();
    let config = data.path().join("node.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(
        &config,
        format!("{text}\n[[sources]]\nname = \"lab\"\ntlp = \"green\"\nconfidence = 60\nvalid_days = 30\n[sources.pull]\n{more}"),
    )
    .unwrap();
    data
}

fn count(reply: &serde_json::Value, what: &str) -> u64 {
    reply[what].as_u64().unwrap_or_else(|| panic!("{what}: {reply}"))
}

#[test]
fn a_taxii_collection_is_pulled_page_by_page_and_goes_on_where_it_was() {
    if std::env::var_os("HUECRY_INTEROP").is_none() {
        println!("skipped: scripts/test sets up the TAXII server");
        return;
    }
    let place = port().to_string();
    let _server = Server(python(&["taxii_server.py", &place, "2"]).spawn().unwrap());
    let add = |data: &Path, objects: &[String]| {
        let path = file(data, "objects.json", &bundle(objects));
        assert!(python(&["taxii_add.py", &place, &path]).status().unwrap().success());
    };
    let url = format!("http://127.0.0.1:{place}/api1/collections/365fed99-08fa-4fdc-a1b3-fb247eb41d01/");
    let access = "user = \"reader\"\npassword_file = \"password\"\n";
    let data = configured(&format!("type = \"taxii\"\nurl = \"{url}\"\nevery = \"1s\"\nallow = [\"127.0.0.0/8\"]\n{access}"));
    let pull = || huecry(data.path(), &["--json", "pull", "lab"]);
    std::fs::write(data.path().join("password"), "wrong\n").unwrap();
    add(data.path(), &[indicator(1, ""), indicator(2, ""), indicator(3, "")]);
    let refused = pull();
    assert!(code(&refused) == 2 && stderr(&refused).contains("127.0.0.1 answers 401; look at `user`"), "{}", stderr(&refused));
    let status = json_of(&huecry(data.path(), &["--json", "status"]));
    assert!(status["alarms"].to_string().contains("source `lab` could not be pulled"), "{status}");

    std::fs::write(data.path().join("password"), "only-for-tests\n").unwrap();
    let tried = huecry(data.path(), &["--json", "pull", "lab", "--dry-run"]);
    assert_eq!(count(&json_of(&tried), "records"), 3, "{}", stderr(&tried));
    let first = pull();
    assert_eq!(code(&first), 0, "{}", stderr(&first));
    assert_eq!(count(&json_of(&first), "records"), 3);
    assert_eq!(code(&huecry(data.path(), &["query", "n3.example"])), 0, "from the second page");
    assert_eq!(count(&json_of(&pull()), "fetched"), 0, "nothing came since");

    // Something new and something taken back: only that is fetched.
    add(data.path(), &[indicator(4, ""), indicator(1, ",\"revoked\":true")]);
    let next = json_of(&pull());
    assert_eq!((count(&next, "records"), count(&next, "withdrawn")), (1, 1), "{next}");
    assert_eq!(code(&huecry(data.path(), &["query", "n1.example"])), 1);

    // A running node does it by itself.
    let _running = start(data.path());
    add(data.path(), &[indicator(5, "")]);
    until("the node to pull", || code(&huecry(data.path(), &["query", "n5.example"])) == 0);
}

#[test]
fn a_misp_feed_is_pulled_event_by_event_and_only_what_has_changed() {
    let Ok(found) = Command::new("python3").arg("--version").output() else { return };
    assert!(found.status.success());
    let feed = tempfile::tempdir().unwrap();
    let event = |number: u32, value: &str, stamp: u32| {
        let uuid = format!("0e0e0e0e-0000-4000-8000-{number:012}");
        let text = format!(
            r#"{{"Event":{{"uuid":"{uuid}","info":"Event {number}","date":"2026-02-01","Orgc":{{"name":"Example CERT"}},"Tag":[{{"name":"tlp:green"}}],
            "Attribute":[{{"uuid":"0e0e0e0e-0000-4000-9000-{number:012}","type":"domain","value":"{value}","to_ids":true}}]}}}}"#
        );
        file(feed.path(), &format!("{uuid}.json"), &text);
        format!(r#""{uuid}":{{"timestamp":"{stamp}","info":"x"}}"#)
    };
    let manifest = |events: &[String]| file(feed.path(), "manifest.json", &format!("{{{}}}", events.join(",")));
    let (one, two) = (event(1, "one.example", 1), event(2, "two.example", 1));
    // A name that leads out of the feed is no event.
    manifest(&[one.clone(), two, r#""../../../etc/passwd":{"timestamp":"1"}"#.to_owned()]);
    let place = port().to_string();
    let server = Command::new("python3")
        .args(["-m", "http.server", "--bind", "127.0.0.1", "--directory", feed.path().to_str().unwrap(), &place])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let _server = Server(server.unwrap());
    until("the server", || std::net::TcpStream::connect(format!("127.0.0.1:{place}")).is_ok());
    let data = configured(&format!("type = \"misp-feed\"\nurl = \"http://127.0.0.1:{place}/\"\nallow = [\"127.0.0.0/8\"]\n"));
    let pull = || {
        let output = huecry(data.path(), &["--json", "pull", "lab"]);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        json_of(&output)
    };
    let first = pull();
    assert_eq!((count(&first, "records"), count(&first, "reports")), (2, 2), "{first}");
    assert_eq!(count(&pull(), "fetched"), 0);
    manifest(&[one, event(2, "three.example", 2)]);
    let second = pull();
    assert_eq!((count(&second, "records"), count(&second, "unchanged"), count(&second, "withdrawn")), (1, 0, 1), "{second}");
    assert_eq!(code(&huecry(data.path(), &["query", "two.example"])), 1, "the value under its id was changed");
    let answer = json_of(&huecry(data.path(), &["--json", "query", "one.example"]));
    assert_eq!(answer["values"][0]["assertions"][0]["title"], "Event 1");
}

#[test]
fn a_07_a_source_inside_or_one_that_sends_elsewhere_is_refused_and_said() {
    let place = port();
    let listener = std::net::TcpListener::bind(("127.0.0.1", place)).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let mut request = [0; 4096];
            let _read = std::io::Read::read(&mut stream, &mut request);
            let _written = std::io::Write::write_all(
                &mut stream,
                b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/latest\r\nContent-Length: 0\r\n\r\n",
            );
        }
    });
    let refused = |more: &str, words: &str| {
        let data = configured(more);
        let output = huecry(data.path(), &["pull", "lab"]);
        assert!(code(&output) == 2 && stderr(&output).contains(words), "{more}: {}", stderr(&output));
    };
    let url = format!("http://127.0.0.1:{place}/list.txt");
    refused(&format!("type = \"file\"\nurl = \"{url}\"\n"), "127.0.0.1, which is inside");
    refused("type = \"file\"\nurl = \"https://localhost:1/x\"\n", "which is inside");
    refused("type = \"file\"\nurl = \"http://[::ffff:169.254.169.254]/x\"\n", "which is inside");
    refused(&format!("type = \"file\"\nurl = \"{url}\"\nallow = [\"127.0.0.0/8\"]\n"), "sends elsewhere, to http://169.254.169.254/latest");
    refused("type = \"taxi\"\nurl = \"https://a.example/\"\n", "did you mean `taxii`?");
}

/// A helper of this folder, run by whatever Python there is, once it answers.
fn helper(script: &str, port: u16, words: &[&str]) -> Option<Server> {
    Command::new("python3").arg("--version").output().ok()?;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop").join(script);
    let mut command = Command::new("python3");
    command.arg(path).arg(port.to_string()).args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let server = Server(command.spawn().unwrap());
    until("the server to listen", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    Some(server)
}

#[test]
fn case_25_a_collection_is_read_to_its_end_whatever_the_habits_of_its_server() {
    let place = port();
    let Some(_server) = helper("taxii_habits.py", place, &[]) else { return };
    for (mode, values, whole) in [("A", 6, true), ("B", 6, true), ("C", 2, false), ("E", 6, true), ("F", 6, true), ("G", 6, true)] {
        let url = format!("http://127.0.0.1:{place}/{mode}/api/collections/x/");
        let data = configured(&format!("type = \"taxii\"\nurl = \"{url}\"\nevery = \"1h\"\nallow = [\"127.0.0.0/8\"]\n"));
        for _time in 0..2 {
            let pulled = huecry(data.path(), &["--json", "pull", "lab"]);
            assert_eq!(code(&pulled), 0, "{mode}: {}", stderr(&pulled));
            assert_eq!(!stderr(&pulled).contains("not everything came"), whole, "{mode}: {}", stderr(&pulled));
        }
        let found = json_of(&huecry(data.path(), &["--json", "query", "--record", "indicator", "--limit", "100"]));
        assert_eq!(found["values"].as_array().unwrap().len(), values, "{mode}: {found}");
    }
}

#[test]
fn case_33_a_feed_that_answers_with_a_page_or_with_nothing_changes_nothing() {
    let (place, state) = (port(), tempfile::tempdir().unwrap());
    let state = state.path().join("state");
    std::fs::write(&state, "few").unwrap();
    let Some(_server) = helper("feed_moods.py", place, &[state.to_str().unwrap()]) else { return };
    let url = format!("http://127.0.0.1:{place}/list.txt");
    let data = configured(&format!("type = \"file\"\nurl = \"{url}\"\nevery = \"1h\"\nmode = \"mirror\"\nallow = [\"127.0.0.0/8\"]\n"));
    let values = || {
        let found = json_of(&huecry(data.path(), &["--json", "query", "--record", "indicator", "--limit", "100"]));
        found["values"].as_array().unwrap().len()
    };
    let pull = || huecry(data.path(), &["--json", "pull", "lab"]);
    assert_eq!((code(&pull()), values()), (0, 5));
    for (mood, why) in [("html", "web page"), ("comments", "lacks 5 of the 5"), ("empty", "")] {
        std::fs::write(&state, mood).unwrap();
        let pulled = pull();
        assert!(code(&pulled) != 0 && stderr(&pulled).contains(why), "{mood}: {}", stderr(&pulled));
        assert_eq!(values(), 5, "{mood}");
    }
    std::fs::write(&state, "good").unwrap();
    assert_eq!((code(&pull()), values()), (0, 40));
    std::fs::write(&state, "half").unwrap();
    assert!(code(&pull()) != 0);
    assert_eq!(values(), 40);
}
