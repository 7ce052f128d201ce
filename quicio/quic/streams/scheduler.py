"""Whose turn it is to send: by urgency, then in turns (RFC 9218 §4, §10; RFC 9000 §2.3).

A queue holds the send halves that can write a frame now, in one list an urgency, 0 the most urgent, and a bit mask of the
lists that are not empty. Nobody looks for a stream that is ready: it is the head of the first list. After a frame
- an incremental stream goes behind the others of its urgency: round robin, a packet each;
- a non-incremental one stays at the head until it has nothing left: first come, first served.

Streams are incremental at urgency 3 unless told otherwise, so that equals share evenly. RFC 9218's own default
(non-incremental) is for responses whose client understands priorities; HTTP/3 sets it through `set_priority`.

`Streams` has two queues: one for what needs connection credit (new data) and one for what does not (lost data, a bare FIN).
So a connection that waits for MAX_DATA still repairs, and looks at no stream in vain. A half is in each queue at most once,
by its bit in `SendHalf.queued`; invariant: bit and membership agree, and a bit of `mask` is set exactly when its list
holds something.

Lists and not deques, which take 600 bytes each while they are empty: sixteen of them were a fifth of an idle connection.
"""

from typing import Final

from quicio.quic.streams.stream import SendHalf

URGENCIES: Final = 8


class SendQueue:
    """Send halves that can write, in the order in which they should. `bit` is the queue's own in `SendHalf.queued`."""

    __slots__ = ("bit", "mask", "queues")

    def __init__(self, bit: int) -> None:
        self.bit: int = bit
        self.mask: int = 0
        self.queues: list[list[SendHalf]] = [[] for _ in range(URGENCIES)]

    def add(self, half: SendHalf) -> None:
        """Put `half` behind the others of its urgency, unless it is queued already."""
        if half.queued & self.bit:
            return
        half.queued |= self.bit
        self.mask |= 1 << half.urgency
        self.queues[half.urgency].append(half)

    def head(self) -> SendHalf:
        """The half whose turn it is; only while `mask` is not 0."""
        mask = self.mask
        return self.queues[(mask & -mask).bit_length() - 1][0]

    def has_others(self, half: SendHalf) -> bool:
        """Whether others wait at the urgency of the head."""
        return len(self.queues[half.urgency]) > 1

    def next_turn(self, half: SendHalf, has_more: bool) -> None:
        """The head has written a frame: let it go, or let others of its urgency have their turn."""
        queue = self.queues[half.urgency]
        if not has_more:
            del queue[0]
            half.queued &= ~self.bit
            if not queue:
                self.mask &= ~(1 << half.urgency)
        elif half.incremental and len(queue) > 1:
            queue.append(queue.pop(0))

    def remove(self, half: SendHalf) -> None:
        """Take `half` out, wherever it stands. Linear in the halves that are ready at its urgency: not for every packet."""
        if half.queued & self.bit:
            half.queued &= ~self.bit
            queue = self.queues[half.urgency]
            queue.remove(half)
            if not queue:
                self.mask &= ~(1 << half.urgency)
