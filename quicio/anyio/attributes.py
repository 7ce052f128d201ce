"""Typed attributes: what generic code may ask of a connection or stream through `extra()`."""

from __future__ import annotations

from typing import Any

from anyio import TypedAttributeSet, typed_attribute

__all__ = ["QuicAttribute"]


class QuicAttribute(TypedAttributeSet):
    """Facts of a QUIC connection or stream. `anyio.abc.SocketAttribute` and `anyio.streams.tls.TLSAttribute` hold as well,
    but for `raw_socket` and `ssl_object`, which do not exist here."""

    #: the application protocol that ALPN chose
    alpn: str | None = typed_attribute()
    #: the QUIC version in use, as its 32-bit number
    version: int = typed_attribute()
    #: the TLS cipher suite's name
    cipher: str = typed_attribute()
    #: the peer's certificate, as `cryptography.x509.Certificate`; None when it has none
    peer_certificate: Any = typed_attribute()
    #: the peer's certificate and what it sent along with it, leaf first
    peer_certificate_chain: tuple[Any, ...] = typed_attribute()
    #: the server's name, as asked for
    server_name: str | None = typed_attribute()
    #: whether the handshake resumed a session
    resumed: bool = typed_attribute()
    #: whether the server took 0-RTT data
    early_data_accepted: bool = typed_attribute()
    #: our first connection ID, by which the peer reached us during the handshake
    connection_id: bytes = typed_attribute()
    #: the stream's ID (streams only)
    stream_id: int = typed_attribute()
    #: the connection's counters, as `Connection.statistics()` gives them
    statistics: Any = typed_attribute()
