"""Round-trip time of one path (RFC 9002 §5).

Every sample moves three numbers: the minimum, an exponentially weighted average and a mean deviation. The minimum takes the
sample as measured; the average takes it less the delay that the peer reports for its ACK, unless that would bring it under
the minimum, so that a peer that lies about its delay cannot make the path look faster than it ever was.

The two timeouts that follow from an estimate alone live here too: the probe timeout without backoff and the time threshold
of loss detection. Backoff, spaces and the cap of the reported delay are loss detection's rules.

Invariant: before the first sample the estimate is the initial RTT, so that timers work from the first packet; the first
sample replaces it without a trace. All times are seconds.
"""

from typing import Final

K_INITIAL_RTT: Final = 0.333  # RFC 9002 §6.2.2
K_GRANULARITY: Final = 0.001  # RFC 9002 §6.1.2
K_TIME_THRESHOLD: Final = 9 / 8


class RttEstimator:
    """Smoothed, minimum and latest RTT of a path, and its variance, in seconds."""

    __slots__ = ("first_sample_time", "has_sample", "initial", "latest", "minimum", "smoothed", "variance")

    def __init__(self, initial_rtt: float = K_INITIAL_RTT) -> None:
        self.initial: float = initial_rtt
        self.smoothed: float = initial_rtt
        self.variance: float = initial_rtt / 2
        self.latest: float = 0.0
        self.minimum: float = 0.0
        self.has_sample: bool = False
        self.first_sample_time: float = 0.0  # protocol time; meaningful when `has_sample`

    def update(self, sample: float, ack_delay: float, now: float) -> None:
        """Take an RTT sample; `ack_delay` is what the peer reports, already capped (RFC 9002 §5.3)."""
        self.latest = sample
        if not self.has_sample:
            self.has_sample = True
            self.first_sample_time = now
            self.minimum = sample
            self.smoothed = sample
            self.variance = sample / 2
            return
        if sample < self.minimum:
            self.minimum = sample
        adjusted = sample
        if sample >= self.minimum + ack_delay:
            adjusted = sample - ack_delay
        deviation = self.smoothed - adjusted
        if deviation < 0:
            deviation = -deviation
        self.variance = 0.75 * self.variance + 0.25 * deviation
        self.smoothed = 0.875 * self.smoothed + 0.125 * adjusted

    def pto(self, max_ack_delay: float) -> float:
        """The probe timeout without backoff (RFC 9002 §6.2.1); `max_ack_delay` is 0 for Initial and Handshake."""
        spread = 4 * self.variance
        if spread < K_GRANULARITY:
            spread = K_GRANULARITY
        return self.smoothed + spread + max_ack_delay

    def loss_delay(self) -> float:
        """How long after its sending a packet that was overtaken is taken for lost (RFC 9002 §6.1.2)."""
        longer = self.smoothed if self.smoothed > self.latest else self.latest
        delay = K_TIME_THRESHOLD * longer
        return delay if delay > K_GRANULARITY else K_GRANULARITY

    def on_persistent_congestion(self) -> None:
        """The path may have changed: let the minimum start anew from the latest sample (RFC 9002 §5.2)."""
        self.minimum = self.latest
