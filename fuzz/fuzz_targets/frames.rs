#![no_main]
//! Frames of gossip as they are watched: in pieces of any length the same frames end as in the whole.
use huecry::node::frames::Frames;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let (cut, rest) = bytes.split_first().map_or((1, bytes), |(first, rest)| (usize::from(*first).max(1), rest));
    let ended = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let (mut frames, mut ended) = (Frames::default(), Vec::new());
        pieces.for_each(|piece| frames.pass(piece, |begin| ended.push(begin.to_vec())));
        (ended, frames.is_between())
    };
    assert_eq!(ended(&mut rest.chunks(cut)), ended(&mut std::iter::once(rest)));
});
