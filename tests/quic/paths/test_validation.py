"""Paths: migration, validation, the way back, and the limits on all of it (RFC 9000 §8.2, §9)."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Hashable
from math import inf

import pytest

from helpers.recovery import make_path
from quicio.quic.component import Wants
from quicio.quic.events import PathChanged, QuicEvent
from quicio.quic.paths.connection_ids import ConnectionIdIssuer, ConnectionIds
from quicio.quic.paths.path import Path
from quicio.quic.paths.validation import MAX_CHALLENGES, MAX_PATHS, PathFactory, Paths
from quicio.quic.wire.constants import APPLICATION, APPLICATION_BIT, FULL, INITIAL
from quicio.quic.wire.frames import decode_path_challenge, decode_path_response
from quicio.quic.wire.packet_builder import PacketBuilder
from sim.links import Delay, Nat
from sim.world import CLIENT_ADDRESS, World

HOME = ("10.0.0.1", 1000)
SAME_HOST = ("10.0.0.1", 2000)
AWAY = ("10.0.9.9", 1000)
FURTHER = ("10.0.8.8", 1000)


class Factory(PathFactory):
    """Paths of the test bench."""

    def create(self, remote: Hashable, local: Hashable, is_validated: bool) -> Path:
        path = make_path()
        path.remote, path.local, path.is_validated = remote, local, is_validated
        return path


class Bench:
    """Paths of a server with as many of the peer's connection IDs as a test wants."""

    def __init__(self, *, cids: int = 4, is_client: bool = False, can_migrate: bool = True) -> None:
        self.events: deque[QuicEvent] = deque()
        self.wants = Wants()
        self.ids = ConnectionIds(self.wants, self.events, ConnectionIdIssuer(8, bytes))
        self.ids.set_initial_peer_cid(b"peer-0", b"t" * 16)
        for sequence in range(1, cids):
            self.ids.on_new_frame(sequence, 0, b"peer-%d" % sequence, b"%16d" % sequence)
        first = Factory().create(HOME, None, True)
        first.peer_cid = b"peer-0"
        counter = itertools.count(1)
        self.paths = Paths(
            self.wants,
            self.events,
            Factory(),
            self.ids,
            lambda size: next(counter).to_bytes(size, "big"),
            is_client=is_client,
            first=first,
        )
        self.paths.can_migrate = can_migrate
        self.first = first

    def arrive(self, remote: Hashable, *, probing: bool = False, now: float = 0.0) -> Path:
        """An authentic packet comes from `remote`."""
        path = self.paths.for_datagrams(remote, None)
        assert path is not None
        self.paths.admit(path)
        if not probing:
            self.paths.on_non_probing(path, now)
        return path

    def write(self, path: Path, room: int = 1000, space: int = APPLICATION) -> PacketBuilder:
        builder = PacketBuilder(path)
        builder.begin(space, path, FULL, room)
        self.paths.write(builder, 0.0)
        return builder

    def challenge(self, path: Path) -> bytes:
        """Write the challenge that is due on `path`."""
        builder = self.write(path)
        assert builder.pieces[-1][0] == 0x1A
        return decode_path_challenge(builder.pieces[-1], 1)[0]


# --- which path -------------------------------------------------------------------------------------------------------


def test_datagrams_belong_to_the_path_of_their_addresses() -> None:
    bench = Bench()
    assert bench.paths.for_datagrams(HOME, None) is bench.first
    assert bench.paths.for_datagrams(HOME, "here") is bench.first
    assert bench.first.local == "here"  # now it is known
    assert bench.paths.for_datagrams(HOME, "here") is bench.first
    other = bench.paths.for_datagrams(HOME, "there")
    assert other is not bench.first
    assert other is not None
    assert not other.is_validated


def test_a_path_is_remembered_only_for_an_authentic_packet() -> None:
    """security.md row 9: addresses can be forged."""
    bench = Bench()
    path = bench.paths.for_datagrams(AWAY, None)
    assert path is not None
    assert bench.paths.known == [bench.first]
    bench.paths.admit(path)
    bench.paths.admit(path)
    assert bench.paths.known == [bench.first, path]
    assert bench.paths.for_datagrams(AWAY, None) is path
    assert (path.peer_cid, path.peer_cid_sequence) == (b"peer-0", 0)


def test_new_paths_are_bound_by_the_peers_largest_payload() -> None:
    bench = Bench()
    bench.paths.on_peer_limits(1250, True)
    path = bench.arrive(AWAY, probing=True)
    assert bench.paths.peer_disables_migration
    assert (bench.first.mtu.ceiling, path.mtu.ceiling) == (1250, 1250)


@pytest.mark.parametrize("remote", [("10.0.9.9", 53), ("10.0.9.9", 0)])
def test_no_path_leads_to_a_port_that_only_reflects(remote: Hashable) -> None:
    """RFC 9000 §21.5."""
    assert Bench().paths.for_datagrams(remote, None) is None


@pytest.mark.parametrize("changes", [{"is_client": True}, {"can_migrate": False}])
def test_other_addresses_are_dropped_by_clients_and_during_the_handshake(changes: dict[str, bool]) -> None:
    """RFC 9000 §9."""
    bench = Bench(**changes)
    assert bench.paths.for_datagrams(AWAY, None) is None
    assert bench.paths.for_datagrams(HOME, None) is bench.first


def test_known_paths_are_bounded_and_the_useful_ones_stay() -> None:
    """security.md row 9."""
    bench = Bench()
    active = bench.arrive(AWAY)
    for number in range(20):
        bench.arrive(("10.1.0.1", number + 2000), probing=True)
        assert len(bench.paths.known) <= MAX_PATHS
    assert bench.paths.active is active
    assert bench.first in bench.paths.known  # the way back
    assert bench.paths.for_datagrams(("10.1.0.1", 2019), None) in bench.paths.known


def test_a_path_that_makes_room_is_not_waited_for() -> None:
    bench = Bench()
    path = bench.arrive(AWAY)
    path.is_validated = True
    bench.arrive(FURTHER)  # from here on nothing depends on the first path
    deadline = bench.paths.deadline
    bench.first.validation_deadline = deadline - 1.0
    for number in range(MAX_PATHS):
        bench.arrive(("10.1.0.1", number + 2000), probing=True)
    assert bench.first not in bench.paths.known
    assert not bench.first.has_frames()
    assert bench.paths.deadline == deadline


# --- migration --------------------------------------------------------------------------------------------------------


def test_a_server_follows_and_validates_the_new_path_and_the_old() -> None:
    """RFC 9000 §9.3, §9.3.3."""
    bench = Bench()
    bench.paths.native = True
    path = bench.arrive(AWAY, now=5.0)
    assert bench.paths.active is path
    assert not path.is_validated
    assert list(bench.events) == [PathChanged(AWAY, None)]
    assert path.challenge_is_due
    assert bench.first.challenge_is_due
    assert bench.paths.others_pending
    assert bench.paths.pending == APPLICATION_BIT
    assert bench.paths.deadline == pytest.approx(5.0 + 3 * path.rtt.pto(0.025))
    bench.paths.on_non_probing(path, 6.0)  # the active path: nothing new
    assert len(bench.events) == 1


def test_nobody_is_told_who_did_not_ask() -> None:
    bench = Bench()
    bench.arrive(AWAY)
    assert not bench.events


def test_a_probing_packet_does_not_move_the_connection() -> None:
    """RFC 9000 §9.1."""
    bench = Bench()
    path = bench.arrive(AWAY, probing=True)
    assert bench.paths.active is bench.first
    assert not path.challenge_is_due


def test_a_client_never_follows() -> None:
    bench = Bench(is_client=True)
    bench.paths.on_non_probing(Factory().create(AWAY, None, False), 0.0)
    assert bench.paths.active is bench.first


def test_the_same_host_keeps_what_was_measured_another_does_not() -> None:
    """RFC 9000 §9.4: only a port changed, so the network did not."""
    bench = Bench()
    bench.first.datagram_size = 1400
    path = bench.arrive(SAME_HOST)
    assert path.congestion is bench.first.congestion
    assert path.rtt is bench.first.rtt
    assert path.mtu is bench.first.mtu
    assert path.datagram_size == 1400
    path = bench.arrive(AWAY)
    assert path.congestion is not bench.first.congestion
    assert path.rtt is not bench.first.rtt
    assert path.datagram_size == 1200


def test_a_new_path_gets_a_connection_id_of_its_own() -> None:
    """RFC 9000 §9.5."""
    bench = Bench()
    path = bench.arrive(AWAY)
    assert (path.peer_cid, path.peer_cid_sequence) == (b"peer-1", 1)
    assert bench.first.peer_cid == b"peer-0"


def test_going_back_and_forth_uses_up_no_connection_ids() -> None:
    """A path that has an ID of its own keeps it."""
    bench = Bench()
    path = bench.arrive(AWAY)
    for _ in range(5):
        bench.paths.on_non_probing(bench.first, 0.0)
        bench.paths.on_non_probing(path, 0.0)
    assert (bench.first.peer_cid, path.peer_cid) == (b"peer-0", b"peer-1")


def test_the_answer_to_a_probe_goes_with_another_connection_id() -> None:
    """RFC 9000 §9.5: never one ID to two addresses while there are others."""
    bench = Bench()
    path = bench.arrive(AWAY, probing=True)
    bench.paths.on_challenge(path, b"question")
    assert path.peer_cid == b"peer-1"
    bench.paths.on_challenge(bench.first, b"question")
    assert bench.first.peer_cid == b"peer-0"


def test_without_a_spare_connection_id_the_one_in_use_goes_on() -> None:
    bench = Bench(cids=1)
    assert bench.arrive(AWAY).peer_cid == b"peer-0"


# --- validation -------------------------------------------------------------------------------------------------------


def test_the_answer_to_the_challenge_validates_the_path_that_it_went_to() -> None:
    """RFC 9000 §8.2.3: wherever the answer came from."""
    bench = Bench()
    path = bench.arrive(AWAY)
    data = bench.challenge(path)
    validated = []
    for answer in (b"no such!", data):
        bench.paths.on_response(answer)
        validated.append(path.is_validated)
    assert validated == [False, True]
    assert path.validation_deadline == inf
    assert path.challenges == []
    assert bench.paths.deadline < inf  # the old path is still asked
    bench.paths.on_response(bench.challenge(bench.first))
    assert bench.paths.deadline == inf


def test_a_lost_challenge_is_sent_again_with_other_data() -> None:
    """RFC 9000 §8.2.1."""
    bench = Bench()
    path = bench.arrive(AWAY)
    builder = bench.write(path)
    first = decode_path_challenge(builder.pieces[0], 1)[0]
    (token,) = builder.tokens
    assert not path.has_frames()
    bench.paths.on_lost(token, 1.0)
    assert path.challenge_is_due
    second = bench.challenge(path)
    assert second != first
    bench.paths.on_response(first)  # late, and as good
    assert path.is_validated
    bench.paths.on_lost(token, 2.0)
    assert not path.challenge_is_due


def test_a_probe_repeats_a_challenge_and_never_an_answer() -> None:
    """RFC 9000 §8.2.2: one PATH_RESPONSE for each PATH_CHALLENGE."""
    bench = Bench()
    path = bench.arrive(AWAY)
    bench.paths.on_challenge(path, b"question")
    response, challenge = bench.write(path).tokens
    bench.paths.on_probe(response, 1.0)
    bench.paths.on_lost(response, 1.0)
    assert not path.has_frames()
    bench.paths.on_probe(challenge, 1.0)
    assert path.challenge_is_due


def test_remembered_challenges_are_bounded() -> None:
    bench = Bench()
    path = bench.arrive(AWAY)
    data = []
    for _ in range(MAX_CHALLENGES + 3):
        path.challenge_is_due = True
        data.append(bench.challenge(path))
    assert path.challenges == data[-MAX_CHALLENGES:]


def test_only_the_newest_challenge_of_the_peer_is_answered() -> None:
    """RFC 9000 §8.2.2; security.md row 9: a flood of challenges is one answer a packet."""
    bench = Bench()
    for number in range(100):
        bench.paths.on_challenge(bench.first, b"%8d" % number)
    assert bench.paths.pending == APPLICATION_BIT
    builder = bench.write(bench.first)
    assert len(builder.pieces) == 1
    assert decode_path_response(builder.pieces[0], 1)[0] == b"%8d" % 99
    assert bench.paths.pending == 0
    assert bench.write(bench.first).pieces == []


def test_frames_wait_for_room_and_for_their_space_and_path() -> None:
    bench = Bench()
    path = bench.arrive(AWAY)
    bench.paths.on_challenge(path, b"question")
    assert bench.write(path, 8).pieces == []
    assert bench.write(path, 1000, INITIAL).pieces == []
    assert len(bench.write(bench.first).pieces) == 1  # its own challenge alone
    assert bench.paths.pending == APPLICATION_BIT  # the active path still has frames
    assert len(bench.write(path, 17).pieces) == 1  # room for one of two
    assert path.challenge_is_due
    assert len(bench.write(path, 17).pieces) == 1
    assert bench.paths.pending == 0


def test_paths_that_are_not_active_are_visited_while_they_have_frames() -> None:
    bench = Bench()
    path = bench.arrive(AWAY)
    assert bench.paths.next_other() is bench.first
    bench.write(bench.first)
    assert bench.paths.next_other() is None
    assert not bench.paths.others_pending
    bench.paths.on_challenge(path, b"question")  # the active path: no visit needed
    assert not bench.paths.others_pending


# --- when nobody answers ----------------------------------------------------------------------------------------------


def test_a_path_that_cannot_be_validated_is_left_for_the_last_that_was() -> None:
    """RFC 9000 §9.3.2: an attacker may have sent the packet from elsewhere."""
    bench = Bench()
    bench.paths.native = True
    path = bench.arrive(AWAY)
    bench.paths.on_response(bench.challenge(bench.first))  # home answers
    bench.paths.on_timer(bench.paths.deadline)
    bench.paths.on_timer(1000.0)
    assert bench.paths.active is bench.first
    assert bench.paths.known == [bench.first]
    assert bench.events[-1] == PathChanged(HOME, None)
    assert path.peer_cid_sequence not in bench.ids.peer  # its connection ID is retired
    assert bench.paths.deadline == inf


def test_the_old_path_is_forgotten_when_only_the_new_one_answers() -> None:
    bench = Bench()
    path = bench.arrive(AWAY)
    bench.paths.on_response(bench.challenge(path))
    bench.paths.on_timer(bench.paths.deadline)
    assert bench.paths.known == [path]
    assert 0 not in bench.ids.peer
    assert bench.paths.active is path


def test_when_neither_answers_the_validated_path_is_returned_to_and_kept() -> None:
    """RFC 9000 §9.3.2. It must not be given up in turn: its connection ID is the one in use."""
    bench = Bench()
    bench.first.rtt.update(0.5, 0.0, 0.0)  # its time is longer
    path = bench.arrive(AWAY)
    path.rtt.update(0.001, 0.0, 0.0)
    path.validation_deadline = 0.1
    bench.paths.on_timer(0.1)
    assert bench.paths.active is bench.first
    for _ in range(3):
        bench.paths.on_timer(1000.0)
    assert bench.paths.active is bench.first
    assert bench.paths.known == [bench.first]
    assert 0 in bench.ids.peer
    assert bench.paths.deadline == inf


def test_when_both_times_are_over_at_once_the_validated_path_stays() -> None:
    bench = Bench()
    bench.arrive(AWAY)
    bench.paths.on_timer(1000.0)
    assert bench.paths.active is bench.first
    assert bench.paths.known == [bench.first]


def test_without_a_way_back_the_path_stays() -> None:
    """The idle timeout will tell."""
    bench = Bench()
    bench.first.is_validated = False
    path = bench.arrive(AWAY)
    bench.paths.on_timer(1000.0)
    assert bench.paths.active is path
    assert bench.paths.known == [path]
    bench.paths.on_timer(2000.0)
    assert bench.paths.known == [path]


def test_the_timer_leaves_paths_alone_whose_time_has_not_come() -> None:
    bench = Bench()
    path = bench.arrive(AWAY, now=1.0)
    bench.paths.on_timer(1.1)
    assert path in bench.paths.known
    assert bench.paths.deadline == path.validation_deadline


def test_a_connection_id_that_another_path_uses_is_not_retired() -> None:
    bench = Bench(cids=1)
    path = bench.arrive(AWAY)
    bench.paths.on_response(bench.challenge(path))
    bench.paths.on_timer(bench.paths.deadline)
    assert bench.paths.known == [path]
    assert 0 in bench.ids.peer


def test_zero_length_connection_ids_are_never_retired() -> None:
    bench = Bench(cids=1)
    bench.ids.peer[0].cid = bench.first.peer_cid = b""
    path = bench.arrive(AWAY)
    path.peer_cid_sequence = 5
    bench.paths.on_response(bench.challenge(path))
    bench.paths.on_timer(bench.paths.deadline)
    assert bench.paths.known == [path]
    assert 0 in bench.ids.peer


# --- connection IDs ---------------------------------------------------------------------------------------------------


def test_changing_the_connection_id_retires_the_old_one() -> None:
    bench = Bench(cids=2)
    assert bench.paths.change_connection_id()
    assert bench.first.peer_cid == b"peer-1"
    assert list(bench.ids.peer) == [1]
    assert not bench.paths.change_connection_id()
    assert bench.first.peer_cid == b"peer-1"


def test_an_id_that_two_paths_share_is_not_retired_by_one_of_them() -> None:
    bench = Bench(cids=2)
    bench.arrive(AWAY, probing=True)
    assert bench.paths.change_connection_id()
    assert sorted(bench.ids.peer) == [0, 1]


def test_paths_whose_ids_the_peer_retires_take_others() -> None:
    """RFC 9000 §19.15."""
    bench = Bench(cids=2)
    path = bench.arrive(AWAY)
    assert (bench.first.peer_cid_sequence, path.peer_cid_sequence) == (0, 1)
    for sequence in (2, 3):
        bench.ids.on_new_frame(sequence, 2, b"peer-%d" % sequence, b"%16d" % sequence)
    bench.paths.on_ids_retired()
    assert {bench.first.peer_cid_sequence, path.peer_cid_sequence} == {2, 3}
    bench.paths.on_ids_retired()  # nothing more to do
    assert {bench.first.peer_cid, path.peer_cid} == {b"peer-2", b"peer-3"}


def test_the_active_path_is_served_first_and_others_without_an_id_are_given_up() -> None:
    bench = Bench(cids=2)
    path = bench.arrive(AWAY)
    bench.ids.on_new_frame(2, 2, b"peer-2", b"%16d" % 2)
    bench.paths.on_ids_retired()
    assert bench.paths.known == [path]
    assert path.peer_cid == b"peer-2"
    bench.ids.peer.clear()
    bench.paths.on_ids_retired()
    assert bench.paths.known == [path]


def test_the_factory_has_to_be_supplied() -> None:
    with pytest.raises(TypeError, match="base class"):
        PathFactory().create(HOME, None, True)


# --- on the simulator -------------------------------------------------------------------------------------------------


def test_a_forged_move_is_undone_and_the_transfer_goes_on() -> None:
    """RFC 9000 §9.3.2: somebody copies one packet to another address; the client is still where it was."""
    world = World(1, up=[Delay(0.01)], down=[Delay(0.01)])
    client, server = world.establish()
    parts = server.connection._parts
    client.connection.send_ping(1)
    transmit = client.connection.next_transmit(world.now)
    assert transmit is not None
    server.connection.receive_datagram(transmit.datagrams[0], FURTHER, world.now)
    assert parts.paths.active.remote == FURTHER
    world.run(lambda: parts.paths.active.remote == CLIENT_ADDRESS)
    assert parts.paths.active.is_validated
    world.transfer(client, server, 20_000)
    world.run(limit=3.0)
    assert len(parts.paths.known) == 1


def test_a_client_behind_a_nat_is_followed_through_many_ports() -> None:
    nat = Nat(CLIENT_ADDRESS)
    world = World(2, up=[nat.outward(), Delay(0.01)], down=[Delay(0.01), nat.inward()])
    client, server = world.establish()
    for number in range(12):
        nat.rebind((CLIENT_ADDRESS[0], 5000 + number))
        world.transfer(client, server, 3000)
        world.run(limit=2.0)
    parts = server.connection._parts
    assert parts.paths.active.remote == (CLIENT_ADDRESS[0], 5011)
    assert parts.paths.active.is_validated
    assert len(parts.paths.known) <= MAX_PATHS
    challenges = [packet for packet in server.capture.sent("PATH_CHALLENGE") if packet.remote != CLIENT_ADDRESS]
    assert all(packet.size >= 1100 for packet in challenges)  # padded to a datagram of 1200 bytes (RFC 9000 §8.2.1)
