"""NewReno as QUIC defines it (RFC 9002 §7, appendix B).

Slow start adds what was acknowledged; avoidance adds one datagram for each window acknowledged; a congestion event halves
the window. Everything else is the common ground of window-based controllers, in `congestion/window.py`.
"""

from typing import Final

from quicio.quic.congestion.base import AckSample, register_congestion_control
from quicio.quic.congestion.window import WindowController

K_LOSS_REDUCTION_FACTOR: Final = 0.5  # RFC 9002 §B.1


class RenoController(WindowController):
    """NewReno: the controller that RFC 9002 specifies."""

    name = "reno"

    def _slow_start(self, sample: AckSample) -> None:
        self._exact += sample.acked

    def _avoid(self, sample: AckSample) -> None:
        self._exact += self.datagram_size * sample.acked / self._exact

    def _reduce(self) -> float:
        return self._exact * K_LOSS_REDUCTION_FACTOR


register_congestion_control("reno", RenoController)
