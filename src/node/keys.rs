//! Keys at rest: one file a key, readable by its owner alone, in a directory that only the owner may enter.
//!
//! A file holds purpose, seed and public half as text; a public half that does not belong to the seed is refused
//! (`threats.md` S-06). Keys never come from arguments or the environment.

use crate::envelope::{PublicKey, SecretKey};
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
}

impl Purpose {
    fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Node => "node",
            Self::Publishing => "publishing",
            Self::Steward => "steward",
            Self::Freshness => "freshness",
        }
    }
}

impl std::fmt::Display for Purpose {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.name())
    }
}

/// The directory of keys of one node.
pub struct KeyStore {
    directory: PathBuf,
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
        Ok(Self { directory })
    }

    fn path(&self, purpose: Purpose) -> PathBuf {
        self.directory.join(format!("{purpose}.key"))
    }

    /// Whether there is a key for this purpose.
    pub fn has(&self, purpose: Purpose) -> bool {
        self.path(purpose).exists()
    }

    /// Makes a new key.
    pub fn create(&self, purpose: Purpose) -> Result<SecretKey, KeyFileError> {
        let path = self.path(purpose);
        let io = |error| KeyFileError::Io { path: path.clone(), error };
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut()).map_err(|error| KeyFileError::Random(error.to_string()))?;
        let key = SecretKey::from_seed(&seed).ok_or_else(|| KeyFileError::Random("it gave zeros".to_owned()))?;
        let seed_text = Zeroizing::new(hex::encode(key.seed().as_ref()));
        let text = Zeroizing::new(format!(
            "huecry key: {purpose}\nseed: {}\npublic: {}\n",
            seed_text.as_str(),
            hex::encode(key.public().to_bytes())
        ));
        let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Err(KeyFileError::Exists(path)),
            opened => opened.map_err(io)?,
        };
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(io)?;
        Ok(key)
    }

    /// Reads a key, after looking at who else could.
    pub fn read(&self, purpose: Purpose) -> Result<SecretKey, KeyFileError> {
        let path = self.path(purpose);
        let io = |error| KeyFileError::Io { path: path.clone(), error };
        check(&path, &std::fs::symlink_metadata(&path).map_err(io)?, 0o600)?;
        let mut text = Zeroizing::new(String::new());
        File::open(&path).and_then(|file| file.take(KEY_FILE_BYTES_MAX).read_to_string(&mut text)).map_err(io)?;
        let mut lines = text.lines();
        let mut field = |name: &str| lines.next().and_then(|line| line.strip_prefix(name)).map(str::trim);
        let found = field("huecry key:").ok_or_else(|| KeyFileError::Form(path.clone()))?.to_owned();
        let (Some(seed), Some(public)) = (field("seed:"), field("public:")) else { return Err(KeyFileError::Form(path)) };
        if found != purpose.name() {
            return Err(KeyFileError::Purpose { path, wanted: purpose, found });
        }
        let mut bytes = Zeroizing::new([0; 32]);
        hex::decode_to_slice(seed, bytes.as_mut()).map_err(|_| KeyFileError::Form(path.clone()))?;
        let key = SecretKey::from_seed(&bytes).ok_or_else(|| KeyFileError::Form(path.clone()))?;
        if hex::encode(key.public().to_bytes()) == public { Ok(key) } else { Err(KeyFileError::Mismatch(path)) }
    }

    /// Public half of a key.
    pub fn public(&self, purpose: Purpose) -> Result<PublicKey, KeyFileError> {
        self.read(purpose).map(|key| key.public())
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
        let made = store.create(Purpose::Root).unwrap();
        assert_eq!(store.public(Purpose::Root).unwrap(), made.public());
        assert!(matches!(store.create(Purpose::Root), Err(KeyFileError::Exists(_))));
    }

    #[test]
    fn k_01_a_key_that_others_could_read_or_move_is_refused() {
        let (_data, store) = store();
        store.create(Purpose::Node).unwrap();
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
        store.create(Purpose::Publishing).unwrap();
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
