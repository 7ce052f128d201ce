"""The code in the documentation runs.

Each block marked `python` in the README and in `docs/` is a whole program: it runs in a fresh interpreter, in a folder with
the `certificate.pem` and `key.pem` of the tutorial. A program that calls `anyio.run` runs on asyncio and on trio.

A block behind `<!-- fragment -->` only makes sense inside other code: it must compile, and the names of quicio in it must
exist. A block behind `<!-- signatures -->` lists calls of the core: each must be the name of a function in the source.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import quicio

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts)]
BLOCK = re.compile(
    r"^(?:<!-- (?P<kind>fragment|signatures) -->\n)?```python\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE
)
PREAMBLE = """\
import functools, sys, anyio
anyio.run = functools.partial(anyio.run, backend=sys.argv.pop())
exec(compile(sys.stdin.read(), sys.argv[1], "exec"), {"__name__": "__main__"})
"""


class Block(NamedTuple):
    """One block of code, and where it stands."""

    page: Path
    line: int
    code: str
    kind: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks() -> Iterator[Block]:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in BLOCK.finditer(text):
            line = text.count("\n", 0, match.start("code")) + 1
            yield Block(page, line, match["code"], match["kind"] or "program")


BLOCKS = list(blocks())
PROGRAMS = [block for block in BLOCKS if block.kind == "program"]
FRAGMENTS = [block for block in BLOCKS if block.kind == "fragment"]
SIGNATURES = [block for block in BLOCKS if block.kind == "signatures"]
CALL = re.compile(r"(?:^|[;/] ) *(?:async )?(?:def )?([a-zA-Z]\w+)\(", re.MULTILINE)
RUNS = [
    pytest.param(block, backend, id=f"{block.place}-{backend}")
    for block in PROGRAMS
    for backend in (("asyncio", "trio") if "anyio.run(" in block.code else ("asyncio",))
]


@pytest.fixture(scope="session")
def tutorial_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the tutorial's openssl command makes."""
    folder = tmp_path_factory.mktemp("tutorial")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder


@pytest.mark.parametrize(("block", "backend"), RUNS)
def test_a_program_runs(block: Block, backend: str, tutorial_folder: Path) -> None:
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-c", PREAMBLE, block.place, backend],
        input=block.code,
        cwd=tutorial_folder,
        env=dict(os.environ, PYTHONIOENCODING="utf-8"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == ""


@pytest.mark.parametrize("block", FRAGMENTS, ids=lambda block: block.place)
def test_a_fragment_compiles_and_names_what_exists(block: Block) -> None:
    compile(block.code, block.place, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    names = set(re.findall(r"\bquicio\.(\w+)", block.code))
    assert names, "a fragment that uses nothing of quicio proves nothing"
    assert names <= set(quicio.__all__)


@pytest.mark.parametrize("block", SIGNATURES, ids=lambda block: block.place)
def test_signatures_name_functions_that_exist(block: Block) -> None:
    code = "\n".join(line.partition("#")[0] for line in block.code.splitlines())
    names = set(CALL.findall(code))
    assert names
    known = {
        node.name
        for path in (ROOT / "quicio").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }
    assert names <= known


def test_the_pages_have_programs() -> None:
    assert {block.page.name for block in PROGRAMS} >= {"README.md", "first-connection.md"}


def test_the_readme_has_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = re.findall(
        r"^python -m pip install nox && .*$", text[text.index("in a virtual environment") :], re.MULTILINE
    )
    assert commands == [
        "python -m pip install nox && python -m nox -s examples",
        "python -m pip install nox && python -m nox -s tests",
    ]
