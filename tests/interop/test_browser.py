"""Chromium, headless, loads a page from the example servers of both faces: page and what its script fetches come over h3.

What it says of itself (`nextHopProtocol`) stands in the page that it prints; key exchange and the scrambled ClientHello are
read off the wire.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from helpers.interop_decode import Conversation, decode
from helpers.interop_messages import X25519MLKEM768
from helpers.interop_peers import program
from helpers.interop_tap import tapped
from helpers.loopback import identity

PEER = "chromium"
EXAMPLES = Path(__file__).parent.parent.parent / "examples"
PATIENCE = 90  # seconds for a browser to start, load a page and end, on a machine that is busy
FILES = {"small.bin": 1000, "large.bin": 3_000_000}
PAGE = """<!DOCTYPE html>
<title>quicio</title>
<p id="said">nothing yet</p>
<script>
const digest = async (data) => [...new Uint8Array(await crypto.subtle.digest("SHA-256", data))]
  .map((byte) => byte.toString(16).padStart(2, "0")).join("");
const load = async (name) => {
  const answer = await fetch(name);
  const found = { digest: await digest(await answer.arrayBuffer()) };
  found.protocol = performance.getEntriesByName(new URL(name, location).href)[0].nextHopProtocol;
  return found;
};
(async () => {
  const said = { page: performance.getEntriesByType("navigation")[0].nextHopProtocol };
  try {
    said.files = await Promise.all(NAMES.map(load));
  } catch (error) {
    said.error = String(error);
  }
  document.getElementById("said").textContent = JSON.stringify(said);
})();
</script>
"""
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--metrics-recording-only",
    "--no-default-browser-check",
    "--no-first-run",
    "--no-proxy-server",
    "--host-resolver-rules=MAP localhost 127.0.0.1",
    "--virtual-time-budget=60000",  # as long as anything is fetched its clock stands still
    "--dump-dom",
)


def public_key_hash() -> str:
    """What makes Chromium trust the server's certificate: SHA-256 of its public key, in base64."""
    key = identity()[0].chain[0].public_key()
    return base64.b64encode(
        hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
    ).decode()


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "index.html").write_text(PAGE.replace("NAMES", json.dumps(list(FILES))))
    for name, size in FILES.items():
        (folder / name).write_bytes(os.urandom(size))
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """`run(*command)`: a process whose group is killed in the end."""
    with ExitStack() as stack:

        def start(*command: object) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [str(part) for part in command],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env=os.environ | {"PYTHONPATH": str(EXAMPLES.parent), "HOME": str(tmp_path)},
                start_new_session=True,
            )
            stack.callback(end, process)
            return process

        yield start


def end(process: subprocess.Popen[str]) -> None:
    """Kill a process and what it started, if they are still there."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(PATIENCE)
    assert process.stdout is not None
    process.stdout.close()


@pytest.mark.parametrize("example", ["http3_server.py", "asyncio_http3_server.py"])
def test_a_page_is_loaded_over_http3(
    example: str, site: Path, run: Callable[..., Any], credentials: tuple[str, str, str], tmp_path: Path
) -> None:
    key_log = tmp_path / "secrets.log"
    identity_files = ("--certificate", credentials[0], "--private-key", credentials[1])
    server = run(sys.executable, EXAMPLES / example, site, "--port", 0, *identity_files, "--key-log", key_log)
    port = re.search(r"port (\d+)", server.stdout.readline())
    assert port is not None
    with tapped(int(port[1])) as tap:
        trust = f"--ignore-certificate-errors-spki-list={public_key_hash()}"
        quic = f"--origin-to-force-quic-on=localhost:{tap.port}"
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        browser = run(program(PEER), *FLAGS, profile, quic, trust, f"https://localhost:{tap.port}/")
        page, _ = browser.communicate(timeout=PATIENCE)
    found = re.search(r'id="said">(\{.*?\})</p>', page)
    assert found is not None, page
    digests = [hashlib.sha256((site / name).read_bytes()).hexdigest() for name in FILES]
    files = [{"digest": digest, "protocol": "h3"} for digest in digests]
    assert json.loads(html.unescape(found[1])) == {"page": "h3", "files": files}
    conversations = decode(tap.datagrams, key_log.read_text())
    assert conversations
    for wire in conversations:
        check_greeting(wire)


def check_greeting(wire: Conversation) -> None:
    """The hybrid group, and a ClientHello in many pieces over several Initial packets (draft-ietf-tls-ecdhe-mlkem)."""
    [hello] = wire.client_hellos()
    assert X25519MLKEM768 in hello.share_groups
    assert wire.chosen.group == X25519MLKEM768
    carriers = wire.select("INITIAL", True, "CRYPTO")
    assert len({packet.datagram for packet in carriers}) > 1
    offsets = [offset for packet in carriers for offset, _ in packet.fields("CRYPTO")]
    assert len(offsets) > 2
    assert offsets != sorted(offsets)
