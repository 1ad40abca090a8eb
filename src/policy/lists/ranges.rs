//! Address ranges of all lists in one table: the address line cut into segments, each with the set of lists that hold it.

use super::{ListNumber, NO_LIST, SetNumber};
use smallvec::SmallVec;
use std::collections::BTreeMap;

/// First and last address, both included.
pub type Bounds = (u128, u128);

/// Segments under one summary: a wide network is answered from summaries, not from every segment in it.
const BLOCK: usize = 256;

/// The address line as segments: each begins at its number and ends before the next.
#[derive(Default)]
pub struct Ranges {
    begins: Vec<u128>,
    sets: Vec<SetNumber>,
    /// The union of every [`BLOCK`] segments.
    blocks: Vec<Vec<ListNumber>>,
    /// For each first half of an IPv4 address, and one more: the segments that begin before it. Nearly all addresses asked
    /// about are IPv4, and a search through all segments is a dozen cache misses.
    v4: Vec<u32>,
}

/// Where IPv4 begins on the address line (RFC 4291 section 2.5.5.2).
const V4_BASE: u128 = 0xffff_0000_0000;

impl Ranges {
    /// Builds the table; `number` gives a set of lists its number.
    pub fn of(mut ranges: Vec<(Bounds, ListNumber)>, mut number: impl FnMut(Vec<ListNumber>) -> SetNumber) -> Self {
        // An end is an event at the address after it; the last address of all has none.
        let ends = ranges.iter().filter_map(|((_, last), list)| Some((last.checked_add(1)?, *list, false)));
        let mut events: Vec<(u128, ListNumber, bool)> = ranges.iter().map(|((first, _), list)| (*first, *list, true)).chain(ends).collect();
        ranges.clear();
        events.sort_unstable();
        let mut table = Self::default();
        let mut active: BTreeMap<ListNumber, u32> = BTreeMap::new();
        let mut lists_of_sets: BTreeMap<SetNumber, Vec<ListNumber>> = BTreeMap::new();
        let mut rest = events.as_slice();
        while let Some((at, _, _)) = rest.first() {
            let here = rest.partition_point(|(begin, _, _)| begin <= at);
            let (now, later) = rest.split_at(here);
            for (_, list, begins) in now {
                let count = active.entry(*list).or_default();
                *count = if *begins { *count + 1 } else { count.saturating_sub(1) };
            }
            active.retain(|_, count| *count > 0);
            let lists: Vec<ListNumber> = active.keys().copied().collect();
            let set = number(lists.clone());
            lists_of_sets.entry(set).or_insert(lists);
            if table.sets.last() != Some(&set) {
                table.begins.push(*at);
                table.sets.push(set);
            }
            rest = later;
        }
        table.blocks = table.sets.chunks(BLOCK).map(|sets| union(sets, &lists_of_sets)).collect();
        let before = |half: u128| table.begins.partition_point(|begin| *begin < V4_BASE + (half << 16)) as u32;
        table.v4 = (0..=0x1_0000).map(before).collect();
        table.begins.shrink_to_fit();
        table.sets.shrink_to_fit();
        table
    }

    /// The ranges that this table was made of, merged, to build a larger one.
    pub fn entries(&self, lists: impl Fn(SetNumber) -> Vec<ListNumber>) -> Vec<(Bounds, ListNumber)> {
        let ends = self.begins.iter().skip(1).map(|begin| begin.saturating_sub(1)).chain([u128::MAX]);
        let segments = self.begins.iter().zip(ends).zip(&self.sets).filter(|(_, set)| **set != NO_LIST);
        segments.flat_map(|((first, last), set)| lists(*set).into_iter().map(move |list| ((*first, last), list))).collect()
    }

    /// How many segments begin at or before an address.
    fn begun(&self, address: u128) -> usize {
        let half = (address >> 16).wrapping_sub(V4_BASE >> 16) as usize;
        let bucket = if address >> 32 == V4_BASE >> 32 { self.v4.get(half).zip(self.v4.get(half + 1)) } else { None };
        let (from, to) = bucket.map_or((0, self.begins.len()), |(from, to)| (*from as usize, *to as usize));
        from + self.begins.get(from..to).unwrap_or_default().partition_point(|begin| *begin <= address)
    }

    /// Adds the lists that share an address with `first..=last`. At most two blocks of segments and all summaries are read.
    pub fn collect<'a>(
        &self,
        first: u128,
        last: u128,
        lists: impl Fn(SetNumber) -> &'a [ListNumber],
        found: &mut SmallVec<[ListNumber; 8]>,
    ) {
        let mut at = self.begun(first).saturating_sub(1);
        let end = if first == last { at + 1 } else { self.begun(last) };
        while at < end {
            let whole_block = at.is_multiple_of(BLOCK) && at + BLOCK <= end;
            match (whole_block, self.blocks.get(at / BLOCK), self.sets.get(at)) {
                (true, Some(union), _) => {
                    found.extend_from_slice(union);
                    at += BLOCK;
                }
                (_, _, Some(set)) => {
                    found.extend_from_slice(lists(*set));
                    at += 1;
                }
                _ => return,
            }
            if found.len() > 4 * BLOCK {
                found.sort_unstable();
                found.dedup();
            }
        }
    }
}

fn union(sets: &[SetNumber], lists: &BTreeMap<SetNumber, Vec<ListNumber>>) -> Vec<ListNumber> {
    let mut all: Vec<ListNumber> = sets.iter().filter_map(|set| lists.get(set)).flatten().copied().collect();
    all.sort_unstable();
    all.dedup();
    all
}
