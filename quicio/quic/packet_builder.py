"""aioquic's record of a packet that was sent, for programs that exercise its congestion controllers and recovery.

quicio's own record is `quicio.quic.recovery.sent_packets`; packets are built in `quicio.quic.outbound`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from quicio.quic.packet import QuicPacketType
from quicio.tls.constants import Epoch

__all__ = ["QuicSentPacket"]


@dataclass
class QuicSentPacket:
    """A packet in flight: `sent_time` is in seconds, `sent_bytes` the size of the packet."""

    epoch: Epoch
    in_flight: bool
    is_ack_eliciting: bool
    is_crypto_packet: bool
    packet_number: int
    packet_type: QuicPacketType
    sent_time: float | None = None
    sent_bytes: int = 0
    delivery_handlers: list[tuple[Callable[..., None], Any]] = field(default_factory=list)
    quic_logger_frames: list[dict[str, Any]] = field(default_factory=list)
