"""Before the handshake proper: Version Negotiation, Retry, and the switch to a compatible version.

Version Negotiation (RFC 9000 §6.2, RFC 9368 §2.1) and Retry (RFC 9000 §17.2.5) packets are a client's to receive, once each,
and only before any other packet was processed. Both are unauthenticated or nearly so, so both are checked later by
transport parameters, in `handshake.py`. A compatible switch (RFC 9368 §2.3) shows as an Initial packet in another version
that the client offered: it counts when the packet opens with that version's keys.
"""

from collections.abc import Callable
from hmac import compare_digest
from typing import Final

from quicio.quic.events import CloseReason
from quicio.quic.lifecycle import CAUSE_VERSION
from quicio.quic.parts import Parts
from quicio.quic.wire.constants import (
    AEAD_TAG_SIZE,
    EPOCH_INITIAL,
    INITIAL,
    VERSION_NEGOTIATION_ERROR,
)
from quicio.quic.wire.crypto import KeyRing
from quicio.quic.wire.headers import RETRY_PACKET, VERSION_NEGOTIATION_PACKET, LongHeader, is_known_version
from quicio.quic.wire.retry import retry_integrity_tag

MAX_RETRY_TOKEN: Final = 800  # bytes: a longer one would leave no room for a ClientHello in Initial packets
INITIAL_CID_LENGTH: Final = 8  # of the random destination connection ID of a client's first packets (RFC 9000 §7.2)


class Negotiation:
    """What a client does with the packets that carry no keys."""

    def __init__(self, parts: Parts, random_bytes: Callable[[int], bytes]) -> None:
        self._parts = parts
        self._random_bytes = random_bytes
        self.has_retried = False
        self.has_negotiated = False

    def receive(self, header: LongHeader, datagram: bytes, now: float) -> bool:
        """A packet that is not protected. True when it was for us and was acted on."""
        parts = self._parts
        if not parts.is_client or parts.handshake.is_source_cid_fixed:
            return False
        if header.destination_cid != parts.connection_ids.host_cid:
            return False
        if header.packet_type == VERSION_NEGOTIATION_PACKET:
            return self._receive_version_negotiation(header, now)
        if header.packet_type == RETRY_PACKET:
            return self._receive_retry(header, datagram, now)
        return False

    def _receive_version_negotiation(self, header: LongHeader, now: float) -> bool:
        parts = self._parts
        handshake = parts.handshake
        if (
            self.has_negotiated
            or self.has_retried
            or header.source_cid != parts.paths.active.peer_cid
            or handshake.version in header.supported_versions
        ):
            return False
        self.has_negotiated = True
        for version in handshake.versions:
            if version in header.supported_versions and is_known_version(version):
                parts.loss.forget_space(INITIAL)
                parts.initial_token = b""  # tokens are for their version, as tickets are (RFC 9369 §5)
                if handshake.remembered is not None:
                    parts.restart_early_data(now, True)
                self.start_initial(self._random_bytes(INITIAL_CID_LENGTH), version)
                handshake.restart(version)
                return True
        offered = ", ".join([hex(version) for version in header.supported_versions[:8]])
        reason = CloseReason(
            VERSION_NEGOTIATION_ERROR, False, False, f"No QUIC version in common; the server speaks {offered}", 0
        )
        parts.lifecycle.end_at_once(reason, CAUSE_VERSION)
        return True

    def start_initial(self, destination_cid: bytes, version: int) -> None:
        """Client: address the server by a random ID, from which the Initial keys follow (RFC 9001 §5.2)."""
        parts = self._parts
        parts.initial_cid = destination_cid
        parts.paths.active.peer_cid = destination_cid
        parts.handshake.expected_original_cid = destination_cid
        parts.keys.install_initial(destination_cid, version)

    def _receive_retry(self, header: LongHeader, datagram: bytes, now: float) -> bool:
        """RFC 9000 §17.2.5.2. The packet number is not reset."""
        parts = self._parts
        handshake = parts.handshake
        if self.has_retried or header.version != handshake.version or not 0 < len(header.token) <= MAX_RETRY_TOKEN:
            return False
        original = parts.initial_cid
        if header.source_cid == original:
            return False
        tag = retry_integrity_tag(datagram[:-AEAD_TAG_SIZE], original, header.version)
        if not compare_digest(tag, header.integrity_tag):
            return False
        self.has_retried = True
        parts.initial_token = header.token
        parts.initial_cid = header.source_cid
        parts.paths.active.peer_cid = header.source_cid
        handshake.expected_retry_cid = header.source_cid
        parts.keys.install_initial(header.source_cid, handshake.version)
        parts.loss.forget_space(INITIAL)
        handshake.on_retry()
        if handshake.remembered is not None:
            parts.repeat_early_data(now)
        return True

    # --- compatible versions -----------------------------------------------------------------------------------------

    def switching_keys(self, version: int) -> KeyRing | None:
        """Client: Initial keys to try on a packet of another version; None when we did not offer that version."""
        parts = self._parts
        handshake = parts.handshake
        if (
            not parts.is_client
            or handshake.version != handshake.original_version
            or version not in handshake.versions
            or handshake.remote_parameters is not None
        ):
            return None
        keys = KeyRing(True)
        keys.install_initial(parts.initial_cid, version)
        return keys

    def switch(self, version: int, keys: KeyRing) -> None:
        """Client: a packet of the other version was authentic, so the server has chosen it."""
        parts = self._parts
        parts.handshake.version = version
        parts.keys.opening[EPOCH_INITIAL] = keys.opening[EPOCH_INITIAL]
        parts.keys.sealing[EPOCH_INITIAL] = keys.sealing[EPOCH_INITIAL]
