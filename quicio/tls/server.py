"""The server's side of a TLS 1.3 handshake (RFC 8446 §4, state machine of §A.2).

    ClientHello          → PeerExtensions, ClientHelloDecision: suspended    WAIT_FINISHED once answered
                         → HelloRetryRequest, when it lacks a usable share   WAIT_SECOND_CLIENT_HELLO
    second ClientHello   → as the first, but never another retry             WAIT_FINISHED once answered
    answer               → ServerHello, EncryptedExtensions, Certificate, CertificateVerify, Finished, secrets
                           (no certificate when a session is resumed; the early secret when early data is accepted)
    Finished             → the 1-RTT secret for receiving, HandshakeComplete CONNECTED

The cipher suite and the group are this server's first choices that the client offers too; a group for which the client
already sent a share goes before one that needs a retry. The owner decides the rest when it sees the ClientHello: the
certificate, the application protocol, its own extensions. It is asked after a retry, not before, so it is asked once.

The server is tolerant of what it does not know (values, extensions, RFC 8701) and strict about the rest: what a client must
send and does not is `missing_extension`, a second ClientHello that differs in more than it may is `illegal_parameter`.

A ticket that is found, valid, of the same server name and of a cipher suite with the same hash resumes its session, always
with a key exchange (psk_dhe_ke), once its binder proves that the client has its key. One that is not gives a full handshake;
only a wrong binder is an error (§4.2.11). Early data is accepted with the first ticket offered, when the answer permits it,
nothing has changed, no retry was needed and the issuer finds no replay. Tickets are issued when the owner asks.

A client may not send anything after its Finished. A non-empty `legacy_session_id` is echoed; whether it is an offence is
the transport's business (for QUIC it is, RFC 9001 §8.4), which finds it in the decision.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from functools import partial
from hmac import compare_digest
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding

from quicio.environment import Environment
from quicio.tls import extensions, signatures
from quicio.tls.alerts import (
    AlertDecryptError,
    AlertHandshakeFailure,
    AlertIllegalParameter,
    AlertMissingExtension,
    AlertProtocolVersion,
)
from quicio.tls.certificates import check_private_key
from quicio.tls.constants import (
    EPOCH_HANDSHAKE,
    EPOCH_INITIAL,
    EPOCH_ONE_RTT,
    EPOCH_ZERO_RTT,
    HELLO_RETRY_REQUEST_RANDOM,
    MAX_IDENTITIES_TRIED,
    PSK_DHE_KE,
    RANDOM_SIZE,
    TLS_1_3,
    CipherSuite,
    ExtensionType,
    HandshakeType,
)
from quicio.tls.context import HEADER_SIZE, Handler, Handshake
from quicio.tls.key_schedule import HASHES, KeySchedule
from quicio.tls.messages import (
    Certificate,
    CertificateVerify,
    ClientHello,
    EncryptedExtensions,
    Extensions,
    NewSessionTicket,
    ServerHello,
)
from quicio.tls.outputs import ClientHelloAnswer, ClientHelloDecision, PeerExtensions
from quicio.tls.settings import ServerSettings
from quicio.tls.tickets import SessionTicket, remembered

NONCE_SIZE: Final = 8  # of the ticket nonces
AGE_ADD_SIZE: Final = 4


class State(Enum):
    """Which message comes next."""

    WAIT_CLIENT_HELLO = auto()
    WAIT_SECOND_CLIENT_HELLO = auto()
    WAIT_FINISHED = auto()
    CONNECTED = auto()


_KNOWN: Final = frozenset(int(kind) for kind in ExtensionType)
# What a client may change in its second ClientHello (RFC 8446 §4.1.2).
_MAY_CHANGE: Final = frozenset(
    {
        ExtensionType.KEY_SHARE,
        ExtensionType.EARLY_DATA,
        ExtensionType.COOKIE,
        ExtensionType.PRE_SHARED_KEY,
        ExtensionType.PADDING,
    }
)


class ServerHandshake(Handshake):
    """One server handshake: `receive` and `decide`; see `Handshake`."""

    __slots__ = (
        "_application_secret",
        "_cipher_suites",
        "_groups",
        "_hello",
        "_identity",
        "_settings",
        "_share",
        "_state",
        "_takes_tickets",
        "_ticket",
        "_tickets",
        "_truncated_digest",
    )

    def __init__(self, settings: ServerSettings, environment: Environment) -> None:
        """Raises `ValueError` for settings that no handshake can be made with."""
        super().__init__(environment, settings.key_log)
        self._state = State.WAIT_CLIENT_HELLO
        self._settings = settings
        self._groups = settings.usable_groups()
        self._cipher_suites = settings.usable_cipher_suites()
        self._hello: ClientHello | None = None
        self._takes_tickets = False
        self._share = b""
        self._ticket: SessionTicket | None = None
        self._identity = 0  # which of the client's identities it answers to
        self._truncated_digest = b""  # the transcript up to the binders, which they are computed over
        self._tickets = 0
        self._application_secret = b""

    def _handler(self, message_type: int) -> Handler | None:
        handler = _HANDLERS[self._state].get(message_type)
        return None if handler is None else partial(handler, self)

    # ClientHello.

    def _on_client_hello(self, message: bytes) -> None:
        hello = ClientHello.parse(message[HEADER_SIZE:])
        self._check_offer(hello)
        first = self._hello
        if first is None:
            self.cipher_suite = self._choose_cipher_suite(hello)
            self._transcript.use(HASHES[self.cipher_suite])
        else:
            self._check_second(first, hello)
        if hello.has_pre_shared_key:
            truncated = message[: -len(extensions.encode_binders(hello.binders))]
            self._truncated_digest = self._transcript.digest_with(HASHES[self._suite], truncated)
        self._transcript.add(message)
        self._hello = hello
        self._client_random = hello.random
        self.server_name = hello.server_name
        group, share = self._choose_share(hello)
        self.group = group
        if share is None:
            self._retry(hello, group)
            return
        self._share = share
        opaque = {kind: data for kind, data in hello.extensions if kind not in _KNOWN}
        for kind in self._settings.required_extensions:
            if kind not in opaque:
                raise AlertMissingExtension(f"the client does not send extension {kind}")
        self._ticket = self._find_ticket(hello)
        self.early_data_offered = hello.has_early_data
        is_early = hello.has_early_data and self._allows_early_data()
        self.outputs.append(PeerExtensions(opaque))
        self.outputs.append(ClientHelloDecision(self._suspend(), hello, self._ticket, is_early))

    @property
    def _suite(self) -> int:
        assert self.cipher_suite is not None  # chosen with the ClientHello
        return self.cipher_suite

    # The client's ticket.

    def _find_ticket(self, hello: ClientHello) -> SessionTicket | None:
        """The first of the client's tickets that can be resumed, its binder checked (RFC 8446 §4.2.11)."""
        tickets = self._settings.tickets
        if tickets is None or PSK_DHE_KE not in (hello.psk_modes or ()):
            return None
        now = self._environment.wall_clock()
        for number, (label, _) in enumerate(hello.identities[:MAX_IDENTITIES_TRIED]):
            ticket = tickets.find(label)
            if (
                ticket is None
                or not ticket.is_valid_at(now)
                or ticket.server_name != (hello.server_name or "")
                or HASHES.get(ticket.cipher_suite) != HASHES[self._suite]
            ):
                continue
            binder = KeySchedule(self._suite, ticket.resumption_secret).binder(self._truncated_digest)
            if not compare_digest(binder, hello.binders[number]):
                raise AlertDecryptError("the binder of a pre-shared key does not verify")
            self._identity = number
            return ticket
        return None

    def _allows_early_data(self) -> bool:
        """Whether the ticket found allows early data, as far as it is known before the answer (RFC 8446 §4.2.10)."""
        ticket = self._ticket
        return (
            ticket is not None
            and self._identity == 0
            and self._state is State.WAIT_CLIENT_HELLO
            and bool(ticket.max_early_data_size and self._settings.max_early_data_size)
            and ticket.cipher_suite == self.cipher_suite
        )

    def _accepts_early_data(self, hello: ClientHello, answer: ClientHelloAnswer) -> bool:
        ticket = self._ticket
        tickets = self._settings.tickets
        return (
            ticket is not None
            and tickets is not None
            and hello.has_early_data
            and answer.accept_early_data
            and self._allows_early_data()
            and ticket.alpn == answer.alpn
            and tickets.admits_early_data(ticket, hello.identities[0][1], hello.binders[0])
        )

    def _check_offer(self, hello: ClientHello) -> None:
        """Check what needs no knowledge of this server (RFC 8446 §4.1.2, §4.2, §9.2)."""
        if hello.supported_versions is None or TLS_1_3 not in hello.supported_versions:
            raise AlertProtocolVersion("the client does not offer TLS 1.3")
        if hello.legacy_compression_methods != b"\0":
            raise AlertIllegalParameter("the client offers compression")
        if hello.signature_algorithms is None:
            raise AlertMissingExtension("the ClientHello has no signature_algorithms")
        if hello.supported_groups is None:
            raise AlertMissingExtension("the ClientHello has no supported_groups")
        if hello.key_shares is None:
            raise AlertMissingExtension("the ClientHello has no key_share")
        if any(group not in hello.supported_groups for group, _ in hello.key_shares):
            raise AlertIllegalParameter("the ClientHello has a key share for a group that it does not offer")
        if hello.has_pre_shared_key and hello.extension(ExtensionType.PSK_KEY_EXCHANGE_MODES) is None:
            raise AlertMissingExtension("the ClientHello has pre_shared_key without psk_key_exchange_modes")
        if hello.has_early_data and not hello.has_pre_shared_key:
            raise AlertIllegalParameter("the ClientHello offers early data without pre_shared_key")

    def _choose_cipher_suite(self, hello: ClientHello) -> int:
        for suite in self._cipher_suites:
            if suite in hello.cipher_suites:
                return suite
        raise AlertHandshakeFailure("no cipher suite in common")

    def _choose_share(self, hello: ClientHello) -> tuple[int, bytes | None]:
        """The group, and the client's share for it, or None when it has to be asked for."""
        shares = dict(hello.key_shares or ())
        for group in self._groups:
            if group in shares:
                return group, shares[group]
        for group in self._groups:
            if group in (hello.supported_groups or ()):
                return group, None
        raise AlertHandshakeFailure("no key exchange group in common")

    # HelloRetryRequest.

    def _retry(self, hello: ClientHello, group: int) -> None:
        assert self.cipher_suite is not None  # chosen before
        items: Extensions = [(ExtensionType.KEY_SHARE, extensions.encode_selected(group))]
        if self._settings.cookie:
            items.append((ExtensionType.COOKIE, extensions.encode_cookie(self._settings.cookie)))
        items.append((ExtensionType.SUPPORTED_VERSIONS, extensions.encode_selected(TLS_1_3)))
        request = ServerHello(HELLO_RETRY_REQUEST_RANDOM, self.cipher_suite, items, hello.legacy_session_id)
        self._transcript.restart_with_message_hash()
        self._receive_at(EPOCH_INITIAL)
        self._send(EPOCH_INITIAL, self._record(request.encode()))
        self._state = State.WAIT_SECOND_CLIENT_HELLO

    def _check_second(self, first: ClientHello, second: ClientHello) -> None:
        """The second ClientHello does what was asked and changes nothing else (RFC 8446 §4.1.2)."""
        if (
            second.random != first.random
            or second.legacy_session_id != first.legacy_session_id
            or second.cipher_suites != first.cipher_suites
            or _unchanging(second) != _unchanging(first)
        ):
            raise AlertIllegalParameter("the second ClientHello changes what it may not change")
        if second.has_early_data:
            raise AlertIllegalParameter("the second ClientHello offers early data")
        if [group for group, _ in second.key_shares or ()] != [self.group]:
            raise AlertIllegalParameter("the second ClientHello does not hold just the key share that was asked for")
        if (second.cookie or b"") != self._settings.cookie:
            raise AlertIllegalParameter("the second ClientHello does not return the cookie")

    # The server's flight.

    def _on_answer(self, answer: object) -> None:
        if not isinstance(answer, ClientHelloAnswer):
            raise TypeError("the answer to a ClientHelloDecision is a ClientHelloAnswer, or an Alert")
        if not answer.certificate_chain:
            raise ValueError("a ClientHelloAnswer needs a certificate")
        check_private_key(answer.certificate_chain[0], answer.private_key)
        hello = self._hello
        assert hello is not None  # the decision is about it
        if answer.alpn is not None and answer.alpn.encode() not in (hello.alpn_protocols or ()):
            raise ValueError(f"the client does not offer application protocol {answer.alpn!r}")
        if not answer.resume:
            self._ticket = None
        scheme = 0
        if self._ticket is None:
            scheme = signatures.choose_scheme(answer.certificate_chain[0], hello.signature_algorithms or ())
        self.alpn = answer.alpn
        self._resume()
        self._receive_at(EPOCH_HANDSHAKE)
        self._begin_resumption(hello, answer)
        self._send_server_hello(hello)
        flight = self._record(self._build_encrypted_extensions(hello, answer).encode())
        if self._ticket is None:
            flight += self._build_certificate(answer, scheme)
        flight += self._record(self._make_finished(self._server_secret))
        self._send(EPOCH_HANDSHAKE, flight)
        self._application_secret, server_secret = self._application_secrets()
        self._install(EPOCH_ONE_RTT, True, server_secret)
        self._state = State.WAIT_FINISHED

    def _begin_resumption(self, hello: ClientHello, answer: ClientHelloAnswer) -> None:
        ticket = self._ticket
        if ticket is None:
            return
        self.session_resumed = True
        self.peer_certificates = ticket.peer_certificates()
        if self._accepts_early_data(hello, answer):
            self.early_data_accepted = True
            secret = self._early_secret(self._suite, ticket.resumption_secret, self._transcript.digest())
            self._install(EPOCH_ZERO_RTT, False, secret)

    def _build_certificate(self, answer: ClientHelloAnswer, scheme: int) -> bytes:
        chain = Certificate(b"", [(item.public_bytes(Encoding.DER), []) for item in answer.certificate_chain])
        return self._record(chain.encode()) + self._record(self._sign(answer, scheme).encode())

    def _send_server_hello(self, hello: ClientHello) -> None:
        assert self.group is not None  # chosen with the ClientHello, as the cipher suite was
        share, secret = self._settings.generate_key_pair(self.group).respond(self._share)
        items: Extensions = [
            (ExtensionType.KEY_SHARE, extensions.encode_key_share(self.group, share)),
            (ExtensionType.SUPPORTED_VERSIONS, extensions.encode_selected(TLS_1_3)),
        ]
        pre_shared_key: bytes | None = None
        if self._ticket is not None:
            pre_shared_key = self._ticket.resumption_secret
            items.insert(0, (ExtensionType.PRE_SHARED_KEY, extensions.encode_selected(self._identity)))
        random = self._environment.random_bytes(RANDOM_SIZE)
        server_hello = ServerHello(random, self._suite, items, hello.legacy_session_id)
        self._send(EPOCH_INITIAL, self._record(server_hello.encode()))
        self._start_keys(self._suite, secret, pre_shared_key)
        self._install_handshake_secrets(is_client=False)

    def _build_encrypted_extensions(self, hello: ClientHello, answer: ClientHelloAnswer) -> EncryptedExtensions:
        items: Extensions = []
        if hello.server_name is not None:
            items.append((ExtensionType.SERVER_NAME, b""))
        if answer.alpn is not None:
            items.append((ExtensionType.ALPN, extensions.encode_alpn([answer.alpn.encode()])))
        if self.early_data_accepted:
            items.append((ExtensionType.EARLY_DATA, b""))
        return EncryptedExtensions(items + self.local_extensions + answer.local_extensions)

    def _sign(self, answer: ClientHelloAnswer, scheme: int) -> CertificateVerify:
        content = signatures.signed_content(signatures.SERVER_CONTEXT, self._transcript.digest())
        return CertificateVerify(scheme, signatures.sign(answer.private_key, scheme, content))

    # The client's Finished.

    def _on_finished(self, message: bytes) -> None:
        self._check_finished(message, self._client_secret)
        self._install(EPOCH_ONE_RTT, False, self._application_secret)
        self._application_secret = b""
        self._derive_resumption_secret()
        self._state = State.CONNECTED
        self._complete()
        hello = self._hello
        self._takes_tickets = hello is not None and PSK_DHE_KE in (hello.psk_modes or ())
        self._hello = self._ticket = None
        self._share = self._truncated_digest = b""

    # Afterwards.

    def issue_ticket(self, other_extensions: Extensions | None = None) -> bool:
        """Once the handshake is complete: send a ticket that remembers `other_extensions` too (RFC 8446 §4.6.1).

        False when there can be none: nobody issues tickets here, or the client could not use one.
        """
        tickets = self._settings.tickets
        others = remembered(self.alpn, self.peer_certificates)
        if tickets is None or others is None or not self._takes_tickets:
            return False
        nonce = self._tickets.to_bytes(NONCE_SIZE, "big")
        self._tickets += 1
        made = datetime.fromtimestamp(self._environment.wall_clock(), UTC)
        ticket = SessionTicket(
            age_add=int.from_bytes(self._environment.random_bytes(AGE_ADD_SIZE), "big"),
            cipher_suite=CipherSuite(self._suite),
            not_valid_after=made + timedelta(seconds=tickets.lifetime),
            not_valid_before=made,
            resumption_secret=self._keys.resumption_key(self._resumption_secret, nonce),
            server_name=self.server_name or "",
            ticket=b"",
            max_early_data_size=self._settings.max_early_data_size,
            other_extensions=others + (other_extensions or []),
        )
        items: Extensions = []
        if ticket.max_early_data_size:
            items.append((ExtensionType.EARLY_DATA, extensions.encode_max_early_data(ticket.max_early_data_size)))
        message = NewSessionTicket(tickets.lifetime, ticket.age_add, nonce, tickets.label(ticket), items)
        self._send(EPOCH_ONE_RTT, message.encode())
        return True


_HANDLERS: Final[dict[State, dict[int, Callable[[ServerHandshake, bytes], None]]]] = {
    State.WAIT_CLIENT_HELLO: {HandshakeType.CLIENT_HELLO: ServerHandshake._on_client_hello},
    State.WAIT_SECOND_CLIENT_HELLO: {HandshakeType.CLIENT_HELLO: ServerHandshake._on_client_hello},
    State.WAIT_FINISHED: {HandshakeType.FINISHED: ServerHandshake._on_finished},
    State.CONNECTED: {},
}


def _unchanging(hello: ClientHello) -> Extensions:
    return [(kind, data) for kind, data in hello.extensions if kind not in _MAY_CHANGE]
