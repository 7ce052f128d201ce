"""quicio: QUIC and HTTP/3 for Python's structured concurrency.

This is the front door: the names of the anyio face, which runs on asyncio and on trio. They are imported when first
asked for (PEP 562), so that `import quicio.quic.connection`, the protocol without I/O, loads no event loop.

    async with quicio.connect("example.com", 443, alpn=["h3"]) as connection:
        async with await connection.open_stream() as stream:
            await stream.send(b"hello")

The other doors: `quicio.quic` and `quicio.h3` without I/O, `quicio.http` for requests and responses.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from quicio.anyio import (
        Acceptor,
        Connection,
        Data,
        Datagrams,
        Endpoint,
        EndpointStatistics,
        Handler,
        HandshakeInfo,
        Incoming,
        Listener,
        OnError,
        Priority,
        QuicAttribute,
        QuicConnectable,
        ReceiveStream,
        SendStream,
        Stream,
        connect,
        listen,
        log_error,
        open_endpoint,
        retry_under_load,
        serve,
    )
    from quicio.errors import (
        Address,
        ALPNError,
        CertificateError,
        ClosedByPeer,
        CloseReason,
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
    from quicio.quic.client_hello import ClientHello
    from quicio.quic.configuration import ErrorCodes, QuicConfiguration
    from quicio.quic.sessions import SessionStore
    from quicio.quic.statistics import ConnectionStatistics

__version__ = "0.1.0"

__all__ = [
    "ALPNError",
    "Acceptor",
    "Address",
    "CertificateError",
    "ClientHello",
    "CloseReason",
    "ClosedByPeer",
    "ConnectError",
    "Connection",
    "ConnectionLost",
    "ConnectionStatistics",
    "Data",
    "Datagrams",
    "EarlyDataRejected",
    "Endpoint",
    "EndpointStatistics",
    "ErrorCodes",
    "Handler",
    "HandshakeInfo",
    "HandshakeTimeout",
    "IdleTimeout",
    "Incoming",
    "Listener",
    "NotDelivered",
    "OnError",
    "Priority",
    "QuicAttribute",
    "QuicConfiguration",
    "QuicConnectable",
    "QuicError",
    "ReceiveStream",
    "SendStream",
    "SessionStore",
    "StatelessReset",
    "Stream",
    "StreamReset",
    "StreamStopped",
    "__version__",
    "connect",
    "listen",
    "log_error",
    "open_endpoint",
    "retry_under_load",
    "serve",
]

_ERRORS: Final = "quicio.errors"
_CONFIGURATION: Final = "quicio.quic.configuration"
_HOMES: Final = {
    "ALPNError": _ERRORS,
    "Address": _ERRORS,
    "CertificateError": _ERRORS,
    "CloseReason": _ERRORS,
    "ClosedByPeer": _ERRORS,
    "ConnectError": _ERRORS,
    "ConnectionLost": _ERRORS,
    "EarlyDataRejected": _ERRORS,
    "HandshakeTimeout": _ERRORS,
    "IdleTimeout": _ERRORS,
    "NotDelivered": _ERRORS,
    "QuicError": _ERRORS,
    "StatelessReset": _ERRORS,
    "StreamReset": _ERRORS,
    "StreamStopped": _ERRORS,
    "ErrorCodes": _CONFIGURATION,
    "QuicConfiguration": _CONFIGURATION,
    "ClientHello": "quicio.quic.client_hello",
    "SessionStore": "quicio.quic.sessions",
    "ConnectionStatistics": "quicio.quic.statistics",
}
_FACE: Final = "quicio.anyio"  # the home of every other name of __all__


if not TYPE_CHECKING:  # or type checkers would take every misspelt name for an `object`

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(_HOMES.get(name, _FACE)), name)
        globals()[name] = value  # the next access finds it without coming here
        return value

    def __dir__() -> list[str]:
        return sorted(__all__)
