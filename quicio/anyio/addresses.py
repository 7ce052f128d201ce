"""Names to addresses, and addresses to sockets."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address

import anyio
from anyio.lowlevel import checkpoint

from quicio.errors import Address, ConnectError
from quicio.udp.address import address_from_system, address_to_system, canonical_host
from quicio.udp.socket import UdpSocket, open_socket

__all__ = ["bind", "open_towards", "resolve", "resolve_local"]

WILDCARDS = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}


async def resolve(host: str | IPv4Address | IPv6Address, port: int) -> list[Address]:
    """The addresses of a peer, in the resolver's order, each once. Raises `ConnectError` when there are none.

    A numeric address is not the resolver's business, which on asyncio is a thread's.
    """
    if (numeric := numeric_address(str(host))) is not None:
        await checkpoint()
        return [(numeric, port)]
    try:
        found = await anyio.getaddrinfo(str(host), port, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as error:
        raise ConnectError(f"cannot resolve {str(host)!r}: {error}") from error
    return list(dict.fromkeys(address_from_system(sockaddr) for *_, sockaddr in found))


def numeric_address(host: str) -> str | None:
    """The one spelling of an IPv4 or IPv6 address; None for a name, and for an address with a zone."""
    try:
        return None if "%" in host else canonical_host(host)
    except ValueError:
        return None


async def resolve_local(host: str | None, port: int) -> list[str | None]:
    """The numeric addresses to bind for a local host name; None stands for all of them. Raises `OSError`."""
    if host is None:
        return [None]
    found = await anyio.getaddrinfo(host, port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys(address_from_system(sockaddr)[0] for *_, sockaddr in found))


def bind(host: str | None, port: int, *, reuse_port: bool = False) -> UdpSocket:
    """A socket bound to a numeric address. Raises `OSError`."""
    return UdpSocket.bind(host, port, reuse_port=reuse_port)


def open_towards(remote: Address, local_host: str | None, local_port: int) -> UdpSocket:
    """A socket for one peer: it hears nobody else, and learns when nobody is there. Raises `OSError`."""
    family = socket.AF_INET6 if ":" in remote[0] else socket.AF_INET
    sock = open_socket(local_host if local_host is not None else WILDCARDS[family], local_port)
    try:
        sock.connect(address_to_system(remote, sock.family))
        return UdpSocket(sock)
    except BaseException:
        sock.close()
        raise
