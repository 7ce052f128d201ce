"""What every adapter speaks, so that all libraries do the same work.

A client opens a bidirectional stream, writes a request and ends its side; the server answers and ends its own:

    b"D" + size (8 bytes)     the server sends that many bytes
    b"U" + data               the server counts, and answers the count (8 bytes)
    b"R" + 63 bytes           the server answers 1 KiB
    b"S"                      the server answers its CPU seconds and resident bytes, as text

An adapter is a program: `adapter.py server FOLDER OPTIONS…` prints its port and serves until it is killed; `adapter.py client
FOLDER OPTIONS… PORT SCENARIO` runs one scenario and prints one line of JSON. FOLDER holds ca.pem, chain.pem and key.pem.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ALPN = "bench"
BULK = b"D", b"U"
REPLY = bytes(1024)
REQUEST = b"R" + bytes(63)
CHUNK = bytes(64 * 1024)
CONCURRENCY = 100


@dataclass
class Options:
    """What an adapter was asked for."""

    role: str
    folder: Path
    backend: str
    size: int  # of datagrams, 0 for the library's default
    group: str  # "x25519", "secp256r1", "hybrid" (X25519MLKEM768), or "default"
    port: int
    scenario: str
    amount: int  # bytes, requests or connections
    library: str  # import root, for the adapter that serves several

    @property
    def ca(self) -> str:
        return str(self.folder / "ca.pem")

    @property
    def chain(self) -> str:
        return str(self.folder / "chain.pem")

    @property
    def key(self) -> str:
        return str(self.folder / "key.pem")


def parse_options(arguments: Sequence[str] | None = None) -> Options:
    """The command line of an adapter."""
    parser = argparse.ArgumentParser()
    parser.add_argument("role", choices=["server", "client"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--backend", default="asyncio")
    parser.add_argument("--size", type=int, default=0)
    parser.add_argument("--group", default="x25519")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--scenario", default="download")
    parser.add_argument("--amount", type=int, default=0)
    parser.add_argument("--library", default="aioquic")
    return Options(**vars(parser.parse_args(arguments)))


def resident() -> int:
    """Bytes of this process's memory that are resident."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def own_costs() -> bytes:
    """The answer to b"S"."""
    return f"{time.process_time()} {resident()}".encode()


def read_costs(answer: bytes) -> tuple[float, int]:
    """CPU seconds and resident bytes of a server."""
    seconds, memory = answer.split()
    return float(seconds), int(memory)


# TLS code points. aioquic and qh3 cannot be told which one to use: they agree on the second and the third.
GROUPS = {"x25519": 0x001D, "secp256r1": 0x0017, "hybrid": 0x11EC}


def configure_quicio(make: Any, options: Options) -> Any:
    """A `QuicConfiguration` (`make`): the documented defaults, but for what all libraries are asked to share."""
    configuration = make(alpn_protocols=[ALPN], is_client=options.role == "client")
    if options.size:
        configuration = configuration.replaced(max_datagram_size=options.size, mtu_ceiling=options.size)
    if options.group in GROUPS:
        configuration = configuration.replaced(groups=[GROUPS[options.group]])
    if options.role == "client":
        return configuration.replaced(cafile=options.ca, server_name="localhost")
    configuration.load_cert_chain(options.chain, options.key)
    return configuration


class Stopwatch:
    """Wall and CPU time of the client, between `start` and `stop`."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Begin to count."""
        self.wall = time.perf_counter()
        self.cpu = time.process_time()
        self.spent: tuple[float, float] | None = None

    def stop(self) -> None:
        """What comes now is not measured."""
        if self.spent is None:
            self.spent = (time.perf_counter() - self.wall, time.process_time() - self.cpu)

    def report(self, amount: int, server: float, **more: float) -> None:
        """Print the result: amount a second, CPU of client and server."""
        self.stop()
        assert self.spent is not None
        wall, cpu = self.spent
        print(
            json.dumps(
                {
                    "wall": wall,
                    "rate": amount / wall,
                    "client_cpu": cpu,
                    "server_cpu": server,
                }
                | more
            ),
            flush=True,
        )


def quantiles(latencies: list[float]) -> dict[str, float]:
    """Median and 99th percentile, in milliseconds."""
    ordered = sorted(latencies)
    return {
        "p50": statistics.median(ordered) * 1e3,
        "p99": ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1e3,
    }
