"""The real core over real sockets: two engines in one thread, on every fallback of the socket."""

from __future__ import annotations

import hashlib
import select
import time
from collections.abc import Callable

import pytest

from helpers.loopback import client_configuration, server_configuration
from quicio.quic.connection import QuicConnection
from quicio.quic.endpoint import Endpoint
from quicio.quic.events import ConnectionTerminated, HandshakeCompleted, QuicEvent, StreamDataReceived
from quicio.udp.engine import Engine
from quicio.udp.offload import Features, platform_features
from quicio.udp.socket import UdpSocket

DATA = bytes(range(256)) * 4096  # 1 MiB
TIME_LIMIT = 20.0  # seconds, on a busy machine

SHAPES = {
    "all": platform_features(),
    "macos": Features(msg=True, ecn=True, pktinfo=True, dont_fragment=True),
    "windows": Features(dont_fragment=True),
}


class Side:
    """An engine with its endpoint, and what its connections said. `answer` runs for each event."""

    def __init__(self, host: str | None, features: Features) -> None:
        self.endpoint = Endpoint()
        self.sock = UdpSocket.bind(host, features=features)
        self.engine = Engine(self.sock, self.endpoint, on_events=self.drain)
        self.events: list[QuicEvent] = []
        self.received = hashlib.sha256()
        self.size = 0
        self.is_finished = False
        self.answer: Callable[[QuicConnection, QuicEvent], None] = lambda connection, event: None

    def drain(self, connection: QuicConnection) -> None:
        while (event := connection.next_event()) is not None:
            if isinstance(event, StreamDataReceived):
                self.received.update(event.data)
                self.size += len(event.data)
                self.is_finished = self.is_finished or event.end_stream
            else:
                self.events.append(event)
            self.answer(connection, event)

    def saw(self, kind: type[QuicEvent]) -> bool:
        return any(isinstance(event, kind) for event in self.events)


def pump(sides: list[Side], until: Callable[[], bool]) -> None:
    """The smallest face there is: wait for sockets and time, call the engines."""
    ends = time.monotonic() + TIME_LIMIT
    while not until():
        now = time.monotonic()
        assert now < ends, "the exchange took too long"
        wake = min(side.engine.deadline for side in sides)
        blocked = [side.engine for side in sides if side.engine.is_blocked]
        readable, writable, _ = select.select(
            [side.engine for side in sides], blocked, [], max(0.0, min(wake, ends) - now)
        )
        for engine in readable:
            while engine.readable(time.monotonic()):
                pass
        for engine in writable:
            engine.flush(time.monotonic())
        for side in sides:
            if side.engine.deadline <= time.monotonic():
                side.engine.expired(time.monotonic())


@pytest.mark.parametrize("shape", SHAPES)
def test_a_transfer_both_ways(shape: str, loopback: str) -> None:
    features = SHAPES[shape]
    server = Side(None if shape == "all" else loopback, features)
    client = Side(None if shape == "all" else loopback, features)
    server.endpoint.listen(server_configuration())

    def echo(connection: QuicConnection, event: QuicEvent) -> None:
        if isinstance(event, StreamDataReceived):
            connection.send_stream_data(event.stream_id, event.data, event.end_stream)

    server.answer = echo
    try:
        remote = (loopback, server.engine.local_address[1])
        connection = client.endpoint.connect(client_configuration(server_name="localhost"), remote, time.monotonic())
        client.engine.touch(connection)
        assert client.engine.flush(time.monotonic()) is True
        pump([client, server], lambda: client.saw(HandshakeCompleted))
        connection.send_stream_data(connection.get_next_available_stream_id(), DATA, True)
        client.engine.touch(connection)
        client.engine.flush(time.monotonic())
        pump([client, server], lambda: client.is_finished)
        digest = hashlib.sha256(DATA).digest()
        assert (server.size, server.received.digest()) == (len(DATA), digest)
        assert (client.size, client.received.digest()) == (len(DATA), digest)
        if features.gso and features.gro:
            assert client.sock.sends * 4 < client.sock.datagrams_sent, "batches went out"
            assert server.sock.receives * 4 < server.sock.datagrams_received, "batches came in"
        assert (client.sock.datagrams_dropped, server.sock.datagrams_dropped) == (0, 0)

        connection.close(0)
        client.engine.touch(connection)
        client.engine.flush(time.monotonic())
        pump([client, server], lambda: client.saw(ConnectionTerminated) and server.saw(ConnectionTerminated))
        assert not client.endpoint.connections
        assert not server.endpoint.connections
        assert client.engine.deadline == server.engine.deadline == float("inf")
    finally:
        client.engine.close()
        server.engine.close()
