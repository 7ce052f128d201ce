"""What a connection counts, as one frozen snapshot."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ConnectionStatistics:
    """Counts and measurements of one connection at one moment. Times in seconds, sizes in bytes.

    `round_trip_time` is the smoothed estimate; `congestion_window` and `bytes_in_flight` are those of the path in use;
    `datagram_size` is the largest UDP payload that is sent now; `spurious_losses` counts packets that were taken for lost
    and arrived after all; `is_ecn_in_use` says that the path in use marks packets ECT(0), and that the marks arrive;
    `ecn_marks_sent` counts those marks, `congestion_marks_reported` and `congestion_marks_received` the packets that the
    network has marked CE, of ours and of the peer's (RFC 9000 §13.4); `streams_opened` and `streams_accepted` count streams
    of this side and of the peer from the beginning; `datagrams_dropped` are received DATAGRAM frames that nobody took in time.
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
    is_ecn_in_use: bool
    ecn_marks_sent: int
    congestion_marks_reported: int
    congestion_marks_received: int
    open_streams: int
    streams_opened: int
    streams_accepted: int
    datagrams_sent: int
    datagrams_lost: int
    datagrams_dropped: int
