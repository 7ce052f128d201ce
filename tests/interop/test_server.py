"""Our server on the anyio face against clients of other implementations: what it tells of a connection, and how one ends.

Features of the protocol are in test_matrix.py, for every face.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from helpers.certificates import issue, make_key
from helpers.interop_peers import Facts, run_client
from helpers.interop_server import TaskServer, task_server
from helpers.interop_task import ALPN, CLOSE_PHRASE, MEBIBYTE, content, digest
from quicio import ALPNError, CertificateError
from quicio.anyio.attributes import QuicAttribute
from quicio.quic.wire.constants import VERSION_2

pytestmark = pytest.mark.anyio

PACKAGES = ["aioquic", "qh3"]
SUITES = ["AES_128_GCM_SHA256", "AES_256_GCM_SHA384", "CHACHA20_POLY1305_SHA256"]
SIZE = 10 * MEBIBYTE
LARGE = digest(content(100_000))  # the answer to up::100000, and the digest of that to down:100000


@pytest.fixture
def steps(authority: str) -> Callable[..., Any]:
    """`await steps(package, server, *steps)`: what a client of that package says of its steps on one connection."""

    async def run(package: str, server: TaskServer, *arguments: str) -> list[Facts]:
        return await run_client("aioquic_client.py", package, str(server.port), authority, *arguments)

    return run


@pytest.mark.parametrize("package", PACKAGES)
async def test_handshake(steps: Callable[..., Any], package: str) -> None:
    async with task_server() as server:
        said = await steps(package, server, "echo::1000")
        await server.ended.wait()
    assert said[0] == {"connected": ALPN}
    assert said[1]["digest"] == digest(content(1000))
    assert server.connections[0].extra(QuicAttribute.alpn) == ALPN
    assert server.connections[0].extra(QuicAttribute.server_name) == "localhost"
    assert [reason.code for reason in server.reasons] == [0]
    assert server.failures == []


@pytest.mark.parametrize("package", ["aioquic"])  # qh3 gets no further with new keys in version 2
async def test_what_a_connection_tells(steps: Callable[..., Any], package: str) -> None:
    options = ("--versions", f"{VERSION_2:x}", "--cipher", "CHACHA20_POLY1305_SHA256")
    async with task_server() as server:
        said = await steps(package, server, "echo::1000", "update-key", "up::100000", *options)
        assert server.connections[0].extra(QuicAttribute.version) == VERSION_2
        assert server.connections[0].extra(QuicAttribute.cipher) == "CHACHA20_POLY1305_SHA256"
        assert server.connections[0].statistics().key_updates == 1
    assert said[3]["text"] == LARGE


# --- the handshake's variants ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("package", PACKAGES)
async def test_a_certificate_of_nobody_the_client_trusts(package: str, tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    other.write_bytes(issue("nobody", make_key("p256", 99), is_authority=True).public_bytes(Encoding.PEM))
    async with task_server() as server:
        said = await run_client("aioquic_client.py", package, str(server.port), str(other))
        await server.ended.wait()
    assert "connected" not in said[0]
    [error] = server.failures
    assert isinstance(error, CertificateError)
    assert error.reason is not None
    assert error.reason.by_peer


@pytest.mark.parametrize("package", PACKAGES)
async def test_no_application_protocol_in_common(steps: Callable[..., Any], package: str) -> None:
    async with task_server() as server:
        said = await steps(package, server, "--alpn", "something-else")
        await server.ended.wait()
    assert said[0]["closed"]["code"] == 0x100 + 120
    [error] = server.failures
    assert isinstance(error, ALPNError)


# --- after the handshake ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("package", PACKAGES)
async def test_datagrams(steps: Callable[..., Any], package: str) -> None:
    """RFC 9221."""
    async with task_server() as server:
        said = await steps(package, server, "datagram:1", "datagram:1000")
    assert [result["equal"] for result in said[1:]] == [True, True]


@pytest.mark.parametrize("step", ["take-id", "change-id"], ids=["by the peer", "by us"])
@pytest.mark.parametrize("package", PACKAGES)
async def test_connection_ids(steps: Callable[..., Any], package: str, step: str) -> None:
    """RFC 9000 §5.1.2."""
    async with task_server() as server:
        said = await steps(package, server, "echo::1000", *[step, "echo::2000"] * 12)
        await server.ended.wait()
    assert [result["digest"] for result in said[3::2]] == [digest(content(2000))] * 12
    assert [reason.code for reason in server.reasons] == [0]


@pytest.mark.parametrize("package", PACKAGES)
async def test_close_by_us(steps: Callable[..., Any], package: str) -> None:
    async with task_server() as server:
        said = await steps(package, server, "echo::1000", "close:4711")
    assert said[2]["closed"] == {"code": 4711, "frame": None, "reason": CLOSE_PHRASE}


@pytest.mark.parametrize("package", PACKAGES)
async def test_close_by_the_peer(steps: Callable[..., Any], package: str) -> None:
    async with task_server() as server:
        await steps(package, server, "echo::1000", "send-close:4712")
        await server.ended.wait()
    [reason] = server.reasons
    assert (reason.code, reason.is_application, reason.by_peer, reason.reason) == (4712, True, True, CLOSE_PHRASE)


@pytest.mark.parametrize("package", PACKAGES)
async def test_reset_and_stop_by_us(steps: Callable[..., Any], package: str) -> None:
    async with task_server() as server:
        assert (await steps(package, server, "reset:4713"))[1] == {"reset": 4713}
        assert (await steps(package, server, "stop:4714"))[1] == {"stopped": 4714}


@pytest.mark.parametrize("package", PACKAGES)
async def test_reset_and_stop_by_the_peer(steps: Callable[..., Any], package: str) -> None:
    async with task_server() as server:
        said = await steps(package, server, "send-reset:4715", "send-stop:4716", "echo::1000")
    assert said[3]["digest"] == digest(content(1000))
    assert server.resets == [4715]
    assert server.stops == [4716]
