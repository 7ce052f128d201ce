"""Contents of extensions: written, read, and refused where they are malformed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quicio.tls import extensions
from quicio.tls.alerts import AlertDecodeError, AlertIllegalParameter
from quicio.tls.codec import vector

uint16 = st.integers(0, 0xFFFF)


@given(values=st.lists(uint16, min_size=1, max_size=20))
def test_integers(values: list[int]) -> None:
    assert extensions.parse_integers(extensions.encode_integers(values), "x") == values


@given(name=st.text(st.characters(min_codepoint=1, max_codepoint=127), min_size=1, max_size=255))
def test_server_name(name: str) -> None:
    assert extensions.parse_server_name(extensions.encode_server_name(name)) == name


def test_server_name_of_another_type() -> None:
    """Names of other types are passed over (RFC 6066 §3)."""
    other = b"\x01" + vector(2, b"\xff\xff")
    host = b"\x00" + vector(2, b"host")
    assert extensions.parse_server_name(vector(2, other)) is None
    assert extensions.parse_server_name(vector(2, other + host)) == "host"


@given(protocols=st.lists(st.binary(min_size=1, max_size=255), min_size=1, max_size=5))
def test_alpn(protocols: list[bytes]) -> None:
    assert extensions.parse_alpn(extensions.encode_alpn(protocols)) == protocols


@given(versions=st.lists(uint16, min_size=1, max_size=20))
def test_supported_versions(versions: list[int]) -> None:
    assert extensions.parse_supported_versions(extensions.encode_supported_versions(versions)) == versions


@given(value=uint16)
def test_selected(value: int) -> None:
    assert extensions.parse_selected(extensions.encode_selected(value), "x") == value


@given(shares=st.lists(st.tuples(uint16, st.binary(min_size=1, max_size=40)), unique_by=lambda share: share[0]))
def test_key_shares(shares: list[tuple[int, bytes]]) -> None:
    assert extensions.parse_key_shares(extensions.encode_key_shares(shares)) == shares
    for group, share in shares:
        assert extensions.parse_key_share(extensions.encode_key_share(group, share)) == (group, share)


@given(cookie=st.binary(min_size=1, max_size=100))
def test_cookie(cookie: bytes) -> None:
    assert extensions.parse_cookie(extensions.encode_cookie(cookie)) == cookie


MALFORMED: dict[str, tuple[Callable[[bytes], object], bytes]] = {
    "no integers": (lambda data: extensions.parse_integers(data, "x"), b"\0\0"),
    "odd integers": (lambda data: extensions.parse_integers(data, "x"), b"\0\3\0\1\0"),
    "more than the integers": (lambda data: extensions.parse_integers(data, "x"), b"\0\2\0\1\0"),
    "no names": (extensions.parse_server_name, b"\0\0"),
    "empty name": (extensions.parse_server_name, b"\0\3\0\0\0"),
    "more than the names": (extensions.parse_server_name, b"\0\4\0\0\1a\0"),
    "no protocols": (extensions.parse_alpn, b"\0\0"),
    "empty protocol": (extensions.parse_alpn, b"\0\2\0\0"),
    "more than the protocols": (extensions.parse_alpn, b"\0\2\1a\0"),
    "no versions": (extensions.parse_supported_versions, b"\0"),
    "more than the versions": (extensions.parse_supported_versions, b"\2\3\4\0"),
    "half a value": (lambda data: extensions.parse_selected(data, "x"), b"\0"),
    "more than a value": (lambda data: extensions.parse_selected(data, "x"), b"\0\0\0"),
    "empty share": (extensions.parse_key_share, b"\0\x1d\0\0"),
    "more than a share": (extensions.parse_key_share, b"\0\x1d\0\1x\0"),
    "empty share of several": (extensions.parse_key_shares, b"\0\4\0\x1d\0\0"),
    "more than the shares": (extensions.parse_key_shares, b"\0\0\0"),
    "empty cookie": (extensions.parse_cookie, b"\0\0"),
    "more than the cookie": (extensions.parse_cookie, b"\0\1c\0"),
    "content of an empty extension": (lambda data: extensions.parse_empty(data, "x"), b"\0"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed(name: str) -> None:
    parse, data = MALFORMED[name]
    with pytest.raises(AlertDecodeError):
        parse(data)


@pytest.mark.parametrize("name", [b"\xc3\xa9", b"a\0b"], ids=["not ASCII", "zero byte"])
def test_server_name_out_of_range(name: bytes) -> None:
    with pytest.raises(AlertIllegalParameter):
        extensions.parse_server_name(vector(2, b"\0" + vector(2, name)))


def test_repeated_key_share() -> None:
    with pytest.raises(AlertIllegalParameter):
        extensions.parse_key_shares(extensions.encode_key_shares([(29, b"x"), (29, b"y")]))


def test_empty() -> None:
    extensions.parse_empty(b"", "x")
