"""What a client remembers of servers, so that it meets them faster: session tickets and address tokens.

A ticket resumes a session (RFC 8446 §2.2): the handshake costs less, and may carry early data. A token from NEW_TOKEN proves
the client's address to a server that would otherwise ask by a Retry (RFC 9000 §8.1.3). Both are shown in the clear, so each
is used once: whoever shows one twice can be recognised (RFC 8446 §C.4, RFC 9000 §8.1.3).

A server is named by a string, which connections make of the name asked for, the port, and for tokens the QUIC version, to
which a token is bound (RFC 9369 §5); a ticket says its own version.

`SessionStore` is the contract and the default: in memory, bounded, the newest first. To keep tickets longer than the process,
override its four methods, and call them when you save: tickets hold secrets, and pickle.

Rules: a store is asked when a connection starts and told when something new has come, in the driver's turn; it must not wait.
What it gives is checked again by the handshake (name, protocol, date), so a wrong ticket costs a full handshake, and
nothing else.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Final, TypeVar

from quicio.tls.tickets import SessionTicket

__all__ = ["SessionStore"]

MAX_SERVERS: Final = 256  # of which the default store remembers something; the one not used for longest is forgotten
MAX_PER_SERVER: Final = 4  # tickets, and tokens, of one server; the oldest is forgotten

T = TypeVar("T")


class SessionStore:
    """Tickets and tokens by server, each given out once. Share one between connections that may be linked to each other."""

    def __init__(self, max_servers: int = MAX_SERVERS) -> None:
        self._tickets: OrderedDict[str, deque[SessionTicket]] = OrderedDict()
        self._tokens: OrderedDict[str, deque[bytes]] = OrderedDict()
        self._max_servers = max_servers

    def add_ticket(self, server: str, ticket: SessionTicket) -> None:
        """A server has issued a ticket."""
        self._add(self._tickets, server, ticket)

    def take_ticket(self, server: str) -> SessionTicket | None:
        """The newest ticket of a server, which is then forgotten; None without one."""
        return self._take(self._tickets, server)

    def add_token(self, server: str, token: bytes) -> None:
        """A server has issued an address token."""
        self._add(self._tokens, server, token)

    def take_token(self, server: str) -> bytes:
        """The newest token of a server, which is then forgotten; empty without one."""
        return self._take(self._tokens, server) or b""

    def _add(self, kept: OrderedDict[str, deque[T]], server: str, item: T) -> None:
        kept.setdefault(server, deque(maxlen=MAX_PER_SERVER)).append(item)
        kept.move_to_end(server)
        if len(kept) > self._max_servers:
            kept.popitem(last=False)

    def _take(self, kept: OrderedDict[str, deque[T]], server: str) -> T | None:
        items = kept.get(server)
        if items is None:
            return None
        item = items.pop()
        if not items:
            del kept[server]
        return item
