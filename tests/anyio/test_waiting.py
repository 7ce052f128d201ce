"""Yielding and waiting by the loop's own means: cancellation reaches them, and waking is for who still waits."""

from __future__ import annotations

import anyio
import pytest

from quicio.anyio.waiting import Waiter, Waiting, current_waiting, wake

pytestmark = pytest.mark.anyio


async def test_a_checkpoint_yields_once_and_sees_a_cancellation() -> None:
    waiting = current_waiting()
    turns: list[int] = []

    async def other() -> None:
        turns.append(1)

    async with anyio.create_task_group() as group:
        group.start_soon(other)
        await waiting.checkpoint()
    assert turns == [1]
    with anyio.CancelScope() as scope:
        scope.cancel()
        await waiting.checkpoint()
        pytest.fail("the checkpoint passed")
    assert scope.cancelled_caught


async def test_a_waiter_is_woken_once_and_not_after_it_was_cancelled() -> None:
    waiting = current_waiting()
    waiter = waiting.waiter()
    async with anyio.create_task_group() as group:
        group.start_soon(until_woken, waiter)
        await anyio.sleep(0.01)
        assert not waiter.done()
        wake(waiter)
        assert waiter.done()
        wake(waiter)
    cancelled = waiting.waiter()
    with anyio.move_on_after(0.01) as scope:
        await cancelled
    assert scope.cancelled_caught
    assert cancelled.done()
    wake(cancelled)
    wake(None)


async def test_a_waiter_that_was_woken_before_is_not_waited_for() -> None:
    waiter = current_waiting().waiter()
    wake(waiter)
    with anyio.fail_after(1):
        await waiter


async def test_the_clock_is_the_backends() -> None:
    waiting: Waiting = current_waiting()
    assert abs(waiting.now() - anyio.current_time()) < 0.5


async def until_woken(waiter: Waiter) -> None:
    await waiter
