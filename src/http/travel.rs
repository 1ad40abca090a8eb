//! How records travel, at the local window: what is followed, how complete we are, how far what is ours has got.

use super::{
    ApiError, Local, Operator, at_door, blocking,
    contract::{Acted, Json, Query, Raw, Whole},
};
use crate::{
    charter::{Card, Standing},
    envelope::{Class, Head},
    ledger::{FollowEntry, FollowLine},
    node::{door::Request, reach::Teller, wanted_of},
    policy::{Way, may_send},
    record::{ChannelName, FeedId, MemberId, ObservableType, RecordRef, Tlp, UnknownName},
    replica::{FOLLOWED_MAX, Filter},
};
use axum::{Extension, extract::State};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// How complete we are of one member's feeds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CompletenessLine {
    pub member: String,
    pub feeds: usize,
    pub batches: u64,
    pub records: u64,
    /// Batches that connected peers have and we lack.
    pub behind: u64,
    /// Records of batches that are here which were withheld from us.
    pub withheld: u64,
    /// By which members.
    pub withheld_by: BTreeSet<String>,
    /// Which members were asked for them since.
    pub asked: BTreeSet<String>,
    /// Batches in holes that nobody connected has for us.
    pub holes: u64,
    /// Its newest batch's own time.
    pub newest: Option<String>,
    /// What of it is followed, if not all.
    pub followed: Vec<String>,
    /// Records that were passed on to us from beyond their audience; of their batches we lack nothing that is ours to have.
    #[serde(default)]
    pub passed_on: u64,
}

/// What `sync` says.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct SyncReply {
    pub peers: usize,
    /// Batches that connected peers have and we lack, in all.
    pub behind: u64,
    /// Everything that is here.
    pub batches: u64,
    pub lines: Vec<CompletenessLine>,
}

pub(super) async fn sync(State(local): State<Local>, Extension(operator): Extension<Operator>) -> Result<Json<SyncReply>, ApiError> {
    blocking(move || completeness(&local, &operator)).await.map(Json)
}

fn completeness(local: &Local, operator: &Operator) -> Result<SyncReply, ApiError> {
    let view = local.view(operator);
    let network = local.watch.get();
    let wanted = local.ledger.followed()?.map(wanted_of).unwrap_or_default();
    let intake = local.current.get();
    let mut lines: BTreeMap<MemberId, CompletenessLine> = BTreeMap::new();
    let mut reply = SyncReply { peers: network.peers.len(), ..SyncReply::default() };
    for (feed, state) in local.ledger.feeds().into_iter().filter(|(_, state)| state.aside.is_none()) {
        let Some(seen) = view.feed(&feed) else { continue };
        let line = lines.entry(feed.member.clone()).or_default();
        line.feeds += 1;
        line.batches += seen.batches;
        line.records += seen.counts.total();
        line.newest = line.newest.take().max(Some(seen.time.to_string()));
        let head = crate::ledger::stored_head(&state.head)?;
        if !intake.roster.addresses(&head.audience, &head.member, &local.identity.member) {
            line.passed_on += seen.counts.total() - seen.counts.absent - seen.counts.gone;
            continue;
        }
        if let Some(filter) = wanted.of(&feed).filter(|filter| !filter.is_open()) {
            line.followed.push(format!("{}/{}: {}", feed.member, feed.channel, filter_text(&filter)));
        }
        // Missing batches may have any marking.
        if !seen.whole {
            continue;
        }
        line.withheld += state.withheld;
        line.holes += state.spans.gaps().map(|(first, last)| last - first + 1).sum::<u64>();
        if state.withheld > 0 {
            line.asked.extend(network.asked.get(&feed.to_string()).cloned().unwrap_or_default());
            for seq in local.ledger.withheld(&feed, WITHHELD_LOOKED_AT_MAX)? {
                let Some(batch) = local.ledger.batch_at(&feed, seq)? else { continue };
                let key = <[u8; 32]>::try_from(batch.entry.from.as_slice()).ok();
                let by = key.and_then(|key| intake.roster.node(&key, local.clock.now()).map(|node| node.member.to_string()));
                line.withheld_by.extend(by);
            }
        }
    }
    for (feed, behind) in network.behind.iter().filter(|_| operator.operates() || operator.clearance == Tlp::Red) {
        let Ok(feed) = feed.parse::<FeedId>() else { continue };
        let line = lines.entry(feed.member).or_default();
        line.behind = line.behind.saturating_add(*behind);
    }
    for (member, mut line) in lines {
        line.member = member.to_string();
        line.followed.dedup();
        reply.behind = reply.behind.saturating_add(line.behind);
        reply.batches += line.batches;
        reply.lines.push(line);
    }
    Ok(reply)
}

/// Batches that are looked at to say who withholds.
const WITHHELD_LOOKED_AT_MAX: usize = 256;

fn filter_text(filter: &Filter) -> String {
    let types: Vec<&str> = filter.types.iter().map(|kind| kind.name()).collect();
    let types = if types.is_empty() { "all types".to_owned() } else { types.join(", ") };
    if filter.confidence_min > 0 { format!("{types}, confidence {} and above", filter.confidence_min) } else { types }
}

/// One channel that is followed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FollowedChannel {
    /// `MEMBER/CHANNEL`.
    pub channel: String,
    #[serde(default)]
    pub types: Vec<String>,
    #[serde(default)]
    pub confidence_min: u8,
}

/// What is followed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FollowReply {
    pub everything: bool,
    pub channels: Vec<FollowedChannel>,
    /// Channels that may be followed: those on the cards whose readers we are among.
    #[serde(default)]
    pub offered: Vec<String>,
}

/// What is to change of it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FollowParameters {
    /// Follow everything, or only what is named.
    #[serde(default)]
    pub everything: Option<bool>,
    /// Follow this, so.
    #[serde(default)]
    pub follow: Option<FollowedChannel>,
    /// Follow this no more by name.
    #[serde(default)]
    pub unfollow: Option<String>,
}

fn followed(local: &Local) -> Result<FollowReply, ApiError> {
    let entry = local.ledger.followed()?;
    let channel = |one: FollowLine| FollowedChannel {
        channel: format!("{}/{}", one.member, one.channel),
        types: one.types.iter().map(|kind| kind.name().to_owned()).collect(),
        confidence_min: one.confidence_min,
    };
    let roster = std::sync::Arc::clone(&local.current.get().roster);
    let (me, mut offered) = (&local.identity.member, Vec::new());
    for card in roster.cards().map(|card| card.card()).filter(|card| card.member != *me) {
        let ours = card.channels.iter().filter(|channel| roster.addresses(&roster.audience_now(&channel.audience), &card.member, me));
        offered.extend(ours.map(|channel| format!("{}/{}", card.member, channel.name)));
    }
    Ok(FollowReply {
        everything: entry.as_ref().is_none_or(|entry| entry.everything),
        channels: entry.map(|entry| entry.channels.into_iter().map(channel).collect()).unwrap_or_default(),
        offered,
    })
}

pub(super) async fn follows(State(local): State<Local>) -> Result<Json<FollowReply>, ApiError> {
    blocking(move || followed(&local)).await.map(Json)
}

pub(super) async fn follow(
    State(local): State<Local>,
    Extension(operator): Extension<Operator>,
    Json(parameters): Json<FollowParameters>,
) -> Result<Acted<FollowReply>, ApiError> {
    let before = local.ledger.followed()?;
    let (mut everything, mut channels) = before.map_or((true, Vec::new()), |entry| (entry.everything, entry.channels));
    everything = parameters.everything.unwrap_or(everything);
    let mut said = Vec::new();
    if let Some(line) = &parameters.follow {
        let line = follow_line(&local, line)?;
        said.push(format!("{}/{}", line.member, line.channel));
        channels.retain(|one| (&one.member, &one.channel) != (&line.member, &line.channel));
        channels.push(line);
    }
    if let Some(name) = &parameters.unfollow {
        let (member, channel) = channel_name(name)?;
        let before = channels.len();
        channels.retain(|one| (&one.member, &one.channel) != (&member, &channel));
        if channels.len() == before {
            return Err(ApiError::nothing(format!("{name} is not followed by name")));
        }
        said.push(format!("no longer {name}"));
    }
    if channels.len() > FOLLOWED_MAX {
        return Err(ApiError::bad(format!("more than {FOLLOWED_MAX} channels cannot be followed one by one; follow everything")));
    }
    let entry = FollowEntry { at: local.clock.now(), by: operator.signature(), everything, channels };
    let what = format!(
        "follows {}{}",
        if everything { "everything" } else { "only what is named" },
        said.iter().map(|one| format!(", {one}")).collect::<String>()
    );
    at_door(&local, |reply| Request::Follow { entry: Box::new(entry), reply }).await?;
    let reply = blocking(move || followed(&local)).await?;
    Ok(Acted::deed(what, reply))
}

fn channel_name(text: &str) -> Result<(MemberId, ChannelName), ApiError> {
    let (member, channel) =
        text.split_once('/').ok_or_else(|| ApiError::bad(format!("`{text}` is no channel; one looks like talos/c2")))?;
    Ok((member.parse().map_err(ApiError::bad)?, channel.parse().map_err(ApiError::bad)?))
}

fn follow_line(local: &Local, line: &FollowedChannel) -> Result<FollowLine, ApiError> {
    let (member, channel) = channel_name(&line.channel)?;
    let roster = std::sync::Arc::clone(&local.current.get().roster);
    let members = || roster.charter().charter().members.iter().map(|member| member.id.as_str());
    if roster.member(&member).is_none() {
        return Err(ApiError::bad(UnknownName::new("member", member.as_str(), members())));
    }
    if let Some(card) = roster.card(&member)
        && !card.channels.iter().any(|one| one.name == channel)
    {
        return Err(ApiError::bad(UnknownName::new("channel", channel.as_str(), card.channels.iter().map(|one| one.name.as_str()))));
    }
    if line.confidence_min > 100 {
        return Err(ApiError::bad("confidence is 0 to 100"));
    }
    let types = line.types.iter().map(|text| text.parse::<ObservableType>()).collect::<Result<Vec<_>, _>>().map_err(ApiError::bad)?;
    Ok(FollowLine { member, channel, types, confidence_min: line.confidence_min })
}

/// Whose progress is asked for.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReceiptsParameters {
    /// A record or a channel of ours.
    pub of: String,
}

/// How far one member has applied a record, or the newest batch of a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReceiptLine {
    pub member: String,
    /// `applied`, `exported`, `partly`, `not yet`, `silent`, `offline by design`, `unreachable`.
    pub state: String,
    /// Since when, or when it was last heard.
    pub since: Option<String>,
    /// Records that were withheld from it.
    pub withheld: u64,
}

/// What `receipts` says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReceiptsReply {
    /// The feed and the batch that is looked for.
    pub feed: String,
    pub seq: u64,
    /// The withdrawal of the record, if it was withdrawn: its progress is shown instead.
    pub withdrawn_by: Option<String>,
    pub lines: Vec<ReceiptLine>,
    pub counts: BTreeMap<String, usize>,
}

pub(super) async fn receipts(
    State(local): State<Local>,
    Extension(operator): Extension<Operator>,
    Query(parameters): Query<ReceiptsParameters>,
) -> Result<Json<ReceiptsReply>, ApiError> {
    blocking(move || reach_of(&local, &parameters.of, operator.clearance)).await.map(Json)
}

pub(super) fn reach_of(local: &Local, of: &str, clearance: Tlp) -> Result<ReceiptsReply, ApiError> {
    let me = &local.identity.member;
    let (mut feed, mut seq) = place_of(local, of)?;
    if feed.member != *me {
        return Err(ApiError::bad(format!("{of} is not ours: only an author is told how far its records have got")));
    }
    let nothing = |seq: u64| ApiError::nothing(format!("batch {feed}#{seq} is not here"));
    if local.ledger.batch_at(&feed, seq)?.is_none_or(|batch| batch.head.tlp > clearance) {
        return Err(nothing(seq));
    }
    let mut withdrawn_by = None;
    if let Ok(reference) = of.parse::<RecordRef>()
        && let Some(withdrawn) = local.ledger.withdrawn(&reference)?
        && let Ok(by) = withdrawn.by.parse::<RecordRef>()
    {
        (feed, seq) = (by.feed, by.seq);
        withdrawn_by = Some(withdrawn.by);
    }
    let batch = local.ledger.batch_at(&feed, seq)?.ok_or_else(|| ApiError::nothing(format!("batch {feed}#{seq} is not here")))?;
    let (roster, now) = (std::sync::Arc::clone(&local.current.get().roster), local.clock.now());
    let (tellers, unreachable) = (local.reach.tellers(), local.watch.get().unreachable);
    let mut reply = ReceiptsReply { feed: feed.to_string(), seq, withdrawn_by, ..ReceiptsReply::default() };
    for member in roster.charter().charter().members.iter().filter(|member| member.id != *me) {
        let entitled = |class| may_send(&roster, &Head { class, ..batch.head.clone() }, &member.id, now, Way::Published).is_ok();
        if !entitled(batch.head.class) || (batch.head.class == Class::Content && roster.standing(&member.id, now) != Standing::Good) {
            continue;
        }
        let nodes = tellers.iter().map(|(_, teller)| teller).filter(|teller| teller.member == member.id);
        // Who never had a card is not there yet; whose nodes all only take in bundles is away on purpose.
        let on_line = |card: &Card| card.nodes.iter().any(|node| node.receive_only != Some(true));
        let on_line = roster.card(&member.id).is_some_and(on_line);
        let mut line = line_of(&member.id, nodes.collect(), &feed, seq, on_line);
        if line.state == "silent" && unreachable.iter().any(|one| one.member == member.id.as_str()) {
            "unreachable".clone_into(&mut line.state);
        }
        *reply.counts.entry(line.state.clone()).or_default() += 1;
        reply.lines.push(line);
    }
    Ok(reply)
}

/// The best that the nodes of one member have said.
fn line_of(member: &MemberId, nodes: Vec<&Teller>, feed: &FeedId, seq: u64, on_line: bool) -> ReceiptLine {
    let line = |state: &str, since: Option<crate::record::Timestamp>, withheld| ReceiptLine {
        member: member.to_string(),
        state: state.to_owned(),
        since: since.map(|since| since.to_string()),
        withheld,
    };
    let words = || nodes.iter().filter_map(|node| node.feeds.get(feed));
    if let Some((since, word)) = words().filter_map(|word| Some((word.exported_since(seq)?, word))).min_by_key(|(since, _)| *since) {
        return line("exported", Some(since), word.withheld);
    }
    if let Some((since, word)) = words().filter_map(|word| Some((word.judged_since(seq)?, word))).min_by_key(|(since, _)| *since) {
        return line("applied", Some(since), word.withheld);
    }
    if let Some(node) = nodes.iter().find(|node| node.connected) {
        return line("not yet", Some(node.heard), 0);
    }
    let heard = nodes.iter().map(|node| node.heard).max();
    match heard {
        Some(heard) => line("silent", Some(heard), 0),
        None if on_line => line("silent", None, 0),
        None => line("offline by design", None, 0),
    }
}

/// The place that a record, or the newest batch of a channel of ours, has.
fn place_of(local: &Local, of: &str) -> Result<(FeedId, u64), ApiError> {
    if let Ok(reference) = of.parse::<RecordRef>() {
        return Ok((reference.feed, reference.seq));
    }
    let name = if of.contains('/') { of.to_owned() } else { format!("{}/{of}", local.identity.member) };
    let (member, channel) = channel_name(&name)?;
    let feeds = local.ledger.feeds().into_iter().filter(|(feed, _)| feed.member == member && feed.channel == channel);
    let newest = feeds.max_by_key(|(feed, state)| (feed.epoch, state.time));
    let newest = newest.ok_or_else(|| ApiError::nothing(format!("nothing was published in {name} yet")))?;
    Ok((newest.0.clone(), newest.1.last()))
}

/// The proof of a quarantined feed, for those who are to check it.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ProofParameters {
    feed: String,
}

pub(super) async fn proof(State(local): State<Local>, Query(parameters): Query<ProofParameters>) -> Result<Raw<Vec<u8>>, ApiError> {
    let feed: FeedId = parameters.feed.parse().map_err(ApiError::bad)?;
    let proofs = blocking(move || Ok(local.ledger.proofs()?)).await?;
    let found = proofs.into_iter().find(|(of, _)| *of == feed).map(|(_, bytes)| bytes);
    found.map(Raw).ok_or_else(|| ApiError::nothing(format!("there is no proof about {feed} here")))
}

/// Two histories that one node signed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ProofReply {
    pub feed: String,
    pub seq: u64,
    pub heads: Vec<ProvedHeadLine>,
    /// Whether a card of its member says which of them counts.
    pub settled_by_card: bool,
    /// None if the feed is not known here.
    pub quarantined_here: Option<bool>,
}

/// One of them.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ProvedHeadLine {
    pub time: String,
    pub root: String,
    pub records: u64,
}

pub(super) async fn verify(State(local): State<Local>, Whole(body): Whole) -> Result<Json<ProofReply>, ApiError> {
    let roster = std::sync::Arc::clone(&local.current.get().roster);
    let (feed, seq) = roster.equivocation(&body).map_err(|why| ApiError::bad(format!("this proves nothing: {why}")))?;
    let heads = crate::charter::equivocation_heads(&body);
    let line = |one: &Head| ProvedHeadLine { time: one.time.to_string(), root: one.root.to_string(), records: one.count.into() };
    Ok(Json(ProofReply {
        seq,
        heads: heads.iter().flatten().map(line).collect(),
        settled_by_card: roster.pin(&feed).is_some_and(|pin| seq <= pin.seq),
        quarantined_here: local.ledger.feed(&feed).map(|state| state.aside.is_some()),
        feed: feed.to_string(),
    }))
}
