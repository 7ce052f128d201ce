"""The book of push IDs."""

from __future__ import annotations

import pytest

from helpers.http3 import REQUEST
from quicio.h3.exceptions import ErrorCode, FrameUnexpected, IdError, NoAvailablePushIDError, ProtocolError
from quicio.h3.push import MAX_PUSHES, Pushes


def test_a_server_waits_for_permission_and_counts_up() -> None:
    pushes = Pushes(is_client=False)
    with pytest.raises(NoAvailablePushIDError):
        pushes.allocate()
    pushes.raise_maximum(1)
    assert [pushes.allocate(), pushes.allocate()] == [0, 1]
    with pytest.raises(NoAvailablePushIDError):
        pushes.allocate()
    pushes.raise_maximum(5)
    assert pushes.allocate() == 2


def test_the_maximum_never_shrinks() -> None:
    pushes = Pushes(is_client=False)
    pushes.raise_maximum(5)
    pushes.raise_maximum(5)
    with pytest.raises(IdError):
        pushes.raise_maximum(4)
    with pytest.raises(FrameUnexpected):
        Pushes(is_client=True).raise_maximum(9)


def test_goaway_of_the_client_ends_pushing() -> None:
    pushes = Pushes(is_client=False)
    pushes.raise_maximum(5)
    pushes.limit = 1
    assert pushes.allocate() == 0
    with pytest.raises(NoAvailablePushIDError):
        pushes.allocate()


def test_a_client_allows_so_many_pushes() -> None:
    """Security row 26: what a server can make a client remember is bounded by the IDs that were allowed."""
    pushes = Pushes(is_client=True)
    pushes.check_id(MAX_PUSHES - 1)
    with pytest.raises(IdError):
        pushes.check_id(MAX_PUSHES)


def test_a_repeated_promise_is_the_same() -> None:
    pushes = Pushes(is_client=True)
    pushes.promise(0, REQUEST)
    pushes.promise(0, list(REQUEST))
    with pytest.raises(ProtocolError) as caught:
        pushes.promise(0, REQUEST[:3])
    assert caught.value.error_code is ErrorCode.H3_GENERAL_PROTOCOL_ERROR


def test_a_push_id_has_one_stream() -> None:
    pushes = Pushes(is_client=True)
    pushes.open_stream(3)
    with pytest.raises(IdError, match="two"):
        pushes.open_stream(3)
    with pytest.raises(IdError, match="above"):
        pushes.open_stream(MAX_PUSHES)


def test_cancelling() -> None:
    pushes = Pushes(is_client=False)
    with pytest.raises(IdError):
        pushes.cancel(0)  # nothing is allowed yet
    pushes.raise_maximum(5)
    with pytest.raises(IdError, match="not promised"):
        pushes.cancel(0)
    pushes.streams[pushes.allocate()] = 15
    assert pushes.cancel(0) == 15
    assert pushes.cancel(0) is None

    client = Pushes(is_client=True)
    client.promise(1, REQUEST)
    assert client.cancel(1) is None
    assert client.promises == {}
