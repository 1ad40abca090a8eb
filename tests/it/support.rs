//! What several behaviours need.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
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

pub fn json_of(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

/// A port that was free a moment ago.
pub fn port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A node that is killed when the test is over.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn start(data: &Path) -> Running {
    let log = std::fs::File::create(data.join("log")).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_huecry")).arg("--data").arg(data).arg("run").stderr(log).stdout(Stdio::null()).spawn();
    let running = Running(child.unwrap());
    until("the node to answer", || {
        let status = huecry(data, &["--json", "status"]);
        stdout(&status).contains("\"running\":true")
    });
    running
}

pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(60), "waited a minute for {what}");
        std::thread::sleep(Duration::from_millis(30));
    }
}
