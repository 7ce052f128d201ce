"""Explicit Congestion Notification on one path: mark, validate, believe (RFC 9000 §13.4, §A.4).

A path starts in *testing*: its first ten packets carry ECT(0). Then marking pauses (*unknown*) until the peer's counts tell.
Counts that account for every acknowledged ECT(0) packet make the path *capable*, and marking goes on for good. Anything
else makes it *failed*, for good: marked packets acknowledged without counts or with too small counts (the network bleaches
the field, or the peer does not report it), counts that shrink, ECT(1) that was never sent, or all test packets lost (the
network drops what is marked).

The peer's counts are kept per packet number space and for the whole connection, paths are not: loss detection compares
an ACK with the last one of its space and hands over the *increases*. It does so only for ACK frames that raise the largest
acknowledged number, because reordered ones would fail honest paths (RFC 9000 §13.4.2.1).

Only CE counts of a path that has not failed reach the congestion controller: a broken path must not throttle it.
"""

from typing import Final

from quicio.quic.wire.constants import ECN_ECT_0, ECN_NOT_ECT

TESTING: Final = 0
UNKNOWN: Final = 1
CAPABLE: Final = 2
FAILED: Final = 3

TEST_PACKETS: Final = 10  # RFC 9000 §13.4.2


class EcnState:
    """Whether packets of one path are marked, and what the peer says became of the marks."""

    __slots__ = ("lost", "sent", "state")

    def __init__(self, is_enabled: bool = True) -> None:
        """`is_enabled` is False where the driver cannot set the codepoint."""
        self.state: int = TESTING if is_enabled else FAILED
        self.sent: int = 0  # packets sent with ECT(0)
        self.lost: int = 0  # those of them that were declared lost

    def mark(self) -> int:
        """The codepoint for the next datagrams."""
        return ECN_ECT_0 if self.state in (CAPABLE, TESTING) else ECN_NOT_ECT

    def on_sent(self, count: int = 1) -> None:
        """So many packets were sent with ECT(0)."""
        self.sent += count
        if self.state == TESTING and self.sent >= TEST_PACKETS:
            self.state = UNKNOWN

    def on_lost(self) -> None:
        """A packet that was sent with ECT(0) is lost: when all of the test are, marking is the likely reason."""
        self.lost += 1
        if self.state == UNKNOWN and self.lost >= self.sent:
            self.state = FAILED

    def on_ack(self, newly_acked_ect0: int, counts: tuple[int, int, int] | None) -> int:
        """Validate an ACK that raises the largest acknowledged number; returns how many packets are newly CE-marked.

        `newly_acked_ect0` counts newly acknowledged packets that were sent with ECT(0); `counts` is by how much the peer's
        counts of ECT(0), ECT(1) and CE grew, None when the ACK has no counts (RFC 9000 §13.4.2.1).
        """
        if self.state == FAILED:
            return 0
        if counts is None:
            if newly_acked_ect0:
                self.state = FAILED
            return 0
        ect0, ect1, ce = counts
        if ect0 < 0 or ect1 != 0 or ce < 0 or ect0 + ce < newly_acked_ect0:
            self.state = FAILED
            return 0
        if newly_acked_ect0:
            self.state = CAPABLE
        return ce

    def fail(self) -> None:
        """The counts are impossible: more packets than were ever sent with the codepoint."""
        self.state = FAILED
