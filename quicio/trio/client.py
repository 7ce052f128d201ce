"""Connections to a server: `open_quic_connection`, a scope, and `connect_quic`, which lives in a nursery of yours.

Both dial as `quicio.connect` does. They differ in who ends the connection. The scope's body does, by rule R4. In a nursery
a *host* task owns the socket and the tasks behind it; it waits until the connection has ended, by whomever, and ends
itself. So the nursery waits for the connection, as for all that lives in it.

Rules of the host:
- It takes nothing from those who use the connection: when the peer ends it, what came before stays readable, and tasks
  for the peer's streams (`stream_handler`) may read on. Closed on this side, they are cancelled.
- A connection that is lost never cancels the nursery; its users get an error. Only what `on_error` raises does.
- Cancelling the nursery closes the connection at once with the code for that.
"""

from __future__ import annotations

import socket as socket_module
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

import trio

from quicio.anyio.client import BaseConnecting, client_configuration
from quicio.anyio.lifetime import Handler, OnError, log_error
from quicio.quic.configuration import QuicConfiguration
from quicio.trio.connection import Connection
from quicio.trio.stream import ReceiveStream, Stream

__all__ = ["connect_quic", "open_quic_connection"]


def open_quic_connection(host: str, port: int, **as_connect: Any) -> AbstractAsyncContextManager[Connection]:
    """Connect to a QUIC server: `async with open_quic_connection(...) as connection:`.

    Keyword arguments are those of `quicio.connect`: `configuration`, `alpn`, `server_name`, `local_host`, `local_port`,
    `socket`, `early_data`, `stream_handler`, `on_error`.

    Raises `ConnectError` (an `OSError`) or a subclass when no address works, and `ValueError` when no ALPN protocol is
    given. Left normally, the connection finishes its streams within `configuration.linger` seconds and closes cleanly;
    left by an exception or a cancellation it closes at once (RFC 9000 §10.2).
    """
    return _opening(_Opening, host, port, **as_connect)


async def connect_quic(nursery: trio.Nursery, host: str, port: int, **as_connect: Any) -> Connection:
    """Connect to a QUIC server, in a nursery: the connection lives there until it is closed or lost.

    The nursery waits for it: close it with `aclose()`, or leave it by `async with connection:`, when you are done.
    Cancelling the nursery closes it at once. Arguments and errors are those of `open_quic_connection`.
    """
    connection: Connection = await nursery.start(_opening(_Hosting, host, port, **as_connect).run)
    return connection


class _Opening(BaseConnecting[Connection]):
    """The scope of one client connection."""

    verb = "open_quic_connection"
    connection_type: type[Connection] = Connection


class _Hosting(_Opening):
    """The scope of one client connection inside its host task."""

    async def run(self, *, task_status: trio.TaskStatus[Connection] = trio.TASK_STATUS_IGNORED) -> None:
        """The host task."""
        async with self as connection:
            task_status.started(connection)
            reason = await connection.wait_closed()
            if reason.is_application and not reason.by_peer:
                await connection.wait_reply()
            elif self._handlers_running:
                await self._handlers_done.wait()

    async def _end_connection(self, connection: Connection, error: BaseException | None) -> None:
        if error is not None:
            await super()._end_connection(connection, error)


Kind = TypeVar("Kind", bound=_Opening)


def _opening(
    kind: type[Kind],
    host: str,
    port: int,
    *,
    configuration: QuicConfiguration | None = None,
    alpn: Sequence[str] = (),
    server_name: str | None = None,
    local_host: str | None = None,
    local_port: int = 0,
    socket: socket_module.socket | None = None,
    early_data: bool = False,
    stream_handler: Handler[Stream | ReceiveStream] | None = None,
    on_error: OnError = log_error,
) -> Kind:
    """The scope that the arguments of `quicio.connect` describe."""
    return kind(
        host,
        port,
        client_configuration(configuration, alpn, server_name, host),
        local=(local_host, local_port),
        socket=socket,
        early_data=early_data,
        stream_handler=stream_handler,
        on_error=on_error,
    )
