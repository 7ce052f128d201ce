"""Round-trip estimation: RFC 9002 §5 by its numbers."""

from __future__ import annotations

import pytest

from quicio.quic.recovery.rtt import K_GRANULARITY, RttEstimator


def test_before_any_sample_the_initial_rtt_gives_a_pto_of_a_second() -> None:
    rtt = RttEstimator()
    assert not rtt.has_sample
    assert (rtt.smoothed, rtt.variance) == (0.333, 0.1665)
    assert rtt.pto(0.0) == pytest.approx(0.999)
    assert RttEstimator(0.1).pto(0.025) == pytest.approx(0.325)


def test_the_first_sample_replaces_the_initial_estimate_and_ignores_the_ack_delay() -> None:
    rtt = RttEstimator()
    rtt.update(0.1, 0.05, 7.0)
    assert (rtt.smoothed, rtt.variance, rtt.minimum, rtt.latest) == (0.1, 0.05, 0.1, 0.1)
    assert rtt.has_sample
    assert rtt.first_sample_time == 7.0
    rtt.update(0.1, 0.0, 8.0)
    assert rtt.first_sample_time == 7.0


def test_later_samples_are_averaged_less_the_ack_delay() -> None:
    rtt = RttEstimator()
    rtt.update(0.1, 0.0, 1.0)
    rtt.update(0.2, 0.02, 2.0)  # adjusted 0.18
    assert rtt.variance == pytest.approx(0.75 * 0.05 + 0.25 * 0.08)
    assert rtt.smoothed == pytest.approx(0.875 * 0.1 + 0.125 * 0.18)
    assert (rtt.minimum, rtt.latest) == (0.1, 0.2)
    variance, smoothed = rtt.variance, rtt.smoothed
    rtt.update(0.08, 0.0, 3.0)
    assert rtt.minimum == 0.08
    assert rtt.variance == pytest.approx(0.75 * variance + 0.25 * (smoothed - 0.08))


def test_an_ack_delay_never_takes_a_sample_below_the_minimum() -> None:
    rtt = RttEstimator()
    rtt.update(0.1, 0.0, 1.0)
    rtt.update(0.11, 0.02, 2.0)  # would be 0.09
    assert rtt.smoothed == pytest.approx(0.875 * 0.1 + 0.125 * 0.11)


def test_pto_counts_at_least_the_granularity_for_the_variance() -> None:
    rtt = RttEstimator()
    for now in range(60):
        rtt.update(0.05, 0.0, float(now))
    assert rtt.variance < K_GRANULARITY / 4
    assert rtt.pto(0.025) == pytest.approx(0.05 + 0.001 + 0.025)


def test_loss_delay_is_nine_eighths_of_the_longer_rtt_and_at_least_the_granularity() -> None:
    rtt = RttEstimator()
    rtt.update(0.08, 0.0, 1.0)
    assert rtt.loss_delay() == pytest.approx(0.09)
    rtt.update(0.16, 0.0, 2.0)
    assert rtt.loss_delay() == pytest.approx(0.18)
    rtt.update(0.04, 0.0, 3.0)
    assert rtt.loss_delay() == pytest.approx(9 / 8 * rtt.smoothed)
    fast = RttEstimator()
    fast.update(0.0001, 0.0, 1.0)
    assert fast.loss_delay() == K_GRANULARITY


def test_persistent_congestion_lets_the_minimum_start_anew() -> None:
    rtt = RttEstimator()
    rtt.update(0.05, 0.0, 1.0)
    rtt.update(0.3, 0.0, 2.0)
    rtt.on_persistent_congestion()
    assert rtt.minimum == 0.3
