"""Both machines against an independent one: OpenSSL, through Python's `ssl` in memory.

OpenSSL speaks TLS over a byte stream, so the test wraps our messages in TLS records (RFC 8446 §5), which QUIC replaces: our
machines are the same ones, given no transport parameters. OpenSSL's client uses middlebox compatibility mode; the record
layer drops its ChangeCipherSpec and our server echoes its session id.
"""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from helpers.certificates import Certificates, make_certificates
from helpers.handshakes import FixedEnvironment, client_settings, server_settings
from quicio.tls.client import ClientHandshake
from quicio.tls.constants import EPOCH_INITIAL, CipherSuite, Group
from quicio.tls.context import Handshake
from quicio.tls.key_schedule import HASHES, hkdf_expand_label
from quicio.tls.outputs import CertificateDecision, ClientHelloDecision, InstallSecret, SendHandshake
from quicio.tls.server import ServerHandshake
from quicio.tls.settings import ClientSettings, ServerSettings

CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA = 20, 21, 22, 23
KEY_SIZES = {
    CipherSuite.AES_128_GCM_SHA256: 16,
    CipherSuite.AES_256_GCM_SHA384: 32,
    CipherSuite.CHACHA20_POLY1305_SHA256: 32,
}
SUITES = list(KEY_SIZES)
KEYS = ["p256", "p384", "ed25519", "rsa"]


class RecordKey:
    """Record protection under one secret (RFC 8446 §5.2)."""

    def __init__(self, secret: InstallSecret) -> None:
        hash_name = HASHES[secret.cipher_suite]
        suite = CipherSuite(secret.cipher_suite)
        key = hkdf_expand_label(hash_name, secret.secret, "key", b"", KEY_SIZES[suite])
        is_chacha = suite == CipherSuite.CHACHA20_POLY1305_SHA256
        self._aead = ChaCha20Poly1305(key) if is_chacha else AESGCM(key)
        self._iv = int.from_bytes(hkdf_expand_label(hash_name, secret.secret, "iv", b"", 12), "big")
        self._number = 0

    def _nonce(self) -> bytes:
        self._number += 1
        return (self._iv ^ (self._number - 1)).to_bytes(12, "big")

    def seal(self, kind: int, data: bytes) -> bytes:
        header = bytes((APPLICATION_DATA, 3, 3)) + (len(data) + 17).to_bytes(2, "big")
        return header + self._aead.encrypt(self._nonce(), data + bytes((kind,)), header)

    def open(self, header: bytes, data: bytes) -> tuple[int, bytes]:
        inner = self._aead.decrypt(self._nonce(), data, header).rstrip(b"\0")
        return inner[-1], inner[:-1]


class Stream:
    """One of our machines behind a record layer, connected to an `ssl.SSLObject`."""

    def __init__(self, handshake: Handshake, settings: ClientSettings | ServerSettings) -> None:
        self.handshake = handshake
        self.settings = settings
        self.application_data = b""
        self.alerts: list[bytes] = []
        self._keys: dict[bool, RecordKey] = {}
        self._received = b""
        self._to_send = b""

    def take(self, data: bytes) -> None:
        """Bytes of OpenSSL's."""
        self._received += data
        while len(self._received) >= 5:
            end = 5 + int.from_bytes(self._received[3:5], "big")
            if len(self._received) < end:
                return
            header, content = self._received[:5], self._received[5:end]
            self._received = self._received[end:]
            kind = header[0]
            if kind == APPLICATION_DATA:
                kind, content = self._keys[False].open(header, content)
            if kind == HANDSHAKE:
                self.handshake.receive(self.handshake.receive_epoch, content)
                self.act()
            elif kind == APPLICATION_DATA:
                self.application_data += content
            elif kind == ALERT:
                self.alerts.append(content)

    def act(self) -> None:
        """Do what the machine says."""
        while self.handshake.outputs:
            output = self.handshake.outputs.popleft()
            if isinstance(output, SendHandshake):
                if output.epoch == EPOCH_INITIAL:
                    self._to_send += bytes((HANDSHAKE, 3, 3)) + len(output.data).to_bytes(2, "big") + output.data
                else:
                    self._to_send += self._keys[True].seal(HANDSHAKE, output.data)
            elif isinstance(output, InstallSecret):
                self._keys[output.is_sealing] = RecordKey(output)
            elif isinstance(output, ClientHelloDecision):
                assert isinstance(self.settings, ServerSettings)
                self.handshake.decide(output.id, self.settings.answer(output.client_hello))
            elif isinstance(output, CertificateDecision):
                assert isinstance(self.settings, ClientSettings)
                self.handshake.decide(output.id, self.settings.judge(output, FixedEnvironment()))

    def send(self, data: bytes) -> None:
        self._to_send += self._keys[True].seal(APPLICATION_DATA, data)

    def give(self) -> bytes:
        data, self._to_send = self._to_send, b""
        return data


def converse(stream: Stream, context: ssl.SSLContext, *, is_server: bool) -> ssl.SSLObject:
    """Shake hands with OpenSSL, then exchange data in both directions."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    name = None if is_server else "localhost"
    peer = context.wrap_bio(incoming, outgoing, server_side=is_server, server_hostname=name)
    done = False
    for _ in range(10):
        stream.act()
        incoming.write(stream.give())
        try:
            peer.do_handshake()
            done = True
        except ssl.SSLWantReadError:
            pass
        stream.take(outgoing.read())
    assert done
    assert stream.handshake.is_complete
    peer.write(b"from OpenSSL")
    stream.take(outgoing.read())
    stream.send(b"from quicio")
    incoming.write(stream.give())
    assert peer.read(100) == b"from quicio"
    assert stream.application_data == b"from OpenSSL"
    assert stream.alerts == []
    return peer


def openssl_client(certificates: Certificates) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=certificates.authority_pem.decode())
    context.set_alpn_protocols(["other", "h3"])
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def openssl_server(certificates: Certificates, folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (folder / "chain.pem").write_bytes(certificates.identity.chain_pem + certificates.identity.key_pem)
    context.load_cert_chain(folder / "chain.pem")
    context.set_alpn_protocols(["h3"])
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def our_client(certificates: Certificates, **changes: object) -> Stream:
    settings = client_settings(certificates, **({"required_extensions": ()} | changes))
    handshake = ClientHandshake(settings, FixedEnvironment())
    handshake.start()
    return Stream(handshake, settings)


def our_server(certificates: Certificates, **changes: object) -> Stream:
    settings = server_settings(certificates, **({"required_extensions": ()} | changes))
    return Stream(ServerHandshake(settings, FixedEnvironment()), settings)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("suite", SUITES)
def test_our_server(suite: CipherSuite, key: str) -> None:
    certificates = make_certificates(key, intermediates=1)
    stream = our_server(certificates, cipher_suites=[suite])
    peer = converse(stream, openssl_client(certificates), is_server=False)
    assert peer.selected_alpn_protocol() == stream.handshake.alpn == "h3"
    assert stream.handshake.server_name == "localhost"
    assert stream.handshake.cipher_suite == suite
    assert peer.version() == "TLSv1.3"


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("suite", SUITES)
def test_our_client(suite: CipherSuite, key: str, tmp_path: Path) -> None:
    certificates = make_certificates(key, intermediates=1)
    stream = our_client(certificates, cipher_suites=[suite])
    peer = converse(stream, openssl_server(certificates, tmp_path), is_server=True)
    assert peer.selected_alpn_protocol() == stream.handshake.alpn == "h3"
    assert stream.handshake.cipher_suite == suite
    assert stream.handshake.peer_certificates == certificates.chain


@pytest.mark.parametrize("group", [Group.X25519, Group.SECP256R1, Group.SECP384R1])
def test_our_server_asks_for_a_group(group: Group) -> None:
    """OpenSSL's client sends one share, of X25519 or its hybrid; for the others we send it a HelloRetryRequest."""
    certificates = make_certificates()
    stream = our_server(certificates, groups=[group], cookie=b"a cookie")
    converse(stream, openssl_client(certificates), is_server=False)
    assert stream.handshake.group == group


@pytest.mark.parametrize(
    ("curve", "group"), [("prime256v1", Group.SECP256R1), ("secp384r1", Group.SECP384R1), ("X25519", Group.X25519)]
)
def test_our_client_is_asked_for_a_group(curve: str, group: Group, tmp_path: Path) -> None:
    """OpenSSL's server takes one group only, and sends us a HelloRetryRequest where we sent no share of it."""
    certificates = make_certificates()
    context = openssl_server(certificates, tmp_path)
    context.set_ecdh_curve(curve)
    stream = our_client(certificates)
    converse(stream, context, is_server=True)
    assert stream.handshake.group == group


def test_our_client_is_asked_for_a_certificate(tmp_path: Path) -> None:
    """We have none, and say so in the proper form (RFC 8446 §4.4.2)."""
    certificates = make_certificates()
    context = openssl_server(certificates, tmp_path)
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_verify_locations(cadata=certificates.authority_pem.decode())
    peer = converse(our_client(certificates), context, is_server=True)
    assert peer.getpeercert(binary_form=True) is None


class Lying(ServerHandshake):
    """A server whose Finished is wrong."""

    def _make_finished(self, secret: bytes) -> bytes:
        finished = super()._make_finished(secret)
        return finished[:-1] + bytes((finished[-1] ^ 1,))


def test_openssl_refuses_a_wrong_finished() -> None:
    """So what passes above was checked by the peer."""
    certificates = make_certificates()
    settings = server_settings(certificates, required_extensions=())
    stream = Stream(Lying(settings, FixedEnvironment(seed=1)), settings)
    with pytest.raises(ssl.SSLError):
        converse(stream, openssl_client(certificates), is_server=False)
