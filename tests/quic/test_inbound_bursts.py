"""The fast way through a burst does what the way of single packets does (`Inbound._open_burst`).

Two victims get the same datagrams in the same batches. One is watched by an observer that makes it forget, with each packet,
what to expect next, so that it never takes the fast way; afterwards nothing may tell the two apart.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quicio.quic.inbound import FOUR_BYTES_END, Inbound
from quicio.quic.observer import Observer
from quicio.quic.paths.path import Path
from quicio.quic.recovery.acks import MAX_RECEIVED_RANGES
from quicio.quic.streams.receiving import MAX_PIECES
from quicio.quic.wire.constants import (
    ECN_CE,
    ECN_ECT_0,
    ECN_ECT_1,
    ECN_NOT_ECT,
    EPOCH_ONE_RTT,
    FLOW_CONTROL_ERROR,
    PROTOCOL_VIOLATION,
    UINT_VAR_MAX,
)
from quicio.quic.wire.crypto import SealingKey
from sim.rude import RudePeer, stream_frame, varint

LIMITS = {"max_data": 6000, "max_stream_data": 4000}
WIDE = {"max_data": 1 << 50, "max_stream_data": 1 << 50}
TRACKER_FIELDS = (
    "ecn_ce",
    "ecn_ect0",
    "ecn_ect1",
    "eliciting",
    "floor",
    "is_urgent",
    "largest",
    "largest_eliciting",
    "largest_time",
    "lowest_unreported",
    "received",
)
NEXT = 20_000  # a first packet number that takes more than one byte


class Forgetful(Observer):
    """Sees to it that the next packet is opened by itself, and no run begun."""

    def __init__(self, inbound: Inbound) -> None:
        self.inbound = inbound

    def on_opened(self, epoch: int, number: int, payload: bytes, path: Path, now: float) -> None:
        self.inbound._next = None


class Pair:
    """A victim that may take the fast way, and one that may not."""

    def __init__(self, **victim: int) -> None:
        self.fast = RudePeer(victim_is_client=False, victim=dict(victim)).to_confirmed()
        self.slow = RudePeer(victim_is_client=False, victim=dict(victim)).to_confirmed()
        self.slow.victim.observe(Forgetful(self.slow.victim._inbound))

    def deliver(self, packets: list[dict[str, Any]], ecn: int = ECN_NOT_ECT) -> None:
        """One batch to both."""
        for rude in (self.fast, self.slow):
            rude.deliver_unheard([short_packet(rude, **fields) for fields in packets], rude.address, ecn)

    def check(self) -> None:
        """Nothing tells them apart, now and after they answered."""
        assert state(self.fast) == state(self.slow)
        for rude in (self.fast, self.slow):
            rude.listen()
        assert self.fast.received == self.slow.received
        assert state(self.fast) == state(self.slow)
        assert taken(self.fast) == taken(self.slow)


def short_packet(
    rude: RudePeer,
    payload: bytes,
    number: int,
    *,
    size: int = 2,
    bits: int = 0,
    spoil: str = "",
    updates: int = 0,
) -> bytes:
    """A 1-RTT packet whose number takes `size` bytes; `bits` are set in its first byte, `spoil` tells what is wrong."""
    key = rude.sealing[EPOCH_ONE_RTT]
    assert key is not None
    for _ in range(updates):
        key = SealingKey.following(key)
    cid = rude.carrier._parts.paths.active.peer_cid
    number_bytes = (number & (1 << 8 * size) - 1).to_bytes(size, "big")
    first = 0x40 | (size - 1) | bits | (key.phase & 1) << 2
    header = bytes((first,)) + cid + number_bytes
    ciphertext = key.seal(number, header, payload)
    mask = key.masks([ciphertext[4 - size : 20 - size]])
    protected = bytes(left ^ right for left, right in zip(number_bytes, mask[1:], strict=False))
    if spoil == "number":
        protected = bytes((protected[0] ^ 1,)) + protected[1:]
    if spoil == "cid":
        cid = bytes(8)
    if spoil == "tag":
        ciphertext = ciphertext[:-1] + bytes((ciphertext[-1] ^ 1,))
    return bytes((first ^ mask[0] & 0x1F,)) + cid + protected + ciphertext


def state(rude: RudePeer) -> list[Any]:
    """All that a burst may have changed."""
    parts = rude.victim._parts
    tracker = parts.acks.trackers[2]
    receiving = parts.streams.receiving
    halves = [stream.receive for stream in parts.streams.streams.values()]
    keys = parts.keys
    return [
        [getattr(tracker, name) for name in TRACKER_FIELDS],
        (parts.acks.pending, parts.acks.deadline, parts.wants.mask, parts.deadline()),
        (receiving.received, receiving.fragment_count, receiving.window.limit, receiving.window.consumed),
        [
            (half.stream_id, half.state, half.received, half.highest, half.emitted, half.final_size, half.end_emitted)
            for half in halves
            if half is not None
        ],
        (keys._highest, keys._lowest, keys._previous_highest, keys.updates, keys.failed),
        rude.victim.statistics(),
        rude.victim.state,
        rude.victim.close_reason,
    ]


def taken(rude: RudePeer) -> list[str]:
    """The events, by what they show."""
    events = []
    while (event := rude.victim.next_event()) is not None:
        events.append(repr(event))
    return events


def bulk(stream_id: int, offset: int, size: int, fin: bool = False) -> bytes:
    """A STREAM frame to the end of the packet, its offset in four bytes as large transfers have it."""
    head = bytes((0x0C | fin,)) + varint(stream_id)
    return head + (offset | 0x80000000).to_bytes(4, "big") + bytes(offset + at & 0xFF for at in range(size))


@st.composite
def bursts(draw: st.DrawFn) -> list[tuple[list[dict[str, Any]], int]]:
    """Batches, mostly of packets in order that go on with a stream, and everything else now and then."""
    number = NEXT
    offsets = {0: 0, 4: 0}
    result = []
    updates = 0
    for _ in range(draw(st.integers(1, 4))):
        batch: list[dict[str, Any]] = []
        size = draw(st.sampled_from((1, 2, 2, 4)))
        for _ in range(draw(st.integers(1, 16))):
            kind = draw(st.sampled_from(("bulk",) * 40 + OTHERS))
            stream_id = draw(st.sampled_from((0, 0, 0, 0, 4)))
            offset = offsets[stream_id]
            length = draw(st.sampled_from((40, 40, 250, 600)))
            fields: dict[str, Any] = {"payload": bulk(stream_id, offset, length), "number": number, "size": size}
            if kind == "bulk":
                offsets[stream_id] += length
            elif kind == "fin":
                fields["payload"] = bulk(stream_id, offset, length, True)
            elif kind == "lengths":
                frame = stream_frame(stream_id, offset, bytes(length))
                fields["payload"] = frame + stream_frame(8, 0, b"again")
                offsets[stream_id] += length
            elif kind == "gap":
                fields["payload"] = bulk(stream_id, offset + 100, length)
            elif kind == "overlap":
                fields["payload"] = bulk(stream_id, max(0, offset - 30), length)
            elif kind == "nothing":
                fields["payload"] = bulk(stream_id, offset, 0)
            elif kind == "frames":
                fields |= {"payload": draw(st.sampled_from(FRAMES)), "size": 4}  # the sample begins behind four bytes
            elif kind == "lost":
                number += draw(st.sampled_from((1, 3, 200)))
                fields["number"] = number
            elif kind == "late":
                fields["number"] = max(NEXT, number - draw(st.integers(1, 4)))
            elif kind == "bits":
                fields["bits"] = draw(st.sampled_from((0x20, 0x20, 0x08)))
            elif kind == "update":
                updates += 1
            elif kind == "size":
                fields["size"] = draw(st.integers(1, 4))
            else:
                fields["spoil"] = kind
            batch.append(fields | {"updates": updates})
            number = max(number, fields["number"]) + 1
        result.append((batch, draw(st.sampled_from((ECN_NOT_ECT, ECN_ECT_0, ECN_ECT_1, ECN_CE)))))
    return result


OTHERS: tuple[str, ...] = (
    "fin",
    "lengths",
    "gap",
    "overlap",
    "nothing",
    "frames",
    "lost",
    "late",
    "bits",
    "update",
    "size",
)
OTHERS += ("tag", "number", "cid")
FRAMES = (
    b"\x01",
    bytes(30),
    b"\x10" + varint(9000),
    b"\x04" + varint(0) + varint(7) + varint(1000),
    b"\x1c\x00\x00\x00",
    b"\x3f",
    b"\x0c",
    b"\xff",
    b"",
)


@given(bursts())
def test_the_fast_way_does_what_the_slow_one_does(batches: list[tuple[list[dict[str, Any]], int]]) -> None:
    """RFC 9000 §12.3, §13.1: whatever comes between the packets of a transfer."""
    pair = Pair(**LIMITS)
    for batch, ecn in batches:
        pair.deliver(batch, ecn)
        pair.check()


@pytest.mark.parametrize("stream_id", [0, 0x40, 0x4000])
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_a_transfer_takes_the_fast_way(stream_id: int, size: int) -> None:
    """The test above would prove nothing if all packets went the slow way: behind a few packets there is a run."""
    pair = Pair(max_data=1 << 20, max_stream_data=1 << 20, max_streams_bidi=1 << 16)
    start = 1 << 14
    batch = [{"payload": stream_frame(stream_id, 0, bytes(start)), "number": NEXT, "size": 4}]
    batch += [
        {"payload": bulk(stream_id, start + 500 * at, 500), "number": NEXT + 1 + at, "size": size} for at in range(30)
    ]
    inbound = pair.fast.victim._inbound
    pair.deliver(batch[:4])
    assert inbound._next is not None
    assert inbound._begin_run()[4:6] == (start + 1500, 1 << 20)  # offset and ceiling
    pair.deliver(batch[4:])
    pair.check()


def test_a_run_passes_no_limit() -> None:
    """RFC 9000 §4.1: credit is checked for every frame, in a run too."""
    for limits in ({"max_data": 2000, "max_stream_data": 9000}, {"max_data": 9000, "max_stream_data": 2000}):
        pair = Pair(**limits)
        pair.deliver([{"payload": bulk(0, 300 * at, 300), "number": NEXT + at} for at in range(8)])
        reason = pair.fast.victim.close_reason
        assert reason is not None
        assert reason.code == FLOW_CONTROL_ERROR
        assert pair.fast.victim._parts.streams.receiving.received == 1800
        pair.check()


def test_a_run_goes_on_over_the_end_of_four_bytes() -> None:
    """RFC 9000 §16: from 2^30 on an offset takes eight bytes, whose first four look like the offset 0 of a run's."""
    pair = Pair(**WIDE)
    for rude in (pair.fast, pair.slow):
        rude.deliver_unheard([short_packet(rude, stream_frame(0, 0, b"x"), NEXT)], rude.address)
        half = rude.victim._parts.streams.streams[0].receive
        assert half is not None
        half.received = half.highest = half.emitted = half.handed = half.returned = FOUR_BYTES_END - 1000
    frames = []
    for at in range(8):
        offset = FOUR_BYTES_END - 1000 + 250 * at
        wide = (offset | 0x80000000).to_bytes(4, "big") if offset < FOUR_BYTES_END else varint(offset)
        frames.append(b"\x0c\x00" + wide + bytes(range(250)))
    pair.deliver([{"payload": frame, "number": NEXT + 1 + at} for at, frame in enumerate(frames)])
    half = pair.fast.victim._parts.streams.streams[0].receive
    assert half is not None
    assert half.received == FOUR_BYTES_END + 1000
    pair.check()


def test_a_run_ends_where_integers_end() -> None:
    """RFC 9000 §19.8: no offset beyond 2^62 - 1, whatever the windows would allow."""
    pair = Pair(**WIDE)
    for rude in (pair.fast, pair.slow):
        rude.deliver_unheard([short_packet(rude, stream_frame(0, 0, b"x"), NEXT)], rude.address)
        receiving = rude.victim._parts.streams.receiving
        half = rude.victim._parts.streams.streams[0].receive
        assert half is not None
        half.received = half.highest = half.emitted = half.handed = half.returned = UINT_VAR_MAX - 1000
        receiving.window.limit = half.window.limit = 1 << 63
    frames = [b"\x0c\x00" + varint(UINT_VAR_MAX - 1000 + 400 * at) + bytes(400) for at in range(3)]
    pair.deliver([{"payload": frame, "number": NEXT + 1 + at} for at, frame in enumerate(frames)])
    assert pair.fast.victim.close_reason is not None
    pair.check()


def test_numbers_in_order_keep_the_bound_on_ranges() -> None:
    """Security row 7: packets that leave a hole before each run are forgotten from the oldest on, with a floor."""
    pair = Pair(max_data=1 << 20, max_stream_data=1 << 20)
    packets = []
    number = NEXT
    for at in range(2 * MAX_RECEIVED_RANGES + 20):
        packets.append({"payload": bulk(0, 50 * at, 50), "number": number, "size": 4})
        number += 1 + at % 2 * 2
    pair.deliver(packets)
    tracker = pair.fast.victim._parts.acks.trackers[2]
    assert len(tracker.received) == MAX_RECEIVED_RANGES
    assert tracker.floor > NEXT
    pair.check()


def test_pieces_of_a_long_run_are_joined() -> None:
    """However many packets one batch has, what waits for the application is few objects."""
    pair = Pair(max_data=1 << 20, max_stream_data=1 << 20)
    pair.deliver([{"payload": bulk(0, 20 * at, 20), "number": NEXT + at} for at in range(MAX_PIECES + 100)])
    pair.check()


def test_reserved_bits_end_a_run() -> None:
    """RFC 9000 §17.3.1."""
    pair = Pair(**LIMITS)
    packets: list[dict[str, Any]] = [{"payload": bulk(0, 100 * at, 100), "number": NEXT + at} for at in range(5)]
    packets[4]["bits"] = 0x18
    pair.deliver(packets)
    reason = pair.fast.victim.close_reason
    assert reason is not None
    assert reason.code == PROTOCOL_VIOLATION
    pair.check()


@pytest.mark.parametrize("frame", [b"\x1c\x00\x00\x00", b"\x1d\x00\x00"])
def test_what_comes_behind_a_close_changes_nothing(frame: bytes) -> None:
    """RFC 9000 §10.2.2: in a run too."""
    pair = Pair(**LIMITS)
    packets = [{"payload": bulk(0, 100 * at, 100), "number": NEXT + at} for at in range(8)]
    packets.insert(5, {"payload": frame + bytes(20), "number": NEXT + 8})
    for at in range(6, 9):
        packets[at]["number"] = NEXT + at + 3
    pair.deliver(packets)
    assert pair.fast.victim._parts.streams.receiving.received == 500
    pair.check()
