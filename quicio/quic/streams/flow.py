"""Flow control credit: how much a peer may send before the application has taken what it sent (RFC 9000 §4.1, §4.2).

One `ReceiveWindow` serves each stream and one the connection; they obey one rule. `consumed` counts the bytes that the
application has taken (or that nobody will ever take: reset, stopped, released); `limit` is what the peer was told. When at
most half a window is left, an update is due; it sets `limit` to `consumed + size`. So the peer never holds more than
`size` bytes of credit above what was consumed, and updates come twice a window, not once a packet.

Auto-tuning: a window that was consumed in under two round trips is what holds the peer back, and doubles, up to `ceiling`.
Only consumption moves this clock, so a reader that never reads keeps its first window, whatever the peer sends. An endpoint
that is short of memory grows no window, and halves each at its updates, down to a floor (`budget.py`); since an update is due
at half a window, nothing that was promised is taken back.

Who says when bytes are consumed, `on_handed_out()` or `consume()`, is a matter of the stream's mode (`collection.py`).
Invariant: `limit` never shrinks, and `consumed <= received <= limit`, where the user of the window counts `received`.
"""

from typing import Final

from quicio.quic.streams.budget import FLOOR, FREE, SHORT

GROWTH_ROUND_TRIPS: Final = 2.0  # a window consumed faster than this doubles


class ReceiveWindow:
    """Credit given to the peer, on one stream or on the connection. Sizes in bytes."""

    __slots__ = ("ceiling", "consumed", "limit", "mark", "mark_time", "size")

    def __init__(self, size: int, ceiling: int) -> None:
        self.size = size
        self.ceiling: int = ceiling if ceiling > size else size
        self.limit = size
        self.consumed: int = 0
        self.mark = 0  # `consumed` when the last update was made
        self.mark_time = -1.0  # its time, negative before the first

    def is_due(self) -> bool:
        """Has at least half the window been consumed since the peer was last told?"""
        return (self.limit - self.consumed) * 2 <= self.size and self.limit < self.consumed + self.size

    def update(self, now: float, round_trip: float, pressure: int = FREE) -> int:
        """Raise the limit, doubling the window first when it was used up quickly; the new limit.

        `round_trip` is the smoothed round-trip time in seconds, 0 when it is not known yet; `pressure` the endpoint's.
        """
        used = self.consumed - self.mark
        if pressure != FREE:
            smaller = self.size // 2
            if pressure == SHORT and smaller >= FLOOR and self.limit - self.consumed <= smaller:
                self.size = smaller
        elif self.mark_time >= 0.0 and used > 0 and self.size < self.ceiling:
            whole = (now - self.mark_time) * self.size / used  # time for a whole window at this pace
            if whole < GROWTH_ROUND_TRIPS * round_trip:
                self.size = min(self.size * 2, self.ceiling)
        self.mark = self.consumed
        self.mark_time = now
        if self.consumed + self.size > self.limit:
            self.limit = self.consumed + self.size
        return self.limit
