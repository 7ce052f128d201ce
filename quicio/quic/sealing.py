"""One packet's way from frames to protected bytes, where it is not part of a batch (RFC 9001 §5).

`LongPacket` is a packet of the handshake that waits for the rest of its datagram: only then is it known whether it has to be
padded, and only then is it sealed. 1-RTT packets that share a datagram with handshake packets take the same way.
"""

from typing import Final

from quicio.buffer import size_uint_var
from quicio.quic.wire.constants import AEAD_TAG_SIZE, APPLICATION, INITIAL
from quicio.quic.wire.crypto import SealingKey
from quicio.quic.wire.headers import HANDSHAKE_PACKET, INITIAL_PACKET, ZERO_RTT_PACKET, encode_long_header
from quicio.quic.wire.packet_builder import PacketBuilder, Token

LONG_FIXED_SIZE: Final = 9  # first byte, version, two ID lengths, two bytes of Length
PACKET_TYPES: Final = (INITIAL_PACKET, HANDSHAKE_PACKET, ZERO_RTT_PACKET)  # by space


def short_overhead(cid: bytes, number_bytes: bytes) -> int:
    """What a short-header packet takes beside its frames, in bytes."""
    return 1 + len(cid) + len(number_bytes) + AEAD_TAG_SIZE


class LongPacket:
    """A packet of any space on its way into a coalesced datagram."""

    __slots__ = (
        "_number_length",
        "_peer_cid",
        "_source_cid",
        "_token",
        "_version",
        "ack_eliciting",
        "in_flight",
        "is_zero_rtt",
        "kind",
        "number",
        "overhead",
        "payload",
        "sealing",
        "size",
        "space",
        "tokens",
    )

    def __init__(
        self,
        space: int,
        sealing: SealingKey,
        version: int,
        peer_cid: bytes,
        source_cid: bytes,
        token: bytes,
        number_bytes: bytes,
        is_zero_rtt: bool = False,
    ) -> None:
        self.space: int = space
        self.is_zero_rtt: bool = is_zero_rtt
        self.sealing: SealingKey = sealing
        self._version = version
        self._peer_cid = peer_cid
        self._source_cid = source_cid
        self._token = token
        self._number_length = len(number_bytes)
        if space == APPLICATION and not is_zero_rtt:
            self.overhead = short_overhead(peer_cid, number_bytes)
        else:
            self.overhead = LONG_FIXED_SIZE + len(peer_cid) + len(source_cid) + self._number_length + AEAD_TAG_SIZE
            if space == INITIAL:
                self.overhead += size_uint_var(len(token)) + len(token)
        self.number = 0
        self.payload = b""
        self.size = 0
        self.kind = 0
        self.tokens: list[Token] = []
        self.ack_eliciting = False
        self.in_flight = False

    def complete(self, number: int, payload: bytes) -> None:
        """The packet holds `payload` and nobody waits for its fate."""
        self.number = number
        self.payload = payload
        self.size = self.overhead + len(payload)

    def finish(self, number: int, payload: bytes, packet: PacketBuilder, min_payload: int) -> None:
        """Take over what the components wrote."""
        self.complete(number, payload + bytes(max(0, min_payload - len(payload))))
        self.kind = packet.kind
        self.tokens = packet.tokens
        self.ack_eliciting = packet.ack_eliciting
        self.in_flight = packet.in_flight

    def pad(self, size: int) -> None:
        """Append PADDING frames."""
        self.payload += bytes(size)
        self.size += size

    def seal(self) -> bytes:
        """The protected packet."""
        length = self._number_length
        number_bytes = (self.number & ((1 << 8 * length) - 1)).to_bytes(length, "big")
        first_mask = 0x0F
        if self.space == APPLICATION and not self.is_zero_rtt:
            first = 0x40 | (0x04 if self.sealing.phase & 1 else 0) | length - 1
            header = bytes((first,)) + self._peer_cid + number_bytes
            first_mask = 0x1F
        else:
            header = encode_long_header(
                self._version,
                PACKET_TYPES[self.space],
                self._peer_cid,
                self._source_cid,
                self._token,
                length + len(self.payload) + AEAD_TAG_SIZE,
                number_bytes,
            )
        ciphertext = self.sealing.seal(self.number, header, self.payload)
        mask = self.sealing.masks([ciphertext[4 - length : 20 - length]])
        end = len(header) - length
        number = int.from_bytes(number_bytes, "big") ^ int.from_bytes(mask[1 : 1 + length], "big")
        return (
            bytes((header[0] ^ (mask[0] & first_mask),)) + header[1:end] + number.to_bytes(length, "big") + ciphertext
        )
