//! Envelope: how what is said is proved.
//!
//! In: bytes, a public key. Out: types that exist only if the proof held.
//!
//! ```text
//! head bytes -open-> SignedHead -prove(key)-> ProvedHead -open_body(bytes)-> ProvedBatch
//! ```
//!
//! A batch is a signed *head* (a COSE_Sign1 of about 300 bytes) and a *body* (up to 256 records) that the head's Merkle
//! root commits to, so that one signature serves 256 records and a record re-shared alone still carries its proof.
//! Not here: whose key it is and whether it may speak (`charter`), what the records mean (`record`).
//! Follows: RFC 9052 (COSE), RFC 8032 (Ed25519), RFC 9162 section 2.1 (Merkle trees), design section 5.

mod body;
mod content;
mod cose;
mod head;
mod keys;
pub mod merkle;

pub use body::*;
pub use content::*;
pub use cose::*;
pub use head::*;
pub use keys::*;
