"""Transport parameters (RFC 9000 §7.4, §18; RFC 9221 §3; RFC 9287 §3; RFC 9368 §3).

A `TransportParameters` starts with the value that RFC 9000 §18.2 gives to an absent parameter; `encode` leaves out what
still has it, `decode` fills in what the peer sent.

Rules, all checked by `decode` with TRANSPORT_PARAMETER_ERROR:
- no parameter twice, unknown ones included; each takes exactly the bytes its length says;
- integers within the bounds of the tables below, connection IDs of at most 20 bytes, flags of none;
- nothing that only a server may send from a client;
- a preferred address of the exact shape, with a connection ID that is not empty;
- version information of whole, non-zero versions; a client's chosen version is among its available ones.

Unknown parameters are skipped: that is what the reserved ones, 31 * N + 27, exercise (RFC 9000 §18.1).

Left to the handshake, which knows the connection: that connection IDs are present and match what the headers carried
(RFC 9000 §7.3), what versions mean (RFC 9368 §4), and how remembered values bind 0-RTT (RFC 9000 §7.4.1).
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from quicio.buffer import BufferReadError, encode_uint_var, read_uint_var
from quicio.quic.wire.constants import (
    CONNECTION_ID_MAX_SIZE,
    CRYPTO,
    SMALLEST_MAX_DATAGRAM_SIZE,
    STATELESS_RESET_TOKEN_SIZE,
    STREAM_COUNT_MAX,
    TRANSPORT_PARAMETER_ERROR,
    UINT_VAR_MAX,
    QuicConnectionError,
)

ORIGINAL_DESTINATION_CONNECTION_ID: Final = 0x00
STATELESS_RESET_TOKEN: Final = 0x02
DISABLE_ACTIVE_MIGRATION: Final = 0x0C
PREFERRED_ADDRESS: Final = 0x0D
INITIAL_SOURCE_CONNECTION_ID: Final = 0x0F
RETRY_SOURCE_CONNECTION_ID: Final = 0x10
VERSION_INFORMATION: Final = 0x11
GREASE_QUIC_BIT: Final = 0x2AB2
QUANTUM_READINESS: Final = 0x0C37  # an experiment with large hellos; the bytes mean nothing

ACTIVE_CONNECTION_ID_LIMIT_MIN: Final = 2
ACK_DELAY_EXPONENT_MAX: Final = 20
MAX_ACK_DELAY_MAX: Final = (1 << 14) - 1  # milliseconds

# Integer parameters: identifier -> (attribute, smallest and largest valid value).
INTEGERS: Final[dict[int, tuple[str, int, int]]] = {
    0x01: ("max_idle_timeout", 0, UINT_VAR_MAX),
    0x03: ("max_udp_payload_size", SMALLEST_MAX_DATAGRAM_SIZE, UINT_VAR_MAX),
    0x04: ("initial_max_data", 0, UINT_VAR_MAX),
    0x05: ("initial_max_stream_data_bidi_local", 0, UINT_VAR_MAX),
    0x06: ("initial_max_stream_data_bidi_remote", 0, UINT_VAR_MAX),
    0x07: ("initial_max_stream_data_uni", 0, UINT_VAR_MAX),
    0x08: ("initial_max_streams_bidi", 0, STREAM_COUNT_MAX),  # RFC 9000 §4.6
    0x09: ("initial_max_streams_uni", 0, STREAM_COUNT_MAX),
    0x0A: ("ack_delay_exponent", 0, ACK_DELAY_EXPONENT_MAX),
    0x0B: ("max_ack_delay", 0, MAX_ACK_DELAY_MAX),
    0x0E: ("active_connection_id_limit", ACTIVE_CONNECTION_ID_LIMIT_MIN, UINT_VAR_MAX),
    0x20: ("max_datagram_frame_size", 0, UINT_VAR_MAX),
}
_CONNECTION_IDS: Final[dict[int, str]] = {
    ORIGINAL_DESTINATION_CONNECTION_ID: "original_destination_connection_id",
    INITIAL_SOURCE_CONNECTION_ID: "initial_source_connection_id",
    RETRY_SOURCE_CONNECTION_ID: "retry_source_connection_id",
}
_FLAGS: Final[dict[int, str]] = {
    DISABLE_ACTIVE_MIGRATION: "disable_active_migration",
    GREASE_QUIC_BIT: "grease_quic_bit",
}
_SERVER_ONLY: Final = frozenset(
    {ORIGINAL_DESTINATION_CONNECTION_ID, STATELESS_RESET_TOKEN, PREFERRED_ADDRESS, RETRY_SOURCE_CONNECTION_ID}
)
ADDRESSES_SIZE: Final = 4 + 2 + 16 + 2  # RFC 9000 figure 22, up to Connection ID Length


@dataclass
class PreferredAddress:
    """The server's preferred address (RFC 9000 §9.6, §18.2): (host, port) by family, a connection ID, its reset token."""

    ipv4_address: tuple[str, int] | None
    ipv6_address: tuple[str, int] | None
    connection_id: bytes
    stateless_reset_token: bytes


FIELDS: Final = (
    "ack_delay_exponent",
    "active_connection_id_limit",
    "additional",
    "disable_active_migration",
    "grease_quic_bit",
    "initial_max_data",
    "initial_max_stream_data_bidi_local",
    "initial_max_stream_data_bidi_remote",
    "initial_max_stream_data_uni",
    "initial_max_streams_bidi",
    "initial_max_streams_uni",
    "initial_source_connection_id",
    "max_ack_delay",
    "max_datagram_frame_size",
    "max_idle_timeout",
    "max_udp_payload_size",
    "original_destination_connection_id",
    "preferred_address",
    "retry_source_connection_id",
    "stateless_reset_token",
    "version_information",
)


class TransportParameters:
    """What one endpoint declares (RFC 9000 §18.2). Times are in milliseconds, as on the wire.

    `version_information` is (chosen version, available versions). `additional` holds parameters to send that are not
    defined here, reserved ones for instance; `decode` leaves it empty.
    """

    __slots__ = FIELDS

    def __init__(self) -> None:
        self.original_destination_connection_id: bytes | None = None
        self.max_idle_timeout: int = 0
        self.stateless_reset_token: bytes | None = None
        self.max_udp_payload_size: int = 65527
        self.initial_max_data: int = 0
        self.initial_max_stream_data_bidi_local: int = 0
        self.initial_max_stream_data_bidi_remote: int = 0
        self.initial_max_stream_data_uni: int = 0
        self.initial_max_streams_bidi: int = 0
        self.initial_max_streams_uni: int = 0
        self.ack_delay_exponent: int = 3
        self.max_ack_delay: int = 25
        self.disable_active_migration: bool = False
        self.preferred_address: PreferredAddress | None = None
        self.active_connection_id_limit: int = ACTIVE_CONNECTION_ID_LIMIT_MIN
        self.initial_source_connection_id: bytes | None = None
        self.retry_source_connection_id: bytes | None = None
        self.version_information: tuple[int, list[int]] | None = None
        self.max_datagram_frame_size: int = 0
        self.grease_quic_bit: bool = False
        self.additional: list[tuple[int, bytes]] = []

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TransportParameters):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in FIELDS)

    def __repr__(self) -> str:
        shown = [
            f"{name}={getattr(self, name)!r}" for name in FIELDS if getattr(self, name) != getattr(_DEFAULTS, name)
        ]
        return f"TransportParameters({', '.join(shown)})"


_DEFAULTS: Final = TransportParameters()


def encode_parameter(identifier: int, value: bytes) -> bytes:
    """One parameter: identifier, length, value (RFC 9000 figure 21)."""
    return encode_uint_var(identifier) + encode_uint_var(len(value)) + value


def encode(params: TransportParameters) -> bytes:
    """The extension data of quic_transport_parameters: every parameter that differs from its default.

    Raises ValueError for a value that `decode` would refuse: an integer out of bounds, a connection ID or token of
    wrong size, a parameter in `additional` that is defined here.
    """
    pieces: list[bytes] = []
    for identifier, (name, minimum, maximum) in INTEGERS.items():
        number: int = getattr(params, name)
        if not minimum <= number <= maximum:
            raise ValueError(f"{name} must be {minimum} to {maximum}, got {number}")
        if number != getattr(_DEFAULTS, name):
            pieces.append(encode_parameter(identifier, encode_uint_var(number)))
    for identifier, name in _CONNECTION_IDS.items():
        cid: bytes | None = getattr(params, name)
        if cid is not None:
            if len(cid) > CONNECTION_ID_MAX_SIZE:
                raise ValueError(f"{name} takes at most 20 bytes, got {len(cid)}")
            pieces.append(encode_parameter(identifier, cid))
    for identifier, name in _FLAGS.items():
        if getattr(params, name):
            pieces.append(encode_parameter(identifier, b""))
    if params.stateless_reset_token is not None:
        if len(params.stateless_reset_token) != STATELESS_RESET_TOKEN_SIZE:
            raise ValueError(f"stateless_reset_token takes 16 bytes, got {len(params.stateless_reset_token)}")
        pieces.append(encode_parameter(STATELESS_RESET_TOKEN, params.stateless_reset_token))
    if params.preferred_address is not None:
        pieces.append(encode_parameter(PREFERRED_ADDRESS, encode_preferred_address(params.preferred_address)))
    if params.version_information is not None:
        chosen, available = params.version_information
        pieces.append(encode_parameter(VERSION_INFORMATION, encode_version_information(chosen, available)))
    for identifier, value in params.additional:
        if identifier in _DEFINED:
            raise ValueError(f"Transport parameter {identifier:#x} has an attribute of its own; set that")
        pieces.append(encode_parameter(identifier, value))
    return b"".join(pieces)


def encode_preferred_address(address: PreferredAddress) -> bytes:
    """The value of preferred_address (RFC 9000 figure 22); ValueError when its ID or token has a wrong size."""
    if not 1 <= len(address.connection_id) <= CONNECTION_ID_MAX_SIZE:
        raise ValueError(f"preferred_address needs a connection ID of 1 to 20 bytes, got {len(address.connection_id)}")
    if len(address.stateless_reset_token) != STATELESS_RESET_TOKEN_SIZE:
        raise ValueError(f"A stateless reset token takes 16 bytes, got {len(address.stateless_reset_token)}")
    value = bytes(6)
    if address.ipv4_address is not None:
        value = IPv4Address(address.ipv4_address[0]).packed + address.ipv4_address[1].to_bytes(2, "big")
    if address.ipv6_address is not None:
        value += IPv6Address(address.ipv6_address[0]).packed + address.ipv6_address[1].to_bytes(2, "big")
    else:
        value += bytes(18)
    return value + bytes((len(address.connection_id),)) + address.connection_id + address.stateless_reset_token


def encode_version_information(chosen: int, available: list[int]) -> bytes:
    """The value of version_information (RFC 9368 §3)."""
    return chosen.to_bytes(4, "big") + b"".join([version.to_bytes(4, "big") for version in available])


def _error(reason: str) -> QuicConnectionError:
    return QuicConnectionError(TRANSPORT_PARAMETER_ERROR, CRYPTO, reason)


def split(data: bytes) -> list[tuple[int, bytes]]:
    """The (identifier, value) pairs of an encoded sequence, in order.

    Raises QuicConnectionError(TRANSPORT_PARAMETER_ERROR) when one is cut short or comes twice.
    """
    parameters: list[tuple[int, bytes]] = []
    seen: set[int] = set()
    position = 0
    while position < len(data):
        try:
            identifier, position = read_uint_var(data, position)
            length, position = read_uint_var(data, position)
        except BufferReadError:
            raise _error("Transport parameters are truncated") from None
        end = position + length
        if end > len(data):
            raise _error("Transport parameters are truncated")
        if identifier in seen:
            raise _error(f"Transport parameter {identifier:#x} is there twice")
        seen.add(identifier)
        parameters.append((identifier, data[position:end]))
        position = end
    return parameters


def decode(data: bytes, from_client: bool) -> TransportParameters:
    """Read the peer's transport parameters; `from_client` says which role the peer has.

    Raises QuicConnectionError(TRANSPORT_PARAMETER_ERROR), and nothing else, for whatever breaks a rule that needs no
    connection state: see the module's essay.
    """
    params = TransportParameters()
    for identifier, value in split(data):
        if from_client and identifier in _SERVER_ONLY:
            raise _error(f"Transport parameter {identifier:#x} is not for clients to send")
        if identifier in INTEGERS:
            name, minimum, maximum = INTEGERS[identifier]
            number = decode_integer(value, name)
            if not minimum <= number <= maximum:
                raise _error(f"{name} must be {minimum} to {maximum}, got {number}")
            setattr(params, name, number)
        elif identifier in _CONNECTION_IDS:
            if len(value) > CONNECTION_ID_MAX_SIZE:
                raise _error(f"{_CONNECTION_IDS[identifier]} must not exceed 20 bytes")
            setattr(params, _CONNECTION_IDS[identifier], value)
        elif identifier in _FLAGS:
            if value:
                raise _error(f"{_FLAGS[identifier]} must be empty")
            setattr(params, _FLAGS[identifier], True)
        elif identifier == STATELESS_RESET_TOKEN:
            if len(value) != STATELESS_RESET_TOKEN_SIZE:
                raise _error("stateless_reset_token must have 16 bytes")
            params.stateless_reset_token = value
        elif identifier == PREFERRED_ADDRESS:
            params.preferred_address = decode_preferred_address(value)
        elif identifier == VERSION_INFORMATION:
            chosen, available = decode_version_information(value)
            if from_client and chosen not in available:
                raise _error("version_information lacks the chosen version among the available ones")
            params.version_information = (chosen, available)
    return params


def decode_integer(value: bytes, name: str) -> int:
    """An integer parameter's value: one variable-length integer and nothing behind it."""
    try:
        number, end = read_uint_var(value, 0)
    except BufferReadError:
        raise _error(f"{name} is truncated") from None
    if end != len(value):
        raise _error(f"{name} is longer than its integer")
    return number


def decode_preferred_address(value: bytes) -> PreferredAddress:
    """The value of preferred_address; an all-zero address and port mean that the server has none of that family."""
    if len(value) <= ADDRESSES_SIZE:
        raise _error("preferred_address is truncated")
    length = value[ADDRESSES_SIZE]
    start = ADDRESSES_SIZE + 1
    end = start + length
    if len(value) != end + STATELESS_RESET_TOKEN_SIZE:
        raise _error("preferred_address has a wrong length")
    if not 1 <= length <= CONNECTION_ID_MAX_SIZE:
        raise _error("preferred_address must carry a connection ID of 1 to 20 bytes")
    ipv4_address: tuple[str, int] | None = None
    ipv6_address: tuple[str, int] | None = None
    if any(value[0:6]):
        ipv4_address = str(IPv4Address(value[0:4])), int.from_bytes(value[4:6], "big")
    if any(value[6:24]):
        ipv6_address = str(IPv6Address(value[6:22])), int.from_bytes(value[22:24], "big")
    return PreferredAddress(ipv4_address, ipv6_address, value[start:end], value[end:])


def decode_version_information(value: bytes) -> tuple[int, list[int]]:
    """The value of version_information as (chosen version, available versions) (RFC 9368 §3, §4)."""
    if len(value) < 4 or len(value) % 4:
        raise _error("version_information does not hold whole versions")
    versions = [int.from_bytes(value[position : position + 4], "big") for position in range(0, len(value), 4)]
    if 0 in versions:
        raise _error("version_information must not hold version 0")
    return versions[0], versions[1:]


_DEFINED: Final = frozenset(
    [*INTEGERS, *_CONNECTION_IDS, *_FLAGS, STATELESS_RESET_TOKEN, PREFERRED_ADDRESS, VERSION_INFORMATION]
)
