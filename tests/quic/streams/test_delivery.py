"""Two sides over a network that loses, repeats and reorders: every byte arrives once, in order, and credit adds up."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.streams import Link, Pair, Side
from quicio.quic.events import StreamReset

# One action of an application: side, stream, what to do, how much.
ACTIONS = st.lists(
    st.tuples(
        st.booleans(),
        st.integers(0, 5),
        st.sampled_from(["send", "send", "send", "send", "end", "reset", "stop", "priority", "announce", "nothing"]),
        st.integers(0, 3000),
    ),
    max_size=40,
)


class Model:
    """What each side sent, and which streams were abandoned by either."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.sent: dict[tuple[bool, int], bytearray] = {}
        self.ended: set[tuple[bool, int]] = set()
        self.abandoned: set[tuple[bool, int]] = set()  # by the sender's reset or the receiver's stop

    def act(self, is_client: bool, number: int, action: str, size: int) -> None:
        """Do one thing, on a bidirectional stream that the client opened or a unidirectional one of the side's own."""
        side = self.pair.client if is_client else self.pair.server
        if number < 3:
            stream_id = number << 2
            if not is_client and stream_id not in side.streams.streams:
                return
        else:
            stream_id = number - 3 << 2 | (2 if is_client else 3)
        key = (is_client, stream_id)
        half = side.streams.streams[stream_id].send if stream_id in side.streams.streams else None
        is_open = key not in self.ended and key not in self.abandoned and (half is None or half.final_size < 0)
        if action == "send" and is_open:
            data = bytes((size + i) & 0xFF for i in range(size))
            side.streams.send(stream_id, data, False)
            self.sent.setdefault(key, bytearray()).extend(data)
        elif action == "announce" and is_open:
            side.streams.announce(stream_id)
        elif action == "end" and is_open:
            side.streams.send(stream_id, b"", True)
            self.sent.setdefault(key, bytearray())
            self.ended.add(key)
        elif action == "reset" and size < 1000:
            side.streams.reset(stream_id, size)
            self.abandoned.add(key)
        elif action == "stop" and size < 1000 and stream_id in side.streams.streams and number < 3:
            side.streams.stop(stream_id, size)
            self.abandoned.add((not is_client, stream_id))
        elif action == "priority" and stream_id in side.streams.streams:
            side.streams.set_priority(stream_id, size & 7, size & 8 == 0)

    def verify(self) -> None:
        """What arrived is what was sent, or, where it was abandoned, the beginning of it."""
        for (is_client, stream_id), data in self.sent.items():
            sender = self.pair.client if is_client else self.pair.server
            receiver = self.pair.other(sender)
            stream = sender.streams.streams.get(stream_id)
            if stream is not None and stream.send is not None and stream.send.is_waiting:
                assert receiver.data(stream_id) == b"", "sent beyond the stream limit"
            elif (is_client, stream_id) in self.abandoned:
                assert data.startswith(receiver.data(stream_id))
            else:
                assert receiver.data(stream_id) == data
                assert (stream_id in receiver.ended) == ((is_client, stream_id) in self.ended)


def finish(pair: Pair, link: Link) -> None:
    """Let the network become kind and run until nothing is left to do."""
    link.loss = 0.0
    for _ in range(2000):
        pair.client.drain()
        pair.server.drain()
        if link.is_idle():
            return
        link.turn()
    raise AssertionError("The two sides never came to rest")


def small_windows(is_client: bool) -> Side:
    return Side(
        is_client, max_data=5000, max_stream_data=2000, window_limit=20000, max_streams_bidi=2, max_streams_uni=2
    )


@given(actions=ACTIONS, seed=st.integers(0, 1 << 16), small=st.booleans())
@settings(max_examples=120)
def test_every_byte_arrives_over_a_bad_network(
    actions: list[tuple[bool, int, str, int]], seed: int, small: bool
) -> None:
    """Model-based: random writes, ends, resets and stops; loss, spurious loss, probes, repetition, reordering."""
    pair = Pair(small_windows(True), small_windows(False)) if small else Pair()
    link = Link(pair, seed)
    model = Model(pair)
    for is_client, number, action, size in actions:
        model.act(is_client, number, action, size)
        link.turn(2)
        if seed & 1:
            pair.client.drain()
            pair.server.drain()
    finish(pair, link)
    model.verify()
    pair.check()


def test_bulk_transfer_over_a_bad_network() -> None:
    pair = Pair()
    link = Link(pair, 7)
    data = bytes(i * 7 & 0xFF for i in range(500_000))
    stream_id = pair.client.streams.open(False)
    assert stream_id == 0
    pair.client.streams.send(0, data, True)
    pair.client.streams.send(4, data[:1000], True)
    while not (0 in pair.server.ended and 4 in pair.server.ended):
        link.turn(16)
        pair.server.drain()
    assert pair.server.data(0) == data
    assert pair.server.data(4) == data[:1000]


def test_ten_thousand_streams_leave_nothing_behind() -> None:
    """Finished streams are remembered as ranges: row 26 of the security table."""
    pair = Pair()
    for count in range(10_000):
        stream_id = pair.client.streams.open(False)
        assert stream_id == count * 4
        pair.client.streams.send(stream_id, b"question", True)
        for packet in pair.client.write_all():
            pair.deliver(packet)
        pair.server.drain()
        if count % 3 == 0:
            pair.server.streams.reset(stream_id, 1)
        else:
            pair.server.streams.send(stream_id, b"answer", True)
        for packet in pair.server.write_all():
            pair.deliver(packet)
        pair.client.drain()
        for packet in pair.client.write_all() + pair.server.write_all():
            pair.deliver(packet)
        pair.server.received.clear()
        pair.client.received.clear()
        pair.server.ended.clear()
        pair.client.ended.clear()
    pair.settle()
    for side in (pair.client, pair.server):
        assert not side.streams.streams
        assert not side.streams.receiving.readable
        assert not side.streams.sending.resets
    assert pair.client.streams.counts.local[0].finished == pair.server.streams.counts.peer[0].finished
    assert len(pair.client.streams.counts.local[0].finished) == 1
    assert pair.server.streams.counts.peer[0].limit == 10_000 + 16


def test_reset_reaches_a_reader_that_lags() -> None:
    pair = Pair()
    pair.client.streams.send(0, b"x" * 5000, False)
    pair.step(drain=False)
    pair.client.streams.reset(0, 9)
    pair.step(drain=False)
    assert [event.error_code for event in pair.server.take(StreamReset)] == [9]
