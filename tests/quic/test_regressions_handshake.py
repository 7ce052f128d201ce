"""The handshake against peers that leave CRYPTO data behind, and against servers that know one version alone."""

from __future__ import annotations

import pytest

from quicio.quic.configuration import QuicConfiguration
from quicio.quic.connection import QuicConnection
from quicio.quic.endpoint import Endpoint
from quicio.quic.handshake import Handshake
from quicio.quic.wire.constants import (
    EPOCH_HANDSHAKE,
    EPOCH_INITIAL,
    HANDSHAKE,
    INITIAL,
    PROTOCOL_VIOLATION,
    VERSION_1,
    VERSION_2,
    VERSION_NEGOTIATION_ERROR,
    QuicConnectionError,
)
from quicio.quic.wire.transport_parameters import TransportParameters
from sim.rude import RudePeer, crypto_frame
from sim.world import World


def test_crypto_data_that_is_left_behind_when_keys_come() -> None:
    """RFC 9001 §4.1.3: bytes of the Initial level that TLS has not taken when it gives Handshake keys."""
    rude = RudePeer(victim_is_client=False).to_initial()
    hello = rude.crypto(INITIAL)
    rude.send(EPOCH_INITIAL, crypto_frame(len(hello) + 10, b"beyond a gap"))
    assert rude.close_code() is None
    rude.send(EPOCH_INITIAL, crypto_frame(0, hello))
    assert rude.close_code() == PROTOCOL_VIOLATION


def test_crypto_data_that_comes_late_at_a_level_that_is_over() -> None:
    rude = RudePeer(victim_is_client=False).to_initial()
    hello = rude.crypto(INITIAL)
    rude.send(EPOCH_INITIAL, crypto_frame(0, hello))
    rude.send(EPOCH_INITIAL, crypto_frame(0, hello))  # again: nothing new
    assert rude.close_code() is None
    rude.send(EPOCH_INITIAL, crypto_frame(len(hello) + 10, b"beyond a gap"))
    assert rude.close_code() == PROTOCOL_VIOLATION


def test_crypto_data_that_is_left_behind_when_the_handshake_is_complete() -> None:
    """A client is given a piece beyond the server's Finished, then the flight."""
    rude = RudePeer(victim_is_client=True).to_handshake()
    flight = rude.crypto(HANDSHAKE)
    rude.send(EPOCH_HANDSHAKE, crypto_frame(len(flight) + 1, b"beyond a gap"))
    for start in range(0, len(flight), 1000):
        assert rude.close_code() is None
        rude.send(EPOCH_HANDSHAKE, crypto_frame(start, flight[start : start + 1000]))
    assert rude.close_code() == PROTOCOL_VIOLATION


def client_after_version_negotiation(versions: list[int], attempted: int) -> Handshake:
    """A client's handshake that begins again with `attempted`."""
    configuration = QuicConfiguration(supported_versions=versions, alpn_protocols=["test"], server_name="localhost")
    connection = QuicConnection(configuration=configuration)
    connection.connect(("10.0.0.2", 443), 0.0)
    handshake = connection._parts.handshake
    handshake.restart(attempted)
    return handshake


def told(chosen: int, available: list[int]) -> TransportParameters:
    parameters = TransportParameters()
    parameters.version_information = (chosen, available)
    return parameters


def test_a_server_of_version_1_alone_needs_no_version_information() -> None:
    """RFC 9368 §8: after Version Negotiation its absence means version 1 and no other."""
    handshake = client_after_version_negotiation([VERSION_2, VERSION_1], VERSION_1)
    handshake._check_version_information(TransportParameters())


def test_any_other_version_does() -> None:
    """RFC 9368 §4."""
    handshake = client_after_version_negotiation([VERSION_1, VERSION_2], VERSION_2)
    with pytest.raises(QuicConnectionError) as raised:
        handshake._check_version_information(TransportParameters())
    assert raised.value.error_code == VERSION_NEGOTIATION_ERROR


@pytest.mark.parametrize(
    ("available", "is_accepted"),
    [([VERSION_1], True), ([0x0A0A0A0A], True), ([], False), ([VERSION_2, VERSION_1], False)],
    ids=["the one", "the one is not listed", "none", "a better one"],
)
def test_what_the_server_offers_must_have_led_to_the_same_choice(available: list[int], is_accepted: bool) -> None:
    """RFC 9368 §4: the server's list and the negotiated version; an empty list is never accepted."""
    handshake = client_after_version_negotiation([VERSION_2, VERSION_1], VERSION_1)
    if is_accepted:
        handshake._check_version_information(told(VERSION_1, available))
        return
    with pytest.raises(QuicConnectionError) as raised:
        handshake._check_version_information(told(VERSION_1, available))
    assert raised.value.error_code == VERSION_NEGOTIATION_ERROR


def test_versions_that_nobody_speaks_are_offered_but_never_chosen() -> None:
    """Both sides list a reserved version first (RFC 9000 §15); the handshake goes on in one that exists."""
    reserved = 0x1A2A3A4A
    world = World(
        1,
        client={"supported_versions": [VERSION_1, reserved, VERSION_2]},
        server={"supported_versions": [reserved, VERSION_2, VERSION_1]},
    )
    client, server = world.establish()
    assert client.connection.version == server.connection.version == VERSION_2


def test_a_listener_of_no_version_that_exists_is_told_so_at_once() -> None:
    """Not when the first client comes, out of the driver."""
    world = World(2)
    endpoint = Endpoint()
    with pytest.raises(ValueError, match="supported_versions are not known"):
        endpoint.listen(world.server_configuration.replaced(supported_versions=[0x1A2A3A4A]))
