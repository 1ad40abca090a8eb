//! Sending: who may receive a batch, decided in one place, at the moment of sending.
//!
//! Pure; every path that gives bytes of a record to another node asks here. In doubt the answer is no. What leaves is
//! looked at once more by [`super::releases`], which is written apart from this.

use crate::{
    charter::{MemberKind, Roster, Standing},
    envelope::{Class, Head, Readers},
    record::{MemberId, Timestamp, Tlp},
};

/// Why a batch is not sent to someone. What the other side hears is the same for all: it does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
pub enum Withheld {
    #[error("the reader is no member")]
    Stranger,
    #[error("the reader's membership is revoked")]
    Revoked,
    #[error("the reader's agreement has ended")]
    ReaderEnded,
    #[error("the author's agreement has ended")]
    AuthorEnded,
    #[error("the reader is not in the audience")]
    NotAddressed,
    #[error("its TLP marking may not travel to this audience")]
    Marking,
    #[error("the reader's agreement does not cover it")]
    Terms,
}

/// In whose name a batch is given to a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Way {
    /// As its author published it.
    Published,
    /// Because one of its readers passes it on, as far as its author lets them.
    Onward,
}

/// The highest marking that is ever passed on beyond its audience. Source: FIRST TLP 2.0; AMBER+STRICT stays with the
/// recipient's own organisation, RED with its persons.
pub const ONWARD_TLP_MAX: Tlp = Tlp::Amber;

/// Whether a batch with this head may be sent to `reader` at `now`: design sections 4 and 6.
///
/// Removals pass to everyone who may ever have had what they remove, whatever agreements and generations say; a revoked
/// member gets nothing.
pub fn may_send(roster: &Roster, head: &Head, reader: &MemberId, now: Timestamp, way: Way) -> Result<(), Withheld> {
    let member = roster.member(reader).ok_or(Withheld::Stranger)?;
    let standing = roster.standing(reader, now);
    if standing == Standing::Revoked {
        return Err(Withheld::Revoked);
    }
    if *reader == head.member {
        return Ok(());
    }
    let removal = head.class == Class::Removal;
    let addressed = match removal {
        true => roster.addressed_once(&head.audience, &head.member, reader),
        false => roster.addresses(&head.audience, &head.member, reader),
    };
    let onward: Vec<&str> = match way {
        Way::Published => Vec::new(),
        Way::Onward => head.audience.onward.iter().map(String::as_str).filter(|name| roster.names(name, reader, removal)).collect(),
    };
    if !addressed && onward.is_empty() {
        return Err(Withheld::NotAddressed);
    }
    if removal {
        return Ok(());
    }
    let as_published = addressed && head.audience.permits(head.tlp);
    let passed_on = |name: &&&str| head.tlp <= ONWARD_TLP_MAX && (**name != "federation" || head.tlp <= Tlp::Green);
    if !as_published && !onward.iter().any(|name| passed_on(&name)) {
        return Err(Withheld::Marking);
    }
    if standing != Standing::Good {
        return Err(Withheld::ReaderEnded);
    }
    if roster.standing(&head.member, now) != Standing::Good {
        return Err(Withheld::AuthorEnded);
    }
    let covered =
        |name: &str| roster.agreements(reader, now).any(|one| one.tlp_max >= head.tlp && one.audiences.iter().any(|it| it == name));
    match member.kind {
        MemberKind::Country | MemberKind::Coordinator => Ok(()),
        MemberKind::Vendor | MemberKind::Observer => {
            let by_audience = as_published && roster.terms_cover(reader, head, now);
            let by_name = |name: &&str| covered(if name.starts_with("member:") { "named" } else { name });
            let by_onward = onward.iter().filter(passed_on).any(by_name);
            if by_audience || by_onward { Ok(()) } else { Err(Withheld::Terms) }
        }
    }
}

/// Whether heads of this audience may be gossiped: gossipsub answers anyone, so only what the whole federation may read.
pub fn may_gossip(head: &Head) -> bool {
    head.audience.readers == Readers::Federation && head.tlp <= Tlp::Green
}
