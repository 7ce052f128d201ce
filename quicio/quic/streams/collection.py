"""The streams of one connection: which exist, who may open them, who hears of their frames (RFC 9000 §2-§4).

`Streams` is the component that the rest of the connection sees. It finds or creates the stream that a frame or a command
names and hands the work to `Sending`, `Receiving`, `LocalStreams` or `PeerStreams`; it writes their frames and tells them
the fate of each.

Creation. A peer's stream comes to be with the first frame that names it, within the limit that the peer was told. Ours
come to be by `open()`, or by writing to an ID that `next_id()` told or that could be told later. The second way may go
beyond the peer's limit: such streams wait, at most `MAX_WAITING_STREAMS` of them, and are written when MAX_STREAMS allows.

The end. A stream is discarded when each half that it has is in a terminal state; on native faces a peer's stream must also
have been released by its user, so that a peer that opens and abandons streams cannot have more handlers running than
streams allowed. Frames for a discarded stream are late copies and are ignored; commands on it find nothing left to do,
except `send`, which raises. Only then does the peer get the place of its stream back.

Invariants, checked by `check_invariants()`: limits given never shrink; credit and bytes agree with the sum over streams;
what a peer can make us hold is within its limits.
"""

from collections import deque
from math import inf
from typing import Final

from quicio.quic.component import Component, Token, Wants
from quicio.quic.events import (
    QuicEvent,
    StopSendingReceived,
    StreamDataReceived,
    StreamDelivered,
    StreamsAvailable,
    StreamWritable,
)
from quicio.quic.recovery.rtt import RttEstimator
from quicio.quic.streams.budget import MemoryBudget
from quicio.quic.streams.flow import ReceiveWindow
from quicio.quic.streams.invariants import check_budget, check_buffers, check_credit, check_limits, check_queues
from quicio.quic.streams.limits import MAX_STREAMS_TOKEN, MAX_WAITING_STREAMS, RESET_WAIT, LocalStreams, StreamCounts
from quicio.quic.streams.receiving import STOP_TOKEN, Receiving
from quicio.quic.streams.restart import restart_streams
from quicio.quic.streams.scheduler import URGENCIES
from quicio.quic.streams.sending import RESET_TOKEN, STREAM_DATA_TOKEN, Sending, join_acked
from quicio.quic.streams.stream import (
    NOT_STOPPED,
    RECEIVE_DATA_READ,
    RECEIVE_RESET_READ,
    ROOM_UNWANTED,
    SEND_DATA_RECVD,
    SEND_RESET_SENT,
    ReceiveHalf,
    SendHalf,
    Stream,
    check_error_code,
)
from quicio.quic.wire.constants import (
    APPLICATION,
    APPLICATION_BIT,
    FRAME_ENCODING_ERROR,
    MAX_STREAM_DATA,
    MAX_STREAMS_BIDI,
    MAX_STREAMS_UNI,
    RESET_STREAM,
    STOP_SENDING,
    STREAM,
    STREAM_COUNT_MAX,
    STREAM_DATA_BLOCKED,
    STREAM_LIMIT_ERROR,
    STREAM_STATE_ERROR,
    STREAMS_BLOCKED_BIDI,
    STREAMS_BLOCKED_UNI,
    QuicConnectionError,
)
from quicio.quic.wire.packet_builder import PacketBuilder
from quicio.quic.wire.transport_parameters import TransportParameters

DEFAULT_SEND_BUFFER: Final = 512 * 1024  # bytes a stream accepts before send_room() is 0


class Streams(Component):
    """All streams of a connection. Sizes in bytes, times in seconds.

    `native` turns on the native events and makes the credit for a peer's stream wait for `release()`; `wakes` turns on those
    events alone that somebody who writes may wait for. `hold_all` puts every stream made from now on in held-credit mode.
    `rtt` is the estimator of the path in use.
    """

    def __init__(
        self,
        wants: Wants,
        events: deque[QuicEvent],
        *,
        is_client: bool,
        max_data: int,
        max_stream_data: int,
        max_streams_bidi: int,
        max_streams_uni: int,
        window_limit: int,
        rtt: RttEstimator,
        send_buffer: int = DEFAULT_SEND_BUFFER,
        budget: MemoryBudget | None = None,
    ) -> None:
        super().__init__(wants)
        self.rtt = rtt
        self.native = False
        self.wakes = False
        self.hold_all = False
        budget = budget or MemoryBudget(None, window_limit)
        self.sending: Sending = Sending(budget, send_buffer)
        self.receiving: Receiving = Receiving(events, max_data, window_limit, budget)
        self.streams: dict[int, Stream] = {}
        self.local_bit = 0 if is_client else 1  # lowest bit of the IDs of our streams (RFC 9000 §2.1)
        self.counts: StreamCounts = StreamCounts(self.local_bit, max_streams_bidi, max_streams_uni)
        self.finished_received: int = 0  # sum of `highest` over discarded streams
        self.finished_sent: int = 0  # sum of `next_offset` over discarded streams
        self._events = events
        self._max_stream_data = max_stream_data
        self._window_limit = window_limit
        self._credit_bidi_local = 0  # what the peer grants at first: on streams that we open,
        self._credit_bidi_remote = 0  # on bidirectional streams that it opens,
        self._credit_uni = 0  # and on unidirectional streams
        self._now = 0.0  # of the last burst or timer
        self._checked: dict[str | int, int] = {}  # limits as `check_invariants` last saw them

    # --- the peer's limits ------------------------------------------------------------------------------------------------

    def on_parameters(self, parameters: TransportParameters) -> None:
        """Take the peer's initial limits: those remembered for 0-RTT first, then those of the handshake (RFC 9000 §7.4.1)."""
        # What the peer calls remote was opened by us.
        self._credit_bidi_local = max(self._credit_bidi_local, parameters.initial_max_stream_data_bidi_remote)
        self._credit_bidi_remote = max(self._credit_bidi_remote, parameters.initial_max_stream_data_bidi_local)
        self._credit_uni = max(self._credit_uni, parameters.initial_max_stream_data_uni)
        self._raise_send_limit(parameters.initial_max_data)
        for stream in self.streams.values():
            if stream.send is not None:
                self._raise_credit(stream.send, self._first_credit(stream.stream_id))
        self._raise_stream_limit(self.counts.local[0], parameters.initial_max_streams_bidi)
        self._raise_stream_limit(self.counts.local[1], parameters.initial_max_streams_uni)

    def on_early_data_rejected(self) -> None:
        """Client: nothing that was sent has arrived, and no limit holds until `on_parameters` (RFC 9001 §4.6.2)."""
        self._credit_bidi_local = self._credit_bidi_remote = self._credit_uni = 0
        restart_streams(self.streams, self.counts, self.sending, self.receiving)
        self._checked.clear()

    def _first_credit(self, stream_id: int) -> int:
        if stream_id & 2:
            return self._credit_uni
        return self._credit_bidi_local if stream_id & 1 == self.local_bit else self._credit_bidi_remote

    def _raise_send_limit(self, limit: int) -> None:
        if limit > self.sending.limit:
            self.sending.limit = limit
            self._wake()

    def _raise_credit(self, half: SendHalf, credit: int) -> None:
        if credit > half.credit:
            half.credit = credit
            self.sending.schedule(half)
            self._wake()

    def _raise_stream_limit(self, local: LocalStreams, limit: int) -> None:
        if limit <= local.maximum:
            return
        local.maximum = limit
        index = local.next_waiting()
        while index >= 0:
            stream = self.streams.get(index << 2 | local.type_bits)
            if stream is not None and stream.send is not None:
                self._activate(stream, stream.send)
            index = local.next_waiting()
        if local.is_wanted and local.next_index < limit:
            local.is_wanted = False
            if self.native:
                self._events.append(StreamsAvailable(local.is_unidirectional))
        if local.is_blocked():
            self.counts.note_blocked(local)
        self._wake()

    def _activate(self, stream: Stream, send: SendHalf) -> None:
        """The limit allows a stream that waited: write what has gathered."""
        send.is_waiting = False
        if send.state == SEND_RESET_SENT:
            self.sending.schedule_reset(send)
        else:
            self.sending.schedule(send)
        if stream.receive is not None and stream.receive.stop_code != NOT_STOPPED:
            self.receiving.ask_stop(stream.receive)

    def _wake(self) -> None:
        """Ask for `write()` if there is anything to write."""
        if self.counts.due or self.sending.has_frames() or self.receiving.has_frames():
            self.want(APPLICATION_BIT)

    # --- frames -----------------------------------------------------------------------------------------------------------

    def on_stream_frame(self, stream_id: int, offset: int, data: bytes, fin: bool) -> None:
        """STREAM (RFC 9000 §19.8)."""
        stream = self.streams.get(stream_id)
        half = stream.receive if stream is not None else None
        if half is None:
            half = self._receiver(stream_id, STREAM)
            if half is None:
                return
            self.receiving.on_data(half, offset, data, fin)
            if self.native and not half.is_listed:
                self.receiving.show(half)
        else:
            self.receiving.on_data(half, offset, data, fin)
        if half.is_discarding:
            self._after_receiving(stream_id, half)

    def on_reset_stream(self, stream_id: int, error_code: int, final_size: int) -> None:
        """RESET_STREAM (RFC 9000 §19.4)."""
        half = self._receiver(stream_id, RESET_STREAM)
        if half is not None:
            self.receiving.on_reset(half, error_code, final_size)
            self._after_receiving(stream_id, half)

    def on_stop_sending(self, stream_id: int, error_code: int) -> None:
        """STOP_SENDING (RFC 9000 §19.5): answered with RESET_STREAM and the same code (§3.5)."""
        half = self._sender(stream_id, STOP_SENDING)
        if half is not None and self._abandon(half, error_code):
            self._events.append(StopSendingReceived(error_code=error_code, stream_id=stream_id))
            self._write_reset(half)

    def on_max_data(self, limit: int) -> None:
        """MAX_DATA (RFC 9000 §19.9)."""
        self._raise_send_limit(limit)

    def on_max_stream_data(self, stream_id: int, limit: int) -> None:
        """MAX_STREAM_DATA (RFC 9000 §19.10)."""
        half = self._sender(stream_id, MAX_STREAM_DATA)
        if half is not None:
            self._raise_credit(half, limit)

    def on_max_streams(self, limit: int, is_unidirectional: bool) -> None:
        """MAX_STREAMS (RFC 9000 §19.11)."""
        if limit > STREAM_COUNT_MAX:
            frame_type = MAX_STREAMS_UNI if is_unidirectional else MAX_STREAMS_BIDI
            raise QuicConnectionError(FRAME_ENCODING_ERROR, frame_type, "The stream limit exceeds 2^60")
        self._raise_stream_limit(self.counts.local[is_unidirectional], limit)

    def on_data_blocked(self, limit: int) -> None:
        """DATA_BLOCKED (RFC 9000 §19.12): credit never waits for it, so there is nothing to do."""

    def on_stream_data_blocked(self, stream_id: int, limit: int) -> None:
        """STREAM_DATA_BLOCKED (RFC 9000 §19.13): creates the stream, and credit never waits for it."""
        self._receiver(stream_id, STREAM_DATA_BLOCKED)

    def on_streams_blocked(self, limit: int, is_unidirectional: bool) -> None:
        """STREAMS_BLOCKED (RFC 9000 §19.14): places are given back as streams close, asked or not."""
        if limit > STREAM_COUNT_MAX:
            frame_type = STREAMS_BLOCKED_UNI if is_unidirectional else STREAMS_BLOCKED_BIDI
            raise QuicConnectionError(FRAME_ENCODING_ERROR, frame_type, "The stream limit exceeds 2^60")

    def _receiver(self, stream_id: int, frame_type: int) -> ReceiveHalf | None:
        """The half that a sender's frame is for; None when the stream is finished."""
        if stream_id & 3 == self.local_bit | 2:
            raise QuicConnectionError(STREAM_STATE_ERROR, frame_type, "The stream is send-only")
        stream = self.streams.get(stream_id)
        if stream is None:
            stream = self._admit(stream_id, frame_type)
        return stream.receive if stream is not None else None

    def _sender(self, stream_id: int, frame_type: int) -> SendHalf | None:
        """The half that a receiver's frame is for; None when the stream is finished."""
        if stream_id & 3 == 3 - self.local_bit:
            raise QuicConnectionError(STREAM_STATE_ERROR, frame_type, "The stream is receive-only")
        stream = self.streams.get(stream_id)
        if stream is None:
            stream = self._admit(stream_id, frame_type)
        return stream.send if stream is not None else None

    def _admit(self, stream_id: int, frame_type: int) -> Stream | None:
        """A frame names a stream that we do not hold: create it, or None if it is finished."""
        index = stream_id >> 2
        kind = stream_id >> 1 & 1
        if stream_id & 1 == self.local_bit:
            if index in self.counts.local[kind].finished:
                return None
            raise QuicConnectionError(STREAM_STATE_ERROR, frame_type, "The stream has not been created")
        peer = self.counts.peer[kind]
        if index >= peer.limit:
            raise QuicConnectionError(STREAM_LIMIT_ERROR, frame_type, "The limit of streams is exceeded")
        if index < peer.opened:
            if index in peer.finished:
                return None
        else:
            peer.opened = index + 1
        return self._create(stream_id, False)

    def _create(self, stream_id: int, is_local: bool) -> Stream:
        is_unidirectional = stream_id & 2
        send = None
        receive = None
        if is_local or not is_unidirectional:
            send = SendHalf(stream_id, self._first_credit(stream_id))
        if not is_local or not is_unidirectional:
            window = ReceiveWindow(self._max_stream_data, self._window_limit)
            receive = ReceiveHalf(stream_id, window, self.hold_all)
        stream = Stream(stream_id, is_local, send, receive)
        self.streams[stream_id] = stream
        return stream

    # --- the end of a burst -------------------------------------------------------------------------------------------------

    def collect_events(self, now: float) -> None:
        """Once a burst: an event for each stream that has new data in order, or came to its end."""
        self._now = now
        self.counts.refill(now)
        self.receiving.collect()
        self.receiving.account()

    def on_timer(self, now: float) -> None:
        """Look again at the places of reset streams that were withheld."""
        self._now = now
        self.counts.refill(now)
        self.deadline = now + RESET_WAIT if self.counts.withheld else inf
        self._wake()

    def on_handed_out(self, event: StreamDataReceived) -> None:
        """`next_event()` gave `event` to the application, which grants its credit unless the stream is held."""
        stream = self.streams.get(event.stream_id)
        if stream is not None and stream.receive is not None:
            half = stream.receive
            self.receiving.on_handed_out(half, len(event.data))
            self._after_receiving(event.stream_id, half)

    def _after_receiving(self, stream_id: int, half: ReceiveHalf) -> None:
        """Credit may have become due, and the half may have ended."""
        receiving = self.receiving
        receiving.account()
        if receiving.max_data_due or receiving.credits or receiving.stops:
            self.want(APPLICATION_BIT)
        if half.final_size >= 0 and half.state < RECEIVE_DATA_READ and half.is_read():
            self.receiving.finish(half)
            self._discard_if_closed(stream_id)

    def _after_sending(self, half: SendHalf) -> None:
        """The half has ended."""
        self.sending.forget(half)
        if self.wakes or self.native:
            self._events.append(StreamDelivered(half.stream_id))
        self._discard_if_closed(half.stream_id)

    def _discard_if_closed(self, stream_id: int) -> None:
        stream = self.streams.get(stream_id)
        if stream is None:
            return
        send = stream.send
        receive = stream.receive
        if send is not None and send.state < SEND_DATA_RECVD:
            return
        if receive is not None and receive.state < RECEIVE_DATA_READ:
            return
        if self.native and not stream.is_local and not stream.is_released:
            return
        del self.streams[stream_id]
        if send is not None:
            self.finished_sent += send.buffer.next_offset
        if receive is not None:
            self.finished_received += receive.highest
        index = stream_id >> 2
        kind = stream_id >> 1 & 1
        if stream.is_local:
            self.counts.local[kind].finished.add(index, index + 1)
        else:
            was_reset = receive is not None and receive.state == RECEIVE_RESET_READ
            self.counts.note_closed(self.counts.peer[kind], index, was_reset)
            if self.counts.withheld and self.deadline == inf:
                self.deadline = self._now + RESET_WAIT
            if self.counts.due:
                self.want(APPLICATION_BIT)

    # --- the application --------------------------------------------------------------------------------------------------

    def open(self, is_unidirectional: bool) -> int | None:
        """Open a stream and return its ID, or None when the peer's limit is reached; `StreamsAvailable` tells when to retry."""
        streams = self.counts.local[is_unidirectional]
        index = streams.next_index
        if index >= streams.maximum:
            streams.is_wanted = True
            self.counts.note_blocked(streams)
            self._wake()
            return None
        streams.note_opened(index)
        stream_id = index << 2 | streams.type_bits
        self._create(stream_id, True)
        return stream_id

    def next_id(self, is_unidirectional: bool) -> int:
        """The ID that the next stream would have; reserves nothing, and heeds no limit."""
        streams = self.counts.local[is_unidirectional]
        return streams.next_index << 2 | streams.type_bits

    def send(self, stream_id: int, data: bytes | bytearray | memoryview, fin: bool) -> None:
        """Queue data, and with `fin` the end of the stream. `bytes` are kept by reference, other buffers are copied.

        ValueError for a stream that cannot be sent on: unknown, the peer's unidirectional, or finished. RuntimeError after
        a reset, or for data after the end.
        """
        half = self._sending_half(stream_id)
        if type(data) is not bytes:
            if not isinstance(data, (bytes, bytearray, memoryview)):
                raise TypeError(f"Stream data must be bytes, bytearray or memoryview, not {type(data).__name__}")
            data = bytes(data)
        half.write(data, fin)
        if data:
            self.sending.hold(len(data))
        self.sending.schedule(half)
        self._wake()

    def announce(self, stream_id: int) -> None:
        """Make a stream that nothing was sent on known to the peer, by an empty STREAM frame. Raises as `send` does."""
        half = self._sending_half(stream_id)
        if half.buffer.end == 0 and half.final_size < 0:
            half.announce_due = True
            self.sending.schedule(half)
            self._wake()

    def send_room(self, stream_id: int) -> int:
        """Bytes that the stream takes before back-pressure; when that is 0, `StreamWritable` follows. Raises as `send` does."""
        if stream_id not in self.streams and stream_id & 1 == self.local_bit and not self.counts.is_finished(stream_id):
            return self.sending.first_room()
        return self.sending.room(self._sending_half(stream_id))

    def want_room(self, stream_id: int, size: int) -> None:
        """Have `StreamWritable` follow when no more than `size` bytes wait. Raises as `send` does."""
        self._sending_half(stream_id).room_at = size

    def buffered(self, stream_id: int) -> int:
        """Bytes that were given to `send` and are not acknowledged; 0 for a stream that is finished or unknown."""
        stream = self.streams.get(stream_id)
        return stream.send.buffer.size() if stream is not None and stream.send is not None else 0

    def reset(self, stream_id: int, error_code: int) -> None:
        """Abandon sending (RFC 9000 §3.1); does nothing when all is acknowledged or a reset was sent.

        ValueError for a stream that is unknown or the peer's unidirectional.
        """
        check_error_code(error_code)
        stream = self._known(stream_id, True)
        if stream is None:
            return
        half = stream.send
        if half is None:
            raise ValueError(f"Cannot reset stream {stream_id}: it is the peer's unidirectional stream; use stop()")
        if self._abandon(half, error_code):
            self._write_reset(half)

    def _abandon(self, half: SendHalf, error_code: int) -> bool:
        size = half.buffer.size()
        is_reset = half.reset(error_code)
        self._free(size - half.buffer.size())
        return is_reset

    def _free(self, size: int) -> None:
        """So much less is held for sending: wake whom that gives room."""
        for half in self.sending.free(size) or ():
            if self.wakes or self.native:
                self._events.append(StreamWritable(half.stream_id))

    def _write_reset(self, half: SendHalf) -> None:
        self.sending.schedule_reset(half)
        self.want(APPLICATION_BIT)

    def stop(self, stream_id: int, error_code: int) -> None:
        """Read no more and ask the peer to stop sending (RFC 9000 §3.5). What was not handed out is dropped.

        ValueError for a stream that is unknown or our unidirectional.
        """
        check_error_code(error_code)
        stream = self._known(stream_id, False)
        if stream is None:
            return
        half = stream.receive
        if half is None:
            raise ValueError(f"Cannot stop stream {stream_id}: it is a local unidirectional stream; use reset()")
        if self.receiving.stop(half, error_code) and (stream.send is None or not stream.send.is_waiting):
            self.receiving.ask_stop(half)
        self._after_receiving(stream_id, half)

    def hold_credit(self, stream_id: int) -> None:
        """From now on the stream's credit comes from `consume()`. ValueError for an unknown stream."""
        stream = self._known(stream_id, True)
        if stream is not None and stream.receive is not None:
            stream.receive.is_held = True

    def consume(self, stream_id: int, size: int) -> None:
        """Grant credit for `size` bytes of a held stream that the application has taken.

        Does nothing on a finished or abandoned stream. ValueError for an unknown stream, for one that is not held, and for
        more than was handed out.
        """
        stream = self._known(stream_id, False)
        if stream is not None and stream.receive is not None:
            half = stream.receive
            if not half.is_held:
                raise ValueError(f"Stream {stream_id} grants credit by itself: call hold_credit() first")
            self.receiving.consume(half, size)
            self._after_receiving(stream_id, half)

    def release(self, stream_id: int) -> None:
        """The stream's user is done with it: what was not consumed is dropped and credited, and the peer may have its place.

        Neither half is closed by this: reset or end the one, stop the other. ValueError for an unknown stream.
        """
        stream = self._known(stream_id, False)
        if stream is None:
            return
        stream.is_released = True
        if stream.receive is not None:
            self.receiving.discard(stream.receive)
            self._after_receiving(stream_id, stream.receive)
        self._discard_if_closed(stream_id)

    def has_unacknowledged_data(self) -> bool:
        """Does data, an end or a reset of any stream still wait for the peer's acknowledgement? Visits every stream."""
        for stream in self.streams.values():
            half = stream.send
            if half is not None and half.state < SEND_DATA_RECVD and (half.final_size >= 0 or half.buffer.size()):
                return True
        return False

    def set_priority(self, stream_id: int, urgency: int, incremental: bool) -> None:
        """Set when the stream's turn comes (RFC 9218 §4): urgency 0 (first) to 7; incremental streams take turns."""
        if not 0 <= urgency < URGENCIES:
            raise ValueError(f"The urgency must be between 0 and {URGENCIES - 1}, not {urgency} (RFC 9218 §4.1)")
        stream = self._known(stream_id, True)
        if stream is not None and stream.send is not None:
            self.sending.set_priority(stream.send, urgency, incremental)

    def _known(self, stream_id: int, may_create: bool) -> Stream | None:
        """The stream of a command; None when it is finished; ValueError when there is none and none may be created."""
        stream = self.streams.get(stream_id)
        if stream is not None:
            return stream
        if self.counts.is_finished(stream_id):
            return None
        if stream_id & 1 != self.local_bit:
            raise ValueError(f"Stream {stream_id} is unknown: the peer has not opened it")
        if stream_id < 0 or not may_create:
            raise ValueError(f"Stream {stream_id} is unknown: it was not opened")
        index = stream_id >> 2
        local = self.counts.local[stream_id >> 1 & 1]
        if index >= local.maximum + MAX_WAITING_STREAMS:
            raise ValueError(f"Stream {stream_id} is too far beyond the peer's stream limit: wait until it is raised")
        stream = self._create(stream_id, True)
        local.note_opened(index)
        if index >= local.maximum:
            if stream.send is not None:
                stream.send.is_waiting = True
            self.counts.note_blocked(local)
            self._wake()
        return stream

    def _sending_half(self, stream_id: int) -> SendHalf:
        stream = self.streams.get(stream_id)
        if stream is None:
            if stream_id & 3 == 3 - self.local_bit:
                raise ValueError(f"Cannot send on stream {stream_id}: it is the peer's unidirectional stream")
            stream = self._known(stream_id, True)
            if stream is None:
                raise ValueError(f"Cannot send on stream {stream_id}: it is finished")
        half = stream.send
        if half is None:
            raise ValueError(f"Cannot send on stream {stream_id}: it is the peer's unidirectional stream")
        if half.state == SEND_DATA_RECVD:
            raise ValueError(f"Cannot send on stream {stream_id}: it is finished")
        if half.state >= SEND_RESET_SENT:
            raise RuntimeError(f"Cannot send on stream {stream_id}: it was reset")
        return half

    # --- writing ----------------------------------------------------------------------------------------------------------

    def write(self, packet: PacketBuilder, now: float) -> None:
        """Control frames first, then STREAM frames as far as they fit."""
        if packet.space != APPLICATION:
            self.pending &= ~(1 << packet.space)
            return
        sending = self.sending
        receiving = self.receiving
        if sending.resets or sending.blocked or sending.blocked_due:
            sending.write_control(packet, self)
        if receiving.max_data_due or receiving.credits or receiving.stops:
            round_trip = self.rtt.smoothed if self.rtt.has_sample else 0.0
            receiving.write_control(packet, now, round_trip, self)
        if self.counts.due:
            self.counts.write(packet, self)
        sending.write_data(packet, self)
        if not self.counts.due and not sending.has_frames() and not receiving.has_frames():
            self.pending = 0

    def write_run(self, room: int, count: int, frames: list[bytes], tokens: list[Token]) -> None:
        """Append at most `count` STREAM frames that fill packets of `room` bytes, and their tokens (`Sending.write_run`)."""
        if not self.counts.due and not self.receiving.has_frames():
            self.sending.write_run(self, room, count, frames, tokens)

    # --- the fate of frames -------------------------------------------------------------------------------------------------

    def on_acked(self, token: Token, now: float) -> None:
        """The peer has the frame."""
        kind: int = token[1]
        if kind == STREAM_DATA_TOKEN:
            half: SendHalf = token[2]
            size = half.buffer.size()
            is_over = half.on_acked(token[3], token[4], token[5])
            self._free(size - half.buffer.size())
            if is_over:
                self._after_sending(half)
            elif half.room_at >= 0 and half.buffer.size() <= half.room_at:
                half.room_at = ROOM_UNWANTED
                if self.wakes or self.native:
                    self._events.append(StreamWritable(half.stream_id))
        elif kind == RESET_TOKEN:
            half = token[2]
            if half.on_reset_acked():
                self._after_sending(half)

    def on_acked_run(self, tokens: list[Token], now: float) -> None:
        """The peer has all these frames."""
        for token in join_acked(tokens):
            self.on_acked(token, now)

    def on_lost(self, token: Token, now: float) -> None:
        """Offer the frame again, as far as it still matters."""
        kind: int = token[1]
        if kind < STOP_TOKEN:
            self.sending.on_lost(token)
        elif kind < MAX_STREAMS_TOKEN:
            self.receiving.on_lost(token)
        else:
            self.counts.on_lost(token)
        self._wake()

    def on_probe(self, token: Token, now: float) -> None:
        """Offer the frame again while the old copy is in flight."""
        self.on_lost(token, now)

    def on_forgotten(self, token: Token) -> None:
        """Nothing is to be sent again: what was offered when the packet was lost has tokens of its own."""

    # --- for tests --------------------------------------------------------------------------------------------------------

    def check_invariants(self) -> None:
        """Assert what the essays of this room promise. Visits every stream: for tests."""
        check_credit(self.streams.values(), self.sending, self.receiving, self.finished_sent, self.finished_received)
        check_buffers(self.streams.values(), self.receiving)
        check_budget(self.streams.values(), self.sending, self.receiving)
        check_queues(self.streams.values(), self.sending)
        self._checked = check_limits(self.streams.values(), self.sending, self.receiving, self.counts, self._checked)
