//! Response policy zones: a DNS zone whose names are what a resolver refuses.
//!
//! Names answer NXDOMAIN (`CNAME .`), names below one by `*.`, addresses in answers by `rpz-ip` owners. What is only
//! watched stands in a zone of its own (`-watch`) as `rpz-passthru`: the resolver logs it and answers as ever. Such a zone
//! belongs behind all others, because a passthru ends the search.
//!
//! Format: draft-vixie-dnsop-dns-rpz-00 sections 3 to 5; RFC 1035 section 5.

use super::{Entry, Sheet, Written};
use crate::record::{Observable, ObservableType};
use ipnet::IpNet;
use std::fmt::Write as _;

/// Longest name with the zone behind it, in bytes of text (RFC 1035 section 2.3.4), and room for a zone of 60.
const OWNER_BYTES_MAX: usize = 253 - 61;
const TOO_LONG: &str = "the name leaves no room for the zone's own behind it";

pub(super) fn write(entries: &[Entry], about: &Sheet<'_>) -> Written {
    let mut written = Written::default();
    zone(entries, false, about, &mut written);
    if entries.iter().any(|entry| entry.watched) {
        zone(entries, true, about, &mut written);
    }
    written
}

fn zone(entries: &[Entry], watched: bool, about: &Sheet<'_>, written: &mut Written) {
    let serial = u32::try_from(about.serial % (1 << 32)).unwrap_or(u32::MAX);
    let mut text = format!(
        "$TTL 60\n@ IN SOA localhost. hostmaster.localhost. {serial} 3600 600 86400 60\n@ IN NS localhost.\n; {} of huecry, serial {}\n",
        about.name, about.serial
    );
    let action = if watched { "rpz-passthru." } else { "." };
    let mut meant = Vec::new();
    for entry in entries.iter().filter(|entry| entry.watched == watched) {
        let Some(owner) = owner(&entry.value) else {
            written.left("a resolver decides about names and addresses only");
            continue;
        };
        if entry.value.kind() == ObservableType::Domain && owner.rsplit('.').next().is_some_and(|label| label.starts_with("rpz-")) {
            // `32.1.2.0.192.rpz-ip` is a name to everybody but a resolver, which would stop an address for it.
            written.left("the name is one that policy zones give a meaning of their own");
            continue;
        }
        if owner.len() + 2 > OWNER_BYTES_MAX {
            written.left(TOO_LONG);
            continue;
        }
        // Writing to a string cannot fail.
        let _infallible = writeln!(text, "{owner} CNAME {action}");
        if entry.below {
            let _infallible = writeln!(text, "*.{owner} CNAME {action}");
        }
        meant.push((entry.value.to_string(), entry.below));
    }
    written.file(if watched { "-watch.zone" } else { ".zone" }, text, meant);
}

fn owner(value: &Observable) -> Option<String> {
    match value.kind() {
        ObservableType::Domain => value.text().map(str::to_owned),
        ObservableType::Ipv4 | ObservableType::Ipv6 | ObservableType::Cidr => value.network().map(trigger),
        _ => None,
    }
}

/// The owner that stands for an address or network: its parts in reverse behind the prefix length; the longest run of zeros
/// of an IPv6 address is `zz` (draft section 4.3).
fn trigger(net: IpNet) -> String {
    match net {
        IpNet::V4(net) => {
            let [a, b, c, d] = net.addr().octets();
            format!("{}.{d}.{c}.{b}.{a}.rpz-ip", net.prefix_len())
        }
        IpNet::V6(net) => {
            let groups = net.addr().segments();
            let (mut best, mut at) = (0..0, 0);
            while at < groups.len() {
                let zeros = groups.iter().skip(at).take_while(|group| **group == 0).count();
                if zeros > best.len() && zeros > 1 {
                    best = at..at + zeros;
                }
                at += zeros.max(1);
            }
            let mut parts: Vec<String> = Vec::new();
            for (index, group) in groups.iter().enumerate() {
                match best.contains(&index) {
                    true if index == best.start => parts.push("zz".to_owned()),
                    true => (),
                    false => parts.push(format!("{group:x}")),
                }
            }
            parts.reverse();
            format!("{}.{}.rpz-ip", net.prefix_len(), parts.join("."))
        }
    }
}

/// Reads a zone as a resolver does, record by record: nothing else may stand in it.
pub(super) fn read(text: &str) -> Result<Vec<(String, bool)>, String> {
    let mut found: Vec<(String, bool)> = Vec::new();
    for (number, line) in (1..).zip(text.split('\n')) {
        let wrong = |what: &str| format!("line {number}: {what}");
        if line.is_empty() || line.starts_with(';') || line.starts_with("$TTL ") || line.starts_with("@ IN ") {
            continue;
        }
        let mut words = line.split(' ');
        let (Some(owner), Some("CNAME"), Some("." | "rpz-passthru."), None) = (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(wrong("no record of a policy zone"));
        };
        if !owner.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.*".contains(&byte)) {
            return Err(wrong("a name with other signs than letters, digits, `-`, `_`"));
        }
        if let Some(name) = owner.strip_prefix("*.") {
            match found.last_mut() {
                Some((last, below)) if last == name => *below = true,
                _ => return Err(wrong("a wildcard that does not follow its name")),
            }
        } else if let Some(trigger) = owner.strip_suffix(".rpz-ip") {
            found.push((read_trigger(trigger).ok_or_else(|| wrong("no address"))?, false));
        } else if owner.contains('*') {
            return Err(wrong("a wildcard inside a name"));
        } else {
            found.push((owner.to_owned(), false));
        }
    }
    Ok(found)
}

fn read_trigger(text: &str) -> Option<String> {
    let (prefix, rest) = text.split_once('.')?;
    let parts: Vec<&str> = rest.split('.').rev().collect();
    let is_v4 = parts.len() == 4 && parts.iter().all(|part| part.parse::<u8>().is_ok());
    // Four groups of IPv6 without `zz` are no address, so what looks like IPv4 is.
    let address: std::net::IpAddr = if is_v4 {
        parts.join(".").parse().ok()?
    } else {
        let text = parts.join(":");
        let text = match text.as_str() {
            "zz" => "::".to_owned(),
            _ if text.starts_with("zz:") => text.replacen("zz:", "::", 1),
            _ if text.ends_with(":zz") => text.replace(":zz", "::"),
            _ => text.replace(":zz:", "::"),
        };
        std::net::IpAddr::V6(text.parse().ok()?)
    };
    let net = IpNet::new(address, prefix.parse().ok()?).ok()?;
    Some(if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.to_string() })
}
