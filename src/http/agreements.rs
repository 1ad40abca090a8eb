//! Agreements at the local window: where each stands, what was purged because of it.

use super::{Local, contract::Json};
use crate::{
    charter::{AfterEnd, AgreementLine, Stage},
    ledger::Aside,
};
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One agreement, for a person.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct AgreementReply {
    pub id: String,
    pub member: String,
    /// `coming`, `running`, `continued`, `run-off` or `revoked`.
    pub stage: String,
    pub from: String,
    pub until: String,
    pub days_left: Option<u64>,
    /// The narrowest of 120, 60, 30 and 7 days that has been passed.
    pub warned: Option<u64>,
    pub tlp_max: String,
    pub audiences: Vec<String>,
    pub kinds: Vec<String>,
    pub purpose: String,
    pub after_end: String,
    /// From when purged records are rewritten out.
    pub erase_from: Option<String>,
    /// Feeds here that do not count any more because of it, and of those, feeds whose records are gone.
    pub purged_feeds: usize,
    pub erased_feeds: usize,
    pub purged_records: u64,
}

pub(super) async fn agreements(State(local): State<Local>) -> Json<Vec<AgreementReply>> {
    let intake = local.current.get();
    let now = local.clock.now();
    let feeds = local.ledger.feeds();
    let reply = |line: AgreementLine<'_>| {
        let AgreementLine { agreement: one, stage, erase_from } = line;
        let (word, days_left, warned) = match stage {
            Stage::Coming => ("coming", None, None),
            Stage::Running { days_left, warned } => ("running", Some(days_left), warned),
            Stage::Continued => ("continued", None, None),
            Stage::RunOff => ("run-off", None, None),
            Stage::Revoked => ("revoked", None, None),
        };
        let because = feeds.iter().filter(|(feed, state)| {
            matches!(state.aside, Some(Aside::Purged | Aside::Erased))
                && intake.roster.to_purge(&feed.member, &local.identity.member, now).is_some_and(|found| found.id == one.id)
        });
        let purged: Vec<_> = because.map(|(_, state)| (state.aside == Some(Aside::Erased), state.counts.total())).collect();
        AgreementReply {
            id: one.id.clone(),
            member: one.member.to_string(),
            stage: word.to_owned(),
            from: one.from.to_string(),
            until: one.end().to_string(),
            days_left,
            warned,
            tlp_max: one.tlp_max.label(),
            audiences: one.audiences.clone(),
            kinds: one.kinds.iter().map(ToString::to_string).collect(),
            purpose: one.purpose.clone(),
            after_end: one.after_end.to_string(),
            erase_from: erase_from.filter(|_| one.after_end == AfterEnd::Purge).map(|at| at.to_string()),
            purged_feeds: purged.len(),
            erased_feeds: purged.iter().filter(|(erased, _)| *erased).count(),
            purged_records: purged.iter().map(|(_, records)| records).sum(),
        }
    };
    Json(intake.roster.agreement_lines(now).into_iter().map(reply).collect())
}
