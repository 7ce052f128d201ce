"""Peers that are shared by the tests of a run, and the record of how fast they moved data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import pytest

from helpers.interop_meeting import Meetings, meetings
from helpers.interop_peers import DEBIAN_PROGRAMS, PeerServer, peer_server, program
from helpers.loopback import identity
from quicio.quic.connection import QuicConnection

SPEEDS: dict[str, float] = {}


def require(peer: str) -> None:
    """Skip the test when a peer is not installed: a package, or a program of Debian's."""
    if peer in DEBIAN_PROGRAMS:
        if program(peer) is None:
            pytest.skip(f"the peer {peer} is not installed: tests/interop/install_peers.sh")
    elif find_spec(peer) is None:
        pytest.skip(f"the peer {peer} is not installed: pip install --group interop")


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
    """`start_server(package, *options)`: a server of the task in a process of its own, one for the same arguments."""
    certificate, key, _ = credentials
    running: dict[tuple[str, ...], PeerServer] = {}
    with ExitStack() as stack:

        def start(package: str, *options: str) -> PeerServer:
            if (package, *options) not in running:
                peer = peer_server("aioquic_server.py", package, certificate, key, *options)
                running[package, *options] = stack.enter_context(peer)
            return running[package, *options]

        yield start


@pytest.fixture(scope="session")
def meeting_place(credentials: tuple[str, str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Meetings]:
    """Servers and clients in processes of their own, with taps between them."""
    with meetings(credentials, tmp_path_factory.mktemp("meetings")) as place:
        yield place


@pytest.fixture(autouse=True)
def _peer_is_installed(request: pytest.FixtureRequest) -> None:
    """Skip a test whose peer is missing: its parameter `peer` or `package`, else that of its module."""
    call = getattr(request.node, "callspec", None)
    parameters = call.params if call is not None else {}
    require(parameters.get("peer", parameters.get("package", getattr(request.module, "PEER", "aioquic"))))


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
