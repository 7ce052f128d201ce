"""The application on a connection: what its streams and datagrams are for.

A `Link` handles what concerns the connection as a whole (handshake, close, limits, pings) and hands every other event to its
application. There are two kinds: `StreamTable`, which turns them into stream faces for users, and HTTP/3, which drives an
`H3Connection`. Both run on the same driver, and neither knows how bytes reach the wire.

Rules:
- `handle_event` and `connection_lost` run inside the driver's turn: they never wait, and what they queue in the core is
  sent when the turn ends.
- `finish` is the graceful end of RFC 9000's streams as the application sees it; the connection bounds its time by the
  configuration's `linger` and closes afterwards.
"""

from __future__ import annotations

from quicio.quic.events import QuicEvent

__all__ = ["Application"]


class Application:
    """Base of what uses a connection's streams and datagrams."""

    def handle_event(self, event: QuicEvent) -> None:
        """Take one event of the core that is not about the connection as a whole."""

    def connection_lost(self) -> None:
        """The connection has ended, by whomever: wake all that wait. `Link.error()` says why."""

    async def finish(self) -> None:
        """End gracefully what is still open, and return when the peer has acknowledged it all."""

    def undelivered_count(self) -> int:
        """How many streams have data, or a FIN, that the peer has not acknowledged."""
        return 0
