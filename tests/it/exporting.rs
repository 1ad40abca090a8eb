//! What leaves for people, spreadsheets, search engines and other platforms, and comes back the same.

use crate::{
    enforcing::Pair,
    importing::{SAID, file},
    support::{code, founded, huecry, json_of, stderr, stdout},
};
use huecry::{
    envelope::{SignedHead, fits, record_spans},
    exchange::EXTENSION,
};
use std::{collections::BTreeSet, path::Path, process::Command};

const VALUES: &str = "192.0.2.7\n2001:db8::7\n198.51.100.0/24\nevil.example\nc2.evil.example:8443\n192.0.2.9:443\n[2001:db8::9]:443\nhttp://drop.example/a?b=%27c%27\nsomeone@evil.example\n\
d41d8cd98f00b204e9800998ecf8427e\nda39a3ee5e6b4b0d3255bfef95601890afd80709\ne3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\nAS64496\nt13d1516h2_8daaf6152771_e5627efa2ab1\nbc1qexampleexampleexampleexample\n";

/// A node that knows one value of nearly every type, and a few things that are no value of any.
fn knowing() -> tempfile::TempDir {
    let data = founded();
    let place = data.path();
    let import = |name: &str, text: &str, more: &[&str]| {
        let output = huecry(place, &[&["import", &file(place, name, text)][..], more].concat());
        assert_eq!(code(&output), 0, "{}", stderr(&output));
    };
    let about =
        ["--tlp", "green", "--confidence", "80", "--valid-days", "30", "--role", "attacker", "--use", "block", "--tags", "one,=two"];
    import("values.txt", VALUES, &about);
    import("below.txt", "*.wide.example\n", &about);
    import("names.txt", "Global\\it's\n", &[&about[..], &["--type", "other:mutex"]].concat());
    import("files.txt", "=cmd|' /C calc'!A0\n", &[&SAID[..], &["--type", "other:filename"]].concat());
    import("secret.txt", "secret.example\n", &["--tlp", "red", "--confidence", "80", "--valid-days", "30"]);
    data
}

/// What a node knows, without what is its own: names of records and reports.
fn known(place: &Path) -> BTreeSet<String> {
    let answer = json_of(&huecry(place, &["--json", "query", "--record", "indicator", "--limit", "1000", "--tlp-max", "green"]));
    let values = answer["values"].as_array().unwrap();
    let line = |value: &serde_json::Value| {
        let one = &value["assertions"][0];
        let until = one["ends"].as_str().unwrap()[..13].to_owned();
        format!(
            "{} {} {} {} {} {} {} {until}",
            value["type"], value["value"], one["tlp"], one["confidence"], one["role"], one["use"], one["tags"]
        )
    };
    values.iter().map(line).collect()
}

fn export(place: &Path, format: &str, more: &[&str]) -> (String, u64) {
    let path = place.join(format!("out.{format}"));
    let output = huecry(place, &[&["--json", "export", format, "--output", path.to_str().unwrap()][..], more].concat());
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    (path.to_str().unwrap().to_owned(), json_of(&output)["records"].as_u64().unwrap())
}

#[test]
fn what_is_exported_as_stix_and_csv_is_the_same_where_it_is_imported() {
    let data = knowing();
    let before = known(data.path());
    assert_eq!(before.len(), 18, "{before:?}");
    for format in ["stix", "csv"] {
        let (path, count) = export(data.path(), format, &["--tlp-max", "green"]);
        assert_eq!(count, 18, "{format}");
        let other = founded();
        let output = huecry(other.path(), &["import", &path, "--format", format]);
        assert_eq!(code(&output), 0, "everything is said in the {format} itself: {}", stderr(&output));
        assert_eq!(known(other.path()), before, "{format}");
        let below = stdout(&huecry(other.path(), &["query", "deep.wide.example"]));
        assert!(below.contains("wide[.]example"), "{format}: {below}");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains("secret"), "P-12: what is marked narrower than asked for stays: {format}");
    }
}

#[test]
fn an_exported_bundle_is_valid_to_the_standards_own_validator() {
    let data = knowing();
    let (path, _) = export(data.path(), "stix", &["--tlp-max", "green"]);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("target/interop/venv/bin/python");
    if std::env::var_os("HUECRY_INTEROP").is_none() {
        println!("skipped: scripts/test sets up the validator");
        return;
    }
    let output = Command::new(python).arg(root.join("tests/interop/stix_bundle.py")).arg(&path).output().unwrap();
    assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
    let kinds: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (kinds["indicator"].as_u64(), kinds["report"].as_u64(), kinds["identity"].as_u64()),
        (Some(18), Some(4), Some(1)),
        "{kinds}"
    );
    // The same records have the same ids, whenever they are exported.
    let first = std::fs::read_to_string(&path).unwrap();
    export(data.path(), "stix", &["--tlp-max", "green"]);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), first);
}

#[test]
fn lines_for_search_engines_and_lists_hold_a_record_each() {
    let data = knowing();
    for format in ["json", "ecs", "list"] {
        let (path, count) = export(data.path(), format, &["--type", "domain", "--tlp-max", "green"]);
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!((count, text.lines().count()), (2, 2), "{format}: {text}");
    }
    let ecs = std::fs::read_to_string(data.path().join("out.ecs")).unwrap();
    let line: serde_json::Value = serde_json::from_str(ecs.lines().next().unwrap()).unwrap();
    let indicator = &line["threat"]["indicator"];
    assert_eq!(
        (indicator["type"].as_str(), indicator["marking"]["tlp"].as_str(), indicator["confidence"].as_str()),
        (Some("domain-name"), Some("GREEN"), Some("High"))
    );
    let unknown = huecry(data.path(), &["export", "stixx"]);
    assert!(code(&unknown) == 2 && stderr(&unknown).contains("did you mean `stix`?"), "{}", stderr(&unknown));
    let cells = stdout(&huecry(data.path(), &["export", "csv", "--tag", "=two", "--type", "domain"]));
    // No locale takes a part of a cell for a formula.
    assert!(cells.contains("one;'=two") && !cells.contains(",=") && !cells.contains(";="), "{cells}");
}

#[test]
fn what_is_new_since_the_last_export_comes_with_what_was_taken_back() {
    let data = founded();
    let import = |name: &str, text: &str| {
        let output = huecry(data.path(), &[&["import", &file(data.path(), name, text)][..], &SAID].concat());
        assert_eq!(code(&output), 0, "{}", stderr(&output));
    };
    import("first.txt", "a.example\nb.example\n");
    let path = data.path().join("out.csv");
    let first = json_of(&huecry(data.path(), &["--json", "export", "csv", "--output", path.to_str().unwrap()]));
    let cursor = first["cursor"].as_str().unwrap().to_owned();
    import("second.txt", "c.example\n");
    assert_eq!(code(&huecry(data.path(), &["withdraw", "c.example", "--reason", "wrong"])), 0);
    import("third.txt", "d.example\n");
    let delta = stdout(&huecry(data.path(), &["export", "csv", "--since", &cursor]));
    let lines: Vec<&str> = delta.lines().skip(1).collect();
    assert_eq!(lines.len(), 2, "{delta}");
    assert!(lines[0].contains("c.example") && lines[0].ends_with("withdrawn") && lines[1].contains("d.example"), "{delta}");
}

#[test]
fn a_delta_tells_what_is_judged_anew_renewed_set_aside_or_erased_since_its_cursor() {
    let data = founded();
    let publish = |name: &str, text: &str, more: &[&str]| {
        let about = ["--confidence", "90", "--valid-days", "3", "--tlp", "green"];
        let output = huecry(data.path(), &[&["--json", "publish", &file(data.path(), name, text)][..], &about, more].concat());
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        json_of(&output)["report"].as_str().unwrap().to_owned()
    };
    let report = publish("a.txt", "a.example\nb.example\n", &[]);
    publish("c.txt", "192.0.2.7\nsomeone@evil.example\n", &["--use", "block"]);
    let cursor = || {
        json_of(&huecry(data.path(), &["--json", "export", "csv", "--output", data.path().join("out.csv").to_str().unwrap()]))["cursor"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let since = |format: &str, cursor: &str, more: &[&str]| {
        let output = huecry(data.path(), &[&["export", format, "--since", cursor][..], more].concat());
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        (stdout(&output), stderr(&output))
    };
    let rows = |cursor: &str| -> BTreeSet<String> {
        let row = |line: &str| format!("{} {}", line.split(',').nth(1).unwrap(), line.rsplit(',').next().unwrap());
        since("csv", cursor, &[]).0.lines().skip(1).map(row).collect()
    };
    let set = |rows: &[&str]| -> BTreeSet<String> { rows.iter().map(|row| (*row).to_owned()).collect() };
    let first = cursor();
    assert_eq!(rows(&first), set(&[]), "nothing has changed");
    // What is renewed is told again, as a later version of the same object.
    assert_eq!(code(&huecry(data.path(), &["renew", &report, "--valid-days", "90"])), 0);
    assert_eq!(rows(&first), set(&["a.example accepted", "b.example accepted"]));
    let (bundle, _) = since("stix", &first, &[]);
    let bundle: serde_json::Value = serde_json::from_str(&bundle).unwrap();
    let object = bundle["objects"].as_array().unwrap().iter().find(|one| one["type"] == "indicator").unwrap();
    assert!(
        object["modified"].as_str() > object["created"].as_str() && object["valid_until"].as_str() > object["modified"].as_str(),
        "{object}"
    );
    // What a question leaves out stays out of a delta too.
    assert!(
        !since("csv", &first, &["b.example"]).0.contains("a.example")
            && !since("csv", &first, &["--type", "email"]).0.contains("example,domain")
    );
    // Somebody who asks by a time hears of it too, and of what was taken back.
    let when = huecry::clock::Clock::System.now().precise();
    let withdrawn = publish("gone.txt", "gone.example\n", &[]);
    assert_eq!(code(&huecry(data.path(), &["withdraw", &withdrawn])), 0);
    assert_eq!(rows(&when).iter().filter(|row| row.starts_with("gone.example")).collect::<Vec<_>>(), ["gone.example withdrawn"]);
    assert!(rows("1d").contains("gone.example withdrawn"));
    // Whoever was told a later end hears that it ends earlier now.
    let short = publish("short.txt", "short.example\n", &[]);
    assert_eq!(code(&huecry(data.path(), &["renew", &short, "--valid-days", "90"])), 0);
    let told = cursor();
    let policy = std::fs::read_to_string(data.path().join("policy.cedar")).unwrap();
    let clipped = policy.replacen("@id(\"members-in-good-standing\")", "@id(\"members-in-good-standing\")\n@expires_in_days(\"0\")", 1);
    std::fs::write(data.path().join("policy.cedar"), clipped).unwrap();
    let output = huecry(data.path(), &["policy", "rejudge"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    assert!(rows(&told).contains("short.example withdrawn"), "{:?}", rows(&told));
    std::fs::write(data.path().join("policy.cedar"), policy).unwrap();
    assert_eq!(code(&huecry(data.path(), &["policy", "rejudge"])), 0);
    // A policy that changes its mind takes back what was given out before, and gives it out again.
    let second = cursor();
    let before = std::fs::read_to_string(data.path().join("policy.cedar")).unwrap();
    let refuse = "@id(\"no-domains\") @reason(\"we do not take names\")\n\
                  forbid (principal, action in [Action::\"accept\", Action::\"hold\"], resource) when { resource.type == \"domain\" };\n";
    let judged_by = |policy: &str| {
        std::fs::write(data.path().join("policy.cedar"), policy).unwrap();
        assert_eq!(code(&huecry(data.path(), &["policy", "rejudge"])), 0);
    };
    judged_by(&format!("{before}{refuse}"));
    let all = |word: &str| ["a", "b", "short"].map(|name| format!("{name}.example {word}")).into_iter().collect::<BTreeSet<_>>();
    assert_eq!(rows(&second), all("withdrawn"));
    let modified = |cursor: &str| {
        let bundle: serde_json::Value = serde_json::from_str(&since("stix", cursor, &[]).0).unwrap();
        let all = bundle["objects"].as_array().unwrap();
        let object = all.iter().find(|one| one["name"] == "a[.]example").unwrap();
        (object["revoked"] == true, object["modified"].as_str().unwrap().to_owned())
    };
    let (third, refused) = (cursor(), modified(&second));
    judged_by(&before);
    let again = modified(&second);
    assert!(refused.0 && !again.0 && refused.1 < again.1, "a later version of an object has a later time: {refused:?} {again:?}");
    assert_eq!((rows(&second), rows(&third)), (all("accepted"), all("accepted")));
    // What is erased can be named by nobody any more.
    let fourth = cursor();
    assert_eq!(code(&huecry(data.path(), &["erase", "someone@evil.example", "--order", "Test Court 1", "--yes"])), 0);
    assert_eq!(rows(&fourth), set(&[]));
    assert!(since("csv", &fourth, &[]).1.contains("records were erased since"), "{}", since("csv", &fourth, &[]).1);
    assert!(since("list", &fourth, &[]).1.contains("no word for what was taken back"));
    // A cursor of another ledger, or of none.
    let parts: Vec<&str> = fourth[1..].split('-').collect();
    let other_past = format!("v{}-{}-00000001", parts[0], parts[1]);
    let more = format!("v9999.0.0.0.0-{}-{}", parts[1], parts[2]);
    let older = format!("c17-17-{}-00000000", parts[1]);
    for wrong in ["c0-00000000", "v0.0-00000000", "c999999999-0", &more, &other_past, &older] {
        let output = huecry(data.path(), &["export", "csv", "--since", wrong]);
        assert!(code(&output) == 2 && stderr(&output).contains("take everything once more"), "{wrong}: {}", stderr(&output));
    }
    let output = huecry(data.path(), &["export", "misp", "--since", &fourth, "--output", data.path().join("feed").to_str().unwrap()]);
    assert!(code(&output) == 2 && stderr(&output).contains("a MISP feed is whole"), "{}", stderr(&output));
}

#[test]
fn what_an_outlet_enforces_leaves_in_every_format_and_nothing_else_does() {
    let pair = Pair::new("[[outlets]]\nname = \"resolver\"\ntypes = [\"domain\", \"ipv4\", \"cidr\"]\nformat = \"rpz\"\n");
    pair.start();
    pair.publish(&["evil.example", "192.0.2.7", "spare.example"], &["--confidence", "90", "--source", "own"]);
    pair.publish(&["unsure.example"], &["--confidence", "20", "--source", "own"]);
    pair.until_monitored(3);
    let export = |format: &str, more: &[&str]| {
        let path = pair.agency().join(format!("for-{format}"));
        let output = huecry(
            &pair.agency(),
            &[&["--json", "export", format, "--outlet", "resolver", "--output", path.to_str().unwrap()][..], more].concat(),
        );
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        (path, json_of(&output)["records"].as_u64().unwrap())
    };
    assert_eq!(export("csv", &[]).1, 0, "a new outlet only watches");
    pair.promote();
    pair.police(&["unblock", "spare.example", "--reason", "ours"]);
    for format in ["csv", "json", "ecs", "stix", "list"] {
        let (path, count) = export(format, &[]);
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(count, 2, "{format}: {text}");
        assert!(text.contains("evil.example") && text.contains("192.0.2.7"), "{format}: {text}");
        assert!(!text.contains("unsure") && !text.contains("spare"), "{format}: {text}");
    }
    assert_eq!(export("misp", &[]).1, 2);
    assert_eq!(export("csv", &["--type", "domain"]).1, 1);
    // For tools, written as the node writes its own.
    let (zone, count) = export("rpz", &[]);
    let zone = std::fs::read_to_string(zone.join("resolver.zone")).unwrap();
    assert!(count == 2 && zone.contains("evil.example") && zone.contains("32.7.2.0.192.rpz-ip") && !zone.contains("spare"), "{zone}");
    for (format, file, what) in [
        ("suricata", "resolver-ip.lst", "192.0.2.7"),
        ("zeek", "resolver.intel", "evil.example"),
        ("hosts", "resolver.hosts", "evil.example"),
        ("nftables", "resolver.nft", "192.0.2.7"),
    ] {
        let text = std::fs::read_to_string(export(format, &[]).0.join(file)).unwrap();
        assert!(text.contains(what) && !text.contains("spare") && !text.contains("unsure"), "{format}: {text}");
    }
    for (words, why) in [
        (&["csv", "--outlet", "resolvr"][..], "did you mean `resolver`?"),
        (&["rpz", "--output", "x"], "name it with --outlet"),
        (&["rpz", "--outlet", "resolver"], "name a directory"),
        (&["csv", "--outlet", "resolver", "--since", "c1-2"], "take them whole"),
    ] {
        let output = huecry(&pair.agency(), &[&["export"][..], words].concat());
        assert!(code(&output) == 2 && stderr(&output).contains(why), "{words:?}: {}", stderr(&output));
    }
}

#[test]
fn a_misp_feed_is_read_by_pymisp_and_by_ourselves_and_is_the_same_when_it_is_written_again() {
    let data = knowing();
    let (feed, count) = export(data.path(), "misp", &["--tlp-max", "green"]);
    assert_eq!(count, 18);
    let names = || {
        let mut names: Vec<(String, String)> = std::fs::read_dir(&feed)
            .unwrap()
            .map(|entry| {
                (entry.as_ref().unwrap().file_name().into_string().unwrap(), std::fs::read_to_string(entry.unwrap().path()).unwrap())
            })
            .collect();
        names.sort();
        names
    };
    let before = names();
    export(data.path(), "misp", &["--tlp-max", "green"]);
    assert_eq!(names(), before);
    assert!(before.iter().all(|(_, text)| !text.contains("secret")), "P-12");
    // What a feed does not say is how long it holds.
    let other = founded();
    let output = huecry(other.path(), &["import", &feed, "--valid-days", "30", "--confidence", "1"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    let answer = json_of(&huecry(other.path(), &["--json", "query", "192.0.2.9:443"]));
    let one = &answer["values"][0]["assertions"][0];
    assert_eq!(
        (one["confidence"].as_u64(), one["tlp"].as_str(), one["title"].as_str()),
        (Some(80), Some("TLP:GREEN"), Some("values.txt")),
        "{answer}"
    );
    if std::env::var_os("HUECRY_INTEROP").is_none() {
        println!("skipped: scripts/test sets up PyMISP");
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output =
        Command::new(root.join("target/interop/venv/bin/python")).arg(root.join("tests/interop/misp_feed.py")).arg(&feed).output().unwrap();
    assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
    assert_eq!(stdout(&output).trim(), r#"{"events": 4, "attributes": 18}"#);
}

#[test]
fn p_12_a_report_that_is_marked_narrower_lends_no_word_to_an_export() {
    let data = founded();
    let event = r#"{"Event":{"uuid":"0f0f0f0f-0000-4000-8000-000000000000","info":"SECRET-NAME","Orgc":{"name":"SECRETORG"},"Tag":[{"name":"tlp:red"},{"name":"secret-tag"}],
        "Attribute":[{"uuid":"0f0f0f0f-0000-4000-8000-000000000001","type":"domain","value":"open.example","to_ids":true,"Tag":[{"name":"tlp:green"}]}]}}"#;
    let path = file(data.path(), "event.json", event);
    assert_eq!(code(&huecry(data.path(), &["import", &path, "--confidence", "50", "--valid-days", "30"])), 0);
    let asked = stdout(&huecry(data.path(), &["--json", "query", "open.example", "--tlp-max", "green"]));
    assert!(asked.contains("open.example") && !asked.contains("SECRET") && !asked.contains("secret-tag"), "{asked}");
    for format in ["csv", "json", "ecs", "stix", "misp"] {
        let (path, count) = export(data.path(), format, &["--tlp-max", "green"]);
        assert_eq!(count, 1, "{format}");
        let text = if format == "misp" {
            std::fs::read_dir(path).unwrap().map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap()).collect()
        } else {
            std::fs::read_to_string(path).unwrap()
        };
        assert!(text.contains("open.example") && !text.contains("SECRET") && !text.contains("secret-tag"), "{format}: {text}");
    }
    // Nor does it say to somebody who may not see it whose finding it is.
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name;
    let config = std::fs::read_to_string(data.path().join("node.toml")).unwrap();
    let people = format!("\n[[operators]]\nname = \"{user}\"\nroles = [\"reads\"]\nclearance = \"green\"\n");
    let explained = |what: &str| stdout(&huecry(data.path(), &["--json", "explain", what]));
    // Its attribute has an id of its own in the file, which is no source beside the event's.
    assert!(explained("open.example").contains("SECRETORG") && explained("open.example").contains("organisation:secretorg"));
    std::fs::write(data.path().join("node.toml"), format!("{config}{people}")).unwrap();
    let told = explained("open.example");
    assert!(told.contains("open.example") && !told.contains("SECRET") && !told.contains("0f0f0f0f-0000-4000-8000-000000000000"), "{told}");
    let asked = stdout(&huecry(data.path(), &["--json", "query", "open.example"]));
    assert!(asked.contains("open.example") && !asked.contains("\"report\""), "{asked}");
}

#[test]
fn what_was_taken_back_is_told_whenever_it_was_said() {
    let data = founded();
    let import = |name: &str, text: &str| {
        assert_eq!(code(&huecry(data.path(), &[&["import", &file(data.path(), name, text)][..], &SAID].concat())), 0)
    };
    import("old.txt", "a.example\nb.example\n");
    let path = data.path().join("out.json");
    let first = json_of(&huecry(data.path(), &["--json", "export", "stix", "--output", path.to_str().unwrap()]));
    let cursor = first["cursor"].as_str().unwrap().to_owned();
    assert_eq!(code(&huecry(data.path(), &["withdraw", "a.example", "--reason", "wrong"])), 0);
    let csv = stdout(&huecry(data.path(), &["export", "csv", "--since", &cursor]));
    assert!(csv.contains("a.example") && csv.trim_end().ends_with("withdrawn") && !csv.contains("b.example"), "{csv}");
    let stix: serde_json::Value = serde_json::from_str(&stdout(&huecry(data.path(), &["export", "stix", "--since", &cursor]))).unwrap();
    let object = stix["objects"].as_array().unwrap().iter().find(|one| one["type"] == "indicator").unwrap();
    assert!(object["revoked"] == true && object["modified"].as_str() > object["created"].as_str(), "{object}");
    // A whole report takes all that stands under it along.
    assert_eq!(code(&huecry(data.path(), &["withdraw", "xx-agency/imported#1.0", "--reason", "superseded"])), 0);
    let csv = stdout(&huecry(data.path(), &["export", "csv", "--since", &cursor]));
    assert!(csv.contains("a.example") && csv.contains("b.example") && csv.lines().count() == 3, "{csv}");
    // Texts of two words are a line of a list too.
    assert_eq!(
        code(&huecry(data.path(), &["import", &file(data.path(), "names.txt", "two words.exe\n"), "--type", "other:filename", "--as-is"])),
        0
    );
    let (_, count) = export(data.path(), "list", &[]);
    assert_eq!(count, 1);
}

#[test]
fn the_signature_leaves_with_a_record_and_proves_it_elsewhere() {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let data = knowing();
    let (path, _) = export(data.path(), "stix", &["--tlp-max", "green", "--proofs"]);
    let federation = json_of(&huecry(data.path(), &["--json", "status"]))["federation"].as_str().unwrap().parse().unwrap();
    let bundle: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let mut proved = 0;
    for object in bundle["objects"].as_array().unwrap().iter().filter(|object| object["type"] == "indicator") {
        let extension = &object["extensions"][EXTENSION];
        let bytes = |name: &str| STANDARD.decode(extension[name].as_str().unwrap()).unwrap();
        let head = SignedHead::open(&bytes("head"), &federation).unwrap();
        assert!(fits(head.head(), &bytes("proof")), "{object}");
        let shown = record_spans(&bytes("proof")).unwrap().into_iter().filter(|span| span.is_present()).count();
        assert_eq!(shown, 1, "no other record leaves with it");
        let mut changed = bytes("proof");
        let last = changed.len() - 1;
        changed[last] ^= 1;
        assert!(!fits(head.head(), &changed));
        proved += 1;
    }
    assert_eq!(proved, 18);
    // So does the command, which also holds what the bundle says against what was signed.
    let text = std::fs::read_to_string(data.path().join("out.stix")).unwrap();
    let first = |text: &str, from: &str, to: &str| text.replacen(from, to, 1);
    let verify = |text: &str| {
        let path = file(data.path(), "checked.json", text);
        huecry(data.path(), &["--json", "verify", &path])
    };
    let whole = verify(&text);
    assert_eq!(code(&whole), 0, "{}", stderr(&whole));
    let reply = json_of(&whole);
    assert_eq!((reply["indicators"].as_u64(), reply["proved"].as_u64(), reply["by"]["xx-agency"].as_u64()), (Some(18), Some(18), Some(18)));
    let red = text
        .replace("marking-definition--bab4a63c-aed9-4cf5-a766-dfca5abac2bb", "marking-definition--94868c89-83c2-464b-929b-a1a8aa3c8487");
    for (changed, wrong, why) in [
        (
            text.replace("[domain-name:value = 'evil.example']", "[domain-name:value = 'good.example']"),
            1,
            "its author signed the pattern [domain-name:value = 'evil.example']",
        ),
        (text.replace("[ipv4-addr:value = '192.0.2.7']", "[ipv4-addr:value = '192.0.2.8']"), 1, "192.0.2.8"),
        (red, 18, "its author marked it TLP:GREEN"),
        (text.replace("xx-agency/imported#1.1\"", "xx-agency/imported#9.1\""), 1, "its proof is that of"),
        (first(&text, "\"confidence\":80", "\"confidence\":100"), 1, "the confidence 80"),
        (first(&text, "\"pattern_type\":\"stix\"", "\"pattern_type\":\"sigma\""), 1, "the type of pattern"),
        (first(&text, "\"use\":\"block\"", "\"use\":\"alert\""), 1, "the use block"),
        (first(&text, "\"use\":\"block\"", "\"scope\":\"subdomains\",\"use\":\"block\""), 1, "the scope"),
        (first(&text, "\"name\":\"evil[.]example\"", "\"name\":\"bank[.]example\""), 1, "the name evil[.]example"),
        (first(&text, "\"valid_until\":\"20", "\"valid_until\":\"30"), 1, "the end 20"),
        (
            first(&text, "\"pattern\":\"[domain", "\"pattern\":\"[domain-name:value = 'bank.example']\",\"pattern\":\"[domain"),
            1,
            "stands twice",
        ),
        (first(&text, "\"objects\":[", "\"objects\":[{\"type\":\"indicator\",\"name\":\"\\ud800\"},"), 1, "does not read"),
        (
            first(&text, "\"objects\":[", &format!("\"objects\":[{{\"type\":\"indicator\",\"name\":\"{}\"}},", "x".repeat(17 << 20))),
            1,
            "longer than is read",
        ),
    ] {
        assert!(changed != text, "{why}: nothing was changed");
        let output = verify(&changed);
        assert!(code(&output) == 1, "{}", stderr(&output));
        let reply = json_of(&output);
        assert!(reply["wrong"] == wrong && reply["first_wrong"].to_string().contains(why), "{reply}");
    }
    let (bare, _) = export(data.path(), "stix", &["--tlp-max", "green"]);
    let output = huecry(data.path(), &["verify", &bare]);
    assert!(code(&output) == 1 && stderr(&output).contains("no indicator in it carries"), "{}", stderr(&output));
    let cut = verify(&text[..text.len() / 2]);
    assert!(code(&cut) == 2 && stderr(&cut).contains("the text ends inside"), "{}", stderr(&cut));
    // Elsewhere, where nobody knows the author, nothing is proved.
    let stranger = founded();
    let output = huecry(stranger.path(), &["--json", "verify", &file(stranger.path(), "theirs.json", &text)]);
    assert!(code(&output) == 1 && json_of(&output)["wrong"] == 18 && json_of(&output)["proved"] == 0, "{}", stdout(&output));
    let two = verify(&format!("{text}{{\"type\":\"bundle\"}}"));
    assert!(code(&two) != 0, "what stands behind the bundle is not passed over: {}", stdout(&two));
    // What was taken back since is said, by itself or with its report.
    assert_eq!(code(&huecry(data.path(), &["withdraw", "evil.example"])), 0);
    assert_eq!(json_of(&verify(&text))["withdrawn"], 1);
    let report = json_of(&huecry(data.path(), &["--json", "query", "192.0.2.7"]))["values"][0]["assertions"][0]["report"].clone();
    assert_eq!(code(&huecry(data.path(), &["withdraw", report.as_str().unwrap()])), 0);
    assert!(json_of(&verify(&text))["withdrawn"].as_u64() > Some(1));
}

#[test]
fn what_misps_own_converter_makes_of_our_feed_is_the_same_values_again() {
    if std::env::var_os("HUECRY_INTEROP").is_none() {
        println!("skipped: scripts/test sets up misp-stix");
        return;
    }
    let data = founded();
    let values =
        ["192.0.2.7", "evil.example", "d41d8cd98f00b204e9800998ecf8427e", "http://drop.example/a", "192.0.2.9:443", "someone@evil.example"];
    let about = ["--tlp", "green", "--confidence", "80", "--valid-days", "30", "--use", "block"];
    assert_eq!(code(&huecry(data.path(), &[&["import", &file(data.path(), "values.txt", &values.join("\n"))][..], &about].concat())), 0);
    let (feed, _) = export(data.path(), "misp", &[]);
    let (root, bundle) = (Path::new(env!("CARGO_MANIFEST_DIR")), data.path().join("converted.json"));
    let mut convert = Command::new(root.join("target/interop/venv/bin/python"));
    let output = convert.arg(root.join("tests/interop/misp_to_stix.py")).arg(&feed).arg(&bundle).output().unwrap();
    assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
    let other = founded();
    let imported = huecry(other.path(), &["import", bundle.to_str().unwrap(), "--confidence", "50", "--valid-days", "30"]);
    assert_eq!(code(&imported), 0, "the converter's TLP marking is understood: {}", stderr(&imported));
    for value in values {
        let answer = json_of(&huecry(other.path(), &["--json", "query", value]));
        assert!(answer["values"][0]["assertions"].as_array().unwrap().iter().any(|one| one["tlp"] == "TLP:GREEN"), "{value}: {answer}");
    }
}

#[test]
fn x_01_x_02_g_26_what_acts_on_a_screen_reaches_no_screen_by_an_export() {
    let data = founded();
    let path = file(data.path(), "names.txt", "photo\u{202e}gpj.exe\n");
    let title = "a \u{1b}[2J title \u{9b}1m \u{200b}";
    assert_eq!(code(&huecry(data.path(), &["import", &path, "--type", "other:filename", "--title", title, "--as-is"])), 0);
    for format in ["csv", "json", "ecs", "stix", "list"] {
        let output = huecry(data.path(), &["export", format]);
        assert_eq!(code(&output), 0, "{}", stderr(&output));
        for text in [stdout(&output), stderr(&output)] {
            let acts =
                |char: char| (char.is_control() && char != '\n') || matches!(char, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}');
            assert!(!text.contains(acts), "{format}: {text:?}");
        }
    }
    // In a file, and to a program that parses, the name is what it is.
    let (path, _) = export(data.path(), "json", &[]);
    let line: serde_json::Value = serde_json::from_str(std::fs::read_to_string(path).unwrap().trim()).unwrap();
    assert_eq!(line["value"], "photo\u{202e}gpj.exe");
}
