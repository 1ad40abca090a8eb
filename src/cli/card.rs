//! `huecry card`: what our member says about itself.
//!
//! Every change makes the next card, which the root key signs: here if it lies here, else a draft travels to it
//! (`--draft`, `card sign`) and the signed card comes back (`card publish`).

use super::{Context, Failure, client::Client, key};
use crate::{
    cbor,
    charter::{CARD_BYTES_MAX, Card, CardDraft, LastHead, Roster},
    clock::Clock,
    envelope::{KeyId, Readers},
    http::{DocumentParameters, HeadLine, RosterReply},
    node::{
        door::document,
        keys::{KeyStore, Purpose},
        membership::{self, NodeRequest, channel_of},
        setup,
    },
    record::{FeedId, MemberId, Timestamp},
};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// How often a change is made anew because something was published meanwhile.
const TRIES: usize = 5;

/// Show and change our member's card: keys, nodes, channels, and the pins that outlive a stolen key.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Show a member's card; our own unless named.
    Show { member: Option<String> },
    /// Give this node a new publishing or node key; the old one is retired in good order.
    Rotate {
        #[arg(value_parser = ["publishing", "node"])]
        what: String,
        #[command(flatten)]
        way: WayArguments,
    },
    /// After the loss of the root key: write the request with which the stewards replace it by a new one, and with it the
    /// card signed anew.
    NewRoot {
        /// The new root key's file, if it does not lie in the data directory.
        #[arg(long, value_name = "FILE")]
        root: Option<PathBuf>,
    },
    /// Take a node off the card: its connections close everywhere, its publishing key ends.
    Revoke {
        /// The node's name.
        node: String,
        #[command(flatten)]
        way: WayArguments,
    },
    /// After the theft of this whole node, from the machine that you still have: pins what the publishing key wrote, opens a new epoch, and gives
    /// the node a new publishing and node key. The thief is out within a minute.
    Stolen {
        /// The last head of a feed that is yours, if the node has taken in what the thief wrote: FEED#SEQ.
        #[arg(long, value_name = "FEED#SEQ")]
        last: Vec<String>,
        #[command(flatten)]
        way: WayArguments,
    },
    /// After a theft of this node's publishing key: what it wrote stands up to what is known here, nothing after; a new
    /// key begins a new epoch.
    Pin {
        /// The stolen key's id; this node's publishing key unless said.
        key: Option<String>,
        /// The last head of a feed that is yours, if the node has taken in what the thief wrote: FEED#SEQ.
        #[arg(long, value_name = "FEED#SEQ")]
        last: Vec<String>,
        #[command(flatten)]
        way: WayArguments,
    },
    /// Open a channel (NAME, NAME=federation, NAME=circle:CIRCLE, NAME=named:MEMBER,MEMBER), or close one.
    Channel {
        channel: String,
        #[arg(long)]
        close: bool,
        #[arg(long)]
        description: Option<String>,
        /// Members of the circle that it is not for.
        #[arg(long, value_name = "MEMBER", value_delimiter = ',')]
        except: Vec<String>,
        /// Audiences that its readers may pass it on to: federation, circle:NAME, member:ID. Never AMBER+STRICT or RED.
        #[arg(long, value_name = "AUDIENCE", value_delimiter = ',')]
        onward: Vec<String>,
        #[command(flatten)]
        way: WayArguments,
    },
    /// Say of a node of ours that it stands behind a diode or without a network and takes in bundles: it counts as offline by
    /// design.
    ReceiveOnly {
        node: String,
        /// It is connected again.
        #[arg(long)]
        undo: bool,
        #[command(flatten)]
        way: WayArguments,
    },
    /// Add another node of our member, from the node-request.huecry that `huecry init --node NAME` made there.
    Node {
        request: PathBuf,
        #[command(flatten)]
        way: WayArguments,
    },
    /// Sign a draft with the root key, on whatever machine that is.
    Sign {
        draft: PathBuf,
        #[arg(long, value_name = "FILE")]
        root: PathBuf,
        #[arg(long, value_name = "FILE", default_value = "card.huecry")]
        out: PathBuf,
    },
    /// Put a signed card in force here, from where it spreads.
    Publish { card: PathBuf },
}

#[derive(clap::Args)]
struct WayArguments {
    /// The root key's file, if it does not lie in the data directory.
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// Write the card as a draft, to be signed elsewhere.
    #[arg(long, value_name = "FILE", conflicts_with = "root")]
    draft: Option<PathBuf>,
}

/// What the node knows, as a change needs it.
struct Known {
    roster: Roster,
    member: MemberId,
    node: String,
    card: Card,
    heads: Vec<LastHead>,
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let keys = || KeyStore::in_data(&context.data).map_err(Failure::environment);
    match arguments.verb {
        Verb::Show { member } => show(context, member.as_deref()),
        Verb::Rotate { what, way } if what == "node" => {
            let next = keys()?.create_next(Purpose::Node, None).map_err(Failure::environment)?;
            change(context, &way, |known, now| known.card.with_new_node_key(&known.node, next, now).map_err(Failure::usage))
        }
        Verb::Rotate { way, .. } => {
            let next = keys()?.create_next(Purpose::Publishing, None).map_err(Failure::environment)?;
            let old = keys()?.public(Purpose::Publishing).map_err(Failure::environment)?.id();
            change(context, &way, |known, now| {
                let heads = known.heads_of(old);
                known.card.with_new_publishing_key(old, next, &heads, now).map_err(Failure::usage)
            })
        }
        Verb::NewRoot { root } => new_root(context, root.as_deref()),
        Verb::Revoke { node, way } => {
            change(context, &way, |known, now| known.card.without_node(&node, &known.heads, now).map_err(Failure::usage))
        }
        Verb::Stolen { last, way } => {
            let stolen = keys()?.public(Purpose::Publishing).map_err(Failure::environment)?.id();
            let publishing = keys()?.create_next(Purpose::Publishing, None).map_err(Failure::environment)?;
            let node = keys()?.create_next(Purpose::Node, None).map_err(Failure::environment)?;
            let cut = cut_at(context, &last)?;
            change(context, &way, |known, now| {
                let heads = known.heads_of_but(stolen, &cut);
                known.card.with_stolen_node(&known.node, (stolen, publishing), node, &heads, now).map_err(Failure::usage)
            })
        }
        Verb::Pin { key, last, way } => {
            let stolen = match key {
                Some(text) => text.parse().map_err(|_| Failure::usage(format!("`{text}` is no key id; see `huecry card show`")))?,
                None => keys()?.public(Purpose::Publishing).map_err(Failure::environment)?.id(),
            };
            let next = keys()?.create_next(Purpose::Publishing, None).map_err(Failure::environment)?;
            let cut = cut_at(context, &last)?;
            change(context, &way, |known, now| {
                let heads = known.heads_of_but(stolen, &cut);
                known.card.with_stolen_key(stolen, next, &heads, now).map_err(Failure::usage)
            })
        }
        Verb::Channel { channel, close: true, way, .. } => {
            let name = channel.parse().map_err(Failure::usage)?;
            change(context, &way, |known, now| known.card.without_channel(&name, now).map_err(Failure::usage))
        }
        Verb::ReceiveOnly { node, undo, way } => {
            change(context, &way, |known, now| known.card.with_receive_only(&node, !undo, now).map_err(Failure::usage))
        }
        Verb::Channel { channel, description, except, onward, way, .. } => {
            let (name, audience) = channel_of(&channel)?;
            let audience = audience.except(&except).and_then(|audience| audience.with_onward(&onward)).map_err(Failure::usage)?;
            change(context, &way, |known, now| Ok(known.card.with_channel(name.clone(), audience.clone(), description.clone(), now)))
        }
        Verb::Node { request, way } => {
            let request: NodeRequest = setup::read_file(&request, "node request")?;
            change(context, &way, |known, now| {
                if request.member != known.member {
                    return Err(Failure::usage(format!("this is a node of {}, and this card is of {}", request.member, known.member)));
                }
                Ok(known.card.with_node(&request.name, request.node, request.publishing, now))
            })?;
            super::charter::invite(context)
        }
        Verb::Sign { draft, root, out } => {
            let draft: CardDraft = setup::read_file(&draft, "card draft")?;
            let root = key::read(&root, Purpose::Root)?;
            said(&draft.card().map_err(Failure::usage)?).iter().for_each(|line| context.screen.note(line));
            let signed = draft.sign(&root).map_err(Failure::usage)?;
            std::fs::write(&out, signed.bytes()).map_err(|error| Failure::environment(format!("{}: {error}", out.display())))?;
            context.screen.line(&format!("wrote {}", out.display()));
            context.screen.value(&json!({ "card": out }));
            Ok(())
        }
        Verb::Publish { card } => {
            let failed = |error: std::io::Error| Failure::environment(format!("{}: {error}", card.display()));
            let length = std::fs::metadata(&card).map_err(failed)?.len();
            if length > CARD_BYTES_MAX as u64 {
                return Err(Failure::usage(format!("{}: longer than a card may be", card.display())));
            }
            send(context, std::fs::read(&card).map_err(failed)?)?;
            context.screen.line("the card is in force here, and spreads from here");
            context.screen.value(&json!({ "published": true }));
            Ok(())
        }
    }
}

impl Known {
    /// [`Self::heads_of`] with other heads for some feeds.
    fn heads_of_but(&self, key: KeyId, cut: &[LastHead]) -> Vec<LastHead> {
        let mut heads = self.heads_of(key);
        heads.retain(|head| !cut.iter().any(|one| one.0 == head.0));
        heads.extend(cut.iter().cloned());
        heads
    }

    /// The last heads of the feeds that a publishing key of ours writes: those of its lane, in their newest epoch.
    fn heads_of(&self, key: KeyId) -> Vec<LastHead> {
        let lane = self.card.publishing.iter().find(|one| one.key.id() == key).map(|one| one.lane);
        let in_lane = self.heads.iter().filter(|(feed, _, _)| Some(feed.lane) == lane);
        let newest = |feed: &FeedId| {
            !self.heads.iter().any(|(other, _, _)| (&other.channel, other.lane) == (&feed.channel, feed.lane) && other.epoch > feed.epoch)
        };
        in_lane.filter(|(feed, _, _)| newest(feed)).cloned().collect()
    }
}

fn known(context: &Context) -> Result<Known, Failure> {
    let (reply, heads): (RosterReply, Vec<HeadLine>) = Client::with(&context.data, async |client| {
        Ok((client.get("/v1/roster", &json!({})).await?, client.get("/v1/heads", &json!({})).await?))
    })?;
    let roster = reply.roster().map_err(Failure::environment)?;
    let member: MemberId = reply.member.parse().map_err(Failure::environment)?;
    let card = roster.card(&member).cloned().ok_or_else(|| Failure::usage(format!("no card of {member} is known here")))?;
    let head = |line: &HeadLine| Some((line.feed.parse::<FeedId>().ok()?, line.seq, line.id.parse().ok()?));
    let heads = heads.iter().filter_map(head).collect();
    Ok(Known { roster, member, node: reply.node, card, heads })
}

/// Heads that a person names as the last honest ones.
fn cut_at(context: &Context, last: &[String]) -> Result<Vec<LastHead>, Failure> {
    let mut heads = Vec::new();
    for text in last {
        let wrong = || Failure::usage(format!("`{text}` is not FEED#SEQ, such as talos/c2#40"));
        let (feed, seq) = text.rsplit_once('#').ok_or_else(wrong)?;
        let (feed, seq): (FeedId, u64) = (feed.parse().map_err(|_| wrong())?, seq.parse().map_err(|_| wrong())?);
        let head: Value =
            Client::with(&context.data, async |client| client.get("/v1/head", &json!({ "feed": feed.to_string(), "seq": seq })).await)?;
        let id = head.get("id").and_then(Value::as_str).and_then(|id| id.parse().ok());
        heads.push((feed, seq, id.ok_or_else(|| Failure::nothing(format!("there is no {text} here")))?));
    }
    Ok(heads)
}

fn new_root(context: &Context, file: Option<&Path>) -> Result<(), Failure> {
    let known = known(context)?;
    let root = root(context, file)?;
    let member = known.roster.member(&known.member).cloned();
    let mut member = member.ok_or_else(|| Failure::usage(format!("{} is no member any more", known.member)))?;
    if member.root == root.public() {
        return Err(Failure::usage("this is the root key that the charter names; there is nothing to replace"));
    }
    member.root = root.public();
    let draft = CardDraft::new(&known.card.renewed(Clock::System.now()), known.roster.federation());
    let path = membership::write_renewal(&context.data, known.roster.federation(), member, &draft.sign(&root).map_err(Failure::usage)?)?;
    context.screen.line(&format!("wrote {}", path.display()));
    context.screen.value(&json!({ "request": path, "root": hex::encode(root.public().to_bytes()) }));
    context
        .screen
        .note("next: the stewards take it into the next charter with `huecry charter edit --request`, and ask you back by telephone");
    Ok(())
}

/// Makes the next card and puts it in force, or writes it as a draft.
fn change(context: &Context, way: &WayArguments, make: impl Fn(&Known, Timestamp) -> Result<Card, Failure>) -> Result<(), Failure> {
    let mut tries = 0;
    loop {
        let known = known(context)?;
        let card = make(&known, Clock::System.now())?;
        let draft = CardDraft::new(&card, known.roster.federation());
        if let Some(path) = &way.draft {
            std::fs::write(path, cbor::to_vec(&draft)).map_err(|error| Failure::environment(format!("{}: {error}", path.display())))?;
            context.screen.line(&format!("wrote {}, card {} of {}", path.display(), card.serial, known.member));
            context.screen.value(&json!({ "draft": path, "serial": card.serial }));
            context.screen.note("next: `huecry card sign` it where the root key is, then `huecry card publish` it here");
            return Ok(());
        }
        let signed = draft.sign(&root(context, way.root.as_deref())?).map_err(Failure::usage)?;
        tries += 1;
        match send(context, signed.bytes().to_vec()) {
            Err(error) if tries < TRIES && error.text.contains("make it again") => (),
            Err(error) => return Err(error),
            Ok(()) => {
                context.screen.line(&format!("card {} of {} is in force here, and spreads from here", card.serial, known.member));
                context.screen.value(&json!({ "member": known.member.to_string(), "serial": card.serial }));
                return Ok(());
            }
        }
    }
}

fn root(context: &Context, file: Option<&Path>) -> Result<crate::envelope::SecretKey, Failure> {
    if let Some(path) = file {
        return key::read(path, Purpose::Root);
    }
    let keys = KeyStore::in_data(&context.data).map_err(Failure::environment)?;
    if !keys.has(Purpose::Root) {
        return Err(Failure::usage("the root key is not here: say where with --root, or write a --draft and sign it where the key is"));
    }
    keys.read(Purpose::Root).map_err(Failure::environment)
}

fn send(context: &Context, bytes: Vec<u8>) -> Result<(), Failure> {
    Client::with(&context.data, async |client| {
        client.stream("/v1/document", &DocumentParameters { document: document::CARD }, bytes.into()).await.map(|_: Value| ())
    })
}

/// A card in lines for a person.
fn said(card: &Card) -> Vec<String> {
    let span = |from: Timestamp, until: Option<Timestamp>| match until {
        Some(until) => format!("from {from} until {until}"),
        None => format!("since {from}"),
    };
    let mut lines = vec![format!("card {} of {}, signed {}", card.serial, card.member, card.issued)];
    lines.extend(card.nodes.iter().map(|one| format!("node        {}  key {}, {}", one.name, one.key.id(), span(one.from, one.until))));
    lines.extend(
        card.publishing
            .iter()
            .map(|one| format!("publishing  {}  lane {} on node {}, {}", one.key.id(), one.lane, one.node, span(one.from, one.until))),
    );
    lines.extend(card.channels.iter().map(|one| {
        let about = one.description.as_ref().map(|text| format!("  {text}")).unwrap_or_default();
        let not = match &one.audience.readers {
            Readers::Circle { excluded, .. } if !excluded.is_empty() => {
                format!(" except {}", excluded.iter().map(|id| id.as_str()).collect::<Vec<_>>().join(", "))
            }
            _ => String::new(),
        };
        let onward = &one.audience.onward;
        let onward = if onward.is_empty() { String::new() } else { format!(", onward to {}", onward.join(", ")) };
        format!("channel     {}  to {}{not}{onward}, {}{about}", one.name, one.audience.name(), span(one.from, one.until))
    }));
    lines.extend(card.pins.iter().map(|pin| {
        format!(
            "pin         key {}: {} lane {} epoch {} stands up to #{}, head {}",
            pin.key, pin.channel, pin.lane, pin.epoch, pin.seq, pin.head
        )
    }));
    lines.extend(card.epochs.iter().map(|one| format!("epoch       {} lane {} begins epoch {}", one.channel, one.lane, one.epoch)));
    lines
}

fn show(context: &Context, member: Option<&str>) -> Result<(), Failure> {
    let known = known(context)?;
    let member: MemberId = member.map_or(Ok(known.member.clone()), str::parse).map_err(Failure::usage)?;
    let ids: Vec<String> = known.roster.cards().map(|card| card.card().member.to_string()).collect();
    let unknown = || Failure::usage(crate::record::UnknownName::new("member with a card", member.as_str(), ids.iter().map(String::as_str)));
    let card = known.roster.card(&member).ok_or_else(unknown)?;
    said(card).iter().for_each(|line| context.screen.line(line));
    let key = |one: &crate::charter::PublishingKey| json!({ "key": one.key.id().to_string(), "lane": one.lane, "node": one.node, "until": one.until.map(|until| until.to_string()) });
    let node = |one: &crate::charter::NodeKey| json!({ "name": one.name, "key": one.key.id().to_string(), "until": one.until.map(|until| until.to_string()) });
    context.screen.value(&json!({
        "member": card.member.to_string(),
        "serial": card.serial,
        "publishing": card.publishing.iter().map(key).collect::<Vec<_>>(),
        "nodes": card.nodes.iter().map(node).collect::<Vec<_>>(),
        "channels": card.channels.iter().map(|one| one.name.to_string()).collect::<Vec<_>>(),
        "pins": card.pins.len(),
        "epochs": card.epochs.len(),
    }));
    Ok(())
}
