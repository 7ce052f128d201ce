"""Error codes, and who carries them."""

from __future__ import annotations

import pytest

from quicio.h3 import exceptions
from quicio.h3.exceptions import ErrorCode, ProtocolError, StreamError


def test_the_codes_are_those_of_the_specifications() -> None:
    assert [int(code) for code in ErrorCode] == [0x33, *range(0x100, 0x111), 0x200, 0x201, 0x202]


@pytest.mark.parametrize(
    ("name", "code", "only_the_stream"),
    [
        ("ClosedCriticalStream", ErrorCode.H3_CLOSED_CRITICAL_STREAM, False),
        ("DatagramError", ErrorCode.H3_DATAGRAM_ERROR, False),
        ("ExcessiveLoad", ErrorCode.H3_EXCESSIVE_LOAD, False),
        ("FrameError", ErrorCode.H3_FRAME_ERROR, False),
        ("FrameUnexpected", ErrorCode.H3_FRAME_UNEXPECTED, False),
        ("IdError", ErrorCode.H3_ID_ERROR, False),
        ("MessageError", ErrorCode.H3_MESSAGE_ERROR, True),
        ("MissingSettingsError", ErrorCode.H3_MISSING_SETTINGS, False),
        ("QpackDecoderStreamError", ErrorCode.QPACK_DECODER_STREAM_ERROR, False),
        ("QpackDecompressionFailed", ErrorCode.QPACK_DECOMPRESSION_FAILED, False),
        ("QpackEncoderStreamError", ErrorCode.QPACK_ENCODER_STREAM_ERROR, False),
        ("RequestIncomplete", ErrorCode.H3_REQUEST_INCOMPLETE, True),
        ("RequestRejected", ErrorCode.H3_REQUEST_REJECTED, True),
        ("SettingsError", ErrorCode.H3_SETTINGS_ERROR, False),
        ("StreamCreationError", ErrorCode.H3_STREAM_CREATION_ERROR, False),
        ("StreamOverload", ErrorCode.H3_EXCESSIVE_LOAD, True),
        ("FieldSectionTooLarge", ErrorCode.H3_EXCESSIVE_LOAD, True),
    ],
)
def test_each_error_has_its_code(name: str, code: ErrorCode, only_the_stream: bool) -> None:
    kind = getattr(exceptions, name)
    error = kind("why")
    assert isinstance(error, ProtocolError)
    assert (error.error_code, error.reason_phrase, str(error)) == (code, "why", "why")
    assert isinstance(error, StreamError) is only_the_stream
    assert kind().reason_phrase == ""
