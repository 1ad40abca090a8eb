//! Who was shown what: every way out of the node that shows something marked narrowly is noted before it shows it, and only auditors read that.

use crate::{
    support::{code, huecry, json_of, run, start, stderr, stdout, until},
    window::{Answer, get, open_window_of, post, send, token},
};
use serde_json::{Value, json};
use std::path::Path;

const EDGE: &str = "[[outlets]]\nname = \"edge\"\ntypes = [\"ipv4\"]\ntlp_max = \"amber\"\n";

/// A node with a channel for what is not for everybody, and its window.
fn open_window(more: &str) -> (tempfile::TempDir, u16) {
    let data = tempfile::tempdir().unwrap();
    let found = ["init", "--member", "xx-agency", "--found", "Test", "--listen", "/ip4/127.0.0.1/tcp/0"];
    run(data.path(), &[&found[..], &["--channel", "leads=named:xx-agency"]].concat());
    open_window_of(data, more)
}

/// Publishes values under a marking, and answers the name of the first one's record.
fn publish(data: &Path, values: &[&str], tlp: &str) -> String {
    let list = data.join("list.txt");
    std::fs::write(&list, values.join("\n")).unwrap();
    let about = ["--tlp", tlp, "--confidence", "95", "--use", "block", "--valid-days", "3", "--title", "Operation Teapot"];
    let channel = if tlp == "amber" { "leads" } else { "indicators" };
    run(data, &[&["publish", list.to_str().unwrap(), "--channel", channel][..], &about].concat());
    let found = json_of(&run(data, &["--json", "--because", "setting up", "query", values[0]]));
    found["values"][0]["assertions"][0]["reference"].as_str().unwrap().to_owned()
}

fn because(port: u16, path: &str, token: &str, reason: &str) -> Answer {
    let reason = format!("Huecry-Reason: {reason}");
    send(
        port,
        &format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n{reason}\r\nConnection: close\r\n\r\n"),
    )
}

/// What an auditor is told of a record: who by what way.
fn looks(data: &Path, record: &str) -> Vec<(String, String, String)> {
    let reply = json_of(&huecry(data, &["--json", "audit", record]));
    let text = |line: &Value, name: &str| line[name].as_str().unwrap_or("-").to_owned();
    let lines = reply["lines"].as_array().unwrap_or_else(|| panic!("{reply}"));
    lines.iter().map(|line| (text(line, "who"), text(line, "how"), text(line, "why"))).collect()
}

fn log_of(data: &Path) -> String {
    let mut days: Vec<_> = std::fs::read_dir(data.join("access")).unwrap().map(|entry| entry.unwrap().path()).collect();
    days.sort();
    days.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

#[test]
fn every_way_to_see_an_amber_record_is_noted_with_who_when_and_why_and_no_value() {
    let (data, port) = open_window("");
    let _node = start(data.path());
    let secret = publish(data.path(), &["192.0.2.66", "198.51.100.66"], "amber");
    let open = publish(data.path(), &["192.0.2.1"], "green");
    let dora = token(data.path(), &["dora", "--roles", "reads"]);
    let siem = token(data.path(), &["siem", "--roles", "reads", "--purpose", "feeds the SIEM"]);
    let collections = get(port, "/taxii2/api/collections/", &siem).json();
    let all: Vec<&str> = collections["collections"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!(because(port, "/v1/query?value=192.0.2.66", &dora, "case%204711").status, 200);
    assert_eq!(get(port, "/v1/explain?what=192.0.2.66", &dora).status, 200);
    for format in ["csv", "stix", "list", "json"] {
        assert_eq!(because(port, &format!("/v1/export?format={format}"), &dora, format).status, 200);
    }
    let seen = json!({ "values": [{ "type": "ipv4", "value": "192.0.2.66" }, { "type": "ipv4", "value": "192.0.2.99" }] });
    assert_eq!(post(port, "/v1/match", &dora, &seen).status, 200);
    assert_eq!(get(port, "/v1/subject?what=192.0.2.66", &dora).status, 200);
    for collection in &all {
        assert_eq!(get(port, &format!("/taxii2/api/collections/{collection}/objects/"), &siem).status, 200);
    }
    assert_eq!(get(port, "/v1/match/keys", &dora).status, 200);
    assert_eq!(get(port, "/v1/query?value=192.0.2.1", &dora).status, 200);
    assert_eq!(get(port, "/v1/query?value=203.0.113.1", &dora).status, 200);
    let me = looks(data.path(), &secret)[0].0.clone();
    let by = |name: &str| format!("{me} (token {name})");
    let line = |who: &str, how: &str, why: &str| (who.to_owned(), how.to_owned(), why.to_owned());
    let expected = [
        line(&me, "query", "setting up"),
        line(&by("dora"), "query", "case 4711"),
        line(&by("dora"), "explain", "-"),
        line(&by("dora"), "export", "csv"),
        line(&by("dora"), "export", "stix"),
        line(&by("dora"), "export", "list"),
        line(&by("dora"), "export", "json"),
        line(&by("dora"), "match", "-"),
        line(&by("dora"), "subject", "-"),
        line(&by("siem"), "taxii2", "feeds the SIEM"),
        // From hashes of all values all values can be tried.
        line(&by("dora"), "match/keys", "-"),
    ];
    assert_eq!(looks(data.path(), &secret), expected);
    // The report was seen too, where its title was shown.
    let report = json_of(&huecry(data.path(), &["--json", "explain", &secret]))["records"][0]["report"].as_str().unwrap().to_owned();
    assert!(looks(data.path(), &report).contains(&line(&by("dora"), "query", "case 4711")));
    let of_open = looks(data.path(), &open);
    assert!(of_open.iter().all(|(_, how, _)| how == "match/keys"), "what everybody may know is not noted: {of_open:?}");
    // Neither values nor titles stand in it.
    let log = log_of(data.path());
    assert!(!["192.0.2.66", "198.51.100.66", "Teapot"].iter().any(|word| log.contains(word)), "{log}");
    // The same look again within the hour is no line more.
    let lines = log.lines().count();
    assert_eq!(because(port, "/v1/query?value=192.0.2.66", &dora, "case%204711").status, 200);
    assert!(log_of(data.path()).lines().count() <= lines + 1, "an hour may have begun");
    // For a person.
    let said = stdout(&huecry(data.path(), &["audit", &secret]));
    assert!(said.contains("dora") && said.contains("because case 4711") && !said.contains("192.0.2.66"), "{said}");
    assert_eq!(
        looks(data.path(), &secret).len(),
        json_of(&huecry(data.path(), &["--json", "audit", "--who", &me, &secret]))["lines"].as_array().unwrap().len()
    );
}

#[test]
fn only_auditors_read_the_log_and_whoever_may_not_see_a_record_leaves_no_line() {
    let (data, port) = open_window("");
    let _node = start(data.path());
    let secret = publish(data.path(), &["192.0.2.66"], "amber");
    let green = token(data.path(), &["green", "--roles", "reads", "--tlp-max", "green"]);
    let auditor = token(data.path(), &["auditor", "--roles", "audits"]);
    let others = token(data.path(), &["others", "--roles", "reads,decides,publishes,administers"]);
    for path in ["/v1/access", "/v1/access/verify", &format!("/v1/access?record={}", secret.replace('#', "%23"))] {
        assert_eq!((get(port, path, &green).status, get(port, path, &others).status), (403, 403), "{path}");
        assert_eq!(get(port, path, &auditor).status, 200, "{path}");
    }
    let before = looks(data.path(), &secret);
    for path in ["/v1/query?value=192.0.2.66", "/v1/explain?what=192.0.2.66", "/v1/export?format=csv", "/v1/subject?what=192.0.2.66"] {
        assert_eq!(get(port, path, &green).status, 200);
    }
    assert_eq!(looks(data.path(), &secret), before);
    // An auditor who may not read is told who saw, and nothing of what.
    assert_eq!(get(port, "/v1/query?value=192.0.2.66", &auditor).status, 403);
}

#[test]
fn where_a_reason_is_required_nothing_is_shown_without_one() {
    let (data, port) = open_window(EDGE);
    let config = data.path().join("node.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("log = \"ask\"", "log = \"require\"")).unwrap();
    let _node = start(data.path());
    let secret = publish(data.path(), &["192.0.2.66"], "amber");
    publish(data.path(), &["192.0.2.1"], "green");
    let dora = token(data.path(), &["dora", "--roles", "reads,administers,audits"]);
    let siem = token(data.path(), &["siem", "--roles", "reads", "--purpose", "feeds the SIEM"]);
    let before = looks(data.path(), &secret);
    let named = secret.replace('#', "%23");
    let paths = [
        "/v1/query?value=192.0.2.66".to_owned(),
        "/v1/query?all=true".to_owned(),
        "/v1/explain?what=192.0.2.66".to_owned(),
        format!("/v1/explain?what={named}"),
        "/v1/export?format=stix".to_owned(),
        "/v1/subject?what=192.0.2.66".to_owned(),
        "/v1/events".to_owned(),
        "/v1/match/keys".to_owned(),
        "/v1/bundle?to=xx-agency".to_owned(),
    ];
    for path in &paths {
        for blank in ["", "%20%20"] {
            let refused = because(port, path, &dora, blank);
            assert_eq!(refused.status, 403, "{path}");
            assert!(refused.body.contains("asks why") && !refused.body.contains("192.0.2.66"), "{path}: {}", refused.body);
        }
        if !path.starts_with("/v1/events") {
            assert_eq!(because(port, path, &dora, "case%201").status, 200, "{path}");
        }
    }
    let draft = json!({ "draft": { "file": "policy.cedar", "text": "" }, "since_days": null });
    assert_eq!(post(port, "/v1/policy/try", &dora, &draft).status, 403, "a trial shows examples");
    assert_eq!(because(port, "/v1/query?value=192.0.2.66", &dora, "a%0ab").status, 400, "a reason is one line");
    assert_eq!(because(port, "/v1/query?value=192.0.2.66", &dora, "%ff").status, 400);
    assert_eq!(because(port, "/v1/query?value=192.0.2.66", &dora, &"x".repeat(501)).status, 400);
    assert_eq!(get(port, "/v1/query?value=192.0.2.1", &dora).status, 200, "what is not noted needs no reason");
    assert_eq!(get(port, "/v1/query?value=192.0.2.66", &siem).status, 200, "what its token is for is its reason");
    let lines = looks(data.path(), &secret);
    assert!(
        lines.len() > before.len() && lines[before.len()..].iter().all(|(.., why)| why == "case 1" || why == "feeds the SIEM"),
        "{lines:?}"
    );
    // At the command line.
    let refused = huecry(data.path(), &["query", "192.0.2.66"]);
    assert!(code(&refused) == 1 && stderr(&refused).contains("--because"), "{}", stderr(&refused));
    assert!(stdout(&huecry(data.path(), &["--because", "Fall Ärmel", "query", "192.0.2.66"])).contains("192.0.2"));
    assert!(looks(data.path(), &secret).iter().any(|(.., why)| why == "Fall Ärmel"));
}

#[test]
fn an_answer_that_was_given_is_in_the_log_when_the_power_fails() {
    let (data, port) = open_window("");
    let node = start(data.path());
    let secret = publish(data.path(), &["192.0.2.66"], "amber");
    let dora = token(data.path(), &["dora", "--roles", "reads"]);
    for round in 0..20 {
        assert_eq!(because(port, "/v1/query?value=192.0.2.66", &dora, &format!("round{round}")).status, 200);
    }
    // SIGKILL, right behind the last answer.
    drop(node);
    let lines = looks(data.path(), &secret);
    assert!((0..20).all(|round| lines.iter().any(|(.., why)| *why == format!("round{round}"))), "{lines:?}");
    assert_eq!(json_of(&run(data.path(), &["--json", "audit", "--verify"]))["broken"], json!([]));
}

#[test]
fn a_line_that_somebody_altered_is_told_also_against_a_head_that_was_written_down() {
    let (data, port) = open_window("");
    let node = start(data.path());
    publish(data.path(), &["192.0.2.66"], "amber");
    let dora = token(data.path(), &["dora", "--roles", "reads"]);
    for why in ["one", "two", "three"] {
        assert_eq!(because(port, "/v1/query?value=192.0.2.66", &dora, why).status, 200);
    }
    drop(node);
    let verified = json_of(&run(data.path(), &["--json", "audit", "--verify"]));
    let head = verified["head"].as_str().unwrap().to_owned();
    assert_eq!(code(&huecry(data.path(), &["audit", "--verify", "--against", &head])), 0);
    let day = std::fs::read_dir(data.path().join("access")).unwrap().next().unwrap().unwrap().path();
    let text = std::fs::read_to_string(&day).unwrap();
    std::fs::write(&day, text.replace("\"why\":\"two\"", "\"why\":\"tea\"")).unwrap();
    let refused = huecry(data.path(), &["audit", "--verify"]);
    assert!(code(&refused) == 1 && stdout(&refused).contains("BROKEN"), "{}", stdout(&refused));
    // Somebody who makes the whole chain anew is told by the head alone: here, by leaving the last line out.
    let lines: Vec<&str> = text.lines().collect();
    std::fs::write(&day, lines[..lines.len() - 1].join("\n") + "\n").unwrap();
    assert_eq!(code(&huecry(data.path(), &["audit", "--verify"])), 0);
    let refused = huecry(data.path(), &["audit", "--verify", "--against", &head]);
    assert!(code(&refused) == 1 && stdout(&refused).contains("missing"), "{}", stdout(&refused));
    assert_eq!(code(&huecry(data.path(), &["audit", "--verify", "--against", "rubbish"])), 2);
}

#[test]
fn what_an_outlet_is_given_is_noted_and_an_auditor_is_told_that_it_holds_it() {
    let (data, _port) = open_window(EDGE);
    let node = start(data.path());
    let secret = publish(data.path(), &["192.0.2.66"], "amber");
    let lines = |mode: &str| json_of(&huecry(data.path(), &["--json", "outlets"]))[0]["origins"][0][mode].as_u64().unwrap_or(0);
    until("lines to be watched", || lines("monitored") > 0);
    assert!(!looks(data.path(), &secret).iter().any(|(who, ..)| who == "outlet edge"), "what is only watched is not given");
    run(data.path(), &["outlets", "promote", "edge"]);
    run(data.path(), &["outlets", "promote", "edge", "--origin", "xx-agency"]);
    let given = || looks(data.path(), &secret).iter().filter(|(who, how, _)| who == "outlet edge" && how == "outlet").count();
    until("the outlet to be given it", || given() == 1);
    let said = stdout(&run(data.path(), &["audit", &secret]));
    assert!(said.contains("outlet edge, enforced since"), "{said}");
    // Whoever unblocks is shown what stood there, for the reason of the order.
    run(data.path(), &["unblock", "192.0.2.66", "--reason", "the clinic"]);
    assert!(looks(data.path(), &secret).iter().any(|(_, how, why)| how == "order" && why == "the clinic"));
    run(data.path(), &["unblock", "192.0.2.66", "--undo"]);
    until("the outlet to hold it again", || lines("enforced") > 0);
    // After a restart it is not given anew.
    drop(node);
    let _node = start(data.path());
    until("lines to be enforced", || lines("enforced") > 0);
    assert!((1..=2).contains(&given()), "once, or twice where an hour began between: {}", given());
}
