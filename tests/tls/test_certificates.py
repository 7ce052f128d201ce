"""Reading certificates and keys, and every case that verification accepts or refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed448
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier
from hypothesis import given
from hypothesis import strategies as st

from helpers.certificates import (
    DAY,
    EPOCH,
    NOW,
    Issuer,
    issue,
    key_usage,
    make_authority,
    make_certificates,
    make_key,
)
from helpers.handshakes import FixedEnvironment
from quicio.environment import Environment
from quicio.tls.alerts import (
    Alert,
    AlertBadCertificate,
    AlertCertificateExpired,
    AlertUnknownCA,
    AlertUnsupportedCertificate,
)
from quicio.tls.certificates import (
    MAX_NAMES_TOLD,
    TrustStore,
    check_private_key,
    load_certificate_chain,
    load_private_key,
    load_trust,
    parse_peer_certificate,
    system_trust,
    verify_chain,
)
from quicio.tls.signatures import schemes_for

Extension = tuple[x509.ExtensionType, bool]


@dataclass
class Case:
    """A chain, what is trusted, and the name asked for."""

    chain: list[x509.Certificate]
    trusted: list[x509.Certificate] = field(default_factory=lambda: [make_authority().certificate])
    name: str = "host.example"
    now: float = NOW

    def judge(self) -> Alert | bool:
        store = TrustStore(tuple(self.trusted), "the test's store")
        return verify_chain(self.chain, server_name=self.name, trust=store, now=self.now)


def leaf(
    issuer: Issuer | None = None,
    *,
    names: tuple[str, ...] = ("host.example",),
    key: str = "p256",
    critical_names: bool = False,
    is_authority: bool | None = False,
    not_before: timedelta = -DAY,
    not_after: timedelta = DAY,
    extensions: tuple[Extension, ...] = (),
) -> x509.Certificate:
    return issue(
        "leaf",
        make_key(key),
        issuer or make_authority(),
        names=names,
        critical_names=critical_names,
        is_authority=is_authority,
        not_before=EPOCH + not_before,
        not_after=EPOCH + not_after,
        extensions=extensions,
    )


@cache
def self_signed(key: str = "p256", *, is_authority: bool | None = False, subject: str = "alone") -> x509.Certificate:
    return issue(subject, make_key(key, 7), names=("host.example",), is_authority=is_authority)


def middle(
    *,
    is_authority: bool | None = True,
    extensions: tuple[Extension, ...] = (),
    not_after: timedelta = DAY,
    issuer: Issuer | None = None,
) -> Issuer:
    certificate = issue(
        "middle",
        make_key("p256", 2),
        issuer or make_authority(),
        is_authority=is_authority,
        not_after=EPOCH + not_after,
        extensions=extensions,
    )
    return Issuer(certificate, make_key("p256", 2))


def under(issuer: Issuer, *more: Issuer) -> Case:
    """A leaf under intermediates, which the peer sends with it."""
    return Case([leaf(issuer), issuer.certificate, *(other.certificate for other in more)])


def extended_usage(*usages: ObjectIdentifier) -> Extension:
    return x509.ExtendedKeyUsage(list(usages)), False


def constraint(*, permitted: str | None = None, excluded: str | None = None) -> Extension:
    return (
        x509.NameConstraints(
            None if permitted is None else [x509.DNSName(permitted)],
            None if excluded is None else [x509.DNSName(excluded)],
        ),
        True,
    )


def identified_leaf() -> Case:
    """With both key identifiers, as public authorities issue."""
    root = make_authority()
    public_key = root.certificate.public_key()
    assert isinstance(public_key, ec.EllipticCurvePublicKey)
    extensions: tuple[Extension, ...] = (
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(public_key), False),
        (x509.SubjectKeyIdentifier.from_public_key(make_key("p256").public_key()), False),
    )
    return Case([leaf(extensions=extensions)])


@cache
def old_root() -> x509.Certificate:
    return issue("old", make_key("p256", 8), is_authority=True, not_after=EPOCH - timedelta(hours=1))


UNKNOWN: Extension = (x509.UnrecognizedExtension(ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True)
UNKNOWN_UNCRITICAL: Extension = (UNKNOWN[0], False)

ACCEPTED: dict[str, Callable[[], Case]] = {
    "leaf under a private authority without key identifiers": lambda: Case([leaf()]),
    "leaf and authority with key identifiers": identified_leaf,
    "self-signed leaf that is the trust store": lambda: Case([self_signed()], [self_signed()]),
    "self-signed leaf with CA:true that is the trust store": lambda: Case(
        [self_signed(is_authority=True)], [self_signed(is_authority=True)]
    ),
    "self-signed leaf without basicConstraints that is the trust store": lambda: Case(
        [self_signed(is_authority=None)], [self_signed(is_authority=None)]
    ),
    "leaf with CA:true": lambda: Case([leaf(is_authority=True)]),
    "leaf without basicConstraints": lambda: Case([leaf(is_authority=None)]),
    "critical subjectAltName beside a subject": lambda: Case([leaf(critical_names=True)]),
    "name in another case": lambda: Case([leaf()], name="HOST.Example"),
    "name with the root's dot": lambda: Case([leaf()], name="host.example."),
    "second name of several": lambda: Case([leaf(names=("a.example", "host.example"))]),
    "wildcard": lambda: Case([leaf(names=("*.example.com",))], name="any.example.com"),
    "IPv4 address": lambda: Case([leaf(names=("192.0.2.1",))], name="192.0.2.1"),
    "IPv6 address": lambda: Case([leaf(names=("2001:db8::1",))], name="2001:db8:0::1"),
    "IPv6 address with a zone": lambda: Case([leaf(names=("fe80::1",))], name="fe80::1%eth0"),
    "intermediate sent": lambda: under(middle()),
    "intermediate trusted": lambda: Case([leaf(middle())], [middle().certificate]),
    "intermediates in any order, with one that is not needed": lambda: Case(
        [leaf(middle()), self_signed(), middle().certificate]
    ),
    "root sent too": lambda: Case([leaf(), make_authority().certificate]),
    "several trusted": lambda: Case([leaf()], [self_signed(), make_authority().certificate]),
    "RSA leaf": lambda: Case([leaf(key="rsa")]),
    "P-384 leaf": lambda: Case([leaf(key="p384")]),
    "Ed25519 leaf under an ECDSA authority": lambda: Case([leaf(key="ed25519")]),
    "Ed25519 leaf under an RSA authority": lambda: Case(
        [leaf(make_authority("rsa"), key="ed25519")], [make_authority("rsa").certificate]
    ),
    "self-signed Ed25519 leaf that is the trust store": lambda: Case(
        [self_signed("ed25519")], [self_signed("ed25519")]
    ),
    "KeyUsage of a leaf with digitalSignature": lambda: Case(
        [leaf(extensions=((key_usage("digital_signature"), True),))]
    ),
    "ExtendedKeyUsage of a leaf with serverAuth": lambda: Case(
        [leaf(extensions=(extended_usage(ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH),))]
    ),
    "ExtendedKeyUsage of a leaf with any": lambda: Case(
        [leaf(extensions=(extended_usage(ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE),))]
    ),
    "KeyUsage of an intermediate with keyCertSign": lambda: under(
        middle(extensions=((key_usage("key_cert_sign"), True),))
    ),
    "name within the constraint": lambda: under(middle(extensions=(constraint(permitted="example"),))),
    "unknown extension that is not critical": lambda: Case([leaf(extensions=(UNKNOWN_UNCRITICAL,))]),
    "first second of validity": lambda: Case([leaf()], now=(EPOCH - DAY).timestamp()),
    "last second of validity": lambda: Case([leaf()], now=(EPOCH + DAY).timestamp()),
}

Refusal = tuple[type[Alert], str, Callable[[], Case]]
REFUSED: dict[str, Refusal] = {
    "nothing trusted": (
        AlertUnknownCA,
        "no certificate is trusted: the test's store is empty",
        lambda: Case([leaf()], []),
    ),
    "unknown authority": (AlertUnknownCA, "issuer 'CN=quicio test root'", lambda: Case([leaf()], [self_signed()])),
    "intermediate missing": (AlertUnknownCA, "issuer 'CN=middle'", lambda: Case([leaf(middle())])),
    "intermediate's issuer unknown": (
        AlertUnknownCA,
        "issuer 'CN=quicio test root'",
        lambda: Case([leaf(middle()), middle().certificate], [self_signed()]),
    ),
    "self-signed and not trusted": (
        AlertUnknownCA,
        "self-signed certificate of 'CN=alone' is not trusted: it is not in the test's store",
        lambda: Case([self_signed()]),
    ),
    "authority of the same name with another key": (
        AlertBadCertificate,
        "signature",
        lambda: Case([leaf()], [issue("quicio test root", make_key("p256", 9), is_authority=True)]),
    ),
    "wrong name": (
        AlertBadCertificate,
        "is for a.example, address 192.0.2.1, not for host.example",
        lambda: Case([leaf(names=("a.example", "192.0.2.1"))]),
    ),
    "wrong address": (
        AlertBadCertificate,
        "is for host.example, not for address 192.0.2.1",
        lambda: Case([leaf()], name="192.0.2.1"),
    ),
    "address as a DNS name": (
        AlertBadCertificate,
        "is for 192.0.2.1, not for address 192.0.2.1",
        lambda: Case(
            [issue("x", make_key("p256"), make_authority(), extensions=((dns_name("192.0.2.1"), False),))],
            name="192.0.2.1",
        ),
    ),
    "many wrong names": (
        AlertBadCertificate,
        "and 2 more, not for host.example",
        lambda: Case([leaf(names=tuple(f"h{number}.example" for number in range(MAX_NAMES_TOLD + 2)))]),
    ),
    "wildcard over two labels": (
        AlertBadCertificate,
        r"is for \*.example.com, not for a.b.example.com",
        lambda: Case([leaf(names=("*.example.com",))], name="a.b.example.com"),
    ),
    "no subjectAltName": (AlertBadCertificate, "names no host", lambda: Case([leaf(names=())], name="leaf")),
    "subjectAltName that is no host's": (
        AlertBadCertificate,
        "names no host",
        lambda: Case(
            [leaf(names=(), extensions=((x509.SubjectAlternativeName([x509.RFC822Name("a@example.com")]), False),))]
        ),
    ),
    "name that is none": (AlertBadCertificate, "neither a DNS name nor", lambda: Case([leaf()], name="not a name")),
    "no name": (AlertBadCertificate, "there is no server name", lambda: Case([leaf()], name="")),
    "expired leaf": (
        AlertCertificateExpired,
        "certificate of 'CN=leaf' expired on 2025-12-31 23:00 UTC",
        lambda: Case([leaf(not_after=timedelta(hours=-1))]),
    ),
    "leaf not valid yet": (
        AlertCertificateExpired,
        "certificate of 'CN=leaf' is not valid before 2026-01-01 01:00 UTC",
        lambda: Case([leaf(not_before=timedelta(hours=1))]),
    ),
    "expired intermediate": (
        AlertCertificateExpired,
        "certificate of 'CN=middle' expired",
        lambda: under(middle(not_after=timedelta(hours=-1))),
    ),
    "expired root": (
        AlertCertificateExpired,
        "certificate of 'CN=old' expired",
        lambda: Case(
            [leaf(Issuer(old_root(), make_key("p256", 8)))],
            [old_root()],
        ),
    ),
    "issuer that is no authority": (AlertBadCertificate, "basicConstraints", lambda: under(middle(is_authority=False))),
    "issuer without basicConstraints": (AlertBadCertificate, "refused", lambda: under(middle(is_authority=None))),
    "intermediate without keyCertSign": (
        AlertUnsupportedCertificate,
        "'CN=middle' cannot be used here: its KeyUsage does not allow to sign certificates",
        lambda: under(middle(extensions=((key_usage("crl_sign"), True),))),
    ),
    "intermediate for clients only": (
        AlertUnsupportedCertificate,
        "'CN=middle' cannot be used here: its ExtendedKeyUsage",
        lambda: under(middle(extensions=(extended_usage(ExtendedKeyUsageOID.CLIENT_AUTH),))),
    ),
    "leaf for clients only": (
        AlertUnsupportedCertificate,
        "'CN=leaf' cannot be used here: its ExtendedKeyUsage does not allow TLS servers",
        lambda: Case([leaf(extensions=(extended_usage(ExtendedKeyUsageOID.CLIENT_AUTH),))]),
    ),
    "leaf without digitalSignature": (
        AlertUnsupportedCertificate,
        "'CN=leaf' cannot be used here: its KeyUsage does not allow digital signatures",
        lambda: Case([leaf(extensions=((key_usage("key_encipherment"), True),))]),
    ),
    "name outside the permitted": (
        AlertBadCertificate,
        "refused",
        lambda: under(middle(extensions=(constraint(permitted="other"),))),
    ),
    "name within the excluded": (
        AlertBadCertificate,
        "refused",
        lambda: under(middle(extensions=(constraint(excluded="example"),))),
    ),
    "unknown critical extension of the leaf": (
        AlertBadCertificate,
        "refused",
        lambda: Case([leaf(extensions=(UNKNOWN,))]),
    ),
    "unknown critical extension of an intermediate": (
        AlertBadCertificate,
        "refused",
        lambda: under(middle(extensions=(UNKNOWN,))),
    ),
    "authority with an Ed25519 key": (
        AlertBadCertificate,
        "Forbidden public key algorithm",
        lambda: Case([leaf(make_authority("ed25519"))], [make_authority("ed25519").certificate]),
    ),
}


def dns_name(text: str) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.DNSName(text)])


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted(name: str) -> None:
    """The table of what is accepted: security row 30 is its other half."""
    assert ACCEPTED[name]().judge() is True


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    """Security row 30 (TLS identity): each defect is refused, with the alert that fits and a reason that names names."""
    alert, reason, make = REFUSED[name]
    answer = make().judge()
    assert type(answer) is alert
    with pytest.raises(alert, match=reason):
        raise answer


@given(position=st.integers(0, 400), value=st.integers(1, 255), which=st.integers(0, 1))
def test_malformed_certificates_are_refused(position: int, value: int, which: int) -> None:
    """Whatever a peer's certificate contains, the answer is an `Alert`; one whose signed part changed is never accepted."""
    chain = under(middle()).chain
    originals = [certificate.public_bytes(Encoding.DER) for certificate in chain]
    data = bytearray(originals[which])
    start = data.index(chain[which].tbs_certificate_bytes)
    position = start + position % len(chain[which].tbs_certificate_bytes)
    data[position] ^= value
    originals[which] = bytes(data)
    try:
        chain = [parse_peer_certificate(der) for der in originals]
    except AlertBadCertificate:
        return
    assert isinstance(Case(chain).judge(), Alert)


UTF8_COMMON_NAME = bytes.fromhex("06035504030c")  # the attribute's type, and the tag of its value


@pytest.mark.parametrize("attribute", ["060355040303", "06035504030d", "06035504060c"])
def test_names_of_a_strange_type_are_refused(attribute: str) -> None:
    """Security row 30: a BIT STRING, what is no string at all, and a country of more than two letters are no crash."""
    certificate = leaf()
    name = certificate.issuer.public_bytes()
    start = name.index(UTF8_COMMON_NAME) + len(UTF8_COMMON_NAME)
    value = name[start : start + 1] + b"\0" + name[start + 2 :]  # no unused bits, for the BIT STRING
    strange = name[: start - len(UTF8_COMMON_NAME)] + bytes.fromhex(attribute) + value
    certificate = parse_peer_certificate(certificate.public_bytes(Encoding.DER).replace(name, strange, 1))
    assert isinstance(Case([certificate]).judge(), Alert)


def test_peer_certificate_that_cannot_be_parsed() -> None:
    with pytest.raises(AlertBadCertificate, match="cannot be parsed"):
        parse_peer_certificate(b"\x30\x00")
    version_3, version_10 = bytes.fromhex("a003020102"), bytes.fromhex("a003020109")
    with pytest.raises(AlertBadCertificate, match="cannot be parsed"):
        parse_peer_certificate(leaf().public_bytes(Encoding.DER).replace(version_3, version_10, 1))


# Trust.


def test_trust_from_everywhere(tmp_path: Path) -> None:
    """A file, a folder and bytes, in PEM or DER, are one store together."""
    root, alone, other = make_authority().certificate, self_signed(), self_signed(subject="other")
    (tmp_path / "file.pem").write_bytes(root.public_bytes(Encoding.PEM))
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.pem").write_bytes(alone.public_bytes(Encoding.PEM))
    (folder / "a-again.0").write_bytes(alone.public_bytes(Encoding.PEM))
    (folder / "README").write_text("not a certificate")
    store = load_trust(cafile=tmp_path / "file.pem", capath=str(folder), cadata=other.public_bytes(Encoding.DER))
    assert store is not None
    assert store.certificates == (root, alone, other)
    assert store.description == f"file {tmp_path / 'file.pem'} and folder {folder} and cadata"


def test_no_trust_given() -> None:
    assert load_trust() is None


def test_a_trust_file_is_parsed_once_and_a_changed_one_anew(tmp_path: Path) -> None:
    file = tmp_path / "trust.pem"
    one, two = (make_authority(kind).certificate for kind in ("p256", "ed25519"))
    file.write_bytes(one.public_bytes(Encoding.PEM))
    first, again = load_trust(cafile=file), load_trust(cafile=str(file))
    assert first is not None
    assert again is not None
    assert first.certificates == (one,)
    assert again.certificates[0] is first.certificates[0]
    file.write_bytes(two.public_bytes(Encoding.PEM))
    changed = load_trust(cafile=file)
    assert changed is not None
    assert changed.certificates == (two,)


def test_trust_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_trust(cafile=tmp_path / "nowhere.pem")
    with pytest.raises(ValueError, match=f"folder {tmp_path} holds no certificate"):
        load_trust(capath=tmp_path)
    with pytest.raises(ValueError, match="cadata holds no certificate"):
        load_trust(cadata=b"nothing")


def test_system_trust_that_is_empty() -> None:
    """A machine without trusted certificates says so, rather than that some issuer is unknown."""
    answer = verify_chain([leaf()], server_name="host.example", trust=system_trust(FixedEnvironment()), now=NOW)
    assert isinstance(answer, AlertUnknownCA)
    assert str(answer) == "no certificate is trusted: the system's store is empty"


class Trusting(Environment):
    """A machine that trusts the tests' authority."""

    def read_system_store(self) -> list[bytes]:
        return [make_authority().certificate.public_bytes(Encoding.DER)]


def test_system_trust() -> None:
    assert verify_chain([leaf()], server_name="host.example", trust=system_trust(Trusting()), now=NOW) is True


# Loading.


def test_load_chain_in_pem_and_der() -> None:
    certificates = make_certificates(intermediates=2)
    assert load_certificate_chain(certificates.identity.chain_pem) == certificates.chain
    assert load_certificate_chain(certificates.chain[0].public_bytes(Encoding.DER)) == certificates.chain[:1]


@pytest.mark.parametrize("data", [b"", b"nothing", b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"])
def test_load_chain_names_the_file(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"^chain\.pem holds no certificate"):
        load_certificate_chain(data, name="chain.pem")


@pytest.mark.parametrize("kind", ["p256", "p384", "ed25519", "rsa"])
@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_load_key(kind: str, encoding: Encoding) -> None:
    key = make_key(kind)
    data = key.private_bytes(encoding, PrivateFormat.PKCS8, NoEncryption())
    assert load_private_key(data).public_key() == key.public_key()


@pytest.mark.parametrize("password", [b"secret", "secret"])
def test_load_encrypted_key(password: bytes | str) -> None:
    key = make_key("p256")
    data = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    assert load_private_key(data, password).public_key() == key.public_key()
    for wrong in (None, b"wrong"):
        with pytest.raises(ValueError, match=r"^key\.pem holds no private key that can be read"):
            load_private_key(data, wrong, name="key.pem")


def test_load_key_with_a_needless_password() -> None:
    with pytest.raises(ValueError, match="holds no private key that can be read"):
        load_private_key(make_certificates().identity.key_pem, b"secret")


@pytest.mark.parametrize(
    "make",
    [lambda: ed448.Ed448PrivateKey.generate(), lambda: ec.generate_private_key(ec.SECP521R1())],
    ids=["ed448", "p521"],
)
def test_load_key_of_an_unusable_kind(make: Callable[[], ed448.Ed448PrivateKey | ec.EllipticCurvePrivateKey]) -> None:
    data = make().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(ValueError, match="use RSA, P-256, P-384 or Ed25519"):
        load_private_key(data)


def test_peer_certificate_with_an_odd_serial_number() -> None:
    """What the library warns of is not this side's to change: nothing is printed, nothing raised."""
    certificate = issue("odd", make_key("p256"), names=("host.example",), serial_number=1)
    data = certificate.public_bytes(Encoding.DER).replace(
        bytes.fromhex("a003020102020101"), bytes.fromhex("a003020102020100"), 1
    )
    assert parse_peer_certificate(data).subject == certificate.subject


def test_check_private_key_of_an_unusable_certificate() -> None:
    """An unknown curve: the certificate parses, its key does not."""
    data = leaf().public_bytes(Encoding.DER)
    p256, unknown = bytes.fromhex("06082a8648ce3d030107"), bytes.fromhex("06082a8648ce3d030177")
    certificate = x509.load_der_x509_certificate(data.replace(p256, unknown))
    with pytest.raises(ValueError, match="cannot be used"):
        check_private_key(certificate, make_key("p256"))
    assert schemes_for(certificate) == ()


def test_check_private_key() -> None:
    certificates = make_certificates()
    check_private_key(certificates.chain[0], certificates.private_key)
    with pytest.raises(ValueError, match="does not belong to the certificate"):
        check_private_key(certificates.chain[0], make_key("p384"))
