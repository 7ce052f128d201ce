"""`H3Connection`: HTTP/3 over a QUIC connection (RFC 9114).

QUIC events go in through `handle_event`, HTTP events come out; commands write to the QUIC connection at once. The
object needs of that connection no more than `QuicTransport` below names, and calls `stop_stream` and `consume` when it
has them: so anything that behaves like a QUIC connection will do. Creating it opens the control and QPACK streams and
sends SETTINGS.

The rules of errors. What the RFC calls a connection error closes the connection, and from then on `handle_event`
returns nothing. What it calls a stream error, above all a malformed message (RFC 9114 §4.1.2), aborts the stream in
both directions and is reported as `StreamFailed`; the connection goes on. No input raises. Commands raise:
`ProtocolError` for what would break the protocol (sending trailers twice, a field with a line break), `H3Error` for
what cannot be done.

Bounds. The content of DATA frames goes through as it arrives and is never kept. Field sections are kept until they are
whole, bounded by `MAX_FIELD_SECTION_SIZE`. What arrives behind a section that QPACK has blocked is kept up to
`MAX_BLOCKED_BYTES`. Unknown frames and streams are dropped as they arrive. A peer whose requests come to nothing
(reset, stopped, malformed) more often than they complete uses up `FAILURE_TOLERANCE` and is closed with
H3_EXCESSIVE_LOAD: without this, opening and resetting streams is work for us and none for the peer (HTTP/2's "rapid
reset").

Credit. On streams whose credit comes from `consume`, all that is not content is consumed here when it has been dealt
with; content is consumed by the application.
"""

from __future__ import annotations

from typing import Any, Final

from quicio.buffer import encode_uint_var
from quicio.h3 import qpack
from quicio.h3.events import DatagramReceived, GoawayReceived, H3Event, Headers
from quicio.h3.exceptions import (
    ClosedCriticalStream,
    ConnectionGoingAway,
    DatagramError,
    ErrorCode,
    ExcessiveLoad,
    FrameUnexpected,
    H3Error,
    IdError,
    InvalidStreamTypeError,
    MessageError,
    MissingSettingsError,
    ProtocolError,
    RequestRejected,
    SettingsError,
    StreamCreationError,
)
from quicio.h3.frames import (
    CANCEL_PUSH,
    CONTROL_ONLY,
    GOAWAY,
    HEADERS,
    MAX_PUSH_ID,
    MAX_SETTINGS_FRAME,
    MESSAGE_ONLY,
    PUSH_PROMISE,
    SETTINGS,
    WEBTRANSPORT_STREAM,
    FrameType,
    encode_data_frames,
    encode_frame,
    parse_identifier,
    parse_max_push_id,
    read_frame_header,
    read_prefix,
)
from quicio.h3.headers import (
    check_request,
    check_response,
    is_interim_response,
    validate_push_promise_headers,
    validate_request_headers,
    validate_response_headers,
    validate_trailers,
)
from quicio.h3.messages import MessageReader
from quicio.h3.settings import Setting, encode_settings, parse_settings, validate_settings
from quicio.h3.streams import H3Stream, HeadersState, StreamType, stream_is_request_response
from quicio.quic.events import DatagramFrameReceived, QuicEvent, StopSendingReceived, StreamDataReceived, StreamReset

__all__ = [
    "H3_ALPN",
    "ErrorCode",
    "FrameType",
    "FrameUnexpected",
    "H3Connection",
    "H3Event",
    "H3Stream",
    "Headers",
    "HeadersState",
    "MessageError",
    "ProtocolError",
    "Setting",
    "SettingsError",
    "StreamType",
    "encode_frame",
    "encode_settings",
    "is_interim_response",
    "parse_settings",
    "validate_push_promise_headers",
    "validate_request_headers",
    "validate_response_headers",
    "validate_trailers",
]

H3_ALPN: Final = ["h3"]

MAX_STREAM_ID: Final = (1 << 62) - 1

_CRITICAL: Final[dict[int, str]] = {
    StreamType.CONTROL: "_peer_control_stream_id",
    StreamType.QPACK_ENCODER: "_peer_encoder_stream_id",
    StreamType.QPACK_DECODER: "_peer_decoder_stream_id",
}
_INITIAL: Final = HeadersState.INITIAL
_AFTER_HEADERS: Final = HeadersState.AFTER_HEADERS
_AFTER_TRAILERS: Final = HeadersState.AFTER_TRAILERS


class H3Connection(MessageReader):
    """One side of an HTTP/3 connection, over the QUIC connection `quic`.

    `enable_webtransport` announces WebTransport (draft-ietf-webtrans-http3-02) and accepts its streams.
    """

    def __init__(self, quic: Any, enable_webtransport: bool = False) -> None:
        super().__init__(quic, enable_webtransport)
        self._highest_request = -4
        self._received_goaway: int | None = None
        self._sent_goaway: int | None = None
        self._received_settings: dict[int, int] | None = None
        self._sent_settings: dict[int, int] = {}
        self._settings_received = False
        self._control_events: list[H3Event] = []
        self._peer_control_stream_id: int | None = None
        self._peer_decoder_stream_id: int | None = None
        self._peer_encoder_stream_id: int | None = None
        self._init_connection()

    def _init_connection(self) -> None:
        """Open the critical streams and send SETTINGS, without waiting for anything (RFC 9114 §6.2.1, §7.2.4.2)."""
        self._local_control_stream_id = self._create_uni_stream(StreamType.CONTROL)
        self._sent_settings = self._get_local_settings()
        self._send_control(SETTINGS, encode_settings(self._sent_settings))
        if self._is_client and self._pushes.maximum is not None:
            self._send_control(MAX_PUSH_ID, encode_uint_var(self._pushes.maximum))
        self._local_encoder_stream_id = self._create_uni_stream(StreamType.QPACK_ENCODER)
        self._local_decoder_stream_id = self._create_uni_stream(StreamType.QPACK_DECODER)

    def _get_local_settings(self) -> dict[int, int]:
        """The settings to send; a subclass may change them."""
        settings: dict[int, int] = {
            Setting.QPACK_MAX_TABLE_CAPACITY: self._max_table_capacity,
            Setting.MAX_FIELD_SECTION_SIZE: self._max_field_section_size,
            Setting.QPACK_BLOCKED_STREAMS: self._blocked_streams,
            Setting.ENABLE_CONNECT_PROTOCOL: 1,
            Setting.DUMMY: 1,
        }
        if self._enable_webtransport or self._quic.configuration.max_datagram_frame_size:
            settings[Setting.H3_DATAGRAM] = 1  # RFC 9297 §2.1.1
        if self._enable_webtransport:
            settings[Setting.ENABLE_WEBTRANSPORT] = 1
        return settings

    # --- what is known ------------------------------------------------------------------------------------------------

    @property
    def received_settings(self) -> dict[int, int] | None:
        """The peer's settings; None until they arrive."""
        return self._received_settings

    @property
    def sent_settings(self) -> dict[int, int]:
        """Our settings, as they were sent."""
        return self._sent_settings

    @property
    def received_goaway(self) -> int | None:
        """The lowest identifier in a GOAWAY of the peer (RFC 9114 §5.2); None when there was none."""
        return self._received_goaway

    @property
    def sent_goaway(self) -> int | None:
        """The identifier in our last GOAWAY; None when there was none."""
        return self._sent_goaway

    # --- commands -----------------------------------------------------------------------------------------------------

    def send_headers(self, stream_id: int, headers: Headers, end_stream: bool = False) -> None:
        """Send a header section, an interim response, or, after the header section, a trailer section.

        Names are in lower case, pseudo-header fields first. Raises `FrameUnexpected` when the message is a tunnel or is
        over (sent, reset, stopped by the peer, failed), `MessageError` for fields that must not be sent (RFC 9114 §4.2,
        §4.3), `ConnectionGoingAway` for a new request after the peer's GOAWAY, and `ValueError` when the section is
        larger than the peer accepts (RFC 9114 §4.2.2).
        """
        stream = self._stream.get(stream_id)
        if stream is None:
            if not stream_is_request_response(stream_id):
                raise FrameUnexpected("no message can begin on this stream")
            stream = H3Stream(stream_id)
        state = stream.headers_send_state
        if state is _AFTER_TRAILERS or stream.is_tunnel or stream.sending_finished:
            raise FrameUnexpected("HEADERS frame is not allowed in this state")
        if state is _AFTER_HEADERS:
            validate_trailers(headers)
            state = _AFTER_TRAILERS
        elif self._is_client:
            self._begin_request(stream, headers)
            state = _AFTER_HEADERS
        else:
            status = check_response(headers)
            if not status.startswith(b"1"):
                state = _AFTER_HEADERS
                stream.is_tunnel = stream.is_connect and status.startswith(b"2")
            elif end_stream:
                raise MessageError("an interim response cannot end a message")
        self._check_peer_limit(headers)
        section = self._encode_headers(stream_id, headers)
        if self._quic_logger is not None:
            self._log_frame("frame_created", "headers", length=len(section), headers=headers, stream_id=stream_id)
        self._quic.send_stream_data(stream_id, encode_frame(HEADERS, section), end_stream)
        stream.headers_send_state = state
        self._stream[stream_id] = stream
        if end_stream:
            self._finish_sending(stream)

    def send_data(self, stream_id: int, data: bytes | bytearray | memoryview, end_stream: bool) -> None:
        """Send content, in DATA frames.

        Raises `FrameUnexpected` before the header section, after the trailers, and when the message is over.
        """
        stream = self._stream.get(stream_id)
        if stream is None or stream.headers_send_state is not _AFTER_HEADERS or stream.sending_finished:
            raise FrameUnexpected("DATA frame is not allowed in this state")
        if self._quic_logger is not None and data:
            self._log_frame("frame_created", "data", length=len(data), stream_id=stream_id)
        if data or end_stream:
            self._quic.send_stream_data(stream_id, encode_data_frames(data) if data else b"", end_stream)
        if end_stream:
            self._finish_sending(stream)

    def send_datagram(self, stream_id: int, data: bytes) -> None:
        """Send an HTTP datagram that belongs to the request on `stream_id` (RFC 9297 §2.1).

        Raises `InvalidStreamTypeError` for a stream that carries no request, and `H3Error` when the peer takes no
        datagrams.
        """
        if not stream_is_request_response(stream_id):
            raise InvalidStreamTypeError("Datagrams belong to client-initiated bidirectional streams")
        if self._received_settings is not None and not self._received_settings.get(Setting.H3_DATAGRAM):
            raise H3Error("the peer does not accept datagrams (SETTINGS_H3_DATAGRAM)")
        self._quic.send_datagram_frame(encode_uint_var(stream_id // 4) + data)

    def send_push_promise(self, stream_id: int, headers: Headers) -> int:
        """Promise the response to the request `headers`, in the course of the one on `stream_id` (RFC 9114 §4.6).

        Returns the stream to send the response on. Raises `InvalidStreamTypeError`, `NoAvailablePushIDError` when the
        client allows no more pushes, `MessageError` for invalid fields, and `H3Error` on a client.
        """
        if self._is_client:
            raise H3Error("Only a server pushes: use send_headers() to send a request")
        if not stream_is_request_response(stream_id):
            raise InvalidStreamTypeError("Pushes are promised on client-initiated bidirectional streams")
        validate_push_promise_headers(headers)
        self._check_peer_limit(headers)
        push_id = self._pushes.allocate()
        promise = encode_uint_var(push_id) + self._encode_headers(stream_id, headers)
        what = {"length": len(promise), "headers": headers, "push_id": push_id, "stream_id": stream_id}
        self._log_frame("frame_created", "push_promise", **what)
        self._quic.send_stream_data(stream_id, encode_frame(PUSH_PROMISE, promise), False)
        push_stream_id = self._create_uni_stream(StreamType.PUSH, push_id)
        self._quic.send_stream_data(push_stream_id, encode_uint_var(push_id), False)
        stream = H3Stream(push_stream_id)
        stream.ended = True  # it has no other direction
        stream.push_id = push_id
        self._stream[push_stream_id] = stream
        self._pushes.streams[push_id] = push_stream_id
        return push_stream_id

    def goaway(self, identifier: int | None = None) -> None:
        """Begin to shut down: from `identifier` on, requests (on a client: pushes) are refused (RFC 9114 §5.2).

        By default that is what has not arrived yet. A server that wants no request to be lost announces 2**62 - 4
        first, and again without argument a round trip later. Raises `ValueError` when the identifier is above an
        earlier one or is none of a request.
        """
        if identifier is None:
            identifier = max(self._pushes.promises, default=-1) + 1 if self._is_client else self._highest_request + 4
        if not 0 <= identifier <= MAX_STREAM_ID or not (self._is_client or stream_is_request_response(identifier)):
            raise ValueError(f"{identifier} is not an identifier that GOAWAY can carry: see RFC 9114 §5.2")
        if self._sent_goaway is not None and identifier > self._sent_goaway:
            raise ValueError(f"GOAWAY has announced {self._sent_goaway} already: it can only become less")
        self._sent_goaway = identifier
        self._send_control(GOAWAY, encode_uint_var(identifier))

    def create_webtransport_stream(self, session_id: int, is_unidirectional: bool = False) -> int:
        """Open a stream of the WebTransport session `session_id` and return its ID; send the data over QUIC."""
        if is_unidirectional:
            stream_id = self._create_uni_stream(StreamType.WEBTRANSPORT)
            self._quic.send_stream_data(stream_id, encode_uint_var(session_id), False)
            return stream_id
        stream_id = self._quic.get_next_available_stream_id()
        prefix = encode_uint_var(WEBTRANSPORT_STREAM) + encode_uint_var(session_id)
        self._quic.send_stream_data(stream_id, prefix, False)
        stream = self._get_or_create_stream(stream_id)
        stream.frame_type = WEBTRANSPORT_STREAM  # what comes back has no prefix
        stream.session_id = session_id
        return stream_id

    def _begin_request(self, stream: H3Stream, headers: Headers) -> None:
        found = check_request(headers)
        if self._received_goaway is not None:
            raise ConnectionGoingAway("the server takes no new requests on this connection (GOAWAY)")
        stream.is_head = found[b":method"] == b"HEAD"
        stream.is_connect = found[b":method"] == b"CONNECT"

    def _check_peer_limit(self, headers: Headers) -> None:
        """RFC 9114 §4.2.2."""
        if self._received_settings is not None:
            limit = self._received_settings.get(Setting.MAX_FIELD_SECTION_SIZE)
            if limit is not None and qpack.field_section_size(headers) > limit:
                raise ValueError(f"the field section is larger than the {limit} bytes that the peer accepts")

    # --- QUIC events --------------------------------------------------------------------------------------------------

    def handle_event(self, event: QuicEvent) -> list[H3Event]:
        """Take one event of the QUIC connection, whatever it is, and return what it means in HTTP. Never raises."""
        if self._is_done:
            return []
        try:
            if isinstance(event, StreamDataReceived):
                return self._receive_stream_data(event)
            if isinstance(event, StreamReset):
                self._receive_stream_reset(event.stream_id)
            elif isinstance(event, StopSendingReceived):
                self._receive_stop_sending(event.stream_id)
            elif isinstance(event, DatagramFrameReceived):
                return self._receive_datagram(event.data)
        except ProtocolError as error:
            self._is_done = True
            self._quic.close(error_code=error.error_code, reason_phrase=error.reason_phrase)
        return []

    def _receive_datagram(self, data: bytes) -> list[H3Event]:
        """RFC 9297 §2.1."""
        found = read_prefix(data)
        if found is None:
            raise DatagramError("a datagram ends inside its quarter stream ID")
        quarter, position = found
        if quarter > MAX_STREAM_ID // 4:
            raise DatagramError("a datagram has a quarter stream ID above 2**60 - 1")
        return [DatagramReceived(data[position:], quarter * 4)]

    def _receive_stream_reset(self, stream_id: int) -> None:
        stream = self._stream.get(stream_id)
        if stream is None:
            if stream_is_request_response(stream_id):
                self._charge_failure()  # opened for nothing
            return
        self._check_critical(stream)
        if not stream.discarding and not stream.ended and stream.session_id is None:
            self._charge_failure()
        self._cancel_decoding(stream)
        stream.uncredited = 0  # the transport returns the credit of a stream that was reset
        stream.ended = True
        stream.discarding = True
        self._forget_if_ended(stream)

    def _receive_stop_sending(self, stream_id: int) -> None:
        if stream_id in (self._local_control_stream_id, self._local_encoder_stream_id, self._local_decoder_stream_id):
            raise ClosedCriticalStream("a critical stream must not be stopped")
        stream = self._stream.get(stream_id)
        if stream is not None and not stream.sending_finished:
            self._charge_failure()
            self._finish_sending(stream)  # the transport answers with a reset (RFC 9000 §3.5)

    def _receive_stream_data(self, event: StreamDataReceived) -> list[H3Event]:
        stream_id = event.stream_id
        stream = self._stream.get(stream_id)
        if stream is None:
            stream = self._accept_stream(stream_id)
        data = event.data
        stream.uncredited += len(data)
        if stream.discarding:
            stream.ended |= event.end_stream
            events: list[H3Event] = []
        elif stream_id & 2:
            events = self._receive_stream_data_uni(stream, data, event.end_stream)
        else:
            events = self._receive_request_or_push_data(stream, data, event.end_stream)
        self._settle(stream)
        if stream.ended:
            self._forget_if_ended(stream)
        return events

    # --- the life of streams ------------------------------------------------------------------------------------------

    def _accept_stream(self, stream_id: int) -> H3Stream:
        """The record of a stream that was not known. Raises when the peer must not open it (RFC 9114 §6.1)."""
        if stream_id & 3 == 1 and self._is_client and not self._enable_webtransport:
            raise StreamCreationError("a server must not open bidirectional streams")
        stream = self._get_or_create_stream(stream_id)
        if stream_id & 3 == 0 and not self._is_client:
            if self._sent_goaway is not None and stream_id >= self._sent_goaway:
                self._fail(stream, RequestRejected("the connection is shutting down"))
            elif stream_id > self._highest_request:
                self._highest_request = stream_id
        return stream

    # --- unidirectional streams ---------------------------------------------------------------------------------------

    def _receive_stream_data_uni(self, stream: H3Stream, data: bytes, stream_ended: bool) -> list[H3Event]:
        """RFC 9114 §6.2: the type first, then what the type means."""
        stream.ended |= stream_ended
        if stream.stream_type is None or (stream.stream_type == StreamType.PUSH and stream.push_id is None):
            rest = self._read_stream_header(stream, stream.buffer + data)
            if rest is None:
                return []
            data = rest
        events: list[H3Event] = []
        kind = stream.stream_type
        if kind == StreamType.CONTROL:
            self._read_control(stream, data)
            events, self._control_events = self._control_events, []
        elif kind == StreamType.QPACK_ENCODER:
            for stream_id in self._qpack.feed_encoder(data):
                events += self._resume(stream_id)
        elif kind == StreamType.QPACK_DECODER:
            self._qpack.feed_decoder(data)
        elif kind == StreamType.PUSH:
            return self._receive_request_or_push_data(stream, data, stream_ended)
        elif kind == StreamType.WEBTRANSPORT:
            self._read_webtransport(stream, data, events)
        if stream.ended:
            self._check_critical(stream)
        return events

    def _read_stream_header(self, stream: H3Stream, data: bytes) -> bytes | None:
        """Read type and ID from the front of a unidirectional stream; returns the rest, or None for nothing to read."""
        stream.buffer = data
        found = read_prefix(data)
        if found is None:
            return None
        kind, position = found
        has_session = kind == StreamType.WEBTRANSPORT and self._enable_webtransport
        if kind == StreamType.PUSH or has_session:
            if kind == StreamType.PUSH and not self._is_client:
                raise StreamCreationError("only servers push")
            found = read_prefix(data, position)
            if found is None:
                return None
            identifier, position = found
            if has_session:
                self._check_session_id(identifier)
                stream.session_id = identifier
            else:
                self._pushes.open_stream(identifier)
                stream.push_id = identifier
        stream.stream_type = kind
        stream.buffer = b""
        self._log_stream_type(stream.stream_id, kind, stream.push_id)
        if stream.push_id is not None and stream.push_id in self._pushes.cancelled:
            self._abort(stream, ErrorCode.H3_REQUEST_CANCELLED)  # RFC 9114 §4.6: it crossed our CANCEL_PUSH
            return None
        if kind in _CRITICAL:
            self._claim_critical(stream, kind)
        elif kind != StreamType.PUSH and not has_session:
            self._charge_failure()
            self._abort(stream, ErrorCode.H3_STREAM_CREATION_ERROR)  # RFC 9114 §6.2: an unknown type is no error
            return None
        return data[position:]

    def _claim_critical(self, stream: H3Stream, kind: int) -> None:
        """Each critical stream exists once (RFC 9114 §6.2.1, RFC 9204 §4.2)."""
        name = _CRITICAL[kind]
        if getattr(self, name) is not None:
            raise StreamCreationError(f"there is a stream of type {kind} already")
        setattr(self, name, stream.stream_id)

    def _check_critical(self, stream: H3Stream) -> None:
        if stream.stream_type in _CRITICAL:
            raise ClosedCriticalStream("a critical stream was closed")

    def _read_control(self, stream: H3Stream, data: bytes) -> None:
        """The frames of the control stream (RFC 9114 §6.2.1); unknown ones are dropped as they arrive."""
        if stream.buffer:
            data = stream.buffer + data
        position = 0
        while True:
            remaining = stream.frame_size
            if remaining is None:
                header = read_frame_header(data, position)
                if header is None:
                    break
                stream.frame_type, remaining, position = header
                self._check_control_frame_type(stream.frame_type)
                if stream.frame_type in CONTROL_ONLY and remaining > MAX_SETTINGS_FRAME:
                    raise ExcessiveLoad("a frame on the control stream is too long")
                stream.frame_size = remaining
            if len(data) - position < remaining:
                if stream.frame_type not in CONTROL_ONLY:
                    stream.frame_size = remaining - (len(data) - position)
                    position = len(data)
                break
            if stream.frame_type in CONTROL_ONLY:
                self._handle_control_frame(stream.frame_type, data[position : position + remaining])
            position += remaining
            stream.frame_size = None
        stream.buffer = data[position:]

    def _check_control_frame_type(self, frame_type: int) -> None:
        """RFC 9114 §6.2.1, §7.2.4: SETTINGS come first, and once; messages go elsewhere."""
        if not self._settings_received and frame_type != SETTINGS:
            raise MissingSettingsError("the control stream does not begin with SETTINGS")
        if frame_type in MESSAGE_ONLY or (self._settings_received and frame_type == SETTINGS):
            raise FrameUnexpected(f"a frame of type {frame_type:#x} is not allowed on the control stream, or not now")

    def _handle_control_frame(self, frame_type: int, frame_data: bytes) -> None:
        """One frame of the control stream, whole."""
        if frame_type == SETTINGS:
            settings = parse_settings(frame_data)
            self._validate_settings(settings)
            self._received_settings = settings
            self._settings_received = True
            instructions = self._qpack.apply_settings(
                settings.get(Setting.QPACK_MAX_TABLE_CAPACITY, 0), settings.get(Setting.QPACK_BLOCKED_STREAMS, 0)
            )
            if instructions:
                self._quic.send_stream_data(self._local_encoder_stream_id, instructions, False)
        elif frame_type == MAX_PUSH_ID:
            self._pushes.raise_maximum(parse_max_push_id(frame_data))
        elif frame_type == CANCEL_PUSH:
            push_stream_id = self._pushes.cancel(parse_identifier(frame_data))
            if push_stream_id is not None:
                self.cancel_stream(push_stream_id)
        elif frame_type == GOAWAY:
            self._receive_goaway(parse_identifier(frame_data))

    def _validate_settings(self, settings: dict[int, int]) -> None:
        """Raise `SettingsError` unless the peer's settings are acceptable; a subclass may be stricter."""
        validate_settings(settings, peer_takes_datagrams=bool(self._quic._remote_max_datagram_frame_size))

    def _receive_goaway(self, identifier: int) -> None:
        """RFC 9114 §5.2, §7.2.6."""
        if self._is_client and not stream_is_request_response(identifier):
            raise IdError("GOAWAY does not name a request")
        if self._received_goaway is not None and identifier > self._received_goaway:
            raise IdError("GOAWAY names a larger identifier than before")
        self._received_goaway = identifier
        if not self._is_client:
            self._pushes.limit = identifier
        self._control_events.append(GoawayReceived(identifier))
