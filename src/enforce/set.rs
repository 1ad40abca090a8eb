//! Sets: the lines of one outlet, and how each came to where it is.
//!
//! ```text
//! new -> monitored (outlet or origin in monitor mode)
//!     -> enforced  (there is room in the hour)
//!     -> staged    (there is none, or a list that protects is missing); enforced later, as room comes, or by an operator
//! enforced -> withdrawn (its author withdrew it; remembered for an hour) -> kept (in force by an operator's order)
//! ```

use super::{HOUR_ADDITIONS_MIN, HOUR_ADDITIONS_PERCENT, Mode, Order, Orders, Outlet, hits, lifts, orders::host_address};
use crate::{
    policy::Permission,
    record::{FeedId, HOUR_MS, MemberId, Observable, ObservableType, RecordRef, Timestamp},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet, HashSet, VecDeque},
    sync::Arc,
};

/// More than a fifth of an outlet's lines, withdrawn within an hour, is a mass withdrawal.
const MASS_SHARE: usize = 5;
/// An outlet with fewer lines than this has no masses.
const MASS_LINES_MIN: usize = 5;

/// Where a line stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Would be enforced, and is only counted.
    Monitored,
    /// Waits for room or for an operator.
    Staged,
    /// In the export.
    Enforced,
    /// Was in the export until its author withdrew it, within the last hour.
    Withdrawn,
    /// In the export by order of an operator, although its author withdrew it.
    Kept,
}

/// A record behind a line, and its report: whatever happens to either, the line is looked at again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behind {
    pub record: RecordRef,
    pub report: Option<RecordRef>,
}

/// What a policy permits for one value, on the word of one member.
#[derive(Clone, Debug)]
pub struct Proposal {
    pub origin: MemberId,
    pub record: RecordRef,
    /// With every name below it.
    pub below: bool,
    pub until: Timestamp,
    /// What it is worth where there is not room for all: see [`rank`].
    pub rank: u16,
    pub permission: Arc<Permission>,
}

/// What a value is worth where there is not room for all: independent sources first, then how sure its author is.
pub fn rank(sources: u32, confidence: u8) -> u16 {
    u16::from_be_bytes([u8::try_from(sources).unwrap_or(u8::MAX), confidence])
}

/// One line of an outlet.
#[derive(Clone, Debug)]
pub struct Line {
    pub stage: Stage,
    pub since: Timestamp,
    pub proposal: Proposal,
    /// Every record that asserts the value.
    pub behind: Vec<Behind>,
    sweep: u32,
}

/// How many lines of an origin stand where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StageCounts {
    pub monitored: usize,
    pub staged: usize,
    pub enforced: usize,
    /// Enforced until their author withdrew them within the last hour.
    #[serde(default)]
    pub withdrawn: usize,
    /// In force by order, although their author withdrew them.
    #[serde(default)]
    pub kept: usize,
}

impl StageCounts {
    fn of(&mut self, stage: Stage) -> &mut usize {
        match stage {
            Stage::Monitored => &mut self.monitored,
            Stage::Staged => &mut self.staged,
            Stage::Enforced => &mut self.enforced,
            Stage::Withdrawn => &mut self.withdrawn,
            Stage::Kept => &mut self.kept,
        }
    }
}

/// All that is known of a value when its line is considered.
pub struct Evidence<'a> {
    /// By each record that policies permit.
    pub proposals: Vec<Proposal>,
    /// Every record about the value.
    pub behind: Vec<Behind>,
    /// When the withdrawal of a line's record came, if it may be overruled.
    pub withdrawn: &'a dyn Fn(&Line) -> Option<Timestamp>,
}

/// Withdrawals by one origin within an hour that are a large part of an outlet's lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MassWithdrawal {
    pub origin: MemberId,
    pub withdrawn: usize,
    /// Lines that the outlet would have in force without them.
    pub of: usize,
}

/// The lines of one outlet.
pub struct OutletSet {
    pub outlet: Outlet,
    lines: BTreeMap<Observable, Line>,
    staged: BTreeMap<MemberId, BTreeSet<(Timestamp, Observable)>>,
    /// Lines that are not enforced, the least worth first: they make room.
    spare: BTreeSet<(u16, Observable)>,
    counts: BTreeMap<MemberId, StageCounts>,
    /// When each of the hour's additions was made, by origin; as many as the cap allows.
    recent: BTreeMap<MemberId, VecDeque<Timestamp>>,
    /// Values for which there was no room at all.
    pub beyond: u64,
    /// The export has a place for what is only watched.
    pub shows_watched: bool,
    /// The export says when each line ends, and the tool lets it go then by itself.
    pub shows_ends: bool,
    sweep: u32,
}

impl OutletSet {
    /// An outlet without lines.
    pub fn new(outlet: Outlet) -> Self {
        let (lines, staged, counts, recent) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { outlet, lines, staged, spare: BTreeSet::new(), counts, recent, beyond: 0, shows_watched: false, shows_ends: false, sweep: 0 }
    }

    /// Puts back a line as it was before a restart. It is looked at again by the next sweep.
    pub fn restore(&mut self, value: Observable, stage: Stage, since: Timestamp, proposal: Proposal, now: Timestamp) {
        if stage == Stage::Enforced && now.ms_since(since) < HOUR_MS {
            self.recent.entry(proposal.origin.clone()).or_default().push_back(since);
        }
        self.insert(value, Line { stage, since, proposal, behind: Vec::new(), sweep: 0 });
    }

    fn insert(&mut self, value: Observable, line: Line) {
        *self.counts.entry(line.proposal.origin.clone()).or_default().of(line.stage) += 1;
        if !matches!(line.stage, Stage::Enforced | Stage::Kept) {
            self.spare.insert((line.proposal.rank, value.clone()));
        }
        if line.stage == Stage::Staged {
            self.staged.entry(line.proposal.origin.clone()).or_default().insert((line.since, value.clone()));
        }
        self.lines.insert(value, line);
    }

    fn remove(&mut self, value: &Observable) -> Option<Line> {
        let line = self.lines.remove(value)?;
        if let Some(counts) = self.counts.get_mut(&line.proposal.origin) {
            let count = counts.of(line.stage);
            *count = count.saturating_sub(1);
        }
        self.spare.remove(&(line.proposal.rank, value.clone()));
        if let Some(staged) = self.staged.get_mut(&line.proposal.origin) {
            staged.remove(&(line.since, value.clone()));
        }
        Some(line)
    }

    /// Looks at a value: what is permitted now, and every record behind it. With nothing permitted its line goes. With
    /// `may_add` false nothing new is enforced. Answers whether the export changes.
    pub fn consider(&mut self, value: &Observable, evidence: Evidence<'_>, orders: &Orders, may_add: bool, now: Timestamp) -> bool {
        let Evidence { proposals, behind, withdrawn } = evidence;
        let before = self.remove(value);
        let acts = |origin: &MemberId| self.acts(origin, orders);
        // The line stays with its author as long as that one stands by it; a new one goes to an author that may act.
        let kept = before.as_ref().map(|line| &line.proposal.origin);
        let best = proposals.into_iter().max_by_key(|one| (Some(&one.origin) == kept, acts(&one.origin)));
        let Some(proposal) = best else {
            return before.is_some_and(|line| {
                let withdrawn = withdrawn(&line);
                self.let_go(value, line, withdrawn, orders, now)
            });
        };
        // A withdrawn line that its author publishes again is new, unless an order has kept it in force.
        let stage_of = |line: &Line| match line.stage {
            Stage::Withdrawn => None,
            Stage::Kept => Some(Stage::Enforced),
            stage => Some(stage),
        };
        let (was, since) = (before.as_ref().and_then(stage_of), before.as_ref().map_or(now, |line| line.since));
        if was.is_none() && self.lines.len() >= self.outlet.lines_max {
            self.beyond += 1;
            if !self.make_room(proposal.rank) {
                return false;
            }
        }
        let stage = match was {
            _ if !self.acts(&proposal.origin, orders) => Stage::Monitored,
            Some(stage @ (Stage::Enforced | Stage::Staged)) => stage,
            _ if may_add && self.take_room(&proposal.origin, orders, now) => Stage::Enforced,
            _ => Stage::Staged,
        };
        let enters = (stage == Stage::Enforced) != (was == Some(Stage::Enforced));
        let reads = |one: &Proposal| (one.below, Some(one.until).filter(|_| self.shows_ends));
        let reads_otherwise = before.as_ref().is_some_and(|line| self.is_shown(stage) && reads(&line.proposal) != reads(&proposal));
        let changed = enters || reads_otherwise || self.is_shown(stage) != was.is_some_and(|was| self.is_shown(was));
        let since = if enters { now } else { since };
        self.insert(value.clone(), Line { stage, since, proposal, behind, sweep: self.sweep });
        changed
    }

    /// Takes a line out for which nothing is permitted any more; one that was enforced and was withdrawn is remembered for an hour, or kept if
    /// an order says so. Returns true if the export changes.
    fn let_go(&mut self, value: &Observable, line: Line, withdrawn: Option<Timestamp>, orders: &Orders, now: Timestamp) -> bool {
        let was_shown = self.is_shown(line.stage);
        let (name, origin) = (&self.outlet.name, &line.proposal.origin);
        let stage = match (line.stage, withdrawn) {
            _ if line.proposal.until <= now => None,
            (Stage::Enforced | Stage::Withdrawn | Stage::Kept, Some(at)) if orders.keeps(name, origin, at, now).is_some() => {
                Some(Stage::Kept)
            }
            (Stage::Enforced, Some(_)) => Some(Stage::Withdrawn),
            (Stage::Withdrawn, Some(_)) if now.ms_since(line.since) < HOUR_MS => Some(Stage::Withdrawn),
            _ => None,
        };
        let Some(stage) = stage else { return was_shown };
        let since = if stage == line.stage { line.since } else { now };
        self.insert(value.clone(), Line { stage, since, sweep: self.sweep, ..line });
        was_shown != self.is_shown(stage)
    }

    /// Origins that have withdrawn more than a fifth of the lines within the last hour.
    pub fn mass_withdrawals(&self) -> Vec<MassWithdrawal> {
        let of: usize = self.counts.values().map(|counts| counts.enforced + counts.withdrawn).sum();
        let is_mass = |counts: &StageCounts| counts.withdrawn * MASS_SHARE > of && of >= MASS_LINES_MIN;
        let found = self.counts.iter().filter(|(_, counts)| is_mass(counts));
        found.map(|(origin, counts)| MassWithdrawal { origin: origin.clone(), withdrawn: counts.withdrawn, of }).collect()
    }

    /// Lets go the line that is worth least, if it is worth less than `rank`. What is enforced never goes for something new: whoever
    /// calls everything certain could empty an outlet.
    fn make_room(&mut self, rank: u16) -> bool {
        let Some((least, value)) = self.spare.first().filter(|(least, _)| *least < rank).cloned() else { return false };
        self.remove(&value).is_some_and(|line| line.proposal.rank == least)
    }

    /// Whether a line of this stage stands in the export in some way.
    fn is_shown(&self, stage: Stage) -> bool {
        matches!(stage, Stage::Enforced | Stage::Kept) || (self.shows_watched && stage == Stage::Monitored)
    }

    fn acts(&self, origin: &MemberId, orders: &Orders) -> bool {
        let name = &self.outlet.name;
        orders.outlet_mode(name) == Mode::Enforce && orders.origin_mode(name, origin) == Mode::Enforce
    }

    /// The most additions of an origin in an hour.
    pub fn cap(&self, origin: &MemberId, orders: &Orders) -> usize {
        let standing = self.counts.get(origin).map_or(0, |counts| counts.enforced);
        let cap = HOUR_ADDITIONS_MIN.max(standing / 100 * HOUR_ADDITIONS_PERCENT);
        orders.throttled.get(origin).map_or(cap, |throttle| cap.min(*throttle as usize))
    }

    /// Whether an origin has used its hour.
    pub fn at_cap(&self, origin: &MemberId, orders: &Orders, now: Timestamp) -> bool {
        let used = |times: &VecDeque<Timestamp>| times.iter().filter(|at| now.ms_since(**at) < HOUR_MS).count();
        self.recent.get(origin).map_or(0, used) >= self.cap(origin, orders)
    }

    fn take_room(&mut self, origin: &MemberId, orders: &Orders, now: Timestamp) -> bool {
        let cap = self.cap(origin, orders);
        let times = self.recent.entry(origin.clone()).or_default();
        while times.front().is_some_and(|at| now.ms_since(*at) >= HOUR_MS) {
            times.pop_front();
        }
        let room = times.len() < cap;
        if room {
            times.push_back(now);
        }
        room
    }

    /// Enforces what is staged as far as there is room again and nothing protects it. Answers whether the export changes.
    pub fn tick(&mut self, orders: &Orders, may_add: bool, protects: &dyn Fn(&Observable, bool) -> bool, now: Timestamp) -> bool {
        let mut changed = self.forget_withdrawn(orders, now);
        let origins: Vec<MemberId> = self.staged.iter().filter(|(_, lines)| !lines.is_empty()).map(|(origin, _)| origin.clone()).collect();
        for origin in origins.iter().filter(|origin| may_add && self.acts(origin, orders)).cloned().collect::<Vec<_>>() {
            while let Some((_, value)) = self.staged.get(&origin).and_then(|lines| lines.first()).cloned() {
                if self.lines.get(&value).is_none_or(|line| protects(&value, line.proposal.below)) {
                    self.remove(&value);
                    continue;
                }
                if !self.take_room(&origin, orders, now) {
                    break;
                }
                self.restage(&value, Stage::Enforced, now);
                changed = true;
            }
        }
        changed
    }

    /// Forgets lines that were withdrawn an hour ago, and takes out those that no order keeps any more. Returns true if the export changes.
    fn forget_withdrawn(&mut self, orders: &Orders, now: Timestamp) -> bool {
        if self.counts.values().all(|counts| counts.withdrawn + counts.kept == 0) {
            return false;
        }
        let name = &self.outlet.name;
        let is_over = |line: &Line| match line.stage {
            Stage::Withdrawn => now.ms_since(line.since) >= HOUR_MS,
            Stage::Kept => orders.keeps(name, &line.proposal.origin, Timestamp::START, now).is_none(),
            _ => false,
        };
        let over: Vec<Observable> = self.lines.iter().filter(|(_, line)| is_over(line)).map(|(value, _)| value.clone()).collect();
        let gone: Vec<Line> = over.iter().filter_map(|value| self.remove(value)).collect();
        gone.iter().any(|line| self.is_shown(line.stage))
    }

    fn restage(&mut self, value: &Observable, stage: Stage, now: Timestamp) {
        if let Some(line) = self.remove(value) {
            self.insert(value.clone(), Line { stage, since: now, ..line });
        }
    }

    /// Carries out an order that moves lines; what only hides them is asked when the export is written. To let an origin
    /// act approves what it has: its baseline takes no room. What something protects by now goes, and with `may_add` false
    /// nothing new is enforced: it is staged.
    pub fn obey(&mut self, order: &Order, orders: &Orders, may_add: bool, protects: &dyn Fn(&Observable, bool) -> bool, now: Timestamp) {
        let (of, from): (Option<&MemberId>, &[Stage]) = match order {
            Order::Mode { outlet, origin, .. } if *outlet == self.outlet.name => {
                (origin.as_ref(), &[Stage::Monitored, Stage::Staged, Stage::Enforced])
            }
            Order::Admit { outlet, origin } if *outlet == self.outlet.name => (Some(origin), &[Stage::Staged]),
            Order::Keep { origin, outlet, .. } if outlet.as_ref().is_none_or(|outlet| *outlet == self.outlet.name) => {
                (Some(origin), &[Stage::Withdrawn])
            }
            Order::Unkeep { .. } => {
                self.forget_withdrawn(orders, now);
                return;
            }
            _ => return,
        };
        let concerned = |line: &Line| from.contains(&line.stage) && of.is_none_or(|origin| *origin == line.proposal.origin);
        let values: Vec<Observable> = self.lines.iter().filter(|(_, line)| concerned(line)).map(|(value, _)| value.clone()).collect();
        for value in values {
            let Some(line) = self.lines.get(&value) else { continue };
            let acts = self.acts(&line.proposal.origin, orders);
            if protects(&value, line.proposal.below) {
                self.remove(&value);
                continue;
            }
            let stage = match (acts, line.stage, order) {
                (false, Stage::Withdrawn, _) => Stage::Withdrawn,
                (false, _, _) => Stage::Monitored,
                (true, Stage::Withdrawn, Order::Keep { .. }) => Stage::Kept,
                (true, Stage::Enforced, _) => Stage::Enforced,
                (true, Stage::Staged, Order::Mode { .. }) => Stage::Staged,
                (true, _, _) if !may_add => Stage::Staged,
                (true, _, _) => Stage::Enforced,
            };
            if stage != line.stage {
                self.restage(&value, stage, now);
            }
        }
    }

    /// Begins to look at everything anew.
    pub fn begin_sweep(&mut self) {
        self.sweep = self.sweep.wrapping_add(1);
        self.beyond = 0;
    }

    /// Ends it: lines that nothing confirmed go. Answers whether the export changes.
    pub fn end_sweep(&mut self) -> bool {
        let stale: Vec<Observable> =
            self.lines.iter().filter(|(_, line)| line.sweep != self.sweep).map(|(value, _)| value.clone()).collect();
        let gone: Vec<Line> = stale.iter().filter_map(|value| self.remove(value)).collect();
        gone.iter().any(|line| self.is_shown(line.stage))
    }

    /// Values of lines behind which one of these records, or reports, stands.
    pub fn behind(&self, records: &HashSet<RecordRef>) -> Vec<Observable> {
        let concerned = |one: &Behind| records.contains(&one.record) || one.report.as_ref().is_some_and(|report| records.contains(report));
        let lines = self.lines.iter().filter(|(_, line)| line.behind.iter().any(concerned) || records.contains(&line.proposal.record));
        lines.map(|(value, _)| value.clone()).collect()
    }

    /// Values of lines behind which something of this feed stands.
    pub fn of_feed(&self, feed: &FeedId) -> Vec<Observable> {
        let lines = self
            .lines
            .iter()
            .filter(|(_, line)| line.proposal.record.feed == *feed || line.behind.iter().any(|one| one.record.feed == *feed));
        lines.map(|(value, _)| value.clone()).collect()
    }

    /// Values of lines behind which one of these members stands.
    pub fn of_members(&self, members: &BTreeSet<MemberId>) -> Vec<Observable> {
        let by = |line: &Line| {
            members.contains(&line.proposal.origin) || line.behind.iter().any(|one| members.contains(&one.record.feed.member))
        };
        self.lines.iter().filter(|(_, line)| by(line)).map(|(value, _)| value.clone()).collect()
    }

    /// Values of lines that are over.
    pub fn over(&self, now: Timestamp) -> Vec<Observable> {
        self.lines.iter().filter(|(_, line)| line.proposal.until <= now).map(|(value, _)| value.clone()).collect()
    }

    /// All lines.
    pub fn lines(&self) -> impl ExactSizeIterator<Item = (&Observable, &Line)> {
        self.lines.iter()
    }

    /// Lines by origin.
    pub fn counts(&self) -> impl Iterator<Item = (&MemberId, &StageCounts)> {
        self.counts.iter()
    }

    /// The lines that would hit `value`.
    pub fn hitting(&self, value: &Observable) -> Vec<(&Observable, &Line)> {
        let mut asked: Vec<Observable> = vec![value.clone()];
        if let Some(net) = value.network().or_else(|| host_address(value)) {
            let wider = std::iter::successors(Some(net), ipnet::IpNet::supernet);
            asked.extend(wider.filter_map(|net| Observable::of_network(net).ok()));
        }
        if let Some(host) = value.host() {
            let above = std::iter::successors(Some(host.as_ref()), |name| name.split_once('.').map(|(_, parent)| parent));
            asked.extend(above.filter_map(|name| Observable::from_text(ObservableType::Domain, name).ok()));
        }
        asked.sort();
        asked.dedup();
        let found = asked.iter().filter_map(|one| self.lines.get_key_value(one));
        found.filter(|(line, it)| it.stage != Stage::Withdrawn && hits(line, it.proposal.below, value)).collect()
    }

    /// The lines that an exception for `value` takes out.
    pub fn lifted(&self, value: &Observable) -> Vec<(&Observable, &Line)> {
        use ObservableType as T;
        let mut lines = self.hitting(value);
        if matches!(value.kind(), T::Domain | T::Ipv4 | T::Ipv6 | T::Cidr) {
            let on_it = |(line, it): &(&Observable, &Line)| {
                it.stage != Stage::Withdrawn
                    && matches!(line.kind(), T::Url | T::Endpoint | T::Email)
                    && lifts(value, line, it.proposal.below)
            };
            lines.extend(self.lines.iter().filter(on_it));
        }
        lines
    }

    /// What stands in the export: the enforced lines, less what is stopped and unblocked.
    pub fn export(&self, orders: &Orders, now: Timestamp) -> Vec<(&Observable, &Line)> {
        if orders.outlet_mode(&self.outlet.name) == Mode::Monitor {
            return Vec::new();
        }
        self.standing(
            |set, line| line.stage == Stage::Enforced || (line.stage == Stage::Kept && set.acts(&line.proposal.origin, orders)),
            orders,
            now,
        )
    }

    /// What would be enforced and is only watched, less what is stopped and unblocked.
    pub fn watched(&self, orders: &Orders, now: Timestamp) -> Vec<(&Observable, &Line)> {
        self.standing(|_, line| line.stage == Stage::Monitored, orders, now)
    }

    fn standing(&self, counts: impl Fn(&Self, &Line) -> bool, orders: &Orders, now: Timestamp) -> Vec<(&Observable, &Line)> {
        if orders.outlet_stopped(&self.outlet.name).is_some() {
            return Vec::new();
        }
        let unblocked: HashSet<&Observable> = orders
            .unblocked
            .iter()
            .filter(|(_, one)| one.until > now)
            .filter_map(|(value, _)| Observable::recognise(value).ok())
            .flat_map(|value| self.lifted(&value).into_iter().map(|(line, _)| line).collect::<Vec<_>>())
            .collect();
        let edge = orders.rolled_back.get(&self.outlet.name).copied();
        let stands = |value: &Observable, line: &Line| {
            counts(self, line)
                && edge.is_none_or(|(_, written)| line.since <= written)
                && line.proposal.until > now
                && !orders.origin_stopped(&line.proposal.origin)
                && !unblocked.contains(value)
        };
        self.lines.iter().filter(|(value, line)| stands(value, line)).collect()
    }
}

#[cfg(test)]
mod tests;
