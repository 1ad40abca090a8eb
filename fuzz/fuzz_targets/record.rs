#![no_main]
//! A record that is accepted has exactly one spelling.
use huecry::record::{Decoded, Record};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Decoded::Record(record)) = Record::decode(bytes) {
        assert_eq!(record.encode().as_deref(), Ok(bytes));
    }
});
