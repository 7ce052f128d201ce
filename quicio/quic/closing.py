"""CONNECTION_CLOSE, which goes past the components (RFC 9000 §10.2.3).

Until the handshake is confirmed nobody knows which keys the peer has, so the close goes into a packet of every space that we
can send in. In Initial and Handshake packets an application's close is sent as APPLICATION_ERROR without its reason, which
must not show before the peer is known. A peer that closed is answered once, with NO_ERROR, so that it knows (§10.2.2). The
closing state keeps the keys it needs for this and nothing else.

In the application space an ACK of all that came stands before the close: the ACK that a delay was holding back would never be
sent, and the peer would take what it sent last for lost.
"""

from typing import Final

from quicio.quic.events import CloseReason
from quicio.quic.lifecycle import DRAINING, REASON_MAX_SIZE
from quicio.quic.parts import EPOCH_OF_SPACE, Parts
from quicio.quic.paths.path import Path
from quicio.quic.recovery.sent_packets import SpaceState
from quicio.quic.sealing import LongPacket
from quicio.quic.transmit import Transmit
from quicio.quic.wire.constants import (
    APPLICATION,
    APPLICATION_ERROR,
    HANDSHAKE,
    INITIAL,
    NO_ERROR,
    PADDING,
    SMALLEST_MAX_DATAGRAM_SIZE,
    UINT_VAR_MAX,
)
from quicio.quic.wire.crypto import SealingKey
from quicio.quic.wire.frames import encode_ack, encode_application_close, encode_transport_close
from quicio.quic.wire.headers import encode_packet_number
from quicio.quic.wire.packet_builder import PacketBuilder

CLOSE_HEARD: Final = CloseReason(NO_ERROR, False, False)  # the one answer to a peer's close (RFC 9000 §10.2.2)
LAST_ACK_ROOM: Final = 128  # bytes for the ACK beside a CONNECTION_CLOSE: the newest ranges


class ClosePackets:
    """Builds the datagrams of the closing state."""

    def __init__(self, parts: Parts, host_cid: bytes) -> None:
        self._parts = parts
        self._host_cid = host_cid
        self._packet = PacketBuilder(parts.paths.active)

    def next_transmit(self, now: float) -> Transmit | None:
        """The datagram that carries CONNECTION_CLOSE, when one is due."""
        parts = self._parts
        lifecycle = parts.lifecycle
        reason = lifecycle.close_reason
        if not lifecycle.close_is_due or reason is None:
            return None
        lifecycle.close_is_due = False
        lifecycle.on_close_sent(now)
        if lifecycle.state == DRAINING:
            reason = CLOSE_HEARD
        path = parts.paths.active
        if path.amplification_room() < SMALLEST_MAX_DATAGRAM_SIZE:
            return None
        built: list[LongPacket] = []
        for space in (INITIAL, HANDSHAKE, APPLICATION):
            sealing = parts.keys.sealing[EPOCH_OF_SPACE[space]]
            if sealing is not None:
                built.append(self._build(space, sealing, path, reason, now))
        if not built:
            return None
        size = sum([item.size for item in built])
        if built[0].space == INITIAL and size < SMALLEST_MAX_DATAGRAM_SIZE:
            built[-1].pad(SMALLEST_MAX_DATAGRAM_SIZE - size)
        datagram = b"".join([item.seal() for item in built])
        path.bytes_sent += len(datagram)
        observer = parts.observer
        if observer is not None:
            for item in built:
                observer.on_sealed(EPOCH_OF_SPACE[item.space], item.number, item.payload, path, now)
        return Transmit([datagram], path.remote, path.local, 0)

    def _build(self, space: int, sealing: SealingKey, path: Path, reason: CloseReason, now: float) -> LongPacket:
        parts = self._parts
        state: SpaceState = parts.loss.spaces[space]
        item = LongPacket(
            space,
            sealing,
            parts.handshake.version,
            path.peer_cid,
            self._host_cid,
            parts.initial_token if space == INITIAL else b"",
            encode_packet_number(state.next_number + 1, state.largest_acked),
        )
        self._packet.begin(space, path, 0, 0)
        payload = close_frame(reason, space)
        if space == APPLICATION:
            payload = self._last_ack() + payload
        item.finish(state.allocate(now), payload, self._packet, 4)
        return item

    def _last_ack(self) -> bytes:
        tracker = self._parts.acks.trackers[APPLICATION]
        if not tracker.received.starts:
            return b""
        counts = (tracker.ecn_ect0, tracker.ecn_ect1, tracker.ecn_ce)
        return encode_ack(tracker.received, 0, counts if any(counts) else None, LAST_ACK_ROOM)


def close_frame(reason: CloseReason, space: int) -> bytes:
    """The CONNECTION_CLOSE frame for a packet of `space`."""
    text = reason.reason.encode("utf-8", "replace")[:REASON_MAX_SIZE]
    code = min(max(reason.code, 0), UINT_VAR_MAX)
    if reason.is_application:
        if space == APPLICATION:
            return encode_application_close(code, text)
        return encode_transport_close(APPLICATION_ERROR, PADDING, b"")
    return encode_transport_close(code, reason.frame_type or PADDING, text)
