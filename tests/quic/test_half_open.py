"""Half-open connections: counted once, shared out among networks."""

from __future__ import annotations

from collections.abc import Hashable

import pytest

from quicio.quic.half_open import HalfOpen, network_of


@pytest.mark.parametrize(
    ("first", "second", "is_same"),
    [
        (("192.0.2.1", 1), ("192.0.2.255", 2), True),
        (("192.0.2.1", 1), ("192.0.3.1", 1), False),
        (("2001:db8::1", 1, 0, 0), ("2001:db8:0:ff::1", 1, 0, 0), True),
        (("2001:db8::1", 1, 0, 0), ("2001:db8:0:100::1", 1, 0, 0), False),
        (("fe80::1%eth0", 1, 0, 2), ("fe80::2%eth0", 1, 0, 2), True),
        (("host.example", 1), ("host.example", 2), True),
        (("host.example", 1), ("other.example", 1), False),
        ("opaque", "opaque", True),
        ("opaque", "another", False),
        ((), (), True),
        ((1, 2), (1, 2), True),
    ],
)
def test_networks(first: Hashable, second: Hashable, is_same: bool) -> None:
    assert (network_of(first) == network_of(second)) is is_same


def test_a_connection_counts_once_and_leaves_nothing() -> None:
    half_open = HalfOpen(8)
    half_open.add("a", ("192.0.2.1", 1))
    half_open.add("b", ("192.0.2.2", 1))
    assert len(half_open) == 2
    assert "a" in half_open
    half_open.discard("a")
    half_open.discard("a")
    half_open.discard("never")
    assert len(half_open) == 1
    assert half_open._counts == {network_of(("192.0.2.1", 1)): 1}
    half_open.discard("b")
    assert not half_open._counts


def test_one_network_gets_half_and_is_asked_for_proof_earlier_than_others() -> None:
    half_open = HalfOpen(16)
    crowd, other = ("192.0.2.1", 1), ("198.51.100.1", 1)
    half_open.add(0, crowd)
    assert not half_open.is_under_load(crowd)
    half_open.add(1, crowd)
    assert half_open.is_under_load(crowd)
    assert not half_open.is_under_load(other)
    for number in range(2, 8):
        assert not half_open.is_full(crowd)
        half_open.add(number, crowd)
    assert half_open.is_full(crowd)
    assert not half_open.is_full(other)
    assert half_open.is_under_load(other)  # by the whole
    for number in range(8, 16):
        half_open.add(number, ("198.51.100.1", number) if number % 2 else ("203.0.113.1", number))
    assert half_open.is_full(("100.64.0.1", 1))
