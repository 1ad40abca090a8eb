//! The ledger's care: damage is found, never served, and healed; a backup comes back; what was acknowledged survives.

use crate::{
    partnership,
    support::{Three, code, copy, founded, huecry, json_of, run, stderr, stdout},
};
use huecry::{
    ledger::{LEDGER_FORMAT, Ledger, LedgerError},
    query::{Question, answer},
    record::Timestamp,
    sim::Dice,
};
use std::{
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

fn publish(data: &Path, values: &[&str]) {
    let mut words = vec!["publish", "--tlp", "green", "--alone"];
    values.iter().for_each(|value| words.extend(["--value", value]));
    run(data, &words);
}

fn verify(data: &Path) -> serde_json::Value {
    json_of(&huecry(data, &["--json", "ledger", "verify"]))
}

/// Flips a bit of a byte of a file, `at` counted from its end if negative.
fn flip(path: &Path, at: i64) {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let length = file.metadata().unwrap().len() as i64;
    let at = if at < 0 { length + at } else { at } as u64;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 4], at).unwrap();
}

fn segment(data: &Path) -> PathBuf {
    data.join("ledger/journal/0000000001.seg")
}

#[test]
fn g_12_r_01_a_node_that_is_killed_a_hundred_times_loses_nothing_it_acknowledged() {
    let place = tempfile::tempdir().unwrap();
    let output = huecry(place.path(), &["--json", "torture", "--cycles", "100", "--seed", "3"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let tally = json_of(&output);
    assert_eq!((&tally["cycles"], &tally["lost"], &tally["risen"]), (&100.into(), &0.into(), &0.into()));
    for done in ["acknowledged", "withdrawn", "verified", "killed_starting", "rebuilt"] {
        assert!(tally[done].as_u64().unwrap() > 0, "{done}: {tally}");
    }
}

#[test]
fn a_whole_ledger_verifies_while_the_node_runs_and_while_it_does_not() {
    let data = founded();
    publish(data.path(), &["one.example", "two.example"]);
    run(data.path(), &["withdraw", "two.example", "--reason", "wrong", "--alone"]);
    let offline = verify(data.path());
    assert_eq!((&offline["state"], &offline["index"], &offline["records"]), (&true.into(), &true.into(), &4.into()), "{offline}");
    let _node = crate::support::start(data.path());
    assert_eq!(verify(data.path())["state"], true);
    assert!(stdout(&run(data.path(), &["ledger", "verify"])).contains("as the journal makes it"));
}

#[test]
fn g_15_a_bit_that_flips_in_the_journal_is_found_and_the_record_is_not_served() {
    let data = founded();
    for number in 0..8 {
        publish(data.path(), &[&format!("n{number}.example")]);
    }
    // Somewhere in the middle: an entry that many good ones follow.
    let length = std::fs::metadata(segment(data.path())).unwrap().len() as i64;
    flip(&segment(data.path()), length * 3 / 4);
    let refused = huecry(data.path(), &["ledger", "verify"]);
    assert_eq!(code(&refused), 3);
    assert!(stderr(&refused).contains("damaged"), "{}", stderr(&refused));
    // No answer comes from behind the damage as if nothing were.
    for number in 0..8 {
        assert_ne!(code(&huecry(data.path(), &["query", &format!("n{number}.example")])), 0);
    }
}

#[test]
fn r_04_a_state_or_index_that_is_damaged_missing_or_of_another_ledger_is_built_anew() {
    let (data, other) = (founded(), founded());
    publish(data.path(), &["kept.example"]);
    publish(other.path(), &["other.example"]);
    let ledger = data.path().join("ledger");
    let finds = || code(&huecry(data.path(), &["query", "kept.example"])) == 0;
    let whole = || {
        assert!(finds());
        let found = verify(data.path());
        assert!(found["damage"].as_array().unwrap().is_empty(), "{found}");
    };
    for name in ["state", "index"] {
        std::fs::remove_dir_all(ledger.join(name)).unwrap();
        whole();
        // Of another ledger.
        std::fs::remove_dir_all(ledger.join(name)).unwrap();
        run(other.path(), &["query", "other.example"]);
        copy(&other.path().join("ledger").join(name), &ledger.join(name));
        whole();
        assert_ne!(code(&huecry(data.path(), &["query", "other.example"])), 0);
    }
    // sled opens a truncated file as an empty database, and panics at a zeroed one.
    for bytes in [&b""[..], &[0xa5; 4_096], &[0; 1 << 20]] {
        let path = ledger.join("state/db");
        std::fs::write(path, bytes).unwrap();
        whole();
    }
    run(data.path(), &["ledger", "rebuild"]);
    whole();
}

#[test]
fn a_backup_is_taken_while_the_node_runs_and_brings_everything_back() {
    let (data, backup) = (founded(), tempfile::tempdir().unwrap());
    let to = backup.path().join("copy").display().to_string();
    publish(data.path(), &["before.example"]);
    {
        let _node = crate::support::start(data.path());
        run(data.path(), &["ledger", "backup", &to]);
        publish(data.path(), &["between.example"]);
        run(data.path(), &["withdraw", "before.example", "--reason", "wrong", "--alone"]);
        run(data.path(), &["ledger", "backup", &to]);
        publish(data.path(), &["after.example"]);
    }
    // A ledger that is here is not written over.
    let refused = huecry(data.path(), &["ledger", "restore", &to]);
    assert_eq!(code(&refused), 3);
    assert!(stderr(&refused).contains("move it away first"), "{}", stderr(&refused));
    std::fs::rename(data.path().join("ledger"), data.path().join("lost")).unwrap();
    run(data.path(), &["ledger", "restore", &to]);
    let finds = |value: &str| code(&huecry(data.path(), &["query", value])) == 0;
    assert!(finds("between.example") && !finds("before.example") && !finds("after.example"));
    assert!(verify(data.path())["damage"].as_array().unwrap().is_empty());
    let nothing = huecry(data.path(), &["ledger", "restore", &backup.path().display().to_string()]);
    assert_eq!(code(&nothing), 3);
}

/// A ledger with two authors, in batches of one value each, and which batch says which.
fn kept_by_hand(place: &Path) -> (partnership::Node, partnership::Node, Vec<String>) {
    let (mut police, mut vendor, now) = partnership::founded_by_hand(place);
    let values: Vec<String> = (0..24).map(|number| format!("n{number}.example")).collect();
    for (number, value) in values.iter().enumerate() {
        if number % 3 == 0 { police.publish(value).unwrap() } else { vendor.publish(value).unwrap() }
    }
    police.pull(&vendor, "vendor-one", now);
    (police, vendor, values)
}

/// What a ledger answers about each value: nothing, or that it counts.
fn answers(ledger: &Path, values: &[String]) -> Result<Vec<bool>, LedgerError> {
    let (ledger, writer, _) = Ledger::open(ledger)?;
    let mut found = Vec::new();
    for value in values {
        let question = Question { text: Some(value.clone()), ..Question::default() };
        let answer = answer(&ledger, &question, partnership::day(1)).map_err(|error| LedgerError::Damaged(error.to_string()))?;
        // Never another value than the one that was asked for.
        assert!(answer.values.iter().all(|one| one.value == *value));
        found.push(!answer.values.is_empty());
    }
    drop(writer);
    Ok(found)
}

#[test]
fn g_15_r_04_wherever_a_bit_flips_or_a_file_is_cut_it_is_found_nothing_wrong_is_served_and_repair_keeps_the_rest() {
    let place = tempfile::tempdir().unwrap();
    let (police, vendor, values) = kept_by_hand(place.path());
    drop((police, vendor));
    let whole = place.path().join("police/ledger");
    let backup = place.path().join("backup");
    copy(&whole.join("journal"), &backup);
    let segment = whole.join("journal/0000000001.seg");
    let bytes = std::fs::read(&segment).unwrap();
    let rounds: u64 = std::env::var("HUECRY_FLIPS").ok().and_then(|count| count.parse().ok()).unwrap_or(60);
    let (mut dice, mut refused, mut lost) = (Dice::new(5), 0, 0);
    for round in 0..rounds {
        let hurt = place.path().join("hurt");
        let _none_yet = std::fs::remove_dir_all(&hurt);
        std::fs::create_dir_all(hurt.join("journal")).unwrap();
        std::fs::copy(whole.join("journal/manifest"), hurt.join("journal/manifest")).unwrap();
        let mut now = bytes.clone();
        let at = dice.below(now.len() as u64) as usize;
        let cut = dice.percent(25);
        if cut {
            now.truncate(at)
        } else {
            now[at] ^= 1 << dice.below(8)
        }
        std::fs::write(hurt.join("journal/0000000001.seg"), &now).unwrap();
        // As it is: refused, or, where a cut looks like a tail that was never acknowledged, without what stood there.
        let before = answers(&hurt, &values);
        refused += usize::from(before.is_err());
        if before.is_ok() {
            assert!(at + 2_048 > bytes.len() || cut, "round {round}: a flip at {at} went unnoticed");
        }
        let _derived = ["state", "index"].map(|name| std::fs::remove_dir_all(hurt.join(name)));
        std::fs::write(hurt.join("journal/0000000001.seg"), &now).unwrap();
        let (repaired, _) =
            Ledger::repair(&hurt, &[], &[], partnership::day(1)).unwrap_or_else(|error| panic!("round {round}, byte {at}: {error}"));
        let after = answers(&hurt, &values).unwrap_or_else(|error| panic!("round {round}, byte {at}: {error}"));
        let missing = after.iter().filter(|found| !**found).count();
        lost += missing;
        if !cut {
            assert!(missing <= 1, "round {round}: {missing} records of one entry, byte {at}");
            assert!(repaired.segments == 1 || at + 2_048 > bytes.len(), "round {round}: byte {at}, {repaired:?}");
        }
        // With a backup nothing is lost.
        let _derived = std::fs::remove_dir_all(&hurt);
        std::fs::create_dir_all(hurt.join("journal")).unwrap();
        std::fs::copy(whole.join("journal/manifest"), hurt.join("journal/manifest")).unwrap();
        std::fs::write(hurt.join("journal/0000000001.seg"), &now).unwrap();
        let (repaired, holes) = Ledger::repair(&hurt, std::slice::from_ref(&backup), &[], partnership::day(1)).unwrap();
        if repaired.segments > 0 {
            assert_eq!((repaired.lost.len(), holes.len()), (0, 0), "round {round}, byte {at}: {repaired:?}");
            assert!(answers(&hurt, &values).unwrap().iter().all(|found| *found), "round {round}, byte {at}");
        }
    }
    assert!(refused > 0 && lost > 0, "{refused} refused, {lost} lost");
}

#[test]
fn g_15_what_damage_took_of_a_feed_comes_again_from_whoever_has_it() {
    let place = tempfile::tempdir().unwrap();
    let (police, vendor, values) = kept_by_hand(place.path());
    drop(police);
    let ledger = place.path().join("police/ledger");
    // Some of the vendor's batches: a stretch in the middle of the file.
    let segment = ledger.join("journal/0000000001.seg");
    let length = std::fs::metadata(&segment).unwrap().len() as i64;
    (0..2_000).step_by(300).for_each(|at| flip(&segment, length * 2 / 3 + at));
    let (repaired, holes) = Ledger::repair(&ledger, &[], &[], partnership::day(1)).unwrap();
    assert!(repaired.segments == 1 && !holes.is_empty(), "{repaired:?} {holes:?}");
    assert!(holes.iter().all(|hole| hole.feed == "vendor-one/c2"), "{holes:?}");
    assert!(ledger.join("journal/damaged/0000000001.seg").is_file());
    assert!(answers(&ledger, &values).unwrap().iter().any(|found| !found));
    let (mut police, _) = partnership::reopened(place.path());
    police.refill(&vendor, "vendor-one");
    drop(police);
    assert!(answers(&ledger, &values).unwrap().iter().all(|found| *found));
}

#[test]
fn damage_that_is_met_while_the_node_runs_is_told_and_hides_one_batch_only() {
    let data = founded();
    for number in 0..8 {
        publish(data.path(), &[&format!("n{number}.example")]);
    }
    // A closed segment: of the one that grows a start would find it.
    run(data.path(), &["erase", "n0.example", "--order", "test", "--yes"]);
    let name =
        std::fs::read_dir(data.path().join("ledger/journal")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let name = name.into_iter().find(|name| name.contains('-')).unwrap();
    let segment = data.path().join("ledger/journal").join(name);
    let length = std::fs::metadata(&segment).unwrap().len() as i64;
    flip(&segment, length / 2);
    let _node = crate::support::start(data.path());
    let found = (1..8).filter(|number| code(&huecry(data.path(), &["query", &format!("n{number}.example")])) == 0).count();
    assert!((6..=7).contains(&found), "{found} of 7");
    let verified = huecry(data.path(), &["ledger", "verify"]);
    assert_eq!(code(&verified), 3, "{}", stdout(&verified));
    if found == 6 {
        let status = stdout(&run(data.path(), &["status"]));
        assert!(status.contains("huecry ledger repair"), "{status}");
    }
}

#[test]
fn a_manifest_that_was_changed_by_hand_or_by_the_disk_is_refused() {
    let data = founded();
    let path = data.path().join("ledger/journal/manifest");
    let bytes = std::fs::read(&path).unwrap();
    // All but the words that say that a checksum follows: without them it is as if edited by a person.
    let end = bytes.len() - "# crc32c 00000000\n".len();
    for at in (0..end).step_by(7).chain(bytes.len() - 9..bytes.len() - 1) {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        std::fs::write(&path, changed).unwrap();
        assert_eq!(code(&huecry(data.path(), &["status"])), 3, "byte {at}");
    }
}

#[test]
fn the_ledger_of_every_release_opens_answers_as_then_and_leaves_a_point_to_go_back_to() {
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ledgers")).unwrap().map(Result::unwrap) {
        let place = tempfile::tempdir().unwrap();
        let unpacked = std::process::Command::new("tar").arg("-xzf").arg(entry.path()).arg("-C").arg(place.path()).status().unwrap();
        assert!(unpacked.success());
        let ledger = place.path().join("ledger");
        let before = std::fs::read(ledger.join("journal/0000000001.seg")).unwrap();
        let (opened, writer, recovery) = Ledger::open(&ledger).unwrap();
        let now = Timestamp::parse("2026-12-01").unwrap();
        let standings = |value: &str| -> Vec<String> {
            let question = Question { text: Some(value.to_owned()), all: true, ..Question::default() };
            let answer = answer(&opened, &question, now).unwrap();
            answer.values.iter().flat_map(|value| &value.assertions).map(|one| format!("{} {}", one.reference, one.standing)).collect()
        };
        assert_eq!(standings("one.example"), ["xx-release/indicators#1.1 accepted"]);
        assert_eq!(standings("two.example"), ["xx-release/indicators#1.2 accepted", "xx-release/indicators#4.0 accepted"]);
        assert_eq!(standings("gone.example"), ["xx-release/indicators#2.2 withdrawn"]);
        assert_eq!(standings("a.below.example"), ["xx-release/indicators#2.1 accepted"]);
        assert!(opened.roster().unwrap().is_some() && opened.policy_in_force().unwrap().is_some());
        assert!(opened.verify(|_, _| ()).unwrap().is_whole());
        let format: u32 = entry.file_name().to_str().unwrap().split("format-").nth(1).unwrap()[..1].parse().unwrap();
        assert_eq!(recovery.upgraded_from, (format < LEDGER_FORMAT).then_some(format));
        if format < LEDGER_FORMAT {
            let point = ledger.join(format!("before-format-{}", format + 1));
            assert!(std::fs::read_to_string(point.join("manifest")).unwrap().contains(&format!("format = {format}")));
            assert_eq!(std::fs::read(point.join("0000000001.seg")).unwrap(), before);
        }
        drop(writer);
    }
}

#[test]
fn g_14_a_disk_that_is_nearly_full_takes_no_content_in_and_everything_that_takes_something_back() {
    let three = Three::new();
    let (vendor, police) = (three.of("vendor"), three.of("police"));
    let [before, after] = ["before", "after"].map(|name| three.place.path().join(format!("{name}.bundle")).display().to_string());
    three.publish("vendor", &["early.example"], &["--alone"]);
    run(&vendor, &["bundle", "export", &before, "--to", "xa-police"]);
    run(&police, &["bundle", "import", &before]);
    publish(&police, &["ours.example"]);
    let config = police.join("node.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let full = text.lines().map(|line| if line.starts_with("room_bytes") { "room_bytes = 9000000000000000000" } else { line });
    std::fs::write(&config, full.collect::<Vec<_>>().join("\n")).unwrap();
    three.publish("vendor", &["late.example"], &["--alone"]);
    run(&vendor, &["withdraw", "early.example", "--reason", "wrong", "--alone"]);
    run(&vendor, &["bundle", "export", &after, "--to", "xa-police"]);
    let refused = huecry(&police, &["publish", "--value", "new.example", "--alone"]);
    assert!(code(&refused) == 3 && stderr(&refused).contains("MiB left"), "{}", stderr(&refused));
    assert!(stdout(&run(&police, &["status"])).contains("new content is not taken in"));
    let imported = huecry(&police, &["bundle", "import", &after]);
    assert!(!three.finds("police", "early.example"), "the withdrawal came in: {}{}", stdout(&imported), stderr(&imported));
    assert!(!three.finds("police", "late.example"));
    run(&police, &["withdraw", "ours.example", "--reason", "wrong", "--alone"]);
    // Room again: the rest comes.
    std::fs::write(&config, text).unwrap();
    run(&police, &["bundle", "import", &after]);
    assert!(three.finds("police", "late.example") && !three.finds("police", "early.example"));
}
