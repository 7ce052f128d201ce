"""One client connection's past and future: what it brings from earlier connections, and what it keeps of itself.

The configuration's own `session_ticket` and `token` go first, then its `session_store`, which is told of all that is new. A
ticket is bound to the QUIC version of its connection (RFC 9369 §5), so it decides with which version to start, unless the
configuration says so; a token is kept under its version, and one that would leave no room in an Initial packet is not sent.

A resumed handshake shows no certificates. What was trusted when the ticket was made need not be trusted by this configuration
today, so the chain that the ticket remembers is judged before the ticket is offered. Whatever speaks against a ticket costs a
full handshake, and nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Final

from quicio.quic.configuration import QuicConfiguration
from quicio.quic.remembered import version_of
from quicio.quic.wire.headers import is_known_version
from quicio.tls.tickets import SessionTicket, SessionTicketHandler

logger: logging.Logger = logging.getLogger("quic")

MAX_INITIAL_TOKEN: Final = 800  # bytes: a longer token would leave no room for a ClientHello in Initial packets


class ClientSessions:
    """Tickets and tokens of one client connection. See the module's essay."""

    def __init__(self, configuration: QuicConfiguration) -> None:
        self._configuration = configuration
        self._server = ""

    def begin(self, remote: Hashable) -> None:
        """The connection goes to `remote`: name the server for the store."""
        name: object = self._configuration.server_name
        port: object = ""
        if isinstance(remote, tuple) and len(remote) >= 2:
            name = name or remote[0]
            port = remote[1]
        self._server = f"{name or remote}:{port}"

    def ticket(self, is_trusted: Callable[[SessionTicket], bool]) -> SessionTicket | None:
        """The ticket to resume with, if there is one that this configuration can use and `is_trusted`."""
        configuration = self._configuration
        ticket = configuration.session_ticket
        if ticket is None and configuration.session_store is not None:
            ticket = configuration.session_store.take_ticket(self._server)
        if ticket is None:
            return None
        version = version_of(ticket)
        if (
            version is None
            or not is_known_version(version)
            or version not in configuration.supported_versions
            or configuration.original_version not in (None, version)
        ):
            return None
        return ticket if is_trusted(ticket) else None

    def token(self, version: int) -> bytes:
        """The address validation token to begin with, or none."""
        configuration = self._configuration
        token = configuration.token
        if not token and configuration.session_store is not None:
            token = configuration.session_store.take_token(self._of_version(version))
        return token if len(token) <= MAX_INITIAL_TOKEN else b""

    def keep_ticket(self, ticket: SessionTicket, handler: SessionTicketHandler | None = None) -> None:
        """The server has given a ticket: for the store, and for the application's `handler`."""
        store = self._configuration.session_store
        with _told():
            if store is not None:
                store.add_ticket(self._server, ticket)
        with _told():
            if handler is not None:
                handler(ticket)

    def keep_token(self, version: int, token: bytes, handler: Callable[[bytes], None] | None = None) -> None:
        """The server has given a token: for the store, and for the application's `handler`."""
        store = self._configuration.session_store
        with _told():
            if store is not None:
                store.add_token(self._of_version(version), token)
        with _told():
            if handler is not None:
                handler(token)

    def _of_version(self, version: int) -> str:
        return f"{self._server} {version:#x}"


@contextmanager
def _told() -> Iterator[None]:
    """Around code of the application's: what fails there costs what was to be kept, not the connection or its driver."""
    try:
        yield
    except Exception:
        logger.exception("a session ticket or a token could not be kept")
