//! Configuration: `node.toml`, every key with a default, every unknown key refused by name.

use crate::{
    cbor::uint_enum,
    enforce::Outlet,
    envelope::{KeyError, PublicKey},
    exchange::{Format, Layout, TextReader, Tool},
    intake::Limits,
    ledger::{CACHE_BYTES, CACHE_BYTES_MIN, RetentionRule},
    node::{
        delivery::{Delivery, SID_FIRST},
        room::ROOM_BYTES,
    },
    policy::{ListRole, OutletKind},
    query::Question,
    record::{ChannelName, DAY_MS, HOUR_MS, MemberId, ObservableType, Tlp, TypeName, UnknownName, Use, from_toml},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// Of all contents of documents, unless the file says otherwise: 16 GiB, some years of reports and rule packs.
pub const DOCUMENTS_BYTES_MAX: u64 = 16 * 1024 * 1024 * 1024;
/// Unless the file says otherwise: a year to look back, as old logs are matched against old knowledge.
pub const OVER_DAYS: u32 = 365;
/// Unless the file says otherwise: a month for a second thought.
pub const REFUSED_DAYS: u32 = 30;
/// Longest configuration file that is read, in bytes.
const CONFIG_BYTES_MAX: u64 = 1024 * 1024;

/// The file as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub node: NodeConfig,
    #[serde(default)]
    pub policy: PolicyConfig,
    #[serde(default)]
    pub limits: LimitsConfig,
    #[serde(default)]
    pub window: WindowConfig,
    #[serde(default)]
    pub access: AccessConfig,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retention: Vec<RetentionConfig>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lists: Vec<ListConfig>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outlets: Vec<OutletConfig>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<SourceConfig>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub operators: Vec<OperatorConfig>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub searches: Vec<SearchConfig>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notify: Vec<NotifyConfig>,
}

/// `[node]`: who and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    pub member: String,
    #[serde(default = "default_name")]
    pub name: String,
    #[serde(default = "default_listen")]
    pub listen: Vec<String>,
    /// Addresses that others reach us at, if they are not the ones we listen on.
    #[serde(default)]
    pub announce: Vec<String>,
    #[serde(default)]
    pub dial: Vec<String>,
    /// `socks5://HOST:PORT` or `http://HOST:PORT` through which every outgoing connection goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// Whether others can dial this node. If not, coordinators pass their connections on to it.
    #[serde(default = "yes")]
    pub inbound: bool,
    /// Which end of what is missing is fetched first: `oldest` or `newest`.
    #[serde(default = "oldest")]
    pub catch_up: String,
}

fn oldest() -> String {
    "oldest".to_owned()
}

fn yes() -> bool {
    true
}

/// A proxy for outgoing connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proxy {
    /// SOCKS5 (RFC 1928), without a password.
    Socks5(String),
    /// HTTP CONNECT (RFC 9110 section 9.3.6).
    Http(String),
}

impl std::str::FromStr for Proxy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let place = |rest: &str| {
            let (host, port) = rest.trim_end_matches('/').rsplit_once(':')?;
            (!host.is_empty() && port.parse::<u16>().is_ok()).then(|| format!("{host}:{port}"))
        };
        let wrong = || format!("`{text}` is no proxy; write socks5://HOST:PORT or http://HOST:PORT");
        match text.split_once("://") {
            Some(("socks5", rest)) => place(rest).map(Self::Socks5).ok_or_else(wrong),
            Some(("http", rest)) => place(rest).map(Self::Http).ok_or_else(wrong),
            _ => Err(wrong()),
        }
    }
}

/// `[policy]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyConfig {
    pub file: PathBuf,
    /// A `trust.toml` beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust: Option<PathBuf>,
    /// Days after which what is held and nobody decided is refused.
    pub hold_days: u32,
}

/// `[limits]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    pub life_days_max: u32,
    pub retention_days: u32,
    /// Content is erased so many days after its end here.
    pub over_days: u32,
    /// What was refused is erased so many days after it was received.
    pub refused_days: u32,
    /// Of all contents of documents together.
    pub documents_bytes_max: u64,
    /// Free bytes of the disk that are kept for what takes something back: below it no content is taken in.
    pub room_bytes: u64,
    /// Memory in which the ledger keeps what it has read.
    pub cache_bytes: u64,
    /// Of journal, state and index together; without it, as much as the disk has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ledger_bytes_max: Option<u64>,
}

/// `[window]`: where this node is reached by programs and browsers beside its socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WindowConfig {
    /// Addresses with their port. Beyond this machine only with a certificate.
    pub listen: Vec<String>,
    /// PEM files: the chain, its own certificate first, and the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// Names under which it is called there, beside the addresses themselves.
    pub hosts: Vec<String>,
}

impl WindowConfig {
    /// The addresses, which were checked when the file was read.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listen.iter().filter_map(|text| text.parse().ok()).collect()
    }

    fn check(&self) -> Result<(), String> {
        for text in &self.listen {
            let address: SocketAddr =
                text.parse().map_err(|_| format!("listen: `{text}` is no address with a port; write 127.0.0.1:7575 or [::1]:7575"))?;
            if !address.ip().is_loopback() && self.certificate.is_none() {
                let why = "reaches beyond this machine, where everybody could read along; name a `certificate` and its `key`";
                return Err(format!("listen: `{text}` {why}"));
            }
        }
        if self.certificate.is_some() != self.key.is_some() {
            return Err("a `certificate` and its `key` belong together".to_owned());
        }
        let is_name = |name: &&String| name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "-.:[]".contains(c));
        match self.hosts.iter().find(is_name) {
            Some(name) => Err(format!("hosts: `{}` is no name of a host", crate::record::excerpt(name))),
            None => Ok(()),
        }
    }
}

/// Whether looks at records are noted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AccessMode {
    Off,
    /// With the reason, if one is given.
    #[default]
    Ask,
    /// Without a reason nothing that is noted is shown.
    Require,
}

/// `[access]`: who was shown what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccessConfig {
    pub log: AccessMode,
    /// What is marked like this or above is noted.
    pub from: String,
    /// How long entries are kept.
    pub keep_days: u32,
}

impl Default for AccessConfig {
    fn default() -> Self {
        Self { log: AccessMode::Ask, from: Tlp::Amber.to_string(), keep_days: 365 }
    }
}

impl AccessConfig {
    /// The marking, which was checked when the file was read.
    pub fn from(&self) -> Tlp {
        Tlp::parse(&self.from).unwrap_or(Tlp::Clear)
    }
}

/// `[[retention]]`: which records are kept how long, beside the limits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionConfig {
    pub name: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tlp: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub origins: Vec<String>,
    /// Of the charter: what its member's records are, received in its term.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreement: Option<String>,
    /// From when they were received.
    pub keep_days: u32,
    /// `erase`, or `review`: a person decides.
    #[serde(default = "erase")]
    pub then: String,
}

fn erase() -> String {
    "erase".to_owned()
}

impl RetentionConfig {
    /// The rule without its agreement's term, which the charter knows; or what is wrong with it.
    pub fn rule(&self) -> Result<RetentionRule, String> {
        let wrong = |error: &dyn std::fmt::Display| format!("retention `{}`: {error}", self.name);
        let thens = ["erase", "review"];
        if !thens.contains(&self.then.as_str()) {
            return Err(wrong(&UnknownName::new("end", &self.then, thens.into_iter())));
        }
        Ok(RetentionRule {
            name: self.name.clone(),
            types: self.types.iter().map(|name| name.parse()).collect::<Result<_, UnknownName>>().map_err(|error| wrong(&error))?,
            markings: self.tlp.iter().map(|text| Tlp::parse(text)).collect::<Result<_, _>>().map_err(|error| wrong(&error))?,
            origins: self.origins.iter().map(|id| id.parse()).collect::<Result<_, _>>().map_err(|error| wrong(&error))?,
            term: None,
            keep_days: self.keep_days,
            review: self.then == "review",
            reviewed: None,
        })
    }
}

/// `[[lists]]`: one file, or every file of a directory with roles from a table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListConfig {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
    /// A table of roles in place of the one that is shipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<PathBuf>,
}

/// What one `[[lists]]` entry asks for.
pub enum ListSource<'a> {
    File { name: &'a str, file: &'a Path, role: ListRole },
    Directory { directory: &'a Path, roles: Option<&'a Path> },
}

impl ListConfig {
    /// What is asked for, or what is wrong with it.
    pub fn source(&self) -> Result<ListSource<'_>, String> {
        match self {
            Self { name: Some(name), file: Some(file), role: Some(role), directory: None, roles: None } => {
                let role = role.parse().map_err(|error: UnknownName| format!("list `{name}`: {error}"))?;
                Ok(ListSource::File { name, file, role })
            }
            Self { name: None, file: None, role: None, directory: Some(directory), roles } => {
                Ok(ListSource::Directory { directory, roles: roles.as_deref() })
            }
            _ => Err("an entry of [[lists]] has `name`, `file` and `role`, or else `directory` and, if wanted, `roles`".to_owned()),
        }
    }
}

/// `[[outlets]]`: a tool of ours that acts on records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutletConfig {
    pub name: String,
    #[serde(default = "own_kind")]
    pub kind: String,
    #[serde(default = "block", rename = "use")]
    pub usage: String,
    pub types: Vec<String>,
    #[serde(default = "green")]
    pub tlp_max: String,
    #[serde(default = "lines_max")]
    pub lines_max: usize,
    /// Of the tool: `list`, `hosts`, `rpz`, `nftables`, `suricata` or `zeek`.
    #[serde(default = "list")]
    pub format: String,
    /// A program and its words that tell the tool of a new export; `{file}` and `{changes}` stand for files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reload: Vec<String>,
    /// First signature id of Suricata rules.
    #[serde(default = "sid_first")]
    pub sid: u32,
}

fn list() -> String {
    Tool::List.name().to_owned()
}

fn sid_first() -> u32 {
    SID_FIRST
}

fn own_kind() -> String {
    "own".to_owned()
}

fn block() -> String {
    "block".to_owned()
}

fn green() -> String {
    "green".to_owned()
}

fn lines_max() -> usize {
    crate::enforce::LINES_MAX
}

impl OutletConfig {
    /// The outlet, or what is wrong with it.
    pub fn outlet(&self) -> Result<Outlet, String> {
        let said = |error: UnknownName| error.to_string();
        let name: ChannelName = self.name.parse().map_err(|_| format!("`{}` is no name: 1 to 64 of a-z, 0-9 and `-`", self.name))?;
        let kind: OutletKind = self.kind.parse().map_err(said)?;
        let usage: Use = self.usage.parse().map_err(said)?;
        if !matches!(usage, Use::Block | Use::Alert) {
            return Err(format!("`use` is `block` or `alert`: what an outlet does; `{usage}` is nothing that a tool does"));
        }
        let types = self.types.iter().map(|name| name.parse::<ObservableType>()).collect::<Result<BTreeSet<_>, _>>().map_err(said)?;
        if types.is_empty() || types.contains(&ObservableType::Other) {
            return Err("`types` names at least one type of values, and not `other`, which is never enforced".to_owned());
        }
        let tlp_max = Tlp::parse(&self.tlp_max).map_err(said)?;
        if tlp_max > kind.tlp_max() {
            return Err(format!("`tlp_max` of an outlet of kind `{kind}` is {} at most", kind.tlp_max().label()));
        }
        if self.lines_max == 0 || self.lines_max > crate::enforce::LINES_MAX {
            return Err("`lines_max` is 1 to 1,000,000".to_owned());
        }
        Ok(Outlet { name: name.to_string(), kind, usage, types, tlp_max, lines_max: self.lines_max })
    }

    /// How its lines reach its tool, or what is wrong with that.
    pub fn delivery(&self) -> Result<Delivery, String> {
        let tool: Tool = self.format.parse().map_err(|error: UnknownName| error.to_string())?;
        let types = self.types.iter().filter_map(|name| name.parse::<ObservableType>().ok());
        if let Some(kind) = types.into_iter().find(|kind| !tool.takes(*kind)) {
            let takes = ObservableType::ALL.iter().filter(|kind| tool.takes(**kind)).map(|kind| kind.name()).collect::<Vec<_>>();
            return Err(format!("the format `{}` has no place for values of type `{kind}`; it takes {}", tool.name(), takes.join(", ")));
        }
        if self.reload.first().is_some_and(|program| program.trim().is_empty() || program.contains('{')) {
            return Err("`reload` is a program and its words, as in [\"rndc\", \"reload\", \"huecry.zone\"]; no shell reads it".to_owned());
        }
        // Their files would be another outlet's.
        if let Some(ending) = ["-watch", "-changes"].iter().find(|ending| self.name.ends_with(**ending)) {
            return Err(format!("a name that ends in `{ending}` is kept for what huecry writes itself; choose another"));
        }
        Ok(Delivery { tool, reload: self.reload.clone(), sid: self.sid })
    }
}

/// `[[sources]]`: what files from outside do not say of themselves, said once for each source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    pub name: String,
    /// `list`, `csv`, `text`, `stix` or `misp`; told by the file itself unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// What the columns of a table are, separated by commas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<String>,
    /// The type of every value of a list.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tlp: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_days: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    #[serde(default, rename = "use", skip_serializing_if = "Option::is_none")]
    pub usage: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Whose finding it is, or `own`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organisation: Option<String>,
    /// Every domain means also what is below it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub subdomains: bool,
    /// Where it is pulled from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull: Option<PullConfig>,
}

/// `[sources.pull]`: a server that a source is pulled from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PullConfig {
    /// `taxii` (a collection), `misp-feed` (a directory with a manifest) or `file`.
    #[serde(rename = "type")]
    pub kind: String,
    pub url: String,
    /// How often, as in 30m, 12h, 1d; only when asked unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<String>,
    /// Where it is said; to this node alone unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// `refresh` unless said, `add` or `mirror`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdraw_max: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Files in the data directory that hold a password, or the whole `Authorization` header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// An authority to trust in place of the system's, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Networks inside which the server may stand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
}

impl PullConfig {
    /// How often, in milliseconds.
    pub fn every_ms(&self) -> Option<u64> {
        let text = self.every.as_deref()?;
        let unit = |unit: char, ms: u64| text.strip_suffix(unit)?.parse::<u64>().ok()?.checked_mul(ms);
        unit('s', 1_000).or_else(|| unit('m', 60_000)).or_else(|| unit('h', HOUR_MS)).or_else(|| unit('d', DAY_MS)).filter(|ms| *ms > 0)
    }

    /// The networks of `allow`.
    pub fn networks(&self) -> Result<Vec<ipnet::IpNet>, String> {
        networks(&self.allow)
    }

    fn check(&self) -> Result<(), String> {
        let of = |what: &'static str, word: &str, known: &[&'static str]| match known.contains(&word) {
            true => Ok(()),
            false => Err(UnknownName::new(what, word, known.iter().copied()).to_string()),
        };
        of("type of pull", &self.kind, &["taxii", "misp-feed", "file"])?;
        of("mode", self.mode.as_deref().unwrap_or("refresh"), &["add", "refresh", "mirror"])?;
        if self.kind != "file" && self.mode.as_deref() == Some("mirror") {
            return Err("a collection or feed is asked for what is new, not for all: `mode` is `refresh` or `add`".to_owned());
        }
        if self.every.is_some() && self.every_ms().is_none() {
            return Err("`every` is a time such as 30m, 12h or 1d".to_owned());
        }
        self.channel.as_deref().map(str::parse::<ChannelName>).transpose().map_err(|error| error.to_string())?;
        self.networks().map(|_| ())
    }
}

impl SourceConfig {
    fn check(&self) -> Result<(), String> {
        let said = |error: UnknownName| error.to_string();
        self.name.parse::<ChannelName>().map_err(|_| format!("`{}` is no name: 1 to 64 of a-z, 0-9 and `-`", self.name))?;
        self.format.as_deref().map(str::parse::<Format>).transpose().map_err(said)?;
        self.kind.as_deref().map(str::parse::<TypeName>).transpose().map_err(said)?;
        self.role.as_deref().map(str::parse::<crate::record::Role>).transpose().map_err(said)?;
        self.usage.as_deref().map(str::parse::<Use>).transpose().map_err(said)?;
        self.tlp.as_deref().map(Tlp::parse).transpose().map_err(said)?;
        if let Some(columns) = &self.columns {
            TextReader::new(Layout::Csv, None).with_columns(columns).map_err(|error| error.to_string())?;
        }
        self.pull.as_ref().map_or(Ok(()), PullConfig::check)?;
        match self.confidence {
            Some(confidence) if confidence > 100 => Err("`confidence` is 0 to 100".to_owned()),
            _ => Ok(()),
        }
    }
}

uint_enum! {
    /// What an operator may do.
    pub enum Role("role") {
        /// Ask, up to a clearance.
        Reads = 1 "reads",
        /// Quarantine, held records.
        Decides = 2 "decides",
        /// Publish and withdraw.
        Publishes = 3 "publishes",
        /// Charter and cards.
        Administers = 4 "administers",
        /// See who decided what.
        Audits = 5 "audits",
        /// See how the machine is: disk, memory, queues, clock, peers. Whoever administers may too.
        Operates = 6 "operates",
    }
}

impl Role {
    /// Returns true for a role whose answers are about every record, whatever its marking: the logs, erasure, bundles, backups.
    pub fn sees_all(self) -> bool {
        matches!(self, Self::Administers | Self::Audits)
    }
}

/// Searches that every new record is held against.
const SEARCHES_MAX: usize = 64;
/// Who may be notified; each reads the journal by itself.
const NOTIFY_MAX: usize = 16;

/// `[[searches]]`: what somebody wants to hear of. What is left out does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchConfig {
    pub name: String,
    /// A value, a network, or `*.domain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Words of a report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

impl SearchConfig {
    /// The question that it asks of each new record.
    pub fn question(&self) -> Result<Question, String> {
        self.name.parse::<ChannelName>().map_err(|_| format!("`{}` is no name: 1 to 64 of a-z, 0-9 and `-`", self.name))?;
        fn read<T: std::str::FromStr<Err: std::fmt::Display>>(text: &Option<String>) -> Result<Option<T>, String> {
            text.as_ref().map(|text| text.parse().map_err(|error: T::Err| error.to_string())).transpose()
        }
        let question = Question {
            text: self.value.clone(),
            words: self.text.clone(),
            tag: self.tag.clone(),
            actor: self.actor.clone(),
            origin: read(&self.origin)?,
            channel: read(&self.channel)?,
            source: self.source.clone(),
            all: true,
            ..Question::default()
        };
        if question == (Question { all: true, ..Question::default() }) {
            return Err("it asks for nothing; name a value, a tag, an origin".to_owned());
        }
        question.check().map_err(|error| error.to_string())?;
        Ok(question)
    }
}

/// What somebody may be notified of.
pub const NOTIFIED_OF: [&str; 6] = ["assets", "withdrawn", "silent", "ending", "alarms", "searches"];

/// `[[notify]]`: who hears of what nobody should have to look for: by mail, by syslog, or a program over HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotifyConfig {
    pub name: String,
    /// Addresses, by the server of `server` (`smtps://HOST:465`, `smtp://HOST:587?tls=required`), from `from`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mail: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Files in the data directory that hold a password, or the whole `Authorization` header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// A URL to which JSON is posted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<String>,
    /// An authority to trust in place of the system's, in PEM, and networks inside which the server may stand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// `local` (/dev/log) or `udp://HOST:PORT`: RFC 5424.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub syslog: Option<String>,
    /// Of what; everything unless said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on: Vec<String>,
    /// The highest marking whose value or title is told; of what is marked higher only that it is there.
    #[serde(default = "green")]
    pub tlp_max: String,
    /// How long things are gathered into one message.
    #[serde(default = "minute")]
    pub gather_s: u32,
    /// After how many hours without a connection a member is silent.
    #[serde(default = "day")]
    pub silent_hours: u32,
}

fn minute() -> u32 {
    60
}

fn day() -> u32 {
    24
}

impl NotifyConfig {
    fn check(&self) -> Result<(), String> {
        self.name.parse::<ChannelName>().map_err(|_| format!("`{}` is no name: 1 to 64 of a-z, 0-9 and `-`", self.name))?;
        let ways = [!self.mail.is_empty(), self.webhook.is_some(), self.syslog.is_some()];
        if ways.iter().filter(|way| **way).count() != 1 {
            return Err("say one of `mail`, `webhook` and `syslog`".to_owned());
        }
        if self.syslog.as_ref().is_some_and(|place| place != "local" && !place.starts_with("udp://")) {
            return Err("`syslog` is `local` or `udp://HOST:PORT`".to_owned());
        }
        if !self.mail.is_empty() && (self.server.is_none() || self.from.is_none()) {
            return Err("`mail` needs a `server` and an address `from` which it comes".to_owned());
        }
        let unknown = self.on.iter().find(|word| !NOTIFIED_OF.contains(&word.as_str()));
        if let Some(word) = unknown {
            return Err(UnknownName::new("notification", word, NOTIFIED_OF.into_iter()).to_string());
        }
        Tlp::parse(&self.tlp_max).map_err(|error| error.to_string())?;
        self.networks().map(|_| ())
    }

    /// The networks of `allow`.
    pub fn networks(&self) -> Result<Vec<ipnet::IpNet>, String> {
        networks(&self.allow)
    }

    /// Whether this is told to them.
    pub fn hears_of(&self, what: &str) -> bool {
        self.on.is_empty() || self.on.iter().any(|word| word == what)
    }
}

fn networks(allow: &[String]) -> Result<Vec<ipnet::IpNet>, String> {
    let net = |text: &String| text.parse().map_err(|_| format!("`allow`: `{text}` is no network, as in 10.1.0.0/16"));
    allow.iter().map(net).collect()
}

/// `[[operators]]`: a person at this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorConfig {
    pub name: String,
    /// The local account, if it is not called as the operator is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Public half of the operator's own key, for what needs two people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    pub roles: Vec<String>,
    #[serde(default = "default_clearance")]
    pub clearance: String,
}

fn default_clearance() -> String {
    "amber".to_owned()
}

impl OperatorConfig {
    /// The public half, if one is given.
    pub fn key(&self) -> Result<Option<PublicKey>, KeyError> {
        self.key.as_deref().map(str::parse).transpose()
    }

    /// What the operator may do.
    pub fn roles(&self) -> Result<BTreeSet<Role>, UnknownName> {
        self.roles.iter().map(|word| word.parse()).collect()
    }

    fn check(&self) -> Result<(), String> {
        self.roles().map_err(|error| error.to_string())?;
        Tlp::parse(&self.clearance).map_err(|error| error.to_string())?;
        self.key().map(|_| ()).map_err(|error| error.to_string())
    }
}

fn default_name() -> String {
    "main".to_owned()
}

fn default_listen() -> Vec<String> {
    vec!["/ip4/0.0.0.0/tcp/4100".to_owned()]
}

impl Default for PolicyConfig {
    fn default() -> Self {
        Self { file: "policy.cedar".into(), trust: None, hold_days: Limits::default().hold_days }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        let Limits { life_days_max, retention_days, .. } = Limits::default();
        Self {
            life_days_max,
            retention_days,
            over_days: OVER_DAYS,
            refused_days: REFUSED_DAYS,
            documents_bytes_max: DOCUMENTS_BYTES_MAX,
            room_bytes: ROOM_BYTES,
            cache_bytes: CACHE_BYTES,
            ledger_bytes_max: None,
        }
    }
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{}: {error}", path.display())]
    Io { path: PathBuf, error: std::io::Error },
    #[error("{}: longer than 1 MiB; this is not a node.toml", .0.display())]
    Long(PathBuf),
    #[error("{}: {what}", path.display())]
    Text { path: PathBuf, what: String },
}

impl Config {
    /// What the receiver sets for itself.
    pub fn limits(&self) -> Limits {
        let LimitsConfig { life_days_max, retention_days, .. } = self.limits;
        Limits { life_days_max, retention_days, hold_days: self.policy.hold_days }
    }

    /// Through which every outgoing connection goes; checked when the file was read.
    pub fn proxy(&self) -> Option<Proxy> {
        self.node.proxy.as_deref().and_then(|text| text.parse().ok())
    }

    /// The outlets, whose entries were checked when the file was read.
    pub fn outlets(&self) -> Vec<Outlet> {
        self.outlets.iter().filter_map(|outlet| outlet.outlet().ok()).collect()
    }

    /// The outlets with the way to their tools.
    pub fn deliveries(&self) -> Vec<(Outlet, Delivery)> {
        self.outlets.iter().filter_map(|outlet| Some((outlet.outlet().ok()?, outlet.delivery().ok()?))).collect()
    }

    /// A node of `member` with everything else as it comes.
    pub fn new(member: &MemberId) -> Self {
        let node = NodeConfig {
            member: member.to_string(),
            name: default_name(),
            listen: default_listen(),
            announce: Vec::new(),
            dial: Vec::new(),
            proxy: None,
            inbound: true,
            catch_up: oldest(),
        };
        Self {
            node,
            policy: PolicyConfig::default(),
            limits: LimitsConfig::default(),
            window: WindowConfig::default(),
            access: AccessConfig::default(),
            retention: Vec::new(),
            lists: Vec::new(),
            outlets: Vec::new(),
            sources: Vec::new(),
            operators: Vec::new(),
            searches: Vec::new(),
            notify: Vec::new(),
        }
    }

    /// Reads `path`.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let io = |error| ConfigError::Io { path: path.to_owned(), error };
        if std::fs::metadata(path).map_err(io)?.len() > CONFIG_BYTES_MAX {
            return Err(ConfigError::Long(path.to_owned()));
        }
        Self::parse(path, &std::fs::read_to_string(path).map_err(io)?)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let refuse = |what: String| ConfigError::Text { path: path.to_owned(), what };
        let config: Self = from_toml(text).map_err(|error| refuse(error.to_string()))?;
        config.node.member.parse::<MemberId>().map_err(|error| refuse(format!("node.member: {error}")))?;
        if let Some(proxy) = &config.node.proxy {
            proxy.parse::<Proxy>().map_err(|error| refuse(format!("node.proxy: {error}")))?;
        }
        let ends = ["oldest", "newest"];
        if !ends.contains(&config.node.catch_up.as_str()) {
            let unknown = UnknownName::new("end to begin with", &config.node.catch_up, ends.into_iter());
            return Err(refuse(format!("node.catch_up: {unknown}")));
        }
        if config.limits.cache_bytes < CACHE_BYTES_MIN {
            return Err(refuse(format!(
                "limits.cache_bytes: {} is less than {CACHE_BYTES_MIN} (8 MiB), the least that look-ups need",
                config.limits.cache_bytes
            )));
        }
        config.window.check().map_err(|error| refuse(format!("window.{error}")))?;
        Tlp::parse(&config.access.from).map_err(|error| refuse(format!("access.from: {error}")))?;
        for operator in &config.operators {
            operator.check().map_err(|error| refuse(format!("operator `{}`: {error}", operator.name)))?;
        }
        let mut rules = BTreeSet::new();
        for rule in &config.retention {
            rule.rule().map_err(refuse)?;
            if !rules.insert(&rule.name) {
                return Err(refuse(format!("retention `{}` is there twice", rule.name)));
            }
        }
        for list in &config.lists {
            list.source().map_err(refuse)?;
        }
        let mut names = BTreeSet::new();
        for source in &config.sources {
            source.check().map_err(|error| refuse(format!("source `{}`: {error}", source.name)))?;
            if !names.insert(&source.name) {
                return Err(refuse(format!("source `{}` is there twice", source.name)));
            }
        }
        let mut names = BTreeSet::new();
        for search in &config.searches {
            search.question().map_err(|error| refuse(format!("search `{}`: {error}", search.name)))?;
            if !names.insert(&search.name) {
                return Err(refuse(format!("search `{}` is there twice", search.name)));
            }
        }
        let mut names = BTreeSet::new();
        for notify in &config.notify {
            notify.check().map_err(|error| refuse(format!("notify `{}`: {error}", notify.name)))?;
            if !names.insert(&notify.name) {
                return Err(refuse(format!("notify `{}` is there twice", notify.name)));
            }
        }
        if config.searches.len() > SEARCHES_MAX || config.notify.len() > NOTIFY_MAX {
            return Err(refuse(format!("at most {SEARCHES_MAX} searches and {NOTIFY_MAX} who are notified")));
        }
        let mut names = BTreeSet::new();
        for outlet in &config.outlets {
            outlet.outlet().and_then(|_| outlet.delivery()).map_err(|error| refuse(format!("outlet `{}`: {error}", outlet.name)))?;
            if !names.insert(&outlet.name) {
                return Err(refuse(format!("outlet `{}` is there twice", outlet.name)));
            }
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_as_shipped_equals_the_defaults() {
        let shipped = include_str!("../node-config/node.toml");
        let config = Config::parse(Path::new("node.toml"), shipped).unwrap();
        assert_eq!(config, Config::new(&"xx-agency".parse().unwrap()));
    }

    #[test]
    fn a_cache_that_is_too_small_is_refused_with_the_least() {
        let config = |bytes: u64| format!("[node]\nmember = \"xa-police\"\n[limits]\ncache_bytes = {bytes}\n");
        let error = Config::parse(Path::new("node.toml"), &config(CACHE_BYTES_MIN - 1)).unwrap_err().to_string();
        assert!(error.contains("limits.cache_bytes") && error.contains("8388608"), "{error}");
        assert_eq!(Config::parse(Path::new("node.toml"), &config(CACHE_BYTES_MIN)).unwrap().limits.cache_bytes, CACHE_BYTES_MIN);
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line_and_the_nearest_name() {
        let bad = include_str!("../node-config/bad/node.toml");
        let error = Config::parse(Path::new("node.toml"), bad).unwrap_err().to_string();
        assert!(error.contains("line 4") && error.contains("did you mean `listen`?"), "{error}");
    }
}
