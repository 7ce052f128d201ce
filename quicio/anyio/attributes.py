"""Typed attributes: what generic code may ask of a connection or stream through `extra()`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from anyio import TypedAttributeLookupError, TypedAttributeSet, typed_attribute
from anyio.abc import SocketAttribute
from anyio.streams.tls import TLSAttribute

from quicio.quic.configuration import QuicConfiguration
from quicio.quic.statistics import ConnectionStatistics
from quicio.tls.constants import CipherSuite

if TYPE_CHECKING:
    from quicio.anyio.link import Link
    from quicio.anyio.stream_table import StreamTable

__all__ = ["ConnectionAttributes", "QuicAttribute"]


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


class ConnectionAttributes(Mapping[Any, Callable[[], Any]]):
    """The attributes of one connection, for it, its acceptors and its streams. Each getter is made when it is asked for."""

    __slots__ = ("_configuration", "_link", "_table")

    def __init__(self, link: Link, table: StreamTable, configuration: QuicConfiguration) -> None:
        self._link = link
        self._table = table
        self._configuration = configuration

    def __getitem__(self, attribute: Any) -> Callable[[], Any]:
        return partial(GETTERS[attribute], self)

    def __iter__(self) -> Iterator[Any]:
        return iter(GETTERS)

    def __len__(self) -> int:
        return len(GETTERS)

    def statistics(self) -> ConnectionStatistics:
        """The core's counters, and what this face has dropped."""
        known = self._link.quic.statistics()
        return replace(known, datagrams_dropped=known.datagrams_dropped + self._table.datagrams_dropped)

    def _handshake(self) -> Any:
        handshake = self._link.handshake
        if handshake is None:
            raise TypedAttributeLookupError("the handshake is not complete")
        return handshake

    def _certificate(self) -> Any:
        certificates = self._link.quic.tls.peer_certificates
        return certificates[0] if certificates else None


GETTERS: Final[dict[Any, Callable[[ConnectionAttributes], Any]]] = {
    QuicAttribute.alpn: lambda of: of._handshake().alpn_protocol,
    QuicAttribute.version: lambda of: of._link.quic.version,
    QuicAttribute.cipher: lambda of: CipherSuite(cast(int, of._link.quic.tls.cipher_suite)).name,
    QuicAttribute.peer_certificate: ConnectionAttributes._certificate,
    QuicAttribute.peer_certificate_chain: lambda of: tuple(of._link.quic.tls.peer_certificates),
    QuicAttribute.server_name: lambda of: of._link.quic.tls.server_name,
    QuicAttribute.resumed: lambda of: of._handshake().session_resumed,
    QuicAttribute.early_data_accepted: lambda of: of._handshake().early_data_accepted,
    QuicAttribute.connection_id: lambda of: of._link.quic.host_cid,
    QuicAttribute.statistics: ConnectionAttributes.statistics,
    TLSAttribute.alpn_protocol: lambda of: of._handshake().alpn_protocol,
    TLSAttribute.server_side: lambda of: not of._configuration.is_client,
    TLSAttribute.tls_version: lambda of: "TLSv1.3",
    SocketAttribute.family: lambda of: of._link.driver.engine.family,
    SocketAttribute.local_address: lambda of: of._link.driver.local_address,
    SocketAttribute.local_port: lambda of: of._link.driver.local_address[1],
    SocketAttribute.remote_address: lambda of: of._link.remote_address,
    SocketAttribute.remote_port: lambda of: of._link.remote_address[1],
}
