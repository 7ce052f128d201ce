"""The code points of RFC 9000 as plain integers: the same as those of the enums that users import."""

from __future__ import annotations

import pytest

from quicio.quic.packet import QuicErrorCode, QuicFrameType, QuicProtocolVersion
from quicio.quic.wire import constants
from quicio.quic.wire.constants import QuicConnectionError


@pytest.mark.parametrize("code", list(QuicErrorCode), ids=lambda code: code.name)
def test_error_codes(code: QuicErrorCode) -> None:
    assert getattr(constants, code.name) == code


@pytest.mark.parametrize(
    "kind", [kind for kind in QuicFrameType if hasattr(constants, kind.name)], ids=lambda k: k.name
)
def test_frame_types(kind: QuicFrameType) -> None:
    assert getattr(constants, kind.name) == kind


def test_frame_types_under_their_short_names() -> None:
    assert QuicFrameType(constants.STREAM) is QuicFrameType.STREAM_BASE
    assert QuicFrameType(constants.DATAGRAM_WITH_LENGTH) is QuicFrameType.DATAGRAM_WITH_LENGTH


def test_versions() -> None:
    assert QuicProtocolVersion(constants.VERSION_1) is QuicProtocolVersion.VERSION_1
    assert QuicProtocolVersion(constants.VERSION_2) is QuicProtocolVersion.VERSION_2


def test_bits_follow_from_spaces() -> None:
    spaces = (constants.INITIAL, constants.HANDSHAKE, constants.APPLICATION)
    bits = (constants.INITIAL_BIT, constants.HANDSHAKE_BIT, constants.APPLICATION_BIT)
    assert [1 << space for space in spaces] == list(bits)


def test_every_constant_is_a_plain_integer() -> None:
    """Never an Enum member: code that runs once a frame compares them."""
    for name, value in vars(constants).items():
        if name.isupper():
            assert type(value) is int, name


def test_a_protocol_error_says_what_and_where() -> None:
    error = QuicConnectionError(constants.PROTOCOL_VIOLATION, constants.CRYPTO, "why")
    assert (error.error_code, error.frame_type, error.reason_phrase) == (10, 6, "why")
    assert str(error) == "Error: 10, reason: why, frame_type: 6"
    assert str(QuicConnectionError(1, None, "why")) == "Error: 1, reason: why"
