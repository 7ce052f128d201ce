"""Another local address under a connection: `Connection.migrate` (RFC 9000 §9).

The connection's own socket is exchanged for another one, and the core starts a new path on it: with a connection ID that
was not used before, measurements that start anew, and PATH_CHALLENGE. It has arrived when the server acknowledges what was
sent on the new path; until then the old socket stays open, and when nothing comes for `PATIENCE` seconds, or the call is
cancelled, the connection goes back to it.

A connection that shares its socket with others cannot move alone: `Endpoint.rebind` moves them all, and asks nobody.
"""

from __future__ import annotations

import socket as socket_module
from typing import Final

import anyio
from anyio.lowlevel import checkpoint

from quicio.anyio.addresses import open_towards, resolve_local
from quicio.anyio.link import Link
from quicio.errors import ConnectError
from quicio.udp.socket import UdpSocket

__all__ = ["migrate"]

PATIENCE: Final = 3.0  # seconds: as long as a path of which nothing is known is validated (RFC 9000 §8.2.4)


async def migrate(link: Link, local_host: str | None, local_port: int, socket: socket_module.socket | None) -> None:
    """Move a connection with a socket of its own to another local address, or leave it where it is and raise."""
    await checkpoint()
    with link.migrating:
        await _move(link, local_host, local_port, socket)


async def _move(link: Link, local_host: str | None, local_port: int, socket: socket_module.socket | None) -> None:
    link.check()
    obstacle = link.quic.obstacle_to_migration()
    if obstacle:
        raise RuntimeError(f"the connection cannot migrate now: {obstacle}")
    if socket is not None:
        udp = UdpSocket(socket)
    else:
        local = (await resolve_local(local_host, local_port))[0]
        link.check()
        udp = open_towards(link.remote_address, local, local_port)
    driver = link.driver
    place = udp.local_address
    old = driver.swap(udp)
    has_arrived = False
    try:
        with anyio.move_on_after(PATIENCE):
            await link.ping()
            has_arrived = True
    finally:
        is_over = driver.is_stopped or link.reason is not None
        spare = old if has_arrived or is_over else driver.swap(old)
        spare.close()
    if not has_arrived:
        raise ConnectError(f"the server did not answer on the path from {place}: the connection stays where it was")
