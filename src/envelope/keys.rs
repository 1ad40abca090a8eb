//! Keys and what they may sign.
//!
//! Every signed string carries a [`Domain`] and the federation's id, so a signature made for one purpose, or in one
//! federation, proves nothing anywhere else (`threats.md` S-04).

use crate::cbor::fixed_bytes;
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};
use std::fmt;

fixed_bytes! {
    /// A SHA-256 hash.
    pub struct Hash [32]
}

fixed_bytes! {
    /// Which key: the first 16 bytes of SHA-256 over the public key. Long enough that no two keys can be made to share
    /// one, short enough for a header.
    pub struct KeyId [16]
}

fixed_bytes! {
    /// A federation: SHA-256 of the payload of its charter's version 1.
    pub struct FederationId [32]
}

impl Hash {
    /// SHA-256 of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

/// What a signature is for. The text is part of what is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domain {
    Head,
    Charter,
    Stamp,
    Card,
    Statement,
    Whereabouts,
    /// An operator's decision; never leaves the node.
    Decision,
}

impl Domain {
    /// The tag, as it stands in the external_aad.
    pub fn tag(self) -> &'static str {
        match self {
            Self::Head => "huecry/v1/head",
            Self::Charter => "huecry/v1/charter",
            Self::Stamp => "huecry/v1/stamp",
            Self::Card => "huecry/v1/card",
            Self::Statement => "huecry/v1/statement",
            Self::Whereabouts => "huecry/v1/whereabouts",
            Self::Decision => "huecry/v1/decision",
        }
    }

    /// COSE external_aad: the tag, a zero byte, the federation's id.
    pub fn external_aad(self, federation: &FederationId) -> Vec<u8> {
        [self.tag().as_bytes(), &[0], &federation.0].concat()
    }
}

/// Why 32 bytes are no public key of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("a public key has 64 hexadecimal digits")]
    Digits,
    #[error("these 32 bytes are no Ed25519 public key")]
    Point,
    #[error("this public key is of small order: signatures under it prove nothing")]
    Weak,
}

/// An Ed25519 public key that is not of small order, in its canonical encoding.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// Takes a key from a document; weak and non-canonical ones are refused (`threats.md` S-02).
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| KeyError::Point)?;
        if key.is_weak() {
            return Err(KeyError::Weak);
        }
        // A y-coordinate of p or more decompresses too; one key must not have two encodings and so two ids.
        if key.to_edwards().compress().to_bytes() == *bytes { Ok(Self(key)) } else { Err(KeyError::Point) }
    }

    /// The 32 bytes of RFC 8032.
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// The id under which documents and headers name this key.
    pub fn id(&self) -> KeyId {
        let hash = Hash::of(&self.to_bytes()).0;
        let mut id = [0; 16];
        id.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
        KeyId(id)
    }

    /// Whether `signature` is this key's over `message`, by the strict rules: no small order, canonical scalars, so that
    /// every implementation gives the same answer.
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.0.verify_strict(message, &ed25519_dalek::Signature::from_bytes(signature)).is_ok()
    }
}

/// Reads 64 hexadecimal digits, as key files and documents show them.
impl std::str::FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| KeyError::Digits)?;
        Self::from_bytes(&bytes)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "PublicKey({})", self.id().short())
    }
}

impl serde::Serialize for PublicKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0.as_bytes())
    }
}

impl<'de> serde::Deserialize<'de> for PublicKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = <serde_bytes::ByteArray<32> as serde::Deserialize>::deserialize(deserializer)?;
        Self::from_bytes(&bytes).map_err(serde::de::Error::custom)
    }
}

/// Why a key did not sign.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key did not sign: {0}")]
pub struct SignerError(pub String);

/// Something that signs with one key: a [`SecretKey`] in memory, or a device that never gives its key away (PKCS#11).
pub trait Signer: Send + Sync {
    /// The public half.
    fn public(&self) -> PublicKey;
    /// An Ed25519 signature of `message`, as RFC 8032 says.
    fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignerError>;
}

impl Signer for SecretKey {
    fn public(&self) -> PublicKey {
        Self::public(self)
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignerError> {
        Ok(Self::sign(self, message))
    }
}

/// A secret key in memory. Made from a seed only, so that no second public half can be slipped in; wiped when dropped.
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// The key of a 32-byte seed; `None` for the all-zero seed that a failed random generator leaves (`threats.md` K-04).
    pub fn from_seed(seed: &[u8; 32]) -> Option<Self> {
        (*seed != [0; 32]).then(|| Self(SigningKey::from_bytes(seed)))
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// The seed, for the file that keeps it and for the transport that wants it.
    pub fn seed(&self) -> zeroize::Zeroizing<[u8; 32]> {
        zeroize::Zeroizing::new(self.0.to_bytes())
    }

    /// Signs `message` as RFC 8032 says.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "SecretKey(of {})", self.public().id().short())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_02_small_order_keys_are_refused() {
        // The eight small-order points and two of their non-canonical forms, from RFC 7748 section 7 and ed25519-speccheck.
        for text in [
            "0000000000000000000000000000000000000000000000000000000000000000",
            "0100000000000000000000000000000000000000000000000000000000000000",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "0000000000000000000000000000000000000000000000000000000000000080",
            "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
            "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
            "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        ] {
            let bytes: [u8; 32] = hex::decode(text).unwrap().try_into().unwrap();
            assert!(PublicKey::from_bytes(&bytes).is_err(), "{text}");
        }
    }

    #[test]
    fn k_04_an_all_zero_seed_makes_no_key() {
        assert!(SecretKey::from_seed(&[0; 32]).is_none());
    }

    #[test]
    fn a_debug_line_never_shows_a_secret() {
        let key = SecretKey::from_seed(&[7; 32]).unwrap();
        assert!(!format!("{key:?}").contains("0707"));
    }
}
