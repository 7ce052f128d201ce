"""HKDF, the chain of secrets, the transcript; RFC 8448's values are in test_rfc8448.py."""

from __future__ import annotations

import hashlib

import pytest

from quicio.tls.constants import CipherSuite
from quicio.tls.key_schedule import KeySchedule, Transcript, hkdf_expand, hkdf_expand_label, hkdf_extract


def test_hkdf_of_rfc_5869() -> None:
    """RFC 5869 §A.1."""
    key_material = bytes.fromhex("0b" * 22)
    secret = hkdf_extract("sha256", bytes.fromhex("000102030405060708090a0b0c"), key_material)
    assert secret.hex() == "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5"
    output = hkdf_expand("sha256", secret, bytes.fromhex("f0f1f2f3f4f5f6f7f8f9"), 42)
    assert output.hex() == "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"


def test_limits_of_expansion() -> None:
    assert len(hkdf_expand("sha256", bytes(32), b"", 255 * 32)) == 255 * 32
    with pytest.raises(ValueError, match="RFC 5869"):
        hkdf_expand("sha256", bytes(32), b"", 255 * 32 + 1)
    with pytest.raises(ValueError, match="at most 249 bytes"):
        hkdf_expand_label("sha256", bytes(32), "x" * 250, b"", 32)
    with pytest.raises(ValueError, match=r"at most 65,535"):
        hkdf_expand_label("sha256", bytes(32), "x", b"", 0x10000)


def test_hash_of_each_suite() -> None:
    assert KeySchedule(CipherSuite.AES_128_GCM_SHA256).hash_name == "sha256"
    assert KeySchedule(CipherSuite.AES_256_GCM_SHA384).hash_name == "sha384"
    assert KeySchedule(CipherSuite.CHACHA20_POLY1305_SHA256).hash_name == "sha256"


def test_transcript_before_the_suite_is_known() -> None:
    """Messages wait for their hash function."""
    transcript = Transcript()
    transcript.add(b"first")
    with pytest.raises(RuntimeError, match="not known before"):
        transcript.digest()
    transcript.add(b"second")
    transcript.use("sha384")
    transcript.add(b"third")
    assert transcript.digest() == hashlib.sha384(b"firstsecondthird").digest()


def test_transcript_restarts() -> None:
    """RFC 8446 §4.4.1: the first ClientHello is replaced by a message that holds its hash."""
    transcript = Transcript()
    transcript.add(b"hello")
    transcript.use("sha256")
    transcript.restart_with_message_hash()
    transcript.add(b"retry")
    expected = b"\xfe\x00\x00\x20" + hashlib.sha256(b"hello").digest() + b"retry"
    assert transcript.digest() == hashlib.sha256(expected).digest()
