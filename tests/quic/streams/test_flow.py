"""Receive windows: when an update is due, when a window grows (RFC 9000 §4.2)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from quicio.quic.streams.flow import ReceiveWindow


def test_an_update_is_due_when_half_is_consumed() -> None:
    window = ReceiveWindow(1000, 1000)
    window.consumed = 499
    assert not window.is_due()
    window.consumed = 500
    assert window.is_due()
    assert window.update(1.0, 0.1) == 1500
    assert not window.is_due()


def test_an_empty_window_is_never_due() -> None:
    assert not ReceiveWindow(0, 0).is_due()


def test_a_window_consumed_quickly_doubles_to_its_ceiling() -> None:
    window = ReceiveWindow(1000, 3000)
    now = 0.0
    sizes = []
    for _ in range(4):
        window.consumed += window.size // 2
        window.update(now, 0.1)
        sizes.append(window.size)
        now += 0.05  # half a window in half a round trip
    assert sizes == [1000, 2000, 3000, 3000]


def test_a_window_consumed_slowly_keeps_its_size() -> None:
    window = ReceiveWindow(1000, 8000)
    for turn in range(10):
        window.consumed += 500
        window.update(turn * 0.11, 0.1)  # a whole window takes 2.2 round trips
    assert window.size == 1000


def test_without_a_round_trip_time_nothing_grows() -> None:
    window = ReceiveWindow(1000, 8000)
    for _ in range(10):
        window.consumed += 500
        window.update(0.0, 0.0)
    assert window.size == 1000


def test_repeating_an_update_does_not_grow_the_window() -> None:
    """A lost MAX_DATA is written again through `update`: that is no consumption."""
    window = ReceiveWindow(1000, 8000)
    window.update(0.0, 1.0)
    for turn in range(10):
        assert window.update(turn * 0.001, 1.0) == 1000
    assert window.size == 1000


def test_the_ceiling_is_never_below_the_first_size() -> None:
    assert ReceiveWindow(1000, 10).ceiling == 1000


@given(st.lists(st.tuples(st.integers(0, 5000), st.floats(0, 1)), max_size=50))
def test_credit_never_shrinks_and_never_exceeds_a_window(turns: list[tuple[int, float]]) -> None:
    window = ReceiveWindow(1000, 10_000)
    now = 0.0
    for size, pause in turns:
        before = window.limit
        window.consumed = min(window.consumed + size, window.limit)
        now += pause
        if window.is_due():
            window.update(now, 0.2)
        assert before <= window.limit <= window.consumed + window.size
        assert window.size <= window.ceiling
