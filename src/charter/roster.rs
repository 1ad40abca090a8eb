//! The roster: charter, stamp and cards together, and the questions that the rest of huecry asks of them.

use super::{
    Agreement, BUILT_IN_CIRCLES, Card, CardError, Channel, CharterError, Circle, CircleMember, EQUIVOCATION_BYTES_MAX, Equivocation,
    History, KeyHolding, Member, MemberKind, NodeKey, Past, Pin, PublishingKey, STAMP_DAYS_MAX, SignedCard, SignedCharter, SignedStamp,
    equivocation,
};
use crate::{
    cbor,
    envelope::{Audience, Class, FederationId, Hash, Head, KeyId, PublicKey, Readers, SignedHead},
    record::{ChannelName, CircleName, DAY_MS, FeedId, Kind, MemberId, Timestamp},
    timekeeping::is_ahead,
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// How current our charter is known to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// A stamp or a young charter says so.
    Current,
    /// No stamp since: asking and removals work, new content is held.
    Stale { since: Timestamp },
}

/// Whether a member takes part, now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    Good,
    /// Cut off; its signed removals still pass among the others.
    Revoked,
    /// No agreement is running: run-off, removals pass both ways.
    Ended {
        agreement: Option<String>,
    },
}

impl Standing {
    /// The word for policies and people.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Revoked => "revoked",
            Self::Ended { .. } => "ended",
        }
    }
}

/// Why a well-formed head may not be what it says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpeakError {
    /// Verdict `Ignore`: our charter may be older than the author's.
    #[error("`{0}` is no member in our charter")]
    Stranger(MemberId),
    /// Verdict `Ignore`: its card may not have reached us yet; asked again later.
    #[error("no card of `{member}` names key `{key}` for lane {lane}")]
    UnknownKey { member: MemberId, key: KeyId, lane: u32 },
    /// Verdict `Ignore`: the sender may hold an older card.
    #[error("key `{key}` of `{member}` was not valid at the time of the head, {at}")]
    RetiredKey { member: MemberId, key: KeyId, at: Timestamp },
    /// Verdict `Ignore`: whoever serves it may hold an older card. Nothing of it is taken in.
    #[error("key `{key}` of `{member}` is retired, and {feed}#{seq} does not chain to what its card pins")]
    BeyondPin { member: MemberId, key: KeyId, feed: FeedId, seq: u64 },
    /// Verdict `Ignore`: a card that names the channel may be on its way.
    #[error("no card of `{member}` names channel `{channel}` with this audience")]
    UnknownChannel { member: MemberId, channel: ChannelName },
    /// Verdict `Ignore`: only a card opens an epoch, and ours may be old.
    #[error("no card of `{member}` opens epoch {epoch} of this feed")]
    UnknownEpoch { member: MemberId, epoch: u32 },
    /// Verdict `Ignore`: the sender's clock or charter may differ by a day.
    #[error("`{member}` may not publish content now: its standing is `{standing}`")]
    Standing { member: MemberId, standing: &'static str },
    /// Verdict `Reject`: both sides hold the agreement.
    #[error("the agreement of `{member}` does not cover {what}")]
    Terms { member: MemberId, what: String },
    /// Verdict `Ignore`: an older format than the charter still accepts.
    #[error("format {found} is no longer accepted; the charter asks for {floor} at least")]
    Format { floor: u64, found: u64 },
}

/// Who a connected node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeIdentity {
    pub member: MemberId,
    pub node: String,
}

/// What became of a charter that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CharterTaken {
    /// It is in force.
    Next,
    /// It proves that two of one version were signed. The one we had stays in force, and nothing changes it but a next
    /// version that names one of the two.
    Rival,
}

/// Everything known about who may speak. Changed only by documents that prove themselves.
#[derive(Clone, Debug)]
pub struct Roster {
    charter: SignedCharter,
    /// The version before, by which a second charter of this version would have to be signed.
    before: Option<SignedCharter>,
    /// A second valid charter of this version: no change is taken until the next version names one of the two.
    rival: Option<SignedCharter>,
    /// Every version, oldest first, as a newcomer has to take them.
    chain: Vec<Vec<u8>>,
    stamp: Option<SignedStamp>,
    cards: BTreeMap<MemberId, SignedCard>,
    nodes: HashMap<[u8; 32], NodeIdentity>,
    /// Every key and circle of all charters and cards so far.
    past: Arc<Past>,
    /// `past` without the charter in force, in case a rival replaces it.
    past_before: Arc<Past>,
    /// Documents of the journal that the rules of today refuse.
    doubts: Vec<String>,
}

impl Roster {
    /// Begins with version 1 of the charter.
    pub fn new(charter: SignedCharter) -> Self {
        let chain = vec![charter.bytes().to_vec()];
        let past = Arc::new(Past::of(charter.charter()));
        let (cards, nodes, doubts) = (BTreeMap::new(), HashMap::new(), Vec::new());
        Self { charter, before: None, rival: None, chain, stamp: None, cards, nodes, past, past_before: Arc::default(), doubts }
    }

    /// Takes a version of the charter as [`Self::take_charter_unless`] does, where no use of a key is known.
    pub fn take_charter(&mut self, bytes: &[u8]) -> Result<CharterTaken, CharterError> {
        self.take_charter_unless(bytes, |_| false)
    }

    /// Takes a version of the charter: the next one, or a second one with the same number, which proves a fork.
    ///
    /// # Errors
    /// If its signatures, its rules or the past forbid it. Keys that cards claim count if `proved` says that their holder has used
    /// them; nothing of a refused charter takes effect.
    pub fn take_charter_unless(&mut self, bytes: &[u8], proved: impl Fn(&KeyHolding) -> bool) -> Result<CharterTaken, CharterError> {
        let mut chosen = None;
        let next = match (self.charter.next(bytes), &self.rival) {
            (Err(CharterError::Old { ours, found }), _) if ours == found => return self.take_rival(bytes),
            (Ok(next), Some(rival)) if next.charter().resolves != Some(self.charter.hash()) => {
                let (version, ours, other) = (self.charter.charter().version, self.charter.hash(), rival.hash());
                return Err(CharterError::Halted { version, ours, other });
            }
            (Err(CharterError::Fork { .. }), Some(rival)) => {
                let next = rival.next(bytes)?;
                if next.charter().resolves != Some(rival.hash()) {
                    let (version, ours, other) = (self.charter.charter().version, self.charter.hash(), rival.hash());
                    return Err(CharterError::Halted { version, ours, other });
                }
                chosen = Some(rival.clone());
                next
            }
            (next, _) => next?,
        };
        let before = chosen.as_ref().unwrap_or(&self.charter).charter();
        let mut past = Arc::clone(&self.past);
        if let Some(chosen) = &chosen {
            // The claims of the losing charter were never in force for the federation.
            past = Arc::new(self.past_before.with_cards_of(&past));
            past.check_charter(chosen.charter(), self.before.as_ref().map(SignedCharter::charter), &proved)?;
            Arc::make_mut(&mut past).add_charter(chosen.charter());
        }
        past.check_charter(next.charter(), Some(before), &proved)?;
        Ok(self.put_in_force(past, chosen, next))
    }

    /// Takes the next version out of our own journal. It was accepted once, so it stays in force; what the rules of today refuse is one of
    /// [`Self::doubts`].
    pub fn restore_charter(&mut self, bytes: &[u8]) -> Result<(), CharterError> {
        let next = self.charter.next(bytes)?;
        let past = Arc::clone(&self.past);
        if let Err(error) = past.check_charter(next.charter(), Some(self.charter.charter()), |_| false) {
            self.doubts.push(format!("charter version {} is in force here and breaks a rule: {error}", next.charter().version));
        }
        self.put_in_force(past, None, next);
        Ok(())
    }

    fn put_in_force(&mut self, mut past: Arc<Past>, chosen: Option<SignedCharter>, next: SignedCharter) -> CharterTaken {
        if let Some(chosen) = chosen {
            // The stewards chose the one that we did not hold.
            self.chain.pop();
            self.chain.push(chosen.bytes().to_vec());
            self.charter = chosen;
        }
        self.past_before = Arc::clone(&past);
        Arc::make_mut(&mut past).add_charter(next.charter());
        self.past = past;
        self.chain.push(next.bytes().to_vec());
        self.before = Some(std::mem::replace(&mut self.charter, next));
        self.rival = None;
        self.stamp = None;
        self.keep_valid_cards();
        CharterTaken::Next
    }

    /// Sentences about stored documents that break the present rules, for an operator.
    pub fn doubts(&self) -> &[String] {
        &self.doubts
    }

    /// Every key and circle so far.
    pub fn past(&self) -> &Past {
        &self.past
    }

    /// Adds the keys of a card that was in force before.
    pub fn recall_card(&mut self, card: &Card) {
        Arc::make_mut(&mut self.past).add_card(card);
    }

    /// A charter of our own version that is another: if its signatures hold, the stewards' keys were used twice.
    fn take_rival(&mut self, bytes: &[u8]) -> Result<CharterTaken, CharterError> {
        let version = self.charter.charter().version;
        let other = match &self.before {
            Some(before) => before.next(bytes)?,
            // Another version 1 is another federation.
            None => SignedCharter::first(bytes, Some(&self.federation()))?,
        };
        if other.hash() == self.charter.hash() || self.rival.is_some() {
            return Err(CharterError::Old { ours: version, found: version });
        }
        self.rival = Some(other);
        Ok(CharterTaken::Rival)
    }

    /// A card under a replaced root key proves nothing any more, and one that uses a key which is now a root's or a
    /// steward's never did; their members send new ones.
    fn keep_valid_cards(&mut self) {
        let federation = self.federation();
        let cards: Vec<SignedCard> = std::mem::take(&mut self.cards).into_values().collect();
        for card in cards {
            let opened = SignedCard::open(card.bytes(), &federation, |id| self.member(id));
            if let Ok(card) = opened
                && !card.card().keys().any(|key| self.charter_key(&key))
            {
                self.cards.insert(card.card().member.clone(), card);
            }
        }
        self.index_nodes();
    }

    /// Whether the charter itself gives a key to somebody.
    fn charter_key(&self, key: &PublicKey) -> bool {
        let charter = self.charter.charter();
        charter.members.iter().any(|member| member.root == *key)
            || charter.stewards.iter().any(|one| one.key == *key)
            || charter.freshness.iter().any(|one| one.key == *key)
    }

    /// Takes a stamp as [`Self::take_stamp_by`] does, whatever its date.
    pub fn take_stamp(&mut self, bytes: &[u8]) -> Result<bool, CharterError> {
        self.take_stamp_by(bytes, Timestamp::START.plus_ms(u64::MAX))
    }

    /// Takes a stamp over our charter. An older one than ours changes nothing and answers `false`, unless ours is dated after `latest`.
    pub fn take_stamp_by(&mut self, bytes: &[u8], latest: Timestamp) -> Result<bool, CharterError> {
        let stamp = SignedStamp::open(bytes, &self.charter)?;
        let older = |ours: &SignedStamp| ours.stamp().time >= stamp.stamp().time && !is_ahead(ours.stamp().time, latest);
        let newer = !self.stamp.as_ref().is_some_and(older);
        if newer {
            self.stamp = Some(stamp);
        }
        Ok(newer)
    }

    /// Takes a card with a higher serial than the one we hold.
    pub fn take_card(&mut self, bytes: &[u8]) -> Result<&Card, CardError> {
        let card = SignedCard::open(bytes, &self.federation(), |id| self.member(id))?;
        let id = card.card().member.clone();
        if let Some(ours) = self.cards.get(&id)
            && ours.card().serial >= card.card().serial
        {
            return Err(CardError::Old { member: id, ours: ours.card().serial, found: card.card().serial });
        }
        self.past.check_card(card.card()).map_err(|why| CardError::Claim { member: id.to_string(), why })?;
        if self.past.has_new_keys(card.card()) {
            Arc::make_mut(&mut self.past).add_card(card.card());
        }
        self.cards.insert(id.clone(), card);
        self.index_nodes();
        self.cards.get(&id).map(SignedCard::card).ok_or(CardError::Stranger(id))
    }

    fn index_nodes(&mut self) {
        let of = |card: &SignedCard| {
            let member = card.card().member.clone();
            let identity = move |node: &NodeKey| (node.key.to_bytes(), NodeIdentity { member: member.clone(), node: node.name.clone() });
            card.card().nodes.iter().map(identity).collect::<Vec<_>>()
        };
        self.nodes = self.cards.values().flat_map(of).collect();
    }

    /// The federation.
    pub fn federation(&self) -> FederationId {
        self.charter.federation()
    }

    /// The current charter.
    pub fn charter(&self) -> &SignedCharter {
        &self.charter
    }

    /// A second valid charter of the current version, while nothing has ended the dispute.
    pub fn rival(&self) -> Option<&SignedCharter> {
        self.rival.as_ref()
    }

    /// Every version of the charter, oldest first, as bytes.
    pub fn chain(&self) -> &[Vec<u8>] {
        &self.chain
    }

    /// The newest stamp.
    pub fn stamp(&self) -> Option<&SignedStamp> {
        self.stamp.as_ref()
    }

    /// Whether it holds this very document: what comes from every neighbour is looked at once.
    pub fn holds(&self, bytes: &[u8]) -> bool {
        let stamp = self.stamp.as_ref().map(SignedStamp::bytes);
        let charters = [Some(&self.charter), self.rival.as_ref()].into_iter().flatten().map(SignedCharter::bytes);
        charters.chain(stamp).chain(self.cards.values().map(SignedCard::bytes)).any(|held| held == bytes)
    }

    /// The cards, by member.
    pub fn cards(&self) -> impl Iterator<Item = &SignedCard> {
        self.cards.values()
    }

    /// One member's card.
    pub fn card(&self, member: &MemberId) -> Option<&Card> {
        self.cards.get(member).map(SignedCard::card)
    }

    /// The member that people call so: by its id or its name, however they are spelt. `name` has only letters and digits,
    /// in lower case.
    pub fn member_called(&self, name: &str) -> Option<MemberId> {
        let spelt = |text: &str| text.chars().filter(|char| char.is_alphanumeric()).flat_map(char::to_lowercase).eq(name.chars());
        let members = &self.charter.charter().members;
        members.iter().find(|member| spelt(member.id.as_str()) || spelt(&member.name)).map(|member| member.id.clone())
    }

    /// A member of the charter.
    pub fn member(&self, id: &MemberId) -> Option<&Member> {
        self.charter.charter().members.iter().find(|member| member.id == *id)
    }

    /// The newest moment that a document names: no right clock is behind it. A stamp, which a single key signs, moves it by seven days
    /// at most beyond what the stewards have signed.
    pub fn time_floor(&self) -> Timestamp {
        let issued = self.charter.charter().issued;
        let most = issued.plus_ms(STAMP_DAYS_MAX * DAY_MS);
        self.stamp.as_ref().map_or(issued, |stamp| stamp.stamp().time.clamp(issued, most))
    }

    /// Whether the charter is known to be current.
    pub fn freshness(&self, now: Timestamp) -> Freshness {
        let charter = self.charter.charter();
        // A charter that its stewards signed this week needs no stamp yet: several people vouch for it.
        let young = charter.issued.plus_ms(STAMP_DAYS_MAX * DAY_MS);
        let stamp = self.stamp.as_ref().filter(|stamp| !is_ahead(stamp.stamp().time, now));
        let stamped = stamp.map_or(young, |stamp| stamp.stamp().until.max(young));
        let until = stamped.min(charter.expires);
        if now <= until { Freshness::Current } else { Freshness::Stale { since: until } }
    }

    /// Whether a member takes part at `now`.
    pub fn standing(&self, id: &MemberId, now: Timestamp) -> Standing {
        let Some(member) = self.member(id) else { return Standing::Revoked };
        if member.revoked.is_some_and(|from| from <= now) {
            return Standing::Revoked;
        }
        match member.kind {
            MemberKind::Country | MemberKind::Coordinator => Standing::Good,
            MemberKind::Vendor | MemberKind::Observer if self.agreements(id, now).next().is_some() => Standing::Good,
            MemberKind::Vendor | MemberKind::Observer => {
                let past = |one: &&Agreement| one.member == *id && one.from <= now;
                let last = self.charter.charter().agreements.iter().filter(past).max_by_key(|one| one.until);
                Standing::Ended { agreement: last.map(|one| one.id.clone()) }
            }
        }
    }

    /// The agreements of a member that run at `now`.
    pub fn agreements<'a>(&'a self, id: &'a MemberId, now: Timestamp) -> impl Iterator<Item = &'a Agreement> {
        let runs =
            move |one: &&Agreement| one.member == *id && one.from <= now && now < one.until && one.revoked.is_none_or(|from| from > now);
        self.charter.charter().agreements.iter().filter(runs)
    }

    /// Who the holder of a node key is, if it may connect at `now`.
    pub fn node(&self, key: &[u8; 32], now: Timestamp) -> Option<&NodeIdentity> {
        let identity = self.nodes.get(key)?;
        let node = self.card(&identity.member)?.nodes.iter().find(|node| node.name == identity.node)?;
        let valid = node.from <= now && node.until.is_none_or(|until| now < until);
        (valid && self.standing(&identity.member, now) != Standing::Revoked).then_some(identity)
    }

    /// Every node key that may connect at `now`.
    pub fn admitted_nodes(&self, now: Timestamp) -> impl Iterator<Item = ([u8; 32], &NodeIdentity)> {
        self.nodes.keys().filter_map(move |key| self.node(key, now).map(|identity| (*key, identity)))
    }

    /// The key that must have signed this head, if its author may say such a thing at `now`: the card names the key for
    /// the lane, the channel with its audience, the epoch; the agreement covers it.
    pub fn speaker(&self, head: &SignedHead, now: Timestamp) -> Result<&PublicKey, SpeakError> {
        let (key, signed_id, head) = (head.key(), head.id(), head.head());
        let member = || head.member.clone();
        self.member(&head.member).ok_or_else(|| SpeakError::Stranger(member()))?;
        let floor = &self.charter.charter().floor;
        if now >= floor.from && head.format < floor.format {
            return Err(SpeakError::Format { floor: floor.format, found: head.format });
        }
        let card = self.card(&head.member).ok_or_else(|| SpeakError::UnknownKey { member: member(), key, lane: head.lane })?;
        let named = |one: &&PublishingKey| one.key.id() == key && one.lane == head.lane;
        let publishing =
            card.publishing.iter().find(named).ok_or_else(|| SpeakError::UnknownKey { member: member(), key, lane: head.lane })?;
        if head.time < publishing.from || publishing.until.is_some_and(|until| head.time >= until) {
            return Err(SpeakError::RetiredKey { member: member(), key, at: head.time });
        }
        if !stands(card, publishing, head, signed_id) {
            return Err(SpeakError::BeyondPin { member: member(), key, feed: head.feed(), seq: head.seq });
        }
        let channel = card.channels.iter().find(|channel| channel.name == head.channel && same_readers(channel, &head.audience));
        let open = |channel: &Channel| channel.until.is_none_or(|until| head.time < until) || head.class == Class::Removal;
        if !channel.is_some_and(open) {
            return Err(SpeakError::UnknownChannel { member: member(), channel: head.channel.clone() });
        }
        let opened = |one: &super::Epoch| one.channel == head.channel && one.lane == head.lane && one.epoch == head.epoch;
        if head.epoch != 1 && !card.epochs.iter().any(opened) {
            return Err(SpeakError::UnknownEpoch { member: member(), epoch: head.epoch });
        }
        if head.class == Class::Content {
            self.check_terms(head, now)?;
        }
        Ok(&publishing.key)
    }

    /// What a proof proves, if it is one: that this feed's author signed two heads for this place, with a key of the lane that was in force then.
    pub fn equivocation(&self, bytes: &[u8]) -> Result<(FeedId, u64), String> {
        let proof: Equivocation = cbor::from_slice(bytes, EQUIVOCATION_BYTES_MAX).map_err(|error| format!("it does not read: {error}"))?;
        let prove = |bytes: &[u8]| {
            let signed = SignedHead::open(bytes, &self.federation()).map_err(|error| format!("a head in it does not read: {error}"))?;
            let (member, lane, id) = (signed.head().member.clone(), signed.head().lane, signed.key());
            let unknown = || format!("`{member}` has no key `{id}` for lane {lane} on its card here");
            let card = self.card(&member).ok_or_else(unknown)?;
            let named = card.publishing.iter().find(|one| one.key.id() == id && one.lane == lane).ok_or_else(unknown)?;
            let head = signed.head();
            // What a thief signs with a key that was retired or pinned says nothing about its owner.
            let in_time = head.time >= named.from && named.until.is_none_or(|until| head.time < until);
            if !in_time || !stands(card, named, head, signed.id()) {
                return Err(format!("key `{id}` of `{member}` was retired or pinned before a head in it was made"));
            }
            let opened =
                head.epoch == 1 || card.epochs.iter().any(|one| one.channel == head.channel && one.lane == lane && one.epoch == head.epoch);
            if !opened || !card.channels.iter().any(|channel| channel.name == head.channel) {
                return Err(format!("`{member}` has no such channel or epoch on its card here"));
            }
            let key = named.key;
            signed.prove(&key).map_err(|error| format!("a head in it is not signed by that key: {error}"))
        };
        let (one, other) = (prove(&proof.one)?, prove(&proof.other)?);
        if equivocation(&one, &other).is_none_or(|same| cbor::to_vec(&same) != bytes) {
            return Err("its heads do not stand for one place, are the same, or are in the wrong order".to_owned());
        }
        Ok((one.head().feed(), one.head().seq))
    }

    /// Where the card of a feed's author pins it, last of all if several keys wrote it. A pin at nothing is no place in it.
    pub fn pin(&self, feed: &FeedId) -> Option<&Pin> {
        let here = |pin: &&Pin| pin.seq > 0 && pin.channel == feed.channel && pin.lane == feed.lane && pin.epoch == feed.epoch;
        self.card(&feed.member)?.pins.iter().filter(here).max_by_key(|pin| pin.seq)
    }

    /// Whether a card pins something of this key, so that all else under it does not count.
    pub fn pinned_key(&self, member: &MemberId, key: KeyId) -> bool {
        self.card(member).is_some_and(|card| card.pins.iter().any(|pin| pin.key == key))
    }

    fn check_terms(&self, head: &Head, now: Timestamp) -> Result<(), SpeakError> {
        let standing = self.standing(&head.member, now);
        if standing != Standing::Good {
            return Err(SpeakError::Standing { member: head.member.clone(), standing: standing.name() });
        }
        let kind = self.member(&head.member).map(|member| member.kind);
        if !matches!(kind, Some(MemberKind::Vendor | MemberKind::Observer)) {
            return Ok(());
        }
        if self.terms_cover(&head.member, head, now) {
            return Ok(());
        }
        let audience = head.audience.name();
        Err(SpeakError::Terms { member: head.member.clone(), what: format!("{} for {audience}", head.tlp.label()) })
    }

    /// Whether an agreement of `member` that runs at `now` covers a batch with this head: its audience and its marking.
    pub fn terms_cover(&self, member: &MemberId, head: &Head, now: Timestamp) -> bool {
        let audience = match &head.audience.readers {
            Readers::Named(_) => "named".to_owned(),
            _ => head.audience.name(),
        };
        self.agreements(member, now).any(|one| one.tlp_max >= head.tlp && one.audiences.contains(&audience))
    }

    /// Whether a member may publish records of this kind as content: countries and coordinators any, partners what an
    /// agreement that runs names.
    pub fn kind_covered(&self, member: &MemberId, kind: Kind, now: Timestamp) -> bool {
        // Who may say reports may let them hold longer.
        let kind = if kind == Kind::Renewal { Kind::Report } else { kind };
        match self.member(member).map(|member| member.kind) {
            Some(MemberKind::Country | MemberKind::Coordinator) => true,
            Some(MemberKind::Vendor | MemberKind::Observer) => self.agreements(member, now).any(|one| one.kinds.contains(&kind)),
            None => false,
        }
    }

    /// Whether `reader` is among those whom `author` addressed: by audience alone, whatever the time and standing.
    pub fn addresses(&self, audience: &Audience, author: &MemberId, reader: &MemberId) -> bool {
        if author == reader {
            return true;
        }
        match &audience.readers {
            Readers::Federation => self.member(reader).is_some(),
            Readers::Named(members) => members.contains(reader),
            Readers::Circle { name, generation, excluded } => !excluded.contains(reader) && self.in_circle(name, *generation, reader),
        }
    }

    /// Whether `reader` may ever have been among those whom `author` addressed by then: a circle's leavers too. Removals go
    /// to them.
    pub fn addressed_once(&self, audience: &Audience, author: &MemberId, reader: &MemberId) -> bool {
        let Readers::Circle { name, generation, excluded } = &audience.readers else { return self.addresses(audience, author, reader) };
        let left = |one: &CircleMember, circle: &Circle| {
            *generation <= circle.generation && (one.since <= *generation || circle.history == History::Open)
        };
        author == reader
            || self.addresses(audience, author, reader)
            || (!excluded.contains(reader) && self.circle_entry(name, reader).is_some_and(|(circle, one)| left(one, circle)))
    }

    /// Whether a further audience (`federation`, `circle:NAME`, `member:ID`) has `reader` in it now; with `once`, or had.
    pub fn names(&self, further: &str, reader: &MemberId, once: bool) -> bool {
        match further.split_once(':') {
            None => further == "federation" && self.member(reader).is_some(),
            Some(("member", id)) => id == reader.as_str(),
            Some(("circle", name)) => match built_in(name) {
                Some(kind) => self.member(reader).is_some_and(|member| member.kind == kind),
                None => {
                    let name = name.parse::<CircleName>();
                    let entry = name.ok().and_then(|name| self.circle_entry(&name, reader).map(|(_, one)| one.until));
                    entry.is_some_and(|until| once || until.is_none())
                }
            },
            Some(_) => false,
        }
    }

    fn circle_entry(&self, name: &CircleName, reader: &MemberId) -> Option<(&Circle, &CircleMember)> {
        let circle = self.charter.charter().circles.iter().find(|circle| circle.name == *name)?;
        Some((circle, circle.members.iter().find(|one| one.id == *reader)?))
    }

    fn in_circle(&self, name: &CircleName, generation: u64, reader: &MemberId) -> bool {
        if let Some(kind) = built_in(name.as_str()) {
            return self.member(reader).is_some_and(|member| member.kind == kind);
        }
        self.circle_entry(name, reader).is_some_and(|(circle, one)| {
            // A generation that we do not know yet: a newer charter decides, not a guess.
            let known = generation <= circle.generation;
            let joined = one.since <= generation || circle.history == History::Open;
            known && joined && one.until.is_none_or(|until| generation <= until)
        })
    }

    /// An audience with its circle's generation as it is now.
    pub fn audience_now(&self, audience: &Audience) -> Audience {
        let mut audience = audience.clone();
        if let Readers::Circle { name, generation, .. } = &mut audience.readers {
            *generation = self.generation(name).unwrap_or(*generation);
        }
        audience
    }

    /// The generation to write into heads for a circle now; built-in circles have one generation for ever.
    pub fn generation(&self, name: &CircleName) -> Option<u64> {
        if built_in(name.as_str()).is_some() {
            return Some(1);
        }
        self.charter.charter().circles.iter().find(|circle| circle.name == *name).map(|circle| circle.generation)
    }
}

/// The kind of member that a built-in circle takes.
fn built_in(name: &str) -> Option<MemberKind> {
    BUILT_IN_CIRCLES.iter().find(|(built_in, _)| *built_in == name).map(|(_, kind)| *kind)
}

/// Whether a head under this key still counts. A key that is pinned vouches only for what chains to a pin of its card, so
/// that a thief who back-dates, or who is heard first, gains nothing.
fn stands(card: &Card, key: &PublishingKey, head: &Head, id: Hash) -> bool {
    let own = |pin: &&Pin| pin.key == key.key.id();
    if !card.pins.iter().any(|pin| own(&pin)) {
        return true;
    }
    let here = |pin: &&Pin| pin.channel == head.channel && pin.lane == head.lane && pin.epoch == head.epoch;
    card.pins.iter().filter(own).find(here).is_some_and(|pin| head.seq < pin.seq || (head.seq == pin.seq && id == pin.head))
}

/// Whether a head's audience is its channel's. Generations and exclusions vary from head to head.
fn same_readers(channel: &Channel, audience: &Audience) -> bool {
    match (&channel.audience.readers, &audience.readers) {
        (Readers::Circle { name: one, .. }, Readers::Circle { name: other, .. }) => one == other,
        (one, other) => one == other,
    }
}
