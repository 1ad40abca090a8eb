//! A charter on its way to being signed: a file that travels between stewards, and the signatures that come back.
//!
//! ```text
//! charter.toml -> Proposal (the version before, the next one's payload) -> each steward: changes in words -> Signature
//! Proposal + Signatures -> SignedCharter, when both thresholds are reached
//! ```
//!
//! Everyone signs the same payload, so signatures may be made anywhere, in any order, without a network.

use super::{
    CHARTER_BYTES_MAX, Charter, CharterError, CircleGeneration, DOCUMENT_FORMAT, KeyHolding, Past, SignedCharter, Steward, check,
    check_first_cards,
};
use crate::{
    cbor::{self, fixed_bytes, int_map},
    envelope::{CoseError, Cosigned, Domain, FederationId, Hash, KeyId, Signer},
};
use serde_bytes::ByteBuf;
use std::collections::BTreeMap;

/// Longest proposal, in bytes: two charters and the first cards of newcomers.
pub const PROPOSAL_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Longest signature file, in bytes.
pub const SIGNATURE_BYTES_MAX: usize = 1024;

fixed_bytes! {
    /// An Ed25519 signature.
    pub struct SignatureBytes [64]
}

int_map! {
    /// What a steward sends back: one signature over one charter.
    pub struct Signature {
        req 0 format: u64,
        req 1 federation: FederationId,
        req 2 version: u64,
        /// SHA-256 of the payload that was signed.
        req 3 hash: Hash,
        req 4 key: KeyId,
        req 5 signature: SignatureBytes,
    }
}

int_map! {
    /// The file of a proposal.
    pub struct ProposalFile {
        req 0 format: u64,
        /// Absent for the first charter, whose payload makes it.
        opt 1 federation: FederationId,
        /// The version before, as it was signed.
        opt 2 before: ByteBuf,
        req 3 payload: ByteBuf,
        many 4 signatures: Signature,
        /// First cards of members that this charter adds. They prove themselves and are not part of what is signed.
        many 5 cards: ByteBuf,
        /// Keys and generations of the past, so that stewards without a node can check them too. Not signed: every node knows its own.
        many 6 keys: KeyHolding,
        many 7 generations: CircleGeneration,
    }
}

/// One steward, and whether this steward has signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signatory {
    pub name: String,
    pub key: KeyId,
    /// Counts for the version before.
    pub before: bool,
    /// Counts for the new version.
    pub after: bool,
    pub signed: bool,
}

/// A charter that waits for signatures. Its rules have been checked; its thresholds are what is missing.
#[derive(Clone, Debug)]
pub struct Proposal {
    federation: FederationId,
    before: Option<SignedCharter>,
    charter: Charter,
    payload: Vec<u8>,
    signatures: BTreeMap<KeyId, SignatureBytes>,
    cards: Vec<Vec<u8>>,
    past: Past,
}

impl Proposal {
    /// Proposes `charter` as the version after `before`, or as the first. `past` is what is known of keys and circles before.
    ///
    /// # Errors
    /// If the charter breaks a rule, or gives a key of the past to a second holder or purpose.
    pub fn new(charter: Charter, before: Option<&SignedCharter>, cards: Vec<Vec<u8>>, past: &Past) -> Result<Self, CharterError> {
        let payload = cbor::to_vec(&charter);
        let federation = before.map_or(FederationId(Hash::of(&payload).0), SignedCharter::federation);
        check(&charter)?;
        if let Some(before) = before {
            before.precedes(&charter)?;
        }
        let mut past = past.clone();
        before.iter().for_each(|before| past.add_charter(before.charter()));
        past.check_charter(&charter, before.map(SignedCharter::charter), |_| true)?;
        check_first_cards(&past, &charter, &cards)?;
        Ok(Self { federation, before: before.cloned(), charter, payload, signatures: BTreeMap::new(), cards, past })
    }

    /// Reads a proposal and checks every rule that needs no further signature.
    pub fn open(bytes: &[u8]) -> Result<Self, CharterError> {
        let file: ProposalFile = cbor::from_slice(bytes, PROPOSAL_BYTES_MAX)?;
        if file.format != DOCUMENT_FORMAT {
            return Err(CharterError::Rule(format!("proposal format {} needs a newer huecry", file.format)));
        }
        let before = match (&file.before, file.federation) {
            (Some(bytes), Some(federation)) => Some(SignedCharter::alone(bytes, &federation)?),
            (None, None) => None,
            _ => return Err(CharterError::Rule("a proposal names its federation and the version before, or neither".to_owned())),
        };
        let charter: Charter = cbor::from_slice(&file.payload, CHARTER_BYTES_MAX)?;
        let cards = file.cards.into_iter().map(ByteBuf::into_vec).collect();
        let past = Past::stated(file.keys, file.generations);
        let mut proposal = Self::new(charter, before.as_ref(), cards, &past)?;
        file.signatures.iter().try_for_each(|signature| proposal.add(signature).map(|_| ()))?;
        Ok(proposal)
    }

    /// The proposal as a file, with the signatures that it has.
    pub fn encode(&self) -> Vec<u8> {
        cbor::to_vec(&ProposalFile {
            format: DOCUMENT_FORMAT,
            federation: self.before.as_ref().map(|_| self.federation),
            before: self.before.as_ref().map(|before| before.bytes().to_vec().into()),
            payload: self.payload.clone().into(),
            signatures: self.signatures.iter().map(|(key, signature)| self.signature(*key, *signature)).collect(),
            cards: self.cards.iter().map(|card| card.clone().into()).collect(),
            keys: self.past.keys().collect(),
            generations: self.past.generations().collect(),
        })
    }

    fn signature(&self, key: KeyId, signature: SignatureBytes) -> Signature {
        let (federation, version, hash) = (self.federation, self.charter.version, self.hash());
        Signature { format: DOCUMENT_FORMAT, federation, version, hash, key, signature }
    }

    /// Signs with a steward's key; a key of nobody who counts is refused before anything is signed.
    pub fn sign(&self, key: &dyn Signer) -> Result<Signature, CharterError> {
        let id = key.public().id();
        self.steward(id)?;
        let message = Cosigned::message(&self.payload, id, Domain::Charter, &self.federation);
        Ok(self.signature(id, SignatureBytes(key.sign(&message).map_err(CoseError::from)?)))
    }

    /// Takes a signature that came back. Answers whose it is.
    pub fn add(&mut self, signature: &Signature) -> Result<String, CharterError> {
        if signature.hash != self.hash() || signature.federation != self.federation {
            return Err(CharterError::OtherProposal { found: signature.version, hash: signature.hash });
        }
        let steward = self.steward(signature.key)?;
        let message = Cosigned::message(&self.payload, signature.key, Domain::Charter, &self.federation);
        if !steward.key.verify(&message, &signature.signature.0) {
            return Err(CoseError::Signature(signature.key).into());
        }
        let name = steward.name.clone();
        self.signatures.insert(signature.key, signature.signature);
        Ok(name)
    }

    fn steward(&self, key: KeyId) -> Result<&Steward, CharterError> {
        let all = self.charter.stewards.iter().chain(self.before.iter().flat_map(|before| &before.charter().stewards));
        all.into_iter().find(|one| one.key.id() == key).ok_or(CharterError::NoSteward(key))
    }

    /// Every steward of either version, and who has signed.
    pub fn signatories(&self) -> Vec<Signatory> {
        let mut signers: Vec<Signatory> = Vec::new();
        let before = self.before.iter().flat_map(|before| &before.charter().stewards).map(|one| (one, true));
        for (steward, old) in before.chain(self.charter.stewards.iter().map(|one| (one, false))) {
            let key = steward.key.id();
            match signers.iter_mut().find(|one| one.key == key) {
                Some(known) => known.after |= !old,
                None => signers.push(Signatory {
                    name: steward.name.clone(),
                    key,
                    before: old,
                    after: !old,
                    signed: self.signatures.contains_key(&key),
                }),
            }
        }
        signers
    }

    /// The charter, if the signatures reach the thresholds of both versions.
    pub fn complete(&self) -> Result<SignedCharter, CharterError> {
        let signatures = self.signatures.iter().map(|(key, signature)| (*key, signature.0)).collect();
        let signed = Cosigned::assemble(self.payload.clone(), signatures, Domain::Charter, &self.federation)?;
        match &self.before {
            Some(before) => before.next(signed.bytes()),
            None => SignedCharter::first(signed.bytes(), None),
        }
    }

    /// SHA-256 of what is signed.
    pub fn hash(&self) -> Hash {
        Hash::of(&self.payload)
    }

    /// The federation; for a first charter, the one that it would found.
    pub fn federation(&self) -> FederationId {
        self.federation
    }

    /// What is proposed.
    pub fn charter(&self) -> &Charter {
        &self.charter
    }

    /// What it would replace.
    pub fn before(&self) -> Option<&SignedCharter> {
        self.before.as_ref()
    }

    /// Known keys and circles of the past.
    pub fn past(&self) -> &Past {
        &self.past
    }

    /// First cards of members that it adds.
    pub fn cards(&self) -> &[Vec<u8>] {
        &self.cards
    }
}
