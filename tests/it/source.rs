//! The source itself: the quiet rooms name no runtime, no socket, no disk, no clock, and rooms use only those above them.

use std::path::{Path, PathBuf};

fn files(path: &Path, out: &mut Vec<PathBuf>) {
    if path.is_file() {
        out.push(path.to_owned());
        return;
    }
    for entry in std::fs::read_dir(path).unwrap() {
        files(&entry.unwrap().path(), out);
    }
}

/// The code of a file, without its tests, comments and what they quote.
fn code(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let code = text.split("#[cfg(test)]").next().unwrap();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn room(name: &str) -> Vec<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let file = source.join(format!("{name}.rs"));
    files(&if file.exists() { file } else { source.join(name) }, &mut found);
    found
}

const QUIET: [&str; 10] = ["cbor", "record", "timekeeping", "envelope", "charter", "policy", "publish", "intake", "replica", "exchange"];

#[test]
fn quiet_rooms_name_no_runtime_socket_disk_or_clock() {
    let loud = [
        "tokio",
        "libp2p",
        "sled",
        "fjall",
        "std::fs",
        "std::net::Tcp",
        "std::net::Udp",
        "SystemTime",
        "Instant",
        "std::thread",
        "getrandom",
        "std::env",
    ];
    for path in QUIET.iter().flat_map(|name| room(name)) {
        let code = code(&path);
        for word in loud {
            assert!(!code.contains(word), "{} names `{word}`", path.display());
        }
    }
}

#[test]
fn a_room_uses_only_the_rooms_above_it() {
    let order =
        ["cbor", "record", "timekeeping", "envelope", "charter", "policy", "publish", "intake", "replica", "ledger", "matching", "query"];
    for (index, name) in order.iter().enumerate() {
        for path in room(name) {
            let code = code(&path);
            for below in &order[index + 1..] {
                // Macros of `cbor` write `$crate::record`; the words of a `use` are what counts.
                let uses = code.contains(&format!("crate::{below}::"))
                    || code.lines().any(|line| line.trim_start().starts_with(&format!("{below}::")));
                assert!(!uses || *name == "cbor", "{} uses `{below}`, which stands below it", path.display());
            }
        }
    }
}
