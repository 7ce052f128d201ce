"""A long run on the simulator: many seeds over rough links, transfers both ways, a close, and nothing may be left over.

    python tests/scenarios/soak.py --seeds 0:500 --loss 0.02

Each seed is one connection whose options (Retry, versions, ECN, key updates, another connection ID, another address, a
narrow path, who closes, whether the client comes back with a ticket and early data) follow from the seed. A failure prints
its seed; the same seed with the same loss gives the same run. Beyond what `World` checks after each step: both directions
arrive byte by byte, a driver is never asked to wake up over and over at one time, both sides terminate, and both endpoints
forget the connection without a trace.
"""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from quicio.quic.connection import QuicConnection
from quicio.quic.endpoint import Incoming, retry_under_load
from quicio.quic.sessions import SessionStore
from quicio.quic.wire.constants import VERSION_1, VERSION_2
from sim.links import Mtu, Nat
from sim.stages import rough
from sim.world import CLIENT_ADDRESS, Host, Peer, SimulationError, World

MAX_STEPS_AT_ONE_TIME = 2000
VERSIONS: Sequence[tuple[list[int], list[int]]] = (
    ([VERSION_1], [VERSION_1]),
    ([VERSION_1, VERSION_2], [VERSION_2, VERSION_1]),  # a compatible switch
    ([VERSION_2, VERSION_1], [VERSION_1]),  # Version Negotiation
)


def retry_all(incoming: Incoming) -> None:
    """Every client proves its address first."""
    if incoming.address_validated:
        incoming.accept()
    else:
        incoming.retry()


class Soak:
    """One seed: a world, its options and its checks."""

    def __init__(self, seed: int, loss: float) -> None:
        self.seed = seed
        client_versions, server_versions = VERSIONS[seed % len(VERSIONS)]
        # A Version Negotiation packet has nothing to tell a flipped bit by but the checksum that `Corrupt` goes past.
        corrupt = 0.0 if client_versions[0] not in server_versions else 0.02
        rough_links = {"reorder": 0.05, "duplicate": 0.03, "corrupt": corrupt}
        ecn = seed % 5 != 0
        self.nat = Nat(CLIENT_ADDRESS)
        self.store = SessionStore()
        narrow = [Mtu(1300)] if seed % 6 == 4 else []
        self.world = World(
            seed,
            up=[self.nat.outward(), *narrow, *rough(loss, burst=1 + seed % 3, **rough_links)],
            down=[*narrow, *rough(loss, burst=1 + seed % 3, **rough_links), self.nat.inward()],
            # Only a client that speaks now and then keeps what is behind a NAT alive.
            client={
                "supported_versions": client_versions,
                "ecn": ecn,
                "idle_timeout": 60.0,
                "handshake_timeout": 60.0,
                "keep_alive": 1.0,
                "session_store": self.store,
            },
            server={
                "supported_versions": server_versions,
                "ecn": ecn,
                "idle_timeout": 60.0,
                "handshake_timeout": 60.0,
                "accept_early_data": seed % 8 != 6,
            },
            policy=retry_all if seed % 4 == 1 else retry_under_load,
        )
        self._time = -1.0
        self._steps = 0

    def run(self) -> None:
        """Connect, transfer, disturb, close. Raises `SimulationError` for what must not be."""
        world = self.world
        client = world.connect()
        self._until(lambda: client.connection.is_handshake_confirmed and bool(world.accepted), 60.0)
        server = next(peer for peer in world.accepted if peer.connection.is_handshake_confirmed)
        if self.seed % 2:
            for peer in (client, server):  # its standing wish to write would hide a wish that was forgotten
                peer.connection._parts.writers.remove(peer.auditor)
                peer.auditor.pending = 0
                peer.connection._parts.recompute_wants()
        sizes = (world.simulation.random.randrange(200_000), world.simulation.random.randrange(200_000))
        streams = [self._start(client, server, sizes[0]), self._start(server, client, sizes[1])]
        if self.seed % 3 == 0:
            client.connection.change_connection_id()
        if self.seed % 3 == 1:
            (client if self.seed % 2 else server).connection.request_key_update()
        if self.seed % 7 == 3:
            another = ("10.0.1.1", 2000) if self.seed % 2 else (CLIENT_ADDRESS[0], 2000)
            world.simulation.at(world.now + 0.1, lambda: self.nat.rebind(another, is_strict=self.seed % 14 == 3))
        self._until(lambda: all(stream_id in peer.finished for peer, stream_id, _ in streams), 300.0)
        for peer, stream_id, data in streams:
            if bytes(peer.data[stream_id]) != data:
                raise SimulationError(f"seed {self.seed}: stream {stream_id} arrived changed")
        self._until(lambda: not any(peer.connection.has_unacknowledged_data() for peer in (client, server)), 120.0)
        self._end(client, server)
        if self.seed % 4 != 3:
            self._come_back()

    def _come_back(self) -> None:
        """The client resumes, with early data if it may; with its token, or a Retry; and all of it arrives once."""
        world = self.world
        count = len(world.accepted)
        client = world.connect()
        stream = self._start_early(client, world.simulation.random.randrange(30_000))
        world.flush()
        self._until(lambda: client.connection.is_handshake_confirmed and len(world.accepted) > count, 60.0)
        server = next(peer for peer in world.accepted[count:] if peer.connection.is_handshake_confirmed)
        self._until(lambda: stream[0] in server.finished, 120.0)
        if bytes(server.data[stream[0]]) != stream[1]:
            raise SimulationError(f"seed {self.seed}: early stream {stream[0]} arrived changed")
        self._until(lambda: not client.connection.has_unacknowledged_data(), 120.0)
        self._end(client, server)

    def _start_early(self, client: Peer, size: int) -> tuple[int, bytes]:
        data = self.world.simulation.random.randbytes(size)
        stream_id = client.connection.get_next_available_stream_id()
        client.connection.send_stream_data(stream_id, data, end_stream=True)
        return stream_id, data

    def _end(self, client: Peer, server: Peer) -> None:
        closer, other = (client, server) if self.seed % 2 else (server, client)
        closer.connection.close(7, reason_phrase="done")
        self._until(lambda: closer.connection.is_terminated and other.connection.is_terminated, 200.0)
        for host in (self.world.client, self.world.server):
            self._check_forgotten(host)

    def _start(self, sender: Peer, receiver: Peer, size: int) -> tuple[Peer, int, bytes]:
        data = self.world.simulation.random.randbytes(size)
        stream_id = sender.connection.open_stream()
        if stream_id is None:
            raise SimulationError(f"seed {self.seed}: no stream")
        sender.connection.send_stream_data(stream_id, data, end_stream=True)
        return receiver, stream_id, data

    def _until(self, condition: Callable[[], bool], limit: float) -> None:
        def until() -> bool:
            if self.world.now == self._time:
                self._steps += 1
                if self._steps > MAX_STEPS_AT_ONE_TIME:
                    raise SimulationError(f"seed {self.seed}: a timer fires for ever at {self._time:.6f} s")
            else:
                self._time = self.world.now
                self._steps = 0
            return condition()

        self.world.run(until, limit)

    def _check_forgotten(self, host: Host) -> None:
        for connection, peer in host.peers.items():
            if not connection.is_terminated:
                self._until(lambda: all(other.is_terminated for other in host.peers), 100.0)
            while connection.next_event() is not None:
                pass
            if connection.get_timer() is not None or connection.next_transmit(self.world.now, 16) is not None:
                raise SimulationError(f"seed {self.seed}: a terminated connection wants something")
            if peer.connection.next_event() is not None:
                raise SimulationError(f"seed {self.seed}: an event after the end")
        endpoint: Any = host.endpoint
        for name in ("connections", "_routes", "_issuers", "_first_cids", "_initial_routes", "half_open", "_undecided"):
            if getattr(endpoint, name):
                raise SimulationError(f"seed {self.seed}: {name} still holds {getattr(endpoint, name)}")


def main() -> int:
    """Run a range of seeds; the exit status is 1 when any failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0:100", help="first and one past the last seed, as 0:100")
    parser.add_argument("--loss", type=float, default=0.02, help="probability that a datagram is lost, each way")
    parser.add_argument("--verbose", action="store_true", help="print the traceback of each failure")
    arguments = parser.parse_args()
    first, _, after = arguments.seeds.partition(":")
    QuicConnection.raise_unexpected = True
    failures: list[int] = []
    seeds = range(int(first), int(after))
    for seed in seeds:
        try:
            Soak(seed, arguments.loss).run()
        except Exception as error:
            failures.append(seed)
            print(f"seed {seed}, loss {arguments.loss}: {type(error).__name__}: {error}", flush=True)
            if arguments.verbose:
                traceback.print_exc()
    print(f"loss={arguments.loss} seeds={len(seeds)} failures={len(failures)} {failures or ''}".rstrip())
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
