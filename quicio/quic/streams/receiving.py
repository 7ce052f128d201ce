"""All receiving halves of a connection: what arrives, what the application gets, what credit goes back (RFC 9000 §3.2, §4).

Data in order is appended to a list and nothing else happens until the burst is over; then `collect` makes one
`StreamDataReceived` for each stream that has something new. Everything else takes the slow way: final sizes, gaps,
streams whose reader has gone.

Credit, connection-wide and a stream's own, is granted in one of two modes. By default handing an event out grants what is
in it. A *held* stream is granted what `consume()` says. In both, what nobody will read any more (after a reset, a stop or
a release) is granted at once for the connection, and nothing more for the stream. The exception is data that lies in the
event queue: its credit waits until it is handed out, so that a peer cannot fill that queue by resetting streams.

Invariants: `received` is the sum of `highest` over all streams ever, and never exceeds `window.limit`; `window.consumed` is
the sum of `returned`; `fragment_count` is the number of runs in all reassemblies.
"""

from collections import deque
from typing import Final

from quicio.quic.component import Component, Token
from quicio.quic.events import QuicEvent, StreamDataReceived, StreamReset
from quicio.quic.streams.budget import MemoryBudget
from quicio.quic.streams.flow import ReceiveWindow
from quicio.quic.streams.reassembly import MAX_CONNECTION_FRAGMENTS, MAX_FRAGMENTS
from quicio.quic.streams.sending import MAX_CONTROL_FRAME
from quicio.quic.streams.stream import (
    NOT_STOPPED,
    RECEIVE_DATA_READ,
    RECEIVE_DATA_RECVD,
    RECEIVE_RECV,
    RECEIVE_RESET_READ,
    RECEIVE_RESET_RECVD,
    RECEIVE_SIZE_KNOWN,
    ReceiveHalf,
)
from quicio.quic.wire.constants import (
    FINAL_SIZE_ERROR,
    FLOW_CONTROL_ERROR,
    INTERNAL_ERROR,
    RESET_STREAM,
    STREAM,
    QuicConnectionError,
)
from quicio.quic.wire.frames import encode_max_data, encode_max_stream_data, encode_stop_sending
from quicio.quic.wire.packet_builder import PacketBuilder

# Kinds of tokens, their second item.
STOP_TOKEN: Final = 4  # half
MAX_DATA_TOKEN: Final = 5  # limit
MAX_STREAM_DATA_TOKEN: Final = 6  # half, limit

MAX_PIECES: Final = 1024  # pieces of one stream in one burst before they are joined


class Receiving:
    """What `Streams` knows of receiving."""

    def __init__(self, events: deque[QuicEvent], max_data: int, window_limit: int, budget: MemoryBudget) -> None:
        self.events = events
        self.budget = budget
        self._accounted = 0
        self.window: ReceiveWindow = ReceiveWindow(max_data, window_limit)
        self.received = 0
        self.fragment_count: int = 0
        self.readable: list[ReceiveHalf] = []
        self.latest: ReceiveHalf | None = None  # whose data in order came last: the next packet may go on with it
        self.max_data_due = False
        self.credits: list[ReceiveHalf] = []
        self.stops: list[ReceiveHalf] = []

    def account(self) -> None:
        """Tell the budget what is held: received, and neither taken nor dropped."""
        held = self.received - self.window.consumed
        if held != self._accounted:
            self.budget.add(held - self._accounted)
            self._accounted = held

    # --- what arrives ---------------------------------------------------------------------------------------------------

    def on_data(self, half: ReceiveHalf, offset: int, data: bytes, fin: bool) -> None:
        """A STREAM frame (RFC 9000 §19.8)."""
        stop = offset + len(data)
        if fin or half.final_size >= 0:
            half.check_size(stop, fin, STREAM)
        if stop > half.highest:
            received = self.received + stop - half.highest
            if stop > half.window.limit:
                raise QuicConnectionError(FLOW_CONTROL_ERROR, STREAM, "The limit of data on a stream is exceeded")
            if received > self.window.limit:
                raise QuicConnectionError(FLOW_CONTROL_ERROR, STREAM, "The limit of data on the connection is exceeded")
            self.received = received
            half.highest = stop
        if data and offset == half.received and half.fragments is None and not half.is_discarding:
            pieces = half.pieces
            pieces.append(data)
            half.received = stop
            if not half.is_listed:
                half.is_listed = True
                self.readable.append(half)
            if fin:  # with all data here
                half.final_size = stop
                half.state = RECEIVE_DATA_RECVD
                return
            self.latest = half
            if half.final_size >= 0:
                self._note_size_known(half)
            elif len(pieces) > MAX_PIECES:
                half.pieces = [b"".join(pieces)]
            return
        self._on_other_data(half, offset, data, fin)

    def room_in_order(self, half: ReceiveHalf) -> int:
        """Up to which offset data without a gap may be appended to `half.pieces` with nothing to decide; 0 if none.

        Who does so tells `on_run` before anything else happens to the stream or to the connection's credit.
        """
        if half.final_size >= 0 or half.is_discarding or half.fragments is not None or half.received != half.highest:
            return 0
        connection = half.highest + self.window.limit - self.received
        limit = half.window.limit
        return limit if limit < connection else connection

    def on_run(self, half: ReceiveHalf, stop: int) -> None:
        """Pieces up to offset `stop` were appended to `half.pieces`, within `room_in_order`."""
        self.received += stop - half.highest
        half.highest = half.received = stop
        if not half.is_listed:
            half.is_listed = True
            self.readable.append(half)
        if len(half.pieces) > MAX_PIECES:
            half.pieces = [b"".join(half.pieces)]

    def _on_other_data(self, half: ReceiveHalf, offset: int, data: bytes, fin: bool) -> None:
        """Data that ends a stream, fills or leaves a gap, comes twice, or comes to nobody."""
        if fin and half.final_size < 0:
            half.final_size = offset + len(data)
            half.state = RECEIVE_SIZE_KNOWN
        if half.is_discarding:
            self._settle(half)
            return
        received = half.received
        before = len(half.fragments) if half.fragments is not None else 0
        half.store(offset, data)
        after = len(half.fragments) if half.fragments is not None else 0
        if before != after:
            self.fragment_count += after - before
            if after > MAX_FRAGMENTS or self.fragment_count > MAX_CONNECTION_FRAGMENTS:
                raise QuicConnectionError(INTERNAL_ERROR, STREAM, "Too many gaps in stream data")
        if half.final_size >= 0:
            self._note_size_known(half)
        if (half.received > received or half.received == half.final_size) and not half.is_listed:
            half.is_listed = True
            self.readable.append(half)

    def _note_size_known(self, half: ReceiveHalf) -> None:
        if half.state <= RECEIVE_SIZE_KNOWN and half.received == half.final_size:
            half.state = RECEIVE_DATA_RECVD

    def on_reset(self, half: ReceiveHalf, error_code: int, final_size: int) -> None:
        """RESET_STREAM (RFC 9000 §19.4): what the application does not have yet is dropped."""
        if half.final_size >= 0 and final_size != half.final_size:
            raise QuicConnectionError(FINAL_SIZE_ERROR, RESET_STREAM, "The final size has changed")
        if final_size < half.highest:
            raise QuicConnectionError(FINAL_SIZE_ERROR, RESET_STREAM, "The final size is below what was received")
        received = self.received + final_size - half.highest
        if final_size > half.window.limit or received > self.window.limit:
            raise QuicConnectionError(FLOW_CONTROL_ERROR, RESET_STREAM, "The final size exceeds the limit of data")
        self.received = received
        half.highest = final_size
        half.final_size = final_size
        if half.state >= RECEIVE_DATA_RECVD:
            return
        half.state = RECEIVE_RESET_RECVD
        self.discard(half)
        self.events.append(StreamReset(error_code=error_code, stream_id=half.stream_id))

    # --- what the application gets ---------------------------------------------------------------------------------------

    def show(self, half: ReceiveHalf) -> None:
        """Native faces learn of a stream that the peer opened without data in order: by an event without data."""
        half.events_out += 1
        self.events.append(StreamDataReceived(b"", False, half.stream_id))

    def collect(self) -> list[ReceiveHalf] | None:
        """Append one event for each stream with something new; the halves that were listed, or None."""
        readable = self.readable
        if not readable:
            return None
        events = self.events
        for half in readable:
            half.is_listed = False
            if half.is_discarding:
                continue
            pieces = half.pieces
            count = len(pieces)
            is_end = half.received == half.final_size
            if count == 1:
                data = pieces[0]
                half.pieces = []
            elif count:
                data = b"".join(pieces)
                half.pieces = []
            elif is_end and not half.end_emitted:
                data = b""
            else:
                continue
            half.emitted = half.received
            half.events_out += 1
            half.end_emitted = is_end
            events.append(StreamDataReceived(data, is_end, half.stream_id))
        self.readable = []
        return readable

    def on_handed_out(self, half: ReceiveHalf, size: int) -> None:
        """The application was given an event with `size` bytes."""
        half.events_out -= 1
        half.handed += size
        if half.is_discarding:
            self._settle(half)
        elif not half.is_held:
            self._grant(half, size)

    def consume(self, half: ReceiveHalf, size: int) -> None:
        """The application of a held stream has taken `size` bytes. ValueError for more than it was given."""
        if half.is_discarding:
            return
        if size < 0 or half.returned + size > half.handed:
            raise ValueError(f"Stream {half.stream_id}: {size} bytes are more than was handed out and not yet consumed")
        self._grant(half, size)

    def stop(self, half: ReceiveHalf, error_code: int) -> bool:
        """Read no more; True when the peer should be asked to stop (RFC 9000 §3.5): not all is here, nor a reset."""
        self.discard(half)
        if half.state >= RECEIVE_DATA_RECVD or half.stop_code != NOT_STOPPED:
            return False
        half.stop_code = error_code
        return True

    def ask_stop(self, half: ReceiveHalf) -> None:
        """STOP_SENDING has to go out, for the first time or again."""
        if not half.stop_due:
            half.stop_due = True
            self.stops.append(half)

    def discard(self, half: ReceiveHalf) -> None:
        """Nobody will read: drop what is buffered and return its credit."""
        if half.fragments is not None:
            self.fragment_count -= len(half.fragments)
        half.discard()
        self._settle(half)

    def _settle(self, half: ReceiveHalf) -> None:
        """Return all credit of a half that discards, but for what lies in the event queue."""
        size = half.highest - (half.emitted - half.handed) - half.returned
        if size > 0:
            self._grant(half, size)

    def _grant(self, half: ReceiveHalf, size: int) -> None:
        half.returned += size
        window = self.window
        window.consumed += size
        if not self.max_data_due and window.is_due():
            self.max_data_due = True
        if half.state == RECEIVE_RECV and not half.is_discarding:
            window = half.window
            window.consumed += size
            if not half.credit_due and window.is_due():
                self.offer_credit(half)

    def offer_credit(self, half: ReceiveHalf) -> None:
        """MAX_STREAM_DATA has to go out."""
        if not half.credit_due:
            half.credit_due = True
            self.credits.append(half)

    def on_lost(self, token: Token) -> None:
        """Offer a frame again, as far as it still matters."""
        kind: int = token[1]
        if kind == MAX_DATA_TOKEN:
            if token[2] == self.window.limit:
                self.max_data_due = True
            return
        half: ReceiveHalf = token[2]
        if kind == STOP_TOKEN:
            if half.state < RECEIVE_DATA_RECVD:
                self.ask_stop(half)
        elif half.state == RECEIVE_RECV and token[3] == half.window.limit:
            self.offer_credit(half)

    # --- what goes back ---------------------------------------------------------------------------------------------------

    def has_frames(self) -> bool:
        """Is there anything that could be written now?"""
        return self.max_data_due or len(self.credits) > 0 or len(self.stops) > 0

    def write_control(self, packet: PacketBuilder, now: float, round_trip: float, owner: Component) -> None:
        """STOP_SENDING, MAX_DATA, MAX_STREAM_DATA, as far as they fit."""
        pressure = self.budget.pool.pressure()
        while self.stops and packet.room >= MAX_CONTROL_FRAME:
            half = self.stops.pop(0)
            half.stop_due = False
            if half.state < RECEIVE_DATA_RECVD:
                packet.push(encode_stop_sending(half.stream_id, half.stop_code), (owner, STOP_TOKEN, half))
        if self.max_data_due and packet.room >= MAX_CONTROL_FRAME:
            self.max_data_due = False
            limit = self.window.update(now, round_trip, pressure)
            packet.push(encode_max_data(limit), (owner, MAX_DATA_TOKEN, limit))
        while self.credits and packet.room >= MAX_CONTROL_FRAME:
            half = self.credits.pop(0)
            half.credit_due = False
            if half.state == RECEIVE_RECV and not half.is_discarding:
                limit = half.window.update(now, round_trip, pressure)
                packet.push(encode_max_stream_data(half.stream_id, limit), (owner, MAX_STREAM_DATA_TOKEN, half, limit))

    def finish(self, half: ReceiveHalf) -> None:
        """The half has reached a terminal state."""
        half.state = RECEIVE_RESET_READ if half.state == RECEIVE_RESET_RECVD else RECEIVE_DATA_READ
