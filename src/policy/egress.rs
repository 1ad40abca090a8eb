//! Egress: the last look at what leaves, written apart from [`super::may_send`] on purpose.
//!
//! It reads the charter itself and none of the roster's answers, and turns the question round: it collects every way in
//! which the charter lets the reader in, and asks whether one of them is wide enough. Two such different ways to be wrong
//! seldom agree; where they do not, nothing is sent and a person is told (`node::egress`).

use crate::{
    charter::{Agreement, BUILT_IN_CIRCLES, Charter, History, Member, MemberKind},
    envelope::{Class, Head, Readers},
    record::{MemberId, Timestamp, Tlp},
};

/// One way in: what an agreement calls it, and the highest marking that goes through it.
struct Entrance {
    name: String,
    tlp_max: Tlp,
}

/// Whether what stands under `head` may leave for `reader` at `now`; `onward` if a reader passes it on.
pub fn releases(charter: &Charter, head: &Head, reader: &MemberId, now: Timestamp, onward: bool) -> bool {
    let find = |id: &MemberId| charter.members.iter().find(|member| member.id == *id);
    let Some(member) = find(reader) else { return false };
    if member.revoked.is_some_and(|from| now >= from) {
        return false;
    }
    if head.member == *reader {
        return true;
    }
    let removal = head.class == Class::Removal;
    let mut entrances: Vec<Entrance> = published(charter, head, member, removal).into_iter().collect();
    if onward {
        entrances.extend(head.audience.onward.iter().filter_map(|name| passed_on(charter, name, member, removal)));
    }
    if removal {
        return !entrances.is_empty();
    }
    let author_takes_part = find(&head.member).is_some_and(|author| takes_part(charter, author, now));
    let wide_enough = |one: &Entrance| {
        let covers = |terms: &Agreement| runs(terms, now) && terms.tlp_max >= head.tlp && terms.audiences.contains(&one.name);
        let unconditional = !needs_terms(member);
        head.tlp <= one.tlp_max && (unconditional || charter.agreements.iter().any(|terms| terms.member == *reader && covers(terms)))
    };
    author_takes_part && takes_part(charter, member, now) && entrances.iter().any(wide_enough)
}

fn needs_terms(member: &Member) -> bool {
    matches!(member.kind, MemberKind::Vendor | MemberKind::Observer)
}

fn runs(terms: &Agreement, now: Timestamp) -> bool {
    (terms.from..terms.until).contains(&now) && terms.revoked.is_none_or(|end| now < end)
}

fn takes_part(charter: &Charter, member: &Member, now: Timestamp) -> bool {
    let revoked = member.revoked.is_some_and(|from| now >= from);
    !revoked && (!needs_terms(member) || charter.agreements.iter().any(|terms| terms.member == member.id && runs(terms, now)))
}

/// The way in that the head's own audience opens.
fn published(charter: &Charter, head: &Head, reader: &Member, removal: bool) -> Option<Entrance> {
    let (name, tlp_max) = match &head.audience.readers {
        Readers::Federation => ("federation".to_owned(), Tlp::Green),
        Readers::Named(members) => {
            members.iter().find(|one| **one == reader.id)?;
            ("named".to_owned(), Tlp::Red)
        }
        Readers::Circle { name, generation, excluded } => {
            let inside = in_circle(charter, name.as_str(), reader, |since, until, open| {
                (since <= *generation || open) && (removal || until.is_none_or(|until| *generation <= until))
            });
            let known = known_generation(charter, name.as_str()).is_none_or(|newest| *generation <= newest);
            if !inside || !known || excluded.contains(&reader.id) {
                return None;
            }
            (format!("circle:{name}"), Tlp::AmberStrict)
        }
    };
    Some(Entrance { name, tlp_max })
}

/// The way in that one of the author's further audiences opens.
fn passed_on(charter: &Charter, name: &str, reader: &Member, removal: bool) -> Option<Entrance> {
    if name == "federation" {
        return Some(Entrance { name: name.to_owned(), tlp_max: Tlp::Green });
    }
    if let Some(circle) = name.strip_prefix("circle:") {
        // Who is in it today; for a removal, who ever was.
        let inside = in_circle(charter, circle, reader, |_, until, _| removal || until.is_none());
        return inside.then(|| Entrance { name: name.to_owned(), tlp_max: Tlp::Amber });
    }
    let named = name.strip_prefix("member:") == Some(reader.id.as_str());
    named.then(|| Entrance { name: "named".to_owned(), tlp_max: Tlp::Amber })
}

/// Whether a built-in circle takes the reader's kind, or `fits` its entry (since, until, open history) in one of the charter.
fn in_circle(charter: &Charter, name: &str, reader: &Member, fits: impl Fn(u64, Option<u64>, bool) -> bool) -> bool {
    if let Some((_, kind)) = BUILT_IN_CIRCLES.iter().find(|(built_in, _)| *built_in == name) {
        return *kind == reader.kind;
    }
    charter.circles.iter().filter(|circle| circle.name.as_str() == name).any(|circle| {
        let open = circle.history == History::Open;
        circle.members.iter().any(|one| one.id == reader.id && fits(one.since, one.until, open))
    })
}

/// The newest generation of a circle of the charter; built-in ones have none.
fn known_generation(charter: &Charter, name: &str) -> Option<u64> {
    charter.circles.iter().find(|circle| circle.name.as_str() == name).map(|circle| circle.generation)
}
