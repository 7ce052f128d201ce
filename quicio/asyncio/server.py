"""`serve()` and `QuicServer`: many connections on one socket.

The `Endpoint` routes datagrams, answers what belongs to no connection, and limits what has not finished its handshake;
here a protocol is made for each connection that it accepts. On the `EngineTransport` that `serve()` makes, the engine
drives it. On any other `DatagramTransport` the server feeds the endpoint by itself, one datagram at a time, and its
protocols share the transport.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from math import inf
from typing import cast

from quicio.asyncio.arguments import checked_configuration, checked_function, checked_host, checked_port
from quicio.asyncio.protocol import QuicConnectionProtocol, QuicStreamHandler
from quicio.asyncio.sockets import bind
from quicio.asyncio.transport import EngineTransport
from quicio.quic.configuration import QuicConfiguration
from quicio.quic.connection import NetworkAddress, QuicConnection
from quicio.quic.endpoint import Endpoint, Incoming, retry_under_load
from quicio.quic.packet import QuicErrorCode
from quicio.quic.transmit import Received
from quicio.tls.tickets import SessionTicketFetcher, SessionTicketHandler

__all__ = ["QuicServer", "serve"]


class QuicServer(asyncio.DatagramProtocol):
    """The protocol of a server's transport: it owns the protocols of the connections.

    Arguments are those of `serve()`. Raises `ValueError` for a configuration without a certificate, or of a client, and
    `TypeError` for what is none and for functions that cannot be called.
    """

    def __init__(
        self,
        *,
        configuration: QuicConfiguration,
        create_protocol: Callable[..., QuicConnectionProtocol] | None = QuicConnectionProtocol,
        session_ticket_fetcher: SessionTicketFetcher | None = None,
        session_ticket_handler: SessionTicketHandler | None = None,
        retry: bool = False,
        stateless_retry: bool = False,
        stream_handler: QuicStreamHandler | None = None,
    ) -> None:
        for name, function in (
            ("create_protocol", create_protocol),
            ("session_ticket_fetcher", session_ticket_fetcher),
            ("session_ticket_handler", session_ticket_handler),
            ("stream_handler", stream_handler),
        ):
            checked_function(function, name)
        self._configuration = checked_configuration(configuration, "serve()", is_client=False)
        self._create_protocol = create_protocol or QuicConnectionProtocol
        self._loop = asyncio.get_running_loop()
        self._retry = retry or stateless_retry
        self._stream_handler = stream_handler
        self._transport: asyncio.DatagramTransport | None = None
        self._protocols: dict[QuicConnection, QuicConnectionProtocol] = {}
        self._ending: list[QuicConnectionProtocol] = []  # terminated, with stream handlers that have not ended
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._endpoint = Endpoint(
            connection_id_length=configuration.connection_id_length, memory_limit=configuration.endpoint_memory_limit
        )
        self._endpoint.on_connection = self._on_connection
        make = partial(
            QuicConnection,
            session_ticket_fetcher=session_ticket_fetcher,
            session_ticket_handler=session_ticket_handler,
        )
        self._endpoint.listen(configuration, self._decide, make)

    # --- what applications call --------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close all connections and the transport, at once. Their closing periods run out by themselves. Idempotent."""
        if self._is_closed:
            return
        self._is_closed = True
        self._endpoint.stop_listening()
        for protocol in list(self._protocols.values()):
            protocol.close()
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.close()

    async def wait_closed(self) -> None:
        """Wait until all connections have terminated and the tasks of their stream handlers have ended, after `close()`."""
        while self._protocols:
            await next(iter(self._protocols.values())).wait_closed()
        while self._ending:
            await self._ending.pop().wait_closed()
        await asyncio.sleep(0)  # connection_lost is called; the transport's tasks end

    # --- connections -------------------------------------------------------------------------------------------------

    def _decide(self, incoming: Incoming) -> None:
        if self._retry and not incoming.address_validated:
            incoming.retry()
        else:
            retry_under_load(incoming)

    def _on_connection(self, quic: QuicConnection) -> None:
        """The endpoint has made a connection, and has not given it its first datagram."""
        assert self._transport is not None  # it brought the datagram
        failure: Exception | None = None
        try:
            protocol = self._create_protocol(quic, stream_handler=self._stream_handler)
            if not isinstance(protocol, QuicConnectionProtocol):
                raise TypeError(f"create_protocol must make a QuicConnectionProtocol, not {protocol!r}")
            protocol.connection_made(self._transport)
        except Exception as error:
            failure = error
            protocol = QuicConnectionProtocol(quic)
            protocol.connection_made(self._transport)
        if not isinstance(self._transport, EngineTransport):
            self._endpoint.divert(quic, protocol._take)
        protocol._connection_terminated_handler = partial(self._connection_terminated, quic)
        self._protocols[quic] = protocol
        if failure is not None:
            context = {"message": "create_protocol failed", "exception": failure, "transport": self._transport}
            self._loop.call_exception_handler(context)
            self._loop.call_soon(self._give_up, protocol)

    def _give_up(self, protocol: QuicConnectionProtocol) -> None:
        protocol._quic.close(QuicErrorCode.INTERNAL_ERROR, 0, "the server failed")
        protocol.transmit()

    def _connection_terminated(self, quic: QuicConnection) -> None:
        protocol = self._protocols.pop(quic, None)
        self._ending = [ending for ending in self._ending if ending._tasks]
        if protocol is not None and protocol._tasks:
            self._ending.append(protocol)
        if not isinstance(self._transport, EngineTransport):
            self._endpoint.forget(quic)

    # --- the transport -----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The transport of all connections."""
        self._transport = cast(asyncio.DatagramTransport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is closed, and with it the server."""
        self._is_closed = True
        if not isinstance(self._transport, EngineTransport):  # which tells its connections itself
            for protocol in list(self._protocols.values()):
                protocol.connection_lost(exc)

    def datagram_received(self, data: bytes | str, addr: NetworkAddress) -> None:
        """A datagram arrived on a transport that is not an `EngineTransport`."""
        self._endpoint.receive(Received([cast(bytes, data)], addr), self._loop.time())
        self._answer()

    def error_received(self, exc: Exception) -> None:
        """What the system says about one datagram concerns none of the others."""

    def _answer(self) -> None:
        """Send what belongs to no connection, and wait for what the endpoint waits for."""
        transport = self._transport
        assert transport is not None
        while (answer := self._endpoint.next_transmit()) is not None:
            for datagram in answer.datagrams:
                transport.sendto(datagram, answer.remote)  # type: ignore[arg-type]  # as it came from the transport
        if self._timer is None and self._endpoint.deadline < inf:
            self._timer = self._loop.call_at(self._endpoint.deadline, self._handle_timer)

    def _handle_timer(self) -> None:
        self._timer = None
        self._endpoint.handle_timer(self._loop.time())
        self._answer()


async def serve(
    host: str,
    port: int,
    *,
    configuration: QuicConfiguration,
    create_protocol: Callable[..., QuicConnectionProtocol] | None = QuicConnectionProtocol,
    session_ticket_fetcher: SessionTicketFetcher | None = None,
    session_ticket_handler: SessionTicketHandler | None = None,
    retry: bool = False,
    stateless_retry: bool = False,
    stream_handler: QuicStreamHandler | None = None,
) -> QuicServer:
    """Start a QUIC server on `host` and `port`; `"::"` serves both IPv6 and IPv4.

    `create_protocol(connection, stream_handler=...)` makes the protocol of each connection. `stream_handler(reader, writer)` is
    called for each stream that a client opens. With `retry` (or `stateless_retry`, its older name) clients have to prove their
    addresses first (RFC 9000 §8.1). `session_ticket_fetcher` and `session_ticket_handler` find and keep tickets.

    Raises `ValueError` for a configuration that no server can use, `OSError` when the address cannot be had,
    `socket.gaierror` for an unknown host, `TypeError` and `ValueError` for other arguments of a wrong kind or value.
    """
    port = checked_port(port)
    if host:
        checked_host(host)
    loop = asyncio.get_running_loop()
    server = QuicServer(
        configuration=configuration,
        create_protocol=create_protocol,
        session_ticket_fetcher=session_ticket_fetcher,
        session_ticket_handler=session_ticket_handler,
        retry=retry,
        stateless_retry=stateless_retry,
        stream_handler=stream_handler,
    )
    sock = await bind(loop, host, port)
    try:
        transport = EngineTransport(loop, sock, server._endpoint)
    except BaseException:
        sock.close()
        raise
    transport.set_protocol(server)
    server.connection_made(transport)
    return server
