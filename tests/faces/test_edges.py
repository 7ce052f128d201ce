"""Edges between tasks: two that end one thing, an end in the turn in which a task begins to wait, sockets exchanged twice."""

from __future__ import annotations

import gc
import socket
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest
import trio
import trio.testing

import quicio
import quicio.trio
from helpers import asyncio_face, http
from helpers.loopback import HOST, client_configuration, pair, server_configuration
from quicio.asyncio.stream import QuicStreamAdapter

pytestmark = pytest.mark.anyio

ON_TRIO = pytest.mark.parametrize("anyio_backend", [pytest.param(("trio", {}), id="trio")])
ON_ASYNCIO = pytest.mark.parametrize("anyio_backend", ["asyncio"])


def bound() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind((HOST, 0))
    return made


def break_driver(connection: quicio.Connection) -> None:
    """The next turn of the connection's driver fails."""

    def fail(now: float) -> bool:
        raise RuntimeError("the engine failed")

    connection.driver.engine.flush = fail  # type: ignore[method-assign]  # the engine is plain Python


async def test_two_tasks_may_close_one_connection() -> None:
    async with pair(client={"linger": 30.0}) as ends:
        async with await ends.client.open_stream() as stream, anyio.create_task_group() as group:
            await stream.send(b"hello")
            await stream.send_eof()
            with anyio.fail_after(10):
                async with anyio.create_task_group() as closing:
                    closing.start_soon(ends.client.aclose)
                    closing.start_soon(ends.client.aclose)
            group.cancel_scope.cancel()
        async with await ends.server.incoming_streams.receive() as theirs:
            assert await theirs.receive() == b"hello"


async def test_a_second_serve_is_refused_as_itself() -> None:
    async with pair() as ends:

        async def handle(stream: quicio.Stream) -> None:
            pytest.fail("no stream came")

        async with anyio.create_task_group() as group:
            group.start_soon(ends.server.incoming_streams.serve, handle)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(anyio.BusyResourceError):
                await ends.server.incoming_streams.serve(handle)
            group.cancel_scope.cancel()


@ON_TRIO
async def test_a_listener_whose_socket_fails_leaves_no_group() -> None:
    async with trio.open_nursery() as nursery:
        listeners = await quicio.trio.open_quic_listeners(nursery, 0, host=HOST, configuration=server_configuration())

        async def handle(connection: quicio.trio.Connection) -> None:
            pytest.fail("nobody came")

        async def serve() -> None:
            with pytest.raises(trio.BrokenResourceError):
                await listeners[0].serve(handle)

        nursery.start_soon(serve)
        await trio.testing.wait_all_tasks_blocked()
        listeners[0]._inner._drivers[0].fail(RuntimeError("the socket failed"))


async def test_a_turn_that_ends_the_connection_leaves_nobody_waiting_for_room() -> None:
    async with pair() as ends:
        stream = await ends.client.open_stream()
        with pytest.raises(anyio.WouldBlock):
            while True:
                stream.send_nowait(bytes(65536))
        break_driver(ends.client)
        with anyio.fail_after(5), pytest.raises(quicio.ConnectionLost):
            await stream.send(b"more")
        await stream.aclose()


async def test_a_turn_that_ends_the_connection_leaves_nobody_waiting_for_a_stream() -> None:
    async with pair() as ends:
        opened = []
        with pytest.raises(anyio.WouldBlock):
            while True:
                opened.append(ends.client.open_stream_nowait())
        break_driver(ends.client)
        with anyio.fail_after(5), pytest.raises(quicio.ConnectionLost):
            await ends.client.open_stream()
        for stream in opened:
            await stream.aclose()


async def test_an_endpoint_that_is_closed_forcefully_is_closed() -> None:
    async with quicio.open_endpoint(HOST) as endpoint:
        await anyio.aclose_forcefully(endpoint)
        assert endpoint._driver.is_stopped


async def test_sockets_may_be_exchanged_twice_in_a_turn() -> None:
    """On trio the reader tells the exchange from a failure, though the second socket has the first one's number."""
    async with quicio.open_endpoint(HOST) as endpoint:
        await anyio.wait_all_tasks_blocked()
        endpoint.rebind(bound())
        endpoint.rebind(bound())
        await anyio.sleep(0.05)
        assert endpoint._driver.failure is None


async def test_one_migration_at_a_time() -> None:
    async with pair() as ends, anyio.create_task_group() as group:
        with bound() as silent, bound() as nowhere:
            silent.connect(nowhere.getsockname())

            async def move() -> None:
                await ends.client.migrate(socket=silent)

            group.start_soon(move)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(anyio.BusyResourceError):
                await ends.client.migrate(local_host=HOST)
            group.cancel_scope.cancel()


async def test_datagrams_closed_here_are_closed_whatever_the_peer_does() -> None:
    async with pair() as ends:
        await ends.client.datagrams.aclose()
        ends.server.close(7)
        await ends.client.wait_closed()
        with pytest.raises(anyio.ClosedResourceError):
            await ends.client.datagrams.receive()


async def test_closing_datagrams_wakes_who_waits_for_room() -> None:
    async with pair() as ends:
        with pytest.raises(anyio.WouldBlock):
            while True:
                ends.client.datagrams.send_nowait(bytes(1000))
        has_ended = anyio.Event()

        async def send() -> None:
            with pytest.raises(anyio.ClosedResourceError):
                while True:
                    await ends.client.datagrams.send(bytes(1000))
            has_ended.set()

        async with anyio.create_task_group() as group:
            group.start_soon(send)
            await anyio.sleep(0.01)
            await ends.client.datagrams.aclose()
            with anyio.fail_after(5):
                await has_ended.wait()


def test_a_queue_of_no_datagrams_is_refused() -> None:
    with pytest.raises(ValueError, match="datagram_queue"):
        client_configuration(datagram_queue=0).validate()


async def test_an_http_server_closed_forcefully_says_goodbye() -> None:
    async def handle(request: Any) -> None:
        await request.respond(200)

    async with http.serving(handle) as server, http.visiting(server) as client:
        async with client.get("/") as response:
            await response.read()
        await anyio.aclose_forcefully(server)  # type: ignore[arg-type]  # it has the one method that this needs
        assert [session.shutting_down.is_set() for session in server._sessions] == [True]


@ON_ASYNCIO
async def test_a_writer_collected_in_another_thread_ends_its_stream_in_the_loops(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads: list[threading.Thread] = []
    write_eof: Callable[[QuicStreamAdapter], None] = QuicStreamAdapter.write_eof

    def note(adapter: QuicStreamAdapter) -> None:
        threads.append(threading.current_thread())
        write_eof(adapter)

    monkeypatch.setattr(QuicStreamAdapter, "write_eof", note)
    async with asyncio_face.pair(stream_handler=asyncio_face.echo) as ends:
        gc.disable()
        try:
            cycle: list[Any] = [*await ends.client.create_stream()]
            cycle[1].write(b"hello")
            cycle.append(cycle)
            await ends.client.ping()
            del cycle
            thread = threading.Thread(target=gc.collect)
            thread.start()
            thread.join()
        finally:
            gc.enable()
        await asyncio_face.until(lambda: threads)
        assert threading.main_thread() in threads
        assert thread not in threads
