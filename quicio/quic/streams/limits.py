"""How many streams may exist: ours within the peer's limit, the peer's within ours (RFC 9000 §2.1, §4.6).

There are four types of stream, told apart by the two low bits of the ID; the remaining bits count streams of a type from 0.
That count, the *index*, is what both classes here work with. Limits are cumulative: they speak of all streams ever opened.

Finished streams are remembered as ranges of indices. Streams finish more or less in order, so that this is one range and
some change: each further range stands for a stream that is still open in between. Ten thousand streams opened and closed
leave two integers.

Credit for the peer's streams comes back when a stream is closed both ways (and, on native faces, released by its user:
`collection.py`). It is batched: MAX_STREAMS is due when half the window came back, or when it would at least double what
the peer has left. Streams that the peer itself reset are cheap for it and dear for us, so the places that they held come back
from a bucket of `RESET_BURST` that fills by `RESETS_PER_SECOND`: a peer that opens and resets as fast as it can is slowed
down to that, and nobody else notices.
"""

from heapq import heappop, heappush
from typing import Final

from quicio.quic.component import Component, Token
from quicio.quic.wire.constants import STREAM_COUNT_MAX
from quicio.quic.wire.frames import encode_max_streams, encode_streams_blocked
from quicio.quic.wire.packet_builder import PacketBuilder
from quicio.quic.wire.rangeset import RangeSet

# Kinds of tokens, their second item; `sending.py` and `receiving.py` have those below.
MAX_STREAMS_TOKEN: Final = 7  # peer streams, limit
STREAMS_BLOCKED_TOKEN: Final = 8  # local streams, limit

RESET_BURST: Final = 1024  # places of streams that the peer reset, given back at once
RESETS_PER_SECOND: Final = 256.0  # and in the long run
RESET_WAIT: Final = 0.1  # seconds between two looks at places that are withheld

COUNT_FRAMES_SIZE: Final = 4 * 9  # MAX_STREAMS and STREAMS_BLOCKED of both kinds
MAX_WAITING_STREAMS: Final = 16384  # streams written to beyond the peer's limit, each type


class LocalStreams:
    """Streams of one type that we open."""

    __slots__ = (
        "blocked_at",
        "finished",
        "is_told",
        "is_unidirectional",
        "is_wanted",
        "maximum",
        "next_index",
        "type_bits",
        "waiting",
    )

    def __init__(self, type_bits: int) -> None:
        self.type_bits: int = type_bits
        self.is_unidirectional: bool = type_bits & 2 != 0
        self.next_index = 0
        self.maximum: int = 0  # what the peer allows
        self.finished: RangeSet = RangeSet()
        self.waiting: list[int] = []  # heap of indices at or above `maximum` that were written to
        self.blocked_at: int = -1  # limit for which STREAMS_BLOCKED was sent or is due
        self.is_told: bool = False  # STREAMS_BLOCKED is out for `blocked_at`
        self.is_wanted: bool = False  # open() has been refused since the last rise

    def note_opened(self, index: int) -> None:
        """A stream came to be; those of lower index can still come."""
        if index >= self.next_index:
            self.next_index = index + 1
        if index >= self.maximum:
            heappush(self.waiting, index)

    def next_waiting(self) -> int:
        """Index of a waiting stream that the limit now allows, taken off the list; -1 if there is none."""
        if self.waiting and self.waiting[0] < self.maximum:
            return heappop(self.waiting)
        return -1

    def is_blocked(self) -> bool:
        """Does anybody wait for a higher limit?"""
        return self.is_wanted or len(self.waiting) > 0


class PeerStreams:
    """Streams of one type that the peer opens. `size` is how many it may have open at a time."""

    __slots__ = (
        "closed",
        "finished",
        "is_lost",
        "is_unidirectional",
        "limit",
        "opened",
        "size",
        "type_bits",
        "withheld",
    )

    def __init__(self, type_bits: int, size: int) -> None:
        self.type_bits: int = type_bits
        self.is_unidirectional: bool = type_bits & 2 != 0
        self.size: int = size
        self.limit: int = size  # what the peer was told
        self.opened: int = 0  # highest index seen, plus one
        self.is_lost: bool = False  # the frame that told `limit` was lost
        self.closed: int = 0
        self.withheld: int = 0  # closed too, but their places are not given back yet
        self.finished: RangeSet = RangeSet()

    def note_closed(self, index: int) -> None:
        """A stream is closed for good: its place may be given to another."""
        self.finished.add(index, index + 1)
        self.closed += 1

    def withhold(self) -> None:
        """The place of the stream that was closed last is not given back before `give_back`."""
        self.closed -= 1
        self.withheld += 1

    def give_back(self, most: int) -> int:
        """Give back at most so many of the places withheld; returns how many."""
        count = min(most, self.withheld)
        self.withheld -= count
        self.closed += count
        return count

    def target(self) -> int:
        """The limit that would let the peer have `size` streams open."""
        return min(self.size + self.closed, STREAM_COUNT_MAX)

    def is_due(self) -> bool:
        """Is a new limit worth a frame?"""
        gain = self.target() - self.limit
        return gain > 0 and (gain * 2 >= self.size or gain >= self.limit - self.opened)


class StreamCounts:
    """The four counts of a connection, and the frames about them: MAX_STREAMS, STREAMS_BLOCKED (RFC 9000 §19.11, §19.14)."""

    __slots__ = ("_reset_credit", "_reset_time", "due", "local", "peer")

    def __init__(self, local_bit: int, max_streams_bidi: int, max_streams_uni: int) -> None:
        peer_bit = 1 - local_bit
        self.local: tuple[LocalStreams, LocalStreams] = (
            LocalStreams(local_bit),
            LocalStreams(local_bit | 2),
        )  # bidirectional, unidirectional
        self.peer: tuple[PeerStreams, PeerStreams] = (
            PeerStreams(peer_bit, max_streams_bidi),
            PeerStreams(peer_bit | 2, max_streams_uni),
        )
        self.due = False
        self._reset_credit = float(RESET_BURST)
        self._reset_time = 0.0

    def note_blocked(self, local: LocalStreams) -> None:
        """Somebody wants to open a stream beyond the peer's limit."""
        if local.blocked_at != local.maximum:
            local.blocked_at = local.maximum
            local.is_told = False
            self.due = True

    def is_finished(self, stream_id: int) -> bool:
        """Was there such a stream, and is it discarded?"""
        index = stream_id >> 2
        kind = stream_id >> 1 & 1
        if stream_id & 1 == self.local[0].type_bits:
            return index in self.local[kind].finished
        return index in self.peer[kind].finished

    def note_closed(self, peer: PeerStreams, index: int, was_reset: bool) -> None:
        """One of the peer's streams is closed; `was_reset` by the peer."""
        peer.note_closed(index)
        if was_reset:
            if self._reset_credit < 1.0:
                peer.withhold()
            else:
                self._reset_credit -= 1.0
        if peer.is_due():
            self.due = True

    @property
    def withheld(self) -> int:
        """How many places of reset streams wait to be given back."""
        return self.peer[0].withheld + self.peer[1].withheld

    def refill(self, now: float) -> None:
        """Time has passed: give back what it allows."""
        gained = (now - self._reset_time) * RESETS_PER_SECOND
        self._reset_time = now
        self._reset_credit = min(self._reset_credit + gained, float(RESET_BURST))
        for peer in self.peer:
            if peer.withheld:
                self._reset_credit -= peer.give_back(int(self._reset_credit))
                if peer.is_due():
                    self.due = True

    def write(self, packet: PacketBuilder, owner: Component) -> None:
        """Whatever is due, if all of it fits."""
        if packet.room < COUNT_FRAMES_SIZE:
            return
        self.due = False
        for peer in self.peer:
            if peer.is_lost or peer.is_due():
                peer.is_lost = False
                peer.limit = peer.target()
                frame = encode_max_streams(peer.limit, peer.is_unidirectional)
                packet.push(frame, (owner, MAX_STREAMS_TOKEN, peer, peer.limit))
        for local in self.local:
            if local.blocked_at == local.maximum and local.is_blocked() and not local.is_told:
                local.is_told = True
                frame = encode_streams_blocked(local.maximum, local.is_unidirectional)
                packet.push(frame, (owner, STREAMS_BLOCKED_TOKEN, local, local.maximum))

    def on_lost(self, token: Token) -> None:
        """Write the frame again if it still says what holds."""
        kind: int = token[1]
        limit: int = token[3]
        if kind == MAX_STREAMS_TOKEN:
            peer: PeerStreams = token[2]
            if limit == peer.limit:
                peer.is_lost = True
                self.due = True
        elif kind == STREAMS_BLOCKED_TOKEN:
            local: LocalStreams = token[2]
            if limit == local.maximum == local.blocked_at:
                local.is_told = False
                self.due = True
