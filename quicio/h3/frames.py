"""Frames of HTTP/3: their types and their layout (RFC 9114 §7).

A frame is a type, a length, and that many bytes. `read_frame_header` takes the first two from the front of what has
arrived, or reports that they are not all there yet; what to do with the payload (buffer it, stream it through, skip it)
is for the reader of the stream to decide, because it depends on the type.

Every type is allowed on some streams only (RFC 9114 §7.2, table 1). Those that no stream of a kind may carry are listed
here as sets; what depends on the state of a message is checked where that state is. Types that nobody knows are
skipped, whatever their number, save four numbers which mean that the peer talks HTTP/2 (RFC 9114 §7.2.8).
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from quicio.buffer import UINT_VAR_MAX_SIZE, BufferReadError, encode_uint_var, read_uint_var
from quicio.h3.exceptions import FrameError


class FrameType(IntEnum):
    """Types of frames (RFC 9114 §11.2.1); WEBTRANSPORT_STREAM begins a stream and has no length."""

    DATA = 0x0
    HEADERS = 0x1
    CANCEL_PUSH = 0x3
    SETTINGS = 0x4
    PUSH_PROMISE = 0x5
    GOAWAY = 0x7
    MAX_PUSH_ID = 0xD
    WEBTRANSPORT_STREAM = 0x41


# The same numbers for the paths that every frame takes: comparing plain integers is several times faster.
DATA: Final = 0x0
HEADERS: Final = 0x1
CANCEL_PUSH: Final = 0x3
SETTINGS: Final = 0x4
PUSH_PROMISE: Final = 0x5
GOAWAY: Final = 0x7
MAX_PUSH_ID: Final = 0xD
WEBTRANSPORT_STREAM: Final = 0x41

RESERVED_FRAME_TYPES: Final = (0x2, 0x6, 0x8, 0x9)
CONTROL_ONLY: Final = frozenset({CANCEL_PUSH, SETTINGS, GOAWAY, MAX_PUSH_ID, *RESERVED_FRAME_TYPES})
MESSAGE_ONLY: Final = frozenset({DATA, HEADERS, PUSH_PROMISE, *RESERVED_FRAME_TYPES})

MAX_DATA_FRAME: Final = 65536
"""The most bytes of content that we put into one DATA frame."""

MAX_SETTINGS_FRAME: Final = 16384
"""The longest SETTINGS that we read: a thousand settings at the very least."""


def encode_frame(frame_type: int, frame_data: bytes) -> bytes:
    """A whole frame (RFC 9114 §7.1)."""
    return encode_uint_var(frame_type) + encode_uint_var(len(frame_data)) + frame_data


def encode_data_frames(data: bytes | bytearray | memoryview) -> bytes:
    """`data` in as many DATA frames as `MAX_DATA_FRAME` asks for (RFC 9114 §7.2.1)."""
    size = len(data)
    if size <= MAX_DATA_FRAME:
        return b"".join((b"\x00", encode_uint_var(size), data))
    pieces: list[bytes | memoryview] = []
    view = memoryview(data)
    for start in range(0, size, MAX_DATA_FRAME):
        piece = view[start : start + MAX_DATA_FRAME]
        pieces += (b"\x00", encode_uint_var(len(piece)), piece)
    return b"".join(pieces)


def read_frame_header(data: bytes, position: int) -> tuple[int, int, int] | None:
    """Type, length and the position of the payload of the frame at `position`; None when they have not all arrived."""
    if len(data) - position >= 2 and data[position] < 0x40 and data[position + 1] < 0x80:
        first = data[position + 1]  # nearly all frames: one byte of type, one or two of length
        if first < 0x40:
            return data[position], first, position + 2
        if len(data) - position >= 3:
            return data[position], (first & 0x3F) << 8 | data[position + 2], position + 3
        return None
    try:
        frame_type, position = read_uint_var(data, position)
        size, position = read_uint_var(data, position)
    except BufferReadError:
        return None
    return frame_type, size, position


def read_prefix(data: bytes, position: int = 0) -> tuple[int, int] | None:
    """The variable-length integer at `position` and the position behind it; None when it has not all arrived."""
    try:
        return read_uint_var(data, position)
    except BufferReadError:
        return None


def parse_identifier(data: bytes) -> int:
    """The payload of GOAWAY, MAX_PUSH_ID and CANCEL_PUSH: one integer and nothing else.

    Raises `FrameError` when there is less or more.
    """
    found = read_prefix(data) if len(data) <= UINT_VAR_MAX_SIZE else None
    if found is None or found[1] != len(data):
        raise FrameError("the frame does not hold exactly one identifier")
    return found[0]


def parse_max_push_id(data: bytes) -> int:
    """The push ID in the payload of a MAX_PUSH_ID frame (RFC 9114 §7.2.7); `FrameError` when it is malformed."""
    return parse_identifier(data)
