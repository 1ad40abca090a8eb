#![no_main]
//! STIX patterns: parsed or refused, and what they are a list of is values.
use huecry::exchange::{Pattern, terms};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(pattern) = Pattern::parse(text)
        && let Ok(alternatives) = pattern.alternatives()
    {
        alternatives.iter().for_each(|alternative| drop(terms(alternative)));
    }
});
