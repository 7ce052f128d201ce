"""Yielding and waiting, by the cheapest means of the event loop at hand.

Rule R1 asks every `async def` for a cancellation check before any effect and for one yield. anyio's own words for that look
the backend up at each call and, for a wait, make an event around an event; with ten of them in a request they cost more than
its packets do. Here the backend is looked up once, for a driver or a mailbox, and these things are what the loop itself has:

- `checkpoint()` yields once and raises when the task is cancelled: on asyncio a bare `yield` to the loop, on trio its own.
- `task_group()` is one for tasks that handle their exceptions themselves: anyio's own groups give every task a scope and an
  event, which costs more than a task does where a nursery needs neither.
- `waiter()` is one wait of one task, made when it has to wait: a future on asyncio, a parked task on trio. `await` it, and
  `wake()` it from the driver's turn. Awaiting it is a checkpoint, so a call that waits needs no other.

Cancellation reaches both as it reaches anyio's own events: on asyncio the scope cancels the task wherever it yields, on trio
yielding asks the scope. A waiter that was cancelled is done, and waking it does nothing.

Programs of one of the two load nothing of the other.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Awaitable, Callable, Generator
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Protocol

from anyio import create_task_group

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

__all__ = ["AsyncioWaiting", "TrioWaiting", "Waiter", "Waiting", "current_waiting", "wake"]


class Waiter(Awaitable[None]):
    """One wait of one task: the part of a future that is needed."""

    __slots__ = ()

    def done(self) -> bool:
        """Whether it was woken or cancelled."""
        raise RuntimeError("a waiter must define done()")

    def set_result(self, result: None) -> None:
        """Wake the task, once."""
        raise RuntimeError("a waiter must define set_result()")


class Group(Protocol):
    """What a task group and a nursery have in common."""

    @property
    def cancel_scope(self) -> Any:
        """The scope of its tasks."""

    def start_soon(self, work: Callable[..., Any], /, *arguments: Any) -> Any:
        """Run `work(*arguments)` in a task."""


class Waiting:
    """How tasks yield and wait on one event loop."""

    checkpoint: Callable[[], Awaitable[None]]
    task_group: Callable[[], AbstractAsyncContextManager[Group]]
    waiter: Callable[[], Waiter]
    now: Callable[[], float]


@types.coroutine
def yield_once() -> Generator[None, None, None]:
    """A turn of asyncio's loop, in which a cancellation is delivered."""
    yield


class AsyncioWaiting(Waiting):
    """On asyncio, whatever its loop."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self.loop = loop
        self.checkpoint = yield_once
        self.task_group = create_task_group
        self.waiter = loop.create_future  # type: ignore[assignment]  # a future has what a waiter has
        self.now = loop.time


class TrioWaiting(Waiting):
    """On trio."""

    def __init__(self, trio: Any) -> None:
        lowlevel = trio.lowlevel
        self.checkpoint = lowlevel.checkpoint
        self.task_group = trio.open_nursery
        self.waiter = lambda: ParkedTask(lowlevel)
        self.now = trio.current_time


class ParkedTask(Waiter):
    """A waiter on trio."""

    __slots__ = ("_is_done", "_task", "_trio")

    def __init__(self, lowlevel: Any) -> None:
        self._trio = lowlevel
        self._task: Any = None
        self._is_done = False

    def done(self) -> bool:
        return self._is_done

    def set_result(self, result: None) -> None:
        self._is_done = True
        if self._task is not None:
            self._trio.reschedule(self._task)

    def __await__(self) -> Generator[Any, Any, None]:
        if self._is_done:
            yield from self._trio.checkpoint().__await__()
            return
        self._task = self._trio.current_task()
        yield from self._trio.wait_task_rescheduled(self._give_up).__await__()

    def _give_up(self, raise_cancel: Callable[[], None]) -> Any:
        self._is_done = True
        return self._trio.Abort.SUCCEEDED


def wake(waiter: Waiter | None) -> None:
    """Wake who waits, if he still does."""
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


def current_waiting() -> Waiting:
    """That of the running task. `RuntimeError` outside of any event loop."""
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        return TrioWaiting(trio)
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        raise RuntimeError("no event loop is running")
    return AsyncioWaiting(asyncio.get_running_loop())
