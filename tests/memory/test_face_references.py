"""A connection that is over dies by reference counting in the native faces, with its streams and its link: no cycle is left."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

import quicio
import quicio.trio
from helpers import loopback, trio_loopback

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def collector_off() -> Iterator[None]:
    """What remains then is what reference counting leaves."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def are_gone(references: list[weakref.ref[Any]], number: int) -> None:
    """When the closing period is over, nothing of it is left; the server lives on."""
    assert len(references) == number
    with anyio.move_on_after(5):
        while any(reference() is not None for reference in references):
            await anyio.sleep(0.01)
    assert [reference() for reference in references if reference() is not None] == []


async def meet(face: Any, connect: Any) -> None:
    """Connections with streams in both directions come to a server and go."""
    references: list[weakref.ref[Any]] = []

    def note(connection: Any) -> None:
        references.extend(map(weakref.ref, (connection, connection._link, connection._table)))

    async def answer(connection: Any) -> None:
        note(connection)
        async with await connection.incoming_streams.receive() as stream:
            references.append(weakref.ref(stream))
            await stream.send_eof()
        await connection.wait_closed()

    async with face.serving(answer) as listener:
        for _ in range(3):
            async with connect(*listener.local_address, configuration=loopback.client_configuration()) as connection:
                note(connection)
                async with await connection.open_stream() as stream:
                    references.append(weakref.ref(stream))
                    await stream.send_eof()
                    await stream.wait_delivered()
                await connection.ping()
            del connection, stream
        await are_gone(references, 3 * 8)


async def test_task_groups() -> None:
    await meet(loopback, quicio.connect)


@pytest.mark.parametrize("anyio_backend", [pytest.param(("trio", {}), id="trio")])
async def test_nurseries() -> None:
    await meet(trio_loopback, quicio.trio.open_quic_connection)
