//! The window over TCP: who is let in, under which name, from which page, with which token; and what a slow stranger can hold up.

use crate::support::{code, founded, huecry, json_of, port, run, start, stderr, stdout};
use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    time::{Duration, Instant},
};

/// A node of its own with an open window, and its port.
pub fn open_window(more: &str) -> (tempfile::TempDir, u16) {
    open_window_of(founded(), more)
}

/// The same of a node that was set up already.
pub fn open_window_of(data: tempfile::TempDir, more: &str) -> (tempfile::TempDir, u16) {
    let port = port();
    let config = std::fs::read_to_string(data.path().join("node.toml")).unwrap();
    let listen = format!("[window]\nlisten = [\"127.0.0.1:{port}\"]\nhosts = [\"node.example\"]");
    let config = match config.contains("[window]\nlisten = []\nhosts = []") {
        true => config.replace("[window]\nlisten = []\nhosts = []", &listen),
        false => format!("{config}\n{listen}\n"),
    };
    std::fs::write(data.path().join("node.toml"), format!("{config}\n{more}")).unwrap();
    (data, port)
}

pub fn token(data: &Path, words: &[&str]) -> String {
    json_of(&run(data, &[&["--json", "token", "new"][..], words].concat()))["token"].as_str().unwrap().to_owned()
}

/// What one request is answered with: the status, the headers, the body.
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// Sends a request exactly as it is written.
pub fn send(port: u16, request: &str) -> Answer {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    let _reset = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let is_chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    Answer { status, head: head.to_owned(), body: if is_chunked { unchunked(body) } else { body.to_owned() } }
}

fn unchunked(mut body: &str) -> String {
    let mut text = String::new();
    while let Some((length, rest)) = body.split_once("\r\n") {
        let length = usize::from_str_radix(length.trim(), 16).unwrap_or(0);
        if length == 0 {
            break;
        }
        text.push_str(&rest[..length]);
        body = rest[length..].trim_start_matches("\r\n");
    }
    text
}

/// Asks as a program with a token does.
pub fn get(port: u16, path: &str, token: &str) -> Answer {
    send(port, &format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"))
}

pub fn post(port: u16, path: &str, token: &str, body: &serde_json::Value) -> Answer {
    let (body, kind) = (body.to_string(), "application/json");
    send(
        port,
        &format!(
            "POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{body}",
            body.len()
        ),
    )
}

#[test]
fn g_27_a_01_a_02_a_03_only_our_own_name_our_own_pages_and_a_token_get_in() {
    let (data, port) = open_window("");
    let _node = start(data.path());
    let token = token(data.path(), &["laptop", "--roles", "reads"]);
    let status = json_of(&run(data.path(), &["--json", "status"]));
    let (member, node) = (status["member"].as_str().unwrap(), status["node"].as_str().unwrap());
    let ours = [format!("127.0.0.1:{port}"), format!("localhost:{port}"), format!("LOCALHOST:{port}"), "node.example".to_owned()];
    let theirs = ["evil.example", "127.0.0.1", "localhost", "node.example.evil.example", "127.0.0.1:1", "", "evil.example@127.0.0.1"];
    let bearer = format!("Authorization: Bearer {token}");
    let mut cases: Vec<(String, u16)> = Vec::new();
    let case = |method: &str, path: &str, headers: &[String]| format!("{method} {path} HTTP/1.1\r\n{}\r\n\r\n", headers.join("\r\n"));
    let close = || "Connection: close".to_owned();
    for host in &ours {
        cases.push((case("GET", "/v1/status", &[format!("Host: {host}"), bearer.clone(), close()]), 200));
        for origin in ["http://evil.example", "null", "http://127.0.0.1:1", &format!("http://{host}.evil.example")] {
            let headers = [format!("Host: {host}"), bearer.clone(), format!("Origin: {origin}"), close()];
            cases.push((case("GET", "/v1/status", &headers), 403));
        }
        cases.push((case("GET", "/v1/status", &[format!("Host: {host}"), bearer.clone(), format!("Origin: http://{host}"), close()]), 200));
    }
    for host in theirs {
        cases.push((case("GET", "/v1/status", &[format!("Host: {host}"), bearer.clone(), close()]), 403));
        cases.push((case("GET", "/", &[format!("Host: {host}"), close()]), 403));
    }
    let host = format!("Host: 127.0.0.1:{port}");
    cases.push((case("GET", "/v1/status", &[bearer.clone(), close()]), 403));
    cases.push((case("GET", "/v1/status", &[host.clone(), "Host: evil.example".to_owned(), bearer.clone(), close()]), 403));
    cases.push((case("GET", "http://evil.example/v1/status", &[host.clone(), bearer.clone(), close()]), 403));
    cases.push((case("GET", "/v1/status", &[host.clone(), bearer.clone(), "Sec-Fetch-Site: cross-site".to_owned(), close()]), 403));
    // What a form of another page can send.
    let text = ["Content-Type: text/plain".to_owned(), "Content-Length: 2".to_owned(), close()];
    let form = [&[host.clone(), "Origin: http://evil.example".to_owned()][..], &text].concat();
    cases.push((case("POST", "/v1/order", &form) + "{}", 403));
    cases.push((case("POST", "/v1/order", &[&[host.clone(), bearer.clone()][..], &text].concat()) + "{}", 403));
    // What is no token.
    let hash = std::fs::read_to_string(data.path().join("tokens.json")).unwrap();
    let hash = hash.split("\"hash\": \"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let two = format!("Authorization: Bearer {token}\r\nX-Api-Key: {token}");
    for wrong in [
        "X-Nothing: 1".to_owned(),
        format!("Authorization: Bearer {member}"),
        format!("Authorization: Bearer {node}"),
        format!("Authorization: Bearer {hash}"),
        format!("Authorization: Bearer huecry_{hash}"),
        format!("Authorization: Bearer {member}/c2#1.0"),
        format!("Authorization: Bearer {}", &token[..token.len() - 1]),
        format!("Authorization: {token}"),
        "Authorization: Basic !!!".to_owned(),
        format!("Cookie: token={token}"),
        two,
    ] {
        cases.push((case("GET", "/v1/status", &[host.clone(), wrong, close()]), 401));
    }
    cases.push((case("GET", &format!("/v1/status?token={token}&access_token={token}"), &[host.clone(), close()]), 401));
    // Other ways to show one.
    for shown in [format!("Authorization: Token {token}"), format!("X-Api-Key: {token}")] {
        cases.push((case("GET", "/v1/status", &[host.clone(), shown, close()]), 200));
    }
    // Nothing changes by GET, and no path leads around.
    for path in ["/v1/order", "/v1/withdraw", "/v1/renew", "/v1/erase", "/v1/policy/reload", "/v1/tokens/revoke", "/v1/share/"] {
        let answer = send(port, &case("GET", path, &[host.clone(), bearer.clone(), close()]));
        assert!([403, 404, 405].contains(&answer.status), "{path}: {}", answer.status);
    }
    for path in [
        "/v1/..%2fstatus",
        "/v1/%2e%2e/v1/status",
        "//v1/status",
        "/V1/status",
        "/v1/status/",
        "/page/../node.toml",
        "/page/..%2fnode.toml",
    ] {
        cases.push((case("GET", path, &[host.clone(), bearer.clone(), close()]), 404));
    }
    // Headers that claim something claim nothing.
    let claims = ["X-Forwarded-For: 127.0.0.1", "X-Role: administers", "X-Operator: root", "Synchronized-Upsert: true", "X-Clearance: red"];
    for claim in claims {
        let headers = [
            host.clone(),
            bearer.clone(),
            claim.to_owned(),
            "Content-Type: application/json".to_owned(),
            "Content-Length: 2".to_owned(),
            close(),
        ];
        cases.push((case("POST", "/v1/policy/reload", &headers) + "{}", 403));
    }
    assert!(cases.len() >= 60, "{} cases", cases.len());
    for (request, expected) in &cases {
        let answer = send(port, request);
        assert_eq!(answer.status, *expected, "{request}{}", answer.body);
        assert!(answer.head.to_ascii_lowercase().contains("x-content-type-options: nosniff"), "{}", answer.head);
        assert!(!answer.head.to_ascii_lowercase().contains("access-control-allow"), "{}", answer.head);
    }
}

#[test]
fn p_11_a_token_lends_no_more_than_its_maker_has_and_ends_with_what_it_stands_for() {
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name;
    let person = |roles: &str| format!("[[operators]]\nname = \"dora\"\nuser = \"{user}\"\nroles = [{roles}]\nclearance = \"green\"\n");
    let outlet = "[[outlets]]\nname = \"edge\"\ntypes = [\"ipv4\"]\n";
    let (data, port) = open_window(&format!("{}{outlet}", person("\"reads\", \"publishes\", \"administers\"")));
    let list = data.path().join("list.txt");
    std::fs::write(&list, "amber.example\n").unwrap();
    let node = start(data.path());
    run(data.path(), &["import", list.to_str().unwrap(), "--tlp", "amber", "--confidence", "80", "--valid-days", "30"]);
    std::fs::write(&list, "green.example\n").unwrap();
    run(data.path(), &["publish", list.to_str().unwrap(), "--tlp", "green", "--confidence", "80", "--valid-days", "30"]);
    for (words, why) in [
        (&["one", "--roles", "decides"][..], "you have not the role `decides`"),
        (&["one", "--tlp-max", "amber"], "you may see up to TLP:GREEN"),
        (&["one", "--outlet", "nowhere"], "there is no outlet `nowhere`"),
        (&["one", "--days", "0"], "1 to 366 days"),
        (&["o ne"], "a token's name"),
        (&["one", "--roles", "king"], "king"),
    ] {
        let output = huecry(data.path(), &[&["token", "new"][..], words].concat());
        assert!(code(&output) != 0 && stderr(&output).contains(why), "{words:?}: {}", stderr(&output));
    }
    let (all, reads) = (token(data.path(), &["all"]), token(data.path(), &["reads", "--roles", "reads", "--tlp-max", "clear"]));
    let edge = token(data.path(), &["edge", "--outlet", "edge"]);
    // A clearance counts in answers, totals and exports alike.
    let asked = |token: &str, value: &str| get(port, &format!("/v1/query?value={value}"), token).json()["values"].as_array().unwrap().len();
    assert_eq!((asked(&all, "green.example"), asked(&reads, "green.example"), asked(&all, "amber.example")), (1, 0, 0));
    assert!(!get(port, "/v1/export?format=csv", &reads).body.contains("green.example"));
    assert!(get(port, "/v1/export?format=csv", &all).body.contains("green.example"));
    assert!(!get(port, "/v1/export?format=csv", &all).body.contains("amber.example"));
    // Roles count, a token makes no other, and an outlet asks nothing of people's.
    let withdraw = serde_json::json!({"what": ["green.example"], "reason": "wrong"});
    assert_eq!(post(port, "/v1/withdraw", &reads, &withdraw).status, 403);
    let another = serde_json::json!({"name": "child", "days": 1});
    assert_eq!(post(port, "/v1/tokens", &all, &another).status, 403);
    assert_eq!((get(port, "/v1/status", &edge).status, get(port, "/v1/query?value=green.example", &edge).status), (403, 403));
    assert_eq!(post(port, "/v1/withdraw", &all, &withdraw).status, 200);
    // What was done by it is journaled with it.
    drop(node);
    let config = std::fs::read_to_string(data.path().join("node.toml")).unwrap();
    std::fs::write(data.path().join("node.toml"), config.replace("\"administers\"", "\"audits\"")).unwrap();
    let _node = start(data.path());
    let decisions = stdout(&run(data.path(), &["decisions"]));
    assert!(decisions.contains("dora (token all)") && decisions.contains("withdraws green.example"), "{decisions}");
    assert!(decisions.contains("makes the token `edge` for outlet edge") && !decisions.contains("huecry_"), "{decisions}");
    // Nobody makes more of a token than its person has now; one that was taken back lets nobody in.
    assert_eq!(post(port, "/v1/policy/reload", &all, &serde_json::json!({})).status, 403);
    run(data.path(), &["token", "revoke", "all"]);
    assert_eq!(get(port, "/v1/status", &all).status, 401);
    assert_eq!(get(port, "/v1/status", &reads).status, 200);
    let foreign = huecry(data.path(), &["token", "revoke", "edge"]);
    assert!(code(&foreign) == 1, "it is not dora's: {}", stderr(&foreign));
    assert_eq!(std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(data.path().join("tokens.json")).unwrap()) & 0o777, 0o600);
}

#[test]
fn a_08_a_node_does_not_start_where_everybody_could_read_along() {
    for (listen, why) in [
        ("0.0.0.0:7575", "reaches beyond this machine"),
        ("192.0.2.1:7575", "reaches beyond this machine"),
        ("[::]:7575", "reaches beyond this machine"),
        ("localhost:7575", "is no address with a port"),
        ("127.0.0.1", "is no address with a port"),
    ] {
        let data = founded();
        let config = std::fs::read_to_string(data.path().join("node.toml")).unwrap();
        let config = config.split("[window]").next().unwrap().to_owned();
        std::fs::write(data.path().join("node.toml"), format!("{config}\n[window]\nlisten = [\"{listen}\"]\n")).unwrap();
        let output = huecry(data.path(), &["run"]);
        assert!(code(&output) == 2 && stderr(&output).contains(why), "{listen}: {}", stderr(&output));
    }
}

#[test]
fn a_04_a_05_slow_and_endless_requests_end_and_hold_nobody_up() {
    let (data, port) = open_window("");
    let _node = start(data.path());
    let token = token(data.path(), &["laptop"]);
    let head = format!("Host: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n");
    // A gibibyte that is only announced, and one that has no end.
    let announced = send(port, &format!("POST /v1/order HTTP/1.1\r\n{head}Content-Length: 1073741824\r\n\r\n{{"));
    assert!([408, 413].contains(&announced.status), "{}", announced.status);
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(format!("POST /v1/order HTTP/1.1\r\n{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes()).unwrap();
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    let sent = (0..1_000).take_while(|_| stream.write_all(chunk.as_bytes()).is_ok()).count();
    assert!(sent < 1_000, "an endless body was read to {sent} chunks of 64 KiB");
    // A byte of the header a second.
    let begun = Instant::now();
    let mut slow = TcpStream::connect(("127.0.0.1", port)).unwrap();
    slow.set_read_timeout(Some(Duration::from_millis(900))).unwrap();
    let closed = (0..20).any(|_| {
        let gone = slow.write_all(b"G").is_err();
        gone || slow.read(&mut [0; 64]).is_ok()
    });
    assert!(closed && begun.elapsed() < Duration::from_secs(13), "{:?}", begun.elapsed());
    assert_eq!(get(port, "/v1/status", &token).status, 200);
}
