"""Our server of the task that the interop tests set (see interop_task)."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from hashlib import sha256
from typing import Any

import anyio

from helpers.interop_task import ALPN, CLOSE_PHRASE, DONE, content, parse_command
from helpers.loopback import HOST, server_configuration
from quicio.anyio import Connection, Incoming, Listener, Stream, listen
from quicio.errors import CloseReason, ConnectError, ConnectionLost, QuicError, StreamReset, StreamStopped
from quicio.http import Request

logger = logging.getLogger(__name__)

Policy = Callable[[Incoming], None]


class TaskServer:
    """Serves the task and keeps what can only be seen on this side."""

    def __init__(self) -> None:
        self.port = 0
        self.connections: list[Connection] = []
        self.resets: list[int | None] = []  # the codes with which the client reset its sending
        self.stops: list[int | None] = []  # and with which it asked us to stop ours
        self.reasons: list[CloseReason] = []  # how each connection ended
        self.failures: list[ConnectError] = []  # what attempts to connect raised
        self.ended = anyio.Event()  # the first connection or attempt is over

    async def accept(self, listener: Listener) -> None:
        """Take every attempt to connect."""
        async with anyio.create_task_group() as group:
            async for incoming in listener:
                group.start_soon(self._attempt, incoming)

    async def _attempt(self, incoming: Incoming) -> None:
        try:
            async with incoming.accept() as connection:
                self.connections.append(connection)
                await self._connection(connection)
        except ConnectError as error:
            self.failures.append(error)
        except QuicError as error:  # such as NotDelivered: the peer need not acknowledge before it closes
            logger.debug("a connection ended: %s", error)
        finally:
            if incoming.connection is not None and incoming.connection.close_reason is not None:
                self.reasons.append(incoming.connection.close_reason)
            self.ended.set()

    async def _connection(self, connection: Connection) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._echo_datagrams, connection)
            with suppress(ConnectionLost, anyio.ClosedResourceError):
                await connection.incoming_streams.serve(partial(self._stream, connection))
            tasks.cancel_scope.cancel()

    async def _echo_datagrams(self, connection: Connection) -> None:
        with suppress(ConnectionLost, anyio.ClosedResourceError):  # the client is done, or has us close
            async for message in connection.datagrams:
                await connection.datagrams.send(message)

    async def _stream(self, connection: Connection, stream: Stream) -> None:
        try:
            await self._answer(connection, stream)
        except StreamReset as error:
            self.resets.append(error.code)
        except StreamStopped as error:
            self.stops.append(error.code)
        except ConnectionLost:
            pass  # of the closes that were asked for

    async def _answer(self, connection: Connection, stream: Stream) -> None:
        begin = await stream.receive()
        while b"\n" not in begin:
            begin += await stream.receive()
        line, _, body = begin.partition(b"\n")
        verb, number = parse_command(line)
        if verb == "reset":
            stream.reset(number)
        elif verb == "stop":
            stream.stop(number)
        elif verb == "close":
            connection.close(number, CLOSE_PHRASE)
        elif verb == "echo":
            await stream.send(body)
            async for chunk in stream:
                await stream.send(chunk)
        else:
            summary = sha256(body)
            async for chunk in stream:
                summary.update(chunk)
            await stream.send(self._whole_answer(connection, verb, number, summary.hexdigest()))

    def _whole_answer(self, connection: Connection, verb: str, number: int, summary: str) -> bytes:
        if verb == "up":
            return summary.encode()
        if verb == "down":
            return content(number)
        if verb == "key-update":
            connection.request_key_update()
        elif verb == "change-id":
            connection.change_connection_id()
        else:
            raise QuicError(f"no such task: {verb}")
        return DONE


async def answer_http(request: Request) -> None:
    """What the task asks of HTTP/3 servers."""
    if request.method == "GET" and request.path.startswith("/down/"):
        await request.respond(200, {"server": "quicio"}, content(int(request.path.removeprefix("/down/"))))
    elif request.method == "POST" and request.path == "/up":
        summary = sha256()
        async for chunk in request:
            summary.update(chunk)
        await request.respond(200, body=summary.hexdigest())
    else:
        await request.respond(404)


@asynccontextmanager
async def task_server(policy: Policy = lambda incoming: None, **changes: Any) -> AsyncIterator[TaskServer]:
    """Our server while the body runs; `changes` are of its configuration."""
    server = TaskServer()
    configuration = server_configuration(alpn_protocols=[ALPN], **changes)
    async with listen(HOST, 0, configuration=configuration, policy=policy) as listener:
        server.port = listener.local_address[1]
        async with anyio.create_task_group() as group:
            group.start_soon(server.accept, listener)
            yield server
            group.cancel_scope.cancel()
