"""The books of one packet number space, and row 6 of the threat table: skipped packet numbers."""

from __future__ import annotations

import random

import pytest

from helpers.recovery import flat_ranges, make_path
from quicio.quic.paths.path import Path
from quicio.quic.recovery.sent_packets import (
    MAX_LOST_PACKETS,
    MAX_SKIPPED_NUMBERS,
    MIN_SKIP_DISTANCE,
    SentPacket,
    SpaceState,
)
from quicio.quic.wire.constants import APPLICATION, HANDSHAKE, INITIAL


def make_packet(number: int, path: Path) -> SentPacket:
    return SentPacket(number, 1200, float(number), True, True, [], path, INITIAL)


def make_space(count: int) -> SpaceState:
    state = SpaceState(INITIAL, random.Random(1).random)
    path = make_path()
    for _ in range(count):
        state.append(make_packet(state.allocate(0.0), path))
    return state


def test_numbers_ascend_and_the_handshake_skips_none() -> None:
    for space in (INITIAL, HANDSHAKE):
        state = SpaceState(space, random.Random(1).random)
        assert [state.allocate(0.0) for _ in range(200)] == list(range(200))
        assert state.skipped == []


def test_row_6_application_numbers_are_skipped_at_random_distances_scaled_to_the_window() -> None:
    """Row 6: the distance lies between one and two windows, so an attacker meets a skipped number every window or two."""
    for window in (10, 1000):
        state = SpaceState(APPLICATION, random.Random(7).random)
        state.window_packets = window
        numbers = [state.allocate(0.0) for _ in range(20000)]
        assert set(numbers).isdisjoint(state.skipped)
        least = max(window, MIN_SKIP_DISTANCE)
        distances = [later - earlier for earlier, later in zip(state.skipped[1:], state.skipped[2:], strict=False)]
        assert len(set(distances)) > 3
        assert min(distances) >= least
        assert max(distances) <= 2 * least + 1
        assert state.next_number - state.skipped[-1] <= 2 * least + 1


def test_row_6_runs_of_numbers_end_where_one_is_skipped() -> None:
    """Row 6: the same numbers are skipped as when they are taken one by one."""
    singles, runs = (SpaceState(APPLICATION, random.Random(7).random) for _ in range(2))
    numbers: list[int] = []
    while len(numbers) < 3000:
        count = min(runs.run_length(), 50)
        if count:
            first = runs.allocate_run(count)
            numbers += range(first, first + count)
        else:
            numbers.append(runs.allocate(0.0))
    assert numbers == [singles.allocate(0.0) for _ in numbers]
    assert runs.skipped == singles.skipped
    assert len(runs.skipped) > 40
    assert SpaceState(HANDSHAKE, random.Random(7).random).run_length() == 0  # no runs there


def test_the_memory_of_skipped_numbers_is_bounded() -> None:
    state = SpaceState(APPLICATION, random.Random(7).random)
    for _ in range(MIN_SKIP_DISTANCE * 2 * (MAX_SKIPPED_NUMBERS + 10)):
        state.allocate(0.0)
    assert len(state.skipped) == MAX_SKIPPED_NUMBERS


def test_skipped_numbers_are_found_in_any_range() -> None:
    state = make_space(0)
    state.skipped = [10, 50]
    assert state.covers_skipped([50, 51])
    assert state.covers_skipped([90, 100, 40, 60])
    assert state.covers_skipped([90, 100, 11, 50, 5, 11])
    assert not state.covers_skipped([51, 100, 11, 50, 0, 10])
    assert not state.covers_skipped([0, 10])


def test_acks_in_order_cut_the_head() -> None:
    state = make_space(6)
    assert [packet.number for packet in state.take([0, 3])] == [0, 1, 2]
    assert (state.base, len(state.sent)) == (3, 3)
    assert [packet.number for packet in state.take([0, 6])] == [3, 4, 5]
    assert (state.base, state.sent) == (6, [])
    assert state.take([0, 6]) == []


def test_acks_with_holes_come_oldest_first_and_once() -> None:
    state = make_space(10)
    assert [packet.number for packet in state.take([8, 9, 4, 6, 1, 2])] == [1, 4, 5, 8]
    assert state.base == 0
    assert [packet.number for packet in state.take([8, 10, 4, 7, 0, 2])] == [0, 6, 9]
    assert state.base == 2
    assert state.take([0, 2]) == []
    assert [packet.number for packet in state.take([0, 10])] == [2, 3, 7]
    assert state.base == 10


def test_numbers_that_were_not_sent_leave_a_gap_and_old_ones_are_refused() -> None:
    state = make_space(2)
    path = make_path()
    state.append(make_packet(4, path))
    assert [packet.number for packet in state.take([0, 5])] == [0, 1, 4]
    state.append(make_packet(9, path))
    assert state.base == 9
    with pytest.raises(ValueError, match=r"allocate\(\)"):
        state.append(make_packet(8, path))


def test_the_memory_of_lost_packets_is_bounded_and_ordered() -> None:
    state = make_space(0)
    path = make_path()
    given_up = []
    for number in range(MAX_LOST_PACKETS + 5):
        packet = make_packet(number, path)
        packet.lost_time = float(number)
        forgotten = state.remember_lost(packet)
        if forgotten is not None:
            given_up.append(forgotten.number)
    assert given_up == [0, 1, 2, 3, 4]
    assert len(state.lost) == len(state.lost_numbers) == MAX_LOST_PACKETS
    assert sorted(packet.number for packet in state.take_lost([500, 502, 7, 9, 0, 6])) == [5, 7, 8, 500, 501]
    assert [packet.number for packet in state.take_stale(20.0, 10.0)] == [6, 9, 10]
    assert state.take_lost([0, 11]) == []
    assert state.lost_numbers == sorted(state.lost)


def test_take_all_empties_the_books_and_numbers_go_on() -> None:
    state = make_space(4)
    state.take([1, 2])
    assert [packet.number for packet in state.take_all()] == [0, 2, 3]
    assert state.base == state.next_number == 4
    state.append(make_packet(state.allocate(0.0), make_path()))
    assert [packet.number for packet in state.take(flat_ranges({4}))] == [4]


def test_a_packet_says_what_it_is() -> None:
    assert repr(make_packet(3, make_path())) == "SentPacket(space=0, number=3, size=1200, sent_time=3.000000)"
