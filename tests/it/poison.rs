//! Poison (threats 4.7): values that would hurt if they were enforced, in every spelling that somebody may try.

use crate::support::{code, corpus, founded, huecry, json_of, read, start, stderr, stdout, until};
use huecry::{
    config::{Config, ListConfig},
    enforce::shape,
    node::rules,
    policy::{ListRole, Lists},
    record::{Observable, ObservableType},
};
use std::{collections::BTreeSet, io::Write as _, path::Path};

/// All published lists of the corpus, with their shipped roles.
fn lists(corpus: &Path) -> Lists {
    let place = tempfile::tempdir().unwrap();
    let mut config = Config::new(&"xx-agency".parse().unwrap());
    let directory = std::fs::canonicalize(corpus.join("warninglists")).unwrap();
    config.lists = vec![ListConfig { directory: Some(directory), ..ListConfig::default() }];
    let (lists, notes) = rules::read_lists(place.path(), &config);
    assert!(lists.missing().is_empty(), "{:?}", lists.missing());
    assert!(!notes.iter().any(|note| note.contains("not in the table of roles")), "{notes:?}");
    lists
}

/// What would have to be got past: refused as a value, protected by a list, or of a shape that is never enforced.
fn is_safe(lists: &Lists, text: &str) -> bool {
    match Observable::recognise(text) {
        Err(_) => true,
        Ok(value) => lists.of(&value).lists().any(|list| list.role.protects()) || shape(&value).is_err(),
    }
}

#[test]
fn every_published_list_of_the_corpus_is_read_with_its_defects() {
    let Some(corpus) = corpus() else { return };
    let lists = lists(&corpus);
    let entries: usize = lists.all().iter().map(|list| list.entries).sum();
    assert!(entries > 400_000, "{entries}");
    let on = |text: &str, list: &str| lists.of(&Observable::recognise(text).unwrap()).names().any(|name| name == list);
    assert!(on("1.0.0.19", "public-dns-v4"), "bare addresses in a cidr list");
    assert!(on("mail.google.de", "google"), "a leading dot in a string list");
    assert!(on("146.112.61.104", "umbrella-blockpage-v4"));
    assert!(on("mail.akana.mobiseclab.org", "automated-malware-analysis"), "a substring list");
    assert!(Observable::recognise("domain").is_err(), "the header that stands in the cloudflare lists");
    assert!(!on("evil.duckdns.org", "dynamic-dns"), "a name below a service is not the service");
}

#[test]
fn d_01_d_02_d_06_what_everybody_needs_is_flagged_and_never_enforced() {
    let Some(corpus) = corpus() else { return };
    let lists = lists(&corpus);
    let resolvers = ["8.8.8.8", "1.1.1.1", "9.9.9.9", "8.8.4.4", "2001:4860:4860::8888", "dns.google", "one.one.one.one"];
    let roots = ["198.41.0.4", "a.root-servers.net"];
    let hashes = ["d41d8cd98f00b204e9800998ecf8427e", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"];
    let popular = ["google.com", "www.microsoft.com", "update.microsoft.com", "wikipedia.org", "224.0.0.251", "10.0.0.0/8", "127.0.0.1"];
    let all = resolvers.iter().chain(&roots).chain(&hashes).chain(&popular);
    let missed: Vec<&str> = all.copied().filter(|text| !is_safe(&lists, text)).collect();
    assert!(missed.is_empty(), "{missed:?}");
    // Before any list is loaded, too.
    assert!(resolvers.iter().chain(&roots).all(|text| is_safe(&Lists::default(), text)));
    // Two halves of a network around a resolver cover it together: each shares an address with it, so neither is enforced.
    assert!(
        ["8.8.8.0/25", "8.8.8.128/25", "8.8.8.8/31", "8.8.8.0/24"].iter().filter(|text| !is_safe(&Lists::default(), text)).count() <= 1
    );
    assert!(is_safe(&Lists::default(), "8.8.8.0/25") && !is_safe(&Lists::default(), "8.8.8.128/25"), "what holds the resolver is out");
    for text in ["d41d8cd98f00b204e9800998ecf8427", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b85g"] {
        assert!(Observable::from_text(ObservableType::Sha256, text).is_err(), "{text}");
    }
}

#[test]
fn d_04_suffixes_and_our_own_domain_are_refused_or_protected() {
    let mut lists = Lists::default();
    lists.load("ours", ListRole::Own, "agency.gov.sg\n203.0.113.0/24\n").unwrap();
    lists.settle();
    for text in ["com", "co.uk", ".", "CO.UK", "co.uk.", "agency.gov.sg", "WWW.Agency.GOV.sg.", "mail[.]agency[.]gov[.]sg", "203.0.113.9"] {
        assert!(is_safe(&lists, text), "{text}");
    }
    assert!(!is_safe(&lists, "evil.org"));
}

/// Twelve spellings of a value. Not all are values: what is refused is safe too.
fn spellings(plain: &str) -> [String; 12] {
    if let Ok(address) = plain.parse::<std::net::Ipv4Addr>() {
        let [a, b, c, d] = address.octets();
        let number = u32::from(address);
        return [
            plain.to_owned(),
            plain.replace('.', "[.]"),
            format!("::ffff:{plain}"),
            format!("64:ff9b::{:x}:{:x}", number >> 16, number & 0xffff),
            format!("0x{number:08x}"),
            number.to_string(),
            format!("{a:03}.{b}.{c}.{d}"),
            format!("{plain}:443"),
            format!("hxxp://{plain}/"),
            format!("http://0x{number:08x}/index.html"),
            format!("{plain}/32"),
            format!("{a}.{b}.{c}.0/24"),
        ];
    }
    let upper = plain.to_ascii_uppercase();
    [
        plain.to_owned(),
        upper.clone(),
        format!("{plain}."),
        plain.replace('.', "[.]"),
        plain.replace('.', "(.)"),
        format!("hxxp://{plain}"),
        format!("https://{upper}:8443/login?x=1"),
        format!("http://user:pass@{plain}/"),
        format!("{plain}:53"),
        format!("postmaster@{plain}"),
        format!("  {plain}  "),
        format!("{plain}/path"),
    ]
}

/// Entries of every published list that clears, as plain values, evenly taken.
fn cleared(corpus: &Path, wanted: usize) -> Vec<String> {
    let table = huecry::policy::RoleTable::shipped();
    let mut all = BTreeSet::new();
    for entry in std::fs::read_dir(corpus.join("warninglists")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().replace(".gz", "").replace(".json", "");
        if table.of(&name).and_then(|one| one.role().unwrap()) != Some(ListRole::Clears) {
            continue;
        }
        let list: serde_json::Value = serde_json::from_slice(&read(&path)).unwrap();
        for entry in list["list"].as_array().unwrap() {
            let text = entry.as_str().unwrap().trim().trim_start_matches('.');
            let first = text.split('/').next().unwrap();
            all.insert(if first.parse::<std::net::IpAddr>().is_ok() { first.to_owned() } else { text.to_owned() });
        }
    }
    // Only what is a name or an IPv4 address has these spellings.
    let plain = |text: &String| {
        text.parse::<std::net::Ipv4Addr>().is_ok() || Observable::from_text(ObservableType::Domain, text).is_ok_and(|_| text.contains('.'))
    };
    let all: Vec<String> = all.into_iter().filter(plain).collect();
    let step = (all.len() / wanted).max(1);
    let taken: Vec<String> = all.into_iter().step_by(step).take(wanted).collect();
    assert_eq!(taken.len(), wanted);
    taken
}

#[test]
fn g_23_of_ten_thousand_safelisted_values_in_twelve_spellings_none_is_fit_to_be_enforced() {
    let Some(corpus) = corpus() else { return };
    let lists = lists(&corpus);
    let unsafe_ones: Vec<String> =
        cleared(&corpus, 10_000).iter().flat_map(|plain| spellings(plain)).filter(|text| !is_safe(&lists, text)).collect();
    assert!(unsafe_ones.is_empty(), "{}: {:?}", unsafe_ones.len(), &unsafe_ones[..unsafe_ones.len().min(10)]);
}

/// The same through everything: published by a trusted member as surely as can be, in twelve spellings, at an outlet that
/// takes every type, promoted. Several hundred here; `HUECRY_SAFELISTED=10000` for all.
#[test]
fn g_23_p_12_safelisted_values_that_are_published_do_not_reach_an_export() {
    let Some(corpus) = corpus() else { return };
    let count = std::env::var("HUECRY_SAFELISTED").ok().and_then(|text| text.parse().ok()).unwrap_or(300);
    let data = founded();
    let types = "\"domain\", \"ipv4\", \"ipv6\", \"cidr\", \"url\", \"endpoint\", \"email\"";
    let warninglists = std::fs::canonicalize(corpus.join("warninglists")).unwrap();
    let mut config = std::fs::OpenOptions::new().append(true).open(data.path().join("node.toml")).unwrap();
    writeln!(config, "[[lists]]\ndirectory = {warninglists:?}\n[[outlets]]\nname = \"all\"\ntypes = [{types}]").unwrap();
    drop(config);
    let _running = start(data.path());
    let run = |words: &[&str]| {
        let output = huecry(data.path(), words);
        assert_eq!(code(&output), 0, "{}{}", stdout(&output), stderr(&output));
        output
    };
    run(&["outlets", "promote", "all"]);
    run(&["outlets", "promote", "all", "--origin", "xx-agency"]);
    let list = data.path().join("list.txt");
    let lines: Vec<String> = cleared(&corpus, count).iter().flat_map(|plain| spellings(plain)).collect();
    std::fs::write(&list, lines.join("\n")).unwrap();
    let about = ["--title", "t", "--confidence", "100", "--use", "block", "--role", "attacker", "--format", "list", "--source", "own"];
    // Lines that are no value are named, and the command says so by its code.
    let published = huecry(data.path(), &[&["--json", "publish", list.to_str().unwrap()], &about[..]].concat());
    let records = json_of(&published)["records"].as_u64().unwrap_or_default();
    assert!(records > 5 * count as u64, "{records}: {}", stderr(&published));
    // P-12: what its author would only have as context, or what is of another type, does not get there either.
    run(&["publish", "--value", "context.example", "--title", "c", "--confidence", "100", "--use", "context"]);
    run(&["publish", "--value", "last.example", "--title", "z", "--confidence", "100", "--use", "block"]);
    let export = || std::fs::read_to_string(data.path().join("outlets/all.list")).unwrap_or_default();
    until("what came last to be enforced", || export().contains("last.example"));
    // Everything has been looked at when nothing changes any more.
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(export(), "last.example\n");
    let outlet = json_of(&run(&["--json", "outlets"]))[0]["origins"][0].clone();
    assert_eq!((&outlet["enforced"], &outlet["staged"]), (&1.into(), &0.into()), "{outlet}");
    let address = lines.iter().find(|line| line.parse::<std::net::Ipv4Addr>().is_ok()).unwrap();
    assert!(stdout(&run(&["explain", address.as_str()])).contains("never enforced: it is protected by"));
}
