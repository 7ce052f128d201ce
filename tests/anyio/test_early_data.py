"""Resumption and early data on the native faces: stores, 0-RTT, what is rejected."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from helpers.loopback import HOST, client_configuration, read_all, server_configuration
from quicio.anyio import Connection, Handler, Listener, ReceiveStream, Stream, connect, listen
from quicio.errors import ConnectError, EarlyDataRejected, HandshakeTimeout
from quicio.quic.configuration import QuicConfiguration
from quicio.quic.sessions import SessionStore
from quicio.tls.issuing import SealedTickets

pytestmark = pytest.mark.anyio


async def echo(stream: Stream) -> None:
    """Answer with whether it was early, and the bytes."""
    data = await read_all(stream)
    await stream.send((b"early " if stream.early_data else b"late ") + data)


async def handle(connection: Connection) -> None:
    await connection.incoming_streams.serve(echo)


@asynccontextmanager
async def listening(port: int = 0, handler: Handler[Connection] = handle, **changes: Any) -> AsyncIterator[Listener]:
    async with anyio.create_task_group() as group:
        configuration = server_configuration(**changes)
        async with listen(HOST, port, configuration=configuration) as listener:
            group.start_soon(listener.serve, handler)
            yield listener
            group.cancel_scope.cancel()


async def ask(connection: Connection, text: bytes) -> bytes:
    async with await connection.open_stream() as stream:
        await stream.send(text)
        await stream.send_eof()
        return await read_all(stream)


@pytest.fixture
def store() -> SessionStore:
    return SessionStore()


def client(store: SessionStore, **changes: Any) -> QuicConfiguration:
    return client_configuration(session_store=store, **changes)


async def visit(listener: Listener, store: SessionStore, **options: Any) -> None:
    """A visit from which a ticket is taken home."""
    async with connect(*listener.local_address, configuration=client(store, **options)) as connection:
        info = await connection.wait_handshake()
        assert (info.resumed, info.early_data_accepted) == (False, False)
        assert await ask(connection, b"first") == b"late first"


async def test_a_second_connection_resumes_and_its_data_goes_first(store: SessionStore) -> None:
    async with listening(accept_early_data=True) as listener:
        await visit(listener, store)
        async with connect(*listener.local_address, configuration=client(store), early_data=True) as connection:
            stream = connection.open_stream_nowait()
            stream.send_nowait(b"at once")
            assert connection._link.handshake is None  # nothing has come from the server yet
            await stream.send_eof()
            assert await read_all(stream) == b"early at once"
            info = await connection.wait_handshake()
            assert (info.resumed, info.early_data_accepted) == (True, True)
            await stream.aclose()
            assert await ask(connection, b"then") == b"late then"


async def test_without_a_ticket_the_body_starts_when_the_handshake_is_done(store: SessionStore) -> None:
    async with (
        listening(accept_early_data=True) as listener,
        connect(*listener.local_address, configuration=client(store), early_data=True) as connection,
    ):
        assert connection._link.handshake is not None
        assert await ask(connection, b"x") == b"late x"


async def test_early_data_has_to_be_asked_for(store: SessionStore) -> None:
    async with listening(accept_early_data=True) as listener:
        await visit(listener, store)
        async with connect(*listener.local_address, configuration=client(store)) as connection:
            info = await connection.wait_handshake()
            assert (info.resumed, info.early_data_accepted) == (True, False)


async def test_a_server_that_takes_none_gets_it_again(store: SessionStore) -> None:
    tickets = SealedTickets([bytes(32)])
    async with listening(accept_early_data=True, tickets=tickets) as listener:
        await visit(listener, store)
        port = listener.local_address[1]
    async with listening(tickets=tickets, port=port) as listener:
        assert listener.local_address[1] == port
        async with connect(HOST, port, configuration=client(store), early_data=True) as connection:
            assert await ask(connection, b"again") == b"late again"
            info = await connection.wait_handshake()
            assert not info.early_data_accepted


async def test_what_cannot_be_sent_again_is_told(store: SessionStore) -> None:
    async with listening(accept_early_data=True, alpn_protocols=["one"]) as listener:
        await visit(listener, store, alpn_protocols=["one", "two"])
        port = listener.local_address[1]
    async with listening(accept_early_data=True, alpn_protocols=["two"], port=port):
        configuration = client(store, alpn_protocols=["one", "two"])
        async with connect(HOST, port, configuration=configuration, early_data=True) as connection:
            stream = await connection.open_stream()
            await stream.send(b"for the other protocol")
            with pytest.raises(EarlyDataRejected, match="refused early data"):
                await stream.receive()
            with pytest.raises(EarlyDataRejected):
                await stream.send(b"more")
            with pytest.raises(EarlyDataRejected):
                await stream.wait_delivered()
            with pytest.raises(EarlyDataRejected):
                await stream.wait_stopped()
            await stream.aclose()
            assert await ask(connection, b"now") == b"late now"


async def test_nobody_there(store: SessionStore) -> None:
    async with listening(accept_early_data=True) as listener:
        await visit(listener, store)
        host, port = listener.local_address
    async with connect(host, port, configuration=client(store, handshake_timeout=0.3), early_data=True) as connection:
        with pytest.raises(ConnectError):
            await connection.wait_handshake()
    with pytest.raises(ConnectError) as caught:
        async with connect(host, port, configuration=client(store, handshake_timeout=0.3), early_data=True):
            pytest.fail("there is no ticket any more")
    assert [address for address, _ in caught.value.attempts] == [(host, port)]
    assert not isinstance(caught.value, HandshakeTimeout)  # the system said so, at once


async def test_a_body_that_ends_before_the_handshake_still_delivers(store: SessionStore) -> None:
    got: list[tuple[bytes, bool]] = []
    is_there = anyio.Event()

    async def note(stream: ReceiveStream) -> None:
        got.append((await read_all(stream), stream.early_data))
        is_there.set()

    async def take(connection: Connection) -> None:
        await connection.incoming_receive_streams.serve(note)

    async def say(text: bytes) -> None:
        async with (
            connect(*listener.local_address, configuration=client(store), early_data=True) as connection,
            await connection.open_send_stream() as stream,
        ):
            await stream.send(text)

    async with listening(accept_early_data=True, handler=take) as listener:
        await say(b"first")
        await is_there.wait()
        is_there = anyio.Event()
        await say(b"and gone")
        with anyio.fail_after(5):
            await is_there.wait()
    assert [text for text, _ in got] == [b"first", b"and gone"]
