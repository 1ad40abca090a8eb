#![no_main]
//! Lines of logs: whatever they are, the values that are found in them are values, and a known one between blanks is found.
use huecry::{ledger::{key_hash, value_key}, matching::{Lengths, Matcher, Sieve}, record::Observable};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let known = ["bad.example", "192.0.2.0/24", "2001:db8::/32", "http://evil.example/a", "d41d8cd98f00b204e9800998ecf8427e"];
    let (mut keys, mut lengths) = (Vec::new(), Lengths::default());
    for value in known.map(|value| value_key(&Observable::recognise(value).unwrap())) {
        lengths.note(&value);
        keys.push(key_hash(&value));
    }
    let sieve = Sieve::new(keys, lengths);
    let mut matcher = Matcher::new(&sieve);
    for line in bytes.split(|byte| *byte == b'\n') {
        let mut found = Vec::new();
        matcher.candidates(line, &mut found);
        for value in &found {
            assert_eq!(Observable::from_wire(value.kind(), value.wire().clone(), None).as_ref(), Ok(value));
        }
        let more = [line, b" bad.example ", line].concat();
        matcher.candidates(&more, &mut found);
        assert!(found.iter().any(|value| value.to_string() == "bad.example"));
    }
});
