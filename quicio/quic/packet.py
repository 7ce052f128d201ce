"""The public vocabulary of packets: enums, headers and transport parameters as values, for code outside the core.

Servers that route datagrams themselves read a header with `pull_quic_header` and answer an unknown version with
`encode_quic_version_negotiation` or an unproven address with `encode_quic_retry`; analysers read ACK frames and transport
parameters. Everything is a thin layer over `quicio.quic.wire`, which the core itself uses: there a code point is an int,
here it is an Enum member, and here a malformed input is a `ValueError` (`BufferReadError` when it is cut short).

The functions work on a `Buffer`: `pull_…` reads from the cursor and leaves it behind what was read, `push_…` writes.
"""

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Final

from quicio.buffer import Buffer, BufferReadError, encode_uint_var
from quicio.environment import DEFAULT_ENVIRONMENT
from quicio.quic.wire import constants, frames, headers, transport_parameters
from quicio.quic.wire.headers import decode_packet_number
from quicio.quic.wire.rangeset import RangeSet
from quicio.quic.wire.retry import encode_retry, retry_integrity_tag
from quicio.quic.wire.transport_parameters import PreferredAddress as QuicPreferredAddress

__all__ = [
    "PACKET_TYPE_INITIAL",
    "QuicErrorCode",
    "QuicFrameType",
    "QuicHeader",
    "QuicPacketType",
    "QuicPreferredAddress",
    "QuicProtocolVersion",
    "QuicTransportParameters",
    "QuicVersionInformation",
    "decode_packet_number",
    "encode_quic_retry",
    "encode_quic_version_negotiation",
    "get_retry_integrity_tag",
    "pull_ack_frame",
    "pull_quic_header",
    "pull_quic_preferred_address",
    "pull_quic_transport_parameters",
    "push_ack_frame",
    "push_quic_preferred_address",
    "push_quic_transport_parameters",
]


class QuicErrorCode(IntEnum):
    """Transport error codes (RFC 9000 §20.1, RFC 9368 §10.2); CRYPTO_ERROR plus the alert for those of TLS."""

    NO_ERROR = constants.NO_ERROR
    INTERNAL_ERROR = constants.INTERNAL_ERROR
    CONNECTION_REFUSED = constants.CONNECTION_REFUSED
    FLOW_CONTROL_ERROR = constants.FLOW_CONTROL_ERROR
    STREAM_LIMIT_ERROR = constants.STREAM_LIMIT_ERROR
    STREAM_STATE_ERROR = constants.STREAM_STATE_ERROR
    FINAL_SIZE_ERROR = constants.FINAL_SIZE_ERROR
    FRAME_ENCODING_ERROR = constants.FRAME_ENCODING_ERROR
    TRANSPORT_PARAMETER_ERROR = constants.TRANSPORT_PARAMETER_ERROR
    CONNECTION_ID_LIMIT_ERROR = constants.CONNECTION_ID_LIMIT_ERROR
    PROTOCOL_VIOLATION = constants.PROTOCOL_VIOLATION
    INVALID_TOKEN = constants.INVALID_TOKEN
    APPLICATION_ERROR = constants.APPLICATION_ERROR
    CRYPTO_BUFFER_EXCEEDED = constants.CRYPTO_BUFFER_EXCEEDED
    KEY_UPDATE_ERROR = constants.KEY_UPDATE_ERROR
    AEAD_LIMIT_REACHED = constants.AEAD_LIMIT_REACHED
    NO_VIABLE_PATH = constants.NO_VIABLE_PATH
    VERSION_NEGOTIATION_ERROR = constants.VERSION_NEGOTIATION_ERROR
    CRYPTO_ERROR = constants.CRYPTO_ERROR


class QuicFrameType(IntEnum):
    """Frame types (RFC 9000 §19, RFC 9221 §4); STREAM frames are STREAM_BASE and three bits of flags."""

    PADDING = constants.PADDING
    PING = constants.PING
    ACK = constants.ACK
    ACK_ECN = constants.ACK_ECN
    RESET_STREAM = constants.RESET_STREAM
    STOP_SENDING = constants.STOP_SENDING
    CRYPTO = constants.CRYPTO
    NEW_TOKEN = constants.NEW_TOKEN
    STREAM_BASE = constants.STREAM
    MAX_DATA = constants.MAX_DATA
    MAX_STREAM_DATA = constants.MAX_STREAM_DATA
    MAX_STREAMS_BIDI = constants.MAX_STREAMS_BIDI
    MAX_STREAMS_UNI = constants.MAX_STREAMS_UNI
    DATA_BLOCKED = constants.DATA_BLOCKED
    STREAM_DATA_BLOCKED = constants.STREAM_DATA_BLOCKED
    STREAMS_BLOCKED_BIDI = constants.STREAMS_BLOCKED_BIDI
    STREAMS_BLOCKED_UNI = constants.STREAMS_BLOCKED_UNI
    NEW_CONNECTION_ID = constants.NEW_CONNECTION_ID
    RETIRE_CONNECTION_ID = constants.RETIRE_CONNECTION_ID
    PATH_CHALLENGE = constants.PATH_CHALLENGE
    PATH_RESPONSE = constants.PATH_RESPONSE
    TRANSPORT_CLOSE = constants.TRANSPORT_CLOSE
    APPLICATION_CLOSE = constants.APPLICATION_CLOSE
    HANDSHAKE_DONE = constants.HANDSHAKE_DONE
    DATAGRAM = constants.DATAGRAM
    DATAGRAM_WITH_LENGTH = constants.DATAGRAM_WITH_LENGTH


class QuicPacketType(Enum):
    """Packet types, whatever the version writes for them (RFC 9000 §17)."""

    INITIAL = headers.INITIAL_PACKET
    ZERO_RTT = headers.ZERO_RTT_PACKET
    HANDSHAKE = headers.HANDSHAKE_PACKET
    RETRY = headers.RETRY_PACKET
    VERSION_NEGOTIATION = headers.VERSION_NEGOTIATION_PACKET
    ONE_RTT = 5


class QuicProtocolVersion(IntEnum):
    """Versions of QUIC that are spoken here; NEGOTIATION marks a Version Negotiation packet."""

    NEGOTIATION = constants.VERSION_NEGOTIATION
    VERSION_1 = constants.VERSION_1
    VERSION_2 = constants.VERSION_2


PACKET_TYPE_INITIAL: Final = QuicPacketType.INITIAL


@dataclass
class QuicHeader:
    """What a packet shows before header protection is removed."""

    version: int | None
    "The version, or None for a short header."

    packet_type: QuicPacketType
    "The type of the packet."

    packet_length: int
    "The size of the packet in bytes, its header included."

    destination_cid: bytes
    "The Destination Connection ID."

    source_cid: bytes
    "The Source Connection ID, empty for a short header."

    token: bytes
    "The token of an Initial or Retry packet."

    integrity_tag: bytes
    "The integrity tag of a Retry packet."

    supported_versions: list[int]
    "The versions that a Version Negotiation packet offers."


def pull_quic_header(buf: Buffer, host_cid_length: int | None = None) -> QuicHeader:
    """Read the header of one packet; the cursor is left behind it, at the packet number where there is one.

    `host_cid_length` is the size of the connection IDs the reader issues, needed for short headers. A packet of an unknown
    version is read by the invariants (RFC 8999): its type is what version 1 would make of it, and its length the rest of
    the datagram. Raises ValueError when the bytes are no QUIC packet.
    """
    start = buf.tell()
    datagram = buf.data_slice(0, buf.capacity)
    if start == len(datagram):
        raise BufferReadError("Read out of bounds")
    first_byte = datagram[start]
    if not first_byte & headers.LONG_HEADER_BIT:
        return _pull_short_header(buf, first_byte, host_cid_length)
    header = headers.parse_long_header(datagram, start)
    packet_type = header.packet_type
    if packet_type == headers.UNKNOWN_PACKET:
        packet_type = (header.first_byte >> 4) & 3
        # The invariants end behind the connection IDs: first byte, version, two lengths.
        buf.seek(start + 7 + len(header.destination_cid) + len(header.source_cid))
    else:
        buf.seek(header.packet_number_offset or header.end)
    return QuicHeader(
        version=header.version,
        packet_type=QuicPacketType(packet_type),
        packet_length=header.end - start,
        destination_cid=header.destination_cid,
        source_cid=header.source_cid,
        token=header.token,
        integrity_tag=header.integrity_tag,
        supported_versions=header.supported_versions,
    )


def _pull_short_header(buf: Buffer, first_byte: int, host_cid_length: int | None) -> QuicHeader:
    start = buf.tell()
    if not first_byte & headers.FIXED_BIT:
        raise ValueError("Packet fixed bit is zero")
    if host_cid_length is None:
        raise ValueError("A short header needs host_cid_length, the size of the connection IDs issued here")
    end = start + 1 + host_cid_length
    destination_cid = buf.data_slice(start + 1, end)
    buf.seek(end)
    return QuicHeader(
        version=None,
        packet_type=QuicPacketType.ONE_RTT,
        packet_length=buf.capacity - start,
        destination_cid=destination_cid,
        source_cid=b"",
        token=b"",
        integrity_tag=b"",
        supported_versions=[],
    )


def encode_quic_version_negotiation(source_cid: bytes, destination_cid: bytes, supported_versions: list[int]) -> bytes:
    """A Version Negotiation packet (RFC 9000 §17.2.1): the connection IDs are those of the client's packet, swapped."""
    random = DEFAULT_ENVIRONMENT.random_bytes(1)[0]
    return headers.encode_version_negotiation(source_cid, destination_cid, supported_versions, random)


def encode_quic_retry(
    version: int,
    source_cid: bytes,
    destination_cid: bytes,
    original_destination_cid: bytes,
    retry_token: bytes,
    unused: int = 0,
) -> bytes:
    """A Retry packet with its integrity tag (RFC 9000 §17.2.5, RFC 9001 §5.8)."""
    return encode_retry(version, source_cid, destination_cid, original_destination_cid, retry_token, unused)


def get_retry_integrity_tag(packet_without_tag: bytes, original_destination_cid: bytes, version: int) -> bytes:
    """The integrity tag of a Retry packet (RFC 9001 §5.8)."""
    return retry_integrity_tag(packet_without_tag, original_destination_cid, version)


def pull_ack_frame(buf: Buffer) -> tuple[RangeSet, int]:
    """Read an ACK frame behind its type: the packet numbers, and the delay as encoded (RFC 9000 §19.3)."""
    data = buf.data_slice(0, buf.capacity)
    try:
        flat, delay, _, position = frames.decode_ack(data, buf.tell(), constants.ACK)
    except constants.QuicConnectionError as error:
        raise BufferReadError(error.reason_phrase) from None
    ranges = RangeSet()
    for index in range(len(flat) - 2, -1, -2):
        ranges.add(flat[index], flat[index + 1])
    buf.seek(position)
    return ranges, delay


def push_ack_frame(buf: Buffer, rangeset: RangeSet, delay: int, capacity: int) -> int:
    """Write an ACK frame behind its type, of the newest ranges that fit `capacity` bytes; returns how many were written."""
    frame = frames.encode_ack(rangeset, delay, None, capacity + 1)  # the type is the caller's to write
    if not frame:
        return 0
    buf.push_bytes(frame[1:])
    return len(frames.decode_ack(frame, 1, constants.ACK)[0]) // 2


@dataclass
class QuicVersionInformation:
    """The version_information transport parameter (RFC 9368 §3)."""

    chosen_version: int
    available_versions: list[int]


@dataclass
class QuicTransportParameters:
    """Transport parameters as they are on the wire: None for what is absent (RFC 9000 §18.2)."""

    original_destination_connection_id: bytes | None = None
    max_idle_timeout: int | None = None
    stateless_reset_token: bytes | None = None
    max_udp_payload_size: int | None = None
    initial_max_data: int | None = None
    initial_max_stream_data_bidi_local: int | None = None
    initial_max_stream_data_bidi_remote: int | None = None
    initial_max_stream_data_uni: int | None = None
    initial_max_streams_bidi: int | None = None
    initial_max_streams_uni: int | None = None
    ack_delay_exponent: int | None = None
    max_ack_delay: int | None = None
    disable_active_migration: bool | None = False
    preferred_address: QuicPreferredAddress | None = None
    active_connection_id_limit: int | None = None
    initial_source_connection_id: bytes | None = None
    retry_source_connection_id: bytes | None = None
    version_information: QuicVersionInformation | None = None
    max_datagram_frame_size: int | None = None
    quantum_readiness: bytes | None = None


_DISABLE_ACTIVE_MIGRATION: Final = transport_parameters.DISABLE_ACTIVE_MIGRATION
_INTEGERS: Final = {identifier: row[0] for identifier, row in transport_parameters.INTEGERS.items()}
_OPAQUE: Final = {
    transport_parameters.ORIGINAL_DESTINATION_CONNECTION_ID: "original_destination_connection_id",
    transport_parameters.STATELESS_RESET_TOKEN: "stateless_reset_token",
    transport_parameters.INITIAL_SOURCE_CONNECTION_ID: "initial_source_connection_id",
    transport_parameters.RETRY_SOURCE_CONNECTION_ID: "retry_source_connection_id",
    transport_parameters.QUANTUM_READINESS: "quantum_readiness",
}
_IDENTIFIERS: Final = sorted(
    [
        *_INTEGERS,
        *_OPAQUE,
        _DISABLE_ACTIVE_MIGRATION,
        transport_parameters.PREFERRED_ADDRESS,
        transport_parameters.VERSION_INFORMATION,
    ]
)


def pull_quic_transport_parameters(buf: Buffer) -> QuicTransportParameters:
    """Read transport parameters up to the end of the buffer: their shape is checked, their bounds are not."""
    params = QuicTransportParameters()
    data = buf.data_slice(buf.tell(), buf.capacity)
    try:
        for identifier, value in transport_parameters.split(data):
            if identifier in _INTEGERS:
                name = _INTEGERS[identifier]
                setattr(params, name, transport_parameters.decode_integer(value, name))
            elif identifier in _OPAQUE:
                setattr(params, _OPAQUE[identifier], value)
            elif identifier == _DISABLE_ACTIVE_MIGRATION:
                params.disable_active_migration = True
            elif identifier == transport_parameters.PREFERRED_ADDRESS:
                params.preferred_address = transport_parameters.decode_preferred_address(value)
            elif identifier == transport_parameters.VERSION_INFORMATION:
                params.version_information = QuicVersionInformation(
                    *transport_parameters.decode_version_information(value)
                )
    except constants.QuicConnectionError as error:
        raise ValueError(error.reason_phrase) from None
    buf.seek(buf.capacity)
    return params


def push_quic_transport_parameters(buf: Buffer, params: QuicTransportParameters) -> None:
    """Write the transport parameters that are not None, in the order of their identifiers."""
    for identifier in _IDENTIFIERS:
        value = _encoded_value(identifier, params)
        if value is not None:
            buf.push_bytes(transport_parameters.encode_parameter(identifier, value))


def _encoded_value(identifier: int, params: QuicTransportParameters) -> bytes | None:
    if identifier in _INTEGERS:
        number: int | None = getattr(params, _INTEGERS[identifier])
        return None if number is None else encode_uint_var(number)
    if identifier in _OPAQUE:
        value: bytes | None = getattr(params, _OPAQUE[identifier])
        return value
    if identifier == _DISABLE_ACTIVE_MIGRATION:
        return b"" if params.disable_active_migration else None
    if identifier == transport_parameters.PREFERRED_ADDRESS:
        address = params.preferred_address
        return None if address is None else transport_parameters.encode_preferred_address(address)
    versions = params.version_information
    if versions is None:
        return None
    return transport_parameters.encode_version_information(versions.chosen_version, versions.available_versions)


def pull_quic_preferred_address(buf: Buffer) -> QuicPreferredAddress:
    """Read the value of a preferred_address parameter (RFC 9000 figure 22)."""
    start = buf.tell()
    buf.pull_bytes(transport_parameters.ADDRESSES_SIZE)
    size = transport_parameters.ADDRESSES_SIZE + 1 + buf.pull_uint8() + constants.STATELESS_RESET_TOKEN_SIZE
    buf.seek(start)
    try:
        return transport_parameters.decode_preferred_address(buf.pull_bytes(size))
    except constants.QuicConnectionError as error:
        raise ValueError(error.reason_phrase) from None


def push_quic_preferred_address(buf: Buffer, preferred_address: QuicPreferredAddress) -> None:
    """Write the value of a preferred_address parameter (RFC 9000 figure 22)."""
    buf.push_bytes(transport_parameters.encode_preferred_address(preferred_address))
