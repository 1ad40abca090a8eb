//! Lists: names of things known to be good, often mistaken, our own, or merely worth knowing.
//!
//! ```text
//! file -read-> entries -add-> one table of names and values, one of address ranges
//! value -of-> Listed (the lists it is on, by number)
//! ```
//!
//! A value is matched once against all lists together, and policies see only the names and roles of those that it is on.
//! A name is on a list with everything below it, but never across a public suffix: `evil.duckdns.org` is not `duckdns.org`
//! (Public Suffix List, private part included). What we write ourselves about our own names does cross it.

mod file;
mod ranges;
mod roles;

pub use file::{LIST_FILE_BYTES_MAX, ListError};
pub use roles::{ListRole, RoleTable, ShippedRole};

use crate::record::{Observable, ObservableType};
use file::Entry;
use hashbrown::HashMap;
use ipnet::IpNet;
use ranges::{Bounds, Ranges};
use smallvec::SmallVec;
use std::{
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering},
};
use unicode_security::{MixedScript as _, skeleton};

/// Most lists a node may load: their names are a number of 16 bits in the tables, and people have to know them.
pub const LISTS_MAX: usize = 1_024;
/// Most entries of all lists together: ten times what is published today, some 400 MiB.
pub const LIST_ENTRIES_MAX: usize = 4_000_000;

/// What was read of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListReport {
    pub entries: usize,
    /// Entries that are no name, address or network, such as a header line or a pattern; the first is quoted.
    pub skipped: usize,
    pub first_skipped: Option<String>,
}

/// A loaded list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    pub name: String,
    pub role: ListRole,
    pub entries: usize,
}

/// A list that should be here and is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingList {
    pub name: String,
    pub role: ListRole,
    /// What is wrong, for a person.
    pub why: String,
    /// Whether an earlier state of it is used in its place.
    pub stands_in: bool,
}

type ListNumber = u16;
/// A set of lists, as its place in [`Lists::sets`]; most entries of most lists share a few dozen.
type SetNumber = u32;
const NO_LIST: SetNumber = 0;

/// The sets that a name is in: by itself, and with everything below it.
#[derive(Clone, Copy, Default)]
struct NameSets {
    exact: SetNumber,
    below: SetNumber,
    /// Sets of lists that clear, or are our own, and hold something below this name.
    above: SetNumber,
}

/// Distinct sets of lists, so that an entry costs four bytes however many lists it is on.
struct Sets {
    all: Vec<Box<[ListNumber]>>,
    numbers: HashMap<Box<[ListNumber]>, SetNumber>,
}

impl Sets {
    fn new() -> Self {
        Self { all: vec![Box::default()], numbers: HashMap::from_iter([(Box::default(), NO_LIST)]) }
    }

    fn get(&self, set: SetNumber) -> &[ListNumber] {
        self.all.get(set as usize).map(AsRef::as_ref).unwrap_or_default()
    }

    fn number(&mut self, mut lists: Vec<ListNumber>) -> SetNumber {
        lists.sort_unstable();
        lists.dedup();
        if let Some(number) = self.numbers.get(lists.as_slice()) {
            return *number;
        }
        // INVARIANT: fewer sets than entries, and those are bounded far below 2^32.
        let number = self.all.len() as SetNumber;
        self.all.push(lists.clone().into_boxed_slice());
        self.numbers.insert(lists.into_boxed_slice(), number);
        number
    }

    fn with(&mut self, set: SetNumber, list: ListNumber) -> SetNumber {
        if self.get(set).contains(&list) {
            return set;
        }
        let mut lists = self.get(set).to_vec();
        lists.push(list);
        self.number(lists)
    }
}

/// Every loaded list, and the five that are built in.
pub struct Lists {
    lists: Vec<List>,
    missing: Vec<MissingList>,
    names: HashMap<Box<str>, NameSets>,
    /// Names that hold for everything below them even across a public suffix: reserved ones, and our own. A few.
    crossing: HashMap<Box<str>, SetNumber>,
    /// Values that are no name, address or network: hashes and the like, in canonical spelling.
    values: HashMap<Box<str>, SetNumber>,
    loading: Vec<(Bounds, ListNumber)>,
    ranges: Ranges,
    sets: Sets,
    /// Differs from that of every other `Lists` of this process, so that what was remembered under one is not used under another.
    generation: u64,
}

/// The lists that one value is on.
#[derive(Clone)]
pub struct Listed<'a> {
    lists: &'a Lists,
    /// Sorted.
    numbers: SmallVec<[ListNumber; 8]>,
}

impl<'a> Listed<'a> {
    /// On none of `lists`.
    pub fn nowhere(lists: &'a Lists) -> Self {
        Self { lists, numbers: SmallVec::new() }
    }

    /// The lists, in the order in which they were loaded.
    pub fn lists(&self) -> impl Iterator<Item = &'a List> {
        self.numbers.iter().filter_map(|number| self.lists.lists.get(usize::from(*number)))
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &'a str> {
        self.lists().map(|list| list.name.as_str())
    }

    /// On no list at all.
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// What tells this set of lists from every other, in memo keys.
    pub(super) fn key(&self) -> (u64, &[ListNumber]) {
        (self.lists.generation, &self.numbers)
    }

    fn settled(mut self) -> Self {
        self.numbers.sort_unstable();
        self.numbers.dedup();
        self
    }
}

impl std::fmt::Debug for Listed<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_list().entries(self.names()).finish()
    }
}

/// Private, reserved, local and multicast space: IANA's special-purpose registries, less documentation.
const RESERVED_NETWORKS: [&str; 24] = [
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
    "64:ff9b::/96",
    "64:ff9b:1::/48",
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

/// Root servers, public resolvers, time: protected before any list is loaded.
const INFRASTRUCTURE: &str = include_str!("../../../node-config/lists/internet-infrastructure.txt");

/// Built-in lists come first; the last two are computed and not stored: the Public Suffix List, and names that look like
/// others (UTS 39: a label of mixed scripts, or one that reads as ASCII and is not).
const BUILT_IN: usize = 5;
const PUBLIC_SUFFIX: ListNumber = 3;
const LOOK_ALIKE: ListNumber = 4;

static GENERATIONS: AtomicU64 = AtomicU64::new(1);

impl Default for Lists {
    fn default() -> Self {
        let mut lists = Self {
            lists: Vec::new(),
            missing: Vec::new(),
            names: HashMap::new(),
            crossing: HashMap::new(),
            values: HashMap::new(),
            loading: Vec::new(),
            ranges: Ranges::default(),
            sets: Sets::new(),
            generation: GENERATIONS.fetch_add(1, Ordering::Relaxed),
        };
        // Documentation clears nothing: blocking it harms nobody, and a newcomer practises with it.
        let lines = |text: &'static str| text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let (addresses, names): (Vec<&str>, Vec<&str>) = lines(INFRASTRUCTURE).partition(|line| file::network(line).is_some());
        let built_in: [(&str, ListRole, &[&str], &[&str]); BUILT_IN] = [
            ("private-and-reserved", ListRole::Clears, &RESERVED_NETWORKS, &RESERVED_NAMES),
            ("documentation", ListRole::Notes, &DOCUMENTATION_NETWORKS, &DOCUMENTATION_NAMES),
            ("internet-infrastructure", ListRole::Clears, &addresses, &names),
            ("public-suffix", ListRole::Clears, &[], &[]),
            ("look-alike", ListRole::Notes, &[], &[]),
        ];
        for (name, role, networks, names) in built_in {
            let networks = networks.iter().filter_map(|text| file::network(text)).map(Entry::Network);
            let entries = networks.chain(names.iter().map(|name| Entry::Below((*name).to_owned())));
            // INVARIANT: the names differ and are fewer than LISTS_MAX.
            let _report = lists.add(name, role, entries.map(Ok));
        }
        lists.settle();
        lists
    }
}

impl Lists {
    /// Adds a list from the text of its file: a MISP warninglist (JSON), or plain lines with `#` comments.
    ///
    /// In plain lines a name means itself and everything below it; so does a MISP list of type `hostname` or `substring`,
    /// and an entry with a leading dot in any list. Nothing of a refused list is kept. Call [`Self::settle`] when all are
    /// there.
    pub fn load(&mut self, name: &str, role: ListRole, text: &str) -> Result<ListReport, ListError> {
        let entries = file::read(name, text)?;
        let before: usize = self.lists.iter().map(|list| list.entries).sum();
        if before + entries.len() > LIST_ENTRIES_MAX {
            return Err(ListError::Long(name.to_owned()));
        }
        self.add(name, role, entries.into_iter())
    }

    /// Notes that a list should be here and is not. A missing list that clears keeps everything from being enforced.
    pub fn miss(&mut self, missing: MissingList) {
        self.missing.push(missing);
    }

    /// Lists that should be here and are not.
    pub fn missing(&self) -> &[MissingList] {
        &self.missing
    }

    /// Whether every list that keeps values from being enforced is here in its newest state. An earlier state that stands
    /// in for one protects what it names, and no more: nothing new is enforced meanwhile.
    pub fn can_clear(&self) -> bool {
        !self.missing.iter().any(|list| list.role.protects())
    }

    fn add(&mut self, name: &str, role: ListRole, entries: impl Iterator<Item = Result<Entry, String>>) -> Result<ListReport, ListError> {
        if self.lists.iter().any(|list| list.name == name) {
            return Err(ListError::SameName(name.to_owned()));
        }
        let number = ListNumber::try_from(self.lists.len()).ok().filter(|_| self.lists.len() < LISTS_MAX).ok_or(ListError::Many)?;
        let mut report = ListReport::default();
        for entry in entries {
            match entry {
                Ok(entry) => {
                    report.entries += 1;
                    self.put(number, role, entry);
                }
                Err(odd) => {
                    report.skipped += 1;
                    report.first_skipped.get_or_insert(odd);
                }
            }
        }
        self.lists.push(List { name: name.to_owned(), role, entries: report.entries });
        Ok(report)
    }

    fn put(&mut self, list: ListNumber, role: ListRole, entry: Entry) {
        match entry {
            Entry::Network(net) => self.loading.push((bounds(net), list)),
            Entry::Value(text) => {
                let sets = self.values.entry_ref(text.as_str()).or_default();
                *sets = self.sets.with(*sets, list);
            }
            Entry::Exact(name) => {
                let sets = self.names.entry_ref(name.as_str()).or_default();
                sets.exact = self.sets.with(sets.exact, list);
                self.put_above(list, role, &name);
            }
            Entry::Below(name) => {
                if usize::from(list) < BUILT_IN || role == ListRole::Own {
                    let set = self.crossing.entry_ref(name.as_str()).or_default();
                    *set = self.sets.with(*set, list);
                } else {
                    let sets = self.names.entry_ref(name.as_str()).or_default();
                    sets.below = self.sets.with(sets.below, list);
                }
                self.put_above(list, role, &name);
            }
        }
    }

    /// Notes under every parent of a protected name that blocking the parent would block the name.
    fn put_above(&mut self, list: ListNumber, role: ListRole, name: &str) {
        if !role.protects() {
            return;
        }
        let suffix = psl::suffix_str(name).map_or(0, str::len);
        let mut rest = name;
        while let Some((_, parent)) = rest.split_once('.').filter(|(_, parent)| parent.len() > suffix) {
            let sets = self.names.entry_ref(parent).or_default();
            sets.above = self.sets.with(sets.above, list);
            rest = parent;
        }
    }

    /// Makes what was loaded ready to be asked.
    pub fn settle(&mut self) {
        let mut ranges = std::mem::take(&mut self.loading);
        ranges.extend(self.ranges.entries(|set| self.sets.get(set).to_vec()));
        self.ranges = Ranges::of(ranges, |lists| self.sets.number(lists));
    }

    /// The lists that `value` is on. A network is on a list when they share an address; a URL, endpoint or e-mail address
    /// when its host is, or itself.
    pub fn of(&self, value: &Observable) -> Listed<'_> {
        let mut found = Listed::nowhere(self);
        if let Some(net) = value.network() {
            self.collect_range(net, &mut found);
            return found.settled();
        }
        match value.kind() {
            ObservableType::Domain => self.collect_name(value.text().unwrap_or_default(), &mut found),
            ObservableType::Url | ObservableType::Endpoint | ObservableType::Email => {
                self.collect_value(value.text().unwrap_or_default(), &mut found);
                self.collect_host(value, &mut found);
            }
            ObservableType::Other => (),
            _ => match value.text() {
                Some(text) => self.collect_value(text, &mut found),
                None => self.collect_value(&value.to_string(), &mut found),
            },
        }
        found.settled()
    }

    /// Lists that clear, or are our own, and hold something below this name: to block the name with everything below it
    /// would block that too.
    pub fn below(&self, name: &str) -> Listed<'_> {
        let mut found = Listed::nowhere(self);
        if let Some(sets) = self.names.get(name) {
            found.numbers.extend_from_slice(self.sets.get(sets.above));
        }
        found
    }

    /// The lists that keep `value` from being enforced: it is on them, or, blocked with everything `below` it, would take
    /// what is on them along.
    pub fn protecting(&self, value: &Observable, below: bool) -> impl Iterator<Item = &List> {
        let above = value.text().filter(|_| below).map_or_else(|| Listed::nowhere(self), |name| self.below(name));
        let on: Vec<&List> = self.of(value).lists().filter(|list| list.role.protects()).collect();
        let above: Vec<&List> = above.lists().collect();
        on.into_iter().chain(above)
    }

    fn collect_host(&self, value: &Observable, found: &mut Listed<'_>) {
        let Some(host) = value.host() else { return };
        match host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(address) => self.collect_range(address.into(), found),
            Err(_) => self.collect_name(&host, found),
        }
    }

    fn collect_value(&self, text: &str, found: &mut Listed<'_>) {
        if let Some(set) = self.values.get(text) {
            found.numbers.extend_from_slice(self.sets.get(*set));
        }
    }

    fn collect_name(&self, host: &str, found: &mut Listed<'_>) {
        let suffix = psl::suffix(host.as_bytes()).filter(psl::Suffix::is_known).map_or(0, |suffix| suffix.as_bytes().len());
        if suffix == host.len() && host.contains('.') {
            found.numbers.push(PUBLIC_SUFFIX);
        }
        if host.contains("xn--") && host.split('.').any(looks_alike) {
            found.numbers.push(LOOK_ALIKE);
        }
        if let Some(sets) = self.names.get(host) {
            found.numbers.extend_from_slice(self.sets.get(sets.exact));
            found.numbers.extend_from_slice(self.sets.get(sets.below));
        }
        let mut name = host;
        loop {
            if let Some(set) = self.crossing.get(name) {
                found.numbers.extend_from_slice(self.sets.get(*set));
            }
            let Some((_, parent)) = name.split_once('.') else { return };
            if parent.len() > suffix
                && let Some(sets) = self.names.get(parent)
            {
                found.numbers.extend_from_slice(self.sets.get(sets.below));
            }
            name = parent;
        }
    }

    fn collect_range(&self, net: IpNet, found: &mut Listed<'_>) {
        let (first, last) = bounds(net);
        self.ranges.collect(first, last, |set| self.sets.get(set), &mut found.numbers);
    }

    /// The loaded lists, built-in ones first.
    pub fn all(&self) -> &[List] {
        &self.lists
    }
}

impl ListRole {
    /// Whether a value on such a list is never enforced without two people.
    pub fn protects(self) -> bool {
        matches!(self, Self::Clears | Self::Own)
    }
}

/// Whether a label in punycode is made to be taken for another.
fn looks_alike(label: &str) -> bool {
    let Some(unicode) = label.strip_prefix("xn--").and_then(idna::punycode::decode_to_string) else { return false };
    !unicode.is_single_script() || skeleton(&unicode).all(|char| char.is_ascii())
}

/// First and last address of a network, IPv4 mapped into IPv6 so that one table serves both.
fn bounds(net: IpNet) -> Bounds {
    let number = |address: IpAddr| match address {
        IpAddr::V4(v4) => u128::from(v4.to_ipv6_mapped()),
        IpAddr::V6(v6) => u128::from(v6),
    };
    (number(net.network()), number(net.broadcast()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(lists: &Lists, text: &str) -> Vec<String> {
        lists.of(&Observable::recognise(text).unwrap()).names().map(str::to_owned).collect()
    }

    fn loaded(files: &[(&str, ListRole, &str)]) -> Lists {
        let mut lists = Lists::default();
        for (name, role, text) in files {
            lists.load(name, *role, text).unwrap();
        }
        lists.settle();
        lists
    }

    #[test]
    fn private_and_reserved_space_is_known_in_every_shape() {
        let lists = Lists::default();
        for text in
            ["10.1.2.3", "127.0.0.1", "http://192.168.1.1/x", "224.0.0.1", "[fe80::1]:80", "10.0.0.0/8", "8.0.0.0/5", "printer.local"]
        {
            assert_eq!(on(&lists, text)[0], "private-and-reserved", "{text}");
        }
        assert_eq!(on(&lists, "192.0.2.7"), ["documentation"]);
        assert_eq!(on(&lists, "evil.example"), ["documentation"]);
        assert_eq!(on(&lists, "co.uk"), ["public-suffix"]);
        assert!(on(&lists, "8.8.8.7").is_empty());
        for text in ["8.8.8.8", "8.8.8.0/24", "a.root-servers.net", "2001:4860:4860::8888"] {
            assert_eq!(on(&lists, text), ["internet-infrastructure"], "{text}");
        }
    }

    #[test]
    fn plain_and_misp_lists_with_their_real_defects_are_read() {
        let misp = r#"{"name":"x","type":"cidr","version":1,"list":["198.51.100.9","2001:db8:1::/48","domain"]}"#;
        let mut lists = Lists::default();
        lists.load("own", ListRole::Own, "# ours\nagency.test # the site\n203.0.113.0/28\n198.51.100.7\n").unwrap();
        let report = lists.load("misp", ListRole::Warns, misp).unwrap();
        assert_eq!((report.entries, report.first_skipped.as_deref()), (2, Some("domain")));
        lists.load("dots", ListRole::Clears, r#"{"type":"string","list":[".cdn.test","exact.test"]}"#).unwrap();
        lists.settle();
        let own = |text: &str| on(&lists, text).into_iter().filter(|name| name != "documentation").collect::<Vec<_>>();
        assert_eq!(own("mail.agency.test"), ["own"]);
        assert_eq!(own("203.0.113.15"), ["own"]);
        assert_eq!(own("198.51.100.9"), ["misp"]);
        assert_eq!(own("a.cdn.test"), ["dots"]);
        assert_eq!(own("exact.test"), ["dots"]);
        assert!(own("sub.exact.test").is_empty());
        assert!(lists.load("own", ListRole::Own, "a.test").is_err());
        let bad = include_str!("../../../node-config/bad/list.json");
        assert!(lists.load("re", ListRole::Own, bad).unwrap_err().to_string().contains("hold patterns"));
        let sample = include_str!("../../../node-config/lists/our-networks.txt");
        assert_eq!(lists.load("ours", ListRole::Own, sample).unwrap(), ListReport { entries: 3, ..ListReport::default() });
    }

    #[test]
    fn a_name_below_a_dynamic_dns_service_is_not_the_service() {
        let clears = r#"{"type":"hostname","list":["duckdns.org","google.com","co.uk"]}"#;
        let lists = loaded(&[("good", ListRole::Clears, clears), ("ours", ListRole::Own, "gov.sg\n")]);
        assert_eq!(on(&lists, "duckdns.org"), ["public-suffix", "good"]);
        assert!(on(&lists, "evil.duckdns.org").is_empty());
        assert!(on(&lists, "evil.co.uk").is_empty());
        assert_eq!(on(&lists, "www.google.com"), ["good"]);
        assert_eq!(on(&lists, "mail.agency.gov.sg"), ["ours"], "what is ours is ours, whatever the suffix list says");
    }

    #[test]
    fn d_05_a_name_that_looks_like_another_is_flagged_and_shown_as_punycode() {
        let lists = Lists::default();
        // Cyrillic letters among Latin ones, and a name wholly of Cyrillic letters that reads as Latin.
        for text in ["p\u{430}ypal.org", "\u{440}\u{430}\u{443}\u{440}\u{430}l.org", "\u{441}\u{430}\u{440}\u{435}.org"] {
            let value = Observable::recognise(text).unwrap();
            assert!(value.to_string().starts_with("xn--") && value.to_string().is_ascii(), "{value}");
            assert_eq!(lists.of(&value).names().collect::<Vec<_>>(), ["look-alike"], "{text}");
        }
        for text in ["m\u{fc}nchen.org", "\u{43f}\u{440}\u{438}\u{43c}\u{435}\u{440}.org", "\u{4f8b}.org", "plain.org"] {
            assert!(on(&lists, text).is_empty(), "{text}");
        }
    }

    #[test]
    fn what_stands_above_a_protected_name_is_known() {
        let lists = loaded(&[("good", ListRole::Clears, "cdn.bank.test.example.org\n"), ("odd", ListRole::Warns, "a.b.odd.org\n")]);
        let below = |name: &str| lists.below(name).names().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(below("bank.test.example.org"), ["good"]);
        assert!(below("odd.org").is_empty());
        assert!(below("org").is_empty());
    }

    #[test]
    fn a_missing_list_that_clears_says_so() {
        let mut lists = Lists::default();
        let missing = |role| MissingList { name: "x".to_owned(), role, why: "gone".to_owned(), stands_in: true };
        lists.miss(missing(ListRole::Warns));
        assert!(lists.can_clear());
        lists.miss(missing(ListRole::Clears));
        assert!(!lists.can_clear());
    }

    proptest::proptest! {
        /// The oracle: every entry of every list, one after another.
        #[test]
        fn ranges_answer_as_a_look_at_every_entry(
            entries in proptest::collection::vec((0u8..5, 0u32..4096, 20u8..=32), 0..40),
            asked in (0u32..4096, 16u8..=32),
        ) {
            let net = |(address, prefix): (u32, u8)| ipnet::Ipv4Net::new((0x0b00_0000 | address << 4).into(), prefix).unwrap().trunc();
            let mut lists = Lists::default();
            for list in 0u8..5 {
                let text: String = entries.iter().filter(|one| one.0 == list).map(|one| format!("{}\n", net((one.1, one.2)))).collect();
                let _empty = lists.load(&format!("l{list}"), ListRole::Warns, &text);
            }
            lists.settle();
            let asked = net(asked);
            let shares = |other: ipnet::Ipv4Net| other.contains(&asked) || asked.contains(&other);
            let mut expected: Vec<String> =
                entries.iter().filter(|one| shares(net((one.1, one.2)))).map(|one| format!("l{}", one.0)).collect();
            expected.sort();
            expected.dedup();
            assert_eq!(on(&lists, &asked.to_string()), expected);
        }
    }
}
