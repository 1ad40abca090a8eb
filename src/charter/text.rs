//! The charter as stewards edit it: `charter.toml`.
//!
//! What follows from the version before is computed and not typed: version number, previous hash, date, and the
//! generations of circles. So an edit says only what is meant, and the diff of two texts is the change.
//!
//! Not here: signing (`proposal`), what a change means in words (`change`).

use super::{
    AfterEnd, Agreement, CHARTER_DAYS_MAX, Charter, Circle, CircleMember, DOCUMENT_FORMAT, FormatFloor, FreshnessKey, History, Member,
    Past, Quota, SignedCharter, Steward, card_member,
};
use crate::{
    envelope::{Hash, PublicKey},
    record::{DAY_MS, Kind, MemberId, SECOND_MS, Timestamp, Tlp, from_toml},
};
use serde::{Deserialize, Serialize};

/// Longest `charter.toml` that is read, in bytes: a charter at its limit, written out.
pub const CHARTER_TEXT_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Why a `charter.toml` is refused: where, what, and the nearest known name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {why}")]
pub struct CharterTextError {
    place: String,
    why: String,
}

fn refuse(place: impl Into<String>, why: impl std::fmt::Display) -> CharterTextError {
    CharterTextError { place: place.into(), why: why.to_string() }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CharterText {
    name: String,
    version: u64,
    expires: String,
    threshold: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resolves: Option<String>,
    #[serde(default = "default_floor")]
    floor: FloorText,
    quota: QuotaText,
    steward: Vec<StewardText>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    member: Vec<MemberText>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    freshness: Vec<FreshnessText>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    circle: Vec<CircleText>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    agreement: Vec<AgreementText>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    card: Vec<CardText>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CardText {
    member: String,
    bytes: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FloorText {
    format: u64,
    from: String,
}

fn default_floor() -> FloorText {
    FloorText { format: 1, from: "1970-01-01".to_owned() }
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct QuotaText {
    records_per_second: u64,
    burst_records: u64,
    records_per_day: u64,
    bytes_per_day: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StewardText {
    name: String,
    key: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MemberText {
    id: String,
    name: String,
    kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    country: Option<String>,
    root: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revoked: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quota: Option<QuotaText>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FreshnessText {
    member: String,
    key: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CircleText {
    name: String,
    #[serde(default = "closed")]
    history: String,
    members: Vec<String>,
}

fn closed() -> String {
    History::Closed.name().to_owned()
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AgreementText {
    id: String,
    member: String,
    audiences: Vec<String>,
    tlp_max: String,
    kinds: Vec<String>,
    purpose: String,
    from: String,
    until: String,
    after_end: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    purge_after_days: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revoked: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quota: Option<QuotaText>,
}

const HEADER: &str = "\
# The next version of the charter, to be edited. Date, previous hash and the generations of circles follow from the
# version before. `huecry charter diff` says what an edit means; `huecry charter sign` makes it a proposal and signs it.
# A [[card]] at the end is the first card of a new member; it proves itself and is not part of what is signed.

";

/// What a `charter.toml` says: the charter, and the first cards of new members that travel with it.
#[derive(Clone, Debug)]
pub struct Draft {
    pub charter: Charter,
    pub cards: Vec<Vec<u8>>,
}

/// The text of a draft, for editing. Its version is the one that the edited text will be.
pub fn charter_text(draft: &Draft) -> String {
    let charter = &draft.charter;
    let quota = |quota: &Quota| QuotaText {
        records_per_second: quota.records_per_second,
        burst_records: quota.burst_records,
        records_per_day: quota.records_per_day,
        bytes_per_day: quota.bytes_per_day,
    };
    let key = |key: &PublicKey| hex::encode(key.to_bytes());
    let text = CharterText {
        name: charter.name.clone(),
        version: charter.version,
        expires: moment_text(charter.expires),
        threshold: charter.threshold,
        resolves: None,
        floor: FloorText { format: charter.floor.format, from: moment_text(charter.floor.from) },
        quota: quota(&charter.quota),
        steward: charter.stewards.iter().map(|one| StewardText { name: one.name.clone(), key: key(&one.key) }).collect(),
        member: charter
            .members
            .iter()
            .map(|one| MemberText {
                id: one.id.to_string(),
                name: one.name.clone(),
                kind: one.kind.to_string(),
                country: one.country.clone(),
                root: key(&one.root),
                revoked: one.revoked.map(moment_text),
                quota: one.quota.as_ref().map(quota),
            })
            .collect(),
        freshness: charter.freshness.iter().map(|one| FreshnessText { member: one.member.to_string(), key: key(&one.key) }).collect(),
        circle: charter
            .circles
            .iter()
            .map(|one| CircleText {
                name: one.name.to_string(),
                history: one.history.to_string(),
                members: current(one).map(ToString::to_string).collect(),
            })
            .collect(),
        agreement: charter
            .agreements
            .iter()
            .map(|one| AgreementText {
                id: one.id.clone(),
                member: one.member.to_string(),
                audiences: one.audiences.clone(),
                tlp_max: one.tlp_max.label().trim_start_matches("TLP:").to_ascii_lowercase(),
                kinds: one.kinds.iter().map(ToString::to_string).collect(),
                purpose: one.purpose.clone(),
                from: moment_text(one.from),
                until: moment_text(one.until),
                after_end: one.after_end.to_string(),
                purge_after_days: one.purge_after_days,
                revoked: one.revoked.map(moment_text),
                quota: one.quota.as_ref().map(quota),
            })
            .collect(),
        card: draft
            .cards
            .iter()
            .filter_map(|bytes| Some(CardText { member: card_member(bytes)?.to_string(), bytes: hex::encode(bytes) }))
            .collect(),
    };
    // INVARIANT: plain strings and numbers, which TOML can hold.
    format!("{HEADER}{}", toml::to_string(&text).unwrap_or_default())
}

fn current(circle: &Circle) -> impl Iterator<Item = &MemberId> {
    circle.members.iter().filter(|one| one.until.is_none()).map(|one| &one.id)
}

/// A moment so that reading it gives the same one: the day alone where that is all.
fn moment_text(moment: Timestamp) -> String {
    let text = moment.to_string();
    match moment.ms() {
        ms if ms.is_multiple_of(DAY_MS) => text.trim_end_matches("T00:00:00Z").to_owned(),
        ms if ms.is_multiple_of(SECOND_MS) => text,
        ms => format!("{}.{:03}Z", text.trim_end_matches('Z'), ms % SECOND_MS),
    }
}

/// Reads a `charter.toml` as the version after `before`, or as the first one. Its own rules are checked when it is signed.
pub fn charter_of_text(text: &str, before: Option<&SignedCharter>, past: &Past, issued: Timestamp) -> Result<Draft, CharterTextError> {
    let parsed: CharterText = from_toml(text).map_err(|error| refuse(format!("line {}", error.line), error.what))?;
    let version = before.map_or(1, |before| before.charter().version + 1);
    if parsed.version != version {
        let have =
            before.map_or("there is no version before it here".to_owned(), |_| format!("the version before it here is {}", version - 1));
        let why = format!(
            "this text is of version {}, and {have}; give the right one with --before, or begin again with `huecry charter edit`",
            parsed.version
        );
        return Err(refuse("version", why));
    }
    let expires = moment(&parsed.expires).map_err(|why| refuse("expires", why))?;
    if expires.ms_since(issued) > CHARTER_DAYS_MAX * DAY_MS {
        return Err(refuse("expires", format!("a charter lives {CHARTER_DAYS_MAX} days at most; write a day up to {}", last_day(issued))));
    }
    let stewards = parsed.steward.iter().map(|one| {
        Ok(Steward { name: one.name.clone(), key: named(&one.key).map_err(|why| refuse(format!("steward `{}`, key", one.name), why))? })
    });
    let freshness = parsed.freshness.iter().map(|one| {
        let at = |why: String| refuse(format!("freshness key of `{}`", one.member), why);
        Ok(FreshnessKey { member: named(&one.member).map_err(at)?, key: named(&one.key).map_err(at)? })
    });
    let resolves = parsed.resolves.as_deref().map(|text| text.parse::<Hash>().map_err(|why| refuse("resolves", why))).transpose()?;
    let card = |one: &CardText| hex::decode(&one.bytes).map_err(|why| refuse(format!("card of `{}`", one.member), why));
    let cards = parsed.card.iter().map(card).collect::<Result<_, _>>()?;
    let charter = Charter {
        format: DOCUMENT_FORMAT,
        name: parsed.name,
        version,
        prev: before.map(SignedCharter::hash),
        issued,
        expires,
        stewards: stewards.collect::<Result<_, _>>()?,
        threshold: parsed.threshold,
        members: parsed.member.iter().map(member).collect::<Result<_, _>>()?,
        circles: parsed.circle.iter().map(|one| circle(one, before.map(SignedCharter::charter), past)).collect::<Result<_, _>>()?,
        agreements: parsed.agreement.iter().map(agreement).collect::<Result<_, _>>()?,
        quota: quota(parsed.quota),
        freshness: freshness.collect::<Result<_, _>>()?,
        floor: FormatFloor { format: parsed.floor.format, from: moment(&parsed.floor.from).map_err(|why| refuse("floor", why))? },
        resolves,
    };
    Ok(Draft { charter, cards })
}

fn last_day(issued: Timestamp) -> String {
    let last = issued.plus_ms(CHARTER_DAYS_MAX * DAY_MS).to_string();
    last.get(..10).unwrap_or_default().to_owned()
}

fn moment(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text).ok_or_else(|| format!("`{text}` is no time; write 2027-12-31 or 2027-12-31T10:00:00Z"))
}

fn named<T: std::str::FromStr>(text: &str) -> Result<T, String>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error: T::Err| error.to_string())
}

fn quota(text: QuotaText) -> Quota {
    let QuotaText { records_per_second, burst_records, records_per_day, bytes_per_day } = text;
    Quota { records_per_second, burst_records, records_per_day, bytes_per_day }
}

fn member(text: &MemberText) -> Result<Member, CharterTextError> {
    let at = |why: String| refuse(format!("member `{}`", text.id), why);
    Ok(Member {
        id: named(&text.id).map_err(at)?,
        name: text.name.clone(),
        kind: named(&text.kind).map_err(at)?,
        country: text.country.clone(),
        root: named(&text.root).map_err(at)?,
        quota: text.quota.map(quota),
        revoked: text.revoked.as_deref().map(moment).transpose().map_err(at)?,
    })
}

/// A circle whose generation follows from its former members: it rises when a member joins or leaves. A circle that was removed continues
/// after its last generation, so that its new members do not get its old records.
fn circle(text: &CircleText, before: Option<&Charter>, past: &Past) -> Result<Circle, CharterTextError> {
    let at = |why: String| refuse(format!("circle `{}`", text.name), why);
    let wanted: Vec<MemberId> = text.members.iter().map(|id| named(id)).collect::<Result<_, _>>().map_err(at)?;
    let name = named(&text.name).map_err(at)?;
    let history = named(&text.history).map_err(at)?;
    let old = before.and_then(|charter| charter.circles.iter().find(|circle| circle.name == name));
    let Some(old) = old else {
        let generation = past.generation(&name).map_or(1, |last| last + 1);
        let members = wanted.into_iter().map(|id| CircleMember { id, since: generation, until: None }).collect();
        return Ok(Circle { name, generation, history, members });
    };
    let changed = wanted.iter().any(|id| !current(old).any(|one| one == id)) || current(old).any(|one| !wanted.contains(one));
    let generation = if changed { old.generation + 1 } else { old.generation };
    let leaves = |one: &CircleMember| one.until.is_none() && !wanted.contains(&one.id);
    let returns = |one: &CircleMember| one.until.is_some() && wanted.contains(&one.id);
    let stays = old
        .members
        .iter()
        .filter(|one| !returns(one))
        .map(|one| CircleMember { until: if leaves(one) { Some(old.generation) } else { one.until }, ..one.clone() });
    let joins = wanted.iter().filter(|id| !current(old).any(|one| one == *id));
    let members = stays.chain(joins.map(|id| CircleMember { id: id.clone(), since: generation, until: None })).collect();
    Ok(Circle { name, generation, history, members })
}

fn agreement(text: &AgreementText) -> Result<Agreement, CharterTextError> {
    let at = |why: String| refuse(format!("agreement `{}`", text.id), why);
    Ok(Agreement {
        id: text.id.clone(),
        member: named(&text.member).map_err(at)?,
        audiences: text.audiences.clone(),
        tlp_max: Tlp::parse(&text.tlp_max).map_err(|error| at(error.to_string()))?,
        kinds: text.kinds.iter().map(|kind| named::<Kind>(kind)).collect::<Result<_, _>>().map_err(at)?,
        purpose: text.purpose.clone(),
        quota: text.quota.map(quota),
        from: moment(&text.from).map_err(at)?,
        until: moment(&text.until).map_err(at)?,
        after_end: named::<AfterEnd>(&text.after_end).map_err(at)?,
        purge_after_days: text.purge_after_days,
        revoked: text.revoked.as_deref().map(moment).transpose().map_err(at)?,
    })
}
