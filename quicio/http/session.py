"""HTTP/3 as the application on a connection: events of `H3Connection` become wake-ups of tasks, and back.

A `Session` owns the `H3Connection` of one connection and the table of its exchanges: an `Exchange` is a request and its
response on one stream. It runs inside the driver's turn and never waits (see `quicio.anyio.application`); the tasks that
wait belong to the client's requests and the server's handlers, each in a scope of its user.

Rules:
- An exchange is in the table from its start until its user closes it. Closing it ends both directions in whatever way is
  right by then, and on the server returns the stream's place to the peer: not before, so that what handlers still work on
  counts against the peer's limit (security row 19).
- Every event that the peer causes reaches the exchange it concerns, or nobody: events of streams that are not in the
  table are dropped here, after `H3Connection` has seen them.
- What ends an exchange cancels its handler first and wakes waiters second: a handler that waits on it is cancelled as well,
  and only what is shielded from that hears the error.
- The graceful end waits until what was sent is acknowledged. When the peer closes cleanly first, it has what it wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import anyio

from quicio.anyio.application import Application
from quicio.anyio.link import Link
from quicio.errors import StreamReset
from quicio.h3.connection import H3Connection
from quicio.h3.events import DataReceived, GoawayReceived, H3Event, Headers, HeadersReceived, StreamFailed
from quicio.h3.exceptions import ErrorCode
from quicio.h3.headers import is_interim_response
from quicio.http.errors import MalformedMessage, RequestRejected
from quicio.http.receiving import ReceivingMessage
from quicio.http.sending import SendingMessage
from quicio.quic import events as quic_events
from quicio.quic.configuration import ErrorCodes, QuicConfiguration

__all__ = ["H3_CODES", "ClientSession", "Exchange", "Session", "status_of"]

#: the codes by which HTTP/3 connections and requests end (RFC 9114 §8.1)
H3_CODES: Final = ErrorCodes(
    no_error=ErrorCode.H3_NO_ERROR,
    internal_error=ErrorCode.H3_INTERNAL_ERROR,
    cancelled=ErrorCode.H3_REQUEST_CANCELLED,
)

# How often, while a window of data is taken, the driver is asked to send what credit is due: not for every few bytes.
GRANTS_PER_WINDOW: Final = 16


def status_of(headers: Headers) -> int:
    """The status of a response that `H3Connection` has validated."""
    return int(dict(headers)[b":status"])


class Exchange:
    """A request and its response."""

    __slots__ = ("given_up", "on_given_up", "receiving", "sending", "session", "stream_id")

    def __init__(self, session: Session, stream_id: int) -> None:
        self.session: Session = session
        self.stream_id: int = stream_id
        self.receiving: ReceivingMessage = ReceivingMessage(session, stream_id)
        self.sending: SendingMessage = SendingMessage(session, stream_id)
        self.given_up: bool = False  # the peer no longer wants it, or the connection was lost
        self.on_given_up: Callable[[], None] | None = None

    def give_up(self) -> None:
        """The peer no longer wants it."""
        self.given_up = True
        if self.on_given_up is not None:
            self.on_given_up()

    def stop_reading(self) -> None:
        """Read no more of the peer's message; this side's goes on (RFC 9114 §4.1)."""
        if not self.receiving.is_closed:
            self.session.h3.stop_reading(self.stream_id)
            self.receiving.close()
            self.session.link.flush()

    def close(self, code: int) -> None:
        """End it: what is not complete in either direction is aborted with `code`."""
        if self.session.exchanges.pop(self.stream_id, None) is None:
            return
        if self.session.link.reason is None:
            self.session.abort(self.stream_id, code)
            self.session.let_go(self)
        self.receiving.close()
        self.sending.close()
        self.session.link.driver.settle()


class Session(Application):
    """One side of an HTTP/3 connection."""

    def __init__(self, link: Link, configuration: QuicConfiguration) -> None:
        self.link = link
        self.h3: H3Connection = self._make_h3()
        self.exchanges: dict[int, Exchange] = {}
        self.undelivered: set[int] = set()  # streams whose message was finished and is not acknowledged
        self.attributes: Mapping[Any, Callable[[], Any]] = {}
        self._all_delivered = anyio.Event()
        self._taken = 0  # bytes taken since the driver was last asked to send credit
        self._taken_limit = min(configuration.max_data, configuration.max_stream_data) // GRANTS_PER_WINDOW
        self._handlers: dict[type[quic_events.QuicEvent], Callable[[Any], None]] = {
            quic_events.StreamWritable: self._on_writable,
            quic_events.StreamDelivered: self._on_delivered,
            quic_events.StreamReset: self._on_reset,
            quic_events.StopSendingReceived: self._on_stop_sending,
        }

    def _make_h3(self) -> H3Connection:
        return H3Connection(self.link.quic)

    # --- what exchanges ask ------------------------------------------------------------------------------------------

    def add(self, stream_id: int) -> Exchange:
        """Begin an exchange."""
        exchange = self.exchanges[stream_id] = Exchange(self, stream_id)
        return exchange

    def abort(self, stream_id: int, code: int) -> None:
        """Abort what is open of a stream in either direction."""
        self.h3.cancel_stream(stream_id, ErrorCode(code))
        self.link.touch()

    def let_go(self, exchange: Exchange) -> None:
        """The user of an exchange is done with it."""

    def grant(self, stream_id: int, size: int) -> None:
        """Content was taken: the peer may send as much again (RFC 9000 §4.2)."""
        if self.link.reason is not None:
            return
        self.link.quic.consume(stream_id, size)
        self.link.touch()
        self._taken += size
        if self._taken >= self._taken_limit:
            self._taken = 0
            self.link.driver.settle()

    # --- events ------------------------------------------------------------------------------------------------------

    def handle_event(self, event: quic_events.QuicEvent) -> None:
        for found in self.h3.handle_event(event):
            self.handle_h3_event(found)
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(event)

    def handle_h3_event(self, event: H3Event) -> None:
        """Take one event of HTTP/3."""
        if isinstance(event, DataReceived):
            exchange = self.exchanges.get(event.stream_id)
            if exchange is not None:
                if event.data:
                    exchange.receiving.on_content(event.data)
                if event.stream_ended:
                    exchange.receiving.on_end()
        elif isinstance(event, HeadersReceived):
            self._on_headers(event)
        elif isinstance(event, StreamFailed):
            self.on_failed(event)
        elif isinstance(event, GoawayReceived):
            self.on_goaway(event.identifier)

    def _on_headers(self, event: HeadersReceived) -> None:
        exchange = self.exchanges.get(event.stream_id)
        if exchange is None:
            return
        receiving = exchange.receiving
        if receiving.headers is None and is_interim_response(event.headers):
            if not receiving.on_informational(status_of(event.headers), event.headers):
                self._overload(exchange)
            return
        receiving.on_headers(event.headers)
        if event.stream_ended:
            receiving.on_end()

    def _overload(self, exchange: Exchange) -> None:
        code = ErrorCode.H3_EXCESSIVE_LOAD
        self.abort(exchange.stream_id, code)
        exchange.receiving.fail(lambda: MalformedMessage("the peer sends too many interim responses", code=code))

    def on_failed(self, event: StreamFailed) -> None:
        """A message broke a rule: its stream was aborted."""
        exchange = self.exchanges.get(event.stream_id)
        if exchange is not None:
            text = f"the peer's message is malformed: {event.reason}"
            exchange.give_up()
            exchange.receiving.fail(lambda: MalformedMessage(text, code=event.error_code))
            exchange.sending.on_stopped(event.error_code)

    def on_goaway(self, identifier: int) -> None:
        """The peer is shutting down."""

    def _on_writable(self, event: quic_events.StreamWritable) -> None:
        exchange = self.exchanges.get(event.stream_id)
        if exchange is not None:
            exchange.sending.on_writable()

    def _on_delivered(self, event: quic_events.StreamDelivered) -> None:
        self._settle_delivery(event.stream_id)

    def _on_reset(self, event: quic_events.StreamReset) -> None:
        exchange = self.exchanges.get(event.stream_id)
        if exchange is not None and not exchange.receiving.is_closed:  # else it answers our own wish to read no more
            exchange.give_up()
            exchange.receiving.fail(lambda: reset_error(event.stream_id, event.error_code))

    def _on_stop_sending(self, event: quic_events.StopSendingReceived) -> None:
        self._settle_delivery(event.stream_id)
        exchange = self.exchanges.get(event.stream_id)
        if exchange is not None:
            exchange.give_up()
            exchange.sending.on_stopped(event.error_code)

    def connection_lost(self) -> None:
        for exchange in list(self.exchanges.values()):
            exchange.give_up()
            exchange.receiving.wake()
            exchange.sending.wake()
        self._all_delivered.set()

    # --- the graceful end --------------------------------------------------------------------------------------------

    def _settle_delivery(self, stream_id: int) -> None:
        self.undelivered.discard(stream_id)
        if not self.undelivered:
            self._all_delivered.set()

    async def finish(self) -> None:
        self.link.driver.settle()
        while self.undelivered and self.link.reason is None:
            if self._all_delivered.is_set():  # another task may be waiting
                self._all_delivered = anyio.Event()
            await self._all_delivered.wait()

    def undelivered_count(self) -> int:
        reason = self.link.reason
        if reason is not None and reason.by_peer and reason.code == H3_CODES.no_error:
            return 0
        return len(self.undelivered)


def reset_error(stream_id: int, code: int) -> Exception:
    """A new error for a message that its sender gave up."""
    if code == ErrorCode.H3_REQUEST_REJECTED:
        return RequestRejected("the server did not process the request: it can be made again", code=code)
    return StreamReset(f"the peer reset stream {stream_id} with error code {code:#x}", code=code)


class _ClientH3(H3Connection):
    """A client that takes no pushes: it allows none (RFC 9114 §4.6)."""

    def _init_connection(self) -> None:
        self._pushes.maximum = None
        super()._init_connection()


class ClientSession(Session):
    """The client's side: its exchanges begin here, and a GOAWAY sends some of them elsewhere."""

    def _make_h3(self) -> H3Connection:
        return _ClientH3(self.link.quic)

    @property
    def is_going_away(self) -> bool:
        """Whether the server takes no new requests."""
        return self.h3.received_goaway is not None

    async def open(self) -> Exchange:
        """Begin an exchange; waits for the server's limit of streams. Raises `RequestRejected` after a GOAWAY."""
        if not self.is_going_away:
            try:
                exchange = self.add(await self.link.open(False))
            except anyio.BrokenResourceError:
                if self.h3.received_goaway is None:
                    raise
            else:
                if self.h3.received_goaway is None:
                    return exchange
                exchange.close(H3_CODES.cancelled)  # GOAWAY came while this task waited
        raise RequestRejected("the server takes no new requests on this connection: make another")

    def let_go(self, exchange: Exchange) -> None:
        """A stream that was opened for a request that could not be sent is given back: the server's limit counts it."""
        if not exchange.sending.is_started:
            self.link.quic.reset_stream(exchange.stream_id, H3_CODES.cancelled)
            self.link.quic.stop_stream(exchange.stream_id, H3_CODES.cancelled)
            self.link.touch()

    def on_goaway(self, identifier: int) -> None:
        """RFC 9114 §5.2: requests from `identifier` on were not processed, and will not be."""
        for stream_id, exchange in list(self.exchanges.items()):
            if stream_id >= identifier:
                self.abort(stream_id, H3_CODES.cancelled)
                exchange.receiving.fail(
                    lambda: RequestRejected("the server is shutting down: the request was not seen")
                )
                exchange.sending.on_stopped(H3_CODES.cancelled)

    def undelivered_count(self) -> int:
        """Nothing: whoever needed an answer has waited for it."""
        return 0
