"""All sending halves of a connection: connection credit, turns, and the frames that a sender writes (RFC 9000 §3.1, §4.1).

Two queues decide what STREAM frame comes next. `new` holds halves with data that was never sent and that their own credit
covers; it is looked at only while the connection has credit left. `again` holds halves that need no credit: lost data, a
FIN without data, an empty frame that announces a stream. The more urgent head wins, and `again` wins a tie: repairs before
new data (RFC 9000 §13.3), and the data that was lost before the data behind it.

A frame that fills the packet to the last byte goes without its Length field (RFC 9000 §19.8); nothing, padding included,
may follow in such a packet, whose `room` is then 0.

DATA_BLOCKED and STREAM_DATA_BLOCKED are asked for once for each limit that was run into, and dropped if the limit has risen
by the time they would be written.

Invariant: `sent` is the sum of `next_offset` over all streams ever, and never exceeds `limit`; a half that can write a
frame is in a queue.
"""

from typing import Final

from quicio.buffer import encode_uint_var
from quicio.quic.component import Component, Token
from quicio.quic.streams.budget import STREAM_RESERVE, MemoryBudget
from quicio.quic.streams.scheduler import SendQueue
from quicio.quic.streams.stream import (
    NEVER_BLOCKED,
    SEND_DATA_RECVD,
    SEND_DATA_SENT,
    SEND_READY,
    SEND_RESET_SENT,
    SEND_SEND,
    SendHalf,
)
from quicio.quic.wire.frames import encode_data_blocked, encode_reset_stream, encode_stream_data_blocked
from quicio.quic.wire.packet_builder import PacketBuilder

# Kinds of tokens, their second item; what follows it is said behind each. The receiver's follow in `receiving.py`.
STREAM_DATA_TOKEN: Final = 0  # half, start, stop, fin
RESET_TOKEN: Final = 1  # half
DATA_BLOCKED_TOKEN: Final = 2  # limit
STREAM_DATA_BLOCKED_TOKEN: Final = 3  # half, credit

MIN_FRAME_ROOM: Final = 32  # bytes of room below which no STREAM frame is begun; its header takes 19 at most
MIN_RUN: Final = 2 * 1200  # bytes waiting on a stream from which on its packets are built by the run
MAX_CONTROL_FRAME: Final = 25  # the largest control frame of this room: RESET_STREAM


class Sending:
    """What `Streams` knows of sending."""

    def __init__(self, budget: MemoryBudget, send_buffer: int) -> None:
        self.budget = budget
        self.send_buffer = send_buffer
        self.buffered: int = 0  # over all streams: given to us and not acknowledged
        self.starved: list[SendHalf] = []  # refused for what others have; they hear when there is room again
        self.limit = 0  # the peer's MAX_DATA
        self.sent: int = 0
        self.new: SendQueue = SendQueue(1)
        self.again: SendQueue = SendQueue(2)
        self.resets: list[SendHalf] = []
        self.blocked: list[SendHalf] = []
        self.blocked_at: int = NEVER_BLOCKED  # limit for which DATA_BLOCKED was asked for
        self.blocked_due = False
        self.min_run: int = MIN_RUN

    # --- memory -----------------------------------------------------------------------------------------------------------

    def room(self, half: SendHalf) -> int:
        """Bytes that the stream takes before back-pressure; when that is 0, its own `room_at` or `free` tells of more."""
        size = half.buffer.size()
        room = self.send_buffer - size
        if room <= 0:
            half.room_at = self.send_buffer - self.send_buffer // 4
            return 0
        shared = max(self.budget.sendable() - self.buffered, STREAM_RESERVE - size)
        if shared > 0:
            return min(room, shared)
        half.room_at = STREAM_RESERVE - STREAM_RESERVE // 4
        if half not in self.starved:
            self.starved.append(half)
        return 0

    def first_room(self) -> int:
        """The same for a stream that has yet to be opened."""
        return min(self.send_buffer, max(self.budget.sendable() - self.buffered, STREAM_RESERVE))

    def hold(self, size: int) -> None:
        """A stream was given so many bytes more."""
        self.buffered += size
        self.budget.add(size)

    def free(self, size: int) -> list[SendHalf] | None:
        """A stream holds so many bytes less; those who waited for that, if there is room enough now."""
        self.buffered -= size
        self.budget.add(-size)
        if self.starved:
            sendable = self.budget.sendable()
            if self.buffered <= sendable - sendable // 4:
                starved = self.starved
                self.starved = []
                return starved
        return None

    # --- who can write ----------------------------------------------------------------------------------------------------

    def schedule(self, half: SendHalf) -> None:
        """Queue `half` for whatever it can write."""
        if half.is_waiting or half.state >= SEND_DATA_RECVD:
            return
        buffer = half.buffer
        next_offset = buffer.next_offset
        if buffer.has_lost() or half.announce_due or (half.fin_due and next_offset == buffer.end):
            self.again.add(half)
        if next_offset < buffer.end:
            if next_offset < half.credit:
                self.new.add(half)
                if self.sent >= self.limit:
                    self._note_blocked()
            elif half.blocked_at != half.credit:
                half.blocked_at = half.credit
                if not half.blocked_due:
                    half.blocked_due = True
                    self.blocked.append(half)

    def schedule_reset(self, half: SendHalf) -> None:
        """RESET_STREAM has to go out, for the first time or again."""
        if half.reliable_size == 0:
            self.new.remove(half)
            self.again.remove(half)
        if not half.reset_due and not half.is_waiting:
            half.reset_due = True
            self.resets.append(half)

    def forget(self, half: SendHalf) -> None:
        """The half has ended."""
        self.new.remove(half)
        self.again.remove(half)

    def set_priority(self, half: SendHalf, urgency: int, incremental: bool) -> None:
        """Move the half to the queues of its new urgency."""
        queued = half.queued
        self.forget(half)
        half.urgency = urgency
        half.incremental = incremental
        if queued & self.new.bit:
            self.new.add(half)
        if queued & self.again.bit:
            self.again.add(half)

    def _note_blocked(self) -> None:
        if self.blocked_at != self.limit:
            self.blocked_at = self.limit
            self.blocked_due = True

    def has_frames(self) -> bool:
        """Is there anything that could be written now?"""
        return (
            self.again.mask != 0
            or (self.new.mask != 0 and self.sent < self.limit)
            or len(self.resets) > 0
            or len(self.blocked) > 0
            or self.blocked_due
        )

    def on_lost(self, token: Token) -> None:
        """Offer a frame again, as far as it still matters."""
        kind: int = token[1]
        if kind == STREAM_DATA_TOKEN:
            half: SendHalf = token[2]
            half.offer_again(token[3], token[4], token[5])
            self.schedule(half)
        elif kind == RESET_TOKEN:
            half = token[2]
            if half.state == SEND_RESET_SENT and not half.reset_acked:
                self.schedule_reset(half)
        elif kind == DATA_BLOCKED_TOKEN:
            if token[2] == self.limit == self.blocked_at:
                self.blocked_due = True
        elif kind == STREAM_DATA_BLOCKED_TOKEN:
            half = token[2]
            if token[3] == half.credit == half.blocked_at:
                half.blocked_at = NEVER_BLOCKED
                self.schedule(half)

    def write_control(self, packet: PacketBuilder, owner: Component) -> None:
        """RESET_STREAM, DATA_BLOCKED, STREAM_DATA_BLOCKED, as far as they fit."""
        while self.resets and packet.room >= MAX_CONTROL_FRAME:
            half = self.resets.pop(0)
            half.reset_due = False
            if half.state == SEND_RESET_SENT:
                frame = encode_reset_stream(half.stream_id, half.reset_code, half.final_size)
                packet.push(frame, (owner, RESET_TOKEN, half))
        if self.blocked_due and packet.room >= MAX_CONTROL_FRAME:
            self.blocked_due = False
            if self.sent >= self.limit == self.blocked_at and self.new.mask:
                packet.push(encode_data_blocked(self.limit), (owner, DATA_BLOCKED_TOKEN, self.limit))
        while self.blocked and packet.room >= MAX_CONTROL_FRAME:
            half = self.blocked.pop(0)
            half.blocked_due = False
            credit = half.credit
            if half.blocked_at == credit <= half.buffer.next_offset < half.buffer.end and half.state < SEND_DATA_SENT:
                if half.state == SEND_READY:
                    half.state = SEND_SEND
                frame = encode_stream_data_blocked(half.stream_id, credit)
                packet.push(frame, (owner, STREAM_DATA_BLOCKED_TOKEN, half, credit))

    def write_data(self, packet: PacketBuilder, owner: Component) -> None:
        """Fill the packet with STREAM frames."""
        new = self.new
        again = self.again
        while packet.room >= MIN_FRAME_ROOM:
            new_mask = new.mask
            if new_mask and self.sent >= self.limit:
                self._note_blocked()
                new_mask = 0
            again_mask = again.mask
            if again_mask and (not new_mask or again_mask & -again_mask <= new_mask & -new_mask):
                self._write_again(packet, owner)
            elif new_mask:
                self._write_new(packet, owner)
            else:
                return

    def _write_new(self, packet: PacketBuilder, owner: Component) -> None:
        """One frame of data that was never sent."""
        half = self.new.head()
        buffer = half.buffer
        start = buffer.next_offset
        end = buffer.end
        credit = half.credit
        size = (end if end < credit else credit) - start
        if size > self.limit - self.sent:
            size = self.limit - self.sent
        room = packet.room
        if start:
            if 0x4000 <= start < 0x40000000:
                header = half.head_offset + (start | 0x80000000).to_bytes(4, "big")
            else:
                header = half.head_offset + encode_uint_var(start)
        else:
            header = half.head_first
        space = room - len(header)
        if size >= space:
            size = space
            if start + size == half.final_size:
                header = bytes((header[0] | 1,)) + header[1:]
        else:
            header, size = with_length(header, size, space, half.final_size - start)
        stop = start + size
        fin = stop == half.final_size and half.state < SEND_RESET_SENT
        packet.push_data(header, buffer.take(size), (owner, STREAM_DATA_TOKEN, half, start, stop, fin))
        self.sent += size
        if fin:
            half.fin_due = False
            half.state = SEND_DATA_SENT
        elif half.state == SEND_READY:
            half.state = SEND_SEND
        if stop < end and stop < credit:
            self.new.next_turn(half, True)
        else:
            self.new.next_turn(half, False)
            if stop < end:
                self.schedule(half)

    def has_bulk(self) -> bool:
        """Whether the next stream in turn has data enough to fill packets of the usual size, ahead of all repairs."""
        if self.again.mask or not self.new.mask:
            return False
        buffer = self.new.head().buffer
        return buffer.end - buffer.next_offset > self.min_run

    def write_run(self, owner: Component, room: int, count: int, frames: list[bytes], tokens: list[Token]) -> None:
        """Append at most `count` STREAM frames of exactly `room` bytes, and their tokens: the payloads of whole packets.

        They are what `write_data` would write into that many packets, as far as that is easily said: new data within all
        credit, behind the stream's first packet, no stream's last. For all else there is `write_data`.
        """
        new = self.new
        if self.again.mask or self.resets or self.blocked or self.blocked_due:
            return
        while count > 0 and new.mask:
            half = new.head()
            buffer = half.buffer
            start = buffer.next_offset
            if start >= 0x40000000:
                prefix, length, above = 0xC000000000000000, 8, 1 << 62
            elif start >= 0x4000:
                prefix, length, above = 0x80000000, 4, 0x40000000
            elif start >= 0x40:
                prefix, length, above = 0x4000, 2, 0x4000
            else:
                return
            header = half.head_offset
            size = room - len(header) - length
            stop = buffer.end if buffer.end < half.credit else half.credit
            if stop > start + self.limit - self.sent:
                stop = start + self.limit - self.sent
            turns = (stop - start - 1) // size  # whole frames that leave something to write
            if turns > count:
                turns = count
            if start + (turns - 1) * size >= above:
                turns = (above - start + size - 1) // size  # those behind take a longer offset
            if turns > 1 and half.incremental and new.has_others(half):
                turns = 1
            if turns <= 0:
                return
            for data in buffer.take_run(size, turns):
                stop = start + size
                frames.append(header + (start | prefix).to_bytes(length, "big") + data)
                tokens.append((owner, STREAM_DATA_TOKEN, half, start, stop, False))
                start = stop
            self.sent += turns * size
            count -= turns
            new.next_turn(half, True)

    def _write_again(self, packet: PacketBuilder, owner: Component) -> None:
        """One frame that needs no credit: lost data, else a FIN or an announcement without data."""
        half = self.again.head()
        buffer = half.buffer
        lost = buffer.lost
        if lost is not None and len(lost) > 0:
            start = lost.starts[0]
            size = lost.stops[0] - start
        elif half.announce_due or (half.fin_due and buffer.next_offset == buffer.end):
            start = buffer.next_offset
            size = 0
        else:
            self.again.next_turn(half, False)
            return
        header = half.head_offset + encode_uint_var(start) if start else half.head_first
        space = packet.room - len(header)
        final_size = half.final_size if half.state < SEND_RESET_SENT else -1
        if size >= space:
            size = space
            if start + size == final_size:
                header = bytes((header[0] | 1,)) + header[1:]
        else:
            header, size = with_length(header, size, space, final_size - start)
        stop = start + size
        fin = stop == final_size
        data = buffer.take_lost(start, size) if size else b""
        packet.push_data(header, data, (owner, STREAM_DATA_TOKEN, half, start, stop, fin))
        half.announce_due = False
        if fin:
            half.fin_due = False
            half.state = SEND_DATA_SENT
        elif half.state == SEND_READY:
            half.state = SEND_SEND
        self.again.next_turn(half, buffer.has_lost() or (half.fin_due and buffer.next_offset == buffer.end))


def join_acked(tokens: list[Token]) -> list[Token]:
    """Tokens that one ACK ends, with those of STREAM frames that continue each other, as bulk data does, joined to one."""
    joined: list[Token] = []
    half: SendHalf | None = None  # whose data, from `start` to `stop`, has been joined so far
    start = stop = 0
    has_fin = False  # from a FIN on, any token may end a stream: each stands alone
    for token in tokens:
        if token[1] == STREAM_DATA_TOKEN:
            owner, _, sender, first, last, fin = token
            has_fin = has_fin or fin or sender.fin_acked
            if sender is half and first == stop and not has_fin:
                stop = last
                continue
        if half is not None:
            joined.append((owner, STREAM_DATA_TOKEN, half, start, stop, False))
            half = None
        if token[1] == STREAM_DATA_TOKEN and not has_fin:
            half, start, stop = sender, first, last
        else:
            joined.append(token)
    if half is not None:
        joined.append((owner, STREAM_DATA_TOKEN, half, start, stop, False))
    return joined


def with_length(header: bytes, size: int, space: int, size_to_end: int) -> tuple[bytes, int]:
    """Complete a STREAM header with its Length field; `size` is cut to what then fits `space`, and returned.

    The FIN bit is set when `size_to_end`, the bytes from here to the final size, is what the frame carries.
    """
    if size < 0x40:
        length_size = 1
    elif size < 0x4000:
        length_size = 2
    else:
        length_size = 4
    if size > space - length_size:
        size = space - length_size
    flags = 3 if size == size_to_end else 2
    if length_size == 1:
        length = bytes((size,))
    elif length_size == 2:
        length = (size | 0x4000).to_bytes(2, "big")
    else:
        length = (size | 0x80000000).to_bytes(4, "big")
    return bytes((header[0] | flags,)) + header[1:] + length, size
