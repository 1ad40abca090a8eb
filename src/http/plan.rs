//! What is asked of a publication: said once by the importing member, in the request or under `[[sources]]`, and understood.

use super::{ApiError, standing::REMOVALS_PERCENT};
use crate::{
    config::SourceConfig,
    exchange::{About, Format, Layout, TextReader, detect},
    record::{ChannelName, DAY_MS, MemberId, Record, Report, Role, Source, Timestamp, Tlp, TypeName, Use},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the importing member says once about the whole file. What is left out is unsaid.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PublishParameters {
    pub channel: String,
    /// How it is marked, where the file does not say. Unsaid, a list is GREEN and a file that could have said it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tlp: Option<String>,
    pub title: String,
    /// The file's name, by whose ending its format is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, alias = "layout", skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// What the columns of a table are, separated by commas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<String>,
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_days: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    #[serde(default, rename = "use", skip_serializing_if = "Option::is_none")]
    pub usage: Option<String>,
    /// Separated by commas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Every domain means also what is below it.
    #[serde(default)]
    pub subdomains: bool,
    /// An entry of `[[sources]]` that says whatever is not said here.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub as_source: Option<String>,
    /// Refuse the file if a record of it has no marking, confidence or end, in itself or by what is said here.
    #[serde(default)]
    pub must_say: bool,
    /// A file that says nothing is no error: most pulls bring nothing new.
    #[serde(default)]
    pub may_be_empty: bool,
    /// What stands in the channel: `add` to it (unless said), `refresh` it (what is the same is not said again, what has changed
    /// is replaced), or make it equal to the file (`mirror`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// As a mirror: how many percent of what stands may be taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdraw_max: Option<u8>,
    #[serde(default)]
    pub dry_run: bool,
    /// Do not wait for others to tell this node its own last head.
    #[serde(default)]
    pub alone: bool,
    /// Publish text copied word for word from a record with a stricter marking.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub anyway: bool,
}

/// What a file does to what stands in its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Add,
    Refresh,
    /// With how many percent of what stands may go.
    Mirror(u8),
}

/// Parameters that were understood.
pub(super) struct Plan {
    pub mode: Mode,
    /// The tag of its source.
    pub origin: Option<String>,
    pub channel: ChannelName,
    /// Said once, for what does not say it itself.
    pub tlp: Option<Tlp>,
    /// What every report lacks is taken from here; lists have no other.
    pub report: Report,
    pub format: Option<Format>,
    pub name: String,
    pub columns: Option<String>,
    pub kind: Option<TypeName>,
    pub subdomains: bool,
    pub must_say: bool,
    pub may_be_empty: bool,
    pub dry_run: bool,
    /// Text copied from a record with a stricter marking may be published, or stays on this node.
    pub anyway: bool,
}

/// The tag of what an entry of `[[sources]]` brought: what comes from one source takes nothing of another back.
fn origin_tag(name: &str) -> String {
    format!("{ORIGIN_TAG}{name}")
}

/// How such tags begin.
pub(super) const ORIGIN_TAG: &str = "from:";

impl PublishParameters {
    /// With what an entry of the configuration says where these say nothing.
    pub(super) fn completed(mut self, sources: &[SourceConfig]) -> Result<Self, ApiError> {
        let Some(name) = self.as_source.clone() else { return Ok(self) };
        let names = || sources.iter().map(|source| source.name.as_str());
        let found = sources.iter().find(|source| source.name == name);
        let found = found.ok_or_else(|| ApiError::bad(crate::record::UnknownName::new("source", &name, names())))?.clone();
        if self.valid_until.is_none() {
            self.valid_days = self.valid_days.or(found.valid_days);
        }
        self.subdomains |= found.subdomains;
        let said = |here: &mut Option<String>, there: Option<String>| *here = here.take().or(there);
        said(&mut self.tlp, found.tlp);
        said(&mut self.format, found.format);
        said(&mut self.columns, found.columns);
        said(&mut self.kind, found.kind);
        said(&mut self.role, found.role);
        said(&mut self.usage, found.usage);
        said(&mut self.source, found.organisation);
        said(&mut self.tags, Some(found.tags.join(",")).filter(|tags| !tags.is_empty()));
        self.confidence = self.confidence.or(found.confidence);
        Ok(self)
    }
}

impl Plan {
    /// Understands what was asked; a report that its readers would refuse is refused here.
    pub fn of(parameters: &PublishParameters, me: &MemberId, now: Timestamp) -> Result<Self, ApiError> {
        fn word<T: std::str::FromStr<Err: std::fmt::Display>>(text: Option<&String>) -> Result<Option<T>, ApiError> {
            text.map(|text| text.parse()).transpose().map_err(ApiError::bad)
        }
        let tag = |tag: &str| Some(tag.trim().to_owned()).filter(|tag| !tag.is_empty());
        let valid_until = match (&parameters.valid_until, parameters.valid_days) {
            (Some(text), _) => {
                let moment = Timestamp::parse(text);
                Some(moment.ok_or_else(|| ApiError::bad(format!("`{text}` is no time; write 2026-12-31 or 2026-12-31T00:00:00Z")))?)
            }
            (None, Some(days)) => Some(now.plus_ms(u64::from(days) * DAY_MS)),
            (None, None) => None,
        };
        let mut report = Report::titled(parameters.title.clone());
        report.role = word::<Role>(parameters.role.as_ref())?;
        report.usage = word::<Use>(parameters.usage.as_ref())?;
        (report.confidence, report.valid_until) = (parameters.confidence, valid_until);
        report.tags = parameters.tags.iter().flat_map(|tags| tags.split(',')).filter_map(tag).collect();
        report.tags.extend(parameters.as_source.as_deref().map(origin_tag));
        report.description = parameters.description.clone();
        report.source = parameters.source.as_ref().map(|name| {
            let name = if name == "own" { me.to_string() } else { name.clone() };
            Source { organisation: Some(name), url: None, external_id: None }
        });
        // A report that readers would refuse is refused here, before anything is signed.
        Record::Report(report.clone()).encode().map_err(ApiError::bad)?;
        let modes = ["add", "refresh", "mirror"];
        let mode = match parameters.mode.as_deref() {
            None | Some("add") => Mode::Add,
            Some("refresh") => Mode::Refresh,
            Some("mirror") => Mode::Mirror(parameters.withdraw_max.unwrap_or(REMOVALS_PERCENT)),
            Some(other) => return Err(ApiError::bad(crate::record::UnknownName::new("mode", other, modes.into_iter()))),
        };
        Ok(Self {
            mode,
            origin: parameters.as_source.as_deref().map(origin_tag),
            channel: parameters.channel.parse().map_err(ApiError::bad)?,
            tlp: parameters.tlp.as_deref().map(Tlp::parse).transpose().map_err(ApiError::bad)?,
            report,
            format: word::<Format>(parameters.format.as_ref())?,
            name: parameters.name.clone().unwrap_or_default(),
            columns: parameters.columns.clone(),
            kind: word::<TypeName>(parameters.kind.as_ref())?,
            subdomains: parameters.subdomains,
            must_say: parameters.must_say,
            may_be_empty: parameters.may_be_empty,
            dry_run: parameters.dry_run,
            anyway: parameters.anyway,
        })
    }

    /// How a file that begins with `start` is read.
    pub fn about(&self, start: &[u8]) -> Result<About, ApiError> {
        let format = match self.format {
            Some(format) => {
                crate::exchange::sniff(start).map_err(ApiError::bad)?;
                if let Format::Text(layout) = format
                    && crate::exchange::is_web_page(start, layout)
                {
                    return Err(ApiError::bad(crate::exchange::FormatError::Page));
                }
                format
            }
            None => detect(start, &self.name).map_err(ApiError::bad)?,
        };
        let layout = match format {
            Format::Text(layout) => layout,
            Format::Stix | Format::Misp | Format::Json => Layout::Plain,
        };
        let mut text = TextReader::new(layout, self.kind.clone());
        if let Some(columns) = &self.columns {
            text = text.with_columns(columns).map_err(ApiError::bad)?;
        }
        Ok(About { format, title: self.report.title.clone(), text, subdomains: self.subdomains })
    }

    /// A report as it goes out: with what was said once where it says nothing.
    pub fn complete(&self, mut report: Report) -> Report {
        let said = &self.report;
        report.role = report.role.or(said.role);
        report.usage = report.usage.or(said.usage);
        report.confidence = report.confidence.or(said.confidence);
        report.valid_until = report.valid_until.or(said.valid_until).filter(|until| report.valid_from.is_none_or(|from| from <= *until));
        report.description = report.description.or_else(|| said.description.clone());
        said.tags
            .iter()
            .filter(|tag| !report.tags.contains(tag))
            .cloned()
            .collect::<Vec<_>>()
            .into_iter()
            .for_each(|tag| report.tags.push(tag));
        match (&mut report.source, &said.source) {
            (Some(source), Some(said)) => source.organisation = source.organisation.take().or_else(|| said.organisation.clone()),
            (source @ None, said) => source.clone_from(said),
            (Some(_), None) => (),
        }
        crate::exchange::fit(&mut report);
        report
    }
}

/// Whether what has these tags came from this source; without one, from none.
pub(super) fn is_of(tags: &[String], origin: Option<&str>) -> bool {
    match origin {
        Some(origin) => tags.iter().any(|tag| tag == origin),
        None => tags.iter().all(|tag| !tag.starts_with(ORIGIN_TAG)),
    }
}
