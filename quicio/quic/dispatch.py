"""From the frames of an opened packet to the components they are for (RFC 9000 §12.4).

The loop looks each frame type up in two `bytes` tables (may it stand in this kind of packet, does it elicit an ACK) and in
one list of functions; nothing is built for a frame. A frame that may not stand where it stands is a PROTOCOL_VIOLATION, an
unknown one a FRAME_ENCODING_ERROR; every decoder raises `QuicConnectionError` and nothing else.

Order matters to peers: frames are processed in the order they stand, and what they did before a bad one stays done.
"""

from collections.abc import Callable
from typing import Final

from quicio.buffer import BufferReadError, read_uint_var
from quicio.quic.events import CloseReason
from quicio.quic.lifecycle import CLOSING
from quicio.quic.parts import Parts
from quicio.quic.paths.path import Path
from quicio.quic.wire.constants import (
    ACK,
    ACK_ECN,
    APPLICATION,
    APPLICATION_CLOSE,
    CRYPTO,
    DATA_BLOCKED,
    DATAGRAM,
    DATAGRAM_WITH_LENGTH,
    FRAME_ENCODING_ERROR,
    HANDSHAKE_DONE,
    MAX_DATA,
    MAX_STREAM_DATA,
    MAX_STREAMS_BIDI,
    MAX_STREAMS_UNI,
    NEW_CONNECTION_ID,
    NEW_TOKEN,
    PADDING,
    PATH_CHALLENGE,
    PATH_RESPONSE,
    PING,
    PROTOCOL_VIOLATION,
    RESET_STREAM,
    RETIRE_CONNECTION_ID,
    STOP_SENDING,
    STREAM,
    STREAM_DATA_BLOCKED,
    STREAMS_BLOCKED_BIDI,
    STREAMS_BLOCKED_UNI,
    TRANSPORT_CLOSE,
    QuicConnectionError,
)
from quicio.quic.wire.frames import (
    ACK_ELICITING,
    ALLOWED,
    FRAME_TYPES,
    PROBING,
    decode_ack,
    decode_application_close,
    decode_crypto,
    decode_data_blocked,
    decode_datagram,
    decode_max_data,
    decode_max_stream_data,
    decode_max_streams,
    decode_new_connection_id,
    decode_new_token,
    decode_path_challenge,
    decode_path_response,
    decode_reset_stream,
    decode_retire_connection_id,
    decode_stop_sending,
    decode_stream,
    decode_stream_data_blocked,
    decode_streams_blocked,
    decode_transport_close,
)

STREAM_MASK: Final = 0xF8  # STREAM is eight frame types: its three flags are the low bits (RFC 9000 §19.8)
MAX_TOKENS_HELD: Final = 4  # NEW_TOKEN tokens that nobody has taken yet
EARLY_STREAMS_SLACK: Final = (
    64  # early streams that may be discarded and still be remembered, beyond twice those there are
)


class Dispatcher:
    """Hands frames to components. One a connection; `space`, `path`, `destination_cid` and `now` describe the packet."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.space = 0
        self.path: Path = parts.paths.active
        self.destination_cid = b""
        self.now: float = 0.0
        self.is_eliciting = False
        self.is_probing = False
        self.is_early = False  # the packet is a 0-RTT packet: somebody may have replayed it
        self.early_streams: set[int] = set()  # that carried data in such packets
        self._early_limit = EARLY_STREAMS_SLACK
        self.new_tokens: list[bytes] = []

    def dispatch(self, payload: bytes, allowed_bit: int) -> None:
        """Process all frames of a packet. `allowed_bit` is the packet type's bit in the table `ALLOWED`."""
        size = len(payload)
        if size == 0:
            raise QuicConnectionError(PROTOCOL_VIOLATION, PADDING, "Packet contains no frames")
        is_eliciting = False
        is_probing = True
        position = 0
        while position < size:
            frame_type = payload[position]
            if frame_type >= FRAME_TYPES or ALLOWED[frame_type] & allowed_bit == 0:
                self._refuse(payload, position)
            if frame_type & STREAM_MASK == STREAM:  # nearly every frame but ACK; what the tables say of it is known
                is_eliciting = True
                is_probing = False
                stream_id, offset, start, end, fin, position = decode_stream(payload, position + 1, frame_type)
                self.parts.streams.on_stream_frame(stream_id, offset, payload[start:end], fin)
                if self.is_early:
                    self._note_early(stream_id)
                continue
            if ACK_ELICITING[frame_type]:
                is_eliciting = True
            if not PROBING[frame_type]:
                is_probing = False
            if frame_type == PADDING:
                position = size - len(payload[position:].lstrip(b"\x00"))
            else:
                position = HANDLERS[frame_type](self, payload, position + 1, frame_type)
        self.is_eliciting = is_eliciting
        self.is_probing = is_probing

    def _note_early(self, stream_id: int) -> None:
        """Remember a stream of early data; those discarded go now and then: a client may send 0-RTT packets for long."""
        early = self.early_streams
        early.add(stream_id)
        if len(early) > self._early_limit:
            early.intersection_update(self.parts.streams.streams)
            self._early_limit = 2 * len(early) + EARLY_STREAMS_SLACK

    def _refuse(self, payload: bytes, position: int) -> None:
        frame_type = payload[position]
        if frame_type < FRAME_TYPES and ALLOWED[frame_type]:
            raise QuicConnectionError(PROTOCOL_VIOLATION, frame_type, "Frame is not allowed in this type of packet")
        if frame_type >= FRAME_TYPES:  # a type of several bytes
            try:
                frame_type, _ = read_uint_var(payload, position)
            except BufferReadError:
                frame_type = PADDING
        raise QuicConnectionError(FRAME_ENCODING_ERROR, frame_type, "Unknown frame type")

    def dispatch_closing(self, payload: bytes, allowed_bit: int) -> None:
        """In the closing state only the peer's CONNECTION_CLOSE matters; it stands behind ACK and PADDING at most."""
        position = 0
        while position < len(payload):
            frame_type = payload[position]
            if frame_type == PADDING:
                position += 1
            elif frame_type in (ACK, ACK_ECN):
                position = decode_ack(payload, position + 1, frame_type)[3]
            elif frame_type in (TRANSPORT_CLOSE, APPLICATION_CLOSE) and ALLOWED[frame_type] & allowed_bit:
                position = HANDLERS[frame_type](self, payload, position + 1, frame_type)
            else:
                return


def _on_ping(d: Dispatcher, data: bytes, position: int, frame_type: int) -> int:
    return position


def _on_ack(d: Dispatcher, data: bytes, position: int, frame_type: int) -> int:
    ranges, delay, ecn, position = decode_ack(data, position, frame_type)
    parts = d.parts
    seconds = delay * parts.peer_ack_delay_scale if d.space == APPLICATION else 0.0
    parts.loss.on_ack(d.space, ranges, seconds, ecn, d.now)
    if d.space == APPLICATION and parts.loss.acked_phase >= 0:
        parts.keys.on_acked_in_phase(parts.loss.acked_phase, d.now, parts.pto())
    return position


def _on_reset_stream(d: Dispatcher, data: bytes, position: int, frame_type: int) -> int:
    stream_id, error_code, final_size, position = decode_reset_stream(data, position)
    d.parts.streams.on_reset_stream(stream_id, error_code, final_size)
    return position


def _on_stop_sending(d: Dispatcher, data: bytes, position: int, frame_type: int) -> int:
    stream_id, error_code, position = decode_stop_sending(data, position)
    d.parts.streams.on_stop_sending(stream_id, error_code)
    return position


def _on_crypto(d: Dispatcher, data: bytes, position: int, frame_type: int) -> int:
    offset, start, end, position = decode_crypto(data, position)
    d.parts.handshake.on_crypto_frame(d.space, offset, data[start:end])
    return position


def _on_new_token(d: Dispatcher, data: bytes, position: int, frame_type: int) -> int:
    token, position = decode_new_token(data, position)
    if not d.parts.is_client:
        raise QuicConnectionError(PROTOCOL_VIOLATION, NEW_TOKEN, "Clients must not send NEW_TOKEN")
    if len(d.new_tokens) < MAX_TOKENS_HELD:
        d.new_tokens.append(token)
    return position


def _on_max_data(d: Dispatcher, data: bytes, position: int, frame_type: int) -> int:
    maximum, position = decode_max_data(data, position)
    d.parts.streams.on_max_data(maximum)
    return position


def _on_max_stream_data(d: Dispatcher, data: bytes, position: int, frame_type: int) -> int:
    stream_id, maximum, position = decode_max_stream_data(data, position)
    d.parts.streams.on_max_stream_data(stream_id, maximum)
    return position


def _on_max_streams(d: Dispatcher, data: bytes, position: int, frame_type: int) -> int:
    maximum, position = decode_max_streams(data, position, frame_type)
    d.parts.streams.on_max_streams(maximum, frame_type == MAX_STREAMS_UNI)
    return position


def _on_data_blocked(d: Dispatcher, data: bytes, position: int, frame_type: int) -> int:
    limit, position = decode_data_blocked(data, position)
    d.parts.streams.on_data_blocked(limit)
    return position


def _on_stream_data_blocked(d: Dispatcher, data: bytes, position: int, frame_type: int) -> int:
    stream_id, limit, position = decode_stream_data_blocked(data, position)
    d.parts.streams.on_stream_data_blocked(stream_id, limit)
    return position


def _on_streams_blocked(d: Dispatcher, data: bytes, position: int, frame_type: int) -> int:
    limit, position = decode_streams_blocked(data, position, frame_type)
    d.parts.streams.on_streams_blocked(limit, frame_type == STREAMS_BLOCKED_UNI)
    return position


def _on_new_connection_id(d: Dispatcher, data: bytes, position: int, frame_type: int) -> int:
    sequence, retire_prior_to, cid, token, position = decode_new_connection_id(data, position)
    parts = d.parts
    if parts.connection_ids.on_new_frame(sequence, retire_prior_to, cid, token):
        parts.paths.on_ids_retired()
    return position


def _on_retire_connection_id(d: Dispatcher, data: bytes, position: int, frame_type: int) -> int:
    sequence, position = decode_retire_connection_id(data, position)
    d.parts.connection_ids.on_retire_frame(sequence, d.destination_cid)
    return position


def _on_path_challenge(d: Dispatcher, data: bytes, position: int, frame_type: int) -> int:
    challenge, position = decode_path_challenge(data, position)
    d.parts.paths.on_challenge(d.path, challenge)
    return position


def _on_path_response(d: Dispatcher, data: bytes, position: int, frame_type: int) -> int:
    response, position = decode_path_response(data, position)
    d.parts.paths.on_response(response)
    return position


def _on_transport_close(d: Dispatcher, data: bytes, position: int, frame_type: int) -> int:
    code, cause, reason, position = decode_transport_close(data, position)
    _peer_closed(d, CloseReason(code, False, True, reason.decode("utf-8", "replace"), cause))
    return position


def _on_application_close(d: Dispatcher, data: bytes, position: int, frame_type: int) -> int:
    code, reason, position = decode_application_close(data, position)
    _peer_closed(d, CloseReason(code, True, True, reason.decode("utf-8", "replace"), None))
    return position


def _peer_closed(d: Dispatcher, reason: CloseReason) -> None:
    parts = d.parts
    if parts.lifecycle.state < CLOSING:
        parts.streams.collect_events(d.now)  # data that came before the close stays readable before it
    parts.lifecycle.on_peer_close(reason, d.now, parts.pto())


def _on_handshake_done(d: Dispatcher, data: bytes, position: int, frame_type: int) -> int:
    d.parts.handshake.on_handshake_done_frame()
    return position


def _on_datagram(d: Dispatcher, data: bytes, position: int, frame_type: int) -> int:
    start, end, after = decode_datagram(data, position, frame_type)
    d.parts.datagrams.on_frame(data[start:end], after - position + 1)
    return after


Handler = Callable[[Dispatcher, bytes, int, int], int]


def _handlers() -> list[Handler]:
    table: list[Handler] = [_on_ping] * FRAME_TYPES
    table[PING] = _on_ping
    table[ACK] = table[ACK_ECN] = _on_ack
    table[RESET_STREAM] = _on_reset_stream
    table[STOP_SENDING] = _on_stop_sending
    table[CRYPTO] = _on_crypto
    table[NEW_TOKEN] = _on_new_token
    table[MAX_DATA] = _on_max_data
    table[MAX_STREAM_DATA] = _on_max_stream_data
    table[MAX_STREAMS_BIDI] = table[MAX_STREAMS_UNI] = _on_max_streams
    table[DATA_BLOCKED] = _on_data_blocked
    table[STREAM_DATA_BLOCKED] = _on_stream_data_blocked
    table[STREAMS_BLOCKED_BIDI] = table[STREAMS_BLOCKED_UNI] = _on_streams_blocked
    table[NEW_CONNECTION_ID] = _on_new_connection_id
    table[RETIRE_CONNECTION_ID] = _on_retire_connection_id
    table[PATH_CHALLENGE] = _on_path_challenge
    table[PATH_RESPONSE] = _on_path_response
    table[TRANSPORT_CLOSE] = _on_transport_close
    table[APPLICATION_CLOSE] = _on_application_close
    table[HANDSHAKE_DONE] = _on_handshake_done
    table[DATAGRAM] = table[DATAGRAM_WITH_LENGTH] = _on_datagram
    return table


HANDLERS: Final[list[Handler]] = _handlers()
