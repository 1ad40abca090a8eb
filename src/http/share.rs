//! Passing on at the local window: records of others go to a further audience that their author named.

use super::{
    ApiError, Local, Operator, Witness, at_door, blocking,
    contract::{Acted, Json},
};
use crate::{
    intake::Known as _,
    ledger::{SHARES_MAX, ShareEntry},
    node::door::Request,
    policy::{ONWARD_TLP_MAX, Way, may_send},
    query::{Found, Reading, Standing, title_of},
    record::{Indicator, MemberId, Record, RecordRef, Timestamp},
};
use axum::{Extension, extract::State};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Batches that are looked through for the indicators of a report that is passed on.
const REPORT_BATCHES_MAX: u64 = 4_096;
/// Most records of one order.
const RECORDS_MAX: usize = 65_536;

/// An order to pass records on, or to do so no more.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ShareParameters {
    /// Records; a report means all of it that is here.
    pub records: Vec<String>,
    /// `federation`, `circle:NAME` or `member:ID`.
    pub with: String,
    #[serde(default)]
    pub undo: bool,
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ShareReply {
    pub records: usize,
    pub with: String,
    /// Members that may have them now.
    pub reaches: Vec<String>,
}

/// What is passed on, by author and audience.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ShareLine {
    pub record: String,
    pub about: String,
    pub with: Vec<String>,
    pub standing: String,
}

pub(super) async fn shares(
    State(local): State<Local>,
    Extension(operator): Extension<Operator>,
    Extension(witness): Extension<Witness>,
) -> Result<Json<Vec<ShareLine>>, ApiError> {
    blocking(move || {
        let all: Vec<(RecordRef, Vec<String>)> =
            local.ledger.with_shares(|shares| shares.all().map(|(record, with)| (record, with.iter().cloned().collect())).collect());
        let view = local.view(&operator);
        let mut reading = Reading::of(&view, local.clock.now());
        let mut lines = Vec::new();
        for (record, with) in all {
            let Some(found) = reading.named(&record)? else { continue };
            witness.found(&found);
            let standing = reading.standing(&found).0.to_string();
            lines.push(ShareLine { record: record.to_string(), about: title_of(&found.record), with, standing });
        }
        Ok(Json(lines))
    })
    .await
}

pub(super) async fn share(
    State(local): State<Local>,
    Extension(operator): Extension<Operator>,
    Json(parameters): Json<ShareParameters>,
) -> Result<Acted<ShareReply>, ApiError> {
    let (here, asked, view) = (local.clone(), parameters.clone(), local.view(&operator));
    let (records, reaches) = blocking(move || {
        let now = here.clock.now();
        let mut reading = Reading::of(&view, now);
        let (mut records, mut reaches) = (BTreeSet::new(), BTreeSet::new());
        for text in &asked.records {
            let reference: RecordRef = text.parse().map_err(ApiError::bad)?;
            let found = reading.named(&reference)?.ok_or_else(|| ApiError::nothing(format!("there is no record `{reference}` here")))?;
            if !asked.undo {
                reaches.extend(may_pass_on(&here, &reading, &found, &asked.with, now)?);
            }
            together(&here, &mut reading, &found, &mut records)?;
        }
        Ok((records, reaches))
    })
    .await?;
    if records.len() > RECORDS_MAX || local.ledger.with_shares(|shares| shares.len()) + records.len() > SHARES_MAX {
        return Err(ApiError::bad(format!("at most {RECORDS_MAX} records at a time, and {SHARES_MAX} in all, are passed on")));
    }
    let entry = ShareEntry {
        at: local.clock.now(),
        by: operator.signature(),
        records: records.iter().map(ToString::to_string).collect(),
        with: parameters.with.clone(),
        ends: parameters.undo,
    };
    at_door(&local, |reply| Request::Share { entry: Box::new(entry), reply }).await?;
    let word = if parameters.undo { "passes on no more" } else { "passes on" };
    let deed = format!("{word} {} with {}", parameters.records.join(", "), parameters.with);
    let reaches = reaches.iter().map(ToString::to_string).collect();
    Ok(Acted::deed(deed, ShareReply { records: records.len(), with: parameters.with, reaches }))
}

/// Whether a record may be passed on to this audience: what its author permits, and whom it then reaches.
fn may_pass_on(local: &Local, reading: &Reading<'_>, found: &Found, with: &str, now: Timestamp) -> Result<Vec<MemberId>, ApiError> {
    let (head, reference) = (&found.batch.head, &found.reference);
    let (standing, why) = reading.standing(found);
    if standing != Standing::Accepted {
        return Err(ApiError::forbidden(format!("{reference} is {standing}: {why}")));
    }
    let Some(narrowed) = head.onward_only(with) else {
        let text = match head.audience.onward.as_slice() {
            [] => format!("{} lets nobody pass {reference} on", head.member),
            some => format!("{} lets {reference} be passed on to {}, not to {with}", head.member, some.join(", ")),
        };
        return Err(ApiError::forbidden(text));
    };
    if head.tlp > ONWARD_TLP_MAX {
        return Err(ApiError::forbidden(format!("{reference} is {}, which is never passed on", head.tlp.label())));
    }
    let roster = std::sync::Arc::clone(&local.current.get().roster);
    let members = roster.charter().charter().members.iter().map(|member| &member.id);
    let new = members.filter(|id| {
        **id != local.identity.member
            && roster.names(with, id, false)
            && may_send(&roster, head, id, now, Way::Published).is_err()
            && may_send(&roster, &narrowed, id, now, Way::Onward).is_ok()
    });
    Ok(new.cloned().collect())
}

/// What goes together: an indicator with its report, a report with its indicators that are here.
fn together(local: &Local, reading: &mut Reading<'_>, found: &Found, into: &mut BTreeSet<RecordRef>) -> Result<(), ApiError> {
    into.insert(found.reference.clone());
    into.extend(found.report.clone());
    if !matches!(found.record, Record::Report(_)) {
        return Ok(());
    }
    let (feed, first) = (&found.reference.feed, found.reference.seq);
    let spans = local.ledger.spans(feed);
    for seq in spans.iter().skip_while(|seq| *seq < first).take_while(|seq| *seq < first + REPORT_BATCHES_MAX) {
        let Some(number) = local.ledger.batch_number(feed, seq)? else { continue };
        let Some(batch) = reading.batch(number)? else { continue };
        for index in 0..batch.places() {
            if let Some(Record::Indicator(Indicator { report: Some(report), .. })) = batch.record(index)
                && report.resolve(feed, seq).as_ref() == Some(&found.reference)
            {
                into.insert(batch.reference(index));
            }
        }
    }
    Ok(())
}
