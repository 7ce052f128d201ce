"""QuicConnection: what it refuses, what it counts, how it ends; on the simulator where it takes two."""

from __future__ import annotations

import gc
import io
import weakref

import pytest

from helpers.certificates import make_certificates
from quicio.quic import lifecycle as life
from quicio.quic.configuration import QuicConfiguration
from quicio.quic.connection import (
    QuicConnection,
    QuicConnectionState,
    stream_is_client_initiated,
    stream_is_unidirectional,
)
from quicio.quic.events import (
    ConnectionClosing,
    ConnectionIdIssued,
    ConnectionIdRetired,
    ConnectionTerminated,
    DatagramFrameReceived,
    DecisionNeeded,
    HandshakeCompleted,
    PathChanged,
    PingAcknowledged,
    ProtocolNegotiated,
    StreamReset,
)
from quicio.quic.packet import QuicErrorCode
from quicio.quic.transmit import Received, Transmit
from quicio.quic.wire.constants import QuicConnectionError
from quicio.tls.outputs import ClientHelloAnswer
from sim.links import Delay
from sim.world import CLIENT_ADDRESS, SERVER_ADDRESS, World


def client_configuration(**changes: object) -> QuicConfiguration:
    return QuicConfiguration(alpn_protocols=["test"]).replaced(**changes)


def server_configuration(**changes: object) -> QuicConfiguration:
    made = make_certificates("ed25519")
    return QuicConfiguration(
        is_client=False, alpn_protocols=["test"], certificate=made.chain[0], private_key=made.private_key
    ).replaced(**changes)


@pytest.mark.parametrize(
    ("stream_id", "by_client", "unidirectional"),
    [(0, True, False), (1, False, False), (2, True, True), (3, False, True)],
)
def test_stream_ids_tell_who_opens_and_which_way(stream_id: int, by_client: bool, unidirectional: bool) -> None:
    assert stream_is_client_initiated(stream_id) == by_client
    assert stream_is_unidirectional(stream_id) == unidirectional


# --- construction -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"max_datagram_size": 1199}, "at least 1200"),
        ({"connection_id_length": 21}, "between 0 and 20"),
        ({"supported_versions": []}, "supported_versions is empty"),
        ({"supported_versions": [0xFF00001D]}, "not known"),
        ({"congestion_control_algorithm": "vegas"}, "unknown congestion control"),
        ({"original_version": 5}, "not known"),
    ],
)
def test_configurations_without_a_connection(changes: dict[str, object], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        QuicConnection(configuration=client_configuration(**changes))


def test_a_server_needs_a_certificate_and_the_original_connection_id() -> None:
    with pytest.raises(ValueError, match="needs a certificate"):
        QuicConnection(configuration=QuicConfiguration(is_client=False), original_destination_connection_id=b"12345678")
    with pytest.raises(ValueError, match="needs original_destination_connection_id"):
        QuicConnection(configuration=server_configuration())
    with pytest.raises(ValueError, match="for servers"):
        QuicConnection(configuration=client_configuration(), original_destination_connection_id=b"12345678")


def test_connect_is_for_clients_and_once() -> None:
    server = QuicConnection(configuration=server_configuration(), original_destination_connection_id=b"12345678")
    with pytest.raises(RuntimeError, match="for clients"):
        server.connect(("::1", 1), 0.0)
    client = QuicConnection(configuration=client_configuration())
    assert client.get_peer_address() is None
    client.connect(("::1", 1), 0.0)
    assert client.get_peer_address() == ("::1", 1)
    assert len(client.original_destination_connection_id) == 8
    with pytest.raises(RuntimeError, match="was called before"):
        client.connect(("::1", 1), 0.0)


def test_before_the_start_there_is_nothing_to_send_or_wait_for() -> None:
    client = QuicConnection(configuration=client_configuration())
    client.receive_datagram(bytes(1200), "anyone", 0.0)
    assert client.datagrams_to_send(0.0) == []
    assert client.get_timer() is None
    assert client.state is QuicConnectionState.FIRSTFLIGHT
    client.close(5, None, "never mind")
    assert client.is_terminated
    assert client.next_event() == ConnectionTerminated(5, None, "never mind")
    assert client.next_event() is None


@pytest.mark.parametrize("datagram", [b"", bytes(1200), b"\xc0" + bytes(1300), b"\xc0\x00\x00\x00\x01" + bytes(1300)])
def test_a_server_does_not_start_with_what_is_no_initial(datagram: bytes) -> None:
    server = QuicConnection(configuration=server_configuration(), original_destination_connection_id=b"12345678")
    server.receive_datagrams(Received([datagram, b"\xff" * 1200], "client"), 0.0)
    assert server.datagrams_to_send(0.0) == []
    assert server.get_peer_address() in (None, "client")


# --- two sides --------------------------------------------------------------------------------------------------------


def test_the_order_of_events_and_what_is_known_afterwards() -> None:
    log = io.StringIO()
    world = World(1, client={"secrets_log_file": log})
    client, server = world.establish()
    for peer in (client, server):
        kinds = [type(event) for event in peer.events]
        assert kinds[:3] == [ProtocolNegotiated, HandshakeCompleted, ConnectionIdIssued]
        assert kinds[2:] == [ConnectionIdIssued] * 7
        assert peer.connection.state is QuicConnectionState.CONNECTED
        assert peer.connection.is_handshake_complete
    assert client.events[1] == HandshakeCompleted("test", early_data_accepted=False, session_resumed=False)
    lines = [line.split() for line in log.getvalue().splitlines()]
    assert {line[0] for line in lines} >= {"CLIENT_HANDSHAKE_TRAFFIC_SECRET", "SERVER_TRAFFIC_SECRET_0"}
    assert client.connection.export_keying_material(
        "label", b"context", 32
    ) == server.connection.export_keying_material("label", b"context", 32)
    assert client.connection.configuration.server_name == "localhost"
    assert server.connection.get_peer_address() == CLIENT_ADDRESS
    statistics = client.connection.statistics()
    assert statistics.packets_sent == len(client.capture.sent())
    assert statistics.packets_received == len(client.capture.received())
    assert statistics.packets_lost == 0


def test_key_log_of_the_configuration_is_called() -> None:
    seen: list[str] = []
    world = World(1, client={"key_log": lambda label, random, secret: seen.append(label)})
    world.establish()
    assert "CLIENT_TRAFFIC_SECRET_0" in seen


def test_a_close_reaches_the_peer_at_once_and_both_end_together() -> None:
    world = World(2, up=[Delay(0.02)], down=[Delay(0.02)])
    client, server = world.establish()
    for peer in (client, server):
        peer.connection.use_native_events()
    start = world.now
    client.connection.close(7, None, "done")
    assert client.connection.close_reason is not None
    assert client.connection.state is QuicConnectionState.CLOSING
    world.run(lambda: server.connection.close_reason is not None)
    assert world.now - start == pytest.approx(0.02, abs=0.001)
    assert server.connection.state is QuicConnectionState.DRAINING
    assert server.connection.close_cause == life.CAUSE_PEER
    world.run(lambda: client.connection.is_terminated and server.connection.is_terminated)
    assert client.of_type(ConnectionClosing) == [ConnectionClosing(7, True, False, "done", None)]
    assert client.of_type(ConnectionTerminated) == [ConnectionTerminated(7, None, "done")]
    assert server.of_type(ConnectionClosing) == [ConnectionClosing(7, True, True, "done", None)]
    assert server.of_type(ConnectionTerminated) == [ConnectionTerminated(7, None, "done")]
    for peer in (client, server):
        assert peer.connection.get_timer() is None
        assert not peer.of_type(ConnectionIdRetired)


def test_a_transport_close_carries_its_frame_type() -> None:
    world = World(3)
    client, server = world.establish()
    client.connection.close(QuicErrorCode.PROTOCOL_VIOLATION, 0x1E, "as if")
    world.run(lambda: server.connection.is_terminated and client.connection.is_terminated)
    assert server.of_type(ConnectionTerminated) == [ConnectionTerminated(10, 0x1E, "as if")]
    assert isinstance(client.of_type(ConnectionTerminated)[0].error_code, QuicErrorCode)


def test_commands_after_close_do_nothing() -> None:
    world = World(4)
    client, _ = world.establish()
    connection = client.connection
    stream_id = connection.open_stream()
    assert stream_id is not None
    connection.close()
    connection.close(1)
    connection.send_stream_data(stream_id, b"late")
    connection.send_stream_data(2, b"late")
    connection.announce_stream(stream_id)
    connection.reset_stream(stream_id, 1)
    connection.stop_stream(stream_id, 1)
    connection.hold_credit(stream_id)
    connection.consume(stream_id, 1)
    connection.release_stream(stream_id)
    connection.set_priority(stream_id, 0, False)
    connection.send_datagram_frame(b"late")
    connection.change_connection_id()
    connection.request_key_update()
    connection.send_ping(1)
    world.run(lambda: connection.is_terminated)
    assert not client.of_type(PingAcknowledged)


def test_pings_are_answered() -> None:
    world = World(5)
    client, _ = world.establish()
    client.connection.send_ping(1)
    client.connection.send_ping(2)
    world.run(lambda: len(client.of_type(PingAcknowledged)) == 2)


def test_datagrams_go_both_ways_and_know_their_largest_size() -> None:
    world = World(6, client={"max_datagram_frame_size": 65535}, server={"max_datagram_frame_size": 65535})
    client, server = world.establish()
    world.run(limit=1.0)  # the search for the datagram size ends
    size = client.connection.max_datagram_size_now()
    assert 1390 < size < 1452
    client.connection.send_datagram_frame(bytes(size))
    assert server.connection.try_send_datagram(b"back")
    world.run(lambda: bool(server.of_type(DatagramFrameReceived) and client.of_type(DatagramFrameReceived)))
    assert len(server.of_type(DatagramFrameReceived)[0].data) == size
    with pytest.raises(ValueError, match="does not fit"):
        client.connection.send_datagram_frame(bytes(size + 1))


def test_datagrams_the_peer_does_not_take_are_refused() -> None:
    world = World(7, client={"max_datagram_frame_size": 65535})
    client, _ = world.establish()
    assert client.connection.max_datagram_size_now() == 0
    with pytest.raises(ValueError, match="does not accept DATAGRAM"):
        client.connection.send_datagram_frame(b"x")


def test_changing_the_connection_id_retires_the_old_one() -> None:
    world = World(8)
    client, server = world.establish()
    world.run(limit=0.5)
    used = client.connection._parts.paths.active.peer_cid
    client.connection.change_connection_id()
    assert client.connection._parts.paths.active.peer_cid != used
    world.run(lambda: bool(server.of_type(ConnectionIdRetired)))
    assert server.of_type(ConnectionIdRetired) == [ConnectionIdRetired(connection_id=used)]
    world.transfer(client, server, 10_000)


def test_without_a_spare_connection_id_none_is_changed() -> None:
    world = World(8)
    client = world.connect()
    used = client.connection._parts.paths.active.peer_cid
    client.connection.change_connection_id()
    assert client.connection._parts.paths.active.peer_cid == used


def test_a_reset_arrives_with_its_code() -> None:
    world = World(9)
    client, server = world.establish()
    stream_id = client.connection.open_stream()
    assert stream_id is not None
    client.connection.send_stream_data(stream_id, b"begun")
    world.run(limit=0.1)
    client.connection.reset_stream(stream_id, 77)
    world.run(lambda: bool(server.of_type(StreamReset)))
    assert server.of_type(StreamReset) == [StreamReset(error_code=77, stream_id=stream_id)]
    assert server.connection.is_stream_known(stream_id)


def test_an_unanswered_client_gives_up_after_its_handshake_timeout() -> None:
    world = World(10, client={"handshake_timeout": 2.0}, policy=lambda incoming: incoming.ignore())
    client = world.connect()
    world.run(lambda: client.connection.is_terminated)
    assert 2.0 <= world.now < 4.0
    assert client.connection.close_cause == life.CAUSE_HANDSHAKE_TIMEOUT


def test_decisions_can_be_deferred_and_nothing_blocks_meanwhile() -> None:
    """design.md §3, TLS: the certificate and the ClientHello wait for an answer while packets are acknowledged."""
    world = World(11)

    client = world.connect()
    client.connection.defer_decisions()
    world.run(lambda: bool(world.accepted))
    world.run(lambda: bool(client.of_type(DecisionNeeded)))
    (decision,) = client.of_type(DecisionNeeded)
    assert decision.kind == "certificate"
    world.run(limit=1.0)
    assert not client.connection.is_handshake_complete
    with pytest.raises(ValueError, match="no decision"):
        client.connection.decide(decision.decision_id + 1, True)
    client.connection.decide(decision.decision_id, True)
    world.run(lambda: client.connection.is_handshake_confirmed)


def test_a_server_can_decide_on_the_client_hello_later() -> None:
    world = World(12)
    made = make_certificates("ed25519")
    adopt = world.server.adopt

    def deferring(connection: QuicConnection) -> None:
        connection.defer_decisions()
        adopt(connection)

    world.server.endpoint.on_connection = deferring
    client = world.connect()
    world.run(lambda: bool(world.accepted and world.accepted[0].of_type(DecisionNeeded)))
    (decision,) = world.accepted[0].of_type(DecisionNeeded)
    assert decision.kind == "client_hello"
    assert decision.subject.server_name == "localhost"
    answer = ClientHelloAnswer(made.chain, made.private_key, "test")
    world.accepted[0].connection.decide(decision.decision_id, answer)
    world.run(lambda: client.connection.is_handshake_confirmed)


def test_a_client_that_moves_is_followed_and_the_application_hears_of_it() -> None:
    world = World(13)
    client, server = world.establish()
    server.connection.use_native_events()
    world.client.address = ("10.9.9.9", 9)
    client.connection.send_ping(1)
    world.run(lambda: bool(server.of_type(PathChanged)))
    assert server.connection.get_peer_address() == ("10.9.9.9", 9)
    world.run(lambda: server.connection._parts.paths.active.is_validated)


def test_time_may_step_backwards() -> None:
    world = World(14)
    client, _ = world.establish()
    now = world.now
    client.connection.handle_timer(now + 1.0)
    client.connection.handle_timer(now - 100.0)
    timer = client.connection.get_timer()
    assert timer is None or timer >= now - 100.0
    assert client.connection._clamp(now - 5.0) == now + 1.0


def test_an_unexpected_error_closes_the_connection_and_names_itself_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(QuicConnection):
        raise_unexpected = False

    connection = Broken(configuration=client_configuration())
    connection.connect("server", 0.0)

    def fail() -> None:
        raise KeyError("a bug")

    connection._guarded(fail, 0.0)
    assert connection.close_reason is not None
    assert connection.close_reason.code == QuicErrorCode.INTERNAL_ERROR
    assert "internal error" in caplog.text
    Broken.raise_unexpected = True
    with pytest.raises(KeyError):
        connection._guarded(fail, 0.0)


def test_reaching_a_keys_limit_closes_the_connection() -> None:
    """security.md row 28: no packet is sealed beyond the confidentiality limit."""
    world = World(15)
    client, server = world.establish()
    sealing = client.connection._parts.keys.sealing[3]
    assert sealing is not None
    sealing.sealed = sealing.confidentiality_limit - 1
    client.connection._parts.keys.confirmed = False  # so that no update comes to the rescue
    client.connection.send_ping(1)
    world.run(lambda: server.connection.close_reason is not None)
    assert server.connection.close_reason is not None
    assert server.connection.close_reason.code == QuicErrorCode.AEAD_LIMIT_REACHED


def closed_pair(world: World) -> list[weakref.ref[QuicConnection]]:
    """Two connections that have lived and ended, forgotten by everybody."""
    client, server = world.establish()
    world.transfer(client, server, 50_000)
    client.connection.close(0)
    world.run(lambda: client.connection.is_terminated and server.connection.is_terminated)
    for host in (world.client, world.server):
        for connection in host.peers:
            connection.observe(None)
            host.endpoint.forget(connection)
        host.endpoint.touched.clear()
    references = [weakref.ref(client.connection), weakref.ref(server.connection)]
    world.client.peers.clear()
    world.server.peers.clear()
    return references


def test_a_closed_connection_dies_by_reference_counting() -> None:
    """design.md §3: no cycles, or memory waits for the collector."""
    world = World(16)
    gc.collect()
    gc.disable()
    try:
        assert [reference() for reference in closed_pair(world)] == [None, None]
    finally:
        gc.enable()


def test_errors_and_batches_print_what_a_reader_needs() -> None:
    error = QuicConnectionError(10, 6, "why")
    assert str(error) == "Error: 10, reason: why, frame_type: 6"
    assert str(QuicConnectionError(10, None, "why")) == "Error: 10, reason: why"
    assert "[3, 2]" in repr(Received([b"abc", b"de"], SERVER_ADDRESS))
    assert "10.0.0.2" in repr(Transmit([b"abc"], SERVER_ADDRESS))
