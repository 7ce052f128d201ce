"""From frames to components: the loop, its tables, and what each frame does (RFC 9000 §12.4, §19)."""

from __future__ import annotations

from typing import Any

import pytest

from quicio.quic.connection import QuicConnection
from quicio.quic.dispatch import EARLY_STREAMS_SLACK, HANDLERS, MAX_TOKENS_HELD, Dispatcher
from quicio.quic.events import (
    DatagramFrameReceived,
    StopSendingReceived,
    StreamReset,
)
from quicio.quic.wire.constants import (
    APPLICATION,
    DATAGRAM,
    EPOCH_HANDSHAKE,
    EPOCH_ONE_RTT,
    EPOCH_ZERO_RTT,
    FRAME_ENCODING_ERROR,
    HANDSHAKE,
    PADDING,
    PROTOCOL_VIOLATION,
    QuicConnectionError,
)
from quicio.quic.wire.frames import ACK_ELICITING, ALLOWED, FRAME_TYPES, IN_HANDSHAKE, IN_INITIAL, IN_ONE_RTT
from sim.rude import RudePeer, stream_frame, varint
from sim.world import World

PING = b"\x01"


def confirmed(victim_is_client: bool = False, **victim: Any) -> RudePeer:
    rude = RudePeer(victim_is_client=victim_is_client, victim=victim).to_confirmed()
    rude.forget()
    return rude


def dispatcher(rude: RudePeer) -> Dispatcher:
    made = rude.victim._dispatcher
    made.space = APPLICATION
    made.now = rude.now
    made.path = rude.victim._parts.paths.active
    return made


def events(rude: RudePeer, kind: type) -> list[Any]:
    found = []
    while (event := rude.victim.next_event()) is not None:
        if isinstance(event, kind):
            found.append(event)
    return found


def error_of(rude: RudePeer, payload: bytes, allowed: int = IN_ONE_RTT) -> tuple[int, int | None]:
    with pytest.raises(QuicConnectionError) as caught:
        dispatcher(rude).dispatch(payload, allowed)
    return caught.value.error_code, caught.value.frame_type


# --- the loop ---------------------------------------------------------------------------------------------------------


def test_a_packet_holds_at_least_one_frame() -> None:
    """RFC 9000 §12.4."""
    assert error_of(confirmed(), b"") == (PROTOCOL_VIOLATION, PADDING)


@pytest.mark.parametrize(
    ("payload", "eliciting", "probing"),
    [
        (bytes(20), False, True),
        (b"\x02\x00\x00\x00\x00", False, False),
        (PING, True, False),
        (b"\x1a12345678" + bytes(10), True, True),
        (b"\x1b12345678", True, True),
        (b"\x1a12345678" + PING, True, False),
        (bytes(5) + PING + bytes(5), True, False),
    ],
)
def test_what_a_packet_is_follows_from_all_its_frames(payload: bytes, eliciting: bool, probing: bool) -> None:
    """RFC 9000 §9.1, RFC 9002 §2; and padding may stand anywhere."""
    rude = confirmed()
    dispatching = dispatcher(rude)
    dispatching.dispatch(payload, IN_ONE_RTT)
    assert (dispatching.is_eliciting, dispatching.is_probing) == (eliciting, probing)


def test_a_frame_where_it_may_not_stand_is_a_violation() -> None:
    """RFC 9000 §12.4, table 3."""
    rude = confirmed()
    assert error_of(rude, stream_frame(0, 0, b"x"), IN_INITIAL) == (PROTOCOL_VIOLATION, 0x0E)
    assert error_of(rude, b"\x1d\x00\x00", IN_HANDSHAKE) == (PROTOCOL_VIOLATION, 0x1D)


@pytest.mark.parametrize(
    ("payload", "told"),
    [(b"\x1f", 0x1F), (b"\x3f", 0x3F), (b"\x40\x01", 1), (varint(0x4321), 0x4321), (b"\xc0", PADDING)],
)
def test_an_unknown_frame_is_an_encoding_error_that_names_it(payload: bytes, told: int) -> None:
    """RFC 9000 §12.4: a known type in more bytes than it needs is unknown too."""
    assert error_of(confirmed(), payload) == (FRAME_ENCODING_ERROR, told)


def test_what_stood_before_a_bad_frame_stays_done() -> None:
    rude = confirmed()
    rude.send(EPOCH_ONE_RTT, stream_frame(0, 0, b"good"), b"\x1f")
    assert rude.close_code() == FRAME_ENCODING_ERROR
    assert rude.victim._parts.streams.streams  # the stream was opened


def test_row_26_streams_of_early_data_are_not_remembered_for_ever() -> None:
    """Row 26: a client may send 0-RTT packets until its handshake times out, and gets the places of its streams back."""
    rude = RudePeer(victim_is_client=False).to_handshake().allow_zero_rtt()
    rude.victim._parts.handshake.is_readable = True  # as when early data was accepted
    early = dispatcher(rude).early_streams
    limit = rude.victim.configuration.max_streams_uni
    for index in range(8 * EARLY_STREAMS_SLACK):
        stream_id = 2 | index << 2
        rude.send(EPOCH_ZERO_RTT, stream_frame(stream_id, 0, b"x", True))
        assert stream_id in early
        rude.victim._parts.streams.counts.peer[1].limit = index + limit  # the peer was told in 0.5-RTT packets
        rude.drain_events()
    assert len(early) <= EARLY_STREAMS_SLACK + 1
    assert rude.victim.close_reason is None


def test_every_type_has_a_handler() -> None:
    assert len(HANDLERS) == FRAME_TYPES
    known = {kind for kind in range(FRAME_TYPES) if ALLOWED[kind]}
    special = {PADDING, *range(0x08, 0x10)}
    assert {kind for kind in known - special if HANDLERS[kind] is HANDLERS[0x20]} == {0x01}  # PING: nothing to do
    assert not ACK_ELICITING[PADDING]


# --- one frame after the other ----------------------------------------------------------------------------------------


def test_an_ack_settles_what_was_sent_and_counts_its_delay() -> None:
    rude = confirmed()
    rude.victim.send_ping(1)
    sent = rude.now
    ((data, _),) = rude.victim.datagrams_to_send(rude.now)
    assert data
    rude.now = sent + 0.5
    number = rude.victim._parts.loss.spaces[APPLICATION].next_number - 1
    rude.send(EPOCH_ONE_RTT, b"\x02" + varint(number) + varint(2500) + varint(0) + varint(0))
    rtt = rude.victim._parts.paths.active.rtt
    assert rtt.latest == pytest.approx(0.5 - 2500 * 8e-6, abs=0.021)
    assert rude.victim._parts.loss.spaces[APPLICATION].eliciting_in_flight == 0


def test_delays_of_the_handshakes_spaces_do_not_count() -> None:
    """RFC 9002 §5.3."""
    rude = RudePeer(victim_is_client=False).to_handshake()
    rude.now += 0.2
    number = rude.victim._parts.loss.spaces[HANDSHAKE].next_number - 1
    rude.send(EPOCH_HANDSHAKE, b"\x02" + varint(number) + varint(20000) + varint(0) + varint(0))
    assert rude.victim._parts.paths.active.rtt.latest == pytest.approx(0.2)


def test_an_ack_of_the_new_phase_lets_keys_be_updated_again() -> None:
    """RFC 9001 §6.1."""
    world = World(1)
    client, server = world.establish()
    for number in (1, 2, 3):
        world.run(limit=1.0)
        client.connection.request_key_update()
        for _ in range(2):  # an update may wait for the first one's acknowledgement
            client.connection.send_ping(number)
            world.run(limit=1.0)
        assert client.connection.statistics().key_updates == server.connection.statistics().key_updates == number


def test_stop_sending_is_told_and_answered_with_a_reset() -> None:
    rude = confirmed()
    rude.victim.send_stream_data(1, b"data")
    rude.listen()
    rude.forget()
    rude.send(EPOCH_ONE_RTT, b"\x05" + varint(1) + varint(9))
    assert events(rude, StopSendingReceived) == [StopSendingReceived(error_code=9, stream_id=1)]
    assert rude.frames("RESET_STREAM") == [(1, 9, 4)]


def test_a_reset_is_told() -> None:
    rude = confirmed()
    rude.send(EPOCH_ONE_RTT, b"\x04" + varint(0) + varint(7) + varint(0))
    assert events(rude, StreamReset) == [StreamReset(error_code=7, stream_id=0)]


@pytest.mark.parametrize(
    ("changes", "frame"),
    [
        ({"max_data": 1000}, b"\x10" + varint(1500)),
        ({"max_stream_data": 1000}, b"\x11" + varint(0) + varint(1500)),
    ],
)
def test_credit_lets_data_go_on(changes: dict[str, int], frame: bytes) -> None:
    """MAX_DATA and MAX_STREAM_DATA."""
    rude = RudePeer(victim_is_client=True, carrier=changes).to_confirmed()
    rude.forget()
    rude.victim.send_stream_data(0, bytes(3000))
    rude.listen()
    assert sum(len(fields[2]) for fields in rude.frames("STREAM")) == 1000
    rude.send(EPOCH_ONE_RTT, frame)
    assert sum(len(fields[2]) for fields in rude.frames("STREAM")) == 1500


@pytest.mark.parametrize(("kind", "is_unidirectional"), [(b"\x12", False), (b"\x13", True)])
def test_credit_lets_streams_be_opened(kind: bytes, is_unidirectional: bool) -> None:
    """MAX_STREAMS of both kinds."""
    rude = RudePeer(victim_is_client=True, carrier={"max_streams_bidi": 2, "max_streams_uni": 2}).to_confirmed()
    assert [rude.victim.open_stream(is_unidirectional) is None for _ in range(3)] == [False, False, True]
    rude.send(EPOCH_ONE_RTT, kind + varint(3))
    assert [rude.victim.open_stream(is_unidirectional) is None for _ in range(2)] == [False, True]
    assert rude.victim.open_stream(not is_unidirectional) is not None


@pytest.mark.parametrize(
    "frame",
    [
        b"\x14" + varint(100),
        b"\x15" + varint(0) + varint(100),
        b"\x16" + varint(100),
        b"\x17" + varint(100),
    ],
)
def test_a_peer_that_is_blocked_is_heard(frame: bytes) -> None:
    rude = confirmed()
    rude.send(EPOCH_ONE_RTT, stream_frame(0, 0, b"x"), frame)
    assert rude.victim.close_reason is None
    assert rude.frames("ACK")


def test_tokens_reach_the_handler_and_are_bounded() -> None:
    """RFC 9000 §8.1.3; security.md row 2."""
    rude = confirmed(True)
    handed: list[bytes] = []
    rude.victim._token_handler = handed.append
    frames = [b"\x07" + varint(2) + b"%2d" % number for number in range(MAX_TOKENS_HELD + 3)]
    rude.send(EPOCH_ONE_RTT, *frames)
    assert handed == [b"%2d" % number for number in range(MAX_TOKENS_HELD)]
    rude.send(EPOCH_ONE_RTT, frames[0])
    assert handed[-1] == b" 0"
    assert rude.victim._dispatcher.new_tokens == []
    rude.victim._token_handler = None
    rude.send(EPOCH_ONE_RTT, frames[0])
    assert rude.victim._dispatcher.new_tokens == []


def test_servers_are_not_given_tokens() -> None:
    """RFC 9000 §19.7."""
    assert error_of(confirmed(), b"\x07\x01t") == (PROTOCOL_VIOLATION, 0x07)


def test_connection_ids_come_and_go() -> None:
    rude = confirmed()
    parts = rude.victim._parts
    known = sorted(parts.connection_ids.peer)
    new = max(known) + 1
    frame = b"\x18" + varint(new) + varint(new) + b"\x08" + b"brandnew" + bytes(16)
    rude.send(EPOCH_ONE_RTT, frame)
    assert list(parts.connection_ids.peer) == [new]
    assert parts.paths.active.peer_cid == b"brandnew"  # the one in use was retired: another is taken
    assert len(parts.connection_ids.local_cids()) == 8


def test_an_id_of_ours_is_retired_and_replaced() -> None:
    rude = confirmed()
    ids = rude.victim._parts.connection_ids
    before = ids.local_cids()
    used = rude.carrier._parts.paths.active.peer_cid_sequence
    victim = next(number for number in range(8) if number != used)
    rude.send(EPOCH_ONE_RTT, b"\x19" + varint(victim))
    after = ids.local_cids()
    assert len(after) == 8
    assert before[victim] not in after


def test_a_challenge_is_answered_and_an_answer_is_matched() -> None:
    rude = confirmed()
    rude.send(EPOCH_ONE_RTT, b"\x1aquestion")
    assert rude.frames("PATH_RESPONSE") == [(b"question",)]
    path = rude.victim._parts.paths.active
    path.challenges = [b"12345678"]
    rude.send(EPOCH_ONE_RTT, b"\x1b12345678")
    assert path.challenges == []


def test_datagrams_are_handed_out() -> None:
    rude = confirmed()
    rude.send(EPOCH_ONE_RTT, b"\x31\x03one", b"\x30two")
    assert [event.data for event in events(rude, DatagramFrameReceived)] == [b"one", b"two"]


def test_a_datagram_counts_with_its_header() -> None:
    """RFC 9221 §3: the limit is for the whole frame."""
    rude = confirmed(max_datagram_frame_size=10)
    rude.send(EPOCH_ONE_RTT, b"\x31" + varint(8) + bytes(8))
    assert rude.close_code() is None
    rude.send(EPOCH_ONE_RTT, b"\x31" + varint(9) + bytes(9))
    assert rude.close_code() == PROTOCOL_VIOLATION
    assert rude.frames("TRANSPORT_CLOSE")[0][1] == DATAGRAM


@pytest.mark.parametrize(
    ("frame", "code", "is_application", "reason", "cause"),
    [
        (b"\x1c\x0a\x06\x03why", 10, False, "why", 6),
        (b"\x1d\x2a\x02\xc3\xa4", 42, True, "ä", None),
        (b"\x1d\x00\x02\xff\xfe", 0, True, "��", None),
    ],
)
def test_the_peers_close_is_told_whole(
    frame: bytes, code: int, is_application: bool, reason: str, cause: int | None
) -> None:
    """RFC 9000 §19.19: a reason that is no UTF-8 harms nobody."""
    rude = confirmed()
    rude.send(EPOCH_ONE_RTT, frame)
    found = rude.victim.close_reason
    assert found is not None
    assert (found.code, found.is_application, found.by_peer) == (code, is_application, True)
    assert (found.reason, found.frame_type) == (reason, cause)


# --- while closing ----------------------------------------------------------------------------------------------------


def closing() -> QuicConnection:
    rude = confirmed()
    rude.victim.close(1)
    rude.listen()
    return rude.victim


@pytest.mark.parametrize(
    ("payload", "is_draining"),
    [
        (b"\x1d\x00\x00", True),
        (b"\x1c\x00\x00\x00", True),
        (bytes(3) + b"\x02\x00\x00\x00\x00" + b"\x03\x00\x00\x00\x00\x00\x00\x00" + b"\x1d\x00\x00", True),
        (PING + b"\x1d\x00\x00", False),
        (bytes(10), False),
    ],
)
def test_while_closing_only_the_peers_close_matters(payload: bytes, is_draining: bool) -> None:
    """RFC 9000 §10.2.1: it stands behind ACK and PADDING at most."""
    connection = closing()
    connection._dispatcher.dispatch_closing(payload, IN_ONE_RTT)
    assert (connection.state.name == "DRAINING") == is_draining


def test_an_applications_close_does_not_count_in_the_handshake() -> None:
    connection = closing()
    connection._dispatcher.dispatch_closing(b"\x1d\x00\x00", IN_HANDSHAKE)
    assert connection.state.name == "CLOSING"
