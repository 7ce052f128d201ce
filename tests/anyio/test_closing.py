"""Close reasons become errors of the tree: a table."""

from __future__ import annotations

import pytest

from quicio.anyio.closing import connect_error, lost_error
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
from quicio.quic import lifecycle as life


def reason(code: int, *, is_application: bool = False, by_peer: bool = False) -> CloseReason:
    return CloseReason(code, is_application, by_peer, "because", None)


@pytest.mark.parametrize(
    ("close", "cause", "expected"),
    [
        (reason(0), life.CAUSE_HANDSHAKE_TIMEOUT, HandshakeTimeout),
        (reason(1), life.CAUSE_IDLE_TIMEOUT, HandshakeTimeout),
        (reason(0x100 + 48), life.CAUSE_VIOLATION, CertificateError),  # unknown_ca, found here
        (reason(0x100 + 42, by_peer=True), life.CAUSE_PEER, CertificateError),  # bad_certificate, found there
        (reason(0x100 + 116, by_peer=True), life.CAUSE_PEER, CertificateError),  # certificate_required
        (reason(0x100 + 120, by_peer=True), life.CAUSE_PEER, ALPNError),
        (reason(0x100 + 40, by_peer=True), life.CAUSE_PEER, ConnectError),  # handshake_failure
        (reason(0x100 + 120, is_application=True, by_peer=True), life.CAUSE_PEER, ConnectError),  # no alert at all
        (reason(2, by_peer=True), life.CAUSE_PEER, ConnectError),  # CONNECTION_REFUSED
        (reason(0x11), life.CAUSE_VERSION, ConnectError),
    ],
)
def test_while_connecting(close: CloseReason, cause: int, expected: type[ConnectError]) -> None:
    error = connect_error(close, cause, is_heard=False)
    assert type(error) is expected
    assert error.reason is close
    assert error.code == close.code
    assert error.errno is None
    assert connect_error(close, cause, is_heard=False) is not error


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (life.CAUSE_PEER, ClosedByPeer),
        (life.CAUSE_IDLE_TIMEOUT, IdleTimeout),
        (life.CAUSE_STATELESS_RESET, StatelessReset),
        (life.CAUSE_VIOLATION, ConnectionLost),
        (life.CAUSE_NONE, ConnectionLost),
    ],
)
def test_afterwards(cause: int, expected: type[ConnectionLost]) -> None:
    close = reason(12, is_application=True, by_peer=cause == life.CAUSE_PEER)
    error = lost_error(close, cause)
    assert type(error) is expected
    assert error.reason is close
    assert error.errno is None  # 12 would be ENOMEM: servers would take it for overload and try again for ever
