"""Memory budgets: how one is divided, what an endpoint's does to windows and to senders, and what they count."""

from __future__ import annotations

import pytest

from helpers.crowd import Crowd
from quicio.quic.configuration import QuicConfiguration
from quicio.quic.events import StreamWritable
from quicio.quic.streams.budget import (
    CRYPTO_RESERVE,
    DEFAULT_SEND_SHARE,
    ENDPOINT_MEMORY_LIMIT,
    FLOOR,
    FREE,
    MAX_DATAGRAM_SHARE,
    SHORT,
    SMALLEST_MEMORY_LIMIT,
    STREAM_RESERVE,
    TIGHT,
    MemoryBudget,
    MemoryPool,
)
from quicio.quic.streams.flow import ReceiveWindow
from quicio.quic.streams.sending import Sending
from quicio.quic.streams.stream import SendHalf
from sim.world import World

MIB = 1 << 20


@pytest.mark.parametrize("limit", [SMALLEST_MEMORY_LIMIT, MIB, 10 * MIB, 100 * MIB])
@pytest.mark.parametrize("window_limit", [64 * 1024, 8 * MIB])
def test_the_parts_are_the_whole(limit: int, window_limit: int) -> None:
    budget = MemoryBudget(limit, window_limit)
    assert budget.receive_share + budget.send_share + 2 * budget.datagram_share + CRYPTO_RESERVE == limit
    assert 0 < budget.receive_share <= min(window_limit, budget.send_share)
    assert 0 < budget.datagram_share <= MAX_DATAGRAM_SHARE


def test_without_a_limit_the_wishes_are_met() -> None:
    budget = MemoryBudget(None, 8 * MIB, 32 * MIB)
    assert (budget.receive_share, budget.send_share) == (8 * MIB, 32 * MIB)
    assert MemoryBudget(None, 8 * MIB, MIB).send_share == DEFAULT_SEND_SHARE


def test_a_limit_that_is_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="memory_limit must be at least 262144 bytes"):
        QuicConfiguration(memory_limit=SMALLEST_MEMORY_LIMIT - 1).validate()


def test_pressure_rises_with_use() -> None:
    pool = MemoryPool(100)
    budget = MemoryBudget(None, MIB, 0, pool)
    seen = []
    for size in (0, 49, 1, 49, 1, 100):
        budget.add(size)
        seen.append(pool.pressure())
    assert seen == [FREE, FREE, TIGHT, TIGHT, SHORT, SHORT]
    budget.close()
    assert (pool.used, pool.pressure()) == (0, FREE)
    budget.add(-10)  # what comes after the end counts for nobody
    assert pool.used == 0


def test_windows_begin_small_and_senders_have_a_floor_when_memory_is_short() -> None:
    pool = MemoryPool(MIB)
    budget = MemoryBudget(None, 8 * MIB, 0, pool)
    assert budget.first_window(MIB) == MIB
    assert budget.sendable() == DEFAULT_SEND_SHARE
    budget.add(MIB)
    assert budget.first_window(MIB) == FLOOR
    assert budget.first_window(1000) == 1000
    assert budget.sendable() == FLOOR


def test_a_window_does_not_grow_under_pressure_and_shrinks_to_the_floor() -> None:
    window = ReceiveWindow(4 * FLOOR, 64 * FLOOR)
    sizes = []
    for pressure in (TIGHT, TIGHT, SHORT, SHORT, SHORT, SHORT, FREE):
        before = window.limit
        while not window.is_due():
            window.consumed += FLOOR // 4
        limit = window.update(0.0, 1.0, pressure)
        assert limit >= before
        assert window.limit <= window.consumed + window.size
        sizes.append(window.size // FLOOR)
    assert sizes == [4, 4, 2, 1, 1, 1, 2]


def test_what_was_promised_is_not_taken_back() -> None:
    window = ReceiveWindow(4 * FLOOR, 64 * FLOOR)
    assert window.update(0.0, 1.0, SHORT) == 4 * FLOOR  # a repeated MAX_DATA, nothing consumed: the promise stands
    assert window.size == 4 * FLOOR


def test_the_windows_that_the_peer_is_told_are_within_the_limit() -> None:
    crowd = Crowd()
    crowd.client_configuration = crowd.client_configuration.replaced(memory_limit=SMALLEST_MEMORY_LIMIT)
    (client,) = crowd.open(1)
    (server,) = crowd.server.endpoint.connections
    share = client._parts.budget.receive_share
    assert share < SMALLEST_MEMORY_LIMIT // 2
    assert server._parts.streams.sending.limit == share
    assert server._parts.handshake.remote_parameters is not None
    assert server._parts.handshake.remote_parameters.initial_max_stream_data_bidi_local == share


def test_all_streams_together_send_no_more_than_their_part() -> None:
    """Row 26: the peer reads nothing; each stream still has its reserve."""
    crowd = Crowd()
    crowd.client_configuration = crowd.client_configuration.replaced(memory_limit=MIB, send_buffer=MIB)
    (client,) = crowd.open(1)
    share = client._parts.budget.send_share
    waiting = 0
    for _ in range(20):
        stream_id = client.open_stream()
        assert stream_id is not None
        while (room := client.send_room(stream_id)) > 0:
            client.send_stream_data(stream_id, bytes(min(room, 50_000)))
            waiting += min(room, 50_000)
    assert share <= waiting <= share + 20 * STREAM_RESERVE
    assert client._parts.budget.held == waiting == crowd.client.endpoint.memory.used


def test_who_waits_for_others_hears_when_they_are_done() -> None:
    world = World(client={"memory_limit": MIB}, server={"max_data": 4 * MIB, "max_stream_data": 4 * MIB})
    peer, _ = world.establish()
    connection = peer.connection
    connection.use_native_events()
    first, second = connection.open_stream(), connection.open_stream()
    assert first is not None
    assert second is not None
    connection.send_stream_data(first, bytes(connection._parts.budget.send_share))
    connection.send_stream_data(second, bytes(STREAM_RESERVE))
    assert connection.send_room(second) == 0
    world.run(limit=5.0)
    assert second in {event.stream_id for event in peer.of_type(StreamWritable)}
    assert connection.send_room(second) > STREAM_RESERVE
    assert connection._parts.budget.held == 0


def test_a_stream_that_is_stuck_hears_of_the_room_that_others_leave() -> None:
    """Its own data is not acknowledged: what wakes it is that the rest has gone."""
    sending = Sending(MemoryBudget(MIB, MIB), MIB)
    share = sending.budget.send_share
    stuck = SendHalf(0, 0)
    stuck.write(bytes(STREAM_RESERVE), False)
    sending.hold(STREAM_RESERVE)
    sending.hold(share)
    assert sending.room(stuck) == sending.room(stuck) == 0
    assert sending.free(share // 5) is None
    assert sending.free(share // 5) == [stuck]
    assert sending.free(share // 5) is None
    assert sending.room(stuck) > 0


def test_a_reset_gives_back_what_was_waiting() -> None:
    crowd = Crowd()
    (client,) = crowd.open(1)
    stream_id = client.open_stream()
    assert stream_id is not None
    client.send_stream_data(stream_id, bytes(100_000))
    assert crowd.client.endpoint.memory.used == 100_000
    client.reset_stream(stream_id, 1)
    assert crowd.client.endpoint.memory.used == 0


def test_datagrams_count_and_have_their_part() -> None:
    world = World(
        client={"memory_limit": SMALLEST_MEMORY_LIMIT, "max_datagram_frame_size": 65535, "datagram_queue": 10_000},
        server={"memory_limit": SMALLEST_MEMORY_LIMIT, "max_datagram_frame_size": 65535},
    )
    peer, other = world.establish()
    client, server = peer.connection, other.connection
    share = client._parts.budget.datagram_share
    queued = 0
    while client._parts.datagrams.send(bytes(1000), 1200):
        queued += 1000
    assert share - 1000 < queued <= share
    assert client._parts.budget.held == queued
    for _ in range(100):
        server._parts.datagrams.on_frame(bytes(1000), 1003)
    assert server._parts.budget.held <= server._parts.budget.datagram_share
    assert server._parts.datagrams.dropped > 0


def test_connections_of_an_endpoint_share_its_budget_and_give_it_back() -> None:
    """Row 26: a reader that never reads fills its window; new connections begin small; all is given back at the end."""
    crowd = Crowd()
    pool = crowd.server.endpoint.memory
    assert pool.limit == ENDPOINT_MEMORY_LIMIT
    pool.limit = MIB
    crowd.server.handle = lambda connection, event: None  # type: ignore[method-assign]  # nobody reads
    (client,) = crowd.open(1)
    stream_id = client.open_stream()
    assert stream_id is not None
    client.send_stream_data(stream_id, bytes(2 * MIB))
    for _ in range(100):
        crowd.client.active[client] = None
        crowd.wait(0.02)
    assert pool.used == MIB
    (late,) = crowd.open(1)
    assert late._parts.streams.sending.limit == FLOOR
    crowd.close([client, late])
    assert (pool.used, crowd.client.endpoint.memory.used) == (0, 0)
