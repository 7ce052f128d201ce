"""HyStart++: RFC 9406 §4.2, round by round."""

from __future__ import annotations

from quicio.quic.congestion.base import AckSample
from quicio.quic.congestion.hystart import CSS_ROUNDS, N_RTT_SAMPLE, HyStart


class Rounds:
    """Feeds samples; a round is what is sent between two calls of `round`."""

    def __init__(self) -> None:
        self.hystart = HyStart()
        self.now = 0.0
        self.grown = 0.0

    def sample(self, rtt: float, sent_time: float) -> float:
        sample = AckSample(self.now, 1000, 9000, 8000, sent_time, rtt, rtt, rtt, 0, 0.0, False, 0)
        return self.hystart.growth(sample)

    def round(self, *rtts: float) -> list[float]:
        """One round: its last sample acknowledges a packet sent after the round began."""
        start = self.now
        growth = []
        for index, rtt in enumerate(rtts):
            self.now = start + 0.1 + index * 0.001
            growth.append(self.sample(rtt, start if index == len(rtts) - 1 else start - 0.001))
        return growth


def begin(rtt: float = 0.1) -> Rounds:
    """The first sample ends the round that never began."""
    rounds = Rounds()
    rounds.round(rtt)
    return rounds


def test_steady_round_trips_never_leave_slow_start() -> None:
    rounds = begin()
    for _ in range(20):
        assert rounds.round(*[0.1] * 10) == [1000.0] * 10
    assert not rounds.hystart.in_css
    assert not rounds.hystart.is_done


def test_a_rise_of_an_eighth_slows_growth_to_a_quarter() -> None:
    rounds = begin()
    rounds.round(*[0.1] * 10)
    assert rounds.round(*[0.112] * 10) == [1000.0] * 10  # below 0.1 + 0.1 / 8
    growth = rounds.round(*[0.126] * 12)  # at 0.112 + 0.014
    assert rounds.hystart.in_css
    assert growth == [1000.0] * N_RTT_SAMPLE + [250.0] * 4


def test_the_threshold_is_clamped_to_four_and_sixteen_milliseconds() -> None:
    for before, after, leaves in (
        (0.010, 0.0135, False),
        (0.010, 0.0145, True),
        (0.400, 0.4155, False),
        (0.400, 0.4165, True),
    ):
        rounds = begin(before)
        rounds.round(*[before] * 10)
        rounds.round(*[after] * 10)
        assert rounds.hystart.in_css is leaves


def test_too_few_samples_decide_nothing() -> None:
    rounds = begin()
    rounds.round(*[0.1] * 10)
    rounds.round(*[0.2] * (N_RTT_SAMPLE - 1))
    assert not rounds.hystart.in_css


def test_acks_without_an_rtt_sample_count_for_growth_alone() -> None:
    rounds = begin()
    rounds.round(*[0.1] * 10)
    assert rounds.round(*[0.2] * 7, *[0.0] * 10) == [1000.0] * 17
    assert not rounds.hystart.in_css


def test_without_a_round_before_there_is_nothing_to_compare() -> None:
    rounds = begin(0.0)
    assert rounds.round(*[0.2] * 10)[-1] == 1000.0
    assert rounds.round(*[0.3] * 10)[-1] == 250.0


def test_the_minimum_of_the_round_counts() -> None:
    rounds = begin()
    rounds.round(*[0.1] * 10)
    rounds.round(0.1, *[0.3] * 20)
    assert not rounds.hystart.in_css


def test_five_rounds_of_conservative_slow_start_end_it() -> None:
    rounds = begin()
    rounds.round(*[0.1] * 10)
    rounds.round(*[0.15] * 10)  # in the middle of this round: it counts
    for completed in range(1, CSS_ROUNDS):
        assert rounds.hystart.css_rounds == completed
        assert not rounds.hystart.is_done
        rounds.round(*[0.15] * 10)
    assert rounds.hystart.is_done


def test_a_fall_below_the_baseline_resumes_slow_start() -> None:
    rounds = begin()
    rounds.round(*[0.1] * 10)
    growth = rounds.round(*[0.15] * 10)
    assert growth[-1] == 250.0
    growth = rounds.round(*[0.11] * 10)
    assert growth[-1] == 1000.0
    assert rounds.hystart.css_rounds == 0
    growth = rounds.round(*[0.2] * 10)  # and is watched again
    assert growth[-1] == 250.0
