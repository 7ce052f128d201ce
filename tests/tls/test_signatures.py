"""Signatures over the handshake: which scheme fits which key, and what a wrong one is called."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa

from helpers.certificates import EPOCH, make_certificates
from quicio.tls.alerts import AlertBadCertificate, AlertDecryptError, AlertHandshakeFailure, AlertIllegalParameter
from quicio.tls.certificates import load_certificate_chain, load_private_key
from quicio.tls.constants import SignatureScheme as Scheme
from quicio.tls.signatures import (
    HANDSHAKE_SCHEMES,
    OFFERED_SCHEMES,
    PrivateKey,
    choose_scheme,
    schemes_for,
    sign,
    signed_content,
    verify,
)

RSA_PSS = (Path(__file__).parent.parent / "vectors" / "rsa-pss.pem").read_bytes()
FITTING = {
    "p256": (Scheme.ECDSA_SECP256R1_SHA256,),
    "p384": (Scheme.ECDSA_SECP384R1_SHA384,),
    "ed25519": (Scheme.ED25519,),
    "rsa": (Scheme.RSA_PSS_RSAE_SHA256, Scheme.RSA_PSS_RSAE_SHA384, Scheme.RSA_PSS_RSAE_SHA512),
    "rsa-pss": (Scheme.RSA_PSS_PSS_SHA256, Scheme.RSA_PSS_PSS_SHA384, Scheme.RSA_PSS_PSS_SHA512),
}


def identity(kind: str) -> tuple[x509.Certificate, PrivateKey]:
    if kind == "rsa-pss":
        return load_certificate_chain(RSA_PSS)[0], load_private_key(RSA_PSS)
    certificates = make_certificates(kind)
    return certificates.chain[0], certificates.private_key


@pytest.mark.parametrize("kind", FITTING)
def test_schemes_of_a_key(kind: str) -> None:
    """Each fitting scheme signs and verifies; every other is refused as not fitting."""
    certificate, key = identity(kind)
    assert schemes_for(certificate) == FITTING[kind]
    for scheme in HANDSHAKE_SCHEMES:
        if scheme not in FITTING[kind]:
            with pytest.raises(AlertIllegalParameter, match="does not fit"):
                verify(certificate, scheme, bytes(64), b"content")
            continue
        signature = sign(key, scheme, b"content")
        verify(certificate, scheme, signature, b"content")
        for wrong in (signature[:-1], b"", bytes(len(signature)), signature + b"\0"):
            with pytest.raises(AlertDecryptError):
                verify(certificate, scheme, wrong, b"content")
        with pytest.raises(AlertDecryptError):
            verify(certificate, scheme, signature, b"other content")


def test_choice() -> None:
    certificate, _ = identity("rsa")
    assert choose_scheme(certificate, OFFERED_SCHEMES) == Scheme.RSA_PSS_RSAE_SHA256
    assert choose_scheme(certificate, [0x1A1A, Scheme.RSA_PSS_RSAE_SHA512]) == Scheme.RSA_PSS_RSAE_SHA512
    with pytest.raises(AlertHandshakeFailure):
        choose_scheme(certificate, [Scheme.RSA_PKCS1_SHA256, Scheme.RSA_PSS_PSS_SHA256])


@pytest.mark.parametrize("scheme", sorted(set(OFFERED_SCHEMES) - set(HANDSHAKE_SCHEMES)) + [0x0203, 0])
def test_schemes_that_sign_no_handshake(scheme: int) -> None:
    """RFC 8446 §4.2.3: PKCS #1 is for certificates alone."""
    certificate, _ = identity("rsa")
    with pytest.raises(AlertIllegalParameter, match="was not offered"):
        verify(certificate, scheme, bytes(256), b"content")


def unusual(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed448.Ed448PrivateKey) -> x509.Certificate:
    name = x509.Name([])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, EPOCH, EPOCH)
    return builder.sign(key, None if isinstance(key, ed448.Ed448PrivateKey) else hashes.SHA256())


@pytest.mark.parametrize(
    "key",
    [ed448.Ed448PrivateKey.generate(), ec.generate_private_key(ec.SECP521R1())],
    ids=["ed448", "p521"],
)
def test_unusable_keys(key: ec.EllipticCurvePrivateKey | ed448.Ed448PrivateKey) -> None:
    certificate = unusual(key)
    assert schemes_for(certificate) == ()
    with pytest.raises(AlertBadCertificate, match="cannot be used"):
        verify(certificate, Scheme.ED25519, bytes(64), b"content")
    with pytest.raises(AlertHandshakeFailure):
        choose_scheme(certificate, OFFERED_SCHEMES)


def test_rsa_key_too_small_for_a_hash() -> None:
    """RFC 8017 §9.1.1: 1024 bits have no room for SHA-512 with a salt of its size."""
    certificate = unusual(rsa.generate_private_key(65537, 1024))
    assert schemes_for(certificate) == (Scheme.RSA_PSS_RSAE_SHA256, Scheme.RSA_PSS_RSAE_SHA384)


def test_signed_content() -> None:
    """RFC 8446 §4.4.3, its example."""
    expected = "20" * 64 + "544c5320312e332c207365727665722043657274696669636174655665726966790001" + "01" * 31
    assert signed_content(b"TLS 1.3, server CertificateVerify", b"\1" * 32).hex() == expected
