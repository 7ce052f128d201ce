"""DATAGRAM frames (RFC 9221): unreliable messages, one a frame.

Rules: a message fits one packet or is refused at once (a queue head that never fits would block all that follow it). The
queue of outgoing messages is bounded, and so is the number of received ones that nobody has taken: beyond the bound the
newest received message is dropped and counted, which an unreliable service may do. Frames count against the congestion
window like any other (RFC 9221 §5.3, §5.4); they are not sent again, but their fate is counted. Both queues are within the
connection's memory budget too (`streams/budget.py`).

What this leaves to others: waiting for room (the faces do, on `DatagramWritable`), and who may send when (`Outbound`).
"""

from collections import deque
from typing import Final

from quicio.quic.component import Component, Token, Wants
from quicio.quic.events import DatagramFrameReceived, DatagramWritable, QuicEvent
from quicio.quic.streams.budget import MemoryBudget
from quicio.quic.wire.constants import APPLICATION_BIT, DATAGRAM, PROTOCOL_VIOLATION, QuicConnectionError
from quicio.quic.wire.frames import encode_datagram_header
from quicio.quic.wire.packet_builder import PacketBuilder

MAX_RECEIVED_DATAGRAMS: Final = 1024  # received and not yet handed out
MAX_RECEIVED_DATAGRAM_BYTES: Final = 1 << 20  # or less, where the memory budget says so
FRAME_OVERHEAD: Final = 3  # type and a two-byte length


class Datagrams(Component):
    """Both directions of DATAGRAM frames for one connection."""

    def __init__(
        self,
        wants: Wants,
        events: deque[QuicEvent],
        *,
        queue_limit: int,
        max_frame_size: int | None,
        budget: MemoryBudget | None = None,
    ) -> None:
        super().__init__(wants)
        self._events = events
        self._budget = budget or MemoryBudget(None, 0)
        self._queue: deque[bytes] = deque()
        self._queue_bytes = 0
        self._queue_limit = queue_limit
        self._was_full = False
        self._received = 0
        self._received_bytes = 0
        self.local_max_frame_size: int = max_frame_size or 0  # what we announced; 0: DATAGRAM frames are not accepted
        self.remote_max_frame_size = 0  # what the peer announced
        self.native = False
        self.sent: int = 0
        self.acked: int = 0
        self.lost: int = 0
        self.dropped: int = 0  # received, but nobody took them in time

    def max_size(self, payload_room: int) -> int:
        """The largest message that can be sent now, in bytes; 0 when the peer takes none."""
        if self.remote_max_frame_size == 0:
            return 0
        return max(0, min(self.remote_max_frame_size, payload_room) - FRAME_OVERHEAD)

    def queue_room(self) -> int:
        """How many messages the queue still takes, as far as they are counted."""
        return self._queue_limit - len(self._queue)

    def send(self, data: bytes, payload_room: int) -> bool:
        """Queue a message. False when the queue is full; `ValueError` when it can never be sent."""
        if self.remote_max_frame_size and len(data) > self.max_size(payload_room):
            raise ValueError(
                f"a datagram of {len(data)} bytes does not fit: the largest is {self.max_size(payload_room)} bytes now"
            )
        if len(self._queue) >= self._queue_limit or (
            self._queue and self._queue_bytes + len(data) > self._budget.datagram_share
        ):
            self._was_full = True
            return False
        self._queue.append(data)
        self._queue_bytes += len(data)
        self._budget.add(len(data))
        self.want(APPLICATION_BIT)
        return True

    def write(self, packet: PacketBuilder, now: float) -> None:
        queue = self._queue
        while queue:
            data = queue[0]
            size = len(data)
            if size + FRAME_OVERHEAD > packet.room:
                if packet.pieces:
                    return  # it fits the next packet
                self._take_first()  # the path shrank: it fits none any more
                self.lost += 1
                continue
            self._take_first()
            packet.push_data(encode_datagram_header(size, True), data, (self, size))
            self.sent += 1
        self.pending = 0
        if self._was_full:
            self._was_full = False
            if self.native:
                self._events.append(DatagramWritable())

    def _take_first(self) -> None:
        size = len(self._queue.popleft())
        self._queue_bytes -= size
        self._budget.add(-size)

    def on_frame(self, data: bytes, frame_size: int) -> None:
        """A DATAGRAM frame arrived; `frame_size` is the whole frame (RFC 9221 §3)."""
        if frame_size > self.local_max_frame_size:
            raise QuicConnectionError(PROTOCOL_VIOLATION, DATAGRAM, "DATAGRAM frame exceeds what was announced")
        most = min(MAX_RECEIVED_DATAGRAM_BYTES, self._budget.datagram_share)
        if self._received >= MAX_RECEIVED_DATAGRAMS or self._received_bytes + len(data) > most:
            self.dropped += 1
            return
        self._received += 1
        self._received_bytes += len(data)
        self._budget.add(len(data))
        self._events.append(DatagramFrameReceived(data=data))

    def on_handed_out(self, event: DatagramFrameReceived) -> None:
        """The application took a received message: its place is free again."""
        self._received -= 1
        self._received_bytes -= len(event.data)
        self._budget.add(-len(event.data))

    def on_parameters(self, max_frame_size: int | None) -> None:
        """The peer's transport parameter `max_datagram_frame_size`."""
        self.remote_max_frame_size = max_frame_size or 0
        if not self.remote_max_frame_size and self._queue:
            self.lost += len(self._queue)
            while self._queue:
                self._take_first()
            self.pending = 0

    def on_acked(self, token: Token, now: float) -> None:
        self.acked += 1

    def on_lost(self, token: Token, now: float) -> None:
        self.lost += 1
