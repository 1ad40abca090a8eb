//! Exports: values in the formats of the tools that act on them.
//!
//! ```text
//! entries -Format::write-> files -the same format's reader-> entries: equal, or nothing is replaced
//! ```
//!
//! A value is never pasted into a rule. It is a typed value that is written anew from its parts, or it stands in a data file
//! that a fixed rule refers to; and every file is read back by a reader of its own, which knows nothing of how it was
//! written. What a format cannot say is left out and counted ([`Written::left`]), never widened.
//!
//! Cases of `threats.md`: X-03 to X-06, G-25.

mod misp;
mod nftables;
mod rows;
mod rpz;
mod stix;
mod suricata;
mod zeek;

pub use misp::*;
pub use nftables::nftables_delta;
pub use rows::*;
pub use stix::*;

use crate::record::{Observable, ObservableType, Timestamp, UnknownName};
use std::collections::BTreeMap;
use uuid::Uuid;

/// One value for a tool.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    pub value: Observable,
    /// With every name below it.
    pub below: bool,
    /// When it ends.
    pub until: Timestamp,
    /// Only watched: what the tool has to log, and nothing else.
    pub watched: bool,
}

/// The tools that data files are written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tool {
    /// A value a line.
    List,
    /// A hosts file: names that lead nowhere.
    Hosts,
    /// A response policy zone, for BIND, Unbound, Knot and PowerDNS.
    Rpz,
    /// Named sets with timeouts.
    Nftables,
    /// Datasets, and rules that use them.
    Suricata,
    /// An intelligence file.
    Zeek,
}

impl Tool {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::List, Self::Hosts, Self::Rpz, Self::Nftables, Self::Suricata, Self::Zeek];

    /// As it is written in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Hosts => "hosts",
            Self::Rpz => "rpz",
            Self::Nftables => "nftables",
            Self::Suricata => "suricata",
            Self::Zeek => "zeek",
        }
    }

    /// Whether the tool can act on values of this type.
    pub fn takes(self, kind: ObservableType) -> bool {
        use ObservableType as T;
        match self {
            Self::List => true,
            Self::Hosts => kind == T::Domain,
            Self::Rpz => matches!(kind, T::Domain | T::Ipv4 | T::Ipv6 | T::Cidr),
            Self::Nftables => matches!(kind, T::Ipv4 | T::Ipv6 | T::Cidr | T::Endpoint),
            Self::Suricata => matches!(kind, T::Domain | T::Ipv4 | T::Ipv6 | T::Md5 | T::Sha1 | T::Sha256 | T::Ja3 | T::Ja4),
            Self::Zeek => {
                matches!(
                    kind,
                    T::Domain | T::Ipv4 | T::Ipv6 | T::Cidr | T::Url | T::Email | T::Md5 | T::Sha1 | T::Sha256 | T::Sha512 | T::Ja3
                )
            }
        }
    }

    /// Writes `entries`, which are in order.
    pub fn write(self, entries: &[Entry], about: &Sheet<'_>) -> Written {
        match self {
            Self::List => rows::list(entries, about),
            Self::Hosts => rows::hosts(entries, about),
            Self::Rpz => rpz::write(entries, about),
            Self::Nftables => nftables::write(entries, about),
            Self::Suricata => suricata::write(entries, about),
            Self::Zeek => zeek::write(entries, about),
        }
    }

    /// Reads a file of this tool as the tool itself would, and answers the values that it acts on, with what is below where
    /// the file says so, in order. `name` is the file's name.
    pub fn read(self, name: &str, text: &str) -> Result<Vec<(String, bool)>, String> {
        let mut found = match self {
            Self::List => rows::read_list(text),
            Self::Hosts => rows::read_hosts(text),
            Self::Rpz => rpz::read(text),
            Self::Nftables => nftables::read(text),
            Self::Suricata => suricata::read(name, text),
            Self::Zeek => zeek::read(text),
        }?;
        found.sort();
        Ok(found)
    }
}

impl std::str::FromStr for Tool {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        let found = Self::ALL.into_iter().find(|tool| tool.name() == text);
        found.ok_or_else(|| UnknownName::new("format", text, Self::ALL.iter().map(|tool| tool.name())))
    }
}

/// What is to be known of an export beside its entries.
#[derive(Clone, Copy, Debug)]
pub struct Sheet<'a> {
    /// The outlet's name: 1 to 64 of a-z, 0-9 and `-`.
    pub name: &'a str,
    /// Rises with every writing and never goes back; seconds since 1970 at least.
    pub serial: u64,
    pub now: Timestamp,
    /// Whether the tool blocks what it finds, or raises an alert.
    pub blocks: bool,
    /// First signature id of Suricata rules.
    pub sid: u32,
}

/// A file of an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportFile {
    /// What follows the outlet's name: `.zone`, `-domain.lst`.
    pub ending: String,
    pub text: String,
    /// What a reader of the file must find, in order; files of rules have none.
    pub meant: Vec<(String, bool)>,
}

/// An export as it is to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    pub files: Vec<ExportFile>,
    /// Values that the format cannot hold, by reason.
    pub left: BTreeMap<&'static str, u64>,
}

impl Written {
    fn file(&mut self, ending: &str, text: String, mut meant: Vec<(String, bool)>) {
        meant.sort();
        self.files.push(ExportFile { ending: ending.to_owned(), text, meant });
    }

    fn left(&mut self, why: &'static str) {
        *self.left.entry(why).or_default() += 1;
    }

    /// Whether each file, read as its tool reads it, says what was meant.
    pub fn reads_back(&self, tool: Tool) -> Result<(), String> {
        self.files.iter().try_for_each(|file| file.reads_back(tool, &file.text))
    }
}

impl ExportFile {
    /// Whether `text`, read as its tool reads it, says what was meant.
    pub fn reads_back(&self, tool: Tool, text: &str) -> Result<(), String> {
        let found = tool.read(&self.ending, text)?;
        match found.iter().zip(&self.meant).position(|(found, meant)| found != meant) {
            _ if found.len() != self.meant.len() => {
                Err(format!("{} values were meant and {} are read back", self.meant.len(), found.len()))
            }
            Some(at) => Err(format!("value {} reads back as another one", at + 1)),
            None => Ok(()),
        }
    }
}

/// Namespace of the ids that we derive: of `huecry` in the namespace of URLs.
fn namespace() -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_URL, b"urn:huecry:record")
}

#[cfg(test)]
mod tests;
