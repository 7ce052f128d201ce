"""Bound sockets for `connect()` and `serve()`, and errors that say which address could not be had.

The system's own message for a taken port is "Address already in use", without the address. Here host and port are put
behind it; kind and errno of the error stay what they are, so that programs that look at `errno.EADDRINUSE` go on to work.

A server is bound to the first address of its name that can be had: `serve("localhost", port)` works on a host whose
`localhost` is `::1` first, and which has no IPv6.
"""

from __future__ import annotations

import asyncio
import socket

from quicio.udp.address import address_from_system
from quicio.udp.socket import open_socket

__all__ = ["bind", "open_bound"]


def open_bound(host: str | None, port: int) -> socket.socket:
    """A UDP socket on a numeric address, None for all of them. Raises `OSError` that names the address."""
    try:
        return open_socket(host, port)
    except OSError as error:
        place = "any address" if host is None else host
        raise OSError(error.errno, f"cannot bind to {place}, port {port}: {error.strerror or error}") from error


async def bind(loop: asyncio.AbstractEventLoop, host: str, port: int) -> socket.socket:
    """A socket on the first address of `host` that can be had; an empty host stands for all addresses.

    Raises `socket.gaierror` for an unknown name, `OSError` when none can be had.
    """
    if not host:
        return open_bound(None, port)
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE)
    failure: OSError | None = None
    for *_, sockaddr in found:
        try:
            return open_bound(address_from_system(sockaddr)[0], port)
        except OSError as error:
            failure = failure or error
    raise failure or OSError(f"{host} has no address")
