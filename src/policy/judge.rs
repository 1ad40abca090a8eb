//! Judging: Cedar decides, a memo remembers.
//!
//! One Cedar evaluation costs 12-25 us, a thousand times a hash. Most records of a feed look alike to a policy, so a
//! decision is remembered under exactly those attributes that the policies of its action read. A value is never an
//! attribute, only the lists that it is on.

use super::{
    Piece, PolicyError,
    case::{Case, Key, OutletName, Party, Reads, put, put_party, text},
    text::{Action, Checked, Part, Terms, check},
    verdict::{Judgement, Permission, Verdict},
};
use crate::envelope::Hash;
use cedar_policy::{
    AuthorizationError, Authorizer, Context, Decision, Effect, Entities, Entity, EntityId, EntityTypeName, EntityUid, PolicyId, Request,
};
use hashbrown::HashMap;
use std::{
    collections::{HashMap as StdHashMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// Most remembered decisions of a kind: 64 Ki of about 300 bytes are 20 MiB. When it is full it starts anew.
pub const MEMO_ENTRIES_MAX: usize = 64 * 1024;

/// Decisions by what the policies could see.
struct Memo<T> {
    known: Mutex<HashMap<Key, Arc<T>>>,
    hits: AtomicU64,
    misses: AtomicU64,
}

impl<T> Memo<T> {
    fn new() -> Self {
        Self { known: Mutex::new(HashMap::new()), hits: AtomicU64::new(0), misses: AtomicU64::new(0) }
    }

    fn get(&self, key: Key, decide: impl FnOnce() -> T) -> Arc<T> {
        if let Some(known) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            self.hits.fetch_add(1, Ordering::Relaxed);
            return Arc::clone(known);
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        let decided = Arc::new(decide());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MEMO_ENTRIES_MAX {
            known.clear();
        }
        known.insert(key, Arc::clone(&decided));
        decided
    }
}

/// A checked set of policies, ready to judge.
pub struct Policy {
    pieces: Vec<Piece>,
    parts: StdHashMap<Action, Part>,
    /// What accepting and holding read together.
    judging: Reads,
    terms: StdHashMap<PolicyId, Terms>,
    hash: Hash,
    authorizer: Authorizer,
    types: Types,
    judgements: Memo<Judgement>,
    permissions: Memo<Permission>,
}

/// Type names of the schema, parsed once.
struct Types {
    member: EntityTypeName,
    outlet: EntityTypeName,
    record: EntityUid,
    actions: StdHashMap<Action, EntityUid>,
}

impl Types {
    fn new() -> Option<Self> {
        let (action, record) = ("Action".parse().ok()?, "Record".parse().ok()?);
        let of = |one: Action| (one, EntityUid::from_type_name_and_id(EntityTypeName::clone(&action), EntityId::new(one.name())));
        Some(Self {
            member: "Member".parse().ok()?,
            outlet: "Outlet".parse().ok()?,
            record: EntityUid::from_type_name_and_id(record, EntityId::new("this")),
            actions: Action::ALL.into_iter().map(of).collect(),
        })
    }
}

impl std::fmt::Debug for Policy {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Policy({})", self.hash.short())
    }
}

/// What Cedar said of one action.
struct Ruling {
    allowed: bool,
    policies: Vec<PolicyId>,
}

impl Policy {
    /// Reads and checks one policy text; `file` is for messages.
    pub fn parse(file: &str, text: &str) -> Result<Self, PolicyError> {
        Self::of(vec![Piece::new(file, text)])
    }

    /// Reads and checks several texts that are in force together. Nothing but texts without any error give a policy.
    pub fn of(pieces: Vec<Piece>) -> Result<Self, PolicyError> {
        let Checked { parts, terms, hash } = check(&pieces)?;
        // INVARIANT: the four names are Cedar type names.
        let types = Types::new().ok_or_else(|| PolicyError::Empty { file: "schema".to_owned() })?;
        let (authorizer, judgements, permissions) = (Authorizer::new(), Memo::new(), Memo::new());
        let judging = [Action::Accept, Action::Hold].iter().filter_map(|action| parts.get(action));
        let judging = judging.fold(Reads::default(), |all, part| all.with(&part.reads));
        Ok(Self { pieces, parts, judging, terms, hash, authorizer, types, judgements, permissions })
    }

    /// SHA-256 over the texts, which goes into the journal with every verdict.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// The texts.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The text of one policy.
    pub fn text_of(&self, id: &str) -> Option<&str> {
        self.terms.get(&PolicyId::new(id)).map(|terms| terms.text.as_str())
    }

    /// Whether corroboration has a say in what is enforced.
    pub fn asks_for_origins(&self) -> bool {
        self.parts.get(&Action::Enforce).is_some_and(|part| part.reads.reads("origins"))
    }

    /// How many policies there are.
    pub fn count(&self) -> usize {
        self.terms.len()
    }

    /// Decisions remembered, and decisions made, since this policy is in force.
    pub fn memo_counts(&self) -> (u64, u64) {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (of(&self.judgements.hits) + of(&self.permissions.hits), of(&self.judgements.misses) + of(&self.permissions.misses))
    }

    /// Accept, hold or refuse. The same case always gets the same answer, remembered or not.
    pub fn judge(&self, case: &Case<'_>) -> Arc<Judgement> {
        let mut key = Key::new();
        case.write_key(&self.judging, &mut key);
        self.judgements.get(key, || self.evaluate(case))
    }

    /// The answer of Cedar itself, without the memo.
    pub fn evaluate(&self, case: &Case<'_>) -> Judgement {
        let principal = self.member(&case.origin);
        let entities = match self.entities(case, None) {
            Ok(entities) => entities,
            Err(error) => return Judgement::by_rule(Verdict::Refuse, "unreadable", error),
        };
        let Some(hold) = self.ask(Action::Hold, &principal, &entities) else { return Self::unanswered() };
        if hold.allowed {
            return self.judgement(Verdict::Hold, &hold.policies);
        }
        match self.ask(Action::Accept, &principal, &entities) {
            Some(Ruling { allowed: true, policies }) => self.judgement(Verdict::Accept, &policies),
            Some(Ruling { allowed: false, policies }) => self.judgement(Verdict::Refuse, &policies),
            None => Self::unanswered(),
        }
    }

    fn unanswered() -> Judgement {
        Judgement::by_rule(Verdict::Refuse, "unreadable", "the policies could not be evaluated")
    }

    /// Whether what is served is decided batch by batch: no policy about it asks for anything that differs between the records
    /// of a batch.
    pub fn shares_by_batch(&self) -> bool {
        self.parts.get(&Action::Share).is_none_or(|part| part.reads.only_of_heads())
    }

    /// Whether the record is served to `reader`. Audience and marking are checked apart from this.
    pub fn shares(&self, case: &Case<'_>, reader: &Party<'_>) -> Arc<Permission> {
        let mut key = self.key(Action::Share, case);
        put_party(&mut key, reader);
        self.permissions.get(key, || self.evaluate_share(case, reader))
    }

    /// As [`Self::shares`], without the memo.
    pub fn evaluate_share(&self, case: &Case<'_>, reader: &Party<'_>) -> Permission {
        let principal = self.member(reader);
        let other =
            reader.entity(principal.clone()).and_then(|entity| self.entities(case, (reader.id != case.origin.id).then_some(entity)));
        self.permission(Action::Share, &principal, other)
    }

    /// Whether the record may block or alert at `outlet`.
    pub fn enforces(&self, case: &Case<'_>, outlet: OutletName<'_>) -> Arc<Permission> {
        let mut key = self.key(Action::Enforce, case);
        put(&mut key, outlet.name.as_bytes());
        key.push(outlet.kind as u8);
        self.permissions.get(key, || self.evaluate_enforce(case, outlet))
    }

    /// As [`Self::enforces`], without the memo.
    pub fn evaluate_enforce(&self, case: &Case<'_>, outlet: OutletName<'_>) -> Permission {
        let principal = EntityUid::from_type_name_and_id(self.types.outlet.clone(), EntityId::new(outlet.name));
        let kind = StdHashMap::from([("kind".to_owned(), text(outlet.kind.name()))]);
        let entity = Entity::new(principal.clone(), kind, HashSet::new()).map_err(|error| error.to_string());
        self.permission(Action::Enforce, &principal, entity.and_then(|entity| self.entities(case, Some(entity))))
    }

    fn key(&self, action: Action, case: &Case<'_>) -> Key {
        let mut key = Key::new();
        key.push(action as u8);
        if let Some(part) = self.parts.get(&action) {
            case.write_key(&part.reads, &mut key);
        }
        key
    }

    /// Asks Cedar for one action; `None` if it could not even form the question. A policy that fails to evaluate decides
    /// nothing, but where any *forbid* fails nothing is allowed: in doubt, out.
    fn ask(&self, action: Action, principal: &EntityUid, entities: &Entities) -> Option<Ruling> {
        let Some(part) = self.parts.get(&action) else { return Some(Ruling { allowed: false, policies: Vec::new() }) };
        let action = self.types.actions.get(&action)?.clone();
        let request = Request::new(principal.clone(), action, self.types.record.clone(), Context::empty(), None).ok()?;
        let response = self.authorizer.is_authorized(&request, &part.set, entities);
        let diagnostics = response.diagnostics();
        let forbids = |id: &PolicyId| part.set.policy(id).is_some_and(|policy| policy.effect() == Effect::Forbid);
        let broken = diagnostics.errors().any(|AuthorizationError::PolicyEvaluationError(error)| forbids(error.policy_id()));
        let mut policies: Vec<PolicyId> = diagnostics.reason().cloned().collect();
        policies.sort_by_key(ToString::to_string);
        Some(Ruling { allowed: !broken && response.decision() == Decision::Allow, policies })
    }

    fn judgement(&self, verdict: Verdict, policies: &[PolicyId]) -> Judgement {
        let asked = || policies.iter().filter_map(|id| self.terms.get(id));
        Judgement {
            verdict,
            policies: policies.iter().map(ToString::to_string).collect(),
            reasons: asked().map(|one| one.reason.clone()).collect(),
            confidence_cap: asked().filter_map(|one| one.confidence_cap).min(),
            expires_in_days: asked().filter_map(|one| one.expires_in_days).min(),
        }
    }

    fn permission(&self, action: Action, principal: &EntityUid, entities: Result<Entities, String>) -> Permission {
        let ruling = match entities {
            Ok(entities) => self.ask(action, principal, &entities),
            Err(error) => return Permission::refused("unreadable", error),
        };
        let Some(Ruling { allowed, policies }) = ruling else {
            return Permission::refused("unreadable", "the policies could not be evaluated");
        };
        let Judgement { policies, reasons, .. } = self.judgement(Verdict::Refuse, &policies);
        Permission { permitted: allowed, policies, reasons }
    }

    fn member(&self, party: &Party<'_>) -> EntityUid {
        EntityUid::from_type_name_and_id(self.types.member.clone(), EntityId::new(party.id.as_str()))
    }

    fn entities(&self, case: &Case<'_>, other: Option<Entity>) -> Result<Entities, String> {
        let origin = self.member(&case.origin);
        let record = case.record(self.types.record.clone(), origin.clone())?;
        let all = [case.origin.entity(origin)?, record].into_iter().chain(other);
        Entities::from_entities(all, None).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests;
