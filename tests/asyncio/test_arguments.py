"""Bad input to `connect()` and `serve()`: a clear typed error at once, and nothing left (the fixtures of conftest look)."""

from __future__ import annotations

import asyncio
import functools
import socket
import time
from typing import Any

import pytest

from helpers.asyncio_face import PATIENCE, echo, port_of, serving
from helpers.loopback import HOST, client_configuration, server_configuration
from quicio import ALPNError, CertificateError, ConnectError, HandshakeTimeout
from quicio.asyncio import QuicConnectionProtocol, connect, serve
from quicio.asyncio.arguments import checked_host, checked_port
from quicio.quic.configuration import QuicConfiguration

pytestmark = pytest.mark.anyio

PROMPT = 2.0  # seconds, on a busy machine
BAD_FOR_BOTH: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"port": "https"}, TypeError, "port must be a number .* not 'https'"),
    ({"port": None}, TypeError, "port must be a number"),
    ({"port": 4433.0}, TypeError, "port must be a number"),
    ({"port": True}, TypeError, "port must be a number"),
    ({"port": 65536}, ValueError, "port must be from . to 65535, not 65536"),
    ({"port": -1}, ValueError, "port must be from . to 65535, not -1"),
    ({"host": 5}, TypeError, "host must be a name or a numeric address as str, not 5"),
    ({"host": b"localhost"}, TypeError, "host must be a name"),
    ({"host": "a" * 64 + ".example"}, ValueError, "no name of a host"),
    ({"host": "two..dots"}, ValueError, "no name of a host"),
    ({"host": "unknown.invalid"}, socket.gaierror, r"\[Errno"),
    ({"configuration": 5}, TypeError, "takes a QuicConfiguration, not 5"),
    ({"configuration": {"is_client": True}}, TypeError, "takes a QuicConfiguration"),
    ({"create_protocol": "protocol"}, TypeError, "create_protocol must be something to call"),
    ({"stream_handler": 5}, TypeError, "stream_handler must be something to call"),
    ({"session_ticket_handler": 5}, TypeError, "session_ticket_handler must be something to call"),
]
BAD_FOR_CLIENTS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"host": None}, TypeError, "host must be a name"),
    ({"host": ""}, socket.gaierror, r"\[Errno"),
    ({"port": 0}, ValueError, "port must be from 1"),
    ({"local_port": 65536}, ValueError, "local_port must be from 0 to 65535"),
    ({"local_port": -1}, ValueError, "local_port must be from 0"),
    ({"local_port": "any"}, TypeError, "local_port must be a number"),
    ({"token_handler": 5}, TypeError, "token_handler must be something to call"),
    ({"create_protocol": lambda quic, stream_handler: None}, TypeError, "must make a QuicConnectionProtocol, not None"),
    ({"create_protocol": lambda: None}, TypeError, "argument"),
    ({"configuration": server_configuration()}, ValueError, "takes a client's configuration"),
    ({"configuration": client_configuration(supported_versions=[])}, ValueError, "supported_versions is empty"),
    ({"configuration": client_configuration(max_datagram_size=1199)}, ValueError, "at least 1200"),
    ({"configuration": client_configuration(connection_id_length=21)}, ValueError, "between 0 and 20"),
    ({"configuration": client_configuration(congestion_control_algorithm="none")}, ValueError, "none"),
]
BAD_FOR_SERVERS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"configuration": None}, TypeError, "takes a QuicConfiguration, not None"),
    ({"configuration": client_configuration()}, ValueError, "takes a server's configuration"),
    ({"configuration": QuicConfiguration(is_client=False)}, ValueError, "needs a certificate and its private key"),
    ({"configuration": server_configuration(private_key=None)}, ValueError, "needs a certificate and its private key"),
    ({"session_ticket_fetcher": {}}, TypeError, "session_ticket_fetcher must be something to call"),
    ({"host": "192.0.2.1"}, OSError, "192.0.2.1"),
    ({"host": 5}, TypeError, "host must be a name"),
]


@pytest.mark.parametrize(("change", "kind", "message"), [*BAD_FOR_BOTH, *BAD_FOR_CLIENTS])
async def test_connect_refuses(change: dict[str, Any], kind: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {"host": HOST, "port": 9, "configuration": client_configuration()} | change
    started = time.monotonic()
    with pytest.raises(kind, match=message):
        async with connect(arguments.pop("host"), arguments.pop("port"), **arguments):
            pass
    assert time.monotonic() - started < PROMPT


@pytest.mark.parametrize(("change", "kind", "message"), [*BAD_FOR_BOTH, *BAD_FOR_SERVERS])
async def test_serve_refuses(change: dict[str, Any], kind: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {"host": HOST, "port": 0, "configuration": server_configuration()} | change
    with pytest.raises(kind, match=message):
        await serve(arguments.pop("host"), arguments.pop("port"), **arguments)


async def test_a_taken_port_is_named() -> None:
    async with serving() as server:
        port = port_of(server)
        with pytest.raises(OSError, match=f"{port}"):
            await serve(HOST, port, configuration=server_configuration())
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as taken:
            taken.bind(("::", 0))
            local = taken.getsockname()[1]
            with pytest.raises(OSError, match=f"{local}"):
                await connect(HOST, port, configuration=client_configuration(), local_port=local)


async def test_what_programs_for_aioquic_pass_is_taken() -> None:
    assert checked_port("4433") == 4433
    assert checked_port(0) == 0
    for host in (
        "localhost",
        "::1",
        "fe80::1%lo",
        "127.0.0.1",
        "bücher.example",
        "under_score.example",
        "example.com.",
    ):
        assert checked_host(host) == host


async def test_none_stands_for_the_default() -> None:
    handlers: dict[str, Any] = {"create_protocol": None, "session_ticket_handler": None}
    server = await serve(
        HOST, 0, configuration=server_configuration(), stream_handler=echo, session_ticket_fetcher=None, **handlers
    )
    options: dict[str, Any] = handlers | {"stream_handler": None, "token_handler": None}
    async with connect(HOST, port_of(server), configuration=client_configuration(), **options) as protocol:
        assert type(protocol) is QuicConnectionProtocol
    server.close()
    await server.wait_closed()


# --- peers ------------------------------------------------------------------------------------------------------------

Failure = tuple[dict[str, Any], dict[str, Any], type[ConnectError], int]
FAILURES: list[Failure] = [
    ({"cadata": None}, {}, CertificateError, 0x130),
    ({"server_name": "elsewhere.example"}, {}, CertificateError, 0x12A),
    ({"alpn_protocols": ["other"]}, {}, ALPNError, 0x178),
]


@pytest.mark.parametrize(("client", "server", "kind", "code"), FAILURES, ids=["authority", "name", "protocol"])
@pytest.mark.parametrize("way", ["entered", "awaited"])
async def test_a_handshake_that_fails(
    client: dict[str, Any], server: dict[str, Any], kind: type[ConnectError], code: int, way: str
) -> None:
    async with serving(server) as listener:
        started = time.monotonic()
        connecting = connect(HOST, port_of(listener), configuration=client_configuration(**client))
        with pytest.raises(kind) as caught:
            if way == "awaited":
                await connecting
            else:
                async with connecting:
                    pass
        assert time.monotonic() - started < PROMPT
        assert caught.value.code == code
        assert isinstance(caught.value, ConnectionError)
        assert caught.value.reason


@pytest.mark.parametrize(
    ("change", "message"),
    [({"cafile": "/nowhere.pem"}, "/nowhere.pem"), ({"cadata": b"nothing"}, "cadata"), ({"capath": "/none"}, "/none")],
)
async def test_authorities_that_cannot_be_loaded(change: dict[str, Any], message: str) -> None:
    async with serving() as server:
        with pytest.raises(ConnectError, match=f"trusted certificates cannot be loaded: .*{message}"):
            await connect(HOST, port_of(server), configuration=client_configuration(**change))


class Vanishing(asyncio.DatagramProtocol):
    """A server that answers the first flight and is gone then: its socket closed, or mute."""

    def __init__(self, is_mute: bool) -> None:
        self.is_mute = is_mute
        self.answers = 0

    def attach(self, server: Any) -> None:
        engine = server._transport.engine
        send = engine._sock.send

        def maybe(transmit: Any) -> bool:
            self.answers += 1
            transmit.datagrams[1:] = []  # the first datagram only: the handshake cannot go on
            if self.answers > 1:
                return True
            sent: bool = send(transmit)
            if not self.is_mute:
                asyncio.get_running_loop().call_soon(server._transport.close)
            return sent

        engine._sock.send = maybe


@pytest.mark.parametrize("is_mute", [False, True], ids=["closed", "mute"])
async def test_a_peer_that_is_gone_in_mid_handshake(is_mute: bool) -> None:
    async with serving() as server:
        Vanishing(is_mute).attach(server)
        configuration = client_configuration(handshake_timeout=0.4)
        with pytest.raises((HandshakeTimeout, ConnectError)):
            async with asyncio.timeout(PATIENCE):
                await connect(HOST, port_of(server), configuration=configuration)


async def test_a_client_that_is_gone_in_mid_handshake_leaves_nothing_at_the_server() -> None:
    async with serving({"handshake_timeout": 0.3}) as server:
        create = functools.partial(QuicConnectionProtocol)
        connecting = connect(
            HOST, port_of(server), configuration=client_configuration(), create_protocol=create, wait_connected=False
        )
        protocol = await connecting.__aenter__()
        protocol.transmit()
        transport: Any = protocol._transport
        transport.engine._sock.send = lambda transmit: True
        async with asyncio.timeout(PATIENCE):
            while not server._protocols:
                await asyncio.sleep(0.01)
            while server._protocols:
                await asyncio.sleep(0.01)
        transport.close()
        await connecting.__aexit__(None, None, None)
