"""From datagrams to opened packets (RFC 9000 §5.2, §12.2, RFC 9001 §5).

A batch of datagrams is one unit of work: header protection of all its short-header packets is removed with one cipher call,
and the decisions that can wait (whether to acknowledge, what to tell the application) are taken once at its end.

Rules:
- A packet that is not authentic changes nothing, whatever it says: it is dropped, after a look whether it is a stateless
  reset (§10.3.1, constant time). What follows it in the datagram is still looked at, if it is for the same connection ID.
- Packets whose keys are not there yet wait in a bounded buffer (`MAX_WAITING`), and are tried when keys come.
- Every datagram counts for the path's anti-amplification limit as a whole, before anything in it is understood (§8.1).
- A server takes Initial packets only from datagrams of at least 1200 bytes (§14.1).
- The first authentic packets fix the peer's connection ID (§7.2), the version (RFC 9368 §4), and discard Initial keys (RFC
  9001 §4.9.1).

What it leaves to others: frames (`dispatch.py`), Version Negotiation and Retry (`negotiation.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from hmac import compare_digest
from struct import Struct
from typing import Any, Final

from cryptography.exceptions import InvalidTag

from quicio.buffer import encode_uint_var
from quicio.quic.dispatch import Dispatcher
from quicio.quic.events import CloseReason
from quicio.quic.lifecycle import CAUSE_STATELESS_RESET, CLOSING, DRAINING
from quicio.quic.negotiation import Negotiation
from quicio.quic.parts import Parts
from quicio.quic.paths.path import Path
from quicio.quic.streams.stream import ReceiveHalf
from quicio.quic.transmit import Received
from quicio.quic.wire.constants import (
    APPLICATION,
    EPOCH_HANDSHAKE,
    EPOCH_INITIAL,
    EPOCH_ONE_RTT,
    EPOCH_ZERO_RTT,
    HANDSHAKE,
    INITIAL,
    NO_ERROR,
    PADDING,
    PROTOCOL_VIOLATION,
    SMALLEST_MAX_DATAGRAM_SIZE,
    STATELESS_RESET_TOKEN_SIZE,
    UINT_VAR_MAX,
    QuicConnectionError,
)
from quicio.quic.wire.crypto import KeyRing, OpeningKey
from quicio.quic.wire.frames import IN_HANDSHAKE, IN_INITIAL, IN_ONE_RTT, IN_ZERO_RTT
from quicio.quic.wire.headers import (
    HANDSHAKE_PACKET,
    INITIAL_PACKET,
    LONG_HEADER_BIT,
    LongHeader,
    decode_packet_number,
    is_known_version,
    parse_long_header,
)

MAX_WAITING: Final = 16  # packets kept until their keys come
SHORT_RESERVED_BITS: Final = 0x18
LONG_RESERVED_BITS: Final = 0x0C
SAMPLE_OFFSET: Final = 4
SAMPLE_SIZE: Final = 16
KEY_PHASE_BIT: Final = 0x04
PROTECTED_BITS: Final = 0x1F  # of the first byte of a short header (RFC 9001 §5.4.1)
NO_SHAPE: Final = -1
FOUR_BYTES_END: Final = 1 << 30  # integers from here on take eight bytes (RFC 9000 §16)
# A header protection mask: one byte for the first byte, four for the packet number, and eleven unused.
MASKS: Final = Struct(">BI11x")
SMALLEST_RESET: Final = 21  # RFC 9000 §10.3

# By packet type: Initial, 0-RTT, Handshake.
SPACES: Final = (INITIAL, APPLICATION, HANDSHAKE)
EPOCHS: Final = (EPOCH_INITIAL, EPOCH_ZERO_RTT, EPOCH_HANDSHAKE)
ALLOWED_BITS: Final = (IN_INITIAL, IN_ZERO_RTT, IN_HANDSHAKE)


class Waiting:
    """A packet that came before its keys."""

    __slots__ = ("datagram", "ecn", "epoch", "path", "position")

    def __init__(self, datagram: bytes, position: int, epoch: int, path: Path, ecn: int) -> None:
        self.datagram: bytes = datagram
        self.position: int = position
        self.epoch: int = epoch
        self.path: Path = path
        self.ecn: int = ecn


RunValues = tuple[bytes, int, int, int, int, int, list[bytes]]
NO_RUN: Final[RunValues] = (b"", 0, 0, 0, 0, 0, [])


class NextHeader:
    """The short header that follows one with first byte `shape` (protection removed) and `cid`, under `key`.

    `values` is what the loop over a burst needs, in the order in which it takes it apart: one attribute to read.
    """

    __slots__ = ("cid", "key", "shape", "values")

    def __init__(self, key: OpeningKey, shape: int, cid: bytes) -> None:
        self.key: OpeningKey = key
        self.shape: int = shape
        self.cid: bytes = cid
        size = (shape & 0x03) + 1
        self.values: tuple[int, bytes, int, int, int, int, bytes, Callable[[bytes, bytes, bytes], bytes], int] = (
            shape,
            cid,
            32 - 8 * size,
            (1 << 8 * size) - 1,
            size,
            1 + len(cid) + size,
            bytes((shape & 0xFF,)) + cid,
            key.decrypt,
            key.iv,
        )


class Inbound:
    """Takes datagrams apart."""

    def __init__(self, parts: Parts, dispatcher: Dispatcher, negotiation: Negotiation, cid_length: int) -> None:
        self.parts = parts
        self._dispatcher = dispatcher
        self._negotiation = negotiation
        self._sample_end = 1 + cid_length + SAMPLE_OFFSET + SAMPLE_SIZE  # of a short header; its packets are no shorter
        self._unpack_header: Callable[[bytes], tuple[Any, ...]] = Struct(f">B{cid_length}sI").unpack_from
        self._next: NextHeader | None = None
        self._run_half: ReceiveHalf | None = None
        self._known_cid = b""  # the last destination connection ID that was found to be ours
        self._waiting: list[Waiting] = []
        self._path: Path = parts.paths.active
        self._ecn = 0
        self._now = 0.0
        self._any_authentic = False
        self.packets_received: int = 0
        self.packets_dropped: int = 0
        self.bytes_received: int = 0

    # --- datagrams ---------------------------------------------------------------------------------------------------

    def receive(self, received: Received, now: float) -> None:
        """Process a batch of datagrams. Raises `QuicConnectionError` for what has to end the connection."""
        parts = self.parts
        if parts.lifecycle.state >= DRAINING:
            return
        path = parts.paths.for_datagrams(received.remote, received.local)
        if path is None:
            self.packets_dropped += len(received.datagrams)
            return
        self._path = path
        self._ecn = received.ecn
        self._now = now
        self._any_authentic = False
        datagrams = received.datagrams
        sizes = list(map(len, datagrams))
        size = sum(sizes)
        path.bytes_received += size
        self.bytes_received += size
        opening = parts.keys.opening[EPOCH_ONE_RTT]
        if opening is not None and sizes and min(sizes) >= self._sample_end:
            self._open_burst(opening, datagrams)
        else:
            self._receive_mixed(datagrams)
        if parts.handshake.new_keys:
            self._retry_waiting()
        self._end_burst(now)

    def _receive_mixed(self, datagrams: list[bytes]) -> None:
        """A batch of the handshake, or one with datagrams too short for a packet."""
        short: list[bytes] = []
        for datagram in datagrams:
            if datagram and datagram[0] & LONG_HEADER_BIT:
                if short:
                    self._receive_short(short)
                    short = []
                self._receive_long(datagram)
            elif datagram:
                short.append(datagram)
        if short:
            self._receive_short(short)

    def _end_burst(self, now: float) -> None:
        parts = self.parts
        if not self._any_authentic:
            self._rearm(now)
            return
        if parts.lifecycle.state >= CLOSING:
            parts.lifecycle.on_packet_while_closing()
            return
        parts.lifecycle.on_received(now, parts.pto())
        parts.acks.end_burst(now)
        if parts.handshake.is_readable:
            parts.streams.collect_events(now)
        if parts.observer is not None:
            parts.observer.on_metrics(parts.paths.active, now)
        self._rearm(now)

    def _rearm(self, now: float) -> None:
        """Any datagram may lift the anti-amplification limit, and with it the timers (RFC 9002 §A.6)."""
        loss = self.parts.loss
        if loss.amplification_blocked:
            loss.amplification_blocked = False
            loss.rearm(now)

    def flush_application(self, now: float) -> None:
        """After a decision completed the handshake outside `receive`: open what waited."""
        self._now = now
        if self.parts.handshake.new_keys:
            self._retry_waiting()
            self._end_burst(now)

    # --- packets that wait -------------------------------------------------------------------------------------------

    def _wait(self, datagram: bytes, position: int, epoch: int) -> None:
        if len(self._waiting) < MAX_WAITING:
            self._waiting.append(Waiting(datagram, position, epoch, self._path, self._ecn))
        else:
            self.packets_dropped += 1

    def _may_come(self, epoch: int) -> bool:
        """Whether keys for packets of `epoch` can still come. Those of 0-RTT come with a server's answer or never."""
        parts = self.parts
        if parts.handshake.is_complete or epoch == EPOCH_INITIAL:
            return False
        return epoch != EPOCH_ZERO_RTT or not (parts.is_client or parts.keys.sealing[EPOCH_HANDSHAKE] is not None)

    def _retry_waiting(self) -> None:
        parts = self.parts
        while parts.handshake.new_keys:
            parts.handshake.new_keys = False
            waiting = self._waiting
            self._waiting = []
            for packet in waiting:
                if parts.keys.opening[packet.epoch] is None:
                    if self._may_come(packet.epoch):
                        self._waiting.append(packet)
                    else:
                        self.packets_dropped += 1
                    continue
                self._path = packet.path
                self._ecn = packet.ecn
                if packet.epoch == EPOCH_ONE_RTT:
                    self._receive_short([packet.datagram])
                else:
                    self._receive_long_at(packet.datagram, packet.position)

    # --- long headers ------------------------------------------------------------------------------------------------

    def _receive_long(self, datagram: bytes) -> None:
        position = 0
        first_cid: bytes | None = None
        while position < len(datagram):
            if not datagram[position] & 0x80:
                if position and datagram[position] & 0x40:
                    self._receive_short([datagram[position:]])
                return
            try:
                header = parse_long_header(datagram, position)
            except ValueError:
                self.packets_dropped += 1
                return
            if first_cid is None:
                first_cid = header.destination_cid
            elif header.destination_cid != first_cid:  # RFC 9000 §12.2
                self.packets_dropped += 1
                return
            if not is_known_version(header.version) or header.packet_type > HANDSHAKE_PACKET:
                if self._negotiation.receive(header, datagram, self._now):
                    self._any_authentic = True
                else:
                    self.packets_dropped += 1
                return
            self._receive_protected(datagram, position, header)
            position = header.end

    def _receive_long_at(self, datagram: bytes, position: int) -> None:
        self._receive_protected(datagram, position, parse_long_header(datagram, position))

    def _receive_protected(self, datagram: bytes, position: int, header: LongHeader) -> None:
        parts = self.parts
        packet_type = header.packet_type
        if not parts.is_client and packet_type == INITIAL_PACKET and len(datagram) < SMALLEST_MAX_DATAGRAM_SIZE:
            self.packets_dropped += 1
            return
        if not self._is_ours(header.destination_cid):
            self.packets_dropped += 1
            return
        epoch = EPOCHS[packet_type]
        switching: KeyRing | None = None
        opening: OpeningKey | None
        if packet_type == INITIAL_PACKET and header.version != parts.handshake.version:
            switching = self._negotiation.switching_keys(header.version)
            opening = parts.keys.initial_opening(header.version) if switching is None else switching.opening[epoch]
        elif header.version != (
            parts.handshake.original_version if epoch == EPOCH_ZERO_RTT else parts.handshake.version
        ):
            opening = None
        else:
            opening = parts.keys.opening[epoch]
        if opening is None:
            if self._may_come(epoch):
                self._wait(datagram, position, epoch)
            else:
                self.packets_dropped += 1
            return
        if self._peer_cid_mismatch(header):
            self.packets_dropped += 1
            return
        self._open_long(datagram, position, header, opening, switching)

    def _is_ours(self, cid: bytes) -> bool:
        if cid == self._known_cid and cid:
            return True
        parts = self.parts
        if parts.connection_ids.is_local(cid):
            self._known_cid = cid
            return True
        return not parts.is_client and cid == parts.initial_cid  # until the client knows ours (RFC 9000 §7.2)

    def _peer_cid_mismatch(self, header: LongHeader) -> bool:
        """RFC 9000 §7.2: once the peer's connection ID is known, packets with another one are discarded."""
        return (
            self.parts.handshake.is_source_cid_fixed and header.source_cid != self.parts.handshake.expected_source_cid
        )

    def _open_long(
        self, datagram: bytes, position: int, header: LongHeader, opening: OpeningKey, switching: KeyRing | None
    ) -> None:
        parts = self.parts
        offset = header.packet_number_offset
        sample_start = offset + SAMPLE_OFFSET
        if sample_start + SAMPLE_SIZE > header.end:
            self.packets_dropped += 1
            return
        mask = opening.masks([datagram[sample_start : sample_start + SAMPLE_SIZE]])
        first = header.first_byte ^ (mask[0] & 0x0F)
        length = (first & 0x03) + 1
        truncated = int.from_bytes(datagram[offset : offset + length], "big") ^ int.from_bytes(
            mask[1 : 1 + length], "big"
        )
        space = SPACES[header.packet_type]
        number = decode_packet_number(truncated, 8 * length, parts.acks.trackers[space].largest + 1)
        visible = bytes((first,)) + datagram[position + 1 : offset] + truncated.to_bytes(length, "big")
        payload = opening.open(number, visible, datagram[offset + length : header.end])
        if payload is None:
            self.packets_dropped += 1
            return
        if first & LONG_RESERVED_BITS:
            raise QuicConnectionError(PROTOCOL_VIOLATION, PADDING, "Reserved bits of a long header are not zero")
        if switching is not None:
            self._negotiation.switch(header.version, switching)
        if not parts.handshake.is_source_cid_fixed:
            self._fix_peer_cid(header)
        if header.packet_type == HANDSHAKE_PACKET and not parts.is_client:
            self._path.is_validated = True  # RFC 9000 §8.1
            parts.discard_space(INITIAL)  # RFC 9001 §4.9.1
        if parts.acks.is_duplicate(space, number):
            return
        epoch = EPOCHS[header.packet_type]
        self._deliver(payload, space, epoch, ALLOWED_BITS[header.packet_type], number, header.destination_cid)
        parts.after_crypto(self._now)

    def _fix_peer_cid(self, header: LongHeader) -> None:
        parts = self.parts
        parts.handshake.is_source_cid_fixed = True
        parts.handshake.expected_source_cid = header.source_cid
        parts.connection_ids.set_initial_peer_cid(header.source_cid)
        for path in parts.paths.known:
            path.peer_cid = header.source_cid
            path.peer_cid_sequence = 0

    # --- short headers -----------------------------------------------------------------------------------------------

    def _receive_short(self, datagrams: list[bytes]) -> None:
        parts = self.parts
        opening = parts.keys.opening[EPOCH_ONE_RTT]
        if opening is None:
            for datagram in datagrams:
                if not self._is_reset(datagram):
                    self._wait(datagram, 0, EPOCH_ONE_RTT)
            return
        usable: list[bytes] = []
        for datagram in datagrams:
            if len(datagram) >= self._sample_end:
                usable.append(datagram)
            else:
                self.packets_dropped += 1
                if self._is_reset(datagram):
                    return
        self._open_burst(opening, usable)

    def _open_burst(self, opening: OpeningKey, datagrams: list[bytes]) -> None:
        """Open datagrams that are no shorter than `_sample_end`, nearly all of them 1-RTT packets.

        The fast way: a packet whose header is the one that the last packet leads to expect (`NextHeader`, the next number)
        is opened here. If besides its payload goes on with the stream where the last one ended, it belongs to a *run*:
        its data is appended, and what packets and bytes count for is told once, when the run ends. Every other packet is
        delivered by itself, in its order, and what to expect is looked up again behind it.
        """
        sample_end = self._sample_end
        sample_start = sample_end - SAMPLE_SIZE
        masks = opening.masks([datagram[sample_start:sample_end] for datagram in datagrams])
        keys = self.parts.keys
        tracker = self.parts.acks.trackers[APPLICATION]
        unpack = self._unpack_header
        stream_head, data_start, offset_bits, offset_size, offset, ceiling, pieces = self._begin_run()
        header = self._next_header(opening)
        shape, cid, shift, wrap, number_size, number_end, visible, decrypt, iv = header.values
        first_number = number = tracker.largest + 1
        for datagram, (first_mask, number_mask) in zip(datagrams, MASKS.iter_unpack(masks), strict=True):
            first, destination, number_bits = unpack(datagram)
            first ^= first_mask & PROTECTED_BITS
            number_bits ^= number_mask
            payload = b""
            if first == shape and number_bits >> shift == number & wrap and destination == cid:
                number_bytes = (number & wrap).to_bytes(number_size, "big")
                try:
                    payload = decrypt((iv ^ number).to_bytes(12, "big"), datagram[number_end:], visible + number_bytes)
                except InvalidTag:
                    payload = b""  # `_open_short` tries again, and counts it
                if offset < ceiling and payload.startswith(
                    stream_head + (offset | offset_bits).to_bytes(offset_size, "big")
                ):
                    stop = offset + len(payload) - data_start
                    if offset < stop <= ceiling:
                        pieces.append(payload[data_start:])
                        offset = stop
                        number += 1
                        continue
            if number > first_number:
                self._end_run(first_number, number, offset)
            if payload:
                keys.note_in_order(number, self._now)
                self._deliver(payload, APPLICATION, EPOCH_ONE_RTT, IN_ONE_RTT, number, destination)
            elif first & LONG_HEADER_BIT:  # its mask was made in vain
                self._receive_long(datagram)
            elif not self._open_short(datagram, first, destination, number_bits):
                return
            first_number = number = tracker.largest + 1
            stream_head, data_start, offset_bits, offset_size, offset, ceiling, pieces = self._begin_run()
            following = self._next_header(opening)
            if following is not header:
                header = following
                shape, cid, shift, wrap, number_size, number_end, visible, decrypt, iv = header.values
        if number > first_number:
            self._end_run(first_number, number, offset)
        if not keys.confirmed or self.parts.handshake.new_keys:
            self.parts.after_crypto(self._now)

    def _open_short(self, datagram: bytes, first: int, cid: bytes, number_bits: int) -> bool:
        """Open one 1-RTT packet, of whose header the protection is removed. False: it was a stateless reset.

        `number_bits` are the four bytes behind the connection ID; those that are not of the packet number mean nothing.
        """
        parts = self.parts
        keys = parts.keys
        length = (first & 0x03) + 1
        truncated = number_bits >> 32 - 8 * length
        number = decode_packet_number(truncated, 8 * length, parts.acks.trackers[APPLICATION].largest + 1)
        payload: bytes | None = None
        if cid == self._known_cid or self._is_ours(cid):
            visible = bytes((first,)) + cid + truncated.to_bytes(length, "big")
            ciphertext = datagram[1 + len(cid) + length :]
            payload = keys.open_one_rtt(number, visible, ciphertext, first & KEY_PHASE_BIT, self._now, parts.pto())
        if payload is None:
            self.packets_dropped += 1
            return not self._is_reset(datagram)
        if first & SHORT_RESERVED_BITS or not first & 0x40:
            raise QuicConnectionError(PROTOCOL_VIOLATION, PADDING, "Reserved bits of a short header are not zero")
        if not parts.acks.is_duplicate(APPLICATION, number):
            key = keys.in_order_key()
            if key is not None:
                self._expect(key, first, cid)
            self._deliver(payload, APPLICATION, EPOCH_ONE_RTT, IN_ONE_RTT, number, cid)
        return True

    # --- the fast way ------------------------------------------------------------------------------------------------

    def _expect(self, key: OpeningKey, first: int, cid: bytes) -> None:
        """A packet with this header was opened: the next may look the same, if it was under the current key."""
        header = self._next
        if bool(first & KEY_PHASE_BIT) != (key.phase & 1 == 1):
            return
        if header is None or header.key is not key or header.shape != first or header.cid != cid:
            self._next = NextHeader(key, first, cid)

    def _next_header(self, opening: OpeningKey) -> NextHeader:
        """What to expect now; a header that no packet has while that is not known, or the key is another."""
        header = self._next
        if header is None or header.key is not self.parts.keys.in_order_key():
            return NextHeader(opening, NO_SHAPE, b"")
        return header

    def _begin_run(self) -> RunValues:
        """How the payload begins that a run could go on with; a ceiling of 0 says that there can be none."""
        parts = self.parts
        receiving = parts.streams.receiving
        half = receiving.latest
        if half is not self._run_half or half is None:
            self._run_half = half  # the second packet for a stream begins a run: one alone does not pay
            return NO_RUN
        if parts.lifecycle.state >= CLOSING or parts.observer is not None or self._path is not parts.paths.active:
            return NO_RUN
        offset = half.received
        ceiling = receiving.room_in_order(half)
        head = b"\x0c" + encode_uint_var(half.stream_id)  # STREAM with offset, without length and FIN (RFC 9000 §19.8)
        if offset < FOUR_BYTES_END:
            return head, len(head) + 4, 2 << 30, 4, offset, min(ceiling, FOUR_BYTES_END - 1), half.pieces
        return head, len(head) + 8, 3 << 62, 8, offset, min(ceiling, UINT_VAR_MAX), half.pieces

    def _end_run(self, first_number: int, number: int, offset: int) -> None:
        """Packets from `first_number` up to, not including, `number` brought data up to `offset`."""
        parts = self.parts
        half = self._run_half
        if half is not None:  # never in a run
            parts.streams.receiving.on_run(half, offset)
        parts.keys.note_in_order(number - 1, self._now)
        parts.acks.on_run(APPLICATION, first_number, number, self._ecn, self._now)
        self._any_authentic = True
        self.packets_received += number - first_number

    def _is_reset(self, datagram: bytes) -> bool:
        """Whether this is a stateless reset; if so the connection is over (RFC 9000 §10.3.1)."""
        if len(datagram) < SMALLEST_RESET:
            return False
        tail = datagram[-STATELESS_RESET_TOKEN_SIZE:]
        found = False
        for token in self.parts.connection_ids.reset_tokens():
            if compare_digest(token, tail):
                found = True
        if found:
            reason = CloseReason(NO_ERROR, False, True, "Stateless reset", None)
            self.parts.lifecycle.end_at_once(reason, CAUSE_STATELESS_RESET)
        return found

    # --- opened packets ----------------------------------------------------------------------------------------------

    def _deliver(
        self, payload: bytes, space: int, epoch: int, allowed_bit: int, number: int, destination_cid: bytes
    ) -> None:
        parts = self.parts
        self._any_authentic = True
        self.packets_received += 1
        if self._path is not parts.paths.active:
            parts.paths.admit(self._path)
        if parts.observer is not None:
            parts.observer.on_opened(epoch, number, payload, self._path, self._now)
        dispatcher = self._dispatcher
        dispatcher.space = space
        dispatcher.path = self._path
        dispatcher.destination_cid = destination_cid
        dispatcher.now = self._now
        if parts.lifecycle.state >= CLOSING:
            dispatcher.dispatch_closing(payload, allowed_bit)
            return
        dispatcher.is_early = epoch == EPOCH_ZERO_RTT
        is_newest = number > parts.acks.trackers[space].largest
        dispatcher.dispatch(payload, allowed_bit)
        parts.acks.on_packet(space, number, dispatcher.is_eliciting, self._ecn, self._now)
        if is_newest and not dispatcher.is_probing and self._path is not parts.paths.active:
            parts.paths.on_non_probing(self._path, self._now)
