"""The peer's streams and DATAGRAMs as trio channels."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio

from helpers.trio_loopback import pair, read_all
from quicio.trio import ConnectionLost, Stream

pytestmark = pytest.mark.anyio


async def send_on_new_stream(connection: Any, data: bytes) -> None:
    async with await connection.open_stream() as stream:
        await stream.send_all(data)


async def test_acceptors_are_receive_channels_that_end_when_the_peer_closes_cleanly() -> None:
    async with pair() as ends:
        acceptor = ends.client.incoming_streams
        assert isinstance(acceptor, trio.abc.ReceiveChannel)
        with pytest.raises(trio.WouldBlock):
            acceptor.receive_nowait()
        await send_on_new_stream(ends.server, b"first")
        await trio.sleep(0.05)
        async with acceptor.receive_nowait() as stream:
            assert isinstance(stream, Stream)
            assert await read_all(stream) == b"first"
        await send_on_new_stream(ends.server, b"last")
        await trio.sleep(0.05)
        ends.server.close(0)
        await ends.client.wait_closed()
        taken = []
        async for stream in acceptor:  # what had arrived, and then the end
            taken.append(await read_all(stream))
            await stream.aclose()
        assert taken == [b"last"]
        for _ in range(2):
            with pytest.raises(trio.EndOfChannel):
                await acceptor.receive()
        with pytest.raises(trio.EndOfChannel):
            acceptor.receive_nowait()


async def test_acceptors_break_when_the_connection_is_lost() -> None:
    async with pair() as ends:
        ends.server.close(5)
        await ends.client.wait_closed()
        for channel in (ends.client.incoming_streams, ends.client.incoming_receive_streams, ends.client.datagrams):
            with pytest.raises(trio.BrokenResourceError) as caught:
                await channel.receive()
            assert isinstance(caught.value, ConnectionLost)
            assert caught.value.code == 5


async def test_one_task_receives_and_a_closed_acceptor_refuses() -> None:
    async with pair() as ends:
        acceptor = ends.client.incoming_streams
        async with trio.open_nursery() as nursery:

            async def expect_closed() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await acceptor.receive()

            nursery.start_soon(expect_closed)
            await trio.sleep(0.02)
            with pytest.raises(trio.BusyResourceError):
                await acceptor.receive()
            await acceptor.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await acceptor.receive()
        async with await ends.server.open_stream() as refused:
            refused.announce()
            with pytest.raises(trio.BrokenResourceError):
                await refused.receive_some()


async def test_serve_runs_a_task_for_each_stream_and_ends_with_the_connection() -> None:
    served: list[bytes] = []

    async def handle(stream: Stream) -> None:
        served.append(await read_all(stream))
        await stream.send_all(served[-1].upper())

    async with pair() as ends, trio.open_nursery() as nursery:

        async def serve() -> None:
            await ends.client.incoming_streams.serve(handle)
            served.append(b"ended")

        nursery.start_soon(serve)
        for word in (b"a", b"b"):
            async with await ends.server.open_stream() as stream:
                await stream.send_all(word)
                await stream.send_eof()
                assert await read_all(stream) == word.upper()
        ends.server.close(0)
    assert served == [b"a", b"b", b"ended"]


async def test_serve_breaks_with_the_connection() -> None:
    async with pair() as ends:

        async def handle(stream: Stream) -> None:
            pytest.fail("no stream came")

        ends.server.close(6)
        with pytest.raises(trio.BrokenResourceError):
            await ends.client.incoming_streams.serve(handle)


async def test_what_handlers_raise_goes_to_on_error_with_the_stream(caplog: pytest.LogCaptureFixture) -> None:
    caught: list[tuple[Exception, Any]] = []
    handled: list[Stream] = []

    async def handle(stream: Stream) -> None:
        handled.append(stream)
        await stream.receive_some()
        raise LookupError("a bug")

    async with pair() as ends, trio.open_nursery() as nursery:

        async def serve() -> None:
            await ends.client.incoming_streams.serve(handle, on_error=lambda error, who: caught.append((error, who)))

        nursery.start_soon(serve)
        async with await ends.server.open_stream() as stream:
            await stream.send_all(b"go")
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()
        ends.server.close(0)
    assert [type(error) for error, _ in caught] == [LookupError]
    assert caught[0][1] is handled[0]  # the object that the handler had
    assert not caplog.records


async def test_what_the_peer_causes_ends_its_handler_alone(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "quicio")
    async with pair() as ends, trio.open_nursery() as nursery:

        async def handle(stream: Stream) -> None:
            await read_all(stream)

        nursery.start_soon(ends.client.incoming_streams.serve, handle)
        async with await ends.server.open_stream() as stream:
            await stream.send_all(b"part")
            await trio.sleep(0.02)
            stream.reset(9)
            await trio.sleep(0.05)
        ends.server.close(0)
    assert any("error code 9" in record.getMessage() for record in caplog.records)
    assert all(record.levelno == logging.INFO for record in caplog.records)


async def test_handlers_in_a_nursery_of_ones_own_crash_it() -> None:
    async with pair() as ends:

        async def handle(stream: Stream) -> None:
            raise LookupError("a bug")

        with pytest.raises(ExceptionGroup) as caught:
            async with trio.open_nursery() as handlers:
                handlers.start_soon(ends.client.incoming_streams.serve, handle, handlers)
                await send_on_new_stream(ends.server, b"go")
                await trio.sleep(1)
        assert [type(error) for error in caught.value.exceptions] == [LookupError]


async def test_datagrams_are_a_channel() -> None:
    async with pair() as ends:
        mine, theirs = ends.client.datagrams, ends.server.datagrams
        assert isinstance(mine, trio.abc.Channel)
        assert mine.max_size is not None
        await mine.send(b"one")
        assert await theirs.receive() == b"one"
        theirs.send_nowait(bytearray(b"two"))
        async for message in mine:
            assert message == b"two"
            break
        with pytest.raises(trio.WouldBlock):
            mine.receive_nowait()
        with pytest.raises(ValueError, match="does not fit"):
            await mine.send(bytes(mine.max_size + 1))
        await mine.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await mine.send(b"x")
        with pytest.raises(trio.ClosedResourceError):
            mine.send_nowait(b"x")
        with pytest.raises(trio.ClosedResourceError):
            await mine.receive()


async def test_a_full_queue_of_datagrams_would_block() -> None:
    async with pair() as ends:
        with pytest.raises(trio.WouldBlock):
            while True:
                ends.client.datagrams.send_nowait(bytes(1000))
