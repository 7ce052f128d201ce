"""Address validation tokens for Retry packets (RFC 9000 §8.1).

A token says "the client at this address was sent a Retry, with these connection IDs, at this time", sealed so that only those
who share the key can make or read it. The server keeps no state for it. Keys may be shared between the processes of one
service and rotated: tokens are sealed with the first key and opened with any.

A token is: one byte of format version, nonce (12), AES-256-GCM ciphertext of expiry (8 bytes, milliseconds of the wall clock),
original destination and Retry source connection ID, each with its length. The client's address is authenticated with it.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from quicio.environment import DEFAULT_ENVIRONMENT, Environment

TOKEN_LIFETIME: Final = 30.0  # seconds
KEY_SIZE: Final = 32
NONCE_SIZE: Final = 12
FORMAT: Final = b"\x01"
MAX_TOKEN_SIZE: Final = 256  # a token of ours is smaller: larger ones are not even opened


def encode_address(address: Hashable) -> bytes:
    """Bytes that are equal for equal addresses; the port counts, scope fields behind it do not."""
    if isinstance(address, tuple) and len(address) >= 2:
        return f"{address[0]}|{address[1]}".encode()
    return repr(address).encode()


class QuicRetryTokenHandler:
    """Makes and checks Retry tokens.

    `keys`: 32-byte keys, newest first; by default one random key, so that tokens end with the process.
    """

    def __init__(self, keys: Sequence[bytes] = (), *, environment: Environment = DEFAULT_ENVIRONMENT) -> None:
        self._environment = environment
        self._aeads: list[AESGCM] = []
        self.set_keys(keys or (environment.random_bytes(KEY_SIZE),))

    def set_keys(self, keys: Sequence[bytes]) -> None:
        """Rotate: seal with the first key from now on, open with any of them. `ValueError` for keys of another size."""
        if not keys or any(len(key) != KEY_SIZE for key in keys):
            raise ValueError(f"retry keys must have {KEY_SIZE} bytes each, and there must be at least one")
        self._aeads = [AESGCM(bytes(key)) for key in keys]

    def create_token(
        self,
        *,
        address: Hashable,
        original_destination_connection_id: bytes,
        retry_source_connection_id: bytes,
        now: float,
    ) -> bytes:
        """A token for the client at `address`, valid for `TOKEN_LIFETIME` seconds from `now`.

        `now` is a time that whoever checks the token shares: the wall clock, when keys are shared between processes.
        """
        plain = b"".join(
            (
                int((now + TOKEN_LIFETIME) * 1000).to_bytes(8, "big"),
                bytes((len(original_destination_connection_id),)),
                original_destination_connection_id,
                bytes((len(retry_source_connection_id),)),
                retry_source_connection_id,
            )
        )
        nonce = self._environment.random_bytes(NONCE_SIZE)
        return FORMAT + nonce + self._aeads[0].encrypt(nonce, plain, encode_address(address))

    def validate_token(self, *, address: Hashable, destination_cid: bytes, token: bytes, now: float) -> bytes:
        """The original destination connection ID of the client at `address`, which now addresses `destination_cid`.

        Raises `ValueError` when the token is malformed, expired, or was made for another address or connection.
        """
        if not 1 + NONCE_SIZE < len(token) <= MAX_TOKEN_SIZE or token[:1] != FORMAT:
            raise ValueError("Retry token is malformed")
        plain = self._open(token[1 : 1 + NONCE_SIZE], token[1 + NONCE_SIZE :], encode_address(address))
        if int.from_bytes(plain[:8], "big") < now * 1000:
            raise ValueError("Retry token has expired")
        middle = 9 + plain[8]
        if plain[middle + 1 : middle + 1 + plain[middle]] != destination_cid:
            raise ValueError("Retry token belongs to another connection")
        return plain[9:middle]

    def _open(self, nonce: bytes, sealed: bytes, address: bytes) -> bytes:
        for aead in self._aeads:
            try:
                return aead.decrypt(nonce, sealed, address)
            except InvalidTag:
                continue
        raise ValueError("Retry token was not made here for this address")
