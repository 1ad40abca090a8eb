//! Documents: short ones in their record, long ones fetched on demand, chunk by chunk, over any break.

use crate::support::{Three, code, founded, huecry, json_of, run, start, stderr, stdout, until};
use std::path::Path;

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

fn written(data: &Path, name: &str, text: &str) -> String {
    let path = data.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn x9_what_names_a_record_above_the_marking_of_what_is_published_is_refused() {
    let data = founded();
    let data = data.path();
    run(data, &["card", "channel", "leads=named:xx-agency"]);
    let file = |name: &str, text: &str| written(data, name, text);
    let leads = file("leads.txt", "198.51.100.66\n");
    let red = json_of(&run(data, &["--json", "publish", &leads, "--channel", "leads", "--tlp", "red", "--format", "list", "--alone"]));
    let name = red["first"].as_str().unwrap().to_owned();
    let list = file("list.txt", "192.0.2.1\n");
    let table = file("table.csv", &format!("value,tags\n192.0.2.2,plain\n192.0.2.3,\"as in {name}\"\n"));
    let (short, long) = (file("short.md", &format!("See {name}.")), file("long.md", &format!("{}{name}", "word ".repeat(200_000))));
    let title = format!("follows {name}");
    let green = ["--tlp", "green", "--alone"];
    let refused: [&[&str]; 7] = [
        &["publish", &list, "--format", "list", "--title", &title],
        &["ask", "192.0.2.1", "--text", &title],
        &["sighting", "192.0.2.1", "--channel", "indicators", "--note", &title],
        &["document", "publish", &short],
        &["document", "publish", &long],
        &["document", "publish", &list, "--title", &title],
        &["document", "publish", &list, "--about", &name],
    ];
    for words in refused {
        let output = huecry(data, &[words, &green].concat());
        assert_ne!(code(&output), 0, "{words:?}: {}", stdout(&output));
        let said = stderr(&output);
        assert!(said.contains(&name) && (said.contains("TLP:RED")), "{words:?}: {said}");
    }
    // A row of a table falls alone, and the answer says why.
    let reply = json_of(&run(data, &[&["--json", "publish", &table, "--format", "csv"][..], &green].concat()));
    assert_eq!((&reply["records"], &reply["complaints"]), (&1.into(), &1.into()), "{reply}");
    assert!(reply["first_complaints"][0]["why"].as_str().unwrap().contains("which is TLP:RED"), "{reply}");
    // What takes back says it only where the record went, and with its marking.
    run(data, &["withdraw", &name, "--reason", "wrong", "--alone"]);
    let green_one = reply["first"].as_str().unwrap();
    let noted = huecry(data, &["withdraw", green_one, "--reason", "wrong", "--note", &title, "--alone"]);
    assert!(code(&noted) != 0 && stderr(&noted).contains("TLP:RED"), "{}", stderr(&noted));
    // With its own marking it may be named.
    run(data, &["document", "publish", &short, "--channel", "leads", "--tlp", "red", "--alone"]);
}

#[test]
fn x9_a_passage_of_a_restricted_text_is_warned_of_before_it_goes() {
    let data = founded();
    let data = data.path();
    run(data, &["card", "channel", "leads=named:xx-agency"]);
    let file = |name: &str, text: &str| written(data, name, text);
    let passage = "the suspect rents three servers at a provider in Examplestan under a stolen passport";
    let leads = file("leads.txt", "198.51.100.66\n");
    let red = ["--channel", "leads", "--tlp", "red", "--format", "list", "--alone", "--title", "leads"];
    run(data, &[&["publish", &leads, "--description", &format!("Informant: {passage}.")][..], &red].concat());
    let list = file("list.txt", "192.0.2.1\n");
    let copied =
        format!("As we heard, THE SUSPECT RENTS THREE SERVERS at a provider in Examplestan. {}", "Filler words follow here. ".repeat(300));
    let (note, short) = (file("note.md", &copied), "rents three servers at a provider");
    let green = ["--tlp", "green", "--alone"];
    let warned: [&[&str]; 4] = [
        &["publish", &list, "--format", "list", "--title", "t", "--description", &copied[..200]],
        &["ask", "192.0.2.1", "--text", &copied[..100]],
        &["sighting", "192.0.2.1", "--channel", "indicators", "--note", &copied[..100]],
        &["document", "publish", &note],
    ];
    for words in warned {
        let output = huecry(data, &[words, &green].concat());
        let said = stderr(&output);
        assert!(code(&output) != 0 && said.contains("copies text of xx-agency/leads#1.0, which is TLP:RED"), "{words:?}: {said}");
        assert!(said.contains("suspect rents three servers") && said.contains("--anyway"), "{words:?}: {said}");
        run(data, &[words, &green, &["--anyway"]].concat());
    }
    // In a file that comes from elsewhere the report falls, and the answer says why.
    let misp = format!(
        "{{\"Event\":{{\"uuid\":\"5f9d1e58-0000-4000-8000-000000000001\",\"info\":\"{passage}\",\"date\":\"2026-11-01\",\"Tag\":[{{\"name\":\"tlp:green\"}}],\
         \"Attribute\":[{{\"uuid\":\"5f9d1e58-0000-4000-8000-000000000002\",\"type\":\"domain\",\"value\":\"evil.example\",\"to_ids\":true}}]}}}}"
    );
    let event = file("event.json", &misp);
    let output = huecry(data, &["--json", "publish", &event, "--confidence", "50", "--alone"]);
    assert!(
        stdout(&output).contains("copies text of") || stderr(&output).contains("copies text of"),
        "{}{}",
        stdout(&output),
        stderr(&output)
    );
    // Six common words in a row are needed, and what stays here may be copied.
    run(data, &[&["publish", &list, "--format", "list", "--title", "t", "--description", &short[..20]][..], &green].concat());
    run(data, &["import", &event, "--confidence", "50", "--valid-days", "30"]);
    run(data, &[&["document", "publish", &note, "--channel", "leads", "--tlp", "red", "--alone"][..]].concat());
}
