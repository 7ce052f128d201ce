"""Stateless resets as endpoints see them: their connection ID is random, only the token tells (RFC 9000 §10.3)."""

from __future__ import annotations

import pytest

from quicio.quic.endpoint import Endpoint
from quicio.quic.lifecycle import CAUSE_STATELESS_RESET
from quicio.quic.transmit import Received
from quicio.quic.wire.stateless_reset import encode_stateless_reset
from sim.world import CLIENT_ADDRESS, SERVER_ADDRESS, Peer, World


def reset_from(world: World, token: bytes, trigger: int = 100) -> None:
    """A stateless reset arrives at the client's endpoint."""
    datagram = encode_stateless_reset(token, trigger, bytes(range(64)))
    assert datagram is not None
    world.client.endpoint.receive(Received([datagram], SERVER_ADDRESS), world.now)


def server_tokens(server: Peer) -> list[bytes]:
    """The reset tokens of the server's connection IDs, the first one's first."""
    return [token for _, token in server.connection._parts.connection_ids._local.values()]


@pytest.mark.parametrize("message", [b"x", b"message" * 20])
def test_a_server_that_lost_its_state_ends_the_connection_by_a_reset(message: bytes) -> None:
    """Whatever the size of what triggers it: a small packet brings a smaller reset, which counts as well."""
    world = World(1)
    client, _ = world.establish()
    world.run(None, 0.5)
    # The server's process starts anew, with the same key.
    old = world.server.endpoint
    world.server.peers.clear()
    world.server.endpoint = Endpoint(reset_key=old._reset_key)
    client.connection.send_stream_data(0, message)
    world.run(lambda: client.connection.is_terminated, 5.0)
    assert client.connection.close_cause == CAUSE_STATELESS_RESET
    assert not world.client.endpoint._reset_routes


def test_a_token_of_an_id_in_use_counts_and_others_do_not() -> None:
    """RFC 9000 §10.3.1: no token is checked that belongs to an ID that was not used yet, or that is retired."""
    world = World(2)
    client, server = world.establish()
    world.run(None, 0.5)
    tokens = server_tokens(server)
    reset_from(world, tokens[1])
    assert not client.connection.is_terminated
    client.connection.change_connection_id()
    world.run(None, 0.5)
    reset_from(world, tokens[0])
    assert not client.connection.is_terminated
    reset_from(world, tokens[1])
    assert client.connection.close_cause == CAUSE_STATELESS_RESET


def test_a_reset_from_another_address_is_not_believed() -> None:
    """RFC 9000 §10.3.1: tokens belong to the remote address that datagrams were sent to."""
    world = World(3)
    client, server = world.establish()
    datagram = encode_stateless_reset(server_tokens(server)[0], 100, bytes(64))
    assert datagram is not None
    world.client.endpoint.receive(Received([datagram], ("10.9.9.9", 443)), world.now)
    assert not client.connection.is_terminated


def test_tokens_go_with_their_connection() -> None:
    world = World(4)
    client, server = world.establish()
    world.run(None, 0.5)
    assert len(world.client.endpoint._reset_routes) == 1
    assert len(world.server.endpoint._reset_routes) == 0  # a client's first ID has no token
    client.connection.close()
    world.run(lambda: client.connection.is_terminated and server.connection.is_terminated, 10.0)
    assert not world.client.endpoint._reset_routes


def test_a_client_that_lost_its_state_resets_too() -> None:
    """A server that has moved to one of the client's later IDs knows a token of the client's."""
    world = World(5)
    client, server = world.establish()
    world.run(None, 0.5)
    server.connection.change_connection_id()
    world.run(None, 0.5)
    old = world.client.endpoint
    world.client.peers.clear()
    world.client.endpoint = Endpoint(reset_key=old._reset_key)
    server.connection.send_ping(1)
    world.run(lambda: server.connection.is_terminated, 5.0)
    assert server.connection.close_cause == CAUSE_STATELESS_RESET
    assert server.connection.get_peer_address() == CLIENT_ADDRESS
