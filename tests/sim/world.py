"""A client and a server, each an endpoint, with links between them, on virtual time.

After every step the invariants of both sides are checked:
- bytes in flight equal the sum over the packets sent and not settled (`LossDetection.check_invariants`);
- credit never shrinks, and what is buffered is within its limits (`Streams.check_invariants`);
- every token ends at most once, and only as acked or forgotten (an auditing component puts one of its own into each packet);
- an unvalidated path has never been sent more than three times what it sent.

What goes wrong is raised as `SimulationError` with the seed in its message: the same seed gives the same run.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

from helpers.certificates import make_certificates
from quicio.quic.component import Component, Token, Wants
from quicio.quic.configuration import QuicConfiguration
from quicio.quic.connection import QuicConnection
from quicio.quic.endpoint import Endpoint, Policy, retry_under_load
from quicio.quic.events import QuicEvent, StreamDataReceived
from quicio.quic.transmit import Received, Transmit
from quicio.quic.wire.packet_builder import PacketBuilder
from sim.capture import Capture
from sim.links import Datagram, Delay, Link, Stage
from sim.simulation import SimulatedEnvironment, Simulation

CLIENT_ADDRESS = ("10.0.0.1", 1000)
SERVER_ADDRESS = ("10.0.0.2", 443)
BATCH = 16
DEFAULT_DELAY = 0.005


class SimulationError(AssertionError):
    """Something did not hold; the message names the seed."""


class Auditor(Component):
    """Rides along in packets with a token of its own, and checks what becomes of it.

    After each check of the invariants it takes the next packet: the first of a burst, whose others are then free to be built
    by the run, as they are when nobody audits.
    """

    def __init__(self, wants: Wants) -> None:
        super().__init__(wants)
        self.issued = 0
        self.ended: set[int] = set()
        self.want(7)

    def write(self, packet: PacketBuilder, now: float) -> None:
        if packet.pieces:
            self.issued += 1
            packet.tokens.append((self, self.issued))
            self.pending &= ~(1 << packet.space)

    def on_acked(self, token: Token, now: float) -> None:
        self._end(token[1])

    def on_forgotten(self, token: Token) -> None:
        self._end(token[1])

    def _end(self, number: int) -> None:
        if number in self.ended:
            raise SimulationError(f"token {number} ended twice")
        self.ended.add(number)

    def on_space_discarded(self, space: int) -> None:
        """Keep wanting: a bit more in the mask costs a look and nothing else."""

    @property
    def outstanding(self) -> int:
        return self.issued - len(self.ended)


class Peer:
    """One connection as a test sees it: its events, the data of its streams, its packets."""

    def __init__(self, connection: QuicConnection) -> None:
        self.connection = connection
        self.capture = Capture()
        self.events: list[QuicEvent] = []
        self.data: dict[int, bytearray] = {}
        self.finished: set[int] = set()
        self.on_event: Callable[[Peer, QuicEvent], None] | None = None
        connection.observe(self.capture)
        parts = connection._parts
        self.auditor = Auditor(parts.wants)
        parts.writers.append(self.auditor)

    def drain(self) -> None:
        """Take all events."""
        while (event := self.connection.next_event()) is not None:
            if isinstance(event, StreamDataReceived):
                self.data.setdefault(event.stream_id, bytearray()).extend(event.data)
                if event.end_stream:
                    self.finished.add(event.stream_id)
            else:
                self.events.append(event)
            if self.on_event is not None:
                self.on_event(self, event)

    def of_type(self, kind: type[QuicEvent]) -> list[Any]:
        """The events of one type, stream data excepted."""
        return [event for event in self.events if isinstance(event, kind)]

    def check(self) -> None:
        """The invariants of one side."""
        parts = self.connection._parts
        if self.auditor in parts.writers:
            self.auditor.want(7)
        parts.loss.check_invariants()
        parts.streams.check_invariants()
        for path in parts.paths.known:
            if not path.is_validated and path.bytes_sent > 3 * path.bytes_received:
                raise SimulationError(f"{path.remote}: {path.bytes_sent} sent to {path.bytes_received} received")


class Host:
    """An endpoint on the simulated network."""

    def __init__(self, world: World, address: Hashable, endpoint: Endpoint) -> None:
        self.world = world
        self.address = address
        self.endpoint = endpoint
        self.peers: dict[QuicConnection, Peer] = {}
        self.link: Link
        self._timer: float | None = None
        endpoint.on_connection = self.adopt

    def adopt(self, connection: QuicConnection) -> None:
        self.peers[connection] = Peer(connection)

    def deliver(self, datagram: Datagram) -> None:
        """A datagram arrives."""
        now = self.world.simulation.now
        if datagram.destination != self.address:
            return
        self.endpoint.receive(Received([datagram.data], datagram.source, None, datagram.ecn), now)
        self.endpoint.touched.clear()
        self.pump()

    def pump(self) -> None:
        """Drain events, send, arm the timer: one turn."""
        now = self.world.simulation.now
        for peer in list(self.peers.values()):
            peer.drain()
        while (answer := self.endpoint.next_transmit()) is not None:
            self._send(answer)
        for connection, peer in list(self.peers.items()):
            while (transmit := connection.next_transmit(now, BATCH)) is not None:
                self._send(transmit)
            peer.drain()
            peer.check()
            if connection.is_terminated:
                self.endpoint.forget(connection)
        self._arm()

    def _send(self, transmit: Transmit) -> None:
        for datagram in transmit.datagrams:
            self.link.send(Datagram(datagram, self.address, transmit.remote, transmit.ecn))

    def _arm(self) -> None:
        times = [self.endpoint.deadline]
        times += [timer for peer in self.peers if (timer := peer.get_timer()) is not None]
        earliest = min(times)
        if earliest != float("inf") and (self._timer is None or earliest < self._timer):
            self._timer = earliest
            self.world.simulation.at(earliest, self._expire)

    def _expire(self) -> None:
        now = self.world.simulation.now
        self._timer = None
        self.endpoint.handle_timer(now)
        for connection in list(self.peers):
            timer = connection.get_timer()
            if timer is not None and timer <= now:
                connection.handle_timer(now)
        self.pump()


class World:
    """A client host and a server host. `up` are the stages from client to server, `down` those back."""

    def __init__(
        self,
        seed: int = 0,
        *,
        up: Sequence[Stage] = (),
        down: Sequence[Stage] = (),
        client: dict[str, Any] | None = None,
        server: dict[str, Any] | None = None,
        policy: Policy = retry_under_load,
        certificates: str = "ed25519",
    ) -> None:
        self.simulation = Simulation(seed)
        made = make_certificates(certificates)
        shared: dict[str, Any] = {"alpn_protocols": ["test"], "pacing_granularity": 0.0}
        self.client_configuration = QuicConfiguration(server_name="localhost", cadata=made.authority_pem).replaced(
            **(shared | (client or {}))
        )
        self.server_configuration = QuicConfiguration(
            is_client=False,
            certificate=made.chain[0],
            certificate_chain=made.chain[1:],
            private_key=made.private_key,
        ).replaced(**(shared | (server or {})))
        environment = SimulatedEnvironment(seed * 2 + 1)
        self.client = Host(self, CLIENT_ADDRESS, Endpoint(environment=environment))
        self.server = Host(self, SERVER_ADDRESS, Endpoint(environment=SimulatedEnvironment(seed * 2 + 2)))
        self.server.endpoint.listen(self.server_configuration, policy)
        self.up = Link(self.simulation, up or [Delay(DEFAULT_DELAY)], self.server.deliver)
        self.down = Link(self.simulation, down or [Delay(DEFAULT_DELAY)], self.client.deliver)
        self.client.link = self.up
        self.server.link = self.down

    @property
    def now(self) -> float:
        return self.simulation.now

    def connect(self, **changes: Any) -> Peer:
        """Start a connection from the client; `run` moves it."""
        configuration = self.client_configuration.replaced(**changes)
        connection = self.client.endpoint.connect(configuration, SERVER_ADDRESS, self.now)
        self.client.adopt(connection)
        self.client.pump()
        return self.client.peers[connection]

    @property
    def accepted(self) -> list[Peer]:
        """The server's connections, in the order in which they were accepted."""
        return list(self.server.peers.values())

    def establish(self, limit: float = 30.0, **changes: Any) -> tuple[Peer, Peer]:
        """A connection whose handshake both sides have confirmed."""
        peer = self.connect(**changes)
        count = len(self.accepted)
        self.run(
            lambda: (
                peer.connection.is_handshake_confirmed
                and len(self.accepted) > count - 1
                and any(accepted.connection.is_handshake_confirmed for accepted in self.accepted[-1:])
            ),
            limit,
        )
        return peer, self.accepted[-1]

    def flush(self) -> None:
        """Both sides send what the test had them queue."""
        self.client.pump()
        self.server.pump()

    def run(self, until: Callable[[], bool] | None = None, limit: float = 60.0) -> None:
        """Run until a condition holds, at most `limit` seconds of virtual time; without one, for just that long."""
        end = self.now + limit
        self.flush()
        while until is None or not until():
            time = self.simulation.next_time
            if time is None or time > end:
                if until is None:
                    self.simulation.now = max(self.now, end)
                    return
                raise SimulationError(f"seed {self.simulation.seed}: not reached by {self.now:.3f} s of virtual time")
            try:
                self.simulation.step()
            except SimulationError:
                raise
            except Exception as error:
                raise SimulationError(f"seed {self.simulation.seed}, at {self.now:.6f} s: {error!r}") from error

    def transfer(self, sender: Peer, receiver: Peer, size: int, limit: float = 300.0) -> float:
        """Send `size` random bytes on a new stream; returns the virtual seconds it took, byte-exactness checked."""
        data = self.simulation.random.randbytes(size)
        stream_id = sender.connection.open_stream()
        assert stream_id is not None
        start = self.now
        sender.connection.send_stream_data(stream_id, data, end_stream=True)
        self.run(lambda: stream_id in receiver.finished, limit)
        if bytes(receiver.data.pop(stream_id)) != data:
            raise SimulationError(f"seed {self.simulation.seed}: the data arrived changed")
        return self.now - start
