//! Timekeeping: the current time, as far as a node can tell.
//!
//! The wall clock of a machine can be wrong, by an operator's slip, a dead battery or an attack. It is compared with four things: the
//! steady clock (which counts seconds since the machine started and cannot be set), the last checkpoint on the disk, the dates of signed
//! charters and stamps, and what other members say. As long as nothing contradicts it, the wall clock is right. Otherwise time is an
//! interval, with a [`Doubt`] that says why:
//!
//! - What grants, publishes or newly enforces uses [`Now::latest`], and stops while there is a doubt.
//! - What destroys (retention, erasure, purge) uses [`Now::earliest`], and only when [`Now::may_destroy`].
//! - Withdrawals depend on none of it.
//!
//! Not here: clocks, files. `clock` reads the first, `node::setup` and `node::upkeep` the second.

use crate::record::{DAY_MS, HOUR_MS, MINUTE_MS, MemberId, SECOND_MS, Timestamp};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};

/// Difference above which two clocks contradict each other: clocks without NTP drift by minutes.
pub const CLOCK_SKEW_MS: u64 = 5 * MINUTE_MS;
/// Widest interval with which anything is destroyed: erasure may then come a week early, not more.
pub const UNSURE_MS_MAX: u64 = 7 * DAY_MS;
/// Steady time without a doubt before anything is destroyed: within a day an operator looks at `status`.
pub const SETTLED_MS: u64 = 24 * HOUR_MS;
/// Members that must say what time it is before their median counts.
pub const MEMBERS_MIN: usize = 3;
/// Age at which a member's statement no longer counts; peers state their time every ten seconds.
const SAID_MS_MAX: u64 = HOUR_MS;
/// Members whose statements are kept: as many as a charter may name.
const SAID_MAX: usize = 1_024;
/// A wall clock may drift from the steady one by a thousandth: twice what NTP does when it slews.
const DRIFT_DIVISOR: u64 = 1_000;
/// Time between two corrections for drift; a thousandth of it is ten milliseconds.
const DRIFT_INTERVAL_MS: u64 = 10 * SECOND_MS;

/// Both clocks of a machine, read together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    pub wall: Timestamp,
    /// Milliseconds since the machine started, with those in which it slept.
    pub steady_ms: u64,
}

/// The current time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// For everything that needs one moment: the wall clock, or what it should show.
    pub best: Timestamp,
    /// It is surely not earlier.
    pub earliest: Timestamp,
    /// It is surely not later, unless all sources are wrong.
    pub latest: Timestamp,
    /// Something contradicts the wall clock.
    pub doubted: bool,
    /// Erasure and purge may run: no doubt for [`SETTLED_MS`], and an interval of at most [`UNSURE_MS_MAX`].
    pub may_destroy: bool,
}

/// A certain moment.
impl From<Timestamp> for Now {
    fn from(moment: Timestamp) -> Self {
        Self { best: moment, earliest: moment, latest: moment, doubted: false, may_destroy: true }
    }
}

/// The reason not to believe the wall clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// It was set while the machine ran.
    Stepped { wall: Timestamp, expected: Timestamp },
    /// It is behind a signed document, or behind what it showed before the machine started.
    Behind { wall: Timestamp, floor: Timestamp },
    /// At least three members say otherwise.
    Members { wall: Timestamp, median: Timestamp, count: usize },
}

impl Doubt {
    fn is_like(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

/// A sentence for status, doctor, dashboard and notifications.
impl fmt::Display for Doubt {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stepped { wall, expected } => {
                let word = if wall > expected { "forward" } else { "back" };
                let by = span(wall.ms_since(*expected).max(expected.ms_since(*wall)));
                write!(out, "the clock of this machine was set {word} by {by}: it shows {wall} instead of {expected}")?;
            }
            Self::Behind { wall, floor } => {
                write!(out, "the clock of this machine shows {wall}, and a signed document or this node's last run is of {floor}")?;
            }
            Self::Members { wall, median, count } => {
                write!(out, "the clock of this machine shows {wall}, and {count} other members say that it is {median}")?;
            }
        }
        out.write_str(
            ". Nothing is published, newly enforced or erased until it is set right, three members agree with it, or \
             two operators run `huecry clock confirm`. Withdrawals work",
        )
    }
}

/// A time in the largest unit of which it has two.
fn span(ms: u64) -> String {
    match ms {
        ms if ms >= 2 * DAY_MS => format!("{} days", ms / DAY_MS),
        ms if ms >= 2 * HOUR_MS => format!("{} hours", ms / HOUR_MS),
        ms => format!("{} minutes", ms / MINUTE_MS),
    }
}

/// State that is kept over a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Names this start of the machine; the steady clock starts from zero with the next.
    pub boot: String,
    pub at: Timestamp,
    pub steady_ms: u64,
    pub unsure_ms: u64,
    pub settled_ms: u64,
}

/// The wall clock when it was last believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Anchor {
    at: Timestamp,
    steady_ms: u64,
    /// By how much it may have been ahead.
    unsure_ms: u64,
    /// Nothing supports it but a lower bound, so any later time may be right.
    provisional: bool,
}

impl Anchor {
    fn expected(&self, steady_ms: u64) -> Timestamp {
        self.at.plus_ms(steady_ms.saturating_sub(self.steady_ms))
    }
}

fn differ(one: Timestamp, other: Timestamp) -> bool {
    one.ms_since(other).max(other.ms_since(one)) > CLOCK_SKEW_MS
}

/// Returns true if a document's date is further in the future than clocks differ.
pub fn is_ahead(date: Timestamp, latest: Timestamp) -> bool {
    date.ms_since(latest) > CLOCK_SKEW_MS
}

/// Compares the clocks of one node. Changed by [`Self::look`], a few times a second, and asked by [`Self::now`] at any moment between.
#[derive(Clone, Debug)]
pub struct Timekeeper {
    boot: String,
    anchor: Anchor,
    /// The latest date of a signed document.
    floor: Timestamp,
    /// Statements of members, with their times by the steady clock.
    said: BTreeMap<MemberId, (Timestamp, u64)>,
    doubt: Option<Doubt>,
    /// Steady time without a doubt.
    settled_ms: u64,
    looked_ms: u64,
    drifted_ms: u64,
}

impl Timekeeper {
    /// Begins with what the last run left, if it left something. `boot` names this start of the machine.
    pub fn start(reading: Reading, boot: &str, checkpoint: Option<&Checkpoint>, floor: Timestamp) -> Self {
        let same_boot = checkpoint.filter(|last| last.boot == boot && last.steady_ms <= reading.steady_ms);
        let anchor = match (same_boot, checkpoint) {
            (Some(last), _) => Anchor { at: last.at, steady_ms: last.steady_ms, unsure_ms: last.unsure_ms, provisional: false },
            (None, last) => {
                // The checkpoint of a clock that was ahead must not bound a right one.
                Self::believed(reading, last.map_or(floor, |last| last.at.minus_ms(last.unsure_ms).max(floor)))
            }
        };
        let settled_ms = checkpoint.map_or(0, |last| last.settled_ms);
        let (looked_ms, drifted_ms) = (reading.steady_ms, reading.steady_ms);
        let mut keeper =
            Self { boot: boot.to_owned(), anchor, floor, said: BTreeMap::new(), doubt: None, settled_ms, looked_ms, drifted_ms };
        keeper.look(reading);
        keeper
    }

    /// The anchor of a wall clock about which a lower bound is all that is known.
    fn believed(reading: Reading, bound: Timestamp) -> Anchor {
        let Reading { wall, steady_ms } = reading;
        match wall.plus_ms(CLOCK_SKEW_MS) < bound {
            true => Anchor { at: bound, steady_ms, unsure_ms: 0, provisional: true },
            false => Anchor { at: wall, steady_ms, unsure_ms: wall.ms_since(bound), provisional: false },
        }
    }

    /// The median of what members say, and how many they are; `None` for fewer than [`MEMBERS_MIN`].
    fn median(&self, steady_ms: u64) -> Option<(Timestamp, usize)> {
        let fresh = self.said.values().filter(|(_, heard)| steady_ms.saturating_sub(*heard) <= SAID_MS_MAX);
        let mut said: Vec<Timestamp> = fresh.map(|(time, heard)| time.plus_ms(steady_ms.saturating_sub(*heard))).collect();
        said.sort_unstable();
        (said.len() >= MEMBERS_MIN).then(|| said.get(said.len() / 2).map(|median| (*median, said.len()))).flatten()
    }

    /// Takes note of a member's time; one statement a member counts, the last one.
    pub fn hear(&mut self, member: &MemberId, time: Timestamp, steady_ms: u64) {
        if self.said.len() < SAID_MAX || self.said.contains_key(member) {
            self.said.insert(member.clone(), (time, steady_ms));
        }
    }

    /// The latest date of a signed document: no right clock is behind it.
    pub fn set_floor(&mut self, floor: Timestamp) {
        self.floor = floor;
    }

    /// Compares everything. Returns true if what [`Self::doubt`] answers has changed.
    pub fn look(&mut self, reading: Reading) -> bool {
        let Reading { wall, steady_ms } = reading;
        let passed = steady_ms.saturating_sub(self.looked_ms);
        self.looked_ms = steady_ms;
        self.said.retain(|_, (_, heard)| steady_ms.saturating_sub(*heard) <= SAID_MS_MAX);
        let median = self.median(steady_ms);
        let confirmed = median.is_some_and(|(median, _)| !differ(median, wall));
        let behind = wall.plus_ms(CLOCK_SKEW_MS) < self.floor;
        if confirmed && !behind {
            self.anchor = Anchor { at: wall, steady_ms, unsure_ms: 0, provisional: false };
        }
        let expected = self.anchor.expected(steady_ms).max(self.floor);
        let surely = expected.minus_ms(self.anchor.unsure_ms).max(self.floor);
        let set_back = wall < expected && wall >= surely;
        if (self.anchor.provisional && wall >= expected) || (differ(wall, expected) && set_back) {
            // A clock that was behind is set right, or one that was ahead since before anybody could tell.
            self.anchor = Self::believed(reading, surely);
        }
        let expected = self.anchor.expected(steady_ms).max(self.floor);
        let doubt = if self.anchor.provisional && differ(wall, expected) {
            Some(Doubt::Behind { wall, floor: expected })
        } else if differ(wall, expected) {
            Some(Doubt::Stepped { wall, expected })
        } else if let Some((median, count)) = median.filter(|_| !confirmed) {
            Some(Doubt::Members { wall, median, count })
        } else {
            self.follow_drift(reading);
            None
        };
        let narrow = doubt.is_none() && wall.ms_since(wall.minus_ms(self.anchor.unsure_ms).max(self.floor)) <= UNSURE_MS_MAX;
        self.settled_ms = if narrow { self.settled_ms.saturating_add(passed).min(SETTLED_MS) } else { 0 };
        let changed = self.doubt.is_some() != doubt.is_some();
        // The sentence stays while the clocks run, or operators would be notified each second.
        let is_same = self.doubt.as_ref().zip(doubt.as_ref()).is_some_and(|(one, other)| one.is_like(other));
        if !is_same {
            self.doubt = doubt;
        }
        changed
    }

    fn follow_drift(&mut self, reading: Reading) {
        let passed = reading.steady_ms.saturating_sub(self.drifted_ms);
        if passed < DRIFT_INTERVAL_MS {
            return;
        }
        self.drifted_ms = reading.steady_ms;
        let (expected, most) = (self.anchor.expected(reading.steady_ms), passed / DRIFT_DIVISOR);
        let at = reading.wall.clamp(expected.minus_ms(most), expected.plus_ms(most));
        self.anchor = Anchor { at, steady_ms: reading.steady_ms, ..self.anchor };
    }

    /// Believes the wall clock because two operators say that it is right.
    ///
    /// # Errors
    /// If it is behind a signed document: no operator can make that true.
    pub fn confirm(&mut self, reading: Reading) -> Result<(), Doubt> {
        if reading.wall.plus_ms(CLOCK_SKEW_MS) < self.floor {
            return Err(Doubt::Behind { wall: reading.wall, floor: self.floor });
        }
        self.anchor = Anchor { at: reading.wall, steady_ms: reading.steady_ms, unsure_ms: 0, provisional: false };
        self.look(reading);
        Ok(())
    }

    /// The current time, by the last comparison and these clocks. A step since then is noticed here at once.
    pub fn now(&self, reading: Reading) -> Now {
        let Reading { wall, steady_ms } = reading;
        let expected = self.anchor.expected(steady_ms).max(self.floor);
        if self.doubt.is_none() && !differ(wall, expected) {
            // An uncertainty below the skew of clocks is none.
            let unsure_ms = Some(self.anchor.unsure_ms).filter(|unsure| *unsure > CLOCK_SKEW_MS).unwrap_or(0);
            let earliest = wall.minus_ms(unsure_ms).max(self.floor).min(wall);
            let narrow = wall.ms_since(earliest) <= UNSURE_MS_MAX;
            return Now { best: wall, earliest, latest: wall, doubted: false, may_destroy: narrow && self.settled_ms >= SETTLED_MS };
        }
        let median = self.median(steady_ms).map(|(median, _)| median);
        let earliest = median.map_or(wall, |median| median.min(wall)).min(expected).minus_ms(self.anchor.unsure_ms).max(self.floor);
        let latest = median.map_or(wall, |median| median.max(wall)).max(expected);
        Now { best: expected, earliest, latest, doubted: true, may_destroy: false }
    }

    /// The contradiction of the wall clock, if there is one.
    pub fn doubt(&self) -> Option<&Doubt> {
        self.doubt.as_ref()
    }

    /// The reason to destroy nothing yet although nothing contradicts the clock, for people; `None` when it is allowed.
    pub fn unsettled(&self, reading: Reading) -> Option<String> {
        let now = self.now(reading);
        if now.may_destroy || now.doubted {
            return None;
        }
        let unsure = now.best.ms_since(now.earliest);
        Some(if unsure > UNSURE_MS_MAX {
            format!(
                "nothing is erased by age: this machine was off, and {} is not confirmed yet: three members do that by \
                 themselves, or two operators with `huecry clock confirm`",
                now.best
            )
        } else {
            let when = now.best.plus_ms(SETTLED_MS.saturating_sub(self.settled_ms));
            format!("nothing is erased by age before {when}: the clock must have been right for a day by then")
        })
    }

    /// State for the next run; `None` while there is a doubt, so that a restart does not forget it.
    pub fn checkpoint(&self, reading: Reading) -> Option<Checkpoint> {
        let now = self.now(reading);
        (!now.doubted).then(|| Checkpoint {
            boot: self.boot.clone(),
            at: self.anchor.expected(reading.steady_ms),
            steady_ms: reading.steady_ms,
            unsure_ms: self.anchor.unsure_ms,
            settled_ms: self.settled_ms,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: &str = "first";

    fn start_of_time() -> Timestamp {
        Timestamp::from_ms(1_790_000_000_000).unwrap()
    }

    fn at(wall: Timestamp, steady_ms: u64) -> Reading {
        Reading { wall, steady_ms }
    }

    /// A machine that has run for `hours`, founded when its clock was right.
    fn running(hours: u64) -> (Timekeeper, Timestamp, u64) {
        let founded = start_of_time();
        let mut keeper = Timekeeper::start(at(founded, 0), BOOT, None, founded);
        for hour in 1..=hours {
            keeper.look(at(founded.plus_ms(hour * HOUR_MS), hour * HOUR_MS));
        }
        (keeper, founded.plus_ms(hours * HOUR_MS), hours * HOUR_MS)
    }

    fn member(number: usize) -> MemberId {
        format!("member-{number}").parse().unwrap()
    }

    #[test]
    fn x3_what_destroys_waits_for_a_day_without_a_doubt() {
        let (keeper, now, steady) = running(23);
        assert!(!keeper.now(at(now, steady)).may_destroy);
        assert!(keeper.unsettled(at(now, steady)).unwrap().contains(&format!("before {}", now.plus_ms(HOUR_MS))));
        let (keeper, now, steady) = running(24);
        assert!(keeper.now(at(now, steady)).may_destroy);
        assert_eq!(keeper.unsettled(at(now, steady)), None);
    }

    #[test]
    fn x3_a_clock_that_is_set_400_days_ahead_moves_nothing_and_goes_on_by_itself_when_it_is_right_again() {
        for wrong in [start_of_time().plus_ms(400 * DAY_MS), start_of_time().minus_ms(400 * DAY_MS), start_of_time().plus_ms(32 * HOUR_MS)]
        {
            let (mut keeper, now, steady) = running(30);
            // Seen before the next look.
            let moment = keeper.now(at(wrong, steady));
            assert!(moment.doubted && !moment.may_destroy, "{moment:?}");
            assert_eq!(moment.best, now, "the node keeps the time it knows");
            assert!(keeper.look(at(wrong.plus_ms(70_000), steady + 70_000)));
            assert!(matches!(keeper.doubt(), Some(Doubt::Stepped { .. })));
            let moment = keeper.now(at(wrong.plus_ms(70_000), steady + 70_000));
            assert_eq!(moment.latest, wrong.max(now).plus_ms(70_000));
            assert_eq!(moment.earliest, wrong.min(now).plus_ms(70_000).max(start_of_time()));
            let said = keeper.doubt().map(ToString::to_string);
            keeper.look(at(wrong.plus_ms(75_000), steady + 75_000));
            assert_eq!(keeper.doubt().map(ToString::to_string), said, "or operators would be notified each second");
            assert_eq!(keeper.checkpoint(at(wrong, steady + 70_000)), None, "a restart must not forget it");
            assert!(keeper.look(at(now.plus_ms(80_000), steady + 80_000)));
            let moment = keeper.now(at(now.plus_ms(80_000), steady + 80_000));
            assert!(!moment.doubted && !moment.may_destroy, "a day has to pass again: {moment:?}");
        }
    }

    #[test]
    fn x3_a_restart_of_the_node_does_not_forget_what_the_steady_clock_knows() {
        let (keeper, now, steady) = running(30);
        let checkpoint = keeper.checkpoint(at(now, steady)).unwrap();
        let wrong = at(now.plus_ms(400 * DAY_MS), steady + HOUR_MS);
        let again = Timekeeper::start(wrong, BOOT, Some(&checkpoint), start_of_time());
        assert!(again.now(wrong).doubted);
        assert_eq!(again.now(wrong).best, now.plus_ms(HOUR_MS));
        let right = at(now.plus_ms(HOUR_MS), steady + HOUR_MS);
        assert!(Timekeeper::start(right, BOOT, Some(&checkpoint), start_of_time()).now(right).may_destroy);
    }

    #[test]
    fn x3_a_machine_that_starts_400_days_ahead_destroys_nothing_until_somebody_confirms_it() {
        let (keeper, now, steady) = running(30);
        let checkpoint = keeper.checkpoint(at(now, steady)).unwrap();
        let wrong = now.plus_ms(400 * DAY_MS);
        let mut ahead = Timekeeper::start(at(wrong, 0), "second", Some(&checkpoint), start_of_time());
        for hour in 1..=30 {
            ahead.look(at(wrong.plus_ms(hour * HOUR_MS), hour * HOUR_MS));
        }
        let reading = at(wrong.plus_ms(30 * HOUR_MS), 30 * HOUR_MS);
        let moment = ahead.now(reading);
        assert!(!moment.doubted && !moment.may_destroy, "{moment:?}");
        assert_eq!(moment.earliest, now.plus_ms(30 * HOUR_MS));
        assert!(ahead.unsettled(reading).unwrap().contains("is not confirmed yet"));
        // Set right it is believed, although it left a checkpoint that is ahead.
        let poisoned = ahead.checkpoint(reading).unwrap();
        let right = at(now.plus_ms(31 * HOUR_MS), 31 * HOUR_MS);
        assert!(!Timekeeper::start(right, "second", Some(&poisoned), start_of_time()).now(right).doubted);
        assert!(!Timekeeper::start(right, "third", Some(&poisoned), start_of_time()).now(right).doubted);
        // Or two operators say that it is right.
        ahead.confirm(reading).unwrap();
        assert_eq!(ahead.now(reading).earliest, reading.wall);
    }

    #[test]
    fn x4_a_clock_behind_what_is_signed_or_was_seen_is_not_believed() {
        let signed = start_of_time();
        let behind = at(signed.minus_ms(730 * DAY_MS), 5_000);
        let mut keeper = Timekeeper::start(behind, BOOT, None, signed);
        assert!(matches!(keeper.doubt(), Some(Doubt::Behind { .. })));
        let later = at(behind.wall.plus_ms(HOUR_MS), 5_000 + HOUR_MS);
        keeper.look(later);
        let moment = keeper.now(later);
        assert_eq!(moment.best, signed.plus_ms(HOUR_MS), "trusted time continues from the signed date");
        assert_eq!(moment.latest, signed.plus_ms(HOUR_MS));
        assert!(keeper.confirm(later).is_err(), "no operator can say that what is signed is not signed yet");
        // Set right, it is believed.
        let right = at(signed.plus_ms(3 * DAY_MS), 6_000 + HOUR_MS);
        keeper.look(right);
        assert_eq!((keeper.doubt(), keeper.now(right).best), (None, right.wall));
        // The last run is as good as a signature.
        let (keeper, now, steady) = running(1_000);
        let checkpoint = keeper.checkpoint(at(now, steady)).unwrap();
        let behind = at(start_of_time().plus_ms(DAY_MS), 0);
        assert!(Timekeeper::start(behind, "second", Some(&checkpoint), start_of_time()).now(behind).doubted);
    }

    #[test]
    fn x3_three_members_settle_a_step_and_two_do_not() {
        let (mut keeper, now, steady) = running(30);
        // A virtual machine was asleep for a month: the wall clock is right, the steady one is not.
        let wall = now.plus_ms(30 * DAY_MS);
        keeper.look(at(wall, steady + 1_000));
        for number in 0..3 {
            assert!(keeper.doubt().is_some(), "{number} members are too few");
            keeper.hear(&member(number), wall.minus_ms(2_000), steady + 1_000);
            keeper.look(at(wall, steady + 1_000));
        }
        assert_eq!(keeper.doubt(), None);
        assert_eq!(keeper.now(at(wall, steady + 1_000)).best, wall);
    }

    #[test]
    fn x3_three_members_who_say_otherwise_are_a_doubt_and_one_liar_among_them_is_not() {
        let (mut keeper, now, steady) = running(30);
        for number in 0..3 {
            keeper.hear(&member(number), now, steady);
        }
        keeper.hear(&member(3), now.plus_ms(400 * DAY_MS), steady);
        // One member that says it a hundred times is one.
        (0..100).for_each(|_| keeper.hear(&member(4), now.plus_ms(400 * DAY_MS), steady));
        keeper.look(at(now, steady));
        assert_eq!(keeper.doubt(), None);
        let mut ahead = Timekeeper::start(at(now.plus_ms(400 * DAY_MS), 0), "second", None, start_of_time());
        (0..3).for_each(|number| ahead.hear(&member(number), now, 0));
        let wrong = at(now.plus_ms(400 * DAY_MS), 0);
        ahead.look(wrong);
        assert!(matches!(ahead.doubt(), Some(Doubt::Members { count: 3, .. })));
        assert_eq!((ahead.now(wrong).earliest, ahead.now(wrong).latest), (start_of_time(), wrong.wall));
    }

    #[test]
    fn drift_and_five_minutes_are_harmless_and_many_small_steps_are_not() {
        let (mut keeper, now, steady) = running(30);
        let reading = at(now.plus_ms(CLOCK_SKEW_MS - 1), steady);
        keeper.look(reading);
        assert!(keeper.doubt().is_none() && keeper.now(reading).best == reading.wall);
        // A clock that slews by half a thousandth for a month.
        let (mut keeper, now, steady) = running(30);
        for minute in 1..=43_200 {
            keeper.look(at(now.plus_ms(minute * (MINUTE_MS + 30)), steady + minute * MINUTE_MS));
        }
        assert_eq!(keeper.doubt(), None);
        // Four minutes every hour are steps.
        let (mut keeper, now, steady) = running(30);
        for hour in 1..=3 {
            keeper.look(at(now.plus_ms(hour * (HOUR_MS + 4 * MINUTE_MS)), steady + hour * HOUR_MS));
        }
        assert!(matches!(keeper.doubt(), Some(Doubt::Stepped { .. })));
    }

    #[test]
    fn a_sentence_says_what_where_why_and_what_to_do() {
        let wall = start_of_time();
        let doubt = Doubt::Stepped { wall, expected: wall.minus_ms(DAY_MS) };
        let said = doubt.to_string();
        for part in ["set forward by 24 hours", "Nothing is published", "huecry clock confirm", "Withdrawals work"] {
            assert!(said.contains(part), "{said}");
        }
    }
}
