"""Version Negotiation, Retry and the switch to a compatible version, as a client sees them (RFC 9000 §6.2, §17.2.5)."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.certificates import make_certificates
from quicio.quic import lifecycle as life
from quicio.quic.configuration import QuicConfiguration
from quicio.quic.connection import QuicConnection
from quicio.quic.negotiation import MAX_RETRY_TOKEN
from quicio.quic.transmit import Received
from quicio.quic.wire.constants import (
    AEAD_TAG_SIZE,
    EPOCH_HANDSHAKE,
    EPOCH_INITIAL,
    INITIAL,
    VERSION_1,
    VERSION_2,
    VERSION_NEGOTIATION_ERROR,
)
from quicio.quic.wire.headers import encode_version_negotiation, parse_long_header
from quicio.quic.wire.retry import encode_retry, retry_integrity_tag
from sim.links import Delay, DropNumbers
from sim.rude import RudePeer
from sim.simulation import SimulatedEnvironment
from sim.world import World

SERVER = ("10.0.0.2", 443)
MADE = make_certificates("ed25519")


def start(**changes: Any) -> tuple[QuicConnection, bytes]:
    """A client and its first datagram."""
    configuration = QuicConfiguration(server_name="localhost", cadata=MADE.authority_pem, groups=[0x1D])
    connection = QuicConnection(configuration=configuration.replaced(**changes), environment=SimulatedEnvironment(1))
    connection.connect(SERVER, 0.0)
    ((datagram, _),) = connection.datagrams_to_send(0.0)
    return connection, datagram


def versions(connection: QuicConnection, *offered: int, **cids: bytes) -> bytes:
    """A Version Negotiation packet for the client."""
    return encode_version_negotiation(
        cids.get("source", connection._parts.paths.active.peer_cid),
        cids.get("destination", connection.host_cid),
        list(offered),
        0x2A,
    )


def retry(connection: QuicConnection, token: bytes = b"token", source: bytes = b"retry-id", **fields: Any) -> bytes:
    return encode_retry(
        fields.get("version", connection.version),
        source,
        fields.get("destination", connection.host_cid),
        fields.get("original", connection._parts.initial_cid),
        token,
    )


def sends(connection: QuicConnection, now: float = 0.1) -> bytes:
    """The one datagram that a client sends now."""
    ((datagram, _),) = connection.datagrams_to_send(now)
    return datagram


def is_ignored(connection: QuicConnection, packet: bytes) -> bool:
    """Whether a packet changes nothing but the count of those dropped."""
    before = connection.statistics().packets_dropped
    token, cid = connection._parts.initial_token, connection._parts.initial_cid
    connection.receive_datagram(packet, SERVER, 0.1)
    return (
        connection.statistics().packets_dropped == before + 1
        and connection.close_reason is None
        and (connection._parts.initial_token, connection._parts.initial_cid) == (token, cid)
        and not connection.datagrams_to_send(0.1)
    )


# --- Version Negotiation ----------------------------------------------------------------------------------------------


def test_a_client_begins_again_with_the_version_it_prefers_among_those_offered() -> None:
    connection, first = start(supported_versions=[VERSION_1, VERSION_2])
    chosen = connection._parts.initial_cid
    connection.receive_datagram(versions(connection, 0x1A2A3A4A, VERSION_2), SERVER, 0.1)
    assert connection.version == VERSION_2
    again = sends(connection)
    header, old = parse_long_header(again, 0), parse_long_header(first, 0)
    assert (header.version, old.version) == (VERSION_2, VERSION_1)
    assert header.destination_cid != chosen  # new keys, a new connection for the server
    assert header.source_cid == old.source_cid
    assert connection._parts.handshake.local_parameters.version_information == (VERSION_2, [VERSION_1, VERSION_2])
    numbers = [packet.number for packet in connection._parts.loss.spaces[INITIAL].sent if packet is not None]
    assert numbers == [1]  # numbers go on, and what went before is forgotten
    assert connection._parts.paths.active.in_flight == len(again)


def test_only_the_first_counts() -> None:
    connection, _ = start(supported_versions=[VERSION_1, VERSION_2])
    connection.receive_datagram(versions(connection, VERSION_2), SERVER, 0.1)
    sends(connection)
    assert is_ignored(connection, versions(connection, VERSION_1))
    assert connection.version == VERSION_2


@pytest.mark.parametrize("offered", [[VERSION_1], [VERSION_2, VERSION_1]])
def test_one_that_lists_our_version_is_ignored(offered: list[int]) -> None:
    """RFC 9000 §6.2: nobody would have sent it; security.md row 10."""
    connection, _ = start()
    assert is_ignored(connection, versions(connection, *offered))


@pytest.mark.parametrize("which", ["source", "destination"])
def test_one_with_other_connection_ids_is_ignored(which: str) -> None:
    """RFC 9000 §6.2: it must come from somebody who saw our packet."""
    connection, _ = start()
    assert is_ignored(connection, versions(connection, VERSION_2, **{which: b"other-id"}))


def test_one_after_a_processed_packet_is_ignored() -> None:
    rude = RudePeer(victim_is_client=True, victim={"supported_versions": [VERSION_1, VERSION_2]}).to_initial()
    rude.send(EPOCH_INITIAL, b"\x01")
    victim = rude.victim
    assert victim._parts.handshake.is_source_cid_fixed
    assert is_ignored(victim, versions(victim, VERSION_2))
    assert is_ignored(victim, retry(victim))


def test_without_a_version_in_common_the_attempt_is_over_at_once() -> None:
    connection, _ = start(supported_versions=[VERSION_1])
    connection.receive_datagram(versions(connection, *range(0x0A0A0A0A, 0x0A0A0A2A)), SERVER, 0.1)
    assert connection.is_terminated
    assert connection.close_cause == life.CAUSE_VERSION
    reason = connection.close_reason
    assert reason is not None
    assert reason.code == VERSION_NEGOTIATION_ERROR
    assert "the server speaks 0xa0a0a0a" in reason.reason
    assert reason.reason.count("0x") == 8  # a long list is not told whole
    assert connection.datagrams_to_send(0.1) == []


def test_a_version_of_ours_that_nobody_implements_is_not_chosen() -> None:
    connection, _ = start(supported_versions=[VERSION_1, 0x0A0A0A0A], original_version=VERSION_1)
    connection.receive_datagram(versions(connection, 0x0A0A0A0A), SERVER, 0.1)
    assert connection.close_cause == life.CAUSE_VERSION


def test_servers_take_neither() -> None:
    rude = RudePeer(victim_is_client=False).to_handshake()
    for packet in (versions(rude.victim, VERSION_2), retry(rude.victim)):
        dropped = rude.victim.statistics().packets_dropped
        rude.victim.receive_datagram(packet, rude.address, rude.now)
        assert rude.victim.statistics().packets_dropped == dropped + 1
        assert rude.victim.close_reason is None
    assert rude.victim.version == VERSION_1


def test_a_handshake_after_version_negotiation_reaches_its_end() -> None:
    """And what was negotiated is checked against the server's transport parameters (RFC 9368 §4)."""
    world = World(1, server={"supported_versions": [VERSION_2]}, client={"supported_versions": [VERSION_1, VERSION_2]})
    client, server = world.establish()
    assert client.connection.version == server.connection.version == VERSION_2
    world.transfer(client, server, 5000)


# --- Retry ------------------------------------------------------------------------------------------------------------


def test_the_token_is_echoed_with_new_keys_and_numbers_that_go_on() -> None:
    """RFC 9000 §17.2.5.2, §17.2.5.3."""
    connection, first = start()
    connection.receive_datagram(retry(connection), SERVER, 0.1)
    again = sends(connection)
    header = parse_long_header(again, 0)
    assert header.token == b"token"
    assert header.destination_cid == b"retry-id"
    assert header.source_cid == parse_long_header(first, 0).source_cid
    assert len(again) == 1200
    packets = [packet for packet in connection._parts.loss.spaces[INITIAL].sent if packet is not None]
    assert [packet.number for packet in packets] == [1]
    assert connection._parts.handshake.expected_retry_cid == b"retry-id"
    assert connection._parts.handshake.expected_original_cid == connection.original_destination_connection_id
    assert connection._parts.loss.packets_lost == 0


def test_a_second_retry_is_ignored() -> None:
    """RFC 9000 §17.2.5.2; security.md row 10."""
    connection, _ = start()
    connection.receive_datagram(retry(connection), SERVER, 0.1)
    sends(connection)
    assert is_ignored(connection, retry(connection, b"another", b"other-id"))


def test_version_negotiation_after_a_retry_is_ignored() -> None:
    connection, _ = start()
    connection.receive_datagram(retry(connection), SERVER, 0.1)
    sends(connection)
    assert is_ignored(connection, versions(connection, VERSION_2))


@pytest.mark.parametrize("position", [0, 1, 6, -1, -16, -20])
def test_a_retry_that_was_changed_is_ignored(position: int) -> None:
    """RFC 9001 §5.8: its integrity tag says so."""
    connection, _ = start()
    packet = bytearray(retry(connection))
    packet[position] ^= 1
    assert is_ignored(connection, bytes(packet))


@pytest.mark.parametrize(
    "fields",
    [
        {"token": bytes(MAX_RETRY_TOKEN + 1)},
        {"original": b"not ours"},
        {"destination": b"not ours"},
        {"version": VERSION_2},
    ],
)
def test_a_retry_that_cannot_be_for_us_is_ignored(fields: dict[str, Any]) -> None:
    """RFC 9000 §17.2.5.2: a token that leaves no room; one of another connection or version."""
    connection, _ = start()
    assert is_ignored(connection, retry(connection, **fields))


def test_a_retry_without_a_token_is_ignored() -> None:
    """RFC 9000 §17.2.5.2."""
    connection, _ = start()
    packet = retry(connection, b"x")[: -1 - AEAD_TAG_SIZE]
    tag = retry_integrity_tag(packet, connection._parts.initial_cid, VERSION_1)
    assert is_ignored(connection, packet + tag)


def test_a_retry_that_changes_nothing_is_ignored() -> None:
    """RFC 9000 §17.2.5.1: its source must not be the destination that we chose."""
    connection, _ = start()
    assert is_ignored(connection, retry(connection, source=connection._parts.initial_cid))


def test_the_largest_token_leaves_room() -> None:
    connection, _ = start()
    connection.receive_datagram(retry(connection, bytes(MAX_RETRY_TOKEN)), SERVER, 0.1)
    data = connection.datagrams_to_send(0.1)
    assert data
    assert all(len(datagram) == 1200 for datagram, _ in data)


# --- compatible versions ----------------------------------------------------------------------------------------------


def test_the_server_switches_and_both_go_on_in_its_version() -> None:
    """RFC 9368 §2.3, RFC 9369 §4.1."""
    world = World(1, server={"supported_versions": [VERSION_2, VERSION_1]})
    client, server = world.establish()
    assert client.connection.version == server.connection.version == VERSION_2
    world.transfer(client, server, 5000)
    world.transfer(server, client, 5000)


def test_a_server_opens_what_the_client_still_sends_in_the_original_version() -> None:
    """RFC 9369 §4.1: the client repeats its first packets until it hears of the switch."""
    world = World(
        2, server={"supported_versions": [VERSION_2, VERSION_1]}, down=[DropNumbers(range(1, 5)), Delay(0.01)]
    )
    client, server = world.establish()
    assert client.connection.version == server.connection.version == VERSION_2
    packets = server.capture.packets
    switched = next(index for index, packet in enumerate(packets) if packet.is_sent)
    assert [packet for packet in packets[switched:] if not packet.is_sent and packet.epoch == "INITIAL"]
    assert client.connection.statistics().probe_timeouts >= 1


def test_a_packet_in_another_version_counts_when_it_is_authentic() -> None:
    """A forged one changes nothing."""
    rude = RudePeer(
        victim_is_client=True,
        victim={"supported_versions": [VERSION_1, VERSION_2]},
        carrier={"supported_versions": [VERSION_2, VERSION_1]},
    ).to_initial()
    ((datagram, _),) = rude.carrier.datagrams_to_send(rude.now)[:1]
    assert parse_long_header(datagram, 0).version == VERSION_2
    header = parse_long_header(datagram, 0)
    forged = bytearray(datagram)
    forged[header.end - 1] ^= 1
    rude.victim.receive_datagram(bytes(forged[: header.end]), rude.address, rude.now)
    versions_seen = [rude.victim.version]
    rude.victim.receive_datagram(datagram, rude.address, rude.now)
    versions_seen.append(rude.victim.version)
    assert versions_seen == [VERSION_1, VERSION_2]
    assert rude.victim._parts.keys.sealing[EPOCH_HANDSHAKE] is not None


def test_a_version_that_was_not_offered_is_not_switched_to() -> None:
    connection, _ = start(supported_versions=[VERSION_1])
    negotiation = connection._negotiation
    assert negotiation.switching_keys(VERSION_2) is None
    other, _ = start()
    assert other._negotiation.switching_keys(VERSION_2) is not None


def test_a_server_never_switches_by_a_packet() -> None:
    rude = RudePeer(victim_is_client=False, victim={"supported_versions": [VERSION_1, VERSION_2]}).to_initial()
    assert rude.victim._negotiation.switching_keys(VERSION_2) is None


def test_nothing_is_switched_once_the_parameters_are_there() -> None:
    rude = RudePeer(victim_is_client=True, victim={"supported_versions": [VERSION_1, VERSION_2]}).to_confirmed()
    assert rude.victim._negotiation.switching_keys(VERSION_2) is None
    assert rude.victim.version == VERSION_1


def test_other_unprotected_packets_are_for_nobody() -> None:
    """An unknown version that is no Version Negotiation."""
    connection, _ = start()
    packet = b"\xc0\x1a\x2a\x3a\x4a\x08" + connection.host_cid + b"\x00" + bytes(40)
    assert is_ignored(connection, packet)
    connection.receive_datagrams(Received([], SERVER), 0.2)
