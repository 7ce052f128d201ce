"""Streams start anew: nothing was ever sent, and no limit holds (RFC 9001 §4.6.2)."""

from __future__ import annotations

from quicio.quic.streams.restart import restart_half
from quicio.quic.streams.stream import SEND_READY, SEND_RESET_SENT, SendHalf


def sent_half(fin: bool) -> SendHalf:
    half = SendHalf(0, 1000)
    half.write(b"first", False)
    half.write(b"second", fin)
    half.buffer.take(8)
    half.buffer.mark_lost(0, 4)
    return half


def test_all_bytes_are_sent_again() -> None:
    for fin in (False, True):
        half = sent_half(fin)
        half.fin_due = False
        restart_half(half)
        assert half.state == SEND_READY
        assert (half.credit, half.is_waiting, half.fin_due) == (0, True, fin)
        assert not half.buffer.has_lost()
        assert half.buffer.take(11) == b"firstsecond"


def test_a_reset_has_nothing_before_it() -> None:
    half = sent_half(False)
    half.reset(7)
    restart_half(half)
    assert half.state == SEND_RESET_SENT
    assert (half.final_size, half.reset_code, half.buffer.next_offset) == (0, 7, 0)
