"""Which streams exist, who may use them, and what misuse raises (RFC 9000 §2.1, §3.3, §19)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.streams import Pair, Side, parse
from quicio.quic.events import StreamDataReceived
from quicio.quic.streams.collection import Streams
from quicio.quic.wire import constants as c
from quicio.quic.wire.constants import QuicConnectionError

CLIENT_BIDI, SERVER_BIDI, CLIENT_UNI, SERVER_UNI = 0, 1, 2, 3


@pytest.mark.parametrize(
    ("stream_id", "frame"),
    [
        (CLIENT_UNI, lambda s, i: s.on_stream_frame(i, 0, b"x", False)),
        (CLIENT_UNI, lambda s, i: s.on_reset_stream(i, 0, 0)),
        (CLIENT_UNI, lambda s, i: s.on_stream_data_blocked(i, 0)),
        (SERVER_UNI, lambda s, i: s.on_stop_sending(i, 0)),
        (SERVER_UNI, lambda s, i: s.on_max_stream_data(i, 10)),
        (CLIENT_BIDI, lambda s, i: s.on_stream_frame(i, 0, b"x", False)),
        (CLIENT_BIDI, lambda s, i: s.on_reset_stream(i, 0, 0)),
        (CLIENT_BIDI, lambda s, i: s.on_stream_data_blocked(i, 0)),
        (CLIENT_BIDI, lambda s, i: s.on_stop_sending(i, 0)),
        (CLIENT_BIDI, lambda s, i: s.on_max_stream_data(i, 10)),
        (CLIENT_UNI, lambda s, i: s.on_stop_sending(i, 0)),
        (CLIENT_UNI, lambda s, i: s.on_max_stream_data(i, 10)),
    ],
)
def test_frames_for_the_wrong_stream_are_state_errors(
    pair: Pair, stream_id: int, frame: Callable[[Streams, int], None]
) -> None:
    """At a client: the wrong direction, or its own streams before it created them."""
    with pytest.raises(QuicConnectionError) as caught:
        frame(pair.client.streams, stream_id)
    assert caught.value.error_code == c.STREAM_STATE_ERROR
    assert not pair.client.streams.streams


@pytest.mark.parametrize(
    "frame",
    [
        lambda s, i: s.on_stream_frame(i, 0, b"", False),
        lambda s, i: s.on_stream_data_blocked(i, 0),
        lambda s, i: s.on_stop_sending(i, 0),
        lambda s, i: s.on_max_stream_data(i, 10),
    ],
)
def test_any_frame_of_the_peer_creates_its_stream(pair: Pair, frame: Callable[[Streams, int], None]) -> None:
    """RFC 9000 §3.2: and with it those below, which come into being when they are named."""
    streams = pair.server.streams
    frame(streams, 8)
    assert set(streams.streams) == {8}
    streams.on_stream_frame(4, 0, b"x", False)
    assert set(streams.streams) == {4, 8}
    assert streams.counts.peer[0].opened == 3
    pair.check()


def test_frames_for_finished_streams_are_ignored(pair: Pair) -> None:
    pair.client.streams.send(0, b"x", True)
    pair.settle()
    pair.server.streams.send(0, b"y", True)
    pair.settle()
    for streams in (pair.client.streams, pair.server.streams):
        assert not streams.streams
        streams.on_stream_frame(0, 0, b"x", True)
        streams.on_reset_stream(0, 0, 1)
        streams.on_stop_sending(0, 0)
        streams.on_max_stream_data(0, 1 << 30)
        streams.on_stream_data_blocked(0, 0)
        streams.collect_events(0.0)
        assert not streams.streams
        assert not streams.pending
        streams.reset(0, 1)
        streams.stop(0, 1)
        streams.consume(0, 1)
        streams.release(0)
        streams.hold_credit(0)
        streams.set_priority(0, 1, True)
        streams.on_handed_out(StreamDataReceived(b"", False, 0))
        with pytest.raises(ValueError, match="finished"):
            streams.send(0, b"z", False)
        with pytest.raises(ValueError, match="finished"):
            streams.send_room(0)
    assert not pair.client.events
    assert not pair.server.events
    pair.check()


def test_a_delivered_half_cannot_be_written_to(pair: Pair) -> None:
    pair.client.streams.send(0, b"x", True)
    pair.settle()
    assert 0 in pair.client.streams.streams
    with pytest.raises(ValueError, match="finished"):
        pair.client.streams.send(0, b"", True)


def test_sending_where_one_cannot_raises(pair: Pair) -> None:
    streams = pair.client.streams
    for stream_id in (SERVER_UNI, SERVER_UNI + 4):
        with pytest.raises(ValueError, match="peer's unidirectional"):
            streams.send(stream_id, b"x", False)
    pair.server.streams.send(SERVER_UNI, b"x", False)
    pair.step()
    with pytest.raises(ValueError, match="peer's unidirectional"):
        streams.send(SERVER_UNI, b"x", False)
    with pytest.raises(ValueError, match="unknown"):
        streams.send(SERVER_BIDI, b"x", False)
    with pytest.raises(ValueError, match="unknown"):
        streams.send(-4, b"x", False)
    with pytest.raises(TypeError, match="bytes, bytearray or memoryview"):
        streams.send(0, "text", False)  # type: ignore[arg-type]  # what the test is about
    streams.send(0, b"x", False)
    streams.reset(0, 1)
    for call in (streams.announce, streams.send_room):
        with pytest.raises(RuntimeError, match="reset"):
            call(0)


def test_data_after_the_end_raises(pair: Pair) -> None:
    pair.client.streams.send(0, b"x", True)
    pair.client.streams.send(0, b"", True)
    with pytest.raises(RuntimeError, match="ended"):
        pair.client.streams.send(0, b"y", False)


def test_commands_on_the_wrong_stream_raise(pair: Pair) -> None:
    streams = pair.client.streams
    pair.server.streams.send(SERVER_UNI, b"x", False)
    pair.server.streams.send(SERVER_BIDI, b"x", False)
    pair.step()
    streams.open(True)
    with pytest.raises(ValueError, match="use stop"):
        streams.reset(SERVER_UNI, 0)
    with pytest.raises(ValueError, match="use reset"):
        streams.stop(CLIENT_UNI, 0)
    for stream_id in (CLIENT_BIDI, CLIENT_UNI + 4, SERVER_BIDI + 4):
        for call in (lambda i: streams.stop(i, 0), lambda i: streams.consume(i, 0), streams.release):
            with pytest.raises(ValueError, match="unknown"):
                call(stream_id)
    for code in (-1, 1 << 62):
        for command in (streams.reset, streams.stop):
            with pytest.raises(ValueError, match="error code"):
                command(SERVER_BIDI, code)
    for urgency in (-1, 8):
        with pytest.raises(ValueError, match="urgency"):
            streams.set_priority(SERVER_BIDI, urgency, False)
    with pytest.raises(ValueError, match="hold_credit"):
        streams.consume(SERVER_BIDI, 1)
    streams.set_priority(SERVER_UNI, 1, False)  # nothing to send there: nothing to do
    streams.hold_credit(CLIENT_UNI)
    streams.consume(CLIENT_UNI, 5)
    streams.release(CLIENT_UNI)


def test_mutable_buffers_are_copied(pair: Pair) -> None:
    buffer = bytearray(b"before")
    pair.client.streams.send(0, buffer, False)
    pair.client.streams.send(0, memoryview(buffer), True)
    buffer[:] = b"after!"
    pair.settle()
    assert pair.server.data(0) == b"beforebefore"


def test_bytes_are_kept_by_reference(pair: Pair) -> None:
    data = bytes(1000)
    pair.client.streams.send(0, data, False)
    half = pair.client.streams.streams[0].send
    assert half is not None
    assert half.buffer.chunks[0] is data


def test_both_sides_may_open_streams_of_both_kinds(pair: Pair) -> None:
    for side in (pair.client, pair.server):
        for is_unidirectional in (False, True):
            stream_id = side.streams.open(is_unidirectional)
            assert stream_id is not None
            side.streams.send(stream_id, b"hello %d" % stream_id, True)
    pair.settle()
    assert {i: pair.server.data(i) for i in (0, 2)} == {0: b"hello 0", 2: b"hello 2"}
    assert {i: pair.client.data(i) for i in (1, 3)} == {1: b"hello 1", 3: b"hello 3"}
    assert set(pair.client.streams.streams) == {0, 1}


def test_each_type_of_stream_has_its_own_first_credit() -> None:
    client = Side(True)
    server = Side(False)
    client.parameters.initial_max_stream_data_bidi_local = 10  # streams that the client opens
    client.parameters.initial_max_stream_data_bidi_remote = 20
    client.parameters.initial_max_stream_data_uni = 30
    server.streams.on_parameters(client.parameters)
    server.streams.on_stream_frame(CLIENT_BIDI, 0, b"", False)
    sizes = {}
    for stream_id in (CLIENT_BIDI, SERVER_BIDI, SERVER_UNI):
        server.streams.send(stream_id, bytes(100), False)
    for packet in server.write_all():
        for kind, (_, arguments) in parse(packet.payload):
            if kind & ~7 == c.STREAM:
                sizes[arguments[0]] = len(arguments[2])  # type: ignore[arg-type]  # the frame's data
    assert sizes == {CLIENT_BIDI: 10, SERVER_BIDI: 20, SERVER_UNI: 30}


ANY_FRAME = st.one_of(
    st.tuples(
        st.just("on_stream_frame"), st.integers(0, 40), st.integers(0, 3000), st.binary(max_size=50), st.booleans()
    ),
    st.tuples(st.just("on_reset_stream"), st.integers(0, 40), st.integers(0, 9), st.integers(0, 3000)),
    st.tuples(st.just("on_stop_sending"), st.integers(0, 40), st.integers(0, 9)),
    st.tuples(st.just("on_max_data"), st.integers(0, 1 << 62)),
    st.tuples(st.just("on_max_stream_data"), st.integers(0, 40), st.integers(0, 1 << 62)),
    st.tuples(st.just("on_max_streams"), st.integers(0, 1 << 61), st.booleans()),
    st.tuples(st.just("on_data_blocked"), st.integers(0, 1 << 62)),
    st.tuples(st.just("on_stream_data_blocked"), st.integers(0, 40), st.integers(0, 1 << 62)),
    st.tuples(st.just("on_streams_blocked"), st.integers(0, 1 << 61), st.booleans()),
)


@given(st.lists(ANY_FRAME, max_size=30), st.booleans())
def test_any_frames_raise_connection_errors_alone(frames: list[tuple[str, object]], native: bool) -> None:
    """Rows 13 and 26: whatever the peer sends, nothing else is raised, and what is held stays within limits."""
    side = Side(False, max_data=8000, max_stream_data=2500, max_streams_bidi=6, max_streams_uni=6)
    side.streams.native = side.streams.hold_all = native
    side.streams.on_parameters(Side(True).parameters)
    side.streams.send(1, bytes(100), False)
    side.streams.send(3, bytes(100), True)
    for name, *arguments in frames:
        try:
            getattr(side.streams, name)(*arguments)
        except QuicConnectionError:
            break
        side.streams.collect_events(0.0)
        side.streams.check_invariants()
        side.drain()
        for packet in side.write_all():
            packet.acked()
        side.streams.check_invariants()
