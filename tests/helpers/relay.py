"""A UDP relay between one client and a server, in a task of the test's own event loop: it delays, goes dark, and rebinds.

The server sees the relay's address in the client's place, as behind a NAT. `rebind` gives it another one, and what is still
sent to the old one is lost, as when a NAT has forgotten a flow.
"""

from __future__ import annotations

import math
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from helpers.faces import Face, Link
from helpers.loopback import HOST, client_configuration, server_configuration


class Relay:
    """`port` is where the client goes; `delay` is one way, in seconds."""

    def __init__(self, group: TaskGroup, server_port: int, delay: float = 0.0) -> None:
        self.delay = delay
        self.is_dark_up = False  # nothing reaches the server
        self.is_dark_down = False  # nothing reaches the client
        self.left_down = math.inf  # datagrams that the client may still get
        self._is_closed = False
        self._group = group
        self._client: Any = None
        self._server = (HOST, server_port)
        self._front = _open()
        self._back = _open()
        self.port: int = self._front.getsockname()[1]
        group.start_soon(self._keep_reading_front)
        group.start_soon(self._keep_reading_back)

    @property
    def address(self) -> tuple[str, int]:
        """The address that the server takes for the client's."""
        host, port = self._back.getsockname()
        return host, port

    def go_dark(self) -> None:
        """Nothing gets through any more."""
        self.is_dark_up = self.is_dark_down = True

    def rebind(self) -> None:
        """The client has another address for the server from now on."""
        old, self._back = self._back, _open()
        anyio.notify_closing(old)
        old.close()

    async def _keep_reading_front(self) -> None:
        while not self._is_closed:
            await anyio.wait_readable(self._front)
            for data, sender in _drain(self._front):
                self._client = sender
                if not self.is_dark_up:
                    self._pass_on(self._send_up, data)

    async def _keep_reading_back(self) -> None:
        while not self._is_closed:
            try:
                await anyio.wait_readable(self._back)
            except anyio.ClosedResourceError:  # rebound
                await anyio.lowlevel.checkpoint()
                continue
            for data, _ in _drain(self._back):
                self.left_down -= 1
                if not self.is_dark_down and self.left_down >= 0:
                    self._pass_on(self._send_down, data)

    def _pass_on(self, send: Any, data: bytes) -> None:
        if self.delay:
            self._group.start_soon(self._send_later, send, data)
        else:
            send(data)

    async def _send_later(self, send: Any, data: bytes) -> None:
        await anyio.sleep(self.delay)
        if not self._is_closed:  # in the turn in which this task woke
            send(data)

    def _send_up(self, data: bytes) -> None:
        self._back.sendto(data, self._server)

    def _send_down(self, data: bytes) -> None:
        self._front.sendto(data, self._client)

    def close(self) -> None:
        """Give the sockets back."""
        self._is_closed = True
        for sock in (self._front, self._back):
            anyio.notify_closing(sock)
            sock.close()


def _open() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setblocking(False)
    made.bind((HOST, 0))
    return made


def _drain(source: socket.socket) -> list[tuple[bytes, Any]]:
    found: list[tuple[bytes, Any]] = []
    while source.fileno() >= 0:  # closed while its reader was being woken
        try:
            found.append(source.recvfrom(65535))
        except BlockingIOError:
            break
        except ConnectionError:
            continue  # ICMP: the other end is gone, as its peer will find out by itself
    return found


@asynccontextmanager
async def relayed(server_port: int, delay: float = 0.0) -> AsyncIterator[Relay]:
    """A relay before a server while the body runs."""
    async with anyio.create_task_group() as group:
        relay = Relay(group, server_port, delay)
        try:
            yield relay
        finally:
            group.cancel_scope.cancel()
            relay.close()


class Meeting:
    """Both ends of one connection of a face, and the relay between them."""

    def __init__(self, client: Link, server: Link, relay: Relay) -> None:
        self.client = client
        self.server = server
        self.relay = relay


@asynccontextmanager
async def meeting(
    face: Face, delay: float, *, client: dict[str, Any] | None = None, server: dict[str, Any] | None = None
) -> AsyncIterator[Meeting]:
    """A connection through a relay while the body runs; `client` and `server` are changes of configuration."""
    accepted: list[Link] = []
    is_there = anyio.Event()

    async def hold(link: Link) -> None:
        accepted.append(link)
        is_there.set()
        await anyio.sleep_forever()

    async with (
        face.serve(hold, server_configuration(**(server or {}))) as port,
        relayed(port, delay) as relay,
        face.connect(relay.port, client_configuration(**(client or {}))) as link,
    ):
        await is_there.wait()
        yield Meeting(link, accepted[0], relay)
