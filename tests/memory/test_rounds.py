"""Round after round of connections, or of streams on a thousand connections: memory is what it was after the second round."""

from __future__ import annotations

import gc
import sys
import tracemalloc

from helpers.crowd import Crowd, traced

ROUNDS = 10
STREAMS = 10
TOLERANCE = 0.05
DELAYED = 0.1  # seconds in which every delayed acknowledgement has come


def assert_flat(rounds: list[int]) -> None:
    """Rounds 3 to 10 within 5 % of the second."""
    settled = rounds[1]
    assert all(abs(used - settled) <= TOLERANCE * settled for used in rounds[2:]), rounds


def test_ten_rounds_of_connections_that_open_exchange_and_close() -> None:
    """Bytes by tracemalloc: with all connections of a round open, and when they are gone."""
    at_most: list[int] = []
    afterwards: list[int] = []
    tracemalloc.start()
    try:
        crowd = Crowd()
        for _ in range(ROUNDS):
            connections = crowd.open(20)
            crowd.exchange(connections, STREAMS)
            crowd.wait(DELAYED)
            at_most.append(traced())
            crowd.close(connections)
            connections.clear()
            afterwards.append(traced())
    finally:
        tracemalloc.stop()
    assert_flat(at_most)
    assert_flat(afterwards)
    for side in (crowd.client, crowd.server):
        assert not side.endpoint._routes
        assert not side.endpoint._reset_routes
        assert not side.endpoint._initial_routes
        assert side.endpoint.memory.used == 0


def test_ten_rounds_of_streams_on_a_thousand_connections() -> None:
    """A hundred thousand streams, by the blocks that Python's allocator has given out: what bytes cost too much time for."""
    crowd = Crowd()
    connections = crowd.open(1000)
    used: list[int] = []
    for _ in range(ROUNDS):
        crowd.exchange(connections, STREAMS)
        crowd.wait(DELAYED)
        gc.collect()
        used.append(sys.getallocatedblocks())
    assert_flat(used)
    assert len(crowd.server.endpoint.connections) == 1000
