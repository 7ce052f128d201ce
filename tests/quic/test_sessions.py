"""The store of tickets and tokens."""

from __future__ import annotations

from datetime import timedelta

from helpers.certificates import EPOCH
from quicio.quic.sessions import MAX_PER_SERVER, MAX_SERVERS, SessionStore
from quicio.tls.constants import CipherSuite
from quicio.tls.tickets import SessionTicket


def ticket(label: bytes) -> SessionTicket:
    return SessionTicket(
        0, CipherSuite.AES_128_GCM_SHA256, EPOCH + timedelta(hours=1), EPOCH, b"secret", "localhost", label
    )


def test_the_newest_goes_first_and_once() -> None:
    store = SessionStore()
    store.add_ticket("a:1", ticket(b"old"))
    store.add_ticket("a:1", ticket(b"new"))
    store.add_token("a:1", b"token")
    assert store.take_ticket("b:1") is None
    for label in (b"new", b"old"):
        taken = store.take_ticket("a:1")
        assert taken is not None
        assert taken.ticket == label
    assert store.take_ticket("a:1") is None
    assert store.take_token("b:1") == b""
    assert store.take_token("a:1") == b"token"
    assert store.take_token("a:1") == b""


def test_servers_that_give_without_end() -> None:
    """Security row 26: so many of a server, and so many servers; the oldest goes first."""
    store = SessionStore()
    for number in range(MAX_PER_SERVER + 3):
        store.add_token("a:1", bytes((number,)))
    taken = [store.take_token("a:1") for _ in range(MAX_PER_SERVER + 1)]
    assert taken == [bytes((number,)) for number in range(MAX_PER_SERVER + 2, 2, -1)] + [b""]
    for number in range(MAX_SERVERS + 1):
        store.add_token(f"{number}:1", b"x")
    assert store.take_token("0:1") == b""
    assert store.take_token("1:1") == b"x"
