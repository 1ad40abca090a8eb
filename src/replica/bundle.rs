//! Bundles: what travels on streams, as a file. For a diode, a USB stick, a first fill, a disaster.
//!
//! ```text
//! "huecry bundle 1\n"   frames as on a stream: documents, then a head and its body, again and again, then the end
//! ```
//!
//! Everything in it proves itself, so nothing signs the whole; that it is whole, its end says. A part of several begins like
//! any bundle and ends with "more". Taken in through the one door; in what order parts come does not matter.

use super::{End, FRAME_BYTES_MAX, Message, number};
use crate::cbor::CborError;

/// What a bundle begins with.
pub const BUNDLE_MAGIC: &[u8] = b"huecry bundle 1\n";

/// A message as it stands in a bundle, and on a stream.
pub fn frame(message: &Message) -> Vec<u8> {
    let bytes = message.encode();
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&length[..], &bytes].concat()
}

/// The last frame of a bundle, or of a part that others follow.
pub fn bundle_end(more: bool) -> Vec<u8> {
    frame(&Message::End(End { kind: number::END, request: 0, more }))
}

/// Why a bundle is not taken any further. What was taken before it stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    #[error("this is no bundle of huecry, or a newer one's")]
    Magic,
    #[error("a frame of {0} bytes; none is longer than {FRAME_BYTES_MAX}")]
    Long(usize),
    #[error("a frame does not read: {0}")]
    Frame(#[from] CborError),
    #[error("it ends in the middle; copy it again, what was whole of it has been taken")]
    Cut,
}

/// Takes a bundle apart as its bytes come.
#[derive(Default)]
pub struct BundleReader {
    buffer: Vec<u8>,
    begun: bool,
    ended: Option<bool>,
}

impl BundleReader {
    /// Takes some bytes; answers the messages that they complete.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Message>, BundleError> {
        self.buffer.extend_from_slice(bytes);
        if !self.begun {
            let known = self.buffer.len().min(BUNDLE_MAGIC.len());
            if self.buffer.get(..known) != BUNDLE_MAGIC.get(..known) {
                return Err(BundleError::Magic);
            }
            if known < BUNDLE_MAGIC.len() {
                return Ok(Vec::new());
            }
            self.begun = true;
            self.buffer.drain(..known);
        }
        let (mut messages, mut taken) = (Vec::new(), 0);
        while let Some((length, rest)) = self.buffer.get(taken..).and_then(|rest| rest.split_first_chunk::<4>()) {
            let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
            if length > FRAME_BYTES_MAX {
                return Err(BundleError::Long(length));
            }
            let Some(frame) = rest.get(..length) else { break };
            taken += 4 + length;
            match Message::decode(frame)? {
                Some(Message::End(end)) => self.ended = Some(end.more),
                Some(message) => messages.push(message),
                // From a newer version, which adds kinds of messages.
                None => (),
            }
        }
        self.buffer.drain(..taken);
        Ok(messages)
    }

    /// Whether it was whole; answers whether more parts follow.
    pub fn finish(self) -> Result<bool, BundleError> {
        match self.ended {
            Some(more) if self.buffer.is_empty() => Ok(more),
            _ if !self.begun => Err(BundleError::Magic),
            _ => Err(BundleError::Cut),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::{Pull, WireFeed};

    fn bundle(count: u64) -> Vec<u8> {
        let feed: crate::record::FeedId = "talos/c2".parse().unwrap();
        let pull = |request| Message::Pull(Pull { kind: number::PULL, request, feed: WireFeed::from(&feed), seq: request, ahead: None });
        let mut bytes = BUNDLE_MAGIC.to_vec();
        (1..=count).for_each(|request| bytes.extend(frame(&pull(request))));
        bytes.extend(bundle_end(false));
        bytes
    }

    #[test]
    fn a_bundle_reads_the_same_in_pieces_of_any_size_and_a_cut_is_noticed() {
        let bytes = bundle(5);
        for size in 1..bytes.len() {
            let mut reader = BundleReader::default();
            let mut count = 0;
            for piece in bytes.chunks(size) {
                count += reader.push(piece).unwrap().len();
            }
            assert_eq!((count, reader.finish()), (5, Ok(false)), "pieces of {size}");
        }
        for cut in 0..bytes.len() {
            let mut reader = BundleReader::default();
            reader.push(&bytes[..cut]).unwrap();
            assert!(reader.finish().is_err(), "cut at {cut}");
        }
        assert_eq!(BundleReader::default().push(b"PK\x03\x04"), Err(BundleError::Magic));
    }
}
