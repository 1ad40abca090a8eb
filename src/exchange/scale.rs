//! Confidence as others write it: numbers, shares, words of a scale.
//!
//! Sources: MISP's taxonomies `misp:confidence-level` and `estimative-language`; STIX 2.1 appendix A; the Admiralty code, of which the
//! credibility counts (1 to 5) and the reliability (A to E) is a ceiling, as MISP's taxonomy numbers it.

/// The confidence that a text states, 0 to 100; `None` if it states that there is none.
pub(super) fn confidence(text: &str) -> Result<Option<u8>, ()> {
    let plain = text.trim().to_ascii_lowercase();
    let plain = plain.replace(['_', '-'], " ");
    let plain = plain.trim();
    if let Some(known) = word(plain) {
        return known;
    }
    if let Some(code) = admiralty(plain) {
        return code;
    }
    let plain = text.trim();
    if let Some(number) = plain.strip_suffix('%') {
        return whole(number.trim());
    }
    if let Some((part, of)) = plain.split_once('/') {
        let (part, of): (f64, f64) = (part.trim().parse().map_err(drop)?, of.trim().parse().map_err(drop)?);
        return share(part / of);
    }
    if plain.contains('.') {
        let number: f64 = plain.parse().map_err(drop)?;
        // `0.3` is a share, `30.0` a number.
        return if number <= 1.0 { share(number) } else { whole(plain) };
    }
    whole(plain)
}

fn whole(text: &str) -> Result<Option<u8>, ()> {
    let number: f64 = text.parse().map_err(drop)?;
    share(number / 100.0)
}

fn share(share: f64) -> Result<Option<u8>, ()> {
    if (0.0..=1.0).contains(&share) { Ok(Some((share * 100.0).round() as u8)) } else { Err(()) }
}

fn word(text: &str) -> Option<Result<Option<u8>, ()>> {
    let number = match text {
        "" | "none said" | "unknown" | "n/a" | "null" | "cannot be judged" | "confidence cannot be evaluated" | "not specified" => {
            return Some(Ok(None));
        }
        // STIX 2.1 appendix A.
        "none" => 0,
        "low" => 15,
        "rarely confident" => 25,
        "medium" | "med" | "moderate" => 50,
        "high" => 85,
        "completely confident" | "certain" | "confirmed" => 100,
        "usually confident" => 75,
        "fairly confident" => 50,
        "unconfident" => 0,
        // Words of estimative probability.
        "almost no chance" | "remote" => 0,
        "very unlikely" | "highly improbable" => 5,
        "unlikely" | "improbable" => 20,
        "roughly even chance" | "roughly even odds" => 45,
        "likely" | "probable" => 55,
        "very likely" | "highly probable" => 80,
        "almost certain" | "nearly certain" => 95,
        _ => return None,
    };
    Some(Ok(Some(number)))
}

/// `B2`: a credibility of 2, at most what a source of reliability B is good for.
fn admiralty(text: &str) -> Option<Result<Option<u8>, ()>> {
    let [reliability, credibility] = <[u8; 2]>::try_from(text.as_bytes()).ok()?;
    let ceiling = match reliability {
        b'a' => 100,
        b'b' => 75,
        b'c' => 50,
        b'd' => 25,
        b'e' => 0,
        b'f' => 100,
        _ => return None,
    };
    let value = match credibility {
        b'1' => 100,
        b'2' => 75,
        b'3' => 50,
        b'4' => 25,
        b'5' => 0,
        b'6' => return Some(Ok(None)),
        _ => return None,
    };
    Some(Ok(Some(ceiling.min(value))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confidence_is_read_in_words_shares_and_codes_or_refused() {
        for (text, expected) in [
            ("30", Ok(Some(30))),
            ("30%", Ok(Some(30))),
            ("0.3", Ok(Some(30))),
            ("3/10", Ok(Some(30))),
            ("low", Ok(Some(15))),
            ("High", Ok(Some(85))),
            ("fairly-confident", Ok(Some(50))),
            ("very_likely", Ok(Some(80))),
            ("B2", Ok(Some(75))),
            ("c1", Ok(Some(50))),
            ("A6", Ok(None)),
            ("cannot be judged", Ok(None)),
            ("150", Err(())),
            ("-1", Err(())),
            ("11/10", Err(())),
            ("often", Err(())),
            ("nan", Err(())),
        ] {
            assert_eq!(confidence(text), expected, "{text}");
        }
    }
}
