//! What has to go is gone: from every file, from exports, from backups, for good; and what stands beside it still proves itself.

use crate::support::{Three, code, founded, huecry, json_of, run, start, stderr, stdout, until};
use std::path::Path;

const VICTIM: &str = "victim@mail.example";

/// Files below `place` that hold `text` as bytes.
fn holding(place: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(place).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            found.extend(holding(&path, text));
        } else if std::fs::read(&path).is_ok_and(|bytes| bytes.windows(text.len()).any(|window| window == text.as_bytes())) {
            found.push(path.display().to_string());
        }
    }
    found
}

fn publish(data: &Path, title: &str, values: &[&str]) {
    let mut words = vec!["publish", "--tlp", "green", "--alone", "--title", title];
    values.iter().for_each(|value| words.extend(["--value", value]));
    run(data, &words);
}

fn finds(data: &Path, value: &str) -> bool {
    code(&huecry(data, &["query", value, "--all"])) == 0
}

fn whole(data: &Path) {
    let found = json_of(&run(data, &["--json", "ledger", "verify"]));
    assert_eq!((&found["state"], &found["index"]), (&true.into(), &true.into()), "{found}");
}

fn erase(data: &Path, what: &str) -> serde_json::Value {
    json_of(&run(data, &["--json", "erase", what, "--order", "Test Court 4 C 12/26", "--yes"]))
}

#[test]
fn what_is_erased_by_order_is_in_no_file_any_more_and_its_neighbours_still_prove_themselves() {
    let (data, place) = (founded(), tempfile::tempdir().unwrap());
    let backup = place.path().join("backup").display().to_string();
    publish(data.path(), "A paper", &["one.example", VICTIM, "two.example"]);
    run(data.path(), &["sighting", VICTIM, "--say", "false-positive", "--channel", "indicators", "--tlp", "green", "--alone"]);
    run(data.path(), &["ledger", "backup", &backup]);
    assert!(!holding(data.path(), VICTIM).is_empty() && !holding(place.path(), VICTIM).is_empty());
    let unasked = huecry(data.path(), &["erase", VICTIM, "--order", "Test Court 4 C 12/26"]);
    assert!(code(&unasked) == 2 && stderr(&unasked).contains("--yes"), "{}", stderr(&unasked));
    let telling = huecry(data.path(), &["erase", VICTIM, "--order", &format!("about {VICTIM}"), "--yes"]);
    assert!(code(&telling) == 2 && stderr(&telling).contains("must not hold"), "{}", stderr(&telling));
    let receipt = erase(data.path(), VICTIM);
    assert_eq!((&receipt["erased"]["records"], &receipt["backups"][0]["stale"]), (&2.into(), &serde_json::Value::Null), "{receipt}");
    assert_eq!(holding(data.path(), VICTIM), Vec::<String>::new());
    assert_eq!(holding(place.path(), VICTIM), Vec::<String>::new());
    assert!(!finds(data.path(), VICTIM) && finds(data.path(), "one.example") && finds(data.path(), "two.example"));
    whole(data.path());
    assert_eq!(code(&huecry(data.path(), &["subject", VICTIM])), 1);
    let told = stdout(&run(data.path(), &["explain", "xx-agency/indicators#1.2"]));
    assert!(told.contains("its content was erased"), "{told}");
    assert!(stdout(&run(data.path(), &["decisions"])).contains("erases 2 records under: Test Court 4 C 12/26"));
    // Also by a state and an index that are made anew, and by what comes out of the backup.
    run(data.path(), &["ledger", "rebuild"]);
    whole(data.path());
    std::fs::rename(data.path().join("ledger"), place.path().join("lost")).unwrap();
    run(data.path(), &["ledger", "restore", &backup]);
    assert!(!finds(data.path(), VICTIM) && finds(data.path(), "two.example"));
    whole(data.path());
}

#[test]
fn c_08_what_was_erased_stays_dead_when_the_original_comes_again_and_when_an_older_backup_is_restored() {
    let three = Three::new();
    let (vendor, police, agency) = (three.of("vendor"), three.of("police"), three.of("agency"));
    let file = three.place.path().join("first.bundle").display().to_string();
    three.publish("vendor", &["kept.example", VICTIM, "other.example"], &["--alone"]);
    run(&vendor, &["bundle", "export", &file, "--to", "xa-police"]);
    run(&police, &["bundle", "import", &file]);
    let backup = three.place.path().join("old").display().to_string();
    run(&police, &["ledger", "backup", &backup]);
    assert!(three.finds("police", "kept.example"));
    // The backup goes into a safe, out of reach.
    let safe = three.place.path().join("safe").display().to_string();
    std::fs::rename(&backup, &safe).unwrap();
    let receipt = erase(&police, VICTIM);
    assert!(receipt["backups"][0]["stale"].as_str().unwrap().contains("cannot be reached"), "{receipt}");
    let dead = |what: &str| {
        assert!(!finds(&police, VICTIM) && three.finds("police", "kept.example"), "{what}");
        assert_eq!(holding(&police, VICTIM), Vec::<String>::new(), "{what}");
        whole(&police);
    };
    dead("erased");
    run(&police, &["bundle", "import", &file]);
    dead("the original came again");
    for name in ["state", "index"] {
        std::fs::remove_dir_all(police.join("ledger").join(name)).unwrap();
        run(&police, &["bundle", "import", &file]);
        dead(name);
    }
    std::fs::remove_dir_all(police.join("ledger")).unwrap();
    run(&police, &["ledger", "restore", &safe]);
    dead("an older backup was restored");
    run(&police, &["bundle", "import", &file]);
    dead("the original came after that");
    // What is left is passed on, and proves itself to a third.
    let next = three.place.path().join("next.bundle").display().to_string();
    run(&police, &["bundle", "export", &next, "--to", "xx-agency"]);
    run(&agency, &["bundle", "import", &next]);
    assert!(three.finds("agency", "kept.example") && three.finds("agency", "other.example") && !three.finds("agency", VICTIM));
    // The third gets the rest from the author, who did not erase it.
    let whole_one = three.place.path().join("whole.bundle").display().to_string();
    run(&vendor, &["bundle", "export", &whole_one, "--to", "xx-agency"]);
    run(&agency, &["bundle", "import", &whole_one]);
    assert!(three.finds("agency", VICTIM));
}

#[test]
fn c_08_what_its_author_takes_back_as_legal_is_erased_wherever_it_arrives_a_report_with_all_below_it() {
    let three = Three::new();
    let (vendor, police) = (three.of("vendor"), three.of("police"));
    let file = three.place.path().join("first.bundle").display().to_string();
    three.publish("vendor", &["kept.example"], &["--alone"]);
    three.publish("vendor", &[VICTIM, "below.example"], &["--alone"]);
    run(&vendor, &["bundle", "export", &file, "--to", "xa-police"]);
    let _nodes = ["agency", "vendor", "police"].map(|name| three.start(name));
    until("the records to arrive", || three.finds("police", "below.example"));
    assert!(!holding(&police, VICTIM).is_empty());
    run(&vendor, &["withdraw", "some-vendor/indicators#2.0", "--reason", "legal"]);
    until("the withdrawal to arrive", || !three.finds("police", "below.example"));
    for data in [&vendor, &police] {
        until("the bytes to go", || holding(&data.join("ledger"), VICTIM).is_empty());
    }
    run(&police, &["bundle", "import", &file]);
    assert!(!finds(&police, VICTIM) && !finds(&police, "below.example") && three.finds("police", "kept.example"));
    until("it stays so", || holding(&police.join("ledger"), VICTIM).is_empty());
    whole(&police);
    whole(&vendor);
}

#[test]
fn what_a_rule_of_retention_says_goes_and_what_it_asks_about_waits_for_a_person() {
    let data = founded();
    let config = data.path().join("node.toml");
    let rules = "[[retention]]\nname = \"mail\"\ntypes = [\"email\"]\nkeep_days = 0\nthen = \"review\"\n\n\
                 [[retention]]\nname = \"addresses\"\ntypes = [\"ipv4\", \"ipv6\"]\nkeep_days = 0\n";
    std::fs::write(&config, std::fs::read_to_string(&config).unwrap() + "\n" + rules).unwrap();
    publish(data.path(), "One", &["one.example", VICTIM, "192.0.2.7"]);
    let shown = json_of(&run(data.path(), &["--json", "retention"]));
    assert_eq!((&shown["due"][0]["rule"], &shown["due"][0]["records"]), (&"mail".into(), &1.into()), "{shown}");
    assert_eq!(shown["going"], serde_json::json!([["addresses", 1]]));
    run(data.path(), &["retention", "apply"]);
    assert!(!finds(data.path(), "192.0.2.7") && finds(data.path(), VICTIM) && finds(data.path(), "one.example"));
    assert_eq!(code(&huecry(data.path(), &["retention", "keep", "mial", "--days", "30", "--reason", "the case is open"])), 1);
    run(data.path(), &["retention", "keep", "mail", "--days", "30", "--reason", "the case is open"]);
    assert_eq!(json_of(&run(data.path(), &["--json", "retention"]))["due"], serde_json::json!([]));
    // What came later is asked about by itself.
    publish(data.path(), "Two", &["second@mail.example"]);
    assert_eq!(json_of(&run(data.path(), &["--json", "retention"]))["due"][0]["records"], 1);
    run(data.path(), &["retention", "erase", "mail", "--reason", "the case is closed"]);
    assert!(!finds(data.path(), "second@mail.example") && finds(data.path(), VICTIM) && finds(data.path(), "one.example"));
    assert_eq!(holding(&data.path().join("ledger"), "second@mail.example"), Vec::<String>::new());
    whole(data.path());
    std::fs::write(&config, std::fs::read_to_string(&config).unwrap().replace("\"email\"", "\"emial\"")).unwrap();
    let refused = huecry(data.path(), &["retention"]);
    assert!(stderr(&refused).contains("did you mean `email`?"), "{}", stderr(&refused));
}

#[test]
fn what_a_node_has_no_room_for_goes_oldest_first_and_its_own_never() {
    let three = Three::new();
    let (vendor, police) = (three.of("vendor"), three.of("police"));
    let list = |name: &str| (0..6_000).map(|number| format!("{name}{number}.example")).collect::<Vec<_>>();
    for name in ["old", "new"] {
        let values = list(name);
        three.publish("vendor", &values.iter().map(String::as_str).collect::<Vec<_>>(), &["--alone"]);
    }
    three.publish("police", &["ours.example"], &["--alone"]);
    run(&vendor, &["withdraw", "old7.example", "--reason", "wrong", "--alone"]);
    let file = three.place.path().join("all.bundle").display().to_string();
    run(&vendor, &["bundle", "export", &file, "--to", "xa-police"]);
    run(&police, &["bundle", "import", &file]);
    assert!(three.finds("police", "old1.example"));
    let used = json_of(&run(&police, &["--json", "retention"]))["disk_bytes"].as_u64().unwrap();
    let config = police.join("node.toml");
    let text = std::fs::read_to_string(&config).unwrap().replace("[limits]", &format!("[limits]\nledger_bytes_max = {}", used * 8 / 10));
    std::fs::write(&config, text).unwrap();
    let journal =
        || -> u64 { std::fs::read_dir(police.join("ledger/journal")).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum() };
    let before = journal();
    let evicted = json_of(&run(&police, &["--json", "retention", "apply"]));
    assert!(evicted["no_room"].as_u64().unwrap() > 1_000, "{evicted}");
    assert!(!finds(&police, "old1.example") && three.finds("police", "new5999.example") && three.finds("police", "ours.example"));
    assert!(journal() < before * 9 / 10, "{} of {before} bytes", journal());
    whole(&police);
    // Nobody is asked for it again, and nobody can bring back what was withdrawn.
    run(&police, &["bundle", "import", &file]);
    assert!(!finds(&police, "old1.example"));
    let _node = start(&police);
    assert!(!finds(&police, "old7.example"));
}
