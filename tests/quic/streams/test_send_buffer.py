"""The send buffer: chunks by reference, acknowledgements, what is lost (RFC 9000 §13.3)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from quicio.quic.streams.send_buffer import COMPACT_AT, SendBuffer


def filled(*chunks: bytes) -> SendBuffer:
    buffer = SendBuffer()
    for chunk in chunks:
        buffer.append(chunk)
    return buffer


def test_a_chunk_is_kept_by_reference() -> None:
    data = bytes(100)
    buffer = filled(data)
    assert buffer.chunks[0] is data
    assert buffer.take(100) is data


def test_take_slices_and_spans_chunks() -> None:
    buffer = filled(b"abc", b"", b"defg", b"hi")
    assert [buffer.take(size) for size in (2, 1, 1, 4, 1)] == [b"ab", b"c", b"d", b"efgh", b"i"]
    assert buffer.next_offset == buffer.end == 9


def test_acknowledged_chunks_are_released() -> None:
    buffer = filled(b"x" * 10, b"y" * 10)
    buffer.take(20)
    buffer.mark_acked(0, 10)
    assert buffer.size() == 10
    assert b"x" * 10 not in buffer.chunks
    buffer.mark_acked(0, 5)  # an old one again
    assert buffer.acked_to == 10


def test_released_chunks_leave_the_list() -> None:
    buffer = SendBuffer()
    for count in range(10 * COMPACT_AT):
        buffer.append(b"z")
        buffer.take(1)
        buffer.mark_acked(count, count + 1)
    assert len(buffer.chunks) <= 2 * COMPACT_AT
    assert buffer.size() == 0


def test_acknowledgements_above_a_hole_wait_for_it() -> None:
    buffer = filled(b"0123456789")
    buffer.take(10)
    buffer.mark_acked(4, 6)
    buffer.mark_acked(8, 10)
    assert buffer.acked_to == 0
    buffer.mark_acked(0, 4)
    assert buffer.acked_to == 6
    buffer.mark_acked(6, 9)
    assert buffer.acked_to == 10


def test_lost_is_what_nobody_acknowledged() -> None:
    buffer = filled(b"0123456789")
    buffer.take(10)
    buffer.mark_acked(4, 6)
    buffer.mark_lost(2, 8)
    assert buffer.lost is not None
    assert list(buffer.lost) == [range(2, 4), range(6, 8)]
    assert buffer.take_lost(2, 2) == b"23"
    assert buffer.take_lost(6, 1) == b"6"
    assert list(buffer.lost) == [range(7, 8)]
    buffer.mark_acked(7, 8)  # late
    assert not buffer.has_lost()
    buffer.mark_acked(0, 10)
    buffer.mark_lost(0, 10)
    assert not buffer.has_lost()


def test_lost_data_may_span_chunks_and_leaves_the_cursor_alone() -> None:
    buffer = filled(b"abc", b"def", b"ghi")
    buffer.take(7)
    buffer.mark_lost(1, 7)
    assert buffer.take_lost(1, 6) == b"bcdefg"
    assert buffer.take(2) == b"hi"


def test_abandon_everything_releases_everything() -> None:
    buffer = filled(b"0123456789")
    buffer.take(4)
    buffer.mark_lost(0, 2)
    buffer.abandon(0)
    assert (buffer.end, buffer.size(), buffer.chunks, buffer.has_lost()) == (4, 0, [], False)
    buffer.mark_lost(0, 4)
    assert not buffer.has_lost()


def test_abandon_keeps_what_is_below_the_reliable_size() -> None:
    buffer = filled(b"0123456789")
    buffer.take(4)
    buffer.mark_lost(0, 4)
    buffer.abandon(2)
    assert buffer.lost is not None
    assert list(buffer.lost) == [range(2)]
    assert buffer.end == 4
    longer = filled(b"0123456789")
    longer.take(4)
    longer.abandon(6)
    assert longer.end == 6
    assert longer.take(2) == b"45"


@given(st.data())
def test_every_byte_is_offered_until_it_is_acknowledged(data: st.DataObject) -> None:
    buffer = SendBuffer()
    reference = b""
    frames: list[tuple[int, bytes]] = []
    delivered: dict[int, int] = {}
    for _ in range(data.draw(st.integers(1, 60))):
        action = data.draw(st.sampled_from(["append", "take", "take", "ack", "lose", "again"]))
        if action == "append":
            chunk = bytes(data.draw(st.binary(max_size=8)))
            reference += chunk
            buffer.append(chunk)
        elif action == "take" and buffer.next_offset < buffer.end:
            size = data.draw(st.integers(1, buffer.end - buffer.next_offset))
            frames.append((buffer.next_offset, buffer.take(size)))
        elif action == "again" and buffer.lost:
            start, stop = buffer.lost.first()
            size = data.draw(st.integers(1, stop - start))
            frames.append((start, buffer.take_lost(start, size)))
        elif frames:
            start, piece = data.draw(st.sampled_from(frames))
            if action == "lose":
                buffer.mark_lost(start, start + len(piece))
            elif action == "ack":
                buffer.mark_acked(start, start + len(piece))
                delivered.update({start + i: byte for i, byte in enumerate(piece)})
    assert all(reference[start : start + len(piece)] == piece for start, piece in frames)
    known = 0
    while known in delivered:
        known += 1
    assert buffer.acked_to == known
    lost = {number for part in buffer.lost or () for number in part}
    assert not lost & delivered.keys()
    while buffer.lost:
        start, stop = buffer.lost.first()
        assert buffer.take_lost(start, stop - start) == reference[start:stop]
    position = buffer.next_offset
    if position < buffer.end:
        assert buffer.take(buffer.end - position) == reference[position:]
