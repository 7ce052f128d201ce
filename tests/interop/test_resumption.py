"""Resumption and early data against aioquic, in both roles, in memory: datagrams are handed over, no socket is between.

What counts is decided on our side by the packets that were opened and sealed, decoded, and on aioquic's by its events.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from aioquic.quic.configuration import QuicConfiguration as TheirConfiguration
from aioquic.quic.connection import QuicConnection as TheirConnection
from aioquic.quic.events import HandshakeCompleted as TheirHandshakeCompleted
from aioquic.quic.events import StreamDataReceived as TheirData
from aioquic.tls import SessionTicket as TheirTicket

from helpers.loopback import identity
from quicio.quic.configuration import QuicConfiguration
from quicio.quic.connection import QuicConnection
from quicio.quic.endpoint import Endpoint, Incoming
from quicio.quic.events import HandshakeCompleted, StreamDataReceived
from quicio.quic.sessions import SessionStore
from quicio.quic.transmit import Received
from quicio.tls.tickets import SessionTicket
from sim.capture import Capture

CLIENT = ("127.0.0.1", 50000)
SERVER = ("127.0.0.1", 4433)
DATA = b"early " * 500
ALPN = ["quicio-test"]


def our_events(connection: QuicConnection) -> list[Any]:
    events = []
    while (event := connection.next_event()) is not None:
        events.append(event)
    return events


def their_events(connection: TheirConnection) -> list[Any]:
    events = []
    while (event := connection.next_event()) is not None:
        events.append(event)
    return events


def until(done: Callable[[], bool], turn: Callable[[float], None]) -> None:
    for _ in range(60):
        turn(time.time())
        if done():
            return
    raise AssertionError("the two sides did not get there")


# Our client, their server.


class TheirServer:
    """aioquic's server, as applications of its sans-I/O API build one: tickets are popped when they are fetched."""

    def __init__(self, credentials: tuple[str, str, str], *, pop: bool = True) -> None:
        self.configuration = TheirConfiguration(is_client=False, alpn_protocols=ALPN)
        self.configuration.load_cert_chain(credentials[0], credentials[1])
        self.tickets: dict[bytes, TheirTicket] = {}

    def accept(self, original_cid: bytes) -> TheirConnection:
        return TheirConnection(
            configuration=self.configuration,
            original_destination_connection_id=original_cid,
            session_ticket_fetcher=lambda label: self.tickets.pop(label, None),
            session_ticket_handler=lambda ticket: self.tickets.__setitem__(ticket.ticket, ticket),
        )


def our_configuration(**changes: Any) -> QuicConfiguration:
    return QuicConfiguration(alpn_protocols=ALPN, server_name="localhost", cadata=identity()[1]).replaced(**changes)


def connect_to_them(
    server: TheirServer, data: bytes = b"", **changes: Any
) -> tuple[QuicConnection, Capture, list[Any], list[Any], bytes]:
    """One connection: our client with its packets and events, the server's events, and what the server got."""
    client = QuicConnection(configuration=our_configuration(**changes))
    capture = Capture()
    client.observe(capture)
    client.connect(SERVER, time.time())
    if data:
        stream = client.open_stream()
        assert stream is not None
        client.send_stream_data(stream, data, end_stream=True)
    peer = server.accept(client.original_destination_connection_id)
    ours: list[Any] = []
    theirs: list[Any] = []

    def turn(now: float) -> None:
        for datagram, _ in client.datagrams_to_send(now):
            peer.receive_datagram(datagram, CLIENT, now)
            theirs.extend(their_events(peer))
        for datagram, _ in peer.datagrams_to_send(now):
            client.receive_datagram(datagram, SERVER, now)
        ours.extend(our_events(client))

    def received() -> bytes:
        return b"".join(event.data for event in theirs if isinstance(event, TheirData))

    until(lambda: client.is_handshake_confirmed and received() == data, turn)
    turn(time.time())
    return client, capture, ours, theirs, received()


def test_our_client_resumes_and_sends_early_data(credentials: tuple[str, str, str]) -> None:
    server = TheirServer(credentials)
    store = SessionStore()
    connect_to_them(server, session_store=store)
    client, capture, ours, theirs, received = connect_to_them(server, DATA, session_store=store)
    (completed,) = [event for event in ours if isinstance(event, HandshakeCompleted)]
    assert completed.session_resumed
    assert completed.early_data_accepted
    assert client.session_resumed
    assert received == DATA
    (theirs_completed,) = [event for event in theirs if isinstance(event, TheirHandshakeCompleted)]
    assert theirs_completed.session_resumed
    assert theirs_completed.early_data_accepted
    early = [
        frame for packet in capture.packets if packet.is_sent and packet.epoch == "ZERO_RTT" for frame in packet.frames
    ]
    assert sum(len(fields[2]) for name, fields in early if name == "STREAM") == len(DATA)
    handshake = b"".join(
        fields[1]
        for packet in capture.packets
        if not packet.is_sent and packet.epoch == "HANDSHAKE"
        for name, fields in packet.frames
        if name == "CRYPTO"
    )
    assert len(handshake) < 300  # EncryptedExtensions and Finished: no certificate


def test_our_early_data_is_rejected_and_sent_again(credentials: tuple[str, str, str]) -> None:
    server = TheirServer(credentials)
    tickets: list[SessionTicket] = []
    store = SessionStore()
    connect_to_them(server, session_store=store)
    ticket = store.take_ticket("localhost:4433")
    assert ticket is not None
    tickets.append(ticket)
    server.tickets.clear()
    client, capture, ours, theirs, received = connect_to_them(server, DATA, session_ticket=ticket)
    (completed,) = [event for event in ours if isinstance(event, HandshakeCompleted)]
    assert not completed.session_resumed
    assert not completed.early_data_accepted
    assert any(packet.is_sent and packet.epoch == "ZERO_RTT" for packet in capture.packets)
    assert received == DATA


# Their client, our server.


def our_server(credentials: tuple[str, str, str], **changes: Any) -> QuicConfiguration:
    configuration = QuicConfiguration(is_client=False, alpn_protocols=ALPN).replaced(**changes)
    configuration.load_cert_chain(credentials[0], credentials[1])
    return configuration


class TheirRun:
    """One connection of aioquic's client to our endpoint."""

    def __init__(
        self, endpoint: Endpoint, credentials: tuple[str, str, str], ticket: TheirTicket | None, data: bytes
    ) -> None:
        configuration = TheirConfiguration(
            is_client=True, alpn_protocols=ALPN, server_name="localhost", session_ticket=ticket
        )
        configuration.load_verify_locations(credentials[2])
        self.tickets: list[TheirTicket] = []
        self.tokens: list[bytes] = []
        client = TheirConnection(
            configuration=configuration,
            session_ticket_handler=self.tickets.append,
            token_handler=self.tokens.append,
        )
        client.connect(SERVER, now=time.time())
        if data:
            client.send_stream_data(0, data, end_stream=True)
        self.theirs: list[Any] = []
        self.ours: list[Any] = []
        self.capture = Capture()
        self.data = data
        self.connection: QuicConnection | None = None
        endpoint.on_connection = self.adopt

        def turn(now: float) -> None:
            for datagram, _ in client.datagrams_to_send(now):
                endpoint.receive(Received([datagram], CLIENT), now)
            while (answer := endpoint.next_transmit()) is not None:
                for datagram in answer.datagrams:
                    client.receive_datagram(datagram, SERVER, now)
            if self.connection is not None:
                for datagram, _ in self.connection.datagrams_to_send(now):
                    client.receive_datagram(datagram, SERVER, now)
                self.ours.extend(our_events(self.connection))
            self.theirs.extend(their_events(client))

        until(self.is_done, turn)
        for _ in range(3):
            turn(time.time())

    def adopt(self, connection: QuicConnection) -> None:
        self.connection = connection
        connection.observe(self.capture)

    def received(self) -> bytes:
        return b"".join(event.data for event in self.ours if isinstance(event, StreamDataReceived))

    def is_done(self) -> bool:
        return self.connection is not None and self.connection.is_handshake_complete and self.received() == self.data

    def completed(self) -> tuple[HandshakeCompleted, Any]:
        (ours,) = [event for event in self.ours if isinstance(event, HandshakeCompleted)]
        (theirs,) = [event for event in self.theirs if isinstance(event, TheirHandshakeCompleted)]
        return ours, theirs


def retry_always(incoming: Incoming) -> None:
    if incoming.address_validated:
        incoming.accept()
    else:
        incoming.retry()


@pytest.mark.parametrize("accepts", [True, False])
def test_their_client_resumes_here(credentials: tuple[str, str, str], accepts: bool) -> None:
    """With sealed tickets; early data is accepted where it is asked for."""
    endpoint = Endpoint()
    endpoint.listen(our_server(credentials, accept_early_data=accepts))
    first = TheirRun(endpoint, credentials, None, b"")
    assert first.tokens
    second = TheirRun(endpoint, credentials, first.tickets[-1], DATA)
    for completed in second.completed():
        assert completed.session_resumed
        assert completed.early_data_accepted is accepts
    early = [packet for packet in second.capture.packets if not packet.is_sent and packet.epoch == "ZERO_RTT"]
    assert bool(early) is accepts
    assert second.connection is not None
    assert second.connection.has_early_data(0) is accepts
    kinds = [type(event) for event in second.ours if isinstance(event, HandshakeCompleted | StreamDataReceived)]
    assert (kinds[0] is StreamDataReceived) is accepts  # before the handshake is complete


def test_their_client_resumes_with_kept_tickets(credentials: tuple[str, str, str]) -> None:
    """Through the two functions that aioquic's servers have: they ask for early data by themselves."""
    kept: dict[bytes, SessionTicket] = {}
    endpoint = Endpoint()

    def make(**arguments: Any) -> QuicConnection:
        return QuicConnection(
            session_ticket_fetcher=lambda label: kept.pop(label, None),
            session_ticket_handler=lambda ticket: kept.__setitem__(ticket.ticket, ticket),
            **arguments,
        )

    endpoint.listen(our_server(credentials), make=make)
    first = TheirRun(endpoint, credentials, None, b"")
    assert [len(label) for label in kept] == [64]
    ticket = first.tickets[-1]
    second = TheirRun(endpoint, credentials, ticket, DATA)
    assert all(completed.early_data_accepted for completed in second.completed())
    third = TheirRun(
        endpoint, credentials, ticket, DATA
    )  # it was popped: a full handshake, and the data comes all the same
    assert not any(completed.session_resumed for completed in third.completed())


def test_their_client_behind_a_retry(credentials: tuple[str, str, str]) -> None:
    endpoint = Endpoint()
    endpoint.listen(our_server(credentials, accept_early_data=True), policy=retry_always)
    first = TheirRun(endpoint, credentials, None, b"")
    second = TheirRun(endpoint, credentials, first.tickets[-1], b"")
    assert all(completed.session_resumed for completed in second.completed())
