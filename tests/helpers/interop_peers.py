"""Peers of the interop tests: independent implementations, each in a process of its own, each a black box.

A server says on its standard output, in JSON, where it listens and what happens to it; it ends when its standard input is
closed, and is killed if it does not, so that no process outlives the tests. A client performs the steps it is given, prints
what came of each, and ends.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import anyio

PEERS: Final = Path(__file__).parent.parent / "interop" / "peers"
PATIENCE: Final = 20.0  # seconds for a peer to start, to say something that is due, or to end; a step may take longer
CLIENT_PATIENCE: Final = 60.0

DEBIAN_PROGRAMS: Final = ("gtlsclient", "gtlsserver", "chromium")

Facts = dict[str, Any]


def program(name: str) -> str | None:
    """Where a program of Debian's is, if it is installed; servers may be where only root's PATH leads."""
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/bin"]))


def environment() -> dict[str, str]:
    """The environment of a peer: it finds `helpers` and quicio, and is not measured for coverage."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    tests = PEERS.parent.parent
    return ours | {"PYTHONPATH": os.pathsep.join([str(tests), str(tests.parent)])}


class PeerServer:
    """A running server. `port` is where it listens; `events` is what it has told so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.events: list[Facts] = []
        self.port = 0
        self._told = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._told:
                self.events.append(json.loads(line))
                self._told.notify_all()

    def wait(self, **facts: Any) -> Facts:
        """The first event that has these facts; waits for it. Raises `TimeoutError` with what was told instead."""
        deadline = time.monotonic() + PATIENCE
        with self._told:
            while True:
                for event in self.events:
                    if facts.items() <= event.items():
                        return event
                left = deadline - time.monotonic()
                if left <= 0 or self.process.poll() is not None:
                    raise TimeoutError(f"the peer did not tell {facts}, but {self.events}")
                self._told.wait(min(left, 0.5))

    async def told(self, **facts: Any) -> Facts:
        """`wait()` without blocking the event loop."""
        return await anyio.to_thread.run_sync(lambda: self.wait(**facts))

    def stop(self) -> None:
        """End the process, by force if it does not end by itself."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join(PATIENCE)
        self.process.stdout.close()


@contextmanager
def peer_server(script: str, *arguments: str) -> Iterator[PeerServer]:
    """A server that listens on the loopback interface while the body runs."""
    command = [sys.executable, str(PEERS / script), *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment())
    peer = PeerServer(process)
    try:
        peer.port = peer.wait(event="ready")["port"]
        yield peer
    finally:
        peer.stop()


async def run_client(script: str, *arguments: str) -> list[Facts]:
    """What a client said, one entry a step and one before them for the connection. It is killed when this is cancelled."""
    with anyio.fail_after(CLIENT_PATIENCE):
        done = await anyio.run_process(
            [sys.executable, str(PEERS / script), *arguments], stderr=None, env=environment()
        )
    return [json.loads(line) for line in done.stdout.splitlines()]
