"""Private names of aioquic's, used as the programs that depend on them do, on both libraries."""

from __future__ import annotations

import pytest

from helpers.certificates import make_key
from helpers.library import CLIENT, SERVER, Library, Pair
from helpers.loopback import identity


def test_the_peers_address_is_found_on_the_first_network_path(library: Library) -> None:
    """sanic, pproxy, bayserver: `_network_paths[0].addr`, once there is a path."""
    fresh = library("quic.connection").QuicConnection(configuration=library.client_configuration())
    assert not fresh._network_paths
    pair = Pair(library).connected()
    assert pair.client._network_paths[0].addr == SERVER
    assert pair.server._network_paths[0].addr == CLIENT
    assert pair.server._network_paths[0].is_validated is True
    assert pair.server.get_peer_address() == CLIENT


def test_a_proxy_reads_how_the_connection_was_closed(library: Library) -> None:
    """mitmproxy, py-libp2p: `_close_event`, before the event itself comes."""
    pair = Pair(library).connected()
    assert not pair.client._close_event
    pair.client.close(error_code=5, reason_phrase="enough")
    closing = pair.client._close_event
    assert (closing.error_code, closing.frame_type, closing.reason_phrase) == (5, None, "enough")
    pair.step()
    assert pair.server._close_event.error_code == 5
    assert isinstance(pair.server._close_event, library("quic.events").ConnectionTerminated)


def test_a_proxy_compares_the_state(library: Library) -> None:
    """mitmproxy: `_state` against members of `QuicConnectionState`."""
    states = library("quic.connection").QuicConnectionState
    pair = Pair(library)
    assert pair.client._state is states.FIRSTFLIGHT
    pair.connected()
    assert pair.client._state is states.CONNECTED
    pair.client.close()
    pair.until_over()
    assert pair.client._state is states.TERMINATED


def test_a_host_asks_whether_the_handshake_is_complete(library: Library) -> None:
    """py-libp2p: `_handshake_complete`."""
    pair = Pair(library)
    assert not pair.client._handshake_complete
    pair.connected()
    assert pair.client._handshake_complete is True
    assert pair.server._handshake_complete is True


def test_a_router_lists_our_connection_ids(library: Library) -> None:
    """py-libp2p, aiomoqt: `cid` and `sequence_number` of `_host_cids`."""
    pair = Pair(library).connected()
    ids = pair.server._host_cids
    assert ids[0].cid == pair.server.host_cid
    assert [item.sequence_number for item in ids] == list(range(len(ids)))
    issued = {event.connection_id for event in pair.events("server", "ConnectionIdIssued")}
    assert {item.cid for item in ids[1:]} <= issued


def test_a_stream_id_is_reserved_before_there_is_data(library: Library) -> None:
    """pproxy: `_get_or_create_stream_for_send` makes the next call give another ID, and sends nothing."""
    pair = Pair(library).connected()
    first = pair.client.get_next_available_stream_id()
    pair.client._get_or_create_stream_for_send(first)
    assert pair.client.get_next_available_stream_id() == first + 4
    assert first in pair.client._streams
    pair.run()
    assert pair.events("server", "StreamDataReceived") == []
    pair.client.send_stream_data(first, b"late", True)
    pair.run()
    assert b"".join(event.data for event in pair.events("server", "StreamDataReceived")) == b"late"


@pytest.mark.parametrize("stream_id", [1, 3])
def test_streams_of_the_peer_cannot_be_reserved(library: Library, stream_id: int) -> None:
    pair = Pair(library).connected()
    with pytest.raises(ValueError):
        pair.client._get_or_create_stream_for_send(stream_id)


def test_a_proxy_asks_whether_a_stream_was_reset(library: Library) -> None:
    """mitmproxy: `.sender._reset_error_code`, None while it was not; `_streams` tells what there is."""
    pair = Pair(library).connected()
    stream_id = pair.client.get_next_available_stream_id()
    assert stream_id not in pair.client._streams
    pair.client.send_stream_data(stream_id, b"begun")
    assert pair.client._get_or_create_stream_for_send(stream_id).sender._reset_error_code is None
    stream = pair.client._streams[stream_id]
    assert stream.stream_id == stream.sender._stream_id == stream.receiver._stream_id == stream_id
    assert (stream.sender.is_finished, stream.receiver.is_finished) == (False, False)
    pair.client.reset_stream(stream_id, 77)
    assert pair.client._get_or_create_stream_for_send(stream_id).sender._reset_error_code == 77
    assert list(pair.client._streams) == [stream_id]
    assert len(pair.client._streams) == 1


def test_a_stream_that_has_ended_both_ways_is_gone(library: Library) -> None:
    """py-libp2p, pywebtransport: finished streams leave `_streams`."""
    pair = Pair(library).connected()
    pair.client.send_stream_data(0, b"question", True)
    pair.step()
    pair.server.send_stream_data(0, b"answer", True)
    pair.run()
    assert 0 not in pair.client._streams
    assert 0 not in pair.server._streams


def test_a_half_that_does_not_exist_is_finished() -> None:
    """In aioquic the receiver of our own unidirectional stream just never gets anything."""
    pair = Pair(Library("quicio")).connected()
    pair.client.send_stream_data(2, b"x")
    assert pair.client._streams[2].receiver.is_finished is True
    pair.step()
    assert pair.server._streams[2].sender.is_finished is True
    assert pair.server._streams[2].receiver.is_finished is False


def test_the_peers_certificates_are_read(library: Library) -> None:
    """mitmproxy, py-libp2p: `tls._peer_certificate`, `tls._peer_certificate_chain`."""
    who = identity()[0]
    pair = Pair(library, server={"certificate_chain": [who.chain[0]]})
    assert not pair.client.tls._peer_certificate
    pair.connected()
    assert pair.client.tls._peer_certificate == who.chain[0]
    assert pair.client.tls._peer_certificate.public_key() == make_key("p256", 78).public_key()
    assert pair.client.tls._peer_certificate_chain == [who.chain[0]]
    assert pair.server.tls._peer_certificate is None


def test_the_cipher_suite_is_named(library: Library) -> None:
    """mitmproxy: `tls.key_schedule.cipher_suite.name`."""
    suites = library("tls").CipherSuite
    pair = Pair(library, client={"cipher_suites": [suites.AES_128_GCM_SHA256]}).connected()
    for end in (pair.client, pair.server):
        assert end.tls.key_schedule.cipher_suite.name == "AES_128_GCM_SHA256"
        assert end.tls.key_schedule.cipher_suite is suites.AES_128_GCM_SHA256


def test_the_peers_datagram_limit_is_read(library: Library) -> None:
    """mitmproxy, pywebtransport: `_remote_max_datagram_frame_size`."""
    pair = Pair(library, server={"max_datagram_frame_size": 1350})
    assert not pair.client._remote_max_datagram_frame_size
    pair.connected()
    assert pair.client._remote_max_datagram_frame_size == 1350
    assert pair.server._remote_max_datagram_frame_size is None


def test_a_trace_is_there_when_a_qlog_is_asked_for(library: Library) -> None:
    """mitmproxy gives `_quic_logger` on to HTTP/3; aiomoqt counts `QuicLogger._traces`."""
    assert Pair(library).client._quic_logger is None
    qlog = library("quic.logger").QuicLogger()
    pair = Pair(library, client={"quic_logger": qlog})
    assert isinstance(pair.client._quic_logger, library("quic.logger").QuicLoggerTrace)
    assert qlog._traces == [pair.client._quic_logger]


def test_a_connection_logs_under_the_name_quic(library: Library, caplog: pytest.LogCaptureFixture) -> None:
    """aioquic's examples: `_logger` is a `logging` adapter."""
    pair = Pair(library)
    with caplog.at_level("INFO", logger="quic"):
        pair.client._logger.info("said by %s", "a program")
    assert [record.name for record in caplog.records if "said by a program" in record.getMessage()] == ["quic"]


def test_private_names_cannot_be_written() -> None:
    """Nothing listens to what a program would put there."""
    client = Pair(Library("quicio")).client
    for name in (
        "_close_event",
        "_handshake_complete",
        "_host_cids",
        "_network_paths",
        "_quic_logger",
        "_state",
        "_streams",
    ):
        with pytest.raises(AttributeError):
            setattr(client, name, None)


def test_key_schedule_is_none_before_there_is_a_cipher_suite() -> None:
    assert Pair(Library("quicio")).client.tls.key_schedule is None
