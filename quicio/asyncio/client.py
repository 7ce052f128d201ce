"""`connect()`: from a name to a connection, on one socket.

The name may have several addresses: `RacingConnection` has the first that answers, within one connection and one protocol. The
socket is dual-stack where there is IPv6, and is not connected, so that the connection can follow a server that moves.

What `connect()` returns can be used in three ways: as `async with`, whose end closes the connection and waits until it has
terminated; with `__aenter__` called by hand; or awaited, after which the connection owns its socket and closes it when it has
terminated itself.

The configuration is the caller's: a copy of it is used, with the server's name filled in.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Generator
from functools import partial
from types import TracebackType
from typing import Any, Final, cast

from quicio.asyncio.arguments import checked_configuration, checked_function, checked_host, checked_port
from quicio.asyncio.protocol import QuicConnectionProtocol, QuicStreamHandler
from quicio.asyncio.sockets import open_bound
from quicio.asyncio.transport import EngineTransport
from quicio.quic.configuration import QuicConfiguration
from quicio.quic.connection import QuicConnectionState, QuicTokenHandler
from quicio.quic.endpoint import Endpoint
from quicio.quic.racing import RacingConnection
from quicio.tls.tickets import SessionTicketHandler
from quicio.udp.address import Address, address_from_system

__all__ = ["connect"]

REFUSALS: Final = frozenset({errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETUNREACH})


def connect(
    host: str,
    port: int,
    *,
    configuration: QuicConfiguration | None = None,
    create_protocol: Callable[..., QuicConnectionProtocol] | None = QuicConnectionProtocol,
    session_ticket_handler: SessionTicketHandler | None = None,
    stream_handler: QuicStreamHandler | None = None,
    token_handler: QuicTokenHandler | None = None,
    wait_connected: bool = True,
    local_port: int = 0,
) -> Connecting:
    """Connect to a QUIC server: `async with connect(...) as protocol:`, or `protocol = await connect(...)`.

    `create_protocol(connection, stream_handler=...)` makes the protocol. `stream_handler(reader, writer)` is called for each
    stream that the server opens. With `wait_connected` the handshake is waited for; without, nothing is sent until something
    transmits. `local_port` is the port to send from. `session_ticket_handler` and `token_handler` are called with what the
    server issues for later connections.

    Raises a `quicio.ConnectError`, a `ConnectionError`, when the handshake fails; `OSError` when the port is taken and
    `socket.gaierror` for an unknown host. Arguments of a wrong kind are a `TypeError` and wrong values a `ValueError`, at
    the call; so is a configuration that no client can use, when the connection is made.
    """
    for name, function in (
        ("create_protocol", create_protocol),
        ("session_ticket_handler", session_ticket_handler),
        ("stream_handler", stream_handler),
        ("token_handler", token_handler),
    ):
        checked_function(function, name)
    return Connecting(
        checked_host(host),
        checked_port(port, lowest=1),
        configuration=configuration,
        create_protocol=create_protocol or QuicConnectionProtocol,
        handlers={"session_ticket_handler": session_ticket_handler, "token_handler": token_handler},
        stream_handler=stream_handler,
        wait_connected=wait_connected,
        local_port=checked_port(local_port, "local_port"),
    )


class Connecting:
    """What `connect()` returns: enter it or await it, once."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        configuration: QuicConfiguration | None,
        create_protocol: Callable[..., QuicConnectionProtocol],
        handlers: dict[str, Any],
        stream_handler: QuicStreamHandler | None,
        wait_connected: bool,
        local_port: int,
    ) -> None:
        self._host = host
        self._port = port
        self._given = configuration
        self._create_protocol = create_protocol
        self._handlers = handlers
        self._stream_handler = stream_handler
        self._wait_connected = wait_connected
        self._local_port = local_port
        self._protocol: QuicConnectionProtocol | None = None
        self._is_used = False

    async def __aenter__(self) -> QuicConnectionProtocol:
        self._protocol = await self._open()
        return self._protocol

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._protocol is None:
            raise RuntimeError("this connect() was not entered: use `async with connect(...)`")
        await end(self._protocol)

    def __await__(self) -> Generator[Any, None, QuicConnectionProtocol]:
        return self._open().__await__()

    async def _open(self) -> QuicConnectionProtocol:
        if self._is_used:
            raise RuntimeError("connect() can be entered or awaited once: call it again for another connection")
        self._is_used = True
        configuration = client_configuration(self._given, self._host)
        loop = asyncio.get_running_loop()
        sock, addresses = await open_towards(loop, self._host, self._port, self._local_port)
        try:
            endpoint = Endpoint(
                connection_id_length=configuration.connection_id_length,
                memory_limit=configuration.endpoint_memory_limit,
            )
            transport = EngineTransport(loop, sock, endpoint)
        except BaseException:
            sock.close()
            raise
        try:
            quic = endpoint.prepare(configuration, partial(RacingConnection, addresses=addresses, **self._handlers))
            protocol = self._create_protocol(quic, stream_handler=self._stream_handler)
            if not isinstance(protocol, QuicConnectionProtocol):
                raise TypeError(f"create_protocol must make a QuicConnectionProtocol, not {protocol!r}")
            transport.set_protocol(protocol)
            transport.set_peer(quic.get_peer_address)
            protocol.connection_made(transport)
            protocol._connection_terminated_handler = lambda: cast(None, loop.call_soon(transport.close))
            watch_refusals(protocol, transport, cast(RacingConnection, quic))
        except BaseException:
            transport.close()
            raise
        try:
            protocol.connect(addresses[0], transmit=self._wait_connected)
            if self._wait_connected:
                await protocol.wait_connected()
        except BaseException:
            await end(protocol)
            raise
        return protocol


async def end(protocol: QuicConnectionProtocol) -> None:
    """Close a connection, wait until it has terminated, and close its transport."""
    transport = protocol._transport
    assert transport is not None
    try:
        protocol.close()
        if protocol._quic.state is QuicConnectionState.DRAINING:
            transport.close()  # the peer has closed: there is nobody to wait for
        await protocol.wait_closed()
    finally:
        transport.close()
        await asyncio.sleep(0)  # connection_lost is called; the transport's tasks end


def client_configuration(given: QuicConfiguration | None, host: str) -> QuicConfiguration:
    """The copy of the caller's configuration that the connection is made with. Raises `TypeError` and `ValueError`."""
    if given is None:
        return QuicConfiguration(is_client=True, server_name=host)
    checked_configuration(given, "connect()", is_client=True)
    return given.replaced(server_name=host if given.server_name is None else given.server_name)


async def open_towards(
    loop: asyncio.AbstractEventLoop, host: str, port: int, local_port: int
) -> tuple[socket.socket, list[Address]]:
    """A socket, and the addresses of the server that it reaches, in the resolver's order. Raises `OSError`."""
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    addresses = list(dict.fromkeys(address_from_system(sockaddr) for *_, sockaddr in found))
    sock = open_bound(None, local_port)
    if sock.family == socket.AF_INET:
        addresses = [address for address in addresses if ":" not in address[0]]
    if not addresses:
        sock.close()
        raise OSError(errno.EAFNOSUPPORT, f"{host} has no address that this host reaches")
    return sock, addresses


def watch_refusals(protocol: QuicConnectionProtocol, transport: EngineTransport, quic: RacingConnection) -> None:
    """Tell a connection that is being made which addresses ICMP says nobody listens at; stop when it has one."""

    def on_peer_error(code: int, address: Address) -> None:
        if code in REFUSALS:
            quic.refuse(address)
            protocol.transmit()

    transport.watch_errors(on_peer_error)
    quic.on_settled = lambda: transport.watch_errors(None)
