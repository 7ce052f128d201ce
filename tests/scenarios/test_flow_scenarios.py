"""Flow control at its defaults: what it sustains, and what a reader that never reads can cost."""

from __future__ import annotations

from quicio.quic.configuration import DEFAULT_WINDOW
from sim.links import Delay, Rate
from sim.world import World

BANDWIDTH_DELAY = 100e6 * 0.1 / 8  # bytes: 100 Mbit/s and a round trip of 100 ms


def test_default_limits_sustain_a_hundred_megabits_at_a_hundred_milliseconds() -> None:
    """The same product at a fifth of the packets: 20 Mbit/s and half a second. The windows must grow beyond it."""
    rate, delay = 20e6, 0.25
    assert rate * 2 * delay / 8 == BANDWIDTH_DELAY
    world = World(1, up=[Rate(rate, 1200), Delay(delay)], down=[Rate(rate, 1200), Delay(delay)])
    client, server = world.establish()
    world.transfer(client, server, 6_000_000)
    seconds = world.transfer(client, server, 8_000_000)
    assert 8_000_000 * 8 / seconds > 0.6 * rate  # a new stream starts with its first window
    assert server.connection._parts.streams.receiving.window.size > BANDWIDTH_DELAY


def test_a_reader_that_never_reads_is_given_one_window_and_no_more() -> None:
    world = World(2, up=[Rate(100e6, 1000), Delay(0.01)], down=[Delay(0.01)])
    client, server = world.establish()
    server.connection.use_native_events()
    stream_id = client.connection.open_stream()
    assert stream_id is not None
    client.connection.send_stream_data(stream_id, bytes(8 * DEFAULT_WINDOW), end_stream=True)
    world.run(limit=5.0)
    assert len(server.data[stream_id]) == DEFAULT_WINDOW
    assert client.capture.sent("DATA_BLOCKED") or client.capture.sent("STREAM_DATA_BLOCKED")
    server.connection.consume(stream_id, DEFAULT_WINDOW)  # now it reads
    world.run(lambda: len(server.data[stream_id]) > DEFAULT_WINDOW)
