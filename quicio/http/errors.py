"""The errors that only HTTP knows; they stand beside those of `quicio.errors`.

What the peer or the network did is a `QuicError` and an `anyio.BrokenResourceError`, so that code which treats a lost
stream as lost needs no change. A body that is larger than the caller wants is neither: it is the caller's own decision.
"""

from __future__ import annotations

import anyio

from quicio.errors import QuicError

__all__ = ["ContentTooLarge", "MalformedMessage", "RequestRejected"]


class RequestRejected(QuicError, anyio.BrokenResourceError):
    """The server has not processed the request and will not: it can be made again on another connection.

    The server is shutting down (GOAWAY), or it said so with H3_REQUEST_REJECTED (RFC 9114 §4.1.1, §5.2).
    """


class MalformedMessage(QuicError, anyio.BrokenResourceError):
    """What the peer sent is no valid message; its stream was aborted with `code` (RFC 9114 §4.1.2)."""


class ContentTooLarge(Exception):
    """A body is larger than the limit given to `read()`. Leaving a server's handler, it becomes the status 413."""
