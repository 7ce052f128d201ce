"""The presentation language: counting is done in one place, and never past the end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quicio.tls.alerts import AlertDecodeError
from quicio.tls.codec import Reader, vector


@given(size=st.integers(1, 3), data=st.binary(max_size=255))
def test_vector(size: int, data: bytes) -> None:
    reader = Reader(vector(size, data) + b"\x7f")
    assert reader.vector(size) == data
    with pytest.raises(AlertDecodeError):
        reader.finish("test")
    assert reader.integer(1) == 0x7F
    assert reader.at_end
    reader.finish("test")


def test_vector_that_does_not_fit() -> None:
    with pytest.raises(OverflowError):
        vector(1, bytes(256))


@pytest.mark.parametrize("size", [1, 2, 4])
def test_reading_past_the_end(size: int) -> None:
    """A failed read moves nothing."""
    reader = Reader(b"\x01\x02\x03")
    reader.take(4 - size)
    with pytest.raises(AlertDecodeError, match="past the end"):
        reader.integer(size)
    assert reader.take(size - 1) == b"\x01\x02\x03"[4 - size :]


def test_bounds_of_a_vector() -> None:
    with pytest.raises(AlertDecodeError, match="not allowed"):
        Reader(b"\x01x").vector(1, minimum=2)
    with pytest.raises(AlertDecodeError, match="not allowed"):
        Reader(b"\x03xyz").vector(1, maximum=2)
    assert Reader(b"\x02xy").vector(1, minimum=2, maximum=2) == b"xy"


def test_left_over() -> None:
    with pytest.raises(AlertDecodeError, match="left over after the message"):
        Reader(b"x").finish("message")
