//! Judging: Cedar decides, a memo remembers.
//!
//! One Cedar evaluation costs 12-25 us, a thousand times a hash. Most records of a feed look alike to a policy, so a
//! decision is remembered under exactly those attributes that the loaded policies read. A value is never an attribute,
//! only the lists that it is on.

use crate::{
    charter::MemberKind,
    envelope::Hash,
    record::{Kind, MemberId, ObservableType, Role, Tlp, Use, nearest},
};
use cedar_policy::{
    Authorizer, Context, Decision, Effect, Entities, Entity, EntityUid, PolicyId, PolicySet, Request, RestrictedExpression, Schema,
    ValidationMode, Validator,
};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

/// The schema that every policy is checked against.
pub const SCHEMA: &str = include_str!("../../node-config/policy.cedarschema");
/// What a new node starts with.
pub const STARTER_POLICY: &str = include_str!("../../node-config/policy.cedar");
/// Most remembered judgements: 64 Ki of about 300 bytes are 20 MiB. When it is full it starts anew.
pub const MEMO_ENTRIES_MAX: usize = 64 * 1024;
/// Confidence of a record whose author gave none.
pub const CONFIDENCE_UNSAID: u8 = 50;

/// What a policy may know about a record.
#[derive(Clone, Debug)]
pub struct Case<'a> {
    pub origin: &'a MemberId,
    pub origin_kind: MemberKind,
    pub origin_country: Option<&'a str>,
    pub standing: &'static str,
    pub channel: &'a str,
    pub kind: Kind,
    pub value_type: Option<ObservableType>,
    pub role: Role,
    pub usage: Use,
    pub tlp: Tlp,
    pub audience: &'a str,
    pub confidence: u8,
    pub tags: &'a [String],
    pub age_days: u32,
    pub expired: bool,
    pub lists: &'a BTreeSet<&'a str>,
    pub list_roles: &'a BTreeSet<&'static str>,
    pub disputed_by: &'a BTreeSet<MemberId>,
}

/// What becomes of a record here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Kept and answered from.
    Accept,
    /// Kept aside for a person.
    Hold,
    /// Not answered from.
    Refuse,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.pad(match self {
            Self::Accept => "accepted",
            Self::Hold => "held",
            Self::Refuse => "refused",
        })
    }
}

/// A verdict with the policies that made it and what they ask for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Judgement {
    pub verdict: Verdict,
    /// Ids of the deciding policies; empty when no policy permits it.
    pub policies: Vec<String>,
    /// Their @reason sentences, in the same order.
    pub reasons: Vec<String>,
    /// The strictest @confidence_cap among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence_cap: Option<u8>,
    /// The strictest @expires_in_days among them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_days: Option<u32>,
}

impl Judgement {
    /// A judgement that charter or form made, before any policy was asked.
    pub fn by_rule(verdict: Verdict, rule: &str, reason: impl Into<String>) -> Self {
        let (policies, reasons) = (vec![format!("rule:{rule}")], vec![reason.into()]);
        Self { verdict, policies, reasons, confidence_cap: None, expires_in_days: None }
    }

    /// One sentence for people.
    pub fn sentence(&self) -> String {
        if self.policies.is_empty() {
            return format!("{}: no policy permits it", self.verdict);
        }
        let because = self.policies.iter().zip(&self.reasons).map(|(id, reason)| match reason.as_str() {
            "" => format!("policy `{id}`"),
            reason => format!("{reason} (policy `{id}`)"),
        });
        format!("{}: {}", self.verdict, because.collect::<Vec<_>>().join("; "))
    }
}

/// Why a policy text is refused; the one in force stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    #[error("{file}:{line}: {what}{hint}")]
    Text { file: String, line: usize, what: String, hint: String },
    #[error("{file}: it holds no policy, so nothing would be accepted; keep one permit at least")]
    Empty { file: String },
    #[error("{file}: two policies have the @id `{id}`")]
    SameId { file: String, id: String },
    #[error("{file}: @{annotation} of policy `{id}` is not a number in range")]
    Obligation { file: String, id: String, annotation: &'static str },
}

/// Attributes of a [`Case`] that a policy may read, in memo order. The origin is always part of the memo's key.
const ATTRIBUTES: [&str; 14] = [
    "channel",
    "kind",
    "type",
    "role",
    "use",
    "tlp",
    "audience",
    "confidence",
    "tags",
    "age_days",
    "expired",
    "lists",
    "list_roles",
    "disputed_by",
];

/// Writes one attribute of a case into a memo key.
type WriteField<'a> = &'a dyn Fn(&mut Vec<u8>);

struct Obligations {
    reason: String,
    confidence_cap: Option<u8>,
    expires_in_days: Option<u32>,
}

/// A checked set of policies, ready to judge.
pub struct Policy {
    set: PolicySet,
    authorizer: Authorizer,
    accept: EntityUid,
    hold: EntityUid,
    record: EntityUid,
    hash: Hash,
    obligations: HashMap<PolicyId, Obligations>,
    reads: [bool; ATTRIBUTES.len()],
    memo: Mutex<HashMap<Vec<u8>, Arc<Judgement>>>,
}

impl std::fmt::Debug for Policy {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Policy({})", self.hash.short())
    }
}

impl Policy {
    /// Reads and checks a policy text; `file` is for messages. Nothing but a text without any error gives a policy.
    pub fn parse(file: &str, text: &str) -> Result<Self, PolicyError> {
        let fail = |offset: Option<usize>, what: String| {
            let line = 1 + text.get(..offset.unwrap_or(0)).unwrap_or_default().matches('\n').count();
            let hint = hint_for(&what).map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
            PolicyError::Text { file: file.to_owned(), line, what, hint }
        };
        let parsed: PolicySet = text.parse().map_err(|error: cedar_policy::ParseErrors| {
            let first = error.iter().next();
            let offset = first.and_then(|one| miette_offset(one));
            fail(offset, first.map_or_else(|| error.to_string(), ToString::to_string))
        })?;
        let (schema, _warnings) = Schema::from_cedarschema_str(SCHEMA).map_err(|error| fail(None, error.to_string()))?;
        let checked = Validator::new(schema).validate(&parsed, ValidationMode::Strict);
        if let Some(error) = checked.validation_errors().next() {
            let place = parsed.policy(error.policy_id()).map(|policy| policy.to_string());
            let offset = miette_offset(error).or_else(|| place.and_then(|source| text.find(source.lines().next()?)));
            return Err(fail(offset, plain_validation(&error.to_string())));
        }
        if parsed.is_empty() {
            return Err(PolicyError::Empty { file: file.to_owned() });
        }
        Self::named(file, parsed, Hash::of(text.as_bytes()))
    }

    /// Renames every policy to its @id and reads the obligations.
    fn named(file: &str, parsed: PolicySet, hash: Hash) -> Result<Self, PolicyError> {
        let mut set = PolicySet::new();
        let mut obligations = HashMap::new();
        let mut read = BTreeSet::new();
        for policy in parsed.policies() {
            let name = policy.annotation("id").map_or_else(|| policy.id().to_string(), str::to_owned);
            let id = PolicyId::new(&name);
            let number = |annotation: &'static str, max: u32| match policy.annotation(annotation) {
                None => Ok(None),
                Some(text) => match text.parse::<u32>() {
                    Ok(number) if number <= max => Ok(Some(number)),
                    _ => Err(PolicyError::Obligation { file: file.to_owned(), id: name.clone(), annotation }),
                },
            };
            let cap = number("confidence_cap", 100)?.map(|cap| u8::try_from(cap).unwrap_or(100));
            let reason = policy.annotation("reason").unwrap_or_default().to_owned();
            let asked = Obligations { reason, confidence_cap: cap, expires_in_days: number("expires_in_days", 36_500)? };
            match policy.to_json() {
                Ok(json) => attributes_in(&json, &mut read),
                Err(_) => read.extend(ATTRIBUTES.map(str::to_owned)),
            }
            obligations.insert(id.clone(), asked);
            set.add(policy.new_id(id)).map_err(|_| PolicyError::SameId { file: file.to_owned(), id: name })?;
        }
        Ok(Self {
            set,
            authorizer: Authorizer::new(),
            accept: uid("Action", "accept"),
            hold: uid("Action", "hold"),
            record: uid("Record", "this"),
            hash,
            obligations,
            reads: ATTRIBUTES.map(|name| read.contains(name)),
            memo: Mutex::new(HashMap::new()),
        })
    }

    /// SHA-256 of the text, which goes into the journal with every verdict.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// Accept, hold or refuse. The same case always gets the same answer, remembered or not.
    pub fn judge(&self, case: &Case<'_>) -> Arc<Judgement> {
        let key = self.memo_key(case);
        let mut memo = self.memo.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = memo.get(&key) {
            return Arc::clone(known);
        }
        let judgement = Arc::new(self.evaluate(case));
        if memo.len() >= MEMO_ENTRIES_MAX {
            memo.clear();
        }
        memo.insert(key, Arc::clone(&judgement));
        judgement
    }

    /// The answer of Cedar itself, without the memo.
    pub fn evaluate(&self, case: &Case<'_>) -> Judgement {
        let principal = uid("Member", case.origin.as_str());
        let entities = match self.entities(case, &principal) {
            Ok(entities) => entities,
            Err(error) => return Judgement::by_rule(Verdict::Refuse, "unreadable", error),
        };
        let hold = self.ask(&self.hold, &principal, &entities);
        if let Some((Decision::Allow, policies)) = &hold {
            return self.judgement(Verdict::Hold, policies);
        }
        match self.ask(&self.accept, &principal, &entities) {
            Some((Decision::Allow, policies)) => self.judgement(Verdict::Accept, &policies),
            Some((Decision::Deny, policies)) => self.judgement(Verdict::Refuse, &policies),
            None => Judgement::by_rule(Verdict::Refuse, "unreadable", "the policies could not be evaluated"),
        }
    }

    /// Asks Cedar for one action; `None` if it could not even form the question. A policy that fails to evaluate decides
    /// nothing, but where any *forbid* fails nothing is allowed: in doubt, out.
    fn ask(&self, action: &EntityUid, principal: &EntityUid, entities: &Entities) -> Option<(Decision, Vec<PolicyId>)> {
        let request = Request::new(principal.clone(), action.clone(), self.record.clone(), Context::empty(), None).ok()?;
        let response = self.authorizer.is_authorized(&request, &self.set, entities);
        let diagnostics = response.diagnostics();
        let forbids = |id: &PolicyId| self.set.policy(id).is_some_and(|policy| policy.effect() == Effect::Forbid);
        let broken = diagnostics.errors().any(|cedar_policy::AuthorizationError::PolicyEvaluationError(error)| forbids(error.policy_id()));
        let mut policies: Vec<PolicyId> = diagnostics.reason().cloned().collect();
        policies.sort_by_key(ToString::to_string);
        let decision = if broken { Decision::Deny } else { response.decision() };
        Some((decision, policies))
    }

    fn judgement(&self, verdict: Verdict, policies: &[PolicyId]) -> Judgement {
        let asked = || policies.iter().filter_map(|id| self.obligations.get(id));
        Judgement {
            verdict,
            policies: policies.iter().map(ToString::to_string).collect(),
            reasons: asked().map(|one| one.reason.clone()).collect(),
            confidence_cap: asked().filter_map(|one| one.confidence_cap).min(),
            expires_in_days: asked().filter_map(|one| one.expires_in_days).min(),
        }
    }

    fn entities(&self, case: &Case<'_>, principal: &EntityUid) -> Result<Entities, String> {
        let text = |value: &str| RestrictedExpression::new_string(value.to_owned());
        let texts = |values: &mut dyn Iterator<Item = &str>| RestrictedExpression::new_set(values.map(text));
        let mut member = HashMap::from([("kind".to_owned(), text(case.origin_kind.name())), ("standing".to_owned(), text(case.standing))]);
        if let Some(country) = case.origin_country {
            member.insert("country".to_owned(), text(country));
        }
        let record = HashMap::from([
            ("origin".to_owned(), RestrictedExpression::new_entity_uid(principal.clone())),
            ("channel".to_owned(), text(case.channel)),
            ("kind".to_owned(), text(case.kind.name())),
            ("type".to_owned(), text(case.value_type.map_or("", ObservableType::name))),
            ("role".to_owned(), text(case.role.name())),
            ("use".to_owned(), text(case.usage.name())),
            ("tlp".to_owned(), text(case.tlp.name())),
            ("audience".to_owned(), text(case.audience)),
            ("confidence".to_owned(), RestrictedExpression::new_long(i64::from(case.confidence))),
            ("tags".to_owned(), texts(&mut case.tags.iter().map(String::as_str))),
            ("age_days".to_owned(), RestrictedExpression::new_long(i64::from(case.age_days))),
            ("expired".to_owned(), RestrictedExpression::new_bool(case.expired)),
            ("lists".to_owned(), texts(&mut case.lists.iter().copied())),
            ("list_roles".to_owned(), texts(&mut case.list_roles.iter().copied())),
            ("disputed_by".to_owned(), texts(&mut case.disputed_by.iter().map(MemberId::as_str))),
        ]);
        let member = Entity::new(principal.clone(), member, HashSet::new()).map_err(|error| error.to_string())?;
        let record = Entity::new(self.record.clone(), record, HashSet::new()).map_err(|error| error.to_string())?;
        Entities::from_entities([member, record], None).map_err(|error| error.to_string())
    }

    /// Exactly what the policies can see of the case: who speaks, and the attributes they read. Fields are terminated by
    /// a byte that no text holds (0xff), so that two cases never share a key.
    fn memo_key(&self, case: &Case<'_>) -> Vec<u8> {
        let fields: [WriteField<'_>; ATTRIBUTES.len()] = [
            &|key| put(key, case.channel.as_bytes()),
            &|key| put(key, &[case.kind as u8]),
            &|key| put(key, &[case.value_type.map_or(0, |kind| kind as u8)]),
            &|key| put(key, &[case.role as u8]),
            &|key| put(key, &[case.usage as u8]),
            &|key| put(key, &[case.tlp as u8]),
            &|key| put(key, case.audience.as_bytes()),
            &|key| put(key, &[case.confidence]),
            &|key| case.tags.iter().for_each(|tag| put(key, tag.as_bytes())),
            &|key| put(key, case.age_days.to_string().as_bytes()),
            &|key| put(key, &[u8::from(case.expired)]),
            &|key| case.lists.iter().for_each(|name| put(key, name.as_bytes())),
            &|key| case.list_roles.iter().for_each(|name| put(key, name.as_bytes())),
            &|key| case.disputed_by.iter().for_each(|name| put(key, name.as_str().as_bytes())),
        ];
        let mut key = Vec::with_capacity(96);
        put(&mut key, case.origin.as_str().as_bytes());
        put(&mut key, &[case.origin_kind as u8]);
        put(&mut key, case.origin_country.unwrap_or_default().as_bytes());
        put(&mut key, case.standing.as_bytes());
        for (_, write) in self.reads.iter().zip(fields).filter(|(read, _)| **read) {
            write(&mut key);
            put(&mut key, &[]);
        }
        key
    }
}

/// Appends a field of a memo key and the byte that ends it, which is in no UTF-8 text and in none of our numbers.
fn put(key: &mut Vec<u8>, field: &[u8]) {
    key.extend_from_slice(field);
    key.push(0xff);
}

fn uid(kind: &str, id: &str) -> EntityUid {
    // INVARIANT: `kind` is one of our four literal type names, which parse.
    let name = kind.parse().unwrap_or_else(|_| unreachable!("`{kind}` is a Cedar type name"));
    EntityUid::from_type_name_and_id(name, cedar_policy::EntityId::new(id))
}

/// Collects every attribute name that a policy's JSON form mentions: `{".": {"left": .., "attr": NAME}}`, the same with
/// `has`. Too many only make the memo finer, so nothing clever is tried.
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

fn miette_offset(error: &dyn miette::Diagnostic) -> Option<usize> {
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
    let known = || ATTRIBUTES.into_iter().chain(["standing", "country", "origin", "origins", "accept", "hold", "share", "enforce"]);
    if message.contains("did you mean") {
        return None;
    }
    message.split('`').skip(1).step_by(2).find_map(|word| {
        let word = word.trim_matches('"').rsplit(['"', ':']).find(|part| !part.is_empty())?;
        if known().any(|name| name == word) { None } else { nearest(word, known()) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_case<T>(change: impl FnOnce(&mut Case<'_>), then: impl FnOnce(&Case<'_>) -> T) -> T {
        let (origin, lists, roles, disputed) = ("talos".parse().unwrap(), BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let mut case = Case {
            origin: &origin,
            origin_kind: MemberKind::Vendor,
            origin_country: None,
            standing: "good",
            channel: "c2",
            kind: Kind::Indicator,
            value_type: Some(ObservableType::Domain),
            role: Role::Attacker,
            usage: Use::Block,
            tlp: Tlp::Green,
            audience: "federation",
            confidence: 80,
            tags: &[],
            age_days: 0,
            expired: false,
            lists: &lists,
            list_roles: &roles,
            disputed_by: &disputed,
        };
        change(&mut case);
        then(&case)
    }

    fn starter() -> Policy {
        Policy::parse("policy.cedar", STARTER_POLICY).unwrap()
    }

    #[test]
    fn the_starter_policy_accepts_holds_and_refuses_as_it_says() {
        let policy = starter();
        let decide = |change: fn(&mut Case<'_>)| {
            with_case(change, |case| {
                let judged = policy.judge(case);
                (judged.verdict, judged.policies.join(","))
            })
        };
        assert_eq!(decide(|_| ()), (Verdict::Accept, "members-in-good-standing".to_owned()));
        assert_eq!(decide(|case| case.standing = "ended"), (Verdict::Refuse, String::new()));
        assert_eq!(decide(|case| case.expired = true), (Verdict::Refuse, "expired".to_owned()));
        let warned = BTreeSet::from(["warns"]);
        let reserved = BTreeSet::from(["private-and-reserved"]);
        with_case(
            |_| (),
            |case| {
                let held = policy.judge(&Case { list_roles: &warned, ..case.clone() });
                assert_eq!((held.verdict, held.policies.join(",")), (Verdict::Hold, "on-a-warning-list".to_owned()));
                let refused = policy.judge(&Case { list_roles: &warned, lists: &reserved, ..case.clone() });
                assert_eq!((refused.verdict, refused.policies.join(",")), (Verdict::Refuse, "private-or-reserved".to_owned()));
            },
        );
    }

    #[test]
    fn an_answer_without_a_policy_says_so() {
        let sentence = with_case(|case| case.standing = "revoked", |case| starter().judge(case).sentence());
        assert_eq!(sentence, "refused: no policy permits it");
    }

    #[test]
    fn p_06_a_policy_with_a_typo_is_refused_with_its_line_and_the_nearest_name() {
        let check = |text: &str, expected: &str| {
            let error = Policy::parse("policy.cedar", text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(
            "permit (principal, action == Action::\"accept\", resource)\nwhen { resource.confidance > 3 };",
            "did you mean `confidence`?",
        );
        check("permit (principal, action == Action::\"acept\", resource);", "accept");
        check("\n\npermit (principal, action, resource", "policy.cedar:3");
        check("", "it holds no policy");
        check("@id(\"a\") permit (principal, action, resource); @id(\"a\") forbid (principal, action, resource);", "two policies");
        check("@confidence_cap(\"101\") permit (principal, action, resource);", "not a number in range");
    }

    #[test]
    fn the_strictest_obligation_counts() {
        let policy = Policy::parse(
            "p",
            "@id(\"a\") @confidence_cap(\"60\") @expires_in_days(\"30\") permit (principal, action, resource) when { false };
             @id(\"b\") @confidence_cap(\"70\") @expires_in_days(\"9\") permit (principal, action == Action::\"accept\", resource);
             @id(\"c\") @confidence_cap(\"40\") permit (principal, action == Action::\"accept\", resource);",
        )
        .unwrap();
        let judged = with_case(|_| (), |case| policy.judge(case));
        assert_eq!((judged.confidence_cap, judged.expires_in_days), (Some(40), Some(9)));
    }

    proptest::proptest! {
        #[test]
        fn the_memo_answers_as_cedar_itself(confidence in 0u8..=100, age in 0u32..40, expired: bool, warns: bool, standing in 0usize..3, tlp in 0usize..5) {
            thread_local!(static POLICY: Policy = starter());
            let roles = if warns { BTreeSet::from(["warns"]) } else { BTreeSet::new() };
            with_case(|_| (), |case| POLICY.with(|policy| {
                let case = Case {
                    confidence, age_days: age, expired, list_roles: &roles, tlp: Tlp::ALL[tlp],
                    standing: ["good", "ended", "revoked"][standing], ..case.clone()
                };
                assert_eq!(*policy.judge(&case), policy.evaluate(&case));
                assert_eq!(*policy.judge(&case), policy.evaluate(&case), "remembered");
            }));
        }
    }
}
