//! Policy text: from files to checked policies. Nothing but a text without any error gets through.
//!
//! A policy is refused for a typo, an unknown attribute, an obligation out of range or an attribute where it is not known,
//! with file, line and the nearest name that the schema has.

use super::case::{ATTRIBUTES, ListReads, Reads};
use crate::{envelope::Hash, record::nearest};
use cedar_policy::{ActionConstraint, Policy as CedarPolicy, PolicyId, PolicySet, Schema, ValidationMode, Validator};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The schema that every policy is checked against.
pub const SCHEMA: &str = include_str!("../../node-config/policy.cedarschema");
/// Longest policy text that is read, in bytes: hundreds of policies; a text beyond it is another file.
pub const POLICY_BYTES_MAX: usize = 1024 * 1024;

/// One file of policies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Piece {
    /// Its name, for messages.
    pub file: String,
    pub text: String,
}

impl Piece {
    /// A file's text.
    pub fn new(file: impl Into<String>, text: impl Into<String>) -> Self {
        Self { file: file.into(), text: text.into() }
    }
}

/// Why a policy text is refused; the one in force stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    #[error("{file}:{line}: {what}{hint}")]
    Text { file: String, line: usize, what: String, hint: String },
    #[error("{file}: it holds no policy, so nothing would be accepted; keep one permit at least")]
    Empty { file: String },
    #[error("{file}: it is longer than 1 MiB, which is no policy")]
    Long { file: String },
    #[error("{file}: the @id `{id}` is there twice; ids tell people which policy decided")]
    SameId { file: String, id: String },
    #[error("{file}: @{annotation} of policy `{id}` is not a number in range")]
    Obligation { file: String, id: String, annotation: &'static str },
    #[error("{file}: policy `{id}` has the annotation @{annotation}, which huecry does not know{hint}")]
    Annotation { file: String, id: String, annotation: String, hint: String },
    #[error("{file}: policy `{id}` reads `origins`, which is counted for `enforce` alone; write `action == Action::\"enforce\"`")]
    Origins { file: String, id: String },
}

/// What is asked of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    Accept,
    Hold,
    Share,
    Enforce,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Accept, Self::Hold, Self::Share, Self::Enforce];

    /// Its name in policies.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Hold => "hold",
            Self::Share => "share",
            Self::Enforce => "enforce",
        }
    }
}

/// What a policy asks for in return, and its text.
pub(super) struct Terms {
    pub reason: String,
    pub confidence_cap: Option<u8>,
    pub expires_in_days: Option<u32>,
    pub text: String,
}

/// Policies that speak of one action.
#[derive(Default)]
pub(super) struct Part {
    pub set: PolicySet,
    pub reads: Reads,
}

/// Checked policies, by action.
pub(super) struct Checked {
    pub parts: HashMap<Action, Part>,
    pub terms: HashMap<PolicyId, Terms>,
    pub hash: Hash,
}

/// Reads and checks all pieces together.
pub(super) fn check(pieces: &[Piece]) -> Result<Checked, PolicyError> {
    let mut checked = Checked { parts: HashMap::new(), terms: HashMap::new(), hash: hash(pieces) };
    let schema = Schema::from_cedarschema_str(SCHEMA).map_err(|error| {
        let what = error.to_string();
        PolicyError::Text { file: "policy.cedarschema".to_owned(), line: 1, what, hint: String::new() }
    })?;
    let validator = Validator::new(schema.0);
    for piece in pieces {
        check_piece(piece, &validator, &mut checked)?;
    }
    match (checked.terms.is_empty(), pieces.first()) {
        (true, piece) => Err(PolicyError::Empty { file: piece.map_or("policy.cedar", |piece| &piece.file).to_owned() }),
        _ => Ok(checked),
    }
}

/// What a policy's hash is taken over: every piece with its length, so that no two sets of pieces share one.
fn hash(pieces: &[Piece]) -> Hash {
    Hash::of(&crate::cbor::to_vec(&pieces.iter().map(|piece| &piece.text).collect::<Vec<_>>()))
}

/// The text of each policy in these pieces, by its id. Of a text that was in force once, so it reads.
pub fn policy_texts(pieces: &[Piece]) -> BTreeMap<String, String> {
    let sets = pieces.iter().filter_map(|piece| piece.text.parse::<PolicySet>().ok());
    sets.flat_map(|set| set.policies().map(|policy| (name(policy), policy.to_string())).collect::<Vec<_>>()).collect()
}

fn name(policy: &CedarPolicy) -> String {
    policy.annotation("id").map_or_else(|| policy.id().to_string(), str::to_owned)
}

fn check_piece(piece: &Piece, validator: &Validator, checked: &mut Checked) -> Result<(), PolicyError> {
    let Piece { file, text } = piece;
    if text.len() > POLICY_BYTES_MAX {
        return Err(PolicyError::Long { file: file.clone() });
    }
    let fail = |offset: Option<usize>, what: String| {
        let line = 1 + text.get(..offset.unwrap_or(0)).unwrap_or_default().matches('\n').count();
        let hint = hint_for(&what).map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
        PolicyError::Text { file: file.clone(), line, what, hint }
    };
    let parsed: PolicySet = text.parse().map_err(|error: cedar_policy::ParseErrors| {
        let first = error.iter().next();
        fail(first.and_then(|one| offset_of(one)), first.map_or_else(|| error.to_string(), ToString::to_string))
    })?;
    if parsed.is_empty() {
        return Err(PolicyError::Empty { file: file.clone() });
    }
    let result = validator.validate(&parsed, ValidationMode::Strict);
    if let Some(error) = result.validation_errors().next() {
        let place = parsed.policy(error.policy_id()).map(ToString::to_string);
        let offset = offset_of(error).or_else(|| place.and_then(|source| text.find(source.lines().next()?)));
        return Err(fail(offset, plain_validation(&error.to_string())));
    }
    let mut policies: Vec<&CedarPolicy> = parsed.policies().collect();
    policies.sort_by_key(|policy| policy.id().to_string());
    for policy in policies {
        let terms = terms(file, policy)?;
        let id = PolicyId::new(name(policy));
        let (reads, lists) = reads(policy);
        for action in Action::ALL.into_iter().filter(|action| speaks_of(policy, *action)) {
            if action != Action::Enforce && reads.contains("origins") {
                return Err(PolicyError::Origins { file: file.clone(), id: id.to_string() });
            }
            let part = checked.parts.entry(action).or_default();
            part.reads = part.reads.with(&Reads::of(&reads, lists.clone()));
            part.set.add(policy.new_id(id.clone())).map_err(|_| PolicyError::SameId { file: file.clone(), id: id.to_string() })?;
        }
        if checked.terms.insert(id.clone(), terms).is_some() {
            return Err(PolicyError::SameId { file: file.clone(), id: id.to_string() });
        }
    }
    Ok(())
}

const ANNOTATIONS: [&str; 4] = ["id", "reason", "confidence_cap", "expires_in_days"];

fn terms(file: &str, policy: &CedarPolicy) -> Result<Terms, PolicyError> {
    let (file, id) = (file.to_owned(), name(policy));
    if let Some((unknown, _)) = policy.annotations().find(|(name, _)| !ANNOTATIONS.contains(name)) {
        let hint = nearest(unknown, ANNOTATIONS.into_iter()).map(|name| format!("; did you mean @{name}?")).unwrap_or_default();
        return Err(PolicyError::Annotation { file, id, annotation: unknown.to_owned(), hint });
    }
    let number = |annotation: &'static str, max: u32| match policy.annotation(annotation) {
        None => Ok(None),
        Some(text) => match text.parse::<u32>() {
            Ok(number) if number <= max => Ok(Some(number)),
            _ => Err(PolicyError::Obligation { file: file.clone(), id: id.clone(), annotation }),
        },
    };
    Ok(Terms {
        reason: policy.annotation("reason").unwrap_or_default().to_owned(),
        confidence_cap: number("confidence_cap", 100)?.map(|cap| u8::try_from(cap).unwrap_or(100)),
        expires_in_days: number("expires_in_days", 36_500)?,
        text: policy.to_string(),
    })
}

fn speaks_of(policy: &CedarPolicy, action: Action) -> bool {
    let is = |uid: &cedar_policy::EntityUid| uid.id().unescaped() == action.name();
    match policy.action_constraint() {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(uid) => is(&uid),
        ActionConstraint::In(uids) => uids.iter().any(is),
    }
}

/// Every attribute name that a policy mentions, and which lists it can tell apart.
fn reads(policy: &CedarPolicy) -> (BTreeSet<String>, ListReads) {
    let Ok(json) = policy.to_json() else { return (ATTRIBUTES.map(str::to_owned).into(), ListReads::All) };
    let (mut found, mut lists) = (BTreeSet::new(), ListReads::Named(BTreeSet::new()));
    attributes_in(&json, &mut found);
    lists_in(&json, &mut lists);
    (found, lists)
}

/// Collects attribute names from a policy's JSON form: `{".": {"left": .., "attr": NAME}}`, the same with `has`. Too many
/// only make the memo finer, so nothing clever is tried.
fn attributes_in(json: &serde_json::Value, found: &mut BTreeSet<String>) {
    match json {
        serde_json::Value::Object(map) => {
            if let Some(serde_json::Value::String(name)) = map.get("attr") {
                found.insert(name.clone());
            }
            map.values().for_each(|value| attributes_in(value, found));
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| attributes_in(item, found)),
        _ => (),
    }
}

/// Collects the lists that are asked for by name, `{"contains": {"left": X.lists, "right": {"Value": NAME}}}`; any other use
/// of the attribute may tell all lists apart. Values are on hundreds of combinations of lists, policies ask for a few.
fn lists_in(json: &serde_json::Value, lists: &mut ListReads) {
    match json {
        serde_json::Value::Object(map) => {
            if let Some(name) = map.get("contains").and_then(named_list) {
                if let ListReads::Named(names) = lists {
                    names.insert(name.to_owned());
                }
                return;
            }
            if map.get("attr").and_then(serde_json::Value::as_str) == Some("lists") {
                *lists = ListReads::All;
            }
            map.values().for_each(|value| lists_in(value, lists));
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| lists_in(item, lists)),
        _ => (),
    }
}

fn named_list(contains: &serde_json::Value) -> Option<&str> {
    let attribute = contains.pointer("/left/./attr")?.as_str()?;
    let name = contains.pointer("/right/Value")?.as_str()?;
    let simple = contains.pointer("/left/./left/Var").is_some();
    (attribute == "lists" && simple).then_some(name)
}

fn offset_of(error: &dyn miette::Diagnostic) -> Option<usize> {
    error.labels()?.next().map(|label| label.offset())
}

/// The validator begins with "for policy `policy3`, ", a number that the reader of a file does not know.
fn plain_validation(text: &str) -> String {
    match text.strip_prefix("for policy ").and_then(|rest| rest.split_once(", ")) {
        Some((_, rest)) => rest.to_owned(),
        None => text.to_owned(),
    }
}

/// The attribute or action that a misspelt word in a message was most likely meant to be.
fn hint_for(message: &str) -> Option<String> {
    let words = ["standing", "country", "origin", "accept", "hold", "share", "enforce", "Member", "Outlet", "Record"];
    let known = || ATTRIBUTES.into_iter().chain(words);
    if message.contains("did you mean") {
        return None;
    }
    message.split('`').skip(1).step_by(2).find_map(|word| {
        let word = word.trim_matches('"').rsplit(['"', ':']).find(|part| !part.is_empty())?;
        if known().any(|name| name == word) { None } else { nearest(word, known()) }
    })
}
