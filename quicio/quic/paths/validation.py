"""The paths of a connection: which are known, which is in use, which are validated (RFC 9000 §8.2, §9).

One path is active: everything that is not about a path goes there. A server follows its client: a non-probing packet with
the highest packet number so far, from another address, makes that address the active path at once, unvalidated and so
under the anti-amplification limit, and starts the validation of the new path and of the old one (§9.3.3: an attacker may
have copied the packet). When the new path cannot be validated the connection returns to the last one that was. A client
drops what comes from an address that it did not choose (§9). A client that moves tells by `on_rebound()`.

Limits, each against a peer that makes us remember or send: `MAX_PATHS` known at a time, and none before an authentic packet
came on it, so that forged datagrams displace no path; one PATH_RESPONSE waiting a path, the newest (§8.2.2); one PATH_CHALLENGE
a packet, `MAX_CHALLENGES` remembered; no path to one of `BLOCKED_PORTS` (§21.5).

What it leaves to others: congestion, RTT and size belong to each `Path`; packets are built by `Outbound`, which visits a path
that is not active only while `others_pending` says so.
"""

from collections import deque
from collections.abc import Callable, Hashable
from math import inf
from typing import Final

from quicio.quic.compiled import mypyc_attr
from quicio.quic.component import Component, Token, Wants
from quicio.quic.events import PathChanged, QuicEvent
from quicio.quic.paths.connection_ids import ConnectionIds, PeerConnectionId
from quicio.quic.paths.path import Path, is_blocked_port, is_same_host
from quicio.quic.recovery.rtt import K_INITIAL_RTT
from quicio.quic.wire.constants import APPLICATION, APPLICATION_BIT
from quicio.quic.wire.frames import encode_path_challenge, encode_path_response
from quicio.quic.wire.packet_builder import PacketBuilder

MAX_PATHS: Final = 4
MAX_CHALLENGES: Final = 4
INITIAL_PTO: Final = 3 * K_INITIAL_RTT  # seconds; of a path of which nothing is known yet (RFC 9002 §6.2.2)
PATH_FRAME_SIZE: Final = 9
TOKEN_CHALLENGE: Final = 0
TOKEN_RESPONSE: Final = 1


@mypyc_attr(allow_interpreted_subclasses=True)
class PathFactory:
    """Makes the state of a new path; the connection supplies one that knows its configuration."""

    def create(self, remote: Hashable, local: Hashable, is_validated: bool) -> Path:
        """A path with a fresh RTT estimate, congestion controller and datagram size."""
        raise TypeError("PathFactory is a base class: supply one whose create() returns a Path")


class Paths(Component):
    """Known paths, the active one, and the validation of those that need it."""

    active: Path

    def __init__(
        self,
        wants: Wants,
        events: deque[QuicEvent],
        factory: PathFactory,
        connection_ids: ConnectionIds,
        random_bytes: Callable[[int], bytes],
        *,
        is_client: bool,
        first: Path,
    ) -> None:
        super().__init__(wants)
        self._events = events
        self._factory = factory
        self._connection_ids = connection_ids
        self._random_bytes = random_bytes
        self._is_client = is_client
        self._last_validated: Path | None = None
        self.native = False
        self.active = first
        self.known: list[Path] = [first]
        self.forgotten: list[Path] = []  # known no more; loss detection has yet to hear of it
        self.others_pending = False  # a path that is not active has frames due
        self.can_migrate = False  # the handshake is confirmed (RFC 9000 §9)
        self.peer_max_payload = 65527
        self.peer_disables_migration = False

    # --- datagrams ---------------------------------------------------------------------------------------------------

    def for_datagrams(self, remote: Hashable, local: Hashable) -> Path | None:
        """The path that datagrams arrived on; None when they are to be dropped.

        A path that was not known becomes so by `admit()`, when a datagram turned out to be authentic.
        """
        active = self.active
        if active.remote == remote and (active.local == local or local is None):
            return active
        for path in self.known:
            if path.remote == remote and (path.local == local or path.local is None or local is None):
                if path.local is None:
                    path.local = local
                return path
        if self._is_client or not self.can_migrate or is_blocked_port(remote):
            return None
        path = self._factory.create(remote, local, False)
        path.limit_size(self.peer_max_payload)
        return path

    def admit(self, path: Path) -> None:
        """An authentic packet came on `path`: know it from now on. The oldest that nothing depends on makes room."""
        if path in self.known:
            return
        if len(self.known) >= MAX_PATHS:
            for other in self.known:
                if other is not self.active and other is not self._last_validated:
                    self._forget(other)
                    break
        path.peer_cid = self.active.peer_cid
        path.peer_cid_sequence = self.active.peer_cid_sequence
        self.known.append(path)

    def _forget(self, path: Path) -> None:
        self.known.remove(path)
        self.forgotten.append(path)
        sequence = path.peer_cid_sequence
        if path.validation_deadline < inf:
            path.validation_deadline = inf
            self._set_deadline()
        path.challenge_is_due = False
        path.response = b""
        for other in self.known:
            if other.peer_cid_sequence == sequence:
                return
        if path.peer_cid:
            self._connection_ids.retire_peer(sequence)

    def on_peer_limits(self, max_udp_payload_size: int, disable_active_migration: bool) -> None:
        """The peer's transport parameters: no datagram to it may be larger than it takes (RFC 9000 §18.2)."""
        self.peer_max_payload = max_udp_payload_size
        self.peer_disables_migration = disable_active_migration
        for path in self.known:
            path.limit_size(max_udp_payload_size)

    # --- migration ---------------------------------------------------------------------------------------------------

    def on_non_probing(self, path: Path, now: float) -> None:
        """The highest-numbered packet so far came on `path` and is not just a probe (RFC 9000 §9.3)."""
        if self._is_client or path is self.active:
            return
        self.admit(path)  # frames of this very packet may have retired the connection ID that it would use
        old = self.active
        if old.is_validated:
            self._last_validated = old
        if is_same_host(old.remote, path.remote):  # a NAT rebinding: the network did not change (RFC 9000 §9.4)
            path.congestion = old.congestion
            path.rtt = old.rtt
            path.mtu = old.mtu
            path.datagram_size = old.datagram_size
        self._use_fresh_cid(path)
        self._switch(path)
        if not path.is_validated:
            self._validate(path, now)
        self._validate(old, now)

    def obstacle(self) -> str:
        """Why this side may not migrate now, in words; empty when it may (RFC 9000 §9)."""
        if not self._is_client:
            return "only clients migrate (RFC 9000 §9)"
        if not self.can_migrate:
            return "the handshake is not confirmed yet (RFC 9000 §9)"
        if self.peer_disables_migration:
            return "the server forbids it (disable_active_migration, RFC 9000 §18.2)"
        if self.active.peer_cid and self._connection_ids.spare({path.peer_cid_sequence for path in self.known}) is None:
            return "the server has given no unused connection ID for it yet (RFC 9000 §9.5)"
        return ""

    def on_rebound(self, now: float) -> None:
        """This side's datagrams come from another address now, so the peer sees another path.

        A client whose handshake is confirmed starts anew on it: nothing that it knew of the old one holds (RFC 9000 §9.4), an
        unused connection ID keeps the two from being linked (§9.5), and the path is validated (§8.2). The peer's address is
        the one that was validated before, so nothing limits what may be sent.
        """
        for path in self.known:
            path.local = None
        if not self._is_client or not self.can_migrate:
            return
        old = self.active
        path = self._factory.create(old.remote, None, True)
        path.limit_size(self.peer_max_payload)
        path.peer_cid = old.peer_cid
        path.peer_cid_sequence = old.peer_cid_sequence
        spare = self._connection_ids.spare({other.peer_cid_sequence for other in self.known}) if old.peer_cid else None
        for other in list(self.known):
            if other is not old:
                self._forget(other)
        self.known = [path]
        if spare is not None:
            self._use(path, spare)
            self._connection_ids.retire_peer(old.peer_cid_sequence)
        self._last_validated = None
        self._switch(path)
        self._validate(path, now)

    def _use_fresh_cid(self, path: Path) -> None:
        """A path that shares its connection ID with another gets one of its own: nobody can link the two (RFC 9000 §9.5)."""
        in_use = {other.peer_cid_sequence for other in self.known if other is not path}
        if path.peer_cid_sequence not in in_use:
            return
        spare = self._connection_ids.spare(in_use)
        if spare is not None:
            self._use(path, spare)

    def _use(self, path: Path, entry: PeerConnectionId) -> None:
        path.peer_cid = entry.cid
        path.peer_cid_sequence = entry.sequence
        self._connection_ids.use(entry)

    def _switch(self, path: Path) -> None:
        self.active = path
        if self.native:
            self._events.append(PathChanged(path.remote, path.local))

    def change_connection_id(self) -> bool:
        """Use another of the peer's IDs on the active path and retire the old one. False when there is no other."""
        path = self.active
        spare = self._connection_ids.spare({other.peer_cid_sequence for other in self.known})
        if spare is None:
            return False
        old = path.peer_cid_sequence
        self._use(path, spare)
        for other in self.known:
            if other.peer_cid_sequence == old:
                return True
        self._connection_ids.retire_peer(old)
        return True

    def on_ids_retired(self) -> None:
        """The peer had us retire some of its IDs: every path that used one takes another (RFC 9000 §19.15)."""
        for path in self._active_first():
            if path.peer_cid_sequence in self._connection_ids.peer:
                continue
            spare = self._connection_ids.spare({other.peer_cid_sequence for other in self.known})
            if spare is None and path is self.active:
                spare = self._connection_ids.spare(set())
            if spare is not None:
                self._use(path, spare)
            elif path is not self.active:
                self.known.remove(path)
                self.forgotten.append(path)

    # --- validation --------------------------------------------------------------------------------------------------

    def _validate(self, path: Path, now: float) -> None:
        path.challenge_is_due = True
        path.challenges = []
        pto = max(path.rtt.pto(0.025), self.active.rtt.pto(0.025), INITIAL_PTO)
        path.validation_deadline = now + 3 * pto  # RFC 9000 §8.2.4
        self._set_deadline()
        self._note_pending(path)

    def _note_pending(self, path: Path) -> None:
        self.want(APPLICATION_BIT)
        if path is not self.active:
            self.others_pending = True

    def _set_deadline(self) -> None:
        self.deadline = min([path.validation_deadline for path in self.known], default=inf)

    def on_challenge(self, path: Path, data: bytes) -> None:
        """PATH_CHALLENGE (RFC 9000 §8.2.2): answer on the path that it came on."""
        path.response = data
        if path is not self.active:
            self._use_fresh_cid(path)
        self._note_pending(path)

    def on_response(self, data: bytes) -> None:
        """PATH_RESPONSE (RFC 9000 §8.2.3): it validates the path that the challenge went to, wherever it came from."""
        for path in self.known:
            if data in path.challenges:
                path.is_validated = True
                path.challenges = []
                path.challenge_is_due = False
                path.validation_deadline = inf
                self._set_deadline()
                if path is self.active:
                    self._last_validated = path
                return

    def _active_first(self) -> list[Path]:
        active = self.active
        return [active] + [path for path in self.known if path is not active]

    def on_timer(self, now: float) -> None:
        for path in self._active_first():
            if now < path.validation_deadline:
                continue
            path.validation_deadline = inf
            path.challenge_is_due = False
            back = self._last_validated
            if path is not self.active:
                if path is not back or self.active.is_validated:  # else it may still be the way back
                    self._forget(path)
            elif not path.is_validated:
                if back is not None and back in self.known:
                    self._switch(back)
                    self._forget(path)
                else:
                    self._validate(path, now)  # there is nowhere else to go
            # otherwise the best path that there is has fallen silent: the idle timeout will tell
        self._set_deadline()

    def next_other(self) -> Path | None:
        """A path that is not active and has frames due."""
        for path in self.known:
            if path is not self.active and path.has_frames():
                return path
        self.others_pending = False
        return None

    # --- frames ------------------------------------------------------------------------------------------------------

    def write(self, packet: PacketBuilder, now: float) -> None:
        path = packet.path
        if packet.space == APPLICATION and path.has_frames():
            if path.response and packet.room >= PATH_FRAME_SIZE:
                packet.push(encode_path_response(path.response), (self, TOKEN_RESPONSE, path, b""))
                path.response = b""
            if path.challenge_is_due and packet.room >= PATH_FRAME_SIZE:
                data = self._random_bytes(8)
                path.challenges = [*path.challenges[1 - MAX_CHALLENGES :], data]
                path.challenge_is_due = False
                packet.push(encode_path_challenge(data), (self, TOKEN_CHALLENGE, path, data))
        if not self.active.has_frames():
            self.pending = 0

    def on_lost(self, token: Token, now: float) -> None:
        path: Path = token[2]
        if token[1] == TOKEN_CHALLENGE and token[3] in path.challenges and path.validation_deadline < inf:
            path.challenge_is_due = True
            self._note_pending(path)

    def on_probe(self, token: Token, now: float) -> None:
        self.on_lost(token, now)
