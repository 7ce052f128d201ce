"""Acknowledgments: RFC 9000 §13.2, one decision a burst, bounded by row 7 of the threat table."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.recovery import make_path
from quicio.quic.component import Wants
from quicio.quic.recovery.acks import MAX_RECEIVED_RANGES, Acks
from quicio.quic.wire.constants import (
    ACK,
    ACK_ECN,
    APPLICATION,
    APPLICATION_BIT,
    ECN_CE,
    ECN_ECT_0,
    ECN_ECT_1,
    ECN_NOT_ECT,
    FULL,
    HANDSHAKE,
    HANDSHAKE_BIT,
    INITIAL,
    INITIAL_BIT,
)
from quicio.quic.wire.frames import decode_ack
from quicio.quic.wire.packet_builder import PacketBuilder, Token

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


class Receiver:
    """`Acks` with a clock, and the ACK frames it writes, decoded."""

    def __init__(self) -> None:
        self.wants = Wants()
        self.acks = Acks(self.wants)
        self.builder = PacketBuilder(make_path())
        self.tokens: list[Token] = []

    def receive(
        self, *numbers: int, now: float = 0.0, space: int = APPLICATION, eliciting: bool = True, ecn: int = 0
    ) -> None:
        """One burst."""
        for number in numbers:
            assert not self.acks.is_duplicate(space, number)
            self.acks.on_packet(space, number, eliciting, ecn, now)
        self.acks.end_burst(now)

    def is_due(self) -> bool:
        return bool(self.acks.pending)

    def write(
        self, now: float = 0.0, space: int = APPLICATION, room: int = 1000
    ) -> tuple[list[int], int, tuple[int, int, int] | None] | None:
        """The ACK frame that goes with a packet sent now: ranges, encoded delay, counts; None when there is none."""
        builder = self.builder
        builder.begin(space, builder.path, FULL, room)
        self.acks.write(builder, now)
        if not builder.pieces:
            assert builder.tokens == []
            return None
        frame = builder.pieces[0]
        assert builder.room == room - len(frame)
        assert not builder.ack_eliciting
        assert not builder.in_flight
        ranges, delay, counts, position = decode_ack(frame, 1, frame[0])
        assert frame[0] == (ACK if counts is None else ACK_ECN)
        assert position == len(frame)
        self.tokens += builder.tokens
        return ranges, delay, counts


@pytest.mark.parametrize(("space", "bit"), [(INITIAL, INITIAL_BIT), (HANDSHAKE, HANDSHAKE_BIT)])
def test_handshake_packets_are_acknowledged_at_once(space: int, bit: int) -> None:
    receiver = Receiver()
    receiver.receive(0, space=space)
    assert receiver.acks.pending == bit
    assert receiver.wants.mask == bit
    assert receiver.write(space=space) == ([0, 1], 0, None)
    assert receiver.tokens == [(receiver.acks, space, 0)]
    assert not receiver.is_due()


def test_one_application_packet_waits_for_max_ack_delay() -> None:
    receiver = Receiver()
    receiver.receive(0, now=1.0)
    assert not receiver.is_due()
    assert receiver.acks.deadline == pytest.approx(1.025)
    receiver.acks.on_timer(1.025)
    assert receiver.acks.pending == APPLICATION_BIT
    assert receiver.acks.deadline == inf
    assert receiver.write(now=1.03125) == ([0, 1], 3906, None)  # 31.25 ms in units of 8 µs


def test_the_promised_delay_can_be_another() -> None:
    acks = Acks(Wants(), 0.1)
    acks.on_packet(APPLICATION, 0, True, 0, 1.0)
    acks.end_burst(1.0)
    assert acks.deadline == pytest.approx(1.1)


def test_the_deadline_counts_from_the_first_packet_not_the_last() -> None:
    receiver = Receiver()
    receiver.receive(0, now=1.0)
    receiver.receive(1, now=1.02, eliciting=False)
    assert receiver.acks.deadline == pytest.approx(1.025)


def test_the_second_eliciting_packet_makes_an_ack_due() -> None:
    receiver = Receiver()
    receiver.receive(0)
    receiver.receive(1)
    assert receiver.is_due()
    assert receiver.acks.deadline == inf
    assert receiver.write() == ([0, 2], 0, None)
    receiver.receive(2)  # counting starts anew
    assert not receiver.is_due()


def test_a_burst_gets_one_ack() -> None:
    receiver = Receiver()
    receiver.receive(*range(10))
    assert receiver.write() == ([0, 10], 0, None)
    assert receiver.write() is None
    assert not receiver.is_due()


def test_a_gap_makes_an_ack_due() -> None:
    receiver = Receiver()
    receiver.receive(0)
    receiver.write()
    receiver.receive(2)
    assert receiver.is_due()
    assert receiver.write() == ([2, 3, 0, 1], 0, None)
    receiver.receive(3)  # in order behind the old gap: nothing urgent
    assert not receiver.is_due()


def test_a_connection_that_begins_with_a_gap_acknowledges_at_once() -> None:
    receiver = Receiver()
    receiver.receive(1)
    assert receiver.is_due()


def test_a_hole_that_later_non_eliciting_packets_fill_is_none() -> None:
    receiver = Receiver()
    receiver.receive(0)
    receiver.write()
    receiver.receive(1, 2, eliciting=False)
    receiver.receive(3)
    assert not receiver.is_due()


def test_a_reordered_packet_makes_an_ack_due() -> None:
    receiver = Receiver()
    receiver.receive(0, 2)
    receiver.write()
    receiver.receive(1)
    assert receiver.is_due()
    assert receiver.write() == ([0, 3], 0, None)


def test_a_ce_mark_makes_an_ack_due_and_counts_are_reported() -> None:
    receiver = Receiver()
    receiver.receive(0, ecn=ECN_CE)
    assert receiver.is_due()
    assert receiver.write() == ([0, 1], 0, (0, 0, 1))
    receiver.receive(1, ecn=ECN_ECT_0)
    assert not receiver.is_due()
    receiver.receive(2, ecn=ECN_ECT_1)
    assert receiver.write() == ([0, 3], 0, (1, 1, 1))


def test_ecn_counts_are_kept_by_space() -> None:
    receiver = Receiver()
    receiver.receive(0, space=INITIAL, ecn=ECN_ECT_0)
    receiver.receive(0, 1)
    assert receiver.write(space=INITIAL) == ([0, 1], 0, (1, 0, 0))
    assert receiver.write() == ([0, 2], 0, None)


def test_packets_that_elicit_nothing_never_make_an_ack_due() -> None:
    receiver = Receiver()
    receiver.receive(0, 1, 5, eliciting=False)
    receiver.receive(7, eliciting=False, ecn=ECN_CE)
    assert not receiver.is_due()
    assert receiver.acks.deadline == inf
    assert receiver.write() is None
    receiver.acks.on_timer(1.0)
    assert not receiver.is_due()
    receiver.receive(8)  # the next ACK speaks of them all the same
    assert receiver.write() == ([7, 9, 5, 6, 0, 2], 0, (0, 0, 1))


def test_an_ack_that_is_not_due_goes_along_with_other_frames() -> None:
    receiver = Receiver()
    receiver.receive(0, now=1.0)
    assert not receiver.is_due()
    assert receiver.write(now=1.015625) == ([0, 1], 1953, None)
    assert receiver.acks.deadline == inf


def test_an_ack_that_finds_no_room_stays_due() -> None:
    receiver = Receiver()
    receiver.receive(0, 1)
    assert receiver.write(room=2) is None
    assert receiver.is_due()
    assert receiver.write() == ([0, 2], 0, None)


def test_the_delay_is_that_of_the_largest_packet_and_never_negative() -> None:
    receiver = Receiver()
    receiver.receive(0, now=1.0)
    receiver.receive(5, now=1.008)
    receiver.receive(3, now=1.012)
    ack = receiver.write(now=1.016)
    assert ack is not None
    assert ack[1] == pytest.approx(1000, abs=1)
    receiver.receive(6, 7, now=2.0)
    assert receiver.write(now=1.9) == ([5, 8, 3, 4, 0, 1], 0, None)


def test_duplicates_are_known_in_every_range() -> None:
    receiver = Receiver()
    receiver.receive(0, 1, 4, 5)
    duplicates = [number for number in range(8) if receiver.acks.is_duplicate(APPLICATION, number)]
    assert duplicates == [0, 1, 4, 5]
    assert not receiver.acks.is_duplicate(INITIAL, 0)


def test_what_the_peer_knows_is_not_said_again() -> None:
    receiver = Receiver()
    receiver.receive(0, 1, 4)
    receiver.write()
    receiver.receive(5, 6)
    receiver.acks.on_acked(receiver.tokens[0], 1.0)
    assert receiver.write() == ([5, 7], 0, None)
    # Numbers below are refused: nobody knows any more whether 2 and 3 were received (RFC 9000 §13.2.3).
    assert [receiver.acks.is_duplicate(APPLICATION, number) for number in range(8)] == [True] * 7 + [False]


def test_an_acked_ack_leaves_what_arrived_after_it() -> None:
    receiver = Receiver()
    receiver.receive(0, 1, 4)
    receiver.write()
    receiver.receive(2)
    receiver.acks.on_acked(receiver.tokens[0], 1.0)
    assert receiver.write() == ([4, 5, 2, 3], 0, None)


def test_acked_acks_out_of_order_do_not_lower_the_floor() -> None:
    receiver = Receiver()
    receiver.receive(0, 1)
    receiver.write()
    receiver.receive(2, 3)
    receiver.write()
    receiver.acks.on_acked(receiver.tokens[1], 1.0)
    receiver.acks.on_acked(receiver.tokens[0], 1.0)
    receiver.receive(4)
    assert not receiver.is_due()  # nothing is missing: the ranges below were dropped, not lost
    assert receiver.write() == ([4, 5], 0, None)


def test_pruning_past_non_eliciting_packets_shows_no_gap() -> None:
    receiver = Receiver()
    receiver.receive(0)
    receiver.receive(1, 2, eliciting=False)
    receiver.write()
    receiver.acks.on_acked(receiver.tokens[0], 1.0)
    receiver.receive(3)
    assert not receiver.is_due()


def test_row_7_ranges_are_bounded_and_the_oldest_refused_as_duplicates() -> None:
    """Row 7: a peer that sends every second packet number fills neither memory nor frames."""
    receiver = Receiver()
    for number in range(0, 4 * MAX_RECEIVED_RANGES, 2):
        receiver.acks.on_packet(APPLICATION, number, True, 0, 0.0)
    tracker = receiver.acks.trackers[APPLICATION]
    assert len(tracker.received) == MAX_RECEIVED_RANGES
    oldest = 4 * MAX_RECEIVED_RANGES - 2 * MAX_RECEIVED_RANGES
    assert receiver.acks.is_duplicate(APPLICATION, oldest - 1)
    assert not receiver.acks.is_duplicate(APPLICATION, oldest + 1)
    receiver.acks.end_burst(0.0)
    ack = receiver.write()
    assert ack is not None
    assert len(ack[0]) == 64  # 32 ranges
    assert ack[0][1] == 4 * MAX_RECEIVED_RANGES - 1


def test_a_discarded_space_has_nothing_to_say() -> None:
    receiver = Receiver()
    receiver.receive(0, space=INITIAL)
    receiver.receive(0)
    receiver.acks.on_space_discarded(INITIAL)
    assert not receiver.is_due()
    assert receiver.write(space=INITIAL) is None
    assert receiver.acks.deadline < inf
    receiver.acks.on_space_discarded(APPLICATION)
    assert receiver.acks.deadline == inf


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("packet"), st.integers(0, 60), st.booleans()),
            st.tuples(st.just("burst"), st.just(0), st.booleans()),
            st.tuples(st.just("acked"), st.integers(0, 10), st.booleans()),
        ),
        max_size=80,
    )
)
def test_whatever_arrives_nothing_is_acknowledged_that_was_not_received(steps: list[tuple[str, int, bool]]) -> None:
    receiver = Receiver()
    received: set[int] = set()
    unreported: set[int] = set()
    for kind, value, flag in steps:
        if kind == "packet":
            if not receiver.acks.is_duplicate(APPLICATION, value):
                assert value not in received
                receiver.acks.on_packet(APPLICATION, value, flag, 0, 0.0)
                received.add(value)
                unreported.add(value)
        elif kind == "burst":
            receiver.acks.end_burst(0.0)
            ack = receiver.write()
            if ack is not None:
                said: set[int] = set()
                for index in range(0, len(ack[0]), 2):
                    said.update(range(ack[0][index], ack[0][index + 1]))
                assert unreported <= said <= received
                unreported.clear()
        elif value < len(receiver.tokens):
            receiver.acks.on_acked(receiver.tokens[value], 0.0)
        assert all(receiver.acks.is_duplicate(APPLICATION, number) for number in received)


@pytest.mark.parametrize("ecn", [ECN_NOT_ECT, ECN_ECT_0, ECN_ECT_1, ECN_CE])
@pytest.mark.parametrize("before", [[], [0, 1, 2], [0, 5], [3]])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_run_is_what_its_packets_are(ecn: int, before: list[int], count: int) -> None:
    """RFC 9000 §13.2.1, §13.4.1: counts, order and urgency do not depend on how packets are told."""
    single, together = Acks(Wants()), Acks(Wants())
    for acks in (single, together):
        for number in before:
            acks.on_packet(APPLICATION, number, number != 5, ECN_NOT_ECT, 0.5)
    start = single.trackers[APPLICATION].largest + 1
    for number in range(start, start + count):
        single.on_packet(APPLICATION, number, True, ecn, 1.0)
    together.on_run(APPLICATION, start, start + count, ecn, 1.0)
    states = []
    for acks in (single, together):
        acks.end_burst(1.0)
        tracker = acks.trackers[APPLICATION]
        states.append([getattr(tracker, name) for name in TRACKER_FIELDS] + [acks.deadline, acks.pending])
    assert states[0] == states[1]
