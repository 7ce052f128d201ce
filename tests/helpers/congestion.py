"""Samples and losses for congestion controllers, in the shortest words."""

from __future__ import annotations

from quicio.quic.congestion.base import AckSample, CongestionController, LossBatch


class Driver:
    """Feeds a controller with ACKs of packets sent one RTT ago."""

    def __init__(self, controller: CongestionController, rtt: float = 0.1) -> None:
        self.controller = controller
        self.rtt = rtt
        self.now = 10.0
        self.delivered = 0

    def ack(
        self,
        acked: int,
        *,
        in_flight: int | None = None,
        sent_time: float | None = None,
        rtt: float | None = None,
        is_app_limited: bool = False,
        ce: int = 0,
    ) -> int:
        """An ACK of `acked` bytes, of a full window unless said otherwise; returns the window that follows."""
        prior = self.controller.window if in_flight is None else in_flight
        self.delivered += acked
        self.controller.on_ack(
            AckSample(
                self.now,
                acked,
                prior,
                max(0, prior - acked),
                self.now - self.rtt if sent_time is None else sent_time,
                self.rtt if rtt is None else rtt,
                self.rtt,
                self.rtt,
                self.delivered,
                0.0,
                is_app_limited,
                ce,
            )
        )
        return self.controller.window

    def lose(self, lost: int = 1200, *, sent_time: float | None = None, is_persistent: bool = False) -> int:
        """A batch of losses, sent one RTT ago unless said otherwise; returns the window that follows."""
        sent = self.now - self.rtt if sent_time is None else sent_time
        self.controller.on_loss(LossBatch(self.now, lost, max(1, lost // 1200), sent, 0, is_persistent))
        return self.controller.window

    def round(self) -> int:
        """A round trip of a full window, an ACK every two packets; returns the window that follows."""
        packets = self.controller.window // 1200
        start = self.now
        for index in range(0, packets, 2):
            self.now = start + self.rtt * index / packets
            self.ack(1200 * min(2, packets - index))
        self.now = start + self.rtt
        return self.controller.window
