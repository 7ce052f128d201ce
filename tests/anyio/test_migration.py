"""Another local address under a connection: `Connection.migrate` and `Endpoint.rebind`."""

from __future__ import annotations

import socket

import anyio
import pytest

from helpers.loopback import HOST, client_configuration, pair, serving
from quicio.anyio import Connection, open_endpoint
from quicio.anyio import migration as migration_module
from quicio.errors import Address, ConnectError

pytestmark = pytest.mark.anyio


def bound() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((HOST, 0))
    return sock


async def test_a_connection_goes_on_from_another_port() -> None:
    async with pair() as ends:
        stream = await ends.client.open_stream()
        await stream.send(b"before")
        other = await ends.server.incoming_streams.receive()
        before, old_cid = ends.client.local_address, ends.client.statistics()
        async with anyio.create_task_group() as group:
            moved: list[Address] = []

            async def watch() -> None:
                moved.append(await ends.server.wait_path_changed())

            group.start_soon(watch)
            await anyio.wait_all_tasks_blocked()
            await ends.client.migrate()
        assert ends.client.local_address != before
        assert moved[0][1] == ends.client.local_address[1]
        assert ends.server.remote_address[1] == ends.client.local_address[1]
        assert old_cid.bytes_sent <= ends.client.statistics().bytes_sent
        await stream.send(b" after")
        assert await other.receive() == b"before"
        assert await other.receive() == b" after"
        await other.aclose()
        await stream.aclose()


async def test_it_may_go_on_from_a_socket_of_the_users_and_again() -> None:
    async with pair() as ends:
        for _ in range(3):
            sock = bound()
            port = sock.getsockname()[1]
            await ends.client.migrate(socket=sock)
            assert ends.client.local_address == (HOST, port)
            assert await ends.client.ping() < 5


async def test_the_local_address_may_be_chosen() -> None:
    async with pair() as ends:
        await ends.client.migrate(local_host="127.0.0.2")
        assert ends.client.local_address[0] == "127.0.0.2"
        assert ends.server.remote_address[0] == "127.0.0.2"
        with pytest.raises(OSError, match=r"."):
            await ends.client.migrate(local_host="192.0.2.77")
        assert ends.client.local_address[0] == "127.0.0.2"


async def test_a_path_that_leads_nowhere_is_left_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migration_module, "PATIENCE", 0.2)
    async with pair() as ends:
        before = ends.client.local_address
        nowhere, sink = bound(), bound()
        nowhere.connect(sink.getsockname())  # what is sent elsewhere than to its peer is refused
        with pytest.raises(ConnectError, match="stays where it was"):
            await ends.client.migrate(socket=nowhere)
        sink.close()
        assert nowhere.fileno() == -1
        assert ends.client.local_address == before
        assert await ends.client.ping() < 5


async def test_cancelled_it_stays_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    async with pair() as ends:
        before = ends.client.local_address
        nowhere, sink = bound(), bound()
        nowhere.connect(sink.getsockname())
        with anyio.move_on_after(0.1) as scope:
            await ends.client.migrate(socket=nowhere)
        sink.close()
        assert scope.cancelled_caught
        assert nowhere.fileno() == -1
        assert ends.client.local_address == before
        assert await ends.client.ping() < 5


async def test_what_cannot_migrate_says_why() -> None:
    async with pair() as ends:
        with pytest.raises(RuntimeError, match=r"Endpoint\.rebind"):
            await ends.server.migrate()
    async with pair() as ends:
        ends.client._link.quic._parts.paths.peer_disables_migration = True
        with pytest.raises(RuntimeError, match="the server forbids it"):
            await ends.client.migrate()
    with pytest.raises(anyio.ClosedResourceError):
        await ends.client.migrate()


async def test_an_endpoint_moves_all_its_connections() -> None:
    seen: list[Connection] = []

    async def hold(connection: Connection) -> None:
        seen.append(connection)
        await connection.wait_closed()

    async with serving(hold) as listener, open_endpoint(HOST) as endpoint:
        configuration = client_configuration()
        async with (
            endpoint.connect(*listener.local_address, configuration=configuration) as one,
            endpoint.connect(*listener.local_address, configuration=configuration) as two,
        ):
            await one.ping()
            await two.ping()
            sock = bound()
            port = sock.getsockname()[1]
            endpoint.rebind(sock)
            assert endpoint.local_address == (HOST, port)
            assert await one.ping() < 5
            assert await two.ping() < 5
            assert {connection.remote_address[1] for connection in seen} == {port}
            with pytest.raises(RuntimeError, match=r"Endpoint\.rebind"):
                await one.migrate()
            tcp = socket.socket()
            with pytest.raises(ValueError, match="not a UDP socket"):
                endpoint.rebind(tcp)
            tcp.close()
    with pytest.raises(anyio.ClosedResourceError):
        endpoint.rebind(sock)


async def test_a_connection_that_is_being_made_survives_a_rebinding() -> None:
    async def hold(connection: Connection) -> None:
        await connection.wait_closed()

    async with serving(hold) as listener, open_endpoint(HOST) as endpoint:
        link = endpoint._driver.adopt(
            endpoint._driver.endpoint.connect(
                client_configuration(server_name="localhost"), listener.local_address, endpoint._driver.now()
            )
        )
        endpoint.rebind(bound())
        with anyio.fail_after(5):
            await link.wait_established()
        link.close(0)
