"""The contract of congestion controllers, and their register."""

from __future__ import annotations

import pytest

from helpers.congestion import Driver
from quicio.quic.congestion.base import CongestionController, create_congestion_control, register_congestion_control


def test_a_controller_that_fills_nothing_in_keeps_its_window() -> None:
    controller = CongestionController(1200)
    driver = Driver(controller)
    controller.on_sent(0.0, 1200, 1200)
    assert driver.ack(1200) == 12000
    assert driver.lose(is_persistent=True) == 12000
    controller.on_spurious_loss(1.0)
    controller.on_datagram_size(1400)
    assert (controller.datagram_size, controller.window) == (1400, 12000)
    assert controller.slow_start_threshold == float("inf")


def test_others_can_register_their_own() -> None:
    class Fixed(CongestionController):
        name = "fixed"

    register_congestion_control("test-fixed", Fixed)
    assert isinstance(create_congestion_control("test-fixed", 1200), Fixed)


def test_an_unknown_name_is_refused_with_those_that_exist() -> None:
    register_congestion_control("test-known", CongestionController)
    with pytest.raises(ValueError, match=r"'vegas'; known are .*test-known"):
        create_congestion_control("vegas", 1200)
