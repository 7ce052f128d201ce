"""What HTTP/3 knows of one QUIC stream (RFC 9114 §4.1, §6).

A message is one header section, content, and perhaps one trailer section; `HeadersState` counts the sections, once for
each direction. The frame that is being read is described by `frame_type` and `frame_size`, the bytes of it that are
still to come; `buffer` holds bytes that cannot be interpreted yet, which is never more than the start of a frame or one
field section.

A stream whose field section waits for the QPACK encoder stream is `blocked`: whatever arrives behind it is kept, in
order, in `held`. A stream that failed is `discarding`: its record lives on only so that what is still under way is not
taken for the start of a new message, until the peer's side of it ends.

`ended` says that the peer's FIN has arrived. The record is dropped once both directions are over (`is_ended`).
"""

from __future__ import annotations

from enum import IntEnum
from typing import Self

from quicio.h3.exceptions import MessageError


class HeadersState(IntEnum):
    """How far a message has come: no header section yet, header section done, trailer section done."""

    INITIAL = 0
    AFTER_HEADERS = 1
    AFTER_TRAILERS = 2


class StreamType(IntEnum):
    """Types of unidirectional streams (RFC 9114 §6.2, RFC 9204 §4.2, WebTransport)."""

    CONTROL = 0
    PUSH = 1
    QPACK_ENCODER = 2
    QPACK_DECODER = 3
    WEBTRANSPORT = 0x54


def stream_is_request_response(stream_id: int) -> bool:
    """True for streams that carry a request and its response: client-initiated and bidirectional (RFC 9114 §6.1)."""
    return stream_id & 3 == 0


class H3Stream:
    """The state of one stream. As a context manager it gives itself, for code written for either form of the lookup."""

    __slots__ = (
        "blocked",
        "blocked_push_id",
        "buffer",
        "content_length",
        "credits_itself",
        "discarding",
        "ended",
        "expected_content_length",
        "frame_size",
        "frame_type",
        "headers_recv_state",
        "headers_send_state",
        "held",
        "held_size",
        "is_connect",
        "is_head",
        "is_tunnel",
        "push_id",
        "sending_finished",
        "session_id",
        "stream_id",
        "stream_type",
        "uncredited",
    )

    def __init__(self, stream_id: int) -> None:
        self.stream_id: int = stream_id
        self.stream_type: int | None = None
        self.push_id: int | None = None
        self.session_id: int | None = None
        self.frame_type: int | None = None
        self.frame_size: int | None = None
        self.buffer: bytes = b""
        self.blocked: bool = False
        self.blocked_push_id: int | None = None
        self.held: list[bytes] = []
        self.held_size = 0
        self.uncredited: int = 0  # bytes that arrived and were neither given to the application nor consumed by us
        self.credits_itself: bool = False  # the transport grants the credit of this stream without being asked
        self.ended: bool = False
        self.discarding: bool = False
        self.sending_finished = False
        self.headers_recv_state: HeadersState = HeadersState.INITIAL
        self.headers_send_state: HeadersState = HeadersState.INITIAL
        self.expected_content_length: int | None = None
        self.content_length: int = 0
        self.is_head: bool = False  # the request is HEAD: its response has no content
        self.is_connect: bool = False  # the request is CONNECT: a 2xx response makes the stream a tunnel
        self.is_tunnel: bool = False  # RFC 9114 §4.4: only DATA is left

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def finish_sending(self) -> None:
        """Note that our direction is over: FIN was sent, or a reset."""
        self.sending_finished = True

    def is_ended(self) -> bool:
        """Whether both directions are over, so that the record can go."""
        return self.ended and self.sending_finished

    def is_untouched(self) -> bool:
        """Whether no message has been seen on the stream yet, in either direction."""
        return (
            self.headers_recv_state is HeadersState.INITIAL
            and self.headers_send_state is HeadersState.INITIAL
            and not self.sending_finished
        )

    def hold(self, data: bytes) -> None:
        """Keep what arrived behind a blocked field section."""
        self.held.append(data)
        self.held_size += len(data)

    def release(self) -> bytes:
        """Give back all that was held, in order, and forget it."""
        data = b"".join(self.held)
        self.held.clear()
        self.held_size = 0
        return data

    def add_content(self, size: int) -> None:
        """Count content; `MessageError` as soon as there is more than Content-Length announced (RFC 9114 §4.1.2)."""
        self.content_length += size
        if self.expected_content_length is not None and self.content_length > self.expected_content_length:
            raise MessageError("there is more content than content-length announced")

    def check_content_length(self) -> None:
        """At the end of a message: `MessageError` when there is less content than Content-Length announced."""
        if self.expected_content_length is not None and self.content_length != self.expected_content_length:
            raise MessageError("there is less content than content-length announced")
