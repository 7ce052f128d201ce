"""From the first flight to the end: timers, closing, draining, PING (RFC 9000 §10)."""

from __future__ import annotations

from collections import deque
from math import inf

import pytest

from helpers.recovery import make_path
from quicio.quic.component import Wants
from quicio.quic.events import CloseReason, ConnectionClosing, ConnectionTerminated, PingAcknowledged, QuicEvent
from quicio.quic.lifecycle import (
    CAUSE_HANDSHAKE_TIMEOUT,
    CAUSE_IDLE_TIMEOUT,
    CAUSE_LOCAL,
    CAUSE_PEER,
    CLOSING,
    CONNECTED,
    DRAINING,
    FIRSTFLIGHT,
    MAX_PENDING_PINGS,
    TERMINATED,
    Lifecycle,
)
from quicio.quic.wire.constants import APPLICATION, APPLICATION_BIT, FULL, INTERNAL_ERROR
from quicio.quic.wire.packet_builder import PacketBuilder

LOCAL = CloseReason(7, True, False, "bye")
PEER = CloseReason(3, False, True, "flow control", 8)


def make(
    idle: float = 30.0, handshake: float = 10.0, keep_alive: float | None = None, native: bool = False
) -> tuple[Lifecycle, deque[QuicEvent]]:
    events: deque[QuicEvent] = deque()
    lifecycle = Lifecycle(Wants(), events, idle_timeout=idle, handshake_timeout=handshake, keep_alive=keep_alive)
    lifecycle.native = native
    lifecycle.start(0.0)
    return lifecycle, events


def write(lifecycle: Lifecycle, room: int = 100) -> PacketBuilder:
    builder = PacketBuilder(make_path())
    builder.begin(APPLICATION, builder.path, FULL, room)
    lifecycle.write(builder, 0.0)
    return builder


def test_the_handshake_has_a_time_of_its_own() -> None:
    lifecycle, _ = make()
    assert lifecycle.state == FIRSTFLIGHT
    assert lifecycle.deadline == 10.0
    lifecycle.on_timer(10.0)
    assert lifecycle.state == CLOSING
    assert lifecycle.close_cause == CAUSE_HANDSHAKE_TIMEOUT
    assert lifecycle.close_is_due


def test_a_complete_handshake_ends_that_time() -> None:
    lifecycle, _ = make()
    lifecycle.on_handshake_complete(1.0)
    assert lifecycle.state == CONNECTED
    assert lifecycle.deadline == 30.0


def test_idle_timeout_ends_without_a_close() -> None:
    lifecycle, events = make(handshake=0.0)
    lifecycle.on_timer(29.9)
    assert lifecycle.state == FIRSTFLIGHT
    lifecycle.on_timer(30.0)
    assert lifecycle.state == TERMINATED
    assert lifecycle.close_cause == CAUSE_IDLE_TIMEOUT
    assert not lifecycle.close_is_due
    assert lifecycle.deadline == inf
    assert list(events) == [ConnectionTerminated(INTERNAL_ERROR, 0, "Idle timeout")]


def test_receiving_restarts_the_idle_timer_and_so_does_the_first_eliciting_packet_after() -> None:
    """RFC 9000 §10.1."""
    lifecycle, _ = make(handshake=0.0)
    lifecycle.on_received(5.0, 0.1)
    assert lifecycle.deadline == 35.0
    lifecycle.on_sent(6.0, 0.1)
    assert lifecycle.deadline == 36.0
    lifecycle.on_sent(7.0, 0.1)
    assert lifecycle.deadline == 36.0


@pytest.mark.parametrize(
    ("local", "remote", "effective"), [(30, 10, 10), (10, 30, 10), (0, 5, 5), (5, 0, 5), (0, 0, inf)]
)
def test_the_smaller_idle_timeout_counts(local: float, remote: float, effective: float) -> None:
    lifecycle, _ = make(idle=local, handshake=0.0)
    lifecycle.on_peer_idle_timeout(remote)
    lifecycle.on_received(0.0, 0.1)
    assert lifecycle.deadline == effective


def test_the_idle_timeout_is_never_less_than_three_probe_timeouts() -> None:
    lifecycle, _ = make(idle=1.0, handshake=0.0)
    lifecycle.on_received(0.0, 2.0)
    assert lifecycle.deadline == 6.0


def test_keep_alive_sends_pings_within_half_the_peers_idle_timeout() -> None:
    lifecycle, _ = make(handshake=0.0, keep_alive=20.0)
    lifecycle.on_peer_idle_timeout(10.0)
    lifecycle.on_received(0.0, 0.1)
    assert lifecycle.deadline == 5.0
    lifecycle.on_timer(5.0)
    assert lifecycle.pending == APPLICATION_BIT
    builder = write(lifecycle)
    assert builder.pieces == [b"\x01"]
    lifecycle.on_lost(builder.tokens[0], 6.0)  # nobody asked for this one
    assert lifecycle.pending == 0
    assert lifecycle.deadline == 10.0


def test_a_ping_is_answered_once_even_when_its_first_packet_was_only_late() -> None:
    lifecycle, events = make()
    lifecycle.ping(5)
    assert not write(lifecycle, 0).pieces
    first = write(lifecycle)
    lifecycle.on_lost(first.tokens[0], 1.0)
    second = write(lifecycle)
    assert second.pieces == [b"\x01"]
    lifecycle.on_acked(first.tokens[0], 2.0)
    lifecycle.on_acked(second.tokens[0], 2.0)
    assert list(events) == [PingAcknowledged(uid=5)]
    lifecycle.on_probe(second.tokens[0], 2.0)
    assert lifecycle.pending == 0


def test_pings_waiting_are_bounded() -> None:
    lifecycle, _ = make()
    for uid in range(MAX_PENDING_PINGS):
        lifecycle.ping(uid)
    with pytest.raises(RuntimeError, match="await some of them"):
        lifecycle.ping(0)


def test_closing_waits_three_probe_timeouts_from_the_moment_the_close_was_sent() -> None:
    lifecycle, events = make(native=True)
    lifecycle.close(LOCAL, CAUSE_LOCAL, 0.1)
    lifecycle.close(PEER, CAUSE_PEER, 0.1)  # closed twice: the first counts
    assert lifecycle.close_reason is LOCAL
    assert list(events) == [ConnectionClosing(7, True, False, "bye", None)]
    assert lifecycle.deadline == inf
    lifecycle.on_close_sent(4.0)
    lifecycle.on_close_sent(5.0)
    assert lifecycle.deadline == pytest.approx(4.3)
    lifecycle.on_timer(4.2)
    assert lifecycle.state == CLOSING
    lifecycle.on_timer(4.4)
    assert lifecycle.state == TERMINATED
    assert events[-1] == ConnectionTerminated(7, None, "bye")


def test_the_peers_close_is_drained() -> None:
    lifecycle, events = make()
    lifecycle.on_peer_close(PEER, 1.0, 0.1)
    assert lifecycle.state == DRAINING
    assert lifecycle.close_cause == CAUSE_PEER
    assert lifecycle.close_is_due  # one answer, so that the peer need not wait
    assert lifecycle.deadline == pytest.approx(1.3)
    lifecycle.on_peer_close(LOCAL, 1.1, 0.1)
    assert lifecycle.close_reason is PEER
    lifecycle.on_timer(2.0)
    assert list(events) == [ConnectionTerminated(3, 8, "flow control")]


def test_when_both_sides_have_closed_nothing_is_waited_for() -> None:
    lifecycle, _ = make()
    lifecycle.close(LOCAL, CAUSE_LOCAL, 0.1)
    lifecycle.on_close_sent(1.0)
    lifecycle.on_peer_close(PEER, 1.05, 0.1)
    assert lifecycle.close_reason is LOCAL
    assert lifecycle.deadline == 1.05


def test_packets_in_the_closing_state_are_answered_ever_more_rarely() -> None:
    """RFC 9000 §10.2.1."""
    lifecycle, _ = make()
    lifecycle.on_packet_while_closing()
    assert not lifecycle.close_is_due
    lifecycle.close(LOCAL, CAUSE_LOCAL, 0.1)
    lifecycle.close_is_due = False
    answers = 0
    for _ in range(1000):
        lifecycle.on_packet_while_closing()
        answers += lifecycle.close_is_due
        lifecycle.close_is_due = False
    assert 5 < answers < 12


def test_after_the_end_nothing_happens_any_more() -> None:
    lifecycle, events = make()
    lifecycle.end_at_once(LOCAL, CAUSE_LOCAL)
    lifecycle.end_at_once(PEER, CAUSE_PEER)
    lifecycle.ping(1)
    lifecycle.on_received(1.0, 0.1)
    lifecycle.on_sent(1.0, 0.1)
    assert lifecycle.pending == 0
    assert lifecycle.deadline == inf
    assert len(events) == 1
