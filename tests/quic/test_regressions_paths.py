"""Migration when the network is at its worst: the server must neither lose the way back nor stay throttled for ever."""

from __future__ import annotations

import pytest

from quicio.quic.paths.validation import INITIAL_PTO
from sim.links import Delay, Nat, Switch
from sim.world import CLIENT_ADDRESS, Peer, World


class Roaming:
    """A client behind a NAT, and a link back from the server that can be cut."""

    def __init__(self, seed: int) -> None:
        self.nat = Nat(CLIENT_ADDRESS)
        self.back = Switch()
        self.world = World(seed, up=[self.nat.outward(), Delay(0.01)], down=[self.back, Delay(0.01), self.nat.inward()])
        self.client, self.server = self.world.establish()
        self.world.run(None, 0.5)

    def say(self, address: tuple[str, int]) -> None:
        """The client's address changes, and the server hears of it."""
        self.nat.rebind(address, is_strict=True)
        self.client.connection.send_ping(1)
        self.world.run(None, 0.05)


def is_whole(server: Peer) -> bool:
    """Whether the path in use is one of those that are known, with a connection ID that is not retired."""
    parts = server.connection._parts
    paths = parts.paths
    return paths.active in paths.known and paths.active.peer_cid_sequence in parts.connection_ids.peer


@pytest.mark.parametrize("outage", [1.0, 3.5, 8.0])
def test_two_moves_in_a_row_while_nothing_gets_back(outage: float) -> None:
    """Neither address can be validated in time; once the network is back so is the connection, unthrottled."""
    roaming = Roaming(1)
    world = roaming.world
    roaming.back.is_on = False
    roaming.say(("10.0.1.1", 2000))
    roaming.say(("10.0.2.1", 3000))
    world.run(None, outage)
    assert is_whole(roaming.server)
    roaming.back.is_on = True
    world.run(None, 10.0)
    assert world.transfer(roaming.server, roaming.client, 200_000, 20.0) < 2.0
    assert roaming.server.connection.get_peer_address() == ("10.0.2.1", 3000)
    assert roaming.server.connection._parts.paths.active.is_validated
    assert is_whole(roaming.server)


def test_a_new_path_gets_three_initial_timeouts_for_its_validation() -> None:
    """RFC 9000 §8.2.4: what the old path measured says nothing of the new one."""
    roaming = Roaming(2)
    roaming.back.is_on = False
    started = roaming.world.now
    roaming.say(("10.0.1.1", 2000))
    deadline = roaming.server.connection._parts.paths.deadline
    assert deadline - started >= 3 * INITIAL_PTO


def test_an_address_that_comes_and_goes() -> None:
    """Away and back before the old address answered its challenge: its own deadline must not cost the path in use."""
    roaming = Roaming(3)
    world = roaming.world
    roaming.back.is_on = False
    roaming.say(("10.0.1.1", 2000))
    roaming.say(CLIENT_ADDRESS)
    world.run(None, 8.0)
    assert is_whole(roaming.server)
    roaming.back.is_on = True
    world.run(None, 10.0)
    assert world.transfer(roaming.server, roaming.client, 200_000, 20.0) < 2.0
    assert roaming.server.connection.get_peer_address() == CLIENT_ADDRESS
    assert is_whole(roaming.server)
