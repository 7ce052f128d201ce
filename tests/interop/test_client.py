"""Our client on the anyio face against servers of other implementations: what it tells of a connection, and how one ends.

Features of the protocol are in test_matrix.py, for every face.
"""

from __future__ import annotations

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
from quicio.quic.wire.constants import VERSION_2
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


@pytest.mark.parametrize("package", ["aioquic"])  # qh3 gets no further with new keys in version 2
async def test_what_a_connection_tells(start_server: Start, package: str) -> None:
    changes = {"supported_versions": [VERSION_2], "cipher_suites": [CipherSuite.CHACHA20_POLY1305_SHA256]}
    async with connected(start_server(package), **changes) as connection:
        assert connection.extra(QuicAttribute.version) == VERSION_2
        assert connection.extra(QuicAttribute.cipher) == "CHACHA20_POLY1305_SHA256"
        assert await ask(connection, "echo", body=b"before") == b"before"
        await connection.ping()
        connection.request_key_update()
        assert await ask(connection, "up", body=content(100_000)) == digest(content(100_000)).encode()
        assert connection.statistics().key_updates == 1


# --- the handshake's variants ----------------------------------------------------------------------------------------


async def test_no_version_in_common(start_server: Start) -> None:
    with pytest.raises(ConnectError, match="No QUIC version in common"):
        async with connected(
            start_server("aioquic", "--versions", "1"), supported_versions=[VERSION_2], original_version=VERSION_2
        ):
            pass


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
