"""The client's side of a TLS 1.3 handshake (RFC 8446 §4, state machine of §A.1).

    start                → ClientHello                                   WAIT_SERVER_HELLO
    HelloRetryRequest    → ClientHello once more, at most once           WAIT_SERVER_HELLO
    ServerHello          → handshake secrets                             WAIT_ENCRYPTED_EXTENSIONS
    EncryptedExtensions  → PeerExtensions                                WAIT_CERTIFICATE_OR_REQUEST,
                                                                         or WAIT_FINISHED when resumed
    CertificateRequest   (remembered)                                    WAIT_CERTIFICATE
    Certificate          (parsed)                                        WAIT_CERTIFICATE_VERIFY
    CertificateVerify    → CertificateDecision: suspended                WAIT_FINISHED once answered
    Finished             → [empty Certificate,] Finished, 1-RTT secrets  CONNECTED
    NewSessionTicket     → TicketReceived                                CONNECTED

The client is strict about answers: whatever the server chooses must have been offered, an extension that was not asked for
is `unsupported_extension`, one in the wrong message is `illegal_parameter` (§4.2). It asks for no middlebox compatibility
(RFC 9001 §8.4): `legacy_session_id` is empty and there is no ChangeCipherSpec.

The server proves possession of its key before anyone is asked whether the certificate is trusted. A server that asks for a
client certificate gets an empty one, which is an answer (§4.4.2).

A ticket that fits (its server name, its dates, a cipher suite with its hash) is offered with a binder, and early data with it
when the ticket allows it and its application protocol and cipher suite are offered too. The server's choice is then held
against the ticket: early data that is accepted means that everything is as it was. After a HelloRetryRequest there is none.
A resumed handshake shows no certificates: `peer_certificates` are those that the ticket remembers.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from functools import partial
from typing import Final

from cryptography import x509

from quicio.environment import Environment
from quicio.tls import extensions, signatures
from quicio.tls.alerts import (
    AlertDecodeError,
    AlertIllegalParameter,
    AlertMissingExtension,
    AlertNoApplicationProtocol,
    AlertProtocolVersion,
    AlertUnexpectedMessage,
    AlertUnsupportedExtension,
)
from quicio.tls.certificates import parse_peer_certificate
from quicio.tls.constants import (
    EPOCH_HANDSHAKE,
    EPOCH_INITIAL,
    EPOCH_ONE_RTT,
    EPOCH_ZERO_RTT,
    MAX_TICKETS,
    PSK_DHE_KE,
    RANDOM_SIZE,
    TICKET_MAX_LIFETIME,
    TLS_1_3,
    CipherSuite,
    ExtensionType,
    Group,
    HandshakeType,
)
from quicio.tls.context import HEADER_SIZE, Handler, Handshake
from quicio.tls.groups import KeyPair
from quicio.tls.key_schedule import HASHES, KeySchedule
from quicio.tls.messages import (
    Certificate,
    CertificateRequest,
    CertificateVerify,
    ClientHello,
    EncryptedExtensions,
    Extensions,
    NewSessionTicket,
    ServerHello,
)
from quicio.tls.outputs import CertificateDecision, InstallSecret, PeerExtensions, TicketReceived
from quicio.tls.settings import ClientSettings
from quicio.tls.tickets import SessionTicket, remembered


class State(Enum):
    """Which message comes next."""

    START = auto()
    WAIT_SERVER_HELLO = auto()
    WAIT_ENCRYPTED_EXTENSIONS = auto()
    WAIT_CERTIFICATE_OR_REQUEST = auto()
    WAIT_CERTIFICATE = auto()
    WAIT_CERTIFICATE_VERIFY = auto()
    WAIT_FINISHED = auto()
    CONNECTED = auto()


# Which extensions each message may answer (RFC 8446 §4.2); opaque ones are answered in EncryptedExtensions.
_IN_SERVER_HELLO: Final[frozenset[int]] = frozenset(
    {ExtensionType.SUPPORTED_VERSIONS, ExtensionType.KEY_SHARE, ExtensionType.PRE_SHARED_KEY}
)
_IN_RETRY: Final[frozenset[int]] = frozenset(
    {ExtensionType.SUPPORTED_VERSIONS, ExtensionType.KEY_SHARE, ExtensionType.COOKIE}
)
_IN_ENCRYPTED: Final[frozenset[int]] = frozenset(
    {ExtensionType.SERVER_NAME, ExtensionType.SUPPORTED_GROUPS, ExtensionType.ALPN, ExtensionType.EARLY_DATA}
)


class ClientHandshake(Handshake):
    """One client handshake. Call `start` once, then `receive` and `decide`; see `Handshake`."""

    __slots__ = (
        "_alpn_offer",
        "_certificate_request",
        "_cipher_suites",
        "_groups",
        "_hello",
        "_key_pairs",
        "_retry",
        "_sent_name",
        "_settings",
        "_state",
        "_ticket",
        "_ticket_chain",
        "_tickets",
    )

    def __init__(self, settings: ClientSettings, environment: Environment) -> None:
        """Raises `ValueError` for settings that no handshake can be made with."""
        super().__init__(environment, settings.key_log)
        self.server_name = settings.server_name
        self._state = State.START
        self._settings = settings
        self._groups = settings.usable_groups()
        self._cipher_suites = settings.usable_cipher_suites()
        self._alpn_offer = settings.encoded_alpn()
        self._sent_name = _name_to_send(settings.server_name)
        self._hello: ClientHello | None = None
        self._key_pairs: dict[int, KeyPair] = {}
        self._retry: ServerHello | None = None
        self._certificate_request: CertificateRequest | None = None
        self._ticket_chain: list[x509.Certificate] = []
        self._ticket = self._usable(settings.session_ticket)
        self.early_data_offered = settings.early_data and self._allows_early_data(self._ticket)
        self._tickets = 0

    def start(self) -> None:
        """Send the ClientHello. Raises `RuntimeError` when called twice."""
        if self._state is not State.START:
            raise RuntimeError("the handshake was already started")
        for group in self._first_groups():
            self._key_pairs[group] = self._settings.generate_key_pair(group)
        self._client_random = self._environment.random_bytes(RANDOM_SIZE)
        self._send_client_hello(cookie=None)
        ticket = self._ticket
        if self.early_data_offered and ticket is not None:
            suite = int(ticket.cipher_suite)
            secret = self._early_secret(
                suite, ticket.resumption_secret, self._transcript.digest_with(HASHES[suite], b"")
            )
            self.outputs.append(InstallSecret(EPOCH_ZERO_RTT, True, suite, secret))
        self._state = State.WAIT_SERVER_HELLO

    # The ticket.

    def _usable(self, ticket: SessionTicket | None) -> SessionTicket | None:
        """`ticket` if it can be offered to this server with these settings (RFC 8446 §4.2.11, §4.6.1)."""
        if ticket is None or ticket.cipher_suite not in HASHES:
            return None
        now = self._environment.wall_clock()
        age = now - ticket.not_valid_before.timestamp()
        hashes = {HASHES[suite] for suite in self._cipher_suites}
        if (
            not ticket.is_valid_at(now)
            or age > TICKET_MAX_LIFETIME
            or ticket.server_name != (self.server_name or "")
            or HASHES[ticket.cipher_suite] not in hashes
        ):
            return None
        try:
            self._ticket_chain = ticket.peer_certificates()
        except ValueError:  # it comes from a file that somebody has edited
            return None
        return ticket

    def _allows_early_data(self, ticket: SessionTicket | None) -> bool:
        """Whether early data can go with it: all of it, cipher suite and protocol too, is as it was (RFC 8446 §4.2.10)."""
        return (
            ticket is not None
            and bool(ticket.max_early_data_size)
            and ticket.cipher_suite in self._cipher_suites
            and (ticket.alpn is None if not self._alpn_offer else (ticket.alpn or "").encode() in self._alpn_offer)
        )

    def _with_pre_shared_key(self, hello: ClientHello, ticket: SessionTicket) -> bytes:
        """The ClientHello with pre_shared_key as its last extension, and the binder in it (RFC 8446 §4.2.11.2)."""
        keys = KeySchedule(ticket.cipher_suite, ticket.resumption_secret)
        identity = (ticket.ticket, ticket.obfuscated_age_at(self._environment.wall_clock()))
        blank = bytes(len(keys.binder(b"")))
        hello.extensions.append((ExtensionType.PRE_SHARED_KEY, extensions.encode_pre_shared_keys([identity], [blank])))
        message = hello.encode()
        truncated = message[: -len(extensions.encode_binders([blank]))]
        binder = keys.binder(self._transcript.digest_with(keys.hash_name, truncated))
        return truncated + extensions.encode_binders([binder])

    def _handler(self, message_type: int) -> Handler | None:
        handler = _HANDLERS[self._state].get(message_type)
        return None if handler is None else partial(handler, self)

    # The ClientHello.

    def _first_groups(self) -> list[int]:
        if self._settings.key_share_groups is not None:
            return [group for group in self._settings.key_share_groups if group in self._groups]
        first = self._groups[:1]
        # A server that does not know the hybrid most likely knows this: spare it a HelloRetryRequest.
        if first == [Group.X25519MLKEM768] and Group.X25519 in self._groups:
            first.append(Group.X25519)
        return first

    def _build_client_hello(self, cookie: bytes | None) -> ClientHello:
        items: Extensions = []
        if self._sent_name is not None:
            items.append((ExtensionType.SERVER_NAME, extensions.encode_server_name(self._sent_name)))
        items.append((ExtensionType.SUPPORTED_GROUPS, extensions.encode_integers(self._groups)))
        items.append((ExtensionType.SIGNATURE_ALGORITHMS, extensions.encode_integers(signatures.OFFERED_SCHEMES)))
        if self._alpn_offer:
            items.append((ExtensionType.ALPN, extensions.encode_alpn(self._alpn_offer)))
        items.append((ExtensionType.SUPPORTED_VERSIONS, extensions.encode_supported_versions([TLS_1_3])))
        shares = [(group, pair.client_share()) for group, pair in self._key_pairs.items()]
        items.append((ExtensionType.KEY_SHARE, extensions.encode_key_shares(shares)))
        items.append((ExtensionType.PSK_KEY_EXCHANGE_MODES, extensions.encode_modes([PSK_DHE_KE])))
        if self.early_data_offered and self._retry is None:
            items.append((ExtensionType.EARLY_DATA, b""))
        if cookie is not None:
            items.append((ExtensionType.COOKIE, extensions.encode_cookie(cookie)))
        items.extend(self.local_extensions)
        return ClientHello(self._client_random, self._cipher_suites, items)

    def _send_client_hello(self, cookie: bytes | None) -> None:
        self._hello = self._build_client_hello(cookie)
        ticket = self._ticket
        message = self._hello.encode() if ticket is None else self._with_pre_shared_key(self._hello, ticket)
        self._send(EPOCH_INITIAL, self._record(message))

    # ServerHello and HelloRetryRequest.

    def _on_server_hello(self, message: bytes) -> None:
        hello = ServerHello.parse(message[HEADER_SIZE:])
        fields = dict(hello.extensions)
        self._check_choice(hello, fields)
        if hello.is_hello_retry_request:
            self._on_hello_retry_request(hello, fields, message)
            return
        if self._retry is not None and hello.cipher_suite != self._retry.cipher_suite:
            raise AlertIllegalParameter("the ServerHello changes the cipher suite of the HelloRetryRequest")
        if ExtensionType.KEY_SHARE not in fields:
            raise AlertMissingExtension("the ServerHello has no key_share")
        group, share = extensions.parse_key_share(fields[ExtensionType.KEY_SHARE])
        if group not in self._key_pairs:
            raise AlertIllegalParameter(f"the server answers for key exchange group {group:#06x}, which has no share")
        secret = self._key_pairs[group].finish(share)
        self._key_pairs.clear()
        self.group = group
        self.cipher_suite = hello.cipher_suite
        if self._retry is None:
            self._transcript.use(HASHES[hello.cipher_suite])
        self._transcript.add(message)
        self._receive_at(EPOCH_HANDSHAKE)
        self._read_resumption(fields.get(ExtensionType.PRE_SHARED_KEY), hello.cipher_suite)
        self._start_keys(hello.cipher_suite, secret, None if self._ticket is None else self._ticket.resumption_secret)
        self._install_handshake_secrets(is_client=True)
        self._state = State.WAIT_ENCRYPTED_EXTENSIONS

    def _read_resumption(self, data: bytes | None, cipher_suite: int) -> None:
        """Whether the server goes on from the ticket; if not, it counts no more."""
        if data is None:
            self._ticket = None
            return
        assert self._ticket is not None  # else the answer is one to an extension that was not offered
        if extensions.parse_selected(data, "pre_shared_key") != 0:
            raise AlertIllegalParameter("the server chose a pre-shared key that was not offered")
        if HASHES[cipher_suite] != HASHES[self._ticket.cipher_suite]:
            raise AlertIllegalParameter("the server resumes with a cipher suite of another hash than the ticket's")
        self.session_resumed = True

    def _check_choice(self, hello: ServerHello, fields: dict[int, bytes]) -> None:
        """Check what a ServerHello and a HelloRetryRequest have in common (RFC 8446 §4.1.3, §4.1.4)."""
        assert self._hello is not None  # sent in start()
        if ExtensionType.SUPPORTED_VERSIONS not in fields:
            raise AlertProtocolVersion("the server does not speak TLS 1.3")
        version = extensions.parse_selected(fields[ExtensionType.SUPPORTED_VERSIONS], "supported_versions")
        if version != TLS_1_3:
            raise AlertIllegalParameter(f"the server chose version {version:#06x}, which was not offered")
        if hello.is_hello_retry_request and self._retry is not None:
            raise AlertUnexpectedMessage("a second HelloRetryRequest")
        self._check_answers(hello.extensions, _IN_RETRY if hello.is_hello_retry_request else _IN_SERVER_HELLO)
        if hello.legacy_session_id_echo != self._hello.legacy_session_id:
            raise AlertIllegalParameter("the server does not echo legacy_session_id")
        if hello.cipher_suite not in self._hello.cipher_suites or hello.cipher_suite not in HASHES:
            raise AlertIllegalParameter(
                f"the server chose cipher suite {hello.cipher_suite:#06x}, which was not offered"
            )

    def _check_answers(self, items: Extensions, allowed: Collection[int]) -> None:
        """Every answer was asked for, and stands in the right message (RFC 8446 §4.2)."""
        assert self._hello is not None  # sent in start()
        offered = {kind for kind, _ in self._hello.extensions}
        for kind, _ in items:
            if kind not in allowed and kind in offered:
                raise AlertIllegalParameter(f"extension {kind} stands in a message where it is not allowed")
            # The cookie is the one thing that a server may bring up itself (RFC 8446 §4.2.2).
            if kind not in offered and (kind != ExtensionType.COOKIE or kind not in allowed):
                raise AlertUnsupportedExtension(f"the server answers extension {kind}, which was not offered")

    def _on_hello_retry_request(self, hello: ServerHello, fields: dict[int, bytes], message: bytes) -> None:
        cookie: bytes | None = None
        if ExtensionType.COOKIE in fields:
            cookie = extensions.parse_cookie(fields[ExtensionType.COOKIE])
        if ExtensionType.KEY_SHARE in fields:
            group = extensions.parse_selected(fields[ExtensionType.KEY_SHARE], "key_share")
            if group not in self._groups:
                raise AlertIllegalParameter(
                    f"the server asks for key exchange group {group:#06x}, which was not offered"
                )
            if group in self._key_pairs:
                raise AlertIllegalParameter("the server asks for a key share that it already has")
            self._key_pairs = {group: self._settings.generate_key_pair(group)}
        elif cookie is None:
            raise AlertIllegalParameter("the HelloRetryRequest asks for no change")
        self._retry = hello
        if self._ticket is not None and HASHES[hello.cipher_suite] != HASHES[self._ticket.cipher_suite]:
            self._ticket = None  # RFC 8446 §4.1.4
        self._transcript.use(HASHES[hello.cipher_suite])
        self._transcript.restart_with_message_hash()
        self._transcript.add(message)
        self._receive_at(EPOCH_INITIAL)
        self._send_client_hello(cookie)

    # The server's protected messages.

    def _on_encrypted_extensions(self, message: bytes) -> None:
        answers = EncryptedExtensions.parse(message[HEADER_SIZE:]).extensions
        opaque = {kind for kind, _ in self.local_extensions}
        self._check_answers(answers, _IN_ENCRYPTED | opaque)
        fields = dict(answers)
        if ExtensionType.SERVER_NAME in fields:
            extensions.parse_empty(fields[ExtensionType.SERVER_NAME], "server_name")
        if ExtensionType.SUPPORTED_GROUPS in fields:
            # Advice for later connections (RFC 8446 §4.2.7); it has to be well-formed and changes nothing here.
            extensions.parse_integers(fields[ExtensionType.SUPPORTED_GROUPS], "supported_groups")
        self._read_alpn(fields.get(ExtensionType.ALPN))
        for kind in self._settings.required_extensions:
            if kind not in fields:
                raise AlertMissingExtension(f"the server does not send extension {kind}")
        self._read_early_data(fields.get(ExtensionType.EARLY_DATA))
        self._transcript.add(message)
        self.outputs.append(PeerExtensions({kind: data for kind, data in answers if kind in opaque}))
        self._state = State.WAIT_CERTIFICATE_OR_REQUEST
        if self.session_resumed:
            self.peer_certificates = self._ticket_chain
            self._state = State.WAIT_FINISHED

    def _read_early_data(self, data: bytes | None) -> None:
        """Early data is accepted, if everything is as it was when the ticket was made (RFC 8446 §4.2.10)."""
        if data is None:
            return
        extensions.parse_empty(data, "early_data")
        ticket = self._ticket
        if ticket is None or ticket.cipher_suite != self.cipher_suite or ticket.alpn != self.alpn:
            raise AlertIllegalParameter("the server accepts early data with other parameters than the ticket's")
        self.early_data_accepted = True

    def _read_alpn(self, data: bytes | None) -> None:
        if data is None:
            if self._alpn_offer:
                raise AlertNoApplicationProtocol("the server chose no application protocol")
            return
        protocols = extensions.parse_alpn(data)
        if len(protocols) != 1:
            raise AlertDecodeError("the server chose more than one application protocol")
        if protocols[0] not in self._alpn_offer:
            raise AlertNoApplicationProtocol("the server chose an application protocol that was not offered")
        self.alpn = protocols[0].decode()

    def _on_certificate_request(self, message: bytes) -> None:
        request = CertificateRequest.parse(message[HEADER_SIZE:])
        if request.request_context:
            raise AlertIllegalParameter("the CertificateRequest of a handshake has a context")
        schemes = dict(request.extensions).get(ExtensionType.SIGNATURE_ALGORITHMS)
        if schemes is None:
            raise AlertMissingExtension("the CertificateRequest has no signature_algorithms")
        extensions.parse_integers(schemes, "signature_algorithms")
        self._certificate_request = request
        self._transcript.add(message)
        self._state = State.WAIT_CERTIFICATE

    def _on_certificate(self, message: bytes) -> None:
        certificate = Certificate.parse(message[HEADER_SIZE:])
        if certificate.request_context:
            raise AlertIllegalParameter("the server's Certificate has a context")
        if not certificate.entries:
            raise AlertDecodeError("the server sends no certificate")
        for data, items in certificate.entries:
            if items:
                raise AlertUnsupportedExtension(f"a certificate has extension {items[0][0]}, which was not offered")
            self.peer_certificates.append(parse_peer_certificate(data))
        self._transcript.add(message)
        self._state = State.WAIT_CERTIFICATE_VERIFY

    def _on_certificate_verify(self, message: bytes) -> None:
        verify = CertificateVerify.parse(message[HEADER_SIZE:])
        content = signatures.signed_content(signatures.SERVER_CONTEXT, self._transcript.digest())
        signatures.verify(self.peer_certificates[0], verify.algorithm, verify.signature, content)
        self._transcript.add(message)
        chain = list(self.peer_certificates)
        self.outputs.append(CertificateDecision(self._suspend(), chain, self.server_name))

    def _on_answer(self, answer: object) -> None:
        if answer is not True:
            raise TypeError("the answer to a CertificateDecision is True, or an Alert")
        self._resume()
        self._state = State.WAIT_FINISHED

    def _on_finished(self, message: bytes) -> None:
        self._check_finished(message, self._server_secret)
        client_secret, server_secret = self._application_secrets()
        flight = b""
        if self._certificate_request is not None:
            flight = self._record(Certificate(self._certificate_request.request_context).encode())
        flight += self._record(self._make_finished(self._client_secret))
        self._derive_resumption_secret()
        self._send(EPOCH_HANDSHAKE, flight)
        self._install(EPOCH_ONE_RTT, False, server_secret)
        self._install(EPOCH_ONE_RTT, True, client_secret)
        self._state = State.CONNECTED
        self._complete()
        self._hello = self._retry = self._certificate_request = self._ticket = None
        self._ticket_chain = []

    # Afterwards.

    def _on_new_session_ticket(self, message: bytes) -> None:
        new = NewSessionTicket.parse(message[HEADER_SIZE:])
        early_data = dict(new.extensions).get(ExtensionType.EARLY_DATA)
        max_early_data_size = None if early_data is None else extensions.parse_max_early_data(early_data)
        self._tickets += 1
        others = remembered(self.alpn, self.peer_certificates)
        if self._tickets > MAX_TICKETS or new.lifetime == 0 or others is None or self.cipher_suite is None:
            return
        made = datetime.fromtimestamp(self._environment.wall_clock(), UTC)
        ticket = SessionTicket(
            age_add=new.age_add,
            cipher_suite=CipherSuite(self.cipher_suite),
            not_valid_after=made + timedelta(seconds=min(new.lifetime, TICKET_MAX_LIFETIME)),
            not_valid_before=made,
            resumption_secret=self._keys.resumption_key(self._resumption_secret, new.nonce),
            server_name=self.server_name or "",
            ticket=new.ticket,
            max_early_data_size=max_early_data_size,
            other_extensions=others,
        )
        self.outputs.append(TicketReceived(ticket))


_HANDLERS: Final[dict[State, dict[int, Callable[[ClientHandshake, bytes], None]]]] = {
    State.START: {},
    State.WAIT_SERVER_HELLO: {HandshakeType.SERVER_HELLO: ClientHandshake._on_server_hello},
    State.WAIT_ENCRYPTED_EXTENSIONS: {HandshakeType.ENCRYPTED_EXTENSIONS: ClientHandshake._on_encrypted_extensions},
    State.WAIT_CERTIFICATE_OR_REQUEST: {
        HandshakeType.CERTIFICATE_REQUEST: ClientHandshake._on_certificate_request,
        HandshakeType.CERTIFICATE: ClientHandshake._on_certificate,
    },
    State.WAIT_CERTIFICATE: {HandshakeType.CERTIFICATE: ClientHandshake._on_certificate},
    State.WAIT_CERTIFICATE_VERIFY: {HandshakeType.CERTIFICATE_VERIFY: ClientHandshake._on_certificate_verify},
    State.WAIT_FINISHED: {HandshakeType.FINISHED: ClientHandshake._on_finished},
    State.CONNECTED: {HandshakeType.NEW_SESSION_TICKET: ClientHandshake._on_new_session_ticket},
}


def _name_to_send(server_name: str | None) -> str | None:
    """The content of server_name: a DNS name; addresses are not sent (RFC 6066 §3)."""
    if not server_name:
        return None
    try:
        ipaddress.ip_address(server_name)
    except ValueError:
        pass
    else:
        return None
    if not server_name.isascii() or len(server_name) > 255:
        raise ValueError("server_name has to be ASCII and at most 255 bytes: give the A-label form of the name (IDNA)")
    return server_name.removesuffix(".")
