"""Links: what may happen to a datagram on its way. Stages compose; each hands on what it lets through.

A stage is built for one direction. `Link` chains stages and ends at a receiver. Sizes are UDP payloads in bytes; rates count
28 bytes of IP and UDP header for each datagram, as a wire would.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

from sim.simulation import Simulation

HEADERS = 28
ECN_CE = 3


@dataclass(frozen=True)
class Datagram:
    """One datagram on the wire."""

    data: bytes
    source: Hashable
    destination: Hashable
    ecn: int = 0


Forward = Callable[[Datagram], None]


class Stage:
    """Base: lets everything through at once. `dropped` counts what did not get through."""

    def __init__(self) -> None:
        self.dropped = 0

    def bind(self, simulation: Simulation) -> None:
        self.simulation = simulation

    def send(self, datagram: Datagram, forward: Forward) -> None:
        forward(datagram)


class Delay(Stage):
    """A fixed one-way delay, and up to `jitter` more: jitter reorders."""

    def __init__(self, seconds: float, jitter: float = 0.0) -> None:
        super().__init__()
        self.seconds = seconds
        self.jitter = jitter

    def send(self, datagram: Datagram, forward: Forward) -> None:
        delay = self.seconds + (self.simulation.random.random() * self.jitter if self.jitter else 0.0)
        self.simulation.at(self.simulation.now + delay, lambda: forward(datagram))


class Loss(Stage):
    """Random loss; `burst` datagrams in a row are lost at a time."""

    def __init__(self, probability: float, burst: int = 1) -> None:
        super().__init__()
        self.probability = probability
        self.burst = burst
        self._left = 0

    def send(self, datagram: Datagram, forward: Forward) -> None:
        if self._left:
            self._left -= 1
            self.dropped += 1
        elif self.simulation.random.random() < self.probability / self.burst:
            self._left = self.burst - 1
            self.dropped += 1
        else:
            forward(datagram)


class DropNumbers(Stage):
    """Drops the datagrams with these numbers, counted from 1."""

    def __init__(self, numbers: Sequence[int]) -> None:
        super().__init__()
        self.numbers = set(numbers)
        self._count = 0

    def send(self, datagram: Datagram, forward: Forward) -> None:
        self._count += 1
        if self._count in self.numbers:
            self.dropped += 1
        else:
            forward(datagram)


class Reorder(Stage):
    """Holds some datagrams back for up to `seconds`."""

    def __init__(self, probability: float, seconds: float) -> None:
        super().__init__()
        self.probability = probability
        self.seconds = seconds

    def send(self, datagram: Datagram, forward: Forward) -> None:
        random = self.simulation.random
        if random.random() < self.probability:
            self.simulation.at(self.simulation.now + random.random() * self.seconds, lambda: forward(datagram))
        else:
            forward(datagram)


class Duplicate(Stage):
    """Some datagrams arrive twice."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def send(self, datagram: Datagram, forward: Forward) -> None:
        forward(datagram)
        if self.simulation.random.random() < self.probability:
            forward(datagram)


class Corrupt(Stage):
    """Flips one bit in some datagrams, as no UDP checksum would let through: the AEAD has to notice."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability
        self.corrupted = 0

    def send(self, datagram: Datagram, forward: Forward) -> None:
        random = self.simulation.random
        if random.random() < self.probability and datagram.data:
            position = random.randrange(len(datagram.data))
            data = bytearray(datagram.data)
            data[position] ^= 1 << random.randrange(8)
            self.corrupted += 1
            datagram = replace(datagram, data=bytes(data))
        forward(datagram)


class Rate(Stage):
    """A bottleneck with a queue of `queue` datagrams that drops its tail, and marks CE where more than `mark_above` wait."""

    def __init__(self, bits_per_second: float, queue: int, mark_above: int | None = None) -> None:
        super().__init__()
        self.bits_per_second = bits_per_second
        self.queue = queue
        self.mark_above = mark_above
        self.marked = 0
        self._departures: list[float] = []

    def send(self, datagram: Datagram, forward: Forward) -> None:
        now = self.simulation.now
        while self._departures and self._departures[0] <= now:
            self._departures.pop(0)
        waiting = len(self._departures)
        if waiting > self.queue:
            self.dropped += 1
            return
        if self.mark_above is not None and waiting > self.mark_above and datagram.ecn:
            self.marked += 1
            datagram = replace(datagram, ecn=ECN_CE)
        start = self._departures[-1] if self._departures else now
        departure = start + (len(datagram.data) + HEADERS) * 8 / self.bits_per_second
        self._departures.append(departure)
        self.simulation.at(departure, lambda: forward(datagram))


class Mtu(Stage):
    """Silently drops what is larger than `size` bytes of UDP payload. `size` may be changed in mid-flight."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def send(self, datagram: Datagram, forward: Forward) -> None:
        if len(datagram.data) > self.size:
            self.dropped += 1
        else:
            forward(datagram)


class BlackHole(Stage):
    """Drops everything for `off` seconds at the end of each period of `on + off` seconds."""

    def __init__(self, on: float, off: float) -> None:
        super().__init__()
        self.on = on
        self.off = off

    def send(self, datagram: Datagram, forward: Forward) -> None:
        if self.simulation.now % (self.on + self.off) >= self.on:
            self.dropped += 1
        else:
            forward(datagram)


class Switch(Stage):
    """Lets everything through while `is_on`."""

    def __init__(self) -> None:
        super().__init__()
        self.is_on = True

    def send(self, datagram: Datagram, forward: Forward) -> None:
        if self.is_on:
            forward(datagram)
        else:
            self.dropped += 1


class Ecn(Stage):
    """Marks some datagrams CE, or bleaches all marks."""

    def __init__(self, mark: float = 0.0, bleach: bool = False) -> None:
        super().__init__()
        self.mark = mark
        self.bleach = bleach

    def send(self, datagram: Datagram, forward: Forward) -> None:
        if self.bleach:
            datagram = replace(datagram, ecn=0)
        elif datagram.ecn and self.simulation.random.random() < self.mark:
            datagram = replace(datagram, ecn=ECN_CE)
        forward(datagram)


class Nat:
    """Gives a host another address at certain times. `outward` belongs to its sending, `inward` to its receiving direction."""

    def __init__(self, inside: tuple[str, int]) -> None:
        self.inside = inside
        self.outside = inside
        self.bindings: set[Hashable] = {inside}

    def rebind(self, outside: tuple[str, int], *, is_strict: bool = False) -> None:
        """From now on the host shows as `outside`. When strict, datagrams to older bindings are dropped."""
        self.outside = outside
        if is_strict:
            self.bindings.clear()
        self.bindings.add(outside)

    def outward(self) -> Stage:
        return _Outward(self)

    def inward(self) -> Stage:
        return _Inward(self)


class _Outward(Stage):
    def __init__(self, nat: Nat) -> None:
        super().__init__()
        self.nat = nat

    def send(self, datagram: Datagram, forward: Forward) -> None:
        forward(replace(datagram, source=self.nat.outside))


class _Inward(Stage):
    def __init__(self, nat: Nat) -> None:
        super().__init__()
        self.nat = nat

    def send(self, datagram: Datagram, forward: Forward) -> None:
        if datagram.destination in self.nat.bindings:
            forward(replace(datagram, destination=self.nat.inside))
        else:
            self.dropped += 1


class Link:
    """A chain of stages in one direction."""

    def __init__(self, simulation: Simulation, stages: Sequence[Stage], receiver: Forward) -> None:
        self.stages = list(stages)
        self.sent = 0
        self.bytes_sent = 0
        for stage in self.stages:
            stage.bind(simulation)
        self._receiver = receiver

    def send(self, datagram: Datagram) -> None:
        self.sent += 1
        self.bytes_sent += len(datagram.data)
        self._forward(0, datagram)

    def _forward(self, index: int, datagram: Datagram) -> None:
        if index == len(self.stages):
            self._receiver(datagram)
        else:
            self.stages[index].send(datagram, lambda passed: self._forward(index + 1, passed))
