"""Loss detection: RFC 9002 §5-§6 and appendix A as timelines with exact numbers, and the rules of the ledger."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.recovery import Bench, Ledger, Recorder, make_path
from quicio.quic.component import Wants
from quicio.quic.congestion.base import CongestionController
from quicio.quic.paths.ecn import CAPABLE, FAILED
from quicio.quic.recovery.loss import MAX_PTO
from quicio.quic.recovery.sent_packets import MAX_LOST_PACKETS, MAX_UNANSWERED
from quicio.quic.wire.constants import (
    ACK,
    APPLICATION,
    ECN_ECT_0,
    HANDSHAKE,
    INITIAL,
    PROTOCOL_VIOLATION,
    QuicConnectionError,
)


def labels(*numbers: int, space: int = APPLICATION) -> list[tuple[int, int]]:
    return [(space, number) for number in numbers]


# Acknowledgments.


def test_an_ack_settles_packets_and_gives_a_sample() -> None:
    bench = Bench()
    for now in (0.0, 0.01, 0.02):
        bench.send(now)
    assert bench.path.in_flight == 3600
    bench.ack(0.12, 0, 1, 2)
    assert bench.path.in_flight == 0
    assert bench.ledger.acked == labels(0, 1, 2)
    assert bench.path.rtt.latest == pytest.approx(0.1)
    (sample,) = bench.controller.samples
    assert (sample.now, sample.acked, sample.prior_in_flight, sample.in_flight) == (0.12, 3600, 3600, 0)
    assert sample.largest_sent_time == 0.02
    assert sample.latest_rtt == sample.smoothed_rtt == sample.min_rtt == pytest.approx(0.1)
    assert sample.delivered == bench.path.delivered == 3600
    assert not sample.is_app_limited
    assert sample.ecn_ce == 0
    assert bench.loss.deadline == inf
    assert bench.controller.sent == [(0.0, 1200, 1200), (0.01, 1200, 2400), (0.02, 1200, 3600)]


def test_a_repeated_ack_changes_nothing() -> None:
    bench = Bench()
    bench.send(0.0)
    bench.ack(0.1, 0)
    bench.ack(0.5, 0)
    assert len(bench.controller.samples) == 1
    assert bench.ledger.acked == labels(0)
    assert bench.path.rtt.latest == pytest.approx(0.1)


def test_an_ack_whose_largest_is_not_new_gives_no_rtt_sample() -> None:
    bench = Bench()
    bench.send(0.0)
    bench.send(0.0)
    bench.ack(0.1, 1)
    bench.ack(0.3, 0, 1)
    assert bench.path.rtt.latest == pytest.approx(0.1)
    assert bench.controller.samples[-1].latest_rtt == 0.0


def test_an_ack_of_nothing_eliciting_gives_no_rtt_sample() -> None:
    bench = Bench()
    bench.send(0.0, eliciting=False)
    bench.ack(9.0, 0, delay=8.9)
    assert not bench.path.rtt.has_sample
    assert bench.controller.samples == []
    assert bench.ledger.acked == labels(0)


def test_the_ack_delay_is_capped_once_the_handshake_is_confirmed() -> None:
    samples = []
    for confirmed in (False, True):
        bench = Bench(confirmed=confirmed)
        bench.send(0.0)
        bench.ack(0.1, 0)
        bench.send(1.0)
        bench.ack(1.2, 1, delay=0.05)
        samples.append(bench.path.rtt.smoothed)
    assert samples == [pytest.approx(0.875 * 0.1 + 0.125 * 0.15), pytest.approx(0.875 * 0.1 + 0.125 * 0.175)]


def test_the_ack_delay_of_initial_packets_is_ignored() -> None:
    bench = Bench(confirmed=False)
    bench.send(0.0, INITIAL)
    bench.ack(0.1, 0, space=INITIAL)
    bench.send(1.0, INITIAL)
    bench.ack(1.2, 1, space=INITIAL, delay=0.05)
    assert bench.path.rtt.smoothed == pytest.approx(0.875 * 0.1 + 0.125 * 0.2)


@pytest.mark.parametrize("numbers", [(0, 1), (5,), (1 << 40,)])
def test_row_6_an_ack_of_an_unsent_packet_is_a_protocol_violation(numbers: tuple[int, ...]) -> None:
    """Row 6: optimistic acknowledgments close the connection, whatever their shape."""
    bench = Bench()
    bench.send(0.0)
    with pytest.raises(QuicConnectionError) as caught:
        bench.ack(0.1, *numbers)
    assert (caught.value.error_code, caught.value.frame_type) == (PROTOCOL_VIOLATION, ACK)
    assert bench.ledger.acked == []


def test_row_6_a_number_that_was_allocated_but_not_sent_is_unsent() -> None:
    """Row 6: nothing is indexed by a number that no packet carried."""
    bench = Bench()
    bench.send(0.0)
    bench.loss.spaces[APPLICATION].allocate(0.0)
    with pytest.raises(QuicConnectionError):
        bench.ack(0.1, 0, 1)


def test_row_6_an_ack_of_a_skipped_number_is_a_protocol_violation() -> None:
    """Row 6: the peer acknowledges what it cannot have received."""
    bench = Bench()
    for _ in range(200):
        bench.send(0.0)
    state = bench.loss.spaces[APPLICATION]
    assert state.skipped
    sent = {number for _, number in bench.labels}
    assert sent.isdisjoint(state.skipped)
    with pytest.raises(QuicConnectionError) as caught:
        bench.ack(0.1, *range(state.next_number))
    assert caught.value.error_code == PROTOCOL_VIOLATION
    bench.ack(0.1, *sent)
    assert bench.path.in_flight == 0


def test_row_06_an_ack_of_rejected_early_data_is_a_protocol_violation() -> None:
    """RFC 9001 §4.6.2: the server had no keys for it, or should not have used them."""
    bench = Bench(is_client=True)
    bench.loss.spaces[APPLICATION].rejected_below = 2
    for _ in range(4):
        bench.send(0.0)
    bench.ack(0.1, 2)
    with pytest.raises(QuicConnectionError, match="rejected") as caught:
        bench.ack(0.2, 1, 2, 3)
    assert (caught.value.error_code, caught.value.frame_type) == (PROTOCOL_VIOLATION, ACK)


def test_the_key_phase_of_acknowledged_packets_is_known() -> None:
    bench = Bench()
    known = []
    for phase in (-1, 1, 0):
        bench.ack(1.0, bench.send(0.0, phase=phase))
        known.append(bench.loss.acked_phase)
    assert known == [-1, 1, 1]


# Delivery rate.


def test_the_delivery_rate_is_what_arrived_over_the_longer_of_sending_and_acknowledging() -> None:
    bench = Bench()
    for index in range(10):
        bench.send(index * 0.01)
    bench.ack(0.1, 0)  # 1,200 bytes since 0.0
    assert bench.controller.samples[0].delivery_rate == pytest.approx(12000)
    for index in range(1, 10):
        bench.ack(0.1 + index * 0.01, index)
    # The tenth was sent when nothing had been delivered yet: ten packets over 0.19 s of acknowledging.
    assert bench.controller.samples[-1].delivery_rate == pytest.approx(12000 / 0.19)


def test_an_interval_shorter_than_the_minimum_rtt_gives_no_rate() -> None:
    bench = Bench()
    bench.send(0.0)
    bench.ack(0.1, 0)
    bench.send(0.2)
    bench.send(0.2)
    bench.ack(0.25, 2)
    assert bench.controller.samples[-1].delivery_rate > 0
    bench.path.rtt.minimum = 1.0
    bench.ack(0.26, 1, 2)
    assert bench.controller.samples[-1].delivery_rate == 0.0


def test_packets_sent_while_the_application_was_idle_are_marked() -> None:
    bench = Bench()
    bench.send(0.0)
    bench.loss.on_app_limited(bench.path)
    bench.send(0.0)  # until more than what was in flight is delivered
    bench.ack(0.1, 0)
    bench.ack(0.11, 0, 1)
    bench.ack(0.3, bench.send(0.2))
    bench.loss.on_app_limited(bench.path)  # with nothing in flight
    bench.ack(0.5, bench.send(0.4))
    assert [sample.is_app_limited for sample in bench.controller.samples] == [False, True, False, True]


# Losses.


def test_the_third_later_packet_declares_a_loss() -> None:
    bench = Bench()
    for _ in range(5):
        bench.send(0.0)
    bench.ack(0.1, 1)
    bench.ack(0.1, 1, 2)
    assert bench.ledger.lost == []
    bench.ack(0.1, 1, 2, 3)
    assert bench.ledger.lost == labels(0)
    (batch,) = bench.controller.batches
    assert (batch.now, batch.lost, batch.packets, batch.largest_sent_time) == (0.1, 1200, 1, 0.0)
    assert batch.in_flight == bench.path.in_flight == 1200
    assert not batch.is_persistent
    assert bench.loss.packets_lost == 1
    assert bench.ledger.ended == labels(1, 2, 3)


def test_time_declares_a_loss_nine_eighths_of_an_rtt_after_sending() -> None:
    bench = Bench()
    bench.send(0.0)
    bench.send(0.0)
    bench.ack(0.08, 1)
    assert bench.ledger.lost == []
    assert bench.loss.deadline == pytest.approx(0.09)
    bench.loss.on_timer(bench.loss.deadline)
    assert bench.ledger.lost == labels(0)
    assert bench.loss.pto_count == 0
    assert bench.loss.probes == [0, 0, 0]


def test_a_timer_that_runs_early_declares_nothing() -> None:
    bench = Bench()
    bench.send(0.0)
    bench.send(0.0)
    bench.ack(0.08, 1)
    deadline = bench.loss.deadline
    bench.loss.on_timer(0.0899)
    assert bench.ledger.lost == []
    assert bench.loss.pto_count == 0
    assert bench.loss.deadline == deadline


def test_a_packet_old_enough_is_lost_with_the_ack_that_overtakes_it() -> None:
    bench = Bench()
    bench.send(0.0)
    bench.send(0.05)
    bench.ack(0.06, 1)
    assert bench.ledger.lost == labels(0)


def test_packets_after_the_largest_acknowledged_are_never_lost() -> None:
    bench = Bench()
    bench.send(0.0)
    bench.send(0.0)
    bench.ack(0.1, 0)
    bench.loss.on_timer(bench.loss.deadline)
    assert bench.ledger.lost == []


def test_acks_that_elicit_nothing_are_lost_without_congestion() -> None:
    bench = Bench()
    bench.send(0.0, eliciting=False)
    for _ in range(3):
        bench.send(0.0)
    bench.ack(0.1, 1, 2, 3)
    assert bench.ledger.lost == labels(0)
    assert bench.controller.batches == []


def test_losses_on_several_paths_are_counted_once_each() -> None:
    """What is lost on one path is no loss of another's controller, and no packet is counted twice."""
    bench = Bench()
    others = [make_path(remote=f"other {number}") for number in range(3)]
    bench.send(0.0)
    for path in others:
        bench.send(0.0, path=path)
        bench.send(0.0, path=path)
    for _ in range(3):
        bench.send(0.1)
    bench.ack(0.2, 7, 8, 9)
    assert bench.ledger.lost == labels(*range(7))
    assert bench.loss.packets_lost == 7
    assert [batch.packets for batch in bench.controller.batches] == [1]
    for path in others:
        assert isinstance(path.congestion, Recorder)
        assert [batch.packets for batch in path.congestion.batches] == [2]
        assert path.in_flight == 0


def test_row_18_acks_and_losses_on_a_thousand_paths_take_one_pass() -> None:
    """Row 18: a peer that showed with ever new addresses acknowledges everything at once; nothing recurses by path."""
    bench = Bench()
    bench.loss.spaces[APPLICATION]._next_skip = -1
    for number in range(3000):
        bench.send(0.0, path=make_path(remote=f"path {number}"))
    bench.ack(0.1, *range(1400, 2900))
    assert len(bench.ledger.acked) == 1500
    assert bench.loss.packets_lost == 1400


def test_what_is_in_flight_on_an_abandoned_path_is_lost_without_congestion() -> None:
    bench = Bench()
    gone = make_path(remote="gone")
    bench.send(0.0)
    bench.send(0.0, path=gone)
    bench.send(0.0, path=gone, eliciting=False)
    bench.send(0.0, path=gone)
    bench.send(0.0)
    bench.loss.abandon_path(gone, 0.1)
    assert bench.ledger.lost == labels(1, 3)
    assert bench.loss.packets_lost == 2
    assert gone.in_flight == 0
    assert isinstance(gone.congestion, Recorder)
    assert gone.congestion.batches == []
    assert bench.controller.batches == []
    bench.loss.check_invariants()
    bench.ack(0.2, 0, 1, 4)
    assert bench.ledger.acked == labels(1, 0, 4)
    assert bench.loss.spurious_losses == 1
    bench.loss.abandon_path(gone, 0.3)
    assert bench.loss.packets_lost == 2


def test_a_probe_of_an_abandoned_path_is_settled_for_those_who_share_its_size() -> None:
    """A path to another port of the same host goes on with the datagram size of the first (RFC 9000 §9.4)."""
    bench = Bench()
    bench.send(0.0, size=1400, is_mtu_probe=True)
    mtu = bench.path.mtu
    assert mtu.probe_size(0.1) == 0
    bench.loss.path = make_path(remote="new")
    bench.loss.abandon_path(bench.path, 0.1)
    assert mtu.probe_size(0.1) > 0


def test_row_26_paths_are_not_abandoned_for_ever() -> None:
    """Row 26, `MAX_UNANSWERED`: a peer that moves without end acknowledges something, or the connection ends."""
    bench = Bench()
    with pytest.raises(QuicConnectionError, match="acknowledges nothing") as caught:
        for number in range(MAX_UNANSWERED + 1):
            path = make_path(remote=f"path {number}")
            bench.send(0.0, path=path)
            bench.loss.abandon_path(path, 0.0)
    assert caught.value.error_code == PROTOCOL_VIOLATION
    assert number == MAX_UNANSWERED


def test_a_lost_mtu_probe_is_no_sign_of_congestion() -> None:
    bench = Bench()
    bench.send(0.0, size=1452, is_mtu_probe=True)
    assert bench.path.mtu.probe_size(0.0) == 0
    for _ in range(3):
        bench.send(0.0)
    bench.ack(0.1, 1, 2, 3)
    assert bench.ledger.lost == labels(0)
    assert bench.controller.batches == []
    assert bench.path.in_flight == 0
    assert bench.path.mtu.probe_size(0.1) == 1452  # it may be tried again


def test_an_acknowledged_mtu_probe_raises_the_datagram_size() -> None:
    bench = Bench()
    bench.send(0.0, size=1452, is_mtu_probe=True)
    bench.send(0.0)
    bench.ack(0.1, 0, 1)
    assert bench.path.datagram_size == bench.path.mtu.size == bench.controller.datagram_size == 1452


def test_a_large_packet_that_is_no_probe_does_not_raise_the_size() -> None:
    bench = Bench()
    bench.send(0.0, size=1400)
    bench.ack(0.1, 0)
    assert bench.path.datagram_size == 1200


def test_a_late_ack_of_an_mtu_probe_counts() -> None:
    bench = Bench()
    bench.send(0.0, size=1452, is_mtu_probe=True)
    for _ in range(3):
        bench.send(0.0)
    bench.ack(0.1, 1, 2, 3)
    bench.ack(0.11, 0, 1, 2, 3)
    assert bench.path.datagram_size == 1452
    assert bench.controller.spurious == []


def test_losses_of_large_packets_alone_end_in_the_base_size() -> None:
    bench = Bench()
    bench.send(0.0, size=1452, is_mtu_probe=True)
    bench.ack(0.1, 0)
    number = 0
    for round_start in (1.0, 2.0, 3.0):
        assert bench.path.datagram_size == 1452
        bench.send(round_start, size=1452)
        for _ in range(3):
            number = bench.send(round_start, size=100)
        bench.ack(round_start + 0.1, number - 2, number - 1, number)
    assert bench.path.datagram_size == bench.controller.datagram_size == 1200


def test_congestion_among_large_packets_leaves_the_size() -> None:
    bench = Bench()
    bench.send(0.0, size=1452, is_mtu_probe=True)
    bench.ack(0.1, 0)
    for round_start in (1.0, 2.0, 3.0, 4.0):
        first = bench.send(round_start, size=1452)
        for _ in range(3):
            bench.send(round_start, size=1452)
        bench.ack(round_start + 0.1, first + 1, first + 2, first + 3)
    assert bench.loss.packets_lost == 4
    assert bench.path.datagram_size == 1452


# Lost, but not gone.


def test_a_late_ack_ends_the_token_and_undoes_the_reduction() -> None:
    bench = Bench()
    for _ in range(6):
        bench.send(0.0)
    bench.ack(0.1, 2, 3, 4, 5)
    assert bench.ledger.lost == labels(0, 1)
    bench.ack(0.11, 1, 2, 3, 4, 5)
    assert bench.loss.spurious_losses == 1
    assert bench.controller.spurious == []
    bench.ack(0.12, 0, 1, 2, 3, 4, 5)
    assert bench.controller.spurious == [0.12]
    assert sorted(bench.ledger.acked) == labels(0, 1, 2, 3, 4, 5)  # type: ignore[type-var]  # labels are tuples of ints
    assert bench.ledger.forgotten == []


def test_losses_of_one_recovery_period_are_undone_only_together() -> None:
    bench = Bench()
    for _ in range(8):
        bench.send(0.0)
    bench.ack(0.1, 3)
    assert bench.ledger.lost == labels(0)
    bench.ack(0.101, 3, 7)  # four to six are overtaken too, and so are one and two
    assert bench.ledger.lost == labels(0, 1, 2, 4)
    bench.ack(0.102, 1, 2, 3, 4, 7)
    assert bench.controller.spurious == []
    bench.ack(0.103, 0, 1, 2, 3, 4, 7)
    assert bench.controller.spurious == [0.103]


def test_a_new_recovery_period_is_another_episode() -> None:
    bench = Bench()
    for _ in range(4):
        bench.send(0.0)
    bench.ack(0.1, 1, 2, 3)  # zero is lost
    for _ in range(4):
        bench.send(0.2)
    bench.ack(0.3, 5, 6, 7)  # four is lost, sent after the first period began
    bench.ack(0.31, 0)
    assert bench.controller.spurious == []
    bench.ack(0.32, 4)
    assert bench.controller.spurious == [0.32]


def test_lost_packets_are_forgotten_after_three_ptos() -> None:
    bench = Bench()
    for _ in range(4):
        bench.send(0.0)
    bench.ack(0.1, 1, 2, 3)
    keep = 3 * bench.path.rtt.pto(0.025)
    assert bench.loss.deadline == pytest.approx(0.1 + keep)
    bench.loss.on_timer(bench.loss.deadline)
    assert bench.ledger.forgotten == labels(0)
    assert bench.loss.pto_count == 0
    assert bench.loss.deadline == inf
    bench.ack(9.0, 0, 1, 2, 3)  # nobody remembers it
    assert bench.loss.spurious_losses == 0
    assert (APPLICATION, 0) not in bench.ledger.acked


def test_forgetting_goes_on_while_younger_losses_are_remembered() -> None:
    bench = Bench()
    for start in (0.0, 0.3):
        first = bench.send(start)
        for _ in range(3):
            bench.send(start)
        bench.ack(start + 0.1, first + 1, first + 2, first + 3)
    assert bench.ledger.lost == labels(0, 4)
    bench.loss.on_timer(bench.loss.deadline)
    assert bench.ledger.forgotten == labels(0)
    second = bench.loss.deadline
    assert 0.4 < second < inf
    bench.loss.on_timer(second)
    assert bench.ledger.forgotten == labels(0, 4)


def test_the_number_of_remembered_losses_is_bounded() -> None:
    bench = Bench()
    for _ in range(MAX_LOST_PACKETS + 20):
        bench.send(0.0)
    number = bench.labels[-1][1]
    bench.ack(0.1, number)
    lost = len(bench.ledger.lost)
    assert lost > MAX_LOST_PACKETS
    assert len(bench.loss.spaces[APPLICATION].lost) == MAX_LOST_PACKETS
    assert bench.ledger.forgotten == bench.ledger.lost[: lost - MAX_LOST_PACKETS]


# Persistent congestion (RFC 9002 §7.6).


def run_persistent_congestion_example(acked_between: int | None = None, first_sample: bool = True) -> Bench:
    """Table 1 of RFC 9002 §7.6.3; its PTO of two seconds is arranged by hand. Numbers are one lower than there."""
    bench = Bench()
    bench.send(0.0)
    bench.send(1.0)
    bench.ack(1.2, 0)
    bench.path.rtt.smoothed = 0.2  # the last sample of 0.2 s leaves it, and takes the variance to 0.44375
    bench.path.rtt.variance = 0.44375 / 0.75
    bench.path.rtt.minimum = 0.05
    bench.path.rtt.first_sample_time = 0.5 if first_sample else 2.5
    for now in (2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 12.0):
        bench.send(now)
    if acked_between is not None:
        bench.loss.spaces[APPLICATION].sent[acked_between - 1] = None  # as an earlier ACK would leave it
        bench.path.in_flight -= 1200
        bench.loss.spaces[APPLICATION].eliciting_in_flight -= 1
    bench.ack(12.2, 8)
    assert bench.path.rtt.pto(0.025) == pytest.approx(2.0)  # 0.2 + 4 × 0.44375 + 0.025
    return bench


def test_rfc_example_of_persistent_congestion() -> None:
    bench = run_persistent_congestion_example()
    assert bench.ledger.lost == labels(1, 2, 3, 4, 5, 6, 7)
    (batch,) = bench.controller.batches
    assert batch.is_persistent
    assert bench.path.rtt.minimum == pytest.approx(0.2)


def test_an_acknowledgment_in_between_breaks_persistent_congestion() -> None:
    bench = run_persistent_congestion_example(acked_between=4)
    assert bench.ledger.lost == labels(1, 2, 3, 5, 6, 7)
    assert not bench.controller.batches[0].is_persistent
    assert bench.path.rtt.minimum == 0.05


def test_persistent_congestion_counts_from_the_first_rtt_sample() -> None:
    bench = run_persistent_congestion_example(first_sample=False)
    assert not bench.controller.batches[0].is_persistent


def test_persistent_congestion_needs_a_sample_and_eliciting_packets() -> None:
    bench = Bench()
    bench.send(0.0)
    bench.send(50.0)
    bench.send(60.0, eliciting=False)
    bench.ack(60.1, 2)
    assert len(bench.ledger.lost) == 2
    assert not bench.controller.batches[0].is_persistent
    bench = Bench()
    bench.send(0.0)
    bench.ack(0.1, 0)
    bench.send(1.0, eliciting=False, in_flight=True)
    bench.send(50.0, eliciting=False, in_flight=True)
    bench.send(60.0)
    bench.ack(60.1, 3)
    assert len(bench.ledger.lost) == 2
    assert not bench.controller.batches[0].is_persistent


def test_packets_lost_earlier_and_skipped_numbers_do_not_break_persistent_congestion() -> None:
    bench = Bench()
    bench.send(0.0)
    bench.ack(0.1, 0)
    state = bench.loss.spaces[APPLICATION]
    first = bench.send(1.0)
    early = bench.send(1.5)
    state.next_number += 1
    state.skipped.insert(0, early + 1)
    state.lost[early] = state.sent[early - state.base]  # type: ignore[assignment]  # it is a packet, not None
    state.lost_numbers.append(early)
    lost = state.lost[early]
    lost.lost_time, lost.episode = 2.0, None
    state.sent[early - state.base] = None
    state.eliciting_in_flight -= 1
    bench.path.in_flight -= 1200
    last = bench.send(3.0)
    newest = bench.send(6.0)
    bench.ack(6.1, newest)
    assert bench.ledger.lost == labels(first, last)
    assert bench.controller.batches[0].is_persistent


# The probe timeout (RFC 9002 §6.2).


def test_the_pto_follows_the_last_eliciting_packet() -> None:
    bench = Bench()
    bench.send(0.0)
    bench.ack(0.1, 0)  # PTO: 0.1 + 4 × 0.05 + 0.025
    bench.send(1.0)
    assert bench.loss.deadline == pytest.approx(1.325)
    bench.send(1.2)
    assert bench.loss.deadline == pytest.approx(1.525)
    bench.send(1.3, eliciting=False)
    assert bench.loss.deadline == pytest.approx(1.525)
    bench.loss.on_timer(bench.loss.deadline)
    assert bench.loss.probes == [0, 0, 2]
    assert bench.loss.pto_count == bench.loss.probe_timeouts == 1
    assert bench.ledger.lost == []
    oldest = bench.loss.oldest_unacked(APPLICATION)
    assert oldest is not None
    assert oldest.number == 1


def test_the_pto_backs_off_and_an_ack_resets_it() -> None:
    bench = Bench()
    bench.send(0.0)
    bench.ack(0.1, 0)
    bench.send(1.0)
    now = bench.loss.deadline
    bench.loss.on_timer(now)
    bench.send(now)
    assert bench.loss.deadline == pytest.approx(now + 0.65)
    bench.loss.on_timer(bench.loss.deadline)
    bench.send(2.0)
    assert bench.loss.deadline == pytest.approx(2.0 + 1.3)
    bench.ack(2.1, 3)
    assert bench.loss.pto_count == 0


def test_a_pto_never_exceeds_a_minute() -> None:
    bench = Bench()
    now = 0.0
    bench.send(now)
    waits = []
    for _ in range(40):
        waits.append(bench.loss.deadline - now)
        now = bench.loss.deadline
        bench.loss.on_timer(now)
        bench.send(now)
    assert waits[0] == pytest.approx(1.024)
    assert waits[1] == pytest.approx(2.048)
    assert max(waits) == pytest.approx(MAX_PTO)
    assert waits[-1] == pytest.approx(MAX_PTO)
    assert bench.loss.pto(APPLICATION) == MAX_PTO


def test_a_pto_that_could_send_nothing_does_not_fire_again_at_once() -> None:
    bench = Bench()
    bench.send(0.0)
    bench.loss.on_timer(500.0)
    assert bench.loss.deadline > 500.0


def test_the_peers_max_ack_delay_counts_in_the_application_space_alone() -> None:
    bench = Bench()
    bench.loss.max_ack_delay = 0.5
    bench.send(0.0)
    assert bench.loss.deadline == pytest.approx(0.999 + 0.5)
    assert bench.loss.pto(HANDSHAKE) == pytest.approx(0.999)


def test_application_data_has_no_pto_before_the_handshake_is_confirmed() -> None:
    bench = Bench(confirmed=False)
    bench.send(0.0)
    assert bench.loss.deadline == inf
    bench.send(0.1, HANDSHAKE)
    assert bench.loss.deadline == pytest.approx(1.099)
    bench.loss.on_timer(bench.loss.deadline)
    assert bench.loss.probes == [0, 2, 0]
    bench.loss.on_handshake_confirmed()
    bench.ack(1.1, 0, space=HANDSHAKE)
    assert bench.loss.deadline < inf


def test_the_earlier_of_initial_and_handshake_is_probed_and_the_other_joins() -> None:
    bench = Bench(confirmed=False)
    bench.send(0.0, HANDSHAKE)
    bench.send(0.1, INITIAL)
    assert bench.loss.deadline == pytest.approx(0.999)
    bench.loss.on_timer(bench.loss.deadline)
    assert bench.loss.probes == [1, 2, 0]
    assert bench.loss.deadline == pytest.approx(0.999 + 1.998)


def test_confirmed_application_data_joins_a_handshake_probe() -> None:
    bench = Bench()
    bench.send(0.0, HANDSHAKE)
    bench.send(0.0)
    bench.loss.on_timer(bench.loss.deadline)
    assert bench.loss.probes == [0, 2, 1]


def test_a_client_keeps_probing_until_the_server_has_its_address_validated() -> None:
    bench = Bench(is_client=True, confirmed=False)
    bench.send(0.0, INITIAL)
    bench.ack(0.1, 0, space=INITIAL)  # everything is acknowledged, yet the server may be blocked
    assert bench.loss.deadline == pytest.approx(0.1 + 0.3)
    bench.loss.on_timer(bench.loss.deadline)
    assert bench.loss.probes == [1, 0, 0]
    bench.loss.probes[INITIAL] = 0
    bench.loss.has_handshake_keys = True
    bench.loss.set_deadline(0.4)
    assert bench.loss.deadline == pytest.approx(0.4 + 0.6)
    bench.loss.on_timer(bench.loss.deadline)
    assert bench.loss.probes == [0, 1, 0]
    bench.send(1.0, HANDSHAKE)
    bench.ack(1.1, 0, space=HANDSHAKE)
    assert bench.loss.peer_address_validated
    assert bench.loss.deadline == inf


def test_a_client_with_nothing_but_early_data_in_flight_probes_too() -> None:
    bench = Bench(is_client=True, confirmed=False)
    bench.send(0.0, phase=-1)
    assert bench.loss.deadline == pytest.approx(0.999)
    bench.loss.on_timer(bench.loss.deadline)
    assert bench.loss.probes == [1, 0, 0]


def test_an_initial_ack_does_not_reset_a_clients_backoff() -> None:
    bench = Bench(is_client=True, confirmed=False)
    bench.send(0.0, INITIAL)
    bench.loss.on_timer(bench.loss.deadline)
    bench.send(1.0, INITIAL)
    bench.ack(1.1, 0, 1, space=INITIAL)
    assert bench.loss.pto_count == 1
    server = Bench(is_client=False, confirmed=False)
    server.send(0.0, INITIAL)
    server.loss.on_timer(server.loss.deadline)
    server.ack(1.1, 0, space=INITIAL)
    assert server.loss.pto_count == 0


def test_a_blocked_server_arms_no_pto_and_catches_up_when_unblocked() -> None:
    bench = Bench(confirmed=False)
    bench.send(0.0, INITIAL)
    bench.loss.amplification_blocked = True
    bench.loss.on_timer(bench.loss.deadline)  # armed before the limit was hit
    assert bench.loss.pto_count == 0
    assert bench.loss.deadline == inf
    bench.loss.amplification_blocked = False
    bench.loss.rearm(0.5)
    assert bench.loss.deadline == pytest.approx(0.999)
    bench.loss.amplification_blocked = True
    bench.loss.set_deadline(0.6)
    bench.loss.amplification_blocked = False
    bench.loss.rearm(5.0)  # it would have expired meanwhile (RFC 9002 §A.6)
    assert bench.loss.probes[INITIAL] == 2


def test_probes_offer_the_frames_of_the_oldest_packets_again() -> None:
    bench = Bench()
    bench.send(0.0, eliciting=False)
    bench.send(0.0, size=1452, is_mtu_probe=True)
    for _ in range(3):
        bench.send(0.0)
    assert bench.loss.offer_probes(APPLICATION, 2, 1.0) == 2
    assert bench.ledger.probed == labels(2, 3)
    assert bench.loss.offer_probes(APPLICATION, 9, 1.0) == 3
    assert bench.loss.offer_probes(INITIAL, 1, 1.0) == 0
    assert bench.loss.oldest_unacked(INITIAL) is None
    oldest = bench.loss.oldest_unacked(APPLICATION)
    assert oldest is not None
    assert oldest.number == 1
    assert bench.ledger.ended == []


def test_timeouts_in_a_row_take_large_datagrams_back_to_the_base() -> None:
    bench = Bench()
    bench.send(0.0, size=1452, is_mtu_probe=True)
    bench.ack(0.1, 0)
    bench.send(1.0, size=1452)
    for _ in range(3):
        assert bench.path.datagram_size == 1452
        bench.loss.on_timer(bench.loss.deadline)
    assert bench.path.datagram_size == 1200


# Ends.


def test_discarding_a_space_forgets_its_packets_and_starts_the_timers_anew() -> None:
    bench = Bench(confirmed=False)
    for _ in range(5):
        bench.send(0.0, INITIAL)
    bench.send(0.0, HANDSHAKE)
    bench.ack(0.1, 2, 3, space=INITIAL)
    assert bench.ledger.lost == labels(0, space=INITIAL)
    bench.loss.on_timer(bench.loss.deadline)
    bench.loss.probes[INITIAL] = 2
    bench.loss.pto_count = 3
    bench.loss.on_space_discarded(INITIAL)
    bench.loss.check_invariants()
    assert bench.path.in_flight == 1200
    assert bench.loss.pto_count == 0
    assert bench.loss.probes == [0, 0, 0]
    assert len(bench.ledger.ended) == len(set(bench.ledger.ended)) == 5
    bench.loss.discard(INITIAL)  # again: nothing is left
    assert len(bench.ledger.ended) == 5
    assert bench.controller.batches[-1].packets <= 1


def test_forgetting_a_space_for_retry_keeps_its_numbers_going() -> None:
    bench = Bench(is_client=True, confirmed=False)
    bench.send(0.0, INITIAL)
    bench.loss.on_timer(bench.loss.deadline)
    bench.loss.forget_space(INITIAL)
    assert bench.path.in_flight == 0
    assert bench.controller.batches == []
    assert bench.ledger.forgotten == labels(0, space=INITIAL)
    assert bench.loss.deadline == pytest.approx(0.999 + 0.999)  # the anti-deadlock timer, without backoff
    assert bench.send(2.0, INITIAL) == 1
    bench.ack(2.1, 1, space=INITIAL)
    assert bench.ledger.acked == labels(1, space=INITIAL)
    bench.ack(2.2, 0, 1, space=INITIAL)
    assert bench.ledger.acked == labels(1, space=INITIAL)


# ECN.


def test_ecn_counts_validate_the_path_and_report_new_ce_marks() -> None:
    bench = Bench()
    for _ in range(4):
        bench.send(0.0, ecn=ECN_ECT_0)
    bench.ack(0.1, 0, 1, ecn=(2, 0, 0))
    assert bench.path.ecn.state == CAPABLE
    bench.ack(0.11, 0, 1, 2, 3, ecn=(3, 0, 1))
    assert [sample.ecn_ce for sample in bench.controller.samples] == [0, 1]


@pytest.mark.parametrize("counts", [None, (1, 0, 0), (2, 1, 0), (5, 0, 0)], ids=["missing", "few", "ect1", "many"])
def test_counts_that_cannot_be_disable_ecn(counts: tuple[int, int, int] | None) -> None:
    bench = Bench()
    bench.send(0.0, ecn=ECN_ECT_0)
    bench.send(0.0, ecn=ECN_ECT_0)
    bench.ack(0.1, 0, 1, ecn=counts)
    assert bench.path.ecn.state == FAILED


def test_counts_that_shrink_disable_ecn() -> None:
    bench = Bench()
    for _ in range(3):
        bench.send(0.0, ecn=ECN_ECT_0)
    bench.ack(0.1, 0, 1, ecn=(1, 0, 1))
    bench.ack(0.1, 0, 1, 2, ecn=(2, 0, 0))
    assert bench.path.ecn.state == FAILED


def test_ce_marks_on_packets_that_are_not_in_flight_are_reported_too() -> None:
    bench = Bench()
    bench.send(0.0, eliciting=False, ecn=ECN_ECT_0)
    bench.ack(0.1, 0, ecn=(0, 0, 1))
    (sample,) = bench.controller.samples
    assert (sample.ecn_ce, sample.acked, sample.largest_sent_time) == (1, 0, 0.0)


def test_a_reordered_ack_never_fails_ecn() -> None:
    bench = Bench()
    for _ in range(4):
        bench.send(0.0, ecn=ECN_ECT_0)
    bench.ack(0.1, 3, ecn=(3, 0, 0))
    bench.ack(0.1, 2, 3, ecn=(2, 0, 0))  # sent earlier, arrives later
    bench.ack(0.1, 1, 2, 3)
    assert bench.path.ecn.state == CAPABLE


def test_acks_without_counts_do_not_matter_to_unmarked_packets() -> None:
    bench = Bench()
    bench.send(0.0)
    bench.ack(0.1, 0)
    assert bench.path.ecn.mark() == ECN_ECT_0


def test_when_all_marked_test_packets_are_lost_marking_ends() -> None:
    bench = Bench()
    for _ in range(10):
        bench.send(0.0, ecn=bench.path.ecn.mark())
    assert bench.path.ecn.mark() == 0
    for _ in range(3):
        bench.send(0.0)
    bench.ack(0.1, 10, 11, 12)
    assert bench.path.ecn.state == FAILED


# Several paths.


def test_each_path_keeps_its_own_books() -> None:
    bench = Bench()
    other_controller = Recorder()
    other = make_path(other_controller, "elsewhere")
    bench.send(0.0)
    bench.send(0.0, path=other)
    bench.send(0.01)
    assert (bench.path.in_flight, other.in_flight) == (2400, 1200)
    bench.ack(0.11, 0, 1, 2)
    assert (bench.path.in_flight, other.in_flight) == (0, 0)
    assert [sample.acked for sample in bench.controller.samples] == [2400]
    assert [sample.acked for sample in other_controller.samples] == [1200]
    assert other_controller.samples[0].latest_rtt == 0.0
    assert bench.path.rtt.has_sample
    assert not other.rtt.has_sample


def test_losses_are_told_path_by_path() -> None:
    bench = Bench()
    other_controller = Recorder()
    other = make_path(other_controller, "elsewhere")
    bench.send(0.0)
    bench.send(0.0, path=other, size=500)
    for _ in range(4):
        bench.send(0.0)
    bench.ack(0.1, 3, 4, 5)
    (mine,), (theirs,) = bench.controller.batches, other_controller.batches
    assert (mine.packets, mine.lost, mine.in_flight) == (2, 2400, 0)
    assert (theirs.packets, theirs.lost, theirs.in_flight) == (1, 500, 0)
    bench.ack(0.11, 0, 1, 2, 3, 4, 5)
    assert (bench.path.in_flight, other.in_flight) == (0, 0)
    assert bench.loss.spurious_losses == 3


def test_the_time_threshold_is_that_of_the_packets_path() -> None:
    bench = Bench()
    other = make_path(Recorder(), "elsewhere")
    other.rtt.update(0.4, 0.0, 0.0)
    bench.send(0.0)
    bench.send(0.0, path=other)
    bench.send(0.0)
    bench.ack(0.08, 2)
    assert bench.loss.deadline == pytest.approx(0.09)
    bench.loss.on_timer(bench.loss.deadline)
    assert bench.ledger.lost == labels(0)
    assert bench.loss.spaces[APPLICATION].loss_time == pytest.approx(0.45)


# Invariants.


def test_the_invariants_notice_what_is_wrong() -> None:
    def broken() -> Bench:
        bench = Bench()
        for _ in range(8):
            bench.send(0.0)
        bench.ack(0.1, 0, 7)
        bench.loss.check_invariants()
        return bench

    for problem in ("in flight", "eliciting", "tracked as", "at the head", "memory"):
        bench = broken()
        state = bench.loss.spaces[APPLICATION]
        if problem == "in flight":
            bench.path.in_flight += 1
        elif problem == "eliciting":
            state.eliciting_in_flight += 1
        elif problem == "tracked as":
            state.base += 1
        elif problem == "at the head":
            state.sent.insert(0, None)
            state.base -= 1
        else:
            state.lost_numbers.pop()
        with pytest.raises(AssertionError, match=problem):
            bench.loss.check_invariants()


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(0, 2), st.integers(0, 7)),
        st.tuples(st.just("ack"), st.integers(0, 2), st.integers(0, 1 << 12)),
        st.tuples(st.just("wait"), st.integers(1, 400), st.just(0)),
        st.tuples(st.just("timer"), st.just(0), st.just(0)),
        st.tuples(st.just("discard"), st.integers(0, 1), st.just(0)),
    ),
    max_size=70,
)


def play(bench: Bench, steps: list[tuple[str, int, int]], other_path: CongestionController) -> None:
    """Run steps on a bench; every ACK is one that an honest, if confused, peer could send."""
    other = make_path(other_path, "elsewhere")
    now = 0.0
    discarded: set[int] = set()
    for kind, value, detail in steps:
        if kind == "send" and value not in discarded:
            bench.send(
                now,
                value,
                1200 if detail & 1 else 300,
                eliciting=bool(detail & 2),
                ecn=ECN_ECT_0 if detail & 1 else 0,
                path=other if detail & 4 and value == APPLICATION else None,
            )
        elif kind == "ack":
            sent = [number for space, number in bench.labels if space == value]
            chosen = [number for number in sent[-12:] if detail >> (number % 12) & 1]
            if chosen and value not in discarded:
                bench.ack(now, *chosen, space=value, delay=0.001, ecn=(detail, 0, 0) if detail & 1 else None)
        elif kind == "wait":
            now += value / 1000
        elif kind == "timer" and bench.loss.deadline < inf:
            now = max(now, bench.loss.deadline)
            bench.loss.on_timer(now)
        elif kind == "discard" and value not in discarded:
            discarded.add(value)
            bench.loss.discard(value)
        bench.loss.check_invariants()
        if bench.loss.deadline <= now:
            bench.loss.on_timer(now)
            assert bench.loss.deadline > now


@given(STEPS, st.booleans())
def test_every_token_ends_exactly_once_whatever_happens(steps: list[tuple[str, int, int]], is_client: bool) -> None:
    bench = Bench(is_client=is_client)
    play(bench, steps, Recorder())
    for space in (INITIAL, HANDSHAKE, APPLICATION):
        bench.loss.discard(space)
    bench.loss.check_invariants()
    assert bench.path.in_flight == 0
    assert len(bench.ledger.ended) == len(set(bench.ledger.ended))
    assert set(bench.ledger.ended) == set(bench.labels)
    assert len(set(bench.ledger.lost)) == len(bench.ledger.lost)


@given(
    STEPS,
    st.lists(st.lists(st.integers(0, 400), min_size=1, max_size=8, unique=True), max_size=20),
    st.lists(st.floats(0, 1e6), min_size=1, max_size=4),
)
def test_no_ack_raises_anything_but_a_protocol_violation(
    steps: list[tuple[str, int, int]], acks: list[list[int]], delays: list[float]
) -> None:
    bench = Bench()
    play(bench, steps, Recorder())
    for index, bounds in enumerate(acks):
        bounds.sort(reverse=True)
        ranges: list[int] = []
        for position in range(0, len(bounds) - 1, 2):
            ranges += [bounds[position + 1], bounds[position]]
        if not ranges:
            ranges = [bounds[0], bounds[0] + 1]
        try:
            bench.loss.on_ack(index % 3, ranges, delays[index % len(delays)], (index, index, index), 100.0 + index)
        except QuicConnectionError as error:
            assert error.error_code == PROTOCOL_VIOLATION  # noqa: PT017  (any number of them may come, at any place)
        bench.loss.check_invariants()
    assert len(bench.ledger.ended) == len(set(bench.ledger.ended))


def test_row_7_settled_packets_are_not_visited_again() -> None:
    """Row 7: a peer that repeats the same many ranges finds no old packets to walk over."""
    bench = Bench()
    for _ in range(3000):
        bench.send(0.0)
    numbers = [number for _, number in bench.labels]
    bench.ack(0.1, *numbers[::2])
    state = bench.loss.spaces[APPLICATION]
    assert len(state.sent) <= 4
    assert state.base >= numbers[-4]


# --- runs of packets ----------------------------------------------------------------------------------------------------


FACTS = [
    "number",
    "size",
    "sent_time",
    "ack_eliciting",
    "in_flight",
    "space",
    "ecn",
    "phase",
    "is_mtu_probe",
    "delivered",
    "delivered_time",
    "first_sent_time",
    "is_app_limited",
]


def books(bench: Bench) -> list[object]:
    """All that loss detection and the path know of what was sent."""
    state = bench.loss.spaces[APPLICATION]
    path = bench.path
    packets = [packet and [getattr(packet, name) for name in FACTS] for packet in state.sent]
    return [
        packets,
        [packet and [token[1] for token in packet.tokens] for packet in state.sent],
        [state.base, state.eliciting_in_flight, state.last_eliciting_time, state.ect0_sent, state.unanswered],
        [path.in_flight, path.first_sent_time, path.delivered_time, path.ecn.sent, path.ecn.state],
        [bench.loss.deadline, sum(size for _, size, _ in bench.controller.sent), bench.controller.sent[-1][2]],
    ]


@pytest.mark.parametrize("ecn", [0, 2])
@pytest.mark.parametrize("count", [1, 2, 12])
def test_a_run_leaves_the_books_as_its_packets_would_one_by_one(count: int, ecn: int) -> None:
    benches = [Bench(), Bench()]
    for bench in benches:
        by_run = bench is benches[1]
        for now in (1.0, 1.25, 2.5):  # from nothing in flight, on top of others, and application-limited
            if by_run:
                number = bench.loss.spaces[APPLICATION].allocate_run(count)
                tokens = [(bench.ledger, (APPLICATION, number + index)) for index in range(count)]
                bench.loss.on_sent_run(number, 1200, tokens, bench.path, ecn, 1, now)
            else:
                number = bench.send(now, ecn=ecn, phase=1)
                for _ in range(count - 1):
                    bench.send(now, ecn=ecn, phase=1)
            if now == 1.25:
                bench.ack(now + 0.5, number)
                bench.loss.on_app_limited(bench.path)
        bench.loss.check_invariants()
    assert books(benches[0]) == books(benches[1])
    assert benches[0].ledger.acked == benches[1].ledger.acked
    state = benches[1].loss.spaces[APPLICATION]
    assert [packet.is_app_limited for packet in state.sent[-count:] if packet is not None] == [True] * count


def test_a_run_may_begin_behind_a_skipped_number() -> None:
    bench = Bench()
    bench.send(1.0)
    state = bench.loss.spaces[APPLICATION]
    state.next_number += 1
    bench.loss.on_sent_run(state.allocate_run(2), 1200, [(bench.ledger, 7), (bench.ledger, 8)], bench.path, 0, 0, 1.0)
    assert [packet and packet.number for packet in state.sent] == [0, None, 2, 3]
    bench.loss.check_invariants()


def test_tokens_of_one_ack_end_in_the_order_of_their_packets_whoever_wrote_them() -> None:
    bench = Bench()
    other = Ledger(Wants())
    fates: list[object] = []
    bench.ledger.acked = other.acked = fates
    for number in range(4):
        bench.send(1.0)
        packet = bench.loss.spaces[APPLICATION].sent[-1]
        assert packet is not None
        packet.tokens.append((other, f"other {number}"))
    bench.loss.spaces[APPLICATION].sent[1].tokens.pop(0)  # type: ignore[union-attr]  # it was sent above
    bench.ack(2.0, 0, 1, 2, 3)
    expected: list[object] = [(APPLICATION, 0), "other 0", "other 1", (APPLICATION, 2), "other 2"]
    assert fates == [*expected, (APPLICATION, 3), "other 3"]
