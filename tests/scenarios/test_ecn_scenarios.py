"""Explicit Congestion Notification across networks that mark it, bleach it or mark everything (RFC 9000 §13.4)."""

from __future__ import annotations

from quicio.quic.paths.ecn import CAPABLE, FAILED
from sim.links import Delay, Ecn, Rate
from sim.world import World


def test_marks_of_a_bottleneck_take_the_place_of_losses() -> None:
    """The queue marks CE above ten packets: the sender slows down, and nothing is lost."""
    rate = Rate(10e6, 200, mark_above=10)
    world = World(1, up=[rate, Delay(0.015)], down=[Delay(0.015)])
    client, server = world.establish()
    seconds = world.transfer(client, server, 3_000_000)
    assert rate.marked > 0
    assert rate.dropped == 0
    assert client.connection._parts.paths.active.ecn.state == CAPABLE
    assert client.connection.statistics().packets_lost == 0
    assert client.connection._parts.paths.active.congestion.slow_start_threshold < float("inf")
    assert 3_000_000 * 8 / seconds > 0.75 * 10e6


def test_a_network_that_bleaches_ends_the_marking_and_nothing_else() -> None:
    world = World(2, up=[Ecn(bleach=True), Delay(0.01)], down=[Delay(0.01)])
    client, server = world.establish()
    world.transfer(client, server, 300_000)
    assert client.connection._parts.paths.active.ecn.state == FAILED
    assert server.connection._parts.paths.active.ecn.state == CAPABLE
    world.transfer(server, client, 300_000)


def test_a_network_that_marks_everything_slows_down_but_does_not_stop() -> None:
    world = World(3, up=[Ecn(mark=1.0), Delay(0.01)], down=[Delay(0.01)])
    client, server = world.establish()
    world.transfer(client, server, 300_000, limit=120.0)
    assert client.connection.statistics().congestion_window < 30_000
