//! Prometheus metrics, computed for each request from what is known already. Figures of the machine are whole; records and outlets are
//! counted up to the caller's clearance.

use super::{Local, Operator, enforce::outlets_for};
use crate::{
    charter::{Freshness, Stage},
    ledger::SeenFeed,
};
use axum::{Extension, extract::State, http::header, response::IntoResponse};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfAgreement {
    agreement: String,
    member: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Labelled {
    what: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfOutlet {
    outlet: String,
    stage: String,
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) async fn metrics(State(local): State<Local>, Extension(operator): Extension<Operator>) -> impl IntoResponse {
    let mut registry = Registry::with_prefix("huecry");
    let (intake, now) = (local.current.get(), local.clock.now());
    let roster = &intake.roster;
    let gauge = |registry: &mut Registry, name: &str, help: &str, value: i64| {
        let gauge = Gauge::<i64>::default();
        gauge.set(value);
        registry.register(name, help, gauge);
    };
    let charter = roster.charter().charter();
    gauge(&mut registry, "charter_version", "Version of the charter in force", number(charter.version));
    gauge(&mut registry, "charter_seconds_left", "Until the charter ends", number(charter.expires.ms_since(now) / 1_000));
    gauge(
        &mut registry,
        "charter_current",
        "1 while the charter is known to be current",
        (roster.freshness(now) == Freshness::Current).into(),
    );
    gauge(&mut registry, "clock_doubted", "1 while something contradicts the clock of this machine", local.clock.doubt().is_some().into());
    gauge(&mut registry, "charter_disputed", "1 while two valid charters of one version exist", roster.rival().is_some().into());
    gauge(
        &mut registry,
        "lane_waits",
        "1 while own publications wait for others to tell our last head",
        local.own.waiting().is_some().into(),
    );
    gauge(&mut registry, "queued", "Publications and withdrawals that wait", super::queued(&local.data).try_into().unwrap_or(i64::MAX));
    gauge(&mut registry, "peers", "Connected nodes", local.watch.get().peers.len().try_into().unwrap_or(i64::MAX));
    let network = local.watch.get();
    gauge(
        &mut registry,
        "egress_refused",
        "Messages that the egress guard stopped; anything but 0 is a fault",
        number(network.egress_refused),
    );
    gauge(
        &mut registry,
        "batches_behind",
        "Batches that connected nodes have and this one lacks",
        number(network.behind.values().copied().fold(0, u64::saturating_add)),
    );
    let feeds = local.view(&operator).feeds();
    let withheld = |seen: &SeenFeed| local.ledger.feed(&seen.feed).map_or(0, |state| state.withheld);
    let withheld = feeds.iter().filter(|seen| seen.whole).map(withheld).sum();
    gauge(&mut registry, "records_withheld", "Records withheld from this node in batches that are here", number(withheld));
    let left = Family::<OfAgreement, Gauge>::default();
    let warned = Family::<OfAgreement, Gauge>::default();
    for line in roster.agreement_lines(now) {
        let labels = OfAgreement { agreement: line.agreement.id.clone(), member: line.agreement.member.to_string() };
        left.get_or_create(&labels).set(number(line.agreement.end().ms_since(now) / 1_000));
        let warning = matches!(line.stage, Stage::Running { warned: Some(_), .. });
        warned.get_or_create(&labels).set(warning.into());
    }
    registry.register("agreement_seconds_left", "Until the agreement ends", left);
    registry.register("agreement_warned", "1 when the agreement ends within 120 days and nothing follows it", warned);
    let records = Family::<Labelled, Gauge>::default();
    let mut counts = crate::ledger::Counts::default();
    feeds.iter().for_each(|seen| counts.add(&seen.counts));
    for (what, value) in [("accepted", counts.accepted), ("held", counts.held), ("refused", counts.refused), ("waiting", counts.waiting)] {
        records.get_or_create(&Labelled { what: what.to_owned() }).set(number(value));
    }
    registry.register("records", "Records by verdict", records);
    gauge(&mut registry, "policy_alarms", "Files of policies and lists that do not read", number(local.current.alarms().len() as u64));
    let lines = Family::<OfOutlet, Gauge>::default();
    let stopped = Family::<Labelled, Gauge>::default();
    for outlet in outlets_for(&local, &operator) {
        let sum = |of: fn(&crate::enforce::StageCounts) -> usize| outlet.origins.iter().map(|one| of(&one.counts) as u64).sum();
        let stages: [(&str, u64); 4] = [
            ("exported", outlet.lines as u64),
            ("enforced", sum(|counts| counts.enforced)),
            ("staged", sum(|counts| counts.staged)),
            ("monitored", sum(|counts| counts.monitored)),
        ];
        for (stage, value) in stages {
            lines.get_or_create(&OfOutlet { outlet: outlet.name.clone(), stage: stage.to_owned() }).set(number(value));
        }
        stopped.get_or_create(&Labelled { what: outlet.name.clone() }).set(outlet.stopped.is_some().into());
    }
    registry.register("outlet_lines", "Lines of an outlet by stage; exported is what stands in its file", lines);
    registry.register("outlet_stopped", "1 while an operator has stopped the outlet", stopped);
    let mut text = String::new();
    // INVARIANT: writing to a String cannot fail.
    let _infallible = encode(&mut text, &registry);
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
}
