"""Happy Eyeballs (RFC 8305): the order of addresses, when they start, who wins, what is left of the others."""

from __future__ import annotations

import gc
import socket
from typing import Any

import anyio
import pytest

from helpers.loopback import HOST, client_configuration, serving
from quicio.anyio import Connection, connect
from quicio.anyio import client as client_module
from quicio.anyio.dialling import ATTEMPT_DELAY, Race, interleaved
from quicio.errors import Address, ConnectError, HandshakeTimeout

SIX = [("2001:db8::1", 1), ("2001:db8::2", 1), ("2001:db8::3", 1)]
FOUR = [("192.0.2.1", 1), ("192.0.2.2", 1)]


def test_families_alternate_and_the_resolvers_first_goes_first() -> None:
    assert interleaved([*SIX, *FOUR]) == [SIX[0], FOUR[0], SIX[1], FOUR[1], SIX[2]]
    assert interleaved([FOUR[0], *SIX[:2]]) == [FOUR[0], SIX[0], SIX[1]]
    assert interleaved([]) == []


class Attempts:
    """Attempts that succeed, fail or hang as their addresses say, and note what happens to them."""

    def __init__(self, outcomes: dict[Address, Any]) -> None:
        self.outcomes = outcomes
        self.started: dict[Address, float] = {}
        self.cancelled: list[Address] = []
        self.discarded: list[str] = []

    async def __call__(self, address: Address) -> str:
        self.started[address] = anyio.current_time()
        outcome = self.outcomes[address]
        try:
            if outcome is None:
                await anyio.sleep_forever()
            await anyio.sleep(0)
        except anyio.get_cancelled_exc_class():
            self.cancelled.append(address)
            raise
        if isinstance(outcome, Exception):
            raise outcome
        return str(outcome)


@pytest.mark.anyio
async def test_the_next_starts_after_a_while_and_the_first_to_answer_wins() -> None:
    attempts = Attempts({SIX[0]: None, FOUR[0]: "four", SIX[1]: "never"})
    before = anyio.current_time()
    assert await Race(attempts, attempts.discarded.append).run([SIX[0], FOUR[0], SIX[1]]) == "four"
    assert list(attempts.started) == [SIX[0], FOUR[0]]
    assert attempts.started[FOUR[0]] - attempts.started[SIX[0]] >= ATTEMPT_DELAY - 0.01
    assert anyio.current_time() - before < 4 * ATTEMPT_DELAY
    assert attempts.cancelled == [SIX[0]]


@pytest.mark.anyio
async def test_a_failure_starts_the_next_at_once() -> None:
    attempts = Attempts({SIX[0]: OSError("no route"), FOUR[0]: ConnectError("refused"), SIX[1]: "six"})
    before = anyio.current_time()
    assert await Race(attempts, attempts.discarded.append).run([SIX[0], FOUR[0], SIX[1]]) == "six"
    assert anyio.current_time() - before < ATTEMPT_DELAY


@pytest.mark.anyio
async def test_when_all_fail_each_is_told_in_the_order_of_trying() -> None:
    one, two = OSError("no route"), ConnectError("refused")
    attempts = Attempts({SIX[0]: one, FOUR[0]: two})
    race = Race(attempts, attempts.discarded.append)
    assert await race.run([SIX[0], FOUR[0]]) is None
    assert race.failures == [(SIX[0], one), (FOUR[0], two)]


@pytest.mark.anyio
async def test_one_address_is_tried_in_the_callers_own_task() -> None:
    tasks: list[int] = []
    discarded: list[str] = []

    async def attempt(address: Address) -> str:
        tasks.append(anyio.get_current_task().id)
        return "alone"

    assert await Race(attempt, discarded.append).run([SIX[0]]) == "alone"
    assert tasks == [anyio.get_current_task().id]
    refused = ConnectError("refused")
    race = Race(Attempts({FOUR[0]: refused}), discarded.append)
    assert await race.run([FOUR[0]]) is None
    assert race.failures == [(FOUR[0], refused)]


@pytest.mark.anyio
async def test_a_mistake_leaves_as_itself() -> None:
    mistake = ValueError("wrong")
    attempts = Attempts({SIX[0]: mistake, FOUR[0]: "four"})
    with pytest.raises(ValueError, match="wrong") as caught:
        await Race(attempts, attempts.discarded.append).run([SIX[0], FOUR[0]])
    assert caught.value is mistake


@pytest.mark.anyio
async def test_who_wins_while_the_race_is_cancelled_is_undone() -> None:
    discarded: list[str] = []
    with anyio.CancelScope() as scope:

        async def attempt(address: Address) -> str:
            scope.cancel()
            return "won"

        await Race(attempt, discarded.append).run([SIX[0], FOUR[0]])
    assert scope.cancelled_caught
    assert discarded == ["won"]


@pytest.mark.anyio
async def test_a_second_winner_of_the_same_turn_is_undone() -> None:
    discarded: list[str] = []
    start = anyio.Event()

    async def attempt(address: Address) -> str:
        if address == SIX[0]:
            await start.wait()
        start.set()
        with anyio.CancelScope(shield=True):
            await anyio.lowlevel.checkpoint()
        return address[0]

    assert await Race(attempt, discarded.append).run([SIX[0], FOUR[0]]) is not None
    assert len(discarded) == 1


def sockets() -> int:
    gc.collect()
    return sum(isinstance(item, socket.socket) and item.fileno() >= 0 for item in gc.get_objects())


@pytest.mark.anyio
async def test_an_address_that_is_silent_costs_a_quarter_of_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((HOST, 0))
        async with serving(Connection.wait_closed) as listener:

            async def resolve(host: Any, port: int) -> list[Address]:
                return [silent.getsockname(), listener.local_address]

            monkeypatch.setattr(client_module, "resolve", resolve)
            before = sockets()
            start = anyio.current_time()
            async with connect("localhost", 1, configuration=client_configuration()) as connection:
                assert anyio.current_time() - start < 3
                assert connection.remote_address == listener.local_address
                assert sockets() == before + 1  # the loser's is closed
            assert sockets() == before


@pytest.mark.anyio
async def test_every_address_is_told_with_its_own_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed,
    ):
        silent.bind((HOST, 0))
        closed.bind((HOST, 0))
        refused = closed.getsockname()
        closed.close()

        async def resolve(host: Any, port: int) -> list[Address]:
            return [silent.getsockname(), refused]

        monkeypatch.setattr(client_module, "resolve", resolve)
        before = sockets()
        with pytest.raises(HandshakeTimeout) as caught:
            async with connect("two.example", 1, configuration=client_configuration(handshake_timeout=0.4)):
                pytest.fail("nobody is there")
        assert sockets() == before
    assert [address for address, _ in caught.value.attempts] == [silent_address(caught.value), refused]
    text = str(caught.value)
    assert text.startswith("cannot connect to two.example at 127.0.0.1 port ")
    assert "no answer came" in text
    assert "refused, nobody listens on this UDP port" in text


def silent_address(error: ConnectError) -> Address:
    return error.attempts[0][0]
