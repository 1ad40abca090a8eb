//! Head: the signed part of a batch. What it commits to is final; bodies only fill it in.
//!
//! ```text
//! bytes -open-> SignedHead (well formed) -prove(key)-> ProvedHead (its key's)
//! ```
//!
//! Keys 0 to 14 keep number and meaning in every format, so an older node can still verify, keep and pass on what a newer
//! one signed.

use super::{CoseError, Domain, FederationId, Hash, KeyId, PublicKey, Sealed, Signer};
use crate::{
    cbor::{self, int_map, uint_enum},
    record::{ChannelName, CircleName, FeedId, MemberId, Timestamp, Tlp},
};
use std::collections::BTreeSet;

/// The head format that this version writes, and the newest whose records it judges.
pub const HEAD_FORMAT: u64 = 1;
/// Longest head, in bytes: 64 excluded members, 64 onward audiences and 4 KiB of extensions fit. Must stay far below
/// the gossip limit (`node::gossip`).
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Most records in a batch: a signature costs 53 us to verify, so 256 make it 0.2 us a record.
pub const BATCH_RECORDS_MAX: usize = 256;
/// Longest body, in bytes. 256 inheriting indicators take about 12 KiB; a frame holds one body.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// Most members that an audience names or excludes, and most audiences that `onward` names.
pub const RECIPIENTS_MAX: usize = 64;
/// Highest format whose heads are kept unjudged; a jump past it is noise, not an upgrade.
pub const HEAD_FORMAT_MAX: u64 = 1_000;

uint_enum! {
    /// What a batch holds. Removals pass where content no longer may.
    pub enum Class("class") {
        Content = 0 "content",
        /// Withdrawals and disputes only.
        Removal = 1 "removal",
    }
}

uint_enum! {
    enum AudienceKind("audience") {
        Federation = 0 "federation",
        Circle = 1 "circle",
        Named = 2 "named",
    }
}

int_map! {
    struct WireAudience {
        req 0 kind: AudienceKind,
        opt 1 circle: CircleName,
        opt 2 generation: u64,
        many 3 excluded: MemberId,
        many 4 named: MemberId,
        many 5 onward: String,
    }
}

/// Who may read.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Readers {
    Federation,
    /// A circle of the charter as it was at `generation`, less some.
    Circle {
        name: CircleName,
        generation: u64,
        excluded: Vec<MemberId>,
    },
    /// These members, and the author.
    Named(Vec<MemberId>),
}

/// Who may read, and to whom the author permits it to be passed on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Audience {
    pub readers: Readers,
    /// Further audiences: `federation`, `circle:NAME` or `member:ID`.
    pub onward: Vec<String>,
}

impl Audience {
    /// Everyone in the federation.
    pub fn federation() -> Self {
        Self { readers: Readers::Federation, onward: Vec::new() }
    }

    /// These members and the author; nobody else, if there are none.
    pub fn named(mut members: Vec<MemberId>) -> Self {
        members.sort();
        members.dedup();
        Self { readers: Readers::Named(members), onward: Vec::new() }
    }

    /// The name for policies and people, without a generation: `federation`, `circle:finance`, `named:de-bka,fr-dgpn`.
    pub fn name(&self) -> String {
        match &self.readers {
            Readers::Federation => "federation".to_owned(),
            Readers::Circle { name, .. } => format!("circle:{name}"),
            Readers::Named(members) => {
                format!("named:{}", members.iter().map(MemberId::as_str).collect::<Vec<_>>().join(","))
            }
        }
    }

    /// The same without these members; only a circle can leave members out.
    pub fn except(mut self, members: &[String]) -> Result<Self, String> {
        let ids = members.iter().map(|id| id.parse::<MemberId>().map_err(|error| error.to_string()));
        let ids: BTreeSet<MemberId> = ids.collect::<Result<_, _>>()?;
        match &mut self.readers {
            _ if ids.is_empty() => (),
            Readers::Circle { excluded, .. } => {
                *excluded = ids.into_iter().chain(std::mem::take(excluded)).collect::<BTreeSet<_>>().into_iter().collect()
            }
            _ => return Err("only a circle can leave members out; name the readers instead: NAME=named:MEMBER,MEMBER".to_owned()),
        }
        self.checked()
    }

    /// The same, whose readers may pass it on to these audiences too: `federation`, `circle:NAME`, `member:ID`.
    pub fn with_onward(mut self, names: &[String]) -> Result<Self, String> {
        self.onward = names.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect();
        self.checked()
    }

    fn checked(self) -> Result<Self, String> {
        self.check().map_err(str::to_owned)?;
        Ok(self)
    }

    /// Whether a marking may travel to these readers at all: design section 6.
    pub fn permits(&self, tlp: Tlp) -> bool {
        match self.readers {
            Readers::Federation => tlp <= Tlp::Green,
            Readers::Circle { .. } => tlp <= Tlp::AmberStrict,
            Readers::Named(_) => true,
        }
    }

    fn check(&self) -> Result<(), &'static str> {
        let ordered = |members: &[MemberId]| members.iter().zip(members.iter().skip(1)).all(|(one, next)| one < next);
        let listed = match &self.readers {
            Readers::Federation => &[][..],
            Readers::Circle { excluded, .. } => excluded,
            Readers::Named(members) => members,
        };
        if listed.len() > RECIPIENTS_MAX || self.onward.len() > RECIPIENTS_MAX {
            return Err("the audience names more than 64");
        }
        if !ordered(listed) || !self.onward.iter().zip(self.onward.iter().skip(1)).all(|(one, next)| one < next) {
            return Err("the audience's lists are not sorted");
        }
        let known = |name: &String| match name.split_once(':') {
            None => name == "federation",
            Some(("circle", circle)) => circle.parse::<CircleName>().is_ok(),
            Some(("member", member)) => member.parse::<MemberId>().is_ok(),
            Some(_) => false,
        };
        if self.onward.iter().all(known) {
            Ok(())
        } else {
            Err("`onward` names something else than `federation`, `circle:NAME` or `member:ID`")
        }
    }
}

impl serde::Serialize for Audience {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut wire = WireAudience {
            kind: AudienceKind::Federation,
            circle: None,
            generation: None,
            excluded: Vec::new(),
            named: Vec::new(),
            onward: self.onward.clone(),
        };
        match &self.readers {
            Readers::Federation => (),
            Readers::Circle { name, generation, excluded } => {
                wire.kind = AudienceKind::Circle;
                wire.circle = Some(name.clone());
                wire.generation = Some(*generation);
                wire.excluded = excluded.clone();
            }
            Readers::Named(members) => {
                wire.kind = AudienceKind::Named;
                wire.named = members.clone();
            }
        }
        wire.serialize(serializer)
    }
}

impl<'de> serde::Deserialize<'de> for Audience {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wire = WireAudience::deserialize(deserializer)?;
        let WireAudience { kind, circle, generation, excluded, named, onward } = wire;
        let readers = match (kind, circle, generation) {
            (AudienceKind::Federation, None, None) if excluded.is_empty() && named.is_empty() => Readers::Federation,
            (AudienceKind::Circle, Some(name), Some(generation)) if named.is_empty() => Readers::Circle { name, generation, excluded },
            (AudienceKind::Named, None, None) if excluded.is_empty() => Readers::Named(named),
            _ => return Err(serde::de::Error::custom("the audience mixes kinds")),
        };
        let audience = Self { readers, onward };
        audience.check().map_err(serde::de::Error::custom)?;
        Ok(audience)
    }
}

int_map! {
    /// What the author signs about a batch.
    pub struct Head {
        req 0 format: u64,
        req 1 member: MemberId,
        req 2 channel: ChannelName,
        req 3 lane: u32,
        req 4 epoch: u32,
        req 5 audience: Audience,
        req 6 seq: u64,
        /// Id of the head before; absent at seq 1.
        opt 7 prev: Hash,
        /// Heads below this seq may be forgotten by everyone.
        req 8 floor_seq: u64,
        req 9 time: Timestamp,
        req 10 tlp: Tlp,
        req 11 class: Class,
        /// Records, 1..=256.
        req 12 count: u16,
        /// Length of the full body, in bytes.
        req 13 body_length: u32,
        req 14 root: Hash,
    }
}

/// Highest batch number of a feed. A member at one batch a millisecond reaches it in 35,000 years.
pub const SEQ_MAX: u64 = 1 << 50;

impl Head {
    /// The feed this head belongs to.
    pub fn feed(&self) -> FeedId {
        FeedId { member: self.member.clone(), channel: self.channel.clone(), lane: self.lane, epoch: self.epoch }
    }

    /// Whether the records can be read by this version.
    pub fn is_newer(&self) -> bool {
        self.format > HEAD_FORMAT
    }

    /// The head as if its author had named only this of its further audiences; `None` if it did not name it.
    pub fn onward_only(&self, name: &str) -> Option<Self> {
        let onward = self.audience.onward.iter().filter(|one| *one == name).cloned().collect::<Vec<_>>();
        (!onward.is_empty()).then(|| Self { audience: Audience { readers: self.audience.readers.clone(), onward }, ..self.clone() })
    }

    /// The rules beyond the shape, for what is read and what is signed.
    fn check(&self) -> Result<(), &'static str> {
        if self.format == 0 || self.format > HEAD_FORMAT_MAX {
            return Err("the format number is out of range");
        }
        if self.epoch == 0 || self.seq == 0 || self.floor_seq == 0 {
            return Err("epoch, seq and floor begin at 1");
        }
        if self.seq > SEQ_MAX || self.floor_seq > self.seq {
            return Err("seq or floor is out of range");
        }
        if self.prev.is_some() != (self.seq > 1) {
            return Err("every head but the first names the one before");
        }
        if !(1..=BATCH_RECORDS_MAX).contains(&usize::from(self.count)) {
            return Err("a batch has 1 to 256 records");
        }
        if self.body_length == 0 || usize::try_from(self.body_length).is_ok_and(|length| length > BODY_BYTES_MAX) {
            return Err("a body has 1 byte to 64 KiB");
        }
        if !self.audience.permits(self.tlp) {
            return Err("this TLP marking may not travel to this audience");
        }
        self.audience.check()
    }
}

/// A head in its place, well formed; nobody has looked at the signature yet.
#[derive(Clone, Debug)]
pub struct SignedHead {
    head: Head,
    sealed: Sealed,
}

impl SignedHead {
    /// Signs `head`.
    pub fn sign(head: &Head, key: &dyn Signer, federation: &FederationId) -> Result<ProvedHead, CoseError> {
        head.check().map_err(CoseError::Structure)?;
        let sealed = Sealed::seal(cbor::to_vec(head), key, Domain::Head, federation)?;
        Ok(ProvedHead { id: sealed.id(), head: head.clone(), sealed })
    }

    /// Takes a stranger's bytes apart and checks every rule that needs no key.
    pub fn open(bytes: &[u8], federation: &FederationId) -> Result<Self, CoseError> {
        let sealed = Sealed::open(bytes, Domain::Head, federation, HEAD_BYTES_MAX)?;
        let outline = cbor::check(sealed.payload())?;
        if outline.extension_bytes > crate::record::EXTENSION_BYTES_MAX {
            return Err(CoseError::Structure("extension keys take more than 4 KiB"));
        }
        let head: Head = cbor::decode_checked(sealed.payload())?;
        head.check().map_err(CoseError::Structure)?;
        Ok(Self { head, sealed })
    }

    /// What the head claims.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The key that is named as the signer.
    pub fn key(&self) -> KeyId {
        self.sealed.key()
    }

    /// The head's id, which does not depend on the signature.
    pub fn id(&self) -> Hash {
        self.sealed.id()
    }

    /// Passes only with the signature of `key`. Whether `key` may speak here is the charter's to say.
    pub fn prove(self, key: &PublicKey) -> Result<ProvedHead, CoseError> {
        self.sealed.verify(key)?;
        Ok(ProvedHead { id: self.sealed.id(), head: self.head, sealed: self.sealed })
    }
}

/// A head that its key has signed. Made by [`SignedHead::prove`] and [`SignedHead::sign`] alone.
#[derive(Clone, Debug)]
pub struct ProvedHead {
    id: Hash,
    head: Head,
    sealed: Sealed,
}

impl ProvedHead {
    /// What the head says.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// SHA-256 of the Sig_structure.
    pub fn id(&self) -> Hash {
        self.id
    }

    /// The bytes to keep and pass on, verbatim.
    pub fn bytes(&self) -> &[u8] {
        self.sealed.bytes()
    }

    /// The key that signed.
    pub fn key(&self) -> KeyId {
        self.sealed.key()
    }
}
