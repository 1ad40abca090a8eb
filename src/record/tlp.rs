//! The Traffic Light Protocol, version 2.0, and the other closed scales that a record carries.

use super::UnknownName;
use crate::cbor::uint_enum;

uint_enum! {
    /// How far a record may travel: FIRST TLP 2.0. The order is the order of strictness.
    pub enum Tlp("TLP marking") {
        /// No limit on disclosure.
        Clear = 0 "clear",
        /// The community: here, the federation.
        Green = 1 "green",
        /// The recipients' organisations and their clients.
        Amber = 2 "amber",
        /// The recipients' organisations only.
        AmberStrict = 3 "amber+strict",
        /// The named recipients only.
        Red = 4 "red",
    }
}

impl Tlp {
    /// Reads a marking as people and other tools write it; a closed table, so a misspelling never widens anything.
    ///
    /// `WHITE` is TLP 1.0 for `CLEAR`. Anything that is not in the table is an error, and callers that must go on treat
    /// an error as [`Tlp::Red`].
    pub fn parse(text: &str) -> Result<Self, UnknownName> {
        let plain = text.trim().to_ascii_lowercase();
        let plain = plain.strip_prefix("tlp:").unwrap_or(&plain);
        match plain {
            "clear" | "white" => Ok(Self::Clear),
            "green" => Ok(Self::Green),
            "amber" => Ok(Self::Amber),
            "amber+strict" | "amber strict" | "amber-strict" => Ok(Self::AmberStrict),
            "red" => Ok(Self::Red),
            _ => Err(UnknownName::new("TLP marking", text, Self::ALL.iter().map(|one| one.name()))),
        }
    }

    /// Reads a TLP marking in the spellings of other tools: `TLP: RED`, `tlp=red`, `misp-tlp:"red"`.
    ///
    /// A text claims to be one if it begins with the word TLP. `None` if it does not; an error if it does and names none of the five, such as
    /// `tlp:unclear`: its readers are unknown, and no default replaces that.
    pub fn claimed(text: &str) -> Option<Result<Self, UnknownName>> {
        use unicode_normalization::UnicodeNormalization as _;
        // Most texts are others: labels, comments, tags.
        if text.is_ascii() && !text.as_bytes().windows(3).any(|part| part.eq_ignore_ascii_case(b"tlp")) {
            return None;
        }
        let plain: String = text.nfkc().flat_map(char::to_lowercase).collect();
        let plain = plain.trim_matches(|char: char| char.is_whitespace() || matches!(char, '"' | '\'' | '`' | '[' | ']' | '(' | ')'));
        let rest = plain.strip_prefix("misp-").unwrap_or(plain).strip_prefix("tlp")?;
        if rest.starts_with(|char: char| char.is_alphanumeric()) {
            return None;
        }
        let sign = |char: char| char.is_whitespace() || matches!(char, ':' | '=' | '-' | '_' | '"' | '\'' | '.');
        let words: Vec<&str> =
            rest.split(|char: char| sign(char) || matches!(char, '+' | '(' | ',')).filter(|word| !word.is_empty()).collect();
        Some(match words.as_slice() {
            ["clear" | "white"] => Ok(Self::Clear),
            ["green"] => Ok(Self::Green),
            ["amber"] => Ok(Self::Amber),
            ["amber", "strict"] => Ok(Self::AmberStrict),
            ["red"] => Ok(Self::Red),
            _ => Err(UnknownName::new("TLP marking", text, Self::ALL.iter().map(|one| one.name()))),
        })
    }

    /// The marking as FIRST writes it, `TLP:AMBER+STRICT`.
    pub fn label(self) -> String {
        format!("TLP:{}", self.name().to_ascii_uppercase())
    }
}

uint_enum! {
    /// What the thing is in the incident: a compromised shop's address is not the attacker's.
    pub enum Role("role") {
        Unknown = 0 "unknown",
        Attacker = 1 "attacker",
        Compromised = 2 "compromised",
        Victim = 3 "victim",
    }
}

uint_enum! {
    /// The most a receiver should do with an indicator; the idea of MISP's Permissible Actions Protocol.
    pub enum Use("use") {
        Context = 0 "context",
        Hunt = 1 "hunt",
        Alert = 2 "alert",
        Block = 3 "block",
    }
}

uint_enum! {
    /// Whether a domain indicator speaks of the name alone or also of every name below it.
    pub enum Scope("scope") {
        Exact = 0 "exact",
        Subdomains = 1 "subdomains",
    }
}

uint_enum! {
    /// What a sighting says.
    pub enum SightingKind("sighting") {
        /// The value was seen.
        Seen = 0 "seen",
        /// The value is harmless: a dispute.
        FalsePositive = 1 "false-positive",
        /// The value is no longer of use.
        Expired = 2 "expired",
    }
}

uint_enum! {
    /// Why a record is taken back. `OverShared` and `Legal` also erase, wherever they arrive.
    pub enum Reason("reason") {
        Wrong = 0 "wrong",
        Superseded = 1 "superseded",
        OverShared = 2 "over-shared",
        Legal = 3 "legal",
    }
}

impl Reason {
    /// Whether what is taken back for this is also erased.
    pub fn erases(self) -> bool {
        matches!(self, Self::OverShared | Self::Legal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p_05_markings_are_read_by_a_closed_table_and_never_widened() {
        for (text, tlp) in [
            ("WHITE", Tlp::Clear),
            ("tlp:amber+strict", Tlp::AmberStrict),
            ("AMBER STRICT", Tlp::AmberStrict),
            ("TLP:Red", Tlp::Red),
            (" green ", Tlp::Green),
        ] {
            assert_eq!(Tlp::parse(text).unwrap(), tlp, "{text}");
        }
        // The fourth has a Cyrillic letter, the last a full-width colon.
        for text in ["", "yellow", "amber+", "\u{0410}MBER", "red2", "tlp：red", "unknown"] {
            assert!(Tlp::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_order_of_markings_is_the_order_of_strictness() {
        assert!(Tlp::ALL.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
