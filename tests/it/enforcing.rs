//! What may act, over real processes: outlets and their exports, one person's stop, two people's force, what is held,
//! disputed, tried.

use crate::support::{Running, code, huecry, json_of, port, start, stderr, stdout, until};
use serde_json::Value;
use std::{
    cell::RefCell,
    path::{Path, PathBuf},
    process::Output,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Two members that trust each other: an agency that protects something, and a vendor that publishes.
pub struct Pair {
    pub place: TempDir,
    running: RefCell<Vec<Running>>,
}

fn run(data: &Path, words: &[&str]) -> Output {
    let output = huecry(data, words);
    assert_eq!(code(&output), 0, "{words:?}: {}{}", stdout(&output), stderr(&output));
    output
}

impl Pair {
    /// `agency` is put at the end of the agency's node.toml.
    pub fn new(agency: &str) -> Self {
        let place = tempfile::tempdir().unwrap();
        let pair = Self { place, running: RefCell::default() };
        let (police, vendor) = (pair.agency(), pair.vendor());
        let listen = |data: &Path, words: &[&str]| {
            let address = format!("/ip4/127.0.0.1/tcp/{}", port());
            run(data, &[words, &["--listen", &address]].concat());
        };
        listen(&police, &["init", "--member", "xx-agency", "--kind", "coordinator", "--name", "Agency", "--found", "Watch"]);
        let federation = json_of(&run(&police, &["--json", "status"]))["federation"].as_str().unwrap().to_owned();
        let about = ["--kind", "vendor", "--name", "Some Vendor", "--federation", &federation];
        listen(&vendor, &[&["init", "--member", "some-vendor"], &about[..]].concat());
        let (request, invitation) = (vendor.join("request.huecry"), police.join("invitation.huecry"));
        run(&police, &["admit", request.to_str().unwrap()]);
        run(&vendor, &["join", invitation.to_str().unwrap()]);
        pair.write("node.toml", &format!("{}\n{agency}", pair.read("node.toml")));
        pair
    }

    pub fn agency(&self) -> PathBuf {
        self.place.path().join("agency")
    }

    pub fn vendor(&self) -> PathBuf {
        self.place.path().join("vendor")
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.agency().join(name)).unwrap_or_default()
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.agency().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub fn start(&self) {
        self.stop();
        self.running.borrow_mut().extend([start(&self.agency()), start(&self.vendor())]);
    }

    pub fn stop(&self) {
        self.running.borrow_mut().clear();
    }

    /// The vendor's node falls silent.
    pub fn stop_vendor(&self) {
        self.running.borrow_mut().pop();
    }

    pub fn police(&self, words: &[&str]) -> Output {
        run(&self.agency(), words)
    }

    pub fn publish(&self, values: &[&str], more: &[&str]) {
        let list = self.place.path().join("list.txt");
        std::fs::write(&list, values.join("\n")).unwrap();
        let words = ["publish", list.to_str().unwrap(), "--title", "t", "--use", "block", "--format", "list"];
        run(&self.vendor(), &[&words[..], more].concat());
    }

    /// Lines of the resolver's export.
    fn export(&self) -> Vec<String> {
        self.read("outlets/resolver.list").lines().map(str::to_owned).collect()
    }

    fn until_export(&self, expected: &[&str]) {
        until(&format!("the export to be {expected:?}, it is {:?}", self.export()), || self.export() == expected);
    }

    pub fn promote(&self) {
        self.police(&["outlets", "promote", "resolver"]);
        self.police(&["outlets", "promote", "resolver", "--origin", "some-vendor"]);
    }

    pub fn outlet(&self) -> Value {
        json_of(&self.police(&["--json", "outlets"]))[0].clone()
    }

    pub fn until_monitored(&self, count: u64) {
        until("the vendor's values to be watched", || self.outlet()["origins"][0]["monitored"] == count);
    }
}

const RESOLVER: &str = "[[outlets]]\nname = \"resolver\"\ntypes = [\"domain\", \"ipv4\", \"cidr\", \"url\"]\n";

#[test]
fn an_outlet_is_watched_promoted_and_corrected_in_a_second() {
    let pair = Pair::new(RESOLVER);
    pair.start();
    let values = ["evil-1.example", "evil-2.example", "http://evil-3.example/x", "192.0.2.0/24", "198.51.0.0/16"];
    pair.publish(&values, &["--confidence", "90", "--source", "own"]);
    pair.until_monitored(4);
    assert!(pair.export().is_empty(), "a new outlet only counts");
    pair.promote();
    let all = ["192.0.2.0/24", "evil-1.example", "evil-2.example", "http://evil-3.example/x"];
    assert_eq!(pair.export(), all, "promoted, and written before the command returned");

    // A receiver corrects it where it hurts; by the time the command has returned it is done.
    let begun = Instant::now();
    let said = pair.police(&["unblock", "hxxp://evil-1[.]example/shop", "--reason", "the clinic needs it", "--tell-author"]);
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(pair.export(), ["192.0.2.0/24", "evil-2.example", "http://evil-3.example/x"]);
    let said = stdout(&said);
    assert!(said.contains("was line 2 of") && said.contains("policy `enforce-what-is-sure`"), "{said}");
    assert!(said.contains("told some-vendor by xx-agency/indicators#1.0"), "{said}");

    // The author finds it in its queue of work, and may stand by what it said.
    let disputes = || huecry(&pair.vendor(), &["disputes"]);
    until("the dispute to reach its author", || stdout(&disputes()).contains("says: the clinic needs it"));
    assert!(stdout(&disputes()).contains("ours: some-vendor/indicators#1.1"), "{}", stdout(&disputes()));
    run(&pair.vendor(), &["disputes", "dismiss", "xx-agency/indicators#1.0", "--reason", "seen again today"]);
    assert_eq!(code(&disputes()), 1);

    // The value is disputed now, so that the policies would not enforce it even without the exception.
    pair.police(&["unblock", "http://evil-1.example/shop", "--undo"]);
    pair.until_export(&["192.0.2.0/24", "evil-2.example", "http://evil-3.example/x"]);
    let story = stdout(&pair.police(&["explain", "evil-1.example"]));
    assert!(story.contains("disputed by xx-agency") && story.contains("(policy `no-disputed`)"), "{story}");
    assert!(story.contains("source      some-vendor") && story.contains("confidence"), "{story}");

    // One person stops everything, and goes on.
    pair.police(&["stop-enforcing", "--all", "--reason", "what is going on"]);
    assert!(pair.export().is_empty());
    pair.police(&["stop-enforcing", "--all", "--undo"]);
    assert_eq!(pair.export().len(), 3);
    pair.police(&["stop-enforcing", "--origin", "some-vendor", "--reason", "compromised"]);
    assert!(pair.export().is_empty());
    pair.police(&["stop-enforcing", "--origin", "some-vendor", "--undo"]);
    pair.police(&["throttle", "some-vendor", "--reason", "too fast"]);
    pair.publish(&["late.example"], &["--confidence", "90"]);
    until("the late one to be staged", || pair.outlet()["origins"][0]["staged"] == 1);
    assert_eq!(pair.export().len(), 3);
    pair.police(&["outlets", "admit", "resolver", "--origin", "some-vendor"]);
    assert!(pair.export().contains(&"late.example".to_owned()));

    // The author takes one back: within a second it is out.
    run(&pair.vendor(), &["withdraw", "evil-2.example", "--reason", "wrong"]);
    pair.until_export(&["192.0.2.0/24", "late.example", "http://evil-3.example/x"]);

    // A restart changes nothing: neither lines, nor modes, nor what was said.
    pair.stop();
    std::fs::remove_dir_all(pair.agency().join("ledger/state")).unwrap();
    pair.start();
    pair.until_export(&["192.0.2.0/24", "late.example", "http://evil-3.example/x"]);
    assert_eq!(pair.outlet()["origins"][0]["throttled"], 0);
    let people = stdout(&pair.police(&["decisions"]));
    assert!(people.contains("stop enforcing everything: what is going on"), "{people}");
}

#[test]
fn what_a_list_protects_takes_two_people() {
    let keys = tempfile::tempdir().unwrap();
    let key = |name: &str| {
        let file = keys.path().join(name).display().to_string();
        let made = json_of(&run(keys.path(), &["--json", "key", "new", "operator", "--out", &file]));
        (file, made["public"].as_str().unwrap().to_owned())
    };
    let ((dora, dora_public), (emil, emil_public)) = (key("dora"), key("emil"));
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name;
    let person = |name: &str, key: &str| {
        format!("[[operators]]\nname = \"{name}\"\nuser = \"{user}\"\nkey = \"{key}\"\nroles = [\"reads\", \"decides\"]\n")
    };
    let lists = "[[lists]]\nname = \"good\"\nfile = \"lists/good.txt\"\nrole = \"clears\"\n";
    let pair = Pair::new(&format!("{lists}{RESOLVER}{}{}", person("dora", &dora_public), person("emil", &emil_public)));
    pair.write("lists/good.txt", "popular.example\n192.0.2.128/25\n");
    pair.start();
    pair.publish(&["www.popular.example", "192.0.2.0/24", "http://192.0.2.200/", "evil.example"], &["--confidence", "90"]);
    pair.until_monitored(1);
    pair.promote();
    assert_eq!(pair.export(), ["evil.example"]);
    let force = |name: &str, key: &str| {
        let words = ["force", "www.popular.example", "--reason", "it is hacked", "--until", "2026-12-31", "--operator", name, "--key", key];
        huecry(&pair.agency(), &words)
    };
    let first = force("dora", &dora);
    assert!(stdout(&first).contains("a second operator must run the same"), "{}{}", stdout(&first), stderr(&first));
    assert_eq!(pair.export(), ["evil.example"], "one is not enough");
    assert_eq!(code(&force("dora", &dora)), 0, "nor is one twice");
    assert_eq!(pair.export(), ["evil.example"]);
    assert_eq!(code(&force("emil", &dora)), 1, "nor in another's name");
    let second = force("emil", &emil);
    assert!(stdout(&second).contains("whatever lists say"), "{}{}", stdout(&second), stderr(&second));
    pair.until_export(&["evil.example", "www.popular.example"]);
    pair.police(&["force", "www.popular.example", "--undo"]);
    pair.until_export(&["evil.example"]);
}

#[test]
fn two_independent_sources_are_needed_and_when_one_falls_it_stops() {
    let pair = Pair::new(RESOLVER);
    pair.start();
    pair.publish(&["shared.example", "copied.example"], &["--confidence", "60", "--source", "A Lab"]);
    let ours = |value: &str, source: &str| {
        pair.police(&["publish", "--value", value, "--title", "u", "--use", "block", "--confidence", "60", "--source", source]);
    };
    ours("shared.example", "own");
    ours("copied.example", "a-lab");
    until("both to be known here", || {
        let found = json_of(&pair.police(&["--json", "query", "shared.example"]));
        found["values"][0]["origins"].as_array().is_some_and(|origins| origins.len() == 2)
    });
    pair.promote();
    pair.police(&["outlets", "promote", "resolver", "--origin", "xx-agency"]);
    pair.until_export(&["shared.example"]);
    let story = stdout(&pair.police(&["explain", "copied.example"]));
    assert!(story.contains("1 independent"), "{story}");
    run(&pair.vendor(), &["withdraw", "shared.example", "--reason", "wrong"]);
    pair.until_export(&[]);
}

#[test]
fn what_is_held_waits_for_a_person_and_is_judged_again_when_the_policy_changes() {
    let lists = "[[lists]]\nname = \"ours\"\nfile = \"lists/ours.txt\"\nrole = \"own\"\n";
    let pair = Pair::new(lists);
    pair.write("lists/ours.txt", "agency.example\n");
    pair.start();
    let values = ["a.agency.example", "b.agency.example", "c.agency.example", "elsewhere.example"];
    pair.publish(&values, &["--confidence", "95"]);
    let held = |words: &[&str]| json_of(&huecry(&pair.agency(), &[&["--json", "held", "list"], words].concat()));
    until("three to be held", || held(&[])["matching"] == 3);
    assert_eq!(held(&["a.agency.example"])["held"][0]["policies"][0], "names-our-own");
    assert_eq!(held(&["--origin", "xx-agency"])["matching"], 0);
    let decide = |words: &[&str]| huecry(&pair.agency(), words);
    assert_eq!(code(&decide(&["held", "release", "--reason", "r"])), 2, "which ones?");
    assert_eq!(code(&decide(&["held", "release", "a.agency.example", "--reason", " "])), 2, "why?");
    pair.police(&["held", "release", "a.agency.example", "--reason", "our own report"]);
    let query = |value: &str| code(&huecry(&pair.agency(), &["query", value]));
    until("the released one to be answered", || query("a.agency.example") == 0);
    pair.police(&["held", "reject", "b.agency.example", "--reason", "no"]);
    assert_eq!((held(&[])["matching"].clone(), query("b.agency.example")), (Value::from(1), 1));
    let story = stdout(&pair.police(&["explain", "a.agency.example"]));
    assert!(story.contains("held: it is about our own") && story.contains("by uid:"), "both decisions: {story}");

    // The policy changes: what is held is judged again, what people decided stays.
    let policy = pair.read("policy.cedar");
    let cut = policy.find("@id(\"names-our-own\")").unwrap();
    let rest = policy[cut..].find("@id(\"called-a-false-positive\")").unwrap() + cut;
    pair.write("policy.cedar", &format!("{}{}", &policy[..cut], &policy[rest..]));
    pair.police(&["policy", "reload"]);
    until("the third to be accepted", || query("c.agency.example") == 0);
    assert_eq!(query("b.agency.example"), 1);

    // All of it survives a rebuild.
    pair.stop();
    std::fs::remove_dir_all(pair.agency().join("ledger/state")).unwrap();
    std::fs::remove_dir_all(pair.agency().join("ledger/index")).unwrap();
    assert_eq!([query("a.agency.example"), query("b.agency.example"), query("c.agency.example")], [0, 1, 0]);
    let story = stdout(&pair.police(&["explain", "c.agency.example", "--policies"]));
    assert!(story.contains("@id(\"names-our-own\")"), "the text of a policy that is gone: {story}");
}

#[test]
fn what_is_held_and_nobody_decides_is_refused_when_its_time_is_over() {
    let pair = Pair::new("[[lists]]\nname = \"ours\"\nfile = \"lists/ours.txt\"\nrole = \"own\"\n");
    pair.write("lists/ours.txt", "agency.example\n");
    pair.write("node.toml", &pair.read("node.toml").replace("hold_days = 30", "hold_days = 0"));
    pair.start();
    pair.publish(&["a.agency.example"], &[]);
    until("it to be refused", || stdout(&huecry(&pair.agency(), &["explain", "a.agency.example"])).contains("rule:held-too-long"));
    assert_eq!(code(&huecry(&pair.agency(), &["held", "list"])), 1);
}

#[test]
fn p_06_a_policy_that_does_not_read_keeps_the_last_good_one_and_opens_nothing() {
    let pair = Pair::new("[policy]\ntrust = \"trust.toml\"\n");
    // The table [policy] is there already; a person would have put the key into it.
    let config = pair.read("node.toml").replace("[policy]\ntrust = \"trust.toml\"\n", "");
    pair.write("node.toml", &config.replace("[policy]\n", "[policy]\ntrust = \"trust.toml\"\n"));
    pair.write("trust.toml", "[[trust]]\norigin = \"some-vendor\"\nthen = \"refuse\"\nreason = \"we fell out\"\n");
    pair.start();
    pair.publish(&["one.example"], &[]);
    let verdict = |value: &str| {
        let story = json_of(&huecry(&pair.agency(), &["--json", "explain", value]));
        story["records"][0]["standing"].as_str().unwrap_or_default().to_owned()
    };
    until("the vendor to be refused", || verdict("one.example") == "refused");
    assert!(stdout(&pair.police(&["policy", "show"])).contains("@reason(\"we fell out\")"));
    let bad = |name: &str, text: &str, expected: &str| {
        let good = pair.read(name);
        pair.write(name, text);
        let output = huecry(&pair.agency(), &["policy", "reload"]);
        assert_eq!(code(&output), 2, "{}", stdout(&output));
        assert!(stderr(&output).contains(expected) && stderr(&output).contains("stays in force"), "{}", stderr(&output));
        assert!(stdout(&pair.police(&["status"])).contains("ALARM"));
        pair.write(name, &good);
    };
    bad("policy.cedar", "", "it holds no policy");
    bad("policy.cedar", "permit (principal, action, resource) when { resource.confidance > 1 };", "did you mean `confidence`?");
    bad("trust.toml", "[[trust]]\norign = \"x\"\n", "did you mean `origin`?");
    std::fs::remove_file(pair.agency().join("trust.toml")).unwrap();
    assert_eq!(code(&huecry(&pair.agency(), &["policy", "reload"])), 2, "a file that is gone is no empty file");
    // Nor does a restart open anything.
    pair.stop();
    pair.start();
    pair.publish(&["two.example"], &[]);
    until("the vendor to be refused still", || verdict("two.example") == "refused");
    pair.write("trust.toml", "");
    pair.police(&["policy", "reload"]);
    assert!(!stdout(&pair.police(&["status"])).contains("ALARM"));
}

#[test]
fn a_list_that_does_not_read_is_an_alarm_and_keeps_anything_new_from_being_enforced() {
    let lists = "[[lists]]\ndirectory = \"lists/misp\"\n[[lists]]\nname = \"good\"\nfile = \"lists/good.txt\"\nrole = \"clears\"\n";
    let pair = Pair::new(&format!("{lists}{RESOLVER}"));
    pair.write("lists/misp/alexa.json", r#"{"name":"x","type":"hostname","version":1,"list":["popular.example"]}"#);
    pair.write("lists/good.txt", "good.example\n");
    pair.start();
    pair.publish(&["first.example", "popular.example"], &["--confidence", "90"]);
    pair.until_monitored(1);
    pair.promote();
    assert_eq!(pair.export(), ["first.example"]);
    pair.write("lists/good.txt", "");
    assert_eq!(code(&huecry(&pair.agency(), &["policy", "reload"])), 2);
    let status = stdout(&pair.police(&["status"]));
    assert!(status.contains("ALARM       list `good` does not read") && status.contains("its last good state stands in"), "{status}");
    pair.publish(&["second.example"], &["--confidence", "90"]);
    until("the second to be staged", || pair.outlet()["origins"][0]["staged"] == 1);
    assert_eq!(pair.export(), ["first.example"], "what was enforced goes on");
    // A list grows by what we enforced: it is out, without a restart.
    pair.write("lists/good.txt", "first.example\n");
    pair.police(&["policy", "reload"]);
    pair.until_export(&["second.example"]);
}

#[test]
fn a_draft_shows_what_it_would_change_before_it_does() {
    let pair = Pair::new(RESOLVER);
    pair.start();
    pair.publish(&["a.example", "b.example", "192.0.2.7"], &["--confidence", "90"]);
    pair.until_monitored(3);
    let draft = pair.place.path().join("draft.cedar");
    let strict = pair.read("policy.cedar").replace("resource.confidence >= 80", "resource.confidence >= 95");
    let refuse = "@id(\"no-domains\") @reason(\"we do not take names\")\n\
                  forbid (principal, action in [Action::\"accept\", Action::\"hold\"], resource) when { resource.type == \"domain\" };\n";
    std::fs::write(&draft, format!("{strict}{refuse}")).unwrap();
    let draft = draft.to_str().unwrap();
    let tried = json_of(&pair.police(&["--json", "policy", "try", draft, "--since", "30d"]));
    let line = |action: &str, kind: &str| {
        let changes = tried["changes"].as_array().unwrap().clone();
        changes.into_iter().find(|line| line["action"] == action && line["type"] == kind).unwrap_or_else(|| panic!("{tried}"))
    };
    assert_eq!((&tried["records"], &tried["changed"]), (&Value::from(4), &Value::from(2)), "{tried}");
    let refused = line("accept", "domain");
    assert_eq!((&refused["from"], &refused["to"], &refused["count"]), (&"accepted".into(), &"refused".into(), &2.into()));
    assert!(refused["examples"][0]["because"].as_str().unwrap().contains("we do not take names"));
    assert_eq!(line("enforce at resolver", "ipv4")["to"], "not permitted");
    // Nothing has changed; only `rejudge` under it changes the past.
    assert_eq!(code(&huecry(&pair.agency(), &["query", "a.example"])), 0);
    std::fs::copy(draft, pair.agency().join("policy.cedar")).unwrap();
    pair.police(&["policy", "check"]);
    pair.police(&["policy", "reload"]);
    let done = json_of(&pair.police(&["--json", "policy", "rejudge"]));
    assert_eq!(done["changed"], 2);
    until("the past to be judged again", || code(&huecry(&pair.agency(), &["query", "a.example"])) == 1);
    assert_eq!(json_of(&pair.police(&["--json", "policy", "try", draft]))["changed"], 0);
    // Tried as it stands, a policy changes nothing: reports too are judged as they were at the door.
    let same = pair.agency().join("policy.cedar");
    assert_eq!(json_of(&pair.police(&["--json", "policy", "try", same.to_str().unwrap()]))["changes"], serde_json::json!([]));
    // Drafts that do not read say so.
    let bad = pair.place.path().join("bad.cedar");
    std::fs::write(&bad, "permit (principal, action, resource) when { resource.tpl == \"red\" };").unwrap();
    let output = huecry(&pair.agency(), &["policy", "try", bad.to_str().unwrap()]);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("bad.cedar:1") && stderr(&output).contains("did you mean `tlp`?"), "{}", stderr(&output));
}

#[test]
fn g_07_a_node_back_after_days_has_what_was_taken_back_before_its_first_export() {
    let pair = Pair::new(RESOLVER);
    pair.start();
    pair.publish(&["stays.example", "wrong.example"], &["--confidence", "90", "--source", "own"]);
    pair.until_monitored(2);
    pair.promote();
    pair.until_export(&["stays.example", "wrong.example"]);
    pair.stop();

    // A week later: so much and no more has to be made up.
    let lines = pair.read("outlets/resolver.lines.jsonl");
    let (first, rest) = lines.split_once('\n').unwrap();
    let mut head: Value = serde_json::from_str(first).unwrap();
    let week_ms = 7 * 24 * 3_600 * 1_000;
    head["written"] = (head["written"].as_u64().unwrap() - week_ms).into();
    pair.write("outlets/resolver.lines.jsonl", &format!("{head}\n{rest}"));
    let vendor = start(&pair.vendor());
    run(&pair.vendor(), &["withdraw", "some-vendor/indicators#1.2", "--reason", "wrong", "--alone"]);
    pair.publish(&["new.example"], &["--confidence", "90", "--source", "own", "--alone"]);
    drop(vendor);

    // The agency is back first, alone; its export stays as it is, and says so.
    let file = pair.agency().join("outlets/resolver.list");
    let written = || std::fs::metadata(&file).unwrap().modified().unwrap();
    let before = written();
    let _agency = start(&pair.agency());
    until("the outlet to wait", || pair.outlet()["awaits"] == true);
    assert!(stdout(&pair.police(&["outlets"])).contains("WAITS   the node was away"));
    assert_eq!(written(), before);
    let _vendor = start(&pair.vendor());
    until("the first export", || written() != before);
    assert!(!pair.export().contains(&"wrong.example".to_owned()), "{:?}", pair.export());
    until("the new one", || pair.export() == ["new.example", "stays.example"]);
    assert!(pair.outlet()["awaits"].is_null());
}

#[test]
fn g_08_what_a_stolen_key_wrote_leaves_the_export_with_the_notice() {
    let pair = Pair::new(RESOLVER);
    pair.start();
    pair.publish(&["own.example"], &["--confidence", "90", "--source", "own"]);
    pair.publish(&["thief.example"], &["--confidence", "90", "--source", "own"]);
    pair.until_monitored(2);
    pair.promote();
    pair.until_export(&["own.example", "thief.example"]);
    run(&pair.vendor(), &["card", "pin", "--last", "some-vendor/indicators#1"]);
    let begun = Instant::now();
    pair.until_export(&["own.example"]);
    assert!(begun.elapsed() < Duration::from_secs(5), "the goal is a second, on a machine that has nothing else to do");
    let story = stdout(&huecry(&pair.agency(), &["explain", "thief.example"]));
    assert!(!story.contains("enforced at"), "{story}");
}

#[test]
fn an_export_goes_back_to_the_one_before_and_what_was_taken_back_meanwhile_stays_out() {
    let pair = Pair::new(RESOLVER);
    pair.start();
    pair.publish(&["old-1.example", "old-2.example"], &["--confidence", "90", "--source", "own"]);
    pair.until_monitored(2);
    pair.promote();
    let good = pair.outlet()["serial"].as_u64().unwrap();
    pair.publish(&["bad.example"], &["--confidence", "90", "--source", "own"]);
    pair.until_export(&["bad.example", "old-1.example", "old-2.example"]);
    pair.police(&["unblock", "old-2.example", "--reason", "a shop"]);
    pair.police(&["outlets", "rollback", "resolver", "--to", &good.to_string(), "--reason", "what is bad.example"]);
    assert_eq!(pair.export(), ["old-1.example"]);
    let outlet = pair.outlet();
    assert!(outlet["rolled_back"] == good && outlet["serial"].as_u64().unwrap() > good + 1, "the serial itself never goes back: {outlet}");
    pair.start();
    pair.until_export(&["old-1.example"]);
    pair.police(&["outlets", "rollback", "resolver", "--undo"]);
    assert_eq!(pair.export(), ["bad.example", "old-1.example"]);
    // Without a serial it is the export before the last.
    pair.publish(&["worse.example"], &["--confidence", "90", "--source", "own"]);
    pair.until_export(&["bad.example", "old-1.example", "worse.example"]);
    pair.police(&["outlets", "rollback", "resolver", "--reason", "and this"]);
    assert_eq!(pair.export(), ["bad.example", "old-1.example"]);
}

#[test]
fn x13_the_review_queue_shows_nothing_above_a_clearance() {
    let lists = "[[lists]]\nname = \"ours\"\nfile = \"lists/ours.txt\"\nrole = \"own\"\n";
    let pair = Pair::new(lists);
    pair.write("lists/ours.txt", "agency.example\n");
    run(&pair.vendor(), &["card", "channel", "leads=named:xx-agency,some-vendor"]);
    pair.start();
    pair.publish(&["a.agency.example"], &["--confidence", "95"]);
    pair.publish(&["b.agency.example"], &["--confidence", "95", "--channel", "leads", "--tlp", "amber"]);
    let held = || json_of(&huecry(&pair.agency(), &["--json", "held", "list"]));
    until("both to be held", || held()["matching"] == 2);
    pair.stop();
    let user = std::process::Command::new("id").arg("-un").output().unwrap();
    let user = stdout(&user).trim().to_owned();
    let operator = format!("[[operators]]\nname = \"{user}\"\nroles = [\"reads\", \"decides\"]\nclearance = \"green\"\n");
    pair.write("node.toml", &format!("{}\n{operator}", pair.read("node.toml")));
    pair.start();
    let shown = held();
    assert_eq!((&shown["matching"], shown["held"].as_array().unwrap().len()), (&1.into(), 1), "{shown}");
    assert!(!shown.to_string().contains("b.agency.example"), "{shown}");
    let decided = huecry(&pair.agency(), &["held", "release", "b.agency.example", "--reason", "r"]);
    assert_ne!(code(&decided), 0, "{}", stdout(&decided));
}

#[test]
fn x13_refused_records_are_erased_after_their_days_and_no_others() {
    let lists = "[[lists]]\nname = \"ours\"\nfile = \"lists/ours.txt\"\nrole = \"own\"\n";
    let pair = Pair::new(lists);
    pair.write("lists/ours.txt", "agency.example\n");
    pair.start();
    pair.publish(&["a.agency.example", "b.agency.example", "elsewhere.example"], &["--confidence", "95"]);
    let is_here = |value: &str| code(&huecry(&pair.agency(), &["query", value, "--all"])) == 0;
    until("two to be held", || json_of(&huecry(&pair.agency(), &["--json", "held", "list"]))["matching"] == 2);
    pair.police(&["held", "reject", "b.agency.example", "--reason", "no"]);
    pair.police(&["retention", "apply"]);
    assert!(is_here("b.agency.example"), "thirty days are not over");
    pair.write("node.toml", &pair.read("node.toml").replace("refused_days = 30", "refused_days = 0"));
    pair.police(&["retention", "apply"]);
    assert_eq!(["a.agency.example", "b.agency.example", "elsewhere.example"].map(is_here), [true, false, true]);
}

#[test]
fn a_mass_withdrawal_is_seen_and_one_command_keeps_its_lines_in_force_until_a_person_has_looked() {
    let pair = Pair::new(RESOLVER);
    pair.start();
    let values: Vec<String> = (0..40).map(|number| format!("evil-{number:02}.example")).collect();
    let all: Vec<&str> = values.iter().map(String::as_str).collect();
    pair.publish(&all, &["--confidence", "90", "--source", "own"]);
    pair.until_monitored(40);
    pair.promote();
    assert_eq!(pair.export(), all);
    // A thief, or a slip, at the vendor's.
    run(&pair.vendor(), &[&["withdraw"], &all[..39], &["--reason", "wrong"]].concat());
    pair.until_export(&all[39..]);
    let said = stdout(&pair.police(&["status"]));
    assert!(said.contains("some-vendor withdrew more than a fifth of the lines of outlet `resolver` within an hour"), "{said}");
    assert_eq!(pair.outlet()["origins"][0]["withdrawn"], 39);
    pair.police(&["outlet", "keep", "--origin", "some-vendor", "--for", "24h"]);
    assert_eq!(pair.export(), all, "written before the command returned");
    assert!(!stdout(&pair.police(&["status"])).contains("withdrew"));
    assert_eq!(pair.outlet()["origins"][0]["kept"], 39);
    // Over a restart, and under the other orders.
    pair.stop();
    pair.start();
    until("the outlet to be there", || pair.outlet()["origins"][0]["kept"] == 39);
    assert_eq!(pair.export(), all);
    pair.police(&["unblock", "evil-00.example", "--reason", "the clinic needs it"]);
    assert_eq!(pair.export(), all[1..]);
    let story = stdout(&pair.police(&["explain", "evil-01.example"]));
    assert!(story.contains("kept in force"), "{story}");
    // What is withdrawn later goes, and when the person has looked all of it goes.
    run(&pair.vendor(), &["withdraw", all[39], "--reason", "wrong"]);
    pair.until_export(&all[1..39]);
    pair.police(&["outlet", "keep", "--origin", "some-vendor", "--undo"]);
    assert!(pair.export().is_empty());
}
