"""Certificates: reading them from files, and deciding whether a server's chain is to be trusted.

Verification is that of `cryptography.x509.verification` (RFC 5280), with a policy of our own: its default is the public
web's, which refuses much that private authorities and self-signed certificates look like. Ours starts from everything and
demands what TLS needs:

- the leaf names the server in its subjectAltName, as a DNS name or an IP address (RFC 6125; the common name is never read);
- every authority says that it is one (basicConstraints), and its KeyUsage, if any, allows to sign certificates;
- the leaf's KeyUsage, if any, allows to sign (RFC 8446 §4.4.2.2), and every ExtendedKeyUsage, if any, allows TLS servers;
- signatures, dates, path lengths, name constraints and unknown critical extensions are the library's to check, always.

A certificate that is itself in the trust store is trusted, which is how self-signed servers are.

When a chain is refused the library says little. `_Diagnosis` finds out what a person would want to know (which name, which
issuer, which date) and which alert fits (RFC 8446 §6.2). It never turns a refusal into an acceptance.

Left to others: where the system keeps its authorities (`quicio.environment`), proof that the peer has the key (`client`).
"""

from __future__ import annotations

import ipaddress
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
)
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID

from quicio.environment import Environment, parse_authorities, read_certificate_folder
from quicio.tls.alerts import (
    Alert,
    AlertBadCertificate,
    AlertCertificateExpired,
    AlertUnknownCA,
    AlertUnsupportedCertificate,
)
from quicio.tls.signatures import PrivateKey

MAX_CHAIN_DEPTH: Final = 9  # intermediates between a leaf and its trust anchor; a peer cannot send more
MAX_NAMES_TOLD: Final = 5  # of a certificate, in an error
TRUST_FILES_KEPT: Final = 8  # contents of trust files that are remembered parsed

_PEM_MARK: Final = b"-----BEGIN "
_SERVER_USAGES: Final = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE)


# Reading.


def load_certificate_chain(data: bytes, *, name: str = "the data") -> list[x509.Certificate]:
    """The certificates in PEM text, in its order, or the one in DER. Raises `ValueError`, naming `name`, for none."""
    try:
        if _PEM_MARK in data:
            return x509.load_pem_x509_certificates(data)
        return [x509.load_der_x509_certificate(data)]
    except ValueError as error:
        raise ValueError(f"{name} holds no certificate in PEM or DER: {error}") from error


def load_private_key(data: bytes, password: bytes | str | None = None, *, name: str = "the data") -> PrivateKey:
    """The private key in PEM or DER, decrypted with `password` if it is encrypted.

    Raises `ValueError`, naming `name`, when there is none, when the password is missing, wrong or needless, and for a kind
    of key that TLS 1.3 cannot sign with: usable are RSA, ECDSA on P-256 or P-384, and Ed25519.
    """
    secret = password.encode() if isinstance(password, str) else password
    load = load_pem_private_key if _PEM_MARK in data else load_der_private_key
    try:
        key = load(data, secret)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(f"{name} holds no private key that can be read: {error}") from error
    if isinstance(key, ec.EllipticCurvePrivateKey):
        if isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1):
            return key
    elif isinstance(key, ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey):
        return key
    raise ValueError(f"{name} holds a private key of a kind that cannot be used: use RSA, P-256, P-384 or Ed25519")


def check_private_key(certificate: x509.Certificate, key: PrivateKey) -> None:
    """Raise `ValueError` when `key` is not the private key of `certificate`."""
    try:
        public_key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError(f"the certificate's public key cannot be used: {error}") from error
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    if public_key.public_bytes(*form) != key.public_key().public_bytes(*form):
        raise ValueError("the private key does not belong to the certificate: give the key of the chain's first one")


def parse_peer_certificate(data: bytes) -> x509.Certificate:
    """Parse a certificate in DER that a peer sent. Raises `AlertBadCertificate`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)  # nothing that this side could change
            return x509.load_der_x509_certificate(data)
    except (ValueError, x509.InvalidVersion) as error:
        raise AlertBadCertificate(f"a certificate of the peer cannot be parsed: {error}") from error


# What is trusted.


@dataclass(frozen=True)
class TrustStore:
    """Trusted certificates, and in words where they come from."""

    certificates: tuple[x509.Certificate, ...] = field(repr=False)
    description: str


def load_trust(
    *, cafile: str | Path | None = None, capath: str | Path | None = None, cadata: bytes | None = None
) -> TrustStore | None:
    """What a user trusts: a PEM or DER file, every PEM file of a folder, bytes, all together; None when none is given.

    Raises `OSError` for a file that cannot be read and `ValueError`, naming it, for a source without any certificate.
    """
    certificates: list[x509.Certificate] = []
    sources: list[str] = []
    if cafile is not None:
        certificates += _authorities(Path(cafile).read_bytes(), str(cafile))
        sources.append(f"file {cafile}")
    if capath is not None:
        found = parse_authorities(read_certificate_folder(Path(capath)))
        if not found:
            raise ValueError(f"folder {capath} holds no certificate in PEM")
        certificates += found
        sources.append(f"folder {capath}")
    if cadata is not None:
        certificates += _authorities(bytes(cadata), "cadata")
        sources.append("cadata")
    return TrustStore(tuple(certificates), " and ".join(sources)) if sources else None


@lru_cache(maxsize=TRUST_FILES_KEPT)
def _authorities(data: bytes, name: str) -> tuple[x509.Certificate, ...]:
    """As `load_certificate_chain`, remembered by content: many connections trust one file, and a changed file is another."""
    return tuple(load_certificate_chain(data, name=name))


def system_trust(environment: Environment) -> TrustStore:
    """What the operating system trusts."""
    return TrustStore(environment.system_certificates(), "the system's store")


# Verifying.


def verify_chain(
    chain: Sequence[x509.Certificate], *, server_name: str | None, trust: TrustStore, now: float
) -> Alert | Literal[True]:
    """Whether `chain` (leaf first) belongs to `server_name` and leads to a certificate of `trust`, at the date `now`.

    `server_name` is a DNS name or an IP address; `now` is in seconds since the Unix epoch. Returns True, or the `Alert` that
    says why not: both are answers to a `CertificateDecision`.
    """
    if not server_name:
        return AlertBadCertificate("there is no server name to verify the certificate for: set one")
    if not trust.certificates:
        return AlertUnknownCA(f"no certificate is trusted: {trust.description} is empty")
    attempt = _Attempt(chain, trust, datetime.fromtimestamp(now, UTC))
    subject = _subject(server_name)
    try:
        verifier = attempt.verifier(subject)
    except ValueError:
        return AlertBadCertificate(
            f"{server_name!r} is neither a DNS name nor an IP address: no certificate can be for it"
        )
    reason = attempt.run(verifier)
    if reason is None:
        return True
    asked = f"address {server_name}" if isinstance(subject, x509.IPAddress) else server_name
    return _Diagnosis(attempt, asked, reason).alert()


def _subject(server_name: str) -> verification.Subject:
    """The name in the library's terms: without the root's dot, or an address without its zone."""
    try:
        return x509.IPAddress(ipaddress.ip_address(server_name.partition("%")[0]))
    except ValueError:
        return x509.DNSName(server_name.removesuffix("."))


class _Attempt:
    """One chain, one store, one date: what the library says of them."""

    def __init__(self, chain: Sequence[x509.Certificate], trust: TrustStore, date: datetime) -> None:
        self.chain = chain
        self.trust = trust
        self.date = date
        self.misuse: str | None = None  # why a validator of ours refused, which the library does not pass on

    def verifier(self, subject: verification.Subject) -> verification.ServerVerifier:
        """The library's verifier with our policy. Raises `ValueError` for a subject that is no name."""
        return (
            verification.PolicyBuilder()
            .store(verification.Store(list(self.trust.certificates)))
            .time(self.date)
            .max_chain_depth(MAX_CHAIN_DEPTH)
            .extension_policies(ca_policy=self._authority_policy(), ee_policy=self._leaf_policy())
            .build_server_verifier(subject)
        )

    def run(self, verifier: verification.ServerVerifier) -> str | None:
        """None when all is well, else the library's reason."""
        self.misuse = None
        try:
            verifier.verify(self.chain[0], list(self.chain[1:]))
        except (verification.VerificationError, ValueError) as error:  # the latter for what it cannot parse
            return str(error).removeprefix("validation failed: ")
        return None

    def _authority_policy(self) -> verification.ExtensionPolicy:
        agnostic = verification.Criticality.AGNOSTIC
        return (
            verification.ExtensionPolicy.permit_all()
            .require_present(x509.BasicConstraints, agnostic, None)
            .may_be_present(x509.KeyUsage, agnostic, self._check_authority_usage)
            .may_be_present(x509.ExtendedKeyUsage, agnostic, self._check_purpose)
        )

    def _leaf_policy(self) -> verification.ExtensionPolicy:
        agnostic = verification.Criticality.AGNOSTIC
        return (
            verification.ExtensionPolicy.permit_all()
            .require_present(x509.SubjectAlternativeName, agnostic, None)
            .may_be_present(x509.KeyUsage, agnostic, self._check_leaf_usage)
            .may_be_present(x509.ExtendedKeyUsage, agnostic, self._check_purpose)
        )

    def _check_authority_usage(
        self, policy: verification.Policy, certificate: x509.Certificate, usage: x509.KeyUsage | None
    ) -> None:
        if usage is not None and not usage.key_cert_sign:
            self._refuse(certificate, "its KeyUsage does not allow to sign certificates")

    def _check_leaf_usage(
        self, policy: verification.Policy, certificate: x509.Certificate, usage: x509.KeyUsage | None
    ) -> None:
        if usage is not None and not usage.digital_signature:
            self._refuse(certificate, "its KeyUsage does not allow digital signatures")

    def _check_purpose(
        self, policy: verification.Policy, certificate: x509.Certificate, usage: x509.ExtendedKeyUsage | None
    ) -> None:
        if usage is not None and not any(purpose in usage for purpose in _SERVER_USAGES):
            self._refuse(certificate, "its ExtendedKeyUsage does not allow TLS servers")

    def _refuse(self, certificate: x509.Certificate, why: str) -> None:
        self.misuse = f"the certificate of {_who(certificate.subject)} cannot be used here: {why}"
        raise ValueError(self.misuse)


# What the library raises for a name with an attribute of a wrong type: TypeError for a BIT STRING; KeyError, in its older
# releases, for what is no string.
_UNREADABLE: Final = (ValueError, TypeError, KeyError)


class _Diagnosis:
    """Why a chain was refused, for a person to read, and the alert that fits."""

    def __init__(self, attempt: _Attempt, server_name: str, reason: str) -> None:
        self._attempt = attempt
        self._server_name = server_name
        self._reason = reason

    def alert(self) -> Alert:
        """The most telling reason first: dates, name, missing issuer; else what a validator or the library said."""
        leaf = self._attempt.chain[0]
        misuse = self._attempt.misuse
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of attributes of a strange length, which nobody here can mend
                found = self._dates(leaf) or self._name(leaf) or self._issuers()
        except _UNREADABLE:  # names are parsed when they are read: a malformed certificate cannot be described
            found = None
        if found is None and misuse is not None:
            found = AlertUnsupportedCertificate(misuse)
        return found or AlertBadCertificate(f"the certificate for {self._server_name} is refused: {self._reason}")

    def _dates(self, certificate: x509.Certificate) -> Alert | None:
        who = _who(certificate.subject)
        if self._attempt.date > certificate.not_valid_after_utc:
            return AlertCertificateExpired(
                f"the certificate of {who} expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
            )
        if self._attempt.date < certificate.not_valid_before_utc:
            return AlertCertificateExpired(
                f"the certificate of {who} is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
            )
        return None

    def _name(self, leaf: x509.Certificate) -> Alert | None:
        """Whether the name is all that is wrong: would the chain pass for a name that the certificate is for?"""
        subjects = _subjects(leaf)
        if not subjects:
            return AlertBadCertificate(
                f"the certificate is not for {self._server_name}: it names no host in subjectAltName"
            )
        for text, subject in subjects[:MAX_NAMES_TOLD]:
            try:
                passes = self._attempt.run(self._attempt.verifier(subject)) is None
            except ValueError:  # a name that the certificate's maker made up
                continue
            if passes:
                told = ", ".join(text for text, _ in subjects[:MAX_NAMES_TOLD])
                more = f" and {len(subjects) - MAX_NAMES_TOLD} more" if len(subjects) > MAX_NAMES_TOLD else ""
                return AlertBadCertificate(f"the certificate is for {told}{more}, not for {self._server_name}")
        return None

    def _issuers(self) -> Alert | None:
        """Follow the issuers' names upwards, through what the peer sent, to the store: is one of them missing or expired?"""
        trusted = {certificate.subject: certificate for certificate in self._attempt.trust.certificates}
        sent = {certificate.subject: certificate for certificate in reversed(self._attempt.chain[1:])}
        current = self._attempt.chain[0]
        for _ in range(len(self._attempt.chain) + 1):
            anchor = trusted.get(current.issuer)
            if anchor is not None:
                return self._dates(anchor)
            issuer = sent.get(current.issuer)
            if issuer is None or current.issuer == current.subject:
                break
            expired = self._dates(issuer)
            if expired is not None:
                return expired
            current = issuer
        where = self._attempt.trust.description
        if current.issuer == current.subject:
            return AlertUnknownCA(
                f"the self-signed certificate of {_who(current.subject)} is not trusted: it is not in {where}"
            )
        return AlertUnknownCA(
            f"the issuer {_who(current.issuer)} of the certificate is not known: it is not in {where}"
        )


def _who(name: x509.Name) -> str:
    return repr(name.rfc4514_string()) if name else "an unnamed subject"


def _subjects(leaf: x509.Certificate) -> list[tuple[str, verification.Subject]]:
    """The names that a certificate is for: as text, and as a name that it matches."""
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return []
    subjects: list[tuple[str, verification.Subject]] = []
    for dns_name in names.get_values_for_type(x509.DNSName):
        # What a wildcard matches: any one label in its place (RFC 6125 §6.4.3).
        subjects.append((dns_name, x509.DNSName(dns_name.replace("*", "any", 1))))
    for address in names.get_values_for_type(x509.IPAddress):
        subjects.append((f"address {address}", x509.IPAddress(address)))
    return subjects
