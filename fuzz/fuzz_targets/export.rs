#![no_main]
//! Values in the formats of tools: what was written reads back, and nothing else.
use huecry::{
    exchange::{Entry, Sheet, Tool},
    record::{Observable, Timestamp},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let now = Timestamp::from_ms(1_790_000_000_000).unwrap();
    let until = Timestamp::from_ms(1_800_000_000_000).unwrap();
    let read = [Observable::recognise(text), Observable::other_from_text("text", text)];
    let mut entries: Vec<Entry> = read.into_iter().flatten().map(|value| Entry { value, below: false, until, watched: false }).collect();
    entries.sort();
    for tool in Tool::ALL {
        let sheet = Sheet { name: "fuzz", serial: 1, now, blocks: true, sid: 1 };
        tool.write(&entries, &sheet).reads_back(tool).unwrap();
    }
});
