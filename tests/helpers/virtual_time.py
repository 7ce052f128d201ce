"""Faces on virtual time: timers of real programs, over real sockets, that take no time and are exact.

A clock jumps to the next timer when nothing can run and no socket is readable. What is sent over the loopback interface has
arrived when sending returns, so a jump never overtakes a datagram. asyncio gets a loop whose selector moves its clock, trio its
own `MockClock`; uvloop keeps its clock in C, so there time is real (`is_virtual`).
"""

from __future__ import annotations

import asyncio
import selectors
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import trio.testing

from helpers.faces import Face

START = 1000.0  # seconds: what the clock shows at first


class JumpingSelector(selectors.DefaultSelector):
    """Never waits while there is a timer: it moves the clock instead."""

    now = START

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0 if timeout is not None else None)
        if not ready and timeout is not None:
            self.now += max(timeout, 0.0)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on virtual time. Numeric addresses are resolved at once: a thread would take real time."""

    def __init__(self) -> None:
        self._jumping = JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:
        return socket.getaddrinfo(host, port, **options)


def is_virtual(face: Face) -> bool:
    """Whether `run` gives the face a clock that jumps."""
    return not face.options.get("use_uvloop", False)


def run(face: Face, main: Callable[[], Awaitable[None]], *, patience: float = 60.0) -> None:
    """Run `main` on the face's event loop, on virtual time where that can be; at most `patience` seconds of it."""

    async def bounded() -> None:
        with anyio.fail_after(patience):
            await main()

    options = dict(face.options)
    if is_virtual(face):
        if face.backend == "trio":
            options["clock"] = trio.testing.MockClock(autojump_threshold=0)
        else:
            options["loop_factory"] = VirtualLoop
    anyio.run(bounded, backend=face.backend, backend_options=options)
