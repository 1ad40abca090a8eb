//! Exchange: others' formats.
//!
//! ```text
//! lists, tables, prose -TextReader, line by line------\
//! STIX  -Walker-> elements -StixReader, pass by pass----> Reader -> what is said, in our words; complaints; notes
//! MISP  -Walker-> elements -MispReader, pass by pass---/
//! ```
//!
//! In: bytes of files that other people's tools wrote. Out: values and statements in our words, each with its place, or a
//! complaint that names it. Not here: opening files (`cli`, `http`), what becomes of the values (`publish`, `intake`).

mod carried;
mod export;
mod json;
mod list;
mod misp;
mod pattern;
mod prose;
mod reader;
mod said;
mod scale;
mod stix;
mod table;
mod terms;
mod text;
mod times;
mod typed;
mod versions;
mod walk;

pub use carried::*;
pub use export::*;
pub use misp::*;
pub use pattern::*;
pub use reader::*;
pub use said::*;
pub use stix::*;
pub use table::{ColumnError, Details};
pub use terms::*;
pub use text::*;
pub use times::*;
pub use versions::*;
pub use walk::*;
