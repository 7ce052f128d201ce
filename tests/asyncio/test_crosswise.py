"""The asyncio face against the anyio face, either way round."""

from __future__ import annotations

import asyncio
import hashlib

import anyio
import pytest

from helpers.asyncio_face import connected, echo, port_of, serving
from helpers.loopback import HOST, client_configuration, read_all
from helpers.loopback import serving as anyio_serving
from quicio import Connection, Stream
from quicio import connect as anyio_connect
from quicio.asyncio import connect
from quicio.asyncio.protocol import QuicConnectionProtocol
from quicio.quic import events
from quicio.quic.events import QuicEvent

pytestmark = pytest.mark.anyio

DATA = hashlib.shake_128(b"quicio").digest(2_000_000)


class EchoDatagrams(QuicConnectionProtocol):
    """Sends datagrams back."""

    def quic_event_received(self, event: QuicEvent) -> None:
        super().quic_event_received(event)
        if isinstance(event, events.DatagramFrameReceived):
            self._quic.send_datagram_frame(event.data)


async def anyio_echo(connection: Connection) -> None:
    async def stream_echo(stream: Stream) -> None:
        async for chunk in stream:
            await stream.send(chunk)

    await connection.incoming_streams.serve(stream_echo)


async def test_anyio_client_asyncio_server() -> None:
    async with serving(stream_handler=echo, create_protocol=EchoDatagrams) as server:
        async with anyio_connect(HOST, port_of(server), configuration=client_configuration()) as connection:

            async def exchange() -> None:
                async with await connection.open_stream() as stream, anyio.create_task_group() as tasks:

                    async def send() -> None:
                        await stream.send(DATA)
                        await stream.send_eof()

                    tasks.start_soon(send)
                    assert await read_all(stream) == DATA

            async with anyio.create_task_group() as tasks:
                for _ in range(5):
                    tasks.start_soon(exchange)
            await connection.datagrams.send(b"datagram")
            assert await connection.datagrams.receive() == b"datagram"
            assert await connection.ping() < 5


async def test_asyncio_client_anyio_server() -> None:
    async with anyio_serving(anyio_echo) as listener:
        async with connect(*listener.local_address, configuration=client_configuration()) as protocol:

            async def exchange() -> None:
                reader, writer = await protocol.create_stream()

                async def write() -> None:
                    for start in range(0, len(DATA), 100_000):
                        writer.write(DATA[start : start + 100_000])
                        await writer.drain()
                    writer.write_eof()

                _, answer = await asyncio.gather(write(), reader.read())
                assert answer == DATA

            async with asyncio.TaskGroup() as tasks:
                for _ in range(5):
                    tasks.create_task(exchange())
            await protocol.ping()


async def test_asyncio_both_ways() -> None:
    async with serving(stream_handler=echo) as server:
        async with connected(server) as protocol:
            reader, writer = await protocol.create_stream()
            writer.write(DATA)
            writer.write_eof()
            assert await reader.read() == DATA
