//! The standards' own vectors, and the libraries that we rely on for them.

use crate::support::{corpus, json, read};
use huecry::{
    cbor,
    envelope::{Hash, PublicKey, merkle},
    record::{Observable, ObservableType},
};

fn bytes(value: &serde_json::Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn verifies(key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let (Ok(key), Ok(signature)) = (<[u8; 32]>::try_from(key), <[u8; 64]>::try_from(signature)) else { return false };
    PublicKey::from_bytes(&key).is_ok_and(|key| key.verify(message, &signature))
}

#[test]
fn rfc_8949_items_pass_exactly_when_they_are_in_our_profile() {
    let Some(corpus) = corpus() else { return };
    let text = String::from_utf8(read(&corpus.join("vectors/cbor/rfc8949-appendix-a.jsonl"))).unwrap();
    let mut passed = 0;
    for line in text.lines() {
        let case: serde_json::Value = serde_json::from_str(line).unwrap();
        let item = bytes(&case["hex"]);
        let (major, info) = (item[0] >> 5, item[0] & 31);
        // Outside the profile: tags, floats, null and other simple values, indefinite lengths - anywhere inside.
        let hex = case["hex"].as_str().unwrap();
        let outside = major == 6
            || (major == 7 && !matches!(info, 20 | 21))
            || info == 31
            || (major >= 4 && (hex.contains("bf") || hex.contains("9f")));
        let ok = cbor::check(&item).is_ok();
        assert_eq!(ok, !outside, "{hex}");
        passed += usize::from(ok);
    }
    assert!(passed > 30, "{passed}");
}

#[test]
fn s_03_wycheproof_and_speccheck_signatures_get_the_strict_answer() {
    let Some(corpus) = corpus() else { return };
    let wycheproof = json(&corpus.join("vectors/wycheproof/ed25519_test.json"));
    let mut valid = 0;
    for group in wycheproof["testGroups"].as_array().unwrap() {
        let key = bytes(&group["publicKey"]["pk"]);
        for case in group["tests"].as_array().unwrap() {
            let good = verifies(&key, &bytes(&case["msg"]), &bytes(&case["sig"]));
            assert_eq!(good, case["result"] == "valid", "case {}", case["tcId"]);
            valid += usize::from(good);
        }
    }
    assert!(valid > 50);
    // ed25519-speccheck's table, row "Dalek strict": of its twelve edge cases only number 3 verifies.
    let speccheck = json(&corpus.join("vectors/ed25519-speccheck/cases.json"));
    for (number, case) in speccheck.as_array().unwrap().iter().enumerate() {
        let good = verifies(&bytes(&case["pub_key"]), &bytes(&case["message"]), &bytes(&case["signature"]));
        assert_eq!(good, number == 3, "speccheck {number}");
    }
}

#[test]
fn cose_wg_eddsa_examples_sign_what_coset_says_is_signed() {
    use coset::{CborSerializable, CoseSign1, TaggedCborSerializable};
    let Some(corpus) = corpus() else { return };
    let case = json(&corpus.join("vectors/cose/eddsa-examples/eddsa-sig-01.json"));
    let message = bytes(&case["output"]["cbor"]);
    let sign1 = CoseSign1::from_tagged_slice(&message).unwrap();
    let key = bytes(&case["input"]["sign0"]["key"]["x_hex"]);
    let signed = sign1.tbs_data(&[]);
    assert_eq!(hex::encode_upper(&signed), case["intermediates"]["ToBeSign_hex"]);
    assert!(verifies(&key, &signed, &sign1.signature));
    assert!(!verifies(&key, &sign1.tbs_data(b"x"), &sign1.signature));
    assert!(CoseSign1::from_slice(&message[1..]).is_ok());
}

#[test]
fn rfc_6962_roots_are_ours() {
    use sha2::Digest as _;
    let Some(corpus) = corpus() else { return };
    let case = json(&corpus.join("vectors/merkle/rfc6962-roots.json"));
    let leaf = |input: &serde_json::Value| Hash(sha2::Sha256::new().chain_update([0]).chain_update(bytes(input)).finalize().into());
    let leaves: Vec<Hash> = case["leaf_inputs"].as_array().unwrap().iter().map(leaf).collect();
    for (count, root) in case["roots"].as_array().unwrap().iter().enumerate() {
        assert_eq!(merkle::root(&leaves[..count]).to_string(), root.as_str().unwrap(), "{count} leaves");
    }
}

#[test]
fn whatwg_urls_have_one_spelling_here() {
    let Some(corpus) = corpus() else { return };
    let mut read_as_urls = 0;
    for case in json(&corpus.join("vectors/url/urltestdata.json")).as_array().unwrap() {
        // The url crate drops empty path segments of file URLs, which the standard keeps; such a value is stable all the same.
        let Some(href) = case["href"].as_str().filter(|href| !href.starts_with("file:")) else { continue };
        let Ok(value) = Observable::from_text(ObservableType::Url, href) else { continue };
        // What the standard serialises is our spelling or is refused, but for hosts: one of a scheme that is not the web's is read as a name or
        // address too, and a last dot and IPv4 inside IPv6 are another spelling.
        let (ours, theirs) = (url::Url::parse(&value.to_string()).unwrap(), url::Url::parse(href).unwrap());
        if ours != theirs {
            let host = theirs.host_str().unwrap();
            let web = ["http", "https", "ftp", "ws", "wss"].contains(&theirs.scheme());
            assert!(!web || host.ends_with('.') || host.starts_with("[::ffff:") || host.starts_with("[64:ff9b:"), "{href}: {ours}");
            let mut moved = theirs.clone();
            moved.set_host(ours.host_str()).unwrap();
            assert_eq!(moved, ours, "{href}");
        }
        assert_eq!(Observable::from_wire(ObservableType::Url, value.wire().clone(), None).unwrap(), value);
        read_as_urls += 1;
    }
    assert!(read_as_urls > 200, "{read_as_urls}");
}

#[test]
fn d_05_idna_names_become_what_uts_46_says_or_nothing() {
    let Some(corpus) = corpus() else { return };
    let text = String::from_utf8(read(&corpus.join("vectors/idna/IdnaTestV2-Unicode16.txt.gz"))).unwrap();
    let mut named = 0;
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        let columns: Vec<&str> = line.split('#').next().unwrap().split(';').map(str::trim).collect();
        let source = columns[0];
        if source.contains("\\u") || source.contains("\\x") || source.starts_with('"') {
            continue;
        }
        let Ok(value) = Observable::from_text(ObservableType::Domain, source) else { continue };
        let unicode = if columns[1].is_empty() { source } else { columns[1] };
        let ascii = if columns[3].is_empty() { unicode } else { columns[3] };
        let expected = ascii.strip_suffix('.').unwrap_or(ascii).to_ascii_lowercase();
        assert_eq!(value.to_string(), expected, "{line}");
        named += 1;
    }
    assert!(named > 100, "{named}");
}

#[test]
fn the_public_suffix_list_answers_its_own_test_cases() {
    let Some(corpus) = corpus() else { return };
    let text = String::from_utf8(read(&corpus.join("vectors/psl/test_psl.txt"))).unwrap();
    let mut right = 0;
    for line in text.lines().filter(|line| line.starts_with("checkPublicSuffix('")) {
        let quoted: Vec<&str> = line.split('\'').collect();
        let (name, expected) = (quoted[1].to_lowercase(), quoted.get(3).map(|text| text.to_lowercase()));
        // The list speaks of names, not of leading dots; and the crate's copy is in A-labels or as published, not both.
        if name.starts_with('.') || !name.is_ascii() {
            continue;
        }
        assert_eq!(psl::domain_str(&name).map(str::to_owned), expected, "{name}");
        right += 1;
    }
    assert!(right > 40, "{right}");
}
