"""Early data: runs above a gap, bounded in number and overhead (row 2 of the security table)."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.streams import Pair, Side
from quicio.quic.streams.reassembly import MAX_CONNECTION_FRAGMENTS, MAX_FRAGMENTS, SMALL_PIECE, Reassembly
from quicio.quic.wire.constants import INTERNAL_ERROR, QuicConnectionError

TEXT = bytes(range(256)) * 4


def content(reassembly: Reassembly) -> list[tuple[int, bytes]]:
    return [(start, b"".join(run)) for start, run in zip(reassembly.starts, reassembly.runs, strict=True)]


def put(reassembly: Reassembly, start: int, stop: int) -> None:
    reassembly.insert(start, TEXT[start:stop])


def test_packets_behind_a_gap_are_one_run() -> None:
    reassembly = Reassembly()
    for start in range(10, 100, 10):
        put(reassembly, start, start + 10)
    assert content(reassembly) == [(10, TEXT[10:100])]
    assert reassembly.size() == 90


def test_gaps_are_filled_from_either_side() -> None:
    reassembly = Reassembly()
    put(reassembly, 30, 40)
    put(reassembly, 50, 60)
    put(reassembly, 10, 20)
    assert len(reassembly) == 3
    put(reassembly, 20, 25)
    put(reassembly, 45, 50)
    assert [start for start, _ in content(reassembly)] == [10, 30, 45]
    put(reassembly, 15, 55)
    assert content(reassembly) == [(10, TEXT[10:60])]


def test_what_came_first_stays() -> None:
    reassembly = Reassembly()
    reassembly.insert(10, b"aaaa")
    reassembly.insert(8, b"bbbbbbbb")
    assert content(reassembly) == [(8, b"bbaaaabb")]
    reassembly.insert(9, b"c")
    assert content(reassembly) == [(8, b"bbaaaabb")]


def test_shift_gives_what_continues() -> None:
    reassembly = Reassembly()
    put(reassembly, 10, 20)
    put(reassembly, 30, 40)
    pieces: list[bytes] = []
    assert reassembly.shift(5, pieces) == 5
    assert reassembly.shift(12, pieces) == 20
    assert b"".join(pieces) == TEXT[12:20]
    assert reassembly.shift(50, pieces) == 50
    assert len(reassembly) == 0
    assert b"".join(pieces) == TEXT[12:20]


@given(st.lists(st.tuples(st.integers(1, 900), st.integers(1, 100)), max_size=60), st.integers(0, 1000))
def test_any_order_gives_the_same_bytes(parts: list[tuple[int, int]], position: int) -> None:
    reassembly = Reassembly()
    covered: set[int] = set()
    for start, size in parts:
        put(reassembly, start, start + size)
        covered.update(range(start, start + size))
    assert {n for start, run in content(reassembly) for n in range(start, start + len(run))} == covered
    assert all(run == TEXT[start : start + len(run)] for start, run in content(reassembly))
    gaps = zip(reassembly.stops, reassembly.starts[1:], strict=False)
    assert all(stop < start for stop, start in gaps)
    pieces: list[bytes] = []
    end = reassembly.shift(position, pieces)
    assert b"".join(pieces) == TEXT[position:end]
    assert end not in covered
    assert not len(reassembly) or reassembly.starts[0] > end


@pytest.mark.parametrize("order", ["forward", "backward", "inside out"])
def test_single_bytes_cost_little_more_than_bytes(order: str) -> None:
    """Row 2: one-byte frames are joined, so that their number does not matter; in whatever order they come."""
    reassembly = Reassembly()
    offsets = list(range(1, 20_001))
    if order == "backward":
        offsets.reverse()
    elif order == "inside out":
        offsets = [10_000 + (n // 2 if n & 1 else -(n // 2)) for n in range(1, 19_999)]
    for offset in offsets:
        reassembly.insert(offset, b"x")
    assert len(reassembly) <= 2
    assert sum(map(len, reassembly.runs)) <= 4 + 2 * 20_000 // SMALL_PIECE


def test_filling_gaps_costs_time_linear_in_the_frames() -> None:
    """Row 2: joining large runs moves lists of references, not bytes."""
    began = time.perf_counter()
    reassembly = Reassembly()
    block = bytes(SMALL_PIECE)
    step = 2 * SMALL_PIECE
    for number in range(MAX_FRAGMENTS):
        reassembly.insert(1 + number * step, block)
    for number in range(MAX_FRAGMENTS - 1):
        reassembly.insert(1 + number * step + SMALL_PIECE, block)
    assert len(reassembly) == 1
    assert time.perf_counter() - began < 2.0  # about 0.05 s


def generous(is_client: bool) -> Side:
    return Side(is_client, max_data=1 << 24, max_stream_data=1 << 22, window_limit=1 << 24)


def test_a_stream_has_a_bounded_number_of_gaps() -> None:
    """Row 2: MAX_FRAGMENTS."""
    pair = Pair(generous(True), generous(False))
    for number in range(MAX_FRAGMENTS):
        pair.server.streams.on_stream_frame(0, 2 * number + 1, b"x", False)
    pair.check()
    with pytest.raises(QuicConnectionError) as caught:
        pair.server.streams.on_stream_frame(0, 2 * MAX_FRAGMENTS + 1, b"x", False)
    assert caught.value.error_code == INTERNAL_ERROR


def test_a_connection_has_a_bounded_number_of_gaps() -> None:
    """Row 2: MAX_CONNECTION_FRAGMENTS, over many streams; what is delivered or reset counts no longer."""
    pair = Pair(generous(True), generous(False))
    streams = pair.server.streams
    each = MAX_CONNECTION_FRAGMENTS // 8
    for stream_id in range(0, 32, 4):
        for number in range(each):
            streams.on_stream_frame(stream_id, 2 * number + 1, b"x", False)
    pair.check()
    streams.on_stream_frame(0, 0, b"x", False)  # fills one
    streams.on_stream_frame(0, 2 * each + 1, b"x", False)
    streams.on_reset_stream(4, 0, 2 * each)
    pair.check()
    for number in range(each):
        streams.on_stream_frame(32, 2 * number + 1, b"x", False)
    with pytest.raises(QuicConnectionError) as caught:
        streams.on_stream_frame(36, 1, b"x", False)
    assert caught.value.error_code == INTERNAL_ERROR
