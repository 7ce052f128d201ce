"""Tasks that wait on a connection in every way there is, what its peer may do to them, and what they are told then.

`Waiter.wait_everywhere` starts them at one end of a `relay.Meeting`; `Waits` notes how each ended and when. A `Deed` is what
the other end does, together with the error, the code, the reason and the time that it has to lead to.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import anyio
import trio
from anyio.abc import TaskGroup

import quicio
import quicio.trio
from helpers.faces import FACES, AnyioChannel, AsyncioFace, Face, Link, TrioFace
from helpers.relay import Meeting
from helpers.virtual_time import is_virtual

NATIVE = [face for face in FACES if not isinstance(face, AsyncioFace)]
DELAY = 0.01  # seconds, one way
IDLE_TIMEOUT = 2.5
SLACK = 0.01  # of virtual time: what a float's rounding and the ordering of timers may cost
REAL_SLACK = 2.0  # of real time: a busy machine
WINDOW = 16384
BIDIRECTIONAL = 6  # streams that may be open in each direction
UNIDIRECTIONAL = 1
LIMITS: dict[str, Any] = {
    "idle_timeout": IDLE_TIMEOUT,
    "max_stream_data": WINDOW,
    "receive_window_limit": WINDOW,
    "max_data": 1 << 20,
    "send_buffer": WINDOW,
    "max_streams_bidi": BIDIRECTIONAL,
    "max_streams_uni": UNIDIRECTIONAL,
}
WOULD_BLOCK = (anyio.WouldBlock, trio.WouldBlock)

Call = Callable[[], Awaitable[Any]]


# --- what the peer does --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Deed:
    """Something that ends the connection: what the peer does, and what its counterpart is told, and when."""

    name: str
    error: str
    code: int
    is_application: bool
    by_peer: bool
    reason: str
    within: tuple[float, float]  # seconds after the deed, virtual time
    is_clean: bool = False

    @property
    def is_silent(self) -> bool:
        """Whether the time runs from when the peer was last heard of."""
        return self.error == "IdleTimeout"

    def do(self, peer: Link, relay: Any) -> None:
        """The peer does it."""
        link = peer.connection._link  # type: ignore[attr-defined]  # only faces that stand on anyio are here
        if self.name == "vanishes":
            relay.go_dark()
            return
        if self.name == "loses its state":
            relay.is_dark_up = relay.is_dark_down = False
            link.quic.abandon("the process was started anew")
            link.drain()
            link.flush()
        elif self.name == "finds an error":
            link.quic.close(error_code=0x0A, frame_type=0x1C, reason_phrase="no such thing")
            link.flush()
        else:
            peer.close(self.code, self.reason)


ROUND_TRIP = 2 * DELAY
ENDS = [
    Deed(
        "vanishes",
        "IdleTimeout",
        1,
        False,
        False,
        "Idle timeout",
        (IDLE_TIMEOUT - ROUND_TRIP, IDLE_TIMEOUT + ROUND_TRIP),
    ),
    Deed("loses its state", "StatelessReset", 0, False, True, "Stateless reset", (0.0, 0.5)),
    Deed("closes with a code", "ClosedByPeer", 77, True, True, "so be it", (DELAY, DELAY)),
    Deed("closes cleanly", "ClosedByPeer", 0, True, True, "", (DELAY, DELAY), is_clean=True),
    Deed("finds an error", "ClosedByPeer", 0x0A, False, True, "no such thing", (DELAY, DELAY)),
]


# --- who waits -----------------------------------------------------------------------------------------------------------


class Waits:
    """Tasks that wait, by name, and how each wait ended and when."""

    def __init__(self, group: TaskGroup) -> None:
        self.names: list[str] = []
        self.outcomes: dict[str, Any] = {}
        self.times: dict[str, float] = {}
        self._group = group
        self._all_ended = anyio.Event()

    def start(self, name: str, call: Call) -> None:
        self.names.append(name)
        self._group.start_soon(self._run, name, call)

    async def _run(self, name: str, call: Call) -> None:
        try:
            self.outcomes[name] = await call()
        except Exception as error:
            self.outcomes[name] = error
        self.times[name] = anyio.current_time()
        if len(self.outcomes) == len(self.names):
            self._all_ended.set()

    async def all_ended(self) -> None:
        """Until each of them has ended; says which have not."""
        try:
            await self._all_ended.wait()
        finally:
            assert set(self.names) == set(self.outcomes), f"still waiting: {set(self.names) - set(self.outcomes)}"


class Waiter:
    """One end of a connection, on which tasks wait in every way there is."""

    def __init__(self, face: Face, link: Link, peer: Link, relay: Any) -> None:
        self.connection: Any = link.connection  # type: ignore[attr-defined]  # only faces that stand on anyio are here
        self.is_trio = isinstance(face, TrioFace)
        self.link = link
        self.peer = peer
        self.relay = relay
        self.streams: dict[str, AnyioChannel] = {}
        self.unheard_since = 0.0

    async def open(self, name: str, *, is_unidirectional: bool = False) -> Any:
        """A stream that the peer knows of."""
        channel = await self.link.open(is_unidirectional=is_unidirectional)
        assert isinstance(channel, AnyioChannel)
        self.streams[name] = channel
        channel.stream.announce()
        return channel.stream

    async def clog(self, name: str) -> Any:
        """A stream on which nothing more can be sent."""
        stream = await self.open(name)
        misses = 0
        while misses < 2:
            try:
                stream.send_nowait(bytes(4096))
                misses = 0
            except WOULD_BLOCK:
                misses += 1
                await self.link.ping()
        return stream

    async def wait_everywhere(self, waits: Waits, is_serving: bool) -> None:
        """Start all the waits, and see that nothing ends any of them yet."""
        connection = self.connection
        reading = await self.open("receive")
        stopping = await self.open("wait_stopped")
        some = await self.clog("send_some")
        room = await self.clog("room")
        finished = await self.clog("wait_delivered")
        await finished.send_eof()
        await self.open("send")
        await self.open("uni", is_unidirectional=True)
        # --- all that waits for the peer to do something
        waits.start("send", lambda: self.streams["send"].send(bytes(1 << 17)))
        waits.start("send_some", lambda: some.send_some(b"x"))
        waits.start("room", room.wait_send_all_might_not_block if self.is_trio else lambda: room.send_some(b"x"))
        waits.start("receive", self.streams["receive"].receive)
        for name in ("wait_delivered", "wait_delivered too"):
            waits.start(name, finished.wait_delivered)
        for name in ("wait_stopped", "wait_stopped too"):
            waits.start(name, stopping.wait_stopped)
        for name in ("open_stream", "open_stream too"):
            waits.start(name, connection.open_stream)
        waits.start("open_send_stream", connection.open_send_stream)
        self._wait_for_streams(waits, is_serving)
        waits.start("datagrams.receive", connection.datagrams.receive)
        for name in ("wait_closed", "wait_closed too"):
            waits.start(name, connection.wait_closed)
        waits.start("wait_path_changed", connection.wait_path_changed)
        assert reading.id == 0 + (stopping.id & 1)
        await self.link.ping()
        await anyio.wait_all_tasks_blocked()
        # --- all that waits for the peer to acknowledge something
        self._darken()
        for name in ("ping", "ping too"):
            waits.start(name, connection.ping)
        await anyio.wait_all_tasks_blocked()
        while self._queue_datagrams():
            await anyio.wait_all_tasks_blocked()
        waits.start("datagrams.send", lambda: connection.datagrams.send(bytes(1000)))
        await anyio.wait_all_tasks_blocked()
        assert waits.outcomes == {}

    def _queue_datagrams(self) -> int:
        """Send DATAGRAMs until that would block; returns how many were taken."""
        taken = 0
        while True:
            try:
                self.connection.datagrams.send_nowait(bytes(1000))
            except WOULD_BLOCK:
                return taken
            taken += 1

    def _wait_for_streams(self, waits: Waits, is_serving: bool) -> None:
        acceptors = self.connection.incoming_streams, self.connection.incoming_receive_streams
        for name, acceptor in zip(("streams", "receive streams"), acceptors, strict=True):
            waits.start(name, self._serving(acceptor) if is_serving else acceptor.receive)

    def _serving(self, acceptor: Any) -> Call:
        async def handle(stream: Any) -> None:
            """Done at once."""

        return lambda: acceptor.serve(handle)

    def _darken(self) -> None:
        """What this end sends is lost, and so it hears nothing any more."""
        self.unheard_since = anyio.current_time()
        if self.connection._configuration.is_client:
            self.relay.is_dark_up = True
        else:
            self.relay.is_dark_down = True


def roles(face: Face, both: Meeting, role: str) -> Waiter:
    """The end that waits."""
    ends = (both.client, both.server) if role == "client" else (both.server, both.client)
    return Waiter(face, *ends, both.relay)


def check_error(face: Face, deed: Deed, error: Any, where: str) -> None:
    """The right error of this face, with what the peer said."""
    library = quicio.trio if isinstance(face, TrioFace) else quicio
    assert type(error) is getattr(library, deed.error), f"{where}: {error!r}"
    assert issubclass(type(error), trio.BrokenResourceError if library is quicio.trio else anyio.BrokenResourceError)
    reason = error.reason
    assert reason is not None, where
    assert error.code == reason.code == deed.code, where
    assert (reason.is_application, reason.by_peer, reason.reason) == (deed.is_application, deed.by_peer, deed.reason)


def check_time(face: Face, deed: Deed, seconds: float, where: str) -> None:
    """Within the documented time of the deed."""
    least, most = deed.within
    assert is_between(face, seconds, least, most), f"{where}: after {seconds:.3f} s"


def is_between(face: Face, seconds: float, least: float, most: float) -> bool:
    """Where time is real, a busy machine may be late in starting the watch, and late in ending the wait."""
    if is_virtual(face):
        return least - SLACK <= seconds <= most + SLACK
    return least / 2 <= seconds <= most + REAL_SLACK


def check_elapsed(face: Face, start: float, least: float, most: float) -> None:
    seconds = anyio.current_time() - start
    assert is_between(face, seconds, least, most)
