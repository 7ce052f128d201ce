"""How many streams may exist, in either direction (RFC 9000 §4.6; row 19 of the security table)."""

from __future__ import annotations

import pytest

from helpers.streams import Pair, Side
from quicio.quic.events import StreamsAvailable
from quicio.quic.streams.limits import MAX_WAITING_STREAMS, RESET_BURST, RESETS_PER_SECOND, PeerStreams, StreamCounts
from quicio.quic.wire import constants as c
from quicio.quic.wire.constants import QuicConnectionError


def few(is_client: bool) -> Side:
    return Side(is_client, max_streams_bidi=2, max_streams_uni=4)


@pytest.fixture
def narrow() -> Pair:
    return Pair(few(True), few(False))


def answer_all(pair: Pair, stream_id: int) -> None:
    pair.server.streams.send(stream_id, b"", True)


def test_open_counts_within_the_limit(narrow: Pair) -> None:
    streams = narrow.client.streams
    assert [streams.open(False) for _ in range(3)] == [0, 4, None]
    assert [streams.open(True) for _ in range(5)] == [2, 6, 10, 14, None]
    assert [narrow.server.streams.open(False), narrow.server.streams.open(True)] == [1, 3]


def test_open_before_parameters_is_refused() -> None:
    assert Side().streams.open(False) is None


def test_next_id_reserves_nothing(narrow: Pair) -> None:
    streams = narrow.client.streams
    assert [streams.next_id(False), streams.next_id(False)] == [0, 0]
    streams.send(0, b"x", False)
    assert streams.next_id(False) == 4
    assert streams.next_id(True) == 2
    assert narrow.server.streams.next_id(True) == 3


def test_blocked_is_said_once_a_limit_and_again_when_lost(narrow: Pair) -> None:
    streams = narrow.client.streams
    for _ in range(4):
        streams.open(False)
    packet = narrow.client.write()
    assert packet.frame_types() == [c.STREAMS_BLOCKED_BIDI]
    streams.open(False)
    assert not narrow.client.write().payload
    packet.lost()
    again = narrow.client.write()
    assert again.payload == packet.payload
    streams.on_max_streams(3, False)
    again.lost()
    assert not narrow.client.write().payload


@pytest.mark.parametrize("native", [False, True])
def test_the_wait_for_a_stream_ends_with_the_limit(narrow: Pair, native: bool) -> None:
    narrow.client.streams.native = native
    streams = narrow.client.streams
    for _ in range(3):
        streams.open(False)
    streams.on_max_streams(3, False)
    assert narrow.client.take(StreamsAvailable) == [StreamsAvailable(False)] * native
    streams.on_max_streams(4, False)
    assert not narrow.client.take(StreamsAvailable)
    assert streams.open(False) == 8


def test_a_lower_limit_is_ignored(narrow: Pair) -> None:
    narrow.client.streams.on_max_streams(1, False)
    assert [narrow.client.streams.open(False) for _ in range(2)] == [0, 4]
    narrow.check()


def test_streams_beyond_the_limit_wait_for_it(narrow: Pair) -> None:
    """Code written for aioquic writes to any ID that `next_id` told: it waits, and nothing breaks the peer's limit."""
    streams = narrow.client.streams
    for stream_id in (16, 0, 4, 8, 12):
        streams.send(stream_id, b"data", True)
    streams.reset(12, 7)
    streams.stop(8, 5)
    for _ in range(20):
        narrow.step()
        for stream_id, stream in narrow.server.streams.streams.items():
            if stream.send is not None and stream.send.final_size < 0:
                answer_all(narrow, stream_id)
    narrow.settle()
    assert [stream_id for stream_id in range(0, 20, 4) if narrow.server.data(stream_id) == b"data"] == [0, 4, 8, 16]
    assert not narrow.client.streams.streams
    assert not narrow.server.streams.streams


def test_waiting_streams_are_bounded(narrow: Pair) -> None:
    last = 2 + MAX_WAITING_STREAMS - 1
    narrow.client.streams.send(last * 4, b"x", True)
    with pytest.raises(ValueError, match="beyond the peer's stream limit"):
        narrow.client.streams.send((last + 1) * 4, b"x", True)


def test_more_streams_than_allowed_is_an_error(narrow: Pair) -> None:
    streams = narrow.server.streams
    streams.on_stream_frame(4, 0, b"", False)
    with pytest.raises(QuicConnectionError) as on_stream:
        streams.on_stream_frame(8, 0, b"", False)
    with pytest.raises(QuicConnectionError) as on_reset:
        streams.on_reset_stream(18, 0, 0)
    with pytest.raises(QuicConnectionError) as on_stop:
        streams.on_stop_sending(8, 0)
    with pytest.raises(QuicConnectionError) as on_credit:
        streams.on_max_stream_data(1 << 60, 0)
    for caught in (on_stream, on_reset, on_stop, on_credit):
        assert caught.value.error_code == c.STREAM_LIMIT_ERROR


def test_a_limit_above_2_to_the_60_is_malformed(narrow: Pair) -> None:
    streams = narrow.client.streams
    streams.on_max_streams(1 << 60, False)
    for method, is_unidirectional in (
        (streams.on_max_streams, False),
        (streams.on_max_streams, True),
        (streams.on_streams_blocked, False),
        (streams.on_streams_blocked, True),
    ):
        with pytest.raises(QuicConnectionError) as caught:
            method((1 << 60) + 1, is_unidirectional)
        assert caught.value.error_code == c.FRAME_ENCODING_ERROR
    streams.on_streams_blocked(1, True)


def test_the_target_stays_a_valid_limit() -> None:
    peer = PeerStreams(0, 1 << 60)
    peer.note_closed(0)
    assert peer.target() == 1 << 60
    assert not peer.is_due()


def test_max_streams_is_batched_and_repeated_when_lost() -> None:
    pair = Pair(Side(True), Side(False, max_streams_uni=8))
    streams = pair.server.streams
    for index in range(3):
        streams.on_stream_frame(index * 4 + 2, 0, b"", True)
    streams.collect_events(0.0)
    pair.server.drain()
    assert not pair.server.write().payload
    streams.on_stream_frame(14, 0, b"", True)
    streams.collect_events(0.0)
    pair.server.drain()
    packet = pair.server.write()
    assert packet.payload == bytes((c.MAX_STREAMS_UNI, 12))
    packet.lost()
    assert pair.server.write().payload == packet.payload
    packet.lost()
    assert pair.server.write(20).payload == b""  # no room yet
    assert pair.server.streams.pending
    assert pair.server.write().payload == packet.payload
    pair.check()


def test_a_native_stream_keeps_its_place_until_it_is_released() -> None:
    """Row 19: opening and abandoning streams does not give the peer more streams than handlers have ended."""
    pair = Pair(Side(True), few(False))
    pair.server.streams.native = pair.server.streams.hold_all = True
    for stream_id in (0, 4):
        pair.client.streams.send(stream_id, b"x", False)
    pair.step()
    for stream_id in (0, 4):
        pair.client.streams.reset(stream_id, 1)
        pair.server.streams.reset(stream_id, 1)
    pair.settle()
    assert pair.client.streams.open(False) is None
    assert set(pair.server.streams.streams) == {0, 4}
    pair.server.streams.release(0)
    pair.server.streams.release(0)
    pair.settle()
    assert set(pair.server.streams.streams) == {4}
    assert pair.client.streams.open(False) == 8
    assert pair.client.streams.open(False) is None


def test_by_default_the_place_comes_back_when_both_sides_are_closed() -> None:
    pair = Pair(Side(True), few(False))
    for stream_id in (0, 4):
        pair.client.streams.send(stream_id, b"x", True)
    pair.settle()
    assert pair.client.streams.open(False) is None
    for stream_id in (0, 4):
        answer_all(pair, stream_id)
    pair.settle()
    assert pair.client.streams.open(False) == 8


def test_a_peer_that_has_little_left_gets_places_early() -> None:
    """Most streams live long: the few that close are given back although they are far from half a window."""
    pair = Pair(Side(True), Side(False, max_streams_uni=16))
    streams = pair.server.streams
    for index in range(15):
        streams.on_stream_frame(index * 4 + 2, 0, b"", index == 3)
    streams.collect_events(0.0)
    pair.server.drain()
    assert pair.server.write().payload == bytes((c.MAX_STREAMS_UNI, 17))
    pair.check()


def test_places_of_reset_streams_come_back_at_a_bounded_rate() -> None:
    """security.md row 19: RESET_BURST at once, then RESETS_PER_SECOND; streams that end well are not held back."""
    counts = StreamCounts(0, RESET_BURST + 100, 100)
    peer = counts.peer[0]
    counts.refill(10.0)
    for index in range(RESET_BURST + 50):
        counts.note_closed(peer, index, True)
    assert peer.closed == RESET_BURST
    assert counts.withheld == 50
    counts.note_closed(peer, RESET_BURST + 50, False)
    assert peer.closed == RESET_BURST + 1
    counts.refill(10.0 + 10 / RESETS_PER_SECOND)
    assert counts.withheld == 40
    counts.refill(20.0)
    assert counts.withheld == 0
    assert peer.closed == RESET_BURST + 51
    counts.refill(1e6)  # an idle time earns one burst, no more
    for index in range(RESET_BURST + 51, 2 * RESET_BURST + 100):
        counts.note_closed(peer, index, True)
    assert counts.withheld == 49
