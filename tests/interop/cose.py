"""Holds huecry's heads against another implementation of COSE, both ways.

Verifies the golden head of tests/vectors/head/good, and signs the same payload anew with pycose; a Rust test then verifies
what this made (target/interop/head.hex). Keys are the vectors' own: Ed25519 seeds of one repeated byte.
"""

import hashlib
import pathlib
import sys

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
import cbor2
from pycose.algorithms import EdDSA
from pycose.headers import KID, Algorithm
from pycose.keys import OKPKey
from pycose.messages import CoseMessage, Sign1Message

root = pathlib.Path(__file__).resolve().parent.parent.parent
vectors = root / "tests" / "vectors"


def read(name):
    return bytes.fromhex((vectors / name / "bytes.hex").read_text())


# The federation's id is the hash of the first charter's payload.
charter = cbor2.loads(read("charter/good"))
federation = hashlib.sha256(charter[2]).digest()
aad = b"huecry/v1/head" + b"\x00" + federation

seed = bytes([31]) * 32
public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
kid = hashlib.sha256(public).digest()[:16]

# Ours, verified by theirs. huecry writes no tag; pycose's front door wants one.
message = CoseMessage.decode(b"\xd2" + read("head/good"))
assert isinstance(message, Sign1Message)
assert message.phdr[KID] == kid, "the key id is not the hash that the definition says"
message.key = OKPKey(crv="ED25519", x=public)
message.external_aad = aad
assert message.verify_signature(), "pycose does not verify a head that huecry signed"
message.external_aad = aad[:-1] + b"\x00"
assert not message.verify_signature(), "a head verifies in another federation"
expected = (vectors / "head/good/expect.txt").read_text().split()[1]
structure = cbor2.dumps(["Signature1", message.phdr_encoded, aad, message.payload])
assert hashlib.sha256(structure).hexdigest() == expected, "the id is not the hash of the Sig_structure"

# Theirs, for ours.
signed = Sign1Message(phdr={Algorithm: EdDSA, KID: kid}, payload=message.payload, external_aad=aad)
signed.key = OKPKey(crv="ED25519", x=public, d=seed)
out = root / "target" / "interop" / "head.hex"
out.parent.mkdir(parents=True, exist_ok=True)
out.write_text(signed.encode(tag=False).hex() + "\n")
print("pycose verifies huecry's head, and has signed one for huecry")
sys.exit(0)
