//! Zeek: an intelligence file, tabs between its fields.
//!
//! URLs stand without their scheme, as Zeek sees them; hashes of files of any length are one type; a name that means also
//! what is below it matches itself alone. Watched entries are left out: the framework reports and never stops, so an outlet
//! in monitor mode is one that does not load the file.
//!
//! Format: Zeek 7 manual, "Intelligence Framework", input files.

use super::{Entry, Sheet, Written};
use crate::record::{Observable, ObservableType};
use std::fmt::Write as _;

const FIELDS: &str = "#fields\tindicator\tindicator_type\tmeta.source\tmeta.desc";
const NOT_BELOW: &str = "names below it are not matched: the framework compares whole names";

pub(super) fn write(entries: &[Entry], about: &Sheet<'_>) -> Written {
    let mut written = Written::default();
    let (mut text, mut meant) = (format!("{FIELDS}\n"), Vec::new());
    for entry in entries.iter().filter(|entry| !entry.watched) {
        let Some((kind, value)) = seen(&entry.value) else {
            written.left("there is no intelligence type for it");
            continue;
        };
        if entry.below {
            written.left(NOT_BELOW);
        }
        let _infallible = writeln!(text, "{value}\tIntel::{kind}\thuecry:{}\tuntil {}", about.name, entry.until);
        meant.push((value, false));
    }
    written.file(".intel", text, meant);
    written
}

/// The framework's type for a value, and how it stands in the file.
fn seen(value: &Observable) -> Option<(&'static str, String)> {
    use ObservableType as T;
    let text = value.to_string();
    match value.kind() {
        T::Ipv4 | T::Ipv6 => Some(("ADDR", text)),
        T::Cidr => Some(("SUBNET", text)),
        T::Domain => Some(("DOMAIN", text)),
        T::Email => Some(("EMAIL", text)),
        T::Md5 | T::Sha1 | T::Sha256 | T::Sha512 => Some(("FILE_HASH", text)),
        T::Ja3 => Some(("JA3", text)),
        T::Url => text.split_once("://").map(|(_, rest)| ("URL", rest.to_owned())),
        _ => None,
    }
}

/// Reads the file as Zeek does.
pub(super) fn read(text: &str) -> Result<Vec<(String, bool)>, String> {
    let mut lines = text.strip_suffix('\n').unwrap_or(text).split('\n');
    if lines.next() != Some(FIELDS) {
        return Err("line 1: the names of the fields are missing".to_owned());
    }
    let row = |(number, line): (usize, &str)| match line.split('\t').collect::<Vec<_>>().as_slice() {
        [value, kind, _, _] if kind.starts_with("Intel::") && !value.is_empty() => Ok(((*value).to_owned(), false)),
        _ => Err(format!("line {}: not four fields", number + 2)),
    };
    lines.enumerate().map(row).collect()
}
