"""One connection under attack for as long as it lives: rows 25 to 30 of `docs/security.md`.

As in `test_security.py`, each test names its row, presses on one limit and fails when that limit is raised.
"""

from __future__ import annotations

import gc
import logging
import tracemalloc
import weakref

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from helpers.certificates import issue, make_key
from quicio.quic.connection import QuicConnection
from quicio.quic.datagrams import MAX_RECEIVED_DATAGRAM_BYTES, MAX_RECEIVED_DATAGRAMS
from quicio.quic.dispatch import MAX_TOKENS_HELD
from quicio.quic.events import DatagramFrameReceived
from quicio.quic.observer import Observer
from quicio.quic.paths.path import Path
from quicio.quic.recovery.loss import MAX_PTO
from quicio.quic.recovery.sent_packets import MAX_LOST_PACKETS, MAX_UNANSWERED
from quicio.quic.wire.constants import (
    AEAD_LIMIT_REACHED,
    APPLICATION,
    CRYPTO_ERROR,
    EPOCH_HANDSHAKE,
    EPOCH_ONE_RTT,
    HANDSHAKE,
    NO_ERROR,
    PROTOCOL_VIOLATION,
)
from sim.bounds import check_bounds
from sim.rude import RudePeer, crypto_frame, stream_frame, varint

BOTH = pytest.mark.parametrize("victim_is_client", [False, True], ids=["server", "client"])


def confirmed(victim_is_client: bool, **victim: object) -> RudePeer:
    rude = RudePeer(victim_is_client=victim_is_client, victim=victim).to_confirmed()
    rude.forget()
    return rude


# --- row 25: debugging -----------------------------------------------------------------------------------------------


class Broken(Observer):
    """An observer with a bug."""

    def __init__(self) -> None:
        self.calls = 0

    def on_opened(self, epoch: int, number: int, payload: bytes, path: Path, now: float) -> None:
        self.calls += 1
        raise OSError("the disk is full")

    def on_sealed(self, epoch: int, number: int, payload: bytes, path: Path, now: float) -> None:
        self.on_opened(epoch, number, payload, path, now)


def test_row_25_a_broken_observer_is_let_go_and_the_connection_lives(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Row 25: a failing log never ends a connection."""
    monkeypatch.setattr(QuicConnection, "raise_unexpected", False)
    rude = RudePeer(victim_is_client=False)
    broken = Broken()
    rude.victim.observe(broken)
    with caplog.at_level(logging.ERROR, "quic"):
        rude.to_confirmed()
    assert broken.calls == 1
    assert rude.victim.close_reason is None
    assert "observer failed" in caplog.text


# --- row 26: memory for the life of a connection ---------------------------------------------------------------------


@BOTH
def test_row_26_a_peer_that_acknowledges_nothing_is_not_acknowledged_for_ever(victim_is_client: bool) -> None:
    """Row 26, `MAX_UNANSWERED`: packets that hold only ACKs are remembered, and no window bounds them."""
    rude = confirmed(victim_is_client)
    stream_id = rude.victim.open_stream()
    assert stream_id is not None
    rude.victim.send_stream_data(stream_id, bytes(500_000))  # what fills the window, so that no PING can go along
    state = rude.victim._parts.loss.spaces[APPLICATION]
    for _ in range(MAX_UNANSWERED + 300):
        rude.deliver(rude.packet(EPOCH_ONE_RTT, b"\x01"), rude.packet(EPOCH_ONE_RTT, b"\x01"))
        if rude.victim.close_reason is not None:
            break
    assert len(state.sent) <= MAX_UNANSWERED + 300
    assert rude.close_code() == PROTOCOL_VIOLATION


@BOTH
def test_row_26_lost_packets_are_not_remembered_for_ever(victim_is_client: bool) -> None:
    """Row 26, `MAX_LOST_PACKETS`: a peer that acknowledges only the newest packet makes all others lost."""
    rude = confirmed(victim_is_client)
    state = rude.victim._parts.loss.spaces[APPLICATION]
    most = 0
    stream_id = rude.victim.open_stream()
    assert stream_id is not None
    for _ in range(MAX_LOST_PACKETS // 3):
        rude.now += 0.0001  # the pacer wants some time, but not enough to forget by
        for _ in range(5):
            rude.victim.send_stream_data(stream_id, b"x")
            rude.listen()
        if (largest := state.next_number - 1) not in state.skipped:
            rude.send(EPOCH_ONE_RTT, b"\x02" + varint(largest) + b"\x00\x00\x00")
        most = max(most, len(state.lost))
        rude.drain_events()
    assert most == MAX_LOST_PACKETS


def test_row_26_new_tokens_are_not_kept_without_end() -> None:
    """Row 26, `MAX_TOKENS_HELD`: within one batch nobody takes them."""
    taken: list[bytes] = []
    rude = confirmed(True)
    rude.victim._token_handler = taken.append
    rude.send(EPOCH_ONE_RTT, *[b"\x07\x02" + number.to_bytes(2, "big") for number in range(300)])
    assert len(taken) == MAX_TOKENS_HELD


def test_row_26_datagrams_that_nobody_takes_are_dropped() -> None:
    """Row 26, `MAX_RECEIVED_DATAGRAMS` and `MAX_RECEIVED_DATAGRAM_BYTES`: by number, and by size."""
    rude = confirmed(False, max_datagram_frame_size=60_000)
    for _ in range(MAX_RECEIVED_DATAGRAMS // 100 + 1):
        rude.send(EPOCH_ONE_RTT, *[b"\x31\x01x"] * 100)
    kept = 0
    while (event := rude.victim.next_event()) is not None:
        kept += isinstance(event, DatagramFrameReceived)
    assert kept == MAX_RECEIVED_DATAGRAMS
    for _ in range(MAX_RECEIVED_DATAGRAM_BYTES // 15_000 + 10):
        rude.send(EPOCH_ONE_RTT, b"\x30" + bytes(15_000))
    size = 0
    while (event := rude.victim.next_event()) is not None:
        size += len(event.data) if isinstance(event, DatagramFrameReceived) else 0
    assert MAX_RECEIVED_DATAGRAM_BYTES - 15_000 < size <= MAX_RECEIVED_DATAGRAM_BYTES


def test_row_26_ten_thousand_streams_leave_nothing() -> None:
    """Row 26: memory does not follow the number of streams that there were."""
    rude = confirmed(False)

    def churn(first: int, count: int) -> None:
        for index in range(first, first + count):
            stream_id = 4 * index + 2
            rude.send(EPOCH_ONE_RTT, stream_frame(stream_id, 0, bytes(50), True))
            rude.drain_events()
            rude.forget()
            state = rude.victim._parts.loss.spaces[APPLICATION]
            if (largest := state.next_number - 1) not in state.skipped:
                rude.send(EPOCH_ONE_RTT, b"\x02" + varint(largest) + b"\x00\x00" + varint(min(largest, 3)))

    churn(0, 500)
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    churn(500, 2000)
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert not rude.victim._parts.streams.streams
    assert after - before < 100_000
    check_bounds(rude.victim)


@BOTH
def test_row_26_a_closed_connection_dies_by_reference_counting(victim_is_client: bool) -> None:
    """Row 26: no cycle keeps it until a collection."""
    rude = confirmed(victim_is_client)
    rude.victim.close(0)
    rude.listen()
    rude.now += 100.0
    rude.victim.handle_timer(rude.now)
    rude.drain_events()
    assert rude.victim.is_terminated
    gc.collect()
    gc.disable()
    try:
        watch = weakref.ref(rude.victim)
        events = weakref.ref(rude.victim._parts.events)  # which the parts hold; compiled, they take no weak references
        del rude
        assert watch() is None
        assert events() is None
    finally:
        gc.enable()


# --- row 28: AEAD limits ---------------------------------------------------------------------------------------------


@BOTH
def test_row_28_forgeries_are_counted(victim_is_client: bool) -> None:
    """Row 28: the integrity limit, lowered to be reached; what was forged under any key counts."""
    rude = confirmed(victim_is_client)
    key = rude.victim._parts.keys.opening[EPOCH_ONE_RTT]
    assert key is not None
    key.integrity_limit = 20
    forged = rude.packet(EPOCH_ONE_RTT, b"\x01" * 20)[:-1] + b"\x00"
    for _ in range(20):
        rude.deliver(forged)
    assert rude.close_code() is None
    rude.deliver(forged)
    assert rude.close_code() == AEAD_LIMIT_REACHED


@BOTH
def test_row_28_a_peer_that_prevents_key_updates_is_closed(victim_is_client: bool) -> None:
    """Row 28: the confidentiality limit, lowered to be reached by packets that the peer never acknowledges."""
    rude = confirmed(victim_is_client)
    key = rude.victim._parts.keys.sealing[EPOCH_ONE_RTT]
    assert key is not None
    key.sealed = key.confidentiality_limit - 100
    for _ in range(100):
        rude.victim.send_ping(1)
        rude.listen()
        rude.deliver(rude.packet(EPOCH_ONE_RTT, b"\x01"), rude.packet(EPOCH_ONE_RTT, b"\x01"))
    assert rude.close_code() == AEAD_LIMIT_REACHED
    assert key.sealed <= key.confidentiality_limit


def test_row_28_keys_are_updated_long_before_the_limit() -> None:
    """Row 28: at half of it, with a peer that acknowledges."""
    rude = RudePeer(victim_is_client=False).to_confirmed()
    key = rude.victim._parts.keys.sealing[EPOCH_ONE_RTT]
    assert key is not None
    key.sealed = key.confidentiality_limit // 2
    for uid in range(6):
        rude.victim.send_ping(uid)
        rude.exchange()
    assert rude.victim._parts.keys.updates == rude.carrier._parts.keys.updates == 1


# --- row 29: slow peers ----------------------------------------------------------------------------------------------


@BOTH
def test_row_29_a_handshake_that_trickles_ends_in_time(victim_is_client: bool) -> None:
    """Row 29, `handshake_timeout`: authentic packets do not prolong it."""
    rude = RudePeer(victim_is_client=victim_is_client, victim={"handshake_timeout": 10.0}).to_handshake()
    start = rude.now
    while rude.victim.close_reason is None and rude.now < start + 30:
        rude.now += 0.5
        rude.victim.handle_timer(rude.now)
        rude.send(EPOCH_HANDSHAKE, b"\x01")
    assert 9.0 <= rude.now - start <= 10.5
    assert rude.close_code() == NO_ERROR


@BOTH
def test_row_29_a_silent_peer_is_forgotten_after_the_idle_timeout(victim_is_client: bool) -> None:
    """Row 29, `idle_timeout`: what we send does not prolong it, forged packets do not either."""
    rude = confirmed(victim_is_client, idle_timeout=5.0)
    start = rude.now
    forged = rude.packet(EPOCH_ONE_RTT, b"\x01" * 20)[:-1] + b"\x00"
    rude.victim.send_ping(1)
    while not rude.victim.is_terminated and rude.now < start + 60:
        rude.deliver(forged)
        rude.now += 0.25
        rude.victim.handle_timer(rude.now)
    assert 4.0 <= rude.now - start <= 6.0


def test_row_29_backoff_has_an_end() -> None:
    """Row 29, `MAX_PTO`: however long a peer is silent, the next probe is a minute away at most."""
    rude = confirmed(False, idle_timeout=0.0)
    rude.victim._parts.lifecycle._idle_timeout = 0.0
    rude.victim._parts.lifecycle._idle_at = float("inf")
    rude.victim.send_ping(1)
    rude.listen()
    longest = 0.0
    for _ in range(30):
        timer = rude.victim.get_timer()
        assert timer is not None
        longest = max(longest, timer - rude.now)
        rude.now = timer
        rude.victim.handle_timer(rude.now)
        rude.listen()
    assert longest == pytest.approx(MAX_PTO)


# --- row 30: identity ------------------------------------------------------------------------------------------------


def flight(rude: RudePeer) -> None:
    """The server's flight, up to and including its Finished."""
    rude.to_handshake()
    rude.send(EPOCH_HANDSHAKE, crypto_frame(0, rude.crypto(HANDSHAKE)))


def test_row_30_another_authority_is_not_believed() -> None:
    """Row 30: `cadata` replaces the trusted certificates, and whoever they did not sign is refused."""
    stranger = make_key("p256", 77)
    other = issue("somebody else", stranger, is_authority=True)
    rude = RudePeer(victim_is_client=True, victim={"cadata": other.public_bytes(Encoding.PEM)})
    flight(rude)
    assert rude.close_code() == CRYPTO_ERROR + 48  # unknown_ca
    assert not rude.victim.is_handshake_complete


def test_row_30_another_name_is_not_believed() -> None:
    """Row 30."""
    rude = RudePeer(victim_is_client=True, victim={"server_name": "elsewhere.example"})
    flight(rude)
    assert rude.close_code() == CRYPTO_ERROR + 42  # bad_certificate


def test_row_30_a_certificate_without_its_key_is_not_believed() -> None:
    """Row 30: the CertificateVerify is checked against the certificate that was shown."""
    rude = RudePeer(victim_is_client=True).to_handshake()
    data = rude.crypto(HANDSHAKE)
    key = make_key("ed25519").public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    other = make_key("ed25519", 5).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    assert data.count(key) == 1
    rude.send(EPOCH_HANDSHAKE, crypto_frame(0, data.replace(key, other)))
    assert rude.close_code() == CRYPTO_ERROR + 51  # decrypt_error
    assert not rude.victim.is_handshake_complete
