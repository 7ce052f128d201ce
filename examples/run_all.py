"""Run every example as users do, client and server in processes of their own, on asyncio and on trio; check what they print.

python examples/run_all.py
"""

from __future__ import annotations

import argparse
import queue
import random
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

FOLDER = Path(__file__).parent
PATIENCE = 60  # seconds for any single step
BACKENDS = ("asyncio", "trio")


class Failure(Exception):
    """An example did not do what it should."""


class Program:
    """One example in a process of its own, with what it has printed."""

    def __init__(self, script: str, *arguments: object) -> None:
        self.name = script
        runner = ["-m", "pytest", "-q", "-p", "no:cacheprovider"] if script.startswith("test_") else []
        self.command = [sys.executable, "-W", "error", *runner, str(FOLDER / script), *map(str, arguments)]
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.lines: list[str] = []
        self._arrived: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            self._arrived.put(line)
        self._arrived.put(None)

    def wait_for(self, pattern: str) -> re.Match[str]:
        """The first line that matches."""
        while True:
            try:
                line = self._arrived.get(timeout=PATIENCE)
            except queue.Empty:
                raise Failure(f"{self.name} printed nothing like {pattern!r} in {PATIENCE} s") from None
            if line is None:
                raise Failure(f"{self.name} ended without printing anything like {pattern!r}")
            if match := re.search(pattern, line):
                return match

    def finish(self, code: int = 0) -> str:
        """Wait for the end, a successful one unless told otherwise; return the last line, which says what was proven."""
        try:
            found = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise Failure(f"{self.name} did not end in {PATIENCE} s") from None
        self._reader.join()
        if found != code:
            raise Failure(f"{self.name} ended with code {found}")
        return self.lines[-1]

    def expect(self, text: str) -> str:
        """Wait for a successful end; the last line must say `text`."""
        proof = self.finish()
        if text not in proof:
            raise Failure(f"{self.name} said {proof!r}, not {text!r}")
        return proof

    def stop(self) -> None:
        """End the process, whatever it is doing."""
        self.process.kill()
        self.process.wait()
        self._reader.join()
        if self.process.stdout is not None:
            self.process.stdout.close()


@contextmanager
def running(script: str, *arguments: object) -> Iterator[Program]:
    """A program that does not outlive the block; when the block fails, what the program printed is shown."""
    program = Program(script, *arguments)
    try:
        yield program
    except Failure:
        program.stop()
        print(f"--- {' '.join(program.command)}", *program.lines, sep="\n    ", file=sys.stderr)
        raise
    finally:
        program.stop()


def digest_in(line: str) -> str:
    """The digest that a proof names."""
    match = re.search(r"sha256 ([0-9a-f]{64})", line)
    if match is None:
        raise Failure(f"no digest in {line!r}")
    return match[1]


def program(name: str, kind: str, role: str) -> list[str]:
    """A client or server: on a backend, or written for another face, as its script is named."""
    if kind in BACKENDS:
        return [f"{name}_{role}.py", "--backend", kind]
    return [f"{kind.removeprefix('quicio.')}_{name}_{role}.py"]


def echo(folder: Path, server_kind: str, client_kind: str) -> None:
    """The echo pairs, crosswise: both sides must have seen the same bytes."""
    certificate = folder / "echo.pem"
    options = ["--port", 0, "--save-certificate", certificate, "--connections", 1]
    with running(*program("echo", server_kind, "server"), *options) as server:
        host, port = server.wait_for(r"listening on (\S+) port (\d+)").groups()
        options = [host, port, "--ca-file", certificate, "--streams", 5, "--size", 300_000]
        with running(*program("echo", client_kind, "client"), *options) as client:
            proof = client.finish()
        served = server.finish()
    compare(proof, served)


def http3(folder: Path, server_backend: str, client_backend: str) -> None:
    """The HTTP/3 pair: the files that the client saved are those that the server has."""
    site, saved, certificate = folder / "site", folder / "saved", folder / "http3.pem"
    saved.mkdir()
    files = make_site(site)
    (folder / "secret.txt").write_bytes(b"not part of the site")
    refused = {"missing.txt": 404, "%2e%2e/secret.txt": 404, "link.txt": 404, "below": 308}
    with suppress(OSError):  # not everybody may make links on Windows
        (site / "link.txt").symlink_to(folder / "secret.txt")
    requests = len(files) + 1 + len(refused)
    options = ["--backend", server_backend, "--port", 0, "--save-certificate", certificate, "--requests", requests]
    with running("http3_server.py", site, *options) as server:
        port = server.wait_for(r"listening on \S+ port (\d+)")[1]
        options = ["--backend", client_backend, "--ca-file", certificate, "--output-folder", saved]
        for name, status in refused.items():
            with running("http3_client.py", f"https://localhost:{port}/{name}", *options) as client:
                client.wait_for(f"status {status}")
                client.finish(code=1)
        urls = [f"https://localhost:{port}/{name}" for name in ("", *files)]
        with running("http3_client.py", *urls, *options) as client:
            proof = client.finish()
        served = server.finish()
    compare(proof, served)
    for name, content in files.items():
        if (saved / Path(name).name).read_bytes() != content:
            raise Failure(f"{name} is not what the server has")
    if "below/" not in (saved / "index.html").read_text():
        raise Failure("the index does not name what is in the folder")


def asyncio_http3(folder: Path, server_kind: str, client_kind: str) -> None:
    """The HTTP/3 pair of `create_protocol` subclasses."""
    site, saved, certificate = folder / "site", folder / "saved", folder / "http3.pem"
    saved.mkdir()
    files = make_site(site)
    options = ["--port", 0, "--save-certificate", certificate, "--requests", len(files)]
    with running("asyncio_http3_server.py", site, *options) as server:
        port = server.wait_for(r"listening on \S+ port (\d+)")[1]
        urls = [f"https://localhost:{port}/{name}" for name in files]
        with running("asyncio_http3_client.py", *urls, "--ca-file", certificate, "--output-folder", saved) as client:
            proof = client.finish()
        served = server.finish()
    compare(proof, served)
    for name, content in files.items():
        if (saved / Path(name).name).read_bytes() != content:
            raise Failure(f"{name} is not what the server has")


def dns(folder: Path, server_kind: str, client_kind: str) -> None:
    """DNS over QUIC; then a client with a ticket, without and with Retry: the second run's question is early data."""
    for retry in ((), ("--retry",)):
        ticket, certificate = folder / f"ticket{len(retry)}", folder / "dns.pem"
        options = ["--port", 0, "--save-certificate", certificate, "--questions", 4, *retry]
        with running("asyncio_dns_server.py", *options) as server:
            port = server.wait_for(r"listening on \S+ port (\d+)")[1]
            trust = ["--ca-file", certificate]
            with running("asyncio_dns_client.py", "localhost", port, "www.example.com", "AAAA", *trust) as client:
                client.wait_for("2001:db8::1")
                report(f"client: {client.finish()}")
            with running("asyncio_dns_client.py", "localhost", port, "nowhere.example.com", *trust) as client:
                client.wait_for("NXDOMAIN")
                client.finish(code=1)
            for expected in ("full handshake, no early data", "resumed, early data accepted"):
                arguments = ["localhost", port, "--session-ticket", ticket, *trust]
                with running("asyncio_early_data_client.py", *arguments) as client:
                    proof = client.finish()
                    if expected not in proof:
                        raise Failure(f"not {expected}: {proof}")
                    report(f"client: {proof}")
            report(f"server: {server.finish()}")


def rpc(folder: Path, server_kind: str, client_kind: str) -> None:
    """The RPC pairs, crosswise: what the client gave up, the server has cancelled."""
    certificate = folder / "rpc.pem"
    options = ["--port", 0, "--save-certificate", certificate, "--connections", 1]
    with running(*program("rpc", server_kind, "server"), *options) as server:
        host, port = server.wait_for(r"listening on (\S+) port (\d+)").groups()
        options = [host, port, "--ca-file", certificate, "--calls", 20, "--slow", 3, "--deadline", 0.5]
        with running(*program("rpc", client_kind, "client"), *options) as client:
            report(f"client: {client.expect('21 calls answered, 3 late ones given up')}")
        report(f"server: {server.expect('22 calls answered, 3 cancelled by their callers')}")


def chat(folder: Path, server_kind: str, client_kind: str) -> None:
    """Three in a room, one of whom reads slowly: the others hear everything, without waiting for that one."""
    certificate, lines = folder / "chat.pem", 200
    other_kind = BACKENDS[client_kind == BACKENDS[0]]
    options = ["--backend", server_kind, "--port", 0, "--save-certificate", certificate, "--members", 3]
    with running("chat_server.py", *options) as server:
        host, port = server.wait_for(r"listening on (\S+) port (\d+)").groups()
        trust = ["--ca-file", certificate, "--quiet"]
        speaker = [*trust, "--lines", lines, "--others", 2]
        silent = [*trust, "--lines", 0, "--others", 2, "--pause", 0.02]
        with (
            running("chat_client.py", host, port, "Ada", *speaker, "--backend", client_kind) as ada,
            running("chat_client.py", host, port, "Bob", *speaker, "--backend", other_kind) as bob,
            running("chat_client.py", host, port, "Carl", *silent, "--backend", client_kind) as carl,
        ):
            for client in (ada, bob):
                report(f"client: {client.expect(f'heard {lines} lines of')}")
            if carl.process.poll() is not None:
                raise Failure("the slow listener was done before the others")
            slow = carl.expect("Carl heard")
            report(f"client: {slow}")
        report(f"server: {server.expect(f'{2 * lines} lines were said')}")
    heard, missed = re.findall(r"heard (\d+) .* missed (\d+)", slow)[0]
    if int(heard) + int(missed) != 2 * lines or not int(missed):
        raise Failure(f"of {2 * lines} lines the slow listener knows of {heard} and {missed}")


def files(folder: Path, server_backend: str, client_backend: str) -> None:
    """The file pair: broken off once, the transfer goes on where it stopped."""
    received, certificate = folder / "received", folder / "files.pem"
    make_site(folder / "site")
    large, small = folder / "site" / "below" / "large.bin", folder / "site" / "page.html"
    options = ["--backend", server_backend, "--port", 0, "--save-certificate", certificate, "--files", 2]
    with running("file_server.py", received, *options) as server:
        port = server.wait_for(r"listening on \S+ port (\d+)")[1]
        arguments = ["localhost", port, large, small, "--backend", client_backend, "--ca-file", certificate]
        with running("file_client.py", *arguments[:3], *arguments[4:], "--stop-after", 1_500_000) as client:
            client.wait_for("stopped after 1500000 bytes")
            client.finish(code=1)
        with running("file_client.py", *arguments) as client:
            proof = client.finish()
        served = server.finish()
    compare(proof, served)
    if " and 0 that were there already" in proof:
        raise Failure("the second transfer began anew")
    for path in (large, small):
        if (received / path.name).read_bytes() != path.read_bytes():
            raise Failure(f"{path.name} is not what was sent")


def application(folder: Path, server_backend: str, client_backend: str) -> None:
    """The application with tests of its own, in memory and over loopback."""
    with running("test_key_value.py") as tests:
        report(tests.expect("passed"))


def make_site(site: Path) -> dict[str, bytes]:
    """A folder with files of several sizes, an empty one and one in a folder of its own among them."""
    source = random.Random(1)
    files = {"page.html": b"<p>quicio\n", "empty.txt": b"", "below/large.bin": source.randbytes(2_000_000)}
    files |= {f"{number}.bin": source.randbytes(number * 10_000) for number in range(1, 6)}
    for name, content in files.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_bytes(content)
    return files


def compare(proof: str, served: str) -> None:
    """Show what both sides proved; they must have seen the same bytes."""
    report(f"client: {proof}", f"server: {served}")
    if digest_in(proof) != digest_in(served):
        raise Failure("client and server saw different bytes")


def report(*proofs: str) -> None:
    """Show what was proven."""
    for proof in proofs:
        print(f"    {proof}", flush=True)


SCENARIOS = {  # what runs, and on what
    "echo": (echo, (*BACKENDS, "quicio.trio", "quicio.asyncio")),
    "rpc": (rpc, (*BACKENDS, "quicio.trio")),
    "chat": (chat, BACKENDS),
    "files": (files, BACKENDS),
    "test of an application": (application, ("pytest",)),
    "http3": (http3, BACKENDS),
    "aioquic-style http3": (asyncio_http3, ("quicio.asyncio",)),
    "aioquic-style dns and early data": (dns, ("quicio.asyncio",)),
}


def main() -> None:
    """Run the scenarios on every pair of backends, and of faces."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", choices=SCENARIOS, help="run one scenario (default: all)")
    only = parser.parse_args().only
    for name in [only] if only else SCENARIOS:
        scenario, kinds = SCENARIOS[name]
        for server_kind in kinds:
            for client_kind in kinds:
                print(f"{name}: server on {server_kind}, client on {client_kind}", flush=True)
                with tempfile.TemporaryDirectory() as folder:
                    try:
                        scenario(Path(folder), server_kind, client_kind)
                    except Failure as failure:
                        sys.exit(f"failed: {failure}")
    print("all examples did what they should")


if __name__ == "__main__":
    main()
