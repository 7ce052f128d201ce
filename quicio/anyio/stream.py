"""Streams, as users hold them: `Stream`, `SendStream`, `ReceiveStream`.

They are anyio byte streams; what they do is in `halves`. The bases of the three (`StreamFace`, `SendFace`, `ReceiveFace`) serve
quicio.trio as well: what can raise is above them. A face adds the rules on how it ends: left normally, a stream is
closed gracefully (FIN, and STOP_SENDING if something is unread); left by an exception or a cancellation it is reset and
stopped, so the peer never takes what is truncated for whole. A face that is dropped without being closed gives a
`ResourceWarning` and is reset in the driver's next turn, never finished (rules R4 and R6).

Generic wrappers, such as `anyio.streams.text.TextStream`, call `aclose()` on exceptions too: then the peer sees a FIN.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import anyio
from anyio.abc import ByteReceiveStream, ByteSendStream, ByteStream

from quicio.anyio.attributes import QuicAttribute
from quicio.anyio.halves import Data, ReceivingHalf, SendingHalf
from quicio.anyio.lifetime import is_cancellation
from quicio.anyio.stream_table import StreamState, StreamTable

__all__ = ["Data", "Priority", "ReceiveFace", "ReceiveStream", "SendFace", "SendStream", "Stream", "StreamFace"]


@dataclass(frozen=True)
class Priority:
    """How a stream shares the connection with others (RFC 9218 §4): urgency 0 (first) to 7 (last); incremental streams of
    one urgency take turns, the others go one after the other."""

    urgency: int = 3
    incremental: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.urgency <= 7:
            raise ValueError("urgency must be between 0 and 7 (RFC 9218 §4.1)")


DEFAULT_PRIORITY: Final = Priority()


class StreamFace:
    """What all streams share: identity, attributes, and how they end."""

    def __init__(self, table: StreamTable, state: StreamState, attributes: Mapping[Any, Callable[[], Any]]) -> None:
        self._table = table
        self._state = state
        self._attributes = attributes

    @property
    def id(self) -> int:
        """The stream's ID (RFC 9000 §2.1)."""
        return self._state.stream_id

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """The connection's attributes, and the stream's ID."""
        return {**self._attributes, QuicAttribute.stream_id: lambda: self.id}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id}>"

    async def aclose(self) -> None:
        """Close gracefully: FIN, and STOP_SENDING if something is unread. Cancelled: reset at once."""
        try:
            await self._table.link.driver.waiting.checkpoint()
        except anyio.get_cancelled_exc_class():
            self._abandon(self._table.codes.cancelled)
            raise
        if self._state.receiving is not None:
            self._state.receiving.close()
        if self._state.sending is not None:
            self._state.sending.close()
        self._table.link.driver.settle_soon()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            await self.aclose()
            return
        codes = self._table.codes
        self._abandon(codes.cancelled if is_cancellation(error) else codes.internal_error)

    def _abandon(self, code: int) -> None:
        self._state.abandon(code)
        self._settle()

    def _settle(self) -> None:
        self._table.link.driver.settle()

    def __del__(self) -> None:
        state = getattr(self, "_state", None)
        if state is None or state.is_closed:
            return
        table = self._table
        if not state.is_done:
            warnings.warn(f"{self!r} was never closed: use 'async with'", ResourceWarning, stacklevel=2, source=self)
        if not table.link.driver.is_stopped:
            table.link.driver.abandoned.append(lambda: state.abandon(table.codes.internal_error))


class SendFace(StreamFace):
    """What streams share that can be sent on."""

    def __init__(self, table: StreamTable, state: StreamState, attributes: Mapping[Any, Callable[[], Any]]) -> None:
        super().__init__(table, state, attributes)
        assert state.sending is not None
        self._sending: SendingHalf = state.sending
        self._priority = DEFAULT_PRIORITY

    @property
    def priority(self) -> Priority:
        """How the stream shares the connection with others; may be set at any time."""
        return self._priority

    @priority.setter
    def priority(self, priority: Priority) -> None:
        self._priority = priority
        if not self._sending.is_done:
            self._table.link.quic.set_priority(self.id, priority.urgency, priority.incremental)

    def reset(self, code: int) -> None:
        """Abandon the sending half: the peer drops what it has not read (RFC 9000 §19.4)."""
        self._sending.reset(code)
        self._settle()


class SendStream(SendFace, ByteSendStream):
    """The sending half of a stream. The peer sees it with the first byte, or with `announce()`."""

    async def send(self, item: Data) -> None:
        """Send all of `item`, waiting while `send_buffer` is full. Only `bytes` is kept by reference.

        When it is cancelled, how much was sent is unknown: the stream can then only be closed, which resets it, or reset.

        Raises `StreamStopped` when the peer no longer reads, `ConnectionLost`, `ClosedResourceError` after the FIN or a
        close on this side, `BusyResourceError` when another task is sending.
        """
        await self._sending.send(item)

    async def send_some(self, item: Data) -> int:
        """Send at least one byte of `item` and return how many were taken; when it is cancelled, none were.

        Raises as `send` does.
        """
        return await self._sending.send_some(item)

    def send_nowait(self, item: Data) -> int:
        """Send as much of `item` as there is room for and return its size. Raises `WouldBlock` when there is none."""
        return self._sending.send_nowait(item)

    async def send_eof(self) -> None:
        """Send the FIN: nothing follows (RFC 9000 §3.1). Idempotent."""
        await self._sending.send_eof()

    def announce(self) -> None:
        """Make the stream visible to the peer before anything is sent on it (an empty STREAM frame)."""
        self._sending.announce()
        self._settle()

    async def wait_delivered(self) -> None:
        """Wait until the peer has acknowledged all data and the FIN.

        Raises `StreamStopped`, `ConnectionLost`, or `ClosedResourceError` when the stream was reset on this side.
        """
        await self._sending.wait_delivered()

    async def wait_stopped(self) -> int | None:
        """Wait until the peer asks not to send any more and return its code; None when all was delivered first."""
        return await self._sending.wait_stopped()


class ReceiveFace(StreamFace):
    """What streams share that can be received from."""

    def __init__(self, table: StreamTable, state: StreamState, attributes: Mapping[Any, Callable[[], Any]]) -> None:
        super().__init__(table, state, attributes)
        assert state.receiving is not None
        self._receiving: ReceivingHalf = state.receiving

    @property
    def early_data(self) -> bool:
        """Whether some of what arrived came as early data, before the handshake was complete. Whoever saw it on its way can
        send it to a server again (RFC 9001 §9.2): act on it only if doing so twice does no harm, or wait for
        `Connection.wait_handshake()`."""
        return self._receiving.is_early

    def stop(self, code: int) -> None:
        """Read no more: unread data is dropped and the peer asked to stop sending (RFC 9000 §19.5)."""
        self._receiving.stop(code)
        self._settle()


class ReceiveStream(ReceiveFace, ByteReceiveStream):
    """The receiving half of a stream."""

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """The next bytes: at least one, at most `max_bytes`. What is taken, the peer may send again.

        On an own stream that the peer cannot know of yet, it is announced first.

        Raises `EndOfStream` after the FIN and never otherwise, `StreamReset`, `ConnectionLost` once all that came before
        the loss was read, `ClosedResourceError` after a close on this side, `BusyResourceError` when another task receives.
        """
        return await self._receiving.receive(max_bytes)

    def receive_nowait(self, max_bytes: int = 65536) -> bytes:
        """As `receive`, but raises `WouldBlock` when nothing is there."""
        return self._receiving.receive_nowait(max_bytes)


class Stream(SendStream, ReceiveStream, ByteStream):
    """A bidirectional stream."""
