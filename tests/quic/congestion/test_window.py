"""What all window-based controllers have in common: recovery periods, unused windows, undo (RFC 9002 §7)."""

from __future__ import annotations

from math import inf

import pytest

from helpers.congestion import Driver
from quicio.quic.congestion.base import create_congestion_control
from quicio.quic.congestion.cubic import CubicController
from quicio.quic.congestion.reno import RenoController
from quicio.quic.congestion.window import WindowController

CONTROLLERS = [pytest.param(RenoController, id="reno"), pytest.param(CubicController, id="cubic")]
Kind = type[WindowController]


@pytest.mark.parametrize("name", ["reno", "cubic"])
def test_controllers_are_found_by_name(name: str) -> None:
    controller = create_congestion_control(name, 1200)
    assert controller.name == name
    assert controller.window == 12000
    assert controller.slow_start_threshold == inf
    assert controller.pacing_rate == 0.0  # unknown: the pacer derives one from the initial RTT


def test_the_initial_window_is_limited_in_bytes() -> None:
    assert RenoController(1452).window == 14520
    assert RenoController(1500).window == 14720
    assert RenoController(9000).window == 18000


@pytest.mark.parametrize("kind", CONTROLLERS)
def test_slow_start_adds_what_is_acknowledged(kind: Kind) -> None:
    driver = Driver(kind(1200))
    assert driver.ack(2400) == 14400
    assert driver.ack(1200) == 15600


@pytest.mark.parametrize("kind", CONTROLLERS)
def test_the_pacing_rate_follows_the_window(kind: Kind) -> None:
    controller = kind(1200)
    driver = Driver(controller)
    driver.ack(2400)
    assert controller.pacing_rate == pytest.approx(2 * 14400 / 0.1)
    driver.lose()
    assert controller.pacing_rate == pytest.approx(1.25 * controller.window / 0.1, rel=1e-3)


@pytest.mark.parametrize("kind", CONTROLLERS)
def test_one_reduction_a_round_trip(kind: Kind) -> None:
    controller = kind(1200)
    driver = Driver(controller)
    for _ in range(10):
        driver.ack(12000)
    reduced = driver.lose()
    assert controller.slow_start_threshold == pytest.approx(reduced, abs=1)
    driver.now += 0.01
    assert driver.lose() == reduced  # sent before the recovery period began
    assert driver.lose(sent_time=10.0) == reduced  # at its very beginning
    assert driver.ack(12000) == reduced  # nothing grows in recovery
    driver.now += 0.2
    assert driver.lose() < reduced


@pytest.mark.parametrize("kind", CONTROLLERS)
def test_recovery_ends_with_a_packet_sent_in_it(kind: Kind) -> None:
    controller = kind(1200)
    driver = Driver(controller)
    reduced = driver.lose()
    driver.now += 0.05
    assert driver.ack(1200) == reduced
    for _ in range(10):
        driver.now += 0.1
        driver.ack(reduced)
    assert controller.window > reduced


@pytest.mark.parametrize("kind", CONTROLLERS)
def test_ce_marks_reduce_like_losses_once_a_round_trip(kind: Kind) -> None:
    lossy, marked = Driver(kind(1200)), Driver(kind(1200))
    assert lossy.lose() == marked.ack(1200, ce=1)
    assert marked.ack(1200, ce=3) == lossy.controller.window
    marked.now += 0.3
    assert marked.ack(1200, ce=1) < lossy.controller.window


@pytest.mark.parametrize("kind", CONTROLLERS)
def test_the_window_never_falls_below_two_datagrams(kind: Kind) -> None:
    controller = kind(1200)
    driver = Driver(controller)
    for _ in range(30):
        driver.lose()
        driver.now += 1.0
    assert controller.window == 2400


@pytest.mark.parametrize("kind", CONTROLLERS)
def test_persistent_congestion_starts_over_from_the_minimum(kind: Kind) -> None:
    controller = kind(1200)
    driver = Driver(controller)
    for _ in range(10):
        driver.ack(12000)
    assert driver.lose(is_persistent=True) == 2400
    assert controller.in_slow_start
    threshold = controller.slow_start_threshold
    assert 12000 < threshold < inf
    assert driver.ack(2400) == 4800  # no recovery period holds slow start back
    controller.on_spurious_loss(driver.now)
    assert controller.window == 4800


@pytest.mark.parametrize("kind", CONTROLLERS)
def test_spurious_losses_are_undone(kind: Kind) -> None:
    controller = kind(1200)
    driver = Driver(controller)
    for _ in range(3):
        driver.ack(12000)
    before = controller.window
    driver.lose()
    controller.on_spurious_loss(driver.now)
    assert controller.window == before
    assert controller.slow_start_threshold == inf
    assert controller.pacing_rate == pytest.approx(2 * before / 0.1)
    controller.on_spurious_loss(driver.now)  # again: nothing is left to undo
    assert controller.window == before
    driver.lose()
    assert driver.controller.window < before  # the next loss counts


@pytest.mark.parametrize("kind", CONTROLLERS)
def test_a_ce_mark_is_never_undone(kind: Kind) -> None:
    controller = kind(1200)
    driver = Driver(controller)
    reduced = driver.ack(1200, ce=1)
    controller.on_spurious_loss(driver.now)
    assert controller.window == reduced
    driver.now += 1.0
    reduced = driver.lose()
    driver.now += 0.01
    driver.ack(1200, ce=1)  # of the same recovery period
    controller.on_spurious_loss(driver.now)
    assert controller.window == reduced
    driver.now += 1.0
    driver.lose()
    driver.now += 1.0
    reduced = driver.ack(1200, ce=1)  # of a later one
    controller.on_spurious_loss(driver.now)
    assert controller.window == reduced


@pytest.mark.parametrize("kind", CONTROLLERS)
def test_an_undo_never_shrinks_the_window(kind: Kind) -> None:
    controller = kind(1200)
    driver = Driver(controller)
    driver.lose()
    for _ in range(200):
        driver.now += 0.1
        driver.ack(controller.window)
    grown = controller.window
    controller.on_spurious_loss(driver.now)
    assert controller.window == grown > 12000


@pytest.mark.parametrize("kind", CONTROLLERS)
def test_an_unused_window_does_not_grow(kind: Kind) -> None:
    controller = kind(1200)
    driver = Driver(controller)
    for _ in range(100):
        driver.now += 0.1
        driver.ack(1200, in_flight=1200, is_app_limited=True)
    assert controller.window == 12000
    driver.lose()
    reduced = controller.window
    for _ in range(100):
        driver.now += 0.1
        driver.ack(1200, in_flight=2400, is_app_limited=True)
    assert controller.window == reduced


@pytest.mark.parametrize("kind", CONTROLLERS)
def test_a_nearly_full_window_grows_though_the_data_ended(kind: Kind) -> None:
    controller = kind(1200)
    driver = Driver(controller)
    assert driver.ack(1200, in_flight=6000, is_app_limited=True) == 13200  # slow start: half is enough
    driver.lose()
    reduced = controller.window
    for _ in range(30):
        driver.now += 0.1
        driver.ack(1200, in_flight=controller.window - 1200, is_app_limited=True)
    assert controller.window > reduced


@pytest.mark.parametrize("kind", CONTROLLERS)
def test_a_sender_that_only_paces_keeps_growing(kind: Kind) -> None:
    driver = Driver(kind(1200))
    assert driver.ack(1200, in_flight=1200, is_app_limited=False) == 13200


@pytest.mark.parametrize("kind", CONTROLLERS)
def test_a_new_datagram_size_moves_the_minimum(kind: Kind) -> None:
    controller = kind(1200)
    driver = Driver(controller)
    for _ in range(30):
        driver.lose()
        driver.now += 1.0
    controller.on_datagram_size(1452)
    assert (controller.datagram_size, controller.window) == (1452, 2904)


@pytest.mark.parametrize("kind", CONTROLLERS)
def test_losses_before_any_rtt_leave_the_rate_unknown(kind: Kind) -> None:
    controller = kind(1200)
    Driver(controller).lose()
    assert controller.pacing_rate == 0.0


def test_the_common_ground_alone_is_a_controller_that_does_not_grow_in_avoidance() -> None:
    controller = WindowController(1200)
    driver = Driver(controller)
    assert driver.ack(1200) == 13200
    assert driver.lose() == 6600
    driver.now += 1.0
    assert driver.ack(6600) == 6600
    controller.on_spurious_loss(driver.now)
    assert controller.window == 13200
    assert driver.lose(is_persistent=True) == 2400
    assert driver.ack(1200, in_flight=0, is_app_limited=True) == 2400
