//! Decisions as CrowdSec's clients take them: a real one blocks and lets go in a network of its own.

use crate::{
    support::{code, huecry, json_of, run, until},
    tools::{Server, done, serve, there},
    window::{get, open_window, send, token},
};
use std::{
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

const EDGE: &str = "[[outlets]]\nname = \"edge\"\ntypes = [\"ipv4\", \"ipv6\", \"cidr\", \"domain\"]\n";

fn publish(data: &Path, values: &str) {
    let list = data.join("list.txt");
    std::fs::write(&list, values).unwrap();
    let about = ["--confidence", "95", "--use", "block", "--valid-days", "3"];
    run(data, &[&["publish", list.to_str().unwrap()][..], &about].concat());
}

fn lines(data: &Path, mode: &str) -> u64 {
    let outlets = json_of(&huecry(data, &["--json", "outlets"]));
    outlets[0]["origins"][0][mode].as_u64().unwrap_or(0)
}

/// Lets an outlet act, with everything that our own member says.
fn promote(data: &Path) {
    until("lines to be watched", || lines(data, "monitored") > 0);
    run(data, &["outlets", "promote", "edge"]);
    run(data, &["outlets", "promote", "edge", "--origin", "xx-agency"]);
    until("lines to be enforced", || lines(data, "enforced") > 0);
}

#[test]
fn a_real_bouncer_blocks_an_address_when_its_record_comes_and_lets_go_when_it_is_withdrawn() {
    if !["crowdsec-firewall-bouncer", "nft", "unshare", "nsenter", "ip"].iter().all(|program| there(program)) {
        return;
    }
    let private = Command::new("unshare").args(["--net", "true"]).status().unwrap().success();
    assert!(private || std::env::var_os("CI").is_none() || std::env::var_os("HUECRY_NO_NAMESPACES").is_some());
    if !private {
        println!("skipped: no network namespace may be made here");
        return;
    }
    let (data, port) = open_window(EDGE);
    // Whoever sleeps in it keeps the network.
    let keeper = Command::new("unshare").args(["--net", "sh", "-c", "ip link set lo up && exec sleep 600"]).spawn();
    let keeper = Server(keeper.unwrap());
    let place = format!("--net=/proc/{}/ns/net", keeper.0.id());
    until("the network", || done("nsenter", &[&place, "ip", "addr", "show", "lo"]).contains("inet 127.0.0.1"));
    let log = std::fs::File::create(data.path().join("log")).unwrap();
    let mut node = Command::new("nsenter");
    node.args([&place, env!("CARGO_BIN_EXE_huecry"), "--data"]).arg(data.path()).arg("run").stderr(log).stdout(Stdio::null());
    let _node = Server(node.spawn().unwrap());
    until("the node to answer", || json_of(&huecry(data.path(), &["--json", "status"]))["running"] == true);
    publish(data.path(), "192.0.2.7\n198.51.100.0/24\n2001:db8::7\nc2.example\n");
    promote(data.path());
    let key = token(data.path(), &["firewall", "--outlet", "edge"]);
    let config = format!(
        "mode: nftables\npid_dir: {0}\nupdate_frequency: 1s\ndaemonize: false\nlog_mode: stdout\nlog_dir: {0}\nlog_level: debug\n\
         api_url: http://127.0.0.1:{port}/\napi_key: {key}\ndisable_ipv6: false\ndeny_action: DROP\ndeny_log: false\n\
         supported_decisions_types:\n  - ban\nblacklists_ipv4: crowdsec-blacklists\nblacklists_ipv6: crowdsec6-blacklists\n\
         nftables:\n  ipv4:\n    enabled: true\n    set-only: false\n    table: crowdsec\n    chain: crowdsec-chain\n\
         \x20 ipv6:\n    enabled: true\n    set-only: false\n    table: crowdsec6\n    chain: crowdsec6-chain\n\
         prometheus:\n  enabled: false\n",
        data.path().display()
    );
    let file = data.path().join("bouncer.yaml");
    std::fs::write(&file, config).unwrap();
    let said = data.path().join("bouncer.log");
    let _bouncer = serve("nsenter", &[&place, "crowdsec-firewall-bouncer", "-c", file.to_str().unwrap()], &said);
    let blocks = |value: &str| done("nsenter", &[&place, "nft", "list", "ruleset"]).contains(value);
    until("the bouncer to block what was there", || blocks("192.0.2.7") && blocks("2001:db8::7") && blocks("198.51.100.0"));
    let begun = Instant::now();
    publish(data.path(), "203.0.113.9\n");
    until("the bouncer to block what came", || blocks("203.0.113.9"));
    println!("blocked {} ms after it was published, by a bouncer that asks once a second", begun.elapsed().as_millis());
    let begun = Instant::now();
    run(data.path(), &["withdraw", "192.0.2.7", "--reason", "wrong"]);
    until("the bouncer to let go", || !blocks("192.0.2.7"));
    println!("let go {} ms after it was withdrawn", begun.elapsed().as_millis());
    run(data.path(), &["unblock", "203.0.113.9", "--reason", "ours"]);
    until("the bouncer to let go of what an operator unblocked", || !blocks("203.0.113.9"));
    assert!(blocks("198.51.100.0") && !blocks("c2.example"));
}

#[test]
fn decisions_are_an_outlets_and_nobody_elses_and_say_nothing_that_is_only_watched() {
    let (data, port) = open_window(&format!("{EDGE}[[outlets]]\nname = \"ears\"\nuse = \"alert\"\ntypes = [\"ipv4\"]\n"));
    let _node = crate::support::start(data.path());
    publish(data.path(), "192.0.2.7\n198.51.100.0/24\n");
    let (key, person) = (token(data.path(), &["firewall", "--outlet", "edge"]), token(data.path(), &["laptop"]));
    let ears = token(data.path(), &["sensor", "--outlet", "ears"]);
    let asked = |path: &str, key: &str| {
        send(
            port,
            &format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nX-Api-Key: {key}\r\nUser-Agent: t/1\r\nConnection: close\r\n\r\n"),
        )
    };
    let whole = |key: &str| asked("/v1/decisions/stream?startup=true&scopes=ip,range&unknown=1", key).json();
    until("lines to be watched", || lines(data.path(), "monitored") > 0);
    assert_eq!(whole(&key), serde_json::json!({"new": [], "deleted": []}), "what is only watched is blocked by nobody");
    promote(data.path());
    until("both to be decided", || whole(&key)["new"].as_array().unwrap().len() == 2);
    assert_eq!(asked("/v1/decisions?ip=198.51.100.77", &key).json()[0]["value"], "198.51.100.0/24");
    assert_eq!(asked("/v1/decisions?ip=203.0.113.1", &key).body, "null");
    assert_eq!(asked("/v1/decisions?ip=rubbish%00", &key).status, 400);
    assert_eq!((get(port, "/v1/decisions/stream", &person).status, asked("/v1/decisions/stream", &ears).status), (403, 403));
    // A client that comes back after the node was away hears what was taken back meanwhile.
    drop(_node);
    assert_eq!(code(&huecry(data.path(), &["withdraw", "192.0.2.7", "--reason", "wrong"])), 0);
    let _node = crate::support::start(data.path());
    let mut gone = serde_json::Value::Null;
    until("what was withdrawn to be let go", || {
        gone = asked("/v1/decisions/stream?startup=false", &key).json();
        gone["deleted"].as_array().is_some_and(|all| all.iter().any(|one| one["value"] == "192.0.2.7"))
    });
    assert!(gone["new"].as_array().unwrap().iter().any(|one| one["value"] == "198.51.100.0/24"), "{gone}");
}
