"""CUBIC: the figures of RFC 9438 in numbers."""

from __future__ import annotations

from itertools import pairwise
from math import inf

import pytest

from helpers.congestion import Driver
from quicio.quic.congestion.cubic import ALPHA, BETA, CubicController

MSS = 1200


def driver_at(window: int, rtt: float = 0.1) -> Driver:
    """A controller in slow start with a window of `window` bytes."""
    driver = Driver(CubicController(MSS), rtt)
    driver.ack(window - driver.controller.window)
    assert driver.controller.window == window
    return driver


def test_the_constants_follow_from_beta() -> None:
    assert pytest.approx(9 / 17) == ALPHA
    assert BETA == 0.7


def test_a_congestion_event_leaves_seven_tenths() -> None:
    driver = driver_at(120 * MSS)
    assert driver.lose() == 84 * MSS
    assert driver.controller.slow_start_threshold == pytest.approx(84 * MSS)


def test_the_window_regains_its_maximum_after_k_seconds() -> None:
    """Figure 2: K is the cube root of (W_max - cwnd_epoch) / C: here (300 - 210) / 0.4."""
    driver = driver_at(300 * MSS, rtt=0.01)
    driver.lose()
    driver.rtt = 0.2
    driver.now += 1.0
    driver.ack(MSS, sent_time=driver.now - 0.1)  # the epoch begins
    epoch = driver.now
    k = (90 / 0.4) ** (1 / 3)
    windows = {}
    while driver.now < epoch + k + 3:
        driver.round()
        windows[driver.now - epoch] = driver.controller.window
    before = [window for elapsed, window in windows.items() if elapsed < k - 0.5]
    at = min(windows, key=lambda elapsed: abs(elapsed - k))
    after = [window for elapsed, window in windows.items() if elapsed > k + 2]
    assert max(before) < 300 * MSS
    assert windows[at] == pytest.approx(300 * MSS, rel=0.01)
    assert min(after) > 300 * MSS
    # Concave, then convex: slow around the maximum.
    steps = list(windows.values())
    growth = [later - earlier for earlier, later in pairwise(steps)]
    middle = list(windows).index(at)
    assert growth[0] > 4 * growth[middle]
    assert growth[-1] > 2 * growth[middle]


def test_an_ack_moves_the_window_towards_the_target_by_its_share() -> None:
    """RFC 9438 §4.4: (target - cwnd) / cwnd for each acknowledged segment."""
    driver = driver_at(1000 * MSS, rtt=0.1)
    driver.lose()
    driver.now += 0.2
    driver.ack(1)  # the epoch begins; one byte moves next to nothing
    window = driver.controller.window
    assert window == pytest.approx(700 * MSS, rel=1e-3)
    k = (300 / 0.4) ** (1 / 3)
    driver.now += 1.0
    target = (0.4 * (1.1 - k) ** 3 + 1000) * MSS
    grown = driver.ack(10 * MSS)
    assert grown - window == pytest.approx((target - window) * 10 * MSS / window, rel=0.01)


def test_growth_is_limited_to_half_the_window_a_round_trip() -> None:
    driver = driver_at(100 * MSS, rtt=0.1)
    driver.lose()
    driver.now += 0.2
    driver.ack(1)
    driver.now += 60.0
    window = driver.controller.window
    assert driver.ack(window) == pytest.approx(1.5 * window, rel=0.01)


def test_short_paths_grow_like_reno() -> None:
    """RFC 9438 §4.3: alpha a round trip until the prior window, one datagram a round trip beyond it."""
    driver = driver_at(100 * MSS, rtt=0.002)
    driver.lose()
    driver.now += 0.01
    driver.ack(1)
    window = driver.controller.window
    driver.round()
    assert (driver.controller.window - window) / MSS == pytest.approx(ALPHA, rel=0.02)
    while driver.controller.window < 101 * MSS:
        driver.round()
    window = driver.controller.window
    driver.round()
    assert (driver.controller.window - window) / MSS == pytest.approx(1.0, rel=0.05)


def test_the_window_never_shrinks_in_avoidance() -> None:
    """On a long path the target is a round trip ahead: W_cubic and the Reno estimate may both lie below the window."""
    driver = Driver(CubicController(MSS), rtt=1.0)
    driver.lose()
    driver.now += 2.0
    driver.ack(1)
    driver.now += 2.5
    windows = [driver.ack(driver.controller.window, sent_time=driver.now) for _ in range(2)]
    driver.rtt = 0.5  # and the target moves closer
    windows += [driver.ack(driver.controller.window, sent_time=driver.now) for _ in range(10)]
    target = 10 + 0.4 * (3.5 - (3 / 0.4) ** (1 / 3)) ** 3
    assert windows[1] / MSS == pytest.approx(target, rel=0.01)
    assert windows[1] == windows[2] == windows[5]  # a standstill, until Reno has caught up
    assert windows == sorted(windows)
    assert windows[-1] > windows[1]


def test_fast_convergence_aims_lower_when_the_maximum_was_not_regained() -> None:
    driver = driver_at(100 * MSS, rtt=0.1)
    driver.lose()  # w_max 100
    driver.now += 0.2
    driver.lose()  # at 70: w_max 70 × 0.85 = 59.5, window 49
    driver.now += 0.2
    driver.ack(1)
    driver.now += ((59.5 - 49) / 0.4) ** (1 / 3) - 0.1  # where the target is w_max exactly
    assert driver.ack(driver.controller.window) == pytest.approx(59.5 * MSS, rel=0.01)


def test_the_clock_of_an_epoch_stands_still_while_the_window_is_not_used() -> None:
    busy, idle = driver_at(1000 * MSS), driver_at(1000 * MSS)
    for driver in (busy, idle):
        driver.lose()
        driver.now += 0.2
        driver.ack(1)
    for _ in range(50):
        idle.now += 1.0
        idle.ack(MSS, in_flight=MSS, is_app_limited=True)
    for driver in (busy, idle):
        driver.now += 0.5
        driver.ack(10 * MSS)
    # The idle one paused from its first unused ACK, a second after the epoch began; what remains is the same path.
    assert idle.controller.window - busy.controller.window < 2 * MSS
    for _ in range(3):
        busy.now += 10.0
        busy.ack(10 * MSS)
    assert busy.controller.window > idle.controller.window + 10 * MSS


def test_unused_acks_outside_an_epoch_stop_no_clock() -> None:
    driver = driver_at(100 * MSS)
    driver.ack(MSS, in_flight=MSS, is_app_limited=True)
    driver.lose()
    driver.now += 0.2
    driver.ack(MSS, in_flight=MSS, is_app_limited=True)
    window = driver.controller.window
    driver.now += 30.0
    driver.ack(1)  # the epoch begins now, not thirty seconds ago
    driver.now += 0.01
    assert driver.ack(MSS) - window < MSS


def test_after_persistent_congestion_the_first_epoch_begins_on_its_plateau() -> None:
    """RFC 9438 §4.8: K is 0, W_max the window at the beginning of the stage."""
    driver = driver_at(100 * MSS)
    driver.lose(is_persistent=True)
    while driver.controller.window < driver.controller.slow_start_threshold:
        driver.now += 0.1
        driver.ack(2 * MSS)
    start = driver.controller.window
    assert start < 80 * MSS
    driver.now += 0.1
    driver.ack(1)
    driver.now += 2.0
    target = start + 0.4 * 2.1**3 * MSS
    assert driver.ack(start) == pytest.approx(target, rel=0.01)


def test_hystart_ends_the_first_slow_start_without_loss() -> None:
    controller = CubicController(MSS)
    driver = Driver(controller, rtt=0.1)
    for _ in range(3):
        driver.round()
    queue = 0.1
    while controller.in_slow_start:
        queue += 0.02
        driver.rtt = queue
        driver.round()
        assert queue < 1.0
    threshold = controller.slow_start_threshold
    assert threshold < inf
    assert controller.window < 3 * threshold
    start = controller.window
    driver.round()
    assert start < driver.round() < 1.2 * start  # avoidance from a plateau (RFC 9438 §4.10)


def test_a_loss_ends_hystart_for_good() -> None:
    driver = driver_at(100 * MSS)
    driver.lose(is_persistent=True)
    driver.now += 0.2
    for rtt in (0.1, 0.2, 0.4):  # rising round trips no longer matter
        for _ in range(10):
            driver.now += 0.01
            before = driver.controller.window
            grown = driver.ack(MSS, rtt=rtt) - before
            if driver.controller.window < driver.controller.slow_start_threshold:
                assert grown == MSS


def test_an_undo_restores_the_epoch() -> None:
    driver = driver_at(1000 * MSS)
    driver.lose()
    driver.now += 0.2
    driver.ack(1)
    driver.now += 3.0
    window = driver.ack(10 * MSS)
    driver.now += 0.1
    driver.lose()
    assert driver.controller.window < window
    driver.controller.on_spurious_loss(driver.now)
    assert driver.controller.window == window
    k = (300 / 0.4) ** (1 / 3)
    driver.now += 0.9
    target = (0.4 * (4.1 - k) ** 3 + 1000) * MSS
    assert driver.ack(10 * MSS) - window == pytest.approx((target - window) * 10 * MSS / window, rel=0.01)


def test_an_undo_restores_the_reno_estimate() -> None:
    driver = driver_at(100 * MSS, rtt=0.002)
    driver.lose()
    driver.now += 0.01
    for _ in range(5):
        driver.round()
    window = driver.controller.window
    driver.lose()
    driver.now += 0.01
    driver.ack(1)  # another epoch begins
    driver.controller.on_spurious_loss(driver.now)
    assert driver.controller.window == window
    driver.round()
    assert (driver.controller.window - window) / MSS == pytest.approx(ALPHA, rel=0.02)
