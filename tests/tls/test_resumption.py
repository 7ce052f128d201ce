"""Two handshakes, the second with the first one's ticket: what each side makes of it, and of a peer that breaks the rules."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from helpers.handshakes import TRANSPORT_PARAMETERS, Pair, Side, message_types
from quicio.tls import extensions
from quicio.tls.alerts import Alert, AlertDecryptError, AlertIllegalParameter, AlertUnexpectedMessage
from quicio.tls.constants import (
    EPOCH_HANDSHAKE,
    EPOCH_ONE_RTT,
    EPOCH_ZERO_RTT,
    MAX_IDENTITIES_TRIED,
    CipherSuite,
    ExtensionType,
    Group,
    HandshakeType,
)
from quicio.tls.issuing import SealedTickets
from quicio.tls.messages import CertificateRequest, ClientHello, EncryptedExtensions, NewSessionTicket, ServerHello
from quicio.tls.outputs import ClientHelloDecision, InstallSecret, TicketReceived
from quicio.tls.server import ServerHandshake
from quicio.tls.tickets import SessionTicket

EARLY = 0xFFFFFFFF
CERTIFICATES = Pair().certificates
TICKETS = SealedTickets(environment=Pair().environment)


def pair(*, client: dict[str, Any] | None = None, server: dict[str, Any] | None = None, **options: Any) -> Pair:
    settings: dict[str, Any] = {"tickets": TICKETS, "max_early_data_size": EARLY}
    return Pair(client=client, server=settings | (server or {}), certificates=CERTIFICATES, **options)


def get_ticket(**options: Any) -> SessionTicket:
    """A ticket of a first handshake."""
    first = pair(**options).run()
    issue(first)
    (received,) = first.client.of(TicketReceived)
    ticket: SessionTicket = received.ticket
    return ticket


def issue(done: Pair) -> bool:
    server = done.server.handshake
    assert isinstance(server, ServerHandshake)
    issued = server.issue_ticket([(TRANSPORT_PARAMETERS, b"remembered")])
    done.run()
    return issued


def resume(ticket: SessionTicket, *, accept: bool = True, **options: Any) -> Pair:
    """The second handshake, with early data offered, its answers permitting it or not."""
    options["client"] = {"session_ticket": ticket, "early_data": True} | options.get("client", {})
    second = pair(**options)
    second.hold = True
    second.run()
    while second.held:
        decision = second.held.pop()
        if isinstance(decision, ClientHelloDecision):
            answer = second.server_settings.answer(decision.client_hello)
            if not isinstance(answer, Alert):
                answer.accept_early_data = accept
            second.server.handshake.decide(decision.id, answer)
        else:
            second.answer(decision)
        second.run()
    return second


def secret_epochs(side: Side) -> list[int]:
    return [output.epoch for output in side.of(InstallSecret)]


TICKET = get_ticket()


def test_the_ticket() -> None:
    assert TICKET.max_early_data_size == EARLY
    assert TICKET.cipher_suite is CipherSuite.AES_128_GCM_SHA256
    assert (TICKET.not_valid_after - TICKET.not_valid_before).total_seconds() == TICKETS.lifetime
    found = TICKETS.find(TICKET.ticket)
    assert found is not None
    assert found.resumption_secret == TICKET.resumption_secret
    assert found.age_add == TICKET.age_add
    assert found.extension(TRANSPORT_PARAMETERS) == b"remembered"
    assert TICKET.extension(TRANSPORT_PARAMETERS) is None  # what the server remembers is its own


def test_resumed_with_early_data() -> None:
    second = resume(TICKET)
    client, server = second.client.handshake, second.server.handshake
    for side in (client, server):
        assert side.is_complete
        assert side.session_resumed
        assert side.early_data_offered
        assert side.early_data_accepted
    assert message_types(second.server) == [
        HandshakeType.SERVER_HELLO,
        HandshakeType.ENCRYPTED_EXTENSIONS,
        HandshakeType.FINISHED,
    ]
    assert message_types(second.client) == [HandshakeType.CLIENT_HELLO, HandshakeType.FINISHED]  # no EndOfEarlyData
    assert second.client.secrets()[EPOCH_ZERO_RTT, True] == second.server.secrets()[EPOCH_ZERO_RTT, False]
    assert secret_epochs(second.client)[0] == EPOCH_ZERO_RTT
    assert client.peer_certificates == CERTIFICATES.chain
    exported = client.export_keying_material("label", b"", 32)
    assert exported == server.export_keying_material("label", b"", 32)
    assert second.client.secrets()[EPOCH_ONE_RTT, True] != pair().run().client.secrets()[EPOCH_ONE_RTT, True]


def test_a_resumed_session_gives_tickets_too() -> None:
    second = resume(TICKET)
    assert issue(second)
    (received,) = second.client.of(TicketReceived)
    assert received.ticket.peer_certificates() == CERTIFICATES.chain
    assert resume(received.ticket).client.handshake.session_resumed


def test_early_data_that_the_answer_does_not_permit() -> None:
    second = resume(TICKET, accept=False)
    assert second.server.handshake.session_resumed
    assert not second.client.handshake.early_data_accepted
    assert EPOCH_ZERO_RTT not in secret_epochs(second.server)


def test_a_session_that_the_answer_does_not_permit() -> None:
    second = pair(client={"session_ticket": TICKET, "early_data": True})
    second.hold = True
    second.run()
    decision = second.held.pop()
    assert isinstance(decision, ClientHelloDecision)
    assert decision.ticket is not None
    assert decision.offers_early_data
    answer = second.server_settings.answer(decision.client_hello)
    assert not isinstance(answer, Alert)
    answer.resume = False
    answer.accept_early_data = True
    second.server.handshake.decide(decision.id, answer)
    second.hold = False
    second.run()
    second.run()
    for side in (second.client.handshake, second.server.handshake):
        assert not side.session_resumed
        assert not side.early_data_accepted
    assert HandshakeType.CERTIFICATE in message_types(second.server)


def test_hello_retry_request() -> None:
    """The session goes on after it; early data does not (RFC 8446 §4.2.10)."""
    second = resume(TICKET, server={"groups": [Group.SECP256R1]})
    assert message_types(second.client).count(HandshakeType.CLIENT_HELLO) == 2
    assert second.client.handshake.session_resumed
    assert not second.client.handshake.early_data_accepted
    hellos = [ClientHello.parse(data[4:]) for _, data in second.client.sent() if data[0] == HandshakeType.CLIENT_HELLO]
    assert [hello.has_early_data for hello in hellos] == [True, False]
    assert hellos[0].binders != hellos[1].binders


def test_hello_retry_request_for_another_hash() -> None:
    """The ticket's hash is not that of the server's choice: it is not offered again (RFC 8446 §4.1.4)."""
    suites = {"groups": [Group.SECP256R1], "cipher_suites": [CipherSuite.AES_256_GCM_SHA384]}
    second = resume(TICKET, server=suites)
    hellos = [ClientHello.parse(data[4:]) for _, data in second.client.sent() if data[0] == HandshakeType.CLIENT_HELLO]
    assert [hello.has_pre_shared_key for hello in hellos] == [True, False]
    assert second.client.handshake.is_complete
    assert not second.client.handshake.session_resumed


@pytest.mark.parametrize(
    "changes",
    [
        {"server_name": "another.example"},
        {"cipher_suite": CipherSuite.EMPTY_RENEGOTIATION_INFO_SCSV},
        {"cipher_suite": CipherSuite.AES_256_GCM_SHA384},
        {"not_valid_after": TICKET.not_valid_before.replace(year=2020)},
        {"not_valid_before": TICKET.not_valid_before.replace(year=2025, month=11)},
        {"other_extensions": [(0xFF51, b"\0\0\1")]},
    ],
)
def test_tickets_that_are_not_offered(changes: dict[str, Any]) -> None:
    """Of another name, cipher suite or date, older than seven days, or damaged."""
    second = resume(dataclasses.replace(TICKET, **changes), client={"cipher_suites": [CipherSuite.AES_128_GCM_SHA256]})
    (hello,) = [
        ClientHello.parse(data[4:]) for _, data in second.client.sent() if data[0] == HandshakeType.CLIENT_HELLO
    ]
    assert not hello.has_pre_shared_key
    assert not second.client.handshake.early_data_offered
    assert second.client.handshake.is_complete


@pytest.mark.parametrize(
    ("changes", "client"),
    [
        ({"max_early_data_size": None}, {}),
        ({}, {"early_data": False}),
        ({}, {"alpn": ["other", "h3"][:1]}),
        ({"other_extensions": []}, {}),
        ({}, {"cipher_suites": [CipherSuite.CHACHA20_POLY1305_SHA256]}),
    ],
)
def test_early_data_that_is_not_offered(changes: dict[str, Any], client: dict[str, Any]) -> None:
    second = resume(dataclasses.replace(TICKET, **changes), client=client, server={"alpn": ["h3", "other"]})
    assert second.client.handshake.session_resumed
    assert not second.client.handshake.early_data_offered
    assert EPOCH_ZERO_RTT not in secret_epochs(second.client)


def test_servers_that_do_not_find_the_ticket() -> None:
    other = SealedTickets([b"another secret of thirty-two byte"], environment=Pair().environment)
    for server in ({"tickets": None}, {"tickets": other}):
        second = resume(TICKET, server=server)
        assert second.client.handshake.is_complete
        assert not second.client.handshake.session_resumed
        assert not second.client.handshake.early_data_accepted


def test_no_tickets_without_issuer_or_wish() -> None:
    done = pair(server={"tickets": None}).run()
    assert not issue(done)
    early = pair().server.handshake
    assert isinstance(early, ServerHandshake)
    assert not early.issue_ticket()


# Peers that break the rules.


def change_hello(change: Callable[[ClientHello], None]) -> Callable[[bool, int, bytes], list[bytes]]:
    """Rewrites the client's first message on its way."""

    def deliver(from_client: bool, epoch: int, message: bytes) -> list[bytes]:
        if message[0] != HandshakeType.CLIENT_HELLO:
            return [message]
        hello = ClientHello.parse(message[4:])
        change(hello)
        return [hello.encode()]

    return deliver


def set_keys(identities: list[tuple[bytes, int]], binders: list[bytes]) -> Callable[[ClientHello], None]:
    def change(hello: ClientHello) -> None:
        hello.extensions[-1] = (ExtensionType.PRE_SHARED_KEY, extensions.encode_pre_shared_keys(identities, binders))

    return change


def test_a_wrong_binder() -> None:
    with pytest.raises(AlertDecryptError, match="binder"):
        resume(TICKET, deliver=change_hello(set_keys([(TICKET.ticket, 0)], [bytes(32)])))


def test_binders_and_identities_that_do_not_match() -> None:
    with pytest.raises(AlertIllegalParameter, match="binder for each"):
        resume(TICKET, deliver=change_hello(set_keys([(TICKET.ticket, 0)], [bytes(32), bytes(32)])))


def test_many_identities() -> None:
    """Security row 11: of many labels only the first few cost a look."""
    looked: list[bytes] = []

    class Counting(SealedTickets):
        def find(self, label: bytes) -> SessionTicket | None:
            looked.append(label)
            return None

    labels = [(bytes((number,)), 0) for number in range(50)]
    second = pair(
        client={"session_ticket": TICKET},
        server={"tickets": Counting(environment=Pair().environment)},
        deliver=change_hello(set_keys(labels, [bytes(32)] * 50)),
    )
    second.hold = True
    second.run()
    assert len(looked) == MAX_IDENTITIES_TRIED


def from_server(kind: int, change: Callable[[bytes], bytes]) -> Callable[[bool, int, bytes], list[bytes]]:
    def deliver(from_client: bool, epoch: int, message: bytes) -> list[bytes]:
        return [change(message) if not from_client and message[0] == kind else message]

    return deliver


def other_identity(message: bytes) -> bytes:
    hello = ServerHello.parse(message[4:])
    hello.extensions[0] = (ExtensionType.PRE_SHARED_KEY, extensions.encode_selected(1))
    return hello.encode()


def other_hash(message: bytes) -> bytes:
    hello = ServerHello.parse(message[4:])
    hello.cipher_suite = CipherSuite.AES_256_GCM_SHA384
    return hello.encode()


def early_data_added(message: bytes) -> bytes:
    hello = EncryptedExtensions.parse(message[4:])
    return EncryptedExtensions([*hello.extensions, (ExtensionType.EARLY_DATA, b"")]).encode()


def other_protocol(message: bytes) -> bytes:
    items = dict(EncryptedExtensions.parse(message[4:]).extensions)
    items[ExtensionType.ALPN] = extensions.encode_alpn([b"other"])
    return EncryptedExtensions(list(items.items())).encode()


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (HandshakeType.SERVER_HELLO, other_identity),
        (HandshakeType.SERVER_HELLO, other_hash),
        (HandshakeType.ENCRYPTED_EXTENSIONS, other_protocol),
    ],
)
def test_servers_whose_choice_is_not_the_tickets(kind: int, change: Callable[[bytes], bytes]) -> None:
    with pytest.raises(AlertIllegalParameter, match=r"pre-shared key|hash|other parameters"):
        resume(TICKET, client={"alpn": ["h3", "other"]}, deliver=from_server(kind, change))


def test_early_data_accepted_in_a_full_handshake() -> None:
    with pytest.raises(AlertIllegalParameter, match="other parameters"):
        resume(
            TICKET,
            server={"tickets": None},
            deliver=from_server(HandshakeType.ENCRYPTED_EXTENSIONS, early_data_added),
        )


def test_certificate_request_in_a_resumed_handshake() -> None:
    """A pre-shared key authenticates both sides (RFC 8446 §4.3.2)."""
    second = pair(client={"session_ticket": TICKET})
    second.start()
    hello = second.client.drain()[0]
    second.server.handshake.receive(0, hello.data)  # type: ignore[attr-defined]  # a SendHandshake
    (decision,) = [output for output in second.server.drain() if isinstance(output, ClientHelloDecision)]
    second.answer(decision)
    second.server.drain()
    (_, server_hello), (_, encrypted), _ = second.server.sent()
    second.client.handshake.receive(0, server_hello)
    second.client.handshake.receive(EPOCH_HANDSHAKE, encrypted)
    with pytest.raises(AlertUnexpectedMessage, match="CERTIFICATE_REQUEST"):
        second.client.handshake.receive(EPOCH_HANDSHAKE, CertificateRequest(b"", []).encode())


def test_tickets_without_lifetime_are_not_kept() -> None:
    done = pair().run()
    done.client.handshake.receive(EPOCH_ONE_RTT, NewSessionTicket(0, 1, b"", b"label", []).encode())
    done.client.drain()
    assert not done.client.of(TicketReceived)


def test_a_lifetime_is_seven_days_at_most() -> None:
    done = pair().run()
    done.client.handshake.receive(EPOCH_ONE_RTT, NewSessionTicket(10**9, 1, b"", b"label", []).encode())
    done.client.drain()
    (received,) = done.client.of(TicketReceived)
    assert (received.ticket.not_valid_after - received.ticket.not_valid_before).days == 7
