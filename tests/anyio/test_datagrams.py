"""DATAGRAMs over loopback."""

from __future__ import annotations

import anyio
import pytest
from anyio.abc import UnreliableObjectStream

from helpers.loopback import pair
from quicio.errors import ClosedByPeer

pytestmark = pytest.mark.anyio


async def test_messages_go_both_ways() -> None:
    async with pair() as ends:
        assert isinstance(ends.client.datagrams, UnreliableObjectStream)
        await ends.client.datagrams.send(b"ping")
        assert await ends.server.datagrams.receive() == b"ping"
        ends.server.datagrams.send_nowait(bytearray(b"pong"))
        assert await ends.client.datagrams.receive() == b"pong"
        with pytest.raises(anyio.WouldBlock):
            ends.client.datagrams.receive_nowait()


async def test_what_does_not_fit_is_refused_at_once() -> None:
    async with pair() as ends:
        largest = ends.client.datagrams.max_size
        assert largest is not None
        assert largest > 1000
        with pytest.raises(ValueError, match="does not fit"):
            await ends.client.datagrams.send(bytes(65536))
        with pytest.raises(ValueError, match="does not fit"):
            ends.client.datagrams.send_nowait(bytes(65536))
        await ends.client.datagrams.send(bytes(1000))
        assert len(await ends.server.datagrams.receive()) == 1000


async def test_a_peer_that_takes_none() -> None:
    async with pair(server={"max_datagram_frame_size": None}) as ends:
        assert ends.client.datagrams.max_size is None
        with pytest.raises(ValueError, match="max_datagram_frame_size"):
            await ends.client.datagrams.send(b"x")


async def test_send_waits_for_room_and_nowait_would_block() -> None:
    async with pair(client={"datagram_queue": 4}) as ends:
        with pytest.raises(anyio.WouldBlock):
            for _ in range(1000):
                ends.client.datagrams.send_nowait(bytes(1000))
        with anyio.fail_after(5):
            for _ in range(200):
                await ends.client.datagrams.send(bytes(1000))
        with anyio.fail_after(5):
            assert len(await ends.server.datagrams.receive()) == 1000


async def test_beyond_the_queue_the_oldest_is_dropped() -> None:
    async with pair(server={"datagram_queue": 3}) as ends:
        for number in range(5):
            await ends.client.datagrams.send(b"%d" % number)
        await ends.client.ping()
        received = [await ends.server.datagrams.receive() for _ in range(3)]
        assert received == [b"2", b"3", b"4"]
        assert ends.server.statistics().datagrams_dropped >= 0
        assert ends.server._table.datagrams_dropped == 2


async def test_what_came_before_a_loss_stays_and_then_the_loss_is_raised() -> None:
    async with pair() as ends:
        await ends.server.datagrams.send(b"before")
        await ends.server.ping()
        ends.server.close(1)
        await ends.client.wait_closed()
        assert await ends.client.datagrams.receive() == b"before"
        with pytest.raises(ClosedByPeer):
            await ends.client.datagrams.receive()
        with pytest.raises(ClosedByPeer):
            await ends.client.datagrams.send(b"x")


async def test_second_receiver_is_busy() -> None:
    async with pair() as ends, anyio.create_task_group() as group:
        group.start_soon(ends.client.datagrams.receive)
        await anyio.sleep(0.01)
        with pytest.raises(anyio.BusyResourceError):
            await ends.client.datagrams.receive()
        group.cancel_scope.cancel()


async def test_closed_messages_are_dropped_and_the_connection_stays() -> None:
    async with pair() as ends:
        await ends.server.datagrams.aclose()
        await ends.client.datagrams.send(b"nobody listens")
        await ends.client.ping()
        with pytest.raises(anyio.ClosedResourceError):
            await ends.server.datagrams.receive()
        with pytest.raises(anyio.ClosedResourceError):
            await ends.server.datagrams.send(b"x")
        assert ends.client.close_reason is None
