//! The Merkle tree over a batch: salted leaves, RFC 9162 nodes.
//!
//! Leaf i is SHA-256(0x00, nonce_i, record_i). The nonce comes from the batch's secret-until-sent seed: without it the
//! hash of a withheld or erased IPv4 record would fall to 2^32 guesses, eleven minutes on this machine.
//! Follows: RFC 9162 section 2.1.1 for the shape and the node prefix.

use super::Hash;
use crate::cbor::fixed_bytes;
use sha2::{Digest as _, Sha256};

fixed_bytes! {
    /// What all nonces of a batch are derived from; random for each batch.
    pub struct Seed [16]
}

fixed_bytes! {
    /// What salts one leaf.
    pub struct Nonce [16]
}

/// Fixed in the wire definition: begins what a nonce is the hash of.
const NONCE_TAG: &[u8] = b"huecry/v1/nonce";

/// The nonce of record `index`: first 16 bytes of SHA-256(tag, seed, index as two bytes, big-endian).
pub fn nonce(seed: &Seed, index: u16) -> Nonce {
    let hash: [u8; 32] = Sha256::new().chain_update(NONCE_TAG).chain_update(seed.0).chain_update(index.to_be_bytes()).finalize().into();
    let mut nonce = [0; 16];
    nonce.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    Nonce(nonce)
}

/// The leaf hash of a record.
pub fn leaf(nonce: &Nonce, record: &[u8]) -> Hash {
    Hash(Sha256::new().chain_update([0]).chain_update(nonce.0).chain_update(record).finalize().into())
}

/// The hash of an inner node.
pub fn node(left: &Hash, right: &Hash) -> Hash {
    Hash(Sha256::new().chain_update([1]).chain_update(left.0).chain_update(right.0).finalize().into())
}

/// Where a tree over `count` leaves (at least 2) divides: the largest power of two below `count`.
pub fn split(count: usize) -> usize {
    count.next_power_of_two() / 2
}

/// The root over `leaves`, in order; of none, the hash of nothing.
pub fn root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Hash::of(&[]),
        [only] => *only,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            node(&root(left), &root(right))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_divides_at_the_largest_power_of_two_below_its_size() {
        for (count, left) in [(2, 1), (3, 2), (4, 2), (5, 4), (8, 4), (9, 8), (256, 128)] {
            assert_eq!(split(count), left);
        }
    }

    #[test]
    fn a_leaf_cannot_be_mistaken_for_a_node() {
        let (a, b) = (leaf(&Nonce([0; 16]), b"a"), leaf(&Nonce([0; 16]), b"b"));
        let disguised = [&a.0[16..], &b.0[..]].concat();
        let nonce = Nonce(a.0[..16].try_into().unwrap());
        assert_ne!(leaf(&nonce, &disguised), node(&a, &b));
    }

    proptest::proptest! {
        /// ct-merkle is an implementation by other hands; a leaf of its is our salted preimage.
        #[test]
        fn roots_equal_those_of_an_independent_implementation(records in proptest::collection::vec(proptest::collection::vec(0u8.., 0..40), 1..=256)) {
            let seed = Seed([9; 16]);
            let mut theirs = ct_merkle::mem_backed_tree::MemoryBackedTree::<sha2::Sha256, Vec<u8>>::new();
            let mut ours = Vec::new();
            for (index, record) in records.iter().enumerate() {
                let nonce = nonce(&seed, index as u16);
                theirs.push([&nonce.0[..], record].concat());
                ours.push(leaf(&nonce, record));
            }
            let expected = theirs.root();
            proptest::prop_assert_eq!(&root(&ours).0[..], expected.as_bytes().as_slice());
        }
    }
}
