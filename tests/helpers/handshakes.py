"""A TLS client and a TLS server in memory, with everything between them in the test's hands.

`Pair` builds both machines, carries what they send, answers their decisions from their settings and keeps a record of what
came out. Tests cut in where they want: `held` stops answering, `deliver` is called for each piece of data and may change it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from helpers.certificates import NOW, Certificates, make_certificates
from quicio.environment import Environment
from quicio.tls.client import ClientHandshake
from quicio.tls.constants import HandshakeType
from quicio.tls.context import Handshake
from quicio.tls.outputs import (
    CertificateDecision,
    ClientHelloDecision,
    InstallSecret,
    PeerExtensions,
    SendHandshake,
)
from quicio.tls.server import ServerHandshake
from quicio.tls.settings import ClientSettings, ServerSettings

TRANSPORT_PARAMETERS = 0x39


class FixedEnvironment(Environment):
    """A machine whose date stands still, whose randomness repeats and which trusts nobody."""

    def __init__(self, seed: int = 0, now: float = NOW) -> None:
        super().__init__()
        self.now = now
        self._random = random.Random(seed)

    def wall_clock(self) -> float:
        return self.now

    def random_bytes(self, size: int) -> bytes:
        return self._random.randbytes(size)

    def read_system_store(self) -> list[bytes]:
        return []


class Side:
    """One machine with a record of its outputs."""

    def __init__(self, handshake: Handshake) -> None:
        self.handshake = handshake
        self.record: list[object] = []

    def drain(self) -> list[object]:
        new = list(self.handshake.outputs)
        self.handshake.outputs.clear()
        self.record += new
        return new

    def of(self, kind: type[Any]) -> list[Any]:
        return [output for output in self.record if isinstance(output, kind)]

    def sent(self) -> list[tuple[int, bytes]]:
        """All messages sent, one by one, with their encryption level."""
        return [(output.epoch, message) for output in self.of(SendHandshake) for message in split(output.data)]

    def secrets(self) -> dict[tuple[int, bool], bytes]:
        return {(output.epoch, output.is_sealing): output.secret for output in self.of(InstallSecret)}

    def peer_extensions(self) -> dict[int, bytes]:
        (output,) = self.of(PeerExtensions)
        extensions: dict[int, bytes] = output.extensions
        return extensions


def split(data: bytes) -> list[bytes]:
    """Cut handshake bytes into messages."""
    messages = []
    while data:
        size = 4 + int.from_bytes(data[1:4], "big")
        messages.append(data[:size])
        data = data[size:]
    return messages


def client_settings(certificates: Certificates, **changes: Any) -> ClientSettings:
    values: dict[str, Any] = {
        "server_name": "localhost",
        "alpn": ["h3"],
        "trust": certificates.trust,
        "required_extensions": [TRANSPORT_PARAMETERS],
    }
    return ClientSettings(**(values | changes))


def server_settings(certificates: Certificates, **changes: Any) -> ServerSettings:
    values: dict[str, Any] = {
        "alpn": ["h3"],
        "certificate_chain": certificates.chain,
        "private_key": certificates.private_key,
        "required_extensions": [TRANSPORT_PARAMETERS],
    }
    return ServerSettings(**(values | changes))


class Pair:
    """A client and a server; `run` carries everything until nothing moves."""

    def __init__(
        self,
        *,
        client: dict[str, Any] | None = None,
        server: dict[str, Any] | None = None,
        certificates: Certificates | None = None,
        piece: int | None = None,
        deliver: Callable[[bool, int, bytes], Sequence[bytes]] | None = None,
    ) -> None:
        self.certificates = certificates or make_certificates()
        self.environment = FixedEnvironment()
        self.client_settings = client_settings(self.certificates, **(client or {}))
        self.server_settings = server_settings(self.certificates, **(server or {}))
        self.client = Side(ClientHandshake(self.client_settings, self.environment))
        self.server = Side(ServerHandshake(self.server_settings, self.environment))
        self.client.handshake.local_extensions = [(TRANSPORT_PARAMETERS, b"of the client")]
        self.server.handshake.local_extensions = [(TRANSPORT_PARAMETERS, b"of the server")]
        self.held: list[object] = []
        self.hold = False
        self._piece = piece
        self._deliver = deliver

    @property
    def client_handshake(self) -> ClientHandshake:
        assert isinstance(self.client.handshake, ClientHandshake)
        return self.client.handshake

    def start(self) -> None:
        self.client_handshake.start()

    def run(self) -> Pair:
        """Start if need be, then carry all there is. Alerts come out as they are."""
        if not self.client.record and not self.client.handshake.outputs:
            self.start()
        moved = True
        while moved:
            moved = self._step(self.client, self.server) | self._step(self.server, self.client)
        return self

    def _step(self, sender: Side, receiver: Side) -> bool:
        outputs = sender.drain()
        for output in outputs:
            if isinstance(output, SendHandshake):
                self._carry(sender is self.client, receiver, output)
            elif isinstance(output, ClientHelloDecision | CertificateDecision):
                if self.hold:
                    self.held.append(output)
                else:
                    self.answer(output)
        return bool(outputs)

    def _carry(self, from_client: bool, receiver: Side, output: SendHandshake) -> None:
        for message in split(output.data):
            pieces = [message] if self._deliver is None else self._deliver(from_client, output.epoch, message)
            for data in pieces:
                step = self._piece or max(len(data), 1)
                for position in range(0, len(data), step):
                    receiver.handshake.receive(output.epoch, data[position : position + step])

    def answer(self, decision: object) -> None:
        """Answer a decision from the settings."""
        if isinstance(decision, ClientHelloDecision):
            self.server.handshake.decide(decision.id, self.server_settings.answer(decision.client_hello))
        elif isinstance(decision, CertificateDecision):
            self.client.handshake.decide(decision.id, self.client_settings.judge(decision, self.environment))

    def assert_complete(self) -> None:
        """Both are done and agree."""
        client, server = self.client.handshake, self.server.handshake
        assert client.is_complete
        assert server.is_complete
        assert client.alpn == server.alpn
        assert client.cipher_suite == server.cipher_suite
        assert client.group == server.group
        theirs = {(epoch, not is_sealing): secret for (epoch, is_sealing), secret in self.server.secrets().items()}
        assert self.client.secrets() == theirs
        assert len(theirs) == 4
        exported = client.export_keying_material("a label", b"a context", 48)
        assert exported == server.export_keying_material("a label", b"a context", 48)
        assert len(exported) == 48


def message_types(side: Side) -> list[HandshakeType]:
    """The types of what was sent."""
    return [HandshakeType(message[0]) for _, message in side.sent()]
