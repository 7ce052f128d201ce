"""The key schedule of TLS 1.3 (RFC 8446 §7) and the transcript it is bound to (§4.4.1).

Everything secret in a handshake comes out of one chain of HKDF steps: the early secret from a pre-shared key or zeros, the
handshake secret from the key exchange, the main secret from zeros. At each stage secrets for a purpose are derived under a
label and the hash of all messages so far, so that two sides which saw different messages end with different keys.

`KeySchedule` walks that chain and knows nothing of messages; `Transcript` hashes messages and knows nothing of keys. Their
owner, `Handshake`, decides which hash goes under which label. The hash function comes with the cipher suite, which a client
learns from the server: until then a transcript keeps the messages themselves.

Left to others: which secrets are installed where (`client`, `server`), packet protection keys (QUIC's own labels).
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from quicio.tls.constants import CipherSuite, HandshakeType

# The hash function of each cipher suite (RFC 8446 §B.4); a suite is supported when it is here.
HASHES: Final[dict[int, str]] = {
    CipherSuite.AES_128_GCM_SHA256: "sha256",
    CipherSuite.AES_256_GCM_SHA384: "sha384",
    CipherSuite.CHACHA20_POLY1305_SHA256: "sha256",
}


def hkdf_extract(hash_name: str, salt: bytes, key_material: bytes) -> bytes:
    """HKDF-Extract (RFC 5869 §2.2)."""
    return hmac.digest(salt, key_material, hash_name)


def hkdf_expand(hash_name: str, secret: bytes, info: bytes, length: int) -> bytes:
    """HKDF-Expand (RFC 5869 §2.3). Raises `ValueError` for more than 255 times the size of the hash."""
    block = b""
    output = b""
    counter = 0
    while len(output) < length:
        counter += 1
        if counter > 255:
            raise ValueError(f"HKDF cannot expand {hash_name} to {length} bytes (RFC 5869 §2.3)")
        block = hmac.digest(secret, block + info + bytes((counter,)), hash_name)
        output += block
    return output[:length]


def hkdf_expand_label(hash_name: str, secret: bytes, label: str, context: bytes, length: int) -> bytes:
    """HKDF-Expand-Label (RFC 8446 §7.1). Raises `ValueError` for a label of more than 249 bytes."""
    name = b"tls13 " + label.encode("ascii")
    if len(name) > 255 or length > 0xFFFF:
        raise ValueError("a label is at most 249 bytes long, an output at most 65,535 (RFC 8446 §7.1)")
    info = length.to_bytes(2, "big") + bytes((len(name),)) + name + bytes((len(context),)) + context
    return hkdf_expand(hash_name, secret, info, length)


def finished_verify_data(hash_name: str, base_key: bytes, transcript_hash: bytes) -> bytes:
    """The content of a Finished message (RFC 8446 §4.4.4); `base_key` is its sender's traffic secret."""
    finished_key = hkdf_expand_label(hash_name, base_key, "finished", b"", len(base_key))
    return hmac.digest(finished_key, transcript_hash, hash_name)


class KeySchedule:
    """The chain of secrets of one handshake. It starts at the early secret; `advance` takes it one stage on."""

    def __init__(self, cipher_suite: int, pre_shared_key: bytes | None = None) -> None:
        self.hash_name: str = HASHES[cipher_suite]
        self._zeros = bytes(hashlib.new(self.hash_name).digest_size)
        self._empty_hash = hashlib.new(self.hash_name).digest()
        self._secret = hkdf_extract(self.hash_name, self._zeros, pre_shared_key or self._zeros)

    def advance(self, key_material: bytes | None = None) -> None:
        """Go to the handshake secret, with the shared secret of the key exchange, then to the main secret, with none."""
        salt = self.derive("derived", self._empty_hash)
        self._secret = hkdf_extract(self.hash_name, salt, key_material or self._zeros)

    def derive(self, label: str, transcript_hash: bytes) -> bytes:
        """Derive-Secret at this stage (RFC 8446 §7.1)."""
        return hkdf_expand_label(self.hash_name, self._secret, label, transcript_hash, len(transcript_hash))

    def binder(self, transcript_hash: bytes) -> bytes:
        """At the early stage: the proof, over a ClientHello, of knowing the pre-shared key (RFC 8446 §4.2.11.2)."""
        return finished_verify_data(self.hash_name, self.derive("res binder", self._empty_hash), transcript_hash)

    def export(self, exporter_secret: bytes, label: str, context: bytes, length: int) -> bytes:
        """Keying material for an application (RFC 8446 §7.5), from the exporter secret."""
        size = len(self._empty_hash)
        secret = hkdf_expand_label(self.hash_name, exporter_secret, label, self._empty_hash, size)
        context_hash = hashlib.new(self.hash_name, context).digest()
        return hkdf_expand_label(self.hash_name, secret, "exporter", context_hash, length)

    def resumption_key(self, resumption_secret: bytes, ticket_nonce: bytes) -> bytes:
        """The pre-shared key that goes with a ticket (RFC 8446 §4.6.1)."""
        size = len(resumption_secret)
        return hkdf_expand_label(self.hash_name, resumption_secret, "resumption", ticket_nonce, size)


class Transcript:
    """The running hash over all handshake messages, headers included (RFC 8446 §4.4.1)."""

    def __init__(self) -> None:
        self._messages = b""
        self._hash: hashlib._Hash | None = None

    def use(self, hash_name: str) -> None:
        """Fix the hash function. What was added before is hashed now."""
        self._hash = hashlib.new(hash_name, self._messages)
        self._messages = b""

    def add(self, message: bytes) -> None:
        """Add a message, with its header."""
        if self._hash is None:
            self._messages += message
        else:
            self._hash.update(message)

    def digest(self) -> bytes:
        """The hash of what was added so far."""
        if self._hash is None:
            raise RuntimeError("the transcript's hash function is not known before the cipher suite")
        return self._hash.digest()

    def digest_with(self, hash_name: str, message: bytes) -> bytes:
        """The hash, by `hash_name` as long as none is fixed, of what was added so far and then `message`; adds nothing."""
        running = hashlib.new(hash_name, self._messages) if self._hash is None else self._hash.copy()
        running.update(message)
        return running.digest()

    def restart_with_message_hash(self) -> None:
        """Replace the first ClientHello by its hash, as a HelloRetryRequest demands (RFC 8446 §4.4.1)."""
        digest = self.digest()
        assert self._hash is not None  # digest() has checked it
        self._hash = hashlib.new(self._hash.name)
        self.add(bytes((HandshakeType.MESSAGE_HASH, 0, 0, len(digest))) + digest)
