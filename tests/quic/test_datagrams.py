"""DATAGRAM frames: bounds of both queues, what fits, what is counted (RFC 9221)."""

from __future__ import annotations

from collections import deque

import pytest

from helpers.recovery import make_path
from quicio.quic.component import Wants
from quicio.quic.datagrams import (
    FRAME_OVERHEAD,
    MAX_RECEIVED_DATAGRAM_BYTES,
    MAX_RECEIVED_DATAGRAMS,
    Datagrams,
)
from quicio.quic.events import DatagramFrameReceived, DatagramWritable, QuicEvent
from quicio.quic.wire.constants import APPLICATION, APPLICATION_BIT, FULL, PROTOCOL_VIOLATION, QuicConnectionError
from quicio.quic.wire.packet_builder import PacketBuilder


def make(queue_limit: int = 4, announced: int | None = 65535) -> tuple[Datagrams, deque[QuicEvent]]:
    events: deque[QuicEvent] = deque()
    datagrams = Datagrams(Wants(), events, queue_limit=queue_limit, max_frame_size=announced)
    datagrams.on_parameters(65535)
    return datagrams, events


def packet(room: int) -> PacketBuilder:
    builder = PacketBuilder(make_path())
    builder.begin(APPLICATION, builder.path, FULL, room)
    return builder


def test_a_message_is_written_once_and_its_fate_is_counted() -> None:
    datagrams, _ = make()
    assert datagrams.send(b"hello", 1000)
    assert datagrams.pending == APPLICATION_BIT
    builder = packet(1000)
    datagrams.write(builder, 0.0)
    assert b"".join(builder.pieces) == b"\x31\x05hello"
    assert datagrams.pending == 0
    (token,) = builder.tokens
    datagrams.on_acked(token, 1.0)
    datagrams.on_lost(token, 1.0)
    assert (datagrams.sent, datagrams.acked, datagrams.lost) == (1, 1, 1)
    datagrams.write(packet(1000), 0.0)
    assert datagrams.sent == 1  # never sent again


def test_a_message_that_can_never_be_sent_is_refused_at_once() -> None:
    datagrams, _ = make()
    with pytest.raises(ValueError, match="does not fit"):
        datagrams.send(bytes(998), 1000)
    assert datagrams.send(bytes(1000 - FRAME_OVERHEAD), 1000)
    datagrams.on_parameters(100)
    with pytest.raises(ValueError, match="the largest is 97"):
        datagrams.send(bytes(98), 1000)


def test_a_full_queue_refuses_and_tells_when_there_is_room() -> None:
    datagrams, events = make(queue_limit=2)
    datagrams.native = True
    assert datagrams.queue_room() == 2
    assert datagrams.send(b"1", 1000)
    assert datagrams.send(b"2", 1000)
    assert not datagrams.send(b"3", 1000)
    datagrams.write(packet(1000), 0.0)
    assert list(events) == [DatagramWritable()]
    assert datagrams.queue_room() == 2


def test_without_native_events_nobody_is_told() -> None:
    datagrams, events = make(queue_limit=1)
    datagrams.send(b"1", 1000)
    datagrams.send(b"2", 1000)
    datagrams.write(packet(1000), 0.0)
    assert not events


def test_what_does_not_fit_this_packet_waits_for_the_next() -> None:
    datagrams, _ = make()
    datagrams.send(bytes(60), 1000)
    datagrams.send(bytes(60), 1000)
    builder = packet(100)
    datagrams.write(builder, 0.0)
    assert datagrams.sent == 1
    assert datagrams.pending == APPLICATION_BIT
    datagrams.write(packet(100), 0.0)
    assert datagrams.sent == 2


def test_a_message_that_no_longer_fits_any_packet_does_not_block_the_queue() -> None:
    """The path shrank after the message was queued: later ones go on."""
    datagrams, _ = make()
    datagrams.send(bytes(900), 1000)
    datagrams.send(b"small", 1000)
    builder = packet(200)
    datagrams.write(builder, 0.0)
    assert builder.pieces[-1] == b"small"
    assert datagrams.lost == 1


def test_parameters_that_refuse_datagrams_drop_what_waits() -> None:
    datagrams, _ = make()
    datagrams.send(b"early", 1000)
    datagrams.on_parameters(None)
    assert datagrams.pending == 0
    assert datagrams.lost == 1
    assert datagrams.max_size(1000) == 0


def test_received_messages_nobody_takes_are_bounded_in_number() -> None:
    """security.md row 26."""
    datagrams, events = make()
    for _ in range(MAX_RECEIVED_DATAGRAMS + 5):
        datagrams.on_frame(b"x", 3)
    assert len(events) == MAX_RECEIVED_DATAGRAMS
    assert datagrams.dropped == 5
    event = events.popleft()
    assert isinstance(event, DatagramFrameReceived)
    datagrams.on_handed_out(event)
    datagrams.on_frame(b"y", 3)
    assert len(events) == MAX_RECEIVED_DATAGRAMS


def test_received_messages_nobody_takes_are_bounded_in_bytes() -> None:
    """security.md row 26."""
    datagrams, events = make()
    size = 60_000
    for _ in range(30):
        datagrams.on_frame(bytes(size), size + 3)
    assert len(events) == MAX_RECEIVED_DATAGRAM_BYTES // size
    assert datagrams.dropped == 30 - len(events)


@pytest.mark.parametrize("announced", [None, 10])
def test_a_frame_larger_than_announced_is_a_violation(announced: int | None) -> None:
    datagrams, _ = make(announced=announced)
    with pytest.raises(QuicConnectionError) as caught:
        datagrams.on_frame(bytes(9), 11)
    assert caught.value.error_code == PROTOCOL_VIOLATION
