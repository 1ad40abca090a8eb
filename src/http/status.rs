//! How this node does: what it holds, whom it reaches, and what a person must mend.

use super::{Local, Operator, contract::Json, pull, queue::queued};
use crate::{
    charter::{AgreementLine, Freshness, Stage},
    ledger::{Counts, DueLine, Recovery, SeenFeed},
    node::{NetworkStatus, enforcer::OutletLine, own_heads::Waiting},
};
use axum::{Extension, extract::State};
use schemars::JsonSchema;
use serde::Serialize;

/// What `status` says.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Status {
    pub member: String,
    pub node: String,
    pub federation: String,
    pub federation_name: String,
    pub running: bool,
    /// Where the window listens beside its socket.
    pub window: Vec<String>,
    pub since: String,
    pub charter_version: u64,
    pub charter_expires: String,
    /// `current`, or `stale since ...`.
    pub charter: String,
    pub members: usize,
    pub cards: usize,
    pub policy: String,
    /// What a person must mend in the files of policies and lists.
    pub alarms: Vec<String>,
    pub lists: Vec<String>,
    pub outlets: Vec<OutletLine>,

    pub counts: Counts,
    pub records: u64,
    pub feeds: Vec<FeedLine>,
    pub recovery: Recovery,
    pub network: NetworkStatus,
    /// Agreements that end within 120 days.
    pub ending: Vec<String>,
    /// What our lane waits for before it publishes, if it does.
    pub lane_waits: Option<Waiting>,
    /// Publications and withdrawals that wait for it.
    pub queued: usize,
    /// The reason to erase nothing by age yet, if anything has expired.
    pub erasure_waits: Option<String>,
}

/// One feed in `status`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct FeedLine {
    pub feed: String,
    pub last: u64,
    pub head: String,
    pub time: String,
    pub quarantined: bool,
    #[serde(flatten)]
    pub counts: Counts,
}

pub(super) async fn status(State(local): State<Local>, Extension(operator): Extension<Operator>) -> Json<Status> {
    let operates = operator.operates();
    let intake = local.current.get();
    let now = local.clock.now();
    let charter = intake.roster.charter().charter();
    let feeds = local.view(&operator).feeds();
    let mut counts = Counts::default();
    feeds.iter().for_each(|seen| counts.add(&seen.counts));
    let line = |seen: SeenFeed| FeedLine {
        feed: seen.feed.to_string(),
        last: seen.last,
        head: seen.id.to_string(),
        time: seen.time.to_string(),
        quarantined: seen.aside.is_some(),
        counts: seen.counts,
    };
    // How the machine is tells of records that the caller may not see.
    let machine = |alarms: Vec<String>| if operates { alarms } else { Vec::new() };
    Json(Status {
        member: local.identity.member.to_string(),
        node: local.identity.node_name.clone(),
        federation: intake.roster.federation().to_string(),
        federation_name: charter.name.clone(),
        running: local.running,
        window: local.addresses.get().cloned().unwrap_or_default(),
        since: local.started.to_string(),
        charter_version: charter.version,
        charter_expires: charter.expires.to_string(),
        charter: match intake.roster.freshness(now) {
            Freshness::Current => "current".to_owned(),
            Freshness::Stale { since } => format!("stale since {since}: new content is held"),
        },
        members: charter.members.len(),
        cards: intake.roster.cards().count(),
        policy: intake.policy.hash().to_string(),
        alarms: machine(alarms(&local)),
        outlets: super::enforce::outlets_for(&local, &operator),
        lists: intake.lists.all().iter().map(|list| format!("{} ({})", list.name, list.role)).collect(),
        records: counts.total(),
        counts,
        feeds: feeds.into_iter().map(line).collect(),
        recovery: if operates { local.recovery } else { Recovery::default() },
        network: if operates { local.watch.get() } else { NetworkStatus::default() },
        ending: intake.roster.agreement_lines(now).iter().filter_map(ending).collect(),
        lane_waits: local.own.waiting().filter(|_| operates),
        queued: if operates { queued(&local.data) } else { 0 },
        erasure_waits: local.upkeep.waits().filter(|_| operates),
    })
}

/// What a person has to mend or to decide.
pub(super) fn alarms(local: &Local) -> Vec<String> {
    let review = |line: &DueLine| format!("{} records are due for review by retention `{}`: huecry retention", line.records, line.rule);
    let mut alarms = local.current.alarms();
    alarms.extend(local.current.get().roster.doubts().iter().cloned());
    alarms.extend(local.current.set_aside(local.clock.moment().latest));
    alarms.extend(local.clock.doubt().map(|doubt| doubt.to_string()));
    alarms.extend(local.watch.get().cloned.into_iter().map(|node| {
        format!(
            "two machines use the node key of {node}: it was copied or stolen. Its member needs a new card: manual, \"A node is stolen\""
        )
    }));
    alarms.extend(local.enforcer.mass_withdrawals());
    alarms.extend(local.watch.get().egress_alarm);
    alarms.extend(local.upkeep.due().iter().map(review));
    alarms.extend(local.ledger.damage().into_iter().map(|what| format!("{what}: stop the node and run `huecry ledger repair`")));
    alarms.extend(local.current.room().low());
    alarms.extend(pull::alarms(local));
    alarms.extend(local.undelivered.alarms());
    alarms
}

/// The sentence about an agreement that comes to its end.
pub(super) fn ending(line: &AgreementLine<'_>) -> Option<String> {
    let Stage::Running { days_left, warned: Some(_) } = line.stage else { return None };
    Some(format!("agreement `{}` of {} ends in {days_left} days, on {}", line.agreement.id, line.agreement.member, line.agreement.end()))
}
