"""From pending components to datagrams (RFC 9000 §12, §13, §14).

It picks first the path, then the packet number space, then the class of packet: FULL while window and pacing allow, PROBE after
a PTO regardless of them, ACK_ONLY when nothing else may go, PATH_ONLY on a path that is not active, MTU_PROBE alone. Then it
walks the pending components in their fixed order. CONNECTION_CLOSE goes past the components (`closing.py`).

Rules:
- A batch is what one `sendmsg` takes: equal sizes, the last may be shorter. Its packets are masked with one cipher call, and
  where bulk data is all there is to say, they are built a run at a time.
- A datagram with an Initial packet is padded to 1200 bytes, on a client always, on a server when it elicits an ACK (§14.1);
  one with path frames where the amplification limit allows it (§8.2.1). Padding goes into the last packet.
- Nothing exceeds three times what an unvalidated path has received (§8.1). Where that is less than a whole datagram nothing
  goes but path frames, unpadded: they are what ends such a state.
- Packets that hold only ACK and PADDING are neither paced nor held back by the window (RFC 9002 §7).
- After many packets that elicit nothing one carries a PING: the peer's ACK of it lets sent packets and received ranges be
  forgotten (§13.2.4).
"""

from math import inf
from typing import Final

from quicio.quic.closing import ClosePackets
from quicio.quic.lifecycle import CLOSING
from quicio.quic.parts import EPOCH_OF_SPACE, Parts
from quicio.quic.paths.path import Path
from quicio.quic.recovery.pacer import rate_for
from quicio.quic.recovery.sent_packets import SentPacket, SpaceState
from quicio.quic.sealing import LongPacket, ShortBatch, ShortHeader
from quicio.quic.transmit import Transmit
from quicio.quic.wire.constants import (
    ACK_ONLY,
    APPLICATION,
    APPLICATION_BIT,
    EPOCH_HANDSHAKE,
    EPOCH_INITIAL,
    EPOCH_ONE_RTT,
    EPOCH_ZERO_RTT,
    FULL,
    HANDSHAKE,
    INITIAL,
    MTU_PROBE,
    PATH_ONLY,
    PROBE,
    SMALLEST_MAX_DATAGRAM_SIZE,
)
from quicio.quic.wire.crypto import SealingKey
from quicio.quic.wire.frames import PING_FRAME
from quicio.quic.wire.headers import encode_packet_number
from quicio.quic.wire.packet_builder import PacketBuilder, Token

MIN_ROOM: Final = 24  # bytes of frames for which a further packet in a datagram is worth its header
SMALLEST_CHALLENGE: Final = 64  # bytes that a datagram with path frames takes at most, unpadded
MIN_PAYLOAD: Final = 4  # with any packet number length, a sample for header protection exists
ACKS_BEFORE_PING: Final = 40
MTU_PROBE_RESERVE: Final = 2  # ordinary datagrams that a window must be able to hold beside a probe


class Outbound:
    """Builds what is to be sent. One a connection."""

    def __init__(self, parts: Parts, closing: ClosePackets, host_cid: bytes) -> None:
        self._parts = parts
        self._closing = closing
        self._host_cid = host_cid
        self._packet = PacketBuilder(parts.paths.active)
        self._header: ShortHeader | None = None  # of the latest batch
        self._acks_in_a_row = 0
        self.deadline = inf  # when pacing lets the next packet go
        self.packets_sent: int = 0
        self.bytes_sent: int = 0

    def next_transmit(self, now: float, max_datagrams: int) -> Transmit | None:
        """The next batch, of at most `max_datagrams`, or None when nothing may be sent now."""
        parts = self._parts
        self.deadline = inf
        if parts.lifecycle.state >= CLOSING:
            return self._closing.next_transmit(now)
        keys = parts.keys
        if parts.paths.others_pending and keys.sealing[EPOCH_ONE_RTT] is not None:
            other = parts.paths.next_other()
            if other is not None:
                transmit = self._burst(other, now, 1, PATH_ONLY)
                if transmit is not None:
                    return transmit
        path = parts.paths.active
        if keys.sealing[EPOCH_INITIAL] is not None or keys.sealing[EPOCH_HANDSHAKE] is not None:
            return self._coalesced(path, now)
        return self._burst(path, now, max_datagrams, FULL)

    # --- what a packet may hold --------------------------------------------------------------------------------------

    def _window_room(self, path: Path) -> int:
        return path.congestion.window - path.in_flight

    def _pace(self, path: Path, now: float) -> int:
        congestion = path.congestion
        window = congestion.window
        rate = congestion.pacing_rate
        if rate <= 0.0:
            rate = rate_for(window, path.rtt.smoothed, congestion.slow_start_threshold == inf)
        return path.pacer.budget(now, rate, congestion.send_quantum, path.datagram_size, window)

    def _budget(self, path: Path, now: float, size: int, kind: int) -> int:
        """Bytes that window and pacer let go now; sets `deadline` where only the pacer stands in the way."""
        budget = self._window_room(path)
        if budget > 0:
            pace = self._pace(path, now)
            if pace < budget:
                budget = pace
                if pace < size and kind == FULL:
                    self.deadline = path.pacer.next_time(now)
        return budget

    def _fill(self, packet: PacketBuilder, now: float) -> None:
        """Have the components write into a packet, by its class."""
        parts = self._parts
        kind = packet.kind
        if kind == PATH_ONLY:
            parts.paths.write(packet, now)
            return
        parts.acks.write(packet, now)
        if kind == ACK_ONLY:
            return
        bit = 1 << packet.space
        for component in parts.writers:
            if component.pending & bit:
                component.write(packet, now)
        if kind == PROBE and not packet.ack_eliciting:
            self._fill_probe(packet, now)

    def _fill_probe(self, packet: PacketBuilder, now: float) -> None:
        """A PTO, and nothing new to send: offer the oldest packets again, or at least a PING (RFC 9002 §6.2.4).

        As many packets are offered as there are probes to come: what does not fit this one goes into the next, so that two
        probes repair two losses instead of saying the same twice.
        """
        parts = self._parts
        loss = parts.loss
        if loss.offer_probes(packet.space, loss.probes[packet.space], now):
            bit = 1 << packet.space
            for component in parts.writers:
                if component.pending & bit:
                    component.write(packet, now)
        if not packet.ack_eliciting:
            self._push_ping(packet)

    def _push_ping(self, packet: PacketBuilder) -> None:
        packet.pieces.append(PING_FRAME)
        packet.room -= 1
        packet.ack_eliciting = True
        packet.in_flight = True

    def _sent(
        self, number: int, size: int, packet: PacketBuilder, ecn: int, phase: int, is_padded: bool, now: float
    ) -> None:
        """Tell those who keep count that a packet goes."""
        parts = self._parts
        path = packet.path
        in_flight = packet.in_flight or is_padded  # PADDING counts (RFC 9002 §2)
        sent = SentPacket(
            number,
            size,
            now,
            packet.ack_eliciting,
            in_flight,
            packet.tokens,
            path,
            packet.space,
            ecn,
            phase,
            packet.kind == MTU_PROBE,
        )
        parts.loss.on_sent(sent, now)
        if in_flight:
            path.pacer.on_sent(size)
        if packet.ack_eliciting:
            self._note_eliciting(now)
        self.packets_sent += 1
        self.bytes_sent += size

    def _note_eliciting(self, now: float) -> None:
        self._acks_in_a_row = 0
        lifecycle = self._parts.lifecycle
        if not lifecycle.sent_since_received:  # once a round trip or so: a PTO is worth asking for then, not a packet
            lifecycle.on_sent(now, self._parts.pto())

    # --- after the handshake: batches of short-header packets --------------------------------------------------------

    def _burst(self, path: Path, now: float, max_datagrams: int, kind: int) -> Transmit | None:
        parts = self._parts
        sealing = parts.keys.sealing[EPOCH_ONE_RTT]
        if sealing is None:
            return None
        loss = parts.loss
        probe_size = 0
        if kind == FULL:
            if path.mtu.size < path.mtu.ceiling and path.is_validated:
                probe_size = path.mtu.probe_size(now)
            if not (parts.wants.mask & APPLICATION_BIT or loss.probes[APPLICATION] or probe_size):
                return None
        size = path.datagram_size
        room = path.amplification_room()
        if room < size:
            if room >= SMALLEST_MAX_DATAGRAM_SIZE:
                size = SMALLEST_MAX_DATAGRAM_SIZE
            elif room >= SMALLEST_CHALLENGE and path.has_frames():
                size = room  # too little to pad the challenge as it should be (RFC 9000 §8.2.1): it goes as it is
                kind = PATH_ONLY
            else:
                loss.amplification_blocked = path is parts.paths.active
                return None
        loss.amplification_blocked = False
        if (
            probe_size
            and self._window_room(path) >= probe_size
            and path.congestion.window >= probe_size + MTU_PROBE_RESERVE * size
        ):
            return self._probe_mtu(path, now, probe_size, sealing)
        ecn = path.ecn.mark()
        max_datagrams = min(max_datagrams, room // size)
        batch = self._new_batch(sealing, path, max_datagrams)
        self._build_short(batch, path, now, max_datagrams, size, kind, ecn)
        self._packet.let_go()
        if not len(batch):
            return None
        return Transmit(batch.protect(), path.remote, path.local, ecn)

    def _new_batch(self, sealing: SealingKey, path: Path, max_datagrams: int) -> ShortBatch:
        """A batch whose packet numbers are long enough for all that it may take, skipped numbers included."""
        space: SpaceState = self._parts.loss.spaces[APPLICATION]
        last_number = encode_packet_number(space.next_number + 2 * max_datagrams, space.largest_acked)
        batch = ShortBatch(sealing, path.peer_cid, len(last_number), self._header)
        self._header = batch.header
        return batch

    def _build_short(
        self, batch: ShortBatch, path: Path, now: float, max_datagrams: int, size: int, kind: int, ecn: int
    ) -> None:
        """Build packets until the batch is full, one comes out short, or nothing more may go."""
        parts = self._parts
        packet = self._packet
        space: SpaceState = parts.loss.spaces[APPLICATION]
        probes = parts.loss.probes
        budget = self._budget(path, now, size, kind)
        while len(batch) < max_datagrams:
            this_kind = kind
            if kind == FULL:
                if probes[APPLICATION]:
                    this_kind = PROBE
                elif budget < size:
                    if not parts.acks.pending & APPLICATION_BIT:
                        break
                    this_kind = ACK_ONLY
                elif parts.streams.sending.has_bulk() and self._is_bulk_alone(path):
                    limit = min(max_datagrams - len(batch), budget // size)
                    count = self._build_run(batch, path, now, limit, size, ecn)
                    if count:
                        budget -= count * size
                        continue
            had_frames = path.has_frames()
            packet.begin(APPLICATION, path, this_kind, size - batch.overhead)
            self._fill(packet, now)
            if not packet.pieces:
                if this_kind == FULL:
                    self._note_drained(path)
                break
            if this_kind == PROBE:
                probes[APPLICATION] -= 1
            elif not packet.ack_eliciting:
                self._acks_in_a_row += 1
                if self._acks_in_a_row >= ACKS_BEFORE_PING and budget > 0 and packet.room > 0:
                    self._push_ping(packet)
            payload = b"".join(packet.pieces)
            is_padded = had_frames and packet.ack_eliciting
            least = MIN_PAYLOAD
            if is_padded and size >= SMALLEST_MAX_DATAGRAM_SIZE:
                least = SMALLEST_MAX_DATAGRAM_SIZE - batch.overhead
            if len(payload) < least:
                payload += bytes(least - len(payload))
            number = space.allocate(now)
            total = batch.add(number, payload)
            path.bytes_sent += total
            self._sent(number, total, packet, ecn, batch.sealing.phase, is_padded, now)
            if packet.in_flight:
                budget -= total
            if parts.observer is not None:
                parts.observer.on_sealed(EPOCH_ONE_RTT, number, payload, path, now)
            if total < size:
                if this_kind == FULL:
                    self._note_drained(path)
                break

    def _is_bulk_alone(self, path: Path) -> bool:
        """Whether nobody but the streams has frames for the next packets, so that runs of them may be built."""
        parts = self._parts
        if parts.acks.trackers[APPLICATION].eliciting or path.has_frames():
            return False
        streams = parts.streams
        for component in parts.writers:
            if component.pending & APPLICATION_BIT and component is not streams:
                return False
        return True

    def _build_run(self, batch: ShortBatch, path: Path, now: float, limit: int, size: int, ecn: int) -> int:
        """Add packets that stream data fills, `limit` at most; returns how many.

        The packets are those that `_build_short` would build one by one. Here each room does its part for all of them at
        once, which takes a third of the time; `docs/hot-paths.md` has the figures.
        """
        parts = self._parts
        sealing = batch.sealing
        space: SpaceState = parts.loss.spaces[APPLICATION]
        payloads: list[bytes] = []
        tokens: list[Token] = []
        limit = min(limit, space.run_length(), sealing.sealable())
        parts.streams.write_run(size - batch.overhead, limit, payloads, tokens)
        count = len(payloads)
        if not count:
            return 0
        number = space.allocate_run(count)
        batch.add_run(number, payloads)
        total = count * size
        path.bytes_sent += total
        parts.loss.on_sent_run(number, size, tokens, path, ecn, sealing.phase, now)
        path.pacer.on_sent(total)
        self._note_eliciting(now)
        self.packets_sent += count
        self.bytes_sent += total
        if parts.observer is not None:
            for payload in payloads:
                parts.observer.on_sealed(EPOCH_ONE_RTT, number, payload, path, now)
                number += 1
        return count

    def _note_drained(self, path: Path) -> None:
        """Data, not the window, ended the burst: unless somebody has more all the same, nobody need be asked again."""
        parts = self._parts
        parts.recompute_wants()
        if not parts.wants.mask & APPLICATION_BIT:
            parts.loss.on_app_limited(path)

    def _probe_mtu(self, path: Path, now: float, size: int, sealing: SealingKey) -> Transmit:
        """A PING padded to the size under test (RFC 8899 §4.1, RFC 9000 §14.4): alone, never part of a batch."""
        packet = self._packet
        batch = self._new_batch(sealing, path, 1)
        packet.begin(APPLICATION, path, MTU_PROBE, size - batch.overhead)
        self._push_ping(packet)
        payload = PING_FRAME + bytes(packet.room)
        number = self._parts.loss.spaces[APPLICATION].allocate(now)
        total = batch.add(number, payload)
        path.mtu.on_probe_sent(size)
        path.bytes_sent += total
        self._sent(number, total, packet, 0, sealing.phase, True, now)
        observer = self._parts.observer
        if observer is not None:
            observer.on_sealed(EPOCH_ONE_RTT, number, payload, path, now)
        return Transmit(batch.protect(), path.remote, path.local, 0)

    # --- during the handshake: coalesced packets ---------------------------------------------------------------------

    def _coalesced(self, path: Path, now: float) -> Transmit | None:
        """One datagram of packets of all spaces that have keys (RFC 9000 §12.2)."""
        parts = self._parts
        loss = parts.loss
        size = path.datagram_size
        if path.amplification_room() < size:
            loss.amplification_blocked = True
            return None
        loss.amplification_blocked = False
        ecn = path.ecn.mark()
        built: list[LongPacket] = []
        remaining = size
        needs_padding = False
        for space in (INITIAL, HANDSHAKE, APPLICATION):
            sealing = parts.keys.sealing[EPOCH_OF_SPACE[space]]
            if sealing is None and space == APPLICATION:
                sealing = parts.keys.sealing[EPOCH_ZERO_RTT]
            if sealing is None or remaining < MIN_ROOM:
                continue
            item = self._build_long(path, now, space, sealing, remaining)
            if item is None:
                continue
            built.append(item)
            remaining -= item.size
            if space == INITIAL and (parts.is_client or item.ack_eliciting):
                needs_padding = True
        if not built:
            parts.recompute_wants()
            return None
        padding = 0
        if needs_padding and size - remaining < SMALLEST_MAX_DATAGRAM_SIZE:
            padding = SMALLEST_MAX_DATAGRAM_SIZE - (size - remaining)
            built[-1].pad(padding)
        datagram = b"".join([item.seal() for item in built])
        path.bytes_sent += len(datagram)
        has_handshake = False
        for item in built:
            self._account_long(item, path, ecn, padding > 0 and item is built[-1], now)
            has_handshake = has_handshake or item.space == HANDSHAKE
        if has_handshake and parts.is_client:
            parts.discard_space(INITIAL)  # RFC 9001 §4.9.1
        self._packet.let_go()
        return Transmit([datagram], path.remote, path.local, ecn)

    def _build_long(self, path: Path, now: float, space: int, sealing: SealingKey, remaining: int) -> LongPacket | None:
        parts = self._parts
        loss = parts.loss
        bit = 1 << space
        probes = loss.probes[space]
        if not (parts.wants.mask & bit or probes):
            return None
        if probes:
            kind = PROBE
        elif self._window_room(path) >= path.datagram_size:
            kind = FULL
        elif parts.acks.pending & bit:
            kind = ACK_ONLY
        else:
            return None
        state: SpaceState = loss.spaces[space]
        is_zero_rtt = space == APPLICATION and parts.keys.sealing[EPOCH_ONE_RTT] is None
        item = LongPacket(
            space,
            sealing,
            parts.handshake.original_version if is_zero_rtt else parts.handshake.version,
            path.peer_cid,
            self._host_cid,
            parts.initial_token if space == INITIAL else b"",
            encode_packet_number(state.next_number + 1, state.largest_acked),
            is_zero_rtt,
        )
        room = remaining - item.overhead
        if room < MIN_ROOM:
            return None
        packet = self._packet
        packet.begin(space, path, kind, room)
        self._fill(packet, now)
        if not packet.pieces:
            return None
        if kind == PROBE:
            loss.probes[space] -= 1
        item.finish(state.allocate(now), b"".join(packet.pieces), packet, MIN_PAYLOAD)
        return item

    def _account_long(self, item: LongPacket, path: Path, ecn: int, is_padded: bool, now: float) -> None:
        packet = self._packet
        packet.begin(item.space, path, item.kind, 0)
        packet.tokens = item.tokens
        packet.ack_eliciting = item.ack_eliciting
        packet.in_flight = item.in_flight
        phase = item.sealing.phase if item.space == APPLICATION and not item.is_zero_rtt else -1
        self._sent(item.number, item.size, packet, ecn, phase, is_padded, now)
        observer = self._parts.observer
        if observer is not None:
            epoch = EPOCH_ZERO_RTT if item.is_zero_rtt else EPOCH_OF_SPACE[item.space]
            observer.on_sealed(epoch, item.number, item.payload, path, now)
