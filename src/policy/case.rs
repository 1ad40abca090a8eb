//! Cases: what a policy may know of a record, in the words of the schema.

use super::Listed;
use crate::{
    cbor::uint_enum,
    charter::MemberKind,
    record::{Kind, MemberId, ObservableType, Role, Tlp, Use},
};
use cedar_policy::{Entity, EntityUid, RestrictedExpression};
use smallvec::SmallVec;
use std::collections::{BTreeSet, HashMap, HashSet};

/// Confidence of a record whose author gave none.
pub const CONFIDENCE_UNSAID: u8 = 50;

/// A member as policies see it: author, or reader.
#[derive(Clone, Copy, Debug)]
pub struct Party<'a> {
    pub id: &'a MemberId,
    pub kind: MemberKind,
    pub country: Option<&'a str>,
    /// `good`, `ended` or `revoked`.
    pub standing: &'static str,
}

uint_enum! {
    /// Whose tool an outlet is, which decides what it may ever be given.
    pub enum OutletKind("outlet kind") {
        /// Our own.
        Own = 1 "own",
        /// A client's, whom we protect.
        Client = 2 "client",
        /// A closed community beyond the federation.
        Community = 3 "community",
        /// Anybody's.
        Public = 4 "public",
    }
}

impl OutletKind {
    /// The highest marking that such an outlet may be given. Source: FIRST TLP 2.0; RED is for people, never for tools.
    pub fn tlp_max(self) -> Tlp {
        match self {
            Self::Own => Tlp::AmberStrict,
            Self::Client => Tlp::Amber,
            Self::Community => Tlp::Green,
            Self::Public => Tlp::Clear,
        }
    }
}

/// A tool of ours that acts on records, as policies see it.
#[derive(Clone, Copy, Debug)]
pub struct OutletName<'a> {
    pub name: &'a str,
    pub kind: OutletKind,
}

/// What a policy may know about a record.
#[derive(Clone, Debug)]
pub struct Case<'a> {
    pub origin: Party<'a>,
    pub channel: &'a str,
    pub kind: Kind,
    pub value_type: Option<ObservableType>,
    pub role: Role,
    pub usage: Use,
    pub tlp: Tlp,
    pub audience: &'a str,
    pub confidence: u8,
    /// Its own, and those of its report.
    pub tags: [&'a [String]; 2],
    pub age_hours: u32,
    pub expired: bool,
    pub listed: &'a Listed<'a>,
    pub disputed_by: &'a BTreeSet<MemberId>,
    /// Independent sources that assert the value now; counted for `enforce` alone, 0 elsewhere.
    pub origins: u32,
}

/// Attributes of a [`Case`] that a policy may read. The origin is always part of the memo's key.
pub(super) const ATTRIBUTES: [&str; 16] = [
    "channel",
    "kind",
    "type",
    "role",
    "use",
    "tlp",
    "audience",
    "confidence",
    "tags",
    "age_days",
    "age_hours",
    "expired",
    "lists",
    "list_roles",
    "disputed_by",
    "origins",
];

/// What of a value's lists some policies can tell apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ListReads {
    /// Whether it is on these.
    Named(BTreeSet<String>),
    All,
}

/// Which attributes some policies read, as bits in the order of [`ATTRIBUTES`], and which lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reads {
    bits: u32,
    lists: ListReads,
}

impl Default for Reads {
    fn default() -> Self {
        Self { bits: 0, lists: ListReads::Named(BTreeSet::new()) }
    }
}

impl Reads {
    /// The attributes named; what is no attribute is left out.
    pub fn of(names: &BTreeSet<String>, lists: ListReads) -> Self {
        let bits = ATTRIBUTES.iter().enumerate().filter(|(_, name)| names.contains(**name)).map(|(bit, _)| 1 << bit).sum();
        Self { bits, lists }
    }

    pub fn with(&self, other: &Self) -> Self {
        let lists = match (&self.lists, &other.lists) {
            (ListReads::Named(one), ListReads::Named(two)) => ListReads::Named(one.union(two).cloned().collect()),
            _ => ListReads::All,
        };
        Self { bits: self.bits | other.bits, lists }
    }

    pub fn reads(&self, name: &str) -> bool {
        ATTRIBUTES.iter().position(|one| *one == name).is_some_and(|bit| self.has(bit))
    }

    /// Whether nothing is read that differs between the records of one batch.
    pub fn only_of_heads(&self) -> bool {
        let of_heads = ["channel", "tlp", "audience", "age_days", "age_hours"];
        let others = ATTRIBUTES.iter().filter(|name| !of_heads.contains(name));
        self.lists == ListReads::Named(BTreeSet::new()) && !others.into_iter().any(|name| self.reads(name))
    }

    fn has(&self, bit: usize) -> bool {
        self.bits >> bit & 1 == 1
    }
}

/// A memo key, mostly short enough for the stack.
pub(super) type Key = SmallVec<[u8; 192]>;

impl Case<'_> {
    /// Whole days since the author signed.
    pub fn age_days(&self) -> u32 {
        self.age_hours / 24
    }

    fn list_roles(&self) -> BTreeSet<&'static str> {
        self.listed.lists().map(|list| list.role.name()).collect()
    }

    /// Writes exactly what such policies can see of the case: who speaks, and the attributes they read.
    ///
    /// Fields end with a byte that no text holds (0xff) or are of one length, so two cases never share a key.
    pub(super) fn write_key(&self, reads: &Reads, key: &mut Key) {
        put_party(key, &self.origin);
        let mut bit = 0;
        let mut next = || {
            bit += 1;
            reads.has(bit - 1)
        };
        if next() {
            put(key, self.channel.as_bytes());
        }
        if next() {
            key.push(self.kind as u8);
        }
        if next() {
            key.push(self.value_type.map_or(0, |kind| kind as u8));
        }
        if next() {
            key.push(self.role as u8);
        }
        if next() {
            key.push(self.usage as u8);
        }
        if next() {
            key.push(self.tlp as u8);
        }
        if next() {
            put(key, self.audience.as_bytes());
        }
        if next() {
            key.push(self.confidence);
        }
        if next() {
            self.tags.iter().copied().flatten().for_each(|tag| put(key, tag.as_bytes()));
            put(key, &[]);
        }
        if next() {
            key.extend_from_slice(&self.age_days().to_be_bytes());
        }
        if next() {
            key.extend_from_slice(&self.age_hours.to_be_bytes());
        }
        if next() {
            key.push(u8::from(self.expired));
        }
        if next() {
            self.write_lists(&reads.lists, key);
        }
        if next() {
            key.push(self.listed.lists().fold(0, |mask, list| mask | 1 << list.role as u8));
        }
        if next() {
            self.disputed_by.iter().for_each(|member| put(key, member.as_str().as_bytes()));
            put(key, &[]);
        }
        if next() {
            key.extend_from_slice(&self.origins.to_be_bytes());
        }
    }

    /// A policy that only asks for lists by name sees a bit for each; any other sees all of them, under these very lists.
    fn write_lists(&self, reads: &ListReads, key: &mut Key) {
        match reads {
            ListReads::Named(names) => names.iter().for_each(|name| key.push(u8::from(self.listed.names().any(|one| one == name)))),
            ListReads::All => {
                let (generation, numbers) = self.listed.key();
                key.extend_from_slice(&generation.to_be_bytes());
                numbers.iter().for_each(|number| key.extend_from_slice(&number.to_be_bytes()));
                put(key, &[0xff]);
            }
        }
    }

    /// The record as an entity of the schema.
    pub(super) fn record(&self, uid: EntityUid, origin: EntityUid) -> Result<Entity, String> {
        let attributes = HashMap::from([
            ("origin".to_owned(), RestrictedExpression::new_entity_uid(origin)),
            ("channel".to_owned(), text(self.channel)),
            ("kind".to_owned(), text(self.kind.name())),
            ("type".to_owned(), text(self.value_type.map_or("", ObservableType::name))),
            ("role".to_owned(), text(self.role.name())),
            ("use".to_owned(), text(self.usage.name())),
            ("tlp".to_owned(), text(self.tlp.name())),
            ("audience".to_owned(), text(self.audience)),
            ("confidence".to_owned(), RestrictedExpression::new_long(i64::from(self.confidence))),
            ("tags".to_owned(), texts(&mut self.tags.iter().copied().flatten().map(String::as_str))),
            ("age_days".to_owned(), RestrictedExpression::new_long(i64::from(self.age_days()))),
            ("age_hours".to_owned(), RestrictedExpression::new_long(i64::from(self.age_hours))),
            ("expired".to_owned(), RestrictedExpression::new_bool(self.expired)),
            ("lists".to_owned(), texts(&mut self.listed.names())),
            ("list_roles".to_owned(), texts(&mut self.list_roles().into_iter())),
            ("disputed_by".to_owned(), texts(&mut self.disputed_by.iter().map(MemberId::as_str))),
            ("origins".to_owned(), RestrictedExpression::new_long(i64::from(self.origins))),
        ]);
        Entity::new(uid, attributes, HashSet::new()).map_err(|error| error.to_string())
    }
}

impl Party<'_> {
    /// The member as an entity of the schema.
    pub(super) fn entity(&self, uid: EntityUid) -> Result<Entity, String> {
        let mut attributes = HashMap::from([("kind".to_owned(), text(self.kind.name())), ("standing".to_owned(), text(self.standing))]);
        if let Some(country) = self.country {
            attributes.insert("country".to_owned(), text(country));
        }
        Entity::new(uid, attributes, HashSet::new()).map_err(|error| error.to_string())
    }
}

pub(super) fn put_party(key: &mut Key, party: &Party<'_>) {
    put(key, party.id.as_str().as_bytes());
    key.push(party.kind as u8);
    put(key, party.country.unwrap_or_default().as_bytes());
    put(key, party.standing.as_bytes());
}

/// Appends a field of a memo key and the byte that ends it, which is in no UTF-8 text.
pub(super) fn put(key: &mut Key, field: &[u8]) {
    key.extend_from_slice(field);
    key.push(0xff);
}

pub(super) fn text(value: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(value.to_owned())
}

fn texts(values: &mut dyn Iterator<Item = &str>) -> RestrictedExpression {
    RestrictedExpression::new_set(values.map(text))
}
