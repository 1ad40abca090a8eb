#![no_main]
//! Lines of indicator files, in every layout: a value that is read has one spelling on the wire.
use huecry::{exchange::{Layout, TextReader}, record::Observable};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for layout in [Layout::Plain, Layout::Csv, Layout::Prose] {
        let mut reader = TextReader::new(layout, None);
        let (mut values, mut complaints) = (Vec::new(), Vec::new());
        bytes.split(|byte| *byte == b'\n').for_each(|line| reader.line(line, &mut complaints, |one, _| values.push(one.value)));
        reader.end(&mut complaints, |one, _| values.push(one.value));
        for value in values {
            let wire = Observable::from_wire(value.kind(), value.wire().clone(), None);
            assert_eq!(wire.ok(), Some(value));
        }
    }
});
