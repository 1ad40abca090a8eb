//! `huecry decisions`: what people did at this node; and their way to a second node of the same member that stands by.

use super::{Context, Failure, client::Client};
use crate::http::{DecisionLine, DecisionOut, StreamParameters, TakeParameters, TakenReply, taken_up_to};
use serde_json::json;
use std::{
    collections::VecDeque,
    io::{BufRead as _, Write as _},
    sync::mpsc,
    time::Duration,
};

/// Decisions handed over at once.
const AT_ONCE: usize = 64;
/// How soon what waits for its records is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Show what operators did here, the newest first; or hand it to a second node that stands by.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Write what people decided here, a line each: verdicts, orders, erasures, what is followed and passed on.
    Stream {
        /// From this place on, as `huecry decisions taken` says at the other node.
        #[arg(long, default_value_t = 0)]
        from: u64,
        /// Go on with what comes.
        #[arg(long)]
        follow: bool,
    },
    /// Read such lines from standard input and decide the same here. What is about records that are not here yet waits for them.
    #[command(after_help = "ssh first huecry decisions stream --follow --from $(huecry decisions taken) | huecry decisions take")]
    Take,
    /// How far this node has come with what another one decided.
    Taken,
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    match arguments.verb {
        None => show(context),
        Some(Verb::Stream { from, follow }) => stream(context, &StreamParameters { from, follow }),
        Some(Verb::Take) => take(context),
        Some(Verb::Taken) => {
            context.screen.line(&taken_up_to(&context.data).to_string());
            context.screen.value(&json!({ "taken": taken_up_to(&context.data) }));
            Ok(())
        }
    }
}

fn show(context: &Context) -> Result<(), Failure> {
    let lines: Vec<DecisionLine> = Client::with(&context.data, async |client| client.get("/v1/log", &json!({})).await)?;
    super::log::show(context, &lines);
    Ok(())
}

fn stream(context: &Context, parameters: &StreamParameters) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let write = |bytes: &[u8]| out.write_all(bytes).and_then(|()| out.flush()).map_err(Failure::environment);
    Client::with(&context.data, async |client| client.pieces("/v1/standby", parameters, write).await.map(|_| ()))
}

fn take(context: &Context) -> Result<(), Failure> {
    // Lines are read apart, so that what waits is tried again while none come.
    let (lines, queue) = mpsc::sync_channel::<std::io::Result<String>>(AT_ONCE);
    std::thread::spawn(move || std::io::stdin().lock().lines().try_for_each(|line| lines.send(line)));
    let taken = Client::with(&context.data, async |client| {
        let (mut waiting, mut taken, mut open) = (VecDeque::new(), 0, true);
        while open || !waiting.is_empty() {
            match queue.recv_timeout(AGAIN) {
                Ok(line) => {
                    let more = std::iter::once(line).chain(std::iter::from_fn(|| queue.try_recv().ok()));
                    for line in more {
                        let line = line.map_err(Failure::environment)?;
                        let decision: DecisionOut =
                            serde_json::from_str(&line).map_err(|error| Failure::usage(format!("`{line}`: {error}")))?;
                        waiting.push_back(decision);
                    }
                }
                Err(mpsc::RecvTimeoutError::Timeout) => (),
                Err(mpsc::RecvTimeoutError::Disconnected) if !open => tokio::time::sleep(AGAIN).await,
                Err(mpsc::RecvTimeoutError::Disconnected) => open = false,
            }
            let some: Vec<DecisionOut> = waiting.drain(..).collect();
            for (number, chunk) in some.chunks(AT_ONCE).enumerate() {
                let after = some.get((number + 1) * AT_ONCE..).unwrap_or_default();
                let waiting_from = waiting.iter().chain(after).map(|one: &DecisionOut| one.position).min();
                let parameters = TakeParameters { decisions: chunk.to_vec(), waiting_from };
                let reply: TakenReply = client.post("/v1/standby", &parameters).await?;
                taken += reply.taken;
                waiting.extend(reply.waiting);
            }
            if !open && !waiting.is_empty() {
                context.screen.note(&format!("{} decisions are about records that are not here yet; waiting for them", waiting.len()));
            }
        }
        Ok(taken)
    })?;
    context.screen.line(&format!("{taken} decisions taken over"));
    context.screen.value(&json!({ "taken": taken }));
    Ok(())
}
