//! The yardstick of `bench ingest`: the same values in sled as one would lay them out at first, so that the figures of two machines can be
//! compared.

use crate::{cli::Failure, record::Observable};
use std::{path::Path, time::Instant};

/// Records that it takes: enough to see where it goes, few enough to wait for.
pub const RECORDS: u64 = 500_000;

/// Puts each record under its number, and that under its value, its member and its day: four small keys. Nothing is signed, verified or
/// judged; at the end all of it is on the disk. Answers records a second.
pub fn run(directory: &Path, values: impl Iterator<Item = Result<Observable, Failure>>) -> Result<u64, Failure> {
    let database = sled::open(directory).map_err(Failure::environment)?;
    let tree = |name: &str| database.open_tree(name).map_err(Failure::environment);
    let (records, by_value, by_member, by_day) = (tree("records")?, tree("values")?, tree("members")?, tree("days")?);
    let (begun, mut count) = (Instant::now(), 0u64);
    for (number, value) in (0u64..).zip(values) {
        let (key, value) = (number.to_be_bytes(), value?.to_string());
        let put = || {
            records.insert(key, value.as_bytes())?;
            by_value.insert([value.as_bytes(), &key].concat(), &[])?;
            by_member.insert([b"bench-vendor", &key[..]].concat(), &[])?;
            by_day.insert([&20_000u16.to_be_bytes()[..], &key].concat(), &[])
        };
        put().map_err(Failure::environment)?;
        count += 1;
    }
    database.flush().map_err(Failure::environment)?;
    Ok(super::rate(count, begun.elapsed()))
}
