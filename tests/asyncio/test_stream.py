"""Streams as `StreamReader` and `StreamWriter`: back-pressure both ways, and ends that say what they are."""

from __future__ import annotations

import asyncio
import gc
from contextlib import suppress
from typing import Any

import pytest

import quicio.asyncio.protocol
from helpers.asyncio_face import PATIENCE, Pair, connected, echo, pair, serving, until
from helpers.loopback import HOST
from quicio import errors
from quicio.asyncio.protocol import QuicConnectionProtocol, QuicStreamAdapter
from quicio.asyncio.stream import StreamReset, StreamStopped

pytestmark = pytest.mark.anyio

MEBIBYTE = 1 << 20


class Streams:
    """A stream handler that keeps what it is given, without a task."""

    def __init__(self) -> None:
        self.streams: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.streams.append((reader, writer))


async def open_both(ends: Pair, kept: Streams, is_unidirectional: bool = False) -> Any:
    """A stream of the client: reader and writer of the client, then of the server."""
    count = len(kept.streams)
    reader, writer = await ends.client.create_stream(is_unidirectional)
    writer.write(b"!")
    await until(lambda: len(kept.streams) > count)
    peer_reader, peer_writer = kept.streams[-1]
    assert await peer_reader.readexactly(1) == b"!"
    return reader, writer, peer_reader, peer_writer


# --- data -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 65536, 3 * MEBIBYTE])
async def test_echo(size: int) -> None:
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    async with pair(stream_handler=echo) as ends:
        reader, writer = await ends.client.create_stream()
        writer.write(data)
        writer.write_eof()
        assert await reader.read() == data
        assert reader.at_eof()
        await writer.wait_closed()
        await until(lambda: not ends.client._adapters)
        await until(lambda: not ends.server._adapters)
        assert not ends.client._stream_readers


async def test_many_streams_at_once() -> None:
    async with pair(stream_handler=echo) as ends:

        async def exchange(number: int) -> None:
            reader, writer = await ends.client.create_stream()
            data = bytes([number]) * 20_000
            writer.write(data)
            writer.write_eof()
            assert await reader.read() == data

        async with asyncio.TaskGroup() as tasks:
            for number in range(200):  # more than the server allows at once
                tasks.create_task(exchange(number))


async def test_streams_have_ids_of_their_own_before_they_are_written() -> None:
    """In aioquic two calls in a row give one ID."""
    async with pair() as ends:
        ids = [(await ends.client.create_stream())[1].get_extra_info("stream_id") for _ in range(3)]
        assert ids == [0, 4, 8]
        assert (await ends.client.create_stream(is_unidirectional=True))[1].get_extra_info("stream_id") == 2
        assert (await ends.server.create_stream())[1].get_extra_info("stream_id") == 1


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_kinds_of_data(kind: Any) -> None:
    async with pair(stream_handler=echo) as ends:
        reader, writer = await ends.client.create_stream()
        writer.write(kind(b"hello"))
        writer.writelines([kind(b", "), kind(b"world")])
        writer.write_eof()
        assert await reader.read() == b"hello, world"


async def test_lines() -> None:
    async with pair(stream_handler=echo) as ends:
        reader, writer = await ends.client.create_stream()
        writer.write(b"one\ntwo\nthree")
        assert await reader.readline() == b"one\n"
        assert await reader.readuntil(b"o") == b"two"
        writer.write_eof()
        assert await reader.readline() == b"\n"
        assert await reader.readline() == b"three"


async def test_a_unidirectional_stream() -> None:
    kept = Streams()
    async with pair(stream_handler=kept) as ends:
        reader, writer, peer_reader, peer_writer = await open_both(ends, kept, is_unidirectional=True)
        assert writer.can_write_eof()
        assert await reader.read() == b""  # nobody can write there: no wait that never ends
        assert not peer_writer.can_write_eof()
        with pytest.raises(ValueError, match="unidirectional"):
            peer_writer.write(b"no")
        with pytest.raises(ValueError, match="unidirectional"):
            peer_writer.write_eof()
        peer_writer.close()
        await peer_writer.drain()
        await peer_writer.wait_closed()
        writer.close()
        assert await peer_reader.read() == b""


async def test_the_handler_is_called_before_the_data_is_fed() -> None:
    states: list[Any] = []

    def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        states.append((reader._buffer, reader.at_eof(), writer.get_extra_info("stream_id")))  # type: ignore[attr-defined]
        states.append(bytes(reader._buffer))  # type: ignore[attr-defined]

    async with pair(stream_handler=handler) as ends:
        _, writer = await ends.client.create_stream()
        writer.write(b"first")
        await until(lambda: states)
        assert states[1] == b""
        assert states[0][2] == 0


# --- back-pressure ----------------------------------------------------------------------------------------------------


async def test_a_reader_that_never_reads_stops_the_writer() -> None:
    """200 MiB in pieces, with a drain after each: what waits is within the windows on both sides."""
    kept = Streams()
    async with pair(stream_handler=kept) as ends:
        _, writer, peer_reader, _ = await open_both(ends, kept)
        piece = bytes(64 * 1024)
        written = 0

        async def write() -> None:
            nonlocal written
            for _ in range(3200):
                writer.write(piece)
                await writer.drain()
                written += len(piece)

        task = asyncio.create_task(write())
        await asyncio.sleep(0.3)
        before = written
        await asyncio.sleep(0.2)
        assert written == before
        window = ends.server._quic.configuration.max_stream_data
        assert written < 2 * window + ends.client._quic.configuration.send_buffer + 5 * len(piece)
        assert writer.transport.get_write_buffer_size() <= ends.client._quic.configuration.send_buffer + len(piece)
        adapter = ends.server._adapters[0]
        assert not adapter.is_reading()
        assert adapter._size + len(peer_reader._buffer) <= 2 * window

        async def read() -> int:
            total = 0
            while total < 200 * MEBIBYTE // 10:
                total += len(await peer_reader.read(1 << 20))
            return total

        assert await read() >= 20 * MEBIBYTE  # reading sets the writer free
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_the_water_marks_of_a_stream() -> None:
    """`drain()` waits beyond the high mark until the low one is reached; with 0 until all is acknowledged."""
    kept = Streams()
    limits = {"max_data": 30_000, "max_stream_data": 30_000}
    async with pair(stream_handler=kept, server=limits) as ends:
        _, writer, peer_reader, _ = await open_both(ends, kept)
        transport: asyncio.WriteTransport = writer.transport
        size = ends.client._quic.configuration.send_buffer
        assert transport.get_write_buffer_limits() == (size - size // 4, size - 1)
        peer_adapter = ends.server._adapters[0]
        peer_adapter.pause_reading()
        writer.write(bytes(400_000))
        await writer.drain()
        transport.set_write_buffer_limits(high=100_000, low=50_000)
        assert transport.get_write_buffer_limits() == (50_000, 100_000)

        async def size_when_drained() -> int:
            await writer.drain()
            return transport.get_write_buffer_size()

        draining = asyncio.create_task(size_when_drained())
        await asyncio.sleep(0.05)
        assert not draining.done()  # the peer takes no more than its windows
        peer_adapter.resume_reading()
        async with asyncio.timeout(PATIENCE):
            await peer_reader.readexactly(400_000)
            assert await draining <= 50_000
        transport.set_write_buffer_limits(high=0)
        writer.write(b"x")
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(writer.drain(), peer_reader.readexactly(1))
        assert transport.get_write_buffer_size() == 0
        transport.set_write_buffer_limits()
        assert transport.get_write_buffer_limits() == (size - size // 4, size - 1)
        with pytest.raises(ValueError, match="at least low"):
            transport.set_write_buffer_limits(high=1, low=2)


async def test_new_water_marks_wake_who_drains() -> None:
    kept = Streams()
    async with pair(stream_handler=kept, server={"max_data": 10_000, "max_stream_data": 10_000}) as ends:
        _, writer, _, _ = await open_both(ends, kept)
        ends.server._adapters[0].pause_reading()
        writer.transport.set_write_buffer_limits(high=10)
        writer.write(bytes(400_000))
        draining = asyncio.create_task(writer.drain())
        await asyncio.sleep(0.02)
        assert not draining.done()
        writer.transport.set_write_buffer_limits(high=1_000_000, low=1_000_000)
        async with asyncio.timeout(PATIENCE):
            await draining


async def test_drain_without_need_returns_at_once() -> None:
    async with pair(stream_handler=echo) as ends:
        _, writer = await ends.client.create_stream()
        await writer.drain()
        writer.write(b"x")
        async with asyncio.timeout(PATIENCE):
            await writer.drain()


async def test_credit_of_a_slow_reader() -> None:
    """All comes through a reader that pauses, several windows of it."""
    kept = Streams()
    async with pair(stream_handler=kept, server={"max_data": 200_000, "max_stream_data": 100_000}) as ends:
        _, writer, peer_reader, _ = await open_both(ends, kept)
        data = bytes(3_000_000)
        writer.write(data)
        writer.write_eof()
        total = 0
        while piece := await peer_reader.read(30_000):
            total += len(piece)
            if total % 7 == 0:
                await asyncio.sleep(0.001)
        assert total == len(data)


# --- ends -------------------------------------------------------------------------------------------------------------


async def test_a_reset_reaches_the_reader() -> None:
    """A wait that never ends in aioquic."""
    kept = Streams()
    async with pair(stream_handler=kept) as ends:
        _, writer, peer_reader, _ = await open_both(ends, kept)
        reading = asyncio.create_task(peer_reader.read())
        await asyncio.sleep(0)
        ends.client._quic.reset_stream(0, 42)
        ends.client.transmit()
        with pytest.raises(StreamReset) as caught:
            await reading
        assert isinstance(caught.value, ConnectionResetError)
        assert isinstance(caught.value, errors.StreamReset)
        assert caught.value.code == 42
        with pytest.raises(StreamReset):
            await peer_reader.read()


async def test_a_stop_reaches_the_writer() -> None:
    kept = Streams()
    async with pair(stream_handler=kept) as ends:
        reader, writer, _, peer_writer = await open_both(ends, kept)
        ends.server._quic.stop_stream(0, 43)
        ends.server.transmit()
        await until(writer.is_closing)
        with pytest.raises(StreamStopped) as caught:
            await writer.drain()
        assert isinstance(caught.value, BrokenPipeError)
        assert caught.value.code == 43
        with pytest.raises(StreamStopped):
            await writer.wait_closed()
        with pytest.raises((RuntimeError, ValueError)):
            writer.write(b"more")
        writer.close()
        peer_writer.write(b"the other direction works")
        peer_writer.write_eof()
        assert await reader.read() == b"the other direction works"


async def test_a_stop_wakes_who_drains() -> None:
    kept = Streams()
    async with pair(stream_handler=kept) as ends:
        _, writer, *_ = await open_both(ends, kept)
        writer.write(bytes(5 * MEBIBYTE))
        draining = asyncio.create_task(writer.drain())
        await asyncio.sleep(0.05)
        assert not draining.done()
        ends.server._quic.stop_stream(0, 1)
        ends.server.transmit()
        with pytest.raises(StreamStopped):
            await draining


async def test_a_lost_connection_is_never_an_end_of_stream() -> None:
    kept = Streams()
    async with pair(stream_handler=kept) as ends:
        reader, writer, peer_reader, peer_writer = await open_both(ends, kept)
        writer.write(bytes(5 * MEBIBYTE))
        waiting = [
            asyncio.create_task(wait)
            for wait in (reader.read(), writer.drain(), writer.wait_closed(), peer_reader.readexactly(10 * MEBIBYTE))
        ]
        await asyncio.sleep(0)  # all of them wait; 5 MiB take longer than that
        ends.server.close(9)
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(result, errors.ConnectionLost) for result in results), results
        assert len({id(result) for result in results}) == 4
        assert all(result.code == 9 for result in results)  # type: ignore[union-attr]
        assert writer.is_closing()
        writer.close()
        peer_writer.close()


async def test_what_was_complete_stays_readable_after_the_end() -> None:
    """Also what the reader had no room for yet."""
    kept = Streams()
    async with pair(stream_handler=kept) as ends:
        _, writer, peer_reader, _ = await open_both(ends, kept)
        data = bytes(500_000)
        writer.write(data)
        writer.write_eof()
        await writer.wait_closed()
        ends.client.close()
        await ends.client.wait_closed()
        await until(lambda: ends.server._is_lost)
        assert await peer_reader.read() == data


async def test_wait_closed_waits_for_the_acknowledgement() -> None:
    """It never returns in aioquic."""
    kept = Streams()
    async with pair(stream_handler=kept) as ends:
        _, writer, peer_reader, _ = await open_both(ends, kept)
        closed = asyncio.create_task(writer.wait_closed())
        writer.write(bytes(MEBIBYTE // 2))
        await asyncio.sleep(0.05)
        assert not closed.done()
        writer.close()
        assert writer.is_closing()
        async with asyncio.timeout(PATIENCE):
            await closed
        assert writer.transport.get_write_buffer_size() == 0
        assert len(await peer_reader.read()) == MEBIBYTE // 2


async def test_the_end_is_sent_once() -> None:
    async with pair(stream_handler=echo) as ends:
        reader, writer = await ends.client.create_stream()
        writer.write(b"x")
        writer.write_eof()
        writer.write_eof()
        writer.close()
        writer.close()
        assert writer.can_write_eof()  # it says of what kind the stream is
        assert writer.is_closing()
        with pytest.raises((RuntimeError, ValueError)):
            writer.write(b"y")
        assert await reader.read() == b"x"
        await writer.wait_closed()
        await writer.drain()


async def test_abort_ends_both_directions() -> None:
    kept = Streams()
    async with pair(stream_handler=kept) as ends:
        reader, writer, peer_reader, peer_writer = await open_both(ends, kept)
        code = ends.client._quic.configuration.codes.cancelled
        writer.transport.abort()
        for wait in (reader.read(), writer.drain(), writer.wait_closed()):
            with pytest.raises(ConnectionAbortedError):
                await wait
        with pytest.raises(StreamReset) as reset:
            await peer_reader.read()
        await until(peer_writer.is_closing)
        with pytest.raises(StreamStopped) as stopped:
            await peer_writer.drain()
        assert reset.value.code == stopped.value.code == code
        await until(lambda: not ends.client._adapters)


async def test_a_dropped_writer_ends_its_stream() -> None:
    kept = Streams()
    async with pair(stream_handler=kept) as ends:
        reader, writer, peer_reader, _ = await open_both(ends, kept)
        del writer
        gc.collect()
        assert await peer_reader.read() == b""


async def test_a_dropped_writer_of_a_finished_stream_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """In aioquic an ignored ValueError is printed."""
    async with pair(stream_handler=echo) as ends:
        reader, writer = await ends.client.create_stream()
        ends.client._quic.send_stream_data(0, b"x", end_stream=True)
        ends.client.transmit()
        assert await reader.read() == b"x"
        await until(lambda: not ends.client._quic.is_stream_known(0))
        del writer
        gc.collect()
    assert capsys.readouterr().err == ""


# --- facts ------------------------------------------------------------------------------------------------------------


async def test_get_extra_info() -> None:
    async with pair() as ends:
        _, writer = await ends.client.create_stream()
        sockname = ends.listener._transport.get_extra_info("sockname")  # type: ignore[union-attr]
        assert writer.get_extra_info("stream_id") == 0
        assert writer.get_extra_info("peername") == sockname[:2]
        assert writer.get_extra_info("sockname")[1] != sockname[1]
        assert writer.get_extra_info("socket").fileno() >= 0
        assert writer.get_extra_info("peercert") == ends.server._quic.configuration.certificate
        assert writer.get_extra_info("unknown") is None
        assert writer.get_extra_info("unknown", 5) == 5
        _, server_writer = await ends.server.create_stream()
        assert server_writer.get_extra_info("peercert", "none") == "none"
        assert server_writer.get_extra_info("peername")[0] == HOST


async def test_the_transport_below_a_stream() -> None:
    async with pair(stream_handler=echo) as ends:
        reader, writer = await ends.client.create_stream()
        adapter = writer.transport
        assert isinstance(adapter, QuicStreamAdapter)
        assert adapter.protocol is ends.client
        assert adapter.get_protocol() is ends.client
        assert adapter.protocol._quic is ends.client._quic
        assert adapter.is_reading()
        adapter.pause_reading()
        assert not adapter.is_reading()
        writer.write(b"hello")
        await ends.client.ping()
        await asyncio.sleep(0.02)
        assert adapter._size == 5
        adapter.resume_reading()
        adapter.resume_reading()
        assert await reader.read(5) == b"hello"


# --- handlers that are coroutine functions ----------------------------------------------------------------------------


async def test_a_handlers_stream_ends_with_it() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(2))

    async with pair(stream_handler=handler) as ends:
        reader, writer = await ends.client.create_stream()
        writer.write(b"ab")
        assert await reader.read() == b"ab"


async def test_a_failing_handler_aborts_its_stream(loop_errors: list[dict[str, Any]]) -> None:
    """What it has written is no whole answer, so its end is no FIN."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"a part")
        raise ZeroDivisionError("mine")

    def failing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise ZeroDivisionError("mine")

    for stream_handler in (handler, failing):
        async with pair(stream_handler=stream_handler) as ends:
            reader, writer = await ends.client.create_stream()
            writer.write(b"?")
            with pytest.raises(StreamReset):
                await reader.read()
            await ends.client.ping()  # the connection goes on
    assert [type(error["exception"]) for error in loop_errors] == [ZeroDivisionError] * 2
    loop_errors.clear()


async def test_handlers_end_with_their_connection() -> None:
    """Those that wait for the stream by its error, the others by being cancelled."""
    ends_of: list[BaseException] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if await reader.readexactly(1) == b"r":
                await reader.read()
            else:
                await asyncio.Event().wait()
        except BaseException as error:
            ends_of.append(error)
            raise

    async with pair(stream_handler=handler) as ends:
        streams = [await ends.client.create_stream() for _ in range(2)]
        for kind, (_, writer) in zip((b"r", b"w"), streams, strict=True):
            writer.write(kind)
        await until(lambda: len(ends.server._tasks) == 2)
        await ends.client.ping()
        ends.client.close()
        await ends.server.wait_closed()
        assert not ends.server._tasks
    assert [type(error) for error in ends_of] == [errors.ClosedByPeer, asyncio.CancelledError]


async def test_a_handler_may_wait_for_the_end_itself() -> None:
    done = asyncio.Event()

    class Server(QuicConnectionProtocol):
        pass

    made: list[Any] = []

    def create(*arguments: Any, **keywords: Any) -> Server:
        made.append(Server(*arguments, **keywords))
        return made[-1]  # type: ignore[no-any-return]

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made[0].close()
        try:
            await made[0].wait_closed()
        finally:
            done.set()

    async with pair(stream_handler=handler, server_protocol=create) as ends:
        _, writer = await ends.client.create_stream()
        writer.write(b"?")
        async with asyncio.timeout(PATIENCE):
            await done.wait()


async def test_a_handler_that_will_not_end_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, loop_errors: list[dict[str, Any]]
) -> None:
    """The wait for handlers is bounded, on both sides; who did not end is reported."""
    monkeypatch.setattr(quicio.asyncio.protocol, "HANDLER_PATIENCE", 0.1)
    release = asyncio.Event()
    ended: list[str] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            await release.wait()
            ended.append("late")
            raise

    async with serving(stream_handler=handler) as server:
        async with connected(server) as protocol:
            _, writer = await protocol.create_stream()
            writer.write(b"x")
            await until(lambda: any(each._tasks for each in server._protocols.values()))
            (task,) = next(iter(server._protocols.values()))._tasks
        await until(lambda: not server._protocols)
        assert server._ending
    assert [type(context["exception"]) for context in loop_errors] == [TimeoutError]
    assert "did not end when it was cancelled" in loop_errors[0]["message"]
    loop_errors.clear()
    assert not task.done()
    release.set()
    with suppress(asyncio.CancelledError):
        await task
    assert ended == ["late"]


async def test_a_server_waits_for_handlers_of_connections_that_are_over() -> None:
    """A handler may take its time to clean up, a connection that has terminated is still somebody's."""
    ended: list[str] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(0.1)
            ended.append("cleaned up")

    async with serving(stream_handler=handler) as server:
        async with connected(server) as protocol:
            _, writer = await protocol.create_stream()
            writer.write(b"x")
            await until(lambda: any(each._tasks for each in server._protocols.values()))
        await until(lambda: not server._protocols)
        assert not ended
    assert ended == ["cleaned up"]
