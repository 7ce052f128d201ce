"""HTTP/3 with other implementations, on the anyio face; whole bodies and many requests are in test_matrix.py."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import pytest

from helpers.interop_peers import Facts, PeerServer, run_client
from helpers.interop_server import answer_http
from helpers.interop_task import MEBIBYTE, content, digest
from helpers.loopback import HOST, client_configuration, server_configuration
from quicio import http
from quicio.h3.connection import ErrorCode

pytestmark = pytest.mark.anyio

Start = Callable[..., PeerServer]
PACKAGES = ["aioquic", "qh3"]
SIZE = 10 * MEBIBYTE


# --- our client ------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def connected(peer: PeerServer) -> AsyncIterator[http.Client]:
    """Our client, connected to a peer."""
    async with http.connect(HOST, peer.port, configuration=client_configuration(), server_name="localhost") as client:
        yield client


async def test_post_piece_by_piece(start_server: Start) -> None:
    """A body whose length nobody knows before its end."""
    body = content(MEBIBYTE)

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 10_000):
            await anyio.sleep(0)
            yield body[start : start + 10_000]

    async with connected(start_server("aioquic")) as client:
        async with client.post("/up", body=pieces()) as response:
            assert await response.read() == digest(body).encode()


@pytest.mark.parametrize("package", PACKAGES)
async def test_a_response_that_is_given_up(start_server: Start, package: str) -> None:
    """RFC 9114 §4.1.1: the server is told by H3_REQUEST_CANCELLED, and the connection goes on."""
    peer = start_server(package)
    async with connected(peer) as client:
        async with client.get(f"/down/{4 * SIZE}") as response:
            await response.receive()
        await peer.told(event="stopped", code=int(ErrorCode.H3_REQUEST_CANCELLED))
        async with client.get("/down/1000") as response:
            assert await response.read() == content(1000)


# --- our server ------------------------------------------------------------------------------------------------------


@pytest.fixture
def steps(authority: str) -> Callable[..., Any]:
    """`await steps(package, *steps)`: what a client of that package says of its steps with our server."""

    async def run(package: str, *arguments: str) -> list[Facts]:
        async with anyio.create_task_group() as group:
            server = await group.start(partial(http.serve, answer_http, HOST, 0, configuration=server_configuration()))
            port = str(server.local_address[1])
            said = await run_client("aioquic_client.py", package, port, authority, *arguments, "--alpn", "h3")
            await server.aclose()
        return said

    return run


@pytest.mark.parametrize("package", PACKAGES)
async def test_serve_what_is_not_there(steps: Callable[..., Any], package: str) -> None:
    connected, missing, post = await steps(package, "get:/nowhere", "post:/up:1000")
    assert connected == {"connected": "h3"}
    assert (missing["status"], missing["size"]) == ("404", 0)
    assert (post["status"], post["text"]) == ("200", digest(content(1000)))
