//! The TAXII server: read to its end by OASIS's own client, and by raw requests that try what a client would not.

use crate::{
    support::{run, start},
    window::{Answer, get, open_window, send, token},
};
use std::{collections::BTreeSet, path::Path, process::Command};

fn publish(data: &Path, name: &str, values: impl Iterator<Item = String>, more: &[&str]) {
    let list = data.join(name);
    std::fs::write(&list, values.map(|value| value + "\n").collect::<String>()).unwrap();
    let about = ["--confidence", "80", "--valid-days", "30"];
    run(data, &[&["import", list.to_str().unwrap()][..], &about, more].concat());
}

/// What OASIS's client reads.
fn client(port: u16, token: &str, per_page: u32, after: &[&str]) -> Option<serde_json::Value> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("HUECRY_INTEROP").is_none() {
        println!("skipped: HUECRY_INTEROP is not set, so OASIS's client may not be there");
        return None;
    }
    let output = Command::new(root.join("target/interop/venv/bin/python"))
        .arg(root.join("tests/interop/taxii_client.py"))
        .args([&format!("http://127.0.0.1:{port}/taxii2/"), token, &per_page.to_string()])
        .args(after)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

fn ids(answer: &Answer) -> Vec<String> {
    let objects = answer.json()["objects"].as_array().cloned().unwrap_or_default();
    objects.iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

/// All pages, by `next`.
fn crawl(port: u16, token: &str, place: &str, query: &str) -> (Vec<String>, String) {
    let (mut all, mut next, mut last) = (Vec::new(), String::new(), String::new());
    loop {
        let answer = get(port, &format!("{place}objects/?{query}{next}"), token);
        assert_eq!(answer.status, 200, "{}", answer.body);
        all.extend(ids(&answer));
        let header = |line: &str| line.to_ascii_lowercase().strip_prefix("x-taxii-date-added-last: ").map(str::to_uppercase);
        last = answer.head.lines().find_map(header).unwrap_or(last);
        let body = answer.json();
        match body["next"].as_str() {
            Some(text) => next = format!("&next={text}"),
            None => return (all, last),
        }
    }
}

fn place(port: u16, token: &str) -> String {
    let all = get(port, "/taxii2/api/collections/", token).json();
    let collections = all["collections"].as_array().unwrap();
    assert_eq!(collections.len(), 1, "{all}");
    format!("/taxii2/api/collections/{}/", collections[0]["id"].as_str().unwrap())
}

#[test]
fn oasis_own_client_reads_a_collection_page_by_page_without_loss_or_repeat() {
    let (data, port) = open_window("");
    publish(data.path(), "first.txt", (0..2_500).map(|number| format!("n{number}.example")), &["--tlp", "green"]);
    let _node = start(data.path());
    let token = token(data.path(), &["siem", "--roles", "reads"]);
    let Some(read) = client(port, &token, 100, &[]) else { return };
    let one = &read["collections"].as_object().unwrap().values().next().unwrap();
    let count = |what: &str| one[what].as_u64().unwrap();
    assert_eq!((one["kinds"]["indicator"].as_u64(), one["kinds"]["report"].as_u64()), (Some(2_500), Some(1)), "{read}");
    assert!(count("objects") == count("unique") && count("pages") > 25, "{read}");
    assert!(one["manifest_is_the_same"] == true && one["single_is_the_same"] == true, "{read}");
    // What was withdrawn comes again, as such, and once; what is new comes with it.
    let now = huecry::clock::Clock::System.now().precise();
    run(data.path(), &["withdraw", "n7.example", "--reason", "wrong"]);
    publish(data.path(), "second.txt", std::iter::once("late.example".to_owned()), &["--tlp", "green"]);
    let later = client(port, &token, 100, &[&now]).unwrap();
    let one = &later["collections"].as_object().unwrap().values().next().unwrap();
    assert_eq!(one["kinds"], serde_json::json!({"indicator": 2, "report": 1}), "{later}");
    assert_eq!(one["revoked"], serde_json::json!(["n7[.]example"]));
    let again = client(port, &token, 1_000, &[]).unwrap();
    let one = &again["collections"].as_object().unwrap().values().next().unwrap();
    assert!(one["objects"] == one["unique"] && one["kinds"]["indicator"] == 2_501, "{again}");
}

#[test]
fn a_reader_loses_and_repeats_nothing_whatever_the_pages_and_however_many_share_a_time() {
    let (data, port) = open_window("");
    publish(data.path(), "first.txt", (0..700).map(|number| format!("n{number}.example")), &["--tlp", "green"]);
    let _node = start(data.path());
    let token = token(data.path(), &["siem"]);
    let place = place(port, &token);
    let whole: BTreeSet<String> = crawl(port, &token, &place, "limit=10000").0.into_iter().collect();
    assert_eq!(whole.iter().filter(|id| id.starts_with("indicator")).count(), 700);
    for limit in [1, 7, 256, 257] {
        let (pages, _) = crawl(port, &token, &place, &format!("limit={limit}"));
        assert!(pages.len() == whole.len() && pages.iter().cloned().collect::<BTreeSet<_>>() == whole, "{limit}");
    }
    // Somebody who knows only the time of the last object, as older clients do.
    let (mut seen, mut after) = (BTreeSet::new(), "1970-01-01T00:00:00.0000001Z".to_owned());
    loop {
        let answer = get(port, &format!("{place}objects/?limit=90&added_after={after}"), &token);
        let page = ids(&answer);
        if page.is_empty() {
            break;
        }
        for id in page {
            assert!(seen.insert(id.clone()), "{id} twice");
        }
        let line = answer.head.lines().find(|line| line.to_ascii_lowercase().starts_with("x-taxii-date-added-last")).unwrap();
        after = line.split_once(": ").unwrap().1.trim().to_owned();
    }
    assert_eq!(seen.iter().filter(|id| id.starts_with("indicator")).count(), 700);
    // Filters, single objects, and what there is not.
    let (some, _) = crawl(port, &token, &place, "match[type]=report&match[spec_version]=2.1&match[version]=last");
    assert!(some.len() == 1 && some[0].starts_with("report--"));
    let one = seen.iter().find(|id| id.starts_with("indicator")).unwrap();
    assert_eq!(crawl(port, &token, &place, &format!("match[id]={one}")).0, std::slice::from_ref(one));
    assert_eq!(ids(&get(port, &format!("{place}objects/{one}/"), &token)), std::slice::from_ref(one));
    assert_eq!(get(port, &format!("{place}objects/{one}/versions/"), &token).json()["versions"].as_array().unwrap().len(), 1);
    for (path, status) in [
        (format!("{place}objects/indicator--00000000-0000-4000-8000-000000000000/"), 404),
        (format!("{place}objects/{}/", one.replace("indicator", "report")), 404),
        (format!("{place}objects/rubbish/"), 404),
        (format!("{place}objects/?limit=0"), 400),
        (format!("{place}objects/?added_after=soon"), 400),
        (format!("{place}objects/?next=rubbish"), 400),
        (format!("{place}objects/?next=17.0.0.{}", "x".repeat(8)), 400),
        (format!("{place}objects/?added_after=2554-07-21T23:34:33.709551Z"), 200),
        (format!("{place}objects/?added_after=9999-12-31T23:59:59Z"), 400),
        ("/taxii2/api/collections/00000000-0000-4000-8000-000000000000/objects/".to_owned(), 404),
        ("/taxii2/api/status/1/".to_owned(), 404),
    ] {
        let answer = get(port, &path, &token);
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
    }
    // Nothing is written here, and other versions are not spoken.
    let head = |more: &str| format!("Host: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n{more}Connection: close\r\n\r\n");
    assert_eq!(send(port, &format!("POST {place}objects/ HTTP/1.1\r\n{}", head("Content-Length: 0\r\n"))).status, 405);
    assert_eq!(
        send(port, &format!("GET /taxii2/ HTTP/1.1\r\n{}", head("Accept: application/vnd.oasis.taxii+json; version=2.0\r\n"))).status,
        406
    );
    let said = send(port, &format!("GET /taxii2/ HTTP/1.1\r\n{}", head("Accept: application/taxii+json;version=2.1\r\n")));
    assert!(said.status == 200 && said.head.contains("application/taxii+json;version=2.1"), "{}", said.head);
    assert_eq!(send(port, &format!("GET /taxii2/ HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n")).status, 401);
}

#[test]
fn p_11_a_lower_clearance_reads_less_and_learns_nothing_of_the_rest() {
    let (data, port) = open_window("");
    publish(data.path(), "amber.txt", (0..50).map(|number| format!("a{number}.example")), &["--tlp", "amber"]);
    publish(data.path(), "green.txt", (0..5).map(|number| format!("g{number}.example")), &["--tlp", "green"]);
    let _node = start(data.path());
    let (all, green) = (token(data.path(), &["all"]), token(data.path(), &["green", "--tlp-max", "green", "--roles", "reads"]));
    let clear = token(data.path(), &["clear", "--tlp-max", "clear", "--roles", "reads"]);
    let place = place(port, &all);
    let indicators = |token: &str| crawl(port, token, &place, "match[type]=indicator").0;
    assert_eq!((indicators(&all).len(), indicators(&green).len()), (55, 5));
    let amber = indicators(&all).into_iter().find(|id| !indicators(&green).contains(id)).unwrap();
    assert_eq!(get(port, &format!("{place}objects/{amber}/"), &green).status, 404);
    assert_eq!(get(port, "/taxii2/api/collections/", &clear).json()["collections"], serde_json::json!([]));
    assert_eq!(get(port, &place, &clear).status, 404);
}
