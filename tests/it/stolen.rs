//! A stolen node (X8): a thief runs a whole copy of it, with every key but the root key.

use crate::support::{Three, code, copy, huecry, json_of, port, run, start, stderr, stdout, until};
use std::{
    path::Path,
    time::{Duration, Instant},
};

/// A debug build on a loaded machine; by itself it takes half a minute.
const PATIENCE: Duration = Duration::from_secs(180);

fn serial(data: &Path, member: &str) -> u64 {
    json_of(&run(data, &["--json", "card", "show", member]))["serial"].as_u64().unwrap_or(0)
}

fn peers(data: &Path) -> Vec<String> {
    let status = json_of(&run(data, &["--json", "status"]));
    status["network"]["peers"].as_array().unwrap().iter().map(|peer| peer["member"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn x8_the_owner_of_a_stolen_node_is_back_within_a_minute_and_the_thief_is_out() {
    let three = Three::new();
    let (owner, thief) = (three.of("vendor"), three.of("thief"));
    let agency = three.start("agency");
    let police = three.start("police");
    {
        let _owner = three.start("vendor");
        until("everybody to be connected", || peers(&owner).len() == 2);
        three.publish("vendor", &["mine.example"], &[]);
        until("it to arrive", || three.finds("police", "mine.example") && three.finds("agency", "mine.example"));
    }
    // The root key is elsewhere, as it should be.
    let safe = three.place.path().join("root.key");
    std::fs::rename(owner.join("keys/root.key"), &safe).unwrap();
    copy(&owner, &thief);
    let config = std::fs::read_to_string(thief.join("node.toml")).unwrap();
    let listen = config.lines().find(|line| line.starts_with("listen = [\"/ip4")).unwrap();
    std::fs::write(thief.join("node.toml"), config.replace(listen, &format!("listen = [\"/ip4/127.0.0.1/tcp/{}\"]", port()))).unwrap();
    let stealing = start(&thief);
    until("the thief to be let in", || peers(&thief).len() == 2);
    three.publish("thief", &["stolen.example"], &["--alone"]);
    until("what it says to arrive", || three.finds("police", "stolen.example") && three.finds("agency", "stolen.example"));

    // The owner follows the manual, and nobody restarts anything but the owner.
    let begun = Instant::now();
    let _back = start(&owner);
    let last = "some-vendor/indicators#1";
    let said = huecry(&owner, &["card", "stolen", "--last", last, "--root", safe.to_str().unwrap()]);
    assert_eq!(code(&said), 0, "{}{}", stdout(&said), stderr(&said));
    until_within(PATIENCE, "every member to hold the card", || {
        serial(&three.of("agency"), "some-vendor") == 2 && serial(&three.of("police"), "some-vendor") == 2
    });
    let spread = begun.elapsed();
    until_within(PATIENCE, "what the thief said not to count", || {
        !three.finds("police", "stolen.example") && !three.finds("agency", "stolen.example")
    });
    until_within(PATIENCE, "the owner to be let in under the new key, and the thief to be out", || {
        peers(&owner).len() == 2 && peers(&thief).is_empty()
    });
    let out = begun.elapsed();
    assert!(three.finds("police", "mine.example"));
    three.publish("vendor", &["again.example"], &["--alone"]);
    until("it to arrive", || three.finds("police", "again.example"));
    // It tries once more, in vain.
    let again = huecry(&thief, &["publish", "--value", "stolen-again.example", "--title", "t", "--alone"]);
    assert_ne!(code(&again), 0, "its copy has heard of the card too");
    std::thread::sleep(Duration::from_secs(3));
    assert!(!three.finds("police", "stolen-again.example") && peers(&thief).is_empty());
    println!("the card was everywhere after {spread:?}, the thief out after {out:?}");
    drop((agency, police, stealing));
}

fn until_within(patience: Duration, what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < patience, "waited {patience:?} for {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}
