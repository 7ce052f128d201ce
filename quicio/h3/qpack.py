"""Field compression (RFC 9204), by pylsqpack, with the limits that it does not have itself.

A field section of a few bytes can decode to megabytes, because one byte may stand for a table entry of 4 kB. What a
peer can make us hold is bounded three times: the encoded section by the size of its frame; the number of field lines,
counted before anything is decoded, by what a section of the allowed size can have (each line counts 32 bytes more than
its text, RFC 9114 §4.2.2); the decoded size by the limit that was announced in SETTINGS_MAX_FIELD_SECTION_SIZE.

Sections that refer to table entries which have not arrived yet block their stream. How many streams may be blocked at
once was announced in SETTINGS_QPACK_BLOCKED_STREAMS, and the codec enforces it; how many bytes they hold is the
business of whoever holds them. A section that nobody will read any more has to be cancelled, or the peer's encoder
could never evict what it refers to (RFC 9204 §2.2.2.2).

Instructions for the peer are returned as bytes: to send them on the right stream is left to the caller.
"""

from __future__ import annotations

from itertools import chain
from typing import Final

from pylsqpack import Decoder, DecoderStreamError, DecompressionFailed, Encoder, EncoderStreamError, StreamBlocked

from quicio.h3.events import Headers
from quicio.h3.exceptions import (
    FieldSectionTooLarge,
    QpackDecoderStreamError,
    QpackDecompressionFailed,
    QpackEncoderStreamError,
)

__all__ = ["FieldCoding", "StreamBlocked", "field_section_size", "has_more_lines"]

MAX_TABLE_CAPACITY: Final = 4096
"""Bytes of dynamic table that the peer's encoder may use here, and that ours uses at most there."""

MAX_BLOCKED_STREAMS: Final = 16
"""Streams that may wait for the encoder stream at once, here, and there at most."""

MAX_FIELD_SECTION_SIZE: Final = 65536
"""Bytes of a decoded field section that we accept: the text of names and values, and 32 for each line."""

LINE_OVERHEAD: Final = 32


def field_section_size(headers: Headers) -> int:
    """The size of a field section as SETTINGS_MAX_FIELD_SECTION_SIZE counts it (RFC 9114 §4.2.2)."""
    return LINE_OVERHEAD * len(headers) + sum(map(len, chain.from_iterable(headers)))


def _skip_integer(section: bytes, position: int, prefix: int) -> tuple[int, int]:
    """A prefixed integer (RFC 9204 §4.1.1) and the position behind it; past the end the position is beyond the section."""
    mask = (1 << prefix) - 1
    value = section[position] & mask
    position += 1
    if value < mask:
        return value, position
    shift = 0
    while position < len(section) and shift < 62:
        byte = section[position]
        position += 1
        value += (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, position
    return value, len(section) + 1


def has_more_lines(section: bytes, limit: int) -> bool:
    """Whether an encoded field section has more than `limit` field lines, without decoding it (RFC 9204 §4.5).

    A section that is malformed counts as far as it can be read: the decoder will refuse it.
    """
    if len(section) <= limit:  # a line takes a byte at least
        return False
    end = len(section)
    _, position = _skip_integer(section, 0, 8)  # Required Insert Count
    if position < end:
        _, position = _skip_integer(section, position, 7)  # Base
    lines = 0
    while position < end:
        lines += 1
        if lines > limit:
            return True
        first = section[position]
        if first & 0x80:  # indexed
            _, position = _skip_integer(section, position, 6)
            continue
        if first & 0xF0 == 0x10:  # indexed, behind the base
            _, position = _skip_integer(section, position, 4)
            continue
        if first & 0x40:  # literal with a name from a table
            _, position = _skip_integer(section, position, 4)
        elif first & 0x20:  # literal with a literal name
            size, position = _skip_integer(section, position, 3)
            position += size
        else:  # literal with a name from behind the base
            _, position = _skip_integer(section, position, 3)
        if position < end:
            size, position = _skip_integer(section, position, 7)
            position += size
    return False


class FieldCoding:
    """Both directions of QPACK of one connection. Sizes are in bytes.

    `max_table_capacity`, `blocked_streams` and `max_section_size` are what our SETTINGS announce to the peer.
    """

    def __init__(self, max_table_capacity: int, blocked_streams: int, max_section_size: int) -> None:
        self.encoder: Encoder = Encoder()
        self.decoder: Decoder = Decoder(max_table_capacity, blocked_streams)
        self.max_section_size = max_section_size
        self.encoder_bytes_received: int = 0
        self.encoder_bytes_sent: int = 0
        self.decoder_bytes_received: int = 0
        self.decoder_bytes_sent: int = 0

    def apply_settings(self, max_table_capacity: int, blocked_streams: int) -> bytes:
        """Use what the peer's SETTINGS allow our encoder; returns encoder instructions to send."""
        instructions = self.encoder.apply_settings(
            max_table_capacity=min(max_table_capacity, MAX_TABLE_CAPACITY),
            blocked_streams=min(blocked_streams, MAX_BLOCKED_STREAMS),
        )
        self.encoder_bytes_sent += len(instructions)
        return instructions

    def encode(self, stream_id: int, headers: Headers) -> tuple[bytes, bytes]:
        """Encoder instructions to send first, and the encoded section. `ValueError` for what cannot be encoded."""
        instructions, section = self.encoder.encode(stream_id, headers)
        self.encoder_bytes_sent += len(instructions)
        return instructions, section

    def decode(self, stream_id: int, section: bytes) -> tuple[bytes, Headers]:
        """Decoder instructions to send, and the fields.

        Raises `StreamBlocked` when entries of the dynamic table are still to come, `FieldSectionTooLarge`, and
        `QpackDecompressionFailed`.
        """
        if section == b"\x00\x00":  # no field at all, which the codec takes for an error
            return b"", []
        if has_more_lines(section, self.max_section_size // LINE_OVERHEAD):
            raise FieldSectionTooLarge("the field section has too many lines")
        try:
            instructions, headers = self.decoder.feed_header(stream_id, section)
        except DecompressionFailed:
            raise QpackDecompressionFailed("a field section cannot be decoded") from None
        return self._decoded(instructions, headers)

    def resume(self, stream_id: int) -> tuple[bytes, Headers]:
        """As `decode`, for a stream that `feed_encoder` has named."""
        try:
            instructions, headers = self.decoder.resume_header(stream_id)
        except DecompressionFailed:
            raise QpackDecompressionFailed("a field section cannot be decoded") from None
        return self._decoded(instructions, headers)

    def cancel(self, stream_id: int) -> bytes:
        """Give up what was not decoded on a stream; returns the instruction to send (RFC 9204 §4.4.2)."""
        instructions = self.decoder.cancel_stream(stream_id)
        self.decoder_bytes_sent += len(instructions)
        return instructions

    def feed_encoder(self, data: bytes) -> list[int]:
        """Take data of the peer's encoder stream; returns the streams that are no longer blocked, in their order."""
        self.encoder_bytes_received += len(data)
        try:
            return self.decoder.feed_encoder(data)
        except EncoderStreamError:
            raise QpackEncoderStreamError("an encoder instruction is invalid") from None

    def feed_decoder(self, data: bytes) -> None:
        """Take data of the peer's decoder stream."""
        self.decoder_bytes_received += len(data)
        try:
            self.encoder.feed_decoder(data)
        except DecoderStreamError:
            raise QpackDecoderStreamError("a decoder instruction is invalid") from None

    def _decoded(self, instructions: bytes, headers: Headers) -> tuple[bytes, Headers]:
        if field_section_size(headers) > self.max_section_size:
            raise FieldSectionTooLarge("the field section is too large")
        self.decoder_bytes_sent += len(instructions)
        return instructions, headers
