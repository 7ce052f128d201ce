"""The examples with either side on aioquic.

Of those in aioquic's style nothing but the root of their imports is changed for that; those on anyio and on trio, which speak
the same protocols, meet the one on aioquic.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
PATIENCE = 30
NATIVE = {
    "anyio": "",
    "trio": "trio_",
}  # faces of quicio whose examples stay as they are, and how their files' names begin
PAIRS = [
    ("quicio", "aioquic"),
    ("aioquic", "quicio"),
    ("aioquic", "aioquic"),
    ("anyio", "aioquic"),
    ("aioquic", "anyio"),
]
TRIO_PAIRS = [("trio", "aioquic"), ("aioquic", "trio")]

Run = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(params=PAIRS, ids=["-".join(pair) for pair in PAIRS])
def pair(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Server and client."""
    if find_spec("aioquic") is None:
        pytest.skip("the peer aioquic is not installed: pip install --group interop")
    result: tuple[str, str] = request.param
    return result


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """`run(package, example, *arguments)`: an example with the imports of a package, in a process of its own."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(EXAMPLES), str(EXAMPLES.parent)])}
    with ExitStack() as stack:

        def start(package: str, example: str, *arguments: object) -> subprocess.Popen[str]:
            script = EXAMPLES / f"{NATIVE.get(package, 'asyncio_')}{example}.py"
            if package not in NATIVE:
                script = with_imports(package, script, tmp_path / f"{package}_{example}.py")
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, str(script), *map(str, arguments)],
                    stdout=subprocess.PIPE,
                    text=True,
                    env=environment,
                )
            )
            stack.callback(process.kill)
            return process

        yield start


def with_imports(package: str, example: Path, script: Path) -> Path:
    """Write an example with the imports of another package."""
    imports = re.compile(r"^from quicio\.", flags=re.MULTILINE)
    text = example.read_text()
    assert imports.search(text)
    script.write_text(imports.sub(f"from {package}.", text))
    return script


def port_in(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    match = re.search(r"port (\d+)", process.stdout.readline())
    assert match is not None
    return match[1]


def proofs(*processes: subprocess.Popen[str]) -> set[str]:
    """The digests that the programs print at the end."""
    found = set()
    for process in processes:
        output, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, output
        found.update(re.findall(r"sha256 ([0-9a-f]{64})", output))
    return found


@pytest.mark.parametrize("pair", [*PAIRS, *TRIO_PAIRS], ids="-".join, indirect=True)
def test_echo(pair: tuple[str, str], run: Run, tmp_path: Path) -> None:
    certificate = tmp_path / "certificate.pem"
    options = ["--port", 0, "--save-certificate", certificate, "--connections", 1]
    server = run(pair[0], "echo_server", *options)
    port = port_in(server)
    client = run(pair[1], "echo_client", "localhost", port, "--ca-file", certificate, "--streams", 5, "--size", 100_000)
    assert len(proofs(client, server)) == 1


def test_http3(pair: tuple[str, str], run: Run, tmp_path: Path) -> None:
    site, saved, certificate = tmp_path / "site", tmp_path / "saved", tmp_path / "certificate.pem"
    for folder in (site, saved):
        folder.mkdir()
    files = {f"{size}.bin": os.urandom(size) for size in (0, 1, 10_000, 500_000)}
    for name, content in files.items():
        (site / name).write_bytes(content)
    server = run(
        pair[0], "http3_server", site, "--port", 0, "--save-certificate", certificate, "--requests", len(files)
    )
    port = port_in(server)
    urls = [f"https://localhost:{port}/{name}" for name in files]
    client = run(pair[1], "http3_client", *urls, "--ca-file", certificate, "--output-folder", saved)
    assert len(proofs(client, server)) == 1
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == files
