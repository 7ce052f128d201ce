"""The body of a message that arrives, as anyio's byte stream: what a client's response and a server's request share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import anyio
from anyio.abc import ByteReceiveStream
from anyio.lowlevel import checkpoint

from quicio.http.errors import ContentTooLarge
from quicio.http.fields import Fields
from quicio.http.session import Exchange

__all__ = ["READ_LIMIT", "Body"]

READ_LIMIT: Final = 16 * 1024 * 1024  # bytes that `read()` takes unless told otherwise


class Body(ByteReceiveStream):
    """A message whose body is read in pieces (`receive`, `async for`) or as a whole (`read`).

    `headers` are its header fields.
    """

    def __init__(self, exchange: Exchange, headers: Fields) -> None:
        self._exchange = exchange
        self.headers = headers

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """The connection's attributes: see `quicio.anyio.QuicAttribute`."""
        return self._exchange.session.attributes

    @property
    def trailers(self) -> Fields | None:
        """The trailer fields, once the body was read to its end; None before. Often there are none."""
        receiving = self._exchange.receiving
        return Fields(receiving.trailers) if receiving.is_read else None

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """The next piece of the body: at least one byte, at most `max_bytes`. What is taken, the peer may send again.

        Raises `EndOfStream` at the end and never otherwise, `StreamReset` when the peer gave the message up,
        `MalformedMessage`, `ConnectionLost`, `ClosedResourceError` after a close here.
        """
        return await self._exchange.receiving.receive(max_bytes)

    async def read(self, limit: int = READ_LIMIT) -> bytes:
        """The whole body, of at most `limit` bytes. Raises `ContentTooLarge`, and what `receive` raises."""
        announced = self.headers.get("content-length", "")
        if self._exchange.receiving.has_content and announced.isdigit() and int(announced) > limit:
            raise ContentTooLarge(f"the body has {announced} bytes, the limit is {limit}: read it in pieces")
        pieces: list[bytes] = []
        size = 0
        while True:
            try:
                piece = await self.receive()
            except anyio.EndOfStream:
                return b"".join(pieces)
            pieces.append(piece)
            size += len(piece)
            if size > limit:
                raise ContentTooLarge(f"the body has more than {limit} bytes: read it in pieces")

    async def aclose(self) -> None:
        """Read no more; what is unread is dropped, and the peer asked to stop."""
        self._exchange.stop_reading()
        await checkpoint()
