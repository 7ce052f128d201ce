"""One packet's way from frames to protected bytes (RFC 9001 §5), opened again by the other side's keys."""

from __future__ import annotations

import pytest

from helpers.recovery import make_path
from quicio.quic.sealing import LongPacket, ShortBatch, short_overhead
from quicio.quic.wire.constants import (
    APPLICATION,
    EPOCH_HANDSHAKE,
    EPOCH_INITIAL,
    EPOCH_ONE_RTT,
    FULL,
    HANDSHAKE,
    INITIAL,
    PROBE,
    VERSION_1,
    VERSION_2,
)
from quicio.quic.wire.crypto import AES_128_GCM_SHA256, CHACHA20_POLY1305_SHA256, KeyRing, OpeningKey, SealingKey
from quicio.quic.wire.headers import encode_packet_number, parse_long_header
from quicio.quic.wire.packet_builder import PacketBuilder

PEER, SOURCE = b"peer-cid", b"mine"
SECRET = bytes(range(32))
EPOCHS = {INITIAL: EPOCH_INITIAL, HANDSHAKE: EPOCH_HANDSHAKE, APPLICATION: EPOCH_ONE_RTT}


def make(
    space: int, number_bytes: bytes = b"\x00\x07", token: bytes = b"", suite: int = AES_128_GCM_SHA256
) -> LongPacket:
    return LongPacket(space, SealingKey(SECRET, suite, VERSION_1), VERSION_1, PEER, SOURCE, token, number_bytes)


def unprotect(packet: bytes, offset: int, end: int, mask_bits: int, key: OpeningKey) -> tuple[int, int, bytes | None]:
    """First byte, truncated number and payload of a protected packet."""
    mask = key.masks([packet[offset + 4 : offset + 20]])
    first = packet[0] ^ (mask[0] & mask_bits)
    length = (first & 3) + 1
    number = int.from_bytes(packet[offset : offset + length], "big") ^ int.from_bytes(mask[1 : 1 + length], "big")
    header = bytes((first,)) + packet[1:offset] + number.to_bytes(length, "big")
    return first, number, key.open(number, header, packet[offset + length : end])


def test_what_a_short_header_takes() -> None:
    assert short_overhead(b"12345678", 2) == 1 + 8 + 2 + 16
    assert short_overhead(b"", 4) == 21


@pytest.mark.parametrize("suite", [AES_128_GCM_SHA256, CHACHA20_POLY1305_SHA256])
@pytest.mark.parametrize("space", [INITIAL, HANDSHAKE])
@pytest.mark.parametrize("number_length", [2, 3, 4])
def test_a_long_packet_has_the_size_it_promises_and_opens(suite: int, space: int, number_length: int) -> None:
    token = b"t" * 70 if space == INITIAL else b""
    item = make(space, bytes(number_length), token, suite)
    item.complete(0x1234, b"\x01" * 40)
    packet = item.seal()
    assert len(packet) == item.size == item.overhead + 40
    header = parse_long_header(packet, 0)
    assert (header.version, header.destination_cid, header.source_cid) == (VERSION_1, PEER, SOURCE)
    assert header.token == token
    assert header.end == len(packet)
    key = OpeningKey(SECRET, suite, VERSION_1)
    first, number, payload = unprotect(packet, header.packet_number_offset, header.end, 0x0F, key)
    assert payload == b"\x01" * 40
    assert number == 0x1234
    assert first & 0x0C == 0  # reserved bits
    assert (first & 3) + 1 == number_length


@pytest.mark.parametrize("phase", [0, 1, 2])
def test_a_short_packet_beside_long_ones_shows_its_key_phase(phase: int) -> None:
    item = make(APPLICATION)
    item.sealing.phase = phase
    item.complete(9, b"\x01" * 10)
    packet = item.seal()
    assert len(packet) == item.size == short_overhead(PEER, 2) + 10
    assert packet[1:9] == PEER
    first, number, payload = unprotect(packet, 9, len(packet), 0x1F, OpeningKey(SECRET, AES_128_GCM_SHA256, VERSION_1))
    assert payload == b"\x01" * 10
    assert number == 9
    assert first & 0xC0 == 0x40
    assert bool(first & 0x04) == bool(phase & 1)
    assert first & 0x18 == 0


def test_version_two_has_its_own_codes_for_packet_types() -> None:
    """RFC 9369 §3.2."""
    ring = KeyRing(True)
    ring.install_initial(PEER, VERSION_2)
    sealing = ring.sealing[EPOCH_INITIAL]
    assert sealing is not None
    item = LongPacket(INITIAL, sealing, VERSION_2, PEER, SOURCE, b"", encode_packet_number(0, -1))
    item.complete(0, bytes(50))
    header = parse_long_header(item.seal(), 0)
    assert (header.version, header.packet_type) == (VERSION_2, 0)


def test_a_token_is_counted_and_only_in_initial_packets() -> None:
    plain, with_token = make(INITIAL), make(INITIAL, token=b"t" * 64)
    assert with_token.overhead == plain.overhead + 64 + 1  # its length takes two bytes instead of one
    assert make(HANDSHAKE).overhead == plain.overhead - 1


def test_what_the_components_wrote_is_taken_over() -> None:
    builder = PacketBuilder(make_path())
    builder.begin(HANDSHAKE, builder.path, PROBE, 100)
    token = (object(), 1)
    builder.push(b"\x01", token)
    item = make(HANDSHAKE)
    item.finish(5, b"\x01", builder, 4)
    assert item.payload == b"\x01\x00\x00\x00"  # enough for a sample of header protection (RFC 9001 §5.4.2)
    assert item.tokens == [token]
    assert (item.kind, item.number, item.ack_eliciting, item.in_flight) == (PROBE, 5, True, True)
    builder.begin(HANDSHAKE, builder.path, FULL, 100)
    assert item.tokens == [token]  # the builder goes on, the packet keeps its own
    item.finish(6, b"12345", builder, 4)
    assert item.payload == b"12345"
    assert not item.ack_eliciting


def test_padding_comes_behind_and_counts() -> None:
    item = make(HANDSHAKE)
    item.complete(0, b"\x01\x01\x01\x01")
    size = item.size
    item.pad(30)
    assert item.payload == b"\x01\x01\x01\x01" + bytes(30)
    assert item.size == size + 30 == len(item.seal())


@pytest.mark.parametrize("suite", [AES_128_GCM_SHA256, CHACHA20_POLY1305_SHA256])
@pytest.mark.parametrize("phase", [0, 1, 2])
@pytest.mark.parametrize(("length", "first_number"), [(2, 0xFFFE), (3, 0x1FFFFFF), (4, 0x2FFFFFFFF)])
def test_a_batch_opens_with_the_keys_of_its_phase(suite: int, phase: int, length: int, first_number: int) -> None:
    """Header protection for all packets at once, the Key Phase bit in each (RFC 9001 §5.4, §6); runs and single packets."""
    sealing = SealingKey(SECRET, suite, VERSION_1, phase=phase)
    batch = ShortBatch(sealing, PEER, length)
    payloads = [bytes((1,)) * size for size in (4, 20, 1171, 30)]
    assert batch.add(first_number, payloads[0]) == batch.overhead + 4 == 1 + 8 + length + 16 + 4
    batch.add_run(first_number + 1, payloads[1:3])
    batch.add(first_number + 9, payloads[3])
    assert len(batch) == sealing.sealed == 4
    opening = OpeningKey(SECRET, suite, VERSION_1)
    numbers = (first_number, first_number + 1, first_number + 2, first_number + 9)
    for datagram, number, payload in zip(batch.protect(), numbers, payloads, strict=True):
        assert len(datagram) == batch.overhead + len(payload)
        mask = opening.masks([datagram[13:29]])
        first = datagram[0] ^ (mask[0] & 0x1F)
        assert (first & 3) + 1 == length
        assert first & 0xE0 == 0x40
        assert bool(first & 0x04) == bool(phase & 1)
        shown = bytes(a ^ b for a, b in zip(datagram[9 : 9 + length], mask[1 : 1 + length], strict=True))
        assert int.from_bytes(shown, "big") == number & ((1 << 8 * length) - 1)
        header = bytes((first,)) + datagram[1:9] + shown
        assert opening.open(number, header, datagram[9 + length :]) == payload


def test_a_batch_takes_the_header_of_the_one_before_while_it_fits() -> None:
    sealing = SealingKey(SECRET, AES_128_GCM_SHA256, VERSION_1)
    header = ShortBatch(sealing, PEER, 2).header
    assert ShortBatch(sealing, PEER, 2, header).header is header
    for other in (
        ShortBatch(sealing, PEER, 3, header),
        ShortBatch(sealing, b"another", 2, header),
        ShortBatch(sealing.following(), PEER, 2, header),
    ):
        assert other.header is not header
        assert other.header.plain == bytes((other.header.first,)) + other.header.cid
