//! A second node of the same member that stands by. Feeds it has from peers like every node; what people decided here reaches it as lines of
//! JSON, over whatever carries lines: ssh, mostly.

use super::{
    ApiError, Local,
    admission::Threads,
    at_door, blocking,
    contract::{Acted, Json, Lines, Query},
    progress::json_lines,
};
use crate::{
    ledger::{Entry, Ledger, LedgerError, Position},
    node::door::Request,
};
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{path::Path, time::Duration};

/// How often a stream that follows looks for more.
const POLL: Duration = Duration::from_millis(200);
/// Decisions that wait for the reader of a stream.
const LINES_MAX: usize = 256;
/// Where the second node keeps how far it has come, in its data directory.
const CURSOR_FILE: &str = "decisions-taken";

/// One decision on its way, as it stands in the first node's journal.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DecisionOut {
    pub position: Position,
    /// Where the one behind it stands.
    pub next: Position,
    /// The journal entry, in hexadecimal.
    pub entry: String,
}

/// From where on, and whether to go on with what comes.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StreamParameters {
    pub from: Position,
    pub follow: bool,
}

/// Decisions that are handed over.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TakeParameters {
    pub decisions: Vec<DecisionOut>,
    /// Where the first of those stands that wait beside these.
    pub waiting_from: Option<Position>,
}

/// What became of decisions that were handed over.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct TakenReply {
    pub taken: usize,
    /// They are about records that are not here yet: hand them over again.
    pub waiting: Vec<DecisionOut>,
}

/// Whether an entry is a person's decision, by its kind.
fn is_decision(entry: &Entry) -> bool {
    match entry {
        Entry::Judged(judged) => judged.by.is_some(),
        Entry::Erasure(erasure) => erasure.because == crate::ledger::ErasedBy::Order,
        Entry::Order(_) | Entry::Follow(_) | Entry::Share(_) | Entry::Review(_) | Entry::Decision(_) => true,
        _ => false,
    }
}

/// Streams what people decided, in the order of the journal.
pub(super) async fn stream(State(local): State<Local>, Query(parameters): Query<StreamParameters>) -> Lines<DecisionOut> {
    let (lines, waiting) = tokio::sync::mpsc::channel::<DecisionOut>(LINES_MAX);
    let threads = Threads::here();
    tokio::spawn(async move {
        let mut from = parameters.from;
        loop {
            let (here, out) = (local.clone(), lines.clone());
            match threads.run(move || send_from(&here.ledger, from, &out)).await {
                Ok(Ok(Some(end))) => from = end,
                // The reader has gone.
                Ok(Ok(None)) => return,
                Ok(Err(error)) => return tracing::error!(%error, "a stream of decisions ended"),
                Err(error) => return tracing::error!(%error, "a stream of decisions ended"),
            }
            if !parameters.follow || lines.is_closed() {
                return;
            }
            tokio::time::sleep(POLL).await;
        }
    });
    json_lines(waiting)
}

/// Sends what there is from a position on; answers where it ends, or `None` if nobody listens.
fn send_from(ledger: &Ledger, from: Position, lines: &tokio::sync::mpsc::Sender<DecisionOut>) -> Result<Option<Position>, LedgerError> {
    let end = ledger.each_decision(from, |position, next, entry| {
        if is_decision(&entry) {
            let _reader_gone = lines.blocking_send(DecisionOut { position, next, entry: hex::encode(entry.encode()) });
        }
    })?;
    Ok((!lines.is_closed()).then_some(end))
}

/// Takes decisions of the first node over.
pub(super) async fn take(State(local): State<Local>, Json(parameters): Json<TakeParameters>) -> Result<Acted<TakenReply>, ApiError> {
    let (mut reply, mut reached) = (TakenReply::default(), None);
    for decision in parameters.decisions {
        let bytes = hex::decode(&decision.entry).map_err(ApiError::bad)?;
        let entry = Entry::decode(&bytes).map_err(ApiError::bad)?;
        if !is_decision(&entry) {
            return Err(ApiError::bad("that is no person's decision; only those are taken over"));
        }
        if at_door(&local, |reply| Request::Adopt { entry: Box::new(entry), reply }).await? {
            reply.taken += 1;
        } else {
            reply.waiting.push(decision.clone());
        }
        reached = Some(decision.next);
    }
    // What waits is handed over again after a restart; what was taken twice changes nothing.
    let waiting = reply.waiting.iter().map(|one| one.position).chain(parameters.waiting_from).min();
    if let Some(position) = waiting.or(reached) {
        let path = local.data.join(CURSOR_FILE);
        blocking(move || std::fs::write(&path, position.to_string()).map_err(ApiError::internal)).await?;
    }
    let deed = format!("takes over {} decisions of another node", reply.taken);
    Ok(if reply.taken == 0 { Acted::nothing(reply) } else { Acted::deed(deed, reply) })
}

/// How far a second node has come with the decisions of the first.
pub fn taken_up_to(data: &Path) -> Position {
    std::fs::read_to_string(data.join(CURSOR_FILE)).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}
