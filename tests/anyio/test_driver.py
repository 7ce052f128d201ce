"""The pump: turns, time, a socket that would block, and failures, which end connections and never the body."""

from __future__ import annotations

import time
from typing import Any

import anyio
import pytest

from helpers.loopback import HOST, client_configuration, pair, read_all, server_configuration
from quicio.anyio import Connection, connect, listen, pump
from quicio.errors import ConnectError, ConnectionLost
from quicio.quic.transmit import Transmit
from quicio.udp.socket import UdpSocket

pytestmark = pytest.mark.anyio


async def test_a_failure_of_the_engine_ends_connections_with_it_as_the_cause(caplog: pytest.LogCaptureFixture) -> None:
    failure = RuntimeError("the engine broke")
    ends_outside: list[Connection] = []

    def fail(now: float) -> bool:
        raise failure

    with anyio.fail_after(5):
        async with pair(client={"linger": 0.05}) as ends:
            client = ends.client
            ends_outside.append(client)
            stream = await client.open_stream()
            stream.announce()
            client._link.driver.engine.readable = fail  # type: ignore[method-assign]  # a fault, injected
            ends.server.datagrams.send_nowait(b"wakes the reader")
            with pytest.raises(ConnectionLost) as caught:
                await stream.receive()
            assert caught.value.__cause__ is failure
            await anyio.sleep(0.01)  # the body was not cancelled
            with pytest.raises(ConnectionLost):
                await client.open_stream()
            client._link.flush()  # of no use, and harmless
            assert client._link.driver.failure is failure
    assert "driver" in caplog.text


async def test_connecting_on_a_failing_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    async with listen(HOST, 0, configuration=server_configuration()) as listener:
        scope: Any = connect(*listener.local_address, configuration=client_configuration())
        original = scope._new_driver

        def broken(*arguments: Any) -> Any:
            driver = original(*arguments)

            def fail(now: float) -> bool:
                raise RuntimeError("the engine broke")

            driver.engine.flush = fail
            return driver

        monkeypatch.setattr(scope, "_new_driver", broken)
        with anyio.fail_after(5), pytest.raises(ConnectError) as caught:
            async with scope:
                pytest.fail("nothing was sent")
        assert isinstance(caught.value.__cause__, RuntimeError)


class Blocking(UdpSocket):
    """A socket that would block now and then."""

    refusals = 0
    every = 3

    def send(self, transmit: Transmit) -> bool:
        self.refusals += 1
        return False if self.refusals % self.every == 0 else super().send(transmit)


async def test_a_socket_that_would_block_is_waited_for_by_the_driver_alone() -> None:
    async with pair() as ends:
        engine = ends.client._link.driver.engine
        udp: Any = engine._sock
        udp.__class__ = Blocking
        async with await ends.client.open_stream() as mine:
            size = 500_000
            async with anyio.create_task_group() as group:

                async def send() -> None:
                    await mine.send(bytes(size))
                    await mine.send_eof()

                group.start_soon(send)
                async with await ends.server.incoming_streams.receive() as theirs:
                    with anyio.fail_after(10):
                        assert len(await read_all(theirs)) == size
        assert udp.refusals > 3


async def test_many_senders_of_one_scheduler_turn_share_a_flush() -> None:
    async with pair() as ends:
        streams = [await ends.client.open_send_stream() for _ in range(20)]
        for stream in streams:
            stream.announce()
        await ends.client.ping()
        await anyio.sleep(0.05)
        before = ends.client.statistics().packets_sent
        async with anyio.create_task_group() as group:
            for stream in streams:
                group.start_soon(stream.send, b"twenty bytes, or so.")
        assert ends.client.statistics().packets_sent - before <= 4
        async with anyio.create_task_group() as group:
            for stream in streams:
                group.start_soon(stream.aclose)
        await ends.client.ping()  # the server has it all, and may close


async def test_an_idle_connection_does_not_spin() -> None:
    async with pair(client={"idle_timeout": 30.0}) as ends:
        await ends.client.ping()
        turns = 0
        driver = ends.client._link.driver
        original = driver.engine.expired

        def counted(now: float) -> None:
            nonlocal turns
            turns += 1
            original(now)

        driver.engine.expired = counted  # type: ignore[method-assign]  # counts, and passes on
        used = time.process_time()
        await anyio.sleep(0.5)
        assert turns < 20
        assert time.process_time() - used < 0.3


async def test_stopping_twice_and_touching_afterwards_is_harmless() -> None:
    connections: list[Connection] = []
    async with pair() as ends:
        connections.append(ends.client)
    driver = connections[0]._link.driver
    driver.stop()
    driver.touch(connections[0]._link.quic)
    driver.settle()
    assert driver.is_stopped
    assert driver.failure is None
    connections[0].close(0)


def no_reader(*arguments: Any) -> None:
    """Stands for `add_reader` of a loop that has none."""
    raise NotImplementedError


async def test_a_wait_that_fails_ends_connections_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pump, "LoopPump", no_reader)  # where tasks wait for the socket
    failure = OSError("the descriptor went bad")

    def fail() -> int:
        raise failure

    with anyio.fail_after(5):
        async with pair() as ends:
            driver = ends.client._link.driver
            driver.engine.fileno = fail  # type: ignore[method-assign]  # a fault, injected
            ends.server.datagrams.send_nowait(b"wakes the reader")
            await ends.client.wait_closed()
            assert driver.failure is failure
            with pytest.raises(ConnectionLost):
                await ends.client.ping()
            del driver.engine.fileno


async def test_a_cancelled_end_of_a_listener_closes_its_connections_with_cancelled() -> None:
    codes: list[int] = []

    async def client(address: tuple[str, int]) -> None:
        async with connect(*address, configuration=client_configuration()) as connection:
            codes.append((await connection.wait_closed()).code)

    async with anyio.create_task_group() as group:
        with anyio.move_on_after(0.4) as scope:
            async with listen(HOST, 0, configuration=server_configuration(linger=60.0)) as listener:
                group.start_soon(client, listener.local_address)
                await (await listener.accept()).accept().__aenter__()  # left open
        assert scope.cancelled_caught
    assert codes == [2]
