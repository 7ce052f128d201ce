"""NewReno: RFC 9002 appendix B in numbers."""

from __future__ import annotations

import pytest

from helpers.congestion import Driver
from quicio.quic.congestion.reno import RenoController


def test_a_congestion_event_halves_the_window() -> None:
    controller = RenoController(1200)
    driver = Driver(controller)
    assert driver.ack(12000) == 24000
    assert driver.lose() == 12000
    assert controller.slow_start_threshold == 12000


def test_avoidance_adds_a_datagram_for_each_window() -> None:
    controller = RenoController(1200)
    driver = Driver(controller)
    driver.ack(12000)
    driver.lose()
    driver.now += 0.2
    assert driver.ack(12000) == 13200
    assert driver.ack(6600) == 13800
    for _ in range(23):  # small ACKs lose no fraction
        driver.ack(600)
    assert controller.window == pytest.approx(15000, rel=0.01)


def test_slow_start_ends_at_the_threshold_after_persistent_congestion() -> None:
    controller = RenoController(1200)
    driver = Driver(controller)
    driver.ack(12000)
    driver.lose(is_persistent=True)
    assert controller.slow_start_threshold == 12000
    windows = [driver.ack(controller.window) for _ in range(5)]
    assert windows == [4800, 9600, 19200, 20400, 21600]
