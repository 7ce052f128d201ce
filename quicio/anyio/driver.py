"""The pump: one socket's `Engine`, run by four small tasks on anyio.

The engine is synchronous and knows when it wants to be called; the tasks here only wait for it. The reader waits until the
socket is readable, once for each burst that the engine drains. The timekeeper sleeps until the engine's deadline and starts
anew when that moves forward. The writer waits until a socket that would have blocked is writable. The settler sends what user
tasks have queued, a scheduler turn after the first of them, so that one datagram carries what many of them, or one of them in
several calls, want to send. Nothing else touches the socket, and user tasks never wait on it.

Rules:
- `settle` inside a turn does nothing: the turn itself ends by sending. So handlers of events may queue freely.
- The driver never raises into the task group it runs in, whose host is the user's body. A failure of the socket or of the
  engine ends every connection with that failure as the cause (rule R3).
- An owner that dials can watch for what the system says about the peer's port: see `on_refused`.
- What garbage collection finds (rule R6) is left in `abandoned`, an append that any thread may do at any moment, and is
  reset in the driver's next turn.
"""

from __future__ import annotations

import errno
import logging
from collections import deque
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Final

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from quicio.anyio.lifetime import is_cancellation
from quicio.anyio.link import Link
from quicio.errors import Address
from quicio.quic.configuration import ErrorCodes
from quicio.udp.engine import Engine

if TYPE_CHECKING:
    from quicio.quic.connection import QuicConnection
    from quicio.quic.endpoint import Endpoint
    from quicio.udp.socket import UdpSocket

__all__ = ["Driver", "end_drivers"]

logger: logging.Logger = logging.getLogger("quicio")

# What ICMP tells a connected socket: nobody is there. It counts while connecting only, to try the next address soon.
REFUSALS: Final = frozenset({errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH})


class Driver:
    """Runs one socket with all its connections. Start it in a task group; `stop` ends it and closes the socket."""

    def __init__(self, udp: UdpSocket, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.engine: Engine = Engine(udp, endpoint, on_events=self._on_events)
        self.local_address: Address = self.engine.local_address
        endpoint.on_connection = self._on_connection
        self.abandoned: deque[Callable[[], None]] = deque()
        self.failure: BaseException | None = None
        self.is_stopped: bool = False
        self.on_refused: Callable[[OSError], None] | None = None  # while connecting on a socket of its own
        self._links: dict[QuicConnection, Link] = {}
        self._drained_after_sending: set[Link] = set()
        self._scope = anyio.CancelScope()
        self._in_turn = False
        self._blocked = anyio.Event()
        self._unsettled = anyio.Event()
        self._armed = -inf  # when the timekeeper wakes; -inf: it is awake and will look
        self._moved = anyio.Event()

    now = staticmethod(anyio.current_time)

    # --- connections -------------------------------------------------------------------------------------------------

    @property
    def links(self) -> list[Link]:
        """The connections that have not terminated."""
        return list(self._links.values())

    def adopt(self, quic: QuicConnection) -> Link:
        """Take a connection of the endpoint in: its events go to the link from now on."""
        quic.use_native_events()
        link = Link(quic, self)
        self._links[quic] = link
        return link

    def forget(self, link: Link) -> None:
        """The connection has terminated."""
        self._links.pop(link.quic, None)

    def _on_connection(self, quic: QuicConnection) -> None:
        quic.use_native_events()  # before its first packet is looked at

    def drain_after_sending(self, link: Link) -> None:
        """A task of this connection waits for an event that sending brings: room for a DATAGRAM."""
        self._drained_after_sending.add(link)

    def _on_events(self, quic: QuicConnection) -> None:
        link = self._links.get(quic)
        if link is not None:
            link.drain()

    # --- turns -------------------------------------------------------------------------------------------------------

    def touch(self, quic: QuicConnection) -> None:
        """The application queued something in this connection."""
        if not self.is_stopped:
            self.engine.touch(quic)

    def settle(self) -> None:
        """Send what connections have to send, and see to the waits that follow from it."""
        if not self._in_turn and not self.is_stopped:
            self._turn(self._flush)

    def settle_soon(self) -> None:
        """As `settle`, a scheduler turn later: for those who yield anyway, so that they share what is sent."""
        self._unsettled.set()

    def _flush(self) -> bool:
        if not self.engine.flush(self.now()):
            self._blocked.set()
        while self._drained_after_sending:
            self._drained_after_sending.pop().drain()
        return False

    def _turn(self, work: Callable[[], bool]) -> bool:
        """Run one piece of the engine's work; True when it has more to do."""
        self._in_turn = True
        try:
            while self.abandoned:
                self.abandoned.popleft()()
            more = work()
        except Exception as error:
            self._fail(error)
            return False
        finally:
            self._in_turn = False
        if self.on_refused is not None:
            self._look_for_refusal(self.on_refused)
        if self.engine.deadline < self._armed:
            self._moved.set()
        return more

    def _look_for_refusal(self, on_refused: Callable[[OSError], None]) -> None:
        error = self.engine.last_error
        if error is not None and error.errno in REFUSALS:
            self.on_refused = None
            on_refused(error)

    def _read(self) -> bool:
        more = self.engine.readable(self.now())
        self._flush()
        return more

    def _expire(self) -> bool:
        self.engine.expired(self.now())
        return self._flush()

    def _fail(self, error: Exception) -> None:
        logger.error("the driver of %r failed", self.local_address, exc_info=error)
        self.failure = error
        self.is_stopped = True
        self._scope.cancel()
        for link in self.links:
            link.note_end(error)
            link.terminated.set()

    # --- tasks -------------------------------------------------------------------------------------------------------

    def start(self, group: TaskGroup) -> None:
        """Start the tasks in a task group that outlives the connections."""
        group.start_soon(self._run, name=f"quicio driver {self.local_address}")

    async def _run(self) -> None:
        with self._scope:
            async with anyio.create_task_group() as group:
                group.start_soon(self._guard, self._keep_reading, name="quicio reader")
                group.start_soon(self._guard, self._keep_time, name="quicio timekeeper")
                group.start_soon(self._guard, self._keep_writing, name="quicio writer")
                group.start_soon(self._guard, self._keep_settling, name="quicio settler")

    async def _guard(self, loop: Callable[[], object]) -> None:
        try:
            await loop()  # type: ignore[misc]  # the four loops are coroutine functions
        except Exception as error:
            if not self.is_stopped:
                self._fail(error)

    async def _keep_reading(self) -> None:
        while True:
            await anyio.wait_readable(self.engine.fileno())
            while self._turn(self._read):
                await checkpoint()  # a long burst leaves the others their turn

    async def _keep_time(self) -> None:
        while True:
            self._moved = anyio.Event()
            self._armed = self.engine.deadline
            if self._armed <= self.now():
                self._armed = -inf
                self._turn(self._expire)
                await checkpoint()
                continue
            with anyio.CancelScope(deadline=self._armed):
                await self._moved.wait()
            self._armed = -inf

    async def _keep_writing(self) -> None:
        while True:
            await self._blocked.wait()
            self._blocked = anyio.Event()
            await anyio.wait_writable(self.engine.fileno())
            self.settle()

    async def _keep_settling(self) -> None:
        while True:
            await self._unsettled.wait()
            self._unsettled = anyio.Event()
            await checkpoint()
            self.settle()

    def stop(self) -> None:
        """End the tasks and close the socket. What connections wanted to send was sent by `Link.close`, or never is."""
        if not self.engine.is_closed:
            self.is_stopped = True
            self._scope.cancel()
            anyio.notify_closing(self.engine.fileno())
            self.engine.close()


async def end_drivers(drivers: list[Driver], error: BaseException | None, codes: ErrorCodes, linger: float) -> None:
    """The end of the scope that owns drivers, by how its body ended: let connections finish, close them, stop.

    After a normal end connections may take `linger` seconds; after an exception or a cancellation nothing is waited for.
    """
    code = codes.no_error
    try:
        if error is not None:
            code = codes.cancelled if is_cancellation(error) else codes.internal_error
        else:
            with anyio.move_on_after(linger):
                for driver in drivers:
                    for link in driver.links:
                        await link.ended.wait()
    except anyio.get_cancelled_exc_class():
        code = codes.cancelled
        raise
    finally:
        for driver in drivers:
            for link in driver.links:
                link.close(code)
            driver.stop()
