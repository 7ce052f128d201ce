"""What the tests of UDP share: the loopback hosts this machine has, and waiting for a datagram."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from quicio.quic.transmit import Received
from quicio.udp.socket import UdpSocket

Collect = Callable[[UdpSocket, int], list[Received]]


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


LOOPBACK_HOSTS = ["127.0.0.1", "::1"] if _has_ipv6() else ["127.0.0.1"]


@pytest.fixture(params=LOOPBACK_HOSTS)
def loopback(request: pytest.FixtureRequest) -> str:
    """A loopback host, of each family that the machine has."""
    host: str = request.param
    return host


@pytest.fixture
def collect() -> Collect:
    """Receive until so many datagrams have come; fails after five seconds."""

    def receive_until(sock: UdpSocket, count: int) -> list[Received]:
        batches: list[Received] = []
        ends = time.monotonic() + 5
        while sum(len(batch.datagrams) for batch in batches) < count:
            batch = sock.receive()
            if batch is not None:
                batches.append(batch)
                continue
            left = ends - time.monotonic()
            assert left > 0, f"{count} datagrams expected, got {batches}"
            select.select([sock], [], [], left)
        return batches

    return receive_until


@pytest.fixture
def keep() -> Iterator[Callable[[UdpSocket], UdpSocket]]:
    """Register a socket to be closed when the test ends."""
    sockets: list[UdpSocket] = []

    def register(sock: UdpSocket) -> UdpSocket:
        sockets.append(sock)
        return sock

    yield register
    for sock in sockets:
        sock.close()
