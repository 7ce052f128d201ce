"""Clients and servers of the anyio face on the loopback interface: the real sockets, the real clock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from typing import Any

import anyio

from helpers.certificates import DAY, DEFAULT_NAMES, Identity, Issuer, issue, key_usage, make_key
from quicio.anyio import Connection, Listener, SendStream, connect, serve
from quicio.anyio.lifetime import Handler
from quicio.quic.configuration import QuicConfiguration

HOST = "127.0.0.1"
ALPN = ["quicio-test"]


@cache
def identity(names: tuple[str, ...] = DEFAULT_NAMES) -> tuple[Identity, bytes]:
    """A server's identity that is valid today, and the PEM of the authority that vouches for it."""
    now = datetime.now(UTC)
    validity: dict[str, Any] = {"not_before": now - DAY, "not_after": now + timedelta(days=30)}
    root_key = make_key("p256", 77)
    usage = key_usage("key_cert_sign", "crl_sign")
    root = issue("quicio loopback root", root_key, is_authority=True, extensions=((usage, True),), **validity)
    key = make_key("p256", 78)
    leaf = issue(names[0], key, Issuer(root, root_key), names=names, serial_number=2, **validity)
    return Identity([leaf], key), Identity([root], root_key).chain_pem


def server_configuration(names: tuple[str, ...] = DEFAULT_NAMES, **changes: Any) -> QuicConfiguration:
    """What a test's server is configured with."""
    who, _ = identity(names)
    base = QuicConfiguration(is_client=False, alpn_protocols=ALPN, max_datagram_frame_size=65536, linger=1.0)
    return base.replaced(**({"certificate": who.chain[0], "private_key": who.private_key} | changes))


def client_configuration(**changes: Any) -> QuicConfiguration:
    """What a test's client is configured with: it trusts the authority of `server_configuration`."""
    base = QuicConfiguration(alpn_protocols=ALPN, cadata=identity()[1], max_datagram_frame_size=65536, linger=1.0)
    return base.replaced(**changes)


@asynccontextmanager
async def serving(handler: Handler[Connection], **changes: Any) -> AsyncIterator[Listener]:
    """A server with `handler` while the body runs; it is cancelled afterwards."""
    async with anyio.create_task_group() as group:
        configuration = server_configuration(**changes)
        yield await group.start(partial(serve, handler, HOST, 0, configuration=configuration))
        group.cancel_scope.cancel()


class Pair:
    """Both ends of one connection."""

    def __init__(self, client: Connection, server: Connection) -> None:
        self.client = client
        self.server = server


@asynccontextmanager
async def pair(client: dict[str, Any] | None = None, server: dict[str, Any] | None = None) -> AsyncIterator[Pair]:
    """A client's and a server's connection to each other; `client` and `server` are changes of configuration."""
    accepted: list[Connection] = []
    is_there = anyio.Event()
    is_over = anyio.Event()

    async def hold(connection: Connection) -> None:
        accepted.append(connection)
        is_there.set()
        await is_over.wait()

    async with serving(hold, **(server or {})) as listener:
        configuration = client_configuration(**(client or {}))
        async with connect(*listener.local_address, configuration=configuration) as connection:
            await is_there.wait()
            yield Pair(connection, accepted[0])
            is_over.set()


async def read_all(stream: Any) -> bytes:
    """Everything until the FIN."""
    pieces = [piece async for piece in stream]
    return b"".join(pieces)


async def fill(stream: SendStream) -> int:
    """Send until the peer's window and the send buffer are full, however slow the machine; returns the bytes taken."""
    taken = 0
    while True:
        with anyio.move_on_after(0.5) as patience:
            taken += await stream.send_some(bytes(65536))
        if patience.cancelled_caught:
            return taken
