"""What a congestion controller is told and what it answers (RFC 9002 §7).

A controller never sees a packet. It gets one `AckSample` for each ACK frame that acknowledged something in flight and one
`LossBatch` for each time that packets were declared lost, and keeps three numbers up to date: `window` (bytes that may be in
flight), `pacing_rate` (bytes a second, 0.0 while unknown: the pacer then derives one from the window and the RTT) and
`send_quantum` (bytes that one burst may hold). Each path owns one controller; bytes in flight are counted by loss
detection and handed over, so that there is one place for that sum.

A sample carries the delivery rate and the application-limited mark from the first day, so that rate-based controllers fit.
"""

from collections.abc import Callable
from typing import Final

from quicio.quic.compiled import mypyc_attr

K_INITIAL_WINDOW_PACKETS: Final = 10  # RFC 9002 §7.2
K_MINIMUM_WINDOW_PACKETS: Final = 2
K_INITIAL_WINDOW_BYTES: Final = 14720


class AckSample:
    """One ACK, as a congestion controller sees it. Sizes in bytes, times in seconds of protocol time."""

    __slots__ = (
        "acked",
        "delivered",
        "delivery_rate",
        "ecn_ce",
        "in_flight",
        "is_app_limited",
        "largest_sent_time",
        "latest_rtt",
        "min_rtt",
        "now",
        "prior_in_flight",
        "smoothed_rtt",
    )

    def __init__(
        self,
        now: float,
        acked: int,
        prior_in_flight: int,
        in_flight: int,
        largest_sent_time: float,
        latest_rtt: float,
        smoothed_rtt: float,
        min_rtt: float,
        delivered: int,
        delivery_rate: float,
        is_app_limited: bool,
        ecn_ce: int,
    ) -> None:
        self.now: float = now
        self.acked: int = acked  # newly acknowledged bytes that were in flight
        self.prior_in_flight: int = prior_in_flight  # before this ACK
        self.in_flight: int = in_flight  # after it
        self.largest_sent_time: float = largest_sent_time  # of the largest newly acknowledged packet
        self.latest_rtt: float = latest_rtt  # 0.0 when this ACK gave no RTT sample
        self.smoothed_rtt: float = smoothed_rtt
        self.min_rtt: float = min_rtt
        self.delivered: int = delivered  # in total, on this path
        self.delivery_rate: float = delivery_rate  # bytes a second, 0.0 when unknown
        self.is_app_limited: bool = is_app_limited
        self.ecn_ce: int = ecn_ce  # how many packets the peer newly reports as CE-marked


class LossBatch:
    """Packets declared lost at one time."""

    __slots__ = ("in_flight", "is_persistent", "largest_sent_time", "lost", "now", "packets")

    def __init__(
        self, now: float, lost: int, packets: int, largest_sent_time: float, in_flight: int, is_persistent: bool
    ) -> None:
        self.now: float = now
        self.lost: int = lost  # bytes
        self.packets: int = packets
        self.largest_sent_time: float = largest_sent_time
        self.in_flight: int = in_flight  # after removing them
        self.is_persistent: bool = is_persistent  # persistent congestion, RFC 9002 §7.6


@mypyc_attr(allow_interpreted_subclasses=True)
class CongestionController:
    """Base of all controllers. `window`, `pacing_rate` and `send_quantum` are read before every burst."""

    name: str = ""
    window: int
    pacing_rate: float
    send_quantum: int

    def __init__(self, datagram_size: int) -> None:
        self.datagram_size = datagram_size
        self.window = max(
            min(K_INITIAL_WINDOW_PACKETS * datagram_size, K_INITIAL_WINDOW_BYTES),
            K_MINIMUM_WINDOW_PACKETS * datagram_size,
        )
        self.pacing_rate = 0.0
        self.send_quantum = 0  # 0: the pacer derives it

    def on_sent(self, now: float, size: int, in_flight: int) -> None:
        """`size` bytes were sent, which makes `in_flight` bytes in flight."""

    def on_ack(self, sample: AckSample) -> None:
        """An ACK acknowledged packets that were in flight."""

    def on_loss(self, losses: LossBatch) -> None:
        """Packets were declared lost."""

    def on_spurious_loss(self, now: float) -> None:
        """Every packet of the last loss batch turned out to have arrived (RFC 9002 §A.1, RFC 9438 §4.9)."""

    def on_datagram_size(self, datagram_size: int) -> None:
        """The path now takes datagrams of another size (RFC 9002 §7.2)."""
        self.datagram_size = datagram_size

    @property
    def slow_start_threshold(self) -> float:
        """In bytes; infinity before the first congestion event. For statistics and qlog."""
        return float("inf")


_factories: dict[str, Callable[[int], CongestionController]] = {}


def register_congestion_control(name: str, factory: Callable[[int], CongestionController]) -> None:
    """Make `factory(datagram_size)` available as `QuicConfiguration.congestion_control_algorithm = name`."""
    _factories[name] = factory


def create_congestion_control(name: str, datagram_size: int) -> CongestionController:
    """A new controller for a path. Raises `ValueError`, naming those that exist, for an unknown name."""
    factory = _factories.get(name)
    if factory is None:
        raise ValueError(f"unknown congestion control algorithm {name!r}; known are {', '.join(sorted(_factories))}")
    return factory(datagram_size)
