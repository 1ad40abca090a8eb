//! The log on disk: a file for each day, a line of JSON for each entry, each with the hash of the line before.
//!
//! ```text
//! access/2026-11-26.jsonl   {"n":41,...,"prev":"<hash of 40>"} {"n":42,...}
//! access/2026-11-27.jsonl   {"n":43,...,"prev":"<hash of 42>"}
//! ```
//!
//! Whoever knows the hash of one line can tell whether any line up to that one was altered, taken out or put in: so the node says it in
//! its journal when a day ends, and an auditor writes it down. Days go as a whole when they are older than is kept; what follows
//! still proves itself. A line without its end was never acknowledged, and is cut when the log is opened.

use super::entry::{AccessEntry, Shown, batch_of};
use crate::{
    envelope::Hash,
    record::{DAY_MS, RecordRef, Timestamp},
    timekeeping::Now,
};
use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Longest file of a day. What cannot be logged is not shown.
const DAY_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Longest line that is read.
const LINE_BYTES_MAX: u64 = 1024 * 1024;
/// Broken places that are told one by one.
const BROKEN_MAX: usize = 16;
/// The end of a file's name.
const ENDING: &str = ".jsonl";
/// What the first line has before it.
const NOTHING: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Why the log cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    #[error("{}: {error}", path.display())]
    Io { path: PathBuf, error: std::io::Error },
    #[error("{}: its last line cannot be read; move the directory away, keep it for the auditor, and a new log begins", .0.display())]
    Damaged(PathBuf),
    #[error("{}: the access log of one day is full; what cannot be logged is not shown", .0.display())]
    Full(PathBuf),
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> AccessError + '_ {
    move |error| AccessError::Io { path: path.to_owned(), error }
}

/// How far the log reaches: the number of an entry, and the hash of its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    pub n: u64,
    pub hash: String,
}

impl std::fmt::Display for Reach {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}:{}", self.n, self.hash)
    }
}

impl std::str::FromStr for Reach {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{}` is no head of an access log; `huecry audit --verify` shows one", crate::record::excerpt(text));
        let (n, hash) = text.split_once(':').ok_or_else(wrong)?;
        let is_hash = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        Ok(Self { n: n.parse().map_err(|_| wrong())?, hash: Some(hash.to_ascii_lowercase()).filter(|_| is_hash).ok_or_else(wrong)? })
    }
}

/// What is said of one look.
pub(super) struct Said<'a> {
    pub who: &'a str,
    pub how: &'a str,
    pub why: Option<&'a str>,
    pub shown: &'a Shown,
}

/// Whether the log is what was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    pub entries: u64,
    /// The oldest day that is kept.
    pub since: Option<String>,
    pub reach: Option<Reach>,
    /// What is wrong, a sentence each.
    pub broken: Vec<String>,
}

pub(super) struct Log {
    directory: PathBuf,
    keep_days: u32,
    end: Mutex<End>,
    /// The entry up to which everything is on the disk; held while the disk is waited for, so that those who come meanwhile share the next wait.
    synced: Mutex<u64>,
}

struct End {
    /// The day's file, once something was written.
    file: Option<(PathBuf, File)>,
    bytes: u64,
    reach: Reach,
    /// The last thing failed: whatever is in the file behind the last whole line goes first.
    torn: bool,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The day of a moment, as files are called.
fn date(now: Timestamp) -> String {
    now.precise().chars().take_while(|char| *char != 'T').collect()
}

fn hash_of(line: &[u8]) -> String {
    hex::encode(Hash::of(line).0)
}

impl Log {
    /// Opens the log of a directory, which need not be there yet.
    pub fn open(directory: &Path, keep_days: u32, now: impl Into<Now>) -> Result<Self, AccessError> {
        let log = Self {
            directory: directory.to_owned(),
            keep_days,
            end: Mutex::new(End { file: None, bytes: 0, reach: Reach { n: 0, hash: NOTHING.to_owned() }, torn: false }),
            synced: Mutex::new(0),
        };
        log.expire(now.into())?;
        for path in log.days()?.into_iter().rev() {
            let (last, whole) = last_line(&path)?;
            // A day that had begun when the power failed has no line yet; the one before it says how far the log reaches.
            let Some(line) = last else {
                std::fs::remove_file(&path).map_err(at(&path))?;
                continue;
            };
            let entry: AccessEntry = serde_json::from_slice(&line).map_err(|_| AccessError::Damaged(path.clone()))?;
            let file = OpenOptions::new().append(true).open(&path).map_err(at(&path))?;
            file.set_len(whole).map_err(at(&path))?;
            let mut end = held(&log.end);
            end.reach = Reach { n: entry.n, hash: hash_of(&line) };
            (end.file, end.bytes) = (Some((path, file)), whole);
            break;
        }
        Ok(log)
    }

    /// The files, the oldest first.
    fn days(&self) -> Result<Vec<PathBuf>, AccessError> {
        let entries = match std::fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(at(&self.directory)(error)),
        };
        let is_day = |path: &PathBuf| day_of(path).is_some();
        let mut days: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_day).collect();
        days.sort();
        Ok(days)
    }

    /// Removes the days that are older than is kept; the newest stays, because the next one goes on from it.
    fn expire(&self, now: Now) -> Result<(), AccessError> {
        if !now.may_destroy {
            return Ok(());
        }
        let first = date(now.earliest.minus_ms(u64::from(self.keep_days) * DAY_MS));
        let mut days = self.days()?;
        days.pop();
        for path in days.into_iter().filter(|path| day_of(path).is_some_and(|day| *day < *first)) {
            std::fs::remove_file(&path).map_err(at(&path))?;
        }
        Ok(())
    }

    /// Writes, and answers when it is on the disk: how far the log reached before, if a day begins with this.
    pub fn append(&self, now: impl Into<Now>, said: &Said<'_>) -> Result<Option<Reach>, AccessError> {
        let moment = now.into();
        let now = moment.best;
        if said.shown.is_empty() {
            return Ok(None);
        }
        let mut end = held(&self.end);
        let path = self.directory.join(format!("{}{ENDING}", date(now)));
        // A clock that was set back goes on in the newest file.
        let begins = end.file.as_ref().is_none_or(|(newest, _)| *newest < path);
        let before = (begins && end.reach.n > 0).then(|| end.reach.clone());
        if begins {
            self.begin(&mut end, path)?;
        }
        let (mut text, mut reach) = (Vec::new(), end.reach.clone());
        for records in said.shown.lines() {
            let (who, how) = (said.who.to_owned(), said.how.to_owned());
            let entry = AccessEntry {
                n: reach.n + 1,
                at: now.precise(),
                who,
                how,
                why: said.why.map(str::to_owned),
                records,
                prev: reach.hash.clone(),
            };
            let line = serde_json::to_vec(&entry).map_err(|error| at(&self.directory)(error.into()))?;
            reach = Reach { n: entry.n, hash: hash_of(&line) };
            text.extend_from_slice(&line);
            text.push(b'\n');
        }
        let End { file, bytes, torn, .. } = &mut *end;
        let Some((path, file)) = file else { return Ok(None) };
        if *bytes + text.len() as u64 > DAY_BYTES_MAX {
            return Err(AccessError::Full(path.clone()));
        }
        if *torn {
            file.set_len(*bytes).map_err(at(path))?;
        }
        *torn = true;
        file.write_all(&text).map_err(at(path))?;
        *torn = false;
        *bytes += text.len() as u64;
        let (path, file) = (path.clone(), file.try_clone().map_err(at(path))?);
        end.reach = reach.clone();
        drop(end);
        let mut synced = held(&self.synced);
        if *synced < reach.n {
            // Others may have written behind this, into the file of another day too, which is not what is waited for.
            let upto = {
                let end = held(&self.end);
                let is_same = end.file.as_ref().is_some_and(|(newest, _)| *newest == path);
                if is_same { end.reach.n } else { reach.n }
            };
            file.sync_data().map_err(at(&path))?;
            *synced = upto;
        }
        drop(synced);
        if begins {
            self.expire(moment)?;
        }
        Ok(before)
    }

    /// Begins the file of a day. What went before is on the disk by then.
    fn begin(&self, end: &mut End, path: PathBuf) -> Result<(), AccessError> {
        if let Some((before, file)) = &end.file {
            file.sync_data().map_err(at(before))?;
        }
        std::fs::create_dir_all(&self.directory).map_err(at(&self.directory))?;
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path).map_err(at(&path))?;
        File::open(&self.directory).and_then(|directory| directory.sync_all()).map_err(at(&self.directory))?;
        (end.bytes, end.torn) = (file.metadata().map_err(at(&path))?.len(), false);
        end.file = Some((path, file));
        Ok(())
    }

    /// Visits every entry, the oldest first, as long as `visit` says to go on; only those that may tell of `record`, if one is named.
    pub fn each(&self, record: Option<&RecordRef>, mut visit: impl FnMut(AccessEntry) -> bool) -> Result<(), AccessError> {
        let name = record.map(|record| format!("\"{}\"", batch_of(record)));
        for path in self.days()? {
            let go_on = each_line(&path, |line, _| {
                let may = name.as_ref().is_none_or(|name| contains(line, name.as_bytes()) || contains(line, b"\"*\""));
                let entry = Some(line).filter(|_| may).and_then(|line| serde_json::from_slice::<AccessEntry>(line).ok());
                entry.filter(|entry| record.is_none_or(|record| entry.tells_of(record))).is_none_or(&mut visit)
            })?;
            if !go_on {
                break;
            }
        }
        Ok(())
    }

    /// Reads everything, and says what was altered: inside, and against heads that were written down elsewhere.
    pub fn verify(&self, heads: &[(String, Reach)]) -> Result<Verified, AccessError> {
        let days = self.days()?;
        let mut verified = Verified { since: days.first().and_then(|path| day_of(path)).map(str::to_owned), ..Verified::default() };
        let mut hashes: BTreeMap<u64, String> = BTreeMap::new();
        let (mut last, mut first): (Option<Reach>, Option<u64>) = (None, None);
        let mut broken = Vec::new();
        for path in &days {
            each_line(path, |line, number| {
                let place = || format!("{}, line {number}", path.display());
                let Ok(entry) = serde_json::from_slice::<AccessEntry>(line) else {
                    broken.push(format!("{}: it is no entry", place()));
                    return true;
                };
                let before = last.as_ref();
                if before.is_some_and(|before| before.n + 1 != entry.n || before.hash != entry.prev) {
                    broken.push(format!("{}: entry {} does not follow the one before it", place(), entry.n));
                }
                if before.is_none() && entry.n == 1 && entry.prev != NOTHING {
                    broken.push(format!("{}: the first entry follows another", place()));
                }
                first = first.or(Some(entry.n));
                // What the first that is kept follows can be checked too, though it is gone.
                if before.is_none() && entry.n > 1 {
                    hashes.insert(entry.n - 1, entry.prev.clone());
                }
                let reach = Reach { n: entry.n, hash: hash_of(line) };
                if heads.iter().any(|(_, head)| head.n == reach.n) {
                    hashes.insert(reach.n, reach.hash.clone());
                }
                verified.entries += 1;
                last = Some(reach);
                true
            })?;
        }
        let begins = first.map_or(u64::MAX, |first| first.saturating_sub(1));
        for (whence, head) in heads.iter().filter(|(_, head)| head.n >= begins || first.is_none()) {
            match hashes.get(&head.n) {
                Some(hash) if *hash == head.hash => (),
                Some(_) => broken.push(format!("entry {} or one before it is another than {whence} says", head.n)),
                None => broken.push(format!("entry {}, of which {whence} tells, is missing", head.n)),
            }
        }
        broken.truncate(BROKEN_MAX);
        (verified.reach, verified.broken) = (last, broken);
        Ok(verified)
    }
}

/// The day of a file of ours.
fn day_of(path: &Path) -> Option<&str> {
    let day = path.file_name()?.to_str()?.strip_suffix(ENDING)?;
    let is_date = day.len() == 10 && day.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    is_date.then_some(day)
}

fn contains(line: &[u8], name: &[u8]) -> bool {
    memchr::memmem::find(line, name).is_some()
}

/// Visits the whole lines of a file with their numbers, as long as `visit` says to go on; answers whether it came to the end.
fn each_line(path: &Path, mut visit: impl FnMut(&[u8], u64) -> bool) -> Result<bool, AccessError> {
    let mut lines = BufReader::new(File::open(path).map_err(at(path))?);
    let (mut line, mut number) = (Vec::new(), 0);
    loop {
        line.clear();
        lines.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line).map_err(at(path))?;
        // One that is being written has no end yet.
        if line.is_empty() || (line.last() != Some(&b'\n') && (line.len() as u64) < LINE_BYTES_MAX) {
            return Ok(true);
        }
        number += 1;
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        if !visit(&line, number) {
            return Ok(false);
        }
    }
}

/// The last whole line of a file, without its end, and where it ends.
fn last_line(path: &Path) -> Result<(Option<Vec<u8>>, u64), AccessError> {
    let mut file = File::open(path).map_err(at(path))?;
    let length = file.metadata().map_err(at(path))?.len();
    let from = length.saturating_sub(2 * LINE_BYTES_MAX);
    file.seek(SeekFrom::Start(from)).map_err(at(path))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail).map_err(at(path))?;
    let Some(end) = tail.iter().rposition(|byte| *byte == b'\n') else { return Ok((None, 0)) };
    let begin = tail.get(..end).and_then(|before| before.iter().rposition(|byte| *byte == b'\n')).map_or(0, |before| before + 1);
    Ok((tail.get(begin..end).map(<[u8]>::to_vec), from + end as u64 + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_764_208_800_000;

    fn day(number: u64) -> Timestamp {
        Timestamp::from_ms(NOW + number * DAY_MS).unwrap()
    }

    fn shown(names: &[&str]) -> Shown {
        let mut shown = Shown::default();
        names.iter().for_each(|name| shown.add(&name.parse().unwrap()));
        shown
    }

    fn write(log: &Log, now: Timestamp, who: &str, names: &[&str]) -> Option<Reach> {
        log.append(now, &Said { who, how: "query", why: Some("case 7"), shown: &shown(names) }).unwrap()
    }

    fn seen(log: &Log, name: &str) -> Vec<String> {
        let mut seen = Vec::new();
        let record = name.parse().unwrap();
        log.each(Some(&record), |entry| {
            seen.push(entry.who);
            true
        })
        .unwrap();
        seen
    }

    fn place() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn who_saw_a_record_is_told_after_a_restart_too() {
        let place = place();
        let log = Log::open(place.path(), 30, day(0)).unwrap();
        write(&log, day(0), "dora", &["xa-police/main#1.0", "xa-police/main#1.1"]);
        drop(log);
        let log = Log::open(place.path(), 30, day(0)).unwrap();
        write(&log, day(0), "emil", &["xa-police/main#1.1", "xa-police/main#11.1"]);
        assert_eq!(seen(&log, "xa-police/main#1.0"), ["dora"]);
        assert_eq!(seen(&log, "xa-police/main#1.1"), ["dora", "emil"]);
        assert!(seen(&log, "xa-police/main#1.2").is_empty());
        let verified = log.verify(&[]).unwrap();
        assert_eq!((verified.entries, verified.broken), (2, Vec::new()));
    }

    #[test]
    fn a_line_that_was_altered_taken_out_or_put_in_is_told() {
        for (what, alter) in [
            ("altered", (|lines: &mut Vec<String>| lines[1] = lines[1].replace("emil", "dora")) as fn(&mut Vec<String>)),
            ("taken out", |lines| drop(lines.remove(1))),
            ("put in", |lines| lines.insert(1, lines[1].clone())),
            ("cut", |lines| lines.truncate(2)),
            ("begun later", |lines| drop(lines.drain(..1))),
        ] {
            let place = place();
            let log = Log::open(place.path(), 30, day(0)).unwrap();
            for who in ["dora", "emil", "fred"] {
                write(&log, day(0), who, &["xa-police/main#1.0"]);
            }
            let head = log.verify(&[]).unwrap().reach.unwrap();
            let path = log.days().unwrap().remove(0);
            let mut lines: Vec<String> = std::fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect();
            alter(&mut lines);
            std::fs::write(&path, lines.join("\n") + "\n").unwrap();
            let against = [("the auditor".to_owned(), head)];
            let broken = log.verify(&against).unwrap().broken;
            // What was begun later is like days that are over; only who wrote its first entries down can tell.
            assert_eq!(broken.is_empty(), what == "begun later", "{what}: {broken:?}");
        }
    }

    #[test]
    fn days_that_are_over_go_and_the_rest_still_proves_itself() {
        let place = place();
        let log = Log::open(place.path(), 3, day(0)).unwrap();
        let ends: Vec<Option<Reach>> = (0..6).map(|number| write(&log, day(number), "dora", &["xa-police/main#1.0"])).collect();
        assert_eq!(ends[0], None);
        assert_eq!(ends[1].as_ref().map(|end| end.n), Some(1), "the end of a day is told when the next begins");
        assert_eq!(log.days().unwrap().len(), 4);
        let heads: Vec<_> = ends.into_iter().flatten().map(|end| ("the journal".to_owned(), end)).collect();
        let verified = log.verify(&heads).unwrap();
        assert_eq!((verified.entries, verified.broken), (4, Vec::new()));
        let wrong = [("the journal".to_owned(), Reach { n: 2, hash: "ab".repeat(32) })];
        assert_eq!(log.verify(&wrong).unwrap().broken.len(), 1, "what the first that is kept follows is known");
    }

    #[test]
    fn half_a_line_is_cut_and_what_follows_is_whole() {
        let place = place();
        let log = Log::open(place.path(), 30, day(0)).unwrap();
        write(&log, day(0), "dora", &["xa-police/main#1.0"]);
        let path = log.days().unwrap().remove(0);
        drop(log);
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"n\":2,\"at\":\"2026").unwrap();
        let log = Log::open(place.path(), 30, day(0)).unwrap();
        write(&log, day(0), "emil", &["xa-police/main#1.0"]);
        assert_eq!(seen(&log, "xa-police/main#1.0"), ["dora", "emil"]);
        assert!(log.verify(&[]).unwrap().broken.is_empty());
        std::fs::write(&path, "rubbish\n").unwrap();
        assert!(matches!(Log::open(place.path(), 30, day(0)), Err(AccessError::Damaged(_))));
    }

    #[test]
    fn a_day_that_had_begun_when_the_power_failed_breaks_nothing() {
        for torn in ["", "{\"n\":2,\"at\""] {
            let place = place();
            let log = Log::open(place.path(), 30, day(0)).unwrap();
            write(&log, day(0), "dora", &["xa-police/main#1.0"]);
            let next = place.path().join(format!("{}{ENDING}", date(day(1))));
            drop(log);
            std::fs::write(&next, torn).unwrap();
            let log = Log::open(place.path(), 30, day(1)).unwrap();
            write(&log, day(1), "emil", &["xa-police/main#1.0"]);
            let verified = log.verify(&[]).unwrap();
            assert_eq!((verified.entries, verified.broken), (2, Vec::new()));
        }
    }

    #[test]
    fn a_clock_that_is_set_back_breaks_nothing() {
        let place = place();
        let log = Log::open(place.path(), 30, day(5)).unwrap();
        write(&log, day(5), "dora", &["xa-police/main#1.0"]);
        write(&log, day(4), "emil", &["xa-police/main#1.0"]);
        assert_eq!(log.days().unwrap().len(), 1);
        assert!(log.verify(&[]).unwrap().broken.is_empty());
    }

    #[test]
    fn many_at_once_are_all_written() {
        let place = place();
        let log = Log::open(place.path(), 30, day(0)).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..25).for_each(|_| drop(write(&log, day(0), "dora", &["xa-police/main#1.0"]))));
            }
        });
        let verified = log.verify(&[]).unwrap();
        assert_eq!((verified.entries, verified.broken), (200, Vec::new()));
    }
}
