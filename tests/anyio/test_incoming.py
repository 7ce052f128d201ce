"""What a server can ask before it decides: the ClientHello; and what it can accept with after that."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from helpers.loopback import HOST, client_configuration, identity, server_configuration
from quicio.anyio import Incoming, QuicAttribute, connect, listen
from quicio.errors import ConnectError
from quicio.quic.client_hello import ClientHello

pytestmark = pytest.mark.anyio


def validate(incoming: Incoming) -> None:
    if not incoming.address_validated:
        incoming.retry()


async def visit(address: tuple[str, int], answers: list[str], **changes: Any) -> None:
    name = changes.pop("server_name", "localhost")
    async with connect(*address, configuration=client_configuration(**changes), server_name=name) as connection:
        answers.append(str(connection.extra(QuicAttribute.alpn)))
        await connection.wait_closed()


async def test_the_configuration_is_chosen_by_what_the_client_asks_for() -> None:
    answers: list[str] = []
    configuration = server_configuration(alpn_protocols=["other"])
    async with (
        anyio.create_task_group() as group,
        listen(HOST, 0, configuration=configuration, policy=validate) as listener,
    ):
        group.start_soon(visit, listener.local_address, answers)
        incoming = await listener.accept()
        hello = await incoming.client_hello()
        assert hello == ClientHello("localhost", ("quicio-test",))
        assert await incoming.client_hello() == hello  # again: the same
        who, _ = identity()
        chosen = server_configuration(alpn_protocols=list(hello.alpn), certificate=who.chain[0])
        async with incoming.accept(chosen) as connection:
            assert connection.extra(QuicAttribute.alpn) == "quicio-test"
        with pytest.raises(RuntimeError, match="a decision was made"):
            await incoming.client_hello()
        with pytest.raises(RuntimeError, match="a decision was made"):
            incoming.refuse()
    assert answers == ["quicio-test"]


async def test_it_is_read_of_validated_addresses_only() -> None:
    answers: list[str] = []
    async with anyio.create_task_group() as group, listen(HOST, 0, configuration=server_configuration()) as listener:
        group.start_soon(visit, listener.local_address, answers)
        incoming = await listener.accept()
        with pytest.raises(RuntimeError, match=r"retry\(\) first"):
            await incoming.client_hello()
        incoming.refuse()
        group.cancel_scope.cancel()
    assert answers == []


async def test_one_of_several_datagrams_is_waited_for() -> None:
    answers: list[str] = []
    names = [f"protocol-{number}-{'x' * 200}" for number in range(8)]
    configuration = server_configuration()
    async with (
        anyio.create_task_group() as group,
        listen(HOST, 0, configuration=configuration, policy=validate) as listener,
    ):
        group.start_soon(lambda: visit(listener.local_address, answers, alpn_protocols=[*names, "quicio-test"]))
        incoming = await listener.accept()
        hello = await incoming.client_hello()
        assert hello.alpn == (*names, "quicio-test")
        async with incoming.accept():
            pass
    assert answers == ["quicio-test"]


async def test_a_listener_that_closes_ends_the_wait() -> None:
    async with listen(HOST, 0, configuration=server_configuration(), policy=validate) as listener:
        with pytest.raises(ExceptionGroup) as caught:
            async with anyio.create_task_group() as group:
                group.start_soon(lambda: visit(listener.local_address, [], alpn_protocols=["x" * 250] * 8))
                incoming = await listener.accept()
                del incoming._attempt.received().datagrams[1:]  # the rest of the message is lost
                group.start_soon(incoming.client_hello)
                await anyio.sleep(0.01)
                listener.close()
        assert caught.group_contains(ConnectError)
