//! Lists: one value a line, in the grammars that lists on the internet have.
//!
//! ```text
//! line -undecorated-> text -grammar-> values | a head or note of the grammar itself | why it is none
//! ```
//!
//! Hosts files (`0.0.0.0 a b # why`), filter lists (`||name^`), Spamhaus (`net ; SBL1`), dnsmasq (`address=/name/0.0.0.0`), Unbound
//! (`local-zone: "name" always_nxdomain`), RPZ (`name CNAME .`), DShield (`first last prefix`), PeerGuardian (`name:first-last`), sha256sum
//! (`hash  file`), `*.name` and `.name`. A line that may be a row of a table, or a sentence, is refused and says so.

use super::typed::{self, Part};
use crate::record::{Observable, ObservableError, ObservableType, Scope, TypeName, excerpt};
use std::{collections::HashSet, net::IpAddr};

/// Names of exceptions that are kept of one filter list; the longest published has some 20,000.
const EXCEPTIONS_MAX: usize = 1_000_000;

/// Names at the head of every hosts file.
const HOSTS_HEAD: [&str; 16] = [
    "localhost",
    "localhost.localdomain",
    "localhost4",
    "localhost4.localdomain4",
    "localhost6",
    "localhost6.localdomain6",
    "local",
    "broadcasthost",
    "ip6-localhost",
    "ip6-loopback",
    "ip6-localnet",
    "ip6-mcastprefix",
    "ip6-allnodes",
    "ip6-allrouters",
    "ip6-allhosts",
    "0.0.0.0",
];
/// Where hosts files send what they block.
const SINKS: [&str; 5] = ["0.0.0.0", "127.0.0.1", "127.0.1.1", "::", "::1"];
/// Modifiers of a filter rule that leave it blocking the whole name.
const WHOLE_MODIFIERS: [&str; 5] = ["all", "document", "doc", "important", "popup"];
/// Signs that Word, PDF and mail put around a value.
const DECORATION: &[char] = &[
    '"', '\'', '`', ',', '“', '”', '„', '‟', '‘', '’', '‚', '‛', '«', '»', '‹', '›', '…', '•', '‣', '◦', '–', '—', '‒', '·', '\u{a0}',
    '\u{2028}', '\u{2029}',
];

/// Names that a filter list excepts somewhere in the same file.
#[derive(Clone, Debug, Default)]
pub(super) struct Exceptions {
    names: HashSet<String>,
}

impl Exceptions {
    /// Notes the exception of a line: `@@||name^`, and the rule that `$badfilter` disables.
    pub fn note(&mut self, line: &str) {
        let line = line.trim();
        let rule = match line.strip_prefix("@@") {
            Some(rule) => rule,
            None if line.split_once('$').is_some_and(|(_, modifiers)| modifiers.split(',').any(|one| one == "badfilter")) => line,
            None => return,
        };
        let name = rule.trim_start_matches('|').split(['^', '$', '/']).next().unwrap_or_default();
        if let Ok(value) = Observable::from_text(ObservableType::Domain, name)
            && self.names.len() < EXCEPTIONS_MAX
        {
            self.names.insert(value.to_string());
        }
    }

    fn has(&self, name: &str) -> bool {
        !self.names.is_empty() && self.names.contains(name)
    }

    /// Returns true if a name below this one is excepted.
    fn below(&self, name: &str) -> bool {
        self.names.iter().any(|one| one.strip_suffix(name).is_some_and(|rest| rest.ends_with('.')))
    }
}

/// Returns true for a line without a value: a comment, or the head of a grammar.
pub(super) fn is_comment(text: &str) -> bool {
    text.starts_with(['#', ';', '!']) || text.starts_with("//") && !text.contains('.') || text.starts_with("// ") || is_head(text)
}

fn is_head(text: &str) -> bool {
    let adblock = text.starts_with('[') && text.ends_with(']') && text.to_ascii_lowercase().contains("adb") && text.contains(' ');
    let zone = text.starts_with("$TTL") || text.starts_with("$ORIGIN") || text.starts_with("@ ") || text.starts_with("@\t");
    adblock || zone || (text.starts_with("server:") && text.len() == 7)
}

/// The values of a line.
pub(super) fn values(text: &str, given: Option<&TypeName>, exceptions: &Exceptions) -> Result<Vec<Part>, ObservableError> {
    if let Some(rule) = filter_rule(text) {
        return filtered(rule, text, exceptions);
    }
    if let Some(found) = resolver(text) {
        return found.map(|part| vec![part]);
    }
    let text = undecorated(text);
    let alone = if is_row(text) { Err(words(text)) } else { read(text, given) };
    match alone {
        Ok(found) => Ok(found),
        Err(error) => several(text, given).unwrap_or(Err(error)),
    }
}

/// A value as people write it in a list: of the type `given`, or of any type.
pub(super) fn read(text: &str, given: Option<&TypeName>) -> Result<Vec<Part>, ObservableError> {
    if let Some(name) = text.strip_prefix("*.").or_else(|| text.strip_prefix('.').filter(|rest| !rest.starts_with('.'))) {
        let value = Observable::from_text(ObservableType::Domain, name)?;
        return Ok(vec![Part { scope: Some(Scope::Subdomains), ..Part::from(value) }]);
    }
    match given {
        Some(given) => read_as(given, text),
        None if text.contains('*') => Err(ObservableError::Unrecognised { text: excerpt(text) }),
        None => match typed::networks(text) {
            Some(found) => Ok(found?.into_iter().map(Part::from).collect()),
            None if is_address_with_more(text) => {
                let why = "after an address stands a prefix, a mask, or a path with a dot or a slash; this is none of them";
                Err(ObservableError::Malformed { kind: ObservableType::Cidr, text: excerpt(text), why })
            }
            None => Observable::recognise(text).map(|value| vec![Part::from(value)]),
        },
    }
}

/// A text as a value of the type of the whole list. An address may be a network, and a name `*.name`.
pub(super) fn read_as(given: &TypeName, text: &str) -> Result<Vec<Part>, ObservableError> {
    use ObservableType as T;
    let kind = match given {
        TypeName::Typed(T::Ipv4 | T::Ipv6 | T::Cidr) => "ip-dst",
        TypeName::Typed(T::Domain) => "domain",
        TypeName::Typed(T::Url) => "url",
        TypeName::Typed(T::Endpoint) => "ip-dst|port",
        TypeName::Typed(T::Email) => "email",
        TypeName::Typed(T::Md5) => "md5",
        TypeName::Typed(T::Sha1) => "sha1",
        TypeName::Typed(T::Sha256) => "sha256",
        TypeName::Typed(T::Sha512) => "sha512",
        given => return given.read(text).map(|value| vec![Part::from(value)]),
    };
    typed::parts(kind, text)
}

/// `192.0.2.79/tcp`, `192.0.2.77/443`, `192.0.2.0/24-28`, `192.0.2.0/24/path`, `example.invalid/24`: neither networks nor pages.
fn is_address_with_more(text: &str) -> bool {
    let Some((host, rest)) = text.split_once('/').filter(|(host, _)| !host.ends_with(':')) else { return false };
    let protocol = matches!(rest.to_ascii_lowercase().as_str(), "tcp" | "udp" | "icmp" | "sctp");
    let (digits, behind) = rest.split_at(rest.bytes().take_while(u8::is_ascii_digit).count());
    let Ok(prefix) = digits.parse::<u8>() else { return protocol };
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    // `192.0.2.1/24/x` is a page, and `192.0.2.0/24/x` a mistake.
    let network = || host.parse().is_ok_and(|address| ipnet::IpNet::new(address, prefix).is_ok_and(|net| net.network() == address));
    behind.is_empty() || behind.strip_prefix('-').is_some_and(is_number) || (prefix >= 8 && network())
}

/// A line of several words, in the grammars that have them.
fn several(text: &str, given: Option<&TypeName>) -> Option<Result<Vec<Part>, ObservableError>> {
    // `192.0.2.0/28 ; SBL1`, `AS64500 ; ZZ | NAME`.
    if let Some((value, _)) = text.split_once(" ;") {
        return Some(read(value.trim(), given));
    }
    // PeerGuardian: `Some Org:192.0.2.12-192.0.2.15`.
    if let Some((_, range)) = text.rsplit_once(':')
        && range.contains('-')
        && let Some(found) = typed::networks(range)
    {
        return Some(found.map(|nets| nets.into_iter().map(Part::from).collect()));
    }
    let list: Vec<&str> = text.split_whitespace().collect();
    let [first, rest @ ..] = list.as_slice() else { return None };
    if rest.is_empty() {
        return None;
    }
    if SINKS.contains(first) || rest.iter().all(|name| HOSTS_HEAD.contains(name)) {
        let names = rest.iter().filter(|name| !HOSTS_HEAD.contains(name));
        return Some(names.map(|name| named(name)).collect::<Result<Vec<_>, _>>());
    }
    let number = |word: &str| word.bytes().all(|byte| byte.is_ascii_digit());
    match (first.parse::<IpAddr>(), rest) {
        // DShield: first, last, prefix and counts.
        (Ok(_), [last, prefix, ..]) if last.parse::<IpAddr>().is_ok() && number(prefix) => {
            return Some(read(&format!("{first}/{prefix}"), given));
        }
        // `address<TAB>count`, unless the number may be a prefix.
        (Ok(address), [count]) if number(count) => {
            let prefix = count.parse::<u8>().ok().filter(|prefix| (8..=128).contains(prefix));
            let net = prefix.and_then(|prefix| ipnet::IpNet::new(address, prefix).ok()).filter(|net| net.network() == address);
            let why = "the number behind it is a prefix or a count; write a network with a `/`";
            return Some(match net {
                Some(_) => Err(ObservableError::Malformed { kind: ObservableType::Cidr, text: excerpt(text), why }),
                None => read(first, given),
            });
        }
        _ => (),
    }
    // sha256sum: `hash  file`, `hash *file`.
    let hash = first.len() >= 32 && first.bytes().all(|byte| byte.is_ascii_hexdigit());
    if hash {
        return Some(read(first, given));
    }
    match rest {
        [count] if number(count) => Some(read(first, given)),
        // Values out of a sentence would publish the links to a report as its indicators.
        _ => Some(Err(words(text))),
    }
}

fn named(name: &str) -> Result<Part, ObservableError> {
    Observable::from_text(ObservableType::Domain, name).map(Part::from)
}

fn words(text: &str) -> ObservableError {
    ObservableError::Words { text: excerpt(text) }
}

/// A URL or value with further cells behind it, such as `http://x.example/a.exe,online,2026-01-01`.
fn is_row(text: &str) -> bool {
    let cell = |cell: &str| {
        let cell = cell.trim();
        let date = cell.len() >= 10 && cell.bytes().take(10).all(|byte| byte.is_ascii_digit() || byte == b'-');
        date || (!cell.is_empty() && cell.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b' '))
    };
    [',', ';', '|', '\t'].into_iter().any(|sign| text.split_once(sign).is_some_and(|(_, rest)| rest.split(sign).all(cell)))
}

/// A line without what marks, quotes or explains its value.
fn undecorated(text: &str) -> &str {
    // A comment behind the value; a `#` without a space before it belongs to a URL.
    let text = text.find(" #").or_else(|| text.find("\t#")).and_then(|at| text.get(..at)).unwrap_or(text);
    let text = text.trim().trim_start_matches("- ").trim_start_matches("* ").trim();
    let text = text.trim_matches(DECORATION).trim_matches(['<', '>']).trim();
    // A bracket that nothing opened, and signs that end a rule of a firewall.
    let text = if text.contains('(') { text } else { text.trim_end_matches(')') };
    let text = text.trim_end_matches([';', '|', '"']);
    // AsciiDoc's `++` passthrough around URLs.
    text.trim_start_matches("++").trim_end_matches("++").trim()
}

/// A rule of a filter list; `None` for other lines.
fn filter_rule(text: &str) -> Option<&str> {
    let cosmetic = ["##", "#@#", "#?#", "#$#", "#%#"].iter().any(|sign| text.contains(sign)) && !text.contains("://");
    let pattern = text.len() > 2 && text.starts_with('/') && text.ends_with('/');
    match text.strip_prefix("||") {
        Some(rule) => Some(rule),
        None if text.starts_with("@@") || text.starts_with('|') || cosmetic || pattern => Some(""),
        None => None,
    }
}

/// The name that a rule `||name^` blocks with everything below it. Rules that block a part of it are refused.
fn filtered(rule: &str, text: &str, exceptions: &Exceptions) -> Result<Vec<Part>, ObservableError> {
    let partial = || ObservableError::Partial { text: excerpt(text) };
    // The survey of the file has read it.
    if text.starts_with("@@") {
        return Ok(Vec::new());
    }
    let (name, modifiers) = rule.split_once('$').unwrap_or((rule, ""));
    let name = name.strip_suffix("^|").or_else(|| name.strip_suffix('^')).or_else(|| name.strip_suffix('|')).unwrap_or(name);
    if modifiers.split(',').any(|one| one == "badfilter") {
        return Ok(Vec::new());
    }
    let whole = modifiers.is_empty() || modifiers.split(',').all(|one| WHOLE_MODIFIERS.contains(&one));
    if rule.is_empty() || !whole || name.contains(['/', '*', '#']) {
        return Err(partial());
    }
    let value = Observable::recognise(name)?;
    if value.kind() != ObservableType::Domain {
        return Ok(vec![Part::from(value)]);
    }
    let name = value.to_string();
    if exceptions.has(&name) {
        return Ok(Vec::new());
    }
    let scope = (!exceptions.below(&name)).then_some(Scope::Subdomains);
    Ok(vec![Part { scope, ..Part::from(value) }])
}

/// A line for a resolver: dnsmasq, Unbound, a response policy zone.
fn resolver(text: &str) -> Option<Result<Part, ObservableError>> {
    let below = |name: &str| named(name).map(|part| Part { scope: Some(Scope::Subdomains), ..part });
    for option in ["address=/", "server=/", "local=/"] {
        if let Some(rest) = text.strip_prefix(option) {
            return Some(rest.split_once('/').map_or_else(|| Err(words(text)), |(name, _)| below(name.trim_start_matches('.'))));
        }
    }
    if let Some(rest) = text.strip_prefix("local-zone:") {
        let mut parts = rest.split_whitespace();
        let (name, kind) = (parts.next()?.trim_matches('"'), parts.next().unwrap_or_default().trim_matches('"'));
        // The other kinds let a query pass.
        let blocks = kind.starts_with("always_") || matches!(kind, "static" | "refuse" | "deny" | "redirect" | "inform_deny");
        return Some(if blocks { below(name) } else { Err(ObservableError::Partial { text: excerpt(text) }) });
    }
    let parts: Vec<&str> = text.split_whitespace().collect();
    if let [name, .., kind, target] = parts.as_slice()
        && kind.eq_ignore_ascii_case("CNAME")
    {
        return Some(match (*target, name.strip_prefix("*.")) {
            ("." | "*." | "rpz-drop.", Some(name)) => below(name),
            ("." | "*." | "rpz-drop.", None) => named(name),
            _ => Err(ObservableError::Partial { text: excerpt(text) }),
        });
    }
    None
}

/// A value that a cell or a word of prose is beyond doubt: a bare name only if its ending exists.
pub(super) fn certain(text: &str, given: Option<&TypeName>) -> Option<Vec<Part>> {
    let found = read(undecorated(text), given).ok()?;
    let sure = |part: &Part| {
        if given.is_some() || !matches!(part.value.kind(), ObservableType::Domain | ObservableType::Endpoint) {
            return true;
        }
        let host = part.value.host().unwrap_or_default();
        let address = part.value.kind() == ObservableType::Endpoint && host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        let listed = psl::suffix(host.as_bytes()).is_some_and(|suffix| suffix.is_known());
        address || listed || host.ends_with(".onion") || host.ends_with(".example")
    };
    found.iter().all(sure).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: &str) {
        let shown = |part: &Part| format!("{}{}", if part.scope.is_some() { "*." } else { "" }, part.value);
        let found = match values(line, None, &Exceptions::default()) {
            Ok(parts) => parts.iter().map(shown).collect::<Vec<_>>().join(" "),
            Err(_) => "refused".to_owned(),
        };
        assert_eq!(found, expected, "{line}");
    }

    #[test]
    fn each_grammar_of_lists_gives_its_values() {
        for (line, expected) in [
            ("0.0.0.0 a.hosts.example b.hosts.example c.hosts.example", "a.hosts.example b.hosts.example c.hosts.example"),
            ("127.0.0.1\td.hosts.example\te.hosts.example # two", "d.hosts.example e.hosts.example"),
            ("127.0.0.1 localhost.localdomain", ""),
            ("fe80::1%lo0 localhost", ""),
            ("0.0.0.0 0.0.0.0", ""),
            ("198.51.100.1 j.hosts.example", "refused"),
            ("192.0.2.0/28 ; SBL000001", "192.0.2.0/28"),
            ("AS64500 ; ZZ | BAD-HOSTER Example", "AS64500"),
            ("192.0.2.0\t192.0.2.255\t24\t100\tX", "192.0.2.0/24"),
            ("198.51.100.0\t24", "refused"),
            ("192.0.2.1\t9", "192.0.2.1"),
            ("Some Org, LLC:192.0.2.12-192.0.2.15", "192.0.2.12/30"),
            ("00000000000000000000000000000153  5dro.exe", "00000000000000000000000000000153"),
            ("00000000000000000000000000000154 *AndroSpread.exe", "00000000000000000000000000000154"),
            (".lead.example", "*.lead.example"),
            ("*.star.example", "*.star.example"),
            (".*.mix.example", "refused"),
            ("address=/dnsm1.example/0.0.0.0", "*.dnsm1.example"),
            ("server=/dnsm2.example/", "*.dnsm2.example"),
            ("local-zone: \"unb.example\" always_nxdomain", "*.unb.example"),
            ("local-zone: \"unb.example\" transparent", "refused"),
            ("rpz.example CNAME .", "rpz.example"),
            ("*.rpz.example CNAME .", "*.rpz.example"),
            ("rpz.example CNAME rpz-passthru.", "refused"),
            ("see the page at evil.example", "refused"),
        ] {
            check(line, expected);
        }
    }

    #[test]
    fn a_network_is_a_network_or_is_refused_and_never_a_page() {
        for (line, expected) in [
            ("192.0.2.0/255.255.255.128", "192.0.2.0/25"),
            ("203.0.113.0/24;", "203.0.113.0/24"),
            ("203.0.113.64/26|", "203.0.113.64/26"),
            ("198.51.100.0-198.51.100.255", "198.51.100.0/24"),
            ("2001:db8::/ffff:ffff::", "2001:db8::/32"),
            ("192.0.2.81/32", "192.0.2.81"),
            ("198.51.100.", "refused"),
            ("198.51.100.*", "refused"),
            ("192.0.2.77/443", "refused"),
            ("192.0.2.78/8443", "refused"),
            ("192.0.2.79/tcp", "refused"),
            ("192.0.2.0/24-28", "refused"),
            ("192.0.2.0/24/path", "refused"),
            ("192.0.2.5/24", "refused"),
            ("192.0.2.80:443/tcp", "refused"),
            ("example.invalid/24", "refused"),
            ("192.0.2.51/0", "refused"),
            ("192.0.2.61/x", "http://192.0.2.61/x"),
            ("192.0.2.30/1/x_linux", "http://192.0.2.30/1/x_linux"),
        ] {
            check(line, expected);
        }
    }

    #[test]
    fn what_word_and_pdf_put_around_a_value_is_no_part_of_it() {
        for (line, expected) in [
            ("“cloud.quote.example”", "cloud.quote.example"),
            ("„deutsch.quote.example“", "deutsch.quote.example"),
            ("«guillemet.quote.example»", "guillemet.quote.example"),
            ("dots.quote.example…", "dots.quote.example"),
            ("•bullet.quote.example", "bullet.quote.example"),
            ("–dash.quote.example", "dash.quote.example"),
            ("nbsp.quote.example\u{a0}", "nbsp.quote.example"),
            ("http://“inurl.quote.example”/x", "refused"),
            ("user@“mail.quote.example”", "refused"),
            ("http://csvurl5.example/x\"", "http://csvurl5.example/x"),
            ("http://csvurl7.example/x)", "http://csvurl7.example/x"),
            ("http://csvurl2.example/x.exe,online,2026-01-01", "refused"),
            ("http://csvurl3.example/x|trojan|2026-01-01", "refused"),
            ("http://csvurl8.example/a,b.html", "http://csvurl8.example/a,b.html"),
            ("192.0.2.47,tor", "refused"),
            ("www.csvurl.example/abc,False,False", "refused"),
        ] {
            check(line, expected);
        }
    }

    #[test]
    fn of_a_filter_list_the_rules_for_whole_names_count() {
        let mut exceptions = Exceptions::default();
        let rules = ["@@||excepted.example^", "||disabled.example^$badfilter", "@@||good.above.example^"];
        rules.iter().for_each(|rule| exceptions.note(rule));
        let read = |line: &str| match values(line, None, &exceptions) {
            Ok(parts) => parts.iter().map(|part| format!("{}{}", if part.scope.is_some() { "*." } else { "" }, part.value)).collect(),
            Err(error) => vec![error.to_string().split(" is ").nth(1).unwrap_or_default().chars().take(6).collect()],
        };
        for (line, expected) in [
            ("||blocked.example^", &["*.blocked.example"][..]),
            ("||blocked.example^$all", &["*.blocked.example"]),
            ("||excepted.example^", &[]),
            ("||disabled.example^", &[]),
            ("||disabled.example^$badfilter", &[]),
            ("@@||excepted.example^", &[]),
            ("||above.example^", &["above.example"]),
            ("||third.example^$third-party", &["a rule"]),
            ("||path.example/ads/*$script", &["a rule"]),
            ("|https://start.example/x|", &["a rule"]),
            ("||wild*.example^", &["a rule"]),
            ("||cosmetic.example##.banner", &["a rule"]),
            ("cosmetic.example##.banner", &["a rule"]),
            ("/regex\\.example/", &["a rule"]),
        ] {
            assert_eq!(read(line), expected, "{line}");
        }
    }
}
