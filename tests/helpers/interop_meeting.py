"""Meetings: a server and a client in processes of their own, a tap between them, and what came of it.

    meeting = await meet("anyio", "aioquic", "up::1000", client_options=["--versions", "1"])
    meeting.facts         what the client said of its steps
    meeting.wire          the connection as decoded from the wire

Either side is a face of quicio or a peer, by its name in `PROGRAMS`. The secrets are those that quicio's side logs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from helpers.interop_decode import Conversation, decode
from helpers.interop_peers import Facts, PeerServer, peer_server, run_client
from helpers.interop_tap import Datagram, tapped

PROGRAMS: Final = {  # file of the program in tests/interop/peers, and the arguments that come first
    "anyio": ("scope", "anyio"),
    "trio": ("scope", "trio"),
    "asyncio": ("aioquic", "quicio"),
    "aioquic": ("aioquic", "aioquic"),
    "qh3": ("aioquic", "qh3"),
    "aiopquic": ("aiopquic",),
}
FACES: Final = ("anyio", "asyncio", "trio")


@dataclass
class Meeting:
    """What came of it."""

    facts: list[Facts]
    datagrams: list[Datagram]
    secrets: str

    @cached_property
    def conversations(self) -> list[Conversation]:
        """Every connection that there was. Decoding takes its time after megabytes."""
        return decode(self.datagrams, self.secrets)

    @property
    def wire(self) -> Conversation:
        """The one connection that there was."""
        [conversation] = self.conversations
        return conversation


class Meetings:
    """Runs meetings. Servers stay for later ones with the same options."""

    def __init__(self, credentials: tuple[str, str, str], folder: Path) -> None:
        self.certificate, self.key, self.authority = credentials
        self._folder = folder
        self._stack = ExitStack()
        self._running: dict[tuple[str, ...], tuple[PeerServer, Path]] = {}
        self._visits = 0

    def close(self) -> None:
        """Stop the servers."""
        self._stack.close()

    def server(self, name: str, *options: str) -> tuple[PeerServer, Path]:
        """A server, and the key log if it is quicio's."""
        if (name, *options) not in self._running:
            script, *first = PROGRAMS[name]
            key_log = self._folder / f"server-{len(self._running)}.keys"
            key_log.touch()
            logging = ["--key-log", str(key_log)] if name in FACES else []
            program = peer_server(f"{script}_server.py", *first, self.certificate, self.key, *options, *logging)
            self._running[name, *options] = (self._stack.enter_context(program), key_log)
        return self._running[name, *options]

    async def meet(
        self,
        server: str,
        client: str,
        *steps: str,
        server_options: Sequence[str] = (),
        client_options: Sequence[str] = (),
        delay: float = 0.0,
    ) -> Meeting:
        """Have a client perform its steps with a server."""
        running, key_log = self.server(server, *server_options)
        return await self.visit(client, running.port, *steps, *client_options, server_log=key_log, delay=delay)

    async def play(
        self,
        face: str,
        peer: str,
        role: str,
        *steps: str,
        ours: Sequence[str] = (),
        theirs: Sequence[str] = (),
        delay: float = 0.0,
    ) -> Meeting:
        """Have a face of quicio in a role, "client" or "server", meet a peer."""
        sides = (peer, face) if role == "client" else (face, peer)
        options = (theirs, ours) if role == "client" else (ours, theirs)
        return await self.meet(*sides, *steps, server_options=options[0], client_options=options[1], delay=delay)

    async def visit(
        self, client: str, port: int, *arguments: str, server_log: Path | None = None, delay: float = 0.0
    ) -> Meeting:
        """Have a client perform its steps with any server, which is `delay` seconds away."""
        self._visits += 1
        client_log = self._folder / f"client-{self._visits}.keys"
        client_log.touch()
        script, *first = PROGRAMS[client]
        logging = ["--key-log", str(client_log)] if client in FACES else []
        with tapped(port, delay) as tap:
            facts = await run_client(f"{script}_client.py", *first, str(tap.port), self.authority, *arguments, *logging)
        secrets = [log.read_text() for log in (client_log, server_log) if log is not None]
        return Meeting(facts, tap.datagrams, "".join(secrets))

    def http_server(self, name: str, *options: str) -> tuple[PeerServer, Path]:
        """A server of HTTP/3, on a face of quicio, and its key log."""
        return self.server(name, *options, *(["--alpn", "h3"] if PROGRAMS[name][0] == "scope" else []))


@contextmanager
def meetings(credentials: tuple[str, str, str], folder: Path) -> Iterator[Meetings]:
    """Servers for meetings while the body runs."""
    made = Meetings(credentials, folder)
    try:
        yield made
    finally:
        made.close()
