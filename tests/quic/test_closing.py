"""CONNECTION_CLOSE: in which packets, with which frame, how often (RFC 9000 §10.2)."""

from __future__ import annotations

import pytest

from quicio.quic.closing import close_frame
from quicio.quic.events import CloseReason
from quicio.quic.lifecycle import REASON_MAX_SIZE
from quicio.quic.wire.constants import (
    APPLICATION,
    APPLICATION_ERROR,
    EPOCH_HANDSHAKE,
    EPOCH_INITIAL,
    EPOCH_ONE_RTT,
    HANDSHAKE,
    INITIAL,
    PROTOCOL_VIOLATION,
    UINT_VAR_MAX,
)
from sim.capture import Capture, decode_frames
from sim.rude import RudePeer


def frame(reason: CloseReason, space: int) -> tuple[str, tuple[object, ...]]:
    (decoded,) = decode_frames(close_frame(reason, space))
    return decoded


def sent(rude: RudePeer) -> list[tuple[int, str, tuple[object, ...]]]:
    """The close frames on the wire: epoch, name, fields."""
    rude.listen()
    return [
        (epoch, name, fields) for epoch, _, frames in rude.received for name, fields in frames if name.endswith("CLOSE")
    ]


# --- the frame --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("space", [INITIAL, HANDSHAKE])
def test_an_applications_close_shows_nothing_before_the_peer_is_known(space: int) -> None:
    """RFC 9000 §10.2.3."""
    reason = CloseReason(77, True, False, "a secret", None)
    assert frame(reason, space) == ("TRANSPORT_CLOSE", (APPLICATION_ERROR, 0, b""))


def test_an_applications_close_is_whole_in_one_rtt_packets() -> None:
    reason = CloseReason(77, True, False, "wörd", None)
    assert frame(reason, APPLICATION) == ("APPLICATION_CLOSE", (77, "wörd".encode()))


@pytest.mark.parametrize("space", [INITIAL, HANDSHAKE, APPLICATION])
def test_a_transport_close_is_the_same_everywhere(space: int) -> None:
    reason = CloseReason(PROTOCOL_VIOLATION, False, False, "why", 6)
    assert frame(reason, space) == ("TRANSPORT_CLOSE", (PROTOCOL_VIOLATION, 6, b"why"))
    assert frame(CloseReason(1, False, False, "", None), space) == ("TRANSPORT_CLOSE", (1, 0, b""))


def test_reasons_are_cut_and_codes_are_kept_in_range() -> None:
    """Three packets with the reason have to fit one datagram; misuse must not fail while closing."""
    _, fields = frame(CloseReason(5, False, False, "x" * 5000, 0), INITIAL)
    assert fields[2] == b"x" * REASON_MAX_SIZE
    assert frame(CloseReason(1 << 70, True, False, "", None), APPLICATION)[1][0] == UINT_VAR_MAX
    assert frame(CloseReason(-1, True, False, "", None), APPLICATION)[1][0] == 0
    assert frame(CloseReason(1, True, False, "\udcff", None), APPLICATION)[1][1] == b"?"


# --- the packets ------------------------------------------------------------------------------------------------------


def test_a_client_without_an_answer_closes_in_an_initial_packet() -> None:
    rude = RudePeer(victim_is_client=True).to_initial()
    rude.victim.close(3, None, "never mind")
    assert sent(rude) == [(EPOCH_INITIAL, "TRANSPORT_CLOSE", (APPLICATION_ERROR, 0, b""))]
    assert len(rude.datagrams[-1]) == 1200  # RFC 9000 §14.1


def test_in_the_handshake_the_close_goes_into_every_space_of_one_datagram() -> None:
    """RFC 9000 §10.2.3: nobody knows which keys the peer has."""
    rude = RudePeer(victim_is_client=False).to_handshake()
    rude.listen()
    rude.forget()
    rude.victim.close(3, None, "bye")
    closes = sent(rude)
    assert closes[:2] == [
        (EPOCH_INITIAL, "TRANSPORT_CLOSE", (APPLICATION_ERROR, 0, b"")),
        (EPOCH_HANDSHAKE, "TRANSPORT_CLOSE", (APPLICATION_ERROR, 0, b"")),
    ]
    assert len(rude.datagrams) == 1
    assert len(rude.datagrams[0]) == 1200


def test_after_the_handshake_one_short_packet_is_enough() -> None:
    rude = RudePeer(victim_is_client=False).to_confirmed()
    rude.forget()
    rude.victim.close(3, None, "bye")
    assert sent(rude) == [(EPOCH_ONE_RTT, "APPLICATION_CLOSE", (3, b"bye"))]
    assert len(rude.datagrams) == 1
    assert len(rude.datagrams[0]) < 100


def test_an_ack_goes_before_the_close() -> None:
    """The ACK that a delay was holding back would never be sent."""
    rude = RudePeer(victim_is_client=False).to_confirmed()
    rude.forget()
    rude.send(EPOCH_ONE_RTT, b"\x01", number=2000)
    rude.forget()
    rude.victim.close(0)
    rude.listen()
    ((_, _, frames),) = rude.received
    assert [name for name, _ in frames] == ["ACK", "APPLICATION_CLOSE"]
    assert 2000 in range(*frames[0][1][0][:2])


def test_nothing_is_sent_twice_without_a_reason() -> None:
    rude = RudePeer(victim_is_client=False).to_confirmed()
    rude.victim.close(0)
    assert rude.victim.next_transmit(rude.now) is not None
    assert rude.victim.next_transmit(rude.now) is None
    assert rude.victim.next_transmit(rude.now + 0.01) is None


def test_what_still_arrives_is_answered_ever_more_rarely() -> None:
    """RFC 9000 §10.2.1; with packet numbers that go on."""
    rude = RudePeer(victim_is_client=False).to_confirmed()
    rude.victim.close(0)
    rude.listen()
    rude.forget()
    answered = []
    for number in range(1, 40):
        rude.send(EPOCH_ONE_RTT, b"\x01")
        if rude.received:
            answered.append(number)
            rude.forget()
    assert answered == [1, 3, 6, 11, 20, 37]


def test_the_closing_period_ends_after_three_probe_timeouts() -> None:
    rude = RudePeer(victim_is_client=False).to_confirmed()
    rude.victim.send_stream_data(1, b"in flight")
    rude.listen()
    rude.send(EPOCH_ONE_RTT, b"\x01", number=5000)
    rude.victim.close(0)
    rude.listen()
    timer = rude.victim.get_timer()
    assert timer is not None
    assert timer - rude.now == pytest.approx(3 * rude.victim._parts.pto())
    rude.victim.handle_timer(timer - 0.001)
    assert rude.victim.statistics().probe_timeouts == 0  # nothing is sent again meanwhile
    rude.victim.handle_timer(timer)
    assert rude.victim.is_terminated
    assert rude.victim.next_transmit(timer) is None


def test_a_close_that_the_amplification_limit_forbids_is_not_sent() -> None:
    """RFC 9000 §8.1. The closing period runs all the same, and a further datagram makes room."""
    rude = RudePeer(victim_is_client=False).to_handshake()
    rude.listen()
    rude.forget()
    path = rude.victim._parts.paths.active
    path.is_validated = False
    path.bytes_sent = 3 * path.bytes_received - 1199
    rude.victim.close(0)
    rude.listen()
    assert rude.datagrams == []
    assert rude.victim.get_timer() is not None
    rude.send(EPOCH_INITIAL, b"\x01")
    assert len(rude.datagrams) == 1
    assert path.bytes_sent <= 3 * path.bytes_received


def test_without_keys_there_is_nothing_to_say() -> None:
    rude = RudePeer(victim_is_client=True).to_initial()
    rude.forget()
    rude.victim._parts.discard_space(INITIAL)
    rude.victim.close(0)
    rude.listen()
    assert rude.datagrams == []


def test_observers_see_the_close() -> None:
    rude = RudePeer(victim_is_client=False).to_confirmed()
    capture = Capture()
    rude.victim.observe(capture)
    rude.victim.close(0)
    rude.listen()
    assert [packet.epoch for packet in capture.sent("APPLICATION_CLOSE")] == ["ONE_RTT"]
