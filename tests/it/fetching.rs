//! What is asked of whom for one body, and what an answer is worth that comes late.

use crate::wire::{at, batch, federation, key, sealed};
use huecry::{
    envelope::{Domain, ProvedHead, SignedHead},
    intake::Spans,
    record::{FeedId, Timestamp},
    replica::{Body, Effect, HEDGE_MS, Message, PeerKey, Pull, ROUND_MS, Replica, number},
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
    let pull = |request| Pull { kind: number::PULL, request, feed: (&feed).into(), seq };
    assert!(replica.pulled(OTHER, pull(5), false).is_empty() && replica.pulled(OTHER, pull(6), false).is_empty());
    let effects = replica.kept(&feed, seq, Some(ONE), false, &Spans::default(), start);
    let served: Vec<u64> =
        effects.iter().filter_map(|one| if let Effect::ServeBody { request, .. } = one { Some(*request) } else { None }).collect();
    assert_eq!(served, [6]);
}
