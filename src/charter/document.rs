//! The charter and the stamp: what the stewards sign together, and what a coordinator keeps saying about it.

use super::KeyConflict;
use crate::{
    cbor::{self, CborError, int_map, uint_enum},
    envelope::{CoseError, Cosigned, Domain, FederationId, Hash, KeyId, PublicKey, Sealed, SecretKey, Signer},
    record::{CircleName, DAY_MS, Kind, MemberId, NAME_BYTES_MAX, Timestamp, Tlp},
};
use std::collections::BTreeSet;

/// Longest charter, in bytes: 250 members, 60 circles and their agreements take about 120 KiB.
pub const CHARTER_BYTES_MAX: usize = 1024 * 1024;
/// Longest life of a charter version: a year and five weeks to hold the yearly ceremony in.
pub const CHARTER_DAYS_MAX: u64 = 400;
/// Longest life of a stamp. A week without any coordinator must not stop 196 countries.
pub const STAMP_DAYS_MAX: u64 = 7;
/// Longest stamp, in bytes.
pub const STAMP_BYTES_MAX: usize = 1024;
/// Most members, circles or agreements.
pub const CHARTER_LIST_MAX: usize = 1_024;
/// The document format that this version writes and reads.
pub const DOCUMENT_FORMAT: u64 = 1;

uint_enum! {
    /// What an organisation is in the federation.
    pub enum MemberKind("member kind") {
        Country = 1 "country",
        Vendor = 2 "vendor",
        Coordinator = 3 "coordinator",
        Observer = 4 "observer",
    }
}

uint_enum! {
    /// What happens to an agreement's records when it ends.
    pub enum AfterEnd("after_end") {
        Keep = 0 "keep",
        Purge = 1 "purge",
    }
}

uint_enum! {
    /// Whether a newcomer to a circle reads what was shared before.
    pub enum History("history") {
        Closed = 0 "closed",
        Open = 1 "open",
    }
}

int_map! {
    /// One of those who sign the charter: a person's name and key.
    pub struct Steward {
        req 0 name: String,
        req 1 key: PublicKey,
    }
}

int_map! {
    /// How much a member may publish.
    pub struct Quota {
        req 0 records_per_second: u64,
        req 1 burst_records: u64,
        req 2 records_per_day: u64,
        req 3 bytes_per_day: u64,
    }
}

int_map! {
    /// An organisation of the federation.
    pub struct Member {
        req 0 id: MemberId,
        req 1 name: String,
        req 2 kind: MemberKind,
        /// ISO 3166-1 alpha-2.
        opt 3 country: String,
        req 4 root: PublicKey,
        opt 5 quota: Quota,
        /// From when it may no longer take part; its signed removals still pass among the others.
        opt 6 revoked: Timestamp,
    }
}

int_map! {
    /// Since which generation a member is in a circle, and until which it was.
    pub struct CircleMember {
        req 0 id: MemberId,
        req 1 since: u64,
        opt 2 until: u64,
    }
}

int_map! {
    /// A named group of members.
    pub struct Circle {
        req 0 name: CircleName,
        /// Raised whenever a member joins or leaves; begins at 1.
        req 1 generation: u64,
        req 2 history: History,
        many 3 members: CircleMember,
    }
}

int_map! {
    /// The terms under which a vendor or observer takes part.
    pub struct Agreement {
        req 0 id: String,
        req 1 member: MemberId,
        /// `federation`, `circle:NAME`, `named`.
        many 2 audiences: String,
        req 3 tlp_max: Tlp,
        many 4 kinds: Kind,
        req 5 purpose: String,
        opt 6 quota: Quota,
        req 7 from: Timestamp,
        req 8 until: Timestamp,
        req 9 after_end: AfterEnd,
        /// Days after the end within which purged records are rewritten out.
        opt 10 purge_after_days: u64,
        opt 11 revoked: Timestamp,
    }
}

int_map! {
    /// A coordinator's online key, which may sign stamps and nothing else.
    pub struct FreshnessKey {
        req 0 member: MemberId,
        req 1 key: PublicKey,
    }
}

int_map! {
    /// The lowest head format still accepted, and from when.
    pub struct FormatFloor {
        req 0 format: u64,
        req 1 from: Timestamp,
    }
}

int_map! {
    /// The federation's constitution.
    pub struct Charter {
        req 0 format: u64,
        req 1 name: String,
        req 2 version: u64,
        /// SHA-256 of the payload of the version before; absent in version 1.
        opt 3 prev: Hash,
        req 4 issued: Timestamp,
        req 5 expires: Timestamp,
        many 6 stewards: Steward,
        /// How many stewards must sign: more than half.
        req 7 threshold: u64,
        many 8 members: Member,
        many 9 circles: Circle,
        many 10 agreements: Agreement,
        req 11 quota: Quota,
        many 12 freshness: FreshnessKey,
        req 13 floor: FormatFloor,
        /// After two valid charters of one version: the payload hash of the one that stands.
        opt 14 resolves: Hash,
    }
}

int_map! {
    /// "Charter version `version`, with hash `hash`, is current."
    pub struct Stamp {
        req 0 format: u64,
        req 1 version: u64,
        req 2 hash: Hash,
        req 3 time: Timestamp,
        req 4 until: Timestamp,
    }
}

/// Why a charter or stamp is refused. Nothing of a refused document takes effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CharterError {
    #[error(transparent)]
    Cose(#[from] CoseError),
    #[error(transparent)]
    Cbor(#[from] CborError),
    #[error("the charter breaks its own rules: {0}")]
    Rule(String),
    #[error("this is the charter of federation `{found}`, and this node belongs to `{expected}`")]
    OtherFederation { expected: FederationId, found: FederationId },
    /// A key with a second holder or purpose.
    #[error(transparent)]
    Key(#[from] KeyConflict),
    /// Verdict `Ignore`: old news, harmless.
    #[error("charter version {found} is not newer than ours, {ours}")]
    Old { ours: u64, found: u64 },
    /// Verdict `Ignore`: the versions between are asked for first.
    #[error("charter version {found} was offered, but ours is {ours}; versions are taken one by one")]
    Jump { ours: u64, found: u64 },
    #[error("charter version {version} does not continue ours: it names another version before it")]
    Fork { version: u64 },
    #[error("{signed} of the {of} stewards of version {version} have signed, {needed} are needed")]
    Threshold { version: u64, signed: usize, needed: u64, of: usize },
    /// Verdict `Ignore`: a proof. Charter changes stop until a next version names one of the two.
    #[error(
        "two valid charters of version {version} exist, {ours} and {other}; no change is taken until a next version names the one that stands"
    )]
    Halted { version: u64, ours: Hash, other: Hash },
    #[error("key `{0}` is no steward's, neither of the version before nor of this one")]
    NoSteward(KeyId),
    #[error("this is a signature over another charter, version {found} with hash {hash}")]
    OtherProposal { found: u64, hash: Hash },
    #[error("the stamp is signed by key `{0}`, which the charter does not name for that")]
    StampKey(KeyId),
    #[error("the stamp speaks of another charter than version {version}")]
    StampCharter { version: u64 },
    #[error("the stamp's times make no sense: it is valid for seven days at most, from its own time on")]
    StampTime,
}

fn rule(text: impl Into<String>) -> CharterError {
    CharterError::Rule(text.into())
}

/// A charter whose signatures reached every threshold that they had to.
#[derive(Clone, Debug)]
pub struct SignedCharter {
    charter: Charter,
    hash: Hash,
    federation: FederationId,
    bytes: Vec<u8>,
}

impl SignedCharter {
    /// Signs version 1 and so founds a federation.
    pub fn found(charter: Charter, stewards: &[&SecretKey]) -> Result<Self, CharterError> {
        let payload = cbor::to_vec(&charter);
        let federation = FederationId(Hash::of(&payload).0);
        let signed = Cosigned::seal(payload, stewards, Domain::Charter, &federation)?;
        Self::first(signed.bytes(), None)
    }

    /// Signs a later version.
    pub fn succeed(&self, charter: Charter, stewards: &[&SecretKey]) -> Result<Self, CharterError> {
        let signed = Cosigned::seal(cbor::to_vec(&charter), stewards, Domain::Charter, &self.federation)?;
        self.next(signed.bytes())
    }

    /// Takes the charter that everything else rests on: version 1, of `expected` if that is known already.
    pub fn first(bytes: &[u8], expected: Option<&FederationId>) -> Result<Self, CharterError> {
        let id_of = |payload: &[u8]| FederationId(Hash::of(payload).0);
        let signed = Cosigned::open(bytes, Domain::Charter, id_of, CHARTER_BYTES_MAX)?;
        let found = id_of(signed.payload());
        if let Some(expected) = expected
            && *expected != found
        {
            return Err(CharterError::OtherFederation { expected: *expected, found });
        }
        let charter: Charter = cbor::from_slice(signed.payload(), CHARTER_BYTES_MAX)?;
        if charter.version != 1 {
            return Err(rule("the first charter has version 1"));
        }
        Self::admit(charter, &signed, found, &[])
    }

    /// Takes the version after this one: the stewards of both versions must have signed it.
    ///
    /// Follows TUF 5.3: intermediate versions one by one (4), both thresholds (4), exactly one more (5).
    pub fn next(&self, bytes: &[u8]) -> Result<Self, CharterError> {
        let signed = Cosigned::open(bytes, Domain::Charter, |_| self.federation, CHARTER_BYTES_MAX)?;
        let charter: Charter = cbor::from_slice(signed.payload(), CHARTER_BYTES_MAX)?;
        let (ours, found) = (self.charter.version, charter.version);
        if found <= ours {
            return Err(CharterError::Old { ours, found });
        }
        self.precedes(&charter)?;
        Self::admit(charter, &signed, self.federation, &[&self.charter])
    }

    /// Takes a version whose own stewards signed it, where the versions before are not at hand. Good enough to show what
    /// a next one would change; never to put in force.
    pub fn alone(bytes: &[u8], federation: &FederationId) -> Result<Self, CharterError> {
        let signed = Cosigned::open(bytes, Domain::Charter, |_| *federation, CHARTER_BYTES_MAX)?;
        let charter: Charter = cbor::from_slice(signed.payload(), CHARTER_BYTES_MAX)?;
        Self::admit(charter, &signed, *federation, &[])
    }

    /// The rules between this version and `next`: exactly one more, naming this one, and circles that keep newcomers out
    /// of what was shared before them.
    pub(super) fn precedes(&self, next: &Charter) -> Result<(), CharterError> {
        let (ours, found) = (self.charter.version, next.version);
        if found != ours.saturating_add(1) {
            return Err(CharterError::Jump { ours, found });
        }
        if next.prev != Some(self.hash) || next.resolves.is_some_and(|chosen| chosen != self.hash) {
            return Err(CharterError::Fork { version: found });
        }
        for circle in &next.circles {
            let Some(old) = self.charter.circles.iter().find(|old| old.name == circle.name) else { continue };
            if circle.generation < old.generation {
                return Err(rule(format!("the generation of circle `{}` falls", circle.name)));
            }
            for one in &circle.members {
                let known = old.members.iter().find(|known| known.id == one.id);
                let stays = known.is_some_and(|known| known.since == one.since && (known.until.is_none() || known.until == one.until));
                if !stays && one.since <= old.generation {
                    return Err(rule(format!("`{}` joins circle `{}` with a generation that was there before", one.id, circle.name)));
                }
            }
        }
        Ok(())
    }

    fn admit(charter: Charter, signed: &Cosigned, federation: FederationId, before: &[&Charter]) -> Result<Self, CharterError> {
        check(&charter)?;
        for judge in before.iter().copied().chain([&charter]) {
            // Keys are distinct within a charter (checked above), so each steward counts once (threats.md S-07).
            let count = judge.stewards.iter().filter(|steward| signed.signed_by(&steward.key)).count();
            if u64::try_from(count).unwrap_or(u64::MAX) < judge.threshold {
                let (version, needed, of) = (judge.version, judge.threshold, judge.stewards.len());
                return Err(CharterError::Threshold { version, signed: count, needed, of });
            }
        }
        let bytes = signed.bytes().to_vec();
        Ok(Self { hash: Hash::of(signed.payload()), charter, federation, bytes })
    }

    /// What the charter says.
    pub fn charter(&self) -> &Charter {
        &self.charter
    }

    /// SHA-256 of the payload.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// The federation.
    pub fn federation(&self) -> FederationId {
        self.federation
    }

    /// The bytes to keep and pass on.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// The version that a charter states, without a look at its signatures.
pub fn charter_version(bytes: &[u8]) -> Option<u64> {
    let signed = Cosigned::open(bytes, Domain::Charter, |_| FederationId([0; 32]), CHARTER_BYTES_MAX).ok()?;
    cbor::from_slice::<Charter>(signed.payload(), CHARTER_BYTES_MAX).ok().map(|charter| charter.version)
}

fn distinct<T: Ord>(items: impl IntoIterator<Item = T>) -> bool {
    let mut seen = BTreeSet::new();
    items.into_iter().all(|item| seen.insert(item))
}

/// The rules of one charter by itself.
pub(super) fn check(charter: &Charter) -> Result<(), CharterError> {
    if charter.format != DOCUMENT_FORMAT {
        return Err(rule(format!("format {} needs a newer huecry", charter.format)));
    }
    if charter.version == 0 || (charter.version == 1) != charter.prev.is_none() {
        return Err(rule("every version but the first names the one before"));
    }
    if charter.expires <= charter.issued || charter.expires.ms_since(charter.issued) > CHARTER_DAYS_MAX * DAY_MS {
        return Err(rule("it is valid for 1 to 400 days"));
    }
    let lists = [charter.members.len(), charter.circles.len(), charter.agreements.len()];
    if lists.into_iter().any(|length| length > CHARTER_LIST_MAX) || charter.stewards.len() > crate::envelope::SIGNATURES_MAX {
        return Err(rule("a list is too long"));
    }
    check_stewards(charter)?;
    check_members(charter)?;
    check_circles(charter)?;
    check_agreements(charter)
}

fn check_stewards(charter: &Charter) -> Result<(), CharterError> {
    let of = u64::try_from(charter.stewards.len()).unwrap_or(u64::MAX);
    if charter.threshold > of || charter.threshold.saturating_mul(2) <= of {
        return Err(rule(format!("{} of {of} stewards is not more than half", charter.threshold)));
    }
    if !distinct(charter.stewards.iter().map(|steward| &steward.name)) {
        return Err(rule("two stewards have one name"));
    }
    // One key has one purpose: no steward's key is another's, a member's root or a freshness key.
    let stewards = charter.stewards.iter().map(|steward| steward.key.id());
    let roots = charter.members.iter().map(|member| member.root.id());
    let freshness = charter.freshness.iter().map(|one| one.key.id());
    if distinct(stewards.chain(roots).chain(freshness)) {
        Ok(())
    } else {
        Err(rule("one key stands in two places; every steward, member and freshness key is its own"))
    }
}

fn check_members(charter: &Charter) -> Result<(), CharterError> {
    if !distinct(charter.members.iter().map(|member| &member.id)) {
        return Err(rule("two members have one id"));
    }
    for member in &charter.members {
        let country = |code: &String| code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_uppercase());
        if !member.country.as_ref().is_none_or(country) {
            return Err(rule(format!("the country of `{}` is not two capital letters", member.id)));
        }
        if member.kind == MemberKind::Country && member.country.is_none() {
            return Err(rule(format!("`{}` is a country without a country code", member.id)));
        }
    }
    for one in &charter.freshness {
        match charter.members.iter().find(|member| member.id == one.member) {
            Some(member) if member.kind == MemberKind::Coordinator => (),
            _ => return Err(rule(format!("the freshness key of `{}` is not a coordinator's", one.member))),
        }
    }
    Ok(())
}

fn check_circles(charter: &Charter) -> Result<(), CharterError> {
    if !distinct(charter.circles.iter().map(|circle| &circle.name)) {
        return Err(rule("two circles have one name"));
    }
    for circle in &charter.circles {
        if BUILT_IN_CIRCLES.iter().any(|(name, _)| *name == circle.name.as_str()) {
            return Err(rule(format!("`{}` is a built-in circle", circle.name)));
        }
        if !distinct(circle.members.iter().map(|one| &one.id)) || circle.generation == 0 {
            return Err(rule(format!("circle `{}` lists a member twice, or has generation 0", circle.name)));
        }
        for one in &circle.members {
            let known = charter.members.iter().any(|member| member.id == one.id);
            let ordered = one.since <= circle.generation && one.until.is_none_or(|until| one.since <= until && until < circle.generation);
            if !known || !ordered || one.since == 0 {
                return Err(rule(format!("circle `{}` says something impossible of `{}`", circle.name, one.id)));
            }
        }
    }
    Ok(())
}

fn check_agreements(charter: &Charter) -> Result<(), CharterError> {
    if !distinct(charter.agreements.iter().map(|agreement| &agreement.id)) {
        return Err(rule("two agreements have one id"));
    }
    for agreement in &charter.agreements {
        let known = charter.members.iter().any(|member| member.id == agreement.member);
        let named = (1..=NAME_BYTES_MAX).contains(&agreement.id.len());
        if !known || !named || agreement.until <= agreement.from {
            return Err(rule(format!("agreement `{}` has no member, or ends before it begins", agreement.id)));
        }
        if (agreement.after_end == AfterEnd::Purge) != agreement.purge_after_days.is_some() {
            return Err(rule(format!("agreement `{}`: purge_after belongs to `purge`, and only there", agreement.id)));
        }
    }
    Ok(())
}

/// Circles that follow from what members are; no charter may define one of these names.
pub const BUILT_IN_CIRCLES: [(&str, MemberKind); 4] = [
    ("countries", MemberKind::Country),
    ("vendors", MemberKind::Vendor),
    ("coordinators", MemberKind::Coordinator),
    ("observers", MemberKind::Observer),
];

/// A stamp that verified against a charter.
#[derive(Clone, Debug)]
pub struct SignedStamp {
    stamp: Stamp,
    bytes: Vec<u8>,
}

impl SignedStamp {
    /// Says that `charter` is current, from `now` for at most seven days.
    pub fn sign(charter: &SignedCharter, key: &dyn Signer, now: Timestamp) -> Result<Self, CharterError> {
        let stamp = Stamp {
            format: DOCUMENT_FORMAT,
            version: charter.charter.version,
            hash: charter.hash,
            time: now,
            until: now.plus_ms(STAMP_DAYS_MAX * DAY_MS),
        };
        let sealed = Sealed::seal(cbor::to_vec(&stamp), key, Domain::Stamp, &charter.federation)?;
        Self::open(sealed.bytes(), charter)
    }

    /// Takes a stamp over `charter`, signed by one of the keys that it names.
    pub fn open(bytes: &[u8], charter: &SignedCharter) -> Result<Self, CharterError> {
        let sealed = Sealed::open(bytes, Domain::Stamp, &charter.federation, STAMP_BYTES_MAX)?;
        let named = charter.charter.freshness.iter().find(|one| one.key.id() == sealed.key());
        sealed.verify(&named.ok_or(CharterError::StampKey(sealed.key()))?.key)?;
        let stamp: Stamp = cbor::from_slice(sealed.payload(), STAMP_BYTES_MAX)?;
        if stamp.format != DOCUMENT_FORMAT {
            return Err(rule(format!("stamp format {} needs a newer huecry", stamp.format)));
        }
        if stamp.version != charter.charter.version || stamp.hash != charter.hash {
            return Err(CharterError::StampCharter { version: charter.charter.version });
        }
        if stamp.until <= stamp.time || stamp.until.ms_since(stamp.time) > STAMP_DAYS_MAX * DAY_MS {
            return Err(CharterError::StampTime);
        }
        Ok(Self { stamp, bytes: bytes.to_vec() })
    }

    /// What the stamp says.
    pub fn stamp(&self) -> &Stamp {
        &self.stamp
    }

    /// The bytes to keep and pass on.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}
