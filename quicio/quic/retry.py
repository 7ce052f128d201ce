"""Tokens by which a client proves its address (RFC 9000 §8.1): those of Retry packets, and those of NEW_TOKEN frames.

A Retry token says "the client at this address and port was sent a Retry, with these connection IDs, at this time"; it counts
for `TOKEN_LIFETIME`. A NEW_TOKEN token says "this client was reached at this host", for a later connection of the same QUIC
version (RFC 9369 §5); it counts for `NEW_TOKEN_LIFETIME`, from any port, and once: those that were used are remembered, at
most `MAX_USED_TOKENS` of them, and when one is forgotten all that are as old as it count no more.

Both are sealed, so that only those who share the keys can make or read one, and the server keeps no state for them:

    type (1) | key identifier (8) | nonce (12) | AES-256-GCM ciphertext and tag

The type is authenticated, and so is the address: a token of one type or address is none of another. Keys may be shared between
the processes of one service and rotated (`quicio.tls.rotating_keys`); a Retry token that claims to be ours and is not valid is
an error, a NEW_TOKEN token that is not valid is as good as none (RFC 9000 §8.1.3).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Final

from quicio.environment import DEFAULT_ENVIRONMENT, Environment
from quicio.tls.rotating_keys import IDENTIFIER_SIZE, NONCE_SIZE, RotatingKeys

TOKEN_LIFETIME: Final = 30.0  # seconds for a Retry token
NEW_TOKEN_LIFETIME: Final = 7 * 24 * 3600.0  # seconds for a token of a NEW_TOKEN frame
KEY_ROTATION: Final = 24 * 3600.0  # seconds for which a random key seals
FORMAT: Final = b"\x01"  # type of a Retry token
NEW_TOKEN_FORMAT: Final = b"\x02"
MAX_TOKEN_SIZE: Final = 256  # a token of ours is smaller: larger ones are not even opened
MAX_USED_TOKENS: Final = 16384
DATE_SIZE: Final = 8  # milliseconds of the clock that `now` is of
IDENTITY: Final = slice(1, 1 + IDENTIFIER_SIZE + NONCE_SIZE)  # of a token: no two share it


def encode_address(address: Hashable) -> bytes:
    """Bytes that are equal for equal addresses; the port counts, scope fields behind it do not."""
    if isinstance(address, tuple) and len(address) >= 2:
        return f"{address[0]}|{address[1]}".encode()
    return repr(address).encode()


def encode_host(address: Hashable) -> bytes:
    """Bytes that are equal for addresses of the same host, whatever the port."""
    if isinstance(address, tuple) and len(address) >= 2:
        return str(address[0]).encode()
    return repr(address).encode()


class UsedTokens:
    """Tokens that were used, so that none is twice (RFC 9000 §8.1.4); at most `limit` of them."""

    def __init__(self, limit: int = MAX_USED_TOKENS) -> None:
        self._limit = limit
        self._used: dict[bytes, int] = {}  # date of issue, in the order of use
        self._floor = -1  # tokens issued then or before may have been used and forgotten

    def use(self, identity: bytes, issued: int) -> bool:
        """True the first time; False for what was used, or may have been."""
        if identity in self._used or issued <= self._floor:
            return False
        self._used[identity] = issued
        if len(self._used) > self._limit:
            self._floor = max(self._floor, self._used.pop(next(iter(self._used))))
        return True

    def __len__(self) -> int:
        return len(self._used)


class QuicRetryTokenHandler:
    """Makes and checks address validation tokens.

    `keys`: secrets of 32 random bytes or more, newest first, that processes may share; by default one random key, which is
    replaced now and then, so that tokens end with the process. Times are in seconds; `now` is a time that whoever checks the
    token shares: the wall clock, when keys are shared between processes.
    """

    def __init__(self, keys: Sequence[bytes] = (), *, environment: Environment = DEFAULT_ENVIRONMENT) -> None:
        self._keys = RotatingKeys(
            keys, purpose="token", rotation=KEY_ROTATION, retention=NEW_TOKEN_LIFETIME, environment=environment
        )
        self._used = UsedTokens()

    def set_keys(self, keys: Sequence[bytes]) -> None:
        """Rotate: seal with the first key from now on, open with any of them, and with no others.

        Raises `ValueError` for no keys, too many, or one that is too short.
        """
        self._keys.set_secrets(keys)

    # --- Retry -------------------------------------------------------------------------------------------------------

    def create_token(
        self,
        *,
        address: Hashable,
        original_destination_connection_id: bytes,
        retry_source_connection_id: bytes,
        now: float,
    ) -> bytes:
        """A Retry token for the client at `address`, valid for `TOKEN_LIFETIME` seconds from `now`."""
        plain = b"".join(
            (
                encode_date(now + TOKEN_LIFETIME),
                bytes((len(original_destination_connection_id),)),
                original_destination_connection_id,
                bytes((len(retry_source_connection_id),)),
                retry_source_connection_id,
            )
        )
        return FORMAT + self._keys.seal(plain, FORMAT + encode_address(address))

    def validate_token(self, *, address: Hashable, destination_cid: bytes, token: bytes, now: float) -> bytes:
        """The original destination connection ID of the client at `address`, which now addresses `destination_cid`.

        Raises `ValueError` when the token is malformed, expired, or was made for another address or connection.
        """
        plain = self._open(FORMAT, encode_address(address), token)
        if decode_date(plain) < now * 1000:
            raise ValueError("Retry token has expired")
        middle = DATE_SIZE + 1 + plain[DATE_SIZE]
        if plain[middle + 1 : middle + 1 + plain[middle]] != destination_cid:
            raise ValueError("Retry token belongs to another connection")
        return plain[DATE_SIZE + 1 : middle]

    # --- NEW_TOKEN ---------------------------------------------------------------------------------------------------

    def create_new_token(self, *, address: Hashable, version: int, now: float) -> bytes:
        """A token for a later connection from the host of `address`, with QUIC `version` (RFC 9000 §8.1.3)."""
        plain = encode_date(now + NEW_TOKEN_LIFETIME) + encode_date(now)
        return NEW_TOKEN_FORMAT + self._keys.seal(plain, self._associated(address, version))

    def validate_new_token(self, *, address: Hashable, version: int, token: bytes, now: float) -> None:
        """Accept the token, once. Raises `ValueError` when it does not prove that the client is at `address`."""
        plain = self._open(NEW_TOKEN_FORMAT, self._associated(address, version)[1:], token)
        if decode_date(plain) < now * 1000:
            raise ValueError("token has expired")
        if not self._used.use(token[IDENTITY], decode_date(plain[DATE_SIZE:])):
            raise ValueError("token was used before")

    @staticmethod
    def _associated(address: Hashable, version: int) -> bytes:
        return NEW_TOKEN_FORMAT + version.to_bytes(4, "big") + encode_host(address)

    def _open(self, token_type: bytes, associated: bytes, token: bytes) -> bytes:
        if len(token) > MAX_TOKEN_SIZE or token[:1] != token_type:
            raise ValueError("token is malformed")
        plain = self._keys.open(token[1:], token_type + associated)
        if plain is None:
            raise ValueError("token was not made here for this address")
        return plain


def encode_date(date: float) -> bytes:
    """Milliseconds; a clock of which that cannot be said gives an `OverflowError`."""
    return int(date * 1000).to_bytes(DATE_SIZE, "big")


def decode_date(plain: bytes) -> int:
    """Milliseconds, from the first bytes of what was sealed."""
    return int.from_bytes(plain[:DATE_SIZE], "big")
