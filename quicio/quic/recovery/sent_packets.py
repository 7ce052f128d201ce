"""What was sent in one packet number space and not yet settled (RFC 9002 §A.1, RFC 9000 §21.4).

Packets lie in a list by packet number: the number at `base` is item 0, None stands for a settled or skipped number. Settled
heads are cut off at once. Since a packet is declared lost as soon as three later ones are acknowledged, what lies between
`base` and the largest acknowledged number is a handful of items, so that an ACK costs time linear in what it newly
acknowledges and in its ranges, however often it repeats old ones.

Lost packets move to a second, bounded memory, where a late ACK still finds them: that is how a spurious loss is noticed and
how their tokens end well.

Now and then a packet number is skipped, at random distances scaled to the window. An ACK for a skipped number proves that
the peer acknowledges what it has not received (an optimistic ACK, to make us send faster than the path carries): loss
detection closes the connection for it.

This file is data and bookkeeping; what an ACK or a loss means is decided in `recovery/loss.py`.
"""

from bisect import bisect_left, insort
from collections.abc import Callable
from math import inf
from typing import Final

from quicio.quic.component import Token
from quicio.quic.paths.path import Path
from quicio.quic.wire.constants import APPLICATION

MIN_SKIP_DISTANCE: Final = 32  # packets between two skipped numbers, at least
MAX_SKIPPED_NUMBERS: Final = 64  # remembered, a space
MAX_UNANSWERED: Final = 4096  # packets that elicit nothing, sent since the peer last acknowledged anything, a space
MAX_LOST_PACKETS: Final = 1000  # remembered for late ACKs, a space


class LossEpisode:
    """The losses of one path that belong to one recovery period. `remaining` counts those not found spurious."""

    __slots__ = ("path", "remaining", "start")

    def __init__(self, path: Path, start: float) -> None:
        self.path: Path = path
        self.start: float = start
        self.remaining: int = 0


class SentPacket:
    """One packet in flight or remembered. Built by `Outbound`, completed by `LossDetection.on_sent`.

    `size` is the packet's share of the datagram in bytes, `ecn` the codepoint it was sent with, `phase` the 1-RTT key phase
    (-1 for all other packets).
    """

    __slots__ = (
        "ack_eliciting",
        "delivered",
        "delivered_time",
        "ecn",
        "episode",
        "first_sent_time",
        "in_flight",
        "is_app_limited",
        "is_mtu_probe",
        "lost_time",
        "number",
        "path",
        "phase",
        "sent_time",
        "size",
        "space",
        "tokens",
    )

    # Set when sent and in flight: the path's delivery state at that time, from which an ACK derives the delivery rate.
    delivered: int
    delivered_time: float
    first_sent_time: float
    is_app_limited: bool
    # Set when lost.
    lost_time: float
    episode: LossEpisode | None

    def __init__(
        self,
        number: int,
        size: int,
        sent_time: float,
        ack_eliciting: bool,
        in_flight: bool,
        tokens: list[Token],
        path: Path,
        space: int,
        ecn: int = 0,
        phase: int = -1,
        is_mtu_probe: bool = False,
    ) -> None:
        self.number: int = number
        self.size: int = size
        self.sent_time: float = sent_time
        self.ack_eliciting: bool = ack_eliciting
        self.in_flight: bool = in_flight
        self.tokens: list[Token] = tokens
        self.path: Path = path
        self.space: int = space
        self.ecn: int = ecn
        self.phase: int = phase
        self.is_mtu_probe: bool = is_mtu_probe

    def note_delivery(self, path: Path) -> None:
        """Keep the path's delivery state as it is when the packet is sent."""
        self.delivered = path.delivered
        self.delivered_time = path.delivered_time
        self.first_sent_time = path.first_sent_time
        self.is_app_limited = path.app_limited_until > 0 and path.delivered <= path.app_limited_until

    def __repr__(self) -> str:
        return f"SentPacket(space={self.space}, number={self.number}, size={self.size}, sent_time={self.sent_time:.6f})"


class SpaceState:
    """Packet numbers and sent packets of one packet number space."""

    __slots__ = (
        "_next_skip",
        "_random",
        "base",
        "ecn_ce",
        "ecn_ect0",
        "ecn_ect1",
        "ect0_sent",
        "eliciting_in_flight",
        "largest_acked",
        "last_eliciting_time",
        "loss_time",
        "lost",
        "lost_numbers",
        "next_number",
        "rejected_below",
        "sent",
        "skipped",
        "space",
        "unanswered",
        "window_packets",
    )

    def __init__(self, space: int, random: Callable[[], float]) -> None:
        """`random` returns floats of [0, 1)."""
        self.space: int = space
        self.next_number: int = 0
        self.base: int = 0  # the number of sent[0]
        self.sent: list[SentPacket | None] = []
        self.eliciting_in_flight: int = 0  # ack-eliciting packets in `sent`
        self.largest_acked: int = -1
        self.loss_time: float = inf  # when the next packet is lost by the time threshold
        self.last_eliciting_time: float = 0.0
        self.lost_numbers: list[int] = []  # ascending; the keys of `lost`
        self.lost: dict[int, SentPacket] = {}
        self.skipped: list[int] = []  # ascending
        self.rejected_below: int = 0  # numbers below it were of 0-RTT packets that the server has rejected
        self.unanswered: int = 0  # packets that elicit nothing, sent since the last ACK that acknowledged anything
        self.window_packets: int = MIN_SKIP_DISTANCE  # the congestion window in packets, for the skip distance
        # The peer's last accepted ECN counts, and how often we set ECT(0).
        self.ecn_ect0: int = 0
        self.ecn_ect1: int = 0
        self.ecn_ce: int = 0
        self.ect0_sent: int = 0
        self._random: Callable[[], float] = random
        self._next_skip: int = -1
        if space == APPLICATION:  # the handshake's few packets need no trap, and their numbers stay plain
            self._plan_skip(0)

    def allocate(self, now: float) -> int:
        """The number for the packet that is sent now; the caller sends it (RFC 9000 §12.3)."""
        number = self.next_number
        if number == self._next_skip:
            self.skipped.append(number)
            if len(self.skipped) > MAX_SKIPPED_NUMBERS:
                del self.skipped[0]
            number += 1
            self._plan_skip(number)
        self.next_number = number + 1
        return number

    def run_length(self) -> int:
        """How many numbers in a row come next; 0 when one is to be skipped, or is never: then ask `allocate`."""
        length = self._next_skip - self.next_number
        return length if length > 0 else 0

    def allocate_run(self, count: int) -> int:
        """The first of `count` numbers in a row, within `run_length`, for packets that are sent now."""
        number = self.next_number
        self.next_number = number + count
        return number

    def append(self, packet: SentPacket) -> None:
        """Track a packet; numbers ascend, those left out are never acknowledged."""
        missing = packet.number - self.base - len(self.sent)
        if missing:
            if missing < 0:
                raise ValueError(f"packet number {packet.number} was used before; take numbers from allocate()")
            if self.sent:
                self.sent.extend([None] * missing)
            else:
                self.base = packet.number
        self.sent.append(packet)

    def append_run(
        self, number: int, size: int, tokens: list[Token], path: Path, ecn: int, phase: int, now: float
    ) -> None:
        """Track packets in flight, from `number` on, of `size` bytes and one token each. All else they have in common."""
        space = self.space
        packet = SentPacket(number, size, now, True, True, [tokens[0]], path, space, ecn, phase)
        packet.note_delivery(path)
        self.append(packet)
        sent = self.sent
        delivered = packet.delivered
        delivered_time = packet.delivered_time
        first_sent_time = packet.first_sent_time
        is_app_limited = packet.is_app_limited
        for token in tokens[1:]:
            number += 1
            packet = SentPacket(number, size, now, True, True, [token], path, space, ecn, phase)
            packet.delivered = delivered
            packet.delivered_time = delivered_time
            packet.first_sent_time = first_sent_time
            packet.is_app_limited = is_app_limited
            sent.append(packet)

    def covers_skipped(self, ranges: list[int]) -> bool:
        """Whether flat half-open `ranges`, newest first, hold a number that was skipped."""
        skipped = self.skipped
        oldest = skipped[0]
        for index in range(0, len(ranges), 2):
            stop = ranges[index + 1]
            if stop <= oldest:
                break
            position = bisect_left(skipped, ranges[index])
            if position < len(skipped) and skipped[position] < stop:
                return True
        return False

    def take(self, ranges: list[int]) -> list[SentPacket]:
        """Remove and return, oldest first, the tracked packets whose numbers are in `ranges` (flat, newest first)."""
        base = self.base
        sent = self.sent
        count = 0
        while count < len(ranges) and ranges[count + 1] > base:
            count += 2
        if count == 0:
            return []
        stop = ranges[count - 1] - base
        if count == 2 and ranges[0] <= base:  # in order: one range, from the head
            acked = [packet for packet in sent[:stop] if packet is not None]
            del sent[:stop]
            self.base = base + stop
        else:
            acked = []
            for index in range(count - 2, -1, -2):
                start = ranges[index] - base
                for position in range(start if start > 0 else 0, ranges[index + 1] - base):
                    packet = sent[position]
                    if packet is not None:
                        acked.append(packet)
                        sent[position] = None
        if sent and sent[0] is None:
            self.cut_head()
        return acked

    def cut_head(self) -> None:
        """Move `base` past settled numbers."""
        sent = self.sent
        count = 0
        for packet in sent:
            if packet is not None:
                break
            count += 1
        del sent[:count]
        self.base += count

    def remember_lost(self, packet: SentPacket) -> SentPacket | None:
        """Keep a lost packet for a late ACK; returns the one that is given up for it when the memory is full."""
        self.lost[packet.number] = packet
        insort(self.lost_numbers, packet.number)
        if len(self.lost_numbers) > MAX_LOST_PACKETS:
            return self.lost.pop(self.lost_numbers.pop(0))
        return None

    def take_lost(self, ranges: list[int]) -> list[SentPacket]:
        """Remove and return the remembered lost packets whose numbers are in `ranges`."""
        numbers = self.lost_numbers
        found: list[SentPacket] = []
        for index in range(0, len(ranges), 2):
            if not numbers or ranges[index + 1] <= numbers[0]:
                break
            first = bisect_left(numbers, ranges[index])
            after = bisect_left(numbers, ranges[index + 1], first)
            if after > first:
                for number in numbers[first:after]:
                    found.append(self.lost.pop(number))
                del numbers[first:after]
        return found

    def is_unbroken(self, number: int, later: int) -> bool:
        """Whether every number between the two was lost (and is remembered) or never used."""
        for between in range(number + 1, later):
            if between not in self.lost and between not in self.skipped:
                return False
        return True

    def lost_without_break(self, lost: list[SentPacket], since: float, duration: float) -> bool:
        """Whether `lost`, in their order, hold an unbroken run whose eliciting packets span more than `duration` seconds.

        Only packets sent after the time `since` count (RFC 9002 §7.6.2).
        """
        if lost[-1].sent_time - lost[0].sent_time <= duration:
            return False
        first = -1.0  # when the first packet of an unbroken run of losses was sent
        previous = -1
        for packet in lost:
            if previous >= 0 and not self.is_unbroken(previous, packet.number):
                first = -1.0
            previous = packet.number
            if packet.ack_eliciting and packet.sent_time > since:
                if first < 0:
                    first = packet.sent_time
                elif packet.sent_time - first > duration:
                    return True
        return False

    def take_stale(self, now: float, age: float) -> list[SentPacket]:
        """Remove and return the remembered packets, from the oldest on, that were lost `age` seconds ago or earlier."""
        numbers = self.lost_numbers
        count = 0
        stale: list[SentPacket] = []
        for number in numbers:
            packet = self.lost[number]
            if packet.lost_time + age > now:
                break
            stale.append(packet)
            count += 1
        for number in numbers[:count]:
            del self.lost[number]
        del numbers[:count]
        return stale

    def take_path(self, path: Path) -> list[SentPacket]:
        """Remove and return, oldest first, what is in flight on `path`, as far as its `in_flight` says there is something."""
        sent = self.sent
        taken: list[SentPacket] = []
        left = path.in_flight
        position = len(sent)
        while left > 0 and position > 0:  # from the latest on: a path that is given up was in use not long ago
            position -= 1
            packet = sent[position]
            if packet is not None and packet.path is path and packet.in_flight:
                sent[position] = None
                left -= packet.size
                taken.append(packet)
                if packet.ack_eliciting:
                    self.eliciting_in_flight -= 1
        if taken:
            self.cut_head()
            taken.reverse()
        return taken

    def take_all(self) -> list[SentPacket]:
        """Remove and return every tracked packet; lost ones stay remembered."""
        packets = [packet for packet in self.sent if packet is not None]
        self.base += len(self.sent)
        self.sent = []
        self.eliciting_in_flight = 0
        self.loss_time = inf
        return packets

    def _plan_skip(self, number: int) -> None:
        packets = self.window_packets
        if packets < MIN_SKIP_DISTANCE:
            packets = MIN_SKIP_DISTANCE
        self._next_skip = number + packets + int(packets * self._random())
