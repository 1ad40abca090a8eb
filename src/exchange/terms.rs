//! From the properties of STIX objects to values: what `file:hashes.MD5 = '…'` is an indicator of.
//!
//! In: one alternative of a pattern, or one observable object, as type, property and text. Out: values, each with what of
//! its meaning was lost. Properties that no type holds become an `other` under their own name: searchable, never enforced.

use super::{Alternative, Inexpressible, Literal, Operator, Test, plain_hash_name};
use crate::record::{Observable, ObservableError, ObservableType, TypeName};

/// How a value's meaning changed.
pub const AS_ADDRESS: &str = "an address that stood where a name belongs is taken as an address";
pub const AS_TYPED: &str = "a value that is spelt as another type than it was given is taken as that type";
pub const WITH_SCHEME: &str = "a URL without a scheme is read as http";
pub const BESIDE_HASH: &str = "a file's name or size beside its hash is left out: the hash alone names the file";
pub const BESIDE_NUMBER: &str = "a name beside an AS number is left out: the number alone names it";
pub const BESIDE_PORT: &str = "a protocol beside an address and port is left out";
pub const DIRECTION: &str = "whether an address is a source or a destination is left out";

/// Why an alternative gives no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TermError {
    #[error(transparent)]
    Inexpressible(#[from] Inexpressible),
    #[error(transparent)]
    Value(#[from] ObservableError),
}

/// A value and how its meaning changed, if it did.
pub type Term = (Observable, Option<&'static str>);

/// The values that one alternative of a pattern is about.
pub fn terms(alternative: &Alternative<'_>) -> Result<Vec<Term>, TermError> {
    if alternative.iter().any(|test| test.negated || test.operator == Operator::Unequal) {
        return Err(Inexpressible::Excludes.into());
    }
    match alternative.as_slice() {
        [test] => one(test),
        several => together(several),
    }
}

fn one(test: &Test) -> Result<Vec<Term>, TermError> {
    let network = matches!(test.object.as_str(), "ipv4-addr" | "ipv6-addr") && test.property() == "value";
    match test.operator {
        Operator::Equal | Operator::In => (),
        Operator::Subset if network => (),
        _ => return Err(Inexpressible::Comparison.into()),
    }
    let property = test.property();
    let read = |literal: &Literal| value(&test.object, &property, &text_of(literal)?);
    test.literals.iter().map(read).collect()
}

fn text_of(literal: &Literal) -> Result<String, TermError> {
    match literal {
        Literal::Text(text) | Literal::Time(text) => Ok(text.clone()),
        Literal::Integer(number) => Ok(number.to_string()),
        Literal::Float(_) | Literal::Bool(_) | Literal::Bytes(_) => Err(Inexpressible::Subject.into()),
    }
}

/// Tests that must all hold, where they say one thing with its details.
fn together(tests: &[&Test]) -> Result<Vec<Term>, TermError> {
    let first = tests.first().ok_or(Inexpressible::Together)?;
    if tests.iter().any(|test| test.object != first.object || test.operator != Operator::Equal) {
        return Err(Inexpressible::Together.into());
    }
    let properties = tests.iter().map(|test| Ok((test.property(), text_of(test.literals.first().ok_or(Inexpressible::Subject)?)?)));
    let properties = properties.collect::<Result<Vec<_>, TermError>>()?;
    described(&first.object, &properties).ok_or(Inexpressible::Together)?
}

/// The values of one object that has several properties; `None` if they do not name one thing by themselves.
pub fn described(object: &str, properties: &[(String, String)]) -> Option<Result<Vec<Term>, TermError>> {
    let is_hash = |name: &str| name.starts_with("hashes.");
    match object {
        "file" | "artifact" | "x509-certificate" if properties.iter().any(|(name, _)| is_hash(name)) => {
            let lost = properties.iter().any(|(name, _)| !is_hash(name)).then_some(BESIDE_HASH);
            let hashes = properties.iter().filter(|(name, _)| is_hash(name)).map(|(name, text)| value(object, name, text));
            Some(hashes.map(|term| term.map(|(value, change)| (value, change.or(lost)))).collect())
        }
        "autonomous-system" => {
            let (name, text) = properties.iter().find(|(name, _)| name == "number")?;
            Some(value(object, name, text).map(|(value, _)| vec![(value, Some(BESIDE_NUMBER))]))
        }
        "network-traffic" => connection(properties),
        // As our own exports write what STIX has no type for.
        "x-huecry-value" => {
            let get = |wanted: &str| properties.iter().find(|(name, _)| name == wanted).map(|(_, text)| text);
            let (kind, text) = (get("kind")?.parse::<TypeName>().ok()?, get("value")?);
            Some(kind.read(text).map(|value| vec![(value, None)]).map_err(TermError::from))
        }
        _ => None,
    }
}

/// An end of a connection: its address or name, with the port if that is given.
fn connection(properties: &[(String, String)]) -> Option<Result<Vec<Term>, TermError>> {
    let get = |wanted: &str| properties.iter().find(|(name, _)| name == wanted).map(|(_, text)| text.as_str());
    let ends = [("dst_ref.value", "dst_port"), ("src_ref.value", "src_port")];
    let mut named = ends.into_iter().filter_map(|(host, port)| Some((get(host)?, get(port), port)));
    let (host, port, port_name) = named.next()?;
    let understood = |name: &str| {
        name == port_name
            || matches!(name, "dst_ref.type" | "src_ref.type" | "dst_ref.value" | "src_ref.value")
            || name.starts_with("protocols")
    };
    // Both ends together are a connection, which no value is.
    if named.next().is_some() || !properties.iter().all(|(name, _)| understood(name)) {
        return None;
    }
    let lost = properties.iter().any(|(name, _)| name.starts_with("protocols")).then_some(BESIDE_PORT);
    let host_value = match value("ipv4-addr", "value", host).or_else(|_| value("domain-name", "value", host)) {
        Ok((value, _)) => value,
        Err(error) => return Some(Err(error)),
    };
    let Some(port) = port else { return Some(Ok(vec![(host_value, lost.or(Some(DIRECTION)))])) };
    let text = if host_value.kind() == ObservableType::Ipv6 { format!("[{host_value}]:{port}") } else { format!("{host_value}:{port}") };
    let read = Observable::from_text(ObservableType::Endpoint, &text).map_err(TermError::from);
    Some(read.map(|value| vec![(value, lost)]))
}

/// The value that one property of an object is.
pub fn value(object: &str, property: &str, text: &str) -> Result<Term, TermError> {
    use ObservableType as T;
    if let Some(name) = property.strip_prefix("hashes.") {
        return hash(object, name.trim_matches(['\'', '"']), text);
    }
    // Properties with a type of ours come first, then MISP's names for what is only searched for.
    let kind = match (object, property) {
        ("domain-name" | "hostname", "value") => return host(text),
        ("ipv4-addr" | "ipv6-addr", "value") => return Ok((address(text)?, None)),
        ("network-traffic", "dst_ref.value" | "src_ref.value") => {
            return host(text).map(|(value, change)| (value, change.or(Some(DIRECTION))));
        }
        ("url", "value") => return url(text),
        ("email-addr", "value")
        | ("email-message", "from_ref.value" | "sender_ref.value" | "to_refs[*].value" | "reply_to_refs[*].value") => {
            TypeName::Typed(T::Email)
        }
        ("autonomous-system", "number") => TypeName::Typed(T::Asn),
        // As mobile forensics writes it; in no version of STIX, but in thousands of published indicators.
        ("app", "cert.sha256") => TypeName::Typed(T::CertSha256),
        ("app", "id") => other("mobile-application-id"),
        ("file", "name" | "path") => other("filename"),
        ("windows-registry-key", "key") => other("regkey"),
        ("mutex", "name") => other("mutex"),
        ("mac-addr", "value") => other("mac-address"),
        ("email-message", "subject") => other("email-subject"),
        ("email-message", "body") => other("email-body"),
        ("email-message", "message_id") => other("email-message-id"),
        ("email-message", "additional_header_fields.x_mailer") => other("email-x-mailer"),
        ("email-message", "additional_header_fields.reply_to") => other("email-reply-to"),
        ("email-message", "body_multipart[*].body_raw_ref.name") => other("email-attachment"),
        ("network-traffic", "extensions.http-request-ext.request_method") => other("http-method"),
        ("network-traffic", "extensions.http-request-ext.request_header.User-Agent") => other("user-agent"),
        ("network-traffic", "dst_port" | "src_port") => other("port"),
        ("cryptocurrency-wallet", "value") => TypeName::Typed(T::Wallet),
        ("user-agent", "value") => other("user-agent"),
        ("file", "size") => other("size-in-bytes"),
        ("vulnerability", "name") => other("vulnerability"),
        ("process", "command_line") => other("process.command_line"),
        _ => other(&format!("{object}.{property}").to_ascii_lowercase()),
    };
    let read = kind.read(text).map_err(|error| match kind {
        // A name that cannot even be written down says that there is no type for this.
        TypeName::Other(ref name) if Observable::other_from_text(name, "x").is_err() => TermError::from(Inexpressible::Subject),
        _ => TermError::from(error),
    })?;
    Ok((read, None))
}

fn other(name: &str) -> TypeName {
    TypeName::Other(name.to_owned())
}

fn hash(object: &str, name: &str, text: &str) -> Result<Term, TermError> {
    let plain = plain_hash_name(name);
    let kind = match (object, plain.as_ref()) {
        ("x509-certificate", "sha256") => TypeName::Typed(ObservableType::CertSha256),
        ("x509-certificate", name) => other(&format!("x509-fingerprint-{name}")),
        (_, "md5") => TypeName::Typed(ObservableType::Md5),
        (_, "sha1") => TypeName::Typed(ObservableType::Sha1),
        (_, "sha256") => TypeName::Typed(ObservableType::Sha256),
        (_, "sha512") => TypeName::Typed(ObservableType::Sha512),
        // `hashes[*]`: any of them, told apart by length.
        (_, "") => return Ok((Observable::recognise(text)?, None)),
        (_, name) => match name.strip_prefix("sha3").filter(|bits| matches!(*bits, "224" | "256" | "384" | "512")) {
            Some(bits) => other(&format!("sha3-{bits}")),
            None => other(name),
        },
    };
    Ok((kind.read(text)?, None))
}

fn address(text: &str) -> Result<Observable, ObservableError> {
    let kind = if text.contains('/') { ObservableType::Cidr } else { ObservableType::Ipv6 };
    Observable::from_text(kind, text)
}

/// A name where a name belongs; published files also have addresses and URLs there.
pub(super) fn host(text: &str) -> Result<Term, TermError> {
    let as_name = match Observable::from_text(ObservableType::Domain, text) {
        Ok(_) if is_file(text) => Err(ObservableError::FileName { text: crate::record::excerpt(text) }),
        other => other,
    };
    match as_name {
        Ok(name) => Ok((name, None)),
        Err(error) => match Observable::recognise(text) {
            Ok(found) if found.network().is_some() => Ok((found, Some(AS_ADDRESS))),
            Ok(found) if found.kind() != ObservableType::Domain => Ok((found, Some(AS_TYPED))),
            _ => Err(error.into()),
        },
    }
}

fn is_file(text: &str) -> bool {
    matches!(Observable::recognise(text), Err(ObservableError::FileName { .. }))
}

/// A URL; many are published without their scheme.
pub(super) fn url(text: &str) -> Result<Term, TermError> {
    if !super::typed::is_page(text.trim()) {
        let why = "it is a path or a pattern and names no host";
        return Err(ObservableError::Malformed { kind: ObservableType::Url, text: crate::record::excerpt(text), why }.into());
    }
    match Observable::from_text(ObservableType::Url, text) {
        Ok(found) => Ok((found, None)),
        Err(error) => {
            let with_scheme = Observable::recognise(text).ok().filter(|found| found.kind() == ObservableType::Url);
            // A host alone is no page; whoever wrote it as a URL means the site.
            let site = || Observable::from_text(ObservableType::Url, &format!("http://{}", text.trim()));
            let file = matches!(error, ObservableError::FileName { .. }) || is_file(text.trim());
            let plain = !file && !text.contains("://") && !text.contains(char::is_whitespace) && text.contains('.');
            match with_scheme.or_else(|| plain.then(|| site().ok()).flatten()) {
                Some(found) => Ok((found, Some(WITH_SCHEME))),
                None => Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::Pattern;

    fn check(pattern: &str, expected: &str) {
        let pattern_read = Pattern::parse(pattern).unwrap();
        let found = pattern_read.alternatives().map_err(TermError::from).and_then(|alternatives| {
            let found = alternatives.iter().map(terms).collect::<Result<Vec<_>, _>>()?;
            let shown = |(value, change): &Term| {
                let name = value.other().unwrap_or_else(|| value.kind().name());
                format!("{name} {value}{}", if change.is_some() { " (changed)" } else { "" })
            };
            Ok(found.iter().flatten().map(shown).collect::<Vec<_>>().join(", "))
        });
        assert_eq!(found.unwrap_or_else(|error| error.to_string()), expected, "{pattern}");
    }

    #[test]
    fn patterns_of_one_thing_are_its_value() {
        check("[domain-name:value = 'Evil.example.']", "domain evil.example");
        check("[domain-name:value = '192.0.2.7']", "ipv4 192.0.2.7 (changed)");
        check("[ipv4-addr:value = '192.0.2.7/32' OR ipv4-addr:value = '198.51.100.0/24']", "ipv4 192.0.2.7, cidr 198.51.100.0/24");
        check("[ipv4-addr:value ISSUBSET '198.51.100.0/24']", "cidr 198.51.100.0/24");
        check("[url:value = 'evil.example/a']", "url http://evil.example/a (changed)");
        check("[url:value = 'evil.example']", "url http://evil.example/ (changed)");
        check(
            "[file:hashes.sha256 = 'E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855']",
            "sha256 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        );
        check(
            "[file:hashes.'MD5' = 'd41d8cd98f00b204e9800998ecf8427e' AND file:name = 'a.exe']",
            "md5 d41d8cd98f00b204e9800998ecf8427e (changed)",
        );
        check("[file:hashes.SSDEEP = '3:abc:d']", "ssdeep 3:abc:d");
        check("[file:path = '/tmp/x']", "filename /tmp/x");
        check("[app:id = 'com.spy']", "mobile-application-id com.spy");
        check("[process:name = 'evil']", "process.name evil");
        check("[autonomous-system:number = 64496 AND autonomous-system:name = 'x']", "asn AS64496 (changed)");
        check("[email-message:from_ref.value = 'A@evil.example']", "email a@evil.example");
        check(
            "[network-traffic:dst_ref.type = 'ipv4-addr' AND network-traffic:dst_ref.value = '192.0.2.7' AND network-traffic:dst_port = 443]",
            "endpoint 192.0.2.7:443",
        );
        check("[network-traffic:src_ref.value = '2001:db8::7' AND network-traffic:src_port = 1]", "endpoint [2001:db8::7]:1");
    }

    #[test]
    fn what_is_no_value_says_why() {
        check(
            "[domain-name:value = 'tin.exe']",
            "`tin.exe` looks like a file name, not a domain; give --type other:filename to keep it as one",
        );
        check("[domain-name:value LIKE '%.example']", "it compares by order, substring or regular expression");
        check("[domain-name:value != 'a.example']", "it excludes (NOT, !=)");
        check("[file:size = 7 AND file:name = 'x']", "it asks for several things at once (AND)");
        check("[domain-name:value = 'a.example' AND ipv4-addr:value = '192.0.2.7']", "it asks for several things at once (AND)");
        check("[file:is_encrypted = true]", "it asks for something that no indicator type holds");
        check("[file:extensions.'windows-pebinary-ext'.sections[*].name = 'x']", "it asks for something that no indicator type holds");
    }
}
