"""What a handshake has to say: the items of `Handshake.outputs`, in the order in which they have to be acted on.

The owner of a handshake drains the queue after each call of `start`, `receive` and `decide`. Two items are questions
(`ClientHelloDecision`, `CertificateDecision`): the handshake stands still until `decide` is called with their id. Answering
at once and answering much later are the same call.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography import x509

from quicio.tls.messages import ClientHello, NewSessionTicket
from quicio.tls.signatures import PrivateKey


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
    """Question of a server: who are you for this client? Answer with a `ClientHelloAnswer`, or an `Alert` to refuse."""

    id: int
    client_hello: ClientHello


@dataclass
class ClientHelloAnswer:
    """What a server presents: its chain, leaf first, the leaf's key, the protocol chosen, its own opaque extensions.

    `local_extensions` go into EncryptedExtensions, after those that the handshake already has.
    """

    certificate_chain: list[x509.Certificate]
    private_key: PrivateKey
    alpn: str | None = None
    local_extensions: list[tuple[int, bytes]] = field(default_factory=list)


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
    """A server's ticket, with the pre-shared key that belongs to it (RFC 8446 §4.6.1)."""

    message: NewSessionTicket
    cipher_suite: int
    pre_shared_key: bytes = field(repr=False)
