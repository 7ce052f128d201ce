"""Both pumps: the same connection on callbacks of a loop and on tasks; what is asked for soon, and a socket exchanged."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from helpers.loopback import HOST, pair, read_all
from quicio.anyio import pump
from quicio.anyio.addresses import bind
from quicio.anyio.pump import Pump

pytestmark = pytest.mark.anyio


def no_reader(*arguments: Any) -> None:
    """Stands for `add_reader` of a loop that has none."""
    raise NotImplementedError


@pytest.fixture(params=["the loop's own", "tasks"], autouse=True)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "tasks":
        monkeypatch.setattr(pump, "LoopPump", no_reader)


async def test_data_goes_both_ways_and_time_passes() -> None:
    with anyio.fail_after(10):
        async with pair() as ends, await ends.client.open_stream() as mine:
            await mine.send(b"there")
            async with await ends.server.incoming_streams.receive() as theirs:
                assert await theirs.receive() == b"there"
                await theirs.send(b"back")
                await theirs.send_eof()
                assert await read_all(mine) == b"back"
            await anyio.sleep(0.05)  # the ACK's delay passes
            assert ends.client.statistics().bytes_in_flight == 0


async def test_what_one_task_sends_in_a_row_goes_in_one_datagram() -> None:
    with anyio.fail_after(10):
        async with pair() as ends:
            await ends.client.ping()
            stream = await ends.client.open_send_stream()
            before = ends.client.statistics().packets_sent
            await stream.send(b"one")
            await stream.send(b"two")
            await stream.send_eof()
            async with await ends.server.incoming_receive_streams.receive() as theirs:
                assert await read_all(theirs) == b"onetwo"
            assert ends.client.statistics().packets_sent - before <= 2
            await stream.aclose()


async def test_what_was_sent_goes_before_a_close() -> None:
    with anyio.fail_after(10):
        async with pair() as ends:
            stream = await ends.client.open_send_stream()
            await stream.send(b"last words")
            ends.client.close(7)
            async with await ends.server.incoming_receive_streams.receive() as theirs:
                assert await theirs.receive() == b"last words"
            assert (await ends.server.wait_closed()).code == 7
            await stream.aclose()


async def test_a_swapped_socket_is_read_from_and_the_old_one_is_not() -> None:
    with anyio.fail_after(10):
        async with pair() as ends:
            await ends.client.ping()
            await anyio.sleep(0.1)  # connection IDs to go on with, and a confirmed handshake
            driver = ends.client.driver
            old = driver.swap(bind(HOST, 0))
            assert driver.local_address != old.local_address
            await ends.client.ping()
            old.close()


def test_a_pump_must_define_what_it_does() -> None:
    bare: Any = object.__new__(Pump)
    for verb in (bare.look, bare.settle_soon, bare.leave_socket, bare.take_socket, bare.stop):
        with pytest.raises(RuntimeError, match="must define"):
            verb()
