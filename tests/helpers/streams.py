"""Two `Streams` components, joined by packets that a test may deliver, lose, repeat or reorder."""

from __future__ import annotations

import random
from collections import deque
from typing import TypeVar

from helpers.recovery import make_path
from quicio.quic.component import Token, Wants
from quicio.quic.events import QuicEvent, StreamDataReceived
from quicio.quic.recovery.rtt import RttEstimator
from quicio.quic.streams.collection import Streams
from quicio.quic.wire import constants as c
from quicio.quic.wire import frames as f
from quicio.quic.wire.packet_builder import PacketBuilder
from quicio.quic.wire.transport_parameters import TransportParameters

E = TypeVar("E", bound=QuicEvent)
ROOM = 1160


class Packet:
    """Frames on their way, and the tokens of those who want to hear of them."""

    def __init__(self, sender: Side, payload: bytes, tokens: list[Token]) -> None:
        self.sender = sender
        self.payload = payload
        self.tokens = tokens
        self.is_settled = False

    def acked(self, now: float = 0.0) -> None:
        """The sender hears that the packet arrived; once."""
        if not self.is_settled:
            self.is_settled = True
            for token in self.tokens:
                self.sender.streams.on_acked(token, now)

    def lost(self, now: float = 0.0) -> None:
        """The sender takes the packet for lost; an acknowledgement may still come."""
        for token in self.tokens:
            self.sender.streams.on_lost(token, now)

    def probe(self) -> None:
        """The sender wants to probe with what the packet holds."""
        for token in self.tokens:
            self.sender.streams.on_probe(token, 0.0)

    def frame_types(self) -> list[int]:
        """Types of the frames, in order."""
        return [name for name, _ in parse(self.payload)]


class Side:
    """One end: its streams, its events, and what it has been told and has handed out."""

    def __init__(
        self,
        is_client: bool = True,
        *,
        max_data: int = 1 << 20,
        max_stream_data: int = 1 << 18,
        max_streams_bidi: int = 16,
        max_streams_uni: int = 16,
        window_limit: int = 1 << 22,
        send_buffer: int = 1 << 16,
    ) -> None:
        self.wants = Wants()
        self.events: deque[QuicEvent] = deque()
        self.rtt = RttEstimator()
        self.path = make_path()
        self.streams = Streams(
            self.wants,
            self.events,
            is_client=is_client,
            max_data=max_data,
            max_stream_data=max_stream_data,
            max_streams_bidi=max_streams_bidi,
            max_streams_uni=max_streams_uni,
            window_limit=window_limit,
            rtt=self.rtt,
            send_buffer=send_buffer,
        )
        self.parameters = TransportParameters()
        self.parameters.initial_max_data = max_data
        self.parameters.initial_max_stream_data_bidi_local = max_stream_data
        self.parameters.initial_max_stream_data_bidi_remote = max_stream_data
        self.parameters.initial_max_stream_data_uni = max_stream_data
        self.parameters.initial_max_streams_bidi = max_streams_bidi
        self.parameters.initial_max_streams_uni = max_streams_uni
        self.received: dict[int, bytearray] = {}
        self.ended: set[int] = set()

    def write(self, room: int = ROOM, now: float = 0.0) -> Packet:
        """One packet of what the side wants to send; its payload is empty when that is nothing."""
        builder = PacketBuilder(self.path)
        builder.begin(c.APPLICATION, self.path, c.FULL, room)
        if self.streams.pending:
            self.streams.write(builder, now)
        assert builder.room >= 0
        return Packet(self, b"".join(builder.pieces), builder.tokens)

    def write_all(self, room: int = ROOM, now: float = 0.0) -> list[Packet]:
        """Packets until the side has nothing left to send."""
        packets: list[Packet] = []
        while True:
            packet = self.write(room, now)
            if not packet.payload:
                assert not self.streams.pending
                return packets
            packets.append(packet)

    def read(self, payload: bytes, now: float = 0.0) -> None:
        """Take one packet's frames as a burst."""
        for _, call in parse(payload):
            name, arguments = call
            getattr(self.streams, name)(*arguments)
        self.streams.collect_events(now)

    def drain(self) -> list[QuicEvent]:
        """Hand out all events, as `next_event()` does."""
        events = list(self.events)
        while self.events:
            event = self.events.popleft()
            if isinstance(event, StreamDataReceived):
                self.received.setdefault(event.stream_id, bytearray()).extend(event.data)
                assert event.stream_id not in self.ended, "an event after the end"
                if event.end_stream:
                    self.ended.add(event.stream_id)
                self.streams.on_handed_out(event)
        return events

    def take(self, kind: type[E]) -> list[E]:
        """Hand out all events and return those of one kind."""
        return [event for event in self.drain() if isinstance(event, kind)]

    def data(self, stream_id: int) -> bytes:
        """What was handed out on a stream."""
        return bytes(self.received.get(stream_id, b""))


class Pair:
    """A client and a server that know each other's parameters."""

    def __init__(self, client: Side | None = None, server: Side | None = None) -> None:
        self.client = client if client is not None else Side(True)
        self.server = server if server is not None else Side(False)
        self.client.streams.on_parameters(self.server.parameters)
        self.server.streams.on_parameters(self.client.parameters)
        self.now = 0.0

    def other(self, side: Side) -> Side:
        """The peer of a side."""
        return self.server if side is self.client else self.client

    def deliver(self, packet: Packet) -> None:
        """The packet arrives and is acknowledged."""
        self.other(packet.sender).read(packet.payload, self.now)
        packet.acked(self.now)

    def step(self, drain: bool = True) -> int:
        """Everything that either side wants to send arrives; how many packets that were."""
        packets = self.client.write_all(now=self.now) + self.server.write_all(now=self.now)
        for packet in packets:
            self.deliver(packet)
        if drain:
            self.client.drain()
            self.server.drain()
        self.check()
        return len(packets)

    def settle(self, round_trip: float = 1.0) -> None:
        """Steps, a round trip apart, until nobody has anything to send."""
        while self.step():
            self.now += round_trip

    def check(self) -> None:
        """Invariants of both sides."""
        self.client.streams.check_invariants()
        self.server.streams.check_invariants()


class Link:
    """A network between a pair that loses, repeats and reorders packets, drawn from a seed."""

    def __init__(self, pair: Pair, seed: int, *, loss: float = 0.2, repeat: float = 0.1, spurious: float = 0.1) -> None:
        self.pair = pair
        self.random = random.Random(seed)
        self.loss = loss
        self.repeat = repeat
        self.spurious = spurious
        self.flying: list[Packet] = []

    def turn(self, packets: int = 8) -> None:
        """Both sides write some packets, of any size; then what flies arrives in any order, or does not."""
        draw = self.random
        for side in (self.pair.client, self.pair.server):
            for _ in range(packets):
                packet = side.write(draw.choice((60, 200, ROOM)), self.pair.now)
                if packet.payload:
                    self.flying.append(packet)
        draw.shuffle(self.flying)
        arriving = self.flying[: max(1, len(self.flying) // 2)]
        self.flying = self.flying[len(arriving) :]
        for packet in arriving:
            if draw.random() < self.loss:
                packet.lost(self.pair.now)
                continue
            if draw.random() < self.spurious:
                packet.lost(self.pair.now)  # a loss that was none: the acknowledgement comes late
            elif draw.random() < self.spurious:
                packet.probe()
            if draw.random() < self.repeat:
                self.pair.other(packet.sender).read(packet.payload, self.pair.now)
            self.pair.other(packet.sender).read(packet.payload, self.pair.now)
            if draw.random() < self.loss:
                packet.lost(self.pair.now)  # its acknowledgement was lost
            else:
                packet.acked(self.pair.now)
        self.pair.now += 0.05
        self.pair.check()

    def is_idle(self) -> bool:
        """Is there nothing in flight and nothing to send?"""
        return not self.flying and not self.pair.client.streams.pending and not self.pair.server.streams.pending


Call = tuple[str, tuple[object, ...]]


def parse(payload: bytes) -> list[tuple[int, Call]]:
    """Frames as pairs of a type and the `Streams` method with arguments that takes it."""
    calls: list[tuple[int, Call]] = []
    position = 0
    while position < len(payload):
        kind = payload[position]
        position += 1
        call: Call
        if c.STREAM <= kind <= 0x0F:
            stream_id, offset, start, end, fin, position = f.decode_stream(payload, position, kind)
            call = ("on_stream_frame", (stream_id, offset, payload[start:end], fin))
        elif kind == c.RESET_STREAM:
            stream_id, code, size, position = f.decode_reset_stream(payload, position)
            call = ("on_reset_stream", (stream_id, code, size))
        elif kind == c.STOP_SENDING:
            stream_id, code, position = f.decode_stop_sending(payload, position)
            call = ("on_stop_sending", (stream_id, code))
        elif kind == c.MAX_DATA:
            limit, position = f.decode_max_data(payload, position)
            call = ("on_max_data", (limit,))
        elif kind == c.MAX_STREAM_DATA:
            stream_id, limit, position = f.decode_max_stream_data(payload, position)
            call = ("on_max_stream_data", (stream_id, limit))
        elif kind in (c.MAX_STREAMS_BIDI, c.MAX_STREAMS_UNI):
            limit, position = f.decode_max_streams(payload, position, kind)
            call = ("on_max_streams", (limit, kind == c.MAX_STREAMS_UNI))
        elif kind == c.DATA_BLOCKED:
            limit, position = f.decode_data_blocked(payload, position)
            call = ("on_data_blocked", (limit,))
        elif kind == c.STREAM_DATA_BLOCKED:
            stream_id, limit, position = f.decode_stream_data_blocked(payload, position)
            call = ("on_stream_data_blocked", (stream_id, limit))
        elif kind in (c.STREAMS_BLOCKED_BIDI, c.STREAMS_BLOCKED_UNI):
            limit, position = f.decode_streams_blocked(payload, position, kind)
            call = ("on_streams_blocked", (limit, kind == c.STREAMS_BLOCKED_UNI))
        else:
            raise AssertionError(f"Streams wrote a frame of type {kind:#x}")
        calls.append((kind, call))
    return calls
