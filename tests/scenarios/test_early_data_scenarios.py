"""Resumption and 0-RTT on the simulator: accepted, rejected for every reason there is, under Retry, loss and reordering.

A run is two connections: the first brings a ticket, the second uses it. Whatever happens to early data, what the application
sent arrives, once, in order; where it was rejected, after the handshake.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from quicio.environment import Environment
from quicio.quic.endpoint import Incoming
from quicio.quic.events import EarlyDataRejected, HandshakeCompleted, ProtocolNegotiated, StreamDataReceived
from quicio.quic.packet import QuicErrorCode
from quicio.quic.sessions import SessionStore
from quicio.quic.wire.constants import APPLICATION, PROTOCOL_VIOLATION, VERSION_1, VERSION_2, QuicConnectionError
from quicio.tls.constants import CipherSuite, Group
from quicio.tls.issuing import SealedTickets, StrikeRegister
from quicio.tls.tickets import SessionTicket
from sim.links import Datagram, Delay, DropNumbers, Forward, Loss, Reorder, Stage
from sim.simulation import SimulatedEnvironment
from sim.stages import bottleneck
from sim.world import SERVER_ADDRESS, Peer, World

DATA = bytes(range(256)) * 20


def always_retry(incoming: Incoming) -> None:
    if incoming.address_validated:
        incoming.accept()
    else:
        incoming.retry()


def environment_of(world: World) -> SimulatedEnvironment:
    environment = world.server.endpoint._environment
    assert isinstance(environment, SimulatedEnvironment)
    return environment


def first_connection(world: World, **changes: Any) -> SessionTicket:
    """Connect, get a ticket, close."""
    store = SessionStore()
    peer, _ = world.establish(session_store=store, **changes)
    world.run(limit=0.5)
    ticket = store.take_ticket("localhost:443")
    assert ticket is not None
    peer.connection.close()
    world.run(limit=1.0)
    return ticket


def start(world: World, ticket: SessionTicket | None, data: bytes = DATA, **changes: Any) -> Peer:
    """The second connection, with data on its first stream before anything was answered."""
    peer = world.connect(session_ticket=ticket, **changes)
    if data:
        stream_id = peer.connection.open_stream()
        if stream_id is None:
            stream_id = peer.connection.get_next_available_stream_id()
        peer.connection.send_stream_data(stream_id, data, end_stream=True)
        world.flush()
    return peer


def finish(world: World, peer: Peer, data: bytes = DATA, limit: float = 30.0) -> tuple[Peer, HandshakeCompleted]:
    """Until the handshake is confirmed and the data there, in whole and once."""
    world.run(
        lambda: (
            peer.connection.is_handshake_confirmed
            and bool(world.accepted)
            and (not data or 0 in world.accepted[-1].finished)
        ),
        limit,
    )
    server = world.accepted[-1]
    assert bytes(server.data.get(0, b"")) == data
    (ours,) = peer.of_type(HandshakeCompleted)
    (theirs,) = server.of_type(HandshakeCompleted)
    assert (ours.session_resumed, ours.early_data_accepted) == (theirs.session_resumed, theirs.early_data_accepted)
    return server, theirs


def stream_bytes(peer: Peer, epoch: str) -> int:
    """Stream data in the packets that this side sent."""
    return sum(
        len(fields[2])
        for packet in peer.capture.sent("STREAM", epoch)
        for name, fields in packet.frames
        if name == "STREAM"
    )


def handshake_bytes(peer: Peer) -> int:
    """CRYPTO data of the Handshake packets that this side received."""
    return sum(
        len(fields[1])
        for packet in peer.capture.received("CRYPTO", "HANDSHAKE")
        for name, fields in packet.frames
        if name == "CRYPTO"
    )


# Accepted.


def test_early_data_is_there_before_the_handshake_is_complete() -> None:
    world = World(1, server={"accept_early_data": True})
    ticket = first_connection(world)
    peer = start(world, ticket)
    was_early = peer.connection.can_send_early_data
    assert was_early
    assert peer.connection.early_alpn == "test"
    begun = world.now
    world.run(lambda: bool(world.accepted) and 0 in world.accepted[-1].finished)
    assert world.now - begun < 0.006  # half a round trip
    assert not world.accepted[-1].connection.is_handshake_complete
    server, completed = finish(world, peer)
    assert completed.session_resumed
    assert completed.early_data_accepted
    assert peer.connection.early_data_accepted
    assert peer.connection.session_resumed
    assert peer.connection.can_send_early_data is not was_early
    assert server.connection.has_early_data(0)
    assert not server.connection.has_early_data(4)
    assert stream_bytes(peer, "ZERO_RTT") == len(DATA)
    assert stream_bytes(peer, "ONE_RTT") == 0
    kinds = [type(event) for event in server.events]
    assert kinds[:2] == [ProtocolNegotiated, HandshakeCompleted]


def test_events_of_a_server_come_in_order() -> None:
    """ProtocolNegotiated, the early data, HandshakeCompleted: what tells how to read the data comes before it."""
    world = World(2, server={"accept_early_data": True})
    ticket = first_connection(world)
    seen: list[type] = []
    adopt = world.server.adopt

    def watch(connection: Any) -> None:
        adopt(connection)
        world.server.peers[connection].on_event = lambda peer, event: seen.append(type(event))

    world.server.endpoint.on_connection = watch
    finish(world, start(world, ticket))
    order = [kind for kind in seen if kind in (ProtocolNegotiated, StreamDataReceived, HandshakeCompleted)]
    assert order[0] is ProtocolNegotiated
    assert order[1] is StreamDataReceived
    assert order[-1] is HandshakeCompleted


def test_a_server_answers_early_data_in_its_first_flight() -> None:
    world = World(3, server={"accept_early_data": True})
    ticket = first_connection(world)

    def answer(peer: Peer, event: Any) -> None:
        if isinstance(event, StreamDataReceived) and event.end_stream:
            peer.connection.send_stream_data(event.stream_id, b"answer", end_stream=True)

    adopt = world.server.adopt

    def watch(connection: Any) -> None:
        adopt(connection)
        world.server.peers[connection].on_event = answer

    world.server.endpoint.on_connection = watch
    peer = start(world, ticket, b"question")
    begun = world.now
    world.run(lambda: 0 in peer.finished)
    assert world.now - begun < 0.012  # one round trip for question and answer, handshake included
    assert bytes(peer.data[0]) == b"answer"


def test_resumption_without_a_certificate() -> None:
    """The interop runner's case: two handshakes, the second without Certificate."""
    world = World(4, up=bottleneck(), down=bottleneck())
    store = SessionStore()
    peer, _ = world.establish(session_store=store)
    full = handshake_bytes(peer)
    world.run(limit=0.5)
    peer.connection.close()
    world.run(limit=1.0)
    peer = world.connect(session_store=store)
    _, completed = finish(world, peer, b"")
    assert completed.session_resumed
    assert not completed.early_data_accepted  # the server does not want any
    assert full > 500
    assert handshake_bytes(peer) < 250
    configuration = world.server_configuration
    chain = [configuration.certificate, *configuration.certificate_chain]
    assert peer.connection.tls.peer_certificates == chain  # as the ticket remembers it


def test_zerortt_with_the_runners_numbers() -> None:
    """40 requests with names of 250 characters: at most half of their bytes goes in 1-RTT packets."""
    world = World(5, up=bottleneck(), down=bottleneck(), server={"accept_early_data": True})
    ticket = first_connection(world)
    peer = world.connect(session_ticket=ticket)
    requests = {}
    for number in range(40):
        stream_id = peer.connection.open_stream()
        assert stream_id is not None
        requests[stream_id] = b"GET /" + (b"%03d" % number) * 83 + b"\r\n"
        peer.connection.send_stream_data(stream_id, requests[stream_id], end_stream=True)
    world.flush()
    world.run(lambda: bool(world.accepted) and world.accepted[-1].finished >= requests.keys())
    world.run(lambda: peer.connection.is_handshake_confirmed)
    assert {stream_id: bytes(data) for stream_id, data in world.accepted[-1].data.items()} == requests
    assert stream_bytes(peer, "ZERO_RTT") > 0
    one_rtt = sum(packet.size for packet in peer.capture.sent(epoch="ONE_RTT"))
    assert one_rtt <= 0.5 * 250 * 40


def test_a_ticket_that_is_not_wanted_for_early_data() -> None:
    """`early_data` False resumes, and offers nothing that could be replayed."""
    world = World(6, server={"accept_early_data": True})
    ticket = first_connection(world)
    peer = start(world, ticket, early_data=False)
    assert not peer.connection.can_send_early_data
    _, completed = finish(world, peer)
    assert completed.session_resumed
    assert not completed.early_data_accepted
    assert stream_bytes(peer, "ZERO_RTT") == 0


# Rejected: each of these is a full or resumed handshake, and the data arrives in 1-RTT packets.


@dataclasses.dataclass
class Case:
    """What makes the server reject, and whether the session is resumed all the same."""

    change: Callable[[World], None]
    is_resumed: bool
    client: dict[str, Any] = dataclasses.field(default_factory=dict)


def server_change(**changes: Any) -> Callable[[World], None]:
    def change(world: World) -> None:
        endpoint = world.server.endpoint
        endpoint.stop_listening()
        endpoint.listen(world.server_configuration.replaced(**changes))

    return change


def later(seconds: float) -> Callable[[World], None]:
    def change(world: World) -> None:
        environment_of(world).date += seconds

    return change


def other_keys(world: World) -> None:
    server_change(tickets=SealedTickets(environment=Environment()))(world)


def full_register(world: World) -> None:
    register = world.server.endpoint._tickets.register
    assert register is not None
    register.limit = 0


REJECTIONS = {
    "early data is off": Case(server_change(accept_early_data=False), True),
    "lower initial_max_data": Case(server_change(max_data=4096), True),
    "lower initial_max_stream_data": Case(server_change(max_stream_data=1024), True),
    "fewer streams": Case(server_change(max_streams_bidi=1), True),
    "no datagrams any more": Case(server_change(max_datagram_frame_size=None), True),
    "the ticket is too old": Case(later(25 * 3600.0), False),
    "the clocks disagree": Case(later(60.0), True),
    "the ticket is from the future": Case(later(-60.0), False),
    "the keys are others": Case(other_keys, False),
    "the register is full": Case(full_register, True),
    "another key exchange": Case(server_change(groups=[Group.SECP256R1]), True),
    "another cipher suite": Case(server_change(cipher_suites=[CipherSuite.CHACHA20_POLY1305_SHA256]), True),
    "a cipher suite with another hash": Case(server_change(cipher_suites=[CipherSuite.AES_256_GCM_SHA384]), False),
}


@pytest.mark.parametrize("name", REJECTIONS)
def test_rejected_early_data_is_sent_again(name: str) -> None:
    case = REJECTIONS[name]
    world = World(7, server={"accept_early_data": True, "max_datagram_frame_size": 1000})
    ticket = first_connection(world)
    case.change(world)
    peer = start(world, ticket, **case.client)
    assert peer.connection.can_send_early_data
    peer.connection.use_native_events()
    server, completed = finish(world, peer)
    assert stream_bytes(peer, "ZERO_RTT") == len(DATA)
    assert completed.session_resumed is case.is_resumed
    assert not completed.early_data_accepted
    assert not server.connection.has_early_data(0)
    assert stream_bytes(peer, "ONE_RTT") >= len(DATA)
    assert [event.is_resent for event in peer.of_type(EarlyDataRejected)] == [True]


def test_a_server_that_acknowledges_what_it_has_rejected() -> None:
    """Row 6: the numbers of rejected 0-RTT packets are remembered as such (RFC 9001 §4.6.2)."""
    world = World(7, server={"accept_early_data": True})
    ticket = first_connection(world)
    REJECTIONS["early data is off"].change(world)
    peer = start(world, ticket)
    finish(world, peer)
    with pytest.raises(QuicConnectionError, match="0-RTT") as caught:
        peer.connection._parts.loss.on_ack(APPLICATION, [0, 1], 0.0, None, world.now)
    assert caught.value.error_code == PROTOCOL_VIOLATION


def test_other_application_protocol() -> None:
    """The data was written for another protocol: it is given up, not sent."""
    world = World(8, server={"accept_early_data": True, "alpn_protocols": ["test", "other"]})
    ticket = first_connection(world, alpn_protocols=["test", "other"])
    server_change(alpn_protocols=["other"])(world)
    peer = start(world, ticket, alpn_protocols=["test", "other"])
    peer.connection.use_native_events()
    world.run(lambda: peer.connection.is_handshake_confirmed)
    world.run(limit=0.1)
    server = world.accepted[-1]
    assert peer.connection.tls.alpn == "other"
    assert peer.connection.session_resumed
    assert [event.is_resent for event in peer.of_type(EarlyDataRejected)] == [False]
    assert server.data == {}
    assert [frame[1][:2] for packet in peer.capture.sent("RESET_STREAM") for frame in packet.frames][:1] == [(0, 2)]
    assert world.transfer(peer, server, 10_000) > 0  # new streams work


def test_a_protocol_that_is_not_offered_any_more() -> None:
    world = World(9, server={"accept_early_data": True, "alpn_protocols": ["test", "other"]})
    ticket = first_connection(world)
    peer = start(world, ticket, alpn_protocols=["other"])
    assert not peer.connection.can_send_early_data
    _, completed = finish(world, peer)
    assert completed.session_resumed


def test_rejected_streams_wait_for_the_new_limits() -> None:
    """More streams than the server allows now: those beyond wait, with their data, for MAX_STREAMS."""
    world = World(10, server={"accept_early_data": True})
    ticket = first_connection(world)
    server_change(max_streams_bidi=3, max_stream_data=500)(world)
    peer = world.connect(session_ticket=ticket)
    payloads = {}
    for number in range(12):
        stream_id = peer.connection.open_stream()
        assert stream_id is not None
        payloads[stream_id] = bytes((number,)) * 700
        peer.connection.send_stream_data(stream_id, payloads[stream_id], end_stream=number != 11)
    peer.connection.reset_stream(44, 9)
    world.flush()

    def answer() -> bool:
        server = world.accepted[-1] if world.accepted else None
        if server is None:
            return False
        for stream_id in list(server.finished):
            if server.connection.is_stream_known(stream_id):
                server.connection.send_stream_data(stream_id, b"", end_stream=True)
        world.flush()
        return len(server.finished) == 11

    world.run(answer, 20.0)
    server = world.accepted[-1]
    for stream_id, data in payloads.items():
        if stream_id != 44:
            assert bytes(server.data[stream_id]) == data


def test_datagrams_and_pings_in_early_packets() -> None:
    world = World(11, server={"accept_early_data": True, "max_datagram_frame_size": 1000})
    ticket = first_connection(world)
    peer = world.connect(session_ticket=ticket)
    assert peer.connection.max_datagram_size_now() > 500
    peer.connection.send_datagram_frame(b"early datagram")
    peer.connection.send_ping(7)
    world.flush()
    server, completed = finish(world, peer, b"")
    assert completed.early_data_accepted
    assert [packet.epoch for packet in server.capture.received("DATAGRAM")] == ["ZERO_RTT"]
    assert any(packet.epoch == "ZERO_RTT" for packet in server.capture.received("PING"))


# The network.


def test_behind_a_retry() -> None:
    """The same ClientHello goes again with the token, and the early data with it (RFC 9000 §17.2.5.2)."""
    world = World(12, server={"accept_early_data": True}, policy=always_retry)
    ticket = first_connection(world)
    peer = start(world, ticket)
    server, completed = finish(world, peer)
    assert completed.early_data_accepted
    assert server.connection.has_early_data(0)
    assert stream_bytes(peer, "ZERO_RTT") == 2 * len(DATA)
    numbers = [packet.number for packet in peer.capture.sent(epoch="ZERO_RTT")]
    assert numbers == sorted(set(numbers))  # packet numbers go on


@pytest.mark.parametrize("seed", range(6))
def test_loss_and_reordering(seed: int) -> None:
    world = World(
        100 + seed,
        up=[Loss(0.2), Reorder(0.3, 0.02), Delay(0.01)],
        down=[Loss(0.2), Delay(0.01)],
        server={"accept_early_data": True},
    )
    store = SessionStore()
    peer, _ = world.establish(session_store=store)
    world.run(lambda: bool(store._tickets), 20.0)
    ticket = store.take_ticket("localhost:443")
    peer.connection.close()
    world.run(limit=2.0)
    peer = start(world, ticket, DATA * 8)
    finish(world, peer, DATA * 8)


def test_early_packets_before_the_client_hello() -> None:
    """The first Initial packet is overtaken: what came before it waits, and counts."""
    held: list[Datagram] = []

    class Hold(Stage):
        """Once armed, it keeps the first datagram back until the others are through."""

        is_armed = False

        def send(self, datagram: Datagram, forward: Forward) -> None:
            if self.is_armed and not held:
                held.append(datagram)
            else:
                forward(datagram)

    hold = Hold()
    world = World(13, up=[hold, Delay(0.005)], server={"accept_early_data": True})
    ticket = first_connection(world)
    hold.is_armed = True
    peer = start(world, ticket, DATA[:3000])
    world.up.send(held[0])
    server, completed = finish(world, peer, DATA[:3000])
    assert completed.early_data_accepted
    assert stream_bytes(peer, "ZERO_RTT") == 3000
    assert stream_bytes(peer, "ONE_RTT") == 0  # nothing had to be sent again
    assert len(server.capture.received(epoch="ZERO_RTT")) == len(peer.capture.sent(epoch="ZERO_RTT"))


def test_the_clients_first_packet_is_lost() -> None:
    drop = DropNumbers([])
    world = World(15, up=[drop, Delay(0.005)], server={"accept_early_data": True})
    ticket = first_connection(world)
    drop.numbers.add(drop._count + 1)
    peer = start(world, ticket)
    _, completed = finish(world, peer)
    assert completed.early_data_accepted


def test_version_2() -> None:
    """A ticket decides on the version that it came from (RFC 9369 §5)."""
    versions = {"supported_versions": [VERSION_2, VERSION_1]}
    world = World(16, client=versions, server={"accept_early_data": True} | versions)
    ticket = first_connection(world)
    peer = start(world, ticket, supported_versions=[VERSION_1, VERSION_2])
    _, completed = finish(world, peer)
    assert peer.connection.version == VERSION_2
    assert completed.early_data_accepted


def test_a_compatible_version_takes_early_data_of_the_original_one() -> None:
    """RFC 9369 §4.1: 0-RTT packets keep the version of the client's first packet, whatever the server goes on with."""
    world = World(17, server={"accept_early_data": True})
    ticket = first_connection(world)
    server_change(supported_versions=[VERSION_2, VERSION_1])(world)
    peer = start(world, ticket)
    server, completed = finish(world, peer)
    assert server.connection.version == VERSION_2
    assert completed.early_data_accepted


def test_a_ticket_of_another_version_is_not_used() -> None:
    world = World(18, server={"accept_early_data": True})
    ticket = first_connection(world)
    peer = start(world, ticket, original_version=VERSION_2)
    _, completed = finish(world, peer)
    assert not completed.session_resumed


def test_version_negotiation_forgets_the_ticket() -> None:
    world = World(19, server={"accept_early_data": True})
    ticket = first_connection(world)
    server_change(supported_versions=[VERSION_2])(world)
    peer = start(world, ticket)
    assert peer.connection.can_send_early_data
    peer.connection.use_native_events()
    _, completed = finish(world, peer)
    assert peer.connection.version == VERSION_2
    assert not completed.session_resumed
    assert [event.is_resent for event in peer.of_type(EarlyDataRejected)] == [True]


# Attacks.


def test_a_replayed_flight() -> None:
    """Security row 27: the same ClientHello again, from elsewhere, finds its early data rejected."""
    world = World(20, server={"accept_early_data": True})
    ticket = first_connection(world)
    flight: list[bytes] = []
    send = world.up.send

    def record(datagram: Datagram) -> None:
        flight.append(datagram.data)
        send(datagram)

    world.up.send = record  # type: ignore[method-assign]  # a wiretap of this test's own world
    peer = start(world, ticket)
    copies = list(flight)
    server, completed = finish(world, peer)
    assert completed.early_data_accepted
    before = len(world.server.peers)
    for data in copies:
        world.server.deliver(Datagram(data, ("10.6.6.6", 666), SERVER_ADDRESS, 0))
    assert len(world.server.peers) == before + 1
    victim = world.accepted[-1]
    assert victim.connection.session_resumed
    assert not victim.connection.early_data_accepted
    assert victim.data == {}


def test_a_ticket_that_was_tampered_with() -> None:
    """Every byte of it may change: a full handshake, never an error."""
    world = World(21, server={"accept_early_data": True})
    ticket = first_connection(world)
    for position in range(0, len(ticket.ticket), 37):
        label = bytearray(ticket.ticket)
        label[position] ^= 1
        peer = start(world, dataclasses.replace(ticket, ticket=bytes(label)))
        _, completed = finish(world, peer)
        assert not completed.session_resumed
        peer.connection.close()
        world.run(limit=1.0)


def test_a_stolen_label_without_its_secret() -> None:
    """Only a wrong binder is an error: decrypt_error (RFC 8446 §4.2.11)."""
    world = World(22)
    ticket = dataclasses.replace(first_connection(world), resumption_secret=bytes(32))
    peer = world.connect(session_ticket=ticket)
    world.run(lambda: peer.connection.close_reason is not None)
    reason = peer.connection.close_reason
    assert reason is not None
    assert reason.code == QuicErrorCode.CRYPTO_ERROR + 51


def test_a_server_that_accepts_and_lowers_a_limit() -> None:
    """RFC 9000 §7.4.1: the client does not have it."""
    world = World(23, server={"accept_early_data": True})
    ticket = first_connection(world)
    generous = [(kind, data) for kind, data in ticket.other_extensions if kind != 0x39]
    generous.append((0x39, b"\x04\x04\xbf\xff\xff\xff"))  # initial_max_data 2^30 - 1
    peer = start(world, dataclasses.replace(ticket, other_extensions=generous), b"")
    world.run(lambda: peer.connection.close_reason is not None)
    reason = peer.connection.close_reason
    assert reason is not None
    assert reason.code == PROTOCOL_VIOLATION
    assert "initial_max_data" in reason.reason


def test_trust_is_asked_again() -> None:
    """A ticket of a server that this configuration does not trust is not used: there is a full handshake, which fails."""
    world = World(24)
    ticket = first_connection(world)
    seen: list[int] = []

    def refuse(chain: list[Any], name: str | None) -> None:
        seen.append(len(chain))
        raise ValueError("a pin")

    peer = world.connect(session_ticket=ticket, verify=refuse)
    world.run(lambda: peer.connection.close_reason is not None)
    assert not peer.connection.session_resumed
    assert len(seen) == 2  # for the ticket, and for the certificate


def test_two_servers_share_keys() -> None:
    """A ticket of one process is good in another that has the same secrets, and in none that has not."""
    secret = b"s" * 32
    world = World(25)
    server_change(tickets=SealedTickets([secret], environment=SimulatedEnvironment(1)))(world)
    ticket = first_connection(world)
    server_change(tickets=SealedTickets([b"n" * 32, secret], environment=SimulatedEnvironment(2)))(world)
    peer = start(world, ticket)
    _, completed = finish(world, peer)
    assert completed.session_resumed
    peer.connection.close()
    world.run(limit=1.0)
    server_change(tickets=SealedTickets([b"n" * 32], environment=SimulatedEnvironment(3)))(world)
    _, completed = finish(world, start(world, ticket))
    assert not completed.session_resumed


def test_flood_of_early_data_handshakes() -> None:
    """Security row 27: when the register is full early data is refused, and resumption is not."""
    world = World(26)
    environment = SimulatedEnvironment(9)
    tickets = SealedTickets(register=StrikeRegister(limit=2, environment=environment), environment=environment)
    server_change(tickets=tickets, accept_early_data=True)(world)
    ticket = first_connection(world)
    outcomes = []
    for _ in range(4):
        peer = start(world, ticket)
        _, completed = finish(world, peer)
        outcomes.append((completed.session_resumed, completed.early_data_accepted))
        peer.connection.close()
        world.run(limit=1.0)
    assert outcomes == [(True, True), (True, True), (True, False), (True, False)]
    assert tickets.register is not None
    assert len(tickets.register) == 2


# Tokens.


def test_a_token_spares_the_retry() -> None:
    """RFC 9000 §8.1.3: a client that comes back with a NEW_TOKEN token is known, whatever its port."""
    world = World(27, policy=always_retry)
    store = SessionStore()
    peer, _ = world.establish(session_store=store)
    world.run(limit=0.5)
    assert peer.capture.received("NEW_TOKEN")
    second = world.connect(session_store=store)
    world.run(lambda: second.connection.is_handshake_confirmed)
    assert not second.connection._negotiation.has_retried
    third = world.connect(session_store=SessionStore())
    world.run(lambda: third.connection.is_handshake_confirmed)
    assert third.connection._negotiation.has_retried


def test_a_token_is_used_once() -> None:
    """Security row 8: an address is proven by a token the first time only (RFC 9000 §8.1.4)."""
    world = World(28, policy=always_retry)
    store = SessionStore()
    world.establish(session_store=store)
    world.run(limit=0.5)
    token = store.take_token("localhost:443 0x1")
    assert token
    first, _ = world.establish(token=token)
    second, _ = world.establish(token=token)
    assert not first.connection._negotiation.has_retried
    assert second.connection._negotiation.has_retried
