"""Session tickets as values."""

from __future__ import annotations

import dataclasses
import pickle
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from helpers.certificates import EPOCH, NOW, make_certificates
from quicio.tls.codec import vector
from quicio.tls.constants import TICKET_MAX_CHAIN, CipherSuite
from quicio.tls.tickets import PEER_CERTIFICATES, SessionTicket, remembered

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


FULL = dataclasses.replace(
    TICKET,
    max_early_data_size=0xFFFFFFFF,
    other_extensions=[
        (16, b"h3"),
        (0x39, bytes(60)),
        (PEER_CERTIFICATES, vector(3, make_certificates().chain[0].public_bytes(Encoding.DER))),
    ],
)


def test_form_to_be_sealed() -> None:
    for ticket in (TICKET, FULL):
        assert SessionTicket.decode(ticket.encode(), ticket.ticket) == ticket


def test_damaged_forms_are_no_tickets() -> None:
    data = FULL.encode()
    assert SessionTicket.decode(b"\x02" + data[1:], b"") is None  # a version that is not known here
    assert SessionTicket.decode(data + b"\0", b"") is None
    assert SessionTicket.decode(data[:5] + b"\xff\xff" + data[7:], b"") is None  # no such cipher suite
    assert SessionTicket.decode(data[:7] + b"\xff" * 8 + data[15:], b"") is None  # no such date
    for end in range(0, len(data), 7):
        assert SessionTicket.decode(data[:end], b"") is None


def test_what_is_remembered() -> None:
    chain = make_certificates().chain
    items = remembered("h3", chain)
    assert items is not None
    ticket = dataclasses.replace(TICKET, other_extensions=items)
    assert ticket.alpn == "h3"
    assert ticket.peer_certificates() == chain
    assert TICKET.alpn is None
    assert TICKET.peer_certificates() == []
    assert ticket.extension(0x39) is None


def test_a_chain_that_is_too_long_gives_no_ticket() -> None:
    """Security row 26: a peer's certificates make no ticket larger than that."""
    chain = make_certificates().chain
    assert remembered(None, chain * (TICKET_MAX_CHAIN // 300)) is None


def test_damaged_certificates() -> None:
    """Row 13: of a ticket out of a file; each flaw gives one kind of error, that of a certificate's version too."""
    der = make_certificates().chain[0].public_bytes(Encoding.DER)
    unknown = der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x07", 1)
    assert unknown != der
    for content in (b"\0\0\3abc", b"\0\0\4abc", len(unknown).to_bytes(3, "big") + unknown):
        ticket = dataclasses.replace(TICKET, other_extensions=[(PEER_CERTIFICATES, content)])
        with pytest.raises(ValueError, match="damaged"):
            ticket.peer_certificates()
