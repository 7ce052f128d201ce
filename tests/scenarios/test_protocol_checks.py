"""What a peer must not do, and the error that it is to be closed with.

These are h3spec's 34 checks of transport and TLS as packets on the wire, numbered in its order, with a mirror for the client
wherever a server could commit the offence; then every type of frame in every type of packet. Codes are read from the
CONNECTION_CLOSE that was sent.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from quicio.quic.wire.constants import (
    CRYPTO_ERROR,
    EPOCH_HANDSHAKE,
    EPOCH_INITIAL,
    EPOCH_ONE_RTT,
    EPOCH_ZERO_RTT,
    FLOW_CONTROL_ERROR,
    FRAME_ENCODING_ERROR,
    HANDSHAKE,
    INITIAL,
    PROTOCOL_VIOLATION,
    STREAM_LIMIT_ERROR,
    STREAM_STATE_ERROR,
    TRANSPORT_PARAMETER_ERROR,
)
from quicio.quic.wire.frames import ALLOWED, FRAME_TYPES, IN_HANDSHAKE, IN_INITIAL, IN_ONE_RTT, IN_ZERO_RTT
from sim.rude import RudePeer, alter_parameters, crypto_frame, stream_frame, varint, without_extension

BOTH = pytest.mark.parametrize("victim_is_client", [False, True], ids=["server", "client"])
UNEXPECTED_MESSAGE = CRYPTO_ERROR + 10
MISSING_EXTENSION = CRYPTO_ERROR + 109
NO_APPLICATION_PROTOCOL = CRYPTO_ERROR + 120
ILLEGAL_PARAMETER = CRYPTO_ERROR + 47
UNSUPPORTED_EXTENSION = CRYPTO_ERROR + 110

RESET_TOKEN = bytes(range(16))
PREFERRED_ADDRESS = bytes([127, 0, 0, 1, 1, 187]) + bytes(18) + b"\x04abcd" + RESET_TOKEN

# Stream IDs as the victim sees them: (server, client), so that [victim_is_client] picks.
PEER_BIDI = (0, 1)
PEER_UNI = (2, 3)
OWN_BIDI = (1, 0)
OWN_UNI = (3, 2)


def refused(rude: RudePeer, code: int) -> None:
    """The victim closed with `code`, and does not speak to anyone any more."""
    assert rude.close_code() == code
    reason = rude.victim.close_reason
    assert reason is not None
    assert (reason.code, reason.by_peer) == (code, False)


def confirmed(victim_is_client: bool) -> RudePeer:
    return RudePeer(victim_is_client=victim_is_client).to_confirmed()


# --- 1, 2: limits ----------------------------------------------------------------------------------------------------


@BOTH
def test_01_large_offset_exceeds_flow_control(victim_is_client: bool) -> None:
    rude = confirmed(victim_is_client)
    rude.send(EPOCH_ONE_RTT, stream_frame(PEER_BIDI[victim_is_client], 1 << 60, b"x"))
    refused(rude, FLOW_CONTROL_ERROR)


@BOTH
@pytest.mark.parametrize("stream_id", [PEER_BIDI, PEER_UNI])
def test_02_stream_beyond_the_limit(victim_is_client: bool, stream_id: tuple[int, int]) -> None:
    rude = confirmed(victim_is_client)
    rude.send(EPOCH_ONE_RTT, stream_frame(stream_id[victim_is_client] + 4 * 128, 0, b"x"))
    refused(rude, STREAM_LIMIT_ERROR)


@BOTH
def test_02_the_last_stream_within_the_limit_is_allowed(victim_is_client: bool) -> None:
    rude = confirmed(victim_is_client)
    rude.send(EPOCH_ONE_RTT, stream_frame(PEER_BIDI[victim_is_client] + 4 * 127, 0, b"x"))
    assert rude.close_code() is None


# --- 3 to 10: transport parameters -----------------------------------------------------------------------------------

INITIAL_SOURCE_CONNECTION_ID = 0x0F


def set_parameter(identifier: int, value: bytes) -> Callable[[dict[int, bytes]], None]:
    def change(parameters: dict[int, bytes]) -> None:
        parameters[identifier] = value

    return change


def drop_parameter(identifier: int) -> Callable[[dict[int, bytes]], None]:
    def change(parameters: dict[int, bytes]) -> None:
        del parameters[identifier]

    return change


BAD_FROM_ANYBODY = {
    "03 no initial_source_connection_id": drop_parameter(INITIAL_SOURCE_CONNECTION_ID),
    "03 another initial_source_connection_id": set_parameter(INITIAL_SOURCE_CONNECTION_ID, b"12345678"),
    "08 max_udp_payload_size of 1199": set_parameter(0x03, varint(1199)),
    "09 ack_delay_exponent of 21": set_parameter(0x0A, varint(21)),
    "10 max_ack_delay of 2^14": set_parameter(0x0B, varint(1 << 14)),
    "active_connection_id_limit of 1": set_parameter(0x0E, varint(1)),
    "initial_max_streams_bidi above 2^60": set_parameter(0x08, varint((1 << 60) + 1)),
    "connection ID of 21 bytes": set_parameter(INITIAL_SOURCE_CONNECTION_ID, bytes(21)),
    "disable_active_migration with a value": set_parameter(0x0C, b"\x00"),
    "integer with bytes left over": set_parameter(0x04, b"\x00\x00"),
    "version_information not of whole versions": set_parameter(0x11, b"\x00\x00\x00\x01\x00"),
}
BAD_FROM_CLIENT = {
    "04 original_destination_connection_id": set_parameter(0x00, b"12345678"),
    "05 preferred_address": set_parameter(0x0D, PREFERRED_ADDRESS),
    "06 retry_source_connection_id": set_parameter(0x10, b"12345678"),
    "07 stateless_reset_token": set_parameter(0x02, RESET_TOKEN),
}
BAD_FROM_SERVER = {
    "no original_destination_connection_id": drop_parameter(0x00),
    "another original_destination_connection_id": set_parameter(0x00, b"12345678"),
    "retry_source_connection_id without Retry": set_parameter(0x10, b"12345678"),
    "stateless_reset_token of 15 bytes": set_parameter(0x02, bytes(15)),
    "preferred_address cut short": set_parameter(0x0D, PREFERRED_ADDRESS[:-1]),
    "preferred_address without connection ID": set_parameter(0x0D, bytes(24) + b"\x00" + RESET_TOKEN),
}


def hello_from_rude_client(rude: RudePeer) -> None:
    """Send what the carrier has to say first."""
    rude.to_initial()
    for data, _ in rude.carrier.datagrams_to_send(rude.now):
        rude.deliver(data)


def flight_of_rude_server(rude: RudePeer) -> None:
    """Send the server's ServerHello, and all the rest of its flight as far as the victim bears it."""
    rude.to_handshake()
    data = rude.crypto(HANDSHAKE)
    for start in range(0, len(data), 1000):
        rude.send(EPOCH_HANDSHAKE, crypto_frame(start, data[start : start + 1000]))


@pytest.mark.parametrize("name", [*BAD_FROM_ANYBODY, *BAD_FROM_CLIENT])
def test_03_to_10_transport_parameters_of_a_client(name: str) -> None:
    change = (BAD_FROM_ANYBODY | BAD_FROM_CLIENT)[name]
    rude = RudePeer(victim_is_client=False, alter=alter_parameters(change))
    hello_from_rude_client(rude)
    refused(rude, TRANSPORT_PARAMETER_ERROR)


@pytest.mark.parametrize("name", [*BAD_FROM_ANYBODY, *BAD_FROM_SERVER])
def test_03_to_10_transport_parameters_of_a_server(name: str) -> None:
    change = (BAD_FROM_ANYBODY | BAD_FROM_SERVER)[name]
    rude = RudePeer(victim_is_client=True, alter=alter_parameters(change))
    flight_of_rude_server(rude)
    refused(rude, TRANSPORT_PARAMETER_ERROR)


@BOTH
def test_transport_parameter_twice(victim_is_client: bool) -> None:
    def alter(items: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
        return [(kind, data + data if kind == 0x39 else data) for kind, data in items]

    rude = RudePeer(victim_is_client=victim_is_client, alter=alter)
    (flight_of_rude_server if victim_is_client else hello_from_rude_client)(rude)
    refused(rude, TRANSPORT_PARAMETER_ERROR)


def test_unknown_transport_parameters_are_ignored() -> None:
    rude = RudePeer(victim_is_client=False, alter=alter_parameters(set_parameter(31 * 100 + 27, b"grease")))
    rude.to_confirmed()


# --- 11 to 15: frames that are malformed -----------------------------------------------------------------------------

MALFORMED = {
    "11 unknown frame type of one byte": b"\x3f",
    "11 unknown frame type of two bytes": varint(0x1F, 2),
    "11 unknown frame type of eight bytes": b"\xff" * 8,
    "12 MAX_STREAMS (bidirectional) above 2^60": b"\x12" + varint((1 << 60) + 1),
    "12 MAX_STREAMS (unidirectional) above 2^60": b"\x13" + varint((1 << 60) + 1),
    "13 STREAMS_BLOCKED (bidirectional) above 2^60": b"\x16" + varint((1 << 60) + 1),
    "13 STREAMS_BLOCKED (unidirectional) above 2^60": b"\x17" + varint((1 << 60) + 1),
    "14 NEW_CONNECTION_ID that retires above itself": b"\x18\x0a\x0b\x08" + bytes(8) + RESET_TOKEN,
    "15 NEW_CONNECTION_ID of no bytes": b"\x18\x0a\x00\x00" + RESET_TOKEN,
    "15 NEW_CONNECTION_ID of 21 bytes": b"\x18\x0a\x00\x15" + bytes(21) + RESET_TOKEN,
    "STREAM cut short": b"\x0a\x00\x08abc",
    "STREAM beyond 2^62": b"\x0e\x00" + varint((1 << 62) - 1) + b"\x01a",
    "CRYPTO beyond 2^62": b"\x06" + varint((1 << 62) - 1) + b"\x01a",
    "ACK below packet number 0": b"\x02\x05\x00\x00\x06",
    "ACK with more ranges than bytes": b"\x02\x05\x00" + varint(1 << 40) + b"\x00",
    "NEW_TOKEN of no bytes": b"\x07\x00",
    "PATH_CHALLENGE cut short": b"\x1a1234567",
    "CONNECTION_CLOSE cut short": b"\x1c\x00\x00\x40\xff",
}


@BOTH
@pytest.mark.parametrize("name", MALFORMED)
def test_11_to_15_malformed_frame(victim_is_client: bool, name: str) -> None:
    rude = confirmed(victim_is_client)
    rude.send(EPOCH_ONE_RTT, MALFORMED[name])
    refused(rude, FRAME_ENCODING_ERROR)


# --- 16 to 22: what may not stand where it stands --------------------------------------------------------------------


@BOTH
def test_16_packet_without_frames(victim_is_client: bool) -> None:
    rude = confirmed(victim_is_client)
    rude.send(EPOCH_ONE_RTT, b"")
    refused(rude, PROTOCOL_VIOLATION)


@BOTH
def test_16_handshake_packet_without_frames(victim_is_client: bool) -> None:
    rude = RudePeer(victim_is_client=victim_is_client).to_handshake()
    rude.send(EPOCH_HANDSHAKE, b"")
    refused(rude, PROTOCOL_VIOLATION)


@BOTH
@pytest.mark.parametrize("reserved", [0x04, 0x08, 0x0C])
def test_17_reserved_bits_of_a_handshake_packet(victim_is_client: bool, reserved: int) -> None:
    rude = RudePeer(victim_is_client=victim_is_client).to_handshake()
    rude.send(EPOCH_HANDSHAKE, b"\x01", reserved=reserved)
    refused(rude, PROTOCOL_VIOLATION)


@BOTH
@pytest.mark.parametrize("reserved", [0x08, 0x10, 0x18])
def test_18_reserved_bits_of_a_short_header(victim_is_client: bool, reserved: int) -> None:
    rude = confirmed(victim_is_client)
    rude.send(EPOCH_ONE_RTT, b"\x01", reserved=reserved)
    refused(rude, PROTOCOL_VIOLATION)


@BOTH
def test_19_path_challenge_in_a_handshake_packet(victim_is_client: bool) -> None:
    rude = RudePeer(victim_is_client=victim_is_client).to_handshake()
    rude.send(EPOCH_HANDSHAKE, b"\x1a12345678")
    refused(rude, PROTOCOL_VIOLATION)


def test_20_new_token_to_a_server() -> None:
    rude = confirmed(False)
    rude.send(EPOCH_ONE_RTT, b"\x07\x05token")
    refused(rude, PROTOCOL_VIOLATION)


def test_21_handshake_done_to_a_server() -> None:
    rude = confirmed(False)
    rude.send(EPOCH_ONE_RTT, b"\x1e")
    refused(rude, PROTOCOL_VIOLATION)


def test_20_and_21_are_allowed_to_a_client() -> None:
    rude = confirmed(True)
    rude.send(EPOCH_ONE_RTT, b"\x07\x05token\x1e\x1e")
    assert rude.close_code() is None


def test_22_crypto_in_a_zero_rtt_packet() -> None:
    rude = RudePeer(victim_is_client=False).to_handshake().allow_zero_rtt()
    rude.send(EPOCH_ZERO_RTT, crypto_frame(0, b"x"))
    refused(rude, PROTOCOL_VIOLATION)


# --- 23 to 28: states of streams -------------------------------------------------------------------------------------

WRONG_STATE = {
    "23 RESET_STREAM on a send-only stream": lambda client: b"\x04" + varint(OWN_UNI[client]) + b"\x00\x00",
    "24 STOP_SENDING on a stream that does not exist": lambda client: b"\x05" + varint(OWN_BIDI[client]) + b"\x00",
    "24 STOP_SENDING on a receive-only stream": lambda client: b"\x05" + varint(PEER_UNI[client]) + b"\x00",
    "25 STREAM on a local stream not created": lambda client: stream_frame(OWN_BIDI[client], 0, b"x"),
    "26 STREAM on a send-only stream": lambda client: stream_frame(OWN_UNI[client], 0, b"x"),
    "27 MAX_STREAM_DATA on a stream not created": lambda client: b"\x11" + varint(OWN_BIDI[client]) + b"\x01",
    "28 MAX_STREAM_DATA on a receive-only stream": lambda client: b"\x11" + varint(PEER_UNI[client]) + b"\x01",
    "STREAM_DATA_BLOCKED on a send-only stream": lambda client: b"\x15" + varint(OWN_UNI[client]) + b"\x01",
    "RESET_STREAM on a local stream not created": lambda client: b"\x04" + varint(OWN_BIDI[client]) + b"\x00\x00",
}


@BOTH
@pytest.mark.parametrize("name", WRONG_STATE)
def test_23_to_28_state_of_streams(victim_is_client: bool, name: str) -> None:
    rude = confirmed(victim_is_client)
    rude.send(EPOCH_ONE_RTT, WRONG_STATE[name](victim_is_client))
    refused(rude, STREAM_STATE_ERROR)


# --- 29 to 34: TLS ---------------------------------------------------------------------------------------------------

KEY_UPDATE = b"\x18\x00\x00\x01\x00"
END_OF_EARLY_DATA = b"\x05\x00\x00\x00"


@BOTH
@pytest.mark.parametrize("message", [KEY_UPDATE, END_OF_EARLY_DATA], ids=["29 KeyUpdate", "31 EndOfEarlyData"])
def test_29_and_31_message_in_a_handshake_packet(victim_is_client: bool, message: bytes) -> None:
    rude = RudePeer(victim_is_client=victim_is_client).to_handshake()
    rude.send(EPOCH_HANDSHAKE, crypto_frame(0, message))
    refused(rude, UNEXPECTED_MESSAGE)


@BOTH
@pytest.mark.parametrize("message", [KEY_UPDATE, END_OF_EARLY_DATA], ids=["30 KeyUpdate", "EndOfEarlyData"])
def test_30_message_in_a_one_rtt_packet(victim_is_client: bool, message: bytes) -> None:
    rude = confirmed(victim_is_client)
    rude.send(EPOCH_ONE_RTT, crypto_frame(0, message))
    refused(rude, UNEXPECTED_MESSAGE)


@pytest.mark.parametrize("protocols", [["unheard-of"], None], ids=["another", "none"])
def test_32_no_application_protocol_to_a_server(protocols: list[str] | None) -> None:
    rude = RudePeer(victim_is_client=False, carrier={"alpn_protocols": protocols})
    hello_from_rude_client(rude)
    refused(rude, NO_APPLICATION_PROTOCOL)


def test_32_no_application_protocol_to_a_client() -> None:
    rude = RudePeer(victim_is_client=True, alter=without_extension(16))
    flight_of_rude_server(rude)
    refused(rude, NO_APPLICATION_PROTOCOL)


@pytest.mark.parametrize(
    "extension", [0x39, 10, 13, 51], ids=["33 transport parameters", "34 groups", "34 signatures", "34 shares"]
)
def test_33_and_34_missing_extension_of_a_client(extension: int) -> None:
    rude = RudePeer(victim_is_client=False, alter=without_extension(extension))
    hello_from_rude_client(rude)
    refused(rude, MISSING_EXTENSION)


def test_33_missing_transport_parameters_of_a_server() -> None:
    rude = RudePeer(victim_is_client=True, alter=without_extension(0x39))
    flight_of_rude_server(rude)
    refused(rude, MISSING_EXTENSION)


def test_extension_that_the_client_did_not_ask_for() -> None:
    rude = RudePeer(victim_is_client=True, alter=lambda items: [*items, (0x7777, b"")])
    flight_of_rude_server(rude)
    refused(rude, UNSUPPORTED_EXTENSION)


def test_middlebox_compatibility_mode_is_refused() -> None:
    """RFC 9001 §8.4: a ClientHello with a legacy_session_id is a PROTOCOL_VIOLATION."""
    rude = RudePeer(victim_is_client=False, session_id=bytes(32))
    hello_from_rude_client(rude)
    refused(rude, PROTOCOL_VIOLATION)


def test_second_client_hello_after_the_first() -> None:
    rude = RudePeer(victim_is_client=False).to_initial()
    hello = rude.crypto(INITIAL)
    rude.send(EPOCH_INITIAL, crypto_frame(0, hello), crypto_frame(len(hello), hello))
    refused(rude, UNEXPECTED_MESSAGE)


# --- every frame in every packet -------------------------------------------------------------------------------------


def any_stream_frame(kind: int, client: bool) -> bytes:
    """A STREAM frame with the fields that its type says."""
    offset = b"\x00" if kind & 4 else b""
    length = b"\x01" if kind & 2 else b""
    return bytes((kind,)) + varint(PEER_BIDI[client]) + offset + length + b"x"


ENCODED: dict[int, Callable[[bool], bytes]] = {
    0x00: lambda client: b"\x00",
    0x01: lambda client: b"\x01",
    0x02: lambda client: b"\x02\x00\x00\x00\x00",
    0x03: lambda client: b"\x03\x00\x00\x00\x00\x00\x00\x00",
    0x04: lambda client: b"\x04" + varint(PEER_BIDI[client]) + b"\x00\x00",
    0x05: lambda client: b"\x05" + varint(PEER_BIDI[client]) + b"\x00",
    0x06: lambda client: crypto_frame(60000, b"x"),
    0x07: lambda client: b"\x07\x01t",
    **{kind: partial(any_stream_frame, kind) for kind in range(0x08, 0x10)},
    0x10: lambda client: b"\x10\x00",
    0x11: lambda client: b"\x11" + varint(PEER_BIDI[client]) + b"\x00",
    0x12: lambda client: b"\x12\x00",
    0x13: lambda client: b"\x13\x00",
    0x14: lambda client: b"\x14\x00",
    0x15: lambda client: b"\x15" + varint(PEER_BIDI[client]) + b"\x00",
    0x16: lambda client: b"\x16\x00",
    0x17: lambda client: b"\x17\x00",
    0x18: lambda client: b"\x18\x0a\x0a\x08ABCDEFGH" + RESET_TOKEN,
    0x19: lambda client: b"\x19\x01",
    0x1A: lambda client: b"\x1a12345678",
    0x1B: lambda client: b"\x1b12345678",
    0x1C: lambda client: b"\x1c\x00\x00\x00",
    0x1D: lambda client: b"\x1d\x00\x00",
    0x1E: lambda client: b"\x1e",
    0x30: lambda client: b"\x30x",
    0x31: lambda client: b"\x31\x01x",
}
WITHOUT_LENGTH = {0x08, 0x09, 0x0C, 0x0D, 0x30}  # they take the rest of the packet: no PADDING behind them
# Allowed by the type of packet, refused for the role of its sender.
REFUSED_BY_SERVERS = {0x07, 0x1E}
PACKETS = {
    "Initial": (EPOCH_INITIAL, IN_INITIAL),
    "0-RTT": (EPOCH_ZERO_RTT, IN_ZERO_RTT),
    "Handshake": (EPOCH_HANDSHAKE, IN_HANDSHAKE),
    "1-RTT": (EPOCH_ONE_RTT, IN_ONE_RTT),
}
# The table of RFC 9000 §12.4 (and RFC 9221 §4), written here once more.
RFC_TABLE = {
    "Initial": {0x00, 0x01, 0x02, 0x03, 0x06, 0x1C},
    "Handshake": {0x00, 0x01, 0x02, 0x03, 0x06, 0x1C},
    "0-RTT": set(ENCODED) - {0x02, 0x03, 0x06, 0x07, 0x1B, 0x1E},
    "1-RTT": set(ENCODED),
}


@pytest.mark.parametrize("packet", PACKETS)
def test_table_of_frames_is_that_of_the_rfc(packet: str) -> None:
    _, bit = PACKETS[packet]
    assert {kind for kind in range(FRAME_TYPES) if ALLOWED[kind] & bit} == RFC_TABLE[packet]


@BOTH
@pytest.mark.parametrize("packet", PACKETS)
@pytest.mark.parametrize("kind", ENCODED, ids=hex)
def test_every_frame_in_every_packet(victim_is_client: bool, packet: str, kind: int) -> None:
    """Row 15: a frame where it may not stand is a PROTOCOL_VIOLATION; where it may, the connection lives (or was closed)."""
    epoch, _ = PACKETS[packet]
    rude = RudePeer(victim_is_client=victim_is_client)
    if epoch == EPOCH_ZERO_RTT:
        rude.to_handshake().allow_zero_rtt()
    elif epoch == EPOCH_INITIAL:
        rude.to_initial()
    elif epoch == EPOCH_HANDSHAKE:
        rude.to_handshake()
    else:
        rude.to_confirmed()
    if kind in (0x02, 0x03):
        rude.send(epoch, b"\x01")  # so that packet number 0 is there to be acknowledged
    rude.forget()
    frame = ENCODED[kind](victim_is_client)
    rude.send(epoch, frame + b"x" * 1160 if kind in WITHOUT_LENGTH else frame, pad=kind not in WITHOUT_LENGTH)
    is_allowed = kind in RFC_TABLE[packet] and not (kind in REFUSED_BY_SERVERS and not victim_is_client)
    if kind == 0x19 and packet == "0-RTT":
        is_allowed = False  # RFC 9000 §12.5: so early there is no connection ID that it could retire
    if not is_allowed:
        refused(rude, PROTOCOL_VIOLATION)
    elif kind in (0x1C, 0x1D):
        reason = rude.victim.close_reason
        assert reason is not None
        assert reason.by_peer
    else:
        assert rude.victim.close_reason is None
