"""Settings: what they refuse, and the answers that need nothing else."""

from __future__ import annotations

import pytest

from helpers.certificates import make_certificates, make_key
from helpers.handshakes import FixedEnvironment
from quicio.tls.alerts import AlertNoApplicationProtocol, AlertUnknownCA
from quicio.tls.client import ClientHandshake
from quicio.tls.constants import Group
from quicio.tls.messages import ClientHello
from quicio.tls.outputs import CertificateDecision, ClientHelloAnswer
from quicio.tls.server import ServerHandshake
from quicio.tls.settings import ClientSettings, ServerSettings, select_alpn

HELLO = ClientHello(bytes(32), [0x1301], [], alpn_protocols=[b"h3", b"\xff"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (ClientSettings(cipher_suites=[0x00FF]), "no usable cipher suite"),
        (ClientSettings(groups=[]), "no usable key exchange group"),
        (ClientSettings(is_group_available=lambda group: False), "no usable key exchange group"),
        (ClientSettings(alpn=[""]), "between 1 and 255 bytes"),
        (ClientSettings(alpn=["x" * 256]), "between 1 and 255 bytes"),
    ],
)
def test_settings_that_cannot_work(settings: ClientSettings, message: str) -> None:
    """Mistakes of the caller are told when the handshake is made."""
    with pytest.raises(ValueError, match=message):
        ClientHandshake(settings, FixedEnvironment())


def test_server_settings_that_cannot_work() -> None:
    certificates = make_certificates()
    with pytest.raises(ValueError, match="no usable cipher suite"):
        ServerHandshake(ServerSettings(cipher_suites=[]), FixedEnvironment())
    with pytest.raises(ValueError, match="does not belong to the certificate"):
        ServerSettings(certificate_chain=certificates.chain, private_key=make_key("ed25519"))
    with pytest.raises(ValueError, match="needs a certificate and its private key"):
        ServerSettings().answer(HELLO)
    with pytest.raises(ValueError, match="needs a certificate and its private key"):
        ServerSettings(certificate_chain=certificates.chain).answer(HELLO)


def test_unknown_values_are_passed_over() -> None:
    """Users may list what only other versions know."""
    settings = ClientSettings(cipher_suites=[0x1301, 0x00FF], groups=[0x19, Group.X25519])
    assert settings.usable_cipher_suites() == [0x1301]
    assert settings.usable_groups() == [Group.X25519]


def test_selection_of_the_protocol() -> None:
    """The server's order decides (RFC 7301 §3.2)."""
    assert select_alpn(["b", "a"], [b"a", b"b"]) == "b"
    assert select_alpn([], [b"a"]) is None
    assert select_alpn([], None) is None
    with pytest.raises(AlertNoApplicationProtocol):
        select_alpn(["a"], [b"b"])
    with pytest.raises(AlertNoApplicationProtocol):
        select_alpn(["a"], None)


def test_answer_of_a_server() -> None:
    certificates = make_certificates()
    settings = ServerSettings(alpn=["h3"], certificate_chain=certificates.chain, private_key=certificates.private_key)
    answer = settings.answer(HELLO, [(57, b"x")])
    assert answer == ClientHelloAnswer(certificates.chain, certificates.private_key, "h3", [(57, b"x")])
    settings.alpn = ["other"]
    refusal = settings.answer(HELLO)
    assert isinstance(refusal, AlertNoApplicationProtocol)
    assert refusal.__traceback__ is None  # an alert that is kept does not keep frames


def test_verdict_of_a_client() -> None:
    certificates = make_certificates()
    decision = CertificateDecision(1, certificates.chain, "localhost")
    environment = FixedEnvironment()
    assert ClientSettings(trust=certificates.trust).judge(decision, environment) is True
    assert ClientSettings(verify_peer=False).judge(decision, environment) is True
    assert isinstance(ClientSettings().judge(decision, environment), AlertUnknownCA)  # the environment trusts nobody
