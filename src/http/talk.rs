//! Questions and what is said in answer: "who has seen this?", to an audience; sightings of values and of records.
//!
//! What is said about a record never travels wider than the record itself: to nobody who may not have it, and with no weaker
//! marking. No question is ever asked of another node; it travels like every record, and answers come like every record.

use super::{
    ApiError, Local, Operator, Witness, at_door, blocking,
    contract::{Acted, Json, Query},
    queue,
};
use crate::{
    envelope::{Class, Head},
    ledger::Place,
    node::door::{Publication, Published, ReportOf, Request, own_audience, reach, shared_channel},
    policy::{Way, may_send},
    query::{Found, Reading, Standing, title_of},
    record::{
        ChannelName, DAY_MS, Kind, MemberId, Observable, Question, Record, RecordRef, Sighted, Sighting, SightingKind, Timestamp, Tlp,
        WireRef,
    },
};
use axum::{Extension, extract::State};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Questions in one answer.
const QUESTIONS_MAX: usize = 500;
/// Answers shown of one question.
const ANSWERS_MAX: usize = 1_000;

/// Whom a channel of ours reaches at a marking, and who of them may not have what stands under `head`.
fn reached(local: &Local, channel: &ChannelName, tlp: Tlp, head: &Head) -> Result<(Vec<MemberId>, Vec<MemberId>), ApiError> {
    let (intake, me, now) = (local.current.get(), &local.identity.member, local.clock.now());
    let all = reach(&intake, me, channel, tlp, now)?.into_iter();
    let reached: Vec<MemberId> = all.filter(|(_, why_not)| why_not.is_none()).map(|(id, _)| id).collect();
    let outside = |id: &&MemberId| may_send(&intake.roster, head, id, now, Way::Published).is_err();
    let outside = reached.iter().filter(outside).cloned().collect();
    Ok((reached, outside))
}

/// Refuses to speak about `target` in a channel that reaches members who may not have it, or with a weaker marking.
pub(super) fn stays_among_readers(local: &Local, target: &RecordRef, channel: &ChannelName, tlp: Tlp) -> Result<(), ApiError> {
    let head = head_of(local, target, Tlp::Red)?;
    if tlp < head.tlp {
        let text = format!("{target} is {}; what is said about it is at least that, not {}", head.tlp.label(), tlp.label());
        return Err(ApiError::bad(text));
    }
    let (_, outside) = reached(local, channel, tlp, &head)?;
    let names: Vec<&str> = outside.iter().map(MemberId::as_str).take(4).collect();
    match names.as_slice() {
        [] => Ok(()),
        some => Err(ApiError::bad(format!(
            "channel `{channel}` reaches {}, who may not have {target}; choose one whose readers are among {}",
            some.join(", "),
            head.audience.name()
        ))),
    }
}

/// The channel of ours in which to answer what stands under `head`: it reaches its author, nobody who may not have it, and of
/// the others as many as can be.
pub(super) fn channel_to_answer(local: &Local, head: &Head) -> Option<ChannelName> {
    let intake = local.current.get();
    let card = intake.roster.card(&local.identity.member)?;
    let fits = |name: &ChannelName| {
        let permits = own_audience(&intake, &local.identity.member, name).ok()?.permits(head.tlp);
        let (reached, outside) = reached(local, name, head.tlp, head).ok().filter(|_| permits)?;
        let to_author = head.member == local.identity.member || reached.contains(&head.member);
        (to_author && outside.is_empty()).then_some(reached.len())
    };
    let open = card.channels.iter().filter(|channel| channel.until.is_none());
    open.filter_map(|channel| Some((fits(&channel.name)?, &channel.name))).max_by_key(|(count, _)| *count).map(|(_, name)| name.clone())
}

/// A question that is asked.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AskParameters {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    pub text: String,
    pub channel: String,
    pub tlp: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days: Option<u32>,
    #[serde(default)]
    pub alone: bool,
    /// Publish text copied word for word from a record with a stricter marking.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub anyway: bool,
}

/// Something that is said about a value or a record.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SightingParameters {
    /// A record, such as a question, or a value.
    pub of: String,
    /// `seen`, `false-positive` or `expired`.
    pub sighting: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Left out for a record: the channel of ours that reaches its author and none but its readers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// Left out for a record: its own marking.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tlp: Option<String>,
    #[serde(default)]
    pub alone: bool,
    /// Publish text copied word for word from a record with a stricter marking.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub anyway: bool,
}

/// What became of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Said {
    pub reference: Option<String>,
    pub channel: String,
    pub tlp: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued: Option<String>,
    /// How many members it reaches.
    pub reaches: usize,
}

pub(super) async fn ask(State(local): State<Local>, Json(parameters): Json<AskParameters>) -> Result<Acted<Said>, ApiError> {
    let deed = format!("asks in {}: {}", parameters.channel, parameters.text);
    let said = put_question(&local, parameters).await?;
    Ok(Acted::deed(deed, said))
}

/// Publishes a question, or queues it while the lane waits.
pub(super) async fn put_question(local: &Local, parameters: AskParameters) -> Result<Said, ApiError> {
    let now = local.clock.now();
    let channel: ChannelName = parameters.channel.parse().map_err(ApiError::bad)?;
    let tlp = Tlp::parse(&parameters.tlp).map_err(ApiError::bad)?;
    let question = Question {
        value: parameters.value.as_deref().map(Observable::recognise).transpose().map_err(ApiError::bad)?,
        text: parameters.text.clone(),
        language: None,
        until: parameters.days.map(|days| now.plus_ms(u64::from(days) * DAY_MS)),
    };
    let record = Record::Question(question);
    record.encode().map_err(ApiError::bad)?;
    if !parameters.anyway {
        super::publish::copies_nothing(local, &record, tlp)?;
    }
    if parameters.alone {
        local.own.alone();
    }
    let queue = |local: Local| async move { queue::keep_question(&local, parameters).await };
    say(local, channel, tlp, Class::Content, record, queue).await
}

pub(super) async fn sight(
    State(local): State<Local>,
    Extension(operator): Extension<Operator>,
    Json(parameters): Json<SightingParameters>,
) -> Result<Acted<Said>, ApiError> {
    let deed = format!("says {} of {}", parameters.sighting, parameters.of);
    let said = put_sighting(&local, operator.clearance, parameters).await?;
    Ok(Acted::deed(deed, said))
}

/// Publishes a sighting, or queues it while the lane waits.
pub(super) async fn put_sighting(local: &Local, clearance: Tlp, parameters: SightingParameters) -> Result<Said, ApiError> {
    let sighting: SightingKind = parameters.sighting.parse().map_err(ApiError::bad)?;
    let target = parameters.of.parse::<RecordRef>().ok();
    let head = target.as_ref().map(|target| head_of(local, target, clearance)).transpose()?;
    let inherited = head.as_ref().and_then(|head| channel_to_answer(local, head));
    let channel: Option<ChannelName> = parameters.channel.as_ref().map(|name| name.parse()).transpose().map_err(ApiError::bad)?;
    let channel = channel.or(inherited).ok_or_else(|| match &head {
        Some(head) => ApiError::bad(format!(
            "no channel of ours reaches {} and nobody outside of {}; open one: huecry card channel NAME=named:{}",
            head.member,
            head.audience.name(),
            head.member
        )),
        None => ApiError::bad("say in which channel: --channel NAME"),
    })?;
    let tlp = parameters.tlp.as_deref().map(Tlp::parse).transpose().map_err(ApiError::bad)?;
    let tlp = tlp.or(head.as_ref().map(|head| head.tlp)).ok_or_else(|| ApiError::bad("say how it is marked: --tlp"))?;
    let of = match &target {
        Some(target) => {
            stays_among_readers(local, target, &channel, tlp)?;
            Sighted::Records(vec![WireRef::Whole(target.clone())])
        }
        None => Sighted::Value(Observable::recognise(&parameters.of).map_err(ApiError::bad)?),
    };
    let record = Record::Sighting(Sighting {
        of,
        sighting,
        count: parameters.count,
        from: None,
        until: None,
        country: parameters.country.clone(),
        description: parameters.note.clone(),
    });
    record.encode().map_err(ApiError::bad)?;
    // A dispute is never held up.
    if !parameters.anyway && sighting != SightingKind::FalsePositive {
        super::publish::copies_nothing(local, &record, tlp)?;
    }
    if parameters.alone {
        local.own.alone();
    }
    let class = if sighting == SightingKind::FalsePositive { Class::Removal } else { Class::Content };
    let queue = |local: Local| async move { queue::keep_sighting(&local, parameters).await };
    say(local, channel, tlp, class, record, queue).await
}

fn head_of(local: &Local, target: &RecordRef, clearance: Tlp) -> Result<Head, ApiError> {
    let batch = local.ledger.batch_at(&target.feed, target.seq)?.filter(|batch| batch.record(target.index).is_some());
    let batch = batch.filter(|batch| batch.head.tlp <= clearance);
    Ok(batch.ok_or_else(|| ApiError::nothing(format!("there is no record `{target}` here")))?.head.clone())
}

async fn say<Q: Future<Output = Result<String, ApiError>>>(
    local: &Local,
    channel: ChannelName,
    tlp: Tlp,
    class: Class,
    record: Record,
    queue: impl FnOnce(Local) -> Q,
) -> Result<Said, ApiError> {
    let (intake, me) = (local.current.get(), &local.identity.member);
    let reached = reach(&intake, me, &channel, tlp, local.clock.now())?;
    let reaches = reached.iter().filter(|(_, why_not)| why_not.is_none()).count();
    let mut said = Said { reference: None, channel: format!("{me}/{channel}"), tlp: tlp.label(), queued: None, reaches };
    if shared_channel(&intake, me, &channel)? && !queue::lane_is_free(local).await {
        said.queued = Some(queue(local.clone()).await?);
        return Ok(said);
    }
    let publication = Publication { channel, tlp, class, report: ReportOf::None, records: vec![record] };
    let done: Published = at_door(local, |reply| Request::Publish(Box::new(publication), reply)).await?;
    said.reference = done.first.map(|one| one.to_string());
    Ok(said)
}

/// What `questions` may be asked.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct QuestionsFilter {
    /// Only one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub what: Option<String>,
    /// Only our own.
    pub ours: bool,
    /// Also those that are over, held, refused or withdrawn.
    pub all: bool,
}

/// One question and what was said in answer.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct QuestionLine {
    pub reference: String,
    pub from: String,
    pub value: Option<String>,
    pub text: String,
    pub tlp: String,
    pub audience: String,
    pub asked: String,
    pub until: Option<String>,
    pub standing: String,
    pub answers: Vec<AnswerLine>,
}

/// One answer: a sighting of the question, or of its value since it was asked.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct AnswerLine {
    pub reference: String,
    pub from: String,
    pub sighting: String,
    pub count: u64,
    pub country: Option<String>,
    pub note: Option<String>,
    pub at: String,
}

pub(super) async fn questions(
    State(local): State<Local>,
    Extension(operator): Extension<Operator>,
    Extension(witness): Extension<Witness>,
    Query(filter): Query<QuestionsFilter>,
) -> Result<Json<Vec<QuestionLine>>, ApiError> {
    blocking(move || {
        let view = local.view(&operator);
        let mut reading = Reading::of(&view, local.clock.now());
        let places = match &filter.what {
            Some(text) => {
                let reference: RecordRef = text.parse().map_err(ApiError::bad)?;
                let batch = local.ledger.batch_number(&reference.feed, reference.seq)?;
                batch.map(|batch| Place { batch, index: reference.index }).into_iter().collect()
            }
            None => local.ledger.listed(Kind::Question, QUESTIONS_MAX)?,
        };
        let mut lines = Vec::new();
        for place in places {
            let Some(found) = reading.found(place)? else { continue };
            let Record::Question(question) = &found.record else { continue };
            let (standing, _) = reading.standing(&found);
            let over = question.until.is_some_and(|until| until <= local.clock.now());
            let wanted = filter.what.is_some() || filter.all || (standing == Standing::Accepted && !over);
            if wanted && (!filter.ours || found.batch.head.member == local.identity.member) {
                witness.found(&found);
                lines.push(question_line(&local, &mut reading, &witness, &found, question, standing)?);
            }
        }
        match (&filter.what, lines.is_empty()) {
            (Some(what), true) => Err(ApiError::nothing(format!("there is no question `{what}` here"))),
            _ => Ok(Json(lines)),
        }
    })
    .await
}

fn question_line(
    local: &Local,
    reading: &mut Reading<'_>,
    witness: &Witness,
    found: &Found,
    question: &Question,
    standing: Standing,
) -> Result<QuestionLine, ApiError> {
    let head = &found.batch.head;
    let asked: Timestamp = head.time;
    let mut places: BTreeSet<(u64, u16)> = BTreeSet::new();
    places.extend(local.ledger.answers(&found.reference, ANSWERS_MAX)?.into_iter().map(|place| (place.batch, place.index)));
    if let Some(value) = &question.value {
        places.extend(reading.places(value)?.into_iter().map(|place| (place.batch, place.index)).take(ANSWERS_MAX));
    }
    let mut answers = Vec::new();
    for (batch, index) in places {
        let Some(answer) = reading.found(Place { batch, index })? else { continue };
        let Record::Sighting(sighting) = &answer.record else { continue };
        let theirs = &answer.batch.head;
        let names_it = matches!(sighting.of, Sighted::Records(_));
        let stands = reading.standing(&answer).0 == Standing::Accepted;
        if !stands || !(names_it || theirs.time >= asked) {
            continue;
        }
        witness.found(&answer);
        answers.push(AnswerLine {
            reference: answer.reference.to_string(),
            from: theirs.member.to_string(),
            sighting: sighting.sighting.to_string(),
            count: sighting.count.unwrap_or(1),
            country: sighting.country.clone(),
            note: sighting.description.clone(),
            at: theirs.time.to_string(),
        });
    }
    Ok(QuestionLine {
        reference: found.reference.to_string(),
        from: head.member.to_string(),
        value: question.value.as_ref().map(Observable::defanged),
        text: title_of(&found.record),
        tlp: head.tlp.label(),
        audience: head.audience.name(),
        asked: asked.to_string(),
        until: question.until.map(|until| until.to_string()),
        standing: standing.to_string(),
        answers,
    })
}
