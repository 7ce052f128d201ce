"""From the first flight to the end: idle timeout, handshake timeout, keep-alive, closing and draining (RFC 9000 §10).

The states are those of RFC 9000 §10, numbered as `QuicConnectionState` is:

    FIRSTFLIGHT ──► CONNECTED ──► CLOSING ───► TERMINATED
         │              │            │             ▲
         │              └────────► DRAINING ───────┤
         └── idle or handshake timeout, reset ─────┘

Rules:
- `close_reason` is set at the moment a close is sent or received (or the connection just ends); waiters wake then. The
  end, TERMINATED, comes after the closing or draining period of three probe timeouts (§10.2), or as soon as both sides
  have heard of it: a peer's close is answered once, and that answer ends the peer's wait (§10.2.2).
- The idle timer restarts on every packet received, and on the first ACK-eliciting packet sent since (§10.1); it is the
  smaller of both sides' values and never less than three probe timeouts.
- In the closing state a CONNECTION_CLOSE answers incoming packets, at a rate that halves as they go on (§10.2.1).
- After a PING was asked for, or when keep-alive is due, a PING frame is written; its acknowledgement ends the wait.

What the close packets look like is `Outbound`'s business, by §10.2.3; this component says that one is due.
"""

from collections import deque
from math import inf
from typing import Final

from quicio.quic.component import Component, Token, Wants
from quicio.quic.events import CloseReason, PingAcknowledged, QuicEvent
from quicio.quic.wire.constants import APPLICATION_BIT, INTERNAL_ERROR, NO_ERROR
from quicio.quic.wire.frames import PING_FRAME
from quicio.quic.wire.packet_builder import PacketBuilder

FIRSTFLIGHT: Final = 0
CONNECTED: Final = 1
CLOSING: Final = 2
DRAINING: Final = 3
TERMINATED: Final = 4

MAX_PENDING_PINGS: Final = 1024
MAX_CLOSE_INTERVAL: Final = 1024  # packets between two repetitions of CONNECTION_CLOSE
REASON_MAX_SIZE: Final = 300  # bytes of a reason phrase that are sent: packets of three spaces share one datagram

# What ended the connection, for faces that raise a different error for each.
CAUSE_NONE: Final = 0
CAUSE_LOCAL: Final = 1  # closed by this side's application
CAUSE_PEER: Final = 2  # CONNECTION_CLOSE received
CAUSE_VIOLATION: Final = 3  # closed by this side because of what the peer sent
CAUSE_IDLE_TIMEOUT: Final = 4
CAUSE_HANDSHAKE_TIMEOUT: Final = 5
CAUSE_STATELESS_RESET: Final = 6
CAUSE_VERSION: Final = 7  # no version in common


class Lifecycle(Component):
    """State, timers and reason of the end of one connection."""

    def __init__(
        self,
        wants: Wants,
        events: deque[QuicEvent],
        *,
        idle_timeout: float,
        handshake_timeout: float,
        keep_alive: float | None,
    ) -> None:
        super().__init__(wants)
        self._events = events
        self._local_idle_timeout = idle_timeout
        self._idle_timeout = idle_timeout  # 0.0: none
        self._handshake_timeout = handshake_timeout
        self._keep_alive = keep_alive if keep_alive is not None else inf
        self._idle_at = inf
        self._handshake_at = inf
        self._keep_alive_at = inf
        self._end_at = inf
        self.sent_since_received = False  # an ACK-eliciting packet, since the last packet came
        self._pings: list[int] = []  # to go with the next PING
        self._unanswered: list[int] = []  # asked for and not acknowledged
        self._ping_is_due = False
        self._close_countdown = 0
        self._close_interval = 1
        self._frame_type: int | None = None
        self._pto = 0.3
        self.native = False
        self.state = FIRSTFLIGHT
        self.close_reason: CloseReason | None = None
        self.close_cause = CAUSE_NONE
        self.close_is_due = False  # Outbound: send CONNECTION_CLOSE now

    # --- timers ------------------------------------------------------------------------------------------------------

    def start(self, now: float) -> None:
        """The connection's first packet was sent or received."""
        if self._handshake_timeout > 0:
            self._handshake_at = now + self._handshake_timeout
        self._restart_idle(now)

    def on_peer_idle_timeout(self, seconds: float) -> None:
        """The peer's `max_idle_timeout`, 0.0 when it has none (RFC 9000 §10.1)."""
        local = self._local_idle_timeout
        if seconds > 0 and local > 0:
            self._idle_timeout = min(seconds, local)
        else:
            self._idle_timeout = seconds if seconds > 0 else local
        if self._idle_timeout > 0:
            self._keep_alive = min(self._keep_alive, self._idle_timeout / 2) if self._keep_alive < inf else inf

    def _restart_idle(self, now: float) -> None:
        if self._idle_timeout > 0:
            self._idle_at = now + max(self._idle_timeout, 3 * self._pto)
        self._keep_alive_at = now + self._keep_alive
        self._set_deadline()

    def _set_deadline(self) -> None:
        if self.state < CLOSING:
            self.deadline = min(self._idle_at, self._handshake_at, self._keep_alive_at)
        else:
            self.deadline = self._end_at

    def on_received(self, now: float, pto: float) -> None:
        """A burst of packets was received and authenticated."""
        self._pto = pto
        self.sent_since_received = False
        if self.state < CLOSING:
            self._restart_idle(now)

    def on_sent(self, now: float, pto: float) -> None:
        """A packet that elicits an ACK was sent."""
        if not self.sent_since_received and self.state < CLOSING:
            self.sent_since_received = True
            self._pto = pto
            self._restart_idle(now)

    def on_handshake_complete(self, now: float) -> None:
        """TLS is done: the handshake timeout no longer applies."""
        self._handshake_at = inf
        if self.state == FIRSTFLIGHT:
            self.state = CONNECTED
        self._set_deadline()

    def on_timer(self, now: float) -> None:
        if self.state >= CLOSING:
            if now >= self._end_at:
                self._terminate()
        elif now >= self._idle_at:
            self.end_at_once(CloseReason(INTERNAL_ERROR, False, False, "Idle timeout", 0), CAUSE_IDLE_TIMEOUT)
        elif now >= self._handshake_at:
            self._handshake_at = inf
            self.close(CloseReason(NO_ERROR, False, False, "Handshake timeout", 0), CAUSE_HANDSHAKE_TIMEOUT, self._pto)
        elif now >= self._keep_alive_at:
            self._keep_alive_at = now + self._keep_alive
            self._ping_is_due = True
            self.want(APPLICATION_BIT)
            self._set_deadline()

    # --- the end -----------------------------------------------------------------------------------------------------

    def close(self, reason: CloseReason, cause: int, pto: float) -> None:
        """Close from this side: enter the closing state and have CONNECTION_CLOSE sent. Nothing once closed."""
        if self.state >= CLOSING:
            return
        self._pto = pto
        self._note_closing(reason, cause)
        self.state = CLOSING
        self.close_is_due = True
        self.pending = 0
        self._set_deadline()

    def on_close_sent(self, now: float) -> None:
        """CONNECTION_CLOSE went out, or could not: from the first time on the closing period runs."""
        if self._end_at == inf:
            self._end_at = now + 3 * self._pto
            self._set_deadline()

    def on_peer_close(self, reason: CloseReason, now: float, pto: float) -> None:
        """CONNECTION_CLOSE was received: drain (RFC 9000 §10.2.2), after one answer if we had not closed (§10.2)."""
        if self.state >= DRAINING:
            return
        if self.state == CLOSING:
            self._end_at = min(self._end_at, now)  # both sides know: nothing is left to wait for
            self.close_is_due = False
        else:
            self._note_closing(reason, CAUSE_PEER)
            self._end_at = now + 3 * pto
            self.close_is_due = True  # one answer, so that the peer need not wait out its closing period
        self.state = DRAINING
        self.pending = 0
        self._set_deadline()

    def end_at_once(self, reason: CloseReason, cause: int) -> None:
        """The connection is gone without a closing period: idle timeout, stateless reset, no common version."""
        if self.state >= CLOSING:
            return
        self._note_closing(reason, cause)
        self._terminate()

    def abandon(self, reason: CloseReason) -> None:
        """Nothing can be sent or received any more: the end, in any state; `reason` where there was none."""
        if self.state < TERMINATED:
            if self.close_reason is None:
                self._note_closing(reason, CAUSE_LOCAL)
            self._terminate()

    def _note_closing(self, reason: CloseReason, cause: int) -> None:
        self.close_reason = reason
        self.close_cause = cause
        if self.native:
            self._events.append(reason.closing())

    def _terminate(self) -> None:
        reason = self.close_reason
        assert reason is not None  # every way here sets it
        self.state = TERMINATED
        self.close_is_due = False
        self.pending = 0
        self.deadline = inf
        self._events.append(reason.terminated())

    def on_packet_while_closing(self) -> None:
        """A packet arrived in the closing state: repeat CONNECTION_CLOSE, ever more rarely (RFC 9000 §10.2.1)."""
        if self.state != CLOSING:
            return
        if self._close_countdown == 0:
            self.close_is_due = True
            self._close_countdown = self._close_interval
            self._close_interval = min(2 * self._close_interval, MAX_CLOSE_INTERVAL)
        else:
            self._close_countdown -= 1

    # --- PING --------------------------------------------------------------------------------------------------------

    def ping(self, uid: int) -> None:
        """Have a PING sent; its acknowledgement gives `PingAcknowledged(uid)`."""
        if len(self._unanswered) >= MAX_PENDING_PINGS:
            raise RuntimeError(f"{MAX_PENDING_PINGS} pings are waiting already: await some of them first")
        if self.state < CLOSING:
            self._pings.append(uid)
            self._unanswered.append(uid)
            self._ping_is_due = True
            self.want(APPLICATION_BIT)

    def write(self, packet: PacketBuilder, now: float) -> None:
        if packet.room < 1:
            return
        if self._ping_is_due:
            packet.push(PING_FRAME, (self, tuple(self._pings)))
            self._pings = []
            self._ping_is_due = False
        self.pending = 0

    def on_acked(self, token: Token, now: float) -> None:
        for uid in token[1]:
            if uid in self._unanswered:
                self._unanswered.remove(uid)
                self._events.append(PingAcknowledged(uid=uid))

    def on_lost(self, token: Token, now: float) -> None:
        again = [uid for uid in token[1] if uid in self._unanswered and uid not in self._pings]
        if again and self.state < CLOSING:
            self._pings += again
            self._ping_is_due = True
            self.want(APPLICATION_BIT)

    def on_probe(self, token: Token, now: float) -> None:
        self.on_lost(token, now)
