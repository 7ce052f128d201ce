"""QUIC on asyncio, with the names, signatures and behaviour of `aioquic.asyncio`.

    async with connect("example.com", 4433, configuration=configuration) as protocol:
        reader, writer = await protocol.create_stream()

`client` has `connect()`, `server` has `serve()` and `QuicServer`, `protocol` has `QuicConnectionProtocol`, which
applications subclass. Beneath them `transport` pumps the same engine as the other faces, and `stream` makes streams of
asyncio out of QUIC's.
"""

from quicio.asyncio.client import connect
from quicio.asyncio.protocol import QuicConnectionProtocol
from quicio.asyncio.server import serve

__all__ = ["QuicConnectionProtocol", "connect", "serve"]
