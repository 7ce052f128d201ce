"""A reader that never reads, or a byte at a time, costs its documented window: measured as RSS of separate processes."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from helpers.certificates import make_certificates
from quicio.quic.configuration import DEFAULT_SEND_BUFFER, DEFAULT_WINDOW

PROGRAM = Path(__file__).parent.parent / "helpers" / "never_reads.py"
SLACK = 6 << 20  # allocators, caches and modules imported late


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("reader", ["server", "sipper"])
@pytest.mark.parametrize("backend", ["asyncio", "uvloop", "trio"])
def test_a_reader_that_hardly_reads_costs_one_window(tmp_path: Path, backend: str, reader: str) -> None:
    """200 MiB offered; demands.md rows 1 and 2."""
    now = datetime.now(UTC)
    made = make_certificates("p256", not_before=now - timedelta(days=1), not_after=now + timedelta(days=1))
    (tmp_path / "ca.pem").write_bytes(made.authority_pem)
    (tmp_path / "chain.pem").write_bytes(made.identity.chain_pem)
    (tmp_path / "key.pem").write_bytes(made.identity.key_pem)
    command = [sys.executable, str(PROGRAM)]
    with subprocess.Popen([*command, reader, backend, str(tmp_path)], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            port = server.stdout.readline().strip()
            client = subprocess.run(
                [*command, "client", backend, str(tmp_path), port],
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            )
            received = int(server.stdout.readline())
        finally:
            server.terminate()
    assert received <= DEFAULT_WINDOW + SLACK
    assert int(client.stdout) <= DEFAULT_SEND_BUFFER + SLACK
