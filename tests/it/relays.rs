//! Members that nobody can dial: they meet at a coordinator, which passes their bytes on and cannot read them.

use crate::support::{Three, huecry, json_of, run, stdout, until};
use std::{
    path::Path,
    time::{Duration, Instant},
};

fn shut_in(data: &Path) {
    let path = data.join("node.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, config.replacen("inbound = true", "inbound = false", 1)).unwrap();
}

fn peers(data: &Path) -> Vec<String> {
    let status = json_of(&huecry(data, &["--json", "status"]));
    let peers = status["network"]["peers"].as_array().cloned().unwrap_or_default();
    peers.iter().map(|peer| peer["member"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn n_11_a_node_that_its_card_no_longer_names_is_cut_off_over_a_relay_too() {
    let three = Three::new().and("xb-police");
    let (police, xb) = (three.of("police"), three.of("xb-police"));
    shut_in(&police);
    shut_in(&xb);
    run(&police, &["card", "channel", "leads=named:xb-police"]);
    let _agency = three.start("agency");
    let _police = three.start("police");
    let _xb = three.start("xb-police");
    three.publish("police", &["before.example"], &["--channel", "leads", "--tlp", "amber"]);
    until("the other to have it", || three.finds("xb-police", "before.example"));
    assert!(peers(&police).contains(&"xb-police".to_owned()));
    let text = |name: &str| xb.join(name).display().to_string();
    run(&xb, &["card", "revoke", "main", "--draft", &text("draft")]);
    run(&xb, &["card", "sign", &text("draft"), "--root", &text("keys/root.key"), "--out", &text("signed")]);
    run(&police, &["card", "publish", &text("signed")]);
    let begun = Instant::now();
    until("the relayed connection to close", || !peers(&police).contains(&"xb-police".to_owned()));
    assert!(begun.elapsed() < Duration::from_secs(3), "closed after {:?}", begun.elapsed());
    three.publish("police", &["after.example"], &["--channel", "leads", "--tlp", "amber"]);
    // The coordinator has the card too by now, and serves the revoked node no more.
    until("the coordinator to cut it off", || !peers(&three.of("agency")).contains(&"xb-police".to_owned()));
    assert!(peers(&police).contains(&"xx-agency".to_owned()), "the others stay connected");
    std::thread::sleep(Duration::from_secs(2));
    assert!(!three.finds("xb-police", "after.example"));
}

#[test]
fn two_members_without_an_inbound_port_exchange_amber_past_a_coordinator() {
    let three = Three::new().and("xb-police");
    let (agency, police, xb) = (three.of("agency"), three.of("police"), three.of("xb-police"));
    shut_in(&police);
    shut_in(&xb);
    run(&police, &["card", "channel", "leads=named:xb-police"]);
    let _agency = three.start("agency");
    let _police = three.start("police");
    let xb_runs = three.start("xb-police");
    let listening = json_of(&huecry(&police, &["--json", "status"]))["network"]["listening"].as_array().cloned().unwrap_or_default();
    assert!(listening.iter().all(|address| address.as_str().unwrap().contains("/p2p-circuit")), "{listening:?}");
    three.publish("police", &["amber.example"], &["--channel", "leads", "--tlp", "amber"]);
    until("the other to have it", || three.finds("xb-police", "amber.example"));
    assert!(peers(&police).contains(&"xb-police".to_owned()), "they are linked to each other: {:?}", peers(&police));
    assert!(!three.finds("agency", "amber.example"));
    let said = stdout(&run(&police, &["status"]));
    assert!(said.contains("relayed     /ip4/127.0.0.1/"), "{said}");

    // Who is gone is shown as not reached, with the reason.
    drop(xb_runs);
    three.publish("police", &["later.example"], &["--channel", "leads", "--tlp", "amber"]);
    until("it to be shown", || stdout(&run(&police, &["status"])).contains("unreachable xb-police (main)  since"));
    let receipts = json_of(&run(&police, &["--json", "receipts", "leads"]));
    assert!(["silent", "unreachable"].contains(&receipts["lines"][0]["state"].as_str().unwrap()), "{receipts}");
    let _xb = three.start("xb-police");
    until("it to come when it is back", || three.finds("xb-police", "later.example"));
    assert!(!stdout(&run(&police, &["status"])).contains("unreachable xb-police"));
    drop(agency);
}
