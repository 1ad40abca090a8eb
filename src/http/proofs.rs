//! Proofs at the local window: a bundle that carries its authors' signatures is held against the cards that are here.

use super::{ApiError, Local, blocking, contract::Json, upload::Upload};
use crate::{
    envelope::{ProvedBatch, ProvedHead, Slot},
    exchange::{Carried, CarriedReader, Unclear},
    intake::{Intake, Known as _},
    record::{Decoded, Record, RecordRef, Timestamp},
};
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// What is wrong that is told one by one; the rest is a number.
const WRONG_MAX: usize = 50;
/// Heads that are remembered as proved: one is that of 256 records mostly.
const HEADS_MAX: usize = 4_096;

/// What a bundle proves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProofsReply {
    pub indicators: u64,
    /// Those that carry a signature.
    pub carrying: u64,
    pub proved: u64,
    /// How many of them, by author.
    pub by: BTreeMap<String, u64>,
    /// Proved in what they say themselves; what their reports say, which are not here, is not.
    pub without_report: u64,
    /// Proved, and taken back by their authors since, as far as is known here.
    pub withdrawn: u64,
    pub wrong: u64,
    pub first_wrong: Vec<WrongLine>,
}

/// An object whose proof does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WrongLine {
    pub line: u64,
    pub id: String,
    pub why: String,
}

/// `POST /v1/verify/bundle`.
pub(super) async fn verify(State(local): State<Local>, mut upload: Upload) -> Result<Json<ProofsReply>, ApiError> {
    let begun = (Checking::new(local), CarriedReader::default());
    let read = upload.each(begun, |(checking, reader), piece| {
        let carried = reader.feed(piece).map_err(ApiError::bad)?;
        carried.into_iter().try_for_each(|one| checking.check(one))
    });
    let (mut checking, reader) = match read.await {
        Ok(read) => read,
        Err(error) => {
            upload.drain().await;
            return Err(error);
        }
    };
    blocking(move || {
        let (carried, indicators) = reader.finish().map_err(ApiError::bad)?;
        carried.into_iter().try_for_each(|one| checking.check(one))?;
        Ok(Json(ProofsReply { indicators, ..checking.reply }))
    })
    .await
}

/// A record that is proved, and its report.
struct Proved {
    record: RecordRef,
    report: Option<RecordRef>,
    /// What its report says is known here.
    whole: bool,
}

struct Checking {
    local: Local,
    intake: std::sync::Arc<Intake>,
    now: Timestamp,
    heads: HashMap<Vec<u8>, Result<ProvedHead, String>>,
    reply: ProofsReply,
}

impl Checking {
    fn new(local: Local) -> Self {
        let (intake, now) = (local.current.get(), local.clock.now());
        Self { local, intake, now, heads: HashMap::new(), reply: ProofsReply::default() }
    }

    fn check(&mut self, carried: Result<Carried, Unclear>) -> Result<(), ApiError> {
        let carried = match carried {
            Ok(carried) => carried,
            Err(Unclear { line, why }) => {
                self.wrong(WrongLine { line, id: String::new(), why });
                return Ok(());
            }
        };
        self.reply.carrying += 1;
        match self.proved(&carried) {
            Ok(Proved { record, report, whole }) => {
                let mut withdrawn = self.local.ledger.withdrawn(&record)?;
                if let (None, Some(report)) = (&withdrawn, &report) {
                    withdrawn = self.local.ledger.withdrawn(report)?;
                }
                self.reply.proved += 1;
                *self.reply.by.entry(record.feed.member.to_string()).or_default() += 1;
                self.reply.withdrawn += u64::from(withdrawn.is_some());
                self.reply.without_report += u64::from(!whole);
            }
            Err(why) => self.wrong(WrongLine { line: carried.line, id: crate::record::excerpt(&carried.id), why }),
        }
        Ok(())
    }

    fn wrong(&mut self, line: WrongLine) {
        self.reply.wrong += 1;
        if self.reply.first_wrong.len() < WRONG_MAX {
            self.reply.first_wrong.push(line);
        }
    }

    /// The record that is proved to be what the bundle says.
    fn proved(&mut self, carried: &Carried) -> Result<Proved, String> {
        let (head, proof) = carried.proof.as_ref().ok_or("its proof is no base64")?;
        if self.heads.len() >= HEADS_MAX {
            self.heads.clear();
        }
        let (intake, now) = (&self.intake, self.now);
        let proved = self.heads.entry(head.clone()).or_insert_with(|| intake.prove(head, now).map_err(|refusal| refusal.text));
        let batch = ProvedBatch::open(proved.clone()?, proof.clone()).map_err(|error| error.to_string())?;
        let present = (0u16..).zip(batch.slots()).filter_map(|(index, slot)| match slot {
            Slot::Present(bytes) => Some((index, bytes)),
            Slot::Absent => None,
        });
        let [(index, bytes)] = present.collect::<Vec<_>>()[..] else { return Err("its proof does not show one record".to_owned()) };
        let signed = batch.head().head();
        let record = RecordRef { feed: signed.feed(), seq: signed.seq, index };
        if carried.name != record.to_string() {
            return Err(format!("its proof is that of {record}, and the bundle quotes `{}`", crate::record::excerpt(&carried.name)));
        }
        match Record::decode(bytes) {
            Ok(Decoded::Record(Record::Indicator(indicator))) => {
                let report = indicator.report.as_ref().and_then(|report| report.resolve(&record.feed, record.seq));
                let lent = match &report {
                    Some(report) => self.local.ledger.defaults(report),
                    None => Some(Default::default()),
                };
                carried.says(&indicator, signed, lent.as_deref())?;
                Ok(Proved { record, report, whole: lent.is_some() })
            }
            Ok(_) => Err("its author signed something else than an indicator there".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}
