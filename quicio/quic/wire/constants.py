"""Plain integers of RFC 9000, for code that runs once a packet or once a frame.

The enums that users import live in `quicio.quic.packet`; building an Enum member costs more than parsing a frame, so below
that surface every code point is one of these module-level ints. `QuicConnectionError` lives here because every room
raises it: it is the only exception by which a component ends the connection.
"""

from typing import Final

# Versions (RFC 9000 §15, RFC 9369 §3.1).
VERSION_NEGOTIATION: Final = 0
VERSION_1: Final = 0x00000001
VERSION_2: Final = 0x6B3343CF

# Packet number spaces (RFC 9000 §12.3) and their bits in `Component.pending`.
INITIAL: Final = 0
HANDSHAKE: Final = 1
APPLICATION: Final = 2
INITIAL_BIT: Final = 1
HANDSHAKE_BIT: Final = 2
APPLICATION_BIT: Final = 4

# Encryption levels (RFC 9001 §2.1), numbered as the TLS room numbers them.
EPOCH_INITIAL: Final = 0
EPOCH_ZERO_RTT: Final = 1
EPOCH_HANDSHAKE: Final = 2
EPOCH_ONE_RTT: Final = 3

# Classes of packet that `Outbound` builds.
FULL: Final = 0
ACK_ONLY: Final = 1
PROBE: Final = 2
PATH_ONLY: Final = 3
MTU_PROBE: Final = 4

# Sizes.
SMALLEST_MAX_DATAGRAM_SIZE: Final = 1200  # RFC 9000 §14
CONNECTION_ID_MAX_SIZE: Final = 20  # RFC 9000 §17.2
STATELESS_RESET_TOKEN_SIZE: Final = 16  # RFC 9000 §10.3
AEAD_TAG_SIZE: Final = 16
PACKET_NUMBER_MAX_SIZE: Final = 4
UINT_VAR_MAX: Final = 0x3FFFFFFFFFFFFFFF
STREAM_COUNT_MAX: Final = 1 << 60  # RFC 9000 §4.6

# Explicit Congestion Notification codepoints (RFC 3168).
ECN_NOT_ECT: Final = 0
ECN_ECT_1: Final = 1
ECN_ECT_0: Final = 2
ECN_CE: Final = 3

# Frame types (RFC 9000 §19, RFC 9221 §4).
PADDING: Final = 0x00
PING: Final = 0x01
ACK: Final = 0x02
ACK_ECN: Final = 0x03
RESET_STREAM: Final = 0x04
STOP_SENDING: Final = 0x05
CRYPTO: Final = 0x06
NEW_TOKEN: Final = 0x07
STREAM: Final = 0x08  # to 0x0f: OFF 0x04, LEN 0x02, FIN 0x01
MAX_DATA: Final = 0x10
MAX_STREAM_DATA: Final = 0x11
MAX_STREAMS_BIDI: Final = 0x12
MAX_STREAMS_UNI: Final = 0x13
DATA_BLOCKED: Final = 0x14
STREAM_DATA_BLOCKED: Final = 0x15
STREAMS_BLOCKED_BIDI: Final = 0x16
STREAMS_BLOCKED_UNI: Final = 0x17
NEW_CONNECTION_ID: Final = 0x18
RETIRE_CONNECTION_ID: Final = 0x19
PATH_CHALLENGE: Final = 0x1A
PATH_RESPONSE: Final = 0x1B
TRANSPORT_CLOSE: Final = 0x1C
APPLICATION_CLOSE: Final = 0x1D
HANDSHAKE_DONE: Final = 0x1E
DATAGRAM: Final = 0x30
DATAGRAM_WITH_LENGTH: Final = 0x31

# Transport error codes (RFC 9000 §20.1, RFC 9368 §10.2).
NO_ERROR: Final = 0x00
INTERNAL_ERROR: Final = 0x01
CONNECTION_REFUSED: Final = 0x02
FLOW_CONTROL_ERROR: Final = 0x03
STREAM_LIMIT_ERROR: Final = 0x04
STREAM_STATE_ERROR: Final = 0x05
FINAL_SIZE_ERROR: Final = 0x06
FRAME_ENCODING_ERROR: Final = 0x07
TRANSPORT_PARAMETER_ERROR: Final = 0x08
CONNECTION_ID_LIMIT_ERROR: Final = 0x09
PROTOCOL_VIOLATION: Final = 0x0A
INVALID_TOKEN: Final = 0x0B
APPLICATION_ERROR: Final = 0x0C
CRYPTO_BUFFER_EXCEEDED: Final = 0x0D
KEY_UPDATE_ERROR: Final = 0x0E
AEAD_LIMIT_REACHED: Final = 0x0F
NO_VIABLE_PATH: Final = 0x10
VERSION_NEGOTIATION_ERROR: Final = 0x11
CRYPTO_ERROR: Final = 0x100  # plus the TLS alert (RFC 9001 §4.8)


class QuicConnectionError(Exception):
    """A protocol violation, or another reason to end the connection with an error code.

    Below the faces this is the one exception that bytes from the network may cause; `QuicConnection` turns it into a
    CONNECTION_CLOSE at a single place (RFC 9000 §11.1).
    """

    def __init__(self, error_code: int, frame_type: int | None, reason_phrase: str) -> None:
        super().__init__(error_code, frame_type, reason_phrase)
        self.error_code = error_code
        self.frame_type = frame_type
        self.reason_phrase = reason_phrase

    def __str__(self) -> str:
        text = f"Error: {self.error_code}, reason: {self.reason_phrase}"
        if self.frame_type is not None:
            text += f", frame_type: {self.frame_type}"
        return text
