"""All faces behind one small interface, so that one scenario file runs on each of them and crosswise.

A `Link` is a connection and a `Channel` a stream, with what every face can do: nothing here adds behaviour, it only gives the
same names. Errors are not translated: all faces raise `quicio.QuicError`s. `Face.serve` and `Face.connect` are asynchronous
context managers that run on the face's own event loop (`backend`, `options`); `anyio`'s task groups and events work on all of
them, and the scenarios use them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Generic, TypeVar

import anyio
import trio

import quicio
import quicio.asyncio
import quicio.trio
from helpers.loopback import HOST
from quicio import CloseReason, QuicConfiguration
from quicio.quic import events

T = TypeVar("T")
Handler = Callable[["Link"], Awaitable[None]]


# What an operation raises on a connection that has ended: the peer's doing, or our own, which is each library's own error.
OVER = (quicio.ConnectionLost, anyio.ClosedResourceError, trio.ClosedResourceError)


class Gone(Exception):
    """The connection has ended; there is nothing more to accept."""


class Channel(ABC):
    """A stream."""

    _rest = b""  # came with the line that was read

    @abstractmethod
    async def send(self, data: bytes) -> None:
        """Send all of `data`; waits for room."""

    @abstractmethod
    async def finish(self) -> None:
        """Send FIN."""

    @abstractmethod
    async def _receive(self) -> bytes:
        """What came; `b""` after the peer's FIN."""

    @abstractmethod
    def reset(self, code: int) -> None:
        """Send RESET_STREAM."""

    @abstractmethod
    def stop(self, code: int) -> None:
        """Send STOP_SENDING."""

    @abstractmethod
    async def stopped(self) -> int | None:
        """The code of the peer's STOP_SENDING."""

    @abstractmethod
    async def close(self) -> None:
        """Be done with the stream."""

    async def receive(self) -> bytes:
        """What came; `b""` after the peer's FIN."""
        rest, self._rest = self._rest, b""
        return rest or await self._receive()

    async def read_all(self) -> bytes:
        """Everything until the FIN."""
        pieces = []
        while piece := await self.receive():
            pieces.append(piece)
        return b"".join(pieces)

    async def read_line(self) -> bytes:
        """The first line; what came behind it is received next."""
        text = b""
        while b"\n" not in text:
            piece = await self.receive()
            assert piece, text
            text += piece
        line, _, self._rest = text.partition(b"\n")
        return line


class Link(ABC):
    """A connection."""

    def __init__(self) -> None:
        self.channels: list[Channel] = []  # all streams that were opened and accepted

    async def close_streams(self) -> None:
        """Be done with all streams."""
        for channel in self.channels:
            await channel.close()

    @abstractmethod
    async def open(self, *, is_unidirectional: bool = False) -> Channel:
        """A stream of our own."""

    @abstractmethod
    async def accept(self, *, is_unidirectional: bool = False) -> Channel:
        """The peer's next stream; raises `Gone` when there will be none."""

    @abstractmethod
    async def send_datagram(self, data: bytes) -> None:
        """Send an unreliable message."""

    @abstractmethod
    async def receive_datagram(self) -> bytes:
        """The next unreliable message; raises `Gone` when there will be none."""

    @abstractmethod
    async def ping(self) -> None:
        """Wait for an answer of the peer."""

    @abstractmethod
    def change_connection_id(self) -> None:
        """Use another of the peer's connection IDs."""

    @abstractmethod
    def request_key_update(self) -> None:
        """Use the next keys."""

    @abstractmethod
    def close(self, code: int, reason: str) -> None:
        """Close at once."""

    @abstractmethod
    async def closed(self) -> CloseReason:
        """Wait for the end; tells its reason."""


class Face(ABC):
    """A face of the library on an event loop."""

    def __init__(self, name: str, backend: str, **options: Any) -> None:
        self.name = name
        self.backend = backend
        self.options = options

    def __repr__(self) -> str:
        return self.name

    @abstractmethod
    def connect(self, port: int, configuration: QuicConfiguration) -> AbstractAsyncContextManager[Link]:
        """A connection to a server on this host."""

    @abstractmethod
    def serve(self, handler: Handler, configuration: QuicConfiguration) -> AbstractAsyncContextManager[int]:
        """A server while the body runs; gives its port."""


# --- task groups ---------------------------------------------------------------------------------------------------------


class AnyioChannel(Channel):
    def __init__(self, stream: Any) -> None:
        self.stream = stream

    async def send(self, data: bytes) -> None:
        await self.stream.send(data)

    async def finish(self) -> None:
        await self.stream.send_eof()

    async def _receive(self) -> bytes:
        try:
            data: bytes = await self.stream.receive()
        except anyio.EndOfStream:
            return b""
        return data

    def reset(self, code: int) -> None:
        self.stream.reset(code)

    def stop(self, code: int) -> None:
        self.stream.stop(code)

    async def stopped(self) -> int | None:
        code: int | None = await self.stream.wait_stopped()
        return code

    async def close(self) -> None:
        await self.stream.aclose()


class NativeLink(Link):
    """What the anyio and trio faces share: their connections have the same names."""

    ended = (*OVER, anyio.EndOfStream, trio.EndOfChannel)
    channel: type[Any] = AnyioChannel

    def __init__(self, connection: Any) -> None:
        super().__init__()
        self.connection = connection

    async def open(self, *, is_unidirectional: bool = False) -> Channel:
        opening = self.connection.open_send_stream if is_unidirectional else self.connection.open_stream
        return self._channel(await opening())

    async def accept(self, *, is_unidirectional: bool = False) -> Channel:
        connection = self.connection
        acceptor = connection.incoming_receive_streams if is_unidirectional else connection.incoming_streams
        try:
            return self._channel(await acceptor.receive())
        except self.ended as error:
            raise Gone from error

    def _channel(self, stream: Any) -> Channel:
        made: Channel = self.channel(stream)
        self.channels.append(made)
        return made

    async def send_datagram(self, data: bytes) -> None:
        await self.connection.datagrams.send(data)

    async def receive_datagram(self) -> bytes:
        try:
            data: bytes = await self.connection.datagrams.receive()
        except self.ended as error:
            raise Gone from error
        return data

    async def ping(self) -> None:
        await self.connection.ping()

    def change_connection_id(self) -> None:
        self.connection.change_connection_id()

    def request_key_update(self) -> None:
        self.connection.request_key_update()

    def close(self, code: int, reason: str) -> None:
        self.connection.close(code, reason)

    async def closed(self) -> CloseReason:
        reason: CloseReason = await self.connection.wait_closed()
        return reason


class AnyioFace(Face):
    @asynccontextmanager
    async def connect(self, port: int, configuration: QuicConfiguration) -> AsyncIterator[Link]:
        async with quicio.connect(HOST, port, configuration=configuration) as connection:
            yield NativeLink(connection)

    @asynccontextmanager
    async def serve(self, handler: Handler, configuration: QuicConfiguration) -> AsyncIterator[int]:
        async def handle(connection: quicio.Connection) -> None:
            await handler(NativeLink(connection))

        async with anyio.create_task_group() as group:
            serve = partial(quicio.serve, handle, HOST, 0, configuration=configuration)
            listener: quicio.Listener = await group.start(serve)
            yield listener.local_address[1]
            group.cancel_scope.cancel()


# --- nurseries -----------------------------------------------------------------------------------------------------------


class TrioChannel(AnyioChannel):
    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def _receive(self) -> bytes:
        data: bytes = await self.stream.receive_some()
        return data


class TrioLink(NativeLink):
    channel = TrioChannel


class TrioFace(Face):
    @asynccontextmanager
    async def connect(self, port: int, configuration: QuicConfiguration) -> AsyncIterator[Link]:
        async with quicio.trio.open_quic_connection(HOST, port, configuration=configuration) as connection:
            yield TrioLink(connection)

    @asynccontextmanager
    async def serve(self, handler: Handler, configuration: QuicConfiguration) -> AsyncIterator[int]:
        async def handle(connection: quicio.trio.Connection) -> None:
            await handler(TrioLink(connection))

        async with trio.open_nursery() as nursery:
            serve = partial(quicio.trio.serve_quic, handle, 0, host=HOST, configuration=configuration)
            listeners: list[quicio.trio.QuicListener] = await nursery.start(serve)
            yield listeners[0].local_address[1]
            nursery.cancel_scope.cancel()


# --- aioquic's surface -----------------------------------------------------------------------------------------------------


class AsyncioChannel(Channel):
    def __init__(self, protocol: ScenarioProtocol, reader: Any, writer: Any) -> None:
        self.protocol = protocol
        self.reader = reader
        self.writer = writer
        self.stream_id: int = writer.get_extra_info("stream_id")

    async def send(self, data: bytes) -> None:
        await self.writer.drain()  # raises what write() would only say with aioquic's errors
        for start in range(0, len(data), 65536):
            self.writer.write(data[start : start + 65536])
            await self.writer.drain()

    async def finish(self) -> None:
        self.writer.write_eof()

    async def _receive(self) -> bytes:
        data: bytes = await self.reader.read(65536)
        return data

    def reset(self, code: int) -> None:
        self.protocol._quic.reset_stream(self.stream_id, code)
        self.protocol.transmit()

    def stop(self, code: int) -> None:
        self.protocol._quic.stop_stream(self.stream_id, code)
        self.protocol.transmit()

    async def stopped(self) -> int | None:
        stop = self.protocol.stop_of(self.stream_id)
        await stop.wait()
        return self.protocol.codes[self.stream_id]

    async def close(self) -> None:
        self.writer.close()


class Queue(Generic[T]):
    """What waits to be taken, until it is ended."""

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._news = anyio.Event()
        self._is_ended = False

    def put(self, item: T) -> None:
        self._items.append(item)
        self._news.set()

    def end(self) -> None:
        self._is_ended = True
        self._news.set()

    async def take(self) -> T:
        """The next one; raises `Gone` when there will be none."""
        while not self._items:
            if self._is_ended:
                raise Gone
            self._news = anyio.Event()
            await self._news.wait()
        return self._items.popleft()


class ScenarioProtocol(quicio.asyncio.QuicConnectionProtocol):
    """A user's protocol: keeps the peer's streams and datagrams for whoever accepts them."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.streams: dict[bool, Queue[Channel]] = {False: Queue(), True: Queue()}
        self.datagrams: Queue[bytes] = Queue()
        self.codes: dict[int, int] = {}
        self.stops: dict[int, anyio.Event] = {}
        self._stream_handler = self.accepted

    def accepted(self, reader: Any, writer: Any) -> None:
        is_unidirectional = not writer.can_write_eof()
        self.streams[is_unidirectional].put(AsyncioChannel(self, reader, writer))

    def stop_of(self, stream_id: int) -> anyio.Event:
        return self.stops.setdefault(stream_id, anyio.Event())

    def quic_event_received(self, event: events.QuicEvent) -> None:
        super().quic_event_received(event)
        if isinstance(event, events.DatagramFrameReceived):
            self.datagrams.put(event.data)
        elif isinstance(event, events.StopSendingReceived):
            self.codes[event.stream_id] = event.error_code
            self.stop_of(event.stream_id).set()
        elif isinstance(event, events.ConnectionTerminated):
            self.datagrams.end()
            for queue in self.streams.values():
                queue.end()


class AsyncioLink(Link):
    def __init__(self, protocol: ScenarioProtocol) -> None:
        super().__init__()
        self.protocol = protocol

    async def open(self, *, is_unidirectional: bool = False) -> Channel:
        self.channels.append(AsyncioChannel(self.protocol, *await self.protocol.create_stream(is_unidirectional)))
        return self.channels[-1]

    async def accept(self, *, is_unidirectional: bool = False) -> Channel:
        return await self.protocol.streams[is_unidirectional].take()

    async def send_datagram(self, data: bytes) -> None:
        self.protocol._quic.send_datagram_frame(data)
        self.protocol.transmit()

    async def receive_datagram(self) -> bytes:
        return await self.protocol.datagrams.take()

    async def ping(self) -> None:
        await self.protocol.ping()

    def change_connection_id(self) -> None:
        self.protocol.change_connection_id()

    def request_key_update(self) -> None:
        self.protocol.request_key_update()

    def close(self, code: int, reason: str) -> None:
        self.protocol.close(code, reason)

    async def closed(self) -> CloseReason:
        await self.protocol.wait_closed()
        reason = self.protocol._quic.close_reason
        assert reason is not None
        return reason


class AsyncioFace(Face):
    @asynccontextmanager
    async def connect(self, port: int, configuration: QuicConfiguration) -> AsyncIterator[Link]:
        connecting: AbstractAsyncContextManager[Any] = quicio.asyncio.connect(
            HOST, port, configuration=configuration, create_protocol=ScenarioProtocol
        )
        async with connecting as protocol:
            yield AsyncioLink(protocol)

    @asynccontextmanager
    async def serve(self, handler: Handler, configuration: QuicConfiguration) -> AsyncIterator[int]:
        async with anyio.create_task_group() as group:

            async def handle(protocol: ScenarioProtocol) -> None:
                try:
                    await protocol.wait_connected()
                except quicio.ConnectError:
                    return  # the client went away in mid-handshake
                await handler(AsyncioLink(protocol))

            def create(*arguments: Any, **keywords: Any) -> ScenarioProtocol:
                protocol = ScenarioProtocol(*arguments, **keywords)
                group.start_soon(handle, protocol)
                return protocol

            server: Any = await quicio.asyncio.serve(HOST, 0, configuration=configuration, create_protocol=create)
            try:
                yield server._transport.get_extra_info("sockname")[1]
            finally:
                server.close()
                await server.wait_closed()
            group.cancel_scope.cancel()


FACES: list[Face] = [
    AnyioFace("anyio-asyncio", "asyncio"),
    AnyioFace("anyio-uvloop", "asyncio", use_uvloop=True),
    AnyioFace("anyio-trio", "trio"),
    TrioFace("trio", "trio"),
    AsyncioFace("asyncio", "asyncio"),
    AsyncioFace("asyncio-uvloop", "asyncio", use_uvloop=True),
]
