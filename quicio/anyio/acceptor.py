"""Acceptors: the streams that the peer opens, as a listener and as an asynchronous iterator.

Two ways to take them: one by one (`receive`, `async for`), or `serve` with a handler, a task for each stream. They end when
the connection was closed on this side or cleanly by the peer; when it was lost, `ConnectionLost` is raised, after the
streams that had arrived before were taken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from anyio.abc import Listener, ObjectReceiveStream, TaskGroup
from anyio.lowlevel import checkpoint

from quicio.anyio.lifetime import Handler, OnError, log_error, serve_each
from quicio.anyio.mailbox import Mailbox
from quicio.anyio.stream import StreamFace
from quicio.anyio.stream_table import StreamState, StreamTable

__all__ = ["Acceptor"]

S = TypeVar("S", bound=StreamFace)


class Acceptor(ObjectReceiveStream[S], Listener[S], Generic[S]):
    """The peer's streams of one kind."""

    def __init__(
        self,
        table: StreamTable,
        mailbox: Mailbox[StreamState],
        kind: type[S],
        attributes: Mapping[Any, Callable[[], Any]],
    ) -> None:
        self._table = table
        self._mailbox = mailbox
        self._kind = kind
        self._attributes = attributes

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """The connection's attributes."""
        return self._attributes

    async def receive(self) -> S:
        """The next stream. Raises `EndOfStream` after a clean end, else `ConnectionLost`; `ClosedResourceError` after
        `aclose()`; `BusyResourceError` when another task is receiving."""
        return self._kind(self._table, await self._mailbox.get(), self._attributes)

    def receive_nowait(self) -> S:
        """As `receive`, but raises `WouldBlock` when no stream is waiting."""
        return self._kind(self._table, self._mailbox.get_nowait(), self._attributes)

    async def serve(
        self, handler: Handler[S], task_group: TaskGroup | None = None, *, on_error: OnError = log_error
    ) -> None:
        """Run `handler(stream)` in a task for each stream, until the connection ends.

        When a handler returns, its stream is closed gracefully; when it raises, the stream is reset. What the peer caused is
        logged; any other exception goes to `task_group` if given, else to `on_error(exception, stream)`: what that raises
        cancels the handlers and leaves from here. Without `task_group`, it returns when the handlers have.
        """

        async def run(stream: S) -> None:
            async with stream:
                await handler(stream)

        await serve_each(self._receive_all, run, task_group, on_error)

    async def _receive_all(self) -> list[S]:
        """The streams that are there, at least one."""
        await self._mailbox.wait()
        states = list(self._mailbox.items)
        self._mailbox.items.clear()
        return [self._kind(self._table, state, self._attributes) for state in states]

    async def aclose(self) -> None:
        """Take no more: streams that wait here, and those that come, are reset and stopped."""
        self._table.refuse(self._mailbox)
        await checkpoint()
