"""The endpoint: routing, new connections, stateless answers, stubs, and the limits on each."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest

from helpers.certificates import NOW, make_certificates
from quicio.environment import Environment
from quicio.quic import lifecycle as life
from quicio.quic.configuration import QuicConfiguration
from quicio.quic.connection import QuicConnection
from quicio.quic.endpoint import (
    ANSWERS_PER_SECOND,
    HALF_OPEN_LIMIT,
    MAX_ANSWERS,
    MAX_INCOMING_DATAGRAMS,
    MAX_STUBS,
    MAX_UNDECIDED,
    STUB_REPEATS,
    Endpoint,
    Incoming,
    Policy,
    Stub,
    retry_under_load,
)
from quicio.quic.events import ConnectionTerminated
from quicio.quic.retry import TOKEN_LIFETIME, QuicRetryTokenHandler
from quicio.quic.transmit import Received, Transmit
from quicio.quic.wire.constants import (
    CONNECTION_REFUSED,
    INVALID_TOKEN,
    VERSION_1,
    VERSION_2,
)
from quicio.quic.wire.headers import (
    RETRY_PACKET,
    VERSION_NEGOTIATION_PACKET,
    destination_cid_of,
    encode_version_negotiation,
    parse_long_header,
)
from quicio.quic.wire.stateless_reset import reset_token
from sim.capture import decode_frames
from sim.simulation import SimulatedEnvironment
from sim.world import CLIENT_ADDRESS, SERVER_ADDRESS, World

MADE = make_certificates("ed25519")
CLIENT = QuicConfiguration(
    server_name="localhost", alpn_protocols=["test"], cadata=MADE.authority_pem, groups=[0x1D], pacing_granularity=0.0
)
SERVER = QuicConfiguration(
    is_client=False,
    alpn_protocols=["test"],
    certificate=MADE.chain[0],
    certificate_chain=MADE.chain[1:],
    private_key=MADE.private_key,
    pacing_granularity=0.0,
)
SHORT = b"\x40" + b"unknown-" + bytes(100)


class Clock(SimulatedEnvironment):
    """Dates that a test may move."""

    date = NOW

    def wall_clock(self) -> float:
        return self.date


class Holder:
    """A policy that decides nothing and keeps what it was offered."""

    def __init__(self) -> None:
        self.offered: list[Incoming] = []

    def __call__(self, incoming: Incoming) -> None:
        self.offered.append(incoming)


def listening(policy: Policy = retry_under_load, configuration: QuicConfiguration = SERVER, **changes: Any) -> Endpoint:
    endpoint = Endpoint(**({"environment": Clock(5)} | changes))
    endpoint.listen(configuration, policy)
    return endpoint


def client(seed: int = 1, address: object = CLIENT_ADDRESS, **changes: Any) -> tuple[QuicConnection, bytes]:
    """A client, and its first datagram."""
    connection = QuicConnection(configuration=CLIENT.replaced(**changes), environment=SimulatedEnvironment(seed))
    connection.connect(SERVER_ADDRESS, 0.0)
    data = connection.datagrams_to_send(0.0)
    assert len(data) == 1
    return connection, data[0][0]


def receive(endpoint: Endpoint, *datagrams: bytes, remote: Any = CLIENT_ADDRESS, now: float = 0.0) -> None:
    endpoint.receive(Received(list(datagrams), remote, "here"), now)


def answers(endpoint: Endpoint) -> list[Transmit]:
    result = []
    while (transmit := endpoint.next_transmit()) is not None:
        result.append(transmit)
    return result


def answer(endpoint: Endpoint) -> bytes:
    """The one stateless answer; it goes back the way the question came."""
    (transmit,) = answers(endpoint)
    assert (transmit.remote, transmit.local) == (CLIENT_ADDRESS, "here")
    (datagram,) = transmit.datagrams
    return datagram


def refusal_code(connection: QuicConnection, datagram: bytes) -> int:
    """The error code that a client reads in a stateless CONNECTION_CLOSE."""
    connection.receive_datagram(datagram, SERVER_ADDRESS, 0.1)
    assert connection.close_cause == life.CAUSE_PEER
    assert connection.close_reason is not None
    return connection.close_reason.code


# --- construction and roles -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 3, 21])
def test_connection_ids_must_be_long_enough_to_route_by(length: int) -> None:
    with pytest.raises(ValueError, match="between 4 and 20"):
        Endpoint(connection_id_length=length)


def test_listening_is_for_servers_with_a_certificate_and_once() -> None:
    endpoint = Endpoint()
    states = [endpoint.is_listening]
    with pytest.raises(ValueError, match="a server's configuration"):
        endpoint.listen(CLIENT)
    with pytest.raises(ValueError, match="needs a certificate"):
        endpoint.listen(QuicConfiguration(is_client=False))
    states.append(endpoint.is_listening)
    endpoint.listen(SERVER)
    states.append(endpoint.is_listening)
    assert states == [False, False, True]
    with pytest.raises(RuntimeError, match="stop_listening"):
        endpoint.listen(SERVER)
    endpoint.stop_listening()
    endpoint.listen(SERVER)


def test_nobody_is_answered_where_nobody_listens() -> None:
    endpoint = Endpoint(environment=Clock(5))
    receive(endpoint, client()[1])
    assert answers(endpoint) == []
    assert endpoint.datagrams_dropped == 1


def test_who_stops_listening_refuses_those_who_wait_and_keeps_those_who_are_in() -> None:
    holder = Holder()
    endpoint = listening(holder)
    first, second = client(1), client(2)
    receive(endpoint, first[1])
    connection = holder.offered[0].accept()
    receive(endpoint, second[1])
    endpoint.stop_listening()
    assert refusal_code(second[0], answer(endpoint)) == CONNECTION_REFUSED
    assert holder.offered[1].is_decided
    assert list(endpoint.connections) == [connection]
    receive(endpoint, client(3)[1])
    assert answers(endpoint) == []


def test_many_connections_of_both_roles_on_one_endpoint() -> None:
    """Two endpoints that each listen and connect to the other, several times."""
    sides = {CLIENT_ADDRESS: listening(environment=Clock(1)), SERVER_ADDRESS: listening(environment=Clock(2))}
    made = []
    for _ in range(3):
        made.append(sides[CLIENT_ADDRESS].connect(CLIENT, SERVER_ADDRESS, 0.0))
        made.append(sides[SERVER_ADDRESS].connect(CLIENT, CLIENT_ADDRESS, 0.0))
    now = 0.0
    for _ in range(20):
        now += 0.01
        for address, endpoint in sides.items():
            for connection in list(endpoint.connections):
                for data, remote in connection.datagrams_to_send(now):
                    receive(sides[remote], data, remote=address, now=now)
    for endpoint in sides.values():
        assert len(endpoint.connections) == 6
        assert all(connection.is_handshake_confirmed for connection in endpoint.connections)
        assert len(endpoint.half_open) == 0
        assert endpoint.datagrams_dropped == 0
        assert set(endpoint.touched) == set(endpoint.connections)
    assert all(connection.is_handshake_confirmed for connection in made)


# --- routing ----------------------------------------------------------------------------------------------------------


def pump(connection: QuicConnection, server: QuicConnection, endpoint: Endpoint, now: float) -> None:
    for _ in range(8):
        for data, _ in connection.datagrams_to_send(now):
            server.receive_datagram(data, CLIENT_ADDRESS, now)
        for data, _ in server.datagrams_to_send(now):
            receive(endpoint, data, remote=SERVER_ADDRESS, now=now)
        now += 0.01


def two_connections() -> tuple[Endpoint, list[tuple[QuicConnection, QuicConnection]]]:
    """An endpoint with two client connections, and their servers."""
    endpoint = Endpoint(environment=Clock(3))
    pairs = []
    for seed in range(2):
        connection = endpoint.connect(CLIENT, SERVER_ADDRESS, 0.0)
        server = QuicConnection(
            configuration=SERVER,
            original_destination_connection_id=connection.original_destination_connection_id,
            environment=SimulatedEnvironment(seed),
        )
        pump(connection, server, endpoint, 0.0)
        assert connection.is_handshake_confirmed
        pairs.append((connection, server))
    endpoint.touched.clear()
    return endpoint, pairs


def ping(server: QuicConnection, count: int = 1) -> list[bytes]:
    result = []
    for number in range(count):
        server.send_ping(number)
        result += [data for data, _ in server.datagrams_to_send(1.0)]
    assert len(result) == count
    return result


class Recorder(QuicConnection):
    """Keeps the batches that it was given."""

    batches: list[Received]

    def receive_datagrams(self, received: Received, now: float) -> None:
        self.batches.append(received)


def test_a_batch_that_mixes_connections_is_split_into_runs() -> None:
    """RFC 8999: by the destination connection ID, in the order in which the datagrams came."""
    endpoint = Endpoint()
    recorders = []
    for cid in (b"aaaaaaaa", b"bbbbbbbb"):
        connection = Recorder(configuration=CLIENT)
        connection.batches = []
        endpoint._routes[cid] = connection
        recorders.append(connection)
    first, second = recorders
    a = [b"\x40aaaaaaaa" + bytes(20 + number) for number in range(4)]
    b = [b"\x40bbbbbbbb" + bytes(20 + number) for number in range(3)]
    endpoint.receive(Received([a[0], a[1], b[0], b[1], a[2], b"\x40", b[2], a[3]], "peer", "here", 2), 0.0)
    assert [batch.datagrams for batch in first.batches] == [[a[0], a[1]], [a[2]], [a[3]]]
    assert [batch.datagrams for batch in second.batches] == [[b[0], b[1]], [b[2]]]
    assert {(batch.remote, batch.local, batch.ecn) for batch in first.batches + second.batches} == {("peer", "here", 2)}
    assert endpoint.datagrams_dropped == 1
    assert endpoint.touched == [first, second, first, second, first]  # whoever was last is not repeated


def test_a_batch_of_one_connection_is_handed_on_as_it_is() -> None:
    endpoint = Endpoint()
    connection = Recorder(configuration=CLIENT)
    connection.batches = []
    endpoint._routes[b"aaaaaaaa"] = connection
    received = Received([b"\x40aaaaaaaa" + bytes(30)] * 5, "peer")
    endpoint.receive(received, 0.0)
    assert connection.batches == [received]
    endpoint.receive(Received([], "peer"), 0.0)
    assert len(connection.batches) == 1


def test_batches_reach_their_connections() -> None:
    endpoint, ((first, first_server), (second, second_server)) = two_connections()
    before = [connection.statistics().packets_received for connection in (first, second)]
    mine, yours = ping(first_server, 3), ping(second_server, 2)
    receive(endpoint, mine[0], yours[0], mine[1], mine[2], yours[1], remote=SERVER_ADDRESS, now=1.0)
    after = [connection.statistics().packets_received for connection in (first, second)]
    assert [new - old for new, old in zip(after, before, strict=True)] == [3, 2]
    assert set(endpoint.touched) == {first, second}


@pytest.mark.parametrize("datagram", [b"", b"\x40", b"\x40short", b"\xc0", b"\xc0\x00\x00\x00\x01\x14abc"])
def test_datagrams_too_short_for_a_connection_id_are_dropped(datagram: bytes) -> None:
    endpoint = listening()
    receive(endpoint, datagram)
    receive(endpoint, datagram, datagram)
    assert endpoint.datagrams_dropped == 3
    assert answers(endpoint) == []


def test_connection_ids_are_routed_as_they_are_issued_and_until_they_are_retired() -> None:
    """Independent of events: nobody has drained any here."""
    endpoint, pairs = two_connections()
    connection = pairs[0][0]
    issuer = endpoint._issuers[connection]
    assert len(issuer.issued) == 8
    assert all(endpoint._routes[cid] is connection for cid in issuer.issued)
    cid = next(iter(issuer.issued))
    issuer.retire(cid)
    assert cid not in endpoint._routes
    endpoint.forget(connection)
    assert connection not in endpoint._routes.values()
    assert connection not in endpoint.connections
    assert len(endpoint._routes) == 8  # the other connection's
    endpoint.forget(connection)  # and again: nothing


def test_a_connection_id_that_is_in_use_is_not_issued_again() -> None:
    class Repeating(Environment):
        calls = 0

        def random_bytes(self, size: int) -> bytes:
            self.calls += 1
            return bytes(size) if self.calls < 6 else b"\x01" * size

    endpoint = Endpoint(reset_key=b"key", environment=Repeating())
    endpoint._routes[bytes(8)] = QuicConnection(configuration=CLIENT)
    cid, token = endpoint._issuer().issue()
    assert cid == b"\x01" * 8
    assert token == reset_token(b"key", cid)


def test_the_first_packets_of_a_client_find_their_connection_as_long_as_it_lives() -> None:
    """RFC 9000 §7.2: they carry an ID that the client chose."""
    endpoint = listening()
    connection, data = client()
    receive(endpoint, data)
    (server,) = endpoint.connections
    receive(endpoint, data, now=0.1)
    assert list(endpoint.connections) == [server]
    assert len(endpoint.half_open) == 1
    for _ in range(4):
        for datagram, _ in server.datagrams_to_send(0.1):
            connection.receive_datagram(datagram, SERVER_ADDRESS, 0.1)
        for datagram, _ in connection.datagrams_to_send(0.1):
            receive(endpoint, datagram, now=0.1)
    assert server.is_handshake_confirmed
    assert len(endpoint.half_open) == 0
    receive(endpoint, data, now=0.2)  # somebody repeats it much later
    assert list(endpoint.connections) == [server]
    endpoint.forget(server)
    assert not endpoint._initial_routes


def test_the_same_chosen_id_from_two_addresses_is_two_connections() -> None:
    endpoint = listening()
    _, data = client()
    receive(endpoint, data)
    receive(endpoint, data, remote=("10.0.7.7", 7777))
    assert len(endpoint.connections) == 2


# --- what may start a connection --------------------------------------------------------------------------------------


def test_only_a_padded_initial_starts_a_connection() -> None:
    """RFC 9000 §14.1; security.md row 8."""
    holder = Holder()
    endpoint = listening(holder)
    _, data = client()
    receive(endpoint, data[:1199])
    handshake = bytes((data[0] | 0x20,)) + data[1:]
    receive(endpoint, handshake)
    assert holder.offered == []
    assert endpoint.datagrams_dropped == 2
    receive(endpoint, data)
    assert len(holder.offered) == 1


@pytest.mark.parametrize("length", [0, 7])
def test_a_chosen_connection_id_has_at_least_eight_bytes(length: int) -> None:
    """RFC 9000 §7.2."""
    holder = Holder()
    endpoint = listening(holder)
    _, data = client()
    header = data[:5] + bytes((length,)) + bytes(length)
    receive(endpoint, header + data[14:] + bytes(20))
    assert holder.offered == []
    assert endpoint.datagrams_dropped == 1


def test_a_malformed_initial_is_dropped() -> None:
    endpoint = listening()
    receive(endpoint, b"\xc0\x00\x00\x00\x01\x08" + bytes(8) + b"\xff" * 1300)
    assert endpoint.datagrams_dropped == 1


def test_ports_that_only_reflect_are_not_answered() -> None:
    """RFC 9000 §21.5."""
    endpoint = listening()
    receive(endpoint, client()[1], SHORT, remote=("10.0.0.9", 53))
    assert answers(endpoint) == []
    assert not endpoint.connections
    assert endpoint.datagrams_dropped == 2


# --- decisions --------------------------------------------------------------------------------------------------------


def test_an_incoming_connection_tells_what_is_known_of_it() -> None:
    holder = Holder()
    endpoint = listening(holder)
    connection, data = client()
    receive(endpoint, data)
    (incoming,) = holder.offered
    assert incoming.remote_address == CLIENT_ADDRESS
    assert incoming.local_address == "here"
    assert incoming.version == VERSION_1
    assert not incoming.address_validated
    assert not incoming.is_decided
    assert not incoming.is_under_load
    assert incoming.original_cid == connection.original_destination_connection_id
    assert not endpoint.connections


@pytest.mark.parametrize("first", ["accept", "retry", "refuse", "ignore"])
@pytest.mark.parametrize("second", ["accept", "retry", "refuse", "ignore"])
def test_each_takes_one_decision(first: str, second: str) -> None:
    holder = Holder()
    endpoint = listening(holder)
    receive(endpoint, client()[1])
    getattr(holder.offered[0], first)()
    assert holder.offered[0].is_decided
    with pytest.raises(RuntimeError, match="decided on before"):
        getattr(holder.offered[0], second)()
    assert len(endpoint.connections) == (first == "accept")
    assert len(answers(endpoint)) == (first in ("retry", "refuse"))


def test_accepting_takes_another_configuration_if_it_is_given() -> None:
    holder = Holder()
    endpoint = listening(holder)
    adopted: list[QuicConnection] = []
    endpoint.on_connection = adopted.append
    receive(endpoint, client()[1])
    other = SERVER.replaced(idle_timeout=3.0)
    connection = holder.offered[0].accept(other)
    assert connection.configuration is other
    assert adopted == [connection] == list(endpoint.connections)
    assert endpoint.touched == [connection]
    assert connection.datagrams_to_send(0.0)  # it has read the client's first datagram


def test_datagrams_wait_with_the_undecided_up_to_a_bound() -> None:
    """security.md row 8: no state beyond a few datagrams before somebody decides."""
    holder = Holder()
    endpoint = listening(holder)
    _, data = client()
    for _ in range(MAX_INCOMING_DATAGRAMS + 5):
        receive(endpoint, data)
    assert len(holder.offered) == 1
    assert holder.offered[0].received().datagrams == [data] * MAX_INCOMING_DATAGRAMS
    connection = holder.offered[0].accept()
    assert connection.statistics().bytes_received == MAX_INCOMING_DATAGRAMS * len(data)


def test_small_datagrams_wait_with_the_undecided_as_well() -> None:
    """Early data comes behind the ClientHello, in 0-RTT packets that need no padding."""
    holder = Holder()
    endpoint = listening(holder)
    connection, data = client()
    small = b"\xd0" + data[1:200]
    receive(endpoint, data)
    receive(endpoint, small)
    assert holder.offered[0].received().datagrams == [data, small]
    assert connection.original_destination_connection_id == holder.offered[0].original_cid


def test_the_client_hello_is_told_of_validated_addresses_only() -> None:
    """security.md row 11: nothing is computed for an address that may be forged."""
    holder = Holder()
    endpoint = listening(holder)
    _, data = client()
    receive(endpoint, data)
    incoming = holder.offered[0]
    with pytest.raises(RuntimeError, match=r"retry\(\) first"):
        incoming.client_hello()
    incoming.address_validated = True
    told: list[bool] = []
    incoming.on_change = lambda: told.append(incoming.is_decided)
    hello = incoming.client_hello()
    assert hello is not None
    assert list(hello.alpn) == CLIENT.alpn_protocols
    receive(endpoint, data)
    assert not incoming.is_full
    incoming.refuse()
    assert told == [False, True]


def test_a_client_hello_of_several_datagrams_reaches_a_connection_that_is_accepted_at_once() -> None:
    """All in one batch: the rest follows the first into the new connection."""
    endpoint = listening()
    connection = QuicConnection(
        configuration=CLIENT.replaced(groups=None, server_name="localhost"), environment=SimulatedEnvironment(1)
    )
    connection.connect(SERVER_ADDRESS, 0.0)
    data = [datagram for datagram, _ in connection.datagrams_to_send(0.0)]
    receive(endpoint, *data, *data)
    (server,) = endpoint.connections
    assert server.statistics().bytes_received == 2 * sum(len(datagram) for datagram in data)


def test_the_undecided_expire() -> None:
    holder = Holder()
    endpoint = listening(holder, SERVER.replaced(handshake_timeout=4.0))
    assert endpoint.deadline == inf
    receive(endpoint, client(1)[1], now=10.0)
    receive(endpoint, client(2)[1], now=11.0)
    assert endpoint.deadline == 14.0
    endpoint.handle_timer(13.9)
    assert not holder.offered[0].is_decided
    endpoint.handle_timer(14.0)
    assert [incoming.is_decided for incoming in holder.offered] == [True, False]
    assert endpoint.deadline == 15.0
    assert answers(endpoint) == []
    receive(endpoint, client(1)[1], now=14.5)
    assert len(holder.offered) == 3  # it may come again


def test_the_undecided_are_bounded() -> None:
    """security.md row 8."""
    holder = Holder()
    endpoint = listening(holder)
    connection, data = client()
    cid = connection.original_destination_connection_id
    for number in range(MAX_UNDECIDED):
        receive(endpoint, data, remote=("10.0.0.1", 2000 + number))
    assert len(holder.offered) == MAX_UNDECIDED
    assert destination_cid_of(data, 8) == cid
    receive(endpoint, data)
    assert len(holder.offered) == MAX_UNDECIDED
    assert refusal_code(connection, answer(endpoint)) == CONNECTION_REFUSED


def test_half_open_connections_are_bounded_and_the_default_policy_asks_for_addresses_before() -> None:
    """security.md row 8: accept, then Retry above a quarter of the limit, then refuse."""
    endpoint = listening(half_open_limit=8)
    for number in range(2):
        receive(endpoint, client(number)[1], remote=(f"10.{number}.0.1", 1000))
    assert len(endpoint.connections) == 2
    assert answers(endpoint) == []
    connection, data = client(50)
    receive(endpoint, data)
    assert len(endpoint.connections) == 2
    assert parse_long_header(answer(endpoint), 0).packet_type == RETRY_PACKET
    strict = listening(accept_all, half_open_limit=4)
    for number in range(4):
        receive(strict, client(number)[1], remote=(f"10.{number}.0.1", 1000))
    receive(strict, data)
    assert len(strict.connections) == 4
    assert refusal_code(connection, answer(strict)) == CONNECTION_REFUSED
    assert HALF_OPEN_LIMIT > 100


def accept_all(incoming: Incoming) -> None:
    incoming.accept()


def test_a_refused_client_learns_it_at_once() -> None:
    world = World(1, policy=lambda incoming: incoming.refuse())
    peer = world.connect()
    world.run(lambda: peer.connection.is_terminated)
    (terminated,) = peer.of_type(ConnectionTerminated)
    assert terminated.error_code == CONNECTION_REFUSED
    assert not world.accepted


# --- Retry ------------------------------------------------------------------------------------------------------------


def retried(endpoint: Endpoint, seed: int = 1) -> tuple[QuicConnection, bytes]:
    """A client that was sent a Retry, and its next datagram, which carries the token."""
    connection, data = client(seed)
    receive(endpoint, data)
    connection.receive_datagram(answer(endpoint), SERVER_ADDRESS, 0.1)
    ((again, _),) = connection.datagrams_to_send(0.1)
    return connection, again


def ask_then_accept(incoming: Incoming) -> None:
    if incoming.address_validated:
        incoming.accept()
    else:
        incoming.retry()


def test_after_a_retry_the_client_comes_again_with_its_address_proven() -> None:
    """RFC 9000 §8.1.2."""
    holder = Holder()
    endpoint = listening(holder)
    connection, data = client()
    receive(endpoint, data)
    holder.offered[0].retry()
    retry = answer(endpoint)
    assert not endpoint._undecided
    connection.receive_datagram(retry, SERVER_ADDRESS, 0.1)
    ((again, _),) = connection.datagrams_to_send(0.1)
    receive(endpoint, again)
    second = holder.offered[1]
    assert second.address_validated
    assert second.original_cid == connection.original_destination_connection_id
    with pytest.raises(RuntimeError, match="validated already"):
        second.retry()
    assert not second.is_decided
    server = second.accept()
    assert server._parts.paths.active.is_validated
    for datagram, _ in server.datagrams_to_send(0.1):
        connection.receive_datagram(datagram, SERVER_ADDRESS, 0.1)
    assert connection.is_handshake_complete  # so both connection IDs were confirmed (RFC 9000 §7.3)


@pytest.mark.parametrize("what", ["expired", "address", "altered"])
def test_a_token_that_is_not_good_closes_with_invalid_token(what: str) -> None:
    """RFC 9000 §8.1.3: when it claims to be one of our Retry tokens; security.md row 8."""
    clock = Clock(5)
    endpoint = listening(ask_then_accept, environment=clock)
    connection, again = retried(endpoint)
    remote: Any = CLIENT_ADDRESS
    if what == "expired":
        clock.date = NOW + TOKEN_LIFETIME + 1
    elif what == "address":
        remote = ("10.0.66.6", 6666)
    else:
        position = again.index(connection._parts.initial_token) + 30
        again = again[:position] + bytes((again[position] ^ 1,)) + again[position + 1 :]
    receive(endpoint, again, remote=remote)
    assert not endpoint.connections
    (transmit,) = answers(endpoint)
    assert transmit.remote == remote
    assert refusal_code(connection, transmit.datagrams[0]) == INVALID_TOKEN


def test_tokens_of_other_kinds_are_passed_over() -> None:
    """RFC 9000 §8.1.3: a token from elsewhere proves nothing and does no harm."""
    holder = Holder()
    endpoint = listening(holder)
    receive(endpoint, client(token=b"\x77 some token of another server")[1])
    assert not holder.offered[0].address_validated


def test_keys_for_tokens_are_shared_between_endpoints() -> None:
    key = bytes(32)
    first = listening(ask_then_accept, retry_tokens=QuicRetryTokenHandler([key], environment=Clock(1)))
    second = listening(ask_then_accept, retry_tokens=QuicRetryTokenHandler([key], environment=Clock(2)))
    _, again = retried(first)
    receive(second, again)
    assert len(second.connections) == 1
    receive(listening(ask_then_accept), again)


# --- Version Negotiation ----------------------------------------------------------------------------------------------


def unknown_version(size: int = 1200, version: int = 0x1A2A3A4A, cids: bytes = b"\x08destinat\x06source") -> bytes:
    return (b"\xc0" + version.to_bytes(4, "big") + cids).ljust(size, b"\x00")


def test_an_unknown_version_is_told_ours() -> None:
    """RFC 9000 §6.1."""
    endpoint = listening()
    receive(endpoint, unknown_version())
    header = parse_long_header(answer(endpoint), 0)
    assert header.packet_type == VERSION_NEGOTIATION_PACKET
    assert header.supported_versions == [VERSION_1, VERSION_2]
    assert (header.destination_cid, header.source_cid) == (b"source", b"destinat")


def test_a_known_version_that_is_not_wanted_is_told_too() -> None:
    endpoint = listening(configuration=SERVER.replaced(supported_versions=[VERSION_2]))
    receive(endpoint, client(supported_versions=[VERSION_1])[1])
    assert parse_long_header(answer(endpoint), 0).supported_versions == [VERSION_2]


def test_small_datagrams_and_version_negotiation_itself_are_not_answered() -> None:
    """RFC 9000 §6.1: or two servers would talk for ever; security.md row 8."""
    endpoint = listening()
    receive(endpoint, unknown_version(1199))
    packet = encode_version_negotiation(b"destination", b"source", [5], 0)
    receive(endpoint, packet.ljust(1200, b"\x00"))
    receive(endpoint, unknown_version(version=0))
    assert answers(endpoint) == []
    assert endpoint.datagrams_dropped == 3


def test_an_answer_is_never_larger_than_its_question() -> None:
    """RFC 9000 §6.1, RFC 8999 §6: connection IDs of an unknown version may be long."""
    cids = b"\xff" + b"d" * 255 + b"\xff" + b"s" * 255
    endpoint = listening(configuration=SERVER.replaced(supported_versions=[VERSION_1] * 160))
    receive(endpoint, unknown_version(1200, cids=cids))
    receive(endpoint, unknown_version(1155, cids=cids))
    assert [len(transmit.datagrams[0]) <= 1200 for transmit in answers(endpoint)] == [True]
    larger = listening(configuration=SERVER.replaced(supported_versions=[VERSION_1] * 180))
    receive(larger, unknown_version(1200, cids=cids))
    assert answers(larger) == []


# --- stateless reset --------------------------------------------------------------------------------------------------


def test_a_reset_is_smaller_than_what_triggered_it() -> None:
    """RFC 9000 §10.3.3: or two endpoints would reset each other for ever."""
    endpoint = listening(reset_key=b"k" * 32)
    for size in (22, 30, 43, 44, 100, 1200):
        receive(endpoint, SHORT.ljust(size, b"\x00")[:size])
        reset = answer(endpoint)
        assert 21 <= len(reset) < size
        assert reset[-16:] == reset_token(b"k" * 32, b"unknown-")
        assert reset[0] & 0xC0 == 0x40
    receive(endpoint, SHORT[:21])
    assert answers(endpoint) == []
    assert endpoint.datagrams_dropped == 1


def test_a_client_recognises_the_reset_of_a_server_that_was_restarted() -> None:
    """RFC 9000 §10.3: the key is all that has to survive."""
    endpoint = listening(reset_key=b"k" * 32)
    connection, data = client()
    receive(endpoint, data)
    (server,) = endpoint.connections
    for _ in range(4):
        for datagram, _ in server.datagrams_to_send(0.1):
            connection.receive_datagram(datagram, SERVER_ADDRESS, 0.1)
        for datagram, _ in connection.datagrams_to_send(0.1):
            receive(endpoint, datagram, now=0.1)
    assert connection.is_handshake_confirmed
    restarted = listening(reset_key=b"k" * 32, environment=Clock(77))
    connection.send_ping(1)
    for datagram, _ in connection.datagrams_to_send(1.0):
        receive(restarted, datagram.ljust(60, b"\x00"), now=1.0)
    connection.receive_datagram(answer(restarted), SERVER_ADDRESS, 1.0)
    assert connection.is_terminated
    assert connection.close_cause == life.CAUSE_STATELESS_RESET
    stranger = listening(reset_key=b"x" * 32)
    receive(stranger, SHORT)
    assert answer(stranger)[-16:] != reset_token(b"k" * 32, b"unknown-")


def test_a_long_header_is_never_answered_with_a_reset() -> None:
    endpoint = Endpoint()
    receive(endpoint, b"\xe0\x00\x00\x00\x01\x08unknown-\x00" + bytes(100))
    assert answers(endpoint) == []


# --- bounds on answers ------------------------------------------------------------------------------------------------


def test_answers_that_wait_are_bounded() -> None:
    """security.md row 8."""
    endpoint = Endpoint()
    for _ in range(MAX_ANSWERS + 10):
        receive(endpoint, SHORT, now=1.0)
    assert endpoint.datagrams_dropped == 10
    assert len(answers(endpoint)) == MAX_ANSWERS


def test_the_rate_of_answers_is_bounded() -> None:
    """security.md row 8: a flood of forged datagrams is not turned into another."""
    endpoint = Endpoint()
    count = 0
    for _ in range(int(ANSWERS_PER_SECOND) + 100):
        receive(endpoint, SHORT, now=5.0)
        count += len(answers(endpoint))
    assert count == ANSWERS_PER_SECOND
    receive(endpoint, SHORT, now=5.0)
    assert answers(endpoint) == []
    for _ in range(50):
        receive(endpoint, SHORT, now=5.02)
        count += len(answers(endpoint))
    assert count == pytest.approx(ANSWERS_PER_SECOND * 1.02, abs=1)
    receive(endpoint, SHORT, now=1000.0)  # credit does not grow beyond one second's
    assert endpoint._answer_credit == ANSWERS_PER_SECOND - 1


# --- stubs ------------------------------------------------------------------------------------------------------------


def closed() -> tuple[Endpoint, list[bytes], Transmit]:
    """A connection that has sent its close and is freed: its endpoint, its connection IDs, its last datagram."""
    endpoint, pairs = two_connections()
    connection = pairs[0][0]
    connection.close(5, None, "bye")
    transmit = connection.next_transmit(1.0)
    assert transmit is not None
    cids = sorted(endpoint._issuers[connection].issued)
    endpoint.leave_stub(connection, transmit, 3.0, 1.0)
    assert connection not in endpoint.connections
    return endpoint, cids, transmit


def test_a_stub_repeats_the_close_ever_more_rarely() -> None:
    """RFC 9000 §10.2.1."""
    endpoint, cids, transmit = closed()
    assert len(cids) == 8
    repeated = []
    for number in range(1, 1 << (STUB_REPEATS + 1)):
        receive(endpoint, b"\x40" + cids[number % 8] + bytes(40), now=1.5)
        if answers(endpoint) == [transmit]:
            repeated.append(number)
    assert repeated == [1 << exponent for exponent in range(STUB_REPEATS)]


def test_a_batch_for_a_stub_counts_once() -> None:
    endpoint, cids, transmit = closed()
    datagram = b"\x40" + cids[0] + bytes(40)
    receive(endpoint, *[datagram] * 10, now=1.5)
    assert answers(endpoint) == [transmit]


def test_a_stub_expires() -> None:
    endpoint, cids, _ = closed()
    assert endpoint.deadline == 4.0
    endpoint.handle_timer(3.9)
    assert endpoint._stubs
    endpoint.handle_timer(4.0)
    assert not endpoint._stubs
    assert endpoint.deadline == inf
    receive(endpoint, b"\x40" + cids[0] + bytes(40), now=5.0)
    assert len(answers(endpoint)[0].datagrams[0]) < 49  # a stateless reset from now on


def test_a_client_that_knows_only_its_own_choice_meets_the_stub_too() -> None:
    """Otherwise its next Initial packet would start the connection, and its failure, anew."""
    endpoint = listening()
    _, data = client()
    receive(endpoint, data)
    (server,) = endpoint.connections
    server.close(1, 0, "no")
    transmit = server.next_transmit(0.0)
    assert transmit is not None
    endpoint.leave_stub(server, transmit, 1.0, 0.0)
    receive(endpoint, data, now=0.1)
    assert not endpoint.connections
    assert answers(endpoint) == [transmit]


def test_stubs_are_bounded() -> None:
    """security.md row 8: the oldest goes first."""
    endpoint = Endpoint()
    environment = SimulatedEnvironment(1)
    first: list[bytes] = []
    for number in range(MAX_STUBS // 8 + 2):
        connection = QuicConnection(configuration=CLIENT)
        issuer = endpoint._issuer()
        issuer.issued = {environment.random_bytes(8) for _ in range(8)}
        first = first or list(issuer.issued)
        endpoint._issuers[connection] = issuer
        endpoint.leave_stub(connection, Transmit([b"close"], "peer"), 10.0, float(number))
    assert len(endpoint._stubs) <= MAX_STUBS
    assert not set(first) & set(endpoint._stubs)


def test_a_connection_of_somebody_else_leaves_nothing() -> None:
    endpoint = Endpoint()
    endpoint.leave_stub(QuicConnection(configuration=CLIENT), Transmit([b"x"], "peer"), 1.0, 0.0)
    assert endpoint.deadline == inf


def test_a_stub_counts_by_itself() -> None:
    stub = Stub(Transmit([b"close"], "peer"), [b"cid"], 5.0)
    assert [stub.wants_repeat() for _ in range(9)] == [True, True, False, True, False, False, False, True, False]


def test_a_terminated_connection_is_not_half_open_any_more() -> None:
    endpoint = Endpoint(environment=Clock(1))
    holder = listening()
    _, data = client()
    receive(holder, data)
    (server,) = holder.connections
    assert server in holder.half_open
    server.close()
    server.datagrams_to_send(0.0)
    server.handle_timer(1000.0)
    assert server.is_terminated
    holder._deliver(server, Received([data], CLIENT_ADDRESS), 1000.0)
    assert server not in holder.half_open
    assert not endpoint.connections


def test_what_travels_in_answers_can_be_read_by_anybody() -> None:
    """The refusal is an Initial packet under keys that follow from the client's own choice (RFC 9001 §5.2)."""
    endpoint = listening(lambda incoming: incoming.refuse())
    connection, data = client()
    receive(endpoint, data)
    packet = answer(endpoint)
    assert len(packet) < len(data) * 3
    opening = connection._parts.keys.opening[0]
    assert opening is not None
    header = parse_long_header(packet, 0)
    mask = opening.masks([packet[header.packet_number_offset + 4 : header.packet_number_offset + 20]])
    first = packet[0] ^ (mask[0] & 0x0F)
    length = (first & 3) + 1
    offset = header.packet_number_offset
    number = bytes(a ^ b for a, b in zip(packet[offset : offset + length], mask[1 : 1 + length], strict=True))
    payload = opening.open(0, bytes((first,)) + packet[1:offset] + number, packet[offset + length : header.end])
    assert payload is not None
    assert decode_frames(payload) == [("TRANSPORT_CLOSE", (CONNECTION_REFUSED, 0, b""))]
