//! A key that is given up, in a crowd: how long until every node knows, and what the key is worth from then on (G-08).

use super::{
    crowd::{Failed, PATIENCE, Running, percentile},
    federation::{self, Federation},
};
use crate::{
    charter::{Card, Pin, SignedCard},
    clock::Clock,
    envelope::{Audience, Class},
    intake::Known as _,
    node::door::{Request, document},
    publish::{Lane, Publisher},
    record::{FeedId, Indicator, Observable, Record, Tlp},
};
use std::time::{Duration, Instant};

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Notice {
    /// Until 99 of 100 nodes had the card.
    pub p99_ms: u64,
    /// Nodes that would still have taken what the key signs after it.
    pub taken_after: u64,
}

/// Member `number` gives its publishing key up by a card that pins where its feed ends; then whoever stole the key goes on.
pub async fn give_up(number: usize, crowd: &[Running], federation: &Federation) -> Result<Notice, Failed> {
    let (actor, author) = (federation.actors.get(number).ok_or("no such member")?, crowd.get(number).ok_or("no such node")?);
    let feed = FeedId { member: actor.id.clone(), channel: federation::OPEN.parse()?, lane: 0, epoch: 1 };
    let (seq, head) = author.ledger.position(&feed).ok_or("this member has published nothing")?;
    let now = Clock::System.now();
    let before = federation.roster.card(&actor.id).ok_or("no card")?;
    let mut card = Card { serial: before.serial + 1, issued: now, ..before.clone() };
    let key = actor.publishing.public().id();
    card.pins.push(Pin { key, channel: feed.channel.clone(), lane: 0, epoch: 1, seq, head });
    card.publishing.iter_mut().for_each(|one| one.until = Some(now));
    let card = SignedCard::sign(&card, &actor.root, &federation.roster.federation())?;
    let begun = Instant::now();
    let (reply, done) = tokio::sync::oneshot::channel();
    let request = Request::Document { document: document::CARD, bytes: card.bytes().to_vec(), from: None, reply: Some(reply) };
    author.door.send(request).map_err(|_| "a door is closed")?;
    done.await??;
    let knows = |node: &Running| node.local.current.get().roster.card(&actor.id).is_some_and(|card| card.serial > before.serial);
    let mut took = vec![None; crowd.len()];
    while took.contains(&None) && begun.elapsed() < PATIENCE {
        for (_, took) in crowd.iter().zip(&mut took).filter(|(node, took)| took.is_none() && knows(node)) {
            *took = Some(begun.elapsed().as_millis() as u64);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut took: Vec<u64> = took.into_iter().map(|took| took.unwrap_or(PATIENCE.as_millis() as u64)).collect();
    took.sort_unstable();
    let lane = Lane {
        feed,
        audience: Audience::federation(),
        tlp: Tlp::Green,
        class: Class::Content,
        last: Some((seq, head)),
        floor_seq: 1,
        key: &actor.publishing,
        federation: federation.roster.federation(),
    };
    // The thief dates it back: the key was in force then.
    let mut publisher = Publisher::new(lane, now.minus_ms(1_000), |buffer| getrandom::fill(buffer).map_err(|error| error.to_string()));
    publisher.push(Record::Indicator(Indicator::of(Observable::recognise("stolen.example")?, None)), None)?;
    let stolen = publisher.finish()?.ok_or("no batch came of it")?;
    let takes = |node: &&Running| node.local.current.get().place(stolen.head.bytes(), Clock::System.now(), &node.ledger).is_ok();
    Ok(Notice { p99_ms: percentile(&took, 99), taken_after: crowd.iter().filter(takes).count() as u64 })
}
