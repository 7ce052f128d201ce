"""A QUIC stream as asyncio has streams: a transport below a `StreamReader` and a `StreamWriter`.

`QuicStreamAdapter` is the transport. Its promises:

- What the peer sends waits in three places of bounded size: the reader's own buffer, which pauses this transport when it is
  full; the pieces that came meanwhile; and the flow control window, because only what went into the reader is credited. A
  reader that nobody reads therefore stops its peer.
- What is written is queued at once and sent at the end of this turn of the loop; all that is written in one turn goes together.
  `drain()` waits while the queue is full: it holds what the peer has not acknowledged. How much that is, the configuration's
  `send_buffer` says, or `set_write_buffer_limits()` for one stream.
- The end is told as what it was. `read()` gives EOF only after the peer's FIN; a reset, a lost connection and our own `abort()`
  are exceptions. `drain()` raises when the peer has asked us to stop, or the connection is lost. `wait_closed()` returns when
  all was acknowledged, and raises when it never will be.

Credit is held from the first data on, not before: a protocol that overrides `quic_event_received` takes the data from the
events, and is credited by taking them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from quicio import errors
from quicio.asyncio.transport import water_marks
from quicio.quic.connection import stream_is_client_initiated, stream_is_unidirectional

if TYPE_CHECKING:
    from quicio.asyncio.protocol import QuicConnectionProtocol

__all__ = ["QuicStreamAdapter", "QuicStreamWriter", "StreamReset", "StreamStopped"]

PIECE: Final = 64 * 1024  # bytes fed to a reader before it is asked again whether it is full

Broken = Callable[[], Exception]


class StreamReset(errors.StreamReset, ConnectionResetError):
    """The peer reset the stream, as a `ConnectionError`. Raised by the reader."""


class StreamStopped(errors.StreamStopped, BrokenPipeError):
    """The peer asked us to stop sending, as a `ConnectionError`. Raised by the writer."""


class StreamAborted(errors.QuicError, ConnectionAbortedError):
    """The stream was aborted on this side."""


class QuicStreamAdapter(asyncio.Transport):
    """The transport of one stream of `protocol`'s connection; what makes it go comes from the protocol's events."""

    def __init__(self, protocol: QuicConnectionProtocol, stream_id: int) -> None:
        super().__init__()
        self.protocol = protocol
        self.stream_id = stream_id
        is_local = stream_is_client_initiated(stream_id) == protocol._quic.configuration.is_client
        is_unidirectional = stream_is_unidirectional(stream_id)
        self._can_write = is_local or not is_unidirectional
        self._can_read = not is_local or not is_unidirectional
        self._closing = False
        self._loop = protocol._loop
        # receiving
        self._reader: asyncio.StreamReader | None = None
        self._pieces: deque[bytes] = deque()  # came while the reader was full
        self._size = 0  # of all pieces
        self._is_paused = False
        self._is_at_end = not self._can_read  # the FIN is in the reader, or an exception
        self._has_fin = False
        self._is_held = False
        self._credited = 0  # bytes that were credited before credit was held
        # sending
        self._is_delivered = not self._can_write  # nothing is left that the peer has to acknowledge
        self._broken: Broken | None = None
        self._is_stopped = False  # by the peer: what it acknowledges then is our reset
        self._low, self._high = self._usual_marks()
        self._waiters: set[asyncio.Future[None]] = set()

    # --- receiving: what the protocol tells --------------------------------------------------------------------------

    def set_reader(self, reader: asyncio.StreamReader) -> None:
        """Where data goes."""
        self._reader = reader
        reader.set_transport(self)
        if not self._can_read:
            reader.feed_eof()

    def data_received(self, data: bytes, is_end: bool) -> None:
        """Data and maybe the FIN came."""
        if self._is_at_end:
            return
        if not self._is_held:
            self._is_held = True
            self._credited = len(data)
            self.protocol._quic.hold_credit(self.stream_id)
        if data:
            self._pieces.append(data)
            self._size += len(data)
        self._has_fin = self._has_fin or is_end
        if not self._is_paused:
            self._feed()

    def _feed(self) -> None:
        """Give the reader what there is, until it is full; that gives the peer credit."""
        reader = self._reader
        assert reader is not None
        size = self._size
        while self._pieces and not self._is_paused:
            piece = self._pieces.popleft()
            if len(piece) > PIECE:
                self._pieces.appendleft(piece[PIECE:])
                piece = piece[:PIECE]
            self._size -= len(piece)
            reader.feed_data(piece)
        self._consume(size - self._size)
        if self._has_fin and not self._pieces and not self._is_at_end:
            self._is_at_end = True
            reader.feed_eof()
            self.protocol._forget_if_over(self)

    def _consume(self, size: int) -> None:
        credited = min(size, self._credited)
        self._credited -= credited
        if size > credited:
            self.protocol._quic.consume(self.stream_id, size - credited)
            self.protocol._send_soon()

    def reset_received(self, error_code: int) -> None:
        """The peer abandoned the stream."""
        reason = f"the peer reset stream {self.stream_id} with error code {error_code:#x}"
        self._end_reading(lambda: StreamReset(reason, code=error_code))

    def _end_reading(self, broken: Broken) -> None:
        if not self._is_at_end:
            self._is_at_end = True
            self._pieces.clear()
            self._size = 0
            if self._reader is not None:
                error = broken()
                self._reader.set_exception(error)
                # Again, in a moment: `readexactly` and `readuntil`, when data has woken them and they have not run yet, would
                # not look at the exception before they wait once more.
                self._loop.call_soon(self._reader.set_exception, error)
            self.protocol._forget_if_over(self)

    def connection_lost(self, broken: Broken) -> None:
        """The connection has ended; what was complete stays readable."""
        self._closing = True
        if not self._has_fin:
            self._end_reading(broken)
        self._broken = self._broken or broken
        self._wake()

    # --- receiving: what the reader asks -----------------------------------------------------------------------------

    def pause_reading(self) -> None:
        """The reader is full: what comes waits here, and its credit is withheld."""
        self._is_paused = True

    def resume_reading(self) -> None:
        """The reader has room again."""
        if self._is_paused:
            self._is_paused = False
            # Not at once: a reader that resumes is about to wait, and would not notice what it is fed meanwhile.
            self._loop.call_soon(self._resume)

    def _resume(self) -> None:
        if not self._is_paused and not self._is_at_end:
            self._feed()

    def is_reading(self) -> bool:
        """Whether data goes to the reader as it comes."""
        return not self._is_paused and not self._is_at_end

    # --- sending -----------------------------------------------------------------------------------------------------

    def can_write_eof(self) -> bool:
        """Whether the stream is of a kind that one can send on."""
        return self._can_write

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Queue data. `ValueError` on the peer's unidirectional stream, `RuntimeError` after the end or a reset."""
        self.protocol._quic.send_stream_data(self.stream_id, bytes(data))
        self.protocol._transmit_soon()

    def write_eof(self) -> None:
        """Queue the end of the stream. Nothing the second time."""
        if not self._closing:
            self._closing = True
            self.protocol._quic.send_stream_data(self.stream_id, b"", end_stream=True)
            self.protocol._transmit_soon()

    def close(self) -> None:
        """As `write_eof()`, on any stream, whatever has become of it."""
        if self._can_write and self._broken is None:
            with suppress(ValueError, RuntimeError):  # it has ended without us
                self.write_eof()
        self._closing = True

    def abort(self) -> None:
        """Give the stream up in both directions (RESET_STREAM and STOP_SENDING, RFC 9000 §3.5)."""
        quic = self.protocol._quic
        code = quic.configuration.codes.cancelled
        self._closing = True
        with suppress(ValueError):  # each direction may have ended
            quic.stop_stream(self.stream_id, code)
        with suppress(ValueError):
            quic.reset_stream(self.stream_id, code)
        aborted = f"stream {self.stream_id} was aborted"
        self._broken = self._broken or (lambda: StreamAborted(aborted, code=code))
        self._end_reading(lambda: StreamAborted(aborted, code=code))
        self._wake()
        self.protocol._transmit_soon()

    def is_closing(self) -> bool:
        """Whether the end was queued, or the connection has ended."""
        return self._closing

    def stop_received(self, error_code: int) -> None:
        """The peer reads no more; the core has answered with a reset."""
        self._closing = True
        text = f"the peer asked to stop sending on stream {self.stream_id}, with error code {error_code:#x}"
        self._broken = self._broken or (lambda: StreamStopped(text, code=error_code))
        self._is_stopped = True
        self._wake()

    def delivered(self) -> None:
        """The peer has acknowledged all, or our reset."""
        self._is_delivered = True
        self._wake()
        self.protocol._forget_if_over(self)

    def writable(self) -> None:
        """There is room again."""
        self._wake()

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _wait(self) -> None:
        waiter = self._loop.create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)

    async def drained(self) -> None:
        """Wait until there is room. Raises when nothing can be sent any more."""
        is_full = False  # once it was, there is room from the low mark on
        while True:
            is_whole = self._is_delivered and self._can_write and not self._is_stopped
            if self._broken is not None and not is_whole:
                raise self._broken()
            if self._is_delivered or self.get_write_buffer_size() <= (self._low if is_full else self._high):
                return
            is_full = True
            try:
                self.protocol._quic.want_room(self.stream_id, self._low)
            except (ValueError, RuntimeError):  # finished; or reset, which `delivered` or `stop_received` tell
                return
            await self._wait()

    async def delivery(self) -> None:
        """Wait until the peer has acknowledged all, after `close()`. Raises when it never will."""
        while not self._is_delivered:
            if self._broken is not None:
                raise self._broken()
            await self._wait()
        if self._broken is not None and isinstance(error := self._broken(), StreamStopped):
            raise error

    def is_over(self) -> bool:
        """Whether nothing more can happen to the stream."""
        return self._is_at_end and self._is_delivered

    # --- facts -------------------------------------------------------------------------------------------------------

    def get_write_buffer_size(self) -> int:
        """Bytes that the peer has not acknowledged."""
        return self.protocol._quic.send_buffered(self.stream_id)

    def _usual_marks(self) -> tuple[int, int]:
        size = self.protocol._quic.configuration.send_buffer
        return size - size // 4, size - 1

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """The low and the high water mark, in bytes."""
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Have `drain()` wait while more than `high` bytes are unacknowledged, until `low` are; `high=0` waits for all.

        Without `low` it is a quarter of `high`; without both the marks are those of `QuicConfiguration.send_buffer` again.
        Raises `ValueError` unless high >= low >= 0.
        """
        usual = high is None and low is None
        self._low, self._high = self._usual_marks() if usual else water_marks(high, low, 0)
        self._wake()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """`stream_id`, `peername`, `peercert` (the peer's certificate, an x509 object); and what the socket's transport has."""
        quic = self.protocol._quic
        if name == "stream_id":
            return self.stream_id
        if name == "peername":
            address = quic.get_peer_address()
            return default if address is None else address
        if name == "peercert":
            chain = quic.tls.peer_certificates
            return chain[0] if chain else default
        transport = self.protocol._transport
        return default if transport is None else transport.get_extra_info(name, default)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The protocol of the connection."""
        return self.protocol


class QuicStreamWriter(asyncio.StreamWriter):
    """A `StreamWriter` whose `drain()` and `wait_closed()` mean what they say."""

    def __init__(
        self, adapter: QuicStreamAdapter, reader: asyncio.StreamReader, loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__(adapter, adapter.protocol, reader, loop)
        self._adapter = adapter

    async def drain(self) -> None:
        """Wait until what was written before leaves room for more.

        Raises `StreamStopped` when the peer reads no more, and a `ConnectionLost` when the connection has ended.
        """
        await self._adapter.drained()

    async def wait_closed(self) -> None:
        """Wait until the peer has acknowledged all that was written, and the end. Raises as `drain()` when it never will."""
        await self._adapter.delivery()

    def __del__(self) -> None:
        """A writer that nobody has any more can write no more: its stream ends, on every version of Python."""
        adapter = self.__dict__.get("_adapter")
        if adapter is not None and not adapter.is_closing():
            with suppress(RuntimeError):  # the loop is closed
                adapter.protocol._loop.call_soon_threadsafe(
                    adapter.close
                )  # a collector may run in any thread, at any time
