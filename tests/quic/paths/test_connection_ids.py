"""Connection IDs of both sides (RFC 9000 §5.1, §19.15, §19.16)."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.recovery import make_path
from quicio.quic.component import Wants
from quicio.quic.events import ConnectionIdIssued, ConnectionIdRetired, QuicEvent
from quicio.quic.paths.connection_ids import (
    ACTIVE_CONNECTION_ID_LIMIT,
    MAX_PENDING_RETIREMENTS,
    ConnectionIdIssuer,
    ConnectionIds,
)
from quicio.quic.wire.constants import (
    APPLICATION,
    APPLICATION_BIT,
    CONNECTION_ID_LIMIT_ERROR,
    FRAME_ENCODING_ERROR,
    FULL,
    PROTOCOL_VIOLATION,
    QuicConnectionError,
)
from quicio.quic.wire.frames import decode_new_connection_id, decode_retire_connection_id
from quicio.quic.wire.packet_builder import PacketBuilder


class CountingIssuer(ConnectionIdIssuer):
    """IDs 0, 1, 2, …; remembers what was retired."""

    def __init__(self, length: int = 8) -> None:
        super().__init__(length, bytes)
        self.count = 0
        self.retired: list[bytes] = []

    def issue(self) -> tuple[bytes, bytes]:
        self.count += 1
        return self.count.to_bytes(self.length, "big"), self.count.to_bytes(16, "big")

    def retire(self, cid: bytes) -> None:
        self.retired.append(cid)


def make(length: int = 8) -> tuple[ConnectionIds, CountingIssuer, deque[QuicEvent]]:
    events: deque[QuicEvent] = deque()
    issuer = CountingIssuer(length) if length else CountingIssuer(0)
    if not length:
        issuer.issue = lambda: (b"", bytes(16))  # type: ignore[method-assign]  # the issuer is the test's own
    return ConnectionIds(Wants(), events, issuer), issuer, events


def write(ids: ConnectionIds, room: int = 1000) -> PacketBuilder:
    builder = PacketBuilder(make_path())
    builder.begin(APPLICATION, builder.path, FULL, room)
    ids.write(builder, 0.0)
    return builder


def new(ids: ConnectionIds, sequence: int, retire_prior_to: int = 0, cid: bytes | None = None) -> bool:
    return ids.on_new_frame(sequence, retire_prior_to, cid or b"peer-%d" % sequence, b"%16d" % sequence)


def test_random_ids_have_the_length_asked_for() -> None:
    issuer = ConnectionIdIssuer(12, lambda size: b"r" * size)
    assert issuer.issue() == (b"r" * 12, b"r" * 16)
    issuer.retire(b"")


def test_ids_are_issued_up_to_the_peers_limit_and_announced_once() -> None:
    ids, _, events = make()
    ids.on_peer_limit(4)
    ids.replenish()
    issued = [event.connection_id for event in events if isinstance(event, ConnectionIdIssued)]
    assert len(issued) == 3
    assert ids.local_cids() == [ids.host_cid, *issued]
    assert ids.is_local(issued[0])
    assert not ids.is_local(b"unknown")
    builder = write(ids)
    frames = [decode_new_connection_id(frame, 1)[:4] for frame in builder.pieces]
    assert [(sequence, cid) for sequence, _, cid, _ in frames] == list(zip((1, 2, 3), issued, strict=True))
    assert ids.pending == 0
    ids.replenish()
    assert not write(ids).pieces


def test_the_peers_limit_is_capped_by_our_own() -> None:
    """security.md row 3."""
    ids, _, _ = make()
    ids.on_peer_limit(1 << 40)
    ids.replenish()
    assert len(ids.local_cids()) == ACTIVE_CONNECTION_ID_LIMIT


def test_zero_length_ids_are_never_followed_by_others() -> None:
    ids, _, _ = make(0)
    ids.on_peer_limit(8)
    ids.replenish()
    assert ids.local_cids() == [b""]


def test_a_lost_frame_is_written_again_until_its_id_is_retired() -> None:
    ids, issuer, events = make()
    ids.on_peer_limit(3)
    ids.replenish()
    tokens = write(ids).tokens
    ids.on_lost(tokens[0], 1.0)
    ids.on_lost(tokens[0], 1.0)  # offered once, however often it is reported
    assert len(write(ids).pieces) == 1
    ids.on_probe(tokens[1], 1.0)
    assert ids.pending == APPLICATION_BIT
    ids.on_retire_frame(2, ids.host_cid)
    assert isinstance(events[-2], ConnectionIdRetired)
    assert isinstance(events[-1], ConnectionIdIssued)
    frames = [decode_new_connection_id(frame, 1)[0] for frame in write(ids).pieces]
    assert frames == [3]  # 2 is gone, 3 takes its place
    ids.on_lost(tokens[1], 1.0)
    assert not write(ids).pieces
    assert issuer.retired == [(3).to_bytes(8, "big")]
    ids.on_retire_frame(2, ids.host_cid)  # a repeated frame
    assert issuer.retired == [(3).to_bytes(8, "big")]


def test_row_03_what_was_lost_and_then_retired_does_not_wait_with_its_replacement() -> None:
    """Row 3: a frame taken for lost had arrived: the peer retires its ID while it waits to be sent again."""
    ids, _, _ = make()
    ids.on_peer_limit(ACTIVE_CONNECTION_ID_LIMIT)
    ids.replenish()
    for token in write(ids).tokens:
        ids.on_lost(token, 0.0)
    for sequence in range(1, ACTIVE_CONNECTION_ID_LIMIT):
        ids.on_retire_frame(sequence, b"")
        assert len(ids._to_issue) == ACTIVE_CONNECTION_ID_LIMIT - 1
    assert sorted(ids._to_issue) == [number for number, _ in ids.numbered_cids() if number]


def test_frames_wait_for_room() -> None:
    ids, _, _ = make()
    ids.on_peer_limit(3)
    ids.replenish()
    assert not write(ids, 10).pieces
    assert ids.pending == APPLICATION_BIT
    ids.set_initial_peer_cid(b"peer-0")
    new(ids, 1, 1)
    assert len(write(ids, 57).pieces) == 2
    assert ids.pending == APPLICATION_BIT
    assert len(write(ids, 2).pieces) == 1  # RETIRE_CONNECTION_ID
    assert ids.pending == 0


def test_a_retirement_waits_for_room() -> None:
    ids, _, _ = make()
    ids.set_initial_peer_cid(b"peer-0")
    new(ids, 1, 1)
    assert not write(ids, 1).pieces
    assert ids.pending == APPLICATION_BIT


@pytest.mark.parametrize(("sequence", "arrived_on"), [(5, 0), (0, 0)])
def test_the_peer_cannot_retire_what_it_should_not(sequence: int, arrived_on: int) -> None:
    """An ID that was never issued, and the one that the packet came with."""
    ids, _, _ = make()
    with pytest.raises(QuicConnectionError) as caught:
        ids.on_retire_frame(sequence, ids.local_cids()[arrived_on])
    assert caught.value.error_code == PROTOCOL_VIOLATION


def test_the_end_retires_everything_without_an_event() -> None:
    ids, issuer, events = make()
    ids.on_peer_limit(3)
    ids.replenish()
    events.clear()
    ids.retire_all()
    assert len(issuer.retired) == 3
    assert not events
    assert ids.pending == 0


def test_the_peers_ids_are_held_and_retired_in_turn() -> None:
    ids, _, _ = make()
    ids.set_initial_peer_cid(b"peer-0", b"t" * 16)
    assert not new(ids, 1)
    assert not new(ids, 2)
    spare = ids.spare({0})
    assert spare is not None
    assert spare.sequence == 1
    assert ids.spare({0, 1, 2}) is None
    assert ids.reset_tokens() == [b"t" * 16]  # those of IDs not used yet do not count (RFC 9000 §10.3.1)
    ids.use(spare)
    assert len(ids.reset_tokens()) == 2
    assert new(ids, 3, 2)  # 0 and 1 have to go
    assert sorted(ids.peer) == [2, 3]
    builder = write(ids)
    assert [decode_retire_connection_id(frame, 1)[0] for frame in builder.pieces] == [0, 1]
    ids.on_lost(builder.tokens[0], 1.0)
    again = write(ids)
    assert [decode_retire_connection_id(frame, 1)[0] for frame in again.pieces] == [0]
    ids.on_acked(builder.tokens[0], 1.0)
    ids.on_lost(again.tokens[0], 1.0)
    assert not write(ids).pieces


def test_a_repeated_frame_does_not_bring_back_what_was_retired() -> None:
    ids, _, _ = make()
    ids.set_initial_peer_cid(b"peer-0")
    new(ids, 1)
    ids.retire_peer(1)
    ids.retire_peer(1)
    builder = write(ids)
    assert len(builder.pieces) == 1
    ids.on_acked(builder.tokens[0], 1.0)
    new(ids, 1)
    assert sorted(ids.peer) == [0]
    assert not write(ids).pieces


def test_an_id_that_comes_below_retire_prior_to_is_retired_at_once() -> None:
    ids, _, _ = make()
    ids.set_initial_peer_cid(b"peer-0")
    new(ids, 5, 5)
    new(ids, 3, 0)
    assert sorted(ids.peer) == [5]
    assert [decode_retire_connection_id(frame, 1)[0] for frame in write(ids).pieces] == [0, 3]


@pytest.mark.parametrize(
    ("sequence", "retire_prior_to", "cid", "code"),
    [
        (1, 2, b"x", FRAME_ENCODING_ERROR),
        (1, 0, bytes(21), FRAME_ENCODING_ERROR),
        (0, 0, b"other", PROTOCOL_VIOLATION),
        (7, 0, b"peer-0", PROTOCOL_VIOLATION),
    ],
)
def test_malformed_and_contradictory_frames(sequence: int, retire_prior_to: int, cid: bytes, code: int) -> None:
    ids, _, _ = make()
    ids.set_initial_peer_cid(b"peer-0", b"%16d" % 0)
    with pytest.raises(QuicConnectionError) as caught:
        ids.on_new_frame(sequence, retire_prior_to, cid, b"%16d" % sequence)
    assert caught.value.error_code == code


def test_a_peer_without_an_id_cannot_issue_any() -> None:
    ids, _, _ = make()
    ids.set_initial_peer_cid(b"")
    with pytest.raises(QuicConnectionError) as caught:
        new(ids, 1)
    assert caught.value.error_code == PROTOCOL_VIOLATION


def test_more_ids_than_the_limit_are_an_error() -> None:
    """security.md row 3."""
    ids, _, _ = make()
    ids.set_initial_peer_cid(b"peer-0")
    for sequence in range(1, ACTIVE_CONNECTION_ID_LIMIT):
        new(ids, sequence)
    with pytest.raises(QuicConnectionError) as caught:
        new(ids, ACTIVE_CONNECTION_ID_LIMIT)
    assert caught.value.error_code == CONNECTION_ID_LIMIT_ERROR


def test_retirements_waiting_for_an_acknowledgement_are_bounded() -> None:
    """security.md row 3: a peer that never acknowledges RETIRE_CONNECTION_ID cannot make us queue for ever."""
    ids, _, _ = make()
    ids.set_initial_peer_cid(b"peer-0")
    with pytest.raises(QuicConnectionError) as caught:
        for sequence in range(1, 2 * MAX_PENDING_RETIREMENTS):
            new(ids, sequence, sequence)
            write(ids)
    assert caught.value.error_code == CONNECTION_ID_LIMIT_ERROR
    assert len(ids.peer) <= ACTIVE_CONNECTION_ID_LIMIT + 1


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=60))
def test_any_sequence_of_frames_ends_and_stays_within_limits(frames: list[tuple[int, int]]) -> None:
    """security.md row 4: Retire Prior To never loops, whatever its values."""
    ids, _, _ = make()
    ids.set_initial_peer_cid(b"peer-0", b"%16d" % 0)
    for sequence, retire_prior_to in frames:
        try:
            new(ids, sequence, retire_prior_to)
        except QuicConnectionError:
            return
        assert len(ids.peer) <= ACTIVE_CONNECTION_ID_LIMIT
        assert all(known >= min(retire_prior_to, sequence) or known >= 0 for known in ids.peer)
        write(ids)
