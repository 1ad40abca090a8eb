//! Events: what programs hear of what happens here, as it happens, and from where they left off.

use crate::{
    support::{founded, json_of, run, start, until},
    window::{get, open_window, token},
};
use huecry::{
    clock::Clock,
    ledger::{Ledger, Place},
    query::Ends,
    record::{SECOND_MS, Timestamp},
};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader, Write as _},
    net::{Shutdown, TcpStream},
    path::Path,
    sync::{Arc, Mutex},
};

/// Somebody who reads events.
struct Follower {
    heard: Arc<Mutex<Vec<(String, Value)>>>,
    stream: TcpStream,
}

impl Follower {
    fn new(port: u16, token: &str, after: Option<&str>) -> Self {
        let after = after.map(|cursor| format!("?after={cursor}")).unwrap_or_default();
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        write!(stream, "GET /v1/events{after} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n\r\n").unwrap();
        let (heard, reader) = (Arc::<Mutex<Vec<_>>>::default(), BufReader::new(stream.try_clone().unwrap()));
        let told = Arc::clone(&heard);
        std::thread::spawn(move || {
            let mut what = String::new();
            for line in reader.lines().map_while(Result::ok) {
                if let Some(name) = line.strip_prefix("event: ") {
                    name.clone_into(&mut what);
                } else if let Some(data) = line.strip_prefix("data: ") {
                    told.lock().unwrap().push((what.clone(), serde_json::from_str(data).unwrap_or_default()));
                }
            }
        });
        let new = Self { heard, stream };
        until("the first cursor", || !new.cursor().is_empty());
        new
    }

    /// What was told of indicators: how they stand, and about what.
    fn told(&self) -> Vec<(String, String)> {
        let heard = self.heard.lock().unwrap();
        let of = heard.iter().filter(|(_, line)| line["kind"] == "indicator");
        of.map(|(what, line)| (what.clone(), line["about"].as_str().unwrap().replace("[.]", "."))).collect()
    }

    fn has(&self, what: &str, about: &str) -> bool {
        self.told().contains(&(what.to_owned(), about.to_owned()))
    }

    fn cursor(&self) -> String {
        let heard = self.heard.lock().unwrap();
        heard.iter().rev().find(|(what, _)| what == "cursor").and_then(|(_, cursor)| cursor.as_str().map(str::to_owned)).unwrap_or_default()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _gone = self.stream.shutdown(Shutdown::Both);
    }
}

fn publish(data: &Path, values: &[&str], seconds: u64, tlp: &str) {
    let list = data.join("list.txt");
    std::fs::write(&list, values.join("\n")).unwrap();
    let end = Clock::System.now().plus_ms(seconds * SECOND_MS).to_string();
    run(data, &["import", list.to_str().unwrap(), "--confidence", "90", "--tlp", tlp, "--valid-until", &end]);
}

/// How often something was told of a value.
fn times(told: &[(String, String)], what: &str, about: &str) -> usize {
    told.iter().filter(|(one, value)| one == what && value == about).count()
}

#[test]
fn what_is_accepted_withdrawn_and_runs_out_is_told_once_and_a_reader_goes_on_where_it_was() {
    let (data, port) = open_window("");
    let node = start(data.path());
    let (all, some) = (token(data.path(), &["all"]), token(data.path(), &["some", "--tlp-max", "green"]));
    let (one, narrow) = (Follower::new(port, &all, None), Follower::new(port, &some, None));
    publish(data.path(), &["a.example", "b.example"], 6, "green");
    publish(data.path(), &["secret.example"], 6, "amber");
    publish(data.path(), &["gone.example", "kept.example"], 8, "green");
    let found = |value: &str| json_of(&run(data.path(), &["--json", "query", value, "--all"]))["values"][0]["assertions"][0].clone();
    let report = found("kept.example")["report"].as_str().unwrap().to_owned();
    run(data.path(), &["withdraw", "gone.example", "--reason", "wrong", "--alone"]);
    run(data.path(), &["renew", &report, "--valid-days", "3", "--alone"]);
    until("the ends", || ["a.example", "b.example", "secret.example"].iter().all(|value| one.has("expired", value)));
    until("the withdrawal", || one.has("withdrawn", "gone.example"));
    let others = Timestamp::parse(found("gone.example")["ends"].as_str().unwrap()).unwrap().plus_ms(SECOND_MS);
    until("the others' ends to have come", || Clock::System.now() > others);
    let told = one.told();
    for value in ["a.example", "b.example", "secret.example"] {
        assert_eq!((times(&told, "accepted", value), times(&told, "expired", value)), (1, 1), "{value}: {told:?}");
    }
    assert_eq!((times(&told, "expired", "gone.example"), times(&told, "expired", "kept.example")), (0, 0), "{told:?}");
    until("the narrow one's ends", || narrow.has("expired", "a.example"));
    assert!(narrow.told().iter().all(|(_, about)| about != "secret.example"), "{:?}", narrow.told());

    // Away while something runs out, and the node restarts: that is told then, and nothing again.
    let cursor = one.cursor();
    drop((one, narrow));
    publish(data.path(), &["late.example"], 2, "green");
    until("its end", || found("late.example")["standing"] == "over");
    drop(node);
    let _again = start(data.path());
    let back = Follower::new(port, &all, Some(&cursor));
    until("what was missed", || back.has("expired", "late.example"));
    publish(data.path(), &["new.example"], 60, "green");
    until("what is new", || back.has("accepted", "new.example"));
    let told = back.told();
    assert_eq!(times(&told, "expired", "late.example"), 1, "{told:?}");
    assert!(["a.example", "b.example", "secret.example"].iter().all(|value| times(&told, "expired", value) == 0), "{told:?}");
    // The place is one for other questions too; what is none is said.
    assert_eq!(get(port, &format!("/v1/news?after={}", back.cursor()), &all).status, 200);
    for wrong in ["x", &format!("{cursor}-1"), &cursor.replace('@', "@x"), "@1-2-3"] {
        assert_eq!(get(port, &format!("/v1/events?after={wrong}"), &all).status, 400, "{wrong}");
    }
}

#[test]
fn ends_are_told_completely_and_in_order_however_many_come_at_once_and_however_few_are_known_ahead() {
    let data = founded();
    let now = Clock::System.now();
    for (name, count, days) in [("one", 900, 2), ("two", 500, 3), ("three", 40, 3)] {
        let values: Vec<String> = (0..count).map(|number| format!("{name}-{number}.example")).collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        publish(data.path(), &values, days * 86_400, "green");
    }
    let (ledger, _writer, _) = Ledger::open(&data.path().join("ledger")).unwrap();
    let later = now.plus_ms(10 * 86_400 * SECOND_MS);
    for (ahead, most) in [(100, 7), (1, 1_000), (450, 450), (100_000, 100), (100_000, 100_000)] {
        let (mut ends, mut told, mut all) = (Ends::knowing(ahead), (now, Place::LAST), Vec::new());
        loop {
            let (found, up_to) = ends.between(&ledger, told, later, most).unwrap();
            assert!(found.len() <= most && up_to >= told);
            all.extend(found);
            if up_to == (later, Place::LAST) {
                break;
            }
            told = up_to;
        }
        assert!(all.is_sorted() && all.iter().collect::<BTreeSet<_>>().len() == 1_440, "{ahead} {most}: {}", all.len());
    }
    // None before its time, and none from the time before.
    assert!(Ends::default().between(&ledger, (now, Place::LAST), now.plus_ms(86_400 * SECOND_MS), 10).unwrap().0.is_empty());
    assert!(Ends::default().between(&ledger, (later, Place::LAST), now, 10).unwrap().0.is_empty());
}
