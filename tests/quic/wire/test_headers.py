"""Long headers of both versions, the invariants, and packet numbers (RFC 9000 §17, RFC 8999)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.vectors import load_vectors
from quicio.buffer import encode_uint_var
from quicio.quic.wire import headers
from quicio.quic.wire.constants import VERSION_1, VERSION_2

NUMBERS = load_vectors("rfc9000-varint-pn")
versions = st.sampled_from([VERSION_1, VERSION_2])
cids = st.binary(max_size=20)


@pytest.mark.parametrize("name", ["rfc9001-appendix-a", "rfc9369-appendix-a"])
def test_printed_headers(name: str) -> None:
    vectors = load_vectors(name)
    version = int(vectors["version"], 16)
    destination = bytes.fromhex(vectors["destination_connection_id"])
    client = vectors["client_initial"]
    number = client["packet_number"].to_bytes(client["packet_number_length"], "big")
    length = client["packet_number_length"] + client["payload_length"] + 16
    header = headers.encode_long_header(version, headers.INITIAL_PACKET, destination, b"", b"", length, number)
    assert header.hex() == client["unprotected_header"]

    packet = bytes.fromhex(client["protected_packet"])
    parsed = headers.parse_long_header(packet, 0)
    assert parsed.first_byte == packet[0]
    assert parsed.version == version
    assert parsed.packet_type == headers.INITIAL_PACKET
    assert (parsed.destination_cid, parsed.source_cid, parsed.token) == (destination, b"", b"")
    assert parsed.packet_number_offset == len(header) - 4
    assert parsed.end == len(packet) == 1200

    retry = bytes.fromhex(vectors["retry"]["packet"])
    parsed = headers.parse_long_header(retry, 0)
    assert parsed.packet_type == headers.RETRY_PACKET
    assert parsed.token.hex() == vectors["retry"]["token"]
    assert parsed.integrity_tag.hex() == vectors["retry"]["integrity_tag"]
    assert (parsed.packet_number_offset, parsed.end) == (0, len(retry))


@given(
    versions, st.sampled_from([0, 1, 2]), cids, cids, st.binary(max_size=80), st.integers(2, 4), st.binary(max_size=30)
)
def test_long_headers_round_trip_between_others(
    version: int, packet_type: int, destination: bytes, source: bytes, token: bytes, number_size: int, other: bytes
) -> None:
    token = token if packet_type == headers.INITIAL_PACKET else b""
    number = bytes(range(number_size))
    payload = bytes(25)
    length = number_size + len(payload)
    header = headers.encode_long_header(version, packet_type, destination, source, token, length, number)
    datagram = other + header + payload + other
    parsed = headers.parse_long_header(datagram, len(other))
    assert parsed.version == version
    assert parsed.packet_type == packet_type
    assert parsed.destination_cid == destination
    assert parsed.source_cid == source
    assert parsed.token == token
    assert parsed.first_byte & 0x03 == number_size - 1
    assert parsed.packet_number_offset == len(other) + len(header) - number_size
    assert parsed.end == len(other) + len(header) + len(payload)
    assert headers.destination_cid_of(datagram[len(other) :], 8) == destination
    for size in range(len(header) + len(payload)):
        with pytest.raises(ValueError):
            headers.parse_long_header(datagram[: len(other) + size], len(other))


@pytest.mark.rfc("9369", "3.2", "")
def test_type_codes_of_both_versions() -> None:
    for packet_type, code_1, code_2 in ((0, 0, 1), (1, 1, 2), (2, 2, 3), (3, 3, 0)):
        assert headers.encode_first_byte(VERSION_1, packet_type, 0) == 0xC0 | code_1 << 4
        assert headers.encode_first_byte(VERSION_2, packet_type, 0) == 0xC0 | code_2 << 4


@pytest.mark.rfc("9000", "17.2", "MUST")
def test_connection_ids_of_known_versions_have_at_most_20_bytes() -> None:
    for version in (VERSION_1, VERSION_2):
        good = headers.encode_long_header(version, 2, bytes(20), bytes(20), b"", 20, bytes(2)) + bytes(18)
        assert headers.parse_long_header(good, 0).end == len(good)
        for destination, source, name in ((bytes(21), b"", "Destination"), (b"", bytes(21), "Source")):
            bad = headers.encode_long_header(version, 2, destination, source, b"", 20, bytes(2)) + bytes(18)
            with pytest.raises(ValueError, match=f"{name} CID is too long"):
                headers.parse_long_header(bad, 0)


@pytest.mark.rfc("8999", "5.1", "")
def test_unknown_versions_show_their_connection_ids() -> None:
    destination, source = bytes(range(255)), bytes(range(1, 256))
    datagram = headers.encode_connection_ids(0x80, 0x1A2A3A4A, destination, source) + b"whatever"
    parsed = headers.parse_long_header(datagram, 0)
    assert parsed.packet_type == headers.UNKNOWN_PACKET
    assert parsed.version == 0x1A2A3A4A
    assert (parsed.destination_cid, parsed.source_cid) == (destination, source)
    assert parsed.end == len(datagram)
    assert headers.destination_cid_of(datagram, 8) == destination


@pytest.mark.rfc("9000", "17.2", "MUST")
def test_fixed_bit_is_required_unless_greased() -> None:
    header = bytearray(headers.encode_long_header(VERSION_1, 2, b"dcid", b"scid", b"", 20, bytes(2)) + bytes(18))
    header[0] &= ~0x40
    with pytest.raises(ValueError, match="fixed bit"):
        headers.parse_long_header(bytes(header), 0)
    assert headers.parse_long_header(bytes(header), 0, require_fixed_bit=False).packet_type == 2


def test_short_headers_are_not_long_ones() -> None:
    with pytest.raises(ValueError, match="short header"):
        headers.parse_long_header(b"\x40" + bytes(30), 0)


@pytest.mark.rfc("9000", "17.2.5.2", "MUST")
def test_retry_needs_a_token() -> None:
    start = headers.encode_connection_ids(headers.encode_first_byte(VERSION_1, 3, 0), VERSION_1, b"client", b"server")
    assert headers.parse_long_header(start + b"t" + bytes(16), 0).token == b"t"
    for size in (0, 15, 16):
        with pytest.raises(ValueError, match="Retry"):
            headers.parse_long_header(start + bytes(size), 0)


@given(cids, cids, st.lists(st.integers(0, 0xFFFFFFFF), min_size=1, max_size=8), st.integers(0, 255))
def test_version_negotiation_round_trip(source: bytes, destination: bytes, offered: list[int], random: int) -> None:
    packet = headers.encode_version_negotiation(source, destination, offered, random)
    assert packet[0] & 0xC0 == 0xC0
    assert packet[0] & 0x3F == random & 0x3F
    parsed = headers.parse_long_header(packet, 0)
    assert parsed.packet_type == headers.VERSION_NEGOTIATION_PACKET
    assert parsed.version == 0
    assert (parsed.source_cid, parsed.destination_cid) == (source, destination)
    assert parsed.supported_versions == offered
    assert parsed.end == len(packet)
    for size in range(len(packet)):
        if size < len(packet) - 4 * len(offered) or size % 4 != len(packet) % 4:
            with pytest.raises(ValueError):
                headers.parse_long_header(packet[:size], 0)


def test_version_negotiation_without_versions_is_malformed() -> None:
    with pytest.raises(ValueError, match="versions"):
        headers.parse_long_header(headers.encode_version_negotiation(b"s", b"d", [], 0), 0)


def test_misuse_of_the_encoder() -> None:
    with pytest.raises(ValueError, match="two-byte Length"):
        headers.encode_long_header(VERSION_1, 0, b"", b"", b"", 0x4000, bytes(2))
    with pytest.raises(ValueError, match="Initial"):
        headers.encode_long_header(VERSION_1, 2, b"", b"", b"token", 20, bytes(2))
    with pytest.raises(ValueError, match="255"):
        headers.encode_connection_ids(0xC0, VERSION_1, bytes(256), b"")
    with pytest.raises(ValueError, match="255"):
        headers.encode_connection_ids(0xC0, VERSION_1, b"", bytes(256))


@given(st.binary(max_size=80), st.integers(0, 3), st.sampled_from([0, 1, 0x6B3343CF, 0x1A2A3A4A]))
def test_hostile_long_headers_raise_value_error_only(body: bytes, code: int, version: int) -> None:
    """Security row 13: any bytes are a header or a ValueError, and positions stay inside the datagram."""
    datagram = bytes((0xC0 | code << 4,)) + version.to_bytes(4, "big") + body
    try:
        parsed = headers.parse_long_header(datagram, 0)
    except ValueError:
        return
    assert parsed.packet_number_offset <= parsed.end <= len(datagram)


@given(st.integers(1, 255), st.integers(0, 60), st.integers(0, 60))
def test_damaged_long_headers_raise_value_error_only(flip: int, where: int, size: int) -> None:
    """Security row 13, from a header that was valid."""
    datagram = bytearray(
        headers.encode_long_header(VERSION_1, 0, bytes(8), bytes(8), b"token", 22, bytes(2)) + bytes(20)
    )
    datagram[where % len(datagram)] ^= flip
    try:
        parsed = headers.parse_long_header(bytes(datagram[:size]), 0)
    except ValueError:
        return
    assert parsed.end <= size


def test_huge_lengths_are_truncation() -> None:
    start = headers.encode_connection_ids(0xC0, VERSION_1, b"", b"")
    with pytest.raises(ValueError, match="Token is truncated"):
        headers.parse_long_header(start + encode_uint_var((1 << 62) - 1) + bytes(50), 0)
    with pytest.raises(ValueError, match="payload is truncated"):
        headers.parse_long_header(start + b"\x00" + encode_uint_var((1 << 62) - 1) + bytes(50), 0)


def test_destination_cid_by_the_invariants() -> None:
    assert headers.destination_cid_of(b"", 8) is None
    assert headers.destination_cid_of(b"\x40" + bytes(range(8)), 8) == bytes(range(8))
    assert headers.destination_cid_of(b"\x40" + bytes(range(20)), 8) == bytes(range(8))
    assert headers.destination_cid_of(b"\x40" + bytes(7), 8) is None
    assert headers.destination_cid_of(b"\x40", 0) == b""
    assert headers.destination_cid_of(b"\xc0\x00\x00\x00\x01", 8) is None
    assert headers.destination_cid_of(b"\xc0\x00\x00\x00\x01\x00", 8) == b""
    assert headers.destination_cid_of(b"\xc0\x00\x00\x00\x01\x02a", 8) is None
    assert headers.destination_cid_of(b"\xc0\x00\x00\x00\x01\x02ab", 8) == b"ab"


# --- packet numbers


@pytest.mark.rfc("9000", "A.2", "")
@pytest.mark.parametrize("row", NUMBERS["packet_number_encode_from_rfc"], ids=lambda row: str(row["full_pn"]))
def test_printed_packet_number_sizes(row: dict[str, int]) -> None:
    assert 8 * len(headers.encode_packet_number(row["full_pn"], row["largest_acked"])) == row["min_bits"]


@pytest.mark.rfc("9000", "A.3", "")
@pytest.mark.parametrize("row", NUMBERS["packet_number_decode_from_rfc"], ids=lambda row: str(row["full_pn"]))
def test_printed_packet_number_decodes(row: dict[str, int]) -> None:
    assert headers.decode_packet_number(row["truncated"], row["bits"], row["largest_pn"] + 1) == row["full_pn"]


@given(st.integers(0, 1 << 61), st.integers(1, (1 << 31) - 1), st.integers(0, 1 << 31))
def test_packet_numbers_survive_truncation(largest_acked: int, ahead: int, received: int) -> None:
    """Whatever the receiver has seen between the largest acknowledged number and this one, it recovers the number."""
    number = largest_acked + ahead
    encoded = headers.encode_packet_number(number, largest_acked)
    assert 2 <= len(encoded) <= 4
    largest_received = largest_acked + received % ahead
    decoded = headers.decode_packet_number(int.from_bytes(encoded, "big"), 8 * len(encoded), largest_received + 1)
    assert decoded == number


@pytest.mark.rfc("9000", "17.1", "MUST")
def test_packet_number_sizes_hold_twice_the_range() -> None:
    for unacknowledged, size in ((1, 2), (0x7FFF, 2), (0x8000, 3), (0x7FFFFF, 3), (0x800000, 4), (0x7FFFFFFF, 4)):
        assert len(headers.encode_packet_number(10**12 + unacknowledged, 10**12)) == size
    with pytest.raises(ValueError, match="unacknowledged"):
        headers.encode_packet_number(10**12 + (1 << 31), 10**12)
    # Nothing acknowledged yet: the full number goes out.
    assert headers.encode_packet_number(0, -1) == b"\x00\x00"
    assert headers.encode_packet_number(0x7FFE, -1) == b"\x7f\xfe"
    assert headers.encode_packet_number(0x7FFF, -1) == b"\x00\x7f\xff"


def test_packet_numbers_at_the_ends_of_their_space() -> None:
    assert headers.decode_packet_number(0xFFFF, 16, 0) == 0xFFFF
    assert headers.decode_packet_number(0, 16, (1 << 62) - 1) == (1 << 62) - (1 << 16)
    assert headers.decode_packet_number(0xFFFF, 16, 0x10000) == 0xFFFF
    assert headers.decode_packet_number(0, 16, 0xFFFF) == 0x10000


def test_known_versions() -> None:
    assert headers.is_known_version(VERSION_1)
    assert headers.is_known_version(VERSION_2)
    assert not headers.is_known_version(0)
    assert not headers.is_known_version(0x1A2A3A4A)
