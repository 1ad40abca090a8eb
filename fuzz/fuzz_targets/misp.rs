#![no_main]
//! Files of others: whatever they say, what is read of them can be said.
use huecry::{
    exchange::{About, Format, Layout, Reader, Said, TextReader},
    record::Record,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let text = TextReader::new(Layout::Plain, None);
    let mut reader = Reader::new(&About { format: Format::Misp, title: "t".to_owned(), text, subdomains: false }, bytes);
    loop {
        if bytes.chunks(61).try_for_each(|piece| reader.feed(piece)).is_err() {
            return;
        }
        let Ok(again) = reader.end_pass() else { return };
        for said in reader.take().said {
            if let Said::Indicator { indicator, group, .. } = said {
                Record::Indicator(*indicator).encode().unwrap();
                Record::Report(reader.group(group).report).encode().unwrap();
            }
        }
        if !again {
            return;
        }
    }
});
