"""0-RTT packets that came before their client's first Initial packet (RFC 9000 §5.2.2).

The network may turn a client's first flight around. Such packets belong to no connection yet, and their keys need the
ClientHello; a server may keep a few of them for a moment. Anybody can send what looks like one, so little is kept, of few, and
not for long: `MAX_CLIENTS` clients with `MAX_DATAGRAMS` datagrams each, the oldest client goes first, and what has waited for
`MAX_WAIT` seconds is dropped when it is asked for.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final

MAX_CLIENTS: Final = 64
MAX_DATAGRAMS: Final = 4  # of each
MAX_WAIT: Final = 1.0  # seconds

Key = tuple[bytes, Hashable]  # destination connection ID, remote address


class EarlyArrivals:
    """Datagrams by the connection that they are for, if it ever comes to be."""

    def __init__(self) -> None:
        self._waiting: dict[Key, tuple[float, list[bytes]]] = {}

    def add(self, key: Key, datagram: bytes, now: float) -> bool:
        """Keep a datagram; False when there is no room for it."""
        arrived, datagrams = self._waiting.get(key, (now, []))
        if now > arrived + MAX_WAIT:
            self._waiting.pop(key)
            arrived, datagrams = now, []
        if len(datagrams) >= MAX_DATAGRAMS:
            return False
        datagrams.append(datagram)
        self._waiting[key] = (arrived, datagrams)
        if len(self._waiting) > MAX_CLIENTS:
            del self._waiting[next(iter(self._waiting))]
        return True

    def take(self, key: Key, now: float) -> list[bytes]:
        """The datagrams that wait for the connection which comes to be now."""
        if key not in self._waiting:
            return []
        arrived, datagrams = self._waiting.pop(key)
        return datagrams if now <= arrived + MAX_WAIT else []

    def __len__(self) -> int:
        return len(self._waiting)
