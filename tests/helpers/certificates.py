"""Certificates made on the spot: authorities, leaves, and the defects that a verifier has to notice.

Keys are slow to make (RSA) or vary in what they sign (ECDSA signatures differ in length), so every key made here is kept for
the run of the tests. The simulator wants handshakes of one size: `make_certificates("ed25519")` gives Ed25519 leaves, whose
signatures always have 64 bytes, under an ECDSA authority.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from quicio.tls.certificates import TrustStore
from quicio.tls.signatures import PrivateKey

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
NOW = EPOCH.timestamp()
"""A date at which all that is made here is valid, unless asked otherwise."""

DAY = timedelta(days=1)
DEFAULT_NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass
class Identity:
    """A chain, leaf first, without its root, and the leaf's private key."""

    chain: list[x509.Certificate]
    private_key: PrivateKey

    @property
    def chain_pem(self) -> bytes:
        return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in self.chain)

    @property
    def key_pem(self) -> bytes:
        return self.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@dataclass
class Certificates:
    """An authority and what it issued."""

    authority: x509.Certificate
    identity: Identity

    @property
    def chain(self) -> list[x509.Certificate]:
        return self.identity.chain

    @property
    def private_key(self) -> PrivateKey:
        return self.identity.private_key

    @property
    def authority_pem(self) -> bytes:
        return self.authority.public_bytes(Encoding.PEM)

    @property
    def trust(self) -> TrustStore:
        return TrustStore((self.authority,), "the test's authority")


@cache
def make_key(kind: str, number: int = 0) -> PrivateKey:
    """A private key, the same for the same arguments: "p256", "p384", "ed25519", "rsa"."""
    if kind == "p256":
        return ec.derive_private_key(0x1000 + number, ec.SECP256R1())
    if kind == "p384":
        return ec.derive_private_key(0x1000 + number, ec.SECP384R1())
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.from_private_bytes((0x1000 + number).to_bytes(32, "big"))
    if kind == "rsa":
        return rsa.generate_private_key(65537, 2048)
    raise ValueError(f"no key kind {kind!r}: use p256, p384, ed25519 or rsa")


def key_usage(*allowed: str) -> x509.KeyUsage:
    """A KeyUsage extension that allows only what is named, such as "digital_signature"."""
    kinds = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{kind: kind in allowed for kind in kinds})


def general_names(names: tuple[str, ...]) -> list[x509.GeneralName]:
    """Names and addresses, as subjectAltName holds them."""
    result: list[x509.GeneralName] = []
    for name in names:
        try:
            result.append(x509.IPAddress(ip_address(name)))
        except ValueError:
            result.append(x509.DNSName(name))
    return result


@dataclass
class Issuer:
    """Who signs: a certificate and its key."""

    certificate: x509.Certificate
    private_key: PrivateKey


def issue(
    subject: str,
    key: PrivateKey,
    issuer: Issuer | None = None,
    *,
    is_authority: bool | None = False,
    names: tuple[str, ...] = (),
    critical_names: bool = False,
    not_before: datetime = EPOCH - DAY,
    not_after: datetime = EPOCH + 365 * DAY,
    serial_number: int = 1,
    extensions: tuple[tuple[x509.ExtensionType, bool], ...] = (),
) -> x509.Certificate:
    """Make a certificate, self-signed without `issuer`. `is_authority` None leaves basicConstraints out.

    `extensions` are further ones, each with whether it is critical. There are no key identifiers unless given.
    """
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name if issuer is None else issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(serial_number)
        .not_valid_before(not_before)
        .not_valid_after(not_after)
    )
    if is_authority is not None:
        builder = builder.add_extension(x509.BasicConstraints(is_authority, None), critical=True)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(general_names(names)), critical=critical_names)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    signer = key if issuer is None else issuer.private_key
    return builder.sign(signer, None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256())


@cache
def make_authority(kind: str = "p256") -> Issuer:
    """A root, the same for the same kind of key."""
    key = make_key(kind, 1)
    usage = key_usage("key_cert_sign", "crl_sign")
    certificate = issue("quicio test root", key, is_authority=True, extensions=((usage, True),))
    return Issuer(certificate, key)


def make_certificates(
    key: str = "p256",
    *,
    authority: str = "p256",
    names: tuple[str, ...] = DEFAULT_NAMES,
    intermediates: int = 0,
    not_before: datetime = EPOCH - DAY,
    not_after: datetime = EPOCH + 365 * DAY,
) -> Certificates:
    """A leaf for `names`, with a key of the kind `key`, under an authority with a key of the kind `authority`.

    `intermediates` authorities stand between: the chain holds them, after the leaf.
    """
    root = make_authority(authority)
    issuer = root
    chain: list[x509.Certificate] = []
    for number in range(intermediates):
        middle_key = make_key("p256", 100 + number)
        certificate = issue(f"quicio test intermediate {number}", middle_key, issuer, is_authority=True)
        issuer = Issuer(certificate, middle_key)
        chain.insert(0, certificate)
    leaf_key = make_key(key)
    leaf = issue(names[0], leaf_key, issuer, names=names, not_before=not_before, not_after=not_after)
    return Certificates(root.certificate, Identity([leaf, *chain], leaf_key))
