"""`connect()`: the ways to use it, what it raises, what it leaves behind."""

from __future__ import annotations

import asyncio
import copy
import socket
import time
from functools import partial
from typing import Any

import pytest

import quicio.asyncio.client
from helpers.asyncio_face import PATIENCE, Recorder, connected, echo, port_of, serving
from helpers.loopback import ALPN, HOST, client_configuration, server_configuration
from quicio import ALPNError, CertificateError, ConnectError, HandshakeTimeout
from quicio.asyncio import QuicConnectionProtocol, connect
from quicio.quic.configuration import QuicConfiguration
from quicio.quic.connection import QuicConnectionState
from quicio.udp.socket import open_socket

pytestmark = pytest.mark.anyio


async def exchange(protocol: QuicConnectionProtocol, data: bytes = b"hello") -> bytes:
    reader, writer = await protocol.create_stream()
    writer.write(data)
    writer.write_eof()
    return await reader.read()


async def test_async_with() -> None:
    async with serving(stream_handler=echo) as server:
        configuration = client_configuration()
        async with connect(HOST, port_of(server), configuration=configuration) as protocol:
            assert type(protocol) is QuicConnectionProtocol
            assert await exchange(protocol) == b"hello"
        assert protocol._quic.state is QuicConnectionState.TERMINATED
        assert protocol._transport is not None
        assert protocol._transport.is_closing()


async def test_awaited_it_owns_its_socket() -> None:
    """The socket goes when the connection has terminated: nobody has to close it."""
    async with serving(stream_handler=echo) as server:
        protocol = await connect(HOST, port_of(server), configuration=client_configuration())
        assert await exchange(protocol) == b"hello"
        protocol.close()
        await protocol.wait_closed()
        await asyncio.sleep(0)
        assert protocol._transport is not None
        assert protocol._transport.is_closing()


async def test_entered_by_hand() -> None:
    async with serving(stream_handler=echo) as server:
        manager = connect(HOST, port_of(server), configuration=client_configuration())
        protocol = await manager.__aenter__()
        assert await exchange(protocol) == b"hello"
        await manager.__aexit__(None, None, None)
        assert protocol._transport is not None
        assert protocol._transport.is_closing()


async def test_it_can_be_used_once() -> None:
    async with serving() as server:
        manager = connect(HOST, port_of(server), configuration=client_configuration())
        with pytest.raises(RuntimeError, match="was not entered"):
            await manager.__aexit__(None, None, None)
        async with manager:
            with pytest.raises(RuntimeError, match="once"):
                await manager


async def test_the_exception_of_the_body_leaves_it() -> None:
    error = KeyError("mine")
    async with serving() as server:
        with pytest.raises(KeyError) as caught:
            async with connect(HOST, port_of(server), configuration=client_configuration()):
                raise error
    assert caught.value is error


async def test_create_protocol_may_be_a_partial() -> None:
    class Named(QuicConnectionProtocol):
        def __init__(self, *arguments: Any, name: str, **keywords: Any) -> None:
            super().__init__(*arguments, **keywords)
            self.name = name

    async with serving() as server:
        async with connected(server, create_protocol=partial(Named, name="mine")) as protocol:
            assert protocol.name == "mine"
        async with connected(server, create_protocol=None) as protocol:
            assert type(protocol) is QuicConnectionProtocol


async def test_create_protocol_gets_the_connection_and_the_handler() -> None:
    calls: list[Any] = []

    def create(*arguments: Any, **keywords: Any) -> QuicConnectionProtocol:
        calls.append((arguments, keywords))
        return QuicConnectionProtocol(*arguments, **keywords)

    async with serving() as server:
        async with connected(server, create_protocol=create) as protocol:
            assert calls == [((protocol._quic,), {"stream_handler": None})]


async def test_a_failing_create_protocol_leaves_no_socket() -> None:
    def create(*_: Any, **__: Any) -> QuicConnectionProtocol:
        raise LookupError("mine")

    async with serving() as server:
        with pytest.raises(LookupError, match="mine"):
            async with connected(server, create_protocol=create):
                pass


async def test_the_configuration_is_not_changed() -> None:
    """The server's name is filled in, in a copy."""
    configuration = client_configuration()
    before = copy.copy(vars(configuration))
    async with serving() as server:
        async with connect("localhost", port_of(server), configuration=configuration) as protocol:
            assert protocol._quic.configuration.server_name == "localhost"
    assert vars(configuration) == before
    assert configuration.server_name is None


async def test_without_a_configuration() -> None:
    async with serving() as server:
        with pytest.raises(ALPNError):  # the test's servers insist on a protocol
            async with connect(HOST, port_of(server)):
                pass


async def test_a_servers_configuration_is_refused() -> None:
    with pytest.raises(ValueError, match="client's configuration"):
        await connect(HOST, 1, configuration=server_configuration())
    with pytest.raises(ValueError, match="max_datagram_size"):
        await connect(HOST, 1, configuration=QuicConfiguration(max_datagram_size=100))


async def test_the_local_port() -> None:
    with open_socket(None, 0) as probe:
        port = probe.getsockname()[1]
    async with serving() as server:
        async with connected(server, local_port=port) as protocol:
            assert protocol._transport.get_extra_info("sockname")[1] == port


async def test_a_taken_port_is_an_oserror() -> None:
    with open_socket(None, 0) as taken:
        with pytest.raises(OSError, match="in use"):
            await connect(HOST, 1, local_port=taken.getsockname()[1])


async def test_an_unknown_host_is_a_gaierror() -> None:
    with pytest.raises(socket.gaierror):
        await connect("host.invalid", 1)


@pytest.mark.parametrize("handler", ["session_ticket_handler", "token_handler"])
async def test_handlers_reach_the_connection(handler: str) -> None:
    def handle(_: Any) -> None:
        pass

    option: dict[str, Any] = {handler: handle}
    async with serving() as server:
        async with connected(server, **option) as protocol:
            assert getattr(protocol._quic, f"_{handler}") is handle


# --- failures ---------------------------------------------------------------------------------------------------------


async def test_an_unknown_authority() -> None:
    async with serving() as server:
        with pytest.raises(CertificateError) as caught:
            await connect("localhost", port_of(server), configuration=QuicConfiguration(alpn_protocols=ALPN))
    error = caught.value
    assert isinstance(error, ConnectionError)
    assert (error.code, error.frame_type) == (0x130, 6)  # unknown_ca, in a CRYPTO frame
    assert error.reason is not None
    assert not error.reason.by_peer


async def test_a_wrong_name() -> None:
    async with serving() as server:
        configuration = client_configuration(server_name="other.example")
        with pytest.raises(CertificateError) as caught:
            await connect(HOST, port_of(server), configuration=configuration)
    assert isinstance(caught.value, ConnectionError)


async def test_no_common_protocol() -> None:
    async with serving() as server:
        with pytest.raises(ALPNError) as caught:
            await connect(HOST, port_of(server), configuration=client_configuration(alpn_protocols=["other"]))
    assert isinstance(caught.value, ConnectionError)
    assert caught.value.code == 376
    assert caught.value.reason is not None
    assert caught.value.reason.by_peer


async def test_nobody_listens() -> None:
    """The system knows at once, so the caller does: no timeout passes."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    started = time.monotonic()
    with pytest.raises(ConnectError, match="nobody listens") as caught:
        await connect(HOST, port, configuration=client_configuration())
    assert isinstance(caught.value, ConnectionError)
    assert time.monotonic() - started < 1


async def test_nobody_answers() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((HOST, 0))
        configuration = client_configuration(handshake_timeout=0.3)
        started = time.monotonic()
        with pytest.raises(HandshakeTimeout) as caught:
            await connect(HOST, silent.getsockname()[1], configuration=configuration)
        assert time.monotonic() - started < 0.5
    assert isinstance(caught.value, ConnectionError)


async def test_a_cancelled_connect_leaves_nothing_and_waits_for_nothing() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((HOST, 0))
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                async with connect(HOST, silent.getsockname()[1], configuration=client_configuration()):
                    pass
    assert time.monotonic() - started < 0.3


async def test_a_cancelled_body_closes_the_connection() -> None:
    made: list[Recorder] = []

    def create(*arguments: Any, **keywords: Any) -> Recorder:
        made.append(Recorder(*arguments, **keywords))
        return made[0]

    async with serving(create_protocol=create) as server:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2), connected(server):
                await asyncio.Event().wait()
        async with asyncio.timeout(PATIENCE):
            await made[0].wait_closed()
        assert made[0].names()[-1] == "ConnectionTerminated"


# --- several addresses ------------------------------------------------------------------------------------------------


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[str, int]) -> None:
    async def open_towards(*_: Any) -> Any:
        return open_socket(None, 0), list(addresses)

    monkeypatch.setattr(quicio.asyncio.client, "open_towards", open_towards)


async def test_a_refused_address_gives_way_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within one protocol and one connection, and before any timeout."""
    made: list[Recorder] = []

    def create(*arguments: Any, **keywords: Any) -> Recorder:
        made.append(Recorder(*arguments, **keywords))
        return made[-1]

    async with serving(stream_handler=echo) as server:
        resolve_to(monkeypatch, ("::1", port_of(server)), (HOST, port_of(server)))
        started = time.monotonic()
        async with connected(server, create_protocol=create) as protocol:
            assert time.monotonic() - started < 0.2
            assert protocol._quic.get_peer_address() == (HOST, port_of(server))
            assert await exchange(protocol) == b"hello"
    assert len(made) == 1


async def test_a_silent_address_gives_way_after_a_probe_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((HOST, 0))
        async with serving(stream_handler=echo) as server:
            resolve_to(monkeypatch, silent.getsockname(), (HOST, port_of(server)))
            async with connected(server) as protocol:
                assert protocol._quic.get_peer_address() == (HOST, port_of(server))
                assert await exchange(protocol, bytes(100_000)) == bytes(100_000)


async def test_all_addresses_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    resolve_to(monkeypatch, ("::1", port), (HOST, port))
    started = time.monotonic()
    with pytest.raises(ConnectError, match="nobody listens"):
        await connect(HOST, port, configuration=client_configuration())
    assert time.monotonic() - started < 1


async def test_an_ipv4_host_leaves_ipv6_addresses_out(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()

    def only_ipv4(*_: Any) -> socket.socket:
        return open_socket("0.0.0.0", 0)

    monkeypatch.setattr(quicio.asyncio.client, "open_bound", only_ipv4)
    with pytest.raises(OSError, match="no address that this host reaches"):
        await quicio.asyncio.client.open_towards(loop, "::1", 4433, 0)
    sock, addresses = await quicio.asyncio.client.open_towards(loop, HOST, 4433, 0)
    sock.close()
    assert addresses == [(HOST, 4433)]


# --- wait_connected=False -----------------------------------------------------------------------------------------------


async def test_without_waiting_nothing_is_sent_until_something_transmits() -> None:
    """So that what is written first goes with the first flight."""
    async with serving(stream_handler=echo) as server:
        async with connected(server, wait_connected=False) as protocol:
            assert not protocol._quic.is_handshake_complete
            assert protocol._quic.statistics().datagrams_sent == 0
            await asyncio.sleep(0.05)
            assert not protocol._quic.statistics().packets_sent
            assert await exchange(protocol) == b"hello"
            await protocol.wait_connected()


async def test_wait_connected_after_the_fact_returns() -> None:
    """A wait that never ends in aioquic."""
    async with serving() as server:
        async with connected(server, wait_connected=False) as protocol:
            protocol.transmit()
            await protocol.ping()
            async with asyncio.timeout(PATIENCE):
                await protocol.wait_connected()


async def test_left_before_anything_was_sent() -> None:
    async with serving() as server:
        started = time.monotonic()
        async with connected(server, wait_connected=False):
            pass
        assert time.monotonic() - started < 0.3


async def test_closing_takes_a_round_trip() -> None:
    """The closing period ends when the peer has confirmed: three probe timeouts are not waited for."""
    async with serving() as server:
        async with connected(server) as protocol:
            await protocol.ping()
            started = time.monotonic()
        assert time.monotonic() - started < 0.05
