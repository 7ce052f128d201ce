"""The table of streams: late events, released streams, and the bounds on what a peer can have here."""

from __future__ import annotations

import anyio
import pytest

from helpers.loopback import pair, read_all
from quicio.anyio.stream_table import GRANTS_PER_WINDOW
from quicio.errors import StreamReset
from quicio.quic import events

pytestmark = pytest.mark.anyio


async def test_a_late_event_for_a_released_stream_is_not_a_new_stream() -> None:
    async with pair() as ends:
        async with await ends.client.open_stream() as mine:
            await mine.send(b"x")
            async with await ends.server.incoming_streams.receive():
                pass  # stopped, unread; the client's reset comes after the release
            with pytest.raises(anyio.EndOfStream):
                await mine.receive()
        await ends.client.ping()
        await ends.server.ping()
        for event in (
            events.StreamReset(0, 0),
            events.StopSendingReceived(0, 0),
            events.StreamDataReceived(b"late", True, 0),
            events.StreamWritable(0),
            events.StreamDelivered(0),
            events.StreamWritable(4),
            events.StreamReset(0, 1),  # an own one that never was
            events.ConnectionIdIssued(b"x"),  # not the table's business
        ):
            ends.server._table.handle_event(event)
        with pytest.raises(anyio.WouldBlock):
            ends.server.incoming_streams.receive_nowait()


async def test_streams_come_before_their_data_whatever_comes_first() -> None:
    async with pair() as ends:
        mine = await ends.client.open_stream()
        mine.announce()
        mine.announce()  # once is enough
        mine.reset(3)
        mine.stop(4)
        async with await ends.server.incoming_streams.receive() as theirs:
            with pytest.raises(StreamReset):
                await theirs.receive()
            assert await theirs.wait_stopped() == 4


async def test_a_peer_cannot_have_more_streams_here_than_the_limit_and_handlers_still_hold() -> None:
    """Security row 19: a place goes back to the peer when the handler has ended, not when the peer is done."""
    async with pair(server={"max_streams_bidi": 4}) as ends, anyio.create_task_group() as group:
        is_over = anyio.Event()
        running = 0

        async def handle(stream: object) -> None:
            nonlocal running
            running += 1
            await is_over.wait()

        group.start_soon(ends.server.incoming_streams.serve, handle)
        for _ in range(4):
            stream = await ends.client.open_stream()
            stream.announce()
            stream.reset(0)  # rapid reset: open and abandon
            stream.stop(0)
        with anyio.move_on_after(0.2) as scope:
            await ends.client.open_stream()
        assert scope.cancelled_caught
        assert running == 4
        is_over.set()
        with anyio.fail_after(5):
            async with await ends.client.open_stream():
                pass
        group.cancel_scope.cancel()


async def test_small_reads_of_a_whole_window_give_its_credit_back() -> None:
    async with pair(server={"max_data": 64_000, "max_stream_data": 64_000, "receive_window_limit": 64_000}) as ends:
        assert ends.server._table._taken_limit == 64_000 // GRANTS_PER_WINDOW
        async with await ends.client.open_stream() as mine, anyio.create_task_group() as group:

            async def send() -> None:
                await mine.send(bytes(200_000))
                await mine.send_eof()

            group.start_soon(send)
            async with await ends.server.incoming_streams.receive() as theirs:
                taken = 0
                with anyio.fail_after(10):
                    while taken < 200_000:
                        taken += len(await theirs.receive(997))
                    assert await read_all(theirs) == b""


async def test_many_tiny_pieces_are_merged() -> None:
    """Security row 2: what a peer sends in single bytes costs bytes here, not objects."""
    async with pair() as ends:
        mine = await ends.client.open_stream()
        mine.announce()
        theirs = await ends.server.incoming_streams.receive()
        half = theirs._receiving
        for _ in range(20_000):
            half.on_data(b"x", False)
        assert len(half._chunks) < 20
        half._drop()
        async with mine, theirs:
            pass


async def test_unread_data_of_a_finished_stream_gives_its_credit_back_when_it_is_closed() -> None:
    async with pair(server={"max_data": 50_000, "max_stream_data": 50_000, "receive_window_limit": 50_000}) as ends:
        for _ in range(6):
            async with await ends.client.open_stream() as mine:
                with anyio.fail_after(5):
                    await mine.send(bytes(40_000))
                    await mine.send_eof()
                    await mine.wait_delivered()
                    async with await ends.server.incoming_streams.receive() as theirs:
                        await theirs.receive(10)
