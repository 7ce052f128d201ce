"""Clients and servers of the asyncio face on the loopback interface."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from helpers.loopback import HOST, client_configuration, server_configuration
from quicio.asyncio import QuicConnectionProtocol, connect, serve
from quicio.asyncio.server import QuicServer
from quicio.quic.events import QuicEvent

PATIENCE = 10.0  # seconds: for what should take no time at all


def port_of(server: QuicServer) -> int:
    """The port of a server, as users of aioquic find it."""
    assert server._transport is not None
    port: int = server._transport.get_extra_info("sockname")[1]
    return port


@asynccontextmanager
async def serving(configuration: dict[str, Any] | None = None, **options: Any) -> AsyncIterator[QuicServer]:
    """A server while the body runs; `configuration` are changes of the usual one."""
    options.setdefault("configuration", server_configuration(**(configuration or {})))
    server = await serve(HOST, 0, **options)
    try:
        yield server
    finally:
        server.close()
        async with asyncio.timeout(PATIENCE):
            await server.wait_closed()


@asynccontextmanager
async def connected(
    server: QuicServer, configuration: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[Any]:
    """A client of a server."""
    changes = client_configuration(**(configuration or {}))
    async with connect(HOST, port_of(server), configuration=changes, **options) as protocol:
        yield protocol


class Pair:
    """Both ends of one connection."""

    def __init__(self, client: Any, server: Any, listener: QuicServer) -> None:
        self.client = client
        self.server = server
        self.listener = listener


@asynccontextmanager
async def pair(
    *,
    client: dict[str, Any] | None = None,
    server: dict[str, Any] | None = None,
    client_protocol: Callable[..., QuicConnectionProtocol] = QuicConnectionProtocol,
    server_protocol: Callable[..., QuicConnectionProtocol] = QuicConnectionProtocol,
    stream_handler: Any = None,
) -> AsyncIterator[Pair]:
    """A client's and a server's protocol, connected; `client` and `server` are changes of configuration."""
    made: list[QuicConnectionProtocol] = []

    def create(*arguments: Any, **keywords: Any) -> QuicConnectionProtocol:
        made.append(server_protocol(*arguments, **keywords))
        return made[-1]

    async with serving(server, create_protocol=create, stream_handler=stream_handler) as listener:
        async with connected(listener, client, create_protocol=client_protocol) as protocol:
            await made[0].wait_connected()
            yield Pair(protocol, made[0], listener)


class Recorder(QuicConnectionProtocol):
    """Keeps the events it sees, and handles them as usual."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.events: list[QuicEvent] = []

    def quic_event_received(self, event: QuicEvent) -> None:
        self.events.append(event)
        super().quic_event_received(event)

    def names(self) -> list[str]:
        """The kinds of the events, in order."""
        return [type(event).__name__ for event in self.events]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A stream handler: sends back what comes."""
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


async def until(condition: Callable[[], Any]) -> None:
    """Wait until something has come true."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.001)
