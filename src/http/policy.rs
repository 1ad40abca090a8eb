//! Policies at the local window: what is in force, reading the files anew, trying a draft, judging the past again.

use super::{
    ApiError, Local, Witness, at_door, blocking,
    contract::{Acted, Json, Lines},
    operators::Operator,
    progress::{self, Line},
};
use crate::{
    config::Config,
    intake::Intake,
    ledger::View,
    node::{
        door::Request,
        rules::{self, Draft},
    },
    policy::{MissingList, Piece, Policy},
    query::{self, As, Reading, Trial},
    record::{DAY_MS, RecordRef, Timestamp},
};
use axum::{Extension, extract::State};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Records judged again under one journal entry.
const REJUDGE_CHUNK: usize = 4_096;

/// What is in force.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct PolicyReply {
    pub hash: String,
    pub policies: usize,
    pub pieces: Vec<Piece>,
    pub lists: Vec<ListLine>,
    pub alarms: Vec<String>,
    /// Decisions that were remembered, and that were made.
    pub memo: (u64, u64),
}

/// One list.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ListLine {
    pub name: String,
    pub role: String,
    pub entries: usize,
    /// Why it is not here in its newest state, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}

pub(super) async fn policy(State(local): State<Local>, Extension(operator): Extension<Operator>) -> Json<PolicyReply> {
    let reply = reply(&local);
    // The cost of judging depends on all records together.
    Json(if operator.operates() { reply } else { PolicyReply { memo: (0, 0), ..reply } })
}

fn reply(local: &Local) -> PolicyReply {
    let intake = local.current.get();
    let line = |list: &crate::policy::List| {
        let missing = intake.lists.missing().iter().find(|one| one.name == list.name).map(|one| one.why.clone());
        ListLine { name: list.name.clone(), role: list.role.to_string(), entries: list.entries, missing }
    };
    let gone = |list: &&MissingList| !list.stands_in;
    let gone = intake.lists.missing().iter().filter(gone).map(|list| ListLine {
        name: list.name.clone(),
        role: list.role.to_string(),
        entries: 0,
        missing: Some(list.why.clone()),
    });
    PolicyReply {
        hash: intake.policy.hash().to_string(),
        policies: intake.policy.count(),
        pieces: intake.policy.pieces().to_vec(),
        lists: intake.lists.all().iter().map(line).chain(gone).collect(),
        alarms: local.current.alarms(),
        memo: intake.policy.memo_counts(),
    }
}

fn config(local: &Local) -> Result<Config, ApiError> {
    Config::read(&local.data.join("node.toml")).map_err(ApiError::bad)
}

/// Reads policies and lists anew, as `huecry policy reload` does; for one who is told to by a signal. The sentence says what came of it.
/// What does not read leaves the last good state in force, and is an error here.
pub async fn reload_rules(local: &Local) -> Result<String, String> {
    put_in_force(local).await.map_err(|error| error.parts().1)
}

async fn put_in_force(local: &Local) -> Result<String, ApiError> {
    let here = local.clone();
    let rules = blocking(move || {
        let in_force = here.ledger.policy_in_force()?;
        rules::load(&here.data, &config(&here)?, in_force.as_ref()).map_err(ApiError::bad)
    })
    .await?;
    let deed = format!("puts policy {} in force", rules.policy.hash().short());
    at_door(local, |reply| Request::Rules { rules: Box::new(rules), reply }).await?;
    Ok(deed)
}

pub(super) async fn reload(State(local): State<Local>) -> Result<Acted<PolicyReply>, ApiError> {
    let deed = put_in_force(&local).await?;
    Ok(Acted::deed(deed, reply(&local)))
}

/// What is to be tried.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TryParameters {
    pub draft: Draft,
    /// Days to look back; none: everything.
    pub since_days: Option<u32>,
}

fn since(now: Timestamp, days: Option<u32>) -> Timestamp {
    days.map_or_else(Timestamp::default, |days| now.minus_ms(u64::from(days) * DAY_MS))
}

/// Tries a draft. The answer is lines of JSON: progress, and at the end what would change.
pub(super) async fn attempt(
    State(local): State<Local>,
    Extension(operator): Extension<Operator>,
    Extension(witness): Extension<Witness>,
    Json(parameters): Json<TryParameters>,
) -> Result<Lines<Line<Trial>>, ApiError> {
    witness.demand()?;
    let here = local.clone();
    let (config, policy) = blocking(move || {
        let config = config(&here)?;
        let pieces = rules::read_pieces(&here.data, &config, Some(&parameters.draft)).map_err(ApiError::bad)?;
        Ok((config, Policy::of(pieces).map_err(ApiError::bad)?))
    })
    .await?;
    Ok(progress::lines(move |progress| {
        let (in_force, now) = (local.current.get(), local.clock.now());
        let draft = Intake { policy: Arc::new(policy), ..(*in_force).clone() };
        let since = since(now, parameters.since_days);
        let found = query::trial(&local.ledger, &in_force, &draft, &config.outlets(), since, now, progress)?;
        // Names and values of records above the asker's clearance are not examples for that asker.
        let found = below(found, &local, &operator);
        let examples = found.changes.iter().flat_map(|change| &change.examples);
        examples.for_each(|example| witness.named(&example.record));
        witness.write()?;
        Ok::<_, ApiError>(found)
    }))
}

fn below(mut trial: Trial, local: &Local, operator: &Operator) -> Trial {
    for change in &mut trial.changes {
        change.examples.retain(|example| {
            let batch = example.record.parse::<RecordRef>().ok().and_then(|one| local.ledger.batch_at(&one.feed, one.seq).ok().flatten());
            batch.is_some_and(|batch| batch.head.tlp <= operator.clearance)
        });
    }
    trial
}

/// From when on what was judged is judged again.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RejudgeParameters {
    pub since_days: Option<u32>,
}

/// How many were judged again, and how many of them otherwise.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Rejudged {
    pub records: u64,
    pub changed: usize,
}

/// Judges the past again by the policies in force, as a trial of them has shown.
pub(super) async fn rejudge(
    State(local): State<Local>,
    Extension(operator): Extension<Operator>,
    Json(parameters): Json<RejudgeParameters>,
) -> Result<Acted<Rejudged>, ApiError> {
    let (mut changed, mut looked_at) = (0usize, 0u64);
    let (now, view) = (local.clock.now(), local.view(&operator));
    let (ledger, from) = (local.ledger.clone(), since(now, parameters.since_days));
    let mut next = blocking(move || Ok(ledger.first_since(from)?)).await?;
    while next < local.ledger.batches() {
        let (here, view, begin) = (local.clone(), view.clone(), next);
        let (records, count, after) = blocking(move || changing(&here, &view, begin, now)).await?;
        (next, looked_at) = (after, looked_at + count);
        if records.is_empty() {
            continue;
        }
        let by = operator.signature();
        changed += at_door(&local, |reply| Request::Rejudge { records, by, reply }).await?;
    }
    let deed = format!("judges {looked_at} records again; {changed} changed");
    Ok(Acted::deed(deed, Rejudged { records: looked_at, changed }))
}

/// Records from batch `next` on whose judgement changes, up to a chunk; how many were looked at; where to go on.
fn changing(local: &Local, view: &View, mut next: u64, now: Timestamp) -> Result<(Vec<RecordRef>, u64, u64), ApiError> {
    let (intake, end) = (local.current.get(), local.ledger.batches());
    let (mut reading, mut records, mut looked_at) = (Reading::of(view, now), Vec::new(), 0);
    while next < end && records.len() < REJUDGE_CHUNK && looked_at < 64 * REJUDGE_CHUNK as u64 {
        if let Some(batch) = reading.batch(next)? {
            for index in 0..batch.head.count {
                looked_at += 1;
                let record = batch.reference(index);
                if reading.judged_again(&intake, &record, As::Then)?.is_some() {
                    records.push(record);
                }
            }
        }
        next += 1;
    }
    Ok((records, looked_at, next))
}
