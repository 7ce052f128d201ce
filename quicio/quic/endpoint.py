"""The endpoint: one socket's worth of connections, without the socket (RFC 9000 §5.2, §6.1, §8.1, §10.3).

It routes datagrams to connections by their destination connection ID, by the invariants alone (RFC 8999): a slice and one
dict look-up. What belongs to no connection may start one, deserve a stateless answer, or be dropped:

- an Initial packet of a known version, in a datagram of 1200 bytes or more, becomes an `Incoming`, offered to a policy before
  any TLS state exists; later datagrams of the same client wait with it (`MAX_INCOMING_DATAGRAMS`);
- an unknown version, in a datagram of 1200 bytes or more, is answered with Version Negotiation, never with one larger than
  the datagram, and never in answer to another (version 0);
- a short header may be answered with a stateless reset, smaller than what triggered it;
- a datagram for a connection that has ended meets its stub, which repeats the CONNECTION_CLOSE for a while.

Limits: `HALF_OPEN_LIMIT` connections whose handshake is not complete (beyond, new ones are refused; from a quarter of it on the
default policy asks for a Retry; no network gets more than half of it, see `half_open.py`), `MAX_UNDECIDED` incoming ones,
`MAX_STUBS`, `MAX_ANSWERS` stateless answers waiting and `ANSWERS_PER_SECOND` of them. What comes from one of `BLOCKED_PORTS`
starts nothing and is answered with nothing. Connection IDs here have one length for all connections of the endpoint.

What it leaves to others: sockets and clocks (the engine), everything inside a connection.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from math import inf
from typing import Final

from quicio.environment import DEFAULT_ENVIRONMENT, Environment
from quicio.quic.configuration import QuicConfiguration
from quicio.quic.connection import QuicConnection
from quicio.quic.early_arrivals import EarlyArrivals
from quicio.quic.half_open import HalfOpen
from quicio.quic.incoming import MAX_INCOMING_DATAGRAMS, Incoming, Policy, retry_under_load
from quicio.quic.issuing import EndpointIssuer, hide_token
from quicio.quic.paths.path import is_blocked_port
from quicio.quic.retry import FORMAT as RETRY_TOKEN_FORMAT
from quicio.quic.retry import QuicRetryTokenHandler
from quicio.quic.sealing import LongPacket
from quicio.quic.streams.budget import ENDPOINT_MEMORY_LIMIT, MemoryPool
from quicio.quic.transmit import Received, Transmit
from quicio.quic.wire.constants import (
    CONNECTION_REFUSED,
    EPOCH_INITIAL,
    INITIAL,
    INVALID_TOKEN,
    PADDING,
    SMALLEST_MAX_DATAGRAM_SIZE,
    VERSION_NEGOTIATION,
)
from quicio.quic.wire.crypto import KeyRing
from quicio.quic.wire.frames import encode_transport_close
from quicio.quic.wire.headers import (
    INITIAL_PACKET,
    ZERO_RTT_PACKET,
    LongHeader,
    destination_cid_of,
    encode_packet_number,
    encode_version_negotiation,
    is_known_version,
    parse_long_header,
)
from quicio.quic.wire.retry import encode_retry
from quicio.quic.wire.stateless_reset import UNPREDICTABLE_SIZE, encode_stateless_reset, reset_token, token_of
from quicio.tls.issuing import SealedTickets, TicketIssuer

__all__ = ["MAX_INCOMING_DATAGRAMS", "Endpoint", "Incoming", "Policy", "Stub", "refusal", "retry_under_load"]

HALF_OPEN_LIMIT: Final = 1024
MAX_UNDECIDED: Final = 256  # incoming connections that no policy has decided on
DECIDED_SECONDS: Final = 0.1  # for which the rest of a flight that was retried, refused or ignored is dropped
MAX_DECIDED: Final = 1024
MAX_ANSWERS: Final = 256  # stateless answers that wait to be sent
ANSWERS_PER_SECOND: Final = 1000.0
MAX_STUBS: Final = 4096  # connection IDs that lead to what is left of a closed connection
STUB_REPEATS: Final = 8  # times that a stub repeats a CONNECTION_CLOSE


def refusal(header: LongHeader, received: Received, error_code: int) -> Transmit:
    """An Initial packet that closes a connection for which there is no state (RFC 9000 §5.2.2, §8.1.3)."""
    keys = KeyRing(False)
    keys.install_initial(header.destination_cid, header.version)
    sealing = keys.sealing[EPOCH_INITIAL]
    assert sealing is not None  # just installed
    packet = LongPacket(
        INITIAL, sealing, header.version, header.source_cid, header.destination_cid, b"", encode_packet_number(0, -1)
    )
    packet.complete(0, encode_transport_close(error_code, PADDING, b""))
    return Transmit([packet.seal()], received.remote, received.local)


class Stub:
    """What is left of a closed connection: its last datagram, repeated to a peer that did not hear it (RFC 9000 §10.2.1)."""

    __slots__ = ("cids", "count", "expires", "next_repeat", "transmit")

    def __init__(self, transmit: Transmit, cids: list[bytes], expires: float) -> None:
        self.transmit: Transmit = transmit
        self.cids: list[bytes] = cids
        self.expires: float = expires
        self.count: int = 0
        self.next_repeat: int = 1

    def wants_repeat(self) -> bool:
        """Count a datagram; True at the first, second, fourth, … one."""
        self.count += 1
        if self.count < self.next_repeat or self.next_repeat >= 1 << STUB_REPEATS:
            return False
        self.next_repeat *= 2
        return True


class Endpoint:
    """Connections of both roles behind one address. Drive it as `quicio.udp.engine` does.

    `reset_key` (32 bytes) makes stateless reset tokens, `retry_keys` Retry tokens; shared and kept, they survive a restart and
    serve several processes. Both are random by default. `memory_limit` is what the connections may hold together, in bytes,
    before their windows shrink.
    """

    def __init__(
        self,
        *,
        connection_id_length: int = 8,
        reset_key: bytes | None = None,
        retry_tokens: QuicRetryTokenHandler | None = None,
        tickets: TicketIssuer | None = None,
        half_open_limit: int = HALF_OPEN_LIMIT,
        memory_limit: int = ENDPOINT_MEMORY_LIMIT,
        environment: Environment = DEFAULT_ENVIRONMENT,
    ) -> None:
        if not 4 <= connection_id_length <= 20:
            raise ValueError("connection_id_length must be between 4 and 20 bytes: an endpoint routes by it")
        self.connection_id_length = connection_id_length
        self.connections: dict[QuicConnection, None] = {}  # in the order in which they were made
        self.touched: list[QuicConnection] = []
        self.on_connection: Callable[[QuicConnection], None] | None = None
        self.half_open: HalfOpen = HalfOpen(half_open_limit)  # handshake not complete
        self.memory: MemoryPool = MemoryPool(memory_limit)  # what the connections hold, `streams/budget.py`
        self.datagrams_dropped: int = 0
        self._environment = environment
        self._reset_key = reset_key or environment.random_bytes(32)
        self._retry_tokens = retry_tokens or QuicRetryTokenHandler(environment=environment)
        self._tickets = tickets or SealedTickets(environment=environment)
        self._early_arrivals = EarlyArrivals()
        self._routes: dict[bytes, QuicConnection] = {}
        self._reset_routes: dict[bytes, QuicConnection] = {}  # by what stands for the peer's stateless reset token
        self._issuers: dict[QuicConnection, EndpointIssuer] = {}
        self._first_cids: dict[QuicConnection, tuple[bytes, Hashable]] = {}
        # Kept as long as the connection: a late or repeated first packet must not start another one.
        self._initial_routes: dict[tuple[bytes, Hashable], QuicConnection] = {}
        self._undecided: dict[tuple[bytes, Hashable], Incoming] = {}
        self._decided: dict[tuple[bytes, Hashable], float] = {}  # not accepted; until when what else comes is dropped
        self._stubs: dict[bytes, Stub] = {}
        self._answers: deque[Transmit] = deque()
        self._answer_credit = ANSWERS_PER_SECOND
        self._answer_time = -inf
        self._configuration: QuicConfiguration | None = None
        self._policy: Policy = retry_under_load
        self._make: Callable[..., QuicConnection] = QuicConnection
        self._takers: dict[QuicConnection, Callable[[Received], None]] = {}
        self._now = 0.0

    # --- roles -------------------------------------------------------------------------------------------------------

    def listen(
        self,
        configuration: QuicConfiguration,
        policy: Policy = retry_under_load,
        make: Callable[..., QuicConnection] = QuicConnection,
    ) -> None:
        """Offer new connections to `policy`; `make` makes those that it accepts, from the arguments of `QuicConnection`.

        `RuntimeError` when already listening, `ValueError` without certificate.
        """
        if self._configuration is not None:
            raise RuntimeError("the endpoint is listening already: stop_listening() first")
        if configuration.is_client:
            raise ValueError("listening takes a server's configuration: QuicConfiguration(is_client=False, …)")
        configuration.validate()
        self._configuration = configuration
        self._policy = policy
        self._make = make

    def stop_listening(self) -> None:
        """Refuse new connections from now on; those that exist go on."""
        self._configuration = None
        for incoming in list(self._undecided.values()):
            incoming.refuse()

    @property
    def is_listening(self) -> bool:
        """Whether new connections are offered to a policy."""
        return self._configuration is not None

    def connect(self, configuration: QuicConfiguration, remote: Hashable, now: float) -> QuicConnection:
        """Start a connection to `remote`. The driver then sends what it wants."""
        connection = self.prepare(configuration)
        connection.connect(remote, now)
        return connection

    def prepare(
        self, configuration: QuicConfiguration, make: Callable[..., QuicConnection] = QuicConnection
    ) -> QuicConnection:
        """A client's connection that has yet to `connect()`; `make` makes it, from the arguments of `QuicConnection`."""
        issuer = self._issuer()
        connection = make(configuration=configuration, issuer=issuer, memory=self.memory, environment=self._environment)
        self._adopt(connection, issuer)
        return connection

    def divert(self, connection: QuicConnection, taker: Callable[[Received], None]) -> None:
        """Somebody else drives `connection`: `taker` is given its datagrams, and it is never in `touched`."""
        self._takers[connection] = taker

    def _issuer(self) -> EndpointIssuer:
        return EndpointIssuer(
            self._routes, self._reset_routes, self.connection_id_length, self._reset_key, self._environment
        )

    def _adopt(self, connection: QuicConnection, issuer: EndpointIssuer) -> None:
        issuer.adopt(connection)
        self._issuers[connection] = issuer
        self.connections[connection] = None

    # --- routing -----------------------------------------------------------------------------------------------------

    def receive(self, received: Received, now: float) -> None:
        """Route a batch. Connections that got input are in `touched` until the driver clears it."""
        self._now = now
        datagrams = received.datagrams
        if len(datagrams) == 1:
            self._receive_run(received, destination_cid_of(datagrams[0], self.connection_id_length), now)
            return
        if datagrams:
            # Nearly every batch: short headers, all of one connection.
            cid = datagrams[0][1 : 1 + self.connection_id_length]
            for datagram in datagrams:
                if not datagram.startswith(cid, 1) or datagram[0] & 0x80:
                    break
            else:
                if len(cid) == self.connection_id_length:
                    self._receive_run(received, cid, now)
                    return
            self._receive_runs(received, now)

    def _receive_runs(self, received: Received, now: float) -> None:
        """A batch of one peer may hold several connections: hand on runs of one ID."""
        datagrams = received.datagrams
        start = 0
        current = destination_cid_of(datagrams[0], self.connection_id_length)
        for index in range(1, len(datagrams)):
            cid = destination_cid_of(datagrams[index], self.connection_id_length)
            if cid != current:
                self._receive_run(self._part(received, start, index), current, now)
                start = index
                current = cid
        self._receive_run(received if start == 0 else self._part(received, start, len(datagrams)), current, now)

    def _part(self, received: Received, start: int, stop: int) -> Received:
        return Received(received.datagrams[start:stop], received.remote, received.local, received.ecn)

    def _receive_run(self, received: Received, cid: bytes | None, now: float) -> None:
        if cid is None:
            self.datagrams_dropped += len(received.datagrams)
            return
        connection = self._routes.get(cid)
        if connection is None:
            connection = self._initial_routes.get((cid, received.remote))
        if connection is not None:
            self._deliver(connection, received, now)
            return
        stub = self._stubs.get(cid)
        if stub is not None:
            if stub.wants_repeat():
                self._answer(stub.transmit)
            return
        for datagram in received.datagrams:
            self._receive_unknown(datagram, cid, received, now)

    def _deliver(self, connection: QuicConnection, received: Received, now: float) -> None:
        taker = self._takers.get(connection)
        if taker is not None:
            taker(received)
        else:
            connection.receive_datagrams(received, now)
            if not self.touched or self.touched[-1] is not connection:
                self.touched.append(connection)
        if connection in self.half_open and (connection.is_handshake_complete or connection.is_terminated):
            self.half_open.discard(connection)
            if connection.is_handshake_complete:
                self._give_token(connection)

    def forget(self, connection: QuicConnection) -> None:
        """The driver is done with a connection that has terminated: drop every trace but its stub."""
        self.connections.pop(connection, None)
        self._takers.pop(connection, None)
        connection.release_memory()
        self.half_open.discard(connection)
        key = self._first_cids.pop(connection, None)
        if key is not None:
            self._initial_routes.pop(key, None)
        issuer = self._issuers.pop(connection, None)
        if issuer is not None:
            issuer.detach()

    # --- datagrams without a connection ------------------------------------------------------------------------------

    def _receive_unknown(self, datagram: bytes, cid: bytes, received: Received, now: float) -> None:
        if is_blocked_port(received.remote):
            self.datagrams_dropped += 1
            return
        if not datagram or not datagram[0] & 0x80:
            reset = self._reset_connection(datagram)
            if reset is not None:
                self._deliver(reset, Received([datagram], received.remote, received.local, received.ecn), now)
            else:
                self._reset(datagram, cid, received)
            return
        waiting = self._undecided.get((cid, received.remote))
        if waiting is not None:  # more of its first flight: early data comes in small datagrams, too
            waiting.add(datagram)
            return
        if len(datagram) < SMALLEST_MAX_DATAGRAM_SIZE or not self.is_listening:
            self.datagrams_dropped += 1
            return
        try:
            header = parse_long_header(datagram, 0)
        except ValueError:
            self.datagrams_dropped += 1
            return
        configuration = self._configuration
        assert configuration is not None  # is_listening
        if header.version == VERSION_NEGOTIATION:
            self.datagrams_dropped += 1
        elif not is_known_version(header.version) or header.version not in configuration.supported_versions:
            self._negotiate_version(header, len(datagram), received, configuration.supported_versions)
        elif header.packet_type == INITIAL_PACKET and len(cid) >= 8:  # RFC 9000 §7.2
            self._offer(header, datagram, received, configuration, now)
        elif header.packet_type == ZERO_RTT_PACKET and len(cid) >= 8:
            if not self._keep_early((cid, received.remote), datagram, now):
                self.datagrams_dropped += 1
        else:
            self.datagrams_dropped += 1

    def _keep_early(self, key: tuple[bytes, Hashable], datagram: bytes, now: float) -> bool:
        """0-RTT of a client: with its Initial packet if that waits for a decision, else in the hope of one."""
        if self._decided.get(key, -inf) > now:
            return False
        waiting = self._undecided.get(key)
        if waiting is None:
            return self._early_arrivals.add(key, datagram, now)
        waiting.add(datagram)
        return True

    def _reset_connection(self, datagram: bytes) -> QuicConnection | None:
        """The connection whose peer has lost its state and says so: a stateless reset has an unpredictable ID (§10.3)."""
        token = token_of(datagram)
        if token is None or not self._reset_routes:
            return None
        return self._reset_routes.get(hide_token(self._reset_key, token))

    def _offer(
        self, header: LongHeader, datagram: bytes, received: Received, configuration: QuicConfiguration, now: float
    ) -> None:
        """The first Initial of a new connection, or more of one that the policy has not decided on."""
        key = (header.destination_cid, received.remote)
        connection = self._initial_routes.get(key)
        if connection is not None:  # accepted while this batch was being read
            self._deliver(connection, Received([datagram], received.remote, received.local, received.ecn), now)
            return
        if self._decided.get(key, -inf) > now:  # a ClientHello takes several datagrams: one decision is for all of them
            self.datagrams_dropped += 1
            return
        original_cid: bytes | None = None  # of a client that was sent a Retry
        if header.token[:1] == RETRY_TOKEN_FORMAT:
            try:
                original_cid = self._retry_tokens.validate_token(
                    address=received.remote,
                    destination_cid=header.destination_cid,
                    token=header.token,
                    now=self._environment.wall_clock(),
                )
            except ValueError:  # it claims to be one of our Retry tokens (RFC 9000 §8.1.3)
                self._answer(refusal(header, received, INVALID_TOKEN))
                return
        is_validated = original_cid is not None or self._knows(header, received.remote)
        incoming = Incoming(self, header, datagram, received, original_cid, is_validated, now)
        for early in self._early_arrivals.take(key, now):
            incoming.add(early)
        if self.half_open.is_full(received.remote) or len(self._undecided) >= MAX_UNDECIDED:
            incoming.refuse()
            return
        self._undecided[key] = incoming
        incoming.expires = now + (configuration.handshake_timeout or inf)
        self._policy(incoming)

    def _knows(self, header: LongHeader, remote: Hashable) -> bool:
        """Whether the client brings a token of an earlier connection's NEW_TOKEN frame (RFC 9000 §8.1.3)."""
        if not header.token:
            return False
        now = self._environment.wall_clock()
        try:
            self._retry_tokens.validate_new_token(address=remote, version=header.version, token=header.token, now=now)
        except ValueError:
            return False
        return True

    def _give_token(self, connection: QuicConnection) -> None:
        """The handshake with a client is complete: next time it need not prove its address."""
        address = connection.get_peer_address()
        now = self._environment.wall_clock()
        token = self._retry_tokens.create_new_token(address=address, version=connection.version, now=now)
        connection.send_new_token(token)

    # What an `Incoming` calls, once each.

    def accept(self, incoming: Incoming, configuration: QuicConfiguration | None) -> QuicConnection:
        """Make the connection and give it the datagrams that waited."""
        self._undecided.pop(incoming.key, None)
        chosen = configuration or self._configuration
        assert chosen is not None  # stop_listening() refuses those that are undecided
        issuer = self._issuer()
        connection = self._make(
            configuration=chosen,
            original_destination_connection_id=incoming.original_cid,
            retry_source_connection_id=incoming.header.destination_cid if incoming.was_retried else None,
            issuer=issuer,
            tickets=self._tickets,
            is_address_validated=incoming.address_validated,
            memory=self.memory,
            environment=self._environment,
        )
        self._adopt(connection, issuer)
        self._initial_routes[incoming.key] = connection
        self._first_cids[connection] = incoming.key
        self.half_open.add(connection, incoming.remote_address)
        if self.on_connection is not None:
            self.on_connection(connection)
        self._deliver(connection, incoming.received(), self._now)
        return connection

    def retry(self, incoming: Incoming) -> None:
        """Have the client prove its address (RFC 9000 §8.1.2)."""
        self._turn_away(incoming)
        header = incoming.header
        cid = self._environment.random_bytes(self.connection_id_length)
        token = self._retry_tokens.create_token(
            address=incoming.remote_address,
            original_destination_connection_id=header.destination_cid,
            retry_source_connection_id=cid,
            now=self._environment.wall_clock(),
        )
        packet = encode_retry(header.version, cid, header.source_cid, header.destination_cid, token)
        self._answer(Transmit([packet], incoming.remote_address, incoming.local_address))

    def refuse(self, incoming: Incoming) -> None:
        """Tell the client that it is not wanted (CONNECTION_REFUSED)."""
        self._turn_away(incoming)
        received = Received([], incoming.remote_address, incoming.local_address)
        self._answer(refusal(incoming.header, received, CONNECTION_REFUSED))

    def ignore(self, incoming: Incoming) -> None:
        """Say nothing."""
        self._turn_away(incoming)

    def _turn_away(self, incoming: Incoming) -> None:
        """It was not accepted: for a moment the datagrams of the same flight are not offered anew."""
        self._undecided.pop(incoming.key, None)
        self._decided.pop(incoming.key, None)
        self._decided[incoming.key] = self._now + DECIDED_SECONDS
        if len(self._decided) > MAX_DECIDED:
            del self._decided[next(iter(self._decided))]

    # --- stateless answers -------------------------------------------------------------------------------------------

    def _negotiate_version(self, header: LongHeader, size: int, received: Received, versions: list[int]) -> None:
        """RFC 9000 §6.1."""
        first = self._environment.random_bytes(1)[0]
        packet = encode_version_negotiation(header.destination_cid, header.source_cid, versions, first)
        if len(packet) <= size:
            self._answer(Transmit([packet], received.remote, received.local))

    def _reset(self, datagram: bytes, cid: bytes, received: Received) -> None:
        """RFC 9000 §10.3. An ID of a length that is not ours, or too small a datagram, gets nothing."""
        packet = encode_stateless_reset(
            reset_token(self._reset_key, cid), len(datagram), self._environment.random_bytes(UNPREDICTABLE_SIZE)
        )
        if packet is None:
            self.datagrams_dropped += 1
        else:
            self._answer(Transmit([packet], received.remote, received.local))

    def _answer(self, transmit: Transmit) -> None:
        """Queue a stateless answer, within the bounds on their number and rate."""
        now = self._now
        if now > self._answer_time:
            credit = self._answer_credit + (now - self._answer_time) * ANSWERS_PER_SECOND
            self._answer_credit = min(credit, ANSWERS_PER_SECOND)
            self._answer_time = now
        if self._answer_credit < 1.0 or len(self._answers) >= MAX_ANSWERS:
            self.datagrams_dropped += 1
            return
        self._answer_credit -= 1.0
        self._answers.append(transmit)

    def next_transmit(self) -> Transmit | None:
        """The next stateless answer to send, or None."""
        return self._answers.popleft() if self._answers else None

    # --- time --------------------------------------------------------------------------------------------------------

    def leave_stub(self, connection: QuicConnection, transmit: Transmit, seconds: float, now: float) -> None:
        """Let a connection that has sent its CONNECTION_CLOSE be freed: its stub answers for `seconds` more.

        A client that has not heard of the server's connection ID yet addresses the one that it chose: that leads to the stub
        as well, or its next Initial packet would start the connection anew.
        """
        issuer = self._issuers.get(connection)
        cids = list(issuer.issued) if issuer is not None else []
        if connection in self._first_cids:
            cids.append(self._first_cids[connection][0])
        self.forget(connection)
        if not cids:
            return
        stub = Stub(transmit, cids, now + seconds)
        for cid in cids:
            self._stubs[cid] = stub
        while len(self._stubs) > MAX_STUBS:
            self._drop_stub(next(iter(self._stubs.values())))

    def _drop_stub(self, stub: Stub) -> None:
        for cid in stub.cids:
            self._stubs.pop(cid, None)

    @property
    def deadline(self) -> float:
        """When `handle_timer()` wants to be called, or infinity."""
        earliest = inf
        if self._stubs:
            earliest = next(iter(self._stubs.values())).expires
        if self._undecided:
            earliest = min(earliest, next(iter(self._undecided.values())).expires)
        return earliest

    def handle_timer(self, now: float) -> None:
        """End stubs that have expired, and ignore incoming connections that nobody decided on."""
        self._now = now
        while self._stubs:
            stub = next(iter(self._stubs.values()))
            if stub.expires > now:
                break
            self._drop_stub(stub)
        while self._undecided:
            incoming = next(iter(self._undecided.values()))
            if incoming.expires > now:
                break
            incoming.ignore()
