//! Importing what other tools write, as the person does it: the files, the questions, the report, and what is there afterwards.

use crate::support::{code, founded, huecry, json_of, stderr, stdout};
use huecry::{
    clock::Clock,
    record::{DAY_MS, Timestamp},
};
use std::path::{Path, PathBuf};

pub const BUNDLE: &str = r#"{"type":"bundle","id":"bundle--0a0a0a0a-0000-4000-8000-000000000000","objects":[
{"type":"indicator","spec_version":"2.1","id":"indicator--0a0a0a0a-0000-4000-8000-000000000001","created_by_ref":"identity--0a0a0a0a-0000-4000-8000-000000000009",
 "created":"2026-01-01T00:00:00.000Z","modified":"2026-01-01T00:00:00.000Z","indicator_types":["malicious-activity"],"confidence":85,
 "pattern":"[domain-name:value = 'c2.example' OR ipv4-addr:value = '192.0.2.66']","pattern_type":"stix","valid_from":"2026-01-01T00:00:00Z",
 "object_marking_refs":["marking-definition--55d920b0-5e8b-4f79-9ee9-91f868d9b421"]},
{"type":"indicator","spec_version":"2.1","id":"indicator--0a0a0a0a-0000-4000-8000-000000000002","created":"2026-01-01T00:00:00.000Z","modified":"2026-01-01T00:00:00.000Z",
 "pattern":"[url:value = 'http://drop.example/x']","pattern_type":"stix","valid_from":"2026-01-01T00:00:00Z"},
{"type":"indicator","spec_version":"2.1","id":"indicator--0a0a0a0a-0000-4000-8000-000000000003","created":"2026-01-01T00:00:00.000Z","modified":"2026-01-01T00:00:00.000Z",
 "name":"Beacon","pattern":"[process:name = 'a'] FOLLOWEDBY [process:name = 'b']","pattern_type":"stix","valid_from":"2026-01-01T00:00:00Z"},
{"type":"indicator","spec_version":"2.1","id":"indicator--0a0a0a0a-0000-4000-8000-000000000004","pattern":"[domain-name:value = ","pattern_type":"stix"},
{"type":"indicator","spec_version":"2.1","id":"indicator--0a0a0a0a-0000-4000-8000-000000000005","pattern":17},
{"type":"relationship","spec_version":"2.1","id":"relationship--0a0a0a0a-0000-4000-8000-000000000011","relationship_type":"indicates",
 "source_ref":"indicator--0a0a0a0a-0000-4000-8000-000000000001","target_ref":"malware--0a0a0a0a-0000-4000-8000-000000000021"},
{"type":"malware","spec_version":"2.1","id":"malware--0a0a0a0a-0000-4000-8000-000000000021","name":"Paperclip","is_family":true},
{"type":"identity","spec_version":"2.1","id":"identity--0a0a0a0a-0000-4000-8000-000000000009","name":"Example Labs"},
{"type":"sighting","spec_version":"2.1","id":"sighting--0a0a0a0a-0000-4000-8000-000000000031","sighting_of_ref":"indicator--0a0a0a0a-0000-4000-8000-000000000002","count":3},
{"type":"course-of-action","spec_version":"2.1","id":"course-of-action--0a0a0a0a-0000-4000-8000-000000000041","name":"Unplug it"}
]}"#;

pub const EVENT: &str = r#"{"Event":{"uuid":"0b0b0b0b-0000-4000-8000-000000000000","info":"Paper trail","date":"2026-02-01","threat_level_id":"1",
"Orgc":{"name":"Example CERT","uuid":"0b0b0b0b-0000-4000-8000-000000000009"},
"Attribute":[
 {"uuid":"0b0b0b0b-0000-4000-8000-000000000001","type":"domain","category":"Network activity","value":"trail.example","to_ids":true,
  "Tag":[{"name":"estimative-language:likelihood-probability=\"very-likely\""}],"Sighting":[{"type":"1","date_sighting":"1767225600"}]},
 {"uuid":"0b0b0b0b-0000-4000-8000-000000000002","type":"ip-dst|port","value":"192.0.2.7|8443","to_ids":"1"},
 {"uuid":"0b0b0b0b-0000-4000-8000-000000000003","type":"mutex","value":"Global\\paper","to_ids":false},
 {"uuid":"0b0b0b0b-0000-4000-8000-000000000004","type":"ip-src","value":"192.0.2","to_ids":true},
 {"uuid":"0b0b0b0b-0000-4000-8000-000000000005","type":"yara","value":"rule a { condition: false }","to_ids":true},
 {"uuid":"0b0b0b0b-0000-4000-8000-000000000006","type":"attachment","value":"note.txt","data":"aGVsbG8=","to_ids":false}],
"Object":[{"name":"file","uuid":"0b0b0b0b-0000-4000-8000-000000000010","Attribute":[
 {"uuid":"0b0b0b0b-0000-4000-8000-000000000011","type":"md5","value":"D41D8CD98F00B204E9800998ECF8427E","to_ids":true},
 {"uuid":"0b0b0b0b-0000-4000-8000-000000000012","type":"filename","value":"paper.exe","to_ids":false}]}],
"Tag":[{"name":"tlp:amber"},{"name":"PAP:RED"},{"name":"misp-galaxy:threat-actor=\"Stapler\""},
 {"name":"misp-galaxy:mitre-attack-pattern=\"Phishing - T1566\""}]}}"#;

pub fn file(place: &Path, name: &str, text: &str) -> String {
    let path: PathBuf = place.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn count(reply: &serde_json::Value, what: &str) -> u64 {
    reply[what].as_u64().unwrap_or_else(|| panic!("{what}: {reply}"))
}

pub const SAID: [&str; 6] = ["--tlp", "green", "--confidence", "40", "--valid-days", "30"];

#[test]
fn a_stix_bundle_becomes_reports_indicators_sightings_and_documents_and_its_bad_objects_fall_alone() {
    let data = founded();
    let bundle = file(data.path(), "bundle.json", BUNDLE);
    let import = huecry(data.path(), &[&["--json", "import", &bundle][..], &SAID].concat());
    assert_eq!(code(&import), 0, "{}", stderr(&import));
    let reply = json_of(&import);
    assert_eq!(
        (reply["format"].as_str(), count(&reply, "records"), count(&reply, "documents"), count(&reply, "sightings")),
        (Some("stix"), 3, 1, 1)
    );
    let complaints: Vec<&str> = reply["first_complaints"].as_array().unwrap().iter().map(|one| one["path"].as_str().unwrap()).collect();
    assert_eq!(complaints, ["objects[3] indicator--0a0a0a0a-0000-4000-8000-000000000004", "objects[4]"]);
    assert_eq!(reply["without_record"]["course-of-action"], 1);
    let assumed = |what: &str| {
        reply["assumed"].as_array().unwrap().iter().find(|one| one["what"] == what).map(|one| one["records"].as_u64().unwrap())
    };
    // The URL, its sighting and the document are unmarked; the marked indicator says how sure it is.
    assert_eq!((assumed("tlp"), assumed("confidence"), assumed("validity")), (Some(3), Some(1), Some(3)));
    let asked = json_of(&huecry(data.path(), &["--json", "query", "c2.example"]));
    let assertion = &asked["values"][0]["assertions"][0];
    assert_eq!(
        (assertion["tlp"].as_str(), assertion["confidence"].as_u64(), assertion["role"].as_str()),
        (Some("TLP:AMBER"), Some(85), Some("attacker"))
    );
    assert_eq!(assertion["title"], "bundle.json: Paperclip");
    let explained = stdout(&huecry(data.path(), &["explain", "c2.example"]));
    assert!(explained.contains("Example Labs") || explained.contains("examplelabs"), "{explained}");
    let documents = json_of(&huecry(data.path(), &["--json", "document"]));
    assert_eq!(documents["documents"][0]["title"], "Beacon", "{documents}");
    // Taken back at its source, it is taken back here.
    let revoked = r#"{"type":"bundle","id":"bundle--0a0a0a0a-0000-4000-8000-000000000001","objects":[
        {"type":"indicator","id":"indicator--0a0a0a0a-0000-4000-8000-000000000001","revoked":true,"pattern":"[domain-name:value = 'c2.example']"}]}"#;
    let revoked = file(data.path(), "revoked.json", revoked);
    let reply = json_of(&huecry(data.path(), &[&["--json", "import", &revoked][..], &SAID].concat()));
    assert_eq!((count(&reply, "withdrawn"), count(&reply, "records")), (2, 0));
    assert_eq!(code(&huecry(data.path(), &["query", "c2.example"])), 1);
    let again = json_of(&huecry(data.path(), &[&["--json", "import", &revoked][..], &SAID].concat()));
    assert_eq!(count(&again, "withdrawn"), 0, "twice is once");
}

#[test]
fn a_misp_event_keeps_its_objects_together_and_what_is_not_for_detection_is_never_enforced() {
    let data = founded();
    let event = file(data.path(), "event.json", EVENT);
    let import = huecry(data.path(), &["--json", "import", &event, "--confidence", "40", "--valid-days", "30", "--tlp", "green"]);
    assert_eq!(code(&import), 0, "{}", stderr(&import));
    let reply = json_of(&import);
    assert_eq!(
        (count(&reply, "records"), count(&reply, "documents"), count(&reply, "sightings"), count(&reply, "complaints")),
        (6, 2, 1, 1)
    );
    let of = |value: &str| {
        let answer = json_of(&huecry(data.path(), &["--json", "query", value]));
        answer["values"][0]["assertions"][0].clone()
    };
    let domain = of("trail.example");
    assert_eq!(
        (domain["confidence"].as_u64(), domain["use"].as_str(), domain["tlp"].as_str()),
        (Some(80), Some("hunt"), Some("TLP:AMBER"))
    );
    assert_eq!(domain["title"], "Paper trail");
    assert_eq!(of("192.0.2.7:8443")["confidence"], 40, "what the event does not say was said once");
    let (hash, name) =
        (of("d41d8cd98f00b204e9800998ecf8427e"), json_of(&huecry(data.path(), &["--json", "query", "--tag", "object:file:0b0b0b0b"])));
    assert!(hash["tags"].as_array().unwrap().contains(&"object:file:0b0b0b0b".into()), "{hash}");
    assert_eq!(name["values"].as_array().unwrap().len(), 2, "the object's two parts are found together: {name}");
    let by_actor = json_of(&huecry(data.path(), &["--json", "query", "--actor", "Stapler"]));
    assert!(
        !by_actor["values"].as_array().unwrap().is_empty() || !by_actor["records"].as_array().unwrap_or(&Vec::new()).is_empty(),
        "{by_actor}"
    );
    // A deleted attribute takes its record back.
    let deleted = EVENT.replace(r#""value":"trail.example","to_ids":true"#, r#""value":"trail.example","deleted":true,"to_ids":true"#);
    let deleted = file(data.path(), "deleted.json", &deleted);
    let reply = json_of(&huecry(data.path(), &["--json", "import", &deleted, "--as-is"]));
    assert_eq!(count(&reply, "withdrawn"), 1);
    assert_eq!(code(&huecry(data.path(), &["query", "trail.example"])), 1);
}

#[test]
fn what_a_file_does_not_say_has_to_be_said_once_and_a_source_in_the_configuration_may_say_it() {
    let data = founded();
    let list = file(data.path(), "list.txt", "a.example\nb.example\n");
    let bare = huecry(data.path(), &["import", &list]);
    assert_eq!(code(&bare), 2);
    let said = stderr(&bare);
    assert!(
        said.contains("--tlp") && said.contains("--confidence") && said.contains("--valid-days") && said.contains("Nothing was taken"),
        "{said}"
    );
    assert_eq!(code(&huecry(data.path(), &["query", "a.example"])), 1);
    let bundle = file(data.path(), "bundle.json", BUNDLE);
    let half = huecry(data.path(), &["import", &bundle, "--tlp", "green"]);
    assert!(code(&half) == 2 && stderr(&half).contains("1 records do not say how sure"), "{}", stderr(&half));
    // A dry run says what is missing and takes nothing.
    let tried = json_of(&huecry(data.path(), &["--json", "import", &bundle, "--dry-run"]));
    let unsaid: Vec<&str> = tried["unsaid"].as_array().unwrap().iter().map(|one| one["what"].as_str().unwrap()).collect();
    assert_eq!((unsaid, count(&tried, "records")), (vec!["tlp", "confidence", "validity"], 3));
    assert_eq!(code(&huecry(data.path(), &["query", "c2.example"])), 1);
    let config = data.path().join("node.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let source = "\n[[sources]]\nname = \"example-labs\"\ntlp = \"amber\"\nconfidence = 55\nvalid_days = 10\norganisation = \"Example Labs\"\ntags = [\"labs\"]\n";
    std::fs::write(&config, text + source).unwrap();
    let reply = json_of(&huecry(data.path(), &["--json", "import", &list, "--as", "example-labs"]));
    assert_eq!(count(&reply, "records"), 2);
    let asked = json_of(&huecry(data.path(), &["--json", "query", "a.example"]));
    let assertion = &asked["values"][0]["assertions"][0];
    assert_eq!(
        (assertion["tlp"].as_str(), assertion["confidence"].as_u64(), assertion["tags"][0].as_str()),
        (Some("TLP:AMBER"), Some(55), Some("labs"))
    );
    let unknown = huecry(data.path(), &["import", &list, "--as", "exampel-labs"]);
    assert!(code(&unknown) == 2 && stderr(&unknown).contains("did you mean `example-labs`?"), "{}", stderr(&unknown));
}

#[test]
fn what_is_marked_narrower_than_its_channel_is_not_published_in_it() {
    let data = founded();
    let bundle = file(data.path(), "bundle.json", BUNDLE);
    // A file that could have said who may read it, and did not, is refused; a list is green.
    let unsaid = huecry(data.path(), &["publish", &bundle]);
    assert!(code(&unsaid) == 2 && stderr(&unsaid).contains("do not say who may read them"), "{}", stderr(&unsaid));
    let reply = json_of(&huecry(data.path(), &["--json", "publish", &bundle, "--tlp", "green"]));
    assert_eq!(count(&reply, "records"), 1, "the two that are AMBER stay here");
    let why = reply["first_complaints"].to_string();
    assert!(why.contains("it is marked TLP:AMBER"), "{why}");
    assert_eq!(code(&huecry(data.path(), &["query", "c2.example"])), 1);
}

#[test]
fn rubbish_and_bombs_are_refused_in_words_and_leave_nothing_behind() {
    let data = founded();
    let refused = |name: &str, bytes: &[u8], words: &str| {
        let path = data.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let output = huecry(data.path(), &["import", path.to_str().unwrap(), "--as-is"]);
        assert!(code(&output) == 2 && stderr(&output).contains(words), "{name}: {}{}", stdout(&output), stderr(&output));
    };
    let gzip = |bytes: &[u8]| {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut out, bytes).unwrap();
        out.finish().unwrap()
    };
    refused("cut.json", &BUNDLE.as_bytes()[..700], "the text ends inside");
    refused("twice.json", b"{\"type\":\"bundle\",\"objects\":[],\n\"objects\":[]}", "line 2: the key `objects` stands twice");
    refused("other.json", b"{\"name\":\"package\",\"version\":1}", "neither STIX nor MISP");
    refused("deep.json", &[b"{\"type\":\"bundle\",\"objects\":".as_slice(), &vec![b'['; 1 << 20]].concat(), "deeper than 128");
    // A gibibyte of nesting, packed into a megabyte: it ends with its 129th bracket.
    let bomb = [gzip(b"{\"type\":\"bundle\",\"objects\":"), gzip(&vec![b'['; 64 << 20]).repeat(16)].concat();
    refused("bomb.json.gz", &bomb, "deeper than 128");
    refused("zeros.json.gz", &gzip(&vec![0; 64 << 20]), "zero bytes");
    refused("empty.json", b"{\"type\":\"bundle\",\"objects\":[]}", "nothing in it gave a value");
    // Bytes that are no UTF-8 spoil their object, not the bundle.
    let spoilt = BUNDLE.replace("Paperclip", "Paper\u{1}clip").into_bytes();
    let spoilt: Vec<u8> = spoilt.into_iter().map(|byte| if byte == 1 { 0xff } else { byte }).collect();
    let path = data.path().join("spoilt.json");
    std::fs::write(&path, spoilt).unwrap();
    let reply = json_of(&huecry(data.path(), &["--json", "import", path.to_str().unwrap(), "--as-is"]));
    assert_eq!(count(&reply, "records"), 3);
    // A bundle that refers to itself says nothing twice.
    let own = r#"{"type":"bundle","objects":[{"type":"report","id":"report--0a0a0a0a-0000-4000-8000-000000000051","name":"Loop",
        "object_refs":["report--0a0a0a0a-0000-4000-8000-000000000051","indicator--0a0a0a0a-0000-4000-8000-000000000052"]},
        {"type":"relationship","id":"relationship--0a0a0a0a-0000-4000-8000-000000000053","relationship_type":"indicates",
         "source_ref":"indicator--0a0a0a0a-0000-4000-8000-000000000052","target_ref":"indicator--0a0a0a0a-0000-4000-8000-000000000052"},
        {"type":"indicator","id":"indicator--0a0a0a0a-0000-4000-8000-000000000052","pattern":"[domain-name:value = 'loop.example']"}]}"#;
    let reply = json_of(&huecry(data.path(), &["--json", "import", &file(data.path(), "loop.json", own), "--as-is"]));
    assert_eq!((count(&reply, "records"), count(&reply, "reports")), (1, 1));
    let left: Vec<_> = std::fs::read_dir(data.path().join("imports")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_mirror_makes_a_channel_equal_to_its_file_and_twice_is_once() {
    let data = founded();
    let numbered = |numbers: std::ops::Range<u32>| numbers.fold(String::new(), |text, number| format!("{text}n{number}.example\n"));
    let mirror = |text: &str, more: &[&str]| {
        let list = file(data.path(), "list.txt", text);
        huecry(data.path(), &[&["--json", "publish", &list, "--mirror", "--confidence", "60", "--valid-days", "30"][..], more].concat())
    };
    let counts = |output: &std::process::Output| {
        let reply = json_of(output);
        ["records", "unchanged", "replaced", "withdrawn"].map(|what| count(&reply, what))
    };
    assert_eq!(counts(&mirror(&numbered(0..100), &[])), [100, 0, 0, 0]);
    assert_eq!(counts(&mirror(&numbered(0..100), &[])), [0, 100, 0, 0], "the same file again says nothing");
    assert_eq!(counts(&mirror(&numbered(5..103), &["--dry-run"])), [3, 95, 0, 5]);
    assert_eq!(counts(&mirror(&numbered(5..103), &[])), [3, 95, 0, 5]);
    let standing = |value: &str| code(&huecry(data.path(), &["query", value])) == 0;
    assert!(!standing("n0.example") && standing("n5.example") && standing("n102.example"));
    // A file of which most is missing is more often broken than meant.
    let broken = mirror(&numbered(5..20), &[]);
    assert!(
        code(&broken) == 2 && stderr(&broken).contains("lacks 83 of the 98 records") && stderr(&broken).contains("Nothing was changed"),
        "{}",
        stderr(&broken)
    );
    assert!(standing("n102.example"));
    assert_eq!(counts(&mirror(&numbered(5..20), &["--withdraw-max", "100"])), [0, 15, 0, 83]);
    // What means something else is said in place of what stood, and names it.
    let list = file(data.path(), "list.txt", &numbered(5..20));
    let output = huecry(data.path(), &["--json", "publish", &list, "--mirror", "--confidence", "90", "--valid-days", "30"]);
    assert_eq!(counts(&output), [15, 0, 15, 0]);
    let answer = json_of(&huecry(data.path(), &["--json", "query", "n5.example"]));
    let assertions = answer["values"][0]["assertions"].as_array().unwrap();
    assert!(assertions.len() == 1 && assertions[0]["confidence"] == 90, "{answer}");
    // Nearly over, for a life of a hundred days where thirty are left: one record lets all of them hold longer.
    let longer = |more: &[&str]| {
        let about = ["--json", "publish", &list, "--mirror", "--confidence", "90", "--valid-days", "100"];
        json_of(&huecry(data.path(), &[&about[..], more].concat()))
    };
    for (more, renewed, unchanged) in [(&["--dry-run"][..], 15, 0), (&[][..], 15, 0), (&[][..], 0, 15)] {
        let reply = longer(more);
        assert_eq!(["records", "renewed", "unchanged", "withdrawn"].map(|what| count(&reply, what)), [0, renewed, unchanged, 0], "{reply}");
    }
    let answer = json_of(&huecry(data.path(), &["--json", "query", "n5.example"]));
    let end = Timestamp::parse(answer["values"][0]["assertions"][0]["ends"].as_str().unwrap()).unwrap();
    assert!(end.ms_since(Clock::System.now()) > 99 * DAY_MS, "{answer}");
    assert_eq!(code(&huecry(data.path(), &["publish", &list, &list, "--mirror"])), 2);
}

#[test]
fn a_refreshed_file_is_known_again_by_its_own_ids() {
    let data = founded();
    let refresh = |text: &str| {
        let bundle = file(data.path(), "bundle.json", text);
        json_of(&huecry(data.path(), &[&["--json", "import", &bundle, "--refresh"][..], &SAID].concat()))
    };
    assert_eq!(count(&refresh(BUNDLE), "records"), 3);
    let again = refresh(BUNDLE);
    // Its three values, its document and its sighting.
    assert_eq!((count(&again, "records"), count(&again, "documents"), count(&again, "unchanged")), (0, 0, 5));
    let surer = refresh(&BUNDLE.replace("\"confidence\":85", "\"confidence\":95"));
    assert_eq!((count(&surer, "records"), count(&surer, "replaced"), count(&surer, "unchanged")), (2, 2, 3));
    let answer = json_of(&huecry(data.path(), &["--json", "query", "c2.example"]));
    assert!(answer["values"][0]["assertions"].as_array().unwrap().len() == 1 && answer["values"][0]["confidence"] == 95, "{answer}");
}

/// A MISP event of one attribute; the parts are put in as they are.
fn event(head: &str, attribute: &str) -> String {
    format!(
        r#"{{"Event":{{"uuid":"0f0f0f0f-0000-4000-8000-000000000000","info":"SECRET-NAME",{head},
        "Attribute":[{{"uuid":"0f0f0f0f-0000-4000-8000-000000000001","type":"domain","value":"marked.example","to_ids":true{attribute}}}]}}}}"#
    )
}

#[test]
fn nothing_is_published_wider_than_its_file_says_or_may_have_said() {
    let data = founded();
    let about = ["--tlp", "green", "--confidence", "77", "--valid-days", "5"];
    let publish = |text: &str| {
        let path = file(data.path(), "in.json", text);
        let output = huecry(data.path(), &[&["--json", "publish", &path][..], &about].concat());
        if code(&output) == 0 { json_of(&output) } else { serde_json::json!({ "records": 0, "sightings": 0, "error": stderr(&output) }) }
    };
    let report = |more: &str| {
        format!(
            r#"{{"type":"bundle","objects":[{{"type":"report","id":"report--0f0f0f0f-0000-4000-8000-000000000011","name":"R",
            "object_marking_refs":["marking-definition--e828b379-4e03-4974-9ac4-e53a884c97c1"],"object_refs":["indicator--0f0f0f0f-0000-4000-8000-000000000012"]{more}}},
            {{"type":"indicator","id":"indicator--0f0f0f0f-0000-4000-8000-000000000012","pattern":"[domain-name:value = 'marked.example']"}}]}}"#
        )
    };
    for (what, text) in [
        ("the event is RED", event(r#""Tag":[{"name":"tlp:red"}]"#, "")),
        ("so is a sighting of its value", event(r#""Tag":[{"name":"tlp:red"}]"#, r#","Sighting":[{"type":"0"}]"#)),
        ("one tag cannot be read", event(r#""Tag":[{"name":null}]"#, "")),
        ("the report is RED", report("")),
        ("the report is RED and cannot be read", report(r#","labels":null"#)),
        ("the report is RED and taken back", report(r#","revoked":true"#)),
        ("the report has no id that could be followed", report("").replace("report--0f0f0f0f-0000-4000-8000-000000000011", "report--1")),
    ] {
        let reply = publish(&text);
        assert_eq!((count(&reply, "records"), count(&reply, "sightings")), (0, 0), "{what}: {reply}");
        assert_eq!(code(&huecry(data.path(), &["query", "marked.example"])), 1, "{what}");
    }
    // A RED event stays; its GREEN attribute goes, with what was said once, and without a word of the event.
    let green = publish(&event(
        r#""Orgc":{"name":"Example CERT"},"Tag":[{"name":"tlp:red"},{"name":"secret-tag"}]"#,
        r#","Tag":[{"name":"tlp:green"}]"#,
    ));
    assert_eq!(count(&green, "records"), 1, "{green}");
    let answer = json_of(&huecry(data.path(), &["--json", "query", "marked.example"]));
    let one = &answer["values"][0]["assertions"][0];
    assert!(one["confidence"] == 77 && one["title"].is_null() && !one["ends"].as_str().unwrap().starts_with("2028"), "{answer}");
    // The same value RED first does not keep its GREEN copy from being said.
    let twice = r#"{"type":"bundle","objects":[
        {"type":"indicator","id":"indicator--0f0f0f0f-0000-4000-8000-000000000021","pattern":"[domain-name:value = 'twice.example']",
         "object_marking_refs":["marking-definition--e828b379-4e03-4974-9ac4-e53a884c97c1"]},
        {"type":"indicator","id":"indicator--0f0f0f0f-0000-4000-8000-000000000022","pattern":"[domain-name:value = 'twice.example']"}]}"#;
    assert_eq!(count(&publish(twice), "records"), 1);
}

#[test]
fn a_record_that_nobody_would_take_falls_alone_and_a_page_is_said_once() {
    let data = founded();
    let labels = (0..80).map(|number| format!("\"{number}-{}\"", "x".repeat(240))).collect::<Vec<_>>().join(",");
    let text = format!(
        r#"{{"type":"bundle","objects":[
        {{"type":"indicator","id":"indicator--0f0f0f0f-0000-4000-8000-000000000031","pattern":"[domain-name:value = 'many.example']","labels":[{labels}]}},
        {{"type":"indicator","id":"indicator--0f0f0f0f-0000-4000-8000-000000000032","pattern":"[domain-name:value = 'few.example']"}}]}}"#
    );
    let reply = json_of(&huecry(data.path(), &["--json", "import", &file(data.path(), "many.json", &text), "--as-is"]));
    assert_eq!(count(&reply, "records"), 2, "{reply}");
    let rows = "value,valid_from,valid_until\na.example,2027-01-01,2026-01-01\nb.example,,2027-06-01\n";
    let reply = json_of(&huecry(data.path(), &["--json", "import", &file(data.path(), "rows.csv", rows), "--as-is"]));
    assert_eq!((count(&reply, "records"), count(&reply, "complaints")), (1, 1), "{reply}");
    let page = event(r##""Tag":[{"name":"tlp:green"}],"EventReport":[{"name":"Page","content":"# What we saw"}]"##, "");
    let reply = json_of(&huecry(data.path(), &["--json", "publish", &file(data.path(), "page.json", &page), "--confidence", "50"]));
    assert_eq!((count(&reply, "documents"), count(&reply, "records")), (1, 1), "{reply}");
    assert_eq!(json_of(&huecry(data.path(), &["--json", "document"]))["documents"].as_array().unwrap().len(), 1);
}

#[test]
fn a_small_file_that_multiplies_costs_little() {
    let data = founded();
    let id = |kind: &str, number: usize| format!("{kind}--0f0f0f0f-0000-4000-8000-{number:012}");
    let values = (0..999).map(|number| format!("'n{number}.example'")).collect::<Vec<_>>().join(",");
    let mut objects =
        vec![format!(r#"{{"type":"indicator","id":"{}","pattern":"[domain-name:value IN ({values})]"}}"#, id("indicator", 1))];
    objects.extend((0..400).map(|number| {
        format!(
            r#"{{"type":"sighting","id":"{}","sighting_of_ref":"{}","count":{}}}"#,
            id("sighting", number),
            id("indicator", 1),
            number + 1
        )
    }));
    for number in 0..2_000 {
        let relation = |from: &str, to: &str, kind: &str| {
            format!(
                r#"{{"type":"relationship","id":"{}","relationship_type":"{kind}","source_ref":"{from}","target_ref":"{to}"}}"#,
                id("relationship", number)
            )
        };
        objects.push(relation(&id("indicator", 1), &id("campaign", number % 7), "indicates"));
        objects.push(relation(&id("campaign", number % 7), &id("intrusion-set", number), "attributed-to"));
        objects.push(format!(
            r#"{{"type":"intrusion-set","id":"{}","name":"Set {number} {}"}}"#,
            id("intrusion-set", number),
            "x".repeat(200)
        ));
    }
    let text = format!(r#"{{"type":"bundle","objects":[{}]}}"#, objects.join(","));
    let reply = json_of(&huecry(data.path(), &["--json", "import", &file(data.path(), "many.json", &text), "--as-is"]));
    assert_eq!(count(&reply, "records"), 999);
    assert!(count(&reply, "sightings") <= 400 * 16, "{}", count(&reply, "sightings"));
}

#[test]
fn a_file_that_breaks_off_takes_nothing_back() {
    let data = founded();
    let list = file(data.path(), "list.txt", &(0..100).map(|number| format!("n{number}.example\n")).collect::<String>());
    let about = ["--mirror", "--withdraw-max", "100", "--confidence", "60", "--valid-days", "30"];
    assert_eq!(code(&huecry(data.path(), &[&["publish", &list][..], &about].concat())), 0);
    let packed = data.path().join("cut.txt.gz");
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    std::io::Write::write_all(&mut out, &std::fs::read(&list).unwrap()).unwrap();
    let bytes = out.finish().unwrap();
    std::fs::write(&packed, &bytes[..bytes.len() / 2]).unwrap();
    let _running = crate::support::start(data.path());
    let broken = huecry(data.path(), &[&["publish", packed.to_str().unwrap()][..], &about].concat());
    assert_eq!(code(&broken), 3, "{}", stderr(&broken));
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(code(&huecry(data.path(), &["query", "n99.example"])), 0);
}

#[test]
fn one_source_takes_nothing_of_another_back() {
    let data = founded();
    let config = data.path().join("node.toml");
    let source = |name: &str, confidence: u8| {
        format!("[[sources]]\nname = \"{name}\"\ntlp = \"green\"\nconfidence = {confidence}\nvalid_days = 30\n")
    };
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("{text}\n{}{}", source("one", 40), source("other", 80))).unwrap();
    let import = |name: &str, text: &str, more: &[&str]| {
        let path = file(data.path(), "in.json", text);
        json_of(&huecry(data.path(), &[&["--json", "import", &path, "--as", name][..], more].concat()))
    };
    let said = r#"{"type":"bundle","objects":[{"type":"indicator","id":"indicator--0f0f0f0f-0000-4000-8000-000000000041","pattern":"[domain-name:value = 'shared.example']"}]}"#;
    let revoked = said.replace("\"pattern\"", "\"revoked\":true,\"pattern\"");
    assert_eq!(count(&import("one", said, &["--refresh"]), "records"), 1);
    assert_eq!(count(&import("other", said, &["--refresh"]), "replaced"), 0);
    assert_eq!(count(&import("one", said, &["--refresh"]), "unchanged"), 1, "each stands by itself");
    assert_eq!(count(&import("other", &revoked, &[]), "withdrawn"), 1);
    let answer = json_of(&huecry(data.path(), &["--json", "query", "shared.example"]));
    assert_eq!(answer["values"][0]["assertions"].as_array().unwrap().len(), 1, "{answer}");
    assert_eq!(answer["values"][0]["assertions"][0]["confidence"], 40);
}
