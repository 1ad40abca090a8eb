//! Documents at the local window: rules, reports and training material, published with their content or fetched on demand.

use super::{
    ApiError, Local, Operator, Witness, at_door, blocking,
    contract::{Acted, Json, Query, Raw},
    queue,
    upload::Upload,
};
use crate::{
    envelope::Class,
    node::{
        documents::{DocumentsError, Progress},
        door::{DoorError, Publication, Published, ReportOf, Request, shared_channel},
    },
    query::{Found, Reading, Standing},
    record::{
        ChannelName, Content, ContentHash, DOCUMENT_BYTES_MAX, Document, Kind, NameScanner, Record, RecordRef, Timestamp, Tlp, WireRef,
    },
};
use axum::{Extension, body::Body, extract::State};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tokio_util::io::ReaderStream;

/// Documents in one answer.
const LISTED_MAX: usize = 1_000;

impl From<DocumentsError> for ApiError {
    fn from(error: DocumentsError) -> Self {
        match error {
            DocumentsError::Io { .. } => Self::internal(error),
            other => Self::bad(other),
        }
    }
}

/// What is said about a document that is published.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewDocument {
    pub channel: String,
    pub tlp: String,
    pub title: String,
    pub media_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Separated by commas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<String>,
    /// Records that it belongs to, separated by commas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets: Option<String>,
    #[serde(default)]
    pub alone: bool,
    /// Publish text copied word for word from a record with a stricter marking.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub anyway: bool,
}

/// What became of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct DocumentPublished {
    pub reference: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued: Option<String>,
    pub length: u64,
    /// Root of its chunks, where the content travels apart.
    pub content: Option<String>,
}

/// A document of which the content is here, to be published now or when the lane may.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Ready {
    about: NewDocument,
    inline: Option<String>,
    root: Option<String>,
    length: u64,
}

/// `POST /v1/documents`: the body is the content.
pub(super) async fn publish(
    State(local): State<Local>,
    Extension(operator): Extension<Operator>,
    Query(about): Query<NewDocument>,
    mut upload: Upload,
) -> Result<Acted<DocumentPublished>, ApiError> {
    for target in words(about.targets.as_deref()).iter().filter_map(|text| text.parse::<RecordRef>().ok()) {
        if local.ledger.marking(&target)?.is_some_and(|tlp| tlp > operator.clearance) {
            return Err(not_here(&target));
        }
    }
    let documents = local.documents.clone();
    let receiving = blocking(move || Ok(documents.receive()?)).await?;
    let (ledger, tlp) = (local.ledger.clone(), Tlp::parse(&about.tlp).map_err(ApiError::bad)?);
    let begun = (receiving, Vec::new(), NameScanner::default());
    let taken = upload.each_to_disk(begun, move |(receiving, start, scanner), piece| {
        if let Some((name, marking)) = ledger.above(&scanner.feed(piece), tlp)? {
            return Err(DoorError::Names { name, marking, tlp }.into());
        }
        if start.len() <= DOCUMENT_BYTES_MAX {
            start.extend(piece.iter().take(DOCUMENT_BYTES_MAX + 1 - start.len()));
        }
        Ok(receiving.push(piece)?)
    });
    let (receiving, start, _) = taken.await?;
    let inline = (start.len() <= DOCUMENT_BYTES_MAX).then(|| String::from_utf8(start).ok()).flatten();
    let mut ready = Ready { about, inline, root: None, length: 0 };
    ready.length = ready.inline.as_ref().map_or(0, |text| text.len() as u64);
    // A short text travels in its record, if it is one that a record may hold as it is.
    if ready.inline.is_none() || record_of(&local, &ready).is_err() {
        let (root, length) = blocking(move || Ok(receiving.keep()?)).await?;
        ready = Ready { inline: None, root: Some(root.to_string()), length, ..ready };
    }
    if !ready.about.anyway {
        super::publish::copies_nothing(&local, &Record::Document(record_of(&local, &ready)?.0), tlp)?;
    }
    let deed = format!("publishes the document `{}`, {} bytes", ready.about.title, ready.length);
    let reply = send(&local, ready).await?;
    Ok(Acted::deed(deed, reply))
}

/// Words between commas.
fn words(text: Option<&str>) -> Vec<String> {
    let words = text.into_iter().flat_map(|text| text.split(',')).map(|word| word.trim().to_owned());
    words.filter(|word| !word.is_empty()).collect()
}

fn not_here(target: &RecordRef) -> ApiError {
    ApiError::nothing(format!("record `{target}` is not here"))
}

fn record_of(local: &Local, ready: &Ready) -> Result<(Document, Vec<RecordRef>), ApiError> {
    let about = &ready.about;
    let targets =
        words(about.targets.as_deref()).iter().map(|text| text.parse()).collect::<Result<Vec<RecordRef>, _>>().map_err(ApiError::bad)?;
    let content = match (&ready.inline, &ready.root) {
        (Some(text), _) => Content::Inline(text.clone()),
        (None, Some(root)) => Content::Hash { hash: root.parse::<ContentHash>().map_err(ApiError::internal)?, length: ready.length },
        (None, None) => return Err(ApiError::bad("a document has a content")),
    };
    for target in &targets {
        if local.ledger.batch_number(&target.feed, target.seq)?.is_none() {
            return Err(not_here(target));
        }
    }
    let document = Document {
        title: about.title.clone(),
        media_type: about.media_type.clone(),
        content,
        description: about.description.clone(),
        language: about.language.clone(),
        tags: words(about.tags.as_deref()),
        // Where it will stand is not known yet; the longest form is checked, the door writes the shortest.
        targets: targets.iter().cloned().map(WireRef::Whole).collect(),
        replaces: None,
    };
    Record::Document(document.clone()).encode().map_err(ApiError::bad)?;
    Ok((document, targets))
}

/// Publishes a document whose content is here, or queues it while the lane waits.
pub(super) async fn send(local: &Local, ready: Ready) -> Result<DocumentPublished, ApiError> {
    if ready.about.alone {
        local.own.alone();
    }
    let channel: ChannelName = ready.about.channel.parse().map_err(ApiError::bad)?;
    let tlp = Tlp::parse(&ready.about.tlp).map_err(ApiError::bad)?;
    let (document, targets) = record_of(local, &ready)?;
    let mut reply = DocumentPublished { length: ready.length, content: ready.root.clone(), ..DocumentPublished::default() };
    if shared_channel(&local.current.get(), &local.identity.member, &channel)? && !queue::lane_is_free(local).await {
        reply.queued = Some(queue::keep_document(local, ready).await?);
        return Ok(reply);
    }
    for target in &targets {
        super::talk::stays_among_readers(local, target, &channel, tlp)?;
    }
    let records = vec![Record::Document(document)];
    let publication = Publication { channel, tlp, class: Class::Content, report: ReportOf::None, records };
    let done: Published = at_door(local, |reply| Request::Publish(Box::new(publication), reply)).await?;
    reply.reference = done.first.map(|one| one.to_string());
    Ok(reply)
}

/// One document.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct DocumentLine {
    pub reference: String,
    pub origin: String,
    pub title: String,
    pub media_type: String,
    pub length: u64,
    pub tlp: String,
    pub tags: Vec<String>,
    pub description: Option<String>,
    pub standing: String,
    pub reason: String,
    /// `inline`, `here`, `fetching` or `not fetched`.
    pub state: String,
    /// Bytes of it that are here.
    pub here: u64,
    pub signed: String,
}

/// What `documents` may be asked.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DocumentsFilter {
    /// One document.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub what: Option<String>,
    /// Also what is held, refused, withdrawn or over.
    pub all: bool,
}

/// Documents, the newest first, and the room that contents take.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct DocumentsReply {
    pub documents: Vec<DocumentLine>,
    pub room_used: u64,
    pub room: u64,
    /// Not shown because they do not stand, unless asked for.
    pub not_shown: usize,
}

fn line(local: &Local, reading: &Reading<'_>, found: &Found, document: &Document) -> (DocumentLine, Standing) {
    let (standing, reason) = reading.standing(found);
    let (length, state, here) = match &document.content {
        Content::Inline(text) => (text.len() as u64, "inline", text.len() as u64),
        Content::Hash { hash, length } => match local.documents.progress(hash) {
            Progress::Here => (*length, "here", *length),
            Progress::Wanted { have_bytes } => (*length, "fetching", have_bytes),
            Progress::Absent => (*length, "not fetched", 0),
        },
    };
    let head = &found.batch.head;
    let line = DocumentLine {
        reference: found.reference.to_string(),
        origin: head.member.to_string(),
        title: document.title.clone(),
        media_type: document.media_type.clone(),
        length,
        tlp: head.tlp.label(),
        tags: document.tags.clone(),
        description: document.description.clone(),
        standing: standing.to_string(),
        reason,
        state: state.to_owned(),
        here,
        signed: head.time.to_string(),
    };
    (line, standing)
}

pub(super) async fn documents(
    State(local): State<Local>,
    Extension(operator): Extension<Operator>,
    Extension(witness): Extension<Witness>,
    Query(filter): Query<DocumentsFilter>,
) -> Result<Json<DocumentsReply>, ApiError> {
    blocking(move || {
        let view = local.view(&operator);
        let mut reading = Reading::of(&view, local.clock.now());
        let mut reply = DocumentsReply::default();
        (reply.room_used, reply.room) = local.documents.room();
        if let Some(what) = &filter.what {
            let (found, document) = named(&local, &mut reading, what)?;
            witness.found(&found);
            reply.documents.push(line(&local, &reading, &found, &document).0);
            return Ok(Json(reply));
        }
        for place in local.ledger.listed(Kind::Document, LISTED_MAX)? {
            let Some(found) = reading.found(place)? else { continue };
            let Record::Document(document) = &found.record else { continue };
            let (line, standing) = line(&local, &reading, &found, document);
            if standing == Standing::Accepted || filter.all {
                witness.found(&found);
                reply.documents.push(line);
            } else {
                reply.not_shown += 1;
            }
        }
        Ok(Json(reply))
    })
    .await
}

/// The document of that name.
fn named(local: &Local, reading: &mut Reading<'_>, what: &str) -> Result<(Arc<Found>, Document), ApiError> {
    let reference: RecordRef = what.parse().map_err(ApiError::bad)?;
    let found = reading.named(&reference)?;
    let found = found.ok_or_else(|| ApiError::nothing(format!("there is no document `{reference}` here")))?;
    match &found.record {
        Record::Document(document) => {
            let document = document.clone();
            Ok((found, document))
        }
        other => Err(ApiError::bad(format!("{reference} is no document but a {} of {}", other.kind(), local.identity.member))),
    }
}

/// Which document.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DocumentNamed {
    pub what: String,
}

/// From now on the content is fetched, until it is here.
pub(super) async fn fetch(
    State(local): State<Local>,
    Extension(operator): Extension<Operator>,
    Extension(witness): Extension<Witness>,
    Json(DocumentNamed { what }): Json<DocumentNamed>,
) -> Result<Acted<DocumentLine>, ApiError> {
    let deed = format!("fetches the content of {what}");
    let reply = blocking(move || {
        let view = local.view(&operator);
        let mut reading = Reading::of(&view, local.clock.now());
        let (found, document) = named(&local, &mut reading, &what)?;
        witness.found(&found);
        // Nothing is fetched that may not be shown.
        witness.write()?;
        let (standing, reason) = reading.standing(&found);
        if standing != Standing::Accepted {
            return Err(ApiError::forbidden(format!("{what} is {standing}: {reason}")));
        }
        if let Content::Hash { hash, length } = &document.content {
            local.documents.want(*hash, &found.reference, *length)?;
        }
        Ok(line(&local, &reading, &found, &document).0)
    })
    .await?;
    Ok(Acted::deed(deed, reply))
}

/// The content is removed here, or fetched no more.
pub(super) async fn drop_content(
    State(local): State<Local>,
    Extension(operator): Extension<Operator>,
    Json(DocumentNamed { what }): Json<DocumentNamed>,
) -> Result<Acted<DocumentNamed>, ApiError> {
    let deed = format!("drops the content of {what}");
    let dropped = blocking(move || {
        let view = local.view(&operator);
        let mut reading = Reading::of(&view, local.clock.now());
        let (_, document) = named(&local, &mut reading, &what)?;
        match &document.content {
            Content::Inline(_) => Err(ApiError::bad(format!("{what} stands in its record; its author withdraws it"))),
            Content::Hash { hash, .. } if local.documents.drop_content(hash)? => Ok(what),
            Content::Hash { .. } => Err(ApiError::nothing(format!("the content of {what} is not here"))),
        }
    })
    .await?;
    Ok(Acted::deed(deed, DocumentNamed { what: dropped }))
}

/// The content itself.
pub(super) async fn content(
    State(local): State<Local>,
    Extension(operator): Extension<Operator>,
    Extension(witness): Extension<Witness>,
    Query(DocumentNamed { what }): Query<DocumentNamed>,
) -> Result<Raw<Body>, ApiError> {
    let here = local.clone();
    let document = blocking(move || {
        let now: Timestamp = here.clock.now();
        let view = here.view(&operator);
        let (found, document) = named(&here, &mut Reading::of(&view, now), &what)?;
        witness.found(&found);
        Ok(document)
    })
    .await?;
    match document.content {
        Content::Inline(text) => Ok(Raw(Body::from(text))),
        Content::Hash { hash, .. } => {
            let path = local.documents.file(&hash);
            let path = path.ok_or_else(|| ApiError::nothing("its content is not here yet; `huecry document fetch` brings it"))?;
            let file = tokio::fs::File::open(&path).await.map_err(ApiError::internal)?;
            Ok(Raw(Body::from_stream(ReaderStream::new(file))))
        }
    }
}
