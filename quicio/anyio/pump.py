"""The wake-ups of a driver: its socket is readable or writable, a time has come, somebody wants to send soon.

A driver is synchronous; a pump calls it. There are two, because what is cheap differs:

- `LoopPump`, on asyncio loops that have `add_reader`: callbacks of the loop, and no task at all. A persistent reader costs a
  sixth of a task that waits for each burst, and a connection does not pay for tasks that come and go.
- `TaskPump`, on trio, and on asyncio loops without it (Windows' proactor): tasks in the task group of the scope that owns the
  driver. One reads, one sleeps until the deadline, one settles; a fourth waits for a socket that would block, while it does.

Rules:
- "Soon" is two turns of the scheduler after it was first asked for. A task that sends, yields, and sends again is heard in
  full, and so are all others that run meanwhile: one datagram carries what they want to send.
- A deadline that moves away does not disturb the wait: it is looked at when the earlier time has come. Deadlines mostly move
  away, with each acknowledgement.
- A pump never raises into the task group, whose host is the user's body: what its loops raise fails the driver.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from math import inf
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import TaskGroup

from quicio.anyio.waiting import AsyncioWaiting, Waiter, Waiting, wake

if TYPE_CHECKING:
    import asyncio

    from quicio.anyio.driver import Driver

__all__ = ["LoopPump", "Pump", "TaskPump", "start_pump"]


class Pump:
    """Wakes one driver up, until it is stopped."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._engine = driver.engine
        self.is_settling: bool = False  # somebody wants to send soon

    def look(self) -> None:
        """A turn is over: see whether the deadline has come nearer, and whether the socket would block."""
        raise RuntimeError("a pump must define look()")

    def settle_soon(self) -> None:
        """Call `Driver.settle` soon."""
        raise RuntimeError("a pump must define settle_soon()")

    def leave_socket(self) -> None:
        """The engine's socket is about to be exchanged or closed: wait for it no more."""
        raise RuntimeError("a pump must define leave_socket()")

    def take_socket(self) -> None:
        """The engine has another socket: wait for that."""
        raise RuntimeError("a pump must define take_socket()")

    def stop(self) -> None:
        """Wake nobody any more. What is left to do for the socket, `leave_socket` does."""
        raise RuntimeError("a pump must define stop()")


class LoopPump(Pump):
    """Callbacks of an asyncio loop. Making it raises `NotImplementedError` where the loop has no `add_reader`."""

    def __init__(self, driver: Driver, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(driver)
        self._loop = loop
        self._fileno = -1
        self._armed = inf  # when the timer fires
        self._timer: asyncio.TimerHandle | None = None
        self._is_writing = False
        self._last_error: OSError | None = None
        self.take_socket()

    def look(self) -> None:
        engine = self._engine
        deadline = engine.deadline
        if deadline < self._armed:
            self._arm(deadline)
        if engine.is_blocked and not self._is_writing:
            self._is_writing = True
            self._loop.add_writer(self._fileno, self._on_writable)
        if engine.last_error is not self._last_error:
            # libuv, and so uvloop, takes an error for the end of the descriptor and stops looking at it.
            self._last_error = engine.last_error
            self._loop.remove_reader(self._fileno)
            self._loop.add_reader(self._fileno, self._driver.read)

    def _on_writable(self) -> None:
        self._is_writing = False
        self._loop.remove_writer(self._fileno)
        self._driver.settle()  # which waits again if need be

    def _arm(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed = deadline
        self._timer = self._loop.call_at(deadline, self._on_time)

    def _on_time(self) -> None:
        now = max(self._armed, self._loop.time())  # a loop's clock may be coarser than its timers
        self._armed = inf
        self._timer = None
        deadline = self._engine.deadline
        if deadline <= now:
            self._driver.expire(now)
        elif deadline < inf:
            self._arm(deadline)

    def settle_soon(self) -> None:
        if not self.is_settling:
            self.is_settling = True
            self._loop.call_soon(self._loop.call_soon, self._settle)

    def _settle(self) -> None:
        self.is_settling = False
        self._driver.settle()

    def take_socket(self) -> None:
        self._fileno = self._engine.fileno()
        self._loop.add_reader(self._fileno, self._driver.read)

    def leave_socket(self) -> None:
        self._loop.remove_reader(self._fileno)
        if self._is_writing:
            self._is_writing = False
            self._loop.remove_writer(self._fileno)

    def stop(self) -> None:
        self.leave_socket()
        if self._timer is not None:
            self._timer.cancel()


class TaskPump(Pump):
    """Tasks of a task group."""

    def __init__(self, driver: Driver, group: TaskGroup, waiting: Waiting) -> None:
        super().__init__(driver)
        self._waiting = waiting
        self._scope = anyio.CancelScope()
        self._group: TaskGroup | None = None  # once the tasks run
        self._armed = -inf  # when the timekeeper wakes; -inf: it is awake and will look
        self._moved: Waiter | None = None
        self._is_writing = False
        self._asked: Waiter | None = None
        self._exchanges = 0  # of sockets
        group.start_soon(self._run, name=f"quicio driver {driver.local_address}")

    async def _run(self) -> None:
        with self._scope:
            async with anyio.create_task_group() as group:
                self._group = group
                self._start(self._keep_reading)
                self._start(self._keep_time)
                self._start(self._keep_settling)

    def _start(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        assert self._group is not None
        self._group.start_soon(self._guard, work, name=f"quicio{work.__name__.replace('_', ' ')}")

    async def _guard(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await work()
        except Exception as error:
            self._driver.fail(error)

    def look(self) -> None:
        if self._engine.deadline < self._armed:
            wake(self._moved)
        if self._engine.is_blocked and not self._is_writing and self._group is not None:
            self._is_writing = True
            self._start(self._wait_writable)

    def settle_soon(self) -> None:
        self.is_settling = True
        wake(self._asked)

    async def _wait(self, wait: Callable[[int], Awaitable[None]]) -> None:
        """Wait for the socket, and start over with the new one when it is exchanged meanwhile."""
        while True:
            exchanges = self._exchanges  # not the number of the descriptor: the new socket may have the same
            try:
                return await wait(self._engine.fileno())
            except anyio.ClosedResourceError:
                if self._exchanges == exchanges:
                    raise

    async def _keep_reading(self) -> None:
        while True:
            await self._wait(anyio.wait_readable)
            while self._driver.read():
                await self._waiting.checkpoint()  # a long burst leaves the others their turn

    async def _keep_time(self) -> None:
        while True:
            self._armed = self._engine.deadline
            now = self._waiting.now()
            if self._armed <= now:
                self._armed = -inf
                self._driver.expire(now)
                await self._waiting.checkpoint()
                continue
            self._moved = self._waiting.waiter()
            with anyio.CancelScope(deadline=self._armed):
                await self._moved
            self._armed = -inf

    async def _wait_writable(self) -> None:
        await self._wait(anyio.wait_writable)
        self._is_writing = False
        self._driver.settle()  # which waits again if need be

    async def _keep_settling(self) -> None:
        while True:
            if not self.is_settling:
                self._asked = self._waiting.waiter()
                await self._asked
            await self._waiting.checkpoint()
            self.is_settling = False
            self._driver.settle()

    def leave_socket(self) -> None:
        anyio.notify_closing(self._engine.fileno())  # wakes who waits

    def take_socket(self) -> None:
        self._exchanges += 1  # who was woken looks for himself

    def stop(self) -> None:
        self._scope.cancel()


def start_pump(driver: Driver, group: TaskGroup, waiting: Waiting) -> Pump:
    """The pump that suits the event loop; its tasks, if it has any, run in `group`."""
    if isinstance(waiting, AsyncioWaiting):
        try:
            return LoopPump(driver, waiting.loop)
        except NotImplementedError:
            pass
    return TaskPump(driver, group, waiting)
