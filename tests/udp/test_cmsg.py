"""Ancillary data, packed and unpacked: `quicio.udp.cmsg`."""

from __future__ import annotations

import socket
import struct
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quicio.udp.cmsg import ANCILLARY_CACHE_LIMIT, Ancillary
from quicio.udp.offload import LINUX, MACOS, Features, platform_features

LINUX_FEATURES = platform_features("linux")
MAPPED = bytes(10) + b"\xff\xff"
INTERFACE_INDEX, INTERFACE_NAME = socket.if_nameindex()[0]


@pytest.fixture
def ancillary() -> Ancillary:
    return Ancillary(LINUX_FEATURES, LINUX)


def four(value: int) -> bytes:
    return value.to_bytes(4, sys.byteorder)


def test_nothing_told_is_nothing_known(ancillary: Ancillary) -> None:
    assert ancillary.incoming([]) == (0, 0, None)


def test_a_batch_over_ipv4(ancillary: Ancillary) -> None:
    pktinfo = four(1) + bytes([192, 0, 2, 1]) + bytes([192, 0, 2, 255])
    items = [(17, 104, four(1200)), (0, 1, b"\x02"), (0, 8, pktinfo)]
    assert ancillary.incoming(items) == (1200, 2, "192.0.2.1")


def test_without_a_local_address_the_destination_counts(ancillary: Ancillary) -> None:
    assert ancillary.incoming([(0, 8, four(1) + bytes(4) + bytes([192, 0, 2, 9]))])[2] == "192.0.2.9"


def test_a_batch_over_ipv6(ancillary: Ancillary) -> None:
    pktinfo = socket.inet_pton(socket.AF_INET6, "2001:db8::1") + four(INTERFACE_INDEX)
    assert ancillary.incoming([(41, 67, four(3)), (41, 50, pktinfo)]) == (0, 3, "2001:db8::1")


def test_a_link_local_address_keeps_its_interface(ancillary: Ancillary) -> None:
    pktinfo = socket.inet_pton(socket.AF_INET6, "fe80::1") + four(INTERFACE_INDEX)
    assert ancillary.incoming([(41, 50, pktinfo)])[2] == f"fe80::1%{INTERFACE_NAME}"


def test_ipv4_on_a_dual_stack_socket(ancillary: Ancillary) -> None:
    mapped = MAPPED + bytes([192, 0, 2, 1]) + four(0)
    assert ancillary.incoming([(41, 50, mapped), (0, 1, b"\x01")]) == (0, 1, "192.0.2.1")
    ipv4 = four(1) + bytes([192, 0, 2, 2]) + bytes([192, 0, 2, 2])
    assert ancillary.incoming([(0, 8, ipv4), (41, 50, mapped)])[2] == "192.0.2.2"


@pytest.mark.parametrize(("data", "ecn"), [(b"\x03", 3), (four(2), 2), (b"\xfe", 2), (b"\xb8", 0), (four(0xFD), 1)])
def test_ecn_is_the_two_low_bits_in_either_size(ancillary: Ancillary, data: bytes, ecn: int) -> None:
    assert ancillary.incoming([(0, 1, data)])[1] == ecn
    assert ancillary.incoming([(41, 67, data)])[1] == ecn


def test_bsd_systems_report_tos_under_the_receive_option() -> None:
    ancillary = Ancillary(platform_features("darwin"), MACOS)
    assert ancillary.incoming([(0, 27, b"\x02")])[1] == 2


@given(
    st.lists(
        st.tuples(st.sampled_from([0, 1, 17, 41]), st.sampled_from([0, 1, 8, 13, 50, 67, 104]), st.binary(max_size=24)),
        max_size=5,
    )
)
def test_whatever_is_reported_does_not_raise(items: list[tuple[int, int, bytes]]) -> None:
    segment, ecn, local = Ancillary(LINUX_FEATURES, LINUX).incoming(items)
    assert segment >= 0
    assert 0 <= ecn <= 3
    assert local is None or local


def test_nothing_to_say(ancillary: Ancillary) -> None:
    assert ancillary.outgoing(True, 0, None, 0) == []


def test_all_at_once_to_ipv4(ancillary: Ancillary) -> None:
    assert ancillary.outgoing(True, 2, "192.0.2.1", 1200) == [
        (17, 103, struct.pack("=H", 1200)),
        (0, 1, four(2)),
        (0, 8, four(0) + bytes([192, 0, 2, 1]) + bytes(4)),
    ]


def test_all_at_once_to_ipv6(ancillary: Ancillary) -> None:
    local = f"fe80::1%{INTERFACE_NAME}"
    packed = socket.inet_pton(socket.AF_INET6, "fe80::1")
    assert ancillary.outgoing(False, 1, local, 1200) == [
        (17, 103, struct.pack("=H", 1200)),
        (41, 67, four(1)),
        (41, 50, packed + four(INTERFACE_INDEX)),
    ]
    assert ancillary.outgoing(False, 0, "2001:db8::1", 0)[0][2][16:] == four(0)


@pytest.mark.parametrize(("is_ipv4", "local"), [(True, "2001:db8::1"), (False, "192.0.2.1"), (True, "name")])
def test_a_source_that_cannot_be_one_is_left_out(ancillary: Ancillary, is_ipv4: bool, local: str) -> None:
    assert ancillary.outgoing(is_ipv4, 0, local, 0) == []


def test_what_the_socket_cannot_do_is_left_out() -> None:
    assert Ancillary(Features(msg=True), LINUX).outgoing(True, 2, "192.0.2.1", 0) == []


def test_forget_applies_changed_features(ancillary: Ancillary) -> None:
    assert ancillary.outgoing(True, 2, None, 0) != []
    ancillary.features = Features(msg=True)
    ancillary.forget()
    assert ancillary.outgoing(True, 2, None, 0) == []


def test_both_memories_are_bounded(ancillary: Ancillary) -> None:
    largest = 0
    for index in range(2 * ANCILLARY_CACHE_LIMIT + 1):
        packed = bytes([10, 0, index >> 8, index & 255])
        host = socket.inet_ntoa(packed)
        assert ancillary.outgoing(True, 0, host, 0)[0][2][4:8] == packed
        assert ancillary.incoming([(0, 8, four(1) + packed + packed)])[2] == host
        largest = max(largest, *ancillary.sizes())
    assert largest == ANCILLARY_CACHE_LIMIT
