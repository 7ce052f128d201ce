"""What a connection counts."""

from __future__ import annotations

import dataclasses

import pytest

from quicio.quic.datagrams import MAX_RECEIVED_DATAGRAMS
from quicio.quic.statistics import ConnectionStatistics
from sim.links import Delay, DropNumbers, Ecn
from sim.world import World


def test_a_snapshot_does_not_change() -> None:
    world = World(1)
    client, server = world.establish()
    before = client.connection.statistics()
    sent = before.packets_sent
    world.transfer(client, server, 20_000)
    assert before.packets_sent == sent
    assert client.connection.statistics().packets_sent > sent
    with pytest.raises(dataclasses.FrozenInstanceError):
        before.packets_sent = 0  # type: ignore[misc]  # frozen is what is tested


def test_the_measurements_are_those_of_the_link() -> None:
    world = World(2, up=[Delay(0.02)], down=[Delay(0.02)])
    client, server = world.establish()
    world.transfer(client, server, 50_000)
    world.run(limit=1.0)
    mine = client.connection.statistics()
    assert mine.round_trip_time_minimum == pytest.approx(0.04)
    assert mine.round_trip_time_minimum <= mine.round_trip_time < 0.07
    assert mine.round_trip_time_variance >= 0.0
    assert mine.bytes_in_flight == 0
    assert mine.congestion_window > 12_000
    assert mine.datagram_size == 1452  # the search for the path's size found its ceiling
    assert mine.bytes_sent == world.up.bytes_sent
    assert mine.bytes_received == world.down.bytes_sent
    assert (mine.packets_lost, mine.spurious_losses, mine.packets_dropped) == (0, 0, 0)
    assert mine.open_streams == 1  # the server has not ended its direction
    assert mine.key_updates == 0


def test_losses_and_timeouts_are_counted() -> None:
    world = World(3, up=[DropNumbers([1, 2, 8, 9]), Delay(0.01)])
    client, server = world.establish()
    world.transfer(client, server, 50_000)
    mine = client.connection.statistics()
    assert mine.packets_lost >= 1
    assert mine.probe_timeouts >= 1


def test_datagrams_are_counted_on_both_sides() -> None:
    changes = {"max_datagram_frame_size": 1200}
    world = World(4, client=changes, server=changes)
    client, server = world.establish()
    for _ in range(5):
        client.connection.send_datagram_frame(b"x")
    world.run(limit=0.1)
    assert client.connection.statistics().datagrams_sent == 5
    for _ in range(MAX_RECEIVED_DATAGRAMS + 50):  # while the application takes nothing
        server.connection._parts.datagrams.on_frame(b"x", 3)
    assert server.connection.statistics().datagrams_dropped == 50
    world.run(limit=1.0)
    client.connection.send_datagram_frame(b"lost")
    assert client.connection.next_transmit(world.now) is not None  # and nobody carries it
    for _ in range(4):
        client.connection.send_ping(1)
        world.run(limit=0.1)
    assert client.connection.statistics().datagrams_lost == 1


def test_every_count_has_a_place() -> None:
    names = {field.name for field in dataclasses.fields(ConnectionStatistics)}
    assert names >= {"bytes_sent", "packets_lost", "key_updates", "datagrams_lost"}


def test_marks_for_congestion_are_counted_on_both_sides() -> None:
    world = World(5, up=[Ecn(mark=0.2), Delay(0.01)], down=[Delay(0.01)])
    client, server = world.establish()
    world.transfer(client, server, 100_000)
    world.run(limit=1.0)
    mine, theirs = client.connection.statistics(), server.connection.statistics()
    assert mine.is_ecn_in_use
    assert mine.ecn_marks_sent > 50
    assert 0 < mine.congestion_marks_reported <= theirs.congestion_marks_received
    assert (theirs.congestion_marks_reported, mine.congestion_marks_received) == (0, 0)


def test_a_path_that_takes_marks_away_is_known_for_it() -> None:
    world = World(6, up=[Ecn(bleach=True), Delay(0.01)], down=[Delay(0.01)])
    client, server = world.establish()
    world.transfer(client, server, 50_000)
    world.run(limit=1.0)
    assert not client.connection.statistics().is_ecn_in_use
    assert server.connection.statistics().congestion_marks_received == 0


def test_streams_are_counted_from_the_beginning() -> None:
    world = World(7)
    client, server = world.establish()
    for _ in range(3):
        stream_id = client.connection.open_stream()
        assert stream_id is not None
        client.connection.send_stream_data(stream_id, b"x", end_stream=True)
    world.run(limit=0.5)
    assert client.connection.statistics().streams_opened == 3
    assert server.connection.statistics().streams_accepted == 3
    assert client.connection.statistics().streams_accepted == 0
