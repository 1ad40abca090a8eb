//! Operators: which person asks, what that person may do here, and the note of what was done.
//!
//! The Unix socket names the local account; `[[operators]]` in `node.toml` names the person. With no operator configured
//! whoever may open the socket may do everything, as befits a node that one person keeps. What needs two people needs two
//! signatures by operators' own keys, so that one account, or one stolen session, is never enough.

use super::{ApiError, Local};
use crate::{
    config::{OperatorConfig, Role},
    envelope::{Domain, FederationId, PublicKey, SecretKey},
    node::door::Request,
    record::{DAY_MS, Timestamp, Tlp},
};
use axum::{
    extract::State,
    http::{Request as HttpRequest, StatusCode},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

/// Decisions that wait for a second person.
const PENDING_MAX: usize = 64;

/// A person at this node.
#[derive(Clone, Debug)]
pub struct Operator {
    pub name: String,
    pub roles: BTreeSet<Role>,
    pub clearance: Tlp,
    pub key: Option<PublicKey>,
    uid: Option<u32>,
}

impl Operator {
    /// Whoever may open the socket of a node that names no operators.
    fn keeper(uid: u32) -> Self {
        let roles = Role::ALL.iter().copied().collect();
        Self { name: format!("uid:{uid}"), roles, clearance: Tlp::Red, key: None, uid: Some(uid) }
    }
}

/// The local account at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Caller(pub u32);

/// What a handler says of what it did, for the journal.
#[derive(Clone, Debug)]
pub struct Deed(pub String);

/// What a handler says that has changed nothing.
#[derive(Clone, Copy, Debug)]
pub struct NoDeed;

/// The people of this node.
#[derive(Clone, Default)]
pub struct Operators {
    known: Arc<Vec<Operator>>,
    /// Who has signed a decision that needs two, by what was signed: the decision and its day.
    pending: Arc<Mutex<BTreeMap<Vec<u8>, BTreeSet<String>>>>,
}

impl Operators {
    /// The operators of a configuration whose words were checked when it was read.
    pub fn of(config: &[OperatorConfig]) -> Self {
        let operator = |one: &OperatorConfig| {
            let account = one.user.as_deref().unwrap_or(&one.name);
            Operator {
                name: one.name.clone(),
                roles: one.roles().unwrap_or_default(),
                clearance: Tlp::parse(&one.clearance).unwrap_or(Tlp::Clear),
                key: one.key().ok().flatten(),
                uid: nix::unistd::User::from_name(account).ok().flatten().map(|user| user.uid.as_raw()),
            }
        };
        Self { known: Arc::new(config.iter().map(operator).collect()), pending: Arc::default() }
    }

    /// Who asks.
    fn asking(&self, caller: Caller) -> Result<Operator, ApiError> {
        if self.known.is_empty() {
            return Ok(Operator::keeper(caller.0));
        }
        let found = self.known.iter().find(|one| one.uid == Some(caller.0)).cloned();
        found.ok_or_else(|| {
            let account =
                nix::unistd::User::from_uid(caller.0.into()).ok().flatten().map_or_else(|| caller.0.to_string(), |user| user.name);
            ApiError::forbidden(format!(
                "the account `{account}` is no operator of this node; an [[operators]] entry in node.toml makes it one"
            ))
        })
    }

    /// Whether a decision that forces something needs two people: as soon as two could make it.
    pub fn two_needed(&self) -> bool {
        self.known.iter().filter(|one| one.key.is_some() && one.roles.contains(&Role::Decides)).count() >= 2
    }

    /// Counts a signature under a decision. Answers who has signed by now; with two it is made, and forgotten here.
    pub fn sign(
        &self,
        federation: &FederationId,
        decision: &str,
        name: &str,
        signature: &[u8; 64],
        now: Timestamp,
    ) -> Result<Vec<String>, ApiError> {
        let operator = self.known.iter().find(|one| one.name == name && one.roles.contains(&Role::Decides));
        let operator = operator.ok_or_else(|| ApiError::forbidden(format!("`{name}` is no operator with the role `decides`")))?;
        let key = operator.key.ok_or_else(|| ApiError::forbidden(format!("`{name}` has no key in node.toml to sign with")))?;
        let message = decision_message(federation, decision, now);
        if !key.verify(&message, signature) {
            return Err(ApiError::forbidden(format!(
                "the signature of `{name}` does not verify; decisions are signed on the day they are made"
            )));
        }
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if pending.len() >= PENDING_MAX && !pending.contains_key(&message) {
            pending.clear();
        }
        let signed = pending.entry(message.clone()).or_default();
        signed.insert(name.to_owned());
        let names: Vec<String> = signed.iter().cloned().collect();
        if names.len() >= 2 {
            pending.remove(&message);
        }
        Ok(names)
    }
}

/// Counts a signature that came with a request; `unsigned` is said where there is none. Answers who has signed by now.
pub(super) fn signed(
    local: &Local,
    text: &str,
    name: Option<&str>,
    signature: Option<&str>,
    unsigned: &str,
) -> Result<Vec<String>, ApiError> {
    let (Some(name), Some(signature)) = (name, signature) else { return Err(ApiError::forbidden(unsigned)) };
    let mut bytes = [0; 64];
    hex::decode_to_slice(signature, &mut bytes).map_err(ApiError::bad)?;
    let federation = local.current.get().roster.federation();
    local.operators.sign(&federation, text, name, &bytes, local.clock.now())
}

/// What an operator signs: the decision and the day, for this federation and purpose. A signature of yesterday decides
/// nothing today.
pub fn decision_message(federation: &FederationId, decision: &str, now: Timestamp) -> Vec<u8> {
    [&Domain::Decision.external_aad(federation)[..], &(now.ms() / DAY_MS).to_be_bytes(), decision.as_bytes()].concat()
}

/// An operator's signature under a decision.
pub fn sign_decision(key: &SecretKey, federation: &FederationId, decision: &str, now: Timestamp) -> [u8; 64] {
    key.sign(&decision_message(federation, decision, now))
}

/// Lets a request pass if its operator has the role, gives the operator to the handler, and journals what was done.
pub(super) async fn check(State((local, role)): State<(Local, Role)>, mut request: HttpRequest<axum::body::Body>, next: Next) -> Response {
    // Requests of this very process, with no node running, come from its own user.
    let caller = request.extensions().get::<Caller>().copied().unwrap_or_else(|| Caller(nix::unistd::geteuid().as_raw()));
    let operator = match local.operators.asking(caller) {
        Ok(operator) if operator.roles.contains(&role) => operator,
        Ok(operator) => {
            let text = format!("operator `{}` has not the role `{}`; see [[operators]] in node.toml", operator.name, role);
            return ApiError::forbidden(text).into_response();
        }
        Err(error) => return error.into_response(),
    };
    let (path, name) = (request.uri().path().to_owned(), operator.name.clone());
    request.extensions_mut().insert(operator);
    let response = next.run(request).await;
    let is_deed = !matches!(role, Role::Reads | Role::Audits) && response.extensions().get::<NoDeed>().is_none();
    if response.status() == StatusCode::OK && is_deed {
        let what = response.extensions().get::<Deed>().map_or_else(|| path.clone(), |deed| deed.0.clone());
        let door = local.door.clone();
        let noted = tokio::task::spawn_blocking(move || door.send(Request::Decision { by: name, what }).is_ok()).await;
        if !noted.unwrap_or(false) {
            tracing::error!(path, "what an operator did could not be journaled");
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_people_decide_on_one_day_and_a_signature_of_yesterday_decides_nothing() {
        let key = |seed: u8| SecretKey::from_seed(&[seed; 32]).unwrap();
        let person = |name: &str, seed: u8| OperatorConfig {
            name: name.to_owned(),
            user: None,
            key: Some(hex::encode(key(seed).public().to_bytes())),
            roles: vec!["decides".to_owned()],
            clearance: "amber".to_owned(),
        };
        let people = Operators::of(&[person("dora", 1), person("emil", 2)]);
        let federation = FederationId([7; 32]);
        let today = Timestamp::from_ms(1_760_000_000_000).unwrap();
        let tomorrow = today.plus_ms(DAY_MS);
        let sign = |name: &str, seed: u8, now| {
            people.sign(&federation, "release it", name, &sign_decision(&key(seed), &federation, "release it", now), now)
        };
        assert_eq!(sign("dora", 1, today).unwrap(), ["dora"]);
        assert_eq!(sign("emil", 2, tomorrow).unwrap(), ["emil"], "yesterday's signature does not count today");
        assert_eq!(sign("dora", 1, tomorrow).unwrap(), ["dora", "emil"]);
        assert!(sign("dora", 2, today).is_err(), "another's key");
    }
}
