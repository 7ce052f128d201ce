"""Error codes of HTTP/3 and QPACK, and the exceptions that carry them (RFC 9114 §8, RFC 9204 §6).

Two trees, for two audiences. `H3Error` is for whoever calls `H3Connection`: the call asks for something that cannot be
done, and nothing was sent. `ProtocolError` is what a violation of the protocol is inside: the peer's become a closed
connection or, for the branch below `StreamError`, a reset stream, and never leave `handle_event()`; those that our own
side would commit, such as a second set of headers, are raised by the command that would have sent them.

Whether a rule is broken for a stream or for the whole connection is decided by the RFC, once, by the class that is
raised.
"""

from __future__ import annotations

from enum import IntEnum

__all__ = [
    "ClosedCriticalStream",
    "ConnectionGoingAway",
    "DatagramError",
    "ErrorCode",
    "ExcessiveLoad",
    "FieldSectionTooLarge",
    "FrameError",
    "FrameUnexpected",
    "H3Error",
    "IdError",
    "InvalidStreamTypeError",
    "MessageError",
    "MissingSettingsError",
    "NoAvailablePushIDError",
    "ProtocolError",
    "QpackDecoderStreamError",
    "QpackDecompressionFailed",
    "QpackEncoderStreamError",
    "RequestIncomplete",
    "RequestRejected",
    "SettingsError",
    "StreamCreationError",
    "StreamError",
    "StreamOverload",
]


class ErrorCode(IntEnum):
    """Error codes of HTTP/3 (RFC 9114 §8.1), HTTP datagrams (RFC 9297 §5.2) and QPACK (RFC 9204 §6)."""

    H3_DATAGRAM_ERROR = 0x33
    H3_NO_ERROR = 0x100
    H3_GENERAL_PROTOCOL_ERROR = 0x101
    H3_INTERNAL_ERROR = 0x102
    H3_STREAM_CREATION_ERROR = 0x103
    H3_CLOSED_CRITICAL_STREAM = 0x104
    H3_FRAME_UNEXPECTED = 0x105
    H3_FRAME_ERROR = 0x106
    H3_EXCESSIVE_LOAD = 0x107
    H3_ID_ERROR = 0x108
    H3_SETTINGS_ERROR = 0x109
    H3_MISSING_SETTINGS = 0x10A
    H3_REQUEST_REJECTED = 0x10B
    H3_REQUEST_CANCELLED = 0x10C
    H3_REQUEST_INCOMPLETE = 0x10D
    H3_MESSAGE_ERROR = 0x10E
    H3_CONNECT_ERROR = 0x10F
    H3_VERSION_FALLBACK = 0x110
    QPACK_DECOMPRESSION_FAILED = 0x200
    QPACK_ENCODER_STREAM_ERROR = 0x201
    QPACK_DECODER_STREAM_ERROR = 0x202


class H3Error(Exception):
    """Base of the errors that commands of `H3Connection` raise for what cannot be done."""


class InvalidStreamTypeError(H3Error):
    """The command does not exist on a stream of this kind."""


class NoAvailablePushIDError(H3Error):
    """The client allows no further push (RFC 9114 §4.6)."""


class ConnectionGoingAway(H3Error):
    """The peer has sent GOAWAY: it takes no new requests (RFC 9114 §5.2). Use another connection."""


class ProtocolError(Exception):
    """A violation of HTTP/3. `error_code` and `reason_phrase` are what the peer is told."""

    error_code: ErrorCode = ErrorCode.H3_GENERAL_PROTOCOL_ERROR

    def __init__(self, reason_phrase: str = "") -> None:
        super().__init__(reason_phrase)
        self.reason_phrase = reason_phrase


class ClosedCriticalStream(ProtocolError):
    """A control or QPACK stream was closed (RFC 9114 §6.2.1)."""

    error_code = ErrorCode.H3_CLOSED_CRITICAL_STREAM


class DatagramError(ProtocolError):
    """An HTTP datagram is malformed (RFC 9297 §2.1)."""

    error_code = ErrorCode.H3_DATAGRAM_ERROR


class ExcessiveLoad(ProtocolError):
    """The peer causes work without end (RFC 9114 §10.5)."""

    error_code = ErrorCode.H3_EXCESSIVE_LOAD


class FrameError(ProtocolError):
    """A frame breaks the layout of its type (RFC 9114 §7.1)."""

    error_code = ErrorCode.H3_FRAME_ERROR


class FrameUnexpected(ProtocolError):
    """A frame is not allowed on this stream, or not now (RFC 9114 §4.1, §7.2)."""

    error_code = ErrorCode.H3_FRAME_UNEXPECTED


class IdError(ProtocolError):
    """A stream ID or push ID is used wrongly."""

    error_code = ErrorCode.H3_ID_ERROR


class MissingSettingsError(ProtocolError):
    """The control stream does not begin with SETTINGS (RFC 9114 §6.2.1)."""

    error_code = ErrorCode.H3_MISSING_SETTINGS


class QpackDecoderStreamError(ProtocolError):
    """An instruction on the peer's QPACK decoder stream is invalid (RFC 9204 §6)."""

    error_code = ErrorCode.QPACK_DECODER_STREAM_ERROR


class QpackDecompressionFailed(ProtocolError):
    """A field section cannot be decoded (RFC 9204 §6)."""

    error_code = ErrorCode.QPACK_DECOMPRESSION_FAILED


class QpackEncoderStreamError(ProtocolError):
    """An instruction on the peer's QPACK encoder stream is invalid (RFC 9204 §6)."""

    error_code = ErrorCode.QPACK_ENCODER_STREAM_ERROR


class SettingsError(ProtocolError):
    """SETTINGS are invalid (RFC 9114 §7.2.4)."""

    error_code = ErrorCode.H3_SETTINGS_ERROR


class StreamCreationError(ProtocolError):
    """The peer opened a stream that must not exist (RFC 9114 §6)."""

    error_code = ErrorCode.H3_STREAM_CREATION_ERROR


class StreamError(ProtocolError):
    """A violation that costs the peer the stream, not the connection (RFC 9114 §8)."""


class MessageError(StreamError):
    """A request or response is malformed (RFC 9114 §4.1.2)."""

    error_code = ErrorCode.H3_MESSAGE_ERROR


class RequestIncomplete(StreamError):
    """A client ended its stream before the request was complete (RFC 9114 §4.1)."""

    error_code = ErrorCode.H3_REQUEST_INCOMPLETE


class RequestRejected(StreamError):
    """A request came after our GOAWAY: it was not processed and can be retried (RFC 9114 §4.1.1, §5.2)."""

    error_code = ErrorCode.H3_REQUEST_REJECTED


class StreamOverload(StreamError):
    """A stream asks to hold more in memory than we are willing to (RFC 9114 §10.5)."""

    error_code = ErrorCode.H3_EXCESSIVE_LOAD


class FieldSectionTooLarge(StreamOverload):
    """A field section is larger than SETTINGS_MAX_FIELD_SECTION_SIZE allows (RFC 9114 §4.2.2)."""
