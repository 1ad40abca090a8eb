//! What waits for a person, at the local window: the hold queue, and disputes about what we said.

use super::{
    ApiError, Local, Witness, at_door, blocking,
    contract::{Acted, Json, Query},
    operators::Operator,
};
use crate::{
    intake::value_of,
    ledger::{Place, Subject, View},
    node::door::Request,
    policy::Verdict,
    query::{Reading, Standing, title_of},
    record::{MemberId, ObservableType, Record, RecordRef, Sighted, UnknownName},
};
use axum::{Extension, extract::State};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Held records looked at for one answer or decision.
const HELD_SCAN_MAX: usize = 1_000_000;
/// Held records read from the ledger at a time.
const HELD_PAGE: usize = 1_024;
/// Lines in one answer unless less is asked for.
const LINES_DEFAULT: usize = 100;
/// Records decided under one journal entry.
const DECIDE_CHUNK: usize = 4_096;

/// Which of the held records are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HeldFilter {
    /// One record by its name, or all records about a value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub what: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The policy that holds them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Every held record.
    pub all: bool,
    pub limit: usize,
}

/// A filter whose words were read.
struct Wanted {
    record: Option<RecordRef>,
    value: Option<String>,
    origin: Option<MemberId>,
    kind: Option<ObservableType>,
    policy: Option<String>,
    view: View,
}

impl HeldFilter {
    fn read(&self, view: View) -> Result<Wanted, ApiError> {
        let record = self.what.as_ref().and_then(|what| what.parse::<RecordRef>().ok());
        let value = match (&record, &self.what) {
            (None, Some(text)) => Some(crate::record::Observable::recognise(text).map_err(ApiError::bad)?.to_string()),
            _ => None,
        };
        Ok(Wanted {
            record,
            value,
            origin: self.origin.as_ref().map(|id| id.parse()).transpose().map_err(ApiError::bad)?,
            kind: self.kind.as_ref().map(|name| name.parse()).transpose().map_err(ApiError::bad)?,
            policy: self.policy.clone(),
            view,
        })
    }
}

/// One held record.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct HeldLine {
    pub record: String,
    pub origin: String,
    pub about: String,
    pub kind: String,
    pub tlp: String,
    pub received: String,
    /// When it is refused if nobody decides.
    pub until: String,
    pub policies: Vec<String>,
    pub reason: String,
}

/// The hold queue.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct HeldReply {
    pub held: Vec<HeldLine>,
    /// How many there are that match; more than are shown, perhaps.
    pub matching: u64,
}

pub(super) async fn held(
    State(local): State<Local>,
    Extension(operator): Extension<Operator>,
    Extension(witness): Extension<Witness>,
    Query(filter): Query<HeldFilter>,
) -> Result<Json<HeldReply>, ApiError> {
    let (wanted, limit) = (filter.read(local.view(&operator))?, if filter.limit == 0 { LINES_DEFAULT } else { filter.limit });
    blocking(move || {
        let mut reply = HeldReply::default();
        each_held(&local, &wanted, |line, _| {
            reply.matching += 1;
            if reply.held.len() < limit {
                witness.line(&line.record, &line.tlp);
                reply.held.push(line);
            }
        })?;
        Ok(Json(reply))
    })
    .await
}

fn each_held(local: &Local, wanted: &Wanted, mut take: impl FnMut(HeldLine, RecordRef)) -> Result<(), ApiError> {
    let now = local.clock.now();
    let days = local.current.get().limits.hold_days;
    let mut reading = Reading::of(&wanted.view, now);
    let mut from = Place { batch: 0, index: 0 };
    for _page in 0..HELD_SCAN_MAX / HELD_PAGE {
        let places = local.ledger.held(from, HELD_PAGE)?;
        let Some(last) = places.last() else { return Ok(()) };
        from = last.next();
        for place in places {
            let Some(found) = reading.found(place)? else { continue };
            let assertion = reading.assertion(&found)?;
            let value = value_of(&found.record);
            let head = &found.batch.head;
            let meant = assertion.standing == Standing::Held
                && wanted.record.as_ref().is_none_or(|record| *record == found.reference)
                && wanted.value.as_ref().is_none_or(|text| value.is_some_and(|value| value.to_string() == *text))
                && wanted.origin.as_ref().is_none_or(|origin| *origin == head.member)
                && wanted.kind.is_none_or(|kind| value.is_some_and(|value| value.kind() == kind))
                && wanted.policy.as_ref().is_none_or(|policy| assertion.policies.contains(policy));
            if meant {
                let line = HeldLine {
                    record: assertion.reference,
                    origin: assertion.origin,
                    about: title_of(&found.record),
                    kind: assertion.kind,
                    tlp: assertion.tlp,
                    received: assertion.received,
                    until: found.batch.entry.received.plus_ms(u64::from(days) * crate::record::DAY_MS).to_string(),
                    policies: assertion.policies,
                    reason: assertion.reason,
                };
                take(line, found.reference.clone());
            }
        }
    }
    Ok(())
}

/// What is decided about held records.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeldDecision {
    /// `release` or `reject`.
    pub decision: String,
    pub reason: String,
    pub filter: HeldFilter,
}

/// What came of it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct HeldDecided {
    pub decided: usize,
}

pub(super) async fn decide(
    State(local): State<Local>,
    Extension(operator): Extension<Operator>,
    Json(decision): Json<HeldDecision>,
) -> Result<Acted<HeldDecided>, ApiError> {
    let verdict = match decision.decision.as_str() {
        "release" => Verdict::Accept,
        "reject" => Verdict::Refuse,
        other => return Err(ApiError::bad(UnknownName::new("decision", other, ["release", "reject"].into_iter()))),
    };
    if decision.reason.trim().is_empty() {
        return Err(ApiError::bad("a decision about held records needs a reason: --reason TEXT"));
    }
    if decision.filter == HeldFilter::default() {
        return Err(ApiError::bad("say which records: a name, a value, --origin, --type, --policy, or --all"));
    }
    let (here, wanted) = (local.clone(), decision.filter.read(local.view(&operator))?);
    let records = blocking(move || {
        let mut records = Vec::new();
        each_held(&here, &wanted, |_, record| records.push(record))?;
        Ok(records)
    })
    .await?;
    if records.is_empty() {
        return Err(ApiError::nothing("nothing that is held is meant by that; see `huecry held list`"));
    }
    let mut decided = 0;
    for chunk in records.chunks(DECIDE_CHUNK) {
        let (records, reason, by) = (chunk.to_vec(), decision.reason.clone(), operator.signature());
        decided += at_door(&local, |reply| Request::Judge { records, verdict, reason, by, reply }).await?;
    }
    let deed = format!("{}s {decided} held records: {}", decision.decision, decision.reason);
    Ok(Acted::deed(deed, HeldDecided { decided }))
}

/// What `disputes` may be asked.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DisputesFilter {
    /// Also disputes of what others say, and those that we dismissed.
    pub all: bool,
}

/// One dispute.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct DisputeLine {
    /// The sighting that disputes.
    pub sighting: String,
    pub member: String,
    pub about: String,
    pub at: String,
    pub note: Option<String>,
    /// Records of ours that are disputed.
    pub ours: Vec<String>,
    pub dismissed: bool,
}

/// Disputes, those of our records first. For an author they are work: withdraw what was wrong, or dismiss the dispute.
pub(super) async fn disputes(
    State(local): State<Local>,
    Extension(operator): Extension<Operator>,
    Extension(witness): Extension<Witness>,
    Query(filter): Query<DisputesFilter>,
) -> Result<Json<Vec<DisputeLine>>, ApiError> {
    blocking(move || {
        let (orders, now) = (local.enforcer.orders(), local.clock.now());
        let view = local.view(&operator);
        let mut reading = Reading::of(&view, now);
        let mut lines = Vec::new();
        for (sighting, subjects) in local.ledger.disputes() {
            let Ok(reference) = sighting.parse::<RecordRef>() else { continue };
            let Some(found) = reading.named(&reference)? else { continue };
            let Record::Sighting(record) = &found.record else { continue };
            let ours = ours(&local, &mut reading, &record.of, &subjects)?;
            let dismissed = orders.dismissed.contains(&sighting);
            if !filter.all && (ours.is_empty() || dismissed) {
                continue;
            }
            witness.found(&found);
            lines.push(DisputeLine {
                sighting,
                member: found.batch.head.member.to_string(),
                about: title_of(&found.record),
                at: found.batch.head.time.to_string(),
                note: record.description.clone(),
                ours,
                dismissed,
            });
        }
        lines.sort_by(|one, other| other.at.cmp(&one.at));
        Ok(Json(lines))
    })
    .await
}

/// Records of ours that a dispute is about and that still count.
fn ours(local: &Local, reading: &mut Reading<'_>, of: &Sighted, subjects: &[Subject]) -> Result<Vec<String>, ApiError> {
    let me = &local.identity.member;
    let named = subjects.iter().filter_map(|subject| match subject {
        Subject::Record(record) => record.parse::<RecordRef>().ok().filter(|record| record.feed.member == *me),
        Subject::Value(_) => None,
    });
    let mut records: Vec<RecordRef> = named.collect();
    if let Sighted::Value(value) = of {
        for place in reading.places(value)? {
            let found = reading.found(place)?.filter(|found| found.batch.head.member == *me && value_of(&found.record) == Some(value));
            records.extend(found.filter(|found| matches!(found.record, Record::Indicator(_))).map(|found| found.reference.clone()));
        }
    }
    let mut live = Vec::new();
    for record in records {
        let found = reading.named(&record)?;
        if found.is_some_and(|found| found.withdrawn.is_none()) {
            live.push(record.to_string());
        }
    }
    Ok(live)
}
