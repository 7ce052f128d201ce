"""Sets of integers as sorted ranges: received packet numbers, stream offsets.

A range is half-open, `start <= n < stop`. The set is two parallel lists, `starts` and `stops`, so that readers on the
per-packet path index plain ints and no range object is built unless someone asks for one.

Invariants: every range is non-empty; ranges are sorted; two ranges never touch, so `stops[i] < starts[i + 1]`.

What arrives in order extends the last range in constant time without a search; anything else finds its place by
bisection. The set puts no bound on how many ranges it holds: whoever lets a peer fill it calls `drop_oldest` with its
own named limit.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator


class RangeSet:
    """A set of integers kept as sorted, separate, half-open ranges."""

    starts: list[int]
    stops: list[int]

    def __init__(self, ranges: Iterable[range] = ()) -> None:
        self.starts = []
        self.stops = []
        for item in ranges:
            self.add(item.start, item.stop)

    def add(self, start: int, stop: int | None = None) -> None:
        """Put `start <= n < stop` into the set, or the one integer `start`; ValueError for an empty range."""
        if stop is None:
            stop = start + 1
        if stop <= start:
            raise ValueError(f"A range needs start < stop, got {start} and {stop}")
        starts = self.starts
        stops = self.stops
        if not stops or start > stops[-1]:
            starts.append(start)
            stops.append(stop)
            return
        if start >= starts[-1]:
            if stop > stops[-1]:
                stops[-1] = stop
            return
        # All ranges that touch the new one lie between `low` and `high` and become one with it.
        low = bisect_left(stops, start)
        high = bisect_right(starts, stop)
        if low == high:
            starts.insert(low, start)
            stops.insert(low, stop)
            return
        start = min(start, starts[low])
        stop = max(stop, stops[high - 1])
        if high - low == 1:
            starts[low] = start
            stops[low] = stop
        else:
            starts[low:high] = [start]
            stops[low:high] = [stop]

    def subtract(self, start: int, stop: int) -> None:
        """Take `start <= n < stop` out of the set; ValueError for an empty range."""
        if stop <= start:
            raise ValueError(f"A range needs start < stop, got {start} and {stop}")
        starts = self.starts
        stops = self.stops
        # Ranges that share at least one integer with [start, stop).
        low = bisect_right(stops, start)
        high = bisect_left(starts, stop)
        if low >= high:
            return
        left = starts[low]
        right = stops[high - 1]
        new_starts: list[int] = []
        new_stops: list[int] = []
        if left < start:
            new_starts.append(left)
            new_stops.append(start)
        if stop < right:
            new_starts.append(stop)
            new_stops.append(right)
        starts[low:high] = new_starts
        stops[low:high] = new_stops

    def first(self) -> tuple[int, int]:
        """The lowest range as (start, stop); IndexError when the set is empty."""
        return self.starts[0], self.stops[0]

    def last(self) -> tuple[int, int]:
        """The highest range as (start, stop); IndexError when the set is empty."""
        return self.starts[-1], self.stops[-1]

    def shift(self) -> tuple[int, int]:
        """Remove the lowest range and return it as (start, stop); IndexError when the set is empty."""
        return self.starts.pop(0), self.stops.pop(0)

    def drop_below(self, limit: int) -> None:
        """Take out every integer below `limit`."""
        starts = self.starts
        stops = self.stops
        if not starts or starts[0] >= limit:
            return
        count = bisect_right(stops, limit)
        del starts[:count]
        del stops[:count]
        if starts and starts[0] < limit:
            starts[0] = limit

    def drop_oldest(self, keep: int) -> None:
        """Keep at most the `keep` highest ranges."""
        excess = len(self.starts) - keep
        if excess > 0:
            del self.starts[:excess]
            del self.stops[:excess]

    def bounds(self) -> tuple[int, int]:
        """The lowest integer and the one past the highest; IndexError when the set is empty."""
        return self.starts[0], self.stops[-1]

    def __contains__(self, number: object) -> bool:
        if not isinstance(number, int):
            return False
        index = bisect_right(self.starts, number) - 1
        return index >= 0 and number < self.stops[index]

    def __len__(self) -> int:
        return len(self.starts)

    def __bool__(self) -> bool:
        return bool(self.starts)

    def __getitem__(self, index: int) -> range:
        return range(self.starts[index], self.stops[index])

    def __iter__(self) -> Iterator[range]:
        return iter([range(start, stop) for start, stop in zip(self.starts, self.stops, strict=True)])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RangeSet):
            return NotImplemented
        return self.starts == other.starts and self.stops == other.stops

    def __repr__(self) -> str:
        return f"RangeSet({list(self)!r})"
