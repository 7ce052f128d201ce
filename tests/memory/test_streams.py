"""Streams come and go: what they were is forgotten, down to two integers."""

from __future__ import annotations

import gc
import tracemalloc
from collections import Counter

from helpers.crowd import Crowd, traced

STREAMS = 10_000
AT_A_TIME = 100
WARM = 1_000
SLACK = 4096  # bytes, both sides: larger numbers, and lists that are as long as they ever were


def test_ten_thousand_streams_leave_nothing() -> None:
    """Row 26: what streams opened and closed leave behind on either side."""
    tracemalloc.start()
    try:
        crowd = Crowd()
        connections = crowd.open(1)
        for _ in range(WARM // AT_A_TIME):
            crowd.exchange(connections, AT_A_TIME)
        crowd.settle()
        before = traced()
        for _ in range(STREAMS // AT_A_TIME):
            crowd.exchange(connections, AT_A_TIME)
        crowd.settle()
        grown = traced() - before
    finally:
        tracemalloc.stop()
    assert grown <= SLACK
    for side in (crowd.client, crowd.server):
        (connection,) = side.endpoint.connections
        streams = connection._parts.streams
        assert not streams.streams
        assert [len(peer.finished) for peer in streams.counts.peer] == [int(side is crowd.server), 0]
        assert connection._parts.budget.held == 0
        assert streams.sending.buffered == 0
        assert side.endpoint.memory.used == 0


def objects() -> Counter[str]:
    """The library's objects that the collector knows, by type: compiled classes take no weak references."""
    counts: Counter[str] = Counter()
    for item in gc.get_objects():
        kind = type(item)
        if str(kind.__module__).startswith("quicio."):  # an extension's type may have something else there
            counts[f"{kind.__module__}.{kind.__qualname__}"] += 1
    return counts


def test_a_closed_connection_dies_by_reference_counting() -> None:
    crowd = Crowd()
    connections = crowd.open(1)
    crowd.exchange(connections, 3)
    crowd.close(connections)
    connections.clear()
    gc.collect()
    before = objects()
    gc.disable()
    try:
        connections = crowd.open(5)
        crowd.exchange(connections, 3)
        assert objects()["quicio.quic.connection.QuicConnection"] == 10
        crowd.close(connections)
        connections.clear()
        left = objects() - before
    finally:
        gc.enable()
    assert not left
