"""Packet protection: keys, header protection masks, and the ring of keys a connection holds (RFC 9001 §5, §6).

A `SealingKey` or `OpeningKey` is one AEAD key with its IV and the mask of its header protection key. A `KeyRing` holds
them by epoch and knows the rules of key update.

Rules of key update (RFC 9001 §6), all of them kept by `KeyRing`:
- `phase` counts updates; its lowest bit is the Key Phase bit. Header protection keys never change.
- We initiate only when the handshake is confirmed, a packet of the current phase was acknowledged, and, after an
  earlier update, three PTO have passed since that acknowledgement. A request that comes too soon is remembered.
- For each packet exactly one key is tried, chosen by Key Phase bit and packet number; success with the next key rolls
  the ring over and answers in kind, before anything is sent. The next keys are prepared ahead, outside the packet that
  makes them current, so that the time to open a packet does not tell the phase.
- Previous keys are kept until three PTO after the first packet of the new phase.
- Older keys for a higher packet number than newer keys were used for: KEY_UPDATE_ERROR. So is a second update by the
  peer before we sent anything in the phase of its first, and an ACK for a phase in which the peer never sent.

Limits (RFC 9001 §6.6): an update is initiated at half the confidentiality limit; when the peer lets none happen,
sealing raises AEAD_LIMIT_REACHED with enough packets in reserve to close. Failed authentications are counted over all
keys of the connection and raise AEAD_LIMIT_REACHED beyond the integrity limit.

Nothing here knows TLS: secrets come from the handshake, and whoever logs them does so there.
"""

import hmac
from collections.abc import Callable
from math import inf
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import AES, ChaCha20
from cryptography.hazmat.primitives.ciphers.modes import ECB

from quicio.quic.wire.constants import (
    AEAD_LIMIT_REACHED,
    EPOCH_INITIAL,
    EPOCH_ONE_RTT,
    KEY_UPDATE_ERROR,
    VERSION_2,
    QuicConnectionError,
)

AES_128_GCM_SHA256: Final = 0x1301
AES_256_GCM_SHA384: Final = 0x1302
CHACHA20_POLY1305_SHA256: Final = 0x1303

SAMPLE_SIZE: Final = 16  # RFC 9001 §5.4.2; also the size of each mask returned, of which five bytes are used
IV_SIZE: Final = 12

# RFC 9001 §6.6. ChaCha20-Poly1305 has no confidentiality limit below the number of packets there can be.
CONFIDENTIALITY_LIMITS: Final[dict[int, int]] = {
    AES_128_GCM_SHA256: 1 << 23,
    AES_256_GCM_SHA384: 1 << 23,
    CHACHA20_POLY1305_SHA256: 1 << 62,
}
INTEGRITY_LIMITS: Final[dict[int, int]] = {
    AES_128_GCM_SHA256: 1 << 52,
    AES_256_GCM_SHA384: 1 << 52,
    CHACHA20_POLY1305_SHA256: 1 << 36,
}
CLOSING_RESERVE: Final = 64  # packets left under the confidentiality limit for CONNECTION_CLOSE
PREVIOUS_KEYS_PTOS: Final = 3  # RFC 9001 §6.5

_NO_NUMBER: Final = 1 << 62  # above every packet number

_HASHES: Final[dict[int, tuple[str, int, int]]] = {  # hash name, hash size, AEAD key size
    AES_128_GCM_SHA256: ("sha256", 32, 16),
    AES_256_GCM_SHA384: ("sha384", 48, 32),
    CHACHA20_POLY1305_SHA256: ("sha256", 32, 32),
}
_INITIAL_SALT_V1: Final = bytes.fromhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a")  # RFC 9001 §5.2
_INITIAL_SALT_V2: Final = bytes.fromhex("0dede3def700a6db819381be6e269dcbf9bd2ed9")  # RFC 9369 §3.3.1


def hkdf_expand_label(secret: bytes, label: bytes, length: int, hash_name: str) -> bytes:
    """HKDF-Expand-Label with an empty context (RFC 8446 §7.1), for `length` up to the size of the hash."""
    full_label = b"tls13 " + label
    info = length.to_bytes(2, "big") + bytes((len(full_label),)) + full_label + b"\x00\x01"
    return hmac.digest(secret, info, hash_name)[:length]


def label_prefix(version: int) -> bytes:
    """What the key labels of `version` begin with (RFC 9001 §5.1, RFC 9369 §3.3.2)."""
    return b"quicv2 " if version == VERSION_2 else b"quic "


def next_secret(secret: bytes, cipher_suite: int, version: int) -> bytes:
    """The secret of the next key phase (RFC 9001 §6.1)."""
    hash_name, hash_size, _ = _HASHES[cipher_suite]
    return hkdf_expand_label(secret, label_prefix(version) + b"ku", hash_size, hash_name)


def initial_secrets(destination_cid: bytes, version: int) -> tuple[bytes, bytes]:
    """The secrets of the client's and of the server's Initial packets (RFC 9001 §5.2)."""
    salt = _INITIAL_SALT_V2 if version == VERSION_2 else _INITIAL_SALT_V1
    common = hmac.digest(salt, destination_cid, "sha256")
    client = hkdf_expand_label(common, b"client in", 32, "sha256")
    return client, hkdf_expand_label(common, b"server in", 32, "sha256")


class AesHeaderProtection:
    """AES-ECB over the samples (RFC 9001 §5.4.3): one update for a whole batch, on an encryptor kept for life."""

    _update: Callable[[bytes], bytes]

    def __init__(self, key: bytes) -> None:
        # ECB is what the RFC asks for: each block is a sample of ciphertext, encrypted on its own.
        self._update = Cipher(AES(key), ECB()).encryptor().update

    def masks(self, samples: list[bytes]) -> bytes:
        """The masks for `samples` of 16 bytes each, one after the other."""
        block = b"".join(samples)
        if len(block) != SAMPLE_SIZE * len(samples):
            # A partial block would stay inside the kept encryptor and spoil every later mask.
            raise ValueError("A header protection sample takes 16 bytes; drop packets that are too short for one")
        return self._update(block)


class ChaChaHeaderProtection:
    """ChaCha20 with the sample as counter and nonce (RFC 9001 §5.4.4): the samples one by one, on one kept context."""

    _update: Callable[[bytes], bytes]
    _reset_nonce: Callable[[bytes], None]

    def __init__(self, key: bytes) -> None:
        context = Cipher(ChaCha20(key, bytes(SAMPLE_SIZE)), None).encryptor()
        self._update = context.update
        # A new nonce on an old context costs a tenth of a new context.
        self._reset_nonce = context.reset_nonce

    def masks(self, samples: list[bytes]) -> bytes:
        """The masks for `samples` of 16 bytes each, one after the other."""
        zeros = bytes(SAMPLE_SIZE)
        pieces: list[bytes] = []
        for sample in samples:
            self._reset_nonce(sample)
            pieces.append(self._update(zeros))
        return b"".join(pieces)


# Masks for header protection (RFC 9001 §5.4): 16 bytes a sample, the first five to be used.
HeaderProtection = AesHeaderProtection | ChaChaHeaderProtection


def _header_protection(secret: bytes, cipher_suite: int, version: int) -> HeaderProtection:
    hash_name, _, key_size = _HASHES[cipher_suite]
    key = hkdf_expand_label(secret, label_prefix(version) + b"hp", key_size, hash_name)
    if cipher_suite == CHACHA20_POLY1305_SHA256:
        return ChaChaHeaderProtection(key)
    return AesHeaderProtection(key)


def _aead(secret: bytes, cipher_suite: int, version: int) -> tuple[AESGCM | ChaCha20Poly1305, int]:
    """The AEAD and the IV, as an integer, that `secret` yields (RFC 9001 §5.1)."""
    hash_name, _, key_size = _HASHES[cipher_suite]
    prefix = label_prefix(version)
    key = hkdf_expand_label(secret, prefix + b"key", key_size, hash_name)
    iv = int.from_bytes(hkdf_expand_label(secret, prefix + b"iv", IV_SIZE, hash_name), "big")
    if cipher_suite == CHACHA20_POLY1305_SHA256:
        return ChaCha20Poly1305(key), iv
    return AESGCM(key), iv


class Forgeries:
    """Packets that failed authentication, over all keys of a connection (RFC 9001 §6.6)."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count: int = 0


class SealingKey:
    """Protects packets: AEAD key, IV, header protection. `phase` counts key updates; its low bit goes on the wire."""

    cipher_suite: int
    phase: int
    sealed: int
    confidentiality_limit: int
    masks: Callable[[list[bytes]], bytes]
    protection: HeaderProtection

    def __init__(
        self,
        secret: bytes,
        cipher_suite: int,
        version: int,
        *,
        protection: HeaderProtection | None = None,
        phase: int = 0,
        confidentiality_limit: int | None = None,
    ) -> None:
        """Derive the key from a traffic `secret`; `protection` is handed on from phase to phase, else derived too."""
        aead, self._iv = _aead(secret, cipher_suite, version)
        # Bound once: an attribute lookup a packet instead of two and a new method object.
        self._encrypt: Callable[[bytes, bytes, bytes], bytes] = aead.encrypt
        self.protection = protection or _header_protection(secret, cipher_suite, version)
        self.masks = self.protection.masks
        self.cipher_suite = cipher_suite
        self._secret = secret  # what the next phase is derived from
        self._version = version
        self.phase = phase
        self.sealed = 0
        limit = CONFIDENTIALITY_LIMITS[cipher_suite] if confidentiality_limit is None else confidentiality_limit
        self.confidentiality_limit = limit
        self._alarm = limit - min(CLOSING_RESERVE, limit // 4)

    def seal(self, number: int, header: bytes, payload: bytes) -> bytes:
        """`payload` encrypted for packet `number`, tag included; `header` is authenticated with it (RFC 9001 §5.3).

        Raises QuicConnectionError(AEAD_LIMIT_REACHED) once, shortly before the confidentiality limit, and always past
        it.
        """
        count = self.sealed
        if count >= self._alarm:
            self._on_alarm()
        self.sealed = count + 1
        return self._encrypt((self._iv ^ number).to_bytes(12, "big"), payload, header)

    def sealable(self) -> int:
        """How many packets `seal_run` takes: as many as there are before `seal` raises for the first time."""
        return self._alarm - self.sealed

    def seal_run(self, number: int, header: bytes, number_length: int, payloads: list[bytes]) -> list[bytes]:
        """As `seal`, for packets numbered from `number` on; at most `sealable()` of them.

        `header` is what they have in common: all but the packet number, whose last `number_length` bytes complete it.
        """
        iv = self._iv
        encrypt = self._encrypt
        mask = (1 << 8 * number_length) - 1
        self.sealed += len(payloads)
        sealed: list[bytes] = []
        for payload in payloads:
            nonce = (iv ^ number).to_bytes(12, "big")
            sealed.append(encrypt(nonce, payload, header + (number & mask).to_bytes(number_length, "big")))
            number += 1
        return sealed

    def _on_alarm(self) -> None:
        # From the first alarm to the limit there is a reserve, for the CONNECTION_CLOSE that follows.
        self._alarm = self.confidentiality_limit
        raise QuicConnectionError(AEAD_LIMIT_REACHED, None, "Confidentiality limit reached")

    def following(self) -> "SealingKey":
        """The key of the next phase (RFC 9001 §6.1); header protection stays."""
        return SealingKey(
            next_secret(self._secret, self.cipher_suite, self._version),
            self.cipher_suite,
            self._version,
            protection=self.protection,
            phase=self.phase + 1,
            confidentiality_limit=self.confidentiality_limit,
        )


class OpeningKey:
    """Unprotects packets: AEAD key, IV, header protection. `failed` counts the packets that were not authentic."""

    cipher_suite: int
    phase: int
    failed: int
    iv: int
    decrypt: Callable[[bytes, bytes, bytes], bytes]  # nonce, ciphertext, header: InvalidTag when not authentic
    integrity_limit: int
    masks: Callable[[list[bytes]], bytes]
    protection: HeaderProtection

    def __init__(
        self,
        secret: bytes,
        cipher_suite: int,
        version: int,
        *,
        protection: HeaderProtection | None = None,
        phase: int = 0,
        integrity_limit: int | None = None,
        forgeries: Forgeries | None = None,
    ) -> None:
        """Derive the key from a traffic `secret`; `protection` is handed on from phase to phase, else derived too."""
        aead, self.iv = _aead(secret, cipher_suite, version)
        self.decrypt = aead.decrypt
        self.protection = protection or _header_protection(secret, cipher_suite, version)
        self.masks = self.protection.masks
        self.cipher_suite = cipher_suite
        self._secret = secret  # what the next phase is derived from
        self._version = version
        self.phase = phase
        self.failed = 0
        self.integrity_limit = INTEGRITY_LIMITS[cipher_suite] if integrity_limit is None else integrity_limit
        self._forgeries = forgeries or Forgeries()

    def open(self, number: int, header: bytes, ciphertext: bytes) -> bytes | None:
        """The payload of packet `number`, or None when it is not authentic.

        Raises QuicConnectionError(AEAD_LIMIT_REACHED) when the connection's failures exceed the integrity limit.
        """
        try:
            return self.decrypt((self.iv ^ number).to_bytes(12, "big"), ciphertext, header)
        except InvalidTag:
            self.failed += 1
            self._forgeries.count += 1
            if self._forgeries.count > self.integrity_limit:
                raise QuicConnectionError(AEAD_LIMIT_REACHED, None, "Integrity limit reached") from None
            return None

    def following(self) -> "OpeningKey":
        """The key of the next phase (RFC 9001 §6.1); header protection stays, failures count on."""
        return OpeningKey(
            next_secret(self._secret, self.cipher_suite, self._version),
            self.cipher_suite,
            self._version,
            protection=self.protection,
            phase=self.phase + 1,
            integrity_limit=self.integrity_limit,
            forgeries=self._forgeries,
        )


class KeyRing:
    """The keys of one connection, by epoch, and the state of key update. See the module's essay for the rules."""

    sealing: list[SealingKey | None]
    opening: list[OpeningKey | None]
    confirmed: bool
    updates: int

    def __init__(
        self,
        is_client: bool,
        *,
        confidentiality_limits: dict[int, int] = CONFIDENTIALITY_LIMITS,
        integrity_limits: dict[int, int] = INTEGRITY_LIMITS,
    ) -> None:
        self.sealing = [None, None, None, None]
        self.opening = [None, None, None, None]
        self.confirmed = False  # set by the connection when the handshake is confirmed (RFC 9001 §4.1.2)
        self.updates = 0
        self._is_client = is_client
        self._confidentiality_limits = confidentiality_limits
        self._integrity_limits = integrity_limits
        self._forgeries = Forgeries()
        # Initial keys: a server that switches versions still opens packets of the original one (RFC 9369 §4.1).
        self._initial_cid = b""
        self._initial_opening: dict[int, OpeningKey] = {}
        # 1-RTT key update.
        self._next_sealing: SealingKey | None = None
        self._next_opening: OpeningKey | None = None
        self._previous: OpeningKey | None = None
        self._previous_expires = inf
        self._previous_highest = -1
        self._lowest = _NO_NUMBER  # lowest and highest packet number opened in the current phase
        self._highest = -1
        self._update_requested = False
        self._is_phase_acked = False
        self._update_not_before = 0.0

    @property
    def failed(self) -> int:
        """Packets that failed authentication in this connection, under any key."""
        return self._forgeries.count

    def install_initial(self, destination_cid: bytes, version: int) -> None:
        """Derive Initial keys from the client's first Destination Connection ID, or from the Retry's source ID.

        With the same connection ID and another version, the earlier version's opening key stays available through
        `initial_opening` (RFC 9369 §4.1).
        """
        if destination_cid != self._initial_cid:
            self._initial_opening.clear()
            self._initial_cid = destination_cid
        client, server = initial_secrets(destination_cid, version)
        self.install(EPOCH_INITIAL, True, AES_128_GCM_SHA256, client if self._is_client else server, version)
        opening = self._new_opening(AES_128_GCM_SHA256, server if self._is_client else client, version)
        self.opening[EPOCH_INITIAL] = opening
        self._initial_opening[version] = opening

    def initial_opening(self, version: int) -> OpeningKey | None:
        """The key that opens Initial packets of `version`, or None when it was never installed or is discarded."""
        return self._initial_opening.get(version)

    def install(self, epoch: int, is_sealing: bool, cipher_suite: int, secret: bytes, version: int) -> None:
        """Install the key that a traffic `secret` of TLS yields for one direction of `epoch`."""
        if cipher_suite not in _HASHES:
            raise ValueError(f"Unknown cipher suite {cipher_suite:#06x}: QUIC takes 0x1301, 0x1302 or 0x1303")
        if is_sealing:
            limit = self._confidentiality_limits[cipher_suite]
            self.sealing[epoch] = SealingKey(secret, cipher_suite, version, confidentiality_limit=limit)
        else:
            self.opening[epoch] = self._new_opening(cipher_suite, secret, version)
        if epoch == EPOCH_ONE_RTT:
            self._prepare_next()

    def _new_opening(self, cipher_suite: int, secret: bytes, version: int) -> OpeningKey:
        limit = self._integrity_limits[cipher_suite]
        return OpeningKey(secret, cipher_suite, version, integrity_limit=limit, forgeries=self._forgeries)

    def discard(self, epoch: int) -> None:
        """Drop the keys of `epoch` (RFC 9001 §4.9); safe to repeat."""
        self.sealing[epoch] = None
        self.opening[epoch] = None
        if epoch == EPOCH_INITIAL:
            self._initial_opening.clear()

    # --- key update (RFC 9001 §6)

    def open_one_rtt(
        self, number: int, header: bytes, ciphertext: bytes, phase_bit: int, now: float, pto: float
    ) -> bytes | None:
        """The payload of 1-RTT packet `number`, or None when it is not authentic or no keys are there.

        `phase_bit` is zero or not, as the Key Phase bit; `pto` is the current probe timeout in seconds. Raises
        QuicConnectionError: KEY_UPDATE_ERROR for an update the peer must not make, AEAD_LIMIT_REACHED at the limit.
        """
        current = self.opening[EPOCH_ONE_RTT]
        if current is None:
            return None
        if bool(phase_bit) != (current.phase & 1 == 1):
            return self._open_other_phase(number, header, ciphertext, now, pto)
        payload = current.open(number, header, ciphertext)
        if payload is None:
            return None
        if number > self._highest:
            if self._highest < 0:
                self._previous_expires = now + PREVIOUS_KEYS_PTOS * pto
            self._highest = number
        if number < self._lowest:
            self._lowest = number
            if number < self._previous_highest:
                raise QuicConnectionError(KEY_UPDATE_ERROR, None, "Old keys were used after new ones")
        self._drop_expired(now)
        return payload

    def in_order_key(self) -> OpeningKey | None:
        """The key that 1-RTT packets above all opened so far are expected under; None while that takes a decision.

        Who opens such packets with it, past `open_one_rtt`, tells `note_in_order` before anything else is opened.
        """
        # Until the first packet of a phase is opened, what it says of the previous phase has to be held against the rules.
        return self.opening[EPOCH_ONE_RTT] if self._highest >= 0 else None

    def note_in_order(self, number: int, now: float) -> None:
        """Packets up to `number`, above all opened before, were opened with `in_order_key()`."""
        self._highest = number
        self._drop_expired(now)

    def _drop_expired(self, now: float) -> None:
        if now >= self._previous_expires:
            self._previous = None

    def _open_other_phase(self, number: int, header: bytes, ciphertext: bytes, now: float, pto: float) -> bytes | None:
        self._drop_expired(now)
        previous = self._previous
        # Until the peer follows an update of ours, `_highest` is -1 and its packets come under the previous keys.
        if previous is not None and (number < self._highest or self._highest < 0):
            return self._open_previous(previous, number, header, ciphertext)
        return self._open_next(number, header, ciphertext, now, pto)

    def _open_previous(self, previous: OpeningKey, number: int, header: bytes, ciphertext: bytes) -> bytes | None:
        payload = previous.open(number, header, ciphertext)
        if payload is None:
            return None
        if number > self._lowest:
            raise QuicConnectionError(KEY_UPDATE_ERROR, None, "Old keys were used after new ones")
        if number > self._previous_highest:
            self._previous_highest = number
        return payload

    def _open_next(self, number: int, header: bytes, ciphertext: bytes, now: float, pto: float) -> bytes | None:
        if self._next_opening is None or self._next_sealing is None:
            self._prepare_next()
        following = self._next_opening
        sealing = self.sealing[EPOCH_ONE_RTT]
        if following is None or sealing is None:
            return None
        payload = following.open(number, header, ciphertext)
        if payload is None:
            return None
        if number < self._highest:
            raise QuicConnectionError(KEY_UPDATE_ERROR, None, "Old keys were used after new ones")
        if sealing.phase and not sealing.sealed:
            # Nothing was sent in this phase, so the peer cannot have an acknowledgement of its last update.
            raise QuicConnectionError(KEY_UPDATE_ERROR, None, "Key update before the last one was acknowledged")
        self._roll_over()
        self._lowest = number
        self._highest = number
        self._previous_expires = now + PREVIOUS_KEYS_PTOS * pto
        return payload

    def request_update(self) -> None:
        """Initiate a key update now if RFC 9001 §6.1 permits it, else as soon as it does."""
        self._update_requested = True
        if not self.updates:
            # Only after an earlier update is there a time to wait out, and `on_acked_in_phase` knows the time.
            self._update_if_permitted(0.0)

    def on_acked_in_phase(self, phase: int, now: float, pto: float) -> None:
        """A 1-RTT packet sent in `phase` was acknowledged; `pto` is the current probe timeout in seconds.

        Initiates a key update that was requested, or that the confidentiality limit asks for. Raises
        QuicConnectionError(KEY_UPDATE_ERROR) when the peer acknowledges a phase in which it has never sent.
        """
        sealing = self.sealing[EPOCH_ONE_RTT]
        if sealing is None or phase != sealing.phase:
            return
        if not self._is_phase_acked:
            if phase and self._highest < 0:
                raise QuicConnectionError(KEY_UPDATE_ERROR, None, "Key update was acknowledged but not followed")
            self._is_phase_acked = True
            self._update_not_before = now + PREVIOUS_KEYS_PTOS * pto if phase else 0.0
            self._prepare_next()
        if self._update_requested or 2 * sealing.sealed >= sealing.confidentiality_limit:
            self._update_if_permitted(now)

    def _update_if_permitted(self, now: float) -> None:
        if not (self.confirmed and self._is_phase_acked) or now < self._update_not_before:
            return
        self._roll_over()

    def _roll_over(self) -> None:
        """Make the next keys current, in both directions."""
        self._prepare_next()
        if self._next_sealing is None or self._next_opening is None:
            return
        self._previous = self.opening[EPOCH_ONE_RTT]
        self._previous_expires = inf
        self._previous_highest = self._highest
        self._lowest = _NO_NUMBER
        self._highest = -1
        self.sealing[EPOCH_ONE_RTT] = self._next_sealing
        self.opening[EPOCH_ONE_RTT] = self._next_opening
        self._next_sealing = None
        self._next_opening = None
        self._update_requested = False
        self._is_phase_acked = False
        self.updates += 1

    def _prepare_next(self) -> None:
        """Derive the keys of the next phase if they are not there yet: ahead of need, because it takes time."""
        sealing = self.sealing[EPOCH_ONE_RTT]
        if sealing is not None and self._next_sealing is None:
            self._next_sealing = sealing.following()
        opening = self.opening[EPOCH_ONE_RTT]
        if opening is not None and self._next_opening is None:
            self._next_opening = opening.following()
