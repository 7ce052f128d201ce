"""What an endpoint does with first packets: those that come again, and those that nobody has decided on."""

from __future__ import annotations

from quicio.quic.endpoint import Incoming
from quicio.quic.transmit import Received
from sim.links import Datagram, Stage
from sim.world import CLIENT_ADDRESS, World


class Recorder(Stage):
    """Keeps a copy of what passes."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[bytes] = []

    def send(self, datagram: Datagram, forward: object) -> None:
        self.seen.append(datagram.data)
        assert callable(forward)
        forward(datagram)


def test_a_first_packet_that_comes_again_after_the_handshake_starts_nothing() -> None:
    """Delayed or repeated by the network, it belongs to the connection that it started."""
    recorder = Recorder()
    world = World(1, up=[recorder])
    _, server = world.establish()
    world.run(None, 1.0)
    for data in recorder.seen[:2]:
        assert data[0] & 0x80
        world.server.endpoint.receive(Received([data], CLIENT_ADDRESS), world.now)
    assert list(world.server.endpoint.connections) == [server.connection]
    server.connection.close()
    world.run(lambda: server.connection.is_terminated, 10.0)
    assert not world.server.endpoint._initial_routes


def test_without_a_handshake_timeout_an_incoming_connection_waits_for_its_decision() -> None:
    """0 means none, as for connections; the number of those that wait is bounded all the same."""
    waiting: list[Incoming] = []
    world = World(2, server={"handshake_timeout": 0.0}, policy=waiting.append)
    client = world.connect()
    world.run(lambda: bool(waiting))
    world.server.endpoint.handle_timer(world.now + 1.0)
    assert not waiting[0].is_decided
    waiting[0].accept()
    world.run(lambda: client.connection.is_handshake_confirmed)
