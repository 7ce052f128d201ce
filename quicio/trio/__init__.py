"""The trio face: the same connections and streams in trio's own idioms, for code that knows trio alone.

errors.py       our errors as trio's, and the seam at which they are translated
stream.py       streams: `trio.abc.HalfCloseableStream`
channels.py     the peer's streams and DATAGRAMs: `trio.abc.ReceiveChannel`, `trio.abc.Channel`
connection.py   what streams are opened on
client.py       `open_quic_connection`, a scope; `connect_quic`, into a nursery
server.py       `serve_quic`; `open_quic_listeners`, for `trio.serve_listeners`

It stands on the anyio face (`quicio.anyio`), whose objects run on trio as they are: the same halves, queues, driver and
rules. What is here is what trio asks for by other names, and errors that are both ours and trio's.

    async with quicio.trio.open_quic_connection("example.com", 443, alpn=["echo"]) as connection:
        async with await connection.open_stream() as stream:
            await stream.send_all(b"hello")
"""

from quicio.anyio.attributes import QuicAttribute
from quicio.anyio.connection import HandshakeInfo
from quicio.anyio.halves import Data
from quicio.anyio.lifetime import Handler, OnError, log_error
from quicio.anyio.stream import Priority
from quicio.errors import Address, CloseReason
from quicio.quic.configuration import ErrorCodes, QuicConfiguration
from quicio.quic.sessions import SessionStore
from quicio.quic.statistics import ConnectionStatistics
from quicio.trio.channels import Acceptor, Datagrams
from quicio.trio.client import connect_quic, open_quic_connection
from quicio.trio.connection import Connection
from quicio.trio.errors import (
    ALPNError,
    CertificateError,
    ClosedByPeer,
    ConnectError,
    ConnectionLost,
    EarlyDataRejected,
    HandshakeTimeout,
    IdleTimeout,
    NotDelivered,
    QuicError,
    StatelessReset,
    StreamReset,
    StreamStopped,
)
from quicio.trio.server import QuicListener, open_quic_listeners, serve_quic
from quicio.trio.stream import ReceiveStream, SendStream, Stream

__all__ = [
    "ALPNError",
    "Acceptor",
    "Address",
    "CertificateError",
    "CloseReason",
    "ClosedByPeer",
    "ConnectError",
    "Connection",
    "ConnectionLost",
    "ConnectionStatistics",
    "Data",
    "Datagrams",
    "EarlyDataRejected",
    "ErrorCodes",
    "Handler",
    "HandshakeInfo",
    "HandshakeTimeout",
    "IdleTimeout",
    "NotDelivered",
    "OnError",
    "Priority",
    "QuicAttribute",
    "QuicConfiguration",
    "QuicError",
    "QuicListener",
    "ReceiveStream",
    "SendStream",
    "SessionStore",
    "StatelessReset",
    "Stream",
    "StreamReset",
    "StreamStopped",
    "connect_quic",
    "log_error",
    "open_quic_connection",
    "open_quic_listeners",
    "serve_quic",
]
