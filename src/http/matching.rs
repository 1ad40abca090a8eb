//! What `match` needs: the keys of everything that counts, as a stream; then what is known about the few values that hit. Logs
//! never come here.

use super::{
    ApiError, Local, Operator, Witness, blocking,
    contract::{Json, Query, Raw, pieces, streamed},
};
use crate::{
    ledger::{LedgerError, Lengths, View, key_hash},
    matching::{KeysHead, counts},
    query::{self, Hit, Reading},
    record::{Observable, TypeName},
};
use axum::{
    Extension,
    body::{Body, Bytes},
    extract::State,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Bytes of keys in one piece.
const PIECE_BYTES: usize = 64 * 1024;
/// Pieces that wait for the reader.
const PIECES_MAX: usize = 16;
/// Values asked about at once.
pub const MATCH_VALUES_MAX: usize = 1_000;

/// What of the knowledge is wanted.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeysParameters {
    /// Only records that came after this cursor, as an earlier `match` has named it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Cursor>,
}

/// The end of an earlier `match`: a cursor, or the number of a batch, as older versions named it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Cursor {
    Number(u64),
    Text(String),
}

impl Cursor {
    /// The number of the first batch that counts.
    fn batch(&self, view: &View) -> Result<u64, ApiError> {
        let wrong = |text: &str| {
            ApiError::bad(format!(
                "`{}` does not come from a match; use the cursor that `huecry match` printed last",
                crate::record::excerpt(text)
            ))
        };
        match self {
            Self::Number(number) => Ok(*number),
            // As JSON spells it, too.
            Self::Text(text) => match text.trim_matches('"').parse() {
                Ok(number) => Ok(number),
                Err(_) => Ok(view.batch_after(view.unspell(text.trim_matches('"')).ok_or_else(|| wrong(text))?)?),
            },
        }
    }
}

/// A value as it was seen.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SeenValue {
    #[serde(rename = "type")]
    pub kind: String,
    pub value: String,
}

/// Values as they were seen.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MatchParameters {
    pub values: Vec<SeenValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Cursor>,
}

/// One line for each value, in order.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct MatchReply {
    pub hits: Vec<Option<Hit>>,
}

/// The head of the stream and one hash for each value that counts for this operator.
pub(super) async fn keys(
    State(local): State<Local>,
    Extension(operator): Extension<Operator>,
    Extension(witness): Extension<Witness>,
    Query(parameters): Query<KeysParameters>,
) -> Result<Raw<Body>, ApiError> {
    // A hash of each value: whoever has them can try all addresses, and is noted as one who has seen everything.
    witness.demand()?;
    witness.saw_everything();
    let view = local.view(&operator);
    let since = parameters.since.map_or(Ok(0), |since| since.batch(&view))?;
    let (filled, waiting) = tokio::sync::mpsc::channel::<std::io::Result<Bytes>>(PIECES_MAX);
    streamed(filled, move |filled| {
        let put = |bytes: Vec<u8>| filled.blocking_send(Ok(bytes.into())).is_ok();
        // Cut off where it is: a stream of keys without its lengths of networks is seen to be none.
        Ok(write(&local, &view, since, put)?)
    });
    Ok(Raw(pieces(waiting)))
}

/// Keys come first and the head last, because only then all lengths of networks are known.
fn write(local: &Local, view: &View, since: u64, mut put: impl FnMut(Vec<u8>) -> bool) -> Result<(), LedgerError> {
    let (cursor, today) = (View::counts(view.here()), local.clock.now().day());
    let mut lengths = Lengths::default();
    let (mut piece, mut last) = (Vec::with_capacity(PIECE_BYTES), 0);
    let all_read = local.ledger.each_row(|key, row| {
        if !counts(&row, view.clearance(), today, since) {
            return true;
        }
        let hash = key_hash(key);
        if hash == last {
            return true;
        }
        last = hash;
        lengths.note(key);
        piece.extend_from_slice(&hash.to_le_bytes());
        // Nobody walks on for a reader who has gone.
        piece.len() < PIECE_BYTES || put(std::mem::replace(&mut piece, Vec::with_capacity(PIECE_BYTES)))
    })?;
    if all_read {
        piece.extend(KeysHead { cursor, lengths }.bytes());
        put(piece);
    }
    Ok(())
}

/// What is known about each of some values.
pub(super) async fn ask(
    State(local): State<Local>,
    Extension(operator): Extension<Operator>,
    Extension(witness): Extension<Witness>,
    Json(parameters): Json<MatchParameters>,
) -> Result<Json<MatchReply>, ApiError> {
    if parameters.values.len() > MATCH_VALUES_MAX {
        return Err(ApiError::bad(format!("more than {MATCH_VALUES_MAX} values at once")));
    }
    blocking(move || {
        let view = local.view(&operator);
        let since = parameters.since.as_ref().map_or(Ok(0), |since| since.batch(&view))?;
        let mut reading = Reading::of(&view, local.clock.now());
        let mut known = |seen: &SeenValue| -> Result<Option<Hit>, ApiError> {
            let kind: TypeName = seen.kind.parse().map_err(ApiError::bad)?;
            let value: Observable = kind.read(&seen.value).map_err(ApiError::bad)?;
            let hit = query::hit(&mut reading, &value, since)?;
            hit.iter().for_each(|hit| witness.line(&hit.reference, &hit.tlp));
            Ok(hit)
        };
        Ok(Json(MatchReply { hits: parameters.values.iter().map(&mut known).collect::<Result<_, _>>()? }))
    })
    .await
}
