"""The presentation language of TLS (RFC 8446 §3): integers and vectors with a length in front.

`Reader` is the one place where bytes of a handshake are counted: it never reads past its end, and says `decode_error` where
it would have to. All that reads messages or extensions is written with it, so that no other error can come out of parsing.
"""

from __future__ import annotations

from quicio.tls.alerts import AlertDecodeError


def vector(length_size: int, data: bytes) -> bytes:
    """`data` after its length in `length_size` bytes. Raises `OverflowError` when it does not fit: ours, not a peer's."""
    return len(data).to_bytes(length_size, "big") + data


class Reader:
    """Reads fields from the front of `data`. Every method raises `AlertDecodeError` when there is not enough."""

    __slots__ = ("_data", "_position")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    @property
    def at_end(self) -> bool:
        """Whether all was read."""
        return self._position == len(self._data)

    def take(self, size: int) -> bytes:
        """The next `size` bytes."""
        end = self._position + size
        if end > len(self._data):
            raise AlertDecodeError("a field reaches past the end of its message")
        data = self._data[self._position : end]
        self._position = end
        return data

    def integer(self, size: int) -> int:
        """The next unsigned integer of `size` bytes."""
        return int.from_bytes(self.take(size), "big")

    def vector(self, length_size: int, *, minimum: int = 0, maximum: int | None = None) -> bytes:
        """The next vector, whose length takes `length_size` bytes and has to be within the bounds."""
        data = self.take(self.integer(length_size))
        if len(data) < minimum or (maximum is not None and len(data) > maximum):
            raise AlertDecodeError("a vector has a length that is not allowed")
        return data

    def integers(self, length_size: int) -> list[int]:
        """The next vector of two-byte integers, of which there has to be one at least."""
        data = self.vector(length_size, minimum=2)
        if len(data) % 2:
            raise AlertDecodeError("a list of two-byte values has an odd length")
        return [int.from_bytes(data[position : position + 2], "big") for position in range(0, len(data), 2)]

    def finish(self, what: str) -> None:
        """Check that nothing is left over; `what` names what was read."""
        if not self.at_end:
            raise AlertDecodeError(f"bytes are left over after the {what}")
