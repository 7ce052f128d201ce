"""From the core's close reason to the error that users catch.

The core says why a connection ended by a `CloseReason` (what was on the wire) and a cause (what happened). Here, in one
place, they become one class of the error tree: while connecting a `ConnectError`, afterwards a `ConnectionLost`. Every
waiter gets an instance of its own, because a raised exception collects a traceback; the `CloseReason` is shared.
"""

from __future__ import annotations

from typing import Final

from quicio.errors import (
    ALPNError,
    CertificateError,
    ClosedByPeer,
    CloseReason,
    ConnectError,
    ConnectionLost,
    HandshakeTimeout,
    IdleTimeout,
    StatelessReset,
)
from quicio.quic.lifecycle import CAUSE_HANDSHAKE_TIMEOUT, CAUSE_IDLE_TIMEOUT, CAUSE_PEER, CAUSE_STATELESS_RESET
from quicio.quic.wire.constants import CRYPTO_ERROR

__all__ = ["connect_error", "lost_error"]

# TLS alerts (RFC 8446 §6.2) about certificates: bad, unsupported, revoked, expired, unknown, unknown CA, missing.
CERTIFICATE_ALERTS: Final = frozenset({42, 43, 44, 45, 46, 48, 113, 116})
NO_APPLICATION_PROTOCOL: Final = 120


def connect_error(reason: CloseReason, cause: int, *, is_heard: bool) -> ConnectError:
    """A new error for a connection that ended before its handshake was complete; `is_heard`: the peer had answered."""
    kind: type[ConnectError] = ConnectError
    message = f"the connection was {reason}" if reason.by_peer else (reason.reason or str(reason))
    if cause in (CAUSE_HANDSHAKE_TIMEOUT, CAUSE_IDLE_TIMEOUT):
        kind = HandshakeTimeout
        stage = (
            "the peer answered, but the handshake did not finish"
            if is_heard
            else "no answer came: nobody listens there, or a firewall drops UDP"
        )
        message = f"the handshake timed out (`handshake_timeout`); {stage}"
    elif not reason.is_application and reason.code & ~0xFF == CRYPTO_ERROR:
        alert = reason.code & 0xFF
        if alert in CERTIFICATE_ALERTS:
            kind = CertificateError
        elif alert == NO_APPLICATION_PROTOCOL:
            kind = ALPNError
    return kind(message, reason=reason)


def lost_error(reason: CloseReason, cause: int) -> ConnectionLost:
    """A new error for a connection that ended while it was used."""
    if cause == CAUSE_IDLE_TIMEOUT:
        return IdleTimeout("nothing was heard from the peer for the idle timeout", reason=reason)
    if cause == CAUSE_STATELESS_RESET:
        return StatelessReset("the peer has lost the connection's state", reason=reason)
    if cause == CAUSE_PEER:
        return ClosedByPeer(f"the connection was {reason}", reason=reason)
    return ConnectionLost(f"the connection was {reason}", reason=reason)
