//! The messages of the standing stream, as they travel: a length of four bytes, big-endian, then a deterministic CBOR map
//! whose key 0 says which message it is. A message of a kind that we do not know is skipped, so that kinds can be added.

use crate::{
    cbor::{self, CborError, int_map},
    envelope::Hash,
    record::{ChannelName, FeedId, MemberId, ObservableType, Timestamp},
};
use serde_bytes::ByteBuf;

/// Longest frame, in bytes: a part of 70 KiB with its framing fits.
pub const FRAME_BYTES_MAX: usize = 80 * 1024;
/// Longest piece of a document in one frame.
pub const DOCUMENT_PART_BYTES_MAX: usize = 64 * 1024;
/// Most cursors in one message; more go in several. A cursor has about 100 bytes.
pub const CURSORS_PER_MESSAGE_MAX: usize = 512;
/// Version of this protocol, said in [`Hello`]. Higher versions add message kinds and keys from 64 up, nothing else.
pub const PROTOCOL_VERSION: u64 = 1;

int_map! {
    /// How new a member's card is.
    pub struct CardSerial {
        req 0 member: MemberId,
        req 1 serial: u64,
    }
}

int_map! {
    /// First on every stream, from both sides: which documents I have.
    pub struct Hello {
        req 0 kind: u64,
        req 1 protocol: u64,
        req 2 software: String,
        req 3 charter_version: u64,
        req 4 charter_hash: Hash,
        opt 5 stamp: Timestamp,
        many 6 cards: CardSerial,
        /// A second valid charter of that version, while the stewards have not settled which one stands.
        opt 7 rival_hash: Hash,
    }
}

int_map! {
    /// Send me documents.
    pub struct Ask {
        req 0 kind: u64,
        /// Charter versions from this one on.
        opt 1 charters_from: u64,
        /// The newest stamp.
        opt 2 stamp: bool,
        many 3 cards: MemberId,
    }
}

int_map! {
    /// A document, or a piece of it. Pieces come in order, nothing between them.
    pub struct Document {
        req 0 kind: u64,
        /// 1 charter, 2 stamp, 3 card, 4 equivocation proof, 5 statement, 6 whereabouts.
        req 1 document: u64,
        req 2 part: ByteBuf,
        req 3 last: bool,
    }
}

int_map! {
    /// A feed, as a message names it.
    pub struct WireFeed {
        req 0 member: MemberId,
        req 1 channel: ChannelName,
        req 2 lane: u32,
        req 3 epoch: u32,
    }
}

impl From<&FeedId> for WireFeed {
    fn from(feed: &FeedId) -> Self {
        let FeedId { member, channel, lane, epoch } = feed.clone();
        Self { member, channel, lane, epoch }
    }
}

impl From<WireFeed> for FeedId {
    fn from(wire: WireFeed) -> Self {
        let WireFeed { member, channel, lane, epoch } = wire;
        Self { member, channel, lane, epoch }
    }
}

int_map! {
    /// How far a feed was judged: verified, journaled, decided; never with what outcome.
    pub struct Cursor {
        req 0 feed: WireFeed,
        /// Inclusive, ascending, disjoint.
        many 1 intervals: (u64, u64),
        /// Id of the last head.
        req 2 head: Hash,
        /// Records withheld from the sender in these batches.
        opt 3 incomplete: u64,
    }
}

int_map! {
    /// Hash over the cursors that both of us may know; equal means nothing is new.
    pub struct Digest {
        req 0 kind: u64,
        req 1 hash: Hash,
        /// Rises when the sender can give something that it could not before.
        opt 2 revision: u64,
        /// The sender's time, unless it doubts its own clock.
        opt 3 time: Timestamp,
    }
}

int_map! {
    /// The cursors themselves.
    pub struct Cursors {
        req 0 kind: u64,
        many 1 cursors: Cursor,
        /// More follow in the next message.
        req 2 more: bool,
    }
}

int_map! {
    /// A head, not through gossip: of a restricted channel, or the sender's own.
    pub struct Announce {
        req 0 kind: u64,
        req 1 head: ByteBuf,
    }
}

int_map! {
    /// Send me this body. Parked while you fetch it yourself.
    pub struct Pull {
        req 0 kind: u64,
        req 1 request: u64,
        req 2 feed: WireFeed,
        req 3 seq: u64,
        /// Also if there is no such batch yet: parked until there is, one a feed.
        opt 4 ahead: bool,
    }
}

int_map! {
    /// Send me these batches, oldest first, up to about so many bytes.
    pub struct Range {
        req 0 kind: u64,
        req 1 request: u64,
        req 2 feed: WireFeed,
        req 3 first: u64,
        req 4 last: u64,
        req 5 bytes_max: u64,
        /// Of them only the removals.
        opt 6 removals: bool,
    }
}

int_map! {
    /// A head of a range; its body follows at once.
    pub struct RangeHead {
        req 0 kind: u64,
        req 1 request: u64,
        req 2 head: ByteBuf,
    }
}

int_map! {
    /// A body, whole or in part.
    pub struct Body {
        req 0 kind: u64,
        req 1 request: u64,
        req 2 body: ByteBuf,
        /// How many records the sender has not, or keeps back, that the reader would follow.
        opt 3 withheld: u64,
        /// Through which members a re-shared batch came, as each says of the one before; the nearest to its author first.
        many 4 path: MemberId,
    }
}

int_map! {
    /// What of a channel its follower wants.
    pub struct Followed {
        req 0 member: MemberId,
        req 1 channel: ChannelName,
        /// Only indicators of these types; of all, if none is named.
        many 2 types: ObservableType,
        /// Only indicators of at least this confidence.
        opt 3 confidence_min: u8,
    }
}

int_map! {
    /// What the sender wants to be told of from now on: everything, or these channels.
    pub struct Follow {
        req 0 kind: u64,
        req 1 everything: bool,
        many 2 channels: Followed,
    }
}

int_map! {
    /// How far the sender has applied a feed.
    pub struct Receipt {
        req 0 feed: WireFeed,
        /// What of it is judged; inclusive, ascending, disjoint.
        many 1 intervals: (u64, u64),
        /// Its exports were rebuilt since it had judged up to here; absent where it has none.
        opt 2 exported: u64,
        /// Records that were withheld from it.
        opt 3 withheld: u64,
    }
}

int_map! {
    /// To the author of these feeds, and nobody else.
    pub struct Receipts {
        req 0 kind: u64,
        many 1 receipts: Receipt,
    }
}

int_map! {
    /// Send me a chunk of the content of a document, which is named by its record.
    pub struct ChunkAsk {
        req 0 kind: u64,
        req 1 request: u64,
        req 2 feed: WireFeed,
        req 3 seq: u64,
        req 4 index: u16,
        req 5 chunk: u64,
    }
}

int_map! {
    /// A chunk, with the hashes that prove it against the root in its record.
    pub struct Chunk {
        req 0 kind: u64,
        req 1 request: u64,
        req 2 feed: WireFeed,
        req 3 seq: u64,
        req 4 index: u16,
        req 5 chunk: u64,
        req 6 bytes: ByteBuf,
        /// From the sibling upwards.
        many 7 path: Hash,
    }
}

int_map! {
    /// A request is over. Whether anything was withheld, or never existed, looks the same.
    pub struct End {
        req 0 kind: u64,
        req 1 request: u64,
        /// There is more; ask again from where this ended.
        req 2 more: bool,
    }
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    Hello(Hello),
    Ask(Ask),
    Document(Document),
    Digest(Digest),
    Cursors(Cursors),
    Announce(Announce),
    Pull(Pull),
    Range(Range),
    RangeHead(RangeHead),
    Body(Body),
    End(End),
    Follow(Follow),
    Receipts(Receipts),
    ChunkAsk(ChunkAsk),
    Chunk(Chunk),
}

/// Numbers of the messages, under key 0.
pub mod number {
    pub const HELLO: u64 = 0;
    pub const ASK: u64 = 1;
    pub const DOCUMENT: u64 = 2;
    pub const DIGEST: u64 = 3;
    pub const CURSORS: u64 = 4;
    pub const ANNOUNCE: u64 = 5;
    pub const PULL: u64 = 6;
    pub const RANGE: u64 = 7;
    pub const RANGE_HEAD: u64 = 8;
    pub const BODY: u64 = 9;
    pub const END: u64 = 10;
    pub const FOLLOW: u64 = 11;
    pub const RECEIPTS: u64 = 12;
    pub const CHUNK_ASK: u64 = 13;
    pub const CHUNK: u64 = 14;
}

impl Message {
    /// What kind of message it is, for logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Hello(_) => "hello",
            Self::Ask(_) => "ask",
            Self::Document(_) => "document",
            Self::Digest(_) => "digest",
            Self::Cursors(_) => "cursors",
            Self::Announce(_) => "announce",
            Self::Pull(_) => "pull",
            Self::Range(_) => "range",
            Self::RangeHead(_) => "range head",
            Self::Body(_) => "body",
            Self::End(_) => "end",
            Self::Follow(_) => "follow",
            Self::Receipts(_) => "receipts",
            Self::ChunkAsk(_) => "chunk ask",
            Self::Chunk(_) => "chunk",
        }
    }

    /// The message as CBOR, without its length.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Hello(one) => cbor::to_vec(one),
            Self::Ask(one) => cbor::to_vec(one),
            Self::Document(one) => cbor::to_vec(one),
            Self::Digest(one) => cbor::to_vec(one),
            Self::Cursors(one) => cbor::to_vec(one),
            Self::Announce(one) => cbor::to_vec(one),
            Self::Pull(one) => cbor::to_vec(one),
            Self::Range(one) => cbor::to_vec(one),
            Self::RangeHead(one) => cbor::to_vec(one),
            Self::Body(one) => cbor::to_vec(one),
            Self::End(one) => cbor::to_vec(one),
            Self::Follow(one) => cbor::to_vec(one),
            Self::Receipts(one) => cbor::to_vec(one),
            Self::ChunkAsk(one) => cbor::to_vec(one),
            Self::Chunk(one) => cbor::to_vec(one),
        }
    }

    /// Reads a frame; `None` for a kind of message that a newer version has added. An error is the peer's fault.
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, CborError> {
        if bytes.len() > FRAME_BYTES_MAX {
            return Err(CborError::Long { length: bytes.len(), max: FRAME_BYTES_MAX });
        }
        let outline = cbor::check(bytes)?;
        let kind = outline.key_zero.ok_or_else(|| CborError::Shape("a message begins with its kind".to_owned()))?;
        Ok(Some(match kind {
            number::HELLO => Self::Hello(cbor::decode_checked(bytes)?),
            number::ASK => Self::Ask(cbor::decode_checked(bytes)?),
            number::DOCUMENT => Self::Document(cbor::decode_checked(bytes)?),
            number::DIGEST => Self::Digest(cbor::decode_checked(bytes)?),
            number::CURSORS => Self::Cursors(cbor::decode_checked(bytes)?),
            number::ANNOUNCE => Self::Announce(cbor::decode_checked(bytes)?),
            number::PULL => Self::Pull(cbor::decode_checked(bytes)?),
            number::RANGE => Self::Range(cbor::decode_checked(bytes)?),
            number::RANGE_HEAD => Self::RangeHead(cbor::decode_checked(bytes)?),
            number::BODY => Self::Body(cbor::decode_checked(bytes)?),
            number::END => Self::End(cbor::decode_checked(bytes)?),
            number::FOLLOW => Self::Follow(cbor::decode_checked(bytes)?),
            number::RECEIPTS => Self::Receipts(cbor::decode_checked(bytes)?),
            number::CHUNK_ASK => Self::ChunkAsk(cbor::decode_checked(bytes)?),
            number::CHUNK => Self::Chunk(cbor::decode_checked(bytes)?),
            _ => return Ok(None),
        }))
    }
}

/// Cuts a document into messages.
pub fn document_messages(document: u64, bytes: &[u8]) -> Vec<Message> {
    let count = bytes.len().div_ceil(DOCUMENT_PART_BYTES_MAX).max(1);
    let part = |(index, part): (usize, &[u8])| {
        let last = index + 1 == count;
        Message::Document(Document { kind: number::DOCUMENT, document, part: ByteBuf::from(part.to_vec()), last })
    };
    bytes.chunks(DOCUMENT_PART_BYTES_MAX).enumerate().map(part).collect()
}

/// The hash that [`Digest`] carries: over feeds and how far each is judged, in order of feed.
pub fn digest_of(cursors: &[Cursor]) -> Hash {
    let mut sorted = cursors.to_vec();
    sorted.sort_by_key(|cursor| FeedId::from(cursor.feed.clone()));
    // What is incomplete here is no news for a peer that is complete.
    let plain: Vec<_> = sorted.iter().map(|cursor| (&cursor.feed, &cursor.intervals, &cursor.head)).collect();
    Hash::of(&cbor::to_vec(&plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_read_back_and_unknown_kinds_are_skipped() {
        let feed: FeedId = "talos/c2".parse().unwrap();
        let pull = Message::Pull(Pull { kind: number::PULL, request: 7, feed: (&feed).into(), seq: 9, ahead: None });
        assert_eq!(Message::decode(&pull.encode()), Ok(Some(pull)));
        assert_eq!(Message::decode(&[0xa1, 0, 0x18, 99]), Ok(None));
        assert!(Message::decode(&[0x80]).is_err());
    }

    #[test]
    fn e_12_a_frame_one_byte_too_long_is_refused() {
        assert!(matches!(Message::decode(&vec![0; FRAME_BYTES_MAX + 1]), Err(CborError::Long { .. })));
    }

    #[test]
    fn a_charter_of_a_mebibyte_travels_in_frames() {
        let bytes = vec![7; 1024 * 1024];
        let messages = document_messages(1, &bytes);
        let part = |message: &Message| match message {
            Message::Document(one) => one.part.to_vec(),
            _ => unreachable!(),
        };
        assert!(messages.iter().all(|message| message.encode().len() <= FRAME_BYTES_MAX));
        assert_eq!(messages.iter().flat_map(part).collect::<Vec<_>>(), bytes);
    }
}
