"""`EngineTransport`: as a transport among others, on loops without add_reader, and when something fails."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import sys
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from helpers.asyncio_face import PATIENCE, connected, echo, pair, port_of, serving, until
from helpers.loopback import HOST
from quicio.asyncio.transport import EngineTransport
from quicio.quic.endpoint import Endpoint
from quicio.quic.transmit import Transmit
from quicio.udp.socket import UdpSocket, open_socket

pytestmark = pytest.mark.anyio


class Plain(asyncio.DatagramProtocol):
    """Notes the end."""

    def __init__(self) -> None:
        self.lost: list[Exception | None] = []
        self.told: list[str] = []

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)


def make() -> tuple[EngineTransport, Plain]:
    transport = EngineTransport(asyncio.get_running_loop(), open_socket(HOST, 0), Endpoint())
    protocol = Plain()
    transport.set_protocol(protocol)
    return transport, protocol


async def test_sendto_sends_one_datagram() -> None:
    transport, _ = make()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind((HOST, 0))
        peer.setblocking(False)
        address = peer.getsockname()
        for spelling in (address, (f"::ffff:{HOST}", address[1], 0, 0)):
            transport.sendto(b"hello", spelling)
            assert await asyncio.get_running_loop().sock_recv(peer, 100) == b"hello"
    with pytest.raises(ValueError, match="needs an address"):
        transport.sendto(b"x")
    transport.close()
    transport.sendto(b"x", address)


async def test_the_rest_of_a_transport() -> None:
    transport, protocol = make()
    assert transport.get_protocol() is protocol
    assert transport.get_extra_info("socket").family == socket.AF_INET
    assert transport.get_extra_info("peername", "nobody") == "nobody"
    assert transport.get_write_buffer_size() == 0
    assert not transport.is_closing()
    transport.abort()
    transport.close()
    assert transport.is_closing()
    await asyncio.sleep(0)
    assert protocol.lost == [None]


async def test_the_socket_name_of_ipv6_has_four_parts() -> None:
    transport = EngineTransport(asyncio.get_running_loop(), open_socket("::1", 0), Endpoint())
    host, port, flow, scope = transport.get_extra_info("sockname")
    assert (host, flow, scope) == ("::1", 0, 0)
    assert port > 0
    transport.close()


@pytest.fixture
def blocking(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """`blocking(n)`: the next n sends of any socket would block."""
    left = 0
    send = UdpSocket.send

    def maybe(self: UdpSocket, transmit: Transmit) -> bool:
        nonlocal left
        if left:
            left -= 1
            return False
        return send(self, transmit)

    def block(count: int) -> None:
        nonlocal left
        left = count

    monkeypatch.setattr(UdpSocket, "send", maybe)
    return block


async def test_a_socket_that_would_block_is_waited_for(blocking: Callable[[int], None]) -> None:
    transport, _ = make()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind((HOST, 0))
        peer.setblocking(False)
        blocking(1000)
        for number in range(5):
            transport.sendto(b"%d" % number, peer.getsockname())
        assert transport.get_write_buffer_size() == 4
        blocking(2)
        for number in range(5):
            assert await asyncio.get_running_loop().sock_recv(peer, 100) == b"%d" % number
    assert transport.get_write_buffer_size() == 0
    transport.close()


async def test_water_marks(blocking: Callable[[int], None]) -> None:
    """The protocol is told to pause beyond the high mark and to resume at the low one, once each."""
    transport, protocol = make()
    assert transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)
    transport.set_write_buffer_limits(low=500)
    assert transport.get_write_buffer_limits() == (500, 2000)
    transport.set_write_buffer_limits(high=2000)
    assert transport.get_write_buffer_limits() == (500, 2000)
    for high, low in ((1, 2), (5, -1), (-1, None)):
        with pytest.raises(ValueError, match="at least low"):
            transport.set_write_buffer_limits(high, low)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind((HOST, 0))
        blocking(1_000_000)
        for _ in range(3):  # the first is the one that blocks, two wait
            transport.sendto(bytes(1000), peer.getsockname())
        assert protocol.told == []
        transport.sendto(bytes(1000), peer.getsockname())
        transport.sendto(bytes(1000), peer.getsockname())
        assert protocol.told == ["pause"]
        blocking(0)
        await until(lambda: transport.get_write_buffer_size() == 0)
        assert protocol.told == ["pause", "resume"]
        blocking(1_000_000)
        for _ in range(3):
            transport.sendto(bytes(500), peer.getsockname())
        transport.set_write_buffer_limits(high=0)
        assert protocol.told == ["pause", "resume", "pause"]
    transport.close()


async def test_a_protocol_that_fails_to_pause_is_reported(
    blocking: Callable[[int], None], loop_errors: list[dict[str, Any]]
) -> None:
    transport, protocol = make()
    error = KeyError("mine")

    def fail() -> None:
        raise error

    protocol.pause_writing = fail  # type: ignore[method-assign]  # what a careless subclass would do
    transport.set_write_buffer_limits(high=0)
    blocking(1_000_000)
    for _ in range(2):
        transport.sendto(b"x", (HOST, 9))
    assert [context["exception"] for context in loop_errors] == [error]
    loop_errors.clear()
    assert not transport.is_closing()
    transport.close()


async def test_connections_wait_for_a_socket_that_would_block(blocking: Callable[[int], None]) -> None:
    async with pair(stream_handler=echo) as ends:
        reader, writer = await ends.client.create_stream()
        blocking(5)
        writer.write(bytes(100_000))
        writer.write_eof()
        assert await reader.read() == bytes(100_000)


@pytest.fixture
def no_add_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that cannot watch descriptors, as Windows' proactor."""

    def refuse(*_: Any) -> None:
        raise NotImplementedError

    for name in ("add_reader", "add_writer"):
        monkeypatch.setattr(asyncio.SelectorEventLoop, name, refuse)


@pytest.mark.usefixtures("no_add_reader")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # uvloop always can
async def test_a_loop_without_add_reader(blocking: Callable[[int], None]) -> None:
    """A task of the transport waits instead; it ends with it."""
    async with serving(stream_handler=echo) as server:
        assert isinstance(server._transport, EngineTransport)
        assert server._transport._reader is not None
        async with connected(server) as protocol:
            reader, writer = await protocol.create_stream()
            blocking(3)
            writer.write(bytes(1_000_000))
            writer.write_eof()
            assert await reader.read() == bytes(1_000_000)
            blocking(3)
            await protocol.ping()
    await asyncio.sleep(0.01)


async def test_a_failure_closes_the_transport(
    monkeypatch: pytest.MonkeyPatch, loop_errors: list[dict[str, Any]]
) -> None:
    async with pair() as ends:
        reader, _ = await ends.client.create_stream()
        reading = asyncio.create_task(reader.read())
        await asyncio.sleep(0)
        error = MemoryError("mine")

        def fail(*_: Any) -> bool:
            raise error

        engine = ends.client._transport.engine
        monkeypatch.setattr(engine, "readable", fail)
        ends.server._quic.send_datagram_frame(b"wakes the client")
        ends.server.transmit()
        with pytest.raises(ConnectionError, match="transport was closed: mine"):
            await reading
        assert ends.client._transport.is_closing()
        async with asyncio.timeout(PATIENCE):
            await ends.client.wait_closed()
    assert [context["exception"] for context in loop_errors] == [error]
    loop_errors.clear()


async def test_a_transport_that_is_dropped_warns() -> None:
    transport, _ = make()
    fileno = transport.engine.fileno()
    transport._loop.remove_reader(fileno)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del transport
        gc.collect()
    assert any("unclosed transport" in str(warning.message) for warning in caught)


UNCLOSED = """
import asyncio, gc, sys
from helpers.asyncio_face import port_of
from helpers.loopback import HOST, client_configuration, server_configuration
from quicio.asyncio import connect, serve

async def main():
    server = await serve(HOST, 0, configuration=server_configuration())
    protocol = await connect(HOST, port_of(server), configuration=client_configuration())
    if sys.argv[2] == "close":
        protocol.close()
        await protocol.wait_closed()
    server.close()
    await server.wait_closed()
    assert protocol._transport.is_closing() == (sys.argv[2] == "close")

factory = None
if sys.argv[1] == "uvloop":
    import uvloop
    factory = uvloop.new_event_loop
with asyncio.Runner(loop_factory=factory) as runner:
    runner.run(main())
gc.collect()
"""


@pytest.mark.parametrize("end", ["forget", "close"])
async def test_an_awaited_connection_warns_when_it_is_collected_unclosed(anyio_backend: Any, end: str) -> None:
    """It owns its socket: closed with the connection, a ResourceWarning when the connection never was."""
    loop = "uvloop" if anyio_backend[1]["use_uvloop"] else "asyncio"
    command = [sys.executable, "-W", "always::ResourceWarning", "-c", UNCLOSED, loop, end]
    path = os.pathsep.join(entry for entry in sys.path if entry)
    process = await asyncio.create_subprocess_exec(
        *command, stderr=asyncio.subprocess.PIPE, env=dict(os.environ, PYTHONPATH=path)
    )
    _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    assert ("unclosed transport" in errors.decode()) == (end == "forget"), errors.decode()


async def test_peername_is_known_on_a_clients_transport() -> None:
    async with pair() as ends:
        client, server = ends.client._transport, ends.server._transport
        assert client.get_extra_info("peername") == (HOST, port_of(ends.listener))
        assert client.get_extra_info("sockname")[1] == ends.server._quic.get_peer_address()[1]
        assert server.get_extra_info("peername") is None  # it has many
        assert server.get_extra_info("peername", "many") == "many"
        assert server.get_extra_info("sockname") == (HOST, port_of(ends.listener))
        for transport in (client, server):
            assert transport.get_extra_info("socket").getsockname()[1] == transport.get_extra_info("sockname")[1]
            assert transport.get_extra_info("cipher", 5) == 5


async def test_timers_that_fire_early_go_on_waiting() -> None:
    async with pair(client={"idle_timeout": 0.2}) as ends:
        for _ in range(6):
            await asyncio.sleep(0.05)
            await ends.client.ping()  # the deadline moves away while the timer stays
        transport = ends.client._transport
        assert transport._timer is not None
        assert not ends.client._is_lost
        assert port_of(ends.listener)
