//! The past: the holder and purpose of every key so far, and the highest generation of every circle. A key has one holder and one purpose
//! for ever, and a generation never falls, also after the charter has dropped it.
//!
//! In: every charter of the chain, every card. Out: a refusal that names both claims. Follows NIST SP 800-57 part 1, 5.2: a key is
//! used for one purpose only.

use super::{Card, Charter, CharterError, card_of};
use crate::{
    cbor::{int_map, uint_enum},
    envelope::{KeyId, PublicKey},
    record::{CircleName, MemberId},
};
use std::collections::BTreeMap;

/// Keys that one member may ever claim: a rotation of every key of 16 nodes each week for five years.
pub const MEMBER_KEYS_MAX: usize = 8_192;

uint_enum! {
    /// The one purpose of a key.
    pub enum KeyPurpose("key purpose") {
        Root = 1 "root key",
        Steward = 2 "steward key",
        Freshness = 3 "freshness key",
        Node = 4 "node key",
        Publishing = 5 "publishing key",
    }
}

impl KeyPurpose {
    /// True for keys that a member claims on its card, false for those in the charter.
    fn is_of_card(self) -> bool {
        matches!(self, Self::Node | Self::Publishing)
    }
}

int_map! {
    /// A key, whose it is, and what for.
    pub struct KeyHolding {
        req 0 key: PublicKey,
        /// Absent for stewards: they are people.
        opt 1 member: MemberId,
        req 2 purpose: KeyPurpose,
    }
}

int_map! {
    /// The highest generation that a circle has had.
    pub struct CircleGeneration {
        req 0 circle: CircleName,
        req 1 generation: u64,
    }
}

/// Two claims to one key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "key `{key}` is {} and cannot become {}: a key has one holder and one purpose for ever; make a new one with `huecry key new`",
    words(held),
    words(claimed)
)]
pub struct KeyConflict {
    pub key: KeyId,
    pub held: Box<KeyHolding>,
    pub claimed: Box<KeyHolding>,
}

fn words(holding: &KeyHolding) -> String {
    match &holding.member {
        Some(member) => format!("the {} of `{member}`", holding.purpose),
        None => format!("a {}", holding.purpose),
    }
}

/// Keys and generations of the past and the present. It only grows.
#[derive(Clone, Debug, Default)]
pub struct Past {
    keys: BTreeMap<[u8; 32], (Option<MemberId>, KeyPurpose)>,
    generations: BTreeMap<CircleName, u64>,
}

impl Past {
    /// The past that ends with `charter`, as far as it is known from that alone.
    pub fn of(charter: &Charter) -> Self {
        let mut past = Self::default();
        past.add_charter(charter);
        past
    }

    /// The past as a file states it.
    pub fn stated(keys: Vec<KeyHolding>, generations: Vec<CircleGeneration>) -> Self {
        let keys = keys.into_iter().map(|one| (one.key.to_bytes(), (one.member, one.purpose))).collect();
        Self { keys, generations: generations.into_iter().map(|one| (one.circle, one.generation)).collect() }
    }

    /// This past, with the claims of cards from a later one: they stay when a charter loses against its rival.
    pub fn with_cards_of(&self, other: &Self) -> Self {
        let mut past = self.clone();
        for (key, holding) in other.keys.iter().filter(|(_, (_, purpose))| purpose.is_of_card()) {
            past.keys.entry(*key).or_insert_with(|| holding.clone());
        }
        past
    }

    /// Every key, with its holder and purpose.
    pub fn keys(&self) -> impl Iterator<Item = KeyHolding> {
        let holding = |(bytes, (member, purpose)): (&[u8; 32], &(Option<MemberId>, KeyPurpose))| {
            let key = PublicKey::from_bytes(bytes).ok()?;
            Some(KeyHolding { key, member: member.clone(), purpose: *purpose })
        };
        self.keys.iter().filter_map(holding)
    }

    /// Every circle there has been, with its highest generation.
    pub fn generations(&self) -> impl Iterator<Item = CircleGeneration> {
        self.generations.iter().map(|(circle, generation)| CircleGeneration { circle: circle.clone(), generation: *generation })
    }

    /// The highest generation that a circle of this name has had.
    pub fn generation(&self, circle: &CircleName) -> Option<u64> {
        self.generations.get(circle).copied()
    }

    /// Returns true if a former or present charter has a root key of this member.
    pub fn was_member(&self, member: &MemberId) -> bool {
        self.keys.values().any(|(holder, purpose)| *purpose == KeyPurpose::Root && holder.as_ref() == Some(member))
    }

    /// Checks the version after `before` against the past. A key that only a card has claimed counts if `proved` says that its holder has
    /// used it: otherwise any member could claim a newcomer's root key the moment a charter names it, and stop the charter.
    ///
    /// # Errors
    /// If it gives a key to a second holder or purpose, lets a generation fall, or begins a circle again at a generation that its former
    /// members had.
    pub fn check_charter(
        &self,
        charter: &Charter,
        before: Option<&Charter>,
        proved: impl Fn(&KeyHolding) -> bool,
    ) -> Result<(), CharterError> {
        for claim in claims_of_charter(charter) {
            match self.check_key(&claim) {
                Err(conflict) if !conflict.held.purpose.is_of_card() || proved(&conflict.held) => return Err(conflict.into()),
                _ => (),
            }
        }
        for circle in &charter.circles {
            let Some(last) = self.generation(&circle.name) else { continue };
            let continues = before.is_some_and(|before| before.circles.iter().any(|old| old.name == circle.name));
            let rises = if continues { circle.generation >= last } else { circle.generation > last };
            let reaches_back = |since: u64| !continues && since <= last;
            if !rises || circle.members.iter().any(|one| reaches_back(one.since)) {
                return Err(CharterError::Rule(format!(
                    "circle `{}` has had generation {last}, and begins again at generation {} at the earliest; `huecry charter edit` counts on",
                    circle.name,
                    last + 1
                )));
            }
        }
        Ok(())
    }

    /// Checks a card against the past.
    ///
    /// # Errors
    /// If it claims a key that has another holder or purpose, or more keys than a member may ever have.
    pub fn check_card(&self, card: &Card) -> Result<(), CardClaim> {
        claims_of_card(card).try_for_each(|claim| self.check_key(&claim))?;
        let new = claims_of_card(card).filter(|claim| !self.keys.contains_key(&claim.key.to_bytes())).count();
        // Counted only where there is something to count.
        let own = |&(holder, _): &&(Option<MemberId>, KeyPurpose)| holder.as_ref() == Some(&card.member);
        match new > 0 && self.keys.values().filter(own).count() + new > MEMBER_KEYS_MAX {
            true => Err(CardClaim::Many),
            false => Ok(()),
        }
    }

    /// Returns true if the card names a key that is not known yet.
    pub fn has_new_keys(&self, card: &Card) -> bool {
        card.keys().any(|key| !self.keys.contains_key(&key.to_bytes()))
    }

    fn check_key(&self, claimed: &KeyHolding) -> Result<(), KeyConflict> {
        let Some((member, purpose)) = self.keys.get(&claimed.key.to_bytes()) else { return Ok(()) };
        if (member, purpose) == (&claimed.member, &claimed.purpose) {
            return Ok(());
        }
        let held = KeyHolding { key: claimed.key, member: member.clone(), purpose: *purpose };
        Err(KeyConflict { key: claimed.key.id(), held: Box::new(held), claimed: Box::new(claimed.clone()) })
    }

    /// Adds a charter in force. Its claims replace those of cards.
    pub fn add_charter(&mut self, charter: &Charter) {
        for KeyHolding { key, member, purpose } in claims_of_charter(charter) {
            let holding = self.keys.entry(key.to_bytes()).or_insert_with(|| (member.clone(), purpose));
            if holding.1.is_of_card() {
                *holding = (member, purpose);
            }
        }
        for circle in &charter.circles {
            let last = self.generations.entry(circle.name.clone()).or_default();
            *last = circle.generation.max(*last);
        }
    }

    /// Adds a card, in force now or before.
    pub fn add_card(&mut self, card: &Card) {
        for KeyHolding { key, member, purpose } in claims_of_card(card) {
            self.keys.entry(key.to_bytes()).or_insert((member, purpose));
        }
    }
}

/// Why a card's keys are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CardClaim {
    #[error(transparent)]
    Key(#[from] KeyConflict),
    #[error("it would be the member's key number {} or more, beyond the limit", MEMBER_KEYS_MAX + 1)]
    Many,
}

fn claims_of_charter(charter: &Charter) -> impl Iterator<Item = KeyHolding> {
    let stewards = charter.stewards.iter().map(|one| KeyHolding { key: one.key, member: None, purpose: KeyPurpose::Steward });
    let root = |one: &super::Member| KeyHolding { key: one.root, member: Some(one.id.clone()), purpose: KeyPurpose::Root };
    let freshness =
        |one: &super::FreshnessKey| KeyHolding { key: one.key, member: Some(one.member.clone()), purpose: KeyPurpose::Freshness };
    stewards.chain(charter.members.iter().map(root)).chain(charter.freshness.iter().map(freshness))
}

fn claims_of_card(card: &Card) -> impl Iterator<Item = KeyHolding> {
    let claim = |key: PublicKey, purpose: KeyPurpose| KeyHolding { key, member: Some(card.member.clone()), purpose };
    let nodes = card.nodes.iter().map(move |one| claim(one.key, KeyPurpose::Node));
    nodes.chain(card.publishing.iter().map(move |one| claim(one.key, KeyPurpose::Publishing)))
}

/// Checks the first cards that come with a proposal against each other and against the past. Cards that cannot be parsed are skipped: they are
/// refused when they are used.
///
/// # Errors
/// The first conflict.
pub(super) fn check_first_cards(past: &Past, charter: &Charter, cards: &[Vec<u8>]) -> Result<(), CharterError> {
    let mut known = past.clone();
    known.add_charter(charter);
    for card in cards.iter().filter_map(|bytes| card_of(bytes)) {
        known.check_card(&card).map_err(|why| CharterError::Rule(format!("the first card of `{}`: {why}", card.member)))?;
        known.add_card(&card);
    }
    Ok(())
}
