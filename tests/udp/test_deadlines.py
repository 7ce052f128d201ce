"""The earliest of many deadlines: `quicio.udp.deadlines`."""

from __future__ import annotations

import gc
import weakref
from math import inf

from hypothesis import given
from hypothesis import strategies as st

from quicio.udp.deadlines import REBUILD_SLACK, Deadlines


def test_nothing_is_due_when_nobody_waits() -> None:
    deadlines: Deadlines[str] = Deadlines()
    assert deadlines.earliest() == inf
    assert deadlines.pop_due(1e9) is None


def test_keys_are_popped_in_the_order_of_their_deadlines() -> None:
    deadlines: Deadlines[str] = Deadlines()
    for key, when in (("c", 3.0), ("a", 1.0), ("b", 2.0)):
        deadlines.set(key, when)
    assert deadlines.earliest() == 1.0
    assert [deadlines.pop_due(2.5) for _ in range(3)] == ["a", "b", None]
    assert deadlines.earliest() == 3.0


def test_a_deadline_that_moved_away_is_not_due() -> None:
    deadlines: Deadlines[str] = Deadlines()
    deadlines.set("a", 1.0)
    deadlines.set("a", 5.0)
    assert deadlines.earliest() == 5.0
    assert deadlines.pop_due(4.0) is None
    assert deadlines.pop_due(5.0) == "a"
    assert "a" not in deadlines


def test_a_deadline_that_only_moves_away_needs_one_entry() -> None:
    deadlines: Deadlines[str] = Deadlines()
    for step in range(50):
        deadlines.set("a", float(step))
    assert deadlines.heap_size() == 1


def test_a_deadline_that_came_nearer_is_due_once() -> None:
    deadlines: Deadlines[str] = Deadlines()
    deadlines.set("a", 5.0)
    deadlines.set("a", 1.0)
    assert deadlines.pop_due(9.0) == "a"
    assert deadlines.pop_due(9.0) is None


def test_an_infinite_deadline_removes_the_key() -> None:
    deadlines: Deadlines[str] = Deadlines()
    deadlines.set("a", 5.0)
    deadlines.set("a", inf)
    deadlines.set("b", inf)
    deadlines.remove("unknown")
    assert len(deadlines) == 0
    assert deadlines.earliest() == inf


def test_stale_entries_are_bounded() -> None:
    deadlines: Deadlines[str] = Deadlines()
    for step in range(10_000, 0, -1):
        deadlines.set("a", float(step))
        assert deadlines.heap_size() <= 2 + REBUILD_SLACK
    assert deadlines.pop_due(1.0) == "a"


def test_a_removed_key_dies_at_once() -> None:
    class Key:
        pass

    deadlines: Deadlines[Key] = Deadlines()
    key = Key()
    alive = weakref.ref(key)
    gc.disable()
    try:
        deadlines.set(key, 1e9)
        deadlines.set(key, 1.0)
        deadlines.remove(key)
        del key
        assert alive() is None
    finally:
        gc.enable()


def test_clear_forgets_all() -> None:
    deadlines: Deadlines[str] = Deadlines()
    deadlines.set("a", 1.0)
    deadlines.clear()
    assert deadlines.pop_due(2.0) is None
    deadlines.set("a", 3.0)
    assert deadlines.pop_due(3.0) == "a"


STEPS = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from(["set", "remove", "pop"]), st.integers(0, 50)),
    max_size=60,
)


@given(STEPS)
def test_it_behaves_as_a_dictionary_searched_for_its_least(steps: list[tuple[int, str, int]]) -> None:
    deadlines: Deadlines[int] = Deadlines()
    model: dict[int, float] = {}
    for key, verb, value in steps:
        if verb == "set":
            deadlines.set(key, float(value))
            model[key] = float(value)
        elif verb == "remove":
            deadlines.remove(key)
            model.pop(key, None)
        else:
            popped = deadlines.pop_due(float(value))
            if popped is None:
                assert min(model.values(), default=inf) > value
            else:
                assert model[popped] == min(model.values())
                assert model.pop(popped) <= value
        assert deadlines.earliest() == min(model.values(), default=inf)
        assert len(deadlines) == len(model)
