"""The public functions of `quicio.quic.packet`."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.vectors import load_vectors
from quicio.buffer import Buffer, BufferReadError
from quicio.quic import packet
from quicio.quic.packet import QuicPacketType
from quicio.quic.wire.rangeset import RangeSet

V2 = 0x6B3343CF


def test_enums_have_their_registered_values() -> None:
    assert [(member.name, member.value) for member in QuicPacketType] == [
        ("INITIAL", 0),
        ("ZERO_RTT", 1),
        ("HANDSHAKE", 2),
        ("RETRY", 3),
        ("VERSION_NEGOTIATION", 4),
        ("ONE_RTT", 5),
    ]
    assert packet.PACKET_TYPE_INITIAL is QuicPacketType.INITIAL
    assert [int(version) for version in packet.QuicProtocolVersion] == [0, 1, V2]
    assert [int(code) for code in packet.QuicErrorCode] == [*range(0x12), 0x100]
    types = [*range(0x09), *range(0x10, 0x1F), 0x30, 0x31]
    assert [int(frame_type) for frame_type in packet.QuicFrameType] == types


@pytest.mark.parametrize("name", ["rfc9001-appendix-a", "rfc9369-appendix-a"])
def test_printed_packets(name: str) -> None:
    vectors = load_vectors(name)
    version, destination = int(vectors["version"], 16), bytes.fromhex(vectors["destination_connection_id"])
    data = bytes.fromhex(vectors["client_initial"]["protected_packet"])
    buffer = Buffer(data=data)
    header = packet.pull_quic_header(buffer, host_cid_length=8)
    assert header == packet.QuicHeader(version, QuicPacketType.INITIAL, 1200, destination, b"", b"", b"", [])
    assert buffer.tell() == len(vectors["client_initial"]["unprotected_header"]) // 2 - 4

    retry = vectors["retry"]
    data = bytes.fromhex(retry["packet"])
    buffer = Buffer(data=data)
    header = packet.pull_quic_header(buffer)
    assert header.packet_type is QuicPacketType.RETRY
    assert (header.token.hex(), header.integrity_tag.hex()) == (retry["token"], retry["integrity_tag"])
    assert buffer.eof()
    original = bytes.fromhex(retry["original_dcid"])
    assert packet.get_retry_integrity_tag(data[:-16], original, version) == header.integrity_tag
    arguments = (version, header.source_cid, header.destination_cid, original, header.token)
    assert packet.encode_quic_retry(*arguments, unused=0x0F) == data


def test_coalesced_packets_are_read_one_by_one() -> None:
    handshake = bytes.fromhex("e0000000010464636964047363696414") + bytes(20)
    short = b"\x40shrtcid!" + bytes(30)
    buffer = Buffer(data=handshake + short)
    header = packet.pull_quic_header(buffer, host_cid_length=8)
    assert (header.packet_type, header.packet_length) == (QuicPacketType.HANDSHAKE, len(handshake))
    assert (header.destination_cid, header.source_cid) == (b"dcid", b"scid")
    buffer.seek(header.packet_length)
    header = packet.pull_quic_header(buffer, host_cid_length=8)
    assert header == packet.QuicHeader(None, QuicPacketType.ONE_RTT, len(short), b"shrtcid!", b"", b"", b"", [])
    assert buffer.tell() == len(handshake) + 9


def test_malformed_packets() -> None:
    with pytest.raises(BufferReadError):
        packet.pull_quic_header(Buffer(data=b""), host_cid_length=8)
    with pytest.raises(BufferReadError):
        packet.pull_quic_header(Buffer(data=b"\x40" + bytes(7)), host_cid_length=8)
    with pytest.raises(ValueError, match="fixed bit"):
        packet.pull_quic_header(Buffer(data=bytes(20)), host_cid_length=8)
    with pytest.raises(ValueError, match="host_cid_length"):
        packet.pull_quic_header(Buffer(data=b"\x40" + bytes(20)))
    with pytest.raises(ValueError, match="Packet payload is truncated"):
        packet.pull_quic_header(Buffer(data=bytes.fromhex("e00000000100004020") + bytes(31)))


@given(st.binary(max_size=60), st.integers(0, 20))
def test_any_bytes_are_a_header_or_a_value_error(data: bytes, size: int) -> None:
    """Security row 13."""
    for datagram in (data, b"\xc0\x00\x00\x00\x01" + data, b"\xc0" + bytes(4) + data):
        buffer = Buffer(data=datagram)
        try:
            header = packet.pull_quic_header(buffer, host_cid_length=size)
        except ValueError:
            continue
        assert header.packet_length <= len(datagram)
        assert buffer.tell() <= len(datagram)


def test_unknown_versions_can_be_answered() -> None:
    """A server reads the header by the invariants, sees the version, and answers with its own."""
    data = bytes.fromhex("c01a2a3a4a") + b"\x08destnatn" + b"\x06source" + bytes(1200)
    buffer = Buffer(data=data)
    header = packet.pull_quic_header(buffer, host_cid_length=8)
    assert header.version == 0x1A2A3A4A
    assert header.packet_type is QuicPacketType.INITIAL
    assert buffer.tell() == 5 + 9 + 7
    assert header.packet_length == len(data)
    answer = packet.encode_quic_version_negotiation(
        source_cid=header.destination_cid, destination_cid=header.source_cid, supported_versions=[1, V2]
    )
    reply = packet.pull_quic_header(Buffer(data=answer))
    assert reply.packet_type is QuicPacketType.VERSION_NEGOTIATION
    assert reply.version == packet.QuicProtocolVersion.NEGOTIATION
    assert (reply.destination_cid, reply.source_cid) == (b"source", b"destnatn")
    assert reply.supported_versions == [1, V2]


def test_packet_numbers_decode_here_too() -> None:
    assert packet.decode_packet_number(0x9B32, 16, 0xA82F30EA + 1) == 0xA82F9B32


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(1, 9)), min_size=1, max_size=9), st.integers(0, 1 << 20))
def test_ack_frames_round_trip(pairs: list[tuple[int, int]], delay: int) -> None:
    ranges = RangeSet([range(start, start + size) for start, size in pairs])
    buffer = Buffer(capacity=200)
    assert packet.push_ack_frame(buffer, ranges, delay, 200) == len(ranges)
    copy = Buffer(data=b"\x02" + buffer.data)
    copy.seek(1)
    assert packet.pull_ack_frame(copy) == (ranges, delay)
    assert copy.eof()


def test_ack_frames_keep_to_their_capacity() -> None:
    ranges = RangeSet([range(number, number + 1) for number in range(0, 20, 2)])
    buffer = Buffer(capacity=100)
    assert packet.push_ack_frame(buffer, ranges, 0, 9) == 3
    assert buffer.tell() == 8
    assert packet.push_ack_frame(buffer, ranges, 0, 3) == 0
    assert buffer.tell() == 8
    with pytest.raises(BufferReadError):
        packet.pull_ack_frame(Buffer(data=b"\x02\x00"))


def test_transport_parameters_round_trip() -> None:
    params = packet.QuicTransportParameters(
        original_destination_connection_id=b"original",
        max_idle_timeout=30000,
        stateless_reset_token=bytes(16),
        max_udp_payload_size=1472,
        initial_max_data=0,
        disable_active_migration=True,
        preferred_address=packet.QuicPreferredAddress(
            ("192.0.2.1", 443), ("2001:db8::1", 444), b"preferred", bytes(16)
        ),
        active_connection_id_limit=8,
        initial_source_connection_id=b"",
        version_information=packet.QuicVersionInformation(1, [V2, 1]),
        max_datagram_frame_size=65535,
        quantum_readiness=bytes(100),
    )
    buffer = Buffer(capacity=500)
    packet.push_quic_transport_parameters(buffer, params)
    data = buffer.data
    assert data.startswith(b"\x00\x08original\x01\x04\x80\x00\x75\x30\x02\x10")
    source = Buffer(data=data)
    assert packet.pull_quic_transport_parameters(source) == params
    assert source.eof()


def test_absent_transport_parameters_are_none() -> None:
    params = packet.pull_quic_transport_parameters(Buffer(data=bytes.fromhex("8000ff000100")))
    assert params == packet.QuicTransportParameters()
    values = dataclasses.asdict(params)
    assert values.pop("disable_active_migration") is False
    assert len(values) == 19
    assert set(values.values()) == {None}
    buffer = Buffer(capacity=10)
    packet.push_quic_transport_parameters(buffer, params)
    assert buffer.data == b""


def test_malformed_transport_parameters() -> None:
    for data in (b"\x01", b"\x01\x02\x05", b"\x01\x01\x40", b"\x0d\x02ab", b"\x11\x02ab", b"\x0c\x00\x0c\x00"):
        with pytest.raises(ValueError):
            packet.pull_quic_transport_parameters(Buffer(data=data))


def test_preferred_address_round_trip() -> None:
    address = packet.QuicPreferredAddress(("192.0.2.1", 443), None, b"cid", bytes(range(16)))
    buffer = Buffer(capacity=24 + 1 + 3 + 16)
    packet.push_quic_preferred_address(buffer, address)
    assert buffer.eof()
    source = Buffer(data=buffer.data + b"more")
    assert packet.pull_quic_preferred_address(source) == address
    assert source.tell() == buffer.capacity
    with pytest.raises(BufferReadError):
        packet.pull_quic_preferred_address(Buffer(data=buffer.data[:-1]))
    with pytest.raises(ValueError, match="connection ID"):
        packet.pull_quic_preferred_address(Buffer(data=bytes(24 + 1 + 16)))
