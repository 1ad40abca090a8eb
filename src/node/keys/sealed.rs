//! The seal over a seed: Argon2id makes a key of the passphrase, XChaCha20-Poly1305 seals with it.
//!
//! Purpose and public half are authenticated with it, so a box cannot be moved into another file. Follows: RFC 9106
//! section 4 for the form, `threats.md` G-30 for the cost.

use super::{KeyFileError, Passphrase, Purpose};
use crate::envelope::SecretKey;
use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::{
    XChaCha20Poly1305, XNonce,
    aead::{Aead as _, KeyInit as _, Payload},
};
use zeroize::Zeroizing;

/// Memory that one guess costs, in KiB.
const MEMORY_KIB: u32 = 64 * 1024;
/// Passes over that memory.
const PASSES: u32 = 3;
/// A file may not ask for more than this, or opening it would be an attack on memory.
const MEMORY_KIB_MAX: u32 = 1024 * 1024;
/// As above, for time.
const PASSES_MAX: u32 = 16;

fn stretched(passphrase: &Passphrase, salt: &[u8], memory: u32, passes: u32) -> Option<Zeroizing<[u8; 32]>> {
    let params = Params::new(memory, passes, 1, Some(32)).ok()?;
    let mut key = Zeroizing::new([0; 32]);
    let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon.hash_password_into(passphrase.bytes(), salt, key.as_mut()).ok()?;
    Some(key)
}

fn context(purpose: Purpose, public: &str) -> Vec<u8> {
    format!("huecry/v1/key/{purpose}/{public}").into_bytes()
}

/// Seals a key's seed: `argon2id m=65536 t=3 SALT NONCE BOX`, the last three in hexadecimal.
pub(super) fn seal(key: &SecretKey, purpose: Purpose, passphrase: &Passphrase) -> Result<String, KeyFileError> {
    let mut random = [0u8; 16 + 24];
    getrandom::fill(&mut random).map_err(|error| KeyFileError::Random(error.to_string()))?;
    let (salt, nonce) = random.split_at(16);
    let failed = || KeyFileError::Random("the seal could not be made".to_owned());
    let sealing = stretched(passphrase, salt, MEMORY_KIB, PASSES).ok_or_else(failed)?;
    let cipher = XChaCha20Poly1305::new_from_slice(sealing.as_ref()).map_err(|_| failed())?;
    let nonce_array = <[u8; 24]>::try_from(nonce).map_err(|_| failed())?;
    let aad = context(purpose, &hex::encode(key.public().to_bytes()));
    let seed = key.seed();
    let payload = Payload { msg: seed.as_ref(), aad: &aad };
    let sealed = cipher.encrypt(&XNonce::from(nonce_array), payload).map_err(|_| failed())?;
    Ok(format!("argon2id m={MEMORY_KIB} t={PASSES} {} {} {}", hex::encode(salt), hex::encode(nonce), hex::encode(sealed)))
}

/// Opens a seal; `None` for a wrong passphrase as for a box that was changed, which look the same from outside.
pub(super) fn open(text: &str, purpose: Purpose, public: &str, passphrase: &Passphrase) -> Option<Zeroizing<[u8; 32]>> {
    let mut words = text.split(' ');
    if words.next() != Some("argon2id") {
        return None;
    }
    let memory: u32 = words.next()?.strip_prefix("m=")?.parse().ok().filter(|memory| *memory <= MEMORY_KIB_MAX)?;
    let passes: u32 = words.next()?.strip_prefix("t=")?.parse().ok().filter(|passes| *passes <= PASSES_MAX)?;
    let mut bytes = || hex::decode(words.next()?).ok();
    let (salt, nonce, sealed) = (bytes()?, bytes()?, bytes()?);
    let sealing = stretched(passphrase, &salt, memory, passes)?;
    let cipher = XChaCha20Poly1305::new_from_slice(sealing.as_ref()).ok()?;
    let aad = context(purpose, public);
    let nonce = XNonce::from(<[u8; 24]>::try_from(nonce).ok()?);
    let opened = Zeroizing::new(cipher.decrypt(&nonce, Payload { msg: &sealed, aad: &aad }).ok()?);
    let mut seed = Zeroizing::new([0; 32]);
    seed.copy_from_slice(opened.get(..32)?);
    Some(seed)
}
