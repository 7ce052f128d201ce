"""What a connection may hold at most: every table, queue and buffer that a peer can fill, against the limit it is named for.

`check_bounds` is the memory account of row 26 of `docs/security.md`. The fuzzers call it after each input and the adversarial
tests after each attack, so a limit that is lost shows wherever anything presses on it.
"""

from __future__ import annotations

from quicio.quic.connection import QuicConnection
from quicio.quic.crypto_stream import MAX_CRYPTO_BUFFER, MAX_CRYPTO_FRAGMENTS
from quicio.quic.datagrams import MAX_RECEIVED_DATAGRAM_BYTES, MAX_RECEIVED_DATAGRAMS
from quicio.quic.dispatch import MAX_TOKENS_HELD
from quicio.quic.inbound import MAX_WAITING
from quicio.quic.lifecycle import MAX_PENDING_PINGS
from quicio.quic.paths.connection_ids import ACTIVE_CONNECTION_ID_LIMIT, MAX_PENDING_RETIREMENTS, MAX_SEQUENCE_GAPS
from quicio.quic.paths.path import AMPLIFICATION_FACTOR
from quicio.quic.paths.validation import MAX_CHALLENGES, MAX_PATHS
from quicio.quic.recovery.acks import MAX_RECEIVED_RANGES
from quicio.quic.recovery.sent_packets import MAX_LOST_PACKETS, MAX_SKIPPED_NUMBERS, MAX_UNANSWERED
from quicio.quic.streams.reassembly import MAX_CONNECTION_FRAGMENTS
from quicio.tls.constants import MAX_CERTIFICATE_SIZE, MAX_CERTIFICATES, MAX_SUSPENDED_SIZE

LARGEST_TLS_MESSAGE = max(MAX_CERTIFICATE_SIZE, MAX_SUSPENDED_SIZE) + 4


def check_bounds(connection: QuicConnection) -> None:
    """Assert that nothing has outgrown its limit. One more is allowed where it is what closed the connection."""
    _check_packets(connection)
    _check_handshake(connection)
    _check_connection_ids(connection)
    _check_application(connection)
    parts = connection._parts
    assert len(parts.paths.known) <= MAX_PATHS
    assert parts.paths.active in parts.paths.known
    for path in parts.paths.known:
        assert len(path.challenges) <= MAX_CHALLENGES
        assert len(path.response) <= 8
        if not path.is_validated:
            assert path.bytes_sent <= AMPLIFICATION_FACTOR * path.bytes_received


def _check_packets(connection: QuicConnection) -> None:
    parts = connection._parts
    assert len(connection._inbound._waiting) <= MAX_WAITING
    for tracker in parts.acks.trackers:
        assert len(tracker.received) <= MAX_RECEIVED_RANGES
    for state in parts.loss.spaces:
        assert len(state.lost) == len(state.lost_numbers) <= MAX_LOST_PACKETS
        assert len(state.skipped) <= MAX_SKIPPED_NUMBERS
        assert state.unanswered <= MAX_UNANSWERED + 1
    parts.loss.check_invariants()


def _check_handshake(connection: QuicConnection) -> None:
    handshake = connection._parts.handshake
    for receiver in handshake._receivers:
        assert len(receiver._pieces) <= MAX_CRYPTO_FRAGMENTS
        assert receiver._held == sum(map(len, receiver._pieces.values())) <= MAX_CRYPTO_BUFFER
    assert len(handshake.machine._received) <= LARGEST_TLS_MESSAGE
    assert len(handshake.machine.peer_certificates) <= MAX_CERTIFICATES


def _check_connection_ids(connection: QuicConnection) -> None:
    ids = connection._parts.connection_ids
    assert len(ids._local) <= ACTIVE_CONNECTION_ID_LIMIT
    assert len(ids._to_issue) <= ACTIVE_CONNECTION_ID_LIMIT
    assert len(ids.peer) <= ACTIVE_CONNECTION_ID_LIMIT + 1
    assert len(ids._retiring) <= MAX_PENDING_RETIREMENTS
    assert len(ids._seen) <= MAX_SEQUENCE_GAPS + 1


def _check_application(connection: QuicConnection) -> None:
    parts = connection._parts
    streams = parts.streams
    assert streams.receiving.fragment_count <= MAX_CONNECTION_FRAGMENTS + 1
    for peer in streams.counts.peer:
        kind = 2 if peer.is_unidirectional else 0
        is_open = [
            stream for stream in streams.streams.values() if not stream.is_local and stream.stream_id & 2 == kind
        ]
        assert len(is_open) <= peer.size
        assert len(peer.finished) <= peer.size + 1
    assert parts.datagrams._received <= MAX_RECEIVED_DATAGRAMS
    assert parts.datagrams._received_bytes <= MAX_RECEIVED_DATAGRAM_BYTES
    assert len(connection._dispatcher.new_tokens) <= MAX_TOKENS_HELD
    assert len(parts.lifecycle._unanswered) <= MAX_PENDING_PINGS
    assert len(parts.lifecycle._pings) <= MAX_PENDING_PINGS
