"""What a connection hands out one by one, as trio channels: the peer's streams, and DATAGRAMs.

`Acceptor` is a `trio.abc.ReceiveChannel` of streams, with `serve` for a task each; `Datagrams` a `trio.abc.Channel` of
messages. Both are the anyio face's objects in trio's words: the queues, their bounds and their ends are those of
`quicio.anyio.mailbox` and `quicio.anyio.stream_table`.

The end of a channel is an end only when it is clean: closed on this side or by the peer with "no error". Then `receive`
raises `trio.EndOfChannel`, and `async for` stops; a connection that was lost raises `ConnectionLost`.
"""

from __future__ import annotations

from typing import Any, TypeVar, cast

import trio

from quicio.anyio import acceptor, datagrams
from quicio.anyio.halves import Data
from quicio.anyio.lifetime import Handler, OnError, log_error
from quicio.anyio.stream import StreamFace
from quicio.trio.errors import translated

__all__ = ["Acceptor", "Datagrams"]

S = TypeVar("S", bound=StreamFace)


class Acceptor(trio.abc.ReceiveChannel[S]):
    """The peer's streams of one kind."""

    def __init__(self, inner: acceptor.Acceptor[S]) -> None:
        self._inner = inner

    async def receive(self) -> S:
        """The next stream. Raises `trio.EndOfChannel` after a clean end, else `ConnectionLost`;
        `trio.ClosedResourceError` after `aclose()`; `trio.BusyResourceError` when another task is receiving."""
        with translated:
            return await self._inner.receive()

    def receive_nowait(self) -> S:
        """As `receive`, but raises `trio.WouldBlock` when no stream is waiting."""
        with translated:
            return self._inner.receive_nowait()

    async def serve(
        self, handler: Handler[S], handler_nursery: trio.Nursery | None = None, *, on_error: OnError = log_error
    ) -> None:
        """Run `handler(stream)` in a task for each stream, until the connection ends.

        When a handler returns, its stream is closed gracefully; when it raises, the stream is reset. What the peer caused
        is logged; any other exception goes to `handler_nursery` if given, else to `on_error(exception, stream)`: what that
        raises cancels the handlers and leaves from here. Without `handler_nursery`, it returns when the handlers have.
        """
        with translated:
            await self._inner.serve(handler, cast(Any, handler_nursery), on_error=on_error)

    async def aclose(self) -> None:
        """Take no more: streams that wait here, and those that come, are reset and stopped."""
        await self._inner.aclose()


class Datagrams(trio.abc.Channel[bytes]):
    """Messages that may be lost or reordered, each in one packet (RFC 9221)."""

    def __init__(self, inner: datagrams.Datagrams) -> None:
        self._inner = inner

    @property
    def max_size(self) -> int | None:
        """The largest message that fits now, in bytes; None when the peer takes none."""
        return self._inner.max_size

    async def send(self, value: Data) -> None:
        """Send one message, waiting for room in the queue.

        Raises `ValueError` when the message is too big or the peer takes none, `ConnectionLost`,
        `trio.ClosedResourceError`, `trio.BusyResourceError` when another task is sending.
        """
        with translated:
            await self._inner.send(value)

    def send_nowait(self, value: Data) -> None:
        """Send one message at once. Raises `trio.WouldBlock` when the queue is full, else as `send` does."""
        with translated:
            self._inner.send_nowait(value)

    async def receive(self) -> bytes:
        """The next message. Raises `ConnectionLost` once those that came before the loss were taken."""
        with translated:
            return await self._inner.receive()

    def receive_nowait(self) -> bytes:
        """As `receive`, but raises `trio.WouldBlock` when no message is waiting."""
        with translated:
            return self._inner.receive_nowait()

    async def aclose(self) -> None:
        """Take and send no more: messages that arrive are dropped. The connection stays open."""
        await self._inner.aclose()
