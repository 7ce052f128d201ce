"""Our server against clients of other implementations."""

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
from quicio import ALPNError, CertificateError, Incoming
from quicio.anyio.attributes import QuicAttribute
from quicio.quic.wire.constants import VERSION_1, VERSION_2

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


@pytest.mark.parametrize("package", PACKAGES)
async def test_ten_mebibytes(steps: Callable[..., Any], package: str, record_speed: Callable[..., None]) -> None:
    async with task_server() as server:
        _, up, down = await steps(package, server, f"up::{SIZE}", f"down:{SIZE}")
    assert up["text"] == digest(content(SIZE))
    assert down["size"] == SIZE
    assert down["digest"] == digest(content(SIZE))
    record_speed(SIZE, up["seconds"], "up")
    record_speed(SIZE, down["seconds"], "down")


@pytest.mark.parametrize("package", PACKAGES)
async def test_hundred_parallel_streams(steps: Callable[..., Any], package: str) -> None:
    async with task_server() as server:
        said = await steps(package, server, "many:100:10000")
    assert said[1]["equal"] == 100


# --- the handshake's variants ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("package", PACKAGES)
async def test_retry(steps: Callable[..., Any], package: str) -> None:
    """RFC 9000 §8.1.2: nobody is served here whose address is not validated."""
    seen: list[bool] = []

    def policy(incoming: Incoming) -> None:
        seen.append(incoming.address_validated)
        if not incoming.address_validated:
            incoming.retry()

    async with task_server(policy=policy) as server:
        said = await steps(package, server, "echo::1000")
    assert said[1]["digest"] == digest(content(1000))
    assert seen[0] is False  # once for each datagram of a long ClientHello
    assert seen.count(True) == 1


async def test_version_negotiation(steps: Callable[..., Any]) -> None:
    """RFC 9000 §6: the client begins with a version that this server does not take."""
    async with task_server(supported_versions=[VERSION_1]) as server:
        said = await steps("aioquic", server, "echo::1000", "--versions", f"{VERSION_2:x},{VERSION_1:x}")
        assert server.connections[0].extra(QuicAttribute.version) == VERSION_1
    assert said[1]["digest"] == digest(content(1000))


@pytest.mark.parametrize("package", PACKAGES)
async def test_version_2_from_the_start(steps: Callable[..., Any], package: str) -> None:
    """RFC 9369."""
    async with task_server() as server:
        said = await steps(package, server, "up::100000", "--versions", f"{VERSION_2:x}")
        assert server.connections[0].extra(QuicAttribute.version) == VERSION_2
    assert said[1]["text"] == LARGE


async def test_compatible_upgrade_to_version_2(steps: Callable[..., Any]) -> None:
    """RFC 9368 §2.3: this server prefers version 2 and switches during the handshake."""
    async with task_server(supported_versions=[VERSION_2, VERSION_1]) as server:
        said = await steps("aioquic", server, "up::100000", "--versions", f"{VERSION_1:x},{VERSION_2:x}")
        assert server.connections[0].extra(QuicAttribute.version) == VERSION_2
    assert said[1]["text"] == LARGE


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("suite", SUITES)
async def test_cipher_suites(steps: Callable[..., Any], package: str, suite: str) -> None:
    async with task_server() as server:
        said = await steps(package, server, "up::100000", "--cipher", suite)
        assert server.connections[0].extra(QuicAttribute.cipher) == suite
    assert said[1]["text"] == LARGE


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


@pytest.mark.parametrize("step", ["update-key", "key-update"], ids=["by the peer", "by us"])
@pytest.mark.parametrize("package", PACKAGES)
async def test_key_update(steps: Callable[..., Any], package: str, step: str) -> None:
    """RFC 9001 §6."""
    async with task_server() as server:
        said = await steps(package, server, "echo::1000", step, "up::100000", "down:100000")
        assert server.connections[0].statistics().key_updates == 1
    assert said[3]["text"] == LARGE
    assert said[4]["digest"] == LARGE


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
