"""Packet headers (RFC 9000 §17, RFC 9369 §3.2, RFC 8999) and packet numbers (RFC 9000 §17.1).

A datagram's first bytes are the only thing two QUIC versions must agree on. So there are two readers here: one that
knows the invariants alone (`destination_cid_of`, for routing) and one that knows versions 1 and 2
(`parse_long_header`). Short headers need no parser: behind the first byte comes a connection ID whose length only its
issuer knows.

Rules:
- `parse_long_header` reads what is visible before header protection is removed, never more. It raises `ValueError` on
  malformed bytes, which means "discard this and what follows in the datagram"; an unknown version is not malformed: its
  header carries type -1 and the connection IDs, up to 255 bytes each, so that Version Negotiation can answer it.
- Packet types are the ints below, the same for all versions; the two bits on the wire differ between versions 1 and 2
  and are translated here, nowhere else.
- A header with a Length field ends where Length says; coalesced packets follow. Retry, Version Negotiation and unknown
  versions take the rest of the datagram.
- What we send always spends two bytes on Length, so that a header's size is known before its payload's; and two bytes
  or more on the packet number, so that a sample for header protection exists behind any payload that carries a tag.

Whether reserved bits are zero is seen only after protection is removed: `Inbound` checks that.
"""

from typing import Final

from quicio.buffer import BufferReadError, encode_uint_var, read_uint_var
from quicio.quic.wire.constants import AEAD_TAG_SIZE, CONNECTION_ID_MAX_SIZE, VERSION_1, VERSION_2, VERSION_NEGOTIATION

# Types of long header packets, whatever the version.
INITIAL_PACKET: Final = 0
ZERO_RTT_PACKET: Final = 1
HANDSHAKE_PACKET: Final = 2
RETRY_PACKET: Final = 3
VERSION_NEGOTIATION_PACKET: Final = 4
UNKNOWN_PACKET: Final = -1

LONG_HEADER_BIT: Final = 0x80
FIXED_BIT: Final = 0x40
SPIN_BIT: Final = 0x20
KEY_PHASE_BIT: Final = 0x04
CONNECTION_ID_MAX_SIZE_INVARIANT: Final = 255  # RFC 8999 §5.1
LENGTH_MAX: Final = 0x3FFF  # the most that two bytes of Length hold

# Type bits on the wire: version 1 in the order of the ints above (RFC 9000 table 5), version 2 one up (RFC 9369 §3.2).
_V2_SHIFT: Final = 1


class LongHeader:
    """What a long header shows before protection is removed. Positions count from the start of the datagram."""

    __slots__ = (
        "destination_cid",
        "end",
        "first_byte",
        "integrity_tag",
        "packet_number_offset",
        "packet_type",
        "source_cid",
        "supported_versions",
        "token",
        "version",
    )

    def __init__(
        self, first_byte: int, version: int, packet_type: int, destination_cid: bytes, source_cid: bytes, end: int
    ) -> None:
        self.first_byte: int = first_byte
        self.version: int = version
        self.packet_type: int = packet_type
        self.destination_cid: bytes = destination_cid
        self.source_cid: bytes = source_cid
        self.token: bytes = b""
        self.packet_number_offset: int = 0  # 0 when the packet has no packet number
        self.end: int = end
        self.supported_versions: list[int] = []
        self.integrity_tag: bytes = b""


def is_known_version(version: int) -> bool:
    """True for the versions whose packets this implementation reads: 1 and 2."""
    return version in (VERSION_1, VERSION_2)


def parse_long_header(datagram: bytes, position: int, require_fixed_bit: bool = True) -> LongHeader:
    """Read the long header at `position`.

    `require_fixed_bit` is False for endpoints that announced grease_quic_bit (RFC 9287 §3). Raises ValueError when the
    bytes are no long header, when they are cut short, or when they break a rule of RFC 9000 §17.2.
    """
    size = len(datagram)
    if position + 6 > size:
        raise BufferReadError("Long header is truncated")
    first_byte = datagram[position]
    if not first_byte & LONG_HEADER_BIT:
        raise ValueError("Packet has a short header")
    version = int.from_bytes(datagram[position + 1 : position + 5], "big")
    is_known = is_known_version(version)

    start = position + 6
    end = start + datagram[position + 5]
    if end >= size:
        raise BufferReadError("Destination CID is truncated")
    destination_cid = datagram[start:end]
    start = end + 1
    end = start + datagram[end]
    if end > size:
        raise BufferReadError("Source CID is truncated")
    source_cid = datagram[start:end]
    if not is_known:
        if version == VERSION_NEGOTIATION:
            return _parse_version_negotiation(datagram, end, first_byte, destination_cid, source_cid)
        return LongHeader(first_byte, version, UNKNOWN_PACKET, destination_cid, source_cid, size)

    if len(destination_cid) > CONNECTION_ID_MAX_SIZE:
        raise ValueError(f"Destination CID is too long ({len(destination_cid)} bytes)")
    if len(source_cid) > CONNECTION_ID_MAX_SIZE:
        raise ValueError(f"Source CID is too long ({len(source_cid)} bytes)")
    if require_fixed_bit and not first_byte & FIXED_BIT:
        raise ValueError("Packet fixed bit is zero")
    packet_type = (first_byte >> 4) & 3
    if version == VERSION_2:
        packet_type = (packet_type - _V2_SHIFT) & 3
    header = LongHeader(first_byte, version, packet_type, destination_cid, source_cid, size)
    if packet_type == RETRY_PACKET:
        # A Retry without a token is to be discarded (RFC 9000 §17.2.5.2), so the tag cannot be all there is.
        tag_start = size - AEAD_TAG_SIZE
        if tag_start <= end:
            raise ValueError("Retry packet is truncated")
        header.token = datagram[end:tag_start]
        header.integrity_tag = datagram[tag_start:]
        return header
    if packet_type == INITIAL_PACKET:
        length, start = read_uint_var(datagram, end)
        end = start + length
        if end > size:
            raise BufferReadError("Token is truncated")
        header.token = datagram[start:end]
    length, end = read_uint_var(datagram, end)
    header.packet_number_offset = end
    header.end = end + length
    if header.end > size:
        raise ValueError("Packet payload is truncated")
    return header


def _parse_version_negotiation(
    datagram: bytes, position: int, first_byte: int, destination_cid: bytes, source_cid: bytes
) -> LongHeader:
    size = len(datagram)
    # An empty list is no valid packet either (RFC 8999 §6).
    if position == size or (size - position) % 4:
        raise ValueError("Version Negotiation packet does not hold a list of versions")
    header = LongHeader(first_byte, VERSION_NEGOTIATION, VERSION_NEGOTIATION_PACKET, destination_cid, source_cid, size)
    while position < size:
        header.supported_versions.append(int.from_bytes(datagram[position : position + 4], "big"))
        position += 4
    return header


def encode_first_byte(version: int, packet_type: int, bits: int) -> int:
    """The first byte of a long header: form, fixed bit, type code of `version`, and four type-specific `bits`."""
    code = packet_type
    if version == VERSION_2:
        code = (packet_type + _V2_SHIFT) & 3
    return LONG_HEADER_BIT | FIXED_BIT | code << 4 | bits


def encode_connection_ids(first_byte: int, version: int, destination_cid: bytes, source_cid: bytes) -> bytes:
    """The version-independent start of a long header (RFC 8999 §5.1); ValueError for an ID of more than 255 bytes."""
    destination_length = len(destination_cid)
    source_length = len(source_cid)
    if destination_length > CONNECTION_ID_MAX_SIZE_INVARIANT or source_length > CONNECTION_ID_MAX_SIZE_INVARIANT:
        raise ValueError("A connection ID takes at most 255 bytes")
    return (
        (first_byte << 32 | version).to_bytes(5, "big")
        + bytes((destination_length,))
        + destination_cid
        + bytes((source_length,))
        + source_cid
    )


def encode_long_header(
    version: int,
    packet_type: int,
    destination_cid: bytes,
    source_cid: bytes,
    token: bytes,
    length_with_number_and_tag: int,
    number_bytes: bytes,
) -> bytes:
    """The header of an Initial, 0-RTT or Handshake packet, packet number included, before header protection.

    `length_with_number_and_tag` counts the bytes behind the Length field: packet number, payload and AEAD tag. Raises
    ValueError when it does not fit two bytes, or when `token` is given for a packet other than Initial.
    """
    if length_with_number_and_tag > LENGTH_MAX:
        raise ValueError(f"A packet of {length_with_number_and_tag} bytes does not fit a two-byte Length; send less")
    header = encode_connection_ids(
        encode_first_byte(version, packet_type, len(number_bytes) - 1), version, destination_cid, source_cid
    )
    if packet_type == INITIAL_PACKET:
        header += encode_uint_var(len(token)) + token
    elif token:
        raise ValueError("Only Initial packets carry a token")
    return header + (length_with_number_and_tag | 0x4000).to_bytes(2, "big") + number_bytes


def encode_version_negotiation(
    source_cid: bytes, destination_cid: bytes, versions: list[int], first_byte_random: int
) -> bytes:
    """A Version Negotiation packet (RFC 9000 §17.2.1).

    `source_cid` and `destination_cid` are those of the packet to send: the client's, swapped. `first_byte_random` fills
    the six unused bits; the fixed bit is set so that demultiplexers see QUIC (RFC 7983).
    """
    first_byte = LONG_HEADER_BIT | FIXED_BIT | first_byte_random & 0x3F
    header = encode_connection_ids(first_byte, VERSION_NEGOTIATION, destination_cid, source_cid)
    return header + b"".join([version.to_bytes(4, "big") for version in versions])


def destination_cid_of(datagram: bytes, short_length: int) -> bytes | None:
    """The Destination Connection ID by the invariants alone (RFC 8999 §5), or None when the datagram is too short.

    `short_length` is the length of the connection IDs that the reader issues: short headers do not say it.
    """
    size = len(datagram)
    if size == 0:
        return None
    if datagram[0] & LONG_HEADER_BIT:
        if size < 6:
            return None
        end = 6 + datagram[5]
        return datagram[6:end] if end <= size else None
    end = 1 + short_length
    return datagram[1:end] if end <= size else None


def encode_packet_number(number: int, largest_acked: int) -> bytes:
    """The truncated packet number (RFC 9000 §17.1, §A.2), in two to four bytes.

    `largest_acked` is -1 before the first acknowledgement in the space. Raises ValueError when more than 2^31 numbers
    are unacknowledged, which no sender lets happen.
    """
    unacknowledged = number - largest_acked
    if unacknowledged < 0x8000:
        return (number & 0xFFFF).to_bytes(2, "big")
    if unacknowledged < 0x800000:
        return (number & 0xFFFFFF).to_bytes(3, "big")
    if unacknowledged < 0x80000000:
        return (number & 0xFFFFFFFF).to_bytes(4, "big")
    raise ValueError("Too many unacknowledged packets for any packet number encoding")


def decode_packet_number(truncated: int, num_bits: int, expected: int) -> int:
    """The full packet number: the one closest to `expected` that ends in `truncated` (RFC 9000 §A.3).

    `num_bits` is the size of the truncated number, `expected` the highest number received in the space plus one.
    """
    window = 1 << num_bits
    half = window >> 1
    candidate = (expected & ~(window - 1)) | truncated
    if candidate <= expected - half and candidate < (1 << 62) - window:
        return candidate + window
    if candidate > expected + half and candidate >= window:
        return candidate - window
    return candidate
