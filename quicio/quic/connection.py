"""One QUIC connection without I/O: the public verbs, and the wiring of the parts that do the work.

Whoever drives a connection does this: after any input (`receive_datagram`, `receive_datagrams`, `handle_timer`, or commands of
the application) drain `next_transmit()` or `datagrams_to_send()`, read `get_timer()`, drain `next_event()`. Time is a float
from any clock and may step backwards (it is clamped); addresses are opaque hashables.

`receive_*` and `handle_timer` never raise because of what a peer sent: there is one choke point, `_guarded`, that turns
`QuicConnectionError` into a CONNECTION_CLOSE. Commands raise on misuse only, and do nothing once the connection is closing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from enum import Enum
from math import inf
from typing import Any, ClassVar, Final

from quicio.environment import DEFAULT_ENVIRONMENT, Environment
from quicio.quic import lifecycle as life
from quicio.quic._aioquic import StreamFinishedError
from quicio.quic.assembly import assemble, server_policy
from quicio.quic.client_sessions import ClientSessions
from quicio.quic.closing import ClosePackets
from quicio.quic.configuration import QuicConfiguration
from quicio.quic.dispatch import Dispatcher
from quicio.quic.events import CloseReason, DatagramFrameReceived, QuicEvent, StreamDataReceived
from quicio.quic.inbound import Inbound
from quicio.quic.logger import QuicLoggerTrace
from quicio.quic.negotiation import INITIAL_CID_LENGTH, Negotiation
from quicio.quic.outbound import Outbound
from quicio.quic.packet import QuicErrorCode
from quicio.quic.paths.connection_ids import ConnectionIdIssuer
from quicio.quic.paths.ecn import CAPABLE as ECN_CAPABLE
from quicio.quic.sealing import short_overhead
from quicio.quic.statistics import ConnectionStatistics
from quicio.quic.streams.budget import MemoryPool
from quicio.quic.transmit import Received, Transmit
from quicio.quic.watching import Watched
from quicio.quic.wire.constants import INTERNAL_ERROR, NO_VIABLE_PATH, SMALLEST_MAX_DATAGRAM_SIZE, QuicConnectionError
from quicio.quic.wire.headers import INITIAL_PACKET, is_known_version, parse_long_header
from quicio.tls.context import Handshake as TlsHandshake
from quicio.tls.issuing import TicketIssuer
from quicio.tls.tickets import SessionTicketFetcher, SessionTicketHandler

__all__ = [
    "NetworkAddress",
    "QuicConnection",
    "QuicConnectionError",
    "QuicConnectionState",
    "QuicErrorCode",
    "QuicTokenHandler",
    "StreamFinishedError",
    "stream_is_client_initiated",
    "stream_is_unidirectional",
]

logger: logging.Logger = logging.getLogger("quic")

NetworkAddress = Any
QuicTokenHandler = Callable[[bytes], None]

BATCH: Final = 64  # datagrams that `datagrams_to_send` asks for at a time


def stream_is_client_initiated(stream_id: int) -> bool:
    """Whether a client opens streams with such IDs (RFC 9000 §2.1)."""
    return not stream_id & 1


def stream_is_unidirectional(stream_id: int) -> bool:
    """Whether data flows only from the side that opens the stream (RFC 9000 §2.1)."""
    return bool(stream_id & 2)


class QuicConnectionState(Enum):
    """The states of a connection (RFC 9000 §10)."""

    FIRSTFLIGHT = life.FIRSTFLIGHT
    CONNECTED = life.CONNECTED
    CLOSING = life.CLOSING
    DRAINING = life.DRAINING
    TERMINATED = life.TERMINATED


class QuicConnection(Watched):
    """One end of a QUIC connection, client or server by its configuration.

    A server's connection is made for a client's first Initial packet: `original_destination_connection_id` is that
    packet's destination, or, after a Retry, the one from before it, with `retry_source_connection_id` the Retry's own.
    Raises `ValueError` for a configuration that no connection could be made with.
    """

    #: Tests and fuzzers set this so that a bug shows as itself; otherwise it closes the connection with INTERNAL_ERROR.
    raise_unexpected: ClassVar[bool] = False

    def __init__(
        self,
        *,
        configuration: QuicConfiguration,
        original_destination_connection_id: bytes | None = None,
        retry_source_connection_id: bytes | None = None,
        session_ticket_fetcher: SessionTicketFetcher | None = None,
        session_ticket_handler: SessionTicketHandler | None = None,
        token_handler: QuicTokenHandler | None = None,
        issuer: ConnectionIdIssuer | None = None,
        tickets: TicketIssuer | None = None,
        is_address_validated: bool = False,
        memory: MemoryPool | None = None,
        environment: Environment = DEFAULT_ENVIRONMENT,
    ) -> None:
        configuration.validate()
        is_client = configuration.is_client
        if is_client and original_destination_connection_id is not None:
            raise ValueError("original_destination_connection_id is for servers: a client chooses its own")
        if not is_client and original_destination_connection_id is None:
            raise ValueError("a server's connection needs original_destination_connection_id, from the first Initial")
        self._configuration = configuration
        self._environment = environment
        initial_cid = original_destination_connection_id or environment.random_bytes(INITIAL_CID_LENGTH)
        self._original_destination_cid = initial_cid
        self._session_ticket_fetcher = session_ticket_fetcher
        self._session_ticket_handler = session_ticket_handler
        self._token_handler = token_handler
        self._now = 0.0
        self._is_started = False
        known = [version for version in configuration.supported_versions if is_known_version(version)]
        version = configuration.original_version or (known or configuration.supported_versions)[0]
        if not is_known_version(version):
            raise ValueError(f"QUIC version {version:#x} is not known: use QuicProtocolVersion.VERSION_1 or VERSION_2")
        issuer = issuer or ConnectionIdIssuer(configuration.connection_id_length, environment.random_bytes)
        parts = assemble(
            configuration,
            environment,
            issuer,
            remote=None,
            local=None,
            version=version,
            is_address_validated=is_client or is_address_validated or retry_source_connection_id is not None,
            original_destination_cid=original_destination_connection_id,
            retry_source_cid=retry_source_connection_id,
            policy=None
            if is_client
            else server_policy(configuration, environment, tickets, session_ticket_fetcher, session_ticket_handler),
            memory=memory,
        )
        self._parts = parts
        parts.cancelled_code = configuration.codes.cancelled
        self._sessions = ClientSessions(configuration)
        self._dispatcher = Dispatcher(parts)
        self._negotiation = Negotiation(parts, environment.random_bytes)
        self._inbound = Inbound(parts, self._dispatcher, self._negotiation, issuer.length)
        self._outbound = Outbound(parts, ClosePackets(parts, self.host_cid), self.host_cid)
        self._trace: QuicLoggerTrace | None = None
        if configuration.quic_logger is not None:
            self._start_qlog(configuration.quic_logger)

    # --- what it is --------------------------------------------------------------------------------------------------

    @property
    def configuration(self) -> QuicConfiguration:
        """The configuration that the connection was made with."""
        return self._configuration

    @property
    def original_destination_connection_id(self) -> bytes:
        """The destination connection ID of the client's very first Initial packet."""
        return self._original_destination_cid

    @property
    def host_cid(self) -> bytes:
        """Our first connection ID, which the peer's first packets to us carry."""
        return self._parts.connection_ids.host_cid

    @property
    def state(self) -> QuicConnectionState:
        """Where in its life the connection is."""
        return QuicConnectionState(self._parts.lifecycle.state)

    @property
    def is_terminated(self) -> bool:
        """Whether the connection is over: it wants no more input and has no more output."""
        return self._parts.lifecycle.state == life.TERMINATED

    @property
    def close_reason(self) -> CloseReason | None:
        """Why the connection is closing or closed, from the moment a close was sent or received; None before."""
        return self._parts.lifecycle.close_reason

    @property
    def close_cause(self) -> int:
        """What ended the connection: one of the `CAUSE_…` values of `quicio.quic.lifecycle`."""
        return self._parts.lifecycle.close_cause

    @property
    def is_handshake_complete(self) -> bool:
        """Whether the TLS handshake is complete."""
        return self._parts.handshake.is_complete

    @property
    def is_handshake_confirmed(self) -> bool:
        """Whether the handshake is confirmed (RFC 9001 §4.1.2)."""
        return self._parts.handshake.is_confirmed

    @property
    def version(self) -> int:
        """The QUIC version in use."""
        return self._parts.handshake.version

    @property
    def tls(self) -> TlsHandshake:
        """The TLS machine: ALPN, cipher suite, group, names and certificates, for reading."""
        return self._parts.handshake.machine

    @property
    def can_send_early_data(self) -> bool:
        """Client: whether what is sent now goes as early data (RFC 9001 §4.6): there is a ticket, and no answer yet."""
        handshake = self._parts.handshake
        return handshake.remembered is not None and handshake.remote_parameters is None

    @property
    def early_alpn(self) -> str | None:
        """Client: the application protocol that early data has to speak, as the ticket remembers it."""
        return self._parts.handshake.early_alpn

    @property
    def early_data_accepted(self) -> bool:
        """Whether the server has accepted early data; False until it has decided."""
        return self.tls.early_data_accepted

    @property
    def session_resumed(self) -> bool:
        """Whether the handshake goes on from an earlier session; False until the server has decided."""
        return self.tls.session_resumed

    def has_early_data(self, stream_id: int) -> bool:
        """Server: whether data of the stream came in 0-RTT packets, which somebody may have replayed (RFC 9001 §9.2)."""
        return stream_id in self._dispatcher.early_streams

    def get_peer_address(self) -> NetworkAddress | None:
        """The address that the connection sends to, as it was given; None before there is one."""
        return self._parts.paths.active.remote

    def use_native_events(self) -> None:
        """Ask for the native events, and for credit on all streams to come from `consume()`."""
        parts = self._parts
        parts.native = True
        parts.streams.native = True
        parts.streams.hold_all = True
        parts.datagrams.native = True
        parts.lifecycle.native = True
        parts.paths.native = True

    def use_waking_events(self) -> None:
        """Ask for those native events alone that wake somebody: `StreamWritable`, `StreamDelivered`, `ConnectionClosing`.

        In all else the connection behaves as for an application that asked for nothing.
        """
        self._parts.streams.wakes = True
        self._parts.lifecycle.native = True

    def release_memory(self) -> None:
        """Nobody will drive the connection any more: what it holds counts no more against the endpoint's memory."""
        self._parts.budget.close()

    def defer_decisions(self) -> None:
        """Have TLS decisions asked as `DecisionNeeded` events instead of being answered from the configuration."""
        self._parts.handshake.deferred_decisions = True

    # --- input -------------------------------------------------------------------------------------------------------

    def connect(self, addr: NetworkAddress, now: float) -> None:
        """Client: start the handshake with the server at `addr`. `RuntimeError` on a server or the second time."""
        if not self._configuration.is_client:
            raise RuntimeError("connect() is for clients: a server's connection starts with the first datagram")
        if self._is_started:
            raise RuntimeError("connect() was called before: make another QuicConnection for another attempt")
        now = self._clamp(now)
        self._is_started = True
        parts = self._parts
        parts.paths.active.remote = addr
        self._sessions.begin(addr)
        ticket = self._sessions.ticket(parts.handshake.trusts)
        if ticket is not None:
            parts.handshake.offer(ticket, self._configuration.early_data)
        parts.initial_token = self._sessions.token(parts.handshake.version)
        parts.handshake.expected_source_cid = b""
        self._negotiation.start_initial(self._original_destination_cid, parts.handshake.version)
        parts.lifecycle.start(now)
        self._tell_start(now)
        self._guarded(parts.handshake.start, now)
        if parts.handshake.remembered is not None:
            parts.begin_early_data(parts.handshake.remembered)

    def receive_datagram(self, data: bytes, addr: NetworkAddress, now: float) -> None:
        """One datagram arrived from `addr`."""
        self.receive_datagrams(Received([bytes(data)], addr), now)

    def receive_datagrams(self, received: Received, now: float) -> None:
        """A batch of datagrams of this connection arrived: one path, one ECN codepoint."""
        now = self._clamp(now)
        if not self._is_started and not self._start_server(received, now):
            return
        dropped = self._inbound.packets_dropped
        self._guarded(lambda: self._inbound.receive(received, now), now)
        observer = self._parts.observer
        if observer is not None and self._inbound.packets_dropped > dropped:
            observer.on_dropped(self._inbound.packets_dropped - dropped, len(received.datagrams[-1]), now)
        if self._dispatcher.new_tokens or self._parts.handshake.new_tickets:
            self._hand_out_sessions()

    def _start_server(self, received: Received, now: float) -> bool:
        """The first datagram tells the version, the address and the connection ID that Initial keys come from."""
        if self._configuration.is_client:
            return False
        for datagram in received.datagrams:
            try:
                header = parse_long_header(datagram, 0)
            except ValueError:
                continue
            if header.packet_type != INITIAL_PACKET or header.version not in self._configuration.supported_versions:
                continue
            if len(datagram) < SMALLEST_MAX_DATAGRAM_SIZE:  # RFC 9000 §14.1
                continue
            parts = self._parts
            self._is_started = True
            parts.paths.active.remote = received.remote
            parts.paths.active.local = received.local
            parts.handshake.version = parts.handshake.original_version = header.version
            parts.initial_cid = header.destination_cid
            parts.keys.install_initial(header.destination_cid, header.version)
            parts.lifecycle.start(now)
            self._tell_start(now)
            return True
        return False

    def _hand_out_sessions(self) -> None:
        """What the server gave for later connections goes to the store and to the application's functions."""
        tokens = self._dispatcher.new_tokens
        while tokens:
            self._sessions.keep_token(self.version, tokens.pop(0), self._token_handler)
        tickets = self._parts.handshake.new_tickets
        while tickets:
            self._sessions.keep_ticket(tickets.pop(0), self._session_ticket_handler)

    def handle_timer(self, now: float) -> None:
        """The time that `get_timer()` told has come. Harmless when called early or late."""
        now = self._clamp(now)
        self._guarded(lambda: self._parts.run_timers(now), now)

    def decide(self, decision_id: int, answer: object) -> None:
        """Answer a `DecisionNeeded` event. Once the connection is closing nothing is decided any more.

        `ValueError` when no such decision is awaited, `TypeError` or `ValueError` for an answer that cannot be used.
        """
        if self._is_closing():
            return
        now = self._now
        try:
            self._parts.handshake.decide(decision_id, answer)
        except QuicConnectionError as error:  # an Alert as the answer, or what came of going on
            self._fail(error)
            return

        def go_on() -> None:
            self._parts.after_crypto(now)
            self._inbound.flush_application(now)

        self._guarded(go_on, now)

    def _guarded(self, action: Callable[[], None], now: float) -> None:
        """The one place where errors caused by the peer become a CONNECTION_CLOSE (RFC 9000 §11.1)."""
        try:
            action()
            if self._parts.paths.forgotten:
                self._parts.abandon_forgotten(now)
        except QuicConnectionError as error:
            self._fail(error)
        except Exception:
            self._on_unexpected()
        self._parts.follow_path()
        self._follow_end()

    def _on_unexpected(self) -> None:
        """A bug of ours, being handled as an exception: it ends this connection, never its driver."""
        if self.raise_unexpected:
            raise
        logger.exception("internal error: the connection is closed")
        self._fail(QuicConnectionError(INTERNAL_ERROR, None, "Internal error"))

    def _fail(self, error: QuicConnectionError) -> None:
        reason = CloseReason(error.error_code, False, False, error.reason_phrase, error.frame_type or 0)
        self._parts.lifecycle.close(reason, life.CAUSE_VIOLATION, self._parts.pto())

    def _clamp(self, now: float) -> float:
        """Protocol time never runs backwards inside."""
        if now < self._now:
            return self._now
        self._now = now
        return now

    # --- output ------------------------------------------------------------------------------------------------------

    def next_transmit(self, now: float, max_datagrams: int = 1) -> Transmit | None:
        """The next batch of at most `max_datagrams` datagrams to send, or None when nothing is to be sent now."""
        if not self._is_started:
            return None
        now = self._clamp(now)
        try:
            return self._outbound.next_transmit(now, max_datagrams)
        except QuicConnectionError as error:  # a key's limit (RFC 9001 §6.6), a peer that acknowledges nothing
            self._fail(error)
        except Exception:
            self._on_unexpected()
        try:
            return self._outbound.next_transmit(now, max_datagrams)  # the close
        except Exception:  # not even that: the peer will find out by its idle timeout
            if self.raise_unexpected:
                raise
            return None

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, NetworkAddress]]:
        """All datagrams to send now, each with its address."""
        result: list[tuple[bytes, NetworkAddress]] = []
        transmit = self.next_transmit(now, BATCH)
        while transmit is not None:
            remote = transmit.remote
            result.extend([(datagram, remote) for datagram in transmit.datagrams])
            transmit = self.next_transmit(now, BATCH)
        return result

    def get_timer(self) -> float | None:
        """When `handle_timer()` wants to be called, in protocol time; None when nothing waits."""
        if self._parts.lifecycle.state == life.TERMINATED:
            return None
        earliest = self._parts.deadline()
        if self._parts.lifecycle.state < life.CLOSING:
            earliest = min(earliest, self._outbound.deadline)
        return earliest if earliest < inf else None

    def next_event(self) -> QuicEvent | None:
        """The next event, or None. Taking stream data grants its credit, unless the stream's credit is held."""
        events = self._parts.events
        if not events:
            return None
        event = events.popleft()
        if type(event) is StreamDataReceived:
            self._parts.streams.on_handed_out(event)
        elif type(event) is DatagramFrameReceived:
            self._parts.datagrams.on_handed_out(event)
        return event

    # --- commands ----------------------------------------------------------------------------------------------------

    def _is_closing(self) -> bool:
        return self._parts.lifecycle.state >= life.CLOSING

    def get_next_available_stream_id(self, is_unidirectional: bool = False) -> int:
        """The ID that the next stream of this side will have. It reserves nothing: write, and the ID is taken."""
        return self._parts.streams.next_id(is_unidirectional)

    def open_stream(self, is_unidirectional: bool = False) -> int | None:
        """Open a stream; None while the peer's limit does not allow one (`StreamsAvailable` follows)."""
        return self._parts.streams.open(is_unidirectional)

    def send_stream_data(self, stream_id: int, data: bytes, end_stream: bool = False) -> None:
        """Queue data on a stream, and its end.

        `ValueError` for a stream that cannot be sent on (the peer's unidirectional, unknown, finished), `RuntimeError` after
        a reset or for data after the end.
        """
        if not self._is_closing():
            self._parts.streams.send(stream_id, data, end_stream)

    def announce_stream(self, stream_id: int) -> None:
        """Make a stream that nothing was sent on visible to the peer, by an empty STREAM frame."""
        if not self._is_closing():
            self._parts.streams.announce(stream_id)

    def send_room(self, stream_id: int) -> int:
        """How many bytes the stream takes before back-pressure; at 0 a `StreamWritable` event will follow."""
        return self._parts.streams.send_room(stream_id)

    def want_room(self, stream_id: int, size: int) -> None:
        """Have a `StreamWritable` event follow once no more than `size` bytes are unacknowledged. `ValueError` as sending."""
        self._parts.streams.want_room(stream_id, size)

    def send_buffered(self, stream_id: int) -> int:
        """How many bytes of the stream the peer has not acknowledged; 0 for a stream that is finished or unknown."""
        return self._parts.streams.buffered(stream_id)

    def reset_stream(self, stream_id: int, error_code: int) -> None:
        """Abandon sending on a stream. `ValueError` for a stream that cannot be sent on."""
        if not self._is_closing():
            self._parts.streams.reset(stream_id, error_code)

    def stop_stream(self, stream_id: int, error_code: int) -> None:
        """Ask the peer to stop sending on a stream. `ValueError` for a stream that cannot be received on."""
        if not self._is_closing():
            self._parts.streams.stop(stream_id, error_code)

    def hold_credit(self, stream_id: int) -> None:
        """From now on the stream's credit comes from `consume()`, not from taking events."""
        if not self._is_closing():
            self._parts.streams.hold_credit(stream_id)

    def consume(self, stream_id: int, size: int) -> None:
        """Grant credit for `size` bytes that the application took from a held stream."""
        if not self._is_closing():
            self._parts.streams.consume(stream_id, size)

    def release_stream(self, stream_id: int) -> None:
        """The application is done with a stream: its place may go back to the peer once both sides are closed."""
        if not self._is_closing():
            self._parts.streams.release(stream_id)

    def set_priority(self, stream_id: int, urgency: int, incremental: bool) -> None:
        """Order of sending among streams: urgency 0 (first) to 7; incremental ones share their turn (RFC 9218 §4)."""
        if not self._is_closing():
            self._parts.streams.set_priority(stream_id, urgency, incremental)

    def send_datagram_frame(self, data: bytes) -> None:
        """Queue a DATAGRAM frame. `ValueError` when it can never be sent; beyond the queue's limit it is dropped."""
        self.try_send_datagram(data)

    def try_send_datagram(self, data: bytes) -> bool:
        """As `send_datagram_frame`; False when the queue is full (`DatagramWritable` follows)."""
        if self._is_closing():
            return True
        if self._parts.handshake.remote_parameters is not None and self.max_datagram_size_now() == 0:
            raise ValueError("the peer does not accept DATAGRAM frames (max_datagram_frame_size was not negotiated)")
        return self._parts.datagrams.send(bytes(data), self._datagram_room())

    def _datagram_room(self) -> int:
        path = self._parts.paths.active
        return path.datagram_size - short_overhead(path.peer_cid, 4)

    def max_datagram_size_now(self) -> int:
        """The largest message that a DATAGRAM frame to this peer can carry now, in bytes; 0 when it takes none."""
        return self._parts.datagrams.max_size(self._datagram_room())

    def send_ping(self, uid: int) -> None:
        """Send a PING; its acknowledgement gives `PingAcknowledged(uid)`."""
        self._parts.lifecycle.ping(uid)

    def change_connection_id(self) -> None:
        """Use another of the peer's connection IDs, and retire the one in use. Nothing when there is no other."""
        if not self._is_closing():
            self._parts.paths.change_connection_id()

    def obstacle_to_migration(self) -> str:
        """Why this side may not move to another local address now, in words; empty when it may (RFC 9000 §9)."""
        return self._parts.paths.obstacle()

    def rebound(self, now: float) -> None:
        """What is sent from now on comes from another local address (RFC 9000 §9.2): the driver has another socket.

        A client validates the new path, on which nothing of the old one's measurements holds. One for which there is an
        `obstacle_to_migration()` is at the mercy of its peer, as after a NAT rebinding.
        """
        if self._is_started and not self._is_closing():
            now = self._clamp(now)
            self._guarded(lambda: self._parts.paths.on_rebound(now), now)

    def request_key_update(self) -> None:
        """Update the packet protection keys, as soon as RFC 9001 §6.1 permits it."""
        if not self._is_closing():
            self._parts.keys.request_update()

    def send_new_token(self, token: bytes) -> None:
        """Server: give the client a token, not empty, with which to prove its address next time (RFC 9000 §8.1.3)."""
        if self._configuration.is_client or not token:
            raise ValueError("send_new_token() is for servers, and a token is not empty (RFC 9000 §19.7)")
        if not self._is_closing():
            self._parts.handshake.send_new_token(token)

    def close(
        self, error_code: int = QuicErrorCode.NO_ERROR, frame_type: int | None = None, reason_phrase: str = ""
    ) -> None:
        """Close the connection. With `frame_type` None it is the application that closes, with its own error code.

        What was queued is not sent any more. Closing again does nothing.
        """
        reason = CloseReason(error_code, frame_type is None, False, reason_phrase, frame_type)
        lifecycle = self._parts.lifecycle
        if not self._is_started:
            lifecycle.end_at_once(reason, life.CAUSE_LOCAL)
            self._follow_end()
        else:
            lifecycle.close(reason, life.CAUSE_LOCAL, self._parts.pto())

    def abandon(self, reason_phrase: str) -> None:
        """The way to the peer is gone for good: terminate at once, without a closing period for which nobody could wait."""
        self._parts.lifecycle.abandon(CloseReason(NO_VIABLE_PATH, False, False, reason_phrase, 0))
        self._follow_end()

    # --- what it knows -----------------------------------------------------------------------------------------------

    def has_unacknowledged_data(self) -> bool:
        """Whether stream data, a FIN or a reset still waits for the peer's acknowledgement."""
        return self._parts.streams.has_unacknowledged_data()

    def is_stream_known(self, stream_id: int) -> bool:
        """Whether the stream exists and has not been discarded."""
        return stream_id in self._parts.streams.streams

    def export_keying_material(self, label: str, context: bytes, length: int) -> bytes:
        """Keying material bound to this connection (RFC 8446 §7.5). `RuntimeError` before the handshake is complete."""
        return self.tls.export_keying_material(label, context, length)

    def statistics(self) -> ConnectionStatistics:
        """A snapshot of counts and measurements."""
        parts = self._parts
        path = parts.paths.active
        rtt = path.rtt
        return ConnectionStatistics(
            round_trip_time=rtt.smoothed,
            round_trip_time_variance=rtt.variance,
            round_trip_time_minimum=rtt.minimum,
            congestion_window=path.congestion.window,
            bytes_in_flight=path.in_flight,
            datagram_size=path.datagram_size,
            bytes_sent=self._outbound.bytes_sent,
            bytes_received=self._inbound.bytes_received,
            packets_sent=self._outbound.packets_sent,
            packets_received=self._inbound.packets_received,
            packets_dropped=self._inbound.packets_dropped,
            packets_lost=parts.loss.packets_lost,
            spurious_losses=parts.loss.spurious_losses,
            probe_timeouts=parts.loss.probe_timeouts,
            key_updates=parts.keys.updates,
            is_ecn_in_use=path.ecn.state == ECN_CAPABLE,
            ecn_marks_sent=path.ecn.sent,
            congestion_marks_reported=sum([space.ecn_ce for space in parts.loss.spaces]),
            congestion_marks_received=sum([tracker.ecn_ce for tracker in parts.acks.trackers]),
            open_streams=len(parts.streams.streams),
            streams_opened=sum([local.next_index for local in parts.streams.counts.local]),
            streams_accepted=sum([peer.opened for peer in parts.streams.counts.peer]),
            datagrams_sent=parts.datagrams.sent,
            datagrams_lost=parts.datagrams.lost,
            datagrams_dropped=parts.datagrams.dropped,
        )
