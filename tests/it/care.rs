//! The ledger's care: damage is found, never served, and healed; a backup comes back; what was acknowledged survives.

use crate::support::{code, copy, founded, huecry, json_of, run, stderr, stdout};
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
