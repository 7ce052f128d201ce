"""Stream data that came too early: runs above a gap, in a bounded number (RFC 9000 §2.2, §21.7).

Data in order never comes here (see `ReceiveHalf.on_data`). What comes is kept as *runs*: maximal stretches without a gap,
sorted by offset, each a list of pieces. The usual case, packets in order behind one that was lost, appends a piece to the
last run.

What a peer can make us hold is bounded twice. The bytes themselves are within the flow control window, because no byte is
kept twice. The overhead is bounded in two ways of its own:
- pieces: a small piece is joined to its neighbour, so two neighbours of a run are together at least `SMALL_PIECE` long and
  a run of single bytes costs little more than its bytes;
- runs: each is a gap in the stream. A stream has at most `MAX_FRAGMENTS` of them and a connection
  `MAX_CONNECTION_FRAGMENTS`; since acknowledged data cannot be dropped, beyond that the connection ends. A window of
  8 MiB in which every second full packet was lost has 3,500, so that a peer that means well does not get there.

Pieces are `bytes` of their own, never views into a datagram, so none keeps a datagram alive.
"""

from bisect import bisect_left
from typing import Final

SMALL_PIECE: Final = 512  # bytes; smaller neighbours are joined
MAX_FRAGMENTS: Final = 4096  # runs above a gap, a stream
MAX_CONNECTION_FRAGMENTS: Final = 8192  # the same, all streams of a connection together


class Reassembly:
    """Runs of data above the first gap of one stream."""

    __slots__ = ("runs", "starts", "stops")

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.stops: list[int] = []
        self.runs: list[list[bytes]] = []

    def __len__(self) -> int:
        return len(self.starts)

    def size(self) -> int:
        """Bytes held."""
        return sum(self.stops) - sum(self.starts)

    def insert(self, offset: int, data: bytes) -> None:
        """Keep `data` at `offset`, but for what is here already: bytes that came first stay."""
        stop = offset + len(data)
        stops = self.stops
        if stops and offset == stops[-1]:
            append_piece(self.runs[-1], data)
            stops[-1] = stop
            return
        starts = self.starts
        runs = self.runs
        # The runs that touch [offset, stop) are those from `first` up to, not including, `last`.
        first = bisect_left(stops, offset)
        last = first
        count = len(starts)
        while last < count and starts[last] <= stop:
            last += 1
        if first == last:
            starts.insert(first, offset)
            stops.insert(first, stop)
            runs.insert(first, [data])
            return
        run = runs[first]
        if offset < starts[first]:
            prepend_piece(run, data[: starts[first] - offset])
            starts[first] = offset
        position = stops[first]
        for index in range(first + 1, last):
            append_piece(run, data[position - offset : starts[index] - offset])
            run = join_runs(run, runs[index])
            position = stops[index]
        if stop > position:
            append_piece(run, data[position - offset :])
            position = stop
        stops[first] = position
        runs[first] = run
        if last - first > 1:
            del starts[first + 1 : last]
            del stops[first + 1 : last]
            del runs[first + 1 : last]

    def shift(self, position: int, pieces: list[bytes]) -> int:
        """Move to `pieces` what continues the stream at `position`; the position behind it."""
        starts = self.starts
        stops = self.stops
        done = 0
        count = len(starts)
        while done < count and starts[done] <= position:
            if stops[done] > position:
                skip = position - starts[done]
                for piece in self.runs[done]:
                    if skip >= len(piece):
                        skip -= len(piece)
                    else:
                        pieces.append(piece[skip:] if skip else piece)
                        skip = 0
                position = stops[done]
            done += 1
        if done:
            del starts[:done]
            del stops[:done]
            del self.runs[:done]
        return position


def append_piece(pieces: list[bytes], data: bytes) -> None:
    """Append `data`, joined to the last piece when both are small."""
    if len(pieces[-1]) + len(data) < SMALL_PIECE:
        pieces[-1] += data
    else:
        pieces.append(data)


def prepend_piece(pieces: list[bytes], data: bytes) -> None:
    """Put `data` in front, joined to the first piece when both are small."""
    if len(pieces[0]) + len(data) < SMALL_PIECE:
        pieces[0] = data + pieces[0]
    else:
        pieces.insert(0, data)


def join_runs(left: list[bytes], right: list[bytes]) -> list[bytes]:
    """One list of the pieces of both, made by moving the shorter; only at the seam can two small pieces meet."""
    if len(left[-1]) + len(right[0]) < SMALL_PIECE:
        right[0] = left.pop() + right[0]
    if len(left) < len(right):
        right[:0] = left
        return right
    left.extend(right)
    return left
