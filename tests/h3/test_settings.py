"""SETTINGS."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.http3 import varints
from quicio.buffer import UINT_VAR_MAX
from quicio.h3.exceptions import FrameError, SettingsError
from quicio.h3.settings import RESERVED_SETTINGS, Setting, encode_settings, parse_settings, validate_settings


@given(st.dictionaries(st.integers(6, UINT_VAR_MAX) | st.just(1), st.integers(0, UINT_VAR_MAX), max_size=10))
def test_what_is_encoded_is_parsed(settings: dict[int, int]) -> None:
    encoded = encode_settings(settings)
    assert parse_settings(encoded) == settings


@pytest.mark.parametrize("payload", [b"\x21", b"\x40", b"\x21\x40", varints(0x21, 5) + b"\x33"])
def test_a_payload_that_breaks_off(payload: bytes) -> None:
    with pytest.raises(FrameError):
        parse_settings(payload)


@pytest.mark.rfc("9114", "7.2.4.1", "MUST")
@pytest.mark.parametrize("identifier", RESERVED_SETTINGS)
def test_settings_of_http_2(identifier: int) -> None:
    with pytest.raises(SettingsError, match="HTTP/2"):
        parse_settings(varints(identifier, 0))


def test_a_setting_comes_once() -> None:
    with pytest.raises(SettingsError, match="twice"):
        parse_settings(varints(0x33, 1, 0x21, 5, 0x33, 1))


@pytest.mark.parametrize("setting", [Setting.ENABLE_CONNECT_PROTOCOL, Setting.H3_DATAGRAM, Setting.ENABLE_WEBTRANSPORT])
def test_switches_are_on_or_off(setting: Setting) -> None:
    settings: dict[int, int] = {Setting.H3_DATAGRAM: 1, setting: 1}
    validate_settings(settings, peer_takes_datagrams=True)
    validate_settings({setting: 0}, peer_takes_datagrams=True)
    with pytest.raises(SettingsError, match="0 or 1"):
        validate_settings({**settings, setting: 2}, peer_takes_datagrams=True)


def test_datagrams_need_the_transport_parameter() -> None:
    validate_settings({}, peer_takes_datagrams=False)
    validate_settings({Setting.H3_DATAGRAM: 0}, peer_takes_datagrams=False)
    with pytest.raises(SettingsError, match="max_datagram_frame_size"):
        validate_settings({Setting.H3_DATAGRAM: 1}, peer_takes_datagrams=False)


def test_webtransport_needs_datagrams() -> None:
    with pytest.raises(SettingsError, match="requires H3_DATAGRAM"):
        validate_settings({Setting.ENABLE_WEBTRANSPORT: 1}, peer_takes_datagrams=True)
