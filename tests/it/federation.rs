//! Real processes on loopback.

use crate::support::{code, founded, huecry, start, stderr, stdout, until};
use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

#[test]
fn the_main_job_runs_from_one_command_and_every_step_holds() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_huecry")).args(["demo", "--json"]).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let last = stdout(&output).lines().last().unwrap().to_owned();
    let summary: serde_json::Value = serde_json::from_str(&last).unwrap();
    assert_eq!(summary["nodes"], 6);
    assert_eq!(summary["records_delivered_everywhere"], true);
    assert_eq!(summary["restart_lost"], 0);
    assert!(summary["held"].as_u64() >= Some(1) && summary["rejected"].as_u64() >= Some(5), "{summary}");
}

#[test]
fn the_demo_publishes_a_list_of_ones_own() {
    let list = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(list.path(), "one.mine.example\ntwo.mine.example\n").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_huecry")).args(["demo", "--json", "--from"]).arg(list.path()).output().unwrap();
    let summary: serde_json::Value = serde_json::from_str(stdout(&output).lines().last().unwrap()).unwrap();
    assert_eq!((code(&output), summary["records_published"].as_u64()), (0, Some(8)), "{}", stderr(&output));
}

#[test]
fn a_second_process_uses_the_first_ones_window_and_a_second_node_is_refused() {
    let data = founded();
    let _node = start(data.path());
    assert_eq!(code(&huecry(data.path(), &["publish", "--value", "evil.example"])), 0);
    until("the value to be found", || code(&huecry(data.path(), &["query", "evil.example"])) == 0);
    let second = huecry(data.path(), &["run"]);
    assert_eq!(code(&second), 3);
    assert!(stderr(&second).contains("in use by another huecry"), "{}", stderr(&second));
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(data.path().join("huecry.sock")).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o660);
}

#[test]
fn a_port_in_use_is_said_at_once() {
    let data = founded();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("/ip4/127.0.0.1/tcp/{}", taken.local_addr().unwrap().port());
    let config = data.path().join("node.toml");
    let text = std::fs::read_to_string(&config).unwrap().replace("/ip4/127.0.0.1/tcp/0", &address);
    std::fs::write(&config, text).unwrap();
    let run = huecry(data.path(), &["run"]);
    assert_eq!(code(&run), 3);
    assert!(stderr(&run).contains("is another program using the port?"), "{}", stderr(&run));
}

#[test]
fn r_01_what_was_acknowledged_survives_kill_9_at_any_moment() {
    let data = founded();
    let mut acknowledged = Vec::new();
    for round in 0..4u64 {
        let mut node = start(data.path());
        let begun = Instant::now();
        for number in 0.. {
            let value = format!("round-{round}-{number}.example");
            if code(&huecry(data.path(), &["publish", "--value", &value])) == 0 {
                acknowledged.push(value);
            }
            // The moment differs with every machine and every run; it is printed if it ever matters.
            if begun.elapsed() > Duration::from_millis(150 + 97 * round) {
                break;
            }
        }
        node.0.kill().unwrap();
        node.0.wait().unwrap();
    }
    assert!(acknowledged.len() >= 4);
    for value in &acknowledged {
        let asked = huecry(data.path(), &["query", value]);
        assert_eq!(code(&asked), 0, "{value} was acknowledged and is lost: {}", stderr(&asked));
    }
}

#[test]
fn n_06_a_node_of_another_federation_gets_no_stream() {
    let (ours, theirs) = (founded(), founded());
    let _one = start(ours.path());
    let status: serde_json::Value = serde_json::from_slice(&huecry(ours.path(), &["--json", "status"]).stdout).unwrap();
    let address = status["network"]["listening"][0].as_str().unwrap().to_owned();
    // They dial us with our own peer id, as somebody would who found it.
    let config = theirs.path().join("node.toml");
    let peer = peer_of(ours.path());
    let text = std::fs::read_to_string(&config).unwrap().replace("dial = []", &format!("dial = [\"{address}/p2p/{peer}\"]"));
    std::fs::write(&config, text).unwrap();
    let _two = start(theirs.path());
    std::thread::sleep(Duration::from_secs(5));
    for data in [&ours, &theirs] {
        let status: serde_json::Value = serde_json::from_slice(&huecry(data.path(), &["--json", "status"]).stdout).unwrap();
        assert_eq!(status["network"]["peers"], serde_json::json!([]));
    }
}

fn peer_of(data: &Path) -> String {
    let text = std::fs::read_to_string(data.join("keys/node.key")).unwrap();
    let public = text.lines().find_map(|line| line.strip_prefix("public: ")).unwrap();
    let key: [u8; 32] = hex::decode(public).unwrap().try_into().unwrap();
    huecry::node::swarm::peer_id(&key).unwrap().to_string()
}

#[test]
fn what_is_imported_never_leaves_the_node() {
    let (hub, other) = (founded(), tempfile::tempdir().unwrap());
    let status: serde_json::Value = serde_json::from_slice(&huecry(hub.path(), &["--json", "status"]).stdout).unwrap();
    let federation = status["federation"].as_str().unwrap().to_owned();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = hub.path().join("node.toml");
    let text = std::fs::read_to_string(&config).unwrap().replace("/tcp/0", &format!("/tcp/{port}"));
    std::fs::write(&config, text).unwrap();
    let init = [
        "init",
        "--member",
        "xa-police",
        "--kind",
        "country",
        "--country",
        "XA",
        "--federation",
        &federation,
        "--listen",
        "/ip4/127.0.0.1/tcp/0",
    ];
    assert_eq!(code(&huecry(other.path(), &init)), 0);
    let request = other.path().join("request.huecry");
    assert_eq!(code(&huecry(hub.path(), &["admit", request.to_str().unwrap()])), 0);
    let invitation = hub.path().join("invitation.huecry");
    assert_eq!(code(&huecry(other.path(), &["join", invitation.to_str().unwrap()])), 0);
    let list = hub.path().join("list");
    std::fs::write(&list, "secret-canary.example\n").unwrap();
    assert_eq!(code(&huecry(hub.path(), &["import", list.to_str().unwrap(), "--as-is"])), 0);
    let (_one, _two) = (start(hub.path()), start(other.path()));
    assert_eq!(code(&huecry(hub.path(), &["publish", "--value", "open.example"])), 0);
    until("the open value to arrive", || code(&huecry(other.path(), &["query", "open.example"])) == 0);
    assert_eq!(code(&huecry(hub.path(), &["query", "secret-canary.example"])), 0);
    assert_eq!(code(&huecry(other.path(), &["query", "secret-canary.example"])), 1);
    let status = stdout(&huecry(other.path(), &["--json", "status"]));
    assert!(!status.contains("hub/imported") && !status.contains("xx-agency/imported"), "{status}");
}

#[test]
fn n_06_a_plaintext_peer_gets_no_further_than_the_refusal() {
    use std::io::{Read as _, Write as _};
    let data = founded();
    let _node = start(data.path());
    let status: serde_json::Value = serde_json::from_slice(&huecry(data.path(), &["--json", "status"]).stdout).unwrap();
    let address = status["network"]["listening"][0].as_str().unwrap().replace("/ip4/", "").replace("/tcp/", ":");
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    stream.write_all(b"\x13/multistream/1.0.0\n\x11/plaintext/2.0.0\n").unwrap();
    let begun = Instant::now();
    let mut answer = Vec::new();
    // Whether it closes in order or resets, it ends.
    let _ended = stream.read_to_end(&mut answer);
    assert!(begun.elapsed() < Duration::from_secs(12), "cut within ten seconds");
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.contains("na\n") && !answer.contains("plaintext"), "{answer}");
}
