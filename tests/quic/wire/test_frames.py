"""Frames of RFC 9000 §19 and RFC 9221 §4: round trips, boundaries, the fact tables, and hostile bytes."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quicio.buffer import encode_uint_var
from quicio.quic.wire import frames
from quicio.quic.wire.constants import FRAME_ENCODING_ERROR, UINT_VAR_MAX, QuicConnectionError
from quicio.quic.wire.rangeset import RangeSet

uint_var = st.one_of(
    st.integers(0, 100), st.integers(0, 1 << 15), st.integers(0, 1 << 31), st.integers(0, UINT_VAR_MAX)
)
stream_count = st.integers(0, 1 << 60)
short_bytes = st.binary(max_size=40)

# Every decoder as (data, position, frame type) -> tuple, by frame type.
DECODERS: dict[int, Callable[[bytes, int, int], tuple[Any, ...]]] = {
    0x02: frames.decode_ack,
    0x03: frames.decode_ack,
    0x04: lambda data, position, _: frames.decode_reset_stream(data, position),
    0x05: lambda data, position, _: frames.decode_stop_sending(data, position),
    0x06: lambda data, position, _: frames.decode_crypto(data, position),
    0x07: lambda data, position, _: frames.decode_new_token(data, position),
    **dict.fromkeys(range(0x08, 0x10), frames.decode_stream),
    0x10: lambda data, position, _: frames.decode_max_data(data, position),
    0x11: lambda data, position, _: frames.decode_max_stream_data(data, position),
    0x12: frames.decode_max_streams,
    0x13: frames.decode_max_streams,
    0x14: lambda data, position, _: frames.decode_data_blocked(data, position),
    0x15: lambda data, position, _: frames.decode_stream_data_blocked(data, position),
    0x16: frames.decode_streams_blocked,
    0x17: frames.decode_streams_blocked,
    0x18: lambda data, position, _: frames.decode_new_connection_id(data, position),
    0x19: lambda data, position, _: frames.decode_retire_connection_id(data, position),
    0x1A: lambda data, position, _: frames.decode_path_challenge(data, position),
    0x1B: lambda data, position, _: frames.decode_path_response(data, position),
    0x1C: lambda data, position, _: frames.decode_transport_close(data, position),
    0x1D: lambda data, position, _: frames.decode_application_close(data, position),
    0x30: frames.decode_datagram,
    0x31: frames.decode_datagram,
}


def decode(frame: bytes, before: bytes = b"", after: bytes = b"") -> tuple[Any, ...]:
    """Decode `frame` in the middle of a packet; check that it was consumed whole and return its fields."""
    *fields, position = DECODERS[frame[0]](before + frame + after, len(before) + 1, frame[0])
    assert position == len(before) + len(frame)
    return tuple(fields)


def assert_malformed(frame: bytes) -> None:
    with pytest.raises(QuicConnectionError) as caught:
        DECODERS[frame[0]](frame, 1, frame[0])
    assert caught.value.error_code == FRAME_ENCODING_ERROR
    assert caught.value.frame_type == frame[0]


def refusal(frame: bytes) -> QuicConnectionError | None:
    """The error by which `frame` is refused; None when it decodes, within the packet. Any other exception is a failure."""
    try:
        *_, position = DECODERS[frame[0]](frame, 1, frame[0])
    except QuicConnectionError as error:
        return error
    assert 1 <= position <= len(frame)
    return None


def assert_truncations_are_malformed(frame: bytes) -> None:
    for size in range(1, len(frame)):
        assert_malformed(frame[:size])


@given(uint_var, uint_var, uint_var, short_bytes, short_bytes)
def test_reset_stream_and_stop_sending_round_trip(
    stream_id: int, code: int, final_size: int, before: bytes, after: bytes
) -> None:
    frame = frames.encode_reset_stream(stream_id, code, final_size)
    assert decode(frame, before, after) == (stream_id, code, final_size)
    assert_truncations_are_malformed(frame)
    frame = frames.encode_stop_sending(stream_id, code)
    assert decode(frame, before, after) == (stream_id, code)
    assert_truncations_are_malformed(frame)


@given(uint_var, uint_var, stream_count, short_bytes)
def test_limits_round_trip(stream_id: int, value: int, count: int, before: bytes) -> None:
    for frame, fields in (
        (frames.encode_max_data(value), (value,)),
        (frames.encode_max_stream_data(stream_id, value), (stream_id, value)),
        (frames.encode_max_streams(count, False), (count,)),
        (frames.encode_max_streams(count, True), (count,)),
        (frames.encode_data_blocked(value), (value,)),
        (frames.encode_stream_data_blocked(stream_id, value), (stream_id, value)),
        (frames.encode_streams_blocked(count, False), (count,)),
        (frames.encode_streams_blocked(count, True), (count,)),
        (frames.encode_retire_connection_id(value), (value,)),
    ):
        assert decode(frame, before, b"\x01") == fields
        assert_truncations_are_malformed(frame)


def test_directions_have_their_own_types() -> None:
    assert frames.encode_max_streams(1, False)[0] == 0x12
    assert frames.encode_max_streams(1, True)[0] == 0x13
    assert frames.encode_streams_blocked(1, False)[0] == 0x16
    assert frames.encode_streams_blocked(1, True)[0] == 0x17


@pytest.mark.rfc("9000", "19.11", "MUST")
@pytest.mark.parametrize("frame_type", [0x12, 0x13, 0x16, 0x17])
def test_stream_counts_above_2_60_are_malformed(frame_type: int) -> None:
    decode(bytes((frame_type,)) + encode_uint_var(1 << 60))
    assert_malformed(bytes((frame_type,)) + encode_uint_var((1 << 60) + 1))


@given(st.integers(0, UINT_VAR_MAX - 100), short_bytes, short_bytes, short_bytes)
def test_crypto_round_trip(offset: int, payload: bytes, before: bytes, after: bytes) -> None:
    frame = frames.encode_crypto_header(offset, len(payload)) + payload
    got_offset, start, end = decode(frame, before, after)
    assert got_offset == offset
    assert (before + frame)[start:end] == payload
    assert_truncations_are_malformed(frame)


@pytest.mark.rfc("9000", "19.6", "MUST")
def test_crypto_offsets_end_at_2_62() -> None:
    decode(frames.encode_crypto_header(UINT_VAR_MAX - 1, 1) + b"x")
    assert_malformed(frames.encode_crypto_header(UINT_VAR_MAX, 1) + b"x")


@given(st.binary(min_size=1, max_size=100), short_bytes)
def test_new_token_round_trip(token: bytes, after: bytes) -> None:
    frame = frames.encode_new_token(token)
    assert decode(frame, b"", after) == (token,)
    assert_truncations_are_malformed(frame)


@pytest.mark.rfc("9000", "19.7", "MUST")
def test_empty_tokens_are_malformed() -> None:
    assert_malformed(b"\x07\x00")
    with pytest.raises(ValueError, match="empty"):
        frames.encode_new_token(b"")


@given(uint_var, st.integers(0, UINT_VAR_MAX - 20000), st.integers(0, 20000), st.booleans(), short_bytes, short_bytes)
def test_stream_with_length_round_trip(
    stream_id: int, offset: int, length: int, fin: bool, before: bytes, after: bytes
) -> None:
    header = frames.encode_stream_header(stream_id, offset, length, fin, True)
    frame = header + bytes(length)
    start = len(before) + len(header)
    assert decode(frame, before, after) == (stream_id, offset, start, start + length, fin)
    assert_truncations_are_malformed(header if length else header[:-1])


@given(uint_var, st.integers(0, UINT_VAR_MAX - 100), short_bytes, st.booleans(), short_bytes)
def test_stream_without_length_takes_the_rest(
    stream_id: int, offset: int, payload: bytes, fin: bool, before: bytes
) -> None:
    header = frames.encode_stream_header(stream_id, offset, len(payload), fin, False)
    start = len(before) + len(header)
    assert decode(header + payload, before) == (stream_id, offset, start, start + len(payload), fin)
    assert_truncations_are_malformed(header)


@pytest.mark.parametrize("offset", [0, 1, 63, 64, 16383, 16384, (1 << 30) - 1, 1 << 30])
@pytest.mark.parametrize("stream_id", [0, 63, 64, 16383, 16384])
@pytest.mark.parametrize("length", [0, 63, 64, 16383, 16384])
@pytest.mark.parametrize("with_length", [False, True])
def test_stream_headers_take_the_shortest_form(stream_id: int, offset: int, length: int, with_length: bool) -> None:
    """The shapes that are packed at once must not differ from the general one."""
    header = frames.encode_stream_header(stream_id, offset, length, False, with_length)
    expected = bytes((0x08 | bool(offset) << 2 | with_length << 1,)) + encode_uint_var(stream_id)
    expected += encode_uint_var(offset) if offset else b""
    expected += encode_uint_var(length) if with_length else b""
    assert header == expected
    fin = frames.encode_stream_header(stream_id, offset, length, True, with_length)
    assert fin == bytes((header[0] | 1,)) + header[1:]


@pytest.mark.rfc("9000", "19.8", "MUST")
@pytest.mark.parametrize("with_length", [False, True])
def test_stream_offsets_end_at_2_62(with_length: bool) -> None:
    decode(frames.encode_stream_header(0, UINT_VAR_MAX - 1, 1, False, with_length) + b"x")
    assert_malformed(frames.encode_stream_header(0, UINT_VAR_MAX, 1, False, with_length) + b"x")


def test_stream_length_must_fit_the_packet() -> None:
    assert_malformed(frames.encode_stream_header(0, 5, 10, False, True) + bytes(9))


@given(st.integers(1, UINT_VAR_MAX), st.integers(1, 20), st.data(), short_bytes)
def test_new_connection_id_round_trip(sequence: int, size: int, data: st.DataObject, after: bytes) -> None:
    retire_prior_to = data.draw(st.integers(0, sequence))
    cid, token = data.draw(st.binary(min_size=size, max_size=size)), data.draw(st.binary(min_size=16, max_size=16))
    frame = frames.encode_new_connection_id(sequence, retire_prior_to, cid, token)
    assert decode(frame, b"", after) == (sequence, retire_prior_to, cid, token)
    assert_truncations_are_malformed(frame)


@pytest.mark.rfc("9000", "19.15", "MUST")
def test_new_connection_id_checks_its_fields() -> None:
    token = bytes(16)
    assert_malformed(b"\x18\x01\x00\x00" + token)
    assert_malformed(b"\x18\x01\x00\x15" + bytes(21) + token)
    assert_malformed(b"\x18\x01\x02\x08" + bytes(8) + token)
    with pytest.raises(ValueError, match="1 to 20"):
        frames.encode_new_connection_id(1, 0, b"", token)
    with pytest.raises(ValueError, match="1 to 20"):
        frames.encode_new_connection_id(1, 0, bytes(21), token)
    with pytest.raises(ValueError, match="16 bytes"):
        frames.encode_new_connection_id(1, 0, bytes(8), token[1:])


@given(st.binary(min_size=8, max_size=8), short_bytes)
def test_path_frames_round_trip(data: bytes, after: bytes) -> None:
    for frame in (frames.encode_path_challenge(data), frames.encode_path_response(data)):
        assert decode(frame, b"", after) == (data,)
        assert_truncations_are_malformed(frame)


def test_path_frames_carry_eight_bytes() -> None:
    with pytest.raises(ValueError, match="8 bytes"):
        frames.encode_path_challenge(bytes(7))
    with pytest.raises(ValueError, match="8 bytes"):
        frames.encode_path_response(bytes(9))


@given(uint_var, uint_var, short_bytes, short_bytes)
def test_connection_close_round_trip(code: int, frame_type: int, reason: bytes, after: bytes) -> None:
    frame = frames.encode_transport_close(code, frame_type, reason)
    assert decode(frame, b"", after) == (code, frame_type, reason)
    assert_truncations_are_malformed(frame)
    frame = frames.encode_application_close(code, reason)
    assert decode(frame, b"", after) == (code, reason)
    assert_truncations_are_malformed(frame)


@given(short_bytes, short_bytes, short_bytes)
def test_datagram_round_trip(payload: bytes, before: bytes, after: bytes) -> None:
    frame = frames.encode_datagram_header(len(payload), True) + payload
    start, end = decode(frame, before, after)
    assert (before + frame)[start:end] == payload
    assert_truncations_are_malformed(frame)
    frame = frames.encode_datagram_header(len(payload), False) + payload
    start, end = decode(frame, before)
    assert (before + frame)[start:end] == payload


# --- ACK


range_sets = st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 200)), min_size=1, max_size=60).map(
    lambda pairs: RangeSet([range(start, start + size) for start, size in pairs])
)
ecn_counts = st.one_of(st.none(), st.tuples(uint_var, uint_var, uint_var))


def flat(ranges: RangeSet, count: int) -> list[int]:
    result: list[int] = []
    for item in list(ranges)[::-1][:count]:
        result += [item.start, item.stop]
    return result


@given(range_sets, uint_var, ecn_counts, short_bytes, short_bytes)
def test_ack_round_trip(
    ranges: RangeSet, delay: int, ecn: tuple[int, int, int] | None, before: bytes, after: bytes
) -> None:
    frame = frames.encode_ack(ranges, delay, ecn, 1 << 16)
    assert frame[0] == (0x02 if ecn is None else 0x03)
    assert decode(frame, before, after) == (flat(ranges, frames.MAX_ACK_RANGES), delay, ecn)
    assert_truncations_are_malformed(frame)


@given(range_sets, uint_var, ecn_counts, st.integers(0, 120))
def test_ack_fits_its_room_with_the_newest_ranges(
    ranges: RangeSet, delay: int, ecn: tuple[int, int, int] | None, room: int
) -> None:
    frame = frames.encode_ack(ranges, delay, ecn, room)
    assert len(frame) <= room
    if not frame:
        newest = RangeSet([ranges[-1]])
        assert len(frames.encode_ack(newest, delay, ecn, 1 << 16)) > room
        return
    decoded = decode(frame)[0]
    count = len(decoded) // 2
    assert decoded == flat(ranges, count)
    if count < min(len(ranges), frames.MAX_ACK_RANGES):
        # One more range would not have fitted.
        more = RangeSet(list(ranges)[-(count + 1) :])
        assert len(frames.encode_ack(more, delay, ecn, 1 << 16)) > room


def test_ack_of_nothing_is_nothing() -> None:
    assert frames.encode_ack(RangeSet(), 0, None, 100) == b""


def test_ack_with_64_bit_numbers() -> None:
    ranges = RangeSet([range(3), range(1 << 40, UINT_VAR_MAX)])
    assert decode(frames.encode_ack(ranges, 0, None, 100))[0] == [1 << 40, UINT_VAR_MAX, 0, 3]


@pytest.mark.rfc("9000", "19.3.1", "MUST")
def test_negative_packet_numbers_are_malformed() -> None:
    decode(b"\x02\x05\x00\x00\x05")
    assert_malformed(b"\x02\x05\x00\x00\x06")
    decode(b"\x02\x05\x00\x01\x02\x01\x00")
    assert_malformed(b"\x02\x05\x00\x01\x02\x02\x00")
    assert_malformed(b"\x02\x05\x00\x01\x02\x01\x01")


def test_ack_range_count_is_bounded_by_the_packet() -> None:
    """Security row 7: a count of ranges that cannot be there fails before any range is read."""
    assert_malformed(b"\x02" + encode_uint_var(UINT_VAR_MAX) + b"\x00" + encode_uint_var(UINT_VAR_MAX) + b"\x00" * 1200)
    # The largest list a packet can make the decoder build: two bytes a range.
    count = 600
    frame = b"\x02" + encode_uint_var(5000) + b"\x00" + encode_uint_var(count) + b"\x00" + bytes(2 * count)
    assert len(decode(frame)[0]) == 2 * (count + 1)


# --- hostile bytes, and the tables


@given(st.sampled_from(sorted(DECODERS)), st.binary(max_size=60))
def test_decoders_raise_one_error_only(frame_type: int, body: bytes) -> None:
    """Security row 13: whatever follows a frame type is a frame or FRAME_ENCODING_ERROR."""
    error = refusal(bytes((frame_type,)) + body)
    assert error is None or (error.error_code, error.frame_type) == (FRAME_ENCODING_ERROR, frame_type)


SAMPLES = [
    frames.encode_ack(RangeSet([range(70), range(100, 40000)]), 70, (1, 2, 300), 100),
    frames.encode_reset_stream(4, 100, 70000),
    frames.encode_crypto_header(100, 5) + b"hello",
    frames.encode_stream_header(70, 70000, 5, True, True) + b"hello",
    frames.encode_new_connection_id(9, 3, bytes(8), bytes(16)),
    frames.encode_transport_close(10, 6, b"reason"),
    frames.encode_datagram_header(5, True) + b"hello",
]


@given(st.sampled_from(SAMPLES), st.integers(0, 100), st.integers(1, 255), st.integers(0, 100))
def test_damaged_frames_raise_one_error_only(sample: bytes, where: int, flip: int, cut: int) -> None:
    """Security row 13, from frames that were valid before a byte changed and the end was lost."""
    damaged = bytearray(sample)
    index = 1 + where % (len(sample) - 1)
    damaged[index] ^= flip
    error = refusal(bytes(damaged[: max(len(damaged) - cut % 4, 1)]))
    assert error is None or (error.error_code, error.frame_type) == (FRAME_ENCODING_ERROR, sample[0])


# RFC 9000 table 3: packet types I, 0, H, 1 as the bits 1, 2, 4, 8; then N (not ack-eliciting) and P (probing).
TABLE_3 = {
    0x00: ("IH01", "NP"),
    0x01: ("IH01", ""),
    0x02: ("IH1", "N"),
    0x03: ("IH1", "N"),
    0x04: ("01", ""),
    0x05: ("01", ""),
    0x06: ("IH1", ""),
    0x07: ("1", ""),
    **dict.fromkeys(range(0x08, 0x18), ("01", "")),
    0x18: ("01", "P"),
    0x19: ("01", ""),
    0x1A: ("01", "P"),
    0x1B: ("1", "P"),
    0x1C: ("IH01", "N"),
    0x1D: ("01", "N"),
    0x1E: ("1", ""),
    0x30: ("01", ""),
    0x31: ("01", ""),
}
BITS = {"I": 1, "0": 2, "H": 4, "1": 8}


@pytest.mark.rfc("9000", "12.4", "MUST")
@pytest.mark.parametrize("frame_type", range(64))
def test_fact_tables_follow_table_3(frame_type: int) -> None:
    """Security row 15: which packet may carry which frame."""
    packets, rules = TABLE_3.get(frame_type, ("", "N"))
    assert frames.ALLOWED[frame_type] == sum(BITS[packet] for packet in packets)
    assert frames.ACK_ELICITING[frame_type] == ("N" not in rules)
    assert frames.PROBING[frame_type] == ("P" in rules)


def test_constant_frames() -> None:
    assert frames.PING_FRAME == b"\x01"
    assert frames.HANDSHAKE_DONE_FRAME == b"\x1e"
