"""`open_endpoint`: one socket for many connections, in both roles.

Most programs need only `connect` and `listen`, which have endpoints of their own. This one is for peers that do both on one
port, and for many connections that shall share a socket.

How a socket with its connections ends (here and for `listen`): left normally, no new connections are accepted, those that
exist may end within `linger` seconds, and then they are closed with "no error"; left by an exception or a cancellation, they
are all closed at once with the code for that. The connections' own scopes see it as any other end.
"""

from __future__ import annotations

import socket as socket_module
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final

import anyio
from anyio import TypedAttributeProvider
from anyio.abc import AsyncResource, SocketAttribute, TaskGroup
from anyio.lowlevel import checkpoint

from quicio.anyio.addresses import bind, resolve_local
from quicio.anyio.client import Connecting, client_configuration
from quicio.anyio.connection import Connection
from quicio.anyio.driver import Driver, end_drivers
from quicio.anyio.lifetime import Scope, leave_group
from quicio.anyio.server import Listener, Policy, retry_under_load, server_configuration
from quicio.errors import Address
from quicio.quic import endpoint as core
from quicio.quic.configuration import ErrorCodes, QuicConfiguration
from quicio.udp.socket import UdpSocket

__all__ = ["Endpoint", "EndpointStatistics", "open_endpoint"]

LINGER: Final = 3.0  # seconds that connections may take to end when an endpoint is left


@dataclass(frozen=True)
class EndpointStatistics:
    """Counts of an endpoint: its connections, those with an unfinished handshake, datagrams that belonged to nobody."""

    connections: int
    half_open: int
    datagrams_dropped: int


class Endpoint(AsyncResource, TypedAttributeProvider):
    """One UDP socket and its connections, made by `open_endpoint()`."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._listener: Listener | None = None

    @property
    def local_address(self) -> Address:
        """The address that the socket is bound to."""
        return self._driver.local_address

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """`SocketAttribute`, without `raw_socket`."""
        return {
            SocketAttribute.family: lambda: self._driver.engine.family,
            SocketAttribute.local_address: lambda: self.local_address,
            SocketAttribute.local_port: lambda: self.local_address[1],
        }

    def __repr__(self) -> str:
        return f"<Endpoint on {self.local_address}>"

    def connect(
        self, host: str | IPv4Address | IPv6Address, port: int, **as_connect: Any
    ) -> AbstractAsyncContextManager[Connection]:
        """Connect from this endpoint's socket. Arguments are those of `connect()`, but for `socket` and `local_…`."""
        self._check()
        configuration = client_configuration(
            as_connect.pop("configuration", None), as_connect.pop("alpn", ()), as_connect.pop("server_name", None), host
        )
        return Connecting(host, port, configuration, driver=self._driver, **as_connect)

    def listen(self, *, configuration: QuicConfiguration, policy: Policy = retry_under_load) -> Listener:
        """Accept connections on this endpoint's socket. Raises `BusyResourceError` while another listener is open."""
        self._check()
        if self._listener is not None and not self._listener.is_closed:
            raise anyio.BusyResourceError("listening on")
        self._listener = Listener([self._driver], server_configuration(configuration), policy)
        return self._listener

    def _check(self) -> None:
        if self._driver.is_stopped:
            raise anyio.ClosedResourceError

    def rebind(self, socket: socket_module.socket) -> None:
        """Go on with another bound UDP socket, which is taken over; the old one is closed.

        Connections that this side opened tell their peers by the next packet, from an unused connection ID (RFC 9000 §9).
        Those that it accepted live on only if the peer still reaches them: the address has to be the same one, because clients
        do not follow a server (§9). Raises `ValueError` when `socket` is no UDP socket of IPv4 or IPv6.
        """
        self._check()
        self._driver.swap(UdpSocket(socket)).close()

    def statistics(self) -> EndpointStatistics:
        """Counts as of now."""
        endpoint = self._driver.endpoint
        links = self._driver.links
        half_open = sum(link.handshake is None and link.reason is None for link in links)
        return EndpointStatistics(len(links), half_open, endpoint.datagrams_dropped)

    def close(self, code: int = 0, reason: str = "") -> None:
        """Close all connections at once, and stop accepting."""
        if self._listener is not None:
            self._listener.close()
        for link in self._driver.links:
            link.close(code, reason)

    async def aclose(self) -> None:
        """Stop accepting, let connections end for a few seconds, then close them. Cancelled: closes at once."""
        try:
            await checkpoint()
        except anyio.get_cancelled_exc_class() as error:
            await self.leave(error)  # which waits for nothing
            raise
        await self.leave(None)

    async def leave(self, error: BaseException | None) -> None:
        """The end of the scope: see the module's essay."""
        if self._listener is not None:
            self._listener.close()
        await end_drivers([self._driver], error, ErrorCodes(), LINGER)


def open_endpoint(
    local_host: str | None = None, local_port: int = 0, *, socket: socket_module.socket | None = None
) -> AbstractAsyncContextManager[Endpoint]:
    """Open a socket for many connections: `async with open_endpoint() as endpoint:`.

    `local_host` None binds all addresses of both families. `socket`, a bound UDP socket, takes the place of both and is closed
    in the end. Raises `OSError` when the address cannot be had.
    """
    return _Opening(local_host, local_port, socket)


class _Opening(Scope[Endpoint]):
    """The scope of an endpoint: its socket and its driver."""

    verb = "open_endpoint"

    def __init__(self, host: str | None, port: int, socket: socket_module.socket | None) -> None:
        self._host = host
        self._port = port
        self._socket = socket
        self._group: TaskGroup | None = None
        self._endpoint: Endpoint | None = None

    async def _enter(self) -> Endpoint:
        if self._endpoint is not None:
            raise RuntimeError("open_endpoint() can be entered once")
        await checkpoint()
        if self._socket is not None:
            udp = UdpSocket(self._socket)
        else:
            udp = bind((await resolve_local(self._host, self._port))[0], self._port)
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        driver = Driver(udp, core.Endpoint())
        driver.start(self._group)
        self._endpoint = Endpoint(driver)
        return self._endpoint

    async def _leave(self, error: BaseException | None) -> None:
        assert self._endpoint is not None
        assert self._group is not None
        try:
            await self._endpoint.leave(error)
        finally:
            await leave_group(self._group)
