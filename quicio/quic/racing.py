"""A client's connection to a server of several addresses: one handshake, and the first address to answer gets it.

A name often has an IPv6 and an IPv4 address of which one leads nowhere. Trying one after the other with a connection each
would take a handshake timeout, and would show whoever watches the connection several of them. Here there is one connection,
one set of keys, and one ClientHello: until somebody answers, its packets go to every address that is *running*.

- The first address runs at once. Another one joins when a probe timeout passes in silence (RFC 9002 §6.2) or when a running
  one is refused, and gets all packets that were sent before: `MAX_FLIGHT` of them are kept, a client's first flight is less.
- The first address from which something authentic comes wins: the connection is *settled*, the path is to that address, and
  from then on this class does nothing. Both servers may have answered: packets of the second come from an address that is
  not the path's, and are dropped (RFC 9000 §9).
- When the last one is refused, the connection ends at once: there is nobody to whom a closing period would matter. For the
  same reason `close()` before the first answer sends CONNECTION_CLOSE, and waits for nothing.

Whoever drives it tells of refusals (ICMP); without them the timeouts do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final

from quicio.quic import lifecycle as life
from quicio.quic.connection import NetworkAddress, QuicConnection
from quicio.quic.events import CloseReason
from quicio.quic.packet import QuicErrorCode
from quicio.quic.transmit import Received, Transmit

MAX_FLIGHT: Final = 16  # packets kept for addresses that join later
MAX_ADDRESSES: Final = 8  # that are tried


class RacingConnection(QuicConnection):
    """A client's `QuicConnection` to the first of `addresses` to answer; give the first of them to `connect()`."""

    def __init__(self, *, addresses: Sequence[Hashable], **options: Any) -> None:
        super().__init__(**options)
        self._waiting = deque(addresses[:MAX_ADDRESSES])  # those that do not run yet
        self._running: list[Hashable] = []
        self._flight: list[Transmit] = []
        self._copies: deque[Transmit] = deque()
        self._timeouts = 0
        self.is_settled: bool = False
        self.on_settled: Callable[[], None] | None = None  # called once: refusals do not matter any more

    def connect(self, addr: NetworkAddress, now: float) -> None:
        """As `QuicConnection.connect()`."""
        super().connect(addr, now)
        self._running.append(addr)
        if addr in self._waiting:
            self._waiting.remove(addr)

    # --- input -------------------------------------------------------------------------------------------------------

    def receive_datagrams(self, received: Received, now: float) -> None:
        """As `QuicConnection.receive_datagrams()`; the first authentic packet decides on the address."""
        if self.is_settled or received.remote not in self._running:
            super().receive_datagrams(received, now)
            return
        path = self._parts.paths.active
        before = self._progress()
        first, path.remote = path.remote, received.remote
        super().receive_datagrams(received, now)
        if self._progress() != before:
            self._settle()
        elif path.remote == received.remote:
            path.remote = first

    def _progress(self) -> tuple[object, ...]:
        """What changes when something authentic arrives: a packet, a Retry, a Version Negotiation."""
        parts = self._parts
        return self._inbound.packets_received, parts.initial_cid, parts.handshake.version, parts.lifecycle.state

    def _settle(self) -> None:
        self.is_settled = True
        self._waiting.clear()
        self._running.clear()
        self._flight.clear()
        self._copies.clear()
        on_settled, self.on_settled = self.on_settled, None
        if on_settled is not None:
            on_settled()

    def handle_timer(self, now: float) -> None:
        """As `QuicConnection.handle_timer()`; after a probe timeout another address joins."""
        super().handle_timer(now)
        if not self.is_settled:
            if self._parts.lifecycle.state == life.CLOSING:  # the handshake timeout
                self._settle()
                self.abandon("nobody has answered")
                return
            timeouts = self._parts.loss.probe_timeouts
            if timeouts > self._timeouts:
                self._timeouts = timeouts
                self._join()

    def refuse(self, remote: Hashable) -> None:
        """The system says that nobody listens at `remote`."""
        if self.is_settled or remote not in self._running:
            return
        self._running.remove(remote)
        self._join()
        if self._running:
            self._parts.paths.active.remote = self._running[0]
            return
        self._settle()
        self.abandon(f"nobody listens at {remote}")

    def _join(self) -> None:
        if not self._waiting:
            return
        remote = self._waiting.popleft()
        self._running.append(remote)
        self._copies.extend(copy(transmit, remote) for transmit in self._flight)

    # --- output ------------------------------------------------------------------------------------------------------

    def next_transmit(self, now: float, max_datagrams: int = 1) -> Transmit | None:
        """As `QuicConnection.next_transmit()`."""
        if self._copies:
            return self._copies.popleft()
        transmit = super().next_transmit(now, max_datagrams)
        if transmit is None or self.is_settled:
            return transmit
        if len(self._flight) < MAX_FLIGHT:
            self._flight.append(copy(transmit, None))
        self._copies.extend(copy(transmit, remote) for remote in self._running if remote != transmit.remote)
        return transmit

    def close(
        self, error_code: int = QuicErrorCode.NO_ERROR, frame_type: int | None = None, reason_phrase: str = ""
    ) -> None:
        """As `QuicConnection.close()`; nothing is waited for when nobody has answered yet."""
        if self._is_started and not self.is_settled:
            reason = CloseReason(error_code, frame_type is None, False, reason_phrase, frame_type)
            self._parts.lifecycle.close(reason, life.CAUSE_LOCAL, 0.0)
        else:
            super().close(error_code, frame_type, reason_phrase)


def copy(transmit: Transmit, remote: Hashable) -> Transmit:
    """The same datagrams for another address; drivers may take what was sent out of a transmit."""
    return Transmit(list(transmit.datagrams), remote, None, transmit.ecn)
