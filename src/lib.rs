//! huecry: a federated peer-to-peer node for sharing cyber-threat indicators.
//!
//! ```text
//! bytes -> envelope (proved) -> charter (entitled) -> policy (permitted) -> ledger (kept) -> query (asked)
//!                                                                  \-> replica -> streams
//! ```
//!
//! The rooms stand in reading order; each uses only those above it. Down to `exchange` they are quiet: no runtime, no
//! socket, no disk, no clock. `ARCHITECTURE.md` has the invariants.

// How anything signed is spelt.
pub mod cbor;

// What is said.
pub mod record;

// The current time, as far as a node can tell.
pub mod timekeeping;

// How it is proved.
pub mod envelope;

// Who may speak.
pub mod charter;

// What may pass.
pub mod policy;

// How our own records become batches.
pub mod publish;

// The one door.
pub mod intake;

// What may act.
pub mod enforce;

// How batches travel.
pub mod replica;

// Others' formats.
pub mod exchange;

// What is kept.
pub mod ledger;

// What is asked.
pub mod matching;
pub mod query;

// The system's clocks.
pub mod clock;

// How a node is set up.
pub mod config;

// Who is shown what.
pub mod access;

// The shell around all this.
pub mod node;

// What is asked of a node, and answered.
pub mod http;

// The local window, through which that is.
pub mod window;

// A federation in one process.
pub mod sim;

// The command line.
pub mod cli;
