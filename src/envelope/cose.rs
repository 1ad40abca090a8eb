//! COSE: the two forms in which a document of ours is signed.
//!
//! COSE_Sign1 for what one key says (heads, cards, stamps), COSE_Sign for the charter, which several stewards sign.
//! Both untagged; algorithm and key id protected; nothing unprotected; external_aad as [`Domain::external_aad`] says.
//! The id of a signed thing is the hash of its Sig_structure, which holds everything signed and no signature: EdDSA
//! signatures are not unique, so an id over one would let a stranger rename a record (`threats.md` S-09).
//! Follows: RFC 9052 sections 4.1-4.4.

use super::{Domain, FederationId, Hash, KeyId, PublicKey, SecretKey, Signer, SignerError};
use crate::cbor::{self, CborError};
use coset::{CborSerializable as _, CoseSign, CoseSign1, CoseSign1Builder, CoseSignBuilder, CoseSignatureBuilder, HeaderBuilder, iana};

/// Most signatures on a charter: as many as there may be stewards.
pub const SIGNATURES_MAX: usize = 64;

/// Why a signed document is refused. All are verdict `Reject`: the sender had to check the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CoseError {
    #[error(transparent)]
    Cbor(#[from] CborError),
    #[error(transparent)]
    Signer(#[from] SignerError),
    #[error("not a COSE structure of ours: {0}")]
    Structure(&'static str),
    #[error("the signature by key `{0}` does not verify")]
    Signature(KeyId),
    #[error("signed by key `{found}`, but key `{expected}` was to sign")]
    OtherKey { expected: KeyId, found: KeyId },
}

fn protected(key: KeyId) -> coset::Header {
    HeaderBuilder::new().algorithm(iana::Algorithm::EdDSA).key_id(key.0.to_vec()).build()
}

/// The key id of a protected header that is exactly the one we would have written.
fn key_of(header: &coset::ProtectedHeader, unprotected: &coset::Header) -> Result<KeyId, CoseError> {
    if !unprotected.is_empty() {
        return Err(CoseError::Structure("the unprotected header is not empty"));
    }
    let key = KeyId(header.header.key_id.as_slice().try_into().map_err(|_| CoseError::Structure("the key id has not 16 bytes"))?);
    if header.header == protected(key) {
        Ok(key)
    } else {
        Err(CoseError::Structure("the protected header holds more, or other, than EdDSA and a key id"))
    }
}

fn signature_of(bytes: &[u8]) -> Result<[u8; 64], CoseError> {
    bytes.try_into().map_err(|_| CoseError::Structure("the signature has not 64 bytes"))
}

/// A COSE_Sign1 whose form was checked and whose signature was not, yet.
#[derive(Clone, Debug)]
pub struct Sealed {
    bytes: Vec<u8>,
    payload: Vec<u8>,
    key: KeyId,
    signature: [u8; 64],
    sig_structure: Vec<u8>,
}

impl Sealed {
    /// Signs `payload` with `key` for `domain` in `federation`. What a signer gives back is verified before it is used: a
    /// device that errs must not make us look like a liar.
    pub fn seal(payload: Vec<u8>, key: &dyn Signer, domain: Domain, federation: &FederationId) -> Result<Self, CoseError> {
        let (public, aad) = (key.public(), domain.external_aad(federation));
        let id = public.id();
        let mut sign1 = CoseSign1Builder::new().protected(protected(id)).payload(payload.clone()).build();
        let sig_structure = sign1.tbs_data(&aad);
        let signature = key.sign(&sig_structure)?;
        if !public.verify(&sig_structure, &signature) {
            return Err(CoseError::Signature(id));
        }
        sign1.signature = signature.to_vec();
        let bytes = sign1.to_vec().map_err(|_| CoseError::Structure("it cannot be encoded"))?;
        Ok(Self { bytes, payload, key: id, signature, sig_structure })
    }

    /// Takes a stranger's bytes apart, at most `bytes_max` of them.
    pub fn open(bytes: &[u8], domain: Domain, federation: &FederationId, bytes_max: usize) -> Result<Self, CoseError> {
        if bytes.len() > bytes_max {
            return Err(CborError::Long { length: bytes.len(), max: bytes_max }.into());
        }
        cbor::check(bytes)?;
        let sign1 = CoseSign1::from_slice(bytes).map_err(|_| CoseError::Structure("not a COSE_Sign1"))?;
        let key = key_of(&sign1.protected, &sign1.unprotected)?;
        let signature = signature_of(&sign1.signature)?;
        let sig_structure = sign1.tbs_data(&domain.external_aad(federation));
        let payload = sign1.payload.ok_or(CoseError::Structure("the payload is not attached"))?;
        Ok(Self { bytes: bytes.to_vec(), payload, key, signature, sig_structure })
    }

    /// Succeeds only if `key` is the one named in the header and the signature is its own.
    pub fn verify(&self, key: &PublicKey) -> Result<(), CoseError> {
        if key.id() != self.key {
            return Err(CoseError::OtherKey { expected: key.id(), found: self.key });
        }
        if key.verify(&self.sig_structure, &self.signature) { Ok(()) } else { Err(CoseError::Signature(self.key)) }
    }

    /// The bytes as they came, which are the ones to keep and pass on.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What was signed, to be read by its own rules.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The key that is named as the signer.
    pub fn key(&self) -> KeyId {
        self.key
    }

    /// The id: SHA-256 of the Sig_structure.
    pub fn id(&self) -> Hash {
        Hash::of(&self.sig_structure)
    }
}

/// A COSE_Sign with any number of signatures, none of them verified yet.
#[derive(Clone, Debug)]
pub struct Cosigned {
    bytes: Vec<u8>,
    payload: Vec<u8>,
    signatures: Vec<(KeyId, [u8; 64], Vec<u8>)>,
}

impl Cosigned {
    /// Signs `payload` with every one of `keys`.
    pub fn seal(payload: Vec<u8>, keys: &[&SecretKey], domain: Domain, federation: &FederationId) -> Result<Self, CoseError> {
        let sign = |key: &&SecretKey| {
            let id = key.public().id();
            (id, key.sign(&Self::message(&payload, id, domain, federation)))
        };
        let signatures = keys.iter().map(sign).collect();
        Self::assemble(payload, signatures, domain, federation)
    }

    /// The Sig_structure that `key` signs, wherever that key may lie.
    pub fn message(payload: &[u8], key: KeyId, domain: Domain, federation: &FederationId) -> Vec<u8> {
        let signature = CoseSignatureBuilder::new().protected(protected(key)).build();
        let sign = CoseSignBuilder::new().payload(payload.to_vec()).build();
        sign.tbs_data(&domain.external_aad(federation), &signature)
    }

    /// Puts together what was signed in different places. Signatures are ordered by key id, so the bytes do not tell who
    /// was first; none of them is verified here.
    pub fn assemble(
        payload: Vec<u8>,
        mut signatures: Vec<(KeyId, [u8; 64])>,
        domain: Domain,
        federation: &FederationId,
    ) -> Result<Self, CoseError> {
        signatures.sort_by_key(|(key, _)| *key);
        let sign = signatures.into_iter().fold(CoseSignBuilder::new().payload(payload), |builder, (key, signature)| {
            builder.add_signature(CoseSignatureBuilder::new().protected(protected(key)).signature(signature.to_vec()).build())
        });
        let bytes = sign.build().to_vec().map_err(|_| CoseError::Structure("it cannot be encoded"))?;
        let bytes_max = bytes.len();
        Self::open(&bytes, domain, |_| *federation, bytes_max)
    }

    /// Takes a stranger's bytes apart. `federation` may depend on the payload: the first charter defines its own.
    pub fn open(bytes: &[u8], domain: Domain, federation: impl Fn(&[u8]) -> FederationId, bytes_max: usize) -> Result<Self, CoseError> {
        if bytes.len() > bytes_max {
            return Err(CborError::Long { length: bytes.len(), max: bytes_max }.into());
        }
        cbor::check(bytes)?;
        let sign = CoseSign::from_slice(bytes).map_err(|_| CoseError::Structure("not a COSE_Sign"))?;
        if !sign.protected.is_empty() || !sign.unprotected.is_empty() {
            return Err(CoseError::Structure("the body headers are not empty"));
        }
        if sign.signatures.len() > SIGNATURES_MAX {
            return Err(CoseError::Structure("more than 64 signatures"));
        }
        let payload = sign.payload.clone().ok_or(CoseError::Structure("the payload is not attached"))?;
        let aad = domain.external_aad(&federation(&payload));
        let mut signatures = Vec::with_capacity(sign.signatures.len());
        for one in &sign.signatures {
            let key = key_of(&one.protected, &one.unprotected)?;
            signatures.push((key, signature_of(&one.signature)?, sign.tbs_data(&aad, one)));
        }
        if !signatures.iter().zip(signatures.iter().skip(1)).all(|(one, next)| one.0 < next.0) {
            return Err(CoseError::Structure("signatures repeat or are out of order"));
        }
        Ok(Self { bytes: bytes.to_vec(), payload, signatures })
    }

    /// Whether `key` has signed, and rightly.
    pub fn signed_by(&self, key: &PublicKey) -> bool {
        let id = key.id();
        self.signatures.iter().any(|(signer, signature, message)| *signer == id && key.verify(message, signature))
    }

    /// The bytes as they came.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What was signed.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The keys named as signers, whether or not their signatures verify.
    pub fn signers(&self) -> impl Iterator<Item = KeyId> {
        self.signatures.iter().map(|(key, _, _)| *key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: FederationId = FederationId([1; 32]);

    fn key(seed: u8) -> SecretKey {
        SecretKey::from_seed(&[seed; 32]).unwrap()
    }

    fn sealed() -> Sealed {
        Sealed::seal(vec![0xa1, 0, 1], &key(7), Domain::Head, &HOME).unwrap()
    }

    fn verifies(bytes: &[u8], domain: Domain, federation: &FederationId) -> bool {
        Sealed::open(bytes, domain, federation, 1000).is_ok_and(|sealed| sealed.verify(&key(7).public()).is_ok())
    }

    #[test]
    fn s_01_p_04_every_single_flipped_bit_is_refused() {
        let good = sealed().bytes().to_vec();
        assert!(verifies(&good, Domain::Head, &HOME));
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(!verifies(&bad, Domain::Head, &HOME), "bit {bit}");
        }
    }

    #[test]
    fn s_04_a_signature_for_another_purpose_or_federation_proves_nothing() {
        let bytes = sealed().bytes().to_vec();
        for domain in [Domain::Charter, Domain::Stamp, Domain::Card, Domain::Statement, Domain::Whereabouts] {
            assert!(!verifies(&bytes, domain, &HOME), "{domain:?}");
        }
        assert!(!verifies(&bytes, Domain::Head, &FederationId([2; 32])));
    }

    #[test]
    fn s_09_an_id_is_of_what_is_signed_not_of_its_wrapper() {
        let good = sealed();
        // Another wrapper: a tag in front, or something in the unprotected header, is no spelling of ours.
        assert!(Sealed::open(&[&[0xd2][..], good.bytes()].concat(), Domain::Head, &HOME, 1000).is_err());
        let again = Sealed::open(good.bytes(), Domain::Head, &HOME, 1000).unwrap();
        assert_eq!(again.id(), good.id());
    }

    #[test]
    fn one_key_signs_a_charter_once() {
        let twice = Cosigned::seal(vec![0xa0], &[&key(1), &key(1)], Domain::Charter, &HOME);
        assert_eq!(twice.unwrap_err(), CoseError::Structure("signatures repeat or are out of order"));
        let both = Cosigned::seal(vec![0xa0], &[&key(1), &key(2)], Domain::Charter, &HOME).unwrap();
        assert!(both.signed_by(&key(1).public()) && both.signed_by(&key(2).public()) && !both.signed_by(&key(3).public()));
    }
}
