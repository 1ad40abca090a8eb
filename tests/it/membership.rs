//! Who may speak, over real processes: stewards who sign apart, cards that change, keys that are stolen.

use crate::support::{Three, code, huecry, json_of, port, run, start, stderr, stdout, until};
use huecry::{
    charter::{Past, Proposal},
    ledger::Ledger,
    node::keys::{KeyStore, Purpose},
};
use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// A federation of a hub with three stewards, two of whom must sign.
struct Federation {
    place: TempDir,
    id: String,
}

impl Federation {
    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn data(&self, member: &str) -> PathBuf {
        self.path(member)
    }

    fn run(&self, data: &Path, words: &[&str]) -> std::process::Output {
        let output = huecry(data, words);
        assert_eq!(code(&output), 0, "{words:?}: {}{}", stdout(&output), stderr(&output));
        output
    }

    fn founded() -> Self {
        let place = tempfile::tempdir().unwrap();
        let mut federation = Self { place, id: String::new() };
        let hub = federation.data("hub");
        let nowhere = federation.path("nowhere");
        let mut words = vec!["charter".to_owned(), "new".to_owned(), "Example Watch".to_owned()];
        for steward in ["ana", "ben", "cem"] {
            let key = json_of(
                &federation.run(&nowhere, &["--json", "key", "new", "steward", "--out", &federation.text(&format!("{steward}.key"))]),
            );
            words.extend(["--steward".to_owned(), format!("{steward}={}", key["public"].as_str().unwrap())]);
        }
        let listen = format!("/ip4/127.0.0.1/tcp/{}", port());
        federation.run(&hub, &["init", "--member", "hub", "--kind", "coordinator", "--name", "Hub", "--listen", &listen]);
        words.extend(["--request".to_owned(), hub.join("request.huecry").display().to_string()]);
        words.extend(["--out".to_owned(), federation.text("charter.toml")]);
        federation.run(&nowhere, &words.iter().map(String::as_str).collect::<Vec<_>>());
        federation.sign_and_publish("charter.toml", 1);
        let shown = json_of(&federation.run(&hub, &["--json", "charter", "show"]));
        federation.id = shown["federation"].as_str().unwrap().to_owned();
        federation
    }

    /// Ana makes the proposal of a text; ana and ben sign; the hub publishes.
    fn sign_and_publish(&self, text: &str, version: u64) {
        let hub = self.data("hub");
        self.run(&hub, &["charter", "sign", &self.text(text), "--key", &self.text("ana.key")]);
        let proposal = self.text(&format!("charter-{version}.huecry"));
        // Ben's machine has no node and no network.
        self.run(&self.path("nowhere"), &["charter", "sign", &proposal, "--key", &self.text("ben.key")]);
        let signatures = [self.text(&format!("charter-{version}.ana.signature")), self.text(&format!("charter-{version}.ben.signature"))];
        self.run(&hub, &["charter", "publish", &proposal, &signatures[0], &signatures[1]]);
    }

    /// A new member's directory, with a request for this federation.
    fn newcomer(&self, id: &str, kind: &str) -> PathBuf {
        let data = self.data(id);
        let listen = format!("/ip4/127.0.0.1/tcp/{}", port());
        let mut words = vec!["init", "--member", id, "--kind", kind, "--federation", &self.id, "--listen", &listen];
        if kind == "country" {
            words.extend(["--country", "XA"]);
        }
        self.run(&data, &words);
        data
    }

    /// Takes members in by the next version of the charter.
    fn admit(&self, version: u64, members: &[&Path]) {
        let requests: Vec<String> = members.iter().map(|data| data.join("request.huecry").display().to_string()).collect();
        let text = self.text(&format!("charter-{version}.toml"));
        let mut words = vec!["charter", "edit", "--out", &text];
        requests.iter().for_each(|request| words.extend(["--request", request.as_str()]));
        self.run(&self.data("hub"), &words);
        self.sign_and_publish(&format!("charter-{version}.toml"), version);
    }

    fn join(&self, data: &Path) {
        self.run(data, &["join", self.data("hub").join("invitation.huecry").to_str().unwrap()]);
    }
}

fn peers(data: &Path) -> usize {
    json_of(&huecry(data, &["--json", "status"]))["network"]["peers"].as_array().map_or(0, Vec::len)
}

fn knows(data: &Path, value: &str) -> bool {
    code(&huecry(data, &["query", value])) == 0
}

fn serial(data: &Path, member: &str) -> u64 {
    json_of(&huecry(data, &["--json", "card", "show", member]))["serial"].as_u64().unwrap_or(0)
}

#[test]
fn stewards_sign_apart_and_members_join_running_nodes_without_a_restart() {
    let federation = Federation::founded();
    let hub = federation.data("hub");
    let _hub = start(&hub);
    let (police, vendor) = (federation.newcomer("xa-police", "country"), federation.newcomer("vendor-one", "vendor"));
    federation.admit(2, &[&police, &vendor]);
    federation.join(&police);
    federation.join(&vendor);
    let _nodes = (start(&police), start(&vendor));
    until("all three to be connected", || peers(&police) == 2 && peers(&vendor) == 2);
    federation.run(&vendor, &["publish", "--value", "evil.example"]);
    until("the value to arrive", || knows(&police, "evil.example") && knows(&hub, "evil.example"));
    // The charter goes on while they run: a version that changes a circle reaches everyone.
    federation.run(&hub, &["charter", "edit", "--out", &federation.text("charter-3.toml")]);
    let text = std::fs::read_to_string(federation.path("charter-3.toml")).unwrap();
    std::fs::write(
        federation.path("charter-3.toml"),
        format!("{text}\n[[circle]]\nname = \"finance\"\nmembers = [\"xa-police\", \"hub\"]\n"),
    )
    .unwrap();
    let diff = federation.run(&hub, &["charter", "diff", &federation.text("charter-3.toml")]);
    assert!(stdout(&diff).contains("adds circle `finance` with `xa-police`, `hub`, generation 1"), "{}", stdout(&diff));
    federation.sign_and_publish("charter-3.toml", 3);
    let version = |data: &Path| json_of(&huecry(data, &["--json", "charter", "show"]))["version"].as_u64();
    until("version 3 everywhere", || [&hub, &police, &vendor].iter().all(|data| version(data) == Some(3)));
    assert_eq!(json_of(&huecry(&vendor, &["--json", "status"]))["charter"], "current");
}

#[test]
fn one_signature_of_two_is_not_enough_and_a_steward_signs_a_version_once() {
    let federation = Federation::founded();
    let (hub, nowhere) = (federation.data("hub"), federation.path("nowhere"));
    federation.run(&hub, &["charter", "edit", "--out", &federation.text("two.toml")]);
    federation.run(&hub, &["charter", "sign", &federation.text("two.toml"), "--key", &federation.text("ana.key")]);
    let alone = huecry(&hub, &["charter", "publish", &federation.text("charter-2.huecry"), &federation.text("charter-2.ana.signature")]);
    assert_eq!(code(&alone), 1);
    assert!(stderr(&alone).contains("1 of the 3 stewards of version 1 have signed, 2 are needed"), "{}", stderr(&alone));
    // Another charter of the same version, made on the same day.
    std::thread::sleep(Duration::from_millis(5));
    federation.run(&hub, &["charter", "edit", "--out", &federation.text("other.toml")]);
    let again = huecry(&hub, &["charter", "sign", &federation.text("other.toml"), "--key", &federation.text("ana.key")]);
    assert_eq!(code(&again), 1);
    assert!(stderr(&again).contains("this key has signed version 2 already"), "{}", stderr(&again));
    // A key of nobody.
    federation.run(&nowhere, &["key", "new", "steward", "--out", &federation.text("mallory.key")]);
    let stranger = huecry(&nowhere, &["charter", "sign", &federation.text("charter-2.huecry"), "--key", &federation.text("mallory.key")]);
    assert_eq!(code(&stranger), 2);
    assert!(stderr(&stranger).contains("is no steward's"), "{}", stderr(&stranger));
}

#[test]
fn a_member_rotates_its_publishing_and_node_keys_and_goes_on() {
    let federation = Federation::founded();
    let hub = federation.data("hub");
    let vendor = federation.newcomer("vendor-one", "vendor");
    federation.admit(2, &[&vendor]);
    federation.join(&vendor);
    let _nodes = (start(&hub), start(&vendor));
    until("both to be connected", || peers(&hub) == 1);
    federation.run(&vendor, &["publish", "--value", "before.example"]);
    until("the first value to arrive", || knows(&hub, "before.example"));
    federation.run(&vendor, &["card", "rotate", "publishing"]);
    until("the new card to arrive", || serial(&hub, "vendor-one") == 2);
    federation.run(&vendor, &["publish", "--value", "after.example"]);
    until("a value under the new key to arrive", || knows(&hub, "after.example"));
    assert!(knows(&hub, "before.example"), "what the old key wrote is pinned, and stands");
    federation.run(&vendor, &["card", "rotate", "node"]);
    until("the node to come back under its new key", || serial(&hub, "vendor-one") == 3 && peers(&hub) == 1);
    federation.run(&vendor, &["publish", "--value", "again.example"]);
    until("a value through the new node key to arrive", || knows(&hub, "again.example"));
}

#[test]
fn n_11_p_07_a_revoked_nodes_connections_close_within_a_second() {
    let federation = Federation::founded();
    let hub = federation.data("hub");
    let vendor = federation.newcomer("vendor-one", "vendor");
    federation.admit(2, &[&vendor]);
    federation.join(&vendor);
    let (_hub, _vendor) = (start(&hub), start(&vendor));
    until("both to be connected", || peers(&hub) == 1);
    // The vendor's people sign elsewhere; the card comes in at the hub.
    let draft = federation.text("draft");
    federation.run(&vendor, &["card", "revoke", "main", "--draft", &draft]);
    let root = vendor.join("keys/root.key").display().to_string();
    federation.run(&vendor, &["card", "sign", &draft, "--root", &root, "--out", &federation.text("signed")]);
    federation.run(&hub, &["card", "publish", &federation.text("signed")]);
    let begun = Instant::now();
    until("the connection to close", || peers(&hub) == 0);
    assert!(begun.elapsed() < Duration::from_secs(3), "closed after {:?}, asked every 30 ms", begun.elapsed());
}

#[test]
fn k_05_what_a_stolen_key_writes_after_the_pin_counts_nowhere_and_late_joiners_get_the_true_branch() {
    let federation = Federation::founded();
    let hub = federation.data("hub");
    let vendor = federation.newcomer("vendor-one", "vendor");
    federation.admit(2, &[&vendor]);
    federation.join(&vendor);
    let mut config = std::fs::read_to_string(hub.join("node.toml")).unwrap();
    for name in ["dora", "emil"] {
        let made = federation.run(&hub, &["--json", "key", "new", "operator", "--out", &federation.text(&format!("{name}.operator"))]);
        let key = json_of(&made)["public"].as_str().unwrap().to_owned();
        let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name;
        config += &format!("\n[[operators]]\nname = \"{name}\"\nuser = \"{user}\"\nkey = \"{key}\"\n");
        config += "roles = [\"reads\", \"decides\", \"publishes\", \"administers\", \"audits\"]\n";
    }
    std::fs::write(hub.join("node.toml"), config).unwrap();
    let hub_node = start(&hub);
    let vendor_node = start(&vendor);
    federation.run(&vendor, &["publish", "--value", "honest.example"]);
    until("the honest value to arrive", || knows(&hub, "honest.example"));
    // The thief has a copy of the whole machine and goes on publishing with it.
    drop(vendor_node);
    let thief = federation.data("thief");
    copy(&vendor, &thief);
    let thief_node = start(&thief);
    until("the thief to be connected", || peers(&hub) == 1);
    federation.run(&thief, &["publish", "--value", "forged.example", "--alone"]);
    until("the forged value to arrive", || knows(&hub, "forged.example"));
    drop(thief_node);
    // The owner, whose machine never saw the forgery, pins what is its own.
    federation.run(&vendor, &["card", "pin"]);
    let vendor_node = start(&vendor);
    until("the hub to set the forgery aside", || serial(&hub, "vendor-one") == 2 && !knows(&hub, "forged.example"));
    assert!(knows(&hub, "honest.example"));
    let listed = federation.run(&hub, &["quarantine"]);
    assert!(stdout(&listed).contains("vendor-one/indicators  #2 to #2, 1 batches"), "{}", stdout(&listed));
    federation.run(&vendor, &["publish", "--value", "resumed.example", "--alone"]);
    until("the new epoch to arrive", || knows(&hub, "resumed.example"));
    // Two operators may decide otherwise; one is not enough, nor one twice.
    let release = |name: &str| {
        let key = federation.text(&format!("{name}.operator"));
        json_of(&huecry(&hub, &["--json", "quarantine", "release", "vendor-one/indicators", "--operator", name, "--key", &key]))
    };
    assert_eq!(code(&huecry(&hub, &["quarantine", "release", "vendor-one/indicators"])), 1, "no signature");
    assert_eq!(release("dora")["decided"], false);
    assert_eq!(release("dora")["decided"], false);
    assert!(!knows(&hub, "forged.example"));
    assert_eq!(release("emil")["decided"], true);
    let decisions = stdout(&federation.run(&hub, &["decisions"]));
    assert!(decisions.contains("dora  decides for dora and emil: release vendor-one/indicators from quarantine"), "{decisions}");
    until("the released value to count", || knows(&hub, "forged.example"));
    assert_eq!(code(&huecry(&hub, &["quarantine", "drop", "vendor-one/indicators"])), 1, "nothing is aside any more");
    drop((hub_node, vendor_node));
}

#[test]
fn one_line_is_enough_to_join_and_a_stranger_gets_nothing_for_it() {
    let federation = Federation::founded();
    let hub = federation.data("hub");
    let _hub = start(&hub);
    let (police, stranger) = (federation.newcomer("xa-police", "country"), federation.newcomer("xb-police", "country"));
    let before = huecry(&police, &["join", "00@/ip4/127.0.0.1/tcp/1"]);
    assert_eq!(code(&before), 2, "that is no federation id, so it is a file name: {}", stderr(&before));
    let request = police.join("request.huecry").display().to_string();
    federation.run(&hub, &["charter", "edit", "--request", &request, "--out", &federation.text("charter-2.toml")]);
    federation.run(&hub, &["charter", "sign", &federation.text("charter-2.toml"), "--key", &federation.text("ana.key")]);
    federation.run(&hub, &["charter", "sign", &federation.text("charter-2.huecry"), "--key", &federation.text("ben.key")]);
    let signatures = [federation.text("charter-2.ana.signature"), federation.text("charter-2.ben.signature")];
    let published = federation.run(&hub, &["charter", "publish", &federation.text("charter-2.huecry"), &signatures[0], &signatures[1]]);
    let said = stderr(&published);
    let line = said.split("huecry join ").last().unwrap().trim();
    assert!(line.starts_with(&federation.id), "{said}");
    federation.run(&police, &["join", line]);
    let _police = start(&police);
    until("it to be connected", || peers(&police) == 1);
    let refused = huecry(&stranger, &["join", line]);
    assert_eq!(code(&refused), 3);
    assert!(stderr(&refused).contains("let this node in"), "{}", stderr(&refused));
}

#[test]
fn c_09_a_node_restored_from_yesterdays_backup_fetches_its_own_heads_before_it_signs() {
    let federation = Federation::founded();
    let hub = federation.data("hub");
    let (police, vendor) = (federation.newcomer("xa-police", "country"), federation.newcomer("vendor-one", "vendor"));
    federation.admit(2, &[&police, &vendor]);
    [&police, &vendor].iter().for_each(|data| federation.join(data));
    let nodes = (start(&hub), start(&police));
    let before = start(&vendor);
    until("all to be connected", || peers(&vendor) == 2);
    federation.run(&vendor, &["publish", "--value", "monday.example"]);
    until("monday's value", || knows(&hub, "monday.example") && knows(&police, "monday.example"));
    drop(before);
    let backup = federation.data("backup");
    copy(&vendor, &backup);
    let after = start(&vendor);
    federation.run(&vendor, &["publish", "--value", "tuesday.example"]);
    until("tuesday's value", || knows(&hub, "tuesday.example") && knows(&police, "tuesday.example"));
    drop(after);
    // The machine is lost; the backup knows nothing of tuesday. While it is alone, what it is told to publish waits.
    let queued = federation.run(&backup, &["publish", "--value", "wednesday.example"]);
    assert!(stdout(&queued).contains("queued"), "{}", stdout(&queued));
    assert!(!knows(&backup, "wednesday.example"));
    let _restored = start(&backup);
    until("wednesday's value everywhere", || [&hub, &police, &backup].iter().all(|data| knows(data, "wednesday.example")));
    assert!(knows(&backup, "tuesday.example"), "its own missing batch was fetched");
    let status = json_of(&huecry(&hub, &["--json", "status"]));
    let feed = status["feeds"].as_array().unwrap().iter().find(|feed| feed["feed"] == "vendor-one/indicators").unwrap().clone();
    assert_eq!((feed["last"].as_u64(), feed["quarantined"].as_bool()), (Some(3), Some(false)), "{feed}");
    drop(nodes);
}

#[test]
fn two_nodes_of_one_member_publish_on_their_own_lanes_and_never_fork() {
    let federation = Federation::founded();
    let hub = federation.data("hub");
    let vendor = federation.newcomer("vendor-one", "vendor");
    federation.admit(2, &[&vendor]);
    federation.join(&vendor);
    let second = federation.data("second");
    federation.run(&second, &["init", "--member", "vendor-one", "--node", "second", "--listen", &format!("/ip4/127.0.0.1/tcp/{}", port())]);
    assert!(!second.join("keys/root.key").exists());
    let (_hub, _vendor) = (start(&hub), start(&vendor));
    federation.run(&vendor, &["card", "node", second.join("node-request.huecry").to_str().unwrap()]);
    federation.run(&second, &["join", vendor.join("invitation.huecry").to_str().unwrap()]);
    let _second = start(&second);
    until("the hub to see both", || peers(&hub) == 2);
    for round in 0..5 {
        federation.run(&vendor, &["publish", "--value", &format!("one-{round}.example")]);
        federation.run(&second, &["publish", "--value", &format!("two-{round}.example")]);
    }
    until("all ten at the hub", || (0..5).all(|round| ["one", "two"].iter().all(|who| knows(&hub, &format!("{who}-{round}.example")))));
    let status = json_of(&huecry(&hub, &["--json", "status"]));
    let feeds: Vec<(String, bool)> = status["feeds"]
        .as_array()
        .unwrap()
        .iter()
        .map(|feed| (feed["feed"].as_str().unwrap().to_owned(), feed["quarantined"].as_bool().unwrap()))
        .collect();
    assert_eq!(feeds, [("vendor-one/indicators".to_owned(), false), ("vendor-one/indicators~1".to_owned(), false)]);
}

#[test]
fn a_second_node_that_stands_by_has_the_feeds_from_peers_and_the_decisions_from_the_first() {
    let federation = Federation::founded();
    let hub = federation.data("hub");
    let vendor = federation.newcomer("vendor-one", "vendor");
    federation.admit(2, &[&vendor]);
    federation.join(&vendor);
    let second = federation.data("second");
    federation.run(&second, &["init", "--member", "vendor-one", "--node", "second", "--listen", &format!("/ip4/127.0.0.1/tcp/{}", port())]);
    let (_hub, _vendor) = (start(&hub), start(&vendor));
    federation.run(&hub, &["publish", "--value", "held.example", "--value", "gone.example"]);
    until("the vendor to have it", || knows(&vendor, "gone.example"));
    federation.run(&vendor, &["card", "node", second.join("node-request.huecry").to_str().unwrap()]);
    federation.run(&second, &["join", vendor.join("invitation.huecry").to_str().unwrap()]);
    // What is decided before the second one runs, and what is decided while it does.
    federation.run(&vendor, &["unblock", "shop.example", "--reason", "a customer"]);
    federation.run(&vendor, &["follow", "hub/indicators", "--min-confidence", "10"]);
    federation.run(&vendor, &["erase", "gone.example", "--order", "Test Court", "--yes"]);
    let mut stream = std::process::Command::new(env!("CARGO_BIN_EXE_huecry"))
        .args(["--data", vendor.to_str().unwrap(), "decisions", "stream", "--follow"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let _second = start(&second);
    let take = std::process::Command::new(env!("CARGO_BIN_EXE_huecry"))
        .args(["--data", second.to_str().unwrap(), "decisions", "take"])
        .stdin(stream.stdout.take().unwrap())
        .spawn()
        .unwrap();
    let (_stream, _take) = (crate::support::Running(stream), crate::support::Running(take));
    until("the second to have the record", || knows(&second, "held.example"));
    until("the erasure to arrive", || !knows(&second, "gone.example"));
    let decisions = || stdout(&huecry(&second, &["decisions"]));
    until("the decisions to arrive", || decisions().contains("shop.example") && decisions().contains("under: Test Court"));
    assert!(stdout(&federation.run(&second, &["follow"])).contains("hub/indicators"));
    federation.run(&vendor, &["unblock", "late.example", "--reason", "another"]);
    until("what is decided later too", || decisions().contains("late.example"));
    let taken: u64 = stdout(&federation.run(&second, &["decisions", "taken"])).trim().parse().unwrap();
    assert!(taken > 0);
    // Handed over again from the beginning, it changes nothing; and it is nobody's way to bring in something else.
    let all = federation.run(&vendor, &["decisions", "stream"]).stdout;
    let before = json_of(&huecry(&second, &["--json", "status"]))["feeds"].clone();
    let again = |lines: &[u8]| {
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_huecry"))
            .args(["--data", second.to_str().unwrap(), "decisions", "take"])
            .stdin(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(child.stdin.as_mut().unwrap(), lines).unwrap();
        child.wait_with_output().unwrap()
    };
    assert_eq!(code(&again(&all)), 0);
    assert_eq!(json_of(&huecry(&second, &["--json", "status"]))["feeds"], before);
    let charter = b"{\"position\":1,\"next\":2,\"entry\":\"0100\"}\n";
    assert!(stderr(&again(charter)).contains("no person's decision"));
}

#[test]
fn p_11_an_operator_does_what_its_roles_allow_and_sees_up_to_its_clearance() {
    let data = crate::support::founded();
    let place = data.path();
    let list = place.join("list");
    std::fs::write(&list, "secret.example\n").unwrap();
    // Imported lists are TLP:RED.
    assert_eq!(code(&huecry(place, &["import", list.to_str().unwrap(), "--as-is"])), 0);
    assert!(knows(place, "secret.example"), "whoever keeps a node without operators may do everything");
    let config = std::fs::read_to_string(place.join("node.toml")).unwrap();
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name;
    let with = |user: &str, roles: &str, clearance: &str| {
        let operator = format!("\n[[operators]]\nname = \"ana\"\nuser = \"{user}\"\nroles = [{roles}]\nclearance = \"{clearance}\"\n");
        std::fs::write(place.join("node.toml"), format!("{config}{operator}")).unwrap();
    };
    with(&user, "\"reads\"", "amber");
    assert!(!knows(place, "secret.example"), "above the clearance it is as if it did not exist");
    let refused = huecry(place, &["publish", "--value", "a.example"]);
    assert_eq!(code(&refused), 1);
    assert!(stderr(&refused).contains("operator `ana` has not the role `publishes`"), "{}", stderr(&refused));
    with(&user, "\"reads\", \"publishes\", \"audits\"", "red");
    assert!(knows(place, "secret.example"));
    assert_eq!(code(&huecry(place, &["publish", "--value", "a.example"])), 0);
    let decisions = stdout(&huecry(place, &["decisions"]));
    assert!(decisions.contains("ana  publishes `1 values`, 1 records, xx-agency/indicators#1.1"), "{decisions}");
    with("nobody", "\"reads\"", "red");
    let stranger = huecry(place, &["query", "a.example"]);
    assert_eq!(code(&stranger), 1);
    assert!(stderr(&stranger).contains("is no operator of this node"), "{}", stderr(&stranger));
    with(&user, "\"raeds\"", "red");
    let typo = huecry(place, &["query", "a.example"]);
    assert_eq!(code(&typo), 2);
    assert!(stderr(&typo).contains("did you mean `reads`?"), "{}", stderr(&typo));
}

/// Starts a real proxy, or says that there is none here; under CI there must be.
fn proxy(program: &str, arguments: &[&str]) -> Option<crate::support::Running> {
    match std::process::Command::new(program)
        .args(arguments)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
    {
        Ok(child) => Some(crate::support::Running(child)),
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "{program}: {error}; scripts/test installs it");
            println!("skipped: there is no {program} here");
            None
        }
    }
}

#[test]
fn a_node_behind_a_proxy_joins_and_receives() {
    let federation = Federation::founded();
    let hub = federation.data("hub");
    let (police, vendor) = (federation.newcomer("xa-police", "country"), federation.newcomer("vendor-one", "vendor"));
    federation.admit(2, &[&police, &vendor]);
    [&police, &vendor].iter().for_each(|data| federation.join(data));
    let (socks, http) = (port(), port());
    for (data, proxy) in [(&police, format!("socks5://127.0.0.1:{socks}")), (&vendor, format!("http://127.0.0.1:{http}"))] {
        let config = std::fs::read_to_string(data.join("node.toml")).unwrap();
        std::fs::write(data.join("node.toml"), config.replacen("[node]", &format!("[node]\nproxy = \"{proxy}\""), 1)).unwrap();
    }
    let _nodes = (start(&hub), start(&police), start(&vendor));
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(peers(&hub), 0, "there is no proxy yet, and nothing goes around it");
    let Some(_socks) = proxy("microsocks", &["-i", "127.0.0.1", "-p", &socks.to_string()]) else { return };
    let config = federation.text("tinyproxy.conf");
    std::fs::write(&config, format!("Port {http}\nListen 127.0.0.1\nAllow 127.0.0.1\n")).unwrap();
    let Some(_http) = proxy("tinyproxy", &["-d", "-c", &config]) else { return };
    until("both to be connected through their proxies", || peers(&hub) == 2);
    federation.run(&vendor, &["publish", "--value", "tunnelled.example"]);
    until("a value to pass", || knows(&police, "tunnelled.example"));
}

#[test]
fn the_doctor_names_what_is_wrong_and_what_to_do() {
    let federation = Federation::founded();
    let hub = federation.data("hub");
    let police = federation.newcomer("xa-police", "country");
    let found = |data: &Path, words: &str| {
        let said = stdout(&huecry(data, &["doctor"]));
        assert!(said.contains(words), "{words}: {said}");
    };
    found(&police, "belongs to no federation yet");
    federation.admit(2, &[&police]);
    federation.join(&police);
    found(&police, "is the node there running, and may packets pass?");
    found(&police, "not running; `huecry run` starts it");
    found(&police, "the root key lies here; it belongs offline");
    let _nodes = (start(&hub), start(&police));
    until("both to be connected", || peers(&police) == 1);
    let well = huecry(&police, &["doctor"]);
    assert_eq!(code(&well), 0, "{}", stdout(&well));
    std::fs::set_permissions(police.join("keys/node.key"), std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let wrong = huecry(&police, &["doctor"]);
    assert_eq!(code(&wrong), 1);
    assert!(stdout(&wrong).contains("run `chmod 600"), "{}", stdout(&wrong));
}

fn copy(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp").arg("--archive").arg(from).arg(to).status().unwrap();
    assert!(status.success());
    let _ = std::fs::remove_file(to.join("huecry.sock"));
}

#[test]
fn x5_x6_a_charter_that_gives_a_key_or_a_circle_twice_is_refused_by_sign_publish_and_every_node() {
    let three = Three::new();
    let (agency, vendor, police) = (three.of("agency"), three.of("vendor"), three.of("police"));
    let before = Ledger::open(&agency.join("ledger")).unwrap().0.roster().unwrap().unwrap().charter().clone();
    let _nodes = [three.start("agency"), three.start("vendor"), three.start("police")];
    let peers = |data: &Path| json_of(&run(data, &["--json", "status"]))["network"]["peers"].as_array().map_or(0, Vec::len);
    until("the nodes to meet", || peers(&agency) == 2);
    // The vendor's node key, which is public, in place of the root key of the police.
    let text = three.place.path().join("charter.toml");
    let draft = |change: &dyn Fn(String) -> String| {
        let _old = std::fs::remove_file(&text);
        run(&agency, &["charter", "edit", "--out", text.to_str().unwrap()]);
        let written = std::fs::read_to_string(&text).unwrap();
        let changed = change(written.clone());
        assert_ne!(changed, written, "{written}");
        std::fs::write(&text, changed).unwrap();
    };
    let node_key = KeyStore::in_data(&vendor).unwrap().public(Purpose::Node).unwrap();
    let root = KeyStore::in_data(&police).unwrap().public(Purpose::Root).unwrap();
    draft(&|text| text.replace(&hex::encode(root.to_bytes()), &hex::encode(node_key.to_bytes())));
    let steward = KeyStore::in_data(&agency).unwrap().read(Purpose::Steward).unwrap();
    let key_file = agency.join("keys/steward.key");
    let words = ["charter", "sign", text.to_str().unwrap(), "--key", key_file.to_str().unwrap()];
    for words in [&words[..], &["charter", "diff", text.to_str().unwrap()]] {
        let refused = huecry(&agency, words);
        assert_ne!(code(&refused), 0);
        let said = stderr(&refused);
        assert!(said.contains("is the node key of `some-vendor` and cannot become the root key of `xa-police`"), "{said}");
    }
    // Made by a tool that checks nothing, with a real signature.
    let mut charter = before.charter().clone();
    (charter.version, charter.prev) = (charter.version + 1, Some(before.hash()));
    charter.members.iter_mut().find(|one| one.id.as_str() == "xa-police").unwrap().root = node_key;
    let mut proposal = Proposal::new(charter, Some(&before), Vec::new(), &Past::default()).unwrap();
    let signature = proposal.sign(&steward).unwrap();
    proposal.add(&signature).unwrap();
    let (file, version) = (three.place.path().join("bad.huecry"), before.charter().version);
    std::fs::write(&file, proposal.encode()).unwrap();
    let refused = huecry(&agency, &["charter", "publish", file.to_str().unwrap()]);
    assert_ne!(code(&refused), 0);
    assert!(stderr(&refused).contains("is the node key of `some-vendor`"), "{}", stderr(&refused));
    for data in [&agency, &vendor, &police] {
        let status = json_of(&run(data, &["--json", "status"]));
        assert_eq!((&status["charter_version"], &status["cards"]), (&version.into(), &3.into()), "{status}");
    }
}
