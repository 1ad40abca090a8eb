//! Members that nobody can dial: they meet at a coordinator, which passes their bytes on and cannot read them.

use crate::support::{Three, huecry, json_of, run, stdout, until};
use std::path::Path;

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
