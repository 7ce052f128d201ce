"""One stream: a half that sends and a half that receives, each with its own states (RFC 9000 §3).

Sending (§3.1)                                            Receiving (§3.2)

    READY --first frame--> SEND                               RECV --FIN--> SIZE_KNOWN
    SEND --FIN sent--> DATA_SENT                              SIZE_KNOWN --all data here--> DATA_RECVD
    DATA_SENT --all acknowledged--> DATA_RECVD (end)          DATA_RECVD --application has it--> DATA_READ (end)
    READY, SEND, DATA_SENT --reset--> RESET_SENT              RECV, SIZE_KNOWN --RESET_STREAM--> RESET_RECVD
    RESET_SENT --acknowledged--> RESET_RECVD (end)            RESET_RECVD --application knows--> RESET_READ (end)

The states are ints, in an order that makes the common questions comparisons. A half enters RESET_SENT when the reset is
decided: from then on no STREAM frame is written, whether RESET_STREAM is out yet or not. RESET_STREAM that comes when all
data is here is suppressed, as §3.2 allows.

The sending half knows a *reliable size* (RESET_STREAM_AT): the bytes below it are still owed after a reset, and the half
ends only when they are acknowledged too. RESET_STREAM is the case of 0.

The receiving half counts one stream's bytes at five stations, in this order:

    returned <= handed <= emitted <= received <= highest        (`returned` jumps to `highest` when the rest is discarded)

`highest` is what flow control charges (§4.1); `received` is in order; `emitted` is in events; `handed` was given out by
`next_event()`; `returned` went back to the peer as connection credit. `final_size` is -1 while it is unknown (§4.5).

Left to others: bytes to send to `SendBuffer`, early bytes to `Reassembly`, credit to `ReceiveWindow`, turns to `SendQueue`;
who creates, discards and writes is `Streams`.
"""

from typing import Final

from quicio.buffer import encode_uint_var
from quicio.quic.streams.flow import ReceiveWindow
from quicio.quic.streams.reassembly import Reassembly
from quicio.quic.streams.send_buffer import SendBuffer
from quicio.quic.wire.constants import FINAL_SIZE_ERROR, UINT_VAR_MAX, QuicConnectionError

# Sending part (RFC 9000 §3.1).
SEND_READY: Final = 0
SEND_SEND: Final = 1
SEND_DATA_SENT: Final = 2
SEND_RESET_SENT: Final = 3
SEND_DATA_RECVD: Final = 4  # from here on terminal
SEND_RESET_RECVD: Final = 5

# Receiving part (RFC 9000 §3.2).
RECEIVE_RECV: Final = 0
RECEIVE_SIZE_KNOWN: Final = 1
RECEIVE_DATA_RECVD: Final = 2
RECEIVE_RESET_RECVD: Final = 3
RECEIVE_DATA_READ: Final = 4  # from here on terminal
RECEIVE_RESET_READ: Final = 5

ROOM_UNWANTED: Final = -1  # nobody waits for room
SIZE_UNKNOWN: Final = -1
NOT_STOPPED: Final = -1
NEVER_BLOCKED: Final = -1
DEFAULT_URGENCY: Final = 3  # RFC 9218 §4.1


class SendHalf:
    """The sending part of a stream."""

    __slots__ = (
        "announce_due",
        "blocked_at",
        "blocked_due",
        "buffer",
        "credit",
        "fin_acked",
        "fin_due",
        "final_size",
        "head_first",
        "head_offset",
        "incremental",
        "is_waiting",
        "queued",
        "reliable_size",
        "reset_acked",
        "reset_code",
        "reset_due",
        "room_at",
        "state",
        "stream_id",
        "urgency",
    )

    def __init__(self, stream_id: int, credit: int) -> None:
        self.stream_id: int = stream_id
        self.state: int = SEND_READY
        self.buffer: SendBuffer = SendBuffer()
        self.credit: int = credit  # offset up to which the peer lets us send: MAX_STREAM_DATA
        self.final_size: int = SIZE_UNKNOWN
        self.fin_due = False  # a FIN has to go out, for the first time or again
        self.fin_acked = False
        self.announce_due = False  # an empty STREAM frame shall make the stream known to the peer
        self.reset_code = 0
        self.reset_acked = False
        self.reset_due: bool = False  # stands in the queue of resets to write
        self.reliable_size = 0
        self.is_waiting: bool = False  # beyond the peer's stream limit: nothing may be written
        self.room_at: int = ROOM_UNWANTED  # bytes in the buffer at which StreamWritable is owed
        self.blocked_at: int = NEVER_BLOCKED  # credit at which STREAM_DATA_BLOCKED was asked for
        self.blocked_due: bool = False
        self.urgency: int = DEFAULT_URGENCY
        self.incremental: bool = True
        self.queued: int = 0  # bits of the `SendQueue`s that hold this half
        encoded = encode_uint_var(stream_id)
        self.head_first: bytes = b"\x08" + encoded  # start of a STREAM frame at offset 0, and of one behind it
        self.head_offset: bytes = b"\x0c" + encoded

    def write(self, data: bytes, fin: bool) -> None:
        """Take data from the application; RuntimeError for data after the end."""
        if self.final_size >= 0:
            if data:
                raise RuntimeError(f"Stream {self.stream_id} was ended: no data can follow end_stream=True")
            return
        self.buffer.append(data)
        if data:
            self.announce_due = False  # data announces the stream by itself
        if fin:
            self.final_size = self.buffer.end
            self.fin_due = True

    def reset(self, error_code: int, reliable_size: int = 0) -> bool:
        """Abandon transmission above `reliable_size`; False when it is too late or was done (RFC 9000 §3.1)."""
        if self.state >= SEND_RESET_SENT:
            return False
        buffer = self.buffer
        self.state = SEND_RESET_SENT
        self.reset_code = error_code
        self.reliable_size = min(reliable_size, buffer.end)
        buffer.abandon(self.reliable_size)
        self.final_size = buffer.end
        self.fin_due = False
        self.announce_due = False
        return True

    def on_acked(self, start: int, stop: int, fin: bool) -> bool:
        """A STREAM frame arrived; True when the half thereby ends."""
        self.buffer.mark_acked(start, stop)
        if self.state < SEND_RESET_SENT:
            if fin:
                self.fin_acked = True
                self.fin_due = False
            if self.fin_acked and self.buffer.acked_to == self.final_size:
                self.state = SEND_DATA_RECVD
                return True
            return False
        return self.state == SEND_RESET_SENT and self._end_of_reset()

    def on_reset_acked(self) -> bool:
        """RESET_STREAM arrived; True when the half thereby ends."""
        self.reset_acked = True
        return self.state == SEND_RESET_SENT and self._end_of_reset()

    def _end_of_reset(self) -> bool:
        if self.reset_acked and self.buffer.acked_to >= self.reliable_size:
            self.state = SEND_RESET_RECVD
            return True
        return False

    def offer_again(self, start: int, stop: int, fin: bool) -> None:
        """A STREAM frame was lost, or a probe wants to carry it."""
        self.buffer.mark_lost(start, stop)
        if self.state < SEND_RESET_SENT:
            if fin and not self.fin_acked:
                self.fin_due = True
            elif start == stop and self.buffer.end == 0:
                self.announce_due = True


class ReceiveHalf:
    """The receiving part of a stream."""

    __slots__ = (
        "credit_due",
        "emitted",
        "end_emitted",
        "events_out",
        "final_size",
        "fragments",
        "handed",
        "highest",
        "is_discarding",
        "is_held",
        "is_listed",
        "pieces",
        "received",
        "returned",
        "state",
        "stop_code",
        "stop_due",
        "stream_id",
        "window",
    )

    def __init__(self, stream_id: int, window: ReceiveWindow, is_held: bool) -> None:
        self.stream_id: int = stream_id
        self.state: int = RECEIVE_RECV
        self.window: ReceiveWindow = window
        self.is_held: bool = is_held  # credit comes from consume(), not from handing events out
        self.final_size: int = SIZE_UNKNOWN
        self.highest: int = 0
        self.received = 0
        self.emitted: int = 0
        self.handed: int = 0
        self.returned: int = 0
        self.pieces: list[bytes] = []  # in order, from `emitted` to `received`
        self.fragments: Reassembly | None = None
        self.is_listed: bool = False  # in the list of halves with something for the application
        self.is_discarding = False  # nobody will read: stopped, reset or released
        self.end_emitted: bool = False
        self.events_out: int = 0  # events in the queue, not yet handed out
        self.stop_code: int = NOT_STOPPED
        self.stop_due: bool = False
        self.credit_due: bool = False

    def check_size(self, stop: int, fin: bool, frame_type: int) -> None:
        """Hold data that ends at `stop`, or a final size, against what is known (RFC 9000 §4.5)."""
        if self.final_size >= 0:
            if stop > self.final_size:
                raise QuicConnectionError(FINAL_SIZE_ERROR, frame_type, "Data beyond the final size")
            if fin and stop != self.final_size:
                raise QuicConnectionError(FINAL_SIZE_ERROR, frame_type, "The final size has changed")
        elif fin and stop < self.highest:
            raise QuicConnectionError(FINAL_SIZE_ERROR, frame_type, "The final size is below what was received")

    def store(self, offset: int, data: bytes) -> None:
        """Keep data that the window covers, whatever of it is new."""
        received = self.received
        if offset < received:
            data = data[received - offset :]
            offset = received
        if not data:
            return
        if offset > received:
            if self.fragments is None:
                self.fragments = Reassembly()
            self.fragments.insert(offset, data)
            return
        self.pieces.append(data)
        received += len(data)
        if self.fragments is not None:
            received = self.fragments.shift(received, self.pieces)
            if not len(self.fragments):
                self.fragments = None
        self.received = received

    def discard(self) -> None:
        """Drop what is buffered and keep nothing that comes."""
        self.is_discarding = True
        self.pieces = []
        self.fragments = None

    def is_read(self) -> bool:
        """Is there nothing more to come, and nothing that the application does not have (the terminal states of §3.2)?"""
        if self.events_out:
            return False
        if self.is_discarding:
            return self.final_size >= 0
        return self.end_emitted and (not self.is_held or self.returned == self.final_size)


class Stream:
    """Both halves of a stream; a unidirectional stream has one."""

    __slots__ = ("is_local", "is_released", "receive", "send", "stream_id")

    def __init__(self, stream_id: int, is_local: bool, send: SendHalf | None, receive: ReceiveHalf | None) -> None:
        self.stream_id: int = stream_id
        self.is_local: bool = is_local
        self.send: SendHalf | None = send
        self.receive: ReceiveHalf | None = receive
        self.is_released: bool = False  # the application's user has let go of it


def check_error_code(error_code: int) -> None:
    """ValueError for what RESET_STREAM or STOP_SENDING cannot carry (RFC 9000 §20.2)."""
    if not 0 <= error_code <= UINT_VAR_MAX:
        raise ValueError(f"An application error code is between 0 and 2^62 - 1, not {error_code}")
