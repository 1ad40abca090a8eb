//! The next card: what a member changes about itself, each change as one function from card to card.
//!
//! Nothing is signed here: the root key may lie elsewhere, and a [`CardDraft`] is the file that travels to it.

use super::{CARD_BYTES_MAX, Card, CardError, Channel, DOCUMENT_FORMAT, Epoch, NodeKey, Pin, PublishingKey, SignedCard};
use crate::{
    cbor::{self, int_map},
    envelope::{Audience, FederationId, Hash, KeyId, PublicKey, Signer},
    record::{ChannelName, DAY_MS, FeedId, SECOND_MS, Timestamp, UnknownName},
};
use serde_bytes::ByteBuf;

/// How long a node's old key is let in beside its new one.
const OLD_NODE_KEY_MS: u64 = 7 * DAY_MS;
/// Remaining life of a stolen node key: the owner connects with it to hand over the card, and within a minute all others refuse it.
const STOLEN_NODE_KEY_MS: u64 = 30 * SECOND_MS;

int_map! {
    /// A card that waits for its member's root key.
    pub struct CardDraft {
        req 0 format: u64,
        req 1 federation: FederationId,
        req 2 card: ByteBuf,
    }
}

/// The last head of a feed of ours.
pub type LastHead = (FeedId, u64, Hash);

impl CardDraft {
    /// A draft of `card`.
    pub fn new(card: &Card, federation: FederationId) -> Self {
        Self { format: DOCUMENT_FORMAT, federation, card: cbor::to_vec(card).into() }
    }

    /// What it would say.
    pub fn card(&self) -> Result<Card, CardError> {
        Ok(cbor::from_slice(&self.card, CARD_BYTES_MAX)?)
    }

    /// Signs it.
    pub fn sign(&self, root: &dyn Signer) -> Result<SignedCard, CardError> {
        SignedCard::sign(&self.card()?, root, &self.federation)
    }
}

impl Card {
    /// The next card, the same but for its serial and date.
    fn next(&self, now: Timestamp) -> Self {
        Self { serial: self.serial + 1, issued: now, ..self.clone() }
    }

    /// The same card, to be signed anew.
    pub fn renewed(&self, now: Timestamp) -> Self {
        self.next(now)
    }

    fn publishing_mut(&mut self, key: KeyId) -> Result<&mut PublishingKey, UnknownName> {
        let known: Vec<String> = self.publishing.iter().map(|one| one.key.id().to_string()).collect();
        let unknown = || UnknownName::new("publishing key on the card", &key.to_string(), known.iter().map(String::as_str));
        self.publishing.iter_mut().find(|one| one.key.id() == key).ok_or_else(unknown)
    }

    /// Retires a publishing key in good order: `new` goes on in its lane, from a millisecond from now, and what the old one
    /// wrote is pinned at `heads`, so that nobody can add to it later.
    pub fn with_new_publishing_key(&self, old: KeyId, new: PublicKey, heads: &[LastHead], now: Timestamp) -> Result<Self, UnknownName> {
        let mut card = self.next(now);
        let from = now.plus_ms(1);
        let retired = card.publishing_mut(old)?;
        retired.until = Some(from);
        let (node, lane) = (retired.node.clone(), retired.lane);
        card.publishing.push(PublishingKey { key: new, node, lane, from, until: None });
        card.pin(old, heads);
        Ok(card)
    }

    /// After a theft: what the stolen key wrote stands up to `heads` and no further, `new` opens the next epoch of each of
    /// these feeds.
    pub fn with_stolen_key(&self, stolen: KeyId, new: PublicKey, heads: &[LastHead], now: Timestamp) -> Result<Self, UnknownName> {
        let mut card = self.with_new_publishing_key(stolen, new, heads, now)?;
        for (feed, _, _) in heads {
            let next = Epoch { channel: feed.channel.clone(), lane: feed.lane, epoch: feed.epoch + 1 };
            card.epochs.retain(|one| (&one.channel, one.lane, one.epoch) != (&next.channel, next.lane, next.epoch));
            card.epochs.push(next);
        }
        Ok(card)
    }

    fn pin(&mut self, key: KeyId, heads: &[LastHead]) {
        if let (true, Some((lane, channel))) = (heads.is_empty(), self.lane_and_channel(key)) {
            // A key that wrote nothing is pinned at nothing, or a thief could begin a feed under it, back-dated.
            self.pins.push(Pin { key, channel, lane, epoch: 1, seq: 0, head: Hash([0; 32]) });
        }
        for (feed, seq, head) in heads {
            let FeedId { channel, lane, epoch, .. } = feed.clone();
            self.pins.retain(|pin| (pin.key, &pin.channel, pin.lane, pin.epoch) != (key, &channel, lane, epoch));
            self.pins.push(Pin { key, channel, lane, epoch, seq: *seq, head: *head });
        }
    }

    fn lane_and_channel(&self, key: KeyId) -> Option<(u32, ChannelName)> {
        let lane = self.publishing.iter().find(|one| one.key.id() == key)?.lane;
        Some((lane, self.channels.first()?.name.clone()))
    }

    /// Gives one of the member's machines another key. The old one is let in for a week more, under another name: the machine
    /// goes on with it until somebody who holds this card can let it in under the new one.
    pub fn with_new_node_key(&self, name: &str, new: PublicKey, now: Timestamp) -> Result<Self, UnknownName> {
        let mut card = self.next(now);
        let (serial, node) = (card.serial, card.node_mut(name)?);
        let until = Some(node.until.unwrap_or(now.plus_ms(OLD_NODE_KEY_MS)).min(now.plus_ms(OLD_NODE_KEY_MS)));
        let old = NodeKey { name: format!("{name}-before-{serial}"), until, ..node.clone() };
        (node.key, node.from, node.until) = (new, now, None);
        card.nodes.push(old);
        Ok(card)
    }

    /// After the theft of a whole machine: as [`Self::with_stolen_key`], and the machine gets another node key. The old one stays
    /// valid for half a minute, in which the owner hands this card to others.
    pub fn with_stolen_node(
        &self,
        name: &str,
        (stolen, publishing): (KeyId, PublicKey),
        node_key: PublicKey,
        heads: &[LastHead],
        now: Timestamp,
    ) -> Result<Self, UnknownName> {
        let mut card = self.with_stolen_key(stolen, publishing, heads, now)?;
        let (serial, node) = (card.serial, card.node_mut(name)?);
        let old = NodeKey { name: format!("{name}-before-{serial}"), until: Some(now.plus_ms(STOLEN_NODE_KEY_MS)), ..node.clone() };
        (node.key, node.from, node.until) = (node_key, now, None);
        // Keys that earlier rotations left in force may be with the thief too.
        let earlier = format!("{name}-before-");
        card.nodes.iter_mut().filter(|one| one.name.starts_with(&earlier)).for_each(|one| {
            one.until = Some(one.until.map_or(now, |until| until.min(now)).max(one.from.plus_ms(1)));
        });
        card.nodes.push(old);
        Ok(card)
    }

    fn node_mut(&mut self, name: &str) -> Result<&mut NodeKey, UnknownName> {
        let known: Vec<String> = self.nodes.iter().map(|one| one.name.clone()).collect();
        let unknown = || UnknownName::new("node on the card", name, known.iter().map(String::as_str));
        self.nodes.iter_mut().find(|one| one.name == name).ok_or_else(unknown)
    }

    /// Takes a machine off: its connections are closed, and its publishing keys end, pinned at `heads`.
    pub fn without_node(&self, name: &str, heads: &[LastHead], now: Timestamp) -> Result<Self, UnknownName> {
        let mut card = self.next(now);
        card.node_mut(name)?.until = Some(now);
        let ended: Vec<(KeyId, u32)> = card
            .publishing
            .iter_mut()
            .filter(|one| one.node == name && one.until.is_none_or(|until| until > now))
            .map(|one| {
                one.until = Some(now.plus_ms(1));
                (one.key.id(), one.lane)
            })
            .collect();
        for (key, lane) in ended {
            let own: Vec<LastHead> = heads.iter().filter(|(feed, _, _)| feed.lane == lane).cloned().collect();
            card.pin(key, &own);
        }
        Ok(card)
    }

    /// Adds a machine, with a lane of its own.
    pub fn with_node(&self, name: &str, node: PublicKey, publishing: PublicKey, now: Timestamp) -> Self {
        let mut card = self.next(now);
        let lane = card.publishing.iter().map(|one| one.lane + 1).max().unwrap_or(0);
        card.nodes.push(NodeKey { name: name.to_owned(), key: node, from: now, until: None, receive_only: None });
        card.publishing.push(PublishingKey { key: publishing, node: name.to_owned(), lane, from: now, until: None });
        card
    }

    /// Opens a channel, or gives the one of that name another description.
    pub fn with_channel(&self, name: ChannelName, audience: Audience, description: Option<String>, now: Timestamp) -> Self {
        let mut card = self.next(now);
        let from = self.channels.iter().find(|one| one.name == name).map_or(now, |one| one.from);
        card.channels.retain(|one| one.name != name);
        card.channels.push(Channel { name, audience, description, from, until: None });
        card
    }

    /// Says of a node that it only takes in bundles, or that it does so no more.
    pub fn with_receive_only(&self, name: &str, receive_only: bool, now: Timestamp) -> Result<Self, UnknownName> {
        let mut card = self.next(now);
        let known: Vec<String> = card.nodes.iter().map(|one| one.name.clone()).collect();
        let unknown = || UnknownName::new("node on the card", name, known.iter().map(String::as_str));
        card.nodes.iter_mut().find(|one| one.name == name).ok_or_else(unknown)?.receive_only = receive_only.then_some(true);
        Ok(card)
    }

    /// Closes a channel to new records; what was published in it stays.
    pub fn without_channel(&self, name: &ChannelName, now: Timestamp) -> Result<Self, UnknownName> {
        let mut card = self.next(now);
        let known: Vec<String> = card.channels.iter().map(|one| one.name.to_string()).collect();
        let unknown = || UnknownName::new("channel on the card", name.as_str(), known.iter().map(String::as_str));
        card.channels.iter_mut().find(|one| one.name == *name).ok_or_else(unknown)?.until = Some(now);
        Ok(card)
    }
}
