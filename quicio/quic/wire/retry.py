"""Retry packets and their integrity tag (RFC 9000 §17.2.5, RFC 9001 §5.8, RFC 9369 §3.3.3).

The tag is an AEAD over nothing, with the packet as associated data and a key that everyone knows. It proves one thing:
that whoever made the packet had seen the client's first Initial, because that packet's Destination Connection ID goes
into the tag and not into the packet. So an off-path attacker can forge no Retry, and damage in transit shows.

What a token contains and how it is checked is no business of this module: tokens are bytes that only their issuer
reads.
"""

from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from quicio.quic.wire.constants import VERSION_2
from quicio.quic.wire.headers import RETRY_PACKET, encode_connection_ids, encode_first_byte

_KEY_V1: Final = bytes.fromhex("be0c690b9f66575a1d766b54e368c84e")
_NONCE_V1: Final = bytes.fromhex("461599d35d632bf2239825bb")
_KEY_V2: Final = bytes.fromhex("8fb4b01b56ac48e260fbcbcead7ccc92")
_NONCE_V2: Final = bytes.fromhex("d86969bc2d7c6d9990efb04a")


def retry_integrity_tag(packet_without_tag: bytes, original_dcid: bytes, version: int) -> bytes:
    """The 16-byte Retry Integrity Tag (RFC 9001 §5.8).

    `original_dcid` is the Destination Connection ID of the Initial that the Retry answers. Compare tags with
    `stateless_reset.tokens_equal` or `hmac.compare_digest`.
    """
    key = _KEY_V2 if version == VERSION_2 else _KEY_V1
    nonce = _NONCE_V2 if version == VERSION_2 else _NONCE_V1
    pseudo_packet = bytes((len(original_dcid),)) + original_dcid + packet_without_tag
    return AESGCM(key).encrypt(nonce, b"", pseudo_packet)


def encode_retry(
    version: int, source_cid: bytes, destination_cid: bytes, original_dcid: bytes, token: bytes, unused: int = 0
) -> bytes:
    """A Retry packet with its tag (RFC 9000 §17.2.5); ValueError for an empty token, which clients discard.

    `source_cid` is what the client is to use as destination from now on, `destination_cid` the client's own, and
    `original_dcid` the one the client sent to. `unused` fills the four unused bits of the first byte.
    """
    if not token:
        raise ValueError("A Retry packet needs a token that is not empty")
    first_byte = encode_first_byte(version, RETRY_PACKET, unused & 0x0F)
    packet = encode_connection_ids(first_byte, version, destination_cid, source_cid) + token
    return packet + retry_integrity_tag(packet, original_dcid, version)
