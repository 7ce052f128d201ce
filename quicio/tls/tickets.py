"""Session tickets: what a client or a server keeps of one handshake to shorten a later one (RFC 8446 §2.2, §4.6.1).

`SessionTicket` is a plain, picklable dataclass, in aioquic's field order, because applications store tickets in files and
databases. The same class serves both sides: a client keeps what it needs to resume, a server what it has to recognise.

Handshakes do not use tickets yet; they always run in full, which is what a peer expects when it is offered none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from quicio.environment import DEFAULT_ENVIRONMENT
from quicio.tls.constants import CipherSuite


@dataclass
class SessionTicket:
    """A ticket. Dates carry a time zone; `age_add` is in milliseconds; `max_early_data_size` None means no early data."""

    age_add: int
    cipher_suite: CipherSuite
    not_valid_after: datetime
    not_valid_before: datetime
    resumption_secret: bytes = field(repr=False)
    server_name: str
    ticket: bytes
    max_early_data_size: int | None = None
    other_extensions: list[tuple[int, bytes]] = field(default_factory=list)

    @property
    def is_valid(self) -> bool:
        """Whether the ticket can be used today."""
        return self.is_valid_at(DEFAULT_ENVIRONMENT.wall_clock())

    @property
    def obfuscated_age(self) -> int:
        """The ticket's age as a client sends it today (RFC 8446 §4.2.11.1)."""
        return self.obfuscated_age_at(DEFAULT_ENVIRONMENT.wall_clock())

    def is_valid_at(self, now: float) -> bool:
        """Whether the ticket can be used at the date `now`, in seconds since the Unix epoch."""
        return self.not_valid_before <= datetime.fromtimestamp(now, UTC) <= self.not_valid_after

    def obfuscated_age_at(self, now: float) -> int:
        """The ticket's age in milliseconds at the date `now`, plus `age_add`, modulo 2^32."""
        age = round((now - self.not_valid_before.timestamp()) * 1000)
        return (age + self.age_add) % (1 << 32)


SessionTicketFetcher = Callable[[bytes], SessionTicket | None]
"""A server's way to find a ticket by its label; None when there is none, or it was used before."""

SessionTicketHandler = Callable[[SessionTicket], None]
"""Called with each new ticket."""
