"""The server's side of a TLS 1.3 handshake (RFC 8446 §4, state machine of §A.2).

    ClientHello          → PeerExtensions, ClientHelloDecision: suspended    WAIT_FINISHED once answered
                         → HelloRetryRequest, when it lacks a usable share   WAIT_SECOND_CLIENT_HELLO
    second ClientHello   → as the first, but never another retry             WAIT_FINISHED once answered
    answer               → ServerHello, EncryptedExtensions, Certificate, CertificateVerify, Finished, secrets
    Finished             → the 1-RTT secret for receiving, HandshakeComplete CONNECTED

The cipher suite and the group are this server's first choices that the client offers too; a group for which the client
already sent a share goes before one that needs a retry. The owner decides the rest when it sees the ClientHello: the
certificate, the application protocol, its own extensions. It is asked after a retry, not before, so it is asked once.

The server is tolerant of what it does not know (values, extensions, RFC 8701) and strict about the rest: what a client must
send and does not is `missing_extension`, a second ClientHello that differs in more than it may is `illegal_parameter`.

Pre-shared keys are not accepted yet, which is always allowed: the handshake is then a full one, and early data is not
accepted. A client may not send anything after its Finished. A non-empty `legacy_session_id` is echoed; whether it is an
offence is the transport's business (for QUIC it is, RFC 9001 §8.4), which finds it in the decision.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from functools import partial
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding

from quicio.environment import Environment
from quicio.tls import extensions, signatures
from quicio.tls.alerts import (
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
    HELLO_RETRY_REQUEST_RANDOM,
    RANDOM_SIZE,
    TLS_1_3,
    ExtensionType,
    HandshakeType,
)
from quicio.tls.context import HEADER_SIZE, Handler, Handshake
from quicio.tls.key_schedule import HASHES
from quicio.tls.messages import (
    Certificate,
    CertificateVerify,
    ClientHello,
    EncryptedExtensions,
    Extensions,
    ServerHello,
)
from quicio.tls.outputs import ClientHelloAnswer, ClientHelloDecision, PeerExtensions
from quicio.tls.settings import ServerSettings


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

    def __init__(self, settings: ServerSettings, environment: Environment) -> None:
        """Raises `ValueError` for settings that no handshake can be made with."""
        super().__init__(environment, settings.key_log)
        self._state = State.WAIT_CLIENT_HELLO
        self._settings = settings
        self._groups = settings.usable_groups()
        self._cipher_suites = settings.usable_cipher_suites()
        self._hello: ClientHello | None = None
        self._share = b""
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
        self.outputs.append(PeerExtensions(opaque))
        self.outputs.append(ClientHelloDecision(self._suspend(), hello))

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
        scheme = signatures.choose_scheme(answer.certificate_chain[0], hello.signature_algorithms or ())
        self.alpn = answer.alpn
        self._resume()
        self._receive_at(EPOCH_HANDSHAKE)
        self._send_server_hello(hello)
        flight = self._record(self._build_encrypted_extensions(hello, answer).encode())
        chain = Certificate(b"", [(item.public_bytes(Encoding.DER), []) for item in answer.certificate_chain])
        flight += self._record(chain.encode())
        flight += self._record(self._sign(answer, scheme).encode())
        flight += self._record(self._make_finished(self._server_secret))
        self._send(EPOCH_HANDSHAKE, flight)
        self._application_secret, server_secret = self._application_secrets()
        self._install(EPOCH_ONE_RTT, True, server_secret)
        self._state = State.WAIT_FINISHED

    def _send_server_hello(self, hello: ClientHello) -> None:
        assert self.group is not None  # chosen with the ClientHello, as the cipher suite was
        assert self.cipher_suite is not None
        share, secret = self._settings.generate_key_pair(self.group).respond(self._share)
        items: Extensions = [
            (ExtensionType.KEY_SHARE, extensions.encode_key_share(self.group, share)),
            (ExtensionType.SUPPORTED_VERSIONS, extensions.encode_selected(TLS_1_3)),
        ]
        random = self._environment.random_bytes(RANDOM_SIZE)
        server_hello = ServerHello(random, self.cipher_suite, items, hello.legacy_session_id)
        self._send(EPOCH_INITIAL, self._record(server_hello.encode()))
        self._start_keys(self.cipher_suite, secret)
        self._install_handshake_secrets(is_client=False)

    def _build_encrypted_extensions(self, hello: ClientHello, answer: ClientHelloAnswer) -> EncryptedExtensions:
        items: Extensions = []
        if hello.server_name is not None:
            items.append((ExtensionType.SERVER_NAME, b""))
        if answer.alpn is not None:
            items.append((ExtensionType.ALPN, extensions.encode_alpn([answer.alpn.encode()])))
        return EncryptedExtensions(items + self.local_extensions + answer.local_extensions)

    def _sign(self, answer: ClientHelloAnswer, scheme: int) -> CertificateVerify:
        content = signatures.signed_content(signatures.SERVER_CONTEXT, self._transcript.digest())
        return CertificateVerify(scheme, signatures.sign(answer.private_key, scheme, content))

    # The client's Finished.

    def _on_finished(self, message: bytes) -> None:
        self._check_finished(message, self._client_secret)
        self._install(EPOCH_ONE_RTT, False, self._application_secret)
        self._application_secret = b""
        self._state = State.CONNECTED
        self._complete()


_HANDLERS: Final[dict[State, dict[int, Callable[[ServerHandshake, bytes], None]]]] = {
    State.WAIT_CLIENT_HELLO: {HandshakeType.CLIENT_HELLO: ServerHandshake._on_client_hello},
    State.WAIT_SECOND_CLIENT_HELLO: {HandshakeType.CLIENT_HELLO: ServerHandshake._on_client_hello},
    State.WAIT_FINISHED: {HandshakeType.FINISHED: ServerHandshake._on_finished},
    State.CONNECTED: {},
}


def _unchanging(hello: ClientHello) -> Extensions:
    return [(kind, data) for kind, data in hello.extensions if kind not in _MAY_CHANGE]
