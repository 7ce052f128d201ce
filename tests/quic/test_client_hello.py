"""The ClientHello, read from a client's first datagrams without a connection."""

from __future__ import annotations

import pytest

from quicio.quic.client_hello import MAX_CLIENT_HELLO, ClientHello, ClientHelloError, ClientHelloReader
from quicio.quic.configuration import QuicConfiguration
from quicio.quic.connection import QuicConnection
from quicio.quic.sealing import LongPacket
from quicio.quic.wire.constants import EPOCH_INITIAL, INITIAL
from quicio.quic.wire.crypto import KeyRing
from quicio.quic.wire.frames import encode_crypto_header
from quicio.quic.wire.headers import LongHeader, encode_packet_number, parse_long_header


def first_flight(**changes: object) -> list[bytes]:
    configuration = QuicConfiguration(alpn_protocols=["h3", "hq"], server_name="a.example").replaced(**changes)
    connection = QuicConnection(configuration=configuration)
    connection.connect(("192.0.2.1", 443), 0.0)
    return [data for data, _ in connection.datagrams_to_send(0.0)]


def reader(datagrams: list[bytes]) -> ClientHelloReader:
    return ClientHelloReader(parse_long_header(datagrams[0], 0))


def forged(header: LongHeader, payload: bytes, number: int = 0) -> bytes:
    """An Initial packet with a payload of the test's, as a client could have sent it."""
    keys = KeyRing(True)
    keys.install_initial(header.destination_cid, header.version)
    sealing = keys.sealing[EPOCH_INITIAL]
    assert sealing is not None
    number_bytes = encode_packet_number(number, -1)
    packet = LongPacket(INITIAL, sealing, header.version, header.destination_cid, header.source_cid, b"", number_bytes)
    packet.complete(number, payload + bytes(1100))
    return packet.seal()


def crypto(offset: int, data: bytes) -> bytes:
    return encode_crypto_header(offset, len(data)) + data


def test_name_and_protocols() -> None:
    datagrams = first_flight()
    assert reader(datagrams).read(datagrams) == ClientHello("a.example", ("h3", "hq"))


def test_an_address_is_no_name_and_odd_protocols_are_escaped() -> None:
    datagrams = first_flight(server_name="192.0.2.1", alpn_protocols=["é"])
    assert reader(datagrams).read(datagrams) == ClientHello(None, ("\\xc3\\xa9",))


def test_several_datagrams_in_any_order_each_looked_at_once() -> None:
    datagrams = first_flight(alpn_protocols=[f"{number}" * 200 for number in range(1, 10)])
    assert len(datagrams) > 1
    looking = reader(datagrams)
    assert looking.read(datagrams[1:]) is None
    looking = reader(datagrams)
    so_far: list[bytes] = []
    results = []
    for datagram in [datagrams[1], b"\xc0 noise", datagrams[0], *datagrams[2:]]:
        so_far.append(datagram)
        results.append(looking.read(so_far))
    assert results[0] is None
    assert results[-1] is not None
    assert len(results[-1].alpn) == 9


def test_what_is_not_authentic_is_passed_over() -> None:
    datagrams = first_flight()
    broken = bytearray(datagrams[0])
    broken[-1] ^= 1
    looking = reader(datagrams)
    assert looking.read([bytes(broken), datagrams[0][:60], b"", b"\x40" + bytes(1200)]) is None
    assert looking.read([b"", b"", b"", b"", *datagrams]) is not None


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        (crypto(0, b"\x02\x00\x00\x04abcd"), "no ClientHello"),
        (crypto(0, b"\x01" + MAX_CLIENT_HELLO.to_bytes(3, "big")), f"more than {MAX_CLIENT_HELLO} bytes"),
        (crypto(0, b"\x01\x00\x00\x04abcd"), "cannot|can be read"),
        (crypto(1 << 40, b"x"), "can be read"),
        (b"\x06\xff", "can be read"),
        (b"\x02\x00\x00\x00\x05", "can be read"),
    ],
)
def test_what_is_malformed_is_told(payload: bytes, told: str) -> None:
    """Security rows 1, 11 and 13: bounded, and nothing but the one error."""
    header = parse_long_header(first_flight()[0], 0)
    with pytest.raises(ClientHelloError, match=told):
        ClientHelloReader(header).read([forged(header, payload)])


def test_other_frames_are_passed_over_or_end_the_packet() -> None:
    datagrams = first_flight()
    header = parse_long_header(datagrams[0], 0)
    looking = ClientHelloReader(header)
    ack = b"\x02\x00\x00\x00\x00"
    odd = [forged(header, b"\x01" + ack), forged(header, b"\x1c\x00\x00\x00", 1)]
    assert looking.read(odd) is None
    assert looking.read([*odd, *datagrams]) == ClientHello("a.example", ("h3", "hq"))
