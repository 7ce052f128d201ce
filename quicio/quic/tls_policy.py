"""What the configuration answers to TLS: which machine to make, which certificate to show, whom to believe.

One object a connection, made from its configuration. It reads files of trusted certificates only when a chain has to be
verified, and keeps nothing of them.

For sessions it holds QUIC's part of the rules: a ticket is for the QUIC version that it came from (RFC 9369 §5), and early
data is accepted only where the server's limits are no lower than the ticket remembers (RFC 9000 §7.4.1).
"""

from __future__ import annotations

from typing import Any, Final

from quicio.environment import Environment
from quicio.quic._aioquic import NamedClientHandshake, NamedServerHandshake
from quicio.quic.configuration import QuicConfiguration
from quicio.quic.remembered import EARLY_DATA_ALLOWED, QUIC_TRANSPORT_PARAMETERS, reduced_limit, restore, version_of
from quicio.quic.wire.transport_parameters import TransportParameters
from quicio.tls.alerts import AlertBadCertificate, AlertInternalError
from quicio.tls.certificates import load_trust
from quicio.tls.constants import DEFAULT_CIPHER_SUITES, DEFAULT_GROUPS
from quicio.tls.context import Handshake
from quicio.tls.issuing import TicketIssuer
from quicio.tls.outputs import CertificateDecision, ClientHelloAnswer, ClientHelloDecision
from quicio.tls.settings import ClientSettings, ServerSettings
from quicio.tls.tickets import SessionTicket

CERT_NONE: Final = 0  # the value of `ssl.CERT_NONE`, which configurations use


class TlsPolicy:
    """Builds TLS machines for a connection and answers their decisions from its configuration.

    `tickets` issues a server's tickets, or None; `early_data`: whether it accepts early data.
    """

    def __init__(
        self,
        configuration: QuicConfiguration,
        environment: Environment,
        tickets: TicketIssuer | None = None,
        early_data: bool = False,
    ) -> None:
        self._configuration = configuration
        self._environment = environment
        self._tickets = tickets
        self._early_data = early_data and tickets is not None
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
            tickets=self._tickets,
            max_early_data_size=EARLY_DATA_ALLOWED if self._early_data else None,
            **self._common(),
        )

    def machine(self) -> Handshake:
        """A TLS machine that has not started."""
        if isinstance(self._settings, ClientSettings):
            return NamedClientHandshake(self._settings, self._environment)
        return NamedServerHandshake(self._settings, self._environment)

    # --- sessions ----------------------------------------------------------------------------------------------------

    def offer(self, ticket: SessionTicket | None, early_data: bool) -> None:
        """Client: offer this ticket, and early data with it, in the machines made from now on; None for neither."""
        if isinstance(self._settings, ClientSettings):
            self._settings.session_ticket = ticket
            self._settings.early_data = early_data

    def trusts(self, ticket: SessionTicket) -> bool:
        """Client: whether the certificates that the ticket remembers would be accepted today."""
        try:
            chain = ticket.peer_certificates()
        except ValueError:
            return False
        if not chain:
            return not self._verifies_peer()
        return self.verify(CertificateDecision(0, chain, self._configuration.server_name)) is True

    def _verifies_peer(self) -> bool:
        return isinstance(self._settings, ClientSettings) and self._settings.verify_peer

    def limit_resumption(
        self, answer: object, decision: ClientHelloDecision, parameters: TransportParameters, version: int
    ) -> None:
        """Server: restrict an answer to what QUIC permits; `version` is that of the client's first packet."""
        ticket = decision.ticket
        if not isinstance(answer, ClientHelloAnswer) or ticket is None:
            return
        if version_of(ticket) != version:
            answer.resume = False
        remembered = restore(ticket)
        if not answer.resume or remembered is None or reduced_limit(remembered, parameters) is not None:
            answer.accept_early_data = False

    # --- decisions ---------------------------------------------------------------------------------------------------

    def answer(self, decision: ClientHelloDecision) -> object:
        """A server's certificate and protocol for this client, or the alert that refuses it."""
        if isinstance(self._settings, ServerSettings):
            answer = self._settings.answer(decision.client_hello)
            if isinstance(answer, ClientHelloAnswer):
                answer.accept_early_data = self._early_data and decision.offers_early_data
            return answer
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
            return AlertBadCertificate(f"`verify` refuses the certificate: {str(error) or type(error).__name__}")
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
