"""A queue with one reader: what arrived and nobody has taken yet.

The driver's turn puts, a user's task takes. The queue itself is unbounded: who puts bounds it, by the peer's stream limit,
by dropping, or by refusing. Ending it keeps what came before (rule R5) unless it was closed on this side.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

import anyio

from quicio.anyio.waiting import Waiter, current_waiting, wake

__all__ = ["Mailbox"]

T = TypeVar("T")


class Mailbox(Generic[T]):
    """First in, first out. `end()` makes the readers raise once it is empty."""

    __slots__ = ("_action", "_error", "_is_busy", "_items", "_ready")

    def __init__(self, action: str) -> None:
        self._items: deque[T] | None = None  # made when something is put: an empty one takes 600 bytes
        self._action = action
        self._is_busy = False  # a task takes
        self._ready: Waiter | None = None
        self._error: Callable[[], Exception] | None = None

    @property
    def items(self) -> deque[T]:
        """What nobody has taken, the oldest first."""
        if self._items is None:
            self._items = deque()
        return self._items

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
        wake(self._ready)

    async def get(self) -> T:
        """Take the oldest item, waiting for one. A second task here raises `BusyResourceError`."""
        await self.wait()
        return self.items.popleft()

    async def wait(self) -> None:
        """Wait until an item is there: all that are may then be taken at once. Raises as `get` does."""
        if self._is_busy:
            raise anyio.BusyResourceError(self._action)
        self._is_busy = True
        waiting = current_waiting()
        try:
            if self._items or self._error is not None:
                await waiting.checkpoint()
            while not self._items:
                if self._error is not None:
                    raise self._error()
                self._ready = waiting.waiter()
                try:
                    await self._ready
                finally:
                    self._ready = None
        finally:
            self._is_busy = False

    def get_nowait(self) -> T:
        """Take the oldest item, or raise `WouldBlock`."""
        if self._items:
            return self.items.popleft()
        if self._error is not None:
            raise self._error()
        raise anyio.WouldBlock
