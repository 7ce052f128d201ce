"""The process benchmark: server and client of each library as separate processes, over loopback UDP.

Rounds are interleaved: each scenario runs once with every library before it runs again, so that a noisy machine is noisy for
all. Medians and ratios to aioquic are printed. Certificates are verified, pacing is on, the interface is the documented one;
the options that are set are printed, and set for all alike. Not every library can be told its key exchange, or its datagram
size: so the group of each is read from a handshake on the wire and printed beside its figure, and a row says whose size is
its own.

zttp is not among them: it offers HTTP messages and neither sockets nor plain streams, so an adapter would measure itself.

A library that fails has a row that says so, and the run goes on; if it was one of quicio's faces, the exit status is 1.

    python benchmarks/run.py [--rounds 3] [--quick] [--libraries NAME …] [--compiled PYTHON]

PYTHON is an interpreter that has quicio with its hot modules compiled: quicio's faces then have further rows.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

from helpers.certificates import make_certificates  # noqa: E402  # found through the line above
from helpers.interop_decode import decode  # noqa: E402
from helpers.interop_tap import tapped  # noqa: E402

TIMEOUT = 300  # seconds for one scenario of one library
GROUP_NAMES = {0x17: "secp256r1", 0x18: "secp384r1", 0x1D: "x25519", 0x11EC: "X25519MLKEM768"}  # TLS code points


Route = Callable[[int, Callable[[int], dict[str, float]]], dict[str, float]]  # how a client gets to a server's port


@dataclass(frozen=True)
class Library:
    """An adapter and how to call it."""

    name: str
    adapter: str
    module: str
    backend: str = "asyncio"
    python: str = sys.executable

    @property
    def is_quicio(self) -> bool:
        """Whether it is one of our faces."""
        return self.name.startswith("quicio")

    def can(self, scenario: Scenario) -> bool:
        """Whether it offers what the scenario is about."""
        able = {"secp256r1": {"aioquic", "aiopquic"}, "hybrid": {"qh3", "aiopquic"}}.get(scenario.group)
        return able is None or self.is_quicio or self.name in able

    def caveat(self, scenario: Scenario) -> str:
        """What in a row is not as the scenario asks."""
        return "   its own datagram size" if scenario.size and self.name == "aiopquic" else ""


LIBRARIES = [
    Library("aioquic", "asyncio_adapter.py", "aioquic"),
    Library("qh3", "asyncio_adapter.py", "qh3"),
    Library("aiopquic", "aiopquic_adapter.py", "aiopquic"),
    Library("quicio anyio/asyncio", "quicio_anyio.py", "quicio"),
    Library("quicio anyio/uvloop", "quicio_anyio.py", "uvloop", "uvloop"),
    Library("quicio anyio/trio", "quicio_anyio.py", "quicio", "trio"),
    Library("quicio.trio", "quicio_trio.py", "quicio", "trio"),
    Library("quicio.asyncio", "asyncio_adapter.py", "quicio"),
]


@dataclass(frozen=True)
class Scenario:
    """What is measured, how much of it, and at which datagram size (0: the library's default)."""

    title: str
    name: str
    amount: int
    size: int
    unit: str
    scale: float
    group: str = "x25519"


def scenarios(quick: bool) -> list[Scenario]:
    """All rows of the table."""
    megabytes = 24 if quick else 50  # enough for slow start not to be most of it
    bulk = megabytes << 20
    return [
        Scenario("download, 1200-byte datagrams", "download", bulk, 1200, "MB/s", 1e-6),
        Scenario("upload, 1200-byte datagrams", "upload", bulk, 1200, "MB/s", 1e-6),
        Scenario("download, defaults", "download", bulk, 0, "MB/s", 1e-6),
        Scenario("upload, defaults", "upload", bulk, 0, "MB/s", 1e-6),
        Scenario("requests, 100 at once", "requests", 2000 if quick else 5000, 0, "/s", 1.0),
        Scenario("handshakes to the first byte", "handshakes", 10 if quick else 50, 0, "/s", 1.0, "secp256r1"),
        Scenario("handshakes, X25519MLKEM768", "handshakes", 10 if quick else 50, 0, "/s", 1.0, "hybrid"),
        Scenario("handshakes, default groups", "handshakes", 10 if quick else 50, 0, "/s", 1.0, "default"),
        Scenario("memory of an idle connection", "idle", 20 if quick else 100, 0, "KiB", 1.0),
    ]


def agreed_group(library: Library, scenario: Scenario, folder: Path) -> str:
    """The group of a handshake, from the ServerHello on the wire. Raises `Failure`."""
    groups: list[int] = []

    def through_tap(port: int, run_client: Callable[[int], dict[str, float]]) -> dict[str, float]:
        with tapped(port) as tap:
            result = run_client(tap.port)
        groups.append(decode(tap.datagrams, "")[0].chosen.group or 0)
        return result

    run_once(library, replace(scenario, amount=1), folder, through_tap)
    return GROUP_NAMES.get(groups[0], f"group {groups[0]:#06x}")


def directly(port: int, run_client: Callable[[int], dict[str, float]]) -> dict[str, float]:
    """The client talks to the server's own port."""
    return run_client(port)


def run_once(library: Library, scenario: Scenario, folder: Path, route: Route = directly) -> dict[str, float]:
    """One server, one client, one result. Raises `Failure`."""
    command = [library.python, str(HERE / "adapters" / library.adapter)]
    options = [str(folder), "--backend", library.backend, "--size", str(scenario.size), "--group", scenario.group]
    options += ["--library", library.module]
    with subprocess.Popen(
        [*command, "server", *options], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdout is not None
        try:
            port = server.stdout.readline().strip()
            if not port:
                raise Failure("its server did not start")

            def run_client(port: int) -> dict[str, float]:
                task = ["--port", str(port), "--scenario", scenario.name, "--amount", str(scenario.amount)]
                client = [*command, "client", *options, *task]
                done = subprocess.run(client, capture_output=True, text=True, timeout=TIMEOUT, check=True)
                result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
                return result

            result = route(int(port), run_client)
        except subprocess.TimeoutExpired as error:
            raise Failure(f"not done after {TIMEOUT} seconds") from error
        except subprocess.CalledProcessError as error:
            raise Failure((error.stderr.strip().splitlines() or ["no message"])[-1]) from error
        except (IndexError, ValueError) as error:
            raise Failure("its client printed no result") from error
        finally:
            server.kill()
    return result


class Failure(Exception):
    """A library did not do what a scenario asks for."""


def run_rounds(
    libraries: list[Library], scenario: Scenario, folder: Path, rounds: int
) -> tuple[dict[str, list[dict[str, float]]], dict[str, str]]:
    """The results of all libraries, their rounds interleaved, and why those failed that did."""
    results: dict[str, list[dict[str, float]]] = {library.name: [] for library in libraries}
    failures: dict[str, str] = {}
    for _ in range(rounds):
        for library in libraries:
            if library.name not in failures:
                try:
                    results[library.name].append(run_once(library, scenario, folder))
                except Failure as failure:
                    failures[library.name] = str(failure)
    return results, failures


def row(scenario: Scenario, library: Library, results: list[dict[str, float]], baseline: float | None) -> str:
    """One line: the figure, its ratio to aioquic's, and what goes with it."""
    if scenario.name == "idle":
        client = statistics.median([result["client_bytes"] for result in results]) / 1024
        server = statistics.median([result["server_bytes"] for result in results]) / 1024
        return f"  {library.name:<32}client {client:8.1f} KiB   server {server:8.1f} KiB"
    rate = figure(scenario, results)
    line = f"  {library.name:<32}{rate:10.1f} {scenario.unit:<5}"
    line += f"{rate / baseline:7.1f} times" if baseline else " " * 13
    line += library.caveat(scenario)
    if scenario.unit == "MB/s":
        gigabytes = scenario.amount / 1e9
        client = statistics.median([result["client_cpu"] for result in results]) / gigabytes
        server = statistics.median([result["server_cpu"] for result in results]) / gigabytes
        line += f"   CPU s/GB: client {client:6.1f}, server {server:6.1f}"
    elif scenario.name == "requests":
        p50 = statistics.median([result["p50"] for result in results])
        p99 = statistics.median([result["p99"] for result in results])
        line += f"   p50 {p50:6.2f} ms, p99 {p99:6.2f} ms"
    return line


def figure(scenario: Scenario, results: list[dict[str, float]]) -> float:
    """The median rate in the scenario's unit."""
    return statistics.median([result["rate"] for result in results]) * scenario.scale


def installed(compiled: str | None) -> list[Library]:
    """The libraries that are here; with `compiled`, an interpreter, our faces once more on that."""
    libraries = [library for library in LIBRARIES if find_spec(library.module) is not None]
    if compiled:
        libraries += [
            replace(library, name=f"{library.name}, compiled", python=compiled)
            for library in libraries
            if library.is_quicio
        ]
    return libraries


def parse_arguments() -> argparse.Namespace:
    """What the user wants to see."""
    parser = argparse.ArgumentParser(description="Process benchmark of QUIC libraries")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="small amounts, to see that all of it runs")
    parser.add_argument("--libraries", nargs="*", help="names of libraries, all that are installed by default")
    parser.add_argument("--scenarios", nargs="*", help="names of scenarios, such as download")
    parser.add_argument("--compiled", metavar="PYTHON", help="an interpreter that has quicio compiled")
    return parser.parse_args()


def make_folder(folder: Path) -> None:
    """The certificates that all adapters use."""
    now = datetime.now(UTC)
    made = make_certificates("p256", not_before=now - timedelta(days=1), not_after=now + timedelta(days=1))
    (folder / "ca.pem").write_bytes(made.authority_pem)
    (folder / "chain.pem").write_bytes(made.identity.chain_pem)
    (folder / "key.pem").write_bytes(made.identity.key_pem)


def main() -> int:
    options = parse_arguments()
    libraries = installed(options.compiled)
    if options.libraries:
        libraries = [library for library in libraries if library.name in options.libraries]
    print(f"Python {sys.version.split()[0]}, {os.cpu_count()} cores; certificates verified; {options.rounds} rounds")
    has_failed = False
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_folder(folder)
        for scenario in scenarios(options.quick):
            if options.scenarios and scenario.name not in options.scenarios:
                continue
            print(f"\n{scenario.title} (size {scenario.size or 'default'}, groups {scenario.group})", flush=True)
            able = [library for library in libraries if library.can(scenario)]
            results, failures = run_rounds(able, scenario, folder, options.rounds)
            measured = results.get("aioquic")
            baseline = figure(scenario, measured) if measured and scenario.name != "idle" else None
            for library in able:
                if library.name in failures:
                    print(f"  {library.name:<32}FAILED: {failures[library.name]}", flush=True)
                    has_failed = has_failed or library.is_quicio
                else:
                    line = row(scenario, library, results[library.name], baseline)
                    if scenario.name == "handshakes":
                        with suppress(Failure):
                            line += f"   {agreed_group(library, scenario, folder)}"
                    print(line, flush=True)
    return int(has_failed)


if __name__ == "__main__":
    sys.exit(main())
