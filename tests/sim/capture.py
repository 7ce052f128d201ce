"""Capture: every packet that an endpoint sealed or opened, decoded.

Frames are decoded by the wire room's own decoders, so a packet is a list of (name, fields) pairs; tests ask for what they
need: `capture.sent(epoch, "PATH_CHALLENGE")`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from quicio.quic.observer import Observer
from quicio.quic.packet import QuicFrameType
from quicio.quic.paths.path import Path
from quicio.quic.wire import frames as wire

EPOCHS = ("INITIAL", "ZERO_RTT", "HANDSHAKE", "ONE_RTT")


@dataclass
class Packet:
    """One packet: when, which way, its number and its frames."""

    time: float
    is_sent: bool
    epoch: str
    number: int
    remote: object
    size: int
    frames: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)

    def has(self, name: str) -> bool:
        return any(frame[0] == name for frame in self.frames)


def decode_frames(payload: bytes) -> list[tuple[str, tuple[Any, ...]]]:
    """The frames of a packet's payload: name, and what the decoder gives without its position."""
    frames: list[tuple[str, tuple[Any, ...]]] = []
    position = 0
    while position < len(payload):
        frame_type = payload[position]
        position += 1
        if frame_type == 0:
            continue
        if frame_type == 1:
            frames.append(("PING", ()))
        elif frame_type in (2, 3):
            *fields, position = wire.decode_ack(payload, position, frame_type)
            frames.append(("ACK", tuple(fields)))
        elif 0x08 <= frame_type <= 0x0F:
            stream_id, offset, start, end, fin, position = wire.decode_stream(payload, position, frame_type)
            frames.append(("STREAM", (stream_id, offset, payload[start:end], fin)))
        elif frame_type == 0x06:
            offset, start, end, position = wire.decode_crypto(payload, position)
            frames.append(("CRYPTO", (offset, payload[start:end])))
        elif frame_type in (0x30, 0x31):
            start, end, position = wire.decode_datagram(payload, position, frame_type)
            frames.append(("DATAGRAM", (payload[start:end],)))
        elif frame_type == 0x1E:
            frames.append(("HANDSHAKE_DONE", ()))
        else:
            name = QuicFrameType(frame_type).name
            fields, position = _decode_other(payload, position, frame_type)
            frames.append((name, tuple(fields)))
    return frames


_DECODERS: dict[int, Callable[[bytes, int], tuple[Any, ...]]] = {
    0x04: wire.decode_reset_stream,
    0x05: wire.decode_stop_sending,
    0x07: wire.decode_new_token,
    0x10: wire.decode_max_data,
    0x11: wire.decode_max_stream_data,
    0x14: wire.decode_data_blocked,
    0x15: wire.decode_stream_data_blocked,
    0x18: wire.decode_new_connection_id,
    0x19: wire.decode_retire_connection_id,
    0x1A: wire.decode_path_challenge,
    0x1B: wire.decode_path_response,
    0x1C: wire.decode_transport_close,
    0x1D: wire.decode_application_close,
}


def _decode_other(payload: bytes, position: int, frame_type: int) -> tuple[list[Any], int]:
    fields: tuple[Any, ...]
    if frame_type in (0x12, 0x13):
        fields = wire.decode_max_streams(payload, position, frame_type)
    elif frame_type in (0x16, 0x17):
        fields = wire.decode_streams_blocked(payload, position, frame_type)
    else:
        fields = _DECODERS[frame_type](payload, position)
    return list(fields[:-1]), fields[-1]


class Capture(Observer):
    """Keeps the packets of one connection, the latest `limit` of them."""

    def __init__(self, limit: int = 100_000) -> None:
        self.packets: list[Packet] = []
        self.limit = limit

    def on_opened(self, epoch: int, number: int, payload: bytes, path: Path, now: float) -> None:
        self._add(False, epoch, number, payload, path, now)

    def on_sealed(self, epoch: int, number: int, payload: bytes, path: Path, now: float) -> None:
        self._add(True, epoch, number, payload, path, now)

    def _add(self, is_sent: bool, epoch: int, number: int, payload: bytes, path: Path, now: float) -> None:
        if len(self.packets) < self.limit:
            frames = decode_frames(payload)
            self.packets.append(Packet(now, is_sent, EPOCHS[epoch], number, path.remote, len(payload), frames))

    def select(self, is_sent: bool, name: str | None = None, epoch: str | None = None) -> Iterator[Packet]:
        """Packets of one direction, with a frame called `name`, of one epoch."""
        for packet in self.packets:
            if packet.is_sent == is_sent and (name is None or packet.has(name)) and epoch in (None, packet.epoch):
                yield packet

    def sent(self, name: str | None = None, epoch: str | None = None) -> list[Packet]:
        return list(self.select(True, name, epoch))

    def received(self, name: str | None = None, epoch: str | None = None) -> list[Packet]:
        return list(self.select(False, name, epoch))
