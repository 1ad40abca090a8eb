//! Roles: what being on a list means, and the table that gives each published list one.

use crate::{
    cbor::uint_enum,
    record::{UnknownName, from_toml},
};
use std::collections::BTreeMap;

uint_enum! {
    /// What being on a list means.
    pub enum ListRole("list role") {
        /// Known good: never to be enforced without two people.
        Clears = 0 "clears",
        /// Often reported by mistake: a person should look, or a second source.
        Warns = 1 "warns",
        /// Ours or our clients': never to be enforced without two people, and somebody should know.
        Own = 2 "own",
        /// Worth knowing; decides nothing by itself.
        Notes = 3 "notes",
    }
}

/// The table as shipped: published lists carry no category, so each is given one here, with its reason.
const SHIPPED: &str = include_str!("../../../node-config/lists/roles.toml");

/// What the table says of one published list.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShippedRole {
    /// `clears`, `warns`, `own` or `notes`; none for a list that cannot be matched.
    #[serde(default)]
    role: Option<String>,
    /// Why, for a person.
    pub reason: String,
}

impl ShippedRole {
    /// The role; `None`: the list is not to be loaded.
    pub fn role(&self) -> Result<Option<ListRole>, UnknownName> {
        self.role.as_deref().map(str::parse).transpose()
    }
}

/// Roles of published lists, by their file's name without its endings.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(transparent)]
pub struct RoleTable(BTreeMap<String, ShippedRole>);

impl RoleTable {
    /// The table as shipped.
    pub fn shipped() -> Self {
        // INVARIANT: a test reads the shipped text.
        Self::parse(SHIPPED).unwrap_or_default()
    }

    /// Reads a table; every role in it is one that we know.
    pub fn parse(text: &str) -> Result<Self, String> {
        let table: Self = from_toml(text).map_err(|error| error.to_string())?;
        for (name, one) in &table.0 {
            one.role().map_err(|error| format!("`{name}`: {error}"))?;
        }
        Ok(table)
    }

    /// What the table says of a list.
    pub fn of(&self, name: &str) -> Option<&ShippedRole> {
        self.0.get(name)
    }

    /// Every list of the table with what it says.
    pub fn all(&self) -> impl Iterator<Item = (&str, &ShippedRole)> {
        self.0.iter().map(|(name, role)| (name.as_str(), role))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_table_reads_and_gives_reasons() {
        let table = RoleTable::parse(SHIPPED).unwrap();
        assert!(table.all().count() >= 118);
        assert!(table.all().all(|(_, one)| one.reason.len() > 10));
        assert_eq!(table.of("vpn-ipv4").unwrap().role().unwrap(), Some(ListRole::Warns));
        assert_eq!(table.of("phone_numbers").unwrap().role().unwrap(), None);
        assert!(RoleTable::parse("x = { role = \"clear\", reason = \"r\" }").unwrap_err().contains("did you mean"));
    }
}
