//! One budget for all memory in which the ledger keeps what it has read: `limits.cache_bytes` in node.toml.
//!
//! All of it is filled by use alone: an empty ledger takes none.

/// Memory for what was read and may be read again, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheBudget(u64);

/// Default: a node with a million records stays below 150 MiB with everything in memory that look-ups need.
pub const CACHE_BYTES: u64 = 128 * 1024 * 1024;
/// Least: below it every look-up reads the same blocks from the disk again.
pub const CACHE_BYTES_MIN: u64 = 8 * 1024 * 1024;

impl CacheBudget {
    /// So many bytes, at least `CACHE_BYTES_MIN`.
    pub fn bytes(bytes: u64) -> Self {
        Self(bytes.max(CACHE_BYTES_MIN))
    }

    /// Blocks of the index: half. A million values take some 40 MiB there.
    pub(super) fn index_bytes(self) -> u64 {
        self.0 / 2
    }

    /// Batches: three eighths. A million records take some 60 MiB as they were received.
    pub(super) fn batch_bytes(self) -> u64 {
        self.0 / 8 * 3
    }

    /// Pages of the state: an eighth. The state of a large federation is some 20 MiB.
    pub(super) fn state_bytes(self) -> u64 {
        self.0 / 8
    }
}

impl Default for CacheBudget {
    fn default() -> Self {
        Self(CACHE_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_the_whole() {
        for bytes in [0, CACHE_BYTES_MIN, CACHE_BYTES, 1 << 40] {
            let budget = CacheBudget::bytes(bytes);
            assert_eq!(budget.index_bytes() + budget.batch_bytes() + budget.state_bytes(), bytes.max(CACHE_BYTES_MIN));
        }
    }
}
