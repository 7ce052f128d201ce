"""A connection that a client asks for, before any state of it exists: what a policy decides on (RFC 9000 §5.2.2, §8.1).

An `Incoming` holds the first datagrams of a client, `MAX_INCOMING_DATAGRAMS` at most, and gets exactly one decision:
accept, retry, refuse or ignore. Nothing was spent on it before but the parsing of one header. Until it is decided, a server
can read what the client asks for (`client_hello.py`), if the client has shown that it receives at its address.

What it leaves to others: carrying the decision out, and ignoring those that nobody decides on (`endpoint.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Final

from quicio.quic.client_hello import ClientHello, ClientHelloReader
from quicio.quic.transmit import Received
from quicio.quic.wire.headers import LongHeader

if TYPE_CHECKING:
    from quicio.quic.configuration import QuicConfiguration
    from quicio.quic.connection import QuicConnection
    from quicio.quic.endpoint import Endpoint

__all__ = ["MAX_INCOMING_DATAGRAMS", "Incoming", "Policy", "retry_under_load"]

MAX_INCOMING_DATAGRAMS: Final = 8  # kept for one of them


class Incoming:
    """A connection that a client asks for, before any state exists for it: accept, retry, refuse or ignore it, once.

    Until then it holds the client's datagrams, `MAX_INCOMING_DATAGRAMS` at most. Undecided ones are ignored after the
    configuration's `handshake_timeout`, unless that is 0. A second decision raises `RuntimeError`.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        header: LongHeader,
        datagram: bytes,
        received: Received,
        original_cid: bytes | None,
        is_validated: bool,
        now: float,
    ) -> None:
        self.header = header
        self.was_retried = original_cid is not None
        self.original_cid = header.destination_cid if original_cid is None else original_cid
        self.key: tuple[bytes, Hashable] = (header.destination_cid, received.remote)
        self.expires = now
        self._endpoint = endpoint
        self._received = Received([datagram], received.remote, received.local, received.ecn)
        self._is_decided = False
        self._reader: ClientHelloReader | None = None
        self.address_validated = is_validated
        #: called when more of the client's datagrams came, and when it was decided on
        self.on_change: Callable[[], None] | None = None

    @property
    def remote_address(self) -> Hashable:
        """Where the client's datagrams come from."""
        return self._received.remote

    @property
    def local_address(self) -> Hashable:
        """Where they arrived, if the driver knows; else None."""
        return self._received.local

    @property
    def version(self) -> int:
        """The QUIC version of the client's first packet."""
        return self.header.version

    @property
    def is_decided(self) -> bool:
        """Whether one of the four decisions was taken."""
        return self._is_decided

    @property
    def is_under_load(self) -> bool:
        """Whether half-open connections, of all or of this client's network, are so many that it should prove its address."""
        return self._endpoint.half_open.is_under_load(self._received.remote)

    def add(self, datagram: bytes) -> None:
        """Another datagram of the same client; beyond the bound it is dropped."""
        if len(self._received.datagrams) < MAX_INCOMING_DATAGRAMS:
            self._received.datagrams.append(datagram)
            if self.on_change is not None:
                self.on_change()

    @property
    def is_full(self) -> bool:
        """Whether no more datagrams are kept."""
        return len(self._received.datagrams) >= MAX_INCOMING_DATAGRAMS

    def client_hello(self) -> ClientHello | None:
        """What the client asks for; None while more of its datagrams are needed, for which `on_change` tells.

        Raises `RuntimeError` when the client's address is not validated: who forges an address shall cost nothing;
        `ClientHelloError` when its packets hold no such message.
        """
        if not self.address_validated:
            raise RuntimeError("the ClientHello is read of clients whose address is validated: retry() first")
        if self._reader is None:
            self._reader = ClientHelloReader(self.header)
        return self._reader.read(self._received.datagrams)

    def received(self) -> Received:
        """The client's datagrams so far."""
        return self._received

    def _decide(self) -> None:
        if self._is_decided:
            raise RuntimeError("this incoming connection was decided on before: each takes one decision")
        self._is_decided = True
        on_change, self.on_change = self.on_change, None
        if on_change is not None:
            on_change()

    def accept(self, configuration: QuicConfiguration | None = None) -> QuicConnection:
        """Make the connection, with the listener's configuration or another one."""
        self._decide()
        connection = self._endpoint.accept(self, configuration)
        self._received.datagrams = []  # the connection has read them; who keeps this object shall not keep them
        return connection

    def retry(self) -> None:
        """Have the client prove its address first, at the cost of a round trip; it then comes again, validated.

        `RuntimeError` when the address is validated already: a second Retry would be ignored (RFC 9000 §17.2.5.2).
        """
        if self.address_validated:
            raise RuntimeError("the client's address is validated already: accept or refuse it")
        self._decide()
        self._endpoint.retry(self)

    def refuse(self) -> None:
        """Answer with CONNECTION_REFUSED."""
        self._decide()
        self._endpoint.refuse(self)

    def ignore(self) -> None:
        """Say nothing at all."""
        self._decide()
        self._endpoint.ignore(self)


Policy = Callable[[Incoming], None]


def retry_under_load(incoming: Incoming) -> None:
    """The default policy: accept; above a quarter of the half-open limit have the client prove its address first."""
    if not incoming.address_validated and incoming.is_under_load:
        incoming.retry()
    else:
        incoming.accept()
