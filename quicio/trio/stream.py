"""Streams, as trio knows them: `Stream` is a `trio.abc.HalfCloseableStream`.

They stand on the same halves as the anyio face's streams (`quicio.anyio.halves`) and end by the same rules, those of
`StreamFace`: left normally, FIN; left by an exception or a cancellation, reset. What differs is what trio asks of a stream:

- `receive_some` returns `b""` at the FIN, again at every call after it; a stream that was cut off raises.
- `wait_send_all_might_not_block` shares the guard of `send_all`: two tasks that send, or wait to, are a mistake.
- `send_all` that was cancelled may have sent a part. The stream is then good for `aclose()`, which resets it, and for
  nothing else; `send_some` is the primitive that is all or nothing.
- `trio.aclose_forcefully()` is an `aclose()` that is cancelled: the stream is reset, so the peer never takes it for whole.
"""

from __future__ import annotations

from operator import index

import anyio
import trio
from anyio import TypedAttributeProvider

from quicio.anyio.halves import Data
from quicio.anyio.stream import ReceiveFace, SendFace
from quicio.trio.errors import translated

__all__ = ["ReceiveStream", "SendStream", "Stream"]

MAX_BYTES = 65536  # what receive_some() returns at most when it is not told


class SendStream(SendFace, trio.abc.SendStream, TypedAttributeProvider):
    """The sending half of a stream. The peer sees it with the first byte, or with `announce()`."""

    async def send_all(self, data: Data) -> None:
        """Send all of `data`, waiting while `send_buffer` is full. Only `bytes` is kept by reference.

        When it is cancelled, how much was sent is unknown: the stream can then only be closed, which resets it, or reset.

        Raises `StreamStopped` when the peer no longer reads, `ConnectionLost`, `trio.ClosedResourceError` after the FIN or
        a close on this side, `trio.BusyResourceError` when another task is sending.
        """
        with translated:
            await self._sending.send(data)

    async def send_some(self, data: Data) -> int:
        """Send at least one byte of `data` and return how many were taken; when it is cancelled, none were.

        Raises as `send_all` does.
        """
        with translated:
            return await self._sending.send_some(data)

    def send_nowait(self, data: Data) -> int:
        """Send as much of `data` as there is room for and return its size. Raises `trio.WouldBlock` when there is none."""
        with translated:
            return self._sending.send_nowait(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until there is room for at least one byte. Raises as `send_all` does."""
        with translated:
            await self._sending.wait_sendable()

    async def send_eof(self) -> None:
        """Send the FIN: nothing follows (RFC 9000 §3.1). Idempotent."""
        with translated:
            await self._sending.send_eof()

    def announce(self) -> None:
        """Make the stream visible to the peer before anything is sent on it (an empty STREAM frame)."""
        with translated:
            self._sending.announce()
        self._settle()

    async def wait_delivered(self) -> None:
        """Wait until the peer has acknowledged all data and the FIN.

        Raises `StreamStopped`, `ConnectionLost`, or `trio.ClosedResourceError` when the stream was reset on this side.
        """
        with translated:
            await self._sending.wait_delivered()

    async def wait_stopped(self) -> int | None:
        """Wait until the peer asks not to send any more and return its code; None when all was delivered first."""
        with translated:
            return await self._sending.wait_stopped()


class ReceiveStream(ReceiveFace, trio.abc.ReceiveStream, TypedAttributeProvider):
    """The receiving half of a stream."""

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """The next bytes: at least one, at most `max_bytes`; `b""` after the FIN. What is taken, the peer may send again.

        On an own stream that the peer cannot know of yet, it is announced first.

        Raises `StreamReset`, `ConnectionLost` once all that came before the loss was read, `trio.ClosedResourceError`
        after a close on this side, `trio.BusyResourceError` when another task receives.
        """
        with translated:
            try:
                return await self._receiving.receive(_size(max_bytes))
            except anyio.EndOfStream:
                return b""

    def receive_nowait(self, max_bytes: int | None = None) -> bytes:
        """As `receive_some`, but raises `trio.WouldBlock` when nothing is there."""
        with translated:
            try:
                return self._receiving.receive_nowait(_size(max_bytes))
            except anyio.EndOfStream:
                return b""


class Stream(SendStream, ReceiveStream, trio.abc.HalfCloseableStream):
    """A bidirectional stream."""


def _size(max_bytes: int | None) -> int:
    return MAX_BYTES if max_bytes is None else index(max_bytes)
