//! The description of the HTTP interface: made from the code, read by OpenAPI's own tools, and true of what a node answers.

use crate::{
    support::{founded, huecry, json_of, run, start, stdout, until},
    window::{get, open_window, token},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

/// Each operation of a description, and its method and path.
fn operations(description: &Value) -> Vec<(String, &Value)> {
    let paths = description["paths"].as_object().unwrap();
    paths
        .iter()
        .flat_map(|(path, item)| item.as_object().unwrap().iter().map(move |(method, operation)| (format!("{method} {path}"), operation)))
        .collect()
}

#[test]
fn the_description_names_every_operation_once_and_says_what_it_is_for_and_who_may() {
    let data = founded();
    let description: Value = serde_json::from_str(&stdout(&run(data.path(), &["openapi"]))).unwrap();
    let all = operations(&description);
    for one in ["get /v1/query", "get /v1/explain", "post /v1/publish", "post /v1/withdraw", "post /v1/order", "get /v1/events"] {
        assert!(all.iter().any(|(name, _)| name == one), "{one}");
    }
    let ids: BTreeSet<&str> = all.iter().map(|(_, operation)| operation["operationId"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), all.len());
    let roles = ["reads", "decides", "publishes", "administers", "audits", "operates"];
    for (name, operation) in all {
        assert!(operation["summary"].as_str().is_some_and(|text| text.len() > 8), "{name}");
        assert!(operation["tags"].as_array().is_some_and(|tags| tags.len() == 1 && roles.contains(&tags[0].as_str().unwrap())), "{name}");
        assert!(operation["responses"]["200"]["content"].is_object(), "{name}");
        assert_eq!(
            operation["responses"]["default"]["content"]["application/json"]["schema"]["$ref"], "#/components/schemas/Error",
            "{name}"
        );
    }
    assert_eq!(description["openapi"].as_str().map(|version| &version[..4]), Some("3.1."));
}

#[test]
fn a_node_answers_as_the_description_it_serves_says_and_openapis_own_tools_find_no_fault() {
    let (data, port) = open_window(
        "[[outlets]]\nname = \"resolver\"\ntypes = [\"domain\", \"ipv4\"]\n[[lists]]\nname = \"ours\"\nfile = \"ours.txt\"\nrole = \"own\"\n",
    );
    std::fs::write(data.path().join("ours.txt"), "203.0.113.0/24\n").unwrap();
    let _node = start(data.path());
    let file = |name: &str, text: &str| {
        std::fs::write(data.path().join(name), text).unwrap();
        data.path().join(name).to_str().unwrap().to_owned()
    };
    let about = ["--confidence", "90", "--valid-days", "30", "--tlp", "green", "--tags", "botnet"];
    run(data.path(), &[&["publish", &file("list.txt", "evil.example\n192.0.2.7\n203.0.113.9\n"), "--use", "block"][..], &about].concat());
    run(data.path(), &[&["import", &file("more.txt", "one.example\ntwo.example\n")][..], &about].concat());
    let found = json_of(&run(data.path(), &["--json", "query", "evil.example"]));
    let record = found["values"][0]["assertions"][0]["reference"].as_str().unwrap().to_owned();
    let says = ["sighting", &record, "--say", "false-positive", "--channel", "indicators", "--tlp", "green", "--alone"];
    run(data.path(), &says);
    until("a line to be watched", || json_of(&huecry(data.path(), &["--json", "outlets"]))[0]["origins"][0]["monitored"] != 0);
    let token = token(data.path(), &["tester"]);
    assert_eq!(get(port, "/v1/openapi.json", "huecry_nobody").status, 401);
    let served = get(port, "/v1/openapi.json", &token).json();
    assert_eq!(served, serde_json::from_str::<Value>(&stdout(&run(data.path(), &["openapi"]))).unwrap());

    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("HUECRY_INTEROP").is_none() {
        println!("skipped: HUECRY_INTEROP is not set, so OpenAPI's tools may not be there");
        return;
    }
    let look = |path: &str| json!(["GET", path, null]);
    let plain = [
        "status",
        "me",
        "query",
        "members",
        "agreements",
        "roster",
        "quarantine",
        "policy",
        "held",
        "disputes",
        "outlets",
        "news",
        "sync",
        "follow",
        "share",
        "pull",
        "documents",
        "questions",
        "retention",
        "tokens",
        "log",
        "access",
        "access/verify",
    ];
    let mut requests: Vec<Value> = plain.iter().map(|name| look(&format!("/v1/{name}"))).collect();
    let named = record.replace('#', "%23");
    let more = [
        "query?value=evil.example",
        "query?tag=botnet&limit=1",
        "query?record=report&all=true",
        "explain?what=evil.example",
        "hits?value=evil.example",
        "subject?what=evil.example",
        "disputes?all=true",
    ];
    requests.extend(more.iter().map(|name| look(&format!("/v1/{name}"))));
    requests.extend([look(&format!("/v1/explain?what={named}")), look(&format!("/v1/receipts?of={named}"))]);
    requests.extend([
        json!(["POST", "/v1/match", { "values": [{ "type": "domain", "value": "evil.example" }, { "type": "ipv4", "value": "192.0.2.1" }] }]),
        json!(["POST", "/v1/ledger/verify", {}]),
        json!(["POST", "/v1/policy/rejudge", { "since_days": 1 }]),
        json!(["POST", "/v1/erase/preview", { "what": ["two.example"] }]),
        json!(["POST", "/v1/withdraw", { "what": ["192.0.2.7"], "reason": "wrong" }]),
        json!(["POST", "/v1/ledger/compact", {}]),
        json!(["POST", "/v1/retention/apply", {}]),
    ]);
    let mut checking = Command::new(root.join("target/interop/venv/bin/python"))
        .arg(root.join("tests/interop/openapi.py"))
        .args([&format!("http://127.0.0.1:{port}"), &token, "12"])
        .current_dir(data.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    checking.stdin.take().unwrap().write_all(Value::from(requests.clone()).to_string().as_bytes()).unwrap();
    let output = checking.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["checked"], requests.len());
    assert!(told["tried"].as_u64() > Some(500) && told["tried"] == told["passed"], "{told}");
}
