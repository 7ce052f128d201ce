"""`Engine`: what happens when the socket is readable, when a time has come, when there is something to send.

The engine is synchronous and knows no event loop. A face owns a wake-up for reading, one for writing and one for time,
and calls `readable`, `flush` and `expired`; the engine owns the `UdpSocket`, feeds the `Endpoint`, keeps the deadlines
of all connections and decides in what order they send. It is the only user of the socket.

Work is done once a burst, not once a datagram:
- Reading goes on until the socket would block or `RECEIVE_BURST` datagrams came in, empty ones included, so that a
  flood cannot keep the loop from everything else (security row 24). Then each connection that got input has one
  *turn*: `on_events(connection)`, where the face drains its events, and then it may send.
- Sending rotates: each connection that wants to send gives one quantum, `TRANSMIT_QUANTUM` datagrams that fit one
  `sendmsg`, and goes to the end of the queue. How much it may send at all is its pacer's and congestion controller's
  matter; after `FLUSH_ROUNDS` quanta of each, `flush` lets the loop read what came in meanwhile, and `deadline` is due
  at once so that it goes on.
- A `Transmit` that the socket would block on stays here and goes first next time; nobody else is asked meanwhile. While
  blocked, `deadline` leaves `BLOCKED_PATIENCE` between wake-ups: timers that cannot send anything would spin.
- A connection's timer is read when it has nothing more to send, or when the socket blocks: sending moves it.

A connection whose timer is None is over or has not begun: the engine holds no reference to it after its turn, and
tells the endpoint when it is over; a later `touch` brings it back. Callbacks run before anything is sent and may call
`touch` and `flush`. When `on_events` raises, the exception passes through; what was left undone is done by the next
call.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Final

from quicio.quic.transmit import Transmit
from quicio.udp.address import Address
from quicio.udp.deadlines import Deadlines
from quicio.udp.socket import UdpSocket

if TYPE_CHECKING:
    from quicio.quic.connection import QuicConnection
    from quicio.quic.endpoint import Endpoint

RECEIVE_BURST: Final = 128  # datagrams read before connections get their turns: a few milliseconds of work
TRANSMIT_QUANTUM: Final = 32  # datagrams of one connection before the next one sends: larger is hardly cheaper
FLUSH_ROUNDS: Final = 8  # quanta that one connection may send in one flush: a few milliseconds of work
POSTED_LIMIT: Final = 1024  # datagrams of others that wait for a blocked socket; beyond it they are dropped
BLOCKED_PATIENCE: Final = 0.010  # seconds between timer wake-ups while the socket would block


class Engine:
    """Moves datagrams between `sock` and `endpoint`, and gives connections their turns.

    `on_events(connection)` is called in each turn of a connection, to drain `connection.next_event()`. The engine owns
    the socket: `close` closes it. Times are floats in seconds of one clock, the one the connections are driven with.
    """

    def __init__(self, sock: UdpSocket, endpoint: Endpoint, *, on_events: Callable[[QuicConnection], None]) -> None:
        self._sock = sock
        self._endpoint = endpoint
        self._on_events = on_events
        self._deadlines: Deadlines[QuicConnection] = Deadlines()
        self._ready: deque[QuicConnection] = deque()  # connections that may want to send, in the order of their quanta
        self._queued: set[QuicConnection] = set()  # those in `_ready`
        self._unsettled: dict[QuicConnection, None] = {}  # those whose timer may have moved since it was last read
        self._blocked: Transmit | None = None  # what the socket would block on
        self._posted: deque[Transmit] = deque()  # what `post` could not send yet
        self._resumes = inf  # when to go on with a flush that ended with more to send: at once, or never
        self._patience_ends = -inf  # while blocked: when timers may wake the loop again
        self._is_closed = False

    # --- what the face asks ------------------------------------------------------------------------------------------

    @property
    def deadline(self) -> float:
        """When to call `expired`: the earliest deadline of the endpoint and of all connections, or infinity."""
        if self._is_closed:
            return inf
        deadline = min(self._endpoint.deadline, self._deadlines.earliest(), self._resumes)
        return deadline if self._blocked is None else max(deadline, self._patience_ends)

    @property
    def is_blocked(self) -> bool:
        """Whether the socket would block: call `flush` when it is writable."""
        return self._blocked is not None

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._is_closed

    @property
    def local_address(self) -> Address:
        """Host and port of the socket."""
        return self._sock.local_address

    @property
    def family(self) -> int:
        """AF_INET, or AF_INET6 when the socket reaches IPv6 addresses."""
        return self._sock.family

    @property
    def last_error(self) -> OSError | None:
        """The last error of the system that cost a datagram, if any."""
        return self._sock.last_error

    def fileno(self) -> int:
        """What to wait on; -1 once closed."""
        return self._sock.fileno()

    def posted_size(self) -> int:
        """Bytes that were given to `post` and wait for the socket."""
        return sum(len(datagram) for transmit in self._posted for datagram in transmit.datagrams)

    def watch_errors(self, is_wanted: bool) -> None:
        """Have `next_error` tell what ICMP says of peers: see `UdpSocket.watch_errors`."""
        if not self._is_closed:
            self._sock.watch_errors(is_wanted)

    def next_error(self) -> tuple[int, Address] | None:
        """The next error of a peer, its errno and the peer's address, while errors are watched."""
        return None if self._is_closed else self._sock.next_error()

    def is_dirty(self, connection: QuicConnection) -> bool:
        """Whether `connection` was touched and has not been asked to its end for what it wants to send."""
        return connection in self._queued

    # --- what the face tells -----------------------------------------------------------------------------------------

    def readable(self, now: float) -> bool:
        """The socket is readable. True: the burst budget was used up and more may be there, call again soon."""
        if self._is_closed:
            return False
        sock = self._sock
        endpoint = self._endpoint
        remaining = RECEIVE_BURST
        while remaining > 0:
            received = sock.receive()
            if received is None:
                break
            remaining -= len(received.datagrams)
            endpoint.receive(received, now)
        self._give_turns()
        self.flush(now)
        return remaining <= 0 and not self._is_closed

    def expired(self, now: float) -> None:
        """The time `deadline` has come, or may have. Runs what is due, once each, and sends what follows from it."""
        if self._is_closed:
            return
        if self._endpoint.deadline <= now:
            self._endpoint.handle_timer(now)
        for _ in range(len(self._deadlines)):
            connection = self._deadlines.pop_due(now)
            if connection is None:
                break
            self.touch(connection)
            connection.handle_timer(now)
            self._on_events(connection)
        self._give_turns()
        self.flush(now)

    def touch(self, connection: QuicConnection) -> None:
        """The application gave `connection` something to do: the next `flush` asks it what to send and reads its timer."""
        if self._is_closed:
            return
        self._unsettled[connection] = None
        if connection not in self._queued:
            self._queued.add(connection)
            self._ready.append(connection)

    def forget(self, connection: QuicConnection) -> None:
        """Let go of a connection before its time: a stub of the endpoint stands in for it. It sends no more."""
        self._deadlines.remove(connection)
        self._unsettled.pop(connection, None)
        self._queued.discard(connection)

    def post(self, transmit: Transmit) -> None:
        """Send datagrams that somebody else made; they wait their turn while the socket would block (`POSTED_LIMIT`)."""
        if self._is_closed or len(self._posted) >= POSTED_LIMIT:
            return
        if self._blocked is not None or self._posted:
            self._posted.append(transmit)
        else:
            self._send(transmit)

    def flush(self, now: float) -> bool:
        """Send what is wanted. False: the socket would block, so call again when it is writable.

        Each connection that is dirty is asked at least once. If one had more than `FLUSH_ROUNDS` quanta, `deadline` is
        due.
        """
        if self._is_closed:
            return True
        if self._send_all(now):
            return True
        self._patience_ends = now + BLOCKED_PATIENCE
        while self._unsettled:
            self._settle(self._unsettled.popitem()[0])
        return False

    def swap(self, sock: UdpSocket, now: float) -> UdpSocket:
        """Go on with another socket, on which the next `flush` sends. Returns the old one, still open."""
        old, self._sock = self._sock, sock
        for connection in list(self._endpoint.connections):
            connection.rebound(now)
            self.touch(connection)
        return old

    def close(self) -> None:
        """Close the socket and forget all connections. They are not closed: that is for the face to do before. Idempotent."""
        self._is_closed = True
        self._sock.close()
        self._blocked = None
        self._posted.clear()
        self._deadlines.clear()
        self._ready.clear()
        self._queued.clear()
        self._unsettled.clear()

    # --- inside ------------------------------------------------------------------------------------------------------

    def _give_turns(self) -> None:
        """One turn for each connection that got input, in the order in which they did."""
        touched = self._endpoint.touched
        touched[:] = reversed(dict.fromkeys(touched))  # each once, however often it got input
        while touched:
            connection = touched.pop()
            self.touch(connection)
            self._on_events(connection)

    def _send_all(self, now: float) -> bool:
        """Send until nobody wants to send any more, or the socket would block: False."""
        blocked = self._blocked
        if blocked is not None:
            if not self._sock.send(blocked):
                return False
            self._blocked = None
        while self._posted:
            if not self._send(self._posted.popleft()):
                return False
        while (answer := self._endpoint.next_transmit()) is not None:
            if not self._send(answer):
                return False
        for _ in range(FLUSH_ROUNDS):
            for _ in range(len(self._ready)):
                if not self._send_quantum(self._ready.popleft(), now):
                    return False
        self._resumes = now if self._ready else inf
        return True

    def _send_quantum(self, connection: QuicConnection, now: float) -> bool:
        """Send a quantum of `connection`, and queue it again if it had one. False: the socket would block."""
        if connection not in self._queued:
            return True  # forgotten since
        self._queued.discard(connection)
        transmit = connection.next_transmit(now, TRANSMIT_QUANTUM)
        if transmit is None:
            self._unsettled.pop(connection, None)
            self._settle(connection)
            return True
        self.touch(connection)
        return self._send(transmit)

    def _send(self, transmit: Transmit) -> bool:
        if self._sock.send(transmit):
            return True
        self._blocked = transmit
        return False

    def _settle(self, connection: QuicConnection) -> None:
        """Read a connection's timer; without one, let go of it, and when it is over have the endpoint do so too."""
        timer = connection.get_timer()
        if timer is not None:
            self._deadlines.set(connection, timer)
            return
        self._deadlines.remove(connection)
        if connection.is_terminated:
            self._endpoint.forget(connection)
