#![no_main]
//! Names of records in a text: a name is found wherever it stands, in pieces of any length as in the whole.
use huecry::record::{NameScanner, RecordRef, names_in};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (cut, rest) = bytes.split_first().map_or((1, bytes), |(first, rest)| (usize::from(*first).max(1), rest));
    let text = format!("{} some-vendor/leads#12.3 {}", String::from_utf8_lossy(rest), String::from_utf8_lossy(rest));
    let mut scanner = NameScanner::default();
    let pieces: Vec<RecordRef> = text.as_bytes().chunks(cut).flat_map(|piece| scanner.feed(piece)).collect();
    let named = |found: &[RecordRef]| found.iter().any(|one| one.to_string() == "some-vendor/leads#12.3");
    assert!(named(&pieces) && named(&names_in(&text)));
});
