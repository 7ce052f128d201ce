"""A queue with one reader: what arrived and nobody has taken yet.

The driver's turn puts, a user's task takes. The queue itself is unbounded: who puts bounds it, by the peer's stream limit,
by dropping, or by refusing. Ending it keeps what came before (rule R5) unless it was closed on this side.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

import anyio
from anyio.lowlevel import checkpoint

__all__ = ["Mailbox"]

T = TypeVar("T")


class Mailbox(Generic[T]):
    """First in, first out. `end()` makes the readers raise once it is empty."""

    __slots__ = ("_error", "_guard", "_ready", "items")

    def __init__(self, action: str) -> None:
        self.items: deque[T] = deque()
        self._guard = anyio.ResourceGuard(action)
        self._ready: anyio.Event | None = None
        self._error: Callable[[], Exception] | None = None

    @property
    def is_ended(self) -> bool:
        """Whether nothing can be put any more."""
        return self._error is not None

    def put(self, item: T) -> None:
        """Append an item and wake the reader."""
        self.items.append(item)
        self._wake()

    def end(self, error: Callable[[], Exception]) -> None:
        """Nothing will follow: readers get what is there, then a new `error()` each."""
        self._error = error
        self._wake()

    def _wake(self) -> None:
        if self._ready is not None:
            self._ready.set()

    async def get(self) -> T:
        """Take the oldest item, waiting for one. A second task here raises `BusyResourceError`."""
        with self._guard:
            await checkpoint()
            while not self.items:
                if self._error is not None:
                    raise self._error()
                self._ready = anyio.Event()
                try:
                    await self._ready.wait()
                finally:
                    self._ready = None
            return self.items.popleft()

    def get_nowait(self) -> T:
        """Take the oldest item, or raise `WouldBlock`."""
        if self.items:
            return self.items.popleft()
        if self._error is not None:
            raise self._error()
        raise anyio.WouldBlock
