"""Both roles with picoquic, a stack in C with its own TLS: how streams and connections end; features are in test_matrix.py.

aiopquic, its Python binding, has wheels for few systems (see the group `interop`): elsewhere these tests are skipped.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import Any

import anyio
import pytest

from helpers.interop_peers import Facts, PeerServer, peer_server, run_client
from helpers.interop_server import TaskServer, task_server
from helpers.interop_task import ALPN, CLOSE_PHRASE, MEBIBYTE, command, content, digest
from helpers.loopback import HOST, client_configuration
from quicio import ClosedByPeer, Connection, Stream, StreamReset, connect

pytestmark = pytest.mark.anyio

PEER = "aiopquic"
if find_spec(PEER) is None:
    pytest.skip(f"the peer {PEER} is not installed: pip install --group interop", allow_module_level=True)
SIZE = 10 * MEBIBYTE


# --- our client ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(credentials: tuple[str, str, str]) -> Iterator[PeerServer]:
    with peer_server("aiopquic_server.py", *credentials[:2]) as peer:
        yield peer


@pytest.fixture(scope="module")
def retrying(credentials: tuple[str, str, str]) -> Iterator[PeerServer]:
    with peer_server("aiopquic_server.py", *credentials[:2], "--retry") as peer:
        yield peer


@asynccontextmanager
async def connected(peer: PeerServer, **changes: Any) -> AsyncIterator[Connection]:
    """A connection to a peer, in the protocol of the task."""
    configuration = client_configuration(alpn_protocols=[ALPN], **changes)
    async with connect(HOST, peer.port, configuration=configuration, server_name="localhost") as connection:
        yield connection


async def ask(connection: Connection, verb: str, number: int | None = None, body: bytes = b"") -> bytes:
    """Have the server do a task on a new stream; its answer."""
    async with await connection.open_stream() as stream:
        await stream.send(command(verb, number) + body)
        await stream.send_eof()
        return await read_all(stream)


async def read_all(stream: Stream) -> bytes:
    """What comes until the FIN."""
    return b"".join([chunk async for chunk in stream])


async def test_datagrams_keys_and_connection_ids(server: PeerServer) -> None:
    async with connected(server) as connection:
        assert await ask(connection, "echo", body=b"hello") == b"hello"
        await connection.ping()
        await connection.datagrams.send(b"message")
        with anyio.fail_after(5):
            assert await connection.datagrams.receive() == b"message"
        for _ in range(3):
            connection.request_key_update()
            connection.change_connection_id()
            assert await ask(connection, "up", body=content(100_000)) == digest(content(100_000)).encode()
            await connection.ping()
        assert connection.statistics().key_updates >= 1


async def test_reset_and_close_by_the_peer(server: PeerServer) -> None:
    async with connected(server) as connection:
        with pytest.raises(StreamReset) as reset:
            await ask(connection, "reset", 4713)
        assert reset.value.code == 4713
        with pytest.raises(ClosedByPeer) as closed:
            async with await connection.open_stream() as stream:
                await stream.send(command("close", 4711))
                await stream.receive()
        assert closed.value.code == 4711


async def test_close_by_us(server: PeerServer) -> None:
    async with connected(server) as connection:
        assert await ask(connection, "echo", body=b"hello") == b"hello"
        connection.close(4712, CLOSE_PHRASE)
    await server.told(event="terminated", code=4712)


# --- our server ------------------------------------------------------------------------------------------------------


@pytest.fixture
def steps(authority: str) -> Callable[..., Any]:
    """`await steps(server, *steps)`: what a client says of its steps on one connection."""

    async def run(server: TaskServer, *arguments: str) -> list[Facts]:
        return await run_client("aiopquic_client.py", str(server.port), authority, *arguments)

    return run


async def test_serve_reset_and_close(steps: Callable[..., Any]) -> None:
    async with task_server() as server:
        assert (await steps(server, "reset:4713"))[1] == {"reset": 4713}
        assert (await steps(server, "close:4711"))[1]["closed"]["code"] == 4711
