"""What the configuration answers to TLS: which machine to make, which certificate to show, whom to believe.

One object a connection, made from its configuration. It reads files of trusted certificates only when a chain has to be
verified, and keeps nothing of them.
"""

from __future__ import annotations

from typing import Any, Final

from quicio.environment import Environment
from quicio.quic.configuration import QuicConfiguration
from quicio.tls.alerts import AlertBadCertificate, AlertInternalError
from quicio.tls.certificates import load_trust
from quicio.tls.client import ClientHandshake
from quicio.tls.constants import DEFAULT_CIPHER_SUITES, DEFAULT_GROUPS
from quicio.tls.context import Handshake
from quicio.tls.outputs import CertificateDecision, ClientHelloDecision
from quicio.tls.server import ServerHandshake
from quicio.tls.settings import ClientSettings, ServerSettings

QUIC_TRANSPORT_PARAMETERS: Final = 0x39  # RFC 9001 §8.2
CERT_NONE: Final = 0  # the value of `ssl.CERT_NONE`, which configurations use


class TlsPolicy:
    """Builds TLS machines for a connection and answers their decisions from its configuration."""

    def __init__(self, configuration: QuicConfiguration, environment: Environment) -> None:
        self._configuration = configuration
        self._environment = environment
        self._settings = self._server_settings() if not configuration.is_client else self._client_settings()

    def _common(self) -> dict[str, Any]:
        configuration = self._configuration
        return {
            "alpn": configuration.alpn_protocols or [],
            "cipher_suites": configuration.cipher_suites or DEFAULT_CIPHER_SUITES,
            "groups": configuration.groups or DEFAULT_GROUPS,
            "required_extensions": (QUIC_TRANSPORT_PARAMETERS,),
            "key_log": self._key_log if configuration.secrets_log_file or configuration.key_log else None,
        }

    def _client_settings(self) -> ClientSettings:
        configuration = self._configuration
        verify_mode = configuration.verify_mode
        return ClientSettings(
            server_name=configuration.server_name,
            verify_peer=verify_mode is None or int(verify_mode) != CERT_NONE,
            **self._common(),
        )

    def _server_settings(self) -> ServerSettings:
        configuration = self._configuration
        return ServerSettings(
            certificate_chain=[configuration.certificate, *configuration.certificate_chain],
            private_key=configuration.private_key,
            **self._common(),
        )

    def machine(self) -> Handshake:
        """A TLS machine that has not started."""
        if isinstance(self._settings, ClientSettings):
            return ClientHandshake(self._settings, self._environment)
        return ServerHandshake(self._settings, self._environment)

    def answer(self, decision: ClientHelloDecision) -> object:
        """A server's certificate and protocol for this client, or the alert that refuses it."""
        if isinstance(self._settings, ServerSettings):
            return self._settings.answer(decision.client_hello)
        return AlertInternalError("a client was asked for a server's decision")

    def verify(self, decision: CertificateDecision) -> object:
        """True, or the alert that says why the peer's chain is refused."""
        settings = self._settings
        if not isinstance(settings, ClientSettings):
            return AlertInternalError("client certificates are not asked for")
        configuration = self._configuration
        if settings.verify_peer and settings.trust is None:
            try:
                settings.trust = load_trust(
                    cafile=configuration.cafile, capath=configuration.capath, cadata=configuration.cadata
                )
            except (OSError, ValueError) as error:
                return AlertInternalError(f"the trusted certificates cannot be loaded: {error}")
        verdict = settings.judge(decision, self._environment)
        if verdict is not True or configuration.verify is None:
            return verdict
        try:
            configuration.verify(list(decision.chain), decision.server_name)
        except Exception as error:  # whatever it is, the answer is no
            return AlertBadCertificate(f"`verify` refuses the certificate: {error or type(error).__name__}")
        return True

    def _key_log(self, label: str, client_random: bytes, secret: bytes) -> None:
        """NSS key log format, which Wireshark reads."""
        configuration = self._configuration
        if configuration.key_log is not None:
            configuration.key_log(label, client_random, secret)
        file = configuration.secrets_log_file
        if file is not None:
            file.write(f"{label} {client_random.hex()} {secret.hex()}\n")
            file.flush()
