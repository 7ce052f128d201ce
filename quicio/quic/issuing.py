"""The connection IDs of one endpoint's connections (RFC 9000 §5.1, §10.3).

An endpoint routes by connection ID, so whoever issues one must tell it; that cannot wait until somebody drains events. Each
connection of an endpoint therefore has an `EndpointIssuer`, which enters new IDs into the endpoint's routes and takes retired
ones out. It does the same for the stateless reset tokens that peers give us, of which the endpoint has to recognise any: the
table holds a keyed digest of each, because looking the token itself up would take a time that tells how near a guess was.

Invariant: after `detach()` nothing of the endpoint leads to the connection, which then dies by reference counting.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Final

from quicio.environment import Environment
from quicio.quic.paths.connection_ids import ConnectionIdIssuer
from quicio.quic.wire.stateless_reset import reset_token

if TYPE_CHECKING:
    from quicio.quic.connection import QuicConnection

CID_ATTEMPTS: Final = 8  # to find a connection ID that is not in use


def hide_token(key: bytes, token: bytes) -> bytes:
    """What stands for a peer's reset token in a dict, whose look-up takes no constant time (RFC 9000 §10.3.1)."""
    return hmac.digest(key, b"peer" + token, "sha256")


class EndpointIssuer(ConnectionIdIssuer):
    """Issues connection IDs that the endpoint routes, with reset tokens that follow from its static key."""

    def __init__(
        self,
        routes: dict[bytes, QuicConnection],
        reset_routes: dict[bytes, QuicConnection],
        length: int,
        key: bytes,
        environment: Environment,
    ) -> None:
        super().__init__(length, environment.random_bytes)
        self._routes = routes
        self._reset_routes = reset_routes
        self._expected: set[bytes] = set()  # keys of ours in `reset_routes`
        self._key = key
        self._environment = environment
        self.connection: QuicConnection | None = None  # whom new IDs are for; set while it is being made
        self.issued: set[bytes] = set()

    def issue(self) -> tuple[bytes, bytes]:
        for _ in range(CID_ATTEMPTS):
            cid = self._environment.random_bytes(self.length)
            if cid not in self._routes:
                break
        self.issued.add(cid)
        if self.connection is not None:
            self._routes[cid] = self.connection
        return cid, reset_token(self._key, cid)

    def adopt(self, connection: QuicConnection) -> None:
        """The connection exists now: its first ID, issued while it was made, leads to it."""
        self.connection = connection
        for cid in self.issued:
            self._routes[cid] = connection

    def retire(self, cid: bytes) -> None:
        self.issued.discard(cid)
        self._routes.pop(cid, None)

    def expect_reset(self, token: bytes) -> None:
        if self.connection is not None:
            hidden = hide_token(self._key, token)
            self._expected.add(hidden)
            self._reset_routes[hidden] = self.connection

    def forget_reset(self, token: bytes) -> None:
        hidden = hide_token(self._key, token)
        self._expected.discard(hidden)
        self._reset_routes.pop(hidden, None)

    def detach(self) -> None:
        """The connection is forgotten: break the tie, so that it dies by reference counting."""
        for cid in self.issued:
            self._routes.pop(cid, None)
        for hidden in self._expected:
            self._reset_routes.pop(hidden, None)
        self.issued.clear()
        self._expected.clear()
        self.connection = None
