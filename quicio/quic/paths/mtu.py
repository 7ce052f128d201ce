"""Datagram size of one path: search upwards, fall back when large packets vanish (RFC 9000 §14, RFC 8899).

`size` is the largest UDP payload known to arrive, 1,200 bytes to begin with: the handshake proves that much. The search
probes the ceiling first, since most paths take it, then halves the span between what arrived and what did not, and stops
when less than `MIN_GAIN` is to be won. A size is given up after `MAX_PROBES` lost probes; one probe is in flight at a time.
After `RAISE_INTERVAL` the search starts anew, because paths change.

Lost data says something too: when three rounds of losses or probe timeouts in a row strike packets larger than the base
size, and none of that size has arrived since, the path has become a black hole for them: `size` falls to the base at once
and the search waits for `BLACK_HOLE_INTERVAL`.

Invariants: `size` grows only by an acknowledged probe, never by ICMP, and no report from the network takes it below what
was validated (RFC 9000 §14.2.1): reports can be forged, so they bound the search and nothing else. `ceiling` never exceeds
what the peer accepts (max_udp_payload_size). The probe packet itself is built by `Outbound`, which asks `probe_size` once
the handshake is confirmed and reports `on_probe_sent`; loss detection reports its fate and takes its loss for no sign of
congestion.
"""

from math import inf
from typing import Final

from quicio.quic.wire.constants import SMALLEST_MAX_DATAGRAM_SIZE

DEFAULT_CEILING: Final = 1452  # Ethernet less IPv6 and UDP headers
MAX_PROBES: Final = 3  # RFC 8899 §5.1.2
MIN_GAIN: Final = 20  # bytes; a smaller gain is not worth a probe
RAISE_INTERVAL: Final = 600.0  # seconds, PMTU_RAISE_TIMER of RFC 8899 §5.1.1
BLACK_HOLE_INTERVAL: Final = 60.0  # seconds before a black hole is probed again
BLACK_HOLE_ROUNDS: Final = 3


class PathMtu:
    """The search for the largest datagram that a path takes. Sizes are UDP payloads in bytes."""

    __slots__ = (
        "_failed_above",
        "_is_complete",
        "_large_acked_time",
        "_next_search",
        "_pause",
        "_probe_losses",
        "_probing",
        "_suspicions",
        "base",
        "black_holes",
        "ceiling",
        "size",
    )

    def __init__(self, base: int = SMALLEST_MAX_DATAGRAM_SIZE, ceiling: int = DEFAULT_CEILING) -> None:
        """`base` is sent from the first packet; `ceiling` is never exceeded (equal to `base`: no search)."""
        self.base: int = base
        self.size: int = base
        self.ceiling: int = ceiling if ceiling > base else base
        self.black_holes: int = 0
        self._failed_above: int = self.ceiling + 1  # the smallest size known not to arrive
        self._probing: int = 0  # size of the probe in flight
        self._probe_losses: int = 0  # of the size under test
        self._is_complete: bool = False
        self._pause: float = RAISE_INTERVAL
        self._next_search: float = inf  # set by the first question after the search ended, which knows the time
        self._suspicions: int = 0
        self._large_acked_time: float = -inf

    def limit(self, max_udp_payload_size: int) -> None:
        """The peer accepts no larger payloads (RFC 9000 §18.2; the transport parameter is at least 1,200)."""
        if max_udp_payload_size < self.ceiling:
            self.ceiling = max(max_udp_payload_size, SMALLEST_MAX_DATAGRAM_SIZE)
            self.base = min(self.base, self.ceiling)
            self.size = min(self.size, self.ceiling)
            self._failed_above = self.ceiling + 1

    def probe_size(self, now: float) -> int:
        """The size of the probe that is due, 0 when none is."""
        if self._probing or self.size >= self.ceiling:
            return 0
        if self._is_complete:
            if self._next_search == inf:
                self._next_search = now + self._pause
            if now < self._next_search:
                return 0
            self._restart()
        return self._candidate()

    def on_probe_sent(self, size: int) -> None:
        """A probe of `size` bytes is in flight."""
        self._probing = size

    def on_probe_acked(self, size: int) -> None:
        """A datagram of `size` bytes arrives: it is the new size. May come late, for a probe taken for lost."""
        if size == self._probing:
            self._probing = 0
        if self.size < size <= self.ceiling:
            self.size = size
            self._probe_losses = 0
            if size >= self._failed_above:
                self._failed_above = self.ceiling + 1
            self._end_search_if_done()

    def on_probe_lost(self, size: int) -> None:
        """A probe was lost; the third loss of one size rules the size out."""
        if size != self._probing:
            return
        self._probing = 0
        self._probe_losses += 1
        if self._probe_losses >= MAX_PROBES:
            self._probe_losses = 0
            self._failed_above = size
            self._end_search_if_done()

    def on_packet_acked(self, size: int, sent_time: float) -> None:
        """An ordinary packet arrived; a large one clears the path of suspicion."""
        if size > self.base:
            self._suspicions = 0
            if sent_time > self._large_acked_time:
                self._large_acked_time = sent_time

    def on_packet_lost(self, size: int, sent_time: float) -> bool:
        """A batch of losses, told by its largest ordinary packet. Returns True when `size` has fallen to the base.

        Losses among packets of which later ones arrived are congestion, not a black hole, and are not counted.
        """
        if size <= self.base or sent_time <= self._large_acked_time:
            return False
        return self._suspect()

    def on_probe_timeout(self) -> bool:
        """Nothing was acknowledged for a PTO. Returns True when `size` has fallen to the base."""
        return self._suspect()

    def on_too_big(self, size: int) -> None:
        """The network or the system reports that payloads larger than `size` do not pass (RFC 9000 §14.2.1)."""
        if self.size <= size < self._failed_above - 1:
            self._failed_above = size + 1
            if self._probing > size:
                self._probing = 0
                self._probe_losses = 0
            self._end_search_if_done()

    def _candidate(self) -> int:
        if self._failed_above > self.ceiling:
            return self.ceiling
        return (self.size + self._failed_above) // 2

    def _suspect(self) -> bool:
        if self.size <= self.base:
            return False
        self._suspicions += 1
        if self._suspicions < BLACK_HOLE_ROUNDS:
            return False
        self.size = self.base
        self.black_holes += 1
        self._suspicions = 0
        self._probing = 0
        self._probe_losses = 0
        self._is_complete = True
        self._pause = BLACK_HOLE_INTERVAL
        self._next_search = inf
        return True

    def _end_search_if_done(self) -> None:
        if self._failed_above - self.size <= MIN_GAIN:
            self._is_complete = True
            self._pause = RAISE_INTERVAL
            self._next_search = inf

    def _restart(self) -> None:
        self._is_complete = False
        self._next_search = inf
        self._failed_above = self.ceiling + 1
        self._probe_losses = 0
