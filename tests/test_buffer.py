"""`quicio.buffer`: varints and the cursor (RFC 9000 §16)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.vectors import load_vectors
from quicio.buffer import (
    UINT_VAR_MAX,
    UINT_VAR_MAX_SIZE,
    Buffer,
    BufferReadError,
    BufferWriteError,
    encode_uint_var,
    read_uint_var,
    size_uint_var,
)

VECTORS = load_vectors("rfc9000-varint-pn")


@pytest.mark.rfc("9000", "16", "")
@pytest.mark.parametrize("row", VECTORS["varint_from_rfc"], ids=lambda row: row["hex"])
def test_printed_examples_decode(row: dict[str, str | int]) -> None:
    data = bytes.fromhex(str(row["hex"]))
    assert read_uint_var(data, 0) == (row["value"], len(data))
    assert read_uint_var(b"\xff" + data + b"\xff", 1) == (row["value"], len(data) + 1)
    assert Buffer(data=data).pull_uint_var() == row["value"]


@pytest.mark.parametrize("row", VECTORS["varint_boundaries_computed"], ids=lambda row: row["shortest_hex"])
def test_boundaries_take_the_shortest_form(row: dict[str, str | int]) -> None:
    value, shortest = int(row["value"]), bytes.fromhex(str(row["shortest_hex"]))
    assert encode_uint_var(value) == shortest
    assert size_uint_var(value) == len(shortest)
    assert read_uint_var(shortest, 0) == (value, len(shortest))
    buffer = Buffer(capacity=UINT_VAR_MAX_SIZE)
    buffer.push_uint_var(value)
    assert buffer.data == shortest


@pytest.mark.parametrize("value", [-1, UINT_VAR_MAX + 1])
def test_values_outside_62_bits_are_refused(value: int) -> None:
    with pytest.raises(ValueError, match="variable-length integer"):
        encode_uint_var(value)
    with pytest.raises(ValueError, match="variable-length integer"):
        size_uint_var(value)
    with pytest.raises(ValueError, match="variable-length integer"):
        Buffer(capacity=8).push_uint_var(value)


@given(st.integers(0, UINT_VAR_MAX), st.binary(max_size=4), st.binary(max_size=4))
def test_varints_round_trip_anywhere(value: int, before: bytes, after: bytes) -> None:
    encoded = encode_uint_var(value)
    assert len(encoded) == size_uint_var(value)
    assert read_uint_var(before + encoded + after, len(before)) == (value, len(before) + len(encoded))


@given(st.integers(0, UINT_VAR_MAX))
def test_every_truncation_is_a_read_error(value: int) -> None:
    encoded = encode_uint_var(value)
    for size in range(len(encoded)):
        with pytest.raises(BufferReadError):
            read_uint_var(encoded[:size], 0)
        buffer = Buffer(data=encoded[:size])
        with pytest.raises(BufferReadError):
            buffer.pull_uint_var()
        assert buffer.tell() == 0


def test_errors_are_value_errors() -> None:
    assert issubclass(BufferReadError, ValueError)
    assert issubclass(BufferWriteError, ValueError)


def test_integers_are_in_network_byte_order() -> None:
    data = bytes(range(1, 16))
    buffer = Buffer(data=data)
    assert buffer.pull_uint8() == 0x01
    assert buffer.pull_uint16() == 0x0203
    assert buffer.pull_uint32() == 0x04050607
    assert buffer.pull_uint64() == 0x08090A0B0C0D0E0F
    assert buffer.eof()

    written = Buffer(capacity=15)
    written.push_uint8(0x01)
    written.push_uint16(0x0203)
    written.push_uint32(0x04050607)
    assert not written.eof()
    written.push_uint64(0x08090A0B0C0D0E0F)
    assert written.eof()
    assert written.data == data


def test_reads_past_the_end_leave_the_cursor() -> None:
    buffer = Buffer(data=b"\x01\x02\x03")
    assert buffer.pull_bytes(2) == b"\x01\x02"
    for read in (buffer.pull_uint16, buffer.pull_uint32, buffer.pull_uint64):
        with pytest.raises(BufferReadError):
            read()
    with pytest.raises(BufferReadError):
        buffer.pull_bytes(2)
    with pytest.raises(BufferReadError):
        buffer.pull_bytes(-1)
    assert buffer.tell() == 2
    assert buffer.pull_uint8() == 3
    with pytest.raises(BufferReadError):
        buffer.pull_uint8()


def test_writes_past_the_capacity_leave_the_cursor() -> None:
    buffer = Buffer(capacity=3)
    buffer.push_bytes(b"\x01\x02")
    with pytest.raises(BufferWriteError):
        buffer.push_bytes(b"\x03\x04")
    with pytest.raises(BufferWriteError):
        buffer.push_uint16(3)
    with pytest.raises(BufferWriteError):
        buffer.push_uint_var(64)
    assert buffer.data == b"\x01\x02"
    assert buffer.capacity == 3


@pytest.mark.parametrize(("method", "size"), [("push_uint8", 1), ("push_uint16", 2), ("push_uint32", 4)])
def test_integers_too_big_for_their_field_are_refused(method: str, size: int) -> None:
    buffer = Buffer(capacity=8)
    for value in (-1, 1 << 8 * size):
        with pytest.raises(ValueError, match=f"{8 * size} bits"):
            getattr(buffer, method)(value)
    getattr(buffer, method)((1 << 8 * size) - 1)
    assert buffer.data == b"\xff" * size


def test_seek_and_slices_stay_inside() -> None:
    buffer = Buffer(data=b"\x01\x02\x03")
    buffer.seek(3)
    assert buffer.eof()
    assert buffer.data == b"\x01\x02\x03"
    buffer.seek(1)
    assert buffer.tell() == 1
    assert buffer.data == b"\x01"
    for position in (-1, 4):
        with pytest.raises(BufferReadError):
            buffer.seek(position)
    assert buffer.data_slice(1, 3) == b"\x02\x03"
    for start, end in ((-1, 1), (2, 1), (0, 4)):
        with pytest.raises(BufferReadError):
            buffer.data_slice(start, end)
    assert buffer.tell() == 1


def test_capacity_defaults_to_nothing_and_is_not_negative() -> None:
    assert Buffer().capacity == 0
    assert Buffer(None).capacity == 0
    assert Buffer(data=b"").eof()
    with pytest.raises(ValueError, match="negative"):
        Buffer(capacity=-1)
