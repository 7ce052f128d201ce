"""One path: the anti-amplification limit, sizes, and what "the same host" means (RFC 9000 §8.1, §9.4)."""

from __future__ import annotations

import pytest

from helpers.recovery import make_path
from quicio.quic.paths.path import AMPLIFICATION_FACTOR, UNLIMITED, is_same_host


def test_an_unvalidated_path_is_sent_three_times_what_came() -> None:
    """RFC 9000 §8.1; security.md row 8."""
    path = make_path()
    path.is_validated = False
    assert path.amplification_room() == 0
    path.bytes_received = 1200
    assert path.amplification_room() == 1200 * AMPLIFICATION_FACTOR == 3600
    path.bytes_sent = 3000
    assert path.amplification_room() == 600
    path.bytes_sent = 4000
    assert path.amplification_room() == 0


def test_a_validated_path_has_no_limit() -> None:
    path = make_path()
    path.bytes_sent = 10**9
    assert path.amplification_room() == UNLIMITED


def test_the_peers_largest_payload_bounds_what_is_sent() -> None:
    """RFC 9000 §18.2, max_udp_payload_size."""
    path = make_path()
    path.datagram_size = 1400
    path.mtu.size = 1400
    path.limit_size(65527)
    assert path.datagram_size == 1400
    path.limit_size(1300)
    assert path.datagram_size == path.mtu.ceiling == 1300
    assert path.congestion.datagram_size == 1300


def test_frames_that_belong_to_the_path_alone() -> None:
    path = make_path()
    assert not path.has_frames()
    path.challenge_is_due = True
    assert path.has_frames()
    path.challenge_is_due = False
    path.response = b"12345678"
    assert path.has_frames()


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (("10.0.0.1", 1), ("10.0.0.1", 2), True),
        (("10.0.0.1", 1), ("10.0.0.2", 1), False),
        (("fe80::1", 1, 0, 3), ("fe80::1", 9, 0, 3), True),
        ("peer", "peer", True),
        ("peer", "other", False),
        (("peer",), "peer", False),
        ((), (), True),
    ],
)
def test_the_same_host_may_have_another_port(first: object, second: object, expected: bool) -> None:
    assert is_same_host(first, second) == expected
