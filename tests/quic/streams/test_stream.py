"""The states of both halves (RFC 9000 §3)."""

from __future__ import annotations

import pytest

from quicio.quic.streams import stream as s
from quicio.quic.streams.flow import ReceiveWindow
from quicio.quic.streams.stream import ReceiveHalf, SendHalf
from quicio.quic.wire.constants import FINAL_SIZE_ERROR, QuicConnectionError


def sender(data: bytes = b"", fin: bool = False, sent: int = 0) -> SendHalf:
    half = SendHalf(0, 1 << 20)
    half.write(data, fin)
    if sent:
        half.buffer.take(sent)
    return half


def test_data_recvd_needs_every_byte_and_the_fin() -> None:
    half = sender(b"0123456789", True, 10)
    assert not half.on_acked(5, 10, True)
    assert not half.on_acked(0, 3, False)
    assert half.on_acked(3, 5, False)
    assert half.state == s.SEND_DATA_RECVD
    assert not half.reset(1)


def test_the_fin_is_offered_until_it_is_acknowledged() -> None:
    half = sender(b"ab", True, 2)
    due = []
    half.fin_due = False
    half.offer_again(0, 2, True)
    due.append(half.fin_due)
    half.on_acked(0, 2, True)
    due.append(half.fin_due)
    half.offer_again(0, 2, True)
    due.append(half.fin_due)
    assert due == [True, False, False]


def test_nothing_follows_the_end() -> None:
    half = sender(b"ab", True)
    half.write(b"", True)
    half.write(b"", False)
    with pytest.raises(RuntimeError, match="ended"):
        half.write(b"c", False)


def test_reset_ends_when_it_is_acknowledged() -> None:
    half = sender(b"0123456789", False, 4)
    assert half.reset(7)
    assert not half.reset(8)
    assert (half.state, half.reset_code, half.final_size) == (s.SEND_RESET_SENT, 7, 4)
    assert not half.on_acked(0, 4, False)
    half.offer_again(0, 4, False)
    assert not half.buffer.has_lost()
    assert half.on_reset_acked()
    assert half.state == s.SEND_RESET_RECVD
    assert not half.on_reset_acked()


def test_a_reliable_size_is_still_delivered() -> None:
    half = sender(b"0123456789", True, 4)
    assert half.reset(7, 3)
    assert half.final_size == 4
    half.offer_again(0, 4, False)
    assert half.buffer.lost is not None
    assert list(half.buffer.lost) == [range(3)]
    assert not half.on_reset_acked()
    assert half.on_acked(0, 3, False)
    assert half.state == s.SEND_RESET_RECVD


def test_a_reliable_size_may_be_unsent_yet() -> None:
    half = sender(b"0123456789", False, 4)
    half.reset(7, 6)
    assert (half.final_size, half.buffer.end) == (6, 6)
    assert sender(b"ab").reset(1, 100)


def test_an_announcement_is_offered_again_only_while_nothing_was_sent() -> None:
    half = sender()
    half.offer_again(0, 0, False)
    assert half.announce_due
    half = sender(b"ab", False, 1)
    half.offer_again(0, 0, False)
    assert not half.announce_due


def receiver() -> ReceiveHalf:
    return ReceiveHalf(0, ReceiveWindow(1000, 1000), False)


@pytest.mark.parametrize(
    ("stop", "fin"),
    [(11, False), (11, True), (9, True)],
    ids=["data beyond", "a larger size", "a smaller size"],
)
def test_a_final_size_cannot_change(stop: int, fin: bool) -> None:
    half = receiver()
    half.final_size = 10
    half.check_size(10, True, 8)
    half.check_size(5, False, 8)
    with pytest.raises(QuicConnectionError) as caught:
        half.check_size(stop, fin, 8)
    assert caught.value.error_code == FINAL_SIZE_ERROR


def test_a_final_size_is_not_below_what_came() -> None:
    half = receiver()
    half.highest = 10
    half.check_size(10, True, 8)
    with pytest.raises(QuicConnectionError) as caught:
        half.check_size(9, True, 8)
    assert caught.value.error_code == FINAL_SIZE_ERROR


def test_store_keeps_each_byte_once() -> None:
    half = receiver()
    half.store(2, b"cd")
    half.store(0, b"ab")
    assert half.received == 4
    assert half.fragments is None
    half.store(1, b"XXXe")
    half.store(0, b"YYYYY")
    assert b"".join(half.pieces) == b"abcde"
