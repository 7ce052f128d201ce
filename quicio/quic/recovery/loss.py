"""Loss detection: what became of each packet, and when to ask (RFC 9002 §5-§6, appendix A).

`LossDetection` writes no frames. It keeps the sent packets of the three packet number spaces, learns their fate from ACK
frames and from the clock, and tells everybody concerned:

- the components whose tokens a packet carries: `on_acked` and, when nobody remembers the packet any more, `on_forgotten`
  end a token, exactly one of them, exactly once; `on_lost` comes before either, if at all;
- the path of the packet: bytes in flight and delivery state (kept here alone), RTT, ECN, datagram size;
- the path's congestion controller: one `AckSample` an ACK, one `LossBatch` for each time that packets are declared lost.

It owns one timer, `deadline`: the time threshold when packets wait for it, otherwise the probe timeout (PTO), never later
than the time to forget lost packets. A PTO declares nothing lost; it sets `probes[space]`, the number of packets that
`Outbound` is to send there whatever the window says. The backoff doubles with each PTO, but a PTO never exceeds `MAX_PTO`.

The connection keeps these facts up to date, and calls `set_deadline` after a change: `handshake_confirmed`,
`has_handshake_keys`, `peer_address_validated` (at a client: the server no longer needs our packets to be allowed to send),
`amplification_blocked` (at a server: nothing may be sent, so no PTO is armed), `max_ack_delay` and `path`, the path in use.

Invariants, checked by `check_invariants`: a path's `in_flight` is the sum over its tracked in-flight packets; no tracked
packet is older than `base`; no more than `MAX_LOST_PACKETS` lost ones are remembered a space. An ACK costs time linear in
its ranges and in what it newly acknowledges; no ACK raises anything but PROTOCOL_VIOLATION.
"""

from collections.abc import Callable
from math import inf
from typing import Final

from quicio.quic.component import Component, Token, Wants
from quicio.quic.congestion.base import AckSample, LossBatch
from quicio.quic.observer import Observer
from quicio.quic.paths.path import Path
from quicio.quic.recovery.invariants import check_books
from quicio.quic.recovery.sent_packets import MAX_UNANSWERED, LossEpisode, SentPacket, SpaceState
from quicio.quic.wire.constants import (
    ACK,
    APPLICATION,
    HANDSHAKE,
    INITIAL,
    PROTOCOL_VIOLATION,
    QuicConnectionError,
)

__all__ = ["LossDetection", "SentPacket", "SpaceState"]

K_PACKET_THRESHOLD: Final = 3  # RFC 9002 §6.1.1
K_PERSISTENT_CONGESTION_THRESHOLD: Final = 3  # RFC 9002 §7.6.1
MAX_PTO: Final = 60.0  # seconds: backoff never makes a probe timeout longer
MAX_BACKOFF_EXPONENT: Final = 20  # 2^20 of the shortest PTO is far above MAX_PTO
PROBE_PACKETS: Final = 2  # RFC 9002 §6.2.4: one may be lost as well
REMEMBER_PTOS: Final = 3  # PTOs for which a lost packet is remembered
DEFAULT_MAX_ACK_DELAY: Final = 0.025  # RFC 9000 §18.2


class _PathTally:
    """What one ACK newly acknowledges on one path."""

    __slots__ = ("acked", "newest", "path", "prior_in_flight")

    def __init__(self, path: Path) -> None:
        self.path: Path = path
        self.prior_in_flight: int = path.in_flight
        self.acked: int = 0  # bytes that were in flight
        self.newest: SentPacket | None = None  # the last sent of those in flight


class LossDetection(Component):
    """Sent packets, ACK processing, loss detection and the probe timeout of a connection. Times in seconds."""

    def __init__(
        self,
        wants: Wants,
        *,
        is_client: bool,
        path: Path,
        random: Callable[[], float],
        max_ack_delay: float = DEFAULT_MAX_ACK_DELAY,
    ) -> None:
        """`path` is the path in use, `random` yields floats of [0, 1), `max_ack_delay` is the peer's parameter."""
        super().__init__(wants)
        self.path: Path = path
        self.max_ack_delay: float = max_ack_delay
        self.spaces: list[SpaceState] = [SpaceState(space, random) for space in (INITIAL, HANDSHAKE, APPLICATION)]
        self.handshake_confirmed: bool = False
        self.has_handshake_keys: bool = False
        self.peer_address_validated: bool = not is_client  # clients validate the server's address implicitly
        self.amplification_blocked: bool = False
        self.pto_count: int = 0
        self.probes: list[int] = [0, 0, 0]  # packets to send as probes, by space; `Outbound` counts them down
        self.acked_phase: int = -1  # the highest 1-RTT key phase of which a packet was acknowledged
        self.packets_lost: int = 0
        self.observer: Observer | None = None
        self.spurious_losses: int = 0
        self.probe_timeouts: int = 0
        self._timer: float = inf  # time threshold or PTO
        self._forget_time: float = inf
        self._pto_space: int = INITIAL
        self._last_pto: float = -inf  # so that a timeout that could send nothing does not fire again at once
        self._fast_pto: float = 0.0  # the PTO to add to a sending time when nothing else matters, else 0.0
        self._last_time: float = 0.0
        self._episode: LossEpisode | None = None  # the latest

    # Sending.

    def on_sent(self, packet: SentPacket, now: float) -> None:
        """Track a packet that goes out now, with a number from `spaces[packet.space].allocate()`.

        Raises `QuicConnectionError` (PROTOCOL_VIOLATION) when a peer has us acknowledge without end and acknowledges nothing
        itself: no window bounds packets that hold only ACKs.
        """
        state = self.spaces[packet.space]
        if packet.number == state.base + len(state.sent):
            state.sent.append(packet)
        else:
            state.append(packet)
        if packet.in_flight:
            self._add_in_flight(packet.path, packet.size, now)
            packet.note_delivery(packet.path)
        else:
            state.unanswered += 1
            self._check_answered(state)
        if packet.ecn:
            state.ect0_sent += 1
            packet.path.ecn.on_sent()
        if packet.ack_eliciting:
            self._add_eliciting(state, 1, now)

    def on_sent_run(
        self, number: int, size: int, tokens: list[Token], path: Path, ecn: int, phase: int, now: float
    ) -> None:
        """As `on_sent` for 1-RTT packets that go out together on `path`, numbered from `number` on.

        Each has `size` bytes, counts as in flight, and carries one frame, whose token is in `tokens`.
        """
        state = self.spaces[APPLICATION]
        count = len(tokens)
        self._add_in_flight(path, count * size, now)
        state.append_run(number, size, tokens, path, ecn, phase, now)
        if ecn:
            state.ect0_sent += count
            path.ecn.on_sent(count)
        self._add_eliciting(state, count, now)

    def _check_answered(self, state: SpaceState) -> None:
        if state.unanswered > MAX_UNANSWERED:
            raise QuicConnectionError(PROTOCOL_VIOLATION, None, "The peer acknowledges nothing")

    def _add_in_flight(self, path: Path, size: int, now: float) -> None:
        if path.in_flight == 0:
            path.first_sent_time = now
            path.delivered_time = now
        path.in_flight += size
        path.congestion.on_sent(now, size, path.in_flight)

    def _add_eliciting(self, state: SpaceState, count: int, now: float) -> None:
        state.eliciting_in_flight += count
        state.last_eliciting_time = now
        if self._fast_pto:
            self._timer = now + self._fast_pto
            self.deadline = self._timer if self._timer < self._forget_time else self._forget_time
        else:
            self.set_deadline(now)

    def on_app_limited(self, path: Path) -> None:
        """Data, not the window or the pacer, ended the burst: what is in flight says nothing of the path's rate.

        Packets count as application-limited until more than what is in flight now has been delivered.
        """
        path.app_limited_until = max(1, path.delivered + path.in_flight)

    def oldest_unacked(self, space: int) -> SentPacket | None:
        """The oldest ack-eliciting packet that is neither acknowledged nor lost."""
        for packet in self.spaces[space].sent:
            if packet is not None and packet.ack_eliciting:
                return packet
        return None

    def offer_probes(self, space: int, packets: int, now: float) -> int:
        """Have the frames of the `packets` oldest unacknowledged packets offered again (`on_probe`); returns how many."""
        offered = 0
        for packet in self.spaces[space].sent:
            if offered >= packets:
                break
            if packet is not None and packet.ack_eliciting and not packet.is_mtu_probe:
                offered += 1
                for token in packet.tokens:
                    token[0].on_probe(token, now)
        return offered

    # Acknowledgments.

    def on_ack(self, space: int, ranges: list[int], delay: float, ecn: tuple[int, int, int] | None, now: float) -> None:
        """Process an ACK frame (RFC 9002 §A.7).

        `ranges` is flat and half-open, [start0, stop0, start1, stop1…], newest first; `delay` is the reported ACK delay in
        seconds, `ecn` the reported counts of ECT(0), ECT(1) and CE. Raises `QuicConnectionError` (PROTOCOL_VIOLATION) when
        the ACK covers a packet that was never sent (RFC 9000 §13.1).
        """
        state = self.spaces[space]
        self._last_time = now
        largest = ranges[1] - 1
        if largest >= state.base + len(state.sent):
            raise QuicConnectionError(PROTOCOL_VIOLATION, ACK, "ACK of a packet that was never sent")
        if state.skipped and state.covers_skipped(ranges):
            raise QuicConnectionError(PROTOCOL_VIOLATION, ACK, "ACK of a packet number that was skipped")
        if ranges[-2] < state.rejected_below:  # RFC 9001 §4.6.2
            raise QuicConnectionError(PROTOCOL_VIOLATION, ACK, "ACK of a 0-RTT packet that was rejected")
        is_advance = largest > state.largest_acked
        if is_advance:
            state.largest_acked = largest
        if state.lost_numbers:
            late = state.take_lost(ranges)
            if late:
                self._on_late_acks(late, now)
        acked = state.take(ranges)
        if not acked:
            return
        state.unanswered = 0
        newest = acked[-1]
        path = newest.path
        tallies: list[_PathTally] = []
        eliciting, ect0 = self._settle(acked, tallies, now)
        state.eliciting_in_flight -= eliciting
        rtt_sample = 0.0
        if eliciting and newest.number == largest:
            rtt_sample = now - newest.sent_time
            path.rtt.update(rtt_sample, self._usable_delay(space, delay), now)
        ce = self._validate_ecn(state, path, ect0, ecn) if is_advance else 0
        self._detect_losses(state, now)
        for tally in tallies:
            is_main = tally.path is path
            self._sample(tally, rtt_sample if is_main else 0.0, ce if is_main else 0, newest.sent_time, now)
        if space == HANDSHAKE:
            self.peer_address_validated = True  # RFC 9002 §A.8
        if newest.phase > self.acked_phase:
            self.acked_phase = newest.phase
        if self.peer_address_validated:
            self.pto_count = 0
        state.window_packets = path.congestion.window // path.datagram_size
        self.set_deadline(now)

    def _settle(self, acked: list[SentPacket], tallies: list[_PathTally], now: float) -> tuple[int, int]:
        """End the tokens of newly acknowledged packets and add them up by path.

        Returns how many elicited an ACK and how many were sent with ECT(0).
        """
        tally = _PathTally(acked[-1].path)
        tallies.append(tally)
        path = tally.path
        eliciting = 0
        ect0 = 0
        total = 0
        largest_size = 0
        others: dict[Path, list[SentPacket]] = {}
        newest: SentPacket | None = None
        owner: Component | None = None
        tokens: list[Token] = []  # of `owner`, from packets that follow each other
        for packet in acked:
            if packet.path is not path:
                others.setdefault(packet.path, []).append(packet)
                continue
            if packet.ack_eliciting:
                eliciting += 1
            if packet.in_flight:
                size = packet.size
                total += size
                newest = packet
                if size > largest_size:
                    largest_size = size
            if packet.ecn:
                ect0 += 1
            for token in packet.tokens:
                if token[0] is not owner:
                    if owner is not None:
                        owner.on_acked_run(tokens, now)
                    owner = token[0]
                    tokens = []
                tokens.append(token)
        if owner is not None:
            owner.on_acked_run(tokens, now)
        if newest is not None:
            tally.acked = total
            tally.newest = newest
            path.in_flight -= total
            path.delivered += total
            path.delivered_time = now
            path.first_sent_time = newest.sent_time
            if largest_size > path.mtu.base:
                self._on_large_acked(path, acked, largest_size, newest.sent_time)
        for packets in others.values():
            more_eliciting, more_ect0 = self._settle(packets, tallies, now)
            eliciting += more_eliciting
            ect0 += more_ect0
        return eliciting, ect0

    def _on_large_acked(self, path: Path, acked: list[SentPacket], size: int, sent_time: float) -> None:
        path.mtu.on_packet_acked(size, sent_time)
        if size > path.datagram_size:
            for packet in acked:
                if packet.is_mtu_probe and packet.path is path:
                    path.mtu.on_probe_acked(packet.size)
            self._follow_mtu(path)

    def _follow_mtu(self, path: Path) -> None:
        if path.mtu.size != path.datagram_size:
            path.datagram_size = path.mtu.size
            path.congestion.on_datagram_size(path.mtu.size)

    def _usable_delay(self, space: int, delay: float) -> float:
        """How much of the reported ACK delay an RTT sample may be reduced by (RFC 9002 §5.3)."""
        if space == INITIAL:
            return 0.0
        if self.handshake_confirmed and delay > self.max_ack_delay:
            return self.max_ack_delay
        return delay

    def _validate_ecn(self, state: SpaceState, path: Path, ect0: int, counts: tuple[int, int, int] | None) -> int:
        """Returns how many packets are newly reported as CE-marked (RFC 9000 §13.4.2.1)."""
        if counts is None:
            return path.ecn.on_ack(ect0, None) if ect0 else 0
        if counts[0] > state.ect0_sent:
            path.ecn.fail()
        growth = (counts[0] - state.ecn_ect0, counts[1] - state.ecn_ect1, counts[2] - state.ecn_ce)
        state.ecn_ect0, state.ecn_ect1, state.ecn_ce = counts
        return path.ecn.on_ack(ect0, growth)

    def _sample(self, tally: _PathTally, latest_rtt: float, ce: int, largest_sent_time: float, now: float) -> None:
        """Tell the path's controller, with a delivery rate as rate-based controllers use it."""
        newest = tally.newest
        if newest is None and not ce:
            return
        path = tally.path
        rtt = path.rtt
        rate = 0.0
        is_app_limited = False
        if newest is not None:
            largest_sent_time = newest.sent_time
            is_app_limited = newest.is_app_limited
            # The slower of sending and acknowledging: ACKs that arrive in a clump do not make the path faster.
            interval = max(newest.sent_time - newest.first_sent_time, now - newest.delivered_time)
            if interval > 0.0 and interval >= rtt.minimum:
                rate = (path.delivered - newest.delivered) / interval
        path.congestion.on_ack(
            AckSample(
                now,
                tally.acked,
                tally.prior_in_flight,
                path.in_flight,
                largest_sent_time,
                latest_rtt,
                rtt.smoothed,
                rtt.minimum,
                path.delivered,
                rate,
                is_app_limited,
                ce,
            )
        )

    def _on_late_acks(self, packets: list[SentPacket], now: float) -> None:
        """Packets taken for lost did arrive (RFC 9002 §A.1): end their tokens; undo the reduction when all of them did."""
        for packet in packets:
            self.spurious_losses += 1
            for token in packet.tokens:
                token[0].on_acked(token, now)
            path = packet.path
            if packet.is_mtu_probe:
                path.mtu.on_probe_acked(packet.size)
                self._follow_mtu(path)
            episode = packet.episode
            if episode is not None:
                episode.remaining -= 1
                if episode.remaining == 0 and self._episode is episode:
                    self._episode = None
                    path.congestion.on_spurious_loss(now)

    # Losses.

    def _detect_losses(self, state: SpaceState, now: float) -> None:
        """Declare packets lost that later ones have overtaken by count or by time (RFC 9002 §A.10)."""
        state.loss_time = inf
        largest = state.largest_acked
        sent = state.sent
        if largest < state.base or not sent:
            return
        lost: list[SentPacket] = []
        overtaken = largest - K_PACKET_THRESHOLD
        path = self.path
        delay = path.rtt.loss_delay()
        for position in range(largest - state.base):
            packet = sent[position]
            if packet is None:
                continue
            if packet.path is not path:
                path = packet.path
                delay = path.rtt.loss_delay()
            due = packet.sent_time + delay
            if packet.number <= overtaken or due <= now:
                sent[position] = None
                lost.append(packet)
                if packet.ack_eliciting:
                    state.eliciting_in_flight -= 1
            elif due < state.loss_time:
                state.loss_time = due
        if lost:
            state.cut_head()
            self._on_packets_lost(state, lost, now)

    def _on_packets_lost(self, state: SpaceState, lost: list[SentPacket], now: float) -> None:
        """Everything that follows from losses, path by path (RFC 9002 §B.8)."""
        self._note_lost(state, lost, now)
        by_path: dict[Path, list[SentPacket]] = {}
        for packet in lost:
            by_path.setdefault(packet.path, []).append(packet)
        for path, mine in by_path.items():
            self._on_path_losses(state, path, mine, now)

    def _note_lost(self, state: SpaceState, lost: list[SentPacket], now: float) -> None:
        self.packets_lost += len(lost)
        if self._forget_time == inf:
            self._forget_time = now + self._remember_time()
        if self.observer is not None:
            for packet in lost:
                self.observer.on_lost(state.space, packet.number, now)

    def _on_path_losses(self, state: SpaceState, path: Path, mine: list[SentPacket], now: float) -> None:
        is_persistent = self._is_persistent_congestion(state, mine)
        bytes_lost = 0
        congestive = 0
        largest_size = 0
        newest_large = -inf
        largest_sent_time = 0.0
        episode = self._episode_for(path, mine[-1].sent_time, now)
        for packet in mine:
            packet.episode = None
            if packet.in_flight:
                path.in_flight -= packet.size
                if packet.is_mtu_probe:
                    path.mtu.on_probe_lost(packet.size)  # no sign of congestion (RFC 9000 §14.4)
                else:
                    packet.episode = episode
                    congestive += 1
                    bytes_lost += packet.size
                    largest_sent_time = packet.sent_time
                    if packet.size > path.mtu.base:
                        largest_size = packet.size
                        newest_large = packet.sent_time
            if packet.ecn:
                path.ecn.on_lost()
            self._give_up(state, packet, now)
        if congestive:
            episode.remaining += congestive
            self._episode = episode
            batch = LossBatch(now, bytes_lost, congestive, largest_sent_time, path.in_flight, is_persistent)
            path.congestion.on_loss(batch)
            if is_persistent:
                path.rtt.on_persistent_congestion()
            if largest_size and path.mtu.on_packet_lost(largest_size, newest_large):
                self._follow_mtu(path)

    def abandon_path(self, path: Path, now: float) -> None:
        """`path` is not known any more: what is in flight on it is lost, and that says nothing of congestion elsewhere.

        So a peer that moves on and on has us track no more than its known paths hold. Raises as `on_sent` does.
        """
        state = self.spaces[APPLICATION]
        lost = state.take_path(path)
        if not lost:
            return
        self._note_lost(state, lost, now)
        for packet in lost:
            path.in_flight -= packet.size
            if packet.is_mtu_probe:
                path.mtu.on_probe_lost(packet.size)  # another path may share it
            packet.episode = None
            self._give_up(state, packet, now)
        state.unanswered += len(lost)
        self.set_deadline(now)
        self._check_answered(state)

    def _give_up(self, state: SpaceState, packet: SentPacket, now: float) -> None:
        """Offer a lost packet's frames again, and remember it for a late ACK."""
        packet.lost_time = now
        for token in packet.tokens:
            token[0].on_lost(token, now)
        forgotten = state.remember_lost(packet)
        if forgotten is not None:
            self._forget(forgotten)

    def _episode_for(self, path: Path, largest_sent_time: float, now: float) -> LossEpisode:
        """The recovery period that losses up to `largest_sent_time` belong to: the current one, or one that begins."""
        episode = self._episode
        if episode is None or episode.path is not path or largest_sent_time > episode.start:
            episode = LossEpisode(path, now)
        return episode

    def _is_persistent_congestion(self, state: SpaceState, lost: list[SentPacket]) -> bool:
        """Whether every packet sent over a long enough time is lost (RFC 9002 §7.6.2), judged within one space."""
        rtt = lost[0].path.rtt
        if len(lost) < 2 or not rtt.has_sample:
            return False
        duration = rtt.pto(self.max_ack_delay) * K_PERSISTENT_CONGESTION_THRESHOLD
        return state.lost_without_break(lost, rtt.first_sample_time, duration)

    # The clock.

    def on_timer(self, now: float) -> None:
        """Time threshold, probe timeout, or lost packets to forget (RFC 9002 §A.9)."""
        self._last_time = now
        if now >= self._forget_time:
            self._forget_stale(now)
        if now >= self._timer:
            self._on_loss_timer(now)
        self.set_deadline(now)

    def _on_loss_timer(self, now: float) -> None:
        is_loss = False
        for state in self.spaces:
            if state.loss_time <= now:
                self._detect_losses(state, now)
                is_loss = True
        if is_loss or self.amplification_blocked:
            return
        self.probe_timeouts += 1
        self.pto_count += 1
        self._last_pto = now
        space = self._pto_space
        probes = self.probes
        if self.spaces[space].eliciting_in_flight == 0:
            probes[space] = 1  # a client unblocks its server (RFC 9002 §6.2.2.1)
            return
        probes[space] = PROBE_PACKETS
        for state in self.spaces:  # the peer may have the keys of one space only (RFC 9002 §6.2.4)
            other = state.space
            if other != space and state.eliciting_in_flight and not probes[other]:
                if other != APPLICATION or self.handshake_confirmed:
                    probes[other] = 1
        if self.path.mtu.on_probe_timeout():
            self._follow_mtu(self.path)

    def set_deadline(self, now: float) -> None:
        """Set the timer from the state as it is now (RFC 9002 §A.8)."""
        self._last_time = now
        self._fast_pto = 0.0
        timer = inf
        for state in self.spaces:
            if state.loss_time < timer:
                timer = state.loss_time
        if timer == inf:
            timer = self._pto_time(now)
        self._timer = timer
        self.deadline = timer if timer < self._forget_time else self._forget_time

    def rearm(self, now: float) -> None:
        """A datagram lifted the amplification limit (RFC 9002 §A.6): arm the timer, run it if it would have expired."""
        self.set_deadline(now)
        if self.deadline <= now:
            self.on_timer(now)

    def pto(self, space: int) -> float:
        """The probe timeout of a space with its backoff, in seconds."""
        exponent = self.pto_count if self.pto_count < MAX_BACKOFF_EXPONENT else MAX_BACKOFF_EXPONENT
        base = self.path.rtt.pto(self.max_ack_delay if space == APPLICATION else 0.0)
        backed_off = base * (1 << exponent)
        return backed_off if backed_off < MAX_PTO else MAX_PTO

    def _pto_time(self, now: float) -> float:
        """When the PTO expires; `_pto_space` is then the space it is for (RFC 9002 §A.8)."""
        if self.amplification_blocked:
            return inf  # nothing could be sent (RFC 9002 §6.2.2.1)
        timeout = inf
        for state in self.spaces:
            if not state.eliciting_in_flight:
                continue
            if state.space == APPLICATION and not self.handshake_confirmed:
                continue  # RFC 9002 §6.2.1: the peer may not be able to read or acknowledge these yet
            duration = self.pto(state.space)
            since = state.last_eliciting_time
            if since < self._last_pto:
                since = self._last_pto
            if since + duration < timeout:
                if state.space == APPLICATION and timeout == inf:
                    self._fast_pto = duration
                timeout = since + duration
                self._pto_space = state.space
        if timeout == inf and not self.peer_address_validated:
            self._pto_space = HANDSHAKE if self.has_handshake_keys else INITIAL
            timeout = now + self.pto(self._pto_space)
        return timeout

    # Ends.

    def on_handshake_confirmed(self) -> None:
        """The handshake is confirmed (RFC 9001 §4.1.2): ACK delays are capped and 1-RTT packets get a PTO."""
        self.handshake_confirmed = True
        self.peer_address_validated = True
        self.set_deadline(self._last_time)

    def on_space_discarded(self, space: int) -> None:
        """The keys of a space are gone."""
        super().on_space_discarded(space)
        self.discard(space)

    def discard(self, space: int) -> None:
        """The keys of a space are gone: nothing sent there can be acknowledged any more (RFC 9002 §6.4, §A.11)."""
        self.forget_space(space)

    def forget_space(self, space: int) -> None:
        """Forget all packets of a space, without blaming the path, and start the timers anew.

        Also for a client that received Retry or Version Negotiation (RFC 9002 §6.3): what it sent was not processed and
        never will be. Packet numbers go on; whoever wrote the frames offers them again on his own.
        """
        for packet in self._withdraw(space):
            for token in packet.tokens:
                token[0].on_forgotten(token)
        self.probes[space] = 0
        self.pto_count = 0
        self.set_deadline(self._last_time)

    def _withdraw(self, space: int) -> list[SentPacket]:
        """Take all packets of a space out of the books, those in flight and those remembered."""
        state = self.spaces[space]
        packets = state.take_all()
        for packet in packets:
            if packet.in_flight:
                packet.path.in_flight -= packet.size
        return state.take_stale(inf, 0.0) + packets

    def _forget(self, packet: SentPacket) -> None:
        for token in packet.tokens:
            token[0].on_forgotten(token)

    def _remember_time(self) -> float:
        return REMEMBER_PTOS * self.path.rtt.pto(self.max_ack_delay)

    def _forget_stale(self, now: float) -> None:
        age = self._remember_time()
        next_time = inf
        for state in self.spaces:
            for packet in state.take_stale(now, age):
                self._forget(packet)
            if state.lost_numbers:
                oldest = state.lost[state.lost_numbers[0]].lost_time + age
                if oldest < next_time:
                    next_time = oldest
        self._forget_time = next_time

    def check_invariants(self) -> None:
        """Raise `AssertionError` when the books do not balance. For tests and the simulator; linear in what is tracked."""
        check_books(self.spaces, self.path)
