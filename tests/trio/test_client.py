"""`open_quic_connection` and `connect_quic`. Only trio's errors are caught; a failed connect is an `OSError`."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from typing import Any

import pytest
import trio

from helpers.loopback import HOST, client_configuration, identity
from helpers.trio_loopback import read_all, serving
from quicio.errors import CloseReason
from quicio.trio import (
    CertificateError,
    Connection,
    HandshakeTimeout,
    ReceiveStream,
    Stream,
    connect_quic,
    open_quic_connection,
)

pytestmark = pytest.mark.anyio


class Server:
    """A server that notes how its connections end, and greets on a stream of each kind if asked."""

    def __init__(self, greeting: bytes = b"", close_with: int | None = None) -> None:
        self.reasons: list[CloseReason] = []
        self.greeting = greeting
        self.close_with = close_with

    async def handle(self, connection: Connection) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            await self.greet(connection)
        if self.close_with is not None:
            await connection.ping()
            connection.close(self.close_with)
        self.reasons.append(await connection.wait_closed())

    async def told(self, count: int = 1) -> None:
        """Until `count` connections have ended here, which on a quiet machine is at once."""
        with trio.fail_after(5):
            while len(self.reasons) < count:
                await trio.sleep(0.005)

    async def greet(self, connection: Connection) -> None:
        if self.greeting:
            async with await connection.open_stream() as both, await connection.open_send_stream() as one:
                for stream in (both, one):
                    await stream.send_all(self.greeting)
                    await stream.send_eof()
                    await stream.wait_delivered()


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


# --- the scope -------------------------------------------------------------------------------------------------------


async def test_left_normally_streams_are_finished_and_the_peer_sees_no_error() -> None:
    server = Server()
    async with serving(server.handle) as listener:
        async with open_quic_connection(*listener.local_address, configuration=client_configuration()) as connection:
            assert isinstance(connection, Connection)
            stream = await connection.open_stream()
            await stream.send_all(b"finished by leaving")
        await server.told()
        await stream.aclose()
    assert [reason.code for reason in server.reasons] == [0]


async def test_it_is_not_awaitable_and_says_what_to_write() -> None:
    scope: Any = open_quic_connection(HOST, 1, alpn=["x"])
    with pytest.raises(TypeError, match="async with open_quic_connection"):
        await scope


async def test_arguments_are_those_of_connect() -> None:
    with pytest.raises(ValueError, match="alpn"):
        open_quic_connection(HOST, 1)
    with pytest.raises(TypeError, match="timeout"):
        open_quic_connection(HOST, 1, alpn=["x"], timeout=3)


async def test_the_bodys_exception_leaves_as_the_same_object() -> None:
    server = Server()
    error = ValueError("mine")
    async with serving(server.handle) as listener:
        with pytest.raises(ValueError, match="mine") as caught:
            async with open_quic_connection(*listener.local_address, configuration=client_configuration()):
                raise error
        await server.told()
    assert caught.value is error
    assert [reason.code for reason in server.reasons] == [1]


async def test_left_by_cancellation_the_peer_sees_cancelled_at_once() -> None:
    server = Server()
    async with serving(server.handle) as listener:
        with trio.CancelScope() as scope:
            configuration = client_configuration(linger=60.0)
            async with open_quic_connection(*listener.local_address, configuration=configuration) as connection:
                async with await connection.open_stream() as stream:
                    scope.deadline = trio.current_time() + 0.1
                    await stream.send_all(bytes(8_000_000))
        assert scope.cancelled_caught
        await server.told()
    assert [reason.code for reason in server.reasons] == [2]


async def test_nobody_there_is_an_oserror() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((HOST, 0))
        configuration = client_configuration(handshake_timeout=0.1)
        with pytest.raises(OSError, match=r"timed out.*no answer came") as caught:
            async with open_quic_connection(*silent.getsockname(), configuration=configuration):
                pytest.fail("nobody is there")
    assert isinstance(caught.value, HandshakeTimeout)
    assert caught.value.errno is None


async def test_stream_handler_serves_the_peers_streams_of_both_kinds() -> None:
    server = Server(b"welcome")
    got: list[tuple[type, bytes]] = []

    async def handle(stream: Stream | ReceiveStream) -> None:
        assert isinstance(stream, ReceiveStream)
        got.append((type(stream), await read_all(stream)))

    async with serving(server.handle) as listener:
        configuration = client_configuration()
        async with open_quic_connection(
            *listener.local_address, configuration=configuration, stream_handler=handle
        ) as connection:
            with trio.fail_after(5):
                while len(got) < 2:
                    await trio.sleep(0.01)
                await connection.ping()
    assert sorted(got, key=repr) == [(ReceiveStream, b"welcome"), (Stream, b"welcome")]


# --- into a nursery --------------------------------------------------------------------------------------------------


async def test_a_connection_lives_in_a_nursery_until_it_is_closed() -> None:
    server = Server()
    async with serving(server.handle) as listener:
        async with trio.open_nursery() as nursery:
            connection = await connect_quic(nursery, *listener.local_address, configuration=client_configuration())
            await trio.sleep(0.02)
            assert nursery.child_tasks
            async with await connection.open_stream() as stream:
                await stream.send_all(b"hello")
            await connection.aclose()
            with pytest.raises(trio.ClosedResourceError):
                await connection.open_stream()
        await server.told()
    assert [reason.code for reason in server.reasons] == [0]


async def test_a_connection_in_a_nursery_is_left_like_any_resource() -> None:
    server = Server()
    async with serving(server.handle) as listener:
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                configuration = client_configuration()
                async with await connect_quic(nursery, *listener.local_address, configuration=configuration):
                    pass
                error = ValueError("mine")
                with pytest.raises(ValueError, match="mine") as caught:
                    async with await connect_quic(nursery, *listener.local_address, configuration=configuration):
                        raise error
                assert caught.value is error
        await server.told(2)
    assert [reason.code for reason in server.reasons] == [0, 1]


async def test_cancelling_the_nursery_closes_at_once_with_cancelled() -> None:
    server = Server()
    async with serving(server.handle) as listener:
        async with trio.open_nursery() as nursery:
            configuration = client_configuration(linger=60.0)
            connection = await connect_quic(nursery, *listener.local_address, configuration=configuration)
            stream = await connection.open_stream()
            stream.send_nowait(bytes(100_000))
            nursery.cancel_scope.cancel()
        with pytest.raises(trio.ClosedResourceError):
            await stream.send_all(b"x")
        await server.told()
        await stream.aclose()
    assert [reason.code for reason in server.reasons] == [2]


async def test_a_lost_connection_does_not_cancel_the_nursery_and_what_came_stays_readable() -> None:
    server = Server(b"before the loss", close_with=7)
    async with serving(server.handle) as listener:
        async with trio.open_nursery() as nursery:
            connection = await connect_quic(nursery, *listener.local_address, configuration=client_configuration())
            lost = await connection.open_stream()
            lost.send_nowait(bytes(100))
            assert (await connection.wait_closed()).code == 7
            await trio.sleep(0.1)  # the host has ended
            assert not nursery.child_tasks
            async with await connection.incoming_streams.receive() as stream:
                assert await read_all(stream) == b"before the loss"
            with pytest.raises(trio.BrokenResourceError):
                await lost.receive_some()
            await lost.aclose()


async def test_handlers_of_streams_may_read_on_when_the_peer_has_closed() -> None:
    server = Server(b"before the loss", close_with=0)
    got: list[bytes] = []

    async def handle(stream: Stream | ReceiveStream) -> None:
        await trio.sleep(0.3)  # the connection is over by then
        assert isinstance(stream, ReceiveStream)
        got.append(await read_all(stream))

    async with serving(server.handle) as listener:
        async with trio.open_nursery() as nursery:
            configuration = client_configuration()
            await connect_quic(nursery, *listener.local_address, configuration=configuration, stream_handler=handle)
    assert got == [b"before the loss"] * 2


async def test_handlers_of_streams_are_cancelled_when_the_connection_is_closed_here() -> None:
    server = Server(b"for ever")
    states: list[str] = []

    async def handle(stream: Stream | ReceiveStream) -> None:
        states.append("started")
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            states.append("cancelled")
            raise

    async with serving(server.handle) as listener:
        async with trio.open_nursery() as nursery:
            configuration = client_configuration()
            connection = await connect_quic(
                nursery, *listener.local_address, configuration=configuration, stream_handler=handle
            )
            with trio.fail_after(5):
                while len(states) < 2:
                    await trio.sleep(0.01)
            await connection.aclose()
    assert states == ["started", "started", "cancelled", "cancelled"]


async def test_only_what_on_error_raises_crashes_the_nursery() -> None:
    server = Server(b"go")
    async with serving(server.handle) as listener:

        async def handle(stream: Stream | ReceiveStream) -> None:
            raise LookupError("a bug")

        def crash(error: Exception, stream: object) -> None:
            raise error

        with pytest.raises(ExceptionGroup) as caught:
            async with trio.open_nursery() as nursery:
                await connect_quic(
                    nursery,
                    *listener.local_address,
                    configuration=client_configuration(),
                    stream_handler=handle,
                    on_error=crash,
                )
                await trio.sleep(5)
        assert [type(error) for error in caught.value.exceptions] == [LookupError]
        await server.told()
    assert [reason.code for reason in server.reasons] == [1]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors in /proc")
async def test_a_failed_connect_leaves_the_nursery_as_it_was(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "quicio")
    server = Server()
    async with serving(server.handle) as listener, trio.open_nursery() as nursery:
        before = descriptors()
        stranger = client_configuration(cadata=identity(("other.test",))[0].chain_pem)
        with pytest.raises(OSError, match=r".") as caught:
            await connect_quic(nursery, *listener.local_address, configuration=stranger)
        assert isinstance(caught.value, CertificateError)
        with pytest.raises(ValueError, match="alpn"):
            await connect_quic(nursery, *listener.local_address)
        for milliseconds in range(0, 30, 2):
            with trio.move_on_after(milliseconds / 1000):
                connection = await connect_quic(nursery, *listener.local_address, configuration=client_configuration())
                connection.close(0)
        with trio.fail_after(3):
            while nursery.child_tasks:
                await trio.sleep(0.01)
        assert descriptors() == before
