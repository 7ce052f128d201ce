"""Links, driven by hand: a core that does what the test says."""

from __future__ import annotations

import asyncio
from collections import deque
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from quicio.anyio.link import Link
from quicio.anyio.waiting import current_waiting
from quicio.errors import CloseReason, ConnectError, ConnectionLost
from quicio.quic import lifecycle as life
from quicio.quic.events import (
    ConnectionTerminated,
    HandshakeCompleted,
    PathChanged,
    PingAcknowledged,
    QuicEvent,
    StreamsAvailable,
)

pytestmark = pytest.mark.anyio


class Core:
    """Stands for a `QuicConnection`: a limit of streams, events, a close reason."""

    def __init__(self) -> None:
        self.events: deque[QuicEvent] = deque()
        self.close_reason: CloseReason | None = None
        self.close_cause = life.CAUSE_PEER
        self.limit = 0
        self.opened = 0
        self.remote = ("192.0.2.1", 443)
        self.tls = SimpleNamespace(early_data_accepted=False)

    def next_event(self) -> QuicEvent | None:
        return self.events.popleft() if self.events else None

    def open_stream(self, is_unidirectional: bool = False) -> int | None:
        if self.opened >= self.limit:
            return None
        self.opened += 1
        return 4 * (self.opened - 1)

    def send_ping(self, uid: int) -> None:
        self.events.append(PingAcknowledged(uid))

    def get_peer_address(self) -> Any:
        return self.remote

    def statistics(self) -> Any:
        return SimpleNamespace(packets_received=0)

    def close(self, **arguments: Any) -> None:
        self.close_reason = CloseReason(arguments["error_code"], True, False)


class Driver:
    """Stands for the driver: a clock, and what was asked of it."""

    def __init__(self) -> None:
        self.time = 10.0
        self.waiting = current_waiting()
        self.forgotten: list[Link] = []

    def now(self) -> float:
        self.time += 0.5
        return self.time

    def touch(self, quic: Core) -> None: ...

    def settle(self) -> None: ...

    def settle_now(self) -> None: ...

    def forget(self, link: Link) -> None:
        self.forgotten.append(link)


def make() -> tuple[Link, Any]:
    core: Any = Core()
    driver: Any = Driver()
    return Link(core, driver), core


async def test_an_id_given_to_a_cancelled_waiter_goes_to_the_next() -> None:
    link, core = make()
    ids: list[int] = []

    async def wait(scope: anyio.CancelScope) -> None:
        with scope:
            ids.append(await link.open(False))

    first, second = anyio.CancelScope(), anyio.CancelScope()
    async with anyio.create_task_group() as group:
        group.start_soon(wait, first)
        await anyio.sleep(0.01)
        group.start_soon(wait, second)
        await anyio.sleep(0.01)
        core.limit = 1
        core.events.append(StreamsAvailable(False))
        link.drain()  # the ID is the first one's, which has not run yet
        first.cancel()
        await anyio.sleep(0.05)
        second.cancel()
    assert ids == [0]  # whichever of the two the backend let have it; never nobody
    assert core.opened == 1


async def test_a_spare_id_is_used_before_a_new_one_and_turns_are_kept() -> None:
    link, core = make()
    link._spare_ids[False].append(40)
    core.limit = 1
    assert link.open_nowait(False) == 40
    assert link.open_nowait(False) == 0
    with pytest.raises(anyio.WouldBlock):
        link.open_nowait(False)


async def test_waiters_for_streams_learn_of_the_end() -> None:
    link, core = make()

    async def wait() -> None:
        with pytest.raises(ConnectionLost):
            await link.open(True)

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.sleep(0.01)
        core.close_reason = CloseReason(1, True, True)
        link.note_end()
        link.note_end()  # once is enough


async def test_a_path_change_wakes_its_waiters_with_the_new_address() -> None:
    link, core = make()
    seen: list[Any] = []

    async def wait() -> None:
        await link.wait_path_changed()
        seen.append(link.remote_address)

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        group.start_soon(wait)
        await anyio.sleep(0.01)
        core.remote = ("192.0.2.2", 443)
        core.events.append(PathChanged(core.remote, None))
        link.drain()
    assert seen == [core.remote] * 2


async def test_ping_measures_on_the_drivers_clock_and_a_stray_answer_is_nothing() -> None:
    link, core = make()
    core.events.append(PingAcknowledged(99))
    link.drain()

    async def answer() -> None:
        await anyio.sleep(0.01)
        link.drain()

    async with anyio.create_task_group() as group:
        group.start_soon(answer)
        assert await link.ping() == 0.5


async def test_a_ping_that_the_end_overtakes() -> None:
    link, core = make()

    async def lose() -> None:
        await anyio.sleep(0.01)
        core.close_reason = CloseReason(3, True, True)
        link.note_end()

    async with anyio.create_task_group() as group:
        group.start_soon(lose)
        with pytest.raises(ConnectionLost):
            await link.ping()
        with pytest.raises(ConnectionLost):
            await link.ping()


async def test_termination_without_a_closing_event_is_an_end_too() -> None:
    link, core = make()
    core.close_reason = CloseReason(0, False, False)
    core.events.append(ConnectionTerminated(0, 0, ""))
    link.drain()
    assert link.terminated.is_set()
    assert link.reason is core.close_reason
    assert link.driver.forgotten == [link]  # type: ignore[attr-defined]  # the stand-in's


async def test_established_or_why_not() -> None:
    link, core = make()
    core.events.append(HandshakeCompleted("x", False, False))
    link.drain()
    await link.wait_established()
    link.refuse(OSError())  # too late to matter
    assert link.reason is None

    link, core = make()
    link.close(0)
    link.close(1)
    with pytest.raises(anyio.ClosedResourceError):
        await link.wait_established()

    link, core = make()
    failure = OSError("nobody is there")
    link.refuse(failure)
    link.refuse(OSError("again"))
    with pytest.raises(ConnectError) as caught:
        await link.wait_established()
    assert caught.value.__cause__ is failure


async def test_closing_what_was_lost_makes_it_closed() -> None:
    link, core = make()
    core.close_reason = CloseReason(1, True, True)
    link.note_end()
    with pytest.raises(ConnectionLost):
        link.check()
    link.close(0)
    assert core.close_reason.code == 1  # the core heard nothing of it
    with pytest.raises(anyio.ClosedResourceError):
        link.check()


async def test_a_failure_without_a_close_reason_gets_one() -> None:
    link, _ = make()
    failure = RuntimeError("broke")
    link.note_end(failure)
    assert link.reason is not None
    assert "broke" in link.reason.reason
    assert link.error().__cause__ is failure


def test_a_native_cancellation_that_comes_with_the_wake_up_hands_the_id_on() -> None:
    async def main() -> None:
        link, core = make()
        first = asyncio.create_task(link.open(False))
        await asyncio.sleep(0.01)
        second = asyncio.create_task(link.open(False))
        await asyncio.sleep(0.01)
        core.limit = 1
        core.events.append(StreamsAvailable(False))
        link.drain()  # the ID is the first one's, which is cancelled before it runs
        first.cancel()
        assert await asyncio.wait_for(second, 2) == 0
        assert first.cancelled()
        assert core.opened == 1

    asyncio.run(main())
