"""Code that knows anyio alone works on our streams, acceptors, listeners and connectables: anyio's wrappers are that code."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import as_connectable
from anyio.abc import ByteStream, ByteStreamConnectable, Listener, SocketAttribute
from anyio.streams.buffered import BufferedByteReceiveStream
from anyio.streams.stapled import MultiListener, StapledByteStream
from anyio.streams.text import TextReceiveStream, TextSendStream, TextStream
from anyio.streams.tls import TLSAttribute, TLSConnectable, TLSListener, TLSStream

import quicio
from helpers.certificates import Identity
from helpers.loopback import HOST, Pair, client_configuration, identity, pair, read_all, server_configuration
from quicio import QuicConnectable, Stream

pytestmark = pytest.mark.anyio

NAME = "localhost"
DATA = bytes(range(256)) * 1000  # many records and packets


async def echo(stream: ByteStream) -> None:
    """A generic handler: what comes goes back, until the end."""
    async with stream:
        async for data in stream:
            await stream.send(data)


async def streams(ends: Pair) -> tuple[Stream, Stream]:
    """A stream opened by the client, and the same stream as the server got it."""
    mine = await ends.client.open_stream()
    mine.announce()
    return mine, await ends.server.incoming_streams.receive()


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The standard library's TLS for a client and a server: a second layer above QUIC's own."""
    who: Identity
    who, authority = identity()
    folder: Path = tmp_path_factory.mktemp("tls")
    (folder / "chain.pem").write_bytes(who.chain_pem)
    (folder / "key.pem").write_bytes(who.key_pem)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "chain.pem", folder / "key.pem")
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(cadata=authority.decode())
    return client, server


# --- wrappers of one stream ----------------------------------------------------------------------------------------------


async def test_text_streams() -> None:
    async with pair() as ends:
        mine, theirs = await streams(ends)
        async with TextStream(mine) as here, TextStream(theirs) as there:
            await here.send("grüß ")
            await theirs.send("€".encode()[:1])  # a character in two pieces
            await theirs.send("€".encode()[1:])
            assert await here.receive() == "€"
            assert await there.receive() == "grüß "
            assert here.extra(quicio.QuicAttribute.stream_id) == mine.id
            await here.send_eof()
            with pytest.raises(anyio.EndOfStream):
                await there.receive()
            await there.send("done")
            assert await here.receive() == "done"


async def test_text_streams_in_one_direction() -> None:
    async with pair() as ends, TextSendStream(await ends.client.open_send_stream()) as sender:
        await sender.send("one way")
        receiving = await ends.server.incoming_receive_streams.receive()
        async with TextReceiveStream(receiving) as receiver:
            assert await receiver.receive() == "one way"


async def test_buffered_streams() -> None:
    async with pair() as ends:
        mine, theirs = await streams(ends)
        async with mine, theirs:
            await mine.send(b"GET / HTTP/1.1\r\n\r\n")
            await mine.send(DATA)
            await mine.send_eof()
            buffered = BufferedByteReceiveStream(theirs)
            assert await buffered.receive_until(b"\r\n", 100) == b"GET / HTTP/1.1"
            assert await buffered.receive_exactly(2) == b"\r\n"
            assert await buffered.receive_exactly(100_000) == DATA[:100_000]
            rest = await buffered.receive_exactly(len(DATA) - 100_000)
            assert rest == DATA[100_000:]
            with pytest.raises(anyio.IncompleteRead):
                await buffered.receive_exactly(1)


async def test_a_buffered_stream_of_a_lost_connection_is_no_end() -> None:
    async with pair() as ends:
        mine, theirs = await streams(ends)
        await theirs.send(b"cut")
        await ends.server.ping()
        ends.server.close(7)
        await ends.client.wait_closed()
        async with BufferedByteReceiveStream(mine) as buffered:
            assert await buffered.receive_exactly(3) == b"cut"
            with pytest.raises(anyio.BrokenResourceError):
                await buffered.receive_until(b"\n", 100)
        await theirs.aclose()


async def test_a_stapled_stream_of_two_directions() -> None:
    async with pair() as ends:
        up = await ends.client.open_send_stream()
        down = await ends.server.open_send_stream()
        up.announce()
        down.announce()
        here = StapledByteStream(up, await ends.client.incoming_receive_streams.receive())
        there = StapledByteStream(down, await ends.server.incoming_receive_streams.receive())
        async with anyio.create_task_group() as group:
            group.start_soon(echo, there)
            group.start_soon(send_and_finish, here)
            assert await read_all(here) == DATA
        await here.aclose()


async def send_and_finish(stream: ByteStream) -> None:
    await stream.send(DATA)
    await stream.send_eof()


# --- TLS above a stream --------------------------------------------------------------------------------------------------


async def test_tls_over_a_stream(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    for_client, for_server = contexts
    async with pair() as ends:
        mine, theirs = await streams(ends)

        async def serve() -> None:
            await echo(await TLSStream.wrap(theirs, server_side=True, ssl_context=for_server))

        async with anyio.create_task_group() as group:
            group.start_soon(serve)
            async with await TLSStream.wrap(mine, hostname=NAME, ssl_context=for_client) as secure:
                group.start_soon(secure.send, DATA)
                received = b""
                while len(received) < len(DATA):
                    received += await secure.receive()
                assert received == DATA
                assert secure.extra(TLSAttribute.ssl_object) is not None  # the inner layer's
                assert secure.extra(quicio.QuicAttribute.stream_id) == mine.id
                await secure.unwrap()
        await mine.aclose()


async def test_tls_on_every_stream_that_comes(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """`TLSListener` on an acceptor, `TLSConnectable` on a connection's connectable."""
    for_client, for_server = contexts
    async with pair() as ends, anyio.create_task_group() as group:
        listener = TLSListener(ends.server.incoming_streams, for_server)
        group.start_soon(listener.serve, echo)
        connectable = TLSConnectable(ends.client.connectable(), hostname=NAME, ssl_context=for_client)
        for _ in range(3):
            assert await ask(connectable, b"hello") == b"hello"
        group.cancel_scope.cancel()


# --- listeners and connectables ------------------------------------------------------------------------------------------


async def ask(connectable: ByteStreamConnectable, question: bytes) -> bytes:
    """A generic client: connect, send, and take as much as was sent."""
    async with await connectable.connect() as stream:
        await stream.send(question)
        return await BufferedByteReceiveStream(stream).receive_exactly(len(question))


async def serve_generically(listener: Listener[Any], handler: Callable[[Any], Awaitable[None]]) -> None:
    """A generic server, whose tasks are its own."""
    async with listener, anyio.create_task_group() as group:
        await listener.serve(handler, group)


async def test_an_acceptor_is_a_listener_of_streams() -> None:
    async with pair() as ends, anyio.create_task_group() as group:
        group.start_soon(serve_generically, ends.server.incoming_streams, echo)
        connectable = as_connectable(ends.client.connectable())
        answers = []

        async def client(number: int) -> None:
            answers.append(await ask(connectable, b"%02d" % number))

        async with anyio.create_task_group() as clients:
            for number in range(20):
                clients.start_soon(client, number)
        assert sorted(answers) == [b"%02d" % number for number in range(20)]
        group.cancel_scope.cancel()


async def serve_connection(connection: quicio.Connection) -> None:
    await connection.incoming_streams.serve(echo)


async def test_listeners_of_connections_are_anyios() -> None:
    """Two of them behind one `MultiListener`, and a client for each that knows `as_connectable` alone."""
    configuration = server_configuration()
    async with (
        quicio.listen(HOST, 0, configuration=configuration) as one,
        quicio.listen(HOST, 0, configuration=configuration) as two,
    ):
        both = MultiListener([one, two])
        assert both.extra(SocketAttribute.local_port) in {one.local_address[1], two.local_address[1]}
        async with anyio.create_task_group() as server:
            server.start_soon(serve_generically, both, serve_connection)
            for listener in (one, two):
                async with anyio.create_task_group() as group:
                    quic = QuicConnectable(group, *listener.local_address, configuration=client_configuration())
                    assert await ask(as_connectable(quic), b"hello") == b"hello"
            server.cancel_scope.cancel()


async def test_connecting_to_nobody_is_a_failed_connection() -> None:
    async with pair() as ends:
        ends.client.close(0)
        with pytest.raises(anyio.ConnectionFailed):
            await as_connectable(ends.client.connectable()).connect()
