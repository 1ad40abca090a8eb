//! Rehearsal: a federation in one process.
//!
//! | | what runs | time | for |
//! |---|---|---|---|
//! | [`crowd`] | real nodes with real swarms and ledgers, over memory links that take their time | the machine's own | figures |
//! | [`history`] | the quiet core alone: replication, intake, audiences | a seed drives it, and it replays bit for bit | correctness, hundreds at a time |
//!
//! Everything here makes its members up; nothing of it is used by a node.

pub mod crowd;
pub mod federation;
pub mod history;
pub mod hostile;
pub mod link;
pub mod notice;
pub mod strangers;

/// A value of the mix that public lists have: half domains, a third addresses, the rest URLs and hashes. All reserved names.
pub fn listed_value(number: u64) -> String {
    match number % 10 {
        0..=4 => format!("host-{number}.list-{}.example", number % 9_973),
        5..=7 => format!("2001:db8:{:x}:{:x}::{:x}", (number >> 32) & 0xffff, (number >> 16) & 0xffff, number & 0xffff),
        8 => format!("http://host-{number}.example/path/{}", number % 101),
        _ => hex::encode(crate::envelope::Hash::of(&number.to_be_bytes()).0),
    }
}

/// Numbers that a seed makes: SplitMix64 (Steele, Lea, Flood 2014), because a history must replay the same for ever,
/// whatever version of a library is there.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice that always fall the same for the same seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn throw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of `0..below`; 0 where there is nothing to choose.
    pub fn below(&mut self, below: u64) -> u64 {
        if below == 0 { 0 } else { self.throw() % below }
    }

    /// True in so many of a hundred cases.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// A seed for something else.
    pub fn seed(&mut self) -> [u8; 32] {
        let mut seed = [0; 32];
        seed.chunks_mut(8).for_each(|part| part.iter_mut().zip(self.throw().to_be_bytes()).for_each(|(to, from)| *to = from));
        seed
    }
}
