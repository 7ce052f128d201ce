"""The five handshakes printed in RFC 8448, byte for byte: the key schedule, and the machines themselves.

The machines are the real ones. What a trace fixes and this implementation would choose differently (the order of extensions
in a ClientHello, a randomised signature) is put in through the methods that build those messages; the keys and randoms of
the trace are injected through the settings and the environment.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa, x25519

from helpers.handshakes import FixedEnvironment, Side, split
from quicio.tls.client import ClientHandshake
from quicio.tls.constants import (
    EPOCH_HANDSHAKE,
    EPOCH_INITIAL,
    EPOCH_ONE_RTT,
    EPOCH_ZERO_RTT,
    HELLO_RETRY_REQUEST_RANDOM,
    CipherSuite,
    ExtensionType,
    Group,
    HandshakeType,
)
from quicio.tls.extensions import parse_cookie
from quicio.tls.groups import EllipticCurveKeyPair, KeyPair, X25519KeyPair
from quicio.tls.issuing import KeptTickets
from quicio.tls.key_schedule import (
    KeySchedule,
    Transcript,
    finished_verify_data,
    hkdf_expand,
    hkdf_expand_label,
    hkdf_extract,
)
from quicio.tls.messages import (
    Certificate,
    CertificateRequest,
    CertificateVerify,
    ClientHello,
    EncryptedExtensions,
    Finished,
    NewSessionTicket,
    ServerHello,
)
from quicio.tls.outputs import (
    CertificateDecision,
    ClientHelloAnswer,
    ClientHelloDecision,
    HandshakeComplete,
    InstallSecret,
    SendHandshake,
    TicketReceived,
)
from quicio.tls.server import ServerHandshake
from quicio.tls.settings import ClientSettings, ServerSettings
from quicio.tls.tickets import SessionTicket

TRACES = json.loads((Path(__file__).parent.parent / "vectors" / "rfc8448-tls13-traces.json").read_text("utf-8"))
RECORD_SIZE_LIMIT = 0x1C

Step = tuple[str, str, dict[str, bytes]]


def steps(section: str) -> list[Step]:
    """The steps of a trace that print values: actor, operation, fields."""
    (found,) = (item for item in TRACES["sections"] if item["section"] == section)
    return [
        (step["actor"], step["operation"], {field["name"]: bytes.fromhex(field["hex"]) for field in step["fields"]})
        for step in found["steps"]
        if step["fields"]
    ]


SECTIONS = ("3", "4", "5", "6", "7")
ALL_STEPS = [(section, *step) for section in SECTIONS for step in steps(section)]


class Trace:
    """One trace: its messages in order, its keys, its derived secrets by label."""

    def __init__(self, section: str) -> None:
        self.steps = steps(section)
        self.messages = [
            (actor, next(iter(fields.values())))
            for actor, operation, fields in self.steps
            if "construct a" in operation
        ]

    def message(self, actor: str, kind: int, *, number: int = 0) -> bytes:
        return [data for who, data in self.messages if who == actor and data[0] == kind][number]

    def key(self, actor: str, number: int = 0) -> tuple[bytes, bytes]:
        """Private and public part of an ephemeral key."""
        pairs = [f for who, operation, f in self.steps if who == actor and "ephemeral" in operation]
        return pairs[number]["private key"], pairs[number]["public key"]

    def secret(self, label: str) -> bytes:
        """The first secret derived under `label`."""
        (found, *_) = (f["expanded"] for _, operation, f in self.steps if f'"tls13 {label}"' in operation)
        return found

    def client_hello(self) -> bytes:
        return self.message("client", HandshakeType.CLIENT_HELLO)


def sent_client_hello(trace: Trace) -> bytes:
    """The ClientHello as it went out, binders included."""
    records = [fields["payload"] for actor, operation, fields in trace.steps if operation == "send handshake record"]
    return records[0]


# The key schedule.

EXTRACTIONS = [step for step in ALL_STEPS if "IKM" in step[3]]
EXPANSIONS = [
    (*step[:3], prefix, step[3]) for step in ALL_STEPS for prefix in ("", "key ", "iv ") if f"{prefix}info" in step[3]
]


@pytest.mark.parametrize(("section", "actor", "operation", "fields"), EXTRACTIONS)
def test_extraction(section: str, actor: str, operation: str, fields: dict[str, bytes]) -> None:
    assert hkdf_extract("sha256", fields["salt"] or bytes(32), fields["IKM"]) == fields["secret"]


@pytest.mark.parametrize(("section", "actor", "operation", "prefix", "fields"), EXPANSIONS)
def test_expansion(section: str, actor: str, operation: str, prefix: str, fields: dict[str, bytes]) -> None:
    """The printed HkdfLabel is what we build from its label and context, and expands to what is printed."""
    info, expanded = fields[f"{prefix}info"], fields[f"{prefix}expanded"]
    label = info[3 : 3 + info[2]].removeprefix(b"tls13 ").decode()
    context = info[4 + info[2] :]
    assert int.from_bytes(info[:2], "big") == len(expanded)
    assert hkdf_expand("sha256", fields["PRK"], info, len(expanded)) == expanded
    assert hkdf_expand_label("sha256", fields["PRK"], label, context, len(expanded)) == expanded


def test_number_of_derivations() -> None:
    """The parametrised tests above cover all that the traces print."""
    assert (len(EXTRACTIONS), len(EXPANSIONS)) == (15, 101)


@pytest.mark.parametrize("section", ["3", "5", "6", "7"])
def test_key_schedule(section: str) -> None:
    """From messages and the key exchange alone, `Transcript` and `KeySchedule` arrive at every secret of the trace."""
    trace = Trace(section)
    transcript = Transcript()
    remaining = list(trace.messages)
    hello = remaining.pop(0)[1]
    transcript.add(hello)
    transcript.use("sha256")
    if remaining[0][1][6:38] == HELLO_RETRY_REQUEST_RANDOM:
        transcript.restart_with_message_hash()
        for _ in range(2):
            transcript.add(remaining.pop(0)[1])
    transcript.add(remaining.pop(0)[1])
    schedule = KeySchedule(CipherSuite.AES_128_GCM_SHA256)
    extractions = [fields["IKM"] for _, operation, fields in trace.steps if 'secret "handshake"' in operation]
    schedule.advance(extractions[0])
    client_secret = schedule.derive("c hs traffic", transcript.digest())
    server_secret = schedule.derive("s hs traffic", transcript.digest())
    assert client_secret == trace.secret("c hs traffic")
    assert server_secret == trace.secret("s hs traffic")
    schedule.advance()
    seen_server_finished = False
    for actor, message in remaining:
        if message[0] == HandshakeType.FINISHED:
            base = server_secret if actor == "server" else client_secret
            assert message[4:] == finished_verify_data("sha256", base, transcript.digest())
        if message[0] == HandshakeType.NEW_SESSION_TICKET:
            break
        transcript.add(message)
        if message[0] == HandshakeType.FINISHED and actor == "server":
            seen_server_finished = True
            for label in ("c ap traffic", "s ap traffic", "exp master"):
                assert schedule.derive(label, transcript.digest()) == trace.secret(label)
    assert seen_server_finished
    assert schedule.derive("res master", transcript.digest()) == trace.secret("res master")


def test_resumption_key_and_early_secrets() -> None:
    """§3 ends with a ticket; its key starts the schedule of §4, whose binder and early secrets follow."""
    first, second = Trace("3"), Trace("4")
    schedule = KeySchedule(CipherSuite.AES_128_GCM_SHA256)
    ticket = NewSessionTicket.parse(first.message("server", HandshakeType.NEW_SESSION_TICKET)[4:])
    key = schedule.resumption_key(first.secret("res master"), ticket.nonce)
    assert key == first.secret("resumption")
    resumed = KeySchedule(CipherSuite.AES_128_GCM_SHA256, key)
    (binder,) = (fields for _, operation, fields in second.steps if "PSK binder" in operation)
    binder_secret = resumed.derive("res binder", hashlib.sha256().digest())
    assert binder_secret == binder["PRK"]
    assert finished_verify_data("sha256", binder_secret, binder["binder hash"]) == binder["finished"]
    hello = sent_client_hello(second)
    digest = hashlib.sha256(hello).digest()
    assert resumed.derive("c e traffic", digest) == second.secret("c e traffic")
    assert resumed.derive("e exp master", digest) == second.secret("e exp master")


# Messages.

PARSERS: dict[int, Any] = {
    HandshakeType.CLIENT_HELLO: ClientHello.parse,
    HandshakeType.SERVER_HELLO: ServerHello.parse,
    HandshakeType.ENCRYPTED_EXTENSIONS: EncryptedExtensions.parse,
    HandshakeType.CERTIFICATE_REQUEST: CertificateRequest.parse,
    HandshakeType.CERTIFICATE: Certificate.parse,
    HandshakeType.CERTIFICATE_VERIFY: CertificateVerify.parse,
    HandshakeType.FINISHED: lambda body: Finished.parse(body, 32),
    HandshakeType.NEW_SESSION_TICKET: NewSessionTicket.parse,
}
MESSAGES = [
    (section, data)
    for section in SECTIONS
    for _, data in Trace(section).messages
    # §4 prints its ClientHello without binders, and an EndOfEarlyData, which QUIC does not have (RFC 9001 §8.3).
    if not (section == "4" and data[0] in (HandshakeType.CLIENT_HELLO, HandshakeType.END_OF_EARLY_DATA))
]


@pytest.mark.parametrize(("section", "message"), MESSAGES)
def test_messages_round_trip(section: str, message: bytes) -> None:
    assert PARSERS[message[0]](message[4:]).encode() == message


# The client machine.


class TracedClient(ClientHandshake):
    """A client that says what the trace's client said."""

    def __init__(self, settings: ClientSettings, hellos: list[bytes]) -> None:
        super().__init__(settings, FixedEnvironment())
        self._hellos = hellos
        self.local_extensions = [(RECORD_SIZE_LIMIT, b"")]

    def _build_client_hello(self, cookie: bytes | None) -> ClientHello:
        hello = ClientHello.parse(self._hellos.pop(0)[4:])
        assert hello.cookie == cookie
        return hello


def traced_pair(private: bytes) -> KeyPair:
    return X25519KeyPair(x25519.X25519PrivateKey.from_private_bytes(private))


def p256_pair(private: bytes) -> KeyPair:
    return EllipticCurveKeyPair(ec.derive_private_key(int.from_bytes(private, "big"), ec.SECP256R1()))


def run_client(section: str) -> tuple[Trace, Side]:
    """Give a client all that the trace's server sends; answer its decision."""
    trace = Trace(section)
    hellos = [data for who, data in trace.messages if who == "client" and data[0] == HandshakeType.CLIENT_HELLO]
    pairs = [traced_pair(trace.key("client")[0])]
    if len(hellos) == 2:
        pairs.append(p256_pair(trace.key("client", 1)[0]))
    settings = ClientSettings(
        groups=[Group.X25519, Group.SECP256R1],
        cipher_suites=[CipherSuite.AES_128_GCM_SHA256],
        generate_key_pair=lambda group: pairs.pop(0),
    )
    side = Side(TracedClient(settings, hellos))
    handshake = side.handshake
    assert isinstance(handshake, ClientHandshake)
    handshake.start()
    for actor, message in trace.messages:
        if actor != "server":
            continue
        epoch = EPOCH_HANDSHAKE
        if message[0] == HandshakeType.SERVER_HELLO:
            epoch = EPOCH_INITIAL
        elif message[0] == HandshakeType.NEW_SESSION_TICKET:
            epoch = EPOCH_ONE_RTT
        handshake.receive(epoch, message)
        for output in side.drain():
            if isinstance(output, CertificateDecision):
                handshake.decide(output.id, True)
    side.drain()
    return trace, side


@pytest.mark.parametrize("section", ["3", "5", "6", "7"])
def test_client(section: str) -> None:
    """The client arrives at the trace's secrets and, where it has nothing of its own to add, at its Finished."""
    trace, side = run_client(section)
    assert side.of(HandshakeComplete)
    assert side.secrets() == {
        (EPOCH_HANDSHAKE, True): trace.secret("c hs traffic"),
        (EPOCH_HANDSHAKE, False): trace.secret("s hs traffic"),
        (EPOCH_ONE_RTT, True): trace.secret("c ap traffic"),
        (EPOCH_ONE_RTT, False): trace.secret("s ap traffic"),
    }
    flight = split(side.of(SendHandshake)[-1].data)
    if section == "6":  # asked for a certificate, it has none
        assert [message[0] for message in flight] == [HandshakeType.CERTIFICATE, HandshakeType.FINISHED]
    else:
        assert flight == [trace.message("client", HandshakeType.FINISHED)]


def test_client_ticket() -> None:
    """The ticket at the end of §3 comes with the pre-shared key that the trace derives."""
    trace, side = run_client("3")
    (ticket,) = side.of(TicketReceived)
    printed = NewSessionTicket.parse(trace.message("server", HandshakeType.NEW_SESSION_TICKET)[4:])
    made = ticket.ticket
    assert made.resumption_secret == trace.secret("resumption")
    assert (made.age_add, made.ticket, made.max_early_data_size) == (printed.age_add, printed.ticket, 1024)
    assert (made.not_valid_after - made.not_valid_before).total_seconds() == printed.lifetime == 30


# The server machine.


class TracedServer(ServerHandshake):
    """A server whose extensions and signature are the trace's: the one differs in taste, the other is randomised."""

    trace: Trace

    def _build_encrypted_extensions(self, hello: ClientHello, answer: ClientHelloAnswer) -> EncryptedExtensions:
        return EncryptedExtensions.parse(self.trace.message("server", HandshakeType.ENCRYPTED_EXTENSIONS)[4:])

    def _sign(self, answer: ClientHelloAnswer, scheme: int) -> CertificateVerify:
        return CertificateVerify.parse(self.trace.message("server", HandshakeType.CERTIFICATE_VERIFY)[4:])


class TracedEnvironment(FixedEnvironment):
    """Its only random bytes are given."""

    def __init__(self, random: bytes) -> None:
        super().__init__()
        self._bytes = random

    def random_bytes(self, size: int) -> bytes:
        assert len(self._bytes) == size
        return self._bytes


def rsa_key() -> rsa.RSAPrivateKey:
    """The private key of the traces' server."""
    ((_, _, fields),) = steps("2")
    n, e, d, p, q, dp, dq, qi = (int.from_bytes(value, "big") for value in fields.values())
    return rsa.RSAPrivateNumbers(p, q, d, dp, dq, qi, rsa.RSAPublicNumbers(e, n)).private_key()


@pytest.mark.parametrize("section", ["3", "5", "7"])
def test_server(section: str) -> None:
    """Given the trace's hellos, keys and randoms, the server sends the trace's messages and takes the client's Finished.

    In §5 it first asks for another key share, with a cookie.
    """
    trace = Trace(section)
    is_retried = section == "5"
    server_hello = ServerHello.parse(trace.message("server", HandshakeType.SERVER_HELLO, number=int(is_retried))[4:])
    (entry, *_) = Certificate.parse(trace.message("server", HandshakeType.CERTIFICATE)[4:]).entries
    settings = ServerSettings(
        groups=[Group.SECP256R1 if is_retried else Group.X25519],
        generate_key_pair=lambda group: (p256_pair if is_retried else traced_pair)(trace.key("server")[0]),
    )
    if is_retried:
        retry = ServerHello.parse(trace.message("server", HandshakeType.SERVER_HELLO)[4:])
        settings.cookie = parse_cookie(dict(retry.extensions)[ExtensionType.COOKIE])
    handshake = TracedServer(settings, TracedEnvironment(server_hello.random))
    handshake.trace = trace
    side = Side(handshake)
    for actor, message in trace.messages:
        if actor == "client" and message[0] == HandshakeType.CLIENT_HELLO:
            handshake.receive(EPOCH_INITIAL, message)
    (decision,) = (output for output in side.drain() if isinstance(output, ClientHelloDecision))
    assert decision.client_hello.server_name == "server"
    handshake.decide(decision.id, ClientHelloAnswer([x509.load_der_x509_certificate(entry[0])], rsa_key()))
    side.drain()
    printed = [data for who, data in trace.messages if who == "server" and data[0] != HandshakeType.NEW_SESSION_TICKET]
    assert [data for _, data in side.sent()] == printed
    handshake.receive(EPOCH_HANDSHAKE, trace.message("client", HandshakeType.FINISHED))
    side.drain()
    assert handshake.is_complete
    assert side.secrets() == {
        (EPOCH_HANDSHAKE, False): trace.secret("c hs traffic"),
        (EPOCH_HANDSHAKE, True): trace.secret("s hs traffic"),
        (EPOCH_ONE_RTT, False): trace.secret("c ap traffic"),
        (EPOCH_ONE_RTT, True): trace.secret("s ap traffic"),
    }


def test_server_declines_resumption() -> None:
    """§4: offered a ticket and early data, a server that knows no tickets runs a full handshake (RFC 8446 §4.2.10)."""
    trace = Trace("4")
    hello = sent_client_hello(trace)
    (entry, *_) = Certificate.parse(Trace("3").message("server", HandshakeType.CERTIFICATE)[4:]).entries
    handshake = ServerHandshake(ServerSettings(groups=[Group.X25519]), FixedEnvironment())
    side = Side(handshake)
    handshake.receive(EPOCH_INITIAL, hello)
    (decision,) = (output for output in side.drain() if isinstance(output, ClientHelloDecision))
    assert decision.client_hello.has_pre_shared_key
    assert decision.client_hello.has_early_data
    handshake.decide(decision.id, ClientHelloAnswer([x509.load_der_x509_certificate(entry[0])], rsa_key()))
    side.drain()
    assert [message[0] for _, message in side.sent()] == [2, 8, 11, 15, 20]
    assert not handshake.session_resumed
    assert not handshake.early_data_accepted


# Resumption, §4.


def the_ticket() -> SessionTicket:
    """The ticket of §3 as either side keeps it."""
    _, side = run_client("3")
    (received,) = side.of(TicketReceived)
    ticket: SessionTicket = received.ticket
    ticket.server_name = "server"
    return ticket


class AgedEnvironment(FixedEnvironment):
    """Its date is such that the ticket has the age which the trace's ClientHello states."""

    def __init__(self, ticket: SessionTicket, obfuscated_age: int) -> None:
        age = (obfuscated_age - ticket.age_add) % (1 << 32)
        super().__init__(now=ticket.not_valid_before.timestamp() + age / 1000)


class ResumingClient(ClientHandshake):
    """A client that says what the trace's client said, but for the pre_shared_key, which it makes itself."""

    hello: bytes

    def _build_client_hello(self, cookie: bytes | None) -> ClientHello:
        hello = ClientHello.parse(self.hello[4:])
        del hello.extensions[-1]
        return hello


def test_client_resumes() -> None:
    """§4: the binder, the early secret and all that follows are the trace's."""
    trace = Trace("4")
    sent = sent_client_hello(trace)
    ticket = the_ticket()
    ((_, age),) = ClientHello.parse(sent[4:]).identities
    settings = ClientSettings(
        server_name="server",
        groups=[Group.X25519],
        cipher_suites=[CipherSuite.AES_128_GCM_SHA256],
        generate_key_pair=lambda group: traced_pair(trace.key("client")[0]),
        session_ticket=ticket,
        early_data=True,
    )
    client = ResumingClient(settings, AgedEnvironment(ticket, age))
    client.hello = sent
    client.local_extensions = [(RECORD_SIZE_LIMIT, b"")]
    side = Side(client)
    client.start()
    side.drain()
    assert side.of(SendHandshake)[0].data == sent
    assert side.secrets() == {(EPOCH_ZERO_RTT, True): trace.secret("c e traffic")}
    for kind, epoch in (
        (HandshakeType.SERVER_HELLO, EPOCH_INITIAL),
        (HandshakeType.ENCRYPTED_EXTENSIONS, EPOCH_HANDSHAKE),
    ):
        client.receive(epoch, trace.message("server", kind))
    assert client.session_resumed
    assert client.early_data_accepted
    side.drain()
    assert side.secrets()[EPOCH_HANDSHAKE, True] == trace.secret("c hs traffic")
    assert side.secrets()[EPOCH_HANDSHAKE, False] == trace.secret("s hs traffic")
    # The rest of the trace is bound to its EndOfEarlyData, which QUIC does not have; the server's part is before it.
    client.receive(EPOCH_HANDSHAKE, trace.message("server", HandshakeType.FINISHED))
    side.drain()
    assert client.is_complete
    assert side.secrets()[EPOCH_ONE_RTT, True] == trace.secret("c ap traffic")
    assert side.secrets()[EPOCH_ONE_RTT, False] == trace.secret("s ap traffic")


def test_server_resumes() -> None:
    """§4: the server checks the trace's binder, accepts its early data, and sends the trace's messages."""
    trace = Trace("4")
    ticket = the_ticket()
    sent = sent_client_hello(trace)
    ((label, age),) = ClientHello.parse(sent[4:]).identities
    kept = {label: ticket}
    server_hello = ServerHello.parse(trace.message("server", HandshakeType.SERVER_HELLO)[4:])
    environment = AgedEnvironment(ticket, age)
    settings = ServerSettings(
        groups=[Group.X25519],
        generate_key_pair=lambda group: traced_pair(trace.key("server")[0]),
        tickets=KeptTickets(kept.get, lambda ticket: None, environment=environment),
        max_early_data_size=1024,
    )

    class Randoms(AgedEnvironment):
        def random_bytes(self, size: int) -> bytes:
            return server_hello.random

    server = TracedServer(settings, Randoms(ticket, age))
    server.trace = trace
    side = Side(server)
    server.receive(EPOCH_INITIAL, sent)
    (decision,) = (output for output in side.drain() if isinstance(output, ClientHelloDecision))
    assert decision.ticket is ticket
    assert decision.offers_early_data
    (entry, *_) = Certificate.parse(Trace("3").message("server", HandshakeType.CERTIFICATE)[4:]).entries
    answer = ClientHelloAnswer([x509.load_der_x509_certificate(entry[0])], rsa_key(), accept_early_data=True)
    server.decide(decision.id, answer)
    side.drain()
    assert server.session_resumed
    assert server.early_data_accepted
    assert [item.epoch for item in side.of(InstallSecret)] == [EPOCH_ZERO_RTT, EPOCH_HANDSHAKE, EPOCH_HANDSHAKE, 3]
    assert side.secrets() == {
        (EPOCH_ZERO_RTT, False): trace.secret("c e traffic"),
        (EPOCH_HANDSHAKE, False): trace.secret("c hs traffic"),
        (EPOCH_HANDSHAKE, True): trace.secret("s hs traffic"),
        (EPOCH_ONE_RTT, True): trace.secret("s ap traffic"),
    }
    kinds = (HandshakeType.SERVER_HELLO, HandshakeType.ENCRYPTED_EXTENSIONS, HandshakeType.FINISHED)
    assert [data for _, data in side.sent()] == [trace.message("server", kind) for kind in kinds]
