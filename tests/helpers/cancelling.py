"""One operation cancelled at each of its suspensions, in each way that its event loop knows; afterwards nothing is left.

`cancel_everywhere(prepare)` runs `prepare` anew for k = 1, 2, … until a run has ended before its k-th suspension. `prepare` is
an asynchronous context manager that gives a `Case`: the operation, what makes it end when it waits for something, and what must
hold after a cancellation. It asserts that

- the operation suspends at least once, also when it succeeds or fails (`assert_checkpoints`, for every backend);
- the cancellation was delivered at suspension k (on trio, whose checkpoint may take two, at most one later), and came out of
  the operation as a cancellation at once; what owns tasks (`is_scope`) ends them before it passes the cancellation on;
- `check` holds: the objects are usable, or closed, as documented;
- no task, descriptor or timer is left when all is closed.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import anyio
import anyio.lowlevel
import trio

from helpers.stepping import Stepping

MOST = 200  # suspensions of one operation: more would be one that never ends
LAST_STEPS = 2  # shielded suspensions in which a scope joins tasks that have ended
SETTLE = 0.002  # seconds that an operation waits before what it waits for happens


async def nothing() -> None:
    """No trigger, no check."""


@dataclass
class Case:
    """One run of an operation."""

    operation: Callable[[], Awaitable[Any]]
    trigger: Callable[[], Any] | None = None  # makes a waiting operation end; may be a coroutine function
    check: Callable[[], Awaitable[Any]] = nothing  # after a cancellation
    fails: type[BaseException] | tuple[type[BaseException], ...] = ()  # an error path: how it ends
    is_scope: bool = False  # it owns tasks, which it ends before it passes the cancellation on


Prepare = Callable[[], AbstractAsyncContextManager[Case]]


def _in_trio() -> bool:
    return trio.lowlevel.in_trio_run()


async def by_scope(case: Case, at: int) -> tuple[Stepping, bool]:
    """Cancelled by an anyio scope; on trio that is trio's own."""
    with anyio.CancelScope() as scope:
        stepping = Stepping(case.operation(), at, scope.cancel)
        await _run(stepping, case)
    return stepping, scope.cancelled_caught


async def by_task(case: Case, at: int) -> tuple[Stepping, bool]:
    """Cancelled by `Task.cancel()`."""
    made: list[Stepping] = []

    async def run() -> None:
        task = asyncio.current_task()
        assert task is not None
        made.append(Stepping(case.operation(), at, task.cancel))
        await _run(made[0], case)

    task = asyncio.create_task(run())
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()
    return made[0], task.cancelled()


async def by_timeout(case: Case, at: int) -> tuple[Stepping, bool]:
    """Cancelled by `asyncio.timeout()`."""
    loop = asyncio.get_running_loop()
    timeout = asyncio.timeout(None)

    def expire() -> None:
        timeout.reschedule(loop.time() - 1)

    stepping = Stepping(case.operation(), at, expire)
    try:
        async with timeout:
            await _run(stepping, case)
    except TimeoutError:
        if not timeout.expired():
            raise
        return stepping, True
    return stepping, False


async def _run(stepping: Stepping, case: Case) -> None:
    if case.fails:
        try:
            await stepping
        except case.fails:
            return
        raise AssertionError(f"the operation did not raise {case.fails}")
    await stepping


Way = Callable[[Case, int], Awaitable[tuple[Stepping, bool]]]


def ways() -> dict[str, Way]:
    """The ways to cancel on the event loop that runs."""
    found: dict[str, Way] = {"scope": by_scope}
    if not _in_trio():
        found |= {"task": by_task, "timeout": by_timeout}
    return found


async def cancel_everywhere(prepare: Prepare) -> int:
    """Cancel an operation at every suspension; returns how many there are."""
    counts = []
    for name, way in ways().items():
        at = 1
        while await _once(prepare, way, name, at):
            at += 1
            assert at < MOST, "the operation does not end"
        assert at > 1, f"by {name}: the operation ended without a checkpoint"
        counts.append(at - 1)
    return max(counts)


async def _once(prepare: Prepare, way: Way, name: str, at: int) -> bool:
    """One run, cancelled at suspension `at`; False when it had ended before."""
    before = await left_over()
    async with prepare() as case, anyio.create_task_group() as group:
        if case.trigger is not None:
            group.start_soon(_pull, case.trigger)
        stepping, is_cancelled = await way(case, at)
        group.cancel_scope.cancel()
        was_acted = stepping.suspensions >= at
        if was_acted:
            where = f"by {name} at {at}: landed at {stepping.landed}, {stepping.suspensions} suspensions"
            if case.is_scope:  # what ends its tasks may be done with it before it hears of the cancellation
                assert is_cancelled or stepping.suspensions <= at + LAST_STEPS, where
            else:
                # what the peer did may have woken the operation in this very turn: anyio lets it go on then
                may_race = case.trigger is not None or bool(case.fails)
                last = at + (1 if _in_trio() or may_race else 0)
                assert stepping.suspensions <= last, where
                assert is_cancelled or may_race, where
                assert not is_cancelled or (stepping.landed is not None and at <= stepping.landed <= last), where
            with anyio.CancelScope(shield=True), anyio.fail_after(10):
                await case.check()
    assert await left_over() == before, f"by {name} at {at}: something is left"
    return was_acted


async def _pull(trigger: Callable[[], Any]) -> None:
    await anyio.sleep(SETTLE)
    pulled = trigger()
    if pulled is not None:
        await pulled


async def left_over() -> tuple[int, int, int]:
    """Tasks, descriptors and timers there are, when what was cancelled has had its turn to end."""
    for _ in range(3):
        await anyio.lowlevel.checkpoint()
    descriptors = len(os.listdir("/proc/self/fd"))
    if _in_trio():
        known = trio.lowlevel.current_statistics()
        return known.tasks_living, descriptors, int(known.seconds_to_next_deadline != math.inf)
    timers = getattr(asyncio.get_running_loop(), "_scheduled", ())  # uvloop does not tell
    return len(asyncio.all_tasks()), descriptors, sum(not timer.cancelled() for timer in timers)
