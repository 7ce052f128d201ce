"""Streams between two real endpoints on loopback: data, ends, back-pressure, errors, garbage."""

from __future__ import annotations

import asyncio
import gc
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import pytest
import trio.testing
from anyio.abc import ByteReceiveStream, ByteSendStream, ByteStream, SocketAttribute

from helpers.loopback import Pair, fill, pair, read_all
from quicio.anyio import Priority, QuicAttribute, ReceiveStream, SendStream, Stream
from quicio.errors import ClosedByPeer, ConnectionLost, StreamReset, StreamStopped

pytestmark = pytest.mark.anyio

MEBIBYTE = 1 << 20


async def open_both(ends: Pair) -> tuple[Stream, Stream]:
    """A stream opened by the client, and the same stream as the server got it."""
    mine = await ends.client.open_stream()
    mine.announce()
    return mine, await ends.server.incoming_streams.receive()


async def test_echo_with_half_close() -> None:
    async with pair() as ends:
        mine, theirs = await open_both(ends)
        async with mine, theirs:
            assert mine.id == theirs.id == 0
            await mine.send(b"hello")
            await mine.send_eof()
            await mine.send_eof()  # idempotent
            assert await read_all(theirs) == b"hello"
            await theirs.send(b"goodbye")  # the other half is still open
            await theirs.send_eof()
            assert await read_all(mine) == b"goodbye"
            with pytest.raises(anyio.EndOfStream):
                await mine.receive()
            await mine.wait_delivered()


async def test_kinds_of_streams_are_anyios() -> None:
    async with pair() as ends:
        mine, theirs = await open_both(ends)
        async with mine, theirs:
            assert isinstance(mine, ByteStream)
            assert isinstance(mine, SendStream)
            assert isinstance(mine, ReceiveStream)
            assert mine.extra(QuicAttribute.stream_id) == 0
            assert mine.extra(QuicAttribute.alpn) == "quicio-test"
            assert mine.extra(SocketAttribute.remote_address) == ends.server.local_address
        async with await ends.client.open_send_stream() as sending:
            assert isinstance(sending, ByteSendStream)
            assert not isinstance(sending, ByteReceiveStream)
            await sending.send(b"one way")
        async with await ends.server.incoming_receive_streams.receive() as receiving:
            assert isinstance(receiving, ByteReceiveStream)
            assert not isinstance(receiving, ByteSendStream)
            assert await read_all(receiving) == b"one way"


async def test_a_mebibyte_arrives_whole_in_both_directions() -> None:
    data = bytes(range(256)) * (MEBIBYTE // 256)
    async with pair() as ends:
        mine, theirs = await open_both(ends)

        async def send(stream: Stream) -> None:
            await stream.send(data)
            await stream.send_eof()

        async def receive(stream: Stream) -> None:
            assert hashlib.sha256(await read_all(stream)).digest() == hashlib.sha256(data).digest()

        async with mine, theirs, anyio.create_task_group() as group:
            for stream in (mine, theirs):
                group.start_soon(send, stream)
                group.start_soon(receive, stream)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_any_buffer_is_sent(kind: Any) -> None:
    async with pair() as ends:
        mine, theirs = await open_both(ends)
        async with mine, theirs:
            buffer = kind(b"some bytes")
            await mine.send(buffer)
            assert await mine.send_some(kind(b", more")) == 6
            assert mine.send_nowait(kind(b" and more")) == 9
            await mine.send_eof()
            assert await read_all(theirs) == b"some bytes, more and more"


async def test_mutable_buffers_are_copied() -> None:
    async with pair() as ends:
        mine, theirs = await open_both(ends)
        async with mine, theirs:
            buffer = bytearray(b"before")
            mine.send_nowait(buffer)
            buffer[:] = b"after!"
            await mine.send_eof()
            assert await read_all(theirs) == b"before"


async def test_empty_data_sends_nothing() -> None:
    async with pair() as ends:
        mine = await ends.client.open_stream()
        async with mine:
            await mine.send(b"")
            assert await mine.send_some(b"") == 0
            assert mine.send_nowait(b"") == 0
            with anyio.move_on_after(0.05):
                await ends.server.incoming_streams.receive()
                pytest.fail("the stream became visible")


async def test_receive_takes_at_most_max_bytes_and_joins_small_pieces() -> None:
    async with pair() as ends:
        mine, theirs = await open_both(ends)
        async with mine, theirs:
            for value in (0, -1):
                with pytest.raises(ValueError, match="at least 1"):
                    await theirs.receive(value)
                with pytest.raises(ValueError, match="at least 1"):
                    theirs.receive_nowait(value)
            with pytest.raises(anyio.WouldBlock):
                theirs.receive_nowait()
            await mine.send(b"0123456789")
            assert await theirs.receive(4) == b"0123"
            assert await theirs.receive(4) == b"4567"
            assert theirs.receive_nowait() == b"89"


async def test_receiving_on_an_unwritten_own_stream_announces_it() -> None:
    async with pair() as ends, await ends.client.open_stream() as mine, anyio.create_task_group() as group:

        async def answer() -> None:
            async with await ends.server.incoming_streams.receive() as theirs:
                await theirs.send(b"you opened it")

        group.start_soon(answer)
        assert await mine.receive() == b"you opened it"


# --- back-pressure ---------------------------------------------------------------------------------------------------


async def test_send_waits_for_a_reader_that_never_reads_and_memory_is_bounded() -> None:
    async with pair(client={"linger": 0.05}) as ends:
        mine, theirs = await open_both(ends)
        sent = await fill(mine)
        # the receiver's window of a mebibyte and the sender's buffer of half of one, and nothing else
        assert sent <= 2 * MEBIBYTE
        with pytest.raises(anyio.WouldBlock):
            mine.send_nowait(b"x")
        held = sum(map(len, theirs._receiving._chunks))
        assert held <= MEBIBYTE
        assert len(theirs._receiving._chunks) <= held // 1000 + 2
        received = 0
        with anyio.move_on_after(5):
            while received < sent:
                received += len(await theirs.receive())
        assert received == sent
        mine.reset(0)
        theirs.stop(0)
        theirs.reset(0)
        mine.stop(0)


async def test_a_blocked_send_goes_on_when_the_peer_reads() -> None:
    size = 4 * MEBIBYTE
    async with pair() as ends:
        mine, theirs = await open_both(ends)
        async with mine, theirs, anyio.create_task_group() as group:

            async def send() -> None:
                await mine.send(bytes(size))
                await mine.send_eof()

            group.start_soon(send)
            await anyio.sleep(0.1)
            assert len(await read_all(theirs)) == size


# --- reset and stop --------------------------------------------------------------------------------------------------


async def test_reset_reaches_a_waiting_reader_with_its_code() -> None:
    async with pair() as ends:
        mine, theirs = await open_both(ends)
        async with mine, theirs, anyio.create_task_group() as group:

            async def read() -> None:
                with pytest.raises(StreamReset) as caught:
                    await read_all(theirs)
                assert caught.value.code == 42
                assert isinstance(caught.value, anyio.BrokenResourceError)

            group.start_soon(read)
            await anyio.sleep(0.02)
            mine.reset(42)
            mine.reset(43)  # the first one counts
            with pytest.raises(anyio.ClosedResourceError):
                await mine.send(b"x")
            with pytest.raises(anyio.ClosedResourceError):
                await mine.wait_delivered()
            with pytest.raises(anyio.ClosedResourceError):
                await mine.wait_stopped()


async def test_reset_drops_what_was_not_read() -> None:
    async with pair() as ends:
        mine, theirs = await open_both(ends)
        async with mine, theirs:
            await mine.send(b"lost")
            await anyio.sleep(0.05)
            mine.reset(1)
            await anyio.sleep(0.05)
            with pytest.raises(StreamReset):
                await theirs.receive()


async def test_stop_reaches_a_blocked_sender_with_its_code() -> None:
    async with pair() as ends:
        mine, theirs = await open_both(ends)
        async with mine, theirs, anyio.create_task_group() as group:

            async def send() -> None:
                with pytest.raises(StreamStopped) as caught:
                    await mine.send(bytes(8 * MEBIBYTE))
                assert caught.value.code == 7

            async def stopped() -> None:
                assert await mine.wait_stopped() == 7
                assert await mine.wait_stopped() == 7

            async def delivered() -> None:
                with pytest.raises(StreamStopped):
                    await mine.wait_delivered()

            for task in (send, stopped, stopped, delivered):
                group.start_soon(task)
            await anyio.sleep(0.05)
            theirs.stop(7)
            with pytest.raises(anyio.ClosedResourceError):
                await theirs.receive()
        with pytest.raises(anyio.ClosedResourceError):
            await mine.send(b"x")  # closed on this side meanwhile: that comes first


async def test_wait_stopped_is_none_when_all_was_delivered() -> None:
    async with pair() as ends:
        mine, theirs = await open_both(ends)
        async with mine, theirs:
            await mine.send(b"all of it")
            await mine.send_eof()
            assert await read_all(theirs) == b"all of it"
            assert await mine.wait_stopped() is None
            await mine.wait_delivered()


# --- errors of use ---------------------------------------------------------------------------------------------------


async def test_a_second_task_in_the_same_half_is_busy() -> None:
    async with pair(client={"linger": 0.05}) as ends:
        mine, theirs = await open_both(ends)
        async with anyio.create_task_group() as group:

            async def fill() -> None:
                await mine.send(bytes(8 * MEBIBYTE))

            group.start_soon(fill)
            group.start_soon(mine.receive)
            await anyio.sleep(0.05)
            with pytest.raises(anyio.BusyResourceError):
                await mine.send(b"x")
            with pytest.raises(anyio.BusyResourceError):
                await mine.send_some(b"x")
            with pytest.raises(anyio.BusyResourceError):
                mine.send_nowait(b"x")
            with pytest.raises(anyio.BusyResourceError):
                await mine.send_eof()
            with pytest.raises(anyio.BusyResourceError):
                await mine.receive()
            with pytest.raises(anyio.BusyResourceError):
                mine.receive_nowait()
            group.cancel_scope.cancel()
        mine.reset(0)
        mine.stop(0)
        await theirs.aclose()


async def test_after_a_local_close_everything_is_closed_never_broken() -> None:
    async with pair() as ends:
        mine, theirs = await open_both(ends)
        await mine.aclose()
        await mine.aclose()
        for call in (mine.receive, mine.send_eof, lambda: mine.send(b"x"), lambda: mine.send_some(b"x")):
            with pytest.raises(anyio.ClosedResourceError):
                await call()
        with pytest.raises(anyio.ClosedResourceError):
            mine.send_nowait(b"x")
        with pytest.raises(anyio.ClosedResourceError):
            mine.receive_nowait()
        theirs.reset(9)  # what the peer does afterwards changes nothing
        await anyio.sleep(0.02)
        with pytest.raises(anyio.ClosedResourceError):
            await mine.receive()
        await theirs.aclose()


async def test_sending_after_the_fin_is_closed() -> None:
    async with pair() as ends:
        mine, theirs = await open_both(ends)
        async with mine, theirs:
            await mine.send_eof()
            with pytest.raises(anyio.ClosedResourceError):
                await mine.send(b"x")


async def test_closing_wakes_those_who_wait_in_other_tasks() -> None:
    async with pair(client={"linger": 0.05}) as ends:
        mine, theirs = await open_both(ends)
        outcomes: list[str] = []

        async def expect_closed(call: Any) -> None:
            with pytest.raises(anyio.ClosedResourceError):
                await call()
            outcomes.append("closed")

        async with anyio.create_task_group() as group:
            group.start_soon(expect_closed, mine.receive)
            group.start_soon(expect_closed, lambda: mine.send(bytes(8 * MEBIBYTE)))
            await anyio.sleep(0.05)
            await mine.aclose()
        assert outcomes == ["closed", "closed"]
        with pytest.raises(StreamReset) as caught:  # what was being sent is not whole: no FIN
            await read_all(theirs)
        assert caught.value.code == 2
        await theirs.aclose()


# --- the end of the connection ---------------------------------------------------------------------------------------


async def test_waiters_get_an_error_each_when_the_peer_closes() -> None:
    async with pair(client={"linger": 0.05}) as ends:
        mine, theirs = await open_both(ends)
        caught: list[ConnectionLost] = []

        async def expect_lost(call: Any) -> None:
            with pytest.raises(ClosedByPeer) as info:
                await call()
            caught.append(info.value)

        async with anyio.create_task_group() as group:
            group.start_soon(expect_lost, mine.receive)
            group.start_soon(expect_lost, lambda: mine.send(bytes(8 * MEBIBYTE)))
            group.start_soon(expect_lost, mine.wait_delivered)
            group.start_soon(expect_lost, mine.wait_stopped)
            await anyio.sleep(0.05)
            ends.server.close(77, "enough")
        assert len({id(error) for error in caught}) == 4
        assert len({id(error.reason) for error in caught}) == 1
        for error in caught:
            assert error.code == 77
            assert error.reason is not None
            assert (error.reason.reason, error.reason.by_peer, error.reason.is_application) == ("enough", True, True)
        with pytest.raises(anyio.ClosedResourceError):
            await theirs.receive()  # closed on that side


async def test_data_and_fin_that_came_before_the_loss_stay_readable() -> None:
    async with pair() as ends:
        mine, theirs = await open_both(ends)
        finished = await ends.server.open_send_stream()
        await theirs.send(b"before the loss")
        await finished.send(b"whole")
        await finished.aclose()
        await finished.wait_delivered()
        await anyio.sleep(0.05)
        ends.server.close(1)
        await ends.client.wait_closed()
        assert await mine.receive(6) == b"before"
        assert await mine.receive() == b" the loss"
        with pytest.raises(ClosedByPeer):
            await mine.receive()
        other = await ends.client.incoming_receive_streams.receive()
        assert await read_all(other) == b"whole"
        with pytest.raises(ClosedByPeer):
            await ends.client.incoming_receive_streams.receive()


# --- how a stream is left --------------------------------------------------------------------------------------------


async def test_left_normally_a_stream_is_finished_and_the_unread_rest_stopped() -> None:
    async with pair() as ends:
        mine, theirs = await open_both(ends)
        async with mine:
            await mine.send(b"whole")
        async with theirs:
            assert await read_all(theirs) == b"whole"
            assert await theirs.wait_stopped() == 0


async def test_left_by_an_exception_a_stream_is_reset_and_stopped() -> None:
    async with pair() as ends:
        mine, theirs = await open_both(ends)
        error = ValueError("mine")
        with pytest.raises(ValueError, match="mine") as caught:
            async with mine:
                await mine.send(b"part")
                raise error
        assert caught.value is error
        async with theirs:
            with pytest.raises(StreamReset) as reset:
                await read_all(theirs)
            assert reset.value.code == 1
            assert await theirs.wait_stopped() == 1


async def test_left_by_cancellation_a_stream_is_reset_and_stopped() -> None:
    async with pair() as ends:
        mine, theirs = await open_both(ends)
        with anyio.move_on_after(0.05):
            async with mine:
                await mine.receive()
        async with theirs:
            with pytest.raises(StreamReset) as reset:
                await read_all(theirs)
            assert reset.value.code == 2
            assert await theirs.wait_stopped() == 2


async def test_a_cancelled_aclose_still_closes() -> None:
    async with pair() as ends:
        mine, theirs = await open_both(ends)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await mine.aclose()
        async with theirs:
            with pytest.raises(StreamReset):
                await read_all(theirs)


async def test_after_a_cancelled_send_the_half_can_only_be_closed_which_resets_it() -> None:
    async with pair(client={"linger": 0.05}) as ends:
        mine, theirs = await open_both(ends)
        with anyio.move_on_after(0.1):
            await mine.send(bytes(8 * MEBIBYTE))
        with pytest.raises(anyio.ClosedResourceError):
            await mine.send(b"x")
        with pytest.raises(anyio.ClosedResourceError):
            await mine.send_eof()
        await mine.aclose()
        async with theirs:
            with pytest.raises(StreamReset):
                await read_all(theirs)


async def test_a_send_cancelled_before_anything_was_queued_changes_nothing() -> None:
    async with pair() as ends:
        mine, theirs = await open_both(ends)
        async with mine, theirs:
            with anyio.CancelScope() as scope:
                scope.cancel()
                await mine.send(b"never")
            await mine.send(b"but this")
            await mine.send_eof()
            assert await read_all(theirs) == b"but this"


async def test_a_cancelled_receive_loses_nothing() -> None:
    async with pair() as ends:
        mine, theirs = await open_both(ends)
        async with mine, theirs:
            with anyio.move_on_after(0.02):
                await theirs.receive()
            await mine.send(b"kept")
            await anyio.sleep(0.02)
            with anyio.CancelScope() as scope:
                scope.cancel()
                await theirs.receive()
            assert await theirs.receive() == b"kept"


# --- other -----------------------------------------------------------------------------------------------------------


async def test_a_dropped_stream_warns_and_is_reset_by_the_drivers_next_turn() -> None:
    async with pair() as ends:
        mine, theirs = await open_both(ends)
        await mine.send(b"part")
        with pytest.warns(ResourceWarning, match="never closed"):
            del mine
            gc.collect()
        await ends.client.ping()  # a turn of the driver
        async with theirs:
            with pytest.raises(StreamReset) as caught:
                await read_all(theirs)
            assert caught.value.code == 1
            assert await theirs.wait_stopped() == 1


async def test_a_dropped_stream_that_is_over_does_not_warn_and_gives_its_place_back() -> None:
    async with pair(server={"max_streams_bidi": 1}) as ends:
        for _ in range(3):
            mine, theirs = await open_both(ends)
            await mine.send_eof()
            await theirs.send_eof()
            assert await read_all(mine) == await read_all(theirs) == b""
            del mine, theirs
            gc.collect()
            await ends.server.ping()


async def test_priority() -> None:
    async with pair() as ends, await ends.client.open_stream() as mine:
        assert mine.priority == Priority(3, False)
        mine.priority = Priority(urgency=0, incremental=True)
        assert mine.priority.urgency == 0
        with pytest.raises(ValueError, match="urgency"):
            Priority(urgency=8)


@contextmanager
def yielding(backend: str) -> Iterator[None]:
    """The body must let others run, and look for a cancellation."""
    if backend == "trio":
        with trio.testing.assert_checkpoints():
            yield
    else:
        turns: list[None] = []
        asyncio.get_running_loop().call_soon(turns.append, None)
        yield
        assert turns


async def test_every_call_yields(anyio_backend_name: str) -> None:
    async with pair() as ends:
        mine, theirs = await open_both(ends)
        async with mine, theirs:
            await theirs.send(b"ready to be read")
            await anyio.sleep(0.05)
            calls: list[Any] = [
                lambda: mine.receive(1),
                lambda: mine.send(b""),
                lambda: mine.send(b"x"),
                lambda: mine.send_some(b"x"),
                lambda: mine.send_some(b""),
                mine.send_eof,
                mine.send_eof,
                mine.wait_delivered,
                mine.wait_stopped,
                ends.client.wait_handshake,
                lambda: ends.client.datagrams.send(b"x"),
                ends.server.datagrams.receive,
                mine.aclose,
                mine.aclose,
            ]
            for call in calls:
                with yielding(anyio_backend_name):
                    await call()
                with anyio.CancelScope() as scope:
                    scope.cancel()
                    await call()
                assert scope.cancelled_caught


async def test_a_reset_after_a_graceful_close_is_too_late_once_the_stream_is_released() -> None:
    async with pair() as ends:
        mine, theirs = await open_both(ends)
        await mine.send(b"whole")
        await mine.aclose()
        mine.reset(5)
        mine.stop(5)
        async with theirs:
            assert await read_all(theirs) == b"whole"


async def test_a_reset_after_the_fin_abandons_what_is_not_delivered() -> None:
    async with pair() as ends:
        mine, theirs = await open_both(ends)
        mine.send_nowait(bytes(100_000))
        await mine.send_eof()
        mine.reset(5)
        assert ends.client._table.undelivered_count() == 0
        with pytest.raises(anyio.ClosedResourceError):
            await mine.wait_delivered()
        async with mine, theirs:
            with pytest.raises(StreamReset):
                await read_all(theirs)


async def test_waits_are_shared() -> None:
    async with pair() as ends:
        mine, theirs = await open_both(ends)
        async with mine, theirs:
            stopped: list[int | None] = []

            async def wait() -> None:
                stopped.append(await mine.wait_stopped())
                await mine.wait_delivered()

            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(wait)
                    group.start_soon(mine.wait_delivered)
                await anyio.sleep(0.02)
                await mine.send_eof()
            assert stopped == [None] * 3


async def test_priority_of_a_stream_that_is_over_is_of_no_effect() -> None:
    async with pair() as ends:
        mine, theirs = await open_both(ends)
        await mine.aclose()
        mine.priority = Priority(1)
        assert mine.priority.urgency == 1
        await theirs.aclose()
