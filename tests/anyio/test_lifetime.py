"""The rules on how scopes and handlers end, apart from any connection."""

from __future__ import annotations

import logging

import anyio
import pytest

from quicio.anyio.lifetime import Scope, is_cancellation, leave_group, log_error, serve_each
from quicio.errors import ConnectionLost, StreamReset

pytestmark = pytest.mark.anyio


async def test_cancellation_is_recognised_by_the_exception_also_in_groups() -> None:
    seen: list[BaseException] = []
    with anyio.CancelScope() as scope:
        scope.cancel()
        try:
            await anyio.lowlevel.checkpoint()
        except BaseException as caught:
            seen.append(caught)
            raise
    (error,) = seen
    assert is_cancellation(error)
    assert is_cancellation(BaseExceptionGroup("", [error, BaseExceptionGroup("", [error])]))
    assert not is_cancellation(BaseExceptionGroup("", [error, ValueError()]))
    assert not is_cancellation(ValueError())


async def test_a_scope_must_define_both_ends() -> None:
    scope: Scope[None] = Scope()
    with pytest.raises(RuntimeError, match="_enter"):
        await scope.__aenter__()
    with pytest.raises(RuntimeError, match="_leave"):
        await scope.__aexit__(None, None, None)


async def test_leaving_a_group_cancels_and_waits_even_when_cancelled_outside() -> None:
    ended: list[bool] = []

    async def task() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(True)

    with anyio.CancelScope() as outer:
        group = anyio.create_task_group()
        await group.__aenter__()
        group.start_soon(task)
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
        outer.cancel()
        await leave_group(group)
        assert ended == [True]
        await anyio.lowlevel.checkpoint()
        pytest.fail("the outer cancellation arrives at the next checkpoint")
    assert outer.cancelled_caught


class Source:
    """Items, then an error."""

    def __init__(self, items: list[str], error: Exception) -> None:
        self.items = items
        self.error = error

    async def receive(self) -> list[str]:
        await anyio.lowlevel.checkpoint()
        if self.items:
            return [self.items.pop(0)]
        raise self.error


async def test_serving_waits_for_handlers_and_raises_what_ended_it() -> None:
    done: list[str] = []

    async def run(item: str) -> None:
        await anyio.sleep(0.01)
        done.append(item)

    await serve_each(Source(["a", "b"], anyio.EndOfStream()).receive, run, None, log_error)
    assert sorted(done) == ["a", "b"]
    with pytest.raises(ConnectionLost):
        await serve_each(Source(["c"], ConnectionLost("gone")).receive, run, None, log_error)
    assert sorted(done) == ["a", "b", "c"]


async def test_the_first_crash_cancels_the_others_and_leaves_as_itself() -> None:
    async def run(item: str) -> None:
        if item == "bad":
            raise LookupError(item)
        await anyio.sleep_forever()

    def crash(error: Exception, subject: object) -> None:
        raise error

    with anyio.fail_after(2), pytest.raises(LookupError, match="bad"):
        await serve_each(Source(["good", "bad"], anyio.EndOfStream()).receive, run, None, crash)


async def test_what_the_peer_caused_is_told_from_the_rest(caplog: pytest.LogCaptureFixture) -> None:
    errors: list[Exception] = [
        StreamReset("reset", code=1),
        ExceptionGroup("", [StreamReset("reset"), ConnectionLost("lost")]),
        ExceptionGroup("", [StreamReset("reset"), ValueError("mine")]),
        ValueError("mine"),
    ]

    async def run(item: str) -> None:
        raise errors[int(item)]

    with caplog.at_level(logging.INFO, "quicio"):
        await serve_each(Source(["0", "1", "2", "3"], anyio.EndOfStream()).receive, run, None, log_error)
    levels = sorted(record.levelno for record in caplog.records)
    assert levels == [logging.INFO, logging.INFO, logging.ERROR, logging.ERROR]
