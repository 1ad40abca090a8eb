//! What several behaviours need.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// The corpus of real data, if it is beside the project. Under CI it must be.
pub fn corpus() -> Option<PathBuf> {
    let path =
        std::env::var_os("HUECRY_CORPUS").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus"), PathBuf::from);
    if path.is_dir() {
        return Some(path);
    }
    assert!(std::env::var_os("CI").is_none(), "under CI the corpus must be at {}", path.display());
    println!("skipped: there is no corpus at {}", path.display());
    None
}

/// Reads a file of the corpus, unpacked.
pub fn read(path: &Path) -> Vec<u8> {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    if path.extension().is_some_and(|ending| ending == "gz") {
        let mut out = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(&bytes[..]), &mut out).unwrap();
        return out;
    }
    bytes
}

pub fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&read(path)).unwrap()
}

/// Runs the command as a person would.
pub fn huecry(data: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_huecry")).arg("--data").arg(data).args(words).env_remove("HUECRY_DATA").output().unwrap()
}

pub fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A federation of one in a directory of its own.
pub fn founded() -> tempfile::TempDir {
    let data = tempfile::tempdir().unwrap();
    let output = huecry(data.path(), &["init", "--member", "xx-agency", "--found", "Test", "--listen", "/ip4/127.0.0.1/tcp/0"]);
    assert_eq!(code(&output), 0, "{}", stderr(&output));
    data
}
