"""How to test an application: the handler in memory, time included; then the few things that need a connection, over loopback.

python -m pytest examples/test_key_value.py
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
import trio.testing
from anyio.abc import AnyByteStream
from anyio.streams.buffered import BufferedByteReceiveStream
from anyio.streams.stapled import StapledObjectStream
from example_options import make_certificate
from key_value import PATIENCE, Store

import quicio

pytestmark = pytest.mark.anyio  # anyio's plugin runs each test on both event loops
BOTH = ["asyncio", "trio"]
VIRTUAL_TIME = ("trio", {"clock": trio.testing.MockClock(autojump_threshold=0)})  # when all wait, it is later at once


@pytest.fixture(params=BOTH)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """The event loop that a test runs on."""
    return request.param


# --- in memory: no sockets, no certificates, no QUIC ------------------------------------------------------------------


def pair() -> tuple[AnyByteStream, AnyByteStream]:
    """Two ends of a byte stream in memory."""
    to_server, from_client = anyio.create_memory_object_stream[bytes](math.inf)
    to_client, from_server = anyio.create_memory_object_stream[bytes](math.inf)
    return StapledObjectStream(to_server, from_server), StapledObjectStream(to_client, from_client)


@asynccontextmanager
async def talk_in_memory(store: Store) -> AsyncIterator[AnyByteStream]:
    """The client's end of a stream that the store serves. Leaving waits until the store has seen the end."""
    client, server = pair()
    async with server, client, anyio.create_task_group() as tasks:
        tasks.start_soon(store.stream, server)
        yield client
        await client.send_eof()


async def ask(stream: AnyByteStream, *commands: str) -> list[str]:
    """Send commands and read as many answers."""
    lines = BufferedByteReceiveStream(stream)
    await stream.send("".join(f"{command}\n" for command in commands).encode())
    return [(await lines.receive_until(b"\n", 100)).decode() for _ in commands]


async def test_what_is_set_can_be_got() -> None:
    async with talk_in_memory(Store()) as stream:
        assert await ask(stream, "GET a", "SET a one two", "GET a") == ["NONE", "OK", "VALUE one two"]


async def test_a_command_in_pieces_is_one_command() -> None:
    """A byte stream keeps no borders: test what is cut at the worst place."""
    async with talk_in_memory(Store()) as stream:
        for piece in (b"SE", b"T a 1", b"\nGE", b"T a\n"):
            await stream.send(piece)
        lines = BufferedByteReceiveStream(stream)
        assert [await lines.receive_until(b"\n", 100) for _ in range(2)] == [b"OK", b"VALUE 1"]


async def test_half_a_command_at_the_end_is_not_done() -> None:
    store = Store()
    async with talk_in_memory(store) as stream:
        await stream.send(b"SET a 1\nSET a 2")
    assert store.values == {"a": "1"}


@pytest.mark.parametrize("anyio_backend", [VIRTUAL_TIME], ids=["virtual time"])
async def test_a_silent_client_is_sent_away() -> None:
    """Half a minute passes in no time."""
    started = anyio.current_time()
    async with talk_in_memory(Store()) as stream:
        assert await stream.receive() == b"BYE\n"
    assert anyio.current_time() - started == pytest.approx(PATIENCE)


# --- over loopback: what only a connection has ------------------------------------------------------------------------


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for localhost and its key."""
    folder = tmp_path_factory.mktemp("certificate")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    make_certificate("localhost", certificate, key)
    return certificate, key


@asynccontextmanager
async def connected(store: Store, certificate: tuple[Path, Path]) -> AsyncIterator[quicio.Connection]:
    """A client's connection to a server for this test alone, on a port that the system chooses."""
    server = quicio.QuicConfiguration(is_client=False, alpn_protocols=["key-value"])
    server.load_cert_chain(*certificate)
    client = quicio.QuicConfiguration(alpn_protocols=["key-value"], cafile=str(certificate[0]))
    async with anyio.create_task_group() as tasks:
        listener = await tasks.start(partial(quicio.serve, store.connection, "127.0.0.1", 0, configuration=server))
        with anyio.fail_after(10):
            async with quicio.connect(*listener.local_address, configuration=client) as connection:
                yield connection
        tasks.cancel_scope.cancel()


async def test_streams_of_one_connection_do_not_wait_for_each_other(certificate: tuple[Path, Path]) -> None:
    async with connected(Store(), certificate) as connection:
        async with await connection.open_stream() as unfinished, await connection.open_stream() as quick:
            await unfinished.send(b"GET ")
            assert await ask(quick, "SET a 1", "GET a") == ["OK", "VALUE 1"]
            assert await ask(unfinished, "a") == ["VALUE 1"]


async def test_a_command_that_is_broken_off_is_not_done(certificate: tuple[Path, Path]) -> None:
    """A reset ends the server's handler of that stream; the connection goes on."""
    async with connected(Store(), certificate) as connection:
        async with await connection.open_stream() as stream:
            assert await ask(stream, "SET a 1") == ["OK"]
            await stream.send(b"SET a 2")
            stream.reset(7)
        async with await connection.open_stream() as stream:
            assert await ask(stream, "GET a") == ["VALUE 1"]
