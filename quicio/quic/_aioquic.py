"""Names that are internals of aioquic by intent and an interface by use: programs read them, so they exist here too.

Each is read-only, forwards to what quicio calls otherwise, and names the programs that depend on it; nothing in quicio uses
any of them, save HTTP/3 the two that every duck-typed connection has for it. What no known program touches is not here.
Two more stand where their object is made: the `_loop`, `_transport` and `_quic` of protocols in `quicio.asyncio`, and those of
`H3Connection`, which programs override as well as read, in `quicio.h3`.

What is written to, replaced or called for its effects inside a handshake (`_initialize`, `_server_handle_hello`) cannot be
offered this way: the public doors are `QuicConnection.defer_decisions()` and `decide()`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cryptography import x509

from quicio.quic.events import ConnectionTerminated
from quicio.quic.logger import QuicLoggerTrace
from quicio.quic.streams.stream import RECEIVE_DATA_READ, SEND_DATA_RECVD, SEND_RESET_RECVD, SEND_RESET_SENT, Stream
from quicio.tls.client import ClientHandshake
from quicio.tls.constants import CipherSuite
from quicio.tls.server import ServerHandshake

if TYPE_CHECKING:
    from quicio.quic.connection import QuicConnectionState
    from quicio.quic.parts import Parts

logger: logging.Logger = logging.getLogger("quic")


class StreamFinishedError(Exception):
    """py-libp2p imports it, to catch it. Misuse of a stream raises `ValueError` or `RuntimeError`, in both libraries."""


@dataclass(frozen=True)
class HostConnectionId:
    """One of our connection IDs."""

    cid: bytes
    sequence_number: int


@dataclass(frozen=True)
class NetworkPath:
    """One path: `addr` is the peer's address as it was given."""

    addr: Any
    is_validated: bool


@dataclass(frozen=True)
class StreamSender:
    """The sending half of a stream. `_reset_error_code` is None unless it was reset by us."""

    _stream_id: int
    _reset_error_code: int | None
    is_finished: bool


@dataclass(frozen=True)
class StreamReceiver:
    """The receiving half of a stream."""

    _stream_id: int
    is_finished: bool


@dataclass(frozen=True)
class StreamNames:
    """A stream as it is now."""

    stream_id: int
    sender: StreamSender
    receiver: StreamReceiver

    @classmethod
    def of(cls, stream: Stream) -> StreamNames:
        """What aioquic tells of a stream; a half that does not exist is finished."""
        send, receive, stream_id = stream.send, stream.receive, stream.stream_id
        is_reset = send is not None and send.state in (SEND_RESET_SENT, SEND_RESET_RECVD)
        return cls(
            stream_id,
            StreamSender(
                stream_id,
                send.reset_code if send is not None and is_reset else None,
                send is None or send.state >= SEND_DATA_RECVD,
            ),
            StreamReceiver(stream_id, receive is None or receive.state >= RECEIVE_DATA_READ),
        )


class StreamTable(Mapping[int, StreamNames]):
    """The streams that have not been discarded, by ID."""

    def __init__(self, streams: dict[int, Stream]) -> None:
        self._all = streams

    def __getitem__(self, stream_id: int) -> StreamNames:
        return StreamNames.of(self._all[stream_id])

    def __iter__(self) -> Iterator[int]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)


class AioquicNames:
    """What `QuicConnection` has of these names."""

    _parts: Parts
    _trace: QuicLoggerTrace | None
    _original_destination_cid: bytes

    if TYPE_CHECKING:

        @property
        def state(self) -> QuicConnectionState: ...

    @property
    def _close_event(self) -> ConnectionTerminated | None:
        """mitmproxy, py-libp2p: how the connection ends, as soon as that is known; None while it does not."""
        reason = self._parts.lifecycle.close_reason
        return None if reason is None else reason.terminated()

    @property
    def _state(self) -> QuicConnectionState:
        """mitmproxy compares it with `QuicConnectionState.TERMINATED`."""
        return self.state

    @property
    def _handshake_complete(self) -> bool:
        """py-libp2p."""
        return self._parts.handshake.is_complete

    @property
    def _host_cids(self) -> list[HostConnectionId]:
        """py-libp2p, aiomoqt: our connection IDs, each with its `cid`."""
        return [HostConnectionId(cid, sequence) for sequence, cid in self._parts.connection_ids.numbered_cids()]

    @property
    def _logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """aioquic's examples: the "quic" logger, with the connection's ID."""
        return logging.LoggerAdapter(logger, {"id": self._original_destination_cid.hex()})

    @property
    def _network_paths(self) -> list[NetworkPath]:
        """sanic, pproxy, bayserver: `_network_paths[0].addr` is the peer's address; empty before there is one."""
        paths = self._parts.paths
        known = [paths.active, *(path for path in paths.known if path is not paths.active)]
        return [NetworkPath(path.remote, path.is_validated) for path in known if path.remote is not None]

    @property
    def _quic_logger(self) -> QuicLoggerTrace | None:
        """mitmproxy, pywebtransport, HTTP/3: the qlog trace of the connection; None when there is none."""
        return self._trace

    @property
    def _remote_max_datagram_frame_size(self) -> int | None:
        """mitmproxy, pywebtransport, HTTP/3: the largest DATAGRAM frame that the peer takes, in bytes (RFC 9221 §3).

        None before it has said so, and for 0.
        """
        parameters = self._parts.handshake.remote_parameters
        return None if parameters is None else parameters.max_datagram_frame_size or None

    @property
    def _streams(self) -> StreamTable:
        """mitmproxy, py-libp2p, pywebtransport ask whether a stream is there, and for its halves."""
        return StreamTable(self._parts.streams.streams)

    def _get_or_create_stream_for_send(self, stream_id: int) -> StreamNames:
        """pproxy reserves a stream ID by it, mitmproxy reads `.sender._reset_error_code`. `ValueError` as in sending."""
        streams = self._parts.streams
        stream = streams.streams.get(stream_id)
        if stream is None or stream.send is None:
            streams.send(stream_id, b"", False)
            stream = streams.streams[stream_id]
        return StreamNames.of(stream)


@dataclass(frozen=True)
class KeyScheduleNames:
    """What is read of a key schedule."""

    cipher_suite: CipherSuite


class _TlsNames:
    """What `QuicConnection.tls` has of these names."""

    __slots__ = ()

    peer_certificates: list[x509.Certificate]
    cipher_suite: int | None

    @property
    def _peer_certificate(self) -> x509.Certificate | None:
        """mitmproxy, py-libp2p: the peer's own certificate; None before it is known, and when there is none."""
        return self.peer_certificates[0] if self.peer_certificates else None

    @property
    def _peer_certificate_chain(self) -> list[x509.Certificate]:
        """mitmproxy: what the peer sent behind its own certificate."""
        return self.peer_certificates[1:]

    @property
    def key_schedule(self) -> KeyScheduleNames | None:
        """mitmproxy: `tls.key_schedule.cipher_suite.name`."""
        return None if self.cipher_suite is None else KeyScheduleNames(CipherSuite(self.cipher_suite))


class NamedClientHandshake(_TlsNames, ClientHandshake):
    """A client's TLS machine."""

    __slots__ = ()


class NamedServerHandshake(_TlsNames, ServerHandshake):
    """A server's TLS machine."""

    __slots__ = ()
