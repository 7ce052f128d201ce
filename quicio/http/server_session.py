"""The server's side of an HTTP/3 connection: from streams that the peer opens to requests that wait for a handler.

Rules, which bound what a client can have going here (security rows 19, 20, 29):
- A stream counts against the client's limit until its handler has ended, whatever the client does to the stream. A stream
  on which no request ever comes is returned as soon as that is known.
- The header section must be there `HEADER_TIMEOUT` seconds after the stream's first byte, however slowly it trickles in or
  however long QPACK keeps it blocked; after that the answer is 408.
- A request that its client gives up before a handler took it is dropped, and never costs a handler.
- A shutdown announces itself by a GOAWAY that refuses nothing, and a round trip later by one that names the first request
  that will not be seen (RFC 9114 §5.2). What came before is served to the end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import anyio

from quicio.anyio.link import Link
from quicio.anyio.mailbox import Mailbox
from quicio.errors import QuicError
from quicio.h3.events import H3Event, HeadersReceived, StreamFailed
from quicio.http.session import H3_CODES, Exchange, Session
from quicio.quic import events as quic_events
from quicio.quic.configuration import QuicConfiguration
from quicio.quic.wire.rangeset import RangeSet

__all__ = ["HEADER_TIMEOUT", "ServerSession"]

HEADER_TIMEOUT: Final = 10.0  # seconds from the first byte of a request's stream to its header section
MAX_REQUEST_ID: Final = 2**62 - 4  # the GOAWAY that refuses nothing (RFC 9114 §5.2)


class ServerSession(Session):
    """The exchanges that a client begins."""

    def __init__(self, link: Link, configuration: QuicConfiguration, header_timeout: float = HEADER_TIMEOUT) -> None:
        super().__init__(link, configuration)
        self.requests: Mailbox[Exchange] = Mailbox("accepting requests from")
        self.shutting_down: anyio.Event = anyio.Event()
        self._header_timeout = header_timeout
        self._awaited: dict[int, float] = {}  # streams without a header section yet, and until when they may be so
        self._awaiting = anyio.Event()
        self._seen = RangeSet()  # requests' streams that came: late events are not new ones
        self._refused_from: int | None = None  # the final GOAWAY

    # --- events ------------------------------------------------------------------------------------------------------

    def handle_event(self, event: quic_events.QuicEvent) -> None:
        if isinstance(event, quic_events.StreamDataReceived) and event.stream_id & 3 == 0:
            self._note_stream(event.stream_id)
        super().handle_event(event)

    def _note_stream(self, stream_id: int) -> None:
        """Data on a request's stream: is it a new one?"""
        index = stream_id >> 2
        if index in self._seen:
            return
        self._seen.add(index, index + 1)
        if self._refused_from is not None and stream_id >= self._refused_from:
            self._release(stream_id)  # `H3Connection` refuses it
            return
        self._awaited[stream_id] = self.link.driver.now() + self._header_timeout
        self._awaiting.set()

    def handle_h3_event(self, event: H3Event) -> None:
        if isinstance(event, HeadersReceived) and event.stream_id in self._awaited:
            exchange = self.add(event.stream_id)
            super().handle_h3_event(event)
            self._stop_awaiting(event.stream_id)
            self.requests.put(exchange)
        else:
            super().handle_h3_event(event)

    def on_failed(self, event: StreamFailed) -> None:
        super().on_failed(event)
        self._drop(event.stream_id)

    def _on_reset(self, event: quic_events.StreamReset) -> None:
        super()._on_reset(event)
        self._drop(event.stream_id)

    def _on_stop_sending(self, event: quic_events.StopSendingReceived) -> None:
        super()._on_stop_sending(event)
        self._drop(event.stream_id)

    def _drop(self, stream_id: int) -> None:
        """The client gave a stream up: if no request has come on it, none will."""
        index = stream_id >> 2
        if stream_id in self._awaited:
            self.abort(stream_id, H3_CODES.cancelled)
            self._stop_awaiting(stream_id)
        elif stream_id & 3 == 0 and index not in self._seen:  # it never had data
            self._seen.add(index, index + 1)
            self.link.quic.reset_stream(stream_id, H3_CODES.cancelled)
            self.link.quic.stop_stream(stream_id, H3_CODES.cancelled)
        else:
            return
        self._release(stream_id)

    def _stop_awaiting(self, stream_id: int) -> None:
        del self._awaited[stream_id]
        self._end_if_done()

    def _release(self, stream_id: int) -> None:
        self.link.quic.release_stream(stream_id)
        self.link.touch()

    def let_go(self, exchange: Exchange) -> None:
        """Only now the client may open another stream in place of this one."""
        self._release(exchange.stream_id)

    def connection_lost(self) -> None:
        self._awaited.clear()
        self._awaiting.set()
        if not self.requests.is_ended:
            self.requests.end(anyio.EndOfStream)
        super().connection_lost()

    # --- tasks of the connection's scope -----------------------------------------------------------------------------

    async def watch_headers(self) -> None:
        """Answer 408 on streams whose header section does not come in time, until the connection ends."""
        while self.link.reason is None:
            if not self._awaited:
                self._awaiting = anyio.Event()
                await self._awaiting.wait()
                continue
            stream_id, deadline = next(iter(self._awaited.items()))  # all wait equally long: the oldest is the first
            if deadline > self.link.driver.now():
                await anyio.sleep_until(deadline)
                continue
            self.h3.send_headers(stream_id, [(b":status", b"408")], end_stream=True)
            self.abort(stream_id, H3_CODES.no_error)
            self._release(stream_id)
            self._stop_awaiting(stream_id)
            self.link.flush()

    async def shut_down(self) -> None:
        """When asked to, take no more requests: announce it, wait a round trip, and say from where on."""
        await self.shutting_down.wait()
        try:
            if self.link.reason is None:
                self.h3.goaway(MAX_REQUEST_ID)
                await self.link.ping()
                self.h3.goaway()
        except (QuicError, anyio.ClosedResourceError):
            return  # the connection has ended meanwhile
        self._refused_from = self.h3.sent_goaway
        self.link.flush()
        self._end_if_done()

    def _end_if_done(self) -> None:
        if self._refused_from is not None and not self._awaited and not self.requests.is_ended:
            self.requests.end(anyio.EndOfStream)

    @property
    def waiting_count(self) -> int:
        """How many streams have no header section yet."""
        return len(self._awaited)


SessionFactory = Callable[[Link], ServerSession]
