"""trio's own acceptance tests, and what trio code may rely on: `check_half_closeable_stream`, `assert_checkpoints`."""

from __future__ import annotations

import ast
import builtins
import inspect
import ssl
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

import quicio.trio
from helpers.loopback import HOST, client_configuration, identity, server_configuration
from helpers.trio_loopback import Pair, pair, serving
from quicio.trio import Connection, Stream, connect_quic, open_quic_connection, open_quic_listeners, serve_quic

pytestmark = pytest.mark.anyio

SMALL = {"max_stream_data": 65536, "max_data": 8 << 20, "send_buffer": 65536, "linger": 0.05}


async def clog(stream: Stream) -> None:
    """Send until the peer's window and the send buffer are full."""
    misses = 0
    while misses < 5:
        try:
            stream.send_nowait(bytes(16384))
            misses = 0
        except trio.WouldBlock:
            misses += 1
            await trio.sleep(0.01)


@pytest.mark.parametrize("opener", ["client", "server"])
async def test_streams_are_good_half_closeable_streams(opener: str) -> None:
    async with pair(client=SMALL, server=SMALL) as ends:
        here, there = (ends.client, ends.server) if opener == "client" else (ends.server, ends.client)
        flipped = Pair(here, there)

        async def clogged() -> tuple[Stream, Stream]:
            both = await flipped.open_stream()
            for stream in both:
                await clog(stream)
            return both

        await trio.testing.check_half_closeable_stream(flipped.open_stream, clogged)


async def test_trios_tls_works_over_a_stream(tmp_path: Path) -> None:
    who, authority = identity()
    (tmp_path / "chain.pem").write_bytes(who.chain_pem)
    (tmp_path / "key.pem").write_bytes(who.key_pem)
    for_server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for_server.load_cert_chain(tmp_path / "chain.pem", tmp_path / "key.pem")
    for_client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for_client.load_verify_locations(cadata=authority.decode())
    data = bytes(range(256)) * 1000
    async with pair() as ends, trio.open_nursery() as nursery:
        mine, theirs = await ends.open_stream()
        client = trio.SSLStream(mine, for_client, server_hostname="localhost")
        server = trio.SSLStream(theirs, for_server, server_side=True)

        async def echo() -> None:
            async with server:
                async for piece in server:
                    await server.send_all(piece)

        nursery.start_soon(echo)
        nursery.start_soon(client.send_all, data)
        received = b""
        while len(received) < len(data):
            received += await client.receive_some()
        assert received == data
        await client.aclose()


def caught_by(path: Path) -> Iterator[str]:
    """What the tests of a file catch: the names in `except` and `pytest.raises`."""
    for node in ast.walk(ast.parse(path.read_text())):
        caught = None
        if isinstance(node, ast.ExceptHandler):
            caught = node.type
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in {
            "pytest.raises",
            "suppress",
            "contextlib.suppress",
        }:
            caught = node.args[0]
        if caught is not None:
            yield from map(ast.unparse, caught.elts if isinstance(caught, ast.Tuple) else [caught])


def test_tests_of_this_face_catch_only_trios_errors() -> None:
    """And the builtins that trio's own functions raise. Code that knows trio alone needs no other name to catch anything."""
    files = [path for path in Path(__file__).parent.glob("test_*.py") if path.name != "test_errors.py"]
    names = {f"{path.name}: {name}" for path in files for name in caught_by(path)}
    assert len(names) > 20
    allowed = {"error", *(name for name in vars(builtins) if name.endswith(("Error", "Exception", "ExceptionGroup")))}
    assert {
        each for each in names if (name := each.split()[1]) not in allowed and not name.startswith("trio.")
    } == set()


def public_coroutines() -> Iterator[str]:
    """Each public coroutine function of the face, as `name` or `Class.method`."""
    for name in quicio.trio.__all__:
        value = getattr(quicio.trio, name)
        if inspect.iscoroutinefunction(value):
            yield name
        elif inspect.isclass(value):
            for attribute in dir(value):
                if inspect.iscoroutinefunction(getattr(value, attribute)) and not attribute.startswith("_"):
                    yield f"{name}.{attribute}"


Call = Callable[[], Awaitable[object]]


async def hold(connection: Connection) -> None:
    await connection.wait_closed()


async def check(name: str, call: Call, unchecked: set[str]) -> None:
    """The call is a checkpoint: cancelled it has no effect, and when it succeeds it yielded."""
    unchecked.discard(name)
    with trio.CancelScope() as scope:
        scope.cancel()
        await call()
    assert scope.cancelled_caught, name
    with trio.fail_after(5), trio.testing.assert_checkpoints():
        await call()


async def check_until_cancelled(name: str, call: Call, unchecked: set[str]) -> None:
    """The call waits for ever and is cancellable."""
    unchecked.discard(name)
    with trio.move_on_after(0.05) as scope, trio.testing.assert_checkpoints():
        await call()
    assert scope.cancelled_caught, name


async def check_streams(ends: Pair, unchecked: set[str]) -> None:
    client, server = ends.client, ends.server
    opened: list[Any] = []

    async def open_both() -> None:
        opened.append(await client.open_stream())

    async def open_one() -> None:
        opened.append(await client.open_send_stream())

    await check("Connection.open_stream", open_both, unchecked)
    await check("Connection.open_send_stream", open_one, unchecked)
    mine, sending = opened
    mine.announce()
    sending.announce()
    theirs = await server.incoming_streams.receive()
    receiving = await server.incoming_receive_streams.receive()
    for face, source, sink in (("Stream", mine, theirs), ("SendStream", sending, receiving)):
        await check(f"{face}.send_all", partial(source.send_all, b"ab"), unchecked)
        await check(f"{face}.send_some", partial(source.send_some, b"cd"), unchecked)
        await check(f"{face}.wait_send_all_might_not_block", source.wait_send_all_might_not_block, unchecked)
        kind = "Stream" if face == "Stream" else "ReceiveStream"
        await trio.sleep(0.02)
        await check(f"{kind}.receive_some", partial(sink.receive_some, 4), unchecked)
        await check(f"{face}.send_eof", source.send_eof, unchecked)
        await check(f"{face}.wait_delivered", source.wait_delivered, unchecked)
        await check(f"{face}.wait_stopped", source.wait_stopped, unchecked)
        assert await sink.receive_some() == b""
    for name, stream in (("Stream", mine), ("Stream", theirs), ("SendStream", sending), ("ReceiveStream", receiving)):
        await check(f"{name}.aclose", stream.aclose, unchecked)


async def check_channels(ends: Pair, unchecked: set[str]) -> None:
    client, server = ends.client, ends.server
    await check("Datagrams.send", partial(client.datagrams.send, b"x"), unchecked)
    await trio.sleep(0.02)
    await check("Datagrams.receive", server.datagrams.receive, unchecked)
    await check("Datagrams.aclose", client.datagrams.aclose, unchecked)
    incoming: list[Stream] = []

    async def accept() -> None:
        incoming.append(await server.incoming_streams.receive())

    async with await client.open_stream() as stream:
        stream.announce()
        await trio.sleep(0.02)
        await check("Acceptor.receive", accept, unchecked)
    await incoming[0].aclose()

    async def handle(stream: Stream) -> None:
        pytest.fail("no stream came")

    await check_until_cancelled("Acceptor.serve", partial(server.incoming_streams.serve, handle), unchecked)
    await check("Acceptor.aclose", server.incoming_streams.aclose, unchecked)


async def check_listener(unchecked: set[str]) -> None:
    configuration = server_configuration()
    async with trio.open_nursery() as nursery:
        listeners = await open_quic_listeners(nursery, 0, host=HOST, configuration=configuration)
        accepted: list[Connection] = []

        async def accept() -> None:
            accepted.append(await listeners[0].accept())

        options: Any = {"configuration": client_configuration()}
        async with open_quic_connection(*listeners[0].local_address, **options) as connection:
            await connection.ping()
            await trio.sleep(0.05)
            await check("QuicListener.accept", accept, unchecked)
        await accepted[0].aclose()
        await check_until_cancelled("QuicListener.serve", partial(listeners[0].serve, hold), unchecked)
        await check("QuicListener.aclose", listeners[0].aclose, unchecked)
        await check_until_cancelled(
            "serve_quic", partial(serve_quic, hold, 0, host=HOST, configuration=configuration), unchecked
        )

        async def listen() -> None:
            await (await open_quic_listeners(nursery, 0, host=HOST, configuration=configuration))[0].aclose()

        await check("open_quic_listeners", listen, unchecked)


async def test_every_public_coroutine_is_a_checkpoint() -> None:
    unchecked = set(public_coroutines())
    assert {"connect_quic", "Connection.ping", "Stream.send_all", "Acceptor.serve"} < unchecked
    async with pair(client={"linger": 0.1}) as ends:
        await check_streams(ends, unchecked)
        await check_channels(ends, unchecked)
        client = ends.client
        await check("Connection.wait_handshake", client.wait_handshake, unchecked)
        await check("Connection.ping", client.ping, unchecked)
        await check_until_cancelled("Connection.wait_path_changed", client.wait_path_changed, unchecked)
        await check_until_cancelled("Connection.wait_closed", client.wait_closed, unchecked)
        await check("Connection.migrate", client.migrate, unchecked)
        unchecked -= {"Connection.leave", "Connection.wait_reply"}  # parts of aclose() that the scopes share
        await check("Connection.aclose", client.aclose, unchecked)
        await check("Connection.wait_closed", client.wait_closed, unchecked)
    await check_listener(unchecked)
    async with serving(hold) as listener, trio.open_nursery() as nursery:

        async def dial() -> None:
            options: Any = {"configuration": client_configuration()}
            await (await connect_quic(nursery, *listener.local_address, **options)).aclose()

        await check("connect_quic", dial, unchecked)
    async with pair() as ends:
        with trio.testing.assert_checkpoints():
            await ends.client.aclose()
    assert not unchecked
