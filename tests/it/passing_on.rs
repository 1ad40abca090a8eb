//! What a reader passes on: only where the author lets it, with the author's own proof, and its withdrawal follows.

use crate::support::{Three, code, huecry, json_of, run, stderr, stdout, until};
use std::path::Path;

fn explained(data: &Path, value: &str) -> serde_json::Value {
    json_of(&run(data, &["--json", "explain", value]))["records"][0].clone()
}

#[test]
fn a_report_goes_on_through_two_hands_and_its_withdrawal_follows_by_itself() {
    let three = Three::new().and("xb-police").and("xc-police");
    let (agency, police, xb, xc) = (three.of("agency"), three.of("police"), three.of("xb-police"), three.of("xc-police"));
    run(&police, &["card", "channel", "leads=named:xx-agency", "--onward", "member:xb-police,member:xc-police"]);
    let said = stdout(&run(&police, &["card", "show"]));
    assert!(said.contains("leads  to named:xx-agency, onward to member:xb-police, member:xc-police"), "{said}");
    let _running = [three.start("agency"), three.start("police"), three.start("xb-police"), three.start("xc-police")];
    three.publish("police", &["one.example", "two.example", "192.0.2.7"], &["--channel", "leads", "--tlp", "amber"]);
    until("its reader to have it", || three.finds("agency", "192.0.2.7"));
    let report = explained(&agency, "one.example")["report"].as_str().unwrap().to_owned();

    // Only to whom the author named, and only what exists.
    let wider = huecry(&agency, &["share", &report, "--with", "circle:countries"]);
    assert_eq!(code(&wider), 1);
    assert!(stderr(&wider).contains("lets xa-police/leads#1.0 be passed on to member:xb-police, member:xc-police"), "{}", stderr(&wider));
    assert_eq!(code(&huecry(&agency, &["share", "xa-police/leads#9.0", "--with", "member:xb-police"])), 1);
    assert_eq!(code(&huecry(&xb, &["share", &report, "--with", "member:xc-police"])), 1, "who has nothing passes nothing on");

    let said = stdout(&run(&agency, &["share", &report, "--with", "member:xb-police"]));
    assert!(said.contains("4 records are passed on to member:xb-police\n  reaches xb-police"), "{said}");
    until("the second hand to have it", || three.finds("xb-police", "192.0.2.7") && three.finds("xb-police", "two.example"));
    assert!(!three.finds("xc-police", "one.example"));
    let (first, second) = (explained(&agency, "one.example"), explained(&xb, "one.example"));
    assert_eq!((&first["head_id"], &first["signed_by"]), (&second["head_id"], &second["signed_by"]), "the author's own proof");
    assert_eq!(second["path"], serde_json::json!(["xx-agency"]));
    let line = three.sync("xb-police", "xa-police");
    assert_eq!((line["passed_on"].as_u64(), line["withheld"].as_u64()), (Some(4), Some(0)), "{line}");

    // And on, by the second hand's own order; the whole path shows.
    run(&xb, &["share", &report, "--with", "member:xc-police"]);
    until("the third hand to have it", || three.finds("xc-police", "192.0.2.7"));
    let third = explained(&xc, "one.example");
    assert_eq!((&third["path"], &third["head_id"]), (&serde_json::json!(["xx-agency", "xb-police"]), &first["head_id"]));
    let said = stdout(&run(&xc, &["explain", "one.example"]));
    assert!(said.contains("by xx-agency, xb-police, as each says of the one before"), "{said}");

    run(&police, &["withdraw", "one.example", "--reason", "wrong"]);
    until("the withdrawal to follow", || !three.finds("xb-police", "one.example") && !three.finds("xc-police", "one.example"));
    assert!(three.finds("xb-police", "two.example") && three.finds("xc-police", "two.example"), "what was not taken back stays");
    assert!(!three.finds("some-vendor", "two.example"));
}

#[test]
fn what_may_not_go_on_does_not_and_an_order_ends() {
    let three = Three::new().and("xb-police");
    let (agency, police) = (three.of("agency"), three.of("police"));
    run(&police, &["card", "channel", "leads=circle:coordinators", "--onward", "federation,member:xb-police"]);
    let _running = [three.start("agency"), three.start("police"), three.start("xb-police")];
    three.publish("police", &["strict.example"], &["--channel", "leads", "--tlp", "amber+strict"]);
    three.publish("police", &["amber.example"], &["--channel", "leads", "--tlp", "amber"]);
    three.publish("police", &["green.example"], &["--channel", "leads", "--tlp", "green"]);
    until("the reader to have all", || {
        ["strict.example", "amber.example", "green.example"].iter().all(|value| three.finds("agency", value))
    });
    let strict = huecry(&agency, &["share", "xa-police/leads#1.1", "--with", "member:xb-police"]);
    assert!(code(&strict) == 1 && stderr(&strict).contains("never passed on"), "{}", stderr(&strict));
    // To the whole federation AMBER may not go, whatever the author named; so it reaches nobody.
    let amber = json_of(&run(&agency, &["--json", "share", "xa-police/leads#2.1", "--with", "federation"]));
    assert_eq!(amber["reaches"].as_array().map(Vec::len), Some(0), "{amber}");
    run(&agency, &["share", "xa-police/leads#3.1", "--with", "federation"]);
    until("GREEN to reach it", || three.finds("xb-police", "green.example"));
    assert!(!three.finds("xb-police", "amber.example") && !three.finds("xb-police", "strict.example"));
    let said = stdout(&run(&agency, &["share"]));
    assert!(said.contains("green[.]example  with federation"), "{said}");

    run(&agency, &["share", "xa-police/leads#3.1", "--with", "federation", "--undo"]);
    three.publish("police", &["later.example"], &["--channel", "leads", "--tlp", "green"]);
    until("the reader to have it", || three.finds("agency", "later.example"));
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert!(!three.finds("xb-police", "later.example"), "one order is about these records and no others");
    // Over a restart, what is passed on follows from the journal.
    run(&agency, &["share", "xa-police/leads#4.1", "--with", "member:xb-police"]);
    until("it to reach the one it is for", || three.finds("xb-police", "later.example"));
}
