"""What `H3Connection.handle_event()` returns.

The first group of events is for every application. The second tells of things that applications may ignore safely: code
that dispatches on the classes it knows needs no change when one of them comes along.
"""

from __future__ import annotations

from dataclasses import dataclass

Headers = list[tuple[bytes, bytes]]


class H3Event:
    """Base class of all events of HTTP/3."""

    __slots__ = ()


@dataclass(slots=True)
class DataReceived(H3Event):
    """A part of a message's content.

    `stream_ended` says that the message is complete. `push_id` is None unless the message is a pushed response.
    """

    data: bytes
    stream_id: int
    stream_ended: bool
    push_id: int | None = None


@dataclass(slots=True)
class DatagramReceived(H3Event):
    """An HTTP datagram of the request on `stream_id` (RFC 9297 §2.1)."""

    data: bytes
    stream_id: int


@dataclass(slots=True)
class HeadersReceived(H3Event):
    """The header section of a message, of an interim response, or a trailer section (RFC 9114 §4.1).

    `stream_ended` says that the message is complete. `push_id` is None unless the message is a pushed response.
    """

    headers: Headers
    stream_id: int
    stream_ended: bool
    push_id: int | None = None


@dataclass(slots=True)
class PushPromiseReceived(H3Event):
    """The server will push the response to the request `headers`; the request on `stream_id` led to it."""

    headers: Headers
    push_id: int
    stream_id: int


@dataclass(slots=True)
class WebTransportStreamDataReceived(H3Event):
    """Data on a stream of the WebTransport session `session_id`."""

    data: bytes
    stream_id: int
    stream_ended: bool
    session_id: int


# --- events that may be ignored ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class StreamFailed(H3Event):
    """The message on `stream_id` broke a rule and will never be complete: its stream has been aborted (RFC 9114 §4.1.2).

    `error_code` is what the peer was told, `reason` says which rule. The connection goes on.
    """

    stream_id: int
    error_code: int
    reason: str
    push_id: int | None = None


@dataclass(slots=True)
class GoawayReceived(H3Event):
    """The peer is going to shut the connection down (RFC 9114 §5.2).

    To a client: requests on streams from `identifier` on will not be processed, and can be retried elsewhere.
    To a server: pushes from this push ID on will not be accepted.
    """

    identifier: int
