//! Cases after public bug reports, by their number in `tests/cases`: what a file means, and nothing that its author did not write.

use crate::support::stdout;
use huecry::record::{Observable, ObservableType};
use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Spellings of hosts, each with the host that it means.
fn spellings() -> Vec<(String, String)> {
    let mut all = Vec::new();
    let names = ["agency.example", "a_b.mail.agency.example", "xn--bcher-kva.example", "localhost", "192.0.2.10", "[2001:db8::10]"];
    for name in names {
        let plain = !name.starts_with('[');
        let mut written = vec![name.to_owned(), name.to_uppercase()];
        if plain {
            written.extend([format!("{name}."), name.replace('e', "%65"), name.replace('.', "%2e"), name.replace('.', "。")]);
            let wide = |char: char| if char.is_ascii_lowercase() { char::from_u32(u32::from(char) + 0xfee0).unwrap() } else { char };
            written.push(if name.starts_with("xn--") { "bücher.example".to_owned() } else { name.chars().map(wide).collect() });
        }
        if name == "192.0.2.10" {
            written.extend(
                ["3221225994", "0xC000020A", "0300.0.2.10", "192.0.522", "[::ffff:192.0.2.10]", "[64:ff9b::c000:20a]"].map(str::to_owned),
            );
        }
        all.extend(written.into_iter().map(|spelt| (spelt, name.to_owned())));
    }
    all
}

fn host_of(url: &str) -> Option<String> {
    Observable::from_text(ObservableType::Url, url).ok().map(|found| found.host().unwrap().into_owned())
}

#[test]
fn a_host_is_the_same_however_it_is_spelt_and_under_any_scheme() {
    for (spelt, host) in spellings() {
        for scheme in ["http", "https", "ftp", "ws", "tcp", "dns", "ssh"] {
            for (before, behind) in [("", ""), ("", ":8080/x"), ("user:pass@", "/x?y=http://other.example./#z")] {
                let url = format!("{scheme}://{before}{spelt}{behind}");
                assert_eq!(host_of(&url).as_deref(), Some(host.as_str()), "{url}");
            }
        }
    }
}

#[test]
fn what_ada_and_inet_aton_take_for_a_host_is_that_host_or_is_refused() {
    let Some(python) = interop() else { return };
    let odd = [
        "agency..example",
        "agency.example..",
        "-agency.example",
        "a!b.example",
        "*.agency.example",
        "agency.example.1",
        "agency.0x1",
        "1.2.3",
        "0xzz.example",
        "xn--a.example",
        "xn--.example",
        "ag%00ency.example",
        "ag%20ency.example",
        "a,b.example",
        "256.1.1.1",
        "1.1.1.1.1",
        "[::1%25eth0]",
        "[::ffff:1.2.3.4.5]",
        "a'b.example",
        "..",
        ".",
        "é.example.",
        "ag\u{ad}ency.example",
        "ag\u{200d}ency.example",
    ];
    let mut urls: Vec<String> =
        spellings().into_iter().map(|(spelt, _)| spelt).chain(odd.map(str::to_owned)).map(|host| format!("http://{host}/x")).collect();
    // Every byte of ASCII in the middle of a name, plain and percent-encoded.
    let bytes = (0x21_u8..0x7f).filter(|byte| !b"/?#@:[]\\".contains(byte));
    urls.extend(bytes.flat_map(|byte| [format!("http://a{}b.example/", char::from(byte)), format!("http://a%{byte:02x}b.example/")]));
    let mut running = Command::new(python)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/hosts.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    running.stdin.take().unwrap().write_all(urls.join("\n").as_bytes()).unwrap();
    let output = running.wait_with_output().unwrap();
    let theirs: Vec<String> = stdout(&output).lines().map(str::to_owned).collect();
    assert_eq!(theirs.len(), urls.len());
    let mut same = 0;
    for (url, theirs) in urls.iter().zip(theirs) {
        if let Some(ours) = host_of(url) {
            assert_eq!(ours, theirs, "{url}");
            same += 1;
        }
    }
    assert!(same > 60, "{same} of {}", urls.len());
}

/// The Python that `scripts/test` sets up.
fn interop() -> Option<PathBuf> {
    if std::env::var_os("HUECRY_INTEROP").is_none() {
        println!("skipped: scripts/test sets up the other implementations");
        return None;
    }
    Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("target/interop/venv/bin/python"))
}
