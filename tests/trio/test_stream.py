"""Streams of the trio face over real UDP: data, ends, back-pressure, resets, cancellation. Only trio's errors are caught."""

from __future__ import annotations

import gc
import hashlib
from typing import Any

import pytest
import trio

from helpers.trio_loopback import pair, read_all
from quicio.errors import QuicError
from quicio.trio import ClosedByPeer, Priority, QuicAttribute, ReceiveStream, SendStream, Stream
from quicio.trio import StreamReset as Reset
from quicio.trio import StreamStopped as Stopped

pytestmark = pytest.mark.anyio

MEBIBYTE = 1 << 20


def code_of(caught: pytest.ExceptionInfo[trio.BrokenResourceError]) -> int | None:
    """The QUIC error code that an error of trio's carries."""
    assert isinstance(caught.value, QuicError)
    return caught.value.code


async def test_echo_with_half_close() -> None:
    async with pair() as ends:
        mine, theirs = await ends.open_stream()
        async with mine, theirs:
            assert mine.id == theirs.id == 0
            await mine.send_all(b"hello")
            await mine.send_eof()
            await mine.send_eof()  # idempotent
            assert await read_all(theirs) == b"hello"
            assert await theirs.receive_some() == b""  # and again
            await theirs.send_all(b"goodbye")  # the other half is still open
            await theirs.send_eof()
            assert await mine.receive_some(4) == b"good"
            assert mine.receive_nowait(2) == b"by"
            assert mine.receive_nowait() == b"e"
            with trio.fail_after(1):
                assert await mine.receive_some() == b""
            assert mine.receive_nowait() == b""
            await mine.wait_delivered()
            assert await mine.wait_stopped() is None


async def test_kinds_of_streams_are_trios() -> None:
    async with pair() as ends:
        mine, theirs = await ends.open_stream()
        async with mine, theirs:
            assert isinstance(mine, trio.abc.HalfCloseableStream)
            assert isinstance(mine, SendStream)
            assert isinstance(mine, ReceiveStream)
            assert mine.extra(QuicAttribute.stream_id) == 0
            mine.priority = Priority(urgency=1)
            assert mine.priority.urgency == 1
        async with await ends.client.open_send_stream() as sending:
            assert isinstance(sending, trio.abc.SendStream)
            assert not isinstance(sending, trio.abc.ReceiveStream)
            await sending.send_all(b"one way")
        async with await ends.server.incoming_receive_streams.receive() as receiving:
            assert isinstance(receiving, trio.abc.ReceiveStream)
            assert not isinstance(receiving, trio.abc.SendStream)
            assert await read_all(receiving) == b"one way"


async def test_generic_trio_code_works_on_streams() -> None:
    """Two streams stapled: each direction of ours is what trio's own adapters take."""
    async with pair() as ends:
        mine, theirs = await ends.open_stream()
        async with mine, theirs:
            stapled = trio.StapledStream(mine, mine)
            await stapled.send_all(b"through the staple")
            await stapled.send_eof()
            assert await read_all(theirs) == b"through the staple"
            await theirs.send_all(b"back")
            assert await stapled.receive_some() == b"back"


async def test_a_mebibyte_arrives_whole_in_both_directions() -> None:
    data = bytes(range(256)) * (MEBIBYTE // 256)
    async with pair() as ends:
        mine, theirs = await ends.open_stream()

        async def send(stream: Stream) -> None:
            await stream.send_all(data)
            await stream.send_eof()

        async def receive(stream: Stream) -> None:
            assert hashlib.sha256(await read_all(stream)).digest() == hashlib.sha256(data).digest()

        async with mine, theirs, trio.open_nursery() as nursery:
            for stream in (mine, theirs):
                nursery.start_soon(send, stream)
                nursery.start_soon(receive, stream)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_any_buffer_is_sent(kind: Any) -> None:
    async with pair() as ends:
        mine, theirs = await ends.open_stream()
        async with mine, theirs:
            await mine.send_all(kind(b"some bytes"))
            assert await mine.send_some(kind(b", more")) == 6
            assert mine.send_nowait(kind(b" and more")) == 9
            await mine.send_eof()
            assert await read_all(theirs) == b"some bytes, more and more"


@pytest.mark.parametrize(("size", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), ("1", TypeError)])
async def test_max_bytes_is_a_positive_integer(size: Any, error: type[Exception]) -> None:
    async with pair() as ends:
        mine, theirs = await ends.open_stream()
        async with mine, theirs:
            with pytest.raises(error):
                await theirs.receive_some(size)
            with pytest.raises(error):
                theirs.receive_nowait(size)
            with pytest.raises(trio.WouldBlock):
                theirs.receive_nowait()


# --- back-pressure ---------------------------------------------------------------------------------------------------


async def test_a_sender_waits_for_a_reader_and_goes_on_when_it_reads() -> None:
    size = 4 * MEBIBYTE
    async with pair() as ends:
        mine, theirs = await ends.open_stream()
        sent = 0
        async with mine, theirs, trio.open_nursery() as nursery:

            async def send() -> None:
                nonlocal sent
                while sent < size:
                    await mine.wait_send_all_might_not_block()
                    sent += mine.send_nowait(bytes(min(65536, size - sent)))
                await mine.send_eof()

            nursery.start_soon(send)
            await trio.sleep(0.3)
            assert sent <= 2 * MEBIBYTE  # the receiver's window and the sender's buffer, and nothing else
            assert len(await read_all(theirs)) == size


# --- reset and stop --------------------------------------------------------------------------------------------------


async def test_a_reset_reaches_a_waiting_reader_with_its_code() -> None:
    async with pair() as ends:
        mine, theirs = await ends.open_stream()
        async with mine, theirs, trio.open_nursery() as nursery:

            async def read() -> None:
                with pytest.raises(trio.BrokenResourceError) as caught:
                    await theirs.receive_some()
                assert isinstance(caught.value, Reset)
                assert code_of(caught) == 42

            nursery.start_soon(read)
            await trio.sleep(0.02)
            mine.reset(42)
            for call in (lambda: mine.send_all(b"x"), mine.wait_delivered, mine.wait_stopped):
                with pytest.raises(trio.ClosedResourceError):
                    await call()
            with pytest.raises(trio.ClosedResourceError):
                mine.send_nowait(b"x")


async def test_a_stop_reaches_a_blocked_sender_with_its_code() -> None:
    async with pair() as ends:
        mine, theirs = await ends.open_stream()
        async with mine, theirs, trio.open_nursery() as nursery:

            async def expect_stopped(call: Any) -> None:
                with pytest.raises(trio.BrokenResourceError) as caught:
                    await call()
                assert isinstance(caught.value, Stopped)
                assert code_of(caught) == 7

            async def stopped() -> None:
                assert await mine.wait_stopped() == 7

            nursery.start_soon(expect_stopped, lambda: mine.send_all(bytes(8 * MEBIBYTE)))
            nursery.start_soon(expect_stopped, mine.wait_delivered)
            nursery.start_soon(stopped)
            await trio.sleep(0.05)
            theirs.stop(7)
            with pytest.raises(trio.ClosedResourceError):
                await theirs.receive_some()


# --- errors of use ---------------------------------------------------------------------------------------------------


async def test_a_second_task_in_the_same_half_is_busy() -> None:
    async with pair(client={"linger": 0.05}) as ends:
        mine, theirs = await ends.open_stream()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mine.send_all, bytes(8 * MEBIBYTE))
            nursery.start_soon(mine.receive_some)
            await trio.sleep(0.05)
            for call in (
                lambda: mine.send_all(b"x"),
                lambda: mine.send_some(b"x"),
                mine.wait_send_all_might_not_block,
                mine.send_eof,
                mine.receive_some,
            ):
                with pytest.raises(trio.BusyResourceError, match="Another task"):
                    await call()
            with pytest.raises(trio.BusyResourceError):
                mine.send_nowait(b"x")
            with pytest.raises(trio.BusyResourceError):
                mine.receive_nowait()
            nursery.cancel_scope.cancel()
        mine.reset(0)
        mine.stop(0)
        await theirs.aclose()


async def test_after_a_local_close_everything_is_closed_never_broken() -> None:
    async with pair() as ends:
        mine, theirs = await ends.open_stream()
        await mine.aclose()
        theirs.reset(9)  # what the peer does afterwards changes nothing
        await trio.sleep(0.02)
        for call in (
            mine.receive_some,
            mine.send_eof,
            mine.wait_send_all_might_not_block,
            lambda: mine.send_all(b""),
            lambda: mine.send_some(b"x"),
        ):
            with pytest.raises(trio.ClosedResourceError):
                await call()
        await theirs.aclose()


async def test_an_unannounced_stream_of_a_lost_connection_cannot_be_announced() -> None:
    async with pair() as ends:
        mine = await ends.client.open_stream()
        ends.server.close(3)
        await ends.client.wait_closed()
        with pytest.raises(trio.BrokenResourceError) as caught:
            mine.announce()
        assert code_of(caught) == 3
        await mine.aclose()


# --- the end of the connection ---------------------------------------------------------------------------------------


async def test_waiters_get_an_error_each_when_the_peer_closes() -> None:
    async with pair(client={"linger": 0.05}) as ends:
        mine, theirs = await ends.open_stream()
        caught: list[ClosedByPeer] = []

        async def expect_lost(call: Any) -> None:
            with pytest.raises(trio.BrokenResourceError) as info:
                await call()
            assert isinstance(info.value, ClosedByPeer)
            caught.append(info.value)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(expect_lost, mine.receive_some)
            nursery.start_soon(expect_lost, lambda: mine.send_all(bytes(8 * MEBIBYTE)))
            nursery.start_soon(expect_lost, mine.wait_delivered)
            nursery.start_soon(expect_lost, mine.wait_stopped)
            await trio.sleep(0.05)
            ends.server.close(77, "enough")
        assert len({id(error) for error in caught}) == 4
        assert len({id(error.reason) for error in caught}) == 1
        for error in caught:
            assert error.reason is not None
            assert (error.code, error.reason.reason, error.reason.by_peer) == (77, "enough", True)
        with pytest.raises(trio.ClosedResourceError):
            await theirs.receive_some()  # closed on that side


async def test_data_and_fin_that_came_before_the_loss_stay_readable() -> None:
    async with pair() as ends:
        mine, theirs = await ends.open_stream()
        finished = await ends.server.open_send_stream()
        await theirs.send_all(b"before the loss")
        await finished.send_all(b"whole")
        await finished.aclose()
        await finished.wait_delivered()
        await trio.sleep(0.05)
        ends.server.close(1)
        await ends.client.wait_closed()
        assert await mine.receive_some(6) == b"before"
        assert await mine.receive_some() == b" the loss"
        with pytest.raises(trio.BrokenResourceError):  # no end of stream
            await mine.receive_some()
        other = await ends.client.incoming_receive_streams.receive()
        assert await read_all(other) == b"whole"


# --- how a stream is left --------------------------------------------------------------------------------------------


async def test_left_by_an_exception_a_stream_is_reset_and_stopped() -> None:
    async with pair() as ends:
        mine, theirs = await ends.open_stream()
        error = ValueError("mine")
        with pytest.raises(ValueError, match="mine") as caught:
            async with mine:
                await mine.send_all(b"part")
                raise error
        assert caught.value is error
        async with theirs:
            with pytest.raises(trio.BrokenResourceError) as broken:
                await read_all(theirs)
            assert code_of(broken) == 1
            assert await theirs.wait_stopped() == 1


async def test_left_by_cancellation_a_stream_is_reset_and_stopped() -> None:
    async with pair() as ends:
        mine, theirs = await ends.open_stream()
        with trio.move_on_after(0.05):
            async with mine:
                await mine.receive_some()
        async with theirs:
            with pytest.raises(trio.BrokenResourceError) as broken:
                await read_all(theirs)
            assert code_of(broken) == 2
            assert await theirs.wait_stopped() == 2


async def test_closed_forcefully_a_stream_is_never_taken_for_whole() -> None:
    async with pair() as ends:
        mine, theirs = await ends.open_stream()
        await mine.send_all(b"part")
        await trio.aclose_forcefully(mine)
        async with theirs:
            with pytest.raises(trio.BrokenResourceError):
                await read_all(theirs)


async def test_after_a_cancelled_send_all_a_stream_can_only_be_closed_which_resets_it() -> None:
    async with pair(client={"linger": 0.05}) as ends:
        mine, theirs = await ends.open_stream()
        with trio.move_on_after(0.1) as scope:
            await mine.send_all(bytes(8 * MEBIBYTE))
        assert scope.cancelled_caught
        with pytest.raises(trio.ClosedResourceError):
            await mine.send_all(b"x")
        with pytest.raises(trio.ClosedResourceError):
            await mine.send_eof()
        await mine.aclose()
        async with theirs:
            with pytest.raises(trio.BrokenResourceError):
                await read_all(theirs)


async def test_a_cancelled_call_is_as_if_it_was_not_made() -> None:
    async with pair() as ends:
        mine, theirs = await ends.open_stream()
        async with mine, theirs:
            for call in (
                lambda: mine.send_all(b"never"),
                lambda: mine.send_some(b"never"),
                mine.send_eof,
                mine.wait_send_all_might_not_block,
            ):
                with trio.CancelScope() as scope:
                    scope.cancel()
                    await call()
                assert scope.cancelled_caught
            await mine.send_all(b"but this")
            await trio.sleep(0.02)
            with trio.CancelScope() as scope:
                scope.cancel()
                await theirs.receive_some()
            await mine.send_eof()
            assert await read_all(theirs) == b"but this"


async def test_a_dropped_stream_warns_and_is_reset_by_the_drivers_next_turn() -> None:
    async with pair() as ends:
        mine, theirs = await ends.open_stream()
        await mine.send_all(b"part")
        with pytest.warns(ResourceWarning, match="never closed"):
            del mine
            gc.collect()
        await ends.client.ping()  # a turn of the driver
        async with theirs:
            with pytest.raises(trio.BrokenResourceError) as broken:
                await read_all(theirs)
            assert code_of(broken) == 1
