"""What concerns all components: discarded keys, parameters, confirmation, the shared mask, the earliest deadline."""

from __future__ import annotations

from math import inf

import pytest

from quicio.quic.parts import Parts
from quicio.quic.wire.constants import (
    APPLICATION,
    APPLICATION_BIT,
    EPOCH_HANDSHAKE,
    EPOCH_INITIAL,
    HANDSHAKE,
    HANDSHAKE_BIT,
    INITIAL,
    INITIAL_BIT,
)
from sim.rude import RudePeer, alter_parameters
from sim.world import World


def started() -> Parts:
    """A client that has sent its ClientHello."""
    rude = RudePeer(victim_is_client=True)
    rude.to_initial()
    return rude.victim._parts


def test_discarded_keys_take_everything_of_their_space_along() -> None:
    """RFC 9001 §4.9."""
    parts = started()
    assert parts.paths.active.in_flight > 0
    assert parts.loss.spaces[INITIAL].eliciting_in_flight
    parts.handshake.want(INITIAL_BIT | APPLICATION_BIT)
    parts.acks.want(INITIAL_BIT)
    parts.discard_space(INITIAL)
    assert parts.keys.sealing[EPOCH_INITIAL] is None
    assert parts.keys.opening[EPOCH_INITIAL] is None
    assert parts.paths.active.in_flight == 0
    assert not parts.loss.spaces[INITIAL].eliciting_in_flight
    assert parts.acks.pending == 0
    assert parts.wants.mask == APPLICATION_BIT


def test_discarding_twice_does_nothing_more() -> None:
    parts = started()
    parts.discard_space(INITIAL)
    parts.loss.pto_count = 3
    parts.discard_space(INITIAL)
    parts.discard_space(HANDSHAKE)  # keys that never were
    assert parts.loss.pto_count == 3


def test_the_shared_mask_can_be_made_exact() -> None:
    parts = started()
    parts.wants.mask = INITIAL_BIT | HANDSHAKE_BIT | APPLICATION_BIT
    parts.streams.pending = APPLICATION_BIT
    parts.acks.pending = HANDSHAKE_BIT
    parts.recompute_wants()
    assert parts.wants.mask == HANDSHAKE_BIT | APPLICATION_BIT


def test_the_earliest_deadline_of_all() -> None:
    parts = started()
    for component in parts.timed:
        component.deadline = inf
    assert parts.deadline() == inf
    for number, component in enumerate(parts.timed):
        component.deadline = 10.0 - number
        assert parts.deadline() == 10.0 - number


def test_the_peers_parameters_reach_those_whom_they_concern() -> None:
    """RFC 9000 §18.2."""
    world = World(
        1,
        server={"idle_timeout": 7.0, "max_datagram_frame_size": 700, "max_streams_bidi": 3, "max_data": 4000},
    )
    client, server = world.establish()
    parts = client.connection._parts
    assert parts.peer_max_ack_delay == parts.loss.max_ack_delay == pytest.approx(0.025)
    assert parts.peer_ack_delay_scale == pytest.approx(8e-6)
    assert parts.lifecycle._idle_timeout == 7.0
    assert parts.datagrams.remote_max_frame_size == 700
    assert parts.connection_ids.peer[0].reset_token == server.connection._parts.connection_ids.host_reset_token
    assert [client.connection.open_stream() for _ in range(4)] == [0, 4, 8, None]
    assert server.connection._parts.connection_ids.peer[0].reset_token is None  # clients have none


def test_other_exponents_and_delays_scale_the_peers_delays() -> None:
    def change(parameters: dict[int, bytes]) -> None:
        parameters[0x0A] = b"\x05"  # ack_delay_exponent
        parameters[0x0B] = b"\x40\x64"  # max_ack_delay, 100 ms
        parameters[0x03] = b"\x45\x14"  # max_udp_payload_size, 1300

    rude = RudePeer(victim_is_client=True, alter=alter_parameters(change)).to_confirmed()
    parts = rude.victim._parts
    assert parts.peer_ack_delay_scale == pytest.approx(32e-6)
    assert parts.peer_max_ack_delay == pytest.approx(0.1)
    assert parts.paths.active.mtu.ceiling <= 1300
    rtt = parts.paths.active.rtt
    assert parts.pto() == pytest.approx(rtt.pto(0.1))


def test_confirmation_discards_the_handshakes_keys_and_gives_out_connection_ids() -> None:
    """RFC 9001 §4.1.2, RFC 9000 §5.1.1."""
    rude = RudePeer(victim_is_client=False).to_initial()
    parts = rude.victim._parts
    assert not parts.keys.confirmed
    assert len(parts.connection_ids.local_cids()) == 1
    assert not parts.paths.can_migrate
    rude = RudePeer(victim_is_client=False).to_confirmed()
    parts = rude.victim._parts
    assert parts.keys.confirmed
    assert parts.keys.sealing[EPOCH_INITIAL] is parts.keys.sealing[EPOCH_HANDSHAKE] is None
    assert len(parts.connection_ids.local_cids()) == 8
    assert parts.paths.can_migrate
    assert parts.loss.handshake_confirmed


def test_having_handshake_keys_is_told_to_loss_detection() -> None:
    """RFC 9002 §A.8: which space an anti-deadlock probe goes to."""
    rude = RudePeer(victim_is_client=True).to_initial()
    assert not rude.victim._parts.loss.has_handshake_keys
    rude = RudePeer(victim_is_client=True).to_handshake()
    assert rude.victim._parts.loss.has_handshake_keys


def test_measurements_follow_the_path() -> None:
    rude = RudePeer(victim_is_client=False).to_confirmed()
    parts = rude.victim._parts
    old = parts.paths.active
    new = parts.paths._factory.create("elsewhere", None, True)
    parts.paths.active = new
    parts.follow_path()
    assert parts.loss.path is new
    assert parts.streams.rtt is new.rtt
    parts.streams.rtt = old.rtt
    parts.follow_path()  # nothing changed: nothing is touched
    assert parts.streams.rtt is old.rtt


def test_writers_come_in_the_order_in_which_others_wait_for_them() -> None:
    """Bulk data last: otherwise it would crowd out what the peer needs to go on."""
    parts = started()
    assert parts.writers[0] is parts.handshake
    assert parts.writers[-1] is parts.streams
    assert len({id(component) for component in parts.writers}) == 6
    assert APPLICATION == 2


def test_once_closing_only_the_lifecycle_waits() -> None:
    """RFC 9000 §10.2: nothing is sent again, so no probe timeout may wake the driver or run."""
    rude = RudePeer(victim_is_client=False).to_confirmed()
    parts = rude.victim._parts
    rude.victim.send_stream_data(1, b"in flight")
    rude.listen()
    assert parts.deadline() == parts.loss.deadline
    rude.victim.close(0)
    rude.listen()
    assert parts.deadline() == parts.lifecycle.deadline > parts.loss.deadline
    parts.run_timers(parts.loss.deadline)
    assert parts.loss.probe_timeouts == 0


def test_timers_run_when_their_time_has_come_and_stop_at_the_end_of_the_connection() -> None:
    rude = RudePeer(victim_is_client=False).to_confirmed()
    parts = rude.victim._parts
    rude.victim.send_stream_data(1, b"in flight")
    rude.listen()
    parts.run_timers(parts.loss.deadline - 0.001)
    assert parts.loss.probe_timeouts == 0
    parts.run_timers(parts.loss.deadline)
    assert parts.loss.probe_timeouts == 1
    parts.run_timers(rude.now + 1000.0)  # idle for too long
    assert rude.victim.is_terminated
    assert parts.loss.probe_timeouts == 1
