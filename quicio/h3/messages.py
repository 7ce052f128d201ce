"""Reading requests and responses, pushed ones included (RFC 9114 §4, §7.2).

`MessageReader` is the middle of `H3Connection`: stream data in, events out. The loop of `_read_message` takes one frame
after the other off what has arrived. Content is passed on as it comes, in pieces if need be. Field sections are waited
for, bounded by the limit of a section, and then decoded, validated, and handed out. All other types are dropped in
passing.

A message is a header section, content, and perhaps trailers; responses may have interim ones before (RFC 9114 §4.1).
What may come when is checked at the front of a frame, before anything of it is kept: a wrong order is an error of the
connection, a malformed message one of the stream. When FIN comes, the last event carries it; if there is none to carry
it, an empty `DataReceived` does. An event that says `stream_ended` is given out for messages only that are complete and
have the length they announced.

A field section that QPACK has blocked stops its stream (RFC 9204 §2.1.2): what follows is held, and read when the
encoder stream has brought what was missing.
"""

from __future__ import annotations

from typing import Any, Final

from quicio.buffer import encode_uint_var
from quicio.h3 import qpack
from quicio.h3.base import StreamKeeper
from quicio.h3.events import (
    DataReceived,
    H3Event,
    Headers,
    HeadersReceived,
    PushPromiseReceived,
    WebTransportStreamDataReceived,
)
from quicio.h3.exceptions import (
    FieldSectionTooLarge,
    FrameError,
    FrameUnexpected,
    IdError,
    MessageError,
    RequestIncomplete,
    StreamCreationError,
    StreamError,
)
from quicio.h3.frames import (
    CANCEL_PUSH,
    CONTROL_ONLY,
    DATA,
    HEADERS,
    PUSH_PROMISE,
    WEBTRANSPORT_STREAM,
    read_frame_header,
    read_prefix,
)
from quicio.h3.headers import (
    is_interim_response,
    validate_push_promise_headers,
    validate_request_headers,
    validate_response_headers,
    validate_trailers,
)
from quicio.h3.push import SAFE_METHODS
from quicio.h3.streams import H3Stream, HeadersState, stream_is_request_response

_SECTIONS: Final = (HEADERS, PUSH_PROMISE)
_INITIAL: Final = HeadersState.INITIAL
_AFTER_HEADERS: Final = HeadersState.AFTER_HEADERS
_AFTER_TRAILERS: Final = HeadersState.AFTER_TRAILERS


class MessageReader(StreamKeeper):
    """The receiving side of the messages of one HTTP/3 connection."""

    def __init__(self, quic: Any, enable_webtransport: bool) -> None:
        super().__init__(quic)
        self._enable_webtransport = enable_webtransport

    # --- requests and pushes ------------------------------------------------------------------------------------------

    def _receive_request_or_push_data(self, stream: H3Stream, data: bytes, stream_ended: bool) -> list[H3Event]:
        events: list[H3Event] = []
        if stream_ended:
            stream.ended = True
        try:
            if stream.blocked:
                self._hold(stream, data)
            else:
                self._read_message(stream, data, events)
        except StreamError as error:
            events.append(self._fail(stream, error))
        return events

    def _read_message(self, stream: H3Stream, data: bytes, events: list[H3Event]) -> None:
        """Read frames from what arrived until it is used up, or a field section is not whole, or is blocked."""
        if stream.frame_type == WEBTRANSPORT_STREAM and stream.session_id is not None:
            self._read_webtransport(stream, data, events)
            return
        if stream.buffer:
            data = stream.buffer + data
        size = len(data)
        position = 0
        while True:
            remaining = stream.frame_size
            if remaining is None:
                header = read_frame_header(data, position)
                if header is None:
                    break
                if self._is_webtransport_signal(stream, header[0]):
                    self._check_session_id(header[1])  # it stands where the length of a frame would
                    stream.frame_type, stream.session_id, stream.buffer = WEBTRANSPORT_STREAM, header[1], b""
                    self._read_webtransport(stream, data[header[2] :], events)
                    return
                frame_type, remaining, position = header
                self._check_request_or_push_frame_type(frame_type, stream)
                if remaining > self._max_field_section_size and frame_type in _SECTIONS:
                    raise FieldSectionTooLarge("the field section is too large")
                stream.frame_type = frame_type
                stream.frame_size = remaining
                if self._quic_logger is not None and frame_type == DATA:
                    self._log_frame("frame_parsed", "data", length=remaining, stream_id=stream.stream_id)
            else:
                frame_type = stream.frame_type or 0
            available = size - position
            is_section = frame_type in _SECTIONS
            if available < remaining:
                if is_section or not available:
                    break
                chunk = data[position:]
                stream.frame_size = remaining - available
                position = size
            else:
                chunk = data[position : position + remaining]
                position += remaining
                stream.frame_size = None
            if is_section or (frame_type == DATA and chunk):
                last = position == size and stream.ended and stream.frame_size is None
                try:
                    events += self._handle_request_or_push_frame(frame_type, chunk, stream, last)
                except qpack.StreamBlocked:
                    stream.blocked = True
                    stream.buffer = b""
                    self._hold(stream, data[position:])
                    return
        stream.buffer = data[position:]
        if stream.ended:
            self._end_message(stream, events)

    def _end_message(self, stream: H3Stream, events: list[H3Event]) -> None:
        """FIN, and all before it has been read."""
        if stream.buffer or stream.frame_size is not None:
            raise FrameError("a stream ended inside a frame")
        last = events[-1] if events else None
        if not (isinstance(last, DataReceived | HeadersReceived) and last.stream_ended):
            self._check_complete(stream)
            events.append(DataReceived(b"", stream.stream_id, True, stream.push_id))

    def _check_complete(self, stream: H3Stream) -> None:
        if stream.headers_recv_state is _INITIAL:
            if self._is_client:
                raise MessageError("the stream ended before the response was complete")
            raise RequestIncomplete("the stream ended before the request was complete")
        stream.check_content_length()

    def _check_request_or_push_frame_type(self, frame_type: int, stream: H3Stream) -> None:
        """Raise `FrameUnexpected` unless the frame is allowed on the stream and in this state (RFC 9114 §4.1, §7.2)."""
        if frame_type == DATA:
            allowed = stream.headers_recv_state is _AFTER_HEADERS
        elif frame_type == HEADERS:
            allowed = stream.headers_recv_state is not _AFTER_TRAILERS and not stream.is_tunnel
        elif frame_type == PUSH_PROMISE:
            allowed = self._is_client and stream.push_id is None and not stream.is_tunnel
        else:
            allowed = frame_type not in CONTROL_ONLY
        if not allowed:
            raise FrameUnexpected(f"a frame of type {frame_type:#x} is not allowed on this stream, or not now")

    def _handle_request_or_push_frame(
        self, frame_type: int, frame_data: bytes | None, stream: H3Stream, stream_ended: bool
    ) -> list[H3Event]:
        """One frame, or a part of the content of a DATA frame. Without data: a field section that is no longer blocked."""
        if frame_type == DATA and frame_data is not None:
            stream.add_content(len(frame_data))
            if stream_ended:
                stream.check_content_length()
            stream.uncredited -= len(frame_data)
            return [DataReceived(frame_data, stream.stream_id, stream_ended, stream.push_id)]
        if frame_type == HEADERS:
            headers = self._decode_headers(stream.stream_id, frame_data)
            if self._quic_logger is not None:
                self._log_section("headers", frame_data, headers=headers, stream_id=stream.stream_id)
            self._receive_section(stream, headers)
            if stream_ended:
                self._check_complete(stream)
            return [HeadersReceived(headers, stream.stream_id, stream_ended, stream.push_id)]
        return self._receive_push_promise(stream, frame_data)

    def _log_section(self, kind: str, frame_data: bytes | None, **what: Any) -> None:
        """A field section was decoded; the length of one that had been blocked is not known any more."""
        self._log_frame("frame_parsed", kind, length=len(frame_data) if frame_data is not None else 0, **what)

    def _receive_section(self, stream: H3Stream, headers: Headers) -> None:
        """Validate a header or trailer section and move the state of the message on (RFC 9114 §4.1)."""
        if stream.headers_recv_state is _AFTER_HEADERS:
            validate_trailers(headers)
            stream.headers_recv_state = _AFTER_TRAILERS
        elif self._is_client:
            validate_response_headers(headers, stream)
            if not is_interim_response(headers):
                stream.headers_recv_state = _AFTER_HEADERS
        else:
            validate_request_headers(headers, stream)
            stream.headers_recv_state = _AFTER_HEADERS

    def _receive_push_promise(self, stream: H3Stream, frame_data: bytes | None) -> list[H3Event]:
        """RFC 9114 §4.6, §7.2.5."""
        push_id = stream.blocked_push_id
        section = None
        if frame_data is not None:
            found = read_prefix(frame_data)
            if found is None:
                raise FrameError("PUSH_PROMISE ends inside its push ID")
            push_id = stream.blocked_push_id = found[0]
            section = frame_data[found[1] :]
            self._pushes.check_id(push_id)
        headers = self._decode_headers(stream.stream_id, section)
        validate_push_promise_headers(headers)
        if self._quic_logger is not None:
            what = {"headers": headers, "push_id": push_id, "stream_id": stream.stream_id}
            self._log_section("push_promise", frame_data, **what)
        if push_id is None or push_id in self._pushes.cancelled:
            return []
        self._pushes.promise(push_id, headers)
        if dict(headers)[b":method"] not in SAFE_METHODS:
            self.cancel_push(push_id)  # RFC 9114 §4.6: only safe requests can be pushed
            return []
        return [PushPromiseReceived(headers, push_id, stream.stream_id)]

    def _resume(self, stream_id: int) -> list[H3Event]:
        """Go on with a stream whose field section is no longer blocked (RFC 9204 §2.2.1)."""
        stream = self._stream.get(stream_id)
        if stream is None or not stream.blocked:
            return []
        stream.blocked = False
        self._held_bytes -= stream.held_size
        data = stream.release()
        events: list[H3Event] = []
        try:
            last = stream.ended and not data
            events += self._handle_request_or_push_frame(stream.frame_type or 0, None, stream, last)
            self._read_message(stream, data, events)
        except StreamError as error:
            events.append(self._fail(stream, error))
        self._settle(stream)
        self._forget_if_ended(stream)
        return events

    def cancel_push(self, push_id: int) -> None:
        """Call a push off (RFC 9114 §7.2.3): a client no longer wants it, a server will not deliver it.

        Raises `IdError` when there can be no such push.
        """
        push_stream_id = self._pushes.cancel(push_id)
        self._pushes.cancelled.add(push_id)
        self._send_control(CANCEL_PUSH, encode_uint_var(push_id))
        if push_stream_id is not None:
            self.cancel_stream(push_stream_id)

    # --- WebTransport -------------------------------------------------------------------------------------------------

    def _is_webtransport_signal(self, stream: H3Stream, frame_type: int) -> bool:
        """Whether a bidirectional stream is WebTransport's: it begins with a signal value instead of a frame."""
        if not self._enable_webtransport or stream.frame_type is not None or stream.stream_id & 2:
            return False
        if frame_type == WEBTRANSPORT_STREAM:
            return True
        if stream.stream_id & 1:
            raise StreamCreationError("a server may open bidirectional streams for WebTransport only")
        return False

    def _check_session_id(self, session_id: int) -> None:
        if not stream_is_request_response(session_id):
            raise IdError("a WebTransport session ID is not the ID of a request")

    def _read_webtransport(self, stream: H3Stream, data: bytes, events: list[H3Event]) -> None:
        if (data or stream.ended) and stream.session_id is not None:
            stream.uncredited -= len(data)
            events.append(
                WebTransportStreamDataReceived(data, stream.stream_id, stream.ended, session_id=stream.session_id)
            )
