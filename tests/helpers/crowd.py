"""Many connections between two endpoints in memory: no link, no auditors, no captures, so that what is measured is the library.

A `Crowd` carries every datagram at once, on virtual time that only `wait` moves. Both endpoints are native, as under the faces:
each side consumes what it reads, and the server answers each stream that ended with `ANSWER` and releases it when that is
delivered. `open` makes connections, `exchange` streams on them, `close` ends them and forgets them.
"""

from __future__ import annotations

import gc
import ssl
import tracemalloc

from helpers.certificates import make_certificates
from quicio.quic.configuration import QuicConfiguration
from quicio.quic.connection import QuicConnection
from quicio.quic.endpoint import Endpoint
from quicio.quic.events import QuicEvent, StreamDataReceived, StreamDelivered
from quicio.quic.transmit import Received, Transmit
from sim.simulation import SimulatedEnvironment

REQUEST = b"q" * 100
ANSWER = b"a" * 100
ROUND_TRIP = 0.03  # what `wait` lets pass between a handshake and what follows it
BATCH = 16


class Side:
    """One endpoint, and which of its connections have something to do."""

    def __init__(self, address: tuple[str, int], endpoint: Endpoint, *, is_server: bool) -> None:
        self.address = address
        self.endpoint = endpoint
        self.is_server = is_server
        self.active: dict[QuicConnection, None] = {}
        self.finished = 0  # streams of which the end has been read

    def adopt(self, connection: QuicConnection) -> None:
        connection.use_native_events()
        self.active[connection] = None

    def handle(self, connection: QuicConnection, event: QuicEvent) -> None:
        if isinstance(event, StreamDataReceived):
            if event.data:
                connection.consume(event.stream_id, len(event.data))
            if event.end_stream:
                self.finished += 1
                if self.is_server:
                    connection.send_stream_data(event.stream_id, ANSWER, True)
        elif isinstance(event, StreamDelivered) and self.is_server:
            connection.release_stream(event.stream_id)

    def turn(self, now: float) -> list[Transmit]:
        """Hand out events and collect what is to be sent."""
        sent: list[Transmit] = []
        while (answer := self.endpoint.next_transmit()) is not None:
            sent.append(answer)
        for connection in self.active:
            while (event := connection.next_event()) is not None:
                self.handle(connection, event)
            while (transmit := connection.next_transmit(now, BATCH)) is not None:
                sent.append(transmit)
        self.active.clear()
        return sent

    def expire(self, now: float) -> None:
        for connection in list(self.endpoint.connections):
            timer = connection.get_timer()
            if timer is not None and timer <= now:
                connection.handle_timer(now)
                self.active[connection] = None
            if connection.is_terminated:
                while connection.next_event() is not None:
                    pass
                self.active.pop(connection, None)
                self.endpoint.forget(connection)
        if self.endpoint.deadline <= now:
            self.endpoint.handle_timer(now)


class Crowd:
    """A client's and a server's endpoint, and the connections between them."""

    def __init__(self) -> None:
        made = make_certificates("ed25519")
        self.now = 0.0
        # Without verification: `cryptography` keeps some 30 bytes of each chain that it verifies, which would be counted.
        self.client_configuration = QuicConfiguration(
            alpn_protocols=["test"], server_name="localhost", verify_mode=ssl.CERT_NONE, pacing_granularity=0.0
        )
        server_configuration = QuicConfiguration(
            is_client=False,
            alpn_protocols=["test"],
            certificate=made.chain[0],
            certificate_chain=made.chain[1:],
            private_key=made.private_key,
            pacing_granularity=0.0,
        )
        self.client = Side(("10.0.0.1", 1000), Endpoint(environment=SimulatedEnvironment(1)), is_server=False)
        self.server = Side(("10.0.0.2", 443), Endpoint(environment=SimulatedEnvironment(2)), is_server=True)
        self.server.endpoint.listen(server_configuration)
        self.server.endpoint.on_connection = self.server.adopt

    def run(self) -> None:
        """Carry datagrams until nobody has any."""
        is_moving = True
        while is_moving:
            is_moving = False
            for sender, receiver in ((self.client, self.server), (self.server, self.client)):
                for transmit in sender.turn(self.now):
                    is_moving = True
                    received = Received(list(transmit.datagrams), sender.address, None, transmit.ecn)
                    receiver.endpoint.receive(received, self.now)
                    receiver.active.update(dict.fromkeys(receiver.endpoint.touched))
                    receiver.endpoint.touched.clear()

    def wait(self, seconds: float) -> None:
        """Let time pass, and whoever waits for it act."""
        self.now += seconds
        self.client.expire(self.now)
        self.server.expire(self.now)
        self.run()

    def open(self, count: int) -> list[QuicConnection]:
        """Connections whose handshake is confirmed."""
        opened = []
        for _ in range(count):
            connection = self.client.endpoint.prepare(self.client_configuration)
            self.client.adopt(connection)
            connection.connect(self.server.address, self.now)
            self.run()
            opened.append(connection)
        self.wait(ROUND_TRIP)
        assert all(connection.is_handshake_confirmed for connection in opened)
        return opened

    def exchange(self, connections: list[QuicConnection], streams: int) -> None:
        """So many streams on each connection: a request, and its answer."""
        before = self.client.finished
        for connection in connections:
            for _ in range(streams):
                stream_id = connection.open_stream()
                assert stream_id is not None
                connection.send_stream_data(stream_id, REQUEST, True)
            self.client.active[connection] = None
            self.run()
        self.wait(ROUND_TRIP)
        assert self.client.finished - before == streams * len(connections)

    def settle(self) -> None:
        """Until what is owed is acknowledged: idle connections, and nothing else."""
        for _ in range(20):
            self.wait(0.1)

    def close(self, connections: list[QuicConnection]) -> None:
        """End connections on both sides, until their endpoints have forgotten them."""
        for connection in connections:
            connection.close()
            self.client.active[connection] = None
        self.run()
        while self.client.endpoint.connections or self.server.endpoint.connections:
            self.wait(1.0)


def traced() -> int:
    """Bytes that Python's allocators have given out, after a collection."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]
