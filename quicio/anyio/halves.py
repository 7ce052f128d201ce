"""The two halves of a stream, as tasks use them: who waits for what, and which error they get.

The core keeps the protocol's states (RFC 9000 §3.1, §3.2), reassembly and flow control. A half adds what one side's user has
done with it, and the tasks that wait. Faces (`Stream`, `SendStream`, `ReceiveStream`) are thin objects over halves; halves
never refer to a face, so a dropped face is collected.

Rules:
- One task sends and one receives; a second raises `BusyResourceError`. Waiting for delivery or for a stop is shared.
- What has an effect on the stream happens without a yield after the last check, so a cancelled call is as if it was not
  made. The exception is `send`: when it is cancelled with part of its data queued, the half can only be closed or reset,
  and closing it resets it, because a FIN would make the truncated data look whole.
- What ends a half is queued only: who ends it settles the driver once, when all is queued.
- `receive` grants credit for what it hands out, so a peer can have no more in memory here than the windows allow. Small
  pieces are merged: each object costs memory that flow control does not see.
- Bytes and a FIN that came before the connection was lost stay readable (rule R5); a reset drops them.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

import anyio

from quicio.anyio.waiting import Waiter, wake
from quicio.errors import EarlyDataRejected, QuicError, StreamReset, StreamStopped

if TYPE_CHECKING:
    from quicio.anyio.stream_table import StreamTable

__all__ = ["Data", "ReceivingHalf", "SendingHalf"]

Data = bytes | bytearray | memoryview

REJECTED: Final = -1  # in the place of a peer's code: the server refused the early data that this stream was part of
MERGE_BELOW: Final = 4096  # bytes: received pieces are joined up to this size


def rejected(stream_id: int) -> EarlyDataRejected:
    """A new error for a stream that was opened before the server refused early data."""
    return EarlyDataRejected(
        f"the server refused early data, and stream {stream_id} could not be sent again: it speaks another protocol now"
    )


class SendingHalf:
    """What this side sends on one stream."""

    __slots__ = (
        "_delivered",
        "_is_busy",
        "_is_sending",
        "_link",
        "_room",
        "_stopped",
        "_table",
        "_waiting",
        "had_data",
        "is_announced",
        "is_closed",
        "is_delivered",
        "is_finished",
        "is_interrupted",
        "is_told",
        "stop_code",
        "stream_id",
    )

    def __init__(self, table: StreamTable, stream_id: int, *, is_announced: bool) -> None:
        self._table = table
        self._link = table.link
        self.stream_id: int = stream_id
        self.is_announced: bool = is_announced  # the peer can know of the stream
        self.is_closed: bool = False  # by the user: closed or reset
        self.is_finished: bool = False  # a FIN was queued
        self.is_delivered: bool = False  # all of it, FIN included, was acknowledged
        self.is_interrupted: bool = False  # a send was cancelled with part of its data queued
        self.is_told: bool = False  # an error has told the user that the connection was lost
        self.had_data: bool = False  # when it was finished: some was not acknowledged
        self.stop_code: int | None = None  # the peer no longer reads
        self._is_sending = False
        self._waiting = self._link.driver.waiting
        self._is_busy = False  # a task sends
        self._room: Waiter | None = None
        self._delivered: anyio.Event | None = None
        self._stopped: anyio.Event | None = None

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do for the user."""
        return self.is_closed or self.is_finished or self.stop_code is not None or self._link.reason is not None

    def has_unacknowledged_data(self) -> bool:
        """Whether a half that was not finished has data that the peer did not acknowledge, and its user does not know."""
        if self.stop_code is not None or self.is_closed or not self.is_announced or self.is_told:
            return False
        return self._link.quic.send_room(self.stream_id) < self._table.send_buffer

    def _enter(self) -> None:
        """Begin to send; a second task is a mistake."""
        if self._is_busy:
            raise anyio.BusyResourceError("sending on")
        self._is_busy = True

    def check(self) -> None:
        """Raise when nothing can be sent."""
        link = self._link
        if self.is_closed or link.is_closed:
            raise anyio.ClosedResourceError
        if self.stop_code is not None:
            raise self._stop_error()
        self._check_link()
        if self.is_finished or self.is_interrupted:
            raise anyio.ClosedResourceError

    def _check_link(self) -> None:
        if self._link.reason is not None:
            self.is_told = True
        self._link.check()

    def _stop_error(self) -> QuicError:
        if self.stop_code == REJECTED:
            return rejected(self.stream_id)
        return StreamStopped(
            f"the peer stopped reading stream {self.stream_id} with error code {self.stop_code}", code=self.stop_code
        )

    # --- sending -----------------------------------------------------------------------------------------------------

    async def send(self, item: Data) -> None:
        """Send all of `item`, waiting for room. The one yield is before anything is queued."""
        self._enter()
        try:
            await self._waiting.checkpoint()
            self.check()
            link = self._link
            data = item if type(item) is bytes else bytes(item)
            size = len(data)
            position = 0
            self._is_sending = True
            try:
                while position < size:
                    room = link.quic.send_room(self.stream_id)
                    if room <= 0:
                        await self._wait_for_room()
                        continue
                    stop = position + room
                    piece = data if position == 0 and stop >= size else data[position:stop]
                    self._queue(piece)
                    position += len(piece)
            except anyio.get_cancelled_exc_class():
                self.is_interrupted = position > 0
                raise
            finally:
                self._is_sending = False
                link.driver.settle_soon()
        finally:
            self._is_busy = False

    async def send_some(self, item: Data) -> int:
        """Send at least one byte of `item` and return how many were taken. Cancelled: none were."""
        self._enter()
        try:
            await self._waiting.checkpoint()
            self.check()
            if len(item) == 0:
                return 0
            await self._until_room()
            return self._send_what_fits(item)
        finally:
            self._is_busy = False

    async def wait_sendable(self) -> None:
        """Wait until at least one byte can be sent."""
        self._enter()
        try:
            await self._waiting.checkpoint()
            self.check()
            await self._until_room()
        finally:
            self._is_busy = False

    def send_nowait(self, item: Data) -> int:
        """Send what there is room for and return its size; `WouldBlock` when there is none."""
        self._enter()
        self._is_busy = False
        self.check()
        if len(item) == 0:
            return 0
        if self._link.quic.send_room(self.stream_id) <= 0:
            raise anyio.WouldBlock
        return self._send_what_fits(item)

    def _send_what_fits(self, item: Data) -> int:
        room = self._link.quic.send_room(self.stream_id)
        piece = item if type(item) is bytes and len(item) <= room else bytes(memoryview(item).cast("B")[:room])
        self._queue(piece)
        self._link.driver.settle()
        return len(piece)

    def _queue(self, piece: bytes, is_end: bool = False) -> None:
        self.is_announced = True
        self._link.quic.send_stream_data(self.stream_id, piece, is_end)
        self._link.touch()

    async def _until_room(self) -> None:
        while self._link.quic.send_room(self.stream_id) <= 0:
            await self._wait_for_room()

    async def _wait_for_room(self) -> None:
        self._link.driver.settle()
        self.check()  # the turn may have ended the connection, and woken those who waited then
        if self._link.quic.send_room(self.stream_id) <= 0:
            self._room = self._waiting.waiter()
            try:
                await self._room
            finally:
                self._room = None
        self.check()

    async def send_eof(self) -> None:
        """Send the FIN; again: nothing."""
        self._enter()
        try:
            await self._waiting.checkpoint()
            if not self.is_finished or self.is_closed:
                self.check()
                self.finish()
                self._link.driver.settle_soon()
        finally:
            self._is_busy = False

    def announce(self) -> None:
        """Let the peer see a stream on which nothing was sent yet."""
        if not self.is_announced:
            self.check()
            self.is_announced = True
            self._link.quic.announce_stream(self.stream_id)
            self._link.touch()

    # --- ending ------------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Queue the FIN."""
        self.had_data = self.has_unacknowledged_data()
        self.is_finished = True
        self._table.undelivered[self.stream_id] = self
        self._queue(b"", True)

    def close(self) -> None:
        """The graceful end: FIN, or a reset when what was sent is not whole."""
        if self.is_closed:
            return
        is_whole = not self.is_interrupted and not self._is_sending
        if not self.is_done:
            if not is_whole:
                self.reset(self._table.codes.cancelled)
                return
            self.finish()
        self._end()

    def reset(self, code: int) -> None:
        """Abandon what was not delivered (RFC 9000 §19.4)."""
        if self.is_closed and (not self.is_finished or not self._table.is_held(self.stream_id)):
            return
        if not self.is_delivered and self.stop_code is None and self._link.reason is None:
            self._table.settle_delivery(self.stream_id)
            self._link.quic.reset_stream(self.stream_id, code)
            self._link.touch()
        self.is_finished = False
        self._end()

    def _end(self) -> None:
        self.is_closed = True
        self.wake()
        self._table.release(self.stream_id)

    # --- what the peer does ------------------------------------------------------------------------------------------

    def on_writable(self) -> None:
        """There is room again."""
        wake(self._room)

    def on_stopped(self, code: int) -> None:
        """STOP_SENDING arrived; the core answers with a reset (RFC 9000 §3.5)."""
        if not self.is_delivered:
            self.stop_code = code
            self.wake()

    def on_delivered(self) -> None:
        """All of it was acknowledged, or its reset was."""
        self.is_delivered = self.is_finished and self.stop_code is None
        self.wake()

    def wake(self) -> None:
        """Something ended: all that wait look again."""
        wake(self._room)
        for event in (self._delivered, self._stopped):
            if event is not None:
                event.set()

    async def wait_delivered(self) -> None:
        """Wait until all data and the FIN are acknowledged."""
        await self._waiting.checkpoint()
        while not self.is_delivered:
            if self.stop_code is not None:
                raise self._stop_error()
            if self.is_closed and not self.is_finished:
                raise anyio.ClosedResourceError
            self._check_link()
            if self._delivered is None or self._delivered.is_set():
                self._delivered = anyio.Event()
            await self._delivered.wait()

    async def wait_stopped(self) -> int | None:
        """Wait until the peer stops reading and return its code; None when all was delivered before."""
        await self._waiting.checkpoint()
        while self.stop_code is None:
            if self.is_delivered:
                return None
            if self.is_closed and not self.is_finished:
                raise anyio.ClosedResourceError
            self._check_link()
            if self._stopped is None or self._stopped.is_set():
                self._stopped = anyio.Event()
            await self._stopped.wait()
        if self.stop_code == REJECTED:
            raise self._stop_error()
        return self.stop_code


class ReceivingHalf:
    """What this side receives on one stream."""

    __slots__ = (
        "_chunks",
        "_is_busy",
        "_link",
        "_offset",
        "_ready",
        "_sending",
        "_table",
        "_waiting",
        "is_closed",
        "is_early",
        "is_finished",
        "reset_code",
        "stream_id",
    )

    def __init__(self, table: StreamTable, stream_id: int, sending: SendingHalf | None) -> None:
        self._table = table
        self._link = table.link
        self._sending = sending
        self.stream_id: int = stream_id
        self.is_closed: bool = False  # by the user: closed or stopped
        self.is_finished: bool = False  # the FIN is here, behind the chunks
        self.is_early: bool = False  # some of it came before the handshake was complete: it may be replayed
        self.reset_code: int | None = None
        self._chunks: deque[bytes] = deque()
        self._offset = 0  # of the first chunk: what was handed out of it
        self._waiting = self._link.driver.waiting
        self._is_busy = False  # a task receives
        self._ready: Waiter | None = None

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do for the user: what is unread counts."""
        return (
            self.is_closed
            or self.reset_code is not None
            or (self.is_finished and not self._chunks)
            or self._link.reason is not None
        )

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """The next bytes, at least one and at most `max_bytes`."""
        if max_bytes < 1:
            raise ValueError("max_bytes must be at least 1")
        self._enter()
        try:
            if self._chunks or self._is_over():
                await self._waiting.checkpoint()
            else:
                await self._wait()
            while (data := self._take(max_bytes)) is None:
                await self._wait()
            return data
        finally:
            self._is_busy = False

    def _enter(self) -> None:
        """Begin to receive; a second task is a mistake."""
        if self._is_busy:
            raise anyio.BusyResourceError("receiving from")
        self._is_busy = True

    def _is_over(self) -> bool:
        """Whether nothing can come any more."""
        return self.is_finished or self.is_closed or self.reset_code is not None or self._link.is_over

    async def _wait(self) -> None:
        """Wait until something comes or ends, which is a checkpoint; the peer has to know of the stream for that."""
        sending = self._sending
        if sending is not None and not sending.is_announced and not sending.is_done:
            await self._waiting.checkpoint()
            if not sending.is_done:  # another task may have ended that half meanwhile
                sending.announce()
                self._link.driver.settle()
            if self._chunks or self._is_over():
                return
        self._ready = self._waiting.waiter()
        try:
            await self._ready
        finally:
            self._ready = None

    def receive_nowait(self, max_bytes: int = 65536) -> bytes:
        """As `receive`, but `WouldBlock` when nothing is there."""
        if max_bytes < 1:
            raise ValueError("max_bytes must be at least 1")
        self._enter()
        self._is_busy = False
        data = self._take(max_bytes)
        if data is None:
            raise anyio.WouldBlock
        return data

    def _take(self, max_bytes: int) -> bytes | None:
        link = self._link
        if self.is_closed or link.is_closed:
            raise anyio.ClosedResourceError
        if self.reset_code is not None:
            if self.reset_code == REJECTED:
                raise rejected(self.stream_id)
            raise StreamReset(
                f"the peer reset stream {self.stream_id} with error code {self.reset_code}", code=self.reset_code
            )
        if self._chunks:
            data = self._pop(max_bytes)
            if link.reason is None:
                self._table.grant(self.stream_id, len(data))
            return data
        if self.is_finished:
            raise anyio.EndOfStream
        link.check()
        return None

    def _pop(self, max_bytes: int) -> bytes:
        chunks = self._chunks
        head = chunks[0]
        offset = self._offset
        size = len(head) - offset
        if size > max_bytes:
            self._offset = offset + max_bytes
            return head[offset : offset + max_bytes]
        if offset:
            head = head[offset:]
            self._offset = 0
        chunks.popleft()
        if not chunks or size + len(chunks[0]) > max_bytes:
            return head
        pieces = [head]
        while chunks and size + len(chunks[0]) <= max_bytes:
            piece = chunks.popleft()
            pieces.append(piece)
            size += len(piece)
        return b"".join(pieces)

    # --- ending ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """The graceful end: the peer is told to stop when something is unread or may still come."""
        self.stop(self._table.codes.no_error)

    def stop(self, code: int) -> None:
        """Read no more: unread data is dropped, and the peer is asked to stop (RFC 9000 §19.5)."""
        if self.is_closed:
            return
        if self.reset_code is None and self._link.reason is None:
            if not self.is_finished:
                self._link.quic.stop_stream(self.stream_id, code)
                self._link.touch()
            elif self._chunks:
                self._table.grant(self.stream_id, sum(map(len, self._chunks)) - self._offset)
        self._drop()
        self.is_closed = True
        self.wake()
        self._table.release(self.stream_id)

    def _drop(self) -> None:
        self._chunks.clear()
        self._offset = 0

    # --- what the peer does ------------------------------------------------------------------------------------------

    def on_data(self, data: bytes, is_end: bool) -> None:
        """In-order data arrived, or the FIN."""
        if self.is_closed:
            return
        chunks = self._chunks
        if self._link.handshake is None:
            self.is_early = True
        if data:
            if len(chunks) > 1 and len(chunks[-1]) + len(data) <= MERGE_BELOW:
                chunks[-1] += data
            else:
                chunks.append(data)
        if is_end:
            self.is_finished = True
        self.wake()

    def on_reset(self, code: int) -> None:
        """RESET_STREAM arrived: what was not read is gone (RFC 9000 §3.2)."""
        if not self.is_closed:
            self.reset_code = code
            self._drop()
            self.wake()

    def wake(self) -> None:
        """Something came or ended: the reader looks again."""
        wake(self._ready)
