"""Alerts of TLS 1.3 (RFC 8446 §6): the only exceptions by which a handshake ends.

Whatever a peer sends, a handshake raises an `Alert` or nothing. Its `description` is the code that the transport tells the
peer (QUIC: CRYPTO_ERROR plus the code, RFC 9001 §4.8), its text says in words what was wrong, for logs and for users.

There is a class for each description that this implementation raises, so that a reader of the code, and a caller's
`except` clause, sees the name rather than a number. `Alert` itself can stand for any other description.
"""

from __future__ import annotations

from enum import IntEnum


class AlertDescription(IntEnum):
    """Alert codes (RFC 8446 §6, RFC 9846 §6)."""

    close_notify = 0
    unexpected_message = 10
    bad_record_mac = 20
    record_overflow = 22
    handshake_failure = 40
    bad_certificate = 42
    unsupported_certificate = 43
    certificate_revoked = 44
    certificate_expired = 45
    certificate_unknown = 46
    illegal_parameter = 47
    unknown_ca = 48
    access_denied = 49
    decode_error = 50
    decrypt_error = 51
    protocol_version = 70
    insufficient_security = 71
    internal_error = 80
    inappropriate_fallback = 86
    user_canceled = 90
    missing_extension = 109
    unsupported_extension = 110
    unrecognized_name = 112
    bad_certificate_status_response = 113
    unknown_psk_identity = 115
    certificate_required = 116
    general_error = 117
    no_application_protocol = 120


class Alert(Exception):
    """A handshake failed. `description` is the alert's code, `str()` the reason in words."""

    description: int = AlertDescription.internal_error

    def __init__(self, reason: str = "", *, description: int | None = None) -> None:
        super().__init__(reason)
        if description is not None:
            self.description = description

    def __str__(self) -> str:
        return str(self.args[0]) or f"TLS alert {self.description:d}"


class AlertUnexpectedMessage(Alert):
    """A message that has no place here, in this state or at this encryption level."""

    description = AlertDescription.unexpected_message


class AlertHandshakeFailure(Alert):
    """The two sides have no acceptable parameters in common."""

    description = AlertDescription.handshake_failure


class AlertBadCertificate(Alert):
    """A certificate is malformed, wrongly signed, or not for the name that was asked for."""

    description = AlertDescription.bad_certificate


class AlertUnsupportedCertificate(Alert):
    """A certificate is of a type, or for a purpose, that cannot be used here."""

    description = AlertDescription.unsupported_certificate


class AlertCertificateExpired(Alert):
    """A certificate has expired or is not valid yet."""

    description = AlertDescription.certificate_expired


class AlertCertificateUnknown(Alert):
    """A certificate was refused for another reason."""

    description = AlertDescription.certificate_unknown


class AlertIllegalParameter(Alert):
    """A field has a value that is not allowed, or that contradicts another."""

    description = AlertDescription.illegal_parameter


class AlertUnknownCA(Alert):
    """No trusted authority stands behind a certificate."""

    description = AlertDescription.unknown_ca


class AlertAccessDenied(Alert):
    """The peer was recognised and is not welcome."""

    description = AlertDescription.access_denied


class AlertDecodeError(Alert):
    """A message could not be parsed: a length out of range, or bytes left over."""

    description = AlertDescription.decode_error


class AlertDecryptError(Alert):
    """A signature or a Finished message does not verify."""

    description = AlertDescription.decrypt_error


class AlertProtocolVersion(Alert):
    """The peer does not offer TLS 1.3."""

    description = AlertDescription.protocol_version


class AlertInternalError(Alert):
    """Something failed on this side that is not the peer's fault."""

    description = AlertDescription.internal_error


class AlertMissingExtension(Alert):
    """An extension that has to be there is not."""

    description = AlertDescription.missing_extension


class AlertUnsupportedExtension(Alert):
    """The peer answers an extension that was not offered."""

    description = AlertDescription.unsupported_extension


class AlertUnrecognizedName(Alert):
    """There is no server of the name that the client asked for."""

    description = AlertDescription.unrecognized_name


class AlertCertificateRequired(Alert):
    """The client did not send the certificate that this server demands."""

    description = AlertDescription.certificate_required


class AlertNoApplicationProtocol(Alert):
    """The two sides have no application protocol in common (RFC 7301)."""

    description = AlertDescription.no_application_protocol
