"""Our client against servers of other implementations."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from helpers.interop_peers import PeerServer
from helpers.interop_task import ALPN, CLOSE_PHRASE, DONE, MEBIBYTE, command, content, digest
from helpers.loopback import HOST, client_configuration, identity
from quicio import (
    ALPNError,
    CertificateError,
    ClosedByPeer,
    ConnectError,
    Connection,
    Stream,
    StreamReset,
    StreamStopped,
    connect,
)
from quicio.anyio.attributes import QuicAttribute
from quicio.quic.wire.constants import VERSION_1, VERSION_2
from quicio.tls.constants import CipherSuite

pytestmark = pytest.mark.anyio

Start = Callable[..., PeerServer]
PACKAGES = ["aioquic", "qh3"]
SUITES = [CipherSuite.AES_128_GCM_SHA256, CipherSuite.AES_256_GCM_SHA384, CipherSuite.CHACHA20_POLY1305_SHA256]
SIZE = 10 * MEBIBYTE


@asynccontextmanager
async def connected(peer: PeerServer, **changes: Any) -> AsyncIterator[Connection]:
    """A connection to a peer, in the protocol of the task."""
    configuration = client_configuration(alpn_protocols=[ALPN], **changes)
    async with connect(HOST, peer.port, configuration=configuration, server_name="localhost") as connection:
        yield connection


async def read_all(stream: Stream) -> bytes:
    """What comes until the FIN."""
    return b"".join([chunk async for chunk in stream])


async def ask(connection: Connection, verb: str, number: int | None = None, body: bytes = b"") -> bytes:
    """Have the server do a task on a new stream; its answer."""
    async with await connection.open_stream() as stream:
        await stream.send(command(verb, number) + body)
        await stream.send_eof()
        return await read_all(stream)


@pytest.mark.parametrize("package", PACKAGES)
async def test_handshake(start_server: Start, package: str) -> None:
    async with connected(start_server(package)) as connection:
        assert connection.extra(QuicAttribute.alpn) == ALPN
        assert connection.extra(QuicAttribute.peer_certificate) == identity()[0].chain[0]
        assert await ask(connection, "echo", body=b"hello") == b"hello"
        assert await connection.ping() < 5


@pytest.mark.parametrize("package", PACKAGES)
async def test_ten_mebibytes_up(start_server: Start, package: str, record_speed: Callable[..., None]) -> None:
    data = content(SIZE)
    async with connected(start_server(package)) as connection:
        before = time.monotonic()
        assert await ask(connection, "up", body=data) == digest(data).encode()
        record_speed(SIZE, time.monotonic() - before)


@pytest.mark.parametrize("package", PACKAGES)
async def test_ten_mebibytes_down(start_server: Start, package: str, record_speed: Callable[..., None]) -> None:
    async with connected(start_server(package)) as connection:
        before = time.monotonic()
        data = await ask(connection, "down", SIZE)
        record_speed(SIZE, time.monotonic() - before)
    assert len(data) == SIZE
    assert digest(data) == digest(content(SIZE))


@pytest.mark.parametrize("package", PACKAGES)
async def test_hundred_parallel_streams(start_server: Start, package: str) -> None:
    bodies = [content(10_000 + index) for index in range(100)]
    right: list[int] = []

    async def exchange(index: int) -> None:
        async with await connection.open_stream() as stream:
            await stream.send(command("echo") + bodies[index][:5_000])
            all_open.append(index)
            while len(all_open) < len(bodies):
                await anyio.sleep(0.001)
            await stream.send(bodies[index][5_000:])
            await stream.send_eof()
            assert await read_all(stream) == bodies[index]
            right.append(index)

    all_open: list[int] = []
    async with connected(start_server(package)) as connection, anyio.create_task_group() as tasks:
        for index in range(100):
            tasks.start_soon(exchange, index)
    assert sorted(right) == list(range(100))


# --- the handshake's variants ----------------------------------------------------------------------------------------


async def test_retry(start_server: Start) -> None:
    """RFC 9000 §8.1.2: without the token of its Retry this server answers nothing else."""
    async with connected(start_server("aioquic", "--retry")) as connection:
        assert await ask(connection, "echo", body=b"after Retry") == b"after Retry"


async def test_version_negotiation(start_server: Start) -> None:
    """RFC 9000 §6: the server does not take the version of the first Initial and lists its own."""
    peer = start_server("aioquic", "--versions", f"{VERSION_1:x}")
    async with connected(peer, supported_versions=[VERSION_2, VERSION_1]) as connection:
        assert connection.extra(QuicAttribute.version) == VERSION_1
        assert await ask(connection, "echo", body=b"negotiated") == b"negotiated"


async def test_no_version_in_common(start_server: Start) -> None:
    with pytest.raises(ConnectError, match="No QUIC version in common"):
        async with connected(
            start_server("aioquic", "--versions", "1"), supported_versions=[VERSION_2], original_version=VERSION_2
        ):
            pass


async def test_version_2_from_the_start(start_server: Start) -> None:
    """RFC 9369."""
    async with connected(start_server("aioquic"), supported_versions=[VERSION_2]) as connection:
        assert connection.extra(QuicAttribute.version) == VERSION_2
        assert await ask(connection, "echo", body=b"two") == b"two"


async def test_compatible_upgrade_to_version_2(start_server: Start) -> None:
    """RFC 9368 §2.3: the server prefers version 2 and switches during the handshake."""
    peer = start_server("aioquic", "--versions", f"{VERSION_2:x},{VERSION_1:x}")
    changes = {"supported_versions": [VERSION_2, VERSION_1], "original_version": VERSION_1}
    async with connected(peer, **changes) as connection:
        assert connection.extra(QuicAttribute.version) == VERSION_2
        assert await ask(connection, "up", body=content(100_000)) == digest(content(100_000)).encode()


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
async def test_cipher_suites(start_server: Start, package: str, suite: CipherSuite) -> None:
    async with connected(start_server(package), cipher_suites=[suite]) as connection:
        assert connection.extra(QuicAttribute.cipher) == suite.name
        assert await ask(connection, "up", body=content(100_000)) == digest(content(100_000)).encode()


async def test_a_certificate_of_nobody_we_trust(start_server: Start) -> None:
    peer = start_server("aioquic")
    with pytest.raises(CertificateError):
        async with connected(peer, cadata=identity(("other.example",))[0].chain_pem):
            pass
    assert (await peer.told(event="terminated", code=0x100 + 48))["frame"] is not None  # unknown_ca


async def test_a_certificate_of_another_name(start_server: Start) -> None:
    peer = start_server("aioquic")
    configuration = client_configuration(alpn_protocols=[ALPN])
    with pytest.raises(CertificateError):
        async with connect(HOST, peer.port, configuration=configuration, server_name="other.example"):
            pass


async def test_no_application_protocol_in_common(start_server: Start) -> None:
    configuration = client_configuration(alpn_protocols=["something-else"])
    with pytest.raises(ALPNError) as caught:
        async with connect(HOST, start_server("aioquic").port, configuration=configuration, server_name="localhost"):
            pass
    assert caught.value.code == 0x100 + 120


# --- after the handshake ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("package", PACKAGES)
async def test_datagrams(start_server: Start, package: str) -> None:
    """RFC 9221."""
    async with connected(start_server(package)) as connection:
        for size in (0, 1, 1000):
            await connection.datagrams.send(content(size))
            with anyio.fail_after(5):
                assert await connection.datagrams.receive() == content(size)


@pytest.mark.parametrize("by_peer", [False, True], ids=["by us", "by the peer"])
@pytest.mark.parametrize("package", PACKAGES)
async def test_key_update(start_server: Start, package: str, by_peer: bool) -> None:
    """RFC 9001 §6."""
    async with connected(start_server(package)) as connection:
        assert await ask(connection, "echo", body=b"before") == b"before"
        await connection.ping()
        if by_peer:
            assert await ask(connection, "key-update") == DONE
        else:
            connection.request_key_update()
        assert await ask(connection, "up", body=content(100_000)) == digest(content(100_000)).encode()
        assert await ask(connection, "down", 100_000) == content(100_000)
        assert connection.statistics().key_updates == 1


@pytest.mark.parametrize("by_peer", [False, True], ids=["by us", "by the peer"])
@pytest.mark.parametrize("package", PACKAGES)
async def test_connection_ids(start_server: Start, package: str, by_peer: bool) -> None:
    """RFC 9000 §5.1.2, more often than there are IDs at first: retired ones are replaced."""
    async with connected(start_server(package)) as connection:
        quic = connection._link.quic
        first = quic._parts.connection_ids.local_cids()
        theirs = {quic._parts.paths.active.peer_cid}
        assert await ask(connection, "echo", body=b"both sides have given out IDs") != b""
        await connection.ping()
        for _ in range(12):
            if by_peer:
                assert await ask(connection, "change-id") == DONE
            else:
                connection.change_connection_id()
            assert await ask(connection, "echo", body=b"still there") == b"still there"
            theirs.add(quic._parts.paths.active.peer_cid)
        if by_peer:
            assert set(first).isdisjoint(quic._parts.connection_ids.local_cids())
        else:
            assert len(theirs) == 13


@pytest.mark.parametrize("package", PACKAGES)
async def test_close_by_the_peer(start_server: Start, package: str) -> None:
    async with connected(start_server(package)) as connection:
        with pytest.raises(ClosedByPeer, match=CLOSE_PHRASE) as caught:
            async with await connection.open_stream() as stream:
                await stream.send(command("close", 4711))
                await stream.receive()
        assert caught.value.code == 4711
        assert caught.value.reason is not None
        assert caught.value.reason.is_application


@pytest.mark.parametrize("package", PACKAGES)
async def test_close_by_us(start_server: Start, package: str) -> None:
    peer = start_server(package)
    async with connected(peer) as connection:
        assert await ask(connection, "echo", body=b"hello") == b"hello"
        connection.close(4712, CLOSE_PHRASE)
    told = await peer.told(event="terminated", code=4712)
    assert told["reason"] == CLOSE_PHRASE
    assert told["frame"] is None  # of an application, not of the transport


@pytest.mark.parametrize("package", PACKAGES)
async def test_reset_by_the_peer(start_server: Start, package: str) -> None:
    async with connected(start_server(package)) as connection:
        with pytest.raises(StreamReset) as caught:
            await ask(connection, "reset", 4713)
        assert caught.value.code == 4713
        assert await ask(connection, "echo", body=b"another stream") == b"another stream"


@pytest.mark.parametrize("package", PACKAGES)
async def test_stop_by_the_peer(start_server: Start, package: str) -> None:
    async with connected(start_server(package)) as connection:
        stream = await connection.open_stream()
        with pytest.raises(StreamStopped) as caught:
            async with stream:
                await stream.send(command("stop", 4714))
                assert await stream.wait_stopped() == 4714
                await stream.send(b"more")
        assert caught.value.code == 4714
        assert await ask(connection, "echo", body=b"another stream") == b"another stream"


@pytest.mark.parametrize("package", PACKAGES)
async def test_reset_and_stop_by_us(start_server: Start, package: str) -> None:
    peer = start_server(package)
    async with connected(peer) as connection:
        async with await connection.open_stream() as stream:
            await stream.send(command("echo") + b"abandoned")
            await connection.ping()
            stream.reset(4715)
            stream.stop(4716)
        async with await connection.open_stream() as stream:
            await stream.send(command("down", 4 * SIZE))
            await stream.send_eof()
            await stream.receive()
            stream.stop(4717)
        assert await ask(connection, "echo", body=b"another stream") == b"another stream"
        await peer.told(event="reset", code=4715)
        await peer.told(event="stopped", code=4717)
