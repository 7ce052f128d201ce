"""ECN validation: RFC 9000 §13.4.2 and appendix A.4."""

from __future__ import annotations

import pytest

from quicio.quic.paths.ecn import CAPABLE, FAILED, TEST_PACKETS, TESTING, UNKNOWN, EcnState
from quicio.quic.wire.constants import ECN_ECT_0, ECN_NOT_ECT


def test_the_first_ten_packets_are_marked_then_marking_waits() -> None:
    ecn = EcnState()
    assert ecn.state == TESTING
    marks = []
    for _ in range(TEST_PACKETS + 2):
        mark = ecn.mark()
        marks.append(mark)
        if mark:
            ecn.on_sent()
    assert marks == [ECN_ECT_0] * TEST_PACKETS + [ECN_NOT_ECT] * 2
    assert ecn.state == UNKNOWN


def test_counts_that_account_for_all_marks_make_the_path_capable_for_good() -> None:
    ecn = EcnState()
    for _ in range(TEST_PACKETS):
        ecn.on_sent()
    assert ecn.on_ack(3, (2, 0, 1)) == 1
    assert ecn.state == CAPABLE
    for _ in range(100):
        assert ecn.mark() == ECN_ECT_0
        ecn.on_sent()
    for _ in range(200):
        ecn.on_lost()  # losses of a capable path are losses
    assert ecn.state == CAPABLE


def test_counts_may_exceed_what_is_newly_acknowledged() -> None:
    ecn = EcnState()
    assert ecn.on_ack(1, (5, 0, 0)) == 0
    assert ecn.state == CAPABLE


def test_counts_alone_prove_nothing() -> None:
    ecn = EcnState()
    assert ecn.on_ack(0, (0, 0, 0)) == 0
    assert ecn.on_ack(0, None) == 0
    assert ecn.state == TESTING


@pytest.mark.parametrize(
    ("newly_acked", "counts"),
    [(1, None), (2, (1, 0, 0)), (0, (-1, 0, 0)), (0, (0, 1, 0)), (0, (0, -1, 0)), (1, (2, 0, -1))],
    ids=["bleached", "remarked", "fewer-ect0", "ect1", "fewer-ect1", "fewer-ce"],
)
def test_impossible_counts_end_marking_for_good(newly_acked: int, counts: tuple[int, int, int] | None) -> None:
    ecn = EcnState()
    ecn.on_sent()
    assert ecn.on_ack(newly_acked, counts) == 0
    assert ecn.state == FAILED
    assert ecn.mark() == ECN_NOT_ECT
    assert ecn.on_ack(0, (0, 0, 5)) == 0  # a broken path does not throttle the sender
    assert ecn.state == FAILED


def test_when_every_test_packet_is_lost_the_marks_are_blamed() -> None:
    ecn = EcnState()
    for _ in range(TEST_PACKETS):
        ecn.on_sent()
    for _ in range(TEST_PACKETS - 1):
        ecn.on_lost()
    assert ecn.state == UNKNOWN
    ecn.on_lost()
    assert ecn.state == FAILED


def test_a_loss_while_testing_decides_nothing() -> None:
    ecn = EcnState()
    ecn.on_sent()
    ecn.on_lost()
    assert ecn.state == TESTING


def test_a_driver_that_cannot_mark_never_does() -> None:
    ecn = EcnState(is_enabled=False)
    assert ecn.mark() == ECN_NOT_ECT


def test_failing_from_outside_is_final() -> None:
    ecn = EcnState()
    ecn.fail()
    assert ecn.on_ack(1, (1, 0, 0)) == 0
    assert ecn.mark() == ECN_NOT_ECT
