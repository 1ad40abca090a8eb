//! A key in shares: any `needed` of them give it back, fewer tell nothing (Shamir, over GF(256)).
//!
//! A share is four lines of text that can be printed and typed in again; a checksum finds typing errors, and the public
//! half tells whether the key that came back is the one that was split.

use super::{KeyFileError, Purpose};
use crate::envelope::SecretKey;
use blahaj::{Share, Sharks};
use zeroize::Zeroizing;

/// Most shares of a key.
pub const SHARES_MAX: u8 = 16;

fn wrong(text: impl Into<String>) -> KeyFileError {
    KeyFileError::Shares(text.into())
}

/// Splits a key so that `needed` of `of` shares give it back. Answers their texts.
pub fn split(key: &SecretKey, purpose: Purpose, needed: u8, of: u8) -> Result<Vec<Zeroizing<String>>, KeyFileError> {
    if needed < 2 || needed > of || of > SHARES_MAX {
        return Err(wrong(format!("{needed}/{of} makes no sense: write 2/3 for three shares of which any two give the key back")));
    }
    let seed = key.seed();
    let public = hex::encode(key.public().to_bytes());
    let shares = Sharks(needed).dealer(seed.as_ref()).take(usize::from(of));
    let text = |(number, share): (usize, Share)| {
        let bytes = Zeroizing::new(Vec::from(&share));
        let text = Zeroizing::new(format!(
            "huecry share: {} of {of}, any {needed} give the key back\nkey: {purpose} {public}\nshare: {}\n",
            number + 1,
            Zeroizing::new(hex::encode(bytes.as_slice())).as_str()
        ));
        Zeroizing::new(format!("{}check: {:08x}\n", text.as_str(), crc32c::crc32c(text.as_bytes())))
    };
    Ok(shares.enumerate().map(text).collect())
}

/// Puts a key together from the texts of its shares.
pub fn join(texts: &[Zeroizing<String>]) -> Result<(Purpose, SecretKey), KeyFileError> {
    let mut shares = Vec::new();
    let mut whose: Option<(u8, String)> = None;
    for (number, text) in (1..).zip(texts) {
        let (needed, of_key, share) =
            parse(text).ok_or_else(|| wrong(format!("share file {number} is no share of huecry, or has a typing error")))?;
        if whose.get_or_insert_with(|| (needed, of_key.clone())).1 != of_key {
            return Err(wrong(format!("share file {number} is of another key than the first")));
        }
        shares.push(share);
    }
    let (needed, of_key) = whose.ok_or_else(|| wrong("no share was given"))?;
    let too_few = || wrong(format!("{} shares are not enough; {needed} different ones give this key back", shares.len()));
    let bytes = Zeroizing::new(Sharks(needed).recover(&shares).map_err(|_| too_few())?);
    let mut seed = Zeroizing::new([0; 32]);
    seed.copy_from_slice(bytes.get(..32).filter(|_| bytes.len() == 32).ok_or_else(too_few)?);
    let key = SecretKey::from_seed(&seed).ok_or_else(too_few)?;
    let (purpose, public) = of_key.split_once(' ').unwrap_or_default();
    if hex::encode(key.public().to_bytes()) != public {
        return Err(wrong("the shares give another key than they say they are of; one of them was changed"));
    }
    Ok((purpose.parse().map_err(|error: crate::record::UnknownName| wrong(error.to_string()))?, key))
}

fn parse(text: &str) -> Option<(u8, String, Share)> {
    let at = text.find("check:")?;
    let (signed, check) = text.split_at_checked(at)?;
    let check = u32::from_str_radix(check.strip_prefix("check:")?.trim(), 16).ok()?;
    if crc32c::crc32c(signed.as_bytes()) != check {
        return None;
    }
    let mut lines = signed.lines();
    let needed = lines.next()?.strip_prefix("huecry share: ")?.split_once("any ")?.1.split(' ').next()?.parse().ok()?;
    let key = lines.next()?.strip_prefix("key: ")?.to_owned();
    let bytes = Zeroizing::new(hex::decode(lines.next()?.strip_prefix("share: ")?).ok()?);
    Some((needed, key, Share::try_from(bytes.as_slice()).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SecretKey {
        SecretKey::from_seed(&[42; 32]).unwrap()
    }

    #[test]
    fn g_34_any_two_of_three_shares_give_the_key_back_and_one_does_not() {
        let shares = split(&key(), Purpose::Root, 2, 3).unwrap();
        for pair in [[0, 1], [0, 2], [2, 1]] {
            let (purpose, back) = join(&pair.map(|index| shares[index].clone())).unwrap();
            assert_eq!((purpose, back.public()), (Purpose::Root, key().public()));
        }
        for few in [&[0][..], &[1, 1]] {
            let texts: Vec<_> = few.iter().map(|index| shares[*index].clone()).collect();
            assert!(join(&texts).unwrap_err().to_string().contains("are not enough"));
        }
    }

    #[test]
    fn a_typing_error_or_a_share_of_another_key_is_noticed() {
        let shares = split(&key(), Purpose::Root, 2, 3).unwrap();
        let typed = Zeroizing::new(shares[0].replacen("share: 01", "share: 02", 1));
        assert!(join(&[typed, shares[1].clone()]).unwrap_err().to_string().contains("typing error"));
        let other = split(&SecretKey::from_seed(&[43; 32]).unwrap(), Purpose::Root, 2, 3).unwrap();
        assert!(join(&[shares[0].clone(), other[1].clone()]).unwrap_err().to_string().contains("another key"));
        assert!(split(&key(), Purpose::Root, 1, 3).is_err() && split(&key(), Purpose::Root, 4, 3).is_err());
    }
}
