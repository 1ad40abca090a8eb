//! What several behaviours need.

use serde_json::Value;
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

/// Runs a command that has to succeed.
pub fn run(data: &Path, words: &[&str]) -> Output {
    let output = huecry(data, words);
    assert_eq!(code(&output), 0, "{words:?}: {}{}", stdout(&output), stderr(&output));
    output
}

/// Copies a directory and all that is in it, with who may read it.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else if entry.file_type().unwrap().is_file() {
            // A node that was killed leaves its socket.
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
    std::fs::set_permissions(to, std::fs::metadata(from).unwrap().permissions()).unwrap();
}

/// An agency that coordinates, a police unit and a vendor, joined, nothing running.
pub struct Three {
    pub place: tempfile::TempDir,
}

impl Three {
    pub fn new() -> Self {
        let three = Self { place: tempfile::tempdir().unwrap() };
        let listen = |data: &Path, words: &[&str]| {
            let address = format!("/ip4/127.0.0.1/tcp/{}", port());
            run(data, &[words, &["--listen", &address]].concat());
        };
        let (agency, police, vendor) = (three.of("agency"), three.of("police"), three.of("vendor"));
        listen(&agency, &["init", "--member", "xx-agency", "--kind", "coordinator", "--name", "Agency", "--found", "Watch"]);
        let federation = json_of(&run(&agency, &["--json", "status"]))["federation"].as_str().unwrap().to_owned();
        let to = ["--federation", &federation];
        listen(&vendor, &[&["init", "--member", "some-vendor", "--kind", "vendor", "--name", "Some Vendor"], &to[..]].concat());
        let country = ["init", "--member", "xa-police", "--kind", "country", "--country", "XA", "--name", "Police"];
        listen(&police, &[&country[..], &to].concat());
        let (one, other) = (vendor.join("request.huecry"), police.join("request.huecry"));
        run(&agency, &["admit", one.to_str().unwrap(), other.to_str().unwrap()]);
        let invitation = agency.join("invitation.huecry");
        run(&vendor, &["join", invitation.to_str().unwrap()]);
        run(&police, &["join", invitation.to_str().unwrap()]);
        three
    }

    /// Takes in one more police unit, whose directory is called as its member is.
    pub fn and(self, member: &str) -> Self {
        let (agency, data) = (self.of("agency"), self.of(member));
        let federation = json_of(&run(&agency, &["--json", "status"]))["federation"].as_str().unwrap().to_owned();
        let (country, address) = (member[..2].to_uppercase(), format!("/ip4/127.0.0.1/tcp/{}", port()));
        let new = ["init", "--member", member, "--kind", "country", "--country", &country, "--name", member, "--listen", &address];
        run(&data, &[&new[..], &["--federation", &federation]].concat());
        run(&agency, &["admit", data.join("request.huecry").to_str().unwrap()]);
        run(&data, &["join", agency.join("invitation.huecry").to_str().unwrap()]);
        self
    }

    pub fn of(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    pub fn start(&self, name: &str) -> Running {
        start(&self.of(name))
    }

    pub fn publish(&self, name: &str, values: &[&str], more: &[&str]) {
        let list = self.place.path().join("list.txt");
        std::fs::write(&list, values.join("\n")).unwrap();
        let words = ["publish", list.to_str().unwrap(), "--title", "t", "--use", "alert", "--source", "own", "--format", "list"];
        let sure = if more.contains(&"--confidence") { &[][..] } else { &["--confidence", "80"] };
        run(&self.of(name), &[&words[..], sure, more].concat());
    }

    pub fn finds(&self, name: &str, value: &str) -> bool {
        code(&huecry(&self.of(name), &["query", value])) == 0
    }

    pub fn sync(&self, name: &str, of: &str) -> Value {
        let reply = json_of(&run(&self.of(name), &["--json", "sync", "--once"]));
        reply["lines"].as_array().unwrap().iter().find(|line| line["member"] == of).cloned().unwrap_or_default()
    }
}
