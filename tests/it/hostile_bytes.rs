//! Every decoder of strangers' bytes, on bytes that were made to hurt: nothing panics, nothing is accepted in two spellings.
//! The fuzz targets under `fuzz/` go on from here.

use huecry::{
    cbor,
    charter::{SignedCard, SignedCharter},
    envelope::{Cosigned, Domain, FederationId, SignedHead, record_spans},
    record::{Decoded, Observable, Record},
    replica::Message,
};
use proptest::prelude::*;

const HOME: FederationId = FederationId([1; 32]);

/// Gives bytes to every decoder. What is accepted as a record has one spelling.
fn feed(bytes: &[u8]) {
    let _ = cbor::check(bytes);
    let _ = SignedHead::open(bytes, &HOME);
    let _ = SignedCharter::first(bytes, None);
    let _ = SignedCard::open(bytes, &HOME, |_| None);
    let _ = Cosigned::open(bytes, Domain::Charter, |_| HOME, 1 << 20);
    let _ = Message::decode(bytes);
    if cbor::check(bytes).is_ok() {
        let _ = record_spans(bytes);
    }
    if let Ok(Decoded::Record(record)) = Record::decode(bytes) {
        assert_eq!(record.encode().unwrap(), bytes, "a record with a second spelling");
    }
}

proptest! {
    #[test]
    fn random_bytes_are_refused_in_peace(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        feed(&bytes);
    }

    #[test]
    fn near_misses_of_good_bytes_are_refused_in_peace(vector in 0usize..1000, at in any::<prop::sample::Index>(), bit in 0u8..8, cut in any::<prop::sample::Index>()) {
        let vectors = crate::wire::all();
        let (_, bytes) = &vectors[vector % vectors.len()];
        let mut changed = bytes.clone();
        changed[at.index(bytes.len())] ^= 1 << bit;
        feed(&changed);
        feed(&bytes[..cut.index(bytes.len())]);
    }

    #[test]
    fn any_text_is_a_value_with_one_spelling_or_none(text in "\\PC{0,60}") {
        if let Ok(value) = Observable::recognise(&text) {
            let again = Observable::from_wire(value.kind(), value.wire().clone(), None);
            prop_assert_eq!(again.ok(), Some(value.clone()), "the wire takes what we make");
            let read = Observable::from_text(value.kind(), &value.to_string());
            prop_assert_eq!(read.ok(), Some(value), "a printed value reads back");
        }
    }
}

#[test]
fn e_08_a_mebibyte_of_nothing_costs_little() {
    let bomb = vec![0x80; 1 << 20];
    let begun = std::time::Instant::now();
    feed(&bomb);
    feed(&vec![0x81; 65_536]);
    feed(&[&[0x9b][..], &[0xff; 8]].concat());
    // Not a figure, a guard: a decoder that walks what it should refuse takes minutes.
    assert!(begun.elapsed().as_secs() < 5);
}
