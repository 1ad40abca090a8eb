//! Operators: which person asks, what that person may do here, and the note of what was done.
//!
//! The Unix socket names the local account; `[[operators]]` in `node.toml` names the person. With no operator configured
//! whoever may open the socket may do everything, as befits a node that one person keeps. What needs two people needs two
//! signatures by operators' own keys, so that one account, or one stolen session, is never enough.

use super::{
    ApiError, Bearer, Local, TokenEntry, Witness,
    admission::{self, Class, Served},
};
use crate::{
    config::{OperatorConfig, Role},
    enforce::Outlet,
    envelope::{Domain, FederationId, PublicKey, SecretKey},
    node::door::{self, Request},
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
    /// The token by which they ask, if it is none of this machine's accounts.
    pub token: Option<String>,
    /// The outlet that asks, which is no person.
    pub outlet: Option<Outlet>,
    /// What their token is for, if that was said when it was made.
    pub because: Option<String>,
}

impl Operator {
    /// Whoever may open the socket of a node that names no operators.
    fn keeper(uid: u32) -> Self {
        let roles = Role::ALL.iter().copied().collect();
        Self { name: keeper_name(uid), roles, clearance: Tlp::Red, key: None, uid: Some(uid), token: None, outlet: None, because: None }
    }

    /// Returns true for a caller who may know how the machine is, records above their clearance included.
    pub fn operates(&self) -> bool {
        self.has(Role::Operates)
    }

    /// Returns true for a caller with a role; whoever administers operates too.
    pub fn has(&self, role: Role) -> bool {
        self.roles.contains(&role) || (role == Role::Operates && self.roles.contains(&Role::Administers))
    }

    /// Returns true for a caller who may know all that an outlet's lines follow from.
    pub fn sees_outlet(&self, outlet: &Outlet) -> bool {
        self.clearance >= outlet.marking()
    }

    /// As the journal names them.
    pub fn signature(&self) -> String {
        match &self.token {
            Some(token) => format!("{} (token {token})", self.name),
            None => self.name.clone(),
        }
    }
}

fn keeper_name(uid: u32) -> String {
    format!("uid:{uid}")
}

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub enum Caller {
    /// A local account, as the socket says.
    Account(u32),
    /// Whoever has this token, which counts.
    Token(Arc<TokenEntry>),
}

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
                token: None,
                outlet: None,
                because: None,
            }
        };
        Self { known: Arc::new(config.iter().map(operator).collect()), pending: Arc::default() }
    }

    /// Who asks.
    fn asking(&self, caller: &Caller, outlets: impl FnOnce() -> Vec<Outlet>) -> Result<Operator, ApiError> {
        let uid = match caller {
            Caller::Account(uid) => *uid,
            Caller::Token(entry) => {
                let gone = || ApiError::unknown("whom this token stands for is no operator or outlet of this node any more");
                return self.lent(entry, outlets).ok_or_else(gone);
            }
        };
        if self.known.is_empty() {
            return Ok(Operator::keeper(uid));
        }
        let found = self.known.iter().find(|one| one.uid == Some(uid)).cloned();
        found.ok_or_else(|| {
            let account = nix::unistd::User::from_uid(uid.into()).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
            ApiError::forbidden(format!(
                "the account `{account}` is no operator of this node; an [[operators]] entry in node.toml makes it one"
            ))
        })
    }

    /// What a token lends of what the configuration says now; `None` if that knows nothing of it any more.
    pub fn lent(&self, entry: &TokenEntry, outlets: impl FnOnce() -> Vec<Outlet>) -> Option<Operator> {
        let (token, because) = (Some(entry.name.clone()), entry.because.clone());
        match &entry.bearer {
            Bearer::Outlet { outlet } => {
                let outlet = outlets().into_iter().find(|one| one.name == *outlet)?;
                let name = format!("outlet {}", outlet.name);
                let (roles, clearance) = (BTreeSet::new(), outlet.marking());
                Some(Operator { name, roles, clearance, key: None, uid: None, token, outlet: Some(outlet), because })
            }
            Bearer::Operator { operator, roles, tlp_max } => {
                let of_keeper = |name: &str| name.strip_prefix("uid:")?.parse().ok().map(Operator::keeper);
                let person = match self.known.iter().find(|one| one.name == *operator).cloned() {
                    None if self.known.is_empty() => of_keeper(operator)?,
                    person => person?,
                };
                let clearance = Tlp::parse(tlp_max).ok()?.min(person.clearance);
                let carries = |role: &Role| person.has(*role) && (clearance == person.clearance || !role.sees_all());
                let roles = roles.iter().filter_map(|role| role.parse().ok()).filter(carries).collect();
                Some(Operator { roles, clearance, key: None, uid: None, token, because, ..person })
            }
        }
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
    signed_at(local, text, name, signature, unsigned, local.clock.now())
}

/// [`signed`] by another clock than the node's.
pub(super) fn signed_at(
    local: &Local,
    text: &str,
    name: Option<&str>,
    signature: Option<&str>,
    unsigned: &str,
    now: Timestamp,
) -> Result<Vec<String>, ApiError> {
    let (Some(name), Some(signature)) = (name, signature) else { return Err(ApiError::forbidden(unsigned)) };
    let mut bytes = [0; 64];
    hex::decode_to_slice(signature, &mut bytes).map_err(ApiError::bad)?;
    let federation = local.current.get().roster.federation();
    local.operators.sign(&federation, text, name, &bytes, now)
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

fn no_caller() -> ApiError {
    ApiError::unknown("the connection has no caller")
}

/// Who asks, from what the connection says of it.
fn operator_of(local: &Local, request: &HttpRequest<axum::body::Body>) -> Result<Operator, ApiError> {
    let caller = request.extensions().get::<Caller>().ok_or_else(no_caller)?;
    local.operators.asking(caller, || local.enforcer.specs())
}

/// Lets a handler answer a known operator; the answer leaves when it is noted who sees it.
async fn witnessed(local: &Local, operator: Operator, mut request: HttpRequest<axum::body::Body>, next: Next) -> Response {
    let witness = match Witness::of(local, &operator, &request) {
        Ok(witness) => witness,
        Err(error) => return error.into_response(),
    };
    request.extensions_mut().insert(operator);
    request.extensions_mut().insert(witness.clone());
    let response = next.run(request).await;
    match witness.close(local).await {
        Ok(()) => response,
        // What was done is done, and is journaled, though the answer may not leave.
        Err(error) => {
            let (deed, mut refused) = (response.extensions().get::<Deed>().cloned(), error.into_response());
            deed.into_iter().for_each(|deed| drop(refused.extensions_mut().insert(deed)));
            refused
        }
    }
}

/// Lets a handler answer a known operator, if there is a place for the request in its class.
async fn admitted(local: &Local, class: Class, operator: Operator, request: HttpRequest<axum::body::Body>, next: Next) -> Response {
    let Some(caller) = request.extensions().get::<Caller>() else { return no_caller().into_response() };
    match local.admission.enter(class, caller) {
        Ok(ticket) => {
            let served = request.extensions().get::<Served>().cloned();
            admission::under(ticket, served, witnessed(local, operator, request, next)).await
        }
        Err(error) => error.into_response(),
    }
}

/// Gives the operator, or outlet, to a handler that checks by itself what they may.
pub(crate) async fn identify(State((local, class)): State<(Local, Class)>, request: HttpRequest<axum::body::Body>, next: Next) -> Response {
    match operator_of(&local, &request) {
        Ok(operator) => admitted(&local, class, operator, request, next).await,
        Err(error) => error.into_response(),
    }
}

/// Lets a request pass if its operator has the role, gives the operator to the handler, and journals what was done.
pub(super) async fn check(
    State((local, role, class)): State<(Local, Role, Class)>,
    request: HttpRequest<axum::body::Body>,
    next: Next,
) -> Response {
    let operator = match operator_of(&local, &request) {
        Ok(operator) if operator.has(role) => operator,
        Ok(operator) => {
            let who = if operator.outlet.is_some() { "" } else { "operator " };
            let text = format!("{who}`{}` has not the role `{role}`; see [[operators]] in node.toml", operator.signature());
            return ApiError::forbidden(text).into_response();
        }
        Err(error) => return error.into_response(),
    };
    let (path, name) = (request.uri().path().to_owned(), operator.signature());
    let response = admitted(&local, class, operator, request, next).await;
    let said = response.extensions().get::<Deed>().map(|deed| deed.0.clone());
    let is_deed =
        (said.is_some() || !matches!(role, Role::Reads | Role::Audits | Role::Operates)) && response.extensions().get::<NoDeed>().is_none();
    if (response.status() == StatusCode::OK || said.is_some()) && is_deed {
        let what = said.unwrap_or_else(|| path.clone());
        // Whoever hears that it is done may rely on its being written who did it.
        if let Err(error) = door::ask(&local.door, |reply| Request::Decision { by: name, what, reply }).await {
            tracing::error!(%error, path, "what an operator did could not be journaled");
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
