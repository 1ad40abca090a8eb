//! Suricata: datasets, a file for each type of value, and a handful of fixed rules that look values up in them.
//!
//! No value stands in a rule, so none can break one; a million values are a handful of rules. Names and TLS
//! fingerprints are strings, base64 a line as datasets of type `string` want; hashes of files and addresses are plain. Datasets
//! compare whole values, so a name that means also what is below it matches itself alone; that is counted as left.
//!
//! Format: Suricata 7 user guide, "Datasets" and "Rules format".

use super::{Entry, Sheet, Written};
use crate::record::ObservableType;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::fmt::Write as _;

const NOT_BELOW: &str = "names below it are not matched: datasets compare whole names";

/// How a dataset's lines are spelt.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spelling {
    Base64,
    Plain,
}

/// A dataset: ending, how its lines are spelt, and the rules that look something up in it: protocol and options, in which
/// `NAME` is the dataset's.
type Set = (&'static str, Spelling, &'static [(&'static str, &'static str)]);

const SETS: [Set; 7] = [
    (
        "domain",
        Spelling::Base64,
        &[
            ("dns", "dns.query; to_lowercase; dataset:isset,NAME,type string,load NAME.lst,memcap 256mb,hashsize 65536"),
            ("tls", "tls.sni; to_lowercase; dataset:isset,NAME,type string,load NAME.lst,memcap 256mb,hashsize 65536"),
            ("http", "http.host; to_lowercase; dataset:isset,NAME,type string,load NAME.lst,memcap 256mb,hashsize 65536"),
        ],
    ),
    (
        "ip",
        Spelling::Plain,
        &[
            ("ip", "ip.src; dataset:isset,NAME,type ip,load NAME.lst,memcap 256mb,hashsize 65536"),
            ("ip", "ip.dst; dataset:isset,NAME,type ip,load NAME.lst,memcap 256mb,hashsize 65536"),
        ],
    ),
    ("md5", Spelling::Plain, &[("http", "filemd5:NAME.lst"), ("smtp", "filemd5:NAME.lst"), ("smb", "filemd5:NAME.lst")]),
    ("sha1", Spelling::Plain, &[("http", "filesha1:NAME.lst"), ("smtp", "filesha1:NAME.lst"), ("smb", "filesha1:NAME.lst")]),
    ("sha256", Spelling::Plain, &[("http", "filesha256:NAME.lst"), ("smtp", "filesha256:NAME.lst"), ("smb", "filesha256:NAME.lst")]),
    ("ja3", Spelling::Base64, &[("tls", "ja3.hash; dataset:isset,NAME,type string,load NAME.lst,memcap 64mb,hashsize 65536")]),
    ("ja4", Spelling::Base64, &[("tls", "ja4.hash; dataset:isset,NAME,type string,load NAME.lst,memcap 64mb,hashsize 65536")]),
];

fn set_of(kind: ObservableType) -> Option<&'static str> {
    use ObservableType as T;
    match kind {
        T::Domain => Some("domain"),
        T::Ipv4 | T::Ipv6 => Some("ip"),
        T::Md5 => Some("md5"),
        T::Sha1 => Some("sha1"),
        T::Sha256 => Some("sha256"),
        T::Ja3 => Some("ja3"),
        T::Ja4 => Some("ja4"),
        _ => None,
    }
}

pub(super) fn write(entries: &[Entry], about: &Sheet<'_>) -> Written {
    let mut written = Written::default();
    let mut rules =
        format!("# {} of huecry, serial {}: rules that look values up in the datasets beside this file\n", about.name, about.serial);
    let mut sid = about.sid;
    for watched in [false, true] {
        for (ending, spelling, places) in SETS {
            let of = |entry: &&Entry| entry.watched == watched && set_of(entry.value.kind()) == Some(ending);
            let (mut text, mut meant) = (String::new(), Vec::new());
            for entry in entries.iter().filter(of) {
                let value = entry.value.to_string();
                let _infallible = match spelling {
                    Spelling::Base64 => writeln!(text, "{}", STANDARD.encode(&value)),
                    Spelling::Plain => writeln!(text, "{value}"),
                };
                if entry.below {
                    written.left(NOT_BELOW);
                }
                meant.push((value, false));
            }
            let name = format!("{}{}-{ending}", about.name, if watched { "-watch" } else { "" });
            for (protocol, options) in places {
                let signature = sid;
                sid += 1;
                // An empty dataset is no error, but its rules are: Suricata refuses to load what is not there.
                if meant.is_empty() {
                    continue;
                }
                let action = if about.blocks && !watched { "drop" } else { "alert" };
                let what = if watched { "would be stopped" } else { "is known" };
                let _infallible = writeln!(
                    rules,
                    "{action} {protocol} any any -> any any (msg:\"huecry {}: a {ending} in {protocol} {what}\"; {}; classtype:trojan-activity; sid:{signature}; rev:1;)",
                    about.name,
                    options.replace("NAME", &name)
                );
            }
            if !meant.is_empty() {
                written.file(&format!("{}-{ending}.lst", if watched { "-watch" } else { "" }), text, meant);
            }
        }
    }
    entries.iter().filter(|entry| set_of(entry.value.kind()).is_none()).for_each(|_| written.left("there is no dataset for its type"));
    written.file(".rules", rules, Vec::new());
    written
}

/// Reads a dataset as Suricata does; of a file of rules, that each has the shape of one.
pub(super) fn read(name: &str, text: &str) -> Result<Vec<(String, bool)>, String> {
    if name == ".rules" {
        return read_rules(text).map(|()| Vec::new());
    }
    let ending = name.trim_end_matches(".lst").rsplit('-').next().unwrap_or_default();
    let (_, spelling, _) = SETS.iter().find(|(set, ..)| *set == ending).ok_or_else(|| format!("`{name}` is no dataset"))?;
    let value = |(number, line): (usize, &str)| match spelling {
        Spelling::Plain if line.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'.' || byte == b':') => {
            Ok((line.to_owned(), false))
        }
        Spelling::Plain => Err(format!("line {}: neither a hash nor an address", number + 1)),
        Spelling::Base64 => {
            let bytes = STANDARD.decode(line).map_err(|_| format!("line {}: not base64", number + 1))?;
            String::from_utf8(bytes).map(|text| (text, false)).map_err(|_| format!("line {}: not text", number + 1))
        }
    };
    text.strip_suffix('\n').unwrap_or(text).split('\n').enumerate().filter(|(_, line)| !line.is_empty()).map(value).collect()
}

/// Rules by the documented grammar: action, protocol, addresses, and options, each with its end, one of them `sid`.
fn read_rules(text: &str) -> Result<(), String> {
    let mut seen = std::collections::BTreeSet::new();
    for (number, line) in (1..).zip(text.split('\n')).filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
        let wrong = |what: &str| format!("line {number}: {what}");
        let (head, rest) = line.split_once(" (").ok_or_else(|| wrong("no options"))?;
        let words: Vec<&str> = head.split(' ').collect();
        if !matches!(words.as_slice(), ["alert" | "drop", _, "any", "any", "->", "any", "any"]) {
            return Err(wrong("no head of a rule"));
        }
        let options = rest.strip_suffix(";)").ok_or_else(|| wrong("the last option has no end"))?;
        let options: Vec<&str> = options.split("; ").collect();
        let sid = options.iter().find_map(|option| option.strip_prefix("sid:")).and_then(|sid| sid.parse::<u32>().ok());
        if !seen.insert(sid.ok_or_else(|| wrong("no signature id"))?) {
            return Err(wrong("a signature id stands twice"));
        }
        let looks_up =
            |option: &&str| ["dataset:isset,", "filemd5:", "filesha1:", "filesha256:"].iter().any(|start| option.starts_with(start));
        if !options.iter().any(looks_up) {
            return Err(wrong("it looks nothing up"));
        }
    }
    Ok(())
}
