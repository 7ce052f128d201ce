"""HTTP/3 clients and servers on the loopback interface, handlers that never end, and a client that says anything."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any

import anyio

import quicio.http
from helpers.loopback import HOST, client_configuration, server_configuration
from quicio.anyio import Connection
from quicio.anyio.client import Connecting
from quicio.anyio.lifetime import Handler
from quicio.anyio.link import Link
from quicio.h3.connection import H3_ALPN
from quicio.http import Client, Request, Server
from quicio.http.session import H3_CODES, Session

SERVE_OPTIONS = frozenset({"max_requests", "header_timeout", "on_error", "policy"})


@asynccontextmanager
async def serving(handler: Handler[Request], **changes: Any) -> AsyncIterator[Server]:
    """A server with `handler` while the body runs; cancelled afterwards. `changes` are of configuration or of `serve`."""
    options = {name: changes.pop(name) for name in SERVE_OPTIONS & changes.keys()}
    async with anyio.create_task_group() as group:
        run = partial(quicio.http.serve, handler, HOST, 0, configuration=server_configuration(**changes), **options)
        yield await group.start(run)
        group.cancel_scope.cancel()


def visiting(server: Server, **changes: Any) -> AbstractAsyncContextManager[Client]:
    """A client of `server`; `changes` are of its configuration."""
    return quicio.http.connect(*server.local_address, configuration=client_configuration(**changes))


@asynccontextmanager
async def talking(
    handler: Handler[Request], client: dict[str, Any] | None = None, **server: Any
) -> AsyncIterator[Client]:
    """A client of a server with `handler`."""
    async with serving(handler, **server) as running, visiting(running, **(client or {})) as visitor:
        yield visitor


@asynccontextmanager
async def rude(server: Server, **changes: Any) -> AsyncIterator[Session]:
    """A client that is driven by hand: `session.h3` and `session.link.quic` send whatever a test wants."""
    configuration = client_configuration(server_name=HOST, alpn_protocols=list(H3_ALPN), codes=H3_CODES, **changes)
    sessions: list[Session] = []

    def application(link: Link) -> Session:
        sessions.append(Session(link, configuration))
        return sessions[-1]

    connection: Connection
    async with Connecting(*server.local_address, configuration, application=application) as connection:
        yield sessions[0]
        connection.close(H3_CODES.no_error)


HEAD = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"localhost"), (b":path", b"/")]


async def eventually(condition: Any) -> None:
    """Wait until `condition()` holds."""
    with anyio.fail_after(10):
        while not condition():
            await anyio.sleep(0.005)


class Ending:
    """A handler that waits for ever, and notes how that ended."""

    def __init__(self) -> None:
        self.running = 0
        self.started = 0
        self.cancelled = 0
        self.start = anyio.Event()

    async def __call__(self, request: Request) -> None:
        self.running += 1
        self.started += 1
        self.start.set()
        try:
            await self.handle(request)
        except anyio.get_cancelled_exc_class():
            self.cancelled += 1
            raise
        finally:
            self.running -= 1

    async def handle(self, request: Request) -> None:
        await anyio.sleep_forever()


class EndingMidBody(Ending):
    async def handle(self, request: Request) -> None:
        await request.start_response(200)
        while True:
            await request.send(bytes(10_000))


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield bytes(10_000)
