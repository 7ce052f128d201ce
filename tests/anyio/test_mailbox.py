"""The queue with one reader."""

from __future__ import annotations

import anyio
import pytest

from quicio.anyio.mailbox import Mailbox
from quicio.errors import ConnectionLost

pytestmark = pytest.mark.anyio


async def test_first_in_first_out_and_waiting() -> None:
    box: Mailbox[int] = Mailbox("reading from")
    with pytest.raises(anyio.WouldBlock):
        box.get_nowait()
    box.put(1)
    box.put(2)
    assert await box.get() == 1
    assert box.get_nowait() == 2
    async with anyio.create_task_group() as group:

        async def put() -> None:
            await anyio.sleep(0.01)
            box.put(3)

        group.start_soon(put)
        assert await box.get() == 3


async def test_the_end_comes_after_what_is_there_with_a_new_error_each_time() -> None:
    box: Mailbox[int] = Mailbox("reading from")
    box.put(1)
    box.end(lambda: ConnectionLost("gone"))
    assert box.is_ended
    assert await box.get() == 1
    errors = []
    for _ in range(2):
        with pytest.raises(ConnectionLost) as caught:
            await box.get()
        errors.append(caught.value)
    assert errors[0] is not errors[1]
    with pytest.raises(ConnectionLost):
        box.get_nowait()


async def test_the_end_wakes_the_reader_and_a_cancelled_reader_loses_nothing() -> None:
    box: Mailbox[int] = Mailbox("reading from")
    with anyio.move_on_after(0.01):
        await box.get()
    box.put(1)
    assert await box.get() == 1
    async with anyio.create_task_group() as group:

        async def read() -> None:
            with pytest.raises(anyio.EndOfStream):
                await box.get()

        group.start_soon(read)
        await anyio.sleep(0.01)
        with pytest.raises(anyio.BusyResourceError, match="reading from"):
            await box.get()
        box.end(anyio.EndOfStream)
