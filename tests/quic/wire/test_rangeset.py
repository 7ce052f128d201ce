"""`RangeSet` against a plain set of integers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quicio.quic.wire.rangeset import RangeSet

TOP = 40
spans = st.tuples(st.integers(0, TOP), st.integers(1, 8)).map(lambda pair: (pair[0], pair[0] + pair[1]))
operations = st.lists(
    st.one_of(
        st.tuples(st.just("add"), spans),
        st.tuples(st.just("subtract"), spans),
        st.tuples(st.just("drop_below"), spans),
        st.tuples(st.just("shift"), spans),
        st.tuples(st.just("drop_oldest"), spans),
    ),
    max_size=30,
)


def ranges_of(model: set[int]) -> list[range]:
    """The ranges that the numbers of `model` form."""
    result: list[range] = []
    for number in sorted(model):
        if result and result[-1].stop == number:
            result[-1] = range(result[-1].start, number + 1)
        else:
            result.append(range(number, number + 1))
    return result


def check(ranges: RangeSet, model: set[int]) -> None:
    expected = ranges_of(model)
    assert list(ranges) == expected
    assert len(ranges) == len(expected)
    assert bool(ranges) is bool(expected)
    assert [ranges[index] for index in range(len(ranges))] == expected
    assert {number for number in range(TOP + 10) if number in ranges} == model
    if expected:
        assert ranges.first() == (expected[0].start, expected[0].stop)
        assert ranges.last() == (expected[-1].start, expected[-1].stop)
        assert ranges.bounds() == (expected[0].start, expected[-1].stop)


@given(operations)
def test_behaves_like_a_set_of_integers(steps: list[tuple[str, tuple[int, int]]]) -> None:
    ranges = RangeSet()
    model: set[int] = set()
    for name, (start, stop) in steps:
        if name == "add":
            ranges.add(start, stop)
            model |= set(range(start, stop))
        elif name == "subtract":
            ranges.subtract(start, stop)
            model -= set(range(start, stop))
        elif name == "drop_below":
            ranges.drop_below(start)
            model = {number for number in model if number >= start}
        elif name == "shift" and model:
            lowest = ranges_of(model)[0]
            assert ranges.shift() == (lowest.start, lowest.stop)
            model -= set(lowest)
        elif name == "drop_oldest":
            kept = ranges_of(model)[-(stop - start) :]
            ranges.drop_oldest(stop - start)
            model = {number for item in kept for number in item}
        check(ranges, model)


def test_drop_below_cuts_a_range() -> None:
    ranges = RangeSet([range(2, 5), range(8, 12)])
    ranges.drop_below(9)
    assert list(ranges) == [range(9, 12)]
    ranges.drop_below(12)
    assert not ranges


def test_in_order_numbers_stay_one_range() -> None:
    ranges = RangeSet()
    for number in range(1000):
        ranges.add(number)
    assert ranges.starts == [0]
    assert ranges.stops == [1000]


def test_a_range_may_close_several_gaps_at_once() -> None:
    ranges = RangeSet([range(2), range(4, 6), range(8, 10), range(20, 21)])
    ranges.add(2, 8)
    assert list(ranges) == [range(10), range(20, 21)]


def test_empty_ranges_are_refused() -> None:
    ranges = RangeSet([range(5)])
    for start, stop in ((3, 3), (3, 2)):
        with pytest.raises(ValueError, match="start < stop"):
            ranges.add(start, stop)
        with pytest.raises(ValueError, match="start < stop"):
            ranges.subtract(start, stop)
    assert list(ranges) == [range(5)]


def test_an_empty_set_has_no_ends() -> None:
    for method in ("first", "last", "shift", "bounds"):
        with pytest.raises(IndexError):
            getattr(RangeSet(), method)()


def test_equality_and_representation() -> None:
    ranges = RangeSet([range(5), range(7, 9)])
    assert ranges == RangeSet([range(7, 9), range(3), range(2, 5)])
    assert ranges != RangeSet([range(5)])
    assert ranges != [range(5), range(7, 9)]
    assert "x" not in ranges
    assert repr(ranges) == "RangeSet([range(0, 5), range(7, 9)])"


def test_drop_oldest_keeps_the_newest() -> None:
    """Security row 7: whoever lets a peer fill the set bounds it by this."""
    ranges = RangeSet()
    for number in range(0, 2000, 2):
        ranges.add(number)
        ranges.drop_oldest(256)
    assert len(ranges) == 256
    assert ranges.last() == (1998, 1999)
    assert ranges.first() == (1998 - 2 * 255, 1999 - 2 * 255)
