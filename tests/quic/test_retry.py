"""Retry tokens: sealed, expiring, bound to address and connection, shareable (RFC 9000 §8.1)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quicio.quic.retry import (
    MAX_TOKEN_SIZE,
    NEW_TOKEN_LIFETIME,
    TOKEN_LIFETIME,
    QuicRetryTokenHandler,
    UsedTokens,
    encode_address,
)

ADDRESS = ("192.0.2.1", 4433)


def token_of(handler: QuicRetryTokenHandler, now: float = 100.0) -> bytes:
    return handler.create_token(
        address=ADDRESS, original_destination_connection_id=b"original", retry_source_connection_id=b"retry", now=now
    )


def test_a_token_comes_back() -> None:
    handler = QuicRetryTokenHandler()
    token = token_of(handler)
    assert handler.validate_token(address=ADDRESS, destination_cid=b"retry", token=token, now=101.0) == b"original"


@pytest.mark.parametrize(
    ("address", "cid", "now", "reason"),
    [
        (("192.0.2.2", 4433), b"retry", 101.0, "not made here"),
        (("192.0.2.1", 4434), b"retry", 101.0, "not made here"),
        (ADDRESS, b"other", 101.0, "another connection"),
        (ADDRESS, b"retry", 100.0 + TOKEN_LIFETIME + 1, "expired"),
    ],
)
def test_a_token_is_good_for_one_address_connection_and_time(
    address: tuple[str, int], cid: bytes, now: float, reason: str
) -> None:
    handler = QuicRetryTokenHandler()
    token = token_of(handler)
    with pytest.raises(ValueError, match=reason):
        handler.validate_token(address=address, destination_cid=cid, token=token, now=now)


def test_keys_are_shared_and_rotated() -> None:
    old, new = bytes(32), b"n" * 32
    maker = QuicRetryTokenHandler([old])
    reader = QuicRetryTokenHandler([new, old])
    token = token_of(maker)
    assert reader.validate_token(address=ADDRESS, destination_cid=b"retry", token=token, now=101.0)
    reader.set_keys([new])
    with pytest.raises(ValueError, match="not made here"):
        reader.validate_token(address=ADDRESS, destination_cid=b"retry", token=token, now=101.0)


@pytest.mark.parametrize("keys", [[], [b"short"]])
def test_keys_have_one_size(keys: list[bytes]) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        QuicRetryTokenHandler().set_keys(keys)


@given(st.binary(max_size=MAX_TOKEN_SIZE + 20))
def test_whatever_is_not_a_token_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        QuicRetryTokenHandler([bytes(32)]).validate_token(address=ADDRESS, destination_cid=b"", token=data, now=0.0)


def test_addresses_that_are_not_tuples_can_be_bound_too() -> None:
    assert encode_address("host") == encode_address("host") != encode_address("other")
    assert encode_address(("::1", 5, 0, 0)) == encode_address(("::1", 5))


# NEW_TOKEN.


def new_token(handler: QuicRetryTokenHandler, now: float = 100.0) -> bytes:
    return handler.create_new_token(address=ADDRESS, version=1, now=now)


def refuses(handler: QuicRetryTokenHandler, token: bytes, why: str, **changes: object) -> None:
    values: dict[str, object] = {"address": ADDRESS, "version": 1, "token": token, "now": 101.0}
    with pytest.raises(ValueError, match=why):
        handler.validate_new_token(**(values | changes))  # type: ignore[arg-type]  # the values are of these types


def test_new_token_counts_from_any_port_and_once() -> None:
    """Security row 8: an address is not proven by a token that was used before (RFC 9000 §8.1.4)."""
    handler = QuicRetryTokenHandler()
    token = new_token(handler)
    handler.validate_new_token(address=(ADDRESS[0], 9), version=1, token=token, now=101.0)
    refuses(handler, token, "used before")
    refuses(handler, new_token(handler), "not made here", address=("10.9.9.9", ADDRESS[1]))
    refuses(handler, new_token(handler), "not made here", version=2)
    refuses(handler, new_token(handler), "expired", now=101.0 + NEW_TOKEN_LIFETIME)
    refuses(QuicRetryTokenHandler(), new_token(handler), "not made here")
    handler.validate_new_token(
        address="opaque", version=1, now=1.0, token=handler.create_new_token(address="opaque", version=1, now=0.0)
    )


def test_the_two_types_are_not_exchanged() -> None:
    handler = QuicRetryTokenHandler()
    retry, new = token_of(handler), new_token(handler)
    refuses(handler, retry, "malformed")
    refuses(handler, b"\x02" + retry[1:], "not made here")
    for token in (new, b"\x01" + new[1:]):
        with pytest.raises(ValueError, match=r"malformed|not made here"):
            handler.validate_token(address=ADDRESS, destination_cid=b"retry", token=token, now=101.0)


def test_used_tokens_are_bounded() -> None:
    """Security row 26: what was forgotten, and all as old, count no more."""
    used = UsedTokens(limit=2)
    assert [used.use(bytes((number,)), number) for number in (5, 7, 9)] == [True, True, True]
    assert len(used) == 2
    assert not used.use(b"\5", 5)
    assert not used.use(b"another of that time", 5)
    assert used.use(b"younger", 6)
