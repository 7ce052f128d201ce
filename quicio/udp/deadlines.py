"""The earliest of many deadlines that move all the time.

Each connection has one deadline, and nearly every burst moves it, mostly later: acknowledgements push the probe
timeout ahead, packets push the idle timeout ahead. So `set` only notes the new time; the heap gets an entry when the
time has come nearer, and an entry whose time has moved away is corrected when it reaches the top. That makes `set` a
dictionary write in the common case, and `earliest` exact.

Invariants: each key with a finite deadline has exactly one live entry, at or before its deadline. An entry without an
owner is stale and skipped; the heap is rebuilt when it holds more than twice as many entries as keys and
`REBUILD_SLACK`. Heap entries hold numbers, not keys, so that a connection that was removed dies at once.
"""

from heapq import heapify, heappop, heappush, heapreplace
from math import inf
from typing import Final, Generic, TypeVar

REBUILD_SLACK: Final = 64  # stale entries that are not worth a rebuild

Key = TypeVar("Key")


class Deadlines(Generic[Key]):
    """Deadlines by key, in seconds of the caller's clock; see the module's essay."""

    __slots__ = ("_deadlines", "_entries", "_heap", "_owners", "_serial")

    def __init__(self) -> None:
        self._deadlines: dict[Key, float] = {}
        self._entries: dict[Key, tuple[float, int]] = {}  # the live heap entry of each key
        self._owners: dict[int, Key] = {}  # whose the live entries are, by serial number
        self._heap: list[tuple[float, int]] = []
        self._serial = 0

    def __len__(self) -> int:
        return len(self._deadlines)

    def __contains__(self, key: Key) -> bool:
        return key in self._deadlines

    def heap_size(self) -> int:
        """Entries in the heap, stale ones included."""
        return len(self._heap)

    def set(self, key: Key, deadline: float) -> None:
        """Give `key` a deadline in place of the one it had. Infinity is none: the key is removed."""
        if deadline == inf:
            self.remove(key)
            return
        self._deadlines[key] = deadline
        entry = self._entries.get(key)
        if entry is not None:
            if entry[0] <= deadline:
                return
            del self._owners[entry[1]]
        self._push(key, deadline)
        if len(self._heap) > 2 * len(self._deadlines) + REBUILD_SLACK:
            self._rebuild()

    def remove(self, key: Key) -> None:
        """Forget `key`, if it is known."""
        if self._deadlines.pop(key, None) is not None:
            _, serial = self._entries.pop(key)
            del self._owners[serial]

    def earliest(self) -> float:
        """The earliest deadline, or infinity."""
        heap = self._heap
        while heap:
            when, serial = heap[0]
            key = self._owners.get(serial)
            if key is None:
                heappop(heap)
                continue
            deadline = self._deadlines[key]
            if deadline == when:
                return when
            entry = (deadline, serial)
            self._entries[key] = entry
            heapreplace(heap, entry)
        return inf

    def pop_due(self, now: float) -> Key | None:
        """Remove and return a key whose deadline is at or before `now`, the earliest first; None when there is none."""
        if self.earliest() > now:
            return None
        _, serial = heappop(self._heap)
        key = self._owners.pop(serial)
        del self._entries[key], self._deadlines[key]
        return key

    def clear(self) -> None:
        """Forget all keys."""
        self._deadlines.clear()
        self._entries.clear()
        self._owners.clear()
        self._heap.clear()

    def _push(self, key: Key, deadline: float) -> None:
        self._serial += 1
        entry = (deadline, self._serial)
        self._entries[key] = entry
        self._owners[self._serial] = key
        heappush(self._heap, entry)

    def _rebuild(self) -> None:
        self._heap = list(self._entries.values())
        heapify(self._heap)
