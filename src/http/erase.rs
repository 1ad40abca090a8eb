//! What goes, at the local window: erasing by order, what is held about one value, what retention asks about.

use super::{
    ApiError, Local, Operator, Witness, at_door, blocking,
    contract::{Acted, Json, Query},
    enforce,
};
use crate::{
    ledger::{DueLine, ErasedBy, Position, ReviewEntry, grouped},
    node::{door::Request, upkeep::Outcome},
    query::{Reading, title_of},
    record::{DAY_MS, Observable, Record, RecordRef, Tlp},
};
use axum::{Extension, extract::State};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Most records of one order.
const RECORDS_MAX: usize = 1_000_000;
/// Records told before an erasure.
const PREVIEW_MAX: usize = 100;
/// Shortest order: somebody will ask which it was.
const ORDER_CHARS_MIN: usize = 3;
/// Longest order, in bytes.
const ORDER_BYTES_MAX: usize = 1_024;

/// What is to be erased, and by which order.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EraseParameters {
    /// Records, or values: all records about exactly that value. A report means all of it that is here.
    pub what: Vec<String>,
    #[serde(default)]
    pub order: String,
}

/// What would be erased.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ErasePreview {
    /// How many records.
    pub all: usize,
    /// The first of them, as far as the asker may see them.
    pub records: Vec<KeptLine>,
    /// Of all, how many we have published ourselves: others keep them until they are withdrawn.
    pub ours: usize,
}

/// One record that is held.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct KeptLine {
    pub reference: String,
    pub about: String,
    pub kind: String,
    pub tlp: String,
    pub standing: String,
    pub received: String,
    pub ends: String,
    pub report: Option<String>,
}

/// Finds what is meant, whatever it counts for now: what is held, refused, withdrawn or set aside goes too.
fn meant(local: &Local, what: &[String]) -> Result<BTreeSet<RecordRef>, ApiError> {
    let mut reading = Reading::whole(&local.ledger, local.clock.now());
    let mut records = BTreeSet::new();
    for text in what {
        let before = records.len();
        match text.parse::<RecordRef>() {
            Ok(reference) => {
                for number in local.ledger.all_at(&reference.feed, reference.seq)? {
                    match reading.batch(number)?.and_then(|batch| batch.record(reference.index)) {
                        Some(Record::Withdrawal(_) | Record::Renewal(_)) => {
                            return Err(ApiError::bad(format!("{reference} takes something back; that outlives what it is about")));
                        }
                        Some(_) => drop(records.insert(reference.clone())),
                        // What this version cannot read has to go too.
                        None => {
                            let batch = reading.batch(number)?;
                            if batch.is_some_and(|batch| batch.record_bytes(reference.index).is_some()) {
                                records.insert(reference.clone());
                            }
                        }
                    }
                }
                local.ledger.each_indicator_of(&reference, |batch, index| {
                    records.insert(batch.reference(index));
                    true
                })?;
            }
            Err(_) => {
                let value = Observable::recognise(text).map_err(ApiError::bad)?;
                records.extend(reading.everything_about(&value)?);
            }
        }
        if records.len() == before {
            return Err(ApiError::nothing(format!("nothing is held about `{}`", crate::record::excerpt(text))));
        }
        if records.len() > RECORDS_MAX {
            return Err(ApiError::bad("more than a million records; erase them in parts"));
        }
    }
    Ok(records)
}

/// Where decisions of people stand whose words hold one of these values, in whatever spelling they wrote it.
fn decisions_about(local: &Local, what: &[String]) -> Result<Vec<Position>, ApiError> {
    let values: Vec<Observable> =
        what.iter().filter(|text| text.parse::<RecordRef>().is_err()).filter_map(|text| Observable::recognise(text).ok()).collect();
    if values.is_empty() {
        return Ok(Vec::new());
    }
    let is_about = |words: &str| {
        let canonical = values.iter().any(|value| words.contains(&value.to_string()));
        let mut spelled = words.split(|char: char| char.is_whitespace() || "`,;()".contains(char));
        canonical || spelled.any(|word| Observable::recognise(word).is_ok_and(|found| values.contains(&found)))
    };
    let all = local.ledger.decisions_at(usize::MAX)?.into_iter();
    Ok(all.filter(|(_, decision)| is_about(&decision.what)).map(|(position, _)| position).collect())
}

fn kept_line(reading: &mut Reading<'_>, reference: &RecordRef) -> Result<Option<KeptLine>, ApiError> {
    let Some(found) = reading.named(reference)? else { return Ok(None) };
    let said = reading.assertion(&found)?;
    Ok(Some(KeptLine {
        about: title_of(&found.record),
        reference: said.reference,
        kind: said.kind,
        tlp: said.tlp,
        standing: said.standing.to_string(),
        received: said.received,
        ends: said.ends,
        report: said.report,
    }))
}

pub(super) async fn preview(
    State(local): State<Local>,
    Extension(operator): Extension<Operator>,
    Extension(witness): Extension<Witness>,
    Json(parameters): Json<EraseParameters>,
) -> Result<Acted<ErasePreview>, ApiError> {
    let preview = blocking(move || {
        let records = meant(&local, &parameters.what)?;
        let view = local.view(&operator);
        let mut reading = Reading::of(&view, local.clock.now());
        let ours = records.iter().filter(|record| record.feed.member == local.identity.member).count();
        let mut preview = ErasePreview { all: records.len(), ours, ..ErasePreview::default() };
        for record in &records {
            if preview.records.len() < PREVIEW_MAX {
                preview.records.extend(kept_line(&mut reading, record)?);
            }
        }
        preview.records.iter().for_each(|line| witness.line(&line.reference, &line.tlp));
        Ok(preview)
    })
    .await?;
    Ok(Acted::nothing(preview))
}

/// Erases, and answers with the receipt.
pub(super) async fn erase(
    State(local): State<Local>,
    Extension(operator): Extension<Operator>,
    Json(parameters): Json<EraseParameters>,
) -> Result<Acted<Outcome>, ApiError> {
    let order = parameters.order.trim().to_owned();
    if order.chars().count() < ORDER_CHARS_MIN || order.len() > ORDER_BYTES_MAX {
        return Err(ApiError::bad("say under which order: --order \"case number, court, date\"; 1,024 bytes at most"));
    }
    if let Some(named) = parameters.what.iter().find(|what| what.parse::<RecordRef>().is_err() && order.contains(what.as_str())) {
        let text =
            format!("the order says `{}`; it is kept for auditors, so it must not hold what is erased", crate::record::excerpt(named));
        return Err(ApiError::bad(text));
    }
    let here = local.clone();
    let (records, decisions) = blocking(move || {
        let records = meant(&here, &parameters.what)?;
        let decisions = decisions_about(&here, &parameters.what)?;
        Ok((records, decisions))
    })
    .await?;
    let by = Some(operator.signature());
    let outcome: Outcome = local.upkeep.erase_with(ErasedBy::Order, by, &order, grouped(records), decisions).await?;
    // What was erased is not said again in the journal.
    let deed = format!("erases {} records under: {order}", outcome.erased.records);
    Ok(Acted::deed(deed, outcome))
}

/// What is asked about.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SubjectParameters {
    pub what: String,
}

/// All that is held about one value.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct SubjectReply {
    pub value: String,
    /// When the first of the records was received.
    pub since: Option<String>,
    pub records: Vec<KeptLine>,
    /// Lines of exports of ours that hold it, or stand for it.
    pub exports: Vec<String>,
    /// Lists of ours that it is on.
    pub lists: Vec<String>,
    /// What operators ordered about it.
    pub orders: Vec<String>,
    /// Records above the clearance of a caller who operates the node; 0 for others.
    pub above_clearance: u64,
}

pub(super) async fn subject(
    State(local): State<Local>,
    Extension(operator): Extension<Operator>,
    Extension(witness): Extension<Witness>,
    Query(SubjectParameters { what }): Query<SubjectParameters>,
) -> Result<Json<SubjectReply>, ApiError> {
    blocking(move || {
        let value = Observable::recognise(&what).map_err(ApiError::bad)?;
        let view = local.view(&operator);
        let mut reading = Reading::of(&view, local.clock.now());
        let mut reply = SubjectReply { value: value.defanged(), ..SubjectReply::default() };
        let seen = reading.everything_about(&value)?;
        if operator.operates() {
            let all = Reading::whole(&local.ledger, local.clock.now()).everything_about(&value)?;
            reply.above_clearance = (all.len() - seen.len()) as u64;
        }
        for record in &seen {
            reply.records.extend(kept_line(&mut reading, record)?);
        }
        reply.records.iter().for_each(|line| witness.line(&line.reference, &line.tlp));
        reply.records.sort_by(|one, other| one.received.cmp(&other.received));
        reply.since = reply.records.first().map(|line| line.received.clone());
        let lines = enforce::hitting(&local, &value, &operator, &witness);
        reply.exports = lines.iter().map(|line| format!("{} ({:?}): {}", line.outlet, line.stage, line.value)).collect();
        reply.lists = local.current.get().lists.of(&value).lists().map(|list| format!("{} ({})", list.name, list.role)).collect();
        reply.orders = local.enforcer.orders().about(&value);
        Ok(Json(reply))
    })
    .await
}

/// How long content stays, and what a person is asked about.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct RetentionReply {
    pub limits: Vec<String>,
    pub rules: Vec<String>,
    pub due: Vec<DueLine>,
    /// Records that are over by now, by rule, and go with the next round.
    pub going: Vec<(String, u64)>,
    pub disk_bytes: u64,
}

pub(super) async fn retention(
    State(local): State<Local>,
    Extension(operator): Extension<Operator>,
) -> Result<Json<RetentionReply>, ApiError> {
    blocking(move || {
        let retention = local.upkeep.retention().map_err(ApiError::bad)?;
        let due = local.ledger.survey_up_to(&retention, local.clock.moment().earliest, operator.clearance, |_, _| ())?;
        let count = |places: &[crate::ledger::ErasedPlaces]| places.iter().map(|places| places.records().count() as u64).sum();
        let rule = |rule: &crate::ledger::RetentionRule| {
            let then = if rule.review { "then a person decides" } else { "then erased" };
            let kept = rule.reviewed.map(|(_, until)| format!("; by decision until {until}")).unwrap_or_default();
            format!("{}: {} days, {then}{kept}", rule.name, rule.keep_days)
        };
        let reply = RetentionReply {
            limits: vec![
                format!("{} days from publication, whatever it is", retention.content_days),
                format!("{} days after its end", retention.over_days),
                format!("{} days, if refused", retention.refused_days),
            ],
            rules: retention.rules.iter().map(rule).collect(),
            going: due.erase.iter().map(|(rule, places)| (rule.clone(), count(places))).collect(),
            due: due.review.into_values().map(|(line, _)| line).collect(),
            disk_bytes: if operator.operates() { local.ledger.disk_bytes() } else { 0 },
        };
        if operator.clearance == Tlp::Red {
            local.upkeep.set_due(reply.due.clone());
        }
        Ok(Json(reply))
    })
    .await
}

/// How many records were erased.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RetentionApplied {
    /// Because their time is over.
    pub over: u64,
    /// Because there is no room.
    pub no_room: u64,
}

/// Erases now what has come to its end, which a running node does every day. A person orders it, so the clock need not have been right for a
/// day, but nothing may contradict it.
pub(super) async fn apply(State(local): State<Local>) -> Result<Acted<RetentionApplied>, ApiError> {
    local.upkeep.retention().map_err(ApiError::bad)?;
    if let Some(doubt) = local.clock.doubt() {
        return Err(ApiError::bad(doubt));
    }
    let (erased, evicted) = (local.upkeep.survey(true).await?, local.upkeep.make_room().await?);
    let deed = format!("erases {} records whose time is over, {} for which there is no room", erased.records, evicted.records);
    Ok(Acted::deed(deed, RetentionApplied { over: erased.records, no_room: evicted.records }))
}

/// What a person decides about records that are due for review.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetentionParameters {
    pub rule: String,
    /// They stay so many days more; without it they are erased.
    pub keep_days: Option<u32>,
    pub reason: String,
}

/// What came of it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RetentionDecided {
    pub rule: String,
    pub outcome: String,
}

pub(super) async fn decide(
    State(local): State<Local>,
    Extension(operator): Extension<Operator>,
    Json(parameters): Json<RetentionParameters>,
) -> Result<Acted<RetentionDecided>, ApiError> {
    let RetentionParameters { rule, keep_days, reason } = parameters;
    if reason.trim().chars().count() < ORDER_CHARS_MIN || reason.len() > ORDER_BYTES_MAX {
        return Err(ApiError::bad("say why: --reason TEXT, 1,024 bytes at most"));
    }
    let (here, name) = (local.clone(), rule.clone());
    let (line, places) = blocking(move || {
        let retention = here.upkeep.retention().map_err(ApiError::bad)?;
        let mut due = here.ledger.survey(&retention, here.clock.moment().earliest, |_, _| ())?;
        due.review.remove(&name).ok_or_else(|| ApiError::nothing(format!("nothing is due for review by a rule `{name}`")))
    })
    .await?;
    let now = local.clock.now();
    let text = match keep_days {
        Some(days) => {
            let until = now.plus_ms(u64::from(days) * DAY_MS);
            let entry =
                ReviewEntry { at: now, by: operator.signature(), rule: rule.clone(), text: reason.clone(), received_until: now, until };
            at_door(&local, |reply| Request::Review { entry: Box::new(entry), reply }).await?;
            format!("{} records stay until {until}", line.records)
        }
        None => {
            let text = format!("retention `{rule}`: {reason}");
            let done = local.upkeep.erase(ErasedBy::Retention, Some(operator.signature()), &text, places).await?;
            format!("{} records erased", done.erased.records)
        }
    };
    local.upkeep.set_due(local.upkeep.due().into_iter().filter(|line| line.rule != rule).collect());
    let deed = format!("decides about what retention `{rule}` asks: {text}: {reason}");
    Ok(Acted::deed(deed, RetentionDecided { rule, outcome: text }))
}
