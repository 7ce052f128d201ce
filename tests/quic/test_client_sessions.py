"""What a client connection brings, and where it keeps what it gets."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from helpers.certificates import EPOCH
from quicio.quic.client_sessions import MAX_INITIAL_TOKEN, ClientSessions
from quicio.quic.configuration import QuicConfiguration
from quicio.quic.remembered import QUIC_VERSION
from quicio.quic.sessions import SessionStore
from quicio.quic.wire.constants import VERSION_1, VERSION_2
from quicio.tls.constants import CipherSuite
from quicio.tls.tickets import SessionTicket


def ticket(version: int | None = VERSION_1) -> SessionTicket:
    others = [] if version is None else [(QUIC_VERSION, version.to_bytes(4, "big"))]
    return SessionTicket(
        0, CipherSuite.AES_128_GCM_SHA256, EPOCH + timedelta(hours=1), EPOCH, b"s", "host", b"label", None, others
    )


def sessions(remote: object = ("10.0.0.2", 443), **fields: Any) -> ClientSessions:
    made = ClientSessions(QuicConfiguration(server_name="host").replaced(**fields))
    made.begin(remote)
    return made


def trusted(ticket: SessionTicket) -> bool:
    return True


def test_what_is_kept_is_found_by_name_port_and_version() -> None:
    store = SessionStore()
    first = sessions(session_store=store)
    first.keep_ticket(ticket())
    first.keep_token(VERSION_1, b"token")
    assert sessions(("10.9.9.9", 444), session_store=store).ticket(trusted) is None
    assert sessions(session_store=store).token(VERSION_2) == b""
    again = sessions(("fe80::2", 443, 0, 0), session_store=store)
    assert again.ticket(trusted) == ticket()
    assert again.token(VERSION_1) == b"token"


@pytest.mark.parametrize("remote", ["an opaque address", ("10.0.0.2", 443)])
def test_without_a_name_the_address_is_one(remote: object) -> None:
    store = SessionStore()
    sessions(remote, server_name=None, session_store=store).keep_ticket(ticket())
    assert sessions("elsewhere", server_name=None, session_store=store).ticket(trusted) is None
    assert sessions(remote, server_name=None, session_store=store).ticket(trusted) == ticket()


def test_the_configurations_own_go_first() -> None:
    store = SessionStore()
    mine = sessions(session_store=store, session_ticket=ticket(), token=b"mine")
    mine.keep_token(VERSION_1, b"stored")
    assert mine.ticket(trusted) == ticket()
    assert mine.token(VERSION_1) == b"mine"
    nothing = sessions()
    nothing.keep_ticket(ticket())
    nothing.keep_token(VERSION_1, b"token")
    assert (nothing.ticket(trusted), nothing.token(VERSION_1)) == (None, b"")


def test_tickets_that_are_not_used() -> None:
    """Without a version, of an unknown one, of one that this configuration does not start with, of somebody not trusted."""
    for bad in (None, 0x1A2A3A4A, VERSION_2):
        made = sessions(session_ticket=ticket(bad), supported_versions=[VERSION_1])
        assert made.ticket(trusted) is None
    assert sessions(session_ticket=ticket(), original_version=VERSION_2).ticket(trusted) is None
    assert sessions(session_ticket=ticket()).ticket(lambda ticket: False) is None


def test_a_token_that_leaves_no_room() -> None:
    """Security row 26: a server's token may fill Initial packets to that size and no more."""
    assert sessions(token=bytes(MAX_INITIAL_TOKEN)).token(VERSION_1)
    assert sessions(token=bytes(MAX_INITIAL_TOKEN + 1)).token(VERSION_1) == b""


class FullStore(SessionStore):
    """A store on a disk that is full."""

    def add_ticket(self, server: str, ticket: SessionTicket) -> None:
        raise OSError("no space left on device")

    def add_token(self, server: str, token: bytes) -> None:
        raise OSError("no space left on device")


def test_what_cannot_be_kept_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A server chooses when it gives something: a store or a function that fails then must not reach the driver."""
    tickets: list[SessionTicket] = []
    tokens: list[bytes] = []

    def refuse(thing: object) -> None:
        raise RuntimeError("the application is mistaken")

    made = sessions(session_store=FullStore())
    made.keep_ticket(ticket(), tickets.append)
    made.keep_ticket(ticket(), refuse)
    made.keep_token(VERSION_1, b"token", tokens.append)
    made.keep_token(VERSION_1, b"token", refuse)
    assert (len(tickets), tokens) == (1, [b"token"])
    assert [type(record.exc_info[1]) for record in caplog.records if record.exc_info] == [
        OSError,
        OSError,
        RuntimeError,
        OSError,
        OSError,
        RuntimeError,
    ]
