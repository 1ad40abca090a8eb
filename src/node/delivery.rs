//! Delivery: the files of one outlet, in the format of its tool, and telling the tool.
//!
//! ```text
//! lines -Tool::write-> texts -aside, fsync-> read back, compared -rename-> NAME.zone, ... -command, no shell-> the tool
//! ```
//!
//! The last export stands until every file of the new one has been read back. What an older export held is in no file any
//! more, because what was erased has to be gone. A command is a program and its words as the configuration has them: no value ever becomes a word of it.

use crate::{
    exchange::{Entry, ExportFile, Sheet, Tool, Written, nftables_delta},
    record::Timestamp,
};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufWriter, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// How long a tool may take to be told; then its command is ended and the operator reads why.
const RELOAD_MAX: Duration = Duration::from_secs(5);
/// How often it is looked whether the command has ended.
const RELOAD_POLL: Duration = Duration::from_millis(5);
/// Bytes of what a failed command says that are shown.
const SAID_BYTES_MAX: u64 = 400;

/// How an outlet's lines reach its tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    pub tool: Tool,
    /// A program and its words; `{file}` is the export, `{changes}` what has changed since the last one, for nftables.
    pub reload: Vec<String>,
    /// First signature id of Suricata rules.
    pub sid: u32,
}

impl Default for Delivery {
    fn default() -> Self {
        Self { tool: Tool::List, reload: Vec::new(), sid: SID_FIRST }
    }
}

/// First signature id unless the configuration says otherwise: in the range that nobody's published rules use.
pub const SID_FIRST: u32 = 9_100_000;

/// One outlet's files, and what stood in them last.
pub struct Shelf {
    pub delivery: Delivery,
    directory: PathBuf,
    name: String,
    blocks: bool,
    /// What the tool was told last, for the changes.
    told: Option<Vec<Entry>>,
    /// Values that the format could not hold, by reason.
    pub left: BTreeMap<&'static str, u64>,
}

impl Shelf {
    /// The files of outlet `name` in `directory`.
    pub fn new(directory: &Path, name: &str, blocks: bool, delivery: Delivery) -> Self {
        Self { delivery, directory: directory.to_owned(), name: name.to_owned(), blocks, told: None, left: BTreeMap::new() }
    }

    /// The file that a person is pointed to.
    pub fn file(&self) -> PathBuf {
        let ending = match self.delivery.tool {
            Tool::List => ".list",
            Tool::Hosts => ".hosts",
            Tool::Rpz => ".zone",
            Tool::Nftables => ".nft",
            Tool::Suricata => ".rules",
            Tool::Zeek => ".intel",
        };
        self.directory.join(format!("{}{ending}", self.name))
    }

    /// Whether the tool can be told of what is only watched.
    pub(super) fn can_watch(&self) -> bool {
        matches!(self.delivery.tool, Tool::Rpz | Tool::Nftables | Tool::Suricata)
    }

    /// Writes an export. Fails if the last one stands; else answers what is to be run to tell the tool.
    pub fn write(&mut self, entries: Vec<Entry>, serial: u64, now: Timestamp) -> Result<Tell, String> {
        let sheet = Sheet { name: &self.name, serial, now, blocks: self.blocks, sid: self.delivery.sid };
        let Written { files, left } = self.delivery.tool.write(&entries, &sheet);
        std::fs::create_dir_all(&self.directory).map_err(|error| format!("{}: {error}", self.directory.display()))?;
        let aside = files.iter().map(|file| self.aside(file)).collect::<Result<Vec<_>, _>>()?;
        for (file, aside) in files.iter().zip(&aside) {
            let path = self.path(&file.ending);
            std::fs::rename(aside, &path).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        self.remove_what_is_not(&files)?;
        let changes = match (&self.told, self.delivery.tool) {
            (Some(before), Tool::Nftables) => {
                let path = self.path("-changes.nft");
                replace(&path, |out| out.write_all(nftables_delta(before, &entries, &sheet).as_bytes()))?;
                path
            }
            _ => self.file(),
        };
        synced(&self.directory)?;
        self.left = left;
        self.told = (self.delivery.tool == Tool::Nftables && !self.delivery.reload.is_empty()).then_some(entries);
        Ok(self.tell(changes))
    }

    /// Says whether the tool was told. Only what it was told is a beginning for changes.
    pub fn told(&mut self, success: bool) {
        if !success {
            self.told = None;
        }
    }

    fn path(&self, ending: &str) -> PathBuf {
        self.directory.join(format!("{}{ending}", self.name))
    }

    /// Writes a file beside its place and reads it back.
    fn aside(&self, file: &ExportFile) -> Result<PathBuf, String> {
        let path = self.path(&format!("{}.new", file.ending));
        write_synced(&path, |out| out.write_all(file.text.as_bytes()))?;
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        file.reads_back(self.delivery.tool, &text).map_err(|why| format!("{}: {why}; the last export stands", path.display()))?;
        Ok(path)
    }

    /// Removes files of values that this export has none of: a dataset that no rule names any more.
    fn remove_what_is_not(&self, files: &[ExportFile]) -> Result<(), String> {
        if self.delivery.tool != Tool::Suricata && self.delivery.tool != Tool::Rpz {
            return Ok(());
        }
        for name in names_in(&self.directory) {
            let ending = name.strip_prefix(&self.name).filter(|ending| ending.ends_with(".lst") || *ending == "-watch.zone");
            // Another outlet's name may begin with ours; its files have endings that we do not write.
            let ours = ending.filter(|ending| is_ending(ending) && files.iter().all(|file| file.ending != **ending));
            if ours.is_some() {
                let path = self.directory.join(&name);
                std::fs::remove_file(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            }
        }
        Ok(())
    }

    fn tell(&self, changes: PathBuf) -> Tell {
        let word = |word: &String| match word.as_str() {
            "{file}" => self.file().into_os_string(),
            "{changes}" => changes.clone().into_os_string(),
            other => other.into(),
        };
        let command = self.delivery.reload.iter().map(word).collect();
        // What has changed holds values that are gone: it is no longer kept than it is needed.
        let passing = Some(changes.clone()).filter(|path| *path != self.file());
        Tell { command, passing }
    }
}

/// How a tool is told of an export; run it without holding anything that others wait for.
pub struct Tell {
    command: Vec<std::ffi::OsString>,
    passing: Option<PathBuf>,
}

impl Tell {
    /// Runs the command. Fails with what it said.
    pub fn run(self) -> Result<(), String> {
        let Some((program, words)) = self.command.split_first() else { return Ok(()) };
        let outcome = run(program, words).map_err(|why| format!("the export is written, but `{}` {why}", program.to_string_lossy()));
        if let Some(path) = self.passing {
            let _next_one_replaces_it = std::fs::remove_file(path);
        }
        outcome
    }
}

/// Endings of data files that any export writes.
fn is_ending(ending: &str) -> bool {
    let sets = ["domain", "ip", "md5", "sha1", "sha256", "ja3", "ja4"];
    let set = ending.strip_suffix(".lst").map(|name| name.strip_prefix("-watch").unwrap_or(name));
    ending == "-watch.zone" || set.and_then(|name| name.strip_prefix('-')).is_some_and(|name| sets.contains(&name))
}

fn run(program: &std::ffi::OsStr, words: &[std::ffi::OsString]) -> Result<(), String> {
    // A file takes whatever is said, from grandchildren too; a pipe would have to be read.
    let mut said = tempfile::tempfile().map_err(|error| error.to_string())?;
    let stderr = said.try_clone().map_err(|error| error.to_string())?;
    let child = Command::new(program).args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn();
    let mut child = child.map_err(|error| format!("could not be run: {error}"))?;
    let begun = Instant::now();
    let status = loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) => break status,
            None if begun.elapsed() > RELOAD_MAX => {
                let _ended_already = child.kill();
                let _reaped = child.wait();
                return Err(format!("did not end within {} seconds", RELOAD_MAX.as_secs()));
            }
            None => std::thread::sleep(RELOAD_POLL),
        }
    };
    if status.success() {
        return Ok(());
    }
    let mut bytes = Vec::new();
    let _nothing_said = said.rewind().and_then(|()| said.take(SAID_BYTES_MAX).read_to_end(&mut bytes));
    Err(format!("failed ({status}): {}", String::from_utf8_lossy(&bytes).trim()))
}

fn names_in(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Empties exports of outlets that the configuration names no more, or for another tool: nobody could take anything out of them.
pub(super) fn empty_forgotten(directory: &Path, outlets: &[(String, Tool)]) {
    for name in names_in(directory) {
        let known = |ending: &str, tool: Tool| name.strip_suffix(ending).map(|outlet| (outlet.to_owned(), tool));
        let tools = [
            (".list", Tool::List),
            (".hosts", Tool::Hosts),
            ("-watch.zone", Tool::Rpz),
            (".zone", Tool::Rpz),
            (".nft", Tool::Nftables),
            (".rules", Tool::Suricata),
            (".intel", Tool::Zeek),
        ];
        let dataset = || {
            let ending = name.rfind('-').and_then(|at| name.get(at..)).filter(|ending| is_ending(ending))?;
            let outlet = name.strip_suffix(ending)?;
            Some((outlet.strip_suffix("-watch").unwrap_or(outlet).to_owned(), Tool::Suricata))
        };
        let Some((outlet, tool)) = tools.into_iter().find_map(|(ending, tool)| known(ending, tool)).or_else(dataset) else { continue };
        let outlet = outlet.strip_suffix("-changes").map(str::to_owned).unwrap_or(outlet);
        if outlets.contains(&(outlet.clone(), tool)) {
            continue;
        }
        let path = directory.join(&name);
        let sheet = Sheet { name: &outlet, serial: Timestamp::default().ms(), now: Timestamp::default(), blocks: false, sid: SID_FIRST };
        let serial = std::fs::metadata(&path).and_then(|file| file.modified()).ok();
        let serial = serial.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok()).map_or(1, |at| at.as_secs() + 1);
        let written = tool.write(&[], &Sheet { serial, ..sheet });
        let text = written.files.iter().find(|file| name.ends_with(&file.ending)).map_or("", |file| file.text.as_str());
        if std::fs::metadata(&path).is_ok_and(|file| file.len() > text.len() as u64) {
            tracing::warn!(file = %path.display(), "the export of an outlet that is configured no more is emptied");
            if let Err(error) = std::fs::write(&path, text) {
                tracing::error!(%error, file = %path.display(), "an export that nobody keeps could not be emptied");
            }
        }
    }
}

/// Replaces a file by what `write` writes, durably.
pub fn replace(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>) -> Result<(), String> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".new");
    let aside = PathBuf::from(aside);
    write_synced(&aside, write)?;
    std::fs::rename(&aside, path).map_err(|error| format!("{}: {error}", path.display()))?;
    // The rename is durable when its directory is.
    path.parent().map_or(Ok(()), synced)
}

fn write_synced(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>) -> Result<(), String> {
    let said = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut out = BufWriter::new(File::create(path).map_err(said)?);
    write(&mut out).map_err(said)?;
    let file = out.into_inner().map_err(|error| said(error.into_error()))?;
    file.sync_all().map_err(said)
}

fn synced(directory: &Path) -> Result<(), String> {
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(|error| format!("{}: {error}", directory.display()))
}
