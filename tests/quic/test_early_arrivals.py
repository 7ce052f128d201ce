"""0-RTT packets that wait for their client's first Initial packet."""

from __future__ import annotations

from quicio.quic.early_arrivals import MAX_CLIENTS, MAX_DATAGRAMS, MAX_WAIT, EarlyArrivals

KEY = (b"connect", ("10.0.0.1", 1))


def test_what_waits_is_taken_once() -> None:
    early = EarlyArrivals()
    assert early.add(KEY, b"one", 1.0)
    assert early.add(KEY, b"two", 1.1)
    assert early.take((b"another", KEY[1]), 1.1) == []
    assert early.take(KEY, 1.0 + MAX_WAIT) == [b"one", b"two"]
    assert early.take(KEY, 1.1) == []


def test_what_waited_too_long_is_dropped() -> None:
    early = EarlyArrivals()
    early.add(KEY, b"one", 1.0)
    early.add(KEY, b"two", 1.1 + MAX_WAIT)
    assert early.take(KEY, 1.2 + MAX_WAIT) == [b"two"]
    early.add(KEY, b"three", 5.0)
    assert early.take(KEY, 5.1 + MAX_WAIT) == []


def test_flood_of_early_packets() -> None:
    """Security row 10: little is kept, of few; the oldest client makes room."""
    early = EarlyArrivals()
    assert [early.add(KEY, b"x", 1.0) for _ in range(MAX_DATAGRAMS + 1)] == [True] * MAX_DATAGRAMS + [False]
    for number in range(10 * MAX_CLIENTS):
        early.add((b"flood", number), b"x", 1.0)
    assert len(early) == MAX_CLIENTS
    assert early.take(KEY, 1.0) == []
