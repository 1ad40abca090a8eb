//! How records travel between real processes: in part, in full again, only what is followed, and how far they have got.

use crate::support::{Three, code, copy, huecry, json_of, run, stderr, stdout, until};
use serde_json::Value;

const KEEP_ADDRESSES: &str = "\n@id(\"keep-addresses\")\n@reason(\"addresses stay here for now\")\n\
     forbid (principal, action == Action::\"share\", resource) when { resource.type == \"ipv4\" };\n";

#[test]
fn what_one_node_withholds_is_known_asked_for_elsewhere_and_comes() {
    let three = Three::new();
    let agency = three.of("agency");
    let policy = std::fs::read_to_string(agency.join("policy.cedar")).unwrap();
    std::fs::write(agency.join("policy.cedar"), format!("{policy}{KEEP_ADDRESSES}")).unwrap();
    let running = [three.start("agency"), three.start("vendor")];
    three.publish("vendor", &["one.example", "192.0.2.1", "192.0.2.2", "two.example"], &[]);
    until("the agency to have all", || three.finds("agency", "192.0.2.2"));

    // The vendor is away, so the police get what the agency gives: the names, with their proof, and not the addresses.
    let [agency_runs, vendor_runs] = running;
    drop(vendor_runs);
    let _police = three.start("police");
    until("the police to have the names", || three.finds("police", "two.example"));
    assert!(!three.finds("police", "192.0.2.1"));
    let line = three.sync("police", "some-vendor");
    assert_eq!((line["withheld"].as_u64(), &line["withheld_by"][0]), (Some(2), &Value::from("xx-agency")), "{line}");
    let said = stdout(&run(&three.of("police"), &["sync", "--once"]));
    assert!(said.contains("some-vendor  5 records; lacks 2 records, withheld by xx-agency"), "{said}");

    // A change of mind makes something servable; nobody has to ask for it by hand.
    std::fs::write(agency.join("policy.cedar"), policy.clone()).unwrap();
    run(&agency, &["policy", "reload"]);
    until("what became servable to come", || three.finds("police", "192.0.2.1") && three.finds("police", "192.0.2.2"));
    until("the police to hold all", || three.sync("police", "some-vendor")["withheld"] == 0);

    // And what the agency never gives comes from the author when it is back.
    std::fs::write(agency.join("policy.cedar"), format!("{policy}{KEEP_ADDRESSES}")).unwrap();
    run(&agency, &["policy", "reload"]);
    let vendor_runs = three.start("vendor");
    three.publish("vendor", &["192.0.2.3"], &[]);
    until("everyone to have it", || three.finds("police", "192.0.2.3") && three.finds("agency", "192.0.2.3"));
    drop((agency_runs, vendor_runs));
}

#[test]
fn a_batch_in_part_is_still_known_after_a_restart_and_filled_after_it() {
    let three = Three::new();
    let agency = three.of("agency");
    let policy = std::fs::read_to_string(agency.join("policy.cedar")).unwrap();
    std::fs::write(agency.join("policy.cedar"), format!("{policy}{KEEP_ADDRESSES}")).unwrap();
    let (agency_runs, vendor_runs) = (three.start("agency"), three.start("vendor"));
    three.publish("vendor", &["one.example", "192.0.2.1"], &[]);
    until("the agency to have all", || three.finds("agency", "192.0.2.1"));
    drop(vendor_runs);
    let police = three.start("police");
    until("the police to have the name", || three.finds("police", "one.example"));
    drop((police, agency_runs));
    // State and index are derived: they come back from the journal, the part and its rest too.
    for derived in ["state", "index"] {
        std::fs::remove_dir_all(three.of("police").join("ledger").join(derived)).unwrap();
    }
    let (police, _vendor, _agency) = (three.start("police"), three.start("vendor"), three.start("agency"));
    assert_eq!(three.sync("police", "some-vendor")["records"], 3);
    until("the rest to come from its author", || three.finds("police", "192.0.2.1"));
    drop(police);
    for derived in ["state", "index"] {
        std::fs::remove_dir_all(three.of("police").join("ledger").join(derived)).unwrap();
    }
    let line = three.sync("police", "some-vendor");
    assert_eq!((line["records"].as_u64(), line["withheld"].as_u64()), (Some(3), Some(0)), "{line}");
    assert!(three.finds("police", "192.0.2.1") && three.finds("police", "one.example"));
}

#[test]
fn only_what_is_followed_comes_and_the_rest_when_it_is_followed() {
    let three = Three::new();
    let (police, _agency, _vendor) = (three.of("police"), three.start("agency"), three.start("vendor"));
    run(&police, &["follow", "some-vendor/indicators", "--type", "domain", "--min-confidence", "60"]);
    let _police = three.start("police");
    three.publish("vendor", &["sure.example", "192.0.2.1"], &[]);
    three.publish("vendor", &["unsure.example"], &["--confidence", "30"]);
    until("the name to come", || three.finds("police", "sure.example"));
    until("both batches to be known", || three.sync("police", "some-vendor")["batches"] == 2);
    assert!(!three.finds("police", "192.0.2.1") && !three.finds("police", "unsure.example"));
    let line = three.sync("police", "some-vendor");
    assert_eq!(line["withheld"], 0, "completeness speaks of what is followed: {line}");
    assert_eq!(line["followed"][0], "some-vendor/indicators: domain, confidence 60 and above");

    let wrong = huecry(&police, &["follow", "some-vendor/indicator"]);
    assert_eq!(code(&wrong), 2);
    assert!(stderr(&wrong).contains("indicators"), "{}", stderr(&wrong));
    run(&police, &["follow", "--only"]);
    run(&police, &["follow", "some-vendor/indicators", "--stop"]);
    three.publish("vendor", &["unseen.example"], &[]);
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert!(!three.finds("police", "unseen.example"), "nothing is followed any more");
    run(&police, &["follow", "--everything"]);
    until("what was not followed to come", || three.finds("police", "unseen.example"));
    until("what had been filtered out to come too", || three.finds("police", "192.0.2.1") && three.finds("police", "unsure.example"));
}

#[test]
fn an_author_sees_how_far_a_record_and_its_withdrawal_have_got() {
    let three = Three::new();
    let (vendor, _agency, _vendor) = (three.of("vendor"), three.start("agency"), three.start("vendor"));
    let police = three.start("police");
    three.publish("vendor", &["one.example"], &[]);
    let receipts = |of: &str| json_of(&run(&vendor, &["--json", "receipts", of]));
    until("both to have applied it", || receipts("indicators")["counts"]["applied"] == 2);
    let said = stdout(&run(&vendor, &["receipts", "some-vendor/indicators#1.0"]));
    assert!(said.contains("applied by 2 of 2"), "{said}");
    drop(police);
    run(&vendor, &["withdraw", "one.example", "--reason", "wrong"]);
    let after = || receipts("some-vendor/indicators#1.1");
    until("the withdrawal to be applied by one, the other silent", || {
        let now = after();
        now["counts"]["applied"] == 1 && now["counts"]["silent"] == 1
    });
    assert!(after()["withdrawn_by"].as_str().unwrap().starts_with("some-vendor/indicators#2."), "{}", after());
    // Nobody else is told.
    let other = huecry(&three.of("agency"), &["receipts", "some-vendor/indicators#1.0"]);
    assert!(code(&other) != 0 && stderr(&other).contains("only an author"), "{}", stderr(&other));
}

#[test]
fn a_bundle_carries_what_a_member_may_have_and_no_more() {
    let three = Three::new();
    let (agency, police, vendor) = (three.of("agency"), three.of("police"), three.of("vendor"));
    three.publish("vendor", &["one.example", "192.0.2.1"], &[]);
    three.publish("vendor", &["two.example"], &["--alone"]);
    run(&vendor, &["withdraw", "one.example", "--reason", "wrong", "--alone"]);
    let file = three.place.path().join("out.bundle");
    let said = stdout(&run(&vendor, &["bundle", "export", file.to_str().unwrap(), "--to", "xa-police"]));
    assert!(said.contains("out.bundle"), "{said}");
    // Before it, nothing; after it, all; twice does no harm.
    assert!(!three.finds("police", "two.example"));
    let taken = json_of(&run(&police, &["--json", "bundle", "import", file.to_str().unwrap()]));
    assert_eq!((taken["batches"].as_u64(), taken["new"].as_u64()), (Some(3), Some(3)), "{taken}");
    assert!(three.finds("police", "two.example") && three.finds("police", "192.0.2.1"));
    assert!(!three.finds("police", "one.example"), "what was withdrawn stays so");
    let again = json_of(&run(&police, &["--json", "bundle", "import", file.to_str().unwrap()]));
    assert_eq!((again["new"].as_u64(), &again["refused"]), (Some(0), &serde_json::json!({})), "{again}");

    // A cut file gives what it holds and says that it is cut; rubbish is told from a bundle; parts come in any order.
    let bytes = std::fs::read(&file).unwrap();
    let cut = three.place.path().join("cut.bundle");
    std::fs::write(&cut, &bytes[..bytes.len() - 40]).unwrap();
    let output = huecry(&agency, &["bundle", "import", cut.to_str().unwrap()]);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("ends in the middle"), "{}", stderr(&output));
    std::fs::write(&cut, b"PK\x03\x04 something else").unwrap();
    let output = huecry(&agency, &["bundle", "import", cut.to_str().unwrap()]);
    assert!(code(&output) == 2 && stderr(&output).contains("no bundle of huecry"), "{}", stderr(&output));
    run(&agency, &["bundle", "import", file.to_str().unwrap()]);
    assert!(three.finds("agency", "two.example"));
    let stranger = huecry(&vendor, &["bundle", "export", file.to_str().unwrap(), "--to", "xa-polise"]);
    assert!(code(&stranger) == 2 && stderr(&stranger).contains("xa-police"), "{}", stderr(&stranger));
}

#[test]
fn c_03_g_09_two_branches_meet_and_the_proof_spreads_to_all() {
    let three = Three::new();
    let (agency, police, vendor) = (three.of("agency"), three.of("police"), three.of("vendor"));
    three.publish("vendor", &["one.example"], &[]);
    // A stolen copy of the vendor's machine signs another second batch, and one more, than the vendor itself.
    copy(&vendor, &three.of("copy"));
    three.publish("vendor", &["two.example"], &["--alone"]);
    three.publish("copy", &["other.example"], &["--alone"]);
    three.publish("copy", &["another.example"], &["--alone"]);
    for (from, to) in [("vendor", &agency), ("copy", &police)] {
        let file = three.place.path().join("fork.bundle");
        let member = if from == "vendor" { "xx-agency" } else { "xa-police" };
        run(&three.of(from), &["bundle", "export", file.to_str().unwrap(), "--to", member]);
        run(to, &["bundle", "import", file.to_str().unwrap()]);
    }
    assert!(three.finds("agency", "two.example") && three.finds("police", "another.example"));
    let _running = [three.start("agency"), three.start("police"), three.start("vendor")];
    let quarantined = |name: &str| stdout(&huecry(&three.of(name), &["quarantine"])).contains("two different heads");
    until("all three to have the proof", || quarantined("agency") && quarantined("police") && quarantined("vendor"));
    assert!(!three.finds("agency", "two.example") && !three.finds("police", "one.example"), "nobody picks a winner");

    // Anyone can check it, and nothing else passes for it.
    let proof = three.place.path().join("proof");
    let path = proof.to_str().unwrap();
    run(&agency, &["verify", "--export", "some-vendor/indicators", "--out", path]);
    let said = stdout(&run(&police, &["verify", path]));
    assert!(said.contains("the author of some-vendor/indicators signed two heads for #2"), "{said}");
    let mut bytes = std::fs::read(&proof).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&proof, &bytes).unwrap();
    let bad = huecry(&police, &["verify", path]);
    assert!(code(&bad) == 2 && stderr(&bad).contains("proves nothing"), "{}", stderr(&bad));
}
