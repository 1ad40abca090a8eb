//! Starter sets: policies to begin with, by what an organisation is. Each has a table of cases beside it.

use crate::{cbor::uint_enum, charter::MemberKind};

uint_enum! {
    /// A set of policies to begin with.
    pub enum Starter("starter set") {
        /// Protects a country: enforces what is sure.
        National = 1 "national",
        /// Publishes; takes what the police say.
        Vendor = 2 "vendor",
        /// Reads; acts on nothing, passes nothing on.
        Observer = 3 "observer",
    }
}

impl Starter {
    /// What suits a member of this kind.
    pub fn of(kind: MemberKind) -> Self {
        match kind {
            MemberKind::Country | MemberKind::Coordinator => Self::National,
            MemberKind::Vendor => Self::Vendor,
            MemberKind::Observer => Self::Observer,
        }
    }

    /// Its policies.
    pub fn policy(self) -> &'static str {
        match self {
            Self::National => include_str!("../../node-config/starter/national/policy.cedar"),
            Self::Vendor => include_str!("../../node-config/starter/vendor/policy.cedar"),
            Self::Observer => include_str!("../../node-config/starter/observer/policy.cedar"),
        }
    }

    /// Its cases.
    pub fn tests(self) -> &'static str {
        match self {
            Self::National => include_str!("../../node-config/starter/national/tests.toml"),
            Self::Vendor => include_str!("../../node-config/starter/vendor/tests.toml"),
            Self::Observer => include_str!("../../node-config/starter/observer/tests.toml"),
        }
    }
}
