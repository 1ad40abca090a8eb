#![no_main]
//! Bodies under a head that does not commit to them: opened, and refused without a panic.
use huecry::envelope::{Audience, Class, FederationId, HEAD_FORMAT, Hash, Head, ProvedBatch, ProvedHead, SecretKey, SignedHead, record_spans};
use huecry::{cbor, record::{Timestamp, Tlp}};
use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;

fn head() -> ProvedHead {
    static HEAD: OnceLock<ProvedHead> = OnceLock::new();
    HEAD.get_or_init(|| {
        let head = Head {
            format: HEAD_FORMAT,
            member: "vendor-one".parse().unwrap(),
            channel: "c2".parse().unwrap(),
            lane: 0,
            epoch: 1,
            audience: Audience::federation(),
            seq: 1,
            prev: None,
            floor_seq: 1,
            time: Timestamp::from_ms(1).unwrap(),
            tlp: Tlp::Green,
            class: Class::Content,
            count: 4,
            body_length: 200,
            root: Hash([0; 32]),
        };
        SignedHead::sign(&head, &SecretKey::from_seed(&[7; 32]).unwrap(), &FederationId([1; 32])).unwrap()
    })
    .clone()
}

fuzz_target!(|bytes: &[u8]| {
    assert!(ProvedBatch::open(head(), bytes.to_vec()).is_err(), "nothing hashes to zero");
    if cbor::check(bytes).is_ok() {
        let _ = record_spans(bytes);
    }
});
