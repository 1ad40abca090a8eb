//! `huecry run`: be a node.

use super::{Context, Failure, runtime};
use crate::{
    clock::Clock,
    http::{self, Local},
    ledger::LedgerError,
    node::{
        self, NodeError, Parts, Watch,
        door::{self, Request},
        reach::Reach,
        setup,
    },
    replica::Order,
    window::Window,
};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

/// Run the node until it is told to stop (SIGTERM, or Ctrl-C).
#[derive(clap::Args)]
pub struct Arguments {
    /// What to log: a tracing filter such as info or huecry=debug.
    #[arg(long, env = "HUECRY_LOG", default_value = "info,libp2p=warn,libp2p_gossipsub=error,libp2p_swarm=warn,fjall=warn,lsm_tree=warn")]
    log: String,
    /// Log as JSON lines.
    #[arg(long)]
    log_json: bool,
}

/// How long a start waits for a command that has the directory open.
const LOCK_WAIT: std::time::Duration = std::time::Duration::from_secs(10);

/// A log line is one line, whatever a value in it tries: the same escaping as on a terminal.
struct SafeLog;

impl std::io::Write for SafeLog {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        let mut stderr = std::io::stderr().lock();
        stderr.write_all(super::print::visible(text.trim_end_matches('\n')).as_bytes())?;
        stderr.write_all(b"\n")?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(&arguments.log).map_err(|error| Failure::usage(format!("--log: {error}")))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(|| SafeLog);
    let installed = if arguments.log_json { log.json().try_init() } else { log.try_init() };
    installed.map_err(Failure::environment)?;
    // A core file would hold the keys.
    let no_core = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0);
    // Each segment of the journal and each table of the index is an open file; a shell's 1,024 are soon too few.
    let files = nix::sys::resource::Resource::RLIMIT_NOFILE;
    let raised = nix::sys::resource::getrlimit(files).and_then(|(_, hard)| nix::sys::resource::setrlimit(files, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "the number of open files could not be raised");
    }
    if let Err(error) = no_core {
        tracing::warn!(%error, "core files could not be turned off");
    }
    // One watch over signals for all lives of the node: one that came between two of them would be lost.
    let signals = runtime()?;
    let (stopping, stop) = watch::channel(false);
    signals.spawn(async move {
        stopped().await;
        let _nobody_runs = stopping.send(true);
    });
    // A node whose card gives it another key begins again under that.
    while node_life(context, &stop)? == Life::Rekeyed {
        tracing::info!("the member's card gives this node another key; beginning again under it");
    }
    Ok(())
}

/// Why a life of the node ended.
#[derive(PartialEq, Eq)]
enum Life {
    Stopped,
    Rekeyed,
}

fn node_life(context: &Context, stop: &watch::Receiver<bool>) -> Result<Life, Failure> {
    // Nor may another process of this user read this one's memory.
    if let Err(error) = nix::sys::prctl::set_dumpable(false) {
        tracing::warn!(%error, "this process's memory could not be closed to others");
    }
    let opened = open(&context.data)?;
    opened.notes.iter().for_each(|note| tracing::warn!("{note}"));
    if opened.recovery.replayed > 0 || opened.recovery.cut_bytes > 0 {
        let recovery = opened.recovery;
        tracing::info!(replayed = recovery.replayed, cut_bytes = recovery.cut_bytes, "the ledger was brought up to date");
    }
    let runtime = runtime()?;
    let outcome = runtime.block_on(serve(context, opened, stop.clone()));
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    outcome
}

/// Opens the directory. A command that answers for itself holds the lock for a moment and is waited for; a node that
/// runs is not.
fn open(data: &std::path::Path) -> Result<setup::Opened, Failure> {
    let begun = std::time::Instant::now();
    loop {
        match setup::open(data, Clock::System) {
            Err(setup::SetupError::Ledger(LedgerError::InUse(_)))
                if begun.elapsed() < LOCK_WAIT && std::os::unix::net::UnixStream::connect(data.join(http::SOCKET)).is_err() =>
            {
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
            opened => return Ok(opened?),
        }
    }
}

async fn serve(context: &Context, opened: setup::Opened, mut stop: watch::Receiver<bool>) -> Result<Life, Failure> {
    let (requests, queue) = door::queue(true);
    let (events, door_events) = tokio::sync::mpsc::channel(door::QUEUE_MAX);
    let (upkeep, clock) = (opened.upkeep(&requests, &context.data), opened.clock.clone());
    let keeper = opened.door;
    std::thread::spawn(move || door::run(keeper, queue, events));
    opened.current.room().keep_reserve();
    let _on_its_own = opened.ledger.remember_known();
    let (watch, reach) = (Watch::default(), Reach::default());
    let local = Local::from(http::LocalParts {
        upkeep: upkeep.clone(),
        identity: opened.identity.clone(),
        current: opened.current.clone(),
        ledger: opened.ledger.clone(),
        door: requests.clone(),
        clock: opened.clock.clone(),
        watch: watch.clone(),
        recovery: opened.recovery,
        running: true,
        started: opened.clock.now(),
        data: context.data.clone(),
        own: opened.own.clone(),
        operators: http::Operators::of(&opened.config.operators),
        tokens: http::Tokens::open(&context.data).map_err(Failure::environment)?,
        addresses: Default::default(),
        sources: opened.config.sources.clone().into(),
        proxy: opened.config.proxy(),
        pulling: Default::default(),
        enforcer: opened.enforcer.clone(),
        ends: Default::default(),
        access: opened.access.clone(),
        notified: opened.config.notify.clone().into(),
        undelivered: http::Undelivered::default(),
        admission: http::Admission::default(),
        reach: reach.clone(),
        documents: opened.documents.clone(),
    });
    // Before the enforcer begins: what it takes out first may be held by whoever was told of it in the last run.
    let window = Window::open(local.clone(), &opened.config.window).map_err(Failure::environment)?;
    let _once = local.addresses.set(window.addresses().to_vec());
    for address in window.addresses() {
        tracing::info!(address, "the window is open");
    }
    let enforcer = opened.enforcer.clone();
    let enforcing = (!enforcer.is_idle()).then(|| std::thread::spawn(move || enforcer.run()));
    tokio::spawn(http::drain(local.clone()));
    tokio::spawn(http::pull_when_due(local.clone()));
    http::notify(&local, &opened.config.searches);
    tokio::spawn(upkeep.run());
    let parts = Parts {
        identity: opened.identity,
        current: opened.current,
        ledger: opened.ledger,
        door: requests.clone(),
        clock: opened.clock,
        listen: if opened.config.node.inbound { opened.config.node.listen } else { Vec::new() },
        announce: opened.config.node.announce,
        dial: opened.config.node.dial,
        links: node::Links::of(opened.config.node.proxy.and_then(|text| text.parse().ok()).as_ref()),
        watch,
        keys: opened.keys,
        own: opened.own,
        places: context.data.join("places.cbor"),
        reach,
        enforcer: opened.enforcer.clone(),
        documents: opened.documents,
        inbound: opened.config.node.inbound,
        order: if opened.config.node.catch_up == "newest" { Order::NewestFirst } else { Order::OldestFirst },
        observer: None,
    };
    let ready = |addresses: Vec<String>| {
        tracing::info!(addresses = addresses.join(" "), "ready");
        notify(sd_notify::NotifyState::Ready);
    };
    let reloading = tokio::spawn(reload_when_told(local.clone()));
    let stopping = async { drop(stop.wait_for(|stop| *stop).await) };
    let ended = node::run(parts, door_events, ready, stopping).await;
    reloading.abort();
    notify(sd_notify::NotifyState::Stopping);
    // New commands go to the next life, or find that there is none; those under way are answered.
    let _already_gone = std::fs::remove_file(context.data.join(http::SOCKET));
    let _gave_up = tokio::task::spawn_blocking(move || window.close()).await;
    // Whatever ended the loop, what was taken in is left in order.
    let (reply, done) = tokio::sync::oneshot::channel();
    let asked = tokio::task::spawn_blocking(move || requests.send(Request::Stop(reply)).is_ok()).await.unwrap_or(false);
    if asked && let Ok(Err(error)) = done.await {
        return Err(Failure::environment(error));
    }
    if let Err(error) = clock.keep(&context.data) {
        tracing::error!(%error, "the clock's checkpoint could not be written");
    }
    opened.enforcer.stop();
    let _ended_early = enforcing.map(|thread| tokio::task::block_in_place(|| thread.join()));
    match ended {
        Ok(()) => Ok(Life::Stopped),
        Err(NodeError::Rekeyed) => Ok(Life::Rekeyed),
        Err(error @ NodeError::Address(_)) => Err(Failure::usage(error)),
        Err(error) => Err(Failure::environment(error)),
    }
}

/// Tells the service manager, if one has started us (`Type=notify`).
fn notify(state: sd_notify::NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}

/// On SIGHUP policies and lists are read anew; what does not read leaves the last good ones in force.
async fn reload_when_told(local: Local) {
    let Ok(mut hangup) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()) else { return };
    while hangup.recv().await.is_some() {
        match http::reload_rules(&local).await {
            Ok(said) => tracing::info!(said, "told to read policies and lists anew"),
            Err(error) => tracing::error!(error, "told to read policies and lists anew; the last good ones stand"),
        }
    }
}

async fn stopped() {
    let terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate());
    match terminate {
        Ok(mut terminate) => {
            tokio::select! {
                _ = terminate.recv() => (),
                _ = tokio::signal::ctrl_c() => (),
            }
        }
        Err(_) => drop(tokio::signal::ctrl_c().await),
    }
    tracing::info!("stopping");
}
