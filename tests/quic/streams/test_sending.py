"""What a sender writes: frames that fill packets, credit, resets, what is said when blocked (RFC 9000 §3.1, §4.1, §19.8)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.streams import ROOM, Pair, Side, parse
from quicio.quic.component import Token
from quicio.quic.events import StopSendingReceived, StreamDelivered, StreamWritable
from quicio.quic.streams import stream as states
from quicio.quic.streams.sending import MIN_FRAME_ROOM, MIN_RUN
from quicio.quic.wire import constants as c
from quicio.quic.wire.packet_builder import PacketBuilder


def open_pair(max_data: int = 1 << 40, max_stream_data: int = 1 << 40) -> Pair:
    """The server grants the client much, or as told."""
    return Pair(Side(True), Side(False, max_data=max_data, max_stream_data=max_stream_data, window_limit=1 << 41))


def test_a_frame_that_fills_the_packet_has_no_length(pair: Pair) -> None:
    pair.client.streams.send(0, bytes(5000), True)
    packets = pair.client.write_all()
    assert [packet.payload[0] for packet in packets] == [0x08, 0x0C, 0x0C, 0x0C, 0x0F]
    assert [len(packet.payload) for packet in packets[:4]] == [1160] * 4


@given(
    size=st.integers(0, 1200),
    room=st.integers(MIN_FRAME_ROOM, 1200),
    offset=st.sampled_from([0, 1, 63, 64, 16383, 16384, (1 << 30) - 1, 1 << 30]),
    fin=st.booleans(),
)
def test_frames_of_any_size_fit_and_parse(size: int, room: int, offset: int, fin: bool) -> None:
    pair = open_pair()
    streams = pair.client.streams
    streams.send(0, b"", False)
    half = streams.streams[0].send
    assert half is not None
    half.buffer.next_offset = half.buffer.end = half.buffer.acked_to = offset
    streams.sending.sent = offset
    streams.send(0, bytes(size), fin)
    position = offset
    ends = []
    for packet in pair.client.write_all(room):
        assert len(packet.payload) <= room
        for _, (name, (stream_id, start, data, is_end)) in parse(packet.payload):
            assert (name, stream_id, start) == ("on_stream_frame", 0, position)
            assert isinstance(data, bytes)
            position += len(data)
            ends.append(is_end)
    assert position == offset + size
    assert ends.count(True) == fin
    assert not fin or ends[-1]


def test_a_large_packet_has_a_length_of_four_bytes() -> None:
    pair = open_pair()
    pair.client.streams.send(0, bytes(20_000), True)
    packet = pair.client.write(40_000)
    assert packet.payload[:6] == b"\x0b\x00" + (20_000 | 0x80000000).to_bytes(4, "big")


def test_a_lost_frame_is_cut_to_fit(pair: Pair) -> None:
    pair.client.streams.send(0, bytes(range(250)) * 4, True)
    pair.client.write().lost()
    packets = pair.client.write_all(300)
    assert len(packets) == 4
    for packet in packets:
        pair.deliver(packet)
    pair.settle()
    assert pair.server.data(0) == bytes(range(250)) * 4
    assert pair.server.ended == {0}
    pair.client.streams.send(4, bytes(298), True)
    pair.client.write(300).lost()
    assert [packet.payload[0] for packet in pair.client.write_all(300)] == [0x09]


def test_a_fin_alone_is_a_frame(pair: Pair) -> None:
    pair.client.streams.send(0, b"abc", False)
    pair.step()
    pair.client.streams.send(0, b"", True)
    packet = pair.client.write()
    assert packet.payload == b"\x0f\x00\x03\x00"
    packet.lost()
    again = pair.client.write()
    assert again.payload == packet.payload
    pair.deliver(again)
    packet.lost()
    assert not pair.client.write().payload
    pair.settle()
    assert pair.server.ended == {0}


def test_an_announcement_creates_the_stream(pair: Pair) -> None:
    pair.client.streams.open(False)
    pair.client.streams.announce(0)
    packet = pair.client.write()
    assert packet.payload == b"\x0a\x00\x00"
    packet.lost()
    pair.deliver(pair.client.write())
    assert set(pair.server.streams.streams) == {0}
    assert not pair.server.drain()
    pair.client.streams.announce(0)
    pair.client.streams.send(0, b"x", False)  # announces by itself
    pair.client.streams.announce(0)
    assert parse(pair.client.write().payload) == [(0x0A, ("on_stream_frame", (0, 0, b"x", False)))]
    pair.client.streams.announce(0)
    assert not pair.client.write().payload


def test_stream_credit_holds_and_is_asked_for() -> None:
    pair = open_pair(max_stream_data=1000)
    pair.client.streams.send(0, bytes(1500), True)
    packet = pair.client.write()
    assert len(packet.payload) < 1100
    blocked = pair.client.write()
    assert parse(blocked.payload) == [(c.STREAM_DATA_BLOCKED, ("on_stream_data_blocked", (0, 1000)))]
    assert not pair.client.streams.pending
    blocked.lost()
    assert pair.client.write().payload == blocked.payload
    pair.client.streams.on_max_stream_data(0, 900)  # lower: ignored
    assert not pair.client.streams.pending
    pair.client.streams.on_max_stream_data(0, 1500)
    blocked.lost()
    assert parse(pair.client.write().payload)[0][1] == ("on_stream_frame", (0, 1000, bytes(500), True))
    assert not pair.client.write().payload


def test_connection_credit_holds_new_data_and_lets_repairs_through() -> None:
    pair = open_pair(max_data=1000)
    pair.client.streams.send(0, bytes(1500), True)
    pair.client.streams.send(4, b"", True)
    packets = pair.client.write_all()
    frames = [frame for packet in packets for frame in parse(packet.payload)]
    assert (c.DATA_BLOCKED, ("on_data_blocked", (1000,))) in frames
    data = [call[1][2] for _, call in frames if call[0] == "on_stream_frame"]
    assert sorted(data, key=str) == [b"", bytes(1000)]
    assert [packet for packet in packets if c.DATA_BLOCKED in packet.frame_types()] == packets[-1:]
    for packet in packets:
        packet.lost()
    again = [kind for packet in pair.client.write_all() for kind in packet.frame_types()]
    assert again.count(c.DATA_BLOCKED) == 1
    assert pair.client.streams.sending.sent == 1000
    pair.check()
    pair.client.streams.on_max_data(999)
    assert not pair.client.streams.pending
    pair.client.streams.on_max_data(1500)
    packets[-1].lost()
    assert c.DATA_BLOCKED not in pair.client.write().frame_types()
    assert pair.client.streams.sending.sent == 1500


def test_data_sent_before_parameters_waits_for_them() -> None:
    client = Side(True)
    client.streams.send(0, b"early", True)
    client.streams.send(2, b"uni", True)
    assert not [kind for packet in client.write_all() for kind in packet.frame_types() if kind & ~7 == c.STREAM]
    server = Side(False)
    client.streams.on_parameters(server.parameters)
    for packet in client.write_all():
        server.read(packet.payload)
    server.drain()
    assert (server.data(0), server.data(2)) == (b"early", b"uni")


def test_lower_parameters_do_not_shrink_limits(pair: Pair) -> None:
    """The handshake's values come after those remembered for 0-RTT and may not be lower (RFC 9000 §7.4.1)."""
    pair.client.streams.on_parameters(Side(False, max_data=1, max_stream_data=1).parameters)
    pair.check()
    pair.client.streams.send(0, bytes(5000), True)
    pair.settle()
    assert pair.server.ended == {0}


def test_reset_is_written_until_acknowledged(pair: Pair) -> None:
    pair.client.streams.send(0, bytes(3000), False)
    data = pair.client.write()
    pair.client.streams.reset(0, 77)
    packet = pair.client.write()
    assert parse(packet.payload) == [(c.RESET_STREAM, ("on_reset_stream", (0, 77, 1158)))]
    data.lost()
    packet.lost()
    packet.lost()
    assert pair.client.write().payload == packet.payload
    assert not pair.client.write().payload
    packet.acked()
    half = pair.client.streams.streams[0].send
    assert half is not None
    assert half.state == states.SEND_RESET_RECVD
    packet.lost()
    assert not pair.client.write().payload
    pair.client.streams.reset(0, 78)
    assert not pair.client.write().payload


def test_a_reset_may_open_a_stream(pair: Pair) -> None:
    pair.client.streams.reset(2, 5)
    pair.settle()
    assert not pair.client.streams.streams
    assert not pair.server.streams.streams


def test_stop_sending_is_answered_with_a_reset(pair: Pair) -> None:
    """RFC 9000 §3.5: the same code goes back, once."""
    pair.client.streams.send(0, bytes(3000), True)
    data = pair.client.write()
    pair.client.streams.on_stop_sending(0, 42)
    pair.client.streams.on_stop_sending(0, 43)
    assert pair.client.take(StopSendingReceived) == [StopSendingReceived(42, 0)]
    assert parse(pair.client.write().payload) == [(c.RESET_STREAM, ("on_reset_stream", (0, 42, 1158)))]
    with pytest.raises(RuntimeError, match="reset"):
        pair.client.streams.send(0, b"more", False)
    data.acked()


def test_stop_sending_after_delivery_is_nothing(pair: Pair) -> None:
    pair.client.streams.send(0, b"x", True)
    pair.settle()
    pair.client.streams.on_stop_sending(0, 42)
    assert not pair.client.drain()
    assert not pair.client.write().payload


def test_send_room_follows_acknowledgements(pair: Pair) -> None:
    streams = pair.client.streams
    streams.native = True
    assert streams.send_room(0) == 1 << 16
    assert streams.next_id(False) == 0
    streams.send(0, bytes(40_000), False)
    assert streams.send_room(0) == (1 << 16) - 40_000
    streams.send(0, bytes(40_000), False)
    assert streams.send_room(0) == 0
    events = []
    packets = pair.client.write_all()
    for packet in packets:
        packet.acked()
        events += pair.client.take(StreamWritable)
        if events:
            break
    assert events == [StreamWritable(0)]
    assert streams.send_room(0) >= 1 << 14
    for packet in packets:
        packet.acked()
    assert not pair.client.take(StreamWritable)


def test_native_events_are_for_those_who_asked(pair: Pair) -> None:
    streams = pair.client.streams
    streams.send(0, bytes(1 << 16), True)
    assert streams.send_room(0) == 0
    pair.settle()
    assert not pair.client.take(StreamWritable)
    assert not pair.client.take(StreamDelivered)


def test_delivery_is_told(pair: Pair) -> None:
    streams = pair.client.streams
    streams.native = True
    streams.send(0, b"all of it", True)
    streams.send(4, b"some of it", False)
    streams.reset(4, 1)
    assert streams.has_unacknowledged_data()
    for packet in pair.client.write_all():
        pair.deliver(packet)
    assert pair.client.take(StreamDelivered) == [StreamDelivered(4), StreamDelivered(0)]
    assert not streams.has_unacknowledged_data()


def test_other_spaces_get_nothing(pair: Pair) -> None:
    pair.client.streams.send(0, b"x", True)
    pair.client.streams.want(c.HANDSHAKE_BIT)
    builder = PacketBuilder(pair.client.path)
    builder.begin(c.HANDSHAKE, pair.client.path, c.FULL, 1000)
    pair.client.streams.write(builder, 0.0)
    assert not builder.pieces
    assert pair.client.streams.pending == c.APPLICATION_BIT


def test_control_frames_wait_for_room(pair: Pair) -> None:
    for stream_id in range(0, 40, 4):
        pair.client.streams.send(stream_id, b"x", False)
        pair.client.streams.reset(stream_id, 1)
    packets = pair.client.write_all(40)
    assert sum(len(packet.frame_types()) for packet in packets) == 10
    assert len(packets) > 1


def test_forgotten_frames_stay_forgotten(pair: Pair) -> None:
    pair.client.streams.send(0, b"x", True)
    for token in pair.client.write().tokens:
        pair.client.streams.on_forgotten(token)
    assert not pair.client.write().payload


def test_a_stream_without_any_credit_asks_for_it() -> None:
    pair = open_pair(max_stream_data=0)
    pair.client.streams.send(0, b"x", False)
    assert parse(pair.client.write().payload) == [(c.STREAM_DATA_BLOCKED, ("on_stream_data_blocked", (0, 0)))]
    half = pair.client.streams.streams[0].send
    assert half is not None
    assert half.state == states.SEND_SEND


def test_a_stream_that_goes_on_waiting_asks_at_each_limit() -> None:
    pair = open_pair(max_stream_data=100)
    pair.client.streams.send(0, bytes(1000), False)
    asked = []
    for limit in (100, 200, 300):
        pair.client.streams.on_max_stream_data(0, limit)
        asked += [kind for packet in pair.client.write_all() for kind in packet.frame_types()]
    assert asked.count(c.STREAM_DATA_BLOCKED) == 3
    pair.client.streams.reset(0, 1)
    assert [packet.frame_types() for packet in pair.client.write_all()] == [[c.RESET_STREAM]]


def test_nothing_is_said_of_a_limit_that_has_risen() -> None:
    pair = open_pair(max_data=1000, max_stream_data=2000)
    pair.client.streams.send(0, bytes(3000), False)
    pair.client.write()
    assert pair.client.streams.sending.blocked_due
    pair.client.streams.on_max_data(4000)
    kinds = [kind for packet in pair.client.write_all()[:-1] for kind in packet.frame_types()]
    assert kinds
    assert c.DATA_BLOCKED not in kinds
    pair.client.streams.send(4, bytes(3000), False)
    pair.client.streams.on_max_stream_data(0, 3000)
    assert c.STREAM_DATA_BLOCKED not in pair.client.write().frame_types()


# --- runs of packets --------------------------------------------------------------------------------------------------


def plain(tokens: list[Token]) -> list[tuple[object, ...]]:
    """Tokens without their owner, a half by its ID."""
    return [(token[1], token[2].stream_id, *token[3:]) for token in tokens]


@given(
    offsets=st.lists(st.sampled_from([0, 40, 64, 16000, 16384, (1 << 30) - 3000, 1 << 30]), min_size=1, max_size=3),
    chunks=st.lists(st.sampled_from([1, 700, 1159, 2400, 9000]), min_size=1, max_size=6),
    urgencies=st.lists(st.tuples(st.sampled_from([2, 3]), st.booleans()), min_size=3, max_size=3),
    credit=st.sampled_from([1 << 20, 5000, 1160]),
    count=st.integers(1, 12),
    fin=st.booleans(),
)
def test_a_run_holds_the_frames_that_packets_would_get_one_by_one(
    offsets: list[int], chunks: list[int], urgencies: list[tuple[int, bool]], credit: int, count: int, fin: bool
) -> None:
    """The same bytes and tokens, and the same state behind them, whatever cuts the run short."""
    sides = []
    for _ in range(2):
        side = open_pair(max_stream_data=1 << 41).client
        for index, offset in enumerate(offsets):
            stream_id = 4 * index
            side.streams.set_priority(stream_id, *urgencies[index])
            half = side.streams.streams[stream_id].send
            assert half is not None
            half.buffer.next_offset = half.buffer.end = half.buffer.acked_to = offset
            side.streams.sending.sent += offset
            for size in chunks:
                side.streams.send(stream_id, bytes((index + size & 0xFF,)) * size, False)
            side.streams.send(stream_id, b"", fin)
        side.streams.sending.limit = side.streams.sending.sent + credit
        sides.append(side)
    runs, singles = sides
    frames: list[bytes] = []
    tokens: list[Token] = []
    runs.streams.write_run(ROOM, count, frames, tokens)
    assert len(frames) == len(tokens) <= count
    assert all(len(frame) == ROOM for frame in frames)
    packets = [singles.write() for _ in frames]
    assert frames == [packet.payload for packet in packets]
    assert plain(tokens) == plain([token for packet in packets for token in packet.tokens])
    runs.streams.check_invariants()
    # What is left is written alike by both.
    assert [packet.payload for packet in runs.write_all()] == [packet.payload for packet in singles.write_all()]


def test_bulk_data_goes_by_the_run_and_nothing_else_does() -> None:
    side = open_pair().client
    streams = side.streams
    frames: list[bytes] = []
    tokens: list[Token] = []
    assert not streams.sending.has_bulk()
    streams.send(0, bytes(MIN_RUN), False)
    assert not streams.sending.has_bulk()
    streams.send(0, bytes(20_000), False)
    assert streams.sending.has_bulk()
    streams.write_run(ROOM, 8, frames, tokens)
    assert frames == []  # the first frame of a stream has no offset
    first = side.write()
    streams.write_run(ROOM, 8, frames, tokens)
    assert [frame[0] for frame in frames] == [0x0C] * 8
    assert [token[3] for token in tokens] == [1158 + 1156 * index for index in range(8)]
    first.lost()
    assert not streams.sending.has_bulk()  # repairs go first
    streams.write_run(ROOM, 8, frames, tokens)
    assert len(frames) == 8
    side.write()
    assert streams.sending.has_bulk()
    streams.send(4, b"", False)
    streams.reset(4, 1)
    streams.write_run(ROOM, 8, frames, tokens)
    assert len(frames) == 8  # RESET_STREAM waits
    side.write()
    streams.counts.local[0].maximum = 2
    assert streams.open(False) is None
    streams.write_run(ROOM, 8, frames, tokens)
    assert len(frames) == 8  # STREAMS_BLOCKED waits


def acked_one_by_one_and_together(order: list[int], chunk: int = 3000, room_at: bool = True) -> None:
    """Two senders of 9 packets, the last with FIN, whose packets are acknowledged in `order`."""
    sides = [open_pair().client for _ in range(2)]
    outcomes = []
    for side in sides:
        side.streams.native = True
        for _ in range(3):
            side.streams.send(0, bytes(chunk), False)
        side.streams.send(0, b"", True)
        if room_at:
            side.streams.sending.send_buffer = 3 * chunk
            assert side.streams.send_room(0) == 0
        tokens = [token for packet in side.write_all() for token in packet.tokens]
        ended = [tokens[index] for index in order]
        if side is sides[0]:
            for token in ended:
                side.streams.on_acked(token, 0.0)
        else:
            side.streams.on_acked_run(ended, 0.0)
        side.streams.check_invariants()
        buffered = side.streams.buffered(0)
        outcomes.append((buffered, [type(event) for event in side.events], 0 in side.streams.streams))
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize(
    "order",
    [
        [0, 1, 2, 3, 4, 5, 6, 7],
        [0, 1, 2, 3, 4, 5, 6],
        [7, 0, 1, 2, 3, 4, 5, 6],
        [1, 2, 3, 0, 5, 6, 7],
        [4, 5, 6, 7],
        [0, 0, 1, 1],
    ],
)
def test_acknowledgements_count_the_same_together_as_one_by_one(order: list[int]) -> None:
    acked_one_by_one_and_together(order)
    acked_one_by_one_and_together(order, room_at=False)


def test_a_run_of_acknowledgements_may_hold_other_frames() -> None:
    side = open_pair().client
    streams = side.streams
    streams.native = True
    streams.send(0, bytes(3000), False)
    streams.send(4, bytes(1500), False)
    tokens = [token for packet in side.write_all() for token in packet.tokens]
    streams.reset(4, 9)
    tokens[2:2] = side.write().tokens
    streams.on_acked_run(tokens, 0.0)
    assert (streams.buffered(0), 4 in streams.streams) == (0, True)
    half = streams.streams[4].send
    assert half is not None
    assert half.state == states.SEND_RESET_RECVD
