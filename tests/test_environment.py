"""What the core takes from the machine."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from helpers.certificates import issue, make_authority, make_key
from quicio.environment import (
    DEFAULT_ENVIRONMENT,
    MAX_SYSTEM_CERTIFICATES,
    Environment,
    parse_authorities,
    read_certificate_folder,
)

ROOT = make_authority().certificate
ROOT_DER = ROOT.public_bytes(Encoding.DER)


def test_date() -> None:
    assert abs(DEFAULT_ENVIRONMENT.wall_clock() - time.time()) < 60


def test_randomness() -> None:
    assert len(DEFAULT_ENVIRONMENT.random_bytes(32)) == 32
    assert DEFAULT_ENVIRONMENT.random_bytes(32) != DEFAULT_ENVIRONMENT.random_bytes(32)


def test_random_float() -> None:
    """All of [0, 1), from the same randomness."""

    class Fixed(Environment):
        def __init__(self, data: bytes) -> None:
            super().__init__()
            self.data = data

        def random_bytes(self, size: int) -> bytes:
            return self.data[:size]

    assert Fixed(bytes(6)).random() == 0.0
    assert Fixed(b"\x80" + bytes(5)).random() == 0.5
    assert 0.999 < Fixed(b"\xff" * 6).random() < 1.0


class Counting(Environment):
    """A machine that counts how often its store is read."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0

    def read_system_store(self) -> list[bytes]:
        self.reads += 1
        return [ROOT_DER, b"not a certificate"]


def test_system_certificates_are_read_once() -> None:
    """What cannot be parsed is left out."""
    environment = Counting()
    assert environment.system_certificates() == (ROOT,)
    assert environment.system_certificates() == (ROOT,)
    assert environment.reads == 1


def test_number_of_system_certificates() -> None:
    assert len(parse_authorities([ROOT_DER] * (MAX_SYSTEM_CERTIFICATES + 5))) == MAX_SYSTEM_CERTIFICATES


def test_store_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenSSL's own variables name the store, as they do for everybody else."""
    (tmp_path / "store.pem").write_bytes(ROOT.public_bytes(Encoding.PEM))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "store.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "nowhere"))
    assert Environment().system_certificates() == (ROOT,)


def test_store_in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder is loaded lazily by OpenSSL, which shows nothing of it: it is read here."""
    (tmp_path / "root.pem").write_bytes(ROOT.public_bytes(Encoding.PEM))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "nowhere.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    assert Environment().system_certificates() == (ROOT,)


def test_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "nowhere.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "nowhere"))
    assert Environment().system_certificates() == ()


def test_folder(tmp_path: Path) -> None:
    """Every PEM file, in the order of their names, each certificate once; anything else is passed over."""
    other = issue("other", make_key("p384"), is_authority=True)
    (tmp_path / "b.pem").write_bytes(ROOT.public_bytes(Encoding.PEM) + other.public_bytes(Encoding.PEM))
    (tmp_path / "a.pem").write_bytes(other.public_bytes(Encoding.PEM))
    (tmp_path / "README").write_text("nothing")
    (tmp_path / "folder").mkdir()
    assert read_certificate_folder(tmp_path) == [other.public_bytes(Encoding.DER), ROOT_DER]
    assert read_certificate_folder(tmp_path / "nowhere") == []
