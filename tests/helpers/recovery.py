"""A bench for recovery: a path, loss detection on it, and a component that keeps a ledger of every token's fate."""

from __future__ import annotations

import random

from quicio.quic.component import Component, Token, Wants
from quicio.quic.congestion.base import AckSample, CongestionController, LossBatch
from quicio.quic.paths.ecn import EcnState
from quicio.quic.paths.mtu import PathMtu
from quicio.quic.paths.path import Path
from quicio.quic.recovery.loss import LossDetection, SentPacket
from quicio.quic.recovery.pacer import Pacer
from quicio.quic.recovery.rtt import RttEstimator
from quicio.quic.wire.constants import APPLICATION


class Recorder(CongestionController):
    """A controller that keeps what it is told; its window never moves."""

    name = "recorder"

    def __init__(self, datagram_size: int = 1200) -> None:
        super().__init__(datagram_size)
        self.samples: list[AckSample] = []
        self.batches: list[LossBatch] = []
        self.spurious: list[float] = []
        self.sent: list[tuple[float, int, int]] = []

    def on_sent(self, now: float, size: int, in_flight: int) -> None:
        self.sent.append((now, size, in_flight))

    def on_ack(self, sample: AckSample) -> None:
        self.samples.append(sample)

    def on_loss(self, losses: LossBatch) -> None:
        self.batches.append(losses)

    def on_spurious_loss(self, now: float) -> None:
        self.spurious.append(now)


class Ledger(Component):
    """Counts what is said of each token; a token is (self, label)."""

    def __init__(self, wants: Wants) -> None:
        super().__init__(wants)
        self.acked: list[object] = []
        self.lost: list[object] = []
        self.probed: list[object] = []
        self.forgotten: list[object] = []

    def on_acked(self, token: Token, now: float) -> None:
        self.acked.append(token[1])

    def on_lost(self, token: Token, now: float) -> None:
        assert token[1] not in self.acked
        assert token[1] not in self.forgotten
        self.lost.append(token[1])

    def on_probe(self, token: Token, now: float) -> None:
        self.probed.append(token[1])

    def on_forgotten(self, token: Token) -> None:
        self.forgotten.append(token[1])

    @property
    def ended(self) -> list[object]:
        """Labels of all tokens that ended, as often as they did."""
        return self.acked + self.forgotten


def make_path(congestion: CongestionController | None = None, remote: str = "peer") -> Path:
    """A validated path with a recording controller."""
    return Path(
        remote,
        None,
        datagram_size=1200,
        congestion=congestion if congestion is not None else Recorder(),
        rtt=RttEstimator(),
        pacer=Pacer(),
        mtu=PathMtu(),
        ecn=EcnState(),
        is_validated=True,
    )


class Bench:
    """Loss detection with a path and a ledger; `send` and `ack` in the shortest words."""

    def __init__(self, *, is_client: bool = False, confirmed: bool = True, seed: int = 1) -> None:
        wants = Wants()
        self.controller = Recorder()
        self.path = make_path(self.controller)
        self.loss = LossDetection(wants, is_client=is_client, path=self.path, random=random.Random(seed).random)
        self.ledger = Ledger(wants)
        self.labels: list[tuple[int, int]] = []
        if confirmed:
            self.loss.on_handshake_confirmed()

    def send(
        self,
        now: float,
        space: int = APPLICATION,
        size: int = 1200,
        *,
        eliciting: bool = True,
        in_flight: bool | None = None,
        path: Path | None = None,
        ecn: int = 0,
        phase: int = 0,
        is_mtu_probe: bool = False,
    ) -> int:
        """Send one packet; returns its number, which with the space is its token's label."""
        number = self.loss.spaces[space].allocate(now)
        self.labels.append((space, number))
        if is_mtu_probe:
            self.path.mtu.on_probe_sent(size)
        packet = SentPacket(
            number,
            size,
            now,
            eliciting,
            eliciting if in_flight is None else in_flight,
            [(self.ledger, (space, number))],
            self.path if path is None else path,
            space,
            ecn,
            phase,
            is_mtu_probe,
        )
        self.loss.on_sent(packet, now)
        return number

    def ack(
        self,
        now: float,
        *numbers: int,
        space: int = APPLICATION,
        delay: float = 0.0,
        ecn: tuple[int, int, int] | None = None,
    ) -> None:
        """An ACK of exactly these packet numbers arrives."""
        self.loss.on_ack(space, flat_ranges(numbers), delay, ecn, now)
        self.loss.check_invariants()


def flat_ranges(numbers: tuple[int, ...] | list[int] | set[int]) -> list[int]:
    """Packet numbers as an ACK frame decodes: flat, half-open, newest range first."""
    ranges: list[int] = []
    for number in sorted(set(numbers), reverse=True):
        if ranges and ranges[-2] == number + 1:
            ranges[-2] = number
        else:
            ranges += [number, number + 1]
    return ranges
