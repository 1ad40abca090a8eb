//! The command line: one file a verb. Results go to stdout, everything else to stderr.
//!
//! Exit codes: 0 done; 1 nothing found, or not permitted; 2 the command or its input is wrong; 3 the machine is in the way
//! (disk, port, lock, network). A new verb is a file here, a line in `Verb` and a line in `dispatch`.

mod admit;
mod agreements;
mod ask;
mod audit;
mod bench;
mod bundle;
mod card;
mod charter;
mod client;
mod clock;
mod dashboard;
mod decisions;
mod demo;
mod disputes;
mod doctor;
mod document;
mod erase;
mod explain;
mod export;
mod follow;
mod force;
mod held;
mod init;
mod join;
mod key;
mod ledger;
mod log;
mod logs;
mod notify;
mod opened;
mod orders;
mod outlets;
mod paper;
mod policy;
mod print;
mod publish;
mod pull;
mod quarantine;
mod query;
mod receipts;
mod renew;
mod retention;
mod run;
mod share;
mod sim;
mod status;
mod stop_enforcing;
mod subject;
mod sync;
mod throttle;
mod token;
mod top;
mod torture;
mod unblock;
mod verify;
mod withdraw;

use clap::{Parser, Subcommand};
use print::Screen;
use std::{path::PathBuf, process::ExitCode};

/// A federated node for sharing cyber-threat indicators.
#[derive(Parser)]
#[command(
    name = "huecry",
    version,
    about,
    max_term_width = 100,
    after_help = "Exit codes: 0 done, 1 nothing found or not permitted, 2 wrong input, 3 the machine is in the way."
)]
struct Arguments {
    /// The node's data directory.
    #[arg(long, global = true, env = "HUECRY_DATA", default_value = "huecry-data", value_name = "DIR")]
    data: PathBuf,
    /// Print results as JSON.
    #[arg(long, global = true)]
    json: bool,
    /// Why you look: a case, a request. An auditor of this node reads it.
    #[arg(long, global = true, env = "HUECRY_BECAUSE", value_name = "TEXT")]
    because: Option<String>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Init(init::Arguments),
    Charter(charter::Arguments),
    Card(card::Arguments),
    Key(key::Arguments),
    Admit(admit::Arguments),
    Join(join::Arguments),
    Run(run::Arguments),
    Import(publish::ImportArguments),
    Publish(publish::PublishArguments),
    Pull(pull::Arguments),
    Query(query::Arguments),
    Export(export::Arguments),
    Match(logs::Arguments),
    Explain(explain::Arguments),
    Withdraw(withdraw::Arguments),
    Renew(renew::Arguments),
    Subject(subject::Arguments),
    Erase(erase::Arguments),
    Retention(retention::Arguments),
    Disputes(disputes::Arguments),
    Held(held::Arguments),
    Policy(policy::Arguments),
    #[command(alias = "outlet")]
    Outlets(outlets::Arguments),
    Unblock(unblock::Arguments),
    StopEnforcing(stop_enforcing::Arguments),
    Throttle(throttle::Arguments),
    Force(force::Arguments),
    Follow(follow::Arguments),
    Sync(sync::Arguments),
    Receipts(receipts::Arguments),
    Share(share::Arguments),
    Ask(ask::Arguments),
    Sighting(ask::SightingArguments),
    Document(document::Arguments),
    Bundle(bundle::Arguments),
    Quarantine(quarantine::Arguments),
    Clock(clock::Arguments),
    Ledger(ledger::Arguments),
    Verify(verify::Arguments),
    Agreements(agreements::Arguments),
    Dashboard(dashboard::Arguments),
    Log(log::Arguments),
    Audit(audit::Arguments),
    Decisions(decisions::Arguments),
    Token(token::Arguments),
    Notify(notify::Arguments),
    Status(status::Arguments),
    Top(top::Arguments),
    Doctor(doctor::Arguments),
    Manual(paper::ManualArguments),
    Man(paper::ManArguments),
    Completions(paper::CompletionsArguments),
    Openapi(paper::OpenapiArguments),
    Demo(demo::Arguments),
    Sim(sim::Arguments),
    Bench(bench::Arguments),
    #[command(hide = true)]
    Torture(torture::Arguments),
}

/// What a verb may fail with.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    text: String,
}

impl Failure {
    /// Nothing found, or not permitted.
    fn nothing(text: impl std::fmt::Display) -> Self {
        Self { code: 1, text: text.to_string() }
    }

    /// The command or its input is wrong.
    fn usage(text: impl std::fmt::Display) -> Self {
        Self { code: 2, text: text.to_string() }
    }

    /// The machine is in the way.
    fn environment(text: impl std::fmt::Display) -> Self {
        Self { code: 3, text: text.to_string() }
    }
}

/// What every verb is given.
struct Context {
    data: PathBuf,
    screen: Screen,
}

/// Runs one command.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are answers, not errors; clap knows which is which.
            let _closed_terminal = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    if let Some(reason) = arguments.because {
        client::give_reason(reason);
    }
    let context = Context { data: arguments.data, screen: Screen::new(arguments.json) };
    match dispatch(&context, arguments.verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.text.is_empty() {
                context.screen.note(&format!("huecry: {}", failure.text));
            }
            ExitCode::from(failure.code)
        }
    }
}

fn dispatch(context: &Context, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Init(arguments) => init::run(context, arguments),
        Verb::Charter(arguments) => charter::run(context, arguments),
        Verb::Card(arguments) => card::run(context, arguments),
        Verb::Follow(arguments) => follow::run(context, arguments),
        Verb::Sync(arguments) => sync::run(context, arguments),
        Verb::Receipts(arguments) => receipts::run(context, arguments),
        Verb::Share(arguments) => share::run(context, arguments),
        Verb::Ask(arguments) => ask::run(context, arguments),
        Verb::Sighting(arguments) => ask::sighting(context, arguments),
        Verb::Document(arguments) => document::run(context, arguments),
        Verb::Bundle(arguments) => bundle::run(context, arguments),
        Verb::Quarantine(arguments) => quarantine::run(context, arguments),
        Verb::Clock(arguments) => clock::run(context, arguments),
        Verb::Ledger(arguments) => ledger::run(context, arguments),
        Verb::Subject(arguments) => subject::run(context, arguments),
        Verb::Erase(arguments) => erase::run(context, arguments),
        Verb::Retention(arguments) => retention::run(context, arguments),
        Verb::Verify(arguments) => verify::run(context, arguments),
        Verb::Key(arguments) => key::run(context, arguments),
        Verb::Admit(arguments) => admit::run(context, arguments),
        Verb::Join(arguments) => join::run(context, arguments),
        Verb::Run(arguments) => run::run(context, arguments),
        Verb::Import(arguments) => publish::import(context, arguments),
        Verb::Publish(arguments) => publish::publish(context, arguments),
        Verb::Pull(arguments) => pull::run(context, arguments),
        Verb::Query(arguments) => query::run(context, arguments),
        Verb::Export(arguments) => export::run(context, arguments),
        Verb::Match(arguments) => logs::run(context, arguments),
        Verb::Explain(arguments) => explain::run(context, arguments),
        Verb::Withdraw(arguments) => withdraw::run(context, arguments),
        Verb::Renew(arguments) => renew::run(context, arguments),
        Verb::Disputes(arguments) => disputes::run(context, arguments),
        Verb::Held(arguments) => held::run(context, arguments),
        Verb::Policy(arguments) => policy::run(context, arguments),
        Verb::Outlets(arguments) => outlets::run(context, arguments),
        Verb::Unblock(arguments) => unblock::run(context, arguments),
        Verb::StopEnforcing(arguments) => stop_enforcing::run(context, arguments),
        Verb::Throttle(arguments) => throttle::run(context, arguments),
        Verb::Force(arguments) => force::run(context, arguments),
        Verb::Agreements(arguments) => agreements::run(context, arguments),
        Verb::Decisions(arguments) => decisions::run(context, arguments),
        Verb::Dashboard(arguments) => dashboard::run(context, arguments),
        Verb::Log(arguments) => log::run(context, arguments),
        Verb::Audit(arguments) => audit::run(context, arguments),
        Verb::Token(arguments) => token::run(context, arguments),
        Verb::Notify(arguments) => notify::run(context, arguments),
        Verb::Status(arguments) => status::run(context, arguments),
        Verb::Top(arguments) => top::run(context, arguments),
        Verb::Doctor(arguments) => doctor::run(context, arguments),
        Verb::Manual(arguments) => paper::manual(context, &arguments),
        Verb::Man(arguments) => paper::man(context, &arguments),
        Verb::Completions(arguments) => paper::completions(&arguments),
        Verb::Openapi(arguments) => paper::openapi(&arguments),
        Verb::Demo(arguments) => demo::run(context, arguments),
        Verb::Torture(arguments) => torture::run(context, arguments),
        Verb::Sim(arguments) => sim::run(context, arguments),
        Verb::Bench(arguments) => bench::run(context, arguments),
    }
}

impl From<crate::node::setup::SetupError> for Failure {
    fn from(error: crate::node::setup::SetupError) -> Self {
        use crate::node::{rules::RulesError, setup::SetupError as E};
        match error {
            E::Io { .. } | E::Documents(_) | E::Ledger(_) | E::Key(_) | E::Rules(RulesError::Io { .. }) => Self::environment(error),
            _ => Self::usage(error),
        }
    }
}

/// A runtime for a verb that speaks to the local window.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::environment)
}
