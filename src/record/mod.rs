//! Record: what is said.
//!
//! In: values as people and wires write them. Out: typed records, each with one canonical spelling.
//!
//! ```text
//! indicator -names-> report          sighting -of-> value or record
//! withdrawal -of-> own records       renewal -of-> own report
//! ```
//!
//! Not here: who said it and whether that is proved (`envelope`, `charter`), what is done about it (`policy`).

mod kinds;
mod name;
mod names;
mod observable;
mod reference;
mod time;
mod tlp;

pub use kinds::*;
pub use name::*;
pub use names::*;
pub use observable::*;
pub use reference::*;
pub use time::*;
pub use tlp::*;
