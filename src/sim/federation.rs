//! A federation that a seed makes: members with keys and cards under one charter.

use super::Dice;
use crate::{
    charter::{
        Card, CardError, Channel, Charter, CharterError, Circle, CircleMember, DOCUMENT_FORMAT, FormatFloor, History, Member, MemberKind,
        NodeKey, PublishingKey, Quota, Roster, SignedCard, SignedCharter, Steward,
    },
    envelope::{Audience, Readers, SecretKey},
    record::{ChannelName, DAY_MS, MemberId, NameError, Timestamp},
};

/// Why none could be made: a fault of this program.
#[derive(Debug, thiserror::Error)]
pub enum FoundingError {
    #[error(transparent)]
    Charter(#[from] CharterError),
    #[error(transparent)]
    Card(#[from] CardError),
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("the dice gave a seed of zeros")]
    Seed,
}

/// One member with everything that is secret of it.
pub struct Actor {
    pub id: MemberId,
    pub root: SecretKey,
    pub publishing: SecretKey,
    pub node: SecretKey,
}

/// A federation with all its secrets.
pub struct Federation {
    pub charter: SignedCharter,
    pub roster: Roster,
    pub actors: Vec<Actor>,
    /// Signed, in the order of the actors.
    pub cards: Vec<Vec<u8>>,
}

/// The channel that everyone has for everyone.
pub const OPEN: &str = "open";
/// The channel that everyone has for the circle.
pub const CLOSED: &str = "closed";
/// The circle's name; the first half of the members are in it.
pub const CIRCLE: &str = "half";

/// The audience of [`CLOSED`].
pub fn circle() -> Result<Audience, NameError> {
    Ok(Audience { readers: Readers::Circle { name: CIRCLE.parse()?, generation: 1, excluded: Vec::new() }, onward: Vec::new() })
}

/// A federation of `count` countries, issued at `now`. `quota` is what each may publish; `more` names further channels of
/// each member, given its number and everyone's ids.
pub fn found(
    count: usize,
    quota: Quota,
    now: Timestamp,
    dice: &mut Dice,
    mut more: impl FnMut(usize, &[MemberId]) -> Vec<(ChannelName, Audience)>,
) -> Result<Federation, FoundingError> {
    let from = now.minus_ms(DAY_MS);
    let key = |dice: &mut Dice| SecretKey::from_seed(&dice.seed()).ok_or(FoundingError::Seed);
    let steward = key(dice)?;
    let mut actors = Vec::with_capacity(count);
    for number in 0..count {
        let id = format!("m{number:03}-police").parse()?;
        actors.push(Actor { id, root: key(dice)?, publishing: key(dice)?, node: key(dice)? });
    }
    let member = |actor: &Actor| Member {
        id: actor.id.clone(),
        name: actor.id.to_string(),
        kind: MemberKind::Country,
        country: Some("XA".to_owned()),
        root: actor.root.public(),
        quota: None,
        revoked: None,
    };
    let inside = |actor: &Actor| CircleMember { id: actor.id.clone(), since: 1, until: None };
    let half = Circle {
        name: CIRCLE.parse()?,
        generation: 1,
        history: History::Closed,
        members: actors.iter().take(count.div_ceil(2)).map(inside).collect(),
    };
    let charter = Charter {
        format: DOCUMENT_FORMAT,
        name: "Rehearsal".to_owned(),
        version: 1,
        prev: None,
        issued: from,
        expires: now.plus_ms(300 * DAY_MS),
        stewards: vec![Steward { name: "Rehearsal".to_owned(), key: steward.public() }],
        threshold: 1,
        members: actors.iter().map(member).collect(),
        circles: vec![half],
        agreements: Vec::new(),
        quota,
        freshness: Vec::new(),
        floor: FormatFloor { format: 1, from },
        resolves: None,
    };
    let charter = SignedCharter::found(charter, &[&steward])?;
    let mut roster = Roster::new(charter.clone());
    let mut cards = Vec::with_capacity(count);
    let ids: Vec<MemberId> = actors.iter().map(|actor| actor.id.clone()).collect();
    for (number, actor) in actors.iter().enumerate() {
        let channel = |name: &str, audience| -> Result<Channel, FoundingError> {
            Ok(Channel { name: name.parse()?, audience, description: None, from, until: None })
        };
        let mut channels = vec![channel(OPEN, Audience::federation())?, channel(CLOSED, circle()?)?];
        channels.extend(more(number, &ids).into_iter().map(|(name, audience)| Channel {
            name,
            audience,
            description: None,
            from,
            until: None,
        }));
        let card = Card {
            format: DOCUMENT_FORMAT,
            member: actor.id.clone(),
            serial: 1,
            issued: from,
            publishing: vec![PublishingKey { key: actor.publishing.public(), node: "main".to_owned(), lane: 0, from, until: None }],
            nodes: vec![NodeKey { name: "main".to_owned(), key: actor.node.public(), from, until: None, receive_only: None }],
            channels,
            pins: Vec::new(),
            epochs: Vec::new(),
        };
        let signed = SignedCard::sign(&card, &actor.root, &charter.federation())?;
        roster.take_card(signed.bytes())?;
        cards.push(signed.bytes().to_vec());
    }
    Ok(Federation { charter, roster, actors, cards })
}
