"""The anyio face: connections and streams for structured concurrency, on asyncio and on trio.

driver.py        one socket's engine, run by three tasks
link.py          one connection between core, driver and application
application.py   what a connection's streams are for: the base of `StreamTable` and of HTTP/3
stream_table.py  the application that gives users streams; halves.py what tasks wait for on a stream
stream.py, acceptor.py, datagrams.py, connection.py      what users hold
client.py, server.py, endpoint.py                        the scopes: `connect`, `listen`, `serve`, `open_endpoint`
connectable.py   a connection and one stream, for code that takes any connectable
dialling.py      which of several addresses answers first; migration.py another socket under a connection
lifetime.py      how scopes and handlers end; closing.py from close reasons to errors
"""

from quicio.anyio.acceptor import Acceptor
from quicio.anyio.attributes import QuicAttribute
from quicio.anyio.client import connect
from quicio.anyio.connectable import QuicConnectable
from quicio.anyio.connection import Connection, HandshakeInfo
from quicio.anyio.datagrams import Datagrams
from quicio.anyio.endpoint import Endpoint, EndpointStatistics, open_endpoint
from quicio.anyio.halves import Data
from quicio.anyio.lifetime import Handler, OnError, log_error
from quicio.anyio.server import Incoming, Listener, listen, retry_under_load, serve
from quicio.anyio.stream import Priority, ReceiveStream, SendStream, Stream

__all__ = [
    "Acceptor",
    "Connection",
    "Data",
    "Datagrams",
    "Endpoint",
    "EndpointStatistics",
    "Handler",
    "HandshakeInfo",
    "Incoming",
    "Listener",
    "OnError",
    "Priority",
    "QuicAttribute",
    "QuicConnectable",
    "ReceiveStream",
    "SendStream",
    "Stream",
    "connect",
    "listen",
    "log_error",
    "open_endpoint",
    "retry_under_load",
    "serve",
]
