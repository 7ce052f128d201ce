"""Acknowledgments: what was received, and when to say so (RFC 9000 §13.2).

One tracker a packet number space keeps the received numbers as ranges, the ECN counts and what the peer has not been told
yet. One decision is made a burst, in `end_burst`, however many packets it held:

- Initial and Handshake packets that elicit an ACK are acknowledged at once;
- in the application space an ACK is due after `ACK_THRESHOLD` eliciting packets, at once when a packet arrives out of order
  or shows a gap, or is marked CE, and otherwise `max_ack_delay` later, by `deadline`;
- packets that elicit nothing never make an ACK due, or two endpoints would acknowledge each other for ever.

An ACK that is not due yet still goes along with any packet that is being built. `pending` means "an ACK is due".

The token of an ACK frame is (self, space, largest). When the peer acknowledges it, everything up to `largest` need not be
said again and is dropped, except what arrived after the frame was written. Dropped numbers lie below `floor` and are refused
as duplicates, since nobody knows any more whether they were received (RFC 9000 §13.2.3). The same happens to the oldest
ranges beyond `MAX_RECEIVED_RANGES`: that, and the bound on ranges in a frame, keeps a peer that sends holes from filling
memory or frames. Lost ACK frames are never repeated: the next one says more.
"""

from bisect import bisect_right
from math import inf
from typing import Final

from quicio.quic.component import Component, Token, Wants
from quicio.quic.wire.constants import APPLICATION, ECN_CE, ECN_ECT_0, HANDSHAKE, INITIAL
from quicio.quic.wire.frames import encode_ack
from quicio.quic.wire.packet_builder import PacketBuilder
from quicio.quic.wire.rangeset import RangeSet

ACK_THRESHOLD: Final = 2  # eliciting packets; RFC 9000 §13.2.2
MAX_ACK_DELAY: Final = 0.025  # seconds; what we promise in max_ack_delay (RFC 9000 §18.2)
ACK_DELAY_EXPONENT: Final = 3  # what we promise in ack_delay_exponent
MAX_RECEIVED_RANGES: Final = 256


class AckTracker:
    """Received packets of one packet number space."""

    __slots__ = (
        "ecn_ce",
        "ecn_ect0",
        "ecn_ect1",
        "eliciting",
        "floor",
        "is_urgent",
        "largest",
        "largest_eliciting",
        "largest_time",
        "lowest_unreported",
        "received",
    )

    def __init__(self) -> None:
        self.received: RangeSet = RangeSet()
        self.largest: int = -1
        self.largest_time: float = 0.0
        self.floor: int = 0  # numbers below it are refused
        self.ecn_ect0: int = 0
        self.ecn_ect1: int = 0
        self.ecn_ce: int = 0
        # Since the last ACK frame was written:
        self.eliciting: int = 0
        self.is_urgent: bool = False
        self.lowest_unreported: int = -1  # the lowest number received, -1 for none
        self.largest_eliciting: int = -1  # ever

    def is_duplicate(self, number: int) -> bool:
        """Whether the packet was received before, or may have been."""
        if number > self.largest:
            return False
        if number < self.floor:
            return True
        received = self.received
        index = bisect_right(received.starts, number) - 1
        return index >= 0 and number < received.stops[index]

    def drop_below(self, floor: int) -> None:
        """Forget the numbers below `floor`, and refuse them from now on."""
        if floor > self.floor:
            self.received.drop_below(floor)
            self.floor = floor


class Acks(Component):
    """Writes the ACK frames of a connection."""

    def __init__(self, wants: Wants, max_ack_delay: float = MAX_ACK_DELAY) -> None:
        """`max_ack_delay`, in seconds, is what the peer was promised."""
        super().__init__(wants)
        self.max_ack_delay: float = max_ack_delay
        self.trackers: list[AckTracker] = [AckTracker(), AckTracker(), AckTracker()]

    def is_duplicate(self, space: int, number: int) -> bool:
        """Whether to drop a packet unprocessed (RFC 9000 §12.3)."""
        return self.trackers[space].is_duplicate(number)

    def on_packet(self, space: int, number: int, ack_eliciting: bool, ecn: int, now: float) -> None:
        """A packet was processed; `ecn` is the codepoint it arrived with. The caller has asked `is_duplicate`."""
        tracker = self.trackers[space]
        received = tracker.received
        if number > tracker.largest:
            tracker.largest = number
            tracker.largest_time = now
        stops = received.stops
        if stops and stops[-1] == number:
            stops[-1] = number + 1  # in order
        else:
            received.add(number, number + 1)
            if len(received.starts) > MAX_RECEIVED_RANGES:
                received.drop_oldest(MAX_RECEIVED_RANGES)
                tracker.floor = received.starts[0]
        if tracker.lowest_unreported < 0 or number < tracker.lowest_unreported:
            tracker.lowest_unreported = number
        if ecn:
            if ecn == ECN_CE:
                tracker.ecn_ce += 1
                if ack_eliciting:
                    tracker.is_urgent = True  # RFC 9000 §13.2.1
            elif ecn == ECN_ECT_0:
                tracker.ecn_ect0 += 1
            else:
                tracker.ecn_ect1 += 1
        if ack_eliciting:
            tracker.eliciting += 1
            largest_eliciting = tracker.largest_eliciting
            if number > largest_eliciting:
                # A hole between this packet and the last eliciting one: its range begins after that one.
                if received.starts[-1] > largest_eliciting + 1 and received.starts[-1] > tracker.floor:
                    tracker.is_urgent = True
                tracker.largest_eliciting = number
            else:
                tracker.is_urgent = True  # overtaken by a later one

    def on_run(self, space: int, start: int, stop: int, ecn: int, now: float) -> None:
        """Eliciting packets `start` to `stop - 1` were processed in that order, `start` the one after the largest so far.

        The same as `on_packet` for each, at the cost of one: what comes in order leaves no other trace than its first.
        """
        self.on_packet(space, start, True, ecn, now)
        more = stop - start - 1
        if more:
            tracker = self.trackers[space]
            tracker.largest = tracker.largest_eliciting = stop - 1
            tracker.received.stops[-1] = stop
            tracker.eliciting += more
            if ecn == ECN_CE:
                tracker.ecn_ce += more
            elif ecn == ECN_ECT_0:
                tracker.ecn_ect0 += more
            elif ecn:
                tracker.ecn_ect1 += more

    def end_burst(self, now: float) -> None:
        """All packets that arrived together have been processed: decide about ACKs."""
        tracker = self.trackers[APPLICATION]
        if tracker.eliciting:
            if tracker.is_urgent or tracker.eliciting >= ACK_THRESHOLD:
                self.want(1 << APPLICATION)
                self.deadline = inf
            elif self.deadline == inf and not self.pending & (1 << APPLICATION):
                self.deadline = now + self.max_ack_delay
        if self.trackers[INITIAL].eliciting:
            self.want(1 << INITIAL)
        if self.trackers[HANDSHAKE].eliciting:
            self.want(1 << HANDSHAKE)

    def on_timer(self, now: float) -> None:
        """`max_ack_delay` is over: the ACK is due."""
        self.deadline = inf
        if self.trackers[APPLICATION].eliciting:
            self.want(1 << APPLICATION)

    def write(self, packet: PacketBuilder, now: float) -> None:
        """Push an ACK frame when an eliciting packet has not been acknowledged yet, due or not (RFC 9000 §13.2)."""
        space = packet.space
        tracker = self.trackers[space]
        if not tracker.eliciting:
            self.pending &= ~(1 << space)
            return
        delay = int((now - tracker.largest_time) * 1000000) >> ACK_DELAY_EXPONENT
        counts = None
        if tracker.ecn_ect0 or tracker.ecn_ce or tracker.ecn_ect1:
            counts = (tracker.ecn_ect0, tracker.ecn_ect1, tracker.ecn_ce)
        frame = encode_ack(tracker.received, delay if delay > 0 else 0, counts, packet.room)
        if not frame:
            return  # no room: the next packet carries it
        packet.push_ack(frame, (self, space, tracker.largest))
        tracker.eliciting = 0
        tracker.is_urgent = False
        tracker.lowest_unreported = -1
        self.pending &= ~(1 << space)
        if space == APPLICATION:
            self.deadline = inf

    def on_acked(self, token: Token, now: float) -> None:
        """The peer has an ACK frame of ours: what it said need not be said again (RFC 9000 §13.2.4)."""
        tracker = self.trackers[token[1]]
        floor: int = token[2] + 1
        unreported = tracker.lowest_unreported
        if 0 <= unreported < floor:
            floor = unreported
        tracker.drop_below(floor)

    def on_space_discarded(self, space: int) -> None:
        """The keys of a space are gone: nothing is acknowledged there any more."""
        super().on_space_discarded(space)
        self.trackers[space] = AckTracker()
        if space == APPLICATION:
            self.deadline = inf
