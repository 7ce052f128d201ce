"""Session tickets as values."""

from __future__ import annotations

import dataclasses
import pickle
from datetime import timedelta

from helpers.certificates import EPOCH, NOW
from quicio.tls.constants import CipherSuite
from quicio.tls.tickets import SessionTicket

TICKET = SessionTicket(
    0xFFFFFFF0, CipherSuite.AES_128_GCM_SHA256, EPOCH + timedelta(hours=1), EPOCH, b"secret", "host.example", b"ticket"
)


def test_fields() -> None:
    """The order in which aioquic's users build them."""
    assert [field.name for field in dataclasses.fields(SessionTicket)] == [
        "age_add",
        "cipher_suite",
        "not_valid_after",
        "not_valid_before",
        "resumption_secret",
        "server_name",
        "ticket",
        "max_early_data_size",
        "other_extensions",
    ]
    assert TICKET.max_early_data_size is None
    assert TICKET.other_extensions == []


def test_picklable() -> None:
    assert pickle.loads(pickle.dumps(TICKET)) == TICKET


def test_validity() -> None:
    assert TICKET.is_valid_at(NOW)
    assert TICKET.is_valid_at(NOW + 3600)
    assert not TICKET.is_valid_at(NOW - 1)
    assert not TICKET.is_valid_at(NOW + 3601)


def test_age() -> None:
    """RFC 8446 §4.2.11.1: milliseconds, plus age_add, modulo 2^32."""
    assert TICKET.obfuscated_age_at(NOW) == 0xFFFFFFF0
    assert TICKET.obfuscated_age_at(NOW + 0.017) == 1


def test_today() -> None:
    """The properties use the date of the machine."""
    long_ago = dataclasses.replace(TICKET, not_valid_before=EPOCH - timedelta(days=9999), not_valid_after=EPOCH)
    for_long = dataclasses.replace(
        TICKET, not_valid_before=EPOCH - timedelta(days=9999), not_valid_after=EPOCH + timedelta(days=99999)
    )
    assert for_long.is_valid
    assert 0 <= for_long.obfuscated_age < 1 << 32
    assert not dataclasses.replace(long_ago, not_valid_after=EPOCH - timedelta(days=9998)).is_valid


def test_secret_stays_out_of_representations() -> None:
    assert "secret" not in repr(TICKET).replace("resumption_secret", "")
    assert "resumption_secret" not in repr(TICKET)
