"""What an endpoint does with first packets that come again."""

from __future__ import annotations

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
