"""`RacingConnection`: one handshake towards several addresses, and the first to answer has it."""

from __future__ import annotations

from typing import Any

from helpers.loopback import client_configuration, server_configuration
from quicio.quic import lifecycle as life
from quicio.quic.connection import QuicConnection, QuicConnectionState
from quicio.quic.events import ConnectionTerminated
from quicio.quic.racing import MAX_ADDRESSES, MAX_FLIGHT, RacingConnection
from quicio.quic.transmit import Received

FIRST, SECOND, CLIENT = ("first", 1), ("second", 2), ("client", 3)


def make(*addresses: Any, **changes: Any) -> RacingConnection:
    configuration = client_configuration(server_name="localhost", **changes)
    connection = RacingConnection(addresses=addresses or (FIRST, SECOND), configuration=configuration)
    connection.connect((addresses or (FIRST,))[0], 0.0)
    return connection


def targets(connection: QuicConnection, now: float) -> list[tuple[Any, bytes]]:
    return [(address, data) for data, address in connection.datagrams_to_send(now)]


def answer(connection: RacingConnection, sent: list[tuple[Any, bytes]], address: Any, now: float) -> QuicConnection:
    """A server at `address` takes what was sent to it and answers."""
    cid = sent[0][1][6 : 6 + sent[0][1][5]]
    server = QuicConnection(configuration=server_configuration(), original_destination_connection_id=cid)
    for remote, data in sent:
        if remote == address:
            server.receive_datagram(data, CLIENT, now)
    for data, _ in server.datagrams_to_send(now):
        connection.receive_datagram(data, address, now)
    return server


def test_only_the_first_address_runs_at_first() -> None:
    connection = make()
    sent = targets(connection, 0.0)
    assert sent
    assert {address for address, _ in sent} == {FIRST}


def test_after_a_probe_timeout_the_next_joins_and_gets_all_that_was_sent() -> None:
    connection = make()
    first_flight = targets(connection, 0.0)
    timer = connection.get_timer()
    assert timer is not None
    connection.handle_timer(timer)
    sent = targets(connection, timer)
    assert {address for address, _ in sent} == {FIRST, SECOND}
    to_second = [data for address, data in sent if address == SECOND]
    assert to_second[: len(first_flight)] == [data for _, data in first_flight]
    assert set(to_second) == {data for _, data in first_flight} | {data for address, data in sent if address == FIRST}


def test_the_first_to_answer_wins() -> None:
    connection = make()
    settled: list[bool] = []
    connection.on_settled = lambda: settled.append(connection.is_settled)
    sent = targets(connection, 0.0)
    timer = connection.get_timer()
    assert timer is not None
    connection.handle_timer(timer)
    sent = targets(connection, timer)
    answer(connection, sent, SECOND, timer)
    assert connection.is_settled
    assert settled == [True]
    assert connection.get_peer_address() == SECOND
    assert {address for address, _ in targets(connection, timer)} == {SECOND}
    connection.refuse(SECOND)  # too late to matter
    assert connection.close_reason is None


def test_what_is_not_authentic_decides_nothing() -> None:
    connection = make()
    sent = targets(connection, 0.0)
    timer = connection.get_timer()
    assert timer is not None
    connection.handle_timer(timer)
    targets(connection, timer)
    connection.receive_datagrams(Received([b"\xc0" + bytes(1200)], SECOND), timer)
    connection.receive_datagrams(Received([b"junk"], ("nobody", 9)), timer)
    assert not connection.is_settled
    assert connection.get_peer_address() == FIRST
    answer(connection, sent, FIRST, timer)
    assert connection.get_peer_address() == FIRST
    assert connection.is_settled


def test_a_refused_address_gives_way_at_once() -> None:
    connection = make()
    flight = targets(connection, 0.0)
    connection.refuse(("nobody", 9))  # not one of ours
    connection.refuse(FIRST)
    assert connection.get_peer_address() == SECOND
    assert targets(connection, 0.0) == [(SECOND, data) for _, data in flight]


def test_the_last_refusal_ends_the_connection() -> None:
    connection = make()
    targets(connection, 0.0)
    connection.refuse(FIRST)
    connection.refuse(SECOND)
    assert connection.is_terminated
    assert connection.close_cause == life.CAUSE_LOCAL
    event = connection.next_event()
    assert isinstance(event, ConnectionTerminated)
    assert "nobody listens" in event.reason_phrase
    assert targets(connection, 0.0) == []


def test_closing_before_an_answer_waits_for_nothing() -> None:
    connection = make()
    targets(connection, 0.0)
    connection.close(0, reason_phrase="enough")
    assert targets(connection, 0.1)  # CONNECTION_CLOSE
    timer = connection.get_timer()
    assert timer is not None
    assert timer <= 0.1
    connection.handle_timer(timer)
    assert connection.is_terminated
    never_started = RacingConnection(addresses=[FIRST], configuration=client_configuration())
    never_started.close()
    assert never_started.is_terminated


def test_closing_after_an_answer_has_its_period() -> None:
    connection = make()
    answer(connection, targets(connection, 0.0), FIRST, 0.1)
    connection.close()
    targets(connection, 0.1)
    assert connection.state is QuicConnectionState.CLOSING
    timer = connection.get_timer()
    assert timer is not None
    assert timer > 0.1


def test_the_handshake_timeout_waits_for_nothing_either() -> None:
    connection = make(handshake_timeout=1.0)
    now = 0.0
    while not connection.is_terminated:
        targets(connection, now)
        timer = connection.get_timer()
        assert timer is not None
        now = max(now, timer)
        connection.handle_timer(now)
        assert now <= 1.0
    assert connection.close_cause == life.CAUSE_HANDSHAKE_TIMEOUT


def test_addresses_and_packets_kept_are_bounded() -> None:
    addresses = [("host", port) for port in range(1, 30)]
    connection = make(*addresses, handshake_timeout=1e5, idle_timeout=1e6)
    now = 0.0
    seen = set()
    for _ in range(12):
        seen |= {address for address, _ in targets(connection, now)}
        timer = connection.get_timer()
        assert timer is not None
        now = timer
        connection.handle_timer(now)
        assert len(connection._flight) <= MAX_FLIGHT
    assert len(seen) == MAX_ADDRESSES
