//! Sending: who may receive a batch, decided in one place, at the moment of sending.
//!
//! Pure; every path that gives bytes of a record to another node asks here. In doubt the answer is no.

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

/// Whether a batch with this head may be sent to `reader` at `now`: design sections 4 and 6.
///
/// Removals pass to everyone who may ever have had what they remove, whatever agreements say; a revoked member gets
/// nothing.
pub fn may_send(roster: &Roster, head: &Head, reader: &MemberId, now: Timestamp) -> Result<(), Withheld> {
    let member = roster.member(reader).ok_or(Withheld::Stranger)?;
    let standing = roster.standing(reader, now);
    if standing == Standing::Revoked {
        return Err(Withheld::Revoked);
    }
    if !roster.addresses(&head.audience, &head.member, reader) {
        return Err(Withheld::NotAddressed);
    }
    if head.class == Class::Removal || *reader == head.member {
        return Ok(());
    }
    if !head.audience.permits(head.tlp) {
        return Err(Withheld::Marking);
    }
    if standing != Standing::Good {
        return Err(Withheld::ReaderEnded);
    }
    if roster.standing(&head.member, now) != Standing::Good {
        return Err(Withheld::AuthorEnded);
    }
    match member.kind {
        MemberKind::Country | MemberKind::Coordinator => Ok(()),
        MemberKind::Vendor | MemberKind::Observer if roster.terms_cover(reader, head, now) => Ok(()),
        MemberKind::Vendor | MemberKind::Observer => Err(Withheld::Terms),
    }
}

/// Whether heads of this audience may be gossiped: gossipsub answers anyone, so only what the whole federation may read.
pub fn may_gossip(head: &Head) -> bool {
    head.audience.readers == Readers::Federation && head.tlp <= Tlp::Green
}
