//! Values whose type their author names: what `ip-dst|port`, `FileHash-SHA256` or `IPv4-Addr` means.
//!
//! ```text
//! name of a type, text -type_of-> MISP's name of it -parts-> values, each with what of its meaning was lost
//! ```
//!
//! The author's type holds: a JA3S hash is no MD5 although it has its length. A type that has no counterpart is kept as `other` under
//! its MISP name: searchable, never enforced. Addresses may be networks, masks or ranges wherever an address may be.
//!
//! Source: attribute types of MISP 2.5; names that STIX, OTX, OpenCTI, abuse.ch and CrowdSec give to the same types.

use super::{host, one_line, url};
use crate::record::{Observable, ObservableError, ObservableType, Role, Scope, TypeName, excerpt};
use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Most networks that one range is written as; a range that needs more has odd ends, and is a mistake more often than not.
const RANGE_NETWORKS_MAX: usize = 64;

const ONE_LINE: &str = "line breaks in a text become spaces";
const PORT_MISSING: &str = "an address with a port that lacks its port is taken as an address";

/// One value of a text.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub value: Observable,
    pub scope: Option<Scope>,
    /// How its meaning changed.
    pub change: Option<&'static str>,
    /// It describes another value of the text and is kept for queries.
    pub aside: bool,
    pub role: Option<Role>,
}

impl From<Observable> for Part {
    fn from(value: Observable) -> Self {
        Self { value, scope: None, change: None, aside: false, role: None }
    }
}

/// MISP's name of a type that others call `name`; the name itself if it has the form of MISP's names. `None` for other words.
pub(super) fn type_of(name: &str) -> Option<String> {
    let lower = name.trim().to_ascii_lowercase();
    if let Some(other) = lower.strip_prefix("other:") {
        return Some(other.to_owned());
    }
    let plain: String = lower.chars().filter(|char| !matches!(char, ' ' | '_' | '-' | '.')).collect();
    let plain = plain.strip_prefix("filehash").filter(|hash| !hash.is_empty()).unwrap_or(&plain);
    let plain = plain.strip_suffix("hash").filter(|hash| hash.starts_with("md5") || hash.starts_with("sha")).unwrap_or(plain);
    let known = match plain {
        "ip" | "ipv4" | "ipv6" | "ipaddr" | "ipv4addr" | "ipv6addr" | "ipaddress" | "ipv4address" | "ipv6address" | "cidr" | "ipv4cidr"
        | "ipv6cidr" | "range" | "iprange" | "network" | "subnet" | "ipdst" | "dstip" | "destinationip" | "addr" => "ip-dst",
        "ipsrc" | "srcip" | "sourceip" => "ip-src",
        "domain" | "domainname" | "fqdn" | "dnsdomain" => "domain",
        "hostname" | "host" => "hostname",
        "url" | "urladdress" => "url",
        "ip:port" | "ipport" | "ipdst|port" | "endpoint" | "socketaddress" => "ip-dst|port",
        "ipsrc|port" => "ip-src|port",
        "hostname|port" | "domain:port" | "host:port" | "domain|port" => "hostname|port",
        "domain|ip" => "domain|ip",
        "email" | "emailaddr" | "emailaddress" | "mail" => "email",
        "emailsrc" => "email-src",
        "emaildst" => "email-dst",
        "md5" | "sha1" | "sha224" | "sha256" | "sha384" | "sha512" | "ssdeep" | "tlsh" | "imphash" | "authentihash" | "pehash" => plain,
        "asn" | "as" | "autonomoussystem" => "as",
        "ja3" | "ja3fingerprintmd5" => "ja3-fingerprint-md5",
        "ja3s" | "ja3sfingerprint" => "ja3s",
        "ja4" => "ja4",
        "certsha256" | "x509fingerprintsha256" => "x509-fingerprint-sha256",
        "sslcertfingerprint" | "certificatefingerprint" => "x509-fingerprint",
        "wallet" | "cryptocurrencywallet" | "bitcoinaddress" | "btc" => "btc",
        "filename" | "filepath" | "file" => "filename",
        "mutex" => "mutex",
        "cve" | "vulnerability" => "vulnerability",
        "useragent" => "user-agent",
        "regkey" | "registrykey" | "windowsregistrykey" => "regkey",
        "macaddr" | "macaddress" => "mac-address",
        "uri" | "uripath" => "uri",
        "link" => "link",
        // A name that MISP writes with signs of its own.
        _ if lower.contains(['|', '-']) && Observable::other_from_text(&lower, "x").is_ok() => return Some(lower),
        _ => return None,
    };
    Some(known.to_owned())
}

/// The values of a text that an attribute of MISP type `kind` has.
pub(super) fn parts(kind: &str, text: &str) -> Result<Vec<Part>, ObservableError> {
    use ObservableType as T;
    let one = |part: Result<Part, ObservableError>| part.map(|part| vec![part]);
    let typed = |kind: T, text: &str| Observable::from_text(kind, text).map(Part::from);
    let (left, right) = text.split_once('|').unwrap_or((text, ""));
    if let Some(hash) = kind.strip_prefix("filename|") {
        // A name may hold the sign itself; the hash does not.
        let (left, right) = text.rsplit_once('|').unwrap_or((text, ""));
        let name = other("filename", left).map(|part| Part { aside: true, ..part })?;
        return Ok(if right.trim().is_empty() { vec![name] } else { vec![hash_part(hash, right)?, name] });
    }
    match kind {
        "ip-src" | "ip-dst" => addresses(text.trim()),
        "domain" | "hostname" => one(named(text)),
        "domain|ip" => Ok(std::iter::once(named(left)?).chain(addresses(right.trim())?).collect()),
        "ip-src|port" | "ip-dst|port" | "hostname|port" => {
            // `192.0.2.7|443`, and the same with a colon as older versions wrote it.
            let (host, port) = if right.is_empty() { text.rsplit_once(':').unwrap_or((text, "")) } else { (left, right) };
            if port.is_empty() {
                let alone = if kind == "hostname|port" { vec![named(text)?] } else { addresses(text.trim())? };
                return Ok(alone.into_iter().map(|part| Part { change: Some(PORT_MISSING), ..part }).collect());
            }
            let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() };
            one(typed(T::Endpoint, &format!("{}:{}", host.trim(), port.trim())))
        }
        "url" => one(url(text).map(|(value, change)| Part { change, ..Part::from(value) }).map_err(into_value)),
        "uri" if text.contains("://") => one(typed(T::Url, text)),
        "email" | "email-src" => one(typed(T::Email, mailbox(text))),
        "email-dst" => one(typed(T::Email, mailbox(text)).map(|part| Part { role: Some(Role::Victim), ..part })),
        "malware-sample" => {
            let name = other("filename", left).map(|part| Part { aside: true, ..part })?;
            Ok(if right.is_empty() { vec![name] } else { vec![typed(T::Md5, right)?, name] })
        }
        "as" => one(typed(T::Asn, text.split_whitespace().next().unwrap_or_default())),
        "ja3-fingerprint-md5" => one(typed(T::Ja3, text)),
        "ja4" => one(typed(T::Ja4, text)),
        "btc" | "xmr" | "dash" => one(typed(T::Wallet, text)),
        "x509-fingerprint" => {
            let digits = text.bytes().filter(u8::is_ascii_hexdigit).count();
            one(if digits == 64 {
                typed(T::CertSha256, text)
            } else {
                other(if digits == 40 { "x509-fingerprint-sha1" } else { kind }, text)
            })
        }
        _ => one(hash_part(kind, text)),
    }
}

fn into_value(error: super::TermError) -> ObservableError {
    match error {
        super::TermError::Value(error) => error,
        super::TermError::Inexpressible(why) => ObservableError::Cell { text: why.to_string() },
    }
}

/// A name, or whatever published files have in its place. `*.name` and `.name` mean the name and all below it.
fn named(text: &str) -> Result<Part, ObservableError> {
    let text = text.trim();
    if let Some(name) = text.strip_prefix("*.").or_else(|| text.strip_prefix('.')) {
        let value = Observable::from_text(ObservableType::Domain, name)?;
        return Ok(Part { scope: Some(Scope::Subdomains), ..Part::from(value) });
    }
    host(text).map(|(value, change)| Part { change, ..Part::from(value) }).map_err(into_value)
}

/// Returns true for a text that may be a URL; false for paths, UNC and drive paths, queries and patterns.
pub(super) fn is_page(text: &str) -> bool {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme);
    if scheme.is_some() {
        return !text.contains('*') || text.find('*') > text.find('?').or(Some(usize::MAX));
    }
    let host = text.split(['/', '?', '#']).next().unwrap_or_default();
    let drive = host.as_bytes().get(1) == Some(&b':') && host.len() <= 3;
    // `mailto:x@y`: no port follows the colon.
    let opaque =
        host.split_once(':').is_some_and(|(scheme, rest)| !scheme.contains('.') && !rest.starts_with(|char: char| char.is_ascii_digit()));
    let named = !host.is_empty() || text.starts_with("//");
    let pattern = text.contains(['\\', '*', ' ']) || host.starts_with('.') || host.starts_with("[.]") || host.contains(['&', '=', '$']);
    named && !drive && !opaque && !pattern
}

/// The address of `"Some One" <x@mail.example>`.
fn mailbox(text: &str) -> &str {
    let inner = text.rsplit_once('<').and_then(|(_, rest)| rest.split_once('>')).map(|(address, _)| address);
    inner.unwrap_or(text).trim()
}

/// Addresses and networks: `192.0.2.1`, `192.0.2.0/24`, `192.0.2.0/255.255.255.0`, `192.0.2.12-192.0.2.15`, `192.0.2.1:443`.
fn addresses(text: &str) -> Result<Vec<Part>, ObservableError> {
    if let Some(found) = networks(text) {
        return Ok(found?.into_iter().map(Part::from).collect());
    }
    match Observable::recognise(text) {
        // Published files also have names, endpoints and URLs where an address belongs.
        Ok(found) if found.network().is_none() => {
            let hexadecimal = text.bytes().all(|byte| byte.is_ascii_hexdigit());
            if hexadecimal || found.text().is_none() {
                return Observable::from_text(ObservableType::Ipv6, text).map(|value| vec![Part::from(value)]);
            }
            Ok(vec![Part { change: Some(super::AS_TYPED), ..Part::from(found) }])
        }
        _ => Observable::from_text(ObservableType::Ipv6, text).map(|value| vec![Part::from(value)]),
    }
}

/// The networks that a text writes as an address with a prefix, a mask or a second address; `None` for any other text.
pub(super) fn networks(text: &str) -> Option<Result<Vec<Observable>, ObservableError>> {
    let malformed = |why| Err(ObservableError::Malformed { kind: ObservableType::Cidr, text: excerpt(text), why });
    let plain = crate::record::refang(text);
    if let Some((address, mask)) = plain.split_once('/') {
        let address: IpAddr = address.trim().parse().ok()?;
        if mask.bytes().all(|byte| byte.is_ascii_digit()) {
            return Some(Observable::from_text(ObservableType::Cidr, &plain).map(|net| vec![net]));
        }
        let mask: IpAddr = mask.trim().parse().ok()?;
        let net = match (address, mask) {
            (IpAddr::V4(address), IpAddr::V4(mask)) => IpNet::with_netmask(address.into(), mask.into()),
            (IpAddr::V6(address), IpAddr::V6(mask)) => IpNet::with_netmask(address.into(), mask.into()),
            _ => return Some(malformed("address and mask are of two families")),
        };
        return Some(match net {
            Ok(net) => Observable::of_network(net).map(|net| vec![net]),
            Err(_) => malformed("its mask has holes"),
        });
    }
    let (first, last) = plain.split_once('-')?;
    let (first, last): (IpAddr, IpAddr) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    let nets: Vec<IpNet> = match (first, last) {
        _ if first > last => return Some(malformed("the range ends before it begins")),
        (IpAddr::V4(first), IpAddr::V4(last)) => of_v4(first, last),
        (IpAddr::V6(first), IpAddr::V6(last)) => of_v6(first, last),
        _ => return Some(malformed("a range is of one family")),
    };
    if nets.len() > RANGE_NETWORKS_MAX {
        return Some(malformed("as networks the range is more than 64"));
    }
    Some(nets.into_iter().map(Observable::of_network).collect())
}

fn of_v4(first: Ipv4Addr, last: Ipv4Addr) -> Vec<IpNet> {
    Ipv4Subnets::new(first, last, 0).take(RANGE_NETWORKS_MAX + 1).map(IpNet::V4).collect()
}

fn of_v6(first: Ipv6Addr, last: Ipv6Addr) -> Vec<IpNet> {
    Ipv6Subnets::new(first, last, 0).take(RANGE_NETWORKS_MAX + 1).map(IpNet::V6).collect()
}

fn hash_part(kind: &str, text: &str) -> Result<Part, ObservableError> {
    use ObservableType as T;
    let typed = match kind {
        "md5" => T::Md5,
        "sha1" => T::Sha1,
        "sha256" => T::Sha256,
        "sha512" => T::Sha512,
        "x509-fingerprint-sha256" => T::CertSha256,
        _ => return other(kind, text),
    };
    let text = text.trim();
    // `SHA256:…` and `0x…`.
    let bare =
        text.split_once(':').filter(|(name, _)| name.to_ascii_lowercase().replace('-', "") == kind).map_or(text, |(_, digits)| digits);
    let bare = bare.strip_prefix("0x").unwrap_or(bare);
    Observable::from_text(typed, bare).map(Part::from)
}

pub(super) fn other(kind: &str, text: &str) -> Result<Part, ObservableError> {
    let (flat, long) = one_line(text, crate::record::VALUE_BYTES_MAX);
    if long {
        return Err(ObservableError::Malformed { kind: ObservableType::Other, text: excerpt(text), why: "longer than 2,048 bytes" });
    }
    // A few MISP types share a name with our types and hold other values; `url` and the like never come here.
    let name = if kind.parse::<ObservableType>().is_ok() { format!("misp-{kind}") } else { kind.replace('/', "-") };
    let value = TypeName::Other(name).read(&flat)?;
    Ok(Part { change: (text.trim().contains(['\n', '\r', '\t'])).then_some(ONE_LINE), ..Part::from(value) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str) -> String {
        let shown = |part: &Part| {
            let kind = part.value.other().unwrap_or_else(|| part.value.kind().name()).to_owned();
            format!("{kind} {}{}", if part.scope.is_some() { "*." } else { "" }, part.value)
        };
        match parts(&type_of(name).unwrap(), text) {
            Ok(parts) => parts.iter().map(shown).collect::<Vec<_>>().join(", "),
            Err(error) => format!("refused: {error}"),
        }
    }

    #[test]
    fn one_type_has_many_names_and_the_author_s_type_holds() {
        for (name, text, expected) in [
            (
                "FileHash-SHA256",
                "00000000000000000000000000000000000000000000000000000000000000aa",
                "sha256 00000000000000000000000000000000000000000000000000000000000000aa",
            ),
            ("IPv4-Addr", "2001:db8::7", "ipv6 2001:db8::7"),
            ("ip-dst", "192.0.2.0/255.255.255.128", "cidr 192.0.2.0/25"),
            ("ip", "192.0.2.12-192.0.2.17", "cidr 192.0.2.12/30, cidr 192.0.2.16/31"),
            ("ip", "192.0.2.36:8080", "endpoint 192.0.2.36:8080"),
            ("ip:port", "192.0.2.7:443", "endpoint 192.0.2.7:443"),
            ("ip-dst|port", "2001:db8::33|443", "endpoint [2001:db8::33]:443"),
            ("hostname", "*.wild.example", "domain *.wild.example"),
            ("JA3S", "00000000000000000000000000000082", "ja3s 00000000000000000000000000000082"),
            ("imphash", "f34d5f2d4577ed6d9ceec516c1f5a703", "imphash f34d5f2d4577ed6d9ceec516c1f5a703"),
            (
                "sha256",
                "SHA256:0000000000000000000000000000000000000000000000000000000000000361",
                "sha256 0000000000000000000000000000000000000000000000000000000000000361",
            ),
            (
                "filename|sha256",
                "a|b.exe|0000000000000000000000000000000000000000000000000000000000003202",
                "sha256 0000000000000000000000000000000000000000000000000000000000003202, filename a|b.exe",
            ),
            ("email-src", "\"Some One\" <x@mail.example>", "email x@mail.example"),
            ("CVE", "CVE-2026-0001", "vulnerability CVE-2026-0001"),
            ("link", "https://report.example/45", "link https://report.example/45"),
            ("AS", "AS64503 Example Hosting", "asn AS64503"),
        ] {
            assert_eq!(read(name, text), expected, "{name} {text}");
        }
        assert!(type_of("ban").is_none() && type_of("c2 server").is_none());
    }

    #[test]
    fn paths_and_patterns_are_no_urls() {
        for text in [
            "/gate.php?id=1",
            "\\\\192.0.2.60\\share\\file.exe",
            "C:\\Temp\\x.exe",
            "*.urlf.example/x",
            "http://*.wc.example/",
            "http://wc.example/*",
            "?a=b.c",
            ".urlf.example&alpha=1",
            "Example=1.0",
            "http://urlf..example/alpha",
            "urlf.example - GET",
            "[.]urlf[.]example",
        ] {
            assert!(read("url", text).starts_with("refused"), "{text}: {}", read("url", text));
        }
        for (text, expected) in
            [("urlf.example:8080/x", "url http://urlf.example:8080/x"), ("https://wc.example/a?b=*", "url https://wc.example/a?b=*")]
        {
            assert_eq!(read("url", text), expected);
        }
    }
}
