//! What a new charter changes, in words, for the steward who is about to sign it.

use super::{Agreement, Charter, Circle, History, Member, Past, Quota};
use crate::{envelope::PublicKey, record::Timestamp};

/// Every change from `before` (nothing, for the first charter) to `after`, one sentence each, the gravest first, with who gains or loses what.
/// `past` is what is known of former members and circles.
pub fn changes(before: Option<&Charter>, after: &Charter, past: &Past) -> Vec<String> {
    let Some(before) = before else { return founding(after) };
    let mut out = Vec::new();
    if let Some(chosen) = after.resolves {
        out.push(format!("ends a dispute between two charters of version {}: {chosen} stands", before.version));
    }
    stewards(before, after, &mut out);
    compare(
        (&before.freshness, &after.freshness),
        |one| one.key.id(),
        |one| format!("freshness key {} of `{}`", short(&one.key), one.member),
        |_, _| None,
        &mut out,
    );
    compare((&before.members, &after.members), |one| one.id.clone(), named_member, member_change, &mut out);
    for gone in before.members.iter().filter(|one| !after.members.iter().any(|other| other.id == one.id)) {
        out.push(format!("`{}` loses all access, and its withdrawals are not accepted any more; `revoked` keeps those", gone.id));
    }
    let is_new = |one: &&Member| !before.members.iter().any(|old| old.id == one.id);
    for back in after.members.iter().filter(is_new).filter(|one| past.was_member(&one.id)) {
        out.push(format!("`{}` was a member before: whoever holds this root key speaks for that name", back.id));
    }
    for circle in &after.circles {
        circle_change(before.circles.iter().find(|one| one.name == circle.name), circle, past, &mut out);
    }
    for gone in before.circles.iter().filter(|one| !after.circles.iter().any(|other| other.name == one.name)) {
        let members = members_now(gone).collect::<Vec<_>>().join(", ");
        out.push(format!("removes circle `{}`, generation {}: no new record reaches {members} through it", gone.name, gone.generation));
    }
    compare((&before.agreements, &after.agreements), |one| one.id.clone(), named_agreement, agreement_change, &mut out);
    if before.quota != after.quota {
        out.push(format!("the quota of members without their own becomes {}", quota(&after.quota)));
    }
    if before.floor != after.floor {
        out.push(format!("heads below format {} are refused from {} on", after.floor.format, after.floor.from));
    }
    if before.name != after.name {
        out.push(format!("renames the federation from `{}` to `{}`", before.name, after.name));
    }
    out.push(format!("is valid until {} (version {} was until {})", day(after.expires), before.version, day(before.expires)));
    out
}

fn founding(charter: &Charter) -> Vec<String> {
    let mut out = vec![format!("founds the federation `{}`", charter.name)];
    out.push(format!("{} of {} stewards sign: {}", charter.threshold, charter.stewards.len(), steward_names(charter)));
    out.extend(charter.members.iter().map(|one| format!("adds {}", named_member(one))));
    out.extend(charter.freshness.iter().map(|one| format!("adds freshness key {} of `{}`", short(&one.key), one.member)));
    charter.circles.iter().for_each(|one| circle_change(None, one, &Past::default(), &mut out));
    out.extend(charter.agreements.iter().map(|one| format!("adds {}", named_agreement(one))));
    out.push(format!("is valid until {}", day(charter.expires)));
    out
}

fn steward_names(charter: &Charter) -> String {
    charter.stewards.iter().map(|one| one.name.as_str()).collect::<Vec<_>>().join(", ")
}

fn stewards(before: &Charter, after: &Charter, out: &mut Vec<String>) {
    let named = |one: &super::Steward| format!("steward `{}`, key {}", one.name, short(&one.key));
    let replaced = |one: &super::Steward, other: &super::Steward| {
        (one.key != other.key).then(|| format!("key {} becomes {}", short(&one.key), short(&other.key)))
    };
    compare((&before.stewards, &after.stewards), |one| one.name.clone(), named, |one, other| replaced(one, other), out);
    let (old, new) = ((before.threshold, before.stewards.len()), (after.threshold, after.stewards.len()));
    if old != new {
        out.push(format!("{} of {} stewards sign from now on, {} of {} did", new.0, new.1, old.0, old.1));
    }
}

/// Says what came, went and changed in a list whose entries have a key.
fn compare<T, K: PartialEq>(
    (before, after): (&[T], &[T]),
    key: impl Fn(&T) -> K,
    named: impl Fn(&T) -> String,
    change: impl Fn(&T, &T) -> Option<String>,
    out: &mut Vec<String>,
) {
    for one in after {
        match before.iter().find(|old| key(old) == key(one)) {
            None => out.push(format!("adds {}", named(one))),
            Some(old) => out.extend(change(old, one).map(|change| format!("{}: {change}", named(one)))),
        }
    }
    let gone = before.iter().filter(|old| !after.iter().any(|one| key(one) == key(old)));
    out.extend(gone.map(|old| format!("removes {}", named(old))));
}

fn named_member(member: &Member) -> String {
    let country = member.country.as_ref().map(|code| format!(" {code}")).unwrap_or_default();
    format!("member `{}` ({}, {}{country}, root key {})", member.id, member.name, member.kind, short(&member.root))
}

fn member_change(before: &Member, after: &Member) -> Option<String> {
    let mut parts = Vec::new();
    if before.root != after.root {
        parts.push(format!(
            "ROOT KEY REPLACED, it was {}: its card loses effect, and its nodes cannot connect or publish until a card signed with the new key arrives",
            short(&before.root)
        ));
    }
    match (before.revoked, after.revoked) {
        (old, Some(from)) if old != Some(from) => parts.push(format!("REVOKED from {from} on")),
        (Some(_), None) => parts.push("no longer revoked".to_owned()),
        _ => (),
    }
    if (before.kind, &before.country, &before.name) != (after.kind, &after.country, &after.name) {
        parts.push(format!("was {}", named_member(before)));
    }
    if before.quota != after.quota {
        parts.push(after.quota.as_ref().map_or("the common quota".to_owned(), |one| format!("quota {}", quota(one))));
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

fn members_now(circle: &Circle) -> impl Iterator<Item = String> {
    circle.members.iter().filter(|one| one.until.is_none()).map(|one| format!("`{}`", one.id))
}

fn circle_change(before: Option<&Circle>, after: &Circle, past: &Past, out: &mut Vec<String>) {
    let in_it = |circle: &Circle, id| circle.members.iter().any(|one| one.id == id && one.until.is_none());
    let ids = |from: &Circle, other: Option<&Circle>| {
        let missing = from.members.iter().filter(|one| one.until.is_none() && !other.is_some_and(|other| in_it(other, one.id.clone())));
        missing.map(|one| format!("`{}`", one.id)).collect::<Vec<_>>()
    };
    let mut parts = Vec::new();
    let joins = ids(after, before);
    let leaves = before.map(|before| ids(before, Some(after))).unwrap_or_default();
    if !joins.is_empty() {
        let reads = if after.history == History::Open { " (who gain access to all its earlier records)" } else { "" };
        parts.push(format!("gains {}{reads}", joins.join(", ")));
    }
    if !leaves.is_empty() {
        parts.push(format!("loses {}", leaves.join(", ")));
    }
    if before.is_some_and(|before| before.history != after.history) {
        parts.push(match after.history {
            History::Open => {
                format!("OPENS ITS HISTORY: {} gain access to all its earlier records", members_now(after).collect::<Vec<_>>().join(", "))
            }
            History::Closed => "closes its history to newcomers".to_owned(),
        });
    }
    match before {
        None => {
            let again = past.generation(&after.name).map_or(String::new(), |last| {
                let reads = if after.history == History::Open { "CAN" } else { "cannot" };
                format!("; a circle of this name was removed at generation {last}: the members {reads} read its records")
            });
            let members = joins.join(", ");
            out.push(format!("adds circle `{}` with {members}, generation {}{again}", after.name, after.generation));
        }
        Some(_) if parts.is_empty() => (),
        Some(_) => out.push(format!("circle `{}` {}, generation {}", after.name, parts.join(", "), after.generation)),
    }
}

fn named_agreement(one: &Agreement) -> String {
    let purge = one.purge_after_days.map(|days| format!(" within {days} days")).unwrap_or_default();
    format!(
        "agreement `{}` of `{}` ({} to {}, up to {}, then {}{purge})",
        one.id,
        one.member,
        day(one.from),
        day(one.until),
        one.tlp_max.label(),
        one.after_end
    )
}

fn agreement_change(before: &Agreement, after: &Agreement) -> Option<String> {
    if before == after {
        return None;
    }
    let mut parts = Vec::new();
    if before.until != after.until {
        let word = if after.until > before.until { "extended" } else { "SHORTENED" };
        parts.push(format!("{word} from {} to {}", day(before.until), day(after.until)));
    }
    if let Some(from) = after.revoked.filter(|_| before.revoked != after.revoked) {
        parts.push(format!("REVOKED from {from} on"));
    }
    let rest = |one: &Agreement| Agreement { until: Timestamp::default(), revoked: None, ..one.clone() };
    if rest(before) != rest(after) {
        let list = |one: &Agreement| one.audiences.join(", ");
        let kinds = |one: &Agreement| one.kinds.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        parts.push(format!("its terms were {}, for {} with {}", named_agreement(before), list(before), kinds(before)));
        parts.push(format!("and are for {} with {}", list(after), kinds(after)));
    }
    Some(parts.join("; "))
}

fn quota(quota: &Quota) -> String {
    format!(
        "{} records a second (bursts of {}), {} records and {} bytes a day",
        quota.records_per_second, quota.burst_records, quota.records_per_day, quota.bytes_per_day
    )
}

/// Enough of a key to compare by telephone.
fn short(key: &PublicKey) -> String {
    key.id().to_string()
}

fn day(moment: Timestamp) -> String {
    moment.to_string().get(..10).unwrap_or_default().to_owned()
}
