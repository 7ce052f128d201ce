"""What a connection counts, as one frozen snapshot."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ConnectionStatistics:
    """Counts and measurements of one connection at one moment. Times in seconds, sizes in bytes.

    `round_trip_time` is the smoothed estimate; `congestion_window` and `bytes_in_flight` are those of the path in use;
    `datagram_size` is the largest UDP payload that is sent now; `spurious_losses` counts packets that were taken for lost
    and arrived after all; `datagrams_dropped` are received DATAGRAM frames that nobody took in time.
    """

    round_trip_time: float
    round_trip_time_variance: float
    round_trip_time_minimum: float
    congestion_window: int
    bytes_in_flight: int
    datagram_size: int
    bytes_sent: int
    bytes_received: int
    packets_sent: int
    packets_received: int
    packets_dropped: int
    packets_lost: int
    spurious_losses: int
    probe_timeouts: int
    key_updates: int
    open_streams: int
    datagrams_sent: int
    datagrams_lost: int
    datagrams_dropped: int
