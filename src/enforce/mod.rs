//! Enforce: what our outlets may act on, and how far a mistake can reach.
//!
//! ```text
//! value + claims + permission of the policy -propose-> OutletSet -stage-> monitored | staged | enforced
//! operators' orders -apply-> Orders (unblocked, stopped, throttled, forced) -filter-> what stands in the export
//! ```
//!
//! A value is enforced only where a policy permits it, no list protects it, its shape cannot hit strangers, its author's
//! baseline was approved, and the hour's additions have room. Stopping takes one person and happens at the next writing of
//! the export; forcing takes two. A URL is never widened to its host: an outlet is given only the types that it takes.
//!
//! Not here: policies (`policy`), reading the ledger (`query`), files and threads (`node`).

mod orders;
mod outlet;
mod set;

pub use orders::*;
pub use outlet::*;
pub use set::*;
