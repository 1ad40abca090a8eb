//! The card: what one member says about itself, under its root key. And the other statements of that rank.

use super::{CardClaim, DOCUMENT_FORMAT, Member};
use crate::{
    cbor::{self, CborError, int_map},
    envelope::{
        Audience, CoseError, Domain, FederationId, HEAD_BYTES_MAX, Hash, Head, KeyId, ProvedHead, PublicKey, Sealed, SignedHead, Signer,
    },
    record::{ChannelName, DAY_MS, FeedId, MemberId, NAME_BYTES_MAX, TEXT_BYTES_MAX, Timestamp},
};
use std::collections::BTreeSet;

/// Longest card, in bytes: 16 nodes with 64 lanes and 256 channels fit. Below the gossip limit.
pub const CARD_BYTES_MAX: usize = 48 * 1024;
/// Most nodes, keys, channels, pins or epochs on a card.
pub const CARD_LIST_MAX: usize = 256;
/// Longest life of a statement of whereabouts: addresses change.
pub const WHEREABOUTS_DAYS_MAX: u64 = 7;
/// Longest statement of whereabouts, in bytes.
pub const WHEREABOUTS_BYTES_MAX: usize = 4 * 1024;
/// Longest proof of equivocation, in bytes: two heads.
pub const EQUIVOCATION_BYTES_MAX: usize = 2 * HEAD_BYTES_MAX + 64;
/// Most addresses that a node states.
pub const ADDRESSES_MAX: usize = 16;

int_map! {
    /// A key that writes one lane, on one node.
    pub struct PublishingKey {
        req 0 key: PublicKey,
        /// Name of the node that holds it.
        req 1 node: String,
        req 2 lane: u32,
        req 3 from: Timestamp,
        opt 4 until: Timestamp,
    }
}

int_map! {
    /// One of the member's machines: its libp2p key.
    pub struct NodeKey {
        req 0 name: String,
        req 1 key: PublicKey,
        req 2 from: Timestamp,
        opt 3 until: Timestamp,
        /// It stands behind a diode or without a network and takes in bundles: nobody waits for its word.
        opt 4 receive_only: bool,
    }
}

int_map! {
    /// A stream of the member's records.
    pub struct Channel {
        req 0 name: ChannelName,
        req 1 audience: Audience,
        opt 2 description: String,
        req 3 from: Timestamp,
        opt 4 until: Timestamp,
    }
}

int_map! {
    /// For a retired or stolen key: what chains to this head stands, all else under that key is quarantined.
    pub struct Pin {
        req 0 key: KeyId,
        req 1 channel: ChannelName,
        req 2 lane: u32,
        req 3 epoch: u32,
        req 4 seq: u64,
        req 5 head: Hash,
    }
}

int_map! {
    /// A feed's new beginning. Only a card opens one.
    pub struct Epoch {
        req 0 channel: ChannelName,
        req 1 lane: u32,
        req 2 epoch: u32,
    }
}

int_map! {
    /// What a member says about itself. A higher serial replaces all before it.
    pub struct Card {
        req 0 format: u64,
        req 1 member: MemberId,
        req 2 serial: u64,
        req 3 issued: Timestamp,
        many 4 publishing: PublishingKey,
        many 5 nodes: NodeKey,
        many 6 channels: Channel,
        many 7 pins: Pin,
        many 8 epochs: Epoch,
    }
}

int_map! {
    /// What a member says about its restricted feeds; stays among their readers. As a card, for one audience.
    pub struct Statement {
        req 0 format: u64,
        req 1 member: MemberId,
        req 2 serial: u64,
        req 3 issued: Timestamp,
        req 4 audience: Audience,
        many 6 channels: Channel,
        many 7 pins: Pin,
        many 8 epochs: Epoch,
    }
}

int_map! {
    /// Where a node can be reached now, under its own node key.
    pub struct Whereabouts {
        req 0 format: u64,
        req 1 serial: u64,
        req 2 time: Timestamp,
        req 3 until: Timestamp,
        /// Multiaddr text.
        many 4 addresses: String,
    }
}

int_map! {
    /// Two heads for one place of a feed, both signed by its key: anyone can check it, nobody can make it but the author.
    pub struct Equivocation {
        req 0 one: serde_bytes::ByteBuf,
        req 1 other: serde_bytes::ByteBuf,
    }
}

impl Card {
    /// Every key that the card claims.
    pub fn keys(&self) -> impl Iterator<Item = PublicKey> {
        self.publishing.iter().map(|one| one.key).chain(self.nodes.iter().map(|one| one.key))
    }
}

/// Why a card is refused, whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CardError {
    #[error(transparent)]
    Cose(#[from] CoseError),
    #[error(transparent)]
    Cbor(#[from] CborError),
    #[error("the card of `{member}` breaks the rules: {why}")]
    Rule { member: String, why: &'static str },
    /// A key with a second holder or purpose, or too many keys.
    #[error("the card of `{member}` is refused: {why}")]
    Claim { member: String, why: CardClaim },
    /// Verdict `Ignore`: our charter may be older than the sender's.
    #[error("the card is of `{0}`, which is no member in our charter")]
    Stranger(MemberId),
    /// Verdict `Ignore`: old news.
    #[error("the card of `{member}` has serial {found}, ours has {ours}")]
    Old { member: MemberId, ours: u64, found: u64 },
}

/// A card that its member's root key has signed.
#[derive(Clone, Debug)]
pub struct SignedCard {
    card: Card,
    bytes: Vec<u8>,
}

impl SignedCard {
    /// Signs a card with the member's root key.
    pub fn sign(card: &Card, root: &dyn Signer, federation: &FederationId) -> Result<Self, CardError> {
        check(card)?;
        let sealed = Sealed::seal(cbor::to_vec(card), root, Domain::Card, federation)?;
        Ok(Self { card: card.clone(), bytes: sealed.bytes().to_vec() })
    }

    /// Takes a card, if `member_of` knows its member and that member's root key has signed it.
    pub fn open<'a>(
        bytes: &[u8],
        federation: &FederationId,
        member_of: impl Fn(&MemberId) -> Option<&'a Member>,
    ) -> Result<Self, CardError> {
        let sealed = Sealed::open(bytes, Domain::Card, federation, CARD_BYTES_MAX)?;
        let card: Card = cbor::from_slice(sealed.payload(), CARD_BYTES_MAX)?;
        let member = member_of(&card.member).ok_or_else(|| CardError::Stranger(card.member.clone()))?;
        sealed.verify(&member.root)?;
        check(&card)?;
        Ok(Self { card, bytes: bytes.to_vec() })
    }

    /// What the card says.
    pub fn card(&self) -> &Card {
        &self.card
    }

    /// The bytes to keep and pass on.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// What a card says, without a look at its signature.
pub fn card_of(bytes: &[u8]) -> Option<Card> {
    let sealed = Sealed::open(bytes, Domain::Card, &FederationId([0; 32]), CARD_BYTES_MAX).ok()?;
    cbor::from_slice(sealed.payload(), CARD_BYTES_MAX).ok()
}

/// Whose card these bytes say they are; nothing is verified.
pub fn card_member(bytes: &[u8]) -> Option<MemberId> {
    card_of(bytes).map(|card| card.member)
}

fn check(card: &Card) -> Result<(), CardError> {
    let refuse = |why| Err(CardError::Rule { member: card.member.to_string(), why });
    if card.format != DOCUMENT_FORMAT {
        return refuse("its format needs a newer huecry");
    }
    let lists = [card.publishing.len(), card.nodes.len(), card.channels.len(), card.pins.len(), card.epochs.len()];
    if card.serial == 0 || lists.into_iter().any(|length| length > CARD_LIST_MAX) {
        return refuse("its serial is 0 or a list has more than 256 entries");
    }
    // Three kinds of key, never one for another's purpose.
    let mut keys = BTreeSet::new();
    if !card.keys().all(|key| keys.insert(key.id())) {
        return refuse("one key stands on it twice");
    }
    let names: BTreeSet<&str> = card.nodes.iter().map(|node| node.name.as_str()).collect();
    if names.len() != card.nodes.len() || !card.nodes.iter().all(|node| (1..=NAME_BYTES_MAX).contains(&node.name.len())) {
        return refuse("two nodes have one name, or a name is not 1 to 64 bytes");
    }
    if !card.publishing.iter().all(|key| names.contains(key.node.as_str())) {
        return refuse("a publishing key belongs to a node that is not on it");
    }
    // A lane has one key at a time, or two machines would fork it.
    let overlap = |one: &PublishingKey, other: &PublishingKey| {
        one.lane == other.lane && one.until.is_none_or(|until| until > other.from) && other.until.is_none_or(|until| until > one.from)
    };
    let publishing = &card.publishing;
    if publishing.iter().enumerate().any(|(index, one)| publishing.iter().skip(index + 1).any(|other| overlap(one, other))) {
        return refuse("two publishing keys write one lane at the same time");
    }
    let channels: BTreeSet<&ChannelName> = card.channels.iter().map(|channel| &channel.name).collect();
    let described = |channel: &Channel| channel.description.as_ref().is_none_or(|text| text.len() <= TEXT_BYTES_MAX);
    if channels.len() != card.channels.len() || !card.channels.iter().all(described) {
        return refuse("two channels have one name, or a description is too long");
    }
    let mut pins = BTreeSet::new();
    let known = |pin: &Pin| card.publishing.iter().any(|one| one.key.id() == pin.key);
    if !card.pins.iter().all(|pin| known(pin) && pins.insert((pin.key, &pin.channel, pin.lane, pin.epoch))) {
        return refuse("a pin is of a key that is not on it, or stands twice");
    }
    if !card.epochs.iter().all(|one| one.epoch > 1) {
        return refuse("a new epoch is 2 or later");
    }
    Ok(())
}

/// Proof that an author said two things in one place, checked: both heads verify under `key`, stand at one place, differ.
pub fn equivocation(one: &ProvedHead, other: &ProvedHead) -> Option<Equivocation> {
    let place = |proved: &ProvedHead| -> (FeedId, u64, KeyId) { (proved.head().feed(), proved.head().seq, proved.key()) };
    if place(one) != place(other) || one.id() == other.id() {
        return None;
    }
    let (first, second) = if one.id() < other.id() { (one, other) } else { (other, one) };
    Some(Equivocation { one: first.bytes().to_vec().into(), other: second.bytes().to_vec().into() })
}

/// The two heads of a proof, taken apart; nothing is verified.
pub fn equivocation_heads(bytes: &[u8]) -> Option<[Head; 2]> {
    let proof: Equivocation = cbor::from_slice(bytes, EQUIVOCATION_BYTES_MAX).ok()?;
    let head = |bytes: &[u8]| SignedHead::open(bytes, &FederationId([0; 32])).ok().map(|signed| signed.head().clone());
    Some([head(&proof.one)?, head(&proof.other)?])
}

/// A node's own addresses, signed by its node key.
pub fn sign_whereabouts(whereabouts: &Whereabouts, node: &dyn Signer, federation: &FederationId) -> Result<Vec<u8>, CoseError> {
    Ok(Sealed::seal(cbor::to_vec(whereabouts), node, Domain::Whereabouts, federation)?.bytes().to_vec())
}

/// The node key that a statement of whereabouts says it is signed by, and its serial; nothing is verified.
pub fn whereabouts_claim(bytes: &[u8], federation: &FederationId) -> Option<(KeyId, u64)> {
    let sealed = Sealed::open(bytes, Domain::Whereabouts, federation, WHEREABOUTS_BYTES_MAX).ok()?;
    let claimed: Whereabouts = cbor::from_slice(sealed.payload(), WHEREABOUTS_BYTES_MAX).ok()?;
    Some((sealed.key(), claimed.serial))
}

/// Takes a statement of whereabouts that `node` has signed.
pub fn open_whereabouts(bytes: &[u8], node: &PublicKey, federation: &FederationId) -> Result<Whereabouts, CardError> {
    let sealed = Sealed::open(bytes, Domain::Whereabouts, federation, WHEREABOUTS_BYTES_MAX)?;
    sealed.verify(node)?;
    let found: Whereabouts = cbor::from_slice(sealed.payload(), WHEREABOUTS_BYTES_MAX)?;
    let lived = found.until > found.time && found.until.ms_since(found.time) <= WHEREABOUTS_DAYS_MAX * DAY_MS;
    if found.format != DOCUMENT_FORMAT || !lived || found.addresses.len() > ADDRESSES_MAX {
        return Err(CardError::Rule { member: node.id().short(), why: "its whereabouts are malformed" });
    }
    Ok(found)
}

/// Signs what a member says about its restricted feeds.
pub fn sign_statement(statement: &Statement, root: &dyn Signer, federation: &FederationId) -> Result<Vec<u8>, CoseError> {
    Ok(Sealed::seal(cbor::to_vec(statement), root, Domain::Statement, federation)?.bytes().to_vec())
}

/// Takes a statement about restricted feeds that `member`'s root key has signed.
pub fn open_statement(bytes: &[u8], member: &Member, federation: &FederationId) -> Result<Statement, CardError> {
    let sealed = Sealed::open(bytes, Domain::Statement, federation, CARD_BYTES_MAX)?;
    sealed.verify(&member.root)?;
    let found: Statement = cbor::from_slice(sealed.payload(), CARD_BYTES_MAX)?;
    let lists = [found.channels.len(), found.pins.len(), found.epochs.len()];
    if found.format != DOCUMENT_FORMAT || found.member != member.id || lists.into_iter().any(|length| length > CARD_LIST_MAX) {
        return Err(CardError::Rule { member: member.id.to_string(), why: "its statement is malformed" });
    }
    Ok(found)
}
