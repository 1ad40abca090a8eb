//! Behaviour, seen from outside. One binary, so that libp2p and Cedar are linked once.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test that cannot go on says so by stopping"
)]

mod access;
mod asking;
mod audience;
mod browser;
mod care;
mod cases;
mod charter;
mod clocks;
mod command_line;
mod decisions;
mod described;
mod documents;
mod enforcing;
mod erasing;
mod exporting;
mod federation;
mod fetching;
mod following;
mod formats;
mod gossip_traps;
mod hostile_bytes;
mod hostile_peers;
mod hostile_wire;
mod importing;
mod keeping;
mod leak;
mod manual;
mod matching;
mod membership;
mod notifying;
mod oddities;
mod partnership;
mod passing_on;
mod poison;
mod pulling;
mod questions;
mod rehearsal;
mod relays;
mod renewing;
mod right_of_way;
mod snapshots;
mod source;
mod standards;
mod stolen;
mod support;
mod taxii;
mod tools;
mod travel;
mod window;
mod wire;
mod withdrawals;
mod worlds;
