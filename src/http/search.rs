//! What is known: answers to questions, and the whole story of one value or record.

use super::{
    ApiError, Local, Operator, Witness, blocking,
    contract::{Json, Query},
    enforce, time,
};
use crate::{
    node::enforcer::HitLine,
    query::{self, Question},
    record::Tlp,
};
use axum::{Extension, extract::State};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What `query` may be asked.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct QueryParameters {
    /// A value, a network, or `*.domain`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Words of a report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// `indicator`, `sighting`, `report`, `document`, `question`, ...
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
    /// When it was received: from and before, RFC 3339 or a date.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tlp_max: Option<String>,
    pub all: bool,
    /// `value`, `newest` or `confidence`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sort: Option<String>,
    pub limit: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// How an export writes what is found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// A bundle carries the signed heads and proofs of its records.
    pub proofs: bool,
    /// An export of what this outlet holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outlet: Option<String>,
    /// An export of what is other than when this cursor was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

impl QueryParameters {
    pub(super) fn question(&self) -> Result<Question, ApiError> {
        fn read<T: std::str::FromStr<Err: std::fmt::Display>>(text: &Option<String>) -> Result<Option<T>, ApiError> {
            text.as_ref().map(|text| text.parse()).transpose().map_err(ApiError::bad)
        }
        let kind = |name: &String| match name.parse::<crate::record::TypeName>() {
            Ok(crate::record::TypeName::Typed(kind)) => Ok(kind),
            Ok(crate::record::TypeName::Other(_)) => Ok(crate::record::ObservableType::Other),
            Err(error) => Err(ApiError::bad(error)),
        };
        Ok(Question {
            text: self.value.clone(),
            words: self.text.clone(),
            tag: self.tag.clone(),
            actor: self.actor.clone(),
            origin: read(&self.origin)?,
            channel: read(&self.channel)?,
            source: self.source.clone(),
            kind: self.kind.as_ref().map(kind).transpose()?,
            record: read(&self.record)?,
            since: time(&self.since)?,
            until: time(&self.until)?,
            tlp_max: self.tlp_max.as_deref().map(Tlp::parse).transpose().map_err(ApiError::bad)?,
            all: self.all,
            sort: read(&self.sort)?.unwrap_or_default(),
            limit: self.limit,
            cursor: self.cursor.clone(),
        })
    }
}

pub(super) async fn ask(
    State(local): State<Local>,
    Extension(operator): Extension<Operator>,
    Extension(witness): Extension<Witness>,
    Query(parameters): Query<QueryParameters>,
) -> Result<Json<query::Answer>, ApiError> {
    let mut question = parameters.question()?;
    question.tlp_max = Some(question.tlp_max.map_or(operator.clearance, |tlp| tlp.min(operator.clearance)));
    let now = local.clock.now();
    // Most are about one value, and done before another thread would have heard of them.
    if let Some(answer) = query::answer_at_once(&local.ledger, &local.current.get(), &question, operator.clearance, now)? {
        saw(&witness, &answer);
        return Ok(Json(answer));
    }
    blocking(move || {
        let mut answer = query::answer(&local.ledger, &question, now)?;
        query::weigh(&mut answer, &local.ledger, &local.current.get(), operator.clearance, now)?;
        saw(&witness, &answer);
        Ok(Json(answer))
    })
    .await
}

fn saw(witness: &Witness, answer: &query::Answer) {
    let of_values = answer.values.iter().flat_map(|value| &value.assertions);
    of_values.chain(answer.records.iter().map(|record| &record.assertion)).for_each(|said| witness.said(said));
}

#[derive(Deserialize, JsonSchema)]
pub(super) struct ExplainParameters {
    what: String,
}

/// The whole story, and the lines of exports that hit the value.
#[derive(Serialize, JsonSchema)]
pub(super) struct ExplainReply {
    #[serde(flatten)]
    story: query::Explanation,
    lines: Vec<HitLine>,
}

pub(super) async fn explain(
    State(local): State<Local>,
    Extension(operator): Extension<Operator>,
    Extension(witness): Extension<Witness>,
    Query(parameters): Query<ExplainParameters>,
) -> Result<Json<ExplainReply>, ApiError> {
    if parameters.what.trim().is_empty() {
        return Err(ApiError::bad("say what to explain: a value, or a record as `member/channel#1.0`"));
    }
    blocking(move || {
        let (intake, orders, outlets) = (local.current.get(), local.enforcer.orders(), local.enforcer.specs());
        let (what, now) = (&parameters.what, local.clock.now());
        let story = query::explain(&local.ledger, &intake, &outlets, &orders, what, operator.clearance, now)?;
        story.records.iter().for_each(|one| witness.said(&one.assertion));
        let value = story.value.as_ref().and_then(|value| crate::record::Observable::recognise(&value.value).ok());
        let lines = value.map(|value| enforce::hitting(&local, &value, &operator, &witness)).unwrap_or_default();
        Ok(ExplainReply { story, lines })
    })
    .await
    .map(Json)
}
