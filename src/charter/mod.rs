//! Charter: who may speak.
//!
//! In: signed documents, the time. Out: a [`Roster`] that answers "whose key is this, and may it publish here, now?"
//!
//! ```text
//! charter (stewards, k of n) -names-> members, circles, agreements
//! stamp (coordinator, online) -says-> this charter is current
//! card (member's root key) -names-> publishing keys, nodes, channels
//! ```
//!
//! Not here: how documents travel (`replica`), where they are kept (`ledger`), what local policy thinks (`policy`).
//! Follows: design section 4; TUF 1.0 sections 5.2 and 6.1 for root rotation and its attacks.

mod agreement;
mod card;
mod change;
mod document;
mod past;
mod proposal;
mod quota;
mod renewal;
mod roster;
mod text;

pub use agreement::*;
pub use card::*;
pub use change::*;
pub use document::*;
pub use past::*;
pub use proposal::*;
pub use quota::*;
pub use renewal::*;
pub use roster::*;
pub use text::*;
