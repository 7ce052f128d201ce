"""What must hold of the streams of a connection after every step: assertions for tests and simulators.

Each function visits every stream, so none runs in production. They state the promises of the essays in `collection.py`,
`sending.py`, `receiving.py` and `send_buffer.py`, and raise AssertionError with the numbers that disagree.
"""

from collections.abc import Collection

from quicio.quic.streams.limits import StreamCounts
from quicio.quic.streams.reassembly import MAX_CONNECTION_FRAGMENTS, MAX_FRAGMENTS
from quicio.quic.streams.receiving import MAX_PIECES, Receiving
from quicio.quic.streams.scheduler import SendQueue
from quicio.quic.streams.sending import Sending
from quicio.quic.streams.stream import SEND_DATA_RECVD, Stream


def require(condition: bool, what: str, *numbers: int) -> None:
    """Raise AssertionError, also under -O."""
    if not condition:
        raise AssertionError(f"{what}: {numbers}")


def check_credit(
    streams: Collection[Stream], sending: Sending, receiving: Receiving, finished_sent: int, finished_received: int
) -> None:
    """The connection's credit is the sum over its streams, within what was granted in either direction."""
    sent = finished_sent
    received = finished_received
    returned = finished_received
    for stream in streams:
        if stream.send is not None:
            sent += stream.send.buffer.next_offset
            require(
                stream.send.buffer.next_offset <= stream.send.credit, "sent beyond a stream's credit", stream.stream_id
            )
        half = stream.receive
        if half is not None:
            received += half.highest
            returned += half.returned
            order = half.returned <= half.highest and half.handed <= half.emitted <= half.received <= half.highest
            require(
                order, "stations out of order", half.stream_id, half.returned, half.handed, half.emitted, half.received
            )
    require(sent == sending.sent, "bytes sent are not the sum over streams", sent, sending.sent)
    require(sending.sent <= sending.limit, "sent beyond the connection's credit", sending.sent, sending.limit)
    require(received == receiving.received, "bytes received are not the sum over streams", received, receiving.received)
    window = receiving.window
    require(returned == window.consumed, "returned credit is not the sum over streams", returned, window.consumed)
    require(window.consumed <= receiving.received <= window.limit, "received beyond the credit given", window.limit)
    require(window.limit <= window.consumed + window.size, "more credit than a window", window.limit, window.consumed)
    require(window.size <= window.ceiling, "the window outgrew its ceiling", window.size, window.ceiling)


def check_buffers(streams: Collection[Stream], receiving: Receiving) -> None:
    """What a peer makes us hold is within windows and named limits."""
    fragments = 0
    held = 0
    for stream in streams:
        half = stream.receive
        if half is None:
            continue
        early = half.fragments.size() if half.fragments is not None else 0
        runs = len(half.fragments) if half.fragments is not None else 0
        fragments += runs
        held += early + half.received - half.emitted if not half.is_discarding else 0
        require(runs <= MAX_FRAGMENTS, "too many gaps in a stream", stream.stream_id, runs)
        require(half.received + early <= half.highest, "buffered beyond what was received", stream.stream_id, early)
        require(half.highest <= half.window.limit, "received beyond a stream's window", stream.stream_id, half.highest)
        require(half.window.size <= half.window.ceiling, "a window outgrew its ceiling", stream.stream_id)
        require(len(half.pieces) <= MAX_PIECES + MAX_FRAGMENTS, "too many pieces", stream.stream_id, len(half.pieces))
    require(fragments == receiving.fragment_count, "gaps miscounted", fragments, receiving.fragment_count)
    require(fragments <= MAX_CONNECTION_FRAGMENTS, "too many gaps on the connection", fragments)
    require(held <= receiving.window.size, "buffered more than the connection's window", held, receiving.window.size)


def check_budget(streams: Collection[Stream], sending: Sending, receiving: Receiving) -> None:
    """What the memory budget was told is what the streams hold, datagrams apart."""
    buffered = sum(stream.send.buffer.size() for stream in streams if stream.send is not None)
    require(buffered == sending.buffered, "bytes buffered are not the sum over streams", buffered, sending.buffered)
    budget = sending.budget
    require(budget.held <= budget.pool.used, "a pool holds less than its part", budget.held, budget.pool.used)
    require(receiving.window.size <= receiving.window.ceiling, "a window outgrew the budget", receiving.window.size)


def check_queues(streams: Collection[Stream], sending: Sending) -> None:
    """Each half that can write a frame is queued once, and only such halves are."""
    for stream in streams:
        half = stream.send
        if half is None:
            continue
        buffer = half.buffer
        require(buffer.acked_to <= buffer.next_offset <= buffer.end, "a send buffer is out of order", stream.stream_id)
        if half.is_waiting or half.state >= SEND_DATA_RECVD:
            require(not half.queued, "a half that cannot write is queued", stream.stream_id)
            continue
        has_new = buffer.next_offset < min(buffer.end, half.credit)
        require(bool(half.queued & sending.new.bit) == has_new, "new data and its queue disagree", stream.stream_id)
        if buffer.has_lost() or half.announce_due or (half.fin_due and buffer.next_offset == buffer.end):
            require(
                half.queued & sending.again.bit != 0, "a half with a repair to send is not queued", stream.stream_id
            )
    check_queue(sending.new)
    check_queue(sending.again)


def check_queue(queue: SendQueue) -> None:
    """The mask tells which lists hold something, and members carry the queue's bit and the list's urgency."""
    for urgency, halves in enumerate(queue.queues):
        require(bool(queue.mask >> urgency & 1) == bool(halves), "a mask and its list disagree", urgency, len(halves))
        require(len(set(map(id, halves))) == len(halves), "a half is queued twice", urgency)
        for half in halves:
            agrees = half.queued & queue.bit != 0 and half.urgency == urgency
            require(agrees, "a half stands in a queue that it does not know", half.stream_id)


def check_limits(
    streams: Collection[Stream],
    sending: Sending,
    receiving: Receiving,
    counts: StreamCounts,
    before: dict[str | int, int],
) -> dict[str | int, int]:
    """No limit is lower than it was in `before`; the limits of now."""
    now: dict[str | int, int] = {"max_data": receiving.window.limit, "peer's max_data": sending.limit}
    for kind in (0, 1):
        peer = counts.peer[kind]
        now[f"max_streams {kind}"] = peer.limit
        now[f"peer's max_streams {kind}"] = counts.local[kind].maximum
        require(peer.opened <= peer.limit, "more streams than allowed", peer.opened, peer.limit)
        require(peer.limit - peer.closed <= peer.size, "more stream credit than a window", peer.limit, peer.closed)
    for stream in streams:
        if stream.receive is not None:
            now[stream.stream_id] = stream.receive.window.limit
    for name, limit in now.items():
        require(limit >= before.get(name, 0), f"the limit {name} has shrunk", limit)
    return now
