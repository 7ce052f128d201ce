"""CRYPTO streams: order out of any order, bounds on what a peer can make us hold (RFC 9000 §7.5)."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quicio.quic.crypto_stream import (
    MAX_CRYPTO_BUFFER,
    MAX_CRYPTO_FRAGMENTS,
    MAX_CRYPTO_OFFSET,
    CryptoReceiver,
    CryptoSender,
)
from quicio.quic.wire.constants import CRYPTO_BUFFER_EXCEEDED, FRAME_ENCODING_ERROR, QuicConnectionError


@given(st.binary(min_size=1, max_size=400), st.integers(0, 1 << 30))
def test_pieces_in_any_order_overlapping_and_repeated_come_out_in_order(data: bytes, seed: int) -> None:
    chance = random.Random(seed)
    pieces = []
    position = 0
    while position < len(data):
        length = chance.randint(1, 40)
        start = max(0, position - chance.randint(0, 10))
        pieces.append((start, data[start : position + length]))
        position += length
    pieces += chance.sample(pieces, min(3, len(pieces)))
    chance.shuffle(pieces)
    receiver = CryptoReceiver()
    result = b"".join(receiver.receive(offset, piece) for offset, piece in pieces)
    assert result == data
    assert not receiver.has_gap


def test_a_gap_is_known_until_it_is_filled() -> None:
    receiver = CryptoReceiver()
    assert receiver.receive(4, b"later") == b""
    assert receiver.has_gap
    assert receiver.receive(4, b"lat") == b""  # a shorter copy adds nothing
    assert receiver.receive(0, b"soon") == b"soonlater"


def test_a_longer_piece_at_the_same_place_replaces_the_shorter() -> None:
    receiver = CryptoReceiver()
    receiver.receive(2, b"c")
    receiver.receive(2, b"cdef")
    assert receiver.receive(0, b"ab") == b"abcdef"


def test_bytes_ahead_are_bounded() -> None:
    """security.md row 1."""
    receiver = CryptoReceiver()
    receiver.receive(MAX_CRYPTO_BUFFER - 10, bytes(10))
    with pytest.raises(QuicConnectionError) as caught:
        receiver.receive(MAX_CRYPTO_BUFFER - 9, bytes(10))
    assert caught.value.error_code == CRYPTO_BUFFER_EXCEEDED


def test_overlapping_pieces_cannot_exceed_the_bound_either() -> None:
    """security.md row 1."""
    receiver = CryptoReceiver()
    with pytest.raises(QuicConnectionError) as caught:
        for number in range(MAX_CRYPTO_FRAGMENTS):
            receiver.receive(1 + number, bytes(2000))
    assert caught.value.error_code == CRYPTO_BUFFER_EXCEEDED


def test_pieces_are_bounded_in_number() -> None:
    """security.md row 1."""
    receiver = CryptoReceiver()
    for number in range(MAX_CRYPTO_FRAGMENTS):
        receiver.receive(2 + 2 * number, b"x")
    with pytest.raises(QuicConnectionError) as caught:
        receiver.receive(2 + 2 * MAX_CRYPTO_FRAGMENTS, b"x")
    assert caught.value.error_code == CRYPTO_BUFFER_EXCEEDED


@pytest.mark.parametrize(
    ("offset", "code"), [(MAX_CRYPTO_OFFSET, CRYPTO_BUFFER_EXCEEDED), ((1 << 62) - 1, FRAME_ENCODING_ERROR)]
)
def test_offsets_no_handshake_reaches_are_refused(offset: int, code: int) -> None:
    with pytest.raises(QuicConnectionError) as caught:
        CryptoReceiver().receive(offset, b"x")
    assert caught.value.error_code == code


def test_a_sender_sends_again_what_was_lost_and_not_what_was_acknowledged() -> None:
    sender = CryptoSender()
    sender.append(b"abcdefgh")
    assert sender.take(3) == (0, b"abc")
    assert sender.take(100) == (3, b"defgh")
    assert not sender.has_pending
    sender.on_acked(2, 5)
    sender.offer_again(0, 8)
    assert sender.take(100) == (0, b"ab")
    assert sender.take(100) == (5, b"fgh")
    sender.offer_again(0, 2)
    sender.on_acked(0, 2)  # a late acknowledgement
    assert not sender.has_pending
    sender.offer_all_again()
    assert sender.take(100) == (0, b"abcdefgh")


def test_an_empty_sender_has_nothing_to_offer_again() -> None:
    sender = CryptoSender()
    sender.offer_all_again()
    assert not sender.has_pending
