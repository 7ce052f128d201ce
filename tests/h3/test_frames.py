"""The layout of frames."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quicio.buffer import UINT_VAR_MAX, encode_uint_var
from quicio.h3.exceptions import FrameError
from quicio.h3.frames import (
    MAX_DATA_FRAME,
    FrameType,
    encode_data_frames,
    encode_frame,
    parse_identifier,
    parse_max_push_id,
    read_frame_header,
    read_prefix,
)


def test_a_frame_is_type_length_payload() -> None:
    assert encode_frame(FrameType.HEADERS, b"abc") == b"\x01\x03abc"
    assert encode_frame(0x41, b"") == b"\x40\x41\x00"


@given(st.integers(0, UINT_VAR_MAX), st.integers(0, UINT_VAR_MAX), st.binary(max_size=3))
def test_a_header_is_read_when_it_is_whole(frame_type: int, size: int, before: bytes) -> None:
    header = encode_uint_var(frame_type) + encode_uint_var(size)
    data = before + header + b"payload"
    assert read_frame_header(data, len(before)) == (frame_type, size, len(before) + len(header))
    for missing in range(1, len(header) + 1):
        assert read_frame_header(before + header[:-missing], len(before)) is None


def test_longer_forms_of_a_number_are_read_too() -> None:
    assert read_frame_header(b"\x40\x01\x80\x00\x00\x05", 0) == (1, 5, 6)


@pytest.mark.parametrize("size", [0, 1, 100, MAX_DATA_FRAME, MAX_DATA_FRAME + 1, 3 * MAX_DATA_FRAME, 200_000])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_content_is_cut_into_frames_of_bounded_size(size: int, kind: type) -> None:
    content = bytes(i % 251 for i in range(size))
    encoded = encode_data_frames(kind(content))
    position = 0
    found = b""
    while position < len(encoded):
        header = read_frame_header(encoded, position)
        assert header is not None
        frame_type, length, position = header
        assert frame_type == FrameType.DATA
        assert length <= MAX_DATA_FRAME
        found += encoded[position : position + length]
        position += length
    assert found == content


def test_payloads_that_are_one_number() -> None:
    assert parse_max_push_id(b"\x40\x08") == 8
    for payload in (b"", b"\x40", b"\x01\x02", b"\xc0" + bytes(7) + b"\x00"):
        with pytest.raises(FrameError):
            parse_identifier(payload)


def test_a_prefix_is_read_when_it_is_whole() -> None:
    assert read_prefix(b"\x03") == (3, 1)
    assert read_prefix(b"\x00\x40\x41rest", 1) == (0x41, 3)
    assert read_prefix(b"\x40") is None
    assert read_prefix(b"") is None
