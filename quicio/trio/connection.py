"""A connection, as trio code holds it: a `trio.abc.AsyncResource`.

What a connection knows, how it waits and how it ends (rule R4) is in `quicio.anyio.connection.BaseConnection`, and the
same here: left normally it finishes its streams and closes cleanly, left by an exception or a cancellation it closes at
once. So `trio.aclose_forcefully(connection)`, which `trio.serve_listeners` calls when a handler has returned, drops what
was not sent yet: handlers for it write `async with connection:`. `serve_quic` needs no such care.
"""

from __future__ import annotations

import socket as socket_module
from collections.abc import Callable

import trio

from quicio.anyio.application import Application
from quicio.anyio.connection import BaseConnection, HandshakeInfo
from quicio.anyio.datagrams import Datagrams as AnyioDatagrams
from quicio.anyio.link import Link
from quicio.errors import Address
from quicio.quic.configuration import QuicConfiguration
from quicio.trio.channels import Acceptor, Datagrams
from quicio.trio.errors import translated
from quicio.trio.stream import ReceiveStream, SendStream, Stream

__all__ = ["Connection"]


class Connection(BaseConnection, trio.abc.AsyncResource):
    """A QUIC connection. It comes from one of the verbs of `quicio.trio`, never by hand."""

    stream_types: tuple[type[Stream], type[ReceiveStream]] = (Stream, ReceiveStream)

    def __init__(
        self,
        link: Link,
        configuration: QuicConfiguration,
        *,
        owns_socket: bool = False,
        application: Callable[[Link], Application] | None = None,
    ) -> None:
        super().__init__(link, configuration, owns_socket=owns_socket, application=application)
        both, one = self.acceptors
        #: streams that the peer opened, in both directions
        self.incoming_streams: Acceptor[Stream] = Acceptor(both)
        #: streams that the peer opened to send on
        self.incoming_receive_streams: Acceptor[ReceiveStream] = Acceptor(one)
        #: messages in DATAGRAM frames
        self.datagrams: Datagrams = Datagrams(AnyioDatagrams(self._table, self._attributes))

    # --- streams -----------------------------------------------------------------------------------------------------

    async def open_stream(self) -> Stream:
        """Open a bidirectional stream; waits, first come first served, for the peer's limit.

        The peer sees the stream with the first byte sent on it, or with `announce()`. Raises `ConnectionLost`, or
        `trio.ClosedResourceError` after a close on this side.
        """
        with translated:
            return self._opened(await self._link.open(False), Stream)

    def open_stream_nowait(self) -> Stream:
        """As `open_stream`, but raises `trio.WouldBlock` when it would have to wait."""
        with translated:
            return self._opened(self._link.open_nowait(False), Stream)

    async def open_send_stream(self) -> SendStream:
        """Open a stream to send on; waits, first come first served, for the peer's limit."""
        with translated:
            return self._opened(await self._link.open(True), SendStream)

    def open_send_stream_nowait(self) -> SendStream:
        """As `open_send_stream`, but raises `trio.WouldBlock` when it would have to wait."""
        with translated:
            return self._opened(self._link.open_nowait(True), SendStream)

    # --- waiting -----------------------------------------------------------------------------------------------------

    async def wait_handshake(self) -> HandshakeInfo:
        """Wait until the handshake is complete and tell how it went."""
        with translated:
            return await super().wait_handshake()

    async def ping(self) -> float:
        """Have the peer acknowledge a PING; returns the seconds until it did (RFC 9000 §19.2)."""
        with translated:
            return await super().ping()

    async def migrate(
        self, *, local_host: str | None = None, local_port: int = 0, socket: socket_module.socket | None = None
    ) -> None:
        """Go on from another local address (RFC 9000 §9), or from `socket`, a UDP socket that is taken over once it is used.

        As `quicio.Connection.migrate`: it returns when the server has answered on the new path; `ConnectError` when it does
        not, `RuntimeError` when the connection cannot migrate, `OSError` when the address cannot be had.
        """
        with translated:
            await super().migrate(local_host=local_host, local_port=local_port, socket=socket)

    async def wait_path_changed(self) -> Address:
        """Wait until the path is another one, because either side has moved, and return the peer's address on it."""
        with translated:
            return await super().wait_path_changed()

    def change_connection_id(self) -> None:
        """Use another of the peer's connection IDs from now on (RFC 9000 §5.1.2)."""
        with translated:
            super().change_connection_id()

    def request_key_update(self) -> None:
        """Protect what follows with new keys (RFC 9001 §6)."""
        with translated:
            super().request_key_update()

    # --- the end -----------------------------------------------------------------------------------------------------

    async def aclose(self) -> None:
        """Close gracefully: finish the streams, wait until all is acknowledged (`linger` seconds at most), then close.

        Cancelled: closes at once. Raises `NotDelivered` when the peer had not acknowledged everything.
        """
        with translated:
            await super().aclose()
