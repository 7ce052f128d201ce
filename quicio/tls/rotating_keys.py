"""Keys under which a server seals what it gives to clients to keep: session tickets, address validation tokens.

Sealed state costs the server no memory, so anybody may be given some; what a client brings back is opened with the key that
it names. `RotatingKeys` holds the present key and those before it:

    key identifier (8) | nonce (12) | AES-256-GCM ciphertext and tag

- A key is derived from a *secret* (HKDF, with the purpose as label), its identifier too: processes that are given the same
  secrets open what any of them has sealed, and no two purposes share a key, even when they share a secret.
- Without secrets the keys are random, die with the process, and are replaced every `rotation` seconds. With secrets the
  owner rotates, by `set_secrets()`, newest first: what is not listed opens nothing any more.
- A random key that was replaced opens for `retention` seconds more; at most `MAX_KEYS` are kept, the oldest goes first.

Whatever is not authentic gives None: a wrong key, a changed byte and garbage look the same. What is inside, and until when it
counts, is the business of those who seal (`quicio.tls.issuing`, `quicio.quic.retry`).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from quicio.environment import DEFAULT_ENVIRONMENT, Environment
from quicio.tls.key_schedule import hkdf_expand_label, hkdf_extract

SECRET_SIZE: Final = 32  # of a random secret, and the least that may be given
KEY_SIZE: Final = 32
IDENTIFIER_SIZE: Final = 8
NONCE_SIZE: Final = 12
TAG_SIZE: Final = 16
OVERHEAD: Final = IDENTIFIER_SIZE + NONCE_SIZE + TAG_SIZE
MAX_KEYS: Final = 16  # the present one and those that still open
HASH: Final = "sha256"


class SealedKey:
    """One key, with the date until which it opens."""

    __slots__ = ("aead", "identifier", "made", "opens_until")

    def __init__(self, secret: bytes, purpose: str, made: float) -> None:
        master = hkdf_extract(HASH, b"quicio rotating keys", secret)
        self.identifier: bytes = hkdf_expand_label(HASH, master, f"{purpose} id", b"", IDENTIFIER_SIZE)
        self.aead: AESGCM = AESGCM(hkdf_expand_label(HASH, master, f"{purpose} key", b"", KEY_SIZE))
        self.made: float = made
        self.opens_until: float = inf


class RotatingKeys:
    """Seals with the newest key, opens with any that is kept.

    `purpose` separates uses of one secret. `rotation` and `retention` are in seconds: for how long a random key seals, and
    for how long it opens once it was replaced.
    """

    def __init__(
        self,
        secrets: Sequence[bytes] = (),
        *,
        purpose: str,
        rotation: float,
        retention: float,
        environment: Environment = DEFAULT_ENVIRONMENT,
    ) -> None:
        self._purpose = purpose
        self._rotation = rotation
        self._retention = retention
        self._environment = environment
        self._keys: list[SealedKey] = []  # newest first
        self._is_random = not secrets
        if secrets:
            self.set_secrets(secrets)
        else:
            self.rotate()

    def set_secrets(self, secrets: Sequence[bytes]) -> None:
        """Rotate: seal with the first secret from now on, open with these and no others.

        Raises `ValueError` for none, for too many, and for one that is too short.
        """
        if not 1 <= len(secrets) <= MAX_KEYS or any(len(secret) < SECRET_SIZE for secret in secrets):
            raise ValueError(f"give 1 to {MAX_KEYS} secrets of at least {SECRET_SIZE} bytes each, random, newest first")
        now = self._environment.wall_clock()
        self._is_random = False
        self._keys = [SealedKey(bytes(secret), self._purpose, now) for secret in secrets]

    def rotate(self) -> None:
        """Seal with a new random key from now on."""
        now = self._environment.wall_clock()
        self._is_random = True
        fresh = SealedKey(self._environment.random_bytes(SECRET_SIZE), self._purpose, now)
        for key in self._keys:
            key.opens_until = min(key.opens_until, now + self._retention)
        self._keys = [fresh, *(key for key in self._keys if key.opens_until > now)][:MAX_KEYS]

    def seal(self, plain: bytes, associated: bytes = b"") -> bytes:
        """Encrypt and authenticate `plain`; `associated` has to be the same when it is opened."""
        if self._is_random and self._environment.wall_clock() >= self._keys[0].made + self._rotation:
            self.rotate()
        key = self._keys[0]
        nonce = self._environment.random_bytes(NONCE_SIZE)
        return key.identifier + nonce + key.aead.encrypt(nonce, plain, associated)

    def open(self, sealed: bytes, associated: bytes = b"") -> bytes | None:
        """What was sealed, or None when that was not done here, too long ago, or with other associated data."""
        if len(sealed) < OVERHEAD:
            return None
        identifier = sealed[:IDENTIFIER_SIZE]
        for key in self._keys:
            if key.identifier == identifier and self._environment.wall_clock() < key.opens_until:
                end = IDENTIFIER_SIZE + NONCE_SIZE
                try:
                    return key.aead.decrypt(sealed[IDENTIFIER_SIZE:end], sealed[end:], associated)
                except InvalidTag:
                    return None
        return None
