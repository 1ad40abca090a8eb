//! Lists: names of things known to be good, often mistaken, or our own.
//!
//! A list is a file: a MISP warninglist as published, or plain text with a name, address or network a line. A value is
//! matched once against all of them; policies see only the names and roles of the lists that it is on.

use crate::{
    cbor::uint_enum,
    record::{Observable, ObservableType},
};
use ipnet::IpNet;
use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
};

uint_enum! {
    /// What being on a list means.
    pub enum ListRole("list role") {
        /// Known good: never to be enforced.
        Clears = 0 "clears",
        /// Often reported by mistake: a person should look.
        Warns = 1 "warns",
        /// Ours or our clients'.
        Own = 2 "own",
    }
}

/// Longest list file, in bytes; the longest published one, cloudflare-top1m, has 23 MiB.
pub const LIST_FILE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Most lists a node may load: their names are a number of 16 bits in the tables, and people have to know them.
pub const LISTS_MAX: usize = 1_024;

/// Why a list is refused, whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    #[error("list `{list}`: {what}")]
    Unreadable { list: String, what: String },
    #[error("list `{0}` is there twice; names of lists are unique")]
    SameName(String),
    #[error("more than 1,024 lists")]
    Many,
}

/// What was read of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListReport {
    pub entries: usize,
    /// Entries that are no name, address or network, such as a header line or a pattern; the first is quoted.
    pub skipped: usize,
    pub first_skipped: Option<String>,
}

struct List {
    name: String,
    role: ListRole,
    /// First and last address of each network, sorted and merged, so that one binary search answers.
    ranges: Vec<(u128, u128)>,
}

type ListNumber = u16;

/// Every loaded list, and the three that are built in.
pub struct Lists {
    lists: Vec<List>,
    /// Values that are on a list exactly.
    exact: HashMap<String, Vec<ListNumber>>,
    /// Names that are on a list with everything below them.
    suffixes: HashMap<String, Vec<ListNumber>>,
}

/// The lists that one value is on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed<'a> {
    pub names: BTreeSet<&'a str>,
    pub roles: BTreeSet<&'static str>,
}

/// Private, reserved, local and multicast space: IANA's special-purpose registries, less documentation.
const RESERVED_NETWORKS: [&str; 22] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "::/128",
    "::1/128",
    "100::/64",
    "2001::/32",
    "2002::/16",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
    "5f00::/16",
];
const RESERVED_NAMES: [&str; 8] = ["localhost", "local", "internal", "home.arpa", "in-addr.arpa", "ip6.arpa", "invalid", "lan"];
/// RFC 5737, RFC 3849, RFC 9637, RFC 2606.
const DOCUMENTATION_NETWORKS: [&str; 5] = ["192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "3fff::/20"];
const DOCUMENTATION_NAMES: [&str; 5] = ["example", "test", "example.com", "example.net", "example.org"];

const PUBLIC_SUFFIX: &str = "public-suffix";

impl Default for Lists {
    fn default() -> Self {
        let mut lists = Self { lists: Vec::new(), exact: HashMap::new(), suffixes: HashMap::new() };
        let built_in: [(&str, ListRole, &[&str], &[&str]); 3] = [
            ("private-and-reserved", ListRole::Clears, &RESERVED_NETWORKS, &RESERVED_NAMES),
            ("documentation", ListRole::Clears, &DOCUMENTATION_NETWORKS, &DOCUMENTATION_NAMES),
            (PUBLIC_SUFFIX, ListRole::Clears, &[], &[]),
        ];
        for (name, role, networks, names) in built_in {
            let entries = networks.iter().copied().map(str::to_owned).chain(names.iter().map(|name| format!(".{name}")));
            // INVARIANT: the names differ and are fewer than LISTS_MAX.
            let _report = lists.add(name, role, entries);
        }
        lists
    }
}

impl Lists {
    /// Adds a list from the text of its file: a MISP warninglist (JSON), or plain lines with `#` comments.
    ///
    /// In plain lines a name means itself and everything below it; so does a MISP list of type `hostname`, and an entry
    /// with a leading dot in any list. Nothing of a refused list is kept.
    pub fn load(&mut self, name: &str, role: ListRole, text: &str) -> Result<ListReport, ListError> {
        let unreadable = |what: String| ListError::Unreadable { list: name.to_owned(), what };
        if text.trim_start().starts_with('{') {
            let misp: MispList = serde_json::from_str(text).map_err(|error| unreadable(error.to_string()))?;
            let below = match misp.kind.as_str() {
                "hostname" => true,
                "string" | "cidr" => false,
                other => return Err(unreadable(format!("lists of type `{other}` hold patterns, which are not matched"))),
            };
            let entry = move |entry: String| if below && !entry.starts_with('.') { format!(".{entry}") } else { entry };
            return self.add(name, role, misp.list.into_iter().map(entry));
        }
        let plain = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()).filter(|line| !line.is_empty());
        let entry = |line: &str| if line.starts_with('.') || line.parse::<IpAddr>().is_ok() { line.to_owned() } else { format!(".{line}") };
        let report = self.add(name, role, plain.map(entry))?;
        if report.entries == 0 {
            self.lists.pop();
            return Err(unreadable("it has no entries".to_owned()));
        }
        Ok(report)
    }

    fn add(&mut self, name: &str, role: ListRole, entries: impl Iterator<Item = String>) -> Result<ListReport, ListError> {
        if self.lists.iter().any(|list| list.name == name) {
            return Err(ListError::SameName(name.to_owned()));
        }
        let number = ListNumber::try_from(self.lists.len()).ok().filter(|_| self.lists.len() < LISTS_MAX).ok_or(ListError::Many)?;
        let mut report = ListReport::default();
        let mut ranges = Vec::new();
        for entry in entries {
            let bare = entry.trim().trim_start_matches('.');
            if let Some(net) = network(bare) {
                ranges.push(bounds(net));
            } else if entry.trim().starts_with('.') {
                match below(bare) {
                    Some(name) => self.suffixes.entry(name).or_default().push(number),
                    None => {
                        report.skipped += 1;
                        report.first_skipped.get_or_insert_with(|| bare.chars().take(80).collect());
                        continue;
                    }
                }
            } else if let Ok(value) = Observable::recognise(bare) {
                self.exact.entry(value.to_string()).or_default().push(number);
            } else {
                report.skipped += 1;
                report.first_skipped.get_or_insert_with(|| bare.chars().take(80).collect());
                continue;
            }
            report.entries += 1;
        }
        self.lists.push(List { name: name.to_owned(), role, ranges: merged(ranges) });
        Ok(report)
    }

    /// The lists that `value` is on. A network is on a list when they share an address; a URL, endpoint or e-mail address
    /// when its host is, or itself.
    pub fn of(&self, value: &Observable) -> Listed<'_> {
        let mut found = BTreeSet::new();
        if let Some(net) = value.network() {
            self.collect_range(bounds(net), &mut found);
        }
        if let Some(text) = value.text() {
            found.extend(self.exact.get(text).into_iter().flatten());
        } else if !matches!(value.kind(), ObservableType::Ipv4 | ObservableType::Ipv6 | ObservableType::Cidr) {
            found.extend(self.exact.get(&value.to_string()).into_iter().flatten());
        }
        let mut listed = Listed::default();
        if let Some(host) = value.host() {
            match host.trim_matches(['[', ']']).parse::<IpAddr>() {
                Ok(address) => self.collect_range(bounds(address.into()), &mut found),
                Err(_) => self.collect_name(&host, &mut found),
            }
            if psl::suffix_str(&host) == Some(&host) && host.contains('.') {
                listed.names.insert(PUBLIC_SUFFIX);
                listed.roles.insert(ListRole::Clears.name());
            }
        }
        for list in found.into_iter().filter_map(|number| self.lists.get(usize::from(number))) {
            listed.names.insert(&list.name);
            listed.roles.insert(list.role.name());
        }
        listed
    }

    fn collect_name(&self, host: &str, found: &mut BTreeSet<ListNumber>) {
        found.extend(self.exact.get(host).into_iter().flatten());
        let mut rest = host;
        loop {
            found.extend(self.suffixes.get(rest).into_iter().flatten());
            match rest.split_once('.') {
                Some((_, parent)) => rest = parent,
                None => return,
            }
        }
    }

    fn collect_range(&self, (first, last): (u128, u128), found: &mut BTreeSet<ListNumber>) {
        for (number, list) in (0..).zip(&self.lists) {
            // The only candidate is the last range that begins at or before our end: they are merged, so disjoint.
            let after = list.ranges.partition_point(|range| range.0 <= last);
            if after.checked_sub(1).and_then(|at| list.ranges.get(at)).is_some_and(|range| range.1 >= first) {
                found.insert(number);
            }
        }
    }

    /// Names and roles of the loaded lists, built-in ones included.
    pub fn names(&self) -> impl Iterator<Item = (&str, ListRole)> {
        self.lists.iter().map(|list| (list.name.as_str(), list.role))
    }
}

#[derive(serde::Deserialize)]
struct MispList {
    #[serde(rename = "type")]
    kind: String,
    list: Vec<String>,
}

fn network(text: &str) -> Option<IpNet> {
    text.parse::<IpNet>().map(|net| net.trunc()).ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// A name that stands for itself and everything below it; a single label, such as a top-level domain, may.
fn below(name: &str) -> Option<String> {
    let lower = name.trim_end_matches('.').to_ascii_lowercase();
    let label = |label: &str| !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if !lower.contains('.') && label(&lower) {
        return Some(lower);
    }
    Observable::from_text(ObservableType::Domain, &lower).ok().map(|value| value.to_string())
}

/// First and last address of a network, IPv4 mapped into IPv6 so that one table serves both.
fn bounds(net: IpNet) -> (u128, u128) {
    let number = |address: IpAddr| match address {
        IpAddr::V4(v4) => u128::from(v4.to_ipv6_mapped()),
        IpAddr::V6(v6) => u128::from(v6),
    };
    (number(net.network()), number(net.broadcast()))
}

fn merged(mut ranges: Vec<(u128, u128)>) -> Vec<(u128, u128)> {
    ranges.sort_unstable();
    let mut out: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match out.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => out.push((first, last)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(lists: &Lists, text: &str) -> Vec<String> {
        lists.of(&Observable::recognise(text).unwrap()).names.into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn private_and_reserved_space_is_known_in_every_shape() {
        let lists = Lists::default();
        for text in
            ["10.1.2.3", "127.0.0.1", "http://192.168.1.1/x", "224.0.0.1", "[fe80::1]:80", "10.0.0.0/8", "8.0.0.0/5", "printer.local"]
        {
            assert_eq!(on(&lists, text), ["private-and-reserved"], "{text}");
        }
        assert_eq!(on(&lists, "192.0.2.7"), ["documentation"]);
        assert_eq!(on(&lists, "evil.example"), ["documentation"]);
        assert_eq!(on(&lists, "co.uk"), ["public-suffix"]);
        assert!(on(&lists, "8.8.8.8").is_empty());
    }

    #[test]
    fn plain_and_misp_lists_with_their_real_defects_are_read() {
        let mut lists = Lists::default();
        lists.load("own", ListRole::Own, "# ours\nagency.test # the site\n203.0.113.0/28\n198.51.100.7\n").unwrap();
        let misp = r#"{"name":"x","type":"cidr","version":1,"list":["198.51.100.9","2001:db8:1::/48","domain"]}"#;
        let report = lists.load("misp", ListRole::Warns, misp).unwrap();
        assert_eq!((report.entries, report.first_skipped.as_deref()), (2, Some("domain")));
        lists.load("dots", ListRole::Clears, r#"{"type":"string","list":[".cdn.test","exact.test"]}"#).unwrap();
        let own = |text: &str| on(&lists, text).into_iter().filter(|name| name != "documentation").collect::<Vec<_>>();
        assert_eq!(own("mail.agency.test"), ["own"]);
        assert_eq!(own("203.0.113.15"), ["own"]);
        assert_eq!(own("198.51.100.9"), ["misp"]);
        assert_eq!(own("a.cdn.test"), ["dots"]);
        assert_eq!(own("exact.test"), ["dots"]);
        assert!(own("sub.exact.test").is_empty());
        assert!(lists.load("own", ListRole::Own, "a.test").is_err());
        let bad = include_str!("../../node-config/bad/list.json");
        assert!(lists.load("re", ListRole::Own, bad).unwrap_err().to_string().contains("hold patterns"));
        let sample = include_str!("../../node-config/lists/our-networks.txt");
        assert_eq!(lists.load("ours", ListRole::Own, sample).unwrap(), ListReport { entries: 3, ..ListReport::default() });
    }
}
