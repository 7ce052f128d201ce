"""What arrives of one message, and the task that waits for it.

A message is interim sections (responses only), a header section, content, perhaps a trailer section (RFC 9114 §4.1).
`H3Connection` has checked all of it; here it waits until a task takes it.

Rules, those of a stream's receiving half:
- Taking content grants its credit, so that no more of it can be here than the windows allow. Small pieces are merged,
  because each object costs memory that flow control does not see (security row 26).
- Interim responses cost no credit once they are decoded, so few can wait to be taken: `MAX_INFORMATIONAL`.
- What came before the connection was lost stays readable; a reset, or a message that broke a rule, drops it.
- Each waiter gets an error of its own: errors are kept as functions that make one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import anyio
from anyio.lowlevel import checkpoint

from quicio.h3.events import Headers
from quicio.http.fields import Fields

if TYPE_CHECKING:
    from quicio.http.session import Session

__all__ = ["Informational", "ReceivingMessage"]

MERGE_BELOW: Final = 4096  # bytes: received pieces are joined up to this size
MAX_INFORMATIONAL: Final = 16  # interim responses to one request that wait to be taken


class Informational:
    """An interim response: `status`, from 100 to 199, and `headers` (RFC 9110 §15.2)."""

    __slots__ = ("headers", "status")

    def __init__(self, status: int, headers: Fields) -> None:
        self.status: int = status
        self.headers: Fields = headers

    def __repr__(self) -> str:
        return f"<Informational {self.status}>"


class ReceivingMessage:
    """The message that the peer sends on one stream."""

    __slots__ = (
        "_chunks",
        "_error",
        "_guard",
        "_offset",
        "_ready",
        "_session",
        "buffered",
        "has_content",
        "headers",
        "informational",
        "is_closed",
        "is_finished",
        "stream_id",
        "trailers",
    )

    def __init__(self, session: Session, stream_id: int) -> None:
        self._session = session
        self.stream_id: int = stream_id
        self.headers: Headers | None = None  # pseudo-header fields included
        self.informational: deque[Informational] = deque()
        self.trailers: Headers = []
        self.has_content: bool = True  # False: whatever content-length says, nothing will come
        self.is_finished: bool = False  # all of it is here, behind the chunks
        self.is_closed: bool = False  # by its user
        self.buffered: int = 0  # bytes of content that nobody has taken
        self._chunks: deque[bytes] = deque()
        self._offset = 0  # of the first chunk: what was handed out of it
        self._error: Callable[[], Exception] | None = None
        self._guard = anyio.ResourceGuard("receiving from")
        self._ready: anyio.Event | None = None

    @property
    def is_read(self) -> bool:
        """Whether its user has all of it."""
        return self.is_finished and not self._chunks and self._error is None

    # --- what its user does ------------------------------------------------------------------------------------------

    async def wait_headers(self, on_informational: Callable[[Informational], None]) -> Headers:
        """Wait for the header section, passing on the interim responses before it."""
        with self._guard:
            await checkpoint()
            while True:
                while self.informational:
                    on_informational(self.informational.popleft())
                if self.headers is not None:
                    return self.headers
                self._check()
                await self._wait()

    async def receive(self, max_bytes: int) -> bytes:
        """The next content, at least one byte and at most `max_bytes`. Raises `EndOfStream` at the end."""
        if max_bytes < 1:
            raise ValueError("max_bytes must be at least 1")
        with self._guard:
            await checkpoint()
            while True:
                if self._error is not None or self.is_closed:
                    self._check()
                if self._chunks:
                    data = self._pop(max_bytes)
                    self.buffered -= len(data)
                    self._session.grant(self.stream_id, len(data))
                    return data
                if self.is_finished:
                    raise anyio.EndOfStream
                self._check()
                await self._wait()

    def _check(self) -> None:
        if self.is_closed:
            raise anyio.ClosedResourceError
        if self._error is not None:
            raise self._error()
        self._session.link.check()

    async def _wait(self) -> None:
        self._ready = anyio.Event()
        try:
            await self._ready.wait()
        finally:
            self._ready = None

    def _pop(self, max_bytes: int) -> bytes:
        head = self._chunks[0]
        start = self._offset
        if len(head) - start > max_bytes:
            self._offset = start + max_bytes
            return head[start : self._offset]
        self._chunks.popleft()
        self._offset = 0
        return head[start:] if start else head

    def close(self) -> None:
        """Its user is done with it: drop what is unread and return its credit."""
        if not self.is_closed:
            self.is_closed = True
            size = self.buffered
            self._drop()
            if size:
                self._session.grant(self.stream_id, size)
            self.wake()

    def _drop(self) -> None:
        self._chunks.clear()
        self._offset = 0
        self.buffered = 0

    # --- what the peer does ------------------------------------------------------------------------------------------

    def on_headers(self, headers: Headers) -> None:
        """The header section, or the trailer section behind it."""
        if self.headers is None:
            self.headers = headers
        else:
            self.trailers = headers
        self.wake()

    def on_informational(self, status: int, headers: Headers) -> bool:
        """An interim response; False when there are too many that nobody has taken."""
        self.informational.append(Informational(status, Fields(headers)))
        self.wake()
        return len(self.informational) <= MAX_INFORMATIONAL

    def on_content(self, data: bytes) -> None:
        """A part of the content."""
        chunks = self._chunks
        self.buffered += len(data)
        if len(chunks) > 1 and len(chunks[-1]) + len(data) <= MERGE_BELOW:
            chunks[-1] += data
        else:
            chunks.append(data)
        self.wake()

    def on_end(self) -> None:
        """The message is complete."""
        self.is_finished = True
        self.wake()

    def fail(self, error: Callable[[], Exception]) -> None:
        """The message will never be complete: what is unread of it is gone."""
        if not self.is_closed and not self.is_read and self._error is None:
            self._error = error
            size = self.buffered
            self._drop()
            if size:
                self._session.grant(self.stream_id, size)
            self.wake()

    def wake(self) -> None:
        """Something came or ended: the reader looks again."""
        if self._ready is not None:
            self._ready.set()
