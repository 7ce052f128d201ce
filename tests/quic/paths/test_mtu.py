"""Datagram size: the search of RFC 8899, black holes, and row 17 of the threat table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quicio.quic.paths.mtu import (
    BLACK_HOLE_INTERVAL,
    BLACK_HOLE_ROUNDS,
    DEFAULT_CEILING,
    MAX_PROBES,
    MIN_GAIN,
    RAISE_INTERVAL,
    PathMtu,
)


def search(mtu: PathMtu, real: int, now: float = 0.0, limit: int = 60) -> list[int]:
    """Probe a path that carries up to `real` bytes until no probe is due; returns the sizes probed."""
    probes: list[int] = []
    while size := mtu.probe_size(now):
        probes.append(size)
        assert len(probes) <= limit
        mtu.on_probe_sent(size)
        if size <= real:
            mtu.on_probe_acked(size)
        else:
            mtu.on_probe_lost(size)
    return probes


def test_a_path_that_takes_the_ceiling_needs_one_probe() -> None:
    mtu = PathMtu()
    assert mtu.size == 1200
    assert search(mtu, 1500) == [DEFAULT_CEILING]
    assert mtu.size == DEFAULT_CEILING
    assert mtu.probe_size(1e6) == 0  # nothing is left to find


def test_a_smaller_path_is_found_by_halving() -> None:
    mtu = PathMtu(ceiling=1452)
    probes = search(mtu, 1380)
    assert probes[: MAX_PROBES + 1] == [1452, 1452, 1452, 1326]
    assert 1380 - MIN_GAIN <= mtu.size <= 1380


def test_the_search_ends_at_the_base_when_nothing_larger_passes() -> None:
    mtu = PathMtu()
    probes = search(mtu, 1200)
    assert mtu.size == 1200
    assert len(probes) == MAX_PROBES * len(set(probes))
    assert min(probes) < 1200 + 2 * MIN_GAIN


def test_one_probe_is_in_flight_at_a_time_and_strangers_do_not_count() -> None:
    mtu = PathMtu()
    mtu.on_probe_sent(mtu.probe_size(0.0))
    assert mtu.probe_size(0.0) == 0
    for _ in range(5):
        mtu.on_probe_lost(1300)  # not the one in flight
    assert mtu.probe_size(0.0) == 0
    mtu.on_probe_acked(1300)  # one of long ago: it arrived all the same
    assert mtu.size == 1300
    assert mtu.probe_size(0.0) == 0


def test_a_late_acknowledgment_overrules_lost_probes() -> None:
    mtu = PathMtu()
    for _ in range(MAX_PROBES):
        mtu.on_probe_sent(mtu.probe_size(0.0))
        mtu.on_probe_lost(1452)
    assert mtu.probe_size(0.0) == 1326
    mtu.on_probe_acked(1452)
    assert mtu.size == 1452
    assert mtu.probe_size(0.0) == 0


def test_an_acknowledgment_never_raises_above_the_ceiling_or_lowers() -> None:
    mtu = PathMtu(ceiling=1300)
    mtu.on_probe_acked(1400)
    assert mtu.size == 1200
    mtu.on_probe_acked(1300)
    mtu.on_probe_acked(1250)
    assert mtu.size == 1300


def test_after_ten_minutes_the_search_starts_anew() -> None:
    mtu = PathMtu()
    search(mtu, 1300, now=5.0)
    found = mtu.size
    assert mtu.probe_size(5.0 + RAISE_INTERVAL - 1) == 0
    assert mtu.probe_size(5.0 + RAISE_INTERVAL) == 1452
    assert search(mtu, 1500, now=5.0 + RAISE_INTERVAL) == [1452]
    assert found < mtu.size == 1452


def test_the_peers_limit_bounds_the_search() -> None:
    mtu = PathMtu()
    mtu.limit(65527)
    assert mtu.ceiling == 1452
    mtu.limit(1300)
    assert search(mtu, 1500) == [1300]
    larger = PathMtu(base=1400)
    larger.limit(1280)
    assert (larger.size, larger.base, larger.ceiling) == (1280, 1280, 1280)
    assert larger.probe_size(0.0) == 0


def test_a_ceiling_at_the_base_means_no_search() -> None:
    assert PathMtu(base=1350, ceiling=1200).probe_size(0.0) == 0


def test_rounds_of_large_losses_are_a_black_hole() -> None:
    mtu = PathMtu()
    search(mtu, 1500)
    assert [mtu.on_packet_lost(1452, float(now)) for now in range(BLACK_HOLE_ROUNDS)] == [False] * (
        BLACK_HOLE_ROUNDS - 1
    ) + [True]
    assert (mtu.size, mtu.black_holes) == (1200, 1)
    assert mtu.probe_size(10.0) == 0
    assert mtu.probe_size(10.0 + BLACK_HOLE_INTERVAL) == 1452
    assert not mtu.on_packet_lost(1452, 99.0)  # at the base there is nowhere to fall
    search(mtu, 1300, now=200.0)
    assert mtu.probe_size(200.0 + BLACK_HOLE_INTERVAL) == 0  # an ordinary search ended: ten minutes again
    assert mtu.size > 1250


def test_timeouts_in_a_row_are_a_black_hole_too() -> None:
    mtu = PathMtu()
    assert [mtu.on_probe_timeout() for _ in range(9)] == [False] * 9
    search(mtu, 1500)
    assert [mtu.on_probe_timeout() for _ in range(BLACK_HOLE_ROUNDS)][-1]


def test_a_large_packet_that_arrives_clears_the_path() -> None:
    mtu = PathMtu()
    search(mtu, 1500)
    for now in range(10):
        mtu.on_packet_lost(1452, now + 0.5)
        mtu.on_packet_lost(1452, now + 0.6)
        mtu.on_packet_acked(1452, now + 0.9)
        mtu.on_packet_acked(1452, now + 0.1)  # an older one
        assert not mtu.on_packet_lost(1452, now + 0.8)  # overtaken by a large one that arrived: congestion
    assert mtu.size == 1452
    mtu.on_packet_acked(300, 20.0)  # small ones prove nothing
    for later in (21.0, 22.0, 23.0):
        assert not mtu.on_packet_lost(300, later)
        mtu.on_packet_lost(1452, later)
    assert mtu.size == 1200


@pytest.mark.parametrize("claimed", [0, 68, 1199, 1200, 1451, 1452, 9000])
def test_row_17_reports_from_the_network_never_lower_what_was_validated(claimed: int) -> None:
    """Row 17: a forged "packet too big" has no effect on the size in use."""
    mtu = PathMtu()
    search(mtu, 1500)
    mtu.on_too_big(claimed)
    assert mtu.size == 1452
    assert mtu.probe_size(0.0) == 0


def test_row_17_reports_bound_the_search() -> None:
    """Row 17: between what is validated and what is sought a report saves probes, and nothing more."""
    mtu = PathMtu(ceiling=1452)
    mtu.on_probe_sent(mtu.probe_size(0.0))
    mtu.on_too_big(1100)
    assert mtu.probe_size(0.0) == 0  # ignored: the probe is still in flight
    mtu.on_too_big(1400)
    assert mtu.probe_size(0.0) == 1300
    mtu.on_probe_sent(1300)
    mtu.on_too_big(1350)
    assert mtu.probe_size(0.0) == 0  # 1,300 may pass: the probe goes on
    mtu.on_probe_acked(1300)
    mtu.on_too_big(1310)
    assert mtu.probe_size(0.0) == 0
    assert mtu.size == 1300


@given(
    st.integers(1200, 1500),
    st.lists(
        st.tuples(st.sampled_from(["probe", "lost", "acked", "timeout", "big", "packet"]), st.integers(0, 1600)),
        max_size=60,
    ),
)
def test_the_size_stays_between_base_and_ceiling_and_the_search_ends(real: int, steps: list[tuple[str, int]]) -> None:
    mtu = PathMtu()
    now = 0.0
    for kind, value in steps:
        now += value / 10
        before = mtu.size
        if kind == "probe":
            size = mtu.probe_size(now)
            if size:
                assert mtu.size < size <= mtu.ceiling
                mtu.on_probe_sent(size)
        elif kind == "lost":
            mtu.on_probe_lost(value)
        elif kind == "acked":
            mtu.on_probe_acked(min(value, real))
        elif kind == "timeout":
            mtu.on_probe_timeout()
        elif kind == "big":
            mtu.on_too_big(value)
            assert mtu.size == before
        else:
            mtu.on_packet_lost(value, now)
        assert mtu.base <= mtu.size <= mtu.ceiling
    search(mtu, real, now)
