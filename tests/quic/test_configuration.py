"""What an application decides about its connections: fields, loaders, checks."""

from __future__ import annotations

import dataclasses
import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from helpers.certificates import Certificates, make_certificates
from quicio.quic.configuration import SMALLEST_MAX_DATAGRAM_SIZE, ErrorCodes, QuicConfiguration
from quicio.quic.wire.constants import VERSION_1, VERSION_2


@pytest.fixture
def made() -> Certificates:
    return make_certificates("ed25519", intermediates=1)


def encrypted(made: Certificates, password: bytes) -> bytes:
    return made.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password))


# --- fields -----------------------------------------------------------------------------------------------------------


def test_positional_fields_come_in_the_order_that_existing_code_relies_on() -> None:
    configuration = QuicConfiguration(["h3"], "reno", 4, 10.0, False, 1, 1300, 2)
    assert configuration.alpn_protocols == ["h3"]
    assert configuration.congestion_control_algorithm == "reno"
    assert configuration.connection_id_length == 4
    assert configuration.idle_timeout == 10.0
    assert not configuration.is_client
    assert (configuration.max_data, configuration.max_datagram_size, configuration.max_stream_data) == (1, 1300, 2)
    positional = [field for field in dataclasses.fields(QuicConfiguration) if not field.kw_only]
    assert len(positional) == 26
    with pytest.raises(TypeError):
        QuicConfiguration(*range(27))


def test_both_versions_are_offered_unless_asked_otherwise() -> None:
    assert QuicConfiguration().supported_versions == [VERSION_1, VERSION_2]


def test_defaults_are_not_shared_between_configurations() -> None:
    first, second = QuicConfiguration(), QuicConfiguration()
    first.supported_versions.append(5)
    first.certificate_chain.append(None)
    assert second.supported_versions == [VERSION_1, VERSION_2]
    assert second.certificate_chain == []


def test_the_applications_error_codes() -> None:
    assert ErrorCodes() == ErrorCodes(no_error=0, internal_error=1, cancelled=2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        ErrorCodes().no_error = 5  # type: ignore[misc]  # frozen is what is tested


# --- certificates -----------------------------------------------------------------------------------------------------


def test_a_chain_and_its_key_from_two_files(tmp_path: Path, made: Certificates) -> None:
    (tmp_path / "chain.pem").write_bytes(made.identity.chain_pem)
    (tmp_path / "key.pem").write_bytes(made.identity.key_pem)
    configuration = QuicConfiguration(is_client=False)
    configuration.load_cert_chain(tmp_path / "chain.pem", str(tmp_path / "key.pem"))
    assert [configuration.certificate, *configuration.certificate_chain] == made.chain
    assert len(configuration.certificate_chain) == 1
    assert configuration.private_key.public_key() == made.private_key.public_key()
    configuration.validate()


def test_a_chain_and_its_key_from_one_file(tmp_path: Path, made: Certificates) -> None:
    (tmp_path / "all.pem").write_bytes(made.identity.key_pem + made.identity.chain_pem)
    configuration = QuicConfiguration(is_client=False)
    configuration.load_cert_chain(str(tmp_path / "all.pem"))
    assert configuration.certificate == made.chain[0]
    assert configuration.private_key.public_key() == made.private_key.public_key()


def test_a_chain_without_a_key_leaves_the_key_as_it_was(tmp_path: Path, made: Certificates) -> None:
    (tmp_path / "chain.pem").write_bytes(made.identity.chain_pem)
    configuration = QuicConfiguration(is_client=False, private_key=made.private_key)
    configuration.load_cert_chain(tmp_path / "chain.pem")
    assert configuration.private_key is made.private_key


@pytest.mark.parametrize("password", ["secret", b"secret"])
def test_an_encrypted_key_is_opened_with_its_password(
    tmp_path: Path, made: Certificates, password: str | bytes
) -> None:
    (tmp_path / "all.pem").write_bytes(encrypted(made, b"secret") + made.identity.chain_pem)
    configuration = QuicConfiguration(is_client=False)
    configuration.load_cert_chain(tmp_path / "all.pem", password=password)
    assert configuration.private_key.public_key() == made.private_key.public_key()


@pytest.mark.parametrize("password", [None, "wrong"])
def test_an_encrypted_key_without_its_password_names_the_file(
    tmp_path: Path, made: Certificates, password: str | None
) -> None:
    (tmp_path / "key.pem").write_bytes(encrypted(made, b"secret"))
    (tmp_path / "chain.pem").write_bytes(made.identity.chain_pem)
    with pytest.raises(ValueError, match=r"key\.pem holds no private key that can be read"):
        QuicConfiguration(is_client=False).load_cert_chain(tmp_path / "chain.pem", tmp_path / "key.pem", password)


def test_files_that_cannot_be_used_are_named(tmp_path: Path, made: Certificates) -> None:
    (tmp_path / "empty.pem").write_bytes(b"")
    (tmp_path / "chain.pem").write_bytes(made.identity.chain_pem)
    curve = ec.generate_private_key(ec.SECP521R1())
    (tmp_path / "p521.pem").write_bytes(curve.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    configuration = QuicConfiguration(is_client=False)
    with pytest.raises(ValueError, match=r"empty\.pem holds no certificate"):
        configuration.load_cert_chain(tmp_path / "empty.pem")
    with pytest.raises(ValueError, match=r"chain\.pem holds no private key"):
        configuration.load_cert_chain(tmp_path / "chain.pem", tmp_path / "chain.pem")
    with pytest.raises(ValueError, match=r"p521\.pem holds a private key of a kind that cannot be used"):
        configuration.load_cert_chain(tmp_path / "chain.pem", tmp_path / "p521.pem")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pem"):
        configuration.load_cert_chain(tmp_path / "nowhere.pem")
    with pytest.raises(FileNotFoundError, match=r"nokey\.pem"):
        configuration.load_cert_chain(tmp_path / "chain.pem", tmp_path / "nokey.pem")


def test_what_peers_are_verified_against_is_set_as_a_whole() -> None:
    configuration = QuicConfiguration()
    configuration.load_verify_locations("ca.pem", "folder", b"data")
    assert (configuration.cafile, configuration.capath, configuration.cadata) == ("ca.pem", "folder", b"data")
    configuration.load_verify_locations(cafile="other.pem")
    assert (configuration.cafile, configuration.capath, configuration.cadata) == ("other.pem", None, None)


# --- copies -----------------------------------------------------------------------------------------------------------


def test_a_changed_copy_leaves_the_original_alone() -> None:
    original = QuicConfiguration(alpn_protocols=["h3"], verify_mode=ssl.CERT_NONE, groups=[0x1D])
    copy = original.replaced(server_name="example.org", idle_timeout=5.0)
    assert (copy.server_name, copy.idle_timeout, copy.verify_mode) == ("example.org", 5.0, ssl.CERT_NONE)
    assert (original.server_name, original.idle_timeout) == (None, 60.0)
    for name in ("alpn_protocols", "certificate_chain", "groups", "supported_versions"):
        assert getattr(copy, name) == getattr(original, name)
        assert getattr(copy, name) is not getattr(original, name)
    assert copy.cipher_suites is None
    assert original.replaced() == original


def test_a_misspelt_field_is_an_error() -> None:
    with pytest.raises(TypeError, match="no field 'idle_timout'"):
        QuicConfiguration().replaced(idle_timout=5.0)


# --- checks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"max_datagram_size": SMALLEST_MAX_DATAGRAM_SIZE - 1}, "at least 1200"),
        ({"connection_id_length": -1}, "between 0 and 20"),
        ({"connection_id_length": 21}, "between 0 and 20"),
        ({"supported_versions": []}, "supported_versions is empty"),
        ({"is_client": False}, "needs a certificate"),
        ({"is_client": False, "certificate": "some"}, "needs a certificate"),
    ],
)
def test_what_no_connection_could_be_made_with(changes: dict[str, object], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        QuicConfiguration().replaced(**changes).validate()


@pytest.mark.parametrize("length", [0, 20])
def test_the_bounds_of_connection_ids_are_allowed(length: int) -> None:
    QuicConfiguration(connection_id_length=length, max_datagram_size=SMALLEST_MAX_DATAGRAM_SIZE).validate()
