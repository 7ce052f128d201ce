"""What the configuration answers to TLS: machines, certificates, trust, the key log."""

from __future__ import annotations

import io
import ssl
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from helpers.certificates import EPOCH, NOW, make_authority, make_certificates
from quicio.environment import Environment
from quicio.quic.configuration import QuicConfiguration
from quicio.quic.connection import QuicConnection
from quicio.quic.events import ConnectionTerminated
from quicio.quic.remembered import QUIC_TRANSPORT_PARAMETERS
from quicio.quic.tls_policy import CERT_NONE, TlsPolicy
from quicio.quic.wire.constants import VERSION_1
from quicio.quic.wire.transport_parameters import TransportParameters
from quicio.tls.alerts import Alert, AlertBadCertificate, AlertCertificateExpired, AlertInternalError, AlertUnknownCA
from quicio.tls.client import ClientHandshake
from quicio.tls.constants import CipherSuite
from quicio.tls.messages import ClientHello
from quicio.tls.outputs import CertificateDecision, ClientHelloAnswer, ClientHelloDecision
from quicio.tls.server import ServerHandshake
from quicio.tls.settings import ClientSettings
from quicio.tls.tickets import PEER_CERTIFICATES, SessionTicket, remembered
from sim.world import World

MADE = make_certificates("ed25519")


class Machine(Environment):
    """A machine whose system trusts what the test says, on the day of the test's certificates."""

    def __init__(self, *trusted: Any) -> None:
        super().__init__()
        self._system_certificates = tuple(trusted)

    def wall_clock(self) -> float:
        return NOW


def client(machine: Environment | None = None, **changes: object) -> TlsPolicy:
    return TlsPolicy(QuicConfiguration(server_name="localhost").replaced(**changes), machine or Machine())


def server(**changes: object) -> TlsPolicy:
    base = QuicConfiguration(is_client=False, certificate=MADE.chain[0], private_key=MADE.private_key)
    return TlsPolicy(base.replaced(**changes), Machine())


def decision(server_name: str | None = "localhost") -> CertificateDecision:
    return CertificateDecision(1, MADE.chain, server_name)


# --- machines ---------------------------------------------------------------------------------------------------------


def test_each_role_gets_its_machine_and_each_connection_attempt_a_new_one() -> None:
    policy = client()
    assert isinstance(policy.machine(), ClientHandshake)
    assert policy.machine() is not policy.machine()
    assert isinstance(server().machine(), ServerHandshake)


def test_transport_parameters_are_demanded_of_both_roles() -> None:
    """RFC 9001 §8.2."""
    for policy in (client(), server()):
        assert policy._settings.required_extensions == (QUIC_TRANSPORT_PARAMETERS,)


def test_what_is_configured_reaches_the_settings() -> None:
    policy = client(alpn_protocols=["h3"], cipher_suites=[CipherSuite.AES_256_GCM_SHA384], groups=[0x17])
    assert policy._settings.alpn == ["h3"]
    assert policy._settings.cipher_suites == [CipherSuite.AES_256_GCM_SHA384]
    assert policy._settings.groups == [0x17]
    assert isinstance(policy._settings, ClientSettings)
    assert policy._settings.server_name == "localhost"
    assert client(alpn_protocols=None)._settings.alpn == []


# --- a server's answers -----------------------------------------------------------------------------------------------


def hello(*protocols: bytes) -> ClientHelloDecision:
    message = ClientHello(bytes(32), [CipherSuite.AES_128_GCM_SHA256], [], b"")
    message.alpn_protocols = list(protocols) or None
    return ClientHelloDecision(1, message)


def test_a_server_shows_its_chain_and_chooses_by_its_own_preference() -> None:
    answer = server(alpn_protocols=["h3", "test"]).answer(hello(b"test", b"h3"))
    assert isinstance(answer, ClientHelloAnswer)
    assert answer.certificate_chain == MADE.chain
    assert answer.alpn == "h3"


def test_a_client_without_a_common_protocol_is_refused() -> None:
    answer = server(alpn_protocols=["h3"]).answer(hello(b"h2"))
    assert isinstance(answer, Alert)
    assert answer.description == 120  # no_application_protocol


def test_questions_for_the_other_role_are_our_own_bug() -> None:
    assert isinstance(client().answer(hello()), AlertInternalError)
    assert isinstance(server().verify(decision()), AlertInternalError)


def test_a_key_that_is_not_the_certificates_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="does not belong to the certificate"):
        server(private_key=make_certificates("p256").private_key)


# --- whom a client believes -------------------------------------------------------------------------------------------


def test_trust_from_bytes() -> None:
    assert client(cadata=MADE.authority_pem).verify(decision()) is True


def test_trust_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(MADE.authority_pem)
    assert client(cafile=str(tmp_path / "ca.pem")).verify(decision()) is True


def test_trust_from_a_folder(tmp_path: Path) -> None:
    (tmp_path / "one.pem").write_bytes(MADE.authority_pem)
    assert client(capath=str(tmp_path)).verify(decision()) is True


def test_trust_of_the_system_when_nothing_else_is_named() -> None:
    assert client(Machine(MADE.authority)).verify(decision()) is True
    refused = client(Machine()).verify(decision())
    assert isinstance(refused, AlertUnknownCA)


def test_what_is_named_replaces_the_systems_trust() -> None:
    """Not added to it: who names an authority means that one."""
    other = make_authority("p384").certificate.public_bytes(Encoding.PEM)
    assert isinstance(client(Machine(MADE.authority), cadata=other).verify(decision()), Alert)


def test_the_name_and_the_dates_are_verified() -> None:
    assert isinstance(client(cadata=MADE.authority_pem).verify(decision("example.org")), AlertBadCertificate)

    class Later(Machine):
        def wall_clock(self) -> float:
            return NOW + 400 * 86400

    assert isinstance(client(Later(), cadata=MADE.authority_pem).verify(decision()), AlertCertificateExpired)


@pytest.mark.parametrize("mode", [ssl.CERT_NONE, CERT_NONE, False])
def test_verification_can_be_switched_off(mode: object) -> None:
    """Then nothing is read either: a missing file does not matter."""
    policy = client(verify_mode=mode, cafile="/nowhere/ca.pem")
    assert policy.verify(decision("example.org")) is True


@pytest.mark.parametrize("mode", [None, ssl.CERT_REQUIRED, ssl.CERT_OPTIONAL])
def test_everything_else_verifies(mode: object) -> None:
    assert isinstance(client(verify_mode=mode).verify(decision()), AlertUnknownCA)


@pytest.mark.parametrize("what", ["cafile", "capath", "cadata"])
def test_trust_that_cannot_be_loaded_is_an_internal_error_that_names_it(tmp_path: Path, what: str) -> None:
    """Not a refusal of the peer, and above all not an acceptance."""
    value: object = {"cafile": str(tmp_path / "nowhere.pem"), "capath": str(tmp_path), "cadata": b"no certificate"}[
        what
    ]
    alert = client(Machine(MADE.authority), **{what: value}).verify(decision())
    assert isinstance(alert, AlertInternalError)
    expected = {"cafile": "nowhere.pem", "capath": str(tmp_path), "cadata": "cadata"}[what]
    assert expected in str(alert)


def test_trust_is_loaded_once_a_connection(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_bytes(MADE.authority_pem)
    policy = client(cafile=str(file))
    assert policy.verify(decision()) is True
    file.unlink()
    assert policy.verify(decision()) is True


def test_a_missing_file_ends_the_connection_with_its_name(tmp_path: Path) -> None:
    world = World(1)
    peer = world.connect(cadata=None, cafile=str(tmp_path / "nowhere.pem"))
    world.run(lambda: peer.connection.is_terminated)
    (terminated,) = peer.of_type(ConnectionTerminated)
    assert terminated.error_code == 0x100 + 80  # internal_error
    assert "nowhere.pem" in terminated.reason_phrase


# --- the key log ------------------------------------------------------------------------------------------------------


def test_secrets_are_written_line_by_line_and_told_to_the_callable() -> None:
    file = io.StringIO()
    told: list[tuple[str, bytes, bytes]] = []
    policy = client(secrets_log_file=file, key_log=lambda *line: told.append(line))
    log = policy._settings.key_log
    assert log is not None
    log("LABEL", b"\x01\x02", b"\xff")
    assert file.getvalue() == "LABEL 0102 ff\n"
    assert told == [("LABEL", b"\x01\x02", b"\xff")]


def test_the_key_log_is_flushed_at_once_and_either_kind_is_enough() -> None:
    class File(io.StringIO):
        flushed = 0

        def flush(self) -> None:
            self.flushed += 1

    file = File()
    client(secrets_log_file=file)._key_log("LABEL", b"", b"")
    assert file.flushed == 1
    client(key_log=lambda label, random, secret: None)._key_log("LABEL", b"", b"")
    assert client()._settings.key_log is None


def test_servers_log_too() -> None:
    told: list[str] = []
    world = World(1, server={"key_log": lambda label, random, secret: told.append(label)})
    world.establish()
    assert "SERVER_HANDSHAKE_TRAFFIC_SECRET" in told
    assert isinstance(world.accepted[0].connection, QuicConnection)


# --- tickets ----------------------------------------------------------------------------------------------------------


def ticket(others: list[tuple[int, bytes]]) -> SessionTicket:
    return SessionTicket(
        0, CipherSuite.AES_128_GCM_SHA256, EPOCH + timedelta(hours=1), EPOCH, b"s", "localhost", b"l", None, others
    )


def test_a_ticket_is_trusted_as_far_as_its_certificates_are_today() -> None:
    """Row 30: a resumed handshake shows none, so the ticket's are judged by this configuration."""
    others = remembered("test", MADE.chain)
    assert others is not None
    trusting = client(cadata=MADE.authority_pem)
    assert trusting.trusts(ticket(others))
    assert not client().trusts(ticket(others))
    assert not client(cadata=MADE.authority_pem, server_name="elsewhere").trusts(ticket(others))
    assert client(verify_mode=ssl.CERT_NONE).trusts(ticket(others))


def test_a_ticket_without_certificates_is_for_those_who_verify_none() -> None:
    """Row 30: as it comes from a connection that verified none, or from an edited file."""
    assert not client(cadata=MADE.authority_pem).trusts(ticket([]))
    assert client(verify_mode=ssl.CERT_NONE).trusts(ticket([]))
    assert not client(verify_mode=ssl.CERT_NONE).trusts(ticket([(PEER_CERTIFICATES, b"damaged")]))


def test_a_refusal_is_not_limited_any_further() -> None:
    asked = hello(b"test")
    asked.ticket = ticket([])
    alert = AlertInternalError("no")
    server().limit_resumption(alert, asked, TransportParameters(), VERSION_1)
    answer = ClientHelloAnswer(list(MADE.chain), MADE.private_key, "test", accept_early_data=True)
    server().limit_resumption(answer, asked, TransportParameters(), VERSION_1)
    assert (answer.resume, answer.accept_early_data) == (False, False)
