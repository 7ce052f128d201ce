"""Virtual time: a queue of events, a seed, nothing else.

Everything that is random in a simulation comes from `Simulation.random`, so that one seed gives one run; when a test fails,
the seed is in the message of whatever it raised (`SimulationError`) or in the report of the fixture that made it.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

from helpers.certificates import NOW
from quicio.environment import Environment


class SimulatedEnvironment(Environment):
    """Seeded randomness, and a date that stands still unless a test moves it."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._random = random.Random(seed)
        self.date = NOW

    def wall_clock(self) -> float:
        return self.date

    def random_bytes(self, size: int) -> bytes:
        return self._random.randbytes(size)


class Simulation:
    """The clock, the queue and the seed."""

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.now = 0.0
        self.random = random.Random(seed)
        self.steps = 0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0

    def at(self, time: float, action: Callable[[], None]) -> None:
        """Run `action` at `time`, not before now."""
        self._order += 1
        heapq.heappush(self._queue, (max(time, self.now), self._order, action))

    def step(self) -> bool:
        """Run the next event. False when there is none."""
        if not self._queue:
            return False
        self.now, _, action = heapq.heappop(self._queue)
        self.steps += 1
        action()
        return True

    @property
    def next_time(self) -> float | None:
        """When the next event is due."""
        return self._queue[0][0] if self._queue else None
