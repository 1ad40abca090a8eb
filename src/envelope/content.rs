//! Content: how what is too long for a record proves itself piece by piece.
//!
//! A document's content is cut into chunks; the record carries the root of a Merkle tree over them, so that each chunk is
//! checked as it comes, from whoever sends it, and a fetch that was cut goes on where it stopped. Leaves are not salted: who
//! may not have the content may not have the record either.
//! Follows: RFC 9162 section 2.1.1 for leaf, node and shape, section 2.1.3 for paths.

use super::{Hash, merkle};
use crate::record::ContentHash;
use sha2::{Digest as _, Sha256};

/// Bytes of a chunk; the last one may be shorter. With its path it fits into a frame.
pub const CHUNK_BYTES: usize = 64 * 1024;

/// How many chunks a content of `length` bytes has.
pub fn chunk_count(length: u64) -> u64 {
    length.div_ceil(CHUNK_BYTES as u64)
}

/// The leaf of a chunk.
pub fn chunk_leaf(chunk: &[u8]) -> Hash {
    Hash(Sha256::new().chain_update([0]).chain_update(chunk).finalize().into())
}

/// The whole tree over a content, level by level, leaves first. An odd last node goes up as it is, which gives the shape of
/// RFC 9162. 256 MiB of content have 4,096 leaves, so the largest tree takes 256 KiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentTree {
    levels: Vec<Vec<Hash>>,
}

impl ContentTree {
    /// The tree over these leaves, in order; there is at least one in anything that has a root.
    pub fn of(leaves: Vec<Hash>) -> Self {
        let mut levels = vec![leaves];
        while let Some(below) = levels.last().filter(|level| level.len() > 1) {
            let above = below.chunks(2).map(|pair| match pair {
                [left, right] => merkle::node(left, right),
                other => other.first().copied().unwrap_or(Hash([0; 32])),
            });
            let above = above.collect();
            levels.push(above);
        }
        Self { levels }
    }

    /// The root, which names the content.
    pub fn root(&self) -> ContentHash {
        let root = self.levels.last().and_then(|level| level.first());
        ContentHash(root.map_or_else(|| merkle::root(&[]).0, |root| root.0))
    }

    /// The hashes that prove chunk `index`, from its sibling upwards; `None` if there is no such chunk.
    pub fn path(&self, index: u64) -> Option<Vec<Hash>> {
        let mut at = usize::try_from(index).ok().filter(|at| self.levels.first().is_some_and(|leaves| *at < leaves.len()))?;
        let mut path = Vec::new();
        for level in &self.levels {
            path.extend(level.get(at ^ 1).filter(|_| level.len() > 1));
            at /= 2;
        }
        Some(path)
    }
}

/// Whether `chunk` is number `index` of the content with this root and length: of the right size, and on a path to the root.
pub fn chunk_proves(root: &ContentHash, length: u64, index: u64, chunk: &[u8], path: &[Hash]) -> bool {
    let mut count = chunk_count(length);
    let size = length.saturating_sub(index.saturating_mul(CHUNK_BYTES as u64)).min(CHUNK_BYTES as u64);
    if index >= count || chunk.len() as u64 != size {
        return false;
    }
    let (mut hash, mut at, mut path) = (chunk_leaf(chunk), index, path.iter());
    while count > 1 {
        // The last of an odd number has no sibling.
        if at ^ 1 < count {
            let Some(sibling) = path.next() else { return false };
            hash = if at % 2 == 0 { merkle::node(&hash, sibling) } else { merkle::node(sibling, &hash) };
        }
        (at, count) = (at / 2, count.div_ceil(2));
    }
    path.next().is_none() && hash.0 == root.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunks(length: usize) -> Vec<Vec<u8>> {
        (0..length).map(|at| (at % 251) as u8).collect::<Vec<_>>().chunks(CHUNK_BYTES).map(<[u8]>::to_vec).collect()
    }

    #[test]
    fn every_chunk_proves_itself_and_nothing_else() {
        for length in [1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES, 5 * CHUNK_BYTES + 7, 13 * CHUNK_BYTES] {
            let chunks = chunks(length);
            let tree = ContentTree::of(chunks.iter().map(|chunk| chunk_leaf(chunk)).collect());
            assert_eq!(tree.root().0, merkle::root(&chunks.iter().map(|chunk| chunk_leaf(chunk)).collect::<Vec<_>>()).0, "one shape");
            let proves = |index: u64, chunk: &[u8], path: &[Hash]| chunk_proves(&tree.root(), length as u64, index, chunk, path);
            for (index, chunk) in (0u64..).zip(&chunks) {
                let path = tree.path(index).unwrap();
                assert!(proves(index, chunk, &path));
                let mut other = chunk.clone();
                other[0] ^= 1;
                assert!(!proves(index, &other, &path));
                assert!(!proves(index + 1, chunk, &path) || chunks.get(index as usize + 1) == Some(chunk));
                assert!(!proves(index, &chunk[1..], &path));
                assert!(!proves(index, chunk, &[&path[..], &[Hash([0; 32])]].concat()));
                assert!(path.is_empty() || !proves(index, chunk, &path[1..]));
            }
            assert_eq!(tree.path(chunks.len() as u64), None);
        }
    }

    #[test]
    fn a_node_does_not_pass_for_a_chunk() {
        let tree = ContentTree::of(chunks(4 * CHUNK_BYTES).iter().map(|chunk| chunk_leaf(chunk)).collect());
        let inner = [tree.path(2).unwrap()[0].0, tree.path(3).unwrap()[0].0].concat();
        // Whoever claims that the content is shorter needs a preimage that begins with another byte.
        assert!(!chunk_proves(&tree.root(), inner.len() as u64, 0, &inner, &[]));
    }

    proptest::proptest! {
        /// ct-merkle is an implementation by other hands.
        #[test]
        fn roots_equal_those_of_an_independent_implementation(count in 1usize..200) {
            let mut theirs = ct_merkle::mem_backed_tree::MemoryBackedTree::<sha2::Sha256, Vec<u8>>::new();
            let leaves = (0..count).map(|at| {
                let chunk = vec![at as u8; 3];
                theirs.push(chunk.clone());
                chunk_leaf(&chunk)
            });
            let ours = ContentTree::of(leaves.collect());
            let expected = theirs.root();
            proptest::prop_assert_eq!(&ours.root().0[..], expected.as_bytes().as_slice());
        }
    }
}
