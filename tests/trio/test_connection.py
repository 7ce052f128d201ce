"""Connections of the trio face: opening streams, waiting, and how they end. Only trio's errors are caught."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from anyio.abc import SocketAttribute

from helpers.trio_loopback import pair, read_all
from quicio.trio import HandshakeInfo, IdleTimeout, NotDelivered, QuicAttribute, QuicError

pytestmark = pytest.mark.anyio


async def test_facts_and_waits() -> None:
    async with pair() as ends:
        client, server = ends.client, ends.server
        assert isinstance(client, trio.abc.AsyncResource)
        assert await client.wait_handshake() == HandshakeInfo(resumed=False, early_data_accepted=False)
        assert 0 < await client.ping() < 1
        assert client.remote_address == server.local_address
        assert client.extra(QuicAttribute.alpn) == "quicio-test"
        assert client.extra(SocketAttribute.remote_port) == server.local_address[1]
        assert client.statistics().round_trip_time > 0
        assert client.export_keying_material("label", b"", 32) == server.export_keying_material("label", b"", 32)
        assert client.close_reason is None
        client.request_key_update()
        client.change_connection_id()
        assert 0 < await client.ping() < 1


async def test_open_stream_waits_for_the_peers_limit() -> None:
    async with pair(server={"max_streams_bidi": 1, "max_streams_uni": 1}) as ends:
        client = ends.client
        first, sending = client.open_stream_nowait(), client.open_send_stream_nowait()
        with pytest.raises(trio.WouldBlock):
            client.open_stream_nowait()
        with pytest.raises(trio.WouldBlock):
            client.open_send_stream_nowait()
        with trio.move_on_after(0.02) as scope:
            await client.open_stream()
        assert scope.cancelled_caught
        opened: list[int] = []
        async with trio.open_nursery() as nursery:

            async def open_another() -> None:
                async with await client.open_stream() as stream:
                    opened.append(stream.id)
                async with await client.open_send_stream() as stream:
                    opened.append(stream.id)

            nursery.start_soon(open_another)
            await trio.sleep(0.02)
            assert opened == []
            await first.aclose()
            await sending.aclose()
            async with await ends.server.incoming_streams.receive() as stream:
                assert await read_all(stream) == b""
            async with await ends.server.incoming_receive_streams.receive() as receiving:
                assert await read_all(receiving) == b""
        assert opened == [4, 6]


def uses(connection: Any) -> list[Any]:
    """Every call that needs an open connection."""

    async def change_connection_id() -> None:
        connection.change_connection_id()

    async def request_key_update() -> None:
        connection.request_key_update()

    async def open_stream_nowait() -> None:
        connection.open_stream_nowait()

    return [
        connection.open_stream,
        connection.open_send_stream,
        connection.ping,
        connection.wait_path_changed,
        connection.incoming_streams.receive,
        connection.datagrams.receive,
        change_connection_id,
        request_key_update,
        open_stream_nowait,
    ]


async def test_after_a_local_close_everything_is_closed() -> None:
    async with pair() as ends:
        ends.client.close(9, "enough")
        for use in uses(ends.client):
            with pytest.raises((trio.ClosedResourceError, trio.EndOfChannel)):
                await use()
        assert (await ends.server.wait_closed()).reason == "enough"


async def test_after_the_peer_closed_everything_is_broken_with_its_code() -> None:
    async with pair() as ends:
        ends.client.close(9)
        await ends.server.wait_closed()
        for use in uses(ends.server):
            with pytest.raises(trio.BrokenResourceError) as caught:
                await use()
            assert isinstance(caught.value, QuicError)
            assert caught.value.code == 9


async def test_idle_timeout() -> None:
    async with pair(client={"idle_timeout": 0.3}) as ends:
        ends.server._link.driver.stop()  # the server vanishes
        with trio.fail_after(5), pytest.raises(trio.BrokenResourceError) as caught:
            await ends.client.incoming_streams.receive()
        assert isinstance(caught.value, IdleTimeout)


async def test_left_by_an_exception_it_closes_with_internal_error() -> None:
    async with pair() as ends:
        error = ValueError("mine")
        with pytest.raises(ValueError, match="mine") as caught:
            async with ends.server:
                raise error
        assert caught.value is error
        assert (await ends.client.wait_closed()).code == 1


async def test_closed_forcefully_it_closes_with_cancelled() -> None:
    async with pair() as ends:
        await trio.aclose_forcefully(ends.server)
        assert (await ends.client.wait_closed()).code == 2
        await ends.server.aclose()  # again: nothing


async def test_what_the_peer_does_not_take_within_linger_raises_not_delivered() -> None:
    async with pair(server={"linger": 0.05}) as ends:
        stream = await ends.server.open_stream()
        has_room = True
        while has_room:  # the peer's window, and then the send buffer
            with trio.move_on_after(0.5) as patience:
                await stream.send_some(bytes(65536))
            has_room = not patience.cancelled_caught
        with pytest.raises(trio.BrokenResourceError) as caught:
            async with ends.server:
                pass
        assert isinstance(caught.value, NotDelivered)
        await stream.aclose()
