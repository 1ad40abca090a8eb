//! Real tools act on what we write for them: BIND, Unbound, nftables. They run on loopback or in a network of their own, and
//! answer for reserved names that a zone of this test holds; nothing is ever asked outside.

use crate::{
    enforcing::Pair,
    support::{port, until},
};
use huecry::{
    exchange::{Entry, Sheet, Tool, nftables_delta},
    record::{Observable, Timestamp},
};
use std::{
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

/// Whether a program is there. Under CI it must be: `scripts/test` installs it.
pub fn there(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output().unwrap().status.success();
    assert!(found || std::env::var_os("CI").is_none(), "under CI `{program}` must be there");
    if !found {
        println!("skipped: `{program}` is not installed");
    }
    found
}

pub fn done(program: &str, words: &[&str]) -> String {
    let output = Command::new(program).args(words).output().unwrap();
    let Output { status, stdout, stderr } = &output;
    let said = format!("{}{}", String::from_utf8_lossy(stdout), String::from_utf8_lossy(stderr));
    assert!(status.success(), "{program} {words:?}: {said}");
    said
}

/// A server of a test, ended with it.
pub struct Server(pub Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

pub fn serve(program: &str, words: &[&str], log: &Path) -> Server {
    let log = std::fs::File::create(log).unwrap();
    let server = Command::new(program).args(words).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn();
    Server(server.unwrap())
}

/// The root zone of a test: two names, and nothing beyond them.
const ROOT: &str = "$TTL 60\n@ IN SOA ns. root. 1 3600 600 86400 60\n@ IN NS ns.\nns. IN A 127.0.0.1\nc2.example. IN A 203.0.113.5\nbelow.c2.example. IN A 203.0.113.6\nfine.example. IN A 203.0.113.7\n";

/// What a resolver answers for a name: its status, and the address if there is one.
fn asked(port: u16, name: &str) -> String {
    let port = port.to_string();
    let output = Command::new("dig").args(["@127.0.0.1", "-p", &port, "+tries=1", "+time=1", name, "A"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let status = text.split("status: ").nth(1).and_then(|rest| rest.split(',').next()).unwrap_or("silence");
    status.to_owned()
}

const ENDS: &str = "types = [\"domain\", \"ipv4\", \"cidr\"]\n";

#[test]
fn bind_refuses_a_shared_domain_and_answers_again_within_a_second_of_its_unblocking() {
    if !["named", "named-checkzone", "rndc", "dig"].iter().all(|program| there(program)) {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    let (dns, control) = (port(), port());
    std::fs::write(at("root.zone"), ROOT).unwrap();
    let key = "key \"k\" { algorithm hmac-sha256; secret \"aHVlY3J5LXRlc3RzLW9ubHktbm8tc2VjcmV0LWF0LWFsbA==\"; };\n";
    let rndc = format!("{key}options {{ default-key \"k\"; default-server 127.0.0.1; default-port {control}; }};\n");
    std::fs::write(at("rndc.conf"), rndc).unwrap();
    let outlet = format!(
        "[[outlets]]\nname = \"resolver\"\nformat = \"rpz\"\n{ENDS}reload = [\"rndc\", \"-c\", \"{}\", \"reload\", \"rpz.huecry\"]\n",
        at("rndc.conf")
    );
    let pair = Pair::new(&outlet);
    pair.start();
    let zone = pair.agency().join("outlets/resolver.zone");
    until("the first zone to be written", || zone.is_file());
    let zone = zone.to_str().unwrap();
    let config = format!(
        "{key}controls {{ inet 127.0.0.1 port {control} allow {{ 127.0.0.1; }} keys {{ \"k\"; }}; }};\n\
         options {{ directory \"{}\"; pid-file none; listen-on port {dns} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; recursion yes; \
         allow-recursion {{ 127.0.0.1; }}; dnssec-validation no; empty-zones-enable no; notify no; \
         response-policy {{ zone \"rpz.huecry\"; }} min-update-interval 0 qname-wait-recurse no; }};\n\
         zone \".\" {{ type primary; file \"{}\"; }};\nzone \"rpz.huecry\" {{ type primary; file \"{zone}\"; allow-query {{ none; }}; }};\n",
        place.path().display(),
        at("root.zone"),
    );
    std::fs::write(at("named.conf"), config).unwrap();
    let log = place.path().join("named.log");
    let _named = serve("named", &["-g", "-c", &at("named.conf")], &log);
    let logged = || std::fs::read_to_string(&log).unwrap_or_default();
    until("named to answer", || asked(dns, "fine.example") == "NOERROR");
    assert_eq!(asked(dns, "c2.example"), "NOERROR", "{}", logged());

    pair.publish(&["c2.example", "192.0.2.0/24"], &["--confidence", "90", "--source", "own", "--subdomains"]);
    pair.until_monitored(2);
    done("named-checkzone", &["rpz.huecry", zone]);
    pair.promote();
    until("named to refuse the domain", || asked(dns, "c2.example") == "NXDOMAIN");
    assert_eq!(asked(dns, "below.c2.example"), "NXDOMAIN");
    assert_eq!(asked(dns, "fine.example"), "NOERROR");
    let said = done("named-checkzone", &["-D", "rpz.huecry", zone]);
    assert!(said.contains("24.0.2.0.192.rpz-ip.rpz.huecry.") && said.contains("*.c2.example.rpz.huecry."), "{said}");
    let serial = |zone: &str| zone.split("loaded serial ").nth(1).unwrap().split_whitespace().next().unwrap().parse::<u64>().unwrap();
    let before = serial(&said);

    pair.police(&["unblock", "c2.example", "--reason", "the clinic needs it"]);
    let begun = Instant::now();
    until("named to answer again", || asked(dns, "c2.example") == "NOERROR");
    let took = begun.elapsed();
    println!("named answers again {} ms after `unblock` returned", took.as_millis());
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert!(serial(&done("named-checkzone", &["rpz.huecry", zone])) > before, "the serial never goes back");

    // In monitor mode the zone is empty, and one of its own says what would have been refused.
    pair.police(&["unblock", "c2.example", "--undo"]);
    pair.police(&["outlets", "monitor", "resolver"]);
    assert_eq!(asked(dns, "c2.example"), "NOERROR");
    let watch = pair.agency().join("outlets/resolver-watch.zone");
    let said = done("named-checkzone", &["-D", "rpz.huecry", watch.to_str().unwrap()]);
    assert!(said.contains("c2.example.rpz.huecry.") && said.contains("rpz-passthru."), "{said}");
    let failed = pair.outlet()["failure"].clone();
    assert!(failed.is_null(), "{failed}");
}

#[test]
fn unbound_refuses_what_stands_in_the_zone() {
    if !["unbound", "unbound-checkconf", "dig"].iter().all(|program| there(program)) {
        return;
    }
    let pair = Pair::new(&format!("[[outlets]]\nname = \"resolver\"\nformat = \"rpz\"\n{ENDS}"));
    pair.start();
    pair.publish(&["c2.example"], &["--confidence", "90", "--source", "own"]);
    pair.until_monitored(1);
    pair.promote();
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    let dns = port();
    std::fs::write(at("root.zone"), ROOT).unwrap();
    let config = format!(
        "server:\n  do-daemonize: no\n  chroot: \"\"\n  username: \"\"\n  directory: \"{}\"\n  pidfile: \"\"\n  interface: 127.0.0.1\n  port: {dns}\n  use-syslog: no\n  \
         local-zone: \"example.\" transparent\n  module-config: \"respip iterator\"\nrpz:\n  name: rpz.huecry.\n  zonefile: \"{}\"\nauth-zone:\n  name: \".\"\n  zonefile: \"{}\"\n  \
         for-downstream: no\n  for-upstream: yes\n",
        place.path().display(),
        pair.agency().join("outlets/resolver.zone").display(),
        at("root.zone"),
    );
    std::fs::write(at("unbound.conf"), config).unwrap();
    done("unbound-checkconf", &[&at("unbound.conf")]);
    let log = place.path().join("unbound.log");
    let _unbound = serve("unbound", &["-d", "-c", &at("unbound.conf")], &log);
    until("unbound to answer", || asked(dns, "fine.example") == "NOERROR");
    assert_eq!(asked(dns, "c2.example"), "NXDOMAIN", "{}", std::fs::read_to_string(&log).unwrap());
}

#[test]
fn nftables_takes_the_sets_and_their_changes() {
    if !["nft", "unshare"].iter().all(|program| there(program)) {
        return;
    }
    let told = tempfile::NamedTempFile::new().unwrap();
    let outlet = format!(
        "[[outlets]]\nname = \"edge-one\"\nformat = \"nftables\"\ntypes = [\"ipv4\", \"ipv6\", \"cidr\", \"endpoint\"]\nreload = [\"cp\", \"{{changes}}\", \"{}\"]\n",
        told.path().display()
    );
    let pair = Pair::new(&outlet);
    pair.start();
    let values = ["192.0.2.7", "2001:db8::7", "198.51.100.0/24", "198.51.100.128/25", "203.0.113.9:8443", "[2001:db8::9]:443"];
    pair.publish(&values, &["--confidence", "90", "--source", "own"]);
    pair.until_monitored(6);
    pair.police(&["outlets", "promote", "edge-one"]);
    pair.police(&["outlets", "promote", "edge-one", "--origin", "some-vendor"]);
    let full = "outlets/edge-one.nft";
    let old = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(old.path(), pair.read(full)).unwrap();
    pair.police(&["unblock", "192.0.2.7", "--reason", "wrong"]);
    pair.police(&["unblock", "198.51.100.200", "--reason", "wrong"]);
    let place = |name: &str| pair.agency().join(name).to_str().unwrap().to_owned();
    // Networks of their own, where they may be made; elsewhere the scripts are only checked.
    let private = Command::new("unshare").args(["--net", "true"]).status().unwrap().success();
    assert!(private || std::env::var_os("CI").is_none() || std::env::var_os("HUECRY_NO_NAMESPACES").is_some());
    if !private {
        println!("skipped: no network namespace may be made here; the script is only parsed");
        return;
    }
    // The second of the two changes stands on the first; the whole is what both lead to.
    let script = format!("nft -f {} && nft -c -f {} && nft -f {} && nft list ruleset", old.path().display(), place(full), place(full));
    let said = done("unshare", &["--net", "sh", "-c", &script]);
    assert!(said.contains("203.0.113.9 . 8443 timeout") && said.contains("2001:db8::9 . 443"), "{said}");
    assert!(!said.contains("192.0.2.7") && !said.contains("198.51.100"), "both networks covered what is unblocked: {said}");
    assert!(said.contains("table inet huecry") && said.matches("set edge_one_").count() == 12, "{said}");
    let text = std::fs::read_to_string(told.path()).unwrap();
    assert!(!pair.agency().join("outlets/edge-one-changes.nft").exists(), "what was taken out is in no file any more");
    assert!(text.contains("flush set inet huecry edge_one_net4") && !text.contains("flush ruleset"), "{text}");
    // A change takes out what has ended in the kernel meanwhile, or it would fail and with it everything else in it.
    let kept = "198.51.100.7";
    let (old, new) = (file_of(&["192.0.2.7", kept], 1), file_of(&[kept], 1));
    let (before, after) = (tempfile::NamedTempFile::new().unwrap(), tempfile::NamedTempFile::new().unwrap());
    std::fs::write(before.path(), &old.0).unwrap();
    std::fs::write(after.path(), nftables_delta(&old.1, &new.1, &SHEET)).unwrap();
    let script = format!("nft -f {} && sleep 2.2 && nft -f {} && nft list ruleset", before.path().display(), after.path().display());
    done("unshare", &["--net", "sh", "-c", &script]);
}

const SHEET: Sheet<'static> = Sheet { name: "edge", serial: 1, now: Timestamp::START, blocks: true, sid: 1 };

/// A script for these addresses, which end in so many seconds.
fn file_of(addresses: &[&str], seconds: u64) -> (String, Vec<Entry>) {
    let until = Timestamp::START.plus_ms(seconds * 1_000);
    let entry = |text: &&str| Entry { value: Observable::recognise(text).unwrap(), below: false, until, watched: false };
    let mut entries: Vec<Entry> = addresses.iter().map(entry).collect();
    entries.sort();
    (Tool::Nftables.write(&entries, &SHEET).files[0].text.clone(), entries)
}

#[test]
fn a_tool_that_cannot_be_told_is_an_alarm_and_the_export_is_there_all_the_same() {
    let outlet = "[[outlets]]\nname = \"resolver\"\ntypes = [\"domain\"]\nreload = [\"sh\", \"-c\", \"echo no daemon >&2; exit 3\"]\n";
    let pair = Pair::new(outlet);
    pair.start();
    pair.publish(&["c2.example"], &["--confidence", "90", "--source", "own"]);
    pair.until_monitored(1);
    let promote = |words: &[&str]| crate::support::huecry(&pair.agency(), words);
    let said = promote(&["outlets", "promote", "resolver"]);
    assert!(
        crate::support::code(&said) == 3 && crate::support::stderr(&said).contains("the order stands"),
        "{}",
        crate::support::stderr(&said)
    );
    promote(&["outlets", "promote", "resolver", "--origin", "some-vendor"]);
    until("the alarm", || pair.outlet()["failure"].as_str().is_some_and(|text| text.contains("`sh` failed") && text.contains("no daemon")));
    assert_eq!(pair.read("outlets/resolver.list"), "c2.example\n");
}

#[test]
fn an_outlet_says_which_types_its_format_takes() {
    let pair = Pair::new("[[outlets]]\nname = \"resolver\"\nformat = \"rpz\"\ntypes = [\"url\"]\n");
    let output = crate::support::huecry(&pair.agency(), &["status"]);
    let said = crate::support::stderr(&output);
    assert!(said.contains("`rpz` has no place for values of type `url`; it takes ipv4, ipv6, cidr, domain"), "{said}");
}

#[test]
fn suricata_rules_are_read_by_a_parser_that_is_not_ours() {
    let outlet = "[[outlets]]\nname = \"sensor\"\nformat = \"suricata\"\ntypes = [\"domain\", \"ipv4\", \"sha256\"]\nuse = \"alert\"\n";
    let pair = Pair::new(outlet);
    pair.start();
    let hash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    pair.publish(&["c2.example", "192.0.2.7", hash], &["--confidence", "90", "--source", "own"]);
    pair.until_monitored(3);
    until("the watch rules", || pair.read("outlets/sensor.rules").contains("load sensor-watch-domain.lst"));
    pair.police(&["outlets", "promote", "sensor"]);
    pair.police(&["outlets", "promote", "sensor", "--origin", "some-vendor"]);
    let rules = pair.read("outlets/sensor.rules");
    assert!(rules.contains("load sensor-domain.lst") && !rules.contains("watch") && !rules.contains("drop "), "{rules}");
    assert!(!pair.agency().join("outlets/sensor-watch-domain.lst").exists(), "no dataset is left that no rule names");
    assert_eq!(pair.read("outlets/sensor-sha256.lst"), format!("{hash}\n"));
    if std::env::var_os("HUECRY_INTEROP").is_none() {
        println!("skipped: scripts/test sets up the parser; Suricata itself is not among Debian 12's packages");
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("target/interop/venv/bin/python");
    let script = root.join("tests/interop/suricata_rules.py");
    let file = pair.agency().join("outlets/sensor.rules");
    let said = done(python.to_str().unwrap(), &[script.to_str().unwrap(), file.to_str().unwrap()]);
    assert_eq!(said.trim(), "8", "three ways to see a name, two ends of an address, three ways of a file");
}

#[test]
fn a_yara_rule_leaves_as_it_came_and_compiles() {
    if !there("yara") {
        return;
    }
    let rule = "rule example { strings: $a = \"huecry says \\\"hi\\\"\"\n  condition: $a }\n";
    let data = crate::support::founded();
    let at = |name: &str| data.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(at("in.yar"), rule).unwrap();
    std::fs::write(at("sample"), "huecry says \"hi\"").unwrap();
    let said = crate::support::huecry(data.path(), &["--json", "document", "publish", &at("in.yar"), "--title", "A rule"]);
    assert_eq!(crate::support::code(&said), 0, "{}", crate::support::stderr(&said));
    let reference = crate::support::json_of(&said)["reference"].as_str().unwrap().to_owned();
    let said = crate::support::huecry(data.path(), &["document", "save", &reference, &at("out.yar")]);
    assert_eq!(crate::support::code(&said), 0, "{}", crate::support::stderr(&said));
    assert_eq!(std::fs::read_to_string(at("out.yar")).unwrap(), rule);
    assert!(done("yara", &[&at("out.yar"), &at("sample")]).starts_with("example "));
}
