"""The server's side: its choices, what it tolerates, and everything that a client may not do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from helpers.certificates import make_certificates, make_key
from helpers.handshakes import (
    TRANSPORT_PARAMETERS,
    FixedEnvironment,
    Pair,
    Side,
    message_types,
    server_settings,
)
from helpers.key_exchange import needs_mlkem
from quicio.tls import extensions
from quicio.tls.alerts import (
    Alert,
    AlertDecodeError,
    AlertDecryptError,
    AlertHandshakeFailure,
    AlertIllegalParameter,
    AlertMissingExtension,
    AlertNoApplicationProtocol,
    AlertProtocolVersion,
    AlertUnexpectedMessage,
    AlertUnrecognizedName,
)
from quicio.tls.constants import (
    EPOCH_HANDSHAKE,
    EPOCH_INITIAL,
    EPOCH_ONE_RTT,
    EPOCH_ZERO_RTT,
    CipherSuite,
    ExtensionType,
    Group,
    HandshakeType,
    SignatureScheme,
)
from quicio.tls.messages import CertificateVerify, ClientHello, ServerHello, encode_message
from quicio.tls.outputs import ClientHelloAnswer, ClientHelloDecision, HandshakeComplete
from quicio.tls.server import ServerHandshake

GREASE = 0x1A1A


def hello(**client: Any) -> ClientHello:
    """The ClientHello of a real client."""
    pair = Pair(client=client)
    pair.start()
    pair.client.drain()
    return ClientHello.parse(pair.client.sent()[0][1][4:])


def change(message: ClientHello, *items: tuple[int, bytes | None], **fields: Any) -> ClientHello:
    """The hello with extensions replaced where they are, added at the end, or (None) removed."""
    known = dict(items)
    kept = [(kind, known.pop(kind, data)) for kind, data in message.extensions]
    kept += known.items()
    return replace(message, extensions=[(kind, data) for kind, data in kept if data is not None], **fields)


def server(**changes: Any) -> Side:
    handshake = ServerHandshake(server_settings(make_certificates(), **changes), FixedEnvironment())
    handshake.local_extensions = [(TRANSPORT_PARAMETERS, b"of the server")]
    return Side(handshake)


def offer(side: Side, message: ClientHello) -> ClientHelloDecision:
    """Give a server a ClientHello; the decision that it asks for."""
    side.handshake.receive(EPOCH_INITIAL, message.encode())
    side.drain()
    (decision,) = side.of(ClientHelloDecision)
    assert isinstance(decision, ClientHelloDecision)
    return decision


# What goes well.


def test_result() -> None:
    pair = Pair().run()
    server = pair.server.handshake
    assert server.alpn == "h3"
    assert server.server_name == "localhost"
    assert server.peer_certificates == []
    assert server.receive_epoch == EPOCH_ONE_RTT
    assert not server.session_resumed
    assert not server.early_data_accepted
    assert pair.server.peer_extensions() == {TRANSPORT_PARAMETERS: b"of the client"}
    assert [type(output).__name__ for output in pair.server.record] == [
        "PeerExtensions",
        "ClientHelloDecision",
        "SendHandshake",
        "InstallSecret",
        "InstallSecret",
        "SendHandshake",
        "InstallSecret",
        "InstallSecret",
        "HandshakeComplete",
    ]


def test_own_preferences() -> None:
    """Suites and groups are taken in the server's order, protocols too (RFC 7301 §3.2)."""
    pair = Pair(
        client={"alpn": ["a", "b", "c"]},
        server={
            "alpn": ["x", "c", "b"],
            "cipher_suites": [CipherSuite.CHACHA20_POLY1305_SHA256, CipherSuite.AES_128_GCM_SHA256],
            "groups": [Group.X25519, Group.X25519MLKEM768],
        },
    ).run()
    pair.assert_complete()
    assert pair.server.handshake.alpn == "c"
    assert pair.server.handshake.cipher_suite == CipherSuite.CHACHA20_POLY1305_SHA256
    assert pair.server.handshake.group == Group.X25519


def test_share_at_hand_goes_before_preference() -> None:
    """A group for which the client sent a share saves a round trip."""
    pair = Pair(client={"groups": [Group.X25519, Group.SECP384R1]}, server={"groups": [Group.SECP384R1, Group.X25519]})
    pair.run().assert_complete()
    assert pair.server.handshake.group == Group.X25519
    assert message_types(pair.client).count(HandshakeType.CLIENT_HELLO) == 1


def test_unknown_values_are_ignored() -> None:
    """RFC 8701: GREASE in every list, and extensions that nobody knows."""
    original = hello()
    assert original.cipher_suites
    assert original.supported_groups is not None
    greased = change(
        original,
        (GREASE, b"anything"),
        (0x2A2A, b""),
        (ExtensionType.SUPPORTED_GROUPS, extensions.encode_integers([GREASE, *original.supported_groups])),
        (
            ExtensionType.KEY_SHARE,
            extensions.encode_key_shares([(GREASE, b"\0"), *(original.key_shares or [])]),
        ),
        (ExtensionType.SUPPORTED_VERSIONS, extensions.encode_supported_versions([GREASE, 0x0304, 0x0303])),
        (
            ExtensionType.SIGNATURE_ALGORITHMS,
            extensions.encode_integers([GREASE, SignatureScheme.ECDSA_SECP256R1_SHA256]),
        ),
        (ExtensionType.ALPN, extensions.encode_alpn([b"\x0a\x0a", b"h3"])),
        (ExtensionType.PSK_KEY_EXCHANGE_MODES, b"\x01\x0a"),
        cipher_suites=[GREASE, *original.cipher_suites, CipherSuite.EMPTY_RENEGOTIATION_INFO_SCSV],
    )
    side = server()
    decision = offer(side, greased)
    answer = server_settings(make_certificates()).answer(decision.client_hello)
    side.handshake.decide(decision.id, answer)
    side.drain()
    assert side.handshake.alpn == "h3"
    assert side.peer_extensions()[GREASE] == b"anything"
    assert [message[0] for _, message in side.sent()] == [2, 8, 11, 15, 20]


def test_compatibility_mode_is_echoed() -> None:
    """`legacy_session_id` comes back; the transport sees it in the decision and may refuse it (RFC 9001 §8.4)."""
    side = server()
    decision = offer(side, change(hello(), legacy_session_id=b"s" * 32))
    assert decision.client_hello.legacy_session_id == b"s" * 32
    side.handshake.decide(decision.id, server_settings(make_certificates()).answer(decision.client_hello))
    side.drain()
    assert ServerHello.parse(side.sent()[0][1][4:]).legacy_session_id_echo == b"s" * 32


def test_offer_of_resumption_is_declined() -> None:
    """A ticket and early data are passed over: the handshake is a full one (RFC 8446 §4.2.10, §4.2.11)."""
    side = server()
    message = change(
        hello(),
        (ExtensionType.EARLY_DATA, b""),
        (ExtensionType.PSK_KEY_EXCHANGE_MODES, b"\x01\x01"),
        (ExtensionType.PRE_SHARED_KEY, b"\x00\x07\x00\x01t\x00\x00\x00\x00\x00\x21\x20" + bytes(32)),
    )
    decision = offer(side, message)
    side.handshake.decide(decision.id, server_settings(make_certificates()).answer(decision.client_hello))
    side.drain()
    assert HandshakeType.CERTIFICATE in message_types(side)
    assert not side.handshake.session_resumed
    assert not side.handshake.early_data_accepted


def test_signature_of_each_key() -> None:
    """The scheme fits the certificate's key and the client's offer."""
    expected = {
        "p256": SignatureScheme.ECDSA_SECP256R1_SHA256,
        "p384": SignatureScheme.ECDSA_SECP384R1_SHA384,
        "ed25519": SignatureScheme.ED25519,
        "rsa": SignatureScheme.RSA_PSS_RSAE_SHA256,
    }
    for kind, scheme in expected.items():
        pair = Pair(certificates=make_certificates(kind)).run()
        pair.assert_complete()
        (message,) = (message for _, message in pair.server.sent() if message[0] == HandshakeType.CERTIFICATE_VERIFY)
        assert CertificateVerify.parse(message[4:]).algorithm == scheme


# What a client may not do, or may not expect.

Breaking = Callable[[ClientHello], ClientHello]


def without(kind: int) -> Breaking:
    return lambda message: change(message, (kind, None))


def with_content(kind: int, data: bytes) -> Breaking:
    return lambda message: change(message, (kind, data))


def psk_first(message: ClientHello) -> ClientHello:
    return replace(message, extensions=[(ExtensionType.PRE_SHARED_KEY, b""), *message.extensions])


def psk_alone(message: ClientHello) -> ClientHello:
    items = [item for item in message.extensions if item[0] != ExtensionType.PSK_KEY_EXCHANGE_MODES]
    offer = extensions.encode_pre_shared_keys([(b"label", 0)], [bytes(32)])
    return replace(message, extensions=[*items, (ExtensionType.PRE_SHARED_KEY, offer)])


BAD_HELLOS: dict[str, tuple[type[Alert], Breaking]] = {
    "no supported_versions": (AlertProtocolVersion, without(ExtensionType.SUPPORTED_VERSIONS)),
    "no extensions": (AlertProtocolVersion, lambda message: replace(message, extensions=[])),
    "TLS 1.2 alone": (AlertProtocolVersion, with_content(ExtensionType.SUPPORTED_VERSIONS, b"\x02\x03\x03")),
    "no signature_algorithms": (AlertMissingExtension, without(ExtensionType.SIGNATURE_ALGORITHMS)),
    "no supported_groups": (AlertMissingExtension, without(ExtensionType.SUPPORTED_GROUPS)),
    "no key_share": (AlertMissingExtension, without(ExtensionType.KEY_SHARE)),
    "no transport parameters": (AlertMissingExtension, without(TRANSPORT_PARAMETERS)),
    "pre_shared_key without modes": (AlertMissingExtension, psk_alone),
    "early data without pre_shared_key": (AlertIllegalParameter, with_content(ExtensionType.EARLY_DATA, b"")),
    "pre_shared_key not at the end": (AlertIllegalParameter, psk_first),
    "compression": (AlertIllegalParameter, lambda message: replace(message, legacy_compression_methods=b"\1\0")),
    "no compression method": (AlertDecodeError, lambda message: replace(message, legacy_compression_methods=b"")),
    "long session id": (AlertDecodeError, lambda message: replace(message, legacy_session_id=bytes(33))),
    "no cipher suites": (AlertDecodeError, lambda message: replace(message, cipher_suites=[])),
    "no common cipher suite": (AlertHandshakeFailure, lambda message: replace(message, cipher_suites=[0x1304, GREASE])),
    "share of a group not offered": (
        AlertIllegalParameter,
        with_content(ExtensionType.SUPPORTED_GROUPS, extensions.encode_integers([Group.SECP256R1])),
    ),
    "two shares of a group": (
        AlertIllegalParameter,
        with_content(ExtensionType.KEY_SHARE, extensions.encode_key_shares([(29, bytes(32)), (29, bytes(32))])),
    ),
    "empty share": (AlertDecodeError, with_content(ExtensionType.KEY_SHARE, b"\x00\x04\x00\x1d\x00\x00")),
    "empty supported_groups": (AlertDecodeError, with_content(ExtensionType.SUPPORTED_GROUPS, b"\0\0")),
    "odd signature_algorithms": (AlertDecodeError, with_content(ExtensionType.SIGNATURE_ALGORITHMS, b"\0\3\4\3\0")),
    "empty ALPN": (AlertDecodeError, with_content(ExtensionType.ALPN, b"\0\0")),
    "empty protocol": (AlertDecodeError, with_content(ExtensionType.ALPN, b"\0\2\0\0")),
    "empty cookie": (AlertDecodeError, with_content(ExtensionType.COOKIE, b"\0\0")),
    "empty server_name": (AlertDecodeError, with_content(ExtensionType.SERVER_NAME, b"\0\0")),
    "server_name that is not ASCII": (AlertIllegalParameter, with_content(0, b"\0\5\0\0\2\xc3\xa9")),
    "server_name with a zero": (AlertIllegalParameter, with_content(0, b"\0\6\0\0\3a\0b")),
    "two host names": (AlertIllegalParameter, with_content(0, b"\0\x08\0\0\1a\0\0\1b")),
    "repeated extension": (
        AlertIllegalParameter,
        lambda message: replace(message, extensions=[*message.extensions, (TRANSPORT_PARAMETERS, b"")]),
    ),
    "too many extensions": (
        AlertIllegalParameter,
        lambda message: replace(message, extensions=[*message.extensions, *((1000 + n, b"") for n in range(200))]),
    ),
}


@pytest.mark.parametrize("name", BAD_HELLOS)
def test_bad_client_hello(name: str) -> None:
    """The server answers with the alert that the RFC demands, before it asks anybody anything. Security row 13."""
    alert, breaking = BAD_HELLOS[name]
    side = server()
    with pytest.raises(alert) as caught:
        side.handshake.receive(EPOCH_INITIAL, breaking(hello()).encode())
    assert type(caught.value) is alert
    assert str(caught.value)
    assert side.handshake.is_failed
    assert not side.handshake.outputs


def test_legacy_version() -> None:
    message = bytearray(hello().encode())
    message[4:6] = b"\x03\x04"
    with pytest.raises(AlertProtocolVersion):
        server().handshake.receive(EPOCH_INITIAL, bytes(message))


def test_no_common_group() -> None:
    with pytest.raises(AlertHandshakeFailure, match="no key exchange group"):
        Pair(client={"groups": [Group.X25519]}, server={"groups": [Group.SECP256R1]}).run()


def test_no_common_signature() -> None:
    side = server()
    only_rsa = extensions.encode_integers([SignatureScheme.RSA_PSS_RSAE_SHA256])
    decision = offer(side, change(hello(), (ExtensionType.SIGNATURE_ALGORITHMS, only_rsa)))
    answer = server_settings(make_certificates()).answer(decision.client_hello)
    with pytest.raises(AlertHandshakeFailure, match="no signature"):
        side.handshake.decide(decision.id, answer)


@pytest.mark.parametrize("alpn", [["h2"], None])
def test_no_common_protocol(alpn: list[str] | None) -> None:
    """RFC 9001 §8.1: no_application_protocol, also for a client that offers none."""
    pair = Pair(client={"alpn": alpn})
    with pytest.raises(AlertNoApplicationProtocol) as caught:
        pair.run()
    assert caught.value.description == 120


@pytest.mark.parametrize(
    ("group", "share"),
    [
        (Group.X25519, bytes(32)),
        (Group.X25519, bytes(31)),
        (Group.SECP256R1, b"\x04" + bytes(64)),
        (Group.SECP256R1, b"\x02" + bytes(32)),
        pytest.param(Group.X25519MLKEM768, bytes(1215), marks=needs_mlkem),
        pytest.param(Group.X25519MLKEM768, b"\xff" * 1184 + b"\x09" + bytes(31), marks=needs_mlkem),
    ],
    ids=["X25519 zero", "X25519 short", "P-256 not on the curve", "P-256 compressed", "hybrid short", "hybrid key"],
)
def test_bad_share(group: int, share: bytes) -> None:
    side = server()
    decision = offer(side, change(hello(), (ExtensionType.KEY_SHARE, extensions.encode_key_shares([(group, share)]))))
    answer = server_settings(make_certificates()).answer(decision.client_hello)
    with pytest.raises(AlertIllegalParameter):
        side.handshake.decide(decision.id, answer)
    assert side.handshake.is_failed


# The second ClientHello (RFC 8446 §4.1.2).


def retried(**changes: Any) -> tuple[Side, ClientHello]:
    """A server that asked for P-256, and what an honest client answers."""
    pair = Pair(server={"groups": [Group.SECP256R1], "cookie": b"c"} | changes)
    pair.start()
    pair.client.drain()
    pair.server.handshake.receive(EPOCH_INITIAL, pair.client.sent()[0][1])
    pair.server.drain()
    (request,) = (message for _, message in pair.server.sent())
    pair.client.handshake.receive(EPOCH_INITIAL, request)
    pair.client.drain()
    return pair.server, ClientHello.parse(pair.client.sent()[1][1][4:])


def test_second_client_hello() -> None:
    """Asked once, after the retry; padding may come, go or grow."""
    side, second = retried()
    assert not side.of(ClientHelloDecision)
    offer(side, change(second, (ExtensionType.PADDING, bytes(100))))


BAD_SECONDS: dict[str, Breaking] = {
    "random": lambda message: replace(message, random=bytes(32)),
    "session id": lambda message: replace(message, legacy_session_id=b"x"),
    "cipher suites": lambda message: replace(message, cipher_suites=[0x1301]),
    "server name": with_content(ExtensionType.SERVER_NAME, extensions.encode_server_name("other.example")),
    "new extension": with_content(GREASE, b""),
    "extension gone": without(ExtensionType.ALPN),
    "early data": with_content(ExtensionType.EARLY_DATA, b""),
    "no cookie": without(ExtensionType.COOKIE),
    "other cookie": with_content(ExtensionType.COOKIE, extensions.encode_cookie(b"d")),
    "no share": with_content(ExtensionType.KEY_SHARE, b"\0\0"),
    "share of another group": with_content(
        ExtensionType.KEY_SHARE, extensions.encode_key_shares([(Group.X25519, b"\x09" + bytes(31))])
    ),
    "two shares": lambda message: change(
        message,
        (
            ExtensionType.KEY_SHARE,
            extensions.encode_key_shares([*(message.key_shares or []), (Group.X25519, b"\x09" + bytes(31))]),
        ),
    ),
}


@pytest.mark.parametrize("name", BAD_SECONDS)
def test_bad_second_client_hello(name: str) -> None:
    side, second = retried()
    with pytest.raises(AlertIllegalParameter):
        side.handshake.receive(EPOCH_INITIAL, BAD_SECONDS[name](second).encode())


def test_cookie_that_was_not_given() -> None:
    side, second = retried(cookie=b"")
    with pytest.raises(AlertIllegalParameter, match="cookie"):
        side.handshake.receive(EPOCH_INITIAL, change(second, (ExtensionType.COOKIE, b"\0\1c")).encode())


def test_bytes_after_a_client_hello() -> None:
    """Nothing can follow a ClientHello before it is answered."""
    side = server()
    side.handshake.receive(EPOCH_INITIAL, hello().encode() + b"\x01")
    (decision,) = (output for output in side.drain() if isinstance(output, ClientHelloDecision))
    answer = server_settings(make_certificates()).answer(decision.client_hello)
    with pytest.raises(AlertUnexpectedMessage):
        side.handshake.decide(decision.id, answer)


def test_bytes_after_a_client_hello_that_is_retried() -> None:
    side = server(groups=[Group.SECP384R1])
    message = hello().encode() + b"\x01"
    with pytest.raises(AlertUnexpectedMessage):
        side.handshake.receive(EPOCH_INITIAL, message)


# After the hello.


def waiting() -> Pair:
    """A pair whose server has sent its flight; the client's Finished is on its way."""
    pair = Pair(deliver=lambda from_client, epoch, data: [] if from_client and epoch == EPOCH_HANDSHAKE else [data])
    pair.run()
    assert not pair.server.handshake.is_complete
    return pair


def test_finished() -> None:
    """The server is complete with the client's Finished, and not before: no 1-RTT secret to receive with."""
    pair = waiting()
    assert (EPOCH_ONE_RTT, False) not in pair.server.secrets()
    assert (EPOCH_ONE_RTT, True) in pair.server.secrets()
    with pytest.raises(RuntimeError, match="once the handshake is complete"):
        pair.server.handshake.export_keying_material("label", b"", 32)
    pair.server.handshake.receive(EPOCH_HANDSHAKE, pair.client.sent()[-1][1])
    pair.server.drain()
    assert pair.server.of(HandshakeComplete)


@pytest.mark.parametrize(
    ("alert", "message"),
    [
        (AlertDecryptError, encode_message(HandshakeType.FINISHED, bytes(32))),
        (AlertDecodeError, encode_message(HandshakeType.FINISHED, bytes(31))),
        (AlertUnexpectedMessage, encode_message(HandshakeType.CERTIFICATE, b"\0\0\0\0")),
        (AlertUnexpectedMessage, encode_message(HandshakeType.END_OF_EARLY_DATA, b"")),
        (AlertUnexpectedMessage, encode_message(HandshakeType.KEY_UPDATE, b"\0")),
        (AlertUnexpectedMessage, encode_message(HandshakeType.CLIENT_HELLO, b"")),
    ],
    ids=["wrong Finished", "short Finished", "Certificate", "EndOfEarlyData", "KeyUpdate", "ClientHello"],
)
def test_bad_message_instead_of_finished(alert: type[Alert], message: bytes) -> None:
    pair = waiting()
    with pytest.raises(alert):
        pair.server.handshake.receive(EPOCH_HANDSHAKE, message)


@pytest.mark.parametrize("epoch", [EPOCH_INITIAL, EPOCH_ZERO_RTT, EPOCH_ONE_RTT])
def test_finished_at_a_wrong_level(epoch: int) -> None:
    """Security row 14."""
    pair = waiting()
    with pytest.raises(AlertUnexpectedMessage):
        pair.server.handshake.receive(epoch, pair.client.sent()[-1][1])


@pytest.mark.parametrize("kind", list(HandshakeType))
def test_nothing_after_the_handshake(kind: HandshakeType) -> None:
    """Security row 1: a client has nothing to say in 1-RTT CRYPTO; four bytes are enough to know."""
    pair = Pair().run()
    with pytest.raises(AlertUnexpectedMessage):
        pair.server.handshake.receive(EPOCH_ONE_RTT, bytes((kind, 0xFF, 0xFF, 0xFF)))


# Decisions.


def test_answer_refuses() -> None:
    side = server()
    decision = offer(side, hello())
    with pytest.raises(AlertUnrecognizedName):
        side.handshake.decide(decision.id, AlertUnrecognizedName("no such host here"))
    assert side.handshake.is_failed


def test_answers_that_cannot_be_used() -> None:
    """Mistakes of the caller raise at once, and the decision is still awaited."""
    side = server()
    decision = offer(side, hello())
    certificates = make_certificates()
    good = ClientHelloAnswer(certificates.chain, certificates.private_key, "h3")
    with pytest.raises(TypeError, match="ClientHelloAnswer"):
        side.handshake.decide(decision.id, True)
    with pytest.raises(ValueError, match="needs a certificate"):
        side.handshake.decide(decision.id, replace(good, certificate_chain=[]))
    with pytest.raises(ValueError, match="does not belong"):
        side.handshake.decide(decision.id, replace(good, private_key=make_key("ed25519")))
    with pytest.raises(ValueError, match="does not offer application protocol 'h2'"):
        side.handshake.decide(decision.id, replace(good, alpn="h2"))
    assert side.handshake.is_suspended
    side.handshake.decide(decision.id, good)
    assert not side.handshake.is_suspended


def test_answer_by_server_name() -> None:
    """The owner chooses chain, protocol and extensions when it sees the hello."""
    pair = Pair(client={"server_name": "b.example", "alpn": ["x", "y"]})
    pair.hold = True
    pair.run()
    (decision,) = pair.held
    assert isinstance(decision, ClientHelloDecision)
    assert decision.client_hello.server_name == "b.example"
    other = make_certificates("ed25519", names=("b.example",))
    pair.server.handshake.decide(decision.id, ClientHelloAnswer(other.chain, other.private_key, "y"))
    pair.hold = False
    pair.run().assert_complete()
    assert pair.client.handshake.alpn == "y"
    assert pair.client.handshake.peer_certificates == other.chain


def test_extensions_of_the_answer() -> None:
    pair = Pair()
    pair.client.handshake.local_extensions.append((0xFFA5, b"asked"))
    pair.hold = True
    pair.run()
    (decision,) = pair.held
    assert isinstance(decision, ClientHelloDecision)
    answer = pair.server_settings.answer(decision.client_hello, [(0xFFA5, b"more")])
    pair.server.handshake.decide(decision.id, answer)
    pair.hold = False
    pair.run().assert_complete()
    assert pair.client.peer_extensions() == {TRANSPORT_PARAMETERS: b"of the server", 0xFFA5: b"more"}
