"""`connect`: from a name to a connection with its handshake complete.

Each address of the name is tried in the resolver's order with a full handshake, on a socket of its own, until one works.
`ConnectError.attempts` tells what happened on each; the error that is raised is the one that got furthest.

The scope owns the driver's tasks and those of `stream_handler`. It ends by rule R4 (see `connection`), and the body's
exception leaves it as the same object (see `lifetime`).
"""

from __future__ import annotations

import errno
import logging
import socket as socket_module
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final, TypeVar

import anyio
from anyio.abc import TaskGroup

from quicio.anyio.addresses import bind, open_towards, resolve, resolve_local
from quicio.anyio.application import Application
from quicio.anyio.connection import BaseConnection, Connection
from quicio.anyio.dialling import Race, interleaved
from quicio.anyio.driver import Driver
from quicio.anyio.lifetime import Handler, OnError, Scope, is_cancellation, leave_group, log_error
from quicio.anyio.link import Link
from quicio.anyio.stream import ReceiveStream, Stream
from quicio.errors import Address, ALPNError, CertificateError, ConnectError, HandshakeTimeout, QuicError
from quicio.quic.configuration import QuicConfiguration
from quicio.quic.endpoint import Endpoint
from quicio.quic.racing import RacingConnection
from quicio.udp.socket import UdpSocket

__all__ = ["BaseConnecting", "Connecting", "connect"]

logger: logging.Logger = logging.getLogger("quicio")

ApplicationFactory = Callable[[Link], Application]
StreamHandler = Handler[Stream | ReceiveStream]
C = TypeVar("C", bound=BaseConnection)

FURTHEST: Final = (CertificateError, ALPNError, HandshakeTimeout, ConnectError)  # which error of several tells most


def connect(
    host: str | IPv4Address | IPv6Address,
    port: int,
    *,
    configuration: QuicConfiguration | None = None,
    alpn: Sequence[str] = (),
    server_name: str | None = None,
    local_host: str | None = None,
    local_port: int = 0,
    socket: socket_module.socket | None = None,
    early_data: bool = False,
    stream_handler: StreamHandler | None = None,
    on_error: OnError = log_error,
) -> AbstractAsyncContextManager[Connection]:
    """Connect to a QUIC server: `async with connect(...) as connection:`.

    `configuration` is copied; `alpn` and `server_name` override its fields, and the name defaults to `host`. `local_host` and
    `local_port` choose the local address; or `socket`, a UDP socket, is used, and closed in the end. `stream_handler` runs in a
    task of this scope for each stream that the peer opens, until the body ends; its exceptions go to `on_error`.

    The addresses of `host` are tried in the resolver's order with the families alternating, each for at most
    `configuration.handshake_timeout` seconds and the next one a quarter of a second after it; the first to complete its
    handshake is taken (RFC 8305). When none works, entering raises `ConnectError` or a subclass (`HandshakeTimeout`,
    `CertificateError`, `ALPNError`), which names every address that was tried. A call without ALPN protocols, or with a port
    that is none, raises `ValueError`.

    With `early_data`, and a ticket that allows it in `configuration.session_ticket` or `session_store`, the body starts before
    the handshake is complete. What it sends until then can be recorded and sent to the server again by others (RFC 9001
    §9.2): send what may happen twice, or `await connection.wait_handshake()` first. That also tells whether the server took
    it; what it refuses is sent again, or raises `EarlyDataRejected` where the protocol has become another one.

    Left normally, the connection finishes its streams within `configuration.linger` seconds and closes with
    `configuration.codes.no_error`; what the peer had not acknowledged by then raises `NotDelivered`. Left by an exception it
    closes at once with `codes.internal_error`, cancelled with `codes.cancelled` (RFC 9000 §10.2). Cancelled while it connects,
    it gives up and leaves nothing behind.
    """
    configuration = client_configuration(configuration, alpn, server_name, host)
    return Connecting(
        host,
        port,
        configuration,
        local=(local_host, local_port),
        socket=socket,
        early_data=early_data,
        stream_handler=stream_handler,
        on_error=on_error,
    )


def client_configuration(
    configuration: QuicConfiguration | None,
    alpn: Sequence[str],
    server_name: str | None,
    host: str | IPv4Address | IPv6Address,
) -> QuicConfiguration:
    """The copy of the configuration that a client's connection is made with. Raises `ValueError`."""
    base = configuration if configuration is not None else QuicConfiguration()
    protocols = list(alpn) or list(base.alpn_protocols or ())
    if isinstance(alpn, str) or not protocols:
        raise ValueError("give the application protocols: alpn=['...'], or alpn_protocols in the configuration")
    name = server_name or base.server_name or str(host)
    result = base.replaced(is_client=True, alpn_protocols=protocols, server_name=name)
    result.validate()
    return result


class BaseConnecting(Scope[C]):
    """The scope of one client connection, of the class `connection_type` of some face.

    `driver` is given when it shares an endpoint's socket.
    """

    connection_type: type[C]

    def __init__(
        self,
        host: str | IPv4Address | IPv6Address,
        port: int,
        configuration: QuicConfiguration,
        *,
        local: tuple[str | None, int] = (None, 0),
        socket: socket_module.socket | None = None,
        driver: Driver | None = None,
        early_data: bool = False,
        stream_handler: Handler[Any] | None = None,
        on_error: OnError = log_error,
        application: ApplicationFactory | None = None,
    ) -> None:
        if not 0 < port < 65536:
            raise ValueError(f"{port} is no port to connect to: ports are 1 to 65535")
        self._host = host
        self._port = port
        self._configuration = configuration.replaced(early_data=early_data)
        self._local = local
        self._socket = socket
        self._shared_driver = driver
        self._stream_handler = stream_handler
        self._on_error = on_error
        self._application = application
        self._connection: C | None = None
        self._driver: Driver | None = None
        self._handlers: list[anyio.CancelScope] = []
        self._handlers_running = 0
        self._handlers_done = anyio.Event()
        self._crash: Exception | None = None
        self._group: TaskGroup | None = None

    async def _enter(self) -> C:
        if self._group is not None:
            raise RuntimeError("connect() can be entered once: call it again for another connection")
        self._group = group = anyio.create_task_group()
        await group.__aenter__()
        try:
            addresses = await resolve(self._host, self._port)
            connection = await self._dial(addresses, group)
        except BaseException:
            self._stop_driver()
            if self._socket is not None:
                self._socket.close()  # ownership was taken; closing twice does no harm
            await leave_group(group)
            raise
        self._connection = connection
        if self._shared_driver is None:
            self._driver = connection.driver
        if self._stream_handler is not None:
            self._handlers_running = 2
            for acceptor in connection.acceptors:
                group.start_soon(self._serve_streams, acceptor, self._stream_handler)
        return connection

    # --- dialling ----------------------------------------------------------------------------------------------------

    async def _dial(self, addresses: list[Address], group: TaskGroup) -> C:
        configuration = self._configuration
        if configuration.early_data and (configuration.session_ticket or configuration.session_store) is not None:
            return await self._dial_early(addresses, group)
        race = Race(lambda address: self._attempt(address, group), self._discard)
        connection = await race.run(interleaved(addresses))
        if connection is None:
            raise summary(self._host, race.failures, self._configuration.alpn_protocols or ())
        return connection

    async def _attempt(self, address: Address, group: TaskGroup) -> C:
        """One address: a connection whose handshake is complete. What fails, or is cancelled, is closed and forgotten."""
        driver = await self._driver_towards(address, group)
        is_own = driver not in (self._shared_driver, self._driver)
        try:
            link = driver.adopt(driver.endpoint.connect(self._configuration, address, driver.now()))
            connection = self.connection_type(
                link, self._configuration, owns_socket=self._shared_driver is None, application=self._application
            )
            if is_own:
                driver.on_refused = link.refuse
            link.flush()
            try:
                await link.wait_established()
            except anyio.get_cancelled_exc_class():
                link.close(self._configuration.codes.cancelled)
                raise
        except BaseException:
            if is_own:
                driver.stop()
            raise
        driver.on_refused = None
        return connection

    async def _dial_early(self, addresses: list[Address], group: TaskGroup) -> C:
        """One connection for all addresses: what it sends early goes to whichever answers, and only one of them acts on it."""
        driver = self._shared_driver or self._driver
        is_own = driver is None and self._socket is None
        if driver is None:
            local_host, local_port = self._local
            local = (await resolve_local(local_host, local_port))[0]
            udp = bind(local, local_port) if self._socket is None else UdpSocket(self._socket)
            self._driver = driver = self._new_driver(udp, group)
        addresses = [address for address in interleaved(addresses) if is_reached(address, driver)]
        if not addresses:
            raise ConnectError(f"cannot connect to {self._host}: a socket of IPv4 reaches none of its addresses")
        quic = driver.endpoint.prepare(self._configuration, partial(RacingConnection, addresses=addresses))
        assert isinstance(quic, RacingConnection)
        quic.connect(addresses[0], driver.now())
        link = driver.adopt(quic)
        connection = self.connection_type(
            link, self._configuration, owns_socket=self._shared_driver is None, application=self._application
        )
        if is_own:
            watch_refusals(driver, link, quic)
        link.flush()
        if quic.tls.early_data_offered:
            return connection
        try:
            await link.wait_established()
        except anyio.get_cancelled_exc_class():
            link.close(self._configuration.codes.cancelled)
            raise
        except ConnectError as error:
            attempts: list[tuple[Address, Exception]] = [(address, error) for address in addresses]
            raise summary(self._host, attempts, self._configuration.alpn_protocols or ()) from error
        return connection

    def _discard(self, connection: C) -> None:
        """Another attempt has won at the same moment."""
        connection.close(self._configuration.codes.cancelled)
        if connection.driver not in (self._shared_driver, self._driver):
            connection.driver.stop()

    async def _driver_towards(self, address: Address, group: TaskGroup) -> Driver:
        if self._shared_driver is not None:
            return reaching(address, self._shared_driver)
        if self._socket is not None:
            if self._driver is None:
                self._driver = self._new_driver(UdpSocket(self._socket), group)
            return reaching(address, self._driver)
        local_host, local_port = self._local
        local = (await resolve_local(local_host, local_port))[0]
        return self._new_driver(open_towards(address, local, local_port), group)

    def _new_driver(self, udp: UdpSocket, group: TaskGroup) -> Driver:
        driver = Driver(
            udp,
            Endpoint(
                connection_id_length=self._configuration.connection_id_length,
                memory_limit=self._configuration.endpoint_memory_limit,
            ),
        )
        driver.start(group)
        return driver

    def _stop_driver(self) -> None:
        if self._driver is not None:
            self._driver.stop()
            self._driver = None

    # --- the peer's streams ------------------------------------------------------------------------------------------

    async def _serve_streams(self, acceptor: Any, handler: Handler[Any]) -> None:
        try:
            with anyio.CancelScope() as scope:
                self._handlers.append(scope)
                await acceptor.serve(handler, on_error=self._on_error)
        except (QuicError, anyio.ClosedResourceError) as error:
            logger.debug("no more streams: %s", error)
        except Exception as error:
            self._crash = self._crash or error
            assert self._group is not None
            self._group.cancel_scope.cancel()
        finally:
            self._handlers_running -= 1
            if self._handlers_running == 0:
                self._handlers_done.set()

    # --- the end -----------------------------------------------------------------------------------------------------

    async def _leave(self, error: BaseException | None) -> None:
        connection, group = self._connection, self._group
        assert connection is not None
        assert group is not None
        try:
            if self._crash is not None:
                connection.close(self._configuration.codes.internal_error)
            else:
                if error is None:
                    await self._end_handlers(connection)
                await self._end_connection(connection, error)
        finally:
            self._stop_driver()
            await leave_group(group)
        if self._crash is not None and (error is None or is_cancellation(error)):
            raise self._crash

    async def _end_connection(self, connection: C, error: BaseException | None) -> None:
        await connection.leave(error)

    async def _end_handlers(self, connection: C) -> None:
        if self._handlers_running:
            for scope in self._handlers:
                scope.cancel()
            try:
                await self._handlers_done.wait()
            except anyio.get_cancelled_exc_class():
                connection.close(self._configuration.codes.cancelled)
                raise


class Connecting(BaseConnecting[Connection]):
    """The scope of one client connection of this face."""

    connection_type: type[Connection] = Connection


def is_reached(address: Address, driver: Driver) -> bool:
    """Whether the family of the driver's socket reaches the address."""
    return ":" not in address[0] or driver.engine.family != socket_module.AF_INET


def watch_refusals(driver: Driver, link: Link, quic: RacingConnection) -> None:
    """Tell a connection that is being made which addresses ICMP says nobody listens at, until it has one."""

    def on_unreachable(address: Address) -> None:
        quic.refuse(address)
        link.drain()
        link.flush()

    driver.watch_unreachable(on_unreachable)
    quic.on_settled = lambda: driver.watch_unreachable(None)


def reaching(address: Address, driver: Driver) -> Driver:
    """The driver, if its socket's family reaches the address; else `OSError`."""
    if not is_reached(address, driver):
        raise OSError(errno.EAFNOSUPPORT, f"a socket of IPv4 cannot reach {address[0]}")
    return driver


def summary(host: object, attempts: list[tuple[Address, Exception]], alpn: Sequence[str] = ()) -> ConnectError:
    """The one error for all attempts: of the kind that got furthest, with every address that was tried."""
    told = "; ".join([f"{describe(address)}: {error}" for address, error in attempts])
    message = f"cannot connect to {host} at {told}"
    kind: type[ConnectError] = ConnectError
    cause = attempts[0][1]
    for candidate in FURTHEST:
        found = [error for _, error in attempts if type(error) is candidate]
        if found:
            kind, cause = candidate, found[0]
            break
    if kind is ALPNError:
        message += f" (this side offers {', '.join(map(repr, alpn))})"
    reason = cause.reason if isinstance(cause, ConnectError) else None
    if len(attempts) == 1 and isinstance(cause, ConnectError):
        cause.message, cause.attempts = message, tuple(attempts)
        return cause
    result = kind(message, reason=reason, attempts=attempts)
    result.__cause__ = cause
    return result


def describe(address: Address) -> str:
    """An address, in words."""
    return f"{address[0]} port {address[1]}"
