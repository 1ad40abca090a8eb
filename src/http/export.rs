//! Exports at the local window: what a question finds, what an outlet holds, or what has changed, in the formats of others.
//!
//! ```text
//! question -pages of answers---> records that stand -Row, Stated-> csv, json, ecs, stix, misp, list   (streamed; memory of a page)
//! outlet   -pages of its lines-> the record of each  --^
//! cursor   -the journal--------> what is other than it was, and what does not stand any more --^
//! ```
//!
//! The answer's header `huecry-cursor` is what a later export names with `after`: it then tells what came, what was judged
//! anew or renewed, and, marked as such, what does not stand any more.

use super::{
    ApiError, Local, Operator, QueryParameters, Since, Witness, blocking,
    contract::{self, Query, Raw},
    each_changed,
};
use crate::{
    envelope::part_of,
    exchange::{Row, Stated, StixBundle, csv_header, misp_line},
    ledger::{Change, Seen, View},
    node::enforcer::OutletEntry,
    policy::Verdict,
    query::{self, Assertion, Found, Meant, Question, Reading, Standing, VALUES_MAX},
    record::{Kind, Observable, Record, RecordRef, Timestamp, Tlp, UnknownName},
};
use axum::{
    Extension,
    body::{Body, Bytes},
    extract::State,
    http::HeaderMap,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, sync::Arc};

/// Pieces that wait for the reader.
const PIECES_MAX: usize = 8;
/// Bytes that are gathered before they are sent.
const PIECE_BYTES: usize = 256 * 1024;
/// The header that carries the cursor.
pub const CURSOR_HEADER: &str = "huecry-cursor";
/// The header that says whether records were erased since the cursor that was named: of those nothing is left to be told.
pub const ERASED_HEADER: &str = "huecry-erased";
/// Lines of an outlet that are taken at once: some 10 MiB.
const LINES_AT_ONCE: usize = 65_536;
/// Records that have changed since a cursor, remembered so that none is told twice: some 200 MB of names.
const CHANGED_MAX: usize = 1_000_000;

/// What is said when there are more.
const MANY_CHANGES: &str = "more than 1,000,000 records have changed since; take everything once more";

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
    /// A line for each entry of an outlet; whoever asks writes it for a tool.
    Entries,
}

impl Form {
    const ALL: [(&str, Self); 7] = [
        ("list", Self::List),
        ("csv", Self::Csv),
        ("json", Self::Json),
        ("ecs", Self::Ecs),
        ("stix", Self::Stix),
        ("misp", Self::Misp),
        ("entries", Self::Entries),
    ];

    /// Whether the format has a word for what does not stand any more.
    fn takes_back(self) -> bool {
        matches!(self, Self::Stix | Self::Json | Self::Csv | Self::Misp)
    }
}

/// An entry of an outlet, on its way to whoever writes it for a tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EntryLine {
    pub value: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub below: bool,
    pub until: u64,
    pub watched: bool,
}

/// Where an export takes its records from.
enum From {
    Question,
    Outlet(String),
    Cursor(Seen),
}

/// `GET /v1/export`.
pub(super) async fn export(
    State(local): State<Local>,
    Extension(operator): Extension<Operator>,
    Extension(witness): Extension<Witness>,
    Query(parameters): Query<QueryParameters>,
) -> Result<Raw<(HeaderMap, Body)>, ApiError> {
    let name = parameters.format.clone().unwrap_or_default();
    let form = Form::ALL.iter().find(|(known, _)| *known == name).map(|(_, form)| *form);
    let form = form.ok_or_else(|| ApiError::bad(UnknownName::new("format", &name, Form::ALL.iter().map(|(name, _)| *name))))?;
    let mut question = parameters.question()?;
    question.tlp_max = Some(question.tlp_max.map_or(operator.clearance, |tlp| tlp.min(operator.clearance)));
    question.record = Some(Kind::Indicator);
    question.limit = VALUES_MAX;
    question.all |= form == Form::Misp;
    let view = local.view(&operator);
    let from = match (&parameters.outlet, &parameters.after) {
        (Some(_), Some(_)) => {
            let why = "an outlet's lines change by orders and policies too, which no cursor counts; take them whole";
            return Err(ApiError::bad(why));
        }
        (Some(outlet), None) => {
            let outlets = local.enforcer.specs();
            let names = || outlets.iter().map(|outlet| outlet.name.as_str());
            if !names().any(|name| name == outlet) {
                return Err(ApiError::bad(UnknownName::new("outlet", outlet, names())));
            }
            // A tool that was given a part would take it for the whole.
            let above = outlets.iter().find(|one| one.name == *outlet && form == Form::Entries && operator.clearance < one.tlp_max);
            if let Some(above) = above {
                let (tlp, yours) = (above.tlp_max.label(), operator.clearance.label());
                return Err(ApiError::forbidden(format!(
                    "`{outlet}` takes up to {tlp}, and you may see up to {yours}: a part is no export"
                )));
            }
            From::Outlet(outlet.clone())
        }
        (None, _) if form == Form::Entries => return Err(ApiError::bad("what is written for tools is an outlet's; name it")),
        (None, Some(_)) if form == Form::Misp => {
            return Err(ApiError::bad("a MISP feed is whole; whoever reads it takes what is new of it"));
        }
        (None, Some(cursor)) => From::Cursor(view.read_cursor(cursor).map_err(ApiError::bad)?),
        // What was taken back since, or judged anew, may have been received long before.
        (None, None) if form != Form::Misp && question.since.is_some() => {
            From::Cursor(view.at_time(question.since.take().unwrap_or_default())?)
        }
        (None, None) => From::Question,
    };
    witness.demand()?;
    let now = local.clock.now();
    // What is wrong with the question is said before anything is sent, and where one goes on before anything is read.
    let (first, here) = (Question { limit: 1, ..question.clone() }, local.clone());
    let since = if let From::Cursor(seen) = from { Some(seen) } else { None };
    let all = view.clone();
    let (cursor, erased) = blocking(move || {
        query::answer(&here.ledger, &first, now)?;
        let mut erased = false;
        if let Some(since) = since {
            all.each_change(since, |change| {
                erased |= matches!(change, Change::Erased);
                Ok(())
            })?;
        }
        Ok((all.cursor(all.here())?, erased))
    })
    .await?;
    let (pieces, waiting) = tokio::sync::mpsc::channel::<std::io::Result<Bytes>>(PIECES_MAX);
    // An error breaks the body off, so that a client cannot mistake a part for the whole.
    contract::streamed(pieces, move |pieces| {
        let tlp_max = question.tlp_max.unwrap_or(Tlp::Red);
        let (bundle, text, proofs) = (StixBundle::default(), String::new(), parameters.proofs);
        let mut sheet = Sheet { form, bundle, text, pieces: pieces.clone(), witness, tlp_max, proofs, told: BTreeSet::new() };
        sheet.write(&local, question, (&from, &view), now)
    });
    let mut headers = HeaderMap::new();
    for (header, text) in [(CURSOR_HEADER, cursor), (ERASED_HEADER, erased.to_string())] {
        if let Ok(text) = text.parse() {
            headers.insert(header, text);
        }
    }
    Ok(Raw((headers, contract::pieces(waiting))))
}

struct Sheet {
    form: Form,
    bundle: StixBundle,
    text: String,
    pieces: tokio::sync::mpsc::Sender<std::io::Result<Bytes>>,
    witness: Witness,
    tlp_max: Tlp,
    proofs: bool,
    /// Records that were told of what has changed.
    told: BTreeSet<RecordRef>,
}

/// Whoever reads has gone, which is no error.
struct Gone;

/// What becomes of one record or page.
type Told = Result<Result<(), Gone>, ApiError>;

impl Sheet {
    fn write(&mut self, local: &Local, question: Question, (from, view): (&From, &View), now: Timestamp) -> Result<(), ApiError> {
        if self.form == Form::Csv {
            self.text.push_str(&csv_header());
        }
        let mut reading = Reading::up_to(self.tlp_max, view.ledger(), now);
        let done = match from {
            From::Question => self.answers(&mut reading, local, question, now),
            From::Outlet(outlet) => self.lines(&mut reading, local, &question, outlet),
            From::Cursor(seen) => self.changes(&mut reading, local, &question, (view, *seen)),
        };
        if done?.is_err() {
            return Ok(());
        }
        if self.form == Form::Stix {
            let end = std::mem::take(&mut self.bundle).finish();
            self.text.push_str(&end);
        }
        let _last_piece = self.send();
        Ok(())
    }

    /// What a question finds.
    fn answers(&mut self, reading: &mut Reading<'_>, local: &Local, mut question: Question, now: Timestamp) -> Told {
        loop {
            let answer = query::answer(&local.ledger, &question, now)?;
            for value in &answer.values {
                for assertion in value.assertions.iter().filter(|one| one.kind == "indicator") {
                    let Ok(reference) = assertion.reference.parse::<RecordRef>() else { continue };
                    let Some(found) = reading.named(&reference)? else { continue };
                    // Readers of a feed keep attributes that vanish, so withdrawn ones stay as deleted.
                    let gone = self.form == Form::Misp && assertion.standing != Standing::Over && has_stood(&found);
                    if assertion.standing != Standing::Accepted && !gone {
                        continue;
                    }
                    self.record(reading, &found, assertion)?;
                    if self.send_if_full().is_err() {
                        return Ok(Err(Gone));
                    }
                }
            }
            match answer.cursor {
                Some(cursor) => question.cursor = Some(cursor),
                None if answer.cut => {
                    return Err(ApiError::bad("there is more than can be looked at for this question; ask more narrowly"));
                }
                None => return Ok(Ok(())),
            }
        }
    }

    /// What an outlet's export holds, as far as the question means it: the record for which each line stands there.
    fn lines(&mut self, reading: &mut Reading<'_>, local: &Local, question: &Question, outlet: &str) -> Told {
        let meant = Meant::of(question)?;
        let mut after: Option<Observable> = None;
        loop {
            let entries = local.enforcer.standing(outlet, after.as_ref(), LINES_AT_ONCE).unwrap_or_default();
            after = entries.last().map(|last| last.entry.value.clone());
            let more = entries.len() >= LINES_AT_ONCE;
            for one in entries {
                let Some(found) = self.behind(reading, &meant, &one)? else { continue };
                if self.form == Form::Entries {
                    self.witness.found(&found);
                    self.entry(&one.entry)?;
                } else if !one.entry.watched {
                    let assertion = reading.assertion(&found)?;
                    self.record(reading, &found, &assertion)?;
                }
                if self.send_if_full().is_err() {
                    return Ok(Err(Gone));
                }
            }
            if !more {
                return Ok(Ok(()));
            }
        }
    }

    /// A record for which a line may be told: the one for which it stands there, or another that says the same and is meant.
    fn behind(&self, reading: &mut Reading<'_>, meant: &Meant<'_>, line: &OutletEntry) -> Result<Option<Arc<Found>>, ApiError> {
        if let Some(found) = reading.named(&line.record)?
            && meant.is_meant_by_value(reading, &found)?
        {
            return Ok(Some(found));
        }
        let value = &line.entry.value;
        for place in reading.places(value)? {
            let Some(found) = reading.found(place)? else { continue };
            let says = matches!(&found.record, Record::Indicator(indicator) if indicator.value == *value);
            if says && reading.standing(&found).0 == Standing::Accepted && meant.is_meant_by_value(reading, &found)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn entry(&mut self, entry: &crate::exchange::Entry) -> Result<(), ApiError> {
        let kind = entry.value.other().map_or_else(|| entry.value.kind().to_string(), |name| format!("other:{name}"));
        let (below, until, watched) = (entry.below, entry.until.ms(), entry.watched);
        let line = EntryLine { value: entry.value.to_string(), kind, below, until, watched };
        self.text.push_str(&serde_json::to_string(&line).map_err(ApiError::internal)?);
        self.text.push('\n');
        Ok(())
    }

    /// Reports the changes since `seen`, as far as the question means them.
    fn changes(&mut self, reading: &mut Reading<'_>, local: &Local, question: &Question, (view, seen): (&View, Seen)) -> Told {
        let (meant, mut changes) = (Meant::whatever_stands(question)?, Vec::new());
        view.each_change(seen, |change| {
            if changes.last() != Some(&change) && changes.len() <= CHANGED_MAX {
                changes.push(change);
            }
            Ok(())
        })?;
        if changes.len() > CHANGED_MAX {
            return Err(ApiError::bad(MANY_CHANGES));
        }
        for change in changes {
            let mut tell = |reading: &mut Reading<'_>, record: RecordRef, since| Ok(self.changed(reading, &meant, &record, since)?.is_ok());
            if !each_changed(reading, local, &change, &mut tell)? {
                return Ok(Err(Gone));
            }
        }
        Ok(Ok(()))
    }

    /// One record as it stands now; one that stood once and does so no more is told as taken back.
    fn changed(&mut self, reading: &mut Reading<'_>, meant: &Meant<'_>, record: &RecordRef, since: Since) -> Told {
        if !self.told.insert(record.clone()) {
            return Ok(Ok(()));
        }
        if self.told.len() > CHANGED_MAX {
            return Err(ApiError::bad(MANY_CHANGES));
        }
        // One that was set aside stands under no name any more.
        let found = reading.named_or_aside(record)?;
        let Some(found) = found.filter(|found| matches!(found.record, Record::Indicator(_))) else { return Ok(Ok(())) };
        let is_told = match reading.standing(&found).0 {
            Standing::Accepted => true,
            // An end that came by itself was told with the record; one that was brought nearer was not.
            Standing::Over => since == Since::Judged,
            _ => has_stood(&found),
        };
        if is_told && meant.is_meant_by_value(reading, &found)? {
            let assertion = reading.assertion(&found)?;
            self.record(reading, &found, &assertion)?;
        }
        Ok(self.send_if_full())
    }

    fn send_if_full(&mut self) -> Result<(), Gone> {
        if self.text.len() >= PIECE_BYTES { self.send() } else { Ok(()) }
    }

    /// Sends what is gathered, if somebody still reads.
    fn send(&mut self) -> Result<(), Gone> {
        let piece = Bytes::from(std::mem::take(&mut self.text));
        // The body breaks off where it cannot be noted who gets it.
        let piece = self.witness.write().map(|()| piece).map_err(|error| std::io::Error::other(error.text));
        let goes_on = piece.is_ok();
        self.pieces.blocking_send(piece).map_err(|_| Gone).and_then(|()| goes_on.then_some(()).ok_or(Gone))
    }

    fn record(&mut self, reading: &mut Reading<'_>, found: &Found, assertion: &Assertion) -> Result<(), ApiError> {
        let revoked = assertion.standing != Standing::Accepted;
        if revoked && !self.form.takes_back() {
            return Ok(());
        }
        let Some(mut stated) = stated(reading, found, assertion)? else { return Ok(()) };
        self.witness.said(assertion);
        match self.form {
            Form::Entries => (),
            Form::List => self.text.push_str(&stated.row.line()),
            Form::Csv => self.text.push_str(&stated.row.csv()),
            Form::Json => self.text.push_str(&stated.row.json()),
            Form::Ecs => self.text.push_str(&stated.row.ecs()),
            Form::Stix => {
                stated.proof = if self.proofs { proof_of(found)? } else { None };
                let text = self.bundle.add(&stated);
                self.text.push_str(&text);
            }
            Form::Misp => {
                let line = serde_json::to_string(&misp_line(&stated)).map_err(ApiError::internal)?;
                self.text.push_str(&line);
                self.text.push('\n');
            }
        }
        Ok(())
    }
}

/// An indicator in the terms of other formats, as far as `reading` may know it; `None` for a record of another kind.
pub(crate) fn stated(reading: &mut Reading<'_>, found: &Found, assertion: &Assertion) -> Result<Option<Stated>, ApiError> {
    let head = &found.batch.head;
    let revoked = assertion.standing != Standing::Accepted;
    let Record::Indicator(indicator) = &found.record else { return Ok(None) };
    // A report marked above the clearance is not found, so it is not named either.
    let report = match &found.report {
        Some(name) => reading.named(name)?.map(|report| (name.to_string(), report.batch.head.tlp)),
        None => None,
    };
    let judged = found.batch.verdicts(found.reference.index).last().map(|verdict| verdict.at);
    Ok(Some(Stated {
        scope: indicator.scope,
        signed: head.time,
        judged,
        tlp: head.tlp,
        report,
        // What we let go ourselves went when we decided so; of what was set aside, when we say so.
        revoked: revoked.then(|| found.withdrawn.as_ref().map(|withdrawn| withdrawn.at).or(judged).unwrap_or(reading.now())),
        proof: None,
        row: Row {
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
        },
    }))
}

/// The signed head and the record with the proof of its place in it, both in base64: enough to check the author's word anywhere.
fn proof_of(found: &Found) -> Result<Option<(String, String)>, ApiError> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let (entry, index) = (&found.batch.entry, found.reference.index);
    let part = part_of(&entry.body, found.batch.head.count, |at| at == index).map_err(ApiError::internal)?;
    Ok(Some((STANDARD.encode(&entry.head), STANDARD.encode(part))))
}

/// Whether a record counted once, so that somebody may have been given it.
pub(crate) fn has_stood(found: &Found) -> bool {
    let (batch, index) = (&found.batch, found.reference.index);
    let accepted = |line: &crate::ledger::OutcomeLine| line.verdict() == Some(Verdict::Accept);
    accepted(&batch.first_outcome(index)) || batch.verdicts(index).iter().any(|one| accepted(&one.line))
}
