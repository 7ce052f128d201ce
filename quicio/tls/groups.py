"""Key exchange (RFC 8446 §4.2.8): each group as a key pair that makes a share and a secret.

Two shapes meet here. In Diffie-Hellman both sides do the same: make a pair, send the public part, combine one's private part
with the other's public part. In a key encapsulation (ML-KEM) they do not: the client sends an encapsulation key, the server
answers with a ciphertext, which only the client can open. `KeyPair` covers both with the two verbs of its roles: the client
calls `client_share` and later `finish(server_share)`; the server calls `respond(client_share)`, once, and gets its own
share with the secret. For Diffie-Hellman they are the same computation.

X25519MLKEM768 (draft-ietf-tls-ecdhe-mlkem) is the concatenation of both: ML-KEM first, in shares and in the secret.

A share comes from the peer: whatever is wrong with it is an `illegal_parameter` alert. That includes a point that is not on
the curve (§4.2.8.2) and an all-zero X25519 result (RFC 7748 §6.1), which the cryptographic library refuses itself.

Not every build of the cryptographic library has ML-KEM: `is_group_available` tries once, and callers may inject their own
predicate. A key pair belongs to one connection and is used once (RFC 9846 forbids more).
"""

from __future__ import annotations

from functools import cache
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from quicio.tls.alerts import AlertIllegalParameter
from quicio.tls.constants import Group

try:
    from cryptography.hazmat.primitives.asymmetric import mlkem
except ImportError:  # pragma: no cover - an older cryptography; is_group_available says so
    HAS_MLKEM_MODULE = False
else:
    HAS_MLKEM_MODULE = True

X25519_SIZE: Final = 32
MLKEM768_KEY_SIZE: Final = 1184
MLKEM768_CIPHERTEXT_SIZE: Final = 1088

CURVES: Final[dict[int, ec.EllipticCurve]] = {Group.SECP256R1: ec.SECP256R1(), Group.SECP384R1: ec.SECP384R1()}


class KeyPair:
    """One side's ephemeral key of one group."""

    def client_share(self) -> bytes:
        """What the client sends."""
        raise TypeError("use a subclass: generate_key_pair() makes one")

    def finish(self, server_share: bytes) -> bytes:
        """On the client: the shared secret, from the server's share."""
        raise TypeError("use a subclass: generate_key_pair() makes one")

    def respond(self, client_share: bytes) -> tuple[bytes, bytes]:
        """On the server: its share and the shared secret, from the client's share."""
        raise TypeError("use a subclass: generate_key_pair() makes one")


class X25519KeyPair(KeyPair):
    """X25519 (RFC 7748)."""

    def __init__(self, private_key: x25519.X25519PrivateKey) -> None:
        self._private_key = private_key

    def client_share(self) -> bytes:
        return self._private_key.public_key().public_bytes_raw()

    def finish(self, server_share: bytes) -> bytes:
        try:
            return self._private_key.exchange(x25519.X25519PublicKey.from_public_bytes(server_share))
        except ValueError as error:
            raise AlertIllegalParameter("the peer's X25519 key share is not valid") from error

    def respond(self, client_share: bytes) -> tuple[bytes, bytes]:
        return self.client_share(), self.finish(client_share)


class EllipticCurveKeyPair(KeyPair):
    """A NIST curve, with uncompressed points (RFC 8446 §4.2.8.2)."""

    def __init__(self, private_key: ec.EllipticCurvePrivateKey) -> None:
        self._private_key = private_key

    def client_share(self) -> bytes:
        return self._private_key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    def finish(self, server_share: bytes) -> bytes:
        if server_share[:1] != b"\x04":
            raise AlertIllegalParameter("the peer's key share is not an uncompressed point")
        try:
            point = ec.EllipticCurvePublicKey.from_encoded_point(self._private_key.curve, server_share)
        except ValueError as error:
            raise AlertIllegalParameter("the peer's key share is not a point of the curve") from error
        return self._private_key.exchange(ec.ECDH(), point)

    def respond(self, client_share: bytes) -> tuple[bytes, bytes]:
        return self.client_share(), self.finish(client_share)


class X25519MLKEM768KeyPair(KeyPair):
    """X25519 and ML-KEM-768 together: safe while either is (draft-ietf-tls-ecdhe-mlkem §4).

    The ML-KEM key is the client's alone, made when its share is asked for: a server encapsulates to it.
    """

    def __init__(self, private_key: x25519.X25519PrivateKey) -> None:
        self._x25519 = X25519KeyPair(private_key)
        self._mlkem: mlkem.MLKEM768PrivateKey | None = None

    def client_share(self) -> bytes:
        if self._mlkem is None:
            self._mlkem = mlkem.MLKEM768PrivateKey.generate()
        return self._mlkem.public_key().public_bytes_raw() + self._x25519.client_share()

    def finish(self, server_share: bytes) -> bytes:
        if self._mlkem is None:
            raise RuntimeError("client_share() comes before finish()")
        if len(server_share) != MLKEM768_CIPHERTEXT_SIZE + X25519_SIZE:
            raise AlertIllegalParameter("the server's X25519MLKEM768 key share has a wrong size")
        secret = self._mlkem.decapsulate(server_share[:MLKEM768_CIPHERTEXT_SIZE])
        return secret + self._x25519.finish(server_share[MLKEM768_CIPHERTEXT_SIZE:])

    def respond(self, client_share: bytes) -> tuple[bytes, bytes]:
        if len(client_share) != MLKEM768_KEY_SIZE + X25519_SIZE:
            raise AlertIllegalParameter("the client's X25519MLKEM768 key share has a wrong size")
        try:
            key = mlkem.MLKEM768PublicKey.from_public_bytes(client_share[:MLKEM768_KEY_SIZE])
        except ValueError as error:
            raise AlertIllegalParameter("the client's ML-KEM encapsulation key is not valid") from error
        mlkem_secret, ciphertext = key.encapsulate()
        share, x25519_secret = self._x25519.respond(client_share[MLKEM768_KEY_SIZE:])
        return ciphertext + share, mlkem_secret + x25519_secret


def generate_key_pair(group: int) -> KeyPair:
    """Make an ephemeral key of a `Group`. Raises `ValueError` for a group that is not supported."""
    if group == Group.X25519:
        return X25519KeyPair(x25519.X25519PrivateKey.generate())
    if group == Group.X25519MLKEM768:
        return X25519MLKEM768KeyPair(x25519.X25519PrivateKey.generate())
    if group in CURVES:
        return EllipticCurveKeyPair(ec.generate_private_key(CURVES[group]))
    raise ValueError(f"group {group:#06x} is not supported: use members of quicio.tls.constants.Group")


@cache
def is_group_available(group: int) -> bool:
    """Whether this build of the cryptographic library can do `group`. Found out once, by trying."""
    if group == Group.X25519MLKEM768:
        return HAS_MLKEM_MODULE and _mlkem_works()
    return group == Group.X25519 or group in CURVES


def _mlkem_works() -> bool:
    try:
        mlkem.MLKEM768PrivateKey.generate()
    except UnsupportedAlgorithm:  # pragma: no cover - depends on the OpenSSL that cryptography was built with
        return False
    return True
