"""Checks golden.json with Python's hashlib, hmac and `cryptography`: none of our code."""

import base64
import hashlib
import hmac
import json
import pathlib

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

golden = json.loads((pathlib.Path(__file__).parent / "golden.json").read_text())


def raw(name):
    return bytes.fromhex(golden[name])


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def hkdf(ikm, salt, info):
    prk = hmac.new(salt or bytes(32), ikm, "sha256").digest()
    return hmac.new(prk, info + b"\x01", "sha256").digest()


def cbor_bytes(value):
    head = bytes([0x40 + len(value)]) if len(value) < 24 else bytes([0x58, len(value)])
    return head + value


def verifier(vkey, kind):
    """The name, key id and public key of a signed-note verifier key."""
    name, key_id, key = vkey.split("+", 2)
    key = base64.b64decode(key)
    assert key[0] == kind
    assert sha256(name.encode(), b"\n", key)[:4].hex() == key_id
    return name, key_id, Ed25519PublicKey.from_public_bytes(key[1:])


def signature(line, name, key_id):
    dash, signer, encoded = line.strip().split(" ")
    blob = base64.b64decode(encoded)
    assert (dash, signer, blob[:4].hex()) == ("\u2014", name, key_id)
    return blob[4:]


# The checkpoint, as C2SP signed-note.
name, key_id, key = verifier(golden["vkey"], 0x01)
body, lines = golden["checkpoint"].split("\n\n")
body += "\n"
key.verify(signature(lines, name, key_id), body.encode())
origin, size, root = body.strip().split("\n")
size, root = int(size), base64.b64decode(root)
device = bytes.fromhex(origin.split("/")[2])
assert origin == name == f"larder/{golden['space']}/{device.hex()}"

# The acknowledgement, as C2SP tlog-cosignature.
name, key_id, key = verifier(golden["ack_vkey"], 0x04)
blob = signature(golden["ack"], name, key_id)
time = int.from_bytes(blob[:8], "big")
key.verify(blob[8:], f"cosignature/v1\ntime {time}\n{body}".encode())

# The receipt, as C2SP tlog-proof, by the steps of RFC 9162 section 2.1.3.2.
proof, note = golden["tlog_proof"].split("\n\n", 1)
assert note == golden["checkpoint"]
first, extra, index, *path = proof.split("\n")
assert first == "c2sp.org/tlog-proof@v1"
header = base64.b64decode(extra.removeprefix("extra "))
assert header == raw("header")
leaf = sha256(b"\x00", header)
assert leaf == raw("entry_hash")
at, last, node = int(index.removeprefix("index ")), size - 1, leaf
for sibling in map(base64.b64decode, path):
    assert last
    if at & 1 or at == last:
        node = sha256(b"\x01", sibling, node)
        while not at & 1 and at:
            at, last = at >> 1, last >> 1
    else:
        node = sha256(b"\x01", node, sibling)
    at, last = at >> 1, last >> 1
assert last == 0 and node == root
assert sha256(b"\x00", raw("genesis_header")) == raw("space")

# A section: commitment, key, associated data, decryption, padding.
section, sealed, space = raw("section"), raw("sealed"), raw("space")
assert sha256(b"\x00", section) == raw("section_leaf") and section[0] == 0x86
start = section.index(b"\x58\x20")
meta, digest, salt = section[start + 2 : start + 34], section[start + 36 : start + 68], section[-16:]
assert sha256(b"larder/sealed/v0", sealed) == digest
place = space + device + (2).to_bytes(8, "big") + (0).to_bytes(4, "big")
key = hkdf(raw("section_secret"), salt, b"larder/section-key/v0" + place)
epoch_step_band = space + bytes(4) + bytes(1)  # the first epoch has the genesis entry's hash
data = b"larder/section-ad/v0" + place + epoch_step_band + meta
padded = AESGCM(key).decrypt(bytes(12), sealed, data)
length = int.from_bytes(padded[:4], "big")
assert padded[4:8].hex() == "28b52ffd" and not any(padded[4 + length :])

# The key schedule.
control, band = bytes([0xC0] * 32), bytes([0xB0] * 32)
mask = hmac.new(control, b"larder/control-mask/v0" + bytes([0xA5] * 16), "sha256")
assert mask.digest()[:1] == raw("control_mask")
assert sha256(b"larder/control-commitment/v0", control) == raw("control_commitment")
assert hkdf(control, b"", b"larder/control-discovery/v0") == raw("control_discovery")
assert hkdf(control, b"", b"larder/control-section/v0") == raw("control_section_secret")
assert sha256(b"larder/band-commitment/v0", b"\x02", band) == raw("band_commitment")
assert hkdf(band, b"", b"larder/step/v0") == raw("band_next_step")

# Metadata and its commitment.
meta_salt, content = bytes([0x5A] * 16), b'{"title":"Bread"}'


def salt_of(which):
    return hkdf(meta_salt, b"", b"larder/salt/v0" + which)


clock = b"\x82\x1b" + (1_700_000_000_000).to_bytes(8, "big") + b"\x00"
fields = [b"\x01", b"\x65notes", b"\xf6", b"\xf6", b"\x67someone", b"\xf6", clock]
digest = cbor_bytes(sha256(b"larder/body/v0", salt_of(b"body"), content))
commitments = [
    sha256(b"larder/field/v0", salt_of(bytes([number])), field)
    for number, field in enumerate([*fields, digest, b"\xf6"], start=1)
]
assert salt_of(b"\x01") == raw("field_salt_1")
assert sha256(b"larder/meta/v0", *commitments) == raw("meta_commitment")
opened = b"\x83" + cbor_bytes(meta_salt) + b"\x87" + b"".join(fields) + cbor_bytes(content)
assert opened == raw("opened")
print("golden.json: all as it should be")
