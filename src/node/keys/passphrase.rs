//! Where a passphrase comes from: a systemd credential, a file of the caller's, or the terminal. Never an argument, never
//! the environment itself (`threats.md` K-03).

use super::KeyFileError;
use std::{
    io::{IsTerminal as _, Read as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use zeroize::Zeroizing;

/// Name of the systemd credential: `LoadCredential=huecry-passphrase:/etc/huecry/passphrase`.
pub const CREDENTIAL: &str = "huecry-passphrase";
/// What to do where nobody can be asked.
pub(super) const PASSPHRASE_HINT: &str = "give it as the systemd credential `huecry-passphrase`, or start from a terminal";
/// Guesses at a terminal before the command gives up.
const GUESSES: u32 = 3;
/// Pause after a wrong guess, on top of what the seal costs, growing with each.
const PAUSE: Duration = Duration::from_secs(1);
/// Longest passphrase file, in bytes.
const PASSPHRASE_BYTES_MAX: u64 = 4096;

/// A passphrase, wiped when it is dropped.
#[derive(Clone)]
pub struct Passphrase(Zeroizing<String>);

impl Passphrase {
    /// The passphrase `text`.
    pub fn new(text: &str) -> Self {
        Self(Zeroizing::new(text.to_owned()))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Asks for a new one, twice; an empty one means none.
    pub fn choose() -> Result<Option<Self>, KeyFileError> {
        let asked = |prompt: &str| {
            rpassword::prompt_password(prompt).map(Zeroizing::new).map_err(|error| KeyFileError::Io { path: "/dev/tty".into(), error })
        };
        loop {
            let first = asked("new passphrase (empty for none): ")?;
            if first.is_empty() {
                return Ok(None);
            }
            if *first == *asked("the same again: ")? {
                return Ok(Some(Self(first)));
            }
        }
    }

    /// Reads one from a file, its last line break left out.
    pub fn of_file(path: &Path) -> Result<Self, KeyFileError> {
        let io = |error| KeyFileError::Io { path: path.to_owned(), error };
        let mut text = Zeroizing::new(String::new());
        std::fs::File::open(path).map_err(io)?.take(PASSPHRASE_BYTES_MAX).read_to_string(&mut text).map_err(io)?;
        Ok(Self::new(text.trim_end_matches(['\r', '\n'])))
    }
}

/// Finds passphrases when a sealed key is met, and remembers the one that worked.
#[derive(Clone, Default)]
pub struct Passphrases {
    known: Arc<Mutex<Option<Passphrase>>>,
}

impl Passphrases {
    /// Knows one already.
    pub fn given(text: &str) -> Self {
        Self { known: Arc::new(Mutex::new(Some(Passphrase::new(text)))) }
    }

    /// Tries what is known, then the systemd credential, then a person, until `open` succeeds.
    pub(super) fn unlock<T>(&self, path: &Path, open: impl Fn(&Passphrase) -> Option<T>) -> Result<T, KeyFileError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tried = false;
        if let Some(passphrase) = known.as_ref() {
            tried = true;
            if let Some(opened) = open(passphrase) {
                return Ok(opened);
            }
        }
        if let Some(file) = credential() {
            tried = true;
            let passphrase = Passphrase::of_file(&file)?;
            if let Some(opened) = open(&passphrase) {
                *known = Some(passphrase);
                return Ok(opened);
            }
        }
        if !std::io::stdin().is_terminal() {
            return Err(if tried { KeyFileError::Passphrase(path.to_owned()) } else { KeyFileError::NoPassphrase(path.to_owned()) });
        }
        for guess in 1..=GUESSES {
            let asked = rpassword::prompt_password(format!("passphrase of {}: ", path.display()));
            let passphrase = Passphrase(Zeroizing::new(asked.map_err(|error| KeyFileError::Io { path: path.to_owned(), error })?));
            if let Some(opened) = open(&passphrase) {
                *known = Some(passphrase);
                return Ok(opened);
            }
            std::thread::sleep(PAUSE * guess);
        }
        Err(KeyFileError::Passphrase(path.to_owned()))
    }
}

/// The credential's file; systemd names its directory in the environment, and only that.
fn credential() -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("CREDENTIALS_DIRECTORY")?).join(CREDENTIAL);
    path.exists().then_some(path)
}
