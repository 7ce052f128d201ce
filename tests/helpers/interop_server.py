"""Our server of the task that the interop tests set (see interop_task)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from hashlib import sha256
from typing import Any

import anyio
from anyio.abc import TaskGroup

from helpers.interop_task import CLOSE_PHRASE, DONE, content, parse_command
from helpers.loopback import HOST, server_configuration
from quicio.anyio import Connection, Stream, serve
from quicio.errors import CloseReason, ConnectionLost, QuicError, StreamReset, StreamStopped


class TaskServer:
    """Serves the task and keeps what can only be seen on this side."""

    def __init__(self) -> None:
        self.port = 0
        self.connections: list[Connection] = []
        self.resets: list[int | None] = []  # the codes with which the client reset its sending
        self.stops: list[int | None] = []  # and with which it asked us to stop ours
        self.reasons: list[CloseReason] = []  # how each connection ended
        self.failures: list[Exception] = []  # what attempts to connect, and handlers, raised
        self.ended = anyio.Event()  # the first connection or attempt is over

    async def connection(self, connection: Connection) -> None:
        """Serve one connection until its client is done."""
        self.connections.append(connection)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._echo_datagrams, connection)
                await connection.incoming_streams.serve(partial(self._stream, connection))
                tasks.cancel_scope.cancel()
        finally:
            if connection.close_reason is not None:
                self.reasons.append(connection.close_reason)
            self.ended.set()

    def failed(self, error: Exception) -> None:
        """What `serve` reports."""
        self.failures.append(error)
        self.ended.set()

    async def _echo_datagrams(self, connection: Connection) -> None:
        try:
            async for message in connection.datagrams:
                await connection.datagrams.send(message)
        except ConnectionLost:
            pass  # the client is done

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


@asynccontextmanager
async def task_server(**changes: Any) -> AsyncIterator[TaskServer]:
    """Our server while the body runs; `changes` are of its configuration."""
    server = TaskServer()
    group: TaskGroup
    async with anyio.create_task_group() as group:
        start = partial(
            serve, server.connection, HOST, 0, configuration=server_configuration(**changes), on_error=server.failed
        )
        listener = await group.start(start)
        server.port = listener.local_address[1]
        yield server
        group.cancel_scope.cancel()
