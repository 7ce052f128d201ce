"""The errors of the trio face: both ours and trio's, and translated at one seam."""

from __future__ import annotations

import gc
import pickle
from typing import Any

import anyio
import pytest
import trio

import quicio.trio
from quicio import errors as ours
from quicio.errors import CloseReason
from quicio.trio.errors import NAMESAKES, TRIOS_OWN, translated

REASON = CloseReason(77, True, True, "enough")


def through(error: BaseException) -> BaseException:
    """What comes out of the seam when `error` goes in."""
    try:
        with translated:
            raise error
    except BaseException as result:
        return result


@pytest.mark.parametrize("kind", NAMESAKES, ids=lambda kind: kind.__name__)
def test_what_breaks_a_resource_is_ours_and_trios(kind: Any) -> None:
    cause = OSError("the cause")
    error = kind("the message", code=5, reason=REASON)
    error.__cause__ = cause
    result = through(error)
    assert type(result) is getattr(quicio.trio, kind.__name__)
    assert isinstance(result, kind)
    assert isinstance(result, trio.BrokenResourceError)
    assert isinstance(result, ours.QuicError)
    assert (str(result), result.code, result.reason) == ("the message", 5, REASON)
    assert result.__cause__ is cause
    assert result.__suppress_context__  # the traceback shows one error, not two


@pytest.mark.parametrize("kind", NAMESAKES, ids=lambda kind: kind.__name__)
def test_the_tree_is_the_same(kind: Any) -> None:
    for base in kind.__mro__:
        if base in NAMESAKES:
            assert issubclass(NAMESAKES[kind], NAMESAKES[base])
    assert issubclass(NAMESAKES[kind], OSError) == issubclass(kind, OSError)


def test_every_error_that_breaks_a_resource_has_a_namesake() -> None:
    broken = {
        value
        for name in ours.__all__
        if isinstance(value := getattr(ours, name), type) and issubclass(value, anyio.BrokenResourceError)
    }
    assert set(NAMESAKES) == broken


def test_a_failed_connect_is_an_oserror_as_trios_own_open_functions_raise_it() -> None:
    error = ours.HandshakeTimeout("nobody answered")
    assert through(error) is error
    assert isinstance(error, OSError)
    assert error.errno is None
    assert quicio.trio.HandshakeTimeout is ours.HandshakeTimeout


@pytest.mark.parametrize(("theirs", "trios"), TRIOS_OWN.items(), ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_anyios_errors_become_trios(theirs: Any, trios: Any) -> None:
    assert trios.__module__.startswith("trio")
    error = theirs("doing") if theirs is anyio.BusyResourceError else theirs()
    assert type(through(error)) is trios


def test_what_is_busy_says_with_what() -> None:
    assert "sending on" in str(through(anyio.BusyResourceError("sending on")))


def test_codes_are_no_errno() -> None:
    """A connection lost with code 12 is no ENOMEM, which trio's servers take for overload and retry for ever."""
    lost = through(ours.ConnectionLost("lost", code=12))
    assert isinstance(lost, OSError)
    assert lost.errno is None


@pytest.mark.parametrize(
    "error", [ValueError("mine"), trio.ClosedResourceError(), quicio.trio.StreamReset("x", code=1), KeyboardInterrupt()]
)
def test_all_else_passes_as_the_same_object(error: BaseException) -> None:
    assert through(error) is error


def test_nothing_raised_is_nothing_raised() -> None:
    with translated:
        pass


def test_errors_can_be_pickled() -> None:
    error = quicio.trio.ClosedByPeer("gone", reason=REASON)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is quicio.trio.ClosedByPeer
    assert (str(copy), copy.code, copy.reason) == ("gone", 77, REASON)


def test_a_translated_error_dies_by_reference_counting_alone() -> None:
    class Witness:
        alive = 0

        def __init__(self) -> None:
            Witness.alive += 1

        def __del__(self) -> None:
            Witness.alive -= 1

    def fail() -> None:
        witness = Witness()
        with translated:
            raise ours.StreamReset(f"beside {type(witness)}", code=1)

    gc.disable()
    try:
        try:
            fail()
        except trio.BrokenResourceError:
            assert Witness.alive == 1
        assert Witness.alive == 0
    finally:
        gc.enable()
