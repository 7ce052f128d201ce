"""Faults of the system, and what they do not end: a listener lives on, a driver that fails tells all who wait."""

from __future__ import annotations

import errno
import resource
import socket
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from helpers.loopback import HOST, client_configuration, read_all, server_configuration, serving
from quicio.anyio import Connection, Listener, Stream, connect, listen
from quicio.errors import ConnectError, ConnectionLost
from quicio.udp.socket import UdpSocket

pytestmark = pytest.mark.anyio


async def echo(stream: Stream) -> None:
    await stream.send(await read_all(stream))


async def handle(connection: Connection) -> None:
    await connection.incoming_streams.serve(echo)


async def ask(connection: Connection, text: bytes = b"hello") -> None:
    async with await connection.open_stream() as stream:
        await stream.send(text)
        await stream.send_eof()
        with anyio.fail_after(10):
            assert await read_all(stream) == text


def to(listener: Listener, **changes: Any) -> Any:
    return connect(*listener.local_address, configuration=client_configuration(**changes))


class Flaky:
    """A socket that fails now and then, as the system would."""

    def __init__(self, sock: socket.socket, code: int) -> None:
        self._sock = sock
        self.code = code
        self.failures = 0
        self.left = 0

    def _fail(self) -> None:
        if self.left > 0:
            self.left -= 1
            self.failures += 1
            raise OSError(self.code, "made up")

    def sendmsg(self, *arguments: Any) -> int:
        self._fail()
        return self._sock.sendmsg(*arguments)

    def recvmsg(self, *arguments: Any) -> Any:
        self._fail()
        return self._sock.recvmsg(*arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


@pytest.mark.parametrize(
    "code", [errno.ENOBUFS, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ECONNREFUSED, errno.EPERM, errno.ENOMEM]
)
async def test_errors_of_the_socket_do_not_end_a_listener(code: int) -> None:
    async with serving(handle) as listener:
        udp: Any = listener._drivers[0].engine._sock
        flaky = udp._sock = Flaky(udp._sock, code)
        async with to(listener) as connection:
            await ask(connection)
            flaky.left = 3
            await ask(connection)
            assert flaky.failures > 0
        flaky.left = 2
        async with to(listener) as connection:
            await ask(connection)


async def test_a_client_that_is_gone_does_not_end_a_listener() -> None:
    """ICMP tells the server's socket that nobody is there any more."""
    async with serving(handle) as listener:
        with anyio.CancelScope() as scope:
            async with to(listener) as connection:
                stream = await connection.open_stream()
                await stream.send(bytes(200_000))
                connection.driver.stop()  # as a process that is killed: nothing is said
                scope.cancel()
                await anyio.lowlevel.checkpoint()
        for _ in range(2):
            async with to(listener) as connection:
                await ask(connection)


async def test_a_connected_socket_goes_on_after_an_error() -> None:
    """uvloop takes an error on a descriptor for its end and watches it no more: the driver begins anew."""
    async with serving(handle) as listener, to(listener) as connection:
        await ask(connection)
        await anyio.sleep(0.05)
        server = listener._drivers[0]
        link = connection._link
        port = listener.local_address[1]
        server.swap(UdpSocket.bind(HOST)).close()  # nobody listens on the port: ICMP answers the client
        connection._link.quic.send_ping(99)
        link.flush()
        await anyio.sleep(0.05)
        assert link.driver.engine.last_error is not None
        server.swap(UdpSocket.bind(HOST, port)).close()  # and now somebody does again
        await ask(connection)


async def test_without_descriptors_connecting_fails_and_the_listener_goes_on() -> None:
    async with serving(handle) as listener:
        taken: list[socket.socket] = []
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        async with to(listener) as connection:
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
                with pytest.raises(OSError):  # until there are no more
                    while True:
                        taken.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                with pytest.raises((ConnectError, OSError)):
                    async with to(listener):
                        pytest.fail("there is no descriptor for a socket")
                await ask(connection)  # what is open lives
            finally:
                for sock in taken:
                    sock.close()
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        async with to(listener) as connection:
            await ask(connection)


class Broken(Exception):
    """What a bug would raise."""


def break_driver(listener: Listener) -> None:
    listener._drivers[0].fail(Broken("a bug"))


@pytest.mark.parametrize(
    "wait", [Listener.accept, lambda listener: listener.serve(handle), lambda listener: anext(aiter(listener))]
)
async def test_who_waits_for_connections_learns_that_the_driver_failed(wait: Callable[[Listener], Any]) -> None:
    async with listen(HOST, 0, configuration=server_configuration()) as listener:
        async with anyio.create_task_group() as group:

            async def waits() -> None:
                with anyio.fail_after(5), pytest.raises(anyio.BrokenResourceError, match="a bug") as caught:
                    await wait(listener)
                assert isinstance(caught.value.__cause__, Broken)

            group.start_soon(waits)
            await anyio.wait_all_tasks_blocked()
            break_driver(listener)
        with pytest.raises(anyio.BrokenResourceError):
            await listener.accept()


async def test_connections_and_handlers_of_a_failed_driver_end_as_well() -> None:
    lost: list[Exception] = []

    async def note(connection: Connection) -> None:
        try:
            await connection.incoming_streams.receive()
        except ConnectionLost as error:
            lost.append(error)
            raise

    async with listen(HOST, 0, configuration=server_configuration()) as listener:
        with pytest.raises(anyio.BrokenResourceError):
            async with Serving(listener, note), to(listener, idle_timeout=1.0) as connection:
                await connection.ping()
                break_driver(listener)
                await connection.wait_closed()
    assert len(lost) == 1
    assert isinstance(lost[0].__cause__, Broken)


class Serving:
    """A listener that serves while the body runs; its error leaves from here."""

    def __init__(self, listener: Listener, handler: Any) -> None:
        self._listener = listener
        self._handler = handler
        self._error: Exception | None = None

    async def _serve(self) -> None:
        try:
            await self._listener.serve(self._handler)
        except Exception as error:
            self._error = error

    async def __aenter__(self) -> None:
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        self._group.start_soon(self._serve)

    async def __aexit__(self, *details: object) -> None:
        await self._group.__aexit__(None, None, None)
        if self._error is not None:
            raise self._error


async def test_a_handler_that_fails_ends_its_own_object_only() -> None:
    errors: list[Exception] = []

    async def fails(stream: Stream) -> None:
        text = await read_all(stream)
        if text == b"fail":
            raise Broken("the application's")
        await stream.send(text)

    async def serves(connection: Connection) -> None:
        await connection.incoming_streams.serve(fails, on_error=lambda error, subject: errors.append(error))

    async with serving(serves) as listener, to(listener) as connection:
        stream = await connection.open_stream()
        await stream.send(b"fail")
        await stream.send_eof()
        with pytest.raises(anyio.BrokenResourceError, match="reset stream 0 with error code 1"):
            await stream.receive()
        await stream.aclose()
        await ask(connection)
    assert [str(error) for error in errors] == ["the application's"]
