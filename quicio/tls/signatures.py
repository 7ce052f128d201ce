"""Signatures over the handshake (RFC 8446 §4.4.3): which scheme goes with which key, how it is made and checked.

A scheme names the algorithm, the hash and, for ECDSA, the curve; a key fits a scheme or it does not. RSA keys come in two
kinds: those whose certificate says plain RSA (`rsa_pss_rsae_*`) and those restricted to PSS (`rsa_pss_pss_*`). The
`rsa_pkcs1_*` schemes are offered because authorities sign certificates with them; no handshake is ever signed so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import PublicKeyAlgorithmOID

from quicio.tls.alerts import AlertBadCertificate, AlertDecryptError, AlertHandshakeFailure, AlertIllegalParameter
from quicio.tls.constants import SignatureScheme

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey

SERVER_CONTEXT: Final = b"TLS 1.3, server CertificateVerify"
CLIENT_CONTEXT: Final = b"TLS 1.3, client CertificateVerify"

# In order of preference; all of these may sign a handshake.
HANDSHAKE_SCHEMES: Final[tuple[int, ...]] = (
    SignatureScheme.ECDSA_SECP256R1_SHA256,
    SignatureScheme.ED25519,
    SignatureScheme.ECDSA_SECP384R1_SHA384,
    SignatureScheme.RSA_PSS_RSAE_SHA256,
    SignatureScheme.RSA_PSS_RSAE_SHA384,
    SignatureScheme.RSA_PSS_RSAE_SHA512,
    SignatureScheme.RSA_PSS_PSS_SHA256,
    SignatureScheme.RSA_PSS_PSS_SHA384,
    SignatureScheme.RSA_PSS_PSS_SHA512,
)
# What a ClientHello lists: the above, and what may only sign certificates (RFC 8446 §4.2.3).
OFFERED_SCHEMES: Final[tuple[int, ...]] = (
    *HANDSHAKE_SCHEMES,
    SignatureScheme.RSA_PKCS1_SHA256,
    SignatureScheme.RSA_PKCS1_SHA384,
    SignatureScheme.RSA_PKCS1_SHA512,
)

_HASHES: Final[dict[int, hashes.HashAlgorithm]] = {
    SignatureScheme.ECDSA_SECP256R1_SHA256: hashes.SHA256(),
    SignatureScheme.ECDSA_SECP384R1_SHA384: hashes.SHA384(),
    SignatureScheme.RSA_PSS_RSAE_SHA256: hashes.SHA256(),
    SignatureScheme.RSA_PSS_RSAE_SHA384: hashes.SHA384(),
    SignatureScheme.RSA_PSS_RSAE_SHA512: hashes.SHA512(),
    SignatureScheme.RSA_PSS_PSS_SHA256: hashes.SHA256(),
    SignatureScheme.RSA_PSS_PSS_SHA384: hashes.SHA384(),
    SignatureScheme.RSA_PSS_PSS_SHA512: hashes.SHA512(),
}
_RSAE: Final = (
    SignatureScheme.RSA_PSS_RSAE_SHA256,
    SignatureScheme.RSA_PSS_RSAE_SHA384,
    SignatureScheme.RSA_PSS_RSAE_SHA512,
)
_PSS: Final = (
    SignatureScheme.RSA_PSS_PSS_SHA256,
    SignatureScheme.RSA_PSS_PSS_SHA384,
    SignatureScheme.RSA_PSS_PSS_SHA512,
)


def signed_content(context: bytes, transcript_hash: bytes) -> bytes:
    """What a CertificateVerify signs."""
    return b" " * 64 + context + b"\0" + transcript_hash


def schemes_for(certificate: x509.Certificate) -> tuple[int, ...]:
    """The schemes that the key of `certificate` can sign a handshake with, best first; none for unusable keys."""
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return ()
    if isinstance(key, ed25519.Ed25519PublicKey):
        return (SignatureScheme.ED25519,)
    if isinstance(key, ec.EllipticCurvePublicKey):
        if isinstance(key.curve, ec.SECP256R1):
            return (SignatureScheme.ECDSA_SECP256R1_SHA256,)
        return (SignatureScheme.ECDSA_SECP384R1_SHA384,) if isinstance(key.curve, ec.SECP384R1) else ()
    if isinstance(key, rsa.RSAPublicKey):
        restricted = certificate.public_key_algorithm_oid == PublicKeyAlgorithmOID.RSASSA_PSS
        return tuple(scheme for scheme in (_PSS if restricted else _RSAE) if _fits(scheme, key.key_size))
    return ()


def _fits(scheme: int, key_size: int) -> bool:
    """Whether an RSA key is large enough: encoded, a hash and a salt of its size need two bytes more (RFC 8017 §9.1.1)."""
    return (key_size + 6) // 8 >= 2 * _HASHES[scheme].digest_size + 2


def choose_scheme(certificate: x509.Certificate, offered: Sequence[int]) -> int:
    """The scheme to sign with, among those that the peer accepts. Raises `AlertHandshakeFailure` when there is none."""
    for scheme in schemes_for(certificate):
        if scheme in offered:
            return scheme
    raise AlertHandshakeFailure("the peer accepts no signature that the certificate's key can make")


def sign(key: PrivateKey, scheme: int, content: bytes) -> bytes:
    """Sign `content`; `scheme` is one that `choose_scheme` gave for the key's certificate."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(content)
    algorithm = _HASHES[scheme]
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(content, ec.ECDSA(algorithm))
    return key.sign(content, padding.PSS(padding.MGF1(algorithm), algorithm.digest_size), algorithm)


def verify(certificate: x509.Certificate, scheme: int, signature: bytes, content: bytes) -> None:
    """Check a handshake signature; raises the `Alert` that says what is wrong with it (RFC 8446 §4.4.3)."""
    if scheme not in HANDSHAKE_SCHEMES:
        raise AlertIllegalParameter(f"the peer signs with scheme {scheme:#06x}, which was not offered")
    fitting = schemes_for(certificate)
    if not fitting:
        raise AlertBadCertificate("the certificate's public key is of a kind that cannot be used")
    if scheme not in fitting:
        raise AlertIllegalParameter("the peer's signature scheme does not fit the key of its certificate")
    key = certificate.public_key()
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, content)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, content, ec.ECDSA(_HASHES[scheme]))
        elif isinstance(key, rsa.RSAPublicKey):
            algorithm = _HASHES[scheme]
            key.verify(signature, content, padding.PSS(padding.MGF1(algorithm), algorithm.digest_size), algorithm)
    except InvalidSignature:
        raise AlertDecryptError("the peer's signature over the handshake does not verify") from None
