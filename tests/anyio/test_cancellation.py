"""Native cancellation: `Task.cancel()`, `asyncio.timeout`, trio's own scopes; nothing is left behind.

anyio's cancel scopes know nothing of a native cancellation, so the face recognises it by the exception.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
import trio

from helpers.loopback import client_configuration, serving
from quicio.anyio import Connection, Listener, connect
from quicio.errors import CloseReason


class Watched:
    """A server that notes how its connections end."""

    def __init__(self) -> None:
        self.reasons: list[CloseReason] = []
        self.has_ended = anyio.Event()

    async def handle(self, connection: Connection) -> None:
        self.reasons.append(await connection.wait_closed())
        self.has_ended.set()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Listener]:
        async with serving(self.handle) as listener:
            yield listener
            with anyio.fail_after(2):
                await self.has_ended.wait()


async def use(listener: Listener) -> None:
    """A body with data that nobody takes: only a linger of a minute could deliver it."""
    async with connect(*listener.local_address, configuration=client_configuration(linger=60.0)) as connection:
        async with await connection.open_stream() as stream:
            await stream.send(bytes(8_000_000))


def test_task_cancel_closes_at_once_with_cancelled() -> None:
    async def main() -> None:
        watched = Watched()
        async with watched.serving() as listener:
            task = asyncio.create_task(use(listener))
            await asyncio.sleep(0.2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(task, 2)
            assert task.cancelled()
        assert watched.reasons[0].code == 2

    asyncio.run(main())


def test_task_cancel_while_connecting() -> None:
    async def main() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
            silent.bind(("127.0.0.1", 0))

            async def dial() -> None:
                async with connect(*silent.getsockname(), configuration=client_configuration()):
                    pytest.fail("nobody is there")

            task = asyncio.create_task(dial())
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(task, 2)

    asyncio.run(main())


def test_asyncio_timeout_passes_through() -> None:
    async def main() -> None:
        watched = Watched()
        async with watched.serving() as listener:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await use(listener)
            await asyncio.sleep(0)  # no cancellation is left over
        assert watched.reasons[0].code == 2

    asyncio.run(main())


def test_task_cancel_during_the_linger() -> None:
    async def main() -> None:
        watched = Watched()
        async with watched.serving() as listener:

            async def linger() -> None:
                configuration = client_configuration(linger=60.0)
                async with connect(*listener.local_address, configuration=configuration) as connection:
                    stream = await connection.open_stream()
                    has_room = True
                    while has_room:  # the peer's window, and then the send buffer
                        with anyio.move_on_after(0.5) as patience:
                            await stream.send_some(bytes(1_000_000))
                        has_room = not patience.cancelled_caught
                    is_filled.set()
                    await stream.send_eof()

            is_filled = anyio.Event()
            task = asyncio.create_task(linger())
            await is_filled.wait()
            await asyncio.sleep(0.1)
            assert not task.done()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(task, 2)
        assert watched.reasons[0].code == 2

    asyncio.run(main())


def test_trios_own_scopes() -> None:
    async def main() -> None:
        watched = Watched()
        async with watched.serving() as listener:
            with trio.move_on_after(0.2) as scope:
                await use(listener)
            assert scope.cancelled_caught
        assert watched.reasons[0].code == 2

    trio.run(main)


def test_the_bodys_exception_leaves_trios_nursery_once_wrapped_by_it_alone() -> None:
    async def main() -> None:
        async with Watched().serving() as listener:
            error = ValueError("mine")
            with pytest.raises(ExceptionGroup) as caught:
                async with trio.open_nursery():
                    async with connect(*listener.local_address, configuration=client_configuration()):
                        raise error
            assert caught.value.exceptions == (error,)

    trio.run(main)


@pytest.mark.anyio
@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors in /proc")
async def test_cancelling_at_any_moment_leaves_no_descriptor_behind() -> None:
    async with serving(Watched().handle) as listener:
        await anyio.sleep(0.01)
        gc.collect()
        before = len(os.listdir("/proc/self/fd"))
        for milliseconds in range(0, 40, 2):
            with anyio.move_on_after(milliseconds / 1000):
                await use(listener)
        gc.collect()
        assert len(os.listdir("/proc/self/fd")) == before
