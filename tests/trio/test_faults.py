"""A socket that fails: who accepts, or serves, learns of it by trio's own error, and the nursery lives on."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from helpers.loopback import HOST, server_configuration
from quicio.trio import Connection, QuicListener, open_quic_listeners, serve_quic

pytestmark = pytest.mark.anyio


class Broken(Exception):
    """What a bug would raise."""


def break_driver(listener: QuicListener) -> None:
    listener._inner._drivers[0].fail(Broken("a bug"))


async def test_accept_tells_that_the_socket_failed() -> None:
    async with trio.open_nursery() as nursery:
        (listener,) = await open_quic_listeners(nursery, 0, host=HOST, configuration=server_configuration())

        async def wait() -> None:
            with trio.fail_after(5), pytest.raises(trio.BrokenResourceError, match="a bug") as caught:
                await listener.accept()
            assert isinstance(caught.value.__cause__, Broken)

        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        break_driver(listener)


async def test_serve_quic_tells_that_the_socket_failed() -> None:
    async def handle(connection: Connection) -> None:
        await connection.wait_closed()

    async def serve(*, task_status: Any) -> None:
        with trio.fail_after(5), pytest.raises(trio.BrokenResourceError, match="a bug"):
            await serve_quic(handle, 0, host=HOST, configuration=server_configuration(), task_status=task_status)

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(serve)
        await trio.testing.wait_all_tasks_blocked()
        break_driver(listener)
