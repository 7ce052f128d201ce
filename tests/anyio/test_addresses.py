"""Names to addresses, and sockets towards them."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

import anyio
import pytest

from quicio.anyio.addresses import bind, open_towards, resolve, resolve_local
from quicio.errors import ConnectError

pytestmark = pytest.mark.anyio


async def test_numeric_addresses_and_objects() -> None:
    assert await resolve("127.0.0.1", 443) == [("127.0.0.1", 443)]
    assert await resolve(IPv4Address("127.0.0.1"), 443) == [("127.0.0.1", 443)]
    assert await resolve("::1", 443) == [("::1", 443)]


async def test_a_numeric_address_does_not_ask_the_resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    async def getaddrinfo(host: str, port: int, **options: Any) -> list[Any]:
        raise OSError("asked")

    monkeypatch.setattr(anyio, "getaddrinfo", getaddrinfo)
    assert await resolve("127.0.0.1", 443) == [("127.0.0.1", 443)]
    assert await resolve("0:0::1", 443) == [("::1", 443)]
    for host in ("localhost", "fe80::1%1"):  # what a zone means only the system knows
        with pytest.raises(ConnectError, match="asked"):
            await resolve(host, 443)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await resolve("127.0.0.1", 443)
    assert scope.cancelled_caught


async def test_each_address_once_and_none_is_an_error() -> None:
    found = await resolve("localhost", 443)
    assert ("127.0.0.1", 443) in found
    assert len(found) == len(set(found))
    for name in ("no-such-host.invalid", "a" * 300):
        with pytest.raises(ConnectError, match="resolve"):
            await resolve(name, 443)


async def test_local_names() -> None:
    assert await resolve_local(None, 0) == [None]
    assert "127.0.0.1" in await resolve_local("localhost", 0)


async def test_a_socket_towards_a_peer_is_connected_and_closed_when_that_fails() -> None:
    with open_towards(("127.0.0.1", 9), None, 0) as udp:
        assert udp.local_address[0] == "127.0.0.1"
    with open_towards(("127.0.0.1", 9), "127.0.0.1", 0) as udp:
        assert udp.local_address[0] == "127.0.0.1"
    with pytest.raises((OSError, ValueError)):
        open_towards(("::1", 9), "127.0.0.1", 0)


async def test_bind() -> None:
    with bind("127.0.0.1", 0) as udp:
        assert udp.local_address[1] > 0
