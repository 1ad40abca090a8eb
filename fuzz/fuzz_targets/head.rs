#![no_main]
//! Heads, and the two-head proofs that hold them.
use huecry::envelope::{FederationId, SignedHead};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = SignedHead::open(bytes, &FederationId([1; 32]));
});
