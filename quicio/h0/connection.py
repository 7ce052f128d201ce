"""`H0Connection`: HTTP/0.9 over a QUIC connection, beside `H3Connection` and with its verbs and events.

The protocol has no specification, only use: the QUIC interop tests negotiate it as "hq-interop". A client sends
`GET /path` and a line end on a bidirectional stream of its own and ends it; the server answers with the content alone and ends
the stream. There are no header fields, no status, no errors.

So that one program can speak both protocols, what is missing is made up: a server sees `:method` and `:path` in
`HeadersReceived`, a client sees `HeadersReceived` without fields before the first content, and the fields that are sent are
read for these two and otherwise dropped.

Bounds: a request line has at most `MAX_REQUEST_LINE` bytes, and a stream is remembered only until it ends. A request that is
none (too long, without a path) costs its stream, in both directions, and is not reported. Events of other streams give
nothing. Credit of streams that hold it is the application's to give: each byte that is not in a `DataReceived` is consumed
here.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from quicio.h3.events import DataReceived, H3Event, Headers, HeadersReceived
from quicio.quic.events import QuicEvent, StopSendingReceived, StreamDataReceived, StreamReset

__all__ = ["H0_ALPN", "H0Connection"]

H0_ALPN: Final = ["hq-interop"]

MAX_REQUEST_LINE: Final = 8192
MALFORMED_REQUEST: Final = 1  # the code of the reset; the protocol defines none


class H0Connection:
    """One side of an HTTP/0.9 connection, over the QUIC connection `quic`."""

    def __init__(self, quic: Any) -> None:
        self._quic = quic
        self._is_client: bool = quic.configuration.is_client
        self._buffer: dict[int, bytes] = {}  # request lines that are not whole yet
        self._headers_received: dict[int, bool] = {}  # streams whose content is under way
        self._consume: Callable[[int, int], None] | None = getattr(quic, "consume", None)

    def handle_event(self, event: QuicEvent) -> list[H3Event]:
        """The HTTP events that follow from an event of the QUIC connection; none for what has nothing to do with HTTP."""
        if isinstance(event, StreamReset | StopSendingReceived):
            if isinstance(event, StreamReset):
                self._forget(event.stream_id)
            return []
        if not isinstance(event, StreamDataReceived) or event.stream_id & 3:
            return []  # requests are on the client's bidirectional streams
        if event.stream_id in self._headers_received:
            return self._content(event.stream_id, event.data, event.end_stream)
        if self._is_client:
            self._headers_received[event.stream_id] = True
            headers = HeadersReceived(headers=[], stream_id=event.stream_id, stream_ended=False)
            return [headers, *self._content(event.stream_id, event.data, event.end_stream)]
        return self._request(event.stream_id, event.data, event.end_stream)

    def _content(self, stream_id: int, data: bytes, is_end: bool) -> list[H3Event]:
        if is_end:
            self._forget(stream_id)
        return [DataReceived(data=data, stream_id=stream_id, stream_ended=is_end)]

    def _request(self, stream_id: int, data: bytes, is_end: bool) -> list[H3Event]:
        """A part of a request line, or what comes after one."""
        buffered = self._buffer.pop(stream_id, b"")
        line, line_end, rest = (buffered + data).partition(b"\n")
        if not line_end and not is_end and len(line) <= MAX_REQUEST_LINE:
            self._buffer[stream_id] = line
            self._take(stream_id, len(data))
            return []
        self._take(stream_id, len(data) - len(rest))
        method, _, path = line.rstrip(b"\r").partition(b" ")
        if not method or not path or len(line) > MAX_REQUEST_LINE:
            self._refuse(stream_id)
            return []
        self._headers_received[stream_id] = True
        headers = HeadersReceived([(b":method", method), (b":path", path)], stream_id=stream_id, stream_ended=False)
        return [headers, *self._content(stream_id, rest, is_end)]

    def _take(self, stream_id: int, size: int) -> None:
        """So many bytes go no further: give their credit, where that is asked for."""
        if self._consume is not None and size:
            with suppress(ValueError):  # the stream's credit is not held
                self._consume(stream_id, size)

    def _refuse(self, stream_id: int) -> None:
        for verb in ("stop_stream", "reset_stream"):
            end = getattr(self._quic, verb, None)
            if end is not None:
                with suppress(ValueError, RuntimeError):  # that direction has ended
                    end(stream_id, MALFORMED_REQUEST)

    def _forget(self, stream_id: int) -> None:
        self._buffer.pop(stream_id, None)
        self._headers_received.pop(stream_id, None)

    def send_headers(self, stream_id: int, headers: Headers, end_stream: bool = False) -> None:
        """Client: send the request line that `:method` and `:path` say, and end the stream. Server: only end it, if told.

        Raises `ValueError` for a request without `:method` or `:path`, or with one that does not fit a line.
        """
        if not self._is_client:
            if end_stream:
                self._quic.send_stream_data(stream_id, b"", True)
            return
        fields = dict(headers)
        method, path = fields.get(b":method", b""), fields.get(b":path", b"")
        if not method or not path or b"\n" in method + path or b" " in method:
            raise ValueError(f"a request of HTTP/0.9 needs :method and :path, on one line: got {method!r} and {path!r}")
        self._quic.send_stream_data(stream_id, method + b" " + path + b"\r\n", True)

    def send_data(self, stream_id: int, data: bytes, end_stream: bool) -> None:
        """Send content, and with `end_stream` its end. A client has none to send: its request has ended with the line."""
        if not self._is_client:
            self._quic.send_stream_data(stream_id, data, end_stream)
