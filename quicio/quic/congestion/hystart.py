"""HyStart++: leave slow start when the RTT rises, before packets are lost (RFC 9406).

Slow start is watched in rounds of one round trip. When the smallest RTT of a round exceeds that of the round before by a
threshold, a queue is building: growth drops to a quarter ("conservative slow start"). If the RTT falls below the baseline
again, the rise was jitter and slow start resumes; after five such rounds the window is taken as found.

Rounds are told by sending times: a round that began at time t ends with the acknowledgment of a packet sent at t or later,
which is RFC 9406's windowEnd without sequence numbers. The limit L on a single increase (RFC 3465) is left out: it tames
bursts, and the pacer does that. Only the first slow start of a path is watched; the controller drops this object at its end.
"""

from math import inf
from typing import Final

from quicio.quic.congestion.base import AckSample

MIN_RTT_THRESHOLD: Final = 0.004  # seconds
MAX_RTT_THRESHOLD: Final = 0.016
MIN_RTT_DIVISOR: Final = 8
N_RTT_SAMPLE: Final = 8
CSS_GROWTH_DIVISOR: Final = 4
CSS_ROUNDS: Final = 5


class HyStart:
    """State of the first slow start of one path."""

    __slots__ = (
        "_baseline",
        "_last_minimum",
        "_minimum",
        "_round_start",
        "_samples",
        "css_rounds",
        "in_css",
        "is_done",
    )

    def __init__(self) -> None:
        self.in_css: bool = False  # conservative slow start
        self.css_rounds: int = 0  # rounds that it has lasted, a begun one counts
        self.is_done: bool = False
        self._round_start: float = -inf
        self._last_minimum: float = inf
        self._minimum: float = inf
        self._samples: int = 0
        self._baseline: float = inf

    def growth(self, sample: AckSample) -> float:
        """By how many bytes the window grows for this ACK. When `is_done` is set, slow start is over."""
        rtt = sample.latest_rtt
        if rtt > 0.0:
            self._samples += 1
            if rtt < self._minimum:
                self._minimum = rtt
        grown = sample.acked / CSS_GROWTH_DIVISOR if self.in_css else float(sample.acked)
        if self._samples >= N_RTT_SAMPLE:
            self._judge()
        if sample.largest_sent_time >= self._round_start:
            self._end_round(sample.now)
        return grown

    def _judge(self) -> None:
        """Compare the round with the one before it, or with the baseline of conservative slow start."""
        if self.in_css:
            if self._minimum < self._baseline:
                self.in_css = False
                self.css_rounds = 0
                self._baseline = inf
        elif self._last_minimum < inf:
            threshold = self._last_minimum / MIN_RTT_DIVISOR
            if threshold < MIN_RTT_THRESHOLD:
                threshold = MIN_RTT_THRESHOLD
            elif threshold > MAX_RTT_THRESHOLD:
                threshold = MAX_RTT_THRESHOLD
            if self._minimum >= self._last_minimum + threshold:
                self.in_css = True
                self._baseline = self._minimum

    def _end_round(self, now: float) -> None:
        if self.in_css:
            self.css_rounds += 1
            if self.css_rounds >= CSS_ROUNDS:
                self.is_done = True
        self._round_start = now
        self._last_minimum = self._minimum
        self._minimum = inf
        self._samples = 0
