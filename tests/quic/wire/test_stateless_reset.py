"""Stateless reset: token, sizes, comparison (RFC 9000 §10.3). Security row 12."""

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quicio.quic.wire import stateless_reset
from quicio.quic.wire.headers import FIXED_BIT, LONG_HEADER_BIT

KEY = bytes(range(32))
RANDOM = bytes(range(200, 200 + stateless_reset.UNPREDICTABLE_SIZE))


def test_token_is_a_keyed_hash_of_the_connection_id() -> None:
    token = stateless_reset.reset_token(KEY, b"connection")
    assert token == hmac.new(KEY, b"connection", hashlib.sha256).digest()[:16]
    assert token != stateless_reset.reset_token(KEY, b"Connection")
    assert token != stateless_reset.reset_token(KEY[1:], b"connection")


@pytest.mark.rfc("9000", "10.3.3", "MUST")
@given(st.integers(0, 2000), st.integers(0, 60))
def test_a_reset_is_smaller_than_its_trigger(trigger_size: int, random_size: int) -> None:
    """Security row 12: never as large as the trigger, so that resets cannot loop; never below 21 bytes."""
    token = stateless_reset.reset_token(KEY, b"connection")
    reset = stateless_reset.encode_stateless_reset(token, trigger_size, bytes([0xFF]) * random_size)
    if trigger_size <= 21 or random_size < 5:
        assert reset is None
        return
    assert reset is not None
    assert 21 <= len(reset) < trigger_size
    assert len(reset) == min(trigger_size - 1, random_size + 16)
    assert reset.endswith(token)
    assert not reset[0] & LONG_HEADER_BIT
    assert reset[0] & FIXED_BIT


@pytest.mark.rfc("9000", "10.3", "SHOULD")
def test_small_triggers_get_one_byte_less() -> None:
    token = bytes(16)
    for trigger_size in range(22, 44):
        reset = stateless_reset.encode_stateless_reset(token, trigger_size, RANDOM)
        assert reset is not None
        assert len(reset) == trigger_size - 1


def test_unpredictable_bytes_are_the_ones_supplied() -> None:
    reset = stateless_reset.encode_stateless_reset(bytes(16), 1200, RANDOM)
    assert reset is not None
    assert reset[0] & 0x3F == RANDOM[0] & 0x3F
    assert reset[1:-16] == RANDOM[1:]


def test_tokens_have_sixteen_bytes() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        stateless_reset.encode_stateless_reset(bytes(15), 1200, RANDOM)


def test_token_of_a_datagram() -> None:
    assert stateless_reset.token_of(bytes(20)) is None
    assert stateless_reset.token_of(bytes(5) + KEY[:16]) == KEY[:16]


def test_comparison() -> None:
    assert stateless_reset.tokens_equal(KEY[:16], KEY[:16])
    assert not stateless_reset.tokens_equal(KEY[:16], KEY[1:17])
    assert not stateless_reset.tokens_equal(KEY[:16], KEY[:15])
