//! Tokens: how a program or a browser says who it is where no socket says it.
//!
//! ```text
//! operator at the socket -make-> text, shown once        request -Bearer TEXT-> hash -look up-> Operator, or outlet
//! ```
//!
//! A token is 256 random bits. Only its hash is kept, so whoever reads the file can ask nothing with it; because the bits are
//! random, one round of SHA-256 is as good as any slow hash (NIST SP 800-63B section 5.1.1.2 asks for those for what people
//! choose). It is for a person, who lends it some of what they may, or for one of our outlets, which may take what it is
//! given and nothing else. What the configuration no longer says, no token says either.

use super::{
    ApiError, Caller, Local, Operator, blocking,
    contract::{Acted, Json},
};
use crate::{
    config::Role,
    envelope::Hash,
    node::delivery::replace,
    record::{DAY_MS, Timestamp, Tlp},
};
use axum::{Extension, extract::State};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::{File, Permissions},
    io::{BufWriter, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

/// What every token begins with, so that one in a log or a repository is found.
pub const PREFIX: &str = "huecry_";
/// Random bytes of one.
const SECRET_BYTES: usize = 32;
/// Tokens of a node: some for each of its tools and people.
const TOKENS_MAX: usize = 1_024;
/// Longest life of one; who needs it longer makes another.
const DAYS_MAX: u32 = 366;
/// Longest name, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// Longest word on what one is for, in characters.
const BECAUSE_MAX: usize = 500;
/// The file in the data directory.
const FILE: &str = "tokens.json";

/// Whom a token stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Bearer {
    /// A person, with some of what they may.
    Operator { operator: String, roles: Vec<String>, tlp_max: String },
    /// One of our outlets.
    Outlet { outlet: String },
}

/// A token as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenEntry {
    /// What it is called.
    pub name: String,
    /// SHA-256 of the text, in hexadecimal.
    pub hash: String,
    pub bearer: Bearer,
    pub made: Timestamp,
    pub by: String,
    pub until: Timestamp,
    /// What it is for: the reason of whatever is looked at with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
}

/// The tokens of this node.
#[derive(Clone)]
pub struct Tokens {
    path: PathBuf,
    known: Arc<RwLock<BTreeMap<String, TokenEntry>>>,
}

/// Why the file of tokens is refused.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}; mend it, or remove it and make the tokens anew", path.display())]
pub struct TokensError {
    path: PathBuf,
    why: String,
}

impl Tokens {
    /// Reads the tokens of a data directory.
    pub fn open(data: &Path) -> Result<Self, TokensError> {
        let path = data.join(FILE);
        let wrong = |why: String| TokensError { path: path.clone(), why };
        let entries: Vec<TokenEntry> = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(wrong(error.to_string())),
        };
        let known = entries.into_iter().map(|entry| (entry.hash.clone(), entry)).collect();
        Ok(Self { path, known: Arc::new(RwLock::new(known)) })
    }

    /// The token that this text is, if it still counts.
    pub fn find(&self, text: &str, now: Timestamp) -> Option<TokenEntry> {
        let secret = text.strip_prefix(PREFIX)?;
        URL_SAFE_NO_PAD.decode(secret).ok().filter(|bytes| bytes.len() == SECRET_BYTES)?;
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&hash_of(text)).filter(|entry| now < entry.until).cloned()
    }

    /// All of them, by name.
    pub fn all(&self) -> Vec<TokenEntry> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<TokenEntry> = known.values().cloned().collect();
        all.sort_by(|one, other| one.name.cmp(&other.name));
        all
    }

    /// Makes one and answers its text, which is nowhere else.
    fn make(
        &self,
        name: String,
        bearer: Bearer,
        (by, because): (String, Option<String>),
        made: Timestamp,
        days: u32,
    ) -> Result<(String, TokenEntry), ApiError> {
        let mut secret = [0; SECRET_BYTES];
        getrandom::fill(&mut secret).map_err(ApiError::internal)?;
        let text = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(secret));
        let until = made.plus_ms(u64::from(days) * DAY_MS);
        let entry = TokenEntry { name, hash: hash_of(&text), bearer, made, by, until, because };
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let mut next: BTreeMap<_, _> =
            known.iter().filter(|(_, one)| made < one.until).map(|(hash, one)| (hash.clone(), one.clone())).collect();
        if next.values().any(|one| one.name == entry.name) {
            return Err(ApiError::bad(format!(
                "there is a token `{}` already; take it back first, or call this one otherwise",
                entry.name
            )));
        }
        if next.len() >= TOKENS_MAX {
            return Err(ApiError::bad(format!("there are {TOKENS_MAX} tokens already; take back some that nobody uses")));
        }
        next.insert(entry.hash.clone(), entry.clone());
        self.keep(&next)?;
        *known = next;
        Ok((text, entry))
    }

    fn remove(&self, name: &str) -> Result<(), ApiError> {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = known.clone();
        next.retain(|_, entry| entry.name != name);
        if next.len() == known.len() {
            return Err(ApiError::nothing(format!("there is no token `{}`", crate::record::excerpt(name))));
        }
        self.keep(&next)?;
        *known = next;
        Ok(())
    }

    /// Durably, or a token that was taken back would count again after a power failure.
    fn keep(&self, entries: &BTreeMap<String, TokenEntry>) -> Result<(), ApiError> {
        let entries: Vec<&TokenEntry> = entries.values().collect();
        let write = |out: &mut BufWriter<File>| {
            out.get_ref().set_permissions(Permissions::from_mode(0o600))?;
            out.write_all(&serde_json::to_vec_pretty(&entries)?)
        };
        replace(&self.path, write).map_err(ApiError::internal)
    }
}

fn hash_of(text: &str) -> String {
    hex::encode(Hash::of(text.as_bytes()).0)
}

/// A token that is asked for.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TokenParameters {
    pub name: String,
    /// For this outlet; else for whoever asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outlet: Option<String>,
    /// What it lends; nothing: everything that whoever asks may.
    pub roles: Vec<String>,
    /// The highest TLP it shows; unsaid, that of whoever asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tlp_max: Option<String>,
    pub days: u32,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
}

/// One token, without what it is.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct TokenLine {
    pub name: String,
    /// `operator NAME` or `outlet NAME`.
    pub stands_for: String,
    pub roles: Vec<String>,
    pub tlp_max: Option<String>,
    pub made: String,
    pub by: String,
    pub until: String,
    /// Whether it lets anybody in now.
    pub counts: bool,
}

/// A token that was made. Its text is said here and never again.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct TokenReply {
    pub token: String,
    #[serde(flatten)]
    pub line: TokenLine,
}

fn line(local: &Local, entry: &TokenEntry) -> TokenLine {
    let (stands_for, roles, tlp_max) = match &entry.bearer {
        Bearer::Operator { operator, roles, tlp_max } => (format!("operator {operator}"), roles.clone(), Some(tlp_max.clone())),
        Bearer::Outlet { outlet } => (format!("outlet {outlet}"), Vec::new(), None),
    };
    let counts = local.clock.now() < entry.until && local.operators.lent(entry, || local.enforcer.specs()).is_some();
    TokenLine {
        name: entry.name.clone(),
        stands_for,
        roles,
        tlp_max,
        made: entry.made.to_string(),
        by: entry.by.clone(),
        until: entry.until.to_string(),
        counts,
    }
}

pub(super) async fn tokens(State(local): State<Local>, Extension(operator): Extension<Operator>) -> Json<Vec<TokenLine>> {
    let is_seen = |entry: &&TokenEntry| match &entry.bearer {
        _ if operator.roles.contains(&Role::Administers) || operator.roles.contains(&Role::Audits) => true,
        Bearer::Operator { operator: name, .. } => *name == operator.name,
        Bearer::Outlet { .. } => false,
    };
    Json(local.tokens.all().iter().filter(is_seen).map(|entry| line(&local, entry)).collect())
}

/// Makes a token: at the socket only, because a stolen one must not beget others.
pub(super) async fn make(
    State(local): State<Local>,
    Extension(operator): Extension<Operator>,
    Extension(caller): Extension<Caller>,
    Json(parameters): Json<TokenParameters>,
) -> Result<Acted<TokenReply>, ApiError> {
    if !matches!(caller, Caller::Account(_)) {
        return Err(ApiError::forbidden("tokens are made at the node's own socket: huecry token new"));
    }
    let TokenParameters { name, outlet, roles, tlp_max, days, because } = parameters;
    let because = because.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    if because.as_ref().is_some_and(|text| text.chars().count() > BECAUSE_MAX || text.chars().any(char::is_control)) {
        return Err(ApiError::bad(format!("what a token is for is one line of up to {BECAUSE_MAX} characters")));
    }
    let is_name = !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if !is_name {
        return Err(ApiError::bad("a token's name is 1 to 64 letters, digits, `-`, `_` and `.`"));
    }
    if days == 0 || days > DAYS_MAX {
        return Err(ApiError::bad(format!("a token counts for 1 to {DAYS_MAX} days")));
    }
    let bearer = match outlet {
        Some(outlet) => for_outlet(&local, &operator, outlet, &roles, tlp_max.as_deref())?,
        None => for_operator(&operator, &roles, tlp_max.as_deref())?,
    };
    let (by, now) = (operator.name.clone(), local.clock.now());
    let tokens = local.tokens.clone();
    let (token, entry) = blocking(move || tokens.make(name, bearer, (by, because), now, days)).await?;
    let line = line(&local, &entry);
    let deed = format!("makes the token `{}` for {} until {}", line.name, line.stands_for, line.until);
    Ok(Acted::deed(deed, TokenReply { token, line }))
}

fn for_outlet(local: &Local, operator: &Operator, outlet: String, roles: &[String], tlp_max: Option<&str>) -> Result<Bearer, ApiError> {
    if !operator.roles.contains(&Role::Administers) {
        return Err(ApiError::forbidden("tokens for outlets are made by an operator who administers"));
    }
    if !roles.is_empty() || tlp_max.is_some() {
        return Err(ApiError::bad("an outlet takes what its entry in node.toml says; it has no roles, and no other highest TLP"));
    }
    let outlets = local.enforcer.specs();
    if outlets.iter().all(|one| one.name != outlet) {
        let names: Vec<String> = outlets.into_iter().map(|one| one.name).collect();
        let there_are = if names.is_empty() { "there are none".to_owned() } else { format!("there are: {}", names.join(", ")) };
        return Err(ApiError::nothing(format!("there is no outlet `{}` in node.toml; {there_are}", crate::record::excerpt(&outlet))));
    }
    Ok(Bearer::Outlet { outlet })
}

fn for_operator(operator: &Operator, roles: &[String], tlp_max: Option<&str>) -> Result<Bearer, ApiError> {
    let tlp_max = tlp_max.map(Tlp::parse).transpose().map_err(ApiError::bad)?.unwrap_or(operator.clearance);
    if tlp_max > operator.clearance {
        return Err(ApiError::forbidden(format!("you may see up to {}, so no token of yours shows more", operator.clearance.label())));
    }
    let narrowed = tlp_max < operator.clearance;
    let mut lent = Vec::new();
    for role in roles {
        let role: Role = role.parse().map_err(ApiError::bad)?;
        if !operator.has(role) {
            return Err(ApiError::forbidden(format!("you have not the role `{role}` yourself, so no token of yours has it")));
        }
        if narrowed && role.sees_all() {
            let (tlp, yours) = (tlp_max.label(), operator.clearance.label());
            return Err(ApiError::bad(format!(
                "the role `{role}` shows names and counts of every record, so a token for {tlp} cannot have it; leave out --tlp-max \
                 (yours is {yours}) or the role"
            )));
        }
        lent.push(role.to_string());
    }
    if lent.is_empty() {
        lent = operator.roles.iter().filter(|role| !(narrowed && role.sees_all())).map(ToString::to_string).collect();
    }
    Ok(Bearer::Operator { operator: operator.name.clone(), roles: lent, tlp_max: tlp_max.to_string() })
}

/// A token that is taken back.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeParameters {
    pub name: String,
}

/// It counts no more.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct TokenRevoked {}

/// Takes a token back. A person their own; who administers, any. A token may take itself back.
pub(super) async fn revoke(
    State(local): State<Local>,
    Extension(operator): Extension<Operator>,
    Json(parameters): Json<RevokeParameters>,
) -> Result<Acted<TokenRevoked>, ApiError> {
    let name = parameters.name;
    let is_own = |entry: &TokenEntry| matches!(&entry.bearer, Bearer::Operator { operator: one, .. } if *one == operator.name);
    let may = operator.roles.contains(&Role::Administers) || local.tokens.all().iter().any(|entry| entry.name == name && is_own(entry));
    if !may {
        // The same for one that is another's and one that is not there.
        return Err(ApiError::nothing(format!("there is no token `{}` of yours", crate::record::excerpt(&name))));
    }
    let (tokens, gone) = (local.tokens.clone(), name.clone());
    blocking(move || tokens.remove(&gone)).await?;
    Ok(Acted::deed(format!("takes the token `{name}` back"), TokenRevoked {}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_ms(1_760_000_000_000 + ms).unwrap()
    }

    #[test]
    fn a_token_is_found_until_it_ends_and_its_text_is_in_no_file() {
        let data = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(data.path()).unwrap();
        let bearer = Bearer::Outlet { outlet: "firewall".to_owned() };
        let (text, entry) = tokens.make("fw".to_owned(), bearer.clone(), ("ana".to_owned(), None), at(0), 1).unwrap();
        assert_eq!(tokens.find(&text, at(1)), Some(entry.clone()));
        assert_eq!(tokens.find(&text, at(DAY_MS)), None, "it has ended");
        let kept = std::fs::read_to_string(data.path().join(FILE)).unwrap();
        assert!(!kept.contains(text.strip_prefix(PREFIX).unwrap()), "only its hash is kept");
        assert_eq!(Tokens::open(data.path()).unwrap().find(&text, at(1)), Some(entry));
        let again = tokens.make("fw".to_owned(), bearer, ("ana".to_owned(), None), at(2), 1).unwrap_err();
        assert!(format!("{again:?}").contains("already"));
        tokens.remove("fw").unwrap();
        assert_eq!(tokens.find(&text, at(3)), None, "it was taken back");
    }

    #[test]
    fn a_03_what_names_something_is_no_token() {
        let data = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(data.path()).unwrap();
        let bearer = Bearer::Outlet { outlet: "firewall".to_owned() };
        let (text, entry) = tokens.make("fw".to_owned(), bearer, ("ana".to_owned(), None), at(0), 1).unwrap();
        let (bare, upper) = (text.trim_start_matches(PREFIX).to_owned(), text.to_uppercase());
        let cut = text.get(..text.len() - 1).unwrap().to_owned();
        let longer = format!("{text}A");
        for wrong in
            ["", PREFIX, "fw", "firewall", "xx-agency", &entry.hash, &format!("{PREFIX}{}", entry.hash), &bare, &upper, &cut, &longer]
        {
            assert_eq!(tokens.find(wrong, at(1)), None, "{wrong}");
        }
    }
}
