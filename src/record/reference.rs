//! References: how one record names another.
//!
//! Everywhere but on the wire a reference is whole. On the wire it is as short as its place allows ([`WireRef`]), and
//! only the shortest form is accepted, so that a record still has one spelling.

use super::{ChannelName, MemberId};
use serde::{Deserialize, Serialize, de::Error as _, ser::SerializeSeq as _};
use std::{fmt, str::FromStr};

/// One chain of signed batches: a channel's lane in one epoch.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FeedId {
    pub member: MemberId,
    pub channel: ChannelName,
    /// Which of the member's writers: each lane is one key on one node.
    pub lane: u32,
    /// Raised by a card when a chain has to start anew; begins at 1.
    pub epoch: u32,
}

impl fmt::Display for FeedId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.member, self.channel)?;
        if self.lane != 0 {
            write!(out, "~{}", self.lane)?;
        }
        if self.epoch != 1 {
            write!(out, "@{}", self.epoch)?;
        }
        Ok(())
    }
}

/// A text that names no record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` does not name a record; it looks like `talos/c2#48213.17` (member/channel#batch.index)")]
pub struct RefError(String);

impl FromStr for FeedId {
    type Err = RefError;

    fn from_str(text: &str) -> Result<Self, RefError> {
        let error = || RefError(text.chars().take(200).collect());
        let (member, rest) = text.split_once('/').ok_or_else(error)?;
        let (rest, epoch) = split_number(rest, '@', 1).ok_or_else(error)?;
        let (channel, lane) = split_number(rest, '~', 0).ok_or_else(error)?;
        Ok(Self { member: member.parse().map_err(|_| error())?, channel: channel.parse().map_err(|_| error())?, lane, epoch })
    }
}

/// Splits `name<mark>number`; without the mark the number is `default`, which may then not be written out.
fn split_number(text: &str, mark: char, default: u32) -> Option<(&str, u32)> {
    match text.split_once(mark) {
        None => Some((text, default)),
        Some((name, digits)) => canonical_number(digits).filter(|number| *number != default).map(|number| (name, number)),
    }
}

fn canonical_number<N: FromStr + ToString>(digits: &str) -> Option<N> {
    digits.parse::<N>().ok().filter(|number| number.to_string() == digits)
}

/// The name of one record: `talos/c2#48213.17`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordRef {
    pub feed: FeedId,
    /// The batch's place in its feed, from 1.
    pub seq: u64,
    /// The record's place in its batch, from 0.
    pub index: u16,
}

impl fmt::Display for RecordRef {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}#{}.{}", self.feed, self.seq, self.index)
    }
}

impl FromStr for RecordRef {
    type Err = RefError;

    fn from_str(text: &str) -> Result<Self, RefError> {
        let error = || RefError(text.chars().take(200).collect());
        let (feed, place) = text.split_once('#').ok_or_else(error)?;
        let (seq, index) = place.split_once('.').ok_or_else(error)?;
        Ok(Self {
            feed: feed.parse().map_err(|_| error())?,
            seq: canonical_number(seq).ok_or_else(error)?,
            index: canonical_number(index).ok_or_else(error)?,
        })
    }
}

/// A reference as it travels, relative to the batch that holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WireRef {
    /// `index`: a record of the same batch.
    Batch(u16),
    /// `[seq, index]`: a record of the same feed.
    Feed(u64, u16),
    /// `[channel, lane, epoch, seq, index]`: a record of the same member.
    Member(ChannelName, u32, u32, u64, u16),
    /// `[member, channel, lane, epoch, seq, index]`: any record.
    Whole(RecordRef),
}

impl WireRef {
    /// The shortest form of `target` within batch `seq` of `feed`.
    pub fn shortest(target: &RecordRef, feed: &FeedId, seq: u64) -> Self {
        if target.feed == *feed && target.seq == seq {
            Self::Batch(target.index)
        } else if target.feed == *feed {
            Self::Feed(target.seq, target.index)
        } else if target.feed.member == feed.member {
            let FeedId { channel, lane, epoch, .. } = target.feed.clone();
            Self::Member(channel, lane, epoch, target.seq, target.index)
        } else {
            Self::Whole(target.clone())
        }
    }

    /// The record meant, for a reference that stands in batch `seq` of `feed`; `None` if a shorter form was possible.
    pub fn resolve(&self, feed: &FeedId, seq: u64) -> Option<RecordRef> {
        let whole = match self.clone() {
            Self::Batch(index) => RecordRef { feed: feed.clone(), seq, index },
            Self::Feed(seq, index) => RecordRef { feed: feed.clone(), seq, index },
            Self::Member(channel, lane, epoch, seq, index) => {
                RecordRef { feed: FeedId { member: feed.member.clone(), channel, lane, epoch }, seq, index }
            }
            Self::Whole(whole) => whole,
        };
        (Self::shortest(&whole, feed, seq) == *self).then_some(whole)
    }
}

impl Serialize for WireRef {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Batch(index) => serializer.serialize_u16(*index),
            Self::Feed(seq, index) => (seq, index).serialize(serializer),
            Self::Member(channel, lane, epoch, seq, index) => (channel, lane, epoch, seq, index).serialize(serializer),
            Self::Whole(RecordRef { feed, seq, index }) => {
                let mut parts = serializer.serialize_seq(Some(6))?;
                parts.serialize_element(&feed.member)?;
                parts.serialize_element(&feed.channel)?;
                parts.serialize_element(&feed.lane)?;
                parts.serialize_element(&feed.epoch)?;
                parts.serialize_element(seq)?;
                parts.serialize_element(index)?;
                parts.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for WireRef {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms;
        impl<'de> serde::de::Visitor<'de> for Forms {
            type Value = WireRef;
            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a record reference")
            }
            fn visit_u64<E: serde::de::Error>(self, index: u64) -> Result<WireRef, E> {
                u16::try_from(index).map(WireRef::Batch).map_err(|_| E::custom("a record index past 65535"))
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<WireRef, A::Error> {
                let short = || A::Error::custom("a record reference has 2, 5 or 6 parts");
                macro_rules! next {
                    () => {
                        seq.next_element()?.ok_or_else(short)?
                    };
                }
                match seq.size_hint() {
                    Some(2) => Ok(WireRef::Feed(next!(), next!())),
                    Some(5) => Ok(WireRef::Member(next!(), next!(), next!(), next!(), next!())),
                    Some(6) => {
                        let feed = FeedId { member: next!(), channel: next!(), lane: next!(), epoch: next!() };
                        Ok(WireRef::Whole(RecordRef { feed, seq: next!(), index: next!() }))
                    }
                    _ => Err(short()),
                }
            }
        }
        deserializer.deserialize_any(Forms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_reads_back_as_it_prints() {
        for text in ["talos/c2#48213.17", "talos/c2~1#1.0", "talos/c2~3@2#18446744073709551615.255"] {
            assert_eq!(text.parse::<RecordRef>().unwrap().to_string(), text);
        }
        for text in ["talos/c2#1", "talos#1.1", "talos/c2~0#1.1", "talos/c2@1#1.1", "talos/c2#01.1", "talos/c2#1.65536"] {
            assert!(text.parse::<RecordRef>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_the_shortest_form_of_a_reference_is_accepted() {
        let target: RecordRef = "talos/c2#7.3".parse().unwrap();
        let home = target.feed.clone();
        let elsewhere: FeedId = "de-bka/leads".parse().unwrap();
        for (feed, seq) in [(&home, 7), (&home, 8), (&"talos/mal".parse().unwrap(), 7), (&elsewhere, 7)] {
            let wire = WireRef::shortest(&target, feed, seq);
            let bytes = crate::cbor::to_vec(&wire);
            let back: WireRef = crate::cbor::from_slice(&bytes, 1000).unwrap();
            assert_eq!(back.resolve(feed, seq).as_ref(), Some(&target));
        }
        assert_eq!(WireRef::Whole(target.clone()).resolve(&home, 7), None);
        assert_eq!(WireRef::Feed(7, 3).resolve(&home, 7), None);
    }
}
