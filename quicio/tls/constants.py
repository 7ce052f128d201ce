"""Code points of TLS 1.3 (RFC 8446, RFC 9846) and the named limits of this implementation.

Messages carry plain integers, because a peer may send any value (RFC 8701 makes sure that some do); the enums give the ones
that are known a name. Members compare equal to integers, so both kinds meet without conversion. The one exception is
`Epoch`, which is an `Enum` because that is what aioquic's users compare with; inside, an encryption level is one of the
`EPOCH_*` integers.

Every limit that a peer can run into is here, by name, with the reason for its value.
"""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import Final

# Protocol versions (RFC 8446 §4.1.2, §4.2.1).
LEGACY_VERSION: Final = 0x0303
TLS_1_3: Final = 0x0304

# Encryption levels (RFC 9001 §2.1).
EPOCH_INITIAL: Final = 0
EPOCH_ZERO_RTT: Final = 1
EPOCH_HANDSHAKE: Final = 2
EPOCH_ONE_RTT: Final = 3

RANDOM_SIZE: Final = 32
# The SHA-256 of "HelloRetryRequest", which marks such a message in ServerHello.random (RFC 8446 §4.1.3).
HELLO_RETRY_REQUEST_RANDOM: Final = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")

# The largest message of each type that is accepted, in bytes without the four of its header. A message announces its size
# before its content: what is too large is refused before any of it is kept.
MAX_CLIENT_HELLO_SIZE: Final = 32 * 1024  # a hybrid key share and a large ticket are 4 KiB
MAX_SERVER_HELLO_SIZE: Final = 16 * 1024  # a HelloRetryRequest may carry a cookie
MAX_ENCRYPTED_EXTENSIONS_SIZE: Final = 16 * 1024
MAX_CERTIFICATE_REQUEST_SIZE: Final = 32 * 1024  # may list the names of many authorities
MAX_CERTIFICATE_SIZE: Final = 64 * 1024
MAX_CERTIFICATE_VERIFY_SIZE: Final = 4 * 1024  # the signature of an RSA key of 16,384 bits is 2 KiB
MAX_FINISHED_SIZE: Final = 64
MAX_NEW_SESSION_TICKET_SIZE: Final = 16 * 1024

MAX_CERTIFICATES: Final = 10  # in a peer's chain, its leaf included
MAX_EXTENSIONS: Final = 128  # in one block
MAX_SUSPENDED_SIZE: Final = 64 * 1024  # handshake bytes kept while a decision is awaited
MAX_TICKETS: Final = 16  # shown to the application; a server's further tickets are ignored
TICKET_MAX_LIFETIME: Final = 7 * 24 * 3600  # seconds (RFC 8446 §4.6.1)
TICKET_MAX_CHAIN: Final = 12 * 1024  # bytes of the peer's certificates in a ticket: without room for them there is none
MAX_IDENTITIES_TRIED: Final = 4  # of the pre-shared keys that a client offers
PSK_DHE_KE: Final = 1  # the one mode of resumption here: with key exchange (RFC 8446 §4.2.9)


class Epoch(Enum):
    """An encryption level (RFC 9001 §2.1), for users of aioquic's names."""

    INITIAL = EPOCH_INITIAL
    ZERO_RTT = EPOCH_ZERO_RTT
    HANDSHAKE = EPOCH_HANDSHAKE
    ONE_RTT = EPOCH_ONE_RTT


class CipherSuite(IntEnum):
    """Cipher suites (RFC 8446 §B.4). The last is a signal of older versions that clients still send."""

    AES_128_GCM_SHA256 = 0x1301
    AES_256_GCM_SHA384 = 0x1302
    CHACHA20_POLY1305_SHA256 = 0x1303
    EMPTY_RENEGOTIATION_INFO_SCSV = 0x00FF


class HandshakeType(IntEnum):
    """Types of handshake messages (RFC 8446 §4, RFC 8879)."""

    CLIENT_HELLO = 1
    SERVER_HELLO = 2
    NEW_SESSION_TICKET = 4
    END_OF_EARLY_DATA = 5
    ENCRYPTED_EXTENSIONS = 8
    CERTIFICATE = 11
    CERTIFICATE_REQUEST = 13
    CERTIFICATE_VERIFY = 15
    FINISHED = 20
    KEY_UPDATE = 24
    COMPRESSED_CERTIFICATE = 25
    MESSAGE_HASH = 254


class ExtensionType(IntEnum):
    """Types of extensions that this implementation reads or writes (RFC 8446 §4.2)."""

    SERVER_NAME = 0
    SUPPORTED_GROUPS = 10
    SIGNATURE_ALGORITHMS = 13
    ALPN = 16
    PADDING = 21
    PRE_SHARED_KEY = 41
    EARLY_DATA = 42
    SUPPORTED_VERSIONS = 43
    COOKIE = 44
    PSK_KEY_EXCHANGE_MODES = 45
    SIGNATURE_ALGORITHMS_CERT = 50
    KEY_SHARE = 51


class Group(IntEnum):
    """Key exchange groups (RFC 8446 §4.2.7, draft-ietf-tls-ecdhe-mlkem §7)."""

    SECP256R1 = 0x0017
    SECP384R1 = 0x0018
    X25519 = 0x001D
    X25519MLKEM768 = 0x11EC


class SignatureScheme(IntEnum):
    """Signature schemes (RFC 8446 §4.2.3)."""

    RSA_PKCS1_SHA256 = 0x0401
    RSA_PKCS1_SHA384 = 0x0501
    RSA_PKCS1_SHA512 = 0x0601
    ECDSA_SECP256R1_SHA256 = 0x0403
    ECDSA_SECP384R1_SHA384 = 0x0503
    RSA_PSS_RSAE_SHA256 = 0x0804
    RSA_PSS_RSAE_SHA384 = 0x0805
    RSA_PSS_RSAE_SHA512 = 0x0806
    ED25519 = 0x0807
    RSA_PSS_PSS_SHA256 = 0x0809
    RSA_PSS_PSS_SHA384 = 0x080A
    RSA_PSS_PSS_SHA512 = 0x080B


DEFAULT_CIPHER_SUITES: Final = (
    CipherSuite.AES_128_GCM_SHA256,
    CipherSuite.AES_256_GCM_SHA384,
    CipherSuite.CHACHA20_POLY1305_SHA256,
)
DEFAULT_GROUPS: Final = (Group.X25519MLKEM768, Group.X25519, Group.SECP256R1, Group.SECP384R1)
