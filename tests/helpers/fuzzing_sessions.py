"""Inputs for the fuzzers: what clients may bring from earlier connections, and what may have become of it meanwhile.

Tickets, address tokens and stored sessions lie about in files and databases, and come back edited, cut short, swapped, or not
at all. `SessionAttack` is a server that resumes sessions and takes early data, with clients of all those kinds, whose first
flights the network damages, repeats and turns around. Nothing may be raised, and nothing may grow.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import cache
from random import Random
from typing import Any

from helpers.fuzzing import OTHER_ADDRESSES, frame, mutate
from quicio.quic.client_hello import ClientHelloError, ClientHelloReader
from quicio.quic.connection import QuicConnection
from quicio.quic.endpoint import Endpoint, Incoming
from quicio.quic.remembered import restore, version_of
from quicio.quic.retry import QuicRetryTokenHandler
from quicio.quic.sealing import LongPacket
from quicio.quic.sessions import SessionStore
from quicio.quic.transmit import Received
from quicio.quic.wire.constants import EPOCH_INITIAL, INITIAL, VERSION_1, QuicConnectionError
from quicio.quic.wire.crypto import KeyRing
from quicio.quic.wire.headers import encode_packet_number, parse_long_header
from quicio.tls.alerts import Alert
from quicio.tls.constants import CipherSuite
from quicio.tls.issuing import STRIKE_LIMIT, SealedTickets
from quicio.tls.messages import ClientHello
from quicio.tls.tickets import SessionTicket
from sim.bounds import check_bounds
from sim.rude import RUDE_ADDRESS, configurations, crypto_frame
from sim.simulation import SimulatedEnvironment

SECRETS = (bytes(range(32)),)
ROUNDS = 3  # in which client and server answer each other


def make_endpoint(environment: SimulatedEnvironment) -> Endpoint:
    """A server's endpoint whose keys are those of all others here."""
    return Endpoint(
        environment=environment,
        tickets=SealedTickets(SECRETS, environment=environment),
        retry_tokens=QuicRetryTokenHandler(SECRETS, environment=environment),
    )


@cache
def earned() -> tuple[SessionTicket, bytes]:
    """A ticket and a token that a client at `RUDE_ADDRESS` was really given."""
    environment = SimulatedEnvironment(1)
    tickets: list[SessionTicket] = []
    tokens: list[bytes] = []
    client = QuicConnection(
        configuration=configurations({}, is_client=True),
        environment=environment,
        session_ticket_handler=tickets.append,
        token_handler=tokens.append,
    )
    endpoint = make_endpoint(environment)
    endpoint.listen(configurations({"accept_early_data": True}, is_client=False))
    client.connect(RUDE_ADDRESS, 1.0)
    for _ in range(20):
        exchange(client, endpoint, 1.0)
    return tickets[0], tokens[0]


def exchange(client: QuicConnection, endpoint: Endpoint, now: float, address: Any = RUDE_ADDRESS) -> None:
    """Once around, without loss."""
    for data, _ in client.datagrams_to_send(now):
        endpoint.receive(Received([data], address, None, 0), now)
    endpoint.touched.clear()
    for connection in list(endpoint.connections):
        for data, _ in connection.datagrams_to_send(now):
            client.receive_datagram(data, RUDE_ADDRESS, now)


class SessionAttack:
    """One server, and clients with whatever they bring."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.now = 1.0
        self.environment = SimulatedEnvironment(random.randrange(1 << 16))
        self.endpoint = make_endpoint(self.environment)
        self.endpoint.listen(configurations({"accept_early_data": True}, is_client=False), self._policy)
        self.flights: list[bytes] = []
        self._kinds: list[Callable[[], None]] = [self._visit, self._visit, self._replay, self._forms, self._hellos]

    def step(self) -> None:
        """One client, or a burst of what is left of earlier ones."""
        self.random.choice(self._kinds)()
        if not self.random.randrange(4):
            seconds = self.random.choice((0.001, 1.0, 30.0))
            self.now += seconds
            self.environment.date += seconds if self.random.randrange(8) else -seconds  # somebody sets the clock
            self.endpoint.handle_timer(self.now)
        self._drive()

    def _policy(self, incoming: Incoming) -> None:
        if incoming.address_validated:
            try:
                incoming.client_hello()
            except ClientHelloError:
                incoming.refuse()
                return
            incoming.accept()
        else:
            self.random.choice((incoming.accept, incoming.accept, incoming.retry, self._wait))()

    def _wait(self) -> None:
        """Leave it undecided."""

    # --- what clients bring ------------------------------------------------------------------------------------------

    def ticket(self) -> SessionTicket:
        """The real one, or what somebody made of it."""
        random = self.random
        ticket, _ = earned()
        ticket = dataclasses.replace(ticket, other_extensions=list(ticket.other_extensions))
        for _ in range(random.choice((0, 0, 1, 1, 2))):
            kind, content = random.choice(ticket.other_extensions)
            rest = [item for item in ticket.other_extensions if item[0] != kind]
            changes: dict[str, Any] = random.choice(
                (
                    {"ticket": mutate(ticket.ticket, random)},
                    {"resumption_secret": mutate(ticket.resumption_secret, random) or b"x"},
                    {"age_add": random.randrange(1 << 32)},
                    {"cipher_suite": random.choice(list(CipherSuite))},
                    {"server_name": random.choice(("", "localhost", "elsewhere"))},
                    {"max_early_data_size": random.choice((None, 1, 0xFFFFFFFF))},
                    {
                        "not_valid_before": ticket.not_valid_before
                        + timedelta(seconds=random.choice((-1e6, -60, -5, 60)))
                    },
                    {"other_extensions": [*rest, (kind, mutate(content, random))]},
                    {"other_extensions": rest},
                    {"other_extensions": [*ticket.other_extensions, (random.randrange(1 << 16), random.randbytes(9))]},
                )
            )
            ticket = dataclasses.replace(ticket, **changes)
            if not ticket.other_extensions:
                break
        return ticket

    def token(self) -> bytes:
        """The real one, or what somebody made of it."""
        random = self.random
        choice = random.randrange(4)
        if choice == 0:
            return b""
        return earned()[1] if choice < 3 else mutate(earned()[1], random)

    def _visit(self) -> None:
        """A client comes, sends early data if it may, and the network does what it does."""
        random = self.random
        store = SessionStore()
        store.add_ticket(f"localhost:{RUDE_ADDRESS[1]}", self.ticket())
        client = QuicConnection(
            configuration=configurations({"session_store": store, "token": self.token()}, is_client=True),
            environment=self.environment,
        )
        client.connect(RUDE_ADDRESS, self.now)
        for stream_id in random.sample((0, 2, 4, 6), random.randrange(4)):
            client.send_stream_data(
                stream_id, random.randbytes(random.choice((0, 10, 3000))), bool(random.randrange(2))
            )
        address = random.choice((RUDE_ADDRESS, RUDE_ADDRESS, *OTHER_ADDRESSES))
        for _ in range(random.randrange(1, ROUNDS + 1)):
            flight = [data for data, _ in client.datagrams_to_send(self.now)]
            self.flights = (self.flights + flight)[-64:]
            if not random.randrange(3):
                random.shuffle(flight)
            for data in flight:
                if random.randrange(6):
                    self._receive(data, address)
                elif random.randrange(2):
                    self._receive(mutate(data, random), address)
            self._answer(client)
            check_bounds(client)
            while client.next_event() is not None:
                pass

    def _answer(self, client: QuicConnection) -> None:
        for connection in list(self.endpoint.connections):
            for data, _ in connection.datagrams_to_send(self.now):
                client.receive_datagram(data, RUDE_ADDRESS, self.now)
        while (transmit := self.endpoint.next_transmit()) is not None:
            for data in transmit.datagrams:
                client.receive_datagram(data, RUDE_ADDRESS, self.now)

    def _replay(self) -> None:
        """Somebody repeats what clients have sent, as it was or not quite."""
        for _ in range(self.random.randrange(1, 8)):
            if self.flights:
                data = self.random.choice(self.flights)
                self._receive(
                    data if self.random.randrange(3) else mutate(data, self.random),
                    self.random.choice((RUDE_ADDRESS, *OTHER_ADDRESSES)),
                )

    def _receive(self, data: bytes, address: Any) -> None:
        self.endpoint.receive(Received([data], address, None, 0), self.now)
        self.endpoint.touched.clear()

    # --- the forms alone ---------------------------------------------------------------------------------------------

    def _forms(self) -> None:
        """Decoders of what is kept: None or ValueError, whatever the bytes."""
        random = self.random
        ticket = self.ticket()
        read = SessionTicket.decode(mutate(ticket.encode(), random), b"label")
        for item in (ticket, read):
            if item is None:
                continue
            version_of(item)
            restore(item)
            assert isinstance(item.alpn, str | None)
            item.age_error_at(self.environment.wall_clock(), random.randrange(1 << 32))
            with suppress(ValueError):
                item.peer_certificates()
        tickets = self.endpoint._tickets
        damaged = mutate(earned()[0].ticket, random)
        found = tickets.find(damaged)
        assert found is None or damaged == earned()[0].ticket
        handler = QuicRetryTokenHandler(SECRETS, environment=self.environment)
        damaged = mutate(earned()[1], random)
        try:
            handler.validate_new_token(
                address=RUDE_ADDRESS, version=VERSION_1, token=damaged, now=self.environment.date
            )
            assert damaged == earned()[1]
        except ValueError:
            pass
        try:
            handler.validate_token(address=RUDE_ADDRESS, destination_cid=b"", token=b"\x01" + damaged, now=0.0)
        except ValueError:
            return
        raise AssertionError("a token that is none was taken for one")

    def _hellos(self) -> None:
        """A ClientHello with pre_shared_key, damaged and sealed as if it were not, in pieces and in any order."""
        random = self.random
        client = QuicConnection(
            configuration=configurations({"session_ticket": self.ticket()}, is_client=True),
            environment=self.environment,
        )
        client.connect(RUDE_ADDRESS, self.now)
        message = bytes(client._parts.handshake._senders[INITIAL]._data)
        if random.randrange(4):
            message = mutate(message, random)
        with suppress(Alert):
            ClientHello.parse(message[4:])
        self._to_machine(client, message)
        cut = random.randrange(len(message)) if message else 0
        pieces = [crypto_frame(0, message[:cut]), crypto_frame(cut, message[cut:]), frame(random)]
        random.shuffle(pieces)
        cid = client._parts.initial_cid
        flight = [self._sealed(cid, client.host_cid, number, piece) for number, piece in enumerate(pieces)]
        with suppress(ClientHelloError):
            ClientHelloReader(parse_long_header(flight[0], 0)).read(flight)
        for data in flight:
            self._receive(data, RUDE_ADDRESS)

    def _to_machine(self, client: QuicConnection, message: bytes) -> None:
        server = QuicConnection(
            configuration=configurations({"accept_early_data": True}, is_client=False),
            original_destination_connection_id=client._parts.initial_cid,
            tickets=self.endpoint._tickets,
            environment=self.environment,
        )
        server._parts.handshake.expected_source_cid = client.host_cid
        try:
            server._parts.handshake.on_crypto_frame(INITIAL, 0, message)
        except QuicConnectionError:
            assert not server.early_data_accepted

    def _sealed(self, cid: bytes, source: bytes, number: int, payload: bytes) -> bytes:
        ring = KeyRing(True)
        ring.install_initial(cid, VERSION_1)
        sealing = ring.sealing[EPOCH_INITIAL]
        assert sealing is not None
        packet = LongPacket(INITIAL, sealing, VERSION_1, cid, source, b"", encode_packet_number(number, -1))
        packet.complete(number, payload + bytes(max(4, 1200 - packet.overhead - len(payload))))
        return packet.seal()

    # --- what a driver does ------------------------------------------------------------------------------------------

    def _drive(self) -> None:
        endpoint = self.endpoint
        for connection in list(endpoint.connections):
            timer = connection.get_timer()
            if timer is not None and timer <= self.now:
                connection.handle_timer(self.now)
            connection.datagrams_to_send(self.now)
            while connection.next_event() is not None:
                pass
            check_bounds(connection)
            if connection.is_terminated:
                endpoint.forget(connection)
        while endpoint.next_transmit() is not None:
            pass
        register = endpoint._tickets.register
        assert register is not None
        assert len(register) <= STRIKE_LIMIT
        assert len(endpoint.half_open) <= endpoint.half_open.limit
