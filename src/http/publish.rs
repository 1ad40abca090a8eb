//! Publishing a file: its bytes come as the request's body and leave as signed batches, a chunk at a time.
//!
//! ```text
//! body -Upload-> unnamed file -Reader-> records -completed with the defaults of the request-> Outgoing -door-> batches
//!                (read more than once: STIX, MISP, and files with missing details)
//! ```
//!
//! Most files do not say who may read them, how sure their author is, or how long it holds: the importing member says it
//! once, in the request or under `[[sources]]`, and the answer says for how many records that was assumed. A dry run reads
//! everything, signs nothing, and says whom it would reach and which lists its values are on.

use super::{
    ApiError, Local, LocalParts, blocking,
    contract::{Acted, Json, Query},
    outgoing::Outgoing,
    plan::{Mode, Plan, PublishParameters, is_of},
    queue,
    renew::renewals,
    standing::{Meaning, Standing, Step, organisation_of},
    upload::Upload,
    versions::TakenVersions,
};
use crate::{
    envelope::{Audience, Class, Readers},
    exchange::{Attached, Complaint, DETECT_BYTES, Format, Given, Group, Layout, Reach, Reader, Said},
    ledger::SamePassage,
    node::door::{DoorError, Request, TakeBack, own_audience, reach, see_gap, shared_channel},
    query::Reading,
    record::{
        ChannelName, Content, DOCUMENT_BYTES_MAX, Document, Indicator, RECORD_BYTES_MAX, Reason, Record, RecordRef, Report, Role, Sighting,
        SightingKind, Source, Timestamp, Tlp, Use, WireRef,
    },
    timekeeping::CLOCK_SKEW_MS,
};
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    hash::BuildHasher as _,
    io::{Read as _, Seek as _},
    sync::Arc,
};
use tempfile::SpooledTempFile;

/// Most records of one publication; a longer list is several.
pub const PUBLICATION_RECORDS_MAX: usize = 5_000_000;
/// Complaints that are given back in full; the rest is a number.
const COMPLAINTS_MAX: usize = 50;
/// Longest file, in bytes: unpacked, a bomb of a megabyte ends here.
const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024 * 1024;
/// Bytes of it that are read at once.
const PIECE_BYTES: usize = 256 * 1024;
/// Bytes that the name of a report takes in a record at most.
const REFERENCE_BYTES: usize = 256;
/// Most outside ids that one file takes back.
const WITHDRAWN_MAX: usize = 1_000_000;

/// One member in a dry run's reach.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ReachLine {
    pub member: String,
    pub reached: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why_not: Option<String>,
}

/// How many values are on one of our lists.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ListHit {
    pub list: String,
    pub values: u64,
    pub first: String,
}

/// What became of a publication.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct PublishReply {
    pub dry_run: bool,
    /// It waits, durable and unsigned, until the lane may publish; under this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queued: Option<String>,
    pub channel: String,
    pub tlp: String,
    pub audience: String,
    pub report: Option<String>,
    pub first: Option<String>,
    pub last: Option<String>,
    /// Indicators published, or to be published in a dry run.
    pub records: u64,
    pub batches: u64,
    /// By our own policy.
    pub accepted: u64,
    pub held: u64,
    pub refused: u64,
    pub lines: u64,
    pub duplicates: u64,
    /// Lines that gave nothing, in all; the first fifty are below.
    pub complaints: u64,
    pub first_complaints: Vec<ComplaintLine>,
    pub latin1_lines: u64,
    pub by_type: BTreeMap<String, u64>,
    pub reach: Vec<ReachLine>,
    /// Members that read the channel and may not read one of these markings: they see a gap in its numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub see_gap: Vec<String>,
    /// How long it takes others to take them in under this member's quota, in milliseconds; 0 if at once.
    #[serde(default)]
    pub quota_ms: u64,
    pub lists: Vec<ListHit>,
    pub format: String,
    /// Reports published, where the file has some of its own.
    pub reports: u64,
    pub documents: u64,
    pub sightings: u64,
    /// Records of ours that were taken back because the file has taken back what they quote, or does not have them any more.
    pub withdrawn: u64,
    /// Of a file that is read again: what stood already, what now holds longer, and what was said in place of a record that meant something
    /// else.
    #[serde(default)]
    pub unchanged: u64,
    #[serde(default)]
    pub renewed: u64,
    #[serde(default)]
    pub replaced: u64,
    /// What the file did not say, and was said once for all of it.
    pub assumed: Vec<AssumedLine>,
    /// What nobody said; a dry run of a file that has to be complete says so here.
    pub unsaid: Vec<AssumedLine>,
    /// Taken, but not with all that it meant.
    pub changed: Vec<ChangedLine>,
    /// Objects for which there is no record, by kind.
    pub without_record: BTreeMap<String, u64>,
}

/// Something that gave nothing.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ComplaintLine {
    pub line: u64,
    /// Where in a file of objects.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    pub why: String,
}

/// What the file does not say.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct AssumedLine {
    /// `tlp`, `confidence` or `validity`.
    pub what: String,
    /// What was assumed.
    pub value: String,
    pub records: u64,
}

/// How a meaning changed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ChangedLine {
    pub how: String,
    pub count: u64,
    pub line: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
}

/// `POST /v1/publish`, with a line for the journal.
pub(super) async fn publish_deed(
    state: State<Local>,
    Query(parameters): Query<PublishParameters>,
    mut upload: Upload,
) -> Result<Acted<PublishReply>, ApiError> {
    let (title, channel, dry_run) = (parameters.title.clone(), parameters.channel.clone(), parameters.dry_run);
    let reply = publish(state, parameters, &mut upload).await;
    if reply.is_err() {
        upload.drain().await;
    }
    let Json(reply) = reply?;
    let where_to = reply.first.clone().unwrap_or(channel);
    let word = if dry_run { "tries" } else { "publishes" };
    Ok(Acted::deed(format!("{word} `{title}`, {} records, {where_to}", reply.records), reply))
}

/// Reads a body and publishes what it holds.
pub(super) async fn publish(
    State(local): State<Local>,
    parameters: PublishParameters,
    upload: &mut Upload,
) -> Result<Json<PublishReply>, ApiError> {
    let parameters = parameters.completed(&local.sources)?;
    let mut plan = Plan::of(&parameters, &local.identity.member, local.clock.now())?;
    if parameters.alone {
        local.own.alone();
    }
    let shared = shared_channel(&local.current.get(), &local.identity.member, &plan.channel)?;
    plan.anyway |= !shared;
    if shared && !plan.dry_run && !queue::lane_is_free(&local).await {
        let reply = PublishReply { channel: plan.channel.to_string(), tlp: label(plan.tlp), ..PublishReply::default() };
        let queued = Some(queue::keep_publication(&local, parameters, upload).await?);
        return Ok(Json(PublishReply { queued, ..reply }));
    }
    // Checks that need no file come before the upload.
    permitted(&local, &plan)?;
    let (file, length) = upload.spool(&local.data.join("imports"), FILE_BYTES_MAX).await?;
    blocking(move || Work::new(local, plan)?.run(file, length)).await.map(Json)
}

/// The channel's audience, if what is marked like this may go there.
/// Refuses a record whose text stands word for word in one that is marked above it.
pub(super) fn copies_nothing(local: &Local, record: &Record, tlp: Tlp) -> Result<(), ApiError> {
    match local.ledger.copied_above(texts(record).iter().map(String::as_str), tlp)? {
        Some(SamePassage { record, marking, words }) => Err(DoorError::Copies { record, marking, tlp, words }.into()),
        None => Ok(()),
    }
}

/// Every text of a record.
fn texts(record: &Record) -> Vec<String> {
    let mut texts = Vec::new();
    record.any_text(|text| {
        texts.push(text.to_owned());
        false
    });
    texts
}

fn permitted(local: &Local, plan: &Plan) -> Result<Audience, ApiError> {
    let audience = own_audience(&local.current.get(), &local.identity.member, &plan.channel)?;
    match plan.tlp.filter(|tlp| !audience.permits(*tlp)) {
        Some(tlp) => Err(DoorError::Marking { tlp, channel: plan.channel.clone(), audience: audience.name() }.into()),
        None => Ok(audience),
    }
}

/// A marking as the answer has it.
fn label(tlp: Option<Tlp>) -> String {
    tlp.map_or_else(|| "as marked".to_owned(), Tlp::label)
}

/// What of a report its indicators lean on.
#[derive(Clone)]
struct Lent {
    source: Option<Source>,
    tlp: Option<Tlp>,
    /// Whether the report itself says it.
    says_confidence: bool,
    says_until: bool,
    /// With what was said once.
    role: Option<Role>,
    usage: Option<Use>,
    confidence: Option<u8>,
    until: Option<Timestamp>,
    /// The report goes out too; what stays here is said by each record itself.
    goes: bool,
}

/// How many records do not say something themselves.
#[derive(Clone, Copy, Default)]
struct Unsaid {
    tlp: u64,
    confidence: u64,
    validity: u64,
}

/// One publication under way.
struct Work {
    local: Local,
    plan: Plan,
    permits: Vec<Tlp>,
    audience: String,
    /// Nobody but us reads the channel.
    is_local: bool,
    /// The whole federation reads it.
    is_for_all: bool,
    reply: PublishReply,
    /// Values seen, by 64-bit hash under two random keys: a list may name one twice.
    seen: HashSet<(u64, u64)>,
    hashers: (std::hash::RandomState, std::hash::RandomState),
    lent: HashMap<usize, Lent>,
    unsaid: Unsaid,
    /// Only counts what is unsaid.
    counting: bool,
    /// Markings of the records.
    markings: BTreeSet<Tlp>,
    /// Records of all kinds that were handed on.
    said: usize,
    withdrawn: BTreeSet<String>,
    /// What stands in the channel, where the file is more than an addition.
    standing: Option<Standing>,
    outgoing: Outgoing,
    hits: BTreeMap<String, (u64, String)>,
}

impl Work {
    fn new(local: Local, plan: Plan) -> Result<Self, ApiError> {
        let (audience, intake) = (permitted(&local, &plan)?, local.current.get());
        let tlp = plan.tlp.unwrap_or(Tlp::Green);
        let members = reach(&intake, &local.identity.member, &plan.channel, tlp, local.clock.now())?;
        let line = |(member, why_not): (crate::record::MemberId, Option<String>)| ReachLine {
            member: member.to_string(),
            reached: why_not.is_none(),
            why_not,
        };
        let reply = PublishReply {
            dry_run: plan.dry_run,
            channel: format!("{}/{}", local.identity.member, plan.channel),
            audience: audience.name(),
            reach: members.into_iter().map(line).collect(),
            ..PublishReply::default()
        };
        let permits: Vec<Tlp> = Tlp::ALL.iter().copied().filter(|tlp| audience.permits(*tlp)).collect();
        let outgoing = Outgoing::new(local.clone(), plan.channel.clone());
        let is_local = matches!(&audience.readers, Readers::Named(members) if members.iter().all(|one| *one == local.identity.member));
        let is_for_all = audience.readers == Readers::Federation;
        let (hashers, audience) = (Default::default(), audience.name());
        let (seen, lent, withdrawn, hits) = (HashSet::new(), HashMap::new(), BTreeSet::new(), BTreeMap::new());
        let (unsaid, counting, said, markings) = (Unsaid::default(), false, 0, BTreeSet::new());
        let standing = if plan.mode == Mode::Add { None } else { Some(Standing::of(&local, &plan, &permits)?) };
        Ok(Self {
            local,
            plan,
            permits,
            audience,
            is_local,
            is_for_all,
            reply,
            seen,
            hashers,
            lent,
            unsaid,
            counting,
            markings,
            said,
            withdrawn,
            standing,
            outgoing,
            hits,
        })
    }

    fn run(mut self, mut file: SpooledTempFile, length: u64) -> Result<PublishReply, ApiError> {
        if length == 0 {
            return Err(ApiError::bad("the file is empty"));
        }
        let mut begin = Vec::new();
        file.rewind().map_err(ApiError::internal)?;
        file.by_ref().take(DETECT_BYTES as u64).read_to_end(&mut begin).map_err(ApiError::internal)?;
        let about = self.plan.about(&begin)?;
        self.reply.format = about.format.name().to_owned();
        let taken = TakenVersions::of(&self.local.data, self.plan.channel.as_str(), self.plan.origin.as_deref());
        let latest = self.local.clock.moment().latest.plus_ms(CLOCK_SKEW_MS);
        let fresh = || {
            let mut reader = Reader::new(&about, &begin);
            reader.compare(Arc::clone(&taken.all), latest);
            reader
        };
        let mut reader = fresh();
        let is_text = matches!(about.format, Format::Text(_));
        // A list cannot say it; what is published as a list is for the federation unless it is said otherwise.
        if is_text && self.plan.tlp.is_none() && !self.plan.must_say {
            self.plan.tlp = Some(Tlp::Green);
        }
        if let Some(tlp) = self.plan.tlp
            && let Some((name, marking)) = self.local.ledger.named_above(&Record::Report(self.plan.report.clone()), tlp)?
        {
            return Err(DoorError::Names { name, marking, tlp }.into());
        }
        if let Some(tlp) = self.plan.tlp.filter(|_| !self.plan.anyway) {
            copies_nothing(&self.local, &Record::Report(self.plan.report.clone()), tlp)?;
        }
        let complete = self.plan.tlp.is_some() && (!self.plan.must_say || self.says_all());
        // The columns of a table may say it for each row.
        let may_say = !is_text || about.format == Format::Text(Layout::Csv);
        if !complete && !may_say {
            self.check_said(Unsaid { tlp: 1, confidence: 1, validity: 1 }, true)?;
        }
        // What a mirror would take back is known before anything is said.
        let mirror = matches!(self.plan.mode, Mode::Mirror(_));
        let count_first = mirror || (!complete && may_say);
        self.counting = count_first;
        let mut again = self.pass(&mut reader, &mut file)?;
        // A newer version of what was added takes its place.
        if self.plan.mode == Mode::Add && reader.versions().is_some_and(|versions| versions.any_known()) {
            self.plan.mode = Mode::Refresh;
            self.standing = Some(Standing::of(&self.local, &self.plan, &self.permits)?);
        }
        // The client learns which details are missing before anything is signed.
        if count_first {
            while again {
                again = self.pass(&mut reader, &mut file)?;
            }
            self.check_said(self.unsaid, false)?;
            if let (Some(standing), Mode::Mirror(percent)) = (&mut self.standing, self.plan.mode) {
                standing.check(percent)?;
            }
            (self.counting, self.unsaid) = (false, Unsaid::default());
            self.lent.clear();
            self.withdrawn.clear();
            self.reply.complaints = 0;
            self.reply.first_complaints.clear();
            reader = fresh();
            again = true;
        }
        while again {
            again = self.pass(&mut reader, &mut file)?;
        }
        let versions = reader.versions().map(|versions| versions.take()).unwrap_or_default();
        let dry_run = self.plan.dry_run;
        let reply = self.finish(reader)?;
        if !dry_run {
            taken.add(versions)?;
        }
        Ok(reply)
    }

    /// Reads the file once. Answers whether its reader wants it again.
    fn pass(&mut self, reader: &mut Reader, file: &mut SpooledTempFile) -> Result<bool, ApiError> {
        file.rewind().map_err(ApiError::internal)?;
        let mut buffer = vec![0; PIECE_BYTES];
        loop {
            let count = file.read(&mut buffer).map_err(ApiError::internal)?;
            if count == 0 {
                break;
            }
            reader.feed(buffer.get(..count).unwrap_or_default()).map_err(ApiError::bad)?;
            self.given(reader)?;
        }
        let again = reader.end_pass().map_err(ApiError::bad)?;
        self.given(reader)?;
        Ok(again)
    }

    fn says_all(&self) -> bool {
        self.plan.report.confidence.is_some() && self.plan.report.valid_until.is_some()
    }

    /// Refuses what has to be complete and is not. A dry run goes on and says what is missing.
    fn check_said(&mut self, unsaid: Unsaid, all: bool) -> Result<(), ApiError> {
        let Plan { tlp, report, must_say, dry_run, .. } = &self.plan;
        let count = |records: u64| if all { "the file does".to_owned() } else { format!("{records} records do") };
        let mut missing = Vec::new();
        let mut miss = |what: &str, records: u64, known: bool, sentence: String| {
            if records > 0 && !known {
                self.reply.unsaid.push(AssumedLine { what: what.to_owned(), value: String::new(), records });
                missing.push(sentence);
            }
        };
        miss("tlp", unsaid.tlp, tlp.is_some(), format!("{} not say who may read them (--tlp)", count(unsaid.tlp)));
        if *must_say {
            let (confidence, validity) = (report.confidence.is_some(), report.valid_until.is_some());
            miss(
                "confidence",
                unsaid.confidence,
                confidence,
                format!("{} not say how sure it is (--confidence)", count(unsaid.confidence)),
            );
            miss("validity", unsaid.validity, validity, format!("{} not say how long it holds (--valid-days)", count(unsaid.validity)));
        }
        if missing.is_empty() || *dry_run {
            return Ok(());
        }
        let ways =
            "say it once with these options, or under [[sources]] in node.toml and --as NAME; --as-is takes it as TLP:RED and unsure";
        Err(ApiError::bad(format!("{}; {ways}. Nothing was taken", missing.join("; "))))
    }

    /// Takes what the reader gave since the last time.
    fn given(&mut self, reader: &mut Reader) -> Result<(), ApiError> {
        let Given { said, complaints } = reader.take();
        complaints.into_iter().for_each(|complaint| self.complain(complaint));
        for one in said {
            match one {
                Said::Indicator { indicator, group, tlp, reach } => {
                    if self.may_reach(reach) {
                        self.indicator(*indicator, group, tlp, reader)?;
                    }
                }
                Said::Sighting { sighting, tlp, group } => self.sighting(*sighting, tlp, group, reader)?,
                Said::Document(document) => self.document(document, reader)?,
                Said::Older { external_id } => {
                    self.reply.unchanged += u64::from(!self.counting);
                    self.standing.iter_mut().for_each(|standing| standing.see_older(&external_id));
                }
                Said::Withdrawn { external_id } => {
                    if self.withdrawn.len() < WITHDRAWN_MAX {
                        self.withdrawn.insert(external_id);
                    }
                }
            }
        }
        Ok(())
    }

    fn complain(&mut self, Complaint { line, path, why }: Complaint) {
        self.reply.complaints += 1;
        if self.reply.first_complaints.len() < COMPLAINTS_MAX {
            self.reply.first_complaints.push(ComplaintLine { line, path, why });
        }
    }

    /// What the report with a number lends, and that it goes out before what belongs to it.
    fn lent(&mut self, number: usize, reader: &mut Reader) -> Lent {
        if let Some(lent) = self.lent.get(&number) {
            return lent.clone();
        }
        let Group { report, tlp, revoked, reach } = reader.group(number);
        let (says_confidence, says_until) = (report.confidence.is_some(), report.valid_until.is_some());
        let report = self.plan.complete(report);
        let Report { role, usage, confidence, valid_until: until, .. } = report;
        let marking = tlp.or(self.plan.tlp).unwrap_or(Tlp::Red);
        let mut goes = self.permits.contains(&marking) && !revoked && self.reaches(reach);
        if goes && !self.counting {
            // Its indicators go without it.
            goes = !self.names_above(&Record::Report(report.clone()), marking).unwrap_or(true);
        }
        let lent = Lent { source: report.source.clone(), tlp, says_confidence, says_until, role, usage, confidence, until, goes };
        self.lent.insert(number, lent.clone());
        if !self.plan.dry_run && !self.counting && goes && !self.outgoing.knows(number) {
            self.outgoing.report(number, report, marking);
        }
        lent
    }

    /// The marking of something, or nothing if the channel may not carry it.
    fn marking(&mut self, tlp: Option<Tlp>, lent: Option<&Lent>) -> Option<Tlp> {
        let said = tlp.or(lent.and_then(|lent| lent.tlp));
        self.unsaid.tlp += u64::from(said.is_none());
        let tlp = said.or(self.plan.tlp).unwrap_or(Tlp::Red);
        if self.permits.contains(&tlp) {
            self.markings.insert(tlp);
            return Some(tlp);
        }
        if !self.counting {
            let (channel, audience) = (&self.plan.channel, &self.audience);
            let why = format!("it is marked {}, and `{channel}` is read by {audience}; publish it to a narrower channel", tlp.label());
            self.complain(Complaint { line: 0, path: String::new(), why });
        }
        None
    }

    /// Returns true if the channel's audience is one that something may go to.
    fn reaches(&self, reach: Reach) -> bool {
        match reach {
            Reach::AsMarked => true,
            Reach::Some => !self.is_for_all,
            Reach::Here => self.is_local,
        }
    }

    /// As [`Self::reaches`], with a complaint.
    fn may_reach(&mut self, reach: Reach) -> bool {
        let beyond = !self.reaches(reach);
        if beyond && !self.counting {
            let audience = &self.audience;
            let why =
                format!("its author's MISP distribution does not let it go to {audience}; import it, or publish it to a narrower channel");
            self.complain(Complaint { line: 0, path: String::new(), why });
        }
        !beyond
    }

    fn indicator(&mut self, mut indicator: Indicator, group: usize, tlp: Option<Tlp>, reader: &mut Reader) -> Result<(), ApiError> {
        let lent = self.lent(group, reader);
        self.unsaid.confidence += u64::from(indicator.confidence.is_none() && !lent.says_confidence);
        self.unsaid.validity += u64::from(indicator.valid_until.is_none() && !lent.says_until);
        let Some(tlp) = self.marking(tlp, Some(&lent)) else { return Ok(()) };
        if !self.counting {
            let id = indicator.source.as_ref().and_then(|source| source.external_id.as_ref());
            let key = (&indicator.value, indicator.scope, group, id);
            let marks = (self.hashers.0.hash_one(key), self.hashers.1.hash_one(key));
            if !self.seen.insert(marks) {
                self.reply.duplicates += 1;
                return Ok(());
            }
            if self.seen.len() > PUBLICATION_RECORDS_MAX {
                return Err(ApiError::bad("more than 5,000,000 values; publish them as several lists"));
            }
        }
        if !lent.goes {
            let Lent { role, usage, confidence, until, source, .. } = lent.clone();
            (indicator.role, indicator.usage) = (indicator.role.or(role), indicator.usage.or(usage));
            indicator.confidence = indicator.confidence.or(confidence);
            indicator.valid_until = indicator.valid_until.or(until).filter(|until| indicator.valid_from.is_none_or(|from| from <= *until));
            if let Some(Source { organisation, url, .. }) = source {
                let own = indicator.source.get_or_insert(Source { organisation: None, url: None, external_id: None });
                (own.organisation, own.url) = (organisation, url);
            }
            indicator.source =
                indicator.source.filter(|source| source.organisation.is_some() || source.url.is_some() || source.external_id.is_some());
        }
        if self.counting {
            let organisation = organisation_of(&indicator, lent.source.as_ref());
            self.standing.iter_mut().for_each(|standing| standing.see(&indicator, organisation));
            return Ok(());
        }
        let mut record = Record::Indicator(indicator);
        if self.names_above(&record, tlp)? || !self.fits(&mut record) {
            return Ok(());
        }
        let Record::Indicator(mut indicator) = record else { return Ok(()) };
        let now = self.local.clock.now();
        if let Some(standing) = &mut self.standing {
            let meaning = Meaning {
                indicator_value: &indicator.value,
                scope: indicator.scope,
                tlp,
                role: indicator.role.or(lent.role),
                usage: indicator.usage.or(lent.usage),
                confidence: indicator.confidence.or(lent.confidence),
                tags: &indicator.tags,
                until: indicator.valid_until,
            };
            match standing.step(
                (&indicator, organisation_of(&indicator, lent.source.as_ref())),
                &meaning,
                indicator.valid_until.or(lent.until),
                now,
            ) {
                Step::Nothing => {
                    self.reply.unchanged += 1;
                    return Ok(());
                }
                Step::Renew => {
                    self.reply.renewed += 1;
                    return Ok(());
                }
                Step::Say => (),
                Step::SayInPlaceOf(place) => {
                    self.reply.replaced += 1;
                    indicator.replaces = Some(WireRef::Whole(place));
                }
            }
        }
        self.reply.records += 1;
        let name = indicator.value.kind().name();
        match self.reply.by_type.get_mut(name) {
            Some(count) => *count += 1,
            None => drop(self.reply.by_type.insert(name.to_owned(), 1)),
        }
        if self.plan.dry_run {
            for list in self.local.current.get().lists.of(&indicator.value).names() {
                let hit = self.hits.entry(list.to_owned()).or_insert_with(|| (0, indicator.value.defanged()));
                hit.0 += 1;
            }
            return Ok(());
        }
        self.say(Record::Indicator(indicator), lent.goes.then_some(group), tlp, Class::Content)
    }

    /// Hands on a record that its readers will take; one that they would refuse falls alone.
    fn say(&mut self, record: Record, group: Option<usize>, tlp: Tlp, class: Class) -> Result<(), ApiError> {
        self.said += 1;
        if self.said > PUBLICATION_RECORDS_MAX {
            return Err(ApiError::bad("more than 5,000,000 records; publish them as several files"));
        }
        self.outgoing.take(record, group, tlp, class)
    }

    /// Returns true if a record names another one that is marked above it, and adds a complaint. It is not published.
    fn names_above(&mut self, record: &Record, tlp: Tlp) -> Result<bool, ApiError> {
        let why = match self.local.ledger.named_above(record, tlp)? {
            Some((name, marking)) => DoorError::Names { name, marking, tlp }.to_string(),
            None if self.plan.anyway => return Ok(false),
            None => match self.local.ledger.copied_above(texts(record).iter().map(String::as_str), tlp)? {
                Some(SamePassage { record, marking, words }) => DoorError::Copies { record, marking, tlp, words }.to_string(),
                None => return Ok(false),
            },
        };
        self.complain(Complaint { line: 0, path: String::new(), why });
        Ok(true)
    }

    /// Whether a record can be said. Tags that are too long for it are shortened.
    fn fits(&mut self, record: &mut Record) -> bool {
        loop {
            // Room for the name of its report, which is not known yet.
            let why = match record.encode() {
                Ok(bytes) if bytes.len() + REFERENCE_BYTES <= RECORD_BYTES_MAX => return true,
                Ok(_) => "it is too long for a record".to_owned(),
                Err(error) => error.to_string(),
            };
            let tags = match record {
                Record::Indicator(indicator) => &mut indicator.tags,
                Record::Document(document) => &mut document.tags,
                _ => &mut Vec::new(),
            };
            if tags.is_empty() {
                self.complain(Complaint { line: 0, path: String::new(), why });
                return false;
            }
            tags.truncate(tags.len() / 2);
        }
    }

    fn sighting(&mut self, sighting: Sighting, tlp: Option<Tlp>, group: usize, reader: &mut Reader) -> Result<(), ApiError> {
        // What it is of is in its words too: it is never marked wider than that.
        let lent = self.lent(group, reader);
        let Some(tlp) = self.marking(tlp.max(lent.tlp), Some(&lent)).filter(|_| !self.counting) else { return Ok(()) };
        let mut record = Record::Sighting(sighting.clone());
        if self.names_above(&record, tlp)? || !self.fits(&mut record) {
            return Ok(());
        }
        if self.standing.as_mut().is_some_and(|standing| standing.stands(&record)) {
            self.reply.unchanged += 1;
            return Ok(());
        }
        self.reply.sightings += 1;
        if self.plan.dry_run {
            return Ok(());
        }
        let class = if sighting.sighting == SightingKind::FalsePositive { Class::Removal } else { Class::Content };
        self.say(record, None, tlp, class)
    }

    fn document(&mut self, attached: Attached, reader: &mut Reader) -> Result<(), ApiError> {
        let lent = attached.group.map(|number| self.lent(number, reader));
        let Some(tlp) = self.marking(attached.tlp, lent.as_ref()).filter(|_| !self.counting) else { return Ok(()) };
        self.reply.documents += 1;
        if self.plan.dry_run {
            return Ok(());
        }
        let Attached { title, media_type, content, tags, group, .. } = attached;
        let short = (content.len() <= DOCUMENT_BYTES_MAX).then(|| String::from_utf8(content.clone()).ok()).flatten();
        let whole = |content: Content| Document {
            title: title.clone(),
            media_type: media_type.clone(),
            content,
            description: None,
            language: None,
            tags: tags.clone(),
            targets: Vec::new(),
            replaces: None,
        };
        // A short text travels in its record, if it is one that a record may hold as it is.
        let inline = short.map(|text| whole(Content::Inline(text))).filter(|one| Record::Document(one.clone()).encode().is_ok());
        let document = match inline {
            Some(document) => document,
            None => {
                let mut receiving = self.local.documents.receive()?;
                receiving.push(&content)?;
                let (hash, length) = receiving.keep()?;
                whole(Content::Hash { hash, length })
            }
        };
        let mut record = Record::Document(document);
        if self.names_above(&record, tlp)? || !self.fits(&mut record) {
            self.reply.documents = self.reply.documents.saturating_sub(1);
            return Ok(());
        }
        if self.standing.as_mut().is_some_and(|standing| standing.stands(&record)) {
            (self.reply.unchanged, self.reply.documents) = (self.reply.unchanged + 1, self.reply.documents.saturating_sub(1));
            return Ok(());
        }
        // A document does not name a report that is marked above it.
        let named = |lent: Lent| lent.goes && lent.tlp.or(self.plan.tlp).unwrap_or(Tlp::Red) <= tlp;
        let group = group.filter(|_| lent.is_some_and(named));
        self.say(record, group, tlp, Class::Content)
    }

    fn finish(mut self, mut reader: Reader) -> Result<PublishReply, ApiError> {
        let mirror = matches!(self.plan.mode, Mode::Mirror(_));
        // A file that is read again says its reports with what is new of them.
        for number in 0..if self.standing.is_none() { reader.reports() } else { 0 } {
            self.lent(number, &mut reader);
        }
        let said = self.reply.records + self.reply.documents + self.reply.sightings + self.withdrawn.len() as u64;
        let reports = reader.reports() as u64;
        if said + reports + self.reply.unchanged + self.reply.renewed == 0 && !self.plan.may_be_empty {
            let first = self.reply.first_complaints.first().map(|one| match one.path.as_str() {
                "" => format!("; line {}: {}", one.line, one.why),
                path => format!("; line {}, {path}: {}", one.line, one.why),
            });
            let what = match self.reply.format.as_str() {
                "stix" | "misp" => "nothing in it",
                "json" => "this JSON is neither STIX nor MISP, and none of its objects",
                _ => "no line",
            };
            return Err(ApiError::bad(format!("{what} gave a value, so nothing was published{}", first.unwrap_or_default())));
        }
        if self.plan.dry_run {
            self.reply.withdrawn = self.standing.as_mut().map_or(0, |standing| standing.take_leftovers(mirror).len() as u64);
        } else {
            for (until, tlp, reports) in self.standing.as_mut().map(Standing::take_renewals).unwrap_or_default() {
                for renewal in renewals(&reports, until) {
                    self.say(renewal, None, tlp, Class::Content)?;
                }
            }
            self.outgoing.finish()?;
            self.take_back(mirror)?;
        }
        let Self { local, plan, mut reply, hits, unsaid, outgoing, markings, .. } = self;
        let mut unread = BTreeSet::new();
        for tlp in markings {
            unread.extend(see_gap(&local.current.get(), &local.identity.member, &plan.channel, tlp, local.clock.now())?);
        }
        reply.see_gap = unread.iter().map(ToString::to_string).collect();
        let done = outgoing.done;
        reply.tlp = label(plan.tlp);
        reply.report = done.report.map(|report| report.to_string());
        (reply.first, reply.last) = (done.first.map(|one| one.to_string()), done.last.map(|one| one.to_string()));
        (reply.batches, reply.reports) = (done.batches, if plan.dry_run { reports } else { done.reports });
        (reply.accepted, reply.held, reply.refused) = (done.counts.accepted, done.counts.held, done.counts.refused);
        reply.lines = reader.elements();
        reply.latin1_lines = reader.latin1_lines();
        let mut assume = |what: &str, records: u64, value: Option<String>| {
            if let (true, Some(value)) = (records > 0, value) {
                reply.assumed.push(AssumedLine { what: what.to_owned(), value, records });
            }
        };
        assume("tlp", unsaid.tlp, plan.tlp.map(Tlp::label));
        assume("confidence", unsaid.confidence, plan.report.confidence.map(|value| value.to_string()));
        assume("validity", unsaid.validity, plan.report.valid_until.map(|until| format!("until {until}")));
        let notes = reader.notes();
        let changed = notes.changed.iter();
        reply.changed = changed
            .map(|(how, tally)| ChangedLine { how: (*how).to_owned(), count: tally.count, line: tally.line, path: tally.path.clone() })
            .collect();
        reply.without_record.clone_from(&notes.without_record);
        if reply.reach.iter().any(|line| line.reached) {
            let LocalParts { current, identity, clock, .. } = &*local;
            reply.quota_ms = current.get().roster.quota(&identity.member, clock.now()).ms_to_take(reply.records);
        }
        let hit = |(list, (values, first)): (String, (u64, String))| ListHit { list, values, first };
        reply.lists = hits.into_iter().map(hit).collect();
        Ok(reply)
    }

    /// Takes back what we said in this channel by ids that the file has taken back, what was said anew, and what a mirror lacks.
    fn take_back(&mut self, mirror: bool) -> Result<(), ApiError> {
        let mut targets = self.standing.as_mut().map(|standing| standing.take_leftovers(mirror)).unwrap_or_default();
        if !self.withdrawn.is_empty() {
            targets.extend(quoting(&self.local, &self.plan.channel, self.plan.origin.as_deref(), &self.withdrawn)?);
            targets.sort();
            targets.dedup();
        }
        self.reply.withdrawn = (targets.len() as u64).saturating_sub(self.reply.replaced);
        let note = Some("replaced or taken back at its source".to_owned());
        for some in targets.chunks(crate::node::door::WITHDRAW_MAX) {
            let take_back = TakeBack { targets: some.to_vec(), reason: Reason::Superseded, note: note.clone() };
            let (reply, answer) = tokio::sync::oneshot::channel();
            self.local.door.send(Request::Withdraw(Box::new(take_back), reply)).map_err(|_| DoorError::Stopping)?;
            answer.blocking_recv().map_err(|_| DoorError::Stopping)??;
        }
        Ok(())
    }
}

/// Records of ours in a channel that stand and quote one of these outside ids.
fn quoting(local: &Local, channel: &ChannelName, origin: Option<&str>, ids: &BTreeSet<String>) -> Result<Vec<RecordRef>, ApiError> {
    let me = &local.identity.member;
    let feeds: Vec<_> = local.ledger.feeds().into_iter().filter(|(feed, _)| feed.member == *me && feed.channel == *channel).collect();
    let mut reading = Reading::whole(&local.ledger, local.clock.now());
    let mut found = Vec::new();
    for (feed, state) in feeds {
        for seq in state.first()..=state.last() {
            let Some(number) = local.ledger.batch_number(&feed, seq)? else { continue };
            let Some(count) = reading.batch(number)?.map(|batch| batch.head.count) else { continue };
            for index in 0..count {
                let Some(found_here) = reading.found(crate::ledger::Place { batch: number, index })? else { continue };
                let (source, tags) = match &found_here.record {
                    Record::Indicator(indicator) => (indicator.source.as_ref(), found_here.lent().tags.clone()),
                    Record::Report(report) => (report.source.as_ref(), report.tags.clone()),
                    _ => continue,
                };
                let quotes = source.and_then(|source| source.external_id.as_ref()).is_some_and(|id| ids.contains(id));
                if quotes && found_here.withdrawn.is_none() && is_of(&tags, origin) {
                    found.push(found_here.reference.clone());
                }
            }
        }
    }
    Ok(found)
}
