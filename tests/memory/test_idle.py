"""What an idle connection costs a server: core and endpoint, after the handshake and one exchange."""

from __future__ import annotations

import tracemalloc

import pytest

from helpers.crowd import Crowd, traced
from quicio.quic.wire.constants import APPLICATION, HANDSHAKE, INITIAL

CORE_AND_ENDPOINT = 40 * 1024
CONNECTIONS = 30


def test_an_idle_connection_of_a_server_costs_forty_kibibytes_at_most() -> None:
    """What the client held is dropped first, so that what is left is the server's."""
    crowd = Crowd()
    warm = crowd.open(2)
    crowd.exchange(warm, 1)
    tracemalloc.start()
    try:
        before = traced()
        connections = crowd.open(CONNECTIONS)
        crowd.exchange(connections, 1)
        crowd.settle()
        for connection in connections:
            crowd.client.endpoint.forget(connection)
        del connection
        connections.clear()
        cost = (traced() - before) / CONNECTIONS
    finally:
        tracemalloc.stop()
    assert len(crowd.server.endpoint.connections) == CONNECTIONS + 2
    assert cost <= CORE_AND_ENDPOINT


@pytest.mark.parametrize("side", ["client", "server"])
def test_nothing_of_the_handshake_is_kept(side: str) -> None:
    crowd = Crowd()
    (client,) = crowd.open(1)
    crowd.settle()
    (connection,) = [client] if side == "client" else list(crowd.server.endpoint.connections)
    parts = connection._parts
    machine = parts.handshake.machine
    assert machine.is_complete
    assert machine._hello is None  # type: ignore[attr-defined]  # both roles have one
    assert not machine._received
    assert machine._transcript._hash is None
    assert not machine.outputs
    for space in (INITIAL, HANDSHAKE):
        assert not parts.handshake._senders[space]._data
        assert not parts.handshake._receivers[space].has_gap
        assert parts.keys.sealing[space if space == INITIAL else HANDSHAKE] is None
        assert parts.keys.opening[space] is None
    assert parts.keys.sealing[APPLICATION + 1] is not None
    assert not connection._inbound._waiting
