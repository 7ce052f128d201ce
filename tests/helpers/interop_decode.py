"""What a tap saw, decoded: packets with their frames, and the TLS messages that say what was negotiated.

Interop tests assert features on this: on what an observer with the secrets sees, not on what quicio says of itself, nor on
the options that a test has set. `decode(datagrams, key_log)` gives one `Conversation` for each connection. Initial packets
need no secrets; the others are opened with those of the key log that stand beside the ClientHello's random. Packets that
nobody can open are counted in `sealed`: tests expect none.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.exceptions import InvalidTag

from helpers.interop_keys import AES_128_GCM, SALTS, V1, V2, Keys, initial_keys
from helpers.interop_messages import (
    CLIENT_HELLO,
    EARLY_DATA,
    ENCRYPTED_EXTENSIONS,
    NEW_SESSION_TICKET,
    SERVER_HELLO,
    ClientHello,
    Pieces,
    ServerHello,
    read_extensions,
)
from helpers.interop_tap import Datagram
from sim.capture import decode_frames

LONG_TYPES: Final = {  # RFC 9000 §17.2, RFC 9369 §3.2
    V1: ("INITIAL", "ZERO_RTT", "HANDSHAKE", "RETRY"),
    V2: ("RETRY", "INITIAL", "ZERO_RTT", "HANDSHAKE"),
}
LABELS: Final = {  # of the key log, by kind of packet and direction
    ("HANDSHAKE", True): "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
    ("HANDSHAKE", False): "SERVER_HANDSHAKE_TRAFFIC_SECRET",
    ("ONE_RTT", True): "CLIENT_TRAFFIC_SECRET_0",
    ("ONE_RTT", False): "SERVER_TRAFFIC_SECRET_0",
    ("ZERO_RTT", True): "CLIENT_EARLY_TRAFFIC_SECRET",
}
SMALLEST_SEALED: Final = (
    21  # bytes of a packet that was sealed and can be opened: flags, 4 for the number, 16 for the sample
)


@dataclass
class WirePacket:
    """One packet. `generation` counts the key updates before it; `versions` are those of a Version Negotiation packet."""

    kind: str
    by_client: bool
    flow: int
    datagram: int  # its position among those of the tap
    version: int
    dcid: bytes
    scid: bytes = b""
    token: bytes = b""
    versions: list[int] = field(default_factory=list)
    number: int = -1
    generation: int = 0
    frames: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)

    def fields(self, name: str) -> list[tuple[Any, ...]]:
        """The fields of each frame of a kind."""
        return [fields for kind, fields in self.frames if kind == name]


class Conversation:
    """One connection."""

    def __init__(self, secrets: dict[tuple[bytes, str], bytes]) -> None:
        self.packets: list[WirePacket] = []
        self.sealed = 0
        self._secrets = secrets
        self._keys: dict[tuple[str, bool, int], Keys] = {}
        self._initial_ids: list[bytes] = []
        self._initial_keys: dict[tuple[bytes, int, bool], Keys] = {}
        self._ids: dict[bool, set[bytes]] = {True: set(), False: set()}  # connection IDs that a side goes by
        self._pieces: dict[tuple[str, bool, Keys | None], Pieces] = {}

    # --- what tests ask ----------------------------------------------------------------------------------------------

    def select(self, kind: str, by_client: bool | None = None, frame: str | None = None) -> list[WirePacket]:
        """The packets of a kind, of one direction, with a frame of that name."""
        return [
            packet
            for packet in self.packets
            if packet.kind == kind and by_client in (None, packet.by_client) and (frame is None or packet.fields(frame))
        ]

    def kinds(self) -> list[str]:
        """The kinds of packets, in order of appearance."""
        return list(dict.fromkeys(packet.kind for packet in self.packets))

    def stream(
        self,
        stream_id: int,
        by_client: bool,
        kinds: Sequence[str] = ("ZERO_RTT", "ONE_RTT"),
        destinations: Container[bytes] | None = None,
    ) -> bytes:
        """What one side sent on a stream from its beginning on, in packets of those kinds, to those connection IDs."""
        pieces = Pieces()
        for packet in self.packets:
            if packet.kind in kinds and packet.by_client == by_client:
                if destinations is None or packet.dcid in destinations:
                    for number, offset, data, _ in packet.fields("STREAM"):
                        if number == stream_id:
                            pieces.add(offset, data)
        return pieces.data()

    def messages(self, kind: str, by_client: bool) -> list[tuple[int, bytes]]:
        """The TLS messages of one direction at one level; of a client that began anew, those of its last attempt."""
        whole = Pieces()
        for (level, direction, _), pieces in self._pieces.items():
            if (level, direction) == (kind, by_client):
                whole = pieces if pieces.begins else whole.joined(pieces)
        return list(whole.messages())

    def client_hellos(self) -> list[ClientHello]:
        return [ClientHello.read(body) for kind, body in self.messages("INITIAL", True) if kind == CLIENT_HELLO]

    def server_hellos(self) -> list[ServerHello]:
        return [ServerHello.read(body) for kind, body in self.messages("INITIAL", False) if kind == SERVER_HELLO]

    @property
    def chosen(self) -> ServerHello:
        """The ServerHello that is none of a retry."""
        [hello] = [hello for hello in self.server_hellos() if not hello.is_retry_request]
        return hello

    def takes_early_data(self) -> bool:
        """Whether the server said that it takes the 0-RTT data (RFC 8446 §4.2.10)."""
        messages = dict(self.messages("HANDSHAKE", False))
        return EARLY_DATA in read_extensions(messages[ENCRYPTED_EXTENSIONS][2:])

    def tickets(self) -> int:
        """How many session tickets the server gave."""
        return sum(kind == NEW_SESSION_TICKET for kind, _ in self.messages("ONE_RTT", False))

    def version(self) -> int:
        """The version in which both sides finished the handshake."""
        [version] = {packet.version for packet in self.select("HANDSHAKE")}
        return version

    def generations(self, by_client: bool) -> list[int]:
        """The generations of 1-RTT keys that one side used."""
        return sorted({packet.generation for packet in self.select("ONE_RTT", by_client)})

    def destinations(self, by_client: bool) -> list[bytes]:
        """The connection IDs of its peer that one side used in 1-RTT packets, in order of appearance."""
        return list(dict.fromkeys(packet.dcid for packet in self.select("ONE_RTT", by_client)))

    # --- decoding ----------------------------------------------------------------------------------------------------

    def read(self, datagrams: Sequence[tuple[int, Datagram]]) -> None:
        """Decode all datagrams: the Initial packets first, since they tell how to open the others."""
        others = []
        for index, datagram in datagrams:
            for data in split(datagram.data):
                packet, number_at = self._header(index, datagram, data)
                if packet.kind in ("RETRY", "VERSION_NEGOTIATION", "UNKNOWN"):
                    self.packets.append(packet)
                elif packet.kind == "INITIAL":
                    self._open(packet, data, number_at)
                else:
                    others.append((packet, data))
        for packet, data in others:
            self._open(packet, data, self._number_at(packet, data))
        self.packets.sort(key=lambda packet: packet.datagram)

    def _header(self, index: int, datagram: Datagram, data: bytes) -> tuple[WirePacket, int]:
        if not data[0] & 0x80:
            return WirePacket("ONE_RTT", datagram.by_client, datagram.flow, index, 0, b""), 1
        version = int.from_bytes(data[1:5], "big")
        dcid, position = short_vector(data, 5)
        scid, position = short_vector(data, position)
        packet = WirePacket("", datagram.by_client, datagram.flow, index, version, dcid, scid)
        if version == 0:
            packet.kind = "VERSION_NEGOTIATION"
            packet.versions = [int.from_bytes(data[at : at + 4], "big") for at in range(position, len(data), 4)]
            return packet, 0
        packet.kind = LONG_TYPES[version][(data[0] >> 4) & 3] if version in LONG_TYPES else "UNKNOWN"
        if packet.kind == "RETRY":
            packet.token = data[position:-16]
        elif packet.kind != "UNKNOWN":
            self._ids[datagram.by_client].add(scid)
            position = self._after_token(packet, data, position)
        return packet, position

    def _after_token(self, packet: WirePacket, data: bytes, position: int) -> int:
        if packet.kind == "INITIAL":
            size, position = varint(data, position)
            packet.token = data[position : position + size]
            position += size
        return varint(data, position)[1]

    def _number_at(self, packet: WirePacket, data: bytes) -> int:
        if packet.kind != "ONE_RTT":
            return self._header(packet.datagram, Datagram(packet.by_client, packet.flow, b""), data)[1]
        for known in sorted(self._ids[not packet.by_client], key=len, reverse=True):
            if data[1:].startswith(known):
                packet.dcid = known
                break
        return 1 + len(packet.dcid)

    def _open(self, packet: WirePacket, data: bytes, number_at: int) -> None:
        for keys in self._candidates(packet):
            if len(data) < number_at + SMALLEST_SEALED - 1:
                break
            try:
                packet.number, packet.generation, payload = keys.open(data, number_at)
            except InvalidTag:
                continue
            packet.frames = decode_frames(payload)
            self.packets.append(packet)
            attempt = (
                keys if packet.kind == "INITIAL" else None
            )  # after Retry and Version Negotiation the keys are others
            for offset, piece in packet.fields("CRYPTO"):
                self._pieces.setdefault((packet.kind, packet.by_client, attempt), Pieces()).add(offset, piece)
            for _, _, connection_id, *_ in packet.fields("NEW_CONNECTION_ID"):
                self._ids[packet.by_client].add(connection_id)
            return
        self.sealed += 1

    def _candidates(self, packet: WirePacket) -> Iterator[Keys]:
        if packet.kind == "INITIAL":
            if packet.by_client and packet.dcid not in [*self._initial_ids, *self._ids[False]]:
                self._initial_ids.append(packet.dcid)
            if packet.by_client and packet.token and packet.dcid not in self._initial_ids:
                self._initial_ids.append(packet.dcid)  # after a Retry (RFC 9001 §5.2)
            for dcid in self._initial_ids:
                which = (dcid, packet.version, packet.by_client)
                if packet.version in SALTS and which not in self._initial_keys:
                    self._initial_keys[which] = initial_keys(*which)
                if which in self._initial_keys:
                    yield self._initial_keys[which]
            return
        version = self._keyed_version(packet)
        which_level = (packet.kind, packet.by_client, version)
        if which_level not in self._keys and (made := self._make(packet, version)) is not None:
            self._keys[which_level] = made
        if which_level in self._keys:
            yield self._keys[which_level]

    def _keyed_version(self, packet: WirePacket) -> int:
        if packet.version:
            return packet.version
        answers = [other.version for other in self.packets if other.kind == "INITIAL" and not other.by_client]
        return answers[-1] if answers else V1

    def _make(self, packet: WirePacket, version: int) -> Keys | None:
        label = LABELS.get((packet.kind, packet.by_client))
        chosen = [hello.cipher_suite for hello in self.server_hellos() if not hello.is_retry_request]
        for hello in self.client_hellos():
            secret = self._secrets.get((hello.random, label or ""))
            if secret is not None:
                return Keys(secret, version, chosen[0] if chosen else AES_128_GCM)
        return None


def decode(datagrams: Sequence[Datagram], key_log: str) -> list[Conversation]:
    """The connections that went through a tap, each from its first datagram on.

    A flow is a connection of its own when it begins with an Initial, else it goes on with the one before it, whose client
    has changed its address.
    """
    secrets = {}
    for line in key_log.splitlines():
        label, random, secret = line.split()
        secrets[bytes.fromhex(random), label] = bytes.fromhex(secret)
    groups: dict[int, list[tuple[int, Datagram]]] = {}
    leaders: dict[int, int] = {}
    for index, datagram in enumerate(datagrams):
        if datagram.flow not in leaders:
            leaders[datagram.flow] = datagram.flow if datagram.data[0] & 0x80 or not leaders else max(leaders.values())
        groups.setdefault(leaders[datagram.flow], []).append((index, datagram))
    result = []
    for group in groups.values():
        result.append(Conversation(secrets))
        result[-1].read(group)
    return result


def split(data: bytes) -> Iterator[bytes]:
    """The packets that share a datagram (RFC 9000 §12.2)."""
    while data:
        end = len(data)
        version = int.from_bytes(data[1:5], "big")
        if data[0] & 0x80 and version in LONG_TYPES:
            kind = LONG_TYPES[version][(data[0] >> 4) & 3]
            _, position = short_vector(data, 5)
            _, position = short_vector(data, position)
            if kind == "INITIAL":
                size, position = varint(data, position)
                position += size
            if kind != "RETRY":
                size, position = varint(data, position)
                end = position + size
        yield data[:end]
        data = data[end:]
        if not any(data):
            return  # padding behind the packets, which some put there


def short_vector(data: bytes, position: int) -> tuple[bytes, int]:
    """A connection ID with its length before it."""
    end = position + 1 + data[position]
    return data[position + 1 : end], end


def varint(data: bytes, position: int) -> tuple[int, int]:
    """A variable-length integer (RFC 9000 §16), and the position behind it."""
    size = 1 << (data[position] >> 6)
    value = int.from_bytes(data[position : position + size], "big") & ((1 << (8 * size - 2)) - 1)
    return value, position + size
