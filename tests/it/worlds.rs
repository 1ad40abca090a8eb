//! A clearance is a world (X2): every answer to a caller is that of a node which holds nothing above the caller's clearance.
//!
//! Two nodes that are copies of each other, byte for byte. One of them then publishes, withdraws, disputes, asks and erases above the
//! clearance. A caller with the lower clearance asks both the same.

use crate::{
    support::{Running, copy, json_of, port, run, start, stdout, until},
    window::{get, open_window_of, post, token},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

const CONFIG: &str = "[[outlets]]\nname = \"resolver\"\ntypes = [\"domain\", \"ipv4\"]\ntlp_max = \"green\"\n\
    [[outlets]]\nname = \"inner\"\ntypes = [\"domain\", \"ipv4\"]\ntlp_max = \"amber+strict\"\nkind = \"own\"\n\
    [[retention]]\nname = \"domains\"\ntypes = [\"domain\"]\nkeep_days = 0\nthen = \"review\"\n";

struct Worlds {
    _place: tempfile::TempDir,
    paths: [PathBuf; 2],
    ports: [u16; 2],
    _running: Vec<Running>,
    token: String,
    /// A token for the state of the machine.
    machine: String,
    /// A cursor of news from before the copy.
    cursor: String,
    /// A visible record.
    record: String,
}

fn publish(data: &Path, channel: &str, tlp: &str, values: &[&str], more: &[&str]) {
    let list = data.join("list.txt");
    std::fs::write(&list, values.join("\n")).unwrap();
    let words = ["publish", list.to_str().unwrap(), "--channel", channel, "--tlp", tlp, "--use", "block", "--format", "list"];
    run(data, &[&words[..], more].concat());
}

/// Says and does a lot above the clearance; answers how often.
fn hidden(data: &Path) {
    for number in 0..3 {
        let values = [format!("hidden-{number}.example"), "shared.example".to_owned(), format!("192.0.2.{number}")];
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        publish(data, "secret", "red", &values, &["--title", "the case nobody knows", "--confidence", "99", "--source", "A Lab"]);
    }
    run(data, &["withdraw", "hidden-0.example", "--reason", "wrong"]);
    run(data, &["sighting", "shared.example", "--say", "false-positive", "--channel", "secret", "--tlp", "red"]);
    run(data, &["ask", "shared.example", "--text", "who knows more of the case", "--channel", "secret", "--tlp", "red"]);
    let document = data.join("case.txt");
    std::fs::write(&document, "the case nobody knows\n").unwrap();
    run(data, &["document", "publish", document.to_str().unwrap(), "--channel", "secret", "--tlp", "red", "--title", "case"]);
    run(data, &["erase", "hidden-1.example", "--order", "Test Court, 1 C 1/26", "--yes"]);
}

impl Worlds {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let founded = tempfile::tempdir_in(place.path()).unwrap();
        let words = ["init", "--member", "xx-police", "--kind", "coordinator", "--found", "Watch"];
        run(founded.path(), &[&words[..], &["--channel", "secret=named:xx-police"]].concat());
        let (data, one) = open_window_of(founded, CONFIG);
        let first = data.path().to_owned();
        publish(
            &first,
            "indicators",
            "green",
            &["evil.example", "shared.example", "192.0.2.200"],
            &["--title", "t", "--confidence", "95", "--source", "own"],
        );
        publish(&first, "indicators", "green", &["old.example"], &["--title", "t", "--source", "own"]);
        run(&first, &["withdraw", "old.example", "--reason", "wrong"]);
        run(&first, &["ask", "evil.example", "--text", "who has seen it", "--channel", "indicators", "--tlp", "green"]);
        let roles = "reads,decides,publishes";
        let machine = token(&first, &["prometheus", "--tlp-max", "green", "--roles", "operates"]);
        let token = token(&first, &["green", "--tlp-max", "green", "--roles", roles]);
        let found = json_of(&run(&first, &["--json", "query", "evil.example"]));
        let record = found["values"][0]["assertions"][0]["reference"].as_str().unwrap().to_owned();
        let cursor = {
            let _node = start(&first);
            get(one, "/v1/news", &token).json()["cursor"].as_str().unwrap().to_owned()
        };
        run(&first, &["outlets", "promote", "resolver"]);
        run(&first, &["outlets", "promote", "resolver", "--origin", "xx-police"]);
        // A directory with a name of the same length: it stands in answers.
        let (second, two) = (tempfile::tempdir_in(place.path()).unwrap().keep(), port());
        copy(&first, &second);
        let config = std::fs::read_to_string(second.join("node.toml")).unwrap().replace(&one.to_string(), &two.to_string());
        std::fs::write(second.join("node.toml"), config).unwrap();
        hidden(&second);
        let running = vec![start(&first), start(&second)];
        let _kept = data.keep();
        let worlds = Self { _place: place, paths: [first, second], ports: [one, two], _running: running, token, machine, cursor, record };
        for at in 0..2 {
            until("the outlets to be filled", || worlds.get(at, "/v1/outlets").json()[0]["lines"].as_u64().is_some_and(|lines| lines > 1));
        }
        worlds
    }

    fn get(&self, at: usize, path: &str) -> crate::window::Answer {
        get(self.ports[at], path, &self.token)
    }

    fn post(&self, at: usize, path: &str, body: &Value) -> crate::window::Answer {
        post(self.ports[at], path, &self.token, body)
    }

    /// An answer without its place.
    fn plain(&self, at: usize, text: &str) -> String {
        text.replace(self.paths[at].to_str().unwrap(), "DATA").replace(&format!("127.0.0.1:{}", self.ports[at]), "NODE")
    }
}

/// Takes moments out of a text: of RFC 3339, and milliseconds.
fn timeless(text: &str) -> String {
    let moment = regex::Regex::new(
        r"20\d\d-\d\d-\d\dT\d\d[:.]\d\d[:.]\d\d(\.\d+)?Z?|\b1[78]\d{11}\b|20\d\d-\d\d-\d\d|\b[0-9a-f]{8,64}\b|took_ms.:\d+",
    )
    .unwrap();
    moment.replace_all(&undated(text), "_").into_owned()
}

/// Requests by operation, for each operation of the roles that the caller has.
fn cases(worlds: &Worlds) -> BTreeMap<&'static str, Vec<(String, Value)>> {
    let record = worlds.record.replace('#', "%23");
    let hidden = "xx-police/secret%231.1";
    let mut cases: BTreeMap<&'static str, Vec<(String, Value)>> = BTreeMap::new();
    let mut gets = |path: &'static str, questions: &[&str]| {
        let asked = questions.iter().map(|question| (format!("{}{question}", path.trim_start_matches("get ")), Value::Null));
        cases.insert(path, asked.collect());
    };
    let values = ["?value=evil.example", "?value=shared.example", "?value=hidden-1.example", "?value=hidden-2.example", "?value=192.0.2.1"];
    let whats: Vec<String> = ["evil.example", "shared.example", "hidden-2.example", &record, hidden, "old.example"]
        .iter()
        .map(|what| format!("?what={what}"))
        .collect();
    let whats: Vec<&str> = whats.iter().map(String::as_str).collect();
    gets("get /v1/status", &[""]);
    gets("get /v1/me", &[""]);
    gets("get /v1/members", &[""]);
    gets("get /v1/quarantine", &[""]);
    gets("get /v1/held", &["", "?limit=1"]);
    gets("get /v1/disputes", &["", "?all=true"]);
    gets("get /v1/outlets", &[""]);
    gets("get /v1/hits", &values);
    gets("get /v1/explain", &whats);
    let asked =
        ["?all=true", "?record=report", "?record=report&all=true", "?record=report&limit=1&all=true", "?sort=newest&all=true&text=case"];
    gets(
        "get /v1/query",
        &[&values[..], &asked[..], &["?value=*.example&all=true&limit=1", "?origin=xx-police&all=true&limit=2"]].concat(),
    );
    gets("get /v1/agreements", &[""]);
    gets("get /v1/roster", &[""]);
    gets("get /v1/head", &["?feed=xx-police/indicators&seq=1", "?feed=xx-police/secret&seq=1", "?feed=xx-police/secret&seq=99"]);
    gets("get /v1/proof", &["?feed=xx-police/indicators", "?feed=xx-police/secret"]);
    gets("get /v1/policy", &[""]);
    let news = [String::new(), format!("?after={}", worlds.cursor)];
    gets("get /v1/news", &news.iter().map(String::as_str).collect::<Vec<_>>());
    gets("get /v1/sync", &[""]);
    gets("get /v1/follow", &[""]);
    let receipts = [format!("?of={record}"), format!("?of={hidden}"), "?of=xx-police/secret%2399.0".to_owned()];
    gets("get /v1/receipts", &receipts.iter().map(String::as_str).collect::<Vec<_>>());
    gets("get /v1/share", &[""]);
    gets("get /v1/pull", &[""]);
    gets("get /v1/documents", &["", "?limit=1"]);
    gets("get /v1/questions", &["", "?all=true"]);
    gets("get /v1/subject", &["?what=evil.example", "?what=shared.example", "?what=hidden-2.example"]);
    gets("get /v1/retention", &[""]);
    gets("get /v1/tokens", &[""]);
    gets("get /v1/openapi.json", &[""]);
    let exports: Vec<String> = ["csv", "json", "stix", "misp", "list", "ecs"]
        .iter()
        .flat_map(|format| {
            [format!("?format={format}"), format!("?format={format}&outlet=resolver"), format!("?format={format}&after={}", worlds.cursor)]
        })
        .chain(["?format=json&all=true&since=2020-01-01".to_owned()])
        .collect();
    gets("get /v1/export", &exports.iter().map(String::as_str).collect::<Vec<_>>());
    gets("get /v1/match/keys", &["", "?since=0", "?since=1.1.0.0.0"]);
    gets("get /v1/documents/content", &whats[3..5]);
    let mut posts = |path: &'static str, bodies: Vec<Value>| {
        let path_alone = path.trim_start_matches("post ").to_owned();
        cases.insert(path, bodies.into_iter().map(|body| (path_alone.clone(), body)).collect());
    };
    let seen = |value: &str| json!({ "type": "domain", "value": value });
    posts("post /v1/clock", vec![json!({})]);
    let feeds = ["xx-police/indicators", "xx-police/secret"];
    posts("post /v1/quarantine", feeds.iter().map(|feed| json!({ "feed": feed, "decision": "release" })).collect());
    posts("post /v1/held", vec![json!({ "decision": "release", "filter": {}, "reason": "looked at" })]);
    posts("post /v1/match", vec![json!({ "values": [seen("evil.example"), seen("shared.example"), seen("hidden-2.example")] })]);
    posts("post /v1/verify", vec![json!({})]);
    posts("post /v1/follow", vec![json!({ "everything": true, "channels": [] })]);
    let names = [worlds.record.clone(), "xx-police/secret#1.1".to_owned(), "xx-police/secret#99.1".to_owned()];
    posts("post /v1/share", names.iter().map(|name| json!({ "records": [name], "with": "federation" })).collect());
    posts("post /v1/pull", vec![json!({ "name": "nothing" })]);
    let about = |name: &str| {
        format!("/v1/documents?title=t&channel=indicators&tlp=green&alone=true&media_type=text/plain&targets={}", name.replace('#', "%23"))
    };
    posts("post /v1/tokens", vec![json!({ "name": "more" })]);
    posts("post /v1/verify/bundle", vec![json!({ "type": "bundle", "objects": [] })]);
    posts("post /v1/policy/try", vec![json!({ "draft": {} }), json!({ "draft": {}, "since_days": 30 })]);
    posts("post /v1/tokens/revoke", vec![json!({ "name": "nothing" })]);
    let order = |value: &str| json!({ "order": { "unblock": { "value": value, "reason": "looked at", "until": 1_900_000_000_000_u64 } } });
    posts("post /v1/order", ["evil.example", "shared.example", "hidden-2.example"].map(order).to_vec());
    posts("post /v1/documents/fetch", names.iter().map(|name| json!({ "what": name })).collect());
    posts("post /v1/documents/drop", names.iter().map(|name| json!({ "what": name })).collect());
    posts("post /v1/policy/rejudge", vec![json!({ "since_days": 1 })]);
    let withdraw = |what: &str| json!({ "what": [what], "reason": "wrong", "alone": true });
    posts(
        "post /v1/withdraw",
        ["hidden-2.example", "192.0.2.1", "xx-police/secret#1.1", "xx-police/secret#99.1", "shared.example"].map(withdraw).to_vec(),
    );
    posts(
        "post /v1/renew",
        vec![
            json!({ "what": ["hidden-2.example"], "valid_days": 30, "alone": true }),
            json!({ "what": ["evil.example"], "valid_days": 30, "alone": true }),
        ],
    );
    posts("post /v1/ask", vec![json!({ "value": "evil.example", "text": "who", "channel": "indicators", "tlp": "green", "alone": true })]);
    let sighting = |of: &str| json!({ "of": of, "sighting": "seen", "channel": "indicators", "tlp": "green", "alone": true });
    posts("post /v1/sighting", names.iter().map(|name| sighting(name)).chain([sighting("evil.example")]).collect());
    posts("post /v1/publish", vec![json!({})]);
    cases.insert("post /v1/documents", names.iter().map(|name| (about(name), json!({ "about": "it" }))).collect());
    cases
}

#[test]
fn x2_every_route_answers_a_caller_as_if_nothing_were_above_the_clearance() {
    let worlds = Worlds::new();
    let description: Value = serde_json::from_str(&stdout(&run(&worlds.paths[0], &["openapi"]))).unwrap();
    let has = ["reads", "decides", "publishes"];
    // A token below its owner's clearance cannot carry the roles that show every record.
    let (mut operations, mut refused) = (BTreeSet::new(), BTreeSet::new());
    for (path, item) in description["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let set = if has.contains(&operation["tags"][0].as_str().unwrap()) { &mut operations } else { &mut refused };
            set.insert(format!("{method} {path}"));
        }
    }
    // Its stream does not end: it has a test of its own.
    operations.remove("get /v1/events");
    let cases = cases(&worlds);
    let covered: BTreeSet<String> = cases.keys().map(|name| (*name).to_owned()).collect();
    assert_eq!(operations, covered, "each operation has a case");
    let mut differ = Vec::new();
    let mut compare = |name: &str, asked: &str, [one, two]: [crate::window::Answer; 2], strict: bool| {
        let whole =
            |at: usize, answer: &crate::window::Answer| worlds.plain(at, &format!("{} {}\n{}", answer.status, answer.head, answer.body));
        let (one, two) = (whole(0, &one), whole(1, &two));
        let (one, two) = if strict { (undated(&one), undated(&two)) } else { (timeless(&one), timeless(&two)) };
        if one != two {
            let at = one.bytes().zip(two.bytes()).position(|(one, two)| one != two).unwrap_or(one.len().min(two.len()));
            let part =
                |text: &str| String::from_utf8_lossy(&text.as_bytes()[at.saturating_sub(120)..(at + 160).min(text.len())]).into_owned();
            differ.push(format!("{name} {asked}\n  without: {}\n  with:    {}", part(&one), part(&two)));
        }
    };
    for (name, requests) in cases.iter().filter(|(name, _)| name.starts_with("get")) {
        for (path, _) in requests {
            compare(name, path, [worlds.get(0, path), worlds.get(1, path)], true);
        }
    }
    for name in &refused {
        let (method, path) = name.split_once(' ').unwrap();
        let answers = [0, 1].map(|at| if method == "get" { worlds.get(at, path) } else { worlds.post(at, path, &json!({})) });
        assert!(answers.iter().all(|answer| answer.status == 403), "{name}: {}", answers[0].body);
        compare(name, path, answers, true);
    }
    compare("get", "/v1/clock of the machine", [0, 1].map(|at| get(worlds.ports[at], "/v1/clock", &worlds.machine)), false);
    let counted = [0, 1].map(|at| counted(&get(worlds.ports[at], "/metrics", &worlds.machine).body));
    assert!(counted[0].contains("huecry_records{what=\"accepted\"} ") && counted[0].contains("outlet=\"resolver\""), "{}", counted[0]);
    assert!(!counted[1].contains("inner") && counted[0] == counted[1], "{}\n{}", counted[0], counted[1]);
    for path in [
        "/taxii2/",
        "/taxii2/api/collections/",
        "/v1/decisions",
        "/v1/decisions/stream?startup=true",
        "/metrics",
        "/health",
        "/ready",
        "/v1/log",
    ] {
        compare("get", path, [worlds.get(0, path), worlds.get(1, path)], true);
    }
    let collections = worlds.get(0, "/taxii2/api/collections/").json();
    for collection in collections["collections"].as_array().into_iter().flatten() {
        for what in ["objects/?limit=2", "manifest/", "objects/?added_after=2020-01-01T00:00:00Z"] {
            let path = format!("/taxii2/api/collections/{}/{what}", collection["id"].as_str().unwrap());
            compare("get", &path, [worlds.get(0, &path), worlds.get(1, &path)], true);
        }
    }
    for (name, requests) in cases.iter().filter(|(name, _)| name.starts_with("post")) {
        for (path, body) in requests {
            compare(name, &format!("{path} {body}"), [worlds.post(0, path, body), worlds.post(1, path, body)], false);
        }
    }
    // And once more, after all that was done.
    for (name, requests) in cases.iter().filter(|(name, _)| name.starts_with("get")) {
        for (path, _) in requests {
            compare(name, &format!("again {path}"), [worlds.get(0, path), worlds.get(1, path)], false);
        }
    }
    assert!(differ.is_empty(), "{} answers differ:\n{}", differ.len(), differ.join("\n"));
}

/// The lines of metrics that count records and lines of outlets.
fn counted(metrics: &str) -> String {
    let families = ["huecry_records", "huecry_outlet"];
    let lines: BTreeSet<&str> = metrics.lines().filter(|line| families.iter().any(|family| line.starts_with(family))).collect();
    lines.into_iter().collect::<Vec<_>>().join("\n")
}

/// Takes out only what differs because a node was started, and asked, a moment later than the other.
fn undated(text: &str) -> String {
    let since = regex::Regex::new(r#"(?i)("(since|now|started|written|took_ms)":\s*("[^"]*"|\d+))|(date: [^\r\n]*)"#).unwrap();
    since.replace_all(text, "_").into_owned()
}

#[test]
fn x2_cursors_pages_and_events_stand_still_while_something_hidden_comes() {
    let worlds = Worlds::new();
    let cursors = || {
        let export = worlds.get(1, "/v1/export?format=json");
        let cursor = export.head.lines().find(|line| line.starts_with("huecry-cursor")).unwrap().to_owned();
        (worlds.get(1, "/v1/news").body, cursor, worlds.get(1, "/v1/match/keys").body.len())
    };
    let before = cursors();
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", worlds.ports[1])).unwrap();
    let (host, token) = (worlds.ports[1], &worlds.token);
    let ask = format!("GET /v1/events HTTP/1.1\r\nHost: 127.0.0.1:{host}\r\nAuthorization: Bearer {token}\r\n\r\n");
    std::io::Write::write_all(&mut stream, ask.as_bytes()).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(3))).unwrap();
    let mut told = String::new();
    let mut listen = |told: &mut String| {
        let mut bytes = [0; 4096];
        while let Ok(length @ 1..) = std::io::Read::read(&mut stream, &mut bytes) {
            told.push_str(&String::from_utf8_lossy(&bytes[..length]));
        }
    };
    listen(&mut told);
    assert_eq!(told.matches("event: ").count(), 1, "the first cursor: {told}");
    publish(&worlds.paths[1], "secret", "red", &["late.example"], &["--title", "hidden"]);
    run(&worlds.paths[1], &["withdraw", "late.example", "--reason", "wrong"]);
    listen(&mut told);
    assert_eq!(told.matches("event: ").count(), 1, "nothing happened: {told}");
    assert_eq!(cursors(), before);
    publish(&worlds.paths[1], "indicators", "green", &["seen.example"], &["--title", "t"]);
    listen(&mut told);
    assert!(told.contains("seen[.]example") && told.matches("event: cursor").count() == 2, "{told}");
    assert_ne!(cursors().0, before.0);
}
