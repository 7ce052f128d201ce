"""The two halves of a CRYPTO stream (RFC 9000 §7.5, §19.6): reliable, ordered bytes without flow control.

A sender keeps what it was given until it is acknowledged. A receiver hands out bytes in order and holds what came early,
in whatever pieces a ClientHello is cut into; since nothing limits a peer here but us, both the bytes and the number of
pieces that it holds are bounded (CRYPTO_BUFFER_EXCEEDED).
"""

from typing import Final

from quicio.quic.wire.constants import CRYPTO, CRYPTO_BUFFER_EXCEEDED, FRAME_ENCODING_ERROR, QuicConnectionError
from quicio.quic.wire.rangeset import RangeSet

MAX_CRYPTO_BUFFER: Final = 65536  # bytes ahead of what TLS has taken
MAX_CRYPTO_FRAGMENTS: Final = 128
MAX_CRYPTO_OFFSET: Final = 1 << 24  # a handshake, tickets included, never gets there


class CryptoSender:
    """Bytes to send: first time, again after a loss, until acknowledged."""

    __slots__ = ("_acked", "_data", "_pending")

    def __init__(self) -> None:
        self._data = bytearray()
        self._pending = RangeSet()
        self._acked = RangeSet()

    @property
    def has_pending(self) -> bool:
        """Whether something is to be sent."""
        return len(self._pending) > 0

    @property
    def is_acked(self) -> bool:
        """Whether there was something to send and the peer has acknowledged all of it."""
        acked = self._acked
        return len(acked) == 1 and acked.starts[0] == 0 and acked.stops[0] == len(self._data)

    def append(self, data: bytes) -> None:
        """More bytes to send."""
        start = len(self._data)
        self._data += data
        self._pending.add(start, len(self._data))

    def take(self, limit: int) -> tuple[int, bytes]:
        """The first bytes that are due, at most `limit`, with their offset. Call it only while `has_pending`."""
        start, stop = self._pending.first()
        stop = min(stop, start + limit)
        self._pending.subtract(start, stop)
        return start, bytes(self._data[start:stop])

    def on_acked(self, start: int, stop: int) -> None:
        """The peer has these bytes."""
        self._acked.add(start, stop)
        self._pending.subtract(start, stop)

    def offer_again(self, start: int, stop: int) -> None:
        """Send these bytes again, but for what was acknowledged meanwhile."""
        self._pending.add(start, stop)
        for index in range(len(self._acked.starts)):
            self._pending.subtract(self._acked.starts[index], self._acked.stops[index])

    def offer_all_again(self) -> None:
        """Send everything again: whoever received it has kept nothing."""
        if self._data:
            self._pending.add(0, len(self._data))


class CryptoReceiver:
    """Bytes received, in order once their predecessors have come."""

    __slots__ = ("_held", "_pieces", "_position")

    def __init__(self) -> None:
        self._position = 0
        self._pieces: dict[int, bytes] = {}  # by offset, all beyond `_position`
        self._held = 0

    @property
    def has_gap(self) -> bool:
        """Whether bytes wait for earlier ones."""
        return bool(self._pieces)

    def receive(self, offset: int, data: bytes) -> bytes:
        """Take a frame's bytes; return all that are now in order and were not handed out before."""
        end = offset + len(data)
        if end > MAX_CRYPTO_OFFSET:
            code = CRYPTO_BUFFER_EXCEEDED if end < 1 << 62 else FRAME_ENCODING_ERROR
            raise QuicConnectionError(code, CRYPTO, "CRYPTO offset is out of bounds")
        if end <= self._position:
            return b""
        if offset > self._position:
            self._hold(offset, data)
            return b""
        chunks = [data[self._position - offset :]]
        self._position = end
        while self._pieces:
            start = min(self._pieces)
            if start > self._position:
                break
            piece = self._pieces.pop(start)
            self._held -= len(piece)
            if start + len(piece) > self._position:
                chunks.append(piece[self._position - start :])
                self._position = start + len(piece)
        return b"".join(chunks)

    def _hold(self, offset: int, data: bytes) -> None:
        known = self._pieces.get(offset)
        held = self._held + len(data)
        if known is not None:
            if len(known) >= len(data):
                return
            held -= len(known)
        elif len(self._pieces) >= MAX_CRYPTO_FRAGMENTS:
            raise QuicConnectionError(CRYPTO_BUFFER_EXCEEDED, CRYPTO, "Too many pieces of CRYPTO data")
        if offset + len(data) - self._position > MAX_CRYPTO_BUFFER or held > MAX_CRYPTO_BUFFER:
            raise QuicConnectionError(CRYPTO_BUFFER_EXCEEDED, CRYPTO, "Too much CRYPTO data ahead of its predecessors")
        self._held = held
        self._pieces[offset] = data
