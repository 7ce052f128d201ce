"""The components of one connection, wired and in their order of writing.

Inbound and Outbound need most of the components, and both need the one rule that concerns all: what happens when the keys
of a packet number space are discarded (RFC 9001 §4.9). The connection builds one of these; no component sees it.
"""

from collections import deque
from math import inf
from typing import Final

from quicio.quic.component import Component, Wants
from quicio.quic.datagrams import Datagrams
from quicio.quic.events import EarlyDataRejected, QuicEvent
from quicio.quic.handshake import Handshake
from quicio.quic.lifecycle import CLOSING, Lifecycle
from quicio.quic.observer import Observer
from quicio.quic.paths.connection_ids import ConnectionIds
from quicio.quic.paths.validation import Paths
from quicio.quic.recovery.acks import Acks
from quicio.quic.recovery.loss import LossDetection
from quicio.quic.streams.budget import MemoryBudget
from quicio.quic.streams.collection import Streams
from quicio.quic.wire.constants import (
    APPLICATION,
    EPOCH_HANDSHAKE,
    EPOCH_INITIAL,
    EPOCH_ONE_RTT,
    EPOCH_ZERO_RTT,
    HANDSHAKE,
    INITIAL,
)
from quicio.quic.wire.crypto import KeyRing
from quicio.quic.wire.transport_parameters import TransportParameters

ZERO_RTT_KEY_PTOS: Final = 3.0  # for which a server keeps 0-RTT keys after the handshake (RFC 9001 §4.9.3)
EPOCH_OF_SPACE: list[int] = [EPOCH_INITIAL, EPOCH_HANDSHAKE, EPOCH_ONE_RTT]


class Parts:
    """What a connection is made of."""

    def __init__(
        self,
        *,
        is_client: bool,
        wants: Wants,
        events: deque[QuicEvent],
        keys: KeyRing,
        acks: Acks,
        loss: LossDetection,
        handshake: Handshake,
        streams: Streams,
        datagrams: Datagrams,
        budget: MemoryBudget,
        connection_ids: ConnectionIds,
        paths: Paths,
        lifecycle: Lifecycle,
    ) -> None:
        self.is_client = is_client
        self.wants = wants
        self.events = events
        self.keys = keys
        self.acks = acks
        self.loss = loss
        self.handshake = handshake
        self.streams = streams
        self.datagrams = datagrams
        self.budget = budget
        self.connection_ids = connection_ids
        self.paths = paths
        self.lifecycle = lifecycle
        self.observer: Observer | None = None
        # Those that write, ACKs apart: first what others wait for, bulk data last.
        self.writers: list[Component] = [handshake, paths, connection_ids, lifecycle, datagrams, streams]
        self.timed: list[Component] = [lifecycle, loss, acks, paths, streams, handshake]
        self.initial_cid = b""  # what the Initial keys are derived from
        self.initial_token = b""  # what a client's Initial packets carry
        self.native = False  # the application has asked for native events
        self.cancelled_code = 0  # the application protocol's error code for what is given up
        self._are_parameters_applied = False
        self.peer_max_ack_delay = 0.025
        self.peer_ack_delay_scale = 8e-6  # seconds a unit of the peer's ACK Delay, by its ack_delay_exponent

    def discard_space(self, space: int) -> None:
        """The keys of `space` are no longer needed (RFC 9001 §4.9): everybody forgets it."""
        epoch = EPOCH_OF_SPACE[space]
        if self.keys.sealing[epoch] is None and self.keys.opening[epoch] is None:
            return
        self.keys.discard(epoch)
        self.loss.discard(space)
        self.acks.on_space_discarded(space)
        for component in self.writers:
            component.on_space_discarded(space)
        self.recompute_wants()

    def after_crypto(self, now: float) -> None:
        """A packet may have moved the handshake: act on what is new, each thing once."""
        handshake = self.handshake
        if handshake.version_changed:
            handshake.version_changed = False
            self.keys.install_initial(self.initial_cid, handshake.version)
        if handshake.early_data_is_rejected:
            handshake.early_data_is_rejected = False
            self.restart_early_data(now, handshake.early_alpn == handshake.machine.alpn)
        if handshake.remote_parameters is not None and not self._are_parameters_applied:
            self._are_parameters_applied = True
            self._apply_parameters(handshake.remote_parameters)
        if self.keys.sealing[EPOCH_HANDSHAKE] is not None:
            self.loss.has_handshake_keys = True
        if handshake.is_complete:
            self.lifecycle.on_handshake_complete(now)
        if handshake.is_confirmed and not self.keys.confirmed:
            self._confirm_handshake(now)

    def _apply_parameters(self, parameters: TransportParameters) -> None:
        """What the peer announced (RFC 9000 §18.2) reaches those whom it concerns."""
        if self.observer is not None:
            self.observer.on_parameters(parameters, False)
        self.peer_max_ack_delay = parameters.max_ack_delay / 1000
        self.peer_ack_delay_scale = (1 << parameters.ack_delay_exponent) / 1_000_000
        self.loss.max_ack_delay = self.peer_max_ack_delay
        self.lifecycle.on_peer_idle_timeout(parameters.max_idle_timeout / 1000)
        self.connection_ids.on_peer_limit(parameters.active_connection_id_limit)
        if parameters.stateless_reset_token is not None:
            self.connection_ids.on_peer_reset_token(parameters.stateless_reset_token)
        self.datagrams.on_parameters(parameters.max_datagram_frame_size)
        self.streams.on_parameters(parameters)
        self.paths.on_peer_limits(parameters.max_udp_payload_size, parameters.disable_active_migration)

    def begin_early_data(self, parameters: TransportParameters) -> None:
        """Client: the limits that a ticket remembers hold until the server has spoken (RFC 9000 §7.4.1)."""
        self.datagrams.on_parameters(parameters.max_datagram_frame_size)
        self.streams.on_parameters(parameters)

    def repeat_early_data(self, now: float) -> None:
        """Client: after a Retry the server has seen nothing of it, and nothing else has changed (RFC 9000 §17.2.5.3)."""
        self._take_back_early_packets(now)
        self.recompute_wants()

    def _take_back_early_packets(self, now: float) -> None:
        """Nobody will ever acknowledge them; what was in them is offered again (RFC 9002 §6.4)."""
        self.loss.offer_probes(APPLICATION, self.loss.spaces[APPLICATION].next_number, now)
        self.loss.forget_space(APPLICATION)

    def restart_early_data(self, now: float, is_resent: bool) -> None:
        """Client: the server rejects early data. It is sent again when the new limits are known, or given up.

        It is given up where the server chose another application protocol than it was written for.
        """
        self.keys.discard(EPOCH_ZERO_RTT)
        self._take_back_early_packets(now)
        early = self.loss.spaces[APPLICATION]
        early.rejected_below = early.next_number
        self.streams.on_early_data_rejected()
        self.datagrams.on_parameters(0)
        if not is_resent:
            for stream in list(self.streams.streams.values()):
                if stream.send is not None:
                    self.streams.reset(stream.stream_id, self.cancelled_code)
        if self.native:
            self.events.append(EarlyDataRejected(is_resent))
        self.recompute_wants()

    def _confirm_handshake(self, now: float) -> None:
        """RFC 9001 §4.1.2: the handshake's keys go, migration and key updates may come."""
        self.discard_space(INITIAL)
        self.discard_space(HANDSHAKE)
        self.keys.confirmed = True
        self.loss.on_handshake_confirmed()
        self.paths.can_migrate = True
        self.connection_ids.replenish()
        if self.keys.opening[EPOCH_ZERO_RTT] is not None:
            self.handshake.deadline = now + ZERO_RTT_KEY_PTOS * self.pto()

    def follow_path(self) -> None:
        """Recovery and flow control measure on the active path, which may have changed."""
        path = self.paths.active
        if self.loss.path is not path:
            self.loss.path = path
            self.streams.rtt = path.rtt

    def abandon_forgotten(self, now: float) -> None:
        """What was sent on paths that are not known any more is lost. Raises `QuicConnectionError` when that never ends."""
        paths = self.paths
        while paths.forgotten:
            path = paths.forgotten.pop()
            if path not in paths.known:  # one may be known again by the end of the packet that had it forgotten
                self.loss.abandon_path(path, now)

    def recompute_wants(self) -> None:
        """Make the shared mask exactly the union over the components."""
        mask = self.acks.pending
        for component in self.writers:
            mask |= component.pending
        self.wants.mask = mask

    def pto(self) -> float:
        """The probe timeout on the active path, without backoff (RFC 9002 §6.2.1)."""
        return self.paths.active.rtt.pto(self.peer_max_ack_delay)

    def deadline(self) -> float:
        """The earliest deadline of all components; once closing, of the lifecycle alone: nothing is sent again any more."""
        if self.lifecycle.state >= CLOSING:
            return self.lifecycle.deadline
        earliest = inf
        for component in self.timed:
            earliest = min(earliest, component.deadline)
        return earliest

    def run_timers(self, now: float) -> None:
        """Call those whose time has come."""
        for component in self.timed:
            if component.deadline <= now:
                component.on_timer(now)
            if self.lifecycle.state >= CLOSING:
                return  # the lifecycle, which comes first, is the only one that still waits
