"""`serve()` and `QuicServer`: connections on one socket, on our transport and on others."""

from __future__ import annotations

import asyncio
import socket
import time
from functools import partial
from typing import Any

import pytest

from helpers.asyncio_face import PATIENCE, Recorder, connected, echo, pair, port_of, serving, until
from helpers.loopback import ALPN, HOST, client_configuration, server_configuration
from quicio import ConnectError
from quicio.asyncio import QuicConnectionProtocol, connect, serve
from quicio.asyncio.server import QuicServer
from quicio.quic.configuration import QuicConfiguration
from quicio.tls import SessionTicket

pytestmark = pytest.mark.anyio


async def exchange(protocol: QuicConnectionProtocol, data: bytes = b"hello") -> bytes:
    reader, writer = await protocol.create_stream()
    writer.write(data)
    writer.write_eof()
    return await reader.read()


async def test_many_clients_on_one_socket() -> None:
    async with serving(stream_handler=echo) as server:

        async def client(number: int) -> None:
            async with connected(server) as protocol:
                data = bytes([number]) * 50_000
                assert await exchange(protocol, data) == data

        async with asyncio.TaskGroup() as tasks:
            for number in range(20):
                tasks.create_task(client(number))
        async with asyncio.timeout(PATIENCE):
            await until(lambda: not server._protocols)


@pytest.mark.parametrize("option", ["retry", "stateless_retry"])
async def test_retry(option: str) -> None:
    """Both names of the switch have the client prove its address: its connection was opened with two IDs."""
    switch: dict[str, Any] = {option: True}
    async with serving(stream_handler=echo, **switch) as server:
        async with connected(server) as protocol:
            assert protocol._quic._negotiation.has_retried
            assert await exchange(protocol) == b"hello"
    async with serving(stream_handler=echo) as server:
        async with connected(server) as protocol:
            assert not protocol._quic._negotiation.has_retried


async def test_wildcards_and_names() -> None:
    for host, target in (("::", HOST), ("0.0.0.0", HOST), ("localhost", "localhost"), ("", HOST)):
        server = await serve(host, 0, configuration=server_configuration(), stream_handler=echo)
        async with connect(target, port_of(server), configuration=client_configuration()) as protocol:
            assert await exchange(protocol) == b"hello"
        server.close()
        await server.wait_closed()


async def test_a_taken_port_is_an_oserror() -> None:
    async with serving() as server:
        with pytest.raises(OSError, match="in use"):
            await serve(HOST, port_of(server), configuration=server_configuration())


async def test_an_unknown_host_is_a_gaierror() -> None:
    with pytest.raises(socket.gaierror):
        await serve("host.invalid", 0, configuration=server_configuration())


async def test_a_configuration_that_cannot_serve_is_refused_at_once() -> None:
    """Not at the first datagram, as in aioquic."""
    with pytest.raises(ValueError, match="certificate"):
        await serve(HOST, 0, configuration=QuicConfiguration(is_client=False))
    with pytest.raises(ValueError, match="server's configuration"):
        await serve(HOST, 0, configuration=client_configuration())


async def test_the_configuration_is_read_when_a_connection_is_made() -> None:
    """So that a program can change it while it serves; and it is never changed here."""
    configuration = server_configuration()
    async with serving(configuration=None, stream_handler=echo) as _:
        pass
    server = await serve(HOST, 0, configuration=configuration, stream_handler=echo)
    configuration.alpn_protocols = ["other", *ALPN]
    before = dict(vars(configuration))
    changed = client_configuration(alpn_protocols=["other"])
    async with connect(HOST, port_of(server), configuration=changed) as protocol:
        assert await exchange(protocol) == b"hello"
    server.close()
    await server.wait_closed()
    assert vars(configuration) == before


async def test_session_ticket_functions_reach_the_connections() -> None:
    def fetch(_: bytes) -> SessionTicket | None:
        return None

    def keep(_: SessionTicket) -> None:
        pass

    made: list[QuicConnectionProtocol] = []

    def create(*arguments: Any, **keywords: Any) -> QuicConnectionProtocol:
        made.append(QuicConnectionProtocol(*arguments, **keywords))
        return made[-1]

    async with serving(create_protocol=create, session_ticket_fetcher=fetch, session_ticket_handler=keep) as server:
        async with connected(server):
            assert made[0]._quic._session_ticket_fetcher is fetch
            assert made[0]._quic._session_ticket_handler is keep


async def test_create_protocol_may_be_a_partial() -> None:
    made: list[Any] = []

    class Named(QuicConnectionProtocol):
        def __init__(self, *arguments: Any, name: str, **keywords: Any) -> None:
            super().__init__(*arguments, **keywords)
            made.append(name)

    async with serving(create_protocol=partial(Named, name="mine")) as server:
        async with connected(server):
            assert made == ["mine"]


async def test_a_failing_create_protocol_costs_one_connection(loop_errors: list[dict[str, Any]]) -> None:
    calls = 0

    def create(*arguments: Any, **keywords: Any) -> QuicConnectionProtocol:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise LookupError("mine")
        return QuicConnectionProtocol(*arguments, **keywords)

    async with serving(create_protocol=create, stream_handler=echo) as server:
        with pytest.raises(ConnectionError) as caught:
            async with connected(server) as protocol:
                await protocol.ping()
                await asyncio.sleep(0.1)
                await protocol.ping()
        assert caught.value.code == 1  # type: ignore[attr-defined]
        async with connected(server) as protocol:
            assert await exchange(protocol) == b"hello"
    assert [type(error["exception"]) for error in loop_errors] == [LookupError]
    loop_errors.clear()


async def test_close_closes_every_connection_and_the_port_at_once() -> None:
    server = await serve(HOST, 0, configuration=server_configuration())
    port = port_of(server)
    configuration = client_configuration()
    clients = [await connect(HOST, port, configuration=configuration, create_protocol=Recorder) for _ in range(3)]
    started = time.monotonic()
    server.close()
    server.close()
    again = await serve(HOST, port, configuration=server_configuration())
    await server.wait_closed()
    assert time.monotonic() - started < 0.2
    assert not server._protocols
    for client in clients:
        await client.wait_closed()
        assert client.names()[-1] == "ConnectionTerminated"  # type: ignore[attr-defined]
    again.close()
    await again.wait_closed()


async def test_what_is_no_connection_is_not_answered() -> None:
    loop = asyncio.get_running_loop()
    async with serving() as server:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.setblocking(False)
            probe.connect((HOST, port_of(server)))
            for junk in (b"", b"\x00", b"\xff" * 30, b"\xc0" + bytes(1300)):
                probe.send(junk)
            unknown_version = b"\xc0" + b"\x0a\x0a\x0a\x0a" + b"\x08" + bytes(8) + b"\x00" + bytes(1200)
            probe.send(unknown_version)
            async with asyncio.timeout(PATIENCE):
                answer = await loop.sock_recv(probe, 2000)
            assert answer[1:5] == bytes(4)  # Version Negotiation
        async with connected(server) as protocol:
            await protocol.ping()


# --- on a transport from elsewhere ------------------------------------------------------------------------------------


@pytest.mark.parametrize("retry", [False, True])
async def test_on_asyncios_own_transport(retry: bool) -> None:
    loop = asyncio.get_running_loop()
    made: list[Recorder] = []

    def create(*arguments: Any, **keywords: Any) -> Recorder:
        made.append(Recorder(*arguments, **keywords))
        return made[-1]

    transport, server = await loop.create_datagram_endpoint(
        lambda: QuicServer(
            configuration=server_configuration(), create_protocol=create, stream_handler=echo, retry=retry
        ),
        local_addr=(HOST, 0),
    )
    async with connected(server) as protocol:
        data = bytes(300_000)
        assert await exchange(protocol, data) == data
        assert protocol._quic._negotiation.has_retried == retry
        assert made[0]._transport is transport
        await made[0].ping()
    await until(lambda: not server._protocols)
    assert made[0].names()[-1] == "ConnectionTerminated"
    async with connected(server) as protocol:
        await protocol.ping()
        server.close()
        async with asyncio.timeout(PATIENCE):
            await server.wait_closed()
            await protocol.wait_closed()


async def test_a_lost_transport_from_elsewhere() -> None:
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(
        lambda: QuicServer(configuration=server_configuration()), local_addr=(HOST, 0)
    )
    async with connected(server) as protocol:
        await protocol.ping()
        transport.abort()
        async with asyncio.timeout(PATIENCE):
            await server.wait_closed()
        assert not server._protocols
        protocol._transport.close()  # the peer is gone: nobody will confirm


async def test_a_servers_endpoint_forgets_on_a_timer() -> None:
    """What the endpoint waits for is waited for without an engine too."""
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(
        lambda: QuicServer(configuration=server_configuration(handshake_timeout=0.05)), local_addr=(HOST, 0)
    )
    server._endpoint._policy = lambda incoming: None  # nobody decides
    with pytest.raises(ConnectError):
        await connect(HOST, port_of(server), configuration=client_configuration(handshake_timeout=0.2))
    assert not server._endpoint._undecided
    server.close()
    await server.wait_closed()


async def test_both_ends_of_a_pair() -> None:
    async with pair(stream_handler=echo) as ends:
        assert await exchange(ends.server._quic and ends.client) == b"hello"
        assert ends.listener._protocols == {ends.server._quic: ends.server}
