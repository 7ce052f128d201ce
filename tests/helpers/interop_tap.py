"""A tap: a UDP relay before a server that keeps each datagram, so that a test can say what went over the wire.

It runs in a thread of its own, on the loopback interface, and changes nothing. Each client address has a socket of its own
towards the server, so a client that changes its address has changed it for the server too. With a `delay` the server is that
far away: what it sends arrives so much later. What was kept is decoded by `interop_decode`, with the secrets that quicio's
side logged.
"""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

HOST: Final = "127.0.0.1"
LIMIT: Final = 60_000  # datagrams that are kept; later ones are passed on alone
BUFFER: Final = (
    4 * 1024 * 1024
)  # bytes of socket buffer asked for: bursts wait while the other processes have the machine
BATCH: Final = 64  # datagrams of one socket before the others have their turn


@dataclass
class Datagram:
    """One datagram: which way it went, and between the server and which of the client's addresses."""

    by_client: bool
    flow: int
    data: bytes


class Tap:
    """A running relay. `port` is where clients go; `datagrams` is what went by so far."""

    def __init__(self, server_port: int, delay: float = 0.0) -> None:
        self.datagrams: list[Datagram] = []
        self._delay = delay  # seconds
        self._late: deque[tuple[float, Datagram, Any]] = deque()  # with the time to pass it on and its client
        self._server = (HOST, server_port)
        self._selector = selectors.DefaultSelector()
        self._front = self._socket(HOST, 0)
        self.port = int(self._front.getsockname()[1])
        self._flows: dict[Any, tuple[int, socket.socket]] = {}  # by client address
        self._clients: dict[socket.socket, tuple[int, Any]] = {}
        self._wake, self._woken = socket.socketpair()
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._relay, daemon=True)
        self._thread.start()

    def _socket(self, *bind_to: Any) -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        made.setblocking(False)
        if bind_to:
            made.bind(bind_to)
        self._selector.register(made, selectors.EVENT_READ)
        return made

    def _relay(self) -> None:
        while True:
            wait = max(self._late[0][0] - time.monotonic(), 0) if self._late else None
            for key, _ in self._selector.select(wait):
                if key.fileobj is self._woken:
                    return
                assert isinstance(key.fileobj, socket.socket)
                self._drain(key.fileobj)
            while self._late and self._late[0][0] <= time.monotonic():
                _, datagram, client = self._late.popleft()
                self._pass(datagram, self._front, client)

    def _drain(self, source: socket.socket) -> None:
        for _ in range(BATCH):
            try:
                data, sender = source.recvfrom(65535)
            except BlockingIOError:
                return
            except OSError:
                continue  # the other end is gone, as ICMP says: its peer finds out by itself
            if source is self._front:
                flow, back = self._flow(sender)
                self._pass(Datagram(True, flow, data), back, self._server)
            else:
                flow, client = self._clients[source]
                self._late.append((time.monotonic() + self._delay, Datagram(False, flow, data), client))

    def _flow(self, client: Any) -> tuple[int, socket.socket]:
        if client not in self._flows:
            back = self._socket()
            back.bind((HOST, 0))
            self._flows[client] = (len(self._flows), back)
            self._clients[back] = (len(self._clients), client)
        return self._flows[client]

    def _pass(self, datagram: Datagram, out: socket.socket, target: Any) -> None:
        if len(self.datagrams) < LIMIT:
            self.datagrams.append(datagram)
        with suppress(OSError):  # a full buffer loses it, as any router would
            out.sendto(datagram.data, target)

    def close(self) -> None:
        """Stop, and give the sockets back."""
        self._wake.send(b"x")
        self._thread.join()
        for each in [self._front, *self._clients, self._wake, self._woken]:
            each.close()
        self._selector.close()


@contextmanager
def tapped(server_port: int, delay: float = 0.0) -> Iterator[Tap]:
    """A tap before a server while the body runs."""
    tap = Tap(server_port, delay)
    try:
        yield tap
    finally:
        tap.close()
