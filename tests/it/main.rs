//! Behaviour, seen from outside. One binary, so that libp2p and Cedar are linked once.

mod command_line;
mod federation;
mod gossip_traps;
mod hostile_bytes;
mod keeping;
mod oddities;
mod source;
mod standards;
mod support;
mod wire;
