//! Body: the records of a batch, whole or in part, checked against the head's root.
//!
//! ```text
//! full  [0, seed, [record, ...]]      every record; nonces follow from the seed
//! part  [1, [entry, ...]]             records with their own nonces, and hashes where some are withheld or erased
//! ```
//!
//! A part proves what it shows exactly as the full body does, however many hops from its author.

use super::{BATCH_RECORDS_MAX, BODY_BYTES_MAX, Hash, Head, ProvedHead, merkle};
use crate::{
    cbor::{self, CborError},
    envelope::merkle::{Nonce, Seed},
};
use serde::{Deserialize, Serialize, ser::SerializeSeq as _};
use serde_bytes::ByteBuf;

/// Longest part, in bytes: a full body's records, a nonce each, and hashes beside them. Fits a frame of 80 KiB.
pub const PART_BYTES_MAX: usize = 70 * 1024;

/// Why a body is not the one that its head commits to. Verdict `Reject`, of the peer that sent it: the author signed
/// something else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    #[error(transparent)]
    Cbor(#[from] CborError),
    #[error("the body has {found} records, its head says {expected}")]
    Count { expected: usize, found: usize },
    #[error("the body has {found} bytes, its head says {expected}")]
    Length { expected: usize, found: usize },
    #[error("the records do not hash to the root that the head signs")]
    Root,
    #[error("a hash stands for a subtree that this batch does not have")]
    Subtree,
}

/// One place of a batch: its record, or nothing but its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Slot {
    Present(Vec<u8>),
    /// Withheld by whoever served it, or erased.
    Absent,
}

/// What a part says about one place, or about a subtree of places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// `[nonce, record]`
    Record(Nonce, Vec<u8>),
    /// `hash`: one leaf.
    Leaf(Hash),
    /// `[count, hash]`: the root of a whole subtree of `count` leaves, at least 2.
    Subtree(u16, Hash),
}

impl Serialize for Entry {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Record(nonce, record) => (nonce, serde_bytes::Bytes::new(record)).serialize(serializer),
            Self::Leaf(hash) => hash.serialize(serializer),
            Self::Subtree(count, hash) => {
                let mut parts = serializer.serialize_seq(Some(2))?;
                parts.serialize_element(count)?;
                parts.serialize_element(hash)?;
                parts.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms;
        /// The first element tells a record (its nonce) from a subtree (its count).
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum First {
            Count(u16),
            Nonce(ByteBuf),
        }
        impl<'de> serde::de::Visitor<'de> for Forms {
            type Value = Entry;
            fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str("a record, a leaf hash or a subtree hash")
            }
            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Entry, E> {
                bytes.try_into().map(|hash| Entry::Leaf(Hash(hash))).map_err(|_| E::custom("a hash has 32 bytes"))
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Entry, A::Error> {
                use serde::de::Error as _;
                let short = || A::Error::custom("an entry has 2 parts");
                if seq.size_hint() != Some(2) {
                    return Err(short());
                }
                match seq.next_element()?.ok_or_else(short)? {
                    First::Count(count) if count >= 2 => Ok(Entry::Subtree(count, seq.next_element()?.ok_or_else(short)?)),
                    First::Count(_) => Err(A::Error::custom("a subtree has 2 leaves at least")),
                    First::Nonce(nonce) => {
                        let nonce = nonce.as_slice().try_into().map_err(|_| A::Error::custom("a nonce has 16 bytes"))?;
                        let record: ByteBuf = seq.next_element()?.ok_or_else(short)?;
                        Ok(Entry::Record(Nonce(nonce), record.into_vec()))
                    }
                }
            }
        }
        deserializer.deserialize_any(Forms)
    }
}

/// Encodes a full body.
pub fn encode_full(seed: &Seed, records: &[Vec<u8>]) -> Vec<u8> {
    let records: Vec<&serde_bytes::Bytes> = records.iter().map(|record| serde_bytes::Bytes::new(record)).collect();
    cbor::to_vec(&(0u8, seed, records))
}

/// Encodes a part.
pub fn encode_part(entries: &[Entry]) -> Vec<u8> {
    cbor::to_vec(&(1u8, entries))
}

/// The root that a head over these records must sign.
pub fn root_of(seed: &Seed, records: &[Vec<u8>]) -> Hash {
    merkle::root(&leaves(seed, records.iter().map(Vec::as_slice)))
}

fn leaves<'a>(seed: &Seed, records: impl Iterator<Item = &'a [u8]>) -> Vec<Hash> {
    (0u16..).zip(records).map(|(index, record)| merkle::leaf(&merkle::nonce(seed, index), record)).collect()
}

/// A head together with a body that hashes to its root. Made by [`ProvedBatch::open`] alone.
#[derive(Clone, Debug)]
pub struct ProvedBatch {
    head: ProvedHead,
    body: Vec<u8>,
    slots: Vec<Slot>,
}

impl ProvedBatch {
    /// Accepts `body` only if it is what `head` commits to, whole or in part.
    pub fn open(head: ProvedHead, body: Vec<u8>) -> Result<Self, BodyError> {
        // The second byte is the first array element: 0 for a full body, 1 for a part.
        let slots = if body.get(1) == Some(&0) { open_full(head.head(), &body)? } else { open_part(head.head(), &body)? };
        Ok(Self { head, body, slots })
    }

    /// The head.
    pub fn head(&self) -> &ProvedHead {
        &self.head
    }

    /// The body's bytes as received.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The batch's places, in order; as many as the head's count.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// The same batch with what another body of it, proved before, has besides. Two parts of one tree agree wherever both
    /// say something, so nothing has to be weighed.
    pub fn with(&self, other: &[u8]) -> Result<Self, BodyError> {
        if self.is_whole() {
            return Ok(self.clone());
        }
        let count = self.head.head().count;
        let (mut ours, mut theirs) = (self.entries()?.into_iter().peekable(), entries_of(other, count)?.into_iter().peekable());
        let mut out = Vec::new();
        join(&mut ours, &mut theirs, usize::from(count), &mut out)?;
        Self::open(self.head.clone(), encode_part(&out))
    }

    /// Whether every record is here.
    pub fn is_whole(&self) -> bool {
        self.slots.iter().all(|slot| *slot != Slot::Absent)
    }

    fn entries(&self) -> Result<Vec<Entry>, BodyError> {
        entries_of(&self.body, self.head.head().count)
    }

    /// The same batch with only those records that `keep` says, the rest as hashes, dead subtrees folded to one.
    pub fn part(&self, keep: impl Fn(u16) -> bool) -> Result<Vec<u8>, BodyError> {
        part_of(&self.body, self.head.head().count, keep)
    }
}

/// Whether a body, whole or in part, is one of this head.
pub fn fits(head: &Head, body: &[u8]) -> bool {
    let opened = if body.get(1) == Some(&0) { open_full(head, body) } else { open_part(head, body) };
    opened.is_ok()
}

/// How many records a body shows that nobody has proved yet; `None` if it is whole or not of our making.
pub fn shown_in(body: &[u8]) -> Option<usize> {
    if body.get(1) != Some(&1) || body.len() > PART_BYTES_MAX {
        return None;
    }
    let (_, entries): (u8, Vec<Entry>) = cbor::from_slice(body, PART_BYTES_MAX).ok()?;
    Some(entries.iter().filter(|entry| matches!(entry, Entry::Record(..))).count())
}

/// Of a body that was proved before it was stored, a part with only those records that `keep` says.
pub fn part_of(body: &[u8], count: u16, keep: impl Fn(u16) -> bool) -> Result<Vec<u8>, BodyError> {
    let mut source = entries_of(body, count)?.into_iter().peekable();
    let mut out = Vec::new();
    withhold(&mut source, 0, usize::from(count), &keep, &mut out)?;
    Ok(encode_part(&out))
}

/// A stored body as the entries of a part.
fn entries_of(body: &[u8], count: u16) -> Result<Vec<Entry>, BodyError> {
    if body.get(1) != Some(&0) {
        return Ok(cbor::decode_stored::<(u8, Vec<Entry>)>(body)?.1);
    }
    let (_, seed, records): (u8, Seed, Vec<ByteBuf>) = cbor::decode_stored(body)?;
    if records.len() != usize::from(count) {
        return Err(BodyError::Count { expected: usize::from(count), found: records.len() });
    }
    Ok((0u16..).zip(records).map(|(index, record)| Entry::Record(merkle::nonce(&seed, index), record.into_vec())).collect())
}

/// Copies the entries of one subtree into `out`, from whichever of two parts shows more of it.
fn join(ours: &mut Entries, theirs: &mut Entries, count: usize, out: &mut Vec<Entry>) -> Result<(), BodyError> {
    let folded = |part: &mut Entries| matches!(part.peek(), Some(Entry::Subtree(size, _)) if usize::from(*size) == count);
    if count > 1 && folded(ours) {
        ours.next();
        return copy(theirs, count, out);
    }
    if count > 1 && folded(theirs) {
        theirs.next();
        return copy(ours, count, out);
    }
    if count > 1 {
        let left = merkle::split(count);
        join(ours, theirs, left, out)?;
        return join(ours, theirs, count - left, out);
    }
    let (one, other) = (ours.next().ok_or(BodyError::Subtree)?, theirs.next().ok_or(BodyError::Subtree)?);
    out.push(if matches!(one, Entry::Record(..)) { one } else { other });
    Ok(())
}

/// Copies the entries of one subtree as they are.
fn copy(part: &mut Entries, count: usize, out: &mut Vec<Entry>) -> Result<(), BodyError> {
    let mut left = count;
    while left > 0 {
        let entry = part.next().ok_or(BodyError::Subtree)?;
        let size = if let Entry::Subtree(size, _) = &entry { usize::from(*size) } else { 1 };
        left = left.checked_sub(size).ok_or(BodyError::Subtree)?;
        out.push(entry);
    }
    Ok(())
}

/// Where one record lies in the bytes of its body; empty where the record is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordSpan {
    start: u32,
    end: u32,
}

impl RecordSpan {
    const ABSENT: Self = Self { start: 0, end: 0 };

    fn new(range: std::ops::Range<usize>) -> Result<Self, BodyError> {
        let narrow = |offset: usize| u32::try_from(offset).map_err(|_| CborError::Shape("a body of 4 GiB".to_owned()));
        Ok(Self { start: narrow(range.start)?, end: narrow(range.end)? })
    }

    pub fn is_present(self) -> bool {
        self != Self::ABSENT
    }

    /// The record's bytes; none where it is absent.
    pub fn of(self, body: &[u8]) -> Option<&[u8]> {
        if self.is_present() { body.get(self.start as usize..self.end as usize) } else { None }
    }
}

/// Returns where each record lies in a body that was proved before it was stored, one span for each place. Proves nothing, copies nothing.
pub fn record_spans(body: &[u8]) -> Result<Vec<RecordSpan>, BodyError> {
    let mut reader = cbor::Reader::new(body);
    reader.array()?;
    let is_full = reader.unsigned()? == 0;
    if is_full {
        let _seed = reader.byte_string()?;
        return (0..reader.array()?).map(|_| RecordSpan::new(reader.byte_string()?)).collect();
    }
    let mut spans = Vec::new();
    for _ in 0..reader.array()? {
        if !reader.is_at_array() {
            let _leaf_hash = reader.byte_string()?;
            spans.push(RecordSpan::ABSENT);
            continue;
        }
        reader.array()?;
        if reader.is_at_byte_string() {
            let _nonce = reader.byte_string()?;
            spans.push(RecordSpan::new(reader.byte_string()?)?);
        } else {
            let leaves = usize::try_from(reader.unsigned()?).unwrap_or(usize::MAX).min(BATCH_RECORDS_MAX);
            let _subtree_hash = reader.byte_string()?;
            spans.resize(spans.len() + leaves, RecordSpan::ABSENT);
        }
    }
    Ok(spans)
}

fn open_full(head: &Head, bytes: &[u8]) -> Result<Vec<Slot>, BodyError> {
    let expected = usize::try_from(head.body_length).unwrap_or(usize::MAX);
    if bytes.len() != expected {
        return Err(BodyError::Length { expected, found: bytes.len() });
    }
    let (_, seed, records): (u8, Seed, Vec<ByteBuf>) = cbor::from_slice(bytes, BODY_BYTES_MAX)?;
    check_count(head, records.len())?;
    if merkle::root(&leaves(&seed, records.iter().map(|record| record.as_slice()))) != head.root {
        return Err(BodyError::Root);
    }
    Ok(records.into_iter().map(|record| Slot::Present(record.into_vec())).collect())
}

fn check_count(head: &Head, found: usize) -> Result<(), BodyError> {
    let expected = usize::from(head.count);
    if found == expected { Ok(()) } else { Err(BodyError::Count { expected, found }) }
}

fn open_part(head: &Head, bytes: &[u8]) -> Result<Vec<Slot>, BodyError> {
    let (form, entries): (u8, Vec<Entry>) = cbor::from_slice(bytes, PART_BYTES_MAX)?;
    if form != 1 || entries.len() > BATCH_RECORDS_MAX {
        return Err(CborError::Shape("a body is of form 0 or 1, with 256 entries at most".to_owned()).into());
    }
    let mut entries = entries.into_iter().peekable();
    let mut slots = Vec::with_capacity(usize::from(head.count));
    let root = root_of_part(&mut entries, usize::from(head.count), &mut slots)?;
    if entries.next().is_some() {
        return Err(BodyError::Count { expected: usize::from(head.count), found: slots.len() + 1 });
    }
    if root == head.root { Ok(slots) } else { Err(BodyError::Root) }
}

type Entries = std::iter::Peekable<std::vec::IntoIter<Entry>>;

/// The root of the next `count` leaves, taking entries as the tree's shape asks for them. Depth is at most 8.
fn root_of_part(entries: &mut Entries, count: usize, slots: &mut Vec<Slot>) -> Result<Hash, BodyError> {
    let missing = BodyError::Count { expected: slots.len() + count, found: slots.len() };
    match entries.peek().ok_or(missing.clone())? {
        Entry::Subtree(size, hash) if usize::from(*size) == count => {
            let hash = *hash;
            entries.next();
            slots.extend((0..count).map(|_| Slot::Absent));
            Ok(hash)
        }
        Entry::Subtree(size, _) if usize::from(*size) > count => Err(BodyError::Subtree),
        _ if count == 1 => match entries.next().ok_or(missing)? {
            Entry::Record(nonce, record) => {
                let hash = merkle::leaf(&nonce, &record);
                slots.push(Slot::Present(record));
                Ok(hash)
            }
            Entry::Leaf(hash) => {
                slots.push(Slot::Absent);
                Ok(hash)
            }
            Entry::Subtree(..) => Err(BodyError::Subtree),
        },
        _ => {
            let left_count = merkle::split(count);
            let left = root_of_part(entries, left_count, slots)?;
            let right = root_of_part(entries, count - left_count, slots)?;
            Ok(merkle::node(&left, &right))
        }
    }
}

/// Copies the entries of one subtree into `out`, hashes in place of what is not kept; returns the subtree's hash if
/// nothing in it is kept, after folding it into one entry.
fn withhold(
    source: &mut Entries,
    first: usize,
    count: usize,
    keep: &impl Fn(u16) -> bool,
    out: &mut Vec<Entry>,
) -> Result<Option<Hash>, BodyError> {
    let whole = matches!(source.peek(), Some(Entry::Subtree(size, _)) if usize::from(*size) == count);
    if count == 1 || whole {
        let index = u16::try_from(first).map_err(|_| BodyError::Subtree)?;
        return match source.next().ok_or(BodyError::Subtree)? {
            Entry::Record(nonce, record) if keep(index) => {
                out.push(Entry::Record(nonce, record));
                Ok(None)
            }
            Entry::Record(nonce, record) => {
                let hash = merkle::leaf(&nonce, &record);
                out.push(Entry::Leaf(hash));
                Ok(Some(hash))
            }
            Entry::Leaf(hash) => {
                out.push(Entry::Leaf(hash));
                Ok(Some(hash))
            }
            Entry::Subtree(size, hash) => {
                out.push(Entry::Subtree(size, hash));
                Ok(Some(hash))
            }
        };
    }
    let start = out.len();
    let left_count = merkle::split(count);
    let left = withhold(source, first, left_count, keep, out)?;
    let right = withhold(source, first + left_count, count - left_count, keep, out)?;
    let (Some(left), Some(right)) = (left, right) else { return Ok(None) };
    let hash = merkle::node(&left, &right);
    out.truncate(start);
    out.push(Entry::Subtree(u16::try_from(count).map_err(|_| BodyError::Subtree)?, hash));
    Ok(Some(hash))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{Audience, Class, FederationId, SecretKey, SignedHead};
    use crate::record::{Timestamp, Tlp};

    fn batch(records: &[Vec<u8>]) -> (ProvedHead, Vec<u8>) {
        let seed = Seed([3; 16]);
        let body = encode_full(&seed, records);
        let head = Head {
            format: 1,
            member: "talos".parse().unwrap(),
            channel: "c2".parse().unwrap(),
            lane: 0,
            epoch: 1,
            audience: Audience::federation(),
            seq: 1,
            prev: None,
            floor_seq: 1,
            time: Timestamp::from_ms(1).unwrap(),
            tlp: Tlp::Green,
            class: Class::Content,
            count: records.len() as u16,
            body_length: body.len() as u32,
            root: root_of(&seed, records),
        };
        let key = SecretKey::from_seed(&[7; 32]).unwrap();
        (SignedHead::sign(&head, &key, &FederationId([1; 32])).unwrap(), body)
    }

    fn records(count: usize) -> Vec<Vec<u8>> {
        (0..count).map(|index| vec![0x18, 100 + (index % 100) as u8]).collect()
    }

    #[test]
    fn a_full_body_opens_and_a_changed_one_does_not() {
        let (head, body) = batch(&records(5));
        assert_eq!(ProvedBatch::open(head.clone(), body.clone()).unwrap().slots().len(), 5);
        for at in 0..body.len() {
            let mut bad = body.clone();
            bad[at] ^= 1;
            assert!(ProvedBatch::open(head.clone(), bad).is_err(), "byte {at}");
        }
        assert!(ProvedBatch::open(head.clone(), [&body[..], &[0]].concat()).is_err());
    }

    /// The records that `record_spans` finds, as slots.
    fn by_spans(body: &[u8]) -> Vec<Slot> {
        let record = |span: &RecordSpan| span.of(body).map_or(Slot::Absent, |bytes| Slot::Present(bytes.to_vec()));
        record_spans(body).unwrap().iter().map(record).collect()
    }

    #[test]
    fn spans_point_at_the_records_of_whole_and_partial_bodies() {
        for count in [1, 2, 3, 7, 255, 256] {
            let (head, body) = batch(&records(count));
            let whole = ProvedBatch::open(head.clone(), body.clone()).unwrap();
            assert_eq!(by_spans(&body), whole.slots());
            for keep in [|_| false, |index| index % 3 == 1, |index| index < 2] {
                let part = whole.part(keep).unwrap();
                let shown = ProvedBatch::open(head.clone(), part.clone()).unwrap();
                assert_eq!(by_spans(&part), shown.slots(), "{count} records");
            }
        }
    }

    #[test]
    fn bytes_that_are_no_body_have_no_spans() {
        let (_, body) = batch(&records(3));
        assert!((0..body.len()).all(|length| record_spans(&body[..length]).is_err()));
        assert!(record_spans(&[0x82, 0x01, 0x81, 0x00]).is_err());
    }

    #[test]
    fn a_lone_record_of_256_carries_its_proof_in_nine_entries() {
        let (head, body) = batch(&records(256));
        let whole = ProvedBatch::open(head.clone(), body).unwrap();
        let part = whole.part(|index| index == 77).unwrap();
        let (_, entries): (u8, Vec<Entry>) = cbor::from_slice(&part, PART_BYTES_MAX).unwrap();
        assert_eq!(entries.len(), 9);
        let opened = ProvedBatch::open(head, part).unwrap();
        let present: Vec<usize> = (0..256).filter(|index| opened.slots()[*index] != Slot::Absent).collect();
        assert_eq!(present, [77]);
    }

    #[test]
    fn x13_a_part_whose_root_is_another_is_refused_whatever_was_changed_in_it() {
        let all = records(9);
        let (head, body) = batch(&all);
        let whole = ProvedBatch::open(head.clone(), body).unwrap();
        let part = whole.part(|index| index == 4).unwrap();
        assert!(ProvedBatch::open(head.clone(), part.clone()).is_ok());
        // A part of another batch, with a head of its own.
        let (_, other) = batch(&records(10)[1..]);
        let other_head = batch(&records(10)[1..]).0;
        let foreign = ProvedBatch::open(other_head, other).unwrap().part(|index| index == 4).unwrap();
        assert!(ProvedBatch::open(head.clone(), foreign).is_err());
        // Each byte: of the record, of its salt, and of the hashes in place of absent records.
        for at in 0..part.len() {
            let mut altered = part.clone();
            altered[at] ^= 1;
            assert!(ProvedBatch::open(head.clone(), altered).is_err(), "byte {at} of {}", part.len());
        }
    }

    proptest::proptest! {
        #[test]
        fn any_part_of_a_part_still_proves_what_it_shows_and_two_parts_join(count in 1usize..=256, first in proptest::collection::vec(proptest::bool::ANY, 256), second in proptest::collection::vec(proptest::bool::ANY, 256)) {
            let all = records(count);
            let (head, body) = batch(&all);
            let whole = ProvedBatch::open(head.clone(), body).unwrap();
            let part = ProvedBatch::open(head.clone(), whole.part(|index| first[index as usize]).unwrap()).unwrap();
            let smaller = ProvedBatch::open(head, part.part(|index| second[index as usize]).unwrap()).unwrap();
            let other = whole.part(|index| second[index as usize]).unwrap();
            let joined = part.with(&other).unwrap();
            for index in 0..count {
                let expected = if first[index] || second[index] { Slot::Present(all[index].clone()) } else { Slot::Absent };
                proptest::prop_assert_eq!(&joined.slots()[index], &expected);
            }
            for index in 0..count {
                let expected = if first[index] && second[index] { Slot::Present(all[index].clone()) } else { Slot::Absent };
                proptest::prop_assert_eq!(&smaller.slots()[index], &expected);
            }
        }
    }
}
