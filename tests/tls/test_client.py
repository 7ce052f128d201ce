"""The client's side: the flow against a real server, and everything that a server may not do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from helpers.certificates import make_certificates
from helpers.handshakes import (
    TRANSPORT_PARAMETERS,
    FixedEnvironment,
    Pair,
    client_settings,
    message_types,
    split,
)
from helpers.key_exchange import needs_mlkem
from quicio.tls import extensions
from quicio.tls.alerts import (
    Alert,
    AlertBadCertificate,
    AlertDecodeError,
    AlertDecryptError,
    AlertIllegalParameter,
    AlertMissingExtension,
    AlertNoApplicationProtocol,
    AlertProtocolVersion,
    AlertUnexpectedMessage,
    AlertUnsupportedExtension,
)
from quicio.tls.client import ClientHandshake
from quicio.tls.constants import (
    EPOCH_HANDSHAKE,
    EPOCH_INITIAL,
    EPOCH_ONE_RTT,
    HELLO_RETRY_REQUEST_RANDOM,
    MAX_CERTIFICATES,
    MAX_TICKETS,
    CipherSuite,
    ExtensionType,
    Group,
    HandshakeType,
    SignatureScheme,
)
from quicio.tls.messages import (
    Certificate,
    CertificateRequest,
    CertificateVerify,
    ClientHello,
    EncryptedExtensions,
    NewSessionTicket,
    ServerHello,
    encode_message,
)
from quicio.tls.outputs import CertificateDecision, HandshakeComplete, SendHandshake, TicketReceived

Change = Callable[[bytes], Sequence[bytes]]


def change_server(kind: int, change: Change, **pair: Any) -> Pair:
    """A pair in which the server's first message of a type reaches the client changed."""
    done = False

    def deliver(from_client: bool, epoch: int, message: bytes) -> Sequence[bytes]:
        nonlocal done
        if from_client or done or message[0] != kind:
            return [message]
        done = True
        return change(message)

    return Pair(deliver=deliver, **pair)


def with_fields(
    message: ServerHello | EncryptedExtensions | CertificateRequest, *items: tuple[int, bytes | None]
) -> bytes:
    """The message with extensions replaced, added at the end, or (None) removed."""
    fields: dict[int, bytes] = dict(message.extensions)
    for kind, data in items:
        fields.pop(kind, None)
        if data is not None:
            fields[kind] = data
    return replace(message, extensions=list(fields.items())).encode()


def server_hello(*items: tuple[int, bytes | None], **changes: Any) -> Change:
    return lambda message: [with_fields(replace(ServerHello.parse(message[4:]), **changes), *items)]


def encrypted_extensions(*items: tuple[int, bytes | None]) -> Change:
    return lambda message: [with_fields(EncryptedExtensions.parse(message[4:]), *items)]


def raw(position: int, value: bytes) -> Change:
    """Bytes of a message replaced."""
    return lambda message: [message[:position] + value + message[position + len(value) :]]


def hello_of(pair: Pair) -> ClientHello:
    return ClientHello.parse(pair.client.sent()[0][1][4:])


# What goes well.


@needs_mlkem
def test_client_hello() -> None:
    """What is offered by default: the hybrid with X25519 beside it, no compatibility mode (RFC 9001 §8.4)."""
    pair = Pair().run()
    hello = hello_of(pair)
    assert hello.legacy_session_id == b""
    assert hello.legacy_compression_methods == b"\0"
    assert hello.cipher_suites == [0x1301, 0x1302, 0x1303]
    assert hello.supported_groups == [Group.X25519MLKEM768, Group.X25519, Group.SECP256R1, Group.SECP384R1]
    assert [(group, len(share)) for group, share in hello.key_shares or ()] == [
        (Group.X25519MLKEM768, 1184 + 32),
        (Group.X25519, 32),
    ]
    assert hello.supported_versions == [0x0304]
    assert hello.server_name == "localhost"
    assert hello.alpn_protocols == [b"h3"]
    assert hello.extension(TRANSPORT_PARAMETERS) == b"of the client"
    assert not hello.has_pre_shared_key


def test_without_the_hybrid() -> None:
    """Where the library lacks ML-KEM, the group is not offered."""
    settings = {"is_group_available": lambda group: group != Group.X25519MLKEM768}
    pair = Pair(client=settings).run()
    hello = hello_of(pair)
    assert hello.supported_groups == [Group.X25519, Group.SECP256R1, Group.SECP384R1]
    assert [group for group, _ in hello.key_shares or ()] == [Group.X25519]
    pair.assert_complete()
    assert pair.client.handshake.group == Group.X25519


@needs_mlkem
def test_result() -> None:
    pair = Pair().run()
    pair.assert_complete()
    client = pair.client.handshake
    assert client.alpn == "h3"
    assert client.cipher_suite == CipherSuite.AES_128_GCM_SHA256
    assert client.group == Group.X25519MLKEM768
    assert client.server_name == "localhost"
    assert client.peer_certificates == pair.certificates.chain
    assert client.receive_epoch == EPOCH_ONE_RTT
    assert not client.session_resumed
    assert not client.early_data_accepted
    assert not client.is_failed
    assert pair.client.peer_extensions() == {TRANSPORT_PARAMETERS: b"of the server"}
    assert [type(output).__name__ for output in pair.client.record] == [
        "SendHandshake",
        "InstallSecret",
        "InstallSecret",
        "PeerExtensions",
        "CertificateDecision",
        "SendHandshake",
        "InstallSecret",
        "InstallSecret",
        "HandshakeComplete",
    ]


@pytest.mark.parametrize("name", ["127.0.0.1", "::1"])
def test_addresses_are_not_sent_as_server_name(name: str) -> None:
    """An address is verified and not sent (RFC 6066 §3)."""
    pair = Pair(client={"server_name": name}).run()
    pair.assert_complete()
    assert hello_of(pair).server_name is None
    assert pair.server.handshake.server_name is None


def test_trailing_dot_is_not_sent() -> None:
    pair = Pair(client={"server_name": "localhost."}).run()
    pair.assert_complete()
    assert hello_of(pair).server_name == "localhost"


def test_no_server_name() -> None:
    pair = Pair(client={"server_name": None, "verify_peer": False}).run()
    pair.assert_complete()
    assert hello_of(pair).server_name is None


@pytest.mark.parametrize("name", ["héhé.example", "x" * 256])
def test_server_name_out_of_range(name: str) -> None:
    with pytest.raises(ValueError, match="A-label"):
        Pair(client={"server_name": name})


def test_untrusted_certificate() -> None:
    """The settings' verdict ends the handshake before any Finished is sent. Security row 30."""
    pair = Pair(client={"server_name": "elsewhere.example"})
    with pytest.raises(AlertBadCertificate, match=r"not for elsewhere\.example"):
        pair.run()
    assert pair.client.handshake.is_failed
    assert message_types(pair.client) == [HandshakeType.CLIENT_HELLO]


def test_verification_turned_off() -> None:
    Pair(client={"server_name": "elsewhere.example", "verify_peer": False}).run().assert_complete()


def test_no_alpn() -> None:
    pair = Pair(client={"alpn": None}, server={"alpn": None}).run()
    pair.assert_complete()
    assert pair.client.handshake.alpn is None


def test_start_twice() -> None:
    pair = Pair()
    pair.start()
    with pytest.raises(RuntimeError, match="already started"):
        pair.start()


def test_data_before_start() -> None:
    handshake = ClientHandshake(client_settings(make_certificates()), FixedEnvironment())
    with pytest.raises(AlertUnexpectedMessage):
        handshake.receive(EPOCH_INITIAL, encode_message(HandshakeType.SERVER_HELLO, b""))


# HelloRetryRequest (RFC 8446 §4.1.4).


@pytest.mark.parametrize("cookie", [b"", b"a cookie"])
@pytest.mark.parametrize("group", [Group.SECP256R1, Group.SECP384R1])
def test_hello_retry_request(group: Group, cookie: bytes) -> None:
    """One more ClientHello: with the share asked for alone, the cookie returned, all else unchanged."""
    pair = Pair(server={"groups": [group], "cookie": cookie}).run()
    pair.assert_complete()
    assert pair.client.handshake.group == group
    first, second = (ClientHello.parse(message[4:]) for epoch, message in pair.client.sent() if epoch == EPOCH_INITIAL)
    assert [share[0] for share in second.key_shares or ()] == [group]
    assert second.cookie == (cookie or None)
    assert second.random == first.random
    changed = {ExtensionType.KEY_SHARE, ExtensionType.COOKIE}
    assert [item for item in second.extensions if item[0] not in changed] == [
        item for item in first.extensions if item[0] not in changed
    ]


@needs_mlkem
def test_hello_retry_request_to_the_hybrid() -> None:
    pair = Pair(client={"key_share_groups": [Group.SECP256R1]}, server={"groups": [Group.X25519MLKEM768]}).run()
    pair.assert_complete()
    assert pair.client.handshake.group == Group.X25519MLKEM768


def test_no_key_share_at_first() -> None:
    """An empty key_share asks for a HelloRetryRequest (RFC 8446 §4.2.8)."""
    pair = Pair(client={"key_share_groups": []}).run()
    pair.assert_complete()
    assert message_types(pair.server)[:2] == [HandshakeType.SERVER_HELLO, HandshakeType.SERVER_HELLO]


def retry(*items: tuple[int, bytes], cipher_suite: int = 0x1301, session_id: bytes = b"") -> bytes:
    """A HelloRetryRequest of a rude server."""
    fields = [(ExtensionType.SUPPORTED_VERSIONS, extensions.encode_selected(0x0304)), *items]
    return ServerHello(HELLO_RETRY_REQUEST_RANDOM, cipher_suite, list(fields), session_id).encode()


P256_SHARE = (int(ExtensionType.KEY_SHARE), extensions.encode_selected(Group.SECP256R1))
COOKIE = (int(ExtensionType.COOKIE), extensions.encode_cookie(b"c"))

BAD_RETRIES: dict[str, tuple[type[Alert], bytes]] = {
    "no change": (AlertIllegalParameter, retry()),
    "a share that was sent": (
        AlertIllegalParameter,
        retry((ExtensionType.KEY_SHARE, extensions.encode_selected(Group.X25519))),
    ),
    "a group not offered": (AlertIllegalParameter, retry((ExtensionType.KEY_SHARE, extensions.encode_selected(0x19)))),
    "a whole key share": (AlertDecodeError, retry((ExtensionType.KEY_SHARE, extensions.encode_key_share(0x17, b"x")))),
    "an empty cookie": (AlertDecodeError, retry((ExtensionType.COOKIE, b"\0\0"))),
    "a cipher suite not offered": (AlertIllegalParameter, retry(P256_SHARE, cipher_suite=0x1304)),
    "a session id": (AlertIllegalParameter, retry(P256_SHARE, session_id=b"x")),
    "an extension not offered": (AlertUnsupportedExtension, retry(P256_SHARE, (0xAAAA, b""))),
    "an extension of another message": (AlertIllegalParameter, retry(P256_SHARE, (ExtensionType.ALPN, b""))),
    "bytes after it": (AlertUnexpectedMessage, retry(P256_SHARE) + b"\x02"),
}


@pytest.mark.parametrize("name", BAD_RETRIES)
def test_bad_hello_retry_request(name: str) -> None:
    alert, message = BAD_RETRIES[name]
    pair = Pair()
    pair.start()
    with pytest.raises(alert):
        pair.client.handshake.receive(EPOCH_INITIAL, message)


def test_cookie_alone_is_a_change() -> None:
    pair = Pair()
    pair.start()
    pair.client.handshake.receive(EPOCH_INITIAL, retry(COOKIE))
    pair.client.drain()
    first, second = (ClientHello.parse(message[4:]) for _, message in pair.client.sent())
    assert second.key_shares == first.key_shares
    assert second.cookie == b"c"


def test_second_hello_retry_request() -> None:
    pair = Pair()
    pair.start()
    pair.client.handshake.receive(EPOCH_INITIAL, retry(COOKIE))
    with pytest.raises(AlertUnexpectedMessage, match="a second HelloRetryRequest"):
        pair.client.handshake.receive(EPOCH_INITIAL, retry(P256_SHARE))


def test_cipher_suite_changes_after_retry() -> None:
    """Both suites were offered; the server has to keep to the first (RFC 8446 §4.1.4)."""
    pair = change_server(
        HandshakeType.SERVER_HELLO, server_hello(cipher_suite=0x1303), server={"groups": [Group.SECP256R1]}
    )
    with pytest.raises(AlertIllegalParameter, match="changes the cipher suite"):
        pair.run()


def test_group_changes_after_retry() -> None:
    """The group that was asked for is the only one with a share."""

    def deliver(from_client: bool, epoch: int, message: bytes) -> Sequence[bytes]:
        if from_client or message[0] != HandshakeType.SERVER_HELLO:
            return [message]
        hello = ServerHello.parse(message[4:])
        if hello.is_hello_retry_request:
            return [message]
        return [with_fields(hello, (ExtensionType.KEY_SHARE, extensions.encode_key_share(Group.X25519, bytes(32))))]

    with pytest.raises(AlertIllegalParameter, match="which has no share"):
        Pair(server={"groups": [Group.SECP256R1]}, deliver=deliver).run()


# What a server may not do.

SH, EE = HandshakeType.SERVER_HELLO, HandshakeType.ENCRYPTED_EXTENSIONS
CERT, CV, FIN = HandshakeType.CERTIFICATE, HandshakeType.CERTIFICATE_VERIFY, HandshakeType.FINISHED


def other_signature(scheme: int) -> Change:
    return lambda message: [CertificateVerify(scheme, CertificateVerify.parse(message[4:]).signature).encode()]


def chain_of(entries: list[tuple[bytes, list[tuple[int, bytes]]]], context: bytes = b"") -> Change:
    return lambda message: [Certificate(context, entries).encode()]


def twice(message: bytes) -> Sequence[bytes]:
    return [message, message]


def with_entry_extension(message: bytes) -> Sequence[bytes]:
    entries = [(data, [(5, b"")]) for data, _ in Certificate.parse(message[4:]).entries]
    return [Certificate(b"", entries).encode()]


BAD_SERVERS: dict[str, tuple[type[Alert], int, Change]] = {
    # ServerHello (RFC 8446 §4.1.3).
    "legacy_version": (AlertProtocolVersion, SH, raw(4, b"\x03\x04")),
    "no supported_versions": (AlertProtocolVersion, SH, server_hello((ExtensionType.SUPPORTED_VERSIONS, None))),
    "no extensions": (AlertProtocolVersion, SH, lambda message: [encode_message(SH, message[4:42])]),
    "another version": (AlertIllegalParameter, SH, server_hello((ExtensionType.SUPPORTED_VERSIONS, b"\x03\x03"))),
    "session id": (AlertIllegalParameter, SH, server_hello(legacy_session_id_echo=b"x")),
    "cipher suite": (AlertIllegalParameter, SH, server_hello(cipher_suite=0x1304)),
    "compression": (AlertIllegalParameter, SH, raw(4 + 2 + 32 + 1 + 2, b"\x01")),
    "no key_share": (AlertMissingExtension, SH, server_hello((ExtensionType.KEY_SHARE, None))),
    "group without a share": (
        AlertIllegalParameter,
        SH,
        server_hello((ExtensionType.KEY_SHARE, extensions.encode_key_share(Group.SECP256R1, b"x"))),
    ),
    "share of a wrong size": (
        AlertIllegalParameter,
        SH,
        server_hello((ExtensionType.KEY_SHARE, extensions.encode_key_share(Group.X25519MLKEM768, bytes(1119)))),
    ),
    "all-zero share": (
        AlertIllegalParameter,
        SH,
        server_hello((ExtensionType.KEY_SHARE, extensions.encode_key_share(Group.X25519, bytes(32)))),
    ),
    "pre_shared_key that was not offered": (AlertUnsupportedExtension, SH, server_hello((41, b"\0\0"))),
    "cookie in a ServerHello": (AlertUnsupportedExtension, SH, server_hello((ExtensionType.COOKIE, b"\0\1c"))),
    "ALPN in a ServerHello": (AlertIllegalParameter, SH, server_hello((ExtensionType.ALPN, b""))),
    "transport parameters in a ServerHello": (AlertIllegalParameter, SH, server_hello((TRANSPORT_PARAMETERS, b""))),
    "message after the ServerHello": (AlertUnexpectedMessage, SH, lambda message: [message + b"\x08"]),
    "truncated ServerHello": (AlertDecodeError, SH, lambda message: [encode_message(SH, message[4:-1])]),
    "ServerHello with more after it": (AlertDecodeError, SH, lambda message: [encode_message(SH, message[4:] + b"x")]),
    # EncryptedExtensions (§4.3.1).
    "unsolicited extension": (AlertUnsupportedExtension, EE, encrypted_extensions((0xFF01, b""))),
    "GREASE extension": (AlertUnsupportedExtension, EE, encrypted_extensions((0x0A0A, b""))),
    "extension of another message": (AlertIllegalParameter, EE, encrypted_extensions((ExtensionType.KEY_SHARE, b""))),
    "early_data not offered": (AlertUnsupportedExtension, EE, encrypted_extensions((ExtensionType.EARLY_DATA, b""))),
    "server_name with a content": (AlertDecodeError, EE, encrypted_extensions((ExtensionType.SERVER_NAME, b"x"))),
    "malformed supported_groups": (AlertDecodeError, EE, encrypted_extensions((ExtensionType.SUPPORTED_GROUPS, b"\0"))),
    "no transport parameters": (AlertMissingExtension, EE, encrypted_extensions((TRANSPORT_PARAMETERS, None))),
    "no ALPN": (AlertNoApplicationProtocol, EE, encrypted_extensions((ExtensionType.ALPN, None))),
    "ALPN that was not offered": (
        AlertNoApplicationProtocol,
        EE,
        encrypted_extensions((ExtensionType.ALPN, extensions.encode_alpn([b"h2"]))),
    ),
    "two protocols": (
        AlertDecodeError,
        EE,
        encrypted_extensions((ExtensionType.ALPN, extensions.encode_alpn([b"h3", b"h3"]))),
    ),
    "repeated extension": (
        AlertIllegalParameter,
        EE,
        lambda message: [EncryptedExtensions([(TRANSPORT_PARAMETERS, b""), (TRANSPORT_PARAMETERS, b"")]).encode()],
    ),
    "no EncryptedExtensions": (AlertUnexpectedMessage, EE, lambda message: []),
    "EncryptedExtensions twice": (AlertUnexpectedMessage, EE, twice),
    # Certificate (§4.4.2).
    "no certificate": (AlertDecodeError, CERT, chain_of([])),
    "context": (AlertIllegalParameter, CERT, chain_of([], b"context")),
    "certificate that is none": (AlertBadCertificate, CERT, chain_of([(b"\x30\x00", [])])),
    "empty certificate": (AlertDecodeError, CERT, chain_of([(b"", [])])),
    "too many certificates": (AlertIllegalParameter, CERT, chain_of([(b"x", [])] * (MAX_CERTIFICATES + 1))),
    "certificate with an extension": (AlertUnsupportedExtension, CERT, with_entry_extension),
    "no Certificate": (AlertUnexpectedMessage, CERT, lambda message: []),
    "Certificate twice": (AlertUnexpectedMessage, CERT, twice),
    # CertificateVerify (§4.4.3).
    "scheme that was not offered": (AlertIllegalParameter, CV, other_signature(0x0203)),
    "PKCS #1 in a handshake": (AlertIllegalParameter, CV, other_signature(SignatureScheme.RSA_PKCS1_SHA256)),
    "scheme of another key": (AlertIllegalParameter, CV, other_signature(SignatureScheme.ED25519)),
    "wrong signature": (AlertDecryptError, CV, raw(12, b"\xff\xff")),
    "no CertificateVerify": (AlertUnexpectedMessage, CV, lambda message: []),
    # Finished (§4.4.4).
    "wrong Finished": (AlertDecryptError, FIN, raw(4, b"\0\0\0\0")),
    "short Finished": (AlertDecodeError, FIN, lambda message: [encode_message(FIN, message[4:-1])]),
    "message after the Finished": (AlertUnexpectedMessage, FIN, lambda message: [message + b"\x04"]),
    # Messages that never have a place.
    "KeyUpdate": (AlertUnexpectedMessage, CERT, lambda message: [encode_message(24, b"\0"), message]),
    "ClientHello": (AlertUnexpectedMessage, EE, lambda message: [encode_message(1, b"")]),
    "unknown message": (AlertUnexpectedMessage, EE, lambda message: [encode_message(99, b"")]),
    "ticket in the handshake": (AlertUnexpectedMessage, FIN, lambda message: [encode_message(4, b"")]),
}


@pytest.mark.parametrize("name", BAD_SERVERS)
def test_bad_server(name: str) -> None:
    """The client answers with the alert that the RFC demands, and is dead. Security row 13."""
    alert, kind, change = BAD_SERVERS[name]
    pair = change_server(kind, change)
    with pytest.raises(alert) as caught:
        pair.run()
    assert type(caught.value) is alert
    assert str(caught.value)
    assert pair.client.handshake.is_failed
    assert not pair.client.of(HandshakeComplete)


def test_alpn_that_nobody_asked_for() -> None:
    """Without an offer, an answer is unsolicited."""
    change = encrypted_extensions((ExtensionType.ALPN, extensions.encode_alpn([b"h3"])))
    with pytest.raises(AlertUnsupportedExtension):
        change_server(EE, change, client={"alpn": None}, server={"alpn": None}).run()


def test_supported_groups_of_a_server_are_ignored() -> None:
    """A server may say which groups it would rather have (RFC 8446 §4.2.7)."""
    pair = Pair()
    advice = (ExtensionType.SUPPORTED_GROUPS, extensions.encode_integers([0x18, 0x5A5A]))
    pair.server.handshake.local_extensions.append(advice)
    pair.run().assert_complete()


# Client certificates (RFC 8446 §4.3.2).

SCHEMES = (int(ExtensionType.SIGNATURE_ALGORITHMS), extensions.encode_integers([0x0403]))


def request(context: bytes = b"", *items: tuple[int, bytes]) -> Change:
    return lambda message: [CertificateRequest(context, list(items)).encode(), message]


@pytest.mark.parametrize(
    ("alert", "change"),
    [
        (AlertIllegalParameter, request(b"context", SCHEMES)),
        (AlertMissingExtension, request()),
        (AlertDecodeError, request(b"", (ExtensionType.SIGNATURE_ALGORITHMS, b"\0\0"))),
        (AlertUnexpectedMessage, lambda message: [CertificateRequest(b"", [SCHEMES]).encode()] * 2),
    ],
    ids=["context", "no signature_algorithms", "malformed signature_algorithms", "twice"],
)
def test_bad_certificate_request(alert: type[Alert], change: Change) -> None:
    with pytest.raises(alert):
        change_server(CERT, change).run()


def test_certificate_request_after_the_handshake() -> None:
    """post_handshake_auth was not offered (RFC 8446 §4.6.2)."""
    pair = Pair().run()
    with pytest.raises(AlertUnexpectedMessage):
        pair.client.handshake.receive(EPOCH_ONE_RTT, CertificateRequest(b"", [SCHEMES]).encode())


# Decisions.


def test_suspended_at_the_certificate() -> None:
    """The client stands still, buffers what comes, and sends no Finished before the answer."""
    pair = Pair()
    pair.hold = True
    pair.run()
    pair.answer(pair.held.pop())
    pair.run()
    (decision,) = pair.held
    assert isinstance(decision, CertificateDecision)
    assert decision.chain == pair.certificates.chain
    assert decision.server_name == "localhost"
    client = pair.client.handshake
    assert client.is_suspended
    assert message_types(pair.client) == [HandshakeType.CLIENT_HELLO]
    with pytest.raises(ValueError, match="no decision 99 is awaited"):
        client.decide(99, True)
    with pytest.raises(TypeError, match="True, or an Alert"):
        client.decide(decision.id, "yes")
    client.decide(decision.id, True)
    pair.run()
    pair.assert_complete()
    with pytest.raises(ValueError, match=f"no decision {decision.id} is awaited"):
        client.decide(decision.id, True)


def test_certificate_refused_by_the_caller() -> None:
    pair = Pair()
    pair.hold = True
    pair.run()
    pair.answer(pair.held.pop())
    pair.run()
    (decision,) = pair.held
    assert isinstance(decision, CertificateDecision)
    with pytest.raises(AlertBadCertificate, match="I know that one"):
        pair.client.handshake.decide(decision.id, AlertBadCertificate("I know that one"))
    assert pair.client.handshake.is_failed
    pair.client.handshake.decide(decision.id, True)  # too late: ignored
    assert not pair.client.handshake.outputs


# Tickets.


def ticket(number: int) -> bytes:
    return NewSessionTicket(7200, 1, bytes((number,)), b"ticket", [(42, b"\xff\xff\xff\xff")]).encode()


def test_tickets_are_shown() -> None:
    pair = Pair().run()
    pair.client.handshake.receive(EPOCH_ONE_RTT, ticket(0) + ticket(1))
    pair.client.drain()
    first, second = pair.client.of(TicketReceived)
    made = first.ticket
    assert (made.not_valid_after - made.not_valid_before).total_seconds() == 7200
    assert made.cipher_suite is CipherSuite.AES_128_GCM_SHA256
    assert (made.age_add, made.ticket, made.max_early_data_size) == (1, b"ticket", 0xFFFFFFFF)
    assert (made.server_name, made.alpn) == ("localhost", "h3")
    assert made.peer_certificates() == pair.client.handshake.peer_certificates
    assert len(made.resumption_secret) == 32
    assert made.resumption_secret != second.ticket.resumption_secret


def test_flood_of_tickets() -> None:
    """Security row 1: a server may send tickets without end; only the first few take memory."""
    pair = Pair().run()
    for number in range(3 * MAX_TICKETS):
        pair.client.handshake.receive(EPOCH_ONE_RTT, ticket(number))
    pair.client.drain()
    assert len(pair.client.of(TicketReceived)) == MAX_TICKETS


def test_empty_ticket() -> None:
    pair = Pair().run()
    with pytest.raises(AlertDecodeError):
        pair.client.handshake.receive(EPOCH_ONE_RTT, NewSessionTicket(1, 1, b"", b"", []).encode())


def test_key_update_after_the_handshake() -> None:
    """RFC 9001 §6: QUIC has its own key update."""
    pair = Pair().run()
    with pytest.raises(AlertUnexpectedMessage, match="KEY_UPDATE"):
        pair.client.handshake.receive(EPOCH_ONE_RTT, encode_message(HandshakeType.KEY_UPDATE, b"\0"))


# Levels.


@pytest.mark.parametrize("epoch", [EPOCH_INITIAL, EPOCH_ONE_RTT])
def test_message_at_a_wrong_level(epoch: int) -> None:
    """Security row 14: EncryptedExtensions belong to the Handshake level alone."""
    pair = Pair()
    pair.start()
    pair.server.handshake.receive(EPOCH_INITIAL, pair.client.drain()[0].data)  # type: ignore[attr-defined]  # SendHandshake
    pair.hold = True
    pair.run()
    pair.answer(pair.held.pop())
    hello, flight = (output for output in pair.server.drain() if isinstance(output, SendHandshake))
    pair.client.handshake.receive(EPOCH_INITIAL, hello.data)
    assert pair.client.handshake.receive_epoch == EPOCH_HANDSHAKE
    with pytest.raises(AlertUnexpectedMessage, match=f"encryption level {epoch}"):
        pair.client.handshake.receive(epoch, split(flight.data)[0])
