"""Connection IDs of both sides (RFC 9000 §5.1, §19.15, §19.16).

Ours come from an issuer, which may be an endpoint's routing table: `issue()` makes an ID with its stateless reset token, and
`retire()` ends it. They are independent of events, because routing must not depend on whether somebody drains a queue.
Theirs are kept by sequence number until we retire them.

Invariants: each of our IDs is issued once and retired once; we never hold more of theirs than the limit that we announced,
counting those whose retirement is still to be acknowledged (RFC 9000 §5.1.2), so a peer cannot make us queue without bound
(`MAX_PENDING_RETIREMENTS`), nor by numbering its IDs with gaps (`MAX_SEQUENCE_GAPS`); it can retire only what we have sent,
so that each replacement costs it a round trip; every loop here ends after as many steps as there are IDs held.

Which ID is used on which path is the business of `paths/validation.py`.
"""

from collections import deque
from collections.abc import Callable
from typing import Final

from quicio.quic.compiled import mypyc_attr
from quicio.quic.component import Component, Token, Wants
from quicio.quic.events import ConnectionIdIssued, ConnectionIdRetired, QuicEvent
from quicio.quic.wire.constants import (
    APPLICATION_BIT,
    CONNECTION_ID_LIMIT_ERROR,
    FRAME_ENCODING_ERROR,
    NEW_CONNECTION_ID,
    PROTOCOL_VIOLATION,
    RETIRE_CONNECTION_ID,
    QuicConnectionError,
)
from quicio.quic.wire.frames import encode_new_connection_id, encode_retire_connection_id
from quicio.quic.wire.packet_builder import PacketBuilder
from quicio.quic.wire.rangeset import RangeSet

ACTIVE_CONNECTION_ID_LIMIT: Final = 8  # of theirs that we hold, and of ours that we give out
MAX_PENDING_RETIREMENTS: Final = 4 * ACTIVE_CONNECTION_ID_LIMIT
MAX_SEQUENCE_GAPS: Final = 64  # in the sequence numbers of theirs that we have seen: loss makes a few, for a while
TOKEN_NEW: Final = 0
TOKEN_RETIRE: Final = 1


@mypyc_attr(allow_interpreted_subclasses=True)
class ConnectionIdIssuer:
    """Makes connection IDs, random by default. An endpoint supplies one that also routes."""

    def __init__(self, length: int, random_bytes: Callable[[int], bytes]) -> None:
        self.length = length
        self._random_bytes = random_bytes

    def issue(self) -> tuple[bytes, bytes]:
        """A fresh connection ID and its stateless reset token (16 bytes)."""
        return self._random_bytes(self.length), self._random_bytes(16)

    def retire(self, cid: bytes) -> None:
        """The connection ID is no longer in use."""

    def expect_reset(self, token: bytes) -> None:
        """A datagram that ends in `token` is for this connection, whatever its connection ID says (RFC 9000 §10.3.1)."""

    def forget_reset(self, token: bytes) -> None:
        """`token` means nothing any more."""


class PeerConnectionId:
    """A connection ID that the peer gave us."""

    __slots__ = ("cid", "is_used", "reset_token", "sequence")

    def __init__(self, sequence: int, cid: bytes, reset_token: bytes | None) -> None:
        self.sequence: int = sequence
        self.cid: bytes = cid
        self.reset_token: bytes | None = reset_token
        self.is_used: bool = False  # a path has sent to it: from then on its reset token counts


class ConnectionIds(Component):
    """The connection IDs that we gave out, and those that we were given."""

    def __init__(self, wants: Wants, events: deque[QuicEvent], issuer: ConnectionIdIssuer) -> None:
        super().__init__(wants)
        self._events = events
        self._issuer = issuer
        self._local: dict[int, tuple[bytes, bytes]] = {}
        self._next_sequence = 0
        self._told = 1  # sequence numbers below it were sent to the peer; the handshake tells the first
        self._to_issue: list[int] = []
        self._peer_limit = 2  # RFC 9000 §18.2, active_connection_id_limit
        self.peer: dict[int, PeerConnectionId] = {}  # by sequence: usable now
        self._retired_below = 0  # the largest Retire Prior To seen
        self._retiring: dict[int, bool] = {}  # sequence: whether its frame is to be (re)sent
        self._seen = RangeSet()  # sequence numbers at or above `_retired_below` that were ever accepted
        self.host_cid, self.host_reset_token = self._new_local()

    # --- ours --------------------------------------------------------------------------------------------------------

    def _new_local(self) -> tuple[bytes, bytes]:
        cid, token = self._issuer.issue()
        self._local[self._next_sequence] = (cid, token)
        self._next_sequence += 1
        return cid, token

    def local_cids(self) -> list[bytes]:
        """Our connection IDs that are in use now."""
        return [cid for cid, _ in self._local.values()]

    def numbered_cids(self) -> list[tuple[int, bytes]]:
        """The same with their sequence numbers."""
        return [(sequence, cid) for sequence, (cid, _) in self._local.items()]

    def is_local(self, cid: bytes) -> bool:
        """Whether packets may arrive with this destination connection ID."""
        for known, _ in self._local.values():
            if known == cid:
                return True
        return False

    def on_peer_limit(self, limit: int) -> None:
        """The peer's `active_connection_id_limit`."""
        self._peer_limit = min(limit, ACTIVE_CONNECTION_ID_LIMIT)

    def replenish(self) -> None:
        """Give out IDs up to the peer's limit. Zero-length IDs are never followed by others (RFC 9000 §5.1.1)."""
        if self._issuer.length == 0:
            return
        while len(self._local) < self._peer_limit:
            sequence = self._next_sequence
            cid, _ = self._new_local()
            self._to_issue.append(sequence)
            self._events.append(ConnectionIdIssued(connection_id=cid))
        if self._to_issue:
            self.want(APPLICATION_BIT)

    def on_retire_frame(self, sequence: int, arrived_on: bytes) -> None:
        """RETIRE_CONNECTION_ID (RFC 9000 §19.16)."""
        if sequence >= self._told:  # not what we have made, but what we have sent
            raise QuicConnectionError(
                PROTOCOL_VIOLATION, RETIRE_CONNECTION_ID, "Cannot retire an unknown connection ID"
            )
        entry = self._local.get(sequence)
        if entry is None:
            return
        if entry[0] == arrived_on:
            raise QuicConnectionError(
                PROTOCOL_VIOLATION, RETIRE_CONNECTION_ID, "Cannot retire the connection ID that the packet arrived with"
            )
        self._retire_local(sequence)
        self.replenish()

    def _retire_local(self, sequence: int) -> None:
        cid, _ = self._local.pop(sequence)
        if sequence in self._to_issue:  # its frame was taken for lost, yet it had arrived
            self._to_issue.remove(sequence)
        self._issuer.retire(cid)
        self._events.append(ConnectionIdRetired(connection_id=cid))

    def retire_all(self) -> None:
        """The connection is over: none of our IDs is in use any more. `ConnectionTerminated` says so; no event more."""
        for cid, _ in self._local.values():
            self._issuer.retire(cid)
        for token in self.reset_tokens():
            self._issuer.forget_reset(token)
        self._local.clear()
        self._to_issue.clear()
        self._retiring.clear()
        self.pending = 0

    # --- theirs ------------------------------------------------------------------------------------------------------

    def set_initial_peer_cid(self, cid: bytes, reset_token: bytes | None = None) -> None:
        """The ID that the peer chose in the handshake: sequence 0 (RFC 9000 §5.1.1)."""
        first = PeerConnectionId(0, cid, reset_token)
        self.peer[0] = first
        self._seen.add(0, 1)
        self.use(first)

    def on_peer_reset_token(self, token: bytes) -> None:
        """The server's `stateless_reset_token`, which belongs to the ID of the handshake (RFC 9000 §18.2)."""
        first = self.peer.get(0)
        if first is not None:
            first.reset_token = token
            self.use(first)

    def on_new_frame(self, sequence: int, retire_prior_to: int, cid: bytes, reset_token: bytes) -> bool:
        """NEW_CONNECTION_ID (RFC 9000 §19.15). True when IDs had to be retired, so paths must choose again."""
        if retire_prior_to > sequence or not 1 <= len(cid) <= 20:
            raise QuicConnectionError(FRAME_ENCODING_ERROR, NEW_CONNECTION_ID, "Malformed NEW_CONNECTION_ID frame")
        first = self.peer.get(0)
        if first is not None and first.cid == b"":
            raise QuicConnectionError(
                PROTOCOL_VIOLATION, NEW_CONNECTION_ID, "A peer with a zero-length connection ID cannot issue others"
            )
        known = self.peer.get(sequence)
        if known is not None:
            if known.cid != cid or known.reset_token != reset_token:
                raise QuicConnectionError(
                    PROTOCOL_VIOLATION, NEW_CONNECTION_ID, "A sequence number was used for two connection IDs"
                )
        else:
            for other in self.peer.values():
                if other.cid == cid:
                    raise QuicConnectionError(
                        PROTOCOL_VIOLATION, NEW_CONNECTION_ID, "A connection ID was issued with two sequence numbers"
                    )
            self._accept_new(sequence, cid, reset_token)
        changed = False
        if retire_prior_to > self._retired_below:
            self._retired_below = retire_prior_to
            self._seen.drop_below(retire_prior_to)
            for old in [number for number in self.peer if number < retire_prior_to]:
                self.retire_peer(old)
                changed = True
        if len(self.peer) > ACTIVE_CONNECTION_ID_LIMIT:
            raise QuicConnectionError(CONNECTION_ID_LIMIT_ERROR, NEW_CONNECTION_ID, "Too many active connection IDs")
        return changed

    def _accept_new(self, sequence: int, cid: bytes, reset_token: bytes) -> None:
        if sequence < self._retired_below:
            self._queue_retirement(sequence)
        elif sequence not in self._seen:  # a repeated frame must not bring back what was retired
            self._seen.add(sequence, sequence + 1)
            if len(self._seen) > MAX_SEQUENCE_GAPS:
                raise QuicConnectionError(
                    CONNECTION_ID_LIMIT_ERROR, NEW_CONNECTION_ID, "Too many gaps in the numbers of connection IDs"
                )
            self.peer[sequence] = PeerConnectionId(sequence, cid, reset_token)

    def _queue_retirement(self, sequence: int) -> None:
        if sequence in self._retiring:
            return
        if len(self._retiring) >= MAX_PENDING_RETIREMENTS:
            raise QuicConnectionError(CONNECTION_ID_LIMIT_ERROR, NEW_CONNECTION_ID, "Too many pending retirements")
        self._retiring[sequence] = True
        self.want(APPLICATION_BIT)

    def retire_peer(self, sequence: int) -> None:
        """Stop using one of the peer's IDs and tell it so."""
        entry = self.peer.pop(sequence, None)
        if entry is not None:
            if entry.is_used and entry.reset_token is not None:
                self._issuer.forget_reset(entry.reset_token)
            self._queue_retirement(sequence)

    def use(self, entry: PeerConnectionId) -> None:
        """A path sends to this ID from now on."""
        entry.is_used = True
        if entry.reset_token is not None:
            self._issuer.expect_reset(entry.reset_token)

    def spare(self, in_use: set[int]) -> PeerConnectionId | None:
        """The lowest of the peer's IDs that no path uses, or None."""
        best: PeerConnectionId | None = None
        for entry in self.peer.values():
            if entry.sequence not in in_use and (best is None or entry.sequence < best.sequence):
                best = entry
        return best

    def reset_tokens(self) -> list[bytes]:
        """Stateless reset tokens of the peer's IDs that were used and are not retired (RFC 9000 §10.3.1)."""
        return [entry.reset_token for entry in self.peer.values() if entry.is_used and entry.reset_token is not None]

    # --- frames ------------------------------------------------------------------------------------------------------

    def write(self, packet: PacketBuilder, now: float) -> None:
        while self._to_issue:
            sequence = self._to_issue[0]
            entry = self._local[sequence]
            frame = encode_new_connection_id(sequence, 0, entry[0], entry[1])
            if len(frame) > packet.room:
                return
            del self._to_issue[0]
            if sequence >= self._told:
                self._told = sequence + 1
            packet.push(frame, (self, TOKEN_NEW, sequence))
        for sequence, is_due in self._retiring.items():
            if not is_due:
                continue
            frame = encode_retire_connection_id(sequence)
            if len(frame) > packet.room:
                return
            self._retiring[sequence] = False
            packet.push(frame, (self, TOKEN_RETIRE, sequence))
        self.pending = 0

    def on_acked(self, token: Token, now: float) -> None:
        if token[1] == TOKEN_RETIRE:
            self._retiring.pop(token[2], None)

    def on_lost(self, token: Token, now: float) -> None:
        sequence: int = token[2]
        if token[1] == TOKEN_NEW:
            if sequence in self._local and sequence not in self._to_issue:
                self._to_issue.append(sequence)
                self.want(APPLICATION_BIT)
        elif sequence in self._retiring:
            self._retiring[sequence] = True
            self.want(APPLICATION_BIT)

    def on_probe(self, token: Token, now: float) -> None:
        self.on_lost(token, now)
