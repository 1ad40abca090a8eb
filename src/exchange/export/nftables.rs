//! nftables: a script that fills named sets with timeouts, and one that only adds and deletes what has changed.
//!
//! ```text
//! add table inet huecry
//! add set inet huecry NAME_addr4 { type ipv4_addr; flags timeout; }
//! flush set inet huecry NAME_addr4
//! add element inet huecry NAME_addr4 {
//!     192.0.2.7 timeout 3600s,
//! }
//! ```
//!
//! A script is one transaction: the sets are as before or as meant, never between. What uses the sets is the firewall's own
//! rules. A network inside another of the same set is left out while the wider one lasts: sets of intervals do not overlap.
//! Watched entries stand in sets of their own (`NAME_watch_addr4`). Format: nft(8), version 1.0.

use super::{Entry, Sheet, Written};
use crate::record::{Observable, ObservableType};
use ipnet::IpNet;
use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

/// Longest timeout written, in seconds: 10 years. The kernel counts it in milliseconds in 64 bits; longer ones are no timeouts.
const TIMEOUT_S_MAX: u64 = 10 * 366 * 86_400;
const COVERED: &str = "a network of the same set covers it";

/// The kinds of sets: ending, type, flags.
const SETS: [(&str, &str, &str); 6] = [
    ("addr4", "ipv4_addr", "timeout"),
    ("addr6", "ipv6_addr", "timeout"),
    ("net4", "ipv4_addr", "interval, timeout"),
    ("net6", "ipv6_addr", "interval, timeout"),
    ("port4", "ipv4_addr . inet_service", "timeout"),
    ("port6", "ipv6_addr . inet_service", "timeout"),
];

pub(super) fn write(entries: &[Entry], about: &Sheet<'_>) -> Written {
    let mut written = Written::default();
    let mut sets: BTreeMap<(bool, &str), Vec<(&Entry, String)>> = BTreeMap::new();
    for entry in entries {
        match element(&entry.value) {
            Some((set, element)) => sets.entry((entry.watched, set)).or_default().push((entry, element)),
            None => written.left("a packet filter knows addresses and ports, no names"),
        }
    }
    let mut text = format!("#!/usr/sbin/nft -f\n# {} of huecry, serial {}\nadd table inet huecry\n", about.name, about.serial);
    let mut meant = Vec::new();
    for watched in [false, true] {
        for (ending, kind, flags) in SETS {
            // Every set is there, so that changes find the one they are in, and none keeps what an older export put there.
            let elements = sets.remove(&(watched, ending)).unwrap_or_default();
            let set = set_name(about.name, watched, ending);
            let _infallible = write!(text, "add set inet huecry {set} {{ type {kind}; flags {flags}; }}\nflush set inet huecry {set}\n");
            let elements = if flags.starts_with("interval") { apart(elements, &mut written) } else { elements };
            meant.extend(elements.iter().map(|(entry, _)| (entry.value.to_string(), false)));
            let elements = elements.iter().map(|(entry, element)| format!("{element} timeout {}s", seconds(entry, about)));
            elements_of(&mut text, "add", &set, elements);
        }
    }
    written.file(".nft", text, meant);
    written
}

/// A script that turns the sets of `before` into those of `after`; both are in order. Addresses come and go one by one; a set
/// of networks in which anything changed is filled anew, because a network that goes may uncover another.
pub fn nftables_delta(before: &[Entry], after: &[Entry], about: &Sheet<'_>) -> String {
    let mut text = format!("#!/usr/sbin/nft -f\n# {} of huecry, changes up to serial {}\n", about.name, about.serial);
    fn key(entry: &Entry) -> (&Observable, bool) {
        (&entry.value, entry.watched)
    }
    let (mut gone, mut new, mut anew) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
    let mut note = |entry: &Entry, comes: bool| {
        let Some((ending, element)) = element(&entry.value) else { return };
        let set = set_name(about.name, entry.watched, ending);
        if ending.starts_with("net") {
            anew.insert((entry.watched, ending));
        } else if comes {
            new.entry(set).or_insert_with(Vec::new).push(format!("{element} timeout {}s", seconds(entry, about)));
        } else {
            gone.entry(set).or_insert_with(Vec::new).push(element);
        }
    };
    let (mut left, mut right) = (before.iter().peekable(), after.iter().peekable());
    while let Some(order) = match (left.peek(), right.peek()) {
        (Some(old), Some(fresh)) => Some(key(old).cmp(&key(fresh))),
        (Some(_), None) => Some(Ordering::Less),
        (None, Some(_)) => Some(Ordering::Greater),
        (None, None) => None,
    } {
        let old = if order.is_le() { left.next() } else { None };
        let fresh = if order.is_ge() { right.next() } else { None };
        if old.map(|entry| entry.until) == fresh.map(|entry| entry.until) {
            continue;
        }
        old.into_iter().for_each(|entry| note(entry, false));
        fresh.into_iter().for_each(|entry| note(entry, true));
    }
    for (set, elements) in gone {
        // What has ended by itself is not there any more, and deleting what is not there fails the whole script.
        elements_of(&mut text, "add", &set, elements.iter().map(|element| format!("{element} timeout 60s")));
        elements_of(&mut text, "delete", &set, elements.into_iter());
    }
    for (set, elements) in new {
        elements_of(&mut text, "add", &set, elements.into_iter());
    }
    for (watched, ending) in anew {
        let of = |entry: &&Entry| entry.watched == watched;
        let mine = after
            .iter()
            .filter(of)
            .filter_map(|entry| element(&entry.value).filter(|(set, _)| *set == ending).map(|(_, text)| (entry, text)));
        let set = set_name(about.name, watched, ending);
        let _infallible = writeln!(text, "flush set inet huecry {set}");
        let elements = apart(mine.collect(), &mut Written::default());
        let elements = elements.iter().map(|(entry, element)| format!("{element} timeout {}s", seconds(entry, about)));
        elements_of(&mut text, "add", &set, elements);
    }
    text
}

fn elements_of(text: &mut String, verb: &str, set: &str, elements: impl Iterator<Item = String>) {
    let mut elements = elements.peekable();
    if elements.peek().is_none() {
        return;
    }
    let _infallible = writeln!(text, "{verb} element inet huecry {set} {{");
    for element in elements {
        let _infallible = writeln!(text, "    {element},");
    }
    text.push_str("}\n");
}

fn set_name(name: &str, watched: bool, ending: &str) -> String {
    let name = name.replace('-', "_");
    if watched { format!("{name}_watch_{ending}") } else { format!("{name}_{ending}") }
}

fn seconds(entry: &Entry, about: &Sheet<'_>) -> u64 {
    // At least a second: a timeout of nothing means for ever.
    (entry.until.ms_since(about.now) / 1_000).clamp(1, TIMEOUT_S_MAX)
}

/// The set that a value belongs to, and how it stands there.
fn element(value: &Observable) -> Option<(&'static str, String)> {
    match (value.kind(), value.network()) {
        (ObservableType::Ipv4, Some(net)) => Some(("addr4", net.addr().to_string())),
        (ObservableType::Ipv6, Some(net)) => Some(("addr6", net.addr().to_string())),
        (ObservableType::Cidr, Some(IpNet::V4(net))) => Some(("net4", net.to_string())),
        (ObservableType::Cidr, Some(IpNet::V6(net))) => Some(("net6", net.to_string())),
        (ObservableType::Endpoint, _) => {
            let (host, port) = value.text()?.rsplit_once(':')?;
            match host.trim_matches(['[', ']']).parse().ok()? {
                std::net::IpAddr::V4(address) => Some(("port4", format!("{address} . {port}"))),
                std::net::IpAddr::V6(address) => Some(("port6", format!("{address} . {port}"))),
            }
        }
        _ => None,
    }
}

/// Networks of which none lies in another.
fn apart<'a>(mut elements: Vec<(&'a Entry, String)>, written: &mut Written) -> Vec<(&'a Entry, String)> {
    elements.sort_by_key(|(entry, _)| entry.value.network().map(|net| (net.addr(), net.prefix_len())));
    let mut kept: Vec<(&Entry, String)> = Vec::new();
    for (entry, element) in elements {
        let covers =
            |wider: &(&Entry, String)| wider.0.value.network().zip(entry.value.network()).is_some_and(|(wide, net)| wide.contains(&net));
        if kept.last().is_some_and(covers) {
            written.left(COVERED);
        } else {
            kept.push((entry, element));
        }
    }
    kept
}

/// Reads a script as `nft` does, as far as it says which elements its sets have.
pub(super) fn read(text: &str) -> Result<Vec<(String, bool)>, String> {
    let mut found = Vec::new();
    let mut inside = None;
    for (number, line) in (1..).zip(text.split('\n')) {
        let wrong = |what: &str| format!("line {number}: {what}");
        match inside {
            None if line.is_empty() || line.starts_with('#') || line == "add table inet huecry" => (),
            None if line.starts_with("add set inet huecry ") || line.starts_with("flush set inet huecry ") => (),
            None => match line.strip_prefix("add element inet huecry ").and_then(|rest| rest.strip_suffix(" {")) {
                Some(set) if set.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') => inside = Some(set.to_owned()),
                _ => return Err(wrong("no statement of a set")),
            },
            Some(_) if line == "}" => inside = None,
            Some(ref set) => {
                let element = line.strip_prefix("    ").and_then(|rest| rest.strip_suffix("s,")).ok_or_else(|| wrong("no element"))?;
                let (key, timeout) = element.split_once(" timeout ").ok_or_else(|| wrong("an element without a timeout"))?;
                timeout.parse::<u64>().map_err(|_| wrong("a timeout is a number of seconds"))?;
                let value = match key.split_once(" . ") {
                    Some((host, port)) if set.contains("_port") => {
                        port.parse::<u16>().map_err(|_| wrong("no port"))?;
                        match host.parse().map_err(|_| wrong("no address"))? {
                            std::net::IpAddr::V4(address) => format!("{address}:{port}"),
                            std::net::IpAddr::V6(address) => format!("[{address}]:{port}"),
                        }
                    }
                    None if set.contains("_net") => key.parse::<IpNet>().map_err(|_| wrong("no network"))?.to_string(),
                    None => key.parse::<std::net::IpAddr>().map_err(|_| wrong("no address"))?.to_string(),
                    Some(_) => return Err(wrong("a port where none belongs")),
                };
                found.push((value, false));
            }
        }
    }
    if inside.is_some() { Err("the last set has no end".to_owned()) } else { Ok(found) }
}
