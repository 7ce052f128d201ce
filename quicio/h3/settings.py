"""SETTINGS: what each side tells the other about itself, once (RFC 9114 §7.2.4).

The payload is a list of pairs of integers. Unknown identifiers are ignored, but kept in the result so that extensions
can see them; identifiers that mean something in HTTP/2 only, and pairs that come twice, are errors. `validate_settings`
holds the rules for values that need nothing but the settings and what the transport has negotiated.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final

from quicio.buffer import BufferReadError, encode_uint_var, read_uint_var
from quicio.h3.exceptions import FrameError, SettingsError


class Setting(IntEnum):
    """Identifiers of settings. DUMMY is a reserved number: sending it keeps peers honest (RFC 9114 §7.2.4.1)."""

    QPACK_MAX_TABLE_CAPACITY = 0x1
    MAX_FIELD_SECTION_SIZE = 0x6
    QPACK_BLOCKED_STREAMS = 0x7
    ENABLE_CONNECT_PROTOCOL = 0x8
    H3_DATAGRAM = 0x33
    ENABLE_WEBTRANSPORT = 0x2B603742
    DUMMY = 0x21


RESERVED_SETTINGS: Final = (0x0, 0x2, 0x3, 0x4, 0x5)
_SWITCHES: Final = (Setting.ENABLE_CONNECT_PROTOCOL, Setting.H3_DATAGRAM, Setting.ENABLE_WEBTRANSPORT)


def encode_settings(settings: Mapping[int, int]) -> bytes:
    """The payload of a SETTINGS frame."""
    return b"".join(encode_uint_var(number) for pair in settings.items() for number in pair)


def parse_settings(data: bytes) -> dict[int, int]:
    """The settings in the payload of a SETTINGS frame.

    Raises `SettingsError` for identifiers that are reserved or repeated and `FrameError` when the payload breaks off.
    """
    settings: dict[int, int] = {}
    position = 0
    while position < len(data):
        try:
            identifier, position = read_uint_var(data, position)
            value, position = read_uint_var(data, position)
        except BufferReadError:
            raise FrameError("SETTINGS break off inside a setting") from None
        if identifier in RESERVED_SETTINGS:
            raise SettingsError(f"setting {identifier:#x} belongs to HTTP/2")
        if identifier in settings:
            raise SettingsError(f"setting {identifier:#x} is included twice")
        settings[identifier] = value
    return settings


def validate_settings(settings: Mapping[int, int], *, peer_takes_datagrams: bool) -> None:
    """Raise `SettingsError` for values that make no sense (RFC 9114 §7.2.4.1, RFC 9220 §3, RFC 9297 §2.1.1)."""
    for setting in _SWITCHES:
        if settings.get(setting, 0) > 1:
            raise SettingsError(f"{setting.name} must be 0 or 1")
    if settings.get(Setting.H3_DATAGRAM) and not peer_takes_datagrams:
        raise SettingsError("H3_DATAGRAM requires the max_datagram_frame_size transport parameter")
    if settings.get(Setting.ENABLE_WEBTRANSPORT) and not settings.get(Setting.H3_DATAGRAM):
        raise SettingsError("ENABLE_WEBTRANSPORT requires H3_DATAGRAM")
