"""The task: the small protocol that quicio and its peers speak in the interop tests.

A client opens a bidirectional stream and sends one line, a verb and maybe a number, then maybe a body. The server does what
the verb says and answers on the same stream:

    up              the SHA-256 of the body, in hexadecimal
    down SIZE       `content(SIZE)`
    echo            the body
    reset CODE      RESET_STREAM with the code
    stop CODE       STOP_SENDING with the code, and nothing else
    close CODE      CONNECTION_CLOSE with the application's code and the phrase "as asked"
    key-update      "done", under new keys
    change-id       "done", from another connection ID

Datagrams are echoed. HTTP/3 is spoken when ALPN says so: `GET /down/SIZE` answers `content(SIZE)`, `POST /up` the SHA-256 of
the body. The peers run in processes of their own, so this file imports nothing but the standard library.
"""

from __future__ import annotations

import hashlib
from typing import Final

ALPN: Final = "quicio-interop"
MEBIBYTE: Final = 1024 * 1024
CLOSE_PHRASE: Final = "as asked"
DONE: Final = b"done"


def content(size: int) -> bytes:
    """`size` bytes that both sides know and that are the same at no two places."""
    return hashlib.shake_128(b"quicio").digest(size)


def digest(data: bytes) -> str:
    """The SHA-256 of `data`, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def command(verb: str, number: int | None = None) -> bytes:
    """The line that opens a stream."""
    return f"{verb}\n".encode() if number is None else f"{verb} {number}\n".encode()


def parse_command(line: bytes) -> tuple[str, int]:
    """The verb and the number, 0 if there is none."""
    verb, _, number = line.decode().partition(" ")
    return verb, int(number or 0)


def hexadecimal(text: str) -> list[int]:
    """QUIC versions from a command line: "6b3343cf,1"."""
    return [int(version, 16) for version in text.split(",")]


def frames_body(stream: bytes) -> bytes:
    """What the DATA frames of a stream of HTTP/3 hold (RFC 9114 §7.2.1)."""
    body = bytearray()
    position = 0
    while position < len(stream):
        kind, position = _varint(stream, position)
        size, position = _varint(stream, position)
        if position + size > len(stream):
            raise ValueError("a frame is cut short")
        body += stream[position : position + size] if kind == 0 else b""
        position += size
    return bytes(body)


def _varint(data: bytes, position: int) -> tuple[int, int]:
    size = 1 << (data[position] >> 6)
    return int.from_bytes(data[position : position + size], "big") & ((1 << (8 * size - 2)) - 1), position + size
