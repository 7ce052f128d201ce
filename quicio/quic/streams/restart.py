"""Streams start anew when the server rejects early data (RFC 9001 §4.6.2).

The server has seen nothing of what went in 0-RTT packets, and the limits that it granted once do not hold any more. So each
stream goes back to where nothing was sent: its bytes are all still here, because none was acknowledged. All limits are zero
until the server's new parameters raise them (`Streams.on_parameters`), and streams beyond the new ones wait like any others.

A stream that was reset has its reset sent again, with a final size of 0: nothing of it ever arrived.
"""

from __future__ import annotations

from heapq import heapify

from quicio.quic.streams.limits import StreamCounts
from quicio.quic.streams.receiving import Receiving
from quicio.quic.streams.send_buffer import SendBuffer
from quicio.quic.streams.sending import Sending
from quicio.quic.streams.stream import NEVER_BLOCKED, SEND_READY, SEND_RESET_SENT, SendHalf, Stream


def restart_streams(streams: dict[int, Stream], counts: StreamCounts, sending: Sending, receiving: Receiving) -> None:
    """Put all streams of ours, and all limits of the peer's, back to the start."""
    for local in counts.local:
        local.maximum = 0
        local.blocked_at = -1
        local.is_told = False
        local.waiting.clear()
    for stream in streams.values():
        if not stream.is_local:
            continue
        local = counts.local[stream.stream_id >> 1 & 1]
        local.waiting.append(stream.stream_id >> 2)
        if stream.send is not None:
            sending.forget(stream.send)
            restart_half(stream.send)
        if stream.receive is not None:
            stream.receive.stop_due = False  # a stream that waits asks again when its turn comes
    for local in counts.local:
        heapify(local.waiting)
    receiving.stops.clear()
    sending.resets.clear()
    sending.blocked.clear()
    sending.blocked_due = False
    sending.blocked_at = NEVER_BLOCKED
    sending.sent = 0
    sending.limit = 0


def restart_half(half: SendHalf) -> None:
    """Nothing of this half was ever sent."""
    half.is_waiting = True
    half.credit = 0
    half.reset_due = False
    half.blocked_at = NEVER_BLOCKED
    half.blocked_due = False
    if half.state == SEND_RESET_SENT:
        half.buffer = SendBuffer()
        half.final_size = 0
        half.reliable_size = 0
        return
    half.state = SEND_READY
    half.fin_due = half.final_size >= 0
    buffer = half.buffer
    buffer.next_offset = 0
    buffer.cursor = 0
    buffer.lost = None
