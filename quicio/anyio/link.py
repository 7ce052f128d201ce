"""One connection of the core, as those who use it see it.

A link ties a `QuicConnection` to its driver and to its application. It holds what belongs to the connection as a whole:
whether the handshake is done, how the connection ended, who waits for a stream, a ping or the end.

Rules:
- The end is noted once, at the moment a close is sent or received, and wakes every waiter. Who closed decides what they
  see: after `close()` on this side `ClosedResourceError`, otherwise a new error of the tree for each of them (rule R2).
- Streams are opened in the order in which they were asked for. An ID that was given to a cancelled waiter goes to the next.
- The driver and the core hold links, never faces: a face that its user has dropped can be collected (rule R6).
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, cast

import anyio

from quicio.anyio.application import Application
from quicio.anyio.closing import connect_error, lost_error
from quicio.anyio.gate import Gate
from quicio.errors import Address, CloseReason
from quicio.quic.events import (
    ConnectionClosing,
    ConnectionTerminated,
    HandshakeCompleted,
    PathChanged,
    PingAcknowledged,
    QuicEvent,
    StreamsAvailable,
)
from quicio.quic.wire.constants import INTERNAL_ERROR, NO_ERROR

if TYPE_CHECKING:
    from quicio.anyio.driver import Driver
    from quicio.quic.connection import QuicConnection

__all__ = ["Link"]


class _Opening:
    """A task that waits for the peer's stream limit."""

    __slots__ = ("event", "stream_id")

    def __init__(self) -> None:
        self.event = anyio.Event()
        self.stream_id: int | None = None


class Link:
    """A connection between its core, its driver and its application."""

    def __init__(self, quic: QuicConnection, driver: Driver) -> None:
        self.quic = quic
        self.driver = driver
        self.application: Application = Application()
        self.handshake: HandshakeCompleted | None = None
        self.reason: CloseReason | None = None  # set when the connection has ended
        self.cause: BaseException | None = None  # a failure of the driver
        self.is_closed: bool = False  # closed on this side, by its user
        self.settled: Gate = Gate()  # the handshake is complete, or the connection has ended
        self.usable: Gate = Gate()  # the same, or a server has early data
        self.ended: Gate = Gate()
        self.terminated: Gate = Gate()  # the closing or draining period is over
        self.migrating = anyio.ResourceGuard("migrating")
        self._openings: tuple[list[_Opening], list[_Opening]] = ([], [])
        self._spare_ids: tuple[list[int], list[int]] = ([], [])
        self._pings: dict[int, tuple[anyio.Event, float]] = {}
        self._ping_times: dict[int, float] = {}
        self._next_ping = 1
        self._path_waiters = Gate()

    # --- the driver's turn -------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Hand out all events of the core. Runs in the driver's turn."""
        next_event = self.quic.next_event
        event = next_event()
        while event is not None:
            self._handle(event)
            event = next_event()
        if not self.usable.is_set() and self.quic.tls.early_data_accepted and not self.driver.is_stopped:
            self.usable.set()

    def _handle(self, event: QuicEvent) -> None:
        if isinstance(event, HandshakeCompleted):
            self.handshake = event
            self.settled.set()
            self.usable.set()
        elif isinstance(event, StreamsAvailable):
            self._open_waiting(event.is_unidirectional)
        elif isinstance(event, ConnectionClosing):
            self.note_end()
        elif isinstance(event, PingAcknowledged):
            waiter = self._pings.pop(event.uid, None)
            if waiter is not None:
                self._ping_times[event.uid] = self.driver.now() - waiter[1]
                waiter[0].set()
        elif isinstance(event, PathChanged):
            self._path_waiters.set()
            self._path_waiters = Gate()
        elif isinstance(event, ConnectionTerminated):
            self.note_end()
            self.terminated.set()
            self.driver.forget(self)
            self._let_go()
        else:
            self.application.handle_event(event)

    def note_end(self, failure: BaseException | None = None) -> None:
        """The connection has ended: wake all that wait. `failure` is the driver's own, if that ended it."""
        if self.reason is not None:
            return
        reason = self.quic.close_reason
        self.reason = reason or CloseReason(INTERNAL_ERROR, False, False, f"the driver failed: {failure!r}")
        self.cause = failure
        self.settled.set()
        self.usable.set()
        self.ended.set()
        self._path_waiters.set()
        for openings in self._openings:
            for opening in openings:
                opening.event.set()
            openings.clear()
        for event, _ in self._pings.values():
            event.set()
        self._pings.clear()
        self.application.connection_lost()

    @property
    def is_over(self) -> bool:
        """Whether it was closed on this side or has ended otherwise."""
        return self.is_closed or self.reason is not None

    # --- how it ended ------------------------------------------------------------------------------------------------

    def error(self) -> Exception:
        """A new error for one who uses the connection after its end."""
        reason = self.reason
        if self.is_closed or reason is None:
            return anyio.ClosedResourceError()
        error = lost_error(reason, self.quic.close_cause)
        error.__cause__ = self.cause
        return error

    def check(self) -> None:
        """Raise when the connection has ended."""
        if self.reason is not None or self.is_closed:
            raise self.error()

    def close(self, code: int, reason: str = "") -> None:
        """Close at once with an application error code: what was not sent is dropped. Nothing waits; idempotent."""
        if self.is_closed:
            return
        self.driver.settle_now()  # what was sent before goes before
        self.is_closed = True
        if self.reason is None:
            self.quic.close(error_code=code, reason_phrase=reason)
            self.note_end()
            self.flush()
        else:
            self.application.connection_lost()
            self._let_go()

    def _let_go(self) -> None:
        """When all is over on both sides nothing holds the application but its users: a cycle would wait for the collector."""
        if self.is_closed and self.terminated.is_set():
            self.application = Application()

    def refuse(self, error: OSError) -> None:
        """The system says that the peer cannot be reached: give up, unless the handshake is done."""
        if self.handshake is None and self.reason is None:
            phrase = f"{error.strerror or error}".lower()
            if isinstance(error, ConnectionRefusedError):
                phrase += ", nobody listens on this UDP port"
            self.quic.close(error_code=NO_ERROR, frame_type=0, reason_phrase=phrase)
            self.note_end(error)

    # --- sending -----------------------------------------------------------------------------------------------------

    def touch(self) -> None:
        """Something was queued in the core: the next flush of the driver sends it."""
        driver = self.driver
        if not driver.is_stopped:
            driver.engine.touch(self.quic)

    def flush(self) -> None:
        """Something was queued in the core: send it now."""
        self.driver.touch(self.quic)
        self.driver.settle()

    # --- waiting -----------------------------------------------------------------------------------------------------

    async def wait_usable(self) -> None:
        """As `wait_established`, but a server that accepted early data does not wait for what follows it."""
        await self.usable.wait()
        if self.is_over:
            await self.wait_established()

    async def wait_established(self) -> None:
        """Wait for the handshake. Raises `ConnectError` when the connection ends before."""
        await self.settled.wait()
        if self.handshake is None:
            if self.is_closed or self.reason is None:
                raise anyio.ClosedResourceError
            is_heard = self.quic.statistics().packets_received > 0
            error = connect_error(self.reason, self.quic.close_cause, is_heard=is_heard)
            error.__cause__ = self.cause
            raise error

    def open_nowait(self, is_unidirectional: bool) -> int:
        """The ID of a new stream. `WouldBlock` at the peer's limit, or while others wait for it."""
        self.check()
        stream_id = None if self._openings[is_unidirectional] else self._take_id(is_unidirectional)
        if stream_id is None:
            raise anyio.WouldBlock
        return stream_id

    async def open(self, is_unidirectional: bool) -> int:
        """The ID of a new stream; waits in turn for the peer's limit to rise (RFC 9000 §4.6)."""
        await self.driver.waiting.checkpoint()
        self.check()
        openings = self._openings[is_unidirectional]
        if not openings:
            stream_id = self._take_id(is_unidirectional)
            if stream_id is not None:
                return stream_id
            self.flush()  # STREAMS_BLOCKED tells the peer
            self.check()  # the turn may have ended the connection, and woken those who waited then
        opening = _Opening()
        openings.append(opening)
        try:
            await opening.event.wait()
        except BaseException:
            if opening.stream_id is not None:
                self._spare_ids[is_unidirectional].append(opening.stream_id)
                self._open_waiting(is_unidirectional)
            elif opening in openings:
                openings.remove(opening)
            raise
        if opening.stream_id is None:
            raise self.error()
        return opening.stream_id

    def _take_id(self, is_unidirectional: bool) -> int | None:
        spare = self._spare_ids[is_unidirectional]
        return spare.pop(0) if spare else self.quic.open_stream(is_unidirectional)

    def _open_waiting(self, is_unidirectional: bool) -> None:
        openings = self._openings[is_unidirectional]
        while openings:
            stream_id = self._take_id(is_unidirectional)
            if stream_id is None:
                return
            opening = openings.pop(0)
            opening.stream_id = stream_id
            opening.event.set()

    async def ping(self) -> float:
        """Send a PING and return the seconds until its acknowledgement, the peer's delay included."""
        await self.driver.waiting.checkpoint()
        self.check()
        uid = self._next_ping
        self._next_ping += 1
        event = anyio.Event()
        self.quic.send_ping(uid)
        self._pings[uid] = (event, self.driver.now())
        self.flush()
        try:
            await event.wait()
        finally:
            self._pings.pop(uid, None)
            seconds = self._ping_times.pop(uid, inf)
        if seconds == inf:
            raise self.error()
        return seconds

    async def wait_path_changed(self) -> None:
        """Wait until the connection uses another path."""
        await self.driver.waiting.checkpoint()
        self.check()
        await self._path_waiters.wait()
        self.check()

    @property
    def remote_address(self) -> Address:
        """The peer's address on the path in use."""
        return cast(Address, self.quic.get_peer_address())
