//! Who may speak, at the local window: the documents in force, and new ones from a person.

use super::{
    ApiError, Local, at_door, blocking,
    contract::{Acted, Json, Query, Whole},
    operators::{self, Operator},
};
use crate::{
    charter::Roster,
    ledger::{AsideLine, QuarantineStep},
    node::door::{Request, document},
    record::{FeedId, UnknownName},
};
use axum::{Extension, extract::State};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Longest document that is taken from a person: a charter, with room.
pub const DOCUMENT_BYTES_MAX: usize = 2 * crate::charter::CHARTER_BYTES_MAX;

/// The documents in force, as they were signed, in hexadecimal.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RosterReply {
    pub member: String,
    pub node: String,
    /// Every version of the charter, oldest first.
    pub charters: Vec<String>,
    /// A second valid charter of the newest version.
    pub rival: Option<String>,
    pub stamp: Option<String>,
    pub cards: Vec<String>,
    /// Cards that were the last to name some key, former ones among them.
    #[serde(default)]
    pub past_cards: Vec<String>,
}

pub(super) async fn roster(State(local): State<Local>) -> Result<Json<RosterReply>, ApiError> {
    let roster = &local.current.get().roster;
    let ledger = local.ledger.clone();
    let past_cards = blocking(move || Ok(ledger.past_cards()?)).await?;
    Ok(Json(RosterReply {
        member: local.identity.member.to_string(),
        node: local.identity.node_name.clone(),
        charters: roster.chain().iter().map(hex::encode).collect(),
        rival: roster.rival().map(|rival| hex::encode(rival.bytes())),
        stamp: roster.stamp().map(|stamp| hex::encode(stamp.bytes())),
        cards: roster.cards().map(|card| hex::encode(card.bytes())).collect(),
        past_cards: past_cards.iter().map(hex::encode).collect(),
    }))
}

impl RosterReply {
    /// The roster that these documents make, checked as a stranger's would be.
    pub fn roster(&self) -> Result<Roster, String> {
        let bytes = |text: &String| hex::decode(text).map_err(|error| error.to_string());
        let said = |error: &dyn std::fmt::Display| error.to_string();
        let (first, later) = self.charters.split_first().ok_or("the node has no charter")?;
        let charter = crate::charter::SignedCharter::first(&bytes(first)?, None).map_err(|error| said(&error))?;
        let mut roster = Roster::new(charter);
        for text in later {
            roster.restore_charter(&bytes(text)?).map_err(|error| said(&error))?;
        }
        if let Some(text) = &self.rival {
            roster.take_charter(&bytes(text)?).map_err(|error| said(&error))?;
        }
        if let Some(text) = &self.stamp {
            roster.take_stamp(&bytes(text)?).map_err(|error| said(&error))?;
        }
        for text in &self.past_cards {
            crate::charter::card_of(&bytes(text)?).iter().for_each(|card| roster.recall_card(card));
        }
        for text in &self.cards {
            roster.take_card(&bytes(text)?).map_err(|error| said(&error))?;
        }
        Ok(roster)
    }
}

/// Which document the body is: 1 charter, 2 stamp, 3 card.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DocumentParameters {
    pub document: u64,
}

/// It is in force, or was before.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct DocumentTaken {
    pub taken: bool,
}

pub(super) async fn take_document(
    State(local): State<Local>,
    Query(parameters): Query<DocumentParameters>,
    Whole(body): Whole,
) -> Result<Acted<DocumentTaken>, ApiError> {
    let kind = match parameters.document {
        document::CHARTER => "charter",
        document::STAMP => "stamp",
        document::CARD => "card",
        other => {
            let (charter, stamp, card) = (document::CHARTER, document::STAMP, document::CARD);
            return Err(ApiError::bad(format!(
                "{other} is no document that a person hands over: {charter} charter, {stamp} stamp, {card} card"
            )));
        }
    };
    let deed = format!("puts a {kind} in force, SHA-256 {}", crate::envelope::Hash::of(&body));
    let bytes = body.to_vec();
    at_door(&local, |reply| Request::Document { document: parameters.document, bytes, from: None, reply: Some(reply) }).await?;
    Ok(Acted::deed(deed, DocumentTaken { taken: true }))
}

/// A place of a feed.
#[derive(Deserialize, JsonSchema)]
pub(super) struct HeadParameters {
    feed: String,
    seq: u64,
}

/// The identifier of the head there, in hexadecimal.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct HeadReply {
    pub id: Option<String>,
}

pub(super) async fn head(
    State(local): State<Local>,
    Extension(operator): Extension<Operator>,
    Query(parameters): Query<HeadParameters>,
) -> Result<Json<HeadReply>, ApiError> {
    let feed = parameters.feed.parse().map_err(ApiError::bad)?;
    let id = blocking(move || {
        let batch = local.ledger.batch_at(&feed, parameters.seq)?;
        Ok(batch.filter(|batch| batch.head.tlp <= operator.clearance).map(|batch| batch.entry.id))
    })
    .await?;
    Ok(Json(HeadReply { id: id.map(|id| id.to_string()) }))
}

/// The last head of one of our own feeds.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct HeadLine {
    pub feed: String,
    pub seq: u64,
    pub id: String,
}

/// For cards: a pin has to name every feed, whatever its marking.
pub(super) async fn heads(State(local): State<Local>) -> Json<Vec<HeadLine>> {
    let own = local.ledger.feeds().into_iter().filter(|(feed, _)| feed.member == local.identity.member);
    Json(own.map(|(feed, state)| HeadLine { feed: feed.to_string(), seq: state.last(), id: state.id.to_string() }).collect())
}

pub(super) async fn quarantine(
    State(local): State<Local>,
    Extension(operator): Extension<Operator>,
) -> Result<Json<Vec<AsideLine>>, ApiError> {
    blocking(move || Ok(local.ledger.quarantine_up_to(operator.clearance)?)).await.map(Json)
}

/// What is decided about what is set aside of a feed.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct QuarantineParameters {
    feed: String,
    decision: String,
    /// Name of the operator who signs, and the signature in hexadecimal, where two people are needed.
    #[serde(default)]
    operator: Option<String>,
    #[serde(default)]
    signature: Option<String>,
}

/// Stopping takes one person, forcing takes two: a release lets count what a pin or a proof has set aside.
fn decided_by(local: &Local, operator: &Operator, parameters: &QuarantineParameters) -> Result<Vec<String>, ApiError> {
    if parameters.decision != "release" || !local.operators.two_needed() {
        return Ok(vec![operator.signature()]);
    }
    let unsigned = "a release needs two operators with their own keys; run it with --operator NAME --key FILE";
    let text = decision_text(&parameters.feed);
    operators::signed(local, &text, parameters.operator.as_deref(), parameters.signature.as_deref(), unsigned)
}

/// What operators sign when they release a feed from quarantine.
pub fn decision_text(feed: &str) -> String {
    format!("release {feed}")
}

/// Whether it is decided, and who has signed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct QuarantineDecided {
    /// With a release that takes two it is when the second has signed.
    pub decided: bool,
    pub signed: Vec<String>,
}

pub(super) async fn decide(
    State(local): State<Local>,
    Extension(operator): Extension<Operator>,
    Json(parameters): Json<QuarantineParameters>,
) -> Result<Acted<QuarantineDecided>, ApiError> {
    let feed: FeedId = parameters.feed.parse().map_err(ApiError::bad)?;
    let step = match parameters.decision.as_str() {
        "release" => QuarantineStep::Release,
        "drop" => QuarantineStep::Drop,
        other => return Err(ApiError::bad(UnknownName::new("decision", other, ["release", "drop"].into_iter()))),
    };
    let (ledger, name) = (local.ledger.clone(), feed.to_string());
    let there = blocking(move || Ok(ledger.quarantine()?.iter().any(|line| line.feed == name))).await?;
    if !there {
        return Err(ApiError::nothing(format!("nothing of {feed} is in quarantine")));
    }
    let names = decided_by(&local, &operator, &parameters)?;
    if step == QuarantineStep::Release && local.operators.two_needed() && names.len() < 2 {
        let deed = format!("asks to release {feed} from quarantine, signed by {}", names.join(", "));
        return Ok(Acted::deed(deed, QuarantineDecided { decided: false, signed: names }));
    }
    let deed = format!("decides for {}: {} {feed} from quarantine", names.join(" and "), parameters.decision);
    at_door(&local, |reply| Request::Quarantine { feed, step, by: names.join("+"), reply }).await?;
    Ok(Acted::deed(deed, QuarantineDecided { decided: true, signed: names }))
}
