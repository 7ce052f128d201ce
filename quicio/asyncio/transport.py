"""A `DatagramTransport` over the `Engine`: sockets, wake-ups and time for the asyncio face.

asyncio's own datagram transport makes a call to the protocol for each datagram and a system call for each that is sent. Here
the transport owns an `Engine`, and whole bursts go between the socket and the connections that are *attached*: their protocols
are only told that there are events. To everybody else it is a transport like any other: `sendto` sends one datagram.

It cannot be run by tasks of a task group as the anyio face is: `await connect()` has no scope that could own them, and
`transmit()` must have sent when it returns. So everything happens in callbacks of the loop: a persistent reader, a writer while
the socket would block, one timer. On a loop without `add_reader` (Windows' proactor) a task of the transport's waits to read,
and what would block is tried again soon.

Rules:
- The timer is set anew only when the engine's deadline comes nearer. One that fires early looks and goes on waiting: deadlines
  mostly move away, with each acknowledgement.
- What `sendto` is given while the socket would block waits in the engine. Beyond the high water mark the protocol's
  `pause_writing()` is called, and `resume_writing()` at the low one, as asyncio's transports do. Attached connections need
  neither: they are asked for datagrams when there is room for them.
- A failure of the socket or the engine closes the transport, with the error as the reason.
- Closing it closes the socket at once. Attached connections are told, and run out their closing periods by themselves.
"""

from __future__ import annotations

import asyncio
import socket as socket_module
import warnings
from asyncio.trsock import TransportSocket
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Any, Final

import anyio

from quicio.quic.transmit import Transmit
from quicio.udp.address import Address, address_from_system
from quicio.udp.engine import Engine
from quicio.udp.socket import UdpSocket

if TYPE_CHECKING:
    from quicio.quic.connection import QuicConnection
    from quicio.quic.endpoint import Endpoint

__all__ = ["EngineTransport"]

HIGH_WATER: Final = 64 * 1024  # bytes given to `sendto` that may wait before the protocol is told, as in asyncio
RETRY: Final = 0.002  # seconds until a socket that would block is tried again, on loops that cannot tell

OnEvents = Callable[[], None]
OnClosed = Callable[[Exception | None], None]
OnPeerError = Callable[[int, Address], None]


class EngineTransport(asyncio.DatagramTransport):
    """The transport of `connect()` and `serve()`. It owns the bound UDP socket `sock` from now on."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket_module.socket, endpoint: Endpoint) -> None:
        self._is_closing = True  # until it is open
        super().__init__()
        self._loop = loop
        udp = UdpSocket(sock)
        self.engine: Engine = Engine(udp, endpoint, on_events=self._on_events)
        self.endpoint: Endpoint = endpoint
        self._on_peer_error: OnPeerError | None = None
        self._protocol: asyncio.BaseProtocol | None = None
        self._attached: dict[QuicConnection, tuple[OnEvents, OnClosed]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._armed = inf
        self._is_writing = False
        self._reader: asyncio.Task[None] | None = None  # only on loops without add_reader
        self._peer: Callable[[], Any] = lambda: None
        self._high = HIGH_WATER
        self._low = HIGH_WATER // 4
        self._has_paused = False  # the protocol was told to write no more
        host, port = self.engine.local_address
        is_ipv6 = udp.family == socket_module.AF_INET6
        self._extra_facts: dict[str, Any] = {
            "sockname": (host, port, 0, 0) if is_ipv6 else (host, port),
            "socket": TransportSocket(sock),
        }
        self._is_closing = False
        self._start_reading()

    # --- connections -------------------------------------------------------------------------------------------------

    def attach(self, quic: QuicConnection, on_events: OnEvents, on_closed: OnClosed) -> None:
        """Drive `quic`: `on_events()` is called when it may have events, `on_closed(error)` when the transport is closed."""
        self._attached[quic] = (on_events, on_closed)

    def detach(self, quic: QuicConnection) -> None:
        """Drive `quic` no more."""
        if self._attached.pop(quic, None) is not None:
            self.engine.forget(quic)

    def flush(self, quic: QuicConnection) -> None:
        """Send what `quic` and others have to send, now."""
        if not self._is_closing:
            self.engine.touch(quic)
            self._run(self.engine.flush)

    def watch_errors(self, on_peer_error: OnPeerError | None) -> None:
        """Have `on_peer_error(errno, address)` called when ICMP says that a peer cannot be reached; None ends that."""
        self._on_peer_error = on_peer_error
        self.engine.watch_errors(on_peer_error is not None)

    def _tell_peer_errors(self) -> None:
        found = False
        while self._on_peer_error is not None and (error := self.engine.next_error()) is not None:
            self._on_peer_error(*error)
            found = True
        if (found or self._on_peer_error is None) and self._reader is None and not self._is_closing:
            # libuv, and so uvloop, takes an error for the end of the descriptor and stops looking at it.
            fileno = self.engine.fileno()
            self._loop.remove_reader(fileno)
            self._loop.add_reader(fileno, self._on_readable)

    def _on_events(self, quic: QuicConnection) -> None:
        callbacks = self._attached.get(quic)
        if callbacks is not None:
            callbacks[0]()
            if quic.is_terminated:
                self._attached.pop(quic, None)

    # --- the loop's callbacks ----------------------------------------------------------------------------------------

    def _run(self, work: Callable[[float], object]) -> None:
        """A piece of the engine's work, and the waits that follow from it."""
        try:
            work(self._loop.time())
        except Exception as error:
            self._fail(error)
            return
        if self.engine.deadline < self._armed:
            self._arm()
        if self.engine.is_blocked and not self._is_writing:
            self._wait_writable()
        if self._has_paused and self.engine.posted_size() <= self._low:
            self._has_paused = False
            self._tell("resume_writing")

    def _on_readable(self) -> None:
        if self._is_closing:
            return
        was_watching = self._on_peer_error is not None
        self._run(self.engine.readable)
        if was_watching and not self._is_closing:  # an answer that came along with the error may have ended the watch
            self._tell_peer_errors()

    def _on_writable(self) -> None:
        if self._is_closing:
            return
        if self._reader is None:
            self._loop.remove_writer(self.engine.fileno())
        self._is_writing = False
        self._run(self.engine.flush)  # which waits again if need be

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed = self.engine.deadline
        self._timer = self._loop.call_at(self._armed, self._on_timer) if self._armed < inf else None

    def _on_timer(self) -> None:
        armed, self._armed, self._timer = self._armed, inf, None
        if self._is_closing:
            return
        now = max(armed, self._loop.time())  # a loop's clock may be coarser than its timers
        if self.engine.deadline <= now:
            self._run(lambda _: self.engine.expired(now))
        else:
            self._arm()

    def _start_reading(self) -> None:
        """Have `_on_readable` called whenever the socket is readable, by the loop or, where it cannot, by a task."""
        try:
            self._loop.add_reader(self.engine.fileno(), self._on_readable)
        except NotImplementedError:
            self._reader = self._loop.create_task(self._keep_reading())

    async def _keep_reading(self) -> None:
        while not self._is_closing:
            await anyio.wait_readable(self.engine.fileno())
            self._on_readable()
            await asyncio.sleep(0)  # a long burst leaves the others their turn

    def _wait_writable(self) -> None:
        """Have `_on_writable` called when the socket is writable; where the loop cannot tell, soon, to try."""
        self._is_writing = True
        if self._reader is None:
            self._loop.add_writer(self.engine.fileno(), self._on_writable)
        else:
            self._loop.call_later(RETRY, self._on_writable)

    # --- what asyncio asks of a transport ----------------------------------------------------------------------------

    def sendto(self, data: bytes | bytearray | memoryview, addr: Any = None) -> None:
        """Send one datagram to `addr`, a numeric address as `getaddrinfo` gives it. Nothing once closing."""
        if addr is None:
            raise ValueError("the socket is not connected: sendto() needs an address")
        if not self._is_closing:
            self.engine.post(Transmit([bytes(data)], address_from_system(addr)))
            if not self._is_writing:
                self._run(self.engine.flush)
            if self.engine.is_blocked:
                self._pause_when_full()

    def _pause_when_full(self) -> None:
        if not self._has_paused and self.engine.posted_size() > self._high:
            self._has_paused = True
            self._tell("pause_writing")

    def _tell(self, method: str) -> None:
        """Call a method of the protocol; what it raises is its own affair."""
        try:
            getattr(self._protocol, method)()
        except Exception as error:
            self._report(f"protocol.{method}() failed", error)

    def set_peer(self, peer: Callable[[], Any]) -> None:
        """What tells `peername`: a client's transport has one peer, though its socket is not connected."""
        self._peer = peer

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """`sockname`, `socket`, and on a client's transport `peername`; the default for all else."""
        if name == "peername":
            peer = self._peer()
            return default if peer is None else peer
        return self._extra_facts.get(name, default)

    def get_write_buffer_size(self) -> int:
        """Bytes given to `sendto` that wait for the socket."""
        return self.engine.posted_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """The low and the high water mark, in bytes."""
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the water marks, in bytes. Without `low` it is a quarter of `high`, without both they are asyncio's.

        Raises `ValueError` unless high >= low >= 0.
        """
        self._low, self._high = water_marks(high, low, HIGH_WATER)
        self._pause_when_full()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Whose `connection_lost` is called in the end."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The protocol that was set."""
        assert self._protocol is not None, "no protocol was set"
        return self._protocol

    def is_closing(self) -> bool:
        """Whether it is closed."""
        return self._is_closing

    def abort(self) -> None:
        """As `close()`."""
        self.close()

    def close(self) -> None:
        """Close the socket. The protocol's `connection_lost` follows. Idempotent."""
        self._close(None)

    def _fail(self, error: Exception) -> None:
        self._report("the QUIC transport failed", error)
        self._close(error)

    def _report(self, message: str, error: Exception) -> None:
        self._loop.call_exception_handler(
            {"message": message, "exception": error, "transport": self, "protocol": self._protocol}
        )

    def _close(self, error: Exception | None) -> None:
        if self._is_closing:
            return
        self._is_closing = True
        self._on_peer_error = None
        fileno = self.engine.fileno()
        if self._reader is not None:
            anyio.notify_closing(fileno)
            self._reader.cancel()
        else:
            self._loop.remove_reader(fileno)
            self._loop.remove_writer(fileno)
        if self._timer is not None:
            self._timer.cancel()
        self.engine.close()
        attached = list(self._attached.values())
        self._attached.clear()
        for _, on_closed in attached:
            on_closed(error)
        if self._protocol is not None:
            self._loop.call_soon(self._protocol.connection_lost, error)

    def __del__(self) -> None:
        if not self._is_closing:
            warnings.warn(f"unclosed transport {self!r}", ResourceWarning, stacklevel=2, source=self)
            self.engine.close()


def water_marks(high: int | None, low: int | None, default: int) -> tuple[int, int]:
    """The low and the high mark that `set_write_buffer_limits(high, low)` means, by the rules of asyncio's transports."""
    if high is None:
        high = default if low is None else 4 * low
    if low is None:
        low = high // 4
    if not high >= low >= 0:
        raise ValueError(f"high ({high}) must be at least low ({low}), and low at least 0")
    return low, high
