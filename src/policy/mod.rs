//! Policy: what may pass, by the rules of this node.
//!
//! In: what is known of a record (a [`Case`]). Out: a [`Judgement`]: accept, hold or refuse, the policies that decided,
//! what they ask for in return; for a reader or an outlet, a [`Permission`].
//!
//! ```text
//! trust.toml -compile-> Cedar -.
//! policy.cedar -check----------+-> Policy
//! record + author + lists -> Case -memo or Cedar-> Judgement
//! all that is asserted of a value -sources-> how many stand behind it
//! head + reader + roster -> may_send -> yes, or why not
//! head + reader + charter -> releases -> the same, found another way: asked of all that leaves
//! ```
//!
//! Charter and audience (`charter`, [`may_send`]) come first and no policy widens them.
//! Not here: carrying out a verdict (`ledger`), showing it (`query`), what outlets block (`enforce`).
//! Language: Cedar 4, <https://docs.cedarpolicy.com>; schema in `node-config/policy.cedarschema`.

mod case;
mod egress;
mod judge;
mod lists;
mod send;
mod sources;
mod starter;
mod table;
mod text;
mod trust;
mod verdict;

pub use case::{CONFIDENCE_UNSAID, Case, OutletKind, OutletName, Party};
pub use egress::releases;
pub use judge::{MEMO_ENTRIES_MAX, Policy};
pub use lists::*;
pub use send::*;
pub use sources::{CLAIMS_MAX, Claim, Confidence, Standpoint, effective_confidence, independent};
pub use starter::Starter;
pub use table::{CaseResult, TableError, run_table};
pub use text::{Action, POLICY_BYTES_MAX, Piece, PolicyError, SCHEMA, policy_texts};
pub use trust::{TRUST_FILE, TrustError, compile};
pub use verdict::{Judgement, Permission, Verdict};
