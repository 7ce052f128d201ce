"""DATAGRAMs of a connection (RFC 9221), as an unreliable object stream.

`send` waits while the core's queue is full, so a sender goes at the pace of the congestion window and is not told how many
got lost. Received messages wait in a queue of `QuicConfiguration.datagram_queue`; beyond it the oldest is dropped and
counted in the connection's statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import anyio
from anyio.abc import UnreliableObjectStream
from anyio.lowlevel import checkpoint

from quicio.anyio.halves import Data
from quicio.anyio.stream_table import StreamTable

__all__ = ["Datagrams"]


class Datagrams(UnreliableObjectStream[bytes]):
    """Messages that may be lost or reordered, each in one packet."""

    def __init__(self, table: StreamTable, attributes: Mapping[Any, Callable[[], Any]]) -> None:
        self._table = table
        self._link = table.link
        self._attributes = attributes
        self._is_closed = False
        self._guard = anyio.ResourceGuard("sending datagrams on")

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """The connection's attributes."""
        return self._attributes

    @property
    def max_size(self) -> int | None:
        """The largest message that fits now, in bytes; None when the peer takes none."""
        return self._link.quic.max_datagram_size_now() or None

    async def send(self, item: Data) -> None:
        """Send one message, waiting for room in the queue.

        Raises `ValueError` when the message is too big or the peer takes none, `ConnectionLost`, `ClosedResourceError`,
        `BusyResourceError` when another task is sending.
        """
        with self._guard:
            data = item if type(item) is bytes else bytes(item)
            await self._link.driver.waiting.checkpoint()
            while not self._queue(data):
                await self._table.wait_for_datagram_room()
            self._link.driver.settle()

    def send_nowait(self, item: Data) -> None:
        """Send one message at once. Raises `WouldBlock` when the queue is full, else as `send` does."""
        with self._guard:
            if not self._queue(item if type(item) is bytes else bytes(item)):
                raise anyio.WouldBlock
            self._link.driver.settle()

    def _queue(self, data: bytes) -> bool:
        self._check()
        largest = self.max_size
        if largest is None:
            raise ValueError("the peer takes no datagrams: both sides need max_datagram_frame_size")
        if len(data) > largest:
            raise ValueError(f"a datagram of {len(data)} bytes does not fit: the largest is {largest} bytes now")
        if not self._link.quic.try_send_datagram(data):
            return False
        self._link.touch()
        return True

    def _check(self) -> None:
        if self._is_closed:
            raise anyio.ClosedResourceError
        self._link.check()

    async def receive(self) -> bytes:
        """The next message. Raises `ConnectionLost` once those that came before the loss were taken."""
        return await self._table.datagrams.get()

    def receive_nowait(self) -> bytes:
        """As `receive`, but raises `WouldBlock` when no message is waiting."""
        return self._table.datagrams.get_nowait()

    async def aclose(self) -> None:
        """Take and send no more: messages that arrive are dropped. The connection stays open."""
        self._is_closed = True
        self._table.datagrams.end(anyio.ClosedResourceError)
        self._table.datagrams.items.clear()
        self._table.wake_datagram_senders()
        await checkpoint()
