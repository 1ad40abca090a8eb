//! The manual, followed by its own text: every shell block of a page, in order, in one directory.

use std::{path::Path, process::Command};

/// What stands for people's hands: starting a node in the background, waiting for what takes a moment.
const HANDS: &str = r#"
set -euo pipefail
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true' EXIT
start() {
  for data in "$@"; do
    huecry --data "$data" run >"$data/out" 2>"$data/log" & pids+=($!)
    wait_for test -S "$data/huecry.sock"
  done
}
wait_for() {
  for _ in $(seq 1 300); do "$@" >/dev/null 2>&1 && return; sleep 0.1; done
  echo "waited half a minute for: $*" >&2
  "$@"
}
card_serial() { huecry --json --data "$1" card show "$2" | grep --quiet "\"serial\":$3,"; }
charter_version() { huecry --json --data "$1" charter show | grep --quiet "\"version\":$2,"; }
"#;

/// Runs a page's shell blocks; what it prints must hold every one of `words`.
fn follow(page: &str, blocks_min: usize, words: &[&str]) {
    let place = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/manual").join(page)).unwrap();
    let blocks: Vec<&str> = text.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(blocks.len() >= blocks_min);
    let script = format!("{HANDS}{}", blocks.concat()).replace("HUB_PORT", &crate::support::port().to_string());
    let program = Path::new(env!("CARGO_BIN_EXE_huecry")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let mut run = Command::new("timeout");
    run.arg("--kill-after=5")
        .arg("120")
        .arg("bash")
        .arg("-c")
        .arg(&script)
        .current_dir(place.path())
        .env("PATH", path)
        .env_remove("HUECRY_DATA");
    let output = run.stdin(std::process::Stdio::null()).output().unwrap();
    let said = format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    for words in words {
        assert!(said.contains(words), "{words}: {said}");
    }
}

#[test]
fn the_manual_takes_stewards_from_nothing_to_five_members_and_through_their_years() {
    let words = ["adds member `vendor-two`", "ROOT KEY REPLACED", "vendor-one-1  vendor-one  running", "may be published"];
    follow("membership.md", 9, &words);
}

#[test]
fn the_manual_takes_analysts_through_policy_outlets_and_mistakes() {
    let words = [
        "@id(\"trust-1-xa-police-enforces\")",
        "exit code 2: refused, and the last good policy stays",
        "was line 1 of",
        "never enforced: it is protected by popular",
        "2 of 2 cases came out as they should",
        "enforce at resolver: permitted -> not permitted",
    ];
    follow("policy.md", 7, &words);
}

#[test]
fn the_manual_takes_publishers_through_audiences_passing_on_questions_and_documents() {
    let words = [
        "reaches 1 of 2 other members: hub",
        "applied by 1 of 1",
        "reaches xb-police",
        "by hub, as each says of the one before",
        "xb-police  seen 12x in XB",
        "3 000 000 bytes, here",
        "/p2p-circuit",
    ];
    follow("travel.md", 9, &words);
}

#[test]
fn the_manual_takes_keepers_through_copies_erasure_limits_and_repair() {
    let words = [
        "as the journal makes it",
        "victim[@]mail.example: 1 records",
        "backup ",
        "erases 1 records under: Test Court, 4 C 12/26",
        "review    1 records by `addresses`",
        "1 records stay until",
        "the journal is whole",
        "restored: ",
    ];
    follow("ledger.md", 5, &words);
}

#[test]
fn the_manual_takes_those_who_connect_tools_through_formats_sources_exports_and_outlets() {
    let words = [
        "unsaid  validity: 2 records",
        "2 records do not say how sure it is (--confidence)",
        "\"bundle.json: Paperclip\"",
        "assumed tlp TLP:AMBER: 2 records do not say",
        "2 of our records were taken back, as their source has",
        "ipv4,192.0.2.66,",
        "green.json: 4 records, read back",
        "192.0.2[.]66  ipv4  TLP:GREEN  confidence 60  asserted by xb-police",
        "ipv4 domain as rpz",
    ];
    follow("formats.md", 6, &words);
}

#[test]
fn the_manual_takes_those_who_look_and_their_programs_through_the_window() {
    let words = ["operator uid:", "makes the token `firewall` for outlet edge", "\"new\":[],\"deleted\":[]", "192.0.2.66", "event: cursor"];
    follow("window.md", 6, &words);
}

#[test]
fn g_30_a_sealed_keys_secret_is_nowhere_but_in_its_box_and_a_credential_opens_it() {
    let data = crate::support::founded();
    let keys = data.path().join("keys");
    let credentials = tempfile::tempdir().unwrap();
    let passphrase = "canary-passphrase-3f9a";
    std::fs::write(credentials.path().join("huecry-passphrase"), format!("{passphrase}\n")).unwrap();
    let file = credentials.path().join("huecry-passphrase").display().to_string();
    let mut seeds = Vec::new();
    for name in ["node", "publishing"] {
        let path = keys.join(format!("{name}.key"));
        let text = std::fs::read_to_string(&path).unwrap();
        seeds.push(text.lines().find_map(|line| line.strip_prefix("seed: ")).unwrap().to_owned());
        let sealed = crate::support::huecry(data.path(), &["key", "passphrase", path.to_str().unwrap(), "--passphrase-file", &file]);
        assert_eq!(crate::support::code(&sealed), 0, "{}", crate::support::stderr(&sealed));
    }
    let alone = crate::support::huecry(data.path(), &["run"]);
    assert_eq!(crate::support::code(&alone), 3);
    assert!(crate::support::stderr(&alone).contains("systemd credential `huecry-passphrase`"), "{}", crate::support::stderr(&alone));
    let log = data.path().join("log");
    let child = Command::new(env!("CARGO_BIN_EXE_huecry"))
        .args(["--data", data.path().to_str().unwrap(), "run", "--log", "trace"])
        .env("CREDENTIALS_DIRECTORY", credentials.path())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let node = crate::support::Running(child);
    crate::support::until("the node to open its keys", || std::fs::read_to_string(&log).unwrap().contains("ready"));
    assert_eq!(crate::support::code(&crate::support::huecry(data.path(), &["publish", "--value", "a.example"])), 0);
    let proc = std::path::PathBuf::from(format!("/proc/{}", node.0.id()));
    let places = [proc.join("cmdline"), proc.join("environ"), log, keys.join("node.key"), keys.join("publishing.key")];
    let mut texts: Vec<Vec<u8>> = places.iter().filter_map(|path| std::fs::read(path).ok()).collect();
    let segments = std::fs::read_dir(data.path().join("ledger/journal")).unwrap();
    texts.extend(segments.map(|entry| std::fs::read(entry.unwrap().path()).unwrap()));
    assert!(texts.len() >= 5);
    for secret in seeds.iter().map(String::as_str).chain([passphrase]) {
        let raw = hex::decode(secret).unwrap_or_else(|_| secret.as_bytes().to_vec());
        for text in &texts {
            let holds = |needle: &[u8]| text.windows(needle.len()).any(|window| window == needle);
            assert!(!holds(secret.as_bytes()) && !holds(&raw), "a secret is where it should not be");
        }
    }
    // No core file, and no other process of this user may look into this one.
    let limits = std::fs::read_to_string(proc.join("limits")).unwrap();
    assert!(limits.lines().any(|line| line.starts_with("Max core file size") && line.split_whitespace().nth(4) == Some("0")), "{limits}");
}
