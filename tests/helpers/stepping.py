"""Awaits an operation step by step, and does something at its k-th suspension.

`Stepping` stands between a coroutine and its event loop: it passes on whatever the coroutine yields to the loop and whatever
the loop answers, and counts. Both asyncio and trio take that for the coroutine itself. trio's `checkpoint()` suspends once,
shielded, and a second time when it finds the task cancelled: there a cancellation at suspension k lands at k or at k + 1.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from typing import Any

import outcome
import trio


class Stepping:
    """One run of an operation; `act` is called when it suspends for the `at`-th time, before the loop hears of it."""

    def __init__(self, operation: Awaitable[Any], at: int, act: Callable[[], object]) -> None:
        self.operation = operation
        self.at = at
        self.act = act
        self.suspensions = 0
        self.landed: int | None = None  # the suspension at which a cancellation was first delivered

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self.operation.__await__()
        advance: Callable[[], Any] = lambda: next(steps)  # noqa: E731  # what the next step is to be done with
        while True:
            try:
                message = advance()
            except StopIteration as end:
                return end.value
            self.suspensions += 1
            if self.suspensions == self.at:
                self.act()
            try:
                answer = yield message
            except BaseException as error:
                self._note(error)
                advance = _throw(steps, error)
            else:
                if isinstance(answer, outcome.Error):
                    self._note(answer.error)
                advance = _send(steps, answer)

    def _note(self, error: BaseException) -> None:
        if self.landed is None and isinstance(error, asyncio.CancelledError | trio.Cancelled):
            self.landed = self.suspensions


def _throw(steps: Generator[Any, Any, Any], error: BaseException) -> Callable[[], Any]:
    return lambda: steps.throw(error)


def _send(steps: Generator[Any, Any, Any], answer: object) -> Callable[[], Any]:
    return lambda: steps.send(answer)
