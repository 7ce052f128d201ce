"""Pacing: spreads a window over a round trip (RFC 9002 §7.7).

A bucket of credit fills at the path's rate and is emptied by what is sent. Three numbers shape it:

- The *capacity* bounds credit, so that a pause never turns into a large burst: what the rate yields in `BURST_TIME`, at
  least ten datagrams (the burst RFC 9002 §7.7 permits), never more than the window.
- The *borrowing limit*: event loops cannot sleep for much less than a millisecond, so a wait shorter than `granularity` is
  not waited; what it would have brought is lent, and credit goes below zero. On the simulator the granularity may be 0.
- The *wake-up amount*: a waiting sender sleeps until a batch is worth sending, `BURST_TIME` of the rate and at least two
  datagrams, so that a timer tick costs one system call and not one a datagram.

Credit accrues over the time that really passed, whatever was slept, so late timers cost nothing up to the capacity. The
pacer knows nothing of the congestion window beyond its size; `Outbound` asks it before each burst, reports what it sent
through `on_sent`, and never paces packets that hold only ACK frames.
"""

from typing import Final

BURST_TIME: Final = 0.002  # seconds of the rate that one burst may hold
BURST_DATAGRAMS: Final = 10  # RFC 9002 §7.7: the initial window
WAKE_DATAGRAMS: Final = 2
SLOW_START_GAIN: Final = 2.0  # the window doubles each round trip, so must the rate
AVOIDANCE_GAIN: Final = 1.25  # RFC 9002 §7.7


def rate_for(window: int, smoothed_rtt: float, in_slow_start: bool) -> float:
    """The pacing rate, in bytes a second, that spreads `window` bytes over a round trip (RFC 9002 §7.7)."""
    gain = SLOW_START_GAIN if in_slow_start else AVOIDANCE_GAIN
    return gain * window / (smoothed_rtt if smoothed_rtt > 1e-6 else 1e-6)


class Pacer:
    """Credit of one path, in bytes. `granularity` is the shortest wait, in seconds, that is worth waiting."""

    __slots__ = ("_capacity", "_credit", "_rate", "_time", "_wake", "granularity")

    def __init__(self, granularity: float = 0.001) -> None:
        self.granularity: float = granularity
        self._credit: float = 0.0
        self._capacity: float = 0.0
        self._wake: float = 0.0
        self._rate: float = 0.0
        self._time: float = -1.0  # of the last accrual; negative: never, the bucket starts full

    @staticmethod
    def rate_for(window: int, smoothed_rtt: float, in_slow_start: bool) -> float:
        """As the function of this module: for controllers that leave their `pacing_rate` at 0.0."""
        return rate_for(window, smoothed_rtt, in_slow_start)

    def budget(self, now: float, rate: float, quantum: int, datagram_size: int, window: int) -> int:
        """Bytes that may go now, 0 when less than a datagram may.

        `rate` is in bytes a second, `quantum` the controller's burst size or 0 for the pacer's own rule, `window` the
        congestion window in bytes.
        """
        burst = rate * BURST_TIME
        if quantum:
            capacity = float(quantum)
        else:
            least = float(BURST_DATAGRAMS * datagram_size)
            capacity = burst if burst > least else least
        if capacity > window:
            capacity = float(window)
        if capacity < datagram_size:
            capacity = float(datagram_size)
        wake = burst if burst > WAKE_DATAGRAMS * datagram_size else float(WAKE_DATAGRAMS * datagram_size)
        credit = capacity if self._time < 0 else self._credit + (now - self._time) * rate
        if credit > capacity:
            credit = capacity
        self._credit = credit
        self._capacity = capacity
        self._wake = wake if wake < capacity else capacity
        self._rate = rate
        self._time = now
        available = credit + rate * self.granularity
        return int(available) if available >= datagram_size else 0

    def on_sent(self, size: int) -> None:
        """`size` bytes of packets that count as in flight were sent."""
        self._credit -= size

    def next_time(self, now: float) -> float:
        """When a batch may go again, for a sender that `budget()` has just refused or exhausted at `now`."""
        missing = self._wake - self._credit
        if missing <= 0 or self._rate <= 0:
            return now
        return now + missing / self._rate
