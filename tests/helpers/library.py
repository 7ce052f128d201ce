"""A library under its import root, and two of its connections in memory: for programs that run on quicio and on aioquic.

`Library("quicio")` imports modules by the names that aioquic's documentation has. `Pair` makes a client and a server of it and
carries datagrams between them, without sockets and on a clock of its own. What either end tells is kept in order: events, and
the calls of ticket handlers in between.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from helpers.loopback import identity

CLIENT = ("192.0.2.1", 1234)
SERVER = ("192.0.2.2", 4433)
ALPN = ["hq-interop"]


class Library:
    """One of the libraries."""

    def __init__(self, root: str) -> None:
        self.root = root

    def __call__(self, module: str) -> Any:
        """The module, as `library("quic.connection")`."""
        return importlib.import_module(f"{self.root}.{module}")

    def client_configuration(self, **changes: Any) -> Any:
        fields = {"is_client": True, "alpn_protocols": ALPN, "cadata": identity()[1], "server_name": "localhost"}
        return self("quic.configuration").QuicConfiguration(**(fields | changes))

    def server_configuration(self, **changes: Any) -> Any:
        who = identity()[0]
        fields = {
            "is_client": False,
            "alpn_protocols": ALPN,
            "certificate": who.chain[0],
            "private_key": who.private_key,
        }
        return self("quic.configuration").QuicConfiguration(**(fields | changes))


class Pair:
    """A client and a server; `options` go to the server's connection, `client_options` to the client's."""

    def __init__(
        self,
        library: Library,
        client: dict[str, Any] | None = None,
        server: dict[str, Any] | None = None,
        *,
        client_options: dict[str, Any] | None = None,
        server_options: dict[str, Any] | None = None,
        start: float = 1000.0,
    ) -> None:
        connection = library("quic.connection").QuicConnection
        self.library = library
        self.now = start
        self.client_told: list[Any] = []
        self.server_told: list[Any] = []
        self.client_handler: Callable[[Any], Any] = lambda event: None
        self.server_handler: Callable[[Any], Any] = lambda event: None
        self.to_server: list[bytes] = []  # all datagrams that were sent, for whoever looks at the wire
        self.to_client: list[bytes] = []
        self.client: Any = connection(
            configuration=library.client_configuration(**(client or {})), **(client_options or {})
        )
        self.client.connect(SERVER, now=self.now)
        self.server: Any = connection(
            configuration=library.server_configuration(**(server or {})),
            original_destination_connection_id=self.client.original_destination_connection_id,
            **(server_options or {}),
        )

    def connected(self) -> Pair:
        """The pair, once both have completed the handshake and said what they have to say."""
        self.run()
        names = {type(event).__name__ for event in self.client_told} & {type(e).__name__ for e in self.server_told}
        assert "HandshakeCompleted" in names, (self.client_told, self.server_told)
        return self

    def step(self) -> bool:
        """One datagram flight in each direction; whether there was any."""
        self.now += 0.01
        outward = [data for data, _ in self.client.datagrams_to_send(now=self.now)]
        for data in outward:
            self.server.receive_datagram(data, CLIENT, now=self.now)
        inward = [data for data, _ in self.server.datagrams_to_send(now=self.now)]
        for data in inward:
            self.client.receive_datagram(data, SERVER, now=self.now)
        self.to_server += outward
        self.to_client += inward
        self.drain()
        return bool(outward or inward)

    def drain(self) -> None:
        for connection, told, handler in (
            (self.server, self.server_told, self.server_handler),
            (self.client, self.client_told, self.client_handler),
        ):
            event = connection.next_event()
            while event is not None:
                told.append(event)
                handler(event)
                event = connection.next_event()

    def run(self, seconds: float = 0.3) -> None:
        """Let so much time pass, with the timers that fall into it."""
        end = self.now + seconds
        while self.now < end:
            self.step()
            for connection in (self.client, self.server):
                due = connection.get_timer()
                if due is not None and due <= self.now:
                    connection.handle_timer(now=self.now)
        self.drain()

    def until_over(self, limit: float = 30.0) -> None:
        """Let time pass until both are terminated."""
        end = self.now + limit
        while self.now < end:
            self.run(0.1)
            if not {"ConnectionTerminated"} - self.told_names("client") and not (
                {"ConnectionTerminated"} - self.told_names("server")
            ):
                return
        raise AssertionError("the connections do not end")

    def told_names(self, who: str) -> set[str]:
        return {type(event).__name__ for event in (self.client_told if who == "client" else self.server_told)}

    def events(self, who: str, name: str) -> list[Any]:
        """The events of one kind that one end was told of."""
        told = self.client_told if who == "client" else self.server_told
        return [event for event in told if type(event).__name__ == name]
