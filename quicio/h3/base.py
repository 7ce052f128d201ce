"""What all streams of an HTTP/3 connection have in common: their records, their errors, their credit.

`StreamKeeper` is the lower half of `H3Connection`, below the meaning of frames. It keeps one record a stream, from its
first byte until nothing more can come of it; it aborts streams, in both directions as far as they are open; it codes
field sections and passes QPACK's instructions on; it keeps the account of credit. It holds the two limits that concern
streams as a crowd: what blocked streams may hold, and how many requests may fail.

Failures are counted against completions, because no clock reaches this layer: each request that is reset by the peer,
stopped or malformed costs one of `FAILURE_TOLERANCE`, each that completes wins one back. So a peer that only opens and
resets streams, which costs it nothing and us a request each time, is cut off, and one that cancels a request now and
then is not.

Calls to the transport that end a stream are made without knowing what the application did to the stream behind our
back: that the transport finds nothing left to end is no error.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Protocol

from quicio.buffer import encode_uint_var
from quicio.h3 import qpack
from quicio.h3.events import H3Event, Headers, StreamFailed
from quicio.h3.exceptions import ErrorCode, ExcessiveLoad, FieldSectionTooLarge, StreamError, StreamOverload
from quicio.h3.frames import HEADERS, encode_frame
from quicio.h3.push import Pushes
from quicio.h3.streams import H3Stream, StreamType

MAX_BLOCKED_BYTES: Final = 8 * 1024 * 1024
"""Bytes that all blocked streams of a connection may hold: as much as the widest receive window (RFC 9204 §2.1.2)."""

FAILURE_TOLERANCE: Final = 500
"""How many more requests may fail than complete before the peer is sent away (RFC 9114 §10.5)."""


MAX_DISCARDED: Final = 1000
"""Records of aborted streams that are kept for events under way."""


class QuicTransport(Protocol):
    """What `H3Connection` needs of a QUIC connection; `QuicConnection` has it."""

    configuration: Any
    _quic_logger: Any
    _remote_max_datagram_frame_size: int | None

    def close(self, error_code: int, *, reason_phrase: str) -> None: ...
    def get_next_available_stream_id(self, is_unidirectional: bool = False) -> int: ...
    def reset_stream(self, stream_id: int, error_code: int) -> None: ...
    def send_datagram_frame(self, data: bytes) -> None: ...
    def send_stream_data(self, stream_id: int, data: bytes, end_stream: bool = False) -> None: ...


class StreamKeeper:
    """The streams of one HTTP/3 connection over `quic`."""

    _local_control_stream_id: int
    _local_decoder_stream_id: int
    _local_encoder_stream_id: int

    def __init__(self, quic: Any) -> None:
        transport: QuicTransport = quic
        self._quic = transport
        self._is_client: bool = transport.configuration.is_client
        self._is_done = False
        self._quic_logger = transport._quic_logger
        self._discarded: deque[H3Stream] = deque()
        self._release_stream: Callable[[int], None] | None = getattr(quic, "release_stream", None)
        self._consume: Callable[[int, int], None] | None = getattr(quic, "consume", None)
        self._stop_stream: Callable[[int, int], None] | None = getattr(quic, "stop_stream", None)
        self._max_table_capacity = qpack.MAX_TABLE_CAPACITY
        self._blocked_streams = qpack.MAX_BLOCKED_STREAMS
        self._max_field_section_size = qpack.MAX_FIELD_SECTION_SIZE
        self._qpack = qpack.FieldCoding(self._max_table_capacity, self._blocked_streams, self._max_field_section_size)
        self._stream: dict[int, H3Stream] = {}
        self._pushes = Pushes(self._is_client)
        self._tolerance = FAILURE_TOLERANCE
        self._held_bytes = 0

    # --- the life of streams ------------------------------------------------------------------------------------------

    def _create_uni_stream(self, stream_type: int, push_id: int | None = None) -> int:
        """Open a unidirectional stream and send its type (RFC 9114 §6.2)."""
        stream_id = self._quic.get_next_available_stream_id(is_unidirectional=True)
        self._log_stream_type(stream_id, stream_type, push_id)
        self._quic.send_stream_data(stream_id, encode_uint_var(stream_type))
        return stream_id

    def _log_stream_type(self, stream_id: int, stream_type: int, push_id: int | None = None) -> None:
        """Tell the qlog, if there is one, what a stream is for."""
        if self._quic_logger is not None:
            names = {int(kind): kind.name.lower() for kind in StreamType}
            data: dict[str, Any] = {"stream_id": stream_id, "new": names.get(stream_type, "unknown")}
            if push_id is not None:
                data["associated_push_id"] = push_id
            self._quic_logger.log_event(category="http", event="stream_type_set", data=data)

    def _log_frame(self, event: str, kind: str, **what: Any) -> None:
        """Tell the qlog of a frame of a message: it is asked for only where somebody listens."""
        if self._quic_logger is not None:
            data = getattr(self._quic_logger, f"encode_http3_{kind}_frame")(**what)
            self._quic_logger.log_event(category="http", event=event, data=data)

    def _get_or_create_stream(self, stream_id: int) -> H3Stream:
        """The record of a stream; it can be used in a `with` statement too."""
        stream = self._stream.get(stream_id)
        if stream is None:
            stream = self._stream[stream_id] = H3Stream(stream_id)
            if stream_id & 2:
                stream.sending_finished = True  # it has no other direction
        return stream

    def _finish_sending(self, stream: H3Stream) -> None:
        stream.finish_sending()
        if stream.push_id is not None:
            self._pushes.streams.pop(stream.push_id, None)
        self._forget_if_ended(stream)

    def _forget_if_ended(self, stream: H3Stream) -> None:
        """Drop the record of a stream when nothing more can come of it."""
        if stream.blocked or not stream.ended or not (stream.sending_finished or stream.session_id is not None):
            return
        if self._stream.pop(stream.stream_id, None) is not None:
            if stream.stream_id & 2:
                self._release(stream)
            elif not stream.discarding:
                self._tolerance = min(self._tolerance + 1, FAILURE_TOLERANCE)

    def _discard(self, stream: H3Stream) -> None:
        """Drop what may still come of a stream; its record stays for events that are under way, but not for ever."""
        stream.discarding = True
        self._discarded.append(stream)
        if len(self._discarded) > MAX_DISCARDED:
            oldest = self._discarded.popleft()
            self._stream.pop(oldest.stream_id, None)

    def _release(self, stream: H3Stream) -> None:
        """Tell the transport that nobody uses one of our own streams any more, so that the peer may open another."""
        if self._release_stream is not None and stream.session_id is None and stream.push_id is None:
            with suppress(ValueError, RuntimeError):
                self._release_stream(stream.stream_id)

    def _charge_failure(self) -> None:
        """One more request came to nothing (rapid reset; RFC 9114 §10.5). What servers do to clients is not counted."""
        if not self._is_client:
            self._tolerance -= 1
            if self._tolerance < 0:
                raise ExcessiveLoad("too many requests were reset or malformed")

    def _cancel_decoding(self, stream: H3Stream) -> None:
        """Tell the peer's encoder that field sections of this stream will not be read (RFC 9204 §2.2.2.2)."""
        has_messages = stream.stream_id & 2 == 0 or stream.stream_type == StreamType.PUSH
        if has_messages and stream.session_id is None and (stream.blocked or not stream.ended):
            instructions = self._qpack.cancel(stream.stream_id)
            if instructions:
                self._quic.send_stream_data(self._local_decoder_stream_id, instructions, False)
        self._held_bytes -= stream.held_size
        stream.release()
        stream.blocked = False
        stream.buffer = b""

    def _abort(self, stream: H3Stream, error_code: int) -> None:
        """Abort what is open of a stream in both directions and drop whatever may still come (RFC 9114 §4.1.1)."""
        self._cancel_decoding(stream)
        self._discard(stream)
        if not stream.sending_finished:
            with suppress(ValueError, RuntimeError):  # the application may have reset it, or the transport forgotten it
                self._quic.reset_stream(stream.stream_id, error_code)
            stream.finish_sending()
        if not stream.ended and self._stop_stream is not None:
            with suppress(ValueError, RuntimeError):
                self._stop_stream(stream.stream_id, error_code)

    def _fail(self, stream: H3Stream, error: StreamError) -> H3Event:
        """A stream error: abort the stream, keep the connection (RFC 9114 §8)."""
        if isinstance(error, FieldSectionTooLarge) and not self._is_client and stream.is_untouched():
            # RFC 9114 §4.2.2: nobody has seen this request yet, so that it can be answered here
            section = self._encode_headers(stream.stream_id, [(b":status", b"431")])
            self._quic.send_stream_data(stream.stream_id, encode_frame(HEADERS, section), True)
            stream.finish_sending()
            self._abort(stream, ErrorCode.H3_NO_ERROR)
        else:
            self._abort(stream, error.error_code)
        self._charge_failure()
        return StreamFailed(stream.stream_id, error.error_code, error.reason_phrase, stream.push_id)

    def _settle(self, stream: H3Stream) -> None:
        """Consume what has been dealt with and is not content."""
        overhead = stream.uncredited - len(stream.buffer) - stream.held_size
        if overhead > 0:
            stream.uncredited -= overhead
            if self._consume is not None and not stream.credits_itself:
                try:
                    self._consume(stream.stream_id, overhead)
                except ValueError:  # not a held stream: its credit was granted when the event was handed out
                    stream.credits_itself = True

    def _hold(self, stream: H3Stream, data: bytes) -> None:
        stream.hold(data)
        self._held_bytes += len(data)
        if self._held_bytes > MAX_BLOCKED_BYTES:
            raise StreamOverload("too much is waiting for the QPACK encoder stream")

    def cancel_stream(self, stream_id: int, error_code: int = ErrorCode.H3_REQUEST_CANCELLED) -> None:
        """Give up a request, a response or a push: abort its stream as far as it is open (RFC 9114 §4.1.1).

        Streams that carry no message, or are over, are left alone.
        """
        stream = self._stream.get(stream_id)
        if stream is not None and stream.stream_type in (None, StreamType.PUSH):
            self._abort(stream, error_code)
            self._settle(stream)
            self._forget_if_ended(stream)

    def stop_reading(self, stream_id: int, error_code: int = ErrorCode.H3_NO_ERROR) -> None:
        """Read no more of a request, and go on sending: a response need not wait for its request (RFC 9114 §4.1).

        What still comes is dropped, and that the peer then resets its side is no failure.
        """
        stream = self._stream.get(stream_id)
        if stream is not None and stream.stream_type is None and not stream.ended and not stream.discarding:
            self._cancel_decoding(stream)
            stream.discarding = True
            if self._stop_stream is not None:
                with suppress(ValueError, RuntimeError):
                    self._stop_stream(stream_id, error_code)
            self._settle(stream)

    # --- fields and control frames ------------------------------------------------------------------------------------

    def _encode_headers(self, stream_id: int, headers: Headers) -> bytes:
        """Encode a field section; what the peer's table has to learn for it is sent at once."""
        instructions, section = self._qpack.encode(stream_id, headers)
        if instructions:
            self._quic.send_stream_data(self._local_encoder_stream_id, instructions)
        return section

    def _decode_headers(self, stream_id: int, frame_data: bytes | None) -> Headers:
        """Decode a field section; None goes on with one that was blocked. Raises as `FieldCoding.decode`."""
        if frame_data is None:
            instructions, headers = self._qpack.resume(stream_id)
        else:
            instructions, headers = self._qpack.decode(stream_id, frame_data)
        if instructions:
            self._quic.send_stream_data(self._local_decoder_stream_id, instructions)
        return headers

    def _send_control(self, frame_type: int, frame_data: bytes) -> None:
        self._quic.send_stream_data(self._local_control_stream_id, encode_frame(frame_type, frame_data))

    # --- names that programs written for aioquic read -----------------------------------------------------------------

    @property
    def _encoder(self) -> Any:
        return self._qpack.encoder

    @property
    def _decoder(self) -> Any:
        return self._qpack.decoder

    @property
    def _encoder_bytes_received(self) -> int:
        return self._qpack.encoder_bytes_received

    @property
    def _encoder_bytes_sent(self) -> int:
        return self._qpack.encoder_bytes_sent

    @property
    def _decoder_bytes_received(self) -> int:
        return self._qpack.decoder_bytes_received

    @property
    def _decoder_bytes_sent(self) -> int:
        return self._qpack.decoder_bytes_sent
