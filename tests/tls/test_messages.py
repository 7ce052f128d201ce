"""Messages as data: they are read as they were written, and nothing but an `Alert` comes out of reading anything else."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quicio.tls import extensions
from quicio.tls.alerts import Alert, AlertDecodeError, AlertIllegalParameter
from quicio.tls.constants import (
    HELLO_RETRY_REQUEST_RANDOM,
    MAX_CERTIFICATES,
    MAX_EXTENSIONS,
    ExtensionType,
    HandshakeType,
)
from quicio.tls.messages import (
    Certificate,
    CertificateRequest,
    CertificateVerify,
    ClientHello,
    EncryptedExtensions,
    Finished,
    NewSessionTicket,
    ServerHello,
)

KNOWN = {int(kind) for kind in ExtensionType}
uint16 = st.integers(0, 0xFFFF)
uint32 = st.integers(0, 0xFFFFFFFF)
unknown_types = uint16.filter(lambda kind: kind not in KNOWN)
blocks = st.lists(st.tuples(unknown_types, st.binary(max_size=40)), max_size=6, unique_by=lambda item: item[0])
randoms = st.binary(min_size=32, max_size=32)
session_ids = st.binary(max_size=32)

MESSAGES: dict[type[Any], st.SearchStrategy[Any]] = {
    ClientHello: st.builds(
        ClientHello,
        random=randoms,
        cipher_suites=st.lists(uint16, min_size=1, max_size=5),
        extensions=blocks,
        legacy_session_id=session_ids,
        legacy_compression_methods=st.binary(min_size=1, max_size=3),
        server_name=st.none(),
        alpn_protocols=st.none(),
        supported_versions=st.none(),
        supported_groups=st.none(),
        signature_algorithms=st.none(),
        key_shares=st.none(),
        cookie=st.none(),
        has_pre_shared_key=st.just(False),
        has_early_data=st.just(False),
    ),
    ServerHello: st.builds(
        ServerHello, random=randoms, cipher_suite=uint16, extensions=blocks, legacy_session_id_echo=session_ids
    ),
    EncryptedExtensions: st.builds(EncryptedExtensions, extensions=blocks),
    CertificateRequest: st.builds(CertificateRequest, request_context=st.binary(max_size=255), extensions=blocks),
    Certificate: st.builds(
        Certificate,
        request_context=st.binary(max_size=255),
        entries=st.lists(st.tuples(st.binary(min_size=1, max_size=50), blocks), max_size=MAX_CERTIFICATES),
    ),
    CertificateVerify: st.builds(CertificateVerify, algorithm=uint16, signature=st.binary(max_size=200)),
    NewSessionTicket: st.builds(
        NewSessionTicket,
        lifetime=uint32,
        age_add=uint32,
        nonce=st.binary(max_size=255),
        ticket=st.binary(min_size=1, max_size=100),
        extensions=blocks,
    ),
}


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: str(kind.__name__))
@given(data=st.data())
def test_round_trip(kind: type[Any], data: st.DataObject) -> None:
    """Written and read again, a message is the same."""
    message = data.draw(MESSAGES[kind])
    encoded = message.encode()
    assert int.from_bytes(encoded[1:4], "big") == len(encoded) - 4
    assert kind.parse(encoded[4:]) == message


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: str(kind.__name__))
@given(data=st.data())
def test_truncation_and_additions_are_refused(kind: type[Any], data: st.DataObject) -> None:
    """Security row 13. One message has an optional end: hellos without extensions are those of older versions."""
    body = data.draw(MESSAGES[kind]).encode()[4:]
    cut = data.draw(st.integers(0, len(body) - 1))
    if kind in (ClientHello, ServerHello):
        message = kind.parse(body)
        message.extensions = []
        if cut == len(message.encode()) - 4 - 2:
            cut -= 1
    with pytest.raises(AlertDecodeError):
        kind.parse(body[:cut])
    with pytest.raises(AlertDecodeError):
        kind.parse(body + b"\0")


@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: str(kind.__name__))
@given(data=st.data())
def test_mutations_raise_nothing_but_alerts(kind: type[Any], data: st.DataObject) -> None:
    """Security row 13."""
    body = bytearray(data.draw(MESSAGES[kind]).encode()[4:])
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(Alert):
        kind.parse(bytes(body))


@given(kind=st.sampled_from(list(ExtensionType)), content=st.binary(max_size=60))
def test_contents_of_extensions_raise_nothing_but_alerts(kind: ExtensionType, content: bytes) -> None:
    """Security row 13: every extension that a ClientHello's parser reads, with any content."""
    with contextlib.suppress(Alert):
        ClientHello.parse(ClientHello(bytes(32), [0x1301], [(kind, content)]).encode()[4:])


def test_fields_of_a_client_hello() -> None:
    """Known extensions are read into fields, others kept as they are."""
    hello = ClientHello(
        bytes(32),
        [0x1301],
        [
            (ExtensionType.SERVER_NAME, extensions.encode_server_name("host.example")),
            (ExtensionType.ALPN, extensions.encode_alpn([b"h3", b"\xff"])),
            (ExtensionType.SUPPORTED_VERSIONS, extensions.encode_supported_versions([0x0304, 0x5A5A])),
            (ExtensionType.SUPPORTED_GROUPS, extensions.encode_integers([29, 23])),
            (ExtensionType.SIGNATURE_ALGORITHMS, extensions.encode_integers([0x0403])),
            (ExtensionType.KEY_SHARE, extensions.encode_key_shares([(29, b"x"), (23, b"yy")])),
            (ExtensionType.COOKIE, extensions.encode_cookie(b"cookie")),
            (ExtensionType.EARLY_DATA, b""),
            (0x39, b"parameters"),
            (ExtensionType.PSK_KEY_EXCHANGE_MODES, extensions.encode_modes([1, 0])),
            (ExtensionType.PRE_SHARED_KEY, extensions.encode_pre_shared_keys([(b"label", 7)], [bytes(32)])),
        ],
    )
    parsed = ClientHello.parse(hello.encode()[4:])
    assert parsed.server_name == "host.example"
    assert parsed.alpn_protocols == [b"h3", b"\xff"]
    assert parsed.supported_versions == [0x0304, 0x5A5A]
    assert parsed.supported_groups == [29, 23]
    assert parsed.signature_algorithms == [0x0403]
    assert parsed.key_shares == [(29, b"x"), (23, b"yy")]
    assert parsed.cookie == b"cookie"
    assert parsed.has_early_data
    assert parsed.has_pre_shared_key
    assert parsed.psk_modes == [1, 0]
    assert parsed.identities == [(b"label", 7)]
    assert parsed.binders == [bytes(32)]
    assert parsed.extension(0x39) == b"parameters"
    assert parsed.extension(0x40) is None
    assert parsed.extensions == hello.extensions


def test_number_of_extensions() -> None:
    """Security row 13: so many extensions and no more."""
    items = [(0x8000 + number, b"") for number in range(MAX_EXTENSIONS + 1)]
    assert len(EncryptedExtensions.parse(EncryptedExtensions(items[:-1]).encode()[4:]).extensions) == MAX_EXTENSIONS
    with pytest.raises(AlertIllegalParameter, match=f"more than {MAX_EXTENSIONS} extensions"):
        EncryptedExtensions.parse(EncryptedExtensions(items).encode()[4:])


def test_number_of_certificates() -> None:
    """Security row 13: a chain of so many certificates and no more."""
    message = Certificate(b"", [(b"x", [])] * (MAX_CERTIFICATES + 1)).encode()
    with pytest.raises(AlertIllegalParameter, match=f"more than {MAX_CERTIFICATES} certificates"):
        Certificate.parse(message[4:])


def test_hello_retry_request_is_told_by_its_random() -> None:
    assert ServerHello(HELLO_RETRY_REQUEST_RANDOM, 0x1301, []).is_hello_retry_request
    assert not ServerHello(bytes(32), 0x1301, []).is_hello_retry_request


@given(size=st.integers(0, 64))
def test_finished_has_the_size_of_the_hash(size: int) -> None:
    message = Finished(bytes(size)).encode()
    assert message[0] == HandshakeType.FINISHED
    if size == 32:
        assert Finished.parse(message[4:], 32) == Finished(bytes(32))
    else:
        with pytest.raises(AlertDecodeError):
            Finished.parse(message[4:], 32)
