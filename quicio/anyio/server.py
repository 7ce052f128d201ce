"""`listen` and `serve`: connections that come in.

An attempt reaches the listener as an `Incoming`, before any TLS state exists. The policy sees it first, in the driver's
turn, and may retry, refuse or ignore it; what it leaves undecided waits in a bounded queue for `serve` or `accept`, and is
refused beyond the bound (security row 11). Accepting takes it through the handshake, in the task that will use it.

Connections live in the tasks of their handlers; their packets go through the drivers in the scope of `listen`. Leaving that
scope normally stops accepting, lets connections end for `linger` seconds, then closes them; otherwise all are closed at once.
"""

from __future__ import annotations

import logging
import socket as socket_module
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, cast

import anyio
from anyio import TASK_STATUS_IGNORED
from anyio.abc import Listener as AnyioListener
from anyio.abc import SocketAttribute, TaskGroup, TaskStatus
from anyio.lowlevel import checkpoint

from quicio.anyio.addresses import bind, resolve_local
from quicio.anyio.application import Application
from quicio.anyio.connection import BaseConnection, Connection
from quicio.anyio.driver import Driver, end_drivers
from quicio.anyio.gate import Gate
from quicio.anyio.lifetime import Handler, OnError, Scope, leave_group, log_error, serve_each
from quicio.anyio.link import Link
from quicio.anyio.mailbox import Mailbox
from quicio.errors import Address, ConnectError
from quicio.quic import endpoint as core
from quicio.quic.client_hello import ClientHello, ClientHelloError
from quicio.quic.configuration import QuicConfiguration
from quicio.udp.socket import UdpSocket

__all__ = ["Incoming", "Listener", "Listening", "listen", "retry_under_load", "serve"]

logger: logging.Logger = logging.getLogger("quicio")

ApplicationFactory = Callable[[Link], Application]

MAX_BACKLOG: Final = 128  # attempts that wait for accept(); beyond it they are refused


class Incoming:
    """An attempt to connect, not yet accepted. Exactly one decision is made on it; undecided, it is ignored in the end."""

    def __init__(self, attempt: core.Incoming, driver: Driver, listener: Listener) -> None:
        self._attempt = attempt
        self._driver = driver
        self._listener = listener
        self._is_decided = False
        self._changed = Gate()  # more of the client's packets came, or the attempt was decided on
        self.connection: BaseConnection | None = None  # once accepted

    @property
    def remote_address(self) -> Address:
        """Where the attempt comes from; it may be forged unless `address_validated`."""
        return cast(Address, self._attempt.remote_address)

    @property
    def local_address(self) -> Address:
        """Where it arrived."""
        host, port = self._driver.local_address
        local = self._attempt.local_address
        return (local if isinstance(local, str) else host, port)

    @property
    def address_validated(self) -> bool:
        """Whether the client has shown, by a token, that it receives at its address (RFC 9000 §8.1)."""
        return self._attempt.address_validated

    @property
    def version(self) -> int:
        """The QUIC version of the client's first packet."""
        return self._attempt.version

    @property
    def is_decided(self) -> bool:
        """Whether a decision was made."""
        return self._is_decided

    def __repr__(self) -> str:
        return f"<Incoming from {self.remote_address}>"

    async def client_hello(self) -> ClientHello:
        """What the client asks for, before any decision: the server's name and the application protocols.

        It may take several packets. Raises `RuntimeError` while the client's address is not validated (`retry()` first: forged
        addresses shall cost nothing), and after a decision; `ConnectError` when the client sent no such message, or one that
        is not whole within eight datagrams and `handshake_timeout`.
        """
        await checkpoint()
        if self._is_decided:
            raise RuntimeError("a decision was made on this attempt already: ask for the ClientHello before it")
        attempt = self._attempt
        while not attempt.is_decided:
            try:
                hello = attempt.client_hello()
            except ClientHelloError as error:
                raise ConnectError(str(error)) from error
            if hello is not None:
                return hello
            if attempt.is_full:
                raise ConnectError(f"the ClientHello is not whole in {core.MAX_INCOMING_DATAGRAMS} datagrams")
            attempt.on_change = self._on_change
            await self._changed.wait()
        raise ConnectError("the attempt has ended before its ClientHello was whole")

    def _on_change(self) -> None:
        self._changed.set()
        self._changed = Gate()

    def accept(self, configuration: QuicConfiguration | None = None) -> AbstractAsyncContextManager[Connection]:
        """Accept: `async with incoming.accept() as connection:` does the handshake and ends the connection by rule R4.

        `configuration` replaces the listener's. With `accept_early_data` the body starts with a client's early data, before
        the handshake is complete: see `ReceiveStream.early_data` and `Connection.wait_handshake`. Entering raises
        `ConnectError` or a subclass when the handshake fails, or when nobody had decided for `handshake_timeout` seconds.
        """
        if configuration is not None:
            configuration = server_configuration(configuration)
        self._decide()
        return Accepting(self, configuration or self._listener.configuration)

    def retry(self) -> None:
        """Have the client validate its address first, at the cost of a round trip (RFC 9000 §8.1.2)."""
        if self.address_validated:
            raise RuntimeError("the client's address is validated already: accept or refuse it (RFC 9000 §17.2.5.2)")
        self._decide()
        if not self._attempt.is_decided:
            self._attempt.retry()
            self._driver.settle()

    def refuse(self) -> None:
        """Refuse with CONNECTION_REFUSED: the client learns of it at once."""
        self._decide()
        if not self._attempt.is_decided:
            self._attempt.refuse()
            self._driver.settle()

    def ignore(self) -> None:
        """Drop it: the client will try again and then time out."""
        self._decide()
        if not self._attempt.is_decided:
            self._attempt.ignore()

    def _decide(self) -> None:
        if self._is_decided:
            raise RuntimeError("a decision was made on this attempt already: accept, retry, refuse or ignore it once")
        self._is_decided = True

    async def _handshake(self, configuration: QuicConfiguration) -> BaseConnection:
        """Start the connection and wait until its handshake is complete."""
        await checkpoint()
        driver = self._driver
        if self._attempt.is_decided or driver.is_stopped:
            raise ConnectError("the attempt was not accepted in time")
        quic = self._attempt.accept(configuration)
        link = driver.adopt(quic)
        listener = self._listener
        self.connection = connection = listener.connection_type(link, configuration, application=listener.application)
        link.drain()
        link.flush()
        try:
            await link.wait_usable()
        except anyio.get_cancelled_exc_class():
            link.close(configuration.codes.cancelled)
            raise
        return connection


class Accepting(Scope[Connection]):
    """The scope of one accepted connection. It owns no tasks: the endpoint's driver serves it."""

    verb = "accept"

    def __init__(self, incoming: Incoming, configuration: QuicConfiguration) -> None:
        self._incoming = incoming
        self._configuration = configuration

    async def _enter(self) -> Connection:
        if self._incoming.connection is not None:
            raise RuntimeError("accept() can be entered once")
        return cast(Connection, await self._incoming._handshake(self._configuration))

    async def _leave(self, error: BaseException | None) -> None:
        assert self._incoming.connection is not None
        await self._incoming.connection.leave(error)


def retry_under_load(incoming: Incoming) -> None:
    """The default policy: while many handshakes are unfinished, have clients validate their addresses first."""
    if not incoming.address_validated and incoming._attempt.is_under_load:
        incoming.retry()


Policy = Callable[[Incoming], None]


class Listener(AnyioListener[Connection]):
    """Accepts connections on one or more sockets."""

    def __init__(
        self,
        drivers: list[Driver],
        configuration: QuicConfiguration,
        policy: Policy,
        application: ApplicationFactory | None = None,
        connection_type: type[BaseConnection] = Connection,
    ) -> None:
        self.configuration = configuration
        self.application = application
        self.connection_type = connection_type  # what handlers get: a face's own
        self._drivers = drivers
        self._policy = policy
        self._attempts: Mailbox[Incoming] = Mailbox("accepting connections from")
        for driver in drivers:
            self._attach(driver)

    def _attach(self, driver: Driver) -> None:
        driver.on_failure.append(lambda: self._on_failure(driver))
        driver.endpoint.listen(self.configuration, lambda attempt: self._on_attempt(attempt, driver))

    @property
    def local_address(self) -> Address:
        """The address listened on; with several sockets the first one's. Their port is the same."""
        return self._drivers[0].local_address

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """`SocketAttribute`, without `raw_socket`."""
        return {
            SocketAttribute.family: lambda: self._drivers[0].engine.family,
            SocketAttribute.local_address: lambda: self.local_address,
            SocketAttribute.local_port: lambda: self.local_address[1],
        }

    def __repr__(self) -> str:
        return f"<Listener on {self.local_address}>"

    def _on_attempt(self, attempt: core.Incoming, driver: Driver) -> None:
        incoming = Incoming(attempt, driver, self)
        try:
            self._policy(incoming)
        except Exception:
            logger.exception("the policy failed on %r, which is ignored", incoming)
            if not incoming.is_decided:
                incoming.ignore()
        if incoming.is_decided:
            return
        if self._attempts.is_ended or len(self._attempts.items) >= MAX_BACKLOG:
            incoming.refuse()
        else:
            self._attempts.put(incoming)

    def _on_failure(self, driver: Driver) -> None:
        """A socket's driver has failed: who waits for connections shall not wait for ever."""
        failure = driver.failure

        def error() -> Exception:
            result = anyio.BrokenResourceError(f"the listener on {self.local_address} has failed: {failure!r}")
            result.__cause__ = failure
            return result

        self._end(error)

    async def accept(self) -> Incoming:
        """The next attempt that the policy left undecided. Raises `EndOfStream` after `aclose()`, `BrokenResourceError` when
        the listener's socket has failed."""
        return await self._attempts.get()

    async def __aiter__(self) -> AsyncIterator[Incoming]:
        """The attempts that the policy leaves undecided, until `aclose()`."""
        while True:
            try:
                incoming = await self.accept()
            except anyio.EndOfStream:
                return
            yield incoming

    async def serve(
        self, handler: Handler[Connection], task_group: TaskGroup | None = None, *, on_error: OnError = log_error
    ) -> None:
        """Accept every attempt and run `handler(connection)` in a task for each, until `aclose()`.

        When a handler returns, its connection is closed gracefully; when it raises, at once with "internal error". What the
        peer caused is logged, failed handshakes included; any other exception goes to `task_group` if given, else to
        `on_error(exception, connection)`: what that raises cancels the handlers and leaves from here. When the listener's
        socket fails it raises `BrokenResourceError`.
        """

        async def run(incoming: Incoming) -> None:
            async with incoming.accept() as connection:
                await handler(connection)

        def report(error: Exception, incoming: Incoming) -> None:
            on_error(error, incoming.connection)

        await serve_each(self._accept_one, run, task_group, report)

    async def _accept_one(self) -> tuple[Incoming]:
        return (await self.accept(),)

    @property
    def is_closed(self) -> bool:
        """Whether it has stopped accepting."""
        return self._attempts.is_ended

    async def aclose(self) -> None:
        """Stop accepting: what waits is refused, what comes is refused; `serve` returns once its handlers have."""
        self.close()
        await checkpoint()

    def close(self) -> None:
        """As `aclose()`, without waiting."""
        self._end(anyio.EndOfStream)

    def _end(self, error: Callable[[], Exception]) -> None:
        if self._attempts.is_ended:
            return
        self._attempts.end(error)
        while self._attempts.items:
            self._attempts.items.popleft().refuse()
        for driver in self._drivers:
            driver.endpoint.stop_listening()
            driver.settle()


def listen(
    host: str | None,
    port: int,
    *,
    configuration: QuicConfiguration,
    policy: Policy = retry_under_load,
    socket: socket_module.socket | None = None,
    reuse_port: bool = False,
) -> AbstractAsyncContextManager[Listener]:
    """Listen for connections: `async with listen(...) as listener:`.

    `host` None listens on all addresses of both families; a name, on each of its addresses with one port. `port` 0 lets the
    system choose; `socket`, a bound UDP socket, takes the place of both and is closed in the end. `policy` is called with each
    `Incoming`, and may retry, refuse or ignore it; by default clients validate their addresses first while many handshakes are
    unfinished (RFC 9000 §8.1.2). `reuse_port` shares the port with other processes that ask for it (SO_REUSEPORT).

    The call raises `ValueError` for a port that is none and for a configuration without ALPN protocols or certificate;
    entering raises `OSError`, naming the address, when it cannot be had. Left normally, the listener takes no more
    connections, gives those it has `configuration.linger` seconds, then closes them; left by an exception or by cancellation
    it closes them at once.
    """
    return Listening(
        host, port, server_configuration(configuration), policy=policy, socket=socket, reuse_port=reuse_port
    )


def server_configuration(configuration: QuicConfiguration) -> QuicConfiguration:
    """The copy of the configuration that connections are accepted with. Raises `ValueError`."""
    if not configuration.alpn_protocols:
        raise ValueError("give the application protocols: alpn_protocols=['...'] in the configuration")
    result = configuration.replaced(is_client=False)
    result.validate()
    return result


class Listening(Scope[Listener]):
    """The scope of a listener: its sockets, their drivers, and the end of its connections."""

    verb = "listen"

    def __init__(
        self,
        host: str | None,
        port: int,
        configuration: QuicConfiguration,
        *,
        policy: Policy = retry_under_load,
        socket: socket_module.socket | None = None,
        reuse_port: bool = False,
        application: ApplicationFactory | None = None,
        connection_type: type[BaseConnection] = Connection,
        linger: float | None = None,
    ) -> None:
        if not 0 <= port < 65536:
            raise ValueError(f"{port} is no port to listen on: ports are 1 to 65535, 0 lets the system choose")
        self._host = host
        self._port = port
        self._configuration = configuration
        self._policy = policy
        self._socket = socket
        self._reuse_port = reuse_port
        self._application = application
        self._connection_type = connection_type
        self._linger = configuration.linger if linger is None else linger
        self._drivers: list[Driver] = []
        self._group: TaskGroup | None = None
        self._listener: Listener | None = None

    async def _enter(self) -> Listener:
        if self._group is not None:
            raise RuntimeError("listen() can be entered once: call it again for another listener")
        self._group = group = anyio.create_task_group()
        await group.__aenter__()
        try:
            for udp in await self._bind():
                driver = Driver(
                    udp,
                    core.Endpoint(
                        connection_id_length=self._configuration.connection_id_length,
                        memory_limit=self._configuration.endpoint_memory_limit,
                    ),
                )
                driver.start(group)
                self._drivers.append(driver)
            self._listener = Listener(
                self._drivers, self._configuration, self._policy, self._application, self._connection_type
            )
        except BaseException:
            self._stop_drivers()
            await leave_group(group)
            raise
        return self._listener

    async def _bind(self) -> list[UdpSocket]:
        if self._socket is not None:
            await checkpoint()
            return [UdpSocket(self._socket)]
        bound: list[UdpSocket] = []
        port = self._port
        try:
            for host in await resolve_local(self._host, port):
                bound.append(bind(host, port, reuse_port=self._reuse_port))
                port = bound[0].local_address[1]
        except BaseException as error:
            for udp in bound:
                udp.close()
            if isinstance(error, OSError):
                told = f"cannot listen on {'any address' if self._host is None else self._host} port {port}: {error.strerror}"
                raise type(error)(error.errno, told) from error
            raise
        return bound

    async def _leave(self, error: BaseException | None) -> None:
        listener, group = self._listener, self._group
        assert listener is not None
        assert group is not None
        listener.close()
        try:
            await end_drivers(self._drivers, error, self._configuration.codes, self._linger)
        finally:
            await leave_group(group)

    def _stop_drivers(self) -> None:
        for driver in self._drivers:
            driver.stop()


async def serve(
    handler: Handler[Connection],
    host: str | None,
    port: int,
    *,
    configuration: QuicConfiguration,
    on_error: OnError = log_error,
    task_status: TaskStatus[Listener] = TASK_STATUS_IGNORED,
) -> None:
    """Listen, and run `handler(connection)` in a task for each connection, until cancelled or the listener is closed.

    `await task_group.start(serve, ...)` returns the `Listener` once its sockets are bound. Handlers end as
    `Listener.serve` says; `host`, `port` and `configuration` are those of `listen`, which also says what is raised. Cancelled,
    it cancels the handlers and closes their connections at once.
    """
    async with listen(host, port, configuration=configuration) as listener:
        task_status.started(listener)
        await listener.serve(handler, on_error=on_error)
