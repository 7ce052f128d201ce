"""Endpoints and paths under attack: the rows of `docs/security.md` about peers without keys, and about addresses.

Each test names its row, presses on one limit and fails when that limit is raised. `test_security.py` has the other rows.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Hashable
from functools import partial

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from helpers.certificates import make_certificates
from quicio.quic.connection import QuicConnection
from quicio.quic.endpoint import (
    ANSWERS_PER_SECOND,
    HALF_OPEN_LIMIT,
    MAX_ANSWERS,
    MAX_INCOMING_DATAGRAMS,
    MAX_STUBS,
    MAX_UNDECIDED,
    Endpoint,
    Incoming,
    Policy,
    refusal,
    retry_under_load,
)
from quicio.quic.half_open import LOAD_FRACTION, NETWORK_SHARE
from quicio.quic.inbound import MAX_WAITING
from quicio.quic.lifecycle import MAX_CLOSE_INTERVAL
from quicio.quic.negotiation import MAX_RETRY_TOKEN
from quicio.quic.paths.path import AMPLIFICATION_FACTOR, BLOCKED_PORTS
from quicio.quic.paths.validation import MAX_CHALLENGES, MAX_PATHS
from quicio.quic.transmit import Received, Transmit
from quicio.quic.wire.constants import (
    APPLICATION,
    CONNECTION_REFUSED,
    EPOCH_HANDSHAKE,
    EPOCH_INITIAL,
    EPOCH_ONE_RTT,
    EPOCH_ZERO_RTT,
    INITIAL,
    SMALLEST_MAX_DATAGRAM_SIZE,
    VERSION_1,
)
from quicio.quic.wire.headers import (
    RETRY_PACKET,
    VERSION_NEGOTIATION_PACKET,
    encode_connection_ids,
    parse_long_header,
)
from quicio.quic.wire.retry import encode_retry
from sim.bounds import check_bounds
from sim.links import Mtu, Switch
from sim.rude import RUDE_ADDRESS, RudePeer, configurations, crypto_frame, varint
from sim.simulation import SimulatedEnvironment
from sim.stages import bottleneck
from sim.world import Peer, World

BOTH = pytest.mark.parametrize("victim_is_client", [False, True], ids=["server", "client"])
ELSEWHERE = ("198.51.100.7", 4433)


def confirmed(victim_is_client: bool = False) -> RudePeer:
    rude = RudePeer(victim_is_client=victim_is_client).to_confirmed()
    rude.forget()
    return rude


class Attacked:
    """A listening endpoint, and clients that send their first flights from any address."""

    def __init__(self, policy: Policy = retry_under_load, half_open_limit: int = HALF_OPEN_LIMIT) -> None:
        self.environment = SimulatedEnvironment(5)
        self.endpoint = Endpoint(environment=self.environment, half_open_limit=half_open_limit)
        self.endpoint.listen(configurations({}, is_client=False), policy)
        self.now = 1.0

    def first_flight(self) -> list[bytes]:
        client = QuicConnection(configuration=configurations({}, is_client=True), environment=self.environment)
        client.connect(RUDE_ADDRESS, self.now)
        return [data for data, _ in client.datagrams_to_send(self.now)]

    def receive(self, *datagrams: bytes, remote: Hashable = RUDE_ADDRESS) -> list[Transmit]:
        """Deliver a batch; the stateless answers to it."""
        self.endpoint.receive(Received(list(datagrams), remote), self.now)
        answers: list[Transmit] = []
        while (answer := self.endpoint.next_transmit()) is not None:
            answers.append(answer)
        return answers

    def hello(self, remote: Hashable = RUDE_ADDRESS) -> list[Transmit]:
        return self.receive(self.first_flight()[0], remote=remote)


def accept(incoming: Incoming) -> None:
    """A policy that knows no load."""
    incoming.accept()


def all_ended(*peers: Peer) -> bool:
    return all(peer.connection.is_terminated for peer in peers)


def unknown_version(size: int, version: int = 0x1A2A3A4A, cid: bytes = bytes(8)) -> bytes:
    head = encode_connection_ids(0xC0, version, cid, b"theirs")
    return head + bytes(size - len(head))


# --- row 8: amplification --------------------------------------------------------------------------------------------


def test_row_08_an_unproved_address_gets_three_times_what_it_sent() -> None:
    """Row 8: a long chain, one Initial, and a client that never answers; padding and rubbish count as received."""
    names = ("localhost", *[f"host-{number}.amplification.example" for number in range(300)])
    made = make_certificates("ed25519", names=names, intermediates=8)
    rude = RudePeer(
        victim_is_client=False,
        victim={"certificate": made.chain[0], "certificate_chain": made.chain[1:], "private_key": made.private_key},
    ).to_initial()
    assert sum(len(item.public_bytes(Encoding.DER)) for item in made.chain) > 10_000
    received = 0
    for data, _ in rude.carrier.datagrams_to_send(rude.now):
        rude.deliver(data)
        received += len(data)

    def wait() -> int:
        for _ in range(8):
            rude.now += 0.5
            rude.victim.handle_timer(rude.now)
            rude.listen()
        return sum(map(len, rude.datagrams))

    sent = wait()
    assert sent <= AMPLIFICATION_FACTOR * received
    assert sent > AMPLIFICATION_FACTOR * received - 2 * SMALLEST_MAX_DATAGRAM_SIZE
    rude.deliver(b"\x40" + rude.victim.host_cid + bytes(1200))  # no key opens this
    assert sent < wait() <= AMPLIFICATION_FACTOR * (received + 1209)


def test_row_08_small_initials_are_not_answered() -> None:
    """Row 8: neither by the endpoint nor by a connection (RFC 9000 §14.1)."""
    attacked = Attacked()
    assert attacked.receive(attacked.first_flight()[0][:1199]) == []
    assert not attacked.endpoint.connections

    rude = RudePeer(victim_is_client=False).to_initial()
    rude.send(EPOCH_INITIAL, b"\x01", pad=False)
    assert rude.datagrams == []
    assert rude.victim.get_timer() is None  # nothing was begun


def test_row_08_closing_is_no_amplifier_either() -> None:
    """Row 8, `MAX_CLOSE_INTERVAL`: CONNECTION_CLOSE is repeated ever more rarely (RFC 9000 §10.2.1)."""
    rude = confirmed()
    rude.victim.close(0)
    rude.listen()
    for _ in range(200):
        rude.send(EPOCH_ONE_RTT, b"\x01")
    assert len(rude.datagrams) <= 9
    assert rude.victim._parts.lifecycle._close_interval <= MAX_CLOSE_INTERVAL


# --- row 9: Version Negotiation --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("datagram", "is_answered"),
    [
        (unknown_version(1200), True),
        (unknown_version(1200, cid=bytes(255)), True),
        (unknown_version(1199), False),
        (unknown_version(1200, version=0), False),
        (b"\xc0\x1a\x2a\x3a\x4a\xff", False),
    ],
    ids=["unknown", "long ID", "small", "version 0", "cut short"],
)
def test_row_09_version_negotiation_answers_once_and_small(datagram: bytes, is_answered: bool) -> None:
    """Row 9: only what cannot be an answer itself is answered, with less than it has."""
    answers = Attacked().receive(datagram)
    assert len(answers) == is_answered
    for answer in answers:
        assert len(answer.datagrams[0]) < len(datagram)
        assert parse_long_header(answer.datagrams[0], 0).packet_type == VERSION_NEGOTIATION_PACKET
        assert Attacked().receive(answer.datagrams[0]) == []


def test_row_09_stateless_answers_have_a_rate_and_a_queue() -> None:
    """Rows 9, 11 and 12, `ANSWERS_PER_SECOND` and `MAX_ANSWERS`."""
    attacked = Attacked()
    attacked.endpoint.receive(Received([unknown_version(1200)] * (MAX_ANSWERS + 50), ELSEWHERE), attacked.now)
    assert len(attacked.endpoint._answers) == MAX_ANSWERS
    count = len(attacked.receive())
    for _ in range(30):
        count += len(attacked.receive(*[unknown_version(1200)] * 100))
    assert count == ANSWERS_PER_SECOND
    attacked.now += 0.1
    assert len(attacked.receive(*[unknown_version(1200)] * 200)) == pytest.approx(ANSWERS_PER_SECOND / 10, abs=1)


def test_row_09_a_client_follows_version_negotiation_once_and_only_when_it_makes_sense() -> None:
    """Row 9: a packet that lists the version in use, or comes late, is a forgery."""
    rude = RudePeer(victim_is_client=True).to_initial()
    original = rude.victim.original_destination_connection_id
    forged = encode_connection_ids(0xC0, 0, rude.victim.host_cid, original) + VERSION_1.to_bytes(4, "big")
    rude.deliver(forged)
    assert rude.victim.close_reason is None
    rude.to_handshake()
    rude.deliver(encode_connection_ids(0xC0, 0, rude.victim.host_cid, original) + b"\x1a\x2a\x3a\x4a")
    assert rude.victim.close_reason is None


# --- row 10: memory before the handshake -----------------------------------------------------------------------------


def test_row_10_coalesced_packets_for_others_are_dropped_before_anything_is_kept() -> None:
    """Row 10: what follows in a datagram belongs to the same connection ID or to nobody."""
    rude = RudePeer(victim_is_client=False).to_initial()
    (first,) = [data for data, _ in rude.carrier.datagrams_to_send(rude.now)]
    foreign = rude.packet(EPOCH_HANDSHAKE, bytes(100), destination=b"somebody", key=rude.sealing[EPOCH_INITIAL])
    rude.deliver(first + foreign * 20)
    assert rude.victim._inbound._waiting == []


@BOTH
def test_row_10_packets_that_wait_for_keys_are_counted(victim_is_client: bool) -> None:
    """Row 10, `MAX_WAITING`; and nothing waits once the handshake is over."""
    rude = RudePeer(victim_is_client=victim_is_client).to_initial()
    rude.send(EPOCH_INITIAL, crypto_frame(0, rude.crypto(INITIAL)[:50]))
    for _ in range(3 * MAX_WAITING):
        rude.deliver(rude.packet(EPOCH_HANDSHAKE, b"\x01" * 50, key=rude.sealing[EPOCH_INITIAL]))
    assert len(rude.victim._inbound._waiting) == MAX_WAITING
    rude = RudePeer(victim_is_client=victim_is_client).to_initial().allow_zero_rtt()
    rude.victim._parts.keys.discard(EPOCH_ZERO_RTT)
    rude.to_confirmed()
    for _ in range(MAX_WAITING):
        rude.deliver(rude.packet(EPOCH_ZERO_RTT, b"\x01" * 50))
    assert rude.victim._inbound._waiting == []


def test_row_10_attempts_that_wait_for_a_decision_are_counted() -> None:
    """Row 10, `MAX_UNDECIDED` and `MAX_INCOMING_DATAGRAMS`; they end by themselves."""
    undecided: list[Incoming] = []
    attacked = Attacked(undecided.append)
    flight = attacked.first_flight()[0]
    for _ in range(3 * MAX_INCOMING_DATAGRAMS):
        attacked.receive(flight)
    assert len(undecided) == 1
    assert len(undecided[0].received().datagrams) == MAX_INCOMING_DATAGRAMS
    refused = 0
    for index in range(MAX_UNDECIDED + 20):
        refused += len(attacked.hello(("10.0.0.1", 1024 + index)))
    assert len(undecided) == MAX_UNDECIDED
    assert refused == 21
    attacked.endpoint.handle_timer(attacked.now + 11.0)
    assert not attacked.endpoint._undecided
    assert all(incoming.is_decided for incoming in undecided)


# --- row 11: handshake floods ----------------------------------------------------------------------------------------


def kinds(answers: list[Transmit]) -> list[int]:
    return [parse_long_header(answer.datagrams[0], 0).packet_type for answer in answers]


def test_row_11_clients_prove_their_address_under_load_and_are_refused_beyond_the_limit() -> None:
    """Row 11, `HALF_OPEN_LIMIT` and `LOAD_FRACTION`, with clients from everywhere."""
    limit = 32
    attacked = Attacked(half_open_limit=limit)
    for index in range(limit // LOAD_FRACTION):
        assert attacked.hello((f"10.{index}.0.1", 1024)) == []
    assert kinds(attacked.hello(("10.200.0.1", 1024))) == [RETRY_PACKET]
    assert len(attacked.endpoint.connections) == limit // LOAD_FRACTION

    attacked = Attacked(accept, half_open_limit=limit)
    for index in range(limit):
        assert attacked.hello((f"10.{index}.0.1", 1024)) == []
    (answer,) = attacked.hello(("10.200.0.1", 1024))
    assert len(answer.datagrams[0]) < 100
    assert len(attacked.endpoint.connections) == limit
    assert Endpoint(environment=attacked.environment).half_open.limit == HALF_OPEN_LIMIT


def test_row_11_one_network_cannot_use_up_the_limit() -> None:
    """Row 11, `NETWORK_SHARE`: others are still served."""
    limit = 32
    attacked = Attacked(accept, half_open_limit=limit)
    for index in range(2 * limit):
        attacked.hello((f"192.0.2.{index}", 1024))
    assert len(attacked.endpoint.connections) == limit // NETWORK_SHARE
    assert attacked.hello(("198.51.100.1", 1024)) == []
    assert len(attacked.endpoint.connections) == limit // NETWORK_SHARE + 1


def test_row_11_places_come_back_when_handshakes_time_out() -> None:
    """Row 11: and nothing of them is left."""
    attacked = Attacked(half_open_limit=1000)
    for index in range(20):
        attacked.hello((f"10.{index}.0.1", 1024))
    endpoint = attacked.endpoint
    assert len(endpoint.half_open) == 20
    for moment in (12.0, 13.0, 30.0, 90.0):
        for connection in list(endpoint.connections):
            connection.handle_timer(moment)
            connection.datagrams_to_send(moment)
            if connection.is_terminated:
                endpoint.forget(connection)
    assert len(endpoint.half_open) == 0
    for table in (
        endpoint.connections,
        endpoint._routes,
        endpoint._issuers,
        endpoint._first_cids,
        endpoint._initial_routes,
    ):
        assert not table


def test_row_11_a_refusal_says_so_in_one_small_packet() -> None:
    """Row 11: without TLS, without a connection."""
    rude = RudePeer(victim_is_client=True).to_initial()
    (hello,) = rude.datagrams
    transmit = refusal(parse_long_header(hello, 0), Received([hello], RUDE_ADDRESS), CONNECTION_REFUSED)
    rude.deliver(transmit.datagrams[0])
    reason = rude.victim.close_reason
    assert reason is not None
    assert (reason.code, reason.by_peer) == (CONNECTION_REFUSED, True)


def test_row_11_a_retry_token_leaves_room_for_a_client_hello() -> None:
    """Rows 11 and 26, `MAX_RETRY_TOKEN`: a larger one would silence the client, or blow up its packets."""
    for size, is_taken in ((MAX_RETRY_TOKEN, True), (MAX_RETRY_TOKEN + 1, False), (20_000, False)):
        rude = RudePeer(victim_is_client=True).to_initial()
        original = rude.victim.original_destination_connection_id
        rude.forget()
        rude.deliver(encode_retry(VERSION_1, b"retrying", rude.victim.host_cid, original, bytes(size)))
        assert bool(rude.datagrams) is is_taken
        for datagram in rude.datagrams:
            assert len(datagram) == SMALLEST_MAX_DATAGRAM_SIZE
            assert len(parse_long_header(datagram, 0).token) == size


def test_row_11_stubs_are_counted() -> None:
    """Row 26, `MAX_STUBS`: closed connections are remembered for their peers' sake, the latest of them."""
    attacked = Attacked()
    for _ in range(MAX_STUBS // 50 + 20):
        attacked.hello()
        connection = next(iter(attacked.endpoint.connections))
        issuer = attacked.endpoint._issuers[connection]
        for _ in range(50):
            issuer.issue()
        attacked.endpoint.leave_stub(connection, Transmit([bytes(30)], RUDE_ADDRESS), 5.0, attacked.now)
    assert MAX_STUBS - 51 < len(attacked.endpoint._stubs) <= MAX_STUBS
    attacked.endpoint.handle_timer(attacked.now + 6.0)
    assert not attacked.endpoint._stubs


# --- row 12: stateless reset -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [9, 21, 22, 30, 43, 44, 1200])
def test_row_12_a_reset_is_smaller_than_what_asked_for_it(size: int) -> None:
    """Row 12: so two endpoints without state do not answer each other for ever."""
    attacked = Attacked()
    answers = attacked.receive(b"\x40" + bytes(size - 1))
    for answer in answers:
        assert 21 <= len(answer.datagrams[0]) < size
    assert len(answers) == (size > 21)
    current = answers
    for _ in range(50):
        current = [reply for answer in current for reply in attacked.receive(answer.datagrams[0])]
    assert current == []


def test_row_12_no_reset_for_an_id_that_is_in_use() -> None:
    """Row 12: RFC 9000 §21.11, the token of a live connection is never told, wherever its ID is tried from."""
    attacked = Attacked()
    attacked.hello()
    (connection,) = attacked.endpoint.connections
    for cid in connection._parts.connection_ids.local_cids():
        assert attacked.receive(b"\x40" + cid + bytes(100), remote=ELSEWHERE) == []


@BOTH
@pytest.mark.parametrize("size", [21, 28, 29, 100])
def test_row_12_only_the_right_token_resets(victim_is_client: bool, size: int) -> None:
    """Row 12: all 16 bytes of it, at the end of a datagram of any size."""
    rude = confirmed(victim_is_client)
    rude.victim.change_connection_id()
    rude.victim.send_ping(1)
    rude.listen()
    rude.forget()
    parts = rude.victim._parts
    token = parts.connection_ids.peer[parts.paths.active.peer_cid_sequence].reset_token
    assert token is not None
    rude.deliver(b"\x40" + bytes(size - 17) + bytes((token[0] ^ 1,)) + token[1:])
    rude.deliver(b"\x40" + bytes(size - 17) + token[:-1] + bytes((token[-1] ^ 1,)))
    rude.deliver((b"\x40" + bytes(3) + token)[:20])
    before = rude.victim.is_terminated
    rude.deliver(b"\x40" + bytes(size - 17) + token)
    assert (before, rude.victim.is_terminated) == (False, True)
    assert rude.datagrams == []


# --- rows 16 and 17: probes ------------------------------------------------------------------------------------------


def test_row_16_path_challenges_are_repeated_and_given_up() -> None:
    """Row 16, `MAX_CHALLENGES`: a path that loses its probes is probed again; then the connection returns to the old one."""
    rude = confirmed()
    old = rude.victim.get_peer_address()
    rude.deliver(rude.packet(EPOCH_ONE_RTT, b"\x01" + bytes(1100)), remote=ELSEWHERE)
    path = rude.victim._parts.paths.active
    challenges: set[bytes] = set()
    for _ in range(40):
        challenges |= set(path.challenges)
        assert len(path.challenges) <= MAX_CHALLENGES
        timer = rude.victim.get_timer()
        if timer is None or rude.victim.get_peer_address() == old:
            break
        rude.now = max(rude.now, timer)
        rude.victim.handle_timer(rude.now)
        rude.listen()
    assert len(challenges) >= 2
    assert rude.victim.get_peer_address() == old
    assert rude.victim.close_reason is None


def test_row_16_challenges_that_are_remembered_are_the_latest() -> None:
    """Row 16, `MAX_CHALLENGES`: a peer that has every challenge declared lost, and answers none."""
    rude = confirmed()
    rude.deliver(rude.packet(EPOCH_ONE_RTT, b"\x01" + bytes(1100)), remote=ELSEWHERE)
    path = rude.victim._parts.paths.active
    state = rude.victim._parts.loss.spaces[APPLICATION]
    for _ in range(4 * MAX_CHALLENGES):
        for uid in range(5):
            rude.victim.send_ping(uid)
            rude.listen()
        largest = state.next_number - 1
        if largest not in state.skipped:
            frame = b"\x02" + varint(largest) + b"\x00\x00\x00" + bytes(1100)
            rude.deliver(rude.packet(EPOCH_ONE_RTT, frame), remote=ELSEWHERE)
        rude.now += 0.001
        rude.drain_events()
    assert rude.victim.close_reason is None
    assert len(rude.frames("PATH_CHALLENGE")) > 2 * MAX_CHALLENGES
    assert len(path.challenges) == MAX_CHALLENGES


def test_row_17_the_datagram_size_is_what_arrived_and_nothing_that_the_network_says() -> None:
    """Row 17: probes that vanish change nothing; a black hole takes the size to the base and not below."""
    narrow = Mtu(1300)
    world = World(9, up=[*bottleneck(), narrow], down=bottleneck())
    client, server = world.establish()
    for _ in range(4):
        world.transfer(client, server, 1_000_000)
    size = client.connection.statistics().datagram_size
    assert SMALLEST_MAX_DATAGRAM_SIZE < size <= 1300
    narrow.size = SMALLEST_MAX_DATAGRAM_SIZE
    world.transfer(client, server, 100_000)
    assert client.connection.statistics().datagram_size == SMALLEST_MAX_DATAGRAM_SIZE
    assert client.connection._parts.paths.active.mtu.black_holes == 1


# --- row 18: migration -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("port", sorted(BLOCKED_PORTS))
def test_row_18_no_path_to_a_port_that_answers_everything(port: int) -> None:
    """Row 18, `BLOCKED_PORTS`: a forged source address must not turn our packets into requests to a service."""
    rude = confirmed()
    rude.deliver(rude.packet(EPOCH_ONE_RTT, b"\x01"), remote=("192.0.2.99", port))
    assert rude.victim.get_peer_address() == RUDE_ADDRESS
    assert rude.datagrams == []

    attacked = Attacked()
    assert attacked.hello(("192.0.2.99", port)) == []
    assert not attacked.endpoint.connections
    assert attacked.receive(unknown_version(1200), b"\x40" + bytes(100), remote=("192.0.2.99", port)) == []


def test_row_18_addresses_that_are_opaque_are_not_looked_into() -> None:
    """Row 18: only (host, port, …) tuples have ports."""
    attacked = Attacked()
    attacked.hello("53")
    attacked.hello(("name",))
    assert len(attacked.endpoint.connections) == 2


def test_row_18_the_old_path_is_asked_too() -> None:
    """Row 18: whoever copies a packet off the path does not get the connection while the true peer answers (§9.3.3)."""
    rude = confirmed()
    rude.deliver(rude.packet(EPOCH_ONE_RTT, b"\x01" + bytes(1100)), remote=ELSEWHERE)
    assert rude.victim.get_peer_address() == ELSEWHERE
    known = {path.remote: path for path in rude.victim._parts.paths.known}
    assert known[RUDE_ADDRESS].challenges
    assert known[ELSEWHERE].challenges
    assert not known[ELSEWHERE].is_validated
    rude.send(EPOCH_ONE_RTT, b"\x01")  # the true peer goes on, with a higher packet number
    assert rude.victim.get_peer_address() == RUDE_ADDRESS


def test_row_18_paths_are_counted() -> None:
    """Row 18, `MAX_PATHS`: a peer that shows with ever new addresses."""
    rude = confirmed()
    for index in range(50):
        rude.deliver(rude.packet(EPOCH_ONE_RTT, b"\x01" + bytes(60)), remote=(f"198.51.100.{index}", 4433))
        check_bounds(rude.victim)
    assert len(rude.victim._parts.paths.known) == MAX_PATHS
    assert rude.victim.close_reason is None


def test_row_18_what_was_sent_on_paths_that_are_gone_is_not_tracked() -> None:
    """Rows 18 and 26: a peer that moves and moves, and acknowledges nothing, has us track what its known paths hold."""
    rude = confirmed()
    state = rude.victim._parts.loss.spaces[APPLICATION]
    for index in range(300):
        rude.now += 0.001
        rude.deliver(rude.packet(EPOCH_ONE_RTT, b"\x01" + bytes(60)), remote=(f"198.51.100.{index}", 4433))
        check_bounds(rude.victim)
    tracked = {packet.path for packet in state.sent if packet is not None}
    assert tracked <= set(rude.victim._parts.paths.known)
    assert len([packet for packet in state.sent if packet is not None]) < 40
    assert rude.victim.close_reason is None


def test_row_18_forged_datagrams_make_no_path() -> None:
    """Row 18 and 26: a path is known by an authentic packet, so forgeries cannot displace one that is being validated."""
    rude = confirmed()
    forged = rude.packet(EPOCH_ONE_RTT, b"\x01" * 30)[:-1] + b"\x00"
    again = rude.packet(EPOCH_ONE_RTT, b"\x01")
    rude.deliver(again)
    rude.forget()
    for index in range(50):
        rude.deliver(forged, again, bytes(30), remote=(f"198.51.100.{index}", 4433))
    assert [path.remote for path in rude.victim._parts.paths.known] == [RUDE_ADDRESS]
    assert rude.datagrams == []


def test_row_18_a_packet_that_moves_and_retires_all_connection_ids() -> None:
    """Rows 13 and 18: the new path is dropped for want of an ID by the packet that then makes it the active one."""
    rude = confirmed()
    retire_all = b"\x18" + varint(30) + varint(30) + b"\x08" + bytes(24)
    rude.deliver(rude.packet(EPOCH_ONE_RTT, retire_all + b"\x01" + bytes(1100)), remote=ELSEWHERE)
    paths = rude.victim._parts.paths
    assert paths.active.remote == ELSEWHERE
    assert paths.active in paths.known
    for _ in range(10):
        rude.now += 1.0
        rude.victim.handle_timer(rude.now)
        rude.listen()
    assert rude.victim.get_peer_address() == RUDE_ADDRESS
    check_bounds(rude.victim)


def test_row_18_nobody_migrates_in_the_handshake() -> None:
    """Row 18: RFC 9000 §9; and a server's address does not change at all."""
    rude = RudePeer(victim_is_client=False).to_handshake()
    rude.deliver(rude.packet(EPOCH_HANDSHAKE, b"\x01"), remote=ELSEWHERE)
    assert rude.victim.get_peer_address() == RUDE_ADDRESS
    rude = confirmed(True)
    rude.deliver(rude.packet(EPOCH_ONE_RTT, b"\x1a12345678"), remote=ELSEWHERE)
    assert rude.datagrams == []
    assert rude.victim.get_peer_address() == RUDE_ADDRESS


# --- rows 24 and 26: nothing, and what is left -----------------------------------------------------------------------


def test_row_24_empty_datagrams_reach_nobody() -> None:
    """Row 24: they are counted, answered with nothing and belong to no connection; the engine's budget counts them too."""
    attacked = Attacked()
    assert attacked.receive(*[b""] * 1000) == []
    assert attacked.endpoint.datagrams_dropped == 1000
    assert attacked.endpoint.touched == []
    rude = confirmed()
    received = rude.victim.statistics().packets_received
    rude.deliver(*[b""] * 1000)
    assert rude.victim.statistics().packets_received == received


def test_row_26_connections_that_ended_leave_nothing_in_their_endpoints() -> None:
    """Row 26: whether closed, refused by the network or timed out; and they die by reference counting."""
    up = Switch()
    world = World(4, up=[up, *bottleneck()], down=bottleneck(), client={"idle_timeout": 2.0})
    watches = []
    for index in range(6):
        client, server = world.establish()
        watches += [weakref.ref(client.connection), weakref.ref(server.connection)]
        if index % 2:
            client.connection.close(0)
        else:
            up.is_on = False
        world.run(partial(all_ended, client, server))
        up.is_on = True
        world.run(limit=1.0)
        del client, server
        world.client.peers.clear()
        world.server.peers.clear()
    for host in (world.client, world.server):
        endpoint = host.endpoint
        for table in (endpoint.connections, endpoint._routes, endpoint._issuers, endpoint._first_cids):
            assert not table
        assert not endpoint._initial_routes
        assert len(endpoint.half_open) == 0
    gc.collect()
    assert [watch() for watch in watches] == [None] * len(watches)
