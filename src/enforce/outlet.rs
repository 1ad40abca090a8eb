//! Outlets: who acts on records here, what each takes, and what no outlet is ever given.

use crate::{
    policy::OutletKind,
    record::{Observable, ObservableType, Tlp, Use},
};
use ipnet::IpNet;
use std::collections::BTreeSet;

/// Widest networks that are ever enforced: a /24 and a /48 are what is routed alone; wider ones hold strangers.
pub const PREFIX_V4_MIN: u8 = 24;
/// As above, for IPv6.
pub const PREFIX_V6_MIN: u8 = 48;
/// Most lines of one outlet unless its configuration says less; resolvers and firewalls take about as many.
pub const LINES_MAX: usize = 1_000_000;
/// Additions of one origin at one outlet in an hour, at least.
pub const HOUR_ADDITIONS_MIN: usize = 500;
/// And in percent of what the origin has there.
pub const HOUR_ADDITIONS_PERCENT: usize = 5;

/// One consumer of ours that acts on records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outlet {
    pub name: String,
    pub kind: OutletKind,
    /// What it does with a line: `block` or `alert`.
    pub usage: Use,
    pub types: BTreeSet<ObservableType>,
    pub tlp_max: Tlp,
    pub lines_max: usize,
}

/// Why a value is not given to an outlet, whatever policies say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Unfit {
    #[error("the outlet does not take this type")]
    Type,
    #[error("its marking is above what the outlet may be given")]
    Marking,
    #[error("its author would have it used for less than this outlet does")]
    Use,
    #[error("the network is wider than a /24 or /48")]
    Wide,
    #[error("it is a public suffix, the parent of unrelated names")]
    Suffix,
}

impl Outlet {
    /// The strictest marking that the outlet takes: its own limit, or that of its kind.
    pub fn marking(&self) -> Tlp {
        self.tlp_max.min(self.kind.tlp_max())
    }

    /// Whether a record about `value` may stand in this outlet's export at all.
    pub fn takes(&self, value: &Observable, tlp: Tlp, usage: Use) -> Result<(), Unfit> {
        if !self.types.contains(&value.kind()) {
            return Err(Unfit::Type);
        }
        // Uses stand in rising order: who permits to block permits to alert.
        if usage < self.usage {
            return Err(Unfit::Use);
        }
        if tlp > self.marking() {
            return Err(Unfit::Marking);
        }
        shape(value)
    }
}

/// Whether a value's shape can hit strangers.
pub fn shape(value: &Observable) -> Result<(), Unfit> {
    match value.network() {
        Some(IpNet::V4(net)) if net.prefix_len() < PREFIX_V4_MIN => return Err(Unfit::Wide),
        Some(IpNet::V6(net)) if net.prefix_len() < PREFIX_V6_MIN => return Err(Unfit::Wide),
        _ => (),
    }
    match value.text() {
        Some(name) if value.kind() == ObservableType::Domain && psl::suffix_str(name) == Some(name) => Err(Unfit::Suffix),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outlet(kind: OutletKind, usage: Use, types: &[ObservableType]) -> Outlet {
        Outlet { name: "o".to_owned(), kind, usage, types: types.iter().copied().collect(), tlp_max: Tlp::Red, lines_max: LINES_MAX }
    }

    #[test]
    fn p_12_an_outlet_is_given_only_what_it_takes_and_may_see() {
        use ObservableType as T;
        let takes = |outlet: &Outlet, text: &str, tlp, usage| outlet.takes(&Observable::recognise(text).unwrap(), tlp, usage);
        let resolver = outlet(OutletKind::Own, Use::Block, &[T::Domain, T::Cidr]);
        assert_eq!(takes(&resolver, "evil.example", Tlp::Amber, Use::Block), Ok(()));
        assert_eq!(takes(&resolver, "http://evil.example/x", Tlp::Amber, Use::Block), Err(Unfit::Type), "never widened to its host");
        assert_eq!(takes(&resolver, "evil.example", Tlp::Red, Use::Block), Err(Unfit::Marking));
        assert_eq!(takes(&resolver, "evil.example", Tlp::Green, Use::Alert), Err(Unfit::Use));
        assert_eq!(takes(&resolver, "evil.example", Tlp::Green, Use::Context), Err(Unfit::Use));
        assert_eq!(takes(&resolver, "198.51.0.0/16", Tlp::Green, Use::Block), Err(Unfit::Wide));
        assert_eq!(takes(&resolver, "198.51.100.0/24", Tlp::Green, Use::Block), Ok(()));
        assert_eq!(takes(&resolver, "2001:db8::/32", Tlp::Green, Use::Block), Err(Unfit::Wide));
        assert_eq!(takes(&resolver, "co.uk", Tlp::Green, Use::Block), Err(Unfit::Suffix));
        assert_eq!(takes(&resolver, "duckdns.org", Tlp::Green, Use::Block), Err(Unfit::Suffix));
        let siem = outlet(OutletKind::Own, Use::Alert, &[T::Domain]);
        assert_eq!(takes(&siem, "evil.example", Tlp::Green, Use::Block), Ok(()));
        let public = outlet(OutletKind::Public, Use::Block, &[T::Domain]);
        assert_eq!(takes(&public, "evil.example", Tlp::Green, Use::Block), Err(Unfit::Marking));
    }
}
