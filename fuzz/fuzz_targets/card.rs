#![no_main]
//! Cards and whereabouts.
use huecry::{charter::{SignedCard, open_whereabouts}, envelope::{FederationId, SecretKey}};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let home = FederationId([1; 32]);
    let _ = SignedCard::open(bytes, &home, |_| None);
    let _ = open_whereabouts(bytes, &SecretKey::from_seed(&[7; 32]).unwrap().public(), &home);
});
