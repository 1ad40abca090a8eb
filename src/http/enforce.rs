//! Enforcement at the local window: outlets and what stands in them, and the orders of operators.
//!
//! An order is journaled, obeyed, and the exports are written before it is answered. Stopping takes one person; forcing
//! takes the keys of two.

use super::{
    ApiError, Local, Witness, at_door, blocking,
    contract::{Acted, Json, Query},
    operators::{self, Operator},
};
use crate::{
    enforce::{Mode, Order, Scope},
    envelope::Class,
    node::{
        door::{Publication, ReportOf, Request},
        enforcer::{HitLine, OutletLine},
    },
    record::{Observable, Record, RecordRef, Sighted, Sighting, SightingKind, Timestamp, UnknownName},
};
use axum::{Extension, extract::State};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Longest time that an exception may last: beyond it it is a matter for a list or a policy.
const EXCEPTION_DAYS_MAX: u64 = 366;

pub(super) async fn outlets(
    State(local): State<Local>,
    Extension(operator): Extension<Operator>,
) -> Result<Json<Vec<OutletLine>>, ApiError> {
    blocking(move || Ok(Json(outlets_for(&local, &operator)))).await
}

/// The outlets of which the operator may see every line: whether a line is in force depends on all the others.
pub(super) fn outlets_for(local: &Local, operator: &Operator) -> Vec<OutletLine> {
    let mut outlets = local.enforcer.outlets();
    let seen = seen_outlets(local, operator);
    outlets.retain(|outlet| seen.contains(&outlet.name));
    outlets
}

fn seen_outlets(local: &Local, operator: &Operator) -> BTreeSet<String> {
    local.enforcer.specs().into_iter().filter(|outlet| operator.sees_outlet(outlet)).map(|outlet| outlet.name).collect()
}

/// The value in question.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HitsParameters {
    value: String,
}

pub(super) async fn hits(
    State(local): State<Local>,
    Extension(operator): Extension<Operator>,
    Extension(witness): Extension<Witness>,
    Query(parameters): Query<HitsParameters>,
) -> Result<Json<Vec<HitLine>>, ApiError> {
    let value = Observable::recognise(&parameters.value).map_err(ApiError::bad)?;
    blocking(move || Ok(Json(hitting(&local, &value, &operator, &witness)))).await
}

/// The lines that hit a value, at the outlets of [`outlets_for`].
pub(super) fn hitting(local: &Local, value: &Observable, operator: &Operator, witness: &Witness) -> Vec<HitLine> {
    let seen = seen_outlets(local, operator);
    let mut hits = local.enforcer.hitting(value);
    hits.retain(|hit| seen.contains(&hit.outlet));
    hits.iter().for_each(|hit| witness.named(&hit.record));
    hits
}

/// An order as a client gives it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OrderParameters {
    pub order: Order,
    /// With an unblocking: also say in our channel that it is a false positive.
    #[serde(default)]
    pub tell_author: bool,
    /// For what takes two: who signs, and the signature in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

/// What came of an order.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct OrderReply {
    /// False while a second signature is wanted.
    pub done: bool,
    pub signed: Vec<String>,
    /// Lines that were in the exports because of it, for an unblocking.
    pub hits: Vec<HitLine>,
    /// Lines in each outlet's export now.
    pub outlets: Vec<(String, usize)>,
    /// Sightings that tell authors.
    pub told: Vec<String>,
    /// Why an author was not told.
    pub not_told: Vec<String>,
    pub took_ms: u64,
    /// Exports that did not reach their tools: one that could not be written stands as it was.
    #[serde(default)]
    pub failures: Vec<String>,
}

pub(super) async fn order(
    State(local): State<Local>,
    Extension(operator): Extension<Operator>,
    Extension(witness): Extension<Witness>,
    Json(parameters): Json<OrderParameters>,
) -> Result<Acted<OrderReply>, ApiError> {
    let begun = std::time::Instant::now();
    let order = checked(&local, parameters.order.clone())?;
    let mut reply = OrderReply::default();
    let mut by = operator.signature();
    if let Some(text) = two_person_text(&order) {
        reply.signed = second(&local, &text, &parameters)?;
        by = reply.signed.join("+");
        if reply.signed.len() < 2 {
            let deed = format!("asks to {text}, signed by {by}");
            return Ok(Acted::deed(deed, reply));
        }
    }
    if let Order::Unblock { value, reason, .. } = &order {
        let (here, value) = (local.clone(), Observable::recognise(value).map_err(ApiError::bad)?);
        // The order's own reason is the one for which they are shown; and nothing is ordered that cannot be told afterwards.
        let (witness, asker) = (witness.for_reason(reason), operator.clone());
        let hits = move || {
            let hits = hitting(&here, &value, &asker, &witness);
            witness.write()?;
            Ok(hits)
        };
        reply.hits = blocking(hits).await?;
    }
    at_door(&local, |reply| Request::Order { order: order.clone(), by, reply }).await?;
    let here = local.clone();
    reply.outlets = blocking(move || Ok(here.enforcer.write())).await?;
    let (here, asker) = (local.clone(), operator.clone());
    let seen = blocking(move || Ok(outlets_for(&here, &asker))).await?;
    reply.outlets.retain(|(name, _)| seen.iter().any(|outlet| outlet.name == *name));
    reply.failures = seen.into_iter().filter_map(|outlet| outlet.failure).collect();
    reply.took_ms = begun.elapsed().as_millis() as u64;
    reply.done = true;
    if let (true, Order::Unblock { value, reason, .. }) = (parameters.tell_author, &order) {
        tell_authors(&local, value, reason, &mut reply).await?;
    }
    let deed = format!("orders: {}", sentence(&order));
    Ok(Acted::deed(deed, reply))
}

/// An order with canonical values, about things that are there.
fn checked(local: &Local, order: Order) -> Result<Order, ApiError> {
    let now = local.clock.now();
    let value = |text: &str| Observable::recognise(text).map(|value| value.to_string()).map_err(ApiError::bad);
    let ends = |until: Timestamp| match until {
        until if until <= now => Err(ApiError::bad(format!("{until} is over; say until when with --until"))),
        until if until.ms_since(now) > EXCEPTION_DAYS_MAX * crate::record::DAY_MS => {
            Err(ApiError::bad("an exception lasts a year at most; what holds for ever belongs on a list or in a policy"))
        }
        until => Ok(until),
    };
    if matches!(order, Order::Unblock { .. } | Order::Force { .. }) && !local.enforcer.orders().has_room() {
        return Err(ApiError::bad("there are 100,000 exceptions already; what is so common belongs on a list or in a policy"));
    }
    let reasoned = |reason: String| match reason.trim().is_empty() {
        true => Err(ApiError::bad("say why, with --reason TEXT: someone will ask")),
        false => Ok(reason),
    };
    let outlet = |name: &str| {
        let outlets = local.enforcer.outlets();
        let names = || outlets.iter().map(|outlet| outlet.name.as_str());
        if names().any(|one| one == name) { Ok(()) } else { Err(ApiError::bad(UnknownName::new("outlet", name, names()))) }
    };
    match &order {
        Order::Mode { outlet: name, .. }
        | Order::Admit { outlet: name, .. }
        | Order::Rollback { outlet: name, .. }
        | Order::Forward { outlet: name }
        | Order::Keep { outlet: Some(name), .. }
        | Order::Unkeep { outlet: Some(name), .. }
        | Order::Stop { scope: Scope::Outlet(name), .. } => outlet(name)?,
        _ => (),
    }
    Ok(match order {
        Order::Unblock { value: text, reason, until } => {
            Order::Unblock { value: value(&text)?, reason: reasoned(reason)?, until: ends(until)? }
        }
        Order::Force { value: text, reason, until } => {
            Order::Force { value: value(&text)?, reason: reasoned(reason)?, until: ends(until)? }
        }
        Order::Reblock { value: text } => {
            let value = value(&text)?;
            if !local.enforcer.orders().unblocked.contains_key(&value) {
                return Err(ApiError::nothing(format!("`{value}` is not unblocked here")));
            }
            Order::Reblock { value }
        }
        Order::Unforce { value: text } => Order::Unforce { value: value(&text)? },
        Order::Stop { scope, reason } => Order::Stop { scope, reason: reasoned(reason)? },
        Order::Throttle { origin, per_hour, reason } => Order::Throttle { origin, per_hour, reason: reasoned(reason)? },
        Order::Rollback { outlet: name, serial, reason, .. } => {
            let exports = local.enforcer.exports(&name);
            let last = exports.len().saturating_sub(1);
            // Without a serial it is the export before the last.
            let found =
                if serial == 0 { last.checked_sub(1).and_then(|at| exports.get(at)) } else { exports.iter().find(|one| one.0 == serial) };
            let (serial, written) = *found.ok_or_else(|| {
                let known = exports.iter().map(|(serial, _)| serial.to_string()).collect::<Vec<_>>().join(", ");
                ApiError::bad(format!("there is no such export to go back to; since this node started these were written: {known}"))
            })?;
            Order::Rollback { outlet: name, serial, written, reason: reasoned(reason)? }
        }
        Order::Dismiss { sighting, reason } => Order::Dismiss { sighting, reason: reasoned(reason)? },
        Order::Keep { origin, outlet, reason, until } => Order::Keep { origin, outlet, reason: reasoned(reason)?, until: ends(until)? },
        other => other,
    })
}

/// What two people sign, for what takes two.
pub fn two_person_text(order: &Order) -> Option<String> {
    match order {
        Order::Force { value, until, reason } => Some(format!("force {value} until {until}: {reason}")),
        _ => None,
    }
}

/// What an operator signs who forces `value`, which may be spelt in any way.
pub fn force_text(value: &str, until: Timestamp, reason: &str) -> Option<String> {
    let value = Observable::recognise(value).ok()?.to_string();
    two_person_text(&Order::Force { value, until, reason: reason.to_owned() })
}

fn second(local: &Local, text: &str, parameters: &OrderParameters) -> Result<Vec<String>, ApiError> {
    if !local.operators.two_needed() {
        return Err(ApiError::forbidden(
            "forcing a protected value takes two operators with keys of their own; name them under [[operators]] in node.toml",
        ));
    }
    let unsigned = "forcing a protected value takes two operators: run it with --operator NAME --key FILE, each of you";
    operators::signed(local, text, parameters.operator.as_deref(), parameters.signature.as_deref(), unsigned)
}

/// An order in a few words, for the journal and for people.
fn sentence(order: &Order) -> String {
    match order {
        Order::Unblock { value, reason, until } => format!("unblock {value} until {until}: {reason}"),
        Order::Reblock { value } => format!("no longer unblock {value}"),
        Order::Stop { scope, reason } => format!("stop enforcing {scope}: {reason}"),
        Order::Resume { scope } => format!("enforce {scope} again"),
        Order::Throttle { origin, per_hour, reason } => format!("let {origin} add {per_hour} an hour at most: {reason}"),
        Order::Unthrottle { origin } => format!("no longer throttle {origin}"),
        Order::Mode { outlet, origin, mode } => {
            let mode = if *mode == Mode::Enforce { "enforce" } else { "monitor" };
            let of = origin.as_ref().map(|origin| format!(" for {origin}")).unwrap_or_default();
            format!("outlet {outlet}{of}: {mode}")
        }
        Order::Admit { outlet, origin } => format!("enforce at {outlet} what is staged of {origin}"),
        Order::Force { value, reason, until } => format!("force {value} until {until}: {reason}"),
        Order::Unforce { value } => format!("no longer force {value}"),
        Order::Rollback { outlet, serial, reason, .. } => format!("outlet {outlet} goes back to serial {serial}: {reason}"),
        Order::Forward { outlet } => format!("outlet {outlet} goes on"),
        Order::Keep { origin, outlet, reason, until } => {
            let at = outlet.as_ref().map(|outlet| format!(" at outlet {outlet}")).unwrap_or_default();
            format!("keep withdrawn lines of {origin} in force{at} until {until}: {reason}")
        }
        Order::Unkeep { origin, outlet } => {
            let at = outlet.as_ref().map(|outlet| format!(" at outlet {outlet}")).unwrap_or_default();
            format!("no longer keep withdrawn lines of {origin}{at}")
        }
        Order::Dismiss { sighting, reason } => format!("dismiss dispute {sighting}: {reason}"),
    }
}

/// Publishes that `value` is a false positive to those who were told that it is not: in a channel of ours with the same
/// readers, with the marking of what it contradicts.
async fn tell_authors(local: &Local, value: &str, reason: &str, reply: &mut OrderReply) -> Result<(), ApiError> {
    let mut asked = std::collections::BTreeSet::new();
    for hit in reply.hits.clone() {
        let Ok(record) = hit.record.parse::<RecordRef>() else { continue };
        if record.feed.member == local.identity.member {
            reply.not_told.push(format!("{record} is our own; withdraw it with `huecry withdraw {value} --reason wrong`"));
            continue;
        }
        let here = local.clone();
        let place = record.clone();
        let head = blocking(move || Ok(here.ledger.batch_at(&place.feed, place.seq)?.map(|batch| batch.head.clone()))).await?;
        let Some(head) = head else { continue };
        let Some(channel) = super::talk::channel_to_answer(local, &head) else {
            reply.not_told.push(format!(
                "{record}: no channel of ours reaches {} and nobody outside of {}; write to them",
                head.member,
                head.audience.name()
            ));
            continue;
        };
        if !asked.insert((channel.clone(), hit.value.clone())) {
            continue;
        }
        let observable = Observable::recognise(&hit.value).map_err(ApiError::bad)?;
        let sighting = Record::Sighting(Sighting {
            of: Sighted::Value(observable),
            sighting: SightingKind::FalsePositive,
            count: None,
            from: None,
            until: None,
            country: None,
            description: Some(reason.to_owned()),
        });
        let publication = Publication { channel, tlp: head.tlp, class: Class::Removal, report: ReportOf::None, records: vec![sighting] };
        match at_door(local, |reply| Request::Publish(Box::new(publication), reply)).await {
            Ok(done) => reply.told.extend(done.first.map(|sighting| format!("{} by {sighting}", record.feed.member))),
            // The value is unblocked all the same.
            Err(error) => reply.not_told.push(format!("{record}: {error}")),
        }
    }
    Ok(())
}
