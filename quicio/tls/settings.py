"""What each side of a handshake is told beforehand: plain data, read when the handshake is made.

The two roles have a class each, because they have almost nothing in common. The answers to a handshake's decisions that need
nothing but these settings are methods here, so that whoever owns a handshake can answer at once:
`handshake.decide(decision.id, settings.answer(decision.client_hello))`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from cryptography import x509

from quicio.environment import Environment
from quicio.tls.alerts import Alert, AlertNoApplicationProtocol
from quicio.tls.certificates import TrustStore, check_private_key, system_trust, verify_chain
from quicio.tls.constants import DEFAULT_CIPHER_SUITES, DEFAULT_GROUPS
from quicio.tls.context import KeyLog
from quicio.tls.groups import KeyPair, generate_key_pair, is_group_available
from quicio.tls.issuing import TicketIssuer
from quicio.tls.key_schedule import HASHES
from quicio.tls.messages import ClientHello
from quicio.tls.outputs import CertificateDecision, ClientHelloAnswer
from quicio.tls.signatures import PrivateKey
from quicio.tls.tickets import SessionTicket

MAX_PROTOCOLS_TOLD: Final = 5  # of each side, in an error


@dataclass(kw_only=True)
class Settings:
    """Common to both roles.

    `alpn`: application protocols in order of preference; empty or None for none. `cipher_suites` and `groups` are in order
    of preference too; groups that `is_group_available` denies are passed over. `required_extensions`: types of the peer's
    opaque extensions without which the handshake fails with `missing_extension`. `key_log(label, client_random, secret)`
    is called with each secret. `generate_key_pair` makes ephemeral keys.
    """

    alpn: Sequence[str] | None = None
    cipher_suites: Sequence[int] = DEFAULT_CIPHER_SUITES
    groups: Sequence[int] = DEFAULT_GROUPS
    required_extensions: Sequence[int] = ()
    key_log: KeyLog | None = None
    generate_key_pair: Callable[[int], KeyPair] = generate_key_pair
    is_group_available: Callable[[int], bool] = is_group_available

    def usable_cipher_suites(self) -> list[int]:
        """Those of `cipher_suites` that exist here. Raises `ValueError` when none does."""
        suites = [int(suite) for suite in self.cipher_suites if suite in HASHES]
        if not suites:
            raise ValueError("no usable cipher suite: use members of quicio.tls.CipherSuite")
        return suites

    def usable_groups(self) -> list[int]:
        """Those of `groups` that are available here. Raises `ValueError` when none is."""
        groups = [int(group) for group in self.groups if self.is_group_available(group)]
        if not groups:
            raise ValueError("no usable key exchange group: use members of quicio.tls.constants.Group")
        return groups

    def encoded_alpn(self) -> list[bytes]:
        """`alpn` as bytes. Raises `ValueError` for a name that is empty or longer than 255 bytes (RFC 7301 §3.1)."""
        names = [name.encode() for name in self.alpn or ()]
        if not all(1 <= len(name) <= 255 for name in names):
            raise ValueError("an ALPN protocol name has between 1 and 255 bytes (RFC 7301 §3.1)")
        return names


@dataclass(kw_only=True)
class ClientSettings(Settings):
    """For a client.

    `server_name`: the host asked for, a DNS name in ASCII or an IP address; it is sent (unless an address) and verified.
    `verify_peer`: whether to verify the server's certificates, against `trust` or, if None, what the system trusts.
    `key_share_groups`: the groups to send a
    share for at once; by default the first of `groups`, and X25519 too when the first is a hybrid with it.
    `session_ticket`: the ticket to resume with, if it still can be used for this server; it is used whether `verify_peer`
    or not, so whoever passes it has judged its certificates. `early_data`: offer early data when the ticket allows it.
    """

    server_name: str | None = None
    verify_peer: bool = True
    trust: TrustStore | None = None
    key_share_groups: Sequence[int] | None = None
    session_ticket: SessionTicket | None = None
    early_data: bool = False

    def judge(self, decision: CertificateDecision, environment: Environment) -> Alert | Literal[True]:
        """The answer to a `CertificateDecision` that these settings give."""
        if not self.verify_peer:
            return True
        return verify_chain(
            decision.chain,
            server_name=decision.server_name,
            trust=system_trust(environment) if self.trust is None else self.trust,
            now=environment.wall_clock(),
        )


@dataclass(kw_only=True)
class ServerSettings(Settings):
    """For a server.

    `certificate_chain` (leaf first) with `private_key` is what `answer` presents. A `cookie`, if any, is put into a
    HelloRetryRequest and demanded back. `tickets` issues tickets and finds them; None for neither. `max_early_data_size`:
    what new tickets allow; None for no early data, with old ones neither. Raises `ValueError` when the key is not that of
    the leaf.
    """

    certificate_chain: Sequence[x509.Certificate] = ()
    private_key: PrivateKey | None = None
    cookie: bytes = b""
    tickets: TicketIssuer | None = None
    max_early_data_size: int | None = None

    def __post_init__(self) -> None:
        if self.certificate_chain and self.private_key is not None:
            check_private_key(self.certificate_chain[0], self.private_key)

    def answer(
        self, client_hello: ClientHello, local_extensions: Sequence[tuple[int, bytes]] = ()
    ) -> ClientHelloAnswer | Alert:
        """The answer to a `ClientHelloDecision` that these settings give: one chain for every client."""
        if not self.certificate_chain or self.private_key is None:
            raise ValueError("a server needs a certificate and its private key")
        try:
            alpn = select_alpn(self.alpn or (), client_hello.alpn_protocols)
        except AlertNoApplicationProtocol as alert:
            return alert.with_traceback(None)
        return ClientHelloAnswer(list(self.certificate_chain), self.private_key, alpn, list(local_extensions))


def select_alpn(supported: Sequence[str], offered: Sequence[bytes] | None) -> str | None:
    """The first of `supported` that the client offers; None when nothing is supported.

    Raises `AlertNoApplicationProtocol` when there is none in common, which includes a client that offers nothing
    (RFC 9001 §8.1).
    """
    if not supported:
        return None
    for name in supported:
        if name.encode() in (offered or ()):
            return name
    theirs = [name.decode("ascii", "backslashreplace") for name in (offered or ())[:MAX_PROTOCOLS_TOLD]]
    raise AlertNoApplicationProtocol(
        f"no application protocol in common: the client offers {_listed(theirs)}, this server speaks "
        f"{_listed(supported[:MAX_PROTOCOLS_TOLD])}"
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names)) or "none"
