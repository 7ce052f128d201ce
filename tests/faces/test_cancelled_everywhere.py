"""Every public coroutine of the native faces, cancelled at every one of its checkpoints: see `helpers.cancelling`.

The cases are named after what they call, and a test asks that no public coroutine is without one. They run over real sockets,
each run on a connection of its own, on asyncio and uvloop (by a scope, by `Task.cancel()`, by `asyncio.timeout()`) and on trio.
trio's own face has other names for some methods, and the same cases.
"""

from __future__ import annotations

import inspect
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import pytest
import trio

import quicio
import quicio.trio
from helpers import loopback, trio_loopback
from helpers.cancelling import Case, cancel_everywhere
from helpers.loopback import HOST, client_configuration, server_configuration

pytestmark = pytest.mark.anyio

SMALL: dict[str, Any] = {"max_stream_data": 65536, "max_data": 8 << 20, "send_buffer": 65536, "linger": 0.2}

Scope = Callable[["Native"], Any]
CASES: dict[str, Scope] = {}


class Native:
    """A native face: where its names are."""

    def __init__(self, name: str, module: Any, helpers: Any, renamed: dict[str, str]) -> None:
        self.name = name
        self.module = module
        self.helpers = helpers
        self.renamed = renamed
        self.is_trio = module is quicio.trio

    def __repr__(self) -> str:
        return self.name

    def bound(self, object_: Any, name: str, *arguments: Any) -> Callable[[], Awaitable[Any]]:
        """A method by its name on the anyio face."""
        return partial(getattr(object_, self.renamed.get(name, name)), *arguments)

    @asynccontextmanager
    async def pair(self, **changes: Any) -> AsyncIterator[Any]:
        """A client's and a server's connection, with little room."""
        async with self.helpers.pair(client=SMALL | changes, server=SMALL | changes) as ends:
            yield ends

    @asynccontextmanager
    async def streams(self, **changes: Any) -> AsyncIterator[Streams]:
        """A stream as both ends have it."""
        async with self.pair(**changes) as ends:
            mine = await ends.client.open_stream()
            mine.announce()
            async with mine, await ends.server.incoming_streams.receive() as theirs:
                yield Streams(self, ends, mine, theirs)


class Streams:
    """A stream as both ends have it, on a connection."""

    def __init__(self, face: Native, ends: Any, mine: Any, theirs: Any) -> None:
        self.face = face
        self.ends = ends
        self.mine = mine
        self.theirs = theirs

    async def receive(self, stream: Any) -> bytes:
        """The next bytes of a stream; `b""` at its end."""
        try:
            data: bytes = await self.face.bound(stream, "receive")()
        except anyio.EndOfStream:
            return b""
        return data

    async def is_usable(self) -> None:
        """Other streams of the connection still work."""
        await is_usable(self.face, self.ends)

    def fill(self) -> None:
        """Send until nothing more is taken."""
        fill(self.mine)


def fill(stream: Any) -> None:
    """Send until the send buffer is full."""
    while True:
        try:
            stream.send_nowait(bytes(16384))
        except (anyio.WouldBlock, trio.WouldBlock):
            return


async def is_usable(face: Native, ends: Any) -> None:
    """Data goes through a connection in both directions."""
    await ends.client.ping()
    await ends.server.ping()
    for one, other in ((ends.client, ends.server), (ends.server, ends.client)):
        async with await one.open_send_stream() as sending:
            await face.bound(sending, "send", b"hello")()
            receiving = await other.incoming_receive_streams.receive()
            while receiving.id != sending.id:  # left there by the operation
                await receiving.aclose()
                receiving = await other.incoming_receive_streams.receive()
            async with receiving:
                assert await face.bound(receiving, "receive")() == b"hello"


async def is_closed(*connections: Any) -> None:
    """Connections have ended."""
    for connection in connections:
        assert connection.close_reason is not None


def case(*names: str) -> Callable[[Scope], Scope]:
    """Registers cases of the public coroutines `names`, written `Class.method` or `function`, in the anyio face's words."""

    def register(prepare: Scope) -> Scope:
        CASES[f"{prepare.__name__}"] = asynccontextmanager(prepare)
        COVERED.update(names)
        return prepare

    return register


COVERED: set[str] = set()


# --- connections ---------------------------------------------------------------------------------------------------------


@case("Connection.open_stream")
async def open_stream(face: Native) -> AsyncIterator[Case]:
    async with face.pair() as ends:
        yield Case(partial(_open_and_close, ends.client.open_stream), check=partial(_opens_first, face, ends))


@case("Connection.open_send_stream")
async def open_send_stream(face: Native) -> AsyncIterator[Case]:
    async with face.pair() as ends:
        yield Case(partial(_open_and_close, ends.client.open_send_stream), check=partial(is_usable, face, ends))


async def _open_and_close(opening: Callable[[], Awaitable[Any]]) -> None:
    stream = await opening()
    stream.reset(0)
    if hasattr(stream, "stop"):
        stream.stop(0)


async def _opens_first(face: Native, ends: Any) -> None:
    async with await ends.client.open_stream() as stream:
        assert stream.id == 0  # the cancelled call used no stream up
    await is_usable(face, ends)


@case("Connection.open_stream")
async def open_stream_at_the_limit(face: Native) -> AsyncIterator[Case]:
    async with face.pair(max_streams_bidi=1) as ends:
        first = ends.client.open_stream_nowait()

        async def finish() -> None:
            first.announce()
            await first.aclose()
            await (await ends.server.incoming_streams.receive()).aclose()

        async def check() -> None:
            await finish()
            async with await ends.client.open_stream() as second:
                assert second.id == 4  # the cancelled call does not wait in the queue any more

        async def trigger() -> None:
            try:
                await finish()
            except (anyio.ClosedResourceError, trio.ClosedResourceError):
                return

        async with first:
            yield Case(partial(_open_and_close, ends.client.open_stream), trigger, check)


@case("Connection.open_stream", "Connection.open_send_stream")
async def open_stream_on_a_closed_connection(face: Native) -> AsyncIterator[Case]:
    async with face.pair() as ends:
        ends.client.close(0)
        yield Case(ends.client.open_stream, fails=(anyio.ClosedResourceError, trio.ClosedResourceError))


@case("Connection.ping")
async def ping(face: Native) -> AsyncIterator[Case]:
    async with face.pair() as ends:
        yield Case(ends.client.ping, check=partial(is_usable, face, ends))


@case("Connection.ping")
async def ping_to_one_that_closes(face: Native) -> AsyncIterator[Case]:
    async with face.pair() as ends:
        ends.server.close(5)
        yield Case(ends.client.ping, fails=quicio.ConnectionLost)


@case("Connection.wait_handshake")
async def wait_handshake(face: Native) -> AsyncIterator[Case]:
    async with face.pair() as ends:
        yield Case(ends.client.wait_handshake, check=partial(is_usable, face, ends))


@case("Connection.wait_closed")
async def wait_closed(face: Native) -> AsyncIterator[Case]:
    async with face.pair() as ends:
        yield Case(ends.client.wait_closed, lambda: ends.server.close(3))


@case("Connection.wait_closed")
async def wait_closed_afterwards(face: Native) -> AsyncIterator[Case]:
    async with face.pair() as ends:
        ends.client.close(0)
        yield Case(ends.client.wait_closed)


@case("Connection.migrate")
async def migrate(face: Native) -> AsyncIterator[Case]:
    async with face.pair() as ends:
        yield Case(partial(ends.client.migrate, local_host=HOST), check=partial(is_usable, face, ends), is_scope=True)


@case("Connection.wait_path_changed")
async def wait_path_changed(face: Native) -> AsyncIterator[Case]:
    async with face.pair() as ends:
        move = partial(ends.client.migrate, local_host=HOST)
        yield Case(ends.server.wait_path_changed, move, partial(ends.client.ping))


@case("Connection.aclose")
async def aclose_of_a_connection(face: Native) -> AsyncIterator[Case]:
    async with face.pair() as ends:
        async with await ends.client.open_stream() as stream:
            await face.bound(stream, "send", b"hello")()
            yield Case(ends.client.aclose, check=partial(is_closed, ends.client), is_scope=True)


@case("Connection.aclose")
async def aclose_twice(face: Native) -> AsyncIterator[Case]:
    async with face.pair() as ends:
        await ends.client.aclose()
        yield Case(ends.client.aclose, check=partial(is_closed, ends.client))


# --- streams -----------------------------------------------------------------------------------------------------------


@case("Stream.send", "SendStream.send")
async def send(face: Native) -> AsyncIterator[Case]:
    async with face.streams() as streams:
        yield Case(face.bound(streams.mine, "send", b"hello"), check=streams.is_usable)


@case("Stream.send", "SendStream.send")
async def send_without_room(face: Native) -> AsyncIterator[Case]:
    async with face.streams() as streams:
        streams.fill()
        read = partial(streams.receive, streams.theirs)

        async def read_all() -> None:
            while True:
                await read()

        yield Case(face.bound(streams.mine, "send", bytes(200_000)), read_all, streams.is_usable)


@case("Stream.send", "SendStream.send")
async def send_to_one_that_stops(face: Native) -> AsyncIterator[Case]:
    async with face.streams() as streams:
        streams.fill()
        stop = partial(streams.theirs.stop, 9)
        yield Case(face.bound(streams.mine, "send", bytes(200_000)), stop, streams.is_usable, quicio.StreamStopped)


@case("Stream.send", "SendStream.send")
async def send_after_the_end(face: Native) -> AsyncIterator[Case]:
    async with face.streams() as streams:
        await streams.mine.send_eof()
        closed = (anyio.ClosedResourceError, trio.ClosedResourceError)
        yield Case(face.bound(streams.mine, "send", b"more"), check=streams.is_usable, fails=closed)


@case("Stream.send_some", "SendStream.send_some")
async def send_some(face: Native) -> AsyncIterator[Case]:
    async with face.streams() as streams:

        async def check() -> None:
            await face.bound(streams.mine, "send", b"next")()
            assert await streams.receive(streams.theirs) == b"next"  # the cancelled call sent nothing

        yield Case(partial(streams.mine.send_some, b"hello"), check=check)


@case("Stream.send_some", "SendStream.send_some")
async def send_some_without_room(face: Native) -> AsyncIterator[Case]:
    async with face.streams() as streams:
        streams.fill()
        yield Case(
            partial(streams.mine.send_some, b"hello"), partial(streams.receive, streams.theirs), streams.is_usable
        )


@case("Stream.send_eof", "SendStream.send_eof")
async def send_eof(face: Native) -> AsyncIterator[Case]:
    async with face.streams() as streams:

        async def check() -> None:
            await face.bound(streams.mine, "send", b"last")()  # the cancelled call did not end the stream
            await streams.mine.send_eof()
            assert await streams.receive(streams.theirs) == b"last"
            assert await streams.receive(streams.theirs) == b""

        yield Case(streams.mine.send_eof, check=check)


@case("Stream.send_eof", "SendStream.send_eof")
async def send_eof_twice(face: Native) -> AsyncIterator[Case]:
    async with face.streams() as streams:
        await streams.mine.send_eof()
        yield Case(streams.mine.send_eof, check=streams.is_usable)


@case("Stream.wait_delivered", "SendStream.wait_delivered")
async def wait_delivered(face: Native) -> AsyncIterator[Case]:
    async with face.streams() as streams:
        await streams.mine.send_eof()
        yield Case(streams.mine.wait_delivered, check=streams.is_usable)


@case("Stream.wait_delivered", "SendStream.wait_delivered")
async def wait_delivered_until_stopped(face: Native) -> AsyncIterator[Case]:
    async with face.streams() as streams:
        stop = partial(streams.theirs.stop, 9)
        yield Case(streams.mine.wait_delivered, stop, streams.is_usable, quicio.StreamStopped)


@case("Stream.wait_stopped", "SendStream.wait_stopped")
async def wait_stopped(face: Native) -> AsyncIterator[Case]:
    async with face.streams() as streams:
        yield Case(streams.mine.wait_stopped, partial(streams.theirs.stop, 9), streams.is_usable)


@case("Stream.receive", "ReceiveStream.receive", "Stream.__anext__", "ReceiveStream.__anext__")
async def receive(face: Native) -> AsyncIterator[Case]:
    async with face.streams() as streams:
        await face.bound(streams.theirs, "send", b"hello")()
        await streams.ends.server.ping()

        async def check() -> None:
            assert await streams.receive(streams.mine) == b"hello"  # the cancelled call took nothing

        yield Case(face.bound(streams.mine, "receive"), check=check)


@case("Stream.receive", "ReceiveStream.receive")
async def receive_before_it_comes(face: Native) -> AsyncIterator[Case]:
    async with face.streams() as streams:
        sent = False

        async def say_hello() -> None:
            nonlocal sent
            if not sent:
                sent = True
                await face.bound(streams.theirs, "send", b"hello")()

        async def check() -> None:
            await say_hello()
            assert await streams.receive(streams.mine) == b"hello"

        yield Case(face.bound(streams.mine, "receive"), say_hello, check)


@case("Stream.receive", "ReceiveStream.receive")
async def receive_at_the_end(face: Native) -> AsyncIterator[Case]:
    async with face.streams() as streams:
        await streams.theirs.send_eof()
        yield Case(partial(streams.receive, streams.mine), check=streams.is_usable)


@case("Stream.receive", "ReceiveStream.receive")
async def receive_until_reset(face: Native) -> AsyncIterator[Case]:
    async with face.streams() as streams:
        reset = partial(streams.theirs.reset, 4)
        yield Case(face.bound(streams.mine, "receive"), reset, streams.is_usable, quicio.StreamReset)


@case("Stream.receive", "ReceiveStream.receive")
async def receive_until_lost(face: Native) -> AsyncIterator[Case]:
    async with face.streams() as streams:
        lose = partial(streams.ends.server.close, 4)
        yield Case(face.bound(streams.mine, "receive"), lose, fails=quicio.ConnectionLost)


@case("Stream.aclose", "SendStream.aclose", "ReceiveStream.aclose")
async def aclose_of_a_stream(face: Native) -> AsyncIterator[Case]:
    async with face.streams() as streams:

        async def check() -> None:
            with pytest.raises((anyio.ClosedResourceError, trio.ClosedResourceError)):
                await streams.receive(streams.mine)
            await streams.is_usable()

        yield Case(streams.mine.aclose, check=check)


# --- acceptors, datagrams ------------------------------------------------------------------------------------------------


@case("Acceptor.receive", "Acceptor.__anext__")
async def accept_a_stream(face: Native) -> AsyncIterator[Case]:
    async with face.pair() as ends:
        accepted: list[Any] = []

        async def operation() -> None:
            accepted.append(await ends.server.incoming_streams.receive())

        async with await ends.client.open_stream() as mine:
            mine.announce()
            await ends.client.ping()

            async def check() -> None:
                await operation()  # the cancelled call took none away
                assert accepted[0].id == mine.id

            yield Case(operation, check=check)
        for stream in accepted:
            await stream.aclose()


@case("Acceptor.receive")
async def accept_a_stream_that_comes_late(face: Native) -> AsyncIterator[Case]:
    async with face.pair() as ends:
        async with await ends.client.open_stream() as mine:

            async def operation() -> None:
                await (await ends.server.incoming_streams.receive()).aclose()

            yield Case(operation, mine.announce, partial(is_usable, face, ends))


@case("Acceptor.receive")
async def accept_a_stream_until_lost(face: Native) -> AsyncIterator[Case]:
    async with face.pair() as ends:
        yield Case(ends.client.incoming_streams.receive, partial(ends.server.close, 4), fails=quicio.ConnectionLost)


@case("Acceptor.serve")
async def serve_streams(face: Native) -> AsyncIterator[Case]:
    async with face.pair() as ends:

        async def handle(stream: Any) -> None:
            await face.bound(stream, "send", b"hello")()

        async with await ends.client.open_stream() as mine:
            mine.announce()
            end = partial(ends.client.close, 0)
            yield Case(partial(ends.server.incoming_streams.serve, handle), end, is_scope=True)


@case("Acceptor.aclose")
async def aclose_of_an_acceptor(face: Native) -> AsyncIterator[Case]:
    async with face.pair() as ends:
        yield Case(ends.client.incoming_streams.aclose, check=partial(is_usable, face, ends))


@case("Datagrams.send")
async def send_a_datagram(face: Native) -> AsyncIterator[Case]:
    async with face.pair() as ends:

        async def check() -> None:
            await ends.client.datagrams.send(b"next")
            assert await ends.server.datagrams.receive() == b"next"  # the cancelled call sent none

        yield Case(partial(ends.client.datagrams.send, b"hello"), check=check)


@case("Datagrams.receive", "Datagrams.__anext__")
async def receive_a_datagram(face: Native) -> AsyncIterator[Case]:
    async with face.pair() as ends:
        await ends.client.datagrams.send(b"hello")
        await ends.client.ping()

        async def check() -> None:
            assert await ends.server.datagrams.receive() == b"hello"  # the cancelled call took none

        yield Case(ends.server.datagrams.receive, check=check)


@case("Datagrams.receive")
async def receive_a_datagram_that_comes_late(face: Native) -> AsyncIterator[Case]:
    async with face.pair() as ends:
        yield Case(ends.server.datagrams.receive, partial(ends.client.datagrams.send, b"hello"))


@case("Datagrams.aclose")
async def aclose_of_datagrams(face: Native) -> AsyncIterator[Case]:
    async with face.pair() as ends:
        yield Case(ends.client.datagrams.aclose, check=partial(is_usable, face, ends))


# --- connecting, listening -----------------------------------------------------------------------------------------------
#
# These own tasks, so a cancellation passes on once they have ended. On trio the names differ: `connect` is
# `open_quic_connection`, `serve` is `serve_quic`; the cases of the two are told apart by `face.is_trio`.


def opening(face: Native, port: int, **changes: Any) -> Any:
    """The scope of a client's connection to a port of this host."""
    opened = face.module.open_quic_connection if face.is_trio else face.module.connect
    return opened(HOST, port, configuration=client_configuration(**SMALL | changes))


async def hold(connection: Any) -> None:
    """A handler that lasts as long as its connection."""
    await connection.wait_closed()


@case("connect")
async def connect(face: Native) -> AsyncIterator[Case]:
    async with face.helpers.serving(hold, **SMALL) as listener:

        async def operation() -> None:
            async with opening(face, listener.local_address[1]):
                pass

        yield Case(operation, is_scope=True)


@case("connect")
async def connect_to_nobody(face: Native) -> AsyncIterator[Case]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((HOST, 0))

        async def operation() -> None:
            async with opening(face, silent.getsockname()[1], handshake_timeout=0.1):
                pass

        yield Case(operation, fails=quicio.HandshakeTimeout, is_scope=True)


@case("connect")
async def connect_to_one_whose_name_is_another(face: Native) -> AsyncIterator[Case]:
    async with face.helpers.serving(hold, **SMALL) as listener:

        async def operation() -> None:
            async with opening(face, listener.local_address[1], server_name="elsewhere.example"):
                pass

        yield Case(operation, fails=quicio.CertificateError, is_scope=True)


@case("serve")
async def serve(face: Native) -> AsyncIterator[Case]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    configuration = server_configuration(**SMALL)
    operation: Callable[[], Awaitable[Any]]
    if face.is_trio:
        operation = partial(quicio.trio.serve_quic, hold, port, host=HOST, configuration=configuration)
    else:
        operation = partial(quicio.serve, hold, HOST, port, configuration=configuration)

    yield Case(_until_cancelled(operation), partial(_visit, face, port), is_scope=True)


def _until_cancelled(operation: Callable[[], Awaitable[Any]]) -> Callable[[], Awaitable[Any]]:
    """What runs until it is cancelled, cancelled after a while: it still has an end for the harness to find."""

    async def run() -> None:
        with anyio.move_on_after(0.1):
            await operation()

    return run


@case("Listener.accept")
async def accept(face: Native) -> AsyncIterator[Case]:
    async with listening(face) as listener:

        async def operation() -> None:
            incoming = await listener.accept()
            if face.is_trio:
                incoming.close(0)
            else:
                incoming.refuse()

        yield Case(operation, partial(_visit, face, listener.local_address[1]))


@asynccontextmanager
async def listening(face: Native) -> AsyncIterator[Any]:
    """A listener from which connections are accepted by hand."""
    configuration = server_configuration(**SMALL)
    if not face.is_trio:
        async with quicio.listen(HOST, 0, configuration=configuration) as listener:
            yield listener
        return
    async with trio.open_nursery() as nursery:
        listeners = await quicio.trio.open_quic_listeners(nursery, 0, host=HOST, configuration=configuration)
        yield listeners[0]
        nursery.cancel_scope.cancel()


@case("Listener.serve")
async def serve_a_listener(face: Native) -> AsyncIterator[Case]:
    async with listening(face) as listener:
        yield Case(partial(listener.serve, hold), listener.close, is_scope=True)


@case("Listener.aclose")
async def aclose_of_a_listener(face: Native) -> AsyncIterator[Case]:
    async with listening(face) as listener:
        yield Case(listener.aclose)


# --- what the anyio face alone has -----------------------------------------------------------------------------------------


@case("listen")
async def listen(face: Native) -> AsyncIterator[Case]:
    async def operation() -> None:
        async with listening(face):
            pass

    yield Case(operation, is_scope=True)


@case("open_endpoint", "Endpoint.aclose")
async def open_endpoint_only_anyio(face: Native) -> AsyncIterator[Case]:
    async def operation() -> None:
        async with quicio.open_endpoint(HOST) as endpoint:
            await endpoint.aclose()

    yield Case(operation, is_scope=True)


@case("Endpoint.connect")
async def connect_from_an_endpoint_only_anyio(face: Native) -> AsyncIterator[Case]:
    async with face.helpers.serving(hold, **SMALL) as listener, quicio.open_endpoint(HOST) as endpoint:

        async def operation() -> None:
            configuration = client_configuration(**SMALL)
            async with endpoint.connect(*listener.local_address, configuration=configuration) as connection:
                await connection.ping()

        yield Case(operation, is_scope=True)


@case("Incoming.accept")
async def accept_an_incoming_only_anyio(face: Native) -> AsyncIterator[Case]:
    async with listening(face) as listener, anyio.create_task_group() as group:
        group.start_soon(_visit, face, listener.local_address[1])
        incoming = await listener.accept()

        async def operation() -> None:
            async with incoming.accept() as connection:
                await connection.ping()

        yield Case(operation, is_scope=True)
        group.cancel_scope.cancel()


async def _visit(face: Native, port: int) -> None:
    """A client that stays until the server closes."""
    try:
        async with opening(face, port, handshake_timeout=1.0) as connection:
            await connection.wait_closed()
    except quicio.QuicError:
        pass


@case("Incoming.client_hello")
async def client_hello_only_anyio(face: Native) -> AsyncIterator[Case]:
    def retry(incoming: quicio.Incoming) -> None:
        if not incoming.address_validated:
            incoming.retry()

    configuration = server_configuration(**SMALL)
    async with quicio.listen(HOST, 0, configuration=configuration, policy=retry) as listener:
        async with anyio.create_task_group() as group:
            group.start_soon(_visit, face, listener.local_address[1])
            incoming = await listener.accept()

            async def check() -> None:
                assert (await incoming.client_hello()).alpn == ("quicio-test",)
                incoming.refuse()

            yield Case(incoming.client_hello, check=check)
            group.cancel_scope.cancel()


@case("QuicConnectable.connect")
async def connectable_only_anyio(face: Native) -> AsyncIterator[Case]:
    async with face.helpers.serving(hold, **SMALL) as listener, anyio.create_task_group() as group:
        host, port = listener.local_address
        connectable = quicio.QuicConnectable(group, host, port, configuration=client_configuration(**SMALL))

        async def operation() -> None:
            async with await connectable.connect():
                pass

        yield Case(operation, is_scope=True)
        group.cancel_scope.cancel()


# --- what the trio face alone has --------------------------------------------------------------------------------------------


@case("Stream.wait_send_all_might_not_block", "SendStream.wait_send_all_might_not_block")
async def wait_for_room_only_trio(face: Native) -> AsyncIterator[Case]:
    async with face.streams() as streams:
        streams.fill()
        wait = streams.mine.wait_send_all_might_not_block
        yield Case(wait, partial(streams.receive, streams.theirs), streams.is_usable)


@case("connect_quic")
async def connect_quic_only_trio(face: Native) -> AsyncIterator[Case]:
    async with face.helpers.serving(hold, **SMALL) as listener, trio.open_nursery() as nursery:
        host, port = listener.local_address
        configuration = client_configuration(**SMALL)

        async def operation() -> None:
            connection = await quicio.trio.connect_quic(nursery, host, port, configuration=configuration)
            await connection.aclose()

        yield Case(operation, is_scope=True)
        nursery.cancel_scope.cancel()


@case("open_quic_listeners")
async def open_quic_listeners_only_trio(face: Native) -> AsyncIterator[Case]:
    async with trio.open_nursery() as nursery:
        configuration = server_configuration(**SMALL)
        opening = partial(quicio.trio.open_quic_listeners, nursery, 0, host=HOST, configuration=configuration)

        async def operation() -> None:
            for listener in await opening():
                await listener.aclose()

        yield Case(operation, is_scope=True)
        nursery.cancel_scope.cancel()


# --- all of them ---------------------------------------------------------------------------------------------------------

ANYIO = Native("anyio", quicio, loopback, {})
TRIO = Native("trio", quicio.trio, trio_loopback, {"send": "send_all", "receive": "receive_some"})


@pytest.mark.parametrize("name", [name for name in CASES if not name.endswith("_only_trio")])
async def test_the_anyio_face(name: str) -> None:
    assert await cancel_everywhere(partial(CASES[name], ANYIO)) >= 1


@pytest.mark.parametrize("anyio_backend", [pytest.param(("trio", {}), id="trio")])
@pytest.mark.parametrize("name", [name for name in CASES if not name.endswith("_only_anyio")])
async def test_the_trio_face(name: str) -> None:
    assert await cancel_everywhere(partial(CASES[name], TRIO)) >= 1


def public_coroutines(module: Any) -> set[str]:
    """Each public coroutine function of a face, as `name` or `Class.method`."""
    found = set()
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.iscoroutinefunction(value):
            found.add(name)
        elif inspect.isclass(value):
            methods = [each for each in dir(value) if inspect.iscoroutinefunction(getattr(value, each))]
            found |= {f"{name}.{each}" for each in methods if not each.startswith("_") or each == "__anext__"}
    return found


INTERNAL = {f"{name}.{method}" for name in ("Connection", "Endpoint") for method in ("leave", "wait_reply")}


@pytest.mark.parametrize("face", [ANYIO, TRIO], ids=repr)
def test_no_public_coroutine_is_without_a_case(face: Native) -> None:
    renamed = {new: old for old, new in face.renamed.items()} | {"QuicListener": "Listener", "serve_quic": "serve"}
    found = set()
    for each in public_coroutines(face.module):
        name, _, method = each.partition(".")
        found.add(".".join(filter(None, (renamed.get(name, name), renamed.get(method, method)))))
    assert found - INTERNAL - COVERED == set()
