"""What NewReno and CUBIC share: a window, slow start, recovery periods, the undo of a false alarm (RFC 9002 §7).

The rules of this room:

- One reduction a round trip. A congestion event (loss, or a rise of the CE count) opens a recovery period at the time it is
  noticed; losses and marks of packets sent before that are part of the same event (RFC 9002 §7.3.2). The first
  acknowledgment of a packet sent later ends the period.
- The window grows only while it is used (RFC 9002 §7.8): an application-limited sample whose flight does not come near the
  window changes nothing. A sender held back by its pacer is not application-limited, so it keeps growing.
- Persistent congestion reduces the window to its minimum and slow start begins again (RFC 9002 §7.6.2).
- A batch of losses that all turn out to have arrived is undone, unless a CE mark spoke for the reduction as well.

Subclasses say how the window grows in avoidance (`_avoid`), in slow start (`_slow_start`), how far it falls (`_reduce`) and
what else is to be saved for an undo. The window is kept as a float; `window` is its whole part, never below two datagrams.
"""

from math import inf
from typing import Final

from quicio.quic.congestion.base import K_MINIMUM_WINDOW_PACKETS, AckSample, CongestionController, LossBatch
from quicio.quic.recovery.pacer import rate_for

# A flight this close to the window fills it, since a burst's end rarely matches to the byte.
SLACK_DATAGRAMS: Final = 3
SLACK_SHARE: Final = 0.25  # of the window, at most


class WindowController(CongestionController):
    """Base of the loss-based controllers. Sizes in bytes, times in seconds of protocol time."""

    def __init__(self, datagram_size: int) -> None:
        super().__init__(datagram_size)
        self._exact: float = float(self.window)  # the window with its fraction
        self._threshold: float = inf
        self._recovery_start: float = -inf
        self._smoothed_rtt: float = 0.0
        self._can_undo: bool = False
        self._undo_window: float = 0.0
        self._undo_threshold: float = inf

    @property
    def slow_start_threshold(self) -> float:
        """In bytes; infinity before the first congestion event."""
        return self._threshold

    @property
    def in_slow_start(self) -> bool:
        """Whether the window is below the slow start threshold."""
        return self._exact < self._threshold

    def on_ack(self, sample: AckSample) -> None:
        """Answer CE marks, then grow the window by what was acknowledged."""
        self._smoothed_rtt = sample.smoothed_rtt
        if sample.ecn_ce:
            if sample.largest_sent_time > self._recovery_start:
                self._begin_recovery(sample.now)
            self._can_undo = False  # the path is congested, whatever became of the packets
        if sample.acked and sample.largest_sent_time > self._recovery_start:
            if self._is_underused(sample):
                self._on_underused(sample)
            elif self._exact < self._threshold:
                self._slow_start(sample)
            else:
                self._avoid(sample)
        self._publish()

    def on_loss(self, losses: LossBatch) -> None:
        """Reduce the window once a round trip; to its minimum in persistent congestion."""
        if losses.largest_sent_time > self._recovery_start:
            self._begin_recovery(losses.now)
            self._can_undo = True
        if losses.is_persistent:
            self._exact = float(K_MINIMUM_WINDOW_PACKETS * self.datagram_size)
            self._recovery_start = -inf
            self._can_undo = False
            self._on_persistent_congestion()
        self._publish()

    def on_spurious_loss(self, now: float) -> None:
        """Take back the last reduction, if nothing but the losses called for it."""
        if self._can_undo and self._exact < self._undo_window:
            self._exact = self._undo_window
            self._threshold = self._undo_threshold
            self._recovery_start = -inf
            self._restore()
            self._publish()
        self._can_undo = False

    def on_datagram_size(self, datagram_size: int) -> None:
        """The path takes datagrams of another size: the minimum window changes with it (RFC 9002 §7.2)."""
        self.datagram_size = datagram_size
        self._publish()

    def _is_underused(self, sample: AckSample) -> bool:
        if not sample.is_app_limited:
            return False
        slack = float(SLACK_DATAGRAMS * self.datagram_size)
        if slack > SLACK_SHARE * self._exact:
            slack = SLACK_SHARE * self._exact
        used = sample.prior_in_flight + slack
        if self._exact < self._threshold:
            used += sample.prior_in_flight  # the flight of a doubling window is half of it
        return used < self._exact

    def _begin_recovery(self, now: float) -> None:
        self._undo_window = self._exact
        self._undo_threshold = self._threshold
        self._save()
        self._recovery_start = now
        self._threshold = self._reduce()
        self._exact = self._threshold

    def _publish(self) -> None:
        least = K_MINIMUM_WINDOW_PACKETS * self.datagram_size
        if self._exact < least:
            self._exact = float(least)
        self.window = int(self._exact)
        if self._smoothed_rtt > 0.0:
            self.pacing_rate = rate_for(self.window, self._smoothed_rtt, self._exact < self._threshold)

    # What a subclass fills in.

    def _slow_start(self, sample: AckSample) -> None:
        self._exact += sample.acked

    def _avoid(self, sample: AckSample) -> None:
        """Grow the window in congestion avoidance."""

    def _on_underused(self, sample: AckSample) -> None:
        """The window was not used, so it does not grow."""

    def _reduce(self) -> float:
        """The window, and slow start threshold, after a congestion event."""
        return self._exact / 2

    def _on_persistent_congestion(self) -> None:
        """The window has been set to its minimum."""

    def _save(self) -> None:
        """Keep the state that an undo brings back."""

    def _restore(self) -> None:
        """Bring it back."""
