"""A connection's parts are what its configuration asks for."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.certificates import make_certificates
from quicio.quic.assembly import MAX_UDP_PAYLOAD_SIZE, ConfiguredPaths, assemble
from quicio.quic.configuration import QuicConfiguration
from quicio.quic.congestion.cubic import CubicController
from quicio.quic.congestion.reno import RenoController
from quicio.quic.parts import Parts
from quicio.quic.paths.connection_ids import ConnectionIdIssuer
from quicio.quic.wire.constants import VERSION_1, VERSION_2
from sim.simulation import SimulatedEnvironment

ENVIRONMENT = SimulatedEnvironment(1)
MADE = make_certificates("ed25519")


def build(*, cid_length: int = 8, original: bytes | None = None, retry: bytes | None = None, **changes: Any) -> Parts:
    configuration = QuicConfiguration().replaced(**changes)
    if not configuration.is_client:
        configuration.certificate, configuration.private_key = MADE.chain[0], MADE.private_key
    return assemble(
        configuration,
        ENVIRONMENT,
        ConnectionIdIssuer(cid_length, ENVIRONMENT.random_bytes),
        remote="peer",
        local="here",
        version=VERSION_1,
        is_address_validated=configuration.is_client,
        original_destination_cid=original,
        retry_source_cid=retry,
    )


@pytest.mark.parametrize(("name", "kind"), [("reno", RenoController), ("cubic", CubicController)])
def test_a_path_is_made_as_configured(name: str, kind: type) -> None:
    configuration = QuicConfiguration(
        congestion_control_algorithm=name, max_datagram_size=1300, mtu_ceiling=1400, ecn=False, pacing_granularity=0.5
    )
    factory = ConfiguredPaths(configuration.replaced(initial_rtt=0.7))
    path = factory.create("peer", "here", True)
    assert (path.remote, path.local, path.is_validated) == ("peer", "here", True)
    assert type(path.congestion) is kind
    assert path.congestion.datagram_size == path.datagram_size == path.mtu.base == 1300
    assert path.mtu.ceiling == 1400
    assert path.rtt.smoothed == 0.7
    assert path.ecn.mark() == 0
    other = factory.create("other", None, False)
    assert not other.is_validated
    assert other.congestion is not path.congestion
    assert other.rtt is not path.rtt


def test_what_a_client_announces() -> None:
    """RFC 9000 §18.2, without what only servers may send."""
    parts = build(
        idle_timeout=12.5,
        max_data=1000,
        max_stream_data=500,
        max_streams_bidi=7,
        max_streams_uni=8,
        max_datagram_frame_size=900,
        original=b"original",
        retry=b"retry",
    )
    announced = parts.handshake.local_parameters
    assert announced.max_idle_timeout == 12500
    assert announced.max_udp_payload_size == MAX_UDP_PAYLOAD_SIZE
    assert announced.initial_max_data == 1000
    assert announced.initial_max_stream_data_bidi_local == announced.initial_max_stream_data_bidi_remote == 500
    assert announced.initial_max_stream_data_uni == 500
    assert (announced.initial_max_streams_bidi, announced.initial_max_streams_uni) == (7, 8)
    assert (announced.ack_delay_exponent, announced.max_ack_delay) == (3, 25)
    assert announced.active_connection_id_limit == 8
    assert announced.max_datagram_frame_size == 900
    assert announced.initial_source_connection_id == parts.connection_ids.host_cid
    assert announced.version_information == (VERSION_1, [VERSION_1, VERSION_2])
    assert announced.original_destination_connection_id is None
    assert announced.retry_source_connection_id is None
    assert announced.stateless_reset_token is None


def test_what_a_server_announces_beyond_that() -> None:
    """RFC 9000 §7.3, §10.3: both connection IDs that the client will compare, and a reset token."""
    parts = build(is_client=False, original=b"original", retry=b"retry")
    announced = parts.handshake.local_parameters
    assert announced.original_destination_connection_id == b"original"
    assert announced.retry_source_connection_id == b"retry"
    assert announced.stateless_reset_token == parts.connection_ids.host_reset_token
    assert announced.max_datagram_frame_size == 0


def test_a_zero_length_connection_id_has_no_reset_token() -> None:
    """RFC 9000 §18.2."""
    parts = build(cid_length=0, is_client=False, original=b"original")
    assert parts.connection_ids.host_cid == b""
    assert parts.handshake.local_parameters.stateless_reset_token is None


def test_the_parts_share_one_queue_of_events_one_mask_and_one_path() -> None:
    parts = build()
    assert all(component.wants is parts.wants for component in [*parts.writers, *parts.timed])
    path = parts.paths.active
    assert parts.paths.known == [path]
    assert parts.loss.path is path
    assert parts.streams.rtt is path.rtt
    assert (path.remote, path.local, path.is_validated) == ("peer", "here", True)


def test_a_servers_first_path_is_not_validated() -> None:
    """RFC 9000 §8.1."""
    assert not build(is_client=False, original=b"original").paths.active.is_validated


def test_limits_reach_those_whom_they_concern() -> None:
    parts = build(datagram_queue=3, send_buffer=5000, idle_timeout=5.0, handshake_timeout=1.0, keep_alive=2.0)
    assert parts.datagrams.queue_room() == 3
    parts.lifecycle.start(0.0)
    assert parts.lifecycle.deadline == 1.0
    parts.lifecycle.on_handshake_complete(0.0)
    assert parts.lifecycle.deadline == 2.0
