//! Rules: policies and lists, read from the files that the configuration names.
//!
//! What does not read is an alarm and never a hole: of policies the last good ones stay in force, out of the journal; of a
//! list its last good state, out of a copy. Where there is none, a node without a policy does not start, and a missing list
//! that protects keeps anything new from being enforced.

use crate::{
    config::{Config, ListSource},
    envelope::Hash,
    ledger::PolicyEntry,
    policy::{
        LIST_FILE_BYTES_MAX, ListRole, Lists, MissingList, POLICY_BYTES_MAX, Piece, Policy, PolicyError, RoleTable, TrustError, compile,
    },
    record::excerpt,
};
use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

/// Why there is no policy, or a draft of one does not read.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    #[error("{}: {error}", path.display())]
    Io { path: PathBuf, error: std::io::Error },
    #[error(transparent)]
    Trust(#[from] TrustError),
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

/// Policies and lists, read.
pub struct Rules {
    pub policy: Policy,
    pub lists: Lists,
    /// What a person must mend.
    pub alarms: Vec<String>,
    /// What a person may want to know.
    pub notes: Vec<String>,
}

/// Reads everything. Fails only if there is no policy at all, neither in the files nor as `last_good`.
pub fn load(data: &Path, config: &Config, last_good: Option<&PolicyEntry>) -> Result<Rules, RulesError> {
    let mut alarms = Vec::new();
    let policy = match (read_policy(data, config), last_good) {
        (Ok(policy), _) => policy,
        (Err(error), Some(entry)) => {
            alarms.push(format!("{error}. The policy of {} stays in force (huecry policy show)", entry.at));
            Policy::of(entry.pieces.clone())?
        }
        (Err(error), None) => return Err(error),
    };
    let (lists, notes) = read_lists(data, config);
    for missing in lists.missing() {
        let stand_in = if missing.stands_in { "its last good state stands in for it" } else { "there is no earlier state of it" };
        let closed = if missing.role.protects() { "; nothing new is enforced until it reads" } else { "" };
        alarms.push(format!("list `{}` does not read: {}; {stand_in}{closed}", missing.name, missing.why));
    }
    Ok(Rules { policy, lists, alarms, notes })
}

/// A file that is tried in place of the one that the configuration names.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Draft {
    pub file: String,
    pub text: String,
}

impl Draft {
    /// Whether it stands for `trust.toml`.
    fn is_trust(&self) -> bool {
        self.file.ends_with(".toml")
    }
}

/// The pieces of the policy as the files have them now, with `draft` in place of the file of its kind.
pub fn read_pieces(data: &Path, config: &Config, draft: Option<&Draft>) -> Result<Vec<Piece>, RulesError> {
    let mut pieces = Vec::new();
    match draft.filter(|draft| draft.is_trust()) {
        Some(draft) => pieces.extend(compile(&draft.file, &draft.text)?),
        None => {
            if let Some(trust) = &config.policy.trust {
                let path = data.join(trust);
                pieces.extend(compile(&path.display().to_string(), &read_text(&path, POLICY_BYTES_MAX)?)?);
            }
        }
    }
    pieces.push(match draft.filter(|draft| !draft.is_trust()) {
        Some(draft) => Piece::new(draft.file.clone(), draft.text.clone()),
        None => {
            let path = data.join(&config.policy.file);
            Piece::new(path.display().to_string(), read_text(&path, POLICY_BYTES_MAX)?)
        }
    });
    Ok(pieces)
}

fn read_policy(data: &Path, config: &Config) -> Result<Policy, RulesError> {
    Ok(Policy::of(read_pieces(data, config, None)?)?)
}

fn read_text(path: &Path, bytes_max: usize) -> Result<String, RulesError> {
    let at = |error| RulesError::Io { path: path.to_owned(), error };
    let file = std::fs::File::open(path).map_err(at)?;
    let mut text = String::new();
    let bytes_max = bytes_max as u64 + 1;
    let read = if path.extension().is_some_and(|ending| ending == "gz") {
        flate2::read::MultiGzDecoder::new(file).take(bytes_max).read_to_string(&mut text)
    } else {
        file.take(bytes_max).read_to_string(&mut text)
    };
    read.map_err(at)?;
    if text.len() as u64 == bytes_max {
        return Err(RulesError::Io { path: path.to_owned(), error: std::io::Error::other("it is too long") });
    }
    Ok(text)
}

/// A list to be read: under which name, from where, as what.
struct Wanted {
    name: String,
    path: PathBuf,
    role: ListRole,
}

/// The lists as the files have them now, and what a person may want to know of them.
pub fn read_lists(data: &Path, config: &Config) -> (Lists, Vec<String>) {
    let (mut lists, mut notes) = (Lists::default(), Vec::new());
    let good = LastGood { directory: data.join("last-good") };
    for list in wanted(data, config, &mut lists, &mut notes) {
        let read = read_text(&list.path, LIST_FILE_BYTES_MAX).map_err(|error| error.to_string());
        let loaded = read.and_then(|text| {
            let report = lists.load(&list.name, list.role, &text).map_err(|error| error.to_string())?;
            good.keep(&list.name, &text);
            Ok(report)
        });
        match loaded {
            Ok(report) => {
                if let Some(first) = report.first_skipped {
                    let (name, skipped) = (&list.name, report.skipped);
                    notes.push(format!(
                        "list `{name}`: {skipped} entries are no values and were left out, the first is `{}`",
                        excerpt(&first)
                    ));
                }
            }
            Err(why) => {
                let stand_in = good.get(&list.name).and_then(|text| lists.load(&list.name, list.role, &text).ok());
                lists.miss(MissingList { name: list.name, role: list.role, why, stands_in: stand_in.is_some() });
            }
        }
    }
    lists.settle();
    (lists, notes)
}

fn wanted(data: &Path, config: &Config, lists: &mut Lists, notes: &mut Vec<String>) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    for entry in &config.lists {
        match entry.source() {
            Ok(ListSource::File { name, file, role }) => wanted.push(Wanted { name: name.to_owned(), path: data.join(file), role }),
            Ok(ListSource::Directory { directory, roles }) => {
                let path = data.join(directory);
                if let Err(why) = wanted_of(&path, roles.map(|roles| data.join(roles)).as_deref(), &mut wanted, notes) {
                    let name = directory.display().to_string();
                    lists.miss(MissingList { name, role: ListRole::Clears, why, stands_in: false });
                }
            }
            // INVARIANT: Config::parse has checked it.
            Err(why) => notes.push(why),
        }
    }
    wanted
}

/// The lists in a directory. One that the table does not know warns: it may neither clear what it should not, nor pass
/// unseen.
fn wanted_of(directory: &Path, roles: Option<&Path>, wanted: &mut Vec<Wanted>, notes: &mut Vec<String>) -> Result<(), String> {
    let table = match roles {
        Some(path) => RoleTable::parse(&read_text(path, POLICY_BYTES_MAX).map_err(|error| error.to_string())?)?,
        None => RoleTable::shipped(),
    };
    let failed = |error: std::io::Error| format!("{}: {error}", directory.display());
    let entries = std::fs::read_dir(directory).map_err(failed)?;
    let mut paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<PathBuf>, _>>().map_err(failed)?;
    paths.sort();
    let before = wanted.len();
    for path in paths {
        let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let plain = file.trim_end_matches(".gz");
        // As MISP publishes them: `lists/NAME/list.json`; or all files in one directory.
        let inside = path.join("list.json");
        let (name, path) = match plain.strip_suffix(".json").or_else(|| plain.strip_suffix(".txt")) {
            Some(name) => (name, path.clone()),
            None if inside.exists() => (file, inside),
            None => continue,
        };
        match table.of(name).map(crate::policy::ShippedRole::role) {
            // INVARIANT: the table's roles were checked when it was read.
            Some(Ok(None) | Err(_)) => (),
            Some(Ok(Some(role))) => wanted.push(Wanted { name: name.to_owned(), path, role }),
            None => {
                notes.push(format!("list `{name}` is not in the table of roles, so it warns"));
                wanted.push(Wanted { name: name.to_owned(), path, role: ListRole::Warns });
            }
        }
    }
    // An empty directory is more likely a disk that is not mounted than a wish.
    if wanted.len() == before { Err(format!("{}: there is no list in it", directory.display())) } else { Ok(()) }
}

/// Copies of lists as they were when they last read. Losing one loses a convenience, so nothing here fails loudly.
struct LastGood {
    directory: PathBuf,
}

impl LastGood {
    fn path(&self, name: &str) -> PathBuf {
        // A name is a person's; a hash of it is a safe file name.
        self.directory.join(Hash::of(name.as_bytes()).to_string())
    }

    fn get(&self, name: &str) -> Option<String> {
        read_text(&self.path(name), LIST_FILE_BYTES_MAX).ok()
    }

    fn keep(&self, name: &str, text: &str) {
        let path = self.path(name);
        if std::fs::metadata(&path).is_ok_and(|there| there.len() == text.len() as u64) && self.get(name).as_deref() == Some(text) {
            return;
        }
        let aside = path.with_extension("new");
        let written = std::fs::create_dir_all(&self.directory)
            .and_then(|()| std::fs::write(&aside, text))
            .and_then(|()| std::fs::rename(&aside, &path));
        if let Err(error) = written {
            tracing::warn!(%error, list = name, "no copy of a list could be kept for the day when it does not read");
        }
    }
}
