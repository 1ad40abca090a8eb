//! Bundles at the local window: what a member may have, as a file; and a file taken in through the one door.

use super::{
    ApiError, Local, Witness, blocking,
    contract::{Acted, Query, Raw, pieces, streamed},
    upload::Upload,
};
use crate::{
    envelope::{ProvedHead, record_spans},
    intake::{Placed, Refusal},
    node::{
        door::{Arrived, DoorError, Request, document},
        egress::Egress,
        serving::Serving,
    },
    record::{MemberId, Timestamp, Tlp, UnknownName},
    replica::{BUNDLE_MAGIC, Body as BatchBody, BundleError, BundleReader, Message, Served, bundle_end, document_messages, frame},
};
use axum::{
    Extension,
    body::{Body, Bytes},
    extract::State,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use tokio::sync::oneshot;

/// Pieces that wait between the ledger, or the door, and the window.
const PIECES_MAX: usize = 64;
/// Batches that are with the door at once, so that many come under one fsync.
const WITH_THE_DOOR_MAX: usize = 128;
/// Whence what comes out of a bundle is said to come: no node has this key.
const BUNDLE_KEY: [u8; 32] = [0; 32];
/// Reasons for refusals that are told apart.
const REASONS_MAX: usize = 64;

/// What goes into a bundle.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BundleParameters {
    /// For whom; what this member may have goes in.
    pub to: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tlp_max: Option<String>,
}

/// What came of taking a bundle in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ImportReply {
    pub batches: u64,
    /// Batches that were new, or more of one that was here.
    pub new: u64,
    pub documents: u64,
    /// What was not let in, by reason, each with its first sentence.
    pub refused: BTreeMap<String, (u64, String)>,
    /// More parts follow.
    pub more: bool,
    /// Where it breaks off, if it does; what came before was taken.
    pub broken: Option<String>,
}

pub(super) async fn export(
    State(local): State<Local>,
    Extension(witness): Extension<Witness>,
    Query(parameters): Query<BundleParameters>,
) -> Result<Raw<Body>, ApiError> {
    witness.demand()?;
    let to: MemberId = parameters.to.parse().map_err(ApiError::bad)?;
    let roster = std::sync::Arc::clone(&local.current.get().roster);
    if roster.member(&to).is_none() {
        let members = roster.charter().charter().members.iter().map(|member| member.id.as_str());
        return Err(ApiError::bad(UnknownName::new("member", to.as_str(), members)));
    }
    let wrong = |text: &String| ApiError::bad(format!("`{text}` is no time; write 2026-12-31"));
    let since = parameters.since.as_ref().map(|text| Timestamp::parse(text).ok_or_else(|| wrong(text))).transpose()?.unwrap_or_default();
    let tlp_max = parameters.tlp_max.map(|text| Tlp::parse(&text)).transpose().map_err(ApiError::bad)?.unwrap_or(Tlp::Red);
    let (filled, waiting) = tokio::sync::mpsc::channel::<std::io::Result<Bytes>>(PIECES_MAX);
    streamed(filled, move |filled| {
        // Cut off where it is: a bundle without its end is seen to be none.
        write(&local, &witness, &to, since, tlp_max, |bytes| filled.blocking_send(Ok(bytes.into())).is_ok())
    });
    Ok(Raw(pieces(waiting)))
}

/// Hands the bytes of a bundle to `put`, until that says that nobody reads any more.
fn write(
    local: &Local,
    witness: &Witness,
    to: &MemberId,
    since: Timestamp,
    tlp_max: Tlp,
    mut put: impl FnMut(Vec<u8>) -> bool,
) -> Result<(), ApiError> {
    let roster = std::sync::Arc::clone(&local.current.get().roster);
    if !put(BUNDLE_MAGIC.to_vec()) {
        return Ok(());
    }
    let charters = roster.chain().iter().map(|bytes| (document::CHARTER, bytes.as_slice()));
    let stamp = roster.stamp().map(|stamp| (document::STAMP, stamp.bytes()));
    let cards = roster.cards().map(|card| (document::CARD, card.bytes()));
    let documents = charters.chain(stamp).chain(cards).flat_map(|(document, bytes)| document_messages(document, bytes));
    // The same guard as over every stream: a stick in a pocket is a way out too.
    let egress = Egress::new(local.current.clone(), local.ledger.clone(), local.clock.clone());
    let proofs = local.ledger.proofs()?.into_iter().flat_map(|(_, bytes)| document_messages(document::PROOF, &bytes));
    for message in documents.chain(proofs).filter(|message| egress.lets_out(to, message, None)) {
        if !put(frame(&message)) {
            return Ok(());
        }
    }
    let serving = Serving {
        me: local.identity.member.clone(),
        ledger: local.ledger.clone(),
        current: local.current.clone(),
        clock: local.clock.clone(),
    };
    let (mut read, mut noted) = (true, Ok(()));
    serving.everything(to, since, tlp_max, |batch, head, body| {
        if egress.lets_out(to, &head, None) && egress.lets_out(to, &body, Some(&batch.head)) {
            let Message::Body(BatchBody { body: bytes, .. }) = &body else { return true };
            let spans = record_spans(bytes).unwrap_or_default();
            let shown = (0u16..).zip(&spans).filter(|(_, span)| span.is_present());
            shown.for_each(|(index, _)| witness.saw(&batch.reference(index), batch.head.tlp));
            noted = witness.write();
            read = noted.is_ok() && put([frame(&head), frame(&body)].concat());
        }
        read
    })?;
    noted?;
    if read {
        put(bundle_end(false));
    }
    Ok(())
}

pub(super) async fn import_deed(State(local): State<Local>, mut upload: Upload) -> Result<Acted<ImportReply>, ApiError> {
    let import = match upload.each(Import::new(local), |import, piece| import.step(piece)).await {
        Ok(import) => import,
        Err(error) => {
            upload.drain().await;
            return Err(error);
        }
    };
    let reply = blocking(move || import.finish()).await?;
    let deed = format!("takes in a bundle: {} batches, {} new", reply.batches, reply.new);
    Ok(Acted::deed(deed, reply))
}

/// A bundle that is being taken in.
struct Import {
    local: Local,
    reader: BundleReader,
    broken: Option<BundleError>,
    reply: ImportReply,
    head: Option<ProvedHead>,
    document: Option<(u64, Vec<u8>)>,
    with_the_door: VecDeque<oneshot::Receiver<Result<bool, DoorError>>>,
}

impl Import {
    fn new(local: Local) -> Self {
        let (reader, reply) = (BundleReader::default(), ImportReply::default());
        Self { local, reader, broken: None, reply, head: None, document: None, with_the_door: VecDeque::new() }
    }

    /// Imports the messages that this piece completes. After a parse error it skips the rest.
    fn step(&mut self, piece: &Bytes) -> Result<(), ApiError> {
        if self.broken.is_some() {
            return Ok(());
        }
        match self.reader.push(piece) {
            Ok(messages) => messages.into_iter().try_for_each(|message| self.take(message)),
            Err(error) => {
                self.broken = Some(error);
                Ok(())
            }
        }
    }

    fn finish(mut self) -> Result<ImportReply, ApiError> {
        while let Some(waiting) = self.with_the_door.pop_front() {
            self.answered(waiting.blocking_recv().unwrap_or(Err(DoorError::Stopping)))?;
        }
        match self.broken.take().map_or_else(|| self.reader.finish(), Err) {
            Ok(more) => self.reply.more = more,
            Err(BundleError::Magic) => return Err(ApiError::bad(BundleError::Magic)),
            Err(error) => self.reply.broken = Some(error.to_string()),
        }
        Ok(self.reply)
    }

    fn take(&mut self, message: Message) -> Result<(), ApiError> {
        match message {
            Message::Document(part) => {
                let mut whole = match self.document.take() {
                    Some((document, bytes)) if document == part.document => bytes,
                    _ => Vec::new(),
                };
                whole.extend_from_slice(&part.part);
                if whole.len() > crate::charter::CHARTER_BYTES_MAX {
                    return Err(ApiError::bad("a document in it is longer than any may be"));
                }
                if part.last {
                    return self.document(part.document, whole);
                }
                self.document = Some((part.document, whole));
                Ok(())
            }
            Message::RangeHead(part) => {
                // Documents and batches before it must be in force and durable, or it could not be placed.
                let placed = self.local.current.get().place(&part.head, self.local.clock.moment(), &self.local.ledger);
                self.head = match placed {
                    Ok(Placed::Next(head) | Placed::Ahead { head, .. } | Placed::Gap(head)) => Some(head),
                    Ok(Placed::Known) => self.known(&part.head),
                    Ok(Placed::Fork(head)) => {
                        let _queue_full = self.local.door.send(Request::Fork { head: Box::new(head) });
                        self.refuse("fork", "its author signed two heads for one place");
                        None
                    }
                    Ok(Placed::OtherBranch(_)) => None,
                    Err(refusal) => {
                        self.refused(&refusal);
                        None
                    }
                };
                self.reply.batches += 1;
                Ok(())
            }
            Message::Body(body) => {
                let Some(head) = self.head.take() else { return Ok(()) };
                // What the bundle leaves out is stepped over, and filled by what comes later.
                let arrived = Arrived::of(Box::new(head), Served::of(BUNDLE_KEY, body), true);
                let (reply, waiting) = oneshot::channel();
                self.local.door.send(Request::Import(arrived, reply)).map_err(|_| DoorError::Stopping)?;
                self.with_the_door.push_back(waiting);
                if self.with_the_door.len() >= WITH_THE_DOOR_MAX
                    && let Some(oldest) = self.with_the_door.pop_front()
                {
                    self.answered(oldest.blocking_recv().unwrap_or(Err(DoorError::Stopping)))?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A batch that is here: of interest if it is here in part.
    fn known(&mut self, bytes: &[u8]) -> Option<ProvedHead> {
        let head = crate::ledger::stored_head(bytes).ok()?;
        if self.local.ledger.withheld_of(&head.feed(), head.seq).ok()? == 0 {
            return None;
        }
        self.local.current.get().prove(bytes, self.local.clock.moment()).ok()
    }

    fn document(&mut self, document: u64, bytes: Vec<u8>) -> Result<(), ApiError> {
        let (reply, waiting) = oneshot::channel();
        self.local.door.send(Request::Document { document, bytes, from: None, reply: Some(reply) }).map_err(|_| DoorError::Stopping)?;
        match waiting.blocking_recv().unwrap_or(Err(DoorError::Stopping)) {
            Ok(()) => self.reply.documents += 1,
            Err(DoorError::Ledger(error)) => return Err(error.into()),
            Err(DoorError::Stopping) => return Err(DoorError::Stopping.into()),
            // Most are old news here.
            Err(_) => (),
        }
        Ok(())
    }

    fn answered(&mut self, answer: Result<bool, DoorError>) -> Result<(), ApiError> {
        match answer {
            Ok(new) => self.reply.new += u64::from(new),
            Err(DoorError::Refused(refusal)) => self.refused(&refusal),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn refused(&mut self, refusal: &Refusal) {
        self.refuse(refusal.code, &refusal.text);
    }

    fn refuse(&mut self, code: &str, text: &str) {
        if self.reply.refused.len() < REASONS_MAX || self.reply.refused.contains_key(code) {
            self.reply.refused.entry(code.to_owned()).or_insert_with(|| (0, text.to_owned())).0 += 1;
        }
    }
}
