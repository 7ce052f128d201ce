"""A peer without manners: it keeps the rules of the handshake as far as a test wants, then sends whatever the test makes up.

A `RudePeer` faces one connection under test, the *victim*. It holds a connection of ours, the *carrier*, whose handshake and
whose keys it uses; what it sends is its own: any payload, in any type of packet, with any packet number, header bits or
connection IDs. What the victim answers it opens by itself, with the keys alone, so that an assertion about a CONNECTION_CLOSE
is one about bytes on the wire.

    rude = RudePeer(victim_is_client=False)
    rude.to_confirmed()                                       # or to_initial(), to_handshake()
    rude.send(EPOCH_ONE_RTT, b"\x1e")                         # HANDSHAKE_DONE, which no client may send
    assert rude.close_code() == PROTOCOL_VIOLATION

In the stages before the end of the handshake the carrier's own bytes are withheld; `crypto(space)` tells what it would have
sent, for a test to send changed or in part. `alter` sees the TLS extensions of the carrier's ClientHello or
EncryptedExtensions, transport parameters included, and returns what goes out instead. Time stands still until a test moves
`now`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import cache
from typing import Any, Final

from helpers.certificates import Certificates, make_certificates
from quicio.buffer import read_uint_var
from quicio.environment import Environment
from quicio.quic.configuration import QuicConfiguration
from quicio.quic.connection import QuicConnection
from quicio.quic.parts import EPOCH_OF_SPACE
from quicio.quic.transmit import Received
from quicio.quic.wire.constants import (
    AEAD_TAG_SIZE,
    APPLICATION,
    EPOCH_HANDSHAKE,
    EPOCH_INITIAL,
    EPOCH_ONE_RTT,
    EPOCH_ZERO_RTT,
    HANDSHAKE,
    INITIAL,
    SMALLEST_MAX_DATAGRAM_SIZE,
    VERSION_1,
)
from quicio.quic.wire.crypto import AES_128_GCM_SHA256, OpeningKey, SealingKey
from quicio.quic.wire.headers import (
    HANDSHAKE_PACKET,
    INITIAL_PACKET,
    ZERO_RTT_PACKET,
    encode_connection_ids,
    encode_first_byte,
    parse_long_header,
)
from quicio.quic.wire.transport_parameters import encode_parameter, split
from quicio.tls.client import ClientHandshake
from quicio.tls.constants import CipherSuite
from quicio.tls.messages import ClientHello, EncryptedExtensions
from quicio.tls.outputs import ClientHelloAnswer
from quicio.tls.server import ServerHandshake
from sim.capture import decode_frames
from sim.simulation import SimulatedEnvironment

RUDE_ADDRESS: Final = ("192.0.2.1", 4433)
ZERO_RTT_SECRET: Final = bytes(range(32))
QUIC_TRANSPORT_PARAMETERS: Final = 0x39
FIRST_NUMBER: Final = 1000  # rude packet numbers start here, far above the carrier's

Extensions = list[tuple[int, bytes]]
Alter = Callable[[Extensions], Extensions]
Frame = tuple[str, tuple[Any, ...]]


class RudeClientHandshake(ClientHandshake):
    """Lets a test rewrite the ClientHello's extensions."""

    alter: Alter | None = None
    session_id: bytes = b""

    def _build_client_hello(self, cookie: bytes | None) -> ClientHello:
        hello = super()._build_client_hello(cookie)
        items = hello.extensions if self.alter is None else self.alter(list(hello.extensions))
        return ClientHello(hello.random, hello.cipher_suites, items, self.session_id)


class RudeServerHandshake(ServerHandshake):
    """Lets a test rewrite the EncryptedExtensions."""

    alter: Alter | None = None

    def _build_encrypted_extensions(self, hello: ClientHello, answer: ClientHelloAnswer) -> EncryptedExtensions:
        message = super()._build_encrypted_extensions(hello, answer)
        return message if self.alter is None else EncryptedExtensions(self.alter(list(message.extensions)))


def alter_parameters(change: Callable[[dict[int, bytes]], None]) -> Alter:
    """An `alter` for the transport parameters alone, given to `change` as {identifier: value}."""

    def alter(items: Extensions) -> Extensions:
        result: Extensions = []
        for kind, data in items:
            if kind == QUIC_TRANSPORT_PARAMETERS:
                parameters = dict(split(data))
                change(parameters)
                data = b"".join([encode_parameter(identifier, value) for identifier, value in parameters.items()])
            result.append((kind, data))
        return result

    return alter


def without_extension(unwanted: int) -> Alter:
    """An `alter` that leaves one extension out."""
    return lambda items: [(kind, data) for kind, data in items if kind != unwanted]


@cache
def _certificates() -> Certificates:
    """Made once: the authority's signatures differ in length, and so would handshakes."""
    return make_certificates("ed25519")


def configurations(changes: dict[str, Any], is_client: bool) -> QuicConfiguration:
    """A configuration of one role with the tests' certificates; AES-128 for all, so that keys are alike."""
    made = _certificates()
    shared: dict[str, Any] = {
        "alpn_protocols": ["test"],
        "pacing_granularity": 0.0,
        "cipher_suites": [CipherSuite.AES_128_GCM_SHA256],
        "supported_versions": [VERSION_1],
        "groups": [0x1D],  # X25519 alone: the ClientHello fits one datagram
        "mtu_ceiling": SMALLEST_MAX_DATAGRAM_SIZE,
        "max_datagram_frame_size": 1200,
    }
    if is_client:
        base = QuicConfiguration(server_name="localhost", cadata=made.authority_pem)
    else:
        base = QuicConfiguration(
            is_client=False,
            certificate=made.chain[0],
            certificate_chain=made.chain[1:],
            private_key=made.private_key,
        )
    return base.replaced(**(shared | changes))


class RudePeer:
    """A peer of the victim, which is a client or a server."""

    def __init__(
        self,
        *,
        victim_is_client: bool,
        victim: dict[str, Any] | None = None,
        carrier: dict[str, Any] | None = None,
        alter: Alter | None = None,
        session_id: bytes = b"",
        seed: int = 1,
        environment: Environment | None = None,
    ) -> None:
        self.victim_is_client = victim_is_client
        self.now = 1.0
        self.address: Hashable = RUDE_ADDRESS
        self.environment = environment or SimulatedEnvironment(seed)
        self.victim_configuration = configurations(victim or {}, victim_is_client)
        self.carrier_configuration = configurations(carrier or {}, not victim_is_client)
        self._alter = alter
        self._session_id = session_id
        self._numbers = [FIRST_NUMBER] * 3
        self.sealing: list[SealingKey | None] = [None] * 4
        self.opening: list[OpeningKey | None] = [None] * 4
        self.received: list[tuple[int, int, list[Frame]]] = []  # epoch, number, frames: what the victim sent, opened
        self.datagrams: list[bytes] = []  # the same, as it came
        if victim_is_client:
            self.victim = QuicConnection(configuration=self.victim_configuration, environment=self.environment)
            self.victim.connect(self.address, self.now)
            self.carrier = self._make_server(self.carrier_configuration, self.victim.original_destination_connection_id)
        else:
            self.carrier = QuicConnection(configuration=self.carrier_configuration, environment=self.environment)
            self._make_rude(self.carrier)
            self.carrier.connect(self.address, self.now)
            self.victim = self._make_server(
                self.victim_configuration, self.carrier.original_destination_connection_id, is_rude=False
            )

    def _make_server(
        self, configuration: QuicConfiguration, original_cid: bytes, *, is_rude: bool = True
    ) -> QuicConnection:
        server = QuicConnection(
            configuration=configuration,
            original_destination_connection_id=original_cid,
            environment=self.environment,
        )
        if is_rude:
            self._make_rude(server)
        return server

    def _make_rude(self, connection: QuicConnection) -> None:
        handshake = connection._parts.handshake
        settings: Any = handshake._policy._settings
        if connection.configuration.is_client:
            client = RudeClientHandshake(settings, self.environment)
            client.alter = self._alter
            client.session_id = self._session_id
            handshake.machine = client
        else:
            server = RudeServerHandshake(settings, self.environment)
            server.alter = self._alter
            handshake.machine = server

    # --- the course of the handshake ---------------------------------------------------------------------------------

    def to_initial(self) -> RudePeer:
        """The victim is there; it has the keys of Initial packets and no others.

        A client has sent its ClientHello and heard nothing; a server has heard nothing at all.
        """
        if self.victim_is_client:
            for data, _ in self.victim.datagrams_to_send(self.now):
                self.datagrams.append(data)
                self.carrier.receive_datagram(data, self.address, self.now)
        self._take_keys()
        return self

    def to_handshake(self) -> RudePeer:
        """The victim has the keys of Handshake packets; of the handshake's messages it has the first one alone."""
        self.to_initial()
        if self.victim_is_client:
            self.send(EPOCH_INITIAL, crypto_frame(0, self.crypto(INITIAL)))
        else:
            for data, _ in self.carrier.datagrams_to_send(self.now):
                self.victim.receive_datagram(data, self.address, self.now)
            for data, _ in self.victim.datagrams_to_send(self.now):
                self.datagrams.append(data)
                self.carrier.receive_datagram(data, self.address, self.now)
        self._take_keys()
        return self

    def to_confirmed(self) -> RudePeer:
        """The handshake is confirmed on both sides, and all that came of it is delivered."""
        self.to_initial()
        for _ in range(20):
            self.exchange()
            if self.victim.is_handshake_confirmed and self.carrier.is_handshake_confirmed:
                break
            self.now += 0.01
        assert self.victim.is_handshake_confirmed
        self.exchange()
        self.drain_events()
        self.settle()
        return self

    def exchange(self) -> None:
        """Deliver what both sides have to send, once around."""
        for source, target in ((self.carrier, self.victim), (self.victim, self.carrier)):
            for data, _ in source.datagrams_to_send(self.now):
                target.receive_datagram(data, self.address, self.now)
                self._take_keys()

    def settle(self) -> None:
        """Deliver until both sides are silent."""
        for _ in range(20):
            data = self.carrier.datagrams_to_send(self.now)
            answers = self.victim.datagrams_to_send(self.now)
            if not data and not answers:
                return
            for datagram, _ in data:
                self.victim.receive_datagram(datagram, self.address, self.now)
            for datagram, _ in answers:
                self.carrier.receive_datagram(datagram, self.address, self.now)

    def _take_keys(self) -> None:
        """Keep copies of the carrier's keys: it discards them sooner than a rude peer would."""
        keys = self.carrier._parts.keys
        for epoch in (EPOCH_INITIAL, EPOCH_HANDSHAKE, EPOCH_ONE_RTT):
            self.sealing[epoch] = keys.sealing[epoch] or self.sealing[epoch]
            self.opening[epoch] = keys.opening[epoch] or self.opening[epoch]

    def allow_zero_rtt(self) -> RudePeer:
        """Give both sides keys for 0-RTT packets, as if early data had been accepted."""
        self.victim._parts.keys.install(EPOCH_ZERO_RTT, False, AES_128_GCM_SHA256, ZERO_RTT_SECRET, VERSION_1)
        self.sealing[EPOCH_ZERO_RTT] = SealingKey(ZERO_RTT_SECRET, AES_128_GCM_SHA256, VERSION_1)
        return self

    def crypto(self, space: int) -> bytes:
        """All that the carrier's TLS has to say in `space`."""
        return bytes(self.carrier._parts.handshake._senders[space]._data)

    # --- sending -----------------------------------------------------------------------------------------------------

    def packet(
        self,
        epoch: int,
        payload: bytes,
        *,
        number: int | None = None,
        reserved: int = 0,
        destination: bytes | None = None,
        source: bytes | None = None,
        token: bytes = b"",
        key: SealingKey | None = None,
    ) -> bytes:
        """One packet: `payload` sealed as it is, empty if need be. `reserved` is set in the first byte before protection."""
        key = key or self.sealing[epoch]
        assert key is not None, "no keys for this type of packet yet: move the handshake on"
        space = APPLICATION if epoch == EPOCH_ZERO_RTT else EPOCH_OF_SPACE.index(epoch)
        if number is None:
            number = self._numbers[space]
            self._numbers[space] = number + 1
        number_bytes = (number & 0xFFFFFFFF).to_bytes(4, "big")
        if destination is None:
            destination = self.carrier._parts.paths.active.peer_cid or self.victim.host_cid
            if not self.victim_is_client and epoch in (EPOCH_INITIAL, EPOCH_ZERO_RTT):
                destination = self.carrier._parts.initial_cid
        if epoch == EPOCH_ONE_RTT:
            first = 0x43 | reserved | (0x04 if key.phase & 1 else 0)
            header = bytes((first,)) + destination + number_bytes
            first_mask = 0x1F
        else:
            packet_type = {
                EPOCH_INITIAL: INITIAL_PACKET,
                EPOCH_ZERO_RTT: ZERO_RTT_PACKET,
                EPOCH_HANDSHAKE: HANDSHAKE_PACKET,
            }[epoch]
            version = self.carrier.version
            header = encode_connection_ids(
                encode_first_byte(version, packet_type, 3 | reserved),
                version,
                destination,
                self.carrier.host_cid if source is None else source,
            )
            if epoch == EPOCH_INITIAL:
                header += (len(token) | 0x4000).to_bytes(2, "big") + token
            header += (4 + len(payload) + AEAD_TAG_SIZE | 0x80000000).to_bytes(4, "big") + number_bytes
            first_mask = 0x0F
        ciphertext = key.seal(number, header, payload)
        mask = key.masks([ciphertext[:16]])
        protected = bytes([left ^ right for left, right in zip(number_bytes, mask[1:5], strict=True)])
        return bytes((header[0] ^ (mask[0] & first_mask),)) + header[1:-4] + protected + ciphertext

    def send(self, epoch: int, *frames: bytes, pad: bool = True, **fields: Any) -> None:
        """Send frames in one packet, and hear what the victim answers. Initial packets are padded to a full datagram."""
        payload = b"".join(frames)
        if epoch == EPOCH_INITIAL and pad:
            payload += bytes(max(0, SMALLEST_MAX_DATAGRAM_SIZE - len(payload)))
        self.deliver(self.packet(epoch, payload, **fields))

    def deliver(self, *datagrams: bytes, remote: Hashable = None) -> None:
        """Hand whole datagrams to the victim, as one batch, and hear what it answers."""
        self.victim.receive_datagrams(Received(list(datagrams), self.address if remote is None else remote), self.now)
        self.listen()

    def deliver_unheard(self, datagrams: list[bytes], remote: Hashable, ecn: int = 0) -> None:
        """Hand datagrams to the victim and take no answer."""
        self.victim.receive_datagrams(Received(datagrams, remote, None, ecn), self.now)

    # --- listening ---------------------------------------------------------------------------------------------------

    def listen(self) -> None:
        """Take all that the victim sends now, and open it."""
        for data, _ in self.victim.datagrams_to_send(self.now):
            self.datagrams.append(data)
            self.received.extend(self.open(data))

    def open(self, datagram: bytes) -> list[tuple[int, int, list[Frame]]]:
        """The packets of a datagram: epoch, truncated number, frames. Those without keys are left out."""
        packets: list[tuple[int, int, list[Frame]]] = []
        position = 0
        while position < len(datagram):
            if datagram[position] & 0x80:
                header = parse_long_header(datagram, position)
                epoch = (EPOCH_INITIAL, EPOCH_ZERO_RTT, EPOCH_HANDSHAKE)[header.packet_type]
                offset, end, first_mask = header.packet_number_offset, header.end, 0x0F
            else:
                epoch, first_mask = EPOCH_ONE_RTT, 0x1F
                offset, end = position + 1 + len(self.carrier.host_cid), len(datagram)
            key = self.opening[epoch]
            if key is not None:
                mask = key.masks([datagram[offset + 4 : offset + 20]])
                first = datagram[position] ^ (mask[0] & first_mask)
                length = (first & 3) + 1
                number_bytes = bytes(
                    [a ^ b for a, b in zip(datagram[offset : offset + length], mask[1 : 1 + length], strict=True)]
                )
                number = int.from_bytes(number_bytes, "big")
                visible = bytes((first,)) + datagram[position + 1 : offset] + number_bytes
                payload = key.open(number, visible, datagram[offset + length : end])
                if payload is not None:
                    packets.append((epoch, number, decode_frames(payload)))
            position = end
        return packets

    def frames(self, name: str) -> list[tuple[Any, ...]]:
        """The fields of all frames called `name` that the victim has sent since the last `forget()`."""
        return [fields for _, _, frames in self.received for kind, fields in frames if kind == name]

    def forget(self) -> None:
        """Forget what was heard so far."""
        self.received.clear()
        self.datagrams.clear()

    def close_code(self) -> int | None:
        """The error code of the CONNECTION_CLOSE (0x1c) that the victim sent; None when it sent none."""
        codes = {fields[0] for fields in self.frames("TRANSPORT_CLOSE")}
        assert len(codes) <= 1, "one close, one code"
        return codes.pop() if codes else None

    def drain_events(self) -> None:
        """Let both applications take their events."""
        for connection in (self.victim, self.carrier):
            while connection.next_event() is not None:
                pass


def crypto_frame(offset: int, data: bytes) -> bytes:
    """A CRYPTO frame."""
    return b"\x06" + varint(offset) + varint(len(data)) + data


def stream_frame(stream_id: int, offset: int, data: bytes, fin: bool = False) -> bytes:
    """A STREAM frame with all its fields."""
    return bytes((0x0E | fin,)) + varint(stream_id) + varint(offset) + varint(len(data)) + data


def varint(number: int, size: int = 0) -> bytes:
    """A variable-length integer (RFC 9000 §16), in `size` bytes if that is given, however wasteful."""
    for code, width in enumerate((1, 2, 4, 8)):
        if size <= width and number < 1 << (8 * width - 2):
            return (number | code << (8 * width - 2)).to_bytes(width, "big")
    raise ValueError(f"{number} does not fit a variable-length integer")


def read_varint(data: bytes) -> int:
    """The variable-length integer that `data` begins with."""
    return read_uint_var(data, 0)[0]


SPACES: Final = (INITIAL, HANDSHAKE, APPLICATION)
