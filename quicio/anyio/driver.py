"""The pump's work: one socket's `Engine`, and the connections that it moves datagrams for.

The engine is synchronous and knows when it wants to be called. A `Pump` waits for that on the event loop at hand, and calls the
driver: `read` when the socket is readable, once for each burst that the engine drains; `expire` when the engine's deadline has
come; `settle` when a socket that would have blocked is writable, and soon after user tasks have queued something, so that one
datagram carries what many of them, or one of them in several calls, want to send. Nothing else touches the socket, and user
tasks never wait on it.

Rules:
- `settle` inside a turn does nothing: the turn itself ends by sending. So handlers of events may queue freely.
- The driver never raises into the task group it runs in, whose host is the user's body. A failure of the socket or of the
  engine ends every connection with that failure as the cause (rule R3).
- An owner that dials can watch for what the system says about the peer's port: see `on_refused`.
- The socket may be exchanged for another (`swap`): the pump leaves the old one and takes the new one.
- What garbage collection finds (rule R6) is left in `abandoned`, an append that any thread may do at any moment, and is
  reset in the driver's next turn.
"""

from __future__ import annotations

import errno
import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import anyio
from anyio.abc import TaskGroup

from quicio.anyio.lifetime import is_cancellation
from quicio.anyio.link import Link
from quicio.anyio.pump import Pump, start_pump
from quicio.anyio.waiting import Waiting, current_waiting
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
    """Runs one socket with all its connections. Start it in a task group; `stop` ends it and closes the socket.

    It is made in a task of the event loop that it will run on.
    """

    def __init__(self, udp: UdpSocket, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.engine: Engine = Engine(udp, endpoint, on_events=self._on_events)
        self.local_address: Address = self.engine.local_address
        endpoint.on_connection = self._on_connection
        self.abandoned: deque[Callable[[], None]] = deque()
        self.failure: BaseException | None = None
        self.is_stopped: bool = False
        self.on_refused: Callable[[OSError], None] | None = None  # while connecting on a socket of its own
        self._on_unreachable: Callable[[Address], None] | None = None  # while connecting to one of several addresses
        self.on_failure: list[Callable[[], None]] = []  # called once, when a failure of the driver ends it
        self._links: dict[QuicConnection, Link] = {}
        self._drained_after_sending: set[Link] = set()
        self.waiting: Waiting = current_waiting()
        self.now: Callable[[], float] = self.waiting.now
        self._in_turn = False
        self._pump: Pump | None = None  # once started

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
        self._drained_after_sending.discard(link)

    def _on_connection(self, quic: QuicConnection) -> None:
        quic.use_native_events()  # before its first packet is looked at

    def drain_after_sending(self, link: Link) -> None:
        """A task of this connection waits for an event that sending brings: room for a DATAGRAM."""
        self._drained_after_sending.add(link)

    def stop_draining(self, link: Link) -> None:
        """Nobody of this connection waits for that any more."""
        self._drained_after_sending.discard(link)

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
        """As `settle`, two scheduler turns later: for those who yield anyway, so that they share what is sent."""
        if self._pump is not None and not self.is_stopped:
            self._pump.settle_soon()

    def settle_now(self) -> None:
        """Do now what `settle_soon` was asked for, if it was."""
        if self._pump is not None and self._pump.is_settling:
            self.settle()

    def read(self) -> bool:
        """The socket is readable. True: more is there, call again soon."""
        return not self.is_stopped and self._turn(self._read)

    def expire(self, now: float) -> None:
        """The engine's deadline has come."""
        if not self.is_stopped:
            self._turn(lambda: self._expire(now))

    def _flush(self) -> bool:
        self.engine.flush(self.now())
        self._drain_after_sending()
        return False

    def _read(self) -> bool:
        more = self.engine.readable(self.now())
        self._drain_after_sending()
        return more

    def _expire(self, now: float) -> bool:
        self.engine.expired(now)
        self._drain_after_sending()
        return False

    def _drain_after_sending(self) -> None:
        for link in tuple(self._drained_after_sending):
            link.drain()

    def _turn(self, work: Callable[[], bool]) -> bool:
        """Run one piece of the engine's work; True when it has more to do."""
        self._in_turn = True
        try:
            while self.abandoned:
                self.abandoned.popleft()()
            more = work()
        except Exception as error:
            self.fail(error)
            return False
        finally:
            self._in_turn = False
        if self.on_refused is not None:
            self._look_for_refusal(self.on_refused)
        if self._on_unreachable is not None:
            self._look_for_unreachable(self._on_unreachable)
        if self._pump is not None and not self.is_stopped:
            self._pump.look()
        return more

    def watch_unreachable(self, on_unreachable: Callable[[Address], None] | None) -> None:
        """Have `on_unreachable` called with addresses of which ICMP says that nobody is there; None ends it."""
        self._on_unreachable = on_unreachable
        self.engine.watch_errors(on_unreachable is not None)

    def _look_for_unreachable(self, on_unreachable: Callable[[Address], None]) -> None:
        while (error := self.engine.next_error()) is not None:
            if error[0] in REFUSALS:
                on_unreachable(error[1])

    def _look_for_refusal(self, on_refused: Callable[[OSError], None]) -> None:
        error = self.engine.last_error
        if error is not None and error.errno in REFUSALS:
            self.on_refused = None
            on_refused(error)

    def fail(self, error: Exception) -> None:
        """The engine or a wait for the socket failed: every connection ends, with `error` as the cause."""
        if self.is_stopped:
            return
        logger.error("the driver of %r failed", self.local_address, exc_info=error)
        self.failure = error
        self._stop_pump()
        for link in self.links:
            link.note_end(error)
            link.terminated.set()
        for on_failure in self.on_failure:
            on_failure()

    # --- life --------------------------------------------------------------------------------------------------------

    def start(self, group: TaskGroup) -> None:
        """Begin, with tasks in a task group that outlives the connections where tasks are needed."""
        self._pump = start_pump(self, group, self.waiting)

    def swap(self, udp: UdpSocket) -> UdpSocket:
        """Go on with another socket. Returns the old one, still open, for the caller to close or to swap back."""
        if self._pump is not None:
            self._pump.leave_socket()
        old = self.engine.swap(udp, self.now())
        self.local_address = self.engine.local_address
        if self._pump is not None:
            self._pump.take_socket()
        self.settle()
        return old

    def stop(self) -> None:
        """End the wake-ups and close the socket. What connections wanted to send was sent by `Link.close`, or never is."""
        if not self.engine.is_closed:
            self._stop_pump()
            if self._pump is not None:
                self._pump.leave_socket()
            self.engine.close()

    def _stop_pump(self) -> None:
        self.is_stopped = True
        if self._pump is not None:
            self._pump.stop()


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
