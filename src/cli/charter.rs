//! `huecry charter`: the stewards' verb. Nothing here needs a network; only `publish` needs a node.
//!
//! ```text
//! new | edit -> charter.toml -> diff -> sign (proposal and signature) -> sign elsewhere -> verify -> publish
//! ```

use super::{Context, Failure, client::Client, key};
use crate::{
    cbor,
    charter::{
        CHARTER_TEXT_BYTES_MAX, Charter, Draft, PROPOSAL_BYTES_MAX, Past, Proposal, SIGNATURE_BYTES_MAX, Signature, SignedCharter, Steward,
        changes, charter_of_text, charter_text,
    },
    clock::Clock,
    config::Config,
    http::{DocumentParameters, RosterReply},
    node::{
        door::document,
        keys::{KeyStore, Purpose},
        membership::{self, Terms},
    },
    record::{Timestamp, Tlp},
};
use serde_json::{Value, json};
use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

/// Write, compare, sign and publish the charter: who is in the federation.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Write the text of a first charter, to be edited.
    New(NewArguments),
    /// Write the text of the next version, to be edited; with --request, new members in it.
    Edit(EditArguments),
    /// Say in words what a text or proposal would change.
    Diff(FileArguments),
    /// Sign a text (which makes it a proposal) or a proposal with a steward's key. Needs no network.
    Sign(SignArguments),
    /// Say whether a proposal with these signatures may be published.
    Verify(SignedArguments),
    /// Show the charter in force, or a proposal: what it changes, who has signed, who is missing.
    Show(ShowArguments),
    /// Put a proposal in force here, from where it spreads to every node.
    Publish(SignedArguments),
}

#[derive(clap::Args)]
struct NewArguments {
    /// The federation's name.
    name: String,
    /// A steward: NAME=PUBLICKEY, as `huecry key new steward` prints it.
    #[arg(long, required = true, value_name = "NAME=KEY")]
    steward: Vec<String>,
    /// How many stewards must sign; the smallest majority unless said.
    #[arg(long)]
    threshold: Option<u64>,
    #[command(flatten)]
    newcomers: NewcomerArguments,
}

#[derive(clap::Args)]
struct EditArguments {
    #[command(flatten)]
    newcomers: NewcomerArguments,
    /// The version before, if no node is here: a proposal, or charter.huecry.
    #[arg(long, value_name = "FILE")]
    before: Option<PathBuf>,
}

#[derive(clap::Args)]
struct NewcomerArguments {
    /// The request.huecry of a new member.
    #[arg(long, value_name = "FILE")]
    request: Vec<PathBuf>,
    /// Until when vendors and observers among them take part; three years unless said.
    #[arg(long, value_name = "DATE")]
    until: Option<String>,
    /// The highest TLP marking for vendors and observers among them.
    #[arg(long, value_name = "TLP", default_value = "amber")]
    tlp_max: String,
    /// How many records a day each vendor and observer among them may publish; what the charter sets for all unless said.
    #[arg(long, value_name = "NUMBER")]
    records_a_day: Option<u64>,
    /// Where to write the text.
    #[arg(long, value_name = "FILE", default_value = "charter.toml")]
    out: PathBuf,
}

#[derive(clap::Args)]
struct FileArguments {
    /// A charter.toml or a proposal.
    file: PathBuf,
    /// The version before, if no node is here.
    #[arg(long, value_name = "FILE")]
    before: Option<PathBuf>,
}

#[derive(clap::Args)]
struct SignArguments {
    #[command(flatten)]
    what: FileArguments,
    /// The steward's key file.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Sign although this key has signed another charter of this version. Two valid ones stop the federation's changes.
    #[arg(long)]
    again: bool,
}

#[derive(clap::Args)]
struct SignedArguments {
    /// The proposal.
    proposal: PathBuf,
    /// Signatures that came back from stewards.
    signatures: Vec<PathBuf>,
}

#[derive(clap::Args)]
struct ShowArguments {
    /// A proposal; the charter in force unless given.
    proposal: Option<PathBuf>,
    /// Signatures that came back from stewards.
    signatures: Vec<PathBuf>,
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    match arguments.verb {
        Verb::New(arguments) => new(context, &arguments),
        Verb::Edit(arguments) => edit(context, &arguments),
        Verb::Diff(arguments) => diff(context, &arguments),
        Verb::Sign(arguments) => sign(context, &arguments),
        Verb::Verify(arguments) => verify(context, &arguments),
        Verb::Show(arguments) => show(context, &arguments),
        Verb::Publish(arguments) => publish(context, &arguments),
    }
}

fn terms(arguments: &NewcomerArguments) -> Result<Terms, Failure> {
    let wrong = |text: &String| Failure::usage(format!("`{text}` is no time; write 2029-12-31"));
    let until = arguments.until.as_ref().map(|text| Timestamp::parse(text).ok_or_else(|| wrong(text))).transpose()?;
    let tlp_max = Tlp::parse(&arguments.tlp_max).map_err(Failure::usage)?;
    Ok(Terms { until, tlp_max, records_a_day: arguments.records_a_day })
}

fn new(context: &Context, arguments: &NewArguments) -> Result<(), Failure> {
    let steward = |text: &String| {
        let wrong = |why: &dyn std::fmt::Display| Failure::usage(format!("`{text}` is not NAME=KEY: {why}"));
        let (name, key) = text.split_once('=').ok_or_else(|| wrong(&"there is no `=`"))?;
        Ok(Steward { name: name.to_owned(), key: key.parse().map_err(|error| wrong(&error))? })
    };
    let stewards: Vec<Steward> = arguments.steward.iter().map(steward).collect::<Result<_, Failure>>()?;
    let threshold = arguments.threshold.unwrap_or(stewards.len() as u64 / 2 + 1);
    let newcomers = &arguments.newcomers;
    let draft = membership::first_draft(&arguments.name, stewards, threshold, &newcomers.request, terms(newcomers)?, Clock::System.now())?;
    write_text(context, &newcomers.out, &draft)
}

fn edit(context: &Context, arguments: &EditArguments) -> Result<(), Failure> {
    let (before, past) = before(context, arguments.before.as_deref())?
        .ok_or_else(|| Failure::usage("there is no charter here to go on from; `huecry charter new` writes a first one"))?;
    let newcomers = &arguments.newcomers;
    let draft = membership::next_draft(&before, &newcomers.request, terms(newcomers)?, Clock::System.now())?;
    past.check_charter(&draft.charter, Some(before.charter()), |_| true).map_err(Failure::usage)?;
    write_text(context, &newcomers.out, &draft)
}

fn write_text(context: &Context, out: &Path, draft: &Draft) -> Result<(), Failure> {
    let failed = |error| Failure::environment(format!("{}: {error}", out.display()));
    let mut file = match std::fs::File::create_new(out) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(Failure::usage(format!("{} is there already; say another name with --out", out.display())));
        }
        opened => opened.map_err(failed)?,
    };
    std::io::Write::write_all(&mut file, charter_text(draft).as_bytes()).map_err(failed)?;
    context.screen.line(&format!("wrote {}, the text of version {}", out.display(), draft.charter.version));
    context.screen.value(&json!({ "text": out, "version": draft.charter.version }));
    context.screen.note("next: edit it, see `huecry charter diff` of it, then `huecry charter sign` it");
    Ok(())
}

/// The version before, from a file or from this node, with the past that is known there.
fn before(context: &Context, file: Option<&Path>) -> Result<Option<(SignedCharter, Past)>, Failure> {
    if let Some(path) = file {
        let proposal = read_proposal(path)?;
        let signed = proposal.complete().map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
        let mut past = proposal.past().clone();
        past.add_charter(signed.charter());
        return Ok(Some((signed, past)));
    }
    if !context.data.join("ledger").exists() {
        return Ok(None);
    }
    let roster = roster(context)?.roster().map_err(Failure::environment)?;
    Ok(Some((roster.charter().clone(), roster.past().clone())))
}

pub(super) fn roster(context: &Context) -> Result<RosterReply, Failure> {
    Client::with(&context.data, async |client| client.get("/v1/roster", &json!({})).await)
}

fn read_bytes(path: &Path, bytes_max: usize) -> Result<Vec<u8>, Failure> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => Failure::usage(format!("{}: there is no such file", path.display())),
        _ => Failure::environment(format!("{}: {error}", path.display())),
    };
    let mut bytes = Vec::new();
    std::fs::File::open(path).map_err(failed)?.take(bytes_max as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > bytes_max {
        return Err(Failure::usage(format!("{}: longer than {bytes_max} bytes; this is not what is wanted here", path.display())));
    }
    Ok(bytes)
}

fn read_proposal(path: &Path) -> Result<Proposal, Failure> {
    Proposal::open(&read_bytes(path, PROPOSAL_BYTES_MAX)?).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

/// A proposal from a text or from a proposal.
fn proposed(context: &Context, arguments: &FileArguments) -> Result<Proposal, Failure> {
    let path = &arguments.file;
    if path.extension().is_none_or(|ending| ending != "toml") {
        return read_proposal(path);
    }
    let bytes = read_bytes(path, CHARTER_TEXT_BYTES_MAX as usize)?;
    let text = String::from_utf8(bytes).map_err(|_| Failure::usage(format!("{}: this is no text in UTF-8", path.display())))?;
    let before = before(context, arguments.before.as_deref())?;
    let wrong = |error: &dyn std::fmt::Display| Failure::usage(format!("{}: {error}", path.display()));
    let (before, past) = before.map_or((None, Past::default()), |(before, past)| (Some(before), past));
    let draft = charter_of_text(&text, before.as_ref(), &past, Clock::System.now()).map_err(|error| wrong(&error))?;
    let Draft { charter, cards } = draft;
    Proposal::new(charter, before.as_ref(), cards, &past).map_err(|error| wrong(&error))
}

fn with_signatures(path: &Path, signatures: &[PathBuf], context: &Context) -> Result<Proposal, Failure> {
    let mut proposal = read_proposal(path)?;
    for path in signatures {
        let wrong = |error: &dyn std::fmt::Display| Failure::usage(format!("{}: {error}", path.display()));
        let bytes = read_bytes(path, SIGNATURE_BYTES_MAX)?;
        let signature: Signature = cbor::from_slice(&bytes, SIGNATURE_BYTES_MAX).map_err(|error| wrong(&error))?;
        let name = proposal.add(&signature).map_err(|error| wrong(&error))?;
        context.screen.note(&format!("{}: the signature of {name}", path.display()));
    }
    Ok(proposal)
}

fn diff(context: &Context, arguments: &FileArguments) -> Result<(), Failure> {
    let proposal = proposed(context, arguments)?;
    let words = changes(proposal.before().map(SignedCharter::charter), proposal.charter(), proposal.past());
    words.iter().for_each(|line| context.screen.line(line));
    context.screen.value(&json!({ "version": proposal.charter().version, "changes": words }));
    Ok(())
}

fn sign(context: &Context, arguments: &SignArguments) -> Result<(), Failure> {
    let proposal = proposed(context, &arguments.what)?;
    let key = key::read(&arguments.key, Purpose::Steward)?;
    let version = proposal.charter().version;
    let words = changes(proposal.before().map(SignedCharter::charter), proposal.charter(), proposal.past());
    words.iter().for_each(|line| context.screen.note(&format!("  {line}")));
    let signature = proposal.sign(&key).map_err(Failure::usage)?;
    remember(&arguments.key, &proposal, arguments.again)?;
    let beside = |name: &str| arguments.what.file.with_file_name(name);
    let path = beside(&format!("charter-{version}.huecry"));
    let name = proposal.signatories().into_iter().find(|one| one.key == signature.key).map(|one| one.name).unwrap_or_default();
    let plain: String = name.chars().map(|char| if char.is_ascii_alphanumeric() { char.to_ascii_lowercase() } else { '-' }).collect();
    let signature_path = beside(&format!("charter-{version}.{plain}.signature"));
    let write = |path: &Path, bytes: &[u8]| {
        std::fs::write(path, bytes).map_err(|error| Failure::environment(format!("{}: {error}", path.display())))
    };
    if arguments.what.file != path {
        write(&path, &proposal.encode())?;
        context.screen.line(&format!("wrote {}, the proposal that the other stewards sign", path.display()));
    }
    write(&signature_path, &cbor::to_vec(&signature))?;
    context.screen.line(&format!("wrote {}, the signature of {name}", signature_path.display()));
    context
        .screen
        .value(&json!({ "proposal": path, "signature": signature_path, "version": version, "hash": proposal.hash().to_string() }));
    context.screen.note(&format!(
        "federation {}, charter hash {}: compare them with the other stewards",
        proposal.federation(),
        proposal.hash()
    ));
    Ok(())
}

/// Notes beside a steward's key what it has signed, and refuses a second charter of one version: two valid ones stop the
/// federation's changes until the stewards meet.
fn remember(key: &Path, proposal: &Proposal, again: bool) -> Result<(), Failure> {
    let path = key.with_extension("signed");
    let failed = |error: std::io::Error| Failure::environment(format!("{}: {error}", path.display()));
    let known = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        read => read.map_err(failed)?,
    };
    let place = format!("{} {} ", proposal.federation(), proposal.charter().version);
    let line = format!("{place}{}", proposal.hash());
    if known.lines().any(|known| known == line) {
        return Ok(());
    }
    if let Some(other) = known.lines().find(|known| known.starts_with(&place)).filter(|_| !again) {
        let hash = other.rsplit(' ').next().unwrap_or_default();
        return Err(Failure::nothing(format!(
            "this key has signed version {} already, as another charter ({hash}); two valid charters of one version stop the \
             federation's changes. If that other one will never be published, say --again",
            proposal.charter().version
        )));
    }
    let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&path).map_err(failed)?;
    std::io::Write::write_all(&mut file, format!("{line}\n").as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
}

fn verify(context: &Context, arguments: &SignedArguments) -> Result<(), Failure> {
    let proposal = with_signatures(&arguments.proposal, &arguments.signatures, context)?;
    let signed = proposal.complete().map_err(Failure::nothing)?;
    context.screen.line(&format!("version {} of federation {} may be published", signed.charter().version, signed.federation()));
    context.screen.value(&json!({ "version": signed.charter().version, "federation": signed.federation().to_string(), "complete": true }));
    Ok(())
}

fn show(context: &Context, arguments: &ShowArguments) -> Result<(), Failure> {
    let screen = &context.screen;
    let Some(path) = &arguments.proposal else { return show_current(context) };
    let proposal = with_signatures(path, &arguments.signatures, context)?;
    screen.line(&format!("version {} of `{}`, federation {}", proposal.charter().version, proposal.charter().name, proposal.federation()));
    screen.line(&format!("hash {}", proposal.hash()));
    let words = changes(proposal.before().map(SignedCharter::charter), proposal.charter(), proposal.past());
    words.iter().for_each(|line| screen.line(&format!("  {line}")));
    for signer in proposal.signatories() {
        let counts = match (signer.before, signer.after) {
            (true, false) => " (of the version before only)",
            (false, true) if proposal.before().is_some() => " (new in this version)",
            _ => "",
        };
        screen.line(&format!("{}  {}{counts}", if signer.signed { "signed " } else { "missing" }, signer.name));
    }
    let missing = proposal.complete().err().map(|error| error.to_string());
    screen.line(&missing.clone().unwrap_or_else(|| "enough have signed: `huecry charter publish` puts it in force".to_owned()));
    let signer = |one: crate::charter::Signatory| json!({ "name": one.name, "key": one.key.to_string(), "signed": one.signed });
    screen.value(&json!({
        "version": proposal.charter().version,
        "federation": proposal.federation().to_string(),
        "hash": proposal.hash().to_string(),
        "changes": words,
        "signers": proposal.signatories().into_iter().map(signer).collect::<Vec<_>>(),
        "missing": missing,
    }));
    Ok(())
}

fn show_current(context: &Context) -> Result<(), Failure> {
    let roster = roster(context)?.roster().map_err(Failure::environment)?;
    let charter: &Charter = roster.charter().charter();
    let screen = &context.screen;
    screen.line(&format!("version {} of `{}`, federation {}", charter.version, charter.name, roster.federation()));
    screen.line(&format!("hash {}, issued {}, until {}", roster.charter().hash(), charter.issued, charter.expires));
    let names: Vec<&str> = charter.stewards.iter().map(|one| one.name.as_str()).collect();
    screen.line(&format!("stewards    {} of {}: {}", charter.threshold, charter.stewards.len(), names.join(", ")));
    for member in &charter.members {
        let standing = roster.standing(&member.id, Clock::System.now());
        let card = roster.card(&member.id).map_or("no card yet".to_owned(), |card| format!("card {}", card.serial));
        let country = member.country.as_ref().map(|code| format!(" {code}")).unwrap_or_default();
        screen.line(&format!("member      {}  {}{country}, {}, {card}  {}", member.id, member.kind, standing.name(), member.name));
    }
    for circle in &charter.circles {
        let members: Vec<&str> = circle.members.iter().filter(|one| one.until.is_none()).map(|one| one.id.as_str()).collect();
        screen.line(&format!("circle      {}  generation {}: {}", circle.name, circle.generation, members.join(", ")));
    }
    if let Some(rival) = roster.rival() {
        screen.line(&format!(
            "DISPUTED    a second valid charter of this version exists, {}; nothing changes until the stewards sign a next version with \
             resolves = \"HASH\" of the one that stands",
            rival.hash()
        ));
    }
    screen.value(&json!({
        "version": charter.version,
        "federation": roster.federation().to_string(),
        "hash": roster.charter().hash().to_string(),
        "members": charter.members.iter().map(|member| member.id.to_string()).collect::<Vec<_>>(),
        "rival": roster.rival().map(|rival| rival.hash().to_string()),
    }));
    Ok(())
}

fn publish(context: &Context, arguments: &SignedArguments) -> Result<(), Failure> {
    let proposal = with_signatures(&arguments.proposal, &arguments.signatures, context)?;
    let signed = proposal.complete().map_err(Failure::nothing)?;
    let now = Clock::System.now();
    if signed.charter().version == 1 && !context.data.join("ledger").exists() {
        membership::enter(&context.data, &signed, &[], now)?;
        context.screen.line(&format!("founded federation {}", signed.federation()));
    } else {
        Client::with(&context.data, async |client| send_all(client, &signed, &proposal).await)?;
        context.screen.line(&format!("version {} is in force here, and spreads from here", signed.charter().version));
    }
    context.screen.value(&json!({ "version": signed.charter().version, "federation": signed.federation().to_string() }));
    invite(context)
}

/// Writes the invitation for those who are new, and says how it is used.
pub(super) fn invite(context: &Context) -> Result<(), Failure> {
    let roster = roster(context)?.roster().map_err(Failure::environment)?;
    let config = Config::read(&context.data.join("node.toml")).map_err(Failure::usage)?;
    let keys = KeyStore::in_data(&context.data).map_err(Failure::environment)?;
    let addresses = membership::addresses(&keys, &config)?;
    let line = membership::invitation_line(&roster.federation(), &addresses);
    let invitation = membership::write_invitation(&context.data, &roster, addresses)?;
    context.screen.note(&format!("for those who are new: huecry join {}", invitation.display()));
    context.screen.note(&format!("or, in one line that fetches the rest: huecry join {line}"));
    Ok(())
}

async fn send_all(client: &Client, signed: &SignedCharter, proposal: &Proposal) -> Result<(), Failure> {
    let send = async |document: u64, bytes: &[u8]| {
        let sent: Result<Value, Failure> = client.stream("/v1/document", &DocumentParameters { document }, bytes.to_vec().into()).await;
        sent.map(|_| ())
    };
    send(document::CHARTER, signed.bytes()).await?;
    for card in proposal.cards() {
        send(document::CARD, card).await?;
    }
    Ok(())
}
