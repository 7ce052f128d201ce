"""Pacing: RFC 9002 §7.7 with timers that cannot wait less than a millisecond."""

from __future__ import annotations

import pytest

from quicio.quic.recovery.pacer import Pacer, rate_for

MIB = 1 << 20


def test_the_rate_spreads_the_window_over_a_round_trip() -> None:
    assert rate_for(12000, 0.1, True) == pytest.approx(240000)
    assert rate_for(12000, 0.1, False) == pytest.approx(150000)
    assert Pacer.rate_for(12000, 0.1, False) == rate_for(12000, 0.1, False)
    assert rate_for(12000, 0.0, False) > 0  # an RTT below the clock's grain divides by no zero


def test_the_first_burst_is_ten_datagrams() -> None:
    pacer = Pacer(granularity=0.0)
    assert pacer.budget(0.0, 100000.0, 0, 1200, MIB) == 12000


def test_the_burst_never_exceeds_the_window_but_allows_a_datagram() -> None:
    assert Pacer(granularity=0.0).budget(0.0, 100000.0, 0, 1200, 5000) == 5000
    assert Pacer(granularity=0.0).budget(0.0, 100000.0, 0, 1200, 500) == 1200


def test_a_burst_holds_two_milliseconds_of_a_fast_path_or_the_controllers_quantum() -> None:
    assert Pacer(granularity=0.0).budget(0.0, 100e6, 0, 1200, MIB) == 200000
    assert Pacer(granularity=0.0).budget(0.0, 100e6, 30000, 1200, MIB) == 30000


def test_credit_accrues_over_the_time_that_passed() -> None:
    pacer = Pacer(granularity=0.0)
    rate = 1e6
    assert pacer.budget(0.0, rate, 0, 1200, MIB) == 12000
    pacer.on_sent(12000)
    assert pacer.budget(0.001, rate, 0, 1200, MIB) == 0  # 1,000 bytes: less than a datagram
    assert pacer.budget(0.0024, rate, 0, 1200, MIB) == 2400
    assert pacer.budget(9.0, rate, 0, 1200, MIB) == 12000  # a pause earns one burst, no more


def test_waits_under_the_granularity_are_not_waited() -> None:
    pacer = Pacer(granularity=0.001)
    rate = 2e6
    budget = pacer.budget(0.0, rate, 0, 1200, MIB)
    assert budget == 12000 + 2000  # a millisecond is lent
    pacer.on_sent(budget)
    assert pacer.budget(0.0, rate, 0, 1200, MIB) == 0
    assert pacer.budget(0.0007, rate, 0, 1200, MIB) == 1400


def test_a_waiting_sender_wakes_when_a_batch_may_go() -> None:
    pacer = Pacer(granularity=0.0)
    rate = 1e6
    pacer.on_sent(pacer.budget(1.0, rate, 0, 1200, MIB))
    assert pacer.next_time(1.0) == pytest.approx(1.0024)  # two datagrams
    assert pacer.budget(1.0024, rate, 0, 1200, MIB) == pytest.approx(2400, abs=1)
    fast = Pacer(granularity=0.0)
    fast.on_sent(fast.budget(1.0, 100e6, 0, 1200, MIB))
    assert fast.next_time(1.0) == pytest.approx(1.002)  # two milliseconds of the rate
    lent = Pacer(granularity=0.001)
    lent.on_sent(lent.budget(1.0, 100e6, 0, 1200, MIB))
    assert lent.next_time(1.0) == pytest.approx(1.003)


def test_there_is_nothing_to_wait_for_with_credit_or_without_a_rate() -> None:
    pacer = Pacer()
    assert pacer.next_time(3.0) == 3.0
    pacer.budget(3.0, 1e6, 0, 1200, MIB)
    assert pacer.next_time(3.0) == 3.0


@pytest.mark.parametrize("granularity", [0.0, 0.001])
@pytest.mark.parametrize("rate", [20e3, 1.25e6, 50e6])
def test_over_a_second_a_greedy_sender_gets_the_rate_and_one_burst(rate: float, granularity: float) -> None:
    pacer = Pacer(granularity)
    now = 0.0
    sent = 0
    while now < 1.0:
        budget = pacer.budget(now, rate, 0, 1200, 1 << 30)
        size = budget // 1200 * 1200
        pacer.on_sent(size)
        sent += size
        pacer.budget(now, rate, 0, 1200, 1 << 30)
        now = max(pacer.next_time(now), now + 1e-4)
    burst = max(12000, rate * 0.002) + rate * granularity + rate * 0.002
    assert rate - 2 * 1200 <= sent + 2400
    assert sent <= rate + burst + 2400
