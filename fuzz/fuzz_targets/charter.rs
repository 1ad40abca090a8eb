#![no_main]
//! Charters, from the first on.
use huecry::charter::SignedCharter;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = SignedCharter::first(bytes, None);
});
