"""Buffers, packet functions, Retry tokens and tickets, as servers and analysers use them, on both libraries."""

from __future__ import annotations

import copy
import pickle
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from helpers.library import CLIENT, Library, Pair


def test_a_buffer_writes_and_reads(library: Library) -> None:
    module = library("buffer")
    buf = module.Buffer(capacity=64)
    buf.push_uint8(1)
    buf.push_uint16(2)
    buf.push_uint32(3)
    buf.push_uint64(4)
    buf.push_uint_var(15293)
    buf.push_bytes(b"end")
    assert (buf.tell(), buf.capacity, buf.eof()) == (20, 64, False)
    assert buf.data == b"\x01\x00\x02\x00\x00\x00\x03" + bytes(7) + b"\x04\x7b\xbdend"
    assert buf.data_slice(15, 17) == b"\x7b\xbd"
    read = module.Buffer(data=buf.data)
    values = [read.pull_uint8(), read.pull_uint16(), read.pull_uint32(), read.pull_uint64(), read.pull_uint_var()]
    assert values == [1, 2, 3, 4, 15293]
    assert read.pull_bytes(3) == b"end"
    assert read.eof()
    read.seek(1)
    assert read.pull_uint16() == 2


def test_a_buffer_has_ends(library: Library) -> None:
    module = library("buffer")
    read = module.Buffer(data=b"\x40")
    for pull in (read.pull_uint16, read.pull_uint32, read.pull_uint64, read.pull_uint_var, lambda: read.pull_bytes(2)):
        with pytest.raises(module.BufferReadError):
            pull()
    assert read.tell() == 0
    write = module.Buffer(capacity=1)
    for push in (write.push_uint16, write.push_uint32, write.push_uint64):
        with pytest.raises(module.BufferWriteError):
            push(1)
    with pytest.raises(module.BufferReadError):
        read.seek(2)
    with pytest.raises(ValueError):
        write.push_bytes(b"12")
    assert issubclass(module.BufferReadError, ValueError)
    assert library("_buffer").Buffer is module.Buffer


@pytest.mark.parametrize("value", [0, 63, 64, 16383, 16384, (1 << 30) - 1, 1 << 30, (1 << 62) - 1])
def test_variable_length_integers(library: Library, value: int) -> None:
    module = library("buffer")
    encoded = module.encode_uint_var(value)
    assert module.size_uint_var(value) == len(encoded)
    assert module.Buffer(data=encoded).pull_uint_var() == value


def test_variable_length_integers_have_a_limit(library: Library) -> None:
    module = library("buffer")
    assert (module.UINT_VAR_MAX, module.UINT_VAR_MAX_SIZE) == ((1 << 62) - 1, 8)
    for function in (module.encode_uint_var, module.size_uint_var):
        with pytest.raises(ValueError):
            function(1 << 62)


def header(library: Library, data: bytes, length: int | None = 8) -> Any:
    return library("quic.packet").pull_quic_header(library("buffer").Buffer(data=data), host_cid_length=length)


def test_a_server_routes_by_the_header(library: Library) -> None:
    """hypercorn, mitmproxy, py-libp2p: version, type, connection IDs and token of each datagram."""
    packet = library("quic.packet")
    pair = Pair(library)
    data, _ = pair.client.datagrams_to_send(now=pair.now)[0]
    shown = header(library, data)
    assert shown.packet_type is packet.PACKET_TYPE_INITIAL is packet.QuicPacketType.INITIAL
    assert shown.version == packet.QuicProtocolVersion.VERSION_1
    assert shown.destination_cid == pair.client.original_destination_connection_id
    assert (shown.source_cid, shown.token, shown.integrity_tag) == (pair.client.host_cid, b"", b"")
    pair = Pair(library).connected()
    pair.client.send_ping(1)
    data, _ = pair.client.datagrams_to_send(now=pair.now)[0]
    shown = header(library, data)
    assert shown.packet_type is packet.QuicPacketType.ONE_RTT
    assert (shown.version, shown.destination_cid, shown.source_cid) == (None, pair.server.host_cid, b"")
    assert shown.packet_length == len(data)


@pytest.mark.parametrize(
    "data", [b"", b"\x00" * 30, b"\xc0\x00\x00\x00\x01\x40", b"\x40\x01", b"\xc0\x00\x00\x00\x01\x15" + bytes(40)]
)
def test_what_is_no_packet_is_a_value_error(library: Library, data: bytes) -> None:
    with pytest.raises(ValueError):
        header(library, data)


def test_version_negotiation(library: Library) -> None:
    packet = library("quic.packet")
    data = packet.encode_quic_version_negotiation(
        source_cid=b"server", destination_cid=b"client", supported_versions=[1, 7]
    )
    shown = header(library, data)
    assert shown.packet_type is packet.QuicPacketType.VERSION_NEGOTIATION
    assert (shown.source_cid, shown.destination_cid, shown.supported_versions) == (b"server", b"client", [1, 7])
    assert shown.version == packet.QuicProtocolVersion.NEGOTIATION


def test_retry_by_hand(library: Library) -> None:
    """A server that routes by itself: Retry with a token, then the token's proof, then a connection."""
    packet = library("quic.packet")
    tokens = library("quic.retry").QuicRetryTokenHandler()
    pair = Pair(library)
    original = pair.client.original_destination_connection_id
    first = header(library, pair.client.datagrams_to_send(now=pair.now)[0][0])
    token = tokens.create_token(
        address=CLIENT,
        original_destination_connection_id=original,
        retry_source_connection_id=b"retry-id",
        now=pair.now,
    )
    retry = packet.encode_quic_retry(
        version=first.version,
        source_cid=b"retry-id",
        destination_cid=first.source_cid,
        original_destination_cid=original,
        retry_token=token,
    )
    assert header(library, retry).token == token
    assert packet.get_retry_integrity_tag(retry[:-16], original, first.version) == retry[-16:]
    pair.client.receive_datagram(retry, ("192.0.2.2", 4433), now=pair.now)
    again, _ = pair.client.datagrams_to_send(now=pair.now)[0]
    shown = header(library, again)
    assert (shown.token, shown.destination_cid) == (token, b"retry-id")
    proven = tokens.validate_token(
        address=CLIENT, destination_cid=shown.destination_cid, token=shown.token, now=pair.now
    )
    assert proven == original
    pair.server = library("quic.connection").QuicConnection(
        configuration=library.server_configuration(),
        original_destination_connection_id=original,
        retry_source_connection_id=shown.destination_cid,
    )
    pair.server.receive_datagram(again, CLIENT, now=pair.now)
    pair.connected()


def test_retry_tokens_are_bound_and_expire(library: Library) -> None:
    tokens = library("quic.retry").QuicRetryTokenHandler()
    make: dict[str, Any] = {
        "original_destination_connection_id": b"original",
        "retry_source_connection_id": b"retry-id",
    }
    token = tokens.create_token(address=CLIENT, now=100.0, **make)
    good: dict[str, Any] = {"address": CLIENT, "destination_cid": b"retry-id", "token": token, "now": 101.0}
    assert tokens.validate_token(**good) == b"original"
    wrong: list[dict[str, Any]] = [
        {"address": ("192.0.2.9", 1)},
        {"destination_cid": b"other-id"},
        {"token": token[:-1] + bytes([token[-1] ^ 1])},
        {"token": b""},
        {"now": 200.0},
    ]
    for change in wrong:
        with pytest.raises(ValueError):
            tokens.validate_token(**(good | change))
    with pytest.raises(ValueError):
        library("quic.retry").QuicRetryTokenHandler().validate_token(**good)


def test_ack_frames_and_packet_numbers(library: Library) -> None:
    packet = library("quic.packet")
    ranges = library("quic.rangeset").RangeSet()
    ranges.add(0, 3)
    ranges.add(start=5, stop=6)
    buf = library("buffer").Buffer(capacity=64)
    assert packet.push_ack_frame(buf, ranges, 77, 64) == 2
    found, delay = packet.pull_ack_frame(library("buffer").Buffer(data=buf.data))
    assert (list(found), delay) == ([range(3), range(5, 6)], 77)
    assert packet.decode_packet_number(truncated=0x9B32, num_bits=16, expected=0xA82F30EB) == 0xA82F9B32


def test_transport_parameters(library: Library) -> None:
    packet = library("quic.packet")
    params = packet.QuicTransportParameters(
        max_idle_timeout=60000,
        stateless_reset_token=bytes(16),
        disable_active_migration=True,
        preferred_address=packet.QuicPreferredAddress(("192.0.2.1", 443), ("2001:db8::1", 443), b"cid", bytes(16)),
        version_information=packet.QuicVersionInformation(chosen_version=1, available_versions=[1, 2]),
        quantum_readiness=b"ready",
    )
    buf = library("buffer").Buffer(capacity=512)
    packet.push_quic_transport_parameters(buf, params)
    assert packet.pull_quic_transport_parameters(library("buffer").Buffer(data=buf.data)) == params


def ticket(library: Library, **changes: Any) -> Any:
    now = datetime.now(UTC)
    fields: dict[str, Any] = {
        "age_add": 5,
        "cipher_suite": library("tls").CipherSuite.AES_128_GCM_SHA256,
        "not_valid_after": now + timedelta(hours=1),
        "not_valid_before": now - timedelta(seconds=10),
        "resumption_secret": bytes(32),
        "server_name": "localhost",
        "ticket": b"label",
        "max_early_data_size": 0xFFFFFFFF,
    }
    return library("tls").SessionTicket(**(fields | changes))


def test_tickets_are_stored_and_dated(library: Library) -> None:
    """aioquic's examples pickle them into a file."""
    mine = ticket(library)
    assert pickle.loads(pickle.dumps(mine)) == mine == copy.copy(mine)
    assert mine.is_valid is True
    assert 10_000 <= mine.obfuscated_age - 5 < 20_000
    assert ticket(library, not_valid_after=datetime.now(UTC) - timedelta(seconds=1)).is_valid is False


def test_names_of_tls(library: Library) -> None:
    """mitmproxy imports `HandshakeType.CLIENT_HELLO`, aioquic's tests `Epoch`."""
    tls = library("tls")
    assert tls.HandshakeType.CLIENT_HELLO == 1
    assert [tls.Epoch.INITIAL.value, tls.Epoch.ZERO_RTT.value, tls.Epoch.HANDSHAKE.value, tls.Epoch.ONE_RTT.value] == [
        0,
        1,
        2,
        3,
    ]


def test_a_record_of_a_sent_packet(library: Library) -> None:
    sent = library("quic.packet_builder").QuicSentPacket(
        epoch=library("tls").Epoch.ONE_RTT,
        in_flight=True,
        is_ack_eliciting=True,
        is_crypto_packet=False,
        packet_number=0,
        packet_type=library("quic.packet").QuicPacketType.ONE_RTT,
        sent_bytes=1280,
        sent_time=0.5,
    )
    assert (sent.sent_bytes, sent.sent_time, sent.delivery_handlers, sent.quic_logger_frames) == (1280, 0.5, [], [])
