"""Transport parameters from one connection to the next (RFC 9000 §7.4.1)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from helpers.certificates import EPOCH
from quicio.quic.remembered import LIMITS, check_not_reduced, reduced_limit, remember, restore, version_of
from quicio.quic.wire.constants import PROTOCOL_VIOLATION, VERSION_2, QuicConnectionError
from quicio.quic.wire.transport_parameters import TransportParameters
from quicio.tls.constants import CipherSuite
from quicio.tls.tickets import SessionTicket


def parameters() -> TransportParameters:
    made = TransportParameters()
    for number, name in enumerate(LIMITS):
        setattr(made, name, 1000 + number)
    made.max_idle_timeout = 5000
    made.max_udp_payload_size = 1400
    made.disable_active_migration = True
    return made


def ticket(others: list[tuple[int, bytes]]) -> SessionTicket:
    return SessionTicket(
        0, CipherSuite.AES_128_GCM_SHA256, EPOCH + timedelta(hours=1), EPOCH, b"s", "host", b"label", None, others
    )


def test_what_is_remembered_comes_back() -> None:
    kept = ticket(remember(parameters(), VERSION_2))
    assert version_of(kept) == VERSION_2
    restored = restore(kept)
    assert restored is not None
    for name in (*LIMITS, "max_idle_timeout", "max_udp_payload_size", "disable_active_migration"):
        assert getattr(restored, name) == getattr(parameters(), name)


def test_what_belongs_to_one_connection_does_not() -> None:
    """RFC 9000 §7.4.1: a client must not use these again."""
    said = parameters()
    said.ack_delay_exponent = 10
    said.max_ack_delay = 99
    said.initial_source_connection_id = b"source"
    said.original_destination_connection_id = b"original"
    said.retry_source_connection_id = b"retry"
    said.stateless_reset_token = bytes(16)
    restored = restore(ticket(remember(said, VERSION_2)))
    assert restored is not None
    plain = TransportParameters()
    assert (restored.ack_delay_exponent, restored.max_ack_delay) == (plain.ack_delay_exponent, plain.max_ack_delay)
    assert restored.initial_source_connection_id is None
    assert restored.original_destination_connection_id is None
    assert restored.retry_source_connection_id is None
    assert restored.stateless_reset_token is None


@pytest.mark.parametrize("others", [[], [(0x39, b"\x04")], [(0xFF52, b"\0")]])
def test_tickets_of_others(others: list[tuple[int, bytes]]) -> None:
    assert restore(ticket(others)) is None
    assert version_of(ticket(others)) is None


@pytest.mark.parametrize("name", LIMITS)
def test_no_limit_may_be_lower(name: str) -> None:
    now = parameters()
    setattr(now, name, getattr(now, name) + 1)
    assert reduced_limit(parameters(), now) is None
    check_not_reduced(parameters(), now)
    setattr(now, name, getattr(now, name) - 2)
    assert reduced_limit(parameters(), now) == name
    with pytest.raises(QuicConnectionError, match=name) as caught:
        check_not_reduced(parameters(), now)
    assert caught.value.error_code == PROTOCOL_VIOLATION
