"""The search for a larger datagram, as the connection drives it: what it may cost on a path that does not take one."""

from __future__ import annotations

from quicio.quic.paths.mtu import MAX_PROBES, MIN_GAIN
from sim.links import Mtu
from sim.stages import bottleneck
from sim.world import World

PATH_MTU = 1300
HEADERS_AND_TAG = 40  # at most what a captured payload lacks of its datagram


def test_a_path_that_takes_no_larger_datagrams_is_probed_a_few_times_and_then_left_alone() -> None:
    """RFC 8899 §5.1.2: a size is given up after three lost probes, and one probe is in flight at a time."""
    world = World(3, up=[Mtu(PATH_MTU), *bottleneck()], down=[Mtu(PATH_MTU), *bottleneck()])
    _, server = world.establish()
    stream_id = server.connection.open_stream()
    assert stream_id is not None
    for _ in range(60):  # small messages, so that the only large packets are probes
        server.connection.send_stream_data(stream_id, b"message")
        world.run(None, 0.2)
    probes = [
        packet for packet in server.capture.packets if packet.is_sent and packet.size > PATH_MTU - HEADERS_AND_TAG
    ]
    assert 0 < len(probes) <= 4 * MAX_PROBES
    assert len({packet.time for packet in probes}) == len(probes)
    path = server.connection._parts.paths.active
    assert PATH_MTU - 2 * MIN_GAIN < path.datagram_size <= PATH_MTU


def test_a_transfer_that_fills_the_window_finds_the_larger_size_as_well() -> None:
    """A window that is always full still has room for a probe each time that an ACK opens it."""
    world = World(9, up=[*bottleneck(), Mtu(PATH_MTU)], down=bottleneck())
    client, server = world.establish()
    world.transfer(client, server, 1_000_000)
    assert client.connection.statistics().datagram_size > 1200
