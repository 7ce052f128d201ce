"""TLS messages off the wire, for the taps of the interop tests: what a ClientHello offers and a server chose (RFC 8446 §4).

A second parser, as simple as it can be: what it is given was exchanged by two implementations that understood each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

CLIENT_HELLO: Final = 1
SERVER_HELLO: Final = 2
NEW_SESSION_TICKET: Final = 4
ENCRYPTED_EXTENSIONS: Final = 8
CERTIFICATE: Final = 11

SUPPORTED_GROUPS: Final = 10
PRE_SHARED_KEY: Final = 41
EARLY_DATA: Final = 42
KEY_SHARE: Final = 51

X25519: Final = 0x001D
SECP256R1: Final = 0x0017
SECP384R1: Final = 0x0018
X25519MLKEM768: Final = 0x11EC

RETRY_RANDOM: Final = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")


class Pieces:
    """Data of a stream, or of one direction at one level: pieces in any order, messages as soon as they are whole."""

    def __init__(self) -> None:
        self._pieces: dict[int, bytes] = {}

    def add(self, offset: int, piece: bytes) -> None:
        """Take a piece; of two that begin at one place the longer one."""
        if len(piece) > len(self._pieces.get(offset, b"")):
            self._pieces[offset] = piece

    @property
    def begins(self) -> bool:
        """Whether the first piece is there."""
        return 0 in self._pieces

    def joined(self, later: Pieces) -> Pieces:
        """These and the pieces of a later part."""
        result = Pieces()
        result._pieces = self._pieces | later._pieces
        return result

    def data(self) -> bytes:
        """What is there from the beginning on without a gap."""
        data = bytearray()
        for offset, piece in sorted(self._pieces.items()):
            if offset > len(data):
                break
            data += piece[len(data) - offset :]
        return bytes(data)

    def messages(self) -> Iterator[tuple[int, bytes]]:
        """The type and body of each whole message from the beginning on."""
        data = self.data()
        position = 0
        while position + 4 <= len(data):
            end = position + 4 + int.from_bytes(data[position + 1 : position + 4], "big")
            if end > len(data):
                return
            yield data[position], data[position + 4 : end]
            position = end


def _vector(data: bytes, position: int, size: int) -> tuple[bytes, int]:
    start = position + size
    end = start + int.from_bytes(data[position:start], "big")
    return data[start:end], end


def _integers(data: bytes) -> list[int]:
    return [int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2)]


def read_extensions(data: bytes) -> dict[int, bytes]:
    """Extensions by type, of a vector without its length."""
    found: dict[int, bytes] = {}
    position = 0
    while position < len(data):
        kind = int.from_bytes(data[position : position + 2], "big")
        found[kind], position = _vector(data, position + 2, 2)
    return found


@dataclass
class ClientHello:
    """What a client offers."""

    random: bytes
    cipher_suites: list[int]
    extensions: dict[int, bytes]
    groups: list[int] = field(default_factory=list)
    share_groups: list[int] = field(default_factory=list)

    @classmethod
    def read(cls, body: bytes) -> ClientHello:
        _, position = _vector(body, 34, 1)
        suites, position = _vector(body, position, 2)
        _, position = _vector(body, position, 1)
        hello = cls(body[2:34], _integers(suites), read_extensions(_vector(body, position, 2)[0]))
        hello.groups = _integers(hello.extensions.get(SUPPORTED_GROUPS, b"\0\0")[2:])
        shares = hello.extensions.get(KEY_SHARE, b"\0\0")[2:]
        position = 0
        while position < len(shares):
            hello.share_groups.append(int.from_bytes(shares[position : position + 2], "big"))
            _, position = _vector(shares, position + 2, 2)
        return hello


@dataclass
class ServerHello:
    """What a server chose. In a HelloRetryRequest the group is the one that it asks for."""

    is_retry_request: bool
    cipher_suite: int
    group: int | None
    is_resumption: bool

    @classmethod
    def read(cls, body: bytes) -> ServerHello:
        _, position = _vector(body, 34, 1)
        extensions = read_extensions(_vector(body, position + 3, 2)[0])
        share = extensions.get(KEY_SHARE)
        group = None if share is None else int.from_bytes(share[:2], "big")
        suite = int.from_bytes(body[position : position + 2], "big")
        return cls(body[2:34] == RETRY_RANDOM, suite, group, PRE_SHARED_KEY in extensions)
