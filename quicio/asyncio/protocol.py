"""`QuicConnectionProtocol`: a QUIC connection as an asyncio datagram protocol.

There are two ways to drive one, and the protocol finds out when it is given its transport:

- *Batched*, on an `EngineTransport`: the engine moves whole bursts and the protocol is told that there may be events.
- *Singly*, everywhere else: `datagram_received` takes one datagram in, `transmit` sends one at a time with `sendto`, and
  a timer of its own is armed. So it works on a `DatagramTransport` that came from elsewhere, or a fake one. A subclass
  that overrides one of the methods of that pump (`PUMP`) is driven singly on any transport, and sees exactly the calls
  it expects.

What a subclass may rely on, either way:

- Events are handled one at a time: first here (waiters, streams that end), then in `quic_event_received`. What the method
  queues goes out after the last event without a call of `transmit()`; whatever is queued later needs that call. `transmit()`
  has sent when it returns, as far as the congestion controller permits.
- An exception in `quic_event_received` goes to the loop's exception handler, and the next event is handled.
- A connection has ended when a close was sent or received: that wakes all who wait, with an error. It has terminated when the
  closing period is over: `ConnectionTerminated` says so, and `wait_closed()` returns. After the end nothing raises but what
  waits.
- Tasks of stream handlers that are coroutine functions belong to the connection: they are cancelled when it has terminated, and
  `wait_closed()` waits for them, but not for one that will not end (`HANDLER_PATIENCE`).
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from typing import Any, Final, cast

from quicio.anyio.closing import connect_error, lost_error
from quicio.asyncio.stream import QuicStreamAdapter, QuicStreamWriter
from quicio.asyncio.transport import EngineTransport
from quicio.errors import CloseReason
from quicio.quic import events
from quicio.quic.connection import NetworkAddress, QuicConnection
from quicio.quic.events import QuicEvent
from quicio.quic.packet import QuicErrorCode
from quicio.udp.address import address_from_system

__all__ = [
    "QuicConnection",
    "QuicConnectionIdHandler",
    "QuicConnectionProtocol",
    "QuicErrorCode",
    "QuicStreamAdapter",
    "QuicStreamHandler",
]

logger: logging.Logger = logging.getLogger("quicio")

QuicConnectionIdHandler = Callable[[bytes], None]
QuicStreamHandler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]

PUMP: Final = ("datagram_received", "transmit", "_handle_timer", "_process_events")
HANDLER_PATIENCE: Final = 5.0  # seconds that handlers may take to end, once cancelled
NATIVE: Final = frozenset({events.ConnectionClosing, events.StreamDelivered, events.StreamWritable})


class QuicConnectionProtocol(asyncio.DatagramProtocol):
    """One QUIC connection on asyncio. Subclass it, and override `quic_event_received` to see the events.

    `stream_handler(reader, writer)` is called for each stream that the peer opens; a coroutine function runs in a task.
    """

    def __init__(self, quic: QuicConnection, stream_handler: QuicStreamHandler | None = None) -> None:
        loop = asyncio.get_running_loop()
        self._quic = quic
        self._loop = loop
        self._transport: asyncio.DatagramTransport | None = None
        self._stream_handler: QuicStreamHandler | None = stream_handler
        self._stream_readers: dict[int, asyncio.StreamReader] = {}
        self._adapters: dict[int, QuicStreamAdapter] = {}
        self._closed = asyncio.Event()
        self._connected = quic.is_handshake_complete
        self._connected_waiter: asyncio.Future[None] | None = None
        self._ping_waiters: dict[int, asyncio.Future[None]] = {}
        self._next_ping = 1
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: float | None = None
        self._transmit_task: asyncio.Handle | None = None
        self._events_handle: asyncio.Handle | None = None
        self._is_batched = False
        self._is_in_turn = False
        self._is_lost = False  # the connection has ended
        self._tasks: set[asyncio.Task[None]] = set()
        self._connection_id_issued_handler: QuicConnectionIdHandler = lambda cid: None
        self._connection_id_retired_handler: QuicConnectionIdHandler = lambda cid: None
        self._connection_terminated_handler: Callable[[], None] = lambda: None
        quic.use_waking_events()

    # --- what applications call --------------------------------------------------------------------------------------

    def change_connection_id(self) -> None:
        """Use another of the peer's connection IDs. Nothing when there is no other."""
        self._quic.change_connection_id()
        self.transmit()

    def close(self, error_code: int = QuicErrorCode.NO_ERROR, reason_phrase: str = "") -> None:
        """Close the connection with an application's error code. What was not sent is dropped. Harmless when closed."""
        self._quic.close(error_code=error_code, reason_phrase=reason_phrase)
        self.transmit()

    def connect(self, addr: NetworkAddress, transmit: bool = True) -> None:
        """Client: start the handshake with the server at `addr`; with `transmit` False nothing is sent yet.

        `RuntimeError` on a server, or the second time.
        """
        if isinstance(self._transport, EngineTransport):
            addr = address_from_system(addr)
        self._quic.connect(addr, now=self._loop.time())
        if transmit:
            self.transmit()

    async def create_stream(self, is_unidirectional: bool = False) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a stream. The peer learns of it with the first data; beyond its limit the stream waits without blocking."""
        stream_id = self._quic.get_next_available_stream_id(is_unidirectional=is_unidirectional)
        self._quic.send_stream_data(stream_id, b"")  # takes the ID
        return self._create_stream(stream_id)

    def request_key_update(self) -> None:
        """Update the packet protection keys, as soon as RFC 9001 §6.1 permits it."""
        self._quic.request_key_update()
        self.transmit()

    async def ping(self) -> None:
        """Wait until the peer has acknowledged a PING. `ConnectionError` when the connection has ended or ends."""
        if self._is_lost or self._quic.close_reason is not None:
            raise self._error()
        uid = self._next_ping
        self._next_ping += 1
        waiter = self._ping_waiters[uid] = self._loop.create_future()
        try:
            self._quic.send_ping(uid)
            self.transmit()
            await waiter
        finally:
            del self._ping_waiters[uid]

    def transmit(self) -> None:
        """Send what there is to send, now."""
        if self._transmit_task is not None:
            self._transmit_task.cancel()
            self._transmit_task = None
        if self._is_batched:
            cast(EngineTransport, self._transport).flush(self._quic)
        else:
            self._transmit_singly()
        if self._quic.close_reason is not None and not self._closed.is_set():
            self._process_soon()

    async def wait_closed(self) -> None:
        """Wait until the connection has terminated, and the tasks of its stream handlers have ended.

        They were cancelled; those that have not ended after five seconds are told to the loop's exception handler.
        """
        await self._closed.wait()
        others = self._tasks - {asyncio.current_task()}
        if others:
            _, stubborn = await asyncio.wait(others, timeout=HANDLER_PATIENCE)
            for task in stubborn & self._tasks:
                self._tasks.discard(task)
                self._report(f"a stream handler did not end when it was cancelled: {task}", TimeoutError())

    async def wait_connected(self) -> None:
        """Wait for the handshake. Raises a `quicio.ConnectError`, a `ConnectionError`, when it fails.

        `RuntimeError` when somebody else is waiting.
        """
        if self._connected:
            return
        if self._connected_waiter is not None:
            raise RuntimeError("somebody else awaits wait_connected() already")
        if self._is_lost or self._quic.close_reason is not None:
            raise self._error()
        self._connected_waiter = self._loop.create_future()
        try:
            await self._connected_waiter
        finally:
            self._connected_waiter = None

    # --- what the transport calls ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The transport to use: an `EngineTransport`, or anything with `sendto(data, addr)`."""
        self._transport = cast(asyncio.DatagramTransport, transport)
        if isinstance(transport, EngineTransport):
            own = QuicConnectionProtocol
            self._is_batched = all(getattr(type(self), name) is getattr(own, name) for name in PUMP)
            if self._is_batched:
                transport.attach(self._quic, self._process_events, self.connection_lost)
            else:
                transport.endpoint.divert(self._quic, self._take)

    def _take(self, received: Any) -> None:
        """Datagrams of a connection that is driven singly."""
        for datagram in received.datagrams:
            self.datagram_received(datagram, received.remote)

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is closed, and the connection over."""
        self._is_batched = False
        self._quic.abandon(f"the transport was closed{f': {exc}' if exc else ''}")
        if not self._closed.is_set():
            self._process_soon()

    def datagram_received(self, data: bytes | str, addr: NetworkAddress) -> None:
        """A datagram arrived from `addr`."""
        self._quic.receive_datagram(cast(bytes, data), addr, now=self._loop.time())
        self._process_events()
        self.transmit()

    def error_received(self, exc: Exception) -> None:
        """What the system says about one datagram is no reason to end the connection: timeouts will tell."""

    def quic_event_received(self, event: QuicEvent) -> None:
        """An event of the connection. Override it; without a call of this method there are no stream readers."""
        if isinstance(event, events.StreamDataReceived):
            adapter = self._adapters.get(event.stream_id)
            if adapter is None:
                adapter = self._accept_stream(event.stream_id)
            adapter.data_received(event.data, event.end_stream)

    # --- singly ------------------------------------------------------------------------------------------------------

    def _transmit_singly(self) -> None:
        now = self._loop.time()
        datagrams = self._quic.datagrams_to_send(now)
        transport = self._transport
        if transport is not None and not transport.is_closing():
            for data, addr in datagrams:
                transport.sendto(data, addr)
        timer_at = self._quic.get_timer()
        if timer_at != self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(timer_at, self._handle_timer) if timer_at is not None else None
            self._timer_at = timer_at

    def _handle_timer(self) -> None:
        now = max(self._timer_at or 0.0, self._loop.time())
        self._timer = None
        self._timer_at = None
        self._quic.handle_timer(now)
        self._process_events()
        self.transmit()

    def _transmit_soon(self) -> None:
        """Send at the end of this turn of the loop, once for all who ask."""
        if self._transmit_task is None:
            self._transmit_task = self._loop.call_soon(self._transmit_now)

    def _transmit_now(self) -> None:
        self._transmit_task = None
        self.transmit()

    def _send_soon(self) -> None:
        """As `_transmit_soon()`; while events are handled there is no need, a transmit follows."""
        if not self._is_in_turn:
            self._transmit_soon()

    # --- events ------------------------------------------------------------------------------------------------------

    def _process_soon(self) -> None:
        if self._events_handle is None:
            self._events_handle = self._loop.call_soon(self._process_now)

    def _process_now(self) -> None:
        self._events_handle = None
        self._process_events()

    def _process_events(self) -> None:
        if self._is_in_turn:  # asked for by a handler: the loop below goes on
            return
        self._is_in_turn = True
        try:
            event = self._quic.next_event()
            while event is not None:
                if type(event) is not events.StreamDataReceived:
                    self._note(event)
                if type(event) not in NATIVE:
                    try:
                        self.quic_event_received(event)
                    except Exception as error:
                        self._report("quic_event_received failed", error)
                event = self._quic.next_event()
        finally:
            self._is_in_turn = False

    def _note(self, event: QuicEvent) -> None:
        """What an event means to those who wait here."""
        if isinstance(event, events.StreamWritable):
            if event.stream_id in self._adapters:
                self._adapters[event.stream_id].writable()
        elif isinstance(event, events.StreamDelivered):
            if event.stream_id in self._adapters:
                self._adapters[event.stream_id].delivered()
        elif isinstance(event, events.StreamReset):
            if event.stream_id in self._adapters:
                self._adapters[event.stream_id].reset_received(event.error_code)
        elif isinstance(event, events.StopSendingReceived):
            if event.stream_id in self._adapters:
                self._adapters[event.stream_id].stop_received(event.error_code)
        elif isinstance(event, events.PingAcknowledged):
            settle(self._ping_waiters.get(event.uid))
        elif isinstance(event, events.HandshakeCompleted):
            self._connected = True
            settle(self._connected_waiter)
        elif isinstance(event, events.ConnectionIdIssued):
            self._connection_id_issued_handler(event.connection_id)
        elif isinstance(event, events.ConnectionIdRetired):
            self._connection_id_retired_handler(event.connection_id)
        elif isinstance(event, events.ConnectionClosing):
            self._note_lost()
        elif isinstance(event, events.ConnectionTerminated):
            self._note_lost()
            self._note_terminated()

    def _note_lost(self) -> None:
        """The connection has ended: wake all who wait, each with an error of its own."""
        if self._is_lost:
            return
        self._is_lost = True
        for waiter in (self._connected_waiter, *self._ping_waiters.values()):
            settle(waiter, self._error)
        for adapter in list(self._adapters.values()):
            adapter.connection_lost(self._error)

    def _note_terminated(self) -> None:
        self._closed.set()
        for task in self._tasks:
            task.cancel()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._is_batched and isinstance(self._transport, EngineTransport):
            self._transport.endpoint.forget(self._quic)
        self._connection_terminated_handler()

    def _error(self) -> Exception:
        """A new error for one who waited for the connection."""
        reason = self._quic.close_reason or CloseReason(0, False, False, "the connection has ended", None)
        cause = self._quic.close_cause
        if self._connected:
            return lost_error(reason, cause)
        return connect_error(reason, cause, is_heard=self._quic.statistics().packets_received > 0)

    def _report(self, message: str, error: BaseException) -> None:
        self._loop.call_exception_handler(
            {"message": message, "exception": error, "protocol": self, "transport": self._transport}
        )

    # --- streams -----------------------------------------------------------------------------------------------------

    def _create_stream(self, stream_id: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Reader and writer of a stream, whoever opened it."""
        adapter = QuicStreamAdapter(self, stream_id)
        reader = asyncio.StreamReader(loop=self._loop)
        self._adapters[stream_id] = adapter
        self._stream_readers[stream_id] = reader
        adapter.set_reader(reader)
        if self._is_lost:
            adapter.connection_lost(self._error)
        return reader, QuicStreamWriter(adapter, reader, self._loop)

    def _accept_stream(self, stream_id: int) -> QuicStreamAdapter:
        """The peer opened a stream: hand it to the handler, before its data."""
        reader, writer = self._create_stream(stream_id)
        adapter = self._adapters[stream_id]
        if self._stream_handler is None:
            return adapter
        try:
            result = self._stream_handler(reader, writer)
        except Exception as error:
            self._report("the stream handler failed", error)
            adapter.abort()
            return adapter
        if inspect.iscoroutine(result):
            task = self._loop.create_task(self._run_handler(result, adapter, writer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return adapter

    async def _run_handler(self, handler: Any, adapter: QuicStreamAdapter, writer: asyncio.StreamWriter) -> None:
        """A handler that is a coroutine: its stream ends as it does."""
        try:
            await handler
        except asyncio.CancelledError:
            adapter.abort()
            raise
        except Exception as error:
            if self._is_lost and isinstance(error, ConnectionError):
                logger.debug("a stream handler ended with its connection: %s", error)
            else:
                self._report("the stream handler failed", error)
            adapter.abort()
        else:
            writer.close()

    def _forget_if_over(self, adapter: QuicStreamAdapter) -> None:
        if adapter.is_over() and self._adapters.get(adapter.stream_id) is adapter:
            del self._adapters[adapter.stream_id]
            del self._stream_readers[adapter.stream_id]


def settle(waiter: asyncio.Future[None] | None, error: Callable[[], Exception] | None = None) -> None:
    """Wake one who waits, if he still does."""
    if waiter is not None and not waiter.done():
        if error is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(error())
