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
    envelope::part_of,
    exchange::{Row, Stated, StixBundle, csv_header, misp_line},
    query::{self, Assertion, Found, Question, Reading, Standing, VALUES_MAX},
    record::{Kind, Record, RecordRef, Timestamp, Tlp, UnknownName},
};
use axum::{
    Extension,
    body::{Body, Bytes},
    extract::{Query, State},
    http::HeaderMap,
    response::IntoResponse,
};
use std::collections::BTreeSet;

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
    let (pieces, waiting) = tokio::sync::mpsc::channel::<std::io::Result<Bytes>>(PIECES_MAX);
    let deed = Deed(format!("exports as {name}, up to {}", question.tlp_max.unwrap_or(Tlp::Red).label()));
    tokio::task::spawn_blocking(move || {
        let tlp_max = question.tlp_max.unwrap_or(Tlp::Red);
        let mut sheet = Sheet {
            form,
            bundle: StixBundle::default(),
            text: String::new(),
            pieces,
            tlp_max,
            proofs: parameters.proofs,
            revoked: BTreeSet::new(),
        };
        // The body breaks off, so that nobody takes a part for the whole.
        if let Err(error) = sheet.write(&local, question, now) {
            tracing::error!(error = error.text, "an export ended early");
            let _reader_gone = sheet.pieces.blocking_send(Err(std::io::Error::other(error.text)));
        }
    });
    let mut waiting = waiting;
    let stream = futures::stream::poll_fn(move |context| waiting.poll_recv(context));
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
    pieces: tokio::sync::mpsc::Sender<std::io::Result<Bytes>>,
    tlp_max: Tlp,
    proofs: bool,
    /// Records that were written as taken back.
    revoked: BTreeSet<RecordRef>,
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
                    self.assertion(&mut reading, assertion)?;
                    if self.text.len() >= PIECE_BYTES && !self.send() {
                        return Ok(());
                    }
                }
            }
            match answer.cursor {
                Some(cursor) => question.cursor = Some(cursor),
                None if answer.cut => {
                    return Err(ApiError::bad("there is more than can be looked at for this question; ask more narrowly"));
                }
                None => break,
            }
        }
        if let Some(since) = question.since.filter(|_| matches!(self.form, Form::Stix | Form::Json | Form::Csv)) {
            self.taken_back(&mut reading, local, &question, since)?;
        }
        if self.form == Form::Stix {
            let end = std::mem::take(&mut self.bundle).finish();
            self.text.push_str(&end);
        }
        self.send();
        Ok(())
    }

    /// What was taken back since, whenever it was said.
    fn taken_back(&mut self, reading: &mut Reading<'_>, local: &Local, question: &Question, since: Timestamp) -> Result<(), ApiError> {
        for number in 0..local.ledger.batches() {
            let Some(batch) = reading.batch(number)?.filter(|batch| batch.entry.received >= since && batch.aside.is_none()) else {
                continue;
            };
            for index in 0..batch.head.count {
                let Some(Record::Withdrawal(withdrawal)) = batch.record(index) else { continue };
                let by = batch.reference(index);
                for target in withdrawal.targets.iter().filter_map(|target| target.resolve(&by.feed, by.seq)) {
                    for reference in under(reading, local, &target)? {
                        let Some(found) = reading.named(&reference)? else { continue };
                        let Record::Indicator(indicator) = &found.record else { continue };
                        let head = &found.batch.head;
                        let meant = head.tlp <= self.tlp_max
                            && question.origin.as_ref().is_none_or(|origin| *origin == head.member)
                            && question.channel.as_ref().is_none_or(|channel| *channel == head.channel)
                            && question.kind.is_none_or(|kind| kind == indicator.value.kind());
                        if !meant || self.revoked.contains(&reference) {
                            continue;
                        }
                        let assertion = reading.assertion_up_to(&found, self.tlp_max)?;
                        self.record(reading, &found, &assertion)?;
                        if self.text.len() >= PIECE_BYTES && !self.send() {
                            return Ok(());
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Answers whether somebody still reads.
    fn send(&mut self) -> bool {
        let piece = Bytes::from(std::mem::take(&mut self.text));
        self.pieces.blocking_send(Ok(piece)).is_ok()
    }

    fn assertion(&mut self, reading: &mut Reading<'_>, assertion: &Assertion) -> Result<(), ApiError> {
        let Ok(reference) = assertion.reference.parse::<RecordRef>() else { return Ok(()) };
        match reading.named(&reference)? {
            Some(found) => self.record(reading, &found, assertion),
            None => Ok(()),
        }
    }

    fn record(&mut self, reading: &mut Reading<'_>, found: &Found, assertion: &Assertion) -> Result<(), ApiError> {
        let revoked = assertion.standing == Standing::Withdrawn;
        // A format without a word for what is taken back leaves it out.
        if assertion.standing != Standing::Accepted && !(revoked && matches!(self.form, Form::Stix | Form::Json | Form::Csv)) {
            return Ok(());
        }
        let (reference, head) = (&found.reference, &found.batch.head);
        let Record::Indicator(indicator) = &found.record else { return Ok(()) };
        if revoked && !self.revoked.insert(reference.clone()) {
            return Ok(());
        }
        // A report that is marked narrower than what is asked for is not named either.
        let report_tlp = match &found.report {
            Some(report) => reading.named(report)?.map(|report| report.batch.head.tlp),
            None => None,
        };
        let told = report_tlp.is_some_and(|tlp| tlp <= self.tlp_max);
        let row = Row {
            value: indicator.value.clone(),
            scope: indicator.scope,
            role: assertion.role.clone(),
            usage: assertion.usage.clone(),
            confidence: assertion.confidence,
            valid_from: indicator.valid_from,
            until: Timestamp::parse(&assertion.ends).unwrap_or(head.time),
            tlp: assertion.tlp.clone(),
            origin: assertion.origin.clone(),
            record: assertion.reference.clone(),
            title: assertion.title.clone().unwrap_or_default(),
            tags: assertion.tags.clone(),
            standing: if revoked { "withdrawn" } else { "accepted" }.to_owned(),
        };
        match self.form {
            Form::List => self.text.push_str(&row.line()),
            Form::Csv => self.text.push_str(&row.csv()),
            Form::Json => self.text.push_str(&row.json()),
            Form::Ecs => self.text.push_str(&row.ecs()),
            Form::Stix | Form::Misp => {
                let report = found.report.as_ref().filter(|_| told).map(ToString::to_string);
                let stated = Stated {
                    scope: row.scope,
                    row,
                    signed: head.time,
                    tlp: head.tlp,
                    report: report.zip(report_tlp),
                    revoked: found.withdrawn.as_ref().map(|withdrawn| withdrawn.at).filter(|_| revoked),
                    proof: if self.proofs { proof_of(found)? } else { None },
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

/// The signed head and the record with the proof of its place in it, both in base64: enough to check the author's word anywhere.
fn proof_of(found: &Found) -> Result<Option<(String, String)>, ApiError> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let (entry, index) = (&found.batch.entry, found.reference.index);
    let part = part_of(&entry.body, found.batch.head.count, |at| at == index).map_err(ApiError::internal)?;
    Ok(Some((STANDARD.encode(&entry.head), STANDARD.encode(part))))
}

/// A record itself, or, of a report, all that stands under it: they come behind it in its feed.
fn under(reading: &mut Reading<'_>, local: &Local, target: &RecordRef) -> Result<Vec<RecordRef>, ApiError> {
    let is_report = reading.named(target)?.is_some_and(|found| matches!(found.record, Record::Report(_)));
    if !is_report {
        return Ok(vec![target.clone()]);
    }
    let Some(state) = local.ledger.feed(&target.feed) else { return Ok(Vec::new()) };
    let mut members = Vec::new();
    for seq in target.seq..=state.last() {
        let Some(number) = local.ledger.batch_number(&target.feed, seq)? else { continue };
        let Some(batch) = reading.batch(number)? else { continue };
        for index in 0..batch.head.count {
            let Some(Record::Indicator(indicator)) = batch.record(index) else { continue };
            let reference = batch.reference(index);
            if indicator.report.as_ref().and_then(|report| report.resolve(&reference.feed, reference.seq)).as_ref() == Some(target) {
                members.push(reference);
            }
        }
    }
    Ok(members)
}
