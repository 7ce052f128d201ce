"""One spelling for each address: `quicio.udp.address`."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quicio.udp.address import (
    ADDRESS_CACHE_LIMIT,
    AddressBook,
    address_from_system,
    address_to_system,
    canonical_host,
    host_from_packed,
    interface_index,
    is_link_local,
)

INTERFACE_INDEX, INTERFACE_NAME = socket.if_nameindex()[0]


@pytest.mark.parametrize(
    ("given_host", "canonical"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::FFFF:c000:201", "192.0.2.1"),
        ("2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
        ("::", "::"),
        ("2001:db8::1%nonexistent0", "2001:db8::1"),
        (f"fe80::1%{INTERFACE_NAME}", f"fe80::1%{INTERFACE_NAME}"),
        (f"fe80::1%{INTERFACE_INDEX}", f"fe80::1%{INTERFACE_NAME}"),
        ("fe80::1%4000000", "fe80::1%4000000"),
        ("fe80::1%99999999999999999999999", "fe80::1%99999999999999999999999"),
        (f"ff02::1%{INTERFACE_NAME}", f"ff02::1%{INTERFACE_NAME}"),
    ],
)
def test_each_host_has_one_spelling(given_host: str, canonical: str) -> None:
    assert canonical_host(given_host) == canonical
    assert canonical_host(canonical) == canonical


@pytest.mark.parametrize(
    "host", ["localhost", "example.com", "", "1.2.3", "1.2.3.4.5", "::g", "2001:db8::1::2", "a\0b", "é"]
)
def test_names_are_refused_because_resolving_would_block(host: str) -> None:
    with pytest.raises(ValueError, match="resolve host names first"):
        canonical_host(host)


def test_the_scope_beside_an_address_becomes_the_interface_in_it() -> None:
    assert address_from_system(("fe80::1", 443, 0, INTERFACE_INDEX)) == (f"fe80::1%{INTERFACE_NAME}", 443)
    assert address_from_system(("2001:db8::1", 443, 0, INTERFACE_INDEX)) == ("2001:db8::1", 443)


def test_the_flow_label_is_dropped() -> None:
    assert address_from_system(("2001:db8::1", 443, 12345, 0)) == ("2001:db8::1", 443)


@pytest.mark.parametrize("sockaddr", [None, "192.0.2.1", ("192.0.2.1",), (1, 2), ("192.0.2.1", "443"), ()])
def test_what_is_no_address_is_refused(sockaddr: Any) -> None:
    with pytest.raises(ValueError, match="is not a"):
        address_from_system(sockaddr)


def test_destinations_take_the_form_of_the_socket() -> None:
    assert address_to_system(("192.0.2.1", 443), socket.AF_INET) == ("192.0.2.1", 443)
    assert address_to_system(("192.0.2.1", 443), socket.AF_INET6) == ("::ffff:192.0.2.1", 443, 0, 0)
    assert address_to_system(("2001:db8::1", 443), socket.AF_INET6) == ("2001:db8::1", 443, 0, 0)
    link_local = (f"fe80::1%{INTERFACE_NAME}", 443)
    assert address_to_system(link_local, socket.AF_INET6) == ("fe80::1", 443, 0, INTERFACE_INDEX)


def test_an_ipv4_socket_reaches_no_ipv6_address() -> None:
    with pytest.raises(ValueError, match="IPv4 socket cannot reach"):
        address_to_system(("2001:db8::1", 443), socket.AF_INET)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_impossible_ports_are_refused(port: int) -> None:
    with pytest.raises(ValueError, match="not a port"):
        address_to_system(("192.0.2.1", port), socket.AF_INET)


@given(st.ip_addresses(v=6) | st.ip_addresses(v=4), st.integers(1, 65535))
def test_the_way_to_the_system_and_back_changes_nothing(host: Any, port: int) -> None:
    address = (canonical_host(str(host)), port)
    assert address_from_system(address_to_system(address, socket.AF_INET6)) == address


@given(st.binary(min_size=16, max_size=16))
def test_packed_addresses_read_as_their_text(packed: bytes) -> None:
    text = host_from_packed(packed)
    assert canonical_host(text) == text
    if ":" in text:
        assert socket.inet_pton(socket.AF_INET6, text) == packed
    else:
        assert socket.inet_pton(socket.AF_INET, text) == packed[12:]


def test_link_local_addresses_are_told_apart() -> None:
    assert is_link_local(socket.inet_pton(socket.AF_INET6, "fe80::1"))
    assert is_link_local(socket.inet_pton(socket.AF_INET6, "febf::1"))
    assert is_link_local(socket.inet_pton(socket.AF_INET6, "ff02::1"))
    assert not is_link_local(socket.inet_pton(socket.AF_INET6, "fec0::1"))
    assert not is_link_local(socket.inet_pton(socket.AF_INET6, "ff05::1"))


def test_interfaces_are_found_by_name_and_number() -> None:
    assert interface_index(INTERFACE_NAME) == INTERFACE_INDEX
    assert interface_index("77") == 77
    assert interface_index("nonexistent0") == 0


def test_the_book_remembers_and_forgets() -> None:
    book = AddressBook(socket.AF_INET6)
    first = book.seen(("::ffff:192.0.2.1", 443, 0, 0))
    assert first == ("192.0.2.1", 443)
    assert book.seen(("::ffff:192.0.2.1", 443, 0, 0)) is first
    assert book.destination(first) is book.destination(("192.0.2.1", 443))


def test_spoofed_sources_cannot_fill_the_book() -> None:
    book = AddressBook(socket.AF_INET)
    largest = 0
    for index in range(2 * ADDRESS_CACHE_LIMIT + 1):
        address = (f"10.{index >> 16}.{index >> 8 & 255}.{index & 255}", 1 + index)
        assert book.seen(address) == address
        assert book.destination(address) == address
        largest = max(largest, *book.sizes())
    assert largest == ADDRESS_CACHE_LIMIT
