//! 274 real oddities that a reader of indicator lists meets, each decided. `tests/data/oddities.tsv` holds the decisions under
//! hashes, because the values are live: kind, SHA-256 of file, line and raw text (16 digits), what was read (types), SHA-256
//! of the values. `HUECRY_BLESS=1` writes it anew.

use crate::support::{corpus, read};
use huecry::{
    envelope::Hash,
    exchange::{Layout, TextReader},
};
use std::path::Path;

/// The layout in which a file of this name is read, and what is read of one of its lines.
fn decide(case: &serde_json::Value, corpus: &Path) -> (String, String) {
    let file = case["file"].as_str().unwrap();
    // A lone cell of a table is read as one; the header that gives it its meaning is elsewhere in the file.
    let cell = Layout::of_name(file) == Layout::Csv && !case["raw"].as_str().unwrap().contains(',');
    let layout = if cell { Layout::Plain } else { Layout::of_name(file) };
    let mut reader = TextReader::new(layout, None);
    let (mut items, mut complaints) = (Vec::new(), Vec::new());
    let kind = case["kind"].as_str().unwrap();
    if kind.starts_with("file with") {
        // The oddity is the file's: its line ends or its first bytes must disturb nothing.
        let bytes = read(&corpus.join(file));
        bytes.split(|byte| *byte == b'\n').for_each(|line| reader.line(line, &mut complaints, |one, _| items.push(one.value)));
        assert!(items.iter().all(|item| !item.to_string().contains(['\r', '\u{feff}'])));
    } else {
        // One cell or word, as it stands; a row of a table is a row without its header.
        reader.line(case["raw"].as_str().unwrap().as_bytes(), &mut complaints, |one, _| items.push(one.value));
    }
    reader.end(&mut complaints, |one, _| items.push(one.value));
    let types: Vec<&str> = items.iter().map(|item| item.kind().name()).collect();
    let types = match types.len() {
        0 => "nothing".to_owned(),
        1..=3 => types.join(","),
        many => format!("{many} values"),
    };
    let values: Vec<String> = items.iter().map(|item| item.to_string()).collect();
    (types, values.join("\n"))
}

#[test]
fn each_of_the_real_oddities_is_decided_and_stays_so() {
    let Some(corpus) = corpus() else { return };
    let text = String::from_utf8(read(&corpus.join("oddities.jsonl"))).unwrap();
    let short = |text: &str| Hash::of(text.as_bytes()).to_string()[..16].to_owned();
    let mut lines = Vec::new();
    let mut as_read = 0;
    for line in text.lines() {
        let case: serde_json::Value = serde_json::from_str(line).unwrap();
        let (types, values) = decide(&case, &corpus);
        let kind = case["kind"].as_str().unwrap();
        let name = format!("{}\u{0}{}\u{0}{}", case["file"].as_str().unwrap(), case["line"], case["raw"].as_str().unwrap());
        lines.push(format!("{kind}\t{}\t{types}\t{}", short(&name), short(&values)));
        // Where the corpus offers a reading, ours is that one, but for what we refuse on purpose.
        if let Some(reading) = case["reading"].as_array() {
            let offered = reading[0][1].as_str().unwrap();
            let on_purpose = match kind {
                // Octal to some programs: not guessed at (D-03).
                "ipv4 leading zero" => true,
                // Patterns are no values (D-07).
                "wildcard" => true,
                // `file://host@port/` has no host that anybody means.
                "non-http scheme file" | "url with userinfo" | "mixed-case host in url" => true,
                // The URL standard adds no slash where the scheme is not one of the web's.
                "non-http scheme tcp" | "non-http scheme dns" => true,
                // A scheme's own port is not written (WHATWG).
                "url with port" if offered.starts_with("https:") && offered.contains(":443/") => true,
                // Our spelling of a slip for http.
                "non-http scheme htxxp" => true,
                _ => values.contains("++") || offered.contains("++"),
            };
            assert!(on_purpose || values == offered, "{kind} {}: read {types}", case["file"]);
            as_read += usize::from(values == offered);
        }
    }
    assert!(as_read > 150, "{as_read} as offered");
    assert_eq!(lines.len(), 274);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/oddities.tsv");
    if std::env::var_os("HUECRY_BLESS").is_some() {
        std::fs::write(&path, lines.join("\n") + "\n").unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap();
    for (found, kept) in lines.iter().zip(kept.lines()) {
        assert_eq!(found, kept, "a decision changed");
    }
    assert_eq!(kept.lines().count(), lines.len());
}
