"""`QuicConnection` and its events, as documented, on both libraries: every method, every event, order and errors."""

from __future__ import annotations

import time
from typing import Any

import pytest

from helpers.certificates import make_certificates
from helpers.library import CLIENT, SERVER, Library, Pair

DATAGRAMS = {"max_datagram_frame_size": 65536}


def quicio_only(library: Library) -> bool:
    """Where the two differ on purpose, the test says what each does."""
    return library.root == "quicio"


def data_of(pair: Pair, who: str, stream_id: int) -> tuple[bytes, bool]:
    """All that came on a stream, and whether it has ended."""
    events = [event for event in pair.events(who, "StreamDataReceived") if event.stream_id == stream_id]
    return b"".join(event.data for event in events), any(event.end_stream for event in events)


# --- the life of a connection -------------------------------------------------------------------------------------------


def test_the_handshake_is_told_in_its_order(library: Library) -> None:
    pair = Pair(library).connected()
    names = [type(event).__name__ for event in pair.client_told]
    assert names[:2] == ["ProtocolNegotiated", "HandshakeCompleted"]
    assert names[2:] == ["ConnectionIdIssued"] * 7
    assert [type(event).__name__ for event in pair.server_told] == names
    events = library("quic.events")
    assert pair.client_told[0] == events.ProtocolNegotiated(alpn_protocol="hq-interop")
    assert pair.client_told[1] == events.HandshakeCompleted(
        alpn_protocol="hq-interop", early_data_accepted=False, session_resumed=False
    )
    assert all(isinstance(event, events.QuicEvent) for event in pair.client_told)


@pytest.mark.parametrize(
    "clock", [time.time, time.monotonic, lambda: 0.0, lambda: 5_000_000], ids=["wall", "monotonic", "zero", "integer"]
)
def test_any_clock_will_do(library: Library, clock: Any) -> None:
    pair = Pair(library, start=clock()).connected()
    pair.client.send_stream_data(0, b"tick", True)
    pair.run()
    assert data_of(pair, "server", 0) == (b"tick", True)


@pytest.mark.parametrize("address", [("::1", 4433, 0, 0), ("192.0.2.1", 4433), "somewhere", 7], ids=str)
def test_addresses_are_whatever_the_driver_has(library: Library, address: Any) -> None:
    """Given by position, as hypercorn does, or by keyword; they come back from `datagrams_to_send` as they were given."""
    connection = library("quic.connection").QuicConnection
    client = connection(configuration=library.client_configuration())
    client.connect(address, 0.0)
    data, to = client.datagrams_to_send(0.0)[0]
    assert to == address
    server = connection(
        configuration=library.server_configuration(),
        original_destination_connection_id=client.original_destination_connection_id,
    )
    server.receive_datagram(data=data, addr=address, now=0.0)
    assert {to for _, to in server.datagrams_to_send(now=0.0)} == {address}
    assert server.get_peer_address() == address


def test_the_configuration_and_the_ids_can_be_asked_for(library: Library) -> None:
    pair = Pair(library, client={"connection_id_length": 12})
    assert pair.client.configuration.server_name == "localhost"
    assert len(pair.client.host_cid) == 12
    assert len(pair.client.original_destination_connection_id) >= 8
    assert pair.server.original_destination_connection_id == pair.client.original_destination_connection_id


def test_the_original_connection_id_is_there_before_connect(library: Library) -> None:
    client = library("quic.connection").QuicConnection(configuration=library.client_configuration())
    original = client.original_destination_connection_id
    assert len(original) == 8
    client.connect(SERVER, now=0.0)
    assert client.original_destination_connection_id == original


def test_a_local_close_is_told_at_the_end_with_what_was_given(library: Library) -> None:
    code = library("quic.packet").QuicErrorCode.NO_ERROR
    pair = Pair(library).connected()
    pair.client.close(error_code=code, frame_type=library("quic.packet").QuicFrameType.PADDING, reason_phrase="done")
    pair.step()
    assert pair.events("client", "ConnectionTerminated") == []
    pair.until_over()
    event = library("quic.events").ConnectionTerminated(error_code=0, frame_type=0, reason_phrase="done")
    assert pair.events("client", "ConnectionTerminated") == [event]
    assert pair.events("client", "ConnectionTerminated")[0].error_code is code
    assert pair.events("server", "ConnectionTerminated") == [event]
    assert type(pair.events("server", "ConnectionTerminated")[0].error_code) is int


def test_an_application_close_has_no_frame_type(library: Library) -> None:
    pair = Pair(library).connected()
    pair.server.close(0x1234, None, "application")
    pair.until_over()
    for who in ("client", "server"):
        event = pair.events(who, "ConnectionTerminated")[0]
        assert (event.error_code, event.frame_type, event.reason_phrase) == (0x1234, None, "application")


def test_after_the_end_nothing_happens_any_more(library: Library) -> None:
    pair = Pair(library).connected()
    pair.client.close()
    pair.until_over()
    assert pair.client.next_event() is None
    assert pair.client.get_timer() is None
    pair.client.close()
    pair.client.receive_datagram(b"\x40" + bytes(40), SERVER, now=pair.now)
    assert pair.client.datagrams_to_send(now=pair.now) == []
    assert pair.client.next_event() is None


def test_connection_ids_are_issued_once_and_retired_once(library: Library) -> None:
    """hypercorn adds and deletes exactly the routes it is told of, and the rest at ConnectionTerminated."""
    pair = Pair(library).connected()
    first = pair.server.host_cid
    pair.client.change_connection_id()
    pair.run()
    pair.client.close()
    pair.until_over()
    issued = [event.connection_id for event in pair.events("server", "ConnectionIdIssued")]
    retired = [event.connection_id for event in pair.events("server", "ConnectionIdRetired")]
    assert len(set(issued)) == len(issued) == 8
    assert retired == [first]  # the others end with the connection


def test_the_idle_timeout_ends_at_once(library: Library) -> None:
    pair = Pair(library, client={"idle_timeout": 2.0}).connected()
    pair.now += 10
    pair.client.handle_timer(now=pair.now)
    pair.drain()
    event = pair.events("client", "ConnectionTerminated")[0]
    assert (int(event.error_code), event.frame_type, event.reason_phrase) == (1, 0, "Idle timeout")


def test_the_timer_is_in_the_future_and_harmless_early(library: Library) -> None:
    pair = Pair(library)
    pair.client.datagrams_to_send(now=pair.now)
    due = pair.client.get_timer()
    assert pair.now < due < pair.now + 5
    pair.client.handle_timer(now=pair.now)
    assert pair.client.datagrams_to_send(now=pair.now) == []
    pair.client.handle_timer(due)
    assert pair.client.datagrams_to_send(now=due) != []


# --- streams ------------------------------------------------------------------------------------------------------------


def test_stream_ids_are_counted_by_kind_and_reserve_nothing(library: Library) -> None:
    pair = Pair(library).connected()
    assert pair.client.get_next_available_stream_id() == 0
    assert pair.client.get_next_available_stream_id(False) == 0
    assert pair.client.get_next_available_stream_id(is_unidirectional=True) == 2
    assert pair.server.get_next_available_stream_id() == 1
    assert pair.server.get_next_available_stream_id(True) == 3
    pair.client.send_stream_data(0, b"")
    assert pair.client.get_next_available_stream_id() == 4
    module = library("quic.connection")
    kinds = [(module.stream_is_client_initiated(i), module.stream_is_unidirectional(i)) for i in range(4)]
    assert kinds == [(True, False), (False, False), (True, True), (False, True)]


@pytest.mark.parametrize("stream_id", [0, 2])
def test_data_and_its_end_arrive(library: Library, stream_id: int) -> None:
    pair = Pair(library).connected()
    pair.client.send_stream_data(stream_id, b"one ")
    pair.client.send_stream_data(stream_id=stream_id, data=b"two", end_stream=True)
    pair.run()
    assert data_of(pair, "server", stream_id) == (b"one two", True)
    event = pair.events("server", "StreamDataReceived")[0]
    assert event == library("quic.events").StreamDataReceived(data=b"one two", end_stream=True, stream_id=stream_id)


def test_a_stream_longer_than_every_window_arrives(library: Library) -> None:
    pair = Pair(library, server={"max_data": 20_000, "max_stream_data": 10_000}).connected()
    pair.client.send_stream_data(0, bytes(range(256)) * 400, True)
    pair.run(5)
    assert data_of(pair, "server", 0) == (bytes(range(256)) * 400, True)


def test_data_may_be_queued_before_connect(library: Library) -> None:
    connection = library("quic.connection").QuicConnection
    client = connection(configuration=library.client_configuration())
    client.send_stream_data(client.get_next_available_stream_id(), b"early bird", True)
    pair = Pair(library)
    client.connect(SERVER, now=pair.now)
    pair.client = client
    pair.server = connection(
        configuration=library.server_configuration(),
        original_destination_connection_id=client.original_destination_connection_id,
    )
    pair.connected()
    assert data_of(pair, "server", 0) == (b"early bird", True)


def test_a_reset_and_a_stop_are_told(library: Library) -> None:
    events = library("quic.events")
    pair = Pair(library).connected()
    pair.client.send_stream_data(0, b"begun")
    pair.run()
    pair.client.reset_stream(stream_id=0, error_code=11)
    pair.client.stop_stream(stream_id=0, error_code=12)
    pair.run()
    assert pair.events("server", "StreamReset") == [events.StreamReset(error_code=11, stream_id=0)]
    assert pair.events("server", "StopSendingReceived") == [events.StopSendingReceived(error_code=12, stream_id=0)]
    reset = pair.events("client", "StreamReset")
    assert [event.stream_id for event in reset] == [0]  # a stop is answered with a reset (RFC 9000 §3.5)
    assert reset[0].error_code == 12


@pytest.mark.parametrize("stream_id", [3, 1], ids=["the peer's unidirectional", "unknown"])
def test_streams_that_cannot_be_sent_on(library: Library, stream_id: int) -> None:
    pair = Pair(library).connected()
    with pytest.raises(ValueError):
        pair.client.send_stream_data(stream_id, b"x")
    with pytest.raises(ValueError):
        pair.client.reset_stream(stream_id, 1)


@pytest.mark.parametrize("stream_id", [2, 1], ids=["our unidirectional", "unknown"])
def test_streams_that_cannot_be_stopped(library: Library, stream_id: int) -> None:
    pair = Pair(library).connected()
    if stream_id == 2:
        pair.client.send_stream_data(2, b"x")
    with pytest.raises(ValueError):
        pair.client.stop_stream(stream_id, 1)


def test_a_finished_stream_takes_nothing(library: Library) -> None:
    pair = Pair(library).connected()
    pair.client.send_stream_data(0, b"all", True)
    pair.step()
    pair.server.send_stream_data(0, b"all", True)
    pair.run()
    with pytest.raises(ValueError):
        pair.client.send_stream_data(0, b"more")


def test_a_stream_that_was_reset_takes_nothing(library: Library) -> None:
    pair = Pair(library).connected()
    pair.client.send_stream_data(0, b"begun")
    pair.client.reset_stream(0, 1)
    with pytest.raises(RuntimeError):
        pair.client.send_stream_data(0, b"more")


# --- the rest of the verbs ------------------------------------------------------------------------------------------------


def test_a_ping_is_acknowledged(library: Library) -> None:
    pair = Pair(library).connected()
    pair.client.send_ping(uid=4711)
    pair.run()
    assert pair.events("client", "PingAcknowledged") == [library("quic.events").PingAcknowledged(uid=4711)]


def test_datagrams_arrive_both_ways(library: Library) -> None:
    event = library("quic.events").DatagramFrameReceived
    pair = Pair(library, DATAGRAMS, DATAGRAMS).connected()
    pair.client.send_datagram_frame(b"there")
    pair.server.send_datagram_frame(data=b"back")
    pair.run()
    assert pair.events("server", "DatagramFrameReceived") == [event(data=b"there")]
    assert pair.events("client", "DatagramFrameReceived") == [event(data=b"back")]


def test_a_datagram_that_is_too_large(library: Library) -> None:
    """aioquic takes it, and then sends no datagram any more; here it is refused, and the next one goes."""
    pair = Pair(library, DATAGRAMS, DATAGRAMS).connected()
    if quicio_only(library):
        with pytest.raises(ValueError):
            pair.client.send_datagram_frame(bytes(5000))
    else:
        pair.client.send_datagram_frame(bytes(5000))
    pair.client.send_datagram_frame(b"small")
    pair.run()
    assert len(pair.events("server", "DatagramFrameReceived")) == (1 if quicio_only(library) else 0)


def test_changing_the_connection_id_retires_the_old_one(library: Library) -> None:
    pair = Pair(library).connected()
    before = pair.server.host_cid
    pair.client.change_connection_id()
    pair.run()
    retired = pair.events("server", "ConnectionIdRetired")
    assert retired == [library("quic.events").ConnectionIdRetired(connection_id=before)]
    assert len(pair.events("server", "ConnectionIdIssued")) == 8
    pair.client.send_stream_data(0, b"on the new one", True)
    pair.run()
    assert data_of(pair, "server", 0) == (b"on the new one", True)


def test_a_key_update_is_followed(library: Library) -> None:
    pair = Pair(library).connected()
    pair.client.request_key_update()
    for stream_id in (0, 4, 8):
        pair.client.send_stream_data(stream_id, b"ask", True)
        pair.run()
        pair.server.send_stream_data(stream_id, b"answer", True)
        pair.run()
        assert data_of(pair, "client", stream_id) == (b"answer", True)


def test_verbs_before_the_handshake_raise_nothing(library: Library) -> None:
    pair = Pair(library)
    pair.client.change_connection_id()
    pair.client.send_ping(1)
    pair.client.request_key_update()
    pair.connected()


# --- misuse -------------------------------------------------------------------------------------------------------------


def test_connecting_twice(library: Library) -> None:
    pair = Pair(library)
    with pytest.raises((RuntimeError, AssertionError)) as caught:
        pair.client.connect(SERVER, now=pair.now)
    assert not quicio_only(library) or type(caught.value) is RuntimeError


def test_a_server_cannot_connect(library: Library) -> None:
    pair = Pair(library)
    with pytest.raises((RuntimeError, AssertionError)) as caught:
        pair.server.connect(CLIENT, now=pair.now)
    assert not quicio_only(library) or type(caught.value) is RuntimeError


@pytest.mark.parametrize(
    "changes",
    [{"certificate": None}, {"private_key": None}, {"max_datagram_size": 1199}],
    ids=["certificate", "key", "datagram size"],
)
def test_configurations_of_which_no_server_can_be_made(library: Library, changes: dict[str, Any]) -> None:
    with pytest.raises((ValueError, AssertionError)) as caught:
        Pair(library, server=changes)
    assert not quicio_only(library) or type(caught.value) is ValueError


def test_a_server_needs_the_original_connection_id(library: Library) -> None:
    with pytest.raises((ValueError, AssertionError)) as caught:
        library("quic.connection").QuicConnection(configuration=library.server_configuration())
    assert not quicio_only(library) or type(caught.value) is ValueError


def test_a_client_takes_no_original_connection_id(library: Library) -> None:
    with pytest.raises((ValueError, AssertionError)):
        library("quic.connection").QuicConnection(
            configuration=library.client_configuration(), original_destination_connection_id=bytes(8)
        )


def test_an_unknown_congestion_controller(library: Library) -> None:
    with pytest.raises(Exception, match="guess"):
        Pair(library, client={"congestion_control_algorithm": "guess"})


# --- failures of the handshake --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("client", "alert"),
    [
        ({"cadata": make_certificates().authority_pem}, None),
        ({"server_name": "elsewhere.test"}, 42),
        ({"alpn_protocols": ["other"]}, 120),
    ],
    ids=["unknown authority", "another name", "no common protocol"],
)
def test_a_handshake_that_fails_says_why(library: Library, client: dict[str, Any], alert: int | None) -> None:
    """0x100 and the alert, frame type CRYPTO, and a reason in words.

    For an unknown authority TLS has an alert of its own, unknown_ca (RFC 8446 §6.2), where aioquic says bad_certificate.
    """
    if alert is None:
        alert = 48 if quicio_only(library) else 42
    pair = Pair(library, client)
    pair.run(1)
    pair.until_over()
    event = pair.events("client", "ConnectionTerminated")[0]
    assert int(event.error_code) == 0x100 + alert
    assert event.frame_type == 6
    assert event.reason_phrase


def test_ticket_handlers_are_called_in_their_place(library: Library) -> None:
    """The server's before its HandshakeCompleted, the client's behind its own; a second handshake resumes."""
    order: list[str] = []
    kept: dict[bytes, Any] = {}
    mine: list[Any] = []

    def keep(ticket: Any) -> None:
        order.append("server ticket")
        kept[ticket.ticket] = ticket

    def remember(ticket: Any) -> None:
        order.append("client ticket")
        mine.append(ticket)

    options: dict[str, Any] = {"session_ticket_fetcher": kept.pop, "session_ticket_handler": keep}
    pair = Pair(library, client_options={"session_ticket_handler": remember}, server_options=options)
    pair.server_handler = lambda event: order.append("server " + type(event).__name__)
    pair.client_handler = lambda event: order.append("client " + type(event).__name__)
    pair.connected()
    told = [what for what in order if what.startswith("server") and "Issued" not in what]
    assert told == ["server ProtocolNegotiated", "server ticket", "server HandshakeCompleted"]
    assert order.index("client HandshakeCompleted") < len(order)
    assert len(mine) == 1
    again = Pair(library, {"session_ticket": mine[0]}, server_options=options)
    again.client.send_stream_data(0, b"zero", True)
    again.connected()
    for who in ("client", "server"):
        event = again.events(who, "HandshakeCompleted")[0]
        assert (event.session_resumed, event.early_data_accepted) == (True, True)
    names = [type(event).__name__ for event in again.server_told]
    assert names[:3] == ["ProtocolNegotiated", "StreamDataReceived", "HandshakeCompleted"]
