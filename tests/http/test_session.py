"""Ends of connections: who hears what."""

from __future__ import annotations

import anyio
import pytest

import quicio.http
from helpers.http import Ending, EndingMidBody, endless, eventually, serving, talking, visiting
from helpers.loopback import HOST, server_configuration
from quicio.errors import (
    ClosedByPeer,
    ConnectError,
    IdleTimeout,
)
from quicio.http import Request

pytestmark = pytest.mark.anyio


async def test_a_server_that_vanishes_is_an_idle_timeout() -> None:
    handler = EndingMidBody()
    async with serving(handler) as server, visiting(server, idle_timeout=0.5) as client:
        with pytest.raises(IdleTimeout):
            async with client.post("/", body=endless()) as response:
                for driver in server._listener._drivers:
                    driver.stop()
                while True:
                    await response.receive()


async def test_a_client_that_vanishes_cancels_its_handlers() -> None:
    handler = EndingMidBody()
    async with serving(handler, idle_timeout=0.5) as server, visiting(server) as client, client.get("/") as response:
        await response.receive()
        client._session.link.driver.stop()
        await eventually(lambda: handler.cancelled == 1)


async def test_a_server_that_closes_raises_closed_by_peer_everywhere() -> None:
    errors: list[Exception] = []

    async def close(request: Request) -> None:
        await request.start_response(200)
        await request.send(b"some")
        if request.path == "/close":
            request._exchange.session.link.close(77, "enough")
        await anyio.sleep_forever()

    async with talking(close) as client:

        async def ask(path: str) -> None:
            try:
                async with client.get(path) as response:
                    while True:
                        await response.receive()
            except ClosedByPeer as error:
                errors.append(error)

        async with anyio.create_task_group() as group:
            group.start_soon(ask, "/wait")
            await anyio.sleep(0.05)
            group.start_soon(ask, "/close")
        with pytest.raises(ClosedByPeer):
            async with client.get("/after"):
                pass
        assert client.close_reason is not None
    assert [error.code for error in errors if isinstance(error, ClosedByPeer)] == [77, 77]
    assert errors[0] is not errors[1]


async def test_what_came_before_the_loss_stays_readable() -> None:
    async def close(request: Request) -> None:
        await request.start_response(200)
        await request.send(b"some")
        await anyio.sleep(0.05)
        request._exchange.session.link.close(77)

    async with talking(close) as client, client.get("/") as response:
        await client.wait_closed()
        assert await response.receive() == b"some"
        with pytest.raises(ClosedByPeer):
            await response.receive()


async def test_a_client_after_its_end_is_closed() -> None:
    async with serving(Ending()) as server:
        async with visiting(server) as client:
            pass
        with pytest.raises(anyio.ClosedResourceError):
            async with client.get("/"):
                pass


async def test_nobody_there_is_a_connect_error() -> None:
    with pytest.raises(ConnectError):
        async with quicio.http.connect("127.0.0.1", 9):
            pass


async def test_serve_wants_a_handler_at_a_time() -> None:
    with pytest.raises(ValueError, match="max_requests"):
        await quicio.http.serve(Ending(), HOST, 0, configuration=server_configuration(), max_requests=0)
