"""How servers issue tickets, find them again and refuse early data that comes twice."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest

from helpers.certificates import EPOCH, NOW
from helpers.handshakes import FixedEnvironment
from quicio.tls.constants import CipherSuite
from quicio.tls.issuing import (
    FRESHNESS,
    LABEL_SIZE,
    STRIKE_SECONDS,
    KeptTickets,
    SealedTickets,
    StrikeRegister,
    TicketIssuer,
)
from quicio.tls.tickets import SessionTicket

TICKET = SessionTicket(
    age_add=0xFFFFFFF0,
    cipher_suite=CipherSuite.AES_256_GCM_SHA384,
    not_valid_after=EPOCH + timedelta(hours=1),
    not_valid_before=EPOCH,
    resumption_secret=b"secret" * 8,
    server_name="host.example",
    ticket=b"",
    max_early_data_size=0xFFFFFFFF,
    other_extensions=[(16, b"h3"), (0x39, b"parameters")],
)
BINDER = b"b" * 32


def test_sealed_tickets_hold_everything() -> None:
    tickets = SealedTickets(environment=FixedEnvironment())
    label = tickets.label(dataclasses.replace(TICKET))
    assert b"secret" not in label
    assert tickets.find(label) == dataclasses.replace(TICKET, ticket=label)
    assert tickets.find(label[:-1]) is None
    assert tickets.find(b"") is None


def test_sealed_tickets_end_with_their_keys() -> None:
    environment = FixedEnvironment()
    tickets = SealedTickets(lifetime=3600, environment=environment)
    label = tickets.label(dataclasses.replace(TICKET))
    environment.now += 13 * 3600
    tickets.label(dataclasses.replace(TICKET))  # a new key seals from now on
    assert tickets.find(label) is not None
    environment.now += 3600
    assert tickets.find(label) is None


def test_kept_tickets() -> None:
    kept: list[SessionTicket] = []
    tickets = KeptTickets(lambda label: kept[0] if label == kept[0].ticket else None, kept.append)
    label = tickets.label(dataclasses.replace(TICKET))
    assert len(label) == LABEL_SIZE
    assert tickets.find(label) is kept[0]
    assert tickets.find(b"another") is None


def test_the_contract_alone() -> None:
    issuer = TicketIssuer(lifetime=1, register=None)
    for call in (lambda: issuer.find(b""), lambda: issuer.label(TICKET)):
        with pytest.raises(TypeError, match="SealedTickets"):
            call()


def admits(tickets: TicketIssuer, environment: FixedEnvironment, after: float, binder: bytes = BINDER) -> bool:
    """A ClientHello that states the age which the client counts arrives `after` seconds late."""
    age = TICKET.obfuscated_age_at(environment.now)
    environment.now += after
    return tickets.admits_early_data(TICKET, age, binder)


@pytest.mark.parametrize(("after", "is_fresh"), [(0.0, True), (FRESHNESS, True), (FRESHNESS + 0.1, False)])
def test_freshness(after: float, is_fresh: bool) -> None:
    """Security row 27: a flight that was kept back for long is rejected by its age alone (RFC 8446 §8.3)."""
    environment = FixedEnvironment()
    assert admits(SealedTickets(environment=environment), environment, after) is is_fresh


@pytest.mark.parametrize("off", [0.0, 0.0004])
def test_row_27_fresh_from_the_first_moment_to_the_last_but_once(off: float) -> None:
    """Row 27: a ClientHello that is early by all that is allowed is remembered until it is late by as much.

    An age counts in whole milliseconds, so that both ends of the time lie half a millisecond further out.
    """
    environment = FixedEnvironment()
    tickets = SealedTickets(environment=environment)
    environment.now += 100.0
    age = TICKET.obfuscated_age_at(environment.now)
    environment.now -= FRESHNESS + off
    assert tickets.admits_early_data(TICKET, age, BINDER)
    environment.now += 2 * (FRESHNESS + off)
    assert TICKET.age_error_at(environment.now, age) <= FRESHNESS
    assert not tickets.admits_early_data(TICKET, age, BINDER)


def test_age_wraps_around() -> None:
    environment = FixedEnvironment(now=NOW + 1)
    tickets = KeptTickets(lambda label: None, lambda ticket: None, environment=environment)
    ahead = (TICKET.obfuscated_age_at(environment.now) + 3000) % (1 << 32)
    assert tickets.admits_early_data(TICKET, ahead, BINDER)
    assert tickets.admits_early_data(
        TICKET, ahead, BINDER
    )  # without a register it is the application's to use a ticket once
    assert not tickets.admits_early_data(TICKET, (ahead + 9000) % (1 << 32), BINDER)


def test_each_hello_once() -> None:
    """Security row 27: the same ClientHello is not admitted again while it is fresh."""
    environment = FixedEnvironment()
    tickets = SealedTickets(environment=environment)
    assert admits(tickets, environment, 0.0)
    assert not admits(tickets, environment, 1.0)
    assert admits(tickets, environment, 1.0, b"c" * 32)


def test_a_restart_may_have_forgotten() -> None:
    """Right after a start with shared keys nobody knows what came before: early data of older tickets waits."""
    environment = FixedEnvironment(now=NOW + 30)
    tickets = SealedTickets([b"s" * 32], environment=environment)
    assert not admits(tickets, environment, 0.0)
    environment.now += STRIKE_SECONDS
    assert admits(tickets, environment, 0.0)


def test_the_register_forgets_in_time_and_is_bounded() -> None:
    """Security row 27: so many entries and no more; a full register refuses, it does not forget."""
    register = StrikeRegister(limit=3, seconds=20.0, environment=FixedEnvironment())
    assert [register.admit(bytes((number,)), NOW) for number in range(4)] == [True, True, True, False]
    assert len(register) == 3
    assert not register.admit(b"\0", NOW + 19)
    assert register.admit(b"\0", NOW + 20)
    assert len(register) == 1
    assert register.admit(b"\1", NOW - 1000)  # the clock was put back: what is from the future is no use
    assert len(register) == 1
