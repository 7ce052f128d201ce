"""What is sent of one message, and the task that sends it.

The order of a message is kept here, before anything reaches `H3Connection`: interim sections, one header section, content,
perhaps trailers, the end (RFC 9114 §4.1). Breaking it is the program's mistake and raises at once.

Rules, those of a stream's sending half:
- `send` waits while the stream's buffer is full: a peer that does not read stops the sender, not the machine.
- Content is measured by the length that was announced: more of it raises, and what ends with less of it cannot end well,
  because the peer would take the message for malformed (RFC 9114 §4.1.2). It is reset.
- A `send` that was cancelled with part of its data queued leaves a message that can only be reset.
- A message without content, as every response to HEAD, takes its content and drops it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
from anyio.lowlevel import cancel_shielded_checkpoint, checkpoint_if_cancelled

from quicio.errors import StreamStopped
from quicio.h3.events import Headers
from quicio.h3.exceptions import ProtocolError

if TYPE_CHECKING:
    from quicio.http.session import Session

__all__ = ["Data", "SendingMessage"]

Data = bytes | bytearray | memoryview


class SendingMessage:
    """The message that this side sends on one stream."""

    __slots__ = (
        "_expected",
        "_guard",
        "_is_interrupted",
        "_room",
        "_session",
        "_size",
        "has_content",
        "is_closed",
        "is_finished",
        "is_started",
        "stop_code",
        "stream_id",
    )

    def __init__(self, session: Session, stream_id: int) -> None:
        self._session = session
        self.stream_id: int = stream_id
        self.has_content: bool = True  # False: what is sent as content is dropped
        self.is_started: bool = False  # the header section was sent
        self.is_finished: bool = False  # the end was sent
        self.is_closed: bool = False  # by its user, or reset
        self.stop_code: int | None = None  # the peer no longer reads
        self._expected: int | None = None  # the content-length that was announced
        self._size = 0
        self._is_interrupted = False
        self._room: anyio.Event | None = None
        self._guard = anyio.ResourceGuard("sending on")

    def check(self) -> None:
        """Raise when nothing can be sent."""
        if self.is_closed:
            raise anyio.ClosedResourceError
        if self.stop_code is not None:
            raise StreamStopped(
                f"the peer stopped reading stream {self.stream_id} with error code {self.stop_code:#x}",
                code=self.stop_code,
            )
        self._session.link.check()
        if self._is_interrupted:
            raise anyio.ClosedResourceError

    # --- sections ----------------------------------------------------------------------------------------------------

    async def send_informational(self, headers: Headers) -> None:
        """Send an interim response, waiting for room."""
        self.check()
        while not self.has_room_for(1):
            await self._wait_for_room()
        if self.is_started:
            raise RuntimeError("an interim response comes before the response: it has been started already")
        self._send_section(headers, False)

    def start(self, headers: Headers, *, is_whole: bool) -> None:
        """Queue the header section; `is_whole`: nothing follows. `ValueError` for fields that cannot be sent."""
        self.check()
        if self.is_started:
            raise RuntimeError("the message was started before: each has one header section")
        self._send_section(headers, is_whole)
        self.is_started = True
        self._expected = next((int(value) for name, value in headers if name == b"content-length"), None)
        if is_whole:
            self._note_end()

    def send_trailers(self, headers: Headers) -> None:
        """Queue the trailer section, and with it the end."""
        self._check_open("trailers come behind the content")
        self._check_size()
        self._send_section(headers, True)
        self._note_end()

    def _send_section(self, headers: Headers, is_end: bool) -> None:
        try:
            self._session.h3.send_headers(self.stream_id, headers, end_stream=is_end)
        except ProtocolError as error:
            raise ValueError(f"the message cannot be sent: {error.reason_phrase}") from None
        self._session.link.touch()

    # --- content -----------------------------------------------------------------------------------------------------

    async def send(self, item: Data, *, is_last: bool = False) -> None:
        """Send all of `item` as content, waiting for room; `is_last` ends the message with it."""
        with self._guard:
            await checkpoint_if_cancelled()
            self._check_open("start the message before its content")
            data = item if type(item) is bytes else bytes(item)
            self._count(len(data), is_last)
            try:
                if self.has_content and data:
                    await self._send_pieces(data, is_last)
                elif is_last:
                    self._send_piece(b"", True)
                await cancel_shielded_checkpoint()
            finally:
                self._session.link.driver.settle()

    async def _send_pieces(self, data: bytes, is_last: bool) -> None:
        size = len(data)
        position = 0
        try:
            while position < size:
                room = self._session.link.quic.send_room(self.stream_id)
                if room <= 0:
                    await self._wait_for_room()
                    continue
                stop = min(position + room, size)
                piece = data if position == 0 and stop == size else data[position:stop]
                self._send_piece(piece, is_last and stop == size)
                position = stop
        except anyio.get_cancelled_exc_class():
            self._is_interrupted = True
            raise

    def _send_piece(self, piece: bytes, is_end: bool) -> None:
        self._session.h3.send_data(self.stream_id, piece, is_end)
        self._session.link.touch()
        if is_end:
            self._note_end()

    async def _wait_for_room(self) -> None:
        session = self._session
        session.link.driver.settle()
        self._room = anyio.Event()
        if session.link.quic.send_room(self.stream_id) <= 0:
            try:
                await self._room.wait()
            finally:
                self._room = None
        self.check()

    def finish(self) -> None:
        """Queue the end; again: nothing."""
        if not self.is_finished:
            self._check_open("start the message before it ends")
            self._check_size()
            self._send_piece(b"", True)

    def has_room_for(self, size: int) -> bool:
        """Whether content of `size` bytes can be queued without waiting."""
        return size <= self._session.link.quic.send_room(self.stream_id)

    def _check_open(self, otherwise: str) -> None:
        self.check()
        if not self.is_started:
            raise RuntimeError(otherwise)
        if self.is_finished:
            raise RuntimeError("the message has ended: nothing can follow")

    def _count(self, size: int, is_last: bool) -> None:
        expected = self._expected
        if expected is not None and self._size + size > expected:
            raise ValueError(f"this is more content than content-length announced ({expected} bytes)")
        self._size += size
        if is_last:
            self._check_size()

    def _check_size(self) -> None:
        if self._expected is not None and self._size < self._expected and self.has_content:
            raise RuntimeError(f"content-length announced {self._expected} bytes: only {self._size} were sent")

    def _note_end(self) -> None:
        self.is_finished = True
        self._session.undelivered.add(self.stream_id)

    # --- the end -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Its user is done with it; what is not finished by now is reset by the exchange."""
        self.is_closed = True
        self.wake()

    # --- what the peer does ------------------------------------------------------------------------------------------

    def on_writable(self) -> None:
        """There is room again."""
        if self._room is not None:
            self._room.set()

    def on_stopped(self, code: int) -> None:
        """The peer no longer reads."""
        self.stop_code = code
        self.wake()

    def wake(self) -> None:
        """Something ended: the sender looks again."""
        self.on_writable()
