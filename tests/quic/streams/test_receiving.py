"""What arrives: order, final sizes, limits, credit in both modes (RFC 9000 §3.2, §4)."""

from __future__ import annotations

import pytest

from helpers.streams import Pair, Side, parse
from quicio.quic.events import StreamDataReceived, StreamReset
from quicio.quic.streams import stream as states
from quicio.quic.streams.invariants import require
from quicio.quic.streams.receiving import MAX_PIECES
from quicio.quic.streams.stream import ReceiveHalf
from quicio.quic.wire import constants as c
from quicio.quic.wire.constants import QuicConnectionError


def server(max_data: int = 10_000, max_stream_data: int = 4000, window_limit: int = 100_000) -> Side:
    side = Side(False, max_data=max_data, max_stream_data=max_stream_data, window_limit=window_limit)
    side.streams.on_parameters(Side(True).parameters)
    return side


def burst(side: Side, *frames: tuple[int, int, bytes, bool]) -> None:
    for stream_id, offset, data, fin in frames:
        side.streams.on_stream_frame(stream_id, offset, data, fin)
    side.streams.collect_events(0.0)
    side.streams.check_invariants()


def half_of(side: Side, stream_id: int) -> ReceiveHalf:
    half = side.streams.streams[stream_id].receive
    assert half is not None
    return half


def written(side: Side, now: float = 0.0) -> list[tuple[str, tuple[object, ...]]]:
    return [call for packet in side.write_all(now=now) for _, call in parse(packet.payload)]


def test_one_event_a_stream_a_burst() -> None:
    side = server()
    burst(side, (0, 0, b"ab", False), (4, 0, b"xy", False), (0, 2, b"cd", False), (0, 4, b"", True))
    assert side.drain() == [StreamDataReceived(b"abcd", True, 0), StreamDataReceived(b"xy", False, 4)]
    burst(side)
    assert not side.drain()


def test_data_waits_for_the_gap() -> None:
    side = server()
    burst(side, (0, 2, b"cd", True))
    assert not side.drain()
    burst(side, (0, 0, b"ab", False))
    assert side.drain() == [StreamDataReceived(b"abcd", True, 0)]


def test_an_end_that_comes_late_is_an_event_of_its_own() -> None:
    side = server()
    burst(side, (0, 0, b"ab", False))
    burst(side, (0, 2, b"", True))
    burst(side, (0, 2, b"", True), (0, 0, b"ab", False))
    assert side.drain() == [StreamDataReceived(b"ab", False, 0), StreamDataReceived(b"", True, 0)]


def test_an_end_known_before_its_data() -> None:
    side = server()
    burst(side, (0, 4, b"", True))
    burst(side, (0, 0, b"ab", False))
    burst(side, (0, 2, b"cd", False))
    assert side.drain() == [StreamDataReceived(b"ab", False, 0), StreamDataReceived(b"cd", True, 0)]
    assert half_of(side, 0).state == states.RECEIVE_DATA_READ


def test_an_empty_frame_is_no_event() -> None:
    side = server()
    burst(side, (0, 0, b"", False))
    assert not side.drain()
    assert 0 in side.streams.streams


def test_pieces_of_one_burst_are_bounded() -> None:
    """Row 2: single bytes in order, not collected (the handshake is not over), do not pile up as objects."""
    side = server()
    for offset in range(3 * MAX_PIECES):
        side.streams.on_stream_frame(0, offset, b"x", False)
        assert len(half_of(side, 0).pieces) <= MAX_PIECES
    side.streams.collect_events(0.0)
    assert side.drain() == [StreamDataReceived(b"x" * 3 * MAX_PIECES, False, 0)]


@pytest.mark.parametrize("stream_id", [0, 2])
def test_a_stream_limit_is_enforced(stream_id: int) -> None:
    side = server()
    burst(side, (stream_id, 3999, b"x", False))
    with pytest.raises(QuicConnectionError) as caught:
        side.streams.on_stream_frame(stream_id, 4000, b"x", False)
    assert caught.value.error_code == c.FLOW_CONTROL_ERROR
    with pytest.raises(QuicConnectionError) as caught:
        side.streams.on_reset_stream(stream_id, 0, 4001)
    assert caught.value.error_code == c.FLOW_CONTROL_ERROR


def test_the_connection_limit_is_enforced() -> None:
    side = server()
    burst(side, (0, 3999, b"x", False), (4, 3999, b"x", False), (8, 1999, b"x", False))
    with pytest.raises(QuicConnectionError) as caught:
        side.streams.on_stream_frame(12, 0, b"x", False)
    assert caught.value.error_code == c.FLOW_CONTROL_ERROR
    with pytest.raises(QuicConnectionError) as caught:
        side.streams.on_reset_stream(12, 0, 1)
    assert caught.value.error_code == c.FLOW_CONTROL_ERROR
    burst(side, (0, 100, b"x", False))  # counted already


@pytest.mark.parametrize(
    "frame",
    [(0, 8, b"xyz", False), (0, 0, b"x", True), (0, 10, b"x", True)],
    ids=["data beyond", "smaller", "larger"],
)
def test_a_changed_final_size_is_an_error(frame: tuple[int, int, bytes, bool]) -> None:
    side = server()
    burst(side, (0, 5, b"fghij", True))
    with pytest.raises(QuicConnectionError) as caught:
        side.streams.on_stream_frame(*frame)
    assert caught.value.error_code == c.FINAL_SIZE_ERROR
    for size in (9, 11):
        with pytest.raises(QuicConnectionError) as caught:
            side.streams.on_reset_stream(0, 1, size)
        assert caught.value.error_code == c.FINAL_SIZE_ERROR


def test_a_reset_below_what_came_is_an_error() -> None:
    side = server()
    burst(side, (0, 5, b"x", False))
    with pytest.raises(QuicConnectionError) as caught:
        side.streams.on_reset_stream(0, 1, 5)
    assert caught.value.error_code == c.FINAL_SIZE_ERROR


def test_data_beyond_a_reset_is_an_error_and_data_within_is_dropped() -> None:
    side = server()
    side.streams.on_reset_stream(0, 9, 10)
    burst(side, (0, 0, b"0123456789", True))
    assert side.drain() == [StreamReset(9, 0)]
    with pytest.raises(QuicConnectionError) as caught:
        side.streams.on_stream_frame(0, 10, b"x", False)
    assert caught.value.error_code == c.FINAL_SIZE_ERROR


def test_a_reset_drops_what_was_not_handed_over() -> None:
    side = server()
    side.streams.on_stream_frame(0, 0, b"ab", False)
    side.streams.on_stream_frame(0, 5, b"xy", False)
    side.streams.on_reset_stream(0, 9, 4000)
    side.streams.on_reset_stream(0, 9, 4000)
    side.streams.collect_events(0.0)
    assert side.drain() == [StreamReset(9, 0)]
    side.streams.check_invariants()
    assert side.streams.receiving.window.consumed == 4000


def test_a_reset_after_all_data_is_suppressed() -> None:
    side = server()
    burst(side, (0, 0, b"ab", True))
    side.streams.on_reset_stream(0, 9, 2)
    assert side.drain() == [StreamDataReceived(b"ab", True, 0)]


def test_credit_comes_when_events_are_handed_out() -> None:
    side = server()
    burst(side, (0, 0, bytes(4000), False))
    assert not written(side)
    side.drain()
    assert written(side) == [("on_max_stream_data", (0, 8000))]
    burst(side, (4, 0, bytes(1000), False))
    side.drain()
    assert written(side) == [("on_max_data", (15_000,))]


def test_held_credit_comes_from_consume() -> None:
    side = server()
    side.streams.hold_all = True
    burst(side, (0, 0, bytes(4000), True), (4, 0, bytes(4000), False))
    side.drain()
    assert not side.streams.pending
    side.streams.consume(4, 1999)
    assert not side.streams.pending
    side.streams.consume(4, 1)
    assert written(side) == [("on_max_stream_data", (4, 6000))]
    side.streams.consume(0, 4000)
    assert written(side) == [("on_max_data", (16_000,))]
    for size in (2001, -1):
        with pytest.raises(ValueError, match="more than was handed out"):
            side.streams.consume(4, size)
    side.streams.check_invariants()


def test_hold_credit_may_come_between_hand_outs() -> None:
    side = server()
    burst(side, (0, 0, bytes(100), False))
    side.drain()
    burst(side, (0, 100, bytes(50), False))
    side.streams.hold_credit(0)
    side.drain()
    assert side.streams.receiving.window.consumed == 100
    side.streams.consume(0, 50)
    assert side.streams.receiving.window.consumed == 150
    side.streams.check_invariants()


def test_a_held_stream_is_read_when_it_is_consumed() -> None:
    side = server()
    burst(side, (2, 0, b"abc", False))
    side.streams.hold_credit(2)
    burst(side, (2, 3, b"", True))
    side.drain()
    assert 2 in side.streams.streams
    side.streams.consume(2, 3)
    assert 2 not in side.streams.streams
    side.streams.consume(2, 3)
    side.streams.hold_credit(2)
    side.streams.release(2)


@pytest.mark.parametrize("is_held", [False, True])
@pytest.mark.parametrize("how", ["reset", "stop", "release"])
def test_what_nobody_reads_returns_its_credit(how: str, is_held: bool) -> None:
    """Reset, stop and release return the connection's credit; data in the event queue keeps its own until handed out."""
    side = server()
    side.streams.hold_all = is_held
    burst(side, (0, 0, bytes(1000), False))
    side.drain()
    burst(side, (0, 1000, bytes(1000), False))
    side.streams.on_stream_frame(0, 2000, bytes(500), False)
    side.streams.on_stream_frame(0, 3000, bytes(500), False)
    if how == "reset":
        side.streams.on_reset_stream(0, 1, 3500)
    elif how == "stop":
        side.streams.stop(0, 1)
    else:
        side.streams.release(0)
    side.streams.check_invariants()
    assert side.streams.receiving.window.consumed == 2500
    side.drain()
    assert side.streams.receiving.window.consumed == 3500
    side.streams.check_invariants()
    burst(side, (0, 2500, bytes(1), False))
    assert side.streams.receiving.window.consumed == 3500
    if how != "reset":
        burst(side, (0, 3500, bytes(300), True))
        assert side.streams.receiving.window.consumed == 3800
    if is_held:
        side.streams.consume(0, 1)
    assert not side.drain()
    assert half_of(side, 0).state >= states.RECEIVE_DATA_READ


def test_stop_asks_once_and_again_when_lost() -> None:
    side = server()
    burst(side, (2, 0, b"x", False))
    side.streams.stop(2, 7)
    side.streams.stop(2, 8)
    packet = side.write()
    assert parse(packet.payload) == [(c.STOP_SENDING, ("on_stop_sending", (2, 7)))]
    packet.lost()
    packet.lost()
    assert side.write().payload == packet.payload
    assert not side.write().payload
    packet.lost()
    side.drain()
    side.streams.on_reset_stream(2, 7, 1)
    assert not side.write().payload
    packet.lost()
    assert not side.write().payload
    assert not side.streams.streams


def test_stop_after_all_data_asks_nothing() -> None:
    side = server()
    burst(side, (2, 0, b"x", True))
    side.streams.stop(2, 7)
    assert not side.write().payload
    side.drain()
    assert not side.streams.streams
    side.streams.stop(2, 7)


def test_credit_is_repeated_when_lost_unless_it_is_old() -> None:
    side = server()
    burst(side, (0, 0, bytes(4000), False), (4, 0, bytes(2000), False))
    side.drain()
    packet = side.write()
    assert len(packet.tokens) == 3
    packet.lost()
    packet.lost()
    again = side.write(now=1.0)
    assert sorted(parse(again.payload)) == sorted(parse(packet.payload))
    burst(side, (0, 4000, bytes(4000), False), (4, 2000, b"", True))
    side.drain()
    newer = side.write(now=2.0)
    packet.lost()
    assert written(side, 3.0) == [("on_max_data", (20_000,))]  # a newer limit of stream 0 is out, stream 4 needs none
    burst(side, (0, 8000, b"", True))
    newer.lost()
    assert not side.write(now=4.0).payload


def test_credit_that_is_due_is_not_written_for_an_ended_stream() -> None:
    side = server()
    burst(side, (0, 0, bytes(4000), False))
    side.drain()
    burst(side, (0, 4000, b"", True))
    assert not side.write().payload
    assert not side.streams.pending


def test_windows_grow_for_a_quick_reader() -> None:
    side = server(max_data=4000, max_stream_data=4000, window_limit=32_000)
    side.rtt.update(0.1, 0.0, 0.0)
    position = 0
    for turn in range(20):
        half = side.streams.streams.get(0)
        limit = half.receive.window.limit if half is not None and half.receive is not None else 4000
        burst(side, (0, position, bytes(limit - position), False))
        position = limit
        side.drain()
        side.write_all(now=turn * 0.1)
    assert half_of(side, 0).window.size == side.streams.receiving.window.size == 32_000


def test_a_reader_that_never_reads_keeps_its_first_window() -> None:
    side = server(max_data=4000, max_stream_data=4000, window_limit=1 << 30)
    side.streams.hold_all = True
    burst(side, (0, 0, bytes(4000), False))
    side.drain()
    for turn in range(20):
        side.streams.on_data_blocked(4000)
        side.streams.on_stream_data_blocked(0, 4000)
        assert not side.write_all(now=turn * 0.01)
    assert half_of(side, 0).window.limit == 4000


def test_credit_frames_wait_for_room() -> None:
    side = Side(False, max_data=1 << 20, max_stream_data=100)
    for stream_id in range(0, 40, 4):
        burst(side, (stream_id, 0, bytes(100), False))
    for stream_id in range(2, 22, 4):
        burst(side, (stream_id, 0, bytes(10), False))
        side.streams.stop(stream_id, 1)
    side.drain()
    packets = side.write_all(40)
    assert len(packets) > 3
    assert (
        sorted(kind for packet in packets for kind in packet.frame_types())
        == [c.STOP_SENDING] * 5 + [c.MAX_STREAM_DATA] * 10
    )


def test_invariants_are_asserted_even_when_optimised() -> None:
    with pytest.raises(AssertionError, match=r"apples: \(1, 2\)"):
        require(False, "apples", 1, 2)
    pair = Pair()
    pair.client.streams.send(0, b"x", False)
    pair.client.streams.sending.sent = 5
    with pytest.raises(AssertionError, match="sum over streams"):
        pair.check()


def test_a_limit_that_shrinks_is_noticed() -> None:
    side = server()
    side.streams.check_invariants()
    side.streams.sending.limit -= 1
    with pytest.raises(AssertionError, match="has shrunk"):
        side.streams.check_invariants()


def test_release_ends_a_stream_whose_end_is_known() -> None:
    side = server()
    side.streams.native = side.streams.hold_all = True
    burst(side, (2, 0, b"abc", True))
    side.drain()
    assert 2 in side.streams.streams
    side.streams.release(2)
    assert not side.streams.streams
    assert side.streams.receiving.window.consumed == 3
    side.streams.check_invariants()


def test_pieces_that_came_twice_are_skipped() -> None:
    side = server()
    burst(side, (0, 5, bytes(600), False), (0, 605, bytes(600), False), (0, 1205, b"end", True))
    burst(side, (0, 0, bytes(700), False))
    assert side.drain() == [StreamDataReceived(bytes(1205) + b"end", True, 0)]


def test_a_stream_stays_until_its_events_are_handed_out() -> None:
    """Otherwise a peer that resets one stream after another would have the credit of data that still lies in the queue."""
    side = server()
    burst(side, (2, 0, bytes(1000), False), (6, 0, bytes(1000), True))
    side.streams.on_reset_stream(2, 1, 1000)
    assert set(side.streams.streams) == {2, 6}
    assert side.streams.receiving.window.consumed == 0
    side.drain()
    assert not side.streams.streams
    assert side.streams.receiving.window.consumed == 2000
    side.streams.check_invariants()
