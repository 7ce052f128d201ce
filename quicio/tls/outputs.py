"""What a handshake has to say: the items of `Handshake.outputs`, in the order in which they have to be acted on.

The owner of a handshake drains the queue after each call of `start`, `receive` and `decide`. Two items are questions
(`ClientHelloDecision`, `CertificateDecision`): the handshake stands still until `decide` is called with their id. Answering
at once and answering much later are the same call.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography import x509

from quicio.tls.messages import ClientHello
from quicio.tls.signatures import PrivateKey
from quicio.tls.tickets import SessionTicket


@dataclass
class SendHandshake:
    """Send `data` reliably and in order at the encryption level `epoch`."""

    epoch: int
    data: bytes


@dataclass
class InstallSecret:
    """From here on `epoch` can be sent (`is_sealing`) or received: derive packet protection keys from `secret`."""

    epoch: int
    is_sealing: bool
    cipher_suite: int
    secret: bytes = field(repr=False)


@dataclass
class ClientHelloDecision:
    """Question of a server: who are you for this client? Answer with a `ClientHelloAnswer`, or an `Alert` to refuse.

    `ticket` is the one that the client presents and has proven to own, if any; `offers_early_data` tells whether early data
    could be accepted with it.
    """

    id: int
    client_hello: ClientHello
    ticket: SessionTicket | None = None
    offers_early_data: bool = False


@dataclass
class ClientHelloAnswer:
    """What a server presents: its chain, leaf first, the leaf's key, the protocol chosen, its own opaque extensions.

    `local_extensions` go into EncryptedExtensions, after those that the handshake already has. `resume` permits to resume
    with the decision's ticket, if there is one; `accept_early_data` permits early data, if it was offered. TLS's own rules
    still hold: early data needs the ticket's application protocol and cipher suite, and must not be a replay.
    """

    certificate_chain: list[x509.Certificate]
    private_key: PrivateKey
    alpn: str | None = None
    local_extensions: list[tuple[int, bytes]] = field(default_factory=list)
    resume: bool = True
    accept_early_data: bool = False


@dataclass
class CertificateDecision:
    """Question about the peer's certificates, leaf first: answer True, or an `Alert` that says why not.

    The peer has already proven that it holds the leaf's private key. `server_name` is the name asked for, on a client.
    """

    id: int
    chain: list[x509.Certificate]
    server_name: str | None


@dataclass
class PeerExtensions:
    """The peer's extensions that TLS itself does not know. They are not authenticated before `HandshakeComplete`."""

    extensions: dict[int, bytes]


@dataclass
class HandshakeComplete:
    """Both sides have proven to have seen the same handshake (RFC 9001 §4.1.1)."""


@dataclass
class TicketReceived:
    """A server's ticket, ready to be kept for `ClientSettings.session_ticket` (RFC 8446 §4.6.1)."""

    ticket: SessionTicket
