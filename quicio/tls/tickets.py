"""Session tickets: what a client or a server keeps of one handshake to shorten a later one (RFC 8446 §2.2, §4.6.1).

`SessionTicket` is a plain, picklable dataclass, in aioquic's field order, because applications store tickets in files and
databases. The same class serves both sides: a client keeps what it needs to resume, a server what it has to recognise.

What a later handshake has to know beyond aioquic's fields is in `other_extensions`, a list of (type, content): what the
transport wants remembered under its own types, and from here the application protocol (`ALPN`) and the peer's certificates
(`PEER_CERTIFICATES`, a type for private use): a resumed handshake sends none, and those who trusted them then may not now.

`encode()` and `decode()` are a ticket's form on the server's side, without the label by which the client knows it: what
`quicio.tls.issuing` seals. It has a version; a form that is not known here is no ticket.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from quicio.environment import DEFAULT_ENVIRONMENT
from quicio.tls.alerts import Alert
from quicio.tls.certificates import parse_peer_certificate
from quicio.tls.codec import Reader, vector
from quicio.tls.constants import TICKET_MAX_CHAIN, CipherSuite, ExtensionType

FORMAT: Final = 1
NO_EARLY_DATA: Final = 0  # `max_early_data_size` None, where a number has to be written
PEER_CERTIFICATES: Final = 0xFF51  # of other_extensions; types from 0xff00 on are for private use (RFC 8446 §11)


@dataclass
class SessionTicket:
    """A ticket. Dates carry a time zone; `age_add` is in milliseconds; `max_early_data_size` None means no early data.

    `resumption_secret` is the pre-shared key, `ticket` the label by which the server finds it.
    """

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

    def age_error_at(self, now: float, obfuscated_age: int) -> float:
        """By how many seconds the age that a client sent differs from the one that this side counts (RFC 8446 §8.3)."""
        difference = (obfuscated_age - self.obfuscated_age_at(now)) % (1 << 32)
        return min(difference, (1 << 32) - difference) / 1000

    def extension(self, kind: int) -> bytes | None:
        """The content of one of `other_extensions`, or None."""
        for known, content in self.other_extensions:
            if known == kind:
                return content
        return None

    @property
    def alpn(self) -> str | None:
        """The application protocol of the ticket's connection, or None."""
        content = self.extension(ExtensionType.ALPN)
        return None if content is None else content.decode(errors="replace")

    def peer_certificates(self) -> list[x509.Certificate]:
        """The certificates that the peer showed when the ticket was made, leaf first; empty when it showed none.

        Raises `ValueError` when the ticket is not one that was made here.
        """
        content = self.extension(PEER_CERTIFICATES)
        if not content:
            return []
        reader = Reader(content)
        chain: list[x509.Certificate] = []
        try:
            while not reader.at_end:
                chain.append(parse_peer_certificate(reader.vector(3)))
        except Alert as error:
            raise ValueError(f"the certificates in the ticket are damaged: {error}") from error
        return chain

    def encode(self) -> bytes:
        """All of it but the label, as bytes for a server to keep or to seal."""
        fields = (
            (FORMAT, 1),
            (self.age_add, 4),
            (int(self.cipher_suite), 2),
            (_milliseconds(self.not_valid_before), 8),
            (_milliseconds(self.not_valid_after), 8),
            (self.max_early_data_size or NO_EARLY_DATA, 4),
        )
        head = b"".join(value.to_bytes(size, "big") for value, size in fields)
        others = b"".join(kind.to_bytes(2, "big") + vector(2, content) for kind, content in self.other_extensions)
        return head + vector(1, self.resumption_secret) + vector(2, self.server_name.encode()) + vector(3, others)

    @classmethod
    def decode(cls, data: bytes, label: bytes) -> SessionTicket | None:
        """The ticket that `encode()` gave `data` for, under its label; None when that is not what it is."""
        try:
            return cls._read(Reader(data), label)
        except (Alert, ValueError, OverflowError, OSError):  # of the reader; of enum, text and dates
            return None

    @classmethod
    def _read(cls, reader: Reader, label: bytes) -> SessionTicket | None:
        if reader.integer(1) != FORMAT:
            return None
        age_add = reader.integer(4)
        cipher_suite = CipherSuite(reader.integer(2))
        not_before = datetime.fromtimestamp(reader.integer(8) / 1000, UTC)
        not_after = datetime.fromtimestamp(reader.integer(8) / 1000, UTC)
        early = reader.integer(4)
        secret = reader.vector(1, minimum=1)
        server_name = reader.vector(2).decode()
        others = Reader(reader.vector(3))
        reader.finish("ticket")
        items: list[tuple[int, bytes]] = []
        while not others.at_end:
            items.append((others.integer(2), others.vector(2)))
        return cls(age_add, cipher_suite, not_after, not_before, secret, server_name, label, early or None, items)


def remembered(alpn: str | None, peer_certificates: Sequence[x509.Certificate]) -> list[tuple[int, bytes]] | None:
    """`other_extensions` of a new ticket; None when the chain is too long to be kept, so that there can be no ticket."""
    items: list[tuple[int, bytes]] = []
    if alpn is not None:
        items.append((int(ExtensionType.ALPN), alpn.encode()))
    if peer_certificates:
        chain = b"".join(vector(3, item.public_bytes(Encoding.DER)) for item in peer_certificates)
        if len(chain) > TICKET_MAX_CHAIN:
            return None
        items.append((PEER_CERTIFICATES, chain))
    return items


def _milliseconds(date: datetime) -> int:
    return max(0, int(date.timestamp() * 1000))  # rounded down: a ticket is valid at once


SessionTicketFetcher = Callable[[bytes], SessionTicket | None]
"""A server's way to find a ticket by its label; None when there is none, or it was used before."""

SessionTicketHandler = Callable[[SessionTicket], None]
"""Called with each new ticket."""
