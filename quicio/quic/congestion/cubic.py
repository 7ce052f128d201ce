"""CUBIC (RFC 9438), with HyStart++ in the first slow start (RFC 9406).

After a congestion event the window follows a cubic function of time: steep at first, flat around `w_max`, the window at
which the path last overflowed, then steep again to find out whether more has become available. The growth depends on time
and not on round trips, so that long paths are filled as fast as short ones. Beside it runs `w_est`, an estimate of what Reno
would have; when that is larger, it is used (the Reno-friendly region).

An *epoch* is one stretch of congestion avoidance. It begins with the first acknowledgment after a congestion event, and its
clock stands still while the application does not use the window (RFC 9438 §4.2, §5.8), or the cubic would grow out of
silence. Fast convergence makes room for a newcomer: a flow that overflows before it regained `w_max` aims lower next time.

The formulas count in segments; here all sizes are bytes, and `datagram_size` is the segment. Recovery periods, slow start's
end, persistent congestion and undo are the common ground of `congestion/window.py`.
"""

from math import inf
from typing import Final

from quicio.quic.congestion.base import AckSample, register_congestion_control
from quicio.quic.congestion.hystart import HyStart
from quicio.quic.congestion.window import WindowController

C: Final = 0.4  # segments a cubic second (RFC 9438 §5.1)
BETA: Final = 0.7  # multiplicative decrease (RFC 9438 §4.6)
ALPHA: Final = 3 * (1 - BETA) / (1 + BETA)  # additive increase of the Reno estimate (RFC 9438 §4.3)
MAX_GROWTH: Final = 1.5  # of the window, towards the target, in a round trip


class CubicController(WindowController):
    """CUBIC: the default controller."""

    name = "cubic"

    def __init__(self, datagram_size: int) -> None:
        super().__init__(datagram_size)
        self._hystart: HyStart | None = HyStart()
        self._w_max: float = 0.0  # bytes; 0: no congestion event has set it
        self._prior: float = 0.0  # the window before the last reduction
        self._epoch: float = -inf  # when this stage of avoidance began; -inf: with the next ACK
        self._k: float = 0.0  # seconds from the epoch's begin until w_max is reached
        self._w_est: float = 0.0
        self._unused_since: float = -inf
        self._saved: tuple[float, float, float, float, float] = (0.0, 0.0, -inf, 0.0, 0.0)

    def _slow_start(self, sample: AckSample) -> None:
        hystart = self._hystart
        if hystart is None:
            self._exact += sample.acked
            return
        self._exact += hystart.growth(sample)
        if hystart.is_done:
            self._hystart = None
            self._threshold = self._exact  # w_max is not known: the epoch begins on its plateau (RFC 9438 §4.10)

    def _avoid(self, sample: AckSample) -> None:
        now = sample.now
        if self._epoch == -inf:
            self._begin_epoch(now)
        elif self._unused_since > -inf:
            self._epoch += now - self._unused_since
        self._unused_since = -inf
        window = self._exact
        elapsed = now - self._epoch
        # Figure 4: the Reno estimate, at Reno's own pace once it has regained the last window.
        alpha = ALPHA if self._w_est < self._prior else 1.0
        self._w_est += alpha * sample.acked * self.datagram_size / window
        if self._cubic(elapsed) < self._w_est:
            if self._w_est > window:
                self._exact = self._w_est
            return
        target = self._cubic(elapsed + sample.smoothed_rtt)
        if target > MAX_GROWTH * window:
            target = MAX_GROWTH * window
        if target > window:
            self._exact = window + (target - window) * sample.acked / window

    def _on_underused(self, sample: AckSample) -> None:
        if self._unused_since == -inf:
            self._unused_since = sample.now

    def _cubic(self, elapsed: float) -> float:
        """W_cubic of figure 1, in bytes."""
        distance = elapsed - self._k
        return C * self.datagram_size * distance * distance * distance + self._w_max

    def _begin_epoch(self, now: float) -> None:
        self._epoch = now
        window = self._exact
        self._w_est = window
        if window < self._w_max:
            segments = (self._w_max - window) / self.datagram_size
            self._k = float((segments / C) ** (1 / 3))
        else:
            self._k = 0.0
            self._w_max = window

    def _reduce(self) -> float:
        window = self._exact
        self._hystart = None
        self._prior = window
        self._w_max = window * (1 + BETA) / 2 if window < self._w_max else window  # fast convergence, RFC 9438 §4.7
        self._epoch = -inf
        self._unused_since = -inf
        return window * BETA

    def _on_persistent_congestion(self) -> None:
        self._w_max = 0.0  # the first epoch after slow start begins on the plateau (RFC 9438 §4.8)
        self._epoch = -inf

    def _save(self) -> None:
        self._saved = (self._w_max, self._prior, self._epoch, self._k, self._w_est)

    def _restore(self) -> None:
        self._w_max, self._prior, self._epoch, self._k, self._w_est = self._saved


register_congestion_control("cubic", CubicController)
