"""`listen`, `serve`, `Incoming`: accepting by hand and by handler, policies, and how servers end."""

from __future__ import annotations

import errno
import logging
import socket
from functools import partial
from typing import Any

import anyio
import pytest
from anyio.abc import Listener as AnyioListener
from anyio.abc import SocketAttribute

from helpers.loopback import ALPN, HOST, client_configuration, identity, read_all, server_configuration, serving
from quicio.anyio import Connection, Incoming, Listener, connect, listen, retry_under_load, serve
from quicio.anyio.addresses import bind
from quicio.anyio.server import MAX_BACKLOG
from quicio.errors import ConnectError
from quicio.quic.configuration import QuicConfiguration

pytestmark = pytest.mark.anyio

OTHER_AUTHORITY = identity(("other.test",))[0].chain_pem


async def visit(listener: Listener, **options: Any) -> str:
    """Connect, do nothing, leave; the outcome in a word."""
    configuration = client_configuration(**({"handshake_timeout": 5.0} | options))
    try:
        async with connect(HOST, listener.local_address[1], configuration=configuration):
            return "connected"
    except ConnectError as error:
        return type(error).__name__


async def stay(connection: Connection) -> None:
    await connection.wait_closed()


# --- configuration ---------------------------------------------------------------------------------------------------


async def test_listen_is_not_awaitable() -> None:
    scope: Any = listen(HOST, 0, configuration=server_configuration())
    with pytest.raises(TypeError, match="async with listen"):
        await scope


async def test_configuration_is_checked_at_the_call() -> None:
    with pytest.raises(ValueError, match="alpn"):
        listen(HOST, 0, configuration=QuicConfiguration(is_client=False))
    with pytest.raises(ValueError, match="certificate"):
        listen(HOST, 0, configuration=QuicConfiguration(is_client=False, alpn_protocols=ALPN))


async def test_a_scope_is_entered_once() -> None:
    scope = listen(HOST, 0, configuration=server_configuration())
    async with scope as listener:
        assert isinstance(listener, AnyioListener)
        with pytest.raises(RuntimeError, match="once"):
            await scope.__aenter__()


async def test_an_address_that_is_taken_raises_oserror_and_leaves_nothing_behind() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((HOST, 0))
        host, port = taken.getsockname()
        with pytest.raises(OSError, match=f"cannot listen on {host} port {port}: .* in use") as caught:
            async with listen(host, port, configuration=server_configuration()):
                pass
        assert caught.value.errno == errno.EADDRINUSE


@pytest.mark.parametrize("port", [-1, 65536])
async def test_a_port_that_is_none(port: int) -> None:
    with pytest.raises(ValueError, match="no port to listen on"):
        listen(HOST, port, configuration=server_configuration())


async def test_all_addresses_of_both_families_on_one_port() -> None:
    async with anyio.create_task_group() as group:
        run = partial(serve, stay, None, 0, configuration=server_configuration())
        listener: Listener = await group.start(run)
        port = listener.local_address[1]
        async with connect(HOST, port, configuration=client_configuration()) as connection:
            assert connection.remote_address == (HOST, port)
        assert listener.extra(SocketAttribute.local_port) == port
        assert str(port) in repr(listener)
        group.cancel_scope.cancel()


async def test_a_name_is_listened_on_with_each_of_its_addresses() -> None:
    async with anyio.create_task_group() as group:
        run = partial(serve, stay, "localhost", 0, configuration=server_configuration())
        listener: Listener = await group.start(run)
        async with connect("localhost", listener.local_address[1], configuration=client_configuration()):
            pass
        group.cancel_scope.cancel()


async def test_a_socket_of_ones_own() -> None:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((HOST, 0))
    address = sock.getsockname()
    async with listen(None, 0, configuration=server_configuration(), socket=sock) as listener:
        assert listener.local_address == listener.extra(SocketAttribute.local_address) == address
        assert listener.extra(SocketAttribute.family) == socket.AF_INET
    assert sock.fileno() == -1


# --- by hand ---------------------------------------------------------------------------------------------------------


async def test_accepting_by_hand() -> None:
    async with (
        listen(HOST, 0, configuration=server_configuration()) as listener,
        anyio.create_task_group() as group,
    ):

        async def client() -> None:
            async with connect(*listener.local_address, configuration=client_configuration()) as connection:
                async with await connection.open_stream() as stream:
                    await stream.send(b"hello")
                assert (await connection.wait_closed()).code == 0

        group.start_soon(client)
        incoming = await listener.accept()
        assert incoming.version == 1
        assert incoming.local_address == listener.local_address
        assert incoming.remote_address[0] == HOST
        assert not incoming.address_validated
        assert "Incoming" in repr(incoming)
        async with incoming.accept() as connection:
            assert connection.remote_address == incoming.remote_address
            async with await connection.incoming_streams.receive() as stream:
                assert await read_all(stream) == b"hello"
        for decide in (incoming.refuse, incoming.retry, incoming.ignore, incoming.accept):
            with pytest.raises(RuntimeError, match="decision"):
                decide()


async def test_a_configuration_for_one_connection() -> None:
    async with (
        listen(HOST, 0, configuration=server_configuration()) as listener,
        anyio.create_task_group() as group,
    ):

        async def client() -> None:
            configuration = client_configuration(alpn_protocols=["special"])
            async with connect(*listener.local_address, configuration=configuration) as connection:
                await connection.wait_closed()

        group.start_soon(client)
        incoming = await listener.accept()
        with pytest.raises(ValueError, match="alpn"):
            incoming.accept(QuicConfiguration())
        scope = incoming.accept(server_configuration(alpn_protocols=["special"]))
        async with scope as connection:
            assert (await connection.wait_handshake()).resumed is False
            with pytest.raises(RuntimeError, match="once"):
                await scope.__aenter__()


async def test_iteration_ends_when_the_listener_is_closed() -> None:
    async with (
        listen(HOST, 0, configuration=server_configuration()) as listener,
        anyio.create_task_group() as group,
    ):
        seen: list[Incoming] = []

        async def close() -> None:
            await visit(listener)
            await listener.aclose()
            await listener.aclose()

        group.start_soon(close)
        async for incoming in listener:
            seen.append(incoming)
            incoming.refuse()
        assert len(seen) == 1


async def test_accept_in_a_second_task_is_busy() -> None:
    async with listen(HOST, 0, configuration=server_configuration()) as listener, anyio.create_task_group() as group:
        group.start_soon(listener.accept)
        await anyio.sleep(0.01)
        with pytest.raises(anyio.BusyResourceError):
            await listener.accept()
        group.cancel_scope.cancel()


async def test_refused_by_hand_and_on_close() -> None:
    async with (
        listen(HOST, 0, configuration=server_configuration()) as listener,
        anyio.create_task_group() as group,
    ):
        outcomes: list[str] = []

        async def client() -> None:
            outcomes.append(await visit(listener))

        group.start_soon(client)
        (await listener.accept()).refuse()
        group.start_soon(client)
        while not listener._attempts.items:
            await anyio.sleep(0.005)
        with anyio.fail_after(2):
            await listener.aclose()  # refuses what waits
            while len(outcomes) < 2:
                await anyio.sleep(0.005)
        assert outcomes == ["ConnectError", "ConnectError"]


async def test_undecided_attempts_are_ignored_at_the_handshake_timeout() -> None:
    async with (
        listen(HOST, 0, configuration=server_configuration(handshake_timeout=0.1)) as listener,
        anyio.create_task_group() as group,
    ):
        group.start_soon(partial(visit, listener, handshake_timeout=0.3))
        first = await listener.accept()
        await anyio.sleep(0.3)
        with pytest.raises(ConnectError, match="in time"):
            async with first.accept():
                pytest.fail("too late")
        second = Incoming(first._attempt, first._driver, listener)
        second.refuse()  # nothing happens any more, and nothing is raised
        Incoming(first._attempt, first._driver, listener).ignore()
        Incoming(first._attempt, first._driver, listener).retry()


async def test_the_backlog_is_bounded_and_refuses_beyond() -> None:
    """Security row 11: attempts that nobody accepts do not pile up."""
    async with listen(HOST, 0, configuration=server_configuration()) as listener:
        while len(listener._attempts.items) < MAX_BACKLOG:
            listener._attempts.put(Incoming(None, listener._drivers[0], listener))  # type: ignore[arg-type]  # never looked at
        assert await visit(listener) == "ConnectError"
        assert len(listener._attempts.items) == MAX_BACKLOG
        listener._attempts.items.clear()


# --- policies --------------------------------------------------------------------------------------------------------


async def test_policies_retry_refuse_ignore_and_leave() -> None:
    seen: list[bool] = []

    def once_more(incoming: Incoming) -> None:
        seen.append(incoming.address_validated)
        if not incoming.address_validated:
            incoming.retry()
        else:
            with pytest.raises(RuntimeError, match="validated"):
                incoming.retry()

    def refuse(incoming: Incoming) -> None:
        incoming.refuse()

    def ignore(incoming: Incoming) -> None:
        incoming.ignore()

    def leave(incoming: Incoming) -> None:
        assert not incoming.is_decided

    expected = {once_more: "connected", refuse: "ConnectError", ignore: "HandshakeTimeout", leave: "connected"}
    for policy, outcome in expected.items():
        async with (
            listen(HOST, 0, configuration=server_configuration(), policy=policy) as listener,
            anyio.create_task_group() as group,
        ):
            group.start_soon(listener.serve, stay)
            assert await visit(listener, handshake_timeout=0.3 if policy is ignore else 5.0) == outcome
            group.cancel_scope.cancel()
    assert seen[0] is False  # once for each datagram of the client's first flight
    assert seen[-1] is True


async def test_a_policy_that_fails_is_logged_and_ignores(caplog: pytest.LogCaptureFixture) -> None:
    def fail(incoming: Incoming) -> None:
        raise LookupError("of the policy")

    async with listen(HOST, 0, configuration=server_configuration(), policy=fail) as listener:
        assert await visit(listener, handshake_timeout=0.3) == "HandshakeTimeout"
        assert listener._drivers[0].failure is None
    assert "policy" in caplog.text


async def test_the_default_policy_retries_under_load() -> None:
    async with (
        listen(HOST, 0, configuration=server_configuration(), policy=retry_under_load) as listener,
        anyio.create_task_group() as group,
    ):
        group.start_soon(visit, listener)
        incoming = await listener.accept()
        listener._drivers[0].endpoint.half_open.limit = 0  # any number is load now
        retry_under_load(incoming)
        assert incoming.is_decided
        group.cancel_scope.cancel()


# --- serve -----------------------------------------------------------------------------------------------------------


async def test_a_handlers_connection_is_closed_gracefully_when_it_returns() -> None:
    async def handler(connection: Connection) -> None:
        stream = await connection.open_stream()
        await stream.send(bytes(200_000))
        # no close, no wait: the data and a FIN must still arrive
        connection_streams.append(stream)

    connection_streams: list[Any] = []
    async with serving(handler) as listener:
        async with connect(*listener.local_address, configuration=client_configuration()) as connection:
            async with await connection.incoming_streams.receive() as stream:
                assert len(await read_all(stream)) == 200_000
            assert (await connection.wait_closed()).code == 0


async def test_a_handler_that_raises_closes_with_internal_error_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(connection: Connection) -> None:
        raise LookupError("of the handler")

    async with serving(handler) as listener:
        for _ in range(2):  # the server goes on
            async with connect(*listener.local_address, configuration=client_configuration()) as connection:
                assert (await connection.wait_closed()).code == 1
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 2
    assert "Connection" in errors[0].getMessage()


async def test_what_the_peer_caused_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    has_ended = anyio.Event()

    async def handler(connection: Connection) -> None:
        try:
            await connection.incoming_streams.receive()
        finally:
            has_ended.set()

    async with serving(handler) as listener:
        async with connect(*listener.local_address, configuration=client_configuration()) as connection:
            connection.close(99, "rude")
        await has_ended.wait()
        assert await visit(listener, cadata=OTHER_AUTHORITY) == "CertificateError"  # a failed handshake
        await anyio.sleep(0.05)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_what_on_error_raises_leaves_serve_unwrapped() -> None:
    async def handler(connection: Connection) -> None:
        raise LookupError("of the handler")

    def crash(error: Exception, connection: object) -> None:
        assert isinstance(connection, Connection)
        raise error

    async with listen(HOST, 0, configuration=server_configuration()) as listener, anyio.create_task_group() as group:
        group.start_soon(visit, listener)
        with pytest.raises(LookupError, match="of the handler"):
            await listener.serve(handler, on_error=crash)


async def test_handlers_in_a_task_group_of_ones_own() -> None:
    async def handler(connection: Connection) -> None:
        raise LookupError("of the handler")

    with pytest.raises(ExceptionGroup) as caught:
        async with (
            listen(HOST, 0, configuration=server_configuration()) as listener,
            anyio.create_task_group() as group,
        ):
            group.start_soon(visit, listener)
            await listener.serve(handler, group)
    assert caught.group_contains(LookupError)


async def test_serve_ends_after_aclose_once_its_handlers_have() -> None:
    async def handler(connection: Connection) -> None:
        async with await connection.incoming_streams.receive() as stream:
            await stream.send(await read_all(stream))
        handled.append(True)

    handled: list[bool] = []
    async with anyio.create_task_group() as group:  # ends by itself
        run = partial(serve, handler, HOST, 0, configuration=server_configuration())
        listener: Listener = await group.start(run)
        async with connect(*listener.local_address, configuration=client_configuration()) as connection:
            async with await connection.open_stream() as stream:
                await stream.send(b"last words")
                while not connection.statistics().packets_received:
                    await anyio.sleep(0.01)
                await listener.aclose()
                await stream.send_eof()
                assert await read_all(stream) == b"last words"
    assert handled == [True]


async def test_cancelling_serve_closes_connections_with_cancelled() -> None:
    started = anyio.Event()

    async def handler(connection: Connection) -> None:
        started.set()
        await anyio.sleep_forever()

    async def client(address: tuple[str, int]) -> None:
        async with connect(*address, configuration=client_configuration()) as connection:
            codes.append((await connection.wait_closed()).code)

    codes: list[int] = []
    async with anyio.create_task_group() as clients, anyio.create_task_group() as group:
        run = partial(serve, handler, HOST, 0, configuration=server_configuration())
        listener: Listener = await group.start(run)
        clients.start_soon(client, listener.local_address)
        await started.wait()
        group.cancel_scope.cancel()
    assert codes == [2]


@pytest.mark.parametrize("how", ["normally", "by an exception", "by cancellation"])
async def test_leaving_listen_ends_its_connections(how: str) -> None:
    codes: list[int] = []

    async def client(address: tuple[str, int]) -> None:
        async with connect(*address, configuration=client_configuration()) as connection:
            codes.append((await connection.wait_closed()).code)

    async with anyio.create_task_group() as group:
        try:
            with anyio.move_on_after(0.3 if how == "by cancellation" else 10):
                async with listen(HOST, 0, configuration=server_configuration(linger=0.1)) as listener:
                    group.start_soon(client, listener.local_address)
                    incoming = await listener.accept()
                    await incoming.accept().__aenter__()  # left open: the scope of the listener must see to it
                    if how == "by an exception":
                        raise LookupError("of the body")
                    if how == "by cancellation":
                        await anyio.sleep_forever()
        except LookupError:
            assert how == "by an exception"
    assert codes == [{"normally": 0, "by an exception": 1, "by cancellation": 2}[how]]


async def test_accepting_is_cancellable() -> None:
    async with listen(HOST, 0, configuration=server_configuration()) as listener, anyio.create_task_group() as group:
        group.start_soon(visit, listener)
        incoming = await listener.accept()
        with anyio.CancelScope() as scope:
            scope.cancel()
            async with incoming.accept():
                pytest.fail("cancelled")
        assert scope.cancelled_caught
        group.cancel_scope.cancel()


async def test_a_client_that_leaves_during_the_handshake() -> None:
    async with listen(HOST, 0, configuration=server_configuration()) as listener, anyio.create_task_group() as group:
        group.start_soon(partial(visit, listener, cadata=OTHER_AUTHORITY))
        incoming = await listener.accept()
        with pytest.raises(ConnectError):
            async with incoming.accept():
                pytest.fail("the client does not trust us")


async def test_cancelled_in_the_middle_of_the_handshake() -> None:
    outcomes: list[str] = []
    async with listen(HOST, 0, configuration=server_configuration()) as listener, anyio.create_task_group() as group:

        async def client() -> None:
            outcomes.append(await visit(listener))

        group.start_soon(client)
        incoming = await listener.accept()
        real = incoming._driver.settle
        incoming._driver.settle = lambda: None  # type: ignore[method-assign]  # the server's flight stays unsent
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as inner:

                async def cancel() -> None:
                    await anyio.sleep(0.02)
                    incoming._driver.settle = real  # type: ignore[method-assign]  # as it was
                    scope.cancel()

                inner.start_soon(cancel)
                async with incoming.accept():
                    pytest.fail("the handshake could not complete")
        assert scope.cancelled_caught
    assert outcomes == ["ConnectError"]


async def test_one_address_of_a_name_that_cannot_be_had_gives_the_others_back(monkeypatch: pytest.MonkeyPatch) -> None:
    bound: list[Any] = []

    async def two(host: str | None, port: int) -> list[str | None]:
        return [HOST, "192.0.2.1"]  # the second is nobody's here

    def remember(*arguments: Any, **options: Any) -> Any:
        bound.append(bind(*arguments, **options))
        return bound[-1]

    monkeypatch.setattr("quicio.anyio.server.resolve_local", two)
    monkeypatch.setattr("quicio.anyio.server.bind", remember)
    with pytest.raises(OSError, match="assign"):
        async with listen("a-name.test", 0, configuration=server_configuration()):
            pytest.fail("half a name is not enough")
    assert [udp.fileno() for udp in bound] == [-1]
