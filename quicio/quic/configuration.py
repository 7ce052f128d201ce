"""What an application decides about its connections.

The first 26 fields are aioquic's, in its positional order; what quicio adds is keyword-only. A configuration is read when a
connection is made and never written to: `replaced()` gives a changed copy.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Final, TextIO

from quicio.quic.logger import QuicLogger
from quicio.quic.packet import QuicProtocolVersion
from quicio.quic.sessions import SessionStore
from quicio.quic.streams.budget import ENDPOINT_MEMORY_LIMIT, SMALLEST_MEMORY_LIMIT
from quicio.quic.wire.constants import SMALLEST_MAX_DATAGRAM_SIZE, VERSION_1, VERSION_2
from quicio.tls.certificates import load_certificate_chain, load_private_key
from quicio.tls.constants import CipherSuite
from quicio.tls.issuing import TicketIssuer
from quicio.tls.tickets import SessionTicket

__all__ = ["SMALLEST_MAX_DATAGRAM_SIZE", "ErrorCodes", "QuicConfiguration"]

DEFAULT_WINDOW: Final = 1024 * 1024
DEFAULT_WINDOW_LIMIT: Final = 8 * 1024 * 1024
DEFAULT_SEND_BUFFER: Final = 512 * 1024
DEFAULT_DATAGRAM_QUEUE: Final = 256
DEFAULT_MTU_CEILING: Final = 1452  # Ethernet's 1500 less the headers of IPv6 and UDP


# Fields for abilities that the transport does not have yet: setting one is an error, never without effect.
UNSUPPORTED: Final = {
    "client_certificates": "servers cannot ask clients for certificates, leave it out and identify clients in your protocol",
}


@dataclass(frozen=True)
class ErrorCodes:
    """The application protocol's error codes that quicio itself sends: on a clean end, on a failure, on cancellation."""

    no_error: int = 0
    internal_error: int = 1
    cancelled: int = 2


@dataclass
class QuicConfiguration:
    """Everything about a connection that is known before it starts. Times are in seconds, sizes in bytes.

    Flow control: `max_data` and `max_stream_data` are the initial windows; they grow up to `receive_window_limit` while the
    application keeps up. `receive_window_limit` is thereby what one connection may hold of received data.

    Memory: `memory_limit` is what one connection may hold in all (None: what its windows ask for, and 8 MiB to be sent), and
    `endpoint_memory_limit` what the connections of one socket hold together before windows shrink; it is read by whoever makes
    the endpoint. `quicio.quic.streams.budget` says how both act.

    Sessions: a client resumes with `session_ticket`, or with what its `session_store` has, and with `early_data` may send at
    once what the ticket allows. A server's `tickets` issues tickets (None: an endpoint's own, sealed with random keys); with
    `accept_early_data` it takes data that came before the handshake, which somebody may have replayed (RFC 9001 §9.2).

    `session_store` is where a client keeps session tickets and address tokens, and finds them. `verify` is
    called with the peer's certificates, leaf first, and the name that was asked for, when all other checks have passed: what
    it raises refuses the peer, with that text as the reason. It must not wait; use it for pins.
    """

    alpn_protocols: list[str] | None = None
    congestion_control_algorithm: str = "cubic"
    connection_id_length: int = 8
    idle_timeout: float = 60.0
    is_client: bool = True
    max_data: int = DEFAULT_WINDOW
    max_datagram_size: int = SMALLEST_MAX_DATAGRAM_SIZE
    max_stream_data: int = DEFAULT_WINDOW
    quic_logger: QuicLogger | None = None
    secrets_log_file: TextIO | None = None
    server_name: str | None = None
    session_ticket: SessionTicket | None = None
    token: bytes = b""
    cadata: bytes | None = None
    cafile: str | None = None
    capath: str | None = None
    certificate: Any = None
    certificate_chain: list[Any] = field(default_factory=list)
    cipher_suites: list[CipherSuite] | None = None
    initial_rtt: float = 0.1
    max_datagram_frame_size: int | None = None
    original_version: int | None = None
    private_key: Any = None
    quantum_readiness_test: bool = False
    supported_versions: list[int] = field(
        default_factory=lambda: [QuicProtocolVersion.VERSION_1, QuicProtocolVersion.VERSION_2]
    )
    verify_mode: int | None = None
    _: KW_ONLY
    handshake_timeout: float = 10.0
    linger: float = 3.0
    keep_alive: float | None = None
    codes: ErrorCodes = field(default_factory=ErrorCodes)
    groups: list[int] | None = None
    send_buffer: int = DEFAULT_SEND_BUFFER
    receive_window_limit: int = DEFAULT_WINDOW_LIMIT
    datagram_queue: int = DEFAULT_DATAGRAM_QUEUE
    max_streams_bidi: int = 128
    max_streams_uni: int = 128
    mtu_ceiling: int = DEFAULT_MTU_CEILING
    ecn: bool = True
    pacing_granularity: float = 0.001
    key_log: Callable[[str, bytes, bytes], None] | None = None
    session_store: SessionStore | None = None
    early_data: bool = True
    accept_early_data: bool = False
    tickets: TicketIssuer | None = None
    client_certificates: bool | None = None
    verify: Callable[[list[Any], str | None], None] | None = None
    memory_limit: int | None = None
    endpoint_memory_limit: int = ENDPOINT_MEMORY_LIMIT

    def load_cert_chain(
        self,
        certfile: str | PathLike[str],
        keyfile: str | PathLike[str] | None = None,
        password: bytes | str | None = None,
    ) -> None:
        """Load a certificate chain in PEM, leaf first, and its private key, from `keyfile` or the same file.

        Raises `OSError` when a file cannot be read and `ValueError`, naming the file, when it holds nothing usable.
        """
        text = Path(certfile).read_bytes()
        chain = load_certificate_chain(text, name=str(certfile))
        self.certificate = chain[0]
        self.certificate_chain = list(chain[1:])
        key_file = certfile if keyfile is None else keyfile
        if keyfile is not None or b"PRIVATE KEY-----" in text:
            self.private_key = load_private_key(Path(key_file).read_bytes(), password, name=str(key_file))

    def load_verify_locations(
        self, cafile: str | None = None, capath: str | None = None, cadata: bytes | None = None
    ) -> None:
        """Set what peers' certificates are verified against: a PEM file, a folder of them, or bytes. None clears one."""
        self.cafile = cafile
        self.capath = capath
        self.cadata = cadata

    def replaced(self, **changes: Any) -> QuicConfiguration:
        """A copy with some fields changed; lists are copied too, so that neither changes the other."""
        result = copy.copy(self)
        for name in ("alpn_protocols", "certificate_chain", "cipher_suites", "groups", "supported_versions"):
            value = getattr(self, name)
            if value is not None:
                setattr(result, name, list(value))
        for name, value in changes.items():
            if name not in self.__dataclass_fields__:
                raise TypeError(f"QuicConfiguration has no field {name!r}")
            setattr(result, name, value)
        return result

    def validate(self) -> None:
        """Raise `ValueError` for what no connection could be made with."""
        if self.max_datagram_size < SMALLEST_MAX_DATAGRAM_SIZE:
            raise ValueError(f"max_datagram_size must be at least {SMALLEST_MAX_DATAGRAM_SIZE} (RFC 9000 §14)")
        if not 0 <= self.connection_id_length <= 20:
            raise ValueError("connection_id_length must be between 0 and 20 (RFC 9000 §17.2)")
        for name, instead in UNSUPPORTED.items():
            if getattr(self, name):
                raise ValueError(f"{name} is not supported yet: {instead}")
        if self.memory_limit is not None and self.memory_limit < SMALLEST_MEMORY_LIMIT:
            raise ValueError(f"memory_limit must be at least {SMALLEST_MEMORY_LIMIT} bytes, or None for none")
        if self.datagram_queue < 1:
            raise ValueError("datagram_queue must be at least 1: the datagrams that wait to be received")
        if not self.supported_versions:
            raise ValueError("supported_versions is empty: list at least one QUIC version")
        if VERSION_1 not in self.supported_versions and VERSION_2 not in self.supported_versions:
            raise ValueError("the supported_versions are not known: list VERSION_1 or VERSION_2 of QuicProtocolVersion")
        if not self.is_client and (self.certificate is None or self.private_key is None):
            raise ValueError("a server needs a certificate and its private key: use load_cert_chain()")
