"""Bytes and variable-length integers (RFC 9000 §16).

Two ways to the same encoding. `Buffer` is a cursor over a block of bytes of fixed capacity, with named reads and
writes; it is what applications and cold code use. `read_uint_var` and `encode_uint_var` work on plain `bytes` and
integer positions; they are what the per-packet path uses, where a method call per field would cost more than the field.

A variable-length integer spends the two highest bits of its first byte on its length: 1, 2, 4 or 8 bytes, so that 6,
14, 30 or 62 bits are left for the value. Writers here always choose the shortest form; readers accept every form,
because RFC 9000 demands the shortest form for frame types alone.

Reading past the end raises `BufferReadError`, writing past the capacity raises `BufferWriteError`, and neither moves
the cursor. Both are `ValueError`, so that whoever parses hostile bytes needs to catch one type.
"""

from typing import Final

UINT_VAR_MAX: Final = 0x3FFFFFFFFFFFFFFF
UINT_VAR_MAX_SIZE: Final = 8

_ONE_BYTE: Final = [bytes((value,)) for value in range(0x40)]


class BufferReadError(ValueError):
    """A read reached past the end of the data."""


class BufferWriteError(ValueError):
    """A write reached past the capacity of the buffer."""


def encode_uint_var(value: int) -> bytes:
    """The shortest variable-length encoding of `value` (RFC 9000 §16); ValueError when it exceeds 62 bits."""
    if value < 0x40:
        if value < 0:
            raise ValueError(_out_of_range(value))
        return _ONE_BYTE[value]
    if value < 0x4000:
        return (value | 0x4000).to_bytes(2, "big")
    if value < 0x40000000:
        return (value | 0x80000000).to_bytes(4, "big")
    if value <= UINT_VAR_MAX:
        return (value | 0xC000000000000000).to_bytes(8, "big")
    raise ValueError(_out_of_range(value))


def size_uint_var(value: int) -> int:
    """How many bytes `encode_uint_var(value)` takes; ValueError when `value` exceeds 62 bits."""
    if value < 0x40:
        if value < 0:
            raise ValueError(_out_of_range(value))
        return 1
    if value < 0x4000:
        return 2
    if value < 0x40000000:
        return 4
    if value <= UINT_VAR_MAX:
        return 8
    raise ValueError(_out_of_range(value))


def read_uint_var(data: bytes, position: int) -> tuple[int, int]:
    """The variable-length integer at `position` and the position behind it; BufferReadError past the end of `data`."""
    try:
        first = data[position]
        if first < 0x40:
            return first, position + 1
        if first < 0x80:
            return (first & 0x3F) << 8 | data[position + 1], position + 2
    except IndexError:
        raise BufferReadError("Read out of bounds") from None
    if first < 0xC0:
        end = position + 4
        value = int.from_bytes(data[position:end], "big") & 0x3FFFFFFF
    else:
        end = position + 8
        value = int.from_bytes(data[position:end], "big") & UINT_VAR_MAX
    if end > len(data):
        raise BufferReadError("Read out of bounds")
    return value, end


def _out_of_range(value: int) -> str:
    if value < 0:
        return f"A variable-length integer cannot be negative, got {value}"
    return "Integer is too big for a variable-length integer"


class Buffer:
    """A cursor over a block of bytes: either `capacity` bytes to fill, or a copy of `data` to read.

    Integers are in network byte order. `tell()` and `seek()` expose the cursor; a failed read or write leaves it in
    place.
    """

    _store: bytearray
    _position: int

    def __init__(self, capacity: int | None = 0, data: bytes | None = None) -> None:
        if data is not None:
            self._store = bytearray(data)
        else:
            size = capacity or 0
            if size < 0:
                raise ValueError(f"capacity must not be negative, got {size}")
            self._store = bytearray(size)
        self._position = 0

    @property
    def capacity(self) -> int:
        """The size of the block in bytes."""
        return len(self._store)

    @property
    def data(self) -> bytes:
        """The bytes from the start to the cursor: what has been written, or read, so far."""
        return bytes(self._store[: self._position])

    def data_slice(self, start: int, end: int) -> bytes:
        """The bytes from `start` to `end`, wherever the cursor is; BufferReadError outside the block."""
        if start < 0 or start > end or end > len(self._store):
            raise BufferReadError("Read out of bounds")
        return bytes(self._store[start:end])

    def eof(self) -> bool:
        """True when the cursor is at the end of the block."""
        return self._position == len(self._store)

    def seek(self, pos: int) -> None:
        """Move the cursor to `pos`; BufferReadError outside the block."""
        if pos < 0 or pos > len(self._store):
            raise BufferReadError("Seek out of bounds")
        self._position = pos

    def tell(self) -> int:
        """The position of the cursor."""
        return self._position

    def pull_bytes(self, length: int) -> bytes:
        """Read `length` bytes."""
        start = self._position
        end = start + length
        if length < 0 or end > len(self._store):
            raise BufferReadError("Read out of bounds")
        self._position = end
        return bytes(self._store[start:end])

    def pull_uint8(self) -> int:
        """Read an 8-bit unsigned integer."""
        return self._pull_uint(1)

    def pull_uint16(self) -> int:
        """Read a 16-bit unsigned integer."""
        return self._pull_uint(2)

    def pull_uint32(self) -> int:
        """Read a 32-bit unsigned integer."""
        return self._pull_uint(4)

    def pull_uint64(self) -> int:
        """Read a 64-bit unsigned integer."""
        return self._pull_uint(8)

    def pull_uint_var(self) -> int:
        """Read a variable-length integer (RFC 9000 §16)."""
        start = self._position
        if start >= len(self._store):
            raise BufferReadError("Read out of bounds")
        first = self._store[start]
        if first < 0x40:
            self._position = start + 1
            return first
        size = 1 << (first >> 6)
        return self._pull_uint(size) & ((1 << (8 * size - 2)) - 1)

    def push_bytes(self, value: bytes) -> None:
        """Write `value`."""
        start = self._position
        end = start + len(value)
        if end > len(self._store):
            raise BufferWriteError("Write out of bounds")
        self._store[start:end] = value
        self._position = end

    def push_uint8(self, value: int) -> None:
        """Write an 8-bit unsigned integer."""
        self._push_uint(value, 1)

    def push_uint16(self, value: int) -> None:
        """Write a 16-bit unsigned integer."""
        self._push_uint(value, 2)

    def push_uint32(self, v: int) -> None:
        """Write a 32-bit unsigned integer."""
        self._push_uint(v, 4)

    def push_uint64(self, v: int) -> None:
        """Write a 64-bit unsigned integer."""
        self._push_uint(v, 8)

    def push_uint_var(self, value: int) -> None:
        """Write the shortest variable-length encoding of `value` (RFC 9000 §16); ValueError when it exceeds 62 bits."""
        self.push_bytes(encode_uint_var(value))

    def _pull_uint(self, size: int) -> int:
        start = self._position
        end = start + size
        if end > len(self._store):
            raise BufferReadError("Read out of bounds")
        self._position = end
        return int.from_bytes(self._store[start:end], "big")

    def _push_uint(self, value: int, size: int) -> None:
        if value < 0 or value >> (8 * size):
            raise ValueError(f"{value} does not fit an unsigned integer of {8 * size} bits")
        self.push_bytes(value.to_bytes(size, "big"))
