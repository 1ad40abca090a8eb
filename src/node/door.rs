//! The door's keeper: one thread that owns the ledger's writer. Everything that changes anything passes here.
//!
//! ```text
//! Request (bounded queue) -intake-> Writer::keep ... -> commit (one fsync for all) -> replies, Events
//! ```
//!
//! Replies are sent after the fsync, never before. The index is written when nothing has come for 3 ms, or after 300 ms. A commit
//! that fails ends the thread, and with it the node: nothing is acknowledged after it.

mod queue;
mod verdicts;

pub use queue::{NotSent, QUEUE_MAX, Queue, Sender, queue};

use super::{
    Current, Identity,
    enforcer::Enforcer,
    keys::{KeyFileError, KeyStore, Purpose},
    own_heads::{OwnHeads, Waiting},
    rules::Rules,
};
use crate::{
    charter::{Card, CardError, CharterError, CharterTaken, Freshness, KeyHolding, Meter, Quota, Roster, card_of, charter_version},
    clock::Clock,
    enforce::{Order, OrderEntry},
    envelope::{Audience, Class, CoseError, Hash, Head, KeyId, ProvedBatch, ProvedHead, PublicKey, SecretKey, SignedHead, Signer, Slot},
    intake::{Admitted, Blame, Intake, Known as _, Outcome, Placed, ReadBatch, Refusal},
    ledger::{
        Aside, Brought, Compacted, Counts, DecisionEntry, Entry, Erased, ErasureEntry, FeedState, FollowEntry, JudgedEntry, Ledger,
        LedgerError, OutcomeLine, Place, QuarantineStep, ReviewEntry, ShareEntry, Touched, Writer,
    },
    policy::{Judgement, Verdict, Way, may_send},
    publish::{Draft, Lane, PublishError, Publisher},
    query::As,
    record::{
        ChannelName, FeedId, Kind, MemberId, Reason, Record, RecordRef, Report, Timestamp, Tlp, UnknownName, WireRef, Withdrawal, names_in,
    },
    replica::{PeerKey, Served, Wanted},
    timekeeping::{Doubt, is_ahead},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// Requests taken in under one fsync.
const GROUP_MAX: usize = 256;
/// Longest that committed records may be unfindable by value. Half a second would still be "within a second".
const INDEX_DELAY: Duration = Duration::from_millis(300);
/// Most indicators that are judged when their report comes at last; a report has as many at most that anybody reads.
const WAITING_MAX: usize = 1_000_000;
/// Reports whose renewals a start goes on with; more wait for the next one.
const RENEWING_MAX: usize = 65_536;
/// Goes of renewals that a stop waits for: a second; the next start does the rest.
const RENEWALS_AT_CLOSE: usize = 64;
/// Batches of ours that are sealed before the door takes them.
const SEALED_MAX: usize = 4;
/// Most targets of one withdrawal request.
pub const WITHDRAW_MAX: usize = 65_536;

/// When nothing has come for so long, what is pending is written to the index: a lone record is found at once, and a flood
/// is written in long sorted runs.
const INDEX_IDLE: Duration = Duration::from_millis(3);

/// What one member may take back that is not known here: withdrawals are exempt from every other quota, and come before their
/// targets at times; invented ones would fill the store. 50,000 a day are some 10 MiB. What is over comes again later, and then
/// passes if its targets have come.
const UNMET_QUOTA: Quota = Quota { records_per_second: 1, burst_records: 20_000, records_per_day: 50_000, bytes_per_day: u64::MAX };
/// How long the door waits for a request when nothing is pending.
const NOTHING_PENDING: Duration = Duration::from_secs(5);

/// Interval between checks of free disk space: another program can fill the disk fast, and a check costs a microsecond.
const ROOM_POLL: Duration = Duration::from_millis(50);
/// Content that finds no room on the disk is not fetched again before this.
const NO_ROOM_MS: u64 = 10_000;
/// How often the door looks whether a compaction is done.
const COMPACTION_POLL: Duration = Duration::from_millis(20);

/// What is logged when the stewards' keys were used twice.
const RIVAL_ALARM: &str = "two valid charters of one version exist: charter changes stop here until the stewards sign a next version \
                           that names the one that stands (`resolves` in charter.toml)";

/// Why nothing was published or withdrawn.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    #[error("this node has no publishing key; run `huecry init` on the machine that is to publish")]
    NoKey,
    #[error("this node's publishing key, {0}, is not in force on its member's card; see `huecry card show`, and rotate it")]
    KeyNotOnCard(KeyId),
    #[error(
        "the new card pins {feed} at another head than its last one here, #{last}; something was published since it was made: make it again"
    )]
    StalePin { feed: FeedId, last: u64 },
    #[error(transparent)]
    Key(#[from] KeyFileError),
    #[error("no card of `{0}` is known here yet, so nobody could check what it signs")]
    NoCard(MemberId),
    #[error(transparent)]
    Channel(#[from] UnknownName),
    #[error("this names {name}, which is {}, and would be published as {}: leave the name out, or mark it {0} or above", marking.label(), tlp.label())]
    Names { name: RecordRef, marking: Tlp, tlp: Tlp },
    #[error(
        "this copies text of {record}, which is {}, and would be published as {}: \"{words}\"; if it may be published, say so with --anyway",
        marking.label(), tlp.label()
    )]
    Copies { record: RecordRef, marking: Tlp, tlp: Tlp, words: String },
    #[error("{} may not travel in channel `{channel}`, whose audience is {audience}", tlp.label())]
    Marking { tlp: Tlp, channel: ChannelName, audience: String },
    #[error("`{0}` is another member's; only its author can withdraw it. `huecry` keeps it from you by policy if you want")]
    NotOurs(RecordRef),
    #[error("there is no record `{0}` here")]
    NoSuchRecord(RecordRef),
    #[error("more than 65,536 records in one request")]
    Many,
    #[error(transparent)]
    Charter(#[from] CharterError),
    #[error(transparent)]
    Card(#[from] CardError),
    #[error(transparent)]
    Publish(#[from] PublishError),
    #[error("our own batch was not let in: {0}")]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("{0}; `--alone` publishes without them, if you are sure that nothing was published from elsewhere")]
    Waiting(Waiting),
    #[error("{0}")]
    Clock(Doubt),
    #[error("{what} is dated {date}, in the future, and refused. Check the clock of this machine, and the signer's")]
    Ahead { what: String, date: Timestamp },
    #[error("what was erased is dead, but its bytes could not be rewritten yet: {0}")]
    Compaction(String),
    #[error("that is no decision that can be taken over; what two people force they force at each node")]
    NoDecision,
    #[error("{0}")]
    NoRoom(String),
    #[error("the node is stopping")]
    Stopping,
}

/// Records to be published together.
#[derive(Clone, Debug)]
pub struct Publication {
    pub channel: ChannelName,
    pub tlp: Tlp,
    pub class: Class,
    /// A new report that begins this, or one published before.
    pub report: ReportOf,
    pub records: Vec<Record>,
}

/// The report of a publication's indicators.
#[derive(Clone, Debug)]
pub enum ReportOf {
    New(Box<Report>),
    Known(RecordRef),
    None,
}

/// What was published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Published {
    pub report: Option<RecordRef>,
    /// Places of the reports among the records, in their order.
    pub reports: Vec<RecordRef>,
    pub first: Option<RecordRef>,
    pub last: Option<RecordRef>,
    pub batches: u64,
    /// How our own policy judged them.
    pub counts: Counts,
}

/// What to take back.
#[derive(Clone, Debug)]
pub struct TakeBack {
    pub targets: Vec<RecordRef>,
    pub reason: Reason,
    pub note: Option<String>,
}

/// Where an answer goes.
pub type Reply<T> = oneshot::Sender<Result<T, DoorError>>;

/// A batch that a peer served.
pub struct Arrived {
    pub head: Box<ProvedHead>,
    pub served: Served,
    /// It may come behind a hole that it makes.
    pub beyond: bool,
    /// Its body opened and read, where that was done ahead.
    read: Option<Result<Box<ReadBatch>, Refusal>>,
}

impl Arrived {
    /// A batch as it was served.
    pub fn of(head: Box<ProvedHead>, served: Served, beyond: bool) -> Box<Self> {
        Box::new(Self { head, served, beyond, read: None })
    }

    /// A whole batch in its turn.
    pub fn in_turn(head: ProvedHead, body: Vec<u8>, from: PeerKey) -> Box<Self> {
        Self::of(Box::new(head), Served { body, withheld: 0, path: Vec::new(), from }, false)
    }

    /// Does what needs nothing but the bytes.
    fn read_ahead(&mut self) {
        let body = std::mem::take(&mut self.served.body);
        self.read = Some(ReadBatch::open((*self.head).clone(), body).map(Box::new));
    }
}

/// Something for the door.
pub enum Request {
    Batch(Box<Arrived>),
    /// A batch out of a bundle, for which somebody waits: answers whether anything of it was new.
    Import(Box<Arrived>, Reply<bool>),
    /// More of a batch that is here in part.
    Fill {
        feed: FeedId,
        seq: u64,
        served: Box<Served>,
    },
    /// A second head for one place.
    Fork {
        head: Box<ProvedHead>,
    },
    /// Another branch of a feed that has not reached its pin was heard of.
    OtherBranch {
        feed: FeedId,
    },
    /// What a person did, for the journal.
    Decision {
        by: String,
        what: String,
        reply: Reply<()>,
    },
    /// Time has passed or the charter has changed: agreements are carried out.
    Agreements,
    /// An operator's decision about what is in quarantine.
    Quarantine {
        feed: FeedId,
        step: QuarantineStep,
        by: String,
        reply: Reply<()>,
    },
    /// A charter, stamp, card or proof, with its number in [`document`]. A person waits for the answer; a peer is judged by it.
    Document {
        document: u64,
        bytes: Vec<u8>,
        from: Option<PeerKey>,
        reply: Option<Reply<()>>,
    },
    /// Policies and lists were read anew. What is held is judged again, little by little.
    Rules {
        rules: Box<Rules>,
        reply: Reply<()>,
    },
    /// A person decides about records that are held; answers how many were.
    Judge {
        records: Vec<RecordRef>,
        verdict: Verdict,
        reason: String,
        by: String,
        reply: Reply<usize>,
    },
    /// Records are judged again by the policies in force; answers for how many that changed anything.
    Rejudge {
        records: Vec<RecordRef>,
        by: String,
        reply: Reply<usize>,
    },
    /// Which channels are followed from now on.
    Follow {
        entry: Box<FollowEntry>,
        reply: Reply<()>,
    },
    /// Records that are passed on to a further audience from now on, or no more.
    Share {
        entry: Box<ShareEntry>,
        reply: Reply<()>,
    },
    /// What was taken back while the node was away is among the requests before this one, or cannot be had.
    CaughtUp,
    /// What an operator ordered about enforcement.
    Order {
        order: Order,
        by: String,
        reply: Reply<()>,
    },
    /// Content that goes. It is dead when this is answered; its bytes go with the next compaction.
    Erase {
        entry: Box<ErasureEntry>,
        reply: Reply<Erased>,
    },
    /// What a person decided at another node of ours. Answers `false` if it is about records that are not here yet.
    Adopt {
        entry: Box<Entry>,
        reply: Reply<bool>,
    },
    /// A person decided that records which were due for review stay.
    Review {
        entry: Box<ReviewEntry>,
        reply: Reply<()>,
    },
    /// What was erased is rewritten out of the journal's files, while everything goes on. Answered when it is done.
    Compact(Reply<Compacted>),
    Publish(Box<Publication>, Reply<Published>),
    Withdraw(Box<TakeBack>, Reply<Published>),
    Stop(oneshot::Sender<Result<(), LedgerError>>),
    /// An urgent request waits.
    Look,
}

/// What the door did, for the event loop.
#[derive(Debug)]
pub enum Event {
    /// Durable.
    Kept {
        feed: FeedId,
        seq: u64,
        head: Vec<u8>,
        from: Option<PeerKey>,
    },
    /// More of a batch is durable.
    Filled {
        feed: FeedId,
        seq: u64,
        from: PeerKey,
    },
    Refused {
        feed: FeedId,
        seq: u64,
        from: PeerKey,
        refusal: Refusal,
    },
    /// What we held of a feed was set aside, whole or from some batch on.
    Detached {
        feed: FeedId,
    },
    /// The roster changed; the document may be passed on.
    Document {
        document: u64,
        bytes: Vec<u8>,
    },
    /// A document of a peer was taken, was known, or was refused: with a code, and whether its sender is to blame.
    DocumentJudged {
        from: PeerKey,
        refused: Option<(&'static str, bool)>,
    },
    /// What is followed has changed.
    Followed,
    /// What is passed on beyond its audience has changed.
    Shared,
    /// Policies have changed, so that something may be servable that was not.
    Rules,
    /// The journal failed; nothing more is acknowledged.
    Fatal(String),
}

/// Numbers of documents, as in [`crate::replica::Document`].
pub mod document {
    pub const CHARTER: u64 = 1;
    pub const STAMP: u64 = 2;
    pub const CARD: u64 = 3;
    pub const PROOF: u64 = 4;
    pub const WHEREABOUTS: u64 = 6;
}

/// The door without its thread.
pub struct Door {
    writer: Writer,
    current: Current,
    identity: Arc<Identity>,
    keys: KeyStore,
    publishing: Option<Arc<dyn Signer>>,
    own: OwnHeads,
    /// When it began to count what members use.
    since: Timestamp,
    /// What each member has used; there are as many as the charter names.
    meters: BTreeMap<MemberId, Meter>,
    /// The same for what they take back that is not known here.
    unmet: BTreeMap<MemberId, Meter>,
    clock: Clock,
    enforcer: Option<Enforcer>,
    /// What was touched and is not findable yet.
    touched: Touched,
    /// The run that is being written to the index.
    indexing: Option<Indexing>,
    /// Something was taken in since the index was written last.
    untold: bool,
    /// The enforcer is to hear that it may write, once it was told everything.
    caught_up: bool,
    /// Where judging again what is held goes on, while it does.
    rejudging: Option<Place>,
    /// At the last look the clock was doubted, or the charter not known to be current. Records that are held for that are judged again later.
    uncertain: bool,
    /// Reports that were renewed, or are so no more, and from which batch on their indicators have yet to get their end.
    renewing: verdicts::Renewing,
    /// Reports that came after some of their indicators.
    late_reports: Vec<RecordRef>,
    /// What is followed.
    wanted: Wanted,
    /// Who waits for the compaction that runs.
    compacting: Vec<Reply<Compacted>>,
    /// Who asked while it ran: it does not know what they have erased since it began.
    compacting_next: Vec<Reply<Compacted>>,
}

/// What the enforcer is told when a run of the index is written.
struct Indexing {
    touched: Touched,
    batches: u64,
    caught_up: bool,
}

fn random(buffer: &mut [u8]) -> Result<(), String> {
    getrandom::fill(buffer).map_err(|error| error.to_string())
}

impl Door {
    /// A door to this ledger.
    pub fn new(
        writer: Writer,
        current: Current,
        identity: Arc<Identity>,
        keys: KeyStore,
        publishing: Option<SecretKey>,
        own: OwnHeads,
        clock: Clock,
    ) -> Self {
        let due = writer.ledger().renewing(RENEWING_MAX).unwrap_or_else(|error| {
            tracing::error!(%error, "what was renewed and is not carried out yet could not be read");
            Vec::new()
        });
        let mut renewing = verdicts::Renewing::default();
        renewing.add(due);
        Self {
            writer,
            current,
            identity,
            keys,
            publishing: publishing.map(|key| Arc::new(key) as Arc<dyn Signer>),
            own,
            since: clock.now(),
            meters: BTreeMap::new(),
            unmet: BTreeMap::new(),
            clock,
            enforcer: None,
            touched: Touched::default(),
            indexing: None,
            untold: true,
            caught_up: false,
            rejudging: None,
            uncertain: true,
            renewing,
            late_reports: Vec::new(),
            wanted: Wanted::default(),
            compacting: Vec::new(),
            compacting_next: Vec::new(),
        }
    }

    /// Begins to follow what operators have said.
    pub fn follow(&mut self, wanted: Wanted) {
        self.wanted = wanted;
    }

    /// The policies are others than those of the last run: what is held is judged again.
    pub fn judge_held_again(&mut self) {
        self.rejudging = Some(Place { batch: 0, index: 0 });
    }

    /// From now on tells `enforcer` what changes.
    pub fn attend(&mut self, enforcer: Enforcer) {
        if !enforcer.is_idle() {
            self.writer.watch();
        }
        self.enforcer = Some(enforcer);
    }

    /// Tells the enforcer what is committed: what was taken back at once, what is new when it is `findable`.
    fn tell(&mut self, findable: bool) {
        let Some(enforcer) = &self.enforcer else { return };
        self.touched.add(self.writer.take_touched());
        let now = if findable {
            std::mem::take(&mut self.touched)
        } else {
            let (records, feeds) = (std::mem::take(&mut self.touched.records), std::mem::take(&mut self.touched.feeds));
            Touched { records, feeds, ..Touched::default() }
        };
        enforcer.touch(now);
        if findable {
            enforcer.told(self.ledger().batches());
        }
    }

    /// Members, cards or agreements changed.
    fn put_in_force(&self, roster: Roster) {
        self.current.set_roster(roster);
        if let Some(enforcer) = &self.enforcer {
            enforcer.look_at_everything();
        }
    }

    /// The readers' half of the ledger behind it.
    pub fn ledger(&self) -> Ledger {
        self.writer.ledger().clone()
    }

    /// Proves and places a head by what this door holds, uncommitted batches included.
    pub fn place(&self, intake: &Intake, bytes: &[u8]) -> Result<Placed, Refusal> {
        intake.place(bytes, self.clock.moment(), &self.writer)
    }

    /// Takes in a batch that a peer served. Durable after [`Self::commit`].
    pub fn batch(&mut self, arrived: Arrived) -> Result<(), DoorError> {
        self.take_in(arrived, true)
    }

    /// Quotas are against floods from peers: what an operator carries in is not `metered`, and nobody holds up what it said itself.
    fn take_in(&mut self, arrived: Arrived, metered: bool) -> Result<(), DoorError> {
        let Arrived { head, served: Served { body, withheld, path, from }, beyond, read } = arrived;
        let now = self.clock.now();
        let (feed, seq) = (head.head().feed(), head.head().seq);
        let intake = self.current.get();
        let counted = Counted::of(&head);
        if let Some(text) = self.current.room().low().filter(|_| head.head().class == Class::Content) {
            return Err(Refusal::until(self.clock.now().plus_ms(NO_ROOM_MS), "no-room", text).into());
        }
        let read = read.map_or_else(|| ReadBatch::open(*head, body), |read| read.map(|read| *read))?;
        let length = read.batch().body().len() as u64;
        let gone = self.erased_in(&read)?;
        let read = if gone.is_empty() { read } else { read.without(&gone)? };
        let admitted = intake.admit(read, self.clock.moment(), &self.writer, beyond)?;
        // Counted when the body is proved: nobody uses up another's quota with rubbish.
        let Counted { member, records, dated } = counted;
        if records > 0 && metered && member != self.identity.member {
            let quota = intake.roster.quota(&member, now);
            let meter = self.meters.entry(member.clone()).or_default();
            if !meter.take(quota, records, length, dated, self.since, now) {
                let text = format!("`{member}` has used its quota; {feed}#{seq} is asked for again later");
                return Err(Refusal::until(meter.ready(quota, records, length, dated, now), "quota", text).into());
            }
        }
        let unmet = self.unmet_targets(&admitted);
        if unmet > 0 {
            let meter = self.unmet.entry(feed.member.clone()).or_default();
            if !meter.take(&UNMET_QUOTA, unmet, 0, now, self.since, now) {
                let text = format!("`{}` takes back more records than may come later; {feed}#{seq} is asked for again", feed.member);
                return Err(Refusal::new(Blame::Later, "removal-quota", text).into());
            }
        }
        let absent = absent_of(admitted.batch().slots()).saturating_sub(u16::try_from(gone.len()).unwrap_or(u16::MAX));
        let withheld = self.lacking(&feed, absent, withheld);
        self.writer.keep(&admitted, now, &Brought { from: &from, path: &path, withheld, gone: &gone })?;
        let last = self.writer.position(&feed).map_or(0, |(last, _)| last);
        if seq < last {
            self.note_reports(&admitted, &feed, seq);
        }
        // Behind its pin a feed counts only once it has reached it: whoever serves us first may serve a thief's branch.
        if let (Some(pin), Some(state)) = (intake.roster.pin(&feed), self.writer.feed(&feed)) {
            let reached = self.writer.head_at(&feed, pin.seq) == Some(pin.head);
            if seq < pin.seq && !reached && state.aside.is_none() {
                self.writer.quarantine(&feed, QuarantineStep::Await, now, None)?;
            } else if seq == pin.seq && state.aside.is_some() {
                self.writer.quarantine(&feed, QuarantineStep::Clear, now, None)?;
            }
        }
        Ok(())
    }

    /// How many records a batch takes back or renews of which nothing is known here: each costs a row for ever, and may be invented.
    fn unmet_targets(&self, admitted: &Admitted) -> u64 {
        let (feed, seq) = (admitted.batch().head().head().feed(), admitted.batch().head().head().seq);
        let about = admitted.outcomes().iter().filter_map(|outcome| match outcome {
            Outcome::Judged(one) => match &one.record {
                Record::Withdrawal(withdrawal) => Some(&withdrawal.targets),
                Record::Renewal(renewal) => Some(&renewal.targets),
                _ => None,
            },
            _ => None,
        });
        let targets = about.flatten().filter_map(|target| target.resolve(&feed, seq));
        targets.filter(|target| self.writer.head_at(&target.feed, target.seq).is_none()).count() as u64
    }

    /// Takes in a batch out of a bundle: new, or more of one that is here.
    fn import(&mut self, arrived: Arrived, events: &mut Vec<Event>) -> Result<bool, DoorError> {
        let (feed, seq, from) = (arrived.head.head().feed(), arrived.head.head().seq, arrived.served.from);
        if self.writer.head_at(&feed, seq) == Some(arrived.head.id()) {
            let more = self.fill(&feed, seq, arrived.served)?;
            if more {
                events.push(Event::Filled { feed, seq, from });
            }
            return Ok(more);
        }
        let head = arrived.head.bytes().to_vec();
        self.take_in(arrived, false)?;
        events.push(Event::Kept { feed, seq, head, from: Some(from) });
        Ok(true)
    }

    /// Takes in more of a batch that is here in part. Answers whether anything was new.
    pub fn fill(&mut self, feed: &FeedId, seq: u64, served: Served) -> Result<bool, DoorError> {
        if let Some(text) = self.current.room().low() {
            return Err(Refusal::until(self.clock.now().plus_ms(NO_ROOM_MS), "no-room", text).into());
        }
        let Served { body, withheld, path, from } = served;
        self.writer.commit()?;
        let (now, intake) = (self.clock.now(), self.current.get());
        let Some(held) = self.ledger().batch_at(feed, seq)?.filter(|held| !held.entry.body.is_empty()) else { return Ok(false) };
        let head = intake.prove(&held.entry.head, self.clock.moment())?;
        let gone = (0..).zip(held.entry.outcomes()).filter(|(_, line)| **line == OutcomeLine::Gone).map(|(at, _)| at);
        let mut erased: BTreeSet<u16> = gone.collect();
        if self.ledger().any_erased()? {
            erased.extend(self.erased_in(&ReadBatch::open(head.clone(), body.clone())?)?);
        }
        // Proved as it came, and only then taken apart.
        let body = match erased.is_empty() {
            true => body,
            false => {
                ProvedBatch::open(head.clone(), body).and_then(|more| more.part(|index| !erased.contains(&index))).map_err(Refusal::from)?
            }
        };
        let Some((admitted, new)) = intake.fill(head, &held.entry.body, body, self.clock.moment(), &self.writer)? else {
            let lacking = self.lacking(feed, held.entry.absent(), withheld);
            self.writer.note_withheld(feed, seq, Some(lacking))?;
            return Ok(false);
        };
        let gone: Vec<u16> = erased.into_iter().collect();
        let absent = absent_of(admitted.batch().slots()).saturating_sub(u16::try_from(gone.len()).unwrap_or(u16::MAX));
        let withheld = self.lacking(feed, absent, withheld);
        self.writer.fill(&admitted, &new, now, &Brought { from: &from, path: &path, withheld, gone: &gone })?;
        self.note_reports(&admitted, feed, seq);
        Ok(true)
    }

    /// Places of a batch that comes whose content was erased here for good, or whose report's was.
    fn erased_in(&self, read: &ReadBatch) -> Result<Vec<u16>, DoorError> {
        let (head, ledger) = (read.batch().head().head(), self.ledger());
        if head.class == Class::Removal || !ledger.any_erased()? {
            return Ok(Vec::new());
        }
        let mut gone = ledger.erased(&head.feed(), head.seq)?;
        let mut reports: BTreeMap<RecordRef, bool> = BTreeMap::new();
        for (index, report) in read.naming() {
            let is_gone = match reports.get(&report) {
                Some(is_gone) => *is_gone,
                None => ledger.erased(&report.feed, report.seq)?.contains(&report.index),
            };
            reports.insert(report, is_gone);
            if is_gone {
                gone.insert(index);
            }
        }
        Ok(gone.into_iter().filter(|index| *index < head.count).collect())
    }

    /// How many records of a batch we lack that we follow. Where all of a channel is followed that is all that is absent, and
    /// nobody has to be believed; where only part is, only the sender knows which of them it left out for that.
    fn lacking(&self, feed: &FeedId, absent: u16, claimed: u16) -> u16 {
        match self.wanted.of(feed) {
            Some(filter) if !filter.is_open() => claimed.min(absent),
            _ => absent,
        }
    }

    /// Reports that came after some of their indicators.
    fn note_reports(&mut self, admitted: &Admitted, feed: &FeedId, seq: u64) {
        let waiting = self.writer.feed(feed).is_some_and(|state| state.counts.waiting > 0);
        let is_report = |outcome: &Outcome| matches!(outcome, Outcome::Judged(one) if one.record.kind() == Kind::Report);
        let reports = (0u16..).zip(admitted.outcomes()).filter(|(_, outcome)| waiting && is_report(outcome));
        self.late_reports.extend(reports.map(|(index, _)| RecordRef { feed: feed.clone(), seq, index }));
    }

    /// Judges what waited for a report that has come. After a commit.
    pub fn judge_waiting(&mut self) -> Result<(), DoorError> {
        for report in std::mem::take(&mut self.late_reports) {
            let places = self.ledger().waiting_for(&report, WAITING_MAX)?;
            let records = self.names(&places)?;
            self.rejudge(&records, As::Then, None)?;
        }
        Ok(self.writer.commit()?)
    }

    /// Sets aside what a member's card says does not count, and lets count what it says does.
    fn settle(&mut self, member: &MemberId, events: &mut Vec<Event>) -> Result<(), DoorError> {
        self.writer.commit()?;
        let (now, roster, ledger) = (self.clock.now(), Arc::clone(&self.current.get().roster), self.ledger());
        for (feed, state) in ledger.feeds().into_iter().filter(|(feed, _)| feed.member == *member) {
            let key_at = |seq| -> Result<Option<KeyId>, DoorError> {
                let Some(batch) = ledger.batch_at(&feed, seq)? else { return Ok(None) };
                Ok(SignedHead::open(&batch.entry.head, &roster.federation()).ok().map(|head| head.key()))
            };
            let step = match roster.pin(&feed) {
                Some(pin) if state.last() < pin.seq => (state.aside != Some(Aside::AwaitsPin)).then_some(QuarantineStep::Await),
                Some(pin) if ledger.head_at(&feed, pin.seq) != Some(pin.head) => Some(QuarantineStep::Detach { from: state.first() }),
                Some(pin) if state.last() > pin.seq && key_at(pin.seq + 1)? == Some(pin.key) => {
                    Some(QuarantineStep::Detach { from: pin.seq + 1 })
                }
                Some(_) => state.aside.map(|_| QuarantineStep::Clear),
                None if key_at(state.last())?.is_some_and(|key| roster.pinned_key(member, key)) => {
                    Some(QuarantineStep::Detach { from: state.first() })
                }
                None => None,
            };
            let Some(step) = step else { continue };
            tracing::warn!(%feed, ?step, "a card changed what counts of a feed");
            self.writer.quarantine(&feed, step, now, None)?;
            if matches!(step, QuarantineStep::Detach { .. }) {
                events.push(Event::Detached { feed });
            }
        }
        Ok(self.writer.commit()?)
    }

    /// Carries out what ended agreements say: what was shared under one that purges stops counting at once, and is rewritten
    /// out when its days are over; one that was extended in time lets it count again. Asked every few seconds, and after a
    /// restore by itself, because everything follows from charter and time.
    pub fn execute_agreements(&mut self) -> Result<(), DoorError> {
        let (moment, roster) = (self.clock.moment(), Arc::clone(&self.current.get().roster));
        let now = moment.best;
        let uncertain = moment.doubted || roster.freshness(moment.latest) != Freshness::Current;
        if std::mem::replace(&mut self.uncertain, uncertain) && !uncertain {
            self.rejudging.get_or_insert(Place { batch: 0, index: 0 });
            if let Some(enforcer) = &self.enforcer {
                enforcer.look_at_everything();
            }
        }
        for (feed, state) in self.ledger().feeds() {
            match (roster.to_purge(&feed.member, &self.identity.member, now), state.aside) {
                (None, Some(Aside::Purged)) => {
                    tracing::info!(%feed, "an agreement was extended; what was set aside counts again");
                    self.writer.quarantine(&feed, QuarantineStep::Clear, now, None)?;
                }
                (Some(agreement), None) => {
                    tracing::warn!(%feed, agreement = agreement.id, "an agreement has ended and says that its records are purged");
                    self.writer.quarantine(&feed, QuarantineStep::Purge, now, None)?;
                }
                (Some(agreement), Some(aside))
                    if aside != Aside::Erased
                        && moment.may_destroy
                        && agreement.erase_from().is_some_and(|from| from <= moment.earliest) =>
                {
                    tracing::warn!(%feed, agreement = agreement.id, "purged records are erased");
                    self.writer.erase_feed(&feed, &format!("agreement `{}` has ended", agreement.id), now)?;
                    self.writer.begin_compaction()?;
                }
                _ => (),
            }
        }
        if !moment.doubted {
            self.expire_held()?;
        }
        Ok(self.writer.commit()?)
    }

    /// Two branches of a feed that has not reached its pin: neither is proved, and ours is fetched again.
    pub fn other_branch(&mut self, feed: &FeedId, events: &mut Vec<Event>) -> Result<(), DoorError> {
        let (Some(state), Some(seq)) = (self.writer.feed(feed), self.current.get().roster.pin(feed).map(|pin| pin.seq)) else {
            return Ok(());
        };
        if state.last() < seq {
            self.writer.quarantine(feed, QuarantineStep::Detach { from: state.first() }, self.clock.now(), None)?;
            self.writer.commit()?;
            events.push(Event::Detached { feed: feed.clone() });
        }
        Ok(())
    }

    /// After a card of our own: the key that it now names is used, and one that waited beside the old one takes its place.
    fn take_up_keys(&mut self) -> Result<(), DoorError> {
        let roster = Arc::clone(&self.current.get().roster);
        let Some(card) = roster.card(&self.identity.member) else { return Ok(()) };
        let in_force = |key: &PublicKey| card.publishing.iter().any(|one| one.key == *key && one.until.is_none());
        if self.keys.promote(Purpose::Publishing, in_force)? {
            self.publishing = Some(Arc::new(self.keys.read(Purpose::Publishing)?));
            tracing::info!("the new publishing key is in use");
        }
        Ok(())
    }

    /// Signs records and takes them in like anybody else's. Durable after [`Self::commit`].
    pub fn publish(&mut self, publication: Publication, events: &mut Vec<Event>) -> Result<Published, DoorError> {
        let Publication { channel, tlp, class, report, records } = publication;
        self.publish_as(&channel, tlp, class, report, records, events)
    }

    fn publish_as(
        &mut self,
        channel: &ChannelName,
        tlp: Tlp,
        class: Class,
        report: ReportOf,
        records: Vec<Record>,
        events: &mut Vec<Event>,
    ) -> Result<Published, DoorError> {
        let intake = self.current.get();
        if let Some(text) = self.current.room().low().filter(|_| class == Class::Content) {
            return Err(DoorError::NoRoom(text));
        }
        let identity = Arc::clone(&self.identity);
        let key = Arc::clone(self.publishing.as_ref().ok_or(DoorError::NoKey)?);
        let from = own_key(&intake, &identity.member, &key.public(), self.clock.now())?;
        let doubt = self.clock.doubt();
        if let Some(doubt) = doubt.as_ref().filter(|_| class == Class::Content) {
            return Err(DoorError::Clock(doubt.clone()));
        }
        // Others take a removal of yesterday, and none of tomorrow.
        let now = if doubt.is_some() { self.clock.moment().earliest } else { self.clock.now() };
        if shared_channel(&intake, &identity.member, channel)? {
            if let Some(waiting) = self.own.waiting() {
                return Err(DoorError::Waiting(waiting));
            }
            self.keys.note_used()?;
        }
        let feed = own_feed(&intake, &identity.member, channel, identity.lane)?;
        let audience = own_audience(&intake, &identity.member, channel)?;
        if !audience.permits(tlp) {
            return Err(DoorError::Marking { tlp, channel: channel.clone(), audience: audience.name() });
        }
        self.names_nothing_above(tlp, &report, &records)?;
        let state = self.writer.position(&feed);
        let federation = intake.roster.federation();
        let lane = Lane { feed, audience, tlp, class, last: state, floor_seq: 1, key: key.as_ref(), federation };
        let publisher = Publisher::new(lane, now.max(from), random);
        let mut done = Published::default();
        // The next batch is sealed while the one before it passes the door.
        let places = std::thread::scope(|scope| {
            let (sealed, waiting) = mpsc::sync_channel(SEALED_MAX);
            let sealing = scope.spawn(move || seal(publisher, report, records, |batch| sealed.send(batch).is_ok()));
            for (head, read) in waiting {
                self.take_own(&head, read, &intake, &mut done, events)?;
            }
            sealing.join().map_err(|_| DoorError::Stopping)?
        })?;
        let Places { report, reports, first, last } = places;
        Ok(Published { report, reports, first, last, ..done })
    }

    /// Refuses a publication that names a record which is marked above it.
    fn names_nothing_above(&self, tlp: Tlp, report: &ReportOf, records: &[Record]) -> Result<(), DoorError> {
        let new_report = if let ReportOf::New(one) = report { Some(Record::Report((**one).clone())) } else { None };
        let all = || new_report.iter().chain(records);
        let mut names = BTreeSet::new();
        for record in all() {
            names.extend(record.whole_references().cloned());
            record.any_text(|text| {
                names.extend(names_in(text));
                false
            });
        }
        match self.ledger().above(&names.into_iter().collect::<Vec<_>>(), tlp)? {
            Some((name, marking)) => Err(DoorError::Names { name, marking, tlp }),
            None => Ok(()),
        }
    }

    /// One door: our own batch is proved, placed and judged as a stranger's would be.
    fn take_own(
        &mut self,
        head: &[u8],
        read: ReadBatch,
        intake: &Intake,
        done: &mut Published,
        events: &mut Vec<Event>,
    ) -> Result<(), DoorError> {
        let now = self.clock.now();
        let head = match intake.place(head, self.clock.moment(), &self.writer)? {
            Placed::Next(head) => head,
            _ => {
                return Err(Refusal::new(Blame::Ignore, "own-order", "our own lane is not where we thought").into());
            }
        };
        let (feed, seq, bytes) = (head.head().feed(), head.head().seq, head.bytes().to_vec());
        let admitted = intake.admit(read, self.clock.moment(), &self.writer, false)?;
        self.writer.keep(&admitted, now, &Brought::default())?;
        for outcome in admitted.outcomes() {
            match outcome {
                crate::intake::Outcome::Judged(one) => match one.judgement.verdict {
                    crate::policy::Verdict::Accept => done.counts.accepted += 1,
                    crate::policy::Verdict::Hold => done.counts.held += 1,
                    crate::policy::Verdict::Refuse => done.counts.refused += 1,
                },
                crate::intake::Outcome::Bad(why) => {
                    let refusal = Refusal::new(Blame::Reject, "own-record", why.clone());
                    return Err(refusal.into());
                }
                _ => done.counts.waiting += 1,
            }
        }
        done.batches += 1;
        events.push(Event::Kept { feed, seq, head: bytes, from: None });
        Ok(())
    }

    /// Takes back records of our own, each in the channel that it was published in.
    pub fn withdraw(&mut self, take_back: TakeBack, events: &mut Vec<Event>) -> Result<Published, DoorError> {
        if take_back.targets.len() > WITHDRAW_MAX {
            return Err(DoorError::Many);
        }
        let ledger = self.ledger();
        let mut by_channel: BTreeMap<(ChannelName, Tlp), Vec<RecordRef>> = BTreeMap::new();
        for target in take_back.targets {
            if target.feed.member != self.identity.member {
                return Err(DoorError::NotOurs(target));
            }
            let batch = ledger.batch_at(&target.feed, target.seq)?.filter(|batch| target.index < batch.places());
            let batch = batch.ok_or_else(|| DoorError::NoSuchRecord(target.clone()))?;
            by_channel.entry((target.feed.channel.clone(), batch.head.tlp)).or_default().push(target);
        }
        let mut done = Published::default();
        for ((channel, tlp), targets) in by_channel {
            let feed = own_feed(&self.current.get(), &self.identity.member, &channel, self.identity.lane)?;
            for some in targets.chunks(crate::record::LIST_MAX) {
                // References are shortest within their batch; a withdrawal stands in one of its own, behind all targets.
                let seq = self.writer.position(&feed).map_or(1, |(last, _)| last + 1);
                let record = Record::Withdrawal(Withdrawal {
                    kind: Kind::Withdrawal,
                    description: take_back.note.clone(),
                    targets: some.iter().map(|target| WireRef::shortest(target, &feed, seq)).collect(),
                    reason: take_back.reason,
                });
                let part = self.publish_as(&channel, tlp, Class::Removal, ReportOf::None, vec![record], events)?;
                done.batches += part.batches;
                done.first = done.first.or(part.first);
                done.last = part.last;
                done.counts.add(&part.counts);
            }
        }
        Ok(done)
    }

    /// Takes a charter, stamp or card: proved, stored, then used. Answers whether it changed anything.
    pub fn take_document(&mut self, document: u64, bytes: &[u8], events: &mut Vec<Event>) -> Result<bool, DoorError> {
        let held = Arc::clone(&self.current.get().roster);
        match document {
            document::PROOF => return self.take_proof(&held, bytes),
            _ if held.holds(bytes) => return Ok(false),
            _ => (),
        }
        refuse_old(&held, document, bytes)?;
        let mut roster = (*held).clone();
        let latest = self.clock.moment().latest;
        match document {
            document::CHARTER => self.charter(&mut roster, bytes)?,
            document::STAMP if !roster.take_stamp_by(bytes, latest)? => return Ok(false),
            document::STAMP => {
                let date = roster.stamp().map(|stamp| stamp.stamp().time);
                self.not_ahead(date, || "a stamp over the charter".to_owned())?;
                self.writer.keep_stamp(bytes)?;
            }
            document::CARD => {
                let card = roster.take_card(bytes)?.clone();
                self.not_ahead(Some(card.issued), || format!("card {} of {}", card.serial, card.member))?;
                self.check_own_pins(&card)?;
                self.writer.keep_card(&card, bytes)?;
                self.writer.commit()?;
                self.put_in_force(roster);
                self.settle(&card.member, events)?;
                if card.member == self.identity.member {
                    self.take_up_keys()?;
                }
                return Ok(true);
            }
            _ => return Ok(false),
        }
        self.writer.commit()?;
        match document {
            // A stamp says that nothing has changed.
            document::STAMP => self.current.set_roster(roster),
            _ => self.put_in_force(roster),
        }
        Ok(true)
    }

    /// Refuses a document whose date is in the future, and says so in `status`.
    fn not_ahead(&self, date: Option<Timestamp>, what: impl FnOnce() -> String) -> Result<(), DoorError> {
        let Some(date) = date.filter(|date| is_ahead(*date, self.clock.moment().latest)) else { return Ok(()) };
        let what = what();
        self.current.note_ahead(what.clone(), date);
        Err(DoorError::Ahead { what, date })
    }

    /// A card of ours that retires our own key in good order must pin what that key wrote last; between its making and now
    /// something more may have been published. A stolen key (pinned, and another epoch opened) is another matter.
    fn check_own_pins(&self, card: &Card) -> Result<(), DoorError> {
        let Some(key) = self.publishing.as_ref().map(|key| key.public().id()).filter(|_| card.member == self.identity.member) else {
            return Ok(());
        };
        for pin in card.pins.iter().filter(|pin| pin.key == key) {
            let feed = FeedId { member: card.member.clone(), channel: pin.channel.clone(), lane: pin.lane, epoch: pin.epoch };
            let reopened = card.epochs.iter().any(|one| one.channel == pin.channel && one.lane == pin.lane && one.epoch > pin.epoch);
            if let Some((last, id)) = self.writer.position(&feed).filter(|_| !reopened)
                && (last, id) != (pin.seq, pin.head)
            {
                return Err(DoorError::StalePin { feed, last });
            }
        }
        Ok(())
    }

    fn charter(&mut self, roster: &mut Roster, bytes: &[u8]) -> Result<(), DoorError> {
        let rival = roster.rival().cloned();
        let taken = roster.take_charter_unless(bytes, |holding| self.has_used(holding))?;
        let newest = if taken == CharterTaken::Rival { roster.rival() } else { Some(roster.charter()) };
        let issued = newest.map(|newest| newest.charter().issued);
        self.not_ahead(issued, || format!("version {} of the charter", newest.map_or(0, |newest| newest.charter().version)))?;
        if taken == CharterTaken::Rival {
            tracing::error!("{}", RIVAL_ALARM);
            return Ok(self.writer.keep_rival(bytes)?);
        }
        let charter = roster.charter().charter();
        // The next version chose the one that we did not hold: it takes its place in the chain.
        if let Some(chosen) = rival.filter(|rival| charter.prev == Some(rival.hash())) {
            self.writer.keep_charter(charter.version - 1, chosen.bytes())?;
        }
        Ok(self.writer.keep_charter(charter.version, bytes)?)
    }

    /// Returns true if the holder of a key has used it as far as this node has seen: connected with it, signed its addresses or a batch.
    fn has_used(&self, holding: &KeyHolding) -> bool {
        let key = holding.key.to_bytes();
        let is_ours = holding.member.as_ref() == Some(&self.identity.member);
        let writes = |(feed, _): &(FeedId, FeedState)| {
            let newest = Some(&feed.member) == holding.member.as_ref();
            newest && self.ledger().newest_key(feed).is_ok_and(|id| id == Some(holding.key.id()))
        };
        is_ours || self.current.has_connected(&key) || self.ledger().feeds().iter().any(writes)
    }

    /// Keeps the proof that `head` makes with the one that we hold for its place, and quarantines the feed.
    fn fork(&mut self, head: &ProvedHead) -> Result<Option<Vec<u8>>, DoorError> {
        let (feed, seq) = (head.head().feed(), head.head().seq);
        let intake = self.current.get();
        if self.is_told(&intake.roster, &feed)? {
            return Ok(None);
        }
        let Some(held) = self.ledger().batch_at(&feed, seq)? else { return Ok(None) };
        let ours = intake.prove(&held.entry.head, self.clock.now())?;
        let Some(proof) = crate::charter::equivocation(&ours, head) else { return Ok(None) };
        let bytes = crate::cbor::to_vec(&proof);
        self.writer.keep_proof(&feed, &bytes)?;
        Ok(Some(bytes))
    }

    /// Takes a proof that somebody else made: checked like our own, then kept, and the feed quarantined. One that a card has
    /// settled since, or that says nothing new, is not taken.
    fn take_proof(&mut self, roster: &Roster, bytes: &[u8]) -> Result<bool, DoorError> {
        let refused = |text: String| Refusal::new(Blame::Reject, "no-proof", text);
        // Every neighbour sends it, and two signatures are verified only for what is news.
        if let Some([claimed, _]) = crate::charter::equivocation_heads(bytes)
            && self.is_told(roster, &claimed.feed())?
        {
            return Ok(false);
        }
        let (feed, seq) = roster.equivocation(bytes).map_err(refused)?;
        if roster.pin(&feed).is_some_and(|pin| seq <= pin.seq) {
            return Ok(false);
        }
        tracing::error!(%feed, seq, "a feed's author signed two heads for one place; the feed is quarantined");
        self.writer.keep_proof(&feed, bytes)?;
        self.writer.commit()?;
        Ok(true)
    }

    /// Whether a proof about this feed is here that no card has settled: one is enough, also after operators have let the feed
    /// count again.
    fn is_told(&self, roster: &Roster, feed: &FeedId) -> Result<bool, DoorError> {
        Ok(self.writer.quarantined(feed) || self.ledger().has_proof(feed, roster.pin(feed).map_or(0, |pin| pin.seq))?)
    }

    /// Erases records, in word; their bytes go with a compaction.
    pub fn erase(&mut self, entry: &ErasureEntry) -> Result<Erased, DoorError> {
        Ok(self.writer.erase(entry)?)
    }

    /// Decides here what a person decided at another node of ours. Answers `false` if it is about records that are not here yet.
    pub fn adopt(&mut self, entry: Entry, events: &mut Vec<Event>) -> Result<bool, DoorError> {
        match entry {
            Entry::Judged(entry) => {
                let mut news = Vec::new();
                for place in &entry.places {
                    let record = place.record.parse::<RecordRef>().map_err(|_| DoorError::NoDecision)?;
                    entry.table.get(usize::from(place.line)).ok_or(DoorError::NoDecision)?;
                    let Some(batch) = self.ledger().batch_at(&record.feed, record.seq)? else { return Ok(false) };
                    // What was decided later stands.
                    if batch.later.get(&record.index).and_then(|later| later.last()).is_none_or(|last| last.at < entry.at) {
                        news.push(place.clone());
                    }
                }
                if !news.is_empty() {
                    self.writer.keep_judged(JudgedEntry { places: news, ..entry })?;
                }
            }
            // Two people force, with their keys, at each node.
            Entry::Order(OrderEntry { order: Order::Force { .. }, .. }) => return Err(DoorError::NoDecision),
            Entry::Order(entry) => self.writer.keep_order(entry)?,
            Entry::Share(entry) => self.writer.keep_shares(entry)?,
            Entry::Review(entry) => self.writer.keep_review(entry)?,
            Entry::Decision(entry) => self.writer.keep_decision(entry)?,
            Entry::Follow(entry) => {
                self.writer.keep_follow(entry.clone())?;
                self.follow(super::wanted_of(entry));
                events.push(Event::Followed);
            }
            // Where the other one's decisions stand is nothing here.
            Entry::Erasure(entry) if entry.places.iter().any(|places| places.feed.parse::<FeedId>().is_err()) => {
                return Err(DoorError::NoDecision);
            }
            Entry::Erasure(entry) => {
                self.writer.erase(&ErasureEntry { decisions: Vec::new(), ..entry })?;
                self.writer.begin_compaction()?;
            }
            _ => (),
        }
        Ok(true)
    }

    /// Takes a step in a feed's quarantine.
    pub fn quarantine(&mut self, feed: &FeedId, step: QuarantineStep) -> Result<(), DoorError> {
        Ok(self.writer.quarantine(feed, step, self.clock.now(), None)?)
    }

    /// Makes everything taken in durable.
    pub fn commit(&mut self) -> Result<(), DoorError> {
        Ok(self.writer.commit()?)
    }

    /// Goes on making what is committed findable, in the background: tells of the run that is written, begins the next.
    fn index_ahead(&mut self) -> Result<(), DoorError> {
        if self.writer.is_indexing() {
            return Ok(());
        }
        // The run before is written, or none was begun.
        if let (Some(run), Some(enforcer)) = (self.indexing.take(), &self.enforcer) {
            enforcer.touch(run.touched);
            enforcer.told(run.batches);
            if run.caught_up {
                enforcer.caught_up();
            }
        }
        self.writer.begin_index()?;
        let (touched, caught_up) = (std::mem::take(&mut self.touched), std::mem::take(&mut self.caught_up));
        self.indexing = Some(Indexing { touched, batches: self.ledger().batches(), caught_up });
        Ok(())
    }

    /// Puts what a compaction has written in its place, and tells who waits for it. One that had no room leaves everything as it was.
    pub fn end_compaction(&mut self) {
        let done = self.writer.end_compaction();
        match &done {
            Ok(Compacted { segments, before, after, .. }) => tracing::info!(segments, before, after, "the journal is compacted"),
            Err(error) => tracing::error!(%error, "the journal could not be compacted; what was erased is dead, its bytes are still there"),
        }
        let mut waiting = std::mem::take(&mut self.compacting);
        let has_more = done.as_ref().is_ok_and(|done| done.batches > 0) && self.ledger().pending_erasures().is_ok_and(|left| left > 0);
        if has_more {
            self.compacting_next.append(&mut waiting);
        }
        for reply in waiting {
            let outcome = done.as_ref().map(|done| *done).map_err(|error| DoorError::Compaction(error.to_string()));
            let _asker_gone = reply.send(outcome);
        }
        let asking = std::mem::take(&mut self.compacting_next);
        if !asking.is_empty() {
            self.compact(asking);
        }
    }

    /// Begins a compaction for whoever asks; while one runs, they wait for the next.
    fn compact(&mut self, asking: Vec<Reply<Compacted>>) {
        if self.writer.is_compacting() {
            return self.compacting_next.extend(asking);
        }
        match self.writer.begin_compaction() {
            Ok(true) => self.compacting = asking,
            other => {
                let outcome = other.map(|_| Compacted::default()).map_err(|error| error.to_string());
                for reply in asking {
                    let _asker_gone = reply.send(outcome.clone().map_err(DoorError::Compaction));
                }
            }
        }
    }

    /// Makes everything committed findable.
    pub fn write_index(&mut self) -> Result<(), DoorError> {
        self.writer.write_index()?;
        if let Some(run) = self.indexing.take() {
            self.touched.add(run.touched);
            self.caught_up |= run.caught_up;
        }
        self.tell(true);
        self.untold = false;
        if std::mem::take(&mut self.caught_up)
            && let Some(enforcer) = &self.enforcer
        {
            enforcer.caught_up();
        }
        Ok(())
    }

    /// Leaves the ledger in order.
    pub fn close(self) -> Result<(), LedgerError> {
        self.writer.close()
    }
}

/// Where records of a publication stand.
#[derive(Default)]
struct Places {
    report: Option<RecordRef>,
    reports: Vec<RecordRef>,
    first: Option<RecordRef>,
    last: Option<RecordRef>,
}

/// Makes records into signed batches and opens each as a stranger's is opened; `send` takes them until it says that nobody wants more.
fn seal(
    mut publisher: Publisher<'_>,
    report: ReportOf,
    records: Vec<Record>,
    mut send: impl FnMut((Vec<u8>, ReadBatch)) -> bool,
) -> Result<Places, DoorError> {
    let mut opened = |draft: Option<Draft>| -> Result<bool, DoorError> {
        let Some(Draft { head, body }) = draft else { return Ok(true) };
        Ok(send((head.bytes().to_vec(), ReadBatch::open(head, body)?)))
    };
    let mut places = Places::default();
    match report {
        ReportOf::New(report) => {
            let (place, full) = publisher.push(Record::Report(*report), None)?;
            opened(full)?;
            places.report = Some(place);
        }
        ReportOf::Known(place) => places.report = Some(place),
        ReportOf::None => (),
    }
    for record in records {
        let is_report = matches!(record, Record::Report(_));
        let (place, full) = publisher.push(record, places.report.as_ref())?;
        if !opened(full)? {
            return Ok(places);
        }
        places.reports.extend(is_report.then(|| place.clone()));
        places.first.get_or_insert_with(|| place.clone());
        places.last = Some(place);
    }
    opened(publisher.finish()?)?;
    Ok(places)
}

/// Refuses what says itself that it is old, before any signature is verified and the roster is copied.
fn refuse_old(held: &Roster, document: u64, bytes: &[u8]) -> Result<(), DoorError> {
    match document {
        document::CHARTER => {
            let (ours, found) = (held.charter().charter().version, charter_version(bytes));
            // A second charter with our version number proves a fork.
            match found.filter(|found| *found < ours) {
                Some(found) => Err(CharterError::Old { ours, found }.into()),
                None => Ok(()),
            }
        }
        document::CARD => {
            let Some(card) = card_of(bytes) else { return Ok(()) };
            match held.card(&card.member).map(|ours| ours.serial).filter(|ours| *ours >= card.serial) {
                Some(ours) => Err(CardError::Old { member: card.member, ours, found: card.serial }.into()),
                None => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// Places of which nothing is here.
fn absent_of(slots: &[Slot]) -> u16 {
    u16::try_from(slots.iter().filter(|slot| **slot == Slot::Absent).count()).unwrap_or(u16::MAX)
}

/// What a quota counts of a batch; removals count nothing.
struct Counted {
    member: MemberId,
    records: u64,
    dated: Timestamp,
}

impl Counted {
    fn of(head: &ProvedHead) -> Self {
        let head = head.head();
        let records = if head.class == Class::Content { u64::from(head.count) } else { 0 };
        Self { member: head.member.clone(), records, dated: head.time }
    }
}

/// Whether a channel of ours has readers other than ourselves.
pub fn shared_channel(intake: &Intake, member: &MemberId, channel: &ChannelName) -> Result<bool, DoorError> {
    let alone = crate::envelope::Readers::Named(vec![member.clone()]);
    Ok(own_audience(intake, member, channel)?.readers != alone)
}

/// From when our publishing key is in force, if our card says that it is.
fn own_key(intake: &Intake, member: &MemberId, key: &PublicKey, now: Timestamp) -> Result<Timestamp, DoorError> {
    let card = intake.roster.card(member).ok_or_else(|| DoorError::NoCard(member.clone()))?;
    let ours = card.publishing.iter().find(|one| one.key == *key && one.until.is_none_or(|until| now < until));
    ours.map(|one| one.from).ok_or_else(|| DoorError::KeyNotOnCard(key.id()))
}

/// The feed that a channel of ours writes now: its newest epoch that our card opened.
fn own_feed(intake: &Intake, member: &MemberId, channel: &ChannelName, lane: u32) -> Result<FeedId, DoorError> {
    let card = intake.roster.card(member).ok_or_else(|| DoorError::NoCard(member.clone()))?;
    let opened = card.epochs.iter().filter(|one| one.channel == *channel && one.lane == lane).map(|one| one.epoch);
    Ok(FeedId { member: member.clone(), channel: channel.clone(), lane, epoch: opened.max().unwrap_or(1) })
}

/// The audience that our card gives a channel, with a circle's generation as it is now.
pub fn own_audience(intake: &Intake, member: &MemberId, channel: &ChannelName) -> Result<Audience, DoorError> {
    let card = intake.roster.card(member).ok_or_else(|| DoorError::NoCard(member.clone()))?;
    let names = || card.channels.iter().map(|one| one.name.as_str());
    let found = card.channels.iter().find(|one| one.name == *channel);
    let found = found.ok_or_else(|| UnknownName::new("channel of ours", channel.as_str(), names()))?;
    Ok(intake.roster.audience_now(&found.audience))
}

/// Whom a channel reaches at a marking: each other member, or why not. Nothing is signed for this.
pub fn reach(
    intake: &Intake,
    member: &MemberId,
    channel: &ChannelName,
    tlp: Tlp,
    now: crate::record::Timestamp,
) -> Result<Vec<(MemberId, Option<String>)>, DoorError> {
    let audience = own_audience(intake, member, channel)?;
    let head = Head {
        format: crate::envelope::HEAD_FORMAT,
        member: member.clone(),
        channel: channel.clone(),
        lane: 0,
        epoch: 1,
        audience,
        seq: 1,
        prev: None,
        floor_seq: 1,
        time: now,
        tlp,
        class: Class::Content,
        count: 1,
        body_length: 1,
        root: Hash([0; 32]),
    };
    let others = intake.roster.charter().charter().members.iter().filter(|other| other.id != *member);
    let verdict = |id: &MemberId| may_send(&intake.roster, &head, id, now, Way::Published).err().map(|why| why.to_string());
    Ok(others.map(|other| (other.id.clone(), verdict(&other.id))).collect())
}

/// Asks the door for something and waits for its answer, which comes when it is durable.
pub async fn ask<T: Send + 'static>(door: &Sender, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, DoorError> {
    let (reply, answer) = oneshot::channel();
    match door.try_send(request(reply)) {
        Ok(()) => (),
        Err(NotSent::Closed) => return Err(DoorError::Stopping),
        // The runtime's threads must not wait for a full queue.
        Err(NotSent::Full(request)) => {
            let door = door.clone();
            let sent = tokio::task::spawn_blocking(move || door.send(*request).is_ok()).await;
            if !sent.unwrap_or(false) {
                return Err(DoorError::Stopping);
            }
        }
    }
    answer.await.map_err(|_| DoorError::Stopping)?
}

/// Members that may read a channel at its lowest marking and not at `tlp`: from the channel's numbers they can tell that something was
/// published that they may not read.
pub fn see_gap(intake: &Intake, member: &MemberId, channel: &ChannelName, tlp: Tlp, now: Timestamp) -> Result<Vec<MemberId>, DoorError> {
    let reached = |tlp| -> Result<BTreeSet<MemberId>, DoorError> {
        let all = reach(intake, member, channel, tlp, now)?;
        Ok(all.into_iter().filter(|(_, why_not)| why_not.is_none()).map(|(id, _)| id).collect())
    };
    Ok(reached(Tlp::Clear)?.difference(&reached(tlp)?).cloned().collect())
}

/// Runs the door until it is told to stop or the journal fails.
pub fn run(mut door: Door, requests: Queue, events: tokio::sync::mpsc::Sender<Event>) {
    let (mut indexed_at, mut looked_at) = (Instant::now(), Instant::now());
    loop {
        let pending = door.untold || door.rejudging.is_some() || !door.renewing.is_empty();
        let wait = match (pending, door.writer.is_compacting()) {
            (true, _) => INDEX_IDLE,
            (false, true) => COMPACTION_POLL,
            (false, false) => NOTHING_PENDING,
        };
        let first = match requests.next(wait) {
            Ok(request) => Some(request),
            Err(mpsc::RecvTimeoutError::Timeout) => None,
            Err(mpsc::RecvTimeoutError::Disconnected) => return close(door, None),
        };
        // After the wait, because the request that has just come may need the space.
        if looked_at.elapsed() >= ROOM_POLL {
            door.current.room().look();
            looked_at = Instant::now();
        }
        let idle = first.is_none();
        door.untold |= !idle;
        let group = first.into_iter().flat_map(|first| requests.with(first));
        let mut out = Vec::new();
        let mut replies: Vec<Box<dyn FnOnce()>> = Vec::new();
        let mut stop = None;
        for request in group {
            if let Request::Stop(reply) = request {
                stop = Some(reply);
                break;
            }
            take(&mut door, request, &mut out, &mut replies);
        }
        if let Err(error) = door.commit().and_then(|()| if door.late_reports.is_empty() { Ok(()) } else { door.judge_waiting() }) {
            tracing::error!(%error, "the journal failed; the node stops");
            let _receiver_gone = events.blocking_send(Event::Fatal(error.to_string()));
            return;
        }
        door.tell(false);
        replies.into_iter().for_each(|reply| reply());
        for event in out {
            let _receiver_gone = events.blocking_send(event);
        }
        if stop.is_some() {
            return close(door, stop);
        }
        if let Err(error) = door.carry_out_renewals() {
            tracing::error!(%error, "what was renewed could not be carried out; the next start goes on with it");
            door.renewing = verdicts::Renewing::default();
        }
        if door.writer.is_compacted() {
            door.end_compaction();
        }
        if idle && let Err(error) = door.rejudge_held() {
            tracing::error!(%error, "what is held could not be judged again");
            door.rejudging = None;
        }
        if idle || indexed_at.elapsed() >= INDEX_DELAY {
            if let Err(error) = if idle { door.write_index() } else { door.index_ahead() } {
                let _receiver_gone = events.blocking_send(Event::Fatal(error.to_string()));
                return;
            }
            indexed_at = Instant::now();
        }
    }
}

fn close(mut door: Door, reply: Option<oneshot::Sender<Result<(), LedgerError>>>) {
    // Whoever comes next mostly asks about what has just been renewed.
    for _go in 0..RENEWALS_AT_CLOSE {
        match door.carry_out_renewals() {
            Ok(true) => (),
            Ok(false) => break,
            Err(error) => {
                tracing::warn!(%error, "what was renewed is not carried out yet; the next start goes on with it");
                break;
            }
        }
    }
    let closed = door.close();
    if let (Err(error), None) = (&closed, &reply) {
        tracing::error!(%error, "the ledger was not closed in order; it is replayed at the next start");
    }
    let _asker_gone = reply.map(|reply| reply.send(closed));
}

/// The code of a refused document, and whether its sender is to blame: an honest node never holds a document with a bad signature, but it may
/// have another charter, or another version of huecry.
fn fault_of(error: &DoorError) -> (&'static str, bool) {
    let cose = |error: &CoseError| match error {
        CoseError::Signature(_) => ("forged-document", true),
        CoseError::Cbor(_) | CoseError::Structure(_) => ("bad-document", true),
        CoseError::Signer(_) | CoseError::OtherKey { .. } => ("other-key", false),
    };
    match error {
        DoorError::Charter(CharterError::Cose(error)) | DoorError::Card(CardError::Cose(error)) => cose(error),
        DoorError::Charter(CharterError::Threshold { .. }) => ("unsigned-charter", true),
        DoorError::Charter(CharterError::Old { .. }) | DoorError::Card(CardError::Old { .. }) => ("old-document", false),
        DoorError::Charter(CharterError::Key(_)) | DoorError::Card(CardError::Claim { .. }) => ("key-conflict", false),
        DoorError::Ahead { .. } => ("future-document", false),
        DoorError::Charter(_) => ("charter", false),
        DoorError::Card(_) => ("card", false),
        DoorError::Refused(refusal) => (refusal.code, refusal.blame == Blame::Reject),
        _ => ("document", false),
    }
}

fn take(door: &mut Door, request: Request, out: &mut Vec<Event>, replies: &mut Vec<Box<dyn FnOnce()>>) {
    match request {
        Request::Batch(arrived) => {
            let (feed, seq, from) = (arrived.head.head().feed(), arrived.head.head().seq, arrived.served.from);
            let bytes = arrived.head.bytes().to_vec();
            out.push(match door.batch(*arrived) {
                Ok(()) => Event::Kept { feed, seq, head: bytes, from: Some(from) },
                Err(DoorError::Refused(refusal)) => Event::Refused { feed, seq, from, refusal },
                Err(error) => Event::Fatal(error.to_string()),
            });
        }
        Request::Import(arrived, reply) => {
            let done = door.import(*arrived, out);
            replies.push(Box::new(move || drop(reply.send(done))));
        }
        Request::Fill { feed, seq, served } => {
            let from = served.from;
            match door.fill(&feed, seq, *served) {
                Ok(true) => out.push(Event::Filled { feed, seq, from }),
                Ok(false) => (),
                Err(DoorError::Refused(refusal)) => out.push(Event::Refused { feed, seq, from, refusal }),
                Err(error) => out.push(Event::Fatal(error.to_string())),
            }
        }
        Request::Fork { head } => match door.fork(&head) {
            Ok(Some(bytes)) => out.push(Event::Document { document: document::PROOF, bytes }),
            Ok(None) => (),
            Err(error) => tracing::warn!(%error, "a second head for one place could not be proved"),
        },
        Request::Document { document, bytes, from, reply } => {
            let taken = door.take_document(document, &bytes, out);
            if let Some(from) = from {
                out.push(Event::DocumentJudged { from, refused: taken.as_ref().err().map(fault_of) });
            }
            match &taken {
                Ok(true) => out.push(Event::Document { document, bytes }),
                Ok(false) => (),
                // Old news is what most of these are.
                Err(error) => tracing::debug!(%error, document, "a document was not taken"),
            }
            if let Some(reply) = reply {
                replies.push(Box::new(move || drop(reply.send(taken.map(|_| ())))));
            }
        }
        Request::OtherBranch { feed } => {
            if let Err(error) = door.other_branch(&feed, out) {
                tracing::warn!(%error, %feed, "another branch of a feed could not be looked into");
            }
        }
        Request::Decision { by, what, reply } => {
            let done = door.writer.keep_decision(DecisionEntry { at: door.clock.now(), by, what }).map_err(DoorError::from);
            replies.push(Box::new(move || drop(reply.send(done))));
        }
        Request::Agreements => {
            if let Err(error) = door.execute_agreements() {
                tracing::error!(%error, "an ended agreement could not be carried out");
            }
        }
        Request::Quarantine { feed, step, by, reply } => {
            let done = door.writer.quarantine(&feed, step, door.clock.now(), Some(by)).map_err(DoorError::from);
            replies.push(Box::new(move || drop(reply.send(done))));
        }
        Request::Rules { rules, reply } => {
            let done = door.take_rules(*rules);
            out.push(Event::Rules);
            replies.push(Box::new(move || drop(reply.send(done))));
        }
        Request::Judge { records, verdict, reason, by, reply } => {
            let done = door.decide(&records, &Judgement::by_person(verdict, &by, reason), Some(by));
            replies.push(Box::new(move || drop(reply.send(done))));
        }
        Request::Rejudge { records, by, reply } => {
            let done = door.rejudge(&records, As::Then, Some(by));
            replies.push(Box::new(move || drop(reply.send(done))));
        }
        Request::Follow { entry, reply } => {
            let done = door.writer.keep_follow((*entry).clone()).map_err(DoorError::from);
            if done.is_ok() {
                door.follow(super::wanted_of(*entry));
                out.push(Event::Followed);
            }
            replies.push(Box::new(move || drop(reply.send(done))));
        }
        Request::Share { entry, reply } => {
            let done = door.writer.keep_shares(*entry).map_err(DoorError::from);
            if done.is_ok() {
                out.push(Event::Shared);
            }
            replies.push(Box::new(move || drop(reply.send(done))));
        }
        Request::CaughtUp => door.caught_up = true,
        Request::Order { order, by, reply } => {
            let entry = OrderEntry { at: door.clock.now(), by, order };
            let done = door.writer.keep_order(entry.clone()).map_err(DoorError::from);
            let enforcer = door.enforcer.clone();
            // Obeyed when it is durable, in the order of the journal.
            replies.push(Box::new(move || {
                if let (Ok(()), Some(enforcer)) = (&done, enforcer) {
                    enforcer.obey(&entry);
                }
                drop(reply.send(done));
            }));
        }
        Request::Erase { entry, reply } => {
            let done = door.erase(&entry);
            replies.push(Box::new(move || drop(reply.send(done))));
        }
        Request::Adopt { entry, reply } => {
            let order = if let Entry::Order(entry) = &*entry { Some(entry.clone()) } else { None };
            let (done, enforcer) = (door.adopt(*entry, out), door.enforcer.clone());
            replies.push(Box::new(move || {
                if let (Ok(true), Some(order), Some(enforcer)) = (&done, order, enforcer) {
                    enforcer.obey(&order);
                }
                drop(reply.send(done));
            }));
        }
        Request::Review { entry, reply } => {
            let done = door.writer.keep_review(*entry).map_err(DoorError::from);
            replies.push(Box::new(move || drop(reply.send(done))));
        }
        Request::Compact(reply) => door.compact(vec![reply]),
        Request::Publish(publication, reply) => {
            let done = door.publish(*publication, out);
            replies.push(Box::new(move || drop(reply.send(done))));
        }
        Request::Withdraw(take_back, reply) => {
            let done = door.withdraw(*take_back, out);
            replies.push(Box::new(move || drop(reply.send(done))));
        }
        Request::Stop(_) | Request::Look => (),
    }
}
