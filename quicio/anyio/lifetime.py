"""Rules on how scopes end, shared by everything that is entered with `async with`.

- Cancellation is recognised by the exception. After a native `Task.cancel()` no cancel scope is cancelled, and a checkpoint
  passes: asking scopes would take a cancelled body for one that ended well, and linger.
- A task group's `__aexit__` wraps what leaves it. `Scope` never shows it the body's exception: it cancels the group, leaves
  it with nothing, and lets the exception pass as the same object (rule R3).
- Handlers end as their objects do: gracefully when they return, reset when they raise. What the peer caused ends that
  handler alone; anything else goes to the caller's task group or to `on_error` (rule R7).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Generator, Iterable
from functools import partial
from types import TracebackType
from typing import Any, Generic, NoReturn, TypeVar

import anyio
from anyio.abc import TaskGroup

from quicio.anyio.waiting import Group, current_waiting
from quicio.errors import QuicError

__all__ = ["Handler", "OnError", "Scope", "is_cancellation", "log_error", "serve_each"]

logger: logging.Logger = logging.getLogger("quicio")

T = TypeVar("T")
Handler = Callable[[T], Awaitable[object]]
OnError = Callable[[Exception, Any], None]


def log_error(error: Exception, subject: Any) -> None:
    """The default `on_error`: log the exception that a handler raised, with its traceback."""
    logger.error("unhandled exception in the handler of %r", subject, exc_info=error)


def is_cancellation(error: BaseException) -> bool:
    """Whether `error` is a cancellation and nothing else; groups are looked into."""
    cancelled = anyio.get_cancelled_exc_class()
    if isinstance(error, BaseExceptionGroup):
        return error.split(cancelled)[1] is None
    return isinstance(error, cancelled)


def is_caused_by_peer(error: Exception) -> bool:
    """Whether `error` is what the peer or the network did to a handler; groups are looked into."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(QuicError)[1] is None
    return isinstance(error, QuicError)


class Scope(Generic[T]):
    """Base of the asynchronous context managers that own tasks: `connect`, `listen`, `open_endpoint`, `Incoming.accept`.

    A subclass gives `_enter` and `_leave`. `_leave` gets the body's exception or None; what it raises replaces it.
    """

    verb = "connect"

    def __await__(self) -> Generator[Any, Any, NoReturn]:
        raise TypeError(f"{self.verb}() owns tasks and cannot be awaited: write 'async with {self.verb}(...) as ...:'")

    async def __aenter__(self) -> T:
        return await self._enter()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        await self._leave(error)
        return False

    async def _enter(self) -> T:
        raise RuntimeError("a scope must define _enter()")

    async def _leave(self, error: BaseException | None) -> None:
        raise RuntimeError("a scope must define _leave()")


async def leave_group(group: TaskGroup) -> None:
    """Cancel a task group that was entered by hand, and wait for its tasks.

    It is shielded: its tasks are cancelled already, and an outer cancellation arrives with the exception that is leaving.
    """
    group.cancel_scope.shield = True
    group.cancel_scope.cancel()
    await group.__aexit__(None, None, None)


async def run_handler(run: Handler[T], item: T, on_error: OnError | None) -> None:
    """Run one handler; `on_error` None lets its exceptions pass, to the task group that the caller gave."""
    try:
        await run(item)
    except Exception as error:
        report(error, item, on_error)


def report(error: Exception, item: Any, on_error: OnError | None) -> None:
    """Do with a handler's exception what rule R7 says; call it where `error` is being handled."""
    if is_caused_by_peer(error):
        logger.info("the handler of %r ended: %s", item, error)
    elif on_error is None:
        raise error
    else:
        on_error(error, item)


def start(items: Iterable[T], group: TaskGroup | Group, handler: Callable[[T], Any]) -> None:
    """A task for each item. A frame of its own: one that waits for the next item would keep the last one alive."""
    for item in items:
        group.start_soon(handler, item)


async def serve_each(
    receive: Callable[[], Awaitable[Iterable[T]]], run: Handler[T], task_group: TaskGroup | None, on_error: OnError
) -> None:
    """Start a task with `run` for each of the items that `receive` gives at a time, until it raises `EndOfStream`.

    Without `task_group` the tasks are waited for, and what `on_error` raises leaves as itself, never in a group. With one,
    the tasks and their exceptions are that group's.
    """
    if task_group is not None:
        while True:
            try:
                start(await receive(), task_group, partial(run_handler, run, on_error=None))
            except anyio.EndOfStream:
                return
    crash: Exception | None = None
    end: Exception | None = None
    async with current_waiting().task_group() as group:

        async def guarded(item: T) -> None:
            nonlocal crash
            try:
                await run(item)
            except Exception as error:
                try:
                    report(error, item, on_error)
                except Exception as raised:
                    crash = crash or raised
                    group.cancel_scope.cancel()

        try:
            while True:
                start(await receive(), group, guarded)
        except anyio.EndOfStream:
            pass
        except Exception as error:  # lost, a socket that failed, a second task here: it leaves as itself, in no group
            end = error  # the handlers learn of it by themselves
    if crash is not None:
        raise crash
    if end is not None:
        raise end
