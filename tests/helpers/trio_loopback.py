"""Clients and servers of the trio face on the loopback interface: the real sockets, the real clock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import trio

from helpers.loopback import HOST, client_configuration, server_configuration
from quicio.anyio.lifetime import Handler
from quicio.trio import Connection, QuicListener, Stream, open_quic_connection, serve_quic


@asynccontextmanager
async def serving(handler: Handler[Connection], **changes: Any) -> AsyncIterator[QuicListener]:
    """A server with `handler` while the body runs; it is cancelled afterwards. `changes` are of its configuration."""
    async with trio.open_nursery() as nursery:
        configuration = server_configuration(**changes)
        listeners = await nursery.start(partial(serve_quic, handler, 0, host=HOST, configuration=configuration))
        yield listeners[0]
        nursery.cancel_scope.cancel()


class Pair:
    """Both ends of one connection."""

    def __init__(self, client: Connection, server: Connection) -> None:
        self.client = client
        self.server = server

    async def open_stream(self) -> tuple[Stream, Stream]:
        """A stream opened by the client, and the same stream as the server got it."""
        mine = await self.client.open_stream()
        mine.announce()
        return mine, await self.server.incoming_streams.receive()


@asynccontextmanager
async def pair(client: dict[str, Any] | None = None, server: dict[str, Any] | None = None) -> AsyncIterator[Pair]:
    """A client's and a server's connection to each other; `client` and `server` are changes of configuration."""
    send, receive = trio.open_memory_channel[Connection](1)
    is_over = trio.Event()

    async def hold(connection: Connection) -> None:
        await send.send(connection)
        await is_over.wait()

    async with serving(hold, **(server or {})) as listener:
        configuration = client_configuration(**(client or {}))
        async with open_quic_connection(*listener.local_address, configuration=configuration) as connection:
            yield Pair(connection, await receive.receive())
            is_over.set()


async def read_all(stream: Any) -> bytes:
    """Everything until the FIN."""
    pieces = [piece async for piece in stream]
    return b"".join(pieces)
