"""A packet's way from frames to protected bytes (RFC 9001 §5).

`LongPacket` is a packet of the handshake that waits for the rest of its datagram: only then is it known whether it has to be
padded, and only then is it sealed. 1-RTT packets that share a datagram with handshake packets take the same way.

`ShortBatch` holds the short-header packets that will be one batch. They share connection ID, key, and the length of the
packet number, so that the room for frames is one number for all of them; they are sealed one by one or a run at a time, and
masked all at once. `ShortHeader` is what outlives a batch: the start of the header in each form that the mask can give it.
"""

from struct import iter_unpack
from typing import Final

from quicio.buffer import size_uint_var
from quicio.quic.wire.constants import AEAD_TAG_SIZE, APPLICATION, INITIAL
from quicio.quic.wire.crypto import SAMPLE_SIZE, SealingKey
from quicio.quic.wire.headers import HANDSHAKE_PACKET, INITIAL_PACKET, ZERO_RTT_PACKET, encode_long_header
from quicio.quic.wire.packet_builder import PacketBuilder, Token

LONG_FIXED_SIZE: Final = 9  # first byte, version, two ID lengths, two bytes of Length
PACKET_TYPES: Final = (INITIAL_PACKET, HANDSHAKE_PACKET, ZERO_RTT_PACKET)  # by space
FIRST_BYTE_MASK: Final = 0x1F  # the bits of a short header's first byte that are protected
MASK_FORMAT: Final = ">BI11x"  # of a mask: the byte for the first byte, four for the packet number, the rest unused


def short_overhead(cid: bytes, number_length: int) -> int:
    """What a short-header packet takes beside its frames, in bytes."""
    return 1 + len(cid) + number_length + AEAD_TAG_SIZE


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
            self.overhead = short_overhead(peer_cid, len(number_bytes))
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
            first_mask = FIRST_BYTE_MASK
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


class ShortHeader:
    """Short headers without their packet number: first byte and connection ID (RFC 9000 §17.3.1)."""

    __slots__ = ("cid", "first", "masked", "plain")

    def __init__(self, first: int, cid: bytes) -> None:
        self.first: int = first
        self.cid: bytes = cid
        self.plain: bytes = bytes((first,)) + cid
        # By the five bits of the mask that a short header takes (RFC 9001 §5.4.1).
        self.masked: list[bytes] = [bytes((first ^ bits,)) + cid for bits in range(FIRST_BYTE_MASK + 1)]


class ShortBatch:
    """Short-header packets that will be one batch: sealed one by one or in runs, masked all at once."""

    __slots__ = ("_ciphertexts", "_number_length", "_number_mask", "_numbers", "header", "overhead", "sealing")

    def __init__(self, sealing: SealingKey, cid: bytes, number_length: int, last: ShortHeader | None = None) -> None:
        """`number_length` is the size of the packet number field; `last` the header of an earlier batch, for use again."""
        first = 0x40 | (0x04 if sealing.phase & 1 else 0) | number_length - 1
        if last is None or last.first != first or last.cid != cid:
            last = ShortHeader(first, cid)
        self.header: ShortHeader = last
        self.sealing: SealingKey = sealing
        self.overhead: int = short_overhead(cid, number_length)  # of each packet, in bytes
        self._number_length = number_length
        self._number_mask: int = (1 << 8 * number_length) - 1
        self._numbers: list[int] = []
        self._ciphertexts: list[bytes] = []

    def __len__(self) -> int:
        return len(self._numbers)

    def add(self, number: int, payload: bytes) -> int:
        """Seal a packet; returns its size."""
        length = self._number_length
        header = self.header.plain + (number & self._number_mask).to_bytes(length, "big")
        self._ciphertexts.append(self.sealing.seal(number, header, payload))
        self._numbers.append(number)
        return self.overhead + len(payload)

    def add_run(self, number: int, payloads: list[bytes]) -> None:
        """Seal packets numbered from `number` on, no more than `sealing.sealable()`."""
        self._ciphertexts += self.sealing.seal_run(number, self.header.plain, self._number_length, payloads)
        self._numbers += range(number, number + len(payloads))

    def protect(self) -> list[bytes]:
        """The datagrams, header protection applied (RFC 9001 §5.4)."""
        length = self._number_length
        number_mask = self._number_mask
        shift = 32 - 8 * length
        masked = self.header.masked
        start = 4 - length  # the sample is taken as if the packet number had four bytes (RFC 9001 §5.4.2)
        stop = start + SAMPLE_SIZE
        masks = self.sealing.masks([ciphertext[start:stop] for ciphertext in self._ciphertexts])
        datagrams: list[bytes] = []
        for (first, bits), number, ciphertext in zip(
            iter_unpack(MASK_FORMAT, masks), self._numbers, self._ciphertexts, strict=True
        ):
            shown = (number ^ bits >> shift) & number_mask
            datagrams.append(b"".join((masked[first & FIRST_BYTE_MASK], shown.to_bytes(length, "big"), ciphertext)))
        return datagrams
