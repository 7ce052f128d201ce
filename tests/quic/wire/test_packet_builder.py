"""The packet under construction."""

from __future__ import annotations

from helpers.recovery import make_path
from quicio.quic.component import Component, Wants
from quicio.quic.wire.constants import ACK_ONLY, APPLICATION, FULL, INITIAL
from quicio.quic.wire.packet_builder import PacketBuilder

COMPONENT = Component(Wants())


def builder(room: int = 100) -> PacketBuilder:
    made = PacketBuilder(make_path())
    made.begin(APPLICATION, made.path, FULL, room)
    return made


def test_a_frame_elicits_an_acknowledgement_and_takes_room() -> None:
    packet = builder()
    packet.push(b"frame", (COMPONENT, 1))
    assert packet.pieces == [b"frame"]
    assert packet.tokens == [(COMPONENT, 1)]
    assert packet.room == 95
    assert packet.ack_eliciting
    assert packet.in_flight


def test_a_frame_whose_fate_concerns_nobody_has_no_token() -> None:
    packet = builder()
    packet.push(b"frame", None)
    assert packet.tokens == []
    assert packet.ack_eliciting


def test_header_and_data_of_a_frame_are_not_copied_together() -> None:
    packet = builder()
    data = b"data"
    packet.push_data(b"head", data, (COMPONENT, 2))
    assert packet.pieces == [b"head", b"data"]
    assert packet.pieces[1] is data
    assert packet.room == 92
    assert packet.tokens == [(COMPONENT, 2)]
    assert packet.ack_eliciting
    assert packet.in_flight


def test_an_ack_elicits_nothing_and_is_not_in_flight() -> None:
    """RFC 9002 §2."""
    packet = builder()
    packet.push_ack(b"ack", (COMPONENT, 3))
    assert (packet.pieces, packet.tokens, packet.room) == ([b"ack"], [(COMPONENT, 3)], 97)
    assert not packet.ack_eliciting
    assert not packet.in_flight


def test_the_next_packet_starts_afresh_and_leaves_the_last_one_alone() -> None:
    packet = builder()
    packet.push(b"frame", (COMPONENT, 1))
    pieces, tokens = packet.pieces, packet.tokens
    other = make_path(remote="other")
    packet.begin(INITIAL, other, ACK_ONLY, 50)
    assert (packet.space, packet.path, packet.kind, packet.room) == (INITIAL, other, ACK_ONLY, 50)
    assert (packet.pieces, packet.tokens, packet.ack_eliciting, packet.in_flight) == ([], [], False, False)
    assert (pieces, tokens) == ([b"frame"], [(COMPONENT, 1)])
