"""Connections whose handshake is not complete, counted: in all, and by the network that they come from.

Each is memory and computation that a client got for one datagram, so there is a limit. A client that floods must not be able
to use it up for everybody else, so no network may hold more than `1 / NETWORK_SHARE` of it, and a network that holds a part
worth noticing (`1 / LOAD_FRACTION`) has its further clients prove their addresses, as everybody has to when the whole is that
full. A network is what one customer usually has: 256 addresses of IPv4, a /56 of IPv6. An address that is neither is a network
of its own.

Invariants: every connection is counted once, and counts for nothing once its handshake is complete or it is forgotten; a
network without connections is not remembered, so this holds no more than the limit.
"""

from __future__ import annotations

from collections.abc import Hashable
from ipaddress import IPv4Address, ip_address
from typing import Final

LOAD_FRACTION: Final = 4  # above this fraction of the limit clients should prove their addresses
NETWORK_SHARE: Final = 2  # no network holds more than this fraction of the limit
IPV4_PREFIX_BYTES: Final = 3
IPV6_PREFIX_BYTES: Final = 7


def network_of(address: Hashable) -> Hashable:
    """The network that an address belongs to: a prefix of (host, port, …), or the address itself when it is opaque."""
    if not isinstance(address, tuple) or not address or not isinstance(address[0], str):
        return address
    try:
        host = ip_address(address[0])
    except ValueError:
        return address[0]
    return host.packed[: IPV4_PREFIX_BYTES if isinstance(host, IPv4Address) else IPV6_PREFIX_BYTES]


class HalfOpen:
    """The half-open connections of one endpoint, at most `limit` of them."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._networks: dict[Hashable, Hashable] = {}  # of each connection
        self._counts: dict[Hashable, int] = {}  # connections of each network

    def __len__(self) -> int:
        return len(self._networks)

    def __contains__(self, connection: object) -> bool:
        return connection in self._networks

    def add(self, connection: Hashable, address: Hashable) -> None:
        """Count a connection with a client at `address`."""
        network = network_of(address)
        self._networks[connection] = network
        self._counts[network] = self._counts.get(network, 0) + 1

    def discard(self, connection: Hashable) -> None:
        """The connection is not half-open any more, if it was."""
        if connection not in self._networks:
            return
        network = self._networks.pop(connection)
        count = self._counts[network] - 1
        if count:
            self._counts[network] = count
        else:
            del self._counts[network]

    def is_full(self, address: Hashable) -> bool:
        """Whether a client at `address` has to be refused."""
        count = self._counts.get(network_of(address), 0)
        return len(self._networks) >= self.limit or count * NETWORK_SHARE >= self.limit

    def is_under_load(self, address: Hashable) -> bool:
        """Whether a client at `address` should prove its address first."""
        count = self._counts.get(network_of(address), 0)
        return max(len(self._networks), count * NETWORK_SHARE) * LOAD_FRACTION >= self.limit
