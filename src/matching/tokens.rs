//! Tokens: the words of a line that may be values, whatever its format. What quotes, separates or brackets is no part of one.

pub const DIGIT: u16 = 1;
/// Letters that are digits in base 16.
pub const HEX: u16 = 2;
/// All other letters, `-` and `_`.
pub const ALPHA: u16 = 4;
pub const DOT: u16 = 8;
pub const COLON: u16 = 16;
pub const AT: u16 = 32;
/// Bytes of characters beyond ASCII, and what may stand in front of an `@`.
pub const HIGH: u16 = 64;

const CLASSES: [u16; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        #[expect(clippy::indexing_slicing, reason = "computed when compiling, where an index beyond the end is an error")]
        {
            classes[byte] = match byte as u8 {
                b'0'..=b'9' => DIGIT,
                b'a'..=b'f' | b'A'..=b'F' => HEX,
                b'g'..=b'z' | b'G'..=b'Z' | b'-' | b'_' => ALPHA,
                b'.' => DOT,
                b':' => COLON,
                b'@' => AT,
                b'+' | 0x80..=0xff => HIGH,
                _ => 0,
            };
        }
        byte += 1;
    }
    classes
};

/// What a byte is in a token; 0 if it is in none.
pub fn class(byte: u8) -> u16 {
    CLASSES.get(usize::from(byte)).copied().unwrap_or(0)
}

/// One word of a line.
#[derive(Clone, Copy)]
pub struct Token<'a> {
    pub bytes: &'a [u8],
    /// The classes of all its bytes together.
    pub flags: u16,
    /// What stands behind it on the line.
    pub after: &'a [u8],
}

/// Visits the words of a line, from left to right.
pub fn tokens(line: &[u8], mut visit: impl FnMut(Token<'_>)) {
    let mut rest = line;
    while let Some(start) = rest.iter().position(|byte| class(*byte) != 0) {
        rest = rest.get(start..).unwrap_or_default();
        let mut flags = 0;
        let ends = |byte: &u8| {
            let class = class(*byte);
            flags |= class;
            class == 0
        };
        let (bytes, after) = rest.split_at(rest.iter().position(ends).unwrap_or(rest.len()));
        visit(Token { bytes, flags, after });
        rest = after;
    }
}

/// The URL that begins with this token (`http:`), also where JSON has written its slashes as `\/`.
pub fn url(token: &Token<'_>) -> Option<Vec<u8>> {
    let is_scheme = [&b"http:"[..], b"https:", b"ftp:"].iter().any(|scheme| token.bytes.eq_ignore_ascii_case(scheme));
    let escaped = token.after.starts_with(br"\/\/");
    if !is_scheme || !(escaped || token.after.starts_with(b"//")) {
        return None;
    }
    let ends =
        |byte: &u8| byte.is_ascii_whitespace() || byte.is_ascii_control() || matches!(byte, b'"' | b'\'' | b'<' | b'>' | b'`' | b'|');
    let length = token.after.iter().position(ends).unwrap_or(token.after.len()).min(super::URL_BYTES_MAX);
    let after = token.after.get(..length)?;
    let end = after.iter().rposition(|byte| !matches!(byte, b'.' | b',' | b';' | b')' | b']' | b'\\')).map_or(0, |last| last + 1);
    let after = after.get(..end)?;
    let mut whole = [token.bytes, after].concat();
    if escaped {
        // A `\\` that stands before a `/` is JSON's, not the URL's.
        let mut behind = after.iter().skip(1).chain([&0]);
        let mut plain = token.bytes.to_vec();
        plain.extend(after.iter().filter(|byte| !(behind.next() == Some(&b'/') && **byte == b'\\')));
        whole = plain;
    }
    Some(whole)
}
