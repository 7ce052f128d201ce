"""The links of the published interoperability scenarios, by their numbers."""

from __future__ import annotations

from collections.abc import Sequence

from sim.links import Corrupt, Delay, Duplicate, Loss, Rate, Reorder, Stage

ONE_WAY_DELAY = 0.015
BITS_PER_SECOND = 10e6
QUEUE = 25


def bottleneck(
    *stages: Stage, delay: float = ONE_WAY_DELAY, rate: float = BITS_PER_SECOND, queue: int = QUEUE
) -> Sequence[Stage]:
    """10 Mbit/s, 15 ms, a queue of 25 packets, behind whatever `stages` do."""
    return [*stages, Rate(rate, queue), Delay(delay)]


def rough(
    loss: float = 0.0, *, burst: int = 1, reorder: float = 0.0, duplicate: float = 0.0, corrupt: float = 0.0
) -> Sequence[Stage]:
    """The bottleneck with all that may befall a datagram."""
    return bottleneck(Loss(loss, burst), Reorder(reorder, 0.02), Duplicate(duplicate), Corrupt(corrupt))
