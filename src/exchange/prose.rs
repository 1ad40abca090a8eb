//! Prose, Markdown, AsciiDoc: values stand anywhere, and only what is beyond doubt is one.
//!
//! ```text
//! line -> chunks -> whole URLs, or words -certain, not a file, product, version or the author's own address-> values
//! ```
//!
//! A URL is taken whole or not at all. A bare name that is not defanged is doubted: file and product names look like it.

use super::{list::certain, typed::Part};
use crate::record::{Observable, ObservableType, TypeName, may_be_file, refang};

/// Words in front of a number with dots that is a version.
const VERSION_WORDS: [&str; 8] = ["version", "versions", "v", "release", "build", "update", "firmware", "asp.net"];
/// Words in front of a hash that is none of a file.
const OTHER_HASHES: [&str; 12] =
    ["imphash", "authentihash", "ja3s", "pehash", "richpe", "telfhash", "vhash", "tlsh", "ssdeep", "commit", "serial", "jarm"];

/// The values of a line of prose.
pub(super) fn values(line: &str, given: Option<&TypeName>, out: &mut Vec<Part>) {
    let table = line.starts_with('|');
    let breaks =
        |char: char| char.is_whitespace() || matches!(char, '"' | '<' | '>' | '`' | '“' | '”' | '„' | '«' | '»') || (table && char == '|');
    let mut before: [String; 2] = Default::default();
    for chunk in line.split(breaks).filter(|chunk| !chunk.is_empty()) {
        // A Markdown link: its text, and its target.
        for piece in chunk.split("](") {
            match url(piece) {
                Some(found) => out.extend(found.into_iter().map(Part::from)),
                None => piece.split(['|', ',', '\'', ';', '’', '‘']).for_each(|word| self::word(word, &before, given, out)),
            }
        }
        let word = chunk.trim_matches(|char: char| !char.is_alphanumeric()).to_ascii_lowercase();
        before = [std::mem::take(&mut before[1]), word];
    }
}

/// The URL of a piece, or none if it has one that is not whole; `None` for a piece without any.
fn url(piece: &str) -> Option<Option<Observable>> {
    let unescaped = piece.replace("&amp;", "&");
    let plain = refang(&unescaped);
    let sign = plain.find("://")?;
    let head = plain.get(..sign)?;
    let start = head.rfind(|char: char| !char.is_ascii_alphanumeric() && char != '+').map_or(0, |at| at + 1);
    // A plus is AsciiDoc's, not a scheme's.
    let start = start + head.get(start..)?.bytes().take_while(|byte| *byte == b'+').count();
    let (lead, mut text) = (plain.get(..start)?, plain.get(start..)?);
    for mark in ["**", "__", "++", "*", "_"] {
        if lead.ends_with(mark) {
            text = text.strip_suffix(mark).or_else(|| text.trim_end_matches(['.', ',', ':', ';']).strip_suffix(mark)).unwrap_or(text);
        }
    }
    // AsciiDoc's passthrough.
    text = ended(text.strip_suffix("++").unwrap_or(text));
    let twice = text.get(3..).is_some_and(|rest| rest.contains(",http") || rest.contains(";http"));
    if twice || text.ends_with(['!', '*', '…']) || text.contains('*') || text.ends_with("..") {
        return Some(None);
    }
    Some(Observable::from_text(ObservableType::Url, text).ok())
}

/// Without what ends a sentence, and brackets that nothing opened.
fn ended(mut text: &str) -> &str {
    loop {
        let unbalanced = |open: char, close: char| text.matches(close).count() > text.matches(open).count();
        let shorter = match text.chars().next_back() {
            Some('.' | ',' | ':' | ';' | '\'' | '?' | '’') => true,
            Some(')') => unbalanced('(', ')'),
            Some(']') => unbalanced('[', ']'),
            Some('}') => unbalanced('{', '}'),
            _ => false,
        };
        match text.char_indices().next_back().filter(|_| shorter) {
            Some((at, _)) => text = text.get(..at).unwrap_or_default(),
            None => return text,
        }
    }
}

fn word(word: &str, before: &[String; 2], given: Option<&TypeName>, out: &mut Vec<Part>) {
    let word = word.trim_matches(|char: char| "*_+()[]{}.:!?…•–—".contains(char));
    if word.len() < 4 {
        return;
    }
    let Some(found) = certain(word, given) else { return };
    let defanged = matches!(refang(word), std::borrow::Cow::Owned(_));
    let lead = |words: &[&str]| before.iter().any(|one| words.contains(&one.as_str()));
    for mut part in found {
        let doubt = match part.value.kind() {
            ObservableType::Domain | ObservableType::Endpoint if !defanged && given.is_none() => {
                let host = part.value.host().unwrap_or_default().into_owned();
                word.chars().any(|char| char.is_ascii_uppercase()) || may_be_file(&host)
            }
            // Contact addresses of authors are written to be clicked on.
            ObservableType::Email => !defanged && given.is_none(),
            ObservableType::Ipv4 if !defanged => lead(&VERSION_WORDS),
            ObservableType::Md5 | ObservableType::Sha1 | ObservableType::Sha256 => lead(&OTHER_HASHES),
            _ => false,
        };
        if part.value.kind() == ObservableType::Md5
            && lead(&["ja3"])
            && let Ok(value) = Observable::from_text(ObservableType::Ja3, word)
        {
            part = Part::from(value);
        }
        if !doubt {
            out.push(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: &[&str]) {
        let mut out = Vec::new();
        values(line, None, &mut out);
        let found: Vec<String> = out.iter().map(|part| part.value.to_string()).collect();
        assert_eq!(found, expected, "{line}");
    }

    #[test]
    fn urls_are_whole_or_left() {
        check(
            "- see [the gate](http://md.url.example/gate.php) and [http://md2.url.example/a](http://md2.url.example/b).",
            &["http://md.url.example/gate.php", "http://md2.url.example/a", "http://md2.url.example/b"],
        );
        check(
            "http://paren.url.example/a_(b) and (http://inparen.url.example/c).",
            &["http://paren.url.example/a_(b)", "http://inparen.url.example/c"],
        );
        for url in [
            "http://comma.url.example/abc,1,2.html",
            "http://semi.url.example/login;jsessionid=77?x=1",
            "http://pipe.url.example/a|b",
            "http://apos.url.example/o'brien",
            "http://brack.url.example/?f[0]=1&g=2",
            "http://trk.url.example/L0/http:%2F%2Fwww.target.example%2Fx%23y/1",
            "http://under.url.example/a_",
        ] {
            check(&format!("- {url}"), &[url]);
        }
        check("- http://amp.url.example/?a=1&amp;b=2", &["http://amp.url.example/?a=1&b=2"]);
        check("- hxxp://dot.url[.]example/a.php.", &["http://dot.url.example/a.php"]);
        check("- **http://bold.url.example/b**", &["http://bold.url.example/b"]);
        check(
            "<http://angle.url.example/z> \"http://quote.url.example/q\" `http://tick.url.example/t`",
            &["http://angle.url.example/z", "http://quote.url.example/q", "http://tick.url.example/t"],
        );
        for line in ["- http://excl.url.example/run!", "- http://star.url.example/a*", "- http://star2.url.example/*/x"] {
            check(line, &[]);
        }
    }

    #[test]
    fn names_of_files_products_and_versions_are_no_indicators() {
        check("The dropper test.zip holds run.sh, main.py, README.md, config.pl and libevil.so; see System.Net and ASP.NET 4.8.", &[]);
        check("It is detected as W64/BURNTCIGAR.CA!tr, Trojan.Script.Agent and Win32.Agent.ai, by version 4.8.0.2 of the scanner.", &[]);
        check("Beacon: c2[.]names.example and 192.0.2.18.", &["c2.names.example", "192.0.2.18"]);
        check(
            "Dropper imphash: 18ddf28a71089acdbab5038f58044c00 calls home; its md5 is 00000000000000000000000000000081.",
            &["00000000000000000000000000000081"],
        );
        check("write to team@lab.example or x[@]evil.example", &["x@evil.example"]);
        check(
            "The actor used “cloudsafety.example” and “drive-global[.]example”, then ‘https://evil-quote.example/x’ …",
            &["cloudsafety.example", "drive-global.example", "https://evil-quote.example/x"],
        );
    }
}
