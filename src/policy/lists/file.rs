//! The forms in which lists are written: MISP warninglists as published, defects included, and plain lines.

use crate::record::{Observable, ObservableType};
use ipnet::IpNet;
use std::net::IpAddr;

/// Longest list file, in bytes; the longest published one, cloudflare-top1m, has 23 MiB.
pub const LIST_FILE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Why a list is refused, whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    #[error("list `{list}`: {what}")]
    Unreadable { list: String, what: String },
    #[error("list `{0}` is there twice; names of lists are unique")]
    SameName(String),
    #[error("more than 1,024 lists")]
    Many,
    #[error("list `{0}` takes all lists together beyond 4,000,000 entries; take out lists that decide nothing")]
    Long(String),
}

/// One entry, as it is matched.
pub enum Entry {
    Network(IpNet),
    /// A name by itself.
    Exact(String),
    /// A name and everything below it.
    Below(String),
    /// A hash or the like, in canonical spelling.
    Value(String),
}

#[derive(serde::Deserialize)]
struct MispList {
    #[serde(rename = "type")]
    kind: String,
    list: Vec<String>,
}

/// The entries of a list; those that are no value (a header line, a pattern) as the text that they are.
pub fn read(name: &str, text: &str) -> Result<Vec<Result<Entry, String>>, ListError> {
    let unreadable = |what: String| ListError::Unreadable { list: name.to_owned(), what };
    let text = text.trim_start_matches('\u{feff}');
    let entries: Vec<_> = if text.trim_start().starts_with('{') {
        let misp: MispList = serde_json::from_str(text).map_err(|error| unreadable(error.to_string()))?;
        let below = match misp.kind.as_str() {
            // A `substring` of a name that is itself a name means, in all that is published, the names below it.
            "hostname" | "substring" => true,
            "string" | "cidr" => false,
            other => return Err(unreadable(format!("lists of type `{other}` hold patterns, which are not matched"))),
        };
        misp.list.iter().map(|text| entry(text, below)).collect()
    } else {
        let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()).filter(|line| !line.is_empty());
        lines.map(|line| entry(line, true)).collect()
    };
    // A file that was cut to nothing must not read as a list that clears nothing.
    if !entries.iter().any(Result::is_ok) {
        return Err(unreadable("it has no entries".to_owned()));
    }
    Ok(entries)
}

/// One entry of any list. A leading dot means everything below, whatever the list's type says: the published `string`
/// lists have hundreds that nothing would meet otherwise.
fn entry(text: &str, below: bool) -> Result<Entry, String> {
    let text = text.trim();
    let bare = text.trim_start_matches("*.").trim_start_matches('.');
    if let Some(net) = network(bare) {
        return Ok(Entry::Network(net));
    }
    let odd = || bare.chars().take(80).collect::<String>();
    if let Some(name) = name(bare) {
        return Ok(if below || bare.len() < text.len() { Entry::Below(name) } else { Entry::Exact(name) });
    }
    match Observable::recognise(bare) {
        Ok(value) if value.kind() == ObservableType::Domain => Ok(Entry::Exact(value.to_string())),
        Ok(value) if value.network().is_none() => Ok(Entry::Value(value.to_string())),
        _ => Err(odd()),
    }
}

/// A network, or an address as the network of itself; host bits are dropped.
pub fn network(text: &str) -> Option<IpNet> {
    if !text.starts_with(|first: char| first.is_ascii_hexdigit() || first == ':') {
        return None;
    }
    text.parse::<IpNet>().map(|net| net.trunc()).ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// Single labels in a list that stand for themselves: a header of the file they were made from, not a top-level domain.
const HEADERS: [&str; 6] = ["domain", "domains", "host", "hostname", "ip", "url"];

/// A name in lower case; a single label, such as a top-level domain, is one.
fn name(text: &str) -> Option<String> {
    let lower = text.trim_end_matches('.').to_ascii_lowercase();
    if HEADERS.contains(&lower.as_str()) {
        return None;
    }
    let plain = |label: &str| {
        !label.is_empty() && label.len() <= 63 && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    // Most entries are plain; those are not worth the full reading, which costs fifty times as much.
    if lower.len() <= 253 && lower.split('.').all(plain) && !looks_else(&lower) {
        return Some(lower);
    }
    Observable::from_text(ObservableType::Domain, &lower).ok().map(|value| value.to_string())
}

/// Hashes and numbers, and names in punycode, which have a canonical form of their own.
fn looks_else(lower: &str) -> bool {
    let hash = !lower.contains('.') && matches!(lower.len(), 32 | 40 | 64 | 128) && lower.bytes().all(|byte| byte.is_ascii_hexdigit());
    let last_is_number = lower.rsplit('.').next().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()));
    hash || last_is_number || lower.contains("xn--")
}
