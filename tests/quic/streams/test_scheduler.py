"""Whose turn it is (RFC 9218 §4, §10), seen in the frames that are written."""

from __future__ import annotations

from helpers.streams import Pair, parse
from quicio.quic.streams.scheduler import SendQueue
from quicio.quic.streams.stream import SendHalf

BULK = bytes(10_000)


def turns(pair: Pair, count: int) -> list[object]:
    """The stream of the first STREAM frame in each of `count` packets."""
    result: list[object] = []
    for _ in range(count):
        packet = pair.client.write()
        result.append(parse(packet.payload)[0][1][1][0])
        pair.check()
    return result


def fill(pair: Pair, *stream_ids: int) -> None:
    for stream_id in stream_ids:
        pair.client.streams.send(stream_id, BULK, False)


def test_equal_streams_take_turns_a_packet_each(pair: Pair) -> None:
    fill(pair, 0, 4, 8)
    assert turns(pair, 6) == [0, 4, 8, 0, 4, 8]


def test_non_incremental_streams_are_served_one_after_the_other(pair: Pair) -> None:
    fill(pair, 0, 4)
    for stream_id in (0, 4):
        pair.client.streams.set_priority(stream_id, 3, False)
    order = turns(pair, 18)
    assert order == sorted(order, key=str)
    assert set(order) == {0, 4}


def test_the_more_urgent_goes_first(pair: Pair) -> None:
    fill(pair, 0, 4, 8)
    pair.client.streams.set_priority(4, 0, True)
    pair.client.streams.set_priority(0, 7, True)
    order = turns(pair, 20)
    assert order[:9] == [4] * 9
    assert order.index(0) > order.index(8)


def test_a_repair_goes_before_new_data_of_its_urgency(pair: Pair) -> None:
    fill(pair, 0, 4)
    first = pair.client.write()
    first.lost()
    assert turns(pair, 2) == [0, 4]
    payload = pair.client.write().payload
    assert parse(first.payload)[0] not in parse(payload)


def test_a_repair_yields_to_more_urgent_new_data(pair: Pair) -> None:
    fill(pair, 0)
    first = pair.client.write()
    fill(pair, 4)
    pair.client.streams.set_priority(4, 0, True)
    first.lost()
    assert turns(pair, 1) == [4]


def test_a_priority_moves_a_half_in_both_queues(pair: Pair) -> None:
    fill(pair, 0, 4)
    pair.client.write().lost()
    pair.client.streams.set_priority(0, 7, False)
    pair.check()
    assert turns(pair, 3) == [4, 4, 4]


def test_small_streams_share_a_packet(pair: Pair) -> None:
    for stream_id in range(0, 40, 4):
        pair.client.streams.send(stream_id, b"hello", True)
    packets = pair.client.write_all()
    assert len(packets) == 1
    assert len(parse(packets[0].payload)) == 10


def test_a_half_is_queued_once() -> None:
    queue = SendQueue(1)
    half = SendHalf(0, 0)
    queue.add(half)
    queue.add(half)
    assert [len(halves) for halves in queue.queues] == [0, 0, 0, 1, 0, 0, 0, 0]
    queue.remove(half)
    queue.remove(half)
    assert queue.mask == half.queued == 0
