"""Peers that are shared by the tests of a run, and the record of how fast they moved data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import pytest

from helpers.interop_peers import PeerServer, peer_server
from helpers.loopback import identity
from quicio.quic.connection import QuicConnection

SPEEDS: dict[str, float] = {}


@pytest.fixture(autouse=True)
def _unexpected_errors_are_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bugs of the core show as themselves, not as connections that close."""
    monkeypatch.setattr(QuicConnection, "raise_unexpected", True)


@pytest.fixture(scope="session")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, str]:
    """Files with a server's certificate, its key, and the authority that clients verify it against."""
    folder = tmp_path_factory.mktemp("credentials")
    who, authority = identity()
    files = {"certificate.pem": who.chain_pem, "key.pem": who.key_pem, "authority.pem": authority}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    certificate, key, root = (str(folder / name) for name in files)
    return certificate, key, root


@pytest.fixture(scope="session")
def authority(credentials: tuple[str, str, str]) -> str:
    """The file with the authority of all servers here."""
    return credentials[2]


@pytest.fixture(scope="session")
def start_server(credentials: tuple[str, str, str]) -> Iterator[Callable[..., PeerServer]]:
    """`start_server(package, *options)`: a server of the task in a process of its own, one for the same arguments.

    Its test is skipped when the package is missing.
    """
    certificate, key, _ = credentials
    running: dict[tuple[str, ...], PeerServer] = {}
    with ExitStack() as stack:

        def start(package: str, *options: str) -> PeerServer:
            require(package)
            if (package, *options) not in running:
                peer = peer_server("aioquic_server.py", package, certificate, key, *options)
                running[package, *options] = stack.enter_context(peer)
            return running[package, *options]

        yield start


def require(package: str) -> None:
    """Skip the test when the peer is not installed."""
    if find_spec(package) is None:
        pytest.skip(f"the peer {package} is not installed: pip install --group interop")


@pytest.fixture
def require_peer() -> Callable[[str], None]:
    """`require_peer(package)` skips the test when the peer is not installed."""
    return require


@pytest.fixture
def record_speed(request: pytest.FixtureRequest) -> Callable[..., None]:
    """`record_speed(size, seconds, direction)`: keep how fast this test moved data, for the summary."""

    def record(size: int, seconds: float, direction: str = "") -> None:
        SPEEDS[f"{Path(request.node.path).stem}::{request.node.name} {direction}"] = size / seconds / 1e6

    return record


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if SPEEDS:
        terminalreporter.section("speed between processes on this machine, MB/s")
        for name, speed in SPEEDS.items():
            terminalreporter.line(f"{speed:7.1f}  {name}")
