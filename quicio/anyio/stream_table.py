"""The application that gives users streams: it turns the core's events into halves, queues and wake-ups.

Rules:
- A stream lives in the table until its user is done with both halves, by closing them or by dropping the face. Only then
  is it released in the core, which returns a place under the stream limit to the peer: what handlers still hold counts
  (RFC 9000 §4.6; a peer cannot make this side hold more streams than it allowed).
- A stream that the peer opened is queued for its acceptor, halves first, face when it is accepted. The stream limits bound
  those queues. A closed acceptor refuses: the stream is stopped and reset.
- `undelivered` holds the halves that were finished here and not yet acknowledged in full: the graceful end waits for it
  to become empty. If it cannot, only those are missed that had data outstanding when they were finished, and whose user
  was not told of the loss: a FIN alone says nothing that a clean close does not.
- Received DATAGRAMs that nobody takes are dropped, oldest first, and counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import anyio

from quicio.anyio.application import Application
from quicio.anyio.gate import Gate
from quicio.anyio.halves import REJECTED, ReceivingHalf, SendingHalf
from quicio.anyio.link import Link
from quicio.anyio.mailbox import Mailbox
from quicio.errors import CloseReason
from quicio.quic.configuration import ErrorCodes, QuicConfiguration
from quicio.quic.events import (
    DatagramFrameReceived,
    DatagramWritable,
    EarlyDataRejected,
    QuicEvent,
    StopSendingReceived,
    StreamDataReceived,
    StreamDelivered,
    StreamReset,
    StreamWritable,
)
from quicio.quic.lifecycle import CAUSE_PEER
from quicio.quic.wire.constants import NO_ERROR
from quicio.quic.wire.rangeset import RangeSet

__all__ = ["StreamState", "StreamTable"]

SERVER_INITIATED: Final = 1  # bits of a stream ID (RFC 9000 §2.1)
UNIDIRECTIONAL: Final = 2

# How often, while a window of data is taken, the driver is asked to send what credit is due: not for every few bytes.
GRANTS_PER_WINDOW: Final = 16


class StreamState:
    """Both halves of a stream; one of them is None on a unidirectional one."""

    __slots__ = ("receiving", "sending", "stream_id")

    def __init__(self, stream_id: int, sending: SendingHalf | None, receiving: ReceivingHalf | None) -> None:
        self.stream_id: int = stream_id
        self.sending: SendingHalf | None = sending
        self.receiving: ReceivingHalf | None = receiving

    @property
    def is_closed(self) -> bool:
        """Whether the user has closed all of it."""
        return (self.sending is None or self.sending.is_closed) and (self.receiving is None or self.receiving.is_closed)

    @property
    def is_done(self) -> bool:
        """Whether dropping it loses nothing."""
        return (self.sending is None or self.sending.is_done) and (self.receiving is None or self.receiving.is_done)

    def abandon(self, code: int) -> None:
        """Reset what is open and stop what is unread."""
        if self.receiving is not None:
            self.receiving.stop(code)
        if self.sending is not None:
            if self.sending.is_done:
                self.sending.close()
            else:
                self.sending.reset(code)


class StreamTable(Application):
    """Streams and datagrams of one connection, for users' tasks."""

    def __init__(self, link: Link, configuration: QuicConfiguration) -> None:
        self.link = link
        self.codes: ErrorCodes = configuration.codes
        self.incoming_streams: Mailbox[StreamState] = Mailbox("accepting streams from")
        self.incoming_receive_streams: Mailbox[StreamState] = Mailbox("accepting receive streams from")
        self.undelivered: dict[int, SendingHalf] = {}
        self.datagrams: Mailbox[bytes] = Mailbox("receiving datagrams from")
        self.datagrams_dropped: int = 0
        self._datagram_queue = configuration.datagram_queue
        self._datagram_room: anyio.Event | None = None
        self._states: dict[int, StreamState] = {}
        self._released: dict[int, anyio.Event] = {}
        self._seen = (
            RangeSet(),
            RangeSet(),
        )  # the peer's streams that came, by direction: late events are not new ones
        self._local_bit = 0 if configuration.is_client else SERVER_INITIATED
        self.send_buffer: int = configuration.send_buffer
        self._taken = 0  # bytes taken since the driver was last asked to send credit
        self._taken_limit = min(configuration.max_data, configuration.max_stream_data) // GRANTS_PER_WINDOW
        self._all_delivered = Gate()

    # --- streams -----------------------------------------------------------------------------------------------------

    def add(self, stream_id: int, *, is_announced: bool) -> StreamState:
        """A stream was opened, by this side or by the peer."""
        is_local = stream_id & SERVER_INITIATED == self._local_bit
        is_bidirectional = not stream_id & UNIDIRECTIONAL
        sending = SendingHalf(self, stream_id, is_announced=is_announced) if is_local or is_bidirectional else None
        receiving = ReceivingHalf(self, stream_id, sending) if not is_local or is_bidirectional else None
        state = StreamState(stream_id, sending, receiving)
        self._states[stream_id] = state
        return state

    def release(self, stream_id: int) -> None:
        """A half was closed by its user: once both are, the core may forget the stream."""
        state = self._states.get(stream_id)
        if state is not None and state.is_closed:
            del self._states[stream_id]
            released = self._released.pop(stream_id, None)
            if released is not None:
                released.set()
            if self.link.reason is None:
                self.link.quic.release_stream(stream_id)
                self.link.touch()

    def when_released(self, stream_id: int) -> anyio.Event:
        """An event that is set when the user of a stream that is held has closed all of it, or the connection has ended."""
        return self._released.setdefault(stream_id, anyio.Event())

    def is_held(self, stream_id: int) -> bool:
        """Whether the user still holds some of the stream."""
        return stream_id in self._states

    def grant(self, stream_id: int, size: int) -> None:
        """The user took `size` bytes: the peer may send as many more (RFC 9000 §4.2)."""
        self.link.quic.consume(stream_id, size)
        self.link.touch()
        self._taken += size
        if self._taken >= self._taken_limit:
            self._taken = 0
            self.link.driver.settle()

    def _peer_stream(self, stream_id: int) -> StreamState | None:
        """The state of a stream that an event is about; None when its user is done with it."""
        state = self._states.get(stream_id)
        if state is not None or stream_id & SERVER_INITIATED == self._local_bit:
            return state
        index = stream_id >> 2
        seen = self._seen[stream_id >> 1 & 1]
        if index in seen:
            return None
        seen.add(index, index + 1)
        mailbox = self.incoming_receive_streams if stream_id & UNIDIRECTIONAL else self.incoming_streams
        state = self.add(stream_id, is_announced=True)
        if mailbox.is_ended:
            state.abandon(self.codes.cancelled)
            return None
        mailbox.put(state)
        return state

    def refuse(self, mailbox: Mailbox[StreamState]) -> None:
        """The acceptor was closed: its streams are not wanted, now or later."""
        mailbox.end(anyio.ClosedResourceError)
        while mailbox.items:
            mailbox.items.popleft().abandon(self.codes.cancelled)
        self.link.driver.settle()

    # --- events ------------------------------------------------------------------------------------------------------

    def handle_event(self, event: QuicEvent) -> None:
        handler = _HANDLERS.get(type(event))
        if handler is not None:
            handler(self, event)

    def _on_data(self, event: StreamDataReceived) -> None:
        state = self._peer_stream(event.stream_id)
        if state is not None and state.receiving is not None:
            state.receiving.on_data(event.data, event.end_stream)

    def _on_writable(self, event: StreamWritable) -> None:
        state = self._states.get(event.stream_id)
        if state is not None and state.sending is not None:
            state.sending.on_writable()

    def _on_delivered(self, event: StreamDelivered) -> None:
        half = self.undelivered.get(event.stream_id)
        if half is not None:
            half.on_delivered()
            self.settle_delivery(event.stream_id)

    def _on_reset(self, event: StreamReset) -> None:
        state = self._peer_stream(event.stream_id)
        if state is not None and state.receiving is not None:
            state.receiving.on_reset(event.error_code)

    def _on_stop_sending(self, event: StopSendingReceived) -> None:
        half = self.undelivered.get(event.stream_id)
        if half is None:
            state = self._peer_stream(event.stream_id)
            half = state.sending if state is not None else None
        if half is not None:
            half.on_stopped(event.error_code)
            self.settle_delivery(event.stream_id)

    def _on_early_data_rejected(self, event: EarlyDataRejected) -> None:
        """What the core does not send again is lost: whoever uses these streams is told (RFC 9001 §4.6.2)."""
        if event.is_resent:
            return
        for half in list(self.undelivered.values()):
            half.on_stopped(REJECTED)
            self.settle_delivery(half.stream_id)
        for state in list(self._states.values()):
            if state.sending is not None:
                state.sending.on_stopped(REJECTED)
            if state.receiving is not None:
                state.receiving.on_reset(REJECTED)

    def settle_delivery(self, stream_id: int) -> None:
        """Nothing is left to wait for: the stream was delivered, reset, or stopped by the peer."""
        self.undelivered.pop(stream_id, None)
        if not self.undelivered:
            self._all_delivered.set()

    def connection_lost(self) -> None:
        for half in self.undelivered.values():
            half.wake()
        for state in list(self._states.values()):
            if state.sending is not None:
                state.sending.wake()
            if state.receiving is not None:
                state.receiving.wake()
        self._all_delivered.set()
        for released in self._released.values():
            released.set()
        self._released.clear()
        self._on_datagram_writable(None)
        for mailbox in (self.incoming_streams, self.incoming_receive_streams):
            if not mailbox.is_ended:
                mailbox.end(partial(_end_of_streams, self.link, self.codes))
        if not self.datagrams.is_ended:
            self.datagrams.end(self.link.error)
        if self.link.is_closed:
            for queue in (self.incoming_streams.items, self.incoming_receive_streams.items, self.datagrams.items):
                queue.clear()

    # --- the graceful end --------------------------------------------------------------------------------------------

    async def finish(self) -> None:
        for state in list(self._states.values()):
            if state.sending is not None and not state.sending.is_done:
                state.sending.close()
        self.link.driver.settle()
        while self.undelivered and self.link.reason is None:
            if self._all_delivered.is_set():  # another task may be waiting
                self._all_delivered = Gate()
            await self._all_delivered.wait()

    def undelivered_count(self) -> int:
        halves = [state.sending for state in self._states.values() if state.sending is not None]
        count = sum(half.has_unacknowledged_data() for half in halves if not half.is_finished)
        return count + sum(half.had_data and not half.is_told for half in self.undelivered.values())

    # --- datagrams ---------------------------------------------------------------------------------------------------

    def _on_datagram(self, event: DatagramFrameReceived) -> None:
        items: deque[bytes] = self.datagrams.items
        if self.datagrams.is_ended:
            return
        if len(items) >= self._datagram_queue:
            items.popleft()
            self.datagrams_dropped += 1
        self.datagrams.put(event.data)

    def _on_datagram_writable(self, _: DatagramWritable | None) -> None:
        if self._datagram_room is not None:
            self._datagram_room.set()

    def wake_datagram_senders(self) -> None:
        """Who waits for room shall look again: datagrams were closed on this side."""
        self._on_datagram_writable(None)

    async def wait_for_datagram_room(self) -> None:
        """Wait until the core's queue of outgoing DATAGRAMs may have room, or the connection has ended."""
        if self._datagram_room is None or self._datagram_room.is_set():
            self._datagram_room = anyio.Event()
        self.link.driver.drain_after_sending(self.link)
        self.link.driver.settle()
        try:
            await self._datagram_room.wait()
        finally:
            self.link.driver.stop_draining(self.link)


def _end_of_streams(link: Link, codes: ErrorCodes) -> Exception:
    """What an acceptor says after the end. No method: the table would hold itself."""
    reason = link.reason
    if link.is_closed or (reason is not None and _is_clean(link, codes, reason)):
        return anyio.EndOfStream()
    return link.error()


def _is_clean(link: Link, codes: ErrorCodes, reason: CloseReason) -> bool:
    """Whether the peer has closed it with "no error". A stateless reset is the peer's too, but no close."""
    no_error = codes.no_error if reason.is_application else NO_ERROR
    return link.quic.close_cause == CAUSE_PEER and reason.code == no_error


_HANDLERS: Final[dict[type[QuicEvent], Callable[[StreamTable, Any], None]]] = {
    StreamDataReceived: StreamTable._on_data,
    StreamWritable: StreamTable._on_writable,
    StreamDelivered: StreamTable._on_delivered,
    StreamReset: StreamTable._on_reset,
    StopSendingReceived: StreamTable._on_stop_sending,
    DatagramFrameReceived: StreamTable._on_datagram,
    DatagramWritable: StreamTable._on_datagram_writable,
    EarlyDataRejected: StreamTable._on_early_data_rejected,
}
