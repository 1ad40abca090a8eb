//! Cbor: the one spelling in which anything signed may be written.
//!
//! In: bytes of a stranger, or a typed value of ours. Out: the value, or why the bytes are refused.
//!
//! ```text
//! bytes -check-> deterministic, bounded -ciborium-> typed value
//! ```
//!
//! Ciborium decodes leniently (longer integers, indefinite lengths, duplicate keys, trailing bytes), so [`check`] walks
//! the bytes first and lets only RFC 8949 section 4.2.1 through: one item, shortest heads, definite lengths, ascending
//! unique keys, NFC text without NUL; no floats, tags or simple values but `false` and `true`. What passes has exactly
//! one encoding, so an id over received bytes is an id of the content.
//!
//! Not here: what any key means (`record`, `envelope`, `charter`).

use serde::{Serialize, de::DeserializeOwned};
use unicode_normalization::{IsNormalized, is_nfc, is_nfc_quick};

/// Deepest nesting of arrays and maps that is read. Our deepest document, the charter, has five levels; RFC 8949
/// section 10 asks for a bound because recursion is the attacker's stack.
pub const DEPTH_MAX: usize = 16;

/// First map key of the extension space: unknown keys from here up are kept and passed on, below it they are errors.
pub const EXTENSION_KEY_MIN: u64 = 64;

/// Why bytes are not the one spelling.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CborError {
    /// Verdict `Reject`: the sender ran no validator, or means harm.
    #[error("not deterministic CBOR at byte {at}: {why}")]
    Spelling { at: usize, why: &'static str },
    /// Verdict `Reject`: well spelled, but not the shape that the format asks for.
    #[error("unexpected shape: {0}")]
    Shape(String),
    /// Verdict `Reject`: longer than the format allows; nothing was decoded.
    #[error("{length} bytes, but at most {max} are allowed here")]
    Long { length: usize, max: usize },
}

/// What [`check`] saw of the outermost item, so that a reader can tell old formats from new before decoding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// Value under key 0 of the outermost map, when it is an unsigned integer: a format or a kind.
    pub key_zero: Option<u64>,
    /// Bytes spent on extension keys and their values, at any depth.
    pub extension_bytes: usize,
}

/// Accepts `bytes` only if they are exactly one deterministic item; see the head of this file for the rules.
///
/// Takes time linear in the length and allocates nothing. Source: RFC 8949 sections 4.2.1 and 5.3.
pub fn check(bytes: &[u8]) -> Result<Outline, CborError> {
    let mut walk = Walk { bytes, at: 0, extension_bytes: 0 };
    let mut outline = walk.outermost()?;
    outline.extension_bytes = walk.extension_bytes;
    if walk.at == bytes.len() { Ok(outline) } else { Err(walk.refuse("bytes follow the item")) }
}

/// Encodes a value of ours. The types keep their keys in ascending order, so the result passes [`check`].
pub fn to_vec<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    // INVARIANT: writing to a Vec cannot fail, and none of our types refuses to be serialised.
    let _infallible = ciborium::into_writer(value, &mut out);
    out
}

/// Decodes bytes that came from elsewhere: length first, then spelling, then shape.
pub fn from_slice<T: DeserializeOwned + Serialize>(bytes: &[u8], bytes_max: usize) -> Result<T, CborError> {
    if bytes.len() > bytes_max {
        return Err(CborError::Long { length: bytes.len(), max: bytes_max });
    }
    check(bytes)?;
    decode_checked(bytes)
}

/// Decodes bytes that [`check`] has passed already, and refuses what we would write otherwise.
///
/// ciborium reads a byte string where an array is asked for and an array where bytes are, so a well-spelt item may still
/// be another spelling of the same value; writing it again tells. Only where extension keys stand, which are skipped on
/// reading, is the second writing bound to differ.
pub fn decode_checked<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> Result<T, CborError> {
    let value = decode_stored(bytes)?;
    if to_vec(&value) == bytes || check(bytes)?.extension_bytes > 0 {
        Ok(value)
    } else {
        Err(CborError::Shape("it is encoded otherwise than its type is".to_owned()))
    }
}

/// Decodes bytes of our own storage, which were checked when they came in and whose checksum was right.
pub fn decode_stored<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CborError> {
    ciborium::de::from_reader_with_recursion_limit(bytes, DEPTH_MAX + 2).map_err(|error| CborError::Shape(plain(error)))
}

/// Reads stored items one after another without copying them: for bytes that were checked before they were stored.
///
/// Every method fails with `CborError::Spelling` where the next item is of another type or the bytes end.
pub struct Reader<'a>(Walk<'a>);

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(Walk { bytes, at: 0, extension_bytes: 0 })
    }

    fn expect(&mut self, wanted: u8, why: &'static str) -> Result<u64, CborError> {
        match self.0.head()? {
            (major, argument) if major == wanted => Ok(argument),
            _ => Err(self.0.refuse(why)),
        }
    }

    /// The number of elements of the array that begins here.
    pub fn array(&mut self) -> Result<u64, CborError> {
        self.expect(ARRAY, "not an array")
    }

    pub fn unsigned(&mut self) -> Result<u64, CborError> {
        self.expect(UINT, "not an unsigned integer")
    }

    /// Where the content of the byte string that begins here lies.
    pub fn byte_string(&mut self) -> Result<std::ops::Range<usize>, CborError> {
        let length = self.expect(BYTES, "not a byte string")?;
        let start = self.0.at;
        self.0.take(length)?;
        Ok(start..self.0.at)
    }

    /// True if the next item is an array.
    pub fn is_at_array(&self) -> bool {
        self.is_at(ARRAY)
    }

    /// True if the next item is a byte string.
    pub fn is_at_byte_string(&self) -> bool {
        self.is_at(BYTES)
    }

    fn is_at(&self, major: u8) -> bool {
        self.0.bytes.get(self.0.at).is_some_and(|initial| initial >> 5 == major)
    }
}

/// The serde sentence alone: ciborium wraps it in its own debug form, which says nothing to a person.
fn plain(error: ciborium::de::Error<std::io::Error>) -> String {
    match error {
        ciborium::de::Error::Semantic(_, sentence) => sentence,
        ciborium::de::Error::Io(_) => "the item ends early".to_owned(),
        ciborium::de::Error::Syntax(at) => format!("bad syntax at byte {at}"),
        ciborium::de::Error::RecursionLimitExceeded => "nested too deeply".to_owned(),
    }
}

struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    extension_bytes: usize,
}

/// Major types of RFC 8949 section 3.1 that we use.
const UINT: u8 = 0;
const NINT: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const SIMPLE: u8 = 7;

impl Walk<'_> {
    fn refuse(&self, why: &'static str) -> CborError {
        CborError::Spelling { at: self.at, why }
    }

    fn outermost(&mut self) -> Result<Outline, CborError> {
        let mut outline = Outline::default();
        let start = self.at;
        let (major, count) = self.head()?;
        if major != MAP {
            self.at = start;
            self.item(0)?;
            return Ok(outline);
        }
        self.map_entries(count, 0, |key, value_start, bytes| {
            if key == Some(0) {
                let mut value = Walk { bytes, at: value_start, extension_bytes: 0 };
                outline.key_zero = value.head().ok().filter(|(major, _)| *major == UINT).map(|(_, value)| value);
            }
        })?;
        Ok(outline)
    }

    fn item(&mut self, depth: usize) -> Result<(), CborError> {
        let (major, argument) = self.head()?;
        match major {
            UINT | NINT => Ok(()),
            BYTES => self.take(argument).map(|_| ()),
            TEXT => self.text(argument),
            ARRAY => {
                let depth = self.deeper(depth)?;
                (0..argument).try_for_each(|_| self.item(depth))
            }
            MAP => self.map_entries(argument, depth, |_, _, _| ()),
            SIMPLE if matches!(argument, 20 | 21) => Ok(()),
            SIMPLE => Err(self.refuse("a float, null or other simple value; only false and true are used")),
            _ => Err(self.refuse("a tag; none is used")),
        }
    }

    fn deeper(&self, depth: usize) -> Result<usize, CborError> {
        if depth < DEPTH_MAX { Ok(depth + 1) } else { Err(self.refuse("nested deeper than 16")) }
    }

    /// Walks the entries of a map and reports each: its key when that is an unsigned integer, and where its value starts.
    fn map_entries(&mut self, count: u64, depth: usize, mut seen: impl FnMut(Option<u64>, usize, &[u8])) -> Result<(), CborError> {
        let depth = self.deeper(depth)?;
        let mut previous: &[u8] = &[];
        for _ in 0..count {
            let key_start = self.at;
            let (major, argument) = self.head()?;
            let key = (major == UINT).then_some(argument);
            if major != UINT {
                self.at = key_start;
                self.item(depth)?;
            }
            let encoded = self.bytes.get(key_start..self.at).unwrap_or_default();
            // Bytewise order of the encoded keys, RFC 8949 section 4.2.1; equality is a duplicate.
            if !previous.is_empty() && previous >= encoded {
                return Err(self.refuse("map keys repeat or are out of order"));
            }
            previous = encoded;
            let (value_start, before) = (self.at, self.extension_bytes);
            self.item(depth)?;
            if key.is_some_and(|key| key >= EXTENSION_KEY_MIN) {
                // What stands inside an extension is part of it, and counted once.
                self.extension_bytes = before + (self.at - key_start);
            }
            seen(key, value_start, self.bytes);
        }
        Ok(())
    }

    /// Reads an item's head: major type and argument, the latter in its shortest form.
    fn head(&mut self) -> Result<(u8, u64), CborError> {
        let initial = *self.bytes.get(self.at).ok_or_else(|| self.refuse("the item ends early"))?;
        self.at += 1;
        let (major, info) = (initial >> 5, initial & 0x1f);
        if major == SIMPLE && info >= 24 {
            return Err(self.refuse("a float or a long simple value"));
        }
        let argument = match info {
            0..=23 => u64::from(info),
            24 => self.argument(1, 24)?,
            25 => self.argument(2, 0x100)?,
            26 => self.argument(4, 0x1_0000)?,
            27 => self.argument(8, 0x1_0000_0000)?,
            _ => return Err(self.refuse("an indefinite length")),
        };
        Ok((major, argument))
    }

    fn argument(&mut self, width: u64, smallest: u64) -> Result<u64, CborError> {
        let argument = self.take(width)?.iter().fold(0u64, |sum, byte| (sum << 8) | u64::from(*byte));
        if argument < smallest { Err(self.refuse("a number or length not in its shortest form")) } else { Ok(argument) }
    }

    fn take(&mut self, count: u64) -> Result<&[u8], CborError> {
        let early = self.refuse("the item ends early");
        let end = usize::try_from(count).ok().and_then(|count| self.at.checked_add(count)).ok_or(early.clone())?;
        let taken = self.bytes.get(self.at..end).ok_or(early)?;
        self.at = end;
        Ok(taken)
    }

    fn text(&mut self, count: u64) -> Result<(), CborError> {
        let start = self.at;
        let taken = self.take(count)?;
        let verdict = match std::str::from_utf8(taken) {
            Err(_) => Some("text that is not UTF-8"),
            Ok(text) if text.contains('\0') => Some("text with a NUL"),
            Ok(text) if !normalized(text) => Some("text that is not in Unicode NFC"),
            Ok(_) => None,
        };
        match verdict {
            None => Ok(()),
            Some(why) => Err(CborError::Spelling { at: start, why }),
        }
    }
}

/// Whether `text` is in Unicode normalisation form C, so that equal-looking strings are equal bytes.
pub fn normalized(text: &str) -> bool {
    text.is_ascii()
        || match is_nfc_quick(text.chars()) {
            IsNormalized::Yes => true,
            IsNormalized::No => false,
            IsNormalized::Maybe => is_nfc(text),
        }
}

/// Declares a struct that travels as a CBOR map with integer keys: `req` fields are always there, `opt` fields are
/// `Option`, `many` fields are a `Vec` that is left out when empty (an empty array on the wire is refused).
///
/// Keys are listed in ascending order, which is the order they are written in. An unknown key below
/// [`EXTENSION_KEY_MIN`] is an error; above it is skipped here and kept by whoever holds the received bytes.
macro_rules! int_map {
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $( $(#[$fmeta:meta])* $mode:ident $key:literal $field:ident : $ty:ty ),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        $vis struct $name { $( $(#[$fmeta])* pub $field: $crate::cbor::int_map!(@ty $mode $ty), )* }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeMap as _;
                let present = 0usize $( + usize::from($crate::cbor::int_map!(@there $mode self.$field)) )*;
                let mut map = serializer.serialize_map(Some(present))?;
                $( $crate::cbor::int_map!(@put $mode map, $key, self.$field); )*
                map.end()
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Keys;
                impl<'de> serde::de::Visitor<'de> for Keys {
                    type Value = $name;
                    fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        out.write_str(concat!("a ", stringify!($name), " map"))
                    }
                    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<$name, A::Error> {
                        use serde::de::Error as _;
                        $( let mut $field: Option<$crate::cbor::int_map!(@in $mode $ty)> = None; )*
                        while let Some(key) = map.next_key::<u64>()? {
                            match key {
                                $( $key => $field = Some(map.next_value()?), )*
                                _ if key >= $crate::cbor::EXTENSION_KEY_MIN => {
                                    map.next_value::<serde::de::IgnoredAny>()?;
                                }
                                _ => return Err(A::Error::custom(format_args!(concat!("unknown key {} in ", stringify!($name)), key))),
                            }
                        }
                        Ok($name { $( $field: $crate::cbor::int_map!(@get $mode A, $name, $field), )* })
                    }
                }
                deserializer.deserialize_map(Keys)
            }
        }
    };
    (@ty req $ty:ty) => { $ty };
    (@ty opt $ty:ty) => { Option<$ty> };
    (@ty many $ty:ty) => { Vec<$ty> };
    (@in many $ty:ty) => { Vec<$ty> };
    (@in $mode:ident $ty:ty) => { $ty };
    (@there req $field:expr) => { true };
    (@there opt $field:expr) => { $field.is_some() };
    (@there many $field:expr) => { !$field.is_empty() };
    (@put req $map:ident, $key:literal, $field:expr) => { $map.serialize_entry(&($key as u64), &$field)? };
    (@put opt $map:ident, $key:literal, $field:expr) => { if let Some(value) = &$field { $map.serialize_entry(&($key as u64), value)? } };
    (@put many $map:ident, $key:literal, $field:expr) => { if !$field.is_empty() { $map.serialize_entry(&($key as u64), &$field)? } };
    (@get req $a:ident, $name:ident, $field:ident) => {
        $field.ok_or_else(|| $a::Error::custom(concat!(stringify!($name), " lacks `", stringify!($field), "`")))?
    };
    (@get opt $a:ident, $name:ident, $field:ident) => { $field };
    (@get many $a:ident, $name:ident, $field:ident) => {
        match $field {
            Some(list) if list.is_empty() => return Err($a::Error::custom(concat!("`", stringify!($field), "` is empty; leave it out"))),
            Some(list) => list,
            None => Vec::new(),
        }
    };
}

/// Declares an enum that travels as a small unsigned integer and has one name for people, with `FromStr` and `Display`
/// that are inverse.
macro_rules! uint_enum {
    ($(#[$meta:meta])* $vis:vis enum $name:ident ($what:literal) { $( $(#[$vmeta:meta])* $variant:ident = $number:literal $text:literal ),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $vis enum $name { $( $(#[$vmeta])* $variant = $number, )* }

        impl $name {
            /// Every variant, in wire order.
            pub const ALL: &'static [Self] = &[ $( Self::$variant, )* ];
            /// The number on the wire.
            pub fn number(self) -> u64 { self as u64 }
            /// The variant of a wire number, if this version knows it.
            pub fn from_number(number: u64) -> Option<Self> {
                match number { $( $number => Some(Self::$variant), )* _ => None }
            }
            /// The name people write.
            pub fn name(self) -> &'static str {
                match self { $( Self::$variant => $text, )* }
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { out.pad(self.name()) }
        }
        impl std::str::FromStr for $name {
            type Err = $crate::record::UnknownName;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::ALL.iter().copied().find(|one| one.name() == text).ok_or_else(|| {
                    $crate::record::UnknownName::new($what, text, Self::ALL.iter().map(|one| one.name()))
                })
            }
        }
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_u64(self.number())
            }
        }
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let number = <u64 as serde::Deserialize>::deserialize(deserializer)?;
                Self::from_number(number)
                    .ok_or_else(|| serde::de::Error::custom(format_args!(concat!("unknown ", $what, " {}"), number)))
            }
        }
    };
}

/// Declares a fixed-length byte string: hash, key, nonce. `Display` and `FromStr` are lower-case hexadecimal; `Debug`
/// shows the first four bytes, enough to tell two apart in a log.
macro_rules! fixed_bytes {
    ($(#[$meta:meta])* $vis:vis struct $name:ident [$length:literal]) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $vis struct $name(pub [u8; $length]);

        impl $name {
            /// The first four bytes in hexadecimal, for logs and tables.
            pub fn short(&self) -> String { hex::encode(self.0.get(..4).unwrap_or_default()) }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { out.write_str(&hex::encode(self.0)) }
        }
        impl std::fmt::Debug for $name {
            fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(out, concat!(stringify!($name), "({})"), self.short())
            }
        }
        impl std::str::FromStr for $name {
            type Err = hex::FromHexError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let mut bytes = [0u8; $length];
                hex::decode_to_slice(text, &mut bytes)?;
                Ok(Self(bytes))
            }
        }
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_bytes(&self.0)
            }
        }
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                serde_bytes::ByteArray::<$length>::deserialize(deserializer).map(|bytes| Self(bytes.into_array()))
            }
        }
    };
}

pub(crate) use {fixed_bytes, int_map, uint_enum};

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(bytes: &[u8]) -> bool {
        check(bytes).is_err()
    }

    #[test]
    fn e_01_a_number_or_length_in_a_longer_form_is_refused() {
        for bytes in [&hex::decode("1b0000000000000005").unwrap()[..], &[0x18, 0x17], &[0x58, 0x01, 0xff], &[0x79, 0, 1, b'a']] {
            assert!(refused(bytes), "{bytes:02x?}");
        }
    }

    #[test]
    fn e_02_an_indefinite_length_is_refused() {
        for bytes in [[0x5f, 0xff], [0x7f, 0xff], [0x9f, 0xff], [0xbf, 0xff]] {
            assert!(refused(&bytes), "{bytes:02x?}");
        }
    }

    #[test]
    fn e_03_a_repeated_key_is_refused_with_equal_and_with_different_values() {
        assert!(refused(&[0xa2, 1, 1, 1, 1]));
        assert!(refused(&[0xa2, 1, 1, 1, 2]));
        assert!(refused(&[0xa2, 2, 1, 1, 2]), "E-04: keys out of order");
    }

    #[test]
    fn e_05_a_trailing_byte_or_a_second_item_is_refused() {
        assert!(check(&[0xa1, 0, 0]).is_ok());
        assert!(refused(&[0xa1, 0, 0, 0]));
        assert!(refused(&[0xa1, 0, 0, 0xa1, 0, 0]));
        assert!(refused(&[]));
    }

    #[test]
    fn e_06_text_must_be_utf8_without_nul_and_in_nfc() {
        assert!(refused(&[0x61, 0xff]));
        assert!(refused(&[0x61, 0x00]));
        assert!(refused(&[0x63, b'e', 0xcc, 0x81]), "decomposed");
        assert!(refused(&[0x63, 0xed, 0xa0, 0x80]), "a lone surrogate");
        assert!(check(&[0x62, 0xc3, 0xa9]).is_ok(), "composed");
    }

    #[test]
    fn e_07_depth_is_bounded() {
        assert!(check(&[&[0x81; 16][..], &[0]].concat()).is_ok());
        assert!(refused(&[&[0x81; 17][..], &[0]].concat()));
        assert!(refused(&[0x81; 65_536]));
        assert!(refused(&[0xc1; 65_536]));
    }

    #[test]
    fn e_08_huge_length_headers_cost_nothing() {
        for major in [0x5b, 0x7b, 0x9b, 0xbb] {
            assert!(refused(&[&[major][..], &[0xff; 8]].concat()));
        }
    }

    #[test]
    fn e_09_floats_tags_null_and_undefined_are_refused() {
        for bytes in ["f97e00", "fa7f800000", "fb7ff0000000000000", "f6", "f7", "f0", "f8ff", "c24101", "c001"] {
            assert!(refused(&hex::decode(bytes).unwrap()), "{bytes}");
        }
        assert!(check(&[0xf4]).is_ok() && check(&[0xf5]).is_ok());
    }

    #[test]
    fn bytes_where_an_array_belongs_are_no_second_spelling() {
        assert_eq!(from_slice::<Vec<u64>>(&[0x82, 1, 2], 100), Ok(vec![1, 2]));
        assert!(from_slice::<Vec<u64>>(&[0x42, 1, 2], 100).is_err(), "ciborium alone takes it");
        assert!(from_slice::<crate::envelope::KeyId>(&[&[0x90][..], &[1; 16]].concat(), 100).is_err(), "and bytes from an array");
    }

    #[test]
    fn the_outline_tells_format_and_extension_keys() {
        let outline = check(&hex::decode("a30001050218411a00010000").unwrap()).unwrap();
        assert_eq!(outline, Outline { key_zero: Some(1), extension_bytes: 7 });
    }
}
