"""The errors that users catch: one tree, rooted in `QuicError`.

Each class is also the builtin or anyio error that generic code expects at its place: a failed connect is an
`anyio.ConnectionFailed` (an `OSError`), a lost connection or stream an `anyio.BrokenResourceError`. Error codes of QUIC never
become the `errno` of an `OSError`: generic servers read that as a fault of the operating system.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio

from quicio.quic.configuration import ErrorCodes
from quicio.quic.events import CloseReason

__all__ = [
    "ALPNError",
    "Address",
    "CertificateError",
    "CloseReason",
    "ClosedByPeer",
    "ConnectError",
    "ConnectionLost",
    "EarlyDataRejected",
    "ErrorCodes",
    "HandshakeTimeout",
    "IdleTimeout",
    "NotDelivered",
    "QuicError",
    "StatelessReset",
    "StreamReset",
    "StreamStopped",
]

Address = tuple[str, int]


class QuicError(Exception):
    """Base of all errors of quicio. `code` is the QUIC error code, `reason` the `CloseReason`, where there is one."""

    def __init__(self, message: str = "", *, code: int | None = None, reason: CloseReason | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.code: int | None = code if code is not None or reason is None else reason.code

    @property
    def frame_type(self) -> int | None:
        """The frame that caused a transport error, if any (RFC 9000 §19.19)."""
        return None if self.reason is None else self.reason.frame_type

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.__dict__.copy())


def _rebuild(kind: type[QuicError], message: str, state: dict[str, Any]) -> QuicError:
    error = kind(message)
    error.__dict__.update(state)
    return error


class ConnectError(QuicError, anyio.ConnectionFailed, ConnectionError):
    """No connection could be made. `attempts` holds each address that was tried, with its error."""

    def __init__(
        self,
        message: str = "",
        *,
        code: int | None = None,
        reason: CloseReason | None = None,
        attempts: Sequence[tuple[Address, Exception]] = (),
    ) -> None:
        super().__init__(message, code=code, reason=reason)
        self.attempts: tuple[tuple[Address, Exception], ...] = tuple(attempts)


class HandshakeTimeout(ConnectError):
    """The handshake did not finish in `QuicConfiguration.handshake_timeout` seconds."""


class CertificateError(ConnectError):
    """A certificate was refused: by this side, or by the peer with a TLS alert."""


class ALPNError(ConnectError):
    """The two sides have no application protocol in common (RFC 7301)."""


class ConnectionLost(QuicError, anyio.BrokenResourceError, ConnectionError):
    """The connection ended while, or before, it was used."""


class ClosedByPeer(ConnectionLost):
    """The peer closed the connection (CONNECTION_CLOSE)."""


class IdleTimeout(ConnectionLost):
    """Nothing was heard for the idle timeout (RFC 9000 §10.1). Not a `TimeoutError`: that is the user's own deadline."""


class StatelessReset(ConnectionLost):
    """The peer has lost the connection's state and said so (RFC 9000 §10.3)."""


class StreamReset(QuicError, anyio.BrokenResourceError):
    """The peer reset the stream; `code` is its application's error code. Raised on the receiving side."""


class StreamStopped(QuicError, anyio.BrokenResourceError):
    """The peer asked us to stop sending; `code` is its application's error code. Raised on the sending side."""


class EarlyDataRejected(QuicError, anyio.BrokenResourceError):
    """The server refused 0-RTT data that could not be sent again."""


class NotDelivered(QuicError, anyio.BrokenResourceError):
    """A connection was closed before the peer had acknowledged all that was sent."""
