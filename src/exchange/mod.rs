//! Exchange: others' formats.
//!
//! In: lines of files that other people's tools wrote. Out: values, each with its line, or a complaint that names it.
//! Not here: opening files (`cli`, `http`), what becomes of the values (`publish`, `intake`).

mod text;

pub use text::*;
