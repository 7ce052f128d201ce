"""What a connection does when its application speaks too late."""

from __future__ import annotations

from quicio.quic.events import ConnectionTerminated, DecisionNeeded
from sim.world import World


def test_a_decision_that_comes_after_the_end_changes_nothing() -> None:
    """An answer that took longer than the connection lived brings no event and no packet."""
    world = World(1)
    client = world.connect()
    client.connection.defer_decisions()
    world.run(lambda: bool(client.of_type(DecisionNeeded)))
    (decision,) = client.of_type(DecisionNeeded)
    client.connection.close(1)
    world.run(lambda: client.connection.is_terminated, 10.0)
    client.connection.decide(decision.decision_id, True)
    client.drain()
    assert isinstance(client.events[-1], ConnectionTerminated)
    assert not client.connection.is_handshake_complete
    assert client.connection.next_transmit(world.now) is None
    assert client.connection.get_timer() is None
