//! Keys at rest: one file a key, readable by its owner alone, in a directory that only the owner may enter.
//!
//! A file holds purpose, seed and public half as text; a public half that does not belong to the seed is refused
//! (`threats.md` S-06). With a passphrase the seed is sealed (`sealed`). Keys and passphrases never come from arguments or
//! the environment. For paper and safes a key is split into shares (`shares`).

mod passphrase;
mod sealed;
mod shares;

pub use passphrase::*;
pub use shares::*;

use crate::{
    envelope::{PublicKey, SecretKey},
    record::UnknownName,
};
use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// Longest key file, in bytes.
const KEY_FILE_BYTES_MAX: u64 = 1024;

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    #[error("{}: {error}", path.display())]
    Io { path: PathBuf, error: std::io::Error },
    #[error("{} can be read or changed by others (mode {mode:o}); run `chmod {want:o} {}`", path.display(), path.display())]
    Mode { path: PathBuf, mode: u32, want: u32 },
    #[error("{} belongs to user {owner}, and huecry runs as {me}; a key has to be its reader's own", path.display())]
    Owner { path: PathBuf, owner: u32, me: u32 },
    #[error("{}: not a key file of huecry", .0.display())]
    Form(PathBuf),
    #[error("{}: this key is for `{found}`, and `{wanted}` is needed; no key serves two purposes", path.display())]
    Purpose { path: PathBuf, wanted: Purpose, found: String },
    #[error("{}: the public half does not belong to the seed; restore the file from a backup", .0.display())]
    Mismatch(PathBuf),
    #[error("{} exists already; a key is never overwritten", .0.display())]
    Exists(PathBuf),
    #[error("the system's random generator failed, so no key was made: {0}")]
    Random(String),
    #[error("{}: the passphrase does not open it", .0.display())]
    Passphrase(PathBuf),
    #[error("{} is sealed by a passphrase, and there is no terminal to ask for it; {PASSPHRASE_HINT}", .0.display())]
    NoPassphrase(PathBuf),
    #[error("{0}")]
    Shares(String),
}

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Signs the member's card; belongs offline.
    Root,
    /// Proves the node to its peers.
    Node,
    /// Signs batches.
    Publishing,
    /// Signs the charter.
    Steward,
    /// Signs stamps.
    Freshness,
    /// Proves which person decided something.
    Operator,
}

impl Purpose {
    fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Node => "node",
            Self::Publishing => "publishing",
            Self::Steward => "steward",
            Self::Freshness => "freshness",
            Self::Operator => "operator",
        }
    }

    /// Every purpose.
    pub const ALL: [Self; 6] = [Self::Root, Self::Node, Self::Publishing, Self::Steward, Self::Freshness, Self::Operator];
}

impl std::str::FromStr for Purpose {
    type Err = UnknownName;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|one| one.name() == text);
        known.ok_or_else(|| UnknownName::new("purpose of a key", text, Self::ALL.into_iter().map(Self::name)))
    }
}

impl std::fmt::Display for Purpose {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.name())
    }
}

/// A new key from the system's random generator (`threats.md` K-04: an all-zero seed is no key).
fn random_key() -> Result<SecretKey, KeyFileError> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut()).map_err(|error| KeyFileError::Random(error.to_string()))?;
    SecretKey::from_seed(&seed).ok_or_else(|| KeyFileError::Random("it gave zeros".to_owned()))
}

/// Makes a key and its file, which must not be there yet.
pub fn create(path: &Path, purpose: Purpose, passphrase: Option<&Passphrase>) -> Result<SecretKey, KeyFileError> {
    let key = random_key()?;
    write(path, purpose, &key, passphrase)?;
    Ok(key)
}

/// Writes a key to a file that must not be there yet, with mode 0600, sealed if there is a passphrase.
pub fn write(path: &Path, purpose: Purpose, key: &SecretKey, passphrase: Option<&Passphrase>) -> Result<(), KeyFileError> {
    let io = |error| KeyFileError::Io { path: path.to_owned(), error };
    let public = hex::encode(key.public().to_bytes());
    let secret = match passphrase {
        None => Zeroizing::new(format!("seed: {}", Zeroizing::new(hex::encode(key.seed().as_ref())).as_str())),
        Some(passphrase) => Zeroizing::new(format!("sealed: {}", sealed::seal(key, purpose, passphrase)?)),
    };
    let text = Zeroizing::new(format!("huecry key: {purpose}\n{}\npublic: {public}\n", secret.as_str()));
    let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Err(KeyFileError::Exists(path.to_owned())),
        opened => opened.map_err(io)?,
    };
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(io)
}

/// The lines of a key file: purpose, `seed: ...` or `sealed: ...`, public half.
struct Lines {
    secret: Zeroizing<String>,
    public: String,
}

fn lines(path: &Path, purpose: Purpose) -> Result<Lines, KeyFileError> {
    let io = |error| KeyFileError::Io { path: path.to_owned(), error };
    check(path, &std::fs::symlink_metadata(path).map_err(io)?, 0o600)?;
    let mut text = Zeroizing::new(String::new());
    File::open(path).and_then(|file| file.take(KEY_FILE_BYTES_MAX).read_to_string(&mut text)).map_err(io)?;
    let form = || KeyFileError::Form(path.to_owned());
    let mut lines = text.lines();
    let found = lines.next().and_then(|line| line.strip_prefix("huecry key:")).map(str::trim).ok_or_else(form)?.to_owned();
    let secret = Zeroizing::new(lines.next().ok_or_else(form)?.to_owned());
    let public = lines.next().and_then(|line| line.strip_prefix("public:")).map(str::trim).ok_or_else(form)?.to_owned();
    if found != purpose.name() {
        return Err(KeyFileError::Purpose { path: path.to_owned(), wanted: purpose, found });
    }
    Ok(Lines { secret, public })
}

/// Reads a key, after looking at who else could; asks `passphrases` if it is sealed.
pub fn read(path: &Path, purpose: Purpose, passphrases: &Passphrases) -> Result<SecretKey, KeyFileError> {
    let form = || KeyFileError::Form(path.to_owned());
    let Lines { secret, public } = lines(path, purpose)?;
    let mut seed = Zeroizing::new([0; 32]);
    match secret.strip_prefix("sealed:") {
        Some(sealed) => {
            let open = |passphrase: &Passphrase| sealed::open(sealed.trim(), purpose, &public, passphrase);
            seed = passphrases.unlock(path, open)?;
        }
        None => {
            let text = secret.strip_prefix("seed:").ok_or_else(form)?;
            hex::decode_to_slice(text.trim(), seed.as_mut()).map_err(|_| form())?;
        }
    }
    let key = SecretKey::from_seed(&seed).ok_or_else(form)?;
    if hex::encode(key.public().to_bytes()) == public { Ok(key) } else { Err(KeyFileError::Mismatch(path.to_owned())) }
}

/// Public half of a key as its file says it; the seal is not opened for that.
pub fn public(path: &Path, purpose: Purpose) -> Result<PublicKey, KeyFileError> {
    let form = || KeyFileError::Form(path.to_owned());
    lines(path, purpose)?.public.parse().map_err(|_| form())
}

/// What a key file is for, by its first line.
pub fn purpose_of(path: &Path) -> Result<Purpose, KeyFileError> {
    match lines(path, Purpose::Root) {
        Ok(_) => Ok(Purpose::Root),
        Err(KeyFileError::Purpose { found, .. }) => found.parse().map_err(|_| KeyFileError::Form(path.to_owned())),
        Err(error) => Err(error),
    }
}

/// The directory of keys of one node.
#[derive(Clone)]
pub struct KeyStore {
    directory: PathBuf,
    passphrases: Passphrases,
}

impl KeyStore {
    /// The keys below a data directory; made, with mode 0700, if it is not there.
    pub fn in_data(data: &Path) -> Result<Self, KeyFileError> {
        let directory = data.join("keys");
        let io = |error| KeyFileError::Io { path: directory.clone(), error };
        match DirBuilder::new().mode(0o700).create(&directory) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(io(error)),
            _ => check(&directory, &std::fs::symlink_metadata(&directory).map_err(io)?, 0o700)?,
        }
        Ok(Self { directory, passphrases: Passphrases::default() })
    }

    /// Where the key of a purpose lies.
    pub fn path(&self, purpose: Purpose) -> PathBuf {
        self.directory.join(format!("{purpose}.key"))
    }

    /// Whether there is a key for this purpose.
    pub fn has(&self, purpose: Purpose) -> bool {
        self.path(purpose).exists()
    }

    /// Makes a new key.
    pub fn create(&self, purpose: Purpose, passphrase: Option<&Passphrase>) -> Result<SecretKey, KeyFileError> {
        create(&self.path(purpose), purpose, passphrase)
    }

    /// Reads a key, after looking at who else could.
    pub fn read(&self, purpose: Purpose) -> Result<SecretKey, KeyFileError> {
        read(&self.path(purpose), purpose, &self.passphrases)
    }

    /// Public half of a key.
    pub fn public(&self, purpose: Purpose) -> Result<PublicKey, KeyFileError> {
        public(&self.path(purpose), purpose)
    }

    /// Makes the key that is to follow the present one of a purpose, beside it; answers its public half.
    pub fn create_next(&self, purpose: Purpose, passphrase: Option<&Passphrase>) -> Result<PublicKey, KeyFileError> {
        let path = self.next_path(purpose);
        // One that was made for a card that never came to be is used now.
        if path.exists() { public(&path, purpose) } else { create(&path, purpose, passphrase).map(|key| key.public()) }
    }

    fn next_path(&self, purpose: Purpose) -> PathBuf {
        self.directory.join(format!("{purpose}.next.key"))
    }

    /// Puts the next key in the place of the present one, whose file is kept under its id; `false` if the next one is not
    /// the key that `wanted` accepts.
    pub fn promote(&self, purpose: Purpose, wanted: impl Fn(&PublicKey) -> bool) -> Result<bool, KeyFileError> {
        let (path, next) = (self.path(purpose), self.next_path(purpose));
        if !next.exists() || !wanted(&public(&next, purpose)?) {
            return Ok(false);
        }
        let io = |error| KeyFileError::Io { path: path.clone(), error };
        if path.exists() {
            let retired = self.directory.join(format!("{purpose}.{}.retired.key", public(&path, purpose)?.id().short()));
            std::fs::rename(&path, retired).map_err(io)?;
        }
        std::fs::rename(&next, &path).map_err(io)?;
        File::open(&self.directory).and_then(|directory| directory.sync_all()).map_err(io)?;
        Ok(true)
    }

    /// Whether the publishing key has signed for others. An empty ledger does not make a lane new: the note lies with the
    /// key.
    pub fn used(&self) -> bool {
        self.directory.join("publishing.used").exists()
    }

    /// Notes, before the first time, that the publishing key signs for others.
    pub fn note_used(&self) -> Result<(), KeyFileError> {
        if self.used() {
            return Ok(());
        }
        let path = self.directory.join("publishing.used");
        let io = |error| KeyFileError::Io { path: path.clone(), error };
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path).map_err(io)?;
        file.write_all(b"this key has signed; after a loss of the ledger its heads are learnt from others\n").map_err(io)?;
        file.sync_all().map_err(io)?;
        File::open(&self.directory).and_then(|directory| directory.sync_all()).map_err(io)
    }
}

/// Refuses what others could read or replace (`threats.md` K-01). Symbolic links are others' to move.
fn check(path: &Path, metadata: &std::fs::Metadata, want: u32) -> Result<(), KeyFileError> {
    let mode = metadata.mode() & 0o7777;
    if metadata.file_type().is_symlink() || mode & 0o077 != 0 {
        return Err(KeyFileError::Mode { path: path.to_owned(), mode, want });
    }
    let me = nix::unistd::geteuid().as_raw();
    if metadata.uid() == me { Ok(()) } else { Err(KeyFileError::Owner { path: path.to_owned(), owner: metadata.uid(), me }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn store() -> (tempfile::TempDir, KeyStore) {
        let data = tempfile::tempdir().unwrap();
        let store = KeyStore::in_data(data.path()).unwrap();
        (data, store)
    }

    #[test]
    fn a_key_reads_back_and_is_never_overwritten() {
        let (_data, store) = store();
        let made = store.create(Purpose::Root, None).unwrap();
        assert_eq!(store.public(Purpose::Root).unwrap(), made.public());
        assert!(matches!(store.create(Purpose::Root, None), Err(KeyFileError::Exists(_))));
    }

    #[test]
    fn k_02_a_sealed_key_opens_with_its_passphrase_and_with_no_other() {
        let (_data, store) = store();
        let right = Passphrase::new("correct horse battery staple");
        let made = store.create(Purpose::Root, Some(&right)).unwrap();
        let path = store.path(Purpose::Root);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("argon2id") && !text.contains(&hex::encode(made.seed().as_ref())));
        assert_eq!(read(&path, Purpose::Root, &Passphrases::given("correct horse battery staple")).unwrap().public(), made.public());
        let error = read(&path, Purpose::Root, &Passphrases::given("Correct horse battery staple")).unwrap_err();
        assert!(matches!(error, KeyFileError::Passphrase(_)), "{error}");
        // Another file's public half under the same box: the seal covers it.
        std::fs::write(&path, text.replace(&hex::encode(made.public().to_bytes()), &hex::encode([7; 32]))).unwrap();
        assert!(read(&path, Purpose::Root, &Passphrases::given("correct horse battery staple")).is_err());
    }

    #[test]
    fn the_next_key_takes_the_place_of_the_present_one_which_is_kept() {
        let (_data, store) = store();
        let old = store.create(Purpose::Publishing, None).unwrap().public();
        let new = store.create_next(Purpose::Publishing, None).unwrap();
        assert_eq!(store.create_next(Purpose::Publishing, None).unwrap(), new, "one is made, however often it is asked for");
        assert!(!store.promote(Purpose::Publishing, |key| *key == old).unwrap());
        assert!(store.promote(Purpose::Publishing, |key| *key == new).unwrap());
        assert_eq!(store.public(Purpose::Publishing).unwrap(), new);
        assert!(store.directory.join(format!("publishing.{}.retired.key", old.id().short())).exists());
    }

    #[test]
    fn k_01_a_key_that_others_could_read_or_move_is_refused() {
        let (_data, store) = store();
        store.create(Purpose::Node, None).unwrap();
        let path = store.path(Purpose::Node);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = store.read(Purpose::Node).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let aside = path.with_extension("aside");
        std::fs::rename(&path, &aside).unwrap();
        std::os::unix::fs::symlink(&aside, &path).unwrap();
        assert!(store.read(Purpose::Node).is_err());
    }

    #[test]
    fn s_06_a_public_half_that_does_not_match_is_refused() {
        let (_data, store) = store();
        store.create(Purpose::Publishing, None).unwrap();
        let path = store.path(Purpose::Publishing);
        let other = SecretKey::from_seed(&[9; 32]).unwrap().public();
        let text = std::fs::read_to_string(&path).unwrap();
        let swapped: Vec<String> = text
            .lines()
            .map(|line| if line.starts_with("public:") { format!("public: {}", hex::encode(other.to_bytes())) } else { line.to_owned() })
            .collect();
        std::fs::write(&path, swapped.join("\n")).unwrap();
        assert!(matches!(store.read(Purpose::Publishing), Err(KeyFileError::Mismatch(_))));
        std::fs::rename(&path, store.path(Purpose::Root)).unwrap();
        assert!(matches!(store.read(Purpose::Root), Err(KeyFileError::Purpose { .. })));
    }
}
