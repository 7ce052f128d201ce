"""Stateless reset: its token and its datagram (RFC 9000 §10.3).

A token is a keyed hash of the connection ID it belongs to, so that an endpoint that has lost its state, but not its
key, can still say that it has. The datagram looks like a short header packet: unpredictable bytes with the token at the
end.

Rules:
- A reset is smaller than the datagram that caused it. Two endpoints without state can therefore not answer each other
  for ever, and a reset amplifies nothing (RFC 9000 §10.3.3).
- It has 21 bytes or more, the least that a short header packet can have; a datagram too small to be answered by that
  gets no answer.
- Tokens are compared in constant time (RFC 9000 §10.3.1).
"""

import hmac
from typing import Final

from quicio.quic.wire.constants import STATELESS_RESET_TOKEN_SIZE

MINIMUM_SIZE: Final = 21  # RFC 9000 §10.3: five unpredictable bytes and the token
# Unpredictable bytes worth supplying: with the token 42 bytes, as a small packet has.
UNPREDICTABLE_SIZE: Final = 26


def reset_token(key: bytes, cid: bytes) -> bytes:
    """The stateless reset token of the connection ID `cid` under the endpoint's static `key` (RFC 9000 §10.3.2)."""
    return hmac.digest(key, cid, "sha256")[:STATELESS_RESET_TOKEN_SIZE]


def encode_stateless_reset(token: bytes, trigger_size: int, random: bytes) -> bytes | None:
    """A stateless reset with `token` in answer to a datagram of `trigger_size` bytes, or None when that is too small.

    `random` supplies the unpredictable bytes, `UNPREDICTABLE_SIZE` of them for choice; as many as keep the reset
    smaller than its trigger are used. Raises ValueError for a token that has not 16 bytes.
    """
    if len(token) != STATELESS_RESET_TOKEN_SIZE:
        raise ValueError(f"A stateless reset token takes 16 bytes, got {len(token)}")
    size = min(trigger_size - 1, len(random) + STATELESS_RESET_TOKEN_SIZE)
    if size < MINIMUM_SIZE:
        return None
    # Short header form, fixed bit set.
    first_byte = 0x40 | random[0] & 0x3F
    return bytes((first_byte,)) + random[1 : size - STATELESS_RESET_TOKEN_SIZE] + token


def token_of(datagram: bytes) -> bytes | None:
    """The bytes of `datagram` that are a token if it is a stateless reset; None when it is too small for one."""
    if len(datagram) < MINIMUM_SIZE:
        return None
    return datagram[-STATELESS_RESET_TOKEN_SIZE:]


def tokens_equal(first: bytes, second: bytes) -> bool:
    """Compare two tokens in time that tells nothing about where they differ."""
    return hmac.compare_digest(first, second)
