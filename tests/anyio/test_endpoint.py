"""One socket, many connections, both roles."""

from __future__ import annotations

import socket
from typing import Any

import anyio
import pytest
from anyio.abc import SocketAttribute

from helpers.loopback import HOST, client_configuration, read_all, server_configuration
from quicio.anyio import Connection, Listener, connect, open_endpoint
from quicio.errors import ConnectError

pytestmark = pytest.mark.anyio


async def echo(connection: Connection) -> None:
    async with await connection.incoming_streams.receive() as stream:
        await stream.send(await read_all(stream))


async def ask(connection: Connection, text: bytes) -> None:
    async with await connection.open_stream() as stream:
        await stream.send(text)
        await stream.send_eof()
        assert await read_all(stream) == text


async def test_two_endpoints_that_serve_and_call_each_other() -> None:
    async with (
        open_endpoint(HOST) as left,
        open_endpoint(HOST) as right,
        anyio.create_task_group() as group,
    ):
        listeners: list[Listener] = [end.listen(configuration=server_configuration()) for end in (left, right)]
        for listener in listeners:
            group.start_soon(listener.serve, echo)
        for here, there in ((left, right), (right, left), (left, right)):
            async with here.connect(*there.local_address, configuration=client_configuration()) as connection:
                assert connection.local_address == here.local_address
                assert connection.remote_address == there.local_address
                await ask(connection, b"hello")
                assert here.statistics().connections >= 1
                assert here.statistics().half_open == 0
        for listener in listeners:
            await listener.aclose()


async def test_one_listener_at_a_time() -> None:
    async with open_endpoint(HOST) as endpoint:
        first = endpoint.listen(configuration=server_configuration())
        with pytest.raises(anyio.BusyResourceError):
            endpoint.listen(configuration=server_configuration())
        await first.aclose()
        second = endpoint.listen(configuration=server_configuration())
        assert second.local_address == endpoint.local_address


async def test_it_is_a_scope_and_says_so() -> None:
    scope: Any = open_endpoint(HOST)
    with pytest.raises(TypeError, match="async with open_endpoint"):
        await scope
    async with scope:
        with pytest.raises(RuntimeError, match="once"):
            await scope.__aenter__()


async def test_a_socket_of_ones_own_and_attributes() -> None:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((HOST, 0))
    async with open_endpoint(socket=sock) as endpoint:
        assert endpoint.local_address[1] == endpoint.extra(SocketAttribute.local_port)
        assert endpoint.extra(SocketAttribute.local_address) == endpoint.local_address
        assert endpoint.extra(SocketAttribute.family) == socket.AF_INET
        assert HOST in repr(endpoint)
        with pytest.raises(ConnectError, match="IPv4") as caught:
            async with endpoint.connect("::1", 4433, alpn=["x"]):
                pytest.fail("no way there")
        assert isinstance(caught.value.__cause__, OSError)
    assert sock.fileno() == -1
    for use in (
        lambda: endpoint.connect(HOST, 1, alpn=["x"]),
        lambda: endpoint.listen(configuration=server_configuration()),
    ):
        with pytest.raises(anyio.ClosedResourceError):
            use()


async def test_close_ends_all_connections_at_once() -> None:
    codes: list[int] = []

    async def stay(connection: Connection) -> None:
        await connection.wait_closed()

    async with open_endpoint(HOST) as endpoint, anyio.create_task_group() as group:
        listener = endpoint.listen(configuration=server_configuration())
        group.start_soon(listener.serve, stay)

        async def client() -> None:
            async with connect(*endpoint.local_address, configuration=client_configuration()) as connection:
                codes.append((await connection.wait_closed()).code)

        for _ in range(2):
            group.start_soon(client)
        with anyio.fail_after(5):
            while endpoint.statistics().connections < 2 or endpoint.statistics().half_open:
                await anyio.sleep(0.01)
        endpoint.close(7, "all of you")
    assert codes == [7, 7]


@pytest.mark.parametrize("how", ["normally", "by an exception"])
async def test_leaving_ends_what_is_left(how: str) -> None:
    codes: list[int] = []

    async def client(address: tuple[str, int]) -> None:
        async with connect(*address, configuration=client_configuration()) as connection:
            await ask(connection, b"x")
            codes.append((await connection.wait_closed()).code)

    async with anyio.create_task_group() as group:
        error = LookupError("of the body")
        try:
            async with open_endpoint(HOST) as endpoint:
                listener = endpoint.listen(configuration=server_configuration())
                group.start_soon(client, endpoint.local_address)
                async with (await listener.accept()).accept() as connection:
                    await echo(connection)
                    if how == "by an exception":
                        raise error
                await endpoint.aclose()
        except LookupError as caught:
            assert caught is error  # noqa: PT017  # only one of the two ways raises
    assert codes == [0 if how == "normally" else 1]
