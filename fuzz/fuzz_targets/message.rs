#![no_main]
//! Messages of the standing stream: what is read is written back the same.
use huecry::replica::Message;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some(message)) = Message::decode(bytes) {
        let again = message.encode();
        assert_eq!(Message::decode(&again), Ok(Some(message)));
    }
});
