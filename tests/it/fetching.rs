//! What is asked of whom for one body, and what an answer is worth that comes late.

use crate::wire::{at, batch, federation, key, sealed};
use huecry::{
    envelope::{Domain, Hash, ProvedHead, SignedHead},
    intake::Spans,
    record::{FeedId, Timestamp},
    replica::{AHEAD_PER_PEER_MAX, Body, Cursor, EXPECTED_MS, Effect, HEDGE_MS, Message, PeerKey, Pull, ROUND_MS, Replica, number},
};

const ONE: PeerKey = [1; 32];
const OTHER: PeerKey = [2; 32];

fn proved() -> (ProvedHead, Vec<u8>) {
    let (head, body) = batch(|_| ());
    let signed = SignedHead::open(&sealed(&head, 31, Domain::Head), &federation()).unwrap();
    (signed.prove(&key(31).public()).unwrap(), body)
}

fn pulls(effects: &[Effect]) -> Vec<(PeerKey, u64)> {
    let pull = |effect: &Effect| match effect {
        Effect::Send { to, message: Message::Pull(pull) } => Some((*to, pull.request)),
        _ => None,
    };
    effects.iter().filter_map(pull).collect()
}

fn met(now: Timestamp) -> Replica {
    let mut replica = Replica::default();
    for peer in [ONE, OTHER] {
        replica.connected(peer, "xa-police".parse().unwrap(), now);
    }
    replica
}

#[test]
fn an_answer_counts_though_it_comes_after_everyone_was_asked() {
    let (start, nothing) = (at(1), |_: &FeedId| Spans::default());
    let (head, body) = proved();
    let mut replica = met(start);
    let asked = pulls(&replica.heard(head.clone(), ONE, &Spans::default(), start));
    assert_eq!(asked.len(), 1);
    replica.heard(head, OTHER, &Spans::default(), start);
    assert_eq!(
        pulls(&replica.tick(nothing, start.plus_ms(HEDGE_MS))),
        [(OTHER, asked[0].1)],
        "another announcer after a quarter of a second"
    );
    assert!(pulls(&replica.tick(nothing, start.plus_ms(2 * HEDGE_MS))).is_empty(), "nobody is left to ask, for now");
    // Slow, and right: on a busy machine every answer would be late, and none would ever count.
    let answer = Body { kind: number::BODY, request: asked[0].1, body: body.into(), withheld: None, path: Vec::new() };
    let effects = replica.body(ONE, answer, nothing, start.plus_ms(ROUND_MS));
    assert!(matches!(&effects[..], [Effect::Submit { served, .. }] if served.from == ONE), "{effects:?}");
}

#[test]
fn nobody_is_asked_again_before_the_round_is_over_and_then_all_are() {
    let (start, nothing) = (at(1), |_: &FeedId| Spans::default());
    let mut replica = met(start);
    let (head, body) = proved();
    let asked = pulls(&replica.heard(head, ONE, &Spans::default(), start));
    assert!(pulls(&replica.tick(nothing, start.plus_ms(HEDGE_MS))).is_empty(), "the other has not announced it");
    assert!(pulls(&replica.tick(nothing, start.plus_ms(ROUND_MS - 10))).is_empty());
    assert_eq!(pulls(&replica.tick(nothing, start.plus_ms(HEDGE_MS + ROUND_MS))), asked, "the same request again");
    // Who was never asked has no say.
    let answer = Body { kind: number::BODY, request: asked[0].1, body: body.into(), withheld: None, path: Vec::new() };
    assert!(replica.body(OTHER, answer, nothing, start.plus_ms(HEDGE_MS + ROUND_MS)).is_empty());
}

#[test]
fn who_asks_twice_for_what_is_still_coming_is_answered_once() {
    let start = at(1);
    let mut replica = met(start);
    let (head, _) = proved();
    let (feed, seq) = (head.head().feed(), head.head().seq);
    replica.heard(head, ONE, &Spans::default(), start);
    let pull = |request| Pull { kind: number::PULL, request, feed: (&feed).into(), seq, ahead: None };
    assert!(replica.pulled(OTHER, pull(5), false).is_empty() && replica.pulled(OTHER, pull(6), false).is_empty());
    let effects = replica.kept(&feed, seq, Some(ONE), false, &Spans::default(), start);
    let served: Vec<u64> =
        effects.iter().filter_map(|one| if let Effect::ServeBody { request, .. } = one { Some(*request) } else { None }).collect();
    assert_eq!(served, [6]);
}

/// A batch of the feed, further on.
fn later(seq: u64) -> (ProvedHead, Vec<u8>) {
    let (head, body) = batch(|head| (head.seq, head.prev) = (seq, Some(Hash([7; 32]))));
    let signed = SignedHead::open(&sealed(&head, 31, Domain::Head), &federation()).unwrap();
    (signed.prove(&key(31).public()).unwrap(), body)
}

fn through(seq: u64) -> Spans {
    Spans::of(vec![(1, seq)]).unwrap()
}

fn answered(request: u64, body: Vec<u8>) -> Body {
    Body { kind: number::BODY, request, body: body.into(), withheld: None, path: Vec::new() }
}

fn submitted(effects: &[Effect]) -> Vec<PeerKey> {
    let from = |effect: &Effect| if let Effect::Submit { served, .. } = effect { Some(served.from) } else { None };
    effects.iter().filter_map(from).collect()
}

#[test]
fn whoever_gave_the_last_batch_is_asked_for_the_next_before_there_is_one() {
    let (start, nine) = (at(1), |_: &FeedId| through(9));
    let (mut replica, (head, body)) = (met(start), later(10));
    let feed = head.head().feed();
    let asked = pulls(&replica.kept(&feed, 9, Some(ONE), false, &through(9), start));
    let [(ONE, request)] = asked[..] else { panic!("{asked:?}") };
    // Its body comes before its head, which another brings.
    assert!(replica.body(ONE, answered(request, body), nine, start).is_empty());
    let effects = replica.heard(head, OTHER, &through(9), start);
    assert!(pulls(&effects).is_empty(), "nobody has to be asked: {effects:?}");
    assert_eq!(submitted(&effects), [ONE]);
    assert_eq!(pulls(&replica.kept(&feed, 10, Some(ONE), false, &through(10), start)).len(), 1, "and so on");
}

#[test]
fn a_parent_that_says_nothing_costs_one_hedge_and_is_no_parent_any_more() {
    let (start, nine) = (at(1), |_: &FeedId| through(9));
    let (mut replica, (head, body)) = (met(start), later(10));
    let feed = head.head().feed();
    replica.kept(&feed, 9, Some(ONE), false, &through(9), start);
    assert!(pulls(&replica.heard(head, OTHER, &through(9), start)).is_empty());
    let asked = pulls(&replica.tick(nine, start.plus_ms(HEDGE_MS)));
    let [(OTHER, request)] = asked[..] else { panic!("{asked:?}") };
    assert_eq!(submitted(&replica.body(OTHER, answered(request, body), nine, start.plus_ms(HEDGE_MS))), [OTHER]);
    let next = pulls(&replica.kept(&feed, 10, Some(OTHER), false, &through(10), start.plus_ms(HEDGE_MS)));
    assert!(matches!(next[..], [(OTHER, _)]), "{next:?}");
}

#[test]
fn a_body_that_comes_unasked_or_from_another_is_not_kept_for_its_head() {
    let (start, nine) = (at(1), |_: &FeedId| through(9));
    let (mut replica, (head, body)) = (met(start), later(10));
    let asked = pulls(&replica.kept(&head.head().feed(), 9, Some(ONE), false, &through(9), start));
    replica.body(OTHER, answered(asked[0].1, body.clone()), nine, start);
    replica.body(ONE, answered(asked[0].1 + 1, body), nine, start);
    assert!(submitted(&replica.heard(head, OTHER, &through(9), start)).is_empty());
}

#[test]
fn what_is_asked_for_ahead_waits_until_there_is_such_a_batch_and_only_for_so_many_feeds() {
    let start = at(1);
    let mut replica = met(start);
    let feed: FeedId = "vendor-one/c2".parse().unwrap();
    let pull = |feed: &FeedId, request| Pull { kind: number::PULL, request, feed: feed.into(), seq: 10, ahead: Some(true) };
    assert!(replica.pulled(OTHER, pull(&feed, 5), false).is_empty());
    let served = |effects: Vec<Effect>| {
        let one = |effect: &Effect| if let Effect::ServeBody { request, .. } = effect { Some(*request) } else { None };
        effects.iter().filter_map(one).collect::<Vec<u64>>()
    };
    assert!(served(replica.kept(&feed, 9, None, false, &through(9), start)).is_empty());
    assert_eq!(served(replica.kept(&feed, 10, None, false, &through(10), start)), [5]);
    assert!(served(replica.kept(&feed, 10, None, false, &through(10), start)).is_empty(), "once");
    for lane in 0..AHEAD_PER_PEER_MAX as u32 {
        assert!(replica.pulled(OTHER, pull(&FeedId { lane, ..feed.clone() }, 6), false).is_empty());
    }
    let beyond = FeedId { lane: AHEAD_PER_PEER_MAX as u32, ..feed };
    assert_eq!(served(replica.pulled(OTHER, pull(&beyond, 7), false)), [7], "answered at once, that there is none");
}

#[test]
fn two_that_wait_for_each_other_notice_it_at_once() {
    let start = at(1);
    let (mut replica, (head, _)) = (met(start), later(10));
    let (feed, seq) = (head.head().feed(), 10);
    replica.heard(head, ONE, &through(9), start);
    let pull = |request| Pull { kind: number::PULL, request, feed: (&feed).into(), seq, ahead: None };
    assert!(replica.pulled(OTHER, pull(5), false).is_empty(), "it comes from elsewhere, so another may wait for it");
    assert!(matches!(replica.pulled(ONE, pull(6), false)[..], [Effect::ServeBody { request: 6, .. }]), "it may not");
}

#[test]
fn what_is_on_its_way_is_asked_for_by_range_only_when_it_does_not_come() {
    let (start, nine) = (at(1), |_: &FeedId| through(9));
    let mut replica = met(start);
    let (head, _) = later(10);
    let feed = head.head().feed();
    replica.kept(&feed, 9, Some(ONE), false, &through(9), start);
    let cursor = |last| Cursor { feed: (&feed).into(), intervals: vec![(1, last)], head: head.id(), incomplete: None };
    let ranges = |effects: &[Effect]| {
        let one = |effect: &Effect| match effect {
            Effect::Send { to, message: Message::Range(range) } => Some((*to, range.first, range.last)),
            _ => None,
        };
        effects.iter().filter_map(one).collect::<Vec<_>>()
    };
    assert!(ranges(&replica.cursors(OTHER, vec![cursor(10)], nine, start)).is_empty());
    assert!(ranges(&replica.tick(nine, start.plus_ms(EXPECTED_MS - 1))).is_empty());
    assert_eq!(ranges(&replica.tick(nine, start.plus_ms(EXPECTED_MS))), [(OTHER, 10, 10)]);
    // More than one batch is no longer on its way: it was missed.
    let mut replica = met(start);
    replica.kept(&feed, 9, Some(ONE), false, &through(9), start);
    assert_eq!(ranges(&replica.cursors(OTHER, vec![cursor(11)], nine, start)), [(OTHER, 10, 11)]);
}
