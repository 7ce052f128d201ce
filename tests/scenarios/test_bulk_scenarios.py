"""Packets built by the run and packets built one by one: on the same network, the same packets at the same times."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.recovery import Recorder
from sim.links import Delay, DropNumbers, Ecn, Loss, Rate, Reorder, Stage
from sim.world import Peer, World

RANDOM = ("CRYPTO", "NEW_TOKEN")  # tickets and tokens differ from run to run


def links(kind: str) -> list[Stage]:
    if kind == "clean":
        return [Delay(0.01)]
    if kind == "narrow":
        return [Delay(0.01), Rate(20e6, 60_000)]
    if kind == "marking":
        return [Ecn(mark=0.02), Delay(0.01)]
    if kind == "dropping":
        return [DropNumbers([30, 31, 32, 60, 90]), Delay(0.01)]
    return [Loss(0.02, burst=2), Reorder(0.05, 0.004), Delay(0.01)]


def send(peer: Peer, sizes: list[int], *, incremental: bool = True, end: bool = True) -> None:
    for size in sizes:
        stream_id = peer.connection.open_stream()
        assert stream_id is not None
        peer.connection.set_priority(stream_id, 3, incremental)
        for index in range(10):
            data = bytes((size + index & 0xFF,)) * (size // 10)
            peer.connection.send_stream_data(stream_id, data, end_stream=end and index == 9)


def history(by_run: bool, seed: int, kind: str, incremental: bool, settings: dict[str, Any]) -> list[object]:
    """Everything that both sides sent and measured."""
    world = World(seed, up=links(kind), down=links(kind), client=settings, server=settings)
    client, server = world.establish()
    for peer in (client, server):
        parts = peer.connection._parts
        parts.writers.remove(peer.auditor)
        peer.auditor.pending = 0
        parts.recompute_wants()
        if not by_run:
            parts.streams.sending.min_run = 1 << 62
    send(client, [150_000, 90_000, 30_000], incremental=incremental)
    send(server, [60_000])
    world.run(lambda: len(server.finished) == 3, 60.0)
    client.connection.request_key_update()
    send(client, [100_000])
    world.run(lambda: len(server.finished) == 4 and len(client.finished) == 1, 60.0)
    world.run(limit=1.0)
    assert {len(data) for data in server.data.values()} == {150_000, 90_000, 30_000, 100_000}
    sent: list[object] = [
        (packet.time, packet.number, packet.size, [frame for frame in packet.frames if frame[0] not in RANDOM])
        for peer in (client, server)
        for packet in peer.capture.sent(epoch="ONE_RTT")
    ]
    return [*sent, client.connection.statistics(), server.connection.statistics()]


@pytest.mark.parametrize("kind", ["clean", "narrow", "marking", "dropping", "rough"])
@pytest.mark.parametrize("incremental", [True, False])
def test_packets_built_by_the_run_are_those_built_one_by_one(kind: str, incremental: bool) -> None:
    seed = 5 + len(kind)
    settings: dict[str, Any] = {"mtu_ceiling": 1400} if kind == "narrow" else {"max_stream_data": 40_000}
    assert history(True, seed, kind, incremental, settings) == history(False, seed, kind, incremental, settings)


def test_bulk_data_is_built_by_the_run() -> None:
    """The way is taken, not only open: the controller hears of many packets at once."""
    world = World(3)
    client, server = world.establish()
    data = bytes(400_000)
    stream_id = client.connection.open_stream()
    assert stream_id is not None
    controller = Recorder()
    controller.window = 1 << 20
    client.connection._parts.paths.active.congestion = controller
    client.connection.send_stream_data(stream_id, data, end_stream=True)
    world.run(lambda: stream_id in server.finished)
    assert bytes(server.data[stream_id]) == data
    assert max(size for _, size, _ in controller.sent) > 8 * 1200
