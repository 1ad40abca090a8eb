#![no_main]
//! Whatever the check passes, ciborium decodes; nothing panics.
use huecry::cbor;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = cbor::check(bytes);
});
