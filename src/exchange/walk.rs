//! The outline of a JSON text, walked piece by piece, so that a file of any length costs the memory of one element.
//!
//! ```text
//! pieces of bytes -Walker-> where a value begins: go in, hand it out whole, or pass over it (the visitor says which)
//! ```
//!
//! Elements are handed out as bytes, to be parsed by `serde_json`: one that is broken falls alone. Only the outline is read
//! here, and an outline that does not close refuses the file before anything of it is used. A comma too many before a
//! closing bracket, as published files have, is passed over and counted.
//!
//! Grammar: RFC 8259.

use memchr::{memchr, memchr2};

/// Longest element that is handed out, in bytes: a MISP attribute with a report of 12 MB attached in base64.
pub const ELEMENT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Deepest nesting, as deep as `serde_json` goes; the deepest published file has 14.
pub const DEPTH_MAX: usize = 128;
/// Most keys of an object that is gone into; MISP events have some 40.
const KEYS_MAX: usize = 256;
/// Longest key of such an object, in bytes.
const KEY_BYTES_MAX: usize = 256;

/// One step from the root to a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Key(String),
    /// From 0.
    Index(u64),
}

impl Step {
    /// The key, if this is one.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Key(key) => Some(key),
            Self::Index(_) => None,
        }
    }
}

/// Where a value stands, for people: `objects[17]`.
pub fn path_text(path: &[Step]) -> String {
    path.iter().fold(String::new(), |text, step| match step {
        Step::Key(key) if text.is_empty() => crate::record::excerpt(key),
        Step::Key(key) => format!("{text}.{}", crate::record::excerpt(key)),
        Step::Index(index) => format!("{text}[{index}]"),
    })
}

/// What begins at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Is {
    Object,
    Array,
    Scalar,
}

/// What is done with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// Its values are asked about one by one.
    Descend,
    /// It is handed out whole.
    Capture,
    Skip,
}

/// A value that was captured.
#[derive(Clone, Copy, Debug)]
pub struct Element<'a> {
    pub path: &'a [Step],
    /// Line on which it begins, from 1.
    pub line: u64,
    /// Its bytes; `None` when there are more than [`ELEMENT_BYTES_MAX`].
    pub bytes: Option<&'a [u8]>,
}

/// Says what to take and takes it.
pub trait Visit {
    /// Called where an object, array or scalar begins.
    fn begins(&mut self, path: &[Step], is: Is) -> Take;
    /// Called with each captured value, in the file's order.
    fn element(&mut self, element: Element<'_>);
}

/// Why a text is refused as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}; the file is not JSON, and nothing of it was taken")]
pub struct WalkError {
    pub line: u64,
    pub why: String,
}

/// An object or array that was gone into.
struct Frame {
    is_object: bool,
    /// Keys seen, or how many elements.
    keys: Vec<String>,
    count: u64,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Value,
    /// A value, or the end of the array that has just begun.
    FirstValue,
    Key,
    FirstKey,
    Colon,
    /// A comma, or the end of what we are in.
    Comma,
}

/// What is being read to its end.
enum Inside {
    Nothing,
    Key { escaped: bool },
    Value { depth: usize, string: bool, escaped: bool, scalar: bool, capture: bool },
}

/// Reads the outline; feed it the bytes in pieces, then [`Self::finish`].
pub struct Walker {
    path: Vec<Step>,
    frames: Vec<Frame>,
    expect: Expect,
    inside: Inside,
    element: Vec<u8>,
    element_line: u64,
    long: bool,
    line: u64,
    started: bool,
    /// Texts that have begun: one JSON text a line is as a list of them.
    roots: u64,
    /// Commas before a closing bracket, which JSON does not have.
    pub commas: u64,
}

impl Default for Walker {
    fn default() -> Self {
        Self {
            path: Vec::new(),
            frames: Vec::new(),
            expect: Expect::Value,
            inside: Inside::Nothing,
            element: Vec::new(),
            element_line: 1,
            long: false,
            line: 1,
            started: false,
            roots: 0,
            commas: 0,
        }
    }
}

impl Walker {
    fn error(&self, why: impl Into<String>) -> WalkError {
        WalkError { line: self.line, why: why.into() }
    }

    /// Takes the next piece.
    pub fn feed(&mut self, piece: &[u8], visit: &mut impl Visit) -> Result<(), WalkError> {
        let mut rest = piece;
        while let Some(&byte) = rest.first() {
            match self.inside {
                Inside::Value { .. } => rest = self.value(rest, visit)?,
                Inside::Key { escaped } => rest = self.key(rest, escaped)?,
                Inside::Nothing => {
                    // A scalar's or container's first byte is read again as part of the value.
                    if self.between(byte, visit)? {
                        rest = rest.get(1..).unwrap_or_default();
                    }
                }
            }
        }
        Ok(())
    }

    /// Says that the text is over.
    pub fn finish(mut self, visit: &mut impl Visit) -> Result<u64, WalkError> {
        if let Inside::Value { scalar: true, depth: 0, .. } = self.inside {
            self.end_value(visit);
        }
        if !matches!(self.inside, Inside::Nothing) || !self.frames.is_empty() {
            let place = if self.path.is_empty() { "its only value".to_owned() } else { format!("`{}`", path_text(&self.path)) };
            return Err(self.error(format!("the text ends inside {place}")));
        }
        if self.expect == Expect::Value {
            return Err(self.error("there is nothing in it"));
        }
        Ok(self.commas)
    }

    /// Reads one byte between values; answers whether it was used up.
    fn between(&mut self, byte: u8, visit: &mut impl Visit) -> Result<bool, WalkError> {
        match byte {
            b'\n' => self.line += 1,
            b' ' | b'\t' | b'\r' => (),
            // A byte order mark.
            0xef | 0xbb | 0xbf if !self.started => (),
            b'}' | b']' => self.close(byte)?,
            b',' if self.expect == Expect::Comma && !self.frames.is_empty() => {
                self.path.pop();
                self.expect = if self.frames.last().is_some_and(|frame| frame.is_object) { Expect::Key } else { Expect::Value };
            }
            b':' if self.expect == Expect::Colon => self.expect = Expect::Value,
            b'"' if matches!(self.expect, Expect::Key | Expect::FirstKey) => {
                self.element.clear();
                self.inside = Inside::Key { escaped: false };
            }
            // One JSON text a line is an array without brackets.
            _ if self.expect == Expect::Comma && self.frames.is_empty() => {
                self.expect = Expect::Value;
                return Ok(false);
            }
            _ if matches!(self.expect, Expect::Value | Expect::FirstValue) => return self.begin(byte, visit),
            _ => return Err(self.error(format!("`{}` stands where JSON has none", char::from(byte).escape_default()))),
        }
        Ok(true)
    }

    fn close(&mut self, byte: u8) -> Result<(), WalkError> {
        let open = self.frames.pop().ok_or_else(|| self.error("a bracket closes that none opened"))?;
        let meant = if open.is_object { b'}' } else { b']' };
        if byte != meant {
            return Err(self.error("a bracket is closed by one of another kind"));
        }
        match self.expect {
            Expect::Comma => drop(self.path.pop()),
            Expect::FirstKey | Expect::FirstValue => (),
            Expect::Key => self.commas += 1,
            Expect::Value if !open.is_object => self.commas += 1,
            _ => return Err(self.error("a value is missing before a closing bracket")),
        }
        self.expect = Expect::Comma;
        Ok(())
    }

    fn begin(&mut self, byte: u8, visit: &mut impl Visit) -> Result<bool, WalkError> {
        if !matches!(byte, b'{' | b'[' | b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n') {
            return Err(self.error(format!("`{}` begins no value", char::from(byte).escape_default())));
        }
        match self.frames.last_mut() {
            Some(frame) => {
                if !frame.is_object {
                    self.path.push(Step::Index(frame.count));
                }
                frame.count += 1;
            }
            None => {
                self.path.clear();
                if self.roots > 0 {
                    self.path.push(Step::Index(self.roots));
                }
                self.roots += 1;
            }
        }
        self.started = true;
        let is = match byte {
            b'{' => Is::Object,
            b'[' => Is::Array,
            _ => Is::Scalar,
        };
        match visit.begins(&self.path, is) {
            Take::Descend if is != Is::Scalar => {
                if self.frames.len() >= DEPTH_MAX {
                    return Err(self.error("it is nested deeper than 128 levels"));
                }
                self.frames.push(Frame { is_object: byte == b'{', keys: Vec::new(), count: 0 });
                self.expect = if byte == b'{' { Expect::FirstKey } else { Expect::FirstValue };
                Ok(true)
            }
            take => {
                (self.element_line, self.long) = (self.line, false);
                self.element.clear();
                let capture = take != Take::Skip;
                self.inside = Inside::Value { depth: 0, string: false, escaped: false, scalar: is == Is::Scalar && byte != b'"', capture };
                Ok(false)
            }
        }
    }

    fn key<'a>(&mut self, bytes: &'a [u8], mut escaped: bool) -> Result<&'a [u8], WalkError> {
        for (at, byte) in bytes.iter().enumerate() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => {
                    self.inside = Inside::Nothing;
                    self.expect = Expect::Colon;
                    let text = [b"\"", self.element.as_slice(), b"\""].concat();
                    let key: String = serde_json::from_slice(&text).map_err(|_| self.error("a key is no JSON string"))?;
                    self.name(key)?;
                    return Ok(bytes.get(at + 1..).unwrap_or_default());
                }
                _ => (),
            }
            if self.element.len() >= KEY_BYTES_MAX {
                return Err(self.error("a key has more than 256 bytes"));
            }
            self.element.push(*byte);
        }
        self.inside = Inside::Key { escaped };
        Ok(&[])
    }

    fn name(&mut self, key: String) -> Result<(), WalkError> {
        let Some(frame) = self.frames.last_mut() else { return Ok(()) };
        let twice = frame.keys.contains(&key);
        frame.keys.push(key.clone());
        if twice {
            // Readers differ on which of the two counts; a file that means two things is taken for neither.
            return Err(self.error(format!("the key `{}` stands twice in one object", crate::record::excerpt(&key))));
        }
        if self.frames.last().is_some_and(|frame| frame.keys.len() > KEYS_MAX) {
            return Err(self.error("an object has more than 256 keys"));
        }
        self.path.push(Step::Key(key));
        Ok(())
    }

    /// Reads on in a value that is captured or passed over.
    fn value<'a>(&mut self, bytes: &'a [u8], visit: &mut impl Visit) -> Result<&'a [u8], WalkError> {
        let Inside::Value { mut depth, mut string, mut escaped, scalar, capture } = self.inside else { return Ok(bytes) };
        let mut at = 0;
        let mut ended = false;
        while let Some(&byte) = bytes.get(at) {
            if string {
                if std::mem::take(&mut escaped) {
                    at += 1;
                    continue;
                }
                let rest = bytes.get(at..).unwrap_or_default();
                let Some(found) = memchr2(b'"', b'\\', rest) else {
                    at = bytes.len();
                    break;
                };
                at += found + 1;
                match rest.get(found) {
                    Some(b'\\') => escaped = true,
                    _ => string = false,
                }
                if !string && depth == 0 {
                    ended = true;
                    break;
                }
                continue;
            }
            match byte {
                b',' | b'}' | b']' | b'\n' | b' ' | b'\t' | b'\r' if depth == 0 && scalar => {
                    ended = true;
                    break;
                }
                b'"' => string = true,
                b'{' | b'[' => {
                    depth += 1;
                    if depth + self.frames.len() > DEPTH_MAX {
                        return Err(self.error("it is nested deeper than 128 levels"));
                    }
                }
                b'}' | b']' => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        at += 1;
                        ended = true;
                        break;
                    }
                }
                _ => (),
            }
            at += 1;
        }
        let (used, rest) = bytes.split_at(at.min(bytes.len()));
        self.keep(used, capture);
        self.inside = Inside::Value { depth, string, escaped, scalar, capture };
        if ended {
            self.end_value(visit);
        }
        Ok(rest)
    }

    fn keep(&mut self, used: &[u8], capture: bool) {
        let mut lines = used;
        while let Some(found) = memchr(b'\n', lines) {
            self.line += 1;
            lines = lines.get(found + 1..).unwrap_or_default();
        }
        if capture && !self.long {
            if self.element.len() + used.len() > ELEMENT_BYTES_MAX {
                self.long = true;
                self.element = Vec::new();
            } else {
                self.element.extend_from_slice(used);
            }
        }
    }

    fn end_value(&mut self, visit: &mut impl Visit) {
        if let Inside::Value { capture: true, .. } = self.inside {
            let bytes = (!self.long).then_some(self.element.as_slice());
            visit.element(Element { path: &self.path, line: self.element_line, bytes });
        }
        self.inside = Inside::Nothing;
        self.expect = Expect::Comma;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goes into objects and arrays down to `deep`, and keeps what is there.
    struct Collect {
        deep: usize,
        found: Vec<String>,
    }

    impl Visit for Collect {
        fn begins(&mut self, path: &[Step], _: Is) -> Take {
            if path.len() < self.deep { Take::Descend } else { Take::Capture }
        }

        fn element(&mut self, element: Element<'_>) {
            let text = element.bytes.map_or("(long)".to_owned(), |bytes| String::from_utf8_lossy(bytes).into_owned());
            self.found.push(format!("{}:{} {text}", element.line, path_text(element.path)));
        }
    }

    fn walk(text: &[u8], deep: usize, piece: usize) -> Result<(Vec<String>, u64), WalkError> {
        let mut collect = Collect { deep, found: Vec::new() };
        let mut walker = Walker::default();
        text.chunks(piece).try_for_each(|piece| walker.feed(piece, &mut collect))?;
        let commas = walker.finish(&mut collect)?;
        Ok((collect.found, commas))
    }

    fn check(text: &str, deep: usize, expected: &[&str]) {
        for piece in [1, 2, 3, 7, 4096] {
            assert_eq!(walk(text.as_bytes(), deep, piece).unwrap().0, expected, "{text} in pieces of {piece}");
        }
    }

    #[test]
    fn elements_come_out_whole_wherever_the_pieces_are_cut() {
        check(
            "\u{feff}{\"type\": \"bundle\",\n \"objects\": [{\"a\": [1, {\"b\": \"}]\\\"\"}]},\n 17, \"x\\\\\"]}",
            2,
            &["1:type \"bundle\"", "2:objects[0] {\"a\": [1, {\"b\": \"}]\\\"\"}]}", "3:objects[1] 17", "3:objects[2] \"x\\\\\""],
        );
        check("[]", 1, &[]);
        check("{\"a\":{},\"b\":[[]]}", 1, &["1:a {}", "1:b [[]]"]);
        check("17", 0, &["1: 17"]);
        check("{\"a\":1}\n{\"a\":2}\n", 0, &["1: {\"a\":1}", "2:[1] {\"a\":2}"]);
    }

    #[test]
    fn an_outline_that_does_not_close_is_refused_with_its_line() {
        for (text, line, why) in [
            ("{\"a\": [1,\n 2", 2, "ends inside `a[1]`"),
            ("", 1, "nothing in it"),
            ("{\"a\": 1]", 1, "another kind"),
            ("{\"a\" 1}", 1, "stands where JSON has none"),
            ("[1 2]", 1, "stands where JSON has none"),
            ("]", 1, "closes that none opened"),
            ("{\"b\":1,\"a\":}", 1, "a value is missing"),
            ("{\"a\":1,\n\"a\":2}", 2, "stands twice"),
            ("[,1]", 1, "begins no value"),
            ("<html>", 1, "begins no value"),
        ] {
            let error = walk(text.as_bytes(), 3, 2).unwrap_err();
            assert!(error.line == line && error.why.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn a_comma_before_a_closing_bracket_is_passed_over_and_counted() {
        let (found, commas) = walk(b"{\"a\": [1, 2,],}", 2, 3).unwrap();
        assert_eq!((found.len(), commas), (2, 2));
    }

    #[test]
    fn nesting_without_end_is_refused_as_soon_as_it_is_too_deep() {
        let deep = vec![b'['; 1 << 20];
        for take in [0, 1_000] {
            assert!(walk(&deep, take, 4096).unwrap_err().why.contains("deeper than 128"));
        }
    }

    #[test]
    fn an_element_that_is_too_long_is_named_and_costs_no_memory() {
        let text = format!("[\"{}\", 1]", "x".repeat(ELEMENT_BYTES_MAX));
        let (found, _) = walk(text.as_bytes(), 1, 65_536).unwrap();
        assert_eq!(found, ["1:[0] (long)", "1:[1] 1"]);
    }
}
