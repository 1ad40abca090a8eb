//! A crowd: real nodes, real swarms, real ledgers, in one process, over links that take their time.
//!
//! Time is the machine's own, so the machine has to keep up: how far it lagged behind is part of the answer, and figures with
//! a large lag say more about the machine than about the protocol.

use super::{
    Dice,
    federation::{self, Federation},
    hostile::{self, Hostile, MALICE, Malice, Twice},
    link::{Cut, LinkPlan, Partition, transport},
    listed_value, notice,
    strangers::{self, Stranger},
};
use crate::{
    access::Access,
    charter::{Card, Circle, CircleMember, History, Quota, SignedCard},
    clock::Clock,
    config::{AccessConfig, DOCUMENTS_BYTES_MAX},
    envelope::{Audience, Class, Cosigned, Domain, SecretKey},
    http::{Admission, Local, LocalParts, Operators, Tokens, Undelivered},
    intake::{Intake, Limits},
    ledger::{FollowEntry, Ledger},
    node::{
        self, Current, Identity, Links, Parts, Watch,
        documents::Documents,
        door::{self, Door, Event, Publication, ReportOf, Request, TakeBack, document},
        enforcer::Enforcer,
        keys::KeyStore,
        own_heads::OwnHeads,
        reach::Reach,
        swarm,
        upkeep::Upkeep,
    },
    policy::{Lists, Piece, Policy, Starter},
    publish::{Lane, Publisher},
    record::{FeedId, Indicator, Observable, Reason, Record, RecordRef, Tlp},
    replica::Order,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// What is rehearsed.
#[derive(Clone, Debug)]
pub struct Plan {
    pub nodes: usize,
    pub latency: Duration,
    pub loss_per_mille: u64,
    pub records: u64,
    pub batch_records: u64,
    pub batches_per_s: f64,
    /// Members that publish, each in a channel of its own.
    pub authors: usize,
    /// Nodes that begin when everything has been published.
    pub late: usize,
    /// Members that do harm, and what all of them do if it is not dealt out.
    pub hostile: usize,
    pub malice: Option<Malice>,
    /// Nodes on no card that dial honest ones again and again.
    pub strangers: usize,
    /// A cut while records are published.
    pub partition: Option<PartitionPlan>,
    pub seed: u64,
    /// Where the nodes' ledgers are.
    pub directory: PathBuf,
}

/// A cut between some nodes and all others, from when a third of the records is published.
#[derive(Clone, Copy, Debug)]
pub struct PartitionPlan {
    /// Of a thousand nodes that begin early.
    pub share_per_mille: u64,
    pub lasts: Duration,
}

/// What came of it.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Outcome {
    /// Of all (batch, node) pairs, how many arrived: 0 to 1.
    pub delivered: f64,
    pub announce_p50_ms: u64,
    pub announce_p99_ms: u64,
    pub announce_last_ms: u64,
    pub withdrawal_p99_ms: u64,
    /// Until 99 of 100 nodes knew that a key was given up, and how many would have taken what it signed after that.
    pub notice_p99_ms: u64,
    pub notice_taken_after: u64,
    pub received_ratio: f64,
    pub catchup_ratio: f64,
    pub catchup_ms: u64,
    /// From the healing of a partition until everyone had everything.
    pub healed_ms: u64,
    pub idle_exchange_bytes: u64,
    pub rss_peak_bytes: u64,
    /// How late the machine was, at worst and mostly, while records were under way.
    pub lag_ms: u64,
    pub lag_p50_ms: u64,
    /// Of all (feed that its author equivocated, node) pairs, how many hold the proof: 0 to 1; and how long that took since the
    /// first node held it.
    pub proved: f64,
    pub proved_p99_ms: u64,
    /// How often strangers knocked, and bytes above the handshake that they were given.
    pub strangers_calls: u64,
    pub strangers_bytes: u64,
    pub batches: u64,
    /// Channels in which something was published, when idle traffic was counted.
    pub channels: u64,
    pub links: u64,
    pub seed: u64,
}

/// One thing that happened, for whoever wants to recompute the figures.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Trace {
    pub at_us: u64,
    pub node: usize,
    pub feed: String,
    pub seq: u64,
}

/// What is written down while it happens.
#[derive(Default)]
struct Log {
    begun: Option<Instant>,
    /// When each batch was durable at its author, and at each node.
    published: HashMap<(FeedId, u64), Instant>,
    kept: Vec<(usize, FeedId, u64, Instant)>,
    /// When each node took a proof of equivocation about each feed.
    proofs: Vec<(usize, FeedId, Instant)>,
}

/// A running node of the crowd.
pub struct Running {
    pub door: door::Sender,
    pub ledger: Ledger,
    pub watch: Watch,
    /// What its local window would look at.
    pub local: Local,
    received: Arc<AtomicU64>,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    /// Stops it and waits for that.
    pub async fn end(self) {
        let _already_gone = self.stop.send(true);
        let _ended = tokio::time::timeout(Duration::from_secs(10), self.task).await;
    }
}

/// How long everything may take to arrive after the last publication.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);
/// How long links may take to be made.
const MEETING: Duration = Duration::from_secs(180);
/// Withdrawals that are measured.
const WITHDRAWALS_MAX: usize = 10;
/// How long idle traffic is counted: two comparisons of cursors with every peer.
const IDLE: Duration = Duration::from_secs(20);
/// What a node receives in a second when nothing happens, at most: heartbeats, pings and cursors of some 30 links.
const CALM_BYTES_PER_S: u64 = 2_000;

/// Why a rehearsal could not be held.
pub type Failed = Box<dyn std::error::Error + Send + Sync>;

/// Rehearses. `progress` hears what is being done.
pub async fn rehearse(plan: &Plan, progress: impl Fn(&str)) -> Result<(Outcome, Vec<Trace>), Failed> {
    let mut dice = Dice::new(plan.seed);
    let quota = Quota { records_per_second: 1 << 30, burst_records: 1 << 30, records_per_day: 1 << 40, bytes_per_day: 1 << 50 };
    let federation = Arc::new(federation::found(plan.nodes, quota, Clock::System.now(), &mut dice, |_, _| Vec::new())?);
    let policy = Policy::of(vec![Piece::new("starter", Starter::Vendor.policy().to_owned())])?;
    let intake = Intake {
        roster: Arc::new(federation.roster.clone()),
        policy: Arc::new(policy),
        lists: Arc::new(Lists::default()),
        limits: Limits::default(),
    };
    let log = Arc::new(Mutex::new(Log::default()));
    let mut crowd = Vec::new();
    let early = plan.nodes - plan.late - plan.hostile;
    progress(&format!("starting {early} nodes and {} hostile ones", plan.hostile));
    let (harm, harmless) = watch::channel(false);
    let (publishing, begin) = watch::channel(false);
    // The hostile ones are there first.
    for number in plan.nodes - plan.hostile..plan.nodes {
        harm_from(plan, number, &federation, begin.clone(), harmless.clone())?;
    }
    let (given, calls) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    for number in 0..plan.strangers {
        let honest = number % early..early;
        knock_from(plan, number, honest, &federation, (&given, &calls), begin.clone(), harmless.clone())?;
    }
    let partition = Arc::new(Partition::default());
    for number in 0..early {
        let cut = Some(cut_of(plan, number, early, &federation, &partition));
        crowd.push(start(plan, number, &federation, &intake, cut, &log)?);
    }
    meet(&crowd, plan.nodes.min(8) - 1, &progress).await?;
    let mut outcome = Outcome { seed: plan.seed, ..Outcome::default() };
    let received = |crowd: &[Running]| crowd.iter().map(|node| node.received.load(Ordering::Relaxed)).sum::<u64>();
    // What greets newcomers is not what publishing costs.
    let begun = Instant::now();
    loop {
        let before = received(&crowd);
        tokio::time::sleep(Duration::from_secs(3)).await;
        if (received(&crowd) - before) / (3 * crowd.len() as u64) < CALM_BYTES_PER_S || begun.elapsed() > MEETING {
            break;
        }
    }
    progress(&format!("calm after {:.0} s more", begun.elapsed().as_secs_f64()));
    progress("publishing");
    log.lock().unwrap_or_else(PoisonError::into_inner).begun = Some(Instant::now());
    let _nobody_equivocates = publishing.send(true);
    let (lag, lagging) = watch_lag();
    let before = received(&crowd);
    let cutting = plan.partition.map(|cut| {
        let (partition, publishing) = (Arc::clone(&partition), plan.publishing());
        tokio::spawn(async move {
            tokio::time::sleep(publishing / 3).await;
            partition.begin();
            tokio::time::sleep(cut.lasts).await;
            partition.heal();
            Instant::now()
        })
    });
    let references = publish(plan, &crowd).await?;
    let healed = match cutting {
        Some(cutting) => Some(cutting.await?),
        None => None,
    };
    settle(&crowd, &log, early).await;
    outcome.healed_ms = healed.map_or(0, |healed| healed.elapsed().as_millis() as u64);
    let content = content_bytes(&crowd)?;
    outcome.received_ratio = (received(&crowd) - before) as f64 / (content as f64 * early as f64).max(1.0);
    lagging.abort();
    let mut lags = std::mem::take(&mut *lag.lock().unwrap_or_else(PoisonError::into_inner));
    lags.sort_unstable();
    (outcome.lag_ms, outcome.lag_p50_ms) = (percentile(&lags, 100), percentile(&lags, 50));
    outcome.batches = announced(&log, early, &mut outcome);
    proved(plan, &log, early, &mut outcome);

    progress("withdrawing");
    outcome.withdrawal_p99_ms = withdraw(plan, &crowd, &references, &log, early).await?;

    progress("giving a key up");
    let notice = notice::give_up(0, &crowd, &federation).await?;
    (outcome.notice_p99_ms, outcome.notice_taken_after) = (notice.p99_ms, notice.taken_after);
    (outcome.strangers_calls, outcome.strangers_bytes) = (calls.load(Ordering::Relaxed), given.load(Ordering::Relaxed));

    progress("counting idle traffic");
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = received(&crowd);
    tokio::time::sleep(IDLE).await;
    let rounds = IDLE.as_secs_f64() / 10.0;
    outcome.links = crowd.iter().map(|node| node.watch.get().peers.len() as u64).sum();
    outcome.idle_exchange_bytes = ((received(&crowd) - before) as f64 / rounds / outcome.links.max(1) as f64) as u64;
    outcome.channels = crowd.first().map_or(0, |node| node.ledger.feeds().len() as u64);

    if plan.late > 0 {
        progress(&format!("{} nodes begin late", plan.late));
        let begun = Instant::now();
        for number in early..early + plan.late {
            crowd.push(start(plan, number, &federation, &intake, None, &log)?);
        }
        let wanted: u64 = batches_of(crowd.first().map(|node| &node.ledger));
        while crowd.iter().skip(early).any(|node| batches_of(Some(&node.ledger)) < wanted) && begun.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        outcome.catchup_ms = begun.elapsed().as_millis() as u64;
        let late: u64 = crowd.iter().skip(early).map(|node| node.received.load(Ordering::Relaxed)).sum();
        outcome.catchup_ratio = late as f64 / (content_bytes(&crowd)? as f64 * plan.late as f64).max(1.0);
    }
    outcome.rss_peak_bytes = rss_peak();
    progress("stopping");
    let _nobody_harms = harm.send(true);
    for node in crowd {
        node.end().await;
    }
    Ok((outcome, traces(&log)))
}

/// Starts one node of the plan.
fn start(
    plan: &Plan,
    number: usize,
    federation: &Arc<Federation>,
    intake: &Intake,
    cut: Option<Cut>,
    log: &Arc<Mutex<Log>>,
) -> Result<Running, Failed> {
    let actor = federation.actors.get(number).ok_or("no such member")?;
    let received = Arc::new(AtomicU64::new(0));
    let link = LinkPlan { latency: plan.latency, loss_per_mille: plan.loss_per_mille, seed: plan.seed ^ number as u64 };
    let links = Links::Given(transport(&swarm::keypair(&actor.node)?, link, Arc::clone(&received), None, cut, swarm::STREAMS_MAX)?);
    let site = Site {
        data: plan.directory.join(format!("node-{number:03}")),
        links,
        listen: address(plan, number),
        dial: contacts(plan, number, federation, 3),
        observer: Some(observer(number, log)),
        rehearsal: true,
        follows: true,
    };
    Ok(Running { received, ..launch(site, actor, federation, intake)? })
}

impl Plan {
    /// How long publishing takes.
    fn publishing(&self) -> Duration {
        let batches = self.records.div_ceil(self.batch_records.max(1));
        Duration::from_secs_f64(batches as f64 / self.batches_per_s)
    }

    /// What a hostile member does.
    fn malice(&self, number: usize) -> Malice {
        self.malice.or_else(|| MALICE.get(number % MALICE.len()).copied()).unwrap_or(Malice::Drops)
    }
}

/// The cut as one node sees it.
fn cut_of(plan: &Plan, number: usize, early: usize, federation: &Federation, partition: &Arc<Partition>) -> Cut {
    let share = plan.partition.map_or(0, |cut| usize::try_from(cut.share_per_mille).unwrap_or(0));
    // Every so manieth, so that authors are on both sides.
    let beyond = |number: usize| (number * share) % 1_000 + share > 999;
    let others = (0..early).filter(|other| beyond(*other) != beyond(number));
    let peer = |other: usize| swarm::peer_id(&federation.actors.get(other)?.node.public().to_bytes());
    Cut { partition: Arc::clone(partition), beyond: Arc::new(others.filter_map(peer).collect()) }
}

/// Where a rehearsed node is.
pub struct Site {
    pub data: PathBuf,
    pub links: Links,
    pub listen: String,
    pub dial: Vec<String>,
    pub observer: Option<node::Observer>,
    /// Its state is kept in memory, because many share the process.
    pub rehearsal: bool,
    /// It wants others' records.
    pub follows: bool,
}

/// Starts a node, with the charter already in its ledger: how that travels is not what is rehearsed.
pub fn launch(site: Site, actor: &federation::Actor, federation: &Federation, intake: &Intake) -> Result<Running, Failed> {
    let Site { data, links, listen, dial, observer, rehearsal, follows } = site;
    std::fs::create_dir_all(&data)?;
    let opened = if rehearsal { Ledger::open_for_rehearsal(&data.join("ledger")) } else { Ledger::open(&data.join("ledger")) };
    let (ledger, mut writer, recovery) = opened?;
    if !follows {
        let at = Clock::System.now();
        writer.keep_follow(FollowEntry { at, by: "rehearsal".to_owned(), everything: false, channels: Vec::new() })?;
    }
    writer.keep_charter(1, federation.charter.bytes())?;
    writer.commit()?;
    let identity =
        Arc::new(Identity { member: actor.id.clone(), node_name: "main".to_owned(), lane: 0, node: again(&actor.node)?, freshness: None });
    let (current, keys, own) = (Current::new(intake.clone()), KeyStore::in_data(&data)?, OwnHeads::default());
    let access = Access::open(&data, &AccessConfig::default(), Clock::System.now())?;
    let enforcer = Enforcer::open(&data, Vec::new(), ledger.clone(), current.clone(), access.clone(), Clock::System)?;
    let documents = Documents::open(&data.join("documents"), DOCUMENTS_BYTES_MAX)?;
    let publishing = Some(again(&actor.publishing)?);
    let mut door = Door::new(writer, current.clone(), Arc::clone(&identity), keys.clone(), publishing, own.clone(), Clock::System);
    door.attend(enforcer.clone());
    let (requests, queue) = door::queue(false);
    let (events, door_events) = tokio::sync::mpsc::channel(door::QUEUE_MAX);
    std::thread::Builder::new().stack_size(512 * 1024).spawn(move || door::run(door, queue, events))?;
    let (watch, reach) = (Watch::default(), Reach::default());
    let upkeep = Upkeep::new(
        ledger.clone(),
        requests.clone(),
        current.clone(),
        Clock::System,
        documents.clone(),
        identity.member.clone(),
        data.clone(),
    );
    let local = Local::from(LocalParts {
        upkeep,
        identity: Arc::clone(&identity),
        current: current.clone(),
        ledger: ledger.clone(),
        door: requests.clone(),
        clock: Clock::System,
        watch: watch.clone(),
        recovery,
        running: true,
        started: Clock::System.now(),
        data: data.clone(),
        own: own.clone(),
        operators: Operators::of(&[]),
        tokens: Tokens::open(&data).map_err(|error| error.to_string())?,
        addresses: Default::default(),
        sources: Vec::new().into(),
        proxy: None,
        pulling: Default::default(),
        enforcer: enforcer.clone(),
        ends: Default::default(),
        access,
        notified: Vec::new().into(),
        undelivered: Undelivered::default(),
        admission: Admission::default(),
        reach: reach.clone(),
        documents: documents.clone(),
    });
    let parts = Parts {
        identity,
        current,
        ledger: ledger.clone(),
        door: requests.clone(),
        clock: Clock::System,
        listen: vec![listen],
        announce: Vec::new(),
        dial,
        watch: watch.clone(),
        keys,
        links,
        own,
        places: data.join("places.cbor"),
        reach,
        enforcer,
        documents,
        inbound: true,
        order: Order::OldestFirst,
        observer,
    };
    let (stop, mut stopped) = watch::channel(false);
    let door = requests.clone();
    let task = tokio::spawn(async move {
        let stopping = async { drop(stopped.wait_for(|stop| *stop).await) };
        if let Err(error) = node::run(parts, door_events, |_| (), stopping).await {
            tracing::error!(%error, "a rehearsed node ended");
        }
        let (reply, done) = tokio::sync::oneshot::channel();
        if tokio::task::spawn_blocking(move || door.send(Request::Stop(reply)).is_ok()).await.unwrap_or(false) {
            let _closed = done.await;
        }
    });
    Ok(Running { door: requests, ledger, watch, local, received: Arc::default(), stop, task })
}

/// Starts a hostile node.
fn harm_from(
    plan: &Plan,
    number: usize,
    federation: &Federation,
    begin: watch::Receiver<bool>,
    stop: watch::Receiver<bool>,
) -> Result<(), Failed> {
    let actor = federation.actors.get(number).ok_or("no such member")?;
    let malice = plan.malice(number);
    // Each clone is of another honest node.
    let honest = || federation.actors.get(number % (plan.nodes - plan.hostile)).ok_or("no such member");
    let node = if malice == Malice::Clones { &honest()?.node } else { &actor.node };
    let link = LinkPlan { latency: plan.latency, loss_per_mille: plan.loss_per_mille, seed: plan.seed ^ number as u64 };
    let links = Links::Given(transport(&swarm::keypair(node)?, link, Arc::default(), None, None, swarm::STREAMS_MAX)?);
    let feed = |actor: &federation::Actor| {
        Ok::<_, Failed>(FeedId { member: actor.id.clone(), channel: federation::OPEN.parse()?, lane: 0, epoch: 1 })
    };
    let hostile = Hostile {
        key: again(node)?,
        malice,
        federation: federation.roster.federation(),
        links,
        listen: address(plan, number).parse()?,
        dial: contacts(plan, number, federation, 16).iter().map(|text| text.parse()).collect::<Result<_, _>>()?,
        others: federation.actors.iter().filter(|other| other.id != actor.id).map(|other| other.node.public().to_bytes()).collect(),
        feeds: std::iter::once(actor).chain(federation.actors.iter().take(plan.authors)).map(feed).collect::<Result<_, _>>()?,
        forged: forged(actor, federation)?,
        twice: Some(twice(actor, federation)?),
        begin,
        // One after another: as long as records are published.
        delay: plan.publishing().mul_f64(0.8 * (number + plan.hostile - plan.nodes) as f64 / plan.hostile as f64),
        seed: plan.seed ^ number as u64,
    };
    tokio::spawn(async move {
        // Let those whom it is to harm begin to listen.
        tokio::time::sleep(Duration::from_secs(2)).await;
        if let Err(error) = hostile::run(hostile, stop).await {
            tracing::error!(%error, "a hostile node ended");
        }
    });
    Ok(())
}

/// Documents that a member may forge: the next charter, as long as a large federation's and signed by the forger alone, and another
/// member's card with a signature that does not verify.
pub fn forged(actor: &federation::Actor, federation: &Federation) -> Result<Vec<(u64, Vec<u8>)>, Failed> {
    let current = federation.roster.charter();
    let mut next = current.charter().clone();
    (next.version, next.prev) = (next.version + 1, Some(current.hash()));
    let name = |number: usize| format!("circle-{number}");
    let members: Vec<_> = next.members.iter().map(|one| CircleMember { id: one.id.clone(), since: 1, until: None }).collect();
    for number in 0..1_000 {
        let circle = Circle { name: name(number).parse()?, generation: 1, history: History::Closed, members: members.clone() };
        next.circles.push(circle);
    }
    let charter = Cosigned::seal(crate::cbor::to_vec(&next), &[&actor.node], Domain::Charter, &current.federation())?;
    let other = federation.roster.cards().find(|card| card.card().member != actor.id).ok_or("the federation has one member")?;
    let mut card = Card { serial: other.card().serial + 1, ..other.card().clone() };
    card.issued = card.issued.plus_ms(1);
    let root = &federation.actors.iter().find(|one| one.id == card.member).ok_or("there is no such actor")?.root;
    let mut card = SignedCard::sign(&card, root, &current.federation())?.bytes().to_vec();
    // The signature is the last field.
    card.iter_mut().rev().take(8).for_each(|byte| *byte ^= 0x55);
    Ok(vec![(document::CHARTER, charter.bytes().to_vec()), (document::CARD, card)])
}

/// Starts a stranger, who begins with the first of `honest` and knocks as soon as something is published.
fn knock_from(
    plan: &Plan,
    number: usize,
    honest: std::ops::Range<usize>,
    federation: &Federation,
    (given, calls): (&Arc<AtomicU64>, &Arc<AtomicU64>),
    mut begin: watch::Receiver<bool>,
    stop: watch::Receiver<bool>,
) -> Result<(), Failed> {
    let key = SecretKey::from_seed(&Dice::new(plan.seed ^ (number as u64 + 1) << 32).seed()).ok_or("a key of zeros")?;
    let link = LinkPlan { latency: plan.latency, loss_per_mille: plan.loss_per_mille, seed: plan.seed ^ number as u64 };
    let links = Links::Given(transport(&swarm::keypair(&key)?, link, Arc::default(), None, None, swarm::STREAMS_MAX)?);
    let all = (0..honest.end).map(|other| (honest.start + other) % honest.end);
    let stranger = Stranger {
        key,
        federation: federation.roster.federation(),
        links,
        dial: all.map(|other| address(plan, other).parse()).collect::<Result<_, _>>()?,
        honest: federation.actors.iter().map(|actor| actor.node.public().to_bytes()).collect(),
        given: Arc::clone(given),
        calls: Arc::clone(calls),
    };
    tokio::spawn(async move {
        drop(begin.wait_for(|begin| *begin).await);
        // Not all at the same moment: they have nothing to do with each other.
        tokio::time::sleep(strangers::PAUSE.mul_f64((number % 97) as f64 / 97.0)).await;
        if let Err(error) = strangers::knock(stranger, stop).await {
            tracing::error!(%error, "a stranger ended");
        }
    });
    Ok(())
}

/// Two first batches of one feed: what no honest author signs.
pub fn twice(actor: &federation::Actor, federation: &Federation) -> Result<Twice, Failed> {
    let batch = |value: &str| -> Result<(Vec<u8>, Vec<u8>), Failed> {
        let lane = Lane {
            feed: FeedId { member: actor.id.clone(), channel: federation::OPEN.parse()?, lane: 0, epoch: 1 },
            audience: Audience::federation(),
            tlp: Tlp::Green,
            class: Class::Content,
            last: None,
            floor_seq: 1,
            key: &actor.publishing,
            federation: federation.roster.federation(),
        };
        let mut publisher = Publisher::new(lane, Clock::System.now(), |buffer| getrandom::fill(buffer).map_err(|error| error.to_string()));
        publisher.push(Record::Indicator(Indicator::of(Observable::recognise(value)?, None)), None)?;
        let draft = publisher.finish()?.ok_or("no batch came of it")?;
        Ok((draft.head.bytes().to_vec(), draft.body))
    };
    Ok([batch("one.example")?, batch("other.example")?])
}

/// Keys are not copied by accident; here they are made up anyway.
pub fn again(key: &SecretKey) -> Result<SecretKey, Failed> {
    SecretKey::from_seed(&key.seed()).ok_or_else(|| "a key of zeros".into())
}

/// Addresses of two rehearsals in one process differ by their seed.
fn address(plan: &Plan, number: usize) -> String {
    format!("/memory/{}", (plan.seed << 16 | 1) + number as u64)
}

/// The first contacts of a node: a few others, spread around.
fn contacts(plan: &Plan, number: usize, federation: &Federation, count: usize) -> Vec<String> {
    let honest = (plan.nodes - plan.late - plan.hostile).max(1);
    let mut others: Vec<usize> =
        (0..count).map(|step| (number + 1 + step * (step + 5)) % honest).filter(|other| *other != number).collect();
    others.sort_unstable();
    others.dedup();
    let contact = |other: usize| {
        let peer = swarm::peer_id(&federation.actors.get(other)?.node.public().to_bytes())?;
        Some(format!("{}/p2p/{peer}", address(plan, other)))
    };
    others.into_iter().filter_map(contact).collect()
}

fn observer(number: usize, log: &Arc<Mutex<Log>>) -> node::Observer {
    let log = Arc::clone(log);
    Arc::new(move |event: &Event| {
        if let Event::Document { document: door::document::PROOF, bytes } = event
            && let Some([head, _]) = crate::charter::equivocation_heads(bytes)
        {
            log.lock().unwrap_or_else(PoisonError::into_inner).proofs.push((number, head.feed(), Instant::now()));
        }
        if let Event::Kept { feed, seq, from, .. } = event {
            let now = Instant::now();
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            if from.is_none() {
                log.published.insert((feed.clone(), *seq), now);
            } else if log.published.contains_key(&(feed.clone(), *seq)) {
                // What hostile members say of their own does not count.
                log.kept.push((number, feed.clone(), *seq, now));
            }
        }
    })
}

/// Waits until everyone has some links.
async fn meet(crowd: &[Running], links: usize, progress: &impl Fn(&str)) -> Result<(), Failed> {
    let begun = Instant::now();
    loop {
        let met = crowd.iter().filter(|node| node.watch.get().peers.len() >= links).count();
        if met == crowd.len() {
            progress(&format!("everyone has met in {:.0} s", begun.elapsed().as_secs_f64()));
            return Ok(());
        }
        if begun.elapsed() > MEETING {
            return Err(format!("only {met} of {} nodes have {links} links after {} s", crowd.len(), MEETING.as_secs()).into());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Publishes at the plan's rate, the authors in turn. Answers the first record of each batch.
async fn publish(plan: &Plan, crowd: &[Running]) -> Result<Vec<(usize, RecordRef)>, Failed> {
    let (mut left, mut number, mut references) = (plan.records, 0u64, Vec::new());
    let pause = Duration::from_secs_f64(1.0 / plan.batches_per_s.max(0.001));
    let mut due = tokio::time::Instant::now();
    while left > 0 {
        let count = left.min(plan.batch_records);
        left -= count;
        let author = usize::try_from(number).unwrap_or(0) % plan.authors.min(crowd.len());
        let record = |at: u64| -> Result<Record, Failed> {
            let value = number * plan.batch_records + at;
            Ok(Record::Indicator(Indicator::of(Observable::recognise(&listed_value(value))?, None)))
        };
        let publication = Publication {
            channel: federation::OPEN.parse()?,
            tlp: Tlp::Green,
            class: Class::Content,
            report: ReportOf::None,
            records: (0..count).map(record).collect::<Result<_, _>>()?,
        };
        let node = crowd.get(author).ok_or("no such node")?;
        let (reply, done) = tokio::sync::oneshot::channel();
        node.door.send(Request::Publish(Box::new(publication), reply)).map_err(|_| "a door is closed")?;
        let done = done.await??;
        references.extend(done.first.map(|first| (author, first)));
        number += 1;
        due += pause;
        tokio::time::sleep_until(due).await;
    }
    Ok(references)
}

/// Waits until everything has arrived, or patience ends.
async fn settle(crowd: &[Running], log: &Mutex<Log>, nodes: usize) {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        let (kept, published) = {
            let log = log.lock().unwrap_or_else(PoisonError::into_inner);
            (log.kept.len(), log.published.len())
        };
        if kept >= published * (nodes - 1) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tracing::warn!(nodes = crowd.len(), "not everything arrived");
}

fn batches_of(ledger: Option<&Ledger>) -> u64 {
    ledger.map_or(0, |ledger| ledger.feeds().iter().map(|(_, state)| state.spans.count()).sum())
}

/// Bytes of what was published: heads and bodies, once.
fn content_bytes(crowd: &[Running]) -> Result<u64, Failed> {
    let Some(node) = crowd.first() else { return Ok(0) };
    let mut bytes = 0;
    for number in 0..node.ledger.batches() {
        if let Some(batch) = node.ledger.batch(number)? {
            bytes += (batch.entry.head.len() + batch.entry.body.len()) as u64;
        }
    }
    Ok(bytes)
}

/// Fills in how long batches took, over all (batch, node) pairs. Answers how many batches there were.
fn announced(log: &Mutex<Log>, nodes: usize, outcome: &mut Outcome) -> u64 {
    let log = log.lock().unwrap_or_else(PoisonError::into_inner);
    let mut took: Vec<u64> =
        log.kept.iter().filter_map(|(_, feed, seq, at)| Some(ms(*log.published.get(&(feed.clone(), *seq))?, *at))).collect();
    took.sort_unstable();
    outcome.announce_p50_ms = percentile(&took, 50);
    outcome.announce_p99_ms = percentile(&took, 99);
    outcome.announce_last_ms = percentile(&took, 100);
    let pairs = log.published.len() * (nodes - 1);
    outcome.delivered = took.len() as f64 / (pairs as f64).max(1.0);
    log.published.len() as u64
}

/// Fills in how far proofs of equivocation got.
fn proved(plan: &Plan, log: &Mutex<Log>, nodes: usize, outcome: &mut Outcome) {
    let log = log.lock().unwrap_or_else(PoisonError::into_inner);
    let mut first: BTreeMap<&FeedId, Instant> = BTreeMap::new();
    for (_, feed, at) in &log.proofs {
        let known = first.entry(feed).or_insert(*at);
        *known = (*known).min(*at);
    }
    let pairs: BTreeSet<(usize, &FeedId)> = log.proofs.iter().map(|(node, feed, _)| (*node, feed)).collect();
    let mut took: Vec<u64> = log.proofs.iter().filter_map(|(_, feed, at)| Some(ms(*first.get(feed)?, *at))).collect();
    took.sort_unstable();
    let equivocators = (plan.nodes - plan.hostile..plan.nodes).filter(|number| plan.malice(*number) == Malice::Equivocates).count();
    outcome.proved = if equivocators == 0 { 1.0 } else { pairs.len() as f64 / (equivocators * nodes) as f64 };
    outcome.proved_p99_ms = percentile(&took, 99);
}

/// Withdraws one record of each author's first batch, and measures until 99 of 100 (withdrawal, node) pairs have it.
async fn withdraw(
    plan: &Plan,
    crowd: &[Running],
    references: &[(usize, RecordRef)],
    log: &Mutex<Log>,
    nodes: usize,
) -> Result<u64, Failed> {
    let before: BTreeMap<(FeedId, u64), ()> =
        log.lock().unwrap_or_else(PoisonError::into_inner).published.keys().map(|key| (key.clone(), ())).collect();
    let kept_before = log.lock().unwrap_or_else(PoisonError::into_inner).kept.len();
    for (author, reference) in references.iter().take(plan.authors.min(WITHDRAWALS_MAX)) {
        let node = crowd.get(*author).ok_or("no such node")?;
        let (reply, done) = tokio::sync::oneshot::channel();
        let take_back = TakeBack { targets: vec![reference.clone()], reason: Reason::Wrong, note: None };
        node.door.send(Request::Withdraw(Box::new(take_back), reply)).map_err(|_| "a door is closed")?;
        done.await??;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let withdrawals = references.len().min(plan.authors).min(WITHDRAWALS_MAX);
    let begun = Instant::now();
    while log.lock().unwrap_or_else(PoisonError::into_inner).kept.len() < kept_before + withdrawals * (nodes - 1)
        && begun.elapsed() < PATIENCE
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let log = log.lock().unwrap_or_else(PoisonError::into_inner);
    let new = log.kept.iter().skip(kept_before).filter(|(_, feed, seq, _)| !before.contains_key(&(feed.clone(), *seq)));
    let mut took: Vec<u64> = new.filter_map(|(_, feed, seq, at)| Some(ms(*log.published.get(&(feed.clone(), *seq))?, *at))).collect();
    // What did not arrive took for ever.
    took.resize(withdrawals * (nodes - 1), PATIENCE.as_millis() as u64);
    took.sort_unstable();
    Ok(percentile(&took, 99))
}

fn ms(from: Instant, to: Instant) -> u64 {
    to.saturating_duration_since(from).as_millis() as u64
}

/// The value that so many of a hundred are at or below.
pub(super) fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let last = sorted.len().saturating_sub(1);
    sorted.get((sorted.len() * percent / 100).min(last)).copied().unwrap_or(0)
}

/// Notes how late a timer of 20 ms comes.
fn watch_lag() -> (Arc<Mutex<Vec<u64>>>, tokio::task::JoinHandle<()>) {
    let lag = Arc::new(Mutex::new(Vec::new()));
    let into = Arc::clone(&lag);
    let task = tokio::spawn(async move {
        loop {
            let due = Instant::now() + Duration::from_millis(20);
            tokio::time::sleep(Duration::from_millis(20)).await;
            into.lock().unwrap_or_else(PoisonError::into_inner).push(ms(due, Instant::now()));
        }
    });
    (lag, task)
}

fn traces(log: &Mutex<Log>) -> Vec<Trace> {
    let log = log.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(begun) = log.begun else { return Vec::new() };
    let at_us = |at: &Instant| at.saturating_duration_since(begun).as_micros() as u64;
    let published =
        log.published.iter().map(|((feed, seq), at)| Trace { at_us: at_us(at), node: usize::MAX, feed: feed.to_string(), seq: *seq });
    let kept = log.kept.iter().map(|(node, feed, seq, at)| Trace { at_us: at_us(at), node: *node, feed: feed.to_string(), seq: *seq });
    let mut all: Vec<Trace> = published.chain(kept).collect();
    all.sort_by_key(|one| one.at_us);
    all
}

/// The most memory that this process has had, in bytes.
pub fn rss_peak() -> u64 {
    own_status("VmHWM:")
}

/// The memory that it has now.
pub fn rss_now() -> u64 {
    own_status("VmRSS:")
}

fn own_status(name: &str) -> u64 {
    let status = std::fs::read_to_string(Path::new("/proc/self/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
