"""The trio face against the anyio face on asyncio, which runs in another process: one set of scenarios, in both roles."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from cryptography.hazmat.primitives import serialization

import quicio.trio
from helpers import crossing_peer
from helpers.crossing_peer import HOST, QUIET, SIZE
from helpers.loopback import identity
from helpers.trio_loopback import read_all
from quicio.trio import Connection, QuicError, Stream, open_quic_connection, serve_quic

pytestmark = pytest.mark.anyio

INSTALLED = Path(quicio.trio.__file__).parents[2]  # the other process takes the same build of quicio


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where both processes find the certificates."""
    folder = tmp_path_factory.mktemp("crossing")
    leaf, root = identity()
    form = serialization.PrivateFormat.PKCS8
    key = leaf.private_key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    (folder / "certificate.pem").write_bytes(leaf.chain_pem)
    (folder / "key.pem").write_bytes(key)
    (folder / "root.pem").write_bytes(root)
    return folder


@contextmanager
def peer(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """The other process; it is gone afterwards, and must have ended well."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", crossing_peer.__file__, *map(str, arguments)],
        env=dict(os.environ, PYTHONPATH=str(INSTALLED)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
        _, errors = process.communicate(timeout=30)
        assert (process.returncode, errors) == (0, "")
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def port(folder: Path) -> Iterator[int]:
    """A server of the anyio face on asyncio."""
    with peer("server", folder) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())


@pytest.fixture
async def connection(folder: Path, port: int) -> AsyncIterator[Connection]:
    """A connection of the trio face to that server."""
    configuration = crossing_peer.client_configuration(folder)
    async with open_quic_connection(HOST, port, configuration=configuration) as connection:
        yield connection


async def test_echo_with_half_close(connection: Connection) -> None:
    async with await connection.open_stream() as stream:
        await stream.send_all(b"echo\nhello")
        assert await stream.receive_some() == b"hello"
        await stream.send_all(b" again")
        await stream.send_eof()
        assert await read_all(stream) == b" again"


async def test_a_hundred_streams_at_once(connection: Connection) -> None:
    async def echo(data: bytes) -> None:
        async with await connection.open_stream() as stream:
            await stream.send_all(b"echo\n" + data)
            await stream.send_eof()
            assert await read_all(stream) == data

    async with trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(echo, bytes([number]) * 1000 * number)


async def test_reset_and_stop_arrive_with_their_codes(connection: Connection) -> None:
    async with await connection.open_stream() as stream:
        await stream.send_all(b"reset\n")
        with pytest.raises(trio.BrokenResourceError) as caught:
            await stream.receive_some()
        assert isinstance(caught.value, QuicError)
        assert caught.value.code == 42
        assert await stream.wait_stopped() == 43
        with pytest.raises(trio.BrokenResourceError):
            await stream.send_all(b"x")


async def test_back_pressure(connection: Connection) -> None:
    async with await connection.open_stream() as stream:
        started = trio.current_time()
        await stream.send_all(b"count\n" + bytes(SIZE))
        assert trio.current_time() - started > QUIET / 2  # it waited for the reader
        await stream.send_eof()
        assert await read_all(stream) == b"%d" % SIZE


async def test_cancellation_resets(connection: Connection) -> None:
    with trio.move_on_after(0.1) as scope:
        async with await connection.open_stream() as stream:
            await stream.send_all(b"witness\n")
            await stream.receive_some()
    assert scope.cancelled_caught
    with trio.fail_after(5):
        async with await connection.incoming_receive_streams.receive() as witness:
            assert await read_all(witness) == b"2"


async def test_datagrams(connection: Connection) -> None:
    await connection.datagrams.send(b"message")
    with trio.fail_after(5):
        assert await connection.datagrams.receive() == b"message"


async def test_a_vanished_peer_is_an_idle_timeout(folder: Path) -> None:
    with pytest.raises(AssertionError), peer("server", folder) as process:
        assert process.stdout is not None
        port = int(await trio.to_thread.run_sync(process.stdout.readline))
        configuration = crossing_peer.client_configuration(folder).replaced(idle_timeout=0.5)
        async with open_quic_connection(HOST, port, configuration=configuration) as connection:
            process.kill()
            with trio.fail_after(5), pytest.raises(trio.BrokenResourceError):
                await connection.incoming_streams.receive()


# --- the other way round ---------------------------------------------------------------------------------------------


async def answer(connection: Connection, stream: Stream) -> None:
    """What `crossing_peer.answer` does, in trio's words."""
    word = b""
    while not word.endswith(b"\n"):
        word += await stream.receive_some(1)
    answers: dict[bytes, Callable[[], Awaitable[Any]]] = {
        b"echo": partial(send_back, stream),
        b"reset": partial(reset, stream),
        b"count": partial(count, stream),
        b"witness": partial(witness, connection, stream),
    }
    await answers[word.strip()]()


async def send_back(stream: Stream) -> None:
    async for data in stream:
        await stream.send_all(data)


async def reset(stream: Stream) -> None:
    stream.reset(42)
    stream.stop(43)


async def count(stream: Stream) -> None:
    await trio.sleep(QUIET)
    await stream.send_all(b"%d" % len(await read_all(stream)))


async def witness(connection: Connection, stream: Stream) -> None:
    with pytest.raises(trio.BrokenResourceError) as caught:
        await read_all(stream)
    assert isinstance(caught.value, QuicError)
    async with await connection.open_send_stream() as told:
        await told.send_all(b"%d" % (-1 if caught.value.code is None else caught.value.code))


async def test_a_client_of_the_anyio_face_is_served(folder: Path) -> None:
    async def echo_datagrams(connection: Connection) -> None:
        try:
            async for message in connection.datagrams:
                await connection.datagrams.send(message)
        except trio.BrokenResourceError:
            pass

    async def handle(connection: Connection) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(echo_datagrams, connection)
            await connection.incoming_streams.serve(partial(answer, connection))

    configuration = crossing_peer.server_configuration(folder)
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(serve_quic, handle, 0, host=HOST, configuration=configuration))
        with peer("client", folder, listener.local_address[1]) as process:
            assert process.stdout is not None
            with trio.fail_after(20):
                assert await trio.to_thread.run_sync(process.stdout.readline) == "all went well\n"
        nursery.cancel_scope.cancel()
