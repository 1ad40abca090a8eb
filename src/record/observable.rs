//! Observables: typed values, each in its one canonical spelling.
//!
//! In: a value as a person, a list or a wire writes it. Out: an [`Observable`], or a sentence about what is wrong.
//!
//! ```text
//! "hXXp://EVIL[.]example:80/a" -refang-> -recognise-> url `http://evil.example/a`
//! ```
//!
//! People may write as they like ([`Observable::recognise`], [`Observable::from_text`]); the wire may not
//! ([`Observable::from_wire`]): a spelling that we would write otherwise is refused there, or one value would have two
//! ids. Not accepted at all: patterns, wildcards, regular expressions (`threats.md` D-07).
//!
//! A host has one spelling wherever it occurs, in a name, an endpoint, an e-mail address or a URL of any scheme: lower case, A-labels,
//! no trailing dot; an address as an address, IPv4 inside IPv6 as IPv4. The rest of a URL is as the WHATWG URL Standard of
//! January 2026 serialises it (crate `url` 2.5.8). Names follow UTS 46 for Unicode 18, non-transitional (crate `idna` 1.1.0).

use super::{UnknownName, nearest};
use crate::cbor::{normalized, uint_enum};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::{
    borrow::Cow,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// Longest text of a value, in bytes. The longest URL in a year of URLhaus is under 2,000; a longer text is a payload.
pub const VALUE_BYTES_MAX: usize = 2_048;

uint_enum! {
    /// The type of a value. Numbers are the wire's and never change.
    pub enum ObservableType("indicator type") {
        Ipv4 = 1 "ipv4",
        Ipv6 = 2 "ipv6",
        Cidr = 3 "cidr",
        Domain = 4 "domain",
        /// An address or name with a port.
        Endpoint = 5 "endpoint",
        Url = 6 "url",
        Email = 7 "email",
        Md5 = 8 "md5",
        Sha1 = 9 "sha1",
        Sha256 = 10 "sha256",
        Sha512 = 11 "sha512",
        Asn = 12 "asn",
        /// A TLS client fingerprint, the MD5 form.
        Ja3 = 13 "ja3",
        Ja4 = 14 "ja4",
        /// SHA-256 of a certificate's DER form.
        CertSha256 = 15 "cert-sha256",
        Wallet = 16 "wallet",
        /// A MISP attribute type and a text: searchable, never enforced.
        Other = 17 "other",
    }
}

impl ObservableType {
    /// Bytes of the value for types of fixed length.
    fn bytes(self) -> Option<usize> {
        match self {
            Self::Ipv4 => Some(4),
            Self::Ipv6 | Self::Md5 | Self::Ja3 => Some(16),
            Self::Sha1 => Some(20),
            Self::Sha256 | Self::CertSha256 => Some(32),
            Self::Sha512 => Some(64),
            _ => None,
        }
    }
}

/// Why a text is no value of its type. The sentence names the text and says what would do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ObservableError {
    #[error("`{text}` is no indicator that huecry recognises; name its type with --type")]
    Unrecognised { text: String },
    #[error("`{text}` is more than one word; if the file is prose or a table, say --format text or --format csv")]
    Words { text: String },
    #[error("`{text}` is a rule for a part of a name or for some requests; only rules that block a whole name are taken")]
    Partial { text: String },
    #[error("`{text}` looks like a file name, not a domain; give --type other:filename to keep it as one")]
    FileName { text: String },
    #[error("`{text}` is not a {kind}: {why}")]
    Malformed { kind: ObservableType, text: String, why: &'static str },
    #[error("`{given}` is not the canonical spelling of `{canonical}`")]
    Spelling { given: String, canonical: String },
    #[error("`{text}` is not what its column says it is")]
    Cell { text: String },
    #[error(transparent)]
    Type(#[from] UnknownName),
}

impl ObservableError {
    fn malformed(kind: ObservableType, text: &str, why: &'static str) -> Self {
        Self::Malformed { kind, text: excerpt(text), why }
    }
}

/// Enough of a hostile text for a sentence about it.
pub fn excerpt(text: &str) -> String {
    const CHARS_MAX: usize = 120;
    let mut short: String = text.chars().take(CHARS_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// `text` with every character that could act on a screen made visible.
pub fn visible(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, char| {
        if acts_on_a_screen(char) {
            out.push_str(&format!("\\u{{{:x}}}", u32::from(char)));
        } else {
            out.push(char);
        }
        out
    })
}

/// Whether a character does something to a screen instead of standing on it: controls (C0, DEL, C1), line and paragraph
/// separators, bidirectional marks and isolates, zero-width and tag characters.
pub fn acts_on_a_screen(char: char) -> bool {
    char.is_control()
        || matches!(char,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A value as it travels: bytes for addresses and hashes, text for names, a number for an ASN.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WireValue {
    Bytes(Vec<u8>),
    Text(String),
    Number(u64),
}

impl serde::Serialize for WireValue {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Bytes(bytes) => serializer.serialize_bytes(bytes),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Number(number) => serializer.serialize_u64(*number),
        }
    }
}

impl<'de> serde::Deserialize<'de> for WireValue {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms;
        impl serde::de::Visitor<'_> for Forms {
            type Value = WireValue;
            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a value: bytes, text or a number")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<WireValue, E> {
                Ok(WireValue::Bytes(bytes.to_vec()))
            }
            fn visit_str<E>(self, text: &str) -> Result<WireValue, E> {
                Ok(WireValue::Text(text.to_owned()))
            }
            fn visit_u64<E>(self, number: u64) -> Result<WireValue, E> {
                Ok(WireValue::Number(number))
            }
        }
        deserializer.deserialize_any(Forms)
    }
}

/// A typed value in its one canonical spelling; two observables are the same thing exactly when they are equal.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Observable {
    kind: ObservableType,
    value: WireValue,
    /// The MISP type name, for [`ObservableType::Other`] alone.
    other: Option<String>,
}

impl Observable {
    /// The type.
    pub fn kind(&self) -> ObservableType {
        self.kind
    }

    /// The value as it travels.
    pub fn wire(&self) -> &WireValue {
        &self.value
    }

    /// The MISP type name of an `other`.
    pub fn other(&self) -> Option<&str> {
        self.other.as_deref()
    }

    /// The value when it is text on the wire.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            WireValue::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The addresses meant, for addresses and networks.
    pub fn network(&self) -> Option<IpNet> {
        let WireValue::Bytes(bytes) = &self.value else { return None };
        match self.kind {
            ObservableType::Ipv4 | ObservableType::Ipv6 => address_of(bytes).map(IpNet::from),
            ObservableType::Cidr => {
                let (prefix, address) = bytes.split_last()?;
                IpNet::new(address_of(address)?, *prefix).ok()
            }
            _ => None,
        }
    }

    /// The host that the value stands on or at: of a domain, endpoint, URL or e-mail address.
    pub fn host(&self) -> Option<Cow<'_, str>> {
        let text = self.text()?;
        match self.kind {
            ObservableType::Domain => Some(Cow::Borrowed(text)),
            ObservableType::Endpoint => text.rsplit_once(':').map(|(host, _)| Cow::Borrowed(host)),
            ObservableType::Email => text.rsplit_once('@').map(|(_, host)| Cow::Borrowed(host)),
            ObservableType::Url => url::Url::parse(text).ok()?.host_str().map(|host| Cow::Owned(host.to_owned())),
            _ => None,
        }
    }

    /// Reads a value whose type nobody said, in any spelling that analysts paste.
    pub fn recognise(text: &str) -> Result<Self, ObservableError> {
        use ObservableType as T;
        // Pasted out of a report, a value comes with the report's quotation marks.
        let plain = refang(text.trim_matches(|char: char| char.is_whitespace() || is_quotation(char)));
        let plain = plain.as_ref();
        let unrecognised = || ObservableError::Unrecognised { text: excerpt(text) };
        if plain.is_empty() || plain.len() > VALUE_BYTES_MAX || plain.contains(char::is_whitespace) {
            return Err(unrecognised());
        }
        if plain.contains("://") {
            return Self::from_text(T::Url, plain);
        }
        if let Some(kind) = hash_by_length(plain) {
            return Self::from_text(kind, plain);
        }
        if plain.parse::<IpAddr>().is_ok() {
            return address(plain);
        }
        if let Some((head, tail)) = plain.split_once('/') {
            if head.parse::<IpAddr>().is_ok() && tail.bytes().all(|byte| byte.is_ascii_digit()) && tail.len() <= 3 {
                return Self::from_text(T::Cidr, plain);
            }
            if let (Ok(address), Ok(mask)) = (head.parse::<IpAddr>(), tail.parse::<IpAddr>()) {
                let net = IpNet::with_netmask(address, mask);
                return net
                    .map_err(|_| ObservableError::malformed(T::Cidr, text, "the text behind the `/` is not a mask"))
                    .and_then(Self::of_network);
            }
            // A URL without its scheme; analysts mean http.
            Self::recognise_host(head).map_err(|_| unrecognised())?;
            return Self::from_text(T::Url, &format!("http://{plain}"));
        }
        if plain.contains('@') {
            return Self::from_text(T::Email, plain);
        }
        if let Some(digits) = plain.strip_prefix("AS").or_else(|| plain.strip_prefix("as"))
            && !digits.is_empty()
            && digits.bytes().all(|byte| byte.is_ascii_digit())
        {
            return Self::from_text(T::Asn, plain);
        }
        if let Ok(wallet) = wallet(plain, WalletForm::Certain) {
            return Ok(wallet);
        }
        if let Ok(ja4) = ja4(plain) {
            return Ok(ja4);
        }
        Self::recognise_host(plain).map_err(|error| match error {
            ObservableError::Malformed { .. } if !plain.contains('.') => unrecognised(),
            other => other,
        })
    }

    fn recognise_host(plain: &str) -> Result<Self, ObservableError> {
        if plain.contains(':') {
            return Self::from_text(ObservableType::Endpoint, plain);
        }
        if plain.parse::<IpAddr>().is_ok() {
            return address(plain);
        }
        if is_file_name(plain) {
            return Err(ObservableError::FileName { text: excerpt(plain) });
        }
        if looks_like_ipv4(plain) {
            return Self::from_text(ObservableType::Ipv4, plain);
        }
        Self::from_text(ObservableType::Domain, plain)
    }

    /// Reads a value of type `kind`, canonical or not. The result may be of a more exact type: a /32 is an address.
    pub fn from_text(kind: ObservableType, text: &str) -> Result<Self, ObservableError> {
        use ObservableType as T;
        let plain = refang(text.trim());
        let plain = plain.as_ref();
        if plain.len() > VALUE_BYTES_MAX {
            return Err(ObservableError::malformed(kind, text, "longer than 2,048 bytes"));
        }
        match kind {
            T::Ipv4 | T::Ipv6 => {
                let found = address(plain)?;
                // An IPv4 address inside IPv6 is that address (D-03), so v6 text may become v4, never the reverse.
                if kind == T::Ipv4 && found.kind == T::Ipv6 {
                    return Err(ObservableError::malformed(kind, text, "this is an IPv6 address"));
                }
                Ok(found)
            }
            T::Cidr => network(plain),
            T::Domain => domain(plain).map(|name| Self::plain(kind, WireValue::Text(name))),
            T::Endpoint => endpoint(plain),
            T::Url => web_address(plain),
            T::Email => email(plain),
            T::Asn => asn(plain),
            T::Ja4 => ja4(plain),
            T::Wallet => wallet(plain, WalletForm::Plausible),
            T::Other => Err(ObservableError::malformed(kind, text, "say which kind of other, as in other:filename")),
            T::Md5 | T::Sha1 | T::Sha256 | T::Sha512 | T::Ja3 | T::CertSha256 => {
                let wanted = kind.bytes().unwrap_or_default();
                let bytes = hex::decode(plain.replace(':', "")).map_err(|_| ObservableError::malformed(kind, text, "not hexadecimal"))?;
                if bytes.len() == wanted {
                    Ok(Self::plain(kind, WireValue::Bytes(bytes)))
                } else {
                    Err(ObservableError::malformed(kind, text, "wrong number of digits"))
                }
            }
        }
    }

    /// Reads an `other`: a MISP attribute type name and its text.
    pub fn other_from_text(name: &str, text: &str) -> Result<Self, ObservableError> {
        let kind = ObservableType::Other;
        let known_shape = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.|".contains(&byte);
        if !(1..=64).contains(&name.len()) || !name.bytes().all(known_shape) {
            return Err(ObservableError::malformed(kind, name, "a MISP type name is 1 to 64 of a-z, 0-9 and -_.|"));
        }
        if ObservableType::ALL.iter().any(|one| one.name() == name) {
            return Err(ObservableError::malformed(kind, name, "this type has a name of its own; use that"));
        }
        let text = text.trim();
        if !(1..=VALUE_BYTES_MAX).contains(&text.len()) {
            return Err(ObservableError::malformed(kind, text, "1 to 2,048 bytes"));
        }
        if text.chars().any(char::is_control) || !normalized(text) {
            return Err(ObservableError::malformed(kind, text, "control characters, or not in Unicode NFC"));
        }
        Ok(Self { kind, value: WireValue::Text(text.to_owned()), other: Some(name.to_owned()) })
    }

    /// Takes a value from the wire, only in the spelling that we would write ourselves.
    pub fn from_wire(kind: ObservableType, value: WireValue, other: Option<String>) -> Result<Self, ObservableError> {
        let given = Self { kind, value, other };
        let canonical = given.reread()?;
        if canonical == given {
            Ok(given)
        } else {
            Err(ObservableError::Spelling { given: excerpt(&given.to_string()), canonical: excerpt(&canonical.to_string()) })
        }
    }

    fn reread(&self) -> Result<Self, ObservableError> {
        use ObservableType as T;
        let wrong = |why| Err(ObservableError::malformed(self.kind, "", why));
        if self.other.is_some() != (self.kind == T::Other) {
            return wrong("a type name belongs to `other`, and only there");
        }
        match (self.kind, &self.value) {
            (T::Ipv4 | T::Ipv6, WireValue::Bytes(bytes)) if Some(bytes.len()) == self.kind.bytes() => {
                address_of(bytes).map(Self::of_address).map_or_else(|| wrong("4 or 16 bytes"), Ok)
            }
            (T::Cidr, WireValue::Bytes(_)) => match self.network() {
                Some(net) => Self::of_network(net),
                None => wrong("4 or 16 bytes of address and one of prefix length"),
            },
            (T::Asn, WireValue::Number(number)) => asn(&number.to_string()),
            (kind, WireValue::Bytes(bytes)) if kind.bytes() == Some(bytes.len()) => Ok(self.clone()),
            (T::Other, WireValue::Text(text)) => Self::other_from_text(self.other.as_deref().unwrap_or_default(), text),
            (T::Domain, WireValue::Text(text)) if is_plain_domain(text) => Ok(self.clone()),
            (T::Domain | T::Endpoint | T::Url | T::Email | T::Ja4 | T::Wallet, WireValue::Text(text)) => {
                // Defanged text is a spelling for people; the wire has none of it.
                Self::from_text(self.kind, text)
            }
            _ => wrong("the value has the wrong form for its type"),
        }
    }

    fn plain(kind: ObservableType, value: WireValue) -> Self {
        Self { kind, value, other: None }
    }

    /// The observable of one address; IPv4 inside IPv6 (mapped, NAT64) is the IPv4 address.
    pub fn of_address(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self::plain(ObservableType::Ipv4, WireValue::Bytes(v4.octets().to_vec())),
            IpAddr::V6(v6) => match embedded_ipv4(v6) {
                Some(v4) => Self::of_address(IpAddr::V4(v4)),
                None => Self::plain(ObservableType::Ipv6, WireValue::Bytes(v6.octets().to_vec())),
            },
        }
    }

    /// The observable of a network: the address itself when the prefix is full length.
    pub fn of_network(net: IpNet) -> Result<Self, ObservableError> {
        let text = || net.to_string();
        if net.prefix_len() == net.max_prefix_len() {
            return Ok(Self::of_address(net.addr()));
        }
        if net.prefix_len() == 0 {
            return Err(ObservableError::malformed(ObservableType::Cidr, &text(), "it covers every address"));
        }
        if net.addr() != net.network() {
            let why = "bits are set behind the prefix; write the network's own address";
            return Err(ObservableError::malformed(ObservableType::Cidr, &text(), why));
        }
        if let IpNet::V6(v6) = net
            && embedded_ipv4(v6.addr()).is_some()
            && v6.prefix_len() >= 96
        {
            let why = "these are IPv4 addresses; write the IPv4 network";
            return Err(ObservableError::malformed(ObservableType::Cidr, &text(), why));
        }
        let mut bytes = match net.addr() {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        bytes.push(net.prefix_len());
        Ok(Self::plain(ObservableType::Cidr, WireValue::Bytes(bytes)))
    }
}

/// The canonical text, as a tool would want it. For people and terminals there is [`Observable::defanged`].
impl fmt::Display for Observable {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            WireValue::Text(text) => out.write_str(text),
            WireValue::Number(number) => write!(out, "AS{number}"),
            WireValue::Bytes(bytes) => match self.network() {
                Some(net) if self.kind == ObservableType::Cidr => write!(out, "{net}"),
                Some(net) => write!(out, "{}", net.addr()),
                None => out.write_str(&hex::encode(bytes)),
            },
        }
    }
}

/// Type alone: values of restricted records stay out of logs.
impl fmt::Debug for Observable {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Observable({})", self.kind)
    }
}

impl Observable {
    /// The value spelt so that no screen, mail client or chat turns it into a link.
    pub fn defanged(&self) -> String {
        use ObservableType as T;
        let text = self.to_string();
        match self.kind {
            T::Ipv4 | T::Domain | T::Endpoint | T::Cidr => match text.rsplit_once('.') {
                Some((head, tail)) => format!("{head}[.]{tail}"),
                None => text,
            },
            T::Url => {
                let host_end = text
                    .find("://")
                    .and_then(|start| text.get(start + 3..).map(|rest| start + 3 + rest.find(['/', '?', '#']).unwrap_or(rest.len())));
                let (host, path) = text.split_at(host_end.unwrap_or(text.len()));
                format!("{}{path}", host.replacen("http", "hxxp", 1).replace('.', "[.]"))
            }
            T::Email => text.replace('@', "[@]"),
            _ => text,
        }
    }
}

/// Undoes the ways in which analysts make a value unclickable.
pub fn refang(text: &str) -> Cow<'_, str> {
    const MARKS: [(&str, &str); 14] = [
        ("[.]", "."),
        ("(.)", "."),
        ("{.}", "."),
        ("[dot]", "."),
        ("(dot)", "."),
        ("[DOT]", "."),
        ("[:]", ":"),
        ("[://]", "://"),
        ("[@]", "@"),
        ("[at]", "@"),
        ("(at)", "@"),
        ("[.", "."),
        (".]", "."),
        ("\\.", "."),
    ];
    // `htxxp` and its like are slips of the same habit, seen in published lists.
    const SCHEMES: [(&str, &str); 8] = [
        ("hxxps://", "https://"),
        ("hxxp://", "http://"),
        ("htxxps://", "https://"),
        ("htxxp://", "http://"),
        ("hxtps://", "https://"),
        ("hxtp://", "http://"),
        ("meows://", "https://"),
        ("meow://", "http://"),
    ];
    let mut plain = Cow::Borrowed(text);
    if text.contains(['[', '(', '{', '\\', ']']) {
        for (mark, meant) in MARKS {
            if plain.contains(mark) {
                plain = Cow::Owned(plain.replace(mark, meant));
            }
        }
    }
    for (written, meant) in SCHEMES {
        if plain.get(..written.len()).is_some_and(|head| head.eq_ignore_ascii_case(written)) {
            plain = Cow::Owned(format!("{meant}{}", plain.get(written.len()..).unwrap_or_default()));
        }
    }
    plain
}

fn address_of(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(|octets| IpAddr::V4(octets.into())),
        16 => <[u8; 16]>::try_from(bytes).ok().map(|octets| IpAddr::V6(octets.into())),
        _ => None,
    }
}

/// The IPv4 address that an IPv6 address merely wraps: `::ffff:0:0/96` (RFC 4291) and `64:ff9b::/96` (RFC 6052).
fn embedded_ipv4(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, high, low] = v6.segments();
    let wraps = matches!([a, b, c, d, e, f], [0, 0, 0, 0, 0, 0xffff] | [0x64, 0xff9b, 0, 0, 0, 0]);
    wraps.then(|| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)))
}

fn address(text: &str) -> Result<Observable, ObservableError> {
    let bare = text.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(text);
    match bare.parse::<IpAddr>() {
        Ok(address) => Ok(Observable::of_address(address)),
        Err(_) if looks_like_ipv4(bare) => {
            let why = "four numbers from 0 to 255 without leading zeros (a leading zero means octal to some programs)";
            Err(ObservableError::malformed(ObservableType::Ipv4, text, why))
        }
        Err(_) => Err(ObservableError::malformed(
            if bare.contains(':') { ObservableType::Ipv6 } else { ObservableType::Ipv4 },
            text,
            "not an address",
        )),
    }
}

/// Digits and dots, or a hexadecimal number: what some parsers take for an address and we do not guess about.
fn looks_like_ipv4(text: &str) -> bool {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let hexadecimal = text.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    !text.is_empty() && (digits || hexadecimal)
}

fn network(text: &str) -> Result<Observable, ObservableError> {
    let malformed = |why| ObservableError::malformed(ObservableType::Cidr, text, why);
    let (address, prefix) = text.split_once('/').ok_or_else(|| malformed("a network needs a prefix, as in 192.0.2.0/24"))?;
    let prefix: u8 = prefix.parse().map_err(|_| malformed("the prefix is a number"))?;
    let net = match address.parse::<IpAddr>().map_err(|_| malformed("not an address before the `/`"))? {
        IpAddr::V4(v4) => Ipv4Net::new(v4, prefix).map(IpNet::V4),
        IpAddr::V6(v6) => Ipv6Net::new(v6, prefix).map(IpNet::V6),
    };
    Observable::of_network(net.map_err(|_| malformed("the prefix is longer than the address"))?)
}

/// Longest domain name in text form, without its trailing dot. RFC 1035 section 2.3.4.
const DOMAIN_BYTES_MAX: usize = 253;
/// Longest label of a domain name. RFC 1035 section 2.3.4.
const LABEL_BYTES_MAX: usize = 63;

fn is_plain_domain(text: &str) -> bool {
    !text.contains("xn--") && check_labels(text).is_ok()
}

/// Checks a name that is ASCII and lower case already.
fn check_labels(name: &str) -> Result<(), &'static str> {
    if name.len() > DOMAIN_BYTES_MAX {
        return Err("longer than 253 bytes");
    }
    let mut labels = 0;
    let mut last = "";
    for label in name.split('.') {
        check_label(label)?;
        labels += 1;
        last = label;
    }
    if labels < 2 {
        return Err("a single label is not a name on the internet");
    }
    if is_number(last) {
        return Err("its last label is a number");
    }
    Ok(())
}

fn check_label(label: &str) -> Result<(), &'static str> {
    if label.is_empty() || label.len() > LABEL_BYTES_MAX {
        return Err("labels have 1 to 63 bytes");
    }
    // Underscores are no host names (RFC 952), but they are in the DNS and in real indicators.
    if !label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_') {
        return Err("a label has letters, digits, `-` and `_` only; patterns and wildcards are not accepted");
    }
    Ok(())
}

/// Returns true for a last label by which programs take a name for an IPv4 address (URL Standard, "ends in a number").
fn is_number(label: &str) -> bool {
    let hexadecimal = label.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    hexadecimal || label.bytes().all(|byte| byte.is_ascii_digit())
}

/// The canonical form of a domain name: lower case, IDNA A-labels (UTS 46, non-transitional), no trailing dot.
fn domain(text: &str) -> Result<String, ObservableError> {
    use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
    let malformed = |why| ObservableError::malformed(ObservableType::Domain, text, why);
    if !text.is_ascii() && text.contains(is_quotation) {
        return Err(malformed("there is a quotation mark, dash or bullet in it"));
    }
    let lower = text.to_ascii_lowercase();
    let mut name = if lower.is_ascii() && !lower.contains("xn--") {
        lower
    } else {
        Uts46::new()
            .to_ascii(lower.as_bytes(), AsciiDenyList::EMPTY, Hyphens::Allow, DnsLength::Ignore)
            .map_err(|_| malformed("not a valid internationalised name"))?
            .into_owned()
    };
    // Full stops of other scripts are dots by now.
    if name.ends_with('.') {
        name.pop();
    }
    check_labels(&name).map_err(malformed)?;
    Ok(name)
}

/// Quotation marks, dashes, bullets and ellipses, which word processors put around a name: no name has them.
fn is_quotation(char: char) -> bool {
    matches!(char, '«' | '»' | '\u{2010}'..='\u{201f}' | '\u{2020}'..='\u{2023}' | '\u{2026}' | '\u{2039}' | '\u{203a}' | '\u{25e6}')
}

/// The canonical spelling of a URL's host; `None` if it is spelt so already. Names of one label are hosts of a URL, and no domains.
fn host_of_url(given: &str) -> Result<Option<String>, &'static str> {
    if is_plain_domain(given) {
        return Ok(None);
    }
    let host = match url::Host::parse(given).map_err(|_| "its host is none that a resolver would accept")? {
        url::Host::Ipv4(address) => address.to_string(),
        url::Host::Ipv6(address) => match embedded_ipv4(address) {
            Some(address) => address.to_string(),
            None => format!("[{address}]"),
        },
        url::Host::Domain(name) => {
            let bare = name.strip_suffix('.').unwrap_or(&name);
            if bare.contains('.') {
                domain(&name).map_err(|_| "no resolver would accept its host")?
            } else {
                check_label(bare)?;
                bare.to_owned()
            }
        }
    };
    Ok(Some(host).filter(|host| host != given))
}

/// Endings that lists of domains contain by mistake, and that are no top-level domain.
const FILE_ENDINGS: [&str; 71] = [
    "exe", "dll", "bat", "ps1", "psm1", "vbs", "vbe", "js", "jse", "wsf", "hta", "lnk", "scr", "cmd", "msi", "msp", "cpl", "sys", "ocx",
    "doc", "docx", "docm", "dotm", "xls", "xlsx", "xlsm", "xlsb", "ppt", "pptx", "pptm", "rtf", "odt", "pdf", "rar", "7z", "gz", "tgz",
    "tar", "bz2", "xz", "iso", "img", "vhd", "vhdx", "dmg", "jar", "apk", "ipa", "class", "elf", "php", "asp", "aspx", "jsp", "html",
    "htm", "xml", "json", "csv", "txt", "log", "ini", "cfg", "tmp", "dat", "bin", "jpg", "jpeg", "png", "gif", "bmp",
];
/// Endings of files that are top-level domains too.
const FILE_OR_NAME_ENDINGS: [&str; 10] = ["zip", "sh", "py", "md", "pl", "so", "rs", "cc", "ps", "mov"];

/// The name of a file: by its ending, or by two of them, as in `invoice.pdf.zip`.
fn is_file_name(text: &str) -> bool {
    let is = |ending: &str, endings: &[&str]| endings.contains(&ending.to_ascii_lowercase().as_str());
    let Some((rest, ending)) = text.rsplit_once('.') else { return false };
    let before = rest.rsplit_once('.').map(|(_, before)| before);
    is(ending, &FILE_ENDINGS) || (is(ending, &FILE_OR_NAME_ENDINGS) && before.is_some_and(|before| is(before, &FILE_ENDINGS)))
}

/// Returns true for a name of two labels whose ending is one of files and a top-level domain: `run.sh`.
pub fn may_be_file(name: &str) -> bool {
    let Some((rest, ending)) = name.rsplit_once('.') else { return false };
    !rest.contains('.') && FILE_OR_NAME_ENDINGS.iter().any(|one| one.eq_ignore_ascii_case(ending))
}

fn endpoint(text: &str) -> Result<Observable, ObservableError> {
    let malformed = |why| ObservableError::malformed(ObservableType::Endpoint, text, why);
    let (host, port) = text.rsplit_once(':').ok_or_else(|| malformed("a port is missing, as in 192.0.2.7:443"))?;
    let port: u16 = port.parse().map_err(|_| malformed("the port is a number from 1 to 65535"))?;
    if port == 0 {
        return Err(malformed("the port is a number from 1 to 65535"));
    }
    let host = match host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')) {
        Some(inner) => Observable::of_address(inner.parse::<Ipv6Addr>().map_err(|_| malformed("not an address"))?.into()),
        None if looks_like_ipv4(host) => address(host)?,
        None if host.contains(':') => return Err(malformed("an IPv6 address with a port needs brackets, [2001:db8::7]:443")),
        None => Observable::plain(ObservableType::Domain, WireValue::Text(domain(host)?)),
    };
    let text = if host.kind == ObservableType::Ipv6 { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    Ok(Observable::plain(ObservableType::Endpoint, WireValue::Text(text)))
}

/// The canonical form of a URL is what the WHATWG URL standard serialises; it must name a host.
fn web_address(text: &str) -> Result<Observable, ObservableError> {
    let malformed = |why| ObservableError::malformed(ObservableType::Url, text, why);
    if text.chars().any(|char| char.is_control() || char == ' ') {
        return Err(malformed("spaces or control characters"));
    }
    let authority = text.split_once("://").map_or("", |(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or_default());
    if !authority.is_ascii() && authority.contains(is_quotation) {
        return Err(malformed("there is a quotation mark, dash or bullet in its host"));
    }
    let mut parsed = url::Url::parse(text).map_err(|_| malformed("not a URL"))?;
    let given = parsed.host_str().filter(|host| !host.is_empty()).ok_or_else(|| malformed("it names no host"))?;
    if let Some(host) = host_of_url(given).map_err(malformed)? {
        parsed.set_host(Some(&host)).map_err(|_| malformed("its host is none that a resolver would accept"))?;
    }
    let canonical = String::from(parsed);
    // Some non-special URLs change again when they are read again; such a text has no one spelling.
    let again = url::Url::parse(&canonical).map(String::from);
    if canonical.len() > VALUE_BYTES_MAX || again.as_deref() != Ok(canonical.as_str()) {
        return Err(malformed("it has no stable spelling within 2,048 bytes"));
    }
    Ok(Observable::plain(ObservableType::Url, WireValue::Text(canonical)))
}

fn email(text: &str) -> Result<Observable, ObservableError> {
    let malformed = |why| ObservableError::malformed(ObservableType::Email, text, why);
    let (local, host) = text.rsplit_once('@').ok_or_else(|| malformed("no `@`"))?;
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"\"(),:;<>@[\\]".contains(&byte);
    if !(1..=64).contains(&local.len()) || !local.bytes().all(plain) {
        return Err(malformed("the part before `@` has 1 to 64 plain characters"));
    }
    let host = domain(host).map_err(|_| malformed("the part after `@` is not a domain"))?;
    // RFC 5321 leaves the local part's case to its host; in practice no two people differ by it.
    Ok(Observable::plain(ObservableType::Email, WireValue::Text(format!("{}@{host}", local.to_ascii_lowercase()))))
}

fn asn(text: &str) -> Result<Observable, ObservableError> {
    let digits = text.strip_prefix("AS").or_else(|| text.strip_prefix("as")).unwrap_or(text);
    match digits.parse::<u32>() {
        Ok(number) if number > 0 => Ok(Observable::plain(ObservableType::Asn, WireValue::Number(u64::from(number)))),
        _ => Err(ObservableError::malformed(ObservableType::Asn, text, "a number from 1 to 4294967295, as in AS64496")),
    }
}

/// A JA4 client fingerprint, as FoxIO's specification writes it: `t13d1516h2_8daaf6152771_e5627efa2ab1`.
fn ja4(text: &str) -> Result<Observable, ObservableError> {
    let lower = text.to_ascii_lowercase();
    let parts: Vec<&str> = lower.split('_').collect();
    let fits = match parts.as_slice() {
        [head, ciphers, extensions] => {
            let hexadecimal = |part: &str| part.len() == 12 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
            head.len() == 10
                && head.starts_with(['t', 'q', 'd'])
                && head.bytes().all(|byte| byte.is_ascii_alphanumeric())
                && hexadecimal(ciphers)
                && hexadecimal(extensions)
        }
        _ => false,
    };
    if fits {
        Ok(Observable::plain(ObservableType::Ja4, WireValue::Text(lower)))
    } else {
        Err(ObservableError::malformed(ObservableType::Ja4, text, "not a JA4 fingerprint"))
    }
}

#[derive(PartialEq)]
enum WalletForm {
    /// A form that nothing else has: `0x` and 40 digits, or a `bc1` address.
    Certain,
    /// Whatever could be one, when the writer says that it is.
    Plausible,
}

fn wallet(text: &str, form: WalletForm) -> Result<Observable, ObservableError> {
    let lower = text.to_ascii_lowercase();
    let ethereum = lower.strip_prefix("0x").is_some_and(|rest| rest.len() == 40 && rest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let segwit = lower.starts_with("bc1") && (14..=90).contains(&lower.len()) && lower.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let plausible = (14..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b':');
    if ethereum || segwit {
        // Case is a checksum in the first and forbidden to mix in the second; the address is the same.
        Ok(Observable::plain(ObservableType::Wallet, WireValue::Text(lower)))
    } else if plausible && form == WalletForm::Plausible {
        Ok(Observable::plain(ObservableType::Wallet, WireValue::Text(text.to_owned())))
    } else {
        Err(ObservableError::malformed(ObservableType::Wallet, text, "14 to 128 letters and digits"))
    }
}

fn hash_by_length(text: &str) -> Option<ObservableType> {
    let kind = match text.len() {
        32 => ObservableType::Md5,
        40 => ObservableType::Sha1,
        64 => ObservableType::Sha256,
        128 => ObservableType::Sha512,
        _ => return None,
    };
    text.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some(kind)
}

/// A type as people name it on a command line: `domain`, or `other:filename`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TypeName {
    Typed(ObservableType),
    Other(String),
}

impl TypeName {
    /// Reads `text` as a value of this type.
    pub fn read(&self, text: &str) -> Result<Observable, ObservableError> {
        match self {
            Self::Typed(kind) => Observable::from_text(*kind, text),
            Self::Other(name) => Observable::other_from_text(name, text),
        }
    }
}

impl std::str::FromStr for TypeName {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        // What other tools call the same things; MISP's names first.
        let kind = match text.to_ascii_lowercase().as_str() {
            "ip" | "ip-src" | "ip-dst" | "ipv4-addr" | "ipaddress" | "ip address" => Some(ObservableType::Ipv4),
            "ipv6-addr" => Some(ObservableType::Ipv6),
            "hostname" | "domain-name" | "host" | "fqdn" => Some(ObservableType::Domain),
            "ip-dst|port" | "ip:port" | "hostname|port" => Some(ObservableType::Endpoint),
            "uri" | "link" => Some(ObservableType::Url),
            "email-src" | "email-dst" | "email-addr" | "e-mail" => Some(ObservableType::Email),
            "sha-1" => Some(ObservableType::Sha1),
            "sha-256" => Some(ObservableType::Sha256),
            "sha-512" => Some(ObservableType::Sha512),
            "as" => Some(ObservableType::Asn),
            "ja3-fingerprint-md5" => Some(ObservableType::Ja3),
            "x509-fingerprint-sha256" => Some(ObservableType::CertSha256),
            "btc" | "xmr" => Some(ObservableType::Wallet),
            lower => match lower.strip_prefix("other:") {
                Some(name) => return Ok(Self::Other(name.to_owned())),
                None => lower.parse().ok().filter(|kind| *kind != ObservableType::Other),
            },
        };
        let names = || ObservableType::ALL.iter().map(|one| one.name());
        kind.map(Self::Typed).ok_or_else(|| UnknownName::new("indicator type", text, names()))
    }
}

/// Whether `word` is the name of a type or near one: for messages about columns.
pub fn nearest_type(word: &str) -> Option<String> {
    nearest(word, ObservableType::ALL.iter().map(|one| one.name()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<(&str, &str)>) {
        let found = Observable::recognise(text).ok().map(|one| (one.kind().to_string(), one.to_string()));
        let expected = expected.map(|(kind, value)| (kind.to_owned(), value.to_owned()));
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn analysts_spellings_are_recognised() {
        check("evil[.]example", Some(("domain", "evil.example")));
        check("EVIL.Example.", Some(("domain", "evil.example")));
        check("b_c2.evil.example", Some(("domain", "b_c2.evil.example")));
        check("bücher.example", Some(("domain", "xn--bcher-kva.example")));
        check("192.0.2[.]7", Some(("ipv4", "192.0.2.7")));
        check("192.0.2.0/24", Some(("cidr", "192.0.2.0/24")));
        check("192.0.2.7/32", Some(("ipv4", "192.0.2.7")));
        check("192.0.2.0/255.255.255.128", Some(("cidr", "192.0.2.0/25")));
        check("“192.0.2.5”", Some(("ipv4", "192.0.2.5")));
        check("2001:DB8::7", Some(("ipv6", "2001:db8::7")));
        check("192.0.2.7:8080", Some(("endpoint", "192.0.2.7:8080")));
        check("[2001:db8::7]:443", Some(("endpoint", "[2001:db8::7]:443")));
        check("c2.evil.example:443", Some(("endpoint", "c2.evil.example:443")));
        check("hXXps://Evil[.]example:443/Path?q=1", Some(("url", "https://evil.example/Path?q=1")));
        check("htxxp://evil.example/x", Some(("url", "http://evil.example/x")));
        check("evil.example/x/y", Some(("url", "http://evil.example/x/y")));
        check("tcp://192.0.2.7:7000/", Some(("url", "tcp://192.0.2.7:7000/")));
        check("Someone[@]evil.example", Some(("email", "someone@evil.example")));
        check("D41D8CD98F00B204E9800998ECF8427E", Some(("md5", "d41d8cd98f00b204e9800998ecf8427e")));
        check("AS64496", Some(("asn", "AS64496")));
        check("t13d1516h2_8daaf6152771_e5627efa2ab1", Some(("ja4", "t13d1516h2_8daaf6152771_e5627efa2ab1")));
        check("jester4xvl.onion", Some(("domain", "jester4xvl.onion")));
    }

    #[test]
    fn what_is_no_indicator_is_refused() {
        for text in ["", "hello", "tin.exe", "a b.example", "javascript:alert(1)", "data:text/html,x", ".", "com"] {
            check(text, None);
        }
    }

    #[test]
    fn d_02_a_network_with_host_bits_or_over_everything_is_refused() {
        for text in ["192.0.2.1/24", "0.0.0.0/0", "::/0", "192.0.2.0/33"] {
            check(text, None);
        }
    }

    #[test]
    fn d_03_an_address_in_disguise_is_refused_or_unmasked() {
        check("::ffff:8.8.8.8", Some(("ipv4", "8.8.8.8")));
        check("64:ff9b::808:808", Some(("ipv4", "8.8.8.8")));
        for text in ["0x08080808", "134744072", "008.8.8.8", "112.246.120.07", "8.8.8"] {
            check(text, None);
        }
        let mapped = WireValue::Bytes("::ffff:8.8.8.8".parse::<Ipv6Addr>().unwrap().octets().to_vec());
        assert!(Observable::from_wire(ObservableType::Ipv6, mapped, None).is_err());
    }

    #[test]
    fn a_host_has_one_spelling_inside_a_url_of_any_scheme() {
        for (text, expected) in [
            ("http://agency.example./n01", "http://agency.example/n01"),
            ("tcp://agency.example.:4444/n08", "tcp://agency.example:4444/n08"),
            ("tcp://AGENCY.Example:4444/n04", "tcp://agency.example:4444/n04"),
            ("ftp://AGENCY.Example/n06", "ftp://agency.example/n06"),
            ("tcp://agency%2Eexample/n16", "tcp://agency.example/n16"),
            ("http://agency%2eexample/n16", "http://agency.example/n16"),
            ("tcp://ａｇｅｎｃｙ。example/n18", "tcp://agency.example/n18"),
            ("http://agency。example。/n18", "http://agency.example/n18"),
            ("tcp://[::ffff:192.0.2.10]:4444/n13", "tcp://192.0.2.10:4444/n13"),
            ("http://[64:ff9b::192.0.2.10]/n14", "http://192.0.2.10/n14"),
            ("http://192.0.2.10./n20", "http://192.0.2.10/n20"),
            ("tcp://192.0.2.10./n20", "tcp://192.0.2.10/n20"),
            ("tcp://3221225994/z", "tcp://192.0.2.10/z"),
            ("tcp://0xc000020a/z", "tcp://192.0.2.10/z"),
            ("tcp://[2001:DB8::10]/y", "tcp://[2001:db8::10]/y"),
            ("http://user@agency.example.:80/n32", "http://user@agency.example/n32"),
            ("http://localhost./n21", "http://localhost/n21"),
            ("https://co.uk./n27", "https://co.uk/n27"),
            ("dns://agency.example.?type=TXT", "dns://agency.example?type=TXT"),
        ] {
            let found = Observable::from_text(ObservableType::Url, text).map(|one| one.to_string());
            assert_eq!(found.as_deref(), Ok(expected), "{text}");
            let wire = |text: &str| Observable::from_wire(ObservableType::Url, WireValue::Text(text.to_owned()), None);
            assert!(wire(expected).is_ok() && wire(text).is_err(), "{text} on the wire");
        }
        for text in [
            "http://agency.example../n02",
            "http://agency..example/n03",
            "tcp://agency..example/n03",
            "http://*.agency.example/",
            "http://-agency'.example/",
            "tcp://agency.0x1/",
            "http://agency.example.1/",
            "tcp://a%20b.example/",
        ] {
            assert!(Observable::from_text(ObservableType::Url, text).is_err(), "{text}");
        }
        check("agency.example。", Some(("domain", "agency.example")));
        check("bad@AGENCY.example.", Some(("email", "bad@agency.example")));
        check("AGENCY.example.:444", Some(("endpoint", "agency.example:444")));
        check("[::ffff:192.0.2.10]:443", Some(("endpoint", "192.0.2.10:443")));
    }

    #[test]
    fn d_05_a_punycode_label_that_hides_ascii_is_refused() {
        for text in ["xn--evil-.example", "xn--a.example", "xn--.example"] {
            check(text, None);
        }
    }

    #[test]
    fn d_07_patterns_are_not_values() {
        for text in [".*", "(a+)+$", "*", "*.evil.example", "ev?l.example"] {
            check(text, None);
        }
    }

    #[test]
    fn x_04_x_06_text_that_would_break_out_of_a_rule_file_is_no_value() {
        for text in [
            "\"; sid:1; ) alert ip any any",
            "evil.example\n$INCLUDE /etc/passwd",
            "*.evil.example;",
            "192.0.2.4 } ; flush ruleset #",
            "$(id)",
            "../../x",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn the_wire_accepts_one_spelling_only() {
        let wire = |kind, text: &str| Observable::from_wire(kind, WireValue::Text(text.to_owned()), None).is_ok();
        assert!(wire(ObservableType::Domain, "evil.example"));
        assert!(!wire(ObservableType::Domain, "Evil.example"));
        assert!(!wire(ObservableType::Domain, "evil.example."));
        assert!(!wire(ObservableType::Domain, "evil[.]example"));
        assert!(!wire(ObservableType::Url, "http://evil.example"));
        assert!(wire(ObservableType::Url, "http://evil.example/"));
        assert!(!wire(ObservableType::Ipv4, "192.0.2.7"));
        let cidr = |bytes: &[u8]| Observable::from_wire(ObservableType::Cidr, WireValue::Bytes(bytes.to_vec()), None).is_ok();
        assert!(cidr(&[192, 0, 2, 0, 24]));
        assert!(!cidr(&[192, 0, 2, 1, 24]) && !cidr(&[192, 0, 2, 1, 32]) && !cidr(&[0, 0, 0, 0, 0]) && !cidr(&[1, 24]));
    }

    #[test]
    fn a_value_on_a_screen_cannot_be_clicked() {
        let shown = |text: &str| Observable::recognise(text).unwrap().defanged();
        assert_eq!(shown("http://a.evil.example/x.y"), "hxxp://a[.]evil[.]example/x.y");
        assert_eq!(shown("a.evil.example"), "a.evil[.]example");
        assert_eq!(shown("192.0.2.7"), "192.0.2[.]7");
        assert_eq!(shown("x@evil.example"), "x[@]evil.example");
    }
}
