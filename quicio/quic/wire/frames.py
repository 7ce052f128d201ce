"""Every frame of RFC 9000 §19 and RFC 9221 §4: encoding, decoding, and the facts of RFC 9000 table 3.

Encoders return `bytes`, the frame type included. STREAM, CRYPTO and DATAGRAM come as a header, because their data is
appended as a piece of its own and never copied into the header. Decoders take the packet's payload and the position
behind the frame type; they return a tuple whose last item is the position behind the frame. Data stays in the payload:
decoders give its start and end, the caller slices once.

Rules:
- Malformed bytes raise `QuicConnectionError(FRAME_ENCODING_ERROR, frame type, …)` and nothing else. The checks of
  RFC 9000 §19 that need no connection state are made here, and only here: offsets past 2^62-1, stream counts past 2^60,
  connection ID lengths, Retire Prior To above Sequence Number, negative packet numbers, empty tokens.
- Work is linear in the bytes of the frame, and nothing is allocated on the word of a length field alone.
- STREAM and ACK, which make up nearly all traffic, read 1- and 2-byte integers inline; a read past the end shows as
  IndexError and is turned into the one error where the frame's decoder ends.

What a frame means, and whether it may come now, is the business of `Inbound` and the components; which packet types may
carry it is the table `ALLOWED`.
"""

from struct import Struct
from typing import Final

from quicio.buffer import BufferReadError, encode_uint_var, read_uint_var
from quicio.quic.wire.constants import (
    ACK,
    ACK_ECN,
    APPLICATION_CLOSE,
    CONNECTION_ID_MAX_SIZE,
    CRYPTO,
    DATA_BLOCKED,
    DATAGRAM,
    DATAGRAM_WITH_LENGTH,
    FRAME_ENCODING_ERROR,
    HANDSHAKE_DONE,
    MAX_DATA,
    MAX_STREAM_DATA,
    NEW_CONNECTION_ID,
    NEW_TOKEN,
    PADDING,
    PATH_CHALLENGE,
    PATH_RESPONSE,
    PING,
    RESET_STREAM,
    RETIRE_CONNECTION_ID,
    STATELESS_RESET_TOKEN_SIZE,
    STOP_SENDING,
    STREAM,
    STREAM_COUNT_MAX,
    STREAM_DATA_BLOCKED,
    TRANSPORT_CLOSE,
    UINT_VAR_MAX,
    QuicConnectionError,
)
from quicio.quic.wire.rangeset import RangeSet

PING_FRAME: Final = b"\x01"
HANDSHAKE_DONE_FRAME: Final = b"\x1e"
MAX_ACK_RANGES: Final = 32  # ranges in one ACK frame; older ones were offered before (RFC 9000 §13.2.3)
PATH_DATA_SIZE: Final = 8  # RFC 9000 §19.17

# Which packet types may carry a frame type (RFC 9000 table 3), as bits.
IN_INITIAL: Final = 1
IN_ZERO_RTT: Final = 2
IN_HANDSHAKE: Final = 4
IN_ONE_RTT: Final = 8
FRAME_TYPES: Final = 64  # the fact tables cover every one-byte frame type


def _table(facts: list[tuple[int, int]]) -> bytes:
    table = bytearray(FRAME_TYPES)
    for frame_type, fact in facts:
        table[frame_type] = fact
    return bytes(table)


_EVERYWHERE: Final = IN_INITIAL | IN_ZERO_RTT | IN_HANDSHAKE | IN_ONE_RTT
_HANDSHAKING: Final = IN_INITIAL | IN_HANDSHAKE | IN_ONE_RTT
_APPLICATION: Final = IN_ZERO_RTT | IN_ONE_RTT

# A zero in ALLOWED means that the frame type is unknown.
ALLOWED: Final = _table(
    [(PADDING, _EVERYWHERE), (PING, _EVERYWHERE), (ACK, _HANDSHAKING), (ACK_ECN, _HANDSHAKING)]
    + [(RESET_STREAM, _APPLICATION), (STOP_SENDING, _APPLICATION), (CRYPTO, _HANDSHAKING), (NEW_TOKEN, IN_ONE_RTT)]
    + [(frame_type, _APPLICATION) for frame_type in range(STREAM, PATH_RESPONSE)]
    + [(PATH_RESPONSE, IN_ONE_RTT)]
    + [(TRANSPORT_CLOSE, _EVERYWHERE), (APPLICATION_CLOSE, _APPLICATION), (HANDSHAKE_DONE, IN_ONE_RTT)]
    + [(DATAGRAM, _APPLICATION), (DATAGRAM_WITH_LENGTH, _APPLICATION)]
)

# 1 for a frame that makes its packet ACK-eliciting (RFC 9002 §2).
ACK_ELICITING: Final = _table(
    [
        (frame_type, 1)
        for frame_type in range(FRAME_TYPES)
        if ALLOWED[frame_type] and frame_type not in (PADDING, ACK, ACK_ECN, TRANSPORT_CLOSE, APPLICATION_CLOSE)
    ]
)

# 1 for a probing frame (RFC 9000 §9.1).
PROBING: Final = _table([(PADDING, 1), (NEW_CONNECTION_ID, 1), (PATH_CHALLENGE, 1), (PATH_RESPONSE, 1)])

# STREAM headers of bulk data: one byte of stream ID, four of offset, with and without two of length.
_pack_bulk_stream = Struct(">BBI").pack
_pack_bulk_stream_with_length = Struct(">BBIH").pack


# --- encoding -----------------------------------------------------------------------------------------------------


def encode_ack(ranges: RangeSet, delay_encoded: int, ecn_counts: tuple[int, int, int] | None, room: int) -> bytes:
    """An ACK frame (RFC 9000 §19.3) of the newest ranges: as many as fit `room` bytes and at most `MAX_ACK_RANGES`.

    `delay_encoded` is the ACK Delay already divided by 2^ack_delay_exponent. Returns b"" when not even the newest range
    fits, or when there is nothing to acknowledge.
    """
    stops = ranges.stops
    count = len(stops)
    if count == 0:
        return b""
    starts = ranges.starts
    start = starts[count - 1]
    largest = stops[count - 1] - 1
    if count == 1 and ecn_counts is None:
        # Nearly every ACK of a connection without loss: no counts, no further ranges.
        frame = (
            b"\x02"
            + encode_uint_var(largest)
            + encode_uint_var(delay_encoded)
            + b"\x00"
            + encode_uint_var(largest - start)
        )
        return frame if len(frame) <= room else b""
    if ecn_counts is None:
        frame_type = b"\x02"
        tail = b""
    else:
        frame_type = b"\x03"
        tail = encode_uint_var(ecn_counts[0]) + encode_uint_var(ecn_counts[1]) + encode_uint_var(ecn_counts[2])
    head = frame_type + encode_uint_var(largest) + encode_uint_var(delay_encoded)
    pieces = [encode_uint_var(largest - start)]
    # MAX_ACK_RANGES keeps ACK Range Count in one byte.
    room -= len(head) + 1 + len(pieces[0]) + len(tail)
    if room < 0:
        return b""
    index = count - 2
    oldest = max(count - MAX_ACK_RANGES, 0)
    while index >= oldest:
        stop = stops[index]
        gap = start - stop - 1
        start = starts[index]
        length = stop - start - 1
        if gap < 0x40 and length < 0x40:
            piece = bytes((gap, length))
        else:
            piece = encode_uint_var(gap) + encode_uint_var(length)
        room -= len(piece)
        if room < 0:
            break
        pieces.append(piece)
        index -= 1
    return head + bytes((len(pieces) - 1,)) + b"".join(pieces) + tail


def encode_reset_stream(stream_id: int, error_code: int, final_size: int) -> bytes:
    """RESET_STREAM (RFC 9000 §19.4)."""
    return b"\x04" + encode_uint_var(stream_id) + encode_uint_var(error_code) + encode_uint_var(final_size)


def encode_stop_sending(stream_id: int, error_code: int) -> bytes:
    """STOP_SENDING (RFC 9000 §19.5)."""
    return b"\x05" + encode_uint_var(stream_id) + encode_uint_var(error_code)


def encode_crypto_header(offset: int, length: int) -> bytes:
    """CRYPTO up to its data (RFC 9000 §19.6)."""
    return b"\x06" + encode_uint_var(offset) + encode_uint_var(length)


def encode_new_token(token: bytes) -> bytes:
    """NEW_TOKEN (RFC 9000 §19.7); ValueError for an empty token."""
    if not token:
        raise ValueError("A NEW_TOKEN frame needs a token that is not empty")
    return b"\x07" + encode_uint_var(len(token)) + token


def encode_stream_header(stream_id: int, offset: int, length: int, fin: bool, with_length: bool) -> bytes:
    """STREAM up to its data (RFC 9000 §19.8); without a length the data must end the packet."""
    frame_type = 0x08 | with_length << 1 | fin
    if 0x4000 <= offset < 0x40000000 and 0 <= stream_id < 0x40:
        # Nearly every STREAM frame of a large transfer has one of these two shapes.
        if not with_length:
            return _pack_bulk_stream(frame_type | 0x04, stream_id, offset | 0x80000000)
        if 0x40 <= length < 0x4000:
            return _pack_bulk_stream_with_length(frame_type | 0x04, stream_id, offset | 0x80000000, length | 0x4000)
    if offset:
        header = bytes((frame_type | 0x04,)) + encode_uint_var(stream_id) + encode_uint_var(offset)
    else:
        header = bytes((frame_type,)) + encode_uint_var(stream_id)
    if with_length:
        header += encode_uint_var(length)
    return header


def encode_max_data(maximum: int) -> bytes:
    """MAX_DATA (RFC 9000 §19.9)."""
    return b"\x10" + encode_uint_var(maximum)


def encode_max_stream_data(stream_id: int, maximum: int) -> bytes:
    """MAX_STREAM_DATA (RFC 9000 §19.10)."""
    return b"\x11" + encode_uint_var(stream_id) + encode_uint_var(maximum)


def encode_max_streams(maximum: int, is_unidirectional: bool) -> bytes:
    """MAX_STREAMS (RFC 9000 §19.11)."""
    return (b"\x13" if is_unidirectional else b"\x12") + encode_uint_var(maximum)


def encode_data_blocked(limit: int) -> bytes:
    """DATA_BLOCKED (RFC 9000 §19.12)."""
    return b"\x14" + encode_uint_var(limit)


def encode_stream_data_blocked(stream_id: int, limit: int) -> bytes:
    """STREAM_DATA_BLOCKED (RFC 9000 §19.13)."""
    return b"\x15" + encode_uint_var(stream_id) + encode_uint_var(limit)


def encode_streams_blocked(limit: int, is_unidirectional: bool) -> bytes:
    """STREAMS_BLOCKED (RFC 9000 §19.14)."""
    return (b"\x17" if is_unidirectional else b"\x16") + encode_uint_var(limit)


def encode_new_connection_id(sequence: int, retire_prior_to: int, cid: bytes, token: bytes) -> bytes:
    """NEW_CONNECTION_ID (RFC 9000 §19.15); ValueError when the ID or its stateless reset token has a wrong size."""
    if not 1 <= len(cid) <= CONNECTION_ID_MAX_SIZE:
        raise ValueError(f"A connection ID in NEW_CONNECTION_ID takes 1 to 20 bytes, got {len(cid)}")
    if len(token) != STATELESS_RESET_TOKEN_SIZE:
        raise ValueError(f"A stateless reset token takes 16 bytes, got {len(token)}")
    return b"\x18" + encode_uint_var(sequence) + encode_uint_var(retire_prior_to) + bytes((len(cid),)) + cid + token


def encode_retire_connection_id(sequence: int) -> bytes:
    """RETIRE_CONNECTION_ID (RFC 9000 §19.16)."""
    return b"\x19" + encode_uint_var(sequence)


def encode_path_challenge(data: bytes) -> bytes:
    """PATH_CHALLENGE (RFC 9000 §19.17); ValueError unless `data` has 8 bytes."""
    if len(data) != PATH_DATA_SIZE:
        raise ValueError(f"PATH_CHALLENGE carries 8 bytes, got {len(data)}")
    return b"\x1a" + data


def encode_path_response(data: bytes) -> bytes:
    """PATH_RESPONSE (RFC 9000 §19.18); ValueError unless `data` has 8 bytes."""
    if len(data) != PATH_DATA_SIZE:
        raise ValueError(f"PATH_RESPONSE carries 8 bytes, got {len(data)}")
    return b"\x1b" + data


def encode_transport_close(code: int, frame_type: int, reason: bytes) -> bytes:
    """CONNECTION_CLOSE of type 0x1c (RFC 9000 §19.19); `frame_type` 0 when no frame is to blame."""
    return b"\x1c" + encode_uint_var(code) + encode_uint_var(frame_type) + encode_uint_var(len(reason)) + reason


def encode_application_close(code: int, reason: bytes) -> bytes:
    """CONNECTION_CLOSE of type 0x1d (RFC 9000 §19.19)."""
    return b"\x1d" + encode_uint_var(code) + encode_uint_var(len(reason)) + reason


def encode_datagram_header(length: int, with_length: bool) -> bytes:
    """DATAGRAM up to its data (RFC 9221 §4); without a length the data must end the packet."""
    return b"\x31" + encode_uint_var(length) if with_length else b"\x30"


# --- decoding -----------------------------------------------------------------------------------------------------


def _truncated(frame_type: int) -> QuicConnectionError:
    return QuicConnectionError(FRAME_ENCODING_ERROR, frame_type, "Frame is truncated")


def _read(data: bytes, position: int, frame_type: int) -> tuple[int, int]:
    try:
        return read_uint_var(data, position)
    except BufferReadError:
        raise _truncated(frame_type) from None


def decode_ack(data: bytes, position: int, frame_type: int) -> tuple[list[int], int, tuple[int, int, int] | None, int]:
    """ACK: (ranges, encoded delay, ECN counts or None, position).

    `ranges` is flat, [start, stop, start, stop, …], newest first and half-open. Each range takes two bytes or more of
    the packet, so the packet's size bounds the list (RFC 9000 §19.3).
    """
    try:
        largest, position = read_uint_var(data, position)
        delay, position = read_uint_var(data, position)
        count = data[position]
        if count < 0x40:
            position += 1
        else:
            count, position = read_uint_var(data, position)
        length, position = read_uint_var(data, position)
        if 2 * count > len(data) - position:
            raise _truncated(frame_type)
        smallest = largest - length
        ranges = [smallest, largest + 1]
        while count:
            gap = data[position]
            if gap < 0x40:
                position += 1
            else:
                gap, position = read_uint_var(data, position)
            length = data[position]
            if length < 0x40:
                position += 1
            else:
                length, position = read_uint_var(data, position)
            largest = smallest - gap - 2
            smallest = largest - length
            ranges.append(smallest)
            ranges.append(largest + 1)
            count -= 1
        ecn: tuple[int, int, int] | None = None
        if frame_type == ACK_ECN:
            ect_0, position = read_uint_var(data, position)
            ect_1, position = read_uint_var(data, position)
            ce, position = read_uint_var(data, position)
            ecn = (ect_0, ect_1, ce)
    except (IndexError, BufferReadError):
        raise _truncated(frame_type) from None
    # Numbers only fall, so the last one is negative if any is.
    if smallest < 0:
        raise QuicConnectionError(FRAME_ENCODING_ERROR, frame_type, "ACK range reaches below packet number 0")
    return ranges, delay, ecn, position


def decode_reset_stream(data: bytes, position: int) -> tuple[int, int, int, int]:
    """RESET_STREAM: (stream ID, error code, final size, position)."""
    stream_id, position = _read(data, position, RESET_STREAM)
    error_code, position = _read(data, position, RESET_STREAM)
    final_size, position = _read(data, position, RESET_STREAM)
    return stream_id, error_code, final_size, position


def decode_stop_sending(data: bytes, position: int) -> tuple[int, int, int]:
    """STOP_SENDING: (stream ID, error code, position)."""
    stream_id, position = _read(data, position, STOP_SENDING)
    error_code, position = _read(data, position, STOP_SENDING)
    return stream_id, error_code, position


def decode_crypto(data: bytes, position: int) -> tuple[int, int, int, int]:
    """CRYPTO: (offset, start of its data, end of its data, position)."""
    offset, position = _read(data, position, CRYPTO)
    length, start = _read(data, position, CRYPTO)
    end = start + length
    if end > len(data):
        raise _truncated(CRYPTO)
    if offset + length > UINT_VAR_MAX:
        raise QuicConnectionError(FRAME_ENCODING_ERROR, CRYPTO, "offset + length exceeds 2^62 - 1")
    return offset, start, end, end


def decode_new_token(data: bytes, position: int) -> tuple[bytes, int]:
    """NEW_TOKEN: (token, position)."""
    length, start = _read(data, position, NEW_TOKEN)
    end = start + length
    if end > len(data):
        raise _truncated(NEW_TOKEN)
    if length == 0:
        raise QuicConnectionError(FRAME_ENCODING_ERROR, NEW_TOKEN, "Token is empty")
    return data[start:end], end


def decode_stream(data: bytes, position: int, frame_type: int) -> tuple[int, int, int, int, bool, int]:
    """STREAM: (stream ID, offset, start of its data, end of its data, fin, position)."""
    size = len(data)
    try:
        stream_id = data[position]
        if stream_id < 0x40:
            position += 1
        elif stream_id < 0x80:
            stream_id = (stream_id & 0x3F) << 8 | data[position + 1]
            position += 2
        else:
            stream_id, position = read_uint_var(data, position)
        offset = 0
        if frame_type & 0x04:
            offset = data[position]
            if offset < 0x40:
                position += 1
            elif offset < 0x80:
                offset = (offset & 0x3F) << 8 | data[position + 1]
                position += 2
            elif offset < 0xC0:
                # Four bytes: the offset of nearly every frame of a large transfer. The check of `end` covers their end.
                offset = int.from_bytes(data[position : position + 4], "big") & 0x3FFFFFFF
                position += 4
            else:
                offset, position = read_uint_var(data, position)
        if frame_type & 0x02:
            length = data[position]
            if length < 0x40:
                position += 1
            elif length < 0x80:
                length = (length & 0x3F) << 8 | data[position + 1]
                position += 2
            else:
                length, position = read_uint_var(data, position)
            end = position + length
        else:
            end = size
    except (IndexError, BufferReadError):
        raise _truncated(frame_type) from None
    if end > size or position > end:
        raise _truncated(frame_type)
    if offset + end - position > UINT_VAR_MAX:
        raise QuicConnectionError(FRAME_ENCODING_ERROR, frame_type, "offset + length exceeds 2^62 - 1")
    return stream_id, offset, position, end, frame_type & 0x01 == 1, end


def decode_max_data(data: bytes, position: int) -> tuple[int, int]:
    """MAX_DATA: (maximum, position)."""
    return _read(data, position, MAX_DATA)


def decode_max_stream_data(data: bytes, position: int) -> tuple[int, int, int]:
    """MAX_STREAM_DATA: (stream ID, maximum, position)."""
    stream_id, position = _read(data, position, MAX_STREAM_DATA)
    maximum, position = _read(data, position, MAX_STREAM_DATA)
    return stream_id, maximum, position


def decode_max_streams(data: bytes, position: int, frame_type: int) -> tuple[int, int]:
    """MAX_STREAMS of either type: (maximum, position). A count above 2^60 is malformed (RFC 9000 §19.11)."""
    return _read_stream_count(data, position, frame_type)


def decode_data_blocked(data: bytes, position: int) -> tuple[int, int]:
    """DATA_BLOCKED: (limit, position)."""
    return _read(data, position, DATA_BLOCKED)


def decode_stream_data_blocked(data: bytes, position: int) -> tuple[int, int, int]:
    """STREAM_DATA_BLOCKED: (stream ID, limit, position)."""
    stream_id, position = _read(data, position, STREAM_DATA_BLOCKED)
    limit, position = _read(data, position, STREAM_DATA_BLOCKED)
    return stream_id, limit, position


def decode_streams_blocked(data: bytes, position: int, frame_type: int) -> tuple[int, int]:
    """STREAMS_BLOCKED of either type: (limit, position). A count above 2^60 is malformed (RFC 9000 §19.14)."""
    return _read_stream_count(data, position, frame_type)


def _read_stream_count(data: bytes, position: int, frame_type: int) -> tuple[int, int]:
    count, position = _read(data, position, frame_type)
    if count > STREAM_COUNT_MAX:
        raise QuicConnectionError(FRAME_ENCODING_ERROR, frame_type, "Maximum Streams must not exceed 2^60")
    return count, position


def decode_new_connection_id(data: bytes, position: int) -> tuple[int, int, bytes, bytes, int]:
    """NEW_CONNECTION_ID: (sequence number, retire prior to, connection ID, stateless reset token, position)."""
    sequence, position = _read(data, position, NEW_CONNECTION_ID)
    retire_prior_to, position = _read(data, position, NEW_CONNECTION_ID)
    if position >= len(data):
        raise _truncated(NEW_CONNECTION_ID)
    length = data[position]
    start = position + 1
    if not 1 <= length <= CONNECTION_ID_MAX_SIZE:
        raise QuicConnectionError(FRAME_ENCODING_ERROR, NEW_CONNECTION_ID, "Length must be 1 to 20 bytes")
    if retire_prior_to > sequence:
        raise QuicConnectionError(FRAME_ENCODING_ERROR, NEW_CONNECTION_ID, "Retire Prior To exceeds Sequence Number")
    middle = start + length
    end = middle + STATELESS_RESET_TOKEN_SIZE
    if end > len(data):
        raise _truncated(NEW_CONNECTION_ID)
    return sequence, retire_prior_to, data[start:middle], data[middle:end], end


def decode_retire_connection_id(data: bytes, position: int) -> tuple[int, int]:
    """RETIRE_CONNECTION_ID: (sequence number, position)."""
    return _read(data, position, RETIRE_CONNECTION_ID)


def decode_path_challenge(data: bytes, position: int) -> tuple[bytes, int]:
    """PATH_CHALLENGE: (8 bytes of data, position)."""
    return _read_path_data(data, position, PATH_CHALLENGE)


def decode_path_response(data: bytes, position: int) -> tuple[bytes, int]:
    """PATH_RESPONSE: (8 bytes of data, position)."""
    return _read_path_data(data, position, PATH_RESPONSE)


def _read_path_data(data: bytes, position: int, frame_type: int) -> tuple[bytes, int]:
    end = position + PATH_DATA_SIZE
    if end > len(data):
        raise _truncated(frame_type)
    return data[position:end], end


def decode_transport_close(data: bytes, position: int) -> tuple[int, int, bytes, int]:
    """CONNECTION_CLOSE of type 0x1c: (error code, frame type, reason phrase, position)."""
    code, position = _read(data, position, TRANSPORT_CLOSE)
    frame_type, position = _read(data, position, TRANSPORT_CLOSE)
    reason, position = _read_reason(data, position, TRANSPORT_CLOSE)
    return code, frame_type, reason, position


def decode_application_close(data: bytes, position: int) -> tuple[int, bytes, int]:
    """CONNECTION_CLOSE of type 0x1d: (error code, reason phrase, position)."""
    code, position = _read(data, position, APPLICATION_CLOSE)
    reason, position = _read_reason(data, position, APPLICATION_CLOSE)
    return code, reason, position


def _read_reason(data: bytes, position: int, frame_type: int) -> tuple[bytes, int]:
    length, start = _read(data, position, frame_type)
    end = start + length
    if end > len(data):
        raise _truncated(frame_type)
    return data[start:end], end


def decode_datagram(data: bytes, position: int, frame_type: int) -> tuple[int, int, int]:
    """DATAGRAM (RFC 9221 §4): (start of its data, end of its data, position)."""
    if frame_type == DATAGRAM:
        end = len(data)
        return position, end, end
    length, start = _read(data, position, frame_type)
    end = start + length
    if end > len(data):
        raise _truncated(frame_type)
    return start, end, end
