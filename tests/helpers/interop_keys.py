"""Packet protection, written a second time for the taps of the interop tests: RFC 9001 §5 and §6, RFC 9369 §3.3.

It stands on `cryptography` alone and shares nothing with quicio, so what both agree on is what the RFCs say.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

V1: Final = 0x00000001
V2: Final = 0x6B3343CF
SALTS: Final = {
    V1: bytes.fromhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a"),
    V2: bytes.fromhex("0dede3def700a6db819381be6e269dcbf9bd2ed9"),
}
AES_128_GCM: Final = 0x1301
AES_256_GCM: Final = 0x1302
CHACHA20_POLY1305: Final = 0x1303


def expand_label(secret: bytes, label: str, size: int, algorithm: hashes.HashAlgorithm) -> bytes:
    """HKDF-Expand-Label (RFC 8446 §7.1) without context."""
    name = b"tls13 " + label.encode()
    info = size.to_bytes(2, "big") + bytes([len(name)]) + name + b"\x00"
    return HKDFExpand(algorithm, size, info).derive(secret)


class Keys:
    """The keys of one direction at one level, and of the generations that follow them at 1-RTT."""

    def __init__(self, secret: bytes, version: int, suite: int) -> None:
        self.suite = suite
        self.largest = -1  # packet number that was opened
        self._algorithm = hashes.SHA384() if suite == AES_256_GCM else hashes.SHA256()
        self._size = 16 if suite == AES_128_GCM else 32
        self._prefix = "quicv2" if version == V2 else "quic"
        self._secrets = [secret]
        self._openers: dict[int, tuple[int, AESGCM | ChaCha20Poly1305]] = {}  # by generation, with the IV
        self._newest = 0  # generation that was seen
        self._header_key = self._derive(secret, "hp", self._size)

    def _derive(self, secret: bytes, label: str, size: int) -> bytes:
        return expand_label(secret, f"{self._prefix} {label}", size, self._algorithm)

    def _mask(self, sample: bytes) -> bytes:
        """RFC 9001 §5.4."""
        if self.suite == CHACHA20_POLY1305:
            return Cipher(algorithms.ChaCha20(self._header_key, sample), None).encryptor().update(bytes(5))
        return Cipher(algorithms.AES(self._header_key), modes.ECB()).encryptor().update(sample)

    def open(self, packet: bytes, number_at: int) -> tuple[int, int, bytes]:
        """Number, generation of keys and payload of a packet, cut to its length. Raises `InvalidTag`."""
        mask = self._mask(packet[number_at + 4 : number_at + 20])
        is_long = bool(packet[0] & 0x80)
        first = packet[0] ^ (mask[0] & (0x0F if is_long else 0x1F))
        length = (first & 3) + 1
        coded = bytes(a ^ b for a, b in zip(packet[number_at : number_at + length], mask[1:], strict=False))
        number = self._number(int.from_bytes(coded, "big"), 8 * length)
        header = bytes([first]) + packet[1:number_at] + coded
        for generation in [0] if is_long else self._candidates((first >> 2) & 1):
            iv, opener = self._opener(generation)
            try:
                payload = opener.decrypt((iv ^ number).to_bytes(12, "big"), packet[number_at + length :], header)
            except InvalidTag:
                continue
            self.largest = max(self.largest, number)
            self._newest = max(self._newest, generation)
            return number, generation, payload
        raise InvalidTag

    def _opener(self, generation: int) -> tuple[int, AESGCM | ChaCha20Poly1305]:
        if generation not in self._openers:
            secret = self._secrets[generation]
            cipher = ChaCha20Poly1305 if self.suite == CHACHA20_POLY1305 else AESGCM
            iv = int.from_bytes(self._derive(secret, "iv", 12), "big")
            self._openers[generation] = (iv, cipher(self._derive(secret, "key", self._size)))
        return self._openers[generation]

    def _candidates(self, phase: int) -> list[int]:
        """The generations that a packet of this key phase may have: the newest one seen, else the next or the last."""
        if self._newest % 2 == phase:
            return [self._newest]
        if len(self._secrets) == self._newest + 1:
            self._secrets.append(self._derive(self._secrets[-1], "ku", self._algorithm.digest_size))
        return [self._newest + 1] + [self._newest - 1] * (self._newest > 0)

    def _number(self, coded: int, bits: int) -> int:
        """RFC 9000 §A.3."""
        expected, window = self.largest + 1, 1 << bits
        candidate = (expected & ~(window - 1)) | coded
        if candidate <= expected - window // 2:
            return candidate + window
        return candidate - window if candidate > expected + window // 2 and candidate >= window else candidate


def initial_keys(dcid: bytes, version: int, by_client: bool) -> Keys:
    """The keys of Initial packets (RFC 9001 §5.2), of the client's Destination Connection ID."""
    extract = HMAC(SALTS[version], hashes.SHA256())
    extract.update(dcid)
    label = "client in" if by_client else "server in"
    return Keys(expand_label(extract.finalize(), label, 32, hashes.SHA256()), version, AES_128_GCM)
