//! `trust.toml`: whom this node trusts with what, for people who do not write Cedar on their first day.
//!
//! Each entry compiles to a few Cedar policies, which `huecry policy show` prints; both are in force together, and a
//! `forbid` in either beats every permit.

use super::text::Piece;
use crate::{
    charter::MemberKind,
    record::{MemberId, ObservableType, TomlError, UnknownName, from_toml},
};
use serde::Deserialize;
use std::fmt::Write as _;

/// The name under which compiled policies are shown.
pub const TRUST_FILE: &str = "trust.toml";
/// Most entries: one for each member and channel of a large federation; each makes up to four policies.
const ENTRIES_MAX: usize = 1_024;

/// Why a `trust.toml` is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    #[error("{file}: {error}")]
    Form { file: String, error: TomlError },
    #[error("{file}: entry {entry}: {why}")]
    Entry { file: String, entry: usize, why: String },
    #[error("{file}: more than 1,024 entries; write Cedar for what has a pattern")]
    Long { file: String },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    trust: Vec<Entry>,
}

/// What becomes of records that an entry speaks of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Fate {
    #[default]
    Accept,
    Hold,
    Refuse,
}

/// One entry, as a person writes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// A member; or else everyone of a kind, of a country, or everyone.
    origin: Option<String>,
    kind: Option<String>,
    country: Option<String>,
    #[serde(default)]
    channels: Vec<String>,
    #[serde(default)]
    types: Vec<String>,
    #[serde(default)]
    then: Fate,
    min_confidence: Option<u8>,
    /// What becomes of what is below the least confidence.
    #[serde(default)]
    below: Option<Fate>,
    #[serde(default)]
    enforce: Enforce,
    #[serde(default)]
    delay_hours: u32,
    /// Independent sources that must assert a value before it is enforced.
    sources_min: Option<u32>,
    confidence_cap: Option<u8>,
    expires_in_days: Option<u32>,
    reason: Option<String>,
}

/// Where records may act: nowhere, everywhere, or at the outlets named.
#[derive(Deserialize)]
#[serde(untagged)]
enum Enforce {
    All(bool),
    At(Vec<String>),
}

impl Default for Enforce {
    fn default() -> Self {
        Self::All(false)
    }
}

/// Compiles a `trust.toml` to Cedar; `file` is for messages. `None` where it has no entries.
pub fn compile(file: &str, text: &str) -> Result<Option<Piece>, TrustError> {
    let parsed: File = from_toml(text).map_err(|error| TrustError::Form { file: file.to_owned(), error })?;
    if parsed.trust.len() > ENTRIES_MAX {
        return Err(TrustError::Long { file: file.to_owned() });
    }
    let mut out = String::new();
    for (number, entry) in (1..).zip(&parsed.trust) {
        let refuse = |why: String| TrustError::Entry { file: file.to_owned(), entry: number, why };
        out.push_str(&entry.policies(number).map_err(refuse)?);
    }
    Ok((!parsed.trust.is_empty()).then(|| Piece::new(TRUST_FILE, out)))
}

impl Entry {
    fn policies(&self, number: usize) -> Result<String, String> {
        let who = self.who()?;
        let what = self.what()?;
        let percent = |name: &str, value: Option<u8>| match value {
            Some(value) if value > 100 => Err(format!("`{name}` is a confidence, 0 to 100")),
            _ => Ok(()),
        };
        percent("min_confidence", self.min_confidence)?;
        percent("confidence_cap", self.confidence_cap)?;
        if self.then == Fate::Refuse && !matches!(self.enforce, Enforce::All(false)) {
            return Err("what is refused cannot be enforced; take `enforce` or `then = \"refuse\"` out".to_owned());
        }
        if self.below.is_some() && self.min_confidence.is_none() {
            return Err("`below` says what becomes of what is below `min_confidence`, which is not there".to_owned());
        }
        let name = self.origin.as_deref().or(self.kind.as_deref()).or(self.country.as_deref()).unwrap_or("everyone");
        let id = |verb: &str| format!("trust-{number}-{}-{verb}", name.to_ascii_lowercase());
        let said = |verb: &str| self.reason.clone().unwrap_or_else(|| format!("trust.toml, entry {number}: {name} {verb}"));
        let mut out = String::new();
        let enough = self.min_confidence.map(|least| format!("resource.confidence >= {least}"));
        let conditions = |more: &[Option<String>]| {
            let all = who.iter().chain(&what).chain(more.iter().flatten()).cloned().collect::<Vec<_>>();
            if all.is_empty() { "true".to_owned() } else { all.join(" && ") }
        };
        let mut put = |verb: &str, fate: Fate, when: String, obliged: bool| {
            let mut annotations = format!("@id({})\n@reason({})\n", quoted(&id(verb)), quoted(&said(fate.sentence())));
            if obliged {
                let numbers = [("confidence_cap", self.confidence_cap.map(u32::from)), ("expires_in_days", self.expires_in_days)];
                for (name, value) in numbers.into_iter().filter_map(|(name, value)| Some((name, value?))) {
                    // INVARIANT: writing into a String does not fail.
                    let _never = writeln!(annotations, "@{name}(\"{value}\")");
                }
            }
            let _never = writeln!(out, "{annotations}{} when {{ {when} }};\n", fate.head());
        };
        put("takes", self.then, conditions(std::slice::from_ref(&enough)), self.then != Fate::Refuse);
        if let (Some(least), Some(below)) = (self.min_confidence, self.below) {
            put("below", below, conditions(&[Some(format!("resource.confidence < {least}"))]), below != Fate::Refuse);
        }
        if let Some(outlets) = self.outlets()? {
            let young = (self.delay_hours > 0).then(|| format!("resource.age_hours >= {}", self.delay_hours));
            let sources = self.sources_min.map(|least| format!("resource.origins >= {least}"));
            let when = conditions(&[enough, outlets, young, sources]);
            let head = "permit (principal, action == Action::\"enforce\", resource)";
            let (id, reason) = (quoted(&id("enforces")), quoted(&said("may act")));
            let _never = writeln!(out, "@id({id})\n@reason({reason})\n{head} when {{ {when} }};\n");
        }
        Ok(out)
    }

    /// The author, as conditions.
    fn who(&self) -> Result<Vec<String>, String> {
        let mut conditions = vec!["resource.origin.standing == \"good\"".to_owned()];
        if let Some(id) = &self.origin {
            let id: MemberId = id.parse().map_err(|error: crate::record::NameError| error.to_string())?;
            if self.kind.is_some() || self.country.is_some() {
                return Err("`origin` names one member; `kind` and `country` are for many".to_owned());
            }
            conditions.push(format!("resource.origin == Member::{}", quoted(id.as_str())));
        }
        if let Some(kind) = &self.kind {
            let kind: MemberKind = kind.parse().map_err(|error: UnknownName| error.to_string())?;
            conditions.push(format!("resource.origin.kind == {}", quoted(kind.name())));
        }
        if let Some(country) = &self.country {
            if country.len() != 2 || !country.bytes().all(|byte| byte.is_ascii_uppercase()) {
                return Err(format!("`{}` is no country; write two capitals, as in \"DE\"", crate::record::excerpt(country)));
            }
            conditions.push(format!("resource.origin has country && resource.origin.country == {}", quoted(country)));
        }
        Ok(conditions)
    }

    /// Channels and types, as conditions.
    fn what(&self) -> Result<Vec<String>, String> {
        let mut conditions = Vec::new();
        if !self.channels.is_empty() {
            let names = self.channels.iter().map(|name| name.parse::<crate::record::ChannelName>().map(|name| quoted(name.as_str())));
            let names = names.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
            conditions.push(format!("[{}].contains(resource.channel)", names.join(", ")));
        }
        if !self.types.is_empty() {
            let types = self.types.iter().map(|name| name.parse::<ObservableType>().map(|kind| quoted(kind.name())));
            let types = types.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
            conditions.push(format!("[{}].contains(resource.type)", types.join(", ")));
        }
        Ok(conditions)
    }

    /// The outlets where it may act, as a condition; `None`: nowhere.
    #[expect(clippy::option_option, reason = "nowhere, everywhere, or under a condition")]
    fn outlets(&self) -> Result<Option<Option<String>>, String> {
        match &self.enforce {
            Enforce::All(false) => Ok(None),
            Enforce::All(true) => Ok(Some(None)),
            Enforce::At(names) if names.is_empty() => Ok(None),
            Enforce::At(names) => {
                let names =
                    names.iter().map(|name| name.parse::<crate::record::ChannelName>().map(|_| format!("Outlet::{}", quoted(name))));
                let names =
                    names.collect::<Result<Vec<_>, _>>().map_err(|_| "an outlet's name is 1 to 64 of a-z, 0-9 and `-`".to_owned())?;
                Ok(Some(Some(format!("[{}].contains(principal)", names.join(", ")))))
            }
        }
    }
}

impl Fate {
    fn head(self) -> &'static str {
        match self {
            Self::Accept => "permit (principal, action == Action::\"accept\", resource)",
            Self::Hold => "permit (principal, action == Action::\"hold\", resource)",
            Self::Refuse => "forbid (principal, action in [Action::\"accept\", Action::\"hold\"], resource)",
        }
    }

    fn sentence(self) -> &'static str {
        match self {
            Self::Accept => "is accepted",
            Self::Hold => "is held for a person",
            Self::Refuse => "is refused",
        }
    }
}

/// A Cedar string; what could end it is escaped.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Policy;

    fn policies(text: &str) -> Result<Policy, String> {
        let piece = compile("trust.toml", text).map_err(|error| error.to_string())?.ok_or("no entries")?;
        Policy::of(vec![piece]).map_err(|error| error.to_string())
    }

    #[test]
    fn every_entry_compiles_to_cedar_that_the_schema_knows() {
        let policy = policies(
            r#"
            [[trust]]
            origin = "talos"
            channels = ["c2"]
            types = ["domain", "ipv4"]
            min_confidence = 60
            below = "hold"
            delay_hours = 24
            sources_min = 2
            enforce = ["resolver"]
            confidence_cap = 90
            expires_in_days = 30
            reason = "the \"contract\" of 2026"
            [[trust]]
            kind = "country"
            enforce = true
            [[trust]]
            country = "DE"
            then = "refuse"
            [[trust]]
            "#,
        )
        .unwrap();
        assert_eq!(policy.count(), 7);
        let text = policy.text_of("trust-1-talos-enforces").unwrap();
        assert!(text.contains("resource.origins >= 2") && text.contains("Outlet::\"resolver\""), "{text}");
    }

    #[test]
    fn p_06_an_odd_entry_is_refused_with_what_to_write_instead() {
        let check = |text: &str, expected: &str| {
            let error = policies(&format!("[[trust]]\n{text}")).unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        check("orign = \"talos\"", "line 2: unknown field `orign`, expected one of");
        check("orign = \"talos\"", "did you mean `origin`?");
        check("origin = \"Talos\"", "is not a member id");
        check("kind = \"vendr\"", "did you mean `vendor`?");
        check("types = [\"domian\"]", "did you mean `domain`?");
        check("country = \"de\"", "two capitals");
        check("min_confidence = 101", "0 to 100");
        check("below = \"hold\"", "which is not there");
        check("then = \"refuse\"\nenforce = true", "cannot be enforced");
        check("then = \"acept\"", "did you mean `accept`?");
        check("enforce = [\"a b\"]", "outlet's name");
        assert!(compile("trust.toml", "").unwrap().is_none());
    }
}
