"""`QuicConnectable`: a stream where generic code expects to connect, its connection in the caller's task group."""

from __future__ import annotations

import gc

import anyio
import pytest
from anyio import as_connectable
from anyio.streams.text import TextStream

from helpers.loopback import HOST, client_configuration, read_all, serving
from quicio.anyio import Connection, Listener, QuicConnectable, Stream
from quicio.errors import CloseReason, ConnectError

pytestmark = pytest.mark.anyio


class Server:
    """Echoes, and notes how connections end."""

    def __init__(self) -> None:
        self.reasons: list[CloseReason] = []

    async def echo(self, stream: Stream) -> None:
        async for data in stream:
            await stream.send(data)

    async def handle(self, connection: Connection) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(connection.incoming_streams.serve, self.echo)
            self.reasons.append(await connection.wait_closed())
            group.cancel_scope.cancel()


def to(listener: Listener, group: anyio.abc.TaskGroup) -> QuicConnectable:
    return QuicConnectable(group, *listener.local_address, configuration=client_configuration())


async def test_generic_code_connects_and_the_group_ends_when_the_stream_is_closed() -> None:
    server = Server()
    async with serving(server.handle) as listener:
        async with anyio.create_task_group() as group:
            connectable = as_connectable(to(listener, group))
            async with await connectable.connect() as stream, TextStream(stream) as text:
                await text.send("hello")
                assert await text.receive() == "hello"
        with anyio.fail_after(5):
            while not server.reasons:
                await anyio.sleep(0.01)
    assert server.reasons[0].code == 0


async def test_each_connect_is_a_connection_of_its_own() -> None:
    async with serving(Server().handle) as listener, anyio.create_task_group() as group:
        connectable = to(listener, group)
        one, two = await connectable.connect(), await connectable.connect()
        for stream in (one, two):
            await stream.send(b"x")
            await stream.send_eof()
            assert await read_all(stream) == b"x"
            assert isinstance(stream, Stream)
            await stream.aclose()


async def test_a_stream_that_is_dropped_ends_its_connection() -> None:
    async with serving(Server().handle) as listener:
        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                stream = await to(listener, group).connect()
                await stream.send(b"x")
                with pytest.warns(ResourceWarning, match="never closed"):
                    del stream
                    gc.collect()
                await anyio.sleep(0)


async def test_cancelling_the_group_closes_at_once() -> None:
    server = Server()
    async with serving(server.handle) as listener:
        async with anyio.create_task_group() as group:
            stream = await to(listener, group).connect()
            await stream.send(b"x")
            assert await stream.receive() == b"x"
            group.cancel_scope.cancel()
        await stream.aclose()
        with anyio.fail_after(5):
            while not server.reasons:
                await anyio.sleep(0.01)
    assert server.reasons[0].code == 2


async def test_what_fails_is_raised_to_who_connects() -> None:
    async with anyio.create_task_group() as group:
        connectable = QuicConnectable(group, HOST, 1, configuration=client_configuration(handshake_timeout=0.3))
        with pytest.raises(ConnectError):
            await connectable.connect()
        with pytest.raises(anyio.ConnectionFailed):
            await connectable.connect()
