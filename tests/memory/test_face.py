"""What an idle connection costs a server in its face: tasks, events, streams tables, over loopback."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from helpers import idle_face
from helpers.certificates import make_certificates

FACE = 12 * 1024


@pytest.mark.parametrize("face", ["asyncio", "trio", "nursery"])
def test_the_face_of_an_idle_connection_costs_twelve_kibibytes_at_most(tmp_path: Path, face: str) -> None:
    now = datetime.now(UTC)
    made = make_certificates("p256", not_before=now - timedelta(days=1), not_after=now + timedelta(days=1))
    (tmp_path / "ca.pem").write_bytes(made.authority_pem)
    (tmp_path / "chain.pem").write_bytes(made.identity.chain_pem)
    (tmp_path / "key.pem").write_bytes(made.identity.key_pem)

    def start(role: str, *arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, idle_face.__file__, role, face, str(tmp_path), *map(str, arguments)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        stack.enter_context(process)
        stack.callback(process.kill)
        return process

    with ExitStack() as stack:
        server = start("server")
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        start("client", port, idle_face.WARM)
        assert server.stdout.readline() == "warm\n"
        start("client", port, idle_face.MEASURED)
        cost = int(server.stdout.readline())
    assert 0 < cost <= FACE
