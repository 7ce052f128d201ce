"""TLS 1.3 for QUIC (RFC 8446, RFC 9001): two handshake machines without I/O, with nothing of QUIC inside.

    constants      code points and limits            alerts         the errors, one class a description
    codec          the presentation language         messages       handshake messages as data
    extensions     contents of extensions            key_schedule   HKDF, secrets, the transcript
    groups         key exchange, ML-KEM included     signatures     schemes over the handshake
    certificates   files, trust, verification        tickets        what is kept between handshakes
    settings       what each role is told            outputs        what a handshake has to say
    context        what both roles share             client, server the roles

Each part is imported from its own module. This package gives, when they are first asked for (PEP 562), the names that
applications written for aioquic import from here.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from quicio.tls.alerts import Alert as Alert
    from quicio.tls.alerts import AlertBadCertificate as AlertBadCertificate
    from quicio.tls.alerts import AlertCertificateExpired as AlertCertificateExpired
    from quicio.tls.alerts import AlertDecodeError as AlertDecodeError
    from quicio.tls.alerts import AlertDecryptError as AlertDecryptError
    from quicio.tls.alerts import AlertDescription as AlertDescription
    from quicio.tls.alerts import AlertHandshakeFailure as AlertHandshakeFailure
    from quicio.tls.alerts import AlertIllegalParameter as AlertIllegalParameter
    from quicio.tls.alerts import AlertInternalError as AlertInternalError
    from quicio.tls.alerts import AlertMissingExtension as AlertMissingExtension
    from quicio.tls.alerts import AlertNoApplicationProtocol as AlertNoApplicationProtocol
    from quicio.tls.alerts import AlertProtocolVersion as AlertProtocolVersion
    from quicio.tls.alerts import AlertUnexpectedMessage as AlertUnexpectedMessage
    from quicio.tls.alerts import AlertUnsupportedCertificate as AlertUnsupportedCertificate
    from quicio.tls.constants import CipherSuite as CipherSuite
    from quicio.tls.constants import Epoch as Epoch
    from quicio.tls.constants import HandshakeType as HandshakeType
    from quicio.tls.tickets import SessionTicket as SessionTicket
    from quicio.tls.tickets import SessionTicketFetcher as SessionTicketFetcher
    from quicio.tls.tickets import SessionTicketHandler as SessionTicketHandler

_HOMES: Final[dict[str, str]] = {
    **dict.fromkeys(("CipherSuite", "Epoch", "HandshakeType"), "quicio.tls.constants"),
    **dict.fromkeys(("SessionTicket", "SessionTicketFetcher", "SessionTicketHandler"), "quicio.tls.tickets"),
    **dict.fromkeys(
        (
            "Alert",
            "AlertBadCertificate",
            "AlertCertificateExpired",
            "AlertDecodeError",
            "AlertDecryptError",
            "AlertDescription",
            "AlertHandshakeFailure",
            "AlertIllegalParameter",
            "AlertInternalError",
            "AlertMissingExtension",
            "AlertNoApplicationProtocol",
            "AlertProtocolVersion",
            "AlertUnexpectedMessage",
            "AlertUnsupportedCertificate",
        ),
        "quicio.tls.alerts",
    ),
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'quicio.tls' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
