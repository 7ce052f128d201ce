"""The same program on `quicio.asyncio` and on aioquic: each as server and as client, in processes of their own.

The programs are written for aioquic; all that changes is the root of their imports. Features of the protocol are in
test_matrix.py.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest

from helpers.interop_peers import PeerServer, run_client
from helpers.interop_task import ALPN, CLOSE_PHRASE, MEBIBYTE, content, digest

pytestmark = pytest.mark.anyio

Start = Callable[..., PeerServer]
PAIRS = [("quicio", "aioquic"), ("aioquic", "quicio"), ("quicio", "quicio")]
SIZE = 10 * MEBIBYTE


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # the two programs have loops of their own


@pytest.fixture(params=PAIRS, ids=["-".join(pair) for pair in PAIRS])
def pair(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Server and client."""
    server, client = request.param
    if "aioquic" in request.param and find_spec("aioquic") is None:
        pytest.skip("the peer aioquic is not installed: pip install --group interop")
    return server, client


@pytest.fixture
def perform(pair: tuple[str, str], start_server: Start, authority: str) -> Any:
    """`await perform(*steps)`: the steps of the client against the server, and what came of each."""

    async def run(*steps: str, server_options: tuple[str, ...] = (), client_options: tuple[str, ...] = ()) -> Any:
        server = start_server(pair[0], *server_options)
        facts = await run_client("aioquic_client.py", pair[1], str(server.port), authority, *steps, *client_options)
        assert len(facts) == len(steps) + 1, facts
        return server, facts[1:]

    return run


async def test_echoes(perform: Any) -> None:
    _, (one, many, datagram) = await perform("echo::100000", "many:100:20000", "datagram:1000")
    assert one["digest"] == digest(content(100_000))
    assert many["equal"] == 100
    assert datagram["equal"]


async def test_a_reset_and_a_stop_are_seen(perform: Any) -> None:
    server, _ = await perform("send-reset:77", "send-stop:78")
    assert await server.told(event="reset", code=77)
    assert await server.told(event="stopped", code=78)


@pytest.mark.parametrize(("step", "expected"), [("reset:5", {"reset": 5}), ("stop:6", {"stopped": 6})])
async def test_a_refusal_is_heard(perform: Any, step: str, expected: dict[str, int]) -> None:
    _, (fact,) = await perform(step)
    assert fact == expected


async def test_a_close_is_heard_with_its_code_and_reason(perform: Any) -> None:
    _, (fact,) = await perform("close:9")
    assert fact == {"alpn": ALPN, "closed": {"code": 9, "frame": None, "reason": CLOSE_PHRASE}}
    server, _ = await perform("send-close:10")
    assert await server.told(event="terminated", code=10, frame=None, reason=CLOSE_PHRASE)


async def test_no_common_protocol(pair: tuple[str, str], start_server: Start, authority: str) -> None:
    server = start_server(pair[0])
    (fact,) = await run_client("aioquic_client.py", pair[1], str(server.port), authority, "--alpn", "nobody")
    assert fact["closed"]["code"] == 0x100 + 120
