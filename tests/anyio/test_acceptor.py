"""Acceptors: one by one, by iteration, by `serve`; how handlers end."""

from __future__ import annotations

import logging

import anyio
import pytest
from anyio.abc import Listener, ObjectReceiveStream

from helpers.loopback import pair, read_all
from quicio.anyio import ReceiveStream, Stream
from quicio.errors import ClosedByPeer, StreamReset

pytestmark = pytest.mark.anyio


async def test_streams_arrive_in_order_and_iteration_ends_with_a_clean_close() -> None:
    async with pair() as ends:
        acceptor = ends.server.incoming_receive_streams
        assert isinstance(acceptor, ObjectReceiveStream)
        assert isinstance(acceptor, Listener)
        with pytest.raises(anyio.WouldBlock):
            acceptor.receive_nowait()
        for number in range(3):
            async with await ends.client.open_send_stream() as stream:
                await stream.send(b"%d" % number)
        await ends.client.aclose()
        received = []
        async for theirs in acceptor:
            received.append(await read_all(theirs))
        assert received == [b"0", b"1", b"2"]
        with pytest.raises(anyio.EndOfStream):
            acceptor.receive_nowait()


async def test_a_second_task_is_busy() -> None:
    async with pair() as ends, anyio.create_task_group() as group:
        group.start_soon(ends.server.incoming_streams.receive)
        await anyio.sleep(0.01)
        with pytest.raises(anyio.BusyResourceError):
            await ends.server.incoming_streams.receive()
        group.cancel_scope.cancel()


async def test_serve_closes_gracefully_what_its_handlers_leave() -> None:
    async with pair() as ends:

        async def upper(stream: Stream) -> None:
            await stream.send((await read_all(stream)).upper())  # and no close

        async with anyio.create_task_group() as group:
            group.start_soon(ends.server.incoming_streams.serve, upper)
            for text in (b"one", b"two"):
                async with await ends.client.open_stream() as stream:
                    await stream.send(text)
                    await stream.send_eof()
                    assert await read_all(stream) == text.upper()
            await ends.client.aclose()  # and serve returns


async def test_a_handler_that_raises_resets_its_stream_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with pair() as ends:

        async def fail(stream: Stream) -> None:
            raise LookupError("of the handler")

        async with anyio.create_task_group() as group:
            group.start_soon(ends.server.incoming_streams.serve, fail)
            async with await ends.client.open_stream() as stream:
                stream.announce()
                with pytest.raises(StreamReset) as caught:
                    await stream.receive()
                assert caught.value.code == 1
            group.cancel_scope.cancel()
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], LookupError)


async def test_what_the_peer_caused_ends_one_handler_and_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    async with pair() as ends:

        async def read(stream: Stream) -> None:
            async with anyio.create_task_group():  # wrapped by the user's own group
                await read_all(stream)

        async with anyio.create_task_group() as group:
            group.start_soon(ends.server.incoming_streams.serve, read)
            stream = await ends.client.open_stream()
            stream.announce()
            await anyio.sleep(0.02)
            stream.reset(5)
            await stream.aclose()
            async with await ends.client.open_stream() as other:  # the acceptor goes on
                await other.send_eof()
                assert await read_all(other) == b""
            group.cancel_scope.cancel()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_exceptions_go_to_the_task_group_that_was_given() -> None:
    async with pair() as ends:

        async def fail(stream: Stream) -> None:
            raise LookupError("of the handler")

        with pytest.raises(ExceptionGroup) as caught:
            async with anyio.create_task_group() as group:
                group.start_soon(ends.server.incoming_streams.serve, fail, group)
                stream = await ends.client.open_stream()
                stream.announce()
                await anyio.sleep_forever()
        assert caught.group_contains(LookupError)
        await stream.aclose()


async def test_serve_with_a_task_group_returns_at_the_end() -> None:
    async with pair() as ends, anyio.create_task_group() as group:
        await ends.client.aclose()

        async def handle(stream: ReceiveStream) -> None:
            pytest.fail("there was none")

        await ends.server.incoming_receive_streams.serve(handle, group)


async def test_what_on_error_raises_leaves_serve_unwrapped() -> None:
    async with pair() as ends:
        stream = await ends.client.open_stream()
        stream.announce()

        async def fail(stream: Stream) -> None:
            raise LookupError("of the handler")

        def crash(error: Exception, subject: object) -> None:
            raise error

        with pytest.raises(LookupError):
            await ends.server.incoming_streams.serve(fail, on_error=crash)
        await stream.aclose()


async def test_serve_raises_the_loss_once_its_handlers_have_ended() -> None:
    async with pair() as ends:
        ended: list[BaseException] = []
        stream = await ends.client.open_stream()
        stream.announce()

        async def handle(stream: Stream) -> None:
            try:
                await stream.receive()
            except BaseException as error:
                ended.append(error)
                raise

        async def lose() -> None:
            await anyio.sleep(0.05)
            ends.client.close(3)

        async with anyio.create_task_group() as group:
            group.start_soon(lose)
            with pytest.raises(ClosedByPeer):
                await ends.server.incoming_streams.serve(handle)
        assert [type(error) for error in ended] == [ClosedByPeer]


async def test_a_closed_acceptor_refuses_what_waits_and_what_comes() -> None:
    async with pair() as ends:
        waiting = await ends.client.open_stream()
        waiting.announce()
        await ends.client.ping()
        await ends.server.incoming_streams.aclose()
        later = await ends.client.open_stream()
        later.announce()
        for stream in (waiting, later):
            async with stream:
                with pytest.raises(StreamReset) as caught:
                    await stream.receive()
                assert caught.value.code == 2
                assert await stream.wait_stopped() == 2
        with pytest.raises(anyio.ClosedResourceError):
            await ends.server.incoming_streams.receive()
