"""The face without pytest around it: bare `asyncio.run` and `trio.run`, in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import quicio

TESTS = Path(__file__).parent.parent
INSTALLED = Path(quicio.__file__).parent.parent  # the program takes the same build of quicio
PROGRAM = """
import sys
sys.path[:0] = {paths!r}
import {backend}
from functools import partial
import anyio
from helpers.loopback import client_configuration, read_all, server_configuration
from quicio import connect, serve

async def echo(connection):
    async def answer(stream):
        await stream.send(await read_all(stream))
    await connection.incoming_streams.serve(answer)

async def main():
    async with anyio.create_task_group() as group:
        run = partial(serve, echo, "127.0.0.1", 0, configuration=server_configuration())
        listener = await group.start(run)
        async with connect(*listener.local_address, configuration=client_configuration()) as connection:
            async with await connection.open_stream() as stream:
                await stream.send(b"hello")
                await stream.send_eof()
                assert await read_all(stream) == b"hello"
        group.cancel_scope.cancel()

{backend}.run({run})
assert {other!r} not in sys.modules
print("exchanged")
"""


def run_program(text: str) -> str:
    # Not -X dev: asyncio would print what a busy machine delays.
    arguments = [sys.executable, "-W", "error", "-c", text]
    result = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout.strip()


@pytest.mark.parametrize(("backend", "other", "run"), [("asyncio", "trio", "main()"), ("trio", "asyncio", "main")])
def test_a_backend_alone(backend: str, other: str, run: str) -> None:
    paths = [str(INSTALLED), str(TESTS)]
    assert run_program(PROGRAM.format(backend=backend, other=other, run=run, paths=paths)) == "exchanged"
