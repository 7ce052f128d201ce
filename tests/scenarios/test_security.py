"""One connection under attack: the rows of `docs/security.md` about what a peer with keys can do.

Each test names its row, presses on one limit and fails when that limit is raised. What concerns paths, endpoints and peers
without keys is in `test_security_endpoint.py`, rows 25 to 30 are in `test_security_lifetime.py`; rows 13 and 15 are in
`tests/fuzz` and `test_protocol_checks.py` too.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quicio.quic.crypto_stream import MAX_CRYPTO_BUFFER, MAX_CRYPTO_FRAGMENTS
from quicio.quic.events import StreamDataReceived
from quicio.quic.paths.connection_ids import ACTIVE_CONNECTION_ID_LIMIT, MAX_PENDING_RETIREMENTS, MAX_SEQUENCE_GAPS
from quicio.quic.recovery.acks import MAX_RECEIVED_RANGES
from quicio.quic.recovery.sent_packets import MAX_SKIPPED_NUMBERS
from quicio.quic.streams.limits import RESET_BURST, RESETS_PER_SECOND
from quicio.quic.streams.reassembly import MAX_CONNECTION_FRAGMENTS, MAX_FRAGMENTS, SMALL_PIECE
from quicio.quic.wire.constants import (
    APPLICATION,
    CONNECTION_ID_LIMIT_ERROR,
    CRYPTO_BUFFER_EXCEEDED,
    CRYPTO_ERROR,
    EPOCH_HANDSHAKE,
    EPOCH_INITIAL,
    EPOCH_ONE_RTT,
    FRAME_ENCODING_ERROR,
    HANDSHAKE,
    INTERNAL_ERROR,
    PROTOCOL_VIOLATION,
)
from quicio.quic.wire.frames import MAX_ACK_RANGES
from quicio.tls.constants import MAX_FINISHED_SIZE, MAX_SERVER_HELLO_SIZE, MAX_TICKETS
from quicio.tls.messages import NewSessionTicket
from sim.bounds import check_bounds
from sim.rude import RudePeer, crypto_frame, stream_frame, varint
from sim.world import World

BOTH = pytest.mark.parametrize("victim_is_client", [False, True], ids=["server", "client"])
RESET_TOKEN = bytes(range(16))


def confirmed(victim_is_client: bool, **victim: object) -> RudePeer:
    rude = RudePeer(victim_is_client=victim_is_client, victim=victim).to_confirmed()
    rude.forget()
    return rude


def new_connection_id(sequence: int, retire_prior_to: int = 0) -> bytes:
    cid = b"\x08" + (sequence + 0xABCD0000).to_bytes(8, "big")
    return b"\x18" + varint(sequence) + varint(retire_prior_to) + cid + RESET_TOKEN


def retirement(sequence: int) -> bytes:
    return b"\x19" + varint(sequence)


def unread_peer(stream_id: int, victim_is_client: bool) -> int:
    """The ID of a stream that the rude peer opens."""
    return stream_id | (1 if victim_is_client else 0)


# --- row 1: CRYPTO ---------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("epoch", [EPOCH_INITIAL, EPOCH_HANDSHAKE, EPOCH_ONE_RTT])
def test_row_01_pieces_of_crypto_are_counted(victim_is_client: bool, epoch: int) -> None:
    """Row 1, `MAX_CRYPTO_FRAGMENTS`: one-byte pieces with holes between them."""
    rude = RudePeer(victim_is_client=victim_is_client)
    {EPOCH_INITIAL: rude.to_initial, EPOCH_HANDSHAKE: rude.to_handshake, EPOCH_ONE_RTT: rude.to_confirmed}[epoch]()
    pieces = [crypto_frame(10_000 + 2 * index, b"x") for index in range(MAX_CRYPTO_FRAGMENTS + 1)]
    rude.send(epoch, *pieces[:-1])
    check_bounds(rude.victim)
    assert rude.close_code() is None
    rude.send(epoch, pieces[-1])
    assert rude.close_code() == CRYPTO_BUFFER_EXCEEDED
    check_bounds(rude.victim)


@BOTH
def test_row_01_bytes_of_crypto_are_counted(victim_is_client: bool) -> None:
    """Row 1, `MAX_CRYPTO_BUFFER`: data far ahead, and much data that overlaps."""
    rude = RudePeer(victim_is_client=victim_is_client).to_handshake()
    rude.send(EPOCH_HANDSHAKE, crypto_frame(MAX_CRYPTO_BUFFER - 1, b"x"))
    assert rude.close_code() is None
    rude.send(EPOCH_HANDSHAKE, crypto_frame(MAX_CRYPTO_BUFFER, b"x"))
    assert rude.close_code() == CRYPTO_BUFFER_EXCEEDED

    rude = RudePeer(victim_is_client=victim_is_client).to_handshake()
    for index in range(MAX_CRYPTO_BUFFER // 1000 + 1):
        rude.send(EPOCH_HANDSHAKE, crypto_frame(1000 + index, bytes(1000)))
    assert rude.close_code() == CRYPTO_BUFFER_EXCEEDED
    check_bounds(rude.victim)


def test_row_01_a_client_has_nothing_to_say_in_crypto_after_its_finished() -> None:
    """Row 1: NewSessionTicket is a server's; whatever a client sends is unexpected from its first four bytes on."""
    rude = confirmed(False)
    rude.send(EPOCH_ONE_RTT, crypto_frame(0, b"\x04\x00\x10\x00"))
    assert rude.close_code() == CRYPTO_ERROR + 10


@BOTH
def test_row_01_a_tls_message_that_announces_too_much_is_refused_before_it_comes(victim_is_client: bool) -> None:
    """Row 1, `SIZE_LIMITS`: four bytes of header are enough."""
    kind, limit = (2, MAX_SERVER_HELLO_SIZE) if victim_is_client else (20, MAX_FINISHED_SIZE)
    rude = RudePeer(victim_is_client=victim_is_client)
    if victim_is_client:
        rude.to_initial()
    else:
        rude.to_handshake()
    header = bytes((kind,)) + (limit + 1).to_bytes(3, "big")
    rude.send(EPOCH_INITIAL if victim_is_client else EPOCH_HANDSHAKE, crypto_frame(0, header))
    assert rude.close_code() == CRYPTO_ERROR + 47


def test_row_01_tickets_without_end_are_not_kept() -> None:
    """Row 1, `MAX_TICKETS`: a server's further tickets are read and dropped."""
    rude = confirmed(True)
    tickets = b"".join(
        [NewSessionTicket(10, number, b"n", bytes(20), []).encode() for number in range(MAX_TICKETS + 10)]
    )
    rude.victim.tls.receive(EPOCH_ONE_RTT, tickets)  # the TLS machine itself, whose outputs nobody has taken
    assert len(rude.victim.tls.outputs) == MAX_TICKETS
    rude.send(EPOCH_ONE_RTT, crypto_frame(0, tickets))
    assert rude.close_code() is None


# --- row 2: reassembly -----------------------------------------------------------------------------------------------


@BOTH
def test_row_02_gaps_in_a_stream_are_counted(victim_is_client: bool) -> None:
    """Row 2, `MAX_FRAGMENTS`: every second byte of a stream, the first one missing."""
    rude = confirmed(victim_is_client)
    stream_id = unread_peer(0, victim_is_client)
    offsets = [1 + 2 * index for index in range(MAX_FRAGMENTS + 1)]
    for start in range(0, MAX_FRAGMENTS, 256):
        rude.send(
            EPOCH_ONE_RTT, *[stream_frame(stream_id, offset, b"x") for offset in offsets[:-1][start : start + 256]]
        )
    assert rude.close_code() is None
    check_bounds(rude.victim)
    rude.send(EPOCH_ONE_RTT, stream_frame(stream_id, offsets[-1], b"x"))
    assert rude.close_code() == INTERNAL_ERROR


def test_row_02_gaps_in_all_streams_are_counted() -> None:
    """Row 2, `MAX_CONNECTION_FRAGMENTS`: no stream has too many, all together have."""
    rude = confirmed(False)
    sent = 0
    for stream_id in range(0, 4 * 128, 4):
        if sent > MAX_CONNECTION_FRAGMENTS:
            break
        rude.send(EPOCH_ONE_RTT, *[stream_frame(stream_id, 1 + 2 * index, b"x") for index in range(200)])
        sent += 200
    assert rude.close_code() == INTERNAL_ERROR


def test_row_02_single_bytes_without_gaps_cost_little_more_than_bytes() -> None:
    """Row 2, `SMALL_PIECE`: neighbours are joined, and each byte counts for flow control once."""
    rude = confirmed(False)
    for start in range(1, 4001, 500):
        rude.send(EPOCH_ONE_RTT, *[stream_frame(0, start + index, b"x") for index in range(500)])
        rude.send(EPOCH_ONE_RTT, *[stream_frame(0, start + index, b"x") for index in range(500)])
    half = rude.victim._parts.streams.streams[0].receive
    assert half is not None
    assert half.fragments is not None
    assert sum(len(run) for run in half.fragments.runs) <= 2 * 4000 // SMALL_PIECE + 1
    assert rude.victim._parts.streams.receiving.received == 4001


# --- rows 3 and 4: connection IDs ------------------------------------------------------------------------------------


@BOTH
def test_row_03_active_connection_ids_are_counted(victim_is_client: bool) -> None:
    """Row 3, `ACTIVE_CONNECTION_ID_LIMIT`."""
    rude = RudePeer(victim_is_client=victim_is_client).to_confirmed()
    held = rude.victim._parts.connection_ids.peer
    last = max(held)
    frames = [new_connection_id(last + 1 + index) for index in range(ACTIVE_CONNECTION_ID_LIMIT - len(held))]
    rude.send(EPOCH_ONE_RTT, *frames, b"\x01")
    assert rude.close_code() is None
    rude.send(EPOCH_ONE_RTT, new_connection_id(last + 20))
    assert rude.close_code() == CONNECTION_ID_LIMIT_ERROR


@BOTH
def test_row_03_pending_retirements_are_counted(victim_is_client: bool) -> None:
    """Row 3, `MAX_PENDING_RETIREMENTS`: a peer that has us retire without end and acknowledges nothing."""
    rude = confirmed(victim_is_client)
    first = max(rude.victim._parts.connection_ids.peer) + 1
    sent = 0
    for sequence in range(first, first + 3 * MAX_PENDING_RETIREMENTS):
        rude.send(EPOCH_ONE_RTT, new_connection_id(sequence, sequence))
        check_bounds(rude.victim)
        sent += 1
        if rude.victim.close_reason is not None:
            break
    assert rude.close_code() == CONNECTION_ID_LIMIT_ERROR
    assert sent <= MAX_PENDING_RETIREMENTS
    assert len(rude.frames("RETIRE_CONNECTION_ID")) <= 2 * MAX_PENDING_RETIREMENTS


def test_row_03_nothing_is_queued_for_a_frame_that_comes_again() -> None:
    """Row 3: RETIRE_CONNECTION_ID is queued for an ID, not for a frame."""
    rude = confirmed(False)
    rude.send(EPOCH_ONE_RTT, new_connection_id(50, 50))
    rude.send(EPOCH_ONE_RTT, *[new_connection_id(49, 0)] * 30, *[new_connection_id(50, 50)] * 30)
    numbers = [fields[0] for fields in rude.frames("RETIRE_CONNECTION_ID")]
    assert len(numbers) == len(set(numbers))
    assert rude.close_code() is None


@BOTH
def test_row_03_what_was_not_sent_cannot_be_retired(victim_is_client: bool) -> None:
    """Row 3: else one packet of RETIRE_CONNECTION_ID frames has us make, and queue, an ID for each of its bytes."""
    rude = confirmed(victim_is_client)
    told = len(rude.victim._parts.connection_ids._local)
    assert told == ACTIVE_CONNECTION_ID_LIMIT
    rude.send(EPOCH_ONE_RTT, *[retirement(sequence) for sequence in range(1, told + 500)])
    assert rude.close_code() == PROTOCOL_VIOLATION
    assert rude.victim._parts.connection_ids._next_sequence <= 2 * told
    check_bounds(rude.victim)


def test_row_03_gaps_in_sequence_numbers_are_counted() -> None:
    """Row 3 and 26, `MAX_SEQUENCE_GAPS`: IDs that we give up one by one would leave a hole each."""
    rude = confirmed(False)
    sequence = 20
    rude.send(EPOCH_ONE_RTT, new_connection_id(sequence, sequence))
    for _ in range(MAX_SEQUENCE_GAPS + 10):
        sequence += 2
        rude.send(EPOCH_ONE_RTT, new_connection_id(sequence))
        rude.victim.change_connection_id()
        rude.listen()
        rude.victim._parts.connection_ids._retiring.clear()  # as if the peer had acknowledged them
        if rude.victim.close_reason is not None:
            break
    assert rude.close_code() == CONNECTION_ID_LIMIT_ERROR
    assert sequence == 20 + 2 * MAX_SEQUENCE_GAPS
    check_bounds(rude.victim)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=30))
def test_row_04_retire_prior_to_ends_whatever_the_order(frames: list[tuple[int, int]]) -> None:
    """Row 4: loops over IDs end; afterwards no path uses an ID that was retired."""
    rude = confirmed(False)
    for sequence, retire in frames:
        rude.send(EPOCH_ONE_RTT, new_connection_id(sequence, retire))
        check_bounds(rude.victim)
        if rude.victim.close_reason is not None:
            return
        ids = rude.victim._parts.connection_ids
        assert rude.victim._parts.paths.active.peer_cid_sequence in ids.peer
        assert all(number >= ids._retired_below for number in ids.peer)


def test_row_04_retiring_everything_up_to_the_largest_number() -> None:
    """Row 4: the largest possible Retire Prior To costs as much as any other."""
    rude = confirmed(False)
    largest = (1 << 62) - 1
    rude.send(EPOCH_ONE_RTT, new_connection_id(largest, largest))
    assert rude.close_code() is None
    assert list(rude.victim._parts.connection_ids.peer) == [largest]
    assert len(rude.frames("RETIRE_CONNECTION_ID")) == ACTIVE_CONNECTION_ID_LIMIT


# --- row 5: PATH_CHALLENGE -------------------------------------------------------------------------------------------


@BOTH
def test_row_05_one_answer_waits_and_it_is_to_the_newest_challenge(victim_is_client: bool) -> None:
    """Row 5: a thousand challenges in a batch, one answer."""
    rude = confirmed(victim_is_client)
    packets = [
        rude.packet(EPOCH_ONE_RTT, b"".join([b"\x1a" + (100 * index + k).to_bytes(8, "big") for k in range(100)]))
        for index in range(10)
    ]
    rude.deliver(*packets)
    assert rude.frames("PATH_RESPONSE") == [((999).to_bytes(8, "big"),)]


# --- rows 6 and 7: acknowledgements ----------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("ahead", [1, 1000, 1 << 60])
def test_row_06_acknowledging_what_was_not_sent(victim_is_client: bool, ahead: int) -> None:
    """Row 6."""
    rude = confirmed(victim_is_client)
    next_number = rude.victim._parts.loss.spaces[APPLICATION].next_number
    rude.send(EPOCH_ONE_RTT, b"\x02" + varint(next_number + ahead - 1) + b"\x00\x00\x00")
    assert rude.close_code() == PROTOCOL_VIOLATION


def test_row_06_optimistic_acknowledgements_hit_a_skipped_number() -> None:
    """Row 6: numbers are skipped now and then, and an ACK that covers one is a lie."""
    rude = confirmed(False)
    stream_id = rude.victim.open_stream()
    assert stream_id is not None
    rude.victim.send_stream_data(stream_id, bytes(500_000))
    state = rude.victim._parts.loss.spaces[APPLICATION]
    for _ in range(200):
        rude.now += 0.01
        rude.listen()
        largest = state.next_number - 1
        if largest in state.skipped:
            continue
        rude.send(EPOCH_ONE_RTT, b"\x02" + varint(largest) + b"\x00\x00" + varint(min(largest, 40)))
        if rude.victim.close_reason is not None:
            break
    assert rude.close_code() == PROTOCOL_VIOLATION


def test_row_06_skipped_numbers_are_not_remembered_for_ever() -> None:
    """Row 6, `MAX_SKIPPED_NUMBERS`: of a long connection the latest ones."""
    rude = confirmed(False)
    state = rude.victim._parts.loss.spaces[APPLICATION]
    for uid in range(4500):
        rude.victim.send_ping(uid)
        rude.listen()
        rude.send(EPOCH_ONE_RTT, b"\x02" + varint(state.next_number - 1) + b"\x00\x00\x00")
        rude.drain_events()
        rude.forget()
        rude.now += 0.001
    assert rude.victim.close_reason is None
    assert len(state.skipped) == MAX_SKIPPED_NUMBERS


@BOTH
def test_row_07_ranges_that_are_received_and_told_are_bounded(victim_is_client: bool) -> None:
    """Row 7, `MAX_RECEIVED_RANGES` and `MAX_ACK_RANGES`: every second packet number."""
    rude = confirmed(victim_is_client)
    tracker = rude.victim._parts.acks.trackers[APPLICATION]
    for number in range(5000, 5000 + 4 * MAX_RECEIVED_RANGES, 2):
        rude.send(EPOCH_ONE_RTT, b"\x01", number=number)
    assert len(tracker.received) <= MAX_RECEIVED_RANGES
    told = max(len(fields[0]) // 2 for fields in rude.frames("ACK"))
    assert told <= MAX_ACK_RANGES + 1
    assert rude.close_code() is None


@BOTH
def test_row_07_an_ack_bomb_costs_as_much_as_its_bytes(victim_is_client: bool) -> None:
    """Row 7: thousands of ranges in one frame, repeated; and a frame that claims more than it has."""
    rude = confirmed(victim_is_client)
    ranges = b"\x00\x00" * 500
    bomb = b"\x02" + varint(0) + b"\x00" + varint(500) + b"\x00" + ranges
    rude.send(EPOCH_ONE_RTT, bomb)
    assert rude.close_code() == FRAME_ENCODING_ERROR  # it goes below packet number 0

    rude = confirmed(victim_is_client)
    stream_id = rude.victim.open_stream()
    assert stream_id is not None
    for _ in range(40):
        rude.victim.send_ping(1)
        rude.listen()
    state = rude.victim._parts.loss.spaces[APPLICATION]
    lost_before = rude.victim._parts.loss.packets_lost
    largest = state.next_number - 1
    frame = b"\x02" + varint(largest) + b"\x00\x00\x00"
    for _ in range(50):
        rude.send(EPOCH_ONE_RTT, frame * 200)
    assert rude.victim._parts.loss.packets_lost - lost_before <= 40
    assert rude.close_code() is None
    check_bounds(rude.victim)


# --- rows 13 to 15: parsing and states -------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("payload", [b"\xc0" + bytes(7) + b"\x01", b"\x40\x05", b"\xff", b"\x21", b"\xbf\xff\xff\xff"])
def test_row_13_unknown_frames_close_and_do_not_crash(victim_is_client: bool, payload: bytes) -> None:
    """Row 13: frame types in every length of encoding, cut short too."""
    rude = confirmed(victim_is_client)
    rude.send(EPOCH_ONE_RTT, payload)
    assert rude.close_code() == FRAME_ENCODING_ERROR


@BOTH
def test_row_14_packets_under_discarded_keys_are_nothing(victim_is_client: bool) -> None:
    """Row 14: after the handshake its packets are dropped unread, even those that would be refused."""
    rude = confirmed(victim_is_client)
    dropped = rude.victim.statistics().packets_dropped
    rude.send(EPOCH_INITIAL, b"\x1e")
    rude.send(EPOCH_HANDSHAKE, b"\x1e")
    assert not rude.datagrams
    assert rude.victim.statistics().packets_dropped == dropped + 2


def test_row_14_handshake_done_does_not_come_before_the_handshake_is_done() -> None:
    """Row 14: a 1-RTT packet that overtakes the server's Finished waits, and is read when keys are there."""
    rude = RudePeer(victim_is_client=True).to_handshake()
    rude.send(EPOCH_ONE_RTT, b"\x1e")
    too_early = rude.victim.is_handshake_confirmed
    rude.send(EPOCH_HANDSHAKE, crypto_frame(0, rude.crypto(HANDSHAKE)))
    assert (too_early, rude.victim.is_handshake_confirmed) == (False, True)
    assert rude.close_code() is None


@settings(max_examples=40)
@given(seed=st.integers(0, 1 << 30), victim_is_client=st.booleans())
def test_row_14_the_handshake_bears_any_order_of_its_pieces(seed: int, victim_is_client: bool) -> None:
    """Row 14: messages cut anywhere, in any order, some twice, Finished and 1-RTT data before the rest."""
    choose = random.Random(seed)
    rude = RudePeer(victim_is_client=victim_is_client).to_handshake()
    data = rude.crypto(HANDSHAKE)
    cuts = sorted(choose.sample(range(1, len(data)), min(8, len(data) - 1)))
    pieces = [crypto_frame(a, data[a:b]) for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    packets = [(EPOCH_HANDSHAKE, piece) for piece in pieces + pieces[:3]]
    packets.append((EPOCH_ONE_RTT, stream_frame(unread_peer(0, victim_is_client), 0, b"early", True)))
    packets.append((EPOCH_ONE_RTT, b"\x1e" if victim_is_client else b"\x01"))
    choose.shuffle(packets)
    for epoch, payload in packets:
        rude.send(epoch, payload)
        check_bounds(rude.victim)
    assert rude.close_code() is None
    assert rude.victim.is_handshake_complete
    received = []
    while (event := rude.victim.next_event()) is not None:
        received += [event.data] if isinstance(event, StreamDataReceived) else []
    assert received == [b"early"]


# --- row 19: streams -------------------------------------------------------------------------------------------------


def test_row_19_rapid_reset_gets_no_more_streams_than_handlers_ended() -> None:
    """Row 19: on native faces a stream's place comes back when its handler has released it, not when it was reset."""
    rude = RudePeer(victim_is_client=False)
    rude.victim.use_native_events()
    rude.to_confirmed().forget()
    for stream_id in range(0, 4 * 128, 4):
        reset = b"\x04" + varint(stream_id) + b"\x00\x00"
        rude.send(EPOCH_ONE_RTT, stream_frame(stream_id, 0, b""), reset, b"\x05" + varint(stream_id) + b"\x00")
        rude.drain_events()
        largest = rude.victim._parts.loss.spaces[APPLICATION].next_number - 1
        rude.send(EPOCH_ONE_RTT, b"\x02" + varint(largest) + b"\x00\x00\x00")
    assert not rude.frames("MAX_STREAMS_BIDI")
    rude.victim.release_stream(0)
    for stream_id in range(4, 4 * 65, 4):
        rude.victim.release_stream(stream_id)
    rude.listen()
    assert rude.frames("MAX_STREAMS_BIDI")
    limit = rude.frames("MAX_STREAMS_BIDI")[-1][0]
    assert limit <= 128 + 65
    check_bounds(rude.victim)


def test_row_19_a_peer_that_only_resets_is_slowed_down() -> None:
    """RESET_BURST streams at once, then RESETS_PER_SECOND: whatever its handlers do."""
    world = World(19, server={"max_streams_uni": 64})
    client, server = world.establish()
    world.run(limit=1.0)
    start = world.now
    opened = 0
    while world.now < start + 3.0:
        stream_id = client.connection.open_stream(is_unidirectional=True)
        if stream_id is None:
            world.run(limit=0.01)
            continue
        opened += 1
        client.connection.send_stream_data(stream_id, b"x")
        client.connection.reset_stream(stream_id, 1)
    assert RESET_BURST < opened <= 64 + RESET_BURST + 4.0 * RESETS_PER_SECOND
    assert server.connection.close_reason is None
