"""What a connection may hold in memory, and all connections of an endpoint together (RFC 9000 §4, §21.6).

What counts is the bytes that are kept for somebody: sent and not acknowledged, received and not taken (reassembly included),
datagrams that wait in either direction. CRYPTO has a fixed bound of its own a level (`crypto_stream.py`), for which
`CRYPTO_RESERVE` is set aside.

A connection's budget is divided once, by `divide()`, because credit that a peer was given cannot be taken back: what it may
send is promised in full. So windows stop growing at the part for receiving, queues of datagrams end at theirs, and what is
left is for sending: `Sending.room()` gives streams no more of it. A stream may always have `STREAM_RESERVE` waiting, or
a few that the peer does not read would silence all others.

An endpoint's budget is a brake on what is really held, since most connections use little of what they were promised. From
half of it on no window grows; when it is used up, each window is halved at each update, connections get `FLOOR` for sending,
and new ones begin with windows of `FLOOR`: so much is left to each connection that none ever waits for another. What was
promised before can still arrive; the budget bounds what is promised after.

Invariant: `MemoryPool.used` is the sum of `held` over the budgets that are not closed.
"""

from typing import Final

ENDPOINT_MEMORY_LIMIT: Final = 1 << 30
SMALLEST_MEMORY_LIMIT: Final = 256 * 1024  # of a connection
DEFAULT_SEND_SHARE: Final = 8 << 20  # of a connection without a limit of its own
CRYPTO_RESERVE: Final = 64 * 1024  # one level; those of the handshake are gone before data flows
MAX_DATAGRAM_SHARE: Final = 1 << 20  # of a connection's budget, in each direction
FLOOR: Final = 64 * 1024  # what a connection may have in each direction, however short the endpoint is of memory
STREAM_RESERVE: Final = 4096  # what a stream may have waiting to be sent, whatever others have
UNLIMITED: Final = 1 << 62

FREE: Final = 0  # windows grow
TIGHT: Final = 1  # windows stay
SHORT: Final = 2  # windows shrink


class MemoryPool:
    """What the connections of an endpoint hold together. `limit` in bytes."""

    __slots__ = ("limit", "used")

    def __init__(self, limit: int = UNLIMITED) -> None:
        self.limit: int = limit
        self.used: int = 0

    def pressure(self) -> int:
        """FREE, TIGHT or SHORT."""
        if self.used * 2 < self.limit:
            return FREE
        return TIGHT if self.used < self.limit else SHORT


class MemoryBudget:
    """One connection's part of the pool, and how its own limit is divided. Sizes in bytes."""

    __slots__ = ("datagram_share", "held", "pool", "receive_share", "send_share")

    def __init__(
        self, limit: int | None, window_limit: int, send_buffer: int = 0, pool: MemoryPool | None = None
    ) -> None:
        """`window_limit` is what the connection wants for receiving, `send_buffer` what a stream does for sending.

        A `limit` of None is what these ask for, and at least `DEFAULT_SEND_SHARE` for all streams together.
        """
        self.pool: MemoryPool = MemoryPool() if pool is None else pool
        self.held: int = 0
        self.receive_share: int = window_limit
        self.send_share: int = max(send_buffer, DEFAULT_SEND_SHARE)
        self.datagram_share: int = MAX_DATAGRAM_SHARE
        if limit is not None:
            self.divide(limit, window_limit)

    def divide(self, limit: int, window_limit: int) -> None:
        """An eighth for datagrams each way, at most 1 MiB; of the rest at most half for receiving; what is left for sending."""
        self.datagram_share = min(limit // 8, MAX_DATAGRAM_SHARE)
        rest = limit - CRYPTO_RESERVE - 2 * self.datagram_share
        self.receive_share = min(window_limit, rest // 2)
        self.send_share = rest - self.receive_share

    def first_window(self, wanted: int) -> int:
        """With what window a connection or a stream begins that would like `wanted`."""
        most = self.receive_share
        if self.pool.pressure() == SHORT and most > FLOOR:
            most = FLOOR
        return min(wanted, most)

    def sendable(self) -> int:
        """How much may wait to be sent or acknowledged, all streams together."""
        if self.send_share > FLOOR and self.pool.used >= self.pool.limit:
            return FLOOR
        return self.send_share

    def add(self, size: int) -> None:
        """So much more is held, or less."""
        self.held += size
        self.pool.used += size

    def close(self) -> None:
        """The connection is forgotten: what it holds counts no more."""
        self.pool.used -= self.held
        self.held = 0
        self.pool = MemoryPool()
