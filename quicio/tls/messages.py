"""Handshake messages of TLS 1.3 as data (RFC 8446 §4), and how they are written and read.

A message is a small dataclass with two verbs: `encode()` gives the whole message with its four-byte header, `parse(body)`
reads what follows that header. Reading is strict where the RFC is: lengths must fit exactly, lists that may not be empty may
not be empty, nothing may be left over, no extension may appear twice. Reading is tolerant where the RFC demands it: values
that are not known here, in any list, are kept as the integers they are (RFC 8701).

Whatever the bytes, `parse` returns a message or raises an `Alert`: `decode_error` for what cannot be split into fields, and
`illegal_parameter` for fields that contradict a rule which needs no knowledge of the handshake's state.

Extensions stay as a list of (type, bytes), in their order; `quicio.tls.extensions` reads and writes their contents. What is
allowed when, and whether it answers what was asked, is the business of `client` and `server`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from quicio.tls import extensions
from quicio.tls.alerts import AlertDecodeError, AlertIllegalParameter, AlertProtocolVersion
from quicio.tls.codec import Reader, vector
from quicio.tls.constants import (
    HELLO_RETRY_REQUEST_RANDOM,
    LEGACY_VERSION,
    MAX_CERTIFICATES,
    MAX_EXTENSIONS,
    RANDOM_SIZE,
    ExtensionType,
    HandshakeType,
)

Extensions = list[tuple[int, bytes]]


def encode_message(message_type: int, body: bytes) -> bytes:
    """A message with its header (RFC 8446 §4)."""
    return bytes((message_type,)) + len(body).to_bytes(3, "big") + body


def encode_extensions(items: Extensions) -> bytes:
    """An extension block with its length (RFC 8446 §4.2)."""
    return vector(2, b"".join(kind.to_bytes(2, "big") + vector(2, data) for kind, data in items))


def parse_extensions(reader: Reader) -> Extensions:
    """Read an extension block. Repeated types are refused (RFC 8446 §4.2)."""
    block = Reader(reader.vector(2))
    items: Extensions = []
    seen: set[int] = set()
    while not block.at_end:
        kind = block.integer(2)
        data = block.vector(2)
        if kind in seen:
            raise AlertIllegalParameter(f"extension {kind} appears twice in one message")
        if len(items) == MAX_EXTENSIONS:
            raise AlertIllegalParameter(f"more than {MAX_EXTENSIONS} extensions in one message")
        seen.add(kind)
        items.append((kind, data))
    return items


@dataclass
class ClientHello:
    """The client's offer (RFC 8446 §4.1.2). The fields from `server_name` on are read from `extensions`.

    `None` stands for an extension that is not there. `identities` are the labels of pre-shared keys with their obfuscated
    ages, `binders` their proofs. `server_name` is as the client wrote it, without a check that it is a
    name of the domain name system. `alpn_protocols` are bytes: a client may grease them.
    """

    random: bytes
    cipher_suites: list[int]
    extensions: Extensions
    legacy_session_id: bytes = b""
    legacy_compression_methods: bytes = b"\0"
    server_name: str | None = None
    alpn_protocols: list[bytes] | None = None
    supported_versions: list[int] | None = None
    supported_groups: list[int] | None = None
    signature_algorithms: list[int] | None = None
    key_shares: list[tuple[int, bytes]] | None = None
    cookie: bytes | None = None
    psk_modes: list[int] | None = None
    identities: list[tuple[bytes, int]] = field(default_factory=list)
    binders: list[bytes] = field(default_factory=list)
    has_pre_shared_key: bool = False
    has_early_data: bool = False

    def encode(self) -> bytes:
        """The whole message, from the first five fields."""
        body = LEGACY_VERSION.to_bytes(2, "big") + self.random + vector(1, self.legacy_session_id)
        body += extensions.encode_integers(self.cipher_suites)
        body += vector(1, self.legacy_compression_methods) + encode_extensions(self.extensions)
        return encode_message(HandshakeType.CLIENT_HELLO, body)

    @classmethod
    def parse(cls, body: bytes) -> ClientHello:
        reader = Reader(body)
        version = reader.integer(2)
        hello = cls(reader.take(RANDOM_SIZE), [], [], reader.vector(1, maximum=32))
        hello.cipher_suites = reader.integers(2)
        hello.legacy_compression_methods = reader.vector(1, minimum=1)
        # Extensions may be missing in versions before 1.3 alone: the lack of supported_versions tells the server.
        if not reader.at_end:
            hello.extensions = parse_extensions(reader)
        reader.finish("ClientHello")
        if version != LEGACY_VERSION:
            raise AlertProtocolVersion("ClientHello.legacy_version is not that of TLS 1.2")
        hello._read_extensions()
        return hello

    def _read_extensions(self) -> None:
        for position, (kind, data) in enumerate(self.extensions):
            if kind == ExtensionType.SERVER_NAME:
                self.server_name = extensions.parse_server_name(data)
            elif kind == ExtensionType.ALPN:
                self.alpn_protocols = extensions.parse_alpn(data)
            elif kind == ExtensionType.SUPPORTED_VERSIONS:
                self.supported_versions = extensions.parse_supported_versions(data)
            elif kind == ExtensionType.SUPPORTED_GROUPS:
                self.supported_groups = extensions.parse_integers(data, "supported_groups")
            elif kind == ExtensionType.SIGNATURE_ALGORITHMS:
                self.signature_algorithms = extensions.parse_integers(data, "signature_algorithms")
            elif kind == ExtensionType.KEY_SHARE:
                self.key_shares = extensions.parse_key_shares(data)
            elif kind == ExtensionType.COOKIE:
                self.cookie = extensions.parse_cookie(data)
            elif kind == ExtensionType.PSK_KEY_EXCHANGE_MODES:
                self.psk_modes = extensions.parse_modes(data)
            elif kind == ExtensionType.EARLY_DATA:
                extensions.parse_empty(data, "early_data")
                self.has_early_data = True
            elif kind == ExtensionType.PRE_SHARED_KEY:
                self.has_pre_shared_key = True
                if position != len(self.extensions) - 1:
                    raise AlertIllegalParameter("pre_shared_key is not the last extension of the ClientHello")
                self.identities, self.binders = extensions.parse_pre_shared_keys(data)

    def extension(self, kind: int) -> bytes | None:
        """The content of an extension, or None."""
        return dict(self.extensions).get(kind)


@dataclass
class ServerHello:
    """The server's choice, or its demand for another ClientHello (RFC 8446 §4.1.3, §4.1.4)."""

    random: bytes
    cipher_suite: int
    extensions: Extensions
    legacy_session_id_echo: bytes = b""

    @property
    def is_hello_retry_request(self) -> bool:
        """Whether this is a HelloRetryRequest, which its random tells."""
        return self.random == HELLO_RETRY_REQUEST_RANDOM

    def encode(self) -> bytes:
        """The whole message."""
        body = LEGACY_VERSION.to_bytes(2, "big") + self.random + vector(1, self.legacy_session_id_echo)
        body += self.cipher_suite.to_bytes(2, "big") + b"\0" + encode_extensions(self.extensions)
        return encode_message(HandshakeType.SERVER_HELLO, body)

    @classmethod
    def parse(cls, body: bytes) -> ServerHello:
        reader = Reader(body)
        version = reader.integer(2)
        random = reader.take(RANDOM_SIZE)
        session_id = reader.vector(1, maximum=32)
        cipher_suite = reader.integer(2)
        compression = reader.integer(1)
        # A server that chooses TLS 1.2 may leave extensions out: it is told protocol_version rather than decode_error.
        items = [] if reader.at_end else parse_extensions(reader)
        reader.finish("ServerHello")
        if version != LEGACY_VERSION:
            raise AlertProtocolVersion("ServerHello.legacy_version is not that of TLS 1.2")
        if compression != 0:
            raise AlertIllegalParameter("ServerHello chooses a compression method")
        return cls(random, cipher_suite, items, session_id)


@dataclass
class EncryptedExtensions:
    """The server's answers that need no cryptography (RFC 8446 §4.3.1)."""

    extensions: Extensions

    def encode(self) -> bytes:
        """The whole message."""
        return encode_message(HandshakeType.ENCRYPTED_EXTENSIONS, encode_extensions(self.extensions))

    @classmethod
    def parse(cls, body: bytes) -> EncryptedExtensions:
        reader = Reader(body)
        message = cls(parse_extensions(reader))
        reader.finish("EncryptedExtensions")
        return message


@dataclass
class CertificateRequest:
    """A server asks for a client certificate (RFC 8446 §4.3.2)."""

    request_context: bytes
    extensions: Extensions

    def encode(self) -> bytes:
        """The whole message."""
        body = vector(1, self.request_context) + encode_extensions(self.extensions)
        return encode_message(HandshakeType.CERTIFICATE_REQUEST, body)

    @classmethod
    def parse(cls, body: bytes) -> CertificateRequest:
        reader = Reader(body)
        message = cls(reader.vector(1), parse_extensions(reader))
        reader.finish("CertificateRequest")
        return message


@dataclass
class Certificate:
    """A chain, leaf first: each certificate in DER with its extensions (RFC 8446 §4.4.2)."""

    request_context: bytes
    entries: list[tuple[bytes, Extensions]] = field(default_factory=list)

    def encode(self) -> bytes:
        """The whole message."""
        entries = b"".join(vector(3, data) + encode_extensions(items) for data, items in self.entries)
        return encode_message(HandshakeType.CERTIFICATE, vector(1, self.request_context) + vector(3, entries))

    @classmethod
    def parse(cls, body: bytes) -> Certificate:
        reader = Reader(body)
        message = cls(reader.vector(1))
        block = Reader(reader.vector(3))
        reader.finish("Certificate")
        while not block.at_end:
            if len(message.entries) == MAX_CERTIFICATES:
                raise AlertIllegalParameter(f"more than {MAX_CERTIFICATES} certificates in the peer's chain")
            message.entries.append((block.vector(3, minimum=1), parse_extensions(block)))
        return message


@dataclass
class CertificateVerify:
    """The proof that a side has the private key of its certificate (RFC 8446 §4.4.3)."""

    algorithm: int
    signature: bytes

    def encode(self) -> bytes:
        """The whole message."""
        body = self.algorithm.to_bytes(2, "big") + vector(2, self.signature)
        return encode_message(HandshakeType.CERTIFICATE_VERIFY, body)

    @classmethod
    def parse(cls, body: bytes) -> CertificateVerify:
        reader = Reader(body)
        message = cls(reader.integer(2), reader.vector(2))
        reader.finish("CertificateVerify")
        return message


@dataclass
class Finished:
    """The proof that both sides saw the same handshake (RFC 8446 §4.4.4)."""

    verify_data: bytes

    def encode(self) -> bytes:
        """The whole message."""
        return encode_message(HandshakeType.FINISHED, self.verify_data)

    @classmethod
    def parse(cls, body: bytes, size: int) -> Finished:
        """Read it; `size` is that of the cipher suite's hash."""
        if len(body) != size:
            raise AlertDecodeError("Finished does not have the size of the cipher suite's hash")
        return cls(body)


@dataclass
class NewSessionTicket:
    """A ticket for a later handshake (RFC 8446 §4.6.1). `lifetime` is in seconds, `age_add` in milliseconds."""

    lifetime: int
    age_add: int
    nonce: bytes
    ticket: bytes
    extensions: Extensions

    def encode(self) -> bytes:
        """The whole message."""
        body = self.lifetime.to_bytes(4, "big") + self.age_add.to_bytes(4, "big") + vector(1, self.nonce)
        body += vector(2, self.ticket) + encode_extensions(self.extensions)
        return encode_message(HandshakeType.NEW_SESSION_TICKET, body)

    @classmethod
    def parse(cls, body: bytes) -> NewSessionTicket:
        reader = Reader(body)
        lifetime = reader.integer(4)
        age_add = reader.integer(4)
        message = cls(lifetime, age_add, reader.vector(1), reader.vector(2, minimum=1), parse_extensions(reader))
        reader.finish("NewSessionTicket")
        return message
