//! Tables: cases that policies are meant to decide in a certain way, kept beside them and run by `huecry policy test`.

use super::{Case, ListRole, Lists, OutletKind, OutletName, Party, Policy, Verdict};
use crate::{
    charter::MemberKind,
    record::{Kind, MemberId, NameError, Observable, Role, Tlp, TomlError, UnknownName, Use, from_toml},
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Why a table does not run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    #[error("{file}: {error}")]
    Form { file: String, error: TomlError },
    #[error("{file}: case `{case}`: {why}")]
    Case { file: String, case: String, why: String },
    #[error("{0}: it has no cases")]
    Empty(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    case: Vec<Row>,
}

/// One case, as a person writes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    #[serde(default = "a_vendor")]
    origin: String,
    #[serde(default = "vendor")]
    origin_kind: String,
    country: Option<String>,
    #[serde(default = "good")]
    standing: String,
    #[serde(default = "indicators")]
    channel: String,
    #[serde(default = "indicator")]
    kind: String,
    #[serde(default = "a_value")]
    value: String,
    #[serde(default = "attacker")]
    role: String,
    #[serde(default = "block", rename = "use")]
    usage: String,
    #[serde(default = "green")]
    tlp: String,
    #[serde(default = "federation")]
    audience: String,
    #[serde(default = "sure")]
    confidence: u8,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    age_hours: u32,
    #[serde(default)]
    expired: bool,
    /// Lists that the value is put on, with their roles.
    #[serde(default)]
    on: BTreeMap<String, String>,
    #[serde(default)]
    disputed_by: Vec<String>,
    /// `accept`, `hold` or `refuse`.
    expect: Option<String>,
    by: Option<String>,
    enforce: Option<EnforceRow>,
    share: Option<ShareRow>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EnforceRow {
    outlet: String,
    #[serde(default = "own")]
    kind: String,
    #[serde(default = "one")]
    sources: u32,
    expect: bool,
    by: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ShareRow {
    reader: String,
    #[serde(default = "country_kind")]
    kind: String,
    #[serde(default = "good")]
    standing: String,
    expect: bool,
    by: Option<String>,
}

fn a_vendor() -> String {
    "some-vendor".to_owned()
}
fn vendor() -> String {
    "vendor".to_owned()
}
fn country_kind() -> String {
    "country".to_owned()
}
fn good() -> String {
    "good".to_owned()
}
fn indicators() -> String {
    "indicators".to_owned()
}
fn indicator() -> String {
    "indicator".to_owned()
}
fn a_value() -> String {
    "host.case.example".to_owned()
}
fn attacker() -> String {
    "attacker".to_owned()
}
fn block() -> String {
    "block".to_owned()
}
fn green() -> String {
    "green".to_owned()
}
fn federation() -> String {
    "federation".to_owned()
}
fn own() -> String {
    "own".to_owned()
}
fn sure() -> u8 {
    80
}
fn one() -> u32 {
    1
}

/// How a case came out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CaseResult {
    pub name: String,
    pub passed: bool,
    /// What was decided and why, and what was expected where that is something else.
    pub text: String,
}

/// Runs every case of a table; `file` is for messages.
pub fn run_table(policy: &Policy, file: &str, text: &str) -> Result<Vec<CaseResult>, TableError> {
    let parsed: File = from_toml(text).map_err(|error| TableError::Form { file: file.to_owned(), error })?;
    if parsed.case.is_empty() {
        return Err(TableError::Empty(file.to_owned()));
    }
    let run = |row: &Row| row.run(policy).map_err(|why| TableError::Case { file: file.to_owned(), case: row.name.clone(), why });
    parsed.case.iter().map(run).collect()
}

impl Row {
    fn run(&self, policy: &Policy) -> Result<CaseResult, String> {
        let unknown = |error: UnknownName| error.to_string();
        let name = |error: NameError| error.to_string();
        if [self.expect.is_some(), self.enforce.is_some(), self.share.is_some()].iter().filter(|asked| **asked).count() != 1 {
            return Err("it needs one of `expect`, `enforce`, `share`".to_owned());
        }
        let value = Observable::recognise(&self.value).map_err(|error| error.to_string())?;
        let lists = self.lists(&value)?;
        let listed = lists.of(&value);
        let origin: MemberId = self.origin.parse().map_err(name)?;
        let disputed: BTreeSet<MemberId> = self.disputed_by.iter().map(|id| id.parse()).collect::<Result<_, _>>().map_err(name)?;
        let kind: Kind = self.kind.parse().map_err(unknown)?;
        let case = Case {
            origin: Party {
                id: &origin,
                kind: self.origin_kind.parse().map_err(unknown)?,
                country: self.country.as_deref(),
                standing: standing(&self.standing)?,
            },
            channel: &self.channel,
            kind,
            value_type: Some(value.kind()),
            role: self.role.parse::<Role>().map_err(unknown)?,
            usage: self.usage.parse::<Use>().map_err(unknown)?,
            tlp: Tlp::parse(&self.tlp).map_err(unknown)?,
            audience: &self.audience,
            confidence: self.confidence,
            tags: [&self.tags, &[]],
            age_hours: self.age_hours,
            expired: self.expired,
            listed: &listed,
            disputed_by: &disputed,
            origins: self.enforce.as_ref().map_or(0, |row| row.sources),
        };
        let (got, policies, sentence, expected, by) = if let Some(row) = &self.enforce {
            let kind: OutletKind = row.kind.parse().map_err(unknown)?;
            let permission = policy.evaluate_enforce(&case, OutletName { name: &row.outlet, kind });
            (word(permission.permitted), permission.policies.clone(), permission.because(), word(row.expect), &row.by)
        } else if let Some(row) = &self.share {
            let reader: MemberId = row.reader.parse().map_err(name)?;
            let kind: MemberKind = row.kind.parse().map_err(unknown)?;
            let reader = Party { id: &reader, kind, country: None, standing: standing(&row.standing)? };
            let permission = policy.evaluate_share(&case, &reader);
            (word(permission.permitted), permission.policies.clone(), permission.because(), word(row.expect), &row.by)
        } else {
            let expected = self.expect.as_deref().unwrap_or_default();
            let verdicts = [("accept", Verdict::Accept), ("hold", Verdict::Hold), ("refuse", Verdict::Refuse)];
            let known = verdicts.iter().find(|(word, _)| *word == expected);
            let (expected, _) =
                known.ok_or_else(|| unknown(UnknownName::new("verdict", expected, verdicts.iter().map(|(word, _)| *word))))?;
            let judged = policy.evaluate(&case);
            let got = verdicts.iter().find(|(_, verdict)| *verdict == judged.verdict).map_or("", |(word, _)| word);
            (got, judged.policies.clone(), judged.sentence(), *expected, &self.by)
        };
        let by_expected = by.as_ref().is_none_or(|by| policies.contains(by));
        let passed = got == expected && by_expected;
        let text = match (passed, by) {
            (true, _) => format!("{got}: {sentence}"),
            (false, Some(by)) => format!("{got}: {sentence}; expected {expected} by `{by}`"),
            (false, None) => format!("{got}: {sentence}; expected {expected}"),
        };
        Ok(CaseResult { name: self.name.clone(), passed, text })
    }

    fn lists(&self, value: &Observable) -> Result<Lists, String> {
        let mut lists = Lists::default();
        for (name, role) in &self.on {
            let role: ListRole = role.parse().map_err(|error: UnknownName| error.to_string())?;
            lists.load(name, role, &value.to_string()).map_err(|error| error.to_string())?;
        }
        lists.settle();
        Ok(lists)
    }
}

fn word(permitted: bool) -> &'static str {
    if permitted { "permitted" } else { "not permitted" }
}

fn standing(text: &str) -> Result<&'static str, String> {
    let known = ["good", "ended", "revoked"];
    known.into_iter().find(|one| *one == text).ok_or_else(|| UnknownName::new("standing", text, known.into_iter()).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{PolicyError, Starter};

    #[test]
    fn every_starter_set_does_what_its_table_says_and_its_twin_is_refused() {
        let twins = [
            include_str!("../../node-config/bad/starter/national.cedar"),
            include_str!("../../node-config/bad/starter/vendor.cedar"),
            include_str!("../../node-config/bad/starter/observer.cedar"),
        ];
        let hints = ["did you mean `list_roles`?", "accept", "did you mean @confidence_cap?"];
        for ((starter, twin), hint) in Starter::ALL.iter().zip(twins).zip(hints) {
            let policy = Policy::parse("policy.cedar", starter.policy()).unwrap();
            for result in run_table(&policy, "tests.toml", starter.tests()).unwrap() {
                assert!(result.passed, "{starter}: {}: {}", result.name, result.text);
            }
            let error: PolicyError = Policy::parse("policy.cedar", twin).unwrap_err();
            assert!(error.to_string().contains(hint), "{error}");
        }
    }

    #[test]
    fn a_table_says_what_came_out_instead_and_what_is_wrong_with_a_case() {
        let policy = Policy::parse("policy.cedar", Starter::National.policy()).unwrap();
        let run = |text: &str| run_table(&policy, "t.toml", text);
        let results = run("[[case]]\nname = \"x\"\nexpect = \"refuse\"\nby = \"expired\"").unwrap();
        assert!(!results[0].passed);
        assert!(results[0].text.contains("accept") && results[0].text.contains("expected refuse by `expired`"), "{}", results[0].text);
        let check = |text: &str, expected: &str| {
            let error = run(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("", "no cases");
        check("[[case]]\nname = \"x\"", "needs one of");
        check("[[case]]\nname = \"x\"\nexpect = \"refuze\"", "did you mean `refuse`?");
        check("[[case]]\nname = \"x\"\nexpct = \"refuse\"", "line 3: unknown field `expct`");
        check("[[case]]\nname = \"x\"\nexpect = \"hold\"\non = { a = \"warn\" }", "did you mean `warns`?");
    }
}
