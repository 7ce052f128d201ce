"""How a server hands out session tickets and knows them again (RFC 8446 §4.6.1), and what it does against replay (§8).

`TicketIssuer` is the contract: `label()` gives what the client is to keep of a new ticket, `find()` the ticket of a label
that a client brings. Two ways to keep it:

- `SealedTickets` keeps nothing: the label is the ticket itself, sealed under rotating keys that processes may share;
- `KeptTickets` asks two functions of the application, as aioquic's servers do: the label is random, the application keeps
  the ticket under it, and decides whether it can be used once or often.

Either way a label that is not found, whatever the reason, costs the client a full handshake and nothing else.

Early data can be replayed by whoever saw it (RFC 8446 §8, RFC 9001 §9.2). `admits_early_data` lets each ClientHello in once:
the age that it states must fit the server's clock within `FRESHNESS` seconds, and its binder, which differs in each
ClientHello, must not be in the `StrikeRegister`. The register is bounded; when it is full early data is refused, and with
it nothing else. Processes that share keys do not share a register: give them one by subclassing it, or leave early data off.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from quicio.environment import DEFAULT_ENVIRONMENT, Environment
from quicio.tls.rotating_keys import RotatingKeys
from quicio.tls.tickets import SessionTicket, SessionTicketFetcher, SessionTicketHandler

TICKET_LIFETIME: Final = 24 * 3600  # seconds for which a client may use a ticket
KEY_ROTATION: Final = 12 * 3600.0  # seconds for which a random key seals
LABEL_SIZE: Final = 64  # of the random labels of kept tickets
FRESHNESS: Final = 10.0  # seconds by which a ClientHello's age may be wrong (RFC 8446 §8.3)
STRIKE_LIMIT: Final = 65536  # ClientHellos with early data that are remembered
STRIKE_SIZE: Final = 16  # bytes kept of each
STRIKE_SECONDS: Final = 2 * FRESHNESS + 1.0  # early by as much as late is fresh; ages are rounded, so a second more


class StrikeRegister:
    """What was seen within the last `seconds`, at most `limit` things: a thing is admitted once (RFC 8446 §8.2)."""

    def __init__(
        self,
        limit: int = STRIKE_LIMIT,
        seconds: float = STRIKE_SECONDS,
        *,
        environment: Environment = DEFAULT_ENVIRONMENT,
    ) -> None:
        self.limit = limit
        self.seconds = seconds
        self._seen: dict[bytes, float] = {}  # in the order in which they came
        self._since = environment.wall_clock()

    def covers(self, earliest: float, now: float) -> bool:
        """Whether all that may have come since the date `earliest` would be here: not right after a restart."""
        return earliest >= self._since or now >= self._since + self.seconds

    def admit(self, thing: bytes, now: float) -> bool:
        """True when `thing` is new and there is room to remember it, at the date `now`."""
        seen = self._seen
        while seen:
            oldest = next(iter(seen))
            if -self.seconds < now - seen[oldest] < self.seconds:
                break
            del seen[oldest]
        if thing in seen or len(seen) >= self.limit:
            return False
        seen[thing] = now
        return True

    def __len__(self) -> int:
        return len(self._seen)


class TicketIssuer:
    """The contract of a server's tickets. `lifetime` is in seconds, `register` remembers early data."""

    def __init__(
        self, *, lifetime: int, register: StrikeRegister | None, environment: Environment = DEFAULT_ENVIRONMENT
    ) -> None:
        self.lifetime = lifetime
        self.register = register
        self._environment = environment

    def label(self, ticket: SessionTicket) -> bytes:
        """What the client is to present instead of `ticket`, whose own label is still empty."""
        raise TypeError("use SealedTickets or KeptTickets")

    def find(self, label: bytes) -> SessionTicket | None:
        """The ticket of a label, or None."""
        raise TypeError("use SealedTickets or KeptTickets")

    def admits_early_data(self, ticket: SessionTicket, obfuscated_age: int, binder: bytes) -> bool:
        """Whether the early data that comes with this ticket is fresh, and came here for the first time."""
        now = self._environment.wall_clock()
        if ticket.age_error_at(now, obfuscated_age) > FRESHNESS:
            return False
        if self.register is None:
            return True
        return self.register.covers(ticket.not_valid_before.timestamp(), now) and self.register.admit(
            binder[:STRIKE_SIZE], now
        )


class SealedTickets(TicketIssuer):
    """Tickets of which the server keeps nothing: they come back sealed.

    `secrets`, of 32 random bytes or more, newest first, let several processes know each other's tickets, and let tickets
    outlive the process; without them keys are random and rotate by themselves. `lifetime` is in seconds, 7 days at most.
    """

    def __init__(
        self,
        secrets: Sequence[bytes] = (),
        *,
        lifetime: int = TICKET_LIFETIME,
        register: StrikeRegister | None = None,
        environment: Environment = DEFAULT_ENVIRONMENT,
    ) -> None:
        if register is None:
            register = StrikeRegister(environment=environment)
        super().__init__(lifetime=lifetime, register=register, environment=environment)
        self.keys = RotatingKeys(
            secrets, purpose="ticket", rotation=KEY_ROTATION, retention=float(lifetime), environment=environment
        )

    def label(self, ticket: SessionTicket) -> bytes:
        return self.keys.seal(ticket.encode())

    def find(self, label: bytes) -> SessionTicket | None:
        plain = self.keys.open(label)
        return None if plain is None else SessionTicket.decode(plain, label)


class KeptTickets(TicketIssuer):
    """Tickets that the application keeps: `handler(ticket)` is given each new one, `fetcher(label)` finds it.

    `register` None leaves it to the application to have its tickets used once.
    """

    def __init__(
        self,
        fetcher: SessionTicketFetcher,
        handler: SessionTicketHandler,
        *,
        register: StrikeRegister | None = None,
        environment: Environment = DEFAULT_ENVIRONMENT,
    ) -> None:
        super().__init__(lifetime=TICKET_LIFETIME, register=register, environment=environment)
        self._fetcher = fetcher
        self._handler = handler

    def label(self, ticket: SessionTicket) -> bytes:
        ticket.ticket = self._environment.random_bytes(LABEL_SIZE)
        self._handler(ticket)
        return ticket.ticket

    def find(self, label: bytes) -> SessionTicket | None:
        return self._fetcher(label)
