//! Trial: what would change if other policies were in force.
//!
//! Every record that was judged since a moment is judged by the policies in force and by the draft, and for each outlet the
//! same is asked of `enforce`; verdicts as of when the record came, enforcement as of now. Nothing is changed. Batches are independent, so as many threads look as there are cores.

use super::{As, Assessment, Found, Reading, Standing};
use crate::{
    enforce::{Outlet, shape},
    intake::{Intake, Known as _, Matter, value_of},
    ledger::{Ledger, LedgerError, OutcomeLine},
    policy::{OutletName, Verdict},
    record::{Indicator, MemberId, ObservableType, Record, Timestamp, Tlp, Use},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

/// Examples kept of each change.
const EXAMPLES_MAX: usize = 3;
/// Batches that a thread takes at a time.
const BATCHES_AT_ONCE: u64 = 16;

/// A kind of change: whose records, of which type, at what, from what to what.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    pub origin: String,
    #[serde(rename = "type")]
    pub kind: String,
    /// `accept` for verdicts, or `enforce at OUTLET`.
    pub action: String,
    pub from: String,
    pub to: String,
}

/// One record that would change, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Example {
    pub record: String,
    pub about: String,
    pub because: String,
}

/// How many records would change so, with examples.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChangeLine {
    #[serde(flatten)]
    pub change: Change,
    pub count: u64,
    pub examples: Vec<Example>,
}

/// What a trial found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Trial {
    pub records: u64,
    /// Records whose verdict would change.
    pub changed: u64,
    pub changes: Vec<ChangeLine>,
}

#[derive(Default)]
struct Tally {
    records: u64,
    changed: u64,
    changes: BTreeMap<Change, (u64, Vec<Example>)>,
}

impl Tally {
    fn add(&mut self, change: Change, example: impl FnOnce() -> Example) {
        let (count, examples) = self.changes.entry(change).or_default();
        *count += 1;
        if examples.len() < EXAMPLES_MAX {
            examples.push(example());
        }
    }

    fn merge(mut self, other: Self) -> Self {
        self.records += other.records;
        self.changed += other.changed;
        for (change, (count, examples)) in other.changes {
            let (all, kept) = self.changes.entry(change).or_default();
            *all += count;
            kept.extend(examples);
            kept.truncate(EXAMPLES_MAX);
        }
        self
    }
}

/// Compares `draft` with `now_in_force` over everything that came since `since`. `progress` is told how many batches of how
/// many are done.
pub fn trial(
    ledger: &Ledger,
    in_force: &Intake,
    draft: &Intake,
    outlets: &[Outlet],
    since: Timestamp,
    now: Timestamp,
    progress: impl Fn(u64, u64) + Sync,
) -> Result<Trial, LedgerError> {
    let (first, end) = (ledger.first_since(since)?, ledger.batches());
    let (next, done) = (AtomicU64::new(first), AtomicU64::new(0));
    let work = || {
        let mut tally = Tally::default();
        loop {
            let from = next.fetch_add(BATCHES_AT_ONCE, Ordering::Relaxed);
            if from >= end {
                return Ok::<_, LedgerError>(tally);
            }
            let to = (from + BATCHES_AT_ONCE).min(end);
            let mut reading = Reading::whole(ledger, now);
            for number in from..to {
                compare_batch(&mut reading, in_force, draft, outlets, number, &mut tally)?;
            }
            progress(done.fetch_add(to - from, Ordering::Relaxed) + to - from, end - first);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    let tallies = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let panicked = || LedgerError::State("a thread of the trial ended early".to_owned());
        running.into_iter().map(|thread| thread.join().map_err(|_| panicked())?).collect::<Result<Vec<_>, _>>()
    })?;
    let tally = tallies.into_iter().fold(Tally::default(), Tally::merge);
    let mut changes: Vec<ChangeLine> =
        tally.changes.into_iter().map(|(change, (count, examples))| ChangeLine { change, count, examples }).collect();
    changes.sort_by_key(|line| std::cmp::Reverse(line.count));
    Ok(Trial { records: tally.records, changed: tally.changed, changes })
}

fn compare_batch(
    reading: &mut Reading<'_>,
    in_force: &Intake,
    draft: &Intake,
    outlets: &[Outlet],
    number: u64,
    tally: &mut Tally,
) -> Result<(), LedgerError> {
    let Some(batch) = reading.batch(number)?.filter(|batch| batch.aside.is_none()) else { return Ok(()) };
    for index in 0..batch.head.count {
        let Some(found) = reading.join(std::sync::Arc::clone(&batch), index)? else { continue };
        let Some(after) = reading.judge_again(draft, &found, As::Then) else { continue };
        tally.records += 1;
        let (was, then) = (word(&found.outcome), word(&after));
        if was != then {
            tally.changed += 1;
            let sentence = match &after {
                OutcomeLine::Judged { judgement, .. } => judgement.sentence(),
                _ => String::new(),
            };
            tally.add(change(&found, "accept", was, then), || example(&found, sentence));
        }
        if !outlets.is_empty() {
            compare_enforce(reading, in_force, draft, outlets, &found, &after, tally)?;
        }
    }
    Ok(())
}

fn compare_enforce(
    reading: &mut Reading<'_>,
    in_force: &Intake,
    draft: &Intake,
    outlets: &[Outlet],
    found: &Found,
    after: &OutcomeLine,
    tally: &mut Tally,
) -> Result<(), LedgerError> {
    let Record::Indicator(indicator) = &found.record else { return Ok(()) };
    let accepted_now = reading.standing(found).0 == Standing::Accepted;
    let accepted_then = after.verdict() == Some(Verdict::Accept);
    if (!accepted_now && !accepted_then) || shape(&indicator.value).is_err() {
        return Ok(());
    }
    let protected = in_force.lists.protecting(&indicator.value, false).next().is_some();
    let mut origins = None;
    for outlet in outlets.iter().filter(|_| !protected) {
        if outlet.takes(&indicator.value, found.batch.head.tlp, usage(indicator, found)).is_err() {
            continue;
        }
        let one = |intake: &Intake, origins: u32| permitted(reading, intake, found, outlet, origins);
        // Corroboration is looked up only where it would make a difference.
        let differs = |intake: &Intake| intake.policy.asks_for_origins() && one(intake, 1) != one(intake, u32::MAX);
        if origins.is_none() && (differs(in_force) || differs(draft)) {
            let Assessment { origins: counted, .. } = reading.assess(in_force, &indicator.value, Tlp::Red)?;
            origins = Some(counted);
        }
        let count = origins.unwrap_or(1);
        let (was, then) = (
            accepted_now && permitted(reading, in_force, found, outlet, count),
            accepted_then && permitted(reading, draft, found, outlet, count),
        );
        if was != then {
            let word = |permitted: bool| if permitted { "permitted" } else { "not permitted" };
            let action = format!("enforce at {}", outlet.name);
            tally.add(change(found, &action, word(was), word(then)), || example(found, String::new()));
        }
    }
    Ok(())
}

fn usage(indicator: &Indicator, found: &Found) -> Use {
    indicator.usage.or(found.defaults.as_ref().and_then(|defaults| defaults.usage)).unwrap_or(Use::Context)
}

fn permitted(reading: &Reading<'_>, intake: &Intake, found: &Found, outlet: &Outlet, origins: u32) -> bool {
    let OutcomeLine::Judged { ends, .. } = &found.outcome else { return false };
    let defaults = found.lent();
    let disputed = reading.ledger.disputed_by(value_of(&found.record), &found.reference, found.batch.head.tlp, reading.now);
    let name = OutletName { name: &outlet.name, kind: outlet.kind };
    let matter = Matter::new(intake, &found.batch.head, reading.now);
    let asked = matter.case(&found.record, &defaults, *ends, &disputed, origins, |case| intake.policy.enforces(case, name).permitted);
    asked.unwrap_or(false)
}

fn word(line: &OutcomeLine) -> &'static str {
    match line.verdict() {
        Some(Verdict::Accept) => "accepted",
        Some(Verdict::Hold) => "held",
        Some(Verdict::Refuse) => "refused",
        None => "not judged",
    }
}

fn change(found: &Found, action: &str, from: &str, to: &str) -> Change {
    let member: &MemberId = &found.batch.head.member;
    let kind = value_of(&found.record).map_or(found.record.kind().name(), |value| ObservableType::name(value.kind()));
    Change { origin: member.to_string(), kind: kind.to_owned(), action: action.to_owned(), from: from.to_owned(), to: to.to_owned() }
}

fn example(found: &Found, because: String) -> Example {
    Example { record: found.reference.to_string(), about: super::title_of(&found.record), because }
}
