//! Names: members, channels, circles. Short, lower case, the same on every screen and file system.

use std::{fmt, str::FromStr};

/// Longest name, in bytes: 64 fits a line of a table, and a file name with room to spare.
pub const NAME_BYTES_MAX: usize = 64;

/// A word that is in none of the lists where it was looked up, with the nearest that is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no {what} known here{}", .nearest.as_ref().map(|name| format!("; did you mean `{name}`?")).unwrap_or_default())]
pub struct UnknownName {
    what: &'static str,
    text: String,
    nearest: Option<String>,
}

impl UnknownName {
    /// Records that `text` is none of `known`, and finds the nearest of them to suggest.
    pub fn new<'a>(what: &'static str, text: &str, known: impl Iterator<Item = &'a str>) -> Self {
        Self { what, text: text.chars().take(NAME_BYTES_MAX).collect(), nearest: nearest(text, known) }
    }
}

/// The one of `known` that a person most likely meant by `text`; `None` when nothing is near.
pub fn nearest<'a>(text: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    known
        .map(|name| (strsim::damerau_levenshtein(&text.to_ascii_lowercase(), name), name))
        .min()
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4)
        .map(|(_, name)| name.to_owned())
}

/// Why a TOML text that a person wrote does not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct TomlError {
    pub line: usize,
    pub what: String,
}

/// Reads TOML that a person wrote. serde lists every key that it expected; a person wants the nearest one.
pub fn from_toml<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, TomlError> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| 1 + text.get(..span.start).unwrap_or_default().matches('\n').count());
        let message = error.message();
        let mut words = message.split('`').skip(1).step_by(2);
        let hint = match (message.contains("unknown field") || message.contains("unknown variant"), words.next()) {
            (true, Some(given)) => nearest(given, words).map(|name| format!("; did you mean `{name}`?")),
            _ => None,
        };
        TomlError { line, what: format!("{message}{}", hint.unwrap_or_default()) }
    })
}

/// A text that is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {what}: use 1 to 64 of a-z, 0-9 and `-`, beginning with a letter")]
pub struct NameError {
    what: &'static str,
    text: String,
}

fn check_name(what: &'static str, text: &str) -> Result<(), NameError> {
    let fits = (1..=NAME_BYTES_MAX).contains(&text.len());
    let starts = text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    let plain = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if fits && starts && plain { Ok(()) } else { Err(NameError { what, text: text.chars().take(NAME_BYTES_MAX).collect() }) }
}

macro_rules! name {
    ($(#[$meta:meta])* $name:ident, $what:literal) => {
        $(#[$meta])*
        ///
        /// 1 to 64 bytes of `a-z`, `0-9` and `-`, beginning with a letter.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str { &self.0 }
        }
        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                check_name($what, text).map(|()| Self(text.into()))
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result { out.pad(&self.0) }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result { write!(out, "{}", self.0) }
        }
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> { stringify!($name).into() }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "description": concat!("A ", $what, "."), "pattern": "^[a-z][a-z0-9-]{0,63}$" })
            }
        }
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

name! {
    /// A member's id in the charter: `de-bka`, `talos`.
    MemberId, "member id"
}
name! {
    /// A channel's name within its member: the `c2` of `talos/c2`.
    ChannelName, "channel name"
}
name! {
    /// A circle's name in the charter.
    CircleName, "circle name"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_plain_and_short() {
        for text in ["de-bka", "a", "talos2"] {
            assert_eq!(text.parse::<MemberId>().unwrap().to_string(), text);
        }
        for text in ["", "DE-BKA", "2fast", "a b", "a/b", "é", "-a", &"a".repeat(65)] {
            assert!(text.parse::<MemberId>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_unknown_word_is_answered_with_the_nearest_known_one() {
        let error = "atacker".parse::<super::super::Role>().unwrap_err();
        assert!(error.to_string().ends_with("did you mean `attacker`?"), "{error}");
        assert!(!"zzzzzz".parse::<super::super::Role>().unwrap_err().to_string().contains("did you mean"));
    }
}
