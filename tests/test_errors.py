"""The errors that users catch: one tree, which generic code understands too."""

from __future__ import annotations

import copy
import pickle

import anyio
import pytest

from quicio import errors
from quicio.errors import (
    CertificateError,
    ClosedByPeer,
    CloseReason,
    ConnectError,
    ConnectionLost,
    HandshakeTimeout,
    IdleTimeout,
    QuicError,
    StreamReset,
)

REASON = CloseReason(7, True, True, "bye", None)
CLASSES = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, QuicError)]


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_is_a_quic_error_with_a_message_a_code_and_a_reason(kind: type[QuicError]) -> None:
    error = kind("what happened", reason=REASON)
    assert isinstance(error, QuicError)
    assert str(error) == error.message == "what happened"
    assert error.code == 7
    assert error.reason is REASON
    assert str(kind()) == ""
    assert kind().code is None
    assert kind(code=3, reason=REASON).code == 3
    assert kind(code=0, reason=REASON).code == 0  # 0 is a code too


def test_the_frame_that_caused_an_error_is_told() -> None:
    assert QuicError("x", reason=CloseReason(10, False, True, "why", 6)).frame_type == 6
    assert QuicError("x").frame_type is None


@pytest.mark.parametrize("kind", CLASSES)
def test_errors_survive_pickling_and_copying(kind: type[QuicError]) -> None:
    error = kind("what happened", code=5, reason=REASON)
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is kind
        assert (str(twin), twin.code, twin.reason) == ("what happened", 5, REASON)


def test_a_failed_attempt_keeps_every_address_it_tried() -> None:
    attempts = [(("::1", 4433), TimeoutError("late")), (("127.0.0.1", 4433), OSError("no route"))]
    error = ConnectError("nobody answered", attempts=attempts)
    assert error.attempts == tuple(attempts)
    assert ConnectError("x").attempts == ()
    assert len(pickle.loads(pickle.dumps(error)).attempts) == 2


@pytest.mark.parametrize("kind", [kind for kind in CLASSES if issubclass(kind, ConnectError)])
def test_a_failed_connect_is_what_generic_code_expects(kind: type[ConnectError]) -> None:
    """An `OSError` for loops over addresses, without an `errno`: a QUIC code is no fault of the operating system."""
    error = kind("no", code=111)
    assert isinstance(error, anyio.ConnectionFailed)
    assert isinstance(error, OSError)
    assert error.errno is None
    assert not isinstance(error, TimeoutError)


@pytest.mark.parametrize("kind", [kind for kind in CLASSES if issubclass(kind, ConnectionLost)])
def test_a_lost_connection_is_a_broken_resource(kind: type[ConnectionLost]) -> None:
    error = kind("gone", code=104)
    assert isinstance(error, anyio.BrokenResourceError)
    assert isinstance(error, ConnectionError)
    assert error.errno is None


def test_timeouts_of_the_protocol_are_not_the_users_deadline() -> None:
    assert not issubclass(IdleTimeout, TimeoutError)
    assert not issubclass(HandshakeTimeout, TimeoutError)


def test_who_closed_and_why_can_be_told_apart() -> None:
    assert not issubclass(ClosedByPeer, IdleTimeout)
    assert issubclass(CertificateError, ConnectError)
    assert not issubclass(StreamReset, ConnectionLost)  # the connection lives on


def test_all_lists_what_there_is() -> None:
    assert {kind.__name__ for kind in CLASSES} <= set(errors.__all__)
    for name in errors.__all__:
        assert hasattr(errors, name)
