"""The errors of the trio face: each is ours and trio's, and the seam at which they arise.

Below the face everything speaks anyio's vocabulary, which generic trio code does not know. `translated` is the one place
where it becomes trio's: every public call of the face runs inside it. anyio's own errors become trio's own; an error of
quicio's tree becomes its namesake here, which is that error and a `trio.BrokenResourceError` besides, with the same
message, code and reason. A failed connect stays what it is: `ConnectError` is an `OSError`, and that is what trio's own
`open_*` functions raise.

Rules:
- Exact types are translated, so an error that is trio's already passes as the same object, and so does all else:
  `trio.Cancelled` and what a user's handler raised among them.
- One error in, one error out: who waits gets an instance of its own (rule R2).
- No local name holds the new error while it is raised: its traceback would hold the frame, the frame the error, and
  what both refer to would wait for the garbage collector.
"""

from __future__ import annotations

from types import TracebackType
from typing import Final

import anyio
import trio

from quicio import errors as ours
from quicio.errors import ALPNError, CertificateError, ConnectError, HandshakeTimeout, QuicError

__all__ = [
    "ALPNError",
    "CertificateError",
    "ClosedByPeer",
    "ConnectError",
    "ConnectionLost",
    "EarlyDataRejected",
    "HandshakeTimeout",
    "IdleTimeout",
    "NotDelivered",
    "QuicError",
    "StatelessReset",
    "StreamReset",
    "StreamStopped",
    "translated",
]


class ConnectionLost(ours.ConnectionLost, trio.BrokenResourceError):
    """The connection ended while, or before, it was used."""


class ClosedByPeer(ours.ClosedByPeer, ConnectionLost):
    """The peer closed the connection (CONNECTION_CLOSE)."""


class IdleTimeout(ours.IdleTimeout, ConnectionLost):
    """Nothing was heard for the idle timeout (RFC 9000 §10.1). Not a `trio.TooSlowError`: that is the user's own deadline."""


class StatelessReset(ours.StatelessReset, ConnectionLost):
    """The peer has lost the connection's state and said so (RFC 9000 §10.3)."""


class StreamReset(ours.StreamReset, trio.BrokenResourceError):
    """The peer reset the stream; `code` is its application's error code. Raised on the receiving side."""


class StreamStopped(ours.StreamStopped, trio.BrokenResourceError):
    """The peer asked us to stop sending; `code` is its application's error code. Raised on the sending side."""


class EarlyDataRejected(ours.EarlyDataRejected, trio.BrokenResourceError):
    """The server refused 0-RTT data that could not be sent again."""


class NotDelivered(ours.NotDelivered, trio.BrokenResourceError):
    """A connection was closed before the peer had acknowledged all that was sent."""


NAMESAKES: Final[dict[type[BaseException], type[QuicError]]] = {
    ours.ConnectionLost: ConnectionLost,
    ours.ClosedByPeer: ClosedByPeer,
    ours.IdleTimeout: IdleTimeout,
    ours.StatelessReset: StatelessReset,
    ours.StreamReset: StreamReset,
    ours.StreamStopped: StreamStopped,
    ours.EarlyDataRejected: EarlyDataRejected,
    ours.NotDelivered: NotDelivered,
}

TRIOS_OWN: Final[dict[type[BaseException], type[Exception]]] = {
    anyio.BrokenResourceError: trio.BrokenResourceError,
    anyio.BusyResourceError: trio.BusyResourceError,
    anyio.ClosedResourceError: trio.ClosedResourceError,
    anyio.EndOfStream: trio.EndOfChannel,
    anyio.WouldBlock: trio.WouldBlock,
}


def namesake(error: QuicError) -> QuicError:
    """The error of this face that says what `error` says."""
    result = NAMESAKES[type(error)](error.message)
    result.__dict__.update(error.__dict__)
    return result


class _Translation:
    """The seam, as a context manager without state: one object serves all tasks."""

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            return
        if kind in NAMESAKES:
            assert isinstance(error, QuicError)
            raise namesake(error).with_traceback(traceback) from error.__cause__
        if kind in TRIOS_OWN:
            raise TRIOS_OWN[kind](*error.args).with_traceback(traceback) from error.__cause__


translated: Final = _Translation()
