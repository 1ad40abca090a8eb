//! Matching: which values of a log line may be known here.
//!
//! ```text
//! line -tokens-> keys -Sieve-> candidates          (the node answers, exactly, what is known about each)
//! ```
//!
//! The sieve holds a hash of every value that counts, so whoever has it can look through logs without the node, and only what hits
//! leaves. It errs one way only: what is known is never missed; one in some 65,000 of the rest is asked about in vain.
//!
//! Not here: files, threads, the answer.

mod tokens;

use crate::{
    ledger::{LEVELS, Lengths, Row, key_hash, value_key},
    policy::Verdict,
    record::{Observable, ObservableType, Tlp},
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use tokens::{ALPHA, AT, COLON, DIGIT, DOT, HEX, HIGH, Token, tokens, url};
use xorf::{BinaryFuse16, Filter as _};

/// How the end of a stream of keys begins.
pub const KEYS_MAGIC: &[u8; 8] = b"huecryK2";
/// What stands behind the keys: the magic, the cursor, which lengths of networks there are.
pub const KEYS_HEAD_BYTES: usize = 88;
/// Shortest token that is any value: `a.bc`, and the shortest address.
const TOKEN_BYTES_MIN: usize = 4;
/// Longest domain name (RFC 1035 section 2.3.4), so the longest that is looked up.
const NAME_BYTES_MAX: usize = 253;
/// Longest URL that is looked up; a record's value is no longer.
const URL_BYTES_MAX: usize = 2_048;

/// Whether a row of the index counts for a reader with this clearance: an accepted indicator that is not over, from a batch that
/// is no older than `since`.
pub fn counts(row: &Row, clearance: Tlp, today: u32, since: u64) -> bool {
    let about = row.about;
    let now = about.indicator && about.verdict == Some(Verdict::Accept) && u32::from(about.end_day) >= today;
    now && about.tlp <= clearance && row.place.batch >= since
}

/// What stands behind a stream of keys, since only then all of it is known; a stream without it was cut off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeysHead {
    /// Changes so far, by marking: the next reader asks for records that came after them.
    pub cursor: [u64; LEVELS],
    pub lengths: Lengths,
}

impl KeysHead {
    /// As bytes, little-endian.
    pub fn bytes(&self) -> Vec<u8> {
        let numbers = self.cursor.into_iter().chain(self.lengths.words());
        KEYS_MAGIC.iter().copied().chain(numbers.flat_map(u64::to_le_bytes)).collect()
    }

    /// Reads it back; `None` if it is none of ours.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let numbers = bytes.strip_prefix(KEYS_MAGIC).filter(|rest| rest.len() == KEYS_HEAD_BYTES - KEYS_MAGIC.len())?;
        let mut numbers = numbers.chunks_exact(8).filter_map(|word| word.try_into().ok().map(u64::from_le_bytes));
        let cursor = [numbers.next()?, numbers.next()?, numbers.next()?, numbers.next()?, numbers.next()?];
        let words = [numbers.next()?, numbers.next()?, numbers.next()?, numbers.next()?, numbers.next()?];
        Some(Self { cursor, lengths: Lengths::of(words) })
    }
}

/// Bits in front of the filter for each value, at least: one in eight of what is unknown gets past them.
const BITS_PER_VALUE: usize = 4;

/// The word that holds a hash's bit, of so many: a power of two.
fn word_of(hash: u64, words: usize) -> usize {
    (hash >> 6) as usize & words.wrapping_sub(1)
}

/// Two bits of that word, from parts of the hash that do not choose it.
fn mask_of(hash: u64) -> u64 {
    1 << (hash & 63) | 1 << (hash >> 58)
}

/// A hash of every value that counts.
pub struct Sieve {
    /// Two bits in one word for each hash, in front of the filter: most of what is unknown costs one look into memory in place of three.
    bits: Vec<u64>,
    filter: Option<BinaryFuse16>,
    lengths: Lengths,
    values: usize,
}

impl Sieve {
    /// A sieve of these keys. A filter that cannot be built (a chance of 1 in 2^60 a try) lets everything through instead.
    pub fn new(mut keys: Vec<u64>, lengths: Lengths) -> Self {
        keys.sort_unstable();
        keys.dedup();
        let values = keys.len();
        let mut bits = vec![0; (values * BITS_PER_VALUE / 64).next_power_of_two()];
        for key in &keys {
            let at = word_of(*key, bits.len());
            if let Some(word) = bits.get_mut(at) {
                *word |= mask_of(*key);
            }
        }
        Self { bits, filter: if keys.is_empty() { None } else { BinaryFuse16::try_from(&keys).ok() }, lengths, values }
    }

    /// How many values it holds.
    pub fn len(&self) -> usize {
        self.values
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.values == 0
    }

    fn has(&self, key: &[u8]) -> bool {
        let hash = key_hash(key);
        if self.bits.get(word_of(hash, self.bits.len())).is_some_and(|word| word & mask_of(hash) != mask_of(hash)) {
            return false;
        }
        match &self.filter {
            Some(filter) => filter.contains(&hash),
            None => self.values > 0,
        }
    }
}

/// Looks through lines. One for each thread.
pub struct Matcher<'a> {
    sieve: &'a Sieve,
    key: Vec<u8>,
}

impl<'a> Matcher<'a> {
    /// One that uses `sieve`.
    pub fn new(sieve: &'a Sieve) -> Self {
        Self { sieve, key: Vec::with_capacity(URL_BYTES_MAX) }
    }

    /// Adds to `out` what in `line` may be known: each value as it stands there, whatever of it is known (the value itself, a
    /// domain above it, a network around it). Any text will do: fields, JSON, prose.
    pub fn candidates(&mut self, line: &[u8], out: &mut Vec<Observable>) {
        if self.sieve.is_empty() {
            return;
        }
        tokens(line, |token| self.token(token, out));
        for plain in respelt(line).into_iter().flatten() {
            tokens(&plain, |token| self.token(token, out));
        }
    }

    fn token(&mut self, token: Token<'_>, out: &mut Vec<Observable>) {
        if token.bytes.len() < TOKEN_BYTES_MIN {
            return;
        }
        if token.bytes.ends_with(b":") {
            if let Some(url) = url(&token) {
                self.typed(ObservableType::Url, &url, out);
                // These may belong to a URL, and may end it.
                let ends = |byte: &u8| matches!(byte, b',' | b';' | b')' | b']' | b'}');
                if let Some(shorter) = url.iter().position(ends).and_then(|end| url.get(..end)) {
                    self.typed(ObservableType::Url, shorter, out);
                }
            }
            return self.word(Token { bytes: trimmed(token.bytes), ..token }, out);
        }
        self.word(Token { bytes: trimmed(token.bytes), ..token }, out);
    }

    fn word(&mut self, token: Token<'_>, out: &mut Vec<Observable>) {
        let Token { bytes, mut flags, .. } = token;
        // A colon that only ended the word is none of it.
        if flags & COLON != 0 && !bytes.contains(&b':') {
            flags &= !COLON;
        }
        if bytes.len() < TOKEN_BYTES_MIN {
            return;
        }
        if flags & AT != 0 {
            return self.mail(bytes, out);
        }
        if flags & !(DIGIT | HEX) == 0 {
            return self.hash(bytes, out);
        }
        if flags & COLON != 0 {
            return self.with_colon(bytes, out);
        }
        if flags & DOT == 0 {
            return;
        }
        if flags & !(DIGIT | DOT) == 0 {
            return self.ipv4(bytes, out);
        }
        self.name(bytes, flags, out);
    }

    /// An IPv6 address, or a host and a port.
    fn with_colon(&mut self, bytes: &[u8], out: &mut Vec<Observable>) {
        let mut parts = bytes.splitn(3, |byte| *byte == b':');
        let (Some(host), Some(port)) = (parts.next(), parts.next()) else { return };
        if parts.next().is_some() {
            let pairs = bytes.len() % 3 == 2
                && bytes
                    .chunks(3)
                    .all(|pair| pair.iter().take(2).all(u8::is_ascii_hexdigit) && pair.get(2).is_none_or(|sign| *sign == b':'));
            if pairs && bytes.len() > 40 {
                let digits: Vec<u8> = bytes.iter().copied().filter(|byte| *byte != b':').collect();
                return self.hash(&digits, out);
            }
            let parse = |bytes: &[u8]| std::str::from_utf8(bytes).ok().and_then(|text| text.parse::<Ipv6Addr>().ok());
            let port = || bytes.iter().rposition(|byte| *byte == b'.').and_then(|dot| bytes.get(..dot));
            let address = parse(bytes).or_else(|| parse(port()?));
            return address.into_iter().for_each(|address| self.address(Observable::of_address(IpAddr::V6(address)), out));
        }
        let host_flags = host.iter().fold(0, |all, byte| all | tokens::class(*byte));
        self.word(Token { bytes: host, flags: host_flags, after: &[] }, out);
        if host_flags & DOT != 0 && !port.is_empty() && port.iter().all(u8::is_ascii_digit) {
            self.typed(ObservableType::Endpoint, bytes, out);
        } else if port.len() >= TOKEN_BYTES_MIN {
            let flags = port.iter().fold(0, |all, byte| all | tokens::class(*byte));
            self.word(Token { bytes: port, flags, after: &[] }, out);
        }
    }

    fn ipv4(&mut self, bytes: &[u8], out: &mut Vec<Observable>) {
        // tcpdump writes a port as a fifth number.
        let four = || bytes.iter().rposition(|byte| *byte == b'.').and_then(|dot| bytes.get(..dot));
        if let Some(address) = ipv4_of(bytes).or_else(|| ipv4_of(four()?))
            && self.has_ipv4(address)
        {
            out.push(Observable::of_address(IpAddr::V4(address)));
        }
    }

    fn has_ipv4(&mut self, address: Ipv4Addr) -> bool {
        let key = |class: [u8; 2], octets: [u8; 4], length: Option<u8>, into: &mut Vec<u8>| {
            into.clear();
            into.extend_from_slice(&class);
            into.extend_from_slice(&octets);
            into.extend(length);
        };
        key(*b"a4", address.octets(), None, &mut self.key);
        if self.sieve.has(&self.key) {
            return true;
        }
        let bits = u32::from(address);
        self.sieve.lengths.v4().any(|length| {
            let net = bits & u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            key(*b"n4", net.to_be_bytes(), Some(length), &mut self.key);
            self.sieve.has(&self.key)
        })
    }

    /// An address of either family, IPv6 ones that hold an IPv4 address among them.
    fn address(&mut self, value: Observable, out: &mut Vec<Observable>) {
        let known = match value.network().map(|net| net.addr()) {
            Some(IpAddr::V4(address)) => self.has_ipv4(address),
            Some(IpAddr::V6(address)) => {
                let bits = u128::from(address);
                self.sieve.has(&value_key(&value))
                    || self.sieve.lengths.v6().any(|length| {
                        let net = bits & u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
                        self.sieve.has(&[b"n6", &net.to_be_bytes()[..], &[length]].concat())
                    })
            }
            None => false,
        };
        if known {
            out.push(value);
        }
    }

    fn hash(&mut self, bytes: &[u8], out: &mut Vec<Observable>) {
        use ObservableType as T;
        let kinds: &[T] = match bytes.len() {
            32 => &[T::Md5, T::Ja3],
            40 => &[T::Sha1],
            64 => &[T::Sha256, T::CertSha256],
            128 => &[T::Sha512],
            _ => return,
        };
        let mut digest = [0; 64];
        let Some(digest) = digest.get_mut(..bytes.len() / 2) else { return };
        if hex::decode_to_slice(bytes, digest).is_err() {
            return;
        }
        for kind in kinds {
            self.key.clear();
            self.key.extend_from_slice(&[b'h', *kind as u8]);
            self.key.extend_from_slice(digest);
            if self.sieve.has(&self.key) {
                out.extend(std::str::from_utf8(bytes).ok().and_then(|text| Observable::from_text(*kind, text).ok()));
            }
        }
    }

    fn mail(&mut self, bytes: &[u8], out: &mut Vec<Observable>) {
        let Some(at) = bytes.iter().rposition(|byte| *byte == b'@') else { return };
        let host = bytes.get(at + 1..).unwrap_or_default();
        let flags = host.iter().fold(0, |all, byte| all | tokens::class(*byte));
        if flags & (DOT | AT) == DOT {
            self.typed(ObservableType::Email, bytes, out);
            self.word(Token { bytes: host, flags, after: &[] }, out);
        }
    }

    /// A value that is put into its one spelling before it is looked up.
    fn typed(&mut self, kind: ObservableType, bytes: &[u8], out: &mut Vec<Observable>) {
        let value = std::str::from_utf8(bytes).ok().and_then(|text| Observable::from_text(kind, text).ok());
        out.extend(value.filter(|value| self.sieve.has(&value_key(value))));
    }

    /// A domain name, and every name above it: the labels in reverse make each of them a prefix.
    fn name(&mut self, bytes: &[u8], flags: u16, out: &mut Vec<Observable>) {
        if bytes.len() > NAME_BYTES_MAX || flags & (ALPHA | HEX | HIGH) == 0 {
            return;
        }
        let read = |bytes: &[u8]| std::str::from_utf8(bytes).ok().and_then(|text| Observable::from_text(ObservableType::Domain, text).ok());
        if flags & HIGH != 0 {
            // Not ASCII: its one spelling is another text.
            let Some(value) = read(bytes) else { return };
            let name = value.to_string();
            if self.has_name(name.as_bytes()) {
                out.push(value);
            }
            return;
        }
        if self.has_name(bytes) {
            out.extend(read(bytes));
        }
    }

    fn has_name(&mut self, name: &[u8]) -> bool {
        self.key.clear();
        self.key.push(b'd');
        for (depth, label) in name.rsplit(|byte| *byte == b'.').enumerate() {
            if label.is_empty() {
                return false;
            }
            if depth > 0 {
                self.key.push(b'.');
            }
            let from = self.key.len();
            self.key.extend_from_slice(label);
            self.key.get_mut(from..).unwrap_or_default().make_ascii_lowercase();
            if depth > 0 {
                self.key.push(0);
                if self.sieve.has(&self.key) {
                    return true;
                }
                self.key.pop();
            }
        }
        false
    }
}

/// A line in other spellings that hide values: names by the length of their labels, as the log of Windows' DNS server has them
/// (`(2)c2(7)example(0)`), percent-encoded, and defanged.
fn respelt(line: &[u8]) -> [Option<Vec<u8>>; 3] {
    let has = |sign: &[u8]| memchr::memmem::find(line, sign).is_some();
    let Some(_) = memchr::memchr3(b'[', b'(', b'%', line)
        .or_else(|| memchr::memmem::find(line, b"hxxp"))
        .or_else(|| memchr::memmem::find(line, b"hXXp"))
    else {
        return Default::default();
    };
    let labels = has(b"(0)").then(|| without_lengths(line));
    let encoded = has(b"%").then(|| percent_encoding::percent_decode(line).collect::<Vec<u8>>()).filter(|plain| plain.len() < line.len());
    let marks: [&[u8]; 7] = [b"[.", b"(.", b"[dot", b"(dot", b"[@", b"[:", b"hxxp"];
    let defanged = (marks.iter().any(|mark| has(mark)) || has(b"hXXp")).then(|| {
        let text = String::from_utf8_lossy(line);
        let words: Vec<String> = text.split_whitespace().map(|word| crate::record::refang(word).into_owned()).collect();
        words.join(" ").into_bytes()
    });
    [labels, encoded, defanged]
}

/// A line in which numbers in brackets are dots.
fn without_lengths(line: &[u8]) -> Vec<u8> {
    let (mut plain, mut rest) = (Vec::with_capacity(line.len()), line);
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if *first == b'(' && (1..=2).contains(&digits) && behind.get(digits) == Some(&b')') {
            plain.push(b'.');
            rest = behind.get(digits + 1..).unwrap_or_default();
        } else {
            plain.push(*first);
            rest = behind;
        }
    }
    plain
}

/// Four numbers of at most 255 without leading zeros, between dots.
fn ipv4_of(bytes: &[u8]) -> Option<Ipv4Addr> {
    let mut octets = [0u8; 4];
    let mut parts = bytes.split(|byte| *byte == b'.');
    for octet in &mut octets {
        let part = parts.next().filter(|part| (1..=3).contains(&part.len()) && (part.len() == 1 || !part.starts_with(b"0")))?;
        let value = part.iter().fold(0u16, |value, digit| value * 10 + u16::from(digit.wrapping_sub(b'0')));
        *octet = u8::try_from(value).ok()?;
    }
    parts.next().is_none().then(|| Ipv4Addr::from(octets))
}

/// Without what ends a sentence or stands before a port that is none.
fn trimmed(bytes: &[u8]) -> &[u8] {
    let is_edge = |byte: &u8| matches!(byte, b'.' | b':' | b'-');
    if !bytes.first().is_some_and(is_edge) && !bytes.last().is_some_and(is_edge) {
        return bytes;
    }
    let start = bytes.iter().position(|byte| !is_edge(byte)).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|byte| !is_edge(byte)).map_or(start, |last| last + 1);
    // `::1` begins with its colons.
    let start = if bytes.starts_with(b"::") { 0 } else { start };
    bytes.get(start..end.max(start)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sieve(values: &[&str]) -> Sieve {
        let (mut keys, mut lengths) = (Vec::new(), Lengths::default());
        for value in values {
            let key = value_key(&Observable::recognise(value).unwrap());
            lengths.note(&key);
            keys.push(key_hash(&key));
        }
        Sieve::new(keys, lengths)
    }

    fn found(sieve: &Sieve, line: &str) -> Vec<String> {
        let mut out = Vec::new();
        Matcher::new(sieve).candidates(line.as_bytes(), &mut out);
        out.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_value_is_found_in_any_field_of_any_format() {
        let sieve = sieve(&[
            "bad.example",
            "192.0.2.7",
            "2001:db8::bad",
            "http://evil.example/a/b?c=d",
            "d41d8cd98f00b204e9800998ecf8427e",
            "da39a3ee5e6b4b0d3255bfef95601890afd80709",
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "phish@mail.example",
            "198.51.100.1:8443",
        ]);
        let cases = [
            ("1700000000.123456\tCHhAvV\t192.0.2.1\t53\t192.0.2.9\t53\tudp\tbad.example\tNOERROR", "bad.example"),
            (r#"{"dns":{"rrname":"BAD.example"},"src_ip":"192.0.2.1"}"#, "bad.example"),
            ("queries: client @0x7f 192.0.2.1#5353 (bad.example): query: bad.example. IN A +E(0)K (192.0.2.2)", "bad.example"),
            ("Nov 26 10:00:00 host dnsmasq[1]: query[A] bad.example from 192.0.2.1", "bad.example"),
            ("192.0.2.7 - - [26/Nov/2026:10:00:00 +0000] \"GET / HTTP/1.1\" 200 1 \"-\" \"-\"", "192.0.2.7"),
            (r#"{"src_ip":"2001:db8:0:0::bad","src_port":1}"#, "2001:db8::bad"),
            ("kernel: SRC=192.0.2.7 DST=192.0.2.1", "192.0.2.7"),
            ("to [2001:db8::BAD]:443 refused", "2001:db8::bad"),
            (r#"{"http":{"url":"http:\/\/evil.example\/a\/b?c=d"}}"#, "http://evil.example/a/b?c=d"),
            ("GET HTTP://Evil.example/a/b?c=d, then", "http://evil.example/a/b?c=d"),
            ("md5=D41D8CD98F00B204E9800998ECF8427E", "d41d8cd98f00b204e9800998ecf8427e"),
            ("sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709", "da39a3ee5e6b4b0d3255bfef95601890afd80709"),
            ("MAIL FROM:<phish@MAIL.example> SIZE=1", "phish@mail.example"),
            ("connect to 198.51.100.1:8443 failed", "198.51.100.1:8443"),
            ("0A0C PACKET UDP Rcv 192.0.2.1 Q [0001 D NOERROR] A (3)bad(7)example(0)", "bad.example"),
            ("10:00 IP 192.0.2.150.51000 > 192.0.2.7.443: Flags [S], seq 1", "192.0.2.7"),
            ("10:00 IP6 2001:db8::1.51000 > 2001:db8::bad.443: Flags [S]", "2001:db8::bad"),
            ("url=http%3A%2F%2Fevil.example%2Fa%2Fb%3Fc%3Dd", "http://evil.example/a/b?c=d"),
            ("user=phish%40mail.example", "phish@mail.example"),
            ("seen in a ticket: hxxp://bad[.]example/", "bad.example"),
            ("to bad[dot]example", "bad.example"),
        ];
        for (line, value) in cases {
            assert!(found(&sieve, line).contains(&value.to_owned()), "{line}: {:?}", found(&sieve, line));
        }
    }

    #[test]
    fn names_above_and_networks_around_are_hits_and_neighbours_are_none() {
        let sieve = sieve(&["bad.example", "198.51.100.0/24", "2001:db8:bad::/48"]);
        assert_eq!(found(&sieve, "a.b.bad.example"), ["a.b.bad.example"]);
        assert_eq!(found(&sieve, "198.51.100.77"), ["198.51.100.77"]);
        assert_eq!(found(&sieve, "2001:db8:bad::7"), ["2001:db8:bad::7"]);
        assert_eq!(found(&sieve, "::ffff:198.51.100.77"), ["198.51.100.77"]);
        for line in ["notbad.example", "bad.example.org", "198.51.101.1", "2001:db8:bae::1", "12:30:45", "00:00:5e:00:53:01", ""] {
            assert_eq!(found(&sieve, line), Vec::<String>::new(), "{line}");
        }
    }

    #[test]
    fn addresses_are_read_as_the_standard_library_reads_them() {
        for text in
            ["192.0.2.7", "0.0.0.0", "255.255.255.255", "256.0.0.1", "01.2.3.4", "1.2.3", "1.2.3.4.5", "1..2.3", "999.1.1.1", "1.2.3.0004"]
        {
            assert_eq!(ipv4_of(text.as_bytes()), text.parse().ok(), "{text}");
        }
    }

    #[test]
    fn other_spellings_of_a_name_are_the_name() {
        let sieve = sieve(&["b\u{fc}cher.example"]);
        for line in ["b\u{fc}cher.example", "xn--bcher-kva.example", "XN--BCHER-KVA.EXAMPLE"] {
            assert_eq!(found(&sieve, line), ["xn--bcher-kva.example"], "{line}");
        }
    }

    #[test]
    fn the_head_of_a_stream_of_keys_reads_as_it_was_written() {
        let mut lengths = Lengths::default();
        ["192.0.2.0/24", "0.0.0.0/1", "2001:db8::/32", "2001:db8::/127"].iter().for_each(|net| {
            lengths.note(&value_key(&Observable::recognise(net).unwrap()));
        });
        let head = KeysHead { cursor: [7, 0, 3, 0, 1], lengths };
        assert_eq!(KeysHead::read(&head.bytes()), Some(head));
        assert_eq!((lengths.v4().collect(), lengths.v6().collect()), (vec![1, 24], vec![32, 127]));
        assert_eq!(KeysHead::read(b"huecryK2"), None);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_pass_in_peace(line: Vec<u8>) {
            let sieve = sieve(&["bad.example", "192.0.2.0/24"]);
            Matcher::new(&sieve).candidates(&line, &mut Vec::new());
        }

        #[test]
        fn what_is_known_is_never_missed(number in 0u64..1_000_000, before in "[ \t\",;(=|]{1,3}", after in "[ \t\",;)|]{1,3}") {
            let value = crate::sim::listed_value(number);
            let sieve = sieve(&[&value, "unrelated.example"]);
            let line = format!("x{before}{value}{after}y");
            let value = Observable::recognise(&value).unwrap().to_string();
            proptest::prop_assert!(found(&sieve, &line).contains(&value), "{line}: {:?}", found(&sieve, &line));
        }
    }
}
