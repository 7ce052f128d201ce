"""The core without sockets: CPU time a full-size packet to send and to receive, and handshakes a second.

Two connections are pumped in memory, quicio's and, where it is installed, aioquic's, the same way: the sender writes a bulk
stream, all datagrams it wants to send are handed to the receiver, whose answers go back at once. Time is counted on each
side separately, ACK work included, and divided by the number of full-size packets. Rounds of the two libraries alternate;
medians are printed, with the ratio.

    python benchmarks/core.py [--megabytes 20] [--rounds 5] [--size 1200]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from helpers.certificates import NOW, Certificates, make_certificates  # found through the line above
from quicio.environment import Environment
from quicio.quic import outbound
from quicio.quic.configuration import QuicConfiguration
from quicio.quic.connection import QuicConnection
from quicio.quic.events import StreamDataReceived
from quicio.quic.transmit import Received
from quicio.quic.wire.headers import destination_cid_of

BATCH = 32
CHUNK = 256 * 1024
CLIENT, SERVER = ("127.0.0.1", 1), ("127.0.0.1", 2)


@dataclass
class Result:
    """CPU seconds of each side and the packets that carried the data."""

    send: float
    receive: float
    packets: int

    @property
    def send_microseconds(self) -> float:
        return self.send / self.packets * 1e6

    @property
    def receive_microseconds(self) -> float:
        return self.receive / self.packets * 1e6


class Dated(Environment):
    """The date at which the benchmark's certificates are valid."""

    def wall_clock(self) -> float:
        return NOW


class Quicio:
    """quicio's core."""

    name = "quicio"

    def __init__(self, certificates: Certificates, size: int) -> None:
        shared: dict[str, Any] = {
            "alpn_protocols": ["bench"],
            "max_datagram_size": size,
            "mtu_ceiling": size,
            "receive_window_limit": 16 << 20,
            "max_data": 16 << 20,
            "max_stream_data": 16 << 20,
        }
        self.client_configuration = QuicConfiguration(
            server_name="localhost", cadata=certificates.authority_pem, groups=[0x001D]
        ).replaced(**shared)
        self.server_configuration = QuicConfiguration(
            is_client=False,
            certificate=certificates.chain[0],
            certificate_chain=certificates.chain[1:],
            private_key=certificates.private_key,
        ).replaced(**shared)
        self.environment = Dated()

    def pair(self, now: float) -> tuple[QuicConnection, QuicConnection]:
        """Two connections that have finished their handshake."""
        client = QuicConnection(configuration=self.client_configuration, environment=self.environment)
        client.connect(SERVER, now)
        server: QuicConnection | None = None
        for _ in range(10):
            for datagram, _ in client.datagrams_to_send(now):
                if server is None:
                    server = QuicConnection(
                        configuration=self.server_configuration,
                        original_destination_connection_id=destination_cid_of(datagram, 8),
                        environment=self.environment,
                    )
                server.receive_datagram(datagram, CLIENT, now)
            assert server is not None
            for datagram, _ in server.datagrams_to_send(now):
                client.receive_datagram(datagram, SERVER, now)
            if client.is_handshake_confirmed and server.is_handshake_confirmed:
                break
        for connection in (client, server):
            while connection.next_event() is not None:
                pass
        return client, server

    def bulk(self, size: int) -> Result:
        """Send `size` bytes from client to server."""
        now = 0.0
        client, server = self.pair(now)
        clock = time.process_time
        stream_id = client.get_next_available_stream_id()
        chunk = bytes(CHUNK)
        sent = received = 0
        send_time = receive_time = 0.0
        before = client.statistics().packets_sent
        while received < size:
            start = clock()
            while sent < size and client.send_room(stream_id) > 0:
                client.send_stream_data(stream_id, chunk, sent + CHUNK >= size)
                sent += CHUNK
            now += 0.0005
            transmit = client.next_transmit(now, BATCH)
            if transmit is None:
                timer = client.get_timer()
                if timer is not None and timer <= now:
                    client.handle_timer(now)
            middle = clock()
            send_time += middle - start
            if transmit is None:
                continue
            server.receive_datagrams(Received(transmit.datagrams, CLIENT, None, transmit.ecn), now)
            while (event := server.next_event()) is not None:
                if isinstance(event, StreamDataReceived):
                    received += len(event.data)
            answer = server.next_transmit(now, BATCH)
            end = clock()
            receive_time += end - middle
            if answer is not None:
                start = clock()
                client.receive_datagrams(Received(answer.datagrams, SERVER, None, answer.ecn), now)
                while client.next_event() is not None:
                    pass
                send_time += clock() - start
        return Result(send_time, receive_time, client.statistics().packets_sent - before)


class Aioquic:
    """aioquic's core, through its documented sans-I/O interface."""

    name = "aioquic"

    def __init__(self, certificates: Certificates, size: int) -> None:
        from aioquic.quic.configuration import QuicConfiguration as Configuration

        self.client_configuration = Configuration(
            is_client=True,
            alpn_protocols=["bench"],
            server_name="localhost",
            cadata=certificates.authority_pem,
            max_datagram_size=size,
        )
        self.server_configuration = Configuration(
            is_client=False,
            alpn_protocols=["bench"],
            certificate=certificates.chain[0],
            certificate_chain=certificates.chain[1:],
            private_key=certificates.private_key,
            max_datagram_size=size,
            max_data=16 << 20,
            max_stream_data=16 << 20,
        )

    def pair(self, now: float) -> tuple[Any, Any]:
        """Two connections that have finished their handshake."""
        from aioquic.quic.connection import QuicConnection as Connection

        client = Connection(configuration=self.client_configuration)
        client.connect(SERVER, now)
        server = None
        for _ in range(10):
            for datagram, _ in client.datagrams_to_send(now):
                if server is None:
                    server = Connection(
                        configuration=self.server_configuration,
                        original_destination_connection_id=destination_cid_of(datagram, 8),
                    )
                server.receive_datagram(datagram, CLIENT, now)
            assert server is not None
            for datagram, _ in server.datagrams_to_send(now):
                client.receive_datagram(datagram, SERVER, now)
        for connection in (client, server):
            while connection.next_event() is not None:
                pass
        return client, server

    def bulk(self, size: int) -> Result:
        """Send `size` bytes from client to server."""
        from aioquic.quic.events import StreamDataReceived as Data

        now = time.time()
        client, server = self.pair(now)
        clock = time.process_time
        stream_id = client.get_next_available_stream_id()
        chunk = bytes(CHUNK)
        sent = received = packets = 0
        send_time = receive_time = 0.0
        while received < size:
            start = clock()
            while sent < size and sent - received < 2 * CHUNK:
                client.send_stream_data(stream_id, chunk, sent + CHUNK >= size)
                sent += CHUNK
            now += 0.0005
            datagrams = client.datagrams_to_send(now)
            if not datagrams:
                timer = client.get_timer()
                if timer is not None and timer <= now:
                    client.handle_timer(now)
            middle = clock()
            send_time += middle - start
            packets += len(datagrams)
            answers = []
            for datagram, _ in datagrams:
                server.receive_datagram(datagram, CLIENT, now)
                while (event := server.next_event()) is not None:
                    if isinstance(event, Data):
                        received += len(event.data)
                answers += server.datagrams_to_send(now)
            end = clock()
            receive_time += end - middle
            start = clock()
            for datagram, _ in answers:
                client.receive_datagram(datagram, SERVER, now)
                while client.next_event() is not None:
                    pass
            send_time += clock() - start
        return Result(send_time, receive_time, packets)


def handshakes(library: Quicio | Aioquic, count: int) -> float:
    """Full handshakes a second, both sides, certificate verified."""
    now = NOW if isinstance(library, Quicio) else time.time()
    start = time.process_time()
    for _ in range(count):
        library.pair(now)
    return count / (time.process_time() - start)


def median(values: list[float]) -> float:
    return statistics.median(values)


def report(name: str, ours: list[float], theirs: list[float], unit: str, is_cost: bool) -> None:
    """One line: medians and the ratio."""
    line = f"{name:<34}{median(ours):>10.1f} {unit}"
    if theirs:
        ratio = median(theirs) / median(ours) if is_cost else median(ours) / median(theirs)
        line += f"   aioquic {median(theirs):>8.1f} {unit}   {ratio:5.1f} times"
    print(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--megabytes", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--handshakes", type=int, default=20)
    parser.add_argument("--size", type=int, default=1200, help="datagram size of both libraries, in bytes")
    options = parser.parse_args()
    certificates = make_certificates("p256")
    libraries: list[Quicio | Aioquic] = [Quicio(certificates, options.size)]
    try:
        libraries.append(Aioquic(certificates, options.size))
    except ImportError:
        print("aioquic is not installed: quicio's figures stand alone")
    results: dict[str, list[Result]] = {library.name: [] for library in libraries}
    rates: dict[str, list[float]] = {library.name: [] for library in libraries}
    for _ in range(options.rounds):
        for library in libraries:
            size = (options.megabytes << 20) // (1 if library.name == "quicio" else 5)
            results[library.name].append(library.bulk(size))
            rates[library.name].append(handshakes(library, options.handshakes))
    compiled = "compiled" if outbound.__file__.endswith(".so") else "pure Python"
    print(f"Python {sys.version.split()[0]}, {compiled}, datagrams of {options.size} bytes")
    rows: list[tuple[str, Callable[[Result], float]]] = [
        ("send, a full-size packet", lambda result: result.send_microseconds),
        ("receive, a full-size packet", lambda result: result.receive_microseconds),
    ]
    for name, value in rows:
        ours = [value(result) for result in results["quicio"]]
        report(name, ours, [value(result) for result in results.get("aioquic", [])], "µs", is_cost=True)
    report("handshakes, both sides", rates["quicio"], rates.get("aioquic", []), "/s", is_cost=False)


if __name__ == "__main__":
    main()
