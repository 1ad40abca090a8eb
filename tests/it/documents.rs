//! Documents: short ones in their record, long ones fetched on demand, chunk by chunk, over any break.

use crate::support::{Three, code, huecry, json_of, run, start, stderr, stdout, until};

const MIB: usize = 1024 * 1024;

fn material(length: usize) -> Vec<u8> {
    let mut state = 7u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn a_rule_travels_in_its_record_and_a_report_is_fetched_over_a_kill() {
    let three = Three::new();
    let (vendor, police, agency) = (three.of("vendor"), three.of("police"), three.of("agency"));
    let (rule, report) = (three.place.path().join("dropper.yar"), three.place.path().join("case.pdf"));
    std::fs::write(&rule, "rule dropper { condition: false }\n").unwrap();
    let bytes = material(48 * MIB + 77);
    std::fs::write(&report, &bytes).unwrap();
    // Vendors publish what their agreement names; the agency and the police may publish everything.
    let _agency = three.start("agency");
    let mut running = three.start("police");
    let said = stdout(&run(&agency, &["document", "publish", rule.to_str().unwrap()]));
    assert!(said.contains("34 bytes, in the record itself"), "{said}");
    let published =
        json_of(&run(&agency, &["--json", "document", "publish", report.to_str().unwrap(), "--title", "Case 7", "--tags", "case"]));
    let reference = published["reference"].as_str().unwrap().to_owned();
    let list = || json_of(&run(&police, &["--json", "document", "list"]))["documents"].as_array().cloned().unwrap_or_default();
    until("both to be known", || code(&huecry(&police, &["document"])) == 0 && list().len() == 2);
    assert_eq!(
        (&list()[0]["title"], &list()[0]["state"], &list()[1]["state"]),
        (&"Case 7".into(), &"not fetched".into(), &"inline".into())
    );
    let out = three.place.path().join("out");
    run(&police, &["document", "save", list()[1]["reference"].as_str().unwrap(), out.to_str().unwrap()]);
    assert_eq!(std::fs::read(&out).unwrap(), std::fs::read(&rule).unwrap());
    let early = huecry(&police, &["document", "save", &reference, out.to_str().unwrap()]);
    assert!(code(&early) == 1 && stderr(&early).contains("huecry document fetch"), "{}", stderr(&early));

    // Killed while it comes, it goes on from where it was.
    run(&police, &["document", "fetch", &reference, "--no-wait"]);
    until("some of it to be here", || list()[0]["here"].as_u64().is_some_and(|here| here > 0));
    running.0.kill().unwrap();
    running.0.wait().unwrap();
    let here = list()[0]["here"].as_u64().unwrap();
    running = start(&police);
    run(&police, &["document", "fetch", &reference, "--to", out.to_str().unwrap()]);
    assert!(std::fs::read(&out).unwrap() == bytes, "it came as it was sent");
    assert!(here > 0 && list()[0]["state"] == "here");
    // Whoever has it serves it, and dropping it is a matter of this node alone.
    run(&police, &["document", "drop", &reference]);
    assert_eq!(list()[0]["state"], "not fetched");

    // What its author took back is given to nobody any more.
    run(&agency, &["withdraw", &reference, "--reason", "superseded"]);
    until("the withdrawal to be here", || list().len() == 1);
    let gone = huecry(&police, &["document", "fetch", &reference]);
    assert!(code(&gone) == 1 && stderr(&gone).contains("withdrawn"), "{}", stderr(&gone));
    drop((running, vendor));
}

#[test]
fn room_for_contents_is_bounded_and_rubbish_is_told_in_words() {
    let three = Three::new();
    let agency = three.of("agency");
    let config = std::fs::read_to_string(agency.join("node.toml")).unwrap();
    std::fs::write(agency.join("node.toml"), config.replace("documents_bytes_max = 17179869184", "documents_bytes_max = 100000")).unwrap();
    let file = three.place.path().join("big.bin");
    std::fs::write(&file, material(100_001)).unwrap();
    let full = huecry(&agency, &["document", "publish", file.to_str().unwrap()]);
    assert!(code(&full) == 2 && stderr(&full).contains("documents_bytes_max"), "{}", stderr(&full));
    assert!(!agency.join("documents").exists() || std::fs::read_dir(agency.join("documents")).unwrap().count() == 0);
    std::fs::write(&file, b"").unwrap();
    let empty = huecry(&agency, &["document", "publish", file.to_str().unwrap()]);
    assert!(code(&empty) == 2 && stderr(&empty).contains("empty"), "{}", stderr(&empty));
    // Short, but no text: it travels as a content.
    std::fs::write(&file, [0xff, 0, 1]).unwrap();
    let said = stdout(&run(&agency, &["document", "publish", file.to_str().unwrap(), "--alone"]));
    assert!(said.contains("3 bytes, fetched on demand"), "{said}");
    for (words, text) in [
        (&["document", "fetch", "xx-agency/indicators#7.0"][..], "there is no document"),
        (&["document", "fetch", "nonsense"], "nonsense"),
        (&["document", "publish", "nowhere.bin"], "nowhere.bin"),
        (&["document", "drop", "xx-agency/indicators#1.0"], ""),
    ] {
        let output = huecry(&agency, words);
        assert!(stderr(&output).contains(text), "{words:?}: {}", stderr(&output));
    }
}
