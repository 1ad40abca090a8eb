//! Exports at the local window: what a question finds, record by record, in the formats of others.
//!
//! ```text
//! question -pages of answers-> records that stand -Row, Stated-> csv, json, ecs, stix, list     (streamed; memory of a page)
//! ```
//!
//! The answer's header `huecry-cursor` is what a later export names with `since` to have only what is new: with it come the
//! records that were taken back meanwhile, marked as such where the format has a word for it.

use super::{ApiError, Deed, Local, Operator, QueryParameters, blocking};
use crate::{
    exchange::{Row, Stated, StixBundle, csv_header, misp_line},
    query::{self, Assertion, Question, Reading, Standing, VALUES_MAX},
    record::{Kind, Record, RecordRef, Timestamp, Tlp, TypeName, UnknownName, WireRef},
};
use axum::{
    Extension,
    body::{Body, Bytes},
    extract::{Query, State},
    http::HeaderMap,
    response::IntoResponse,
};
use std::convert::Infallible;

/// Pieces that wait for the reader.
const PIECES_MAX: usize = 8;
/// Bytes that are gathered before they are sent.
const PIECE_BYTES: usize = 256 * 1024;
/// The header that carries the cursor.
pub const CURSOR_HEADER: &str = "huecry-cursor";

/// How records are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    List,
    Csv,
    Json,
    Ecs,
    Stix,
    /// A line for each attribute with its event; whoever asks makes files of them.
    Misp,
}

impl Form {
    const ALL: [(&str, Self); 6] =
        [("list", Self::List), ("csv", Self::Csv), ("json", Self::Json), ("ecs", Self::Ecs), ("stix", Self::Stix), ("misp", Self::Misp)];
}

/// `GET /v1/export`.
pub(super) async fn export(
    State(local): State<Local>,
    Extension(operator): Extension<Operator>,
    Query(parameters): Query<QueryParameters>,
) -> Result<impl IntoResponse, ApiError> {
    let name = parameters.format.clone().unwrap_or_default();
    let form = Form::ALL.iter().find(|(known, _)| *known == name).map(|(_, form)| *form);
    let form = form.ok_or_else(|| ApiError::bad(UnknownName::new("format", &name, Form::ALL.iter().map(|(name, _)| *name))))?;
    let mut question = parameters.question()?;
    question.tlp_max = Some(question.tlp_max.map_or(operator.clearance, |tlp| tlp.min(operator.clearance)));
    question.record = Some(Kind::Indicator);
    question.limit = VALUES_MAX;
    let now = local.clock.now();
    // What is wrong with the question is said before anything is sent.
    let (first, here) = (Question { limit: 1, ..question.clone() }, local.clone());
    blocking(move || Ok(query::answer(&here.ledger, &first, now)?)).await?;
    let (pieces, waiting) = tokio::sync::mpsc::channel::<Bytes>(PIECES_MAX);
    let deed = Deed(format!("exports as {name}, up to {}", question.tlp_max.unwrap_or(Tlp::Red).label()));
    tokio::task::spawn_blocking(move || {
        let mut sheet = Sheet { form, bundle: StixBundle::default(), text: String::new(), pieces };
        // The reader sees a text that is cut off; whoever writes it to a file reads it back before it counts.
        if let Err(error) = sheet.write(&local, question, now) {
            tracing::error!(error = error.text, "an export ended early");
        }
    });
    let mut waiting = waiting;
    let stream = futures::stream::poll_fn(move |context| waiting.poll_recv(context));
    let stream = futures::StreamExt::map(stream, Ok::<_, Infallible>);
    let mut headers = HeaderMap::new();
    if let Ok(cursor) = now.precise().parse() {
        headers.insert(CURSOR_HEADER, cursor);
    }
    Ok((Extension(deed), headers, Body::from_stream(stream)))
}

struct Sheet {
    form: Form,
    bundle: StixBundle,
    text: String,
    pieces: tokio::sync::mpsc::Sender<Bytes>,
}

impl Sheet {
    fn write(&mut self, local: &Local, mut question: Question, now: Timestamp) -> Result<(), ApiError> {
        if self.form == Form::Csv {
            self.text.push_str(&csv_header());
        }
        // Who asks for what is new has to hear what is over.
        question.all |= question.since.is_some();
        let mut reading = Reading::new(&local.ledger, now);
        loop {
            let answer = query::answer(&local.ledger, &question, now)?;
            for value in &answer.values {
                for assertion in value.assertions.iter().filter(|one| one.kind == "indicator") {
                    self.assertion(&mut reading, &value.kind, &value.value, assertion)?;
                    if self.text.len() >= PIECE_BYTES && !self.send() {
                        return Ok(());
                    }
                }
            }
            match answer.cursor {
                Some(cursor) => question.cursor = Some(cursor),
                None => break,
            }
        }
        if self.form == Form::Stix {
            let end = std::mem::take(&mut self.bundle).finish();
            self.text.push_str(&end);
        }
        self.send();
        Ok(())
    }

    /// Answers whether somebody still reads.
    fn send(&mut self) -> bool {
        let piece = Bytes::from(std::mem::take(&mut self.text));
        self.pieces.blocking_send(piece).is_ok()
    }

    fn assertion(&mut self, reading: &mut Reading<'_>, kind: &str, value: &str, assertion: &Assertion) -> Result<(), ApiError> {
        let revoked = assertion.standing == Standing::Withdrawn;
        // A format without a word for what is taken back leaves it out.
        if assertion.standing != Standing::Accepted && !(revoked && matches!(self.form, Form::Stix | Form::Json | Form::Csv)) {
            return Ok(());
        }
        let Ok(kind) = kind.parse::<TypeName>() else { return Ok(()) };
        let Ok(value) = kind.read(value) else { return Ok(()) };
        let Ok(reference) = assertion.reference.parse::<RecordRef>() else { return Ok(()) };
        let Some(found) = reading.named(&reference)? else { return Ok(()) };
        let Record::Indicator(indicator) = &found.record else { return Ok(()) };
        let until = Timestamp::parse(&assertion.ends).unwrap_or(found.batch.head.time);
        let row = Row {
            value,
            scope: indicator.scope,
            role: assertion.role.clone(),
            usage: assertion.usage.clone(),
            confidence: assertion.confidence,
            valid_from: indicator.valid_from,
            until,
            tlp: assertion.tlp.clone(),
            origin: assertion.origin.clone(),
            record: assertion.reference.clone(),
            title: assertion.title.clone().unwrap_or_default(),
            tags: assertion.tags.clone(),
            standing: if revoked { "withdrawn" } else { "accepted" }.to_owned(),
        };
        match self.form {
            Form::List => {
                self.text.push_str(&row.value.to_string());
                self.text.push('\n');
            }
            Form::Csv => self.text.push_str(&row.csv()),
            Form::Json => self.text.push_str(&row.json()),
            Form::Ecs => self.text.push_str(&row.ecs()),
            Form::Stix | Form::Misp => {
                let report = indicator.report.as_ref().and_then(|report| WireRef::resolve(report, &reference.feed, reference.seq));
                let stated = Stated {
                    scope: row.scope,
                    row,
                    signed: found.batch.head.time,
                    tlp: found.batch.head.tlp,
                    report: report.map(|report| report.to_string()),
                    revoked,
                    proof: None,
                };
                if self.form == Form::Stix {
                    let text = self.bundle.add(&stated);
                    self.text.push_str(&text);
                } else {
                    let line = serde_json::to_string(&misp_line(&stated)).map_err(ApiError::internal)?;
                    self.text.push_str(&line);
                    self.text.push('\n');
                }
            }
        }
        Ok(())
    }
}
