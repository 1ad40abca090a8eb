//! Which lengths the prefixes of networks have that are named at all, so that whoever looks for those around an address tries no others.

use ipnet::IpNet;
use std::sync::atomic::{AtomicU64, Ordering};

/// Prefix lengths of networks, by address family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lengths {
    v4: u64,
    v6: [u64; 4],
}

impl Lengths {
    /// Every length there may be.
    pub const ALL: Self = Self { v4: u64::MAX, v6: [u64::MAX; 4] };

    /// Those whose bits are set in these words: IPv4's, then IPv6's.
    pub fn of([v4, v6 @ ..]: [u64; 5]) -> Self {
        Self { v4, v6 }
    }

    /// As [`Self::of`] takes them.
    pub fn words(self) -> [u64; 5] {
        let [a, b, c, d] = self.v6;
        [self.v4, a, b, c, d]
    }

    /// Notes the network that a key of the index names, if it names one.
    pub fn note(&mut self, key: &[u8]) {
        match key {
            [b'n', b'4', _, _, _, _, length] => self.v4 |= 1 << (length & 63),
            [b'n', b'6', _, .., length] => {
                if let Some(word) = self.v6.get_mut(usize::from(*length) / 64) {
                    *word |= 1 << (length % 64);
                }
            }
            _ => (),
        }
    }

    /// Whether there may be networks as wide as this one.
    pub fn has(self, net: &IpNet) -> bool {
        let length = net.prefix_len();
        match net {
            IpNet::V4(_) => self.v4 >> (length & 63) & 1 == 1,
            IpNet::V6(_) => self.v6.get(usize::from(length) / 64).is_some_and(|word| word >> (length % 64) & 1 == 1),
        }
    }

    /// Lengths of IPv4 networks, the widest first.
    pub fn v4(self) -> impl Iterator<Item = u8> {
        ones(self.v4)
    }

    /// Lengths of IPv6 networks, the widest first.
    pub fn v6(self) -> impl Iterator<Item = u8> {
        (0u8..4).zip(self.v6).flat_map(|(number, word)| ones(word).map(move |length| number * 64 + length))
    }
}

/// The places of the ones in a word, from the lowest.
fn ones(word: u64) -> impl Iterator<Item = u8> {
    std::iter::successors(Some(word), |word| Some(word & word.saturating_sub(1))).take_while(|word| *word != 0).map(|word| {
        // At most 63.
        word.trailing_zeros() as u8
    })
}

/// The same, noted by many at once.
#[derive(Debug, Default)]
pub(super) struct NotedLengths([AtomicU64; 5]);

impl NotedLengths {
    pub fn add(&self, lengths: Lengths) {
        for (noted, word) in self.0.iter().zip(lengths.words()).filter(|(_, word)| *word != 0) {
            noted.fetch_or(word, Ordering::Release);
        }
    }

    pub fn get(&self) -> Lengths {
        Lengths::of(std::array::from_fn(|number| self.0.get(number).map_or(u64::MAX, |word| word.load(Ordering::Acquire))))
    }
}
