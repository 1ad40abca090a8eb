//! Policy: what may pass, by the rules of this node.
//!
//! In: what is known of a record (a [`Case`]). Out: a [`Judgement`]: accept, hold or refuse, the policies that decided,
//! what they ask for in return.
//!
//! ```text
//! record + author + lists -> Case -memo or Cedar-> Judgement
//! head + reader + roster -> may_send -> yes, or why not
//! ```
//!
//! Charter and audience (`charter`, [`may_send`]) come first and no policy widens them.
//! Not here: carrying out a verdict (`ledger`), showing it (`query`).
//! Language: Cedar 4, <https://docs.cedarpolicy.com>; schema in `node-config/policy.cedarschema`.

mod judge;
mod lists;
mod send;

pub use judge::*;
pub use lists::*;
pub use send::*;
