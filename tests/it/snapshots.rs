//! The command line, word for word: `tests/cli/*.md` are sessions, each in a directory of its own that begins with the
//! files of `NAME.in/`. Under a `$ huecry ...` line stands what it prints, what goes to stderr behind `2> `, and its exit
//! code behind `? ` when that is not 0. A change in wording is a diff that somebody approves; `HUECRY_BLESS=1` writes it.

use regex::Regex;
use std::{
    fmt::Write as _,
    path::Path,
    process::{Command, Output},
};

/// What differs from run to run, the longest first.
const VARIES: [(&str, &str); 6] = [
    (r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}(\.[0-9]+)?Z", "[TIME]"),
    (r"\b20[0-9]{2}-[0-9]{2}-[0-9]{2}\b", "[DAY]"),
    (r"\b[0-9a-f]{64}\b", "[HASH]"),
    (r"\b[0-9a-f]{32}\b", "[KEY]"),
    (r"\b[0-9a-f]{8}\b", "[SHORT]"),
    (r"\b12D3Koo[0-9A-Za-z]{45}\b", "[PEER]"),
];

fn plain(text: &str) -> String {
    VARIES.iter().fold(text.to_owned(), |text, (pattern, name)| Regex::new(pattern).unwrap().replace_all(&text, *name).into_owned())
}

fn shown(output: &Output) -> String {
    let mut shown = plain(&String::from_utf8(output.stdout.clone()).unwrap());
    for line in plain(&String::from_utf8(output.stderr.clone()).unwrap()).lines() {
        writeln!(shown, "{}", format!("2> {line}").trim_end()).unwrap();
    }
    match output.status.code() {
        Some(0) => (),
        code => writeln!(shown, "? {}", code.unwrap()).unwrap(),
    }
    shown
}

/// Runs every command of a session in order, in `place`, and answers the session as it went.
fn session(text: &str, place: &Path) -> String {
    let mut out = String::new();
    let mut skipping = false;
    for line in text.lines() {
        if let Some(command) = line.strip_prefix("$ huecry") {
            let words = shlex::split(command).unwrap();
            let run = Command::new(env!("CARGO_BIN_EXE_huecry"))
                .args(words)
                .current_dir(place)
                .env("COLUMNS", "100")
                .env_remove("HUECRY_DATA")
                .output();
            writeln!(out, "{line}\n{}", shown(&run.unwrap())).unwrap();
            skipping = true;
        } else if line.starts_with("```") || !skipping {
            writeln!(out, "{line}").unwrap();
            skipping = false;
        }
    }
    out
}

#[test]
fn the_command_line_says_what_its_sessions_say() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli");
    let mut differ = Vec::new();
    let mut paths: Vec<_> = std::fs::read_dir(&cases).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "md"));
    paths.sort();
    assert!(!paths.is_empty());
    for path in paths {
        let place = tempfile::tempdir().unwrap();
        if let Ok(files) = std::fs::read_dir(path.with_extension("in")) {
            for file in files {
                let file = file.unwrap().path();
                std::fs::copy(&file, place.path().join(file.file_name().unwrap())).unwrap();
            }
        }
        let expected = std::fs::read_to_string(&path).unwrap();
        let found = session(&expected, place.path());
        if found != expected {
            if std::env::var_os("HUECRY_BLESS").is_some() {
                std::fs::write(&path, &found).unwrap();
            }
            let line = found.lines().zip(expected.lines()).position(|(one, other)| one != other).unwrap_or_default();
            differ.push(format!("{} line {}: {}", path.display(), line + 1, found.lines().nth(line).unwrap_or_default()));
        }
    }
    assert!(differ.is_empty() || std::env::var_os("HUECRY_BLESS").is_some(), "{}", differ.join("\n"));
}
