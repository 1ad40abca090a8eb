//! `huecry init`: make a node's directory and keys; found a federation, or ask to join one.

use super::{Context, Failure};
use crate::{
    charter::{MemberKind, Quota},
    clock::Clock,
    envelope::FederationId,
    node::{
        membership,
        setup::{self, NewNode},
    },
};

/// Make a node: directory, keys, configuration. Founds a federation, or writes a request to join one.
#[derive(clap::Args)]
pub struct Arguments {
    /// The member this node belongs to: a short id such as xx-police.
    #[arg(long, value_name = "ID")]
    member: String,
    /// country, vendor, coordinator or observer; who founds a federation is a coordinator.
    #[arg(long, required_unless_present_any = ["found", "node"])]
    kind: Option<String>,
    /// The organisation's name.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// For countries: two capital letters (ISO 3166-1).
    #[arg(long, value_name = "CODE")]
    country: Option<String>,
    /// Where to listen, such as /ip4/192.0.2.1/tcp/4100.
    #[arg(long, value_name = "MULTIADDRESS")]
    listen: Vec<String>,
    /// A further channel: NAME=federation, NAME=circle:CIRCLE or NAME=named:MEMBER,MEMBER.
    #[arg(long, value_name = "NAME=AUDIENCE")]
    channel: Vec<String>,
    /// Found a federation of this name, with this node as its first member and steward.
    #[arg(long, value_name = "NAME", conflicts_with = "federation")]
    found: Option<String>,
    /// How many records a day each member may publish, where its agreement or the charter says nothing else of it; 50,000 unless said.
    #[arg(long, value_name = "NUMBER", requires = "found")]
    records_a_day: Option<u64>,
    /// The id of the federation to join; writes request.huecry for its stewards. Left out, the request is for a federation
    /// that is being founded.
    #[arg(long, value_name = "ID")]
    federation: Option<String>,
    /// Make a further machine of a member that takes part already, under this name; writes node-request.huecry for the
    /// holder of the member's root key.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["found", "federation"])]
    node: Option<String>,
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let member = arguments.member.parse().map_err(Failure::usage)?;
    let kind = arguments.kind.as_deref().unwrap_or(MemberKind::Coordinator.name());
    let kind: MemberKind = kind.parse().map_err(Failure::usage)?;
    let display = arguments.name.unwrap_or_else(|| arguments.member.clone());
    let new = NewNode {
        member,
        display,
        kind,
        country: arguments.country,
        listen: arguments.listen,
        channels: arguments.channel,
        node: arguments.node,
    };
    if arguments.found.is_some() && kind != MemberKind::Coordinator {
        return Err(Failure::usage("who founds a federation keeps its charter current, and so is a coordinator; use --kind coordinator"));
    }
    let federation: Option<FederationId> = match &arguments.federation {
        Some(text) => {
            Some(text.parse().map_err(|_| Failure::usage(format!("`{text}` is no federation id; it has 64 hexadecimal digits")))?)
        }
        None => None,
    };
    setup::init(&context.data, &new)?;
    let now = Clock::System.now();
    let screen = &context.screen;
    let data = context.data.display();
    if let Some(name) = &new.node {
        let path = membership::write_node_request(&context.data, &new.member, name)?;
        screen.line(&format!("wrote {}", path.display()));
        screen.value(&serde_json::json!({ "data": data.to_string(), "request": path }));
        screen.note("next: `huecry card node` it at a node of the member, then `huecry join` the invitation here");
        return Ok(());
    }
    match (arguments.found, federation) {
        (Some(name), _) => {
            let federation =
                membership::found(&context.data, &new, &name, arguments.records_a_day.map_or(Quota::COMMON, Quota::of_day), now)?;
            screen.line(&format!("founded federation {federation}"));
            screen.value(&serde_json::json!({ "data": data.to_string(), "federation": federation.to_string() }));
            screen.note(&format!("keys are in {data}/keys; the root and steward keys belong offline, see the README"));
            screen.note(&format!("next: huecry --data {data} import FILE, then huecry --data {data} query VALUE"));
        }
        (None, federation) => {
            let path = membership::write_request(&context.data, &new, federation, now)?;
            screen.line(&format!("wrote {}", path.display()));
            screen.value(&serde_json::json!({ "data": data.to_string(), "request": path }));
            screen.note("next: send it to the federation's stewards; with their invitation run `huecry join INVITATION`");
        }
    }
    Ok(())
}
