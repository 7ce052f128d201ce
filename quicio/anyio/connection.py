"""A connection, as users hold it, and the rules by which it ends.

How it ends (rule R4):
- Normally: streams that are open get a FIN, and the end waits until the peer has acknowledged everything, at most
  `linger` seconds; then CONNECTION_CLOSE with the application's "no error". What was not acknowledged by then raises
  `NotDelivered`.
- By an exception of the body: CONNECTION_CLOSE with "internal error", at once.
- By cancellation, of a scope or native: CONNECTION_CLOSE with "cancelled", one synchronous send; nothing is waited for.

A connection that was lost is not closed again; leaving it says nothing more, unless something that was finished was never
acknowledged. A dying connection never cancels its body: whoever uses it gets an error.
"""

from __future__ import annotations

import socket as socket_module
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar, cast

import anyio
from anyio import TypedAttributeProvider
from anyio.abc import AsyncResource, ByteStreamConnectable
from anyio.lowlevel import checkpoint

from quicio.anyio.acceptor import Acceptor
from quicio.anyio.application import Application
from quicio.anyio.attributes import ConnectionAttributes
from quicio.anyio.datagrams import Datagrams
from quicio.anyio.driver import Driver
from quicio.anyio.lifetime import is_cancellation
from quicio.anyio.link import Link
from quicio.anyio.migration import migrate
from quicio.anyio.stream import ReceiveStream, SendStream, Stream, StreamFace
from quicio.anyio.stream_table import StreamTable
from quicio.errors import Address, CloseReason, NotDelivered
from quicio.quic.configuration import QuicConfiguration
from quicio.quic.statistics import ConnectionStatistics

__all__ = ["BaseConnection", "Connection", "HandshakeInfo"]

S = TypeVar("S", bound=StreamFace)

MAX_REPLY_WAIT = 1.0  # seconds: the longest wait for the peer's answer to a close, whatever the RTT


@dataclass(frozen=True)
class HandshakeInfo:
    """How the handshake went: `resumed` from a ticket, and whether the server took 0-RTT data."""

    resumed: bool
    early_data_accepted: bool


class BaseConnection(TypedAttributeProvider):
    """What connections are in every face that stands on anyio: all but the verbs that give streams.

    A face's own connection says in `stream_types` what the peer's streams become: those in both directions, those in one.
    """

    stream_types: tuple[type[StreamFace], type[StreamFace]]

    def __init__(
        self,
        link: Link,
        configuration: QuicConfiguration,
        *,
        owns_socket: bool = False,
        application: Callable[[Link], Application] | None = None,
    ) -> None:
        self._link = link
        self._configuration = configuration
        self._codes = configuration.codes
        self._owns_socket = owns_socket
        self._table = table = StreamTable(link, configuration)
        self._attributes = ConnectionAttributes(link, table, configuration)
        both, one = self.stream_types
        #: acceptors of the peer's streams, in both directions and in one
        self.acceptors: tuple[Acceptor[Any], Acceptor[Any]] = (
            Acceptor(table, table.incoming_streams, both, self._attributes),
            Acceptor(table, table.incoming_receive_streams, one, self._attributes),
        )
        link.application = self._table if application is None else application(link)

    # --- what is known -----------------------------------------------------------------------------------------------

    @property
    def close_reason(self) -> CloseReason | None:
        """Why the connection ended; None while it is open."""
        return self._link.reason

    @property
    def remote_address(self) -> Address:
        """The peer's address on the path in use."""
        return self._link.remote_address

    @property
    def local_address(self) -> Address:
        """This side's address."""
        return self._link.driver.local_address

    @property
    def driver(self) -> Driver:
        """What moves its packets. Not for users: the scopes that own drivers ask."""
        return self._link.driver

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """`QuicAttribute`, `TLSAttribute` (no `ssl_object`) and `SocketAttribute` (no `raw_socket`)."""
        return self._attributes

    def statistics(self) -> ConnectionStatistics:
        """Counters and measurements as of now."""
        return self._attributes.statistics()

    def export_keying_material(self, label: str, context: bytes, length: int) -> bytes:
        """Key material of `length` bytes for other protocols (RFC 8446 §7.5)."""
        return self._link.quic.export_keying_material(label, context, length)

    def __repr__(self) -> str:
        state = "open" if self._link.reason is None else str(self._link.reason)
        return f"<Connection with {self.remote_address}: {state}>"

    def _opened(self, stream_id: int, kind: type[S]) -> S:
        return kind(self._table, self._table.add(stream_id, is_announced=False), self._attributes)

    # --- waiting -----------------------------------------------------------------------------------------------------

    async def wait_handshake(self) -> HandshakeInfo:
        """Wait until the handshake is complete and tell how it went."""
        await checkpoint()
        await self._link.wait_established()
        handshake = self._link.handshake
        assert handshake is not None
        return HandshakeInfo(handshake.session_resumed, handshake.early_data_accepted)

    async def wait_closed(self) -> CloseReason:
        """Wait until the connection has ended, by whomever, and return why. Raises nothing."""
        await checkpoint()
        await self._link.ended.wait()
        return cast(CloseReason, self._link.reason)

    async def ping(self) -> float:
        """Have the peer acknowledge a PING; returns the seconds until it did (RFC 9000 §19.2)."""
        return await self._link.ping()

    async def migrate(
        self, *, local_host: str | None = None, local_port: int = 0, socket: socket_module.socket | None = None
    ) -> None:
        """Go on from another local address (RFC 9000 §9), or from `socket`, a UDP socket that is taken over once it is used.

        Returns when the server has answered on the new path. When it does not within three seconds the connection stays
        on the old one and `ConnectError` is raised; so it does when this is cancelled. Raises `RuntimeError` for a
        connection that cannot migrate, saying why: on a server, before the handshake is confirmed, where the server forbids
        it, or on an endpoint's socket, where `Endpoint.rebind` is the way; `OSError` when the address cannot be had.
        """
        if not self._owns_socket:
            raise RuntimeError("the connection shares its socket with others: Endpoint.rebind() moves them all")
        await migrate(self._link, local_host, local_port, socket)

    async def wait_path_changed(self) -> Address:
        """Wait until the path is another one, because either side has moved, and return the peer's address on it."""
        await self._link.wait_path_changed()
        return self.remote_address

    def change_connection_id(self) -> None:
        """Use another of the peer's connection IDs from now on (RFC 9000 §5.1.2)."""
        self._link.check()
        self._link.quic.change_connection_id()
        self._link.flush()

    def request_key_update(self) -> None:
        """Protect what follows with new keys (RFC 9001 §6)."""
        self._link.check()
        self._link.quic.request_key_update()
        self._link.flush()

    # --- the end -----------------------------------------------------------------------------------------------------

    def close(self, code: int, reason: str = "") -> None:
        """Close at once with an application error code and a phrase: unsent data is dropped. Safe anywhere, idempotent."""
        self._link.close(code, reason)

    async def aclose(self) -> None:
        """Close gracefully: finish the streams, wait until all is acknowledged (`linger` seconds at most), then close.

        Cancelled: closes at once. Raises `NotDelivered` when the peer had not acknowledged everything.
        """
        link = self._link
        if link.is_closed:
            await checkpoint()
            return
        application = link.application
        link.driver.settle_now()
        try:
            await checkpoint()
            with anyio.move_on_after(self._configuration.linger):
                await application.finish()
            undelivered = application.undelivered_count()
            was_lost = link.reason
            self.close(self._codes.no_error)
            if self._owns_socket and was_lost is None:
                await self.wait_reply()
        except anyio.get_cancelled_exc_class():
            self.close(self._codes.cancelled)
            raise
        if undelivered:
            raise NotDelivered(f"{undelivered} streams were not acknowledged by the peer in full", reason=was_lost)

    async def wait_reply(self) -> None:
        """Stay for the peer's answer to a close, at most a probe timeout (RFC 9002 §6.2.1)."""
        known = self.statistics()
        timeout = known.round_trip_time + max(4 * known.round_trip_time_variance, 0.001)
        with anyio.move_on_after(min(timeout, MAX_REPLY_WAIT)):
            await self._link.terminated.wait()

    async def leave(self, error: BaseException | None) -> None:
        """The end of the body that used the connection: rule R4 by how it ended."""
        if error is None:
            await self.aclose()
        else:
            self.close(self._codes.cancelled if is_cancellation(error) else self._codes.internal_error)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.leave(error)


class Connection(BaseConnection, AsyncResource):
    """A QUIC connection. It is made by `connect()` or accepted from a `Listener`, never by hand."""

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
        #: streams that the peer opened, in both directions
        self.incoming_streams: Acceptor[Stream] = self.acceptors[0]
        #: streams that the peer opened to send on
        self.incoming_receive_streams: Acceptor[ReceiveStream] = self.acceptors[1]
        #: messages in DATAGRAM frames
        self.datagrams: Datagrams = Datagrams(self._table, self._attributes)

    async def open_stream(self) -> Stream:
        """Open a bidirectional stream; waits, first come first served, for the peer's limit.

        The peer sees the stream with the first byte sent on it, or with `announce()`. Raises `ConnectionLost`, or
        `ClosedResourceError` after a close on this side.
        """
        return self._opened(await self._link.open(False), Stream)

    def open_stream_nowait(self) -> Stream:
        """As `open_stream`, but raises `WouldBlock` when it would have to wait."""
        return self._opened(self._link.open_nowait(False), Stream)

    async def open_send_stream(self) -> SendStream:
        """Open a stream to send on; waits, first come first served, for the peer's limit."""
        return self._opened(await self._link.open(True), SendStream)

    def open_send_stream_nowait(self) -> SendStream:
        """As `open_send_stream`, but raises `WouldBlock` when it would have to wait."""
        return self._opened(self._link.open_nowait(True), SendStream)

    def connectable(self) -> ByteStreamConnectable:
        """An object whose `connect()` opens a stream on this connection, for code that takes any connectable."""
        return _StreamConnectable(self)


class _StreamConnectable(ByteStreamConnectable):
    """Opens a stream where generic code expects to connect."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def connect(self) -> Stream:
        """Open a stream. Raises `ConnectionFailed` when the connection has ended."""
        try:
            return await self._connection.open_stream()
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            raise anyio.ConnectionFailed("the connection has ended") from error
