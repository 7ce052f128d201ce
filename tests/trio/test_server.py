"""`open_quic_listeners`, `QuicListener` and `serve_quic`. Only trio's errors are caught."""

from __future__ import annotations

import errno
import logging
import socket
from functools import partial
from typing import Any

import pytest
import trio

from helpers.loopback import ALPN, HOST, client_configuration, identity, server_configuration
from helpers.trio_loopback import read_all, serving
from quicio.quic.configuration import QuicConfiguration
from quicio.trio import Connection, QuicListener, open_quic_connection, open_quic_listeners, serve_quic
from quicio.trio import server as server_module
from quicio.udp.socket import UdpSocket

pytestmark = pytest.mark.anyio


async def listening(nursery: trio.Nursery, **changes: Any) -> QuicListener:
    listeners = await open_quic_listeners(nursery, 0, host=HOST, configuration=server_configuration(**changes))
    assert len(listeners) == 1
    return listeners[0]


async def echo(connection: Connection) -> None:
    async def answer(stream: Any) -> None:
        await stream.send_all(await read_all(stream))

    await connection.incoming_streams.serve(answer)


async def ask(listener: QuicListener, question: bytes = b"hello", **changes: Any) -> bytes:
    """What comes back on a connection of one's own."""
    configuration = client_configuration(**changes)
    async with open_quic_connection(*listener.local_address, configuration=configuration) as connection:
        async with await connection.open_stream() as stream:
            await stream.send_all(question)
            await stream.send_eof()
            return await read_all(stream)


# --- listeners -------------------------------------------------------------------------------------------------------


async def test_trios_own_server_serves_the_listeners() -> None:
    async with trio.open_nursery() as nursery:
        listener = await listening(nursery)
        assert isinstance(listener, trio.abc.Listener)
        assert str(listener.local_address[1]) in repr(listener)

        async def handle(connection: Connection) -> None:
            async with connection:
                await echo(connection)

        await nursery.start(trio.serve_listeners, handle, [listener])
        assert await ask(listener) == b"hello"
        assert await ask(listener, b"again") == b"again"
        nursery.cancel_scope.cancel()


async def test_without_a_scope_of_its_own_trios_server_closes_a_connection_forcefully() -> None:
    async with trio.open_nursery() as nursery:
        listener = await listening(nursery)

        async def handle(connection: Connection) -> None:
            await connection.ping()

        await nursery.start(trio.serve_listeners, handle, [listener])
        async with open_quic_connection(*listener.local_address, configuration=client_configuration()) as connection:
            assert (await connection.wait_closed()).code == 2
        nursery.cancel_scope.cancel()


async def test_accept_gives_connections_whose_handshake_is_complete() -> None:
    async with trio.open_nursery() as nursery:
        listener = await listening(nursery)
        nursery.start_soon(ask, listener)
        async with await listener.accept() as connection:
            assert connection.remote_address[0] == HOST
            assert not (await connection.wait_handshake()).resumed
            await echo(connection)
        await listener.aclose()


async def test_a_slow_or_failing_handshake_holds_up_nobody(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "quicio")
    async with trio.open_nursery() as nursery:
        listener = await listening(nursery)
        stranger = client_configuration(cadata=identity(("other.test",))[0].chain_pem)
        with pytest.raises(OSError, match=r"."):
            async with open_quic_connection(*listener.local_address, configuration=stranger):
                pytest.fail("it does not trust the server")
        nursery.start_soon(ask, listener)
        with trio.fail_after(5):
            async with await listener.accept() as connection:
                await echo(connection)
        await listener.aclose()
    assert any("handshake" in record.getMessage() for record in caplog.records)


async def test_one_task_accepts_and_closing_wakes_it() -> None:
    async with trio.open_nursery() as nursery:
        listener = await listening(nursery)

        async def expect_closed() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await listener.accept()

        nursery.start_soon(expect_closed)
        await trio.sleep(0.02)
        with pytest.raises(trio.BusyResourceError):
            await listener.accept()
        await listener.aclose()
        await listener.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await listener.accept()


async def test_closing_turns_away_what_waits_and_what_comes() -> None:
    async with trio.open_nursery() as nursery:
        listener = await listening(nursery)
        async with open_quic_connection(*listener.local_address, configuration=client_configuration()) as waiting:
            await waiting.ping()
            await trio.sleep(0.05)
            await listener.aclose()
            assert (await waiting.wait_closed()).code == 2
        with pytest.raises(OSError, match=r"."):
            await ask(listener, handshake_timeout=0.2)


async def test_the_host_stays_until_accepted_connections_have_ended() -> None:
    async with trio.open_nursery() as nursery:
        listener = await listening(nursery, linger=0.05)
        configuration = client_configuration()
        async with open_quic_connection(*listener.local_address, configuration=configuration) as client:
            connection = await listener.accept()
            await listener.aclose()
            await trio.sleep(0.3)  # longer than the linger
            assert nursery.child_tasks
            async with await client.open_stream() as stream:
                await stream.send_all(b"still here")
            async with connection, await connection.incoming_streams.receive() as theirs:
                assert await read_all(theirs) == b"still here"
        with trio.fail_after(1):
            while nursery.child_tasks:
                await trio.sleep(0.01)


async def test_cancelling_the_nursery_closes_all_at_once() -> None:
    async with trio.open_nursery() as outer:
        async with trio.open_nursery() as nursery:
            listener = await listening(nursery)
            configuration = client_configuration()
            client = await outer.start(_stay_connected, listener, configuration)
            connection = await listener.accept()
            nursery.cancel_scope.cancel()
        assert (await client.wait_closed()).code == 2
        with pytest.raises(trio.ClosedResourceError):
            await connection.open_stream()
        with pytest.raises(trio.ClosedResourceError):
            await listener.accept()


async def _stay_connected(
    listener: QuicListener, configuration: QuicConfiguration, *, task_status: trio.TaskStatus[Connection]
) -> None:
    async with open_quic_connection(*listener.local_address, configuration=configuration) as connection:
        task_status.started(connection)
        await connection.wait_closed()


async def test_connections_that_nobody_accepts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Security row 11: handshakes and waiting connections have MAX_WAITING places; the rest waits before TLS, bounded."""
    monkeypatch.setattr(server_module, "MAX_WAITING", 2)
    async with trio.open_nursery() as nursery:
        listener = await listening(nursery)
        async with trio.open_nursery() as clients:
            for _ in range(2):
                await clients.start(_stay_connected, listener, client_configuration())
            with pytest.raises(OSError, match="timed out"):
                await ask(listener, handshake_timeout=0.3)
            async with await listener.accept():  # makes a place
                await clients.start(_stay_connected, listener, client_configuration())
            clients.cancel_scope.cancel()
        await listener.aclose()


async def test_a_connection_that_completes_while_its_listener_closes_is_turned_away() -> None:
    async with trio.open_nursery() as nursery:
        listener = await listening(nursery)
        configuration = client_configuration()
        client = await nursery.start(_stay_connected, listener, configuration)
        await trio.sleep(0.05)
        ready = listener._ready.items.popleft()

        class Accepted:
            def accept(self) -> Any:
                return self

            async def __aenter__(self) -> Connection:
                return ready

        incoming: Any = Accepted()
        await listener.aclose()
        await listener._shake_hands(incoming)
        assert (await client.wait_closed()).code == 2


async def test_serve_closes_gracefully_and_ends_with_the_listener() -> None:
    caught: list[tuple[Exception, Any]] = []
    handled: list[Connection] = []

    async def handle(connection: Connection) -> None:
        handled.append(connection)
        if len(handled) == 2:
            raise LookupError("a bug")
        async with await connection.incoming_streams.receive() as stream:
            await stream.send_all(await read_all(stream))

    async with trio.open_nursery() as nursery:
        listener = await listening(nursery)

        async def serve() -> None:
            await listener.serve(handle, on_error=lambda error, who: caught.append((error, who)))
            handled.clear()

        nursery.start_soon(serve)
        assert await ask(listener) == b"hello"  # the reply was delivered though the handler returned at once
        async with open_quic_connection(*listener.local_address, configuration=client_configuration()) as connection:
            assert (await connection.wait_closed()).code == 1
        assert [(type(error), who) for error, who in caught] == [(LookupError, handled[1])]
        await listener.aclose()
    assert handled == []


async def test_serve_with_handlers_in_a_nursery_of_ones_own() -> None:
    async def handle(connection: Connection) -> None:
        raise LookupError("a bug")

    async with trio.open_nursery() as nursery:
        listener = await listening(nursery)
        with pytest.raises(ExceptionGroup) as caught:
            async with trio.open_nursery() as handlers:
                handlers.start_soon(listener.serve, handle, handlers)
                async with open_quic_connection(*listener.local_address, configuration=client_configuration()):
                    await trio.sleep(1)
        assert [type(error) for error in caught.value.exceptions] == [LookupError]
        await listener.aclose()


# --- configuration and addresses -------------------------------------------------------------------------------------


async def test_configuration_is_checked() -> None:
    async with trio.open_nursery() as nursery:
        with pytest.raises(ValueError, match="alpn"):
            await open_quic_listeners(nursery, 0, configuration=QuicConfiguration(is_client=False))
        with pytest.raises(ValueError, match="certificate"):
            await serve_quic(echo, 0, configuration=QuicConfiguration(is_client=False, alpn_protocols=ALPN))


async def test_an_address_that_is_taken_raises_oserror_never_in_a_group() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((HOST, 0))
        port = taken.getsockname()[1]
        async with trio.open_nursery() as nursery:
            with pytest.raises(OSError, match="in use"):
                await open_quic_listeners(nursery, port, host=HOST, configuration=server_configuration())
            with pytest.raises(OSError, match="in use"):
                await serve_quic(echo, port, host=HOST, configuration=server_configuration())


async def test_all_addresses_of_both_families_on_one_port() -> None:
    async with trio.open_nursery() as nursery:
        (listener,) = await open_quic_listeners(nursery, 0, configuration=server_configuration())
        nursery.start_soon(listener.serve, echo)
        port = listener.local_address[1]
        async with open_quic_connection(HOST, port, configuration=client_configuration()) as connection:
            assert connection.remote_address == (HOST, port)
        nursery.cancel_scope.cancel()


# --- serve_quic ------------------------------------------------------------------------------------------------------


async def test_serve_quic_answers_and_closes_gracefully() -> None:
    async def handle(connection: Connection) -> None:
        async with await connection.incoming_streams.receive() as stream:
            await stream.send_all(await read_all(stream))

    async with serving(handle) as listener:
        assert await ask(listener) == b"hello"
        with pytest.raises(trio.BusyResourceError, match="serve_quic"):
            await listener.accept()


async def test_what_a_handler_raises_is_logged_and_closes_with_internal_error(caplog: pytest.LogCaptureFixture) -> None:
    async def handle(connection: Connection) -> None:
        raise LookupError("a bug")

    async with serving(handle) as listener:
        async with open_quic_connection(*listener.local_address, configuration=client_configuration()) as connection:
            assert (await connection.wait_closed()).code == 1
        await trio.sleep(0.02)
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert errors[0].exc_info is not None
    assert errors[0].exc_info[0] is LookupError


async def test_what_the_peer_causes_ends_its_handler_alone(caplog: pytest.LogCaptureFixture) -> None:
    async def handle(connection: Connection) -> None:
        await echo(connection)

    async with serving(handle) as listener:
        async with open_quic_connection(*listener.local_address, configuration=client_configuration()) as connection:
            connection.close(99)
        assert await ask(listener) == b"hello"
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_handlers_in_a_nursery_of_ones_own() -> None:
    async def handle(connection: Connection) -> None:
        raise LookupError("a bug")

    with pytest.raises(ExceptionGroup) as caught:
        async with trio.open_nursery() as nursery, trio.open_nursery() as handlers:
            run = partial(
                serve_quic, handle, 0, host=HOST, configuration=server_configuration(), handler_nursery=handlers
            )
            (listener,) = await nursery.start(run)
            async with open_quic_connection(*listener.local_address, configuration=client_configuration()):
                await trio.sleep(1)
    assert caught.value.split(LookupError)[0] is not None


async def test_closing_the_listeners_shuts_down_gracefully() -> None:
    answered = trio.Event()

    async def handle(connection: Connection) -> None:
        async with await connection.incoming_streams.receive() as stream:
            question = await read_all(stream)
            await answered.wait()
            await stream.send_all(question)

    outcome: list[str] = []

    async def serve(*, task_status: trio.TaskStatus[list[QuicListener]]) -> None:
        try:
            await serve_quic(handle, 0, host=HOST, configuration=server_configuration(), task_status=task_status)
        except trio.ClosedResourceError as error:
            outcome.append(str(error))

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(serve)
        answers: list[bytes] = []

        async def client() -> None:
            answers.append(await ask(listener))

        nursery.start_soon(client)
        await trio.sleep(0.1)
        await listener.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await listener.accept()
        await trio.sleep(0.02)
        assert outcome == []
        answered.set()
    assert answers == [b"hello"]
    assert outcome == ["the listeners of serve_quic() were closed"]


async def test_cancelled_it_closes_all_connections_at_once() -> None:
    async with trio.open_nursery() as clients:
        async with serving(echo) as listener:
            client = await clients.start(_stay_connected, listener, client_configuration())
        assert (await client.wait_closed()).code == 2


class Overloaded(socket.socket):
    """A socket whose system is short of memory and buffers at every fifth call."""

    calls = 0
    refusals = 0

    def _look(self) -> None:
        Overloaded.calls += 1
        if Overloaded.calls % 5 == 0:
            Overloaded.refusals += 1
            raise OSError((errno.ENOBUFS, errno.ENOMEM)[Overloaded.calls % 2], "overloaded")

    def recvmsg(self, *arguments: Any) -> Any:
        self._look()
        return super().recvmsg(*arguments)

    def sendmsg(self, *arguments: Any) -> int:
        self._look()
        return super().sendmsg(*arguments)


@pytest.mark.skipif(not hasattr(socket.socket, "recvmsg"), reason="Windows has neither recvmsg nor sendmsg")
async def test_an_overloaded_system_does_not_end_a_listener(monkeypatch: pytest.MonkeyPatch) -> None:
    def bind(host: str | None, port: int, **options: Any) -> UdpSocket:
        overloaded = Overloaded(socket.AF_INET, socket.SOCK_DGRAM)
        overloaded.setblocking(False)
        overloaded.bind((host, port))
        return UdpSocket(overloaded)

    monkeypatch.setattr("quicio.anyio.server.bind", bind)
    monkeypatch.setattr(Overloaded, "refusals", 0)
    async with trio.open_nursery() as nursery:
        listener = await listening(nursery, linger=10.0)

        async def handle(connection: Connection) -> None:
            async with connection:
                await echo(connection)

        await nursery.start(trio.serve_listeners, handle, [listener])
        with trio.fail_after(20):
            for number in range(3):
                assert await ask(listener, b"%d" % number * 10_000, linger=10.0) == b"%d" % number * 10_000
        nursery.cancel_scope.cancel()
    assert Overloaded.refusals > 3
