"""What a stream has to send: the application's bytes, kept until the peer has acknowledged them (RFC 9000 §2.2, §13.3).

The application's `bytes` objects are kept by reference; nothing is copied until a frame takes its slice. Four offsets tell
the whole story, in this order: `acked_to <= next_offset <= end`, and what lies between them:

    0 ........ acked_to ................ next_offset ................ end
      released   sent, not yet acked       never sent

- Below `acked_to` everything is acknowledged and released. Acknowledgements nearly always come in order, so this is one
  integer; only what is acknowledged above a hole goes to the range set `acked`.
- `lost` holds what has to be sent again. It never overlaps `acked` nor what lies below `acked_to`: an acknowledgement
  that comes late takes its range out of `lost`.
- `keep_to` is the offset up to which delivery is owed. It is out of reach until the stream is reset; then it is the
  reliable size (RESET_STREAM_AT), and nothing above it is ever offered again.

Invariant: each byte below `min(end, keep_to)` is released, acknowledged, lost, in flight or unsent; `chunks[head:]` covers
`[acked_to, end)` without a gap. Flow control, FIN and the stream's state are not known here: see `stream.py`.
"""

from bisect import bisect_right
from typing import Final

from quicio.quic.wire.rangeset import RangeSet

UNREACHABLE: Final = 1 << 62  # above any offset of a stream
COMPACT_AT: Final = 64  # released chunks at the front of the list before it is cut


class SendBuffer:
    """Bytes of one stream between `send()` and the peer's acknowledgement."""

    __slots__ = ("acked", "acked_to", "chunks", "cursor", "end", "head", "keep_to", "lost", "next_offset", "starts")

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.starts: list[int] = []  # offset of the first byte of each chunk
        self.head = 0  # chunks before this index are released
        self.cursor = 0  # index of the chunk that holds `next_offset`
        self.acked_to = 0
        self.next_offset = 0
        self.end = 0
        self.keep_to: int = UNREACHABLE
        self.acked: RangeSet | None = None
        self.lost: RangeSet | None = None

    def append(self, data: bytes) -> None:
        """Queue `data` behind what is there."""
        if data:
            self.chunks.append(data)
            self.starts.append(self.end)
            self.end += len(data)

    def take(self, size: int) -> bytes:
        """The next `size` bytes that were never sent; the caller has checked that they are there."""
        start = self.next_offset
        index = self.cursor
        chunk = self.chunks[index]
        begin = start - self.starts[index]
        rest = len(chunk) - begin
        self.next_offset = start + size
        if size < rest:
            return chunk[begin : begin + size]
        if size == rest:
            self.cursor = index + 1
            return chunk[begin:] if begin else chunk
        return self._gather(index, begin, size, True)

    def take_run(self, size: int, count: int) -> list[bytes]:
        """As `take`, `count` times: pieces of `size` bytes each, with more bytes left behind the last."""
        pieces: list[bytes] = []
        while count > 0:
            index = self.cursor
            chunk = self.chunks[index]
            begin = self.next_offset - self.starts[index]
            whole = (len(chunk) - begin - 1) // size  # pieces that leave something of this chunk
            if whole > count:
                whole = count
            end = begin + whole * size
            while begin < end:
                stop = begin + size
                pieces.append(chunk[begin:stop])
                begin = stop
            self.next_offset += whole * size
            count -= whole
            if count > 0:
                pieces.append(self.take(size))
                count -= 1
        return pieces

    def take_lost(self, start: int, size: int) -> bytes:
        """The bytes of a lost range, which is lost no longer."""
        lost = self.lost
        if lost is not None:
            lost.subtract(start, start + size)
        index = bisect_right(self.starts, start, self.head) - 1
        chunk = self.chunks[index]
        begin = start - self.starts[index]
        if begin + size <= len(chunk):
            return chunk[begin : begin + size]
        return self._gather(index, begin, size, False)

    def _gather(self, index: int, begin: int, size: int, is_new: bool) -> bytes:
        """`size` bytes that span chunks, from byte `begin` of chunk `index` on."""
        chunks = self.chunks
        pieces: list[bytes] = []
        while size > 0:
            chunk = chunks[index]
            rest = len(chunk) - begin
            if size < rest:
                pieces.append(chunk[begin : begin + size])
                break
            pieces.append(chunk[begin:] if begin else chunk)
            size -= rest
            begin = 0
            index += 1
        if is_new:
            self.cursor = index
        return b"".join(pieces)

    def has_lost(self) -> bool:
        """Is there something to send again?"""
        lost = self.lost
        return lost is not None and len(lost) > 0

    def mark_acked(self, start: int, stop: int) -> None:
        """The peer has `[start, stop)`; the same range may be reported more than once."""
        lost = self.lost
        if lost is not None and len(lost) > 0 and start < stop:
            lost.subtract(start, stop)
        if start > self.acked_to:
            if start < stop:
                if self.acked is None:
                    self.acked = RangeSet()
                self.acked.add(start, stop)
            return
        if stop <= self.acked_to:
            return
        acked = self.acked
        if acked is not None:
            while len(acked) > 0 and acked.starts[0] <= stop:
                _, first_stop = acked.shift()
                if first_stop > stop:
                    stop = first_stop
        self.acked_to = stop
        head = self.head
        starts = self.starts
        chunks = self.chunks
        count = len(chunks)
        if head < count and starts[head] + len(chunks[head]) <= stop:
            while head < count and starts[head] + len(chunks[head]) <= stop:
                chunks[head] = b""
                head += 1
            if head >= COMPACT_AT and head * 2 >= count:
                del chunks[:head]
                del starts[:head]
                self.cursor -= head
                head = 0
            self.head = head

    def mark_lost(self, start: int, stop: int) -> None:
        """Offer again what of `[start, stop)` is not acknowledged and still owed."""
        if start < self.acked_to:
            start = self.acked_to
        if stop > self.keep_to:
            stop = self.keep_to
        if start >= stop:
            return
        if self.lost is None:
            self.lost = RangeSet()
        self.lost.add(start, stop)
        acked = self.acked
        if acked is not None:
            index = bisect_right(acked.stops, start)
            while index < len(acked.starts) and acked.starts[index] < stop:
                self.lost.subtract(acked.starts[index], acked.stops[index])
                index += 1

    def abandon(self, reliable_size: int) -> None:
        """Owe only the bytes below `reliable_size`; forget those above it that were never sent."""
        self.keep_to = reliable_size
        if self.end > reliable_size:
            self.end = reliable_size if reliable_size > self.next_offset else self.next_offset
        if self.lost is not None:
            self.lost.subtract(reliable_size, UNREACHABLE)
        if self.acked_to >= reliable_size:
            self.chunks = []
            self.starts = []
            self.head = 0
            self.cursor = 0
            self.acked = None
            self.acked_to = self.end

    def size(self) -> int:
        """Bytes held for the application's account: not yet acknowledged, sent or not."""
        return self.end - self.acked_to
